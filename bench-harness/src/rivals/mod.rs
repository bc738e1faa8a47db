//! Other people's runtimes, each used as its own documentation has it: a task a connection. mio and polling, which are
//! loops and no runtimes, stand with the hand-written ones.

#[cfg(target_os = "linux")]
pub(crate) mod compio;
#[cfg(target_os = "linux")]
mod mailbox;
#[cfg(target_os = "linux")]
pub(crate) mod monoio;
pub(crate) mod tokio;
