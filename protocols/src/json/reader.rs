//! Text to messages.

use std::cell::Cell;
use std::{fmt, mem};

use base64::engine::general_purpose::STANDARD;
use base64::{DecodeError as Base64Error, DecodeSliceError, Engine as _};
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
    // Base64 and escapes only ever make bytes more: this is room for all of them, and no more than was received.
    if scratch.len() < text.len() {
        scratch.resize(text.len(), 0);
    }
    let room = scratch.as_mut_slice();
    Reader { text, limits, room }.message(fields(kind))
}

struct Reader<'a, 'l> {
    /// The whole body: what is found is a part of it, so that its place can be told.
    text: &'a str,
    limits: &'l Limits,
    /// What is left of the scratch memory.
    room: &'a mut [u8],
}

impl<'a> Reader<'a, '_> {
    /// Where a part of the body stands in the frame.
    fn offset(&self, part: &str) -> usize {
        HEADER + (part.as_ptr() as usize - self.text.as_ptr() as usize)
    }

    fn malformed(&self, part: &str) -> DecodeError {
        malformed(self.offset(part))
    }

    fn message(&mut self, fields: &[Field]) -> Result<Received<'a>> {
        let values = self.values(self.text, fields)?;
        let mut received = Received {
            record: Record::default(),
            at: Offsets::default(),
            entries: Vec::new(),
            members: Vec::new(),
        };
        for (field, value) in present(fields, &values) {
            match field.holds {
                Holds::Entries => {
                    received.entries = self.list(value, self.limits.entries_max, ENTRY, Record::entry)?;
                }
                Holds::Members => received.members = self.list(value, MEMBERS_MAX, MEMBER, Record::member)?,
                _ => self.value(field, value, &mut received.record, &mut received.at)?,
            }
        }
        Ok(received)
    }

    fn list<T>(
        &mut self,
        value: &'a str,
        max: usize,
        fields: &[Field],
        of: impl Fn(&Record<'a>, &Offsets) -> Result<T>,
    ) -> Result<Vec<T>> {
        // Counted before there is room made for them.
        let mut count = 0;
        self.elements(value, |_| {
            count += 1;
            (count <= max).then_some(()).ok_or(DecodeError::TooLarge)
        })?;
        let mut elements = Vec::with_capacity(count);
        self.elements(value, |element| {
            elements.push(element);
            Ok(())
        })?;
        let mut list = Vec::with_capacity(count);
        for element in elements {
            let mut record = Record::default();
            let mut at = Offsets::all(self.offset(element));
            let values = self.values(element, fields)?;
            for (field, value) in present(fields, &values) {
                self.value(field, value, &mut record, &mut at)?;
            }
            list.push(of(&record, &at)?);
        }
        Ok(list)
    }

    fn value(&mut self, field: &Field, value: &'a str, record: &mut Record<'a>, at: &mut Offsets) -> Result<()> {
        at.set(field.number.into(), self.offset(value));
        let error = self.malformed(value);
        let number = &mut record.numbers[usize::from(field.number)];
        match field.holds {
            Holds::Number(max) => *number = of_number(value).filter(|number| *number <= max).ok_or(error)?,
            Holds::Flag => *number = u64::from(of_flag(value).ok_or(error)?),
            Holds::Choice(choices) => *number = of_choice(value, choices).ok_or(error)?,
            Holds::Text(at) => record.texts[at] = self.text(value)?,
            Holds::Bytes => record.bytes = self.payload(value)?,
            Holds::Entries | Holds::Members => unreachable!("lists are read apart"),
        }
        Ok(())
    }

    fn text(&mut self, value: &'a str) -> Result<&'a str> {
        let inner = of_string(value).ok_or_else(|| self.malformed(value))?;
        if inner.len() > ESCAPE * TEXT_MAX {
            return Err(DecodeError::TooLarge);
        }
        let text = if inner.contains('\\') {
            let text = self.unescaped(value)?;
            let kept = self.take(text.len());
            kept.copy_from_slice(text.as_bytes());
            str::from_utf8(kept).expect("it is the text")
        } else {
            inner
        };
        if text.len() > TEXT_MAX {
            return Err(DecodeError::TooLarge);
        }
        Ok(text)
    }

    fn payload(&mut self, value: &'a str) -> Result<&'a [u8]> {
        let inner = of_string(value).ok_or_else(|| self.malformed(value))?;
        // There are writers that escape the slash, which is of Base64's alphabet.
        let decoded = if inner.contains('\\') {
            let text = self.unescaped(value)?;
            let decoded = STANDARD.decode_slice(text, self.room);
            decoded.map_err(|_| self.malformed(value))
        } else {
            let decoded = STANDARD.decode_slice(inner, self.room);
            decoded.map_err(|error| malformed(self.offset(inner) + place(&error, inner.len())))
        };
        Ok(self.take(decoded?))
    }

    /// A string without its quotes and escapes.
    fn unescaped(&self, value: &str) -> Result<String> {
        serde_json::from_str(value).map_err(|error| self.misread(value, &error))
    }

    /// The first `count` bytes of the room.
    fn take(&mut self, count: usize) -> &'a mut [u8] {
        let (taken, rest) = mem::take(&mut self.room).split_at_mut(count);
        self.room = rest;
        taken
    }

    /// The values of an object's known fields, by their numbers.
    fn values(&self, object: &'a str, fields: &[Field]) -> Result<Values<'a>> {
        self.begins(object, '{')?;
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

    /// Hands out the elements of a list.
    fn elements(&self, list: &'a str, on_element: impl FnMut(&'a str) -> Result<()>) -> Result<()> {
        self.begins(list, '[')?;
        let failed = Cell::new(None);
        let visitor = ListVisitor {
            on_element,
            failed: &failed,
        };
        let mut json = serde_json::Deserializer::from_str(list);
        let ended = (&mut json).deserialize_seq(visitor);
        ended.map_err(|error| failed.take().unwrap_or_else(|| self.misread(list, &error)))
    }

    /// Another value than this one is told here, where it begins; serde_json would tell behind it.
    fn begins(&self, part: &str, with: char) -> Result<()> {
        let value = part.trim_ascii_start();
        if value.is_empty() || value.starts_with(with) {
            return Ok(());
        }
        Err(self.malformed(value))
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

/// Where in a payload of so many characters Base64 is none.
fn place(error: &DecodeSliceError, length: usize) -> usize {
    match error {
        DecodeSliceError::DecodeError(Base64Error::InvalidByte(at, _)) => *at,
        DecodeSliceError::DecodeError(Base64Error::InvalidLastSymbol { .. }) => length.saturating_sub(1),
        _ => length,
    }
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

/// Hands out the elements of a list, as long as they are taken.
struct ListVisitor<'v, F> {
    on_element: F,
    failed: &'v Cell<Option<DecodeError>>,
}

impl<'a, F: FnMut(&'a str) -> Result<()>> Visitor<'a> for ListVisitor<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'a>>(mut self, mut list: A) -> std::result::Result<(), A::Error> {
        while let Some(element) = list.next_element::<&'a RawValue>()? {
            if let Err(error) = (self.on_element)(element.get()) {
                self.failed.set(Some(error));
                return Err(A::Error::custom("refused"));
            }
        }
        Ok(())
    }
}
