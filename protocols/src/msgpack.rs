//! The `msgpack` format: each message a map from the numbers of its fields, as the schema has them, to their values.
//!
//! Fields that are zero or empty are left out. Texts are `str`, payloads `bin`, flags booleans, choices numbers, lists
//! arrays of maps of the same sort. Numbers may come in any of MessagePack's encodings of integers, keys in any order
//! but once each; a key that is not known is skipped. Extension types have no meaning here and are refused.

use kraft_core::handshake::Kind;
use kraft_core::id::Term;
use kraft_core::message::{Body, Entries, EntryKind, EntryRef, Message};
use kraft_core::outbox::Outbox;
use kraft_core::protocol::{DecodeError, Decoded, EncodeError, Limits, Protocol};
use rmp::decode::{self, RmpRead};
use rmp::{Marker, encode};

use crate::checksum::Checking;
use crate::flat::{Received, Record};
use crate::frame::{self, Cut, HEADER};
use crate::kinds::{DEPTH_MAX, MEMBERS_MAX};
use crate::numbers::{Numbered, TEXT_MAX};
use crate::schema::{ENTRY, Field, Holds, MEMBER, fields, is_numbers, numbers_in_front};
use crate::writer::{self, GATHERED, Pieces, Writer};

type Result<T> = std::result::Result<T, DecodeError>;

/// The number of this format in the envelope.
pub const FORMAT: u8 = 3;

/// The field of an entry that holds its payload.
const PAYLOAD: u8 = 4;

/// Bytes of a field's number and a number, at the most.
const KEYED: usize = 10;

/// The most fields of a map whose length is in its first byte.
const SHORT_MAP: usize = 15;

/// Bytes of a short map of numbers, at the most.
const NUMBERS_ROOM: usize = 1 + SHORT_MAP * KEYED;

/// Bytes of an entry besides its payload, at the most.
const ENTRY_ROOM: usize = 1 + 3 * KEYED + 6;

// What `put_numbers` is given is a short map, and there is room for it: of kinds that have nothing but numbers, of others
// by `put_map`, and of entries.
const _: () = {
    let mut at = 0;
    while at < Kind::ALL.len() {
        let kind = Kind::ALL[at];
        assert!(!is_numbers(kind) || fields(kind).len() <= SHORT_MAP);
        at += 1;
    }
    assert!(NUMBERS_ROOM <= GATHERED);
    assert!(ENTRY.len() <= SHORT_MAP);
};

/// Bytes of the shortest map of an entry: its kind, at least, is said.
const ENTRY_BYTES_MIN: usize = 3;

/// Bytes of the shortest map of a member.
const MEMBER_BYTES_MIN: usize = 1;

/// The `msgpack` format.
#[derive(Clone, Copy, Debug, Default)]
pub struct Msgpack;

impl Protocol for Msgpack {
    fn encode(
        &self,
        message: &Message<'_>,
        frame_max: usize,
        out: &mut Outbox,
    ) -> std::result::Result<(), EncodeError> {
        let kind = Kind::of(&message.body);
        let mut record = Record::default();
        record.message(message);
        if is_numbers(kind) {
            let numbers = &record.numbers[1..=numbers_in_front(kind)];
            return writer::write_numbers(FORMAT, kind, frame_max, out, |room| put_numbers(numbers, 0, room));
        }
        writer::write(FORMAT, message, frame_max, out, |writer| {
            put_message(kind, &record, &message.body, writer);
        })
    }

    fn decode<'a>(&self, input: &'a [u8], limits: &Limits, _: &'a mut Vec<u8>) -> Result<Decoded<'a>> {
        let frame = match frame::cut(input, FORMAT, limits)? {
            Cut::NeedMore { at_least } => return Ok(Decoded::NeedMore { at_least }),
            Cut::Frame(frame) => frame,
        };
        let consumed = frame.consumed();
        let mut checking = Checking::new(frame);
        let mut received = Received::nothing(HEADER);
        let kind = if frame.is_append() {
            let read = read(Kind::Append, frame.body(), limits, &mut checking, &mut received);
            checking.judge(read)?;
            Kind::Append
        } else {
            let (kind, body) = frame.check()?.known()?;
            read(kind, body, limits, &mut checking, &mut received)?;
            kind
        };
        received.decoded(kind, consumed)
    }

    fn name(&self) -> &'static str {
        "msgpack"
    }
}

#[inline]
fn read<'a>(
    kind: Kind,
    body: &'a [u8],
    limits: &Limits,
    checking: &mut Checking<'a>,
    received: &mut Received<'a>,
) -> Result<()> {
    let mut reader = Reader {
        rest: body,
        end: HEADER + body.len(),
        limits,
        checking,
    };
    reader.map(numbers_in_front(kind), fields(kind), received)?;
    if !reader.rest.is_empty() {
        return Err(reader.malformed());
    }
    Ok(())
}

fn put_message(kind: Kind, record: &Record<'_>, body: &Body<'_>, writer: &mut Writer<'_, '_>) {
    let fields = fields(kind);
    // A list is the last of its message's fields.
    let (behind, elements) = match body {
        Body::Append(append) => (1, append.entries.len()),
        Body::StatusReply(status) => (1, status.members.len()),
        _ => (0, 0),
    };
    let (fields, list) = fields.split_at(fields.len() - behind);
    writer.pieces(|out| {
        put_map(record, numbers_in_front(kind), fields, elements > 0, out);
        if let ([list], 1..) = (list, elements) {
            out.put(&[list.number]);
            taken(encode::write_array_len(out, length(elements)));
        }
    });
    match body {
        Body::Append(append) => put_entries(&append.entries, writer),
        Body::StatusReply(status) => writer.pieces(|out| {
            for member in &status.members {
                put_any_map(&Record::of_member(member), MEMBER, false, out);
            }
        }),
        _ => {}
    }
}

fn put_entries(entries: &Entries<'_>, writer: &mut Writer<'_, '_>) {
    match entries {
        Entries::Lent(entries) => {
            for entry in entries {
                writer.pieces(|out| out.fill(|room| put_entry(*entry, room)));
                writer.put(entry.payload);
            }
        }
        Entries::Shared(front, back) => {
            for entry in front.iter().chain(*back) {
                writer.put_element(entry, |room| put_entry(entry.as_ref(), room));
            }
        }
    }
}

/// An entry up to its payload's bytes, which are the last of its fields so that they can be shared. Written out, since
/// there may be thousands of them; a table says the same of it. How many bytes these are.
#[inline]
fn put_entry(entry: EntryRef<'_>, room: &mut [u8; ENTRY_ROOM]) -> usize {
    let numbers = [entry.term.0, entry.kind.number().into(), entry.crc.into()];
    let length = length(entry.payload.len());
    let used = put_numbers(&numbers, usize::from(length > 0), room);
    let (marker, bytes) = match length {
        0 => return used,
        1..0x100 => (0xc4, 1),
        0x100..0x1_0000 => (0xc5, 2),
        _ => (0xc6, 4),
    };
    room[used] = PAYLOAD;
    room[used + 1] = marker;
    room[used + 2..used + 6].copy_from_slice(&(length << (32 - 8 * bytes)).to_be_bytes());
    used + 2 + bytes
}

/// Puts the number of a field, which is below 128, and the field's number in its shortest encoding. How many bytes these
/// are.
#[inline]
fn put_number(key: u8, number: u64, room: &mut [u8; KEYED]) -> usize {
    room[0] = key;
    if number < 0x80 {
        room[1] = number as u8;
        return 2;
    }
    let (marker, bytes) = match number {
        0..0x100 => (0xcc, 1),
        0x100..0x1_0000 => (0xcd, 2),
        0x1_0000..0x1_0000_0000 => (0xce, 4),
        _ => (0xcf, 8),
    };
    room[1] = marker;
    // The number's last bytes in front: what is behind them does not count.
    room[2..].copy_from_slice(&(number << (64 - 8 * bytes)).to_be_bytes());
    2 + bytes
}

/// The beginning of a [short map](SHORT_MAP): its length, which is that of these numbers and `others`, and the numbers of the
/// fields from 1 on that are not zero. How many bytes these are.
#[inline]
fn put_numbers<const N: usize>(numbers: &[u64], others: usize, room: &mut [u8; N]) -> usize {
    let (mut said, mut used) = (others, 1);
    for (key, &number) in (1..).zip(numbers) {
        if number != 0 {
            let room = room[used..].first_chunk_mut();
            used += put_number(key, number, room.expect("there is room for all of them"));
            said += 1;
        }
    }
    room[0] = 0x80 | said as u8;
    used
}

/// The fields that are not zero or empty, of which `front` are numbers that no other field is in front of; the length of
/// the map counts one more if `more` follows.
#[inline]
fn put_map(record: &Record<'_>, front: usize, fields: &[Field], more: bool, out: &mut Pieces<'_, '_, '_>) {
    if fields.len() + usize::from(more) > SHORT_MAP {
        return put_any_map(record, fields, more, out);
    }
    let (numbers, behind) = (&record.numbers[1..=front], &fields[front..]);
    let others = behind.iter().filter(|field| record.says(field)).count() + usize::from(more);
    out.fill(|room: &mut [u8; GATHERED]| put_numbers(numbers, others, room));
    if !behind.is_empty() {
        put_fields(record, behind, out);
    }
}

/// The same, whatever the fields are and however many.
fn put_any_map(record: &Record<'_>, fields: &[Field], more: bool, out: &mut Pieces<'_, '_, '_>) {
    let said = fields.iter().filter(|field| record.says(field)).count();
    taken(encode::write_map_len(out, length(said + usize::from(more))));
    put_fields(record, fields, out);
}

fn put_fields(record: &Record<'_>, fields: &[Field], out: &mut Pieces<'_, '_, '_>) {
    for field in fields.iter().filter(|field| record.says(field)) {
        let number = record.numbers[usize::from(field.number)];
        match field.holds {
            Holds::Number(_) | Holds::Choice(_) => out.fill(|room| put_number(field.number, number, room)),
            Holds::Flag => out.put(&[field.number, Marker::True.to_u8()]),
            Holds::Text(at) => {
                out.put(&[field.number]);
                taken(encode::write_str(out, record.texts[at]));
            }
            Holds::Bytes => {
                out.put(&[field.number]);
                taken(encode::write_bin(out, record.bytes));
            }
            Holds::Entries | Holds::Members => unreachable!("lists are written apart"),
        }
    }
}

/// Pieces take all there is; the writer remembers what the frame has no room for.
fn taken<T, E>(_: std::result::Result<T, E>) {}

/// A length or count. Above the format's limit it is above the frame's too, which the writer tells.
fn length(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// What is left to read of a body.
struct Reader<'a, 'l> {
    rest: &'a [u8],
    /// Where the body ends in the frame.
    end: usize,
    limits: &'l Limits,
    checking: &'l mut Checking<'a>,
}

impl<'a> Reader<'a, '_> {
    /// Where the `rest` of the body begins in the frame.
    fn offset_of(&self, rest: &[u8]) -> usize {
        self.end - rest.len()
    }

    /// The error that there is something wrong with what begins with `rest`.
    fn malformed_at(&self, rest: &[u8]) -> DecodeError {
        let offset = self.offset_of(rest);
        DecodeError::Malformed { offset }
    }

    /// The error that there is something wrong with what comes next.
    fn malformed(&self) -> DecodeError {
        self.malformed_at(self.rest)
    }

    /// Reads by a function of the library; an error names where it began.
    fn read<T, E>(&mut self, read: impl FnOnce(&mut &'a [u8]) -> std::result::Result<T, E>) -> Result<T> {
        let error = self.malformed();
        read(&mut self.rest).map_err(|_| error)
    }

    fn number(&mut self) -> Result<u64> {
        if let Some((number, rest)) = plain_number(self.rest) {
            self.rest = rest;
            return Ok(number);
        }
        self.read(decode::read_int)
    }

    /// As many bytes as a length that came before says.
    fn take(&mut self, count: u32) -> Result<&'a [u8]> {
        let count = usize::try_from(count).map_err(|_| self.malformed())?;
        let Some((taken, rest)) = self.rest.split_at_checked(count) else {
            return Err(self.malformed());
        };
        self.rest = rest;
        Ok(taken)
    }

    fn text(&mut self) -> Result<&'a str> {
        let error = self.malformed();
        let length = self.read(decode::read_str_len)?;
        if length as usize > TEXT_MAX {
            return Err(DecodeError::TooLarge);
        }
        str::from_utf8(self.take(length)?).map_err(|_| error)
    }

    /// The map of a message, entry or member, of whose fields `front` are numbers that no other field is in front of.
    fn map(&mut self, front: usize, fields: &[Field], received: &mut Received<'a>) -> Result<()> {
        let length = self.read(decode::read_map_len)?;
        let (mut seen, plain) = self.plain_numbers(length, front, fields, received);
        for _ in plain..length {
            let at_key = self.rest;
            let key = self.number()?;
            // Fields stand at their numbers, which begin with 1.
            let place = usize::try_from(key.wrapping_sub(1)).unwrap_or(usize::MAX);
            let Some(field) = fields.get(place) else {
                self.skip(DEPTH_MAX)?;
                continue;
            };
            // Which of two is meant nobody can tell.
            if seen & 1 << field.number != 0 {
                return Err(self.malformed_at(at_key));
            }
            seen |= 1 << field.number;
            received.at.set(field.number.into(), self.offset_of(self.rest));
            self.field(field, received)?;
        }
        Ok(())
    }

    /// Reads those numbers of a map of `length` fields as encoders write them, in order: most of a message is such. Which
    /// were read, as bits, and how many. What is anything else is left to [`map`](Self::map).
    #[inline]
    fn plain_numbers(
        &mut self,
        length: u32,
        front: usize,
        fields: &[Field],
        received: &mut Received<'a>,
    ) -> (u32, u32) {
        let (mut seen, mut count, mut rest) = (0_u32, 0, self.rest);
        for field in &fields[..front] {
            let [key, behind @ ..] = rest else {
                break;
            };
            if *key != field.number {
                continue;
            }
            let (Some((number, after)), true) = (plain_number(behind), count < length) else {
                break;
            };
            if let Holds::Number(max) = field.holds
                && number > max
            {
                break;
            }
            received.at.set(field.number.into(), self.offset_of(behind));
            received.record.numbers[usize::from(field.number)] = number;
            seen |= 1 << field.number;
            count += 1;
            rest = after;
        }
        self.rest = rest;
        (seen, count)
    }

    /// The map of an entry or member.
    fn element(&mut self, fields: &[Field]) -> Result<Received<'a>> {
        let mut received = Received::nothing(self.offset_of(self.rest));
        self.map(0, fields, &mut received)?;
        Ok(received)
    }

    fn entry(&mut self) -> Result<EntryRef<'a>> {
        if let Some((entry, rest)) = plain_entry(self.rest) {
            self.rest = rest;
            return Ok(entry);
        }
        let entry = self.element(ENTRY)?;
        entry.record.unchecked_entry(&entry.at)
    }

    fn field(&mut self, field: &Field, received: &mut Received<'a>) -> Result<()> {
        let error = self.malformed();
        let number = &mut received.record.numbers[usize::from(field.number)];
        match field.holds {
            Holds::Number(max) => {
                *number = self.number()?;
                if *number > max {
                    return Err(error);
                }
            }
            Holds::Choice(_) => *number = self.number()?,
            Holds::Flag => *number = self.read(decode::read_bool)?.into(),
            Holds::Text(at) => received.record.texts[at] = self.text()?,
            Holds::Bytes => {
                let length = self.read(decode::read_bin_len)?;
                received.record.bytes = self.take(length)?;
            }
            Holds::Entries => {
                let count = self.count(self.limits.entries_max, ENTRY_BYTES_MIN)?;
                received.entries.reserve_exact(count);
                for _ in 0..count {
                    let entry = self.entry()?;
                    self.checking.payload(entry.payload, entry.crc)?;
                    received.entries.push(entry);
                }
            }
            Holds::Members => {
                let count = self.count(MEMBERS_MAX, MEMBER_BYTES_MIN)?;
                received.members.reserve_exact(count);
                for _ in 0..count {
                    let member = self.element(MEMBER)?;
                    received.members.push(member.record.member(&member.at)?);
                }
            }
        }
        Ok(())
    }

    /// The length of a list, for which room may be made.
    fn count(&mut self, max: usize, bytes_min: usize) -> Result<usize> {
        let error = self.malformed();
        let count = self.read(decode::read_array_len)? as usize;
        if count > self.rest.len() / bytes_min {
            return Err(error);
        }
        if count > max {
            return Err(DecodeError::TooLarge);
        }
        Ok(count)
    }

    /// A value that nobody here knows.
    fn skip(&mut self, depth: u32) -> Result<()> {
        let error = self.malformed();
        let marker = self.read(decode::read_marker)?;
        let (bytes, values) = match marker {
            Marker::FixPos(_) | Marker::FixNeg(_) | Marker::Null | Marker::True | Marker::False => (0, 0),
            Marker::U8 | Marker::I8 => (1, 0),
            Marker::U16 | Marker::I16 => (2, 0),
            Marker::U32 | Marker::I32 | Marker::F32 => (4, 0),
            Marker::U64 | Marker::I64 | Marker::F64 => (8, 0),
            Marker::FixStr(length) => (length.into(), 0),
            Marker::Str8 | Marker::Bin8 => (self.read(RmpRead::read_data_u8)?.into(), 0),
            Marker::Str16 | Marker::Bin16 => (self.read(RmpRead::read_data_u16)?.into(), 0),
            Marker::Str32 | Marker::Bin32 => (self.read(RmpRead::read_data_u32)?, 0),
            Marker::FixArray(count) => (0, count.into()),
            Marker::Array16 => (0, self.read(RmpRead::read_data_u16)?.into()),
            Marker::Array32 => (0, self.read(RmpRead::read_data_u32)?.into()),
            Marker::FixMap(count) => (0, 2 * u64::from(count)),
            Marker::Map16 => (0, 2 * u64::from(self.read(RmpRead::read_data_u16)?)),
            Marker::Map32 => (0, 2 * u64::from(self.read(RmpRead::read_data_u32)?)),
            _ => return Err(error),
        };
        self.take(bytes).map_err(|_| error)?;
        // Each value has a byte at least, so that a count that claims more ends where the bytes do.
        for _ in 0..values {
            let deeper = depth.checked_sub(1).ok_or(error)?;
            self.skip(deeper)?;
        }
        Ok(())
    }
}

/// An entry as encoders write it, its fields in order and its payload not compared with its checksum, and what is
/// behind it: there may be thousands of them. `None` if it has to be read field by field.
#[inline]
fn plain_entry(bytes: &[u8]) -> Option<(EntryRef<'_>, &[u8])> {
    let [fields @ 0x80..=0x84, rest @ ..] = bytes else {
        return None;
    };
    let mut rest = rest;
    let mut fields = fields & 0xf;
    let mut number = |key: u8| {
        let Some((&found, behind)) = rest.split_first() else {
            return Some(0);
        };
        if found != key || fields == 0 {
            return Some(0);
        }
        let number;
        (number, rest) = plain_number(behind)?;
        fields -= 1;
        Some(number)
    };
    let (term, kind, crc) = (number(1)?, number(2)?, number(3)?);
    let mut payload = &[][..];
    if let [PAYLOAD, behind @ ..] = rest
        && fields > 0
    {
        let (length, behind) = match *behind {
            [0xc4, length, ref rest @ ..] => (length.into(), rest),
            [0xc5, a, b, ref rest @ ..] => (u16::from_be_bytes([a, b]).into(), rest),
            [0xc6, a, b, c, d, ref rest @ ..] => (u32::from_be_bytes([a, b, c, d]), rest),
            _ => return None,
        };
        (payload, rest) = behind.split_at_checked(usize::try_from(length).ok()?)?;
        fields -= 1;
    }
    let entry = EntryRef {
        term: Term(term),
        kind: EntryKind::of(u8::try_from(kind).ok()?)?,
        crc: u32::try_from(crc).ok()?,
        payload,
    };
    (fields == 0).then_some((entry, rest))
}

/// A number that is not negative in any of its encodings, and what is behind it.
#[inline]
fn plain_number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    Some(match *bytes {
        [number @ ..0x80, ref rest @ ..] => (number.into(), rest),
        [0xcc, number, ref rest @ ..] => (number.into(), rest),
        [0xcd, a, b, ref rest @ ..] => (u16::from_be_bytes([a, b]).into(), rest),
        [0xce, a, b, c, d, ref rest @ ..] => (u32::from_be_bytes([a, b, c, d]).into(), rest),
        [0xcf, a, b, c, d, e, f, g, h, ref rest @ ..] => (u64::from_be_bytes([a, b, c, d, e, f, g, h]), rest),
        _ => return None,
    })
}
