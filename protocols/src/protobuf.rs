//! The `protobuf` format: Protocol Buffers by the schema `protocols/schema/kraft.proto`.
//!
//! A body is one message of the schema, which its kind names. The code of the messages is generated, by buffa, whose
//! views borrow texts and payloads from what was received. Three things are done here and not by what is generated: the
//! loop over a message's fields, which knows the offset of an error and decodes an append's entries into the list that is
//! handed out, and the same list on the way out, whose payloads are shared with the outbox, so that nothing is copied and
//! an append costs one allocation; and the numbers that a message begins with, most of which have nothing else.

mod generated;

use std::cell::Cell;

use buffa::encoding::{Tag, WireType, check_wire_type};
use buffa::types::{borrow_bytes, put_len_delimited_header};
use buffa::{DecodeContext, EnumValue, Enumeration, MessageView, SizeCache, ViewEncode};
use kraft_core::handshake::Kind;
use kraft_core::id::Term;
use kraft_core::message::{Body, Entries, EntryKind, EntryRef, MemberStatus, Message};
use kraft_core::outbox::Outbox;
use kraft_core::protocol::{DecodeError, Decoded, EncodeError, Limits, Protocol};

use self::generated::{EntryView, MemberView};
use crate::checksum::Checking;
use crate::flat::{Offsets, Received, Record};
use crate::frame::{self, Cut, HEADER};
use crate::kinds::{DEPTH_MAX, MEMBERS_MAX, SLOTS, kinds};
use crate::numbers::{Numbered, TEXT_MAX};
use crate::schema::{is_numbers, numbers_in_front};
use crate::writer::{self, GATHERED, Pieces, Writer};

type Result<T> = std::result::Result<T, DecodeError>;

/// The number of this format in the envelope.
pub const FORMAT: u8 = 2;

/// The field of an append that holds its entries.
const ENTRIES: u8 = 10;

/// The field of a status reply that holds its members.
const MEMBERS: u8 = 18;

/// The field of an entry that holds its payload, the last of them.
const PAYLOAD: u32 = 4;

/// The most numbers in front of a kind's other fields: their tags are a byte.
const FRONT_MAX: usize = 15;

/// The `protobuf` format.
#[derive(Clone, Copy, Debug, Default)]
pub struct Protobuf;

impl Protocol for Protobuf {
    fn encode(
        &self,
        message: &Message<'_>,
        frame_max: usize,
        out: &mut Outbox,
    ) -> std::result::Result<(), EncodeError> {
        let kind = Kind::of(&message.body);
        let mut record = Record::default();
        record.message(message);
        let numbers = &record.numbers[..=numbers_in_front(kind)];
        if is_numbers(kind) {
            return writer::write_numbers(FORMAT, kind, frame_max, out, |room| {
                encode_numbers(numbers, wire_types(kind), room)
            });
        }
        writer::write(FORMAT, message, frame_max, out, |writer| {
            writer.pieces(|out| {
                out.fill(|room| encode_numbers(numbers, wire_types(kind), room));
                encode_fields(kind, &record, out);
            });
            match &message.body {
                Body::Append(append) => encode_entries(&append.entries, writer),
                Body::StatusReply(status) => {
                    writer.pieces(|out| status.members.iter().for_each(|member| encode_member(member, out)));
                }
                _ => {}
            }
        })
    }

    fn decode<'a>(&self, input: &'a [u8], limits: &Limits, _: &'a mut Vec<u8>) -> Result<Decoded<'a>> {
        let frame = match frame::cut(input, FORMAT, limits)? {
            Cut::NeedMore { at_least } => return Ok(Decoded::NeedMore { at_least }),
            Cut::Frame(frame) => frame,
        };
        let consumed = frame.consumed();
        let mut received = Received::nothing(HEADER);
        let kind = if frame.is_append() {
            let mut checking = Checking::new(frame);
            let read = decode_append(frame.body(), limits, &mut checking, &mut received);
            checking.judge(read)?;
            Kind::Append
        } else {
            let (kind, body) = frame.check()?.known()?;
            match kind {
                Kind::StatusReply => decode_status(body, &mut received)?,
                _ => decode_fields(kind, Part { body, offset: HEADER }, &mut received)?,
            }
            kind
        };
        received.decoded(kind, consumed)
    }

    fn name(&self) -> &'static str {
        "protobuf"
    }
}

/// A number of a record, and the value of a generated field.
trait Slot {
    fn number(&self) -> u64;
    fn of(number: u64) -> Self;
}

impl Slot for u64 {
    fn number(&self) -> u64 {
        *self
    }

    fn of(number: u64) -> Self {
        number
    }
}

impl Slot for u32 {
    fn number(&self) -> u64 {
        u64::from(*self)
    }

    fn of(number: u64) -> Self {
        Self::try_from(number).expect("the message's own fields are no larger")
    }
}

impl Slot for bool {
    fn number(&self) -> u64 {
        u64::from(*self)
    }

    fn of(number: u64) -> Self {
        number != 0
    }
}

impl<E: Enumeration> Slot for EnumValue<E> {
    /// A negative number is none of the choices either.
    fn number(&self) -> u64 {
        u64::try_from(self.to_i32()).unwrap_or(u64::MAX)
    }

    fn of(number: u64) -> Self {
        Self::from(i32::try_from(number).expect("choices have small numbers"))
    }
}

/// The value of a field of a view, by what it holds: none if it is a list or one of the numbers in front.
macro_rules! put {
    ($record:ident $front:ident $number:literal TEXT0) => {
        $record.texts[0]
    };
    ($record:ident $front:ident $number:literal TEXT1) => {
        $record.texts[1]
    };
    ($record:ident $front:ident $number:literal BYTES) => {
        $record.bytes
    };
    ($record:ident $front:ident $number:literal ENTRIES) => {
        Default::default()
    };
    ($record:ident $front:ident $number:literal MEMBERS) => {
        Default::default()
    };
    ($record:ident $front:ident $number:literal $holds:ident) => {
        Slot::of(if $number > $front { $record.numbers[$number] } else { 0 })
    };
}

/// How a number is written.
macro_rules! wire_type {
    (FIXED64) => {
        WireType::Fixed64
    };
    (FIXED32) => {
        WireType::Fixed32
    };
    ($holds:ident) => {
        WireType::Varint
    };
}

/// The way back.
macro_rules! take {
    ($view:ident $record:ident $number:literal $name:ident TEXT0) => {
        $record.texts[0] = $view.$name;
    };
    ($view:ident $record:ident $number:literal $name:ident TEXT1) => {
        $record.texts[1] = $view.$name;
    };
    ($view:ident $record:ident $number:literal $name:ident BYTES) => {
        $record.bytes = $view.$name;
    };
    ($view:ident $record:ident $number:literal $name:ident ENTRIES) => {};
    ($view:ident $record:ident $number:literal $name:ident MEMBERS) => {};
    ($view:ident $record:ident $number:literal $name:ident $holds:ident) => {
        $record.numbers[$number] = Slot::number(&$view.$name);
    };
}

/// Reads a number if it comes next. Encoders write fields in order, so that most of a message is read here; what is not
/// numbers in order is read field by field.
macro_rules! plain {
    ($view:ident $rest:ident $at:ident $part:ident $number:literal $name:ident U64) => {
        if let [tag, behind @ ..] = $rest
            && $number < 16
            && *tag == $number << 3
            && let Some((number, behind)) = plain_varint(behind)
        {
            $at.set($number, $part.offset_of($rest));
            $view.$name = number;
            $rest = behind;
        }
    };
    ($view:ident $rest:ident $at:ident $part:ident $number:literal $name:ident FIXED64) => {
        if let [tag, a, b, c, d, e, f, g, h, behind @ ..] = $rest
            && $number < 16
            && *tag == $number << 3 | 1
        {
            $at.set($number, $part.offset_of($rest));
            $view.$name = u64::from_le_bytes([*a, *b, *c, *d, *e, *f, *g, *h]);
            $rest = behind;
        }
    };
    ($view:ident $rest:ident $at:ident $part:ident $number:literal $name:ident $holds:ident) => {};
}

macro_rules! views {
    ($($kind:ident { $($number:literal $name:ident $holds:ident,)* })*) => {
        /// How the numbers of a kind are written, by their fields.
        const fn wire_types(kind: Kind) -> &'static WireTypes {
            match kind {
                $(Kind::$kind => const {
                    let mut types = [WireType::Varint; SLOTS];
                    types[1] = WireType::Fixed64;
                    $(types[$number] = wire_type!($holds);)*
                    &{ types }
                },)*
            }
        }

        /// Writes the fields of a message that are behind the numbers in front, its lists apart.
        fn encode_fields(kind: Kind, record: &Record<'_>, out: &mut Pieces<'_, '_, '_>) {
            match kind {
                $(Kind::$kind => {
                    const FRONT: usize = numbers_in_front(Kind::$kind);
                    const { assert!(FRONT <= FRONT_MAX) };
                    let view = views::$kind {
                        $($name: put!(record FRONT $number $holds),)*
                        ..Default::default()
                    };
                    encode_view(&view, out);
                })*
            }
        }

        /// Reads the fields of a message, its lists apart, into `received`.
        fn decode_kind<'a>(
            kind: Kind,
            part: Part<'a>,
            list: u8,
            received: &mut Received<'a>,
            on_element: impl FnMut(Part<'a>) -> Result<()>,
        ) -> Result<()> {
            let Received { record, at, .. } = received;
            match kind {
                $(Kind::$kind => {
                    let mut view = views::$kind::default();
                    let mut rest = part.body;
                    plain!(view rest at part 1 cluster FIXED64);
                    plain!(view rest at part 3 from U64);
                    plain!(view rest at part 4 term U64);
                    plain!(view rest at part 5 request U64);
                    $(plain!(view rest at part $number $name $holds);)*
                    merge_view(&mut view, part, rest, at, list, on_element)?;
                    take!(view record 1 cluster U64);
                    take!(view record 2 group U32);
                    take!(view record 3 from U64);
                    take!(view record 4 term U64);
                    take!(view record 5 request U64);
                    $(take!(view record $number $name $holds);)*
                })*
            }
            Ok(())
        }
    };
}

kinds!(views);

/// The views of messages, by their kinds.
mod views {
    pub(super) use super::generated::AppendReplyView as AppendReply;
    pub(super) use super::generated::AppendView as Append;
    pub(super) use super::generated::ChangeView as Change;
    pub(super) use super::generated::CommandView as Command;
    pub(super) use super::generated::FetchReplyView as FetchReply;
    pub(super) use super::generated::FetchView as Fetch;
    pub(super) use super::generated::GoawayView as Goaway;
    pub(super) use super::generated::HeartbeatReplyView as HeartbeatReply;
    pub(super) use super::generated::HeartbeatView as Heartbeat;
    pub(super) use super::generated::HelloView as Hello;
    pub(super) use super::generated::OpenSessionView as OpenSession;
    pub(super) use super::generated::ReadIndexReplyView as ReadIndexReply;
    pub(super) use super::generated::ReadIndexView as ReadIndex;
    pub(super) use super::generated::ReadView as Read;
    pub(super) use super::generated::ReplyView as Reply;
    pub(super) use super::generated::SnapshotReplyView as SnapshotReply;
    pub(super) use super::generated::SnapshotView as Snapshot;
    pub(super) use super::generated::StatusReplyView as StatusReply;
    pub(super) use super::generated::StatusView as Status;
    pub(super) use super::generated::TimeoutNowView as TimeoutNow;
    pub(super) use super::generated::TransferView as Transfer;
    pub(super) use super::generated::VoteReplyView as VoteReply;
    pub(super) use super::generated::VoteView as Vote;
    pub(super) use super::generated::WelcomeView as Welcome;
}

/// Bytes of a frame, and where in it they begin.
#[derive(Clone, Copy)]
struct Part<'a> {
    body: &'a [u8],
    offset: usize,
}

impl Part<'_> {
    /// Where the `rest` of it begins.
    #[inline]
    fn offset_of(&self, rest: &[u8]) -> usize {
        self.offset + self.body.len() - rest.len()
    }
}

/// Bytes of a tag and a number, at the most.
const TAGGED: usize = 11;

/// How fields are written, by their numbers.
type WireTypes = [WireType; SLOTS];

/// Writes the numbers of fields by their numbers, as what is generated does, which asks for room for each byte. How many
/// bytes all have.
#[inline]
fn encode_numbers(numbers: &[u64], types: &WireTypes, room: &mut [u8; GATHERED]) -> usize {
    const { assert!(FRONT_MAX * TAGGED <= GATHERED) };
    let mut used = 0;
    for (field, (&number, &wire_type)) in numbers.iter().zip(types).enumerate() {
        if number == 0 {
            continue;
        }
        let room = room[used..].first_chunk_mut::<TAGGED>();
        let room = room.expect("there is room for all of them");
        room[0] = (field << 3) as u8 | wire_type as u8;
        used += match wire_type {
            WireType::Varint => 1 + put_varint(number, room),
            fixed => {
                room[1..9].copy_from_slice(&number.to_le_bytes());
                if matches!(fixed, WireType::Fixed32) { 5 } else { 9 }
            }
        };
    }
    used
}

/// Writes a number behind the first byte of `room`; how many bytes it has.
#[inline]
fn put_varint(number: u64, room: &mut [u8; TAGGED]) -> usize {
    if number < 0x80 {
        room[1] = number as u8;
        return 1;
    }
    // Groups of seven bits, moved apart by halves: 28 of 56, 14 of 28, 7 of 14.
    let mut groups = number & 0x0fff_ffff | number << 4 & 0x0fff_ffff << 32;
    groups = groups & 0x0000_3fff_0000_3fff | groups << 2 & 0x3fff_0000_3fff_0000;
    groups = groups & 0x007f_007f_007f_007f | groups << 1 & 0x7f00_7f00_7f00_7f00;
    let bytes = (70 - number.leading_zeros() as usize) / 7;
    // All bytes but the last say that there are more.
    room[1..9].copy_from_slice(&(groups | 0x8080_8080_8080_8080).to_le_bytes());
    room[9] = (number >> 56) as u8 | 0x80;
    room[10] = (number >> 63) as u8;
    room[bytes] &= 0x7f;
    bytes
}

#[inline]
fn encode_view<'a>(view: &impl ViewEncode<'a>, out: &mut Pieces<'_, '_, '_>) {
    // Sizes are those of messages within it, and there are none: lists are written apart.
    view.write_to(&mut SizeCache::new(), out);
}

/// Each entry behind its own length. Its payload is the last of its fields, and is shared if it is large.
fn encode_entries(entries: &Entries<'_>, writer: &mut Writer<'_, '_>) {
    match entries {
        Entries::Lent(entries) => {
            for entry in entries {
                writer.pieces(|out| out.fill(|room| encode_entry(*entry, room)));
                writer.put(entry.payload);
            }
        }
        Entries::Shared(front, back) => {
            for entry in front.iter().chain(*back) {
                writer.put_element(entry, |room| encode_entry(entry.as_ref(), room));
            }
        }
    }
}

/// Bytes of an entry besides its payload, at the most.
const ENTRY_ROOM: usize = 48;

/// An entry up to its payload's bytes. How many bytes these are.
#[inline]
fn encode_entry(entry: EntryRef<'_>, room: &mut [u8; ENTRY_ROOM]) -> usize {
    let mut view = EntryView {
        term: entry.term.0,
        kind: Slot::of(entry.kind.number().into()),
        crc: entry.crc,
        payload: entry.payload,
    };
    let size = view.compute_size(&mut SizeCache::new());
    let mut out = &mut room[..];
    put_len_delimited_header(ENTRIES.into(), size.into(), &mut out);
    view.payload = &[];
    view.write_to(&mut SizeCache::new(), &mut out);
    if !entry.payload.is_empty() {
        put_len_delimited_header(PAYLOAD, entry.payload.len() as u64, &mut out);
    }
    ENTRY_ROOM - out.len()
}

fn encode_member(member: &MemberStatus<'_>, out: &mut Pieces<'_, '_, '_>) {
    let view = MemberView {
        node: member.node.0,
        address: member.address,
        standing: Slot::of(member.standing.number().into()),
        matched: member.matched.0,
        heard_ms: member.heard_ms,
        snapshot_percent: member.snapshot_percent.into(),
    };
    let size = view.compute_size(&mut SizeCache::new());
    put_len_delimited_header(MEMBERS.into(), size.into(), out);
    encode_view(&view, out);
}

/// No field has this number.
const NO_LIST: u8 = 0;

fn decode_fields<'a>(kind: Kind, part: Part<'a>, received: &mut Received<'a>) -> Result<()> {
    decode_kind(kind, part, NO_LIST, received, |_| {
        unreachable!("no field has the number 0")
    })?;
    check_texts(&received.record)
}

fn decode_append<'a>(
    body: &'a [u8],
    limits: &Limits,
    checking: &mut Checking<'a>,
    received: &mut Received<'a>,
) -> Result<()> {
    let part = Part { body, offset: HEADER };
    let mut list = List::default();
    decode_kind(Kind::Append, part, ENTRIES, received, |element| list.count(element))?;
    if list.count > limits.entries_max {
        return Err(DecodeError::TooLarge);
    }
    received.entries.reserve_exact(list.count);
    list.each(part, ENTRIES, |element| {
        let entry = match plain_entry(element.body) {
            Some(entry) => entry,
            None => decode_entry(element)?,
        };
        checking.payload(entry.payload, entry.crc)?;
        received.entries.push(entry);
        Ok(())
    })
}

/// An entry as encoders write it, each field once at most and in order, its payload not compared with its checksum:
/// there may be thousands of them. `None` if it has to be read field by field, by [`decode_entry`].
#[inline]
fn plain_entry(body: &[u8]) -> Option<EntryRef<'_>> {
    let mut rest = body;
    let (mut term, mut kind, mut crc, mut payload) = (0, 0, 0, &[][..]);
    if let [0x08, behind @ ..] = rest {
        (term, rest) = plain_varint(behind)?;
    }
    if let [0x10, behind @ ..] = rest {
        (kind, rest) = plain_varint(behind)?;
    }
    if let [0x1d, c0, c1, c2, c3, behind @ ..] = rest {
        (crc, rest) = (u32::from_le_bytes([*c0, *c1, *c2, *c3]), behind);
    }
    if let [0x22, behind @ ..] = rest {
        let (length, behind) = plain_varint(behind)?;
        (payload, rest) = behind.split_at_checked(usize::try_from(length).ok()?)?;
    }
    rest.is_empty().then_some(EntryRef {
        term: Term(term),
        kind: EntryKind::of(u8::try_from(kind).ok()?)?,
        crc,
        payload,
    })
}

/// A number and what is behind it. `None` if it does not end or fit.
#[inline]
fn plain_varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let low = |byte: u8| u64::from(byte & 0x7f);
    match *bytes {
        [a @ ..0x80, ref rest @ ..] => Some((u64::from(a), rest)),
        [a, b @ ..0x80, ref rest @ ..] => Some((low(a) | low(b) << 7, rest)),
        [a, b, c @ ..0x80, ref rest @ ..] => Some((low(a) | low(b) << 7 | low(c) << 14, rest)),
        _ => long_varint(bytes),
    }
}

fn long_varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0;
    for (at, &byte) in bytes.iter().enumerate().take(9) {
        number |= u64::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            return Some((number, &bytes[at + 1..]));
        }
    }
    // The tenth byte has the highest bit alone.
    match bytes.get(9) {
        Some(&byte @ ..2) => Some((number | u64::from(byte) << 63, &bytes[10..])),
        _ => None,
    }
}

/// An entry, its payload not compared with its checksum.
fn decode_entry(element: Part<'_>) -> Result<EntryRef<'_>> {
    let mut at = Offsets::default();
    let view: EntryView<'_> = decode_element(element, &mut at)?;
    let mut record = Record::default();
    take!(view record 1 term U64);
    take!(view record 2 kind ENTRY_KIND);
    take!(view record 3 crc U32);
    take!(view record 4 payload BYTES);
    record.unchecked_entry(&at)
}

fn decode_status<'a>(body: &'a [u8], received: &mut Received<'a>) -> Result<()> {
    let part = Part { body, offset: HEADER };
    let mut list = List::default();
    decode_kind(Kind::StatusReply, part, MEMBERS, received, |element| {
        list.count(element)
    })?;
    check_texts(&received.record)?;
    if list.count > MEMBERS_MAX {
        return Err(DecodeError::TooLarge);
    }
    received.members.reserve_exact(list.count);
    list.each(part, MEMBERS, |element| {
        let mut at = Offsets::default();
        let view: MemberView<'_> = decode_element(element, &mut at)?;
        let mut record = Record::default();
        take!(view record 1 node U64);
        take!(view record 2 address TEXT0);
        take!(view record 3 standing STANDING);
        take!(view record 4 matched U64);
        take!(view record 5 heard_ms U64);
        take!(view record 6 snapshot_percent U32);
        check_texts(&record)?;
        received.members.push(record.member(&at)?);
        Ok(())
    })
}

fn check_texts(record: &Record<'_>) -> Result<()> {
    if record.texts.iter().any(|text| text.len() > TEXT_MAX) {
        return Err(DecodeError::TooLarge);
    }
    Ok(())
}

/// A message without lists. What is absent of it is where it begins.
fn decode_element<'a, V: MessageView<'a> + Default>(part: Part<'a>, at: &mut Offsets) -> Result<V> {
    *at = Offsets::all(part.offset);
    let mut view = V::default();
    merge_view(&mut view, part, part.body, at, NO_LIST, |_| {
        unreachable!("no field has the number 0")
    })?;
    Ok(view)
}

/// Reads the `rest` of a message field by field. The elements of its list are handed out, not decoded.
fn merge_view<'a, V: MessageView<'a>>(
    view: &mut V,
    part: Part<'a>,
    mut rest: &'a [u8],
    at: &mut Offsets,
    list: u8,
    mut on_element: impl FnMut(Part<'a>) -> Result<()>,
) -> Result<()> {
    // Unknown fields are skipped, which costs nothing that would have to be counted.
    let unknown = Cell::new(0);
    let context = DecodeContext::new(DEPTH_MAX, &unknown);
    while !rest.is_empty() {
        if let Some((element, behind)) = plain_element(rest, list) {
            rest = behind;
            let offset = part.offset_of(rest) - element.len();
            on_element(Part { body: element, offset })?;
            continue;
        }
        let offset = part.offset_of(rest);
        let malformed = |_| DecodeError::Malformed { offset };
        let before = rest;
        let tag = Tag::decode(&mut rest).map_err(malformed)?;
        if tag.field_number() == u32::from(list) {
            let element = element(tag, &mut rest).map_err(malformed)?;
            let offset = part.offset_of(rest) - element.len();
            on_element(Part { body: element, offset })?;
            continue;
        }
        rest = view.merge_view_field(tag, rest, before, context).map_err(malformed)?;
        at.set(tag.field_number(), offset);
    }
    Ok(())
}

/// The list of a message that was read already, but for its elements: they are counted before there is room made.
#[derive(Default)]
struct List<'a> {
    count: usize,
    first: Option<Part<'a>>,
}

impl<'a> List<'a> {
    #[inline]
    fn count(&mut self, element: Part<'a>) -> Result<()> {
        self.count += 1;
        self.first.get_or_insert(element);
        Ok(())
    }

    /// Hands the elements out again. What is in front of the first was read, and mostly nothing else is behind it.
    fn each(self, part: Part<'a>, list: u8, mut on_element: impl FnMut(Part<'a>) -> Result<()>) -> Result<()> {
        let Some(first) = self.first else {
            return Ok(());
        };
        let end = first.offset + first.body.len();
        on_element(first)?;
        let rest = Part {
            body: &part.body[end - part.offset..],
            offset: end,
        };
        // A message of the header alone, which was read already: what is not of the list is unknown to it.
        let mut view = views::Status::default();
        merge_view(&mut view, rest, rest.body, &mut Offsets::default(), list, on_element)
    }
}

/// What [`element`] gives, if it is nothing out of the ordinary.
#[inline]
fn plain_element(rest: &[u8], list: u8) -> Option<(&[u8], &[u8])> {
    let (&tag, rest) = rest.split_first()?;
    if list == NO_LIST || tag >= 0x80 || tag != list << 3 | WireType::LengthDelimited as u8 {
        return None;
    }
    let (length, rest) = plain_varint(rest)?;
    rest.split_at_checked(usize::try_from(length).ok()?)
}

fn element<'a>(tag: Tag, rest: &mut &'a [u8]) -> std::result::Result<&'a [u8], buffa::DecodeError> {
    check_wire_type(tag, WireType::LengthDelimited)?;
    borrow_bytes(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_are_those_of_the_library() {
        let powers = (0..64).map(|power| 1_u64 << power);
        let numbers = powers.flat_map(|power| [power - 1, power, power | 1, power | power >> 3, !power]);
        for number in numbers.chain([0x0a0b_0c0d_0e0f_1011]) {
            let mut expected = Vec::new();
            buffa::encoding::encode_varint(number, &mut expected);
            let mut room = [0x55; TAGGED];
            let count = put_varint(number, &mut room);
            assert_eq!(room[1..=count], expected, "{number:#x}");
            assert_eq!(room[0], 0x55);
            assert_eq!(plain_varint(&expected), Some((number, &[][..])));
        }
    }
}
