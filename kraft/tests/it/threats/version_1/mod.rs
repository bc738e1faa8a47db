//! A node and a client of version 1 in front of a node of today.
//!
//! What they say stands in a file for each format, `version_1/FORMAT.txt`, as it was recorded; nothing here writes it.
//! What they are told is read as they would, by [`reader`], which has nothing in common with today's decoders.

mod reader;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use kraft::id::Index;
use kraft::message::NodeState;
use kraft::protocols::{Any, Format};

use self::reader::{Heard, hear};
use super::lab::Lab;
use super::line::Line;

/// What to do when one of these fails.
pub(super) const CURE: &str = "nodes and clients of version 1 are out there, and this is what they say and understand. \
    Change nothing in version_1/: let the program go on with it. What is new is an optional field, which version 1 skips \
    (law P11), a kind of its own, which is not said to version 1 (law P8), or version 2, which the hello negotiates: raise \
    `Versions::OURS.max`, leave `min`, and say what is new where `Established::version` is 2";

/// The nonce in the recorded welcome. It has to be that of the hello, so it is the one thing that is not as it was.
const NONCE: u64 = 0x1122_3344_5566_7788;

/// The frames of a file: a name and the bytes in hexadecimal, a line each.
struct Recorded {
    format: Format,
    frames: BTreeMap<String, Vec<u8>>,
}

impl Recorded {
    fn new(format: Format) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/it/threats/version_1")
            .join(format!("{format}.txt"));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}: {CURE}", path.display()));
        let frame = |line: &str| -> Option<(String, Vec<u8>)> {
            let (name, digits) = line.split_once(' ')?;
            let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).expect("hexadecimal");
            let bytes = (0..digits.len()).step_by(2).map(byte).collect();
            Some((name.to_owned(), bytes))
        };
        Self {
            format,
            frames: text.lines().filter_map(frame).collect(),
        }
    }

    fn frame(&self, name: &str) -> &[u8] {
        &self.frames[name]
    }

    /// Says this, and reads what came back.
    #[track_caller]
    fn say(&self, lab: &mut Lab<Any>, line: &mut Line, name: &str) -> Vec<Heard> {
        line.send(self.frame(name));
        lab.settle();
        self.heard(line, name)
    }

    #[track_caller]
    fn heard(&self, line: &mut Line, what: &str) -> Vec<Heard> {
        let bytes = line.take();
        hear(self.format, &bytes).unwrap_or_else(|why| panic!("{}, {what}: {why}: {CURE}", self.format))
    }

    /// Says this, and is told one thing, with these fields.
    #[track_caller]
    fn expect(&self, lab: &mut Lab<Any>, line: &mut Line, name: &str, kind: &str, fields: &[(&str, u64)]) -> Heard {
        let heard = self.say(lab, line, name);
        let [one] = <[Heard; 1]>::try_from(heard)
            .unwrap_or_else(|all| panic!("{}: to {name} it is told {all:?}: {CURE}", self.format));
        self.judge(&one, name, kind, fields);
        one
    }

    #[track_caller]
    fn judge(&self, heard: &Heard, what: &str, kind: &str, fields: &[(&str, u64)]) {
        assert_eq!(heard.kind, kind, "{}, {what}: {heard:?}: {CURE}", self.format);
        for (name, value) in fields {
            assert_eq!(
                heard.number(name),
                *value,
                "{}, {what}: {name} in {heard:?}: {CURE}",
                self.format
            );
        }
    }
}

fn lab(format: Format, members: u64) -> Lab<Any> {
    let adapter = kraft::adapters::Config::default();
    Lab::with(1, members, |_| (), &adapter, || Any::new(format))
}

#[test]
fn a_leader_of_version_1_is_followed() {
    for &format in Format::ALL {
        let recorded = Recorded::new(format);
        let mut lab = lab(format, 2);
        let mut old = lab.dial_as_peer(1);
        let welcome = [
            ("from", 1),
            ("version", 1),
            ("nonce", 0xa11),
            ("incarnation", 1),
            ("features", 0),
        ];
        let heard = recorded.expect(&mut lab, &mut old, "hello-peer", "welcome", &welcome);
        assert!(heard.number("frame_max") >= 4096);
        let granted = [
            ("from", 1),
            ("pre", 1),
            ("granted", 1),
            ("campaign_term", 5),
            ("request", 11),
        ];
        recorded.expect(&mut lab, &mut old, "vote-pre", "vote_reply", &granted);
        let granted = [
            ("term", 5),
            ("pre", 0),
            ("granted", 1),
            ("campaign_term", 5),
            ("request", 12),
        ];
        recorded.expect(&mut lab, &mut old, "vote", "vote_reply", &granted);
        let rejected = [
            ("term", 5),
            ("round", 6),
            ("result", 2),
            ("index", 9),
            ("hint_index", 0),
        ];
        recorded.expect(&mut lab, &mut old, "append-ahead", "append_reply", &rejected);
        let matched = [("term", 5), ("round", 7), ("result", 1), ("index", 2)];
        recorded.expect(&mut lab, &mut old, "append", "append_reply", &matched);
        let alive = [("term", 5), ("round", 8)];
        recorded.expect(&mut lab, &mut old, "heartbeat", "heartbeat_reply", &alive);
        let status = lab.node(1).status();
        assert_eq!(
            (status.commit, status.leader.0, status.hard.vote.0),
            (Index(2), 2, 2),
            "{format}: {CURE}"
        );
        // A client of version 1 is sent on.
        let mut client = lab.dial(1);
        recorded.expect(
            &mut lab,
            &mut client,
            "hello-client",
            "welcome",
            &[("from", 1), ("version", 1)],
        );
        let refused = [("request", 22), ("outcome", 2), ("why", 1), ("leader", 2)];
        recorded.expect(&mut lab, &mut client, "command", "reply", &refused);
    }
}

#[test]
fn a_follower_of_version_1_is_led() {
    for &format in Format::ALL {
        let recorded = Recorded::new(format);
        let mut lab = lab(format, 2);
        let remote = lab.network.dialled().expect("it dials the other member");
        remote.accept();
        let mut old = Line::new(remote);
        lab.settle();
        let heard = recorded.heard(&mut old, "dialled");
        let [hello] = &heard[..] else {
            panic!("{format}: {heard:?}: {CURE}")
        };
        let says = [
            ("from", 1),
            ("role", 1),
            ("to", 2),
            ("incarnation", 1),
            ("version_min", 1),
        ];
        recorded.judge(hello, "dialled", "hello", &says);
        assert!(hello.number("version_max") >= 1 && hello.number("frame_max") >= 4096);
        assert_eq!(hello.bytes("cluster_name"), super::line::CLUSTER.as_bytes());

        old.send(&reader::with_nonce(
            format,
            recorded.frame("welcome"),
            NONCE,
            hello.number("nonce"),
        ));
        lab.run_for(Duration::from_millis(400));
        let heard = recorded.heard(&mut old, "alone for an election timeout");
        let asked = heard
            .last()
            .unwrap_or_else(|| panic!("{format}: it asks for no vote: {CURE}"));
        recorded.judge(
            asked,
            "alone",
            "vote",
            &[("pre", 1), ("campaign_term", 1), ("last_index", 0)],
        );
        let asks = [("term", 1), ("pre", 0), ("campaign_term", 1), ("last_term", 0)];
        recorded.expect(&mut lab, &mut old, "vote-pre-granted", "vote", &asks);
        let heard = recorded.say(&mut lab, &mut old, "vote-granted");
        assert_eq!(lab.state(1), NodeState::Leader, "{format}: {heard:?}: {CURE}");
        let append = heard.iter().find(|heard| heard.kind == "append");
        let append = append.unwrap_or_else(|| panic!("{format}: it appends nothing: {heard:?}: {CURE}"));
        recorded.judge(
            append,
            "elected",
            "append",
            &[("term", 1), ("prev_index", 0), ("prev_term", 0), ("commit", 0)],
        );
        recorded.say(&mut lab, &mut old, "append-matched");
        assert_eq!(lab.node(1).status().commit, Index(1), "{format}: {CURE}");
        lab.run_for(Duration::from_millis(60));
        let heard = recorded.heard(&mut old, "led");
        let beats = heard
            .iter()
            .find(|heard| heard.kind == "heartbeat" && heard.number("commit") == 1);
        assert!(beats.is_some(), "{format}: {heard:?}: {CURE}");
    }
}

#[test]
fn a_client_of_version_1_is_answered() {
    for &format in Format::ALL {
        let recorded = Recorded::new(format);
        let mut lab = lab(format, 1);
        lab.run_for(Duration::from_secs(1));
        let mut client = lab.dial(1);
        recorded.expect(
            &mut lab,
            &mut client,
            "hello-client",
            "welcome",
            &[("version", 1), ("nonce", 0xa11)],
        );
        let opened = [("request", 21), ("outcome", 1), ("why", 0)];
        let heard = recorded.expect(&mut lab, &mut client, "open-session", "reply", &opened);
        assert_eq!(
            heard.bytes("answer"),
            2_u64.to_le_bytes(),
            "the session's id is the index of its entry"
        );
        let done = [("request", 22), ("outcome", 1), ("why", 0), ("leader", 0)];
        let heard = recorded.expect(&mut lab, &mut client, "command", "reply", &done);
        assert_eq!(heard.bytes("answer"), 1_u64.to_le_bytes(), "{format}: {CURE}");
        let heard = recorded.expect(&mut lab, &mut client, "command", "reply", &done);
        assert_eq!(
            heard.bytes("answer"),
            1_u64.to_le_bytes(),
            "said twice in its session, it is applied once"
        );
        let read = [("request", 23), ("outcome", 1), ("why", 0)];
        let heard = recorded.expect(&mut lab, &mut client, "read", "reply", &read);
        assert_eq!(heard.bytes("answer"), 1_u64.to_le_bytes(), "{format}: {CURE}");
        let leads = [("request", 24), ("state", 4), ("leader", 1), ("commit", 4), ("last", 4)];
        recorded.expect(&mut lab, &mut client, "status", "status_reply", &leads);
    }
}

#[test]
fn version_1_hears_why_it_is_turned_away() {
    for &format in Format::ALL {
        let recorded = Recorded::new(format);
        let mut lab = lab(format, 2);
        for (name, reason) in [("hello-stranger", 1), ("heartbeat", 8)] {
            let mut line = lab.dial_as_peer(1);
            let heard = recorded.expect(&mut lab, &mut line, name, "goaway", &[("reason", reason)]);
            assert!(
                str::from_utf8(heard.bytes("detail")).is_ok_and(|detail| !detail.is_empty()),
                "{heard:?}"
            );
        }
    }
}
