//! The URL of a relay.

use std::fmt;
use std::str::FromStr;

use http::HeaderValue;
use http::uri::PathAndQuery;
use percent_encoding::{CONTROLS, percent_decode_str, utf8_percent_encode};
use url::{Host, Url};

/// The URL of a relay: `ws://` or `wss://`, a host, and the rest as the user wrote it (spec v1,
/// H-2 and H-4).
///
/// - The path and the query go on the wire as written, dot segments and doubled slashes included;
///   only characters outside ASCII are percent-encoded. A missing path is `/`.
/// - A missing port is 80 for `ws` and 443 for `wss`.
/// - The host is lower case and, if international, in its ASCII form; an IPv6 address stands in
///   brackets.
/// - User name and password become `Authorization: Basic`. `Display` and `Debug` never show them,
///   and show a query as `?***`, because people put tokens there.
/// - A fragment is refused, for it would never reach the relay.
///
/// ```
/// let url: transport::url::RelayUrl = "wss://user:secret@Relay.example.org/tunnel/../ws?token=1".parse()?;
/// assert_eq!((url.host(), url.port(), url.is_tls()), ("relay.example.org", 443, true));
/// assert_eq!(url.path_and_query(), "/tunnel/../ws?token=1");
/// assert_eq!(url.to_string(), "wss://relay.example.org/tunnel/../ws?***");
/// # Ok::<(), transport::url::UrlError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct RelayUrl {
    tls: bool,
    /// Without brackets.
    host: String,
    port: u16,
    path_and_query: PathAndQuery,
    /// The `Authorization` header that the user info asks for; marked sensitive.
    authorization: Option<HeaderValue>,
}

/// Why a text is not the URL of a relay. The text itself is never shown, because it may hold a
/// password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// Nothing but white space.
    #[error("the relay URL is empty ({EXAMPLE})")]
    Empty,
    /// There is no `ws://` or `wss://` in front.
    #[error("the relay URL does not begin with ws:// or wss:// ({EXAMPLE})")]
    NoScheme,
    /// Another scheme; `http` and `https` are not taken for `ws` and `wss`.
    #[error("the relay URL begins with {0}:// instead of ws:// or wss:// ({EXAMPLE})")]
    Scheme(String),
    /// A space, a control character or a backslash.
    #[error("the relay URL contains {0:?}, which no URL may contain ({EXAMPLE})")]
    Character(char),
    /// A part after `#`.
    #[error(
        "the relay URL has a fragment; write %23 for a # that belongs to its user info, path or query"
    )]
    Fragment,
    /// No host, or no valid one.
    #[error("the relay URL names no valid host ({EXAMPLE})")]
    Host,
    /// The port is not a number from 1 to 65535.
    #[error("the port in the relay URL is not a number from 1 to 65535 ({EXAMPLE})")]
    Port,
    /// The user info cannot be told from the rest, or cannot be sent.
    #[error(
        "the user info in the relay URL is malformed (percent-encode : / ? # and @ in the user name or password)"
    )]
    UserInfo,
    /// The path or the query holds a character that must be percent-encoded, or is too long.
    #[error(
        "the path or query of the relay URL holds a character that must be percent-encoded, or is too long"
    )]
    Path,
}

/// Why a redirect was not followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RedirectError {
    /// More hops than allowed.
    #[error("redirected more than {0} times (check the URL, or what redirects there)")]
    TooMany(usize),
    /// The new location is not a URL that can be dialled.
    #[error(
        "redirected to a location that is no URL of a relay (check the URL, or what redirects there)"
    )]
    Location,
    /// From `wss` to `ws`.
    #[error(
        "redirected from wss:// to ws://, which would give up encryption (let it redirect to wss://)"
    )]
    Downgrade,
}

impl RelayUrl {
    /// The host: a lower-case name or an address; IPv6 without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, 1 to 65535.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether this is `wss`.
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// The path, and after a `?` the query, as they go on the wire. Begins with `/`.
    pub fn path_and_query(&self) -> &str {
        self.path_and_query.as_str()
    }

    /// As [`RelayUrl::path_and_query`], for a request.
    pub(crate) fn target(&self) -> &PathAndQuery {
        &self.path_and_query
    }

    /// Host and port, with brackets around IPv6: `relay.example.org:443`.
    pub fn host_and_port(&self) -> String {
        host_and_port(&self.host, self.port)
    }

    /// The value of `Host`: as [`RelayUrl::host_and_port`], but without the scheme's default port.
    pub(crate) fn authority(&self) -> String {
        if self.port == default_port(self.tls) {
            bracketed(&self.host)
        } else {
            self.host_and_port()
        }
    }

    /// The value of `Authorization`; marked sensitive.
    pub(crate) fn authorization(&self) -> Option<&HeaderValue> {
        self.authorization.as_ref()
    }

    /// The URL that a `Location` header leads to from here. `http` and `https` are read as `ws` and
    /// `wss`. The user info stays with scheme, host and port; one in the location is ignored.
    pub(crate) fn redirected(&self, location: &str) -> Result<Self, RedirectError> {
        let here = format!("{}://{}{}", self.scheme(), self.host_and_port(), self.path_and_query);
        let there = Url::parse(&here)
            .and_then(|url| url.join(location))
            .map_err(|_| RedirectError::Location)?;
        let tls = match there.scheme() {
            "ws" | "http" => false,
            "wss" | "https" => true,
            _ => return Err(RedirectError::Location),
        };
        if self.tls && !tls {
            return Err(RedirectError::Downgrade);
        }
        let host = host_of(&there).ok_or(RedirectError::Location)?;
        let port = there.port().unwrap_or(default_port(tls));
        let path = &there[url::Position::BeforePath..url::Position::AfterQuery];
        let path_and_query = PathAndQuery::try_from(path).map_err(|_| RedirectError::Location)?;
        let same_origin = (tls, &host, port) == (self.tls, &self.host, self.port);
        let authorization = self.authorization.clone().filter(|_| same_origin);
        if port == 0 {
            return Err(RedirectError::Location);
        }
        Ok(Self { tls, host, port, path_and_query, authorization })
    }

    fn scheme(&self) -> &'static str {
        if self.tls { "wss" } else { "ws" }
    }
}

impl FromStr for RelayUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let text = text.trim_ascii();
        if text.is_empty() {
            return Err(UrlError::Empty);
        }
        if let Some(c) = text.chars().find(|c| c.is_control() || c.is_whitespace() || *c == '\\') {
            return Err(UrlError::Character(c));
        }
        let (scheme, rest) = text.split_once("://").ok_or(UrlError::NoScheme)?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "ws" => false,
            "wss" => true,
            other if is_scheme(other) => return Err(UrlError::Scheme(other.to_owned())),
            _ => return Err(UrlError::NoScheme),
        };
        if rest.contains('#') {
            return Err(UrlError::Fragment);
        }
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));

        // An unencoded / or ? in a password cuts the authority short, and leaves its @ behind.
        let cut_short = !authority.contains('@') && path.contains('@');
        let url = Url::parse(&format!("{scheme}://{authority}/")).map_err(|error| match error {
            _ if cut_short => UrlError::UserInfo,
            url::ParseError::InvalidPort => UrlError::Port,
            _ => UrlError::Host,
        })?;
        let host = host_of(&url).ok_or(UrlError::Host)?;
        let port = match url.port() {
            Some(0) => return Err(UrlError::Port),
            port => port.unwrap_or(default_port(tls)),
        };
        let slash = if path.starts_with('/') { "" } else { "/" };
        let path = format!("{slash}{}", utf8_percent_encode(path, CONTROLS));
        let path_and_query = PathAndQuery::try_from(path).map_err(|_| UrlError::Path)?;
        Ok(Self { tls, host, port, path_and_query, authorization: authorization(&url)? })
    }
}

impl fmt::Display for RelayUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme(), self.authority(), self.path_and_query.path())?;
        if self.path_and_query.query().is_some() { f.write_str("?***") } else { Ok(()) }
    }
}

impl fmt::Debug for RelayUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RelayUrl({self})")
    }
}

/// `host:port`, with brackets around an IPv6 address.
pub(crate) fn host_and_port(host: &str, port: u16) -> String {
    format!("{}:{port}", bracketed(host))
}

/// The value of a `Basic` authorization; marked sensitive. `None` if the user name holds a colon,
/// which the scheme cannot carry.
pub(crate) fn basic(user: &[u8], password: &[u8]) -> Option<HeaderValue> {
    if user.contains(&b':') {
        return None;
    }
    let pair = [user, b":", password].concat();
    let value = format!("Basic {}", codec::v1::base64::encode(&pair));
    let mut value = HeaderValue::try_from(value).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The host of a URL, without brackets.
pub(crate) fn host_of(url: &Url) -> Option<String> {
    match url.host()? {
        Host::Domain("") => None,
        Host::Domain(name) => Some(name.to_owned()),
        Host::Ipv4(address) => Some(address.to_string()),
        Host::Ipv6(address) => Some(address.to_string()),
    }
}

fn authorization(url: &Url) -> Result<Option<HeaderValue>, UrlError> {
    if url.username().is_empty() && url.password().is_none() {
        return Ok(None);
    }
    let user: Vec<u8> = percent_decode_str(url.username()).collect();
    let password: Vec<u8> = percent_decode_str(url.password().unwrap_or_default()).collect();
    basic(&user, &password).map(Some).ok_or(UrlError::UserInfo)
}

fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

fn default_port(tls: bool) -> u16 {
    if tls { 443 } else { 80 }
}

/// Whether a text may be shown as the scheme of a URL: short, and of the letters a scheme has.
fn is_scheme(text: &str) -> bool {
    let letters = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    letters && text.len() <= 16 && text.starts_with(|c: char| c.is_ascii_alphabetic())
}

const EXAMPLE: &str = "example: wss://relay.example.org:8443/path";

#[cfg(test)]
mod tests {
    use super::*;

    /// The parts of a URL: scheme, host, port, path and query, `Host` header, `Authorization`
    /// header.
    fn parts(text: &str) -> (&'static str, String, u16, String, String, Option<String>) {
        let url: RelayUrl = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        let authorization =
            url.authorization().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        (
            url.scheme(),
            url.host().into(),
            url.port(),
            url.path_and_query().into(),
            url.authority(),
            authorization,
        )
    }

    #[track_caller]
    fn check(text: &str, scheme: &str, host: &str, port: u16, path: &str, authority: &str) {
        let found = parts(text);
        let expected = (scheme, host.to_owned(), port, path.to_owned(), authority.to_owned(), None);
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn parts_are_read() {
        check(
            "ws://127.0.0.1:8000/ws_for_edge_agents",
            "ws",
            "127.0.0.1",
            8000,
            "/ws_for_edge_agents",
            "127.0.0.1:8000",
        );
        check("wss://relay.lan", "wss", "relay.lan", 443, "/", "relay.lan");
        check("WSS://Relay.LAN:443/A", "wss", "relay.lan", 443, "/A", "relay.lan");
        check("ws://relay.lan:443/", "ws", "relay.lan", 443, "/", "relay.lan:443");
        check("ws://relay.lan:/x", "ws", "relay.lan", 80, "/x", "relay.lan");
        check("ws://[::1]:81/", "ws", "::1", 81, "/", "[::1]:81");
        check("ws://[FD00:0::5]", "ws", "fd00::5", 80, "/", "[fd00::5]");
        check(
            "ws://bücher.example/",
            "ws",
            "xn--bcher-kva.example",
            80,
            "/",
            "xn--bcher-kva.example",
        );
        check(" ws://relay.lan/\n", "ws", "relay.lan", 80, "/", "relay.lan");
    }

    #[test]
    fn path_and_query_are_kept() {
        check("ws://r/a/../b//c/./%7e", "ws", "r", 80, "/a/../b//c/./%7e", "r");
        check("ws://r?token=a/b?c", "ws", "r", 80, "/?token=a/b?c", "r");
        check("ws://r/x?", "ws", "r", 80, "/x?", "r");
        check("ws://r/ü?ö", "ws", "r", 80, "/%C3%BC?%C3%B6", "r");
        check("ws://r/a@b", "ws", "r", 80, "/a@b", "r");
    }

    #[test]
    fn user_info_becomes_basic() {
        let basic = |text: &str| parts(text).5;
        assert_eq!(
            basic("ws://aladdin:open%20sesame@r/").as_deref(),
            Some("Basic YWxhZGRpbjpvcGVuIHNlc2FtZQ==")
        );
        assert_eq!(basic("ws://user@r/").as_deref(), Some("Basic dXNlcjo="));
        assert_eq!(basic("ws://:p@r/").as_deref(), Some("Basic OnA="));
        assert_eq!(basic("ws://u:a%3Ab%40%2f@r/").as_deref(), Some("Basic dTphOmJALw=="));
        assert_eq!(basic("ws://u:a@b@r/").as_deref(), Some("Basic dTphQGI="));
        assert_eq!(basic("ws://@r/"), None);
    }

    #[test]
    fn user_info_is_never_shown() {
        let url: RelayUrl =
            "ws://hugo:hunter2@relay.lan:8000/ws?token=hunter2".parse().expect("a valid URL");
        assert_eq!(url.to_string(), "ws://relay.lan:8000/ws?***");
        assert_eq!(
            format!("{url:?} {url:#?}"),
            "RelayUrl(ws://relay.lan:8000/ws?***) RelayUrl(ws://relay.lan:8000/ws?***)"
        );
    }

    #[test]
    fn errors_say_what_is_wrong() {
        let cases = [
            ("", UrlError::Empty),
            (" \n", UrlError::Empty),
            ("relay.lan", UrlError::NoScheme),
            ("relay.lan:8000/ws", UrlError::NoScheme),
            ("//relay.lan", UrlError::NoScheme),
            ("hunter2@x://relay", UrlError::NoScheme),
            ("https://relay.lan", UrlError::Scheme("https".into())),
            ("ws:// relay.lan", UrlError::Character(' ')),
            ("ws://re\tlay", UrlError::Character('\t')),
            ("ws://relay\\x", UrlError::Character('\\')),
            ("ws://relay#x", UrlError::Fragment),
            ("ws://", UrlError::Host),
            ("ws:///path", UrlError::Host),
            ("ws://:80/", UrlError::Host),
            ("ws://[::1/", UrlError::Host),
            ("ws://a<b/", UrlError::Host),
            ("ws://1.2.3.400/", UrlError::Host),
            ("ws://relay:70000/", UrlError::Port),
            ("ws://relay:0/", UrlError::Port),
            ("ws://relay:x/", UrlError::Port),
            ("ws://relay:-1/", UrlError::Port),
            ("ws://u:hunter2/x@relay/", UrlError::UserInfo),
            ("ws://u%3A:hunter2@relay/", UrlError::UserInfo),
            ("ws://relay/<", UrlError::Path),
        ];
        for (text, expected) in cases {
            let error = text.parse::<RelayUrl>().expect_err(text);
            assert_eq!(error, expected, "{text}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn redirects_resolve() {
        let from = |text: &str, location: &str| {
            let url: RelayUrl = text.parse().expect("a valid URL");
            url.redirected(location).map(|url| {
                let kept = if url.authorization().is_some() { " with user info" } else { "" };
                format!("{}://{}{}{kept}", url.scheme(), url.host_and_port(), url.path_and_query())
            })
        };
        let ok = |text: &str| Ok(text.to_owned());
        assert_eq!(from("ws://u:p@r:81/a/b?c", "d"), ok("ws://r:81/a/d with user info"));
        assert_eq!(from("ws://u:p@r:81/a/b?c", "/x?y#z"), ok("ws://r:81/x?y with user info"));
        assert_eq!(
            from("ws://u:p@r:81/a", "ws://other:secret@r:81/"),
            ok("ws://r:81/ with user info")
        );
        assert_eq!(from("ws://u:p@r/a", "http://r/b"), ok("ws://r:80/b with user info"));
        assert_eq!(from("ws://u:p@r/a", "https://r/b"), ok("wss://r:443/b"));
        assert_eq!(from("ws://u:p@r/a", "//s/b"), ok("ws://s:80/b"));
        assert_eq!(from("ws://u:p@r/a", "ws://r:82/b"), ok("ws://r:82/b"));
        assert_eq!(from("wss://[::1]/a", "wss://[::2]:444"), ok("wss://[::2]:444/"));
        assert_eq!(from("wss://r/a", "ws://r/b"), Err(RedirectError::Downgrade));
        assert_eq!(from("wss://r/a", "http://r/b"), Err(RedirectError::Downgrade));
        assert_eq!(from("ws://r/a", "ftp://r/b"), Err(RedirectError::Location));
        assert_eq!(from("ws://r/a", "http://r:0/b"), Err(RedirectError::Location));
        assert_eq!(from("ws://r/a", "http://"), Err(RedirectError::Location));
    }

    proptest::proptest! {
        #[test]
        fn what_is_displayed_parses_to_the_same(
            tls: bool,
            host in "[a-z]([a-z0-9-]{0,10}[a-z0-9])?(\\.[a-z]{1,5})?|\\[fd00::[1-9a-f]{1,4}\\]|10\\.[0-9]\\.[0-9]\\.1",
            port in proptest::option::of(1_u16..),
            path in "(/[a-zA-Z0-9._~%@:=+,;-]{0,8}){0,4}",
        ) {
            let scheme = if tls { "wss" } else { "ws" };
            let port = port.map(|port| format!(":{port}")).unwrap_or_default();
            let text = format!("{scheme}://{host}{port}{path}");
            // Labels such as `xn--a` are no valid international names.
            if let Ok(url) = text.parse::<RelayUrl>() {
                proptest::prop_assert_eq!(url.to_string().parse::<RelayUrl>().expect("its own text"), url);
            } else {
                proptest::prop_assert!(text.contains("xn--"), "{}", text);
            }
        }

        #[test]
        fn no_text_panics(text in "(wss?://)?\\PC{0,40}") {
            let _ = text.parse::<RelayUrl>().map(|url| url.redirected(&text));
        }
    }
}
