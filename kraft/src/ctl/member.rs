//! The commands on members.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use kraft_core::id::{Index, NodeId};
use kraft_core::message::{Change, Standing};

use super::cli::{Format, Member, Waiting};
use super::exit::{Exit, Failure};
use super::format::{Table, json_text};
use crate::client::{Client, MemberReport, Members};

/// How often it is looked how far a new member is.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// How often that is shown where lines cannot be written over.
const LINE_INTERVAL: Duration = Duration::from_secs(2);

/// How long a command on a terminal waits.
const WAIT_ON_TERMINAL: Duration = Duration::from_secs(3600);

/// Does what is asked about members, and prints what came of it.
pub(super) fn run(client: &mut Client, what: &Member, format: Format, out: &mut impl Write) -> Result<Exit, Failure> {
    match what {
        Member::List => {
            let members = client.members().map_err(Failure::Members)?;
            print_list(&members, format, out)?;
            if members.members.is_empty() {
                let _ = writeln!(
                    io::stderr(),
                    "kraftctl: no members are known: a node that waits to be added knows none"
                );
            }
        }
        Member::Add {
            node,
            address,
            learner,
            waiting,
        } => {
            let node = NodeId(*node);
            let promote = !learner;
            let index = change(client, Change::Add { node, address, promote })?;
            let caught_up = match until(*waiting) {
                Some(span) => wait(client, node, promote, span)?,
                None => false,
            };
            // One that is a member already is left as it is.
            let votes = !caught_up && standing_of(client, node) == Some(Standing::Voter);
            let sentence = match (promote, caught_up) {
                _ if votes => format!("node {node} is a member, and votes"),
                (true, true) => format!("node {node} has caught up, and votes"),
                (false, true) => format!("node {node} has caught up, and learns"),
                (true, false) => format!("node {node} is a member, and votes when it has caught up"),
                (false, false) => format!("node {node} is a member, and learns"),
            };
            print_done(index, &sentence, format, out)?;
        }
        Member::Promote { node } => {
            let node = NodeId(*node);
            let index = change(client, Change::Promote { node })?;
            print_done(index, &format!("node {node} votes"), format, out)?;
        }
        Member::Remove { node } => {
            let node = NodeId(*node);
            let index = change(client, Change::Remove { node })?;
            print_done(index, &format!("node {node} is no member any more"), format, out)?;
        }
        Member::Replace {
            node,
            by,
            address,
            waiting,
        } => {
            let (node, by) = (NodeId(*node), NodeId(*by));
            let index = change(client, Change::Replace { node, by, address })?;
            let caught_up = match until(*waiting) {
                Some(span) => wait(client, by, true, span)?,
                None => false,
            };
            let sentence = match caught_up {
                true => format!("node {by} has caught up, and votes in the place of node {node}"),
                false => format!("node {by} is a member, and takes the place of node {node} when it has caught up"),
            };
            print_done(index, &sentence, format, out)?;
        }
        Member::Move { node, address } => {
            let node = NodeId(*node);
            let index = change(client, Change::Move { node, address })?;
            print_done(index, &format!("node {node} is reached at {address}"), format, out)?;
        }
    }
    Ok(Exit::Ok)
}

fn change(client: &mut Client, change: Change<'_>) -> Result<Index, Failure> {
    client.change(change).map_err(Failure::Member)
}

/// What a member is, if a leader says so.
fn standing_of(client: &mut Client, node: NodeId) -> Option<Standing> {
    let members = client.members().ok().filter(|members| members.is_by_leader)?;
    members.get(node).map(|member| member.standing)
}

/// How long to wait for a new member, if at all.
fn until(waiting: Waiting) -> Option<Duration> {
    let on_terminal = io::stderr().is_terminal() && !waiting.no_wait;
    waiting.wait.or_else(|| on_terminal.then_some(WAIT_ON_TERMINAL))
}

/// How far a new member is.
struct Progress {
    node: NodeId,
    matched: Index,
    last: Index,
    snapshot_percent: u8,
}

impl Progress {
    fn of(members: &Members, member: &MemberReport) -> Self {
        Self {
            node: member.node,
            matched: member.matched,
            last: members.last,
            snapshot_percent: member.snapshot_percent,
        }
    }

    fn percent(&self) -> u64 {
        let (matched, last) = (u128::from(self.matched.0), u128::from(self.last.0.max(1)));
        u64::try_from(matched * 100 / last).unwrap_or(100).min(100)
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            node, matched, last, ..
        } = self;
        write!(f, "node {node} has {matched} of {last} entries ({} %)", self.percent())?;
        match self.snapshot_percent {
            0 => Ok(()),
            percent => write!(f, " and {percent} % of a snapshot"),
        }
    }
}

/// Waits until a new member votes, or if it is only to learn, until it has the log. Always true, else a failure.
fn wait(client: &mut Client, node: NodeId, votes: bool, span: Duration) -> Result<bool, Failure> {
    let until = Instant::now() + span;
    let terminal = io::stderr().is_terminal();
    let mut shown: Option<Instant> = None;
    let mut goal = None;
    let mut progress = None;
    loop {
        // While nobody leads there is nothing to see; it goes on when somebody does.
        let members = client.members().ok().filter(|members| members.is_by_leader);
        if let Some(members) = &members {
            let goal = *goal.get_or_insert(members.last);
            let member = members.get(node);
            let Some(member) = member else {
                return Err(lags(node, "was removed meanwhile"));
            };
            let is_there = match votes {
                true => member.standing == Standing::Voter,
                false => member.matched >= goal,
            };
            progress = Some(Progress::of(members, member));
            let is_due = shown.is_none_or(|at| terminal || at.elapsed() >= LINE_INTERVAL);
            if let Some(progress) = progress.as_ref().filter(|_| is_due || is_there) {
                show(progress, terminal, is_there);
                shown = Some(Instant::now());
            }
            if is_there {
                return Ok(true);
            }
        }
        if Instant::now() >= until {
            let far = progress.map_or_else(String::new, |progress| format!("; {progress}"));
            let span = humantime::format_duration(span);
            return Err(lags(node, &format!("has not caught up within {span}{far}")));
        }
        client.wait(LOOK_INTERVAL)?;
    }
}

fn lags(node: NodeId, what: &str) -> Failure {
    Failure::Lags(format!(
        "node {node} {what}; it goes on by itself: kraftctl member list shows how far it is, kraftctl member remove {node} \
         undoes it"
    ))
}

/// On standard error: what is printed as the result stays for programs. A terminal that is gone is no failure.
fn show(progress: &Progress, terminal: bool, is_last: bool) {
    let mut err = io::stderr();
    let _ = match (terminal, is_last) {
        (true, false) => write!(err, "\r{progress}\x1b[K"),
        (true, true) => writeln!(err, "\r{progress}\x1b[K"),
        (false, _) => writeln!(err, "{progress}"),
    };
    let _ = err.flush();
}

fn print_done(index: Index, sentence: &str, format: Format, out: &mut impl Write) -> io::Result<()> {
    match format {
        Format::Table => writeln!(out, "{sentence}"),
        Format::Plain => writeln!(out, "{index}"),
        Format::Json => writeln!(out, "{{\"done\":true,\"index\":{index}}}"),
    }
}

/// The word for it.
pub(super) const fn standing_name(standing: Standing) -> &'static str {
    match standing {
        Standing::Voter => "voter",
        Standing::Learner => "learner",
        Standing::Leaving => "leaving",
        Standing::Joining => "joining",
        Standing::Recovering => "recovering",
    }
}

fn print_list(members: &Members, format: Format, out: &mut impl Write) -> io::Result<()> {
    let by_leader = |text: String| if members.is_by_leader { text } else { "-".to_owned() };
    let heard = |member: &MemberReport| match member.heard_ms {
        u64::MAX => None,
        heard => Some(heard),
    };
    match format {
        Format::Table => {
            let headings = ["ID", "ADDRESS", "STANDING", "LEADS", "MATCHED", "BEHIND", "HEARD"];
            let mut table = Table::new(&headings, &[true, false, false, false, true, true, true]);
            for member in &members.members {
                let behind = members.last.0.saturating_sub(member.matched.0);
                let leads = if member.node == members.leader { "yes" } else { "" };
                let heard = heard(member).map_or_else(|| "never".to_owned(), |ms| format!("{ms} ms"));
                table.row(vec![
                    member.node.to_string(),
                    member.address.clone(),
                    standing_name(member.standing).to_owned(),
                    leads.to_owned(),
                    by_leader(member.matched.to_string()),
                    by_leader(match member.snapshot_percent {
                        0 => behind.to_string(),
                        percent => format!("{behind} (snapshot: {percent} %)"),
                    }),
                    heard,
                ]);
            }
            table.print(out)
        }
        Format::Plain => {
            for member in &members.members {
                let standing = standing_name(member.standing);
                let matched = by_leader(member.matched.to_string());
                writeln!(out, "{}\t{}\t{standing}\t{matched}", member.node, member.address)?;
            }
            Ok(())
        }
        Format::Json => {
            write!(
                out,
                "{{\"leader\":{},\"index\":{},\"last\":{},\"by_leader\":{},\"members\":[",
                members.leader, members.index, members.last, members.is_by_leader
            )?;
            for (at, member) in members.members.iter().enumerate() {
                let separator = if at == 0 { "" } else { "," };
                let heard = heard(member).map_or_else(|| "null".to_owned(), |ms| ms.to_string());
                let matched = match members.is_by_leader {
                    true => member.matched.to_string(),
                    false => "null".to_owned(),
                };
                write!(
                    out,
                    "{separator}\n {{\"node\":{},\"address\":{},\"standing\":\"{}\",\"matched\":{matched},\
                     \"heard_ms\":{heard},\"snapshot_percent\":{}}}",
                    member.node,
                    json_text(&member.address),
                    standing_name(member.standing),
                    member.snapshot_percent
                )?;
            }
            writeln!(out, "]}}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(is_by_leader: bool) -> Members {
        let member = |node, standing, matched, heard_ms| MemberReport {
            node: NodeId(node),
            address: format!("10.0.0.{node}:7001"),
            standing,
            matched: Index(matched),
            heard_ms,
            snapshot_percent: if standing == Standing::Learner { 57 } else { 0 },
        };
        Members {
            leader: NodeId(1),
            index: Index(7),
            last: Index(100),
            members: vec![
                member(1, Standing::Voter, 100, 0),
                member(4, Standing::Learner, 60, u64::MAX),
            ],
            is_by_leader,
        }
    }

    #[track_caller]
    fn check(is_by_leader: bool, format: Format, expected: &str) {
        let mut out = Vec::new();
        print_list(&members(is_by_leader), format, &mut out).expect("a Vec takes all");
        assert_eq!(String::from_utf8(out).expect("text"), expected);
    }

    #[test]
    fn members_are_listed_in_each_format() {
        check(
            true,
            Format::Table,
            "ID  ADDRESS        STANDING  LEADS  MATCHED               BEHIND  HEARD\n \
             1  10.0.0.1:7001  voter     yes        100                    0   0 ms\n \
             4  10.0.0.4:7001  learner               60  40 (snapshot: 57 %)  never\n",
        );
        check(
            true,
            Format::Plain,
            "1\t10.0.0.1:7001\tvoter\t100\n4\t10.0.0.4:7001\tlearner\t60\n",
        );
        check(
            false,
            Format::Json,
            "{\"leader\":1,\"index\":7,\"last\":100,\"by_leader\":false,\"members\":[\n \
             {\"node\":1,\"address\":\"10.0.0.1:7001\",\"standing\":\"voter\",\"matched\":null,\"heard_ms\":0,\"snapshot_percent\":0},\n \
             {\"node\":4,\"address\":\"10.0.0.4:7001\",\"standing\":\"learner\",\"matched\":null,\"heard_ms\":null,\
             \"snapshot_percent\":57}]}\n",
        );
    }

    #[test]
    fn progress_is_a_share_of_the_log() {
        let members = members(true);
        let progress = Progress::of(&members, &members.members[1]);
        assert_eq!(
            progress.to_string(),
            "node 4 has 60 of 100 entries (60 %) and 57 % of a snapshot"
        );
    }
}
