//! Engines that do wrong, to see that it is noticed.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::process;
use std::sync::mpsc;
use std::thread;

use crate::serve::{self, Task};

/// Which byte of a connection comes back with a bit bent. Behind what is exchanged before the load begins.
const BENT_AT: usize = 10_000;

/// Echoes, with one bit wrong.
pub(crate) fn bend(_: &Task) -> io::Result<()> {
    for stream in serve::listen()?.incoming() {
        let stream = stream?;
        thread::spawn(move || bend_one(stream));
    }
    Ok(())
}

fn bend_one(mut stream: TcpStream) {
    let mut buffer = [0; 4096];
    let mut seen = 0;
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        if let Some(byte) = buffer[..count].get_mut(BENT_AT.wrapping_sub(seen)) {
            *byte ^= 1;
        }
        seen += count;
        if stream.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
}

/// Ends as soon as somebody says something.
pub(crate) fn die(_: &Task) -> io::Result<()> {
    let (mut stream, _) = serve::listen()?.accept()?;
    // However the read ends.
    let _ = stream.read(&mut [0]);
    eprintln!("kraft-bench: this engine ends at the first bytes, as it should");
    process::exit(3)
}

/// Echoes, and reads on although nobody takes the answers.
pub(crate) fn hoard(_: &Task) -> io::Result<()> {
    for stream in serve::listen()?.incoming() {
        let mut reading = stream?;
        let mut writing = reading.try_clone()?;
        let (hoard, answers) = mpsc::channel::<Vec<u8>>();
        thread::spawn(move || answers.iter().all(|answer| writing.write_all(&answer).is_ok()));
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = reading.read(&mut buffer) {
                if hoard.send(buffer[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
    }
    Ok(())
}
