//! The agent: the private end of the tunnel, as a library.
//!
//! [`run`] keeps a link to a relay and connects targets for it until told to stop; the program
//! `edge-agent` is its first embedder.

#[cfg(feature = "cli")]
pub mod cli;
pub mod config;
mod keep;
mod link;
mod serve;
mod streams;
mod targets;

pub use serve::run;
