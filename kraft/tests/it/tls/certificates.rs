//! Certificates that kraftd would not make, written to files.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use kraft::tls::{Authorities, Credentials};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    SanType, date_time_ymd,
};

/// An authority of a test.
pub(super) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().expect("the system has randomness");
        Self(CertifiedIssuer::self_signed(params, key).expect("the parameters are sound"))
    }

    /// Itself, to be believed.
    pub(super) fn authorities(&self) -> Authorities {
        Authorities::from_pem(self.0.pem().as_bytes()).expect("it is a certificate")
    }

    /// Its certificate, in a file.
    pub(super) fn write(&self, folder: &Path, name: &str) -> PathBuf {
        let path = folder.join(name);
        fs::write(&path, self.0.pem()).expect("written");
        path
    }

    /// A certificate of a node of the cluster `lab`.
    pub(super) fn node(&self, node: u64) -> Pair {
        self.issue(node, |_| ())
    }

    /// One that was good until a while ago.
    pub(super) fn expired(&self, node: u64) -> Pair {
        self.issue(node, |params| params.not_after = date_time_ymd(2001, 1, 1))
    }

    /// One that is not good so far.
    pub(super) fn early(&self, node: u64) -> Pair {
        self.issue(node, |params| params.not_before = date_time_ymd(4000, 1, 1))
    }

    /// One that is good until tomorrow.
    pub(super) fn for_a_day(&self, node: u64) -> Pair {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let tomorrow = since_1970.expect("after 1970") + Duration::from_secs(86400);
        self.issue(node, |params| params.not_after = date_time_ymd(1970, 1, 1) + tomorrow)
    }

    /// One that may not be shown by who dials.
    pub(super) fn server_alone(&self, node: u64) -> Pair {
        self.issue(node, |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        })
    }

    /// One of a client, that may not be shown by who is dialled and names nobody.
    pub(super) fn client(&self) -> Pair {
        self.issue(0, |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            params.subject_alt_names = Vec::new();
        })
    }

    fn issue(&self, node: u64, change: impl FnOnce(&mut CertificateParams)) -> Pair {
        let mut params = CertificateParams::default();
        let name = format!("kraft://lab/node/{node}");
        params.subject_alt_names = vec![SanType::URI(name.try_into().expect("it is ASCII"))];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = KeyPair::generate().expect("the system has randomness");
        let certificate = params.signed_by(&key, &self.0).expect("the parameters are sound");
        Pair {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }
}

/// A certificate and its key.
pub(super) struct Pair {
    pub(super) certificate: String,
    pub(super) key: String,
}

impl Pair {
    pub(super) fn credentials(&self) -> Credentials {
        Credentials::from_pem(self.certificate.as_bytes(), self.key.as_bytes()).expect("both are PEM")
    }

    /// Both in files: `NAME.pem` and `NAME.key`, the key for its owner alone.
    pub(super) fn write(&self, folder: &Path, name: &str) -> (PathBuf, PathBuf) {
        let file = |end: &str| folder.join(format!("{name}.{end}"));
        let (certificate, key) = (file("pem"), file("key"));
        fs::write(&certificate, &self.certificate).expect("written");
        fs::write(&key, &self.key).expect("written");
        fs::set_permissions(&key, Permissions::from_mode(0o600)).expect("its mode");
        (certificate, key)
    }
}
