//! What a relay needs to know before it starts.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use crate::auth::Credentials;

/// The configuration of a relay.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where it listens.
    pub listen: ListenAddress,
    /// Whom it admits.
    pub credentials: Credentials,
    /// How long links may take to move when it is asked to stop.
    pub drain_timeout: Duration,
}

/// A host and a port to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenAddress {
    /// The host.
    pub host: ListenHost,
    /// The port; 0 leaves the choice to the system.
    pub port: u16,
}

/// An address, or a name that stands for one or more of them. IPv6 is read with and without brackets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenHost(String);

/// The text is empty, which names no host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must name an address (0.0.0.0 or :: for every interface)")]
pub struct EmptyHost;

/// The host to listen on has no address.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen on {host}: the name has no address (try 127.0.0.1, or 0.0.0.0 for every interface)"
)]
pub struct NoAddress {
    /// The host, as it was given.
    pub host: String,
    /// What the resolver said, if anything.
    pub source: Option<io::Error>,
}

impl ListenAddress {
    /// Every address to listen on, each once and never none: `localhost`, for one, may stand for two.
    ///
    /// # Errors
    /// [`NoAddress`]
    pub async fn resolve(&self) -> Result<Vec<SocketAddr>, NoAddress> {
        let fail = |source| NoAddress { host: self.host.0.clone(), source };
        let found = tokio::net::lookup_host((self.host.0.as_str(), self.port)).await;
        let mut addresses: Vec<SocketAddr> = Vec::new();
        for address in found.map_err(|error| fail(Some(error)))? {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        if addresses.is_empty() { Err(fail(None)) } else { Ok(addresses) }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host: ListenHost(host), port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

impl FromStr for ListenHost {
    type Err = EmptyHost;

    fn from_str(text: &str) -> Result<Self, EmptyHost> {
        let host = text.trim();
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if host.is_empty() { Err(EmptyHost) } else { Ok(Self(host.to_owned())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(host: &str) -> Result<ListenAddress, EmptyHost> {
        Ok(ListenAddress { host: host.parse()?, port: 80 })
    }

    #[tokio::test]
    async fn hosts_are_addresses_or_names() -> Result<(), Box<dyn std::error::Error>> {
        for (host, shown) in
            [("127.0.0.1", "127.0.0.1:80"), ("[::1]", "[::1]:80"), (" :: ", "[::]:80")]
        {
            let address = address(host)?;
            assert_eq!(address.to_string(), shown);
            let resolved = address.resolve().await?;
            assert_eq!(resolved.iter().map(SocketAddr::to_string).collect::<Vec<_>>(), [shown]);
        }
        assert_eq!(address(""), Err(EmptyHost));
        assert_eq!(address("[]"), Err(EmptyHost));
        Ok(())
    }

    #[tokio::test]
    async fn a_host_that_cannot_exist_is_named() -> Result<(), EmptyHost> {
        match address("no such host")?.resolve().await {
            Err(error) => assert!(error.to_string().starts_with("cannot listen on no such host: ")),
            Ok(addresses) => panic!("resolved to {addresses:?}"),
        }
        Ok(())
    }
}
