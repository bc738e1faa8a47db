//! A handshake, and what follows it.

use arbitrary::{Result, Unstructured};
use kraft_core::handshake::{
    DETAIL_MAX, Established, FRAME_MAX_LEAST, Handshake, Identity, Kind, Kinds, Member, Policy, Rejection, Side, Step,
    node_name,
};
use kraft_core::id::{ClusterId, GroupId, Incarnation, Index, NodeId};
use kraft_core::message::{Body, Message, Role, Versions};
use kraft_core::time::Instant;
use kraft_protocols::Format;

use crate::decode::encode;
use crate::said;

const MESSAGES_MAX: usize = 24;

const CLUSTER: &str = "blue";

/// Who is known, by the number of the node.
struct Town {
    now: Instant,
}

impl Policy for Town {
    fn member(&self, node: NodeId) -> Member {
        match node.0 % 6 {
            0 => Member::Unknown,
            1 => Member::New,
            2 => Member::Removed,
            3 => Member::Provisional,
            _ => Member::Known(Incarnation(1)),
        }
    }

    fn admits(&self, node: NodeId, membership: Index) -> bool {
        membership.0 > node.0
    }

    fn heard(&self, node: NodeId) -> Option<Instant> {
        node.0.is_multiple_of(5).then_some(self.now)
    }

    fn is_own_nonce(&self, nonce: u64) -> bool {
        nonce == 7
    }
}

pub(crate) fn run(input: &[u8]) {
    let _ = try_run(&mut Unstructured::new(input));
}

fn identity(u: &mut Unstructured<'_>) -> Result<Identity> {
    let mut identity = match u.int_in_range(0..=2)? {
        0 => Identity::client(None, FRAME_MAX_LEAST),
        1 => Identity::client(Some(CLUSTER), FRAME_MAX_LEAST + u.int_in_range(0..=9)?),
        _ => Identity::node(CLUSTER, NodeId(1), Incarnation(1), 1 << 20),
    };
    identity.features = u64::from(u.arbitrary::<u8>()?);
    identity.versions = *u.choose(&[Versions::OURS, Versions { min: 1, max: 3 }, Versions { min: 2, max: 2 }])?;
    identity.membership = Index(u.int_in_range(0..=9)?);
    Ok(identity)
}

fn try_run(u: &mut Unstructured<'_>) -> Result<()> {
    let local = identity(u)?;
    let mut town = Town { now: Instant::ZERO };
    let mut handshake = match (local.node.is_some(), u.int_in_range(0..=3)?) {
        // A client accepts nobody.
        (false, _) => Handshake::dial(NodeId::NONE, u.int_in_range(0..=9)?, town.now),
        // Nobody dials himself.
        (true, 0) => Handshake::dial(NodeId(u.int_in_range(2..=6)?), u.int_in_range(0..=9)?, town.now),
        (true, 1) => Handshake::accept(None, town.now),
        (true, 2) => Handshake::accept(Some(Role::Client), town.now),
        (true, _) => Handshake::accept(Some(Role::Peer), town.now),
    };
    if u.ratio(1, 3)? {
        let proved = [node_name(CLUSTER, NodeId(u.int_in_range(0..=5)?))];
        if let Err(rejection) = handshake.require(&proved, &local) {
            judge_rejection(&rejection, &local);
        }
    }
    if handshake.side() == Side::Dialler {
        let hello = handshake.hello(&local);
        assert!(encode(Format::Json, &hello).is_some());
        assert!(handshake.nonce().is_some());
    }
    for _ in 0..MESSAGES_MAX {
        if u.is_empty() {
            break;
        }
        town.now += std::time::Duration::from_millis(u64::from(u.arbitrary::<u16>()?));
        let late = handshake.expire(town.now);
        assert_eq!(
            late.is_some(),
            handshake.deadline().is_some_and(|deadline| deadline <= town.now)
        );
        if let Some(rejection) = late {
            judge_rejection(&rejection, &local);
        }
        let message = message(u, &local, &handshake)?;
        step(&mut handshake, &message, &local, &town);
    }
    Ok(())
}

/// A message that is turned away for no more than one or two reasons.
fn message<'a>(u: &mut Unstructured<'a>, local: &Identity, handshake: &Handshake) -> Result<Message<'a>> {
    let first = match handshake.side() {
        Side::Dialler => Kind::Welcome,
        Side::Acceptor => Kind::Hello,
    };
    let kind = match handshake.established() {
        None if u.ratio(7, 8)? => first,
        _ => *u.choose(&Kind::ALL)?,
    };
    let mut message = Message {
        header: said::header(u)?,
        body: said::body(u, kind)?,
    };
    if u.ratio(7, 8)? {
        message.header.cluster = ClusterId::from_name(CLUSTER);
        message.header.group = GroupId(0);
        message.header.from = NodeId(u.int_in_range(0..=6)?);
    }
    if let Some(established) = handshake.established().filter(|_| u.ratio(7, 8).unwrap_or(false)) {
        message.header.from = established.node;
    }
    if u.ratio(7, 8)? {
        match &mut message.body {
            Body::Hello(hello) => {
                hello.cluster_name = CLUSTER;
                hello.versions = Versions { min: 1, max: 2 };
                hello.to = NodeId(u.int_in_range(0..=1)?);
                hello.incarnation = Incarnation(u.int_in_range(0..=2)?);
                hello.frame_max = hello.frame_max.max(FRAME_MAX_LEAST);
                hello.nonce = u.int_in_range(0..=9)?;
            }
            Body::Welcome(welcome) => {
                welcome.version = u.int_in_range(0..=3)?;
                welcome.nonce = handshake.nonce().unwrap_or_default();
                welcome.incarnation = Incarnation(u.int_in_range(0..=2)?);
                welcome.frame_max = welcome.frame_max.max(FRAME_MAX_LEAST);
                welcome.features &= local.features;
            }
            _ => {}
        }
    }
    Ok(message)
}

fn step(handshake: &mut Handshake, message: &Message<'_>, local: &Identity, town: &Town) {
    let before = handshake.established().copied();
    let kind = Kind::of(&message.body);
    let step = handshake.receive(message, local, town, town.now);
    if let Some(before) = before {
        assert_eq!(handshake.established(), Some(&before), "what was agreed on stays");
    }
    match step {
        Step::Pass => {
            let agreed = before.expect("nothing passes before the handshake is through");
            assert_eq!(message.header.from, agreed.node, "nobody speaks for another one");
            assert_eq!(message.header.group, GroupId(0));
            let other = match handshake.side() {
                Side::Dialler => Side::Acceptor,
                Side::Acceptor => Side::Dialler,
            };
            assert!(
                Kinds::of(agreed.role, other).contains(kind),
                "{kind:?} passes from {agreed:?}"
            );
            assert!(!matches!(kind, Kind::Hello | Kind::Welcome | Kind::Goaway));
        }
        Step::Established { established, send } => {
            assert!(before.is_none(), "it is established once");
            assert_eq!(handshake.established(), Some(&established));
            assert_eq!(handshake.deadline(), None);
            assert_eq!(send.is_some(), handshake.side() == Side::Acceptor);
            if let Some(welcome) = &send {
                assert_eq!(Kind::of(&welcome.body), Kind::Welcome);
                assert!(encode(Format::Binary, welcome).is_some());
            }
            judge_established(&established, message, local, town);
        }
        Step::Reject(rejection) => {
            assert_eq!(
                handshake.established().copied(),
                before,
                "a rejection establishes nothing"
            );
            judge_rejection(&rejection, local);
        }
        Step::Gone(reason) => assert!(matches!(message.body, Body::Goaway(goaway) if goaway.reason == reason)),
    }
}

fn judge_established(established: &Established, message: &Message<'_>, local: &Identity, town: &Town) {
    assert_eq!(established.node, message.header.from);
    assert!((local.versions.min..=local.versions.max).contains(&established.version));
    assert!(established.frame_max >= FRAME_MAX_LEAST, "{established:?}");
    assert_eq!(
        established.features & !local.features,
        0,
        "a feature that this side has not"
    );
    if local.cluster != ClusterId(0) {
        assert_eq!(established.cluster, local.cluster);
    }
    if let Body::Hello(hello) = &message.body {
        assert_eq!(established.role, hello.role);
        assert!((hello.versions.min..=hello.versions.max).contains(&established.version));
    }
    let is_peer = local.node.is_some() && established.role == Role::Peer;
    if is_peer && established.node.is_some() {
        assert_ne!(established.node, local.node, "nobody is his own peer");
        match town.member(established.node) {
            Member::Removed => panic!("who was removed is let in"),
            Member::Known(incarnation) => assert_eq!(established.incarnation, incarnation),
            _ => {}
        }
    }
}

fn judge_rejection(rejection: &Rejection, local: &Identity) {
    assert!(rejection.detail.len() <= DETAIL_MAX);
    assert!(
        !rejection.detail.chars().any(char::is_control),
        "{:?}",
        rejection.detail
    );
    for &format in Format::ALL {
        let said = encode(format, &rejection.message(local));
        assert!(
            said.is_some_and(|frame| frame.len() <= 4096),
            "a goaway fits before hello"
        );
    }
}
