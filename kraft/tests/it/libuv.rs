//! A node and its client in a libuv loop that a program of one's own runs.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kraft::adapter::{Endpoint, ListenOptions};
use kraft::adapters::{LibuvGuest, UvLoop};
use kraft::id::{ClusterId, GroupId, Incarnation, Index, NodeId};
use kraft::machine::{Refused, StateMachine};
use kraft::message::Role;
use kraft::node::{Config, Member, Node, Parts};
use kraft::protocols::Binary;
use kraft::server::Server;
use kraft::storage::{self, DiskLog, LogIdentity, MemFiles};
use kraft::time::Instant;
use kraft_core::client::{self, Client, Delivery, End, Outcome, Request, Runner};

/// Adds up the lengths of its commands.
struct Lengths(u64);

impl StateMachine for Lengths {
    type Image = [u8; 8];

    fn apply(&mut self, _: Index, command: &[u8], reply: &mut BytesMut) {
        self.0 += command.len() as u64;
        reply.put_u64_le(self.0);
    }

    fn read(&self, _: &[u8], reply: &mut BytesMut) -> Result<(), Refused> {
        reply.put_u64_le(self.0);
        Ok(())
    }

    fn image(&self) -> [u8; 8] {
        self.0.to_le_bytes()
    }

    fn restore(&mut self, image: [u8; 8]) -> [u8; 8] {
        std::mem::replace(&mut self.0, u64::from_le_bytes(image)).to_le_bytes()
    }

    fn digest(&self) -> u64 {
        self.0
    }
}

type Alone = Server<LibuvGuest, Binary, DiskLog<MemFiles>, Lengths>;

/// What lives in the loop: each is turned by a closure that the loop calls.
type Slot<T> = Rc<RefCell<Option<T>>>;

/// A node of a cluster of one in the loop, and where its clients find it.
fn node_in(uv: &UvLoop) -> (Slot<Alone>, Endpoint) {
    let slot = Slot::<Alone>::default();
    let seen = Rc::downgrade(&slot);
    let on_ready = move || {
        let slot = seen.upgrade()?;
        let mut server = slot.borrow_mut();
        server.as_mut()?.turn(Some(Instant::ZERO)).expect("the node works");
        if server.as_ref()?.is_stopped() {
            // With its last handle the loop ends.
            *server = None;
        }
        // Elections and heartbeats are deadlines of the node's, which no socket tells of.
        Some(server.as_mut()?.next_wait())
    };
    let adapter = LibuvGuest::in_loop(uv, &Default::default(), on_ready).expect("a descriptor is free");
    let (cluster, node, incarnation) = ("alone", NodeId(1), Incarnation(7));
    let log = LogIdentity {
        cluster: ClusterId::from_name(cluster),
        node,
        incarnation,
        group: GroupId(0),
    };
    let (storage, recovered) = DiskLog::open(MemFiles::new(), log, storage::Config::default()).expect("an empty log");
    let parts = Parts {
        adapter,
        protocol: Binary,
        storage,
        recovered,
        machine: Lengths(0),
    };
    let member = Member {
        node,
        address: "127.0.0.1:1".to_owned(),
        incarnation: Some(incarnation),
    };
    let config = Config::new(cluster, node, incarnation, vec![member], 7);
    let node = Node::open(config, parts, |_| {}).expect("it is valid");
    let mut server = Server::new(node, |_, _| Ok(()));
    let any = Endpoint::Tcp(([127, 0, 0, 1], 0).into());
    let at = server.listen(Role::Client, &any, ListenOptions::default());
    *slot.borrow_mut() = Some(server);
    (slot, at.expect("a port is free"))
}

/// A client of the node in the same loop. It asks one thing after the other, keeps the answers, and goes.
fn client_in(
    uv: &UvLoop,
    at: Endpoint,
    requests: Vec<Request>,
    mut on_end: impl FnMut(Vec<Bytes>) + 'static,
) -> Slot<Runner<LibuvGuest, Binary>> {
    let slot = Slot::<Runner<LibuvGuest, Binary>>::default();
    let seen = Rc::downgrade(&slot);
    let mut requests = requests.into_iter();
    let mut answers = Vec::new();
    let on_ready = move || {
        let slot = seen.upgrade()?;
        let mut borrowed = slot.borrow_mut();
        let runner = borrowed.as_mut()?;
        runner.turn(Some(Instant::ZERO)).expect("the adapter works");
        while let Some((_, end)) = runner.poll_done() {
            let End::Outcome(Outcome::Committed(answer)) = end else {
                panic!("{end:?}")
            };
            answers.push(answer);
        }
        if runner.client().unanswered() == 0 {
            let Some(request) = requests.next() else {
                on_end(std::mem::take(&mut answers));
                *borrowed = None;
                return None;
            };
            runner.call(request).expect("one at a time");
            return Some(Duration::ZERO);
        }
        let now = runner.now();
        runner.next_deadline().map(|deadline| deadline - now)
    };
    let adapter = LibuvGuest::in_loop(uv, &Default::default(), on_ready).expect("a descriptor is free");
    let config = client::Config {
        request_timeout: Duration::from_secs(10),
        ..client::Config::default()
    };
    *slot.borrow_mut() = Some(Runner::new(Client::new(config, [at]), adapter, Binary));
    slot
}

#[test]
fn a_node_and_a_client_live_in_a_libuv_loop() {
    let uv = UvLoop::open().expect("a descriptor is free");
    let (server, at) = node_in(&uv);
    let handle = server.borrow().as_ref().expect("it was just put there").handle();
    let commands = (1..=20).map(|length| Request::command(vec![0; length].into(), Delivery::ExactlyOnce));
    let read = Request::read(Bytes::new());
    let answers = Rc::new(RefCell::new(Vec::new()));
    let kept = Rc::clone(&answers);
    let client = client_in(&uv, at, commands.chain([read]).collect(), move |answers| {
        *kept.borrow_mut() = answers;
        handle.stop();
    });

    assert!(!uv.run(), "it ends when the node has taken leave");
    assert!(client.borrow().is_none() && server.borrow().is_none());
    let answers: Vec<u64> = answers
        .take()
        .into_iter()
        .map(|answer| u64::from_le_bytes(answer.as_ref().try_into().expect("a number")))
        .collect();
    let sums = (1..=20).map(|length| length * (length + 1) / 2);
    assert_eq!(answers, sums.chain([210]).collect::<Vec<_>>());
}
