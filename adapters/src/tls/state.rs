//! Events of the inner adapter, made into those of the user.

use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kraft_core::adapter::{Adapter, Audience, CloseReason, Endpoint, Event};
use kraft_core::id::{ConnId, ListenerId, TimerId};
use kraft_core::link::{CloseMode, Link};
use kraft_core::time::Instant;
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, Connection, ServerConfig, ServerConnection};

use super::conn::{Conn, Delivery, Origin, Phase};
use super::failure::{Failure, Why};
use super::{Config, Observer};

/// How long who is refused is given to take the alert that says why.
const PARTING_MAX: Duration = Duration::from_secs(1);

/// While a listener is crowded by handshakes each has this part of its time: many times what one takes, so that a burst of
/// dials gets in, and little enough that silent ones do not keep others out for long.
const CROWDED_PART: u32 = 5;

/// All that the wrapper has beside the inner adapter.
pub(super) struct State {
    pub(super) config: Config,
    /// Of the adapter, whichever listener they come through.
    max_connections: usize,
    write_queue_max: usize,
    read_buffer: usize,
    linger: Duration,
    observer: Observer,
    /// By slot; `None` for one that is free or not encrypted.
    conns: Vec<Option<Box<Conn>>>,
    /// Those that encrypt.
    listeners: BTreeMap<ListenerId, Listener>,
    /// Timers of the inner adapter that are ours.
    timers: BTreeMap<TimerId, ConnId>,
    /// Links that were in the user's hands.
    dirty: Vec<ConnId>,
    /// Into whose inner outbox something was moved since the last flush.
    moved: Vec<ConnId>,
    /// Who has something to deliver that did not come in this turn.
    ready: VecDeque<ConnId>,
    /// Who has `Written` or `Drained` to deliver.
    news: VecDeque<ConnId>,
    /// Timers to start, which takes the inner adapter.
    to_start: Vec<(ConnId, Duration)>,
    to_stop: Vec<TimerId>,
    /// Who took too long, or has to go for others.
    overdue: Vec<(ConnId, Why)>,
    strangers_seen: u64,
    /// The user's waker was used, not ours alone.
    pub(super) woken: Arc<AtomicBool>,
    pub(super) counts: Counts,
}

/// What the inner adapter counts in another way.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    /// Accepted there, not shown here, and gone.
    pub(super) refused: u64,
    /// Dialled, connected there, and never here.
    pub(super) failed_dials: u64,
    /// Accepted there and not shown here so far.
    pub(super) strangers: u64,
}

/// A listener that encrypts.
pub(super) struct Listener {
    server: Arc<ServerConfig>,
    /// Its connections that were not shown, oldest first, and since when they are there.
    strangers: BTreeMap<u64, (ConnId, Instant)>,
    /// From so many on it is crowded.
    crowd: usize,
}

impl State {
    pub(super) fn new(adapter: &crate::Config, config: Config, observer: Observer) -> Self {
        Self {
            config,
            max_connections: adapter.max_connections,
            write_queue_max: adapter.write_queue_max,
            read_buffer: adapter.read_buffer,
            linger: adapter.linger,
            observer,
            conns: Vec::new(),
            listeners: BTreeMap::new(),
            timers: BTreeMap::new(),
            dirty: Vec::new(),
            moved: Vec::new(),
            ready: VecDeque::new(),
            news: VecDeque::new(),
            to_start: Vec::new(),
            to_stop: Vec::new(),
            overdue: Vec::new(),
            strangers_seen: 0,
            woken: Arc::default(),
            counts: Counts::default(),
        }
    }

    pub(super) fn get_mut(&mut self, id: ConnId) -> Option<&mut Conn> {
        let conn = self.conns.get_mut(id.slot())?.as_deref_mut();
        conn.filter(|conn| conn.id == id)
    }

    /// Timers of the inner adapter that are not the user's.
    pub(super) fn own_timers(&self) -> u64 {
        self.timers.len() as u64
    }

    /// Whether there is something to do without waiting.
    pub(super) fn has_work(&self) -> bool {
        !(self.ready.is_empty()
            && self.news.is_empty()
            && self.to_start.is_empty()
            && self.to_stop.is_empty()
            && self.overdue.is_empty())
    }

    /// Whether something was moved that the inner adapter has not flushed.
    pub(super) fn is_moved(&self) -> bool {
        !self.moved.is_empty()
    }

    /// Whether a flush has something to do.
    pub(super) fn is_dirty(&self) -> bool {
        !(self.dirty.is_empty() && self.moved.is_empty())
    }

    pub(super) fn listen(&mut self, id: ListenerId, server: Arc<ServerConfig>, max_connections: usize) {
        let listener = Listener {
            server,
            strangers: BTreeMap::new(),
            // The other half is for those who did come in.
            crowd: (max_connections.min(self.max_connections) / 2).max(1),
        };
        self.listeners.insert(id, listener);
    }

    /// Connections that begin from here on are made by `config`, where it says anything.
    pub(super) fn renew(&mut self, config: Config, audiences: &[(ListenerId, Audience)]) {
        for (id, audience) in audiences {
            if let (Some(listener), Some(server)) = (self.listeners.get_mut(id), config.server(*audience)) {
                listener.server = Arc::clone(server);
            }
        }
        let own = &mut self.config;
        for (own, new) in [
            (&mut own.peers, config.peers),
            (&mut own.clients, config.clients),
            (&mut own.others, config.others),
        ] {
            if own.is_some() && new.is_some() {
                *own = new;
            }
        }
        if own.dial.is_some() && config.dial.is_some() {
            own.dial = config.dial;
        }
    }

    pub(super) fn unlisten(&mut self, id: ListenerId) {
        self.listeners.remove(&id);
    }

    /// Begins a handshake on a connection that the inner adapter dials.
    pub(super) fn dial(&mut self, id: ConnId, to: &Endpoint, inner: &mut Link) {
        let Some(client) = self.config.dial.clone() else { return };
        let session = ClientConnection::new(client, server_name(to)).expect("it was tried when the adapter was opened");
        self.insert(id, Origin::Dialled(to.clone()), Connection::Client(session));
        self.after(id, inner);
    }

    fn insert(&mut self, id: ConnId, origin: Origin, session: Connection) {
        let slot = id.slot();
        if slot >= self.conns.len() {
            self.conns.resize_with(slot + 1, || None);
        }
        self.conns[slot] = Some(Box::new(Conn::new(id, origin, session, self.write_queue_max)));
    }

    /// The user's side of an encrypted connection.
    pub(super) fn link(&mut self, id: ConnId) -> Option<&mut Link> {
        let Self { conns, dirty, .. } = self;
        let conn = conns.get_mut(id.slot())?.as_deref_mut().filter(|conn| conn.id == id)?;
        if !mem::replace(&mut conn.listed.dirty, true) {
            dirty.push(id);
        }
        Some(&mut conn.link)
    }

    /// Does what users asked of links.
    pub(super) fn act<A: Adapter>(&mut self, adapter: &mut A) {
        let mut dirty = mem::take(&mut self.dirty);
        for id in dirty.drain(..) {
            let Some(conn) = self.get_mut(id) else { continue };
            conn.listed.dirty = false;
            let Some(inner) = adapter.link(id) else { continue };
            if conn.act(inner) {
                let span = self.linger;
                self.to_start.push((id, span));
            }
            self.after(id, inner);
        }
        self.dirty = dirty;
    }

    /// Lists a connection whose inner link was worked on.
    fn after(&mut self, id: ConnId, inner: &mut Link) {
        let Self {
            conns,
            moved,
            ready,
            news,
            ..
        } = self;
        let Some(conn) = conns.get_mut(id.slot()).and_then(Option::as_deref_mut) else {
            return;
        };
        conn.settle_plain(inner);
        if conn.wants_flush() && !mem::replace(&mut conn.listed.moved, true) {
            moved.push(id);
        }
        if conn.is_ready() && !mem::replace(&mut conn.listed.ready, true) {
            ready.push_back(id);
        }
        if conn.has_news() && !mem::replace(&mut conn.listed.news, true) {
            news.push_back(id);
        }
    }

    /// Sees what became of what was moved, once the inner adapter has flushed. Returns whether it has to once more.
    pub(super) fn after_flush<A: Adapter>(&mut self, adapter: &mut A) -> bool {
        let mut again = false;
        let mut moved = mem::take(&mut self.moved);
        for id in moved.drain(..) {
            let Some(conn) = self.get_mut(id) else { continue };
            conn.listed.moved = false;
            let Some(inner) = adapter.link(id) else { continue };
            again |= conn.settle(inner);
            let has_news = conn.has_news() && !mem::replace(&mut conn.listed.news, true);
            if has_news {
                self.news.push_back(id);
            }
        }
        self.moved = moved;
        again
    }

    /// An event of the inner adapter. Returns how many were made of it.
    pub(super) fn take<F: FnMut(Instant, Event<'_>)>(
        &mut self,
        now: Instant,
        mut event: Event<'_>,
        on_event: &mut F,
    ) -> usize {
        match event {
            Event::Accepted {
                listener,
                conn,
                ref peer,
                ref mut link,
            } if self.listeners.contains_key(&listener) => {
                self.accept(now, listener, conn, peer.clone(), link);
                return 0;
            }
            Event::Connected { conn, .. } => {
                let span = self.config.handshake_timeout;
                if let Some(found) = self.get_mut(conn) {
                    found.connected = true;
                    self.to_start.push((conn, span));
                    return 0;
                }
            }
            Event::Received {
                conn,
                bytes,
                ref mut link,
            } if self.get_mut(conn).is_some() => {
                return self.receive(now, conn, bytes, link, on_event);
            }
            Event::Ended { conn, ref mut link } => {
                if let Some(found) = self.get_mut(conn) {
                    found.end();
                    return self.receive(now, conn, &[], link, on_event);
                }
            }
            Event::Written { conn, ref mut link, .. } => {
                if let Some(found) = self.get_mut(conn) {
                    found.written();
                    if found.act(link) {
                        self.to_start.push((conn, self.linger));
                    }
                    self.after(conn, link);
                    return 0;
                }
            }
            Event::Drained { conn, .. } if self.get_mut(conn).is_some() => return 0,
            Event::Closed { conn, reason } if self.get_mut(conn).is_some() => {
                return self.closed(now, conn, reason, on_event);
            }
            Event::Expired { timer } => {
                if let Some(id) = self.timers.remove(&timer) {
                    self.expired(id, timer);
                    return 0;
                }
            }
            // A wake of our own says that there is work, which is looked for in every turn.
            Event::Woken if !self.woken.swap(false, Ordering::AcqRel) => return 0,
            _ => {}
        }
        on_event(now, event);
        1
    }

    fn accept(&mut self, now: Instant, listener: ListenerId, id: ConnId, peer: Endpoint, inner: &mut Link) {
        let Some(known) = self.listeners.get_mut(&listener) else {
            return;
        };
        let session =
            ServerConnection::new(Arc::clone(&known.server)).expect("it was tried when the adapter was opened");
        self.strangers_seen += 1;
        let stranger = self.strangers_seen;
        let mut span = self.config.handshake_timeout;
        if known.strangers.len() >= known.crowd {
            span /= CROWDED_PART;
            while let Some(oldest) = known.strangers.first_entry()
                && now.saturating_since(oldest.get().1) >= span
            {
                self.overdue.push((oldest.remove().0, Why::TooMany));
            }
        }
        known.strangers.insert(stranger, (id, now));
        self.counts.strangers += 1;
        let origin = Origin::Accepted {
            listener,
            peer,
            stranger,
        };
        self.insert(id, origin, Connection::Server(session));
        self.to_start.push((id, span));
        self.after(id, inner);
    }

    fn receive<F: FnMut(Instant, Event<'_>)>(
        &mut self,
        now: Instant,
        id: ConnId,
        bytes: &[u8],
        inner: &mut Link,
        on_event: &mut F,
    ) -> usize {
        let mut delivery = Delivery {
            now,
            received_max: self.read_buffer,
            on_event,
        };
        let Some(conn) = self.get_mut(id) else { return 0 };
        let was_shown = conn.shown;
        let (count, wrong) = conn.receive(bytes, inner, &mut delivery);
        if conn.shown && !was_shown {
            self.shown(id);
        }
        if count > 0 {
            // His link was in the user's hands.
            self.link(id);
        }
        if let Some(why) = wrong {
            self.fail(id, why, inner);
        }
        self.after(id, inner);
        count
    }

    /// A connection is through its handshake.
    fn shown(&mut self, id: ConnId) {
        let Some(conn) = self.get_mut(id) else { return };
        let timer = conn.timer.take();
        let origin = conn.origin.clone();
        self.to_stop.extend(timer);
        self.forget_stranger(&origin);
    }

    fn forget_stranger(&mut self, origin: &Origin) {
        let Origin::Accepted { listener, stranger, .. } = origin else {
            return;
        };
        self.counts.strangers -= 1;
        if let Some(listener) = self.listeners.get_mut(listener) {
            listener.strangers.remove(stranger);
        }
    }

    /// A connection is no good: its inner one is closed, after the alert that says why, and its user hears of it when
    /// that is closed.
    fn fail(&mut self, id: ConnId, why: Why, inner: &mut Link) {
        let Some(conn) = self.get_mut(id) else { return };
        if conn.phase == Phase::Shut {
            return;
        }
        conn.reason = Some(why.reason());
        conn.link.outbox().clear();
        conn.shut();
        let failure = Failure {
            peer: conn.peer().clone(),
            dialled: matches!(conn.origin, Origin::Dialled(_)),
            why,
        };
        if failure.why.has_alert() {
            inner.close(CloseMode::Flush);
            self.to_start.push((id, PARTING_MAX));
        } else {
            inner.close(CloseMode::Now);
        }
        (self.observer)(&failure);
    }

    /// The inner connection is gone.
    fn closed<F: FnMut(Instant, Event<'_>)>(
        &mut self,
        now: Instant,
        id: ConnId,
        reason: CloseReason,
        on_event: &mut F,
    ) -> usize {
        let Some(conn) = self.conns[id.slot()].take() else {
            return 0;
        };
        self.to_stop.extend(conn.timer);
        let is_accepted = matches!(conn.origin, Origin::Accepted { .. });
        if !conn.shown && is_accepted {
            self.forget_stranger(&conn.origin);
            self.counts.refused += 1;
        }
        // One that never connected has nothing to do with TLS.
        let is_unfinished = conn.phase == Phase::Shaking && conn.connected;
        if is_unfinished {
            (self.observer)(&Failure {
                peer: conn.peer().clone(),
                dialled: !is_accepted,
                why: Why::Unfinished,
            });
        }
        if !conn.shown && !is_accepted && (is_unfinished || conn.reason.is_some()) {
            self.counts.failed_dials += 1;
        }
        if !conn.shown && is_accepted {
            return 0;
        }
        let reason = conn.reason_of(reason);
        on_event(now, Event::Closed { conn: id, reason });
        1
    }

    fn expired(&mut self, id: ConnId, timer: TimerId) {
        if let Some(conn) = self.get_mut(id)
            && conn.timer == Some(timer)
        {
            conn.timer = None;
            self.overdue.push((id, Why::TooSlow));
        }
    }

    /// Does what takes the inner adapter, and delivers what did not come in this turn.
    pub(super) fn deliver<A, F>(&mut self, adapter: &mut A, on_event: &mut F) -> usize
    where
        A: Adapter,
        F: FnMut(Instant, Event<'_>),
    {
        let now = adapter.now();
        for timer in mem::take(&mut self.to_stop) {
            if self.timers.remove(&timer).is_some() {
                adapter.timers().stop(timer);
            }
        }
        for (id, span) in mem::take(&mut self.to_start) {
            // One that was shown meanwhile needs no bound.
            let Some(conn) = self.get_mut(id).filter(|conn| conn.phase != Phase::Open) else {
                continue;
            };
            let timer = adapter.timers().start(now + span);
            if let Some(former) = conn.timer.replace(timer) {
                adapter.timers().stop(former);
                self.timers.remove(&former);
            }
            self.timers.insert(timer, id);
        }
        for (id, why) in mem::take(&mut self.overdue) {
            if let Some(inner) = adapter.link(id) {
                self.end_overdue(id, why, inner);
            }
        }
        let mut count = 0;
        for _ in 0..self.ready.len() {
            let id = self.ready.pop_front().expect("only this loop takes out");
            let (Some(conn), Some(inner)) = (self.get_mut(id), adapter.link(id)) else {
                continue;
            };
            conn.listed.ready = false;
            count += self.receive(now, id, &[], inner, on_event);
        }
        for _ in 0..self.news.len() {
            let id = self.news.pop_front().expect("only this loop takes out");
            count += self.tell(now, id, on_event);
        }
        count
    }

    fn end_overdue(&mut self, id: ConnId, why: Why, inner: &mut Link) {
        let Some(conn) = self.get_mut(id) else { return };
        match conn.phase {
            Phase::Shaking => self.fail(id, why, inner),
            // It was shown in time after all.
            Phase::Open => {}
            Phase::Flushing | Phase::Shut => {
                conn.reason.get_or_insert(CloseReason::TimedOut);
                conn.shut();
                inner.close(CloseMode::Now);
            }
            Phase::Parting => {
                conn.shut();
                inner.close(CloseMode::Now);
            }
        }
    }

    /// Delivers what is due of `Written` and `Drained`.
    fn tell<F: FnMut(Instant, Event<'_>)>(&mut self, now: Instant, id: ConnId, on_event: &mut F) -> usize {
        let Some(conn) = self.get_mut(id) else { return 0 };
        conn.listed.news = false;
        let mut count = 0;
        conn.link.tell(id, |event| {
            on_event(now, event);
            count += 1;
        });
        self.link(id);
        count
    }
}

/// What rustls wants to be told of whom one dials. It goes nowhere: names are judged by who dialled.
fn server_name(to: &Endpoint) -> ServerName<'static> {
    let address = match to {
        Endpoint::Tcp(address) => address.ip(),
        Endpoint::Unix(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
    };
    ServerName::IpAddress(address.into())
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("config", &self.config)
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}
