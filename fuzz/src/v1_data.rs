//! The fast paths of data messages against the JSON path, reading and writing.

#[path = "../../codec/tests/data/agree.rs"]
mod agree;

/// Reads the bytes as a data message in both ways, and writes a message in both ways, whose stream's id is what stands
/// before the first zero byte, and whose payload is what stands behind it.
pub fn run(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        agree::check_reading(text);
    }
    let zero = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    let (id, payload) = data.split_at(zero);
    if let Ok(id) = std::str::from_utf8(id) {
        agree::check_writing(id, payload);
    }
}
