//! A frame under construction whose length is not known before it is written.

use bytes::Bytes;
use kraft_core::handshake::Kind;
use kraft_core::message::{Body, Entry, Message, Outcome};
use kraft_core::outbox::{Frame, Full, Outbox, SHARE_MIN};
use kraft_core::protocol::EncodeError;

use crate::checksum::joined;
use crate::frame::{Envelope, HEADER, kind_number};
use crate::numbers::TEXT_MAX;

/// Small pieces are gathered up to so many bytes before they are put: a put costs more than a byte.
const GATHERED: usize = 128;

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
    /// Of all but the last `unchecked` bytes of the body.
    crc: u32,
    unchecked: usize,
    gathered: [u8; GATHERED],
    /// How many of those there are.
    used: usize,
    failed: Option<EncodeError>,
}

/// Puts `message` into `out` as one frame of `format`, its body written by `body`; the checksum covers all of it.
///
/// # Errors
///
/// As [`Protocol::encode`](kraft_core::protocol::Protocol::encode); the outbox is as it was then.
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
    let mut failed = None;
    let written = out.frame(|frame| {
        frame.put(&[0; HEADER])?;
        let room = frame_max.checked_sub(HEADER);
        let mut writer = Writer {
            frame,
            room: room.unwrap_or_default(),
            crc: 0,
            unchecked: 0,
            gathered: [0; GATHERED],
            used: 0,
            failed: room.is_none().then_some(EncodeError::TooLarge),
        };
        body(&mut writer);
        writer.flush();
        writer.check();
        let Writer { crc, .. } = writer;
        failed = writer.failed;
        if failed.is_some() {
            return Err(Full);
        }
        let Ok(length) = u32::try_from(frame.len() - HEADER) else {
            failed = Some(EncodeError::TooLarge);
            return Err(Full);
        };
        let envelope = Envelope {
            format,
            kind: kind_number(Kind::of(&message.body)),
            length,
            checked: length,
            body_crc: crc,
        };
        frame.patch(0, &envelope.to_bytes());
        Ok::<(), Full>(())
    });
    written.map_err(|Full| failed.unwrap_or(EncodeError::Full))
}

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

impl Writer<'_, '_> {
    /// Copies `bytes` behind the frame.
    #[inline]
    pub fn put(&mut self, bytes: &[u8]) {
        if let Some(room) = self.gathered[self.used..].get_mut(..bytes.len()) {
            room.copy_from_slice(bytes);
            self.used += bytes.len();
            return;
        }
        self.flush();
        match self.gathered.get_mut(..bytes.len()) {
            Some(room) => {
                room.copy_from_slice(bytes);
                self.used = bytes.len();
            }
            None => self.put_through(bytes),
        }
    }

    /// Copies `bytes` behind what was put, past what is gathered.
    #[inline]
    fn put_through(&mut self, bytes: &[u8]) {
        if !self.admit(bytes.len()) {
            return;
        }
        match self.frame.put(bytes) {
            Ok(()) => self.unchecked += bytes.len(),
            Err(Full) => self.failed = Some(EncodeError::Full),
        }
        if self.unchecked >= CHECKED_AT {
            self.check();
        }
    }

    /// Puts what is gathered.
    fn flush(&mut self) {
        let (gathered, used) = (self.gathered, self.used);
        self.used = 0;
        self.put_through(&gathered[..used]);
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

    /// Copies `fields` and takes the payload of `entry`, as [`put_entry`](Self::put_entry) does.
    #[cfg(any(feature = "protobuf", feature = "msgpack"))]
    #[inline]
    pub(crate) fn put_element(&mut self, fields: &Small, entry: &Entry) {
        if self.used > 0 {
            self.flush();
        }
        if entry.payload.len() >= SHARE_MIN {
            self.put_through(fields.bytes());
            return self.put_payload(&entry.payload, || entry.crc);
        }
        let count = fields.bytes().len() + entry.payload.len();
        if !self.admit(count) {
            return;
        }
        match self.frame.put_all(count, [fields.bytes(), &entry.payload].into_iter()) {
            Ok(()) => self.unchecked += count,
            Err(Full) => self.failed = Some(EncodeError::Full),
        }
        if self.unchecked >= CHECKED_AT {
            self.check();
        }
    }

    fn put_payload(&mut self, bytes: &Bytes, crc: impl FnOnce() -> u32) {
        self.flush();
        if !self.admit(bytes.len()) {
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

    #[inline]
    fn admit(&mut self, count: usize) -> bool {
        if self.failed.is_some() {
            return false;
        }
        match self.room.checked_sub(count) {
            Some(rest) => self.room = rest,
            None => self.failed = Some(EncodeError::TooLarge),
        }
        self.failed.is_none()
    }

    /// Takes the checksum of what has none.
    fn check(&mut self) {
        self.crc = crc32c::crc32c_append(self.crc, self.frame.last(self.unchecked));
        self.unchecked = 0;
    }
}

/// The fields of an entry in front of its payload, in the reach of a few registers.
#[cfg(any(feature = "protobuf", feature = "msgpack"))]
pub(crate) struct Small {
    bytes: [u8; 64],
    used: usize,
}

#[cfg(any(feature = "protobuf", feature = "msgpack"))]
impl Small {
    #[inline]
    pub(crate) fn new() -> Self {
        let (bytes, used) = ([0; 64], 0);
        Self { bytes, used }
    }

    #[inline]
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.used..self.used + bytes.len()].copy_from_slice(bytes);
        self.used += bytes.len();
    }

    #[inline]
    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.used]
    }
}

#[cfg(feature = "protobuf")]
impl buffa::EncodeSink for Small {
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

/// For encoders that write to anything. They are told at once that nothing more is taken.
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

#[cfg(feature = "protobuf")]
impl buffa::EncodeSink for Writer<'_, '_> {
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
