//! A blocking thread a connection: no loop at all.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::job::Job;
use crate::request::Requests;
use crate::serve::{self, READ_BUFFER, Task};

/// Enough for the few calls of a thread; ten thousand threads have ten thousand stacks.
const STACK: usize = 64 * 1024;

/// Those to whom a fan-out goes. The thread that heard a message writes it to all of them, one after the other.
type Everybody = Arc<Mutex<Vec<Arc<TcpStream>>>>;

/// Serves each connection on a thread of its own, which reads, answers and does nothing else.
pub(crate) fn serve(task: &Task) -> io::Result<()> {
    let (job, everybody) = (task.job, Everybody::default());
    for stream in serve::listen()?.incoming() {
        let stream = Arc::new(stream?);
        stream.set_nodelay(true)?;
        let everybody = Arc::clone(&everybody);
        if job == Job::FanOut {
            list(&everybody, |all| all.push(Arc::clone(&stream)));
        }
        thread::Builder::new().stack_size(STACK).spawn(move || {
            // Whatever ends it.
            let _ = answer(&stream, job, &everybody);
            list(&everybody, |all| all.retain(|other| !Arc::ptr_eq(other, &stream)));
        })?;
    }
    Ok(())
}

fn list(everybody: &Everybody, change: impl FnOnce(&mut Vec<Arc<TcpStream>>)) {
    change(&mut everybody.lock().unwrap_or_else(PoisonError::into_inner));
}

fn answer(stream: &Arc<TcpStream>, job: Job, everybody: &Everybody) -> io::Result<()> {
    let mut buffer = vec![0; READ_BUFFER];
    let mut requests = Requests::default();
    let mut own: &TcpStream = stream;
    loop {
        let mut bytes = match own.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => &buffer[..count],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        match job {
            Job::Pump => {
                while let Some(reply) = requests.next(&mut bytes) {
                    own.write_all(&reply)?;
                }
            }
            Job::FanOut => list(everybody, |all| {
                for mut other in all
                    .iter()
                    .filter(|other| !Arc::ptr_eq(other, stream))
                    .map(|other| &**other)
                {
                    // Its own thread sees that it is over.
                    let _ = other.write_all(bytes);
                }
            }),
            _ => own.write_all(bytes)?,
        }
    }
}
