//! The map itself.

use std::ops::Bound;

use bytes::BytesMut;
use kraft_core::id::Index;
use kraft_core::machine::{Digest, Refused, StateMachine};
use kraft_core::message::Refusal;

use super::command::{Command, Query};
use super::fields::DecodeError;
use super::image::KvImage;
use super::map::Map;
use super::reply::{PageWriter, Reply};

/// What an entry counts on top of its key and value: about what the map and the allocator take for it.
const ENTRY_OVERHEAD_BYTES: u64 = 64;

/// What a number takes at most, in decimal text: that of `i64::MIN`.
const NUMBER_BYTES_MAX: u64 = 20;

/// What the machine takes. Each node judges by its own, before it proposes; what is committed is applied whatever
/// they are, so nodes whose limits differ still hold the same state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a key; a longer one is refused before it is proposed.
    pub key_bytes_max: usize,
    /// Bytes of a value; a longer one is refused before it is proposed.
    pub value_bytes_max: usize,
    /// Bytes of the whole state, 64 counted for each entry beside its key and value; what could grow it beyond is
    /// refused with [`Refusal::NoSpace`] before it is proposed. The leader judges by the state as it has applied it,
    /// so the state may exceed this by what was proposed and not yet applied.
    pub state_bytes_max: u64,
    /// Bytes of a scan's reply; at least one entry is in it even so.
    pub scan_bytes_max: usize,
}

impl Default for Limits {
    /// Keys of 4 KiB, values of 128 KiB, a state of 1 GiB, scan replies of 64 KiB.
    fn default() -> Self {
        Self {
            key_bytes_max: 4 << 10,
            value_bytes_max: 128 << 10,
            state_bytes_max: 1 << 30,
            scan_bytes_max: 64 << 10,
        }
    }
}

/// The key-value state machine: an ordered map in memory, whose image takes no time.
///
/// Invariant: `bytes` is the sum over all entries of key, value and overhead.
#[derive(Debug, Default)]
pub struct Kv {
    limits: Limits,
    map: Map,
    bytes: u64,
}

impl Kv {
    /// An empty map.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.map.len() == 0
    }

    /// Bytes that count against [`Limits::state_bytes_max`].
    #[must_use]
    pub fn state_bytes(&self) -> u64 {
        self.bytes
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.map.get(key)
    }

    fn execute<'a>(&'a mut self, command: &Command<'_>) -> Reply<'a> {
        match *command {
            Command::Put { key, value } => {
                self.set(key, value);
                Reply::Done
            }
            Command::Delete { key } => match self.map.remove(key) {
                Some(value_bytes) => {
                    self.bytes -= entry_bytes(key.len(), value_bytes);
                    Reply::Done
                }
                None => Reply::NotFound,
            },
            Command::CompareAndSet { key, expected, value } => {
                if self.map.get(key) == expected {
                    self.set(key, value);
                    Reply::Done
                } else {
                    Reply::Mismatch(self.map.get(key))
                }
            }
            Command::Increment { key, by } => self.increment(key, by),
        }
    }

    fn set(&mut self, key: &[u8], value: &[u8]) {
        if let Some(old) = self.map.insert(key, value) {
            self.bytes -= entry_bytes(key.len(), old);
        }
        self.bytes += entry_bytes(key.len(), value.len());
    }

    fn increment<'a>(&mut self, key: &[u8], by: i64) -> Reply<'a> {
        let old = match self.map.get(key) {
            None => 0,
            Some(value) => match parse_number(value) {
                Some(number) => number,
                None => return Reply::NotANumber,
            },
        };
        let Some(sum) = old.checked_add(by) else {
            return Reply::Overflow;
        };
        self.set(key, sum.to_string().as_bytes());
        Reply::Number(sum)
    }

    fn scan(&self, prefix: &[u8], after: &[u8], limit: u32, out: &mut BytesMut) {
        // Below the prefix `after` says nothing; above the last key with the prefix the range is empty.
        let start = if after < prefix {
            Bound::Included(prefix)
        } else {
            Bound::Excluded(after)
        };
        let mut page = PageWriter::new(out);
        let mut more = false;
        let limit = if limit == 0 { u32::MAX } else { limit };
        for (key, value) in self.map.range(start) {
            if !key.starts_with(prefix) {
                break;
            }
            let len = page.len() + 8 + key.len() + value.len();
            if page.count() == limit || (page.count() > 0 && len > self.limits.scan_bytes_max) {
                more = true;
                break;
            }
            page.put(key, value);
        }
        page.finish(more);
    }

    fn check_key(&self, key: &[u8]) -> Result<(), Refused> {
        if key.is_empty() {
            return Err(Refused {
                why: Refusal::Invalid,
                detail: "the key is empty; a key has at least one byte".into(),
            });
        }
        within("key_bytes_max", self.limits.key_bytes_max, "the key", key)
    }

    fn check_value(&self, value: &[u8]) -> Result<(), Refused> {
        within("value_bytes_max", self.limits.value_bytes_max, "the value", value)
    }

    /// Whether the state may take a value of `value_bytes` at `key`. What does not grow it is taken however large it
    /// is.
    fn check_growth(&self, key: &[u8], value_bytes: u64) -> Result<(), Refused> {
        let bytes = match self.map.get(key) {
            Some(old) => self.bytes - old.len() as u64 + value_bytes,
            None => self.bytes + entry_bytes(key.len(), 0) + value_bytes,
        };
        let limit = self.limits.state_bytes_max;
        if bytes <= limit || bytes <= self.bytes {
            return Ok(());
        }
        Err(Refused {
            why: Refusal::NoSpace,
            detail: format!("the state could grow to {bytes} bytes, and state_bytes_max is {limit}"),
        })
    }
}

impl StateMachine for Kv {
    type Image = KvImage;

    fn check(&self, command: &[u8]) -> Result<(), Refused> {
        let command = Command::decode(command).map_err(invalid)?;
        self.check_key(command.key())?;
        // Proposals on the way may change what is there, so a condition is taken to hold and a sum to be the longest.
        match command {
            Command::Put { key, value } => {
                self.check_value(value)?;
                self.check_growth(key, value.len() as u64)
            }
            Command::CompareAndSet { key, expected, value } => {
                self.check_value(expected.unwrap_or_default())?;
                self.check_value(value)?;
                self.check_growth(key, value.len() as u64)
            }
            Command::Increment { key, .. } => self.check_growth(key, NUMBER_BYTES_MAX),
            Command::Delete { .. } => Ok(()),
        }
    }

    fn apply(&mut self, _index: Index, command: &[u8], reply: &mut BytesMut) {
        match Command::decode(command) {
            Ok(command) => self.execute(&command).encode(reply),
            Err(_) => Reply::Invalid.encode(reply),
        }
    }

    fn read(&self, query: &[u8], reply: &mut BytesMut) -> Result<(), Refused> {
        match Query::decode(query).map_err(invalid)? {
            Query::Get { key } => {
                self.check_key(key)?;
                self.get(key).map_or(Reply::NotFound, Reply::Value).encode(reply);
            }
            Query::Scan { prefix, after, limit } => {
                within("key_bytes_max", self.limits.key_bytes_max, "the prefix", prefix)?;
                self.scan(prefix, after, limit, reply);
            }
        }
        Ok(())
    }

    fn image(&self) -> KvImage {
        KvImage {
            map: self.map.clone(),
            bytes: self.bytes,
        }
    }

    fn restore(&mut self, image: KvImage) -> KvImage {
        KvImage {
            map: std::mem::replace(&mut self.map, image.map),
            bytes: std::mem::replace(&mut self.bytes, image.bytes),
        }
    }

    fn digest(&self) -> u64 {
        let mut digest = Digest::default();
        for (key, value) in self.map.iter() {
            digest.bytes(key);
            digest.bytes(value);
        }
        digest.finish()
    }
}

pub(super) fn entry_bytes(key_bytes: usize, value_bytes: usize) -> u64 {
    key_bytes as u64 + value_bytes as u64 + ENTRY_OVERHEAD_BYTES
}

fn parse_number(value: &[u8]) -> Option<i64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

fn invalid(error: DecodeError) -> Refused {
    Refused {
        why: Refusal::Invalid,
        detail: error.to_string(),
    }
}

fn within(name: &str, limit: usize, what: &str, bytes: &[u8]) -> Result<(), Refused> {
    if bytes.len() <= limit {
        return Ok(());
    }
    Err(Refused {
        why: Refusal::TooLarge,
        detail: format!("{what} has {} bytes, and {name} is {limit}", bytes.len()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Limits = Limits {
        key_bytes_max: 8,
        value_bytes_max: 100,
        state_bytes_max: 300,
        scan_bytes_max: 64,
    };

    fn command(command: &Command<'_>) -> BytesMut {
        let mut bytes = BytesMut::new();
        command.encode(&mut bytes);
        bytes
    }

    #[track_caller]
    fn apply(kv: &mut Kv, what: Command<'_>, expected: Reply<'_>) {
        let mut reply = BytesMut::new();
        kv.apply(Index(1), &command(&what), &mut reply);
        assert_eq!(Reply::decode(&reply), Ok(expected), "{what:?}");
        let bytes: u64 = kv
            .map
            .iter()
            .map(|(key, value)| entry_bytes(key.len(), value.len()))
            .sum();
        assert_eq!(bytes, kv.state_bytes());
    }

    fn put<'a>(key: &'a [u8], value: &'a [u8]) -> Command<'a> {
        Command::Put { key, value }
    }

    fn read(kv: &Kv, query: &Query<'_>) -> Result<Vec<u8>, Refused> {
        let (mut bytes, mut reply) = (BytesMut::new(), BytesMut::new());
        query.encode(&mut bytes);
        kv.read(&bytes, &mut reply).map(|()| reply.to_vec())
    }

    #[test]
    fn what_is_put_is_read_until_it_is_deleted() {
        let mut kv = Kv::new(SMALL);
        apply(&mut kv, put(b"k", b"one"), Reply::Done);
        apply(&mut kv, put(b"k", b"three"), Reply::Done);
        let get = Query::Get { key: b"k" };
        assert_eq!(Reply::decode(&read(&kv, &get).unwrap()), Ok(Reply::Value(b"three")));
        apply(&mut kv, Command::Delete { key: b"k" }, Reply::Done);
        apply(&mut kv, Command::Delete { key: b"k" }, Reply::NotFound);
        assert_eq!(Reply::decode(&read(&kv, &get).unwrap()), Ok(Reply::NotFound));
        assert_eq!(kv.state_bytes(), 0);
    }

    #[test]
    fn compare_and_set_sets_only_what_was_expected() {
        let mut kv = Kv::new(SMALL);
        let cas = |expected, value| Command::CompareAndSet {
            key: b"k",
            expected,
            value,
        };
        apply(&mut kv, cas(Some(b"x"), b"1"), Reply::Mismatch(None));
        apply(&mut kv, cas(None, b"1"), Reply::Done);
        apply(&mut kv, cas(None, b"2"), Reply::Mismatch(Some(b"1")));
        apply(&mut kv, cas(Some(b"1"), b"2"), Reply::Done);
        assert_eq!(kv.get(b"k"), Some(&b"2"[..]));
    }

    #[test]
    fn increment_counts_in_decimal_text() {
        let mut kv = Kv::new(SMALL);
        let by = |by| Command::Increment { key: b"n", by };
        apply(&mut kv, by(5), Reply::Number(5));
        apply(&mut kv, by(-7), Reply::Number(-2));
        assert_eq!(kv.get(b"n"), Some(&b"-2"[..]));
        apply(&mut kv, put(b"n", i64::MAX.to_string().as_bytes()), Reply::Done);
        apply(&mut kv, by(1), Reply::Overflow);
        apply(&mut kv, put(b"n", b"seven"), Reply::Done);
        apply(&mut kv, by(1), Reply::NotANumber);
        assert_eq!(kv.get(b"n"), Some(&b"seven"[..]));
    }

    #[test]
    fn above_state_bytes_max_growth_is_refused_and_shrinking_is_not() {
        let mut kv = Kv::new(SMALL);
        apply(&mut kv, put(b"a", &[0; 85]), Reply::Done);
        apply(&mut kv, put(b"b", &[0; 85]), Reply::Done);
        assert_eq!(kv.state_bytes(), 300);
        let cas = |key, value| Command::CompareAndSet {
            key,
            expected: Some(b"x"),
            value,
        };
        let by_one = |key| Command::Increment { key, by: 1 };
        for (what, bytes) in [
            (put(b"c", b""), 365),
            (put(b"a", &[0; 86]), 301),
            (cas(b"a", &[0; 86]), 301),
            (cas(b"c", b""), 365),
            (by_one(b"n"), 385),
        ] {
            let refused = kv.check(&command(&what)).expect_err("growth above the limit");
            assert_eq!(refused.why, Refusal::NoSpace, "{what:?}");
            let detail = format!("the state could grow to {bytes} bytes, and state_bytes_max is 300");
            assert_eq!(refused.detail, detail, "{what:?}");
        }
        let take = |kv: &mut Kv, what| {
            assert_eq!(kv.check(&command(&what)), Ok(()), "{what:?}");
            apply(kv, what, Reply::Done);
        };
        assert_eq!(kv.check(&command(&by_one(b"a"))), Ok(()), "a longer value gives way");
        assert_eq!(kv.check(&command(&cas(b"a", &[0; 85]))), Ok(()));
        take(&mut kv, put(b"a", &[1; 85]));
        take(&mut kv, put(b"a", b""));
        take(&mut kv, put(b"c", b""));
        assert_eq!(kv.len(), 3);
        kv.limits.state_bytes_max = 100;
        take(&mut kv, put(b"b", &[0; 84]));
        take(&mut kv, Command::Delete { key: b"b" });
    }

    #[test]
    fn machines_with_unlike_limits_hold_the_same_state() {
        let mut wide = Kv::new(Limits::default());
        let mut tight = Kv::new(Limits {
            key_bytes_max: 1,
            value_bytes_max: 1,
            state_bytes_max: 1,
            scan_bytes_max: 1,
        });
        let cas = Command::CompareAndSet {
            key: b"longer",
            expected: Some(b"value"),
            value: b"another value",
        };
        for what in [
            put(b"longer", b"value"),
            put(b"a", &[0; 200]),
            cas,
            cas,
            Command::Increment { key: b"n", by: 1000 },
            Command::Increment { key: b"a", by: 1 },
            put(b"a", b""),
            Command::Delete { key: b"b" },
        ] {
            let (mut one, mut other) = (BytesMut::new(), BytesMut::new());
            wide.apply(Index(1), &command(&what), &mut one);
            tight.apply(Index(1), &command(&what), &mut other);
            assert_eq!(one, other, "{what:?}");
            assert_eq!(wide.digest(), tight.digest(), "{what:?}");
            assert_eq!(wide.state_bytes(), tight.state_bytes(), "{what:?}");
        }
        assert_eq!(tight.len(), 3);
    }

    #[test]
    fn limits_are_refused_by_their_name() {
        let kv = Kv::new(SMALL);
        let long = [b'x'; 101];
        let refused = |what| kv.check(&command(&what)).expect_err("above a limit");
        let key = refused(put(&long[..9], b""));
        assert_eq!(
            (key.why, key.detail.as_str()),
            (Refusal::TooLarge, "the key has 9 bytes, and key_bytes_max is 8")
        );
        let value = refused(put(b"k", &long));
        assert_eq!(value.detail, "the value has 101 bytes, and value_bytes_max is 100");
        let expected = refused(Command::CompareAndSet {
            key: b"k",
            expected: Some(&long),
            value: b"",
        });
        assert_eq!(expected.why, Refusal::TooLarge);
        assert_eq!(refused(put(b"", b"")).why, Refusal::Invalid);
        assert_eq!(kv.check(b"GET / HTTP/1.1").expect_err("foreign").why, Refusal::Invalid);
        assert_eq!(kv.check(&command(&put(b"12345678", &long[..100]))), Ok(()));
        assert_eq!(
            read(&kv, &Query::Get { key: &long }).expect_err("long").why,
            Refusal::TooLarge
        );
    }

    #[test]
    fn a_command_that_cannot_be_read_is_a_reply() {
        let mut kv = Kv::new(SMALL);
        let mut reply = BytesMut::new();
        kv.apply(Index(1), b"\x09\x01", &mut reply);
        assert_eq!(Reply::decode(&reply), Ok(Reply::Invalid));
    }

    #[test]
    fn pages_of_a_scan_give_every_key_of_the_prefix_once() {
        let mut kv = Kv::new(Limits {
            scan_bytes_max: 64,
            ..Limits::default()
        });
        for key in ["a", "p", "p1", "p2", "p3", "p\u{ff}", "q"] {
            apply(&mut kv, put(key.as_bytes(), b"some bytes"), Reply::Done);
        }
        apply(&mut kv, put(b"p4", &[7; 1000]), Reply::Done);
        let (mut after, mut keys, mut pages) = (vec![], vec![], 0);
        loop {
            let scan = Query::Scan {
                prefix: b"p",
                after: &after,
                limit: 0,
            };
            let bytes = read(&kv, &scan).unwrap();
            let Ok(Reply::Entries(page)) = Reply::decode(&bytes) else {
                panic!("a page was expected");
            };
            assert!(bytes.len() <= 64 || page.len() == 1);
            keys.extend(page.iter().map(|(key, _)| String::from_utf8(key.to_vec()).unwrap()));
            pages += 1;
            if !page.more {
                break;
            }
            after = page.iter().last().expect("a page has an entry").0.to_vec();
        }
        assert_eq!(keys, ["p", "p1", "p2", "p3", "p4", "p\u{ff}"]);
        assert!(pages > 2);
    }

    #[test]
    fn a_scan_keeps_to_its_limit_and_begins_at_its_prefix() {
        let mut kv = Kv::new(Limits::default());
        for key in [b"a", b"b", b"c"] {
            apply(&mut kv, put(key, b""), Reply::Done);
        }
        let page = |prefix: &'static [u8], after: &'static [u8], limit| {
            let bytes = read(&kv, &Query::Scan { prefix, after, limit }).unwrap();
            let Ok(Reply::Entries(page)) = Reply::decode(&bytes) else {
                panic!("a page was expected");
            };
            let keys: Vec<u8> = page.iter().map(|(key, _)| key[0]).collect();
            (keys, page.more)
        };
        assert_eq!(page(b"", b"", 2), (b"ab".to_vec(), true));
        assert_eq!(page(b"", b"b", 2), (b"c".to_vec(), false));
        assert_eq!(page(b"", b"", 3), (b"abc".to_vec(), false));
        assert_eq!(page(b"b", b"a", 3), (b"b".to_vec(), false));
        assert_eq!(page(b"b", b"zz", 3), (vec![], false));
    }

    #[test]
    fn digests_tell_states_apart() {
        let state = |pairs: &[(&str, &str)]| {
            let mut kv = Kv::new(SMALL);
            for (key, value) in pairs {
                apply(&mut kv, put(key.as_bytes(), value.as_bytes()), Reply::Done);
            }
            kv.digest()
        };
        assert_eq!(state(&[("a", "1"), ("b", "2")]), state(&[("b", "2"), ("a", "1")]));
        assert_ne!(state(&[("a", "1")]), state(&[("a1", "")]));
    }
}
