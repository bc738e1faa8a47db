//! Files that a node does not start with, and what it does not tell of them.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use super::certificates::Authority;
use super::lab::{Lab, connect, init, talk};
use crate::process::{contents, path, refused, run};

#[test]
fn a_node_does_not_start_with_files_of_no_use() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let data = init(at, "127.0.0.1:1");
    let authority = Authority::new();
    let ca = authority.write(at, "ca.pem");
    let (own, key) = authority.node(1).write(at, "node-1");
    let (third, third_key) = authority.node(3).write(at, "node-3");
    let before = contents(&data);
    let serve = |certificate, key, ca| {
        let files = [
            "--tls-cert",
            path(certificate),
            "--tls-key",
            path(key),
            "--tls-ca",
            path(ca),
        ];
        run(&[&["serve", "--data", path(&data)], &files[..]].concat())
    };
    refused(
        &serve(&third, &third_key, &ca),
        78,
        &[
            "tls_cert: ",
            "node-3.pem: it has kraft://lab/node/3, and this is node 1 of lab",
            "name the certificate of this node",
        ],
    );
    refused(
        &serve(&own, &third_key, &ca),
        78,
        &[
            "tls_key: ",
            "node-3.key: it is not the key of the certificate in ",
            "node-1.pem",
        ],
    );
    let nowhere = at.join("nowhere");
    refused(
        &serve(&nowhere, &key, &ca),
        78,
        &["tls_cert: ", "nowhere: No such file"],
    );
    refused(&serve(&own, &nowhere, &ca), 78, &["tls_key: ", "nowhere: No such file"]);
    refused(&serve(&own, &key, &nowhere), 78, &["tls_ca: ", "nowhere: No such file"]);
    refused(&serve(&own, &key, &data), 78, &["tls_ca: ", "it is no file"]);
    refused(&serve(&own, &key, &key), 78, &["tls_ca: ", "has no certificate"]);
    refused(&serve(&third_key, &key, &ca), 78, &["tls_cert: ", "has no certificate"]);
    fs::set_permissions(&own, Permissions::from_mode(0o600)).expect("its mode");
    refused(
        &serve(&own, &own, &ca),
        78,
        &["tls_key: ", "node-1.pem: has no private key"],
    );
    for mode in [0o640, 0o604, 0o660, 0o601] {
        fs::set_permissions(&key, Permissions::from_mode(mode)).expect("its mode");
        let told = format!("node-1.key: its mode is {mode:03o}");
        refused(&serve(&own, &key, &ca), 78, &["tls_key: ", &told, "chmod 600 "]);
    }
    refused(
        &run(&["serve", "--data", path(&data), "--tls-cert", path(&own)]),
        78,
        &["--tls-cert: tls_cert is set and tls_key is not"],
    );
    assert_eq!(contents(&data), before);
}

#[test]
fn no_line_has_anything_of_a_key() {
    let mut lab = Lab::start(true);
    let folder = lab.folder.path().to_owned();
    let key = fs::read_to_string(folder.join("node-1.key")).expect("the key");
    let secrets: Vec<_> = key.lines().filter(|line| !line.starts_with('-')).collect();
    assert!(!secrets.is_empty());
    talk(&mut connect(&lab.client), b"GET / HTTP/1.1\r\n\r\n");
    lab.daemon.line("\"tls_failed\"");
    lab.daemon.signal("TERM");
    lab.daemon.end();
    let data = folder.join("data");
    let file = |name: &str| path(&folder.join(name)).to_owned();
    let (certificate, key) = (file("node-1.pem"), file("node-1.key"));
    let shown = run(&[
        "config",
        "show",
        "--data",
        path(&data),
        "--tls-cert",
        &certificate,
        "--tls-key",
        &key,
    ]);
    assert!(shown.out.contains(&format!("tls_key = \"{key}\"")), "{shown:?}");
    // A key in the place of an authority, and one of a wrong form.
    fs::write(
        folder.join("odd.key"),
        format!("-----BEGIN PRIVATE KEY-----\n{}", secrets[0]),
    )
    .expect("written");
    fs::set_permissions(folder.join("odd.key"), Permissions::from_mode(0o600)).expect("its mode");
    let refused = |ca: &str, key: &str| {
        let ran = run(&[
            "serve",
            "--data",
            path(&data),
            "--tls-cert",
            &certificate,
            "--tls-key",
            key,
            "--tls-ca",
            ca,
        ]);
        assert_eq!(ran.code, Some(78), "{ran:?}");
        ran.err
    };
    let told = [
        shown.out,
        refused(&key, &key),
        refused(&file("ca.pem"), &file("odd.key")),
    ];
    for line in lab.daemon.said.iter().chain(&told) {
        assert!(secrets.iter().all(|secret| !line.contains(secret)), "{line}");
    }
}
