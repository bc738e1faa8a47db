//! The client against scripted nodes: what goes in, what must come out, in which order.

mod changes;
mod fetch;
mod weaker;

use std::time::Duration;

use bytes::Bytes;

use super::output::SendingBody;
use super::*;
use crate::adapter::Endpoint;
use crate::id::{ClusterId, Incarnation, NodeId, RequestId};
use crate::message::{self, Body, Goaway, GoawayReason, Header, Message, Refusal, Welcome};
use crate::protocol::EncodeError;
use crate::time::Instant;

const CLUSTER: ClusterId = ClusterId::from_name("test");
const MS: Duration = Duration::from_millis(1);

/// A client of three nodes, and a hand that plays all of them.
struct Script {
    client: Client,
    now: Instant,
    done: Vec<(CallId, End)>,
}

/// What the client sent, that waits for an answer.
#[derive(Clone, Debug)]
struct Sent {
    site: usize,
    request: RequestId,
    body: SendingBody,
}

impl Sent {
    /// Session, sequence and first unanswered of a command.
    #[track_caller]
    fn ticket(&self) -> (u64, u64, u64) {
        match self.body {
            SendingBody::Command {
                session,
                sequence,
                first_unanswered,
                ..
            } => (session.0, sequence.0, first_unanswered.0),
            _ => panic!("{self:?} is no command"),
        }
    }
}

impl Script {
    fn new() -> Self {
        Self::with(Config::default())
    }

    fn with(config: Config) -> Self {
        let addresses = (1..=3).map(|n| Endpoint::Tcp(format!("10.0.0.{n}:7001").parse().unwrap()));
        let mut client = Client::new(config, addresses);
        client.aim = 0;
        Self {
            client,
            now: Instant::from_nanos(1_000_000_000),
            done: vec![],
        }
    }

    /// Drains: answers connects and hellos of the `up` sites (site 0 is node 1, and so on), refuses the others'
    /// connects, returns the requests that were sent.
    fn run(&mut self, up: &[usize]) -> Vec<Sent> {
        let mut sent = vec![];
        while let Some(output) = self.client.poll_output() {
            match output {
                Output::Connect { to } if up.contains(&to) => self.client.connected(to, None, self.now),
                Output::Connect { to } => self.client.closed(to, &"connection refused", self.now),
                Output::Disconnect { .. } => {}
                Output::Send { to, message, .. } => match &message.body {
                    SendingBody::Hello { nonce } => self.welcome(to, *nonce, to as u64 + 1, CLUSTER),
                    body => sent.push(Sent {
                        site: to,
                        request: message.request(),
                        body: body.clone(),
                    }),
                },
                Output::Done { call, end } => self.done.push((call, end)),
            }
        }
        sent
    }

    /// As `run`, where exactly one request must have been sent.
    #[track_caller]
    fn one(&mut self, up: &[usize]) -> Sent {
        let mut sent = self.run(up);
        assert_eq!(sent.len(), 1, "{sent:?}");
        sent.remove(0)
    }

    /// Lets time pass until something was sent or ended.
    #[track_caller]
    fn until_sent(&mut self, up: &[usize]) -> Vec<Sent> {
        for _ in 0..1000 {
            let sent = self.run(up);
            if !sent.is_empty() || !self.done.is_empty() {
                return sent;
            }
            let deadline = self.client.deadline().expect("a call waits for something");
            self.now = self.now.max(deadline);
            self.client.tick(self.now);
        }
        panic!("a thousand deadlines, and nothing was sent");
    }

    fn pass(&mut self, span: Duration) {
        self.now += span;
        self.client.tick(self.now);
    }

    fn welcome(&mut self, site: usize, nonce: u64, node: u64, cluster: ClusterId) {
        let welcome = Welcome {
            incarnation: Incarnation(1),
            nonce,
            version: 1,
            features: 0,
            frame_max: 1 << 20,
        };
        self.say(site, node, cluster, RequestId(0), Body::Welcome(welcome));
    }

    fn say(&mut self, site: usize, node: u64, cluster: ClusterId, request: RequestId, body: Body<'_>) {
        let header = Header {
            cluster,
            from: NodeId(node),
            request,
            ..Header::default()
        };
        self.client.received(site, &Message { header, body }, self.now);
    }

    fn answer(&mut self, sent: &Sent, outcome: message::Outcome<'_>) {
        self.say(
            sent.site,
            sent.site as u64 + 1,
            CLUSTER,
            sent.request,
            Body::Reply(outcome),
        );
    }

    fn commit(&mut self, sent: &Sent, reply: &[u8]) {
        self.answer(sent, message::Outcome::Committed(reply));
    }

    fn refuse(&mut self, sent: &Sent, why: Refusal, leader: u64) {
        let refused = message::Refused {
            why,
            leader: NodeId(leader),
            detail: "",
        };
        self.answer(sent, message::Outcome::Refused(refused));
    }

    fn put(&mut self, delivery: Delivery) -> CallId {
        let command = Bytes::from_static(b"put");
        self.client
            .call(Request::command(command, delivery), self.now)
            .expect("room")
    }

    fn transfer(&mut self, to: u64) -> CallId {
        let request = Request::Transfer { to: NodeId(to) };
        self.client.call(request, self.now).expect("few calls")
    }

    fn read(&mut self) -> CallId {
        let query = Bytes::from_static(b"get");
        self.client.call(Request::read(query), self.now).expect("room")
    }

    /// Opens the session with a command, answers both.
    fn open(&mut self, session: u64) {
        let call = self.put(Delivery::ExactlyOnce);
        let open = self.one(&[0, 1, 2]);
        assert_eq!(open.body, SendingBody::OpenSession);
        self.commit(&open, &session.to_le_bytes());
        let sent = self.one(&[0, 1, 2]);
        assert_eq!(sent.ticket(), (session, 1, 1));
        self.commit(&sent, b"");
        self.run(&[]);
        self.ended(call, committed(b""));
    }

    #[track_caller]
    fn ended(&mut self, call: CallId, end: End) {
        assert_eq!(std::mem::take(&mut self.done), [(call, end)]);
    }

    /// The refusal that the call ended in.
    #[track_caller]
    fn refused(&mut self, call: CallId) -> Refused {
        match std::mem::take(&mut self.done).pop() {
            Some((ended, End::Outcome(Outcome::Refused(refused)))) if ended == call => refused,
            other => panic!("{other:?} is no refusal of {call:?}"),
        }
    }
}

fn committed(reply: &'static [u8]) -> End {
    End::Outcome(Outcome::Committed(Bytes::from_static(reply)))
}

const UNKNOWN: End = End::Outcome(Outcome::Unknown);

#[test]
fn nothing_is_dialled_before_the_first_call() {
    let mut script = Script::new();
    assert!(script.run(&[0, 1, 2]).is_empty());
    assert_eq!(script.client.deadline(), None);
    let call = script.put(Delivery::AtMostOnce);
    let sent = script.one(&[0, 1, 2]);
    assert_eq!(sent.ticket(), (0, 0, 0));
    script.commit(&sent, b"reply");
    script.run(&[]);
    script.ended(call, committed(b"reply"));
    assert_eq!(script.client.deadline(), None, "no timer is left behind");
}

#[test]
fn a_hint_to_a_known_node_is_followed_at_once() {
    let mut script = Script::new();
    let call = script.put(Delivery::AtMostOnce);
    let sent = script.one(&[0, 1, 2]);
    script.refuse(&sent, Refusal::NotLeader, 3);
    // Node 3 is not known yet: its id is learned by hello, site by site.
    let mut sent = script.one(&[0, 1, 2]);
    if sent.site != 2 {
        script.refuse(&sent, Refusal::NotLeader, 3);
        sent = script.one(&[0, 1, 2]);
    }
    assert_eq!(sent.site, 2);
    script.commit(&sent, b"");
    script.run(&[]);
    script.ended(call, committed(b""));
    // The leader is remembered; and a known hint is one step.
    script.put(Delivery::AtMostOnce);
    let sent = script.one(&[]);
    assert_eq!(sent.site, 2);
    script.refuse(&sent, Refusal::NotLeader, 1);
    assert_eq!(script.one(&[]).site, 0);
}

#[test]
fn t48_a_hint_to_a_node_that_was_not_given_dials_nothing() {
    let mut script = Script::new();
    let call = script.put(Delivery::AtMostOnce);
    while script.done.is_empty() {
        for sent in script.until_sent(&[0, 1, 2]) {
            script.refuse(&sent, Refusal::NotLeader, 9);
        }
    }
    let refused = script.refused(call);
    assert_eq!(refused.why, Refusal::NotLeader);
    assert!(
        refused.detail.contains("10.0.0.2:7001 follows node 9"),
        "{}",
        refused.detail
    );
}

#[test]
fn a_search_without_a_leader_waits_between_rounds() {
    let mut script = Script::new();
    script.put(Delivery::AtMostOnce);
    let start = script.now;
    let mut count = 0;
    while script.done.is_empty() {
        for sent in script.until_sent(&[0, 1, 2]) {
            count += 1;
            script.refuse(&sent, Refusal::NotLeader, 0);
        }
    }
    assert_eq!(script.now, start + Duration::from_secs(5));
    // 5 s at 50 to 100 ms a round of three, and the shorter rounds at the start.
    assert!((100..400).contains(&count), "{count} requests");
}

#[test]
fn t47_connects_to_dead_nodes_back_off() {
    let mut script = Script::new();
    let call = script.put(Delivery::AtMostOnce);
    let mut ticks = 0;
    while script.done.is_empty() {
        script.run(&[]);
        if script.done.is_empty() {
            script.now = script.client.deadline().expect("a call waits");
            script.client.tick(script.now);
            ticks += 1;
        }
    }
    assert!(ticks < 100, "{ticks} wakes in 5 s");
    let refused = script.refused(call);
    assert_eq!(refused.why, Refusal::NotLeader);
    assert!(
        refused.detail.contains("10.0.0.1:7001 connection refused; 10.0.0.2"),
        "{}",
        refused.detail
    );
}

#[test]
fn s40_client_dup_on_retry() {
    let mut script = Script::new();
    script.open(7);
    let call = script.put(Delivery::ExactlyOnce);
    let first = script.one(&[]);
    assert_eq!(first.ticket(), (7, 2, 2));
    // The reply is lost with the connection; the next leader gets the same session and sequence.
    script.client.closed(first.site, &"connection reset", script.now);
    let second = script.until_sent(&[1, 2]).remove(0);
    assert_ne!(second.site, first.site);
    assert_eq!(second.ticket(), (7, 2, 2));
    script.commit(&second, b"same reply");
    script.run(&[]);
    script.ended(call, committed(b"same reply"));
}

#[test]
fn s41_indeterminate_is_reported() {
    let mut script = Script::new();
    // Without a session, a lost answer is unknown and nothing is sent again.
    let call = script.put(Delivery::AtMostOnce);
    let sent = script.one(&[0]);
    script.client.closed(sent.site, &"connection reset", script.now);
    assert!(script.run(&[0, 1, 2]).is_empty());
    script.ended(call, UNKNOWN);

    // A time-out is unknown, not failed.
    let call = script.put(Delivery::AtMostOnce);
    script.pass(Duration::from_millis(20));
    assert_eq!(script.run(&[0, 1, 2]).len(), 1);
    script.pass(Duration::from_secs(5));
    script.run(&[0, 1, 2]);
    script.ended(call, UNKNOWN);
}

#[test]
fn a_refusal_after_a_lost_answer_stays_unknown() {
    for why in [Refusal::SessionExpired, Refusal::NoSpace, Refusal::TooLarge] {
        let mut script = Script::new();
        script.open(7);
        let call = script.put(Delivery::ExactlyOnce);
        let first = script.one(&[]);
        script.client.closed(first.site, &"connection reset", script.now);
        let second = script.until_sent(&[1, 2]).remove(0);
        script.refuse(&second, why, 0);
        script.run(&[1, 2]);
        script.ended(call, UNKNOWN);
    }
}

#[test]
fn a_call_that_was_never_in_doubt_moves_to_a_new_session() {
    let mut script = Script::new();
    script.open(7);
    let call = script.put(Delivery::ExactlyOnce);
    let sent = script.one(&[]);
    script.refuse(&sent, Refusal::SessionExpired, 0);
    let open = script.one(&[]);
    assert_eq!(open.body, SendingBody::OpenSession);
    script.commit(&open, &9_u64.to_le_bytes());
    let sent = script.one(&[]);
    assert_eq!(sent.ticket(), (9, 1, 1));
    script.commit(&sent, b"");
    script.run(&[]);
    script.ended(call, committed(b""));
}

#[test]
fn one_session_is_opened_for_many_calls() {
    let mut script = Script::new();
    for _ in 0..3 {
        script.put(Delivery::ExactlyOnce);
    }
    let open = script.one(&[0]);
    script.commit(&open, &5_u64.to_le_bytes());
    let sent = script.run(&[]);
    let tickets: Vec<_> = sent.iter().map(Sent::ticket).collect();
    assert_eq!(tickets, [(5, 1, 1), (5, 2, 1), (5, 3, 1)]);
    script.commit(&sent[0], b"");
    script.run(&[]);
    script.put(Delivery::ExactlyOnce);
    assert_eq!(script.one(&[]).ticket(), (5, 4, 2));
}

#[test]
fn calls_fail_with_the_session_that_cannot_be_opened() {
    let mut script = Script::new();
    let call = script.put(Delivery::ExactlyOnce);
    let open = script.one(&[0]);
    script.refuse(&open, Refusal::NoSpace, 0);
    script.run(&[]);
    assert_eq!(script.refused(call).why, Refusal::NoSpace);
    // The next call tries again.
    script.put(Delivery::ExactlyOnce);
    assert_eq!(script.one(&[]).body, SendingBody::OpenSession);
}

#[test]
fn s39_follower_read_forward_lost() {
    let mut script = Script::new();
    let call = script.read();
    let first = script.one(&[0]);
    // The attempt has no answer: the node is asked again, and in the end there is no answer, never a guess.
    script.pass(Duration::from_secs(1));
    let again = script.until_sent(&[0]);
    assert_eq!(again.len(), 1);
    assert_ne!(again[0].request, first.request);
    script.pass(Duration::from_secs(5));
    script.run(&[0]);
    script.ended(call, UNKNOWN);
}

#[test]
fn a_late_answer_to_a_repeated_attempt_is_nobodys() {
    let mut script = Script::new();
    let call = script.read();
    let other = script.put(Delivery::AtMostOnce);
    let mut sent = script.run(&[0]);
    let (read, put) = (sent.remove(0), sent.remove(0));
    // The node is alive: it answers the other one. So the read alone is repeated, on the same connection.
    script.pass(MS);
    script.commit(&put, b"put");
    script.pass(Duration::from_secs(1));
    let again = script.one(&[]);
    assert_eq!(again.site, read.site);
    script.commit(&read, b"old");
    assert_eq!(script.done.len(), 1);
    script.commit(&again, b"new");
    script.run(&[]);
    assert_eq!(script.done, [(other, committed(b"put")), (call, committed(b"new"))]);
}

#[test]
fn a_silent_node_is_left_for_the_next_one() {
    let mut script = Script::new();
    script.open(7);
    let call = script.put(Delivery::ExactlyOnce);
    let first = script.one(&[]);
    script.pass(Duration::from_secs(1));
    let second = script.until_sent(&[1, 2]).remove(0);
    assert_ne!(first.site, second.site);
    script.commit(&second, b"");
    script.run(&[]);
    script.ended(call, committed(b""));
}

#[test]
fn an_overloaded_cluster_gets_time() {
    let mut script = Script::new();
    let call = script.put(Delivery::AtMostOnce);
    let sent = script.one(&[0]);
    script.refuse(&sent, Refusal::Overloaded, 0);
    assert!(script.run(&[0]).is_empty());
    let deadline = script.client.deadline().expect("it waits");
    assert!(deadline > script.now);
    let sent = script.until_sent(&[0]).remove(0);
    script.commit(&sent, b"");
    script.run(&[]);
    script.ended(call, committed(b""));
}

#[test]
fn an_overloaded_cluster_is_what_the_caller_hears_in_the_end() {
    let mut script = Script::new();
    let call = script.put(Delivery::AtMostOnce);
    while script.done.is_empty() {
        for sent in script.until_sent(&[0, 1, 2]) {
            script.refuse(&sent, Refusal::Overloaded, 1);
        }
    }
    assert_eq!(script.refused(call).why, Refusal::Overloaded);
}

#[test]
fn what_is_in_flight_is_bounded() {
    let mut script = Script::with(Config {
        in_flight_max: 2,
        calls_max: 5,
        ..Config::default()
    });
    for _ in 0..5 {
        script.put(Delivery::AtMostOnce);
    }
    let command = Bytes::new();
    let request = Request::command(command, Delivery::AtMostOnce);
    assert_eq!(script.client.call(request, script.now), Err(TooMany));
    let sent = script.run(&[0]);
    assert_eq!(sent.len(), 2);
    script.commit(&sent[0], b"");
    assert_eq!(script.run(&[0]).len(), 1);
}

#[test]
fn bytes_in_flight_are_bounded_but_a_big_request_alone_goes() {
    let mut script = Script::with(Config {
        in_flight_bytes_max: 4,
        ..Config::default()
    });
    for command in [&b"12345678"[..], b"12", b"34", b"5"] {
        let command = Bytes::copy_from_slice(command);
        let delivery = Delivery::AtMostOnce;
        script
            .client
            .call(Request::command(command, delivery), script.now)
            .expect("room");
    }
    let big = script.one(&[0]);
    script.commit(&big, b"");
    assert_eq!(script.run(&[0]).len(), 2);
}

#[test]
fn a_full_outbox_only_delays() {
    let mut script = Script::new();
    let call = script.put(Delivery::AtMostOnce);
    let sent = script.one(&[0]);
    let message = Sending {
        request: sent.request,
        body: sent.body.clone(),
    };
    script.client.unsent(sent.site, &message, EncodeError::Full, script.now);
    assert!(script.run(&[0]).is_empty());
    script.client.drained(sent.site, script.now);
    let sent = script.one(&[0]);
    script.commit(&sent, b"");
    script.run(&[]);
    script.ended(call, committed(b""));
}

#[test]
fn a_frame_above_the_nodes_limit_is_refused() {
    let mut script = Script::new();
    let call = script.put(Delivery::AtMostOnce);
    let sent = script.one(&[0]);
    let message = Sending {
        request: sent.request,
        body: sent.body,
    };
    script
        .client
        .unsent(sent.site, &message, EncodeError::TooLarge, script.now);
    script.run(&[]);
    assert_eq!(script.refused(call).why, Refusal::TooLarge);
}

#[test]
fn a_node_of_another_cluster_is_left() {
    let mut script = Script::new();
    script.read();
    script.one(&[0]);
    let site = 1;
    script.client.call(Request::Status { site }, script.now).expect("room");
    assert_eq!(script.client.poll_output(), Some(Output::Connect { to: 1 }));
    script.client.connected(1, None, script.now);
    let Some(Output::Send { message, .. }) = script.client.poll_output() else {
        panic!("a hello was expected");
    };
    let SendingBody::Hello { nonce } = message.body else {
        panic!("a hello was expected");
    };
    script.welcome(1, nonce, 2, ClusterId::from_name("other"));
    assert_eq!(script.client.poll_output(), Some(Output::Disconnect { from: 1 }));
    script.run(&[]);
    let Some((_, End::Report(Err(why)))) = script.done.pop() else {
        panic!("the status call must fail");
    };
    assert!(why.contains("another cluster"), "{why}");
}

#[test]
fn t44_what_a_node_says_is_escaped() {
    let mut script = Script::new();
    let call = script.put(Delivery::AtMostOnce);
    let sent = script.one(&[0]);
    let refused = message::Refused {
        why: Refusal::Invalid,
        leader: NodeId(1),
        detail: "no\x1b[2J\nline",
    };
    script.answer(&sent, message::Outcome::Refused(refused));
    script.run(&[]);
    assert_eq!(script.refused(call).detail, "no\\u{1b}[2J\\nline");
}

#[test]
fn a_goaway_is_the_trouble_that_is_reported() {
    let mut script = Script::new();
    script
        .client
        .call(Request::Status { site: 0 }, script.now)
        .expect("room");
    assert_eq!(script.run(&[0]).len(), 1);
    let goaway = Goaway {
        reason: GoawayReason::Stopping,
        detail: "going down",
    };
    script.say(0, 1, CLUSTER, RequestId(0), Body::Goaway(goaway));
    script.run(&[]);
    let Some((_, End::Report(Err(why)))) = script.done.pop() else {
        panic!("the status call must fail");
    };
    assert_eq!(why, "turned us away (Stopping): going down");
}

#[test]
fn an_unknown_outcome_is_asked_again_under_a_session_a_few_times() {
    let mut script = Script::new();
    script.open(7);
    let call = script.put(Delivery::ExactlyOnce);
    for _ in 0..3 {
        let sent = script.one(&[]);
        assert_eq!(sent.ticket(), (7, 2, 2));
        script.answer(&sent, message::Outcome::Unknown);
    }
    assert!(script.run(&[]).is_empty());
    script.ended(call, UNKNOWN);
}

#[test]
fn an_abandoned_command_frees_the_window() {
    let mut script = Script::with(Config {
        in_flight_max: 2,
        ..Config::default()
    });
    script.open(7);
    script.put(Delivery::ExactlyOnce);
    let stuck = script.one(&[]);
    assert_eq!(stuck.ticket(), (7, 2, 2));
    script.put(Delivery::ExactlyOnce);
    let sent = script.one(&[]);
    script.commit(&sent, b"");
    // Two replies may be kept, and the first is unanswered: the next one waits.
    script.put(Delivery::ExactlyOnce);
    assert!(script.run(&[]).is_empty());
    script.refuse(&stuck, Refusal::NoSpace, 0);
    let sent = script.one(&[]);
    assert_eq!(sent.ticket(), (7, 4, 4));
}

#[test]
fn a_dead_node_fails_a_status_call_at_once() {
    let mut script = Script::new();
    let call = script
        .client
        .call(Request::Status { site: 2 }, script.now)
        .expect("room");
    script.run(&[]);
    script.ended(call, End::Report(Err("connection refused".into())));
}

#[test]
fn a_node_that_never_welcomes_is_given_up() {
    let mut script = Script::new();
    script.read();
    assert_eq!(script.client.poll_output(), Some(Output::Connect { to: 0 }));
    assert_eq!(script.client.poll_output(), None);
    script.client.connected(0, None, script.now);
    assert!(matches!(script.client.poll_output(), Some(Output::Send { to: 0, .. })));
    assert_eq!(script.client.poll_output(), None);
    script.pass(Duration::from_secs(1));
    assert_eq!(script.client.poll_output(), Some(Output::Disconnect { from: 0 }));
    assert_eq!(script.one(&[1]).site, 1);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| {
        let mut script = Script::with(Config {
            seed,
            ..Config::default()
        });
        script.put(Delivery::ExactlyOnce);
        let mut trace = vec![];
        while script.done.is_empty() {
            script.run(&[]);
            if let Some(deadline) = script.client.deadline() {
                script.now = deadline;
                script.client.tick(deadline);
                trace.push(deadline);
            }
        }
        trace
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn a_transfer_goes_where_the_leader_is_and_waits_for_another_one() {
    let mut script = Script::new();
    let call = script.transfer(3);
    let first = script.one(&[0, 1, 2]);
    assert_eq!(
        (first.site, first.body.clone()),
        (0, SendingBody::Transfer { to: NodeId(3) })
    );
    script.refuse(&first, Refusal::NotLeader, 2);
    let second = script.one(&[0, 1, 2]);
    assert_eq!(second.site, 1);
    script.refuse(&second, Refusal::Transferring, 2);
    let third = script.until_sent(&[0, 1, 2]).remove(0);
    script.commit(&third, &[3, 0, 0, 0, 0, 0, 0, 0]);
    script.run(&[]);
    script.ended(call, committed(&[3, 0, 0, 0, 0, 0, 0, 0]));
}

#[test]
fn a_transfer_to_anybody_is_not_asked_for_twice() {
    let mut script = Script::new();
    let call = script.transfer(0);
    let sent = script.one(&[0, 1, 2]);
    script.client.closed(sent.site, &"reset", script.now);
    assert!(script.run(&[0, 1, 2]).is_empty());
    script.ended(call, End::Outcome(Outcome::Unknown));
    let call = script.transfer(0);
    let sent = script.one(&[0, 1, 2]);
    script.refuse(&sent, Refusal::Transferring, 2);
    script.run(&[]);
    assert_eq!(script.refused(call).why, Refusal::Transferring);

    // A name may be asked for again: in the end it leads. But a refusal then speaks of the last attempt alone.
    let call = script.transfer(2);
    let sent = script.one(&[0, 1, 2]);
    script.client.closed(sent.site, &"reset", script.now);
    let again = script.until_sent(&[0, 1, 2]).remove(0);
    assert_eq!(again.body, SendingBody::Transfer { to: NodeId(2) });
    script.refuse(&again, Refusal::TimedOut, 1);
    script.run(&[]);
    script.ended(call, End::Outcome(Outcome::Unknown));
}

#[test]
fn a_command_that_comes_while_leadership_is_handed_over_is_tried_again() {
    let mut script = Script::new();
    let call = script.put(Delivery::AtMostOnce);
    let sent = script.one(&[0, 1, 2]);
    script.refuse(&sent, Refusal::Transferring, 1);
    let again = script.until_sent(&[0, 1, 2]).remove(0);
    script.commit(&again, b"done");
    script.run(&[]);
    script.ended(call, committed(b"done"));
}
