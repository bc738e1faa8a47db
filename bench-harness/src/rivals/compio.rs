//! compio over io_uring, as its own benchmarks use it: a task and a buffer a connection, with the flags that its
//! documentation recommends.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};

use compio::buf::BufResult;
use compio::driver::ProactorBuilder;
use compio::io::{AsyncRead, AsyncWriteExt};
use compio::net::{TcpListener, TcpStream};
use compio::runtime::Runtime;

use super::mailbox::{Everybody, Mailbox};
use crate::buffers::Buffers;
use crate::inside;
use crate::job::Job;
use crate::request::Requests;
use crate::serve::{self, READ_BUFFER, Task};

/// The ring's entries: an operation of each connection, as far as the kernel allows.
const ENTRIES_MAX: usize = 32_768;

/// Serves on this thread.
pub(crate) fn serve(task: &Task) -> io::Result<()> {
    let mut proactor = ProactorBuilder::new();
    proactor
        .capacity((task.connections * 2).clamp(1024, ENTRIES_MAX) as u32)
        .coop_taskrun(true)
        .taskrun_flag(true);
    let runtime = Runtime::builder().with_proactor(proactor).build()?;
    let job = task.job;
    if !job.has_connections() {
        return wake(&runtime, task);
    }
    let listener = serve::listen()?;
    runtime.block_on(async {
        let listener = TcpListener::from_std(listener)?;
        let everybody = Everybody::default();
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            match job {
                Job::Pump => compio::runtime::spawn(pump(stream)).detach(),
                Job::FanOut => compio::runtime::spawn(hear(stream, Rc::clone(&everybody))).detach(),
                _ => compio::runtime::spawn(echo(stream)).detach(),
            }
        }
    })
}

/// The waker of a task: its own event is good for one wake.
fn wake(runtime: &Runtime, task: &Task) -> io::Result<()> {
    let is_woken = Arc::new(AtomicBool::new(false));
    let waker: Arc<Mutex<Option<Waker>>> = Arc::default();
    let (rung, asleep) = (Arc::clone(&is_woken), Arc::clone(&waker));
    let bell = inside::ring(task, move || {
        // The first of many takes the waker; the flag tells the rest.
        if !rung.swap(true, Ordering::AcqRel) {
            let waker = asleep.lock().unwrap_or_else(PoisonError::into_inner).take();
            waker.into_iter().for_each(Waker::wake);
        }
    })?;
    runtime.block_on(async {
        loop {
            poll_fn(|context| {
                *waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(context.waker().clone());
                if is_woken.swap(false, Ordering::AcqRel) {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            })
            .await;
            bell.hear();
        }
    })
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer: Vec<u8> = Vec::with_capacity(READ_BUFFER);
    loop {
        let BufResult(outcome, read) = stream.read(buffer).await;
        if outcome? == 0 {
            return Ok(());
        }
        let BufResult(outcome, written) = stream.write_all(read).await;
        outcome?;
        buffer = written;
        buffer.clear();
    }
}

async fn pump(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer: Vec<u8> = Vec::with_capacity(READ_BUFFER);
    let mut requests = Requests::default();
    loop {
        let BufResult(outcome, read) = stream.read(buffer).await;
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
    let writer = async move {
        while let Some(bytes) = Mailbox::next(&waiting).await {
            writing.write_all(bytes).await.0?;
        }
        Ok::<_, io::Error>(())
    };
    compio::runtime::spawn(writer).detach();
    let mut buffers = Buffers::default();
    loop {
        let mut buffer = buffers.take();
        buffer.reserve(READ_BUFFER);
        let BufResult(outcome, read) = reading.read(buffer).await;
        if !outcome.is_ok_and(|count| count > 0) {
            Mailbox::leave(&everybody, &own);
            return Ok(());
        }
        Mailbox::tell(&everybody, &own, &buffers.share(read));
    }
}
