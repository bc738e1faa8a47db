//! The compiled-in formats, chosen by name.

use std::fmt;
use std::str::FromStr;

use kraft_core::message::Message;
use kraft_core::outbox::Outbox;
use kraft_core::protocol::{DecodeError, Decoded, Dialect, EncodeError, Limits, Overhead, Protocol};

use crate::frame::MAGIC;

/// Makes the formats that are compiled in, and what is asked of each.
macro_rules! formats {
    ($($feature:literal $name:literal $format:ident $module:ident;)*) => {
        /// The name of a format.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Format {
            $(
                #[doc = concat!("The `", $name, "` format.")]
                #[cfg(feature = $feature)]
                $format,
            )*
        }

        impl Format {
            /// Every format that is compiled in.
            pub const ALL: &'static [Self] = &[$(#[cfg(feature = $feature)] Self::$format,)*];

            /// The format of a number in the envelope, if it is compiled in.
            #[must_use]
            pub fn of_number(number: u8) -> Option<Self> {
                match number {
                    $(#[cfg(feature = $feature)] crate::$module::FORMAT => Some(Self::$format),)*
                    _ => None,
                }
            }

            /// Its number in the envelope.
            #[must_use]
            pub fn number(self) -> u8 {
                match self {
                    $(#[cfg(feature = $feature)] Self::$format => crate::$module::FORMAT,)*
                }
            }

            /// The name by which users choose it.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(#[cfg(feature = $feature)] Self::$format => $name,)*
                }
            }
        }

        impl Any {
            fn encode_as(
                format: Format,
                message: &Message<'_>,
                frame_max: usize,
                out: &mut Outbox,
            ) -> Result<(), EncodeError> {
                match format {
                    $(#[cfg(feature = $feature)] Format::$format =>
                        Protocol::encode(&crate::$module::$format, message, frame_max, out),)*
                }
            }

            fn overhead_of(format: Format) -> Overhead {
                match format {
                    $(#[cfg(feature = $feature)] Format::$format => crate::$module::$format.overhead(),)*
                }
            }

            fn decode_as<'a>(
                format: Format,
                input: &'a [u8],
                limits: &Limits,
                scratch: &'a mut Vec<u8>,
            ) -> Result<Decoded<'a>, DecodeError> {
                match format {
                    $(#[cfg(feature = $feature)] Format::$format =>
                        Protocol::decode(&crate::$module::$format, input, limits, scratch),)*
                }
            }
        }

        /// Formats of other builds.
        const NAMES: &[&str] = &[$($name,)*];
    };
}

formats! {
    "binary" "binary" Binary binary;
    "protobuf" "protobuf" Protobuf protobuf;
    "msgpack" "msgpack" Msgpack msgpack;
    "json" "json" Json json;
}

/// One of the compiled-in formats: speaks the one that it is made of, and understands each of them, as the envelope of
/// a frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Any {
    format: Format,
}

impl Any {
    /// Speaks `format`.
    #[must_use]
    pub const fn new(format: Format) -> Self {
        Self { format }
    }

    /// The format that it speaks.
    #[must_use]
    pub const fn format(&self) -> Format {
        self.format
    }

    /// The format of the frame that `input` begins with, if that much of it is there and the format is compiled in.
    #[must_use]
    pub fn heard(input: &[u8]) -> Option<Format> {
        let number = input.strip_prefix(&MAGIC)?.get(1)?;
        Format::of_number(*number)
    }
}

impl From<Format> for Any {
    fn from(format: Format) -> Self {
        Self::new(format)
    }
}

impl Protocol for Any {
    fn encode(&self, message: &Message<'_>, frame_max: usize, out: &mut Outbox) -> Result<(), EncodeError> {
        Self::encode_as(self.format, message, frame_max, out)
    }

    fn decode<'a>(
        &self,
        input: &'a [u8],
        limits: &Limits,
        scratch: &'a mut Vec<u8>,
    ) -> Result<Decoded<'a>, DecodeError> {
        // What is no frame, or one of a format that is not known here, any of them tells.
        let format = Self::heard(input).unwrap_or(self.format);
        Self::decode_as(format, input, limits, scratch)
    }

    fn dialect(&self, input: &[u8]) -> Option<Dialect> {
        Self::heard(input).map(|format| Dialect(format.number()))
    }

    fn encode_in(
        &self,
        dialect: Option<Dialect>,
        message: &Message<'_>,
        frame_max: usize,
        out: &mut Outbox,
    ) -> Result<(), EncodeError> {
        let format = dialect.and_then(|Dialect(number)| Format::of_number(number));
        Self::encode_as(format.unwrap_or(self.format), message, frame_max, out)
    }

    fn overhead(&self) -> Overhead {
        Self::overhead_of(self.format)
    }

    fn name(&self) -> &'static str {
        self.format.name()
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A name that is no format's of this build. It displays as an operator's message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownFormat(String);

impl fmt::Display for UnknownFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.0.escape_debug();
        if NAMES.contains(&self.0.as_str()) {
            write!(
                f,
                "the format {name} is not in this build: build with the feature {name}, or choose one of"
            )?;
        } else {
            write!(f, "no wire format is called {name}: choose one of")?;
        }
        for (at, format) in Format::ALL.iter().enumerate() {
            write!(f, "{} {format}", if at == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl std::error::Error for UnknownFormat {}

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Self, UnknownFormat> {
        let known = Self::ALL.iter().find(|format| format.name() == name);
        known.copied().ok_or_else(|| UnknownFormat(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_have_names_and_numbers_of_their_own() {
        for &format in Format::ALL {
            assert_eq!(format.name().parse(), Ok(format));
            assert_eq!(Format::of_number(format.number()), Some(format));
            assert_eq!(Any::new(format).name(), format.name());
        }
        assert_eq!(Format::of_number(0), None);
        let message = "xml".parse::<Format>().unwrap_err().to_string();
        assert!(
            message.starts_with("no wire format is called xml: choose one of binary"),
            "{message}"
        );
    }
}
