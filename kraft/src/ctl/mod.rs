//! `kraftctl`: the client on the command line.

mod bench;
mod cli;
mod exit;
mod format;
mod keys;
mod leader;
mod member;
mod security;
mod snapshot;
mod status;
#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use kraft_adapters::Choice;
use kraft_protocols::Format;

use self::cli::{Cli, Snapshot, What};
pub use self::exit::Exit;
use self::exit::Failure;
use crate::client::{Client, Config, Node, seed, unasked};

/// Reads the command line, does what it says and tells how the process ends. Called once, by the binary.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // A closed terminal is no reason for another exit status.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Ok }.into();
        }
    };
    let mut out = io::BufWriter::new(io::stdout().lock());
    let result = run(&cli, &mut out).and_then(|exit| {
        out.flush()?;
        Ok(exit)
    });
    match result {
        Ok(exit) => exit.into(),
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Ok.into(),
        Err(failure) => {
            let _ = out.flush();
            let _ = writeln!(io::stderr(), "kraftctl: {failure}");
            failure.exit().into()
        }
    }
}

fn run(cli: &Cli, out: &mut impl Write) -> Result<Exit, Failure> {
    if let What::Snapshot(Snapshot::Inspect { file }) = &cli.what {
        return snapshot::inspect(file, cli.output, out);
    }
    let list = match &cli.nodes {
        Some(list) => list.clone(),
        None => std::env::var("KRAFT_NODES").map_err(|_| Failure::NoNodes)?,
    };
    let nodes = Node::resolve_list(&list)?;
    let config = Config {
        request_timeout: cli.timeout,
        attempt_timeout: Config::default().attempt_timeout.min(cli.timeout),
        connect_timeout: Config::default().connect_timeout.min(cli.timeout),
        seed: seed(),
        ..Config::default()
    };
    let security = security::read(cli)?;
    let asked = backend(cli)?;
    let choice = asked.clone().unwrap_or_else(unasked);
    let protocol = protocol(cli)?;
    let (mut client, passed_over) = Client::with_format(config, nodes, &choice, &security, protocol)?;
    // Of what nobody asked for nobody need hear.
    for passed in passed_over.iter().filter(|_| asked.is_some()) {
        // Nothing that is printed depends on it, and a terminal that is gone is no failure.
        let _ = writeln!(io::stderr(), "kraftctl: passed over: {passed}");
    }
    match &cli.what {
        What::Status => status::run(&mut client, cli.output, out),
        What::Member { what } => member::run(&mut client, what, cli.output, out),
        What::Leader { what } => leader::run(&mut client, what, cli.output, out),
        What::Snapshot(Snapshot::Save { file, force, from }) => {
            let order = snapshot::Order::new(file, *force, *from, cli.timeout)?;
            order.save(&mut client, cli.output, out)
        }
        What::Bench(options) => {
            let manner = bench::Manner {
                choice: &choice,
                security: &security,
                protocol,
            };
            bench::run(&mut client, options, &manner, cli.output, out)
        }
        what => keys::run(&mut client, what, cli.output, out),
    }
}

/// The wire format that was asked for, by flag or variable.
fn protocol(cli: &Cli) -> Result<Format, Failure> {
    if let Some(protocol) = cli.protocol {
        return Ok(protocol);
    }
    match std::env::var("KRAFT_PROTOCOL") {
        Ok(text) if !text.is_empty() => text.parse().map_err(Failure::Protocol),
        _ => Ok(Format::Binary),
    }
}

/// The backend that was asked for, by flag or variable.
fn backend(cli: &Cli) -> Result<Option<Choice>, Failure> {
    if cli.backend.is_some() {
        return Ok(cli.backend.clone());
    }
    match std::env::var("KRAFT_BACKEND") {
        Ok(text) if !text.is_empty() => text.parse().map(Some).map_err(Failure::Backend),
        _ => Ok(None),
    }
}
