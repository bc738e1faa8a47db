//! The workloads over an adapter of Kraft, as a user of the trait would write them.

mod echo;
mod fan_out;
mod pump;

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use kraft_adapters::Config;
use kraft_core::adapter::{Adapter, Endpoint, Event, ListenOptions};
use kraft_core::id::TimerId;

use self::echo::Echo;
use self::fan_out::FanOut;
use self::pump::Pump;
use crate::inside::{self, Clockwork};
use crate::job::Job;
use crate::serve::{self, BACKLOG, READ_BUFFER, Task};

/// Room beside the connections of the load.
const SPARE_CONNECTIONS: usize = 16;

/// Does the task over the adapter that `open` opens.
pub(crate) fn serve<A: Adapter>(open: fn(&Config) -> io::Result<A>, task: &Task) -> io::Result<()> {
    let config = Config {
        max_connections: task.connections + SPARE_CONNECTIONS,
        read_buffer: READ_BUFFER,
        spin: task.spin,
        ..Config::default()
    };
    let mut adapter = open(&config)?;
    match task.job {
        Job::Echo => {
            listen(&mut adapter, &config)?;
            let mut echo = Echo::new(task.puts);
            loop {
                adapter.poll(None, |_, event| echo.answer(event))?;
            }
        }
        Job::Pump => {
            listen(&mut adapter, &config)?;
            let mut pump = Pump::default();
            loop {
                adapter.poll(None, |_, event| pump.answer(event))?;
            }
        }
        Job::FanOut => {
            listen(&mut adapter, &config)?;
            let mut fan_out = FanOut::default();
            loop {
                adapter.poll(None, |_, event| fan_out.hear(event))?;
                fan_out.tell(&mut adapter);
            }
        }
        Job::Wake | Job::Flood => {
            let waker = adapter.waker();
            let bell = inside::ring(task, move || waker.wake())?;
            loop {
                adapter.poll(None, |_, event| {
                    if let Event::Woken = event {
                        bell.hear();
                    }
                })?;
            }
        }
        Job::Churn | Job::Expire => inside::timers(task, &mut Timers(adapter)),
        Job::Replicate => unreachable!("no loop is asked for it"),
    }
}

/// Listens and tells the load where.
fn listen<A: Adapter>(adapter: &mut A, config: &Config) -> io::Result<()> {
    let at = Endpoint::Tcp((Ipv4Addr::LOCALHOST, 0).into());
    let options = ListenOptions {
        max_connections: config.max_connections,
        backlog: BACKLOG.unsigned_abs(),
        ..ListenOptions::default()
    };
    let listener = adapter.listen(&at, options)?;
    match adapter.local_endpoint(listener)? {
        Endpoint::Tcp(address) => serve::announce(address),
        at @ Endpoint::Unix(_) => Err(io::Error::other(format!("asked for TCP, got {at}"))),
    }
}

/// The timers of an adapter.
struct Timers<A>(A);

impl<A: Adapter> Clockwork for Timers<A> {
    type Timer = TimerId;

    fn start(&mut self, after: Duration) -> TimerId {
        let deadline = self.0.now() + after;
        self.0.timers().start(deadline)
    }

    fn stop(&mut self, timer: TimerId) {
        self.0.timers().stop(timer);
    }

    fn expire(&mut self, count: usize) -> io::Result<usize> {
        let mut expired = 0;
        while expired < count && !self.0.timers().is_empty() {
            self.0.poll(None, |_, event| {
                if let Event::Expired { .. } = event {
                    expired += 1;
                }
            })?;
        }
        Ok(expired)
    }
}

/// What an outbox holds, as it would be sent.
#[cfg(test)]
fn taken(link: &mut kraft_core::link::Link) -> Vec<u8> {
    let mut segments = kraft_core::outbox::Segments::new();
    link.outbox().take(&mut segments);
    let bytes = segments.slices().flat_map(|slice| slice.to_vec()).collect();
    let count = segments.len();
    segments.advance(count);
    link.outbox().settle(0);
    bytes
}
