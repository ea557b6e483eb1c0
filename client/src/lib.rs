//! The client: reaches a target behind an agent, as a library.
//!
//! [`run`] carries one stream between a local source and sink and a target; the program
//! `access-client` is its first embedder, on stdin and stdout.

#[cfg(feature = "cli")]
pub mod cli;
pub mod config;
mod error;
pub mod exit;
mod link;
mod run;
#[cfg(all(feature = "cli", unix))]
pub mod stdio;
#[cfg(all(feature = "cli", not(unix)))]
#[path = "stdio_elsewhere.rs"]
pub mod stdio;

pub use error::RunError;
pub use run::run;
