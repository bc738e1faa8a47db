//! Clients that fetch a snapshot, and what they find in it.

use std::io::ErrorKind;

use kraft::message::{Body, Fetch, Message, SnapshotId};
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
