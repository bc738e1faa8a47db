//! A network for each node, joined by a bridge where the clients are, and what keeps packets from passing.

use std::fmt::Write;
use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::command::{self, Trouble};

/// Nodes are 1 to this; 0 stands for the clients, all of whom are at the bridge.
pub(crate) const NODES: usize = 5;

/// Who can be at an end of a line: the clients and the nodes.
const ENDS: usize = NODES + 1;

/// Where the names of networks are. A file system of our own covers it, so that our names are nobody else's.
pub(crate) const NAMES: &str = "/run";

/// Where a node is, or for 0 the clients.
pub(crate) fn address(end: usize) -> Ipv4Addr {
    let last = if end == 0 { 254 } else { end };
    Ipv4Addr::new(10, 77, 0, u8::try_from(last).expect("few nodes"))
}

/// Makes the bridge and the networks, in the network namespace of this process.
///
/// # Errors
///
/// What cannot be made here.
pub(crate) fn make() -> Result<(), Trouble> {
    command::run("mount", &["-t", "tmpfs", "kraft-chaos", NAMES])?;
    ip("link set lo up")?;
    ip("link add hub type bridge")?;
    ip(&format!("addr add {}/24 dev hub", address(0)))?;
    ip("link set hub up")?;
    for node in 1..=NODES {
        ip(&format!("netns add node-{node}"))?;
        ip(&format!(
            "link add line-{node} type veth peer name line netns node-{node}"
        ))?;
        ip(&format!("link set line-{node} master hub up"))?;
        ip(&format!("-n node-{node} link set lo up"))?;
        ip(&format!("-n node-{node} addr add {}/24 dev line", address(node)))?;
        ip(&format!("-n node-{node} link set line up"))?;
    }
    Ok(())
}

/// Runs something in a node's network, on a thread of its own: a network is a thread's.
///
/// # Errors
///
/// The network is not there.
///
/// # Panics
///
/// If `act` does.
pub(crate) fn inside<T: Send>(node: usize, act: impl FnOnce() -> T + Send) -> Result<T, Trouble> {
    let on_thread = || {
        enter(node)?;
        Ok(act())
    };
    thread::scope(|scope| scope.spawn(on_thread).join().expect("it does not panic"))
}

/// Moves this thread into a node's network.
///
/// # Errors
///
/// The network is not there.
pub(crate) fn enter(node: usize) -> Result<(), Trouble> {
    let name = format!("{NAMES}/netns/node-{node}");
    let path = Path::new(&name);
    let file = File::open(path).map_err(|error| Trouble::at(path, &error))?;
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
        .map_err(|error| Trouble::at(path, &error.into()))
}

/// Breaks all TCP connections of a node; how many.
///
/// # Errors
///
/// `ss` is missing, or fails.
pub(crate) fn sever(node: usize) -> Result<usize, Trouble> {
    let kill = || {
        Command::new("ss")
            .args(["-K", "-H", "-t", "-n", "dst", "10.77.0.0/24"])
            .stdin(Stdio::null())
            .output()
    };
    let output = inside(node, kill)?.map_err(|error| Trouble::new(format!("ss: {error}")))?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().count())
}

/// Which packets do not pass, and which wait in user space.
///
/// Faults overlap: each is counted, and a line is whole again when the last one that cut it is over.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    /// By receiver, then by sender.
    cut: [[u32; ENDS]; ENDS],
    /// By receiver: everything that comes in goes through user space.
    queued: [u32; ENDS],
}

impl Lines {
    /// Nothing that `from` sends reaches `to`, until it is joined again as often.
    pub(crate) fn cut(&mut self, from: usize, to: usize) {
        self.cut[to][from] += 1;
    }

    /// Undoes one cut.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub(crate) fn join(&mut self, from: usize, to: usize) {
        self.cut[to][from] -= 1;
    }

    /// What comes in at a node waits in user space.
    pub(crate) fn queue(&mut self, node: usize) {
        self.queued[node] += 1;
    }

    /// Undoes one [`queue`](Self::queue).
    ///
    /// # Panics
    ///
    /// If there is none.
    pub(crate) fn unqueue(&mut self, node: usize) {
        self.queued[node] -= 1;
    }

    /// Has the kernel do so, in all networks.
    ///
    /// # Errors
    ///
    /// It does not.
    pub(crate) fn apply(&self) -> Result<(), Trouble> {
        for node in 1..=NODES {
            let rules = self.rules(node);
            inside(node, || restore(&rules))??;
        }
        // At the bridge there are the clients alone: what passes between nodes is forwarded and does not come in.
        restore(&self.rules(0))
    }

    fn rules(&self, to: usize) -> String {
        let mut rules = "*filter\n:INPUT ACCEPT [0:0]\n".to_owned();
        for from in (0..ENDS).filter(|from| self.cut[to][*from] > 0) {
            let _ = writeln!(rules, "-A INPUT -s {} -j DROP", address(from));
        }
        if self.queued[to] > 0 {
            // Without a listener packets pass.
            rules.push_str("-A INPUT -s 10.77.0.0/24 -j NFQUEUE --queue-num 0 --queue-bypass\n");
        }
        rules.push_str("COMMIT\n");
        rules
    }
}

/// Replaces all rules of a network at once.
fn restore(rules: &str) -> Result<(), Trouble> {
    // Its lock is below /run, of which each run has its own; runs of other programs are not waited for.
    command::feed("iptables-restore", &["-w"], rules)
}

/// Whether packets can be dropped here, and whether they can wait in user space, or why not. Changes nothing.
pub(crate) fn probe() -> (Result<(), Trouble>, Result<(), Trouble>) {
    let mut lines = Lines::default();
    lines.cut(1, 2);
    let cut = lines.apply();
    lines.join(1, 2);
    lines.queue(1);
    let queue = lines.apply();
    lines.unqueue(1);
    if cut.is_ok() {
        let _ = lines.apply();
    }
    (cut, queue)
}

fn ip(arguments: &str) -> Result<(), Trouble> {
    command::run("ip", &arguments.split_whitespace().collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_whole_when_the_last_fault_that_cut_it_is_over() {
        let mut lines = Lines::default();
        lines.cut(2, 1);
        lines.cut(2, 1);
        lines.queue(1);
        lines.join(2, 1);
        let cut = "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -s 10.77.0.2 -j DROP\n\
                   -A INPUT -s 10.77.0.0/24 -j NFQUEUE --queue-num 0 --queue-bypass\nCOMMIT\n";
        assert_eq!(lines.rules(1), cut);
        lines.join(2, 1);
        lines.unqueue(1);
        assert_eq!(lines.rules(1), "*filter\n:INPUT ACCEPT [0:0]\nCOMMIT\n");
        assert_eq!(lines.rules(0), lines.rules(1));
    }
}
