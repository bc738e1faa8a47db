//! The command on leadership.

use std::io::Write;

use kraft_core::id::NodeId;

use super::cli::{Format, Leader};
use super::exit::{Exit, Failure};
use crate::client::Client;

/// Hands leadership over and prints who leads.
pub(super) fn run(client: &mut Client, what: &Leader, format: Format, out: &mut impl Write) -> Result<Exit, Failure> {
    let Leader::Transfer { to } = what;
    let leader = client.transfer(to.map(NodeId)).map_err(Failure::Transfer)?;
    match format {
        Format::Table => writeln!(out, "node {leader} leads")?,
        Format::Plain => writeln!(out, "{leader}")?,
        Format::Json => writeln!(out, "{{\"leader\":{leader}}}")?,
    }
    Ok(Exit::Ok)
}
