//! Reading messages of all four directions, and the base64 in them.

use codec::v1::base64::{self, Base64Error};
use codec::v1::{
    AgentToRelay, ClientToRelay, Message, RelayToAgent, RelayToClient, decode, encode,
};
use serde_json::Value;

/// Reads a text as a message of each direction, and as base64.
///
/// What can be read can be written, in one spelling that reads the same. What cannot is refused in one short line.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    check::<AgentToRelay>(text);
    check::<RelayToAgent>(text);
    check::<ClientToRelay>(text);
    check::<RelayToClient>(text);
    check_base64(text);
}

fn check<M: Message + std::fmt::Debug>(text: &str) {
    match decode::<M>(text) {
        Ok(message) => {
            assert!(M::KINDS.contains(&message.kind()));
            let written = encode(&message);
            let again = decode::<M>(&written).expect("what was written can be read");
            assert_eq!(encode(&again), written);
            // Compact, and escaped no more than has to be (spec v1, M-3 and M-4).
            let json: Value = serde_json::from_str(&written).expect("a message is JSON");
            assert_eq!(json.to_string(), written);
            let inner = &json["inner"];
            assert_eq!(inner["kind"], message.kind());
            if let Some(payload) = inner["data_base64"].as_str() {
                check_base64(payload);
            }
        }
        Err(error) => {
            let shown = error.to_string();
            assert!(shown.len() < 600 && !shown.contains(char::is_control), "{shown:?}");
        }
    }
}

/// The reader does what its clause says, and leaves what it cannot read alone.
fn check_base64(text: &str) {
    let mut read = b"kept".to_vec();
    let result = base64::decode_append(text, &mut read);
    match plainly(text) {
        Ok(expected) => {
            assert_eq!(result, Ok(()));
            assert_eq!(&read[4..], expected);
            assert_eq!(base64::is_canonical(text), base64::encode(&expected) == text);
        }
        Err(error) => {
            assert_eq!(result, Err(error));
            assert_eq!(read, b"kept");
            assert!(!base64::is_canonical(text));
        }
    }
}

/// Clause Q-9, word for word, without regard to speed.
fn plainly(text: &str) -> Result<Vec<u8>, Base64Error> {
    const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    if !text.is_ascii() {
        return Err(Base64Error::NotAscii);
    }
    let mut bytes = Vec::new();
    let mut bits = String::new();
    let mut pads = 0;
    for c in text.chars() {
        if let Some(value) = ALPHABET.find(c) {
            bits += &format!("{value:06b}");
            pads = 0;
        } else if c == '=' && bits.len() >= 12 {
            pads += 1;
        } else {
            // Neither of the alphabet nor a padding that could complete a group.
            continue;
        }
        if bits.len() + 6 * pads == 24 {
            let whole = bits.len() / 8;
            bytes.extend(
                (0..whole).filter_map(|n| u8::from_str_radix(&bits[8 * n..8 * n + 8], 2).ok()),
            );
            bits.clear();
            if pads > 0 {
                return Ok(bytes);
            }
        }
    }
    if bits.is_empty() { Ok(bytes) } else { Err(Base64Error::Incomplete) }
}
