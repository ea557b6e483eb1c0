//! What every party of the tunnel must remember, as state machines without I/O, clock or tasks.
//!
//! Bytes, messages and the time come in as arguments; messages and wake-ups go out. The crate
//! `transport` drives these cores with tokio, tests drive them with a made-up clock.
//!
//! - [`Keepalive`] watches one link: when to ping, when the peer is gone.
//! - [`Inbound`] and [`Outbound`] are the two bounded queues of a stream; [`Patience`] tells how long a full one may
//!   hold up its link.
//! - [`v1`] holds the agent's and the client's seat on a link that speaks protocol v1.
//! - [`v2`] holds the ends of streams of protocol v2, which outlive their links.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests start the clock somewhere"))]

mod inbound;
mod keepalive;
mod outbound;
mod patience;
pub mod v1;
pub mod v2;

pub use inbound::Inbound;
pub use keepalive::{Keepalive, Verdict};
pub use outbound::Outbound;
pub use patience::Patience;

/// Calls the local owner of a stream or link back to it, after a core's answer of "nothing now"
/// may have changed.
///
/// A wake-up may come without cause; the woken side asks the core again.
pub trait Wake {
    /// Wakes whoever waits. Must not block and must not call into the core that wakes.
    fn wake(&self);
}
