//! Protocol v1: the seats of an agent and of a client on their link to a relay.
//!
//! The relay's own seats are in the relay's `routes`.

pub mod agent;
pub mod client;
mod linger;

pub use agent::AgentLink;
pub use client::ClientLink;

/// What a producer learns when it asks whether it may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// One more message may be written.
    Ready,
    /// Not now; the stream's writer is woken when it may be.
    Full,
    /// The stream is over; nothing more is taken.
    Over,
}

/// What a consumer gets from [`AgentLink::read`] and [`ClientLink::read`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// Bytes were put into the buffer. If `resumed`, the link may read on: wake its driver.
    Data {
        /// Whether this read ended a pause of the link.
        resumed: bool,
    },
    /// Nothing now; the stream's reader is woken when there is.
    Empty,
    /// The peer ended the stream, and everything it sent has been read.
    Finished,
    /// The stream was cut off; what was queued is gone.
    Over,
}
