//! Laws about how connections end.

use std::time::Duration;

use kraft_core::adapter::{Adapter, CloseReason, Event};
use kraft_core::id::ConnId;
use kraft_core::link::{CloseMode, Link};

use super::environment::{Environment, Remote};
use super::party::{Pair, Party, Served, assert_same, is_over, loopback, pattern, read_some, until, write_some};
use crate::Config;

/// Turns in which nothing more may be delivered.
const AFTERWARDS: usize = 5;

/// A way to end a connection.
type End<'a, A> = &'a dyn Fn(&mut Party<A>, ConnId);

/// `Closed` comes exactly once and last, however the connection ends.
pub fn a03_closed_comes_once_and_last<E: Environment>(environment: &E) {
    let close = |mode| move |party: &mut Party<E::Adapter>, conn: ConnId| party.link(conn).close(mode);
    let ends: [(&str, End<'_, E::Adapter>); 3] = [
        ("Flush", &close(CloseMode::Flush)),
        ("Now", &close(CloseMode::Now)),
        ("Flush, then Now", &|party, conn| {
            party.link(conn).close(CloseMode::Flush);
            party.turn(Duration::ZERO);
            if let Some(link) = party.adapter.link(conn) {
                link.close(CloseMode::Now);
            }
        }),
    ];
    for (how, end) in ends {
        let mut pair = Pair::open(environment, &Config::default());
        let (at_a, at_b) = (pair.at_a, pair.at_b);
        pair.b.put(at_b, b"unread by who closes");
        end(&mut pair.a, at_a);
        pair.until(how, |a, b| {
            a.track(at_a).closed.is_some() || b.track(at_b).ended || b.track(at_b).closed.is_some()
        });
        if let Some(link) = pair.b.adapter.link(at_b) {
            link.close(CloseMode::Flush);
        }
        pair.until(how, |a, b| {
            a.track(at_a).closed.is_some() && b.track(at_b).closed.is_some()
        });
        assert_eq!(pair.a.track(at_a).closed, Some(CloseReason::Requested), "{how}");
        quiet(&mut pair.a);
        quiet(&mut pair.b);
        assert!(pair.a.adapter.link(at_a).is_none());
        assert_eq!(pair.a.adapter.stats().closed, 1);
        assert_eq!(pair.a.adapter.stats().active, 0);
    }
}

/// Nothing is delivered for an id after `Closed`, and no `Received` after `close(Now)`.
pub fn a04_nothing_follows_closed<E: Environment>(environment: &E) {
    let config = Config {
        read_buffer: 512,
        ..Config::default()
    };
    let mut served = Served::open(environment, &config, 2);
    let [in_turn, between] = [served.party.begun()[0], served.party.begun()[1]];
    for remote in &mut served.remotes {
        write_some(remote, &pattern(0, 20_000));
    }
    // Closed between polls, with bytes waiting.
    served.party.link(between).close(CloseMode::Now);
    // Closed through the lent link, with more behind.
    let mut received = 0;
    let mut rounds = 0;
    while served.party.closed_count() < 2 {
        served.party.turn_with(Duration::from_millis(1), |_, event| {
            if let Event::Received { conn, link, .. } = event {
                assert_eq!(conn, in_turn, "A4: received after close(Now)");
                link.close(CloseMode::Now);
                received += 1;
            }
        });
        rounds += 1;
        assert!(rounds < 10_000, "the connections were not closed");
    }
    assert_eq!(received, 1, "A4: received after close(Now)");
    for remote in &mut served.remotes {
        let _ = std::io::Write::write(remote, &[1; 100]);
    }
    quiet(&mut served.party);
}

/// Data sent before the peer's FIN is delivered before `Ended`, also when both came together.
pub fn a06_data_before_fin<E: Environment>(environment: &E) {
    for count in [1, 100, 65_536, 200_000] {
        let sent = pattern(count, count);
        let mut served = Served::open(environment, &Config::default(), 1);
        let conn = served.party.begun()[0];
        let remote = &mut served.remotes[0];
        // Both are there before the adapter has its turn, but for what exceeds the system's buffers.
        let mut written = write_some(remote, &sent);
        served.party.until("all bytes", |party| {
            written += write_some(remote, &sent[written..]);
            if written == sent.len() {
                remote.end().expect("the remote lives");
                return true;
            }
            party.track(conn).ended
        });
        served.party.until("the end", |party| party.track(conn).ended);
        assert_same(&served.party.track(conn).received, &sent);
        // The end does not close.
        assert_eq!(served.party.track(conn).closed, None);
        served.party.put(conn, b"still here");
        let mut reply = Vec::new();
        served.party.until("a reply", |_| {
            read_some(remote, &mut reply);
            reply == b"still here"
        });
        // The same for an end that came with the connection itself.
        let mut remote = environment.dial(&served.at).expect("it listens");
        write_some(&mut remote, &sent[..count.min(1000)]);
        remote.end().expect("the remote lives");
        served.party.until("the end", |party| {
            party.begun().get(1).is_some_and(|&conn| party.track(conn).ended)
        });
        let conn = served.party.begun()[1];
        assert_same(&served.party.track(conn).received, &sent[..count.min(1000)]);
    }
}

/// `close(Flush)` delivers all that was accepted, also with unread input, bounded by `linger`.
pub fn a09_close_flush_delivers_all<E: Environment>(environment: &E) {
    let sent = pattern(0, 400_100);
    let mut pair = Pair::open(environment, &Config::default());
    let (at_a, at_b) = (pair.at_a, pair.at_b);
    // A plain close with unread input resets the connection, and cuts what was accepted.
    pair.a.link(at_a).pause();
    pair.a.turn(Duration::ZERO);
    pair.b.put(at_b, &pattern(0, 300_000));
    pair.b.turn(Duration::ZERO);
    pair.a.put(at_a, &sent);
    pair.a.link(at_a).close(CloseMode::Flush);
    pair.until("all that was accepted", |_, b| b.track(at_b).ended);
    assert_same(&pair.b.track(at_b).received, &sent);
    assert_eq!(pair.a.track(at_a).received, b"", "paused, then closing");
    pair.b.link(at_b).close(CloseMode::Flush);
    pair.until("both closed", |a, b| {
        a.track(at_a).closed.is_some() && b.track(at_b).closed.is_some()
    });
    assert_eq!(pair.a.track(at_a).closed, Some(CloseReason::Requested));
    assert_eq!(pair.b.track(at_b).closed, Some(CloseReason::Requested));

    // Against a peer that never reads, and against one that reads and never ends.
    let config = Config {
        linger: Duration::from_millis(200),
        write_queue_max: 16 * 1024 * 1024,
        ..Config::default()
    };
    for count in [16 * 1024 * 1024, 10] {
        let mut served = Served::open(environment, &config, 1);
        let conn = served.party.begun()[0];
        served.party.put(conn, &vec![7; count]);
        served.party.link(conn).close(CloseMode::Flush);
        // The clock of the turn before the one that sees the close.
        let start = served.party.adapter.now();
        served
            .party
            .until("the end of linger", |party| party.track(conn).closed.is_some());
        let lasted = served.party.adapter.now() - start;
        assert_eq!(served.party.track(conn).closed, Some(CloseReason::TimedOut));
        assert!(lasted >= config.linger, "A9: gave up after {lasted:?}");
    }
}

/// A reset peer is `Closed`, not a signal or a panic.
pub fn a28_a_reset_peer_is_closed<E: Environment>(environment: &E) {
    if !environment.is_virtual() {
        // The runtime of Rust ignores SIGPIPE; a program that embeds the adapter need not.
        // SAFETY: the default action is no function of ours, and this process runs this law alone.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    }
    // While it is idle.
    let mut served = Served::open(environment, &Config::default(), 2);
    let [idle, writing] = [served.party.begun()[0], served.party.begun()[1]];
    let (last, first) = (served.remotes.pop(), served.remotes.pop());
    first.expect("there were two").reset().expect("the remote lives");
    served
        .party
        .until("the reset of an idle peer", |party| party.track(idle).closed.is_some());
    assert_eq!(served.party.track(idle).closed, Some(CloseReason::Reset));
    // While it is written to, and the adapter does not know so far.
    served.party.put(writing, &[1; 100_000]);
    served.party.adapter.flush().expect("the adapter runs");
    last.expect("there were two").reset().expect("the remote lives");
    served.party.put(writing, &[2; 100_000]);
    served.party.adapter.flush().expect("the adapter runs");
    served.party.until("the reset of a peer that is written to", |party| {
        if let Some(link) = party.adapter.link(writing) {
            let _ = link.outbox().put(&[3; 100]);
        }
        party.track(writing).closed.is_some()
    });
    assert_eq!(served.party.track(writing).closed, Some(CloseReason::Reset));
    assert!(!served.party.track(writing).ended, "a reset is no end");
    // The adapter goes on.
    let mut remote = environment.dial(&served.at).expect("it still listens");
    write_some(&mut remote, b"x");
    served.party.until("another connection", |party| {
        party
            .begun()
            .get(2)
            .is_some_and(|&conn| party.track(conn).received == b"x")
    });
}

/// Closing through any lent link, or any connection between polls, is safe.
pub fn a32_closing_through_any_link_is_safe<E: Environment>(environment: &E) {
    for mode in [CloseMode::Now, CloseMode::Flush] {
        for kind in ["Accepted", "Connected", "Received", "Written", "Drained", "Ended"] {
            close_at(environment, kind, mode);
        }
    }
    // Many at once between polls, all with something to tell.
    let mut served = Served::open(environment, &Config::default(), 40);
    let conns = served.party.begun().to_vec();
    for remote in &mut served.remotes {
        write_some(remote, &pattern(0, 1000));
        remote.end().expect("the remote lives");
    }
    for &conn in &conns {
        let link = served.party.link(conn);
        link.outbox().put(&[1; 5000]).expect("it fits");
        link.outbox().mark();
        link.close(CloseMode::Now);
    }
    served
        .party
        .until("all closed", |party| party.closed_count() == conns.len());
    for &conn in &conns {
        assert_eq!(served.party.track(conn).deliveries, 0, "A4: received after close(Now)");
        assert_eq!(served.party.track(conn).closed, Some(CloseReason::Requested));
    }
    quiet(&mut served.party);
}

fn close_at<E: Environment>(environment: &E, kind: &str, mode: CloseMode) {
    let config = Config {
        write_queue_max: 1000,
        linger: Duration::from_millis(200),
        ..Config::default()
    };
    let mut a = Party::open(environment, &config);
    let mut b = Party::open(environment, &config);
    let (_, at) = b.listen(&loopback());
    let conn = a.connect(&at);
    let outbox = a.link(conn).outbox();
    outbox.put(&[1; 1000]).expect("it fits");
    let _ = outbox.put(b"refused, so that Drained comes");
    outbox.mark();
    let mut closes = 0;
    let mut close = |event: Event<'_>| {
        let (is_it, link): (bool, &mut Link) = match event {
            Event::Accepted { link, .. } => {
                link.outbox().put(b"from the accepted").expect("it fits");
                (kind == "Accepted", link)
            }
            Event::Connected { link, .. } => (kind == "Connected", link),
            Event::Received { link, .. } => (kind == "Received", link),
            Event::Written { link, .. } => (kind == "Written", link),
            Event::Drained { link, .. } => (kind == "Drained", link),
            Event::Ended { link, .. } => {
                if kind != "Ended" {
                    link.close(CloseMode::Flush);
                }
                (kind == "Ended", link)
            }
            _ => return,
        };
        if is_it {
            link.close(mode);
            closes += 1;
        }
    };
    let mut rounds = 0;
    let is_over =
        |party: &Party<E::Adapter>| party.closed_count() > 0 && party.closed_count() == party.begun().len().max(1);
    // `Ended` needs an end: of whoever got something first.
    while !(is_over(&a) && is_over(&b)) {
        b.turn_with(Duration::ZERO, |_, event| close(event));
        a.turn_with(Duration::from_millis(1), |_, event| close(event));
        if rounds == 50
            && let Some(link) = a.adapter.link(conn)
        {
            link.close(CloseMode::Flush);
        }
        rounds += 1;
        assert!(rounds < 10_000, "a close at {kind} was lost");
        if b.begun().is_empty() && a.closed_count() == 1 && rounds > 200 {
            break;
        }
    }
    assert!(closes > 0, "{kind} did not come");
    quiet(&mut a);
}

/// After `Ended` what is put is sent; a client that half-closes gets its replies.
pub fn a34_replies_after_ended_are_sent<E: Environment>(environment: &E) {
    let mut served = Served::open(environment, &Config::default(), 1);
    let conn = served.party.begun()[0];
    let remote = &mut served.remotes[0];
    write_some(remote, b"requests");
    remote.end().expect("the remote lives");
    served
        .party
        .until("the requests and their end", |party| party.track(conn).ended);
    assert_eq!(served.party.track(conn).received, b"requests");
    let mut sent = Vec::new();
    let mut replies = Vec::new();
    for _ in 0..10 {
        let reply = pattern(sent.len(), 50_000);
        served.party.put(conn, &reply);
        sent.extend(reply);
        let count = sent.len();
        served.party.until("a reply", |_| {
            assert!(
                !read_some(remote, &mut replies),
                "A34: closed before the replies were sent"
            );
            replies.len() == count
        });
    }
    assert_same(&replies, &sent);
    served.party.put(conn, b"bye");
    served.party.link(conn).close(CloseMode::Flush);
    served
        .party
        .until("the last reply and the end", |_| read_some(remote, &mut replies));
    assert!(replies.ends_with(b"bye"));
    served
        .party
        .until("the close", |party| party.track(conn).closed.is_some());
    assert_eq!(served.party.track(conn).closed, Some(CloseReason::Requested));
    assert!(is_over(remote));

    // An adapter that closes discards what still comes, and so its peer gets rid of it.
    let mut pair = Pair::open(environment, &Config::default());
    let (at_a, at_b) = (pair.at_a, pair.at_b);
    pair.a.link(at_a).close(CloseMode::Flush);
    until(&mut pair.a, &mut pair.b, "the end", |_, b| b.track(at_b).ended);
    pair.b.put(at_b, &pattern(0, 900_000));
    let mark = pair.b.link(at_b).outbox().mark();
    until(&mut pair.a, &mut pair.b, "what nobody reads to be taken", |_, b| {
        b.track(at_b).written == [mark]
    });
    pair.b.link(at_b).close(CloseMode::Flush);
    until(&mut pair.a, &mut pair.b, "both closed", |a, b| {
        a.track(at_a).closed.is_some() && b.track(at_b).closed.is_some()
    });
    assert_eq!(pair.b.track(at_b).closed, Some(CloseReason::Requested));
}

/// Turns in which nothing may happen.
fn quiet<A: Adapter>(party: &mut Party<A>) {
    for _ in 0..AFTERWARDS {
        assert_eq!(party.turn(Duration::from_millis(2)), 0, "something came afterwards");
    }
}
