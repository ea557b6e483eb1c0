//! Extension points: extra fields of an agent's start, and messages of programs that embed a party (spec v1, section
//! E).

use std::time::Duration;

use codec::v1::{AGENT_KEEP_ALIVE_INTERVAL, CLOSE_INVALID, CLOSE_POLICY};
use serde_json::{Value, json};

use crate::harness::Target;
use crate::harness::tunnel::{AGENT, AGENT_SECRET, OTHER_AGENT, agent_start, client_start};
use crate::kit::{
    Agent, Case, Client, Direction, Finding, Link, Message, Outcome, Received, Relay, agent,
    client, relay,
};

/// The cases of this section, in the order of its statements.
pub(super) const CASES: &[Case] = &[
    relay("E-1.a", "extra fields in an agent's start", "the agent is admitted", extra_fields),
    relay(
        "E-1.b",
        "extra fields in place of name and secret",
        "it is a start, though not one that this relay admits",
        fields_of_ones_own,
    ),
    relay(
        "E-2.a",
        "a custom message to a relay that knows none",
        "the link is closed with 1007",
        custom_to_relay,
    ),
    agent(
        "E-2.b",
        "a custom message to an agent that knows none",
        "it is ignored; link and streams go on",
        custom_to_agent,
    ),
    relay("E-3.a", "what a relay sends in a session", "messages of its directions", known_to_relay),
    agent("E-3.b", "what an agent sends in a session", "messages of its direction", known_to_agent)
        .takes(11),
    client(
        "E-3.c",
        "what a client sends in a session",
        "messages of its direction",
        known_to_client,
    ),
    relay("E-4.a", "unknown fields through a relay", "they are not passed on", not_passed_on),
    agent("E-4.b", "unknown fields to an agent", "they are not given back", not_given_back),
];

// ---- extra fields (E-1) ----

/// A start with fields of each type, and names that are almost those of others.
fn start_with_extras() -> Value {
    let mut start = agent_start(AGENT, AGENT_SECRET);
    let extras = json!({
        "hardware": { "model": "box", "ports": [1, 2.5, null, [{}]] }, "token": "t", "": true,
        "Name": OTHER_AGENT.0, "secret ": 7, "connection_id": null, "inner": { "kind": "start" },
        "é🦀": -0.0, "target_port": "x",
    });
    for (name, value) in extras.as_object().into_iter().flatten() {
        start[name] = value.clone();
    }
    start
}

fn extra_fields(relay: &Relay) -> Outcome {
    let mut agent = relay.agent_link()?;
    agent.send(&start_with_extras());
    relay.stream(&mut agent)?;
    Ok(())
}

fn fields_of_ones_own(relay: &Relay) -> Outcome {
    let nameless: Vec<Value> = Direction::AgentToRelay
        .examples()?
        .into_iter()
        .filter(|inner| inner["kind"] == "start" && inner.get("name").is_none())
        .collect();
    if nameless.is_empty() {
        return Err(Finding::fail("there is no example of such a start"));
    }
    for start in nameless {
        let mut agent = relay.agent_link()?;
        agent.send(&start);
        agent.expect_close(CLOSE_POLICY)?;
    }
    Ok(())
}

// ---- custom messages (E-2, E-3) ----

/// With a kind of their own in `inner`, and without `inner`.
const CUSTOM: [&str; 2] =
    [r#"{"inner":{"kind":"hello","n":7,"connection_id":"x"}}"#, r#"{"kind":"hello","n":7}"#];

fn custom_to_relay(relay: &Relay) -> Outcome {
    for ((name, secret), text) in [(AGENT, AGENT_SECRET), OTHER_AGENT].into_iter().zip(CUSTOM) {
        let mut agent = relay.agent_named(name, secret)?;
        // So the agent is admitted; the client stays, so that nothing is said of its end.
        let _asking = relay.ask(&mut agent)?;
        agent.send_text(text);
        agent.expect_close(CLOSE_INVALID)?;
    }
    Ok(())
}

fn custom_to_agent(agent: &mut Agent) -> Outcome {
    let target = Target::echo();
    let mut link = agent.start()?;
    link.open("echo", target.port())?;
    for text in CUSTOM {
        link.send_text(text);
        link.expect_quiet()?;
        link.data("echo", b"still here");
        link.expect_data("echo", b"still here")?;
    }
    Ok(())
}

/// Something comes, and all that comes until the link is quiet is of these kinds.
fn expect_kinds(link: &mut Link, kinds: &[&str]) -> Outcome {
    let patience = link.stage().patience();
    let mut is_asked = false;
    loop {
        match link.next(patience)? {
            Some(Received::Text(text)) => {
                let message = Message::read(text)?;
                if !kinds.contains(&message.kind()) {
                    return Err(Finding::Fail(format!("this came: {}", message.text)));
                }
                if !is_asked {
                    is_asked = true;
                    link.ping(b"all?");
                }
            }
            Some(Received::Pong(_)) if is_asked => return Ok(()),
            Some(Received::Ping(_)) => {}
            other => return Err(Finding::Fail(format!("instead of messages came {other:?}"))),
        }
    }
}

fn known_to_relay(relay: &Relay) -> Outcome {
    let mut agent = relay.agent_link()?;
    // What embeds an agent may know custom messages, but nothing has said so.
    agent.send(&start_with_extras());
    let (mut client, id) = relay.ask(&mut agent)?;
    agent.ok(&id);
    agent.data(&id, b"hello");
    expect_kinds(&mut client, &["start_ok", "tcp_data"])?;
    client.data(b"hello");
    expect_kinds(&mut agent, &["tcp_data", "keep_alive"])?;
    client.leave()?;
    expect_kinds(&mut agent, &["connection_close", "keep_alive"])
}

fn known_to_agent(agent: &mut Agent) -> Outcome {
    let target = Target::echo();
    let mut link = agent.start()?;
    link.watch_keep_alive();
    link.send(&json!({ "kind": "keep_alive" }));
    link.ask("echo", target.port());
    expect_kinds(&mut link, &["initiate_connection_ok", "keep_alive"])?;
    link.data("echo", b"hello");
    expect_kinds(&mut link, &["tcp_data", "keep_alive"])?;
    // Whatever it says by itself.
    match link.receive_within(AGENT_KEEP_ALIVE_INTERVAL + Duration::from_secs(1))? {
        Some(Received::Text(text)) if Message::read(text.clone())?.kind() != "keep_alive" => {
            Err(Finding::Fail(format!("this came: {text}")))
        }
        None | Some(Received::Text(_)) => Ok(()),
        other => Err(Finding::Fail(format!("by itself it sends {other:?}"))),
    }
}

fn known_to_client(client: &mut Client) -> Outcome {
    let mut link = client.open()?;
    client.input(b"hello")?;
    expect_kinds(&mut link, &["tcp_data"])?;
    client.end_input()?;
    link.expect_quiet()
}

// ---- unknown fields (E-4) ----

/// The same with fields that no message has.
fn with_unknown(mut inner: Value) -> Value {
    inner["token"] = "carried".into();
    inner["meta"] = json!({ "carried": ["carried"] });
    inner
}

/// The next message of this kind, which carries nothing of them.
fn expect_nothing_carried(link: &mut Link, kind: &str) -> Outcome<Message> {
    let message = link.expect_kind(kind)?;
    if message.text.contains("carried") {
        return Err(Finding::Fail(format!("it is carried: {}", message.text)));
    }
    Ok(message)
}

fn not_passed_on(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let _stream = relay.stream(&mut agent)?;
    let mut client = relay.client_link()?;
    client.send(&with_unknown(client_start(22)));
    let question = expect_nothing_carried(&mut agent, "initiate_connection")?;
    let id = question.field("connection_id");
    agent.send(&with_unknown(json!({ "kind": "initiate_connection_ok", "connection_id": id })));
    expect_nothing_carried(&mut client, "start_ok")?;
    client.send(&with_unknown(json!({ "kind": "tcp_data", "data_base64": "aGVsbG8=" })));
    expect_nothing_carried(&mut agent, "tcp_data")?;
    let data = json!({ "kind": "tcp_data", "connection_id": id, "data_base64": "aGVsbG8=" });
    agent.send(&with_unknown(data));
    expect_nothing_carried(&mut client, "tcp_data")?;
    client.leave()?;
    expect_nothing_carried(&mut agent, "connection_close")?;
    Ok(())
}

fn not_given_back(agent: &mut Agent) -> Outcome {
    let target = Target::echo();
    let mut link = agent.start()?;
    let mut question = json!({
        "kind": "initiate_connection", "target_ip": "127.0.0.1", "target_port": target.port(),
        "protocol": "tcp", "connection_id": "echo",
    });
    link.send(&with_unknown(question.clone()));
    expect_nothing_carried(&mut link, "initiate_connection_ok")?;
    let data = json!({ "kind": "tcp_data", "connection_id": "echo", "data_base64": "aGVsbG8=" });
    link.send(&with_unknown(data));
    expect_nothing_carried(&mut link, "tcp_data")?;
    question["protocol"] = "udp".into();
    link.send(&with_unknown(question));
    expect_nothing_carried(&mut link, "initiate_connection_error")?;
    Ok(())
}
