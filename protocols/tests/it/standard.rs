//! The formats as others keep their standards: prost, which knows the published schema alone, rmp-serde and serde_json
//! read what is written here and write what is read here.
//!
//! The schema is the judge: what a message's fields are called and numbered comes of `protocols/schema/kraft.proto` by
//! way of prost, and no table of this crate.

use std::fmt;
use std::path::Path;
use std::sync::LazyLock;

use kraft_core::handshake::Kind;
use kraft_core::message::Message;
use kraft_core::protocol::{Decoded, Protocol};
use kraft_protocols::conformance::{LIMITS, Sample, Subject, golden};
use kraft_protocols::frame::{HEADER, kind_number};
use kraft_protocols::{Json, Msgpack, Protobuf};
use prost_reflect::prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, Kind as Type, MessageDescriptor, Value};
use serde_core::de::{MapAccess, SeqAccess, Visitor};
use serde_core::ser::{SerializeMap, SerializeSeq};
use serde_core::{Deserialize, Deserializer, Serialize, Serializer};

use crate::forge::seal;

static SCHEMA: LazyLock<DescriptorPool> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema");
    let set = protox::compile(["kraft.proto"], [folder]).unwrap();
    DescriptorPool::from_file_descriptor_set(set).unwrap()
});

fn descriptor(kind: Kind) -> MessageDescriptor {
    let name = format!("kraft.v1.{kind:?}");
    SCHEMA
        .get_message_by_name(&name)
        .unwrap_or_else(|| panic!("no {name} in the schema"))
}

/// What is tried: golden messages, and drawn ones.
fn each_message(mut check: impl FnMut(&Message<'_>)) {
    for (_, message) in golden::messages() {
        check(&message);
    }
    for sample in (0..60).flat_map(Sample::each_kind) {
        check(&sample.message());
    }
}

fn frame<P: Protocol>(protocol: P, message: &Message<'_>) -> Vec<u8> {
    Subject::from(protocol).frame(message)
}

#[track_caller]
fn expect_read(protocol: impl Protocol, frame: &[u8], message: &Message<'_>) {
    let mut scratch = Vec::new();
    match protocol.decode(frame, &LIMITS, &mut scratch) {
        Ok(Decoded::Message { message: read, .. }) => assert_eq!(read, *message),
        other => panic!("{message:?}: {other:?}"),
    }
}

/// The message as prost has it, of the bytes of the `protobuf` format.
fn by_prost(message: &Message<'_>) -> DynamicMessage {
    let frame = frame(Protobuf, message);
    DynamicMessage::decode(descriptor(Kind::of(&message.body)), &frame[HEADER..]).unwrap()
}

#[test]
fn prost_reads_and_writes_protobuf() {
    each_message(|message| {
        let theirs = by_prost(message);
        assert_eq!(theirs.unknown_fields().count(), 0, "{message:?}");
        let ours = frame(Protobuf, message);
        let body = theirs.encode_to_vec();
        expect_read(Protobuf, &seal(&ours, &body, &[]), message);
        // Both leave defaults out and write fields by their numbers.
        assert_eq!(body, ours[HEADER..], "{message:?}");
    });
}

#[test]
fn rmp_serde_reads_and_writes_msgpack() {
    each_message(|message| {
        let expected = numbered(&by_prost(message));
        let ours = frame(Msgpack, message);
        let read: Packed = rmp_serde::from_slice(&ours[HEADER..]).unwrap();
        assert_eq!(read, expected, "{message:?}");
        let body = rmp_serde::to_vec(&expected).unwrap();
        expect_read(Msgpack, &seal(&ours, &body, &[]), message);
    });
}

#[test]
fn serde_json_reads_and_writes_json() {
    each_message(|message| {
        let expected = named(&by_prost(message));
        let ours = frame(Json, message);
        let read: serde_json::Value = serde_json::from_slice(&ours[HEADER..]).unwrap();
        assert_eq!(read, expected, "{message:?}");
        for body in [
            serde_json::to_vec(&expected).unwrap(),
            serde_json::to_vec_pretty(&expected).unwrap(),
        ] {
            expect_read(Json, &seal(&ours, &body, &[]), message);
        }
    });
}

/// Every kind has its number in the comment over its message, and no message is without one.
#[test]
fn the_schema_has_every_kind() {
    let text = include_str!("../../schema/kraft.proto");
    for kind in Kind::ALL {
        let (before, _) = text.split_once(&format!("message {kind:?} {{")).unwrap();
        let comment = before.lines().rev().find(|line| !line.is_empty()).unwrap();
        assert!(
            comment.starts_with(&format!("// Kind {}.", kind_number(kind))),
            "{kind:?}: {comment}"
        );
    }
    assert_eq!(
        SCHEMA.all_messages().count(),
        Kind::ALL.len() + 2,
        "entries and members apart"
    );
}

/// Each default that is left out is one that may be said.
#[test]
fn fields_may_be_said_though_they_are_zero() {
    for (_, message) in golden::messages() {
        let descriptor = descriptor(Kind::of(&message.body));
        let theirs = by_prost(&message);
        let absent: Vec<_> = descriptor
            .fields()
            .filter(|field| !theirs.has_field(field) && !field.is_list())
            .collect();
        for field in absent {
            let default = Value::default_value_for_field(&field);
            let (Packed::Map(mut packed), serde_json::Value::Object(mut object)) = (numbered(&theirs), named(&theirs))
            else {
                panic!("messages are maps");
            };
            packed.push((Packed::Number(field.number().into()), packed_value(&default)));
            let frame = frame(Msgpack, &message);
            expect_read(
                Msgpack,
                &seal(&frame, &rmp_serde::to_vec(&Packed::Map(packed)).unwrap(), &[]),
                &message,
            );
            // The zero of most choices has no name, and so cannot be said.
            let choice = json_value(&field.kind(), &default);
            if choice != serde_json::Value::Null {
                object.insert(field.name().to_owned(), choice);
                let frame = self::frame(Json, &message);
                expect_read(
                    Json,
                    &seal(&frame, &serde_json::to_vec(&object).unwrap(), &[]),
                    &message,
                );
            }
        }
    }
}

/// A value of MessagePack, read and written by rmp-serde.
#[derive(Clone, Debug, PartialEq)]
enum Packed {
    Number(u64),
    Flag(bool),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Self>),
    Map(Vec<(Self, Self)>),
}

/// The message as the docs say that `msgpack` has it.
fn numbered(message: &DynamicMessage) -> Packed {
    let mut fields: Vec<_> = message.fields().collect();
    fields.sort_by_key(|(field, _)| field.number());
    let fields = fields.into_iter();
    Packed::Map(
        fields
            .map(|(field, value)| (Packed::Number(field.number().into()), packed_value(value)))
            .collect(),
    )
}

fn packed_value(value: &Value) -> Packed {
    match value {
        Value::Bool(flag) => Packed::Flag(*flag),
        Value::U32(number) => Packed::Number((*number).into()),
        Value::U64(number) => Packed::Number(*number),
        Value::EnumNumber(number) => Packed::Number(u64::try_from(*number).unwrap()),
        Value::String(text) => Packed::Text(text.clone()),
        Value::Bytes(bytes) => Packed::Bytes(bytes.to_vec()),
        Value::List(list) => Packed::List(list.iter().map(packed_value).collect()),
        Value::Message(message) => numbered(message),
        other => panic!("{other:?} is not in the schema"),
    }
}

/// The message as the docs say that `json` has it.
fn named(message: &DynamicMessage) -> serde_json::Value {
    let fields = message.fields();
    fields
        .map(|(field, value)| (field.name().to_owned(), json_value(&field.kind(), value)))
        .collect()
}

fn json_value(of: &Type, value: &Value) -> serde_json::Value {
    let number = |number: u64| match number {
        0..=0x20_0000_0000_0000 => serde_json::Value::from(number),
        _ => serde_json::Value::from(number.to_string()),
    };
    match value {
        Value::Bool(flag) => (*flag).into(),
        Value::U32(value) => number((*value).into()),
        Value::U64(value) => number(*value),
        Value::EnumNumber(value) => choice(of, *value),
        Value::String(text) => text.as_str().into(),
        Value::Bytes(bytes) => base64(bytes).into(),
        Value::List(list) => list.iter().map(|value| json_value(of, value)).collect(),
        Value::Message(message) => named(message),
        other => panic!("{other:?} is not in the schema"),
    }
}

/// `GOAWAY_REASON_WRONG_CLUSTER` is "wrong_cluster" among the reasons of a goaway; none if it is unspecified.
fn choice(of: &Type, number: i32) -> serde_json::Value {
    let choices = of.as_enum().unwrap();
    let mut prefix = String::new();
    for letter in choices.name().chars() {
        if letter.is_uppercase() && !prefix.is_empty() {
            prefix.push('_');
        }
        prefix.push(letter.to_ascii_uppercase());
    }
    let value = choices.get_value(number).unwrap();
    let name = value.name().strip_prefix(&format!("{prefix}_")).unwrap();
    match name {
        "UNSPECIFIED" => serde_json::Value::Null,
        name => name.to_ascii_lowercase().into(),
    }
}

/// Base64 by its definition, RFC 4648 §4: no library's.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let sextet = (bits >> (18 - 6 * place)) & 63;
            text.push(if place <= chunk.len() {
                char::from(ALPHABET[sextet as usize])
            } else {
                '='
            });
        }
    }
    text
}

impl Serialize for Packed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Number(number) => serializer.serialize_u64(*number),
            Self::Flag(flag) => serializer.serialize_bool(*flag),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Bytes(bytes) => serializer.serialize_bytes(bytes),
            Self::List(list) => {
                let mut seq = serializer.serialize_seq(Some(list.len()))?;
                list.iter().try_for_each(|value| seq.serialize_element(value))?;
                seq.end()
            }
            Self::Map(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                entries
                    .iter()
                    .try_for_each(|(key, value)| map.serialize_entry(key, value))?;
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Packed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PackedVisitor)
    }
}

struct PackedVisitor;

impl<'de> Visitor<'de> for PackedVisitor {
    type Value = Packed;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of the schema")
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Packed, E> {
        Ok(Packed::Flag(flag))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Packed, E> {
        Ok(Packed::Number(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Packed, E> {
        Ok(Packed::Text(text.to_owned()))
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Packed, E> {
        Ok(Packed::Bytes(bytes.to_vec()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Packed, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = seq.next_element()? {
            list.push(value);
        }
        Ok(Packed::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Packed, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Packed::Map(entries))
    }
}
