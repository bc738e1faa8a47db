//! Names that a certificate proves, and the nodes that they stand for.

use std::fmt::Write;

use super::rejection::Quoted;
use super::{Identity, Rejection};
use crate::id::NodeId;
use crate::message::GoawayReason;

/// The name by which a certificate speaks for a node: `kraft://CLUSTER/node/ID`, a URI among its subject alternative
/// names.
///
/// A URI, not a host name, since a cluster's name may hold what a host name may not (an underscore, capitals, 64
/// characters), and since no public authority attests such a URI to whoever has a domain. Bytes of the cluster's name
/// that are no unreserved characters (RFC 3986 §2.3) are percent-encoded.
#[must_use]
pub fn node_name(cluster: &str, node: NodeId) -> String {
    let mut name = String::from(SCHEME);
    for byte in cluster.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            name.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(name, "%{byte:02X}");
        }
    }
    name.push_str(&tail(node));
    name
}

const SCHEME: &str = "kraft://";

fn tail(node: NodeId) -> String {
    format!("/node/{node}")
}

/// Whether `node` is believed to be what it says. Nobody's id, a client's, needs no proof; nor does anybody's where
/// nothing is proved.
pub(super) fn check(proved: Option<&[String]>, node: NodeId, local: &Identity) -> Result<(), Rejection> {
    let Some(proved) = proved else { return Ok(()) };
    if !node.is_some() {
        return Ok(());
    }
    let expected = node_name(&local.cluster_name, node);
    // A client that was told no cluster takes a node of any that its authority vouches for.
    let is_any = local.cluster_name.is_empty();
    let is_of_node = |name: &String| match is_any {
        true => name
            .strip_prefix(SCHEME)
            .and_then(|rest| rest.strip_suffix(&tail(node)))
            .is_some_and(|cluster| !cluster.contains('/')),
        false => *name == expected,
    };
    if proved.iter().any(is_of_node) {
        return Ok(());
    }
    let names = match proved {
        [] => "none".to_owned(),
        [only] => Quoted(only).to_string(),
        [first, ..] => format!("{} and {} more", Quoted(first), proved.len() - 1),
    };
    Err(Rejection::new(
        GoawayReason::NotAllowed,
        format_args!("node {node} needs a certificate with the name {expected}; the one shown has {names}"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Incarnation;

    #[track_caller]
    fn check_as(local: &Identity, proved: &[&str], node: u64, expected: Result<(), &str>) {
        let proved: Vec<_> = proved.iter().map(|&name| name.to_owned()).collect();
        match (check(Some(&proved), NodeId(node), local), expected) {
            (Ok(()), Ok(())) => {}
            (Err(rejection), Err(part)) => assert!(rejection.detail.contains(part), "{rejection}"),
            (got, _) => panic!("{proved:?} for node {node}: {got:?}"),
        }
    }

    #[test]
    fn names_are_uris_whatever_the_cluster_is_called() {
        assert_eq!(node_name("blue", NodeId(7)), "kraft://blue/node/7");
        assert_eq!(
            node_name("a/node/2 ü", NodeId(1)),
            "kraft://a%2Fnode%2F2%20%C3%BC/node/1"
        );
    }

    #[test]
    fn an_id_is_believed_by_its_own_name_alone() {
        let node = Identity::node("blue", NodeId(1), Incarnation(1), 1 << 20);
        let of_two = ["host.example", "kraft://blue/node/2"];
        check_as(&node, &of_two, 2, Ok(()));
        check_as(&node, &of_two, 0, Ok(()));
        check_as(
            &node,
            &of_two,
            3,
            Err(
                "node 3 needs a certificate with the name kraft://blue/node/3; the one shown has \"host.example\" and 1",
            ),
        );
        check_as(&node, &["kraft://red/node/2"], 2, Err("has \"kraft://red/node/2\""));
        check_as(&node, &["kraft://blue/node/22"], 2, Err("has \"kraft"));
        check_as(&node, &[], 2, Err("has none"));
        assert_eq!(check(None, NodeId(2), &node), Ok(()));
    }

    #[test]
    fn a_client_that_knows_no_cluster_takes_a_node_of_any() {
        let client = Identity::client(None, 1 << 16);
        check_as(&client, &["kraft://blue/node/2"], 2, Ok(()));
        check_as(&client, &["kraft://blue/node/2"], 1, Err("the one shown has"));
        check_as(
            &client,
            &["http://blue/node/2", "/node/2", "kraft://a/b/node/2"],
            2,
            Err("the one shown has"),
        );
        let client = Identity::client(Some("blue"), 1 << 16);
        check_as(&client, &["kraft://red/node/2"], 2, Err("kraft://blue/node/2"));
    }
}
