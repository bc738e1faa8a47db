//! Changes of the members, asked for and asked for again.

use super::*;
use crate::id::Index;
use crate::membership::Wish;
use crate::message::Change;

fn change(script: &mut Script) -> CallId {
    let wish = Wish::from(Change::Remove { node: NodeId(3) });
    script
        .client
        .call(Request::Change { wish }, script.now)
        .expect("few calls")
}

#[test]
fn a_change_is_asked_for_again_when_its_answer_is_lost() {
    let mut script = Script::new();
    let call = change(&mut script);
    let sent = script.one(&[0, 1, 2]);
    script.client.closed(sent.site, &"reset", script.now);
    let again = script.until_sent(&[0, 1, 2]).remove(0);
    assert_eq!(again.body, sent.body);
    // The new leader has it in hand, or has to find out whether it has.
    script.refuse(&again, Refusal::ChangeUnderWay, 2);
    let third = script.until_sent(&[0, 1, 2]).remove(0);
    const REPLY: [u8; 8] = Change::reply(Index(7));
    script.commit(&third, &REPLY);
    script.run(&[]);
    script.ended(call, committed(&REPLY));
    assert_eq!(Change::index(&REPLY), Some(Index(7)));
    assert_eq!(Change::index(b"7"), None);
}

#[test]
fn a_change_that_is_refused_at_once_is_not_tried_again() {
    let mut script = Script::new();
    let call = change(&mut script);
    let sent = script.one(&[0, 1, 2]);
    script.refuse(&sent, Refusal::ChangeUnderWay, 1);
    script.run(&[]);
    assert_eq!(script.refused(call).why, Refusal::ChangeUnderWay);
}

/// A refusal of the second attempt says nothing of the first.
#[test]
fn a_refusal_after_a_lost_answer_is_unknown() {
    let mut script = Script::new();
    let call = change(&mut script);
    let sent = script.one(&[0, 1, 2]);
    script.client.closed(sent.site, &"reset", script.now);
    let again = script.until_sent(&[0, 1, 2]).remove(0);
    script.refuse(&again, Refusal::UnknownMember, 2);
    script.run(&[]);
    script.ended(call, End::Outcome(Outcome::Unknown));
}
