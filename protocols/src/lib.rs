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
//! | `parts` | | `parts`: what these three are made of, for formats of one's own |
//! | `conformance` | | the laws P1-P12 as functions, for formats of one's own |
//!
//! Features add formats and never pick one; [`Any`] is chosen by name.

#![forbid(unsafe_code)]

#[cfg(any(feature = "binary", feature = "protobuf", feature = "msgpack", feature = "json"))]
mod any;
#[cfg(feature = "binary")]
pub mod binary;
#[cfg(any(feature = "protobuf", feature = "msgpack", feature = "json", feature = "parts"))]
mod checksum;
#[cfg(feature = "conformance")]
pub mod conformance;
#[cfg(any(feature = "protobuf", feature = "msgpack", feature = "json", feature = "parts"))]
mod flat;
pub mod frame;
#[cfg(feature = "json")]
pub mod json;
#[cfg(any(feature = "protobuf", feature = "msgpack", feature = "json", feature = "parts"))]
mod kinds;
#[cfg(feature = "msgpack")]
pub mod msgpack;
#[cfg(any(
    feature = "binary",
    feature = "protobuf",
    feature = "msgpack",
    feature = "json",
    feature = "parts"
))]
mod numbers;
#[cfg(any(feature = "protobuf", feature = "msgpack", feature = "json", feature = "parts"))]
pub mod parts {
    //! What formats on the shared [envelope](crate::frame) are made of, for formats of one's own.
    //!
    //! [`fields`] has the fields of each kind of message, as numbers, names and what they hold. [`Record::of`] puts a
    //! message into fields, [`Received::message`] makes a message of fields and turns away what is none; [`write()`]
    //! encodes a frame whose length is known last. `docs/custom-protocols.md` makes a format of them.

    pub use crate::flat::{Offsets, Received, Record};
    pub use crate::kinds::{DEPTH_MAX, MEMBERS_MAX, SLOTS};
    pub use crate::schema::{Choices, ENTRY, Field, Holds, MEMBER, fields};
    pub use crate::writer::{Writer, write};
}
#[cfg(feature = "protobuf")]
pub mod protobuf;
#[cfg(any(feature = "protobuf", feature = "msgpack", feature = "json", feature = "parts"))]
mod schema;
#[cfg(any(feature = "protobuf", feature = "msgpack", feature = "json", feature = "parts"))]
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
#[cfg(any(
    feature = "binary",
    feature = "protobuf",
    feature = "msgpack",
    feature = "json",
    feature = "parts"
))]
pub use numbers::TEXT_MAX;
#[cfg(feature = "protobuf")]
pub use protobuf::Protobuf;
