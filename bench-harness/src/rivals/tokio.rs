//! tokio on one thread. Received bytes come into the thread's one buffer and are answered at once, so that an idle
//! connection has none; what the socket does not take is written by `write_all`.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Notify, mpsc};
use tokio::time::Sleep;

use crate::buffers::Buffers;
use crate::inside::{self, Clockwork};
use crate::job::Job;
use crate::request::Requests;
use crate::serve::{self, READ_BUFFER, Task};

/// What waits for a connection of a fan-out before those who speak wait too.
const WAITING_MAX: usize = 256;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BUFFER]);
}

/// Serves on this thread.
pub(crate) fn serve(task: &Task) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let job = task.job;
    match job {
        Job::Echo | Job::Pump | Job::FanOut => {
            let listener = serve::listen()?;
            listener.set_nonblocking(true)?;
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener)?;
                let everybody = Everybody::default();
                loop {
                    let (stream, _) = listener.accept().await?;
                    stream.set_nodelay(true)?;
                    match job {
                        Job::Pump => tokio::spawn(pump(stream)),
                        Job::FanOut => tokio::spawn(hear(stream, Everybody::clone(&everybody))),
                        _ => tokio::spawn(echo(stream)),
                    };
                }
            })
        }
        Job::Wake | Job::Flood => {
            let notify = Arc::new(Notify::new());
            let notified = Arc::clone(&notify);
            let bell = inside::ring(task, move || notify.notify_one())?;
            runtime.block_on(async {
                loop {
                    notified.notified().await;
                    bell.hear();
                }
            })
        }
        Job::Churn | Job::Expire => inside::timers(task, &mut Timers::new(runtime)),
        Job::Replicate => unreachable!("no loop is asked for it"),
    }
}

/// Receives into the thread's buffer and lends what came to `take`; `None` at the end.
async fn receive<S, R>(stream: &mut S, mut take: impl FnMut(&S, &[u8]) -> R) -> io::Result<Option<R>>
where
    S: AsyncRead + Unpin,
{
    poll_fn(|context| {
        BUFFER.with_borrow_mut(|buffer| {
            let mut into = ReadBuf::new(buffer);
            ready!(Pin::new(&mut *stream).poll_read(context, &mut into))?;
            let bytes = into.filled();
            Poll::Ready(Ok((!bytes.is_empty()).then(|| take(stream, bytes))))
        })
    })
    .await
}

/// Sends what the socket takes at once.
fn try_write(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    match stream.try_write(bytes) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        outcome => outcome,
    }
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let answer = |stream: &TcpStream, bytes: &[u8]| {
        let sent = try_write(stream, bytes)?;
        Ok::<_, io::Error>((sent < bytes.len()).then(|| bytes[sent..].to_vec()))
    };
    while let Some(rest) = receive(&mut stream, answer).await? {
        if let Some(rest) = rest? {
            stream.write_all(&rest).await?;
        }
    }
    Ok(())
}

async fn pump(mut stream: TcpStream) -> io::Result<()> {
    let mut requests = Requests::default();
    loop {
        let cut = |_: &TcpStream, mut bytes: &[u8]| {
            let mut replies = Vec::new();
            while let Some(reply) = requests.next(&mut bytes) {
                replies.push(reply);
            }
            replies
        };
        let Some(replies) = receive(&mut stream, cut).await? else {
            return Ok(());
        };
        for mut reply in replies {
            reply.advance(try_write(&stream, &reply)?);
            if !reply.is_empty() {
                stream.write_all(&reply).await?;
            }
        }
    }
}

/// Those to whom a fan-out goes, each by the channel of his writing task.
type Everybody = Arc<Mutex<Vec<mpsc::Sender<Bytes>>>>;

fn list(everybody: &Everybody) -> std::sync::MutexGuard<'_, Vec<mpsc::Sender<Bytes>>> {
    everybody.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn hear(stream: TcpStream, everybody: Everybody) -> io::Result<()> {
    let (mut reading, mut writing) = stream.into_split();
    let (own, mut waiting) = mpsc::channel::<Bytes>(WAITING_MAX);
    list(&everybody).push(own.clone());
    tokio::spawn(async move {
        while let Some(bytes) = waiting.recv().await {
            writing.write_all(&bytes).await?;
        }
        Ok::<_, io::Error>(())
    });
    let mut buffers = Buffers::default();
    let mut copy = |_: &OwnedReadHalf, bytes: &[u8]| {
        let mut copy = buffers.take();
        copy.extend_from_slice(bytes);
        buffers.share(copy)
    };
    while let Ok(Some(bytes)) = receive(&mut reading, &mut copy).await {
        let mut full = Vec::new();
        for other in list(&everybody).iter().filter(|other| !other.same_channel(&own)) {
            if let Err(mpsc::error::TrySendError::Full(bytes)) = other.try_send(bytes.clone()) {
                full.push((other.clone(), bytes));
            }
        }
        for (other, bytes) in full {
            // It is gone.
            let _ = other.send(bytes).await;
        }
    }
    list(&everybody).retain(|other| !other.same_channel(&own));
    Ok(())
}

/// Timers, each at its place.
struct Timers {
    runtime: Runtime,
    sleeps: Vec<Option<Pin<Box<Sleep>>>>,
    free: Vec<usize>,
}

impl Timers {
    fn new(runtime: Runtime) -> Self {
        let (sleeps, free) = (Vec::new(), Vec::new());
        Self { runtime, sleeps, free }
    }
}

impl Clockwork for Timers {
    type Timer = usize;

    fn start(&mut self, after: Duration) -> usize {
        let _inside = self.runtime.enter();
        let mut sleep = Box::pin(tokio::time::sleep(after));
        // The first poll is what starts it.
        let is_ready = sleep.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready();
        debug_assert!(!is_ready, "no time has passed");
        let at = self.free.pop().unwrap_or_else(|| {
            self.sleeps.push(None);
            self.sleeps.len() - 1
        });
        self.sleeps[at] = Some(sleep);
        at
    }

    fn stop(&mut self, at: usize) {
        self.sleeps[at] = None;
        self.free.push(at);
    }

    fn expire(&mut self, _: usize) -> io::Result<usize> {
        let (sleeps, free) = (&mut self.sleeps, &mut self.free);
        let mut expired = 0;
        let all = poll_fn(|context| {
            let mut running = 0;
            for (at, place) in sleeps.iter_mut().enumerate() {
                if let Some(sleep) = place {
                    if sleep.as_mut().poll(context).is_ready() {
                        *place = None;
                        free.push(at);
                        expired += 1;
                    } else {
                        running += 1;
                    }
                }
            }
            if running == 0 { Poll::Ready(()) } else { Poll::Pending }
        });
        // Its budget would end a pass after a hundred.
        self.runtime.block_on(tokio::task::unconstrained(all));
        Ok(expired)
    }
}
