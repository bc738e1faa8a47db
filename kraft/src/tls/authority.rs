//! A small authority: certificates of nodes and clients.

use std::time::{Duration, SystemTime};

use kraft_core::handshake::node_name;
use kraft_core::id::NodeId;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, Error, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Longer than a cluster keeps its machines: changing the authority touches every node at once.
const AUTHORITY_DAYS: u32 = 3650;

/// What clocks may differ by.
const SKEW: Duration = Duration::from_secs(60 * 60);

/// A certificate, or a chain of one, and its key, as PEM.
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// Whose certificate it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// Shown to whoever dials it, and to nodes that it dials.
    Node(NodeId),
    /// Shown to nodes alone: the name in it is no node's, and no client believes it.
    Client,
}

/// Signs certificates of a cluster.
pub(crate) struct Authority {
    cluster: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A new one, and its own certificate and key.
    pub(crate) fn new(cluster: &str, now: SystemTime) -> Result<(Self, Pair), Error> {
        let params = authority_params(cluster, now);
        let key = KeyPair::generate()?;
        let pair = Pair {
            certificate: params.self_signed(&key)?.pem(),
            key: key.serialize_pem(),
        };
        Ok((Self::of(cluster, params, key), pair))
    }

    /// The one whose key this is, again. Its certificates are its own if the cluster is the one that it was made for.
    pub(crate) fn again(cluster: &str, key: &str, now: SystemTime) -> Result<Self, Error> {
        let key = KeyPair::from_pem(key)?;
        Ok(Self::of(cluster, authority_params(cluster, now), key))
    }

    fn of(cluster: &str, params: CertificateParams, key: KeyPair) -> Self {
        Self {
            cluster: cluster.to_owned(),
            issuer: Issuer::new(params, key),
        }
    }

    /// A certificate that is good from `now` on for `days`.
    pub(crate) fn issue(&self, of: Subject, now: SystemTime, days: u32) -> Result<Pair, Error> {
        let mut params = dated(now, days);
        let usage = &mut params.extended_key_usages;
        let common = match of {
            Subject::Node(node) => {
                usage.extend([ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth]);
                let name = node_name(&self.cluster, node);
                params.subject_alt_names = vec![SanType::URI(name.try_into()?)];
                format!("node {node} of {}", self.cluster)
            }
            Subject::Client => {
                usage.push(ExtendedKeyUsagePurpose::ClientAuth);
                format!("client of {}", self.cluster)
            }
        };
        params.distinguished_name = named(common);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        Ok(Pair {
            certificate: params.signed_by(&key, &self.issuer)?.pem(),
            key: key.serialize_pem(),
        })
    }
}

/// The same for a cluster but for the dates, so that the issuer is named alike whenever it signs.
fn authority_params(cluster: &str, now: SystemTime) -> CertificateParams {
    let mut params = dated(now, AUTHORITY_DAYS);
    params.distinguished_name = named(format!("authority of {cluster}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn dated(now: SystemTime, days: u32) -> CertificateParams {
    let since_1970 = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let epoch = date_time_ymd(1970, 1, 1);
    let mut params = CertificateParams::default();
    params.not_before = epoch + since_1970.saturating_sub(SKEW);
    params.not_after = epoch + since_1970 + DAY * days;
    params
}

/// X.520 bounds a common name to 64 characters.
fn named(common: String) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common.chars().take(64).collect::<String>());
    name
}

#[cfg(test)]
mod tests {
    use kraft_adapters::tls::{Authorities, Credentials, Why};

    use super::*;

    const WEEK: Duration = Duration::from_secs(7 * 24 * 60 * 60);

    fn credentials(pair: &Pair) -> Credentials {
        Credentials::from_pem(pair.certificate.as_bytes(), pair.key.as_bytes()).expect("both are PEM")
    }

    #[test]
    fn a_certificate_is_believed_by_its_authority_for_its_time_and_names_its_node() {
        let now = SystemTime::now();
        let (authority, own) = Authority::new("blue", now).expect("the system has randomness");
        let trusted = Authorities::from_pem(own.certificate.as_bytes()).expect("it is a certificate");
        let issued = |of, from, days| {
            let pair = authority.issue(of, from, days).expect("a certificate");
            let shown = credentials(&pair);
            (shown.names(), shown.check(&trusted))
        };
        let node = Subject::Node(NodeId(2));
        let name = vec!["kraft://blue/node/2".to_owned()];
        assert_eq!(issued(node, now, 1), (name.clone(), Ok(())));
        assert_eq!(issued(node, now - WEEK, 1), (name.clone(), Err(Why::Expired)));
        assert_eq!(issued(node, now + WEEK, 1), (name, Err(Why::NotYetValid)));
        let (names, as_server) = issued(Subject::Client, now, 1);
        assert_eq!(names, Vec::<String>::new());
        assert!(matches!(as_server, Err(Why::BadCertificate(_))), "{as_server:?}");
    }

    #[test]
    fn the_time_that_is_left_is_that_of_the_certificate() {
        let now = SystemTime::now();
        let (authority, own) = Authority::new("blue", now).expect("the system has randomness");
        let trusted = Authorities::from_pem(own.certificate.as_bytes()).expect("it is a certificate");
        let left = |from, days| {
            let pair = authority.issue(Subject::Node(NodeId(1)), from, days);
            credentials(&pair.expect("a certificate")).believed_for(&trusted)
        };
        let (week, day) = (left(now, 7), left(now, 1));
        assert!(week <= WEEK && week > WEEK - DAY, "{week:?}");
        // However long this test takes.
        assert!(day <= DAY && day > Duration::ZERO, "{day:?}");
        assert_eq!(left(now - WEEK, 1), Duration::ZERO);
        assert_eq!(left(now + WEEK, 1), Duration::ZERO);
    }

    #[test]
    fn an_authority_signs_again_with_its_key_and_for_its_cluster_alone() {
        let now = SystemTime::now();
        let (_, own) = Authority::new("blue", now).expect("the system has randomness");
        let trusted = Authorities::from_pem(own.certificate.as_bytes()).expect("it is a certificate");
        let check = |cluster| {
            let again = Authority::again(cluster, &own.key, now + WEEK).expect("its key");
            let pair = again.issue(Subject::Node(NodeId(4)), now, 1).expect("a certificate");
            credentials(&pair).check(&trusted)
        };
        assert_eq!(check("blue"), Ok(()));
        assert_eq!(check("red"), Err(Why::UnknownAuthority));
    }
}
