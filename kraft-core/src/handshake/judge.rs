//! The judgement of a hello and of its answer.

use super::rejection::{Quoted, Span};
use super::{Established, FRAME_MAX_LEAST, Identity, Member, Policy, Rejection, SILENT_AFTER};
use crate::canary::{self, Canary};
use crate::id::{ClusterId, Incarnation, Index, NodeId};
use crate::message::{Body, GoawayReason, Header, Hello, Message, Role, Welcome};
use crate::time::Instant;

pub(super) fn answer(hello: &Hello<'_>, established: &Established, local: &Identity) -> Message<'static> {
    Message {
        header: local.header(),
        body: Body::Welcome(Welcome {
            incarnation: local.incarnation,
            nonce: hello.nonce,
            version: established.version,
            features: established.features,
            frame_max: local.frame_max,
        }),
    }
}

/// The acceptor's judgement. From the most telling mistake to the least: whoever dials a wrong cluster hears that, not
/// that its id is unknown there.
pub(super) fn hello<P: Policy + ?Sized>(
    header: &Header,
    hello: &Hello<'_>,
    port: Option<Role>,
    local: &Identity,
    policy: &P,
    now: Instant,
) -> Result<Established, Rejection> {
    check_cluster(header, hello, local)?;
    let version = hello.versions.common(local.versions).ok_or_else(|| {
        Rejection::new(
            GoawayReason::NoCommonVersion,
            format_args!(
                "the hello offers versions {}, this node speaks {}",
                Span(hello.versions),
                Span(local.versions)
            ),
        )
    })?;
    if port.is_some_and(|port| port != hello.role) {
        return Err(Rejection::new(
            GoawayReason::NotAllowed,
            format_args!(
                "a hello of a {} on a port for {}s",
                role_name(hello.role),
                role_name(other_role(hello.role))
            ),
        ));
    }
    check_frame_max(hello.frame_max)?;
    if hello.role == Role::Peer {
        check_own_id(header.from, hello.nonce, local, policy)?;
    }
    if hello.to != local.node && (hello.role == Role::Peer || hello.to.is_some()) {
        return Err(Rejection::new(
            GoawayReason::WrongNode,
            format_args!("the hello is for node {}, this is node {}", hello.to, local.node),
        ));
    }
    let (is_new, replaces) = match hello.role {
        Role::Client => {
            check_client(header, hello)?;
            (false, false)
        }
        Role::Peer => (
            check_member(header.from, hello.incarnation, Some(hello.membership), local, policy)?,
            check_duplicate(header.from, local, policy, now)?,
        ),
    };
    Ok(Established {
        role: hello.role,
        node: header.from,
        cluster: local.cluster,
        incarnation: hello.incarnation,
        is_new,
        replaces,
        version,
        features: hello.features & local.features,
        frame_max: hello.frame_max,
    })
}

/// The dialler's judgement of the node that answered.
pub(super) fn welcome<P: Policy + ?Sized>(
    header: &Header,
    welcome: &Welcome,
    dialled: NodeId,
    nonce: u64,
    local: &Identity,
    policy: &P,
) -> Result<Established, Rejection> {
    let role = local.role();
    if header.cluster != local.cluster && (role == Role::Peer || local.cluster != ClusterId(0)) {
        return Err(Rejection::new(
            GoawayReason::WrongCluster,
            format_args!(
                "the welcome is of cluster {:#x}, this side is of {:#x} ({})",
                header.cluster.0,
                local.cluster.0,
                Quoted(&local.cluster_name)
            ),
        ));
    }
    if welcome.nonce != nonce {
        return Err(Rejection::new(
            GoawayReason::Violation,
            format_args!(
                "the welcome answers hello {:#x}, this side said {nonce:#x}",
                welcome.nonce
            ),
        ));
    }
    if !(local.versions.min..=local.versions.max).contains(&welcome.version) {
        return Err(Rejection::new(
            GoawayReason::NoCommonVersion,
            format_args!(
                "the welcome chose version {}, this side offered {}",
                welcome.version,
                Span(local.versions)
            ),
        ));
    }
    check_frame_max(welcome.frame_max)?;
    if !header.from.is_some() || (dialled.is_some() && header.from != dialled) {
        return Err(Rejection::new(
            GoawayReason::WrongNode,
            format_args!("node {dialled} was dialled, node {} answers", header.from),
        ));
    }
    let is_new = match role {
        Role::Client => false,
        Role::Peer => check_member(header.from, welcome.incarnation, None, local, policy)?,
    };
    Ok(Established {
        role,
        node: header.from,
        cluster: header.cluster,
        incarnation: welcome.incarnation,
        is_new,
        replaces: false,
        version: welcome.version,
        features: welcome.features & local.features,
        frame_max: welcome.frame_max,
    })
}

/// The id is a hash of the name, so both are compared. A client that names neither takes any cluster.
fn check_cluster(header: &Header, hello: &Hello<'_>, local: &Identity) -> Result<(), Rejection> {
    let any = hello.role == Role::Client && header.cluster == ClusterId(0) && hello.cluster_name.is_empty();
    if any || (header.cluster == local.cluster && hello.cluster_name == local.cluster_name) {
        return Ok(());
    }
    Err(Rejection::new(
        GoawayReason::WrongCluster,
        format_args!(
            "the hello names cluster {} ({:#x}), this node is of {} ({:#x})",
            Quoted(hello.cluster_name),
            header.cluster.0,
            Quoted(&local.cluster_name),
            local.cluster.0
        ),
    ))
}

fn check_frame_max(frame_max: u32) -> Result<(), Rejection> {
    if frame_max >= FRAME_MAX_LEAST {
        return Ok(());
    }
    Err(Rejection::new(
        GoawayReason::Violation,
        format_args!("a frame_max of {frame_max}; the least is {FRAME_MAX_LEAST}"),
    ))
}

fn check_own_id<P: Policy + ?Sized>(from: NodeId, nonce: u64, local: &Identity, policy: &P) -> Result<(), Rejection> {
    if from != local.node {
        return Ok(());
    }
    let detail = if policy.is_own_nonce(nonce) {
        format!("node {from} dialled itself: an address of another member leads here")
    } else {
        format!("the hello says node {from}, and so is this node: two nodes have one id")
    };
    Err(Rejection::new(GoawayReason::OwnId, detail))
}

fn check_client(header: &Header, hello: &Hello<'_>) -> Result<(), Rejection> {
    if !header.from.is_some() && hello.incarnation == Incarnation(0) {
        return Ok(());
    }
    Err(Rejection::new(
        GoawayReason::Violation,
        format_args!(
            "a client's hello that says node {}, incarnation {:#x}",
            header.from, hello.incarnation.0
        ),
    ))
}

/// Returns whether the incarnation is new to this node. `membership` is of a hello.
fn check_member<P: Policy + ?Sized>(
    from: NodeId,
    incarnation: Incarnation,
    membership: Option<Index>,
    local: &Identity,
    policy: &P,
) -> Result<bool, Rejection> {
    match policy.member(from) {
        Member::New => Ok(true),
        Member::Provisional => Ok(false),
        Member::Unknown if membership.is_some_and(|index| policy.admits(from, index)) => Ok(false),
        Member::Removed => Err(Rejection::new(
            GoawayReason::Removed,
            format_args!(
                "node {from} was removed from cluster {}, node {} knows; its id is not used again",
                Quoted(&local.cluster_name),
                local.node
            ),
        )),
        Member::Known(known) if known == incarnation || canary::is(Canary::WipedNodeAccepted) => Ok(false),
        Member::Known(known) => Err(Rejection::new(
            GoawayReason::WrongIncarnation,
            format_args!(
                "node {from} comes with incarnation {:#x}, node {} knows it by {:#x}: its data folder was wiped or is \
                 another one; start it with the folder that it had, or leave it down",
                incarnation.0, local.node, known.0
            ),
        )),
        Member::Unknown => Err(Rejection::new(
            GoawayReason::UnknownNode,
            format_args!(
                "node {from} is no member of cluster {} at node {}",
                Quoted(&local.cluster_name),
                local.node
            ),
        )),
    }
}

/// Returns whether an older connection has to go. Never two live streams of one peer: the older one stays while it is
/// heard, so that a copied data folder cannot push the original out; once silent, it is taken for half-open.
fn check_duplicate<P: Policy + ?Sized>(
    from: NodeId,
    local: &Identity,
    policy: &P,
    now: Instant,
) -> Result<bool, Rejection> {
    let Some(heard) = policy.heard(from) else {
        return Ok(false);
    };
    let silent = now.saturating_since(heard);
    if silent >= SILENT_AFTER {
        return Ok(true);
    }
    Err(Rejection::new(
        GoawayReason::DuplicateNode,
        format_args!(
            "node {from} has a live connection to node {}, heard {} ms ago",
            local.node,
            silent.as_millis()
        ),
    ))
}

const fn other_role(role: Role) -> Role {
    match role {
        Role::Peer => Role::Client,
        Role::Client => Role::Peer,
    }
}

const fn role_name(role: Role) -> &'static str {
    match role {
        Role::Peer => "peer",
        Role::Client => "client",
    }
}
