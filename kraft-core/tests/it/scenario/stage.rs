//! Nodes to which nothing happens but what a command says.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;
use std::time::Duration;

use bytes::Bytes;
use kraft_core::id::{Index, NodeId, RequestId, SyncId, Term};
use kraft_core::laws::{Laws, View};
use kraft_core::log::{Log, Proposal};
use kraft_core::message::{Entry, EntryKind, NodeState};
use kraft_core::raft::{Config, Output, Raft};
use kraft_core::storage::HardState;
use kraft_core::time::Instant;

use super::words::{self, Words};
use crate::cluster::{DRAIN_MAX, Node, Wire, owned};
use crate::disk::{Disk, Image};

/// Bytes of the log that a node keeps in memory.
const MEMORY: u64 = 1 << 20;

/// More steps than any scenario takes to come to rest.
const SETTLE_MAX: usize = 1_000;

/// More deadlines than pass until a node campaigns.
const TICKS_MAX: usize = 1_000;

#[derive(Default)]
pub(super) struct Stage {
    nodes: Vec<Node>,
    /// The time of each node.
    clocks: Vec<Instant>,
    /// Of each node: syncs that were asked for and did not end.
    syncs: Vec<VecDeque<SyncId>>,
    /// What is under way, by sender and receiver.
    links: BTreeMap<(u64, u64), VecDeque<Wire>>,
    laws: Option<Laws>,
    words: Words,
    /// Reads that wait: what was committed when they began.
    reads: BTreeMap<RequestId, Index>,
    reads_begun: u64,
    said: String,
}

/// Where the things of a node stand.
fn at(id: u64) -> usize {
    id as usize - 1
}

type Done = Result<(), String>;

fn number(word: &str) -> Result<u64, String> {
    word.parse().map_err(|_| format!("`{word}` is no number"))
}

impl Stage {
    /// Does what a line says. What came of it; or what is wrong with the line, or which law does not hold.
    pub(super) fn command(&mut self, line: &str) -> Result<String, String> {
        self.said.clear();
        let words: Vec<_> = line.split_whitespace().collect();
        let (is_quiet, words) = match words.as_slice() {
            ["quietly", rest @ ..] => (true, rest),
            all => (false, all),
        };
        self.act(words)?;
        if self.said.is_empty() {
            self.said.push_str("nothing\n");
        }
        self.check_laws()?;
        Ok(if is_quiet {
            "ok\n".to_owned()
        } else {
            std::mem::take(&mut self.said)
        })
    }

    fn act(&mut self, words: &[&str]) -> Done {
        if let ["nodes", count, options @ ..] = words {
            return self.set_up(number(count)?, options);
        }
        if self.nodes.is_empty() {
            return Err("no nodes yet".into());
        }
        match words {
            ["log", id, term, terms @ ..] => self.set_log(self.id(id)?, term, terms),
            ["campaign", id] => self.campaign(self.id(id)?),
            ["tick", id, time] => {
                let millis = time.strip_suffix("ms").and_then(|digits| digits.parse().ok());
                let millis = millis.ok_or_else(|| format!("`{time}` is no time, like 200ms"))?;
                self.pass(self.id(id)?, Duration::from_millis(millis))
            }
            ["propose", id, commands @ ..] if !commands.is_empty() => self.propose(self.id(id)?, commands),
            ["read", id] => self.read(self.id(id)?),
            ["transfer", id] => self.transfer(self.id(id)?, NodeId::NONE),
            ["transfer", id, to] => self.transfer(self.id(id)?, NodeId(self.id(to)?)),
            ["deliver", link, which @ ..] => {
                for wire in self.take(link, which)? {
                    self.deliver(wire)?;
                }
                Ok(())
            }
            ["drop", link, which @ ..] => {
                for wire in self.take(link, which)? {
                    let message = self.words.message(&wire);
                    self.say(&format!("lost: {message}"));
                }
                Ok(())
            }
            ["repeat", link, which] => self.repeat(link, which),
            ["break", a, b] => self.break_off(self.id(a)?, self.id(b)?),
            ["sync", id, count @ ..] => self.sync(self.id(id)?, count),
            ["crash", id] => self.crash(self.id(id)?),
            ["restart", id] => self.restart(self.id(id)?),
            ["settle", ids @ ..] => self.settle(ids),
            ["status", ids @ ..] => self.status(ids),
            _ => Err("no such command, or not with these words".into()),
        }
    }

    fn say(&mut self, line: &str) {
        writeln!(self.said, "{line}").expect("a string takes all");
    }

    fn id(&self, word: &str) -> Result<u64, String> {
        let id = word
            .parse()
            .ok()
            .filter(|id| (1..=self.nodes.len() as u64).contains(id));
        id.ok_or_else(|| format!("there is no node `{word}`"))
    }

    fn ids(&self, words: &[&str]) -> Result<Vec<u64>, String> {
        match words {
            [] => Ok((1..=self.nodes.len() as u64).collect()),
            words => words.iter().map(|word| self.id(word)).collect(),
        }
    }

    fn node(&self, id: u64) -> &Node {
        &self.nodes[at(id)]
    }

    fn check_laws(&mut self) -> Done {
        match &mut self.laws {
            Some(laws) => laws.check(&self.nodes).map_err(|broken| broken.to_string()),
            None => Ok(()),
        }
    }

    fn set_up(&mut self, count: u64, options: &[&str]) -> Done {
        if !self.nodes.is_empty() {
            return Err("there are nodes already".into());
        }
        let voters: Vec<_> = (1..=count).map(NodeId).collect();
        for id in &voters {
            let mut config = Config::new(*id, voters.clone(), 1);
            for option in options {
                match *option {
                    "pre-vote=off" => config.pre_vote = false,
                    "check-quorum=off" => config.check_quorum = false,
                    other => return Err(format!("`{other}` is no option")),
                }
            }
            let mut node = Node::new(config, Disk::default());
            node.start(Instant::ZERO, MEMORY);
            self.nodes.push(node);
            self.clocks.push(Instant::ZERO);
            self.syncs.push(VecDeque::new());
        }
        self.laws = Some(Laws::new(voters.len()));
        self.say("ok");
        Ok(())
    }

    fn set_log(&mut self, id: u64, term: &str, terms: &[&str]) -> Done {
        let term = term.strip_prefix("term=").ok_or("the term is missing: `term=3`")?;
        let hard = HardState {
            term: Term(number(term)?),
            vote: NodeId::NONE,
        };
        let mut image = Image {
            hard,
            ..Image::default()
        };
        for (at, word) in terms.iter().enumerate() {
            let term = Term(number(word)?);
            image.log.push(Entry {
                term,
                kind: EntryKind::Command,
                crc: 0,
                // The same place in the same term has the same entry everywhere.
                payload: Bytes::from(format!("old{}", at + 1)),
            });
        }
        let mut disk = Disk::default();
        (disk.durable, disk.written) = (image.clone(), image);
        let node = &mut self.nodes[at(id)];
        *node = Node::new(node.config.clone(), disk);
        node.start(Instant::ZERO, MEMORY);
        self.drain(id)?;
        self.status(&[&id.to_string()])
    }

    /// Gives an input to a node that is up, and does what the node then asks for.
    fn input<T>(&mut self, id: u64, act: impl FnOnce(&mut Node, Instant) -> T) -> Result<T, String> {
        let node = &mut self.nodes[at(id)];
        if !node.is_up() {
            return Err(format!("node {id} is down"));
        }
        let result = act(node, self.clocks[at(id)]);
        self.drain(id)?;
        Ok(result)
    }

    fn deadline(&self, id: u64) -> Result<Instant, String> {
        let deadline = self.node(id).raft.as_ref().and_then(Raft::deadline);
        deadline.ok_or_else(|| format!("node {id} is down"))
    }

    /// Time passes up to the next thing that a node waits for.
    fn tick(&mut self, id: u64) -> Done {
        self.clocks[at(id)] = self.clocks[at(id)].max(self.deadline(id)?);
        self.input(id, |node, now| {
            if let Some(raft) = &mut node.raft {
                raft.tick(now, &mut node.tail);
            }
        })?;
        match self.deadline(id)? > self.clocks[at(id)] {
            true => Ok(()),
            false => Err(format!("a deadline of node {id} in the past would spin")),
        }
    }

    fn pass(&mut self, id: u64, time: Duration) -> Done {
        let end = self.clocks[at(id)] + time;
        while self.deadline(id)? <= end {
            self.tick(id)?;
        }
        self.clocks[at(id)] = end;
        Ok(())
    }

    fn campaign(&mut self, id: u64) -> Done {
        if self.node(id).status().state == NodeState::Leader {
            return Err(format!("node {id} leads"));
        }
        for _ in 0..TICKS_MAX {
            self.tick(id)?;
            if self.node(id).status().state != NodeState::Follower {
                return Ok(());
            }
        }
        Err(format!("node {id} does not campaign"))
    }

    fn propose(&mut self, id: u64, commands: &[&str]) -> Done {
        let proposals: Vec<_> = commands
            .iter()
            .map(|command| Proposal {
                kind: EntryKind::Command,
                crc: 0,
                payload: Bytes::copy_from_slice(command.as_bytes()),
            })
            .collect();
        let bytes = proposals.iter().map(|proposal| proposal.payload.len() as u64).sum();
        let result = self.input(id, |node, now| {
            let raft = node.raft.as_mut()?;
            Some(raft.propose(&mut proposals.into_iter(), bytes, now, &mut node.tail))
        })?;
        if let Some(Err(refusal)) = result {
            self.say(&format!("{id} refuses: {refusal:?}"));
        }
        Ok(())
    }

    fn read(&mut self, id: u64) -> Done {
        self.reads_begun += 1;
        let request = RequestId(self.reads_begun);
        let began = self.laws.as_ref().map_or(Index::ZERO, Laws::read_began);
        self.reads.insert(request, began);
        let result = self.input(id, |node, now| Some(node.raft.as_mut()?.read(request, now)))?;
        if let Some(Err(refusal)) = result {
            self.reads.remove(&request);
            self.say(&format!("{id} refuses read {request}: {refusal:?}"));
        }
        Ok(())
    }

    fn transfer(&mut self, id: u64, to: NodeId) -> Done {
        let result = self.input(id, |node, now| Some(node.raft.as_mut()?.transfer(to, now)))?;
        if let Some(Err(refusal)) = result {
            self.say(&format!("{id} refuses: {refusal:?}"));
        }
        Ok(())
    }

    fn link(&self, word: &str) -> Result<(u64, u64), String> {
        let (from, to) = word
            .split_once("->")
            .ok_or_else(|| format!("`{word}` is no link, like 1->2"))?;
        Ok((self.id(from)?, self.id(to)?))
    }

    /// What `which` means of what is under way on a link: where, and how many.
    fn chosen(&self, link: (u64, u64), which: &[&str]) -> Result<(usize, usize), String> {
        let count = self.links.get(&link).map_or(0, VecDeque::len);
        let (first, chosen) = match which {
            [] => (0, count),
            [word] => match word.strip_prefix('#') {
                Some(place) => (number(place)?.saturating_sub(1) as usize, 1),
                None => (0, number(word)? as usize),
            },
            _ => return Err("one place, or one count".into()),
        };
        if first + chosen > count {
            return Err(format!("{count} are under way"));
        }
        Ok((first, chosen))
    }

    fn take(&mut self, link: &str, which: &[&str]) -> Result<Vec<Wire>, String> {
        let link = self.link(link)?;
        let (first, chosen) = self.chosen(link, which)?;
        let queue = self.links.entry(link).or_default();
        Ok(queue.drain(first..first + chosen).collect())
    }

    fn repeat(&mut self, link: &str, which: &str) -> Done {
        let link = self.link(link)?;
        let (first, chosen) = self.chosen(link, &[which])?;
        let queue = self.links.entry(link).or_default();
        let copies: Vec<_> = queue.range(first..first + chosen).cloned().collect();
        queue.extend(copies.iter().cloned());
        for wire in copies {
            let message = self.words.message(&wire);
            self.say(&format!("again: {message}"));
        }
        Ok(())
    }

    fn deliver(&mut self, wire: Wire) -> Done {
        let message = self.words.message(&wire);
        self.say(&format!("> {message}"));
        let to = wire.to.0;
        if !self.node(to).is_up() {
            self.say(&format!("  {to} is down"));
            return Ok(());
        }
        let begin = self.said.len();
        let result = self.input(to, |node, now| {
            let raft = node.raft.as_mut()?;
            Some(raft.step(&wire.message(), now, &mut node.tail))
        })?;
        if let Some(Err(violation)) = result {
            self.say(&format!("{to} ends the connection: {violation:?}"));
        }
        // What it brings about stands below it.
        let brought = self.said.split_off(begin);
        for line in brought.lines() {
            self.say(&format!("  {line}"));
        }
        Ok(())
    }

    fn break_off(&mut self, a: u64, b: u64) -> Done {
        self.links.remove(&(a, b));
        self.links.remove(&(b, a));
        for (id, other) in [(a, b), (b, a)] {
            if self.node(id).is_up() {
                self.input(id, |node, now| {
                    if let Some(raft) = &mut node.raft {
                        raft.unreachable(NodeId(other), now);
                    }
                })?;
            }
        }
        Ok(())
    }

    fn sync(&mut self, id: u64, count: &[&str]) -> Done {
        let asked = self.syncs[at(id)].len();
        let count = match count {
            [] => asked,
            [word] => number(word)? as usize,
            _ => return Err("one count".into()),
        };
        if count > asked {
            return Err(format!("{asked} are under way"));
        }
        for _ in 0..count {
            let Some(sync) = self.syncs[at(id)].pop_front() else {
                break;
            };
            self.nodes[at(id)].disk.synced(sync);
            self.say(&format!("{id} has sync {}", sync.0));
            self.input(id, |node, now| {
                if let Some(raft) = &mut node.raft {
                    raft.synced(sync, now, &mut node.tail);
                }
            })?;
        }
        Ok(())
    }

    fn crash(&mut self, id: u64) -> Done {
        let node = &mut self.nodes[at(id)];
        node.stop();
        node.disk.lose();
        self.syncs[at(id)].clear();
        for other in 1..=self.nodes.len() as u64 {
            if other != id {
                self.break_off(id, other)?;
            }
        }
        Ok(())
    }

    fn restart(&mut self, id: u64) -> Done {
        let node = &mut self.nodes[at(id)];
        if node.is_up() {
            return Err(format!("node {id} is up"));
        }
        node.run += 1;
        node.config.seed += 1 << 32;
        node.start(self.clocks[at(id)], MEMORY);
        self.drain(id)?;
        self.status(&[&id.to_string()])
    }

    fn settle(&mut self, words: &[&str]) -> Done {
        let ids = self.ids(words)?;
        for _ in 0..SETTLE_MAX {
            let mut is_quiet = true;
            for id in ids.clone() {
                if !self.syncs[at(id)].is_empty() {
                    is_quiet = false;
                    self.sync(id, &[])?;
                }
            }
            let mut links: Vec<_> = self.links.keys().copied().collect();
            links.retain(|(from, to)| ids.contains(from) && ids.contains(to));
            for (from, to) in links {
                for wire in self.take(&format!("{from}->{to}"), &[])? {
                    is_quiet = false;
                    self.deliver(wire)?;
                }
            }
            if is_quiet {
                return Ok(());
            }
        }
        Err(format!("not at rest after {SETTLE_MAX} rounds"))
    }

    fn status(&mut self, words: &[&str]) -> Done {
        for id in self.ids(words)? {
            let node = self.node(id);
            let status = words::status(&node.status(), &node.disk.written.log);
            let of_others: Vec<_> = (1..=self.nodes.len() as u64)
                .filter(|other| *other != id)
                .map(|other| {
                    let matched = node.raft.as_ref().map(|raft| raft.progress(NodeId(other)).0);
                    format!("{other} up to {}", matched.unwrap_or_default())
                })
                .collect();
            let of_others = match node.status().state == NodeState::Leader && node.is_up() {
                true => format!("; matches {}", of_others.join(", ")),
                false => String::new(),
            };
            let down = if node.is_up() { "" } else { "is down, " };
            self.say(&format!("{id} {down}{status}{of_others}"));
        }
        Ok(())
    }

    /// Does what a node asks for, and says so.
    fn drain(&mut self, id: u64) -> Done {
        for _ in 0..DRAIN_MAX {
            let node = &mut self.nodes[at(id)];
            let Some(output) = node.raft.as_mut().and_then(|raft| raft.poll_output(&node.tail)) else {
                return Ok(());
            };
            self.perform(id, output)?;
        }
        Err(format!("what node {id} asks for never ends"))
    }

    fn perform(&mut self, id: u64, output: Output) -> Done {
        let node = &mut self.nodes[at(id)];
        let line = match output {
            Output::Save(hard) => {
                node.disk.save(hard);
                let vote = if hard.vote.is_some() {
                    format!("vote {}", hard.vote)
                } else {
                    "no vote".into()
                };
                format!("{id} saves term {}, {vote}", hard.term.0)
            }
            Output::Append(range) => {
                let entries: Vec<_> = node.tail.entries(range.clone()).iter().map(owned).collect();
                let line = format!("{id} writes {}", words::entries(range.start, &entries));
                node.disk.append(range.start, entries);
                line
            }
            Output::Truncate(from) => {
                node.disk.truncate(from);
                format!("{id} cuts its log from {from} on")
            }
            Output::Sync(sync) => {
                node.disk.sync(sync);
                self.syncs[at(id)].push_back(sync);
                format!("{id} asks for sync {}", sync.0)
            }
            Output::Send { .. } => {
                let wire = Wire::new(NodeId(id), output, &node.tail);
                if let Some(laws) = &self.laws {
                    laws.sent(node, wire.to, wire.header.term, &wire.body)
                        .map_err(|broken| broken.to_string())?;
                }
                let line = self.words.message(&wire);
                self.links.entry((id, wire.to.0)).or_default().push_back(wire);
                line
            }
            Output::Load(range) => {
                let log = &node.disk.written.log;
                let entries = log[range.start.0 as usize - 1..range.end.0 as usize - 1].to_vec();
                let line = format!("{id} reads {}", words::entries(range.start, &entries));
                node.tail.restore(range.start, entries);
                if let Some(raft) = &mut node.raft {
                    raft.loaded(range, &mut node.tail);
                }
                line
            }
            Output::Apply(range) => {
                let entries: Vec<_> = node.tail.entries(range.clone()).iter().map(owned).collect();
                if let Some(raft) = &mut node.raft {
                    raft.applied(range.end.prev(), &mut node.tail);
                }
                format!("{id} applies {}", words::entries(range.start, &entries))
            }
            Output::ReadAt { request, result } => {
                let began = self.reads.remove(&request).ok_or("a read is answered twice")?;
                match result {
                    Ok(index) => {
                        if let Some(laws) = &self.laws {
                            laws.read_answered(began, index).map_err(|broken| broken.to_string())?;
                        }
                        format!("{id} answers read {request} at {index}")
                    }
                    Err(refusal) => format!("{id} refuses read {request}: {refusal:?}"),
                }
            }
            Output::Members { in_force, committed } => {
                format!("{id} members in force {in_force} committed {committed}")
            }
            Output::Transferred { to, result } => match result {
                Ok(leader) => format!("{id} has handed over, {leader} leads"),
                Err(refusal) => format!("{id} has not handed over to {to}: {refusal:?}"),
            },
            Output::Reset { .. } | Output::Release(_) | Output::SendSnapshot { .. } | Output::Restore(_) => {
                return Err(format!("{id} {output:?}: no command takes a snapshot"));
            }
            Output::Recovered => return Err(format!("{id} {output:?}: no command damages a log")),
            Output::Role { state, term, leader } => format!("{id} {}", words::role(state, term, leader)),
        };
        self.say(&line);
        Ok(())
    }
}
