use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use super::*;

const SPAN: Span = Span {
    warm_up: Duration::from_millis(1),
    measured: Duration::from_millis(5),
    patience: Duration::from_secs(60),
    turns_min: 0,
    is_slice: false,
};

const NO_CLOCKS: ReadClocks<'static> = &Clocks::default;

/// Accepts so many, hands them over, and counts the bytes that are read from then on.
fn listen(
    count: usize,
    serve: impl Fn(Vec<TcpStream>, &Arc<AtomicU64>) + Send + 'static,
) -> (SocketAddr, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let read = Arc::new(AtomicU64::new(0));
    let counts = Arc::clone(&read);
    thread::spawn(move || {
        let streams = listener
            .incoming()
            .take(count)
            .map(|stream| stream.expect("it connects"));
        serve(streams.collect(), &counts);
    });
    (address, read)
}

/// Reads until the end; `each` gets what came.
fn pass(mut from: TcpStream, read: &AtomicU64, mut each: impl FnMut(&[u8])) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        read.fetch_add(count as u64, Ordering::SeqCst);
        each(&buffer[..count]);
    }
}

fn echo(streams: Vec<TcpStream>, read: &Arc<AtomicU64>) {
    for stream in streams {
        let read = Arc::clone(read);
        thread::spawn(move || {
            let mut back = stream.try_clone().expect("there are descriptors");
            // Who hears no more has ended.
            pass(stream, &read, |bytes| drop(back.write_all(bytes)));
        });
    }
}

#[test]
fn a_loop_ends_at_rest_and_another_begins_where_it_ended() {
    for (conns, size, depth) in [(1, 64, 1), (3, 64, 16), (2, 70_000, 3)] {
        let (address, read) = listen(conns, echo);
        let connected = Load::connect(address, conns, 0, Waiting::Block, SPAN.patience);
        let mut load = connected.expect("it accepts");
        let probe = 1;
        let mut before = 0;
        for _ in 0..3 {
            let figures = load.closed(size, depth, SPAN, NO_CLOCKS).expect("it echoes");
            // All that was sent came back, and it is more than what was measured.
            let answered = load.answered();
            assert_eq!(answered * size as u64 + probe, read.load(Ordering::SeqCst));
            assert!(answered - before >= figures.messages && figures.messages > 0);
            before = answered;
        }
        load.open(size, 1_000, SPAN, NO_CLOCKS).expect("it echoes");
        assert_eq!(load.answered() * size as u64 + probe, read.load(Ordering::SeqCst));
    }
}

#[test]
fn in_a_fan_out_a_message_is_one_whoever_hears_it() {
    let hearers = 5;
    let (address, read) = listen(hearers + 1, |mut streams, read| {
        let speaker = streams.pop().expect("there are some");
        pass(speaker, read, |bytes| {
            streams.iter_mut().for_each(|to| drop(to.write_all(bytes)))
        });
    });
    let connected = Load::connect_to(Job::FanOut, address, hearers + 1, 0, Waiting::Block, SPAN.patience);
    let mut load = connected.expect("it accepts");
    let probe = 1;
    for size in [64, 16_384] {
        let before = (load.answered(), read.load(Ordering::SeqCst));
        assert!(size != 64 || before == (0, probe));
        for _ in 0..3 {
            load.fan_out(size, 16, SPAN, NO_CLOCKS).expect("all hear");
            let (answered, bytes) = (load.answered() - before.0, read.load(Ordering::SeqCst) - before.1);
            assert_eq!(answered * size as u64, bytes);
        }
    }
}

#[test]
fn slices_together_are_what_each_is() {
    let slice = |messages, milliseconds, latency: u64, busy| {
        let mut histogram = Histogram::new_with_bounds(100, 60_000_000_000, 3).expect("the bounds are in order");
        (0..messages).for_each(|_| histogram.saturating_record(latency));
        Figures {
            messages,
            elapsed: Duration::from_millis(milliseconds),
            latency: histogram,
            service: None,
            since: SystemTime::UNIX_EPOCH,
            used: Clocks {
                server: Some(Duration::from_millis(milliseconds / 2)),
                ..Clocks::default()
            },
            busy,
            growth: None,
            trials: Vec::new(),
        }
    };
    let all = slice(100, 10, 1_000, 0.5).and(slice(300, 30, 90_000, 1.0));
    assert_eq!(
        (all.messages, all.elapsed, all.latency.len()),
        (400, Duration::from_millis(40), 400)
    );
    assert_eq!(all.used.server, Some(Duration::from_millis(20)));
    assert!((all.busy - 0.875).abs() < 1e-9 && (all.rate() - 10_000.0).abs() < 1e-6);
    assert!(all.latency.value_at_quantile(0.2) < 1_100 && all.latency.value_at_quantile(0.3) > 89_000);
}
