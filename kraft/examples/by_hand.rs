//! Three nodes elect a leader by hand: no socket, no thread, no clock, nothing that happens by itself.
//!
//! Each node runs on a mock adapter with a network of its own, and whoever writes the test is what lies between them:
//! lets time pass, looks at what a node has sent, delivers it or does not. It prints every message:
//! `cargo run --example by_hand`.

use std::error::Error;
use std::time::Duration;

use bytes::BytesMut;
use kraft::adapter::{Endpoint, ListenOptions};
use kraft::adapters::mock::{Mock, Network, Remote};
use kraft::id::{ClusterId, GroupId, Incarnation, Index, NodeId};
use kraft::machine::{Refused, StateMachine};
use kraft::message::{Body, NodeState, Role};
use kraft::node::{Config, Done, Member, Node, Parts, Task};
use kraft::protocol::{Decoded, Limits};
use kraft::protocols::Binary;
use kraft::storage::{DiskLog, LogIdentity, MemFiles};
use kraft::time::Instant;
use kraft_core::storage::Work;

const LIMITS: Limits = Limits {
    frame_max: 4 << 20,
    entries_max: 4096,
};

fn main() -> Result<(), Box<dyn Error>> {
    // The nodes dial each other, on lines that the lab lays, and say hello.
    let mut lab = Lab::new(3)?;
    lab.lay_lines()?;
    while lab.deliver(|_, _| true)? {}

    // Time passes on node 1 alone. After an election timeout it asks the others whether they would vote for it.
    lab.advance(1, Duration::from_millis(300))?;
    assert_eq!(lab.state(1), NodeState::PreCandidate);
    assert_eq!(lab.count(|body| matches!(body, Body::Vote(vote) if vote.pre)), 2);

    // Node 3 is not told. Node 2 is, and says that it would.
    let without_3 = |from, to| from != 3 && to != 3;
    lab.deliver(without_3)?;
    assert_eq!(
        lab.count(|body| matches!(body, Body::VoteReply(reply) if reply.pre && reply.granted)),
        1
    );
    lab.deliver(without_3)?;
    assert_eq!(lab.state(1), NodeState::Candidate);

    // The vote itself: asked for, given, and with node 1's own two of three.
    lab.deliver(without_3)?;
    lab.deliver(without_3)?;
    assert_eq!(lab.state(1), NodeState::Leader);
    assert_eq!(lab.leaders(), [1, 0, 0]);

    // What was held back comes late, the leader's first entry among it: the others hear who leads.
    while lab.deliver(|_, _| true)? {}
    assert_eq!(lab.leaders(), [1, 1, 1]);
    println!("node 1 leads, and everybody knows");
    Ok(())
}

/// Nodes, and what lies between them.
struct Lab {
    sites: Vec<Site>,
    lines: Vec<Line>,
}

/// A node with a network of its own.
struct Site {
    network: Network,
    listens: Endpoint,
    node: Node<Mock, Binary, DiskLog<MemFiles>, Nothing>,
}

/// A connection, both ends in the lab's hands, with what was sent and not delivered in each direction.
struct Line {
    ends: [(u64, Remote); 2],
    held: [Vec<u8>; 2],
}

impl Lab {
    fn new(count: u64) -> Result<Self, Box<dyn Error>> {
        let sites = (1..=count).map(|id| Site::new(id, count)).collect::<Result<_, _>>()?;
        Ok(Self {
            sites,
            lines: Vec::new(),
        })
    }

    fn site(&mut self, id: u64) -> &mut Site {
        &mut self.sites[id as usize - 1]
    }

    fn state(&self, id: u64) -> NodeState {
        self.sites[id as usize - 1].node.status().state
    }

    /// Whom each node believes to lead.
    fn leaders(&self) -> Vec<u64> {
        self.sites.iter().map(|site| site.node.status().leader.0).collect()
    }

    /// Lets time pass for one node.
    fn advance(&mut self, id: u64, span: Duration) -> Result<(), Box<dyn Error>> {
        let site = self.site(id);
        site.network.move_to(site.network.now() + span);
        self.turn()
    }

    /// Takes every connect that waits for somebody to accept it, and dials for it whom it meant.
    fn lay_lines(&mut self) -> Result<(), Box<dyn Error>> {
        self.turn()?;
        for id in 1..=self.sites.len() as u64 {
            while let Some(dialler) = self.site(id).network.dialled() {
                dialler.accept();
                let peer = (1..=3).find(|peer| dialler.endpoint() == Some(address(*peer)));
                let peer = peer.ok_or("a node dialled an address that was not given to it")?;
                let site = self.site(peer);
                let dialled = site.network.dial(&site.listens)?;
                self.lines.push(Line {
                    ends: [(id, dialler), (peer, dialled)],
                    held: Default::default(),
                });
            }
        }
        self.turn()
    }

    /// Delivers what was sent until now, where `lets` lets it. Whether there was anything.
    fn deliver(&mut self, lets: impl Fn(u64, u64) -> bool) -> Result<bool, Box<dyn Error>> {
        let mut delivered = false;
        for Line { ends, held } in &mut self.lines {
            for (from, to) in [(0, 1), (1, 0)] {
                if !held[from].is_empty() && lets(ends[from].0, ends[to].0) {
                    for body in bodies(&held[from]) {
                        println!("{} -> {}: {body:?}", ends[from].0, ends[to].0);
                    }
                    ends[to].1.send(&held[from]);
                    held[from].clear();
                    delivered = true;
                }
            }
        }
        self.turn()?;
        Ok(delivered)
    }

    /// How many messages of a kind were sent and not delivered.
    fn count(&self, is: impl Fn(&Body<'_>) -> bool) -> usize {
        let held = self.lines.iter().flat_map(|line| &line.held);
        held.map(|bytes| bodies(bytes).iter().filter(|body| is(body)).count())
            .sum()
    }

    /// Lets every node do what it can do without time or messages.
    fn turn(&mut self) -> Result<(), Box<dyn Error>> {
        for site in &mut self.sites {
            site.turn()?;
        }
        for Line { ends, held } in &mut self.lines {
            for (end, held) in ends.iter().zip(held) {
                held.extend(end.1.received());
            }
        }
        Ok(())
    }
}

impl Site {
    fn new(id: u64, count: u64) -> Result<Self, Box<dyn Error>> {
        let network = Network::by_hand();
        let adapter = network.open(network.add_host(), &Default::default())?;
        let listens = Endpoint::Tcp(adapter.host().address(7000));
        let member = |id| Member {
            node: NodeId(id),
            address: format!("node-{id}:7000"),
            incarnation: None,
        };
        let members = (1..=count).map(member).collect();
        let log = LogIdentity {
            cluster: ClusterId::from_name("lab"),
            node: NodeId(id),
            incarnation: Incarnation(id),
            group: GroupId(0),
        };
        let (storage, recovered) = DiskLog::open(MemFiles::new(), log, Default::default())?;
        let parts = Parts {
            adapter,
            protocol: Binary,
            storage,
            recovered,
            machine: Nothing,
        };
        let config = Config::new("lab", NodeId(id), Incarnation(id), members, id);
        let mut node = Node::open(config, parts, |_| ())?;
        node.listen(Role::Peer, &listens, ListenOptions::default())?;
        Ok(Self { network, listens, node })
    }

    /// Turns the node until it has nothing more to do; its blocking work is done here, at once.
    fn turn(&mut self) -> Result<(), Box<dyn Error>> {
        loop {
            self.node.turn(Some(Instant::ZERO))?;
            let Some(task) = self.node.next_task() else {
                return Ok(());
            };
            self.node.complete(match task {
                Task::Storage(work) => Done::Storage(work.run()),
                Task::Snapshot(work) => Done::Snapshot(work.run()),
                Task::Resolve { node, .. } => Done::Resolved {
                    node,
                    addresses: Ok(vec![address(node.0)]),
                },
                Task::Remember { node, incarnation } => Done::Remembered {
                    node,
                    incarnation,
                    result: Ok(()),
                },
                Task::ForgetDamage => Done::DamageForgotten(Ok(())),
            })?;
            self.node.settle()?;
        }
    }
}

/// What the name of a node resolves to: an address at which nobody listens, so that the lab gets the connect.
fn address(id: u64) -> Endpoint {
    Endpoint::Tcp(([192, 0, 2, id as u8], 7000).into())
}

/// The messages in some bytes.
fn bodies(mut bytes: &[u8]) -> Vec<Body<'_>> {
    let mut bodies = Vec::new();
    while let Ok(Decoded::Message { message, consumed }) = Binary.decode(bytes, &LIMITS) {
        bodies.push(message.body);
        bytes = &bytes[consumed..];
    }
    bodies
}

/// A state machine without a state.
struct Nothing;

impl StateMachine for Nothing {
    type Image = [u8; 0];

    fn apply(&mut self, _: Index, _: &[u8], _: &mut BytesMut) {}

    fn read(&self, _: &[u8], _: &mut BytesMut) -> Result<(), Refused> {
        Ok(())
    }

    fn image(&self) -> [u8; 0] {
        []
    }

    fn restore(&mut self, image: [u8; 0]) -> [u8; 0] {
        image
    }

    fn digest(&self) -> u64 {
        0
    }
}

#[test]
fn three_nodes_elect_a_leader_by_hand() {
    main().expect("every assertion is in there");
}
