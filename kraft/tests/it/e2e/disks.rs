//! Disks that fail.

use std::process::Command;

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use super::cluster::{Cluster, NODES, others};
use super::load::{Load, assert_kept};
use crate::process::{kraftd, path, run_command};

#[test]
fn a_failed_disk_ends_the_node() {
    let mut cluster = Cluster::start("failed-disk", &[]);
    let leader = cluster.leader(&NODES);
    let load = Load::start(&cluster, &NODES, 4, 100);
    for node in [others(leader)[0], leader] {
        load.wait_for(50);
        let pid = i32::try_from(cluster.node(node).id()).ok().and_then(Pid::from_raw);
        // From here on the system answers EFBIG to every write to a file.
        let none = Rlimit {
            current: Some(0),
            maximum: None,
        };
        prlimit(pid, Resource::Fsize, none).expect("it is this user's process");
        let (status, said) = cluster.end(node);
        let last = said.last().expect("it says why");
        assert_eq!(status.code(), Some(75), "{said:#?}");
        let log = format!("{}/log/", path(&cluster.data(node)));
        for part in ["\"write ", &log, ".log: File too large", "\"exit_code\":75"] {
            assert!(last.contains(part), "{part:?} is not in {last}");
        }
        load.wait_for(50);
        cluster.spawn(node);
        cluster.wait_until_equal(&NODES);
    }
    let written = load.stop();
    assert_kept(&cluster, &NODES, &written);
}

#[test]
fn a_disk_that_takes_nothing_is_75_at_the_start() {
    let cluster = Cluster::prepare("no-disk", &[]);
    cluster.init(1);
    let serve = cluster.serve_args(1, &cluster.data(1));
    let serve = kraftd(&serve.iter().map(String::as_str).collect::<Vec<_>>());
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -f 8; exec \"$0\" \"$@\""])
        .arg(serve.get_program())
        .args(serve.get_args());
    let ran = run_command(&mut command);
    assert_eq!(ran.code, Some(75), "{ran:?}");
    assert!(
        ran.err.contains("write ") && ran.err.contains("File too large"),
        "{ran:?}"
    );
}
