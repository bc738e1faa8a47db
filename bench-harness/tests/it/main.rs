//! The program as a whole: short runs whose figures mean nothing, and whose shape does.

#[cfg(feature = "cluster")]
mod clusters;
mod leash;
mod runs;
mod source;
