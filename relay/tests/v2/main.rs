//! The relay's links of protocol v2, from outside.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod links;
mod peer;
mod routed;
