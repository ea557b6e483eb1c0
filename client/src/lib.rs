//! The client: reaches a target behind an agent, as a library.
//!
//! [`run`] carries one stream between a local source and sink and a target, [`listen`] those of all connections to
//! local ports; the program `access-client` is their first embedder, the former on stdin and stdout.

#[cfg(feature = "cli")]
pub mod cli;
pub mod config;
mod error;
pub mod exit;
mod listen;
pub mod notice;
mod relays;
mod run;
mod session;
#[cfg(feature = "cli")]
pub mod stdio;
mod v1;

pub use error::RunError;
pub use listen::listen;
pub use notice::{Notice, Notices};
pub use run::{Ends, run};
