//! A wire format of one's own for Kraft, complete and small: every field is a number, a length and a value.
//!
//! It uses what `kraft-protocols` has for formats of others: the envelope, and the fields of messages by their numbers.
//! `tests/suite.rs` has it judged, `docs/custom-protocols.md` goes through it.
//!
//! ```text
//! 0      1 number   of the field, as protocols/schema/kraft.proto has it
//! 1      4 length   of the value, little-endian
//! 5        value    numbers little-endian without zeros at their end, texts, payloads; of entries and members their fields
//! ```

#![forbid(unsafe_code)]
#![cfg_attr(doctest, doc = include_str!("../../../../docs/custom-protocols.md"))]

use kraft_core::handshake::Kind;
use kraft_core::message::{Body, Entries, EntryRef, Message};
use kraft_core::outbox::Outbox;
use kraft_core::protocol::{DecodeError, Decoded, EncodeError, Limits, Protocol};
use kraft_protocols::TEXT_MAX;
use kraft_protocols::frame::{self, HEADER, Opened};
use kraft_protocols::parts::{
    ENTRY, Field, Holds, MEMBER, MEMBERS_MAX, Offsets, Received, Record, SLOTS, Writer, fields, write,
};

/// The number of the format in the envelope. From 128 on they are everybody's own.
pub const FORMAT: u8 = 200;

/// Bytes of a field besides its value.
const HEAD: usize = 5;

/// The format.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tagged;

impl Protocol for Tagged {
    fn encode(&self, message: &Message<'_>, frame_max: usize, out: &mut Outbox) -> Result<(), EncodeError> {
        let fields = fields(Kind::of(&message.body));
        write(FORMAT, message, frame_max, out, |writer| {
            put_fields(&Record::of(message), fields, writer);
            // Lists are the last fields of their messages.
            let list = fields.last().map_or(0, |field| field.number);
            match &message.body {
                Body::Append(append) => put_entries(list, &append.entries, writer),
                Body::StatusReply(status) => {
                    for member in &status.members {
                        let record = Record::of_member(member);
                        put_head(list, size(&record, MEMBER), writer);
                        put_fields(&record, MEMBER, writer);
                    }
                }
                _ => {}
            }
        })
    }

    fn decode<'a>(&self, input: &'a [u8], limits: &Limits, _: &'a mut Vec<u8>) -> Result<Decoded<'a>, DecodeError> {
        // The envelope: where the frame ends, and whether it is undamaged.
        let whole = match frame::open(input, FORMAT, limits)? {
            Opened::NeedMore { at_least } => return Ok(Decoded::NeedMore { at_least }),
            Opened::Whole(whole) => whole,
        };
        let (kind, body) = whole.known()?;
        let received = read(kind, body, limits)?;
        Ok(Decoded::Message { message: received.message(kind)?, consumed: whole.consumed })
    }

    fn name(&self) -> &'static str {
        "tagged"
    }
}

/// The bytes of a number that are not zeros at its end.
fn digits(number: u64) -> ([u8; 8], usize) {
    (number.to_le_bytes(), 8 - number.leading_zeros() as usize / 8)
}

/// Bytes of the fields that a record has, heads included.
fn size(record: &Record<'_>, fields: &[Field]) -> usize {
    let said = fields.iter().filter(|field| record.says(field));
    said.map(|field| HEAD + value_size(record, field)).sum()
}

fn value_size(record: &Record<'_>, field: &Field) -> usize {
    match field.holds {
        Holds::Text(at) => record.texts[at].len(),
        Holds::Bytes => record.bytes.len(),
        _ => digits(record.numbers[usize::from(field.number)]).1,
    }
}

fn put_head(number: u8, length: usize, writer: &mut Writer<'_, '_>) {
    writer.put(&[number]);
    // No frame is that long: the writer refuses what comes behind it.
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    writer.put(&length.to_le_bytes());
}

/// The fields that are not zero or empty, lists apart.
fn put_fields(record: &Record<'_>, fields: &[Field], writer: &mut Writer<'_, '_>) {
    for field in fields.iter().filter(|field| record.says(field)) {
        put_head(field.number, value_size(record, field), writer);
        match field.holds {
            Holds::Text(at) => writer.put(record.texts[at].as_bytes()),
            Holds::Bytes => writer.put(record.bytes),
            _ => {
                let (bytes, length) = digits(record.numbers[usize::from(field.number)]);
                writer.put(&bytes[..length]);
            }
        }
    }
}

/// The log's payloads are shared with the outbox if they are large: they are the last of an entry's fields. Their bytes
/// are not read then, since the entry has their checksum.
fn put_entries(list: u8, entries: &Entries<'_>, writer: &mut Writer<'_, '_>) {
    let [front @ .., payload] = ENTRY else {
        unreachable!("an entry has fields");
    };
    let put_front = |entry: EntryRef<'_>, writer: &mut Writer<'_, '_>| {
        let record = Record::of_entry(entry);
        put_head(list, size(&record, ENTRY), writer);
        put_fields(&record, front, writer);
        if !entry.payload.is_empty() {
            put_head(payload.number, entry.payload.len(), writer);
        }
    };
    match entries {
        Entries::Lent(entries) => {
            for entry in entries {
                put_front(*entry, writer);
                writer.put(entry.payload);
            }
        }
        Entries::Shared(front, back) => {
            for entry in front.iter().chain(*back) {
                put_front(entry.as_ref(), writer);
                writer.put_entry(entry);
            }
        }
    }
}

/// Fields that are left to read, and where they end in the frame.
#[derive(Clone, Copy)]
struct Tags<'a> {
    rest: &'a [u8],
    end: usize,
}

/// A field: where it stands in the frame, its number and its value.
struct Tag<'a> {
    offset: usize,
    number: u8,
    value: &'a [u8],
}

impl<'a> Iterator for Tags<'a> {
    type Item = Result<Tag<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let offset = self.end - self.rest.len();
        let tag = self.rest.split_first_chunk::<HEAD>().and_then(|(head, rest)| {
            let [number, length @ ..] = *head;
            let length = usize::try_from(u32::from_le_bytes(length)).ok()?;
            // No length is believed before as many bytes are there.
            let (value, rest) = rest.split_at_checked(length)?;
            self.rest = rest;
            Some(Tag { offset, number, value })
        });
        if tag.is_none() {
            self.rest = &[];
        }
        Some(tag.ok_or(DecodeError::Malformed { offset }))
    }
}

fn read<'a>(kind: Kind, body: &'a [u8], limits: &Limits) -> Result<Received<'a>, DecodeError> {
    let tags = Tags { rest: body, end: HEADER + body.len() };
    let known = fields(kind);
    let (record, at) = read_record(tags, known, HEADER)?;
    let mut received = Received { record, at, entries: Vec::new(), members: Vec::new() };
    match known.last().map(|field| (field.number, field.holds)) {
        Some((list, Holds::Entries)) => {
            received.entries = read_list(tags, list, limits.entries_max, ENTRY, Record::entry)?;
        }
        Some((list, Holds::Members)) => {
            received.members = read_list(tags, list, MEMBERS_MAX, MEMBER, Record::member)?;
        }
        _ => {}
    }
    Ok(received)
}

/// The fields of a message, entry or member that begins at `start`, lists apart.
fn read_record<'a>(tags: Tags<'a>, known: &[Field], start: usize) -> Result<(Record<'a>, Offsets), DecodeError> {
    let mut record = Record::default();
    let mut at = Offsets::all(start);
    let mut seen = [false; SLOTS];
    for tag in tags {
        let Tag { offset, number, value } = tag?;
        // What a newer version adds is skipped (law P11).
        let Some(field) = known.iter().find(|field| field.number == number) else {
            continue;
        };
        let is_list = matches!(field.holds, Holds::Entries | Holds::Members);
        if std::mem::replace(&mut seen[usize::from(number)], true) && !is_list {
            return Err(DecodeError::Malformed { offset });
        }
        at.set(number.into(), offset);
        let max = match field.holds {
            Holds::Entries | Holds::Members => continue,
            Holds::Bytes => {
                record.bytes = value;
                continue;
            }
            Holds::Text(_) if value.len() > TEXT_MAX => return Err(DecodeError::TooLarge),
            Holds::Text(at) => {
                record.texts[at] = str::from_utf8(value).map_err(|_| DecodeError::Malformed { offset })?;
                continue;
            }
            Holds::Number(max) => max,
            Holds::Flag => 1,
            Holds::Choice(_) => u64::MAX,
        };
        let number = number_of(value).filter(|number| *number <= max);
        record.numbers[usize::from(field.number)] = number.ok_or(DecodeError::Malformed { offset })?;
    }
    Ok((record, at))
}

/// A number has one encoding: the shortest.
fn number_of(value: &[u8]) -> Option<u64> {
    if value.len() > 8 || value.last() == Some(&0) {
        return None;
    }
    let mut bytes = [0; 8];
    bytes[..value.len()].copy_from_slice(value);
    Some(u64::from_le_bytes(bytes))
}

/// The elements of a list: counted before there is room made for them (law P7).
fn read_list<'a, T>(
    tags: Tags<'a>,
    list: u8,
    max: usize,
    known: &[Field],
    of: impl Fn(&Record<'a>, &Offsets) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let elements = || tags.flatten().filter(|tag| tag.number == list);
    let count = elements().count();
    if count > max {
        return Err(DecodeError::TooLarge);
    }
    let mut read = Vec::with_capacity(count);
    for element in elements() {
        let start = element.offset + HEAD;
        let tags = Tags { rest: element.value, end: start + element.value.len() };
        let (record, at) = read_record(tags, known, start)?;
        read.push(of(&record, &at)?);
    }
    Ok(read)
}
