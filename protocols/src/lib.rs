//! Wire formats for Kraft, and the suite that judges them.
//!
//! A wire format is a [`Protocol`]. All of them share one envelope ([`mod@frame`]): a
//! header with checksums of its own and of the body, so that a receiver believes no length, and allocates for none,
//! before it is known to be undamaged. `docs/wire-format.md` has the byte layout, `docs/standard-formats.md` the other
//! three.
//!
//! | feature | format | what for |
//! |---|---|---|
//! | `binary` (default) | [`Binary`] | nodes among themselves, clients that want speed |
//! | `protobuf` | `Protobuf` | clients in other languages, from a schema |
//! | `msgpack` | `Msgpack` | clients in languages with few libraries |
//! | `json` | `Json` | people who look at what is said |
//! | `conformance` | | the laws P1-P12 as functions, for formats of one's own |
//!
//! Features add formats and never pick one; [`Any`] is chosen by name.

#![forbid(unsafe_code)]

#[cfg(any(feature = "binary", feature = "protobuf", feature = "msgpack", feature = "json"))]
mod any;
#[cfg(feature = "binary")]
pub mod binary;
#[cfg(feature = "conformance")]
pub mod conformance;
#[cfg(any(feature = "protobuf", feature = "msgpack", feature = "json"))]
mod flat;
pub mod frame;
#[cfg(feature = "json")]
pub mod json;
#[cfg(any(feature = "protobuf", feature = "msgpack", feature = "json"))]
mod kinds;
#[cfg(feature = "msgpack")]
pub mod msgpack;
#[cfg(any(feature = "binary", feature = "protobuf", feature = "msgpack", feature = "json"))]
mod numbers;
#[cfg(feature = "protobuf")]
pub mod protobuf;
#[cfg(any(feature = "msgpack", feature = "json"))]
mod schema;
#[cfg(any(feature = "protobuf", feature = "msgpack", feature = "json"))]
mod writer;

#[cfg(any(feature = "binary", feature = "protobuf", feature = "msgpack", feature = "json"))]
pub use any::{Any, Format, UnknownFormat};
#[cfg(feature = "binary")]
pub use binary::Binary;
#[cfg(feature = "json")]
pub use json::Json;
pub use kraft_core::protocol::Protocol;
#[cfg(feature = "msgpack")]
pub use msgpack::Msgpack;
#[cfg(any(feature = "binary", feature = "protobuf", feature = "msgpack", feature = "json"))]
pub use numbers::TEXT_MAX;
#[cfg(feature = "protobuf")]
pub use protobuf::Protobuf;
