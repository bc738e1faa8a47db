mod dialler;

use super::*;
use crate::id::{Index, RequestId, Round, Sequence, SessionId, Term};
use crate::inbox::InboxError;
use crate::message::{
    Append, AppendReply, AppendResult, Change, Command, Commit, Consistency, Entries, Fetch, Goaway, Heartbeat,
    HeartbeatReply, NodeState, Outcome, Read, ReadIndexReply, SnapshotChunk, SnapshotId, SnapshotReply, SnapshotResult,
    StatusReply, Transfer, Versions, Vote, VoteReply, Welcome,
};
use crate::protocol::{DecodeError, Foreign};

const START: Instant = Instant::from_nanos(1_000_000_000);
const NONCE: u64 = 0xabcd;

/// Node 1 of the cluster "blue", which knows nodes 2 and 3: the latter was never heard.
struct Known {
    heard: Option<Instant>,
    own_nonces: Vec<u64>,
}

const KNOWN: Known = Known {
    heard: None,
    own_nonces: Vec::new(),
};

impl Policy for Known {
    fn member(&self, node: NodeId) -> Member {
        match node.0 {
            1 => Member::Known(Incarnation(0x11)),
            2 => Member::Known(Incarnation(0x22)),
            3 => Member::New,
            _ => Member::Unknown,
        }
    }

    fn heard(&self, node: NodeId) -> Option<Instant> {
        self.heard.filter(|_| node == NodeId(2))
    }

    fn is_own_nonce(&self, nonce: u64) -> bool {
        self.own_nonces.contains(&nonce)
    }
}

fn node(id: u64) -> Identity {
    Identity::node("blue", NodeId(id), Incarnation(id * 0x11), 1 << 20)
}

fn client() -> Identity {
    Identity::client(Some("blue"), 1 << 16)
}

/// A body of the kind, such as a handshake is content with.
fn body(kind: Kind) -> Body<'static> {
    match kind {
        Kind::Hello => Body::Hello(Hello {
            role: Role::Peer,
            to: NodeId(1),
            incarnation: Incarnation(0x22),
            nonce: NONCE,
            versions: Versions::OURS,
            features: 0,
            frame_max: 1 << 20,
            cluster_name: "blue",
            membership: Index::ZERO,
        }),
        Kind::Welcome => Body::Welcome(Welcome {
            incarnation: Incarnation(0x22),
            nonce: NONCE,
            version: 1,
            features: 0,
            frame_max: 1 << 20,
        }),
        Kind::Goaway => Body::Goaway(Goaway {
            reason: GoawayReason::Stopping,
            detail: "",
        }),
        Kind::Append => Body::Append(Append {
            prev_index: Index(0),
            prev_term: Term(0),
            commit: Index(0),
            round: Round(0),
            entries: Entries::NONE,
        }),
        Kind::AppendReply => Body::AppendReply(AppendReply {
            round: Round(0),
            result: AppendResult::Matched(Index(0)),
        }),
        Kind::Heartbeat => Body::Heartbeat(Heartbeat {
            commit: Index(0),
            round: Round(0),
        }),
        Kind::HeartbeatReply => Body::HeartbeatReply(HeartbeatReply {
            round: Round(0),
            promise_us: 0,
        }),
        Kind::Vote => Body::Vote(Vote {
            pre: true,
            by_transfer: false,
            term: Term(1),
            last_index: Index(0),
            last_term: Term(0),
        }),
        Kind::VoteReply => Body::VoteReply(VoteReply {
            pre: true,
            granted: true,
            term: Term(1),
        }),
        Kind::ReadIndex => Body::ReadIndex,
        Kind::ReadIndexReply => Body::ReadIndexReply(ReadIndexReply::Refused),
        Kind::Snapshot => Body::Snapshot(chunk()),
        Kind::SnapshotReply => Body::SnapshotReply(SnapshotReply {
            id: SnapshotId::default(),
            result: SnapshotResult::Received(0),
        }),
        Kind::TimeoutNow => Body::TimeoutNow,
        Kind::Change => Body::Change(Change::Remove { node: NodeId(1) }),
        Kind::Transfer => Body::Transfer(Transfer { to: NodeId(1) }),
        Kind::Fetch => Body::Fetch(Fetch {
            id: SnapshotId::default(),
            offset: 0,
        }),
        Kind::FetchReply => Body::FetchReply(chunk()),
        Kind::OpenSession => Body::OpenSession,
        Kind::Command => Body::Command(Command {
            session: SessionId(0),
            sequence: Sequence(0),
            first_unanswered: Sequence(0),
            command: b"",
            commit: Commit::Strong,
        }),
        Kind::Read => Body::Read(Read {
            query: b"",
            consistency: Consistency::Linearizable,
        }),
        Kind::Reply => Body::Reply(Outcome::Unknown),
        Kind::Status => Body::Status,
        Kind::StatusReply => Body::StatusReply(StatusReply {
            state: NodeState::Follower,
            leader: NodeId::NONE,
            commit: Index(0),
            applied: Index(0),
            first: Index(0),
            last: Index(0),
            durable: Index(0),
            snapshot: Index(0),
            membership: Index(0),
            uptime_ms: 0,
            version: "",
            backend: "",
            members: Vec::new(),
        }),
    }
}

fn chunk() -> SnapshotChunk<'static> {
    SnapshotChunk {
        id: SnapshotId::default(),
        offset: 0,
        data: b"",
    }
}

fn message(from: &Identity, body: Body<'static>) -> Message<'static> {
    Message {
        header: Header {
            term: Term(9),
            request: RequestId(5),
            ..from.header()
        },
        body,
    }
}

fn receive(handshake: &mut Handshake, message: &Message<'_>, local: &Identity) -> Step {
    handshake.receive(message, local, &KNOWN, START)
}

/// A connection of two sides whose handshake is through: dialler's and acceptor's.
fn established(dialler: &Identity) -> (Handshake, Handshake) {
    let mut dialled = Handshake::dial(NodeId(1), NONCE, START);
    let mut accepted = Handshake::accept(None, START);
    let step = receive(&mut accepted, &dialled.hello(dialler), &node(1));
    let Step::Established {
        send: Some(welcome), ..
    } = step
    else {
        panic!("{step:?}");
    };
    let step = receive(&mut dialled, &welcome, dialler);
    assert!(matches!(step, Step::Established { send: None, .. }), "{step:?}");
    (dialled, accepted)
}

/// What each state makes of each kind: `E` established, `p` passed on, `g` gone, `-` turned away.
///
/// The states: an acceptor that waits for hello; a dialler that waits for welcome; an acceptor whose dialler is a peer;
/// one whose dialler is a client; a peer that dialled; a client that dialled.
const TABLE: &str = "
    Hello           E - - - - -
    Welcome         - E - - - -
    Goaway          g g g g g g
    Append          - - p - - -
    AppendReply     - - - - p -
    Heartbeat       - - p - - -
    HeartbeatReply  - - - - p -
    Vote            - - p - - -
    VoteReply       - - - - p -
    ReadIndex       - - p - - -
    ReadIndexReply  - - - - p -
    Snapshot        - - p - - -
    SnapshotReply   - - - - p -
    TimeoutNow      - - p - - -
    OpenSession     - - - p - -
    Command         - - - p - -
    Read            - - - p - -
    Change          - - - p - -
    Transfer        - - - p - -
    Fetch           - - - p - -
    FetchReply      - - - - - p
    Reply           - - - - - p
    Status          - - p p - -
    StatusReply     - - - - p p
";

#[test]
fn row32_a_role_bounds_the_kinds_in_every_state() {
    let (peer_dialled, peer_accepted) = established(&node(2));
    let (client_dialled, client_accepted) = established(&client());
    // The state, who receives, who sends.
    let states = [
        (Handshake::accept(None, START), node(1), node(2)),
        (Handshake::dial(NodeId(2), NONCE, START), node(1), node(2)),
        (peer_accepted, node(1), node(2)),
        (client_accepted, node(1), client()),
        (peer_dialled, node(2), node(1)),
        (client_dialled, client(), node(1)),
    ];
    let mut table = String::from("\n");
    for kind in Kind::ALL {
        table += &format!("    {:<15}", format!("{kind:?}"));
        for (state, local, from) in &states {
            let step = receive(&mut state.clone(), &message(from, body(kind)), local);
            table += match step {
                Step::Established { .. } => " E",
                Step::Pass => " p",
                Step::Gone(GoawayReason::Stopping) => " g",
                Step::Reject(rejection) => {
                    assert_eq!(rejection.reason, GoawayReason::NotAllowed, "{rejection}");
                    assert!(rejection.detail.contains(&format!("{kind:?}")), "{rejection}");
                    " -"
                }
                Step::Gone(_) => panic!("another reason than was sent"),
            };
        }
        table += "\n";
    }
    assert_eq!(table, TABLE);
}

/// What a side may send is what the other side takes.
#[test]
fn both_sides_have_one_table() {
    for dialler in [node(2), client()] {
        let (dialled, accepted) = established(&dialler);
        for kind in Kind::ALL {
            let to_acceptor = receive(&mut accepted.clone(), &message(&dialler, body(kind)), &node(1));
            assert_eq!(
                dialled.may_send(kind),
                !matches!(to_acceptor, Step::Reject(_)),
                "{kind:?}"
            );
            let to_dialler = receive(&mut dialled.clone(), &message(&node(1), body(kind)), &dialler);
            assert_eq!(
                accepted.may_send(kind),
                !matches!(to_dialler, Step::Reject(_)),
                "{kind:?}"
            );
            assert!(
                !(kind.is_reply() && dialled.may_send(kind)),
                "{kind:?}: a dialler replies to nothing"
            );
        }
        assert!(Handshake::dial(NodeId(1), NONCE, START).may_send(Kind::Hello));
        assert!(!Handshake::accept(None, START).may_send(Kind::Hello));
    }
}

#[test]
fn both_sides_agree() {
    let (dialled, accepted) = established(&node(2));
    assert_eq!(
        accepted.established(),
        Some(&Established {
            role: Role::Peer,
            node: NodeId(2),
            cluster: ClusterId::from_name("blue"),
            incarnation: Incarnation(0x22),
            is_new: false,
            replaces: false,
            version: 1,
            features: 0,
            frame_max: 1 << 20,
        })
    );
    assert_eq!(dialled.established().map(|agreed| agreed.node), Some(NodeId(1)));
    assert_eq!((dialled.deadline(), accepted.deadline()), (None, None));

    let (dialled, accepted) = established(&client());
    let agreed = accepted.established().unwrap();
    assert_eq!(
        (agreed.role, agreed.node, agreed.frame_max),
        (Role::Client, NodeId::NONE, 1 << 16)
    );
    let agreed = dialled.established().unwrap();
    assert_eq!(
        (agreed.role, agreed.node, agreed.frame_max),
        (Role::Client, NodeId(1), 1 << 20)
    );
}

/// A hello that node 1 judges, and what is wrong with it.
struct Case {
    header: Header,
    hello: Hello<'static>,
    port: Option<Role>,
    policy: Known,
}

/// What node 1 answers to a peer's hello with one thing `change`d: the reason, and what the detail names.
#[track_caller]
fn check_hello(change: impl FnOnce(&mut Case), reason: GoawayReason, names: &[&str]) {
    let Body::Hello(hello) = body(Kind::Hello) else {
        unreachable!()
    };
    let mut case = Case {
        header: node(2).header(),
        hello,
        port: None,
        policy: KNOWN,
    };
    change(&mut case);
    let mut handshake = Handshake::accept(case.port, START);
    let hello = Message {
        header: case.header,
        body: Body::Hello(case.hello),
    };
    let step = handshake.receive(&hello, &node(1), &case.policy, START + Duration::from_secs(3));
    let Step::Reject(rejection) = step else {
        panic!("expected {reason:?}, got {step:?}");
    };
    assert_eq!(rejection.reason, reason, "{rejection}");
    for name in names {
        assert!(rejection.detail.contains(name), "{rejection} names {name}");
    }
    assert!(rejection.detail.len() <= DETAIL_MAX);
    assert_eq!(handshake.established(), None, "what is turned away is not established");
}

#[test]
fn row22_another_cluster_is_turned_away() {
    let green = ClusterId::from_name("green");
    check_hello(
        |case| {
            case.header.cluster = green;
            case.hello.cluster_name = "green";
        },
        GoawayReason::WrongCluster,
        &["\"green\"", "\"blue\"", &format!("{:#x}", green.0)],
    );
    // An id is a hash: names are compared, too.
    check_hello(
        |case| case.hello.cluster_name = "green",
        GoawayReason::WrongCluster,
        &["\"green\"", "\"blue\""],
    );
    check_hello(|case| case.header.cluster = green, GoawayReason::WrongCluster, &[]);
    // Only a client may not know.
    check_hello(
        |case| {
            case.header.cluster = ClusterId(0);
            case.hello.cluster_name = "";
        },
        GoawayReason::WrongCluster,
        &["\"\"", "\"blue\""],
    );
}

#[test]
fn row28_no_common_version_is_answered_with_the_range() {
    check_hello(
        |case| case.hello.versions = Versions { min: 7, max: 9 },
        GoawayReason::NoCommonVersion,
        &["7-9", "1-1"],
    );
    check_hello(
        |case| case.hello.versions = Versions { min: 0, max: 0 },
        GoawayReason::NoCommonVersion,
        &["0-0"],
    );
    check_hello(
        |case| case.hello.versions = Versions { min: 2, max: 1 },
        GoawayReason::NoCommonVersion,
        &["2-1"],
    );
}

#[test]
fn row21_a_node_that_dialled_itself_is_told() {
    check_hello(
        |case| {
            case.header.from = NodeId(1);
            case.policy.own_nonces = vec![NONCE];
        },
        GoawayReason::OwnId,
        &["node 1 dialled itself"],
    );
}

#[test]
fn row20_a_node_with_this_nodes_id_is_told() {
    check_hello(
        |case| case.header.from = NodeId(1),
        GoawayReason::OwnId,
        &["node 1", "two nodes"],
    );
}

#[test]
fn a_hello_for_another_node_is_turned_away() {
    check_hello(
        |case| case.hello.to = NodeId(3),
        GoawayReason::WrongNode,
        &["node 3", "node 1"],
    );
    check_hello(
        |case| case.hello.to = NodeId::NONE,
        GoawayReason::WrongNode,
        &["node 0", "node 1"],
    );
}

#[test]
fn row19_an_unknown_node_is_turned_away() {
    check_hello(
        |case| case.header.from = NodeId(4),
        GoawayReason::UnknownNode,
        &["node 4", "\"blue\"", "node 1"],
    );
    check_hello(
        |case| case.header.from = NodeId::NONE,
        GoawayReason::UnknownNode,
        &["node 0"],
    );
}

#[test]
fn a_node_whose_disk_was_wiped_is_turned_away() {
    check_hello(
        |case| case.hello.incarnation = Incarnation(0x99),
        GoawayReason::WrongIncarnation,
        &["node 2", "0x99", "0x22"],
    );
}

#[test]
fn row32_a_port_takes_its_role_alone() {
    check_hello(
        |case| case.port = Some(Role::Client),
        GoawayReason::NotAllowed,
        &["peer", "clients"],
    );
    check_hello(
        |case| {
            case.port = Some(Role::Peer);
            case.hello.role = Role::Client;
        },
        GoawayReason::NotAllowed,
        &["client", "peers"],
    );
}

#[test]
fn a_client_says_no_node() {
    check_hello(
        |case| case.hello.role = Role::Client,
        GoawayReason::Violation,
        &["node 2", "0x22"],
    );
}

#[test]
fn a_frame_max_that_holds_no_hello_is_turned_away() {
    check_hello(
        |case| case.hello.frame_max = 4095,
        GoawayReason::Violation,
        &["4095", "4096"],
    );
}

#[test]
fn row20_a_second_live_connection_of_a_node_is_turned_away() {
    let heard = START + Duration::from_millis(2500);
    check_hello(
        |case| case.policy.heard = Some(heard),
        GoawayReason::DuplicateNode,
        &["node 2", "node 1", "500 ms"],
    );
}

#[test]
fn row20_a_silent_connection_gives_way_to_a_new_one() {
    let policy = Known {
        heard: Some(START),
        ..KNOWN
    };
    let hello = message(&node(2), body(Kind::Hello));
    for (silent, is_replaced) in [(SILENT_AFTER - Duration::from_nanos(1), false), (SILENT_AFTER, true)] {
        let step = Handshake::accept(None, START).receive(&hello, &node(1), &policy, START + silent);
        match step {
            Step::Established { established, .. } => assert!(is_replaced && established.replaces),
            Step::Reject(rejection) => assert!(!is_replaced, "{rejection}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_node_that_was_never_heard_is_new() {
    let mut identity = node(3);
    identity.incarnation = Incarnation(0x7777);
    let hello = Handshake::dial(NodeId(1), NONCE, START).hello(&identity).header;
    let Body::Hello(fields) = body(Kind::Hello) else {
        unreachable!()
    };
    let hello = Message {
        header: hello,
        body: Body::Hello(Hello {
            incarnation: Incarnation(0x7777),
            ..fields
        }),
    };
    let mut handshake = Handshake::accept(Some(Role::Peer), START);
    let step = receive(&mut handshake, &hello, &node(1));
    assert!(matches!(step, Step::Established { .. }), "{step:?}");
    let agreed = handshake.established().unwrap();
    assert!(agreed.is_new && agreed.incarnation == Incarnation(0x7777));
}

#[test]
fn row20_a_message_of_another_sender_is_a_violation() {
    let (_, accepted) = established(&node(2));
    for (change, reason) in [
        (
            (|header| header.from = NodeId(3)) as fn(&mut Header),
            GoawayReason::Violation,
        ),
        (|header| header.from = NodeId::NONE, GoawayReason::Violation),
        (|header| header.group = GroupId(1), GoawayReason::Violation),
        (|header| header.cluster = ClusterId(0), GoawayReason::WrongCluster),
        (|header| header.cluster = ClusterId(7), GoawayReason::WrongCluster),
    ] {
        let mut heartbeat = message(&node(2), body(Kind::Heartbeat));
        change(&mut heartbeat.header);
        let step = receive(&mut accepted.clone(), &heartbeat, &node(1));
        let Step::Reject(rejection) = step else {
            panic!("{step:?}");
        };
        assert_eq!(rejection.reason, reason);
    }
}

#[test]
fn row01_a_connection_without_a_hello_is_turned_away() {
    for (handshake, awaited) in [
        (Handshake::accept(None, START), "hello"),
        (Handshake::dial(NodeId(2), NONCE, START), "welcome"),
    ] {
        let deadline = handshake.deadline().unwrap();
        assert_eq!(deadline, START + HELLO_TIMEOUT);
        assert_eq!(handshake.expire(Instant::from_nanos(deadline.as_nanos() - 1)), None);
        let rejection = handshake.expire(deadline).unwrap();
        assert_eq!(rejection.reason, GoawayReason::TooSlow);
        assert_eq!(rejection.detail, format!("no {awaited} within 5 s"));
    }
    let (dialled, accepted) = established(&node(2));
    let late = START + Duration::from_secs(100);
    assert_eq!((dialled.expire(late), accepted.expire(late)), (None, None));
}

#[test]
fn limits_widen_with_the_handshake() {
    let wide = Limits {
        frame_max: 1 << 20,
        entries_max: 100,
    };
    assert_eq!(Handshake::accept(None, START).limits(&wide), &Limits::BEFORE_HELLO);
    assert_eq!(established(&node(2)).1.limits(&wide), &wide);
}

#[test]
fn row44_what_a_hello_says_is_escaped_and_cut() {
    let name: &'static str = Box::leak("\u{1b}[31m\nevil\u{202e}ü".repeat(50).into_boxed_str());
    check_hello(
        |case| case.hello.cluster_name = name,
        GoawayReason::WrongCluster,
        &["\\u{1b}[31m\\nevil\\u{202e}ü", "…", "\"blue\""],
    );
    let local = Identity::node(&"x\n".repeat(400), NodeId(1), Incarnation(1), 1 << 20);
    let mut handshake = Handshake::accept(None, START);
    let Step::Reject(rejection) = receive(&mut handshake, &message(&node(2), body(Kind::Hello)), &local) else {
        panic!("the cluster is another one");
    };
    assert!(
        rejection.detail.len() <= DETAIL_MAX && !rejection.detail.contains('\n'),
        "{rejection}"
    );
}

#[test]
fn bytes_that_are_no_message_have_a_reason() {
    let local = node(1);
    for (error, reason, names) in [
        (DecodeError::UnknownVersion, GoawayReason::NoCommonVersion, "1-1"),
        (
            DecodeError::UnknownKind { kind: 99, consumed: 64 },
            GoawayReason::NotAllowed,
            "99",
        ),
        (DecodeError::TooLarge, GoawayReason::TooLarge, "4096"),
        (DecodeError::BadChecksum, GoawayReason::Malformed, "damaged"),
        (DecodeError::Malformed { offset: 64 }, GoawayReason::Malformed, "64"),
        (DecodeError::BadMagic(Foreign::Tls), GoawayReason::Malformed, "TLS"),
    ] {
        let error = InboxError::Decode(error);
        let rejection = Rejection::of_bytes(error, &Limits::BEFORE_HELLO, &local);
        assert_eq!(rejection.reason, reason);
        assert!(rejection.detail.contains(names), "{rejection}");
        assert_eq!(Rejection::is_foreign(error), names == "TLS");
        let Body::Goaway(goaway) = rejection.message(&local).body else {
            panic!("a rejection is a goaway");
        };
        assert_eq!((goaway.reason, goaway.detail), (reason, &rejection.detail[..]));
    }
    let full = Rejection::of_bytes(InboxError::OverBudget, &Limits::BEFORE_HELLO, &local);
    assert_eq!(full.reason, GoawayReason::TooMany);
}

#[test]
fn features_are_what_both_have() {
    let (mut ours, mut theirs) = (node(1), node(2));
    (ours.features, theirs.features) = (0b0110, 0b1100);
    let mut dialled = Handshake::dial(NodeId(1), NONCE, START);
    let mut accepted = Handshake::accept(None, START);
    let step = receive(&mut accepted, &dialled.hello(&theirs), &ours);
    let Step::Established {
        send: Some(mut welcome),
        ..
    } = step
    else {
        panic!("{step:?}");
    };
    assert_eq!(accepted.established().map(|agreed| agreed.features), Some(0b0100));
    if let Body::Welcome(welcome) = &mut welcome.body {
        assert_eq!(welcome.features, 0b0100);
        // One that claims more than was offered.
        welcome.features = u64::MAX;
    }
    receive(&mut dialled, &welcome, &theirs);
    assert_eq!(dialled.established().map(|agreed| agreed.features), Some(0b1100));
}

#[test]
fn an_id_that_the_certificate_does_not_name_is_turned_away_on_either_side() {
    let names = |id| [node_name("blue", NodeId(id))];
    // The acceptor hears the id by hello.
    let (one, two) = (node(1), node(2));
    for (proved, expected) in [(2, true), (3, false)] {
        let dialled = Handshake::dial(NodeId(1), NONCE, START);
        let mut accepted = Handshake::accept(None, START);
        accepted.require(&names(proved), &one).expect("nobody is named so far");
        match receive(&mut accepted, &dialled.hello(&two), &one) {
            Step::Established { established, .. } if expected => assert_eq!(established.node, NodeId(2)),
            Step::Reject(rejection) if !expected => {
                assert_eq!(rejection.reason, GoawayReason::NotAllowed);
                assert!(rejection.detail.contains("kraft://blue/node/3"), "{rejection}");
                assert_eq!(accepted.established(), None);
            }
            step => panic!("{step:?}"),
        }
    }
    // The dialler knows whom it dialled before a word is said.
    let mut dialled = Handshake::dial(NodeId(2), NONCE, START);
    let rejection = dialled.require(&names(3), &one).expect_err("another node answers");
    assert!(rejection.detail.contains("node 2 needs"), "{rejection}");
    dialled.require(&names(2), &one).expect("it is the one");
    // A client learns the id by welcome, and is asked for none itself.
    for (proved, expected) in [(1, true), (2, false)] {
        let mut dialled = Handshake::dial(NodeId::NONE, NONCE, START);
        dialled.require(&names(proved), &client()).expect("it dials nobody");
        let mut accepted = Handshake::accept(None, START);
        accepted.require(&[], &one).expect("nobody is named so far");
        let step = receive(&mut accepted, &dialled.hello(&client()), &one);
        let Step::Established {
            send: Some(welcome), ..
        } = step
        else {
            panic!("{step:?}")
        };
        let step = receive(&mut dialled, &welcome, &client());
        assert_eq!(matches!(step, Step::Established { .. }), expected, "{step:?}");
    }
}
