//! What people are told of a log.

use super::*;
use crate::storage::format::Record;
use crate::storage::inspect::{Dumped, dump, verify};

#[test]
fn verify_tells_sound_torn_and_damaged_apart_and_touches_nothing() {
    let mut rig = Rig::new(small());
    rig.log.save(hard(2, 1));
    for at in 0..30u8 {
        rig.write(2, &[&[at; 300]]);
    }
    rig.files.crash(Loss::All);
    let files = rig.files;
    let before = files.content();
    let report = verify(&files, Some(IDENTITY)).unwrap();
    let verdict = report.verdict.as_ref().unwrap();
    assert_eq!(
        (verdict.recovered.last, verdict.recovered.hard, verdict.torn.len()),
        (Index(30), hard(2, 1), 0)
    );
    assert_eq!(verdict.synced_through.segment, verdict.end.segment);
    assert_eq!(
        report.segments.iter().map(|segment| segment.entry_count).sum::<u64>(),
        30
    );
    assert_eq!(report.segments[0].entries.unwrap().0, Index(1));
    assert!(
        report.to_string().contains("sound: entries 1-30, term 2, vote 1"),
        "{report}"
    );

    let end = verdict.end;
    let torn = files.fork();
    let name = crate::storage::format::segment_name(end.segment);
    torn.rot(&name, end.offset as usize - 20, 1);
    let report = verify(&torn, None).unwrap();
    let verdict = report.verdict.as_ref().unwrap();
    assert_eq!(verdict.recovered.last, Index(29));
    let [cut] = &verdict.torn[..] else {
        panic!("{verdict:?}");
    };
    // A record of 32 bytes and its payload, padded with four zeros.
    assert_eq!((cut.offset, cut.bytes), (end.offset - 336, 332));
    assert!(
        report.to_string().contains(&format!(
            "{name}: byte {}: 332 bytes of a write that was cut short",
            cut.offset
        )),
        "{report}"
    );

    let damaged = files.fork();
    damaged.rot("0000000001.log", 700, 1);
    let report = verify(&damaged, None).unwrap();
    assert!(report.verdict.is_err());
    assert!(report.to_string().contains("0000000001.log: byte 6"), "{report}");
    assert_eq!(files.content(), before);
}

#[test]
fn dump_hands_out_every_record_in_the_order_of_the_bytes() {
    let mut rig = Rig::new(small());
    rig.log.save(hard(2, 1));
    rig.write(2, &[b"a", b"bc"]);
    rig.truncate(2);
    rig.sync();
    let mut lines = Vec::new();
    let mut records = Vec::new();
    dump(&rig.files, None, |dumped| {
        lines.push(dumped.to_string());
        if let Dumped::Record(_, record) = dumped {
            records.push(record);
        }
    })
    .unwrap();
    assert!(
        lines[0].starts_with("1: segment of cluster 1, node 2, incarnation 0000000000000003"),
        "{lines:#?}"
    );
    assert!(matches!(
        records[..],
        [
            Record::Mark(_),
            Record::Mark(_),
            Record::HardState(_),
            Record::Entry { .. },
            Record::Entry { length: 2, .. },
            Record::Mark(_),
            Record::Truncate(Index(2)),
        ]
    ));
    assert!(lines.last().unwrap().ends_with("zeros"), "{lines:#?}");
}

#[test]
fn a_folder_without_a_log_is_an_error() {
    assert!(verify(&MemFiles::new(), None).is_err());
    assert!(dump(&MemFiles::new(), None, |_| {}).is_err());
}
