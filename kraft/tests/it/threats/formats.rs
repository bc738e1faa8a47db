//! Nodes and clients of different wire formats on the same ports.

use std::time::Duration;

use kraft::message::{Body, Message};
use kraft::protocol::{Decoded, Protocol};
use kraft::protocols::frame::HEADER;
use kraft::protocols::{Any, Format};
use kraft_core::outbox::{Outbox, Segments};

use super::lab::Lab;
use super::line::{self, LIMITS};

fn frame(format: Format, message: &Message<'_>) -> Vec<u8> {
    let mut outbox = Outbox::new(LIMITS.frame_max);
    Any::new(format)
        .encode(message, LIMITS.frame_max, &mut outbox)
        .expect("it fits");
    let mut segments = Segments::new();
    outbox.take(&mut segments);
    segments.slices().collect::<Vec<_>>().concat()
}

/// Messages of `bytes`, each with the format that its frame is in.
fn heard(mut bytes: &[u8]) -> Vec<(Format, String)> {
    let mut heard = Vec::new();
    while !bytes.is_empty() {
        let format = Any::heard(bytes).expect("a frame of a format that is known");
        let mut scratch = Vec::new();
        match Any::new(Format::Binary).decode(bytes, &LIMITS, &mut scratch) {
            Ok(Decoded::Message { message, consumed }) => {
                heard.push((format, format!("{:?}", message.body)));
                bytes = &bytes[consumed..];
            }
            other => panic!("{other:?}"),
        }
    }
    heard
}

fn lab(format: Format) -> Lab<Any> {
    let mut lab = Lab::with(1, 1, |_| (), &kraft::adapters::Config::default(), || Any::new(format));
    lab.run_for(Duration::from_secs(1));
    lab
}

/// Whatever the node speaks itself, and however the first bytes are cut.
#[test]
fn a_client_is_answered_in_the_format_of_its_first_frame() {
    for own in [Format::Binary, Format::Json] {
        let mut lab = lab(own);
        for &format in Format::ALL {
            for cut in [0, 1, 5, 6, HEADER, HEADER + 1] {
                let mut client = lab.dial(1);
                let hello = frame(format, &line::client());
                let (first, rest) = hello.split_at(cut);
                client.send(first);
                lab.settle();
                client.send(rest);
                lab.settle();
                let status = Message {
                    header: line::header(kraft::id::NodeId::NONE, 0, 7),
                    body: Body::Status,
                };
                client.send(&frame(format, &status));
                lab.settle();
                let heard = heard(&client.take());
                assert!(heard.iter().all(|(of, _)| *of == format), "{own}, {format}: {heard:?}");
                let [(_, welcome), (_, reply)] = &heard[..] else {
                    panic!("{own}, {format} cut at {cut}: {heard:?}");
                };
                assert!(
                    welcome.starts_with("Welcome") && reply.starts_with("StatusReply"),
                    "{heard:?}"
                );
            }
        }
    }
}

#[test]
fn a_client_hears_in_its_own_format_why_it_is_turned_away() {
    let mut lab = lab(Format::Binary);
    for &format in Format::ALL {
        let mut client = lab.dial(1);
        // A kind that no client may send.
        let message = Message {
            header: line::header(kraft::id::NodeId::NONE, 0, 0),
            body: Body::TimeoutNow,
        };
        client.send(&frame(format, &message));
        lab.settle();
        let heard = heard(&client.take());
        let [(of, goaway)] = &heard[..] else {
            panic!("{format}: {heard:?}");
        };
        assert!(*of == format && goaway.contains("NotAllowed"), "{format}: {heard:?}");
    }
}

/// A format of a number that nobody here has: told apart from damage, and the connection ends.
#[test]
fn a_format_that_is_not_compiled_in_ends_its_connection() {
    let mut lab = lab(Format::Binary);
    let mut client = lab.dial(1);
    let mut hello = frame(Format::Binary, &line::client());
    hello[5] = 99;
    let crc = crc32c(&hello[..20]);
    hello[20..24].copy_from_slice(&crc.to_le_bytes());
    client.send(&hello);
    lab.settle();
    let heard = heard(&client.take());
    let [(Format::Binary, goaway)] = &heard[..] else {
        panic!("{heard:?}");
    };
    assert!(
        goaway.contains("NoCommonVersion") && goaway.contains("a wire format that is not spoken here"),
        "{goaway}"
    );
}

fn crc32c(bytes: &[u8]) -> u32 {
    let reversed = bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 * (crc & 1)))
    });
    !reversed
}
