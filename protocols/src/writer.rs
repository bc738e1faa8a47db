//! A frame under construction whose length is not known before it is written.

use bytes::Bytes;
use kraft_core::handshake::Kind;
use kraft_core::message::{Body, Entry, Message, Outcome};
use kraft_core::outbox::{Frame, Full, Outbox, SHARE_MIN};
use kraft_core::protocol::EncodeError;

use crate::checksum::joined;
use crate::frame::{Envelope, HEADER, kind_number};
use crate::numbers::TEXT_MAX;

/// Small pieces are gathered up to so many bytes before they are put: a put costs more than a byte. The numbers of any
/// message are fewer.
pub(crate) const GATHERED: usize = 192;

/// Bytes after which their checksum is taken, while they are in the fastest cache; not sooner, since in long pieces the
/// processor makes three checksums at once.
const CHECKED_AT: usize = 24 * 1024;

/// Writes the body of a frame: puts it, counts it and takes its checksum.
///
/// Once a put is refused nothing more is written, so that whoever writes need not look before the end.
#[derive(Debug)]
pub struct Writer<'f, 'o> {
    frame: &'f mut Frame<'o>,
    /// Bytes that the frame may still have.
    room: usize,
    /// Of all but the last `unchecked` bytes of the body that were put.
    crc: u32,
    unchecked: usize,
    gathered: Gathered,
    /// How many bytes of those there are.
    used: usize,
    failed: Option<EncodeError>,
}

/// Bytes that are not put yet. Aligned, so that nearly all of a small frame's checksum is taken eight bytes at once.
#[derive(Debug)]
#[repr(align(8))]
struct Gathered([u8; GATHERED]);

/// Puts `message` into `out` as one frame of `format`, its body written by `body`; the checksum covers all of it.
///
/// # Errors
///
/// As [`Protocol::encode`](kraft_core::protocol::Protocol::encode); the outbox is as it was then.
#[inline]
pub fn write(
    format: u8,
    message: &Message<'_>,
    frame_max: usize,
    out: &mut Outbox,
    body: impl FnOnce(&mut Writer<'_, '_>),
) -> Result<(), EncodeError> {
    if longest_text(&message.body) > TEXT_MAX {
        return Err(EncodeError::TooLarge);
    }
    let room = frame_max.checked_sub(HEADER).ok_or(EncodeError::TooLarge)?;
    out.frame(|frame| {
        let mut writer = Writer {
            frame,
            room,
            crc: 0,
            unchecked: 0,
            gathered: Gathered([0; GATHERED]),
            used: 0,
            failed: None,
        };
        body(&mut writer);
        writer.finish(format, kind_number(Kind::of(&message.body)), room)
    })
}

/// Puts a message of `kind`, which has nothing but numbers, into `out` as one frame of `format`. `fill` writes its body into
/// the first of so many bytes and says how many it has.
///
/// Most messages are such, and small: they need no [`Writer`].
#[cfg(any(feature = "protobuf", feature = "msgpack"))]
#[inline]
pub(crate) fn write_numbers(
    format: u8,
    kind: Kind,
    frame_max: usize,
    out: &mut Outbox,
    fill: impl FnOnce(&mut [u8; GATHERED]) -> usize,
) -> Result<(), EncodeError> {
    let mut body = Gathered([0; GATHERED]);
    let length = fill(&mut body.0);
    if HEADER + length > frame_max {
        return Err(EncodeError::TooLarge);
    }
    let body = &body.0[..length];
    let envelope = Envelope::covering(format, kind_number(kind), length as u32, crc32c::crc32c(body));
    out.frame(|frame| {
        frame.put(&envelope.to_bytes())?;
        frame.put(body)
    })
    .map_err(|Full| EncodeError::Full)
}

#[inline]
fn longest_text(body: &Body<'_>) -> usize {
    match body {
        Body::Hello(hello) => hello.cluster_name.len(),
        Body::Goaway(goaway) => goaway.detail.len(),
        Body::Change(change) => crate::numbers::address(change).len(),
        Body::Reply(Outcome::Refused(refused)) => refused.detail.len(),
        Body::StatusReply(status) => {
            let members = status.members.iter().map(|member| member.address.len());
            let texts = [status.version.len(), status.backend.len()];
            members.chain(texts).max().unwrap_or_default()
        }
        _ => 0,
    }
}

impl<'f, 'o> Writer<'f, 'o> {
    /// Copies `bytes` behind the frame.
    #[inline]
    pub fn put(&mut self, bytes: &[u8]) {
        self.used = self.put_at(self.used, bytes);
    }

    /// Lets `put` copy small pieces behind the frame.
    #[cfg(any(feature = "protobuf", feature = "msgpack"))]
    #[inline]
    pub(crate) fn pieces(&mut self, put: impl FnOnce(&mut Pieces<'_, 'f, 'o>)) {
        let used = self.used;
        let mut pieces = Pieces { writer: self, used };
        put(&mut pieces);
        let Pieces { writer, used } = pieces;
        writer.used = used;
    }

    /// Copies `bytes` behind what is gathered, of which there is so much; how much there is then.
    #[inline]
    fn put_at(&mut self, used: usize, bytes: &[u8]) -> usize {
        let Some(room) = self.gathered.0[used..].get_mut(..bytes.len()) else {
            self.put_through(used, bytes);
            return 0;
        };
        room.copy_from_slice(bytes);
        used + bytes.len()
    }

    /// Puts what is gathered, of which there is so much, and `bytes` behind it.
    #[inline(never)]
    fn put_through(&mut self, used: usize, bytes: &[u8]) {
        self.used = 0;
        let (gathered, count) = (&self.gathered.0[..used], used + bytes.len());
        if !admit(&mut self.room, &mut self.failed, count) {
            return;
        }
        let put = if self.frame.is_empty() {
            // The header is filled in last.
            self.frame
                .put_all(HEADER + count, [&[0; HEADER], gathered, bytes].into_iter())
        } else {
            self.frame.put_all(count, [gathered, bytes].into_iter())
        };
        match put {
            Ok(()) => self.unchecked += count,
            Err(Full) => self.failed = Some(EncodeError::Full),
        }
        if self.unchecked >= CHECKED_AT {
            self.check();
        }
    }

    /// Takes `bytes` behind the frame, shared from [`SHARE_MIN`] up.
    pub fn put_shared(&mut self, bytes: &Bytes) {
        if bytes.len() < SHARE_MIN {
            return self.put(bytes);
        }
        self.put_payload(bytes, || crc32c::crc32c(bytes));
    }

    /// Takes the payload of `entry` behind the frame, shared from [`SHARE_MIN`] up. What is shared is not even read: its
    /// checksum is the entry's.
    #[inline]
    pub fn put_entry(&mut self, entry: &Entry) {
        if entry.payload.len() < SHARE_MIN {
            return self.put(&entry.payload);
        }
        self.put_payload(&entry.payload, || entry.crc);
    }

    /// Takes `entry` behind the frame: its fields, which `fill` writes, and its payload, as [`put_entry`](Self::put_entry)
    /// does. There may be thousands of them.
    #[cfg(any(feature = "protobuf", feature = "msgpack"))]
    #[inline]
    pub(crate) fn put_element<const N: usize>(&mut self, entry: &Entry, fill: impl FnOnce(&mut [u8; N]) -> usize) {
        if self.used > 0 || self.frame.is_empty() {
            self.put_through(self.used, &[]);
        }
        if self.failed.is_some() {
            return;
        }
        let is_shared = entry.payload.len() >= SHARE_MIN;
        let put = self.frame.fill(fill).and_then(|count| {
            if is_shared {
                return Ok(count);
            }
            self.frame.put(&entry.payload)?;
            Ok(count + entry.payload.len())
        });
        match put {
            Ok(count) => {
                admit(&mut self.room, &mut self.failed, count);
                self.unchecked += count;
            }
            Err(Full) => self.failed = Some(EncodeError::Full),
        }
        if self.unchecked >= CHECKED_AT {
            self.check();
        }
        if is_shared {
            self.put_payload(&entry.payload, || entry.crc);
        }
    }

    fn put_payload(&mut self, bytes: &Bytes, crc: impl FnOnce() -> u32) {
        if self.used > 0 || self.frame.is_empty() {
            self.put_through(self.used, &[]);
        }
        if !admit(&mut self.room, &mut self.failed, bytes.len()) {
            return;
        }
        self.check();
        let put = self.frame.put_shared(bytes);
        match (put, u32::try_from(bytes.len())) {
            (Ok(()), Ok(length)) => self.crc = joined(self.crc, crc(), length),
            (Err(Full), _) => self.failed = Some(EncodeError::Full),
            (_, Err(_)) => self.failed = Some(EncodeError::TooLarge),
        }
    }

    /// Takes the checksum of what has none.
    #[inline]
    fn check(&mut self) {
        self.crc = crc32c::crc32c_append(self.crc, self.frame.last(self.unchecked));
        self.unchecked = 0;
    }

    /// Puts what is left of a body that had so much room, and the header in front of it.
    #[inline]
    fn finish(&mut self, format: u8, kind: u16, room: usize) -> Result<(), EncodeError> {
        let is_small = self.frame.is_empty();
        let gathered = &self.gathered.0[..self.used];
        if is_small {
            admit(&mut self.room, &mut self.failed, gathered.len());
            self.crc = crc32c::crc32c(gathered);
        } else {
            if self.used > 0 {
                self.put_through(self.used, &[]);
            }
            self.check();
        }
        if let Some(error) = self.failed {
            return Err(error);
        }
        let length = u32::try_from(room - self.room).map_err(|_| EncodeError::TooLarge)?;
        let envelope = Envelope::covering(format, kind, length, self.crc);
        if is_small {
            self.frame.put(&envelope.to_bytes())?;
            self.frame.put(&self.gathered.0[..self.used])?;
        } else {
            self.frame.patch(0, &envelope.to_bytes());
        }
        Ok(())
    }
}

/// Takes `count` bytes of `room`, unless something `failed` before.
#[inline]
fn admit(room: &mut usize, failed: &mut Option<EncodeError>, count: usize) -> bool {
    if failed.is_some() {
        return false;
    }
    match room.checked_sub(count) {
        Some(rest) => *room = rest,
        None => *failed = Some(EncodeError::TooLarge),
    }
    failed.is_none()
}

/// What a writer gathers. How much there is stands in a register, not in memory, from one small piece to the next.
#[cfg(any(feature = "protobuf", feature = "msgpack"))]
#[derive(Debug)]
pub(crate) struct Pieces<'w, 'f, 'o> {
    writer: &'w mut Writer<'f, 'o>,
    used: usize,
}

#[cfg(any(feature = "protobuf", feature = "msgpack"))]
impl Pieces<'_, '_, '_> {
    #[inline]
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        self.used = self.writer.put_at(self.used, bytes);
    }

    /// Lets `fill` write into room for the next `N` bytes. It gives back how many of them it wants to keep.
    #[inline]
    pub(crate) fn fill<const N: usize>(&mut self, fill: impl FnOnce(&mut [u8; N]) -> usize) {
        const { assert!(N <= GATHERED) };
        if N > GATHERED - self.used {
            self.writer.put_through(self.used, &[]);
            self.used = 0;
        }
        let room = self.writer.gathered.0[self.used..].first_chunk_mut();
        self.used += fill(room.expect("there is room for as many"));
    }
}

/// For encoders that write to anything. They are not told of a failure: the writer passes over all that comes behind it, and
/// tells it when the frame is finished.
#[cfg(feature = "msgpack")]
impl std::io::Write for Pieces<'_, '_, '_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.put(bytes);
        Ok(bytes.len())
    }

    #[inline]
    fn write_all(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.put(bytes);
        Ok(())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(feature = "protobuf")]
impl buffa::EncodeSink for Pieces<'_, '_, '_> {
    #[inline]
    fn put_u8(&mut self, value: u8) {
        self.put(&[value]);
    }

    #[inline]
    fn put_slice(&mut self, bytes: &[u8]) {
        self.put(bytes);
    }

    #[inline]
    fn put_u32_le(&mut self, value: u32) {
        self.put(&value.to_le_bytes());
    }

    #[inline]
    fn put_u64_le(&mut self, value: u64) {
        self.put(&value.to_le_bytes());
    }
}

/// For encoders that write to anything. They are told that nothing more is taken as soon as the frame has refused something,
/// which small pieces reach when they are put: up to a few hundred bytes later.
impl std::io::Write for Writer<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    #[inline]
    fn write_all(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.put(bytes);
        match self.failed {
            Some(_) => Err(std::io::ErrorKind::StorageFull.into()),
            None => Ok(()),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
