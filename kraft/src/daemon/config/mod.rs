//! What kraftd is told, by whom, and whether it makes sense.

mod fields;
mod layers;
mod value;

use std::time::Duration;

pub use fields::{Config, FIELDS, Field};
pub use kraft_core::host_port::HostPort;
pub use layers::{Layers, Loaded, Source, load, load_text};
pub use value::{Kind, Members, Span};

/// Bytes of a cluster's name.
pub const CLUSTER_NAME_BYTES_MAX: usize = 64;

impl Config {
    /// Checks the fields against each other, once, before anything is opened.
    ///
    /// # Errors
    ///
    /// The field to blame, and a sentence with cause and cure.
    pub fn validate(&self) -> Result<(), (&'static str, String)> {
        self.validate_identity()?;
        self.validate_protocol()?;
        self.validate_times()?;
        self.validate_tls()?;
        self.validate_sizes()
    }

    fn validate_protocol(&self) -> Result<(), (&'static str, String)> {
        match self.protocol.parse::<kraft_protocols::Format>() {
            Ok(_) => Ok(()),
            Err(error) => Err(("protocol", format!("protocol is wrong: {error}"))),
        }
    }

    /// Half of TLS is none, and none where it was asked for is not what was asked for.
    fn validate_tls(&self) -> Result<(), (&'static str, String)> {
        let fields = [
            ("tls_cert", &self.tls_cert),
            ("tls_key", &self.tls_key),
            ("tls_ca", &self.tls_ca),
            ("tls_client_ca", &self.tls_client_ca),
        ];
        let Some((name, _)) = fields.into_iter().find(|(_, path)| path.is_some()) else {
            return Ok(());
        };
        check(cfg!(feature = "tls"), name, || {
            format!("{name} is set, and this kraftd was built without TLS: build it with --features tls, or unset it")
        })?;
        match fields[..3].iter().find(|(_, path)| path.is_none()) {
            None => Ok(()),
            Some((missing, _)) => Err((
                name,
                format!("{name} is set and {missing} is not: TLS takes tls_cert, tls_key and tls_ca, so set it, too"),
            )),
        }
    }

    fn validate_identity(&self) -> Result<(), (&'static str, String)> {
        check(!self.cluster.is_empty(), "cluster", || {
            "cluster is not set: kraftd init takes it as --cluster NAME".to_owned()
        })?;
        check(is_plain_name(&self.cluster), "cluster", || {
            format!("cluster is no plain name: use up to {CLUSTER_NAME_BYTES_MAX} letters, digits, '.', '_' and '-'")
        })?;
        check(self.id > 0, "id", || {
            "id is not set: kraftd init takes it as --id N, a number from 1".to_owned()
        })?;
        check(!self.peers.is_empty(), "peers", || {
            "peers is not set: kraftd init takes them as --peers ID=HOST:PORT,…".to_owned()
        })?;
        check(
            self.peers.joins() || self.peers.address(self.id).is_some(),
            "peers",
            || {
                format!(
                    "peers does not name the node itself: add {}=HOST:PORT, or correct the id",
                    self.id
                )
            },
        )?;
        check(self.listen.is_some(), "listen", || {
            "listen is not set: kraftd init takes it as --listen HOST:PORT".to_owned()
        })?;
        check(self.client.is_some(), "client", || {
            "client is not set: kraftd init takes it as --client HOST:PORT".to_owned()
        })?;
        let same = |a: &Option<HostPort>, b: &Option<HostPort>| a == b && a.as_ref().is_some_and(|at| at.port() != 0);
        check(!same(&self.listen, &self.client), "client", || {
            "client and listen are the same address: give clients a port of their own".to_owned()
        })?;
        check(
            !same(&self.metrics, &self.client) && !same(&self.metrics, &self.listen),
            "metrics",
            || "metrics has the address of listen or client: give it a port of its own".to_owned(),
        )
    }

    fn validate_times(&self) -> Result<(), (&'static str, String)> {
        let (min, max) = (self.election_timeout_ms_min, self.election_timeout_ms_max);
        check(min < max, "election_timeout_ms_min", || {
            "election_timeout_ms_min is not below election_timeout_ms_max: timeouts are drawn from between the two, \
             so leave a range, such as 150 and 300"
                .to_owned()
        })?;
        check(!self.heartbeat_ms.is_zero(), "heartbeat_ms", || {
            "heartbeat_ms is 0: set it to less than half of election_timeout_ms_min, such as 50".to_owned()
        })?;
        check(self.heartbeat_ms.saturating_mul(2) < min, "heartbeat_ms", || {
            format!(
                "heartbeat_ms is {}, and twice that is not below election_timeout_ms_min, which is {}: one lost \
                 heartbeat would start an election, so lower the one or raise the other",
                self.heartbeat_ms.as_millis(),
                min.as_millis()
            )
        })?;
        check(!self.lease_reads || self.check_quorum, "lease_reads", || {
            "lease_reads needs check_quorum: without it nodes vote while their leader lives, so that no lease holds"
                .to_owned()
        })?;
        let drift = self.lease_drift_ms_max;
        check(
            !self.lease_reads || drift.saturating_add(self.heartbeat_ms) < min,
            "lease_drift_ms_max",
            || {
                format!(
                    "lease_drift_ms_max is {}, and with heartbeat_ms that is not below election_timeout_ms_min, which is \
                     {}: a lease would end before it is renewed, so lower the one or raise the other",
                    drift.as_millis(),
                    min.as_millis()
                )
            },
        )?;
        // What the adapters allow.
        check(self.spin.0 <= Duration::from_secs(1), "spin", || {
            "spin is above a second: that is no wait but a core that is never idle, so lower it, to 50us or so"
                .to_owned()
        })?;
        check(max.as_secs() < 3600, "election_timeout_ms_max", || {
            "election_timeout_ms_max is an hour or more: nothing is written that long after a leader dies, so lower it"
                .to_owned()
        })?;
        check(self.sync_stall_ms_max >= max, "sync_stall_ms_max", || {
            "sync_stall_ms_max is below election_timeout_ms_max: a leader would give up before its followers do, so \
             raise it"
                .to_owned()
        })
    }

    fn validate_sizes(&self) -> Result<(), (&'static str, String)> {
        let bounds = [
            ("frame_bytes_max", self.frame_bytes_max, 4096, 64 << 20),
            ("append_bytes_max", self.append_bytes_max, 1, 32 << 20),
            ("inflight_bytes_max", self.inflight_bytes_max, 1, 1 << 30),
            ("key_bytes_max", self.key_bytes_max, 1, 1 << 20),
            ("value_bytes_max", self.value_bytes_max, 1, 32 << 20),
            ("uncommitted_bytes_max", self.uncommitted_bytes_max, 1 << 16, 1 << 40),
            ("state_bytes_max", self.state_bytes_max, 1 << 20, 1 << 44),
            ("log_bytes_max", self.log_bytes_max, 4 << 20, 1 << 48),
            ("log_segment_bytes", self.log_segment_bytes, 1 << 20, 64 << 20),
            ("log_segments_ahead", self.log_segments_ahead, 1, 16),
            ("log_segments_recycled_max", self.log_segments_recycled_max, 0, 1024),
            ("snapshot_bytes", self.snapshot_bytes, 1 << 16, 1 << 40),
            ("snapshot_entries", self.snapshot_entries, 100, 1 << 40),
            ("snapshots_keep", self.snapshots_keep, 1, 64),
            ("snapshot_margin_entries", self.snapshot_margin_entries, 0, 1 << 40),
            ("snapshot_margin_bytes", self.snapshot_margin_bytes, 0, 1 << 40),
            ("snapshot_bytes_per_second", self.snapshot_bytes_per_second, 0, 1 << 40),
            ("max_connections", self.max_connections, 1, 1 << 20),
            ("write_queue_bytes_max", self.write_queue_bytes_max, 1 << 16, 1 << 30),
        ];
        for (name, value, least, most) in bounds {
            check((least..=most).contains(&value), name, || {
                format!("{name} is {value}: set it to at least {least} and at most {most}")
            })?;
        }
        self.validate_frames()?;
        check(
            self.log_bytes_max / 4 >= self.log_segment_bytes,
            "log_bytes_max",
            || "log_bytes_max is less than four segments: raise it, or lower log_segment_bytes".to_owned(),
        )?;
        // Entries take more on disk than their payloads: a longer margin would be the log.
        check(
            self.snapshot_margin_bytes <= self.log_bytes_max / 4,
            "snapshot_margin_bytes",
            || {
                format!(
                    "snapshot_margin_bytes is {}, more than a quarter of log_bytes_max, which is {}: the log would be full of \
                     what a snapshot holds already, so lower the one or raise the other",
                    self.snapshot_margin_bytes, self.log_bytes_max
                )
            },
        )?;
        check(
            self.frame_bytes_max * 2 <= self.log_segment_bytes,
            "log_segment_bytes",
            || "log_segment_bytes is less than two frames of frame_bytes_max: raise it".to_owned(),
        )?;
        let alive = self.tcp_keepalive_ms;
        check(alive.is_zero() || alive.as_secs() >= 1, "tcp_keepalive_ms", || {
            "tcp_keepalive_ms is below a second, which TCP cannot count: set it to at least 1000, or to 0 for never"
                .to_owned()
        })?;
        check(!self.linger_ms.is_zero(), "linger_ms", || {
            "linger_ms is 0: a closing connection would cut its last replies, so set it to at least 1".to_owned()
        })
    }

    fn validate_frames(&self) -> Result<(), (&'static str, String)> {
        // A frame's header, the session's and the message's own fields take less than this.
        let header = 1024;
        let put = self.key_bytes_max + self.value_bytes_max;
        // Base64 makes four bytes of three. Appends are packed accordingly; a put is as large as it is.
        let put = if self.protocol == "json" {
            put.div_ceil(3) * 4
        } else {
            put
        };
        let largest = [
            (
                "a put of the largest key and value",
                "key_bytes_max or value_bytes_max",
                put,
            ),
            (
                "a message of append_bytes_max",
                "append_bytes_max",
                self.append_bytes_max,
            ),
        ];
        for (what, other, bytes) in largest {
            check(bytes + header <= self.frame_bytes_max, "frame_bytes_max", || {
                format!(
                    "frame_bytes_max is {}, and {what} does not fit into it: raise it to at least {}, or lower {other}",
                    self.frame_bytes_max,
                    bytes + header
                )
            })?;
        }
        let queued = self.frame_bytes_max + self.inflight_bytes_max;
        check(queued <= self.write_queue_bytes_max, "write_queue_bytes_max", || {
            format!(
                "write_queue_bytes_max is {}, and frame_bytes_max with inflight_bytes_max does not fit into it: raise it \
                 to at least {queued}, or lower one of them",
                self.write_queue_bytes_max
            )
        })
    }
}

fn check(holds: bool, field: &'static str, sentence: impl FnOnce() -> String) -> Result<(), (&'static str, String)> {
    if holds { Ok(()) } else { Err((field, sentence())) }
}

/// Whether `name` may be a cluster's.
pub(super) fn is_plain_name(name: &str) -> bool {
    name.len() <= CLUSTER_NAME_BYTES_MAX
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// The one of `known` that `name` was probably meant to be.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        // A third of the letters wrong is another word.
        .filter(|(distance, candidate)| distance * 3 <= candidate.len().max(3))
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(changes: &[(&str, &str)]) -> Config {
        let mut config = Config::default();
        let base = [
            ("cluster", "c"),
            ("id", "1"),
            ("peers", "1=a:1,2=b:1,3=c:1"),
            ("listen", "a:1"),
            ("client", "a:2"),
        ];
        for (name, text) in base.iter().chain(changes) {
            Field::named(name)
                .expect("a field")
                .set(&mut config, text)
                .expect("a value");
        }
        config
    }

    #[track_caller]
    fn check(changes: &[(&str, &str)], expected: Result<(), (&str, &str)>) {
        match (with(changes).validate(), expected) {
            (Ok(()), Ok(())) => {}
            (Err((field, sentence)), Err((blamed, part))) => {
                assert_eq!(field, blamed, "{sentence}");
                assert!(sentence.contains(part), "{sentence}");
            }
            (got, _) => panic!("{changes:?}: {got:?}"),
        }
    }

    #[test]
    fn fields_are_checked_against_each_other() {
        check(&[], Ok(()));
        check(&[("cluster", "")], Err(("cluster", "kraftd init")));
        check(&[("cluster", "a\nb")], Err(("cluster", "plain name")));
        check(&[("cluster", &"x".repeat(65))], Err(("cluster", "up to 64")));
        check(&[("id", "0")], Err(("id", "not set")));
        check(&[("id", "4")], Err(("peers", "add 4=HOST:PORT")));
        check(
            &[("protocol", "xml")],
            Err(("protocol", "no wire format is called xml")),
        );
        check(&[("client", "a:1")], Err(("client", "same address")));
        check(&[("client", "a:0"), ("listen", "a:0")], Ok(()));
        check(&[("metrics", "a:2")], Err(("metrics", "port of its own")));
        check(
            &[("heartbeat_ms", "75")],
            Err(("heartbeat_ms", "twice that is not below")),
        );
        check(&[("heartbeat_ms", "0")], Err(("heartbeat_ms", "less than half")));
        check(
            &[("heartbeat_ms", "18446744073709551615")],
            Err(("heartbeat_ms", "lower the one")),
        );
        check(&[("heartbeat_ms", "74")], Ok(()));
        check(
            &[("lease_reads", "true"), ("check_quorum", "false")],
            Err(("lease_reads", "needs check_quorum")),
        );
        check(
            &[("lease_reads", "true"), ("lease_drift_ms_max", "100")],
            Err(("lease_drift_ms_max", "before it is renewed")),
        );
        check(
            &[("election_timeout_ms_max", "150")],
            Err(("election_timeout_ms_min", "leave a range")),
        );
        check(
            &[("election_timeout_ms_max", "3600000")],
            Err(("election_timeout_ms_max", "an hour")),
        );
        check(&[("sync_stall_ms_max", "299")], Err(("sync_stall_ms_max", "raise it")));
        check(
            &[("value_bytes_max", "524288")],
            Err(("frame_bytes_max", "raise it to at least 529408")),
        );
        check(
            &[("frame_bytes_max", "18446744073709551615")],
            Err(("frame_bytes_max", "at most")),
        );
        check(
            &[("append_bytes_max", "524288")],
            Err(("frame_bytes_max", "lower append_bytes_max")),
        );
        check(
            &[("frame_bytes_max", "524289")],
            Err(("write_queue_bytes_max", "raise it to at least 1048577")),
        );
        check(&[("tcp_keepalive_ms", "999")], Err(("tcp_keepalive_ms", "0 for never")));
        check(&[("tcp_keepalive_ms", "0")], Ok(()));
        check(&[("spin", "2s")], Err(("spin", "above a second")));
        check(&[("spin", "1s")], Ok(()));
        check(&[("linger_ms", "0")], Err(("linger_ms", "at least 1")));
        if cfg!(feature = "tls") {
            let (cert, key, ca) = (("tls_cert", "c"), ("tls_key", "k"), ("tls_ca", "a"));
            check(&[cert, key, ca, ("tls_client_ca", "a")], Ok(()));
            check(&[cert, key], Err(("tls_cert", "tls_ca is not: TLS takes")));
            check(&[cert, ca], Err(("tls_cert", "tls_key is not")));
            check(&[key, ca], Err(("tls_key", "tls_cert is not")));
            check(&[("tls_client_ca", "a")], Err(("tls_client_ca", "tls_cert is not")));
        }
        check(
            &[("log_bytes_max", "268435455")],
            Err(("log_bytes_max", "four segments")),
        );
        let small = [("log_bytes_max", "67108864"), ("log_segment_bytes", "1048576")];
        let margin = |bytes| [small[0], small[1], ("snapshot_margin_bytes", bytes)];
        check(
            &small,
            Err(("snapshot_margin_bytes", "a quarter of log_bytes_max, which is 67108864")),
        );
        check(&margin("16777217"), Err(("snapshot_margin_bytes", "lower the one")));
        check(&margin("16777216"), Ok(()));
        check(&[("max_connections", "0")], Err(("max_connections", "at least 1")));
    }

    #[test]
    fn a_wrong_name_finds_its_nearest() {
        let names = || FIELDS.iter().map(|field| field.name);
        assert_eq!(nearest("heartbeat", names()), Some("heartbeat_ms"));
        assert_eq!(nearest("hearbeat_ms", names()), Some("heartbeat_ms"));
        assert_eq!(nearest("lisetn", names()), Some("listen"));
        assert_eq!(nearest("completely_else", names()), None);
    }

    #[test]
    fn names_bear_the_unit_of_their_type() {
        for field in FIELDS {
            let (unit, is_number) = (field.name.contains("_ms"), field.kind == Kind::Integer);
            let is_bytes = field.name.contains("_bytes");
            assert!(is_number || !(unit || is_bytes), "{}", field.name);
            assert!(field.doc.ends_with('.'), "{}", field.name);
        }
    }
}
