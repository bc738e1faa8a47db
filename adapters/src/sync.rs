//! What threads share memory by, in one place: under `--cfg loom` the models put loom's in its stead.

#[cfg(all(loom, test, feature = "threads"))]
pub(crate) use loom::sync::{Condvar, MutexGuard, atomic::AtomicBool};
#[cfg(all(loom, test))]
pub(crate) use loom::sync::{
    Mutex,
    atomic::{AtomicU8, Ordering},
};
pub(crate) use std::sync::PoisonError;
#[cfg(all(feature = "threads", not(all(loom, test))))]
pub(crate) use std::sync::{Condvar, MutexGuard, atomic::AtomicBool};
#[cfg(not(all(loom, test)))]
pub(crate) use std::sync::{
    Mutex,
    atomic::{AtomicU8, Ordering},
};
