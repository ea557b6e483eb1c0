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

use generated::{Bill, Dish, Order, Photo};

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

#[test]
fn lax_integers_and_secrets() {
    let Order::Bill(bill) = decode(r#"{"what":"bill","tip":" 1_0.0 ","pin":"1234"}"#).unwrap()
    else {
        panic!()
    };
    assert_eq!(bill.tip, 10);
    assert_eq!(format!("{bill:?}"), "Bill { pin: Some(***), tip: 10 }");
    assert!(format!("{:?}", Order::Dish(dish())).contains(r#"extra: ["z", "a"]"#));
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
    assert_eq!(
        generated::PATIENCE.as_secs() * 1000 + 250,
        90_000 + generated::BLINK.subsec_millis() as u64
    );
}
