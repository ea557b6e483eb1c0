use base64_simd::STANDARD;
use serde_json::{Value, json};

use super::{Finding, Outcome};

/// A text message of the party under test.
#[derive(Debug, Clone)]
pub struct Message {
    /// As it came.
    pub text: String,
    /// What stands under `inner`.
    pub inner: Value,
}

impl Message {
    /// Reads a message that a writer has to have written well (M-1, M-2).
    ///
    /// # Errors
    ///
    /// When it is none.
    pub fn read(text: String) -> Outcome<Self> {
        let parsed: Value = serde_json::from_str(&text)
            .map_err(|error| Finding::Fail(format!("a text that is not JSON ({error}): {text}")))?;
        let Some(inner) = parsed.get("inner").filter(|inner| inner["kind"].is_string()) else {
            return Err(Finding::Fail(format!("a text without a kind in inner: {text}")));
        };
        Ok(Self { inner: inner.clone(), text })
    }

    /// Its kind.
    pub fn kind(&self) -> &str {
        self.inner["kind"].as_str().unwrap_or_default()
    }

    /// The text of a field; empty if it has none.
    pub fn field(&self, name: &str) -> &str {
        self.inner[name].as_str().unwrap_or_default()
    }

    /// The bytes in `data_base64`, which have to be written well (M-9).
    ///
    /// # Errors
    ///
    /// When they are not.
    pub fn data(&self) -> Outcome<Vec<u8>> {
        bytes_of(self.inner["data_base64"].as_str().unwrap_or("not a text"))
    }
}

/// Bytes in base64, as writers write them (M-9).
pub fn base64(bytes: &[u8]) -> String {
    STANDARD.encode_to_string(bytes)
}

/// The bytes that a text of base64 stands for, which has to be written well (M-9).
///
/// # Errors
///
/// When it is not.
pub fn bytes_of(text: &str) -> Outcome<Vec<u8>> {
    STANDARD
        .decode_to_vec(text)
        .map_err(|_| Finding::Fail(format!("this is no base64 by M-9: {text:?}")))
}

/// `tcp_data` of a stream on an agent's link, without its envelope.
pub fn data_of(id: &str, bytes: &[u8]) -> Value {
    json!({ "kind": "tcp_data", "connection_id": id, "data_base64": base64(bytes) })
}
