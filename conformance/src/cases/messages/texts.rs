//! What stands in a message: its form, its kind, its bytes.

use codec::v1::{CONNECTION_CLOSE_MESSAGE, ERROR_INITIATE_PREFIX};
use serde_json::{Value, json};

use crate::cases::readers::{RefusingAgent, client_refuses, relay_refuses};
use crate::harness::Target;
use crate::harness::tunnel::{AGENT, AGENT_SECRET, CLIENT_SECRET, agent_start, client_start};
use crate::kit::{
    Agent, Client, Finding, Input, Link, Message, Outcome, Received, Relay, Request, base64,
};

/// Text that takes one to four bytes a character.
const UNICODE: &str = "Größe ключ 網 🦀";

// ---- texts of JSON (M-1) ----

pub(super) fn relay_sends_json(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let mut start = client_start(22);
    start["target_ip"] = UNICODE.into();
    // Each message is read on its way as M-1 and M-2 have it, or the case fails.
    let (mut client, id) = relay.ask_with(&mut agent, &start)?;
    agent.refuse(&id, UNICODE);
    client.expect_error(&format!("{ERROR_INITIATE_PREFIX}{UNICODE}"))
}

pub(super) fn agent_sends_json(agent: &mut Agent) -> Outcome {
    let target = Target::echo();
    let mut link = agent.start()?;
    link.open(UNICODE, target.port())?;
    link.data(UNICODE, b"hello");
    link.expect_data(UNICODE, b"hello")
}

pub(super) fn client_sends_json(client: &mut Client) -> Outcome {
    let host = "bücher.example";
    let url = client.url();
    client.launch_for(&url, host, "22", Input::Pipe)?;
    let (mut link, start) = client.accept_start()?;
    if start.field("target_ip") != host {
        return Err(Finding::Fail(format!("the start is {}", start.text)));
    }
    link.start_ok();
    client.input(b"hello")?;
    link.expect_data(b"hello")
}

// ---- `inner` and `kind` (M-2) ----

/// Texts that hold a message in another shape, and others that hold none.
fn shapes(inner: &Value) -> Vec<String> {
    let text = inner.to_string();
    let mut kindless = inner.clone();
    kindless["type"] = kindless["kind"].take();
    let mut shapes = vec![
        text.clone(),
        format!("[{{\"inner\":{text}}}]"),
        format!("{{\"inner\":[{text}]}}"),
        format!("{{\"inner\":{{\"inner\":{text}}}}}"),
        format!("{{\"Inner\":{text}}}"),
        format!("{{\"inner \":{text}}}"),
        json!({ "inner": text }).to_string(),
        json!({ "inner": kindless }).to_string(),
    ];
    for kind in [json!(7), json!(null), json!(true), json!([inner["kind"]]), json!({})] {
        let mut inner = inner.clone();
        inner["kind"] = kind;
        shapes.push(json!({ "inner": inner }).to_string());
    }
    let others = ["{}", "[]", "null", "true", "0", "\"start\"", r#"{"inner":null}"#];
    shapes.extend(others.map(str::to_owned));
    shapes.extend([r#"{"inner":7}"#, r#"{"inner":{}}"#, r#"{"inner":[]}"#].map(str::to_owned));
    shapes
}

pub(super) fn shapes_from_agents(relay: &Relay) -> Outcome {
    relay_refuses(relay, &Request::agent(), &shapes(&agent_start(AGENT, "wrong")))
}

pub(super) fn shapes_from_clients(relay: &Relay) -> Outcome {
    relay_refuses(relay, &Request::client(), &shapes(&client_start(22)))
}

pub(super) fn shapes_to_agent(agent: &mut Agent) -> Outcome {
    let mut agent = RefusingAgent::start(agent)?;
    shapes(&agent.question()).iter().try_for_each(|text| agent.refuses(text))
}

pub(super) fn shapes_to_client(client: &mut Client) -> Outcome {
    client_refuses(client, &shapes(&json!({ "kind": "tcp_data", "data_base64": "aGVsbG8=" })))
}

// ---- the canonical form (M-3, M-4) ----

/// The canonical form of the message that has these fields, in this order.
fn canonical(kind: &str, fields: &[(&str, &str)]) -> String {
    let mut inner = json!({ "kind": kind });
    for (name, value) in fields {
        inner[*name] = (*value).into();
    }
    json!({ "inner": inner }).to_string()
}

fn expect_text(message: &Message, text: &str) -> Outcome {
    if message.text == text {
        return Ok(());
    }
    Err(Finding::Fail(format!("instead of {text} came {}", message.text)))
}

pub(super) fn canonical_to_agent(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let mut start = client_start(22);
    start["target_ip"] = "printer.example".into();
    let mut client = relay.stream(&mut agent)?.0;
    let mut other = relay.client_link()?;
    other.send(&start);
    let question = agent.expect_question()?;
    let id = question.field("connection_id").to_owned();
    let wanted = format!(
        "{{\"inner\":{{\"kind\":\"initiate_connection\",\"target_ip\":\"printer.example\",\
         \"target_port\":22,\"protocol\":\"tcp\",\"connection_id\":\"{id}\"}}}}"
    );
    expect_text(&question, &wanted)?;
    agent.ok(&id);
    other.expect_kind("start_ok")?;
    other.data(b"hello");
    let data = agent.expect_kind("tcp_data")?;
    let fields = [("connection_id", &*id), ("data_base64", "aGVsbG8=")];
    expect_text(&data, &canonical("tcp_data", &fields))?;
    other.leave()?;
    let close = agent.expect_kind("connection_close")?;
    let fields = [("message", CONNECTION_CLOSE_MESSAGE), ("connection_id", &id)];
    expect_text(&close, &canonical("connection_close", &fields))?;
    client.expect_quiet()
}

pub(super) fn canonical_to_client(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (mut client, id) = relay.ask(&mut agent)?;
    agent.ok(&id);
    expect_text(&client.message()?, r#"{"inner":{"kind":"start_ok"}}"#)?;
    agent.data(&id, b"hello");
    expect_text(&client.message()?, &canonical("tcp_data", &[("data_base64", "aGVsbG8=")]))?;
    let (mut refused, id) = relay.ask(&mut agent)?;
    agent.refuse(&id, "no");
    let text = format!("{ERROR_INITIATE_PREFIX}no");
    expect_text(&refused.message()?, &canonical("error", &[("message", &text)]))?;
    client.expect_quiet()
}

pub(super) fn canonical_from_agent(agent: &mut Agent) -> Outcome {
    agent.launch()?;
    let (mut link, start) = agent.accept_start()?;
    expect_text(&start, &json!({ "inner": agent_start(AGENT, AGENT_SECRET) }).to_string())?;
    let target = Target::resetting_after(9);
    link.ask("one", target.port());
    let ok = link.message()?;
    expect_text(&ok, &canonical("initiate_connection_ok", &[("connection_id", "one")]))?;
    link.ask_for("two", "127.0.0.1", &1.into(), "udp");
    let refusal = link.expect_kind("initiate_connection_error")?;
    let fields = [("message", refusal.field("message")), ("connection_id", "two")];
    expect_text(&refusal, &canonical("initiate_connection_error", &fields))?;
    let echo = Target::echo();
    link.open("three", echo.port())?;
    link.data("three", b"hello");
    let fields = [("connection_id", "three"), ("data_base64", "aGVsbG8=")];
    expect_text(&link.message()?, &canonical("tcp_data", &fields))?;
    let reset = loop {
        // Some agents see that a target has broken only when they write to it.
        link.data("one", b"to a target that breaks");
        match link.receive_within(std::time::Duration::from_millis(200))? {
            Some(Received::Text(text)) => break Message::read(text)?,
            Some(other) => return Err(Finding::Fail(format!("instead of a reset {other:?}"))),
            None => link.expect_quiet()?,
        }
    };
    let fields = [("message", reset.field("message")), ("connection_id", "one")];
    expect_text(&reset, &canonical("connection_reset", &fields))
}

pub(super) fn canonical_from_client(client: &mut Client) -> Outcome {
    let url = client.url();
    client.launch_for(&url, "printer.example", "9100", Input::Pipe)?;
    let (mut link, start) = client.accept_start()?;
    let wanted = format!(
        "{{\"inner\":{{\"kind\":\"start\",\"connection_target\":\"{AGENT}\",\
         \"target_ip\":\"printer.example\",\"target_port\":9100,\"protocol\":\"tcp\",\
         \"secret\":\"{CLIENT_SECRET}\"}}}}"
    );
    expect_text(&start, &wanted)?;
    link.start_ok();
    client.input(b"hello")?;
    expect_text(&link.message()?, &canonical("tcp_data", &[("data_base64", "aGVsbG8=")]))
}

/// A text with all that M-4 names, and its canonical form without the quotation marks.
fn special() -> (String, String) {
    let (mut text, mut written) = (String::new(), String::new());
    for code in 0..0x20_u8 {
        text.push(char::from(code));
        written.push_str(&match code {
            0x08 => "\\b".to_owned(),
            0x09 => "\\t".to_owned(),
            0x0a => "\\n".to_owned(),
            0x0c => "\\f".to_owned(),
            0x0d => "\\r".to_owned(),
            code => format!("\\u00{code:02x}"),
        });
    }
    let others = "/\u{7f}\u{80}\u{2028}\u{feff}</script>é🦀";
    (text + "\"\\" + others, written + "\\\"\\\\" + others)
}

fn expect_written(message: &Message, written: &str) -> Outcome {
    if message.text.contains(&format!("{written}\"")) {
        return Ok(());
    }
    Err(Finding::Fail(format!("instead of {written:?} there is {:?}", message.text)))
}

pub(super) fn escapes_of_relay(relay: &Relay) -> Outcome {
    let (text, written) = special();
    let mut agent = relay.agent()?;
    let _stream = relay.stream(&mut agent)?;
    let mut client = relay.client_link()?;
    let mut start = client_start(22);
    start["target_ip"] = text.clone().into();
    client.send(&start);
    let question = agent.expect_question()?;
    expect_written(&question, &written)?;
    agent.refuse(question.field("connection_id"), &text);
    expect_written(&client.expect_kind("error")?, &written)
}

pub(super) fn escapes_of_agent(agent: &mut Agent) -> Outcome {
    let (text, written) = special();
    let target = Target::echo();
    let mut link = agent.start()?;
    link.ask(&text, target.port());
    expect_written(&link.expect_kind("initiate_connection_ok")?, &written)?;
    link.data(&text, b"hello");
    expect_written(
        &link.expect_kind("tcp_data")?,
        &format!("{written}\",\"data_base64\":\"aGVsbG8="),
    )
}

pub(super) fn escapes_of_client(client: &mut Client) -> Outcome {
    // An argument cannot hold the character 0, and a program may refuse other control characters in a host.
    let url = client.url();
    let host = "a\\b\"c/d\u{7f}é🦀";
    client.launch_for(&url, host, "22", Input::Pipe)?;
    let (_link, start) = client.accept_start()?;
    expect_written(&start, "a\\\\b\\\"c/d\u{7f}é🦀")
}

// ---- kinds (M-8) ----

/// A message of each kind that another direction has: with all fields that any kind has, so that the kind alone is
/// wrong.
fn other_kinds(own: &[&str], inner: &Value) -> Vec<String> {
    let all = [
        "start",
        "initiate_connection_error",
        "initiate_connection_ok",
        "tcp_data",
        "connection_reset",
        "keep_alive",
        "initiate_connection",
        "connection_close",
        "start_ok",
        "error",
    ];
    let others = all.iter().filter(|kind| !own.contains(kind));
    let text_of = |kind: &&str| {
        let mut inner = inner.clone();
        for field in ["message", "connection_id", "data_base64"] {
            if inner.get(field).is_none() {
                inner[field] = "".into();
            }
        }
        inner["kind"] = (*kind).into();
        json!({ "inner": inner }).to_string()
    };
    others.map(text_of).chain([text_of(&"hello"), text_of(&"")]).collect()
}

pub(super) fn kinds_from_agents(relay: &Relay) -> Outcome {
    let own = [
        "start",
        "initiate_connection_error",
        "initiate_connection_ok",
        "tcp_data",
        "connection_reset",
        "keep_alive",
    ];
    relay_refuses(relay, &Request::agent(), &other_kinds(&own, &agent_start(AGENT, "wrong")))
}

pub(super) fn kinds_from_clients(relay: &Relay) -> Outcome {
    relay_refuses(
        relay,
        &Request::client(),
        &other_kinds(&["start", "tcp_data"], &client_start(22)),
    )
}

pub(super) fn kinds_to_agent(agent: &mut Agent) -> Outcome {
    let own = ["initiate_connection", "tcp_data", "connection_close", "keep_alive"];
    let mut agent = RefusingAgent::start(agent)?;
    other_kinds(&own, &agent.question()).iter().try_for_each(|text| agent.refuses(text))
}

pub(super) fn kinds_to_client(client: &mut Client) -> Outcome {
    let own = ["start_ok", "error", "tcp_data"];
    client_refuses(client, &other_kinds(&own, &json!({ "kind": "" })))
}

// ---- base64 (M-9) ----

/// Bytes of each length up to two groups, and all values of a byte.
fn payloads() -> Vec<Vec<u8>> {
    let mut payloads: Vec<Vec<u8>> = (1..=6).map(|length| vec![0xff; length]).collect();
    payloads.push((0..=255).collect());
    payloads
}

/// The next data, which has to be written exactly as M-9 has it.
fn expect_written_bytes(link: &mut Link, bytes: &[u8]) -> Outcome {
    let message = link.expect_kind("tcp_data")?;
    match message.field("data_base64") {
        written if written == base64(bytes) => Ok(()),
        written => Err(Finding::Fail(format!("{bytes:?} is written {written:?}"))),
    }
}

pub(super) fn base64_of_relay(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (mut client, id) = relay.stream(&mut agent)?;
    for payload in payloads() {
        // What was read in a lax form (Q-9) is written anew.
        let lax = format!("\n{}==", base64(&payload));
        agent.send(&json!({ "kind": "tcp_data", "connection_id": id, "data_base64": lax }));
        expect_written_bytes(&mut client, &payload)?;
        client.send(&json!({ "kind": "tcp_data", "data_base64": lax }));
        expect_written_bytes(&mut agent, &payload)?;
    }
    // Empty data may be passed on, and if so, as the empty text.
    client.send(&json!({ "kind": "tcp_data", "data_base64": "=" }));
    client.data(b"end");
    let mut message = agent.expect_kind("tcp_data")?;
    if message.field("data_base64").is_empty() && message.inner["data_base64"].is_string() {
        message = agent.expect_kind("tcp_data")?;
    }
    match message.field("data_base64") {
        "ZW5k" => Ok(()),
        written => Err(Finding::Fail(format!("after no bytes comes {written:?}"))),
    }
}

pub(super) fn base64_of_agent(agent: &mut Agent) -> Outcome {
    let target = Target::echo();
    let mut link = agent.start()?;
    link.open("echo", target.port())?;
    for payload in payloads() {
        link.data("echo", &payload);
        expect_written_bytes(&mut link, &payload)?;
    }
    Ok(())
}

pub(super) fn base64_of_client(client: &mut Client) -> Outcome {
    let mut link = client.open()?;
    for payload in payloads() {
        client.input(&payload)?;
        expect_written_bytes(&mut link, &payload)?;
    }
    Ok(())
}
