//! A snapshot's file: written and damaged, or any bytes; received in pieces, opened, and read into a state.

use std::io;

use arbitrary::{Result, Unstructured};
use bytes::Bytes;
use kraft::kv::KvImage;
use kraft::storage::snapshots::format::{FRONT_BYTES, Flaw, Owner, TRAILER_BYTES, snapshot_name};
use kraft::storage::snapshots::{SnapshotReport, snapshot};
use kraft::storage::{Config, DiskLog, DiskSnapshots, File as _, Files as _, LogIdentity, MemFiles};
use kraft_core::id::{ClusterId, GroupId, Incarnation, Index, NodeId, Term};
use kraft_core::membership::Configuration;
use kraft_core::message::SnapshotId;
use kraft_core::session::{Limits, StateImage};
use kraft_core::snapshot::{Head, SnapshotStore};
use kraft_core::storage::Storage;

use crate::meter::metered;

const IDENTITY: LogIdentity = LogIdentity {
    cluster: ClusterId(1),
    node: NodeId(2),
    incarnation: Incarnation(3),
    group: GroupId(0),
};

const OWNER: Owner = Owner {
    cluster: IDENTITY.cluster,
    group: IDENTITY.group,
};

/// What reading costs however short the file is: windows of 256 KiB and buffers of 64 KiB, of memory that is given back.
const READ_BYTES: u64 = 2 << 20;

pub(crate) fn run(input: &[u8]) {
    let mut u = Unstructured::new(input);
    let _ = match u.int_in_range(0..=2) {
        Ok(0) => try_bytes(&mut u),
        Ok(1) => try_damage(&mut u),
        _ => try_state(&mut u),
    };
}

/// A place for snapshots, of the node that the log is of.
fn store() -> (MemFiles, DiskSnapshots<MemFiles>) {
    let files = MemFiles::new();
    let config = Config {
        segment_bytes: 8 << 10,
        first_segment_bytes: 4 << 10,
        zero_step_bytes: 4096,
        ..Config::default()
    };
    let (log, _) = DiskLog::open(files.clone(), IDENTITY, config).expect("an empty folder is a log");
    let folder = files.folder("snapshots").expect("it has a folder of snapshots");
    (folder, log.snapshots())
}

fn head(u: &mut Unstructured<'_>) -> Result<Head> {
    let index = Index(u.int_in_range(1..=u64::MAX)?);
    let (membership_index, membership) = match u.int_in_range(0..=2)? {
        0 => (Index::ZERO, Bytes::new()),
        1 => {
            let voters: Vec<_> = (1..=u.int_in_range(1..=5)?).map(NodeId).collect();
            (index, Configuration::founding(&voters).encode())
        }
        _ => {
            let length = usize::from(u.arbitrary::<u8>()?);
            let membership = Bytes::copy_from_slice(u.bytes(length.min(u.len()))?);
            (Index(u.int_in_range(0..=index.0)?), membership)
        }
    };
    Ok(Head {
        index,
        term: Term(u.arbitrary()?),
        membership_index,
        membership,
    })
}

/// Any bytes, as a file of somebody else's and as one that a peer sends.
fn try_bytes(u: &mut Unstructured<'_>) -> Result<()> {
    let cut = usize::from(u.arbitrary::<u16>()?);
    let bytes = u.bytes(u.len())?;
    judge(bytes, cut)
}

/// A snapshot as a node wrote it, one byte of it changed, or its end missing.
fn try_damage(u: &mut Unstructured<'_>) -> Result<()> {
    let head = head(u)?;
    let (at, bits) = (u.arbitrary::<u32>()? as usize, u.int_in_range(0..=255_u8)?);
    let cut = usize::from(u.arbitrary::<u16>()?);
    let repeats = *u.choose(&[1, 1, 1, 700])?;
    let content = u.bytes(u.len())?.repeat(repeats);
    let (folder, store) = store();
    let saved = store.save(&head, &mut |out| io::Write::write_all(out, &content));
    let Ok(saved) = saved else { return Ok(()) };
    assert_eq!(saved.head, head);
    let name = snapshot_name(&saved.id);
    let file = folder.open(&name, false).expect("it is there");
    let mut bytes = vec![0; usize::try_from(file.size().expect("it has a size")).expect("it is short")];
    file.read_at(&mut bytes, 0).expect("it is read");
    assert_eq!(bytes.len() as u64, saved.id.bytes);
    let report = snapshot(&folder, &name, Some(OWNER)).expect("a disk of memory reads");
    match &report.verdict {
        Ok(sound) => {
            assert_eq!((&sound.head, sound.id), (&head, saved.id));
            assert_eq!(sound.content_bytes, content.len() as u64);
        }
        // A head that no node can begin with is told, whatever the rest is.
        Err((_, flaw)) => assert!(head.configuration().is_err(), "{flaw}"),
    }
    let mut read = Vec::new();
    let loaded = store.load(saved.id, &mut |input| io::Read::read_to_end(input, &mut read).map(drop));
    assert_eq!(loaded.is_ok(), report.verdict.is_ok());
    assert!(loaded.is_err() || read == content, "what is read is what was written");
    if bits > 0 {
        let at = at % bytes.len();
        bytes[at] ^= bits;
        folder.change(&name, |file| file.clone_from(&bytes));
        let report = snapshot(&folder, &name, Some(OWNER)).expect("a disk of memory reads");
        let found = report.verdict.expect_err("a byte is changed, and the file is sound");
        // A block that claims to be longer than it is may reach beyond the end.
        let is_blamed = found.0 <= at as u64 || matches!(found.1, Flaw::Short);
        assert!(is_blamed, "byte {at} is changed, and {found:?} is blamed");
    }
    judge(&bytes, cut)
}

/// Bytes are judged alike as a file and as what a peer sends.
fn judge(bytes: &[u8], cut: usize) -> Result<()> {
    let (folder, store) = store();
    let file = folder.create("found").expect("there is room");
    file.write_at(bytes, 0).expect("there is room");
    let (report, taken) = metered(|| snapshot(&folder, "found", Some(OWNER)).expect("a disk of memory reads"));
    assert!(
        taken <= 8 * bytes.len() as u64 + READ_BYTES,
        "{taken} bytes for {}",
        bytes.len()
    );
    let SnapshotReport { verdict, .. } = &report;
    assert!(!report.to_string().contains('\n'));
    let id = match verdict {
        Ok(sound) => {
            assert_eq!(sound.id.bytes, bytes.len() as u64);
            sound.id
        }
        Err((at, _)) => {
            assert!(*at <= bytes.len() as u64, "byte {at} of {}", bytes.len());
            SnapshotId {
                index: Index(1),
                term: Term(1),
                bytes: bytes.len() as u64,
                crc: crc32c::crc32c(bytes),
            }
        }
    };
    let before = folder.content();
    let received = receive(&store, id, bytes, cut);
    assert_eq!(received.is_ok(), verdict.is_ok(), "{received:?}, {verdict:?}");
    match received {
        Ok(()) => assert_eq!(folder.bytes(&snapshot_name(&id)), bytes),
        Err(_) => {
            store.abandon().expect("a disk of memory removes");
            assert!(folder.content() == before, "what is refused leaves nothing");
        }
    }
    Ok(())
}

/// In pieces of `cut` bytes.
fn receive(
    store: &DiskSnapshots<MemFiles>,
    id: SnapshotId,
    bytes: &[u8],
    cut: usize,
) -> std::result::Result<(), kraft_core::snapshot::StoreError> {
    let mut at = 0;
    for piece in bytes.chunks(cut.max(bytes.len() / 16).max(1)) {
        store.receive(id, at, piece)?;
        at += piece.len() as u64;
    }
    if bytes.len() < FRONT_BYTES + TRAILER_BYTES {
        // Nothing of it may have come.
        store.receive(id, 0, &[])?;
    }
    store.keep(&store.finish(id)?)
}

/// Any bytes as the state in a snapshot that is sound.
fn try_state(u: &mut Unstructured<'_>) -> Result<()> {
    let limits = Limits {
        sessions_max: 8,
        replies_max: 4,
        reply_bytes_max: 1 << 10,
        table_bytes_max: 16 << 10,
    };
    // A table without sessions comes before most maps.
    let sessions: &[u8] = if u.arbitrary()? { &[1, 0, 0, 0, 0] } else { &[] };
    let content = [sessions, u.bytes(u.len())?].concat();
    let mut input = &content[..];
    let (state, taken) = metered(|| StateImage::<KvImage>::read(&mut input, &limits));
    // Nodes of a map are of a size, whatever few keys are in them; fields are believed for 64 KiB each.
    let bound = 256 * content.len() as u64 + (512 << 10);
    assert!(taken <= bound, "{taken} bytes are allocated for {}", content.len());
    match state {
        Ok(state) => {
            let mut again = Vec::new();
            state.write(&mut again).expect("a vector takes it");
            assert!(again == content, "a state has one image");
        }
        Err(error) => assert!(!error.to_string().contains('\n'), "{error}"),
    }
    Ok(())
}
