//! What a dialler makes of the answer to its request for a WebSocket.

use std::sync::OnceLock;

use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use transport::dial::{DialError, Upgraded, upgrade};
use transport::url::RelayUrl;

use crate::shell::{Running, connection, without_time};

/// Answers a request with these bytes, in which `{accept}` stands for the right `Sec-WebSocket-Accept`.
///
/// There is an end, a good or a bad one; a bad one is one line, and what is told to others holds nothing of the answer.
pub fn run(data: &[u8]) {
    static URL: OnceLock<RelayUrl> = OnceLock::new();
    let url = URL.get_or_init(|| {
        "wss://user:hunter2@relay.example.org/ws_for_edge_agents".parse().expect("it is a URL")
    });
    let _guard = without_time();
    fastrand::seed(1);
    let (socket, peer) = connection();
    let mut dialling = Running::new(upgrade(socket, url), peer);
    dialling.settle();
    let key = key_in(&dialling.peer.received);
    let answer = replaced(data, b"{accept}", derive_accept_key(key.as_bytes()).as_bytes());
    dialling.peer.send(&answer);
    dialling.settle();
    dialling.finish();
    let upgraded = dialling.output().expect("the server has ended its side, so there is an end");
    match upgraded {
        Ok(Upgraded::Open { read_ahead, headers, .. }) => {
            assert!(answer.ends_with(&read_ahead));
            assert!(headers.contains_key("sec-websocket-accept"));
            assert!(!headers.contains_key("sec-websocket-extensions"));
        }
        // Spec v1, H-14.
        Ok(Upgraded::Redirected(url)) => {
            assert!(url.is_tls() && url.port() > 0 && !url.host().is_empty());
            assert!(url.path_and_query().starts_with('/'));
        }
        Err(error) => check_error(&error, data),
    }
}

fn check_error(error: &DialError, data: &[u8]) {
    let (shown, summary) = (error.to_string(), error.summary());
    for text in [&shown, &summary] {
        assert!(!text.contains(char::is_control) && text.len() < 2000, "{text:?}");
        assert!(!text.contains("hunter2") || says(data, "hunter2"), "{text:?}");
    }
    // Spec v1, A-12.
    assert!(!says(data, CANARY) || !summary.contains(CANARY), "{summary:?}");
}

fn says(data: &[u8], word: &str) -> bool {
    data.windows(word.len()).any(|window| window == word.as_bytes())
}

/// The key of the request.
fn key_in(request: &[u8]) -> String {
    let request = String::from_utf8_lossy(request);
    let key = request.lines().find_map(|line| line.strip_prefix("Sec-Websocket-Key: "));
    key.unwrap_or_else(|| panic!("a request without a key: {request:?}")).to_owned()
}

fn replaced(data: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let Some(at) = data.windows(from.len()).position(|window| window == from) else {
        return data.to_vec();
    };
    [&data[..at], to, &data[at + from.len()..]].concat()
}

/// Answers of servers of all sorts.
pub fn seeds() -> Vec<Vec<u8>> {
    let switching = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Accept: {accept}\r\n";
    let mut answers = vec![
        format!("{switching}http-network-relay: network-relay/0.1.0\r\n\r\n"),
        format!("{switching}\r\n\x01\x02\x03"),
        format!("{switching}Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"),
        format!("{switching}Sec-WebSocket-Protocol: canary\r\n\r\n"),
        "HTTP/1.1 101 Switching Protocols\r\n\r\n".to_owned(),
        "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned(),
        "HTTP/1.1 404 Not Found\r\ncontent-type: application/json\r\ncontent-length: 22\r\n\r\n\
         {\"detail\":\"Not Found\"}"
            .to_owned(),
        "HTTP/1.0 502 Bad Gateway\r\nContent-Type: text/html\r\n\r\n<title>canary \x1b[1m</title>"
            .to_owned(),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\ncanary\r\n0\r\n\r\n".to_owned(),
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 401 Unauthorized\r\n\r\n".to_owned(),
        "SSH-2.0-OpenSSH_9.2\r\n".to_owned(),
        "\x15\x03\x01\x00\x02\x02\x46".to_owned(),
        String::new(),
    ];
    for location in ["/elsewhere", "wss://other.example.org:444/x?y", "http://canary", "//\u{e9}"] {
        answers.push(format!("HTTP/1.1 301 Moved\r\nLocation: {location}\r\n\r\n"));
    }
    answers.into_iter().map(String::into_bytes).collect()
}

/// A word that must not be passed on.
const CANARY: &str = "canary";
