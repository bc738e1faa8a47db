//! Clients that take more than their share.

use std::time::Duration;

use kraft::id::{Index, NodeId, Round};
use kraft::message::{Body, Heartbeat, Message, NodeState, Outcome, ReadIndexReply};

use super::lab::Lab;
use super::line;
use super::peers::welcomed;
use super::tape::long;

/// How long after a deadline the node may notice: connections are looked over once a second.
const SWEEP: Duration = Duration::from_secs(1);

#[test]
fn t36_a_client_that_never_reads_is_bounded_and_dropped() {
    let mut lab = Lab::cluster(3);
    let leader = lab.elect();
    let mut greedy = lab.client(leader);
    let mut other = lab.client(leader);
    // 64 MiB of answers to a client that may leave 1 MiB in its outbox, and 4 MiB behind that.
    let requests: Vec<_> = (0..1024).map(|at| line::ask(at, line::read(&long(64 << 10)))).collect();
    let began = lab.network.now();
    greedy.send(&requests.concat());
    lab.settle();
    assert_eq!(lab.node(leader).counters().slow_readers, 1);
    assert_eq!(lab.told(leader, "SlowReader").len(), 1);
    assert_eq!(lab.network.now(), began, "at the bound, not at a deadline");
    greedy.take_in();
    assert!(greedy.raw() < 8 << 20);

    other.send(&line::ask(1, line::command(b"unharmed")));
    lab.settle();
    assert!(other.heard().concat().contains("Committed"));
    assert_eq!(lab.state(leader), NodeState::Leader);
}

#[test]
fn t36_a_client_that_leaves_its_answers_is_dropped_at_its_deadline() {
    let mut lab = Lab::cluster(1);
    lab.elect();
    let mut slow = lab.client(1);
    // More than the line and the outbox take, less than what may lie behind them.
    let requests: Vec<_> = (0..32).map(|at| line::ask(at, line::read(&long(64 << 10)))).collect();
    slow.send(&requests.concat());
    lab.run_for(Duration::from_secs(10) - SWEEP);
    assert_eq!(lab.node(1).counters().slow_readers, 0);
    // Not read from meanwhile: what it asks for now fills the line, and no memory of the node.
    let more = requests.concat().repeat(1000);
    let taken = slow.socket.send(&more);
    lab.settle();
    assert!(taken < more.len() && slow.socket.send(&more) == 0);
    lab.run_for(2 * SWEEP);
    assert_eq!(lab.node(1).counters().slow_readers, 1);
}

#[test]
fn t36_a_client_that_reads_slowly_is_not_dropped() {
    let mut lab = Lab::cluster(1);
    lab.elect();
    let mut slow = lab.client(1);
    let requests: Vec<_> = (0..64).map(|at| line::ask(at, line::read(&long(64 << 10)))).collect();
    // What it sent ends within a frame, whose rest is not read as long as the node does not read on.
    let cut = line::ask(64, line::read(b"?"));
    slow.send(&[requests.concat(), cut[..20].to_vec()].concat());
    let mut answers = 0;
    // 256 KiB every two seconds.
    for _ in 0..16 {
        lab.run_for(Duration::from_secs(2));
        answers += slow
            .hear(|message| assert!(matches!(message.body, Body::Reply(_))))
            .len();
    }
    lab.settle();
    slow.send(&cut[20..]);
    lab.settle();
    answers += slow.heard().len();
    assert_eq!(answers, 65);
    assert_eq!(lab.node(1).counters().slow_readers, 0);
}

#[test]
fn t37_a_pipelining_client_starves_nobody() {
    let mut lab = Lab::cluster(3);
    let leader = lab.elect();
    let term = lab.node(leader).status().hard.term;
    let mut floods: Vec<_> = (0..4).map(|_| (lab.client(leader), 0)).collect();
    let mut modest = lab.client(leader);
    let flood = line::ask(1, line::command(b"again")).repeat(5000);
    for round in 0..20 {
        modest.send(&line::ask(round, line::command(b"once")));
        let mut turns = 0;
        let mut answered = false;
        while !answered {
            for (line, sent) in &mut floods {
                // Where the line was full, a frame may be cut: its rest follows.
                *sent = (*sent + line.socket.send(&flood[*sent..])) % flood.len();
                line.take_in();
            }
            lab.run_one();
            turns += 1;
            assert!(
                turns < 100,
                "round {round}: not answered in 100 turns of the three nodes"
            );
            answered = modest.heard().concat().contains("Committed");
        }
    }
    for (line, _) in &mut floods {
        assert!(line.heard().len() > 100, "nor are they starved");
    }
    lab.run_for(Duration::from_secs(1));
    assert_eq!(lab.node(leader).status().hard.term, term, "heartbeats were sent");
}

#[test]
fn t37_what_waits_of_all_clients_is_bounded_and_the_rest_refused() {
    let mut lab = Lab::new(1, 1, |config| config.requests_max = 8);
    lab.elect();
    lab.site(1).is_stalled = true;
    let mut clients: Vec<_> = (0..4).map(|_| lab.client(1)).collect();
    for client in &mut clients {
        for request in 0..3 {
            client.send(&line::ask(request, line::command(b"x")));
        }
    }
    lab.settle();
    let mut overloaded = 0;
    for client in &mut clients {
        overloaded += client
            .heard()
            .iter()
            .filter(|heard| heard.contains("Overloaded"))
            .count();
    }
    assert_eq!(overloaded, 4);
    lab.site(1).unstall();
    lab.settle();
    let committed = |client: &mut line::Line| {
        let is = |body: &Body<'_>| matches!(body, Body::Reply(Outcome::Committed(_)));
        client
            .hear(|message| is(&message.body))
            .into_iter()
            .filter(|is| *is)
            .count()
    };
    assert_eq!(clients.iter_mut().map(committed).sum::<usize>(), 8);
}

#[test]
fn a_client_s_answers_are_to_its_own_requests_also_when_its_place_is_used_again() {
    let mut lab = Lab::cluster(1);
    lab.elect();
    lab.site(1).is_stalled = true;
    let mut gone = lab.client(1);
    gone.send(&line::ask(7, line::command(b"of the one that goes")));
    lab.settle();
    drop(gone);
    lab.settle();
    let mut next = lab.client(1);
    lab.site(1).unstall();
    lab.settle();
    assert_eq!(next.heard(), [""; 0]);
}

#[test]
fn t37_the_bytes_of_queries_that_wait_are_bounded() {
    // It follows a leader who confirms no read.
    let mut lab = Lab::new(1, 3, |config| config.queries_bytes_max = 1 << 20);
    let mut leader = lab.peer(3, 1);
    let heartbeat = Body::Heartbeat(Heartbeat {
        commit: Index(0),
        round: Round(1),
    });
    leader.say(&Message {
        header: line::header(NodeId(3), 6, 0),
        body: heartbeat,
    });
    lab.settle();
    let mut client = lab.client(1);
    for request in 0..20 {
        client.send(&line::ask(request, line::read(&[7; 100_000])));
        lab.settle();
    }
    let overloaded = |line: &String| line.contains("Overloaded");
    assert_eq!(client.heard().iter().filter(|line| overloaded(line)).count(), 10);
    // Those that wait end too, and make room.
    lab.run_for(Duration::from_millis(500));
    assert_eq!(client.heard().len(), 10);
    client.send(&line::ask(20, line::read(&[7; 100_000])));
    lab.settle();
    assert!(!client.heard().iter().any(overloaded));
}

#[test]
fn a_read_whose_index_does_not_come_ends_too() {
    let mut lab = Lab::new(1, 3, |_| ());
    let mut leader = lab.peer(3, 1);
    let mut say = |lab: &mut Lab, body| {
        let header = line::header(NodeId(3), 6, 0);
        leader.say(&Message { header, body });
        lab.settle();
    };
    let heartbeat = || {
        Body::Heartbeat(Heartbeat {
            commit: Index(0),
            round: Round(1),
        })
    };
    say(&mut lab, heartbeat());
    let mut asked = std::iter::from_fn(|| welcomed(&mut lab)).collect::<Vec<_>>();
    let read = lab.handle(1).read(b"?"[..].into());
    lab.settle();
    let requests = asked
        .iter_mut()
        .flat_map(|(_, line)| line.hear(|message| message.header.request));
    let request = requests.last().expect("it asks its leader");
    // From an index on that this node does not get.
    let (_, line) = asked.iter_mut().find(|(id, _)| *id == 3).expect("it dialled all");
    line.say(&Message {
        header: line::header(NodeId(3), 6, request.0),
        body: Body::ReadIndexReply(ReadIndexReply::At(Index(9))),
    });
    for _ in 0..100 {
        lab.run_for(Duration::from_millis(100));
        say(&mut lab, heartbeat());
    }
    let outcome = read.wait(Duration::ZERO).expect("it ended");
    assert!(matches!(outcome, kraft::node::Outcome::Refused { .. }), "{outcome:?}");
}
