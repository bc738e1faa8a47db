//! The folder of certificates.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use kraft_core::id::NodeId;

use super::Certs;
use crate::daemon::config::is_plain_name;
use crate::daemon::{Failure, cli};
use crate::tls;
use crate::tls::authority::{Authority, Pair, Subject};

/// More are no cluster.
const IDS_MAX: usize = 31;

impl Certs {
    /// Makes them, and says what to do with them.
    ///
    /// # Errors
    ///
    /// What is in the way. What was made before that is left, and used by the next run.
    pub(in crate::daemon) fn run(&self) -> Result<(), Failure> {
        let ids: BTreeSet<_> = self.ids.iter().copied().collect();
        if !is_plain_name(&self.cluster) {
            return Err(Failure::config(
                "--cluster: no plain name: use up to 64 letters, digits, '.', '_' and '-', as for kraftd init",
            ));
        }
        if ids.len() > IDS_MAX {
            return Err(Failure::config(format!(
                "--ids: more than {IDS_MAX} nodes are no cluster"
            )));
        }
        let done = make(&self.out, &self.cluster, &ids, self.days)?;
        cli::print(&self.report(&done))
    }

    fn report(&self, done: &[(String, bool)]) -> String {
        let out = self.out.display();
        let list = |made: bool| {
            let names = done.iter().filter(|(_, is_new)| *is_new == made);
            names.map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(" ")
        };
        let mut text = String::new();
        for (heading, names) in [("made", list(true)), ("kept", list(false))] {
            if !names.is_empty() {
                let _ = writeln!(text, "{heading} in {out}: {names}");
            }
        }
        let _ = write!(
            text,
            "\nEach .pem is a certificate, each .key its key, for {days} days. ca.key makes nodes of whoever has it: \
             keep it\naway from them. Node N needs ca.pem, node-N.pem and node-N.key:\n\n  \
             kraftd serve --data DIR --tls-ca {out}/ca.pem --tls-cert {out}/node-N.pem --tls-key {out}/node-N.key\n\n\
             Clients need ca.pem and, of nodes with --tls-client-ca, client.pem and client.key:\n\n  \
             kraftctl --nodes HOST:PORT --tls-ca {out}/ca.pem status\n",
            days = self.days,
        );
        text
    }
}

/// Makes what is missing in a folder. Returns each pair of files, and whether it is new.
pub(in crate::daemon) fn make(
    out: &Path,
    cluster: &str,
    ids: &BTreeSet<u64>,
    days: u32,
) -> Result<Vec<(String, bool)>, Failure> {
    let now = SystemTime::now();
    let folder = DirBuilder::new().recursive(true).mode(0o700).create(out);
    folder.map_err(|error| {
        Failure::config(format!(
            "{}: {error}; name a folder that this user may make with --out",
            out.display()
        ))
    })?;
    let mut done = Vec::new();
    let ca = Files::of(out, "ca");
    let is_new = !ca.are_there()?;
    let authority = if is_new {
        ca.write(|| Authority::new(cluster, now))?
    } else {
        ca.again(cluster, now)?
    };
    done.push(("ca".to_owned(), is_new));
    let nodes = ids.iter().map(|id| (format!("node-{id}"), Subject::Node(NodeId(*id))));
    for (name, of) in nodes.chain([("client".to_owned(), Subject::Client)]) {
        let files = Files::of(out, &name);
        let is_new = !files.are_there()?;
        if is_new {
            files.write(|| Ok(((), authority.issue(of, now, days)?)))?;
        }
        done.push((name, is_new));
    }
    Ok(done)
}

/// A certificate and its key.
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

impl Files {
    fn of(out: &Path, name: &str) -> Self {
        Self {
            certificate: out.join(format!("{name}.pem")),
            key: out.join(format!("{name}.key")),
        }
    }

    /// Both or neither.
    fn are_there(&self) -> Result<bool, Failure> {
        // A link that leads nowhere is something, too.
        let is_there = |path: &Path| path.symlink_metadata().is_ok();
        let (one, other) = match (is_there(&self.certificate), is_there(&self.key)) {
            (true, true) => return Ok(true),
            (false, false) => return Ok(false),
            (true, false) => (&self.certificate, &self.key),
            (false, true) => (&self.key, &self.certificate),
        };
        Err(Failure::config(format!(
            "{} is there and {} is not: put the two together, or move the one away to have both made",
            one.display(),
            other.display()
        )))
    }

    /// Writes what is made, the key first; never over something.
    fn write<T>(&self, make: impl FnOnce() -> Result<(T, Pair), rcgen::Error>) -> Result<T, Failure> {
        let (made, pair) =
            make().map_err(|error| Failure::new(format!("{}: cannot be made: {error}", self.certificate.display())))?;
        create(&self.key, 0o600, &pair.key)?;
        create(&self.certificate, 0o644, &pair.certificate)?;
        Ok(made)
    }

    /// The authority that was made before, if it is this cluster's.
    fn again(&self, cluster: &str, now: SystemTime) -> Result<Authority, Failure> {
        let wrong = |error: tls::FileError| Failure::config(error.to_string());
        let trusted = tls::read_authorities(&self.certificate).map_err(wrong)?;
        tls::read_credentials(&self.certificate, &self.key).map_err(wrong)?;
        let key = fs::read_to_string(&self.key)
            .map_err(|error| Failure::config(format!("{}: {error}", self.key.display())))?;
        let cannot = |error: rcgen::Error| Failure::config(format!("{}: {error}", self.key.display()));
        let authority = Authority::again(cluster, &key, now).map_err(cannot)?;
        // Tried out, since the file does not say whose authority it is.
        let tried = authority.issue(Subject::Node(NodeId(1)), now, 1).map_err(cannot)?;
        let tried = tls::Credentials::from_pem(tried.certificate.as_bytes(), tried.key.as_bytes());
        let checked = tried.map_err(|error| Failure::new(error.to_string()))?.check(&trusted);
        checked.map_err(|why| {
            let cause = match why {
                tls::Why::UnknownAuthority => format!("it is not the authority of cluster {cluster}"),
                tls::Why::Expired => "it has expired".to_owned(),
                why => why.to_string(),
            };
            Failure::config(format!(
                "{}: {cause}: correct --cluster, or name an empty folder with --out",
                self.certificate.display()
            ))
        })?;
        Ok(authority)
    }
}

fn create(path: &Path, mode: u32, text: &str) -> Result<(), Failure> {
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|error| Failure::config(format!("{}: {error}; name another folder with --out", path.display())))
}
