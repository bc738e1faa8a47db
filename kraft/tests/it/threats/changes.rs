//! Changes of the members asked of one node whose peers a test plays, so that nothing comes before the test says so.

use std::collections::BTreeMap;
use std::time::Duration;

use kraft::id::{Incarnation, Index, NodeId, Round, Term};
use kraft::membership::{Changer, Configuration, Plan, Seat, Step};
use kraft::message::{
    Append, AppendReply, AppendResult, Body, Change, Entries, EntryKind, EntryRef, Message, NodeState, VoteReply,
};
use kraft::node::{Outcome, Ticket};

use super::lab::Lab;
use super::line::{self, Line};
use super::peers::welcomed;

/// Node 1 of three; the test plays nodes 2 and 3.
struct Played {
    lab: Lab,
    /// The connections that node 1 has dialled, by which it asks and is answered.
    lines: BTreeMap<u64, Line>,
    /// By which node 2 says what a leader says.
    leader: Line,
}

impl Played {
    fn new() -> Self {
        let mut lab = Lab::new(1, 3, |_| ());
        let lines = [(); 2].map(|()| welcomed(&mut lab).expect("it dials both"));
        let leader = lab.peer(2, 1);
        Self {
            lab,
            lines: lines.into(),
            leader,
        }
    }

    /// Node 2 leads, and sends these entries, which are committed up to `commit`.
    fn append(&mut self, term: Term, prev: (Index, Term), commit: Index, entries: Vec<EntryRef<'_>>) {
        let append = Append {
            prev_index: prev.0,
            prev_term: prev.1,
            commit,
            round: Round(1),
            entries: Entries::Lent(entries),
        };
        self.leader.say(&Message {
            header: line::header(NodeId(2), term.0, 0),
            body: Body::Append(append),
        });
        self.lab.settle();
    }

    /// Node 2 has the log up to here.
    fn matched(&mut self, term: Term, index: u64) {
        let reply = AppendReply {
            round: Round(0),
            result: AppendResult::Matched(Index(index)),
        };
        let line = self.lines.get_mut(&2).expect("it was dialled");
        line.say(&Message {
            header: line::header(NodeId(2), term.0, 0),
            body: Body::AppendReply(reply),
        });
        self.lab.settle();
    }

    /// Both others vote for node 1, and say nothing else. Returns the term in which it leads.
    #[track_caller]
    fn elect(&mut self) -> Term {
        let Self { lab, lines, .. } = self;
        lab.run_until(|lab| {
            for (node, line) in &mut *lines {
                let asked = line.hear(|message| match &message.body {
                    Body::Vote(vote) => Some(*vote),
                    _ => None,
                });
                for vote in asked.into_iter().flatten() {
                    let reply = VoteReply {
                        pre: vote.pre,
                        granted: true,
                        term: vote.term,
                    };
                    let header = line::header(NodeId(*node), vote.term.0, 0);
                    let body = Body::VoteReply(reply);
                    line.say(&Message { header, body });
                }
            }
            lab.state(1) == NodeState::Leader
        });
        lab.node(1).status().hard.term
    }

    /// Node 1 is asked for it.
    fn ask(&mut self, change: Change<'_>) -> Ticket<Outcome> {
        let ticket = self.lab.handle(1).change(change);
        self.lab.settle();
        ticket
    }

    /// Where the configuration stands that is in force, and who is a member, in which seat.
    fn members(&self) -> (Index, Vec<(u64, Seat)>) {
        let (index, configuration) = self.lab.node(1).configuration();
        let members = configuration.members().iter();
        (index, members.map(|member| (member.node.0, member.seat)).collect())
    }
}

/// The bytes of what comes of a configuration, and of node 4.
fn changed(of: &Configuration, change: impl FnOnce(&Changer<'_>) -> Configuration) -> Vec<u8> {
    let changer = Changer {
        configuration: of,
        progress: &BTreeMap::new(),
        last: Index(0),
    };
    let with_newcomer = change(&changer).described(NodeId(4), "10.0.0.4:7000", Incarnation(4));
    with_newcomer.encode().to_vec()
}

fn entry(term: Term, kind: EntryKind, payload: &[u8]) -> EntryRef<'_> {
    EntryRef {
        term,
        kind,
        crc: crc32c::crc32c(payload),
        payload,
    }
}

/// What a change came to, if it ended; it must be done.
#[track_caller]
fn done(ticket: Ticket<Outcome>) -> Option<Index> {
    match ticket.wait(Duration::ZERO)? {
        Outcome::Committed(reply) => Change::index(&reply),
        outcome => panic!("{outcome:?}"),
    }
}

#[test]
fn who_leaves_already_is_removed_also_by_a_leader_that_heard_nobody_so_far() {
    let mut played = Played::new();
    // Node 4 is to take the place of node 3, says who led before.
    let steps = [Step::Voter(NodeId(4)), Step::Remove(NodeId(3))];
    let founding = played.lab.node(1).configuration().1.clone();
    let joint = changed(&founding, |of| of.enter_joint(&steps).expect("it may be").0);
    let noop = entry(Term(1), EntryKind::Noop, b"");
    let joint = entry(Term(1), EntryKind::Membership, &joint);
    played.append(Term(1), (Index(0), Term(0)), Index(0), vec![noop, joint]);
    let seats = vec![
        (1, Seat::Voter),
        (2, Seat::Voter),
        (3, Seat::Leaving),
        (4, Seat::Joining),
    ];
    assert_eq!(played.members(), (Index(2), seats));
    let term = played.elect();
    let ticket = played.ask(Change::Remove { node: NodeId(3) });
    assert_eq!(played.members().0, Index(2), "it has not gone on so far");
    // With node 2 it is a majority, of both.
    played.matched(term, 3);
    assert_eq!(played.members().0, Index(4));
    assert_eq!(played.lab.node(1).status().commit, Index(3));
    played.matched(term, 4);
    assert_eq!(done(ticket), Some(Index(4)));
}

#[test]
fn a_change_is_answered_by_where_it_is_so_though_others_have_changed_more_since() {
    let mut played = Played::new();
    let term = played.elect();
    played.matched(term, 1);
    let ticket = played.ask(Change::Remove { node: NodeId(3) });
    assert_eq!(played.members(), (Index(2), vec![(1, Seat::Voter), (2, Seat::Voter)]));
    assert_eq!(played.lab.node(1).status().commit, Index(1));
    // Node 2 has it, leads, and goes on from there: node 1 hears of all that at once.
    let steps = [Step::Learner(NodeId(4), Plan::Stay)];
    let removed = played.lab.node(1).configuration().1.clone();
    let next = changed(&removed, |of| of.simple(&steps).expect("it may be").0);
    let later = Term(term.0 + 1);
    let next = entry(later, EntryKind::Membership, &next);
    played.append(later, (Index(2), term), Index(3), vec![next]);
    assert_eq!(played.lab.state(1), NodeState::Follower);
    assert_eq!(played.members().0, Index(3));
    assert_eq!(played.lab.node(1).status().commit, Index(3));
    assert_eq!(done(ticket), Some(Index(2)));
}
