//! Resolving names and connecting over TCP.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::system::system_text;
use crate::url::host_and_port;

/// Connects to a host and port over TCP, with `TCP_NODELAY` set.
///
/// - `host` is a name, an IPv4 address or an IPv6 address, the last with or without brackets. A
///   name is resolved anew by the system at every call. An international name may be given in its
///   own script.
/// - All addresses of a name are tried in turn, families alternating as in RFC 8305 and beginning
///   with the family that the system puts first: the next attempt begins when the last one failed
///   or has not succeeded for [`ATTEMPT_DELAY`], and attempts that are under way go on. The first
///   connection wins.
/// - Everything together takes at most `timeout`.
///
/// Dropping the future ends all attempts. Only a name lookup that is under way inside the system is
/// left to end by itself; its result is thrown away.
///
/// # Errors
///
/// A [`ConnectError`], which keeps what happened at each address.
pub async fn connect_tcp(
    host: &str,
    port: u16,
    timeout: Duration,
) -> Result<TcpStream, ConnectError> {
    let deadline = Instant::now() + timeout;
    let addresses = resolve_until(host, port, deadline, timeout).await?;
    let connection = race(addresses, deadline, connect_one).await;
    connection.map_err(|attempts| ConnectError {
        host: host.to_owned(),
        port,
        problem: Problem::Attempts(attempts),
    })
}

/// How long an attempt is left alone before the next address is tried beside it: the value that RFC
/// 8305 recommends, long enough for most connections and short enough not to be felt where one
/// family is broken.
pub const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Why no TCP connection came about. One line that names every address tried:
/// `could not connect to db.lan:22: 10.0.0.5:22: connection refused; [fd00::5]:22: timed out`.
#[derive(Debug)]
pub struct ConnectError {
    host: String,
    port: u16,
    problem: Problem,
}

/// What kind of failure a [`ConnectError`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectErrorKind {
    /// The name has no address, or is no name.
    NotResolved,
    /// At least one address answered, and refused.
    Refused,
    /// No address refused, and at least one did not answer; or the name was not resolved in time.
    TimedOut,
    /// No address can be reached from here, or the port is 0.
    Unreachable,
}

#[derive(Debug)]
enum Problem {
    /// Why this is not the name of a host.
    NoHost(&'static str),
    PortZero,
    Lookup(io::Error),
    NoAddress,
    LookupTimedOut(Duration),
    /// In the order in which they were, or would have been, tried.
    Attempts(Vec<(SocketAddr, Failure)>),
}

#[derive(Debug)]
enum Failure {
    Failed(io::Error),
    TimedOut,
    NotTried,
}

impl ConnectError {
    /// What kind of failure this is.
    pub fn kind(&self) -> ConnectErrorKind {
        match &self.problem {
            Problem::NoHost(_) | Problem::Lookup(_) | Problem::NoAddress => {
                ConnectErrorKind::NotResolved
            }
            Problem::LookupTimedOut(_) => ConnectErrorKind::TimedOut,
            Problem::PortZero => ConnectErrorKind::Unreachable,
            Problem::Attempts(attempts) => {
                // An answer says more than silence, and silence more than a missing route, which is
                // what every address of a family gives on a machine without that family.
                let any = |kind| attempts.iter().any(|(_, failure)| failure.kind() == Some(kind));
                [ConnectErrorKind::Refused, ConnectErrorKind::TimedOut]
                    .into_iter()
                    .find(|kind| any(*kind))
                    .unwrap_or(ConnectErrorKind::Unreachable)
            }
        }
    }

    /// The addresses of the host, in the order of trying; empty if there was none to try.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        let attempts = match &self.problem {
            Problem::Attempts(attempts) => attempts.as_slice(),
            _ => &[],
        };
        attempts.iter().map(|(address, _)| *address)
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, problem } = self;
        match problem {
            Problem::NoHost(reason) => {
                write!(f, "{} is not the name of a host: {reason}", Shown(host))
            }
            Problem::PortZero => {
                write!(f, "could not connect to {}: port 0 is not a port", Shown(host))
            }
            Problem::Lookup(error) => {
                write!(f, "name {} could not be resolved: {}", Shown(host), lookup_text(error))
            }
            Problem::NoAddress => {
                write!(f, "name {} could not be resolved: it has no address", Shown(host))
            }
            Problem::LookupTimedOut(after) => {
                write!(
                    f,
                    "name {} could not be resolved within {} s",
                    Shown(host),
                    after.as_secs_f32()
                )
            }
            Problem::Attempts(attempts) => {
                write!(f, "could not connect to {}:", host_and_port(unbracketed(host), *port))?;
                // A numeric host has one address, which is its own.
                if let [(address, failure)] = attempts.as_slice()
                    && is_address(host, address.ip())
                {
                    return write!(f, " {failure}");
                }
                for (index, (address, failure)) in attempts.iter().take(MAX_SHOWN).enumerate() {
                    let separator = if index == 0 { "" } else { ";" };
                    write!(f, "{separator} {address}: {failure}")?;
                }
                match attempts.len().saturating_sub(MAX_SHOWN) {
                    0 => Ok(()),
                    more => write!(f, "; and {more} more"),
                }
            }
        }
    }
}

impl std::error::Error for ConnectError {}

impl Failure {
    fn kind(&self) -> Option<ConnectErrorKind> {
        match self {
            Self::NotTried => None,
            Self::TimedOut => Some(ConnectErrorKind::TimedOut),
            Self::Failed(error) => Some(match error.kind() {
                io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => {
                    ConnectErrorKind::Refused
                }
                io::ErrorKind::TimedOut => ConnectErrorKind::TimedOut,
                _ => ConnectErrorKind::Unreachable,
            }),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut => f.write_str("timed out"),
            Self::NotTried => f.write_str("not tried in time"),
            Self::Failed(error) => f.write_str(&system_text(error)),
        }
    }
}

/// A host in quotes, without control characters and cut short: it may come from a peer.
struct Shown<'a>(&'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(MAX_SHOWN_HOST) {
            Some((end, _)) => write!(f, "\"{}…\"", self.0[..end].escape_debug()),
            None => write!(f, "\"{}\"", self.0.escape_debug()),
        }
    }
}

/// The addresses of a host, in the order in which to try them; at least one.
pub(crate) async fn resolve(
    host: &str,
    port: u16,
    timeout: Duration,
) -> Result<Vec<SocketAddr>, ConnectError> {
    resolve_until(host, port, Instant::now() + timeout, timeout).await
}

async fn resolve_until(
    host: &str,
    port: u16,
    deadline: Instant,
    timeout: Duration,
) -> Result<Vec<SocketAddr>, ConnectError> {
    let failed = |problem| ConnectError { host: host.to_owned(), port, problem };
    if port == 0 {
        return Err(failed(Problem::PortZero));
    }
    if let Ok(address) = unbracketed(host).parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let name = name_to_look_up(host).map_err(|reason| failed(Problem::NoHost(reason)))?;
    match timeout_at(deadline, lookup_host((name.as_str(), port))).await {
        Err(_) => Err(failed(Problem::LookupTimedOut(timeout))),
        Ok(Err(error)) => Err(failed(Problem::Lookup(error))),
        Ok(Ok(addresses)) => {
            let addresses = interleave(addresses.collect());
            if addresses.is_empty() { Err(failed(Problem::NoAddress)) } else { Ok(addresses) }
        }
    }
}

/// The text to ask the system for, or why there is no use in asking.
fn name_to_look_up(host: &str) -> Result<String, &'static str> {
    // An IPv6 address with a zone, `fe80::1%eth0`, is for the system to read.
    let name = unbracketed(host);
    if name.is_empty() {
        return Err("it is empty");
    }
    if name.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err("it contains a space or a control character");
    }
    if name.contains(['/', '@', '[', ']', '"']) {
        return Err("it contains a character that names do not have");
    }
    if name.contains(':') && !name.contains('%') {
        return Err("it contains a colon, but is no IPv6 address");
    }
    if name.is_ascii() {
        return if name.len() > MAX_NAME {
            Err("it is longer than 253 characters")
        } else {
            Ok(name.to_owned())
        };
    }
    match url::Host::parse(name) {
        Ok(url::Host::Domain(name)) if name.len() <= MAX_NAME => Ok(name),
        _ => Err("it is no valid international name"),
    }
}

/// The addresses with the families alternating, beginning with the family of the first one,
/// otherwise in the order given and without doublets.
fn interleave(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_family = addresses.first().map(SocketAddr::is_ipv4);
    let (first, second): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| Some(address.is_ipv4()) == first_family);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut order = Vec::new();
    loop {
        let pair = [first.next(), second.next()];
        if pair == [None, None] {
            return order;
        }
        for address in pair.into_iter().flatten() {
            if !order.contains(&address) {
                order.push(address);
            }
        }
    }
}

/// Tries the addresses as [`connect_tcp`] says, by means of `connect`, and yields the first success
/// or what became of every address.
async fn race<T, C, F>(
    addresses: Vec<SocketAddr>,
    deadline: Instant,
    connect: C,
) -> Result<T, Vec<(SocketAddr, Failure)>>
where
    C: Fn(SocketAddr) -> F,
    F: Future<Output = io::Result<T>>,
{
    let mut outcomes: Vec<(SocketAddr, Failure)> =
        addresses.into_iter().map(|address| (address, Failure::NotTried)).collect();
    let mut attempts = FuturesUnordered::new();
    let mut begun = 0;
    loop {
        // Reached at the start, when an attempt failed, and when one took long: time for the next
        // address.
        if let Some((address, outcome)) = outcomes.get_mut(begun) {
            let (address, index) = (*address, begun);
            *outcome = Failure::TimedOut;
            begun += 1;
            let attempt = connect(address);
            attempts.push(async move { (index, attempt.await) });
        }
        let more = begun < outcomes.len();
        let next_at = Instant::now() + ATTEMPT_DELAY;
        loop {
            if attempts.is_empty() {
                return Err(outcomes);
            }
            tokio::select! {
                biased;
                Some((index, result)) = attempts.next() => match result {
                    Ok(connection) => return Ok(connection),
                    Err(error) => {
                        if let Some((_, outcome)) = outcomes.get_mut(index) {
                            *outcome = Failure::Failed(error);
                        }
                        if more {
                            break;
                        }
                    }
                },
                () = sleep_until(deadline) => return Err(outcomes),
                () = sleep_until(next_at), if more => break,
            }
        }
    }
}

async fn connect_one(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    // With nobody listening on a local port of the range that connections are given theirs from, a
    // connection may be given the very port it goes to, and end up connected to itself.
    if stream.local_addr().ok() == Some(address) {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    prepare(&stream)?;
    Ok(stream)
}

/// Sets up a connected socket for a link or a stream: what is written goes out at once, and little waits unsent inside
/// the system.
///
/// The system may hold megabytes that its peer has no room for, and says that there is room again only when a third
/// of them are gone: a peer that takes bytes slowly but steadily would look as if it took none at all for a long
/// time. With a limit on what is unsent, room is told in small steps, and a ping written now is not far behind.
///
/// # Errors
///
/// The socket does not know these options, as one that is not TCP, or is not connected any more.
pub fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket2::SockRef::from(stream).set_tcp_notsent_lowat(MAX_UNSENT)?;
    Ok(())
}

/// Bytes that may wait unsent inside the system.
#[cfg(any(target_os = "linux", target_os = "android"))]
const MAX_UNSENT: u32 = 128 * 1024;

fn is_address(host: &str, address: IpAddr) -> bool {
    unbracketed(host).parse() == Ok(address)
}

fn unbracketed(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// As [`system_text`], without the words that the standard library puts in front of what the
/// resolver says.
fn lookup_text(error: &io::Error) -> String {
    let text = system_text(error);
    text.strip_prefix("failed to lookup address information: ").unwrap_or(&text).to_lowercase()
}

/// The longest name that the domain name system allows.
const MAX_NAME: usize = 253;

/// How many addresses an error lists: more than that tell a reader nothing new.
const MAX_SHOWN: usize = 8;

/// How many characters of a host an error shows.
const MAX_SHOWN_HOST: usize = 100;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::future::pending;
    use std::sync::Mutex;

    use tokio::net::{TcpListener, TcpSocket};
    use tokio::time::sleep;

    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    fn addresses(text: &str) -> Vec<SocketAddr> {
        text.split_whitespace().map(address).collect()
    }

    /// What an address does in [`check`].
    #[derive(Clone, Copy)]
    enum Does {
        Connect(u64),
        Refuse(u64),
        NoRoute,
        Nothing,
    }

    /// Races addresses under virtual time. Yields when each attempt began, in milliseconds, and how
    /// it ended.
    async fn check(script: &[(&str, Does)]) -> (Vec<u128>, u128, Result<SocketAddr, String>) {
        let order: Vec<SocketAddr> = script.iter().map(|(text, _)| address(text)).collect();
        let does: BTreeMap<SocketAddr, Does> =
            script.iter().map(|(text, does)| (address(text), *does)).collect();
        let start = Instant::now();
        let begun = Mutex::new(Vec::new());
        let result = race(order, start + Duration::from_secs(3), |address| {
            begun.lock().expect("no panic while locked").push(start.elapsed().as_millis());
            let does = does[&address];
            async move {
                match does {
                    Does::Connect(after) => sleep(Duration::from_millis(after)).await,
                    Does::Refuse(after) => {
                        sleep(Duration::from_millis(after)).await;
                        return Err(io::ErrorKind::ConnectionRefused.into());
                    }
                    Does::NoRoute => return Err(io::ErrorKind::NetworkUnreachable.into()),
                    Does::Nothing => pending().await,
                }
                Ok(address)
            }
        })
        .await;
        let result = result.map_err(|attempts| {
            let error = ConnectError {
                host: "db.lan".into(),
                port: 22,
                problem: Problem::Attempts(attempts),
            };
            format!("{:?}: {error}", error.kind())
        });
        (begun.into_inner().expect("no panic while locked"), start.elapsed().as_millis(), result)
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_connection_wins() {
        let script = [("10.0.0.5:22", Does::Connect(100)), ("[fd00::5]:22", Does::Connect(0))];
        assert_eq!(check(&script).await, (vec![0], 100, Ok(address("10.0.0.5:22"))));

        let script = [("10.0.0.5:22", Does::Connect(400)), ("[fd00::5]:22", Does::Connect(100))];
        assert_eq!(check(&script).await, (vec![0, 250], 350, Ok(address("[fd00::5]:22"))));

        let script = [("10.0.0.5:22", Does::Connect(300)), ("[fd00::5]:22", Does::Connect(100))];
        assert_eq!(check(&script).await, (vec![0, 250], 300, Ok(address("10.0.0.5:22"))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_starts_the_next_attempt() {
        let script = [
            ("10.0.0.5:22", Does::Refuse(50)),
            ("[fd00::5]:22", Does::NoRoute),
            ("10.0.0.6:22", Does::Connect(30)),
        ];
        assert_eq!(check(&script).await, (vec![0, 50, 50], 80, Ok(address("10.0.0.6:22"))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_address_does_not_hold_up_the_next() {
        let script = [
            ("10.0.0.5:22", Does::Nothing),
            ("[fd00::5]:22", Does::Nothing),
            ("10.0.0.6:22", Does::Connect(30)),
        ];
        assert_eq!(check(&script).await, (vec![0, 250, 500], 530, Ok(address("10.0.0.6:22"))));
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_listed() {
        let script = [("10.0.0.5:22", Does::Refuse(400)), ("[fd00::5]:22", Does::Nothing)];
        let text = "Refused: could not connect to db.lan:22: 10.0.0.5:22: connection refused; [fd00::5]:22: timed out";
        assert_eq!(check(&script).await, (vec![0, 250], 3000, Err(text.into())));

        let script = [("10.0.0.5:22", Does::NoRoute), ("[fd00::5]:22", Does::Refuse(10))];
        let text = "Refused: could not connect to db.lan:22: 10.0.0.5:22: network unreachable; [fd00::5]:22: connection refused";
        assert_eq!(check(&script).await, (vec![0, 0], 10, Err(text.into())));

        let script = [("10.0.0.5:22", Does::Nothing), ("[fd00::5]:22", Does::NoRoute)];
        let text = "TimedOut: could not connect to db.lan:22: 10.0.0.5:22: timed out; [fd00::5]:22: network unreachable";
        assert_eq!(check(&script).await, (vec![0, 250], 3000, Err(text.into())));

        let script = [("10.0.0.5:22", Does::NoRoute)];
        let text = "Unreachable: could not connect to db.lan:22: 10.0.0.5:22: network unreachable";
        assert_eq!(check(&script).await, (vec![0], 0, Err(text.into())));
    }

    #[tokio::test(start_paused = true)]
    async fn many_addresses_share_the_time() {
        let many: Vec<String> = (0..20).map(|n| format!("10.0.0.{n}:22")).collect();
        let script: Vec<_> = many.iter().map(|text| (text.as_str(), Does::Nothing)).collect();
        let (begun, ended, result) = check(&script).await;
        assert_eq!((begun.len(), begun.last(), ended), (12, Some(&2750), 3000));
        let text = result.expect_err("nothing answered");
        assert!(text.ends_with("; 10.0.0.7:22: timed out; and 12 more"), "{text}");
    }

    #[test]
    fn families_alternate() {
        let cases = [
            ("", ""),
            ("1.1.1.1:1", "1.1.1.1:1"),
            (
                "1.1.1.1:1 1.1.1.2:1 [::1]:1 [::2]:1 [::3]:1",
                "1.1.1.1:1 [::1]:1 1.1.1.2:1 [::2]:1 [::3]:1",
            ),
            ("[::1]:1 [::2]:1 1.1.1.1:1", "[::1]:1 1.1.1.1:1 [::2]:1"),
            ("[::1]:1 [::1]:1 1.1.1.1:1 1.1.1.1:1", "[::1]:1 1.1.1.1:1"),
        ];
        for (given, expected) in cases {
            assert_eq!(interleave(addresses(given)), addresses(expected), "{given}");
        }
    }

    #[test]
    fn names_are_checked() {
        let cases = [
            ("db.lan", Ok("db.lan")),
            ("db.lan.", Ok("db.lan.")),
            ("my_host", Ok("my_host")),
            ("fe80::1%eth0", Ok("fe80::1%eth0")),
            ("[fe80::1%eth0]", Ok("fe80::1%eth0")),
            ("bücher.example", Ok("xn--bcher-kva.example")),
            ("", Err("it is empty")),
            ("[]", Err("it is empty")),
            ("a b", Err("it contains a space or a control character")),
            ("a\0b", Err("it contains a space or a control character")),
            ("http://x", Err("it contains a character that names do not have")),
            ("user@x", Err("it contains a character that names do not have")),
            ("db.lan:22", Err("it contains a colon, but is no IPv6 address")),
            ("[::1", Err("it contains a character that names do not have")),
        ];
        for (host, expected) in cases {
            assert_eq!(name_to_look_up(host).as_deref(), expected.as_ref().copied(), "{host}");
        }
        assert_eq!(name_to_look_up(&"a".repeat(253)).map(|name| name.len()), Ok(253));
        assert!(name_to_look_up(&"a".repeat(254)).is_err());
    }

    #[tokio::test]
    async fn odd_hosts_and_ports_have_clear_errors() {
        let cases = [
            (
                "a\u{1b}b",
                22,
                ConnectErrorKind::NotResolved,
                r#""a\u{1b}b" is not the name of a host: it contains a space or a control character"#,
            ),
            (
                "127.0.0.1",
                0,
                ConnectErrorKind::Unreachable,
                r#"could not connect to "127.0.0.1": port 0 is not a port"#,
            ),
        ];
        for (host, port, kind, text) in cases {
            let error = connect_tcp(host, port, Duration::from_secs(5)).await.expect_err(host);
            assert_eq!((error.kind(), error.to_string().as_str()), (kind, text));
        }
        let long = connect_tcp(&"x".repeat(100_000), 1, Duration::from_secs(5))
            .await
            .expect_err("too long")
            .to_string();
        assert!(long.len() < 200, "{long}");
    }

    #[tokio::test]
    async fn numeric_hosts_need_no_resolver() {
        for (bind, hosts) in
            [("127.0.0.1:0", ["127.0.0.1", "127.0.0.1"]), ("[::1]:0", ["::1", "[::1]"])]
        {
            let Ok(listener) = TcpListener::bind(bind).await else {
                assert!(bind.starts_with('['), "no IPv4 on this machine");
                continue; // a machine without IPv6
            };
            let bound = listener.local_addr().expect("a bound listener");
            for host in hosts {
                let stream = connect_tcp(host, bound.port(), Duration::from_secs(5))
                    .await
                    .expect("connected");
                assert_eq!(stream.peer_addr().ok(), Some(bound));
                assert_eq!(stream.nodelay().ok(), Some(true));
            }
        }
    }

    #[tokio::test]
    async fn a_numeric_host_is_named_once() {
        // Bound, so that nobody else listens there.
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(address("127.0.0.1:0")).expect("a free port");
        let port = socket.local_addr().expect("a bound socket").port();
        let error = connect_tcp("127.0.0.1", port, Duration::from_secs(5))
            .await
            .expect_err("nobody listens");
        assert_eq!(error.kind(), ConnectErrorKind::Refused);
        // In the words of the system.
        #[cfg(unix)]
        assert_eq!(
            error.to_string(),
            format!("could not connect to 127.0.0.1:{port}: connection refused")
        );
        assert_eq!(
            error.addresses().collect::<Vec<_>>(),
            [SocketAddr::from(([127, 0, 0, 1], port))]
        );
    }

    #[tokio::test]
    async fn localhost_resolves() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("a bound listener").port();
        let stream =
            connect_tcp("localhost", port, Duration::from_secs(30)).await.expect("connected");
        assert_eq!(stream.peer_addr().ok(), listener.local_addr().ok());
    }
}
