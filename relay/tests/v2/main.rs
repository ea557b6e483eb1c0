//! The relay's links of protocol v2, from outside.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod draining;
mod hooks;
mod links;
mod mixed;
mod peer;
mod routed;
