//! Integers in other spellings than JSON's own (clauses ).

use std::fmt;

use serde::de::{Error, Visitor};

/// Reads an integer, a number without fraction, a boolean, or a text that spells an integer; what lies beyond 64
/// bits becomes the nearest integer within.
pub(crate) struct LaxInteger;

impl Visitor<'_> for LaxInteger {
    type Value = i64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an integer")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<i64, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<i64, E> {
        Ok(value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<i64, E> {
        Ok(i64::try_from(value).unwrap_or(i64::MAX))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<i64, E> {
        if value.is_finite() && value.fract() == 0.0 {
            #[allow(
                clippy::cast_possible_truncation,
                reason = "the cast saturates, which is what is wanted"
            )]
            Ok(value as i64)
        } else {
            Err(E::custom("is a number with a fraction"))
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<i64, E> {
        spelled(text).ok_or_else(|| E::custom("is a text that spells no integer"))
    }
}

/// The integer that a text spells: space around it, a sign, digits with single underscores between them, a fraction
/// of zeros.
fn spelled(text: &str) -> Option<i64> {
    let text = text.trim();
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let whole = match text.split_once('.') {
        Some((_, fraction)) if fraction.is_empty() || fraction.bytes().any(|b| b != b'0') => {
            return None;
        }
        Some((whole, _)) => whole,
        None => text,
    };
    if whole.len() > MAX_DIGITS {
        return None;
    }
    let mut value: i64 = 0;
    let mut after_digit = false;
    for byte in whole.bytes() {
        match byte {
            b'0'..=b'9' => {
                let digit = i64::from(byte - b'0');
                value = value.saturating_mul(10);
                value = if negative {
                    value.saturating_sub(digit)
                } else {
                    value.saturating_add(digit)
                };
                after_digit = true;
            }
            b'_' if after_digit => after_digit = false,
            _ => return None,
        }
    }
    after_digit.then_some(value)
}

/// The most digits (and underscores) of an integer in a text.
const MAX_DIGITS: usize = 4300;
