//! The client on protocol v2, against a relay and agent in this process.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod listening;
mod program;
mod relay;
mod streams;
mod support;
