//! Compares the codec with the recorded verdicts; `README.md` beside this file explains the two data files.

use std::path::Path;
use std::sync::OnceLock;

use codec::v1::{self, AgentToRelay, ClientToRelay, Message, RelayToAgent, RelayToClient};
use serde::Deserialize;
use serde_json::Value;

/// One recorded verdict.
#[derive(Deserialize)]
pub(crate) struct Row {
    union: String,
    pub(crate) input: String,
    accepts: bool,
    canonical: Option<String>,
    note: String,
    base64_decoded_hex: Option<String>,
}

/// One deliberate difference.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    reason: String,
    union: Option<String>,
    notes: Vec<String>,
    input: Option<String>,
    theirs: Theirs,
    ours: Ours,
}

/// The recorded verdict that a rule is about.
#[derive(Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Theirs {
    Accepts,
    Refuses,
}

/// What happens here instead.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Ours {
    Refuses,
    SameValue,
    Canonical(String),
    Without(String),
    Port(i64),
}

/// The recorded verdicts.
pub(crate) fn rows() -> &'static [Row] {
    static ROWS: OnceLock<Vec<Row>> = OnceLock::new();
    ROWS.get_or_init(|| {
        let lines = read("messages.jsonl");
        lines
            .lines()
            .map(|line| serde_json::from_str(line).expect("a row is well formed"))
            .collect()
    })
}

/// Everything that is not as recorded, nor as listed.
pub(crate) fn check() -> Vec<String> {
    let rules: Vec<Rule> =
        serde_json::from_str(&read("differences.json")).expect("the rules are well formed");
    let mut used: Vec<Vec<bool>> = rules.iter().map(|rule| vec![false; rule.notes.len()]).collect();
    let mut problems = Vec::new();
    for row in rows() {
        let ours = verdict_for(&row.union, &row.input);
        let fitting =
            rules.iter().enumerate().find_map(|(index, rule)| Some((index, fit(rule, row)?)));
        let problem = match fitting {
            None if ours.as_ref() == row.canonical.as_ref() => None,
            None => Some("is not as recorded".to_owned()),
            Some((index, note)) => {
                used[index][note] = true;
                let rule = &rules[index];
                if ours.as_ref() == row.canonical.as_ref() {
                    Some(format!("is as recorded, though listed because {}", rule.reason))
                } else {
                    (!rule.ours.is(ours.as_deref(), row))
                        .then(|| format!("is not as listed because {}", rule.reason))
                }
            }
        };
        let payload = ours.as_deref().and_then(payload_of);
        let problem = problem.or_else(|| match (&row.base64_decoded_hex, payload) {
            (Some(theirs), Some(ours)) if *theirs != ours => {
                Some(format!("decodes to {ours:.200}"))
            }
            (Some(_), None) => Some("has no payload".to_owned()),
            _ => None,
        });
        if let Some(problem) = problem {
            let ours = ours.unwrap_or_else(|| "refused".into());
            problems.push(format!(
                "{} {}: {:.300} {problem}; here {ours:.300}",
                row.union, row.note, row.input
            ));
        }
    }
    for (rule, used) in rules.iter().zip(used) {
        for (note, _) in rule.notes.iter().zip(used).filter(|(_, used)| !used) {
            problems.push(format!("no row fits {note:?}, listed because {}", rule.reason));
        }
    }
    problems
}

/// Which of the rule's notes fits the row, if the rest of the rule does.
fn fit(rule: &Rule, row: &Row) -> Option<usize> {
    let fits = rule.union.as_ref().is_none_or(|union| *union == row.union)
        && rule.input.as_ref().is_none_or(|input| *input == row.input)
        && (rule.theirs == Theirs::Accepts) == row.accepts;
    if fits { rule.notes.iter().position(|note| glob(note, &row.note)) } else { None }
}

/// Whether `text` fits `pattern`, in which `*` stands for anything.
fn glob(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|text| {
            text.char_indices().map(|(i, _)| i).chain([text.len()]).any(|i| glob(rest, &text[i..]))
        }),
    }
}

impl Ours {
    /// Whether this is what happened.
    fn is(&self, ours: Option<&str>, row: &Row) -> bool {
        let theirs = row.canonical.as_deref().unwrap_or_default();
        match self {
            Self::Refuses => ours.is_none(),
            Self::Canonical(text) => ours == Some(text),
            Self::Without(part) => {
                theirs.contains(part) && ours == Some(&theirs.replacen(part, "", 1))
            }
            Self::Port(port) => ours == Some(&with_port(&row.input, *port)),
            Self::SameValue => {
                let value =
                    |text: &str| serde_json::from_str::<Value>(text).expect("both are JSON");
                let mut theirs = value(theirs);
                if !row.input.contains("last_error") {
                    theirs["inner"].as_object_mut().map(|inner| inner.remove("last_error"));
                }
                ours.is_some_and(|ours| value(ours) == theirs)
            }
        }
    }
}

/// The text with another port in it.
fn with_port(text: &str, port: i64) -> String {
    let key = "\"target_port\":";
    let (before, rest) = text.split_once(key).expect("the row is about a port");
    let (_, after) = rest.split_once(",\"protocol\"").expect("the protocol follows");
    format!("{before}{key}{port},\"protocol\"{after}")
}

/// What the codec makes of a text: the canonical text, or `None`.
fn verdict_for(union: &str, text: &str) -> Option<String> {
    match union {
        "EdgeAgentToRelayMessage" => verdict::<AgentToRelay>(text),
        "RelayToEdgeAgentMessage" => verdict::<RelayToAgent>(text),
        "AccessClientToRelayMessage" => verdict::<ClientToRelay>(text),
        "RelayToAccessClientMessage" => verdict::<RelayToClient>(text),
        other => panic!("there is no direction {other}"),
    }
}

fn verdict<M: Message>(text: &str) -> Option<String> {
    v1::decode::<M>(text).ok().map(|message| v1::encode(&message))
}

/// The bytes of a data message in hexadecimal, or `error`.
fn payload_of(text: &str) -> Option<String> {
    let value: Value = serde_json::from_str(text).ok()?;
    let mut bytes = Vec::new();
    let result = v1::base64::decode_append(value["inner"]["data_base64"].as_str()?, &mut bytes);
    Some(result.map_or_else(
        |_| "error".into(),
        |()| bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
    ))
}

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
