//! The examples and counterexamples of the specification.

use std::collections::BTreeSet;
use std::path::Path;

use codec::DecodeError;
use codec::v1::{self, AgentToRelay, ClientToRelay, Message, RelayToAgent, RelayToClient};
use codec::v2::{Control, data};
use serde::Deserialize;
use serde_json::Value;

use crate::{root, schema, validator};

/// A text that is no message, or one whose payload is none.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Counterexample {
    /// The clause that it breaks.
    clause: String,
    /// What is wrong, for a person.
    wrong: String,
    /// How it fails.
    fails: Fails,
    /// The text itself.
    text: String,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Fails {
    /// Longer than a message may be.
    TooLong,
    /// Not JSON, or beyond the limits of what is read.
    Json,
    /// JSON, but not an object, in its envelope if there is one.
    Envelope,
    /// No kind, or one that is no text.
    Kind,
    /// A kind that the direction does not have.
    UnknownKind,
    /// This field is missing or wrong.
    Field(String),
    /// The message is one, but its base64 cannot be read.
    Payload,
}

/// What there is to know of the messages of one schema file.
struct Direction {
    /// Name of the file, without its ending.
    name: &'static str,
    kinds: &'static [&'static str],
    /// Checks that an example is read and written as it stands, and tells its kind.
    check: fn(&str) -> &'static str,
    failure: fn(&str) -> Option<Fails>,
}

impl Direction {
    fn of<M: Message>(name: &'static str) -> Self {
        Self { name, kinds: M::KINDS, check: check_example::<M>, failure: failure::<M> }
    }
}

fn directions(version: &str) -> Vec<Direction> {
    match version {
        "v1" => vec![
            Direction::of::<AgentToRelay>("agent-to-relay"),
            Direction::of::<RelayToAgent>("relay-to-agent"),
            Direction::of::<ClientToRelay>("client-to-relay"),
            Direction::of::<RelayToClient>("relay-to-client"),
        ],
        _ => vec![Direction::of::<Control>("control")],
    }
}

/// The direction that the name of a file begins with.
fn direction_of<'a>(directions: &'a [Direction], name: &str) -> &'a Direction {
    let direction = name.split('.').next().unwrap_or_default();
    let found = directions.iter().find(|known| known.name == direction);
    found.unwrap_or_else(|| panic!("there is no direction {direction}"))
}

#[test]
fn examples_are_written_exactly_so() {
    for version in ["v1", "v2"] {
        let directions = directions(version);
        let mut seen = BTreeSet::new();
        for (name, text) in files(&format!("spec/{version}/examples"), ".json") {
            let Direction { name: direction, check, .. } = direction_of(&directions, &name);
            let text = text.strip_suffix('\n').expect("a file ends with a line break");
            let kind = check(text);
            assert!(name.starts_with(&format!("{direction}.{kind}.")), "{name} shows {kind}");
            let json: Value = serde_json::from_str(text).expect("an example is JSON");
            let schema = schema(&format!("spec/{version}/{direction}.schema.json"));
            assert!(validator(&schema).is_valid(&json), "{name}");
            seen.insert((*direction, kind));
        }
        let all: usize = directions.iter().map(|direction| direction.kinds.len()).sum();
        assert_eq!(seen.len(), all, "every message of {version} has an example: {seen:?}");
    }
}

fn check_example<M: Message>(text: &str) -> &'static str {
    let message: M = v1::decode(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!(v1::encode(&message), text);
    message.kind()
}

/// Frames that are no JSON are given in hexadecimal digits, the header apart.
#[test]
fn examples_of_data_are_read_and_written_so() {
    for (name, text) in files("spec/v2/examples", ".hex") {
        let (header, payload) = text.trim_end().split_once(' ').expect("header and payload");
        let (header, payload) = (bytes(header), bytes(payload));
        let frame = [&header[..], &payload].concat();
        let (stream, rest) = data::split(&frame).expect("the header is whole");
        assert_eq!((data::header(stream).as_slice(), rest), (&header[..], &payload[..]), "{name}");
    }
}

fn bytes(hexadecimal: &str) -> Vec<u8> {
    let digits = hexadecimal.as_bytes().chunks(2);
    let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16);
    digits.map(|pair| byte(pair).expect("two digits")).collect()
}

/// Kinds of other directions (M-8) and keep-alives on a client's link (K-10) are among them, and so is whatever a list
/// of v2 does not have (ER-1, CU-3).
#[test]
fn counterexamples_fail_as_they_say() {
    for version in ["v1", "v2"] {
        let prose = std::fs::read_to_string(root().join(format!("spec/{version}/README.md")))
            .expect("the prose can be read");
        let directions = directions(version);
        for (name, text) in files(&format!("spec/{version}/counterexamples"), ".json") {
            let case: Counterexample =
                serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            let fails = (direction_of(&directions, &name).failure)(&case.text);
            assert_eq!(fails, Some(case.fails), "{name}: {}", case.wrong);
            assert!(
                prose.contains(&format!("**{}**", case.clause)),
                "{name} cites {}",
                case.clause
            );
        }
    }
}

/// What the schema can tell of the counterexamples, it tells: all but how they are spelled.
#[test]
fn counterexamples_do_not_fit_the_schema() {
    for version in ["v1", "v2"] {
        for (name, text) in files(&format!("spec/{version}/counterexamples"), ".json") {
            let case: Counterexample = serde_json::from_str(&text).expect("it is a counterexample");
            let Ok(json) = serde_json::from_str::<Value>(&case.text) else { continue };
            let direction = name.split('.').next().unwrap_or_default();
            let schema = schema(&format!("spec/{version}/{direction}.schema.json"));
            let fits = validator(&schema).is_valid(&json);
            assert_eq!(fits, SPELLING.contains(&name.as_str()), "{name}: {}", case.wrong);
        }
    }
}

/// Counterexamples whose values are as the schema says, and whose spelling or content is not.
const SPELLING: &[&str] = &[
    "agent-to-relay.base64_not_ascii.json",
    "agent-to-relay.base64_without_padding.json",
    "client-to-relay.base64_url_safe.json",
    "control.integer_with_a_fraction.json",
    "control.integer_with_an_exponent.json",
    "control.too_long.json",
];

/// How a text fails, if it does.
fn failure<M: Message>(text: &str) -> Option<Fails> {
    let message = match v1::decode::<M>(text) {
        Ok(message) => message,
        Err(error) => {
            return Some(match error {
                DecodeError::TooLong { .. } => Fails::TooLong,
                DecodeError::TooManyValues | DecodeError::Json(_) => Fails::Json,
                DecodeError::NotAnObject | DecodeError::NotWrapped(_) => Fails::Envelope,
                DecodeError::NoKind(_) => Fails::Kind,
                DecodeError::UnknownKind { .. } => Fails::UnknownKind,
                DecodeError::Field { source, .. } => {
                    Fails::Field(source.field().unwrap_or_default().to_owned())
                }
                other => panic!("{other}"),
            });
        }
    };
    let json: Value = serde_json::from_str(&v1::encode(&message)).ok()?;
    let base64 = json["inner"]["data_base64"].as_str()?;
    v1::base64::decode_append(base64, &mut Vec::new()).err().map(|_| Fails::Payload)
}

/// Names and texts of the files in a folder whose names end so.
fn files(folder: &str, ending: &str) -> Vec<(String, String)> {
    let mut files: Vec<_> = std::fs::read_dir(root().join(folder))
        .expect("the folder can be read")
        .map(|entry| entry.expect("the folder can be read").path())
        .filter(|path| file_name(path).ends_with(ending))
        .map(|path| {
            (file_name(&path), std::fs::read_to_string(&path).expect("the file can be read"))
        })
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{folder} is empty");
    files
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
