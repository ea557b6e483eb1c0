//! What proxies are told, and what they answer.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use http::header::{HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::Empty;
use percent_encoding::percent_decode_str;
use tokio_socks::tcp::{Socks4Stream, Socks5Stream};
use tokio_socks::{IntoTargetAddr, TargetAddr};
use url::Url;

use super::ProxyError;
use crate::dial::{Deadline, DialError, SOFTWARE};
use crate::exchange::{NoAnswer, Then, exchange};
use crate::socket::Socket;
use crate::system::system_text;
use crate::tcp::{self, connect_tcp};
use crate::tls::Tls;
use crate::url::{basic, host_and_port, host_of};

/// A proxy. `Display` names it and its variable, without user info.
pub struct Proxy {
    /// Where it was named.
    variable: &'static str,
    scheme: Scheme,
    /// Without brackets.
    host: String,
    port: u16,
    /// User name and password, decoded. Secret.
    pub(super) credentials: Option<(String, String)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
    Socks4,
    Socks4a,
    Socks5,
    Socks5h,
}

impl Scheme {
    const ALL: [Self; 6] =
        [Self::Http, Self::Https, Self::Socks4, Self::Socks4a, Self::Socks5, Self::Socks5h];

    fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Socks4 => "socks4",
            Self::Socks4a => "socks4a",
            Self::Socks5 => "socks5",
            Self::Socks5h => "socks5h",
        }
    }

    fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
            Self::Socks4 | Self::Socks4a | Self::Socks5 | Self::Socks5h => 1080,
        }
    }
}

impl Proxy {
    /// Reads the value of a variable; the error says what is wrong with it.
    pub(super) fn parse(variable: &'static str, value: &str) -> Result<Self, &'static str> {
        let socks = variable == "socks_proxy";
        let text = match value.contains("://") {
            true => Cow::Borrowed(value),
            false if socks => Cow::Owned(format!("socks5h://{value}")),
            false => Cow::Owned(format!("http://{value}")),
        };
        let url = Url::parse(&text).map_err(|_| "it is no URL")?;
        let scheme = match url.scheme() {
            // Systems that keep SOCKS proxies in their settings write them with this scheme.
            "http" if socks => Scheme::Socks5h,
            "socks" => Scheme::Socks5h,
            name => Scheme::ALL
                .into_iter()
                .find(|scheme| scheme.name() == name)
                .ok_or("its scheme is none of http, https, socks5h, socks5, socks4a and socks4")?,
        };
        let host = host_of(&url).ok_or("it names no host")?;
        let host =
            percent_decode_str(&host).decode_utf8().map_err(|_| "it names no host")?.into_owned();
        let port = match url.port() {
            Some(0) => return Err("its port is 0"),
            port => port.unwrap_or(scheme.default_port()),
        };
        let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let credentials = (!url.username().is_empty() || url.password().is_some())
            .then(|| (decode(url.username()), decode(url.password().unwrap_or_default())));
        Ok(Self { variable, scheme, host, port, credentials })
    }

    /// A socket that the proxy has connected to `host` and `port`.
    pub(crate) async fn connect(
        &self,
        host: &str,
        port: u16,
        tls: &Tls,
        deadline: Deadline,
    ) -> Result<Socket, DialError> {
        match self.scheme {
            Scheme::Http | Scheme::Https => {
                let socket = self.reach(tls, deadline).await?;
                let target = host_and_port(host, port);
                deadline
                    .limit(
                        || format!("waiting for proxy {self} to connect"),
                        self.tunnel(socket, target),
                    )
                    .await?
            }
            Scheme::Socks4a | Scheme::Socks5h => {
                let target = match host.parse::<IpAddr>() {
                    Ok(address) => TargetAddr::Ip((address, port).into()),
                    Err(_) => TargetAddr::Domain(host.into(), port),
                };
                self.socks(target, tls, deadline).await
            }
            Scheme::Socks4 | Scheme::Socks5 => {
                let addresses = tcp::resolve(host, port, deadline.remaining()).await?;
                self.socks_to_any(addresses, &host_and_port(host, port), tls, deadline).await
            }
        }
    }

    /// A connection to the proxy itself.
    async fn reach(&self, tls: &Tls, deadline: Deadline) -> Result<Socket, DialError> {
        let tcp = connect_tcp(&self.host, self.port, deadline.remaining())
            .await
            .map_err(|error| ProxyError::Unreachable { proxy: self.to_string(), error })?;
        let socket = Socket::Tcp(tcp);
        if self.scheme != Scheme::Https {
            return Ok(socket);
        }
        let shown = host_and_port(&self.host, self.port);
        let opening = tls.open(socket, &self.host, &shown);
        let opened = deadline.limit(|| format!("TLS handshake with proxy {self}"), opening).await?;
        Ok(opened.map_err(|error| ProxyError::Tls { proxy: self.to_string(), error })?)
    }

    /// Has an HTTP proxy connect to `target`.
    async fn tunnel(&self, socket: Socket, target: String) -> Result<Socket, DialError> {
        let no_proxy = |problem: &str| ProxyError::NoProxy {
            proxy: self.to_string(),
            problem: problem.into(),
        };
        let answer =
            exchange(socket, self.connect_request(&target)?).await.map_err(
                |error| match error {
                    NoAnswer::NotHttp(_) => no_proxy("does not answer in HTTP"),
                    NoAnswer::Closed(_) => no_proxy("closed the connection without an answer"),
                },
            )?;
        match answer.then {
            Then::Switched { socket, read_ahead }
                if read_ahead.is_empty() && answer.status.is_success() =>
            {
                Ok(socket)
            }
            // Neither TLS nor HTTP lets a server speak first.
            Then::Switched { .. } => Err(no_proxy("sent something unasked").into()),
            Then::Body { excerpt } => {
                Err(self.refused(answer.status, &answer.headers, target, excerpt).into())
            }
        }
    }

    fn connect_request(&self, target: &str) -> Result<Request<Empty<Bytes>>, ProxyError> {
        let bad = |problem| ProxyError::Url { variable: self.variable, problem };
        let uri = Uri::builder().authority(target).build().map_err(|_| ProxyError::Refused {
            proxy: self.to_string(),
            target: target.to_owned(),
            answer: "it is no host and port that can be asked for".into(),
        })?;
        let mut request = Request::new(Empty::new());
        *request.method_mut() = Method::CONNECT;
        *request.uri_mut() = uri;
        let host = HeaderValue::from_str(target)
            .map_err(|_| bad("the relay's host cannot be asked for"))?;
        request.headers_mut().insert(HOST, host);
        if let Some((user, password)) = &self.credentials {
            let value = basic(user.as_bytes(), password.as_bytes())
                .ok_or_else(|| bad("its user name contains a colon, which HTTP cannot carry"))?;
            request.headers_mut().insert(PROXY_AUTHORIZATION, value);
        }
        request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(SOFTWARE));
        Ok(request)
    }

    fn refused(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        target: String,
        excerpt: Option<String>,
    ) -> ProxyError {
        let proxy = self.to_string();
        if status == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
            let offers: Vec<&str> = headers
                .get_all(PROXY_AUTHENTICATE)
                .iter()
                .filter_map(|value| value.to_str().ok())
                .collect();
            let (problem, hint) = authentication_wanted(&offers, self.credentials.is_some());
            let hint = hint.unwrap_or_else(|| self.credentials_hint());
            return ProxyError::Authentication { proxy, problem, hint };
        }
        let hint = match status.as_u16() {
            403 | 405 => " (ask its administrator to allow it, or list the host in no_proxy)",
            502..=504 => " (the proxy cannot reach the relay: check host and port of the URL)",
            300..=399 => " (this looks like a sign-in page of the network)",
            200 | 400 | 404 | 501 => " (is this an HTTP proxy that supports CONNECT?)",
            _ => OTHER_REFUSAL,
        };
        let excerpt = excerpt.map(|excerpt| format!(" {excerpt:?}")).unwrap_or_default();
        ProxyError::Refused {
            proxy,
            target,
            answer: format!("it answered {status}{excerpt}{hint}"),
        }
    }

    pub(super) fn credentials_hint(&self) -> String {
        let authority = host_and_port(&self.host, self.port);
        let scheme = self.scheme.name();
        format!(
            "set user name and password in the variable: {}={scheme}://USER:PASSWORD@{authority}",
            self.variable
        )
    }

    /// Has a SOCKS proxy connect to the first of these addresses that it can reach. `shown` names
    /// what they are the addresses of.
    async fn socks_to_any(
        &self,
        addresses: Vec<SocketAddr>,
        shown: &str,
        tls: &Tls,
        deadline: Deadline,
    ) -> Result<Socket, DialError> {
        let mut refused = ProxyError::Refused {
            proxy: self.to_string(),
            target: shown.to_owned(),
            answer: "it has no IPv4 address, and SOCKS 4 knows no other (try socks5h://)".into(),
        };
        let four = self.scheme == Scheme::Socks4;
        for address in addresses.into_iter().filter(|address| !four || address.is_ipv4()) {
            match self.socks(TargetAddr::Ip(address), tls, deadline).await {
                Err(DialError::Proxy(error @ ProxyError::Refused { .. })) => refused = error,
                other => return other,
            }
        }
        Err(refused.into())
    }

    /// Has a SOCKS proxy connect to `target`.
    async fn socks(
        &self,
        target: TargetAddr<'_>,
        tls: &Tls,
        deadline: Deadline,
    ) -> Result<Socket, DialError> {
        let socket = self.reach(tls, deadline).await?;
        let shown = match &target {
            TargetAddr::Ip(address) => address.to_string(),
            TargetAddr::Domain(name, port) => host_and_port(name, *port),
        };
        let phase = || format!("waiting for proxy {self} to connect");
        let connected = deadline.limit(phase, self.socks_handshake(socket, target)).await?;
        Ok(connected.map_err(|error| self.socks_error(error, shown))?)
    }

    async fn socks_handshake(
        &self,
        socket: Socket,
        target: impl IntoTargetAddr<'_>,
    ) -> Result<Socket, tokio_socks::Error> {
        let credentials =
            self.credentials.as_ref().map(|(user, password)| (user.as_str(), password.as_str()));
        let five = matches!(self.scheme, Scheme::Socks5 | Scheme::Socks5h);
        Ok(match credentials {
            Some((user, password)) if five => {
                let stream =
                    Socks5Stream::connect_with_password_and_socket(socket, target, user, password);
                stream.await?.into_inner()
            }
            None if five => Socks5Stream::connect_with_socket(socket, target).await?.into_inner(),
            Some((user, _)) => Socks4Stream::connect_with_userid_and_socket(socket, target, user)
                .await?
                .into_inner(),
            None => Socks4Stream::connect_with_socket(socket, target).await?.into_inner(),
        })
    }

    fn socks_error(&self, error: tokio_socks::Error, target: String) -> ProxyError {
        use tokio_socks::Error as E;
        let proxy = self.to_string();
        match error {
            E::AuthorizationRequired | E::NoAcceptableAuthMethods | E::UnknownAuthMethod => {
                ProxyError::Authentication {
                    proxy,
                    problem: if self.credentials.is_some() {
                        "supports neither a user name with password nor going without".into()
                    } else {
                        "asks for a user name and password".into()
                    },
                    hint: self.credentials_hint(),
                }
            }
            E::PasswordAuthFailure(_) | E::IdentdAuthFailure | E::InvalidUserIdAuthFailure => {
                let problem = "does not accept the user name or password".into();
                ProxyError::Authentication {
                    proxy,
                    problem,
                    hint: format!("check them in {}", self.variable),
                }
            }
            E::InvalidAuthValues(_) => {
                let problem = "its user name and password must have 1 to 255 bytes each";
                ProxyError::Url { variable: self.variable, problem }
            }
            E::Io(error) => {
                let problem =
                    format!("ended the connection without an answer: {}", system_text(&error));
                ProxyError::NoProxy { proxy, problem }
            }
            E::InvalidResponseVersion | E::InvalidReservedByte | E::UnknownAddressType => {
                ProxyError::NoProxy {
                    proxy,
                    problem: format!("does not answer in {}", self.scheme.name()),
                }
            }
            E::ConnectionNotAllowedByRuleset => {
                let answer = "its rules do not allow it (ask its administrator, or list the host in no_proxy)".into();
                ProxyError::Refused { proxy, target, answer }
            }
            other => {
                let said = other.to_string().to_lowercase();
                let answer = format!("it answered {said:?}{OTHER_REFUSAL}");
                ProxyError::Refused { proxy, target, answer }
            }
        }
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = host_and_port(&self.host, self.port);
        write!(f, "{}://{authority} (from {})", self.scheme.name(), self.variable)
    }
}

/// What to try when a proxy refuses for reasons of its own.
const OTHER_REFUSAL: &str =
    " (check host and port of the URL; to go around the proxy, list the host in no_proxy)";

/// What a 407 with these offers wants, and what to try if it is not setting user name and password.
fn authentication_wanted(offers: &[&str], sent: bool) -> (String, Option<String>) {
    let schemes = offers.iter().filter_map(|offer| offer.split_whitespace().next());
    let schemes: Vec<&str> =
        schemes.filter(|name| name.bytes().all(|b| b.is_ascii_alphanumeric())).take(4).collect();
    if !schemes.is_empty() && !schemes.iter().any(|name| name.eq_ignore_ascii_case("basic")) {
        let problem =
            format!("asks for {} authentication, which is not supported", schemes.join(" or "));
        return (
            problem,
            Some(
                "only Basic is: ask its administrator, or run a local proxy that signs in for you"
                    .into(),
            ),
        );
    }
    if sent {
        (
            "does not accept the user name or password (407)".into(),
            Some("check them, and percent-encode : / ? # and @".into()),
        )
    } else {
        ("asks for a user name and password (407)".into(), None)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn authentication_texts() {
        let text = |offers: &[&str], sent| {
            let (problem, hint) = authentication_wanted(offers, sent);
            format!("{problem}; {}", hint.unwrap_or_else(|| "set them".into()))
        };
        assert_eq!(
            text(&["Basic realm=\"x\""], false),
            "asks for a user name and password (407); set them"
        );
        assert_eq!(text(&[], false), "asks for a user name and password (407); set them");
        assert!(
            text(&["basic"], true)
                .starts_with("does not accept the user name or password (407); check them")
        );
        let ntlm = text(&["NTLM", "Negotiate abc", "\u{1b}"], true);
        assert!(ntlm.starts_with(
            "asks for NTLM or Negotiate authentication, which is not supported; only Basic is"
        ));
        assert_eq!(
            text(&["NTLM", "Basic"], false),
            "asks for a user name and password (407); set them"
        );
    }
    #[tokio::test]
    async fn the_next_address_is_tried_if_the_proxy_refuses_one() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let bound = listener.local_addr().expect("a bound listener");
        let proxy = Proxy::parse("all_proxy", &format!("socks5://{bound}")).expect("a proxy");
        let addresses: Vec<SocketAddr> = ["10.0.0.1:1", "[fd00::2]:2", "10.0.0.3:3", "10.0.0.4:4"]
            .map(|text| text.parse().expect("an address"))
            .into();
        // Answers with this reply, and yields the kind and the last byte of the address asked for.
        let serve = async |reply: u8| {
            let (mut stream, _) = listener.accept().await.expect("accepted");
            stream.read_exact(&mut [0; 3]).await.expect("the methods");
            stream.write_all(&[5, 0]).await.expect("written");
            let mut head = [0; 4];
            stream.read_exact(&mut head).await.expect("a request");
            let mut rest = vec![0; if head[3] == 1 { 6 } else { 18 }];
            stream.read_exact(&mut rest).await.expect("an address");
            stream.write_all(&[5, reply, 0, 1, 0, 0, 0, 0, 0, 0]).await.expect("written");
            (head[3], rest[rest.len() - 3])
        };
        let serving = async { [serve(5).await, serve(4).await, serve(0).await] };
        let tls = Tls::new(None).expect("no file");
        let deadline = Deadline::after(Duration::from_secs(60));
        let connecting = proxy.socks_to_any(addresses, "relay.lan:80", &tls, deadline);
        let (asked, connected) = tokio::join!(serving, connecting);
        assert_eq!(asked, [(1, 1), (4, 2), (1, 3)]);
        connected.expect("the third");
    }
}
