//! A build without TLS that is asked for it: told, and nothing goes in plaintext for it.

use crate::process::{contents, init_alone, kraftctl, kraftd, path, refused, run, run_command};

#[test]
fn a_build_without_tls_says_so_and_sends_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    init_alone(&data);
    let before = contents(&data);
    let says = ["built without TLS: build it with --features tls"];
    for name in ["tls-cert", "tls-key", "tls-ca", "tls-client-ca"] {
        let flag = format!("--{name}");
        refused(&run(&["serve", "--data", path(&data), &flag, "x"]), 78, &says);
    }
    let mut by_variable = kraftd(&["serve", "--data", path(&data)]);
    refused(&run_command(by_variable.env("KRAFT_TLS_CA", "x")), 78, &says);
    assert_eq!(contents(&data), before);
    let out = folder.path().join("certs");
    refused(&run(&["certs", "--cluster", "c", "--out", path(&out)]), 78, &says);
    refused(&run(&["demo", "--tls"]), 78, &says);
    assert!(!out.exists());
    let says = ["built without it: build it with --features tls"];
    let ctl = ["--nodes", "127.0.0.1:1", "--tls-ca", "x", "status"];
    refused(&kraftctl(&ctl), 2, &says);
}
