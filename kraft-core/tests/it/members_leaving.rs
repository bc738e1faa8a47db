//! What is asked of members that a change under way takes out.

use kraft_core::id::NodeId;
use kraft_core::membership::{Seat, Step};
use kraft_core::message::{Change, Refusal};

use crate::cluster::Cluster;
use crate::members::{add, follower, promote, replace, settle};

#[test]
fn who_is_leaving_is_told_neither_to_stay_nor_to_stay_where_it_is() {
    let mut cluster = Cluster::new(3, 10);
    cluster.commit(1);
    let leader = cluster.elect();
    let new = cluster.join();
    cluster.change(leader, &add(new, false)).expect("it leads");
    cluster.commit(1);
    let gone = follower(&cluster, &[1, 2, 3], leader);
    let steps = [Step::Voter(NodeId(new)), Step::Remove(NodeId(gone))];
    cluster.reconfigure(leader, &steps).expect("it leads");
    let member = cluster
        .configuration(leader)
        .member(NodeId(gone))
        .expect("it votes so far");
    assert_eq!(member.seat, Seat::Leaving);
    let here = Change::Move {
        node: NodeId(gone),
        address: String::leak(member.address.clone()),
    };
    // Both are so now. When they were through, there would be no such member.
    assert_eq!(cluster.change(leader, &here), Err(Refusal::ChangeUnderWay));
    assert_eq!(cluster.change(leader, &promote(gone)), Err(Refusal::ChangeUnderWay));
    settle(&mut cluster, &(1..=4).filter(|id| *id != gone).collect::<Vec<_>>());
    assert_eq!(cluster.change(leader, &here), Err(Refusal::UnknownMember));
    // Nor is who took that one's place, and leaves in his turn.
    assert!(
        cluster.change(leader, &replace(gone, new)).is_ok(),
        "it is so, and stays so"
    );
    let next = cluster.join();
    cluster.change(leader, &add(next, false)).expect("it leads");
    cluster.commit(1);
    let steps = [Step::Voter(NodeId(next)), Step::Remove(NodeId(new))];
    cluster.reconfigure(leader, &steps).expect("it leads");
    assert_eq!(
        cluster.change(leader, &replace(gone, new)),
        Err(Refusal::ChangeUnderWay)
    );
}
