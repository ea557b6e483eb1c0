//! The wire of the tunnel.
//!
//! A message is a JSON text in a WebSocket text message; v2 has binary frames besides, which carry the bytes of streams.
//! The types of a version are generated from its schemas in `spec/`; [`message::decode`] and [`message::encode`] read
//! and write any of them, within fixed bounds of work and memory and without ever panicking, whatever the text. The
//! messages of v1 that carry bytes have fast paths that skip JSON where the text has the usual spelling ([`v1::data`]);
//! the frames of v2 are taken apart and put together by [`v2::data`].
//!
//! Nothing here does I/O, and nothing here keeps state.

pub mod fields;
pub mod message;
pub mod v1;
pub mod v2;

mod error;
mod lax;
mod secret;

pub use error::DecodeError;
pub use secret::Secret;
