//! One node of Raft among peers that say anything.
//!
//! Its disk is a model that loses what was not synced. Peers answer honestly now and then, so that it is elected,
//! commits, changes its members and takes snapshots; else they say what no honest node does. A peer that lies can break
//! what holds between nodes, and that is not looked at here: what holds within a node has to hold in front of any.

mod disk;
mod peers;
mod rig;

use std::time::Duration;

use arbitrary::{Result, Unstructured};
use kraft_core::id::{Incarnation, NodeId, Term};
use kraft_core::raft::{Config, term_after_damage};
use kraft_core::storage::HardState;

use self::disk::Disk;
use self::rig::Rig;
use crate::said;

/// What happens to the node in one input, at the most.
const EVENTS_MAX: usize = 200;

pub(crate) fn run(input: &[u8]) {
    let _ = try_run(&mut Unstructured::new(input));
}

fn try_run(u: &mut Unstructured<'_>) -> Result<()> {
    let config = config(u)?;
    let disk = disk(u, &config)?;
    let mut rig = Rig::start(config, disk, u.int_in_range(0..=2)? * 200);
    for _ in 0..EVENTS_MAX {
        if u.is_empty() {
            break;
        }
        happen(&mut rig, u)?;
    }
    Ok(())
}

fn config(u: &mut Unstructured<'_>) -> Result<Config> {
    let voters = (1..=*u.choose(&[3, 3, 1, 2, 5])?).map(NodeId).collect();
    let mut config = Config::new(NodeId(1), voters, u64::from(u.arbitrary::<u8>()?));
    if u.ratio(1, 12)? {
        // It waits to be told who the members are.
        config.voters.clear();
    }
    config.pre_vote = u.arbitrary()?;
    config.check_quorum = u.arbitrary()?;
    if config.check_quorum && u.arbitrary()? {
        config.lease_drift_max = Some(Duration::from_millis(20));
    }
    config.recovering = u.ratio(1, 8)?;
    config.append_entries_max = *u.choose(&[4096, 1, 3])?;
    config.append_bytes_max = *u.choose(&[256 << 10, 1, 40])?;
    config.inflight_messages_max = *u.choose(&[64, 1, 2])?;
    config.inflight_bytes_max = *u.choose(&[512 << 10, 1, 100])?;
    config.uncommitted_bytes_max = *u.choose(&[16 << 20, 1, 100])?;
    config.snapshot_margin_entries = *u.choose(&[0, 3, 100_000])?;
    config.snapshot_margin_bytes = *u.choose(&[0, 100, 32 << 20])?;
    config.snapshot_hold_room_min = *u.choose(&[0, 64 << 20, u64::MAX])?;
    config.reads_max = *u.choose(&[4096, 1, 2])?;
    Ok(config)
}

fn disk(u: &mut Unstructured<'_>, config: &Config) -> Result<Disk> {
    let mut term = 0;
    let mut terms = Vec::new();
    for _ in 0..u.int_in_range(0..=6)? {
        term += u64::from(terms.is_empty() || u.ratio(1, 3)?);
        terms.push(Term(term));
    }
    let hard = match config.recovering {
        true => term_after_damage(Term(term)),
        false => HardState {
            term: Term(term + u.int_in_range(0..=1)?),
            vote: NodeId(u.int_in_range(0..=3)?),
        },
    };
    Ok(Disk::new(hard, if config.recovering { &[] } else { &terms }))
}

fn happen(rig: &mut Rig, u: &mut Unstructured<'_>) -> Result<()> {
    match u.int_in_range(0..=31_u8)? {
        0..=7 => {
            let message = peers::lie(u, &rig.raft, &rig.disk)?;
            rig.step(&message);
        }
        8..=13 => {
            let at = usize::from(u.arbitrary::<u8>()?);
            rig.answer(at, u.ratio(1, 8)?);
        }
        14..=16 => rig.pass(Duration::from_millis(u.int_in_range(0..=400)?)),
        17..=19 => rig.sync(u.arbitrary()?),
        20 => rig.propose(u.int_in_range(1..=4)?, u.int_in_range(0..=60)?),
        21 => rig.read(),
        22 => rig.with(|raft, _, now| raft.unreachable(node(u), now)),
        23 => rig.with(|raft, _, now| raft.heard(node(u), now)),
        24 => {
            let change = said::change(u)?;
            let incarnation = Incarnation(u.int_in_range(0..=2)?);
            rig.change(&change, incarnation);
        }
        25 => {
            let change = peers::change(u)?;
            rig.change(&change, Incarnation(0));
        }
        26 => rig.transfer(node(u)),
        27 => rig.take_snapshot(),
        28 => rig.with(|raft, _, now| raft.snapshot_ended(node(u), now)),
        29 => {
            let room = *u.choose(&[u64::MAX, 0, 1 << 10, 9 << 10])?;
            rig.with(|raft, _, now| raft.room(room, now));
        }
        30 => rig.settle(),
        _ => rig.restart(u.arbitrary()?, u.arbitrary()?),
    }
    Ok(())
}

/// One of a few nodes, or nobody.
fn node(u: &mut Unstructured<'_>) -> NodeId {
    NodeId(u.int_in_range(0..=6).unwrap_or_default())
}
