//! One table for all nodes.

use std::io::Write;
use std::time::Duration;

use kraft_core::message::NodeState;

use super::cli::Format;
use super::exit::{Exit, Failure};
use super::format::{Table, json_text, printable};
use crate::client::{Client, MemberReport, NodeReport, NodeStatus};

/// Asks all nodes and prints what they say; fails if one says nothing.
pub(super) fn run(client: &mut Client, format: Format, out: &mut impl Write) -> Result<Exit, Failure> {
    let results = client.status()?;
    let leader = leader_of(&results);
    match format {
        Format::Table => print_table(&results, leader, out)?,
        Format::Plain => print_plain(&results, leader, out)?,
        Format::Json => print_json(&results, leader, out)?,
    }
    let all = results.iter().all(|status| status.report.is_ok());
    Ok(if all { Exit::Ok } else { Exit::Failed })
}

/// The report of the node that leads: of two that say so, the one of the later term.
pub(super) fn leader_of(results: &[NodeStatus]) -> Option<&NodeReport> {
    results
        .iter()
        .filter_map(|status| status.report.as_ref().ok())
        .filter(|report| report.state == NodeState::Leader)
        .max_by_key(|report| report.term)
}

fn state_name(report: &NodeReport) -> &'static str {
    match report.state {
        // It takes entries, and votes for nobody.
        NodeState::Follower if report.recovering => "recovering",
        NodeState::Follower => "follower",
        NodeState::PreCandidate => "pre-candidate",
        NodeState::Candidate => "candidate",
        NodeState::Leader => "leader",
    }
}

/// How far the leader knows the node's log to match its own, and how long ago it heard the node.
fn seen_by<'a>(leader: Option<&'a NodeReport>, report: &NodeReport) -> Option<&'a MemberReport> {
    leader
        .filter(|leader| leader.node != report.node)?
        .members
        .iter()
        .find(|member| member.node == report.node)
}

fn span(millis: u64) -> String {
    let whole = if millis < 10_000 { millis } else { millis / 1000 * 1000 };
    humantime::format_duration(Duration::from_millis(whole))
        .to_string()
        .replace(' ', "")
}

/// The cells of a row, after name and address.
fn cells(leader: Option<&NodeReport>, report: &NodeReport) -> Vec<String> {
    let seen = seen_by(leader, report);
    vec![
        state_name(report).into(),
        report.term.to_string(),
        if report.leader.is_some() {
            report.leader.to_string()
        } else {
            "-".into()
        },
        report.commit.to_string(),
        report.applied.to_string(),
        report.durable.to_string(),
        match report.first <= report.last {
            true => format!("{}-{}", report.first, report.last),
            false => "empty".into(),
        },
        seen.map_or_else(|| "-".into(), |member| member.matched.to_string()),
        match seen.map(|member| member.heard_ms) {
            None => "-".into(),
            Some(u64::MAX) => "never".into(),
            Some(millis) => span(millis),
        },
        span(report.uptime_ms),
        report.backend.clone(),
        report.version.clone(),
    ]
}

fn print_table(results: &[NodeStatus], leader: Option<&NodeReport>, out: &mut impl Write) -> Result<(), Failure> {
    let mut table = Table::new(
        &[
            "NODE", "ADDRESS", "STATE", "TERM", "LEADER", "COMMIT", "APPLIED", "DURABLE", "LOG", "MATCHED", "HEARD",
            "UP", "BACKEND", "VERSION",
        ],
        &[
            true, false, false, true, true, true, true, true, false, true, true, true, false, false,
        ],
    );
    for NodeStatus { node, report: result } in results {
        let address = printable(node.name.as_bytes());
        match result {
            Ok(report) => {
                let mut row = vec![report.node.to_string(), address];
                row.extend(cells(leader, report));
                table.row(row);
            }
            Err(_) => table.row(vec!["?".into(), address, "unreachable".into()]),
        }
    }
    table.print(out)?;
    for NodeStatus { node, report: result } in results {
        if let Err(why) = result {
            writeln!(out, "{}: {why}", printable(node.name.as_bytes()))?;
        }
    }
    Ok(())
}

fn print_plain(results: &[NodeStatus], leader: Option<&NodeReport>, out: &mut impl Write) -> Result<(), Failure> {
    for NodeStatus { node, report: result } in results {
        let address = printable(node.name.as_bytes());
        match result {
            Ok(report) => writeln!(out, "{}\t{address}\t{}", report.node, cells(leader, report).join("\t"))?,
            Err(why) => writeln!(out, "?\t{address}\tunreachable\t{why}")?,
        }
    }
    Ok(())
}

fn print_json(results: &[NodeStatus], leader: Option<&NodeReport>, out: &mut impl Write) -> Result<(), Failure> {
    for (at, NodeStatus { node, report: result }) in results.iter().enumerate() {
        let open = if at == 0 { "[" } else { ",\n " };
        let address = json_text(&node.name);
        match result {
            Ok(report) => {
                let seen = seen_by(leader, report);
                let matched = seen.map_or_else(|| "null".into(), |member| member.matched.to_string());
                let heard = seen.map(|member| member.heard_ms).filter(|heard| *heard != u64::MAX);
                write!(
                    out,
                    "{open}{{\"address\":{address},\"node\":{},\"state\":{},\"term\":{},\"leader\":{},\"commit\":{},\
                     \"applied\":{},\"durable\":{},\"first\":{},\"last\":{},\"matched\":{matched},\"heard_ms\":{},\
                     \"uptime_ms\":{},\"backend\":{},\"version\":{}}}",
                    report.node,
                    json_text(state_name(report)),
                    report.term,
                    report.leader,
                    report.commit,
                    report.applied,
                    report.durable,
                    report.first,
                    report.last,
                    heard.map_or_else(|| "null".into(), |heard| heard.to_string()),
                    report.uptime_ms,
                    json_text(&report.backend),
                    json_text(&report.version),
                )?;
            }
            Err(why) => write!(out, "{open}{{\"address\":{address},\"error\":{}}}", json_text(why))?,
        }
    }
    writeln!(out, "]")?;
    Ok(())
}
