//! Bytes that are no messages.

use std::time::Duration;

use kraft::adapters;
use kraft::message::{Body, Message};
use kraft::protocol::{DecodeError, Decoded, EncodeError, Limits, Protocol};
use kraft::protocols::Binary;
use kraft::protocols::frame::Envelope;
use kraft_core::outbox::Outbox;

use super::lab::Lab;
use super::line::{self, LIMITS};

/// What follows a client's hello ends that connection, with a line for the operator, and harms nobody else. The
/// goaway has `reason` in it; foreign bytes get none.
#[track_caller]
fn ends_alone(bytes: &[u8], reason: Option<&str>, told: &str) {
    for greeted in [true, false] {
        let mut lab = Lab::cluster(1);
        lab.elect();
        let mut other = lab.client(1);
        let mut bad = if greeted { lab.client(1) } else { lab.dial(1) };
        bad.send(bytes);
        // In the same breath, and never to be looked at.
        bad.send(&line::ask(1, line::command(b"behind it")));
        lab.settle();
        let heard = bad.heard().concat();
        match reason {
            Some(reason) => assert!(heard.contains("Goaway") && heard.contains(reason), "{heard}"),
            None => assert_eq!(heard, "", "nothing is said to who does not speak this"),
        }
        assert!(bad.take_in(), "the connection ends");
        assert_eq!(bad.raw(), 0);
        let lines = lab.told(1, "Garbage");
        assert_eq!(lines.len(), 1);
        assert!(lines[0].contains(told), "{lines:?}");
        assert_eq!(lab.node(1).counters().garbage, 1);
        assert_eq!(lab.node(1).counters().commands, 0);

        other.send(&line::ask(2, line::command(b"unharmed")));
        lab.settle();
        assert!(other.heard().concat().contains("Committed"));
        assert_eq!(lab.node(1).machine().commands, [b"unharmed"]);
    }
}

fn status() -> Vec<u8> {
    line::ask(1, Body::Status)
}

/// The header of a status whose body is so long, undamaged.
fn claims(length: u32) -> Vec<u8> {
    let like = status();
    let envelope = Envelope {
        format: like[5],
        kind: u16::from_le_bytes([like[6], like[7]]),
        length,
        checked: 0,
        body_crc: 0,
    };
    envelope.to_bytes().to_vec()
}

#[test]
fn t06_a_length_of_four_gigabytes_ends_its_connection_from_the_header_alone() {
    for length in [u32::MAX, 1 << 31, LIMITS.frame_max as u32 + 1] {
        ends_alone(&claims(length), Some("TooLarge"), "TooLarge");
    }
}

#[test]
fn t07_a_length_of_nothing_ends_its_connection() {
    ends_alone(&claims(0), Some("Malformed"), "Malformed");
}

#[test]
fn t15_a_damaged_frame_ends_its_connection() {
    let mut frame = status();
    let last = frame.len() - 1;
    frame[last] ^= 1;
    ends_alone(&frame, Some("Malformed"), "BadChecksum");
}

#[test]
fn t15_random_bytes_end_their_connection() {
    ends_alone(&[0xc3; 600], None, "Other");
}

#[test]
fn t16_frames_cut_anywhere_are_answered_alike() {
    let mut lab = Lab::cluster(1);
    lab.elect();
    let bytes = [line::ask(1, line::command(b"one")), line::ask(2, line::read(b"?"))].concat();
    for cut in 1..bytes.len() {
        let mut client = lab.client(1);
        client.send(&bytes[..cut]);
        lab.settle();
        client.send(&bytes[cut..]);
        lab.settle();
        assert_eq!(client.heard().len(), 2, "cut at {cut}");
    }
    // Two frames and a hello in one read.
    let mut client = lab.dial(1);
    client.send(&[line::frame(&line::client()), bytes].concat());
    lab.settle();
    assert_eq!(client.heard().len(), 3);
}

#[test]
fn t15_a_truncated_frame_is_nothing_and_its_connection_ends_with_it() {
    let mut lab = Lab::cluster(1);
    lab.elect();
    let frame = line::ask(1, line::command(b"never whole"));
    for cut in 1..frame.len() {
        let mut client = lab.client(1);
        client.send(&frame[..cut]);
        client.socket.end();
        lab.settle();
        assert!(client.take_in(), "cut at {cut}");
    }
    assert_eq!(lab.node(1).counters().commands, 0);
    assert_eq!(lab.node(1).counters().garbage, 0, "an end is no garbage");
}

#[test]
fn t29_http_and_tls_are_named() {
    ends_alone(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n", None, "Http");
    ends_alone(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", None, "Tls");
}

#[test]
fn t06_incomplete_frames_of_all_connections_have_a_budget() {
    let mut lab = Lab::new(1, 1, |config| config.inbox_bytes_max = 1 << 20);
    lab.elect();
    let big = line::ask(1, line::command(&[7; 400_000]));
    let mut clients: Vec<_> = (0..4).map(|_| lab.client(1)).collect();
    for client in &mut clients {
        // In pieces, as there is room on the wire.
        for piece in big[..big.len() - 1].chunks(100_000) {
            client.send(piece);
            lab.settle();
            if client.take_in() {
                break;
            }
        }
    }
    assert!(!lab.told(1, "OverBudget").is_empty());
    let mut left = clients
        .into_iter()
        .filter_map(|mut client| (!client.take_in()).then_some(client));
    let mut first = left.next().expect("whoever came first");
    first.send(&big[big.len() - 1..]);
    lab.settle();
    assert!(first.heard().concat().contains("Committed"));
    drop((first, left.collect::<Vec<_>>()));
    lab.settle();
    // What they held is free again.
    let mut again = lab.client(1);
    for piece in big.chunks(100_000) {
        again.send(piece);
        lab.settle();
    }
    assert!(again.heard().concat().contains("Committed"));
}

/// Says that it has read what is not there.
#[derive(Clone, Copy)]
struct Liar;

impl Protocol for Liar {
    fn encode(&self, message: &Message<'_>, frame_max: usize, out: &mut Outbox) -> Result<(), EncodeError> {
        Binary.encode(message, frame_max, out)
    }

    fn decode<'a>(&self, input: &'a [u8], limits: &Limits, _: &'a mut Vec<u8>) -> Result<Decoded<'a>, DecodeError> {
        match Binary.decode(input, limits)? {
            Decoded::Message { message, .. } if matches!(message.body, Body::Status) => Ok(Decoded::Message {
                // The lie, by the number of the request.
                consumed: [0, input.len() + 1][message.header.request.0 as usize],
                message,
            }),
            decoded => Ok(decoded),
        }
    }

    fn name(&self) -> &'static str {
        "liar"
    }
}

#[test]
fn t17_a_protocol_that_lies_costs_the_connection_and_no_more() {
    for request in [0, 1] {
        let mut lab = Lab::with(1, 1, |_| (), &adapters::Config::default(), || Liar);
        lab.run_for(Duration::from_secs(1));
        let mut client = lab.client(1);
        client.send(&line::ask(request, Body::Status));
        lab.settle();
        assert!(client.heard().concat().contains("Malformed"));
        assert!(client.take_in());
        assert!(lab.told(1, "Garbage").concat().contains("BadProtocol"));
        let mut other = lab.client(1);
        other.send(&line::ask(2, line::command(b"unharmed")));
        lab.settle();
        assert!(other.heard().concat().contains("Committed"));
    }
}
