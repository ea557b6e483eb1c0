//! Older revisions: the scripted peers are relays, agents and clients of former times (spec v1, section R).

use std::time::Duration;

use codec::v1::{
    AGENT_KEEP_ALIVE_INTERVAL, CLOSE_NORMAL, CLOSE_RESTART, ERROR_AGENT_NOT_REGISTERED,
    ERROR_BAD_SECRET, KEEP_ALIVE_UNKNOWN_MARKS, MAX_MESSAGE_TO_AGENT_OLD, PING_INTERVAL,
    PONG_TIMEOUT, RELAY_KEEP_ALIVE_INTERVAL,
};
use serde_json::{Value, json};

use crate::harness::Target;
use crate::harness::tunnel::{AGENT, AGENT_SECRET, agent_start, client_start};
use crate::kit::{
    Agent, Case, Client, Finding, FromAgent, Message, Outcome, Received, Relay, Request, ToClient,
    agent, client, relay, watch,
};

/// The cases of this section, in the order of its statements.
pub(super) const CASES: &[Case] = &[
    relay("R-1", "the paths of before 2024-11-18", "their upgrades get a 403", former_paths),
    client(
        "R-2.a",
        "an error in the middle of a stream, by a relay before 2025-01-28",
        "the client ends and reports a failure",
        reset_as_error,
    ),
    client(
        "R-2.b",
        "the error texts of relays before 2025-01-28",
        "the client ends and reports a failure",
        former_texts,
    ),
    client(
        "R-3",
        "a wrong secret at a relay before 2025-01-31",
        "the client is content with the error",
        stream_after_error,
    ),
    agent(
        "R-4",
        "a relay before 2025-02-05, which knows no `connection_close`",
        "its streams stay open until the link ends",
        no_connection_close,
    ),
    relay(
        "R-5.a",
        "an agent before 2025-02-07, whose start has no `last_error`",
        "it gets no `connection_close`",
        absent_last_error,
    ),
    relay(
        "R-5.b",
        "an agent whose `last_error` is null",
        "it gets `connection_close`",
        null_last_error,
    ),
    agent("R-5.c", "an agent of today", "its start always has `last_error`", writes_last_error)
        .takes(1),
    relay(
        "R-6",
        "an agent of 2025-02-07, which stays away after an error",
        "its name is free, and it is admitted after its restart",
        stays_away,
    ),
    relay(
        "R-7",
        "an agent before 2025-02-19, whose link ends by `keep_alive`",
        "when it has returned with its report, it gets no other one",
        ended_by_keep_alive,
    )
    .takes(66),
    agent(
        "R-8",
        "a relay before 2025-02-19, which does not know an agent's `keep_alive`",
        "the agent sends none",
        keep_alive_unknown,
    )
    .takes(25),
    relay(
        "R-9",
        "an agent of 2025-02-19, whose keep-alive is a start without name",
        "it is ignored",
        start_as_keep_alive,
    ),
    relay(
        "R-10.a",
        "an agent before 2025-02-07, and much data at once",
        "no message to it is over 1 MiB",
        limit_of_old_agent,
    ),
    relay(
        "R-10.b",
        "an agent before 2025-03-05, and much data at once",
        "no message to it is over 1 MiB",
        limit_of_later_agent,
    ),
    agent(
        "R-11",
        "a relay of 2025-03-17, which closes the link for a stream that was reset",
        "the agent connects again",
        closed_for_reset,
    )
    .takes(1),
    agent(
        "R-12",
        "a relay before 2026-01-22, and a stream that is silent for long",
        "the agent keeps it",
        silent_stream,
    )
    .takes(46)
    .also(&["R-15"]),
    client(
        "R-13",
        "a relay before 2026-01-23, which does not close the client",
        "the client relies on its pings",
        never_closed,
    )
    .takes(40),
    agent(
        "R-14",
        "a relay of 2025-02-19, which fails on a `last_error` that is null",
        "the agent tries again",
        fails_on_null,
    )
    .takes(7),
    relay(
        "R-15",
        "an agent before January 2026, which sends `keep_alive` after a first message only",
        "its link stays",
        late_keep_alive,
    )
    .takes(45),
    agent(
        "R-16",
        "a relay of 2025-03-17, which refuses the next attempts",
        "the agent tries again until it is admitted",
        refused_after_close,
    )
    .takes(7),
    relay("R-17", "a start with further fields", "the agent is admitted", further_fields),
];

// ---- the relay ----

fn former_paths(relay: &Relay) -> Outcome {
    for path in ["/ws_for_clients", "/ws_for_ssh_proxy_command"] {
        let answer = relay.http(&Request::upgrade(path))?;
        if answer.status() != 403 {
            return Err(Finding::Fail(format!("{path} is answered by {:?}", answer.first_line)));
        }
    }
    Ok(())
}

/// The start of an agent that does not know `last_error`.
fn start_without_last_error() -> Value {
    json!({ "kind": "start", "name": AGENT, "secret": AGENT_SECRET })
}

/// An agent that has sent this start.
fn agent_with(relay: &Relay, start: &Value) -> Outcome<FromAgent> {
    let mut agent = relay.agent_link()?;
    agent.send(start);
    Ok(agent)
}

fn absent_last_error(relay: &Relay) -> Outcome {
    let mut agent = agent_with(relay, &start_without_last_error())?;
    let (mut client, _) = relay.stream(&mut agent)?;
    client.leave()?;
    client.expect_end()?;
    let (mut client, id) = relay.stream(&mut agent)?;
    agent.reset_stream(&id, "broken");
    while !matches!(client.receive()?, Received::Close(..) | Received::End) {}
    // It would break the link of such an agent.
    agent.expect_quiet()
}

fn null_last_error(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (mut client, id) = relay.stream(&mut agent)?;
    client.leave()?;
    agent.expect_connection_close(&id)
}

fn stays_away(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    relay.stream(&mut agent)?;
    // An error, from which it does not recover.
    agent.leave()?;
    while agent.receive()? != Received::End {}
    let mut client = relay.client_link()?;
    client.send(&client_start(22));
    client.expect_error(ERROR_AGENT_NOT_REGISTERED)?;
    let mut restarted = relay.agent()?;
    relay.stream(&mut restarted)?;
    Ok(())
}

/// What an agent that does not know `keep_alive` says of its first one.
fn report() -> String {
    let mark = KEEP_ALIVE_UNKNOWN_MARKS.first().copied().unwrap_or_default();
    format!(
        "1 validation error for RelayToEdgeAgentMessage\ninner\n  {mark}: 'initiate_connection', 'tcp_data', \
         'connection_close' [type=union_tag_invalid]"
    )
}

fn ended_by_keep_alive(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    agent.watch_keep_alive();
    let limit = agent.stage().patience_after(RELAY_KEEP_ALIVE_INTERVAL);
    match agent.receive_within(limit)? {
        Some(Received::Text(text)) if text.contains("keep_alive") => {}
        other => return Err(Finding::Fail(format!("instead of keep_alive came {other:?}"))),
    }
    agent.leave()?;
    agent.expect_end()?;
    let mut start = agent_start(AGENT, AGENT_SECRET);
    start["last_error"] = report().into();
    let mut agent = agent_with(relay, &start)?;
    let (mut client, id) = relay.stream(&mut agent)?;
    agent.watch_keep_alive();
    let limit = RELAY_KEEP_ALIVE_INTERVAL + Duration::from_secs(5);
    watch(&mut [&mut agent, &mut client], limit, |_, received| match received {
        Received::Ping(_) => Ok(false),
        other => Err(Finding::Fail(format!("instead of nothing came {other:?}"))),
    })?;
    agent.data(&id, b"still here");
    client.expect_data(b"still here")
}

fn start_as_keep_alive(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (mut client, id) = relay.stream(&mut agent)?;
    for _ in 0..3 {
        agent.send(&json!({ "kind": "start", "last_error": null }));
        agent.expect_quiet()?;
    }
    agent.data(&id, b"still here");
    client.expect_data(b"still here")
}

/// Sends an agent's stream 3 MiB in one message, and looks at how they come.
fn expect_small_messages(relay: &Relay, agent: &mut FromAgent) -> Outcome {
    let (mut client, id) = relay.stream(agent)?;
    let sent = crate::harness::seeded_bytes(10, 3 << 20);
    client.data(&sent);
    let mut came = Vec::new();
    while came.len() < sent.len() {
        let message = agent.expect_kind("tcp_data")?;
        let length = message.text.len();
        if length > MAX_MESSAGE_TO_AGENT_OLD || message.field("connection_id") != id {
            return Err(Finding::Fail(format!("a message of {length} bytes")));
        }
        came.extend(message.data()?);
    }
    if came == sent { Ok(()) } else { Err(Finding::fail("other bytes came")) }
}

fn limit_of_old_agent(relay: &Relay) -> Outcome {
    let mut agent = agent_with(relay, &start_without_last_error())?;
    expect_small_messages(relay, &mut agent)
}

fn limit_of_later_agent(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    expect_small_messages(relay, &mut agent)
}

fn late_keep_alive(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    // Longer than a link without pongs lasts.
    agent.expect_nothing_for(LIFE + Duration::from_secs(5))?;
    let (mut client, id) = relay.stream(&mut agent)?;
    agent.send(&json!({ "kind": "keep_alive" }));
    agent.expect_quiet()?;
    agent.data(&id, b"still here");
    client.expect_data(b"still here")
}

fn further_fields(relay: &Relay) -> Outcome {
    let mut start = agent_start(AGENT, AGENT_SECRET);
    start["token"] = "t".into();
    start["extra"] = json!({ "deep": [1, null, true, 2.5] });
    let mut agent = agent_with(relay, &start)?;
    relay.stream(&mut agent)?;
    Ok(())
}

// ---- the agent ----

/// How long a link without pongs lasts.
const LIFE: Duration = PING_INTERVAL.saturating_add(PONG_TIMEOUT);

fn no_connection_close(agent: &mut Agent) -> Outcome {
    let target = Target::echo();
    let mut link = agent.start()?;
    link.open("left", target.port())?;
    link.data("left", b"one");
    link.expect_data("left", b"one")?;
    // Its client has left, and the agent does not hear of it.
    link.open("next", target.port())?;
    link.data("next", b"two");
    link.expect_data("next", b"two")?;
    link.data("left", b"three");
    link.expect_data("left", b"three")?;
    link.leave_with(CLOSE_RESTART)?;
    // At both connections to the target.
    let lengths = [target.next_seen().length, target.next_seen().length];
    if lengths.iter().sum::<usize>() == b"one two three".len() - 2 {
        return Ok(());
    }
    Err(Finding::Fail(format!("the target got {lengths:?} bytes")))
}

/// The start has `last_error`, and it is null.
fn expect_null(start: &Message) -> Outcome {
    if start.inner.get("last_error") == Some(&Value::Null) {
        return Ok(());
    }
    Err(Finding::Fail(format!("the start is {}", start.text)))
}

fn writes_last_error(agent: &mut Agent) -> Outcome {
    agent.launch()?;
    let (mut link, start) = agent.accept_start()?;
    expect_null(&start)?;
    link.leave()?;
    expect_null(&agent.accept_start()?.1)
}

fn keep_alive_unknown(agent: &mut Agent) -> Outcome {
    let target = Target::echo();
    let mut link = agent.start()?;
    link.watch_keep_alive();
    link.open("first", target.port())?;
    link.expect_nothing_for(AGENT_KEEP_ALIVE_INTERVAL * 2 + Duration::from_secs(5))?;
    link.data("first", b"still here");
    link.expect_data("first", b"still here")
}

/// As relays of 2025-03-17 do it when a stream was reset.
fn close_for_reset(agent: &mut Agent) -> Outcome {
    let target = Target::resetting_after(5);
    let mut link = agent.start()?;
    link.open("first", target.port())?;
    link.data("first", b"hello");
    link.close_stream("first");
    link.close(CLOSE_NORMAL);
    while !matches!(link.receive()?, Received::Close(..) | Received::End) {}
    Ok(())
}

fn closed_for_reset(agent: &mut Agent) -> Outcome {
    close_for_reset(agent)?;
    let target = Target::greeting("hello");
    let (mut link, _) = agent.accept_start()?;
    link.open("first", target.port())?;
    link.expect_data("first", b"hello")
}

fn silent_stream(agent: &mut Agent) -> Outcome {
    let target = Target::echo();
    let mut link = agent.start()?;
    link.open("silent", target.port())?;
    link.expect_nothing_for(LIFE + Duration::from_secs(5))?;
    link.data("silent", b"still here");
    link.expect_data("silent", b"still here")
}

fn fails_on_null(agent: &mut Agent) -> Outcome {
    agent.launch()?;
    for _ in 0..3 {
        let (_link, start) = agent.accept_start()?;
        // The bare end of the TCP connection is no failure of the agent's.
        expect_null(&start)?;
    }
    let (mut link, _) = agent.accept_start()?;
    link.expect_quiet()
}

fn refused_after_close(agent: &mut Agent) -> Outcome {
    close_for_reset(agent)?;
    for _ in 0..2 {
        agent.accept_start()?;
    }
    let target = Target::greeting("hello");
    let (mut link, _) = agent.accept_start()?;
    link.open("first", target.port())?;
    link.expect_data("first", b"hello")
}

// ---- the client ----

/// The client leaves without having sent anything, and reports a failure.
fn expect_failure(client: &mut Client, mut link: ToClient) -> Outcome {
    match link.receive()? {
        Received::Close(..) | Received::End => {}
        other => return Err(Finding::Fail(format!("instead of its end came {other:?}"))),
    }
    drop(link);
    client.expect_failure()
}

fn reset_as_error(client: &mut Client) -> Outcome {
    let mut link = client.open()?;
    link.data(b"before");
    client.expect_output(b"before")?;
    link.error("Connection reset: Connection reset while writing data");
    link.close(CLOSE_NORMAL);
    expect_failure(client, link)
}

fn former_texts(client: &mut Client) -> Outcome {
    for text in [
        "Initiating connection failed: [Errno 111] Connect call failed ('127.0.0.1', 22)",
        "Initiating connection failed: [Errno -2] Name or service not known",
    ] {
        let mut link = client.start()?;
        link.error(text);
        expect_failure(client, link)?;
    }
    Ok(())
}

fn stream_after_error(client: &mut Client) -> Outcome {
    let mut link = client.start()?;
    client.input(b"for the right relay only")?;
    link.error(ERROR_BAD_SECRET);
    link.start_ok();
    link.data(b"never to be seen");
    expect_failure(client, link)
}

fn never_closed(client: &mut Client) -> Outcome {
    let mut link = client.open()?;
    link.data(b"before");
    client.expect_output(b"before")?;
    link.leave_pings_unanswered();
    match link.receive_within(client.stage().patience_after(LIFE))? {
        Some(Received::Close(..) | Received::End) => {}
        None => return Err(Finding::fail("the client waits on")),
        Some(other) => return Err(Finding::Fail(format!("instead of a close came {other:?}"))),
    }
    drop(link);
    client.expect_failure()
}
