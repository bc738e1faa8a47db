//! Whom one believes, and as whom one shows oneself.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig, SignatureScheme, version::TLS13,
};

use super::failure::Why;

/// Names taken from a certificate, at most. A node's has one or a few.
const NAMES_MAX: usize = 16;

/// Bytes of a name, at most; longer ones are left out. DNS allows 253.
const NAME_BYTES_MAX: usize = 256;

/// Nobody asks about what is good for longer.
const BELIEVED_SECS_MAX: u64 = 1 << 32;

/// A certificate with its key: as whom one shows oneself.
pub struct Credentials {
    /// The own one first, then those between it and the authority.
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

/// Certificates of authorities: whom one believes. For nodes this is the cluster's own authority and nobody else: whoever
/// it vouches for may take part, as the node that its certificate names.
#[derive(Clone, Debug)]
pub struct Authorities(Arc<RootCertStore>);

/// Why no configuration can be made of what was given.
#[derive(Debug)]
#[non_exhaustive]
pub enum TrustError {
    /// There is no certificate in the text.
    NoCertificate,
    /// There is no private key in the text.
    NoKey,
    /// The text is no PEM.
    Pem(pem::Error),
    /// A certificate or key cannot be used.
    Unusable(Error),
    /// What clients are checked by cannot be made of the authorities.
    Verifier(rustls::server::VerifierBuilderError),
}

impl fmt::Display for TrustError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCertificate => f.write_str("has no certificate; it must be PEM, with BEGIN CERTIFICATE"),
            Self::NoKey => f.write_str("has no private key; it must be PEM, with BEGIN PRIVATE KEY"),
            Self::Pem(error) => write!(f, "is no PEM: {error:?}"),
            Self::Unusable(Error::InconsistentKeys(_)) => f.write_str("is not the key of the certificate"),
            Self::Unusable(error) => write!(f, "cannot be used: {error}"),
            Self::Verifier(error) => write!(f, "cannot be used to check certificates: {error}"),
        }
    }
}

impl std::error::Error for TrustError {}

impl From<Error> for TrustError {
    fn from(error: Error) -> Self {
        Self::Unusable(error)
    }
}

impl Credentials {
    /// Reads a chain of certificates, the own one first, and its key, both PEM.
    ///
    /// # Errors
    ///
    /// What is missing or wrong. Whether the two belong together is seen when they are used.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, TrustError> {
        Ok(Self {
            chain: certificates(chain)?,
            key: PrivateKeyDer::from_pem_slice(key).map_err(|error| match error {
                pem::Error::NoItemsFound => TrustError::NoKey,
                error => TrustError::Pem(error),
            })?,
        })
    }

    /// The names that the own certificate proves to whoever believes it.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.chain.first().map(names).unwrap_or_default()
    }

    /// Checks that who believes `authorities` would believe this, shown by a server, at this time.
    ///
    /// # Errors
    ///
    /// What such a one would find wrong.
    pub fn check(&self, authorities: &Authorities) -> Result<(), Why> {
        self.check_at(authorities, UnixTime::now())
    }

    /// For how long from now on who believes `authorities` would believe this: until the first of its certificates
    /// expires. Zero if not even now. A verification for each bit of the time, so this is no question for every turn.
    #[must_use]
    pub fn believed_for(&self, authorities: &Authorities) -> Duration {
        let now = UnixTime::now().as_secs();
        let is_believed = |secs| {
            let then = UnixTime::since_unix_epoch(Duration::from_secs(now + secs));
            self.check_at(authorities, then).is_ok()
        };
        if !is_believed(0) {
            return Duration::ZERO;
        }
        // What is believed now is believed up to some second, and not from there on.
        let (mut good, mut bad) = (0, BELIEVED_SECS_MAX);
        while bad - good > 1 {
            let middle = good + (bad - good) / 2;
            match is_believed(middle) {
                true => good = middle,
                false => bad = middle,
            }
        }
        Duration::from_secs(good)
    }

    fn check_at(&self, authorities: &Authorities, at: UnixTime) -> Result<(), Why> {
        let (own, between) = self.chain.split_first().ok_or(Why::NoCertificate)?;
        let algorithms = ring::default_provider().signature_verification_algorithms.all;
        let checked = ParsedCertificate::try_from(own)
            .and_then(|own| verify_server_cert_signed_by_trust_anchor(&own, &authorities.0, between, at, algorithms));
        checked.map_err(|error| Why::of(error, false))
    }
}

/// Without the key.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("certificates", &self.chain.len())
            .finish_non_exhaustive()
    }
}

impl Authorities {
    /// Reads certificates of authorities, PEM.
    ///
    /// # Errors
    ///
    /// What is missing or wrong.
    pub fn from_pem(certificates_pem: &[u8]) -> Result<Self, TrustError> {
        let mut store = RootCertStore::empty();
        for certificate in certificates(certificates_pem)? {
            store.add(certificate)?;
        }
        Ok(Self(Arc::new(store)))
    }
}

fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    let found = found.map_err(TrustError::Pem)?;
    if found.is_empty() {
        return Err(TrustError::NoCertificate);
    }
    Ok(found)
}

/// How to accept: shows `own`, and with `ask` lets in only whoever shows a certificate of one of those authorities.
///
/// TLS 1.3 alone: both ends are Kraft's, so there is nobody to be kind to, and 1.2's renegotiation, weaker suites and
/// second round trip are left out. No tickets and no session storage: nodes and clients keep their connections, so that
/// resumption would spare little, and every connection shows its certificate anew, which is when an expired one is
/// noticed. No early data, which could be replayed.
///
/// # Errors
///
/// What of `own` or `ask` cannot be used.
pub fn acceptor(own: &Credentials, ask: Option<&Authorities>) -> Result<Arc<ServerConfig>, TrustError> {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(&[&TLS13])?;
    let builder = match ask {
        None => builder.with_no_client_auth(),
        Some(Authorities(roots)) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), provider)
                .build()
                .map_err(TrustError::Verifier)?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(own.chain.clone(), own.key.clone_key())?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// How to dial: believes certificates of `authorities` that may be shown by servers, and shows `own` if asked.
///
/// Which name the certificate bears is not judged here but told ([`Link::proof`](kraft_core::link::Link::proof)): who
/// dials a node knows its id, and the adapter its address alone, which may change.
///
/// # Errors
///
/// What of `own` cannot be used.
pub fn dialler(authorities: &Authorities, own: Option<&Credentials>) -> Result<Arc<ClientConfig>, TrustError> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Arc::new(ChainVerifier {
        roots: Arc::clone(&authorities.0),
        provider: Arc::clone(&provider),
    });
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some(own) => builder.with_client_auth_cert(own.chain.clone(), own.key.clone_key())?,
    };
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    Ok(Arc::new(config))
}

/// The names that a certificate proves: hosts and URIs among its subject alternative names.
pub(super) fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok(parsed) = webpki::EndEntityCert::try_from(certificate) else {
        // What was verified can be read.
        return Vec::new();
    };
    parsed
        .valid_uri_names()
        .chain(parsed.valid_dns_names())
        .filter(|name| name.len() <= NAME_BYTES_MAX)
        .take(NAMES_MAX)
        .map(str::to_owned)
        .collect()
}

/// Checks chain, dates and purpose of a server's certificate.
#[derive(Debug)]
struct ChainVerifier {
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for ChainVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&certificate, &self.roots, intermediates, now, algorithms)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
