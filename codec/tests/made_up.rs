//! The generator on a specification of its own: nothing in it knows v1.
//!
//! `made_up/generated.rs` is generated like the codec's own modules and compiled here; `generated_is_fresh` keeps it
//! up to date.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use codec::{Secret, fields, message};
use message::{decode, encode};
use serde_json::json;

#[rustfmt::skip]
#[path = "made_up/generated.rs"]
#[allow(dead_code, unreachable_pub, reason = "what is generated for a crate is more than a test needs")]
mod generated;

use generated::{Bill, Dish, Mood, Order, Photo, Review, tray};

fn dish() -> Dish {
    Dish {
        number: 400,
        name: Some("naïve soup".into()),
        offset: -12,
        grams: u64::MAX,
        note: None,
        hot: true,
        table: Some(None),
        extra: json!({ "z": 1, "a": [] }).as_object().cloned().unwrap_or_default(),
    }
}

const VISIT: &str = "5c0a3f0e-7a52-4b7e-9d1c-3f6f6a1b2c3d";

fn review() -> Review {
    Review {
        visit: VISIT.into(),
        earlier: None,
        mood: Mood::NotQuiteSure,
        expected: None,
        praise: Default::default(),
        blame: None,
        word: json!(null),
        aside: None,
    }
}

#[test]
fn messages_without_envelope_round_trip() {
    let secret = Some(Secret::from("1234".to_owned()));
    let photo = Photo { album: "a".into(), title: "t".into(), bytes: "AAAA".into() };
    for (message, text) in [
        (
            Order::Dish(dish()),
            r#"{"what":"dish","number":400,"name":"naïve soup","offset":-12,"grams":18446744073709551615,"note":null,"hot":true,"table":null,"z":1,"a":[]}"#,
        ),
        (
            Order::Dish(Dish {
                name: None,
                note: Some(String::new()),
                table: None,
                extra: Default::default(),
                ..dish()
            }),
            r#"{"what":"dish","number":400,"offset":-12,"grams":18446744073709551615,"note":"","hot":true}"#,
        ),
        (
            Order::Dish(Dish { table: Some(Some(255)), extra: Default::default(), ..dish() }),
            r#"{"what":"dish","number":400,"name":"naïve soup","offset":-12,"grams":18446744073709551615,"note":null,"hot":true,"table":255}"#,
        ),
        (
            Order::PhotoOfIt(photo),
            r#"{"what":"photo-of-it","album":"a","title":"t","bytes":"AAAA"}"#,
        ),
        (Order::Bill(Bill { pin: None, tip: 0 }), r#"{"what":"bill","tip":0}"#),
        (Order::Bill(Bill { pin: secret, tip: -1 }), r#"{"what":"bill","pin":"1234","tip":-1}"#),
        (
            Order::Review(review()),
            r#"{"what":"review","visit":"5c0a3f0e-7a52-4b7e-9d1c-3f6f6a1b2c3d","mood":"not_quite_sure","praise":{},"word":null}"#,
        ),
        (
            Order::Review(Review {
                earlier: Some(VISIT.into()),
                expected: Some(Mood::Delighted),
                blame: json!({ "b": [1, null], "a": {} }).as_object().cloned(),
                word: json!("x"),
                aside: Some(json!(null)),
                ..review()
            }),
            r#"{"what":"review","visit":"5c0a3f0e-7a52-4b7e-9d1c-3f6f6a1b2c3d","earlier":"5c0a3f0e-7a52-4b7e-9d1c-3f6f6a1b2c3d","mood":"not_quite_sure","expected":"delighted","praise":{},"blame":{"b":[1,null],"a":{}},"word":"x","aside":null}"#,
        ),
    ] {
        assert_eq!(encode(&message), text);
        let read: Order = decode(text).unwrap();
        assert_eq!(encode(&read), text);
    }
}

#[test]
fn bounds_and_presence_are_checked() {
    let good =
        json!({ "what": "dish", "number": 1, "offset": 12, "grams": 0, "note": "x", "hot": false });
    assert!(decode::<Order>(&good.to_string()).is_ok());
    for (field, value) in [
        ("number", json!(0)),
        ("number", json!(401)),
        ("number", json!("7")),
        ("number", json!(null)),
        ("offset", json!(13)),
        ("offset", json!(-13)),
        ("grams", json!(-1)),
        ("grams", json!(1.5)),
        ("name", json!("")),
        ("name", json!("thirteen chars")),
        ("name", json!(null)),
        ("note", json!(7)),
        ("hot", json!(1)),
        ("table", json!(256)),
        ("table", json!(-1)),
        ("what", json!("photo")),
    ] {
        let mut bad = good.clone();
        bad[field] = value;
        assert!(decode::<Order>(&bad.to_string()).is_err(), "{bad}");
    }
    for field in ["what", "number", "offset", "grams", "note", "hot"] {
        let mut bad = good.clone();
        bad.as_object_mut().map(|members| members.remove(field));
        assert!(decode::<Order>(&bad.to_string()).is_err(), "{bad}");
    }
}

/// What a list, an object and a UUID take, and what they say of the rest.
#[test]
fn lists_objects_and_uuids_are_checked() {
    let good =
        json!({ "what": "review", "visit": VISIT, "mood": "delighted", "praise": {}, "word": [] });
    assert!(decode::<Order>(&good.to_string()).is_ok());
    for (field, value, problem) in [
        ("mood", json!("sad"), "field `mood` is none of the known texts"),
        ("mood", json!(1), "field `mood` should be a text, not an integer"),
        ("mood", json!(1.5), "field `mood` should be a text, not a number"),
        ("mood", json!({ "delighted": null }), "field `mood` should be a text, not an object"),
        ("expected", json!(null), "field `expected` should be a text, not null"),
        ("praise", json!(null), "field `praise` should be an object, not null"),
        ("praise", json!("x"), "field `praise` should be an object, not a text"),
        ("blame", json!(true), "field `blame` should be an object, not a boolean"),
        ("blame", json!([]), "field `blame` should be an object, not a list"),
        ("visit", json!(VISIT.to_uppercase()), "field `visit` is no UUID in lower case"),
        ("earlier", json!(""), "field `earlier` is no UUID in lower case"),
    ] {
        let mut bad = good.clone();
        bad[field] = value;
        let error = decode::<Order>(&bad.to_string()).unwrap_err();
        let source = std::error::Error::source(&error).unwrap();
        assert_eq!(source.to_string(), problem);
    }
    for field in ["visit", "mood", "praise", "word"] {
        let mut bad = good.clone();
        bad.as_object_mut().map(|members| members.remove(field));
        assert!(decode::<Order>(&bad.to_string()).is_err(), "{bad}");
    }
    assert_eq!(Mood::ALL, [Mood::Delighted, Mood::NotQuiteSure]);
    assert_eq!(
        format!("{:>15}|{}", Mood::NotQuiteSure, Mood::Delighted),
        " not_quite_sure|delighted"
    );
}

#[test]
fn long_texts_are_refused_before_they_are_read() {
    let padded = |length: usize| {
        let text = encode(&Order::Bill(Bill { pin: None, tip: 0 }));
        format!("{text}{}", " ".repeat(length - text.len()))
    };
    assert!(decode::<Order>(&padded(generated::PLATE)).is_ok());
    let error = decode::<Order>(&padded(generated::PLATE + 1)).unwrap_err();
    assert_eq!(error.to_string(), "text has 4097 bytes, and a message has 4096 at most");
    let error = decode::<Order>(&"[".repeat(generated::PLATE + 1)).unwrap_err();
    assert!(matches!(error, codec::DecodeError::TooLong { bytes: 4097, max: 4096 }));
}

#[test]
fn bytes_in_a_layout() {
    let mut frame = tray::header(1, 0x0203, 0x0405_0607_0809_0a0b).to_vec();
    assert_eq!(frame, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
    assert_eq!(tray::split(&frame), Some((1, 0x0203, 0x0405_0607_0809_0a0b, &[][..])));
    for length in 0..tray::HEADER_BYTES {
        assert_eq!(tray::split(&frame[..length]), None);
        let mut short = frame[..length].to_vec();
        tray::set_floor(&mut short, 9);
        tray::set_grams(&mut short, 9);
        assert_eq!(short, frame[..length]);
    }
    frame.extend(b"soup");
    tray::set_floor(&mut frame, 0);
    tray::set_table(&mut frame, 0xffff);
    assert_eq!(tray::split(&frame), Some((0, 0xffff, 0x0405_0607_0809_0a0b, &b"soup"[..])));
    tray::set_grams(&mut frame, u64::MAX);
    assert_eq!(frame[..tray::HEADER_BYTES], tray::header(0, 0xffff, u64::MAX));
}

#[test]
fn lax_integers_and_secrets() {
    let Order::Bill(bill) = decode(r#"{"what":"bill","tip":" 1_0.0 ","pin":"1234"}"#).unwrap()
    else {
        panic!()
    };
    assert_eq!(bill.tip, 10);
    assert_eq!(format!("{bill:?}"), "Bill { pin: Some(***), tip: 10 }");
    assert!(format!("{:?}", Order::Dish(dish())).contains(r#"extra: ["z", "a"]"#));
    let review = Review {
        blame: json!({ "b": "hidden" }).as_object().cloned(),
        word: json!({ "c": "hidden" }),
        aside: Some(json!("hidden")),
        ..review()
    };
    assert_eq!(
        format!("{review:?}"),
        r#"Review { visit: 5c0a3f0e…, earlier: None, mood: NotQuiteSure, expected: None, praise: [], blame: Some(["b"]), word: <an object>, aside: Some(<a text>) }"#
    );
}

#[test]
fn pieces_and_constants() {
    let text = encode(&Order::PhotoOfIt(Photo {
        album: "a".into(),
        title: "t".into(),
        bytes: "AAAA".into(),
    }));
    let pieces = [
        generated::PHOTO_PREFIX,
        "a",
        generated::PHOTO_INFIX_1,
        "t",
        generated::PHOTO_INFIX_2,
        "AAAA",
        generated::PHOTO_SUFFIX,
    ];
    assert_eq!(text, pieces.concat());
    assert_eq!(generated::GREETING, "say \"when\"");
    assert_eq!(generated::DISHES, ["soup", "fish"]);
    assert_eq!(
        (generated::PLATE, generated::TABLES, generated::DOOR, generated::CLOSED),
        (4096, 12, 80, 4000)
    );
    assert_eq!(generated::DEPTH, (1_u64 << 53) - 1);
    assert_eq!(
        generated::PATIENCE.as_secs() * 1000 + 250,
        90_000 + generated::BLINK.subsec_millis() as u64
    );
}
