//! Logs that are not as they were written.

use super::*;
use crate::storage::files::Files as _;
use crate::storage::format::{HEADER_BYTES, Position, Record, SegmentHeader, segment_name};
use crate::storage::inspect::verify;
use crate::storage::ledger::Contradiction;
use crate::storage::survey::DamageKind;

const FIRST: &str = "0000000001.log";

/// Three batches; the third one carries the mark that the second one is durable. And where the third one begins.
fn three_batches() -> (MemFiles, usize) {
    let mut rig = Rig::new(small());
    rig.log.save(hard(2, 1));
    rig.write(1, &[b"one", b"two"]);
    rig.write(2, &[b"three"]);
    let third = end_of_log(&rig.files);
    rig.write(2, &[b"four", b"five"]);
    rig.files.crash(Loss::All);
    (rig.files, third)
}

fn end_of_log(files: &MemFiles) -> usize {
    let bytes = files.bytes(FIRST);
    (bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1).next_multiple_of(8)
}

#[test]
fn torn_tail_vs_corrupt_middle() {
    let (files, third) = three_batches();
    // The last batch is cut anywhere: what was before it is there.
    let torn = files.fork();
    torn.change(FIRST, |bytes| bytes[third + 40..].fill(0));
    let mut rig = Rig::open(torn, small());
    assert_eq!(rig.payloads(), [&b"one"[..], b"two", b"three"]);
    // Anything before it is damage.
    files.change(FIRST, |bytes| bytes[third - 40..third].fill(0));
    let damage = refused(&files, small());
    assert_eq!(file_name(&damage), FIRST);
    assert!(matches!(damage.kind, DamageKind::Bytes { .. }), "{damage}");
}

#[test]
fn what_is_cut_off_is_told_where_and_how_much() {
    let (files, third) = three_batches();
    assert_eq!(Rig::open(files.fork(), small()).log.torn(), []);
    let end = end_of_log(&files);
    let cut = |change: &dyn Fn(&mut Vec<u8>)| {
        let files = files.fork();
        files.change(FIRST, change);
        let torn = Rig::open(files.fork(), small()).log.torn().to_vec();
        let told: Vec<_> = torn.iter().map(|torn| (torn.offset as usize, torn.bytes)).collect();
        // What follows is no record, nor is what an earlier life has left. It is told once.
        let mut rig = Rig::open(files, small());
        rig.write(3, &[b"more"]);
        assert_eq!(rig.restart(Loss::All).log.torn(), []);
        told
    };
    // The mark of the third batch, the record of "four" and two bytes of it; the record of "five" alone; no record.
    let four = third + 32;
    assert_eq!(cut(&|bytes| bytes[four + 34..].fill(0)), [(four, 34)]);
    assert_eq!(cut(&|bytes| bytes.truncate(four + 34)), [(four, 34)]);
    assert_eq!(
        cut(&|bytes| bytes[third..four].fill(0)),
        [(third, (end - 4 - third) as u64)]
    );
    assert_eq!(cut(&|bytes| bytes[end..end + 9].fill(0xa5)), [(end, 9)]);
}

/// In a segment that is used again the records of its former life follow the last one: that is no torn write.
#[test]
fn what_a_segment_held_before_is_not_told_as_torn() {
    let mut rig = Rig::new(small());
    let mut stale_count = 0;
    for at in 0..60u8 {
        for part in 0..at % 13 {
            rig.write(1, &[&[at ^ part; 200]]);
        }
        rig.files.crash(Loss::All);
        let report = verify(&rig.files, None).unwrap();
        let last = report.verdict.unwrap().end.segment;
        let found = report.segments.iter().find(|segment| segment.number == last).unwrap();
        if found.header.unwrap().is_reused && !found.is_zero_behind && found.entry_count > 0 {
            stale_count += 1;
            // A write that is torn there is told: the rest of its record, and what is stale.
            let (files, name) = (rig.files.fork(), segment_name(last));
            files.rot(&name, found.end as usize - 4, 1);
            let rig = Rig::open(files, small());
            let [torn] = rig.log.torn() else {
                panic!("{:?} of {found:?}", rig.log.torn());
            };
            assert!(torn.offset < found.end && torn.bytes > 200, "{torn:?} of {found:?}");
        }
        rig = Rig::open(rig.files, small());
        assert_eq!(rig.log.torn(), [], "start {at}");
    }
    assert!(stale_count > 5, "{stale_count}");
}

#[test]
fn short_last_record() {
    let (files, third) = three_batches();
    for (last, expected) in [(third + 32 + 40, 4), (third + 32 + 35, 3), (third + 1, 3)] {
        let files = files.fork();
        files.change(FIRST, |bytes| bytes.truncate(last));
        let mut rig = Rig::open(files, small());
        assert_eq!(rig.payloads().len(), expected, "file cut at {last}");
    }
}

#[test]
fn every_truncation_point_of_the_last_batch_recovers() {
    let (files, third) = three_batches();
    let end = end_of_log(&files);
    let all: [&[u8]; 5] = [b"one", b"two", b"three", b"four", b"five"];
    for cut in third..end {
        for is_zeroed in [true, false] {
            let files = files.fork();
            files.change(FIRST, |bytes| match is_zeroed {
                true => bytes[cut..].fill(0),
                false => bytes.truncate(cut),
            });
            let mut rig = Rig::open(files, small());
            let payloads = rig.payloads();
            assert!(
                payloads.len() >= 3 && all[..payloads.len()] == payloads[..],
                "cut at {cut}"
            );
            assert_eq!(rig.recovered.hard, hard(2, 1));
            // And the log goes on.
            rig.write(3, &[b"more"]);
            let mut rig = rig.restart(Loss::All);
            assert_eq!(rig.payloads().last().unwrap(), b"more", "cut at {cut}");
        }
    }
}

#[test]
fn every_byte_flipped_below_the_mark_is_refused_naming_file_and_offset() {
    let (files, third) = three_batches();
    for at in 0..third {
        for bits in [0x01, 0x80, 0xff] {
            let files = files.fork();
            files.rot(FIRST, at, bits);
            let damage = refused(&files, small());
            assert_eq!(file_name(&damage), FIRST);
            let offset = usize::try_from(damage.offset).unwrap();
            assert!(
                offset <= at && at - offset < HEADER_BYTES as usize,
                "byte {at}: {damage}"
            );
            assert!(
                damage.to_string().contains(&format!("{FIRST}: byte {offset}")),
                "{damage}"
            );
        }
    }
}

#[test]
fn every_byte_flipped_in_the_last_batch_is_a_torn_tail() {
    let (files, third) = three_batches();
    for at in third..end_of_log(&files) {
        let files = files.fork();
        files.rot(FIRST, at, 0x40);
        let mut rig = Rig::open(files, small());
        assert!((3..5).contains(&rig.payloads().len()), "byte {at}");
    }
}

#[test]
fn misdirected_or_stale_block() {
    // A sector of the second segment lands in the first one; one of another node does; one lands further behind.
    let mut rig = Rig::new(small());
    for at in 0..60u8 {
        rig.write(1, &[&[at; 200]]);
    }
    assert!(rig.segments().len() > 2);
    rig.files.crash(Loss::All);
    let files = rig.files;
    let names = ["0000000001.log", "0000000002.log"];
    let [first, second] = names.map(|name| files.bytes(name));
    let mut other = Rig::new(small());
    let identity = LogIdentity {
        incarnation: Incarnation(4),
        ..IDENTITY
    };
    other.log = DiskLog::open(MemFiles::new(), identity, small()).unwrap().0;
    for block in [&second[1024..1536], &first[1536..2048]] {
        let files = files.fork();
        files.change(names[0], |bytes| bytes[1024..1536].copy_from_slice(block));
        let damage = refused(&files, small());
        assert_eq!(file_name(&damage), names[0]);
        assert!((512..1536).contains(&damage.offset), "{damage}");
    }
    // Two whole batches of the third segment at their own place in the second one, where as long ones stood: nothing but
    // the number of their segment tells them apart.
    let third = files.bytes("0000000003.log");
    let batch = 2 * 32 + 200;
    let whole = HEADER_BYTES as usize + batch..HEADER_BYTES as usize + 3 * batch;
    let misdirected = files.fork();
    misdirected.change(names[1], |bytes| {
        bytes[whole.clone()].copy_from_slice(&third[whole.clone()])
    });
    let damage = refused(&misdirected, small());
    assert_eq!(
        (file_name(&damage).as_str(), damage.offset),
        (names[1], whole.start as u64)
    );
    assert!(matches!(damage.kind, DamageKind::Bytes { .. }), "{damage}");
    // A whole segment under another's name.
    let swapped = files.fork();
    swapped.change(names[0], |bytes| bytes.clone_from(&second));
    assert_eq!(refused(&swapped, small()).kind, DamageKind::Foreign);
    // The log of another node.
    let error = DiskLog::open(files, identity, small()).unwrap_err();
    assert!(
        matches!(
            error,
            OpenError::Damaged(Damage {
                kind: DamageKind::Foreign,
                ..
            })
        ),
        "{error}"
    );
}

/// Puts a record behind the second batch, in place of the third.
#[track_caller]
fn check_record(record: Record, expected: DamageKind) {
    let (files, third) = three_batches();
    let at = u32::try_from(third).unwrap();
    files.change(FIRST, |bytes| {
        bytes[third..].fill(0);
        bytes[third..third + 32].copy_from_slice(&record.encode(IDENTITY.seed(1), at));
    });
    let damage = refused(&files, small());
    assert_eq!((damage.kind, damage.offset), (expected, third as u64));
}

#[test]
fn sound_records_that_contradict_each_other_are_refused_by_name() {
    let noop = |index, term| Record::Entry {
        index: Index(index),
        term: Term(term),
        kind: EntryKind::Noop,
        length: 0,
        crc: 0,
    };
    let index = |expected, found| {
        DamageKind::Contradiction(Contradiction::Index {
            expected: Index(expected),
            found: Index(found),
        })
    };
    let term_back = |before, found| {
        DamageKind::Contradiction(Contradiction::TermBack {
            before: Term(before),
            found: Term(found),
        })
    };
    check_record(noop(6, 2), index(4, 6));
    check_record(noop(3, 2), index(4, 3));
    check_record(noop(4, 1), term_back(2, 1));
    check_record(Record::HardState(hard(1, 0)), term_back(2, 1));
    check_record(Record::Truncate(Index(9)), index(3, 9));
    let second_vote = Contradiction::SecondVote {
        term: Term(2),
        before: NodeId(1),
        found: NodeId(3),
    };
    check_record(Record::HardState(hard(2, 3)), DamageKind::Contradiction(second_vote));
}

#[test]
fn records_and_segments_of_a_later_version_are_refused() {
    let (files, third) = three_batches();
    let unknown = files.fork();
    unknown.change(FIRST, |bytes| {
        let at = u32::try_from(third).unwrap();
        let mut record = Record::Mark(Position::default()).encode(IDENTITY.seed(1), at);
        record[4] = 99;
        let crc = crc32c::crc32c_append(IDENTITY.seed(1) ^ at, &record[4..]);
        record[..4].copy_from_slice(&crc.to_le_bytes());
        bytes[third..third + 32].copy_from_slice(&record);
    });
    assert_eq!(refused(&unknown, small()).kind, DamageKind::Kind(99));
    files.change(FIRST, |bytes| {
        bytes[8] = 2;
        let crc = crc32c::crc32c(&bytes[..508]);
        bytes[508..512].copy_from_slice(&crc.to_le_bytes());
    });
    assert_eq!(refused(&files, small()).kind, DamageKind::Version(2));
}

#[test]
fn a_missing_segment_is_refused() {
    let mut rig = Rig::new(small());
    for at in 0..60u8 {
        rig.write(1, &[&[at; 200]]);
    }
    rig.files.crash(Loss::All);
    for name in ["0000000001.log", "0000000002.log"] {
        let files = rig.files.fork();
        use crate::storage::Files;
        files.remove(name).unwrap();
        let damage = refused(&files, small());
        assert_eq!((file_name(&damage).as_str(), damage.kind), (name, DamageKind::Missing));
    }
}

#[test]
fn a_stray_segment_that_leaves_no_numbers_is_refused() {
    use crate::storage::Files;
    let (files, _) = three_batches();
    for name in ["4294967295.log", "4294967294.log", "2147483648.log"] {
        let files = files.fork();
        files.create(name).unwrap();
        let damage = refused(&files, small());
        assert_eq!((file_name(&damage).as_str(), damage.kind), (name, DamageKind::Number));
    }
    files.create("2147483647.log").unwrap();
    let mut rig = Rig::open(files, small());
    rig.write(3, &[b"more"]);
}

/// Its sums are right, and it would be opened once: the next start, which goes by what the first one wrote, would refuse it.
#[test]
fn a_segment_that_follows_itself_or_a_later_one_is_refused() {
    let (files, _) = three_batches();
    let header = SegmentHeader::decode(&files.bytes(FIRST)).unwrap();
    for segment in [1, 2, u32::MAX] {
        let follows = Position { segment, offset: 512 };
        let files = files.fork();
        files.change(FIRST, |bytes| {
            bytes[..512].copy_from_slice(&SegmentHeader { follows, ..header }.encode());
        });
        let damage = refused(&files, small());
        assert_eq!((file_name(&damage).as_str(), damage.offset), (FIRST, 0));
        assert_eq!(damage.kind, DamageKind::Follows(follows));
    }
}

/// Its sums are right; no index follows the one that it says it begins behind.
#[test]
fn a_segment_behind_the_last_of_all_indexes_is_refused() {
    let mut rig = Rig::new(small());
    rig.write(1, &[b"one"]);
    let rig = rig.restart(Loss::All);
    rig.files.crash(Loss::All);
    let name = rig.segments().pop().unwrap();
    let header = SegmentHeader::decode(&rig.files.bytes(&name)).unwrap();
    let base_index = Index(u64::MAX);
    let forged = SegmentHeader {
        number: header.number + 1,
        follows: Position {
            segment: header.number,
            offset: HEADER_BYTES,
        },
        base_index,
        ..header
    };
    let next = segment_name(forged.number);
    rig.files.create(&next).unwrap();
    rig.files.sync_folder().unwrap();
    rig.files.change(&next, |bytes| *bytes = forged.encode().to_vec());
    let damage = refused(&rig.files, small());
    assert_eq!((file_name(&damage), damage.offset), (next, 0));
    assert!(
        matches!(damage.kind, DamageKind::Contradiction(Contradiction::Index { found, .. }) if found == base_index),
        "{damage}"
    );
}

#[test]
fn a_segment_whose_header_is_damaged_is_refused() {
    let mut rig = Rig::new(small());
    while rig.segments().len() < 4 {
        rig.write(1, &[&[1; 200]]);
    }
    // The last one is seen to have been synced when a second batch says so.
    rig.write(1, &[b"a"]);
    rig.write(1, &[b"b"]);
    rig.files.crash(Loss::All);
    for name in rig.segments() {
        if SegmentHeader::decode(&rig.files.bytes(&name)).is_err() {
            // Prepared, and not used.
            continue;
        }
        let files = rig.files.fork();
        files.rot(&name, 100, 1);
        let damage = refused(&files, small());
        assert_eq!((file_name(&damage), damage.kind), (name, DamageKind::Header));
    }
}

#[test]
fn arbitrary_bytes_are_never_a_panic() {
    let mut chance = fastrand::Rng::with_seed(7);
    let (files, _) = three_batches();
    for _ in 0..2000 {
        let files = files.fork();
        files.change(FIRST, |bytes| {
            for _ in 0..chance.usize(1..8) {
                let at = chance.usize(..bytes.len().min(900));
                let span = chance.usize(1..40).min(bytes.len() - at);
                bytes[at..at + span].fill_with(|| chance.u8(..));
            }
            if chance.bool() {
                bytes.truncate(chance.usize(..900));
            }
        });
        match Rig::try_open(files, small()) {
            Ok(mut rig) => drop(rig.payloads()),
            Err(OpenError::Damaged(_)) => {}
            Err(other) => panic!("{other}"),
        }
    }
}
