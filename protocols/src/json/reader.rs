//! Text to messages.

use std::cell::Cell;
use std::fmt;
use std::ops::Range;

use base64::engine::general_purpose::STANDARD;
use base64::{DecodeError as Base64Error, Engine as _};
use kraft_core::handshake::Kind;
use kraft_core::protocol::{DecodeError, Limits};
use serde_core::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::NUMBER_MAX;
use crate::flat::{Offsets, Received, Record};
use crate::frame::HEADER;
use crate::kinds::{DEPTH_MAX, MEMBERS_MAX, SLOTS};
use crate::numbers::TEXT_MAX;
use crate::schema::{Choices, ENTRY, Field, Holds, MEMBER, fields};

type Result<T> = std::result::Result<T, DecodeError>;

/// The longest that an escape makes a byte of text: `\u0000`.
const ESCAPE: usize = 6;

/// The message of a body. What cannot be lent from it is unescaped into `scratch`.
pub(super) fn read<'a>(kind: Kind, body: &'a [u8], limits: &Limits, scratch: &'a mut Vec<u8>) -> Result<Received<'a>> {
    let text = str::from_utf8(body).map_err(|error| malformed(HEADER + error.valid_up_to()))?;
    scratch.clear();
    // Base64 and escapes only ever make bytes more: this is room for all of them, and no more than was received.
    scratch.reserve(text.len());
    let mut reader = Reader {
        text,
        limits,
        scratch: &mut *scratch,
    };
    let found = reader.message(fields(kind))?;
    let scratch: &'a [u8] = scratch;
    let entries = found.entries.iter();
    let members = found.members.iter();
    Ok(Received {
        record: found.head.record(scratch),
        at: found.head.at,
        entries: entries
            .map(|found| found.record(scratch).entry(&found.at))
            .collect::<Result<_>>()?,
        members: members
            .map(|found| found.record(scratch).member(&found.at))
            .collect::<Result<_>>()?,
    })
}

/// A message as it was found.
struct FoundMessage<'a> {
    head: Found<'a>,
    entries: Vec<Found<'a>>,
    members: Vec<Found<'a>>,
}

/// The fields of an object.
struct Found<'a> {
    numbers: [u64; SLOTS],
    texts: [Piece<'a>; 2],
    bytes: Piece<'a>,
    at: Offsets,
}

/// A text or payload.
#[derive(Clone)]
enum Piece<'a> {
    /// As it stands in the body.
    Lent(&'a str),
    /// Unescaped, in the scratch memory.
    Kept(Range<usize>),
}

impl<'a> Found<'a> {
    fn new(at: usize) -> Self {
        Self {
            numbers: [0; SLOTS],
            texts: [const { Piece::Lent("") }; 2],
            bytes: Piece::Lent(""),
            at: Offsets::all(at),
        }
    }

    fn record(&self, scratch: &'a [u8]) -> Record<'a> {
        let bytes = |piece: &Piece<'a>| match piece {
            Piece::Lent(text) => text.as_bytes(),
            Piece::Kept(range) => &scratch[range.clone()],
        };
        Record {
            numbers: self.numbers,
            texts: self
                .texts
                .each_ref()
                .map(|piece| str::from_utf8(bytes(piece)).expect("texts were texts when they were found")),
            bytes: bytes(&self.bytes),
        }
    }
}

struct Reader<'a, 'r> {
    /// The whole body: what is found is a part of it, so that its place can be told.
    text: &'a str,
    limits: &'r Limits,
    scratch: &'r mut Vec<u8>,
}

impl<'a> Reader<'a, '_> {
    /// Where a part of the body stands in the frame.
    fn offset(&self, part: &str) -> usize {
        HEADER + (part.as_ptr() as usize - self.text.as_ptr() as usize)
    }

    fn malformed(&self, part: &str) -> DecodeError {
        malformed(self.offset(part))
    }

    fn message(&mut self, fields: &[Field]) -> Result<FoundMessage<'a>> {
        let values = self.values(self.text, fields)?;
        let mut found = FoundMessage {
            head: Found::new(HEADER),
            entries: Vec::new(),
            members: Vec::new(),
        };
        for (field, value) in present(fields, &values) {
            match field.holds {
                Holds::Entries => found.entries = self.list(value, self.limits.entries_max, ENTRY)?,
                Holds::Members => found.members = self.list(value, MEMBERS_MAX, MEMBER)?,
                _ => self.value(field, value, &mut found.head)?,
            }
        }
        Ok(found)
    }

    fn list(&mut self, value: &'a str, max: usize, fields: &[Field]) -> Result<Vec<Found<'a>>> {
        let elements = self.elements(value, max)?;
        let mut list = Vec::with_capacity(elements.len());
        for element in elements {
            let mut found = Found::new(self.offset(element));
            let values = self.values(element, fields)?;
            for (field, value) in present(fields, &values) {
                self.value(field, value, &mut found)?;
            }
            list.push(found);
        }
        Ok(list)
    }

    fn value(&mut self, field: &Field, value: &'a str, found: &mut Found<'a>) -> Result<()> {
        found.at.set(field.number.into(), self.offset(value));
        let error = self.malformed(value);
        let number = &mut found.numbers[usize::from(field.number)];
        match field.holds {
            Holds::Number(max) => *number = of_number(value).filter(|number| *number <= max).ok_or(error)?,
            Holds::Flag => *number = u64::from(of_flag(value).ok_or(error)?),
            Holds::Choice(choices) => *number = of_choice(value, choices).ok_or(error)?,
            Holds::Text(at) => found.texts[at] = self.text(value)?,
            Holds::Bytes => found.bytes = self.payload(value)?,
            Holds::Entries | Holds::Members => unreachable!("lists are read apart"),
        }
        Ok(())
    }

    fn text(&mut self, value: &'a str) -> Result<Piece<'a>> {
        let inner = of_string(value).ok_or_else(|| self.malformed(value))?;
        if inner.len() > ESCAPE * TEXT_MAX {
            return Err(DecodeError::TooLarge);
        }
        let piece = if inner.contains('\\') {
            let text: String = serde_json::from_str(value).map_err(|error| self.misread(value, &error))?;
            self.keep(text.as_bytes())
        } else {
            Piece::Lent(inner)
        };
        let length = match &piece {
            Piece::Lent(text) => text.len(),
            Piece::Kept(range) => range.len(),
        };
        if length > TEXT_MAX {
            return Err(DecodeError::TooLarge);
        }
        Ok(piece)
    }

    fn payload(&mut self, value: &'a str) -> Result<Piece<'a>> {
        let inner = of_string(value).ok_or_else(|| self.malformed(value))?;
        let start = self.scratch.len();
        // There are writers that escape the slash, which is of Base64's alphabet.
        let decoded = if inner.contains('\\') {
            let text: String = serde_json::from_str(value).map_err(|error| self.misread(value, &error))?;
            STANDARD
                .decode_vec(text, self.scratch)
                .map_err(|_| self.malformed(value))
        } else {
            STANDARD.decode_vec(inner, self.scratch).map_err(|error| {
                malformed(
                    self.offset(inner)
                        + match error {
                            Base64Error::InvalidByte(at, _) => at,
                            Base64Error::InvalidLastSymbol { .. } => inner.len().saturating_sub(1),
                            _ => inner.len(),
                        },
                )
            })
        };
        decoded.map(|()| Piece::Kept(start..self.scratch.len()))
    }

    fn keep(&mut self, bytes: &[u8]) -> Piece<'a> {
        let start = self.scratch.len();
        self.scratch.extend_from_slice(bytes);
        Piece::Kept(start..self.scratch.len())
    }

    /// The values of an object's known fields, by their numbers.
    fn values(&self, object: &'a str, fields: &[Field]) -> Result<Values<'a>> {
        let failed = Cell::new(None);
        let visitor = ObjectVisitor {
            fields,
            failed: &failed,
            reader: self,
        };
        let mut json = serde_json::Deserializer::from_str(object);
        let values = (&mut json).deserialize_map(visitor);
        let ended = values.and_then(|values| json.end().map(|()| values));
        ended.map_err(|error| failed.take().unwrap_or_else(|| self.misread(object, &error)))
    }

    /// The elements of a list.
    fn elements(&self, list: &'a str, max: usize) -> Result<Vec<&'a str>> {
        let failed = Cell::new(None);
        let visitor = ListVisitor { max, failed: &failed };
        let mut json = serde_json::Deserializer::from_str(list);
        let elements = (&mut json).deserialize_seq(visitor);
        elements.map_err(|error| failed.take().unwrap_or_else(|| self.misread(list, &error)))
    }

    /// Where serde_json stopped reading `part`, which it says in lines and columns.
    fn misread(&self, part: &str, error: &serde_json::Error) -> DecodeError {
        let lines = part.split_inclusive('\n').take(error.line().saturating_sub(1));
        let before: usize = lines.map(str::len).sum();
        let within = (before + error.column().saturating_sub(1)).min(part.len());
        malformed(self.offset(part) + within)
    }
}

fn malformed(offset: usize) -> DecodeError {
    DecodeError::Malformed { offset }
}

/// Values by the numbers of their fields.
type Values<'a> = [Option<&'a str>; SLOTS];

fn present<'f, 'a>(
    fields: &'f [Field],
    values: &Values<'a>,
) -> impl Iterator<Item = (&'f Field, &'a str)> + use<'f, 'a> {
    let values = *values;
    fields
        .iter()
        .filter_map(move |field| Some((field, values[usize::from(field.number)]?)))
}

/// A number, or a string of its digits.
fn of_number(value: &str) -> Option<u64> {
    let string = of_string(value);
    let digits = string.unwrap_or(value);
    let is_canonical = digits == "0" || !digits.starts_with('0');
    if !is_canonical || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let number = digits.parse().ok()?;
    (string.is_some() || number <= NUMBER_MAX).then_some(number)
}

fn of_flag(value: &str) -> Option<bool> {
    match value {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

fn of_choice(value: &str, choices: Choices) -> Option<u64> {
    let name = of_string(value)?;
    let choice = choices.iter().find(|(_, other)| *other == name);
    choice.map(|(number, _)| *number)
}

/// What stands between the quotes of a string, escaped as it is.
fn of_string(value: &str) -> Option<&str> {
    value.strip_prefix('"')?.strip_suffix('"')
}

/// How deep lists and objects nest in a value whose syntax is right.
fn depth(value: &str) -> u32 {
    let (mut depth, mut deepest) = (0_u32, 0);
    let mut bytes = value.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => {
                while let Some(byte) = bytes.next() {
                    match byte {
                        b'"' => break,
                        b'\\' => drop(bytes.next()),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    deepest
}

/// Takes the values of known fields out of an object.
struct ObjectVisitor<'v, 'a> {
    fields: &'v [Field],
    /// Why it was given up, if it was not for the syntax.
    failed: &'v Cell<Option<DecodeError>>,
    reader: &'v Reader<'a, 'v>,
}

impl<'a> Visitor<'a> for ObjectVisitor<'_, 'a> {
    type Value = Values<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
        let mut values = [None; SLOTS];
        let refuse = |part: &str| {
            self.failed.set(Some(self.reader.malformed(part)));
            A::Error::custom("refused")
        };
        while let Some(field) = map.next_key_seed(Name(self.fields))? {
            let value = map.next_value::<&'a RawValue>()?.get();
            match field {
                // Which of two is meant nobody can tell.
                Some(field) if values[usize::from(field.number)].is_some() => return Err(refuse(value)),
                Some(field) => values[usize::from(field.number)] = Some(value),
                None if depth(value) > DEPTH_MAX => return Err(refuse(value)),
                None => {}
            }
        }
        Ok(values)
    }
}

/// The field of a name, if it is known.
#[derive(Clone, Copy)]
struct Name<'f>(&'f [Field]);

impl<'f, 'de> DeserializeSeed<'de> for Name<'f> {
    type Value = Option<&'f Field>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'f> Visitor<'_> for Name<'f> {
    type Value = Option<&'f Field>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E>(self, name: &str) -> std::result::Result<Self::Value, E> {
        Ok(self.0.iter().find(|field| field.name == name))
    }
}

/// Takes the elements of a list apart, if there are no more than there may be.
struct ListVisitor<'v> {
    max: usize,
    failed: &'v Cell<Option<DecodeError>>,
}

impl<'a> Visitor<'a> for ListVisitor<'_> {
    type Value = Vec<&'a str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut list: A) -> std::result::Result<Self::Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = list.next_element::<&'a RawValue>()? {
            if elements.len() == self.max {
                self.failed.set(Some(DecodeError::TooLarge));
                return Err(A::Error::custom("too many"));
            }
            elements.push(element.get());
        }
        Ok(elements)
    }
}
