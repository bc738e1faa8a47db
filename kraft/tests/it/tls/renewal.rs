//! SIGHUP: certificates and keys are read again.

use std::fs::{self, Permissions};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use kraft::Client;
use kraft::adapters::Choice;
use kraft::client::{Config, Node, Security};
use kraft::tls::{Authorities, acceptor};

use super::certificates::Authority;
use super::lab::{Lab, accept, listener};
use crate::process::PATIENCE;

/// A client that believes these.
fn client(lab: &Lab, authorities: &Authorities) -> Client {
    let config = Config {
        request_timeout: Duration::from_secs(2),
        ..Config::default()
    };
    let nodes = Node::resolve_list(&lab.client).expect("an address");
    let security = Security::tls(authorities, None).expect("it can be used");
    let (client, _) = Client::with_security(config, nodes, &Choice::default(), &security).expect("a client");
    client
}

/// Whether the node answers, or why it does not.
fn status(client: &mut Client) -> Result<(), String> {
    let mut reports = client.status().expect("a loop");
    reports.remove(0).report.map(drop)
}

/// Waits until a client that believes these is answered: a dial may be there before the node has turned once more.
#[track_caller]
fn wait_until_shown(lab: &Lab, authorities: &Authorities) {
    let until = Instant::now() + PATIENCE;
    while let Err(why) = status(&mut client(lab, authorities)) {
        assert!(Instant::now() < until, "{why}");
    }
}

/// Another authority in the place of the former one, and a certificate of it for node 1.
fn replace(folder: &Path) -> Authority {
    let other = Authority::new();
    other.write(folder, "ca.pem");
    other.node(1).write(folder, "node-1");
    other
}

#[test]
fn certificates_are_renewed_while_connections_go_on() {
    let (listener, at) = listener();
    let mut lab = Lab::with(&Authority::node, &at, false);
    let mut old = client(&lab, &lab.authority.authorities());
    assert_eq!(status(&mut old), Ok(()));

    let other = replace(lab.folder.path());
    lab.daemon.signal("HUP");
    let line = lab.daemon.line("\"tls_renewed\"");
    assert!(line.contains("read certificates and keys again"), "{line}");
    wait_until_shown(&lab, &other.authorities());
    // The one that is connected goes on; who comes like it is shown a certificate that it does not believe.
    assert_eq!(status(&mut old), Ok(()));
    let why = status(&mut client(&lab, &lab.authority.authorities())).expect_err("a refusal");
    assert!(why.contains("its certificate is of another authority"), "{why}");
    // What the node dials sees the new one, too, once what it began before is through.
    let trusted = other.authorities();
    let config = acceptor(&other.node(2).credentials(), Some(&trusted)).expect("it can be used");
    let until = Instant::now() + PATIENCE;
    let mut hello = [0; 1];
    while accept(&listener, config.clone()).read_exact(&mut hello).is_err() {
        assert!(Instant::now() < until, "no dial with the new certificate");
    }
}

#[test]
fn files_of_no_use_renew_nothing() {
    let mut lab = Lab::start(false);
    let believed = lab.authority.authorities();
    let folder = lab.folder.path().to_owned();
    let (certificate, key) = (folder.join("node-1.pem"), folder.join("node-1.key"));
    let good = fs::read(&certificate).expect("the certificate");
    let mut hangs_up = |part: &str| {
        lab.daemon.signal("HUP");
        let line = lab.daemon.line("\"tls_renewed\"");
        assert!(line.contains(part) && line.contains("\"level\":\"error\""), "{line}");
        assert!(line.contains("those that were read before stay in use"), "{line}");
        assert_eq!(status(&mut client(&lab, &believed)), Ok(()));
    };
    fs::write(&certificate, "").expect("written");
    hangs_up("node-1.pem: has no certificate");
    fs::write(&certificate, good).expect("written");
    fs::set_permissions(&key, Permissions::from_mode(0o644)).expect("its mode");
    hangs_up("node-1.key: its mode is 644");
    // Another node's: the cluster would refuse it.
    Authority::new().node(2).write(&folder, "node-1");
    hangs_up("this is node 1 of lab");
}
