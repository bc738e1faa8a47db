//! Where something is reached, as people write it: on command lines, in configurations, and as the address of a member.

use std::fmt;
use std::net::Ipv6Addr;

/// `HOST:PORT`: a name or address and a port. Names are looked up when they are used, not here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    host: String,
    port: u16,
}

impl HostPort {
    /// Reads the text form.
    ///
    /// # Errors
    ///
    /// What is wrong with it, to follow "… is ".
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const WRONG: &str = "not of the form HOST:PORT, as 10.0.0.1:4001, node1.example:4001 or [::1]:4001";
        let (host, port) = text.rsplit_once(':').ok_or(WRONG)?;
        let (host, is_host) = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(host) => (host, host.parse::<Ipv6Addr>().is_ok()),
            None => (host, is_name(host)),
        };
        let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
        match port.parse() {
            Ok(port) if is_host && is_number => Ok(Self {
                host: host.to_owned(),
                port,
            }),
            _ => Err(WRONG),
        }
    }

    /// Reads the text form of what is dialled, which others compare as a text: its port is not 0, and begins with no 0.
    ///
    /// # Errors
    ///
    /// As for [`parse`](Self::parse).
    pub fn parse_dialled(text: &str) -> Result<Self, &'static str> {
        let at = Self::parse(text)?;
        if at.port == 0 {
            return Err("at port 0, where nobody is reached");
        }
        if text.rsplit(':').next().is_some_and(|port| port.starts_with('0')) {
            return Err("written with a port that begins with 0");
        }
        Ok(at)
    }

    /// The name or address, an IPv6 address without its brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port; 0 lets the system choose where that makes sense.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }
}

/// RFC 1035 bounds a name to 253 characters; what is in it is the resolver's matter, but for what would break a line of the
/// log or of a data folder's file, and for what comes of a URL or a bare IPv6 address.
fn is_name(host: &str) -> bool {
    !host.is_empty() && host.len() <= 253 && host.chars().all(|c| c.is_ascii_graphic() && !":,=/\"[]".contains(c))
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (host, port) = (self.host(), self.port());
        if host.contains(':') {
            write!(f, "[{host}]:{port}")
        } else {
            write!(f, "{host}:{port}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, host: &str, port: u16) {
        let at = HostPort::parse(text).unwrap_or_else(|why| panic!("{text:?} is {why}"));
        assert_eq!((at.host(), at.port()), (host, port));
        assert_eq!(at.to_string(), text);
    }

    #[test]
    fn addresses_are_host_and_port() {
        check("10.0.0.1:4001", "10.0.0.1", 4001);
        check("node-1.example:0", "node-1.example", 0);
        check("[::1]:65535", "::1", 65535);
        let longest = "a".repeat(253);
        check(&format!("{longest}:1"), &longest, 1);
        let too_long = format!("{longest}a:1");
        for wrong in [
            "",
            ":",
            "4001",
            "host",
            "host:",
            ":4001",
            "host:65536",
            "host:+1",
            "host:-1",
            "::1:4001",
            "[::1]",
            "[::1:1",
            "::1]:1",
            "[host]:1",
            "[]:1",
            "a b:1",
            "a\n:1",
            "a,b:1",
            "a=b:1",
            "a/b:1",
            "a\"b:1",
            "http://a:1",
            "\u{1b}[31m:1",
            &too_long,
        ] {
            let why = HostPort::parse(wrong).expect_err(wrong);
            assert!(why.starts_with("not of the form HOST:PORT"), "{wrong:?}: {why}");
        }
    }

    #[test]
    fn nobody_is_dialled_at_port_zero() {
        assert!(HostPort::parse_dialled("a:1").is_ok());
        assert_eq!(
            HostPort::parse_dialled("a:0"),
            Err("at port 0, where nobody is reached")
        );
        assert_eq!(HostPort::parse_dialled("a:00").ok(), None);
        assert!(HostPort::parse_dialled("a").is_err());
    }

    #[test]
    fn a_port_that_begins_with_zero_is_read_and_not_dialled() {
        assert_eq!(HostPort::parse("a:04001"), HostPort::parse("a:4001"));
        assert_eq!(
            HostPort::parse_dialled("a:04001"),
            Err("written with a port that begins with 0")
        );
    }
}
