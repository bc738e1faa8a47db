//! Images of the map, at random points of random histories.

use bytes::BytesMut;
use fastrand::Rng;
use kraft_core::id::Index;
use kraft_core::machine::StateMachine;

use super::*;
use crate::kv::tests::seed;
use crate::kv::{Command, Kv, Limits};

fn step(kv: &mut Kv, rng: &mut Rng) -> BytesMut {
    let key = format!("{:0width$}", rng.u32(..300), width = if rng.bool() { 2 } else { 24 });
    let key = key.as_bytes();
    let value = vec![rng.u8(b'0'..=b'9'); rng.usize(..4)];
    let present = kv.get(key).map(<[u8]>::to_vec);
    let command = match rng.u8(..8) {
        0..4 => Command::Put { key, value: &value },
        4 | 5 => Command::Delete { key },
        6 => Command::CompareAndSet {
            key,
            expected: present.as_deref().filter(|_| rng.bool()),
            value: &value,
        },
        _ => Command::Increment {
            key,
            by: rng.i64(..1000),
        },
    };
    let (mut bytes, mut reply) = (BytesMut::new(), BytesMut::new());
    command.encode(&mut bytes);
    kv.apply(Index(1), &bytes, &mut reply);
    reply
}

fn written(image: &KvImage) -> Vec<u8> {
    let mut bytes = vec![];
    image.write(&mut bytes).expect("a vector takes everything");
    bytes
}

fn read(bytes: &[u8]) -> io::Result<KvImage> {
    KvImage::read(&mut &bytes[..])
}

#[test]
fn an_image_is_the_state_where_it_was_taken_whatever_follows() {
    let mut rng = Rng::with_seed(seed());
    for _ in 0..60 {
        let mut one = Kv::new(Limits::default());
        for _ in 0..rng.usize(..1500) {
            step(&mut one, &mut rng);
        }
        let (image, digest, bytes) = (one.image(), one.digest(), one.state_bytes());
        let mut ahead = rng.clone();
        let replies: Vec<_> = (0..300).map(|_| step(&mut one, &mut ahead)).collect();

        // Limits are a node's own, and no part of the state.
        let mut other = Kv::new(Limits {
            key_bytes_max: 1,
            value_bytes_max: 1,
            state_bytes_max: 1,
            scan_bytes_max: 1,
        });
        step(&mut other, &mut Rng::with_seed(1));
        let was = other.digest();
        let former = other.restore(read(&written(&image)).expect("it was written"));
        assert_eq!((other.digest(), other.state_bytes()), (digest, bytes));
        let again: Vec<_> = (0..300).map(|_| step(&mut other, &mut rng)).collect();
        assert_eq!(again, replies);
        assert_eq!(other.digest(), one.digest());
        assert_eq!(other.state_bytes(), one.state_bytes());
        assert_eq!(written(&other.image()), written(&one.image()));
        other.restore(former);
        assert_eq!(other.digest(), was);
    }
}

#[test]
fn an_image_is_written_elsewhere_while_the_map_changes() {
    let mut rng = Rng::with_seed(seed());
    let mut kv = Kv::new(Limits::default());
    let mut writers = vec![];
    for _ in 0..20 {
        for _ in 0..500 {
            step(&mut kv, &mut rng);
        }
        let (image, now) = (kv.image(), written(&kv.image()));
        writers.push((std::thread::spawn(move || written(&image)), now));
    }
    for (writer, expected) in writers {
        assert_eq!(writer.join().expect("it writes"), expected);
    }
}

fn entry(key: &[u8], value: &[u8]) -> Vec<u8> {
    [
        &(key.len() as u32).to_le_bytes(),
        &(value.len() as u32).to_le_bytes(),
        key,
        value,
    ]
    .concat()
}

fn head(count: u64) -> Vec<u8> {
    [&[1][..], &count.to_le_bytes()].concat()
}

#[test]
fn a_written_map_is_as_the_layout_says() {
    let bytes = [head(2), entry(b"a", b"one"), entry(b"b", b"")].concat();
    let image = read(&bytes).expect("as the layout says");
    assert_eq!((image.len(), image.bytes), (2, 64 + 4 + 64 + 1));
    assert_eq!(written(&image), bytes);
    assert_eq!(written(&KvImage::default()), head(0));
}

#[test]
fn a_map_that_cannot_be_is_refused_with_the_place() {
    #[track_caller]
    fn check(bytes: &[u8], expected: &str) {
        let error = read(bytes).expect_err(expected);
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert_eq!(error.to_string(), format!("the map, {expected}"));
    }
    let long = [&[0xff; 4][..], &[0; 4]].concat();
    let claimed = [&(1_u32 << 30).to_le_bytes()[..], &[0; 4], b"few"].concat();
    check(b"", "byte 0: it ends, and 1 more should follow");
    check(&[2], "byte 1: version 2, and 1 is known");
    check(&head(u64::MAX), "byte 9: it ends, and 4 more should follow");
    check(
        &[head(1), long].concat(),
        "byte 17: a key of 4294967295 bytes and a value of 0, and each has 1073741824 at most",
    );
    check(
        &[head(1), claimed].concat(),
        "byte 17: it ends, and 65536 more should follow",
    );
    check(
        &[head(2), entry(b"b", b""), entry(b"b", b"")].concat(),
        "byte 27: a key that is not above the one before",
    );
    check(&[head(0), vec![0]].concat(), "byte 9: bytes follow the last one");
}

#[test]
fn whatever_bytes_are_read_end_as_a_map_or_an_error() {
    let mut rng = Rng::with_seed(seed());
    let mut kv = Kv::new(Limits::default());
    for _ in 0..60 {
        step(&mut kv, &mut rng);
    }
    let bytes = written(&kv.image());
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
        if let Ok(image) = read(&flipped) {
            assert_eq!(written(&image), flipped);
        }
    }
}
