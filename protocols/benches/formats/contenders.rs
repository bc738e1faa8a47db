//! What encodes and decodes: the formats, the libraries used plainly, and the least that must be done with the bytes.

use std::hint::black_box;

use bytes::Bytes;
use kraft_core::handshake::Kind;
use kraft_core::message::Message;
use kraft_core::outbox::{Outbox, Segments};
use kraft_core::protocol::{Decoded, Protocol};
use kraft_protocols::frame::{self, Envelope, Opened};
use kraft_protocols::{Binary, Json, Msgpack, Protobuf, msgpack, protobuf};
use prost::Message as _;

use crate::plain::{copied, mapped, shared};
use crate::shapes::{LIMITS, Shape};

/// One way of making bytes of a message, and back.
///
/// Memory to encode into is there already and stays. What decoding makes is dropped within it, where it was made: a move
/// is of whoever decodes.
pub(crate) trait Contender {
    /// Bytes of the frame, or of what stands in for it.
    fn wire_bytes(&self) -> usize;

    /// Encodes the message.
    fn encode(&mut self);

    /// Decodes what encoding made of it.
    fn decode(&mut self);

    /// Encodes it so many times.
    fn encode_times(&mut self, turns: u32) {
        for _ in 0..turns {
            self.encode();
        }
    }

    /// Decodes it so many times.
    fn decode_times(&mut self, turns: u32) {
        for _ in 0..turns {
            self.decode();
        }
    }
}

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    /// The bytes of `binary`'s frame copied, and their checksum, in one pass each.
    Least,
    /// The same, with a checksum for each payload.
    LeastApart,
    /// Ours.
    Binary,
    /// Ours.
    Protobuf,
    /// `prost`, payloads copied into vectors.
    Prost,
    /// `prost`, payloads shared with what was received.
    ProstShared,
    /// `prost`, in our frame and with our checksums.
    ProstFramed,
    /// Ours.
    Msgpack,
    /// `rmp-serde`, structs as arrays, payloads copied into vectors.
    Rmp,
    /// `rmp-serde`, structs as arrays, payloads lent by what was received.
    RmpLent,
    /// `rmp-serde`, in our frame and with our checksums.
    RmpFramed,
    /// Ours.
    Json,
}

impl Name {
    /// All of them, in the order of tables.
    pub(crate) const ALL: [Self; 12] = [
        Self::Least,
        Self::LeastApart,
        Self::Binary,
        Self::Protobuf,
        Self::Prost,
        Self::ProstShared,
        Self::ProstFramed,
        Self::Msgpack,
        Self::Rmp,
        Self::RmpLent,
        Self::RmpFramed,
        Self::Json,
    ];

    /// Its name in tables.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Least => "memcpy / CRC32C",
            Self::LeastApart => "memcpy / CRC32C a payload",
            Self::Binary => "`binary`",
            Self::Protobuf => "`protobuf`",
            Self::Prost => "prost, `Vec<u8>`",
            Self::ProstShared => "prost, `Bytes`",
            Self::ProstFramed => "prost, `Bytes`, framed",
            Self::Msgpack => "`msgpack`",
            Self::Rmp => "rmp-serde, `Vec<u8>`",
            Self::RmpLent => "rmp-serde, `&[u8]`",
            Self::RmpFramed => "rmp-serde, `&[u8]`, framed",
            Self::Json => "`json`",
        }
    }

    /// It, with the message of a shape.
    pub(crate) fn with(self, shape: Shape) -> Box<dyn Contender> {
        let message = shape.message();
        match self {
            Self::Least => Box::new(Least::whole(message)),
            Self::LeastApart => Box::new(Least::apart(message, shape)),
            Self::Binary => Box::new(Ours::new(Binary, message)),
            Self::Protobuf => Box::new(Ours::new(Protobuf, message)),
            Self::Msgpack => Box::new(Ours::new(Msgpack, message)),
            Self::Json => Box::new(Ours::new(Json, message)),
            Self::Prost => match copied::Append::of(&message) {
                Some(append) => Box::new(Prost::new(append)),
                None => Box::new(Prost::new(
                    copied::Heartbeat::of(&message).expect("there are two kinds"),
                )),
            },
            Self::ProstShared => match shared::Append::of(&message) {
                Some(append) => Box::new(ProstShared::new(append)),
                // Without a payload there is nothing to share.
                None => Box::new(Prost::new(
                    shared::Heartbeat::of(&message).expect("there are two kinds"),
                )),
            },
            Self::Rmp => match mapped::Append::<mapped::Owned>::of(&message) {
                Some(append) => Box::new(Rmp::new(append)),
                None => Box::new(Rmp::new(mapped::Heartbeat::of(&message).expect("there are two kinds"))),
            },
            Self::RmpLent => match mapped::Append::<mapped::Owned>::of(&message) {
                Some(append) => Box::new(RmpLent(Rmp::new(append))),
                None => Self::Rmp.with(shape),
            },
            Self::ProstFramed => match (copied::Append::of(&message), copied::Heartbeat::of(&message)) {
                (Some(append), _) => Box::new(Framed::new(protobuf::FORMAT, &message, ProstAppend(append))),
                (None, Some(heartbeat)) => Box::new(Framed::new(protobuf::FORMAT, &message, ProstOther(heartbeat))),
                (None, None) => unreachable!("there are two kinds"),
            },
            Self::RmpFramed => match (mapped::Append::of(&message), mapped::Heartbeat::of(&message)) {
                (Some(append), _) => Box::new(Framed::new(msgpack::FORMAT, &message, RmpAppend(append))),
                (None, Some(heartbeat)) => Box::new(Framed::new(msgpack::FORMAT, &message, RmpOther(heartbeat))),
                (None, None) => unreachable!("there are two kinds"),
            },
        }
    }
}

/// One of our formats.
struct Ours<P> {
    protocol: P,
    message: Message<'static>,
    out: Outbox,
    /// What the outbox lends a backend: the two change places, as they do when a frame is sent.
    segments: Segments,
    frame: Vec<u8>,
    scratch: Vec<u8>,
}

impl<P: Protocol> Ours<P> {
    fn new(protocol: P, message: Message<'static>) -> Self {
        let mut ours = Self {
            protocol,
            message,
            out: Outbox::new(LIMITS.frame_max),
            segments: Segments::new(),
            frame: Vec::new(),
            scratch: Vec::new(),
        };
        ours.put();
        ours.frame = ours.segments.slices().flatten().copied().collect();
        ours.sent();
        let decoded = ours.protocol.decode(&ours.frame, &LIMITS, &mut ours.scratch);
        let consumed = ours.frame.len();
        let message = ours.message.clone();
        assert_eq!(decoded, Ok(Decoded::Message { message, consumed }));
        // The other of the two sets of buffers has its memory, too.
        ours.encode();
        ours
    }

    fn put(&mut self) {
        self.protocol
            .encode(black_box(&self.message), LIMITS.frame_max, &mut self.out)
            .expect("there is room");
        self.out.take(&mut self.segments);
    }

    fn sent(&mut self) {
        self.segments.clear();
        self.out.settle(0);
    }
}

impl<P: Protocol> Contender for Ours<P> {
    fn wire_bytes(&self) -> usize {
        self.frame.len()
    }

    fn encode(&mut self) {
        self.put();
        black_box(&self.segments);
        self.sent();
    }

    fn decode(&mut self) {
        let decoded = self.protocol.decode(black_box(&self.frame), &LIMITS, &mut self.scratch);
        assert!(decoded.is_ok(), "the frame is undamaged");
        black_box(&decoded);
    }
}

/// `prost`, decoding from a slice.
struct Prost<M> {
    message: M,
    out: Vec<u8>,
}

impl<M: prost::Message + Default + PartialEq> Prost<M> {
    fn new(message: M) -> Self {
        let out = message.encode_to_vec();
        assert!(M::decode(&out[..]).as_ref() == Ok(&message));
        Self { message, out }
    }
}

impl<M: prost::Message + Default> Contender for Prost<M> {
    fn wire_bytes(&self) -> usize {
        self.out.len()
    }

    fn encode(&mut self) {
        self.out.clear();
        black_box(&self.message)
            .encode(&mut self.out)
            .expect("a vector has room");
        black_box(&self.out);
    }

    fn decode(&mut self) {
        let message = M::decode(&black_box(&self.out)[..]);
        assert!(message.is_ok(), "it was encoded");
        black_box(&message);
    }
}

/// `prost`, decoding from memory that its payloads share.
struct ProstShared {
    prost: Prost<shared::Append>,
    received: Bytes,
}

impl ProstShared {
    fn new(message: shared::Append) -> Self {
        let received = message.encode_to_vec().into();
        let prost = Prost::new(message);
        Self { prost, received }
    }
}

impl Contender for ProstShared {
    fn wire_bytes(&self) -> usize {
        self.received.len()
    }

    fn encode(&mut self) {
        self.prost.encode();
    }

    fn decode(&mut self) {
        let message = shared::Append::decode(black_box(&self.received).clone());
        assert!(message.is_ok(), "it was encoded");
        black_box(&message);
    }
}

/// `rmp-serde`, payloads copied.
struct Rmp<M> {
    message: M,
    out: Vec<u8>,
}

impl<M: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug> Rmp<M> {
    fn new(message: M) -> Self {
        let out = rmp_serde::to_vec(&message).expect("a vector has room");
        assert_eq!(rmp_serde::from_slice::<M>(&out).expect("it was encoded"), message);
        Self { message, out }
    }
}

impl<M: serde::Serialize + serde::de::DeserializeOwned> Contender for Rmp<M> {
    fn wire_bytes(&self) -> usize {
        self.out.len()
    }

    fn encode(&mut self) {
        self.out.clear();
        rmp_serde::encode::write(&mut self.out, black_box(&self.message)).expect("a vector has room");
        black_box(&self.out);
    }

    fn decode(&mut self) {
        let message = rmp_serde::from_slice::<M>(black_box(&self.out));
        assert!(message.is_ok(), "it was encoded");
        black_box(&message);
    }
}

/// `rmp-serde`, payloads lent.
struct RmpLent(Rmp<mapped::Append<mapped::Owned>>);

impl Contender for RmpLent {
    fn wire_bytes(&self) -> usize {
        self.0.wire_bytes()
    }

    fn encode(&mut self) {
        self.0.encode();
    }

    fn decode(&mut self) {
        let message = rmp_serde::from_slice::<mapped::Append<mapped::Lent<'_>>>(black_box(&self.0.out));
        assert!(message.is_ok(), "it was encoded");
        black_box(&message);
    }
}

/// A library, with what else there is to do for a frame: whoever has no format of his own would do so.
struct Framed<B> {
    format: u8,
    kind: u16,
    body: B,
    buffer: Vec<u8>,
    out: Outbox,
    segments: Segments,
    received: Bytes,
}

/// A body as a library has it.
trait BodyOf {
    fn put(&self, out: &mut Vec<u8>);

    /// Reads `body`, which is a part of `received`, and compares the checksums of payloads.
    fn read(received: &Bytes, body: &[u8]);
}

/// Made of what owns its payloads, which is encoded faster, and read into what shares them.
struct ProstAppend(copied::Append);

struct ProstOther<M>(M);

struct RmpAppend(mapped::Append<mapped::Owned>);

struct RmpOther<M>(M);

impl BodyOf for ProstAppend {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.encode(out).expect("a vector has room");
    }

    fn read(received: &Bytes, body: &[u8]) {
        let message = shared::Append::decode(received.slice_ref(body)).expect("it was encoded");
        for entry in &message.entries {
            assert_eq!(crc32c::crc32c(&entry.payload), entry.crc);
        }
        black_box(&message);
    }
}

impl<M: prost::Message + Default> BodyOf for ProstOther<M> {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.encode(out).expect("a vector has room");
    }

    fn read(_: &Bytes, body: &[u8]) {
        let message = M::decode(body);
        assert!(message.is_ok(), "it was encoded");
        black_box(&message);
    }
}

impl BodyOf for RmpAppend {
    fn put(&self, out: &mut Vec<u8>) {
        rmp_serde::encode::write(out, &self.0).expect("a vector has room");
    }

    fn read(_: &Bytes, body: &[u8]) {
        let message: mapped::Append<mapped::Lent<'_>> = rmp_serde::from_slice(body).expect("it was encoded");
        for entry in &message.entries {
            assert_eq!(crc32c::crc32c(entry.payload), entry.crc);
        }
        black_box(&message);
    }
}

impl<M: serde::Serialize + serde::de::DeserializeOwned> BodyOf for RmpOther<M> {
    fn put(&self, out: &mut Vec<u8>) {
        rmp_serde::encode::write(out, &self.0).expect("a vector has room");
    }

    fn read(_: &Bytes, body: &[u8]) {
        let message = rmp_serde::from_slice::<M>(body);
        assert!(message.is_ok(), "it was encoded");
        black_box(&message);
    }
}

impl<B: BodyOf> Framed<B> {
    fn new(format: u8, message: &Message<'_>, body: B) -> Self {
        let mut framed = Self {
            format,
            kind: frame::kind_number(Kind::of(&message.body)),
            body,
            buffer: Vec::new(),
            out: Outbox::new(LIMITS.frame_max),
            segments: Segments::new(),
            received: Bytes::new(),
        };
        framed.put();
        framed.received = framed.segments.slices().flatten().copied().collect();
        framed.sent();
        framed.encode();
        framed
    }

    fn put(&mut self) {
        self.buffer.clear();
        black_box(&self.body).put(&mut self.buffer);
        let length = u32::try_from(self.buffer.len()).expect("it is below frame_max");
        let envelope = Envelope::covering(self.format, self.kind, length, crc32c::crc32c(&self.buffer));
        let put = self.out.frame(|frame| {
            frame.put(&envelope.to_bytes())?;
            frame.put(&self.buffer)
        });
        assert_eq!(put, Ok(()));
        self.out.take(&mut self.segments);
    }

    fn sent(&mut self) {
        self.segments.clear();
        self.out.settle(0);
    }
}

impl<B: BodyOf> Contender for Framed<B> {
    fn wire_bytes(&self) -> usize {
        self.received.len()
    }

    fn encode(&mut self) {
        self.put();
        black_box(&self.segments);
        self.sent();
    }

    fn decode(&mut self) {
        let Ok(Opened::Whole(whole)) = frame::open(black_box(&self.received), self.format, &LIMITS) else {
            panic!("the frame is whole and undamaged");
        };
        B::read(&self.received, whole.covered);
    }
}

/// The least that must be done with a frame's bytes: whoever sends copies them, whoever receives takes their checksum.
struct Least {
    frame: Vec<u8>,
    /// Bytes of each part that has a checksum of its own.
    parts: Vec<usize>,
    out: Vec<u8>,
}

impl Least {
    fn whole(message: Message<'static>) -> Self {
        let frame = Ours::new(Binary, message).frame;
        Self {
            parts: vec![frame.len()],
            out: Vec::with_capacity(frame.len()),
            frame,
        }
    }

    fn apart(message: Message<'static>, shape: Shape) -> Self {
        let mut least = Self::whole(message);
        let entries = shape.entries();
        let payloads = shape.payload_bytes();
        least.parts = vec![least.frame.len() - payloads];
        least.parts.extend((0..entries).map(|_| payloads / entries));
        least
    }
}

impl Contender for Least {
    fn wire_bytes(&self) -> usize {
        self.frame.len()
    }

    fn encode(&mut self) {
        self.out.clear();
        self.out.extend_from_slice(black_box(&self.frame));
        black_box(&self.out);
    }

    fn decode(&mut self) {
        let mut rest = &black_box(&self.frame)[..];
        for &bytes in &self.parts {
            let (part, behind) = rest.split_at(bytes);
            rest = behind;
            black_box(crc32c::crc32c(part));
        }
    }
}
