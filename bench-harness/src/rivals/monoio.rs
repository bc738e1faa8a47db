//! monoio over io_uring, as its example of an echo has it: a task and a buffer a connection.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use monoio::io::{AsyncReadRent, AsyncWriteRentExt, Splitable};
use monoio::net::{TcpListener, TcpStream};
use monoio::{IoUringDriver, RuntimeBuilder};

use super::mailbox::{Everybody, Mailbox};
use crate::buffers::Buffers;
use crate::job::Job;
use crate::request::Requests;
use crate::serve::{self, READ_BUFFER, Task};

/// The ring's entries: an operation of each connection, as far as the kernel allows.
const ENTRIES_MAX: usize = 32_768;

/// Serves on this thread.
pub(crate) fn serve(task: &Task) -> io::Result<()> {
    let entries = (task.connections * 2).clamp(1024, ENTRIES_MAX) as u32;
    let mut runtime = RuntimeBuilder::<IoUringDriver>::new().with_entries(entries).build()?;
    let job = task.job;
    let listener = serve::listen()?;
    runtime.block_on(async {
        let listener = TcpListener::from_std(listener)?;
        let everybody = Everybody::default();
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            match job {
                Job::Pump => monoio::spawn(pump(stream)),
                Job::FanOut => monoio::spawn(hear(stream, Rc::clone(&everybody))),
                _ => monoio::spawn(echo(stream)),
            };
        }
    })
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer: Vec<u8> = Vec::with_capacity(READ_BUFFER);
    loop {
        let (outcome, read) = stream.read(buffer).await;
        if outcome? == 0 {
            return Ok(());
        }
        let (outcome, written) = stream.write_all(read).await;
        outcome?;
        buffer = written;
        buffer.clear();
    }
}

async fn pump(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer: Vec<u8> = Vec::with_capacity(READ_BUFFER);
    let mut requests = Requests::default();
    loop {
        let (outcome, read) = stream.read(buffer).await;
        if outcome? == 0 {
            return Ok(());
        }
        let mut bytes = read.as_slice();
        while let Some(reply) = requests.next(&mut bytes) {
            stream.write_all(reply).await.0?;
        }
        buffer = read;
        buffer.clear();
    }
}

async fn hear(stream: TcpStream, everybody: Everybody) -> io::Result<()> {
    let (mut reading, mut writing) = stream.into_split();
    let own: Rc<RefCell<Mailbox>> = Mailbox::join(&everybody);
    let waiting = Rc::clone(&own);
    monoio::spawn(async move {
        while let Some(bytes) = Mailbox::next(&waiting).await {
            writing.write_all(bytes).await.0?;
        }
        Ok::<_, io::Error>(())
    });
    let mut buffers = Buffers::default();
    loop {
        let mut buffer = buffers.take();
        buffer.reserve(READ_BUFFER);
        let (outcome, read) = reading.read(buffer).await;
        if !outcome.is_ok_and(|count| count > 0) {
            Mailbox::leave(&everybody, &own);
            return Ok(());
        }
        Mailbox::tell(&everybody, &own, &buffers.share(read));
    }
}
