//! Texts that look like messages, and are refused.

use serde_json::{Value, json};

use crate::cases::readers::{RefusingAgent, client_refuses, relay_refuses};
use crate::harness::tunnel::{AGENT, CLIENT_SECRET, agent_start, client_start};
use crate::kit::{Agent, Client, Direction, Outcome, Relay, Request};

/// The text of a message.
fn text_of(inner: &Value) -> String {
    json!({ "inner": inner }).to_string()
}

/// A start whose secret is wrong: whether it is read as a start can be seen at once.
fn from_agent() -> Value {
    agent_start(AGENT, "wrong")
}

/// The same of a client.
fn from_client() -> Value {
    let mut start = client_start(22);
    start["secret"] = "wrong".into();
    start
}

fn to_client() -> Value {
    json!({ "kind": "tcp_data", "data_base64": "aGVsbG8=" })
}

// ---- counterexamples (Q-1) ----

/// Those that a reader refuses for their text. Base64 has cases of its own (Q-9), and so have the limits (L-7).
fn counterexamples(direction: Direction) -> Outcome<Vec<String>> {
    let all = direction.counterexamples()?;
    let has_its_own = |clause: &str| clause == "Q-9" || clause.starts_with('L');
    let rest = all.into_iter().filter(|example| !has_its_own(&example.clause));
    Ok(rest.map(|example| example.text).collect())
}

pub(super) fn counterexamples_from_agents(relay: &Relay) -> Outcome {
    relay_refuses(relay, &Request::agent(), &counterexamples(Direction::AgentToRelay)?)
}

pub(super) fn counterexamples_from_clients(relay: &Relay) -> Outcome {
    relay_refuses(relay, &Request::client(), &counterexamples(Direction::ClientToRelay)?)
}

pub(super) fn counterexamples_to_agent(agent: &mut Agent) -> Outcome {
    let mut agent = RefusingAgent::start(agent)?;
    counterexamples(Direction::RelayToAgent)?.iter().try_for_each(|text| agent.refuses(text))
}

pub(super) fn counterexamples_to_client(client: &mut Client) -> Outcome {
    client_refuses(client, &counterexamples(Direction::RelayToClient)?)
}

// ---- repeated keys (Q-2) ----

/// A good message, then the same key again with what is wrong there.
fn wrong_at_last(inner: &Value) -> Vec<String> {
    let text = text_of(inner);
    let outer = text.trim_end_matches('}');
    vec![
        format!("{outer}}},\"inner\":{{\"kind\":\"nonsense\"}}}}"),
        format!("{outer}}},\"inner\":null}}"),
        format!("{outer},\"kind\":\"nonsense\"}}}}"),
        format!("{outer},\"\\u006bind\":7}}}}"),
    ]
}

pub(super) fn last_counts_at_relay(relay: &Relay) -> Outcome {
    relay_refuses(relay, &Request::agent(), &wrong_at_last(&from_agent()))?;
    relay_refuses(relay, &Request::client(), &wrong_at_last(&from_client()))
}

pub(super) fn last_counts_at_agent(agent: &mut Agent) -> Outcome {
    let mut agent = RefusingAgent::start(agent)?;
    wrong_at_last(&agent.question()).iter().try_for_each(|text| agent.refuses(text))
}

pub(super) fn last_counts_at_client(client: &mut Client) -> Outcome {
    client_refuses(client, &wrong_at_last(&to_client()))
}

// ---- JSON (Q-4) ----

/// The message with an unknown field that is written so.
fn with_value(inner: &Value, value: &str) -> String {
    format!("{},\"x\":{value}}}}}", text_of(inner).trim_end_matches('}'))
}

/// What is almost the message, and not JSON.
fn no_json(inner: &Value) -> Vec<String> {
    let text = text_of(inner);
    let cut = |length: usize| text[..text.len() - length].to_owned();
    let mut texts = vec![
        // A byte order mark, and white space that JSON does not have.
        format!("\u{feff}{text}"),
        format!("\u{a0}{text}"),
        format!("\u{b}{text}"),
        format!("{text}\u{c}"),
        format!("{text}\u{2028}"),
        // Less than a document, more than one.
        String::new(),
        " ".to_owned(),
        "hello".to_owned(),
        cut(1),
        cut(2),
        cut(4),
        format!("{text}}}"),
        format!("{text}{text}"),
        format!("{text}\n{text}"),
        format!("{text},"),
        format!("{text}\0"),
        // Commas, quotes, comments.
        format!("{},}}", cut(1)),
        format!("{},}}}}", cut(2)),
        text.replacen(',', "", 1),
        text.replacen(',', ",,", 1),
        text.replacen(':', "=", 1),
        text.replace('"', "'"),
        text.replacen("\"inner\"", "inner", 1),
        format!("/* no comment */{text}"),
        format!("{text}// no comment"),
    ];
    let values = [
        // Texts.
        "\"a\tb\"",
        "\"a\nb\"",
        "\"a\0b\"",
        r#""\ud83d""#,
        r#""\udd80""#,
        r#""\udd80\ud83d""#,
        r#""\ud83d \udd80""#,
        r#""\x41""#,
        r#""\u12""#,
        r#""\'""#,
        "'a'",
        "\"a",
        // Numbers.
        "01",
        "+1",
        "-",
        ".5",
        "1.",
        "1e",
        "0x16",
        "1_000",
        // Others.
        "",
        "True",
        "nul",
        "undefined",
        "[1,]",
        "[1 2]",
        "[1",
        "{\"a\":1,}",
        "{\"a\"}",
        "{7:1}",
    ];
    texts.extend(values.iter().map(|value| with_value(inner, value)));
    texts
}

pub(super) fn no_json_from_agents(relay: &Relay) -> Outcome {
    relay_refuses(relay, &Request::agent(), &no_json(&from_agent()))
}

pub(super) fn no_json_from_clients(relay: &Relay) -> Outcome {
    relay_refuses(relay, &Request::client(), &no_json(&from_client()))
}

/// A third of them: some agents start afresh after each.
pub(super) fn no_json_to_agent(agent: &mut Agent) -> Outcome {
    let mut agent = RefusingAgent::start(agent)?;
    let texts = no_json(&agent.question());
    texts.iter().step_by(3).try_for_each(|text| agent.refuses(text))
}

/// Others than those of the agent: each text costs a start of a client.
pub(super) fn no_json_to_client(client: &mut Client) -> Outcome {
    let texts = no_json(&to_client()).into_iter().skip(1).step_by(3);
    client_refuses(client, &texts.collect::<Vec<_>>())
}

/// Numbers that JSON does not have, and others that no double holds, in a field that means nothing.
fn no_numbers(inner: &Value) -> Vec<String> {
    let digits = "9".repeat(400);
    let values =
        ["NaN", "Infinity", "-Infinity", "[NaN]", "1e400", "-1e400", &digits, "{\"y\":1e999}"];
    values.iter().map(|value| with_value(inner, value)).collect()
}

pub(super) fn no_numbers_from_agents(relay: &Relay) -> Outcome {
    relay_refuses(relay, &Request::agent(), &no_numbers(&from_agent()))
}

pub(super) fn no_numbers_from_clients(relay: &Relay) -> Outcome {
    relay_refuses(relay, &Request::client(), &no_numbers(&from_client()))
}

pub(super) fn no_numbers_to_agent(agent: &mut Agent) -> Outcome {
    let mut agent = RefusingAgent::start(agent)?;
    no_numbers(&agent.question()).iter().try_for_each(|text| agent.refuses(text))
}

pub(super) fn no_numbers_to_client(client: &mut Client) -> Outcome {
    client_refuses(client, &no_numbers(&to_client()))
}

// ---- types (Q-6) ----

/// The message with each of these fields left out, and with what is no text in its place.
fn no_texts(inner: &Value, fields: &[&str]) -> Vec<String> {
    let mut texts = Vec::new();
    for field in fields {
        let others =
            [json!(7), json!(2.5), json!(true), json!(null), json!([inner[*field]]), json!({})];
        for other in others {
            let mut inner = inner.clone();
            inner[*field] = other;
            texts.push(text_of(&inner));
        }
        texts.push(without(inner, field));
    }
    texts
}

fn without(inner: &Value, field: &str) -> String {
    let mut inner = inner.clone();
    if let Some(fields) = inner.as_object_mut() {
        fields.shift_remove(field);
    }
    text_of(&inner)
}

/// The message with its kind spelled otherwise.
fn other_kinds(inner: &Value) -> Vec<String> {
    let kind = inner["kind"].as_str().unwrap_or_default();
    let spelled = [
        kind.to_uppercase(),
        format!("{}{}", kind[..1].to_uppercase(), &kind[1..]),
        format!(" {kind}"),
        format!("{kind} "),
        format!("{kind}\0"),
    ];
    let with = |kind: String| {
        let mut inner = inner.clone();
        inner["kind"] = kind.into();
        text_of(&inner)
    };
    spelled.map(with).to_vec()
}

pub(super) fn types_from_agents(relay: &Relay) -> Outcome {
    let mut texts = other_kinds(&from_agent());
    // They may be left out, but A-2 asks a relay for texts.
    for field in ["name", "secret"] {
        for other in [json!(7), json!(true), json!(null), json!([AGENT]), json!({})] {
            let mut start = from_agent();
            start[field] = other;
            texts.push(text_of(&start));
        }
    }
    // It may be null.
    for other in [json!(7), json!(false), json!(["x"]), json!({ "code": 1 })] {
        let mut start = from_agent();
        start["last_error"] = other;
        texts.push(text_of(&start));
    }
    let id = "connection_id";
    for (kind, fields) in [
        ("initiate_connection_ok", &[id][..]),
        ("initiate_connection_error", &[id, "message"]),
        ("connection_reset", &[id, "message"]),
        ("tcp_data", &[id, "data_base64"]),
    ] {
        let mut inner = json!({ "kind": kind });
        for field in fields {
            inner[*field] = "".into();
        }
        texts.extend(no_texts(&inner, fields));
    }
    relay_refuses(relay, &Request::agent(), &texts)
}

pub(super) fn types_from_clients(relay: &Relay) -> Outcome {
    let mut texts = other_kinds(&from_client());
    let fields = ["connection_target", "target_ip", "protocol", "secret"];
    texts.extend(no_texts(&from_client(), &fields));
    texts.push(without(&from_client(), "target_port"));
    // Not even by somebody who knows a secret.
    let mut start = client_start(22);
    start["secret"] = json!([CLIENT_SECRET]);
    texts.push(text_of(&start));
    texts.extend(no_texts(&to_client(), &["data_base64"]));
    relay_refuses(relay, &Request::client(), &texts)
}

pub(super) fn types_to_agent(agent: &mut Agent) -> Outcome {
    let mut agent = RefusingAgent::start(agent)?;
    let question = agent.question();
    let mut texts = other_kinds(&question);
    texts.extend(no_texts(&question, &["target_ip", "protocol", "connection_id"]));
    texts.push(without(&question, "target_port"));
    texts.iter().try_for_each(|text| agent.refuses(text))
}

pub(super) fn types_to_client(client: &mut Client) -> Outcome {
    let mut texts = other_kinds(&to_client());
    texts.extend(no_texts(&to_client(), &["data_base64"]));
    texts.extend(no_texts(&json!({ "kind": "error", "message": "no" }), &["message"]));
    client_refuses(client, &texts)
}
