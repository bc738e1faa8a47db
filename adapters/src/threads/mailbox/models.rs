//! Every order in which those who tell and the loop can meet, by loom. A note that wakes nobody leaves the loop waiting
//! for ever, which loom finds.

use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use loom::{model, thread};

use super::super::signal::{Raised, signal};
use super::Mailbox;

fn mailbox() -> (Arc<Mailbox<u8>>, Raised) {
    let (raiser, raised) = signal().expect("a descriptor is free");
    (Arc::new(Mailbox::new(raiser)), raised)
}

fn is_up(raised: &Raised) -> bool {
    let mut entry = libc::pollfd {
        fd: raised.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one entry that lives over the call, which does not wait.
    unsafe { libc::poll(&raw mut entry, 1, 0) > 0 }
}

#[test]
fn no_note_and_no_wake_is_lost_by_a_loop_that_sleeps() {
    model(|| {
        let (mailbox, raised) = mailbox();
        let (notes, wakes) = (Arc::clone(&mailbox), Arc::clone(&mailbox));
        let teller = thread::spawn(move || {
            notes.tell(1);
            notes.tell(2);
        });
        let waker = thread::spawn(move || wakes.wake());
        let (mut told, mut is_woken) = (Vec::new(), false);
        while told.len() < 2 || !is_woken {
            let mut taken = Vec::new();
            is_woken |= mailbox.take(None, &mut taken, &raised);
            told.append(&mut taken);
        }
        assert_eq!(told, [1, 2], "in the order of who told them");
        teller.join().expect("it only tells");
        waker.join().expect("it only wakes");
    });
}

#[test]
fn the_signal_is_up_whenever_there_is_something_to_take() {
    model(|| {
        let (mailbox, raised) = mailbox();
        let other = Arc::clone(&mailbox);
        let teller = thread::spawn(move || other.tell(1));
        mailbox.embed();
        let mut taken = Vec::new();
        mailbox.take(Some(Duration::ZERO), &mut taken, &raised);
        teller.join().expect("it only tells");
        assert_eq!(is_up(&raised), taken.is_empty(), "the note was taken: {taken:?}");
        mailbox.take(Some(Duration::ZERO), &mut Vec::new(), &raised);
        assert!(!is_up(&raised), "there is nothing left");
    });
}

#[test]
fn what_is_told_while_another_loop_comes_to_wait_raises_the_signal() {
    model(|| {
        let (mailbox, raised) = mailbox();
        let other = Arc::clone(&mailbox);
        let teller = thread::spawn(move || other.tell(1));
        mailbox.embed();
        teller.join().expect("it only tells");
        assert!(is_up(&raised), "the note is told before or after, and waits");
    });
}

#[test]
fn a_note_meets_the_end_of_the_adapter() {
    model(|| {
        let (mailbox, raised) = mailbox();
        mailbox.embed();
        let other = Arc::clone(&mailbox);
        let teller = thread::spawn(move || other.tell(1));
        mailbox.close();
        drop(raised);
        teller.join().expect("it tells nobody");
    });
}
