//! Reaching a relay through a proxy.

use std::collections::BTreeMap;
use std::fmt;

use http::Uri;
use hyper_util::client::proxy::matcher::Matcher;

use crate::tcp::ConnectError;
use crate::tls::TlsError;
use crate::url::{RelayUrl, host_and_port};

mod connect;

pub use connect::Proxy;

/// The environment variables that name proxies (spec v1, H-15).
///
/// - The proxy for a `wss` URL is named by the first that is set of `wss_proxy`, `socks_proxy`,
///   `https_proxy`, `http_proxy` and `all_proxy`; for a `ws` URL `ws_proxy` stands in the place of
///   `wss_proxy`.
/// - Each may be written in lower or upper case; lower case wins, even if empty. An empty variable
///   is as good as none.
/// - `no_proxy` lists hosts to reach directly, separated by commas or spaces: names, which stand
///   for their subdomains too (`example.org`, `.example.org` or `*.example.org`), addresses, ranges
///   (`10.0.0.0/8`), each with or without a port (`example.org:8000`), and `*` for all.
/// - A value is the URL of a proxy. Schemes: `http`, `https` (TLS to the proxy), `socks5h` (the
///   proxy resolves names), `socks5` (resolved here), `socks4a` and `socks4` likewise. Without a
///   scheme it is an HTTP proxy, or `socks5h` in `socks_proxy`. User name and password stand in it,
///   percent-encoded.
///
/// `Debug` shows no values, because they may hold passwords.
#[derive(Clone, Default)]
pub struct ProxyEnv {
    /// By lower-case name.
    variables: BTreeMap<String, String>,
}

/// Why a proxy did not lead to the relay. Texts name the proxy without its user info.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// A variable holds something else than the URL of a proxy.
    #[error(
        "{variable} is no proxy that can be used: {problem} (example: http://proxy.example.org:3128)"
    )]
    Url {
        /// The name of the variable.
        variable: &'static str,
        /// What is wrong.
        problem: &'static str,
    },
    /// No TCP connection to the proxy.
    #[error(
        "proxy {proxy} cannot be reached: {error} (check the variable; to go around the proxy, list the relay's host in no_proxy)"
    )]
    Unreachable {
        /// The proxy, and the variable that names it.
        proxy: String,
        /// What happened.
        error: ConnectError,
    },
    /// TLS to an `https` proxy failed.
    #[error("proxy {proxy} cannot be reached: {error}")]
    Tls {
        /// The proxy, and the variable that names it.
        proxy: String,
        /// What happened.
        error: TlsError,
    },
    /// The proxy wants other credentials than it got.
    #[error("proxy {proxy} {problem} ({hint})")]
    Authentication {
        /// The proxy, and the variable that names it.
        proxy: String,
        /// What the proxy wants.
        problem: String,
        /// What to try.
        hint: String,
    },
    /// The proxy does not connect to the relay.
    #[error("proxy {proxy} does not connect to {target}: {answer}")]
    Refused {
        /// The proxy, and the variable that names it.
        proxy: String,
        /// Host and port of the relay.
        target: String,
        /// What the proxy said, and what to try.
        answer: String,
    },
    /// What answers is no proxy of this kind.
    #[error("proxy {proxy} {problem} (is it a proxy of this kind?)")]
    NoProxy {
        /// The proxy, and the variable that names it.
        proxy: String,
        /// What is wrong with the answer.
        problem: String,
    },
}

impl ProxyEnv {
    /// No proxies.
    pub fn none() -> Self {
        Self::default()
    }

    /// The proxies of this process's environment.
    pub fn from_env() -> Self {
        // A value that is no text is no URL either, and is reported as such when it is needed.
        Self::from_vars(std::env::vars_os().map(|(name, value)| {
            (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned())
        }))
    }

    /// The proxies that these variables name.
    pub fn from_vars<K, V>(vars: impl IntoIterator<Item = (K, V)>) -> Self
    where
        K: AsRef<str>,
        V: Into<String>,
    {
        let mut lower = BTreeMap::new();
        let mut upper = BTreeMap::new();
        let mut cgi = false;
        for (name, value) in vars {
            let name = name.as_ref();
            let folded = name.to_ascii_lowercase();
            if name == "REQUEST_METHOD" {
                cgi = true;
            } else if !folded.ends_with("_proxy") {
            } else if name == folded {
                lower.insert(folded, value.into());
            } else {
                upper.insert(folded, value.into());
            }
        }
        if cgi {
            // In a CGI program HTTP_PROXY is what the visitor sent as the header `Proxy`.
            upper.remove("http_proxy");
        }
        upper.extend(lower);
        Self { variables: upper }
    }

    /// The proxy for a URL; none if it is to be dialled directly.
    ///
    /// # Errors
    ///
    /// [`ProxyError::Url`], if the variable that counts names no proxy that can be used.
    pub fn proxy_for(&self, url: &RelayUrl) -> Result<Option<Proxy>, ProxyError> {
        let own = if url.is_tls() { "wss_proxy" } else { "ws_proxy" };
        let order = [own, "socks_proxy", "https_proxy", "http_proxy", "all_proxy"];
        let Some((variable, value)) =
            order.iter().find_map(|name| Some((*name, self.value(name)?)))
        else {
            return Ok(None);
        };
        if self.is_excluded(url) {
            return Ok(None);
        }
        match Proxy::parse(variable, value) {
            Ok(proxy) => Ok(Some(proxy)),
            Err(problem) => Err(ProxyError::Url { variable, problem }),
        }
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    /// Whether `no_proxy` names the host of a URL.
    fn is_excluded(&self, url: &RelayUrl) -> bool {
        let Some(list) = self.value("no_proxy") else {
            return false;
        };
        let entries: Vec<&str> = list
            .split(|c: char| c == ',' || c.is_whitespace())
            .filter_map(|entry| without_port(entry, url.port()))
            .map(|entry| if entry.starts_with("*.") { &entry[1..] } else { entry })
            .collect();
        let host = host_and_port(url.host().trim_end_matches('.'), url.port());
        let Ok(uri) = Uri::builder().scheme("http").authority(host).path_and_query("/").build()
        else {
            return false;
        };
        Matcher::builder()
            .all("http://proxy")
            .no(entries.join(","))
            .build()
            .intercept(&uri)
            .is_none()
    }
}

impl fmt::Debug for ProxyEnv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ProxyEnv").field(&self.variables.keys()).finish()
    }
}

/// An entry of `no_proxy` without its port, or nothing if that is another port.
fn without_port(entry: &str, port: u16) -> Option<&str> {
    let (host, entry_port) = if let Some(bracketed) = entry.strip_prefix('[') {
        let (host, rest) = bracketed.split_once(']')?;
        (host, rest.strip_prefix(':'))
    } else if entry.matches(':').count() == 1 {
        let (host, port) = entry.split_once(':')?;
        (host, Some(port))
    } else {
        (entry, None)
    };
    let matches = entry_port.is_none_or(|entry_port| entry_port.parse() == Ok(port));
    matches.then_some(host).filter(|host| !host.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(vars: &[(&str, &str)]) -> ProxyEnv {
        ProxyEnv::from_vars(vars.iter().copied())
    }

    fn chosen(vars: &[(&str, &str)], url: &str) -> String {
        let url: RelayUrl = url.parse().expect("a valid URL");
        match env(vars).proxy_for(&url) {
            Ok(Some(proxy)) => proxy.to_string(),
            Ok(None) => "direct".into(),
            Err(error) => format!("error: {error}"),
        }
    }

    #[test]
    fn variables_have_an_order() {
        let all = [
            ("WS_PROXY", "http://a:1"),
            ("WSS_PROXY", "http://b:1"),
            ("SOCKS_PROXY", "socks5://c:1"),
            ("HTTPS_PROXY", "http://d:1"),
            ("HTTP_PROXY", "http://e:1"),
            ("ALL_PROXY", "http://f:1"),
        ];
        let without = |gone: &[&str], url| {
            let left: Vec<_> = all.into_iter().filter(|(name, _)| !gone.contains(name)).collect();
            chosen(&left, url)
        };
        let mut gone = vec![];
        let mut wss = vec![];
        let mut ws = vec![];
        for (name, _) in all {
            wss.push(without(&gone, "wss://relay.lan/"));
            ws.push(without(&gone, "ws://relay.lan/"));
            gone.push(name);
        }
        let (a, b, c) = (
            "http://a:1 (from ws_proxy)",
            "http://b:1 (from wss_proxy)",
            "socks5://c:1 (from socks_proxy)",
        );
        let (d, e, f) = (
            "http://d:1 (from https_proxy)",
            "http://e:1 (from http_proxy)",
            "http://f:1 (from all_proxy)",
        );
        assert_eq!(wss, [b, b, c, d, e, f]);
        assert_eq!(ws, [a, c, c, d, e, f]);
        assert_eq!(without(&gone, "ws://relay.lan/"), "direct");
    }

    #[test]
    fn lower_case_wins() {
        let url = "ws://relay.lan/";
        let vars = [
            ("http_proxy", "http://low:1"),
            ("HTTP_PROXY", "http://up:1"),
            ("ALL_PROXY", "http://all:1"),
        ];
        assert_eq!(chosen(&vars, url), "http://low:1 (from http_proxy)");
        assert_eq!(
            chosen(&[("http_proxy", ""), vars[1], vars[2]], url),
            "http://all:1 (from all_proxy)"
        );
        assert_eq!(chosen(&[("http_proxy", " "), vars[1]], url), "direct");
        assert_eq!(
            chosen(&[("Http_Proxy", "http://mixed:1")], url),
            "http://mixed:1 (from http_proxy)"
        );
        assert_eq!(chosen(&[vars[1], ("REQUEST_METHOD", "GET")], url), "direct");
        assert_eq!(
            chosen(&[vars[0], ("REQUEST_METHOD", "GET")], url),
            "http://low:1 (from http_proxy)"
        );
    }

    #[test]
    fn values_are_read() {
        let cases = [
            ("http_proxy", "proxy.lan", "http://proxy.lan:80 (from http_proxy)"),
            ("http_proxy", "proxy.lan:3128", "http://proxy.lan:3128 (from http_proxy)"),
            (
                "http_proxy",
                "hugo:hunter2@proxy.lan:3128/x",
                "http://proxy.lan:3128 (from http_proxy)",
            ),
            ("http_proxy", "https://proxy.lan", "https://proxy.lan:443 (from http_proxy)"),
            ("http_proxy", "HTTP://[::1]:8080/", "http://[::1]:8080 (from http_proxy)"),
            ("http_proxy", "socks5://10.0.0.1", "socks5://10.0.0.1:1080 (from http_proxy)"),
            ("http_proxy", "socks5h://[fd00::1]", "socks5h://[fd00::1]:1080 (from http_proxy)"),
            ("http_proxy", "socks4://s", "socks4://s:1080 (from http_proxy)"),
            ("http_proxy", "socks4a://s:9", "socks4a://s:9 (from http_proxy)"),
            ("all_proxy", "socks://s:9", "socks5h://s:9 (from all_proxy)"),
            ("socks_proxy", "s:9", "socks5h://s:9 (from socks_proxy)"),
            ("socks_proxy", "http://s:9", "socks5h://s:9 (from socks_proxy)"),
        ];
        for (name, value, expected) in cases {
            assert_eq!(chosen(&[(name, value)], "ws://relay.lan/"), expected);
        }
    }

    #[test]
    fn bad_values_are_errors_not_ignored() {
        let cases = [
            (
                "ftp://hunter2@proxy",
                "its scheme is none of http, https, socks5h, socks5, socks4a and socks4",
            ),
            ("http://", "it is no URL"),
            ("socks5://", "it names no host"),
            ("http://u:hunter2@pro xy", "it is no URL"),
            ("http://proxy:0", "its port is 0"),
            ("http://proxy:hunter2", "it is no URL"),
        ];
        for (value, problem) in cases {
            let expected = format!(
                "error: http_proxy is no proxy that can be used: {problem} (example: http://proxy.example.org:3128)"
            );
            assert_eq!(chosen(&[("HTTP_PROXY", value)], "ws://relay.lan/"), expected);
        }
    }

    #[test]
    fn credentials_are_decoded_and_never_shown() {
        let vars =
            [("http_proxy", "http://hugo%40lan:hunter%3A2@proxy.lan:3128"), ("no_proxy", "x")];
        let url: RelayUrl = "ws://relay.lan/".parse().expect("a valid URL");
        let proxy = env(&vars).proxy_for(&url).ok().flatten().expect("a proxy");
        let (user, password) = proxy.credentials.as_ref().expect("credentials");
        assert_eq!((user.as_str(), password.as_str()), ("hugo@lan", "hunter:2"));
        let shown = format!("{proxy} {} {:?}", proxy.credentials_hint(), env(&vars));
        assert!(!shown.contains("hugo") && !shown.contains("hunter"), "{shown}");
    }

    #[test]
    fn no_proxy_lists_hosts() {
        let cases = [
            ("relay.lan", "ws://relay.lan/", true),
            ("RELAY.lan", "ws://relay.lan/", true),
            ("relay.lan", "ws://relay.lan.:99/", true),
            ("lan", "ws://relay.lan/", true),
            (".lan", "ws://relay.lan/", true),
            ("*.lan", "ws://relay.lan/", true),
            ("other,  lan", "ws://relay.lan/", true),
            ("other lan", "ws://relay.lan/", true),
            ("elay.lan", "ws://relay.lan/", false),
            ("relay.lan.org", "ws://relay.lan/", false),
            ("a-much-longer.relay.lan", "ws://relay.lan/", false),
            ("*", "wss://relay.lan/", true),
            ("relay.lan:80", "ws://relay.lan/", true),
            ("relay.lan:81", "ws://relay.lan/", false),
            ("relay.lan:x", "ws://relay.lan/", false),
            ("127.0.0.1", "ws://127.0.0.1:8000/", true),
            ("127.0.0.1:8000", "ws://127.0.0.1:8000/", true),
            ("127.0.0.0/8", "ws://127.0.0.1:8000/", true),
            ("10.0.0.0/8", "ws://127.0.0.1:8000/", false),
            ("::1", "ws://[::1]:8000/", true),
            ("[::1]", "ws://[::1]:8000/", true),
            ("[::1]:8000", "ws://[::1]:8000/", true),
            ("[::1]:8001", "ws://[::1]:8000/", false),
            ("fd00::/8", "ws://[fd12::1]/", true),
            (", ,:80,[", "ws://relay.lan/", false),
            ("", "ws://relay.lan/", false),
        ];
        for (list, url, direct) in cases {
            let found =
                chosen(&[("all_proxy", "http://proxy"), ("NO_PROXY", list)], url) == "direct";
            assert_eq!(found, direct, "{list:?} {url}");
        }
        // An excluded host does not even need a usable proxy.
        assert_eq!(
            chosen(&[("all_proxy", "ftp://x"), ("no_proxy", "*")], "ws://relay.lan/"),
            "direct"
        );
    }
}
