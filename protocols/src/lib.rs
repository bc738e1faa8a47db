//! Wire formats for Kraft, and the suite that judges them.
//!
//! A wire format is a [`Protocol`]. All of them share one envelope ([`mod@frame`]): a
//! header with checksums of its own and of the body, so that a receiver believes no length, and allocates for none,
//! before it is known to be undamaged. `docs/wire-format.md` has the byte layout.
//!
//! | feature | format | what for |
//! |---|---|---|
//! | `binary` (default) | [`Binary`] | nodes among themselves, clients that want speed |
//! | `conformance` | | the laws P1-P12 as functions, for formats of one's own |
//!
//! Features add formats and never pick one.

#![forbid(unsafe_code)]

#[cfg(feature = "binary")]
pub mod binary;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod frame;
#[cfg(feature = "binary")]
mod numbers;

#[cfg(feature = "binary")]
pub use binary::Binary;
pub use kraft_core::protocol::Protocol;
