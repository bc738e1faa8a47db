//! What is asked: operations, keys and values.

use bytes::BytesMut;
use fastrand::Rng;

use crate::ctl::cli::{Bench, Op};
use crate::kv::{Command, Query, Reply};

/// Keys are `key` and nine digits: enough for every `--keys`, and of one length.
const KEY_BYTES: usize = 12;

/// Draws operations.
#[derive(Debug)]
pub(super) struct Workload {
    op: Op,
    read_share: f64,
    keys: u32,
    value: Vec<u8>,
    rng: Rng,
    buffer: BytesMut,
}

impl Workload {
    pub(super) fn new(options: &Bench) -> Self {
        let mut rng = Rng::with_seed(options.seed);
        let value = (0..options.value_size).map(|_| rng.alphanumeric() as u8).collect();
        Self {
            op: options.op,
            read_share: options.read_share,
            keys: options.keys,
            value,
            rng,
            buffer: BytesMut::new(),
        }
    }

    /// The next operation, at a random key.
    pub(super) fn draw(&mut self) -> Op {
        if self.read_share > 0.0 && self.rng.f64() < self.read_share {
            Op::Get
        } else {
            self.op
        }
    }

    /// The encoded command or query of an operation, at the key of that number or a random one.
    pub(super) fn encode(&mut self, op: Op, at: Option<u32>) -> &[u8] {
        let at = at.unwrap_or_else(|| self.rng.u32(..self.keys));
        let key = &key(at);
        let (value, out) = (&self.value[..], &mut self.buffer);
        out.clear();
        match op {
            Op::Put => Command::Put { key, value }.encode(out),
            Op::Del => Command::Delete { key }.encode(out),
            Op::Incr => {
                // Keys of its own: a put of the same run leaves no numbers.
                let key = &[&key[..], b"n"].concat();
                Command::Increment { key, by: 1 }.encode(out);
            }
            Op::Cas => Command::CompareAndSet {
                key,
                expected: None,
                value,
            }
            .encode(out),
            Op::Get => Query::Get { key }.encode(out),
        }
        &self.buffer
    }

    /// Whether the machine did what was asked. What it refused changed nothing.
    pub(super) fn is_done(reply: &[u8]) -> bool {
        !matches!(
            Reply::decode(reply),
            Err(_) | Ok(Reply::NotANumber | Reply::Overflow | Reply::Invalid)
        )
    }
}

fn key(at: u32) -> [u8; KEY_BYTES] {
    let mut key = *b"key000000000";
    let mut rest = at;
    for digit in key[3..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_of_one_length_and_ascend() {
        assert_eq!(&key(0), b"key000000000");
        assert_eq!(&key(42), b"key000000042");
        assert_eq!(&key(100_000_000 - 1), b"key099999999");
    }
}
