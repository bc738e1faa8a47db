//! CPU time of the servers, where they run on this host. Linux: everything comes out of `/proc`.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use kraft_core::adapter::Endpoint;

/// The unit of `/proc/PID/stat`: `USER_HZ`, 100 on every Linux whatever the kernel's own tick is.
const TICK: Duration = Duration::from_millis(10);

/// Processes whose CPU time is measured.
#[derive(Debug)]
pub(super) struct Processes {
    servers: Vec<u32>,
}

/// CPU time so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sample {
    /// Of all servers together; `None` if none is known, or one is gone.
    pub(super) servers: Option<Duration>,
    /// Of this process.
    pub(super) own: Option<Duration>,
    /// How many servers.
    pub(super) count: usize,
}

impl Processes {
    /// The given processes, or else those that listen at the ports of `addresses` on this host.
    pub(super) fn find(given: &[u32], addresses: &[Endpoint]) -> Self {
        let servers = if given.is_empty() {
            listeners(addresses)
        } else {
            given.to_vec()
        };
        Self { servers }
    }

    pub(super) fn sample(&self) -> Sample {
        let servers = self
            .servers
            .iter()
            .map(|pid| cpu_time(&pid.to_string()))
            .sum::<Option<Duration>>();
        Sample {
            servers: servers.filter(|_| !self.servers.is_empty()),
            own: cpu_time("self"),
            count: self.servers.len(),
        }
    }
}

/// User and system time of a process, all its threads, ended ones too.
fn cpu_time(pid: &str) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    parse_stat(&stat)
}

/// Fields 14 and 15 of proc_pid_stat(5). The second field, the program's name, may hold anything, so count behind its
/// last parenthesis.
fn parse_stat(stat: &str) -> Option<Duration> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    TICK.checked_mul(user.checked_add(system)?)
}

fn listeners(addresses: &[Endpoint]) -> Vec<u32> {
    let ports: BTreeSet<u16> = addresses
        .iter()
        .filter_map(|address| match address {
            Endpoint::Tcp(address) if is_local(address.ip()) => Some(address.port()),
            _ => None,
        })
        .collect();
    let inodes: BTreeSet<u64> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .flat_map(|table| listening_inodes(&table, &ports))
        .collect();
    if inodes.is_empty() {
        return Vec::new();
    }
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| holds(*pid, &inodes))
        .collect()
}

/// Only an address of this host can be bound.
fn is_local(ip: IpAddr) -> bool {
    UdpSocket::bind(SocketAddr::new(ip, 0)).is_ok()
}

/// The inodes of sockets that listen (state 0A) at one of `ports`, out of a table of proc_net(5).
fn listening_inodes(table: &str, ports: &BTreeSet<u16>) -> Vec<u64> {
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<_> = line.split_ascii_whitespace().collect();
            let port = u16::from_str_radix(fields.get(1)?.rsplit(':').next()?, 16).ok()?;
            let is_wanted = *fields.get(3)? == "0A" && ports.contains(&port);
            is_wanted.then(|| fields.get(9)?.parse().ok()).flatten()
        })
        .collect()
}

/// Whether the process has one of the sockets open. Those of other users cannot be seen, unless by root.
fn holds(pid: u32, inodes: &BTreeSet<u64>) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return false;
    };
    descriptors
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .filter_map(|target| {
            target
                .to_str()?
                .strip_prefix("socket:[")?
                .strip_suffix(']')?
                .parse()
                .ok()
        })
        .any(|inode: u64| inodes.contains(&inode))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_programs_name_does_not_confuse_its_times() {
        let stat = "12 (a) b (c) S 1 12 12 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 1 0 5 0 0";
        assert_eq!(parse_stat(stat), Some(Duration::from_secs(3)));
        assert_eq!(parse_stat("12 (kraftd) S 1"), None);
    }

    #[test]
    fn the_process_that_listens_is_found_by_its_port() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = Endpoint::Tcp(listener.local_addr().expect("its address"));
        assert_eq!(listeners(&[address]), [std::process::id()]);
    }

    #[test]
    fn an_address_of_another_host_names_no_process() {
        // TEST-NET-1 of RFC 5737 belongs to nobody.
        assert!(listeners(&[Endpoint::Tcp("192.0.2.1:22".parse().expect("an address"))]).is_empty());
    }

    #[test]
    fn the_own_time_can_be_read() {
        assert!(cpu_time("self").is_some());
    }
}
