//! Why a connection is turned away, in words for both operators.

use std::fmt;

use super::{DETAIL_MAX, Identity};
use crate::inbox::InboxError;
use crate::message::{GoawayReason, Message, Versions};
use crate::protocol::{DecodeError, Limits};

/// Why a connection is turned away: the goaway to send and the line to log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The branch that the other end takes.
    pub reason: GoawayReason,
    /// What both operators read: names both sides' values, escaped, at most [`DETAIL_MAX`] bytes.
    pub detail: String,
}

impl Rejection {
    pub(super) fn new(reason: GoawayReason, detail: impl fmt::Display) -> Self {
        let mut detail = detail.to_string();
        if detail.len() > DETAIL_MAX {
            let mut end = DETAIL_MAX;
            while !detail.is_char_boundary(end) {
                end -= 1;
            }
            detail.truncate(end);
        }
        Self { reason, detail }
    }

    /// The goaway that says so.
    #[must_use]
    pub fn message(&self, local: &Identity) -> Message<'_> {
        local.goaway(self.reason, &self.detail)
    }

    /// What to say to an end whose bytes are no messages. To foreign bytes (a browser, a TLS client) say nothing.
    #[must_use]
    pub fn of_bytes(error: InboxError, limits: &Limits, local: &Identity) -> Self {
        match error {
            InboxError::Decode(DecodeError::UnknownVersion) => Self::new(
                GoawayReason::NoCommonVersion,
                format_args!(
                    "an envelope version or a wire format that is not spoken here; this side speaks versions {}",
                    Span(local.versions)
                ),
            ),
            InboxError::Decode(DecodeError::UnknownKind { kind, .. }) => Self::new(
                GoawayReason::NotAllowed,
                format_args!("a message of kind {kind}, which is not known here"),
            ),
            InboxError::Decode(DecodeError::TooLarge) => Self::new(
                GoawayReason::TooLarge,
                format_args!(
                    "a frame above the limit of {} bytes or {} entries",
                    limits.frame_max, limits.entries_max
                ),
            ),
            InboxError::Decode(error) => Self::new(GoawayReason::Malformed, error),
            InboxError::OverBudget => Self::new(GoawayReason::TooMany, "too many incomplete frames at this node"),
            InboxError::BadProtocol => Self::new(GoawayReason::Malformed, "this side's decoder lost its place"),
        }
    }

    /// Whether a goaway for these bytes would be read: foreign bytes come from somebody who does not speak this.
    #[must_use]
    pub const fn is_foreign(error: InboxError) -> bool {
        matches!(error, InboxError::Decode(DecodeError::BadMagic(_)))
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.reason, self.detail)
    }
}

pub(super) struct Span(pub(super) Versions);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0.min, self.0.max)
    }
}

/// Text from the other end: escaped, and cut to 48 characters, so that the part after it still fits the detail.
pub(super) struct Quoted<'a>(pub(super) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for (at, escaped) in self.0.chars().map(char::escape_debug).enumerate() {
            if at == 48 {
                return f.write_str("…\"");
            }
            write!(f, "{escaped}")?;
        }
        f.write_str("\"")
    }
}
