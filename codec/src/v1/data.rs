//! The fast paths of the messages that carry the bytes of streams.
//!
//! Both peers write these messages in one spelling. What has it is taken apart and put together here without a JSON
//! parser; what has not goes through [`decode`](crate::message::decode), which reads the same from it. The texts
//! around the values are generated from the schemas.

use base64_simd::STANDARD;

use super::base64::is_canonical;
use super::generated::{
    CLIENT_DATA_PREFIX, CLIENT_DATA_SUFFIX, STREAM_DATA_INFIX, STREAM_DATA_PREFIX,
    STREAM_DATA_SUFFIX,
};

/// A data message of the agent link, taken apart.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct AgentData<'a> {
    /// The stream.
    pub connection_id: &'a str,
    /// The bytes, as canonical base64.
    pub base64: &'a str,
}

impl std::fmt::Debug for AgentData<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AgentData")
            .field("connection_id", &self.connection_id)
            .field("base64", &crate::fields::length_of(self.base64))
            .finish()
    }
}

/// Takes a `tcp_data` of the agent link apart, in either direction.
///
/// `None`: the text is spelled otherwise, or its base64 is not canonical, or it is no such message; ask
/// [`decode`](crate::message::decode).
#[must_use]
pub fn scan_agent(text: &str) -> Option<AgentData<'_>> {
    let (connection_id, base64) = split_agent(text)?;
    is_canonical(base64).then_some(AgentData { connection_id, base64 })
}

/// Takes a `tcp_data` of the client link apart, in either direction, and returns its base64, which is canonical.
///
/// `None`: as for [`scan_agent`].
#[must_use]
pub fn scan_client(text: &str) -> Option<&str> {
    split_client(text).filter(|base64| is_canonical(base64))
}

/// As [`scan_agent`], but appends the bytes themselves to `out` and returns the stream. This reads the base64 once
/// instead of twice. `out` is unchanged if there is nothing to return.
#[must_use]
pub fn read_agent<'a>(text: &'a str, out: &mut Vec<u8>) -> Option<&'a str> {
    let (connection_id, base64) = split_agent(text)?;
    STANDARD.decode_append(base64.as_bytes(), out).ok()?;
    Some(connection_id)
}

/// As [`scan_client`], but appends the bytes themselves to `out`. `out` is unchanged if there is nothing to return.
#[must_use]
pub fn read_client(text: &str, out: &mut Vec<u8>) -> Option<()> {
    STANDARD.decode_append(split_client(text)?.as_bytes(), out).ok()
}

/// The text of a `tcp_data` of the agent link, in either direction.
#[must_use]
pub fn encode_agent(connection_id: &str, payload: &[u8]) -> String {
    let mut text = begin_agent(connection_id, STANDARD.encoded_length(payload.len()));
    STANDARD.encode_append(payload, &mut text);
    text.push_str(STREAM_DATA_SUFFIX);
    text
}

/// The text of a `tcp_data` of the client link, in either direction.
#[must_use]
pub fn encode_client(payload: &[u8]) -> String {
    let mut text = begin_client(STANDARD.encoded_length(payload.len()));
    STANDARD.encode_append(payload, &mut text);
    text.push_str(CLIENT_DATA_SUFFIX);
    text
}

/// The text of a `tcp_data` of the agent link around base64 that is known to be canonical.
#[must_use]
pub fn wrap_agent(connection_id: &str, base64: &str) -> String {
    let mut text = begin_agent(connection_id, base64.len());
    text.push_str(base64);
    text.push_str(STREAM_DATA_SUFFIX);
    text
}

/// The text of a `tcp_data` of the client link around base64 that is known to be canonical.
#[must_use]
pub fn wrap_client(base64: &str) -> String {
    let mut text = begin_client(base64.len());
    text.push_str(base64);
    text.push_str(CLIENT_DATA_SUFFIX);
    text
}

/// Stream and base64 of a text in the usual spelling; the base64 is not checked yet.
fn split_agent(text: &str) -> Option<(&str, &str)> {
    let rest = text.strip_prefix(STREAM_DATA_PREFIX)?.strip_suffix(STREAM_DATA_SUFFIX)?;
    let (connection_id, base64) = rest.split_at_checked(rest.bytes().position(needs_parser)?)?;
    Some((connection_id, base64.strip_prefix(STREAM_DATA_INFIX)?))
}

/// Base64 of a text in the usual spelling; it is not checked yet.
fn split_client(text: &str) -> Option<&str> {
    text.strip_prefix(CLIENT_DATA_PREFIX)?.strip_suffix(CLIENT_DATA_SUFFIX)
}

/// Everything up to the base64, with room for the rest.
fn begin_agent(connection_id: &str, base64_bytes: usize) -> String {
    let around = STREAM_DATA_PREFIX.len() + STREAM_DATA_INFIX.len() + STREAM_DATA_SUFFIX.len();
    let mut text = String::with_capacity(around + connection_id.len() + base64_bytes);
    text.push_str(STREAM_DATA_PREFIX);
    if connection_id.bytes().any(needs_parser) {
        let quoted = serde_json::Value::from(connection_id).to_string();
        text.push_str(&quoted[1..quoted.len() - 1]);
    } else {
        text.push_str(connection_id);
    }
    text.push_str(STREAM_DATA_INFIX);
    text
}

/// Everything up to the base64, with room for the rest.
fn begin_client(base64_bytes: usize) -> String {
    let mut text =
        String::with_capacity(CLIENT_DATA_PREFIX.len() + base64_bytes + CLIENT_DATA_SUFFIX.len());
    text.push_str(CLIENT_DATA_PREFIX);
    text
}

/// Whether a byte in a JSON string ends it, begins an escape, or must not be there.
fn needs_parser(byte: u8) -> bool {
    byte == b'"' || byte == b'\\' || byte < 0x20
}
