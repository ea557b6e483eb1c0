//! Protocol v2, as `spec/v2` describes it.
//!
//! Control messages are text frames, of one type in both directions: [`Control`]. Binary frames are the bytes of
//! streams: [`data`]. All of it is generated.

#[rustfmt::skip]
mod generated;

pub use crate::message::{Message, decode, encode};
pub use generated::*;
