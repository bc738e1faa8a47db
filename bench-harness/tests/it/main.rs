//! The program as a whole: short runs whose figures mean nothing, and whose shape does.

mod leash;
mod runs;
mod source;
