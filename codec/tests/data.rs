//! The fast paths of data messages do what the JSON path does.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "data/agree.rs"]
mod agree;

use agree::{check_reading, check_writing};
use codec::v1::{base64, data};
use proptest::prelude::*;

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
