//! The bytes of v2: what every message and frame looks like, what limits there are, and what hostile texts do.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use codec::v2::{
    self, Code, Control, Credit, Custom, Done, Finish, Goaway, Hello, Interrupted, Open, Opened,
    Reject, Reset, Resume, Role, Welcome, data,
};
use codec::{DecodeError, Secret};
use proptest::prelude::*;
use serde_json::json;

const ID: &str = "5c0a3f0e-7a52-4b7e-9d1c-3f6f6a1b2c3d";

/// One of every message, with everything that may be absent; and then without.
fn messages() -> Vec<Control> {
    let hello = Hello {
        role: Role::Agent,
        name: "agent-1".into(),
        secret: Secret::from("s".to_owned()),
        instance: "i".into(),
        software: "x 1".into(),
        last_error: Some("\"é\"\n\u{1}\u{7f}/\u{2028}".into()),
        extra: json!({ "b": [1, null], "a": 2.5 }).as_object().cloned(),
    };
    let open = Open {
        stream: 1,
        id: ID.into(),
        attempt: 1,
        agent: "agent-1".into(),
        host: "::1".into(),
        port: 22,
        protocol: v2::PROTOCOL_TCP.into(),
        limit: v2::INITIAL_WINDOW,
        principal: Some("p".into()),
    };
    let resume = Resume {
        stream: u32::MAX,
        id: ID.into(),
        attempt: u32::MAX,
        agent: "agent-1".into(),
        received: v2::MAX_INTEGER,
        consumed: v2::MAX_INTEGER - 1,
        limit: v2::MAX_INTEGER,
        principal: Some("p".into()),
    };
    let reject = Reject { code: Code::GoingAway, message: "m".into(), retry_after_ms: Some(1) };
    let interrupted =
        Interrupted { stream: 1, code: Some(Code::AgentOffline), message: Some("m".into()) };
    vec![
        Control::Hello(hello.clone()),
        Control::Hello(Hello { role: Role::Client, last_error: None, extra: None, ..hello }),
        Control::Welcome(Welcome {
            software: "x 1".into(),
            max_streams: 1,
            max_data: 65_536,
            max_window: 262_144,
            resume_for_ms: 0,
        }),
        Control::Reject(reject.clone()),
        Control::Reject(Reject { retry_after_ms: None, ..reject }),
        Control::Open(open.clone()),
        Control::Open(Open { principal: None, ..open }),
        Control::Resume(resume.clone()),
        Control::Resume(Resume { principal: None, ..resume }),
        Control::Opened(Opened { stream: 1, received: 3, consumed: 2, limit: 4 }),
        Control::Credit(Credit { stream: 1, consumed: 2, limit: 4 }),
        Control::Finish(Finish { stream: 1, offset: v2::MAX_INTEGER - 1 }),
        Control::Reset(Reset { stream: 1, code: Code::PeerReset, message: "m".into() }),
        Control::Done(Done { stream: 1 }),
        Control::Interrupted(interrupted),
        Control::Interrupted(Interrupted { stream: 1, code: None, message: None }),
        Control::Goaway(Goaway { message: "m".into(), reconnect_after_ms: 600_000 }),
        Control::Custom(Custom { name: "n".into(), body: json!({ "z": [true, null], "a": -1 }) }),
    ]
}

/// What every message looks like on the wire (FR-1, FR-3): `kind` first, and what is absent left out.
#[test]
fn encoded_bytes() {
    let lines: Vec<String> = messages().iter().map(v2::encode).collect();
    insta::assert_snapshot!(lines.join("\n"));
    for (message, line) in messages().iter().zip(lines) {
        let read: Control = v2::decode(&line).unwrap();
        assert_eq!(v2::encode(&read), line);
        assert_eq!(v2::Message::kind(&read), v2::Message::kind(message));
    }
}

/// Every code is read and written as its text (ER-1).
#[test]
fn codes_and_roles() {
    for code in Code::ALL {
        let text = format!(r#"{{"kind":"reset","stream":1,"code":"{code}","message":""}}"#);
        let Control::Reset(reset) = v2::decode(&text).unwrap() else { panic!("{text}") };
        assert_eq!((reset.code, reset.code.as_str()), (*code, code.to_string().as_str()));
    }
    assert_eq!(Code::ALL.len(), 16);
    let roles: Vec<&str> = Role::ALL.iter().map(|role| role.as_str()).collect();
    assert_eq!(roles, ["agent", "client", "relay"]);
}

/// What a reader takes beyond what a writer writes (FR-4), and no more.
#[test]
fn tolerance() {
    let canonical = r#"{"kind":"credit","stream":1,"consumed":2,"limit":3}"#;
    for text in [
        canonical,
        r#" { "limit" : 3 , "consumed":2,"stream":1,"kind":"credit" } "#,
        r#"{"kind":"credit","stream":1,"consumed":2,"limit":3,"more":{"x":[null]}}"#,
        r#"{"kind":"done","kind":"credit","stream":9,"consumed":2,"limit":3,"stream":1}"#,
        r#"{"\u006bind":"cr\u0065dit","stream":1,"consumed":2,"limit":3}"#,
    ] {
        let message: Control = v2::decode(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert_eq!(v2::encode(&message), canonical);
    }
    for number in ["1.0", "1e0", "true", "\"1\"", "null", "-0", "18446744073709551616"] {
        let text = canonical.replace(":1,", &format!(":{number},"));
        assert!(v2::decode::<Control>(&text).is_err(), "{text}");
    }
}

/// The bounds of FR-2 and FR-4, from both sides, and those of FR-5 and FR-6 that every schema has.
#[test]
fn bounds_of_work() {
    let padded = |length: usize| {
        let text = v2::encode(&Control::Done(Done { stream: 1 }));
        format!("{text}{}", " ".repeat(length - text.len()))
    };
    assert!(v2::decode::<Control>(&padded(v2::MAX_CONTROL)).is_ok());
    let error = v2::decode::<Control>(&padded(v2::MAX_CONTROL + 1)).unwrap_err();
    assert!(matches!(error, DecodeError::TooLong { bytes: 16_385, max: 16_384 }));

    let nested = |levels: usize| {
        let lists = levels - 1;
        let body = format!("{}{}", "[".repeat(lists), "]".repeat(lists));
        format!(r#"{{"kind":"custom","name":"x","body":{body}}}"#)
    };
    assert!(v2::decode::<Control>(&nested(v2::MAX_DEPTH)).is_ok());
    assert!(v2::decode::<Control>(&nested(v2::MAX_DEPTH + 1)).is_err());
}

/// Whatever the names and texts for people hold, a message with all of them at their longest is short enough, but for
/// what has no bound of its own: secret, `extra` and `body`.
#[test]
fn bounded_fields_fit_a_message() {
    let name = "\u{1}".repeat(v2::MAX_NAME);
    let text = "\u{1}".repeat(v2::MAX_MESSAGE_TEXT);
    for message in messages() {
        let message = match message {
            Control::Hello(hello) => Control::Hello(Hello {
                name: name.clone(),
                instance: "\u{1}".repeat(64),
                software: name.clone(),
                last_error: Some(text.clone()),
                extra: None,
                ..hello
            }),
            Control::Open(open) => Control::Open(Open {
                agent: name.clone(),
                host: name.clone(),
                protocol: name.clone(),
                principal: Some(name.clone()),
                ..open
            }),
            Control::Reset(reset) => Control::Reset(Reset { message: text.clone(), ..reset }),
            other => other,
        };
        let text = v2::encode(&message);
        assert!(v2::decode::<Control>(&text).is_ok(), "{} bytes", text.len());
    }
}

/// Nothing secret reaches an error or a log, and an id is not shown whole (TR-4).
#[test]
fn nothing_leaks() {
    for text in [
        r#"{"kind":"hello","role":"agent","name":"n","secret":["hunter2"],"instance":"i","software":""}"#,
        r#"{"kind":"hello","role":"hunter2","name":"n","secret":"hunter2","instance":"i","software":""}"#,
        r#"{"kind":"hello","secret":"hunter2"}"#,
        r#"{"kind":"hello","secret":"hunter2""#,
        r#"{"kind":"reset","stream":1,"code":"hunter2","message":""}"#,
        r#"{"kind":"open","stream":1,"id":"hunter2"}"#,
    ] {
        let error = v2::decode::<Control>(text).unwrap_err();
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        assert_hidden(&format!("{error} {error:?} {cause:?}"));
    }
    for text in [
        r#"{"kind":"hello","role":"agent","name":"n","secret":"hunter2","instance":"i","software":"","extra":{"token":"hunter2"}}"#,
        r#"{"kind":"custom","name":"n","body":{"hunter2":"hunter2"}}"#,
    ] {
        assert_hidden(&format!("{:?}", v2::decode::<Control>(text).unwrap()));
    }
    for message in messages() {
        assert!(!format!("{message:?}").contains(ID), "{message:?}");
    }
}

fn assert_hidden(text: &str) {
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn errors_say_what_is_wrong() {
    let lines: Vec<String> = [
        "",
        "[]",
        "{}",
        r#"{"kind":"keep_alive"}"#,
        r#"{"kind":"done"}"#,
        r#"{"kind":"done","stream":0}"#,
        r#"{"kind":"done","stream":4294967296}"#,
        r#"{"kind":"done","stream":-1}"#,
        r#"{"kind":"reset","stream":1,"code":"tired","message":""}"#,
        r#"{"kind":"interrupted","stream":1,"code":null}"#,
        r#"{"kind":"open","stream":1,"id":"x"}"#,
        r#"{"kind":"goaway","message":"","reconnect_after_ms":600001}"#,
        r#"{"kind":"custom","name":"x"}"#,
        &" ".repeat(v2::MAX_CONTROL + 1),
    ]
    .iter()
    .map(|text| {
        let error = v2::decode::<Control>(text).unwrap_err();
        let cause = std::error::Error::source(&error);
        format!("{error}{}", cause.map(|cause| format!(": {cause}")).unwrap_or_default())
    })
    .collect();
    insta::assert_snapshot!(lines.join("\n"));
}

/// Texts made to hurt end in an error, quickly and without a panic.
#[test]
fn hostile_texts() {
    for size in [v2::MAX_CONTROL / 16, 1 << 20] {
        for text in [
            "[".repeat(size),
            "{\"a\":".repeat(size / 5),
            "\"".repeat(size),
            "1".repeat(size),
            format!("{{\"kind\":\"{}\"}}", "k".repeat(size)),
            format!("{{{}\"kind\":1}}", "\"kind\":\"done\",".repeat(size / 16)),
            format!("-{}e{}", "9".repeat(size), "9".repeat(size)),
            format!("{{\"kind\":\"done\",\"stream\":{}}}", "9".repeat(size)),
            "\u{0}".repeat(size),
        ] {
            assert!(v2::decode::<Control>(&text).is_err());
        }
    }
}

/// The header of a data frame (FR-7): the number, most significant byte first.
#[test]
fn frames_of_data() {
    assert_eq!(data::header(1), [0, 0, 0, 1]);
    assert_eq!(data::header(0x0102_0304), [1, 2, 3, 4]);
    assert_eq!(data::split(&[1, 2, 3, 4, 5]), Some((0x0102_0304, &[5][..])));
    assert_eq!(data::split(&[0; 4]), Some((0, &[][..])));
    for length in 0..data::HEADER_BYTES {
        assert_eq!(data::split(&[7; 4][..length]), None);
    }
}

proptest! {
    /// A relay's work: the number changes, and nothing else (RL-1).
    #[test]
    fn a_number_is_rewritten_in_place(
        stream in any::<u32>(), other in any::<u32>(), payload in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let mut frame = data::header(stream).to_vec();
        frame.extend(&payload);
        prop_assert_eq!(data::split(&frame), Some((stream, &payload[..])));
        data::set_stream(&mut frame, other);
        prop_assert_eq!(data::split(&frame), Some((other, &payload[..])));
        let short = &mut frame[..data::HEADER_BYTES - 1];
        let before = short.to_vec();
        data::set_stream(short, stream);
        prop_assert_eq!(&*short, &before[..]);
    }

    /// Texts of messages with a few characters changed, cut out or put in.
    #[test]
    fn perturbed_texts_never_panic(
        which in any::<prop::sample::Index>(), place in any::<prop::sample::Index>(), length in 0usize..8,
        characters in ".{0,6}",
    ) {
        let messages = messages();
        let text = v2::encode(which.get(&messages));
        let mut chars: Vec<char> = text.chars().collect();
        let start = place.index(chars.len() + 1);
        let end = chars.len().min(start + length);
        chars.splice(start..end, characters.chars());
        let text: String = chars.into_iter().collect();
        if let Ok(message) = v2::decode::<Control>(&text) {
            let written = v2::encode(&message);
            let again: Control = v2::decode(&written).unwrap();
            prop_assert_eq!(v2::encode(&again), written);
        }
    }
}
