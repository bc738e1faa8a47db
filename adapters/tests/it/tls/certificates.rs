//! Certificates for tests, made afresh.

use kraft_adapters::tls::{Authorities, Credentials};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    SanType, date_time_ymd,
};

/// An authority of a test.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().expect("the system has randomness");
        Self(CertifiedIssuer::self_signed(params, key).expect("the parameters are sound"))
    }

    /// Itself, to be believed.
    pub(crate) fn authorities(&self) -> Authorities {
        Authorities::from_pem(self.0.pem().as_bytes()).expect("it is a certificate")
    }

    /// A certificate for a node.
    pub(crate) fn node(&self, name: &str) -> Credentials {
        self.issue(name, |_| ())
    }

    /// One that was good until a while ago.
    pub(crate) fn expired(&self, name: &str) -> Credentials {
        self.issue(name, |params| params.not_after = date_time_ymd(2001, 1, 1))
    }

    /// One that is not good so far.
    pub(crate) fn early(&self, name: &str) -> Credentials {
        self.issue(name, |params| params.not_before = date_time_ymd(4000, 1, 1))
    }

    /// One that only clients may show.
    pub(crate) fn client(&self, name: &str) -> Credentials {
        self.issue(name, |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        })
    }

    /// A certificate for a node, and its key, as text.
    pub(crate) fn pem(&self, name: &str) -> (String, String) {
        self.text(name, |_| ())
    }

    fn issue(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Credentials {
        let (chain, key) = self.text(name, change);
        Credentials::from_pem(chain.as_bytes(), key.as_bytes()).expect("both are PEM")
    }

    fn text(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(name.try_into().expect("the name is ASCII"))];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = KeyPair::generate().expect("the system has randomness");
        let certificate = params.signed_by(&key, &self.0).expect("the parameters are sound");
        (certificate.pem(), key.serialize_pem())
    }
}
