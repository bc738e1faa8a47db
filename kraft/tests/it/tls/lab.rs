//! Node 1 of the cluster `lab`, whose other nodes are what a test makes of them.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kraft::tls::rustls::pki_types::ServerName;
use kraft::tls::rustls::{ClientConnection, ServerConfig, ServerConnection, StreamOwned};
use kraft::tls::{Authorities, Credentials, dialler};
use tempfile::TempDir;

use super::certificates::{Authority, Pair};
use crate::process::{Daemon, PATIENCE, path, run};

/// The node, its authority and its files.
pub(super) struct Lab {
    pub(super) folder: TempDir,
    pub(super) authority: Authority,
    pub(super) daemon: Daemon,
    /// Where it listens for peers.
    pub(super) listen: String,
    /// Where it listens for clients.
    pub(super) client: String,
    /// Where it answers monitors.
    pub(super) metrics: String,
    /// Its authority's certificate.
    pub(super) ca: PathBuf,
}

/// Node 1 of three, in a new folder. The address of node 2 is the test's.
pub(super) fn init(folder: &Path, second: &str) -> PathBuf {
    let data = folder.join("data");
    let peers = format!("1=127.0.0.1:0,2={second},3=127.0.0.1:2");
    let fixed = ["init", "--id", "1", "--cluster", "lab", "--listen", "127.0.0.1:0"];
    let more = ["--client", "127.0.0.1:0", "--peers", &peers, "--data", path(&data)];
    let ran = run(&[&fixed[..], &more].concat());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    data
}

impl Lab {
    /// Over TLS. Clients must show certificates if `ask`.
    pub(super) fn start(ask: bool) -> Self {
        Self::with(&Authority::node, "127.0.0.1:1", ask)
    }

    /// With a certificate of one's choice, and node 2 at this address.
    pub(super) fn with(own: &dyn Fn(&Authority, u64) -> Pair, second: &str, ask: bool) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let authority = Authority::new();
        let data = init(folder.path(), second);
        let ca = authority.write(folder.path(), "ca.pem");
        let (certificate, key) = own(&authority, 1).write(folder.path(), "node-1");
        let mut flags = vec!["--tls-cert", path(&certificate), "--tls-key", path(&key)];
        flags.extend([
            "--tls-ca",
            path(&ca),
            "--metrics",
            "127.0.0.1:0",
            "--log-level",
            "debug",
        ]);
        if ask {
            flags.extend(["--tls-client-ca", path(&ca)]);
        }
        let mut daemon = Daemon::serve(&data, &flags);
        let start = daemon.line("\"serving\"");
        assert!(start.contains("\"tls\":\"on"), "{start}");
        let at = |name| Daemon::address(&start, name);
        Self {
            listen: at("listen"),
            client: at("client"),
            metrics: at("metrics"),
            folder,
            authority,
            daemon,
            ca,
        }
    }
}

/// A TLS connection, as far as it comes.
pub(super) type Stream = StreamOwned<ClientConnection, TcpStream>;

/// Dials as who shows `own` and believes `authorities`.
pub(super) fn dial(at: &str, authorities: &Authorities, own: Option<&Credentials>) -> Stream {
    let config = dialler(authorities, own).expect("they can be used");
    let name = ServerName::IpAddress(std::net::Ipv4Addr::LOCALHOST.into());
    let connection = ClientConnection::new(Arc::clone(&config), name).expect("it can be used");
    StreamOwned::new(connection, connect(at))
}

/// The next that dials, answered over TLS as far as it comes.
pub(super) fn accept(listener: &TcpListener, config: Arc<ServerConfig>) -> StreamOwned<ServerConnection, TcpStream> {
    let (stream, _) = listener.accept().expect("the node dials");
    stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
    let connection = ServerConnection::new(config).expect("it can be used");
    StreamOwned::new(connection, stream)
}

/// A plain connection.
pub(super) fn connect(at: &str) -> TcpStream {
    let stream = TcpStream::connect(at).expect("a listener");
    stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
    stream
}

/// Says something and reads until the other end has said all.
pub(super) fn talk(stream: &mut (impl Read + Write), says: &[u8]) -> Vec<u8> {
    // Who is refused may see it while it speaks.
    let _ = stream.write_all(says);
    let _ = stream.flush();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

/// A listener that nodes dial.
pub(super) fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = listener.local_addr().expect("its address").to_string();
    (listener, at)
}
