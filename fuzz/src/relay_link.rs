//! One connection to a relay, from its first byte of HTTP to its end.

use codec::v1::{self, RelayToAgent, RelayToClient};
use relay::Relay;
use relay::auth::Credentials;

use crate::shell::{Running, connection, without_time};

/// Reads the first byte as what the connection begins with, and the others as what follows.
///
/// - 0: nothing, so that the others are HTTP.
/// - 1, 2: the upgrade of an agent or a client; the others are WebSocket frames.
/// - 3, 4: the same; each line of the others is a text in a frame of its own.
///
/// Meanwhile an agent is connected that takes whatever comes. Whatever is sent, the relay answers in sound HTTP and
/// sound frames, with messages of the right direction; and when the peer has ended its side, so does the relay.
pub fn run(data: &[u8]) {
    let Some((kind, data)) = data.split_first() else { return };
    let _guard = without_time();
    let credentials = Credentials::from_json(CREDENTIALS).expect("they are well-formed");
    let relay = Relay::new(credentials);

    let (socket, peer) = connection();
    let mut agent = Running::new(relay.serve_connection(socket, std::future::pending()), peer);
    agent.peer.send(upgrade(v1::AGENT_PATH).as_bytes());
    agent.settle();
    agent.peer.send(&frame(TEXT, AGENT_START.as_bytes()));
    agent.settle();

    let (socket, peer) = connection();
    let mut link = Running::new(relay.serve_connection(socket, std::future::pending()), peer);
    let path = match kind % 5 {
        1 | 3 => Some(v1::AGENT_PATH),
        2 | 4 => Some(v1::CLIENT_PATH),
        _ => None,
    };
    if let Some(path) = path {
        link.peer.send(upgrade(path).as_bytes());
        link.settle();
    }
    if kind % 5 < 3 {
        link.peer.send(data);
    } else {
        for line in data.split(|byte| *byte == b'\n') {
            link.peer.send(&frame(TEXT, line));
        }
    }
    while link.settle() | agent.settle() {}
    link.finish();
    while agent.settle() | link.settle() {}

    let answered = after_http(&link.peer.received);
    let is_client = path.is_none_or(|path| path == v1::CLIENT_PATH);
    let is_agent = path.is_none_or(|path| path == v1::AGENT_PATH);
    check_frames(answered.unwrap_or_default(), is_agent, is_client);
    check_frames(after_http(&agent.peer.received).expect("the upgrade is sound"), true, false);
    // One that asks for the name of the other waits for that to show that it lives, which takes time.
    assert!(link.is_over() || is_agent, "the relay keeps a connection whose peer is gone");
    agent.peer.close();
    agent.settle();
    assert!(agent.is_over(), "the relay keeps a connection that is gone");
}

/// What comes behind the answer to an upgrade, if that is what the relay answered in the end.
fn after_http(received: &[u8]) -> Option<&[u8]> {
    let mut rest = received;
    while !rest.is_empty() {
        let end = rest.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&rest[..end]);
        let status = head.strip_prefix("HTTP/1.1 ").or(head.strip_prefix("HTTP/1.0 "));
        let status = status.unwrap_or_else(|| panic!("no HTTP: {head:?}")).get(..3);
        // Spec v1, H-6 to H-11 and H-17.
        let known = ["101", "200", "400", "403", "404", "405", "408", "414", "431"];
        assert!(status.is_some_and(|status| known.contains(&status)), "{head}");
        rest = &rest[end + 4..];
        if status == Some("101") {
            assert!(head.to_lowercase().contains("sec-websocket-accept: "), "{head}");
            return Some(rest);
        }
        let length = head.lines().find_map(|line| {
            line.to_lowercase().strip_prefix("content-length: ")?.parse::<usize>().ok()
        });
        // The answer to HEAD has none of the body that it tells the length of.
        let body = rest.len().min(length.unwrap_or(0));
        rest = if rest.starts_with(b"HTTP/1.") { rest } else { &rest[body..] };
    }
    None
}

/// Frames of a relay: whole texts that are messages, pings, pongs, and at most one close frame, which is the last.
fn check_frames(mut bytes: &[u8], to_agent: bool, to_client: bool) {
    let mut refused = false;
    while let [first, second, rest @ ..] = bytes {
        let (size, rest) = match second {
            126 => (usize::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
            127 => panic!("a frame that is longer than anything that was sent"),
            short => (usize::from(*short), rest),
        };
        assert!(size < 128 * 1024, "a frame that is masked, or too long");
        let (payload, rest) = rest.split_at(size);
        match first {
            0x81 => {
                let text = std::str::from_utf8(payload).expect("texts are UTF-8");
                let for_client = v1::decode::<RelayToClient>(text).ok().filter(|_| to_client);
                let for_agent = v1::decode::<RelayToAgent>(text).is_ok() && to_agent;
                assert!((for_client.is_some() || for_agent) && !refused, "{text}");
                // Spec v1, C-6.
                refused = matches!(for_client, Some(RelayToClient::Error(_)));
            }
            0x88 => {
                let code = payload.get(..2).map(|code| u16::from_be_bytes([code[0], code[1]]));
                let reason = std::str::from_utf8(payload.get(2..).unwrap_or_default());
                assert!(reason.is_ok_and(|reason| !reason.contains(char::is_control)));
                assert!(code.is_none_or(|code| code >= 1000), "{code:?}");
                assert!(rest.is_empty(), "something follows the close frame");
            }
            0x89 | 0x8a => assert!(size <= 125),
            other => panic!("a frame that begins with {other:#x}"),
        }
        bytes = rest;
    }
    assert!(bytes.is_empty(), "a part of a frame");
}

/// A frame as a client sends it; its mask changes nothing.
fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | kind];
    match u16::try_from(payload.len()) {
        #[allow(clippy::cast_possible_truncation, reason = "it is below 126")]
        Ok(size) if size < 126 => frame.push(0x80 | size as u8),
        Ok(size) => {
            frame.push(0x80 | 126);
            frame.extend(size.to_be_bytes());
        }
        Err(_) => {
            frame.push(0x80 | 127);
            frame.extend((payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

fn upgrade(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\n{UPGRADE}\r\n")
}

/// Requests of all sorts, frames of all sorts, and the messages of agents and clients.
pub fn seeds() -> Vec<Vec<u8>> {
    let with = |kind: u8, bytes: &[u8]| [&[kind], bytes].concat();
    let mut inputs = vec![
        with(0, upgrade(v1::AGENT_PATH).as_bytes()),
        with(0, upgrade("/ws%5Ffor_access_clients?x").as_bytes()),
        with(0, upgrade("/elsewhere").as_bytes()),
        with(
            0,
            b"GET /healthz HTTP/1.1\r\n\r\nHEAD /healthz HTTP/1.1\r\n\r\nGET / HTTP/1.0\r\n\r\n",
        ),
        with(0, upgrade(v1::CLIENT_PATH).replace("GET", "POST").as_bytes()),
        with(0, upgrade(v1::CLIENT_PATH).replace(": 13", ": 8").as_bytes()),
        with(0, upgrade(v1::CLIENT_PATH).replace("==", "").as_bytes()),
        with(0, b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
        with(0, b"\x16\x03\x01"),
    ];
    let agent = AGENT_START.replace("held", "free");
    let client = r#"{"inner":{"kind":"start","connection_target":"held","target_ip":"h","target_port":22,"protocol":"tcp","secret":"s"}}"#;
    let data = v1::data::encode_client(b"hello");
    for start in [AGENT_START, &agent] {
        inputs.push(with(3, start.as_bytes()));
        inputs.push(with(1, &frame(TEXT, start.as_bytes())));
    }
    for start in [client, &client.replace("held", "free"), &client.replace(r#""s""#, r#""t""#)] {
        inputs.push(with(4, format!("{start}\n{data}").as_bytes()));
        inputs.push(with(2, &[frame(TEXT, start.as_bytes()), frame(8, b"\x03\xe8")].concat()));
    }
    // Fragments, a ping between them, and frames that break a rule.
    let parts: [&[u8]; 6] = [
        &[frame(1, b"")[0] & 0x7f, 0x81, 0, 0, 0, 0, b'{'],
        &frame(9, b"ping"),
        &frame(0, b"}"),
        &frame(2, b"{}"),
        &frame(3, b""),
        &[0x81, 1, b'x'],
    ];
    for kind in [1, 2] {
        inputs.push(with(kind, &parts.concat()));
        inputs.extend(parts.iter().map(|part| with(kind, part)));
    }
    inputs
}

/// Begins a text frame.
const TEXT: u8 = 1;

/// The headers of an upgrade.
const UPGRADE: &str = "Host: r\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n";

const CREDENTIALS: &str =
    r#"{"edge-agents":{"held":"s","free":"s"},"access-client-secrets":["s"]}"#;

const AGENT_START: &str =
    r#"{"inner":{"kind":"start","last_error":null,"name":"held","secret":"s"}}"#;
