//! Where the state machines meet tokio.

pub mod backoff;
pub mod bell;
pub mod dial;
pub mod driver;
mod exchange;
#[cfg(test)]
mod lines;
pub mod printable;
#[cfg(feature = "cli")]
pub mod program;
pub mod proxy;
pub mod pump;
pub mod socket;
pub mod system;
pub mod tcp;
pub mod tls;
pub mod url;
pub mod websocket;

/// The present on the runtime's clock, which a test may hold and move.
///
/// Every time that goes into a core comes from here, as every timer of the runtime does.
pub fn now() -> std::time::Instant {
    tokio::time::Instant::now().into_std()
}
