//! The client on protocol v2, against a relay and agent in this process.

mod listening;
mod program;
mod relay;
mod streams;
mod support;
