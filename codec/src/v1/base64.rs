//! The base64 of data messages: strict and fast for what peers write, tolerant for what they may write.

use base64_simd::STANDARD;

/// Why a text holds no bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Base64Error {
    /// A character that is not ASCII.
    #[error("base64 has a character that is not ASCII")]
    NotAscii,
    /// The padding is missing or incomplete, or a single character is left over.
    #[error("base64 ends in the middle of a group")]
    Incomplete,
}

/// Whether `text` is canonical base64 (clause M-9): standard alphabet, padded, nothing else, unused bits zero.
/// The empty text is.
#[must_use]
pub fn is_canonical(text: &str) -> bool {
    STANDARD.check(text.as_bytes()).is_ok()
}

/// Appends the bytes that `text` stands for to `out`.
///
/// Canonical base64 is read at full speed, everything else as tolerantly as clause Q-9 demands. The work is linear
/// in the length of the text.
///
/// # Errors
///
/// A [`Base64Error`], if the text cannot be read even so; `out` is then as it was.
pub fn decode_append(text: &str, out: &mut Vec<u8>) -> Result<(), Base64Error> {
    if STANDARD.decode_append(text.as_bytes(), out).is_ok() {
        return Ok(());
    }
    let start = out.len();
    let result = decode_tolerantly(text.as_bytes(), out);
    if result.is_err() {
        out.truncate(start);
    }
    result
}

/// The canonical base64 of `bytes` (clause M-9).
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    STANDARD.encode_to_string(bytes)
}

/// Reads base64 as clause Q-9 says: foreign characters are skipped, everything behind a complete padded group is
/// ignored, unused bits are dropped.
fn decode_tolerantly(text: &[u8], out: &mut Vec<u8>) -> Result<(), Base64Error> {
    if !text.is_ascii() {
        return Err(Base64Error::NotAscii);
    }
    let mut group: u32 = 0;
    let mut digits = 0;
    let mut pads = 0;
    for byte in text {
        if *byte == b'=' {
            if digits >= 2 {
                pads += 1;
                if digits + pads == 4 {
                    let bytes = (group << (6 * pads)).to_be_bytes();
                    out.extend_from_slice(&bytes[1..digits]);
                    return Ok(());
                }
            }
            continue;
        }
        let Some(digit) = digit(*byte) else { continue };
        group = group << 6 | digit;
        digits += 1;
        pads = 0;
        if digits == 4 {
            out.extend_from_slice(&group.to_be_bytes()[1..]);
            group = 0;
            digits = 0;
        }
    }
    if digits == 0 { Ok(()) } else { Err(Base64Error::Incomplete) }
}

/// The six bits of a character of the alphabet.
fn digit(byte: u8) -> Option<u32> {
    match byte {
        b'A'..=b'Z' => Some(u32::from(byte - b'A')),
        b'a'..=b'z' => Some(u32::from(byte - b'a') + 26),
        b'0'..=b'9' => Some(u32::from(byte - b'0') + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}
