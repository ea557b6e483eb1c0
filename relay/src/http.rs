//! The relay's answers to HTTP requests, and the upgrade of those that ask for a link.

use bytes::Bytes;
use codec::{v1, v2};
use http::header::{
    CONNECTION, CONTENT_TYPE, RETRY_AFTER, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body_util::Full;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use transport::dial::Protocol;

/// Who asks for a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Agent,
    Client,
}

/// What to do with a request.
pub(crate) enum Answer {
    /// Send this response, and end the connection.
    Plain(Response<Full<Bytes>>),
    /// Send this response; the connection becomes a link.
    Upgrade(Role, Protocol, Response<Full<Bytes>>),
}

/// Decides on a request (spec v1, H-1 ff.). Only its head is looked at. A relay that drains takes no new links.
pub(crate) fn answer<B>(request: &Request<B>, is_draining: bool) -> Answer {
    let role = role(request.uri().path());
    // No upgrade to a WebSocket (spec v1, H-9 and H-17).
    if !asks_for_websocket(request.headers()) {
        return Answer::Plain(match request.uri().path() {
            "/healthz" => healthz(request.method()),
            _ => text(StatusCode::NOT_FOUND, "application/json", r#"{"detail":"Not Found"}"#),
        });
    }
    let Some(role) = role else {
        // Also on the paths of the oldest revisions (spec v1, H-8 and R-1).
        return Answer::Plain(text(StatusCode::FORBIDDEN, "text/plain", ""));
    };
    match accept_key(request) {
        // Spec v2, RL-10.
        Ok(_) if is_draining => Answer::Plain(unavailable()),
        Ok(accept) => {
            let protocol = protocol(request.headers());
            Answer::Upgrade(role, protocol, switching(accept, protocol))
        }
        Err(problem) => Answer::Plain(bad_request(problem)),
    }
}

fn role(path: &str) -> Option<Role> {
    // A percent-encoded spelling is the same path (RFC 3986, section 6.2.2.2).
    let path = percent_encoding::percent_decode_str(path).decode_utf8().ok()?;
    match &*path {
        v1::AGENT_PATH => Some(Role::Agent),
        v1::CLIENT_PATH => Some(Role::Client),
        _ => None,
    }
}

/// The latest version that the dialler offers (spec v2, NG-1 and NG-2). The name is compared exactly.
fn protocol(headers: &HeaderMap) -> Protocol {
    let offers = tokens(headers, SEC_WEBSOCKET_PROTOCOL).any(|token| token == v2::SUBPROTOCOL);
    if offers { Protocol::V2 } else { Protocol::V1 }
}

/// Origin, credentials and a missing Host make no difference (spec v1, H-5).
fn asks_for_websocket(headers: &HeaderMap) -> bool {
    has_token(headers, CONNECTION, "upgrade") && has_token(headers, UPGRADE, "websocket")
}

/// Whether a comma-separated header holds a token, in any case.
fn has_token(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|value| value.eq_ignore_ascii_case(token))
}

/// What the lines of a comma-separated header hold.
fn tokens(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

/// The answer to a sound opening handshake (RFC 6455, section 4.2).
/// What is wrong with any other is told with 400 (spec v1, H-10).
fn accept_key<B>(request: &Request<B>) -> Result<String, &'static str> {
    if request.version() < Version::HTTP_11 {
        return Err("a WebSocket needs HTTP/1.1\n");
    }
    if request.method() != Method::GET {
        return Err("a WebSocket is asked for with GET\n");
    }
    let header = |name| request.headers().get(name).map(HeaderValue::as_bytes);
    if header(SEC_WEBSOCKET_VERSION) != Some(b"13") {
        return Err("Sec-WebSocket-Version must be 13\n");
    }
    match header(SEC_WEBSOCKET_KEY) {
        Some(key) if is_key(key) => Ok(derive_accept_key(key)),
        _ => Err("Sec-WebSocket-Key must be 16 bytes in base64\n"),
    }
}

/// Whether a key is the base64 of 16 bytes.
fn is_key(key: &[u8]) -> bool {
    std::str::from_utf8(key)
        .is_ok_and(|key| key.len() == 24 && key.ends_with("==") && v1::base64::is_canonical(key))
}

/// Compression and subprotocols are declined by not naming them (spec v1, H-6 and H-7), but for that of protocol v2.
fn switching(accept: String, protocol: Protocol) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    if let Ok(accept) = HeaderValue::from_str(&accept) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    if protocol == Protocol::V2 {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(v2::SUBPROTOCOL));
    }
    headers.insert(HeaderName::from_static(v1::RELAY_HEADER), HeaderValue::from_static(SOFTWARE));
    response
}

/// Says why, and which version is spoken (spec v1, H-20).
fn bad_request(problem: &'static str) -> Response<Full<Bytes>> {
    let mut response = text(StatusCode::BAD_REQUEST, "text/plain", problem);
    response.headers_mut().insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    response
}

/// The relay is about to stop; another one may take its place at once.
fn unavailable() -> Response<Full<Bytes>> {
    let mut response =
        text(StatusCode::SERVICE_UNAVAILABLE, "text/plain", "the relay is about to stop\n");
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

fn healthz(method: &Method) -> Response<Full<Bytes>> {
    if matches!(*method, Method::GET | Method::HEAD) {
        text(StatusCode::OK, "text/plain", "ok\n")
    } else {
        text(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "")
    }
}

/// An answer that ends its connection, as it may (spec v1, H-9): a peer that went on asking and read none of the
/// answers would hold the connection for good.
fn text(status: StatusCode, kind: &'static str, body: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// What the relay calls itself towards its peers.
pub(crate) const SOFTWARE: &str = concat!("network-relay/", env!("CARGO_PKG_VERSION"));

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, path: &str, headers: &[(&str, &str)]) -> Request<()> {
        let mut builder = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        builder.body(()).unwrap()
    }

    const UPGRADE_HEADERS: [(&str, &str); 4] = [
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "WebSocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    fn check(method: &str, path: &str, headers: &[(&str, &str)]) -> (u16, Option<Role>) {
        match answer(&request(method, path, headers), false) {
            Answer::Plain(response) => (response.status().as_u16(), None),
            Answer::Upgrade(role, _, response) => (response.status().as_u16(), Some(role)),
        }
    }

    #[test]
    fn the_two_paths_upgrade_in_any_spelling_of_theirs() {
        for (path, role) in [
            ("/ws_for_edge_agents", Role::Agent),
            ("/ws_for_access_clients", Role::Client),
            ("/ws%5Ffor_edge_agents", Role::Agent),
            ("/ws_for_access_clients?x=1", Role::Client),
        ] {
            assert_eq!(check("GET", path, &UPGRADE_HEADERS), (101, Some(role)), "{path}");
        }
        for path in ["/", "/ws_for_edge_agents/", "//ws_for_edge_agents", "/WS_for_edge_agents"] {
            assert_eq!(check("GET", path, &UPGRADE_HEADERS), (403, None), "{path}");
        }
    }

    #[test]
    fn plain_requests_are_not_found_except_the_health_check() {
        assert_eq!(check("GET", "/ws_for_edge_agents", &[]), (404, None));
        assert_eq!(check("GET", "/", &[]), (404, None));
        assert_eq!(check("GET", "/healthz", &[]), (200, None));
        assert_eq!(check("POST", "/healthz", &[]), (405, None));
        assert_eq!(check("GET", "/ws_for_edge_agents", &[("upgrade", "websocket")]), (404, None));
    }

    #[test]
    fn a_faulty_handshake_is_a_bad_request() {
        let without = |name: &str| -> Vec<(&str, &str)> {
            UPGRADE_HEADERS.into_iter().filter(|(it, _)| *it != name).collect()
        };
        let with = |name: &'static str, value: &'static str| {
            let mut headers = without(name);
            headers.push((name, value));
            headers
        };
        let path = v1::AGENT_PATH;
        assert_eq!(check("POST", path, &UPGRADE_HEADERS), (400, None));
        let mut old = request("GET", path, &UPGRADE_HEADERS);
        *old.version_mut() = Version::HTTP_10;
        assert!(matches!(answer(&old, false), Answer::Plain(response) if response.status() == 400));
        assert_eq!(check("GET", path, &without("sec-websocket-version")), (400, None));
        assert_eq!(check("GET", path, &with("sec-websocket-version", "8")), (400, None));
        assert_eq!(check("GET", path, &without("sec-websocket-key")), (400, None));
        for key in ["", "x", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25jZTE="] {
            assert_eq!(check("GET", path, &with("sec-websocket-key", key)), (400, None), "{key}");
        }
    }

    #[test]
    fn the_answer_to_an_upgrade_holds_what_peers_look_for() {
        let Answer::Upgrade(_, Protocol::V1, response) =
            answer(&request("GET", v1::AGENT_PATH, &UPGRADE_HEADERS), false)
        else {
            panic!("no upgrade");
        };
        let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(header("sec-websocket-accept"), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(header("connection"), "Upgrade");
        assert!(header(v1::RELAY_HEADER).starts_with("network-relay/"));
        assert!(!response.headers().contains_key("sec-websocket-extensions"));
    }

    #[test]
    fn the_later_version_is_chosen_where_it_is_offered() {
        let check = |offers: &[&str], expected: Protocol| {
            let mut headers = UPGRADE_HEADERS.to_vec();
            headers.extend(offers.iter().map(|offer| ("sec-websocket-protocol", *offer)));
            let Answer::Upgrade(_, protocol, response) =
                answer(&request("GET", v1::CLIENT_PATH, &headers), false)
            else {
                panic!("no upgrade: {offers:?}");
            };
            assert_eq!(protocol, expected, "{offers:?}");
            let named = response.headers().get(SEC_WEBSOCKET_PROTOCOL);
            let named = named.map(|name| name.to_str().unwrap());
            assert_eq!(named, (expected == Protocol::V2).then_some(v2::SUBPROTOCOL), "{offers:?}");
        };
        check(&[v2::SUBPROTOCOL], Protocol::V2);
        check(&["chat, http-network-relay.v2 ,x"], Protocol::V2);
        check(&["chat", "x,http-network-relay.v2"], Protocol::V2);
        for offers in [&[][..], &["chat"], &["HTTP-network-relay.v2"], &["http-network-relay.v20"]]
        {
            check(offers, Protocol::V1);
        }
    }

    #[test]
    fn a_relay_that_drains_takes_no_links_and_says_when_to_come_back() {
        let Answer::Plain(response) =
            answer(&request("GET", v1::AGENT_PATH, &UPGRADE_HEADERS), true)
        else {
            panic!("upgraded");
        };
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()["retry-after"], "1");
        let health = answer(&request("GET", "/healthz", &[]), true);
        assert!(matches!(health, Answer::Plain(response) if response.status() == 200));
    }
}
