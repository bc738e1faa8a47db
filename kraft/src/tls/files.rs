//! Certificates and keys in files, PEM.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use kraft_adapters::tls::{Authorities, Credentials, TrustError};

/// A file above this holds no certificate and no key.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Rights of others than the owner.
const OTHERS: u32 = 0o077;

/// Why a file is of no use. Never has anything of what is in it.
#[derive(Debug)]
#[non_exhaustive]
pub enum FileError {
    /// It cannot be read.
    Read(PathBuf, io::Error),
    /// A key that others than its owner may read or change, with the mode.
    Exposed(PathBuf, u32),
    /// What is in it cannot be used.
    Content(PathBuf, TrustError),
    /// A certificate and a key, which is not that certificate's.
    Mismatch(PathBuf, PathBuf),
}

impl FileError {
    /// The file to blame.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Read(path, _) | Self::Exposed(path, _) | Self::Content(path, _) | Self::Mismatch(_, path) => path,
        }
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(path, error) => write!(f, "{}: {error}; name a file that this user may read", path.display()),
            Self::Exposed(path, mode) => write!(
                f,
                "{path}: its mode is {mode:03o}, so that others than its owner may use the key: chmod 600 {path}, and \
                 make a new key if somebody may have read it",
                path = path.display(),
            ),
            Self::Content(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Mismatch(certificate, key) => write!(
                f,
                "{}: it is not the key of the certificate in {}: name the two that were made together",
                key.display(),
                certificate.display()
            ),
        }
    }
}

impl std::error::Error for FileError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read(_, error) => Some(error),
            Self::Content(_, error) => Some(error),
            Self::Exposed(..) | Self::Mismatch(..) => None,
        }
    }
}

/// Reads certificates of authorities.
///
/// # Errors
///
/// [`FileError`].
pub fn read_authorities(path: &Path) -> Result<Authorities, FileError> {
    let text = read(path, false)?;
    Authorities::from_pem(&text).map_err(|error| FileError::Content(path.to_owned(), error))
}

/// Reads a chain of certificates, the own one first, and its key, which nobody but its owner may read.
///
/// # Errors
///
/// [`FileError`].
pub fn read_credentials(certificate: &Path, key: &Path) -> Result<Credentials, FileError> {
    let chain = read(certificate, false)?;
    let secret = read(key, true)?;
    let credentials = Credentials::from_pem(&chain, &secret).map_err(|error| {
        let path = match error {
            TrustError::NoKey => key,
            _ if Authorities::from_pem(&chain).is_ok() => key,
            _ => certificate,
        };
        FileError::Content(path.to_owned(), error)
    })?;
    // The first use shows whether the two belong together.
    kraft_adapters::tls::acceptor(&credentials, None).map_err(|error| match error {
        TrustError::Unusable(kraft_adapters::tls::rustls::Error::InconsistentKeys(_)) => {
            FileError::Mismatch(certificate.to_owned(), key.to_owned())
        }
        error => FileError::Content(key.to_owned(), error),
    })?;
    Ok(credentials)
}

/// Of the file that is open, not of its name, which may be another file's by then.
pub(super) fn read(path: &Path, is_secret: bool) -> Result<Vec<u8>, FileError> {
    let wrong = |error| FileError::Read(path.to_owned(), error);
    let file = File::open(path).map_err(wrong)?;
    let metadata = file.metadata().map_err(wrong)?;
    if !metadata.is_file() {
        return Err(wrong(io::Error::other("it is no file")));
    }
    let mode = metadata.mode() & 0o777;
    if is_secret && mode & OTHERS != 0 {
        return Err(FileError::Exposed(path.to_owned(), mode));
    }
    let mut text = Vec::new();
    let read = file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text).map_err(wrong)?;
    if read as u64 > FILE_BYTES_MAX {
        let why = format!("above {FILE_BYTES_MAX} bytes, so it is neither certificate nor key");
        return Err(wrong(io::Error::new(io::ErrorKind::FileTooLarge, why)));
    }
    Ok(text)
}
