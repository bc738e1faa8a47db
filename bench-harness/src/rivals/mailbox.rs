//! What waits for a connection's writing task, on the one thread of a runtime.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use bytes::Bytes;

/// Filled by the task that hears, emptied by the one that writes. There is no limit.
#[derive(Default)]
pub(super) struct Mailbox {
    waiting: VecDeque<Bytes>,
    reader: Option<Waker>,
    is_closed: bool,
}

/// All mailboxes of a fan-out.
pub(super) type Everybody = Rc<RefCell<Vec<Rc<RefCell<Mailbox>>>>>;

impl Mailbox {
    /// A new one, among all.
    pub(super) fn join(everybody: &Everybody) -> Rc<RefCell<Self>> {
        let own = Rc::new(RefCell::new(Self::default()));
        everybody.borrow_mut().push(Rc::clone(&own));
        own
    }

    /// Puts the bytes into all but one.
    pub(super) fn tell(everybody: &Everybody, from: &Rc<RefCell<Self>>, bytes: &Bytes) {
        let all = everybody.borrow();
        for other in all.iter().filter(|other| !Rc::ptr_eq(other, from)) {
            let mut other = other.borrow_mut();
            other.waiting.push_back(bytes.clone());
            other.reader.take().into_iter().for_each(Waker::wake);
        }
    }

    /// Takes it out from among all and ends its reader.
    pub(super) fn leave(everybody: &Everybody, own: &Rc<RefCell<Self>>) {
        everybody.borrow_mut().retain(|other| !Rc::ptr_eq(other, own));
        let mut own = own.borrow_mut();
        own.is_closed = true;
        own.reader.take().into_iter().for_each(Waker::wake);
    }

    /// The next bytes; `None` when it was left.
    pub(super) async fn next(own: &Rc<RefCell<Self>>) -> Option<Bytes> {
        poll_fn(|context| {
            let mut own = own.borrow_mut();
            match own.waiting.pop_front() {
                None if own.is_closed => Poll::Ready(None),
                None => {
                    own.reader = Some(context.waker().clone());
                    Poll::Pending
                }
                bytes => Poll::Ready(bytes),
            }
        })
        .await
    }
}
