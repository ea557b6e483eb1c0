//! The examples and counterexamples of the specification.

use std::collections::BTreeSet;
use std::path::Path;

use codec::DecodeError;
use codec::v1::{self, AgentToRelay, ClientToRelay, Message, RelayToAgent, RelayToClient};
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
    /// Not JSON, or beyond the limits of what is read.
    Json,
    /// JSON, but not an object in its envelope.
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

#[test]
fn examples_are_written_exactly_so() {
    let mut seen = BTreeSet::new();
    for (name, text) in files("spec/v1/examples") {
        let direction = name.split('.').next().unwrap_or_default();
        let text = text.strip_suffix('\n').expect("a file ends with a line break");
        let kind = match direction {
            "agent-to-relay" => check_example::<AgentToRelay>(text),
            "relay-to-agent" => check_example::<RelayToAgent>(text),
            "client-to-relay" => check_example::<ClientToRelay>(text),
            "relay-to-client" => check_example::<RelayToClient>(text),
            other => panic!("there is no direction {other}"),
        };
        assert!(name.starts_with(&format!("{direction}.{kind}.")), "{name} shows {kind}");
        let json: Value = serde_json::from_str(text).expect("an example is JSON");
        assert!(
            validator(&schema(&format!("spec/v1/{direction}.schema.json"))).is_valid(&json),
            "{name}"
        );
        seen.insert((direction.to_owned(), kind));
    }
    let all = AgentToRelay::KINDS.len()
        + RelayToAgent::KINDS.len()
        + ClientToRelay::KINDS.len()
        + RelayToClient::KINDS.len();
    assert_eq!(seen.len(), all, "every message has an example: {seen:?}");
}

fn check_example<M: Message>(text: &str) -> &'static str {
    let message: M = v1::decode(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!(v1::encode(&message), text);
    message.kind()
}

/// Kinds of other directions (M-8) and keep-alives on a client's link (K-10) are among them.
#[test]
fn counterexamples_fail_as_they_say() {
    let prose =
        std::fs::read_to_string(root().join("spec/v1/README.md")).expect("the prose can be read");
    for (name, text) in files("spec/v1/counterexamples") {
        let case: Counterexample =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let fails = match name.split('.').next().unwrap_or_default() {
            "agent-to-relay" => failure::<AgentToRelay>(&case.text),
            "relay-to-agent" => failure::<RelayToAgent>(&case.text),
            "client-to-relay" => failure::<ClientToRelay>(&case.text),
            "relay-to-client" => failure::<RelayToClient>(&case.text),
            other => panic!("there is no direction {other}"),
        };
        assert_eq!(fails, Some(case.fails), "{name}: {}", case.wrong);
        assert!(prose.contains(&format!("**{}**", case.clause)), "{name} cites {}", case.clause);
    }
}

/// How a text fails, if it does.
fn failure<M: Message>(text: &str) -> Option<Fails> {
    let message = match v1::decode::<M>(text) {
        Ok(message) => message,
        Err(error) => {
            return Some(match error {
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

/// Names and texts of the files in a folder.
fn files(folder: &str) -> Vec<(String, String)> {
    let mut files: Vec<_> = std::fs::read_dir(root().join(folder))
        .expect("the folder can be read")
        .map(|entry| entry.expect("the folder can be read").path())
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
