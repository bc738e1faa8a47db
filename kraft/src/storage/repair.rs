//! Begins a damaged log anew, so that the node can come back as one that lost what it had.
//!
//! The file `recovering` in the data folder says so, and how far it came:
//!
//! | | step | a crash before the next one leaves |
//! |---|---|---|
//! | 1 | `recovering` says `begun`, the fresh term and the folder for what is set aside | a node that refuses to start, and a repair that goes on here |
//! | 2 | the log's files go to that folder, one by one; sound snapshots stay | the same |
//! | 3 | a log without entries begins, in the fresh term | the same |
//! | 4 | `recovering` says `done` | a node that starts, and is [recovering](kraft_core::raft::Config::recovering) |
//! | 5 | the node removes `recovering`, when it has made up for what it lost | a node like any other |
//!
//! Nothing is deleted. What must not be lost is the term: in a lower one than it was in the node would help another
//! leader than the one that it had promised to help. It is certain if nothing after the newest sound record of it is
//! unreadable.

use std::fmt;
use std::io;
use std::path::PathBuf;

use kraft_core::id::{GroupId, Index, NodeId, Term};
use kraft_core::message::EntryKind;
use kraft_core::raft::{TERM_JUMP_MAX, term_after_damage};
use kraft_core::storage::{Fault, HardState};

use super::config::Config;
use super::files::{File, Files, read_full_at, read_small, replace_small};
use super::fit;
use super::folder::{Folder, FolderError, LOG};
use super::format::{ALIGN, HEADER_BYTES, LogIdentity, RECORD_BYTES, Record, segment_name, segment_number};
use super::ledger::Ledger;
use super::scan::{Bad, Found, Scan, Step, read_header};
use super::survey::{Damage, OpenError, fault, survey};
use super::{restart, sealed_text, snapshots};

const MARK: &str = "recovering";
const MARK_BYTES_MAX: u64 = 4 << 10;
const TITLE: &str = "The log was damaged and set aside. The last line is the checksum of all above it.";

/// Terms grow by one with each election that is begun: nobody comes near this, but by a slip of the hand.
const TERM_MAX: Term = Term(1 << 62);

/// Folders of damaged logs; nobody has so many.
const ASIDE_MAX: u32 = 1000;

/// A log was begun anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repaired {
    /// Where the damaged files are.
    pub aside: PathBuf,
    /// In which term the node begins.
    pub term: Term,
    /// What the newest sound snapshot holds, zero if there is none: the node begins from there.
    pub snapshot: Index,
}

/// Why a log was not begun anew. Nothing was changed, but for [`Failed`](Self::Failed).
#[derive(Debug)]
pub enum RepairError {
    /// The log is sound.
    Sound,
    /// The node is the only member: nobody has what it lost.
    Alone,
    /// Its term may be above this, the highest that can be read.
    Term(Term),
    /// The term that was named is below one that the node was in.
    TermTooLow {
        /// The one that was named.
        named: Term,
        /// The highest that was read.
        found: Term,
    },
    /// The term that was named is above any that the members can be in.
    TermTooHigh {
        /// The one that was named.
        named: Term,
        /// The highest that may be named.
        most: Term,
    },
    /// It was written by another version: that is no damage.
    Version(Damage),
    /// The folder cannot be used.
    Folder(FolderError),
    /// The disk failed. What was begun goes on with the next attempt.
    Failed(Fault),
}

impl fmt::Display for RepairError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sound => f.write_str("the log is sound: there is nothing to repair, start the node"),
            Self::Alone => f.write_str(
                "the log is damaged, and this node is the cluster's only member, so that nobody can send it what it lost: \
                 restore the disk or a backup",
            ),
            Self::Term(found) => write!(
                f,
                "the log is damaged, and with it the node's term: the highest that can be read is {found}, and a later one may \
                 stand in what is unreadable: ask `kraftctl status` of all other members, every one, for their terms, and \
                 name the highest with --term; or replace this node by a new one"
            ),
            Self::TermTooLow { named, found } => write!(
                f,
                "--term {named}: this node was in term {found} already; name the highest term that the other members are in"
            ),
            Self::TermTooHigh { named, most } => write!(
                f,
                "--term {named}: no member is in a term above {most}, and what this node said in one would be refused; name \
                 the highest term that `kraftctl status` shows of the other members"
            ),
            Self::Version(damage) => write!(f, "{damage}: that is no damage, run the version that wrote it"),
            Self::Folder(error) => error.fmt(f),
            Self::Failed(fault) => write!(f, "{fault}; look at the disk, and repair again"),
        }
    }
}

impl std::error::Error for RepairError {}

impl From<FolderError> for RepairError {
    fn from(error: FolderError) -> Self {
        Self::Folder(error)
    }
}

impl From<Fault> for RepairError {
    fn from(fault: Fault) -> Self {
        Self::Failed(fault)
    }
}

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mark {
    is_done: bool,
    /// The term that the log begins in.
    term: Term,
    /// The folder of what is set aside.
    aside: String,
}

impl Mark {
    fn encode(&self) -> Vec<u8> {
        let state = if self.is_done { "done" } else { "begun" };
        let lines = [
            ("version", "1".to_owned()),
            ("repair", state.to_owned()),
            ("term", self.term.to_string()),
            ("aside", self.aside.clone()),
        ];
        sealed_text::encode(TITLE, &lines.map(|(key, value)| (key.to_owned(), value)))
    }

    fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let lines = sealed_text::decode(bytes)?;
        let lines: Vec<_> = lines
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        let [
            ("version", "1"),
            ("repair", state @ ("begun" | "done")),
            ("term", term),
            ("aside", aside),
        ] = lines[..]
        else {
            return Err("it is of another version");
        };
        Ok(Self {
            is_done: state == "done",
            term: Term(term.parse().map_err(|_| "a number")?),
            aside: aside.to_owned(),
        })
    }

    /// `None` if there is none.
    fn read<F: Files>(files: &F) -> Result<Option<Self>, FolderError> {
        let path = files.path(MARK);
        let bytes = match read_small(files, MARK, MARK_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(FolderError::Damaged(path, "it is too long"));
            }
            Err(error) => return Err(FolderError::Failed(path, error)),
        };
        let mark = Self::decode(&bytes).map_err(|what| FolderError::Damaged(path, what))?;
        Ok(Some(mark))
    }
}

/// Whether a log was begun anew, as the data folder says.
#[derive(Clone, Debug)]
pub struct DamageNote<F: Files> {
    files: F,
    is_there: bool,
}

impl<F: Files> DamageNote<F> {
    /// Reads it.
    ///
    /// # Errors
    ///
    /// [`FolderError::Unrepaired`] if a repair was begun and has not ended, [`FolderError::Damaged`],
    /// [`FolderError::Failed`].
    pub(crate) fn read(files: F) -> Result<Self, FolderError> {
        match Mark::read(&files)? {
            Some(mark) if !mark.is_done => Err(FolderError::Unrepaired(files.path(""))),
            mark => Ok(Self {
                is_there: mark.is_some(),
                files,
            }),
        }
    }

    /// Whether the node is [recovering](kraft_core::raft::Config::recovering).
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.is_there
    }

    /// Removes it durably: the node has made up for what it lost. Blocks on the disk.
    ///
    /// # Errors
    ///
    /// [`Fault`]: the disk failed.
    pub fn forget(&self) -> Result<(), Fault> {
        match self.files.remove(MARK) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(fault(&self.files, MARK, "remove")(error));
            }
            _ => {}
        }
        self.files.sync_folder().map_err(fault(&self.files, "", "fsync"))
    }
}

/// Begins the log of a data folder anew, if it is damaged. `term` is what the operator says that the highest term of the
/// other members is: needed where the log's own cannot be known.
///
/// # Errors
///
/// [`RepairError`].
pub fn repair<F: Files>(folder: &Folder<F>, term: Option<Term>) -> Result<Repaired, RepairError> {
    let files = folder.files();
    let identity = folder.identity().log(GroupId(0));
    let log = files
        .folder(LOG)
        .map_err(|error| FolderError::Failed(files.path(LOG), error))?;
    let mark = match Mark::read(files)? {
        Some(mark) if !mark.is_done => mark,
        before => {
            let mark = Mark {
                is_done: false,
                term: fresh_term(folder, &log, &identity, before.as_ref(), term)?,
                aside: free_folder(files)?,
            };
            replace_small(files, MARK, &mark.encode()).map_err(fault(files, MARK, "replace"))?;
            mark
        }
    };
    if !is_begun_anew(&log, &identity, mark.term)? {
        let aside = files.folder(&mark.aside).map_err(fault(files, &mark.aside, "create"))?;
        set_aside(&log, &aside)?;
        begin_anew(&log, &identity, mark.term)?;
    }
    let snapshot = snapshots::find_in(&log, fit::owner(&identity))?.newest;
    let done = Mark { is_done: true, ..mark };
    replace_small(files, MARK, &done.encode()).map_err(fault(files, MARK, "replace"))?;
    Ok(Repaired {
        aside: files.path(&done.aside),
        term: done.term,
        snapshot: snapshot.map_or(Index::ZERO, |snapshot| snapshot.id.index),
    })
}

/// The same for a log without a data folder, if it is damaged and its term is certain. What is in it goes to `aside`, with
/// all snapshots.
///
/// # Errors
///
/// [`Fault`]: the disk failed.
#[cfg(feature = "sim")]
pub(crate) fn repair_log<F: Files>(log: &F, aside: &F, identity: &LogIdentity) -> Result<Option<HardState>, Fault> {
    match fit::read(log, identity, 0) {
        Err(OpenError::Damaged(_)) => {}
        Err(OpenError::Failed(fault)) => return Err(fault),
        Ok(_) | Err(OpenError::Config(_)) => return Ok(None),
    }
    let known = read_terms(log, identity)?;
    if !known.is_certain {
        return Ok(None);
    }
    let snapshots = log
        .folder(snapshots::FOLDER)
        .map_err(fault(log, snapshots::FOLDER, "open"))?;
    set_aside(&snapshots, aside)?;
    set_aside(log, aside)?;
    let hard = term_after_damage(known.term);
    begin_anew(log, identity, hard.term)?;
    Ok(Some(hard))
}

/// The term that a damaged log begins anew in.
fn fresh_term<F: Files>(
    folder: &Folder<F>,
    log: &F,
    identity: &LogIdentity,
    before: Option<&Mark>,
    named: Option<Term>,
) -> Result<Term, RepairError> {
    match folder.log().map(|log| fit::read(&log, identity, 0)) {
        // It is missing.
        Err(FolderError::Damaged(..)) => {}
        Err(error) => return Err(error.into()),
        Ok(Ok(_)) => return Err(RepairError::Sound),
        Ok(Err(OpenError::Damaged(damage))) => {
            if damage.is_version() {
                return Err(RepairError::Version(damage));
            }
        }
        Ok(Err(OpenError::Failed(fault))) => return Err(fault.into()),
        Ok(Err(OpenError::Config(_))) => unreachable!("nothing was configured"),
    }
    let mut known = read_terms(log, identity)?;
    if let Some(snapshot) = snapshots::find_in(log, fit::owner(identity))?.newest {
        known.term = known.term.max(snapshot.id.term);
        known.has_configurations |= !snapshot.head.membership.is_empty();
    }
    // It began there, and was in later ones maybe.
    known.term = before.map_or(known.term, |mark| mark.term.max(known.term));
    if folder.identity().members.len() == 1 && !known.has_configurations {
        return Err(RepairError::Alone);
    }
    let found = known.term;
    match named {
        Some(named) if named < found => Err(RepairError::TermTooLow { named, found }),
        Some(named) if named > term_max(&known) => Err(RepairError::TermTooHigh {
            named,
            most: term_max(&known),
        }),
        None if !known.is_certain => Err(RepairError::Term(found)),
        named => Ok(term_after_damage(named.unwrap_or(found)).term),
    }
}

/// The highest term that may be named. What this node was in for certain, the others were so far beyond at most, or they
/// would not hear each other; and elections need terms to go on to.
fn term_max(known: &Known) -> Term {
    match known.is_certain {
        true => Term(known.term.0.saturating_add(TERM_JUMP_MAX)).min(TERM_MAX),
        false => TERM_MAX,
    }
}

fn free_folder<F: Files>(files: &F) -> Result<String, Fault> {
    let names = files.list().map_err(fault(files, "", "list"))?;
    let mut free = (1..=ASIDE_MAX).map(|number| format!("damaged-{number}"));
    free.find(|name| !names.contains(name)).ok_or_else(|| {
        let full = io::Error::other("there are a thousand folders of damaged logs: move some of them elsewhere");
        fault(files, "", "create")(full)
    })
}

/// Whether the log is the one that was begun in this term. No log from before was in it.
fn is_begun_anew<F: Files>(log: &F, identity: &LogIdentity, term: Term) -> Result<bool, Fault> {
    match survey(log, identity, Index::ZERO, 0) {
        Ok(survey) => Ok(survey.ledger.hard.term == term && survey.ledger.last == Index::ZERO),
        Err(OpenError::Failed(fault)) => Err(fault),
        Err(OpenError::Damaged(_) | OpenError::Config(_)) => Ok(false),
    }
}

fn set_aside<F: Files>(log: &F, aside: &F) -> Result<(), Fault> {
    let taken = aside.list().map_err(fault(aside, "", "list"))?;
    let names = log.list().map_err(fault(log, "", "list"))?;
    let is_file = |name: &String| name != snapshots::FOLDER && log.path(name) != aside.path("");
    for name in names.into_iter().filter(is_file) {
        // An attempt before this one may have come this far; what it moved must not be overwritten.
        let mut free = name.clone();
        while taken.contains(&free) {
            free.push_str(".again");
        }
        log.move_into(&name, aside, &free)
            .map_err(fault(log, &name, "rename"))?;
    }
    aside.sync_folder().map_err(fault(aside, "", "fsync"))?;
    log.sync_folder().map_err(fault(log, "", "fsync"))
}

fn begin_anew<F: Files>(log: &F, identity: &LogIdentity, term: Term) -> Result<(), Fault> {
    let mut nothing = survey(log, identity, Index::ZERO, 0).map_err(|error| match error {
        OpenError::Failed(fault) => fault,
        OpenError::Damaged(_) | OpenError::Config(_) => unreachable!("the folder is empty"),
    })?;
    let hard = HardState {
        term,
        vote: NodeId::NONE,
    };
    nothing.ledger = Ledger::behind(hard, Index::ZERO, Term(0));
    restart::begin(log, identity, &Config::default(), &mut nothing)?;
    Ok(())
}

/// What can be read of the terms that a node was in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Known {
    /// The highest.
    term: Term,
    /// There is no later one: nothing behind its record is unreadable.
    is_certain: bool,
    /// There are others than the founder, or were.
    has_configurations: bool,
}

impl Known {
    /// A record that says what the term was when it was written.
    fn at(&mut self, term: Term) {
        self.term = self.term.max(term);
        self.is_certain = true;
    }

    fn take(&mut self, found: &Found) {
        match found.record {
            Record::HardState(hard) => self.at(hard.term),
            // Law R11: the term was at least that.
            Record::Entry { term, kind, .. } => {
                self.term = self.term.max(term);
                self.has_configurations |= kind == EntryKind::Membership;
            }
            Record::Truncate(_) | Record::Mark(_) => {}
        }
    }
}

/// Reads whatever can be read.
fn read_terms<F: Files>(log: &F, identity: &LogIdentity) -> Result<Known, Fault> {
    let names = log.list().map_err(fault(log, "", "list"))?;
    let mut numbers: Vec<_> = names.iter().filter_map(|name| segment_number(name)).collect();
    numbers.sort_unstable();
    let mut known = Known::default();
    for number in numbers {
        let name = segment_name(number);
        let file = log.open(&name, false).map_err(fault(log, &name, "open"))?;
        read_segment(&file, number, identity, &mut known).map_err(fault(log, &name, "read"))?;
    }
    Ok(known)
}

fn read_segment<F: File>(file: &F, number: u32, identity: &LogIdentity, known: &mut Known) -> io::Result<()> {
    // Without a header, what is missing shows at the first record; there may be none that was ever written.
    let mut is_gap = true;
    match read_header(file)? {
        Ok(header) if header.identity == *identity && header.number == number => {
            // The term of the time at which it was written.
            known.at(header.hard.term);
            is_gap = false;
        }
        // Whatever stood here is gone.
        Ok(_) => known.is_certain = false,
        Err(_) => {}
    }
    let size = u32::try_from(file.size()?).unwrap_or(u32::MAX);
    let mut scan = Scan::new(file, number, identity);
    let mut at = HEADER_BYTES;
    while at < size {
        scan.seek(at);
        match scan.step()? {
            Step::Record(found) => {
                known.is_certain &= !is_gap;
                is_gap = false;
                known.take(&found);
                at = scan.offset();
            }
            // Its header is sound: it was an entry, and the next record stands where that says.
            Step::Bad(_, Bad::Payload | Bad::Padding) => {
                at = entry_end(file, at, identity.seed(number))?.unwrap_or_else(|| at.saturating_add(ALIGN));
            }
            Step::Bad(..) | Step::Unknown(..) => {
                is_gap = true;
                at = at.saturating_add(ALIGN);
            }
        }
    }
    Ok(())
}

fn entry_end<F: File>(file: &F, at: u32, seed: u32) -> io::Result<Option<u32>> {
    let mut header = [0; RECORD_BYTES as usize];
    read_full_at(file, &mut header, u64::from(at))?;
    let record = Record::decode(&header, seed, at).ok();
    Ok(record.and_then(|record| at.checked_add(record.size()?)))
}
