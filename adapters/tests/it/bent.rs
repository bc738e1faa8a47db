//! The suite can fail: adapters that break a law in one way each, and the law that finds it.

use std::cell::Cell;
use std::io;
use std::os::fd::BorrowedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use kraft_adapters::Config;
use kraft_adapters::conformance::{self, Environment, Silent, Wires};
use kraft_adapters::mock::{Mock, Remote};
use kraft_core::adapter::{Adapter, Capabilities, CloseReason, Endpoint, Event, ListenOptions, Stats, Waker};
use kraft_core::id::{ConnId, ListenerId};
use kraft_core::link::{CloseMode, Link};
use kraft_core::time::Instant;
use kraft_core::timers::Timers;

/// What an adapter does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    SwallowsConnected,
    FlipsABit,
    ClosesTwice,
    ReceivesAfterClose,
    HearsOneAlone,
    EndsEarly,
    ForgetsTimeOuts,
    DrainsTwice,
    FlushesNothing,
    NeverPauses,
    ReversesTimers,
    IsEarly,
    ChangesNow,
    LosesMarks,
    LeaksOnDrop,
    HidesResets,
    ClosesAtEnded,
}

/// A mock with a fault.
struct Bent {
    inner: Option<Mock>,
    fault: Fault,
    conns: Vec<ConnId>,
}

struct BentWires {
    wires: Wires,
    fault: Fault,
    opened: Cell<u32>,
}

impl Environment for BentWires {
    type Adapter = Bent;
    type Remote = Remote;

    fn open(&self, config: &Config) -> io::Result<Bent> {
        self.opened.set(self.opened.get() + 1);
        Ok(Bent {
            inner: Some(self.wires.open(config)?),
            fault: self.fault,
            conns: Vec::new(),
        })
    }

    fn dial(&self, to: &Endpoint) -> io::Result<Remote> {
        self.wires.dial(to)
    }

    fn silent(&self) -> io::Result<Silent> {
        self.wires.silent()
    }

    fn is_virtual(&self) -> bool {
        true
    }
}

impl Bent {
    fn inner(&mut self) -> &mut Mock {
        self.inner.as_mut().expect("it is there until the drop")
    }

    fn inner_ref(&self) -> &Mock {
        self.inner.as_ref().expect("it is there until the drop")
    }

    /// What it does wrong with links, before they are acted on.
    fn spoil_links(&mut self) {
        let fault = self.fault;
        if !matches!(fault, Fault::NeverPauses | Fault::FlushesNothing) {
            return;
        }
        for conn in self.conns.clone() {
            let Some(link) = self.inner().link(conn) else { continue };
            match fault {
                Fault::NeverPauses => link.resume(),
                Fault::FlushesNothing if link.is_closing() => link.close(CloseMode::Now),
                _ => {}
            }
        }
    }
}

impl Drop for Bent {
    fn drop(&mut self) {
        if self.fault == Fault::LeaksOnDrop {
            std::mem::forget(self.inner.take());
        }
    }
}

impl Adapter for Bent {
    fn listen(&mut self, at: &Endpoint, options: ListenOptions) -> io::Result<ListenerId> {
        self.inner().listen(at, options)
    }

    fn local_endpoint(&self, listener: ListenerId) -> io::Result<Endpoint> {
        self.inner_ref().local_endpoint(listener)
    }

    fn unlisten(&mut self, listener: ListenerId) {
        self.inner().unlisten(listener);
    }

    fn connect(&mut self, to: &Endpoint) -> io::Result<ConnId> {
        self.inner().connect(to)
    }

    fn link(&mut self, conn: ConnId) -> Option<&mut Link> {
        self.inner().link(conn)
    }

    fn timers(&mut self) -> &mut Timers {
        self.inner().timers()
    }

    fn now(&self) -> Instant {
        self.inner_ref().now()
    }

    fn read_clock(&self) -> Option<Instant> {
        self.inner_ref().read_clock()
    }

    fn flush(&mut self) -> io::Result<()> {
        self.spoil_links();
        self.inner().flush()
    }

    fn poll<F>(&mut self, deadline: Option<Instant>, mut on_event: F) -> io::Result<usize>
    where
        F: FnMut(Instant, Event<'_>),
    {
        self.spoil_links();
        let fault = self.fault;
        let Self { inner, conns, .. } = self;
        let inner = inner.as_mut().expect("it is there until the drop");
        let deadline = match fault {
            Fault::IsEarly => deadline.map(|deadline| Instant::from_nanos(deadline.as_nanos().saturating_sub(1000))),
            _ => deadline,
        };
        let mut count = 0;
        let mut timers = Vec::new();
        let mut end = Instant::ZERO;
        inner.poll(deadline, |now, event| {
            let mut emit = |event: Event<'_>| {
                let now = match fault {
                    Fault::ChangesNow => now + Duration::from_nanos(count as u64),
                    _ => now,
                };
                count += 1;
                on_event(now, event);
            };
            end = now;
            match (fault, event) {
                (Fault::SwallowsConnected, Event::Connected { .. }) => {}
                (Fault::FlipsABit, Event::Received { conn, bytes, link }) => {
                    let mut bytes = bytes.to_vec();
                    bytes[0] ^= u8::from(bytes.len() > 20);
                    emit(Event::Received {
                        conn,
                        bytes: &bytes,
                        link,
                    });
                }
                (Fault::HearsOneAlone, Event::Received { conn, .. }) if conn.slot() > 0 => {}
                (Fault::ClosesTwice, Event::Closed { conn, reason }) => {
                    emit(Event::Closed { conn, reason });
                    emit(Event::Closed { conn, reason });
                }
                (Fault::ReceivesAfterClose, Event::Received { conn, bytes, link }) => {
                    let half = bytes.len() / 2;
                    for bytes in [&bytes[..half], &bytes[half..]] {
                        emit(Event::Received { conn, bytes, link });
                    }
                }
                (
                    Fault::EndsEarly,
                    Event::Accepted {
                        listener,
                        conn,
                        peer,
                        link,
                    },
                ) => {
                    emit(Event::Accepted {
                        listener,
                        conn,
                        peer,
                        link,
                    });
                    emit(Event::Ended { conn, link });
                }
                (
                    Fault::ForgetsTimeOuts,
                    Event::Closed {
                        reason: CloseReason::TimedOut,
                        ..
                    },
                ) => {}
                (Fault::DrainsTwice, Event::Drained { conn, link }) => {
                    emit(Event::Drained { conn, link });
                    emit(Event::Drained { conn, link });
                }
                (Fault::ReversesTimers, Event::Expired { timer }) => timers.push(timer),
                (Fault::LosesMarks, Event::Written { mark, .. }) if mark > 20_000 => {}
                (
                    Fault::HidesResets,
                    Event::Closed {
                        conn,
                        reason: CloseReason::Reset,
                    },
                ) => emit(Event::Closed {
                    conn,
                    reason: CloseReason::Requested,
                }),
                (Fault::ClosesAtEnded, Event::Ended { conn, link }) => {
                    emit(Event::Ended { conn, link });
                    link.close(CloseMode::Now);
                }
                (_, event) => {
                    if let Event::Accepted { conn, .. } | Event::Connected { conn, .. } = &event {
                        conns.push(*conn);
                    }
                    emit(event);
                }
            }
        })?;
        for timer in timers.into_iter().rev() {
            count += 1;
            on_event(end, Event::Expired { timer });
        }
        Ok(count)
    }

    fn waker(&self) -> Waker {
        self.inner_ref().waker()
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    fn stats(&self) -> Stats {
        self.inner_ref().stats()
    }

    fn name(&self) -> &'static str {
        "bent"
    }
}

#[track_caller]
fn check(fault: Fault, law: fn(&BentWires)) {
    let environment = BentWires {
        wires: Wires::new(1),
        fault,
        opened: Cell::new(0),
    };
    let judged = catch_unwind(AssertUnwindSafe(|| law(&environment)));
    assert!(environment.opened.get() > 0);
    assert!(judged.is_err(), "the law overlooks an adapter that {fault:?}");
}

#[test]
fn every_fault_is_found_by_its_law() {
    check(Fault::SwallowsConnected, conformance::a01_begins_once_and_first);
    check(Fault::FlipsABit, conformance::a02_bytes_arrive_in_order_once);
    check(Fault::ClosesTwice, conformance::a03_closed_comes_once_and_last);
    check(Fault::ReceivesAfterClose, conformance::a04_nothing_follows_closed);
    check(Fault::EndsEarly, conformance::a06_data_before_fin);
    check(Fault::ForgetsTimeOuts, conformance::a07_failed_connects_end_in_closed);
    check(
        Fault::DrainsTwice,
        conformance::a08_a_full_outbox_refuses_whole_and_drains_once,
    );
    check(Fault::FlushesNothing, conformance::a09_close_flush_delivers_all);
    check(Fault::ForgetsTimeOuts, conformance::a09_close_flush_delivers_all);
    check(
        Fault::NeverPauses,
        conformance::a10_pause_stops_and_resume_loses_nothing,
    );
    check(
        Fault::ReversesTimers,
        conformance::a11_timers_are_in_order_and_never_early,
    );
    check(
        Fault::IsEarly,
        conformance::a15_poll_returns_at_its_deadline_and_not_before,
    );
    check(
        Fault::ChangesNow,
        conformance::a17_now_is_monotone_and_constant_in_a_turn,
    );
    check(
        Fault::FlipsABit,
        conformance::a19_a_thousand_connections_keep_their_bytes,
    );
    check(
        Fault::HearsOneAlone,
        conformance::a18_a_busy_connection_starves_no_other,
    );
    check(Fault::FlipsABit, conformance::a20_a_slow_reader_gets_64_mib);
    check(Fault::FlipsABit, conformance::a31_address_families_behave_the_same);
    check(Fault::LeaksOnDrop, conformance::a21_drop_leaves_nothing_open);
    check(Fault::HidesResets, conformance::a28_a_reset_peer_is_closed);
    check(Fault::LosesMarks, conformance::a29_written_comes_for_each_mark_in_order);
    check(Fault::ClosesTwice, conformance::a32_closing_through_any_link_is_safe);
    check(
        Fault::SwallowsConnected,
        conformance::a33_puts_before_connected_are_sent_first,
    );
    check(Fault::ClosesAtEnded, conformance::a34_replies_after_ended_are_sent);
}

#[test]
fn a_missing_poll_fd_that_is_not_owned_up_to_is_found() {
    check(
        Fault::EndsEarly,
        conformance::a23_poll_fd_is_readable_while_there_is_work,
    );
}

#[test]
fn a_failure_names_backend_law_reason_and_seed() {
    let environment = BentWires {
        wires: Wires::new(1),
        fault: Fault::FlipsABit,
        opened: Cell::new(0),
    };
    let judged = catch_unwind(AssertUnwindSafe(|| {
        conformance::check(
            "it::bent::a02_bytes_arrive_in_order_once",
            environment,
            conformance::a02_bytes_arrive_in_order_once,
        );
    }));
    let text = judged.expect_err("the law is broken");
    let text = text.downcast_ref::<String>().expect("it has a text");
    let named = "bent breaks a02_bytes_arrive_in_order_once: ";
    assert!(text.starts_with(named), "{text}");
    assert!(text.contains("A2: bytes differ"), "{text}");
    let (_, seed) = text.split_once("KRAFT_SEED=").expect("it names the seed");
    seed.parse::<u64>().expect("the seed is a number, and last");
}
