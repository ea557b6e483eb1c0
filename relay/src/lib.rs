//! The relay: the public end of the tunnel, as a library.
//!
//! [`serve`] takes listeners, [`auth::Credentials`] and a shutdown future; the program
//! `network-relay` is its first embedder. [`Relay`] is the same without listeners. The decisions are in two cores
//! without I/O: [`routes`], the streams of one agent link, and [`registry`], who holds which name.

pub mod auth;
#[cfg(feature = "cli")]
pub mod cli;
pub mod config;
mod connection;
mod directory;
mod http;
pub mod large;
pub mod registry;
pub mod router;
pub mod routes;
mod server;
mod session;

pub use connection::Relay;
pub use server::{ServeError, serve};
