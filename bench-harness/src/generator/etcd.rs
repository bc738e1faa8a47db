//! Clients of etcd: gRPC over HTTP/2, which is h2's, in the same loop as all other loads.
//!
//! h2 is a state machine over anything that reads and writes. So it needs no runtime here: it is asked again whenever its
//! socket has events or something is to be sent.

use std::cell::Cell;
use std::future::Future;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use h2::RecvStream;
use h2::client::{Builder, Connection, ResponseFuture, SendRequest};
use http::{HeaderMap, Method, Request, StatusCode};
use mio::Events;
use mio::net::TcpStream;
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::cluster::{Draws, KEYS, Op, key_bytes, value};
use super::meter::{Meter, Times, UNSENT};
use super::opening::{Opening, register};
use super::pace::{self, Crowd};
use super::{EVENTS, Figures, ReadClocks, Span, list, wait};
use crate::cli::Waiting;
use crate::fault::Fault;
use crate::progress::counted;
use crate::workload::Ask;

const PUT: &str = "/etcdserverpb.KV/Put";
const RANGE: &str = "/etcdserverpb.KV/Range";
const STATUS: &str = "/etcdserverpb.Maintenance/Status";

/// Before a message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;

/// The longest message that is taken.
const MESSAGE_MAX: usize = 1 << 20;

/// Of what a member says to a refusal so many characters are shown.
const WORDS_MAX: usize = 400;

/// Of bytes that are wrong so many are shown.
const SHOWN_MAX: usize = 64;

/// Requests of a connection that may be on their way; an open loop gives up before.
const STREAMS_MAX: usize = 1 << 20;

/// What h2 lets small answers cost that nobody has taken yet, before it takes them for an attack: each 256, about.
const UNTAKEN_MAX: usize = STREAMS_MAX * 256;

// Of etcd's messages what is asked or looked at here (`etcdserverpb/rpc.proto`, `mvccpb/kv.proto`).

#[derive(Clone, PartialEq, Message)]
struct PutRequest {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
}

/// Linearizable, unless it says otherwise.
#[derive(Clone, PartialEq, Message)]
struct RangeRequest {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct ResponseHeader {
    #[prost(uint64, tag = "2")]
    member_id: u64,
    #[prost(uint64, tag = "4")]
    raft_term: u64,
}

#[derive(Clone, PartialEq, Message)]
struct PutResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<ResponseHeader>,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(bytes = "bytes", tag = "5")]
    value: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct RangeResponse {
    #[prost(message, repeated, tag = "2")]
    kvs: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<ResponseHeader>,
    #[prost(uint64, tag = "4")]
    leader: u64,
}

/// What a member says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) member: u64,
    /// Zero if it knows of none.
    pub(crate) leader: u64,
    pub(crate) term: u64,
}

/// Asks a member how it stands.
pub(crate) fn standing(at: SocketAddr, patience: Duration) -> Result<Standing, Fault> {
    Callers::alone(at, patience)?.standing(patience)
}

/// Puts a key.
pub(crate) fn put_once(at: SocketAddr, key: usize, value: &[u8], patience: Duration) -> Result<(), Fault> {
    let mut callers = Callers::alone(at, patience)?;
    let [key, value] = [&key_bytes(key), value].map(Bytes::copy_from_slice);
    callers.conns[0].call(Asked::Put, &PutRequest { key, value }, 0)?;
    callers.finish(patience).map(drop)
}

/// The value of a key, whatever it is.
pub(crate) fn get_once(at: SocketAddr, key: usize, patience: Duration) -> Result<Option<Bytes>, Fault> {
    let mut callers = Callers::alone(at, patience)?;
    let bytes = Bytes::copy_from_slice(&key_bytes(key));
    callers.conns[0].call(Asked::Whatever { key }, &RangeRequest { key: bytes }, 0)?;
    match callers.finish(patience)? {
        Some(Said::Value(value)) => Ok(value),
        said => Err(Fault::Corrupt(format!("a get was answered with {said:?}"))),
    }
}

/// Of what is not measured.
fn at_once(patience: Duration) -> Span {
    Span {
        warm_up: Duration::ZERO,
        measured: Duration::ZERO,
        patience,
        turns_min: 0,
        is_slice: false,
    }
}

/// Clients, each on a connection of its own.
#[derive(Debug)]
pub(crate) struct Callers {
    poll: mio::Poll,
    conns: Vec<Caller>,
    waiting: Waiting,
    draws: Draws,
}

impl Callers {
    /// Connects to a member.
    pub(crate) fn connect(at: SocketAddr, count: usize, waiting: Waiting, span: Span) -> Result<Self, Fault> {
        let poll = mio::Poll::new().map_err(|error| Fault::own("epoll", &error))?;
        let opening = Opening::new(at, count, span.patience);
        let connect = |number| {
            let stream = register(opening.open(number)?, &poll, number)?;
            Caller::new(stream, at)
        };
        Ok(Self {
            conns: (0..count).map(connect).collect::<Result<_, _>>()?,
            poll,
            waiting,
            draws: Draws::default(),
        })
    }

    /// One client that sleeps while it waits.
    pub(crate) fn alone(at: SocketAddr, patience: Duration) -> Result<Self, Fault> {
        Self::connect(at, 1, Waiting::Block, at_once(patience))
    }

    /// Asks the member how it stands.
    pub(crate) fn standing(&mut self, patience: Duration) -> Result<Standing, Fault> {
        self.conns[0].call(Asked::Standing, &(), 0)?;
        match self.finish(patience)? {
            Some(Said::Standing(standing)) => Ok(standing),
            _ => Err(Fault::Corrupt("a status without a header".into())),
        }
    }

    /// Sends what the one client was asked for, and waits for the answer.
    fn finish(&mut self, patience: Duration) -> Result<Option<Said>, Fault> {
        self.conns[0].flush_at(0)?;
        self.hear_all(at_once(patience), |_, _, _| {})?;
        Ok(self.conns[0].said.take())
    }

    /// Puts every key once.
    pub(crate) fn fill(&mut self, span: Span) -> Result<(), Fault> {
        let count = self.conns.len();
        for key in 0..KEYS {
            self.conns[key % count].ask(Op::Put, key, 0)?;
        }
        self.conns.iter_mut().try_for_each(|conn| conn.flush_at(0))?;
        self.hear_all(span, |meter, at, times| meter.note(at, meter.now(), times))
    }

    /// Each client has one request on its way, and asks again when it is answered.
    pub(crate) fn closed(&mut self, ask: Ask, span: Span, clocks: ReadClocks<'_>) -> Result<Figures, Fault> {
        pace::closed(&mut Calling::new(self, ask), 1, span, clocks)
    }

    /// `rate` operations a second over the clients in turn, each when it is due, however many are on their way.
    pub(crate) fn open(&mut self, ask: Ask, rate: u64, span: Span, clocks: ReadClocks<'_>) -> Result<Figures, Fault> {
        pace::open(&mut Calling::new(self, ask), rate, span, clocks)
    }

    /// Waits until all that was asked is answered.
    fn hear_all(&mut self, span: Span, mut heard: impl FnMut(&mut Meter, usize, Times)) -> Result<(), Fault> {
        let mut meter = Meter::new(span, 0);
        let mut calling = Calling::new(self, Ask::Put);
        let mut ready = Vec::new();
        while calling.callers.conns.iter().any(|conn| !conn.calls.is_empty()) {
            meter.look()?;
            calling.wait(&mut meter, &mut ready)?;
            for &at in &ready {
                let now = meter.now();
                calling.hear(at, now, |times| heard(&mut meter, at, times))?;
                calling.flush(at, now)?;
            }
            meter.worked(true);
        }
        Ok(())
    }
}

/// Clients, and what they ask for.
struct Calling<'a> {
    callers: &'a mut Callers,
    ask: Ask,
    events: Events,
    /// Connections that received something when they sent: no event tells of it.
    unheard: Vec<usize>,
}

impl<'a> Calling<'a> {
    fn new(callers: &'a mut Callers, ask: Ask) -> Self {
        // Answers may have come while requests were sent.
        let unheard = (0..callers.conns.len()).collect();
        Self {
            callers,
            ask,
            events: Events::with_capacity(EVENTS),
            unheard,
        }
    }
}

impl Crowd for Calling<'_> {
    fn conns(&self) -> usize {
        self.callers.conns.len()
    }

    fn ask(&mut self, conn: usize, when: u64) -> Result<(), Fault> {
        let (op, key) = self.callers.draws.draw(self.ask);
        self.callers.conns[conn].ask(op, key, when)
    }

    fn flush(&mut self, conn: usize, now: u64) -> Result<(), Fault> {
        let caller = &mut self.callers.conns[conn];
        caller.flush_at(now)?;
        if caller.socket.received.take() {
            self.unheard.push(conn);
        }
        Ok(())
    }

    fn hear(&mut self, conn: usize, _: u64, answered: impl FnMut(Times)) -> Result<usize, Fault> {
        self.callers.conns[conn].hear(answered)
    }

    fn wait(&mut self, meter: &mut Meter, ready: &mut Vec<usize>) -> Result<bool, Fault> {
        let callers = &mut *self.callers;
        let has_unheard = !self.unheard.is_empty();
        let waiting = if has_unheard { Waiting::Spin } else { callers.waiting };
        let found = wait(&mut callers.poll, waiting, &mut self.events, meter)?;
        list(&self.events, ready);
        ready.append(&mut self.unheard);
        Ok(found || has_unheard)
    }
}

/// What a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Put,
    Get {
        key: usize,
    },
    /// A key that may have any value, or none.
    Whatever {
        key: usize,
    },
    Standing,
}

/// What an answer tells that is not known before.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    Standing(Standing),
    Value(Option<Bytes>),
}

/// A connection.
#[derive(Debug)]
struct Caller {
    connection: Connection<Stream, Bytes>,
    requests: SendRequest<Bytes>,
    heads: Heads,
    calls: Vec<Call>,
    socket: Rc<Socket>,
    again: Arc<Again>,
    waker: Waker,
    said: Option<Said>,
    encoded: BytesMut,
}

/// What requests begin with.
#[derive(Debug)]
struct Heads {
    put: Request<()>,
    range: Request<()>,
    status: Request<()>,
}

impl Heads {
    fn of(at: SocketAddr) -> Result<Self, Fault> {
        let head = |path| {
            let head = Request::builder()
                .method(Method::POST)
                .uri(format!("http://{at}{path}"))
                .header("te", "trailers")
                .header("content-type", "application/grpc")
                .body(());
            head.map_err(|error| Fault::Own(format!("a request: {error}")))
        };
        Ok(Self {
            put: head(PUT)?,
            range: head(RANGE)?,
            status: head(STATUS)?,
        })
    }
}

/// A request on its way.
#[derive(Debug)]
struct Call {
    asked: Asked,
    times: Times,
    answer: Answer,
}

/// What came of an answer.
#[derive(Debug)]
enum Answer {
    Nothing(ResponseFuture),
    Head(RecvStream, BytesMut),
}

fn broken(error: &h2::Error) -> Fault {
    Fault::closed(format!("HTTP/2: {error}"))
}

impl Caller {
    fn new(stream: TcpStream, at: SocketAddr) -> Result<Self, Fault> {
        let socket = Rc::<Socket>::default();
        let again = Arc::<Again>::default();
        let waker = Waker::from(Arc::clone(&again));
        let stream = Stream {
            inner: stream,
            socket: Rc::clone(&socket),
        };
        let mut builder = Builder::new();
        builder
            .initial_max_send_streams(STREAMS_MAX)
            .data_frame_budget(UNTAKEN_MAX)
            .enable_push(false);
        let mut handshake = std::pin::pin!(builder.handshake::<_, Bytes>(stream));
        // It sends a few bytes, which a new socket takes, and waits for nothing.
        let Poll::Ready(hands) = handshake.as_mut().poll(&mut Context::from_waker(&waker)) else {
            return Err(Fault::Own("a new socket takes nothing".into()));
        };
        let (requests, connection) = hands.map_err(|error| broken(&error))?;
        Ok(Self {
            connection,
            requests,
            heads: Heads::of(at)?,
            calls: Vec::new(),
            socket,
            again,
            waker,
            said: None,
            encoded: BytesMut::new(),
        })
    }

    fn ask(&mut self, op: Op, key: usize, when: u64) -> Result<(), Fault> {
        let bytes = Bytes::copy_from_slice(&key_bytes(key));
        match op {
            Op::Put => {
                let value = Bytes::from_static(value(key));
                self.call(Asked::Put, &PutRequest { key: bytes, value }, when)
            }
            Op::Get => self.call(Asked::Get { key }, &RangeRequest { key: bytes }, when),
        }
    }

    /// Puts a request before what is to be sent.
    fn call(&mut self, asked: Asked, message: &impl Message, when: u64) -> Result<(), Fault> {
        let request = match asked {
            Asked::Put => &self.heads.put,
            Asked::Get { .. } | Asked::Whatever { .. } => &self.heads.range,
            Asked::Standing => &self.heads.status,
        };
        let request = request.clone();
        let count = message.encoded_len();
        self.encoded.put_u8(0);
        self.encoded.put_u32(u32::try_from(count).expect("a request is short"));
        message
            .encode(&mut self.encoded)
            .expect("memory takes it, and grows for it");
        let (response, mut body) = self
            .requests
            .send_request(request, false)
            .map_err(|error| broken(&error))?;
        let bytes = self.encoded.split().freeze();
        body.send_data(bytes, true).map_err(|error| broken(&error))?;
        self.calls.push(Call {
            asked,
            times: Times::due(when),
            answer: Answer::Nothing(response),
        });
        Ok(())
    }

    /// Sends what the socket takes, and receives what is there into the calls.
    fn drive(&mut self) -> Result<(), Fault> {
        loop {
            self.again.0.store(false, Ordering::Relaxed);
            match Pin::new(&mut self.connection).poll(&mut Context::from_waker(&self.waker)) {
                Poll::Ready(Ok(())) => return Err(Fault::closed("a member closed a connection")),
                Poll::Ready(Err(error)) => return Err(broken(&error)),
                Poll::Pending if self.again.0.load(Ordering::Relaxed) => {}
                Poll::Pending => return Ok(()),
            }
        }
    }

    fn flush_at(&mut self, now: u64) -> Result<(), Fault> {
        self.drive()?;
        if !self.socket.is_full.get() {
            let fresh = self.calls.iter_mut().filter(|call| call.times.sent == UNSENT);
            fresh.for_each(|call| call.times.sent = now);
        }
        Ok(())
    }

    /// Receives and checks what is there; `answered` gets the times of each request that was answered. Returns their
    /// number.
    fn hear(&mut self, mut answered: impl FnMut(Times)) -> Result<usize, Fault> {
        self.drive()?;
        let mut count = 0;
        let mut at = 0;
        while at < self.calls.len() {
            let mut context = Context::from_waker(&self.waker);
            let Poll::Ready(message) = self.calls[at].poll(&mut context) else {
                at += 1;
                continue;
            };
            let message = message?;
            let call = self.calls.swap_remove(at);
            if let Some(said) = call.asked.judge(&message)? {
                self.said = Some(said);
            }
            answered(call.times);
            count += 1;
        }
        // All that was received was taken. What windows are opened by goes with the flush that follows.
        self.socket.received.set(false);
        Ok(count)
    }
}

impl Call {
    /// The message that answers it, when all of that is there.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Bytes, Fault>> {
        loop {
            match &mut self.answer {
                Answer::Nothing(response) => {
                    let response = std::task::ready!(Pin::new(response).poll(context));
                    let response = response.map_err(|error| broken(&error))?;
                    if response.status() != StatusCode::OK {
                        return Poll::Ready(Err(Fault::closed(format!("answered with {}", response.status()))));
                    }
                    // One that says no does so at once.
                    if response.headers().contains_key("grpc-status") {
                        outcome(response.headers())?;
                    }
                    self.answer = Answer::Head(response.into_body(), BytesMut::new());
                }
                Answer::Head(body, bytes) => {
                    while let Some(piece) = std::task::ready!(body.poll_data(context)) {
                        let piece = piece.map_err(|error| broken(&error))?;
                        if bytes.len() + piece.len() > MESSAGE_MAX {
                            return Poll::Ready(Err(Fault::Corrupt("an answer without an end".into())));
                        }
                        bytes.extend_from_slice(&piece);
                        let released = body.flow_control().release_capacity(piece.len());
                        released.map_err(|error| broken(&error))?;
                    }
                    let trailers = std::task::ready!(body.poll_trailers(context));
                    let trailers = trailers.map_err(|error| broken(&error))?;
                    outcome(&trailers.unwrap_or_default())?;
                    return Poll::Ready(unframe(bytes.split().freeze()));
                }
            }
        }
    }
}

/// Whether a call went well.
fn outcome(headers: &HeaderMap) -> Result<(), Fault> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    match text("grpc-status") {
        Some("0") => Ok(()),
        Some(status) => {
            let why = text("grpc-message").unwrap_or("without a word");
            let why: String = why.chars().take(WORDS_MAX).collect();
            Err(Fault::closed(format!("gRPC status {status}: {why}")))
        }
        None => Err(Fault::Corrupt("an answer without a gRPC status".into())),
    }
}

/// The one message that an answer is.
fn unframe(mut bytes: Bytes) -> Result<Bytes, Fault> {
    if bytes.len() >= PREFIX_BYTES {
        let prefix = bytes.split_to(PREFIX_BYTES);
        let [is_compressed, count @ ..] = [prefix[0], prefix[1], prefix[2], prefix[3], prefix[4]];
        if is_compressed == 0 && u32::from_be_bytes(count) as usize == bytes.len() {
            return Ok(bytes);
        }
    }
    Err(Fault::Corrupt("an answer that is not one message".into()))
}

impl Asked {
    /// Whether it is the right answer, and what it tells.
    fn judge(self, message: &Bytes) -> Result<Option<Said>, Fault> {
        let bad = |error: prost::DecodeError| Fault::Corrupt(format!("{self:?}: {error}"));
        match self {
            Self::Put => PutResponse::decode(message.clone()).map(|_| None).map_err(bad),
            Self::Get { key } => {
                let found = RangeResponse::decode(message.clone()).map_err(bad)?;
                match &found.kvs[..] {
                    [only] if only.key == key_bytes(key)[..] && only.value == value(key) => Ok(None),
                    other => Err(Fault::Corrupt(format!("{self:?} was answered with {}", brief(other)))),
                }
            }
            Self::Whatever { key } => {
                let found = RangeResponse::decode(message.clone()).map_err(bad)?;
                match &found.kvs[..] {
                    [] => Ok(Some(Said::Value(None))),
                    [only] if only.key == key_bytes(key)[..] => Ok(Some(Said::Value(Some(only.value.clone())))),
                    other => Err(Fault::Corrupt(format!("{self:?} was answered with {}", brief(other)))),
                }
            }
            Self::Standing => {
                let status = StatusResponse::decode(message.clone()).map_err(bad)?;
                Ok(status.header.map(|header| {
                    Said::Standing(Standing {
                        member: header.member_id,
                        leader: status.leader,
                        term: header.raft_term,
                    })
                }))
            }
        }
    }
}

/// How many values an answer has and how the first begins: it may be as long as an answer gets.
fn brief(kvs: &[KeyValue]) -> String {
    let count = counted(kvs.len(), "value");
    let Some(first) = kvs.first() else {
        return count;
    };
    let cut = |bytes: &Bytes| match bytes.len() {
        ..=SHOWN_MAX => format!("{bytes:?}"),
        count => format!("{:?} and {} more bytes", bytes.slice(..SHOWN_MAX), count - SHOWN_MAX),
    };
    format!("{count}, the first of {} with {}", cut(&first.key), cut(&first.value))
}

/// Whether h2 wants to be asked again at once.
#[derive(Debug, Default)]
struct Again(AtomicBool);

impl Wake for Again {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What became of a socket's last calls.
#[derive(Debug, Default)]
struct Socket {
    /// It took less than it was given.
    is_full: Cell<bool>,
    /// Something came since somebody looked.
    received: Cell<bool>,
}

/// A socket that never waits.
#[derive(Debug)]
struct Stream {
    inner: TcpStream,
    socket: Rc<Socket>,
}

/// Nothing is there, and nobody is told when there is: its owner hears of that by an event.
fn pending<T>(outcome: io::Result<T>) -> Poll<io::Result<T>> {
    match outcome {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Poll::Pending,
        outcome => Poll::Ready(outcome),
    }
}

/// Does it again if a signal came.
fn persist<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = persist(|| self.inner.read(into.initialize_unfilled()));
        if let Ok(count) = read {
            self.socket.received.set(true);
            into.advance(count);
        }
        pending(read.map(drop))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = pending(persist(|| self.inner.write(bytes)));
        self.socket.is_full.set(written.is_pending());
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = pending(persist(|| self.inner.write_vectored(slices)));
        self.socket.is_full.set(written.is_pending());
        written
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(message: &impl Message) -> Bytes {
        let mut bytes = BytesMut::new();
        bytes.put_u8(0);
        bytes.put_u32(message.encoded_len() as u32);
        message.encode(&mut bytes).expect("memory takes it");
        bytes.freeze()
    }

    #[test]
    fn an_answer_is_one_message_or_corrupt() {
        let status = StatusResponse {
            header: Some(ResponseHeader {
                member_id: 7,
                raft_term: 3,
            }),
            leader: 8,
        };
        let whole = framed(&status);
        let standing = unframe(whole.clone()).and_then(|message| Asked::Standing.judge(&message));
        let (member, leader, term) = (7, 8, 3);
        assert_eq!(standing, Ok(Some(Said::Standing(Standing { member, leader, term }))));
        for bad in [
            &b""[..],
            &whole[..4],
            &whole[..whole.len() - 1],
            &[&whole[..], &[0]].concat(),
            &[&[1], &whole[1..]].concat(),
        ] {
            let outcome = unframe(Bytes::copy_from_slice(bad));
            assert!(matches!(outcome, Err(Fault::Corrupt(_))), "{bad:?}");
        }
    }

    #[test]
    fn a_value_that_is_not_the_key_s_is_corrupt() {
        let kv = |key: usize, of: usize| KeyValue {
            key: Bytes::copy_from_slice(&key_bytes(key)),
            value: Bytes::from_static(value(of)),
        };
        let judge = |kvs: Vec<KeyValue>| {
            let message = RangeResponse { kvs }.encode_to_vec();
            Asked::Get { key: 5 }.judge(&message.into())
        };
        assert_eq!(judge(vec![kv(5, 5)]), Ok(None));
        for kvs in [vec![], vec![kv(5, 6)], vec![kv(6, 5)], vec![kv(5, 5), kv(5, 5)]] {
            assert!(matches!(judge(kvs), Err(Fault::Corrupt(_))));
        }
        // Who asks for whatever there is has it, or that there is nothing; but of the key that was asked for.
        let whatever = |kvs: Vec<KeyValue>| {
            let message = RangeResponse { kvs }.encode_to_vec();
            Asked::Whatever { key: 5 }.judge(&message.into())
        };
        let other = Some(Bytes::from_static(value(6)));
        assert_eq!(whatever(vec![kv(5, 6)]), Ok(Some(Said::Value(other))));
        assert_eq!(whatever(vec![]), Ok(Some(Said::Value(None))));
        for kvs in [vec![kv(6, 5)], vec![kv(5, 5), kv(5, 5)]] {
            assert!(matches!(whatever(kvs), Err(Fault::Corrupt(_))));
        }
        // However much it is, not much is told of it.
        let long = KeyValue {
            key: Bytes::copy_from_slice(&key_bytes(5)),
            value: Bytes::from(vec![b'x'; MESSAGE_MAX / 2]),
        };
        let text = judge(vec![long; 2]).expect_err("it is another value").to_string();
        assert!(text.contains("was answered with 2 values, the first of "), "{text}");
        assert!(
            text.ends_with(&format!("x\" and {} more bytes", MESSAGE_MAX / 2 - SHOWN_MAX)),
            "{text}"
        );
        assert!(text.len() < 400, "{text}");
    }

    #[test]
    fn a_call_went_well_or_says_why_not() {
        let of = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(*name, value.parse().expect("it is plain"));
            }
            outcome(&headers)
        };
        assert_eq!(of(&[("grpc-status", "0")]), Ok(()));
        assert!(matches!(of(&[]), Err(Fault::Corrupt(_))));
        let refused = of(&[("grpc-status", "14"), ("grpc-message", "etcdserver: no leader")]);
        let text = refused.expect_err("it is not zero").to_string();
        assert_eq!(text, "broken: gRPC status 14: etcdserver: no leader");
    }
}
