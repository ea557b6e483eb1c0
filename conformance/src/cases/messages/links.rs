//! What carries messages, and what becomes of a link: frames, order, texts that are no message.

use codec::v1::{CLOSE_AGENT_LOST, CLOSE_INVALID, CLOSE_NORMAL, CLOSE_UNSUPPORTED};
use serde_json::{Value, json};

use crate::cases::readers::{
    agent_reads, client_reads, expect_left, relay_reads_agents, relay_reads_clients,
};
use crate::harness::frames::{CONTINUATION, TEXT};
use crate::harness::tunnel::{AGENT, AGENT_SECRET, OTHER_AGENT, agent_start, client_start};
use crate::harness::{Target, seeded_bytes, sha256};
use crate::kit::{Agent, Client, Finding, Link, Outcome, Relay};

// ---- frames (M-5, M-6, M-13) ----

/// Sends a message in fragments, some of them empty, with a ping amid them that is answered.
fn in_pieces(link: &mut Link, inner: &Value) -> Outcome {
    let text = json!({ "inner": inner }).to_string();
    let (first, rest) = text.as_bytes().split_at(9);
    link.send_frame(TEXT, first);
    link.ping(b"amid");
    link.send_frame(CONTINUATION, b"");
    for piece in rest.chunks(7) {
        link.send_frame(CONTINUATION, piece);
    }
    link.send_frame(0x80 | CONTINUATION, b"");
    link.expect_pong(b"amid")
}

pub(super) fn pieces_from_agents(relay: &Relay) -> Outcome {
    relay_reads_agents(relay, in_pieces)
}

pub(super) fn pieces_from_clients(relay: &Relay) -> Outcome {
    relay_reads_clients(relay, in_pieces)
}

pub(super) fn pieces_to_agent(agent: &mut Agent) -> Outcome {
    agent_reads(agent, in_pieces)
}

pub(super) fn pieces_to_client(client: &mut Client) -> Outcome {
    client_reads(client, in_pieces)
}

fn as_binary(link: &mut Link, inner: &Value) -> Outcome {
    link.send_binary(json!({ "inner": inner }).to_string().as_bytes());
    Ok(())
}

pub(super) fn binary_from_agent(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (mut client, _) = relay.stream(&mut agent)?;
    as_binary(&mut agent, &json!({ "kind": "keep_alive" }))?;
    agent.expect_close(CLOSE_UNSUPPORTED)?;
    client.expect_close(CLOSE_AGENT_LOST)?;
    Ok(())
}

pub(super) fn binary_from_client(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (mut client, id) = relay.stream(&mut agent)?;
    as_binary(&mut client, &json!({ "kind": "tcp_data", "data_base64": "aGVsbG8=" }))?;
    client.expect_close(CLOSE_UNSUPPORTED)?;
    agent.expect_connection_close(&id)
}

pub(super) fn binary_first(relay: &Relay) -> Outcome {
    let mut agent = relay.agent_link()?;
    as_binary(&mut agent, &agent_start(AGENT, AGENT_SECRET))?;
    agent.expect_close(CLOSE_UNSUPPORTED)?;
    let mut client = relay.client_link()?;
    as_binary(&mut client, &client_start(22))?;
    client.expect_close(CLOSE_UNSUPPORTED)?;
    Ok(())
}

/// What a party should read, but need not.
fn seen_of(read: Outcome) -> Outcome<Option<String>> {
    match read {
        Ok(()) => Ok(None),
        Err(Finding::Fail(seen)) => Ok(Some(seen)),
        Err(other) => Err(other),
    }
}

pub(super) fn binary_to_agent(agent: &mut Agent) -> Outcome {
    let otherwise = seen_of(agent_reads(agent, as_binary))?;
    agent.should(otherwise.is_none(), otherwise.unwrap_or_default());
    Ok(())
}

pub(super) fn binary_to_client(client: &mut Client) -> Outcome {
    let otherwise = seen_of(client_reads(client, as_binary))?;
    client.should(otherwise.is_none(), otherwise.unwrap_or_default());
    Ok(())
}

/// As much as programs put into a message, and more.
const MUCH: usize = 300_000;

pub(super) fn frames_of_relay(relay: &Relay) -> Outcome {
    let bytes = seeded_bytes(13, MUCH);
    let mut agent = relay.agent()?;
    let (mut client, id) = relay.stream(&mut agent)?;
    client.data(&bytes);
    agent.expect_data(&id, &bytes)?;
    agent.data(&id, &bytes);
    client.expect_data(&bytes)?;
    let fragmented = agent.fragmented() + client.fragmented();
    relay.should(fragmented == 0, format!("{fragmented} messages came in fragments"));
    Ok(())
}

pub(super) fn frames_of_agent(agent: &mut Agent) -> Outcome {
    let target = Target::open_source(13, MUCH);
    let mut link = agent.start()?;
    link.open("much", target.port())?;
    link.expect_data("much", &seeded_bytes(13, MUCH))?;
    let fragmented = link.fragmented();
    agent.should(fragmented == 0, format!("{fragmented} messages came in fragments"));
    Ok(())
}

pub(super) fn frames_of_client(client: &mut Client) -> Outcome {
    let bytes = seeded_bytes(13, MUCH);
    let mut link = client.open()?;
    // More than a pipe holds: the rest goes in while the link is read.
    for piece in bytes.chunks(30_000) {
        client.input(piece)?;
        link.expect_data(piece)?;
    }
    let fragmented = link.fragmented();
    client.should(fragmented == 0, format!("{fragmented} messages came in fragments"));
    Ok(())
}

// ---- order (M-7) ----

/// A hundred lines, one message each.
fn lines() -> impl Iterator<Item = String> {
    (0..100).map(|number| format!("line {number}\n"))
}

pub(super) fn order_from_agent(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (mut one, one_id) = relay.ask(&mut agent)?;
    let (mut two, two_id) = relay.stream(&mut agent)?;
    agent.ok(&one_id);
    for line in lines() {
        agent.data(&one_id, line.as_bytes());
        agent.data(&two_id, line.as_bytes());
    }
    let all = lines().collect::<String>();
    one.expect_kind("start_ok")?;
    one.expect_data(all.as_bytes())?;
    two.expect_data(all.as_bytes())
}

pub(super) fn order_from_client(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (mut client, id) = relay.stream(&mut agent)?;
    for line in lines() {
        client.data(line.as_bytes());
    }
    client.leave()?;
    agent.expect_data(&id, lines().collect::<String>().as_bytes())?;
    agent.expect_connection_close(&id)
}

pub(super) fn order_to_agent(agent: &mut Agent) -> Outcome {
    let target = Target::echo();
    let mut link = agent.start()?;
    link.open("lines", target.port())?;
    for line in lines() {
        link.data("lines", line.as_bytes());
    }
    link.close_stream("lines");
    let seen = target.next_seen();
    if seen.sha256 == sha256(lines().collect::<String>().as_bytes()) {
        return Ok(());
    }
    Err(Finding::Fail(format!("the target got {} bytes, or others", seen.length)))
}

pub(super) fn order_to_client(client: &mut Client) -> Outcome {
    let mut link = client.open()?;
    for line in lines() {
        link.data(line.as_bytes());
    }
    link.leave()?;
    client.expect_output(lines().collect::<String>().as_bytes())?;
    client.expect_success()
}

// ---- what is no message (M-10, M-11, M-12, M-14) ----

pub(super) fn no_message_of_agent(relay: &Relay) -> Outcome {
    for ((name, secret), text) in
        [((AGENT, AGENT_SECRET), ""), (OTHER_AGENT, r#"{"inner":{"kind":"start_ok"}}"#)]
    {
        let mut agent = relay.agent_named(name, secret)?;
        let (mut client, _) = relay.stream(&mut agent)?;
        agent.send_text(text);
        agent.expect_close(CLOSE_INVALID)?;
        client.expect_close(CLOSE_AGENT_LOST)?;
    }
    Ok(())
}

pub(super) fn no_message_of_client(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    for text in ["", "hello", r#"{"inner":{"kind":"keep_alive"}}"#] {
        let (mut client, id) = relay.stream(&mut agent)?;
        client.send_text(text);
        client.expect_close(CLOSE_INVALID)?;
        agent.expect_connection_close(&id)?;
    }
    Ok(())
}

pub(super) fn no_message_to_agent(agent: &mut Agent) -> Outcome {
    let target = Target::echo();
    let mut link = agent.start()?;
    link.open("echo", target.port())?;
    for text in ["", "hello", "{}", r#"{"inner":{"kind":"start_ok"}}"#, "{\"inner\":"] {
        link.send_text(text);
        link.expect_quiet()?;
        link.data("echo", b"still here");
        link.expect_data("echo", b"still here")?;
    }
    Ok(())
}

/// Something that is no message, to a client whose stream is open; gives the code by which it leaves.
fn code_after(client: &mut Client, text: &str) -> Outcome<Option<u16>> {
    let mut link = client.open()?;
    link.data(b"before");
    client.expect_output(b"before")?;
    link.send_text(text);
    link.data(b"never to be seen");
    let code = expect_left(&mut link)?;
    client.expect_failure()?;
    Ok(code)
}

pub(super) fn no_message_to_client(client: &mut Client) -> Outcome {
    for text in ["", "{}", r#"{"inner":{"kind":"keep_alive"}}"#] {
        code_after(client, text)?;
    }
    // In place of an answer, too.
    let mut link = client.start()?;
    link.send_text("hello");
    expect_left(&mut link)?;
    client.expect_failure()
}

pub(super) fn code_of_client(client: &mut Client) -> Outcome {
    match code_after(client, "hello")? {
        Some(CLOSE_NORMAL | CLOSE_INVALID) => Ok(()),
        other => Err(Finding::Fail(format!("the code is {other:?}"))),
    }
}
