//! `kraftd serve`: runs the node in a data folder.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use kraft_adapters::{Any, Opened};
use kraft_core::adapter::{Adapter, Endpoint, ListenOptions};
use kraft_core::id::GroupId;
use kraft_core::message::Role;
use kraft_core::node::{self, Handle, Node, Parts};
use kraft_core::snapshot::StoreError;
use kraft_core::storage::Recovered;
use kraft_protocols::Format;

use super::assemble::{Addresses, adapter_config, bytes, node_config, storage_config};
use super::config::{Config, Loaded};
use super::init::folder_failure;
use super::monitor::{self, Monitor};
use super::notices::Counts;
use super::security::{self, Security};
use super::signals::Signals;
use super::{Exit, Failure, logging, open_files};
use crate::kv::{self, Kv};
use crate::server::Server;
use crate::storage::{DiskLog, Folder, OpenError, RealFiles};
use crate::transport::Transport;

/// How long a stop may take beyond `linger_ms`. It is ended then, which loses nothing that was acknowledged.
const STOP_SPARE: Duration = Duration::from_secs(5);

/// What this program runs: the one place that joins the parts.
type Daemon = Server<Transport, kraft_protocols::Any, DiskLog<RealFiles>, Kv>;

/// Runs the node until it is told to stop.
///
/// # Errors
///
/// Why it did not start, or could not go on.
pub(super) fn run(data: &Path, folder: &Folder, loaded: &Loaded, exit_with_parent: bool) -> Result<(), Failure> {
    loaded.validate()?;
    if folder.was_removed().map_err(|error| folder_failure(data, &error))? {
        return Err(removed(folder));
    }
    let config = &loaded.config;
    let format = format(config)?;
    let signals = Signals::catch()?;
    logging::start(config.log_level, config.log_format, signals.on_suppressed()?)?;
    for warning in &loaded.warnings {
        log::warn!("{warning}");
    }

    open_files::raise(adapter_config(config).max_connections as u64)?;
    let security = Security::read(config)?;
    let addresses = Addresses::resolve(config)?;
    // Before the log is opened, which writes to it: what cannot start changes nothing.
    addresses.check_free()?;
    let counts = Arc::new(Counts::default());
    let transport = security.protect(open_adapter(config)?, &adapter_config(config), &counts)?;
    let parent = signals.parent()?;
    // Before the log is opened, too: reading all of a big one takes a while.
    let running = Arc::new(OnceLock::<Handle>::new());
    let told = Arc::clone(&running);
    signals.on_stop(config.linger_ms + STOP_SPARE, move || told.get().map(Handle::stop))?;
    if let Some(reload) = security::reload(config, &transport, &counts) {
        Signals::on_hangup(reload)?;
    }
    let (mut server, recovered) = open(data, folder, config, transport, format, &counts)?;
    let bound = listen(&mut server, &addresses, config, format, &counts)?;
    // Before it says that it serves: who reads that may stop it at once.
    running.get_or_init(|| server.handle());
    tell_start(data, config, &server, &recovered, &bound, format);
    if exit_with_parent {
        parent.watch()?;
    }
    let ended = server.run();
    logging::tell_suppressed();
    ended.map_err(|failure| node_failure(&failure))?;
    if counts.has_told("removed") {
        // Without the mark the next start asks the others again.
        if let Err(fault) = folder.mark_removed() {
            log::warn!("cannot note that this node was removed: {fault}");
        }
        return Err(removed(folder));
    }
    log::info!("stopped");
    Ok(())
}

fn removed(folder: &Folder) -> Failure {
    let identity = folder.identity();
    Failure {
        exit: Exit::Removed,
        message: format!(
            "node {} was removed from cluster {}, and does not run any more: make a new data folder for a new node, with an \
             id that was never used (kraftd init --join), and add that (kraftctl member add)",
            identity.node, identity.cluster
        ),
    }
}

/// The wire format that the configuration chooses.
fn format(config: &Config) -> Result<Format, Failure> {
    let wrong = |error| Failure::config(format!("protocol: {error}"));
    config.protocol.parse().map_err(wrong)
}

/// The event loop that the configuration chooses; what it passes over is told.
fn open_adapter(config: &Config) -> Result<Any, Failure> {
    let opened = config.backend.open(&adapter_config(config));
    let Opened { adapter, passed_over } = opened.map_err(|error| adapter_failure(&error))?;
    let name = adapter.name();
    for passed in &passed_over {
        log::warn!(kind = "backend"; "{passed}; this node runs on {name}");
    }
    if let Some(remark) = adapter.backend().remark() {
        log::warn!(kind = "backend"; "{remark}");
    }
    Ok(adapter)
}

/// The sentence and exit status of a backend that was not opened.
pub(super) fn adapter_failure(error: &io::Error) -> Failure {
    match error.kind() {
        // No restart mends either.
        ErrorKind::Unsupported | ErrorKind::InvalidInput => Failure::config(format!("backend: {error}")),
        _ => Failure::new(format!(
            "backend: {error}; raise the limit of open files or of memory, or lower max_connections; kraftd doctor tells \
             what is needed"
        )),
    }
}

fn open(
    data: &Path,
    folder: &Folder,
    config: &Config,
    adapter: Transport,
    format: Format,
    counts: &Arc<Counts>,
) -> Result<(Daemon, Recovered), Failure> {
    let book = folder.peers().map_err(|error| folder_failure(data, &error))?;
    let files = folder.log().map_err(|error| folder_failure(data, &error))?;
    let identity = folder.identity();
    let wrong = |why: String| Failure::config(format!("{why}; `kraftd config show` tells who set it"));
    let damage = folder.damage().map_err(|error| folder_failure(data, &error))?;
    let life = folder.life().map_err(|error| folder_failure(data, &error))?;
    let mut node_config = node_config(config, identity, life, &book)?;
    node_config.raft.recovering = damage.is_there();
    node_config.validate().map_err(wrong)?;
    log::debug!("reads the log");
    let (storage, recovered) = DiskLog::open(files, identity.log(GroupId(0)), storage_config(config))
        .map_err(|error| open_failure(data, &error))?;
    if damage.is_there() {
        log::warn!(kind = "recovering";
            "the log was damaged and begun anew: this node does not vote until the others have sent it what it lost");
    }
    for torn in storage.torn() {
        // Told here and in no later start: the log goes on in another segment.
        log::warn!(kind = "torn_tail", file:% = torn.path.display(), byte = torn.offset, bytes = torn.bytes;
            "cut a write off the end of the log that was never finished");
    }
    for aside in storage.set_aside() {
        log::warn!(kind = "damaged_snapshot", file:% = aside.path.display(), byte = aside.offset;
            "a snapshot is damaged and was set aside: {}", aside.flaw);
    }
    let limits = kv::Limits {
        key_bytes_max: bytes(config.key_bytes_max),
        value_bytes_max: bytes(config.value_bytes_max),
        state_bytes_max: config.state_bytes_max,
        ..kv::Limits::default()
    };
    let parts = Parts {
        adapter,
        protocol: format.into(),
        storage,
        recovered: recovered.clone(),
        machine: Kv::new(limits),
    };
    let told = Arc::clone(counts);
    let node = Node::open(node_config, parts, move |notice| told.tell(&notice)).map_err(|error| match error {
        node::OpenError::Config(why) => wrong(why),
        node::OpenError::Snapshot(error) => snapshot_failure(&error),
    })?;
    let server = Server::new(node, move |peer, incarnation| {
        book.remember(peer, incarnation).map(drop)
    });
    let server = server.forgetting_damage(move || damage.forget());
    Ok((server, recovered))
}

/// Where the node listens, with the ports that the system chose where 0 was asked for.
struct Bound {
    listen: Endpoint,
    client: Endpoint,
    metrics: Option<Endpoint>,
}

fn listen(
    server: &mut Daemon,
    at: &Addresses,
    config: &Config,
    format: Format,
    counts: &Arc<Counts>,
) -> Result<Bound, Failure> {
    let options = |max_connections| ListenOptions {
        max_connections,
        ..ListenOptions::default()
    };
    let peers = options(Addresses::peer_connections());
    let clients = options(bytes(config.max_connections));
    let listen = server
        .listen(Role::Peer, &at.listen, peers)
        .map_err(|error| Addresses::failure("listen", &at.listen, &error))?;
    let client = server
        .listen(Role::Client, &at.client, clients)
        .map_err(|error| Addresses::failure("client", &at.client, &error))?;
    let mut metrics = None;
    if let Some(endpoint) = &at.metrics {
        let monitor = Box::new(Monitor::new(format.name(), Arc::clone(counts)));
        let bound = server.serve(monitor, endpoint, options(monitor::CONNECTIONS_MAX));
        metrics = Some(bound.map_err(|error| Addresses::failure("metrics", endpoint, &error))?);
    }
    Ok(Bound {
        listen,
        client,
        metrics,
    })
}

fn tell_start(data: &Path, config: &Config, server: &Daemon, recovered: &Recovered, bound: &Bound, format: Format) {
    let (first, last) = (recovered.base_index.next(), recovered.last);
    let range = if last < first {
        "empty".to_owned()
    } else {
        format!("{first}-{last}")
    };
    log::info!(
        node = config.id,
        cluster = config.cluster.as_str(),
        backend = server.node().adapter().name(),
        protocol = format.name(),
        tls = security::word(config),
        data:% = data.display(),
        log = range.as_str(),
        term = recovered.hard.term.0,
        listen:% = bound.listen,
        client:% = bound.client,
        metrics = bound.metrics.as_ref().map(ToString::to_string).unwrap_or_default().as_str(),
        version = env!("CARGO_PKG_VERSION");
        "serving"
    );
}

/// The exit status of a log that was not opened.
pub(super) const fn exit_of(error: &OpenError) -> Exit {
    match error {
        OpenError::Damaged(damage) if damage.is_version() => Exit::Config,
        OpenError::Damaged(_) => Exit::DamagedLog,
        OpenError::Failed(_) => Exit::Disk,
        OpenError::Config(_) => Exit::Config,
    }
}

fn open_failure(data: &Path, error: &OpenError) -> Failure {
    let exit = exit_of(error);
    let cure = match error {
        OpenError::Failed(_) => "; look at the disk: is it full, read-only or broken?".to_owned(),
        OpenError::Damaged(damage) if !damage.is_version() => format!(
            "; or set the log aside with `kraftd repair --data {}`, and they send it again",
            data.display()
        ),
        OpenError::Damaged(_) | OpenError::Config(_) => String::new(),
    };
    Failure {
        exit,
        message: format!("{error}{cure}"),
    }
}

/// The snapshot was whole when the log was opened.
fn snapshot_failure(error: &StoreError) -> Failure {
    let (exit, cure) = match error {
        StoreError::Failed { .. } | StoreError::NoSpace(_) => {
            (Exit::Disk, "look at the disk, and start the node again")
        }
        StoreError::Gone(_) => (Exit::DamagedLog, "put the file back, and start the node again"),
        StoreError::Damaged { .. } => (
            Exit::DamagedLog,
            "its checksums were right a moment ago: if another version of this program, or another program, wrote it, run \
             that; else start the node again, which sets a damaged snapshot aside",
        ),
    };
    Failure {
        exit,
        message: format!("the state cannot be read: {error}; nothing was changed; {cure}"),
    }
}

fn node_failure(failure: &node::Failure) -> Failure {
    match failure {
        node::Failure::Disk(fault) => Failure {
            exit: Exit::Disk,
            message: format!(
                "{fault}: the node ends, since nobody knows what is on the disk after a failed write or sync; nothing \
                 was acknowledged that is not there; look at the disk and start it again"
            ),
        },
        node::Failure::Loop(error) => Failure::new(format!("the event loop failed: {error}; start the node again")),
    }
}
