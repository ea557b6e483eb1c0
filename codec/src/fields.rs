//! How generated types read their fields.
//!
//! [`Fields`] hands the members of a JSON object to serde, like `serde_json` itself does, but with an error that
//! names the field and holds nothing of what the field holds. The functions are named by `deserialize_with`
//! attributes in generated code.

use std::fmt;

use serde::de::value::{SeqDeserializer, StringDeserializer};
use serde::de::{
    DeserializeSeed, Deserializer, Error, Expected, IntoDeserializer, MapAccess, Unexpected,
    Visitor,
};
use serde::{Deserialize, forward_to_deserialize_any};
use serde_json::{Map, Value};

use crate::lax::LaxInteger;

/// The fields of a message, its tag taken out.
#[derive(Debug)]
pub struct Fields(Map<String, Value>);

impl Fields {
    /// The members of an object.
    #[must_use]
    pub fn new(members: Map<String, Value>) -> Self {
        Self(members)
    }
}

/// What is wrong with a field. Holds the names of fields that the specification knows, and no values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    field: Option<String>,
    problem: String,
}

impl FieldError {
    /// Name of the field, where it is known.
    #[must_use]
    pub fn field(&self) -> Option<&str> {
        self.field.as_deref()
    }

    fn of(problem: String) -> Self {
        Self { field: None, problem }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.field {
            Some(field) => write!(f, "field `{field}` {}", self.problem),
            None => write!(f, "a field {}", self.problem),
        }
    }
}

impl std::error::Error for FieldError {}

impl Error for FieldError {
    fn custom<T: fmt::Display>(text: T) -> Self {
        Self::of(text.to_string())
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::of(format!("should be {expected}, not {}", sort_of(unexpected)))
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::of(format!("should be {expected}, not {} of another value", sort_of(unexpected)))
    }

    fn missing_field(field: &'static str) -> Self {
        Self { field: Some(field.to_owned()), problem: "is missing".to_owned() }
    }

    fn unknown_field(_: &str, _: &'static [&'static str]) -> Self {
        Self::of("is unknown".to_owned())
    }

    fn unknown_variant(_: &str, _: &'static [&'static str]) -> Self {
        Self::of("is none of the known texts".to_owned())
    }
}

/// A value, for [`sort_of`].
fn unexpected(value: &Value) -> Unexpected<'_> {
    match value {
        Value::Null => Unexpected::Unit,
        Value::Bool(value) => Unexpected::Bool(*value),
        Value::String(text) => Unexpected::Str(text),
        Value::Array(_) => Unexpected::Seq,
        Value::Object(_) => Unexpected::Map,
        Value::Number(number) => match number.as_i64() {
            Some(number) => Unexpected::Signed(number),
            None => Unexpected::Float(f64::NAN),
        },
    }
}

/// What a value is, without what it holds.
fn sort_of(unexpected: Unexpected<'_>) -> &'static str {
    match unexpected {
        Unexpected::Bool(_) => "a boolean",
        Unexpected::Unsigned(_) | Unexpected::Signed(_) => "an integer",
        Unexpected::Float(_) => "a number",
        Unexpected::Char(_) | Unexpected::Str(_) => "a text",
        Unexpected::Unit | Unexpected::Option => "null",
        Unexpected::Seq => "a list",
        Unexpected::Map => "an object",
        _ => "something else",
    }
}

impl<'de> Deserializer<'de> for Fields {
    type Error = FieldError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FieldError> {
        visitor.visit_map(Members { left: self.0.into_iter(), current: None })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// The members of an object that are still to be read.
struct Members {
    left: serde_json::map::IntoIter,
    current: Option<(String, Value)>,
}

impl<'de> MapAccess<'de> for Members {
    type Error = FieldError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, FieldError> {
        let Some((key, value)) = self.left.next() else {
            return Ok(None);
        };
        let deserializer: StringDeserializer<FieldError> = key.clone().into_deserializer();
        self.current = Some((key, value));
        seed.deserialize(deserializer).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, FieldError> {
        let (key, value) = self.current.take().unwrap_or_default();
        seed.deserialize(Held(value))
            .map_err(|error| FieldError { field: error.field.or(Some(key)), ..error })
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left.len())
    }
}

/// One value.
struct Held(Value);

impl<'de> Deserializer<'de> for Held {
    type Error = FieldError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FieldError> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(value),
            Value::String(text) => visitor.visit_string(text),
            Value::Array(items) => {
                visitor.visit_seq(SeqDeserializer::new(items.into_iter().map(Held)))
            }
            Value::Object(members) => Fields(members).deserialize_any(visitor),
            Value::Number(number) => {
                if let Some(number) = number.as_u64() {
                    visitor.visit_u64(number)
                } else if let Some(number) = number.as_i64() {
                    visitor.visit_i64(number)
                } else {
                    visitor.visit_f64(number.as_f64().unwrap_or(f64::NAN))
                }
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FieldError> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FieldError> {
        visitor.visit_unit()
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, FieldError> {
        match self.0 {
            Value::String(text) => visitor.visit_enum(text.into_deserializer()),
            other => Err(FieldError::invalid_type(unexpected(&other), &"a text")),
        }
    }

    /// As [`deserialize_any`](Self::deserialize_any), but null is no object.
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FieldError> {
        match self.0 {
            Value::Object(members) => Fields(members).deserialize_any(visitor),
            other => Err(FieldError::invalid_type(unexpected(&other), &"an object")),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct seq tuple tuple_struct struct identifier
    }
}

impl<'de> IntoDeserializer<'de, FieldError> for Held {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// Reads a field that may be absent, but not null unless `T` says so.
///
/// # Errors
///
/// If `T` cannot be read.
pub fn optional<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// Reads a field that may be null, but not absent.
///
/// # Errors
///
/// If `T` cannot be read.
pub fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    Option::deserialize(deserializer)
}

/// Reads a field within bounds, both inclusive: of the value of an integer, of the characters of a text.
///
/// # Errors
///
/// If `T` cannot be read or lies outside the bounds.
pub fn within<'de, D, T, const MIN: i64, const MAX: i64>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Measured,
{
    let value = T::deserialize(deserializer)?;
    match value.measure() {
        Some(size) if size < MIN.into() || size > MAX.into() => {
            Err(D::Error::custom("is out of bounds"))
        }
        _ => Ok(value),
    }
}

/// Reads a field as [`within`] does that may be absent.
///
/// # Errors
///
/// As [`within`].
pub fn optional_within<'de, D, T, const MIN: i64, const MAX: i64>(
    deserializer: D,
) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Measured,
{
    within::<D, T, MIN, MAX>(deserializer).map(Some)
}

/// Reads a text that is a UUID in lower case, with its four hyphens (spec v2, OP-1).
///
/// # Errors
///
/// If it is not.
pub fn uuid<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    let fits = text.len() == 36
        && text.bytes().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
        });
    if fits { Ok(text) } else { Err(D::Error::custom("is no UUID in lower case")) }
}

/// Reads a field as [`uuid`] does that may be absent.
///
/// # Errors
///
/// As [`uuid`].
pub fn optional_uuid<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    uuid(deserializer).map(Some)
}

/// What bounds apply to.
pub trait Measured {
    /// The value or the number of characters; `None` if there is nothing to measure.
    fn measure(&self) -> Option<i128>;
}

impl Measured for String {
    fn measure(&self) -> Option<i128> {
        i128::try_from(self.chars().count()).ok()
    }
}

impl<T: Measured> Measured for Option<T> {
    fn measure(&self) -> Option<i128> {
        self.as_ref().and_then(Measured::measure)
    }
}

macro_rules! measured_integers {
    ($($integer:ty),*) => {$(
        impl Measured for $integer {
            fn measure(&self) -> Option<i128> {
                Some((*self).into())
            }
        }
    )*};
}

measured_integers!(u8, u16, u32, u64, i64);

/// Reads an integer in any of the spellings of clause Q-7; what lies beyond 64 bits becomes the nearest integer
/// within (clause Q-8).
///
/// # Errors
///
/// If the value is none of those spellings.
pub fn lax_integer<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    deserializer.deserialize_any(LaxInteger)
}

/// For `Debug`: how long a text is, instead of the text.
#[must_use]
pub fn length_of(text: &str) -> impl fmt::Debug + use<> {
    Summary(format!("<{} characters>", text.len()))
}

/// For `Debug`: as much of a text as tells it from others in a log, but not enough to use it (spec v2, TR-4).
#[must_use]
pub fn beginning_of(text: &str) -> impl fmt::Debug + use<> {
    Summary(text.chars().take(8).flat_map(char::escape_debug).chain(['…']).collect())
}

/// For `Debug`: the keys of an object, without their values.
#[must_use]
pub fn keys_of(members: &Map<String, Value>) -> impl fmt::Debug + '_ {
    members.keys().collect::<Vec<_>>()
}

/// For `Debug`: what a value is, without what it holds.
#[must_use]
pub fn sort_of_value(value: &Value) -> impl fmt::Debug + use<> {
    Summary(format!("<{}>", sort_of(unexpected(value))))
}

/// A text that `Debug` prints as it is.
struct Summary(String);

impl fmt::Debug for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
