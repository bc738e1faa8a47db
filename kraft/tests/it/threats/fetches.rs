//! Clients that fetch a snapshot, and what they find in it.

use std::io::ErrorKind;
use std::time::Duration;

use kraft::message::{Body, Fetch, Message, SnapshotId};
use kraft::protocols::Binary;
use kraft::storage::{Failure, Operation};

use super::lab::Lab;
use super::line::{self, Line};

fn fetch(request: u64) -> Vec<u8> {
    line::ask(request, Body::Fetch(Fetch::default()))
}

/// The snapshot of which a first piece came, and the request that it answers.
fn pieces(line: &mut Line) -> Vec<(u64, SnapshotId)> {
    let piece = |message: &Message<'_>| match &message.body {
        Body::FetchReply(chunk) if chunk.offset == 0 => Some((message.header.request.0, chunk.id)),
        _ => None,
    };
    line.hear(piece).into_iter().flatten().collect()
}

#[test]
fn a_snapshot_that_began_before_a_client_wrote_is_not_given_to_it() {
    let mut lab = Lab::cluster(1);
    lab.elect();
    let [mut first, mut second] = [lab.client(1), lab.client(1)];
    first.send(&line::ask(1, line::command(b"one")));
    lab.settle();
    lab.site(1).is_saving_stalled = true;
    first.send(&fetch(2));
    lab.settle();
    // One that asks for no more than that waits for the same.
    first.send(&fetch(3));
    lab.settle();
    second.send(&line::ask(1, line::command(b"two")));
    lab.settle();
    assert!(second.heard().concat().contains("Committed"));
    second.send(&fetch(2));
    lab.settle();
    let applied = lab.node(1).status().applied;
    lab.site(1).unstall();
    lab.settle();
    let of_first = pieces(&mut first);
    let indexes: Vec<_> = of_first.iter().map(|(request, id)| (*request, id.index)).collect();
    assert_eq!(indexes, [(2, applied.prev()), (3, applied.prev())]);
    let of_second = pieces(&mut second);
    assert_eq!(of_second.len(), 1, "{of_second:?}");
    assert_eq!(of_second[0].1.index, applied);
    assert_eq!(lab.node(1).counters().snapshots, 2);
}

#[test]
fn a_fetch_from_an_idle_node_is_answered_with_the_newest() {
    let mut lab = Lab::cluster(1);
    lab.elect();
    let mut client = lab.client(1);
    client.send(&fetch(1));
    lab.settle();
    client.send(&fetch(2));
    lab.settle();
    let pieces = pieces(&mut client);
    assert_eq!(pieces.len(), 2, "{pieces:?}");
    assert_eq!(pieces[0].1, pieces[1].1);
    assert_eq!(lab.node(1).counters().snapshots, 1);
}

/// What a majority has is applied, and the node's own disk may lag: its log would end before its snapshot.
#[test]
fn a_snapshot_is_written_once_the_log_is_durable_up_to_its_index() {
    let mut lab = Lab::cluster(3);
    let leader = lab.elect();
    lab.site(leader).is_log_stalled = true;
    let mut client = lab.client(leader);
    client.send(&line::ask(1, line::command(b"one")));
    lab.settle();
    assert!(client.heard().concat().contains("Committed"));
    let status = lab.node(leader).status();
    assert!(status.durable < status.applied, "{status:?}");
    client.send(&fetch(2));
    lab.settle();
    let snapshots = |lab: &Lab| {
        lab.files(leader)
            .iter()
            .filter(|name| name.contains("snapshots/"))
            .count()
    };
    assert_eq!((snapshots(&lab), pieces(&mut client)), (0, vec![]));
    lab.site(leader).unstall();
    lab.settle();
    assert_eq!(snapshots(&lab), 1);
    assert_eq!(pieces(&mut client)[0].1.index, status.applied);
}

#[test]
fn a_snapshot_that_waits_for_the_log_for_long_is_told_once() {
    let mut lab = Lab::new(3, 3, |config| config.snapshots.entries = 5);
    let leader = lab.elect();
    let behind = leader % 3 + 1;
    lab.site(behind).is_log_stalled = true;
    let mut client = lab.client(leader);
    for request in 1..6 {
        client.send(&line::ask(request, line::command(b"one")));
    }
    lab.run_for(Duration::from_secs(9));
    assert_eq!(lab.told(behind, "SnapshotWaits"), [""; 0]);
    lab.run_for(Duration::from_secs(20));
    let told = lab.told(behind, "SnapshotWaits");
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(lab.told(leader, "SnapshotWaits").is_empty());
    lab.site(behind).unstall();
    lab.settle();
    assert_eq!(lab.told(behind, "SnapshotTaken").len(), 1);
}

/// It was retried when something was applied since, and a log that is full takes nothing.
#[test]
fn a_snapshot_without_room_is_told_and_tried_again_though_nothing_more_is_written() {
    let mut lab = Lab::new(1, 1, |config| config.snapshots.entries = 5);
    lab.elect();
    let files = lab.site(1).files.clone();
    files.fail(Operation::Create, "save.tmp", 0, Failure::Error(ErrorKind::StorageFull));
    let mut client = lab.client(1);
    for request in 1..5 {
        client.send(&line::ask(request, line::command(b"x")));
        lab.settle();
    }
    let failed = lab.told(1, "SnapshotFailed");
    assert!(failed.len() == 1 && failed[0].contains("NoSpace"), "{failed:?}");
    assert_eq!(lab.node(1).counters().snapshots, 0);
    lab.run_for(Duration::from_secs(9));
    assert_eq!(lab.node(1).counters().snapshots, 0, "not at once");
    lab.run_for(Duration::from_secs(2));
    assert_eq!(lab.node(1).counters().snapshots, 1);
    assert_eq!(lab.told(1, "SnapshotFailed").len(), 1);
    lab.kill(1);
    lab.start(1, 1, Binary);
    assert_eq!(lab.node(1).machine().commands.len(), 4, "nothing is lost");
}

/// Three nodes that take a snapshot every ten entries and send it at 100 KiB a second, who leads, and one that is down.
fn lab_with_one_behind() -> (Lab, u64, u64) {
    let mut lab = Lab::new(3, 3, |config| {
        config.snapshots.entries = 10;
        config.snapshots.piece_bytes = 8 << 10;
        config.snapshots.bytes_per_second = 100 << 10;
        config.raft.snapshot_margin_entries = 0;
    });
    let leader = lab.elect();
    let slow = leader % 3 + 1;
    lab.kill(slow);
    // Who was heard lately is waited for.
    lab.run_for(Duration::from_secs(1));
    (lab, leader, slow)
}

/// The store keeps two; what is on its way is not spared.
#[test]
fn a_snapshot_that_is_gone_before_it_has_arrived_is_told_and_the_newest_sent() {
    let (mut lab, leader, slow) = lab_with_one_behind();
    let mut client = lab.client(leader);
    let mut written = 0;
    let mut write = |lab: &mut Lab, count: u64| {
        for _ in 0..count {
            written += 1;
            let text = [written as u8; 4 << 10];
            client.send(&line::ask(written, line::command(&text)));
            lab.settle();
        }
    };
    write(&mut lab, 50);
    lab.start(slow, 3, Binary);
    lab.run_until(|lab| !lab.told(leader, "SnapshotSending").is_empty());
    lab.run_for(Duration::from_millis(300));
    // Forty at a time are due for one as long as one is on its way.
    write(&mut lab, 130);
    lab.run_until(|lab| !lab.told(leader, "SnapshotLapsed").is_empty());
    lab.run_until(|lab| lab.node(slow).machine().commands.len() == 180);
    assert_eq!(lab.node(slow).machine().commands, lab.node(leader).machine().commands);
    let received = lab.told(slow, "SnapshotReceived");
    assert_eq!(received.len(), 1, "{received:?}");
    let lapsed = &lab.told(leader, "SnapshotLapsed")[0];
    let of = |told: &str| told.split("index: ").nth(1).map(str::to_owned).expect("an index");
    assert_ne!(of(&received[0]), of(lapsed));
}

/// Fifty entries of 4 KiB, which take two seconds at the full rate.
#[test]
fn a_majority_that_waits_for_a_state_is_sent_it_at_the_full_rate() {
    let (mut lab, leader, slow) = lab_with_one_behind();
    let mut client = lab.client(leader);
    let mut write = |lab: &mut Lab, id: u64| {
        client.send(&line::ask(id, line::command(&[id as u8; 4 << 10])));
        lab.settle();
    };
    (1..51).for_each(|id| write(&mut lab, id));
    lab.start(slow, 3, Binary);
    lab.run_until(|lab| !lab.told(leader, "SnapshotSending").is_empty());
    lab.kill(6 - leader - slow);
    let begun = lab.network.now();
    write(&mut lab, 51);
    lab.run_until(|lab| lab.node(slow).machine().commands.len() == 51);
    let span = lab.network.now() - begun;
    assert!(span < Duration::from_secs(3), "{span:?}: clients waited for this alone");
    assert_eq!(lab.node(leader).machine().commands.len(), 51);
}

#[test]
fn a_fetch_where_nothing_was_applied_is_refused() {
    let mut lab = Lab::new(1, 3, |_| ());
    let mut client = lab.client(1);
    client.send(&fetch(1));
    lab.settle();
    let heard = client.heard().concat();
    assert!(
        heard.contains("Refused") && heard.contains("nothing was applied yet"),
        "{heard}"
    );
}

#[test]
fn a_fetch_after_one_that_failed_is_not_left_waiting() {
    let mut lab = Lab::cluster(1);
    lab.elect();
    let files = lab.site(1).files.clone();
    files.fail(Operation::Create, "save.tmp", 0, Failure::Error(ErrorKind::StorageFull));
    let mut client = lab.client(1);
    client.send(&fetch(1));
    lab.settle();
    let heard = client.heard().concat();
    assert!(heard.contains("Refused") && heard.contains("NoSpace"), "{heard}");
    client.send(&fetch(2));
    lab.settle();
    assert_eq!(pieces(&mut client).len(), 1);
}
