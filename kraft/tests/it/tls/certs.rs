//! `kraftd certs`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use kraft::tls::{Why, read_authorities, read_credentials};

use crate::process::{Ran, contents, path, refused, run};

fn certs(out: &Path, cluster: &str, ids: &str) -> Ran {
    run(&["certs", "--cluster", cluster, "--ids", ids, "--out", path(out)])
}

/// Nothing that was there is another thing.
#[track_caller]
fn kept(out: &Path, before: &std::collections::BTreeMap<String, Vec<u8>>) {
    let after = contents(out);
    for (name, bytes) in before {
        assert_eq!(after.get(name), Some(bytes), "{name}");
    }
}

#[test]
fn an_authority_and_certificates_are_made_once_and_others_added() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("new/certs");
    let ran = certs(&out, "blue", "1,2");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for part in ["made in ", ": ca node-1 node-2 client\n", "kraftd serve", "kraftctl"] {
        assert!(ran.out.contains(part), "{part:?} is not in {ran:?}");
    }
    let mode = |name: &str| fs::metadata(out.join(name)).expect(name).permissions().mode() & 0o777;
    for name in ["ca.key", "node-1.key", "node-2.key", "client.key"] {
        assert_eq!(mode(name), 0o600, "{name}");
    }
    assert_eq!(mode(""), 0o700);

    let before = contents(&out);
    let again = certs(&out, "blue", "2,4");
    assert_eq!(again.code, Some(0), "{again:?}");
    assert!(again.out.contains(": node-4\nkept in "), "{again:?}");
    assert!(again.out.contains(": ca node-2 client\n"), "{again:?}");
    kept(&out, &before);
    let authorities = read_authorities(&out.join("ca.pem")).expect("the authority");
    for node in [1, 2, 4] {
        let file = |end: &str| out.join(format!("node-{node}.{end}"));
        let own = read_credentials(&file("pem"), &file("key")).expect("a certificate and its key");
        assert_eq!(own.names(), [format!("kraft://blue/node/{node}")]);
        assert_eq!(own.check(&authorities), Ok(()));
    }
    // One that a client shows is no node's.
    let own = read_credentials(&out.join("client.pem"), &out.join("client.key")).expect("both");
    assert_eq!(own.names(), [""; 0]);
    assert!(matches!(own.check(&authorities), Err(Why::BadCertificate(_))));
}

#[test]
fn nothing_is_written_over_and_no_other_authority_used() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("certs");
    assert_eq!(certs(&out, "blue", "1").code, Some(0));
    let before = contents(&out);
    refused(
        &certs(&out, "red", "1"),
        78,
        &["ca.pem: it is not the authority of cluster red", "--cluster"],
    );
    assert_eq!(contents(&out), before);
    fs::remove_file(out.join("node-1.pem")).expect("it was there");
    let halved = contents(&out);
    refused(
        &certs(&out, "blue", "1"),
        78,
        &["node-1.key is there and ", "move the one away"],
    );
    assert_eq!(contents(&out), halved);
    fs::remove_file(out.join("ca.key")).expect("it was there");
    refused(
        &certs(&out, "blue", "2"),
        78,
        &["ca.pem is there and ", "put the two together"],
    );

    refused(&certs(&out, "a b", "1"), 78, &["--cluster: no plain name"]);
    assert_eq!(certs(&out, "blue", "0").code, Some(2));
    let file = out.join("client.pem");
    refused(&certs(&file, "blue", "1"), 78, &["client.pem: ", "--out"]);
    assert_eq!(contents(&out).len(), halved.len() - 1);
}
