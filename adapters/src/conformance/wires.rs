//! The environment of the mock.

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use kraft_core::adapter::{Adapter, Endpoint, ListenOptions};

use super::counting::Counting;
use super::environment::{Environment, Remote, Silent};
use crate::Config;
use crate::mock::{self, Mock, Network};

/// A network of mocks: each adapter is on a host of its own, with the delays of a local network between them.
#[derive(Debug)]
pub struct Wires {
    network: Network,
    allocations: Option<fn() -> u64>,
}

impl Wires {
    /// `seed` decides delays and how streams are split.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let network = Network::new(seed);
        network.make_unroutable(IpAddr::V4(Ipv4Addr::BROADCAST));
        Self {
            network,
            allocations: None,
        }
    }

    /// As [`Sockets::counting`](super::Sockets::counting).
    #[must_use]
    pub fn counting(mut self, allocations: fn() -> u64) -> Self {
        self.allocations = Some(allocations);
        self
    }
}

impl Environment for Wires {
    type Adapter = Mock;
    type Remote = mock::Remote;

    fn open(&self, config: &Config) -> io::Result<Mock> {
        self.network.open(self.network.add_host(), config)
    }

    fn dial(&self, to: &Endpoint) -> io::Result<mock::Remote> {
        self.network.dial(to)
    }

    fn silent(&self) -> io::Result<Silent> {
        let host = self.network.add_host();
        let mut mock = self.network.open(host, &Config::default())?;
        let endpoint = Endpoint::Tcp(host.address(1));
        mock.listen(&endpoint, ListenOptions::default())?;
        self.network.power_off(host);
        Ok(Silent::new(endpoint, mock))
    }

    fn is_virtual(&self) -> bool {
        true
    }

    fn allocations(&self) -> Option<u64> {
        match self.allocations {
            Some(count) => Some(count()),
            None => Counting::is_installed().then(Counting::allocations),
        }
    }
}

impl Remote for mock::Remote {
    fn end(&mut self) -> io::Result<()> {
        Self::end(self);
        Ok(())
    }

    fn reset(self) -> io::Result<()> {
        Self::reset(self);
        Ok(())
    }
}
