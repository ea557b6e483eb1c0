//! The relay: the public end of the tunnel, as a library.
//!
//! A [`Relay`] is made of [`auth::Credentials`] and [`Hooks`], and takes listeners and a shutdown future, or single
//! connections; the program `network-relay` is its first embedder. The decisions are in cores without I/O: [`router`],
//! the streams of protocol v2, [`routes`], those of one agent link of protocol v1, stand-ins between the two, and
//! [`registry`], who holds which name.

pub mod auth;
#[cfg(feature = "cli")]
pub mod cli;
pub mod config;
mod connection;
mod directory;
mod hooks;
mod http;
pub mod large;
mod phase;
pub mod registry;
pub mod router;
pub mod routes;
mod server;
mod session;
mod standin;

pub use hooks::{Handle, Hooks, SendError};
pub use server::{Relay, ServeError, Shutdown, serve};
