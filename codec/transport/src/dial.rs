//! Dialling a relay: from a URL to a socket that speaks WebSocket.

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use codec::v1::HANDSHAKE_TIMEOUT;
use http::header::{
    AUTHORIZATION, CONNECTION, HOST, LOCATION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS,
    SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE, USER_AGENT,
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Uri};
use http_body_util::Empty;
use tokio::time::{Instant, timeout_at};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::exchange::{Answer, NoAnswer, Then, exchange};
use crate::proxy::{ProxyEnv, ProxyError};
use crate::socket::Socket;
use crate::tcp::{ConnectError, ConnectErrorKind, connect_tcp};
use crate::tls::{Tls, TlsError, late_alert};
use crate::url::{RedirectError, RelayUrl};

/// Dials relays. Made once, used for every attempt; holds what attempts have in common.
#[derive(Debug)]
pub struct Dialer {
    proxies: ProxyEnv,
    tls: Tls,
}

/// How a [`Dialer`] dials.
#[derive(Debug, Clone, Default)]
pub struct DialerConfig {
    /// A PEM file with certificate authorities to trust beside those of the system.
    pub ca_file: Option<PathBuf>,
    /// The proxies to go through.
    pub proxies: ProxyEnv,
}

/// A relay that was dialled: from here on its socket speaks WebSocket.
#[derive(Debug)]
pub struct Dialed {
    /// The socket.
    pub socket: Socket,
    /// What the relay sent directly behind its answer: the first bytes to read.
    pub read_ahead: Bytes,
    /// The headers of the answer.
    pub headers: HeaderMap,
    /// Who is at the other end, for logs: the address, or host and port with the proxy on the way.
    pub peer: String,
}

/// Why a relay could not be dialled. One line that says on what it failed and what to try.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// No TCP connection to the relay.
    #[error("the relay cannot be reached: {error} ({hint})", error = .0, hint = connect_hint(.0))]
    Connect(#[from] ConnectError),
    /// A proxy on the way cannot be used.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// No TLS with the relay.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The whole attempt took longer than it may.
    #[error(
        "timed out after {} s: {phase} (are host and port right, or is the server overloaded?)",
        limit.as_secs()
    )]
    TimedOut {
        /// What was going on.
        phase: String,
        /// How long the attempt was allowed to take.
        limit: Duration,
    },
    /// The connection ended before there was an answer.
    #[error(
        "{host} closed the connection without an answer (is the relay running behind it, and is ws:// or wss:// right?)"
    )]
    Closed {
        /// Host and port.
        host: String,
        /// What the HTTP library says.
        source: hyper::Error,
    },
    /// An HTTP answer that is neither an upgrade nor a redirect.
    #[error("{host} answered {status}{} instead of opening a WebSocket{hint}", quoted(excerpt))]
    Status {
        /// Host and port.
        host: String,
        /// The status.
        status: StatusCode,
        /// The first words of the body, made harmless; if they are text.
        excerpt: Option<String>,
        /// What to try, in parentheses with a space in front, or nothing.
        hint: &'static str,
    },
    /// Something that is no WebSocket, or one with properties that were not asked for.
    #[error("{host} does not speak WebSocket as agreed: {reason}{}", websocket_hint(reason))]
    NotWebSocket {
        /// Host and port.
        host: String,
        /// What is wrong with the answer.
        reason: &'static str,
        /// What the HTTP library says, if it could not read the answer.
        source: Option<hyper::Error>,
    },
    /// A redirect that was not followed.
    #[error("{host} {error}")]
    Redirect {
        /// Host and port of the server that redirects.
        host: String,
        /// Why.
        error: RedirectError,
    },
}

impl DialError {
    /// Whether the relay was not reached: no name, no connection, no proxy, no TLS, no answer in
    /// time.
    pub fn is_relay_unreachable(&self) -> bool {
        !self.is_bad_answer()
    }

    /// What failed, without what to try, without a proxy's name and without words that a peer chose: fit to be sent
    /// to others, as in an agent's `last_error` (spec v1, A-12).
    pub fn summary(&self) -> String {
        match self {
            Self::Connect(error) => error.to_string(),
            Self::Proxy(ProxyError::Url { variable, .. }) => {
                format!("the variable {variable} names no proxy that can be used")
            }
            Self::Proxy(ProxyError::Unreachable { .. } | ProxyError::Tls { .. }) => {
                "the proxy cannot be reached".into()
            }
            Self::Proxy(ProxyError::Authentication { .. }) => {
                "the proxy wants other credentials".into()
            }
            Self::Proxy(ProxyError::Refused { target, .. }) => {
                format!("the proxy does not connect to {target}")
            }
            Self::Proxy(ProxyError::NoProxy { .. }) => "the proxy is none of its kind".into(),
            Self::Tls(TlsError::Handshake { host, .. }) => {
                format!("TLS handshake with {host} failed")
            }
            Self::Tls(_) => "TLS cannot be used".into(),
            Self::TimedOut { limit, .. } => {
                format!("no WebSocket within {} s", limit.as_secs())
            }
            Self::Closed { host, .. } => format!("{host} closed the connection without an answer"),
            Self::Status { host, status, .. } => {
                format!("{host} answered {} instead of opening a WebSocket", status.as_u16())
            }
            Self::NotWebSocket { host, .. } => {
                format!("{host} does not speak WebSocket as agreed")
            }
            Self::Redirect { host, .. } => format!("{host} redirected to where no relay is"),
        }
    }

    /// Whether something answered, but not with a WebSocket.
    pub fn is_bad_answer(&self) -> bool {
        matches!(self, Self::Status { .. } | Self::NotWebSocket { .. } | Self::Redirect { .. })
    }
}

impl Dialer {
    /// A dialer. Reads the CA file; the authorities of the system are read when the first `wss` URL
    /// is dialled.
    ///
    /// # Errors
    ///
    /// The CA file cannot be read, or holds something else than certificates.
    pub fn new(config: DialerConfig) -> Result<Self, TlsError> {
        Ok(Self { tls: Tls::new(config.ca_file.as_deref())?, proxies: config.proxies })
    }

    /// Dials a relay: resolves its name, connects, directly or through a proxy, opens TLS for
    /// `wss`, and has HTTP upgraded to WebSocket (spec v1, H-3).
    ///
    /// - All of it together takes at most [`HANDSHAKE_TIMEOUT`] (L-11).
    /// - Nothing follows the request before the answer has come (H-13).
    /// - Offers no extension and no subprotocol, and accepts none (H-4, H-16).
    /// - Follows redirects, at most [`MAX_REDIRECTS`], never from `wss` to `ws` (H-14). User info
    ///   in the URL does not follow to another scheme, host or port.
    /// - Spawns no task; dropping the future closes what it has opened.
    ///
    /// # Errors
    ///
    /// See [`DialError`]. None is final: the next attempt may succeed.
    pub async fn dial(&self, url: &RelayUrl) -> Result<Dialed, DialError> {
        let deadline = Deadline::after(HANDSHAKE_TIMEOUT);
        let mut url = url.clone();
        for _ in 0..=MAX_REDIRECTS {
            match self.attempt(&url, deadline).await? {
                (Upgraded::Open { socket, read_ahead, headers }, peer) => {
                    return Ok(Dialed { socket, read_ahead, headers, peer });
                }
                (Upgraded::Redirected(location), _) => {
                    tracing::debug!(url = %location, "redirected");
                    url = location;
                }
            }
        }
        Err(DialError::Redirect {
            host: url.host_and_port(),
            error: RedirectError::TooMany(MAX_REDIRECTS),
        })
    }

    /// The answer, and who gave it.
    async fn attempt(
        &self,
        url: &RelayUrl,
        deadline: Deadline,
    ) -> Result<(Upgraded, String), DialError> {
        let host = url.host_and_port();
        let (mut socket, peer) = match self.proxies.proxy_for(url)? {
            Some(proxy) => {
                let socket = proxy.connect(url.host(), url.port(), &self.tls, deadline).await?;
                (socket, format!("{host} via {proxy}"))
            }
            None => {
                let tcp = connect_tcp(url.host(), url.port(), deadline.remaining()).await?;
                let peer =
                    tcp.peer_addr().map_or_else(|_| host.clone(), |address| address.to_string());
                (Socket::Tcp(tcp), peer)
            }
        };
        if url.is_tls() {
            let opening = self.tls.open(socket, url.host(), &host);
            socket = deadline.limit(|| format!("TLS handshake with {host}"), opening).await??;
        }
        let phase = || format!("waiting for {host} to answer the WebSocket request");
        let upgraded = deadline.limit(phase, upgrade(socket, url)).await??;
        Ok((upgraded, peer))
    }
}

/// What a relay made of the request for a WebSocket.
#[derive(Debug)]
pub enum Upgraded {
    /// It agreed.
    Open {
        /// From here on it speaks WebSocket.
        socket: Socket,
        /// What the relay sent directly behind its answer: the first bytes to read.
        read_ahead: Bytes,
        /// The headers of the answer.
        headers: HeaderMap,
    },
    /// The relay is elsewhere.
    Redirected(RelayUrl),
}

/// Asks for a WebSocket on a socket that leads to the relay of `url`, with TLS on it if that says so.
///
/// What [`Dialer::dial`] does once it has a socket, for whoever brings his own. Takes as long as the relay does; spawns
/// no task, and dropping the future drops the socket.
///
/// # Errors
///
/// A [`DialError`] about the answer, or the lack of one.
pub async fn upgrade(socket: Socket, url: &RelayUrl) -> Result<Upgraded, DialError> {
    let key = new_key();
    let answer = exchange(socket, upgrade_request(url, &key)).await;
    judge(answer, &key, url)
}

/// A random key; 16 bytes as RFC 6455 asks, in base64.
fn new_key() -> String {
    let mut bytes = [0; 16];
    fastrand::fill(&mut bytes);
    codec::v1::base64::encode(&bytes)
}

/// The request for a WebSocket, its headers in the order in which v1 programs have always sent
/// them.
/// Spec v1, H-19; compression is not offered (H-7).
fn upgrade_request(url: &RelayUrl, key: &str) -> Request<Empty<Bytes>> {
    let text =
        |text: &str| HeaderValue::from_str(text).expect("base64 and the hosts of URLs are ASCII");
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = Uri::from(url.target().clone());
    let headers = request.headers_mut();
    headers.insert(HOST, text(&url.authority()));
    if let Some(authorization) = url.authorization() {
        headers.insert(AUTHORIZATION, authorization.clone());
    }
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(SEC_WEBSOCKET_KEY, text(key));
    headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    headers.insert(USER_AGENT, HeaderValue::from_static(SOFTWARE));
    request
}

/// What an answer to [`upgrade_request`] means.
fn judge(
    answer: Result<Answer, NoAnswer>,
    key: &str,
    url: &RelayUrl,
) -> Result<Upgraded, DialError> {
    let host = url.host_and_port();
    let Answer { status, headers, then } = match answer {
        Ok(answer) => answer,
        Err(NoAnswer::Closed(error)) => {
            return Err(match late_alert(&host, error) {
                Ok(error) => DialError::Tls(error),
                Err(source) => DialError::Closed { host, source },
            });
        }
        Err(NoAnswer::NotHttp(source)) => {
            let reason = match url.is_tls() {
                true => "its answer is not HTTP",
                false => "its answer is not HTTP (if this port speaks TLS, try wss://)",
            };
            return Err(DialError::NotWebSocket { host, reason, source: Some(source) });
        }
    };
    match then {
        Then::Switched { socket, read_ahead } => match flaw(&headers, key) {
            None => Ok(Upgraded::Open { socket, read_ahead, headers }),
            Some(reason) => Err(DialError::NotWebSocket { host, reason, source: None }),
        },
        Then::Body { excerpt } => {
            if matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
                && let Some(location) = headers.get(LOCATION)
            {
                let location = String::from_utf8_lossy(location.as_bytes());
                return match url.redirected(&location) {
                    Ok(url) => Ok(Upgraded::Redirected(url)),
                    Err(error) => Err(DialError::Redirect { host, error }),
                };
            }
            Err(DialError::Status { host, status, excerpt, hint: hint(status) })
        }
    }
}

/// What is wrong with the headers of a 101.
/// Their order, their case and further ones make no difference (spec v1, H-18).
fn flaw(headers: &HeaderMap, key: &str) -> Option<&'static str> {
    let accept = headers.get(SEC_WEBSOCKET_ACCEPT).map(|value| value.as_bytes().trim_ascii());
    if !has_token(headers, UPGRADE, "websocket") {
        Some("its 101 does not say Upgrade: websocket")
    } else if !has_token(headers, CONNECTION, "upgrade") {
        Some("its 101 does not say Connection: Upgrade")
    } else if accept != Some(derive_accept_key(key.as_bytes()).as_bytes()) {
        Some(
            "its 101 belongs to another request (Sec-WebSocket-Accept is wrong; a cache in between?)",
        )
    } else if headers.contains_key(SEC_WEBSOCKET_EXTENSIONS) {
        Some("it chose an extension that was not offered")
    } else if headers.contains_key(SEC_WEBSOCKET_PROTOCOL) {
        Some("it chose a subprotocol that was not offered")
    } else {
        None
    }
}

/// Whether a header that lists tokens has this one, in any case.
fn has_token(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|part| part.trim().eq_ignore_ascii_case(token))
}

/// What to try after an answer with this status.
fn hint(status: StatusCode) -> &'static str {
    match status.as_u16() {
        200 | 400 | 404 | 405 | 426 => {
            " (check the path of the URL; if it is right, a reverse proxy in front of the relay drops the Upgrade header)"
        }
        401 => " (it wants a user name and password: wss://USER:PASSWORD@HOST/PATH)",
        403 => {
            " (check the path of the URL, or whether something in front of the relay denies access)"
        }
        407 => " (a proxy on the way wants a user name and password)",
        429 => " (too many attempts; wait)",
        500..=599 => " (the relay behind this server may be down)",
        _ => " (check the URL; it has to lead to a relay)",
    }
}

/// What to try when there is no TCP connection to a relay.
fn connect_hint(error: &ConnectError) -> &'static str {
    match error.kind() {
        ConnectErrorKind::NotResolved => {
            "check the host in the URL, and the name servers of this machine"
        }
        ConnectErrorKind::Refused => "is the relay running there? check host and port of the URL",
        ConnectErrorKind::TimedOut => {
            "check host and port of the URL, and the firewalls on the way"
        }
        ConnectErrorKind::Unreachable => {
            "check the network of this machine, and the host in the URL"
        }
    }
}

/// What to try when something is no WebSocket, if the reason does not say it already.
fn websocket_hint(reason: &str) -> &'static str {
    if reason.ends_with(')') { "" } else { " (check the URL; it has to lead to a relay)" }
}

fn quoted(excerpt: &Option<String>) -> String {
    excerpt.as_ref().map(|excerpt| format!(" {excerpt:?}")).unwrap_or_default()
}

/// When an attempt must be over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    at: Instant,
    limit: Duration,
}

impl Deadline {
    pub(crate) fn after(limit: Duration) -> Self {
        Self { at: Instant::now() + limit, limit }
    }

    pub(crate) fn remaining(self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }

    /// Runs one phase of the attempt; `phase` names it if it does not end in time.
    pub(crate) async fn limit<T>(
        self,
        phase: impl FnOnce() -> String,
        future: impl Future<Output = T>,
    ) -> Result<T, DialError> {
        let limited = timeout_at(self.at, future).await;
        limited.map_err(|_| DialError::TimedOut { phase: phase(), limit: self.limit })
    }
}

/// How many redirects are followed: enough for a moved relay behind a host that turns http into
/// https.
pub const MAX_REDIRECTS: usize = 5;

/// What we call ourselves in `User-Agent`.
pub(crate) const SOFTWARE: &str = concat!("http-network-relay/", env!("CARGO_PKG_VERSION"));
