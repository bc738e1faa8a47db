//! The `json` format: each message an object of the fields that the schema has, by their names.
//!
//! Fields that are zero, empty or false are left out. Choices are their names, payloads Base64 (RFC 4648 §4, with
//! padding), numbers above 2^53 strings of digits: there are readers that take each JSON number for a double, which
//! holds no larger ones exactly. For the same reason such a number is turned away if it comes as a number: somebody may
//! have rounded it already. Names may come in any order but once each; one that is not known is skipped.
//!
//! Decoding unescapes payloads and texts into the scratch memory of whoever decodes. The syntax is serde_json's affair;
//! values are looked at as they stand in the frame, so that an error names its place.

mod reader;

use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use kraft_core::handshake::Kind;
use kraft_core::message::{Body, Message};
use kraft_core::outbox::Outbox;
use kraft_core::protocol::{DecodeError, Decoded, EncodeError, Limits, Overhead, Protocol};
use serde_core::ser::{Error as _, SerializeMap, SerializeSeq};
use serde_core::{Serialize, Serializer};

use crate::flat::Record;
use crate::frame::{self, Opened};
use crate::schema::{ENTRY, Field, Holds, MEMBER, fields};
use crate::writer;

/// The number of this format in the envelope.
pub const FORMAT: u8 = 4;

/// The largest number that is written as a number: every whole number up to here is a double.
pub const NUMBER_MAX: u64 = 1 << 53;

/// The `json` format.
#[derive(Clone, Copy, Debug, Default)]
pub struct Json;

impl Protocol for Json {
    fn encode(&self, message: &Message<'_>, frame_max: usize, out: &mut Outbox) -> Result<(), EncodeError> {
        writer::write(FORMAT, message, frame_max, out, |writer| {
            let mut serializer = serde_json::Serializer::new(writer);
            // The writer remembers what was refused.
            let _: Result<(), serde_json::Error> = Object::of(message).serialize(&mut serializer);
        })
    }

    fn decode<'a>(
        &self,
        input: &'a [u8],
        limits: &Limits,
        scratch: &'a mut Vec<u8>,
    ) -> Result<Decoded<'a>, DecodeError> {
        let whole = match frame::open(input, FORMAT, limits)? {
            Opened::NeedMore { at_least } => return Ok(Decoded::NeedMore { at_least }),
            Opened::Whole(whole) => whole,
        };
        let (kind, body) = whole.known()?;
        let mut received = reader::read(kind, body, limits, scratch)?;
        received.decoded(kind, whole.consumed)
    }

    fn overhead(&self) -> Overhead {
        Overhead {
            // {"term":,"kind":"open_session","crc":,"payload":""}, and its numbers; and the padding of Base64.
            entry_bytes: 128,
            // The names of an append's fields, and their numbers.
            frame_bytes: 512,
            three_become: 4,
        }
    }

    fn name(&self) -> &'static str {
        "json"
    }
}

/// A message, entry or member.
struct Object<'a> {
    record: Record<'a>,
    fields: &'static [Field],
    /// Of a message with a list, that message's body.
    list: Option<&'a Body<'a>>,
}

impl<'a> Object<'a> {
    fn of(message: &'a Message<'a>) -> Self {
        let has_list = match &message.body {
            Body::Append(append) => !append.entries.is_empty(),
            Body::StatusReply(status) => !status.members.is_empty(),
            _ => false,
        };
        Self {
            record: Record::of(message),
            fields: fields(Kind::of(&message.body)),
            list: has_list.then_some(&message.body),
        }
    }

    fn element(record: Record<'a>, fields: &'static [Field]) -> Self {
        let list = None;
        Self { record, fields, list }
    }
}

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for field in self.fields.iter().filter(|field| self.record.says(field)) {
            let number = self.record.numbers[usize::from(field.number)];
            match field.holds {
                Holds::Number(_) => map.serialize_entry(field.name, &Number(number))?,
                Holds::Flag => map.serialize_entry(field.name, &(number != 0))?,
                Holds::Choice(choices) => {
                    let choice = choices.iter().find(|(other, _)| *other == number);
                    let (_, name) = choice.ok_or_else(|| S::Error::custom("a choice without a name"))?;
                    map.serialize_entry(field.name, name)?;
                }
                Holds::Text(at) => map.serialize_entry(field.name, self.record.texts[at])?,
                Holds::Bytes => map.serialize_entry(field.name, &Payload(self.record.bytes))?,
                Holds::Entries | Holds::Members => unreachable!("lists are written apart"),
            }
        }
        if let (Some(body), Some(field)) = (self.list, self.fields.last()) {
            map.serialize_entry(field.name, &List(body))?;
        }
        map.end()
    }
}

/// The entries or members of a message.
struct List<'a>(&'a Body<'a>);

impl Serialize for List<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        match self.0 {
            Body::Append(append) => {
                for entry in append.entries.iter() {
                    list.serialize_element(&Object::element(Record::of_entry(entry), ENTRY))?;
                }
            }
            Body::StatusReply(status) => {
                for member in &status.members {
                    list.serialize_element(&Object::element(Record::of_member(member), MEMBER))?;
                }
            }
            _ => {}
        }
        list.end()
    }
}

struct Number(u64);

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 <= NUMBER_MAX {
            return serializer.serialize_u64(self.0);
        }
        serializer.collect_str(&self.0)
    }
}

struct Payload<'a>(&'a [u8]);

impl Serialize for Payload<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&Base64Display::new(self.0, &STANDARD))
    }
}
