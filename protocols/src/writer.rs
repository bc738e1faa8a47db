//! A frame under construction whose length is not known before it is written.

use kraft_core::handshake::Kind;
use kraft_core::message::{Body, Message, Outcome};
use kraft_core::outbox::SHARE_MIN;
use kraft_core::outbox::{Frame, Full, Outbox};
use kraft_core::protocol::EncodeError;

use bytes::Bytes;

use crate::frame::{Envelope, HEADER, kind_number};
use crate::numbers::TEXT_MAX;

/// Pieces up to this size are gathered before they are put: a put and a checksum of a byte cost more than the byte.
const GATHERED: usize = 512;

/// Writes the body of a frame: puts it, counts it and takes its checksum.
///
/// Once a put is refused nothing more is written, so that whoever writes need not look before the end.
#[derive(Debug)]
pub struct Writer<'f, 'o> {
    frame: &'f mut Frame<'o>,
    frame_max: usize,
    /// Bytes of the frame, those gathered included.
    length: usize,
    crc: u32,
    gathered: [u8; GATHERED],
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
        let mut writer = Writer {
            frame,
            frame_max,
            length: HEADER,
            crc: 0,
            gathered: [0; GATHERED],
            used: 0,
            failed: (HEADER > frame_max).then_some(EncodeError::TooLarge),
        };
        body(&mut writer);
        writer.flush();
        let Writer { length, crc, .. } = writer;
        failed = writer.failed;
        let Ok(length) = u32::try_from(length - HEADER) else {
            failed = Some(EncodeError::TooLarge);
            return Err(Full);
        };
        if failed.is_some() {
            return Err(Full);
        }
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
    pub fn put(&mut self, bytes: &[u8]) {
        if !self.admit(bytes.len()) {
            return;
        }
        if bytes.len() > GATHERED - self.used {
            self.flush();
        }
        if bytes.len() > GATHERED {
            self.crc = crc32c::crc32c_append(self.crc, bytes);
            let put = self.frame.put(bytes);
            self.note(put);
            return;
        }
        self.gathered[self.used..self.used + bytes.len()].copy_from_slice(bytes);
        self.used += bytes.len();
    }

    /// Takes `bytes` behind the frame, shared from [`SHARE_MIN`] up.
    pub fn put_shared(&mut self, bytes: &Bytes) {
        if bytes.len() < SHARE_MIN {
            return self.put(bytes);
        }
        if !self.admit(bytes.len()) {
            return;
        }
        self.flush();
        self.crc = crc32c::crc32c_append(self.crc, bytes);
        let put = self.frame.put_shared(bytes);
        self.note(put);
    }

    fn admit(&mut self, count: usize) -> bool {
        self.length = self.length.saturating_add(count);
        if self.length > self.frame_max {
            self.failed.get_or_insert(EncodeError::TooLarge);
        }
        self.failed.is_none()
    }

    fn flush(&mut self) {
        let gathered = &self.gathered[..self.used];
        self.used = 0;
        if self.failed.is_none() && !gathered.is_empty() {
            self.crc = crc32c::crc32c_append(self.crc, gathered);
            let put = self.frame.put(gathered);
            self.note(put);
        }
    }

    fn note(&mut self, put: Result<(), Full>) {
        if put.is_err() {
            self.failed.get_or_insert(EncodeError::Full);
        }
    }
}

/// For encoders that write to anything. They are told at once that nothing more is taken.
impl std::io::Write for Writer<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

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
    fn put_u8(&mut self, value: u8) {
        self.put(&[value]);
    }

    fn put_slice(&mut self, bytes: &[u8]) {
        self.put(bytes);
    }

    fn put_u32_le(&mut self, value: u32) {
        self.put(&value.to_le_bytes());
    }

    fn put_u64_le(&mut self, value: u64) {
        self.put(&value.to_le_bytes());
    }
}
