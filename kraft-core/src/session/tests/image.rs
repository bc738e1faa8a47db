//! What a snapshot keeps of sessions.

use std::io;

use fastrand::Rng;

use super::*;

fn written(image: &SessionsImage) -> Vec<u8> {
    let mut bytes = vec![];
    image.write(&mut bytes).expect("a vector takes everything");
    bytes
}

fn read(bytes: &[u8]) -> io::Result<SessionsImage> {
    let mut input = bytes;
    let image = SessionsImage::read(&mut input, &SMALL)?;
    assert_eq!(input, b"", "all of it was read");
    Ok(image)
}

/// A command or a retry of one, by whatever session.
fn step(table: &mut Table, rng: &mut Rng) -> (Applied, Vec<u8>) {
    let sessions: Vec<u64> = table.sessions.table.keys().map(|id| id.0).collect();
    if sessions.is_empty() || rng.u8(..8) == 0 {
        return table.entry(EntryKind::OpenSession, b"");
    }
    let session = sessions[rng.usize(..sessions.len())];
    let first_unanswered = table.sessions.table[&SessionId(session)].first_unanswered.0 + rng.u64(..2);
    let sequence = first_unanswered + rng.u64(..4);
    table.command(session, sequence, first_unanswered, &vec![9; rng.usize(..120)])
}

fn seed() -> u64 {
    let seed = std::env::var("KRAFT_SEED").map_or(7, |seed| seed.parse().expect("KRAFT_SEED is a number"));
    println!("KRAFT_SEED={seed}");
    seed
}

#[test]
fn a_restored_table_answers_as_the_one_that_it_is_of() {
    let mut rng = Rng::with_seed(seed());
    for _ in 0..100 {
        let mut one = Table::new(SMALL);
        for _ in 0..rng.usize(..60) {
            step(&mut one, &mut rng);
        }
        let (image, digest) = (one.sessions.image(), one.sessions.digest());
        let mut other = Table {
            sessions: Sessions::new(SMALL),
            machine: Counter::default(),
            index: one.index,
        };
        other.machine.restore(one.machine.image());
        // What was there before leaves no trace.
        other.sessions.apply(
            Index(1 << 40),
            EntryKind::OpenSession,
            b"",
            &mut other.machine,
            &mut BytesMut::new(),
        );

        let mut ahead = rng.clone();
        let replies: Vec<_> = (0..40).map(|_| step(&mut one, &mut ahead)).collect();
        // Written after the living table has gone on.
        let former = other.sessions.restore(read(&written(&image)).expect("it was written"));
        assert_eq!(former.len(), 1);
        assert_eq!(other.sessions.digest(), digest);
        other.check();
        let again: Vec<_> = (0..40).map(|_| step(&mut other, &mut rng)).collect();
        assert_eq!(again, replies);
        assert_eq!(written(&one.sessions.image()), written(&other.sessions.image()));
        one.check();
        other.check();
    }
}

#[test]
fn a_retry_after_a_restore_gets_the_same_reply() {
    let mut table = Table::new(SMALL);
    let session = table.open();
    let reply = table.command(session, 1, 1, b"once");
    table.command(session, 2, 1, &[0; 100]);
    let image = read(&written(&table.sessions.image())).expect("it was written");
    table.sessions.restore(SessionsImage::default());
    let expired = (Applied::Refused(Refusal::SessionExpired), vec![]);
    assert_eq!(table.command(session, 1, 1, b"once"), expired);
    table.sessions.restore(image);
    assert_eq!(table.command(session, 1, 1, b"once"), reply);
    assert_eq!(table.command(session, 2, 1, &[0; 100]), (Applied::Unknown, vec![]));
    assert_eq!(table.machine.0, 2);
}

#[test]
fn an_image_shares_what_was_not_used_since() {
    let mut table = Table::new(SMALL);
    let [idle, busy] = [table.open(), table.open()];
    let image = table.sessions.image();
    table.command(busy, 1, 1, b"");
    let (then, now) = (image.into_parts().0, &table.sessions.table);
    assert!(Arc::ptr_eq(&then[&SessionId(idle)], &now[&SessionId(idle)]));
    assert!(!Arc::ptr_eq(&then[&SessionId(busy)], &now[&SessionId(busy)]));
    assert_eq!(then[&SessionId(busy)].replies.len(), 0);
}

/// A table of one session, number by number: version, count, id, last_used, first_unanswered, replies.
fn one_session(replies: u32) -> Vec<u8> {
    let mut bytes = vec![1];
    bytes.put_u32_le(1);
    for number in [5, 7, 2_u64] {
        bytes.put_u64_le(number);
    }
    bytes.put_u32_le(replies);
    bytes
}

fn reply(sequence: u64, length: u32) -> Vec<u8> {
    let mut bytes = sequence.to_le_bytes().to_vec();
    bytes.put_u32_le(length);
    bytes
}

#[test]
fn a_written_table_is_as_the_layout_says() {
    let kept = [one_session(2), reply(2, 3), b"yes".into(), reply(9, u32::MAX)].concat();
    assert_eq!(written(&read(&kept).expect("as the layout says")), kept);
    assert_eq!(written(&SessionsImage::default()), [1, 0, 0, 0, 0]);
}

#[test]
fn a_table_that_cannot_be_is_refused_with_the_place() {
    #[track_caller]
    fn check(bytes: &[u8], expected: &str) {
        let error = read(bytes).expect_err(expected);
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert_eq!(error.to_string(), format!("the sessions, {expected}"));
    }
    let above =
        |name, limit| format!("{name} is {limit} here; limits of sessions are the same on every node of a cluster");
    let with = |at: usize, number: u64| {
        let mut bytes = one_session(0);
        bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
        bytes
    };
    check(b"", "byte 0: it ends, and 1 more should follow");
    check(b"\x02", "byte 1: version 2, and 1 is known");
    check(
        b"\x01\xff\xff\xff\xff",
        &format!("byte 5: 4294967295, and {}", above("sessions_max", 3)),
    );
    check(&with(5, 0), "byte 13: session 0 out of order");
    check(&with(13, 4), "byte 33: session 5 was not last used by entry 4");
    check(
        &with(21, 0),
        "byte 29: first_unanswered is 0, and sequences begin with 1",
    );
    check(&one_session(1), "byte 33: it ends, and 8 more should follow");
    check(
        &one_session(u32::MAX),
        &format!("byte 33: 4294967295, and {}", above("replies_max", 4)),
    );
    check(&[one_session(1), reply(1, 0)].concat(), "byte 41: reply 1 out of order");
    check(
        &[one_session(2), reply(3, 0), reply(3, 0)].concat(),
        "byte 53: reply 3 out of order",
    );
    check(
        &[one_session(1), reply(3, u32::MAX - 1)].concat(),
        &format!("byte 45: 4294967294, and {}", above("reply_bytes_max", 100)),
    );
    let mut twice = [one_session(0), one_session(0)[5..].to_vec()].concat();
    twice[1] = 2;
    check(&twice, "byte 41: session 5 out of order");
    twice[33] = 6;
    check(&twice, "byte 61: session 6 was not last used by entry 7");
}

#[test]
fn a_table_above_its_bytes_is_refused() {
    let limits = Limits {
        table_bytes_max: 2 * OVERHEAD_BYTES - 1,
        ..SMALL
    };
    let kept = [one_session(1), reply(2, 0)].concat();
    let error = SessionsImage::read(&mut &kept[..], &limits).expect_err("128 bytes count");
    assert!(
        error.to_string().contains("128, and table_bytes_max is 127 here"),
        "{error}"
    );
}

#[test]
fn whatever_bytes_are_read_end_as_a_table_or_an_error() {
    let mut rng = Rng::with_seed(seed());
    let mut table = Table::new(SMALL);
    for _ in 0..40 {
        step(&mut table, &mut rng);
    }
    let bytes = written(&table.sessions.image());
    for end in 0..bytes.len() {
        let error = read(&bytes[..end]).expect_err("it is cut");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
    for _ in 0..5000 {
        let mut flipped = bytes.clone();
        for _ in 0..rng.usize(1..4) {
            let at = rng.usize(..flipped.len());
            flipped[at] ^= 1 << rng.u32(..8);
        }
        let mut input = &flipped[..];
        let Ok(image) = SessionsImage::read(&mut input, &SMALL) else {
            continue;
        };
        assert_eq!(written(&image), flipped[..flipped.len() - input.len()]);
        table.sessions.restore(image);
        table.check();
    }
}

#[test]
fn sessions_and_machine_are_one_stream() {
    let mut table = Table::new(SMALL);
    let session = table.open();
    table.command(session, 1, 1, b"one");
    let image = StateImage {
        sessions: table.sessions.image(),
        machine: table.machine.image(),
    };
    let mut bytes = vec![];
    image.write(&mut bytes).expect("a vector takes everything");
    let read = StateImage::<[u8; 8]>::read(&mut &bytes[..], &SMALL).expect("it was written");
    assert_eq!(written(&read.sessions), written(&image.sessions));
    assert_eq!(read.machine, 1_u64.to_le_bytes());
    bytes.push(0);
    StateImage::<[u8; 8]>::read(&mut &bytes[..], &SMALL).expect_err("a byte too many");
}
