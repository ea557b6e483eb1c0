//! What a client needs to know before it starts.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use codec::Secret;
use transport::url::RelayUrl;

/// How a client reaches its agent.
#[derive(Debug, Clone)]
pub struct Config {
    /// The relays to connect to, their paths for clients included: at least one. The first that can be reached is
    /// taken, and the next when it is lost.
    pub relay_urls: Vec<RelayUrl>,
    /// What proves that we may ask.
    pub secret: Secret,
    /// PEM file with certificates to trust in addition to the system's.
    pub ca_file: Option<PathBuf>,
    /// After the end of the local input on a link of protocol v1: how long to go on with nothing coming back. `None` is
    /// until the relay ends it.
    pub eof_timeout: Option<Duration>,
    /// How long a stream of protocol v2 waits for another link when its own is lost; zero ends it with its link.
    pub resume_for: Duration,
    /// The name of the agent that is to dial.
    pub agent: String,
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

/// A place to listen at, and the target that connections there lead to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    /// Where to listen.
    pub bind: Bind,
    /// Where it leads.
    pub target: Target,
}

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bind {
    /// A TCP port; 0 leaves the choice to the system.
    Tcp(SocketAddr),
    /// The same on every interface, IPv6 and IPv4.
    Everywhere(u16),
    /// A Unix socket with this path.
    Unix(PathBuf),
}

/// Why a text says nowhere to listen at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BindError {
    /// It ends in no port.
    #[error(
        "must be PORT, ADDRESS:PORT, unix:PATH or a path that begins with / (0 lets the system choose a port)"
    )]
    Port,
    /// What stands before the port is no address.
    #[error(
        "must have an IP address before the port, with brackets around IPv6 (or localhost, or *)"
    )]
    Address,
    /// Longer than a socket's name may be.
    #[error("must have a path of 1 to 107 bytes")]
    Path,
    /// There is no host and port behind it.
    #[error("must be [BIND:]PORT:HOST:HOSTPORT, with brackets around IPv6")]
    Forward,
}

impl FromStr for Bind {
    type Err = BindError;

    /// `PORT` is on loopback; `*:PORT` and `:PORT` are everywhere, as `ssh -L` has it.
    fn from_str(text: &str) -> Result<Self, BindError> {
        let path = text.strip_prefix("unix:").or_else(|| text.starts_with('/').then_some(text));
        if let Some(path) = path {
            let fits = (1..=MAX_SOCKET_PATH).contains(&path.len()) && !path.contains('\0');
            return if fits { Ok(Self::Unix(path.into())) } else { Err(BindError::Path) };
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (Some(host), port),
            None => (None, text),
        };
        let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|_| is_number).ok_or(BindError::Port)?;
        let at = |address: IpAddr| Ok(Self::Tcp(SocketAddr::new(address, port)));
        match host {
            None => at(LOOPBACK),
            Some("" | "*") => Ok(Self::Everywhere(port)),
            Some(host) if host.eq_ignore_ascii_case("localhost") => at(LOOPBACK),
            Some(host) => {
                let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
                match inner.unwrap_or(host).parse() {
                    // Without brackets, where the address ends would be a guess.
                    Ok(IpAddr::V6(_)) if inner.is_none() => Err(BindError::Address),
                    Ok(address) => at(address),
                    Err(_) => Err(BindError::Address),
                }
            }
        }
    }
}

impl FromStr for Forward {
    type Err = BindError;

    /// `[BIND:]PORT:HOST:HOSTPORT`, as `ssh -L` has it, or with a path in place of the first port.
    fn from_str(text: &str) -> Result<Self, BindError> {
        let (rest, port) = text.rsplit_once(':').ok_or(BindError::Forward)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or(BindError::Forward)?;
        let (bind, host) = match rest.strip_suffix(']') {
            Some(rest) => rest.rsplit_once(":[").ok_or(BindError::Forward)?,
            None => rest.rsplit_once(':').ok_or(BindError::Forward)?,
        };
        if host.is_empty() {
            return Err(BindError::Forward);
        }
        Ok(Self { bind: bind.parse()?, target: Target { host: host.to_owned(), port } })
    }
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Everywhere(port) => write!(f, "*:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// Where a port alone is listened on: only programs of this machine reach it there.
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The longest path of a Unix socket, in bytes (unix(7), `sun_path` without its last zero).
const MAX_SOCKET_PATH: usize = 107;

#[cfg(test)]
mod tests {
    use super::*;

    fn target(host: &str, port: u16) -> Target {
        Target { host: host.to_owned(), port }
    }

    #[test]
    fn a_target_shows_as_one_word() {
        assert_eq!(target("localhost", 22).to_string(), "localhost:22");
        assert_eq!(target("::1", 22).to_string(), "[::1]:22");
    }

    #[test]
    fn places_to_listen_at() {
        let check = |text: &str, shown: Result<&str, BindError>| {
            let read = text.parse::<Bind>().map(|bind| bind.to_string());
            assert_eq!(read, shown.map(str::to_owned), "{text:?}");
        };
        check("8080", Ok("127.0.0.1:8080"));
        check("0", Ok("127.0.0.1:0"));
        check("localhost:80", Ok("127.0.0.1:80"));
        check("0.0.0.0:80", Ok("0.0.0.0:80"));
        check("[::1]:80", Ok("[::1]:80"));
        check("*:80", Ok("*:80"));
        check(":80", Ok("*:80"));
        check("/run/x.sock", Ok("unix:/run/x.sock"));
        check("unix:x.sock", Ok("unix:x.sock"));
        for text in ["", "x", "80x", "+80", "65536", "1.2.3.4:", "1.2.3.4"] {
            check(text, Err(BindError::Port));
        }
        for text in ["::1:80", "example.org:80", "1.2.3:80"] {
            check(text, Err(BindError::Address));
        }
        check("unix:", Err(BindError::Path));
        check(&format!("/{}", "x".repeat(107)), Err(BindError::Path));
    }

    #[test]
    fn forwards_read_as_ssh_reads_them() {
        let check = |text: &str, bind: &str, to: Target| {
            let forward = text.parse::<Forward>().map(|it| (it.bind.to_string(), it.target));
            assert_eq!(forward, Ok((bind.to_owned(), to)), "{text}");
        };
        check("8080:localhost:80", "127.0.0.1:8080", target("localhost", 80));
        check("0:db.lan:5432", "127.0.0.1:0", target("db.lan", 5432));
        check("[::1]:8080:[fd00::5]:80", "[::1]:8080", target("fd00::5", 80));
        check("*:8080:10.0.0.1:80", "*:8080", target("10.0.0.1", 80));
        check("/tmp/s:localhost:80", "unix:/tmp/s", target("localhost", 80));
        check("unix:s:[::1]:80", "unix:s", target("::1", 80));
        for text in ["", "80", "80:host", "80::80", "80:host:0", "80:host:x", "80:host:65536"] {
            assert_eq!(text.parse::<Forward>(), Err(BindError::Forward), "{text}");
        }
        assert_eq!("x:host:80".parse::<Forward>(), Err(BindError::Port));
        assert_eq!("a.b:1:host:80".parse::<Forward>(), Err(BindError::Address));
    }
}
