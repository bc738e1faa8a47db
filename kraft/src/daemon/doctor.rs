//! `kraftd doctor`: which event loops work here, which one would run, and what the system's limits allow.

use clap::ValueEnum;
use kraft_adapters::{Availability, Backend};
use rustix::process::{Resource, Rlimit, getrlimit};

use super::Failure;
use super::assemble::adapter_config;
use super::config::Config;
use super::logging::push_json_string;
use super::open_files;
use super::serve::adapter_failure;

/// What the rings of io_uring take where the system counts them as locked memory: submissions, completions and the
/// table of buffers, rounded up.
const RINGS_BYTES: u64 = 1 << 20;

/// How the report is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// For people: aligned columns.
    Table,
    /// For programs: one JSON document.
    Json,
}

/// What was found.
#[derive(Debug)]
pub(super) struct Report {
    /// `auto`, a name or a list, as configured.
    choice: String,
    backends: Vec<Row>,
    limits: Vec<Limit>,
    /// Why a node would not start, if so.
    failure: Option<Failure>,
}

/// A backend.
#[derive(Debug)]
struct Row {
    backend: Backend,
    is_usable: bool,
    is_selected: bool,
    /// Why not and what to do, or what there is to be told of it; may be empty.
    why: String,
}

/// A limit of the system. `None` is no limit.
#[derive(Debug)]
struct Limit {
    name: &'static str,
    soft: Option<u64>,
    hard: Option<u64>,
    needed: u64,
    /// What to do; empty if it is high enough.
    cure: &'static str,
}

/// Tries all backends with the configuration's limits, and chooses as `serve` would.
pub(super) fn examine(config: &Config) -> Report {
    let adapters = adapter_config(config);
    let connections = adapters.max_connections as u64;
    // Before it is raised as `serve` does it.
    let limit = getrlimit(Resource::Nofile);
    let raised = open_files::raise(connections);

    let chosen = config.backend.open(&adapters);
    let (selected, unopened) = match &chosen {
        Ok(opened) => (Some(opened.adapter.backend()), None),
        Err(error) => (None, Some(adapter_failure(error))),
    };
    // What it holds is another one's while that is tried.
    drop(chosen);
    let rows = Backend::ALL.iter().map(|backend| {
        let availability = backend.probe(&adapters);
        Row {
            backend: *backend,
            is_usable: availability.is_usable(),
            is_selected: selected == Some(*backend),
            why: match &availability {
                Availability::Usable => backend.remark().unwrap_or_default().to_owned(),
                why => why.to_string(),
            },
        }
    });
    Report {
        choice: config.backend.to_string(),
        backends: rows.collect(),
        limits: limits(config, limit, connections, selected),
        failure: raised.err().or(unopened),
    }
}

/// The limits that the backends which are tried depend on.
fn limits(config: &Config, open_files: Rlimit, connections: u64, selected: Option<Backend>) -> Vec<Limit> {
    let needed = open_files::needed(connections);
    let mut limits = vec![Limit {
        name: "open files",
        soft: open_files.current,
        hard: open_files.maximum,
        needed,
        cure: if open_files.maximum.is_none_or(|maximum| maximum >= needed) {
            ""
        } else {
            "raise the hard limit (ulimit -Hn, LimitNOFILE), or lower max_connections"
        },
    }];
    let wants_uring = config.backend.candidates().any(|backend| backend == Backend::IoUring);
    if wants_uring && Backend::IoUring.is_compiled() {
        let cure = "where io_uring is refused for want of memory, raise it (ulimit -l, LimitMEMLOCK)";
        limits.push(Limit::new("locked memory", Resource::Memlock, RINGS_BYTES, cure));
    }
    if selected == Some(Backend::Threads) {
        // A thread a connection, and the node's own.
        let cure = "raise it (ulimit -u, LimitNPROC), or lower max_connections";
        limits.push(Limit::new("processes", Resource::Nproc, connections + 16, cure));
    }
    limits
}

impl Limit {
    fn new(name: &'static str, resource: Resource, needed: u64, cure: &'static str) -> Self {
        let limit = getrlimit(resource);
        let is_enough = limit.current.is_none_or(|current| current >= needed);
        Self {
            name,
            soft: limit.current,
            hard: limit.maximum,
            needed,
            cure: if is_enough { "" } else { cure },
        }
    }
}

impl Report {
    /// Whether a node would start, as far as its event loop is concerned.
    ///
    /// # Errors
    ///
    /// What `serve` would say, with its exit status.
    pub(super) fn verdict(&self) -> Result<(), Failure> {
        self.failure.clone().map_or(Ok(()), Err)
    }

    /// The report as text.
    pub(super) fn show(&self, output: Output) -> String {
        match output {
            Output::Table => self.table(),
            Output::Json => self.json(),
        }
    }

    fn table(&self) -> String {
        let yes = |holds: bool| if holds { "yes" } else { "no" }.to_owned();
        let number = |limit: Option<u64>| limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string());
        let headings = ["BACKEND", "COMPILED", "USABLE", "SELECTED", "WHY, AND WHAT TO DO"];
        let mut backends = vec![headings.map(str::to_owned)];
        backends.extend(self.backends.iter().map(|row| {
            [
                row.backend.to_string(),
                yes(row.backend.is_compiled()),
                yes(row.is_usable),
                yes(row.is_selected),
                row.why.clone(),
            ]
        }));
        let headings = ["LIMIT", "SOFT", "HARD", "NEEDED", "WHAT TO DO"];
        let mut limits = vec![headings.map(str::to_owned)];
        limits.extend(self.limits.iter().map(|limit| {
            [
                limit.name.to_owned(),
                number(limit.soft),
                number(limit.hard),
                limit.needed.to_string(),
                limit.cure.to_owned(),
            ]
        }));
        format!(
            "backend = {}\n\n{}\n{}",
            self.choice,
            aligned(&backends),
            aligned(&limits)
        )
    }

    fn json(&self) -> String {
        let number = |limit: Option<u64>| limit.map_or_else(|| "null".to_owned(), |limit| limit.to_string());
        let backends = self.backends.iter().map(|row| {
            format!(
                "{{\"name\":{},\"compiled\":{},\"usable\":{},\"selected\":{},\"why\":{}}}",
                text(row.backend.name()),
                row.backend.is_compiled(),
                row.is_usable,
                row.is_selected,
                text(&row.why),
            )
        });
        let limits = self.limits.iter().map(|limit| {
            format!(
                "{{\"name\":{},\"soft\":{},\"hard\":{},\"needed\":{},\"cure\":{}}}",
                text(limit.name),
                number(limit.soft),
                number(limit.hard),
                limit.needed,
                text(limit.cure),
            )
        });
        let selected = self.backends.iter().find(|row| row.is_selected);
        format!(
            "{{\"backend\":{},\"selected\":{},\"backends\":[{}],\"limits\":[{}],\"failure\":{}}}\n",
            text(&self.choice),
            selected.map_or_else(|| "null".to_owned(), |row| text(row.backend.name())),
            backends.collect::<Vec<_>>().join(","),
            limits.collect::<Vec<_>>().join(","),
            self.failure
                .as_ref()
                .map_or_else(|| "null".to_owned(), |failure| text(&failure.message)),
        )
    }
}

fn text(text: &str) -> String {
    let mut json = String::new();
    push_json_string(&mut json, text);
    json
}

/// Rows in columns as wide as the widest cell; the last one is as long as it is.
fn aligned<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; COLUMNS] = std::array::from_fn(width);
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
