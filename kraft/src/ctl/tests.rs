//! Whole command lines against nodes on real sockets.

use kraft_core::id::NodeId;
use kraft_core::message::Refusal;

use super::*;
use crate::client::fake::Cluster;

/// The exit status and what was printed.
fn ctl(cluster: &Cluster, line: &str) -> (Exit, String) {
    let list = cluster.list();
    let words = ["kraftctl", "--nodes", &list].into_iter().chain(line.split(' '));
    let cli = Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{error}"));
    let mut out = Vec::new();
    let exit = match run(&cli, &mut out) {
        Ok(exit) => exit,
        Err(failure) => {
            out.extend_from_slice(failure.to_string().as_bytes());
            failure.exit()
        }
    };
    (exit, String::from_utf8(out).expect("text"))
}

#[track_caller]
fn check(cluster: &Cluster, line: &str, exit: Exit, printed: &str) {
    assert_eq!(ctl(cluster, line), (exit, printed.to_owned()), "{line}");
}

/// What is no address at all is the command line's fault, whatever the network has to say.
#[test]
fn nodes_that_are_no_addresses_are_usage() {
    for list in ["", ",", "localhost", "127.0.0.1:99999"] {
        let cli = Cli::try_parse_from(["kraftctl", "--nodes", list, "get", "k"]).expect("it is taken as it is");
        let failure = run(&cli, &mut Vec::new()).expect_err(list);
        assert_eq!(failure.exit(), Exit::Usage, "{failure}");
        let text = failure.to_string();
        assert!(
            text.ends_with("give --nodes or KRAFT_NODES as HOST:PORT,HOST:PORT,…"),
            "{text}"
        );
        assert_eq!(text.contains("it has no port"), list == "localhost", "{text}");
    }
    let unknown = Failure::Client(crate::client::Error::Address {
        address: "no.such.host:1".to_owned(),
        error: io::ErrorKind::Other.into(),
    });
    assert_eq!(unknown.exit(), Exit::Failed, "{unknown}");
}

#[test]
fn a_failure_says_what_to_do_about_this_one() {
    let refused = |leader, detail: &str| {
        crate::client::Error::Refused(crate::client::Refused {
            why: Refusal::NotLeader,
            leader: NodeId(leader),
            detail: detail.to_owned(),
        })
    };
    let elsewhere = [Failure::Client, Failure::Member, Failure::Transfer].map(|of| of(refused(3, "")));
    let leaderless = [Failure::Client, Failure::Transfer].map(|of| of(refused(0, "")));
    let for_good = [Failure::Member(refused(0, ""))];
    for (failures, cure) in [
        (&elsewhere[..], "(add its client address to --nodes or KRAFT_NODES)"),
        (&leaderless, "(is a majority up? see kraftctl status)"),
        (&for_good, "if it is lost for good, kraftd recover --help)"),
    ] {
        for failure in failures {
            assert!(failure.to_string().ends_with(cure), "{failure}");
            assert_eq!(failure.exit(), Exit::Refused);
        }
    }
    for why in [
        "127.0.0.1:1 permission denied; no TLS with 127.0.0.1:1: its certificate has expired: renew it, or set the clocks",
        "127.0.0.1:1 speaks TLS, and this client does not: give it the authorities of the nodes",
    ] {
        for of in [Failure::Client, Failure::Member, Failure::Transfer, Failure::Members] {
            for leader in [0, 3] {
                let failure = of(refused(leader, why));
                assert!(failure.to_string().ends_with(why), "TLS says what to do: {failure}");
            }
        }
    }
    let lost = "127.0.0.1:1 connection refused; TLS connection to 127.0.0.1:1: it broke off";
    let lost = Failure::Client(refused(0, lost));
    assert!(lost.to_string().contains("(is a majority up? "), "{lost}");
    let unknown = Failure::Members(refused(0, "127.0.0.1:1 connection refused"));
    assert_eq!(
        unknown.to_string(),
        "no node said who the members are: 127.0.0.1:1 connection refused (are they up, and are these their client \
         addresses?)"
    );
    assert_eq!(unknown.exit(), Exit::Failed, "nothing was to be changed");
}

#[test]
fn each_outcome_has_its_exit_status_and_each_format_its_form() {
    let cluster = Cluster::start(3);
    let c = &cluster;
    check(c, "get k", Exit::NotFound, "");
    check(c, "-o json get k", Exit::NotFound, "{\"key\":\"k\",\"value\":null}\n");
    check(c, "put k v", Exit::Ok, "done\n");
    check(c, "get k", Exit::Ok, "v\n");
    check(c, "get k -o plain", Exit::Ok, "v");
    check(c, "get k -o json", Exit::Ok, "{\"key\":\"k\",\"value\":\"v\"}\n");
    check(c, "cas k --absent w", Exit::NotFound, "v\n");
    check(c, "cas k --expect v w", Exit::Ok, "done\n");
    check(
        c,
        "incr k",
        Exit::Refused,
        "refused, nothing was changed: the value is no number",
    );
    check(c, "incr n -3", Exit::Ok, "-3\n");
    check(c, "del k", Exit::Ok, "done\n");
    check(c, "-o json del k", Exit::NotFound, "{\"done\":false}\n");
    check(c, "put p1 1", Exit::Ok, "done\n");
    check(c, "put p2 2", Exit::Ok, "done\n");
    check(c, "scan p", Exit::Ok, "KEY  VALUE\np1   1\np2   2\n");
    check(c, "scan p -o plain --limit 1", Exit::Ok, "p1\t1\n");
    check(
        c,
        "scan p -o json",
        Exit::Ok,
        "[{\"key\":\"p1\",\"value\":\"1\"},\n {\"key\":\"p2\",\"value\":\"2\"}]\n",
    );
    check(c, "scan x -o json", Exit::Ok, "[]\n");
    let (exit, text) = ctl(c, &format!("put k {}", "v".repeat(2 << 20)));
    assert_eq!(exit, Exit::Refused, "{text}");
    assert!(text.contains("a message by frame_bytes_max"), "{text}");
    let (exit, text) = ctl(c, "--timeout 30ms put --nodes 127.0.0.1:1 k v");
    assert_eq!(exit, Exit::Refused, "{text}");
    assert!(text.contains("127.0.0.1:1 connection refused"), "{text}");
}

#[test]
fn a_transfer_says_how_it_ended() {
    let cluster = Cluster::start(3);
    let c = &cluster;
    check(c, "leader transfer", Exit::Ok, "node 2 leads\n");
    check(c, "leader transfer --to 3 -o plain", Exit::Ok, "3\n");
    check(c, "-o json leader transfer --to 1", Exit::Ok, "{\"leader\":1}\n");
    cluster.world().stays = Some(Refusal::TimedOut);
    check(
        c,
        "leader transfer --to 3",
        Exit::Refused,
        "leadership was not handed over: it did not come about in time: node 3 is asleep (does it lag, or its disk? see \
         kraftctl status; writes are taken again)",
    );
    cluster.world().stays = Some(Refusal::UnknownMember);
    let (exit, text) = ctl(c, "leader transfer --to 9");
    assert_eq!(exit, Exit::Refused);
    assert!(
        text.contains("there is no such member") && text.contains("kraftctl status"),
        "{text}"
    );
}

#[test]
fn a_scan_of_many_pages_prints_every_key_once() {
    let cluster = Cluster::start(1);
    {
        use kraft_core::machine::StateMachine;
        let mut world = cluster.world();
        for key in 0..500 {
            let key = format!("key{key:03}");
            let mut command = bytes::BytesMut::new();
            let value = &[b'x'; 1000];
            crate::kv::Command::Put {
                key: key.as_bytes(),
                value,
            }
            .encode(&mut command);
            world
                .kv
                .apply(kraft_core::id::Index(1), &command, &mut bytes::BytesMut::new());
        }
    }
    let (exit, text) = ctl(&cluster, "scan key -o plain");
    assert_eq!(exit, Exit::Ok);
    let keys: Vec<_> = text.lines().map(|line| &line[..6]).collect();
    assert_eq!(keys.len(), 500);
    assert!(keys.is_sorted());
    let (_, text) = ctl(&cluster, "scan key -o plain --limit 70");
    assert_eq!(text.lines().count(), 70);
}

#[test]
fn status_is_one_table_and_fails_if_a_node_is_dead() {
    let cluster = Cluster::start(2);
    let (exit, text) = ctl(&cluster, "status");
    assert_eq!(exit, Exit::Ok);
    let rows: Vec<Vec<_>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows.len(), 3);
    assert_eq!(&rows[0][..4], ["NODE", "ADDRESS", "STATE", "TERM"]);
    assert_eq!((rows[1][2], rows[1][3], rows[1][4]), ("leader", "3", "1"));
    assert_eq!((rows[2][2], rows[2][8]), ("follower", "1-8"));
    assert_eq!(rows[1][11], "1m1s");

    let gone = Cluster::start(1);
    let list = format!("{},{}", cluster.list(), gone.list());
    drop(gone);
    let (exit, text) = ctl(&cluster, &format!("status --nodes {list}"));
    assert_eq!(exit, Exit::Failed);
    assert!(text.contains("unreachable"), "{text}");
    let (_, text) = ctl(&cluster, &format!("status -o json --nodes {list}"));
    assert!(text.contains("\"error\":\"connection refused\""), "{text}");
}

/// The value of a figure in a plain report.
#[track_caller]
fn figure(report: &str, name: &str) -> f64 {
    let line = report
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix('\t'));
    line.unwrap_or_else(|| panic!("no {name} in {report}"))
        .parse()
        .expect("a number")
}

#[test]
fn bench_counts_what_the_machine_applied() {
    let cluster = Cluster::start(3);
    let (exit, text) = ctl(
        &cluster,
        "-o plain bench --clients 4 --pipeline 3 --seconds 0.2 --keys 10",
    );
    assert_eq!(exit, Exit::Ok, "{text}");
    let ok = figure(&text, "ok");
    let world = cluster.world();
    // What was outstanding at the end is applied and not counted.
    assert!(
        ok > 0.0 && ok <= world.applied as f64 && world.applied as f64 <= ok + 12.0,
        "{text}"
    );
    assert_eq!(world.kv.len(), 10);
    assert_eq!((figure(&text, "refused"), figure(&text, "unknown")), (0.0, 0.0));
    assert!(figure(&text, "p50_us") <= figure(&text, "p99_us"));
    // The servers are threads of this process.
    assert_eq!(figure(&text, "servers_measured"), 1.0);
}

#[test]
fn bench_reads_what_it_has_filled_in_and_opens_sessions() {
    let cluster = Cluster::start(1);
    let (exit, text) = ctl(&cluster, "-o plain bench --clients 2 --seconds 0.1 --keys 50 --op get");
    assert_eq!(exit, Exit::Ok, "{text}");
    let filled = cluster.world().kv.len();
    assert_eq!((filled, cluster.world().applied), (50, 50));
    let (exit, text) = ctl(
        &cluster,
        "-o plain bench --clients 2 --pipeline 4 --seconds 0.1 --sessions --read-share 0.5",
    );
    assert_eq!(exit, Exit::Ok, "{text}");
    assert_eq!(cluster.world().sessions.len(), 2);
    assert_eq!(figure(&text, "refused"), 0.0);
}

#[test]
fn bench_follows_the_leader_and_counts_what_was_refused() {
    let cluster = Cluster::start(3);
    let bench = std::thread::scope(|scope| {
        let run = scope.spawn(|| ctl(&cluster, "-o plain bench --clients 4 --seconds 1"));
        while cluster.world().applied < 100 {
            std::thread::yield_now();
        }
        cluster.world().leader = 3;
        let before = cluster.world().applied;
        while cluster.world().applied < before + 100 {
            assert!(!run.is_finished(), "the bench must go on at the next leader");
            std::thread::yield_now();
        }
        run.join().expect("no panic")
    });
    assert_eq!(bench.0, Exit::Ok);
    assert!(figure(&bench.1, "refused") >= 1.0, "{}", bench.1);
    assert_eq!(figure(&bench.1, "unknown"), 0.0, "{}", bench.1);
}

#[test]
fn bench_that_is_refused_says_why() {
    let cluster = Cluster::start(1);
    let (exit, text) = ctl(&cluster, "bench --clients 2 --seconds 0.1 --value-size 200000");
    assert_eq!(exit, Exit::Failed);
    assert!(
        text.contains("no operation succeeded") && text.contains("value_bytes_max"),
        "{text}"
    );
}

#[test]
fn a_snapshot_of_a_leader_that_is_not_named_says_so() {
    let cluster = Cluster::start(1);
    cluster.world().leader = 9;
    let folder = tempfile::tempdir().expect("a folder");
    let line = format!("snapshot save {}", folder.path().join("f").display());
    let (exit, text) = ctl(&cluster, &line);
    assert_eq!(exit, Exit::Refused);
    assert!(
        text.contains("follows node 9 (does --nodes name the leader's client address? "),
        "{text}"
    );
}

#[test]
fn bench_without_a_leader_says_so() {
    let cluster = Cluster::start(1);
    cluster.world().leader = 9;
    let (exit, text) = ctl(&cluster, "bench");
    assert_eq!(exit, Exit::Failed);
    assert!(
        text.contains("none of these nodes leads") && text.contains("follows node 9"),
        "{text}"
    );
}
