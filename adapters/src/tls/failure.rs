//! Why a connection came to nothing, for the operator.

use std::fmt;
use std::io::ErrorKind;

use kraft_core::adapter::{CloseReason, Endpoint};
use rustls::{AlertDescription, CertificateError, Error, PeerMisbehaved};

/// A connection that TLS ended. Told to the observer that the adapter was opened with; who accepted a connection hears of
/// it nowhere else, since it is shown to him after its handshake alone.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The other end.
    pub peer: Endpoint,
    /// Whether this side dialled.
    pub dialled: bool,
    /// What was wrong.
    pub why: Why,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = if self.dialled { "to" } else { "from" };
        write!(f, "TLS connection {way} {}: {}", self.peer, self.why)
    }
}

/// What was wrong.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Why {
    /// The first bytes are no TLS.
    NotTls,
    /// The other end left, or was cut off, before the handshake was through.
    Unfinished,
    /// The handshake took too long.
    TooSlow,
    /// The handshake took longer than there is time for while too many others wait for theirs.
    TooMany,
    /// The other end showed no certificate.
    NoCertificate,
    /// Its certificate is of an authority that is not believed here.
    UnknownAuthority,
    /// Its certificate is past its time.
    Expired,
    /// Its certificate's time has not come.
    NotYetValid,
    /// Its certificate may not be used so, or is wrong in another way.
    BadCertificate(CertificateError),
    /// It refuses the certificate that was shown here, or that none was.
    RefusedOurs(AlertDescription),
    /// The stream broke off without its end having been said: an attacker may have cut it.
    Truncated,
    /// Another breach of the protocol.
    Protocol(Error),
}

impl Why {
    pub(super) fn of(error: Error, is_shaking: bool) -> Self {
        match error {
            Error::InvalidMessage(_) if is_shaking => Self::NotTls,
            Error::PeerMisbehaved(PeerMisbehaved::IllegalMiddleboxChangeCipherSpec) if is_shaking => Self::NotTls,
            Error::NoCertificatesPresented => Self::NoCertificate,
            Error::InvalidCertificate(error) => match error {
                CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::UnknownAuthority,
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Self::NotYetValid,
                error => Self::BadCertificate(error),
            },
            Error::AlertReceived(
                alert @ (AlertDescription::UnknownCA
                | AlertDescription::DecryptError
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateRequired
                | AlertDescription::CertificateUnknown
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::CertificateRevoked
                | AlertDescription::AccessDenied
                | AlertDescription::BadCertificate),
            ) => Self::RefusedOurs(alert),
            error => Self::Protocol(error),
        }
    }

    /// What the user of a dialled connection is told, and of one that was open.
    pub(super) fn reason(&self) -> CloseReason {
        match self {
            Self::TooSlow => CloseReason::TimedOut,
            Self::Truncated | Self::Unfinished => CloseReason::Failed(ErrorKind::UnexpectedEof),
            Self::TooMany => CloseReason::Requested,
            Self::NotTls | Self::Protocol(_) => CloseReason::Failed(ErrorKind::InvalidData),
            Self::NoCertificate
            | Self::UnknownAuthority
            | Self::Expired
            | Self::NotYetValid
            | Self::BadCertificate(_)
            | Self::RefusedOurs(_) => CloseReason::Failed(ErrorKind::PermissionDenied),
        }
    }

    /// Whether an alert is on its way that the other end should get.
    pub(super) fn has_alert(&self) -> bool {
        !matches!(
            self,
            Self::Truncated | Self::Unfinished | Self::TooMany | Self::TooSlow | Self::RefusedOurs(_)
        )
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotTls => f.write_str("what came is no TLS: the other end speaks in plaintext, or another protocol"),
            Self::Unfinished => f.write_str("it ended before the handshake was through: does the other end speak TLS?"),
            Self::TooSlow => f.write_str("the handshake took too long"),
            Self::TooMany => f.write_str("its handshake gave way, since too many others wait for theirs"),
            Self::NoCertificate => f.write_str("it showed no certificate: give the other end one of this authority"),
            Self::UnknownAuthority => {
                f.write_str("its certificate is of another authority: give both ends certificates of one")
            }
            Self::Expired => f.write_str("its certificate has expired: renew it, or set the clocks"),
            Self::NotYetValid => f.write_str("its certificate is not valid yet: set the clocks"),
            Self::BadCertificate(error) => write!(f, "its certificate is refused: {error}"),
            Self::RefusedOurs(alert) => {
                let why = match alert {
                    AlertDescription::UnknownCA | AlertDescription::DecryptError => "it is of another authority",
                    AlertDescription::CertificateExpired => "it has expired",
                    AlertDescription::CertificateRequired => "none was shown",
                    _ => return write!(f, "it refuses the certificate of this side ({alert:?})"),
                };
                write!(f, "it refuses the certificate of this side: {why}")
            }
            Self::Truncated => f.write_str("it broke off without its end having been said: lost, or cut on the way"),
            Self::Protocol(error) => write!(f, "{error}"),
        }
    }
}
