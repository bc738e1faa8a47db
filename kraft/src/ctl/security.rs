//! Whether connections are encrypted, as flags and variables say.

use std::env;
use std::path::PathBuf;

use super::cli::Cli;
use super::exit::Failure;
use crate::client::Security;

/// Reads the files that are named.
pub(super) fn read(cli: &Cli) -> Result<Security, Failure> {
    let named = |flag: &Option<PathBuf>, variable| {
        let set = || env::var_os(variable).filter(|value| !value.is_empty());
        flag.clone().or_else(|| set().map(PathBuf::from))
    };
    let files = Files {
        ca: named(&cli.tls_ca, "KRAFT_TLS_CA"),
        certificate: named(&cli.tls_cert, "KRAFT_TLS_CERT"),
        key: named(&cli.tls_key, "KRAFT_TLS_KEY"),
    };
    files.security()
}

struct Files {
    ca: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
}

impl Files {
    #[cfg(feature = "tls")]
    fn security(&self) -> Result<Security, Failure> {
        use crate::tls;

        let own = match (&self.certificate, &self.key) {
            (None, None) => None,
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (Some(_), None) => return Err(Failure::TlsUsage("--tls-cert without --tls-key: give the key, too")),
            (None, Some(_)) => {
                return Err(Failure::TlsUsage(
                    "--tls-key without --tls-cert: give the certificate, too",
                ));
            }
        };
        let Some(ca) = &self.ca else {
            return match own {
                None => Ok(Security::default()),
                Some(_) => Err(Failure::TlsUsage(
                    "--tls-cert without --tls-ca: name the authorities of the nodes, too",
                )),
            };
        };
        let wrong = |error: tls::FileError| Failure::TlsFile(error.to_string());
        let authorities = tls::read_authorities(ca).map_err(wrong)?;
        let own = own.map(|(certificate, key)| tls::read_credentials(certificate, key));
        let own = own.transpose().map_err(wrong)?;
        Security::tls(&authorities, own.as_ref()).map_err(|error| Failure::TlsFile(error.to_string()))
    }

    /// Not encrypted though it was asked for is not what was asked for.
    #[cfg(not(feature = "tls"))]
    fn security(&self) -> Result<Security, Failure> {
        if [&self.ca, &self.certificate, &self.key]
            .into_iter()
            .all(Option::is_none)
        {
            return Ok(Security::default());
        }
        Err(Failure::TlsUsage(
            "TLS is asked for, and this kraftctl was built without it: build it with --features tls",
        ))
    }
}
