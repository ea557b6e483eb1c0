//! Reading and writing the messages of any version.

use serde::de::DeserializeOwned;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::error::DecodeError;
use crate::fields::{FieldError, Fields};
use crate::v1::MAX_VALUES;

/// The messages of one direction; implemented by generated enums.
///
/// Their own `Deserialize` and `Serialize` stand for the message inside its envelope; [`decode`] and [`encode`] add
/// the envelope, and `decode` is the one that bounds the work and gives errors that hold nothing of the text.
pub trait Message: Serialize + DeserializeOwned {
    /// Name of the direction, from the schema's title.
    const NAME: &'static str;
    /// Key of the object that every message is wrapped in; `None`: not wrapped.
    const ENVELOPE: Option<&'static str>;
    /// How many bytes the text of a message may have; `None`: whoever reads it from the network says.
    const MAX_BYTES: Option<usize> = None;
    /// Key of the field that tells the messages apart.
    const TAG: &'static str;
    /// The values that field may have.
    /// Those of other directions are unknown (clause M-8).
    const KINDS: &'static [&'static str];

    /// Which of [`KINDS`](Self::KINDS) this is.
    fn kind(&self) -> &'static str;

    /// The message of the given kind; `None` if there is no such kind.
    fn from_fields(kind: &str, fields: Fields) -> Option<Result<Self, FieldError>>;
}

/// Reads a message.
///
/// One JSON object, its message in an envelope, told apart by a kind (clauses M-1 and M-2), or without one (spec v2,
/// FR-1), and no longer than [`Message::MAX_BYTES`] (FR-2), which is looked at first.
/// Tolerant where the specification is (clauses ): any order of fields, unknown fields, repeated keys.
/// Unknown fields carry nothing (clause E-4).
/// The work is linear in the length of the text, and the memory within a small multiple of it.
///
/// # Errors
///
/// A [`DecodeError`], if the text is no message of the direction.
pub fn decode<M: Message>(text: &str) -> Result<M, DecodeError> {
    if let Some(max) = M::MAX_BYTES.filter(|max| text.len() > *max) {
        return Err(DecodeError::TooLong { bytes: text.len(), max });
    }
    if has_too_many_values(text) {
        return Err(DecodeError::TooManyValues);
    }
    let Value::Object(mut fields) = serde_json::from_str(text).map_err(DecodeError::Json)? else {
        return Err(DecodeError::NotAnObject);
    };
    if let Some(key) = M::ENVELOPE {
        match fields.shift_remove(key) {
            Some(Value::Object(inner)) => fields = inner,
            _ => return Err(DecodeError::NotWrapped(key)),
        }
    }
    let Some(Value::String(kind)) = fields.shift_remove(M::TAG) else {
        return Err(DecodeError::NoKind(M::TAG));
    };
    let known = M::KINDS.iter().find(|known| **known == kind);
    match (known, M::from_fields(&kind, Fields::new(fields))) {
        (Some(kind), Some(message)) => {
            message.map_err(|source| DecodeError::Field { kind, source })
        }
        _ => Err(DecodeError::UnknownKind { kind: shortened(&kind) }),
    }
}

/// Writes a message in its canonical form: no spaces, fields in the order of the schema (clause M-3).
///
/// The text may be longer than [`Message::MAX_BYTES`] if what the message holds is; whoever fills it in sees to that.
#[must_use]
pub fn encode<M: Message>(message: &M) -> String {
    serde_json::to_string(&Enveloped(message)).expect("a message has only texts as keys")
}

/// A message in its envelope.
struct Enveloped<'a, M>(&'a M);

impl<M: Message> Serialize for Enveloped<'_, M> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Some(key) = M::ENVELOPE else {
            return self.0.serialize(serializer);
        };
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(key, self.0)?;
        map.end()
    }
}

/// Whether the text may consist of more than [`MAX_VALUES`] JSON values.
///
/// Every value but the first follows a `,`, `:`, `[` or `{` outside strings, and every key follows one as well. So
/// commas and opening brackets, counted together, tell how many values there are at most; the counting is done
/// without looking at strings first, which is fast and nearly always enough.
fn has_too_many_values(text: &str) -> bool {
    let text = text.as_bytes();
    if text.len() < 2 * MAX_VALUES || text.iter().filter(|b| separates(**b)).count() < MAX_VALUES {
        return false;
    }
    let mut count = 0;
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        if separates(*byte) {
            count += 1;
        } else if *byte == b'"' {
            loop {
                match bytes.next() {
                    Some(b'\\') => _ = bytes.next(),
                    Some(b'"') | None => break,
                    Some(_) => {}
                }
            }
        }
    }
    count >= MAX_VALUES
}

fn separates(byte: u8) -> bool {
    matches!(byte, b',' | b'[' | b'{')
}

/// The beginning of an unknown kind, fit for a log.
fn shortened(kind: &str) -> String {
    kind.chars().take(40).flat_map(char::escape_default).collect()
}
