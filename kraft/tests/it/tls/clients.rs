//! The client port, by kraftctl.

use super::certificates::Authority;
use super::lab::Lab;
use crate::process::{Ran, kraftctl, path};

fn status(lab: &Lab, flags: &[&str]) -> Ran {
    let fixed = ["--nodes", &lab.client, "--timeout", "2s"];
    kraftctl(&[&fixed[..], flags, &["status"]].concat())
}

#[track_caller]
fn fails(ran: &Ran, code: i32, why: &str) {
    assert_eq!(ran.code, Some(code), "{ran:?}");
    assert!(
        ran.out.contains(why) || ran.err.contains(why),
        "{why:?} is not in {ran:?}"
    );
}

#[test]
fn a_client_believes_nodes_of_its_authority_alone() {
    let mut lab = Lab::start(false);
    let ran = status(&lab, &["--tls-ca", path(&lab.ca)]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let other = Authority::new().write(lab.folder.path(), "other.pem");
    let wrong = ["--tls-ca", path(&other)];
    fails(&status(&lab, &wrong), 1, "its certificate is of another authority");
    lab.daemon
        .line("it refuses the certificate of this side: it is of another authority");
    let put = kraftctl(
        &[
            &["--nodes", &lab.client, "--timeout", "1s"],
            &wrong[..],
            &["put", "k", "v"],
        ]
        .concat(),
    );
    fails(&put, 4, "its certificate is of another authority");
    assert!(!put.err.contains("is a majority up?"), "{put:?}");
}

#[test]
fn a_client_shows_a_certificate_where_it_is_asked_for_one() {
    let mut lab = Lab::start(true);
    let folder = lab.folder.path().to_owned();
    let ca = lab.ca.clone();
    let (certificate, key) = lab.authority.client().write(&folder, "client");
    let with = |lab: &Lab, certificate, key| {
        let flags = [
            "--tls-ca",
            path(&ca),
            "--tls-cert",
            path(certificate),
            "--tls-key",
            path(key),
        ];
        status(lab, &flags)
    };
    let ran = with(&lab, &certificate, &key);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    fails(&status(&lab, &["--tls-ca", path(&ca)]), 1, "none was shown");
    lab.daemon.line("it showed no certificate");
    let (certificate, key) = Authority::new().client().write(&folder, "stranger");
    fails(&with(&lab, &certificate, &key), 1, "it is of another authority");
    lab.daemon.line("its certificate is of another authority");
}

#[test]
fn flags_of_kraftctl_that_do_not_go_together_are_usage() {
    let nodes = ["--nodes", "127.0.0.1:1"];
    for (flags, why) in [
        (&["--tls-cert", "x"][..], "--tls-cert without --tls-key"),
        (&["--tls-key", "x"], "--tls-key without --tls-cert"),
        (&["--tls-cert", "x", "--tls-key", "x"], "--tls-cert without --tls-ca"),
    ] {
        fails(&kraftctl(&[&nodes[..], flags, &["status"]].concat()), 2, why);
    }
    let ran = kraftctl(&[&nodes[..], &["--tls-ca", "/nonexistent", "status"]].concat());
    fails(&ran, 1, "/nonexistent: No such file");
}
