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
use crate::schema::{ENTRY, Field, Holds, MEMBER, fields};
use crate::writer::{self, Small, Writer};

type Result<T> = std::result::Result<T, DecodeError>;

/// The number of this format in the envelope.
pub const FORMAT: u8 = 3;

/// The field of an entry that holds its payload.
const PAYLOAD: u8 = 4;

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
        writer::write(FORMAT, message, frame_max, out, |writer| {
            // The writer remembers what was refused.
            let _: std::result::Result<(), Refused> = put_message(message, writer);
        })
    }

    fn decode<'a>(&self, input: &'a [u8], limits: &Limits, _: &'a mut Vec<u8>) -> Result<Decoded<'a>> {
        let frame = match frame::cut(input, FORMAT, limits)? {
            Cut::NeedMore { at_least } => return Ok(Decoded::NeedMore { at_least }),
            Cut::Frame(frame) => frame,
        };
        let consumed = frame.consumed();
        let mut checking = Checking::new(frame);
        let message = if frame.is_append() {
            let received = read(Kind::Append, frame.body(), limits, &mut checking);
            checking.judge(received)?.message(Kind::Append)?
        } else {
            let (kind, body) = frame.check()?.known()?;
            read(kind, body, limits, &mut checking)?.message(kind)?
        };
        Ok(Decoded::Message { message, consumed })
    }

    fn name(&self) -> &'static str {
        "msgpack"
    }
}

fn read<'a>(kind: Kind, body: &'a [u8], limits: &Limits, checking: &mut Checking<'a>) -> Result<Received<'a>> {
    let mut reader = Reader {
        rest: body,
        end: HEADER + body.len(),
        limits,
        checking,
    };
    let mut received = Received::nothing(HEADER);
    reader.map(fields(kind), &mut received)?;
    if !reader.rest.is_empty() {
        return Err(reader.malformed());
    }
    Ok(received)
}

/// The writer takes no more; it knows why.
struct Refused;

impl<E: encode::RmpWriteErr> From<encode::ValueWriteError<E>> for Refused {
    fn from(_: encode::ValueWriteError<E>) -> Self {
        Self
    }
}

impl From<std::io::Error> for Refused {
    fn from(_: std::io::Error) -> Self {
        Self
    }
}

fn put_message(message: &Message<'_>, writer: &mut Writer<'_, '_>) -> std::result::Result<(), Refused> {
    let record = Record::of(message);
    let fields = fields(Kind::of(&message.body));
    let elements = match &message.body {
        Body::Append(append) => append.entries.len(),
        Body::StatusReply(status) => status.members.len(),
        _ => 0,
    };
    put_map(&record, fields, elements > 0, writer)?;
    if elements == 0 {
        return Ok(());
    }
    // The list is the last of its message's fields.
    let list = fields[fields.len() - 1].number;
    encode::write_uint(writer, list.into())?;
    encode::write_array_len(writer, length(elements))?;
    match &message.body {
        Body::Append(append) => put_entries(&append.entries, writer),
        Body::StatusReply(status) => status
            .members
            .iter()
            .try_for_each(|member| put_map(&Record::of_member(member), MEMBER, false, writer)),
        _ => Ok(()),
    }
}

fn put_entries(entries: &Entries<'_>, writer: &mut Writer<'_, '_>) -> std::result::Result<(), Refused> {
    match entries {
        Entries::Lent(entries) => entries
            .iter()
            .try_for_each(|entry| put_map(&Record::of_entry(*entry), ENTRY, false, writer)),
        Entries::Shared(front, back) => front.iter().chain(*back).try_for_each(|entry| {
            let mut fields = Small::new();
            put_entry(entry.as_ref(), &mut fields);
            writer.put_element(&fields, entry);
            Ok(())
        }),
    }
}

/// An entry up to its payload's bytes, which are the last of its fields so that they can be shared. Written out, since
/// there may be thousands of them; a table says the same of it.
#[inline]
fn put_entry(entry: EntryRef<'_>, out: &mut Small) {
    let numbers = [
        (1, entry.term.0),
        (2, entry.kind.number().into()),
        (3, entry.crc.into()),
    ];
    let said = numbers.iter().filter(|(_, number)| *number != 0).count();
    // A map of so few is one byte.
    out.put(&[0x80 | (said + usize::from(!entry.payload.is_empty())) as u8]);
    for (key, number) in numbers {
        if number != 0 {
            out.put(&[key]);
            put_number(number, |bytes| out.put(bytes));
        }
    }
    match entry.payload.len() {
        0 => {}
        length @ 1..0x100 => out.put(&[PAYLOAD, 0xc4, length as u8]),
        length @ 0x100..0x1_0000 => {
            let [a, b] = (length as u16).to_be_bytes();
            out.put(&[PAYLOAD, 0xc5, a, b]);
        }
        payload => {
            let [a, b, c, d] = length(payload).to_be_bytes();
            out.put(&[PAYLOAD, 0xc6, a, b, c, d]);
        }
    }
}

/// Puts a number in its shortest encoding.
#[inline]
fn put_number(number: u64, mut put: impl FnMut(&[u8])) {
    match number {
        0..0x80 => put(&[number as u8]),
        0x80..0x100 => put(&[0xcc, number as u8]),
        0x100..0x1_0000 => {
            let [a, b] = (number as u16).to_be_bytes();
            put(&[0xcd, a, b]);
        }
        0x1_0000..0x1_0000_0000 => {
            let [a, b, c, d] = (number as u32).to_be_bytes();
            put(&[0xce, a, b, c, d]);
        }
        _ => {
            let [a, b, c, d, e, f, g, h] = number.to_be_bytes();
            put(&[0xcf, a, b, c, d, e, f, g, h]);
        }
    }
}

/// The fields that are not zero or empty; the length of the map counts one more if `more` follows.
fn put_map(
    record: &Record<'_>,
    fields: &[Field],
    more: bool,
    writer: &mut Writer<'_, '_>,
) -> std::result::Result<(), Refused> {
    let said = fields.iter().filter(|field| record.says(field));
    encode::write_map_len(writer, length(said.clone().count() + usize::from(more)))?;
    for field in said {
        // Numbers of fields are below 128: a byte.
        writer.put(&[field.number]);
        let number = record.numbers[usize::from(field.number)];
        match field.holds {
            Holds::Number(_) | Holds::Choice(_) => put_number(number, |bytes| writer.put(bytes)),
            Holds::Flag => encode::write_bool(writer, number != 0)?,
            Holds::Text(at) => encode::write_str(writer, record.texts[at])?,
            Holds::Bytes => encode::write_bin(writer, record.bytes)?,
            Holds::Entries | Holds::Members => unreachable!("lists are written apart"),
        }
    }
    Ok(())
}

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
    fn offset(&self) -> usize {
        self.end - self.rest.len()
    }

    /// The error that there is something wrong with what comes next.
    fn malformed(&self) -> DecodeError {
        DecodeError::Malformed { offset: self.offset() }
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

    /// The map of a message, entry or member.
    fn map(&mut self, fields: &[Field], received: &mut Received<'a>) -> Result<()> {
        let length = self.read(decode::read_map_len)?;
        let mut seen = 0_u32;
        for _ in 0..length {
            let at_key = self.malformed();
            let key = self.number()?;
            // Fields stand at their numbers, which begin with 1.
            let place = usize::try_from(key.wrapping_sub(1)).unwrap_or(usize::MAX);
            let Some(field) = fields.get(place) else {
                self.skip(DEPTH_MAX)?;
                continue;
            };
            // Which of two is meant nobody can tell.
            if seen & 1 << field.number != 0 {
                return Err(at_key);
            }
            seen |= 1 << field.number;
            received.at.set(field.number.into(), self.offset());
            self.field(field, received)?;
        }
        Ok(())
    }

    /// The map of an entry or member.
    fn element(&mut self, fields: &[Field]) -> Result<Received<'a>> {
        let mut received = Received::nothing(self.offset());
        self.map(fields, &mut received)?;
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
