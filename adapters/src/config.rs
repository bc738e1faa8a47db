//! What every backend is opened with.

use std::fmt;
use std::time::Duration;

/// Limits and habits of an adapter, checked once by [`validate`](Self::validate) when it is opened.
///
/// Each field says which backends heed it; "all" includes `mock`, in virtual time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Connections at a time, accepted and dialled together: `ConnId::slot()` is below it. More that come in are
    /// turned away (law A27), more that are dialled are refused at once. Each listener has a limit of its own besides,
    /// so that the sum of those of client listeners can leave room for peers. At least 1, at most 2^24. All.
    pub max_connections: usize,
    /// Bytes of the buffer that the system reads into, which bounds one `Received`. At least 512. All; `epoll`,
    /// `kqueue` and `libuv` have one for the whole loop, `io-uring` a ring of them of 16 KiB each at most, `threads` one
    /// or two a connection. `mock` cuts what it delivers by it.
    pub read_buffer: usize,
    /// Bytes of all buffers of the ring that the system receives into, whatever the number of connections. More are
    /// used only as the load shows that it needs them; when all are full, connections wait their turn (law A30). At
    /// least 4 KiB, at most 16 MiB, beyond which they fall out of the cache faster than they help. `io-uring`.
    pub ring_bytes: usize,
    /// Bytes that a connection's outbox holds at most, in flight or not (law A8). At least 1. All.
    pub write_queue_max: usize,
    /// From so many bytes at a time on, the system sends from our memory instead of a copy of its own, `None` for
    /// never. One such send is on its way a connection, until the peer's system has acknowledged it: its memory is kept
    /// so long, beside what the outbox holds, and a connection that is cut keeps its slot, for `linger` at most. It spares a copy to network cards
    /// that gather; over loopback it loses (0.14 to 0.32 of the throughput at 16 KiB, 0.63 at 64 KiB, with 64
    /// connections). At least 1. TCP;
    /// `io-uring`, where the kernel knows it (Linux 6.1): others copy.
    pub zero_copy_min: Option<usize>,
    /// Sends small segments at once (Nagle's algorithm off). TCP; all but `mock`.
    pub tcp_nodelay: bool,
    /// Idle time before the system probes a TCP connection's peer, `None` for never. At least a second. All but
    /// `mock`.
    pub tcp_keepalive: Option<Duration>,
    /// How long a connect may take before it ends in `Closed(TimedOut)` (law A7). More than zero. All.
    pub connect_timeout: Duration,
    /// How long `close(Flush)` may take, also against a peer that never reads, before it ends in `Closed(TimedOut)`
    /// (law A9). More than zero. All.
    pub linger: Duration,
    /// Reads of one connection in one turn before the others get theirs (law A18). At least 1. Backends that read
    /// when a socket is readable: `epoll`, `kqueue`, `libuv`. `threads` delivers what its readers have, two buffers at
    /// most.
    pub reads_per_turn: usize,
    /// Connections of one listener accepted in one turn before others get theirs (law A18). At least 1. Backends that
    /// accept when a listener is readable: `epoll`, `kqueue`, `libuv`, `threads`.
    pub accepts_per_turn: usize,
    /// How long a listener rests after the system had no descriptor or memory for a connection (law A26). More than
    /// zero. All but `mock`.
    pub accept_pause: Duration,
    /// How long a poll looks for work without sleeping before it waits: latency bought with CPU. Zero for never. At
    /// most a second. A hand-written epoll loop that looked for 50 µs answered a single connection 3.1 to 3.8 times as
    /// often, at 6.4 µs for 20, and took 3.5 times the CPU of one that sleeps at 20,000 messages a second: it pays for who
    /// waits for answers one by one on a core to spare. `epoll`, `kqueue`, `io-uring`, `libuv`, `threads`, whose readers wait in the system all the same.
    pub spin: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_connections: 1024,
            read_buffer: 64 * 1024,
            ring_bytes: 16 * 1024 * 1024,
            write_queue_max: 1024 * 1024,
            zero_copy_min: None,
            tcp_nodelay: true,
            tcp_keepalive: Some(Duration::from_secs(60)),
            connect_timeout: Duration::from_secs(5),
            linger: Duration::from_secs(5),
            reads_per_turn: 4,
            accepts_per_turn: 64,
            accept_pause: Duration::from_millis(100),
            spin: Duration::ZERO,
        }
    }
}

/// The field of a [`Config`] that is out of its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfigError {
    field: &'static str,
    range: &'static str,
}

impl ConfigError {
    /// The field's name.
    #[must_use]
    pub fn field(&self) -> &'static str {
        self.field
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} must be {}", self.field, self.range)
    }
}

impl std::error::Error for ConfigError {}

impl From<ConfigError> for std::io::Error {
    fn from(error: ConfigError) -> Self {
        Self::new(std::io::ErrorKind::InvalidInput, error)
    }
}

impl Config {
    /// Checks every field's range. Backends call it when they are opened.
    ///
    /// # Errors
    ///
    /// The first field that is out of its range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let second = Duration::from_secs(1);
        let checks = [
            (
                "max_connections",
                "1 to 2^24",
                (1..=1 << 24).contains(&self.max_connections),
            ),
            (
                "read_buffer",
                "512 bytes to 1 GiB",
                (512..=1 << 30).contains(&self.read_buffer),
            ),
            (
                "ring_bytes",
                "4 KiB to 16 MiB",
                (4 << 10..=16 << 20).contains(&self.ring_bytes),
            ),
            (
                "write_queue_max",
                "1 byte to 1 GiB",
                (1..=1 << 30).contains(&self.write_queue_max),
            ),
            ("zero_copy_min", "at least 1", self.zero_copy_min != Some(0)),
            (
                "tcp_keepalive",
                "at least a second",
                self.tcp_keepalive.is_none_or(|idle| idle >= second),
            ),
            ("connect_timeout", "more than zero", !self.connect_timeout.is_zero()),
            ("linger", "more than zero", !self.linger.is_zero()),
            ("reads_per_turn", "at least 1", self.reads_per_turn >= 1),
            ("accepts_per_turn", "at least 1", self.accepts_per_turn >= 1),
            ("accept_pause", "more than zero", !self.accept_pause.is_zero()),
            ("spin", "at most a second", self.spin <= second),
        ];
        match checks.into_iter().find(|&(_, _, holds)| !holds) {
            Some((field, range, _)) => Err(ConfigError { field, range }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(field: &str, change: impl FnOnce(&mut Config)) {
        let mut config = Config::default();
        change(&mut config);
        assert_eq!(config.validate().expect_err("it is out of range").field(), field);
    }

    #[test]
    fn the_default_is_valid() {
        assert_eq!(Config::default().validate(), Ok(()));
    }

    #[test]
    fn every_limit_is_refused_by_its_name() {
        check("max_connections", |config| config.max_connections = 0);
        check("max_connections", |config| config.max_connections = (1 << 24) + 1);
        check("read_buffer", |config| config.read_buffer = 511);
        check("ring_bytes", |config| config.ring_bytes = 4095);
        check("ring_bytes", |config| config.ring_bytes = (16 << 20) + 1);
        check("write_queue_max", |config| config.write_queue_max = 0);
        check("zero_copy_min", |config| config.zero_copy_min = Some(0));
        check("tcp_keepalive", |config| {
            config.tcp_keepalive = Some(Duration::from_millis(999))
        });
        check("connect_timeout", |config| config.connect_timeout = Duration::ZERO);
        check("linger", |config| config.linger = Duration::ZERO);
        check("reads_per_turn", |config| config.reads_per_turn = 0);
        check("accepts_per_turn", |config| config.accepts_per_turn = 0);
        check("accept_pause", |config| config.accept_pause = Duration::ZERO);
        check("spin", |config| config.spin = Duration::from_secs(2));
    }

    #[test]
    fn the_message_says_what_is_allowed() {
        let config = Config {
            read_buffer: 0,
            ..Config::default()
        };
        let error = config.validate().expect_err("it is out of range");
        assert_eq!(error.to_string(), "read_buffer must be 512 bytes to 1 GiB");
    }
}
