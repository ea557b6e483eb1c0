//! The bytes of v1: what every message looks like, how texts that others recorded are read, and what hostile ones do.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod golden;

use codec::Secret;
use codec::v1::{
    self, AgentStart, AgentToRelay, ClientData, ClientStart, ClientToRelay, ConnectionClose,
    ConnectionReset, ErrorMessage, InitiateConnection, InitiateConnectionError,
    InitiateConnectionOk, KeepAlive, Message, RelayToAgent, RelayToClient, StartOk, StreamData,
};
use proptest::prelude::*;

/// What every message looks like on the wire (M-3).
/// Texts are escaped as M-4 says, and extra fields of a start come last (E-1).
#[test]
fn encoded_bytes() {
    let id = "5c0a3f0e-7a52-4b7e-9d1c-3f6f6a1b2c3d".to_owned();
    let secret = || Secret::from("s".to_owned());
    let data = StreamData { connection_id: id.clone(), data_base64: "aGVsbG8=".into() };
    let client_data = ClientData { data_base64: "aGVsbG8=".into() };
    let mut extra = serde_json::Map::new();
    extra.insert("token".into(), "t".into());
    extra.insert("deep".into(), serde_json::json!([1, { "b": null, "a": 2.5 }]));
    let lines = [
        encoded(&AgentToRelay::Start(AgentStart {
            last_error: Some(None),
            name: Some("agent-1".into()),
            secret: Some(secret()),
            ..AgentStart::default()
        })),
        encoded(&AgentToRelay::Start(AgentStart {
            last_error: Some(Some("\"é\"\n".into())),
            extra,
            ..Default::default()
        })),
        encoded(&AgentToRelay::Start(AgentStart::default())),
        encoded(&AgentToRelay::InitiateConnectionError(InitiateConnectionError {
            message: "no\t\u{1}\u{7f}/\u{2028}".into(),
            connection_id: id.clone(),
        })),
        encoded(&AgentToRelay::InitiateConnectionOk(InitiateConnectionOk {
            connection_id: id.clone(),
        })),
        encoded(&AgentToRelay::TcpData(data.clone())),
        encoded(&AgentToRelay::ConnectionReset(ConnectionReset {
            message: v1::TARGET_CLOSED_MESSAGE.into(),
            connection_id: id.clone(),
        })),
        encoded(&AgentToRelay::KeepAlive(KeepAlive {})),
        encoded(&RelayToAgent::InitiateConnection(InitiateConnection {
            target_ip: "127.0.0.1".into(),
            target_port: 22,
            protocol: v1::PROTOCOL_TCP.into(),
            connection_id: id.clone(),
        })),
        encoded(&RelayToAgent::TcpData(data)),
        encoded(&RelayToAgent::ConnectionClose(ConnectionClose {
            message: v1::CONNECTION_CLOSE_MESSAGE.into(),
            connection_id: id,
        })),
        encoded(&RelayToAgent::KeepAlive(KeepAlive {})),
        encoded(&ClientToRelay::Start(ClientStart {
            connection_target: "agent-1".into(),
            target_ip: "::1".into(),
            target_port: -1,
            protocol: v1::PROTOCOL_TCP.into(),
            secret: secret(),
        })),
        encoded(&ClientToRelay::TcpData(client_data.clone())),
        encoded(&RelayToClient::StartOk(StartOk {})),
        encoded(&RelayToClient::Error(ErrorMessage { message: v1::ERROR_BAD_SECRET.into() })),
        encoded(&RelayToClient::TcpData(client_data)),
    ];
    insta::assert_snapshot!(lines.join("\n"));
}

/// An extra field keeps its value through any number of relays (E-1).
#[test]
fn numbers_are_read_as_they_are_written() {
    for number in ["123456789.12345679", "0.1", "5e-324", "1.7976931348623157e+308", "-0.0"] {
        let text = format!(r#"{{"inner":{{"kind":"start","extra":{number}}}}}"#);
        assert_eq!(v1::encode(&v1::decode::<AgentToRelay>(&text).unwrap()), text);
    }
}

fn encoded<M: Message>(message: &M) -> String {
    format!("{:14} {}", M::NAME, v1::encode(message))
}

/// All recorded verdicts, canonical texts and payloads, but for the listed differences.
#[test]
fn recorded_verdicts() {
    let problems = golden::check();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// Nothing of a peer's text reaches an error or a log, but for a short piece of an unknown kind.
#[test]
fn nothing_leaks() {
    let texts = [
        r#"{"inner":{"kind":"start","name":7,"secret":"hunter2"}}"#,
        r#"{"inner":{"kind":"start","name":"n","secret":["hunter2"]}}"#,
        r#"{"inner":{"kind":"start","last_error":{"hunter2":1},"secret":"hunter2"}}"#,
        r#"{"inner":{"kind":"tcp_data","connection_id":{"hunter2":"hunter2"},"data_base64":"hunter2"}}"#,
        r#"{"inner":{"kind":"start","secret":"hunter2"}"#,
        r#"{"inner":{"kind":"start","secret":"hunter2","#,
        r#"{"kind":"start","secret":"hunter2"}"#,
        r#""hunter2""#,
    ];
    for text in texts {
        let error = v1::decode::<AgentToRelay>(text).unwrap_err();
        assert_hidden(&format!(
            "{error} {error:?} {:?}",
            std::error::Error::source(&error).map(ToString::to_string)
        ));
    }
    for port in [r#""hunter2""#, r#"["hunter2"]"#, r#"{"hunter2":1}"#, "1.25"] {
        let text = format!(
            r#"{{"inner":{{"kind":"start","connection_target":"","target_ip":"","target_port":{port},"protocol":"","secret":""}}}}"#
        );
        let error = v1::decode::<ClientToRelay>(&text).unwrap_err();
        assert_hidden(&format!(
            "{error} {error:?} {:?}",
            std::error::Error::source(&error).map(ToString::to_string)
        ));
    }
    let good = r#"{"inner":{"kind":"start","last_error":null,"name":"n","secret":"hunter2","token":"hunter2"}}"#;
    assert_hidden(&format!("{:?}", v1::decode::<AgentToRelay>(good).unwrap()));
    let good = r#"{"inner":{"kind":"tcp_data","connection_id":"c","data_base64":"hunter2A"}}"#;
    assert_hidden(&format!("{:?}", v1::decode::<RelayToAgent>(good).unwrap()));
    assert_hidden(&format!("{:?}", v1::data::scan_agent(good).unwrap()));
}

fn assert_hidden(text: &str) {
    assert!(!text.contains("hunter2"), "{text}");
    assert!(!text.contains("1.25"), "{text}");
}

#[test]
fn errors_say_what_is_wrong() {
    let lines: Vec<String> = [
        "",
        "[]",
        "{}",
        r#"{"inner":[]}"#,
        r#"{"inner":{}}"#,
        r#"{"inner":{"kind":7}}"#,
        "{\"inner\":{\"kind\":\"sp\u{e9}cial\\n kind that is long and goes on for quite a while\"}}",
        r#"{"inner":{"kind":"tcp_data","connection_id":"c"}}"#,
        r#"{"inner":{"kind":"tcp_data","connection_id":"c","data_base64":null}}"#,
        r#"{"inner":{"kind":"start","name":null}}"#,
    ]
    .iter()
    .map(|text| {
        let error = v1::decode::<AgentToRelay>(text).unwrap_err();
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        format!("{error}{cause}")
    })
    .collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn unknown_kinds_are_told_apart() {
    let verdict = |text| v1::decode::<RelayToAgent>(text).unwrap_err().is_unknown_kind();
    assert!(verdict(r#"{"inner":{"kind":"hello"}}"#));
    assert!(verdict(r#"{"inner":{"kind":"start_ok"}}"#));
    assert!(!verdict(r#"{"inner":{"kind":"tcp_data"}}"#));
    assert!(!verdict(r#"{"kind":"hello"}"#));
    assert!(!verdict("hello"));
}

/// The bounds of L-6 and L-7, from both sides.
#[test]
fn bounds_of_work() {
    let nested = |levels: usize| {
        let lists = levels - 2;
        format!(
            r#"{{"inner":{{"kind":"keep_alive","x":{}{}}}}}"#,
            "[".repeat(lists),
            "]".repeat(lists)
        )
    };
    assert!(v1::decode::<AgentToRelay>(&nested(v1::MAX_DEPTH)).is_ok());
    assert!(v1::decode::<AgentToRelay>(&nested(v1::MAX_DEPTH + 1)).is_err());

    // the outer object, the inner one, the kind and the list are four more values; the comma in the key is none
    let listed = |items: usize| {
        format!(r#"{{"inner":{{"kind":"keep_alive","x,":[{}1]}}}}"#, "1, ".repeat(items - 1))
    };
    assert!(v1::decode::<AgentToRelay>(&listed(v1::MAX_VALUES - 4)).is_ok());
    let error = v1::decode::<AgentToRelay>(&listed(v1::MAX_VALUES - 3)).unwrap_err();
    assert!(matches!(error, codec::DecodeError::TooManyValues));

    // what stands in a text does not count
    let quoted = ",[{\\\"".repeat(v1::MAX_VALUES);
    let text = format!(r#"{{"inner":{{"kind":"error","message":"{quoted}"}}}}"#);
    assert!(v1::decode::<RelayToClient>(&text).is_ok());
}

/// Texts made to hurt end in an error, quickly and without a panic.
#[test]
fn hostile_texts() {
    let size = 1 << 20;
    for text in [
        "[".repeat(size),
        "{\"a\":".repeat(size / 5),
        "\"".repeat(size),
        "\\".repeat(size),
        format!("\"{}", "\\".repeat(size)),
        "1".repeat(size),
        format!("{{\"inner\":{{\"kind\":\"{}\"}}}}", "k".repeat(size)),
        format!("{{\"inner\":{{{}\"kind\":1}}}}", "\"kind\":\"start\",".repeat(size / 16)),
        format!("-{}e{}", "9".repeat(size), "9".repeat(size)),
        "\u{0}".repeat(size),
        "{\"inner\":".to_owned(),
        " ".repeat(size),
    ] {
        assert_refused_everywhere(&text);
    }
}

fn assert_refused_everywhere(text: &str) {
    assert!(v1::decode::<AgentToRelay>(text).is_err());
    assert!(v1::decode::<RelayToAgent>(text).is_err());
    assert!(v1::decode::<ClientToRelay>(text).is_err());
    assert!(v1::decode::<RelayToClient>(text).is_err());
}

/// Reads and, if that works, writes; the point is that nothing panics and that what was written reads the same.
fn exercise<M: Message>(text: &str) {
    if let Ok(message) = v1::decode::<M>(text) {
        let written = v1::encode(&message);
        let again = v1::decode::<M>(&written).expect("what was written can be read");
        assert_eq!(v1::encode(&again), written);
    }
}

proptest! {
    /// Recorded texts with a few bytes changed, cut out or doubled.
    #[test]
    fn perturbed_texts_never_panic(
        row in 0..golden::rows().len(), place in any::<prop::sample::Index>(), length in 0usize..8, bytes in ".{0,6}",
    ) {
        let input = &golden::rows()[row].input;
        let mut chars: Vec<char> = input.chars().take(4096).collect();
        let start = place.index(chars.len() + 1);
        let end = chars.len().min(start + length);
        chars.splice(start..end, bytes.chars());
        let text: String = chars.into_iter().collect();
        exercise::<AgentToRelay>(&text);
        exercise::<RelayToAgent>(&text);
        exercise::<ClientToRelay>(&text);
        exercise::<RelayToClient>(&text);
    }
}
