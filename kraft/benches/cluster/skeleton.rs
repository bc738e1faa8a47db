//! The bare skeleton of a replicated write: three processes that pass the bytes and sync them, and nothing else. No
//! Raft, no checksums, one request at a time: what the machine itself takes for the path that a put has to go.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};

/// About what a put of 256 bytes is on Kraft's wire.
const REQUEST_BYTES: usize = 384;
const REPLY_BYTES: usize = 64;
/// Pre-zeroed, as the log's segments are, so that a write allocates nothing.
const FILE_BYTES: u64 = 16 << 20;

/// A file that is written round and round.
struct Disk {
    file: Option<File>,
    at: u64,
}

impl Disk {
    /// On `path`, synced; without one, nothing is written.
    fn open(path: Option<&Path>) -> io::Result<Self> {
        let Some(path) = path else {
            return Ok(Self { file: None, at: 0 });
        };
        let file = OpenOptions::new().create(true).truncate(true).write(true).open(path)?;
        let zeroes = vec![0; 1 << 20];
        for at in (0..FILE_BYTES).step_by(zeroes.len()) {
            file.write_all_at(&zeroes, at)?;
        }
        file.sync_all()?;
        Ok(Self {
            file: Some(file),
            at: 0,
        })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        if self.at + bytes.len() as u64 > FILE_BYTES {
            self.at = 0;
        }
        file.write_all_at(bytes, self.at)?;
        self.at += bytes.len() as u64;
        file.sync_data()
    }
}

fn accept(listener: &TcpListener) -> io::Result<TcpStream> {
    let (stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Announces its port on standard output, takes one connection, and returns when that ends.
pub(crate) fn follow(path: Option<&Path>) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?.port());
    let mut disk = Disk::open(path)?;
    let mut leader = accept(&listener)?;
    let mut request = [0; REQUEST_BYTES];
    while leader.read_exact(&mut request).is_ok() {
        disk.write(&request)?;
        leader.write_all(&request[..REPLY_BYTES])?;
    }
    Ok(())
}

/// Passes requests on to the followers, syncs them itself meanwhile, and answers when one follower has.
pub(crate) fn lead(path: Option<&Path>, followers: &[u16]) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let connect = |port: &u16| {
        let stream = TcpStream::connect(("127.0.0.1", *port))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    };
    let mut followers: Vec<TcpStream> = followers.iter().map(connect).collect::<io::Result<_>>()?;
    println!("{}", listener.local_addr()?.port());
    let mut disk = Disk::open(path)?;
    let mut client = accept(&listener)?;
    let mut request = [0; REQUEST_BYTES];
    let mut answered = vec![0_u64; followers.len()];
    for sequence in 1.. {
        if client.read_exact(&mut request).is_err() {
            return Ok(());
        }
        for follower in &mut followers {
            follower.write_all(&request)?;
        }
        disk.write(&request)?;
        while !answered.contains(&sequence) {
            let mut fds: Vec<_> = followers
                .iter()
                .map(|follower| PollFd::new(follower, PollFlags::IN))
                .collect();
            poll(&mut fds, None)?;
            let ready: Vec<_> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            for (at, _) in ready.iter().enumerate().filter(|(_, ready)| **ready) {
                followers[at].read_exact(&mut [0; REPLY_BYTES])?;
                answered[at] += 1;
            }
        }
        client.write_all(&request[..REPLY_BYTES])?;
    }
    Ok(())
}

/// Puts for `span`, one at a time; each one's time.
pub(crate) fn measure(port: u16, span: Duration) -> io::Result<Vec<Duration>> {
    let mut leader = TcpStream::connect(("127.0.0.1", port))?;
    leader.set_nodelay(true)?;
    let end = Instant::now() + span;
    let mut times = Vec::new();
    while Instant::now() < end {
        let start = Instant::now();
        leader.write_all(&[7; REQUEST_BYTES])?;
        leader.read_exact(&mut [0; REPLY_BYTES])?;
        times.push(start.elapsed());
    }
    Ok(times)
}
