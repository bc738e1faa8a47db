//! A blocking thread a connection: no loop at all.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::thread;

use crate::serve::{self, READ_BUFFER, Task};

/// Enough for the few calls of a thread; ten thousand threads have ten thousand stacks.
const STACK: usize = 64 * 1024;

/// Serves each connection on a thread of its own, which reads, answers and does nothing else.
pub(crate) fn serve(_: &Task) -> io::Result<()> {
    for stream in serve::listen()?.incoming() {
        let stream = stream?;
        stream.set_nodelay(true)?;
        thread::Builder::new().stack_size(STACK).spawn(move || echo(stream))?;
    }
    Ok(())
}

fn echo(mut stream: TcpStream) {
    let mut buffer = vec![0; READ_BUFFER];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => {
                if stream.write_all(&buffer[..count]).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}
