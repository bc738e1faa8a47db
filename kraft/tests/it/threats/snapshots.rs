//! Snapshots that come in pieces: pieces that do not follow, of two snapshots, of another cluster's, without an end.

use std::io::ErrorKind;
use std::time::Duration;

use kraft::id::{Index, NodeId, Round, Term};
use kraft::message::{Append, Body, Entries, EntryKind, EntryRef, Fetch, Message, SnapshotChunk, SnapshotId};
use kraft::storage::{Failure, Operation};

use super::lab::Lab;
use super::line::{self, Line};

/// A snapshot, and what its state machine was given.
struct Sent {
    id: SnapshotId,
    bytes: Vec<u8>,
    commands: Vec<Vec<u8>>,
}

/// A node alone applies these; a client fetches its snapshot, piece by piece.
fn taken(commands: &[&[u8]]) -> Sent {
    let mut lab = Lab::new(1, 1, |config| config.snapshots.piece_bytes = 100);
    lab.elect();
    let mut client = lab.client(1);
    for (request, text) in (1..).zip(commands) {
        client.send(&line::ask(request, line::command(text)));
    }
    lab.settle();
    assert_eq!(client.heard().len(), commands.len());
    let (id, mut bytes) = fetch(&mut lab, &mut client, SnapshotId::default(), 0);
    while (bytes.len() as u64) < id.bytes {
        let (same, more) = fetch(&mut lab, &mut client, id, bytes.len() as u64);
        assert_eq!(same, id);
        bytes.extend(more);
    }
    // Nothing was applied since: it is the same that anybody else is given.
    assert_eq!(fetch(&mut lab, &mut client, SnapshotId::default(), 0).0, id);
    Sent {
        id,
        bytes,
        commands: commands.iter().map(|text| text.to_vec()).collect(),
    }
}

#[track_caller]
fn fetch(lab: &mut Lab, client: &mut Line, id: SnapshotId, offset: u64) -> (SnapshotId, Vec<u8>) {
    client.send(&line::ask(100 + offset, Body::Fetch(Fetch { id, offset })));
    lab.settle();
    let mut pieces = client.hear(|message| match &message.body {
        Body::FetchReply(chunk) if chunk.offset == offset => (chunk.id, chunk.data.to_vec()),
        other => panic!("{other:?}"),
    });
    assert_eq!(pieces.len(), 1);
    pieces.remove(0)
}

/// Node 1 of three follows this leader, whom a test plays.
struct Leader {
    line: Line,
    node: u64,
    term: u64,
}

impl Leader {
    fn new(lab: &mut Lab, node: u64, term: u64) -> Self {
        Self {
            line: lab.peer(node, 1),
            node,
            term,
        }
    }

    /// Says it; the answers, but for signs of life.
    fn say(&mut self, lab: &mut Lab, body: Body<'_>) -> Vec<String> {
        let header = line::header(NodeId(self.node), self.term, 0);
        self.line.say(&Message { header, body });
        lab.settle();
        let mut heard = self.line.heard();
        heard.retain(|text| !text.starts_with("Heartbeat") && !text.starts_with("Vote"));
        heard
    }

    fn piece(&mut self, lab: &mut Lab, id: SnapshotId, offset: u64, data: &[u8]) -> Vec<String> {
        self.say(lab, Body::Snapshot(SnapshotChunk { id, offset, data }))
    }

    /// How much of `id` the follower says that it has.
    #[track_caller]
    fn asks(&mut self, lab: &mut Lab, id: SnapshotId) -> u64 {
        let heard = self.piece(lab, id, 0, b"").concat();
        let (_, count) = heard.split_once("Received(").unwrap_or_else(|| panic!("{heard}"));
        count.split(')').next().expect("its end").parse().expect("a number")
    }

    /// Sends all of it from `offset` on, in pieces; what was answered to the last.
    fn send(&mut self, lab: &mut Lab, sent: &Sent, mut offset: usize) -> Vec<String> {
        let mut heard = Vec::new();
        for piece in sent.bytes[offset..].chunks(50) {
            heard = self.piece(lab, sent.id, offset as u64, piece);
            offset += piece.len();
        }
        heard
    }
}

#[track_caller]
fn has(lab: &Lab, commands: &[Vec<u8>], applied: Index) {
    assert_eq!(lab.node(1).machine().commands, commands);
    assert_eq!(lab.node(1).status().applied, applied);
}

/// Files of what is being received.
fn unfinished(lab: &Lab) -> usize {
    let names = lab.files(1);
    names.iter().filter(|name| name.ends_with("receive.tmp")).count()
}

#[test]
fn pieces_with_gaps_and_overlaps_are_answered_with_what_is_there() {
    let sent = taken(&[b"one", b"two", b"three"]);
    let mut lab = Lab::new(1, 3, |_| ());
    let mut leader = Leader::new(&mut lab, 3, 6);
    assert_eq!(leader.asks(&mut lab, sent.id), 0);
    for (offset, end) in [(0, 50), (40, 90), (60, 90), (0, 50), (51, 90)] {
        let heard = leader.piece(&mut lab, sent.id, offset, &sent.bytes[offset as usize..end]);
        assert!(heard.concat().contains("Received(50)"), "{offset}: {heard:?}");
    }
    assert_eq!(leader.asks(&mut lab, sent.id), 50);
    has(&lab, &[], Index(0));
    let heard = leader.send(&mut lab, &sent, 50).concat();
    assert!(heard.contains(&format!("Matched(Index({}))", sent.id.index)), "{heard}");
    has(&lab, &sent.commands, sent.id.index);
}

#[test]
fn a_piece_beyond_the_total_ends_its_connection_and_the_old_state_stays() {
    let sent = taken(&[b"one"]);
    let short = SnapshotId { bytes: 30, ..sent.id };
    let cases = [
        ("more than there is", sent.id, sent.id.bytes - 5, &b"123456"[..]),
        ("behind its end", sent.id, sent.id.bytes + 1, b""),
        ("at the end of numbers", sent.id, u64::MAX, b"1"),
        ("one without bytes", SnapshotId { bytes: 0, ..sent.id }, 0, b""),
        ("a piece above it", short, 0, &[0; 31]),
        (
            "of no index",
            SnapshotId {
                index: Index(0),
                ..sent.id
            },
            0,
            b"1",
        ),
        (
            "of a term above its sender's",
            SnapshotId {
                term: Term(9),
                ..sent.id
            },
            0,
            b"1",
        ),
    ];
    for (what, id, offset, data) in cases {
        let mut lab = Lab::new(1, 3, |_| ());
        let mut leader = Leader::new(&mut lab, 3, 6);
        let heard = leader.piece(&mut lab, id, offset, data).concat();
        assert!(
            heard.contains("Violation") || heard.contains("Malformed"),
            "{what}: {heard}"
        );
        assert!(leader.line.take_in(), "{what}");
        has(&lab, &[], Index(0));
        // Another connection, and all is well.
        let mut leader = Leader::new(&mut lab, 3, 6);
        leader.send(&mut lab, &sent, 0);
        has(&lab, &sent.commands, sent.id.index);
    }
}

#[test]
fn a_damaged_or_foreign_snapshot_is_refused_and_the_old_state_stays() {
    let sent = taken(&[b"one", b"two"]);
    for flip in [0, 20, 40, sent.bytes.len() / 2, sent.bytes.len() - 1] {
        let mut lab = Lab::new(1, 3, |_| ());
        let mut leader = Leader::new(&mut lab, 3, 6);
        let mut damaged = Sent {
            bytes: sent.bytes.clone(),
            commands: Vec::new(),
            ..sent
        };
        damaged.bytes[flip] ^= 1;
        let mut heard = Vec::new();
        for (at, piece) in damaged.bytes.chunks(50).enumerate() {
            heard.extend(leader.piece(&mut lab, damaged.id, 50 * at as u64, piece));
        }
        assert!(heard.concat().contains("Damaged"), "{flip}: {heard:?}");
        has(&lab, &[], Index(0));
        assert_eq!(unfinished(&lab), 0);
        // The next one is not.
        assert_eq!(leader.asks(&mut lab, sent.id), 0);
        leader.send(&mut lab, &sent, 0);
        has(&lab, &sent.commands, sent.id.index);
    }
}

#[test]
fn a_snapshot_with_a_wrong_total_is_refused_whole_and_the_old_state_stays() {
    let sent = taken(&[b"one", b"two"]);
    for (total, flaw) in [(-7, "it ends before its trailer"), (9, "bytes follow its trailer")] {
        let mut lab = Lab::new(1, 3, |_| ());
        let mut leader = Leader::new(&mut lab, 3, 6);
        let bytes = sent.id.bytes.checked_add_signed(total).expect("it is longer");
        let mut wrong = Sent {
            id: SnapshotId { bytes, ..sent.id },
            bytes: sent.bytes.clone(),
            commands: Vec::new(),
        };
        wrong.bytes.resize(usize::try_from(bytes).expect("it is short"), 0);
        let heard = leader.send(&mut lab, &wrong, 0).concat();
        assert!(heard.contains("Damaged"), "{total}: {heard}");
        let told = lab.told(1, "SnapshotFailed");
        assert!(told.len() == 1 && told[0].contains(flaw), "{total}: {told:?}");
        has(&lab, &[], Index(0));
        assert_eq!(unfinished(&lab), 0);
        leader.send(&mut lab, &sent, 0);
        has(&lab, &sent.commands, sent.id.index);
    }
}

#[test]
fn a_snapshot_for_which_a_follower_has_no_room_is_told_and_taken_later() {
    let sent = taken(&[b"one", b"two"]);
    let mut lab = Lab::new(1, 3, |_| ());
    let mut leader = Leader::new(&mut lab, 3, 6);
    let files = lab.site(1).files.clone();
    // For the first attempt when it begins, for the second in the middle.
    let full = Failure::Error(ErrorKind::StorageFull);
    files.fail(Operation::Create, "receive.tmp", 0, full);
    files.fail(Operation::Write, "receive.tmp", 1, full);
    for attempt in 1..=2 {
        let mut heard = leader.piece(&mut lab, sent.id, 0, &sent.bytes[..50]);
        heard.extend(leader.piece(&mut lab, sent.id, 50, &sent.bytes[50..]));
        assert!(heard.concat().contains("NoSpace"), "{attempt}: {heard:?}");
        let told = lab.told(1, "SnapshotFailed");
        assert!(
            told.len() == attempt && told[attempt - 1].contains("NoSpace"),
            "{told:?}"
        );
        has(&lab, &[], Index(0));
        assert_eq!(unfinished(&lab), 0);
    }
    leader.send(&mut lab, &sent, 0);
    has(&lab, &sent.commands, sent.id.index);
}

#[test]
fn snapshot_interrupted_chunk() {
    let (one, other) = (taken(&[b"one", b"two"]), taken(&[b"uno", b"due", b"tre"]));
    let half = 50;
    let mut lab = Lab::new(1, 3, |_| ());
    let mut leader = Leader::new(&mut lab, 3, 6);
    leader.piece(&mut lab, one.id, 0, &one.bytes[..half]);
    // The next leader has the same one: it goes on where that broke off.
    let mut next = Leader::new(&mut lab, 2, 7);
    assert_eq!(next.asks(&mut lab, one.id), half as u64);
    // The one after that has another one: nothing of the first is in it.
    leader.term = 8;
    let heard = leader.piece(&mut lab, other.id, half as u64, &other.bytes[half..half + 20]);
    assert!(heard.concat().contains("Received(0)"), "{heard:?}");
    leader.send(&mut lab, &other, 0);
    has(&lab, &other.commands, other.id.index);
    // And the same one, resumed.
    let mut lab = Lab::new(1, 3, |_| ());
    let mut leader = Leader::new(&mut lab, 3, 6);
    leader.piece(&mut lab, one.id, 0, &one.bytes[..half]);
    let mut next = Leader::new(&mut lab, 2, 7);
    next.send(&mut lab, &one, half);
    has(&lab, &one.commands, one.id.index);
}

#[test]
fn what_was_begun_twice_is_not_taken_for_what_was_written_the_first_time() {
    let (one, other) = (taken(&[b"one", b"two"]), taken(&[b"uno", b"due", b"tre"]));
    let mut lab = Lab::new(1, 3, |_| ());
    let mut leader = Leader::new(&mut lab, 3, 6);
    leader.piece(&mut lab, one.id, 0, b"");
    lab.site(1).is_stalled = true;
    leader.piece(&mut lab, one.id, 0, &one.bytes[..60]);
    leader.piece(&mut lab, other.id, 0, b"");
    // From its begin on, while what came the first time is not written.
    leader.piece(&mut lab, one.id, 0, &one.bytes[..20]);
    lab.site(1).unstall();
    assert_eq!(leader.asks(&mut lab, one.id), 20);
    leader.send(&mut lab, &one, 20);
    has(&lab, &one.commands, one.id.index);
}

/// Two leaders that contradict each other: one of them lies. The log would begin anew behind what was placed last.
#[test]
fn a_snapshot_that_is_shown_to_be_wrong_when_it_is_whole_is_found_by_no_restart() {
    let sent = taken(&[b"one", b"two", b"three"]);
    let mut lab = Lab::new(1, 3, |_| ());
    let mut leader = Leader::new(&mut lab, 3, 6);
    let last = sent.bytes.len() - 1;
    leader.piece(&mut lab, sent.id, 0, &sent.bytes[..last]);
    lab.site(1).is_saving_stalled = true;
    leader.piece(&mut lab, sent.id, last as u64, &sent.bytes[last..]);
    // The piece is written; what checks it waits.
    lab.site(1).do_one();
    let mut next = Leader::new(&mut lab, 2, 7);
    let noop = EntryRef {
        term: Term(7),
        kind: EntryKind::Noop,
        crc: 0,
        payload: b"",
    };
    let last = sent.id.index;
    let append = Append {
        prev_index: Index(0),
        prev_term: Term(0),
        commit: last,
        round: Round(1),
        entries: Entries::Lent(vec![noop; usize::try_from(last.0).expect("few")]),
    };
    next.say(&mut lab, Body::Append(append));
    assert_eq!(lab.node(1).status().commit, last);
    lab.site(1).unstall();
    lab.settle();
    let failed = lab.told(1, "SnapshotFailed").concat();
    assert!(failed.contains("it contradicts what is committed here"), "{failed}");
    assert!(lab.told(1, "SnapshotReceived").is_empty());
    let names = lab.files(1);
    assert!(!names.iter().any(|name| name.contains("snapshots/")), "{names:?}");
    lab.kill(1);
    lab.start(1, 3, kraft::protocols::Binary);
    let status = lab.node(1).status();
    assert_eq!((status.last, status.applied), (last, Index(0)), "the log stands");
}

#[test]
fn snapshot_older_than_commit() {
    let (old, new) = (taken(&[b"one"]), taken(&[b"one", b"two", b"three"]));
    let mut lab = Lab::new(1, 3, |_| ());
    let mut leader = Leader::new(&mut lab, 3, 6);
    leader.send(&mut lab, &new, 0);
    has(&lab, &new.commands, new.id.index);
    for piece in [&b""[..], &old.bytes[..50]] {
        let heard = leader.piece(&mut lab, old.id, 0, piece).concat();
        assert!(heard.contains(&format!("Matched(Index({}))", new.id.index)), "{heard}");
        assert!(!heard.contains("Received"), "{heard}");
    }
    has(&lab, &new.commands, new.id.index);
}

#[test]
fn a_snapshot_without_an_end_is_given_up_and_its_file_removed() {
    let sent = taken(&[b"one", b"two"]);
    let timeout = Duration::from_secs(1);
    let mut lab = Lab::new(1, 3, |config| config.snapshots.timeout = timeout);
    let mut leader = Leader::new(&mut lab, 3, 6);
    leader.piece(&mut lab, sent.id, 0, &sent.bytes[..50]);
    assert_eq!(unfinished(&lab), 1);
    lab.run_for(timeout * 5);
    assert_eq!(unfinished(&lab), 1, "another leader may have the same");
    lab.run_for(timeout * 2);
    assert_eq!(unfinished(&lab), 0);
    has(&lab, &[], Index(0));
}

#[test]
fn a_snapshot_whose_entries_came_meanwhile_is_given_up() {
    let sent = taken(&[b"one", b"two"]);
    let mut lab = Lab::new(1, 3, |_| ());
    let mut leader = Leader::new(&mut lab, 3, 6);
    leader.piece(&mut lab, sent.id, 0, &sent.bytes[..50]);
    assert_eq!(unfinished(&lab), 1);
    let noop = EntryRef {
        term: sent.id.term,
        kind: EntryKind::Noop,
        crc: 0,
        payload: b"",
    };
    let last = sent.id.index;
    let entries = vec![noop; usize::try_from(last.0).expect("few")];
    let append = Append {
        prev_index: Index(0),
        prev_term: Term(0),
        commit: last,
        round: Round(1),
        entries: Entries::Lent(entries),
    };
    leader.say(&mut lab, Body::Append(append));
    assert_eq!(lab.node(1).status().commit, last);
    assert_eq!(unfinished(&lab), 0);
}
