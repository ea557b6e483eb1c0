//! The relay as an end of a stream of protocol v2, in the place of a party that speaks v1 (spec v2, ST-1): sans-IO.
//!
//! Each stand-in has a link of its own at the [`Router`](crate::router::Router), as if it were another process: what it
//! sends and gets there are values in memory.

mod agent;
mod client;
#[cfg(test)]
mod tests;
mod words;

use codec::v2;
use mux::Wake;
use mux::v2::Settings;

pub(crate) use agent::{AgentStandIn, Waiter};
pub(crate) use client::ClientStandIn;

/// Nobody waits for a stream of a stand-in: its owner looks after each message.
#[derive(Clone, Copy, Debug, Default)]
struct Quiet;

impl Wake for Quiet {
    fn wake(&self) {}
}

/// What a stand-in keeps of each stream is bounded more tightly than at an endpoint: the relay has many.
fn settings() -> Settings {
    Settings { max_window: MAX_WINDOW, resume_for: v2::RESUME_FOR, ..Settings::default() }
}

/// How far a window of a stand-in grows, and how much it keeps of what it has sent.
const MAX_WINDOW: u64 = 1 << 20;
