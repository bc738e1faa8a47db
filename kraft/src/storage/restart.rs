//! Begins a fresh segment: what recovery writes before the node speaks.
//!
//! A segment is never appended to after a restart. Behind its end may stand records that were written and not synced,
//! or cut off; appending up to them would bring them back. And what was read above the newest mark may be in the page
//! cache alone, after a kill or a failed sync. So it is written again, into a segment that appears under its name only
//! when it is durable as a whole.

use std::io;

use kraft_core::storage::Fault;

use super::config::{Config, RESERVE_BYTES};
use super::files::{File, Files, write_all_at};
use super::format::{
    HEADER_BYTES, LogIdentity, Position, RECORD_BYTES, Record, SEGMENT_BYTES_MAX, SegmentHeader, segment_name,
};
use super::scan::{Found, Scan, Step};
use super::survey::{Survey, fault};

/// The name of a segment that is not finished. At most one is in the making.
pub(crate) const UNFINISHED: &str = "prepare.tmp";

/// How much is written at once.
const CHUNK_BYTES: usize = 256 << 10;

/// The segment that the log goes on in.
#[derive(Debug)]
pub(crate) struct Fresh<F> {
    pub(crate) header: SegmentHeader,
    pub(crate) file: F,
    pub(crate) capacity: u32,
    /// Where the next record goes.
    pub(crate) end: u32,
    /// The entries that were written again.
    pub(crate) entries: Vec<Found>,
}

/// Writes the fresh segment, and makes it durable under its name. On a full disk the segments that are no part of the
/// log make room for it.
pub(crate) fn begin<F: Files>(
    files: &F,
    identity: &LogIdentity,
    config: &Config,
    survey: &mut Survey<F::File>,
) -> Result<Fresh<F::File>, Fault> {
    let needed: u64 = survey.tail.iter().map(|found| u64::from(found.size)).sum();
    let needed = needed + u64::from(HEADER_BYTES + RECORD_BYTES);
    let wanted = needed.max(u64::from(config.first_segment_bytes));
    // A full disk must not keep the node from its log if little is enough.
    let least = (needed + RESERVE_BYTES).min(wanted);
    let written = write_anew(files, identity, survey, wanted);
    if !written.as_ref().is_err_and(is_full) {
        return written;
    }
    let written = write_anew(files, identity, survey, least);
    if survey.others.is_empty() || !written.as_ref().is_err_and(is_full) {
        return written;
    }
    // Segments that were zeroed ahead or are done with have the room that is missing.
    for (number, _) in &survey.others {
        let name = segment_name(*number);
        files.remove(&name).map_err(fault(files, &name, "remove"))?;
    }
    let written = write_anew(files, identity, survey, least);
    survey.others.clear();
    written
}

fn is_full(fault: &Fault) -> bool {
    matches!(
        fault.error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// As [`write`], in place of what an earlier attempt left.
fn write_anew<F: Files>(
    files: &F,
    identity: &LogIdentity,
    survey: &Survey<F::File>,
    capacity: u64,
) -> Result<Fresh<F::File>, Fault> {
    remove_unfinished(files).map_err(fault(files, UNFINISHED, "remove"))?;
    write(files, identity, survey, capacity)
}

/// Removes what an earlier attempt left.
pub(crate) fn remove_unfinished<F: Files>(files: &F) -> io::Result<()> {
    match files.remove(UNFINISHED) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn write<F: Files>(
    files: &F,
    identity: &LogIdentity,
    survey: &Survey<F::File>,
    capacity: u64,
) -> Result<Fresh<F::File>, Fault> {
    let failed = |operation| fault(files, UNFINISHED, operation);
    let capacity = u32::try_from(capacity)
        .ok()
        .filter(|capacity| *capacity <= SEGMENT_BYTES_MAX);
    let Some(capacity) = capacity else {
        return Err(failed("write")(io::ErrorKind::FileTooLarge.into()));
    };
    let number = survey.next_number();
    let file = files.create(UNFINISHED).map_err(failed("create"))?;
    zero(&file, 0, capacity).map_err(failed("write"))?;
    let (entries, end) = copy_tail(files, identity, survey, &file, number)?;
    let (base_index, base_term) = survey.rewrite_base();
    let here = Position {
        segment: number,
        offset: end,
    };
    // The header claims what the mark does; should it be damaged, the mark betrays that.
    let mark = Record::Mark(here).encode(identity.seed(number), end);
    write_all_at(&file, &mark, u64::from(end)).map_err(failed("write"))?;
    let header = SegmentHeader {
        identity: *identity,
        number,
        is_reused: false,
        follows: survey.rewrite_from,
        synced_through: here,
        base_index,
        base_term,
        hard: survey.ledger.hard,
    };
    write_all_at(&file, &header.encode(), 0).map_err(failed("write"))?;
    file.sync_data().map_err(failed("fdatasync"))?;
    let name = segment_name(number);
    files.rename(UNFINISHED, &name).map_err(fault(files, &name, "rename"))?;
    files.sync_folder().map_err(fault(files, "", "fsync"))?;
    Ok(Fresh {
        header,
        file,
        capacity,
        end: end + RECORD_BYTES,
        entries,
    })
}

/// Zeros a part of a file, so that later writes change no metadata and cost one write to the disk.
pub(crate) fn zero(file: &impl File, from: u32, to: u32) -> io::Result<()> {
    let zeros = vec![0; CHUNK_BYTES.min((to - from) as usize)];
    let mut at = from;
    while at < to {
        let count = zeros.len().min((to - at) as usize);
        write_all_at(file, &zeros[..count], u64::from(at))?;
        at += u32::try_from(count).expect("a chunk is below 32 bits");
    }
    Ok(())
}

fn copy_tail<F: Files>(
    files: &F,
    identity: &LogIdentity,
    survey: &Survey<F::File>,
    to: &F::File,
    number: u32,
) -> Result<(Vec<Found>, u32), Fault> {
    let mut end = HEADER_BYTES;
    let mut entries = Vec::with_capacity(survey.tail.len());
    let (Some(first), Some(last)) = (survey.tail.first(), survey.chain.last()) else {
        return Ok((entries, end));
    };
    let seed = identity.seed(number);
    let source = segment_name(last.header.number);
    let unreadable = || fault(files, &source, "read");
    let mut scan = Scan::from(&last.file, last.header.number, identity, first.at.offset);
    let mut chunk = Vec::with_capacity(CHUNK_BYTES);
    let mut chunk_at = end;
    for entry in &survey.tail {
        let found = loop {
            match scan.step().map_err(unreadable())? {
                Step::Record(found) if found.at == entry.at => break found,
                Step::Record(_) => {}
                Step::Bad(..) | Step::Unknown(..) => {
                    return Err(unreadable()(io::Error::other("the file changed while it was read")));
                }
            }
        };
        chunk.extend_from_slice(&found.record.encode(seed, end));
        scan.payload(&found, &mut chunk).map_err(unreadable())?;
        let at = Position {
            segment: number,
            offset: end,
        };
        end += found.size;
        chunk.resize((end - chunk_at) as usize, 0);
        entries.push(Found { at, ..found });
        if chunk.len() >= CHUNK_BYTES {
            write_all_at(to, &chunk, u64::from(chunk_at)).map_err(fault(files, UNFINISHED, "write"))?;
            chunk.clear();
            chunk_at = end;
        }
    }
    write_all_at(to, &chunk, u64::from(chunk_at)).map_err(fault(files, UNFINISHED, "write"))?;
    Ok((entries, end))
}
