//! The fast paths of data messages do what the JSON path does.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use codec::v1::{
    self, AgentToRelay, ClientData, ClientToRelay, RelayToAgent, RelayToClient, StreamData, base64,
    data,
};
use proptest::prelude::*;

/// What the JSON path reads from a text of the agent link: the stream and the base64.
fn parsed_agent(text: &str) -> Option<(String, String)> {
    let read = match v1::decode::<AgentToRelay>(text) {
        Ok(AgentToRelay::TcpData(data)) => Some((data.connection_id, data.data_base64)),
        _ => None,
    };
    let other_way = match v1::decode::<RelayToAgent>(text) {
        Ok(RelayToAgent::TcpData(data)) => Some((data.connection_id, data.data_base64)),
        _ => None,
    };
    assert_eq!(read, other_way);
    read
}

/// What the JSON path reads from a text of the client link: the base64.
fn parsed_client(text: &str) -> Option<String> {
    let read = match v1::decode::<ClientToRelay>(text) {
        Ok(ClientToRelay::TcpData(data)) => Some(data.data_base64),
        _ => None,
    };
    let other_way = match v1::decode::<RelayToClient>(text) {
        Ok(RelayToClient::TcpData(data)) => Some(data.data_base64),
        _ => None,
    };
    assert_eq!(read, other_way);
    read
}

/// Whatever a fast path returns, the JSON path returns, too.
fn check_reading(text: &str) {
    let scanned = data::scan_agent(text);
    let mut bytes = b"kept".to_vec();
    let read = data::read_agent(text, &mut bytes);
    assert_eq!(scanned.map(|data| data.connection_id), read);
    if let Some(data) = scanned {
        assert_eq!(
            parsed_agent(text),
            Some((data.connection_id.to_owned(), data.base64.to_owned()))
        );
        check_payload(data.base64, &bytes);
    } else {
        assert_eq!(bytes, b"kept");
    }

    let scanned = data::scan_client(text);
    let mut bytes = b"kept".to_vec();
    let read = data::read_client(text, &mut bytes);
    assert_eq!(scanned.is_some(), read.is_some());
    if let Some(base64) = scanned {
        assert_eq!(parsed_client(text).as_deref(), Some(base64));
        check_payload(base64, &bytes);
    } else {
        assert_eq!(bytes, b"kept");
    }
}

fn check_payload(text: &str, kept_and_bytes: &[u8]) {
    assert!(base64::is_canonical(text));
    let mut expected = b"kept".to_vec();
    base64::decode_append(text, &mut expected).unwrap();
    assert_eq!(kept_and_bytes, expected);
    assert_eq!(base64::encode(&expected[4..]), text);
}

/// Both ways of writing a message agree, and what they wrote takes the fast path unless the stream's name is odd.
fn check_writing(connection_id: &str, payload: &[u8]) {
    let encoded = base64::encode(payload);
    let stream =
        StreamData { connection_id: connection_id.to_owned(), data_base64: encoded.clone() };
    let text = data::encode_agent(connection_id, payload);
    assert_eq!(text, v1::encode(&AgentToRelay::TcpData(stream.clone())));
    assert_eq!(text, v1::encode(&RelayToAgent::TcpData(stream)));
    assert_eq!(text, data::wrap_agent(connection_id, &encoded));
    assert_eq!(parsed_agent(&text), Some((connection_id.to_owned(), encoded.clone())));
    let plain = !connection_id.contains(|c: char| c == '"' || c == '\\' || c < ' ');
    assert_eq!(data::scan_agent(&text).is_some(), plain);
    check_reading(&text);

    let client = ClientData { data_base64: encoded.clone() };
    let text = data::encode_client(payload);
    assert_eq!(text, v1::encode(&ClientToRelay::TcpData(client.clone())));
    assert_eq!(text, v1::encode(&RelayToClient::TcpData(client)));
    assert_eq!(text, data::wrap_client(&encoded));
    assert_eq!(data::scan_client(&text), Some(encoded.as_str()));
    check_reading(&text);
}

#[test]
fn payloads_of_every_remainder() {
    for length in (0..200).chain([1023, 1024, 65_535, 65_536, 100_000]) {
        let payload: Vec<u8> = (0..length).map(|i: usize| (i * 31 % 256) as u8).collect();
        check_writing("5c0a3f0e-7a52-4b7e-9d1c-3f6f6a1b2c3d", &payload);
    }
}

#[test]
fn other_spellings_are_left_to_the_parser() {
    let good = data::encode_agent("c", b"hello");
    assert!(data::scan_agent(&good).is_some());
    for (from, to) in [
        (":\"c\"", ": \"c\""),
        ("{\"kind\"", "{ \"kind\""),
        ("\"c\"", "\"\\u0063\""),
        ("aGVsbG8=", "aGVsbG8"),
        ("aGVsbG8=", "aGVs\\nbG8="),
        ("aGVsbG8=", "aGVsbG9="),
        ("aGVsbG8=", "aGVs\nbG8="),
        ("aGVsbG8=", "aGVsbG8=\",\"data_base64\":\"AAAA"),
        ("aGVsbG8=", "aGVsbG8=\",\"more\":\""),
        ("\"}}", "\"} }"),
        ("\"}}", "\",\"more\":1}}"),
        ("\"}}", "\"}} "),
        ("\"}}", "\"}}}"),
        ("tcp_data", "tcp_Data"),
        ("\"c\"", "\"c\",\"connection_id\":\"d\""),
    ] {
        let text = good.replacen(from, to, 1);
        assert_ne!(text, good);
        assert_eq!(data::scan_agent(&text), None, "{text}");
        check_reading(&text);
    }
    // a control character would be refused by the parser, so no fast path may read it
    assert_eq!(data::scan_agent(&good.replacen("\"c\"", "\"c\t\"", 1)), None);
}

proptest! {
    #[test]
    fn writing(connection_id in any::<String>(), payload in prop::collection::vec(any::<u8>(), 0..300)) {
        check_writing(&connection_id, &payload);
    }

    /// Texts that are nearly in the usual spelling: pieces of it in the right order, with something else here and there.
    #[test]
    fn reading_near_the_usual_spelling(
        pieces in prop::collection::vec(0usize..NEAR.len(), 0..4),
        places in prop::collection::vec(any::<prop::sample::Index>(), 4),
        cut in 0usize..3,
        connection_id in "[a-f0-9\"\\\\é-]{0,6}",
        payload in prop::collection::vec(any::<u8>(), 0..12),
        agent in any::<bool>(),
    ) {
        let text = if agent { data::wrap_agent(&connection_id, &base64::encode(&payload)) } else { data::encode_client(&payload) };
        let mut chars: Vec<char> = text.chars().collect();
        for (piece, place) in pieces.iter().zip(places) {
            let start = place.index(chars.len() + 1);
            let end = chars.len().min(start + cut);
            chars.splice(start..end, NEAR[*piece].chars());
        }
        check_reading(&chars.into_iter().collect::<String>());
    }

    #[test]
    fn base64_of_anything(text in "[ -~\n\u{e9}]{0,24}", kept in prop::collection::vec(any::<u8>(), 0..4)) {
        let mut out = kept.clone();
        match base64::decode_append(&text, &mut out) {
            Ok(()) => prop_assert!(out.starts_with(&kept)),
            Err(_) => prop_assert_eq!(&out, &kept),
        }
        prop_assert_eq!(base64::is_canonical(&text), out.len() >= kept.len() && base64::encode(&out[kept.len()..]) == text);
    }
}

/// What is put into texts to make them nearly right.
const NEAR: &[&str] = &[
    "\"",
    "\\",
    "\\\"",
    "\\u0041",
    "=",
    "==",
    "A",
    "AAAA",
    " ",
    "\n",
    "\u{0}",
    "é",
    ",",
    ":",
    "{",
    "}",
    "\"}}",
    "-_",
    "\",\"data_base64\":\"",
    "\",\"connection_id\":\"",
    "\"kind\":\"tcp_data\",",
    "\"inner\":",
    "null",
];
