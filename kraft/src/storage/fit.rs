//! Fits a log to the newest snapshot.
//!
//! A snapshot is durable before the log gives up what is in it, and before the log begins anew behind one that was
//! received. So a crash leaves a log that reaches down to the snapshot; or one that ends before it, or has entries there
//! that were never committed, if it was received: the log is to begin anew then. Anything else is damage.

use kraft_core::id::{Index, NodeId};
use kraft_core::snapshot::Head;
use kraft_core::storage::{HardState, Recovered};

use super::files::Files;
use super::format::{LogIdentity, Position, segment_name};
use super::ledger::{Contradiction, Ledger};
use super::snapshots::format::{Flaw, Owner};
use super::snapshots::{FOLDER, Finding, find_in};
use super::survey::{Damage, DamageKind, OpenError, Survey, damage, survey};

/// What a node begins from.
#[derive(Debug)]
pub(crate) struct Fitted<F> {
    pub(crate) survey: Survey<F>,
    pub(crate) finding: Finding,
}

impl<F> Fitted<F> {
    /// What a node begins from.
    pub(crate) fn recovered(&self) -> Recovered {
        Recovered {
            snapshot: self.finding.newest.clone(),
            memberships: self.survey.memberships.clone(),
            ..self.survey.ledger.recovered()
        }
    }
}

/// Reads snapshots and log, without touching them. `small_bytes` is as for [`survey`].
pub(crate) fn read<F: Files>(
    files: &F,
    identity: &LogIdentity,
    small_bytes: u32,
) -> Result<Fitted<F::File>, OpenError> {
    let finding = find_in(files, owner(identity))?;
    if let Some((name, _, (offset, flaw))) = finding.of_another_version() {
        return Err(snapshot_damage(files, name, *offset, *flaw).into());
    }
    let released = finding.newest.as_ref().map_or(Index::ZERO, |newest| newest.id.index);
    let mut survey =
        survey(files, identity, released, small_bytes).map_err(|error| blame(files, identity, &finding, error))?;
    if let Some(newest) = &finding.newest {
        fit(files, &mut survey, &newest.head)?;
    }
    survey.memberships.retain(|(index, _)| *index > released);
    Ok(Fitted { survey, finding })
}

/// Whose snapshots belong to a log.
pub(crate) const fn owner(identity: &LogIdentity) -> Owner {
    Owner {
        cluster: identity.cluster,
        group: identity.group,
    }
}

/// Says so if a damaged snapshot is all that the log lacks.
fn blame<F: Files>(files: &F, identity: &LogIdentity, finding: &Finding, error: OpenError) -> OpenError {
    let OpenError::Damaged(Damage { kind, .. }) = &error else {
        return error;
    };
    if !matches!(
        kind,
        DamageKind::Front(_) | DamageKind::Gap { .. } | DamageKind::Missing | DamageKind::Header
    ) {
        return error;
    }
    for (name, index, (offset, flaw)) in &finding.flawed {
        match survey(files, identity, *index, 0) {
            Ok(_) => {
                return snapshot_damage(files, name, *offset, *flaw).into();
            }
            // Whose fault it is cannot be known; the next start may read it.
            Err(failed @ OpenError::Failed(_)) => return failed,
            Err(_) => {}
        }
    }
    error
}

fn snapshot_damage<F: Files>(files: &F, name: &str, offset: u64, flaw: Flaw) -> Damage {
    Damage {
        path: files.path(FOLDER).join(name),
        offset,
        kind: DamageKind::Snapshot(flaw),
    }
}

fn fit<F: Files>(files: &F, survey: &mut Survey<F::File>, head: &Head) -> Result<(), Damage> {
    let ledger = &survey.ledger;
    let Some(first) = survey.chain.first() else {
        return Err(Damage {
            path: files.path(""),
            offset: 0,
            kind: DamageKind::NoLog(head.index),
        });
    };
    if head.index <= ledger.last && ledger.term_at(head.index) == head.term {
        return Ok(());
    }
    if head.index <= ledger.base_index {
        // What the log begins behind was committed, and so was what the snapshot holds.
        let kind = DamageKind::Contradiction(Contradiction::BaseTerm {
            index: head.index,
            expected: head.term,
            found: ledger.base_term,
        });
        return Err(damage(files, &segment_name(first.header.number), 0, kind));
    }
    begin_anew(survey, head);
    Ok(())
}

/// Puts the snapshot in the log's place. Term and vote stay, and law R11 holds: the term is at least that of what the
/// node has.
fn begin_anew<F>(survey: &mut Survey<F>, head: &Head) {
    let mut hard = survey.ledger.hard;
    if hard.term < head.term {
        hard = HardState {
            term: head.term,
            vote: NodeId::NONE,
        };
    }
    survey.ledger = Ledger::behind(hard, head.index, head.term);
    let chain = survey.chain.drain(..);
    survey
        .replaced
        .extend(chain.map(|link| (link.header.number, link.size)));
    survey.tail.clear();
    survey.memberships.clear();
    survey.rewrite_from = Position::default();
    survey.replaces_last = false;
}
