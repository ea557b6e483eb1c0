//! Protocol v1: the wire of the Python implementation, as `spec/v1` describes it.
//!
//! The types and constants are generated; [`data`] holds the fast paths of the messages that carry bytes, and
//! [`base64`] the encoding of those bytes.

pub mod base64;
pub mod data;

#[rustfmt::skip]
mod generated;

pub use crate::message::{Message, decode, encode};
pub use generated::*;
