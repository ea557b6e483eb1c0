//! Why a text is no message.

use crate::fields::FieldError;

/// Why a text is no message of its direction.
///
/// The bytes are at fault, always. No variant holds more of the text than the beginning of an unknown kind, escaped,
/// or the name of a field.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The text is longer than any message may be ([`Message::MAX_BYTES`](crate::message::Message::MAX_BYTES)).
    #[error("text has {bytes} bytes, and a message has {max} at most")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The largest allowed.
        max: usize,
    },
    /// The text consists of more JSON values than a message may ([`crate::v1::MAX_VALUES`]).
    #[error("text consists of too many JSON values")]
    TooManyValues,
    /// The text is not JSON, is nested too deeply, or holds a number beyond the range of a double.
    #[error("text is not JSON that can be read")]
    Json(#[source] serde_json::Error),
    /// The text is JSON, but no object.
    #[error("message is not an object")]
    NotAnObject,
    /// The object does not hold another object under the key that every message is wrapped in.
    #[error("message is not wrapped in an object under `{0}`")]
    NotWrapped(&'static str),
    /// The object has no text under the key that tells the messages apart.
    #[error("message has no text under `{0}`")]
    NoKind(&'static str),
    /// The direction has no message of this kind.
    #[error("there is no kind \"{kind}\" of message in this direction")]
    UnknownKind {
        /// The kind: its first 40 characters, those beyond printable ASCII escaped.
        kind: String,
    },
    /// A field is missing or holds something else than it should.
    #[error("bad message of kind `{kind}`")]
    Field {
        /// The kind.
        kind: &'static str,
        /// The field, and what is wrong with it.
        source: FieldError,
    },
}

impl DecodeError {
    /// Whether the text is a message whose kind the direction does not have: what a newer or a customised peer may
    /// send.
    #[must_use]
    pub fn is_unknown_kind(&self) -> bool {
        matches!(self, Self::UnknownKind { .. })
    }
}
