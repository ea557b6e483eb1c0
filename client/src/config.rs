//! What a client needs to know before it starts.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use codec::Secret;
use transport::url::RelayUrl;

/// The configuration of a client: one stream to one target.
#[derive(Debug, Clone)]
pub struct Config {
    /// The relay to connect to, its path for clients included.
    pub relay_url: RelayUrl,
    /// What proves that we may ask.
    pub secret: Secret,
    /// PEM file with certificates to trust in addition to the system's.
    pub ca_file: Option<PathBuf>,
    /// After the end of the local input: how long to go on with nothing coming back. `None` is until the relay ends it.
    pub eof_timeout: Option<Duration>,
    /// The name of the agent that is to dial the target.
    pub agent: String,
    /// What the agent is to dial.
    pub target: Target,
    /// The protocol to dial with, passed on as it is. Agents of this version know `tcp` alone.
    pub protocol: String,
}

/// A host, as its agent knows it, and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// A name or an address, not empty; IPv6 without brackets.
    pub host: String,
    /// From 1 to 65535.
    pub port: u16,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_shows_as_one_word() {
        let shown = |host: &str| Target { host: host.to_owned(), port: 22 }.to_string();
        assert_eq!(shown("localhost"), "localhost:22");
        assert_eq!(shown("::1"), "[::1]:22");
    }
}
