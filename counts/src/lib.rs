//! Instructions of Kraft's hot paths, counted by callgrind: figures that do not move with the machine's noise.
//!
//! `cargo ci counts` runs the benchmarks of this crate and holds each count against `counts/ceilings.txt`.

#![forbid(unsafe_code)]
