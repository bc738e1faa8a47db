//! How version 1 reads frames: by its tables, and skipping what these do not have.

use std::collections::BTreeMap;

use kraft::protocols::Format;

/// A message, by the names of the schema. What is not there is zero or empty.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) kind: &'static str,
    fields: BTreeMap<&'static str, Value>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Number(u64),
    Bytes(Vec<u8>),
}

/// Where `binary` has a field, counted from the body's first byte.
#[derive(Clone, Copy)]
enum At {
    U8(usize),
    U16(usize),
    U32(usize),
    U64(usize),
    Bit(usize, u8),
    /// A variable part; here stands its length.
    Variable(usize),
    /// Another field of the same bytes has it, or it is not looked at.
    Elsewhere,
}

/// What the others write that have no types: the words of a choice stand in the order of their numbers, from 1.
#[derive(Clone, Copy)]
enum Holds {
    Number,
    Choice(&'static [&'static str]),
    Text,
    Bytes,
}

use At::{Bit, Elsewhere, U8, U16, U32, U64, Variable};
use Holds::{Bytes, Choice, Number, Text};

type Field = (&'static str, u64, At, Holds);

const COMMON: &[Field] = &[
    ("cluster", 1, U64(8), Number),
    ("group", 2, U32(4), Number),
    ("from", 3, U64(16), Number),
    ("term", 4, U64(24), Number),
    ("request", 5, U64(32), Number),
];

/// The kinds that a node says in these tests: number, name, bytes of the fixed part in `binary`, fields.
const KINDS: &[(u16, &str, usize, &[Field])] = &[
    (
        1,
        "hello",
        88,
        &[
            ("role", 6, U8(40), Choice(&["peer", "client"])),
            ("to", 7, U64(56), Number),
            ("incarnation", 8, U64(64), Number),
            ("nonce", 9, U64(72), Number),
            ("version_min", 10, U16(42), Number),
            ("version_max", 11, U16(44), Number),
            ("features", 12, U64(80), Number),
            ("frame_max", 13, U32(48), Number),
            ("cluster_name", 14, Variable(52), Text),
        ],
    ),
    (
        2,
        "welcome",
        72,
        &[
            ("version", 6, U16(40), Number),
            ("frame_max", 7, U32(44), Number),
            ("incarnation", 8, U64(48), Number),
            ("nonce", 9, U64(56), Number),
            ("features", 10, U64(64), Number),
        ],
    ),
    (
        3,
        "goaway",
        48,
        &[
            (
                "reason",
                6,
                U16(40),
                Choice(&[
                    "wrong_cluster",
                    "wrong_node",
                    "own_id",
                    "unknown_node",
                    "wrong_incarnation",
                    "duplicate_node",
                    "no_common_version",
                    "not_allowed",
                    "malformed",
                    "too_large",
                    "too_slow",
                    "too_many",
                    "stopping",
                    "violation",
                    "removed",
                ]),
            ),
            ("detail", 7, Variable(44), Text),
        ],
    ),
    (
        16,
        "append",
        80,
        &[
            ("prev_index", 6, U64(40), Number),
            ("prev_term", 7, U64(48), Number),
            ("commit", 8, U64(56), Number),
            ("round", 9, U64(64), Number),
        ],
    ),
    (
        17,
        "append_reply",
        80,
        &[
            ("round", 6, U64(40), Number),
            ("result", 7, U8(48), Choice(&["matched", "rejected"])),
            ("index", 8, U64(56), Number),
            ("hint_index", 9, U64(64), Number),
            ("hint_term", 10, U64(72), Number),
        ],
    ),
    (
        18,
        "heartbeat",
        56,
        &[("commit", 6, U64(40), Number), ("round", 7, U64(48), Number)],
    ),
    (19, "heartbeat_reply", 48, &[("round", 6, U64(40), Number)]),
    (
        20,
        "vote",
        72,
        &[
            ("pre", 6, Bit(40, 1), Number),
            ("by_transfer", 7, Bit(40, 2), Number),
            ("campaign_term", 8, U64(48), Number),
            ("last_index", 9, U64(56), Number),
            ("last_term", 10, U64(64), Number),
        ],
    ),
    (
        21,
        "vote_reply",
        56,
        &[
            ("pre", 6, Bit(40, 1), Number),
            ("granted", 7, Bit(40, 2), Number),
            ("campaign_term", 8, U64(48), Number),
        ],
    ),
    (
        35,
        "reply",
        56,
        &[
            ("outcome", 6, U8(40), Choice(&["committed", "refused", "unknown"])),
            (
                "why",
                7,
                U16(42),
                Choice(&[
                    "not_leader",
                    "overloaded",
                    "no_space",
                    "session_expired",
                    "too_large",
                    "invalid",
                    "stopping",
                ]),
            ),
            ("leader", 8, U64(48), Number),
            ("detail", 9, Elsewhere, Text),
            ("answer", 12, Variable(44), Bytes),
        ],
    ),
    (
        37,
        "status_reply",
        112,
        &[
            (
                "state",
                6,
                U8(40),
                Choice(&["follower", "pre_candidate", "candidate", "leader"]),
            ),
            ("leader", 7, U64(48), Number),
            ("commit", 8, U64(56), Number),
            ("applied", 9, U64(64), Number),
            ("first", 10, U64(72), Number),
            ("last", 11, U64(80), Number),
            ("durable", 12, U64(88), Number),
        ],
    ),
];

impl Heard {
    pub(super) fn number(&self, name: &str) -> u64 {
        match self.fields.get(name) {
            None => 0,
            Some(Value::Number(number)) => *number,
            Some(other) => panic!("{name} is {other:?}"),
        }
    }

    pub(super) fn bytes(&self, name: &str) -> &[u8] {
        match self.fields.get(name) {
            None => &[],
            Some(Value::Bytes(bytes)) => bytes,
            Some(other) => panic!("{name} is {other:?}"),
        }
    }
}

/// All frames, as version 1 reads them; or why it cannot.
pub(super) fn hear(format: Format, mut bytes: &[u8]) -> Result<Vec<Heard>, String> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let header = bytes.get(..24).ok_or("a header that is cut short")?;
        let length = u32_at(header, 8) as usize;
        let checked = u32_at(header, 12) as usize;
        if header[..6] != [0xa9, b'K', b'R', b'F', 1, number_of(format)] {
            return Err(format!("an envelope that version 1 does not know: {header:02x?}"));
        }
        let body = bytes.get(24..24 + length).ok_or("a frame that is cut short")?;
        if crc32c(&header[..20]) != u32_at(header, 20) || crc32c(&body[..checked]) != u32_at(header, 16) {
            return Err("a checksum that does not fit".into());
        }
        let number = u16::from_le_bytes([header[6], header[7]]);
        let Some(&(_, kind, fixed, own)) = KINDS.iter().find(|kind| kind.0 == number) else {
            return Err(format!(
                "kind {number}, which version 1 does not know, or none of these tests"
            ));
        };
        let table: Vec<_> = COMMON.iter().chain(own).copied().collect();
        let fields = match number_of(format) {
            1 => binary(&table, fixed, &body[..checked])?,
            2 => protobuf(&table, body)?,
            3 => msgpack(&table, body)?,
            _ => json(&table, body)?,
        };
        all.push(Heard { kind, fields });
        bytes = &bytes[24 + length..];
    }
    Ok(all)
}

type Fields = BTreeMap<&'static str, Value>;

fn binary(table: &[Field], fixed: usize, body: &[u8]) -> Result<Fields, String> {
    let said = usize::from(u16::from_le_bytes([body[0], body[1]]));
    if said < fixed || body.len() < said {
        return Err(format!("a fixed part of {said} bytes, where version 1 has {fixed}"));
    }
    let mut fields = Fields::new();
    let mut variable = said;
    for &(name, _, at, _) in table {
        let number = match at {
            U8(at) => u64::from(body[at]),
            U16(at) => u64::from(u16::from_le_bytes([body[at], body[at + 1]])),
            U32(at) => u64::from(u32_at(body, at)),
            U64(at) => u64::from_le_bytes(body[at..at + 8].try_into().expect("eight bytes")),
            Bit(at, bit) => u64::from(body[at] & bit != 0),
            Elsewhere => continue,
            Variable(at) => {
                let length = u32_at(body, at) as usize;
                let part = body
                    .get(variable..variable + length)
                    .ok_or("a part that is cut short")?;
                fields.insert(name, Value::Bytes(part.to_vec()));
                variable += length;
                continue;
            }
        };
        fields.insert(name, Value::Number(number));
    }
    Ok(fields)
}

fn varint(bytes: &mut &[u8]) -> Result<u64, String> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first().ok_or("a varint that is cut short")?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err("a varint without end".into())
}

fn split<'a>(bytes: &mut &'a [u8], length: usize) -> Result<&'a [u8], String> {
    let (part, rest) = bytes.split_at_checked(length).ok_or("it is cut short")?;
    *bytes = rest;
    Ok(part)
}

fn big_endian(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn protobuf(table: &[Field], mut body: &[u8]) -> Result<Fields, String> {
    let mut fields = Fields::new();
    while !body.is_empty() {
        let tag = varint(&mut body)?;
        let value = match tag & 7 {
            0 => Value::Number(varint(&mut body)?),
            1 => Value::Number(big_endian(split(&mut body, 8)?).swap_bytes()),
            2 => {
                let length = usize::try_from(varint(&mut body)?).expect("it is short");
                Value::Bytes(split(&mut body, length)?.to_vec())
            }
            5 => Value::Number(big_endian(split(&mut body, 4)?).swap_bytes() >> 32),
            other => return Err(format!("wire type {other}")),
        };
        if let Some((name, ..)) = table.iter().find(|field| field.1 == tag >> 3) {
            fields.insert(name, value);
        }
    }
    Ok(fields)
}

/// A value, `None` if it is none that version 1 has a use for. It is skipped, whatever it nests.
fn msgpack_value(bytes: &mut &[u8]) -> Result<Option<Value>, String> {
    let first = split(bytes, 1)?[0];
    let mut length = |width: usize| Ok::<_, String>(big_endian(split(bytes, width)?));
    let (nested, value) = match first {
        0..=0x7f => (0, Some(Value::Number(u64::from(first)))),
        0x80..=0x8f => (2 * u64::from(first & 15), None),
        0x90..=0x9f => (u64::from(first & 15), None),
        0xa0..=0xbf => {
            let text = split(bytes, usize::from(first & 31))?;
            (0, Some(Value::Bytes(text.to_vec())))
        }
        0xc0 => (0, None),
        0xc2 | 0xc3 => (0, Some(Value::Number(u64::from(first & 1)))),
        0xc4..=0xc6 | 0xd9..=0xdb => {
            let width = 1 << ((first - if first < 0xd0 { 0xc4 } else { 0xd9 }) as usize);
            let length = usize::try_from(length(width)?).expect("it is short");
            (0, Some(Value::Bytes(split(bytes, length)?.to_vec())))
        }
        0xcc..=0xcf => (0, Some(Value::Number(length(1 << (first - 0xcc))?))),
        0xdc | 0xdd => (length(2 << (first - 0xdc))?, None),
        0xde | 0xdf => (2 * length(2 << (first - 0xde))?, None),
        other => return Err(format!("a value that begins with {other:#x}")),
    };
    for _ in 0..nested {
        msgpack_value(bytes)?;
    }
    Ok(value)
}

fn msgpack(table: &[Field], mut body: &[u8]) -> Result<Fields, String> {
    let count = match split(&mut body, 1)?[0] {
        fixed @ 0x80..=0x8f => u64::from(fixed & 15),
        0xde => big_endian(split(&mut body, 2)?),
        other => return Err(format!("a map that begins with {other:#x}")),
    };
    let mut fields = Fields::new();
    for _ in 0..count {
        let (key, value) = (msgpack_value(&mut body)?, msgpack_value(&mut body)?);
        let known = table.iter().find(|field| key == Some(Value::Number(field.1)));
        if let (Some((name, ..)), Some(value)) = (known, value) {
            fields.insert(name, value);
        }
    }
    Ok(fields)
}

/// The end of the value that begins at `from`: of a text, a number or a word, or of what nests.
fn json_end(text: &str, from: usize) -> usize {
    let bytes = text.as_bytes();
    let (mut at, mut depth, mut is_text) = (from, 0, false);
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if is_text => at += 1,
            b'"' => is_text = !is_text,
            b'{' | b'[' if !is_text => depth += 1,
            b'}' | b']' | b',' if !is_text && depth == 0 => return at,
            b'}' | b']' if !is_text => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    at
}

fn json(table: &[Field], body: &[u8]) -> Result<Fields, String> {
    let text = str::from_utf8(body).map_err(|error| error.to_string())?;
    let mut fields = Fields::new();
    let mut at = 1;
    while text[at..].starts_with('"') {
        let name = text[at + 1..].split('"').next().unwrap_or_default();
        let from = at + name.len() + 3;
        let end = json_end(text, from);
        let value = &text[from..end];
        at = end + 1;
        let Some(&(name, _, _, holds)) = table.iter().find(|field| field.0 == name) else {
            continue;
        };
        let plain = value.trim_matches('"');
        let value = match holds {
            Number if plain == "true" => Value::Number(1),
            Number if plain == "false" => Value::Number(0),
            Number => Value::Number(plain.parse().map_err(|_| format!("{name} is {value}"))?),
            Choice(words) => {
                let number = words.iter().position(|word| *word == plain);
                Value::Number(number.ok_or_else(|| format!("{name} is {value}"))? as u64 + 1)
            }
            Text => Value::Bytes(plain.as_bytes().to_vec()),
            Bytes => Value::Bytes(base64(plain)),
        };
        fields.insert(name, value);
    }
    Ok(fields)
}

fn base64(text: &str) -> Vec<u8> {
    let digit = |char: u8| -> u32 {
        match char {
            b'A'..=b'Z' => u32::from(char - b'A'),
            b'a'..=b'z' => u32::from(char - b'a') + 26,
            b'0'..=b'9' => u32::from(char - b'0') + 52,
            b'+' => 62,
            b'/' => 63,
            _ => 0,
        }
    };
    let missing = text.bytes().rev().take_while(|char| *char == b'=').count();
    let mut bytes = Vec::new();
    for four in text.as_bytes().chunks(4) {
        let number = four.iter().fold(0, |number, char| number << 6 | digit(*char));
        bytes.extend_from_slice(&number.to_be_bytes()[1..]);
    }
    bytes.truncate(bytes.len() - missing);
    bytes
}

/// The frame with another nonce in place of the recorded one, and sums that fit.
pub(super) fn with_nonce(format: Format, frame: &[u8], recorded: u64, nonce: u64) -> Vec<u8> {
    let of = |nonce: u64| match number_of(format) {
        1 | 2 => nonce.to_le_bytes().to_vec(),
        3 => [&[0xcf][..], &nonce.to_be_bytes()].concat(),
        _ => format!("\"{nonce}\"").into_bytes(),
    };
    let (body, old) = (&frame[24..], of(recorded));
    let at = body
        .windows(old.len())
        .position(|part| part == old)
        .expect("the recorded nonce is there");
    let body = [&body[..at], &of(nonce), &body[at + old.len()..]].concat();
    let mut header = frame[..24].to_vec();
    let length = u32::try_from(body.len()).expect("it is short").to_le_bytes();
    header[8..12].copy_from_slice(&length);
    header[12..16].copy_from_slice(&length);
    header[16..20].copy_from_slice(&crc32c(&body).to_le_bytes());
    let crc = crc32c(&header[..20]);
    header[20..24].copy_from_slice(&crc.to_le_bytes());
    [header, body].concat()
}

fn number_of(format: Format) -> u8 {
    match format.name() {
        "binary" => 1,
        "protobuf" => 2,
        "msgpack" => 3,
        "json" => 4,
        other => panic!("version 1 has no format {other}"),
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn crc32c(bytes: &[u8]) -> u32 {
    let reversed = bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 * (crc & 1)))
    });
    !reversed
}
