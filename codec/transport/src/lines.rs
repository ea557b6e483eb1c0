//! Every line that dialling can fail with, as one picture.

use std::io;
use std::time::Duration;

use http::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::dial::{DialError, upgrade};
use crate::proxy::ProxyError;
use crate::socket::Socket;
use crate::tcp::connect_tcp;
use crate::tls::TlsError;
use crate::url::{RedirectError, RelayUrl, UrlError};

const HOST: &str = "relay.example.org:443";

fn host() -> String {
    HOST.to_owned()
}

/// What is made of a server that reads the request, says this, and has no more to say.
async fn answered(answer: &str) -> DialError {
    let (near, mut far) = tokio::io::duplex(4096);
    let url: RelayUrl = "wss://relay.example.org/".parse().unwrap();
    let serving = async {
        let mut request = [0; 4096];
        let read = far.read(&mut request).await.unwrap();
        assert!(request[..read].ends_with(b"\r\n\r\n"));
        far.write_all(answer.as_bytes()).await.unwrap();
        far.shutdown().await.unwrap();
    };
    let (upgraded, ()) = tokio::join!(upgrade(Socket::boxed(near), &url), serving);
    upgraded.expect_err("it is no WebSocket")
}

#[tokio::test]
async fn of_dialling() {
    let proxy = || "http://proxy.lan:3128 (from https_proxy)".to_owned();
    let (variable, problem) = ("https_proxy", "it is no URL");
    let unreachable = connect_tcp("", 1, Duration::from_secs(1)).await.unwrap_err();
    let mut errors = vec![
        DialError::Connect(connect_tcp("", 443, Duration::from_secs(1)).await.unwrap_err()),
        DialError::Connect(connect_tcp("relay", 0, Duration::from_secs(1)).await.unwrap_err()),
        DialError::Proxy(ProxyError::Url { variable, problem }),
        DialError::Proxy(ProxyError::Unreachable { proxy: proxy(), error: unreachable }),
        DialError::Proxy(ProxyError::Tls { proxy: proxy(), error: TlsError::NoAuthorities }),
        DialError::Proxy(ProxyError::Authentication {
            proxy: proxy(),
            problem: "asks for a user name and password (407)".into(),
            hint: "set them".into(),
        }),
        DialError::Proxy(ProxyError::Refused {
            proxy: proxy(),
            target: host(),
            answer: "it answered 403 Forbidden (ask its administrator)".into(),
        }),
        DialError::Proxy(ProxyError::NoProxy {
            proxy: proxy(),
            problem: "does not answer in HTTP".into(),
        }),
        DialError::Tls(TlsError::CaFile {
            path: "ca.pem".into(),
            source: io::Error::from_raw_os_error(13),
        }),
        DialError::Tls(TlsError::CaFileContent {
            path: "ca.pem".into(),
            problem: "contains no certificate".into(),
        }),
        DialError::Tls(TlsError::NoAuthorities),
        DialError::Tls(TlsError::Name { host: "a b".into() }),
        DialError::Tls(TlsError::Handshake {
            host: host(),
            reason: "the certificate has expired".into(),
            source: "expired".into(),
        }),
        DialError::TimedOut { phase: "waiting".into(), limit: Duration::from_secs(10) },
        answered("").await,
        answered("SSH-2.0-OpenSSH\r\n").await,
        answered("HTTP/1.1 101 Switching Protocols\r\n\r\n").await,
    ];
    for status in [200, 301, 401, 403, 404, 407, 429, 502] {
        let answer = format!("HTTP/1.1 {status} \r\nContent-Length: 5\r\n\r\nhello");
        errors.push(answered(&answer).await);
    }
    let excerpt = Some("<b>\u{1b}".to_owned());
    let status = StatusCode::IM_A_TEAPOT;
    errors.push(DialError::Status { host: host(), status, excerpt, hint: "" });
    let redirects = [RedirectError::TooMany(5), RedirectError::Location, RedirectError::Downgrade];
    errors.extend(redirects.map(|error| DialError::Redirect { host: host(), error }));

    let lines: Vec<String> =
        errors.iter().map(|error| format!("{error}\n    {}", error.summary())).collect();
    insta::assert_snapshot!(lines.join("\n"));
    let mut seen = [false; 8];
    errors.iter().for_each(|error| seen[place(error)] = true);
    assert_eq!(seen, [true; 8], "a way to fail is not shown");
}

/// So that a new way to fail cannot be left out above.
fn place(error: &DialError) -> usize {
    match error {
        DialError::Connect(_) => 0,
        DialError::Proxy(
            ProxyError::Url { .. }
            | ProxyError::Unreachable { .. }
            | ProxyError::Tls { .. }
            | ProxyError::Authentication { .. }
            | ProxyError::Refused { .. }
            | ProxyError::NoProxy { .. },
        ) => 1,
        DialError::Tls(
            TlsError::CaFile { .. }
            | TlsError::CaFileContent { .. }
            | TlsError::NoAuthorities
            | TlsError::Name { .. }
            | TlsError::Handshake { .. },
        ) => 2,
        DialError::TimedOut { .. } => 3,
        DialError::Closed { .. } => 4,
        DialError::Status { .. } => 5,
        DialError::NotWebSocket { .. } => 6,
        DialError::Redirect { .. } => 7,
    }
}

#[test]
fn of_urls() {
    let errors = [
        UrlError::Empty,
        UrlError::NoScheme,
        UrlError::Scheme("http".into()),
        UrlError::Character('\\'),
        UrlError::Fragment,
        UrlError::Host,
        UrlError::Port,
        UrlError::UserInfo,
        UrlError::Path,
    ];
    for (index, error) in errors.iter().enumerate() {
        let place = match error {
            UrlError::Empty => 0,
            UrlError::NoScheme => 1,
            UrlError::Scheme(_) => 2,
            UrlError::Character(_) => 3,
            UrlError::Fragment => 4,
            UrlError::Host => 5,
            UrlError::Port => 6,
            UrlError::UserInfo => 7,
            UrlError::Path => 8,
        };
        assert_eq!(place, index);
    }
    insta::assert_snapshot!(errors.map(|error| error.to_string()).join("\n"));
}
