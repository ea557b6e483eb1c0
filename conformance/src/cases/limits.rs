//! Limits and times: how large, how deep, how long (spec v1, section L).

use std::sync::Arc;
use std::time::{Duration, Instant};

use codec::v1::{
    CLOSE_INVALID, CLOSE_NORMAL, CLOSE_PING_TIMEOUT, CLOSE_STALLED, CLOSE_TOO_BIG, DIAL_TIMEOUT,
    ERROR_INITIATE_PREFIX, ERROR_NO_ANSWER, HANDSHAKE_TIMEOUT, MAX_DEPTH, MAX_ERROR_TEXT,
    MAX_MESSAGE_AT_AGENT, MAX_MESSAGE_BEFORE_START, MAX_MESSAGE_TO_AGENT_OLD,
    MAX_MESSAGE_TO_CLIENT, MAX_MESSAGE_TO_RELAY, MAX_VALUES, RELAY_ANSWER_TIMEOUT, STALL_TIMEOUT,
};
use serde_json::{Value, json};

use crate::harness::frames::TEXT;
use crate::harness::seeded_bytes;
use crate::harness::tunnel::{AGENT, AGENT_SECRET, agent_start, client_start};
use crate::kit::{
    Agent, Case, Client, Finding, Flood, Outcome, Received, Relay, agent, base64, client, data_of,
    data_text, relay,
};

/// The cases of this section, in the order of its statements.
pub(super) const CASES: &[Case] = &[
    relay("L-1.a", "a first message of 64 KiB", "it is read", largest_start),
    relay("L-1.b", "a larger first message", "the link is closed with 1009", too_large_start),
    relay("L-2.a", "a message of 16 MiB", "it is read", largest_message)
        .takes(LARGE_TAKES.as_secs()),
    relay("L-2.b", "one byte more", "the link is closed with 1009", too_large_message),
    relay(
        "L-2.c",
        "one byte more, in fragments",
        "the link is closed with 1009",
        too_large_in_pieces,
    )
    .takes(1),
    client("L-3.a", "a message of 1 MiB", "the client reads it", largest_at_client),
    client("L-3.b", "one byte more", "the client closes with 1009", too_large_at_client)
        .also(&["X-20"]),
    relay(
        "L-3.c",
        "the largest messages that an agent may send",
        "none to a client is above 1 MiB",
        none_too_large,
    ),
    relay("L-3.d", "an agent's long sentence", "4,096 bytes of it are passed on", error_is_cut),
    agent("L-4", "a message of 64 MiB", "the agent reads it", largest_at_agent)
        .takes(LARGE_TAKES.as_secs()),
    relay("L-5", "an agent without `last_error`", "it gets no message above 1 MiB", old_agent),
    relay("L-6.a", "65,536 values, and one more", "read, and no message", values_at_relay),
    agent("L-6.b", "65,536 values, and one more", "read, and no message", values_at_agent),
    client("L-6.c", "65,536 values, and one more", "read, and no message", values_at_client),
    relay("L-7.a", "127 levels, and one more", "read, and no message", depth_at_relay),
    agent("L-7.b", "127 levels, and one more", "read, and no message", depth_at_agent),
    client("L-7.c", "127 levels, and one more", "read, and no message", depth_at_client),
    relay("L-8.a", "an agent that reads nothing", "its client's link is not read", held_back),
    relay(
        "L-8.b",
        "an agent that does not answer",
        "its client's link is not read",
        early_held_back,
    ),
    relay("L-9.a", "a client that reads nothing", "its stream ends with 4002", stalled_client)
        .takes(12)
        .also(&["X-1"]),
    agent("L-9.b", "a target that reads nothing", "its stream is reset", stalled_target).takes(12),
    relay("L-9.c", "a client that reads again in time", "it gets everything", late_client).takes(5),
    agent("L-9.d", "a target that reads again in time", "it gets everything", late_target).takes(5),
    agent(
        "L-11.a",
        "no answer to the agent's upgrade",
        "it gives up, and tries again",
        no_upgrade_of_agent,
    )
    .takes(12),
    client("L-11.b", "no answer to the client's upgrade", "it gives up", no_upgrade_of_client)
        .takes(12),
    agent("L-12", "a target that does not answer", "it gives up after 10 s", dial_timeout)
        .takes(12),
    relay("L-13", "an agent that does not answer", "the client is told after 135 s", no_answer)
        .takes(140)
        .also(&["X-7"]),
    relay(
        "L-15",
        "many large messages at once",
        "some links may be closed for them",
        too_much_memory,
    )
    .takes(LARGE_TAKES.as_secs()),
    relay(
        "L-16",
        "an agent that takes nothing at all",
        "the client gets 4002",
        agent_takes_nothing,
    )
    .takes(12),
    client("L-17", "an output that takes nothing", "the client stops reading", output_held)
        .takes(3),
];

// ---- sizes ----

/// The text of a message, made this long by a field that no reader knows.
fn padded(inner: &Value, length: usize) -> String {
    let head = format!("{{\"inner\":{inner},\"pad\":\"");
    let pad = "x".repeat(length - head.len() - 2);
    format!("{head}{pad}\"}}")
}

/// How long reading the largest messages may take, on a machine that has other things to do.
const LARGE_TAKES: Duration = Duration::from_secs(60);

fn largest_start(relay: &Relay) -> Outcome {
    let mut agent = relay.agent_link()?;
    agent.send_text(&padded(&agent_start(AGENT, AGENT_SECRET), MAX_MESSAGE_BEFORE_START));
    agent.expect_quiet()?;
    let mut client = relay.client_link()?;
    client.send_text(&padded(&client_start(22), MAX_MESSAGE_BEFORE_START));
    let question = agent.expect_question()?;
    agent.ok(question.field("connection_id"));
    client.expect_kind("start_ok")?;
    Ok(())
}

fn too_large_start(relay: &Relay) -> Outcome {
    let length = MAX_MESSAGE_BEFORE_START + 1;
    let mut agent = relay.agent_link()?;
    agent.send_text(&padded(&agent_start(AGENT, AGENT_SECRET), length));
    agent.expect_close(CLOSE_TOO_BIG)?;
    let mut client = relay.client_link()?;
    client.send_text(&padded(&client_start(22), length));
    client.expect_close(CLOSE_TOO_BIG)?;
    Ok(())
}

fn largest_message(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (mut client, id) = relay.stream(&mut agent)?;
    let data = json!({ "kind": "tcp_data", "data_base64": base64(b"hello") });
    client.send_text(&padded(&data, MAX_MESSAGE_TO_RELAY));
    let data = agent.expect_kind_after(LARGE_TAKES, "tcp_data")?.data()?;
    if data != b"hello" {
        return Err(Finding::Fail(format!("the agent got {data:?} of it")));
    }
    agent.send_text(&padded(&data_of(&id, b"hello"), MAX_MESSAGE_TO_RELAY));
    let data = client.expect_kind_after(LARGE_TAKES, "tcp_data")?.data()?;
    if data == b"hello" { Ok(()) } else { Err(Finding::Fail(format!("the client got {data:?}"))) }
}

fn too_large_message(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (mut client, id) = relay.stream(&mut agent)?;
    // The head of the frame says enough.
    client.claim(0x80 | TEXT, MAX_MESSAGE_TO_RELAY as u64 + 1);
    client.expect_close(CLOSE_TOO_BIG)?;
    client.finish();
    agent.expect_connection_close(&id)?;
    agent.claim(0x80 | TEXT, MAX_MESSAGE_TO_RELAY as u64 + 1);
    agent.expect_close(CLOSE_TOO_BIG)?;
    Ok(())
}

fn too_large_in_pieces(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (mut client, _) = relay.stream(&mut agent)?;
    client.send_frame(TEXT, &vec![b' '; MAX_MESSAGE_TO_RELAY - 1]);
    client.send_frame(0x80, b"  ");
    client.expect_close(CLOSE_TOO_BIG)?;
    Ok(())
}

fn largest_at_client(client: &mut Client) -> Outcome {
    let mut link = client.open()?;
    let data = json!({ "kind": "tcp_data", "data_base64": base64(b"hello") });
    link.send_text(&padded(&data, MAX_MESSAGE_TO_CLIENT));
    client.expect_output(b"hello")?;
    let most = seeded_bytes(3, (MAX_MESSAGE_TO_CLIENT - 60) / 4 * 3);
    link.data(&most);
    client.expect_output(&most)?;
    link.expect_quiet()
}

fn too_large_at_client(client: &mut Client) -> Outcome {
    let mut link = client.open()?;
    link.claim(0x80 | TEXT, MAX_MESSAGE_TO_CLIENT as u64 + 1);
    link.expect_close(CLOSE_TOO_BIG)?;
    drop(link);
    client.expect_failure()
}

fn none_too_large(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (mut client, id) = relay.stream(&mut agent)?;
    for length in [MAX_MESSAGE_TO_CLIENT / 4 * 3, MAX_MESSAGE_TO_CLIENT] {
        let bytes = seeded_bytes(4, length);
        agent.data(&id, &bytes);
        let largest = client.sizes_of_data(&bytes)?.largest_text();
        if largest > MAX_MESSAGE_TO_CLIENT {
            return Err(Finding::Fail(format!("a message of {largest} bytes came to the client")));
        }
    }
    Ok(())
}

fn error_is_cut(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let long = "é".repeat(MAX_ERROR_TEXT);
    for (words, wanted) in [
        ("x".repeat(MAX_ERROR_TEXT), "x".repeat(MAX_ERROR_TEXT)),
        ("x".repeat(MAX_ERROR_TEXT + 1), "x".repeat(MAX_ERROR_TEXT)),
        (long.clone(), "é".repeat(MAX_ERROR_TEXT / 2)),
        (format!("a{long}"), format!("a{}", "é".repeat(MAX_ERROR_TEXT / 2 - 1))),
    ] {
        let (mut client, id) = relay.ask(&mut agent)?;
        agent.refuse(&id, &words);
        let error = client.expect_kind("error")?;
        let came = error.field("message");
        if came != format!("{ERROR_INITIATE_PREFIX}{wanted}") {
            let (sent, came) = (words.len(), came.len() - ERROR_INITIATE_PREFIX.len());
            let wanted = wanted.len();
            let lengths = format!("of {sent} bytes {came} are passed on, instead of {wanted}");
            return Err(Finding::Fail(lengths));
        }
    }
    Ok(())
}

fn largest_at_agent(agent: &mut Agent) -> Outcome {
    let target = agent.target()?;
    let mut link = agent.start()?;
    link.open("s", target.port())?;
    let mut connection = target.accept()?;
    link.send_text(&padded(&data_of("s", b"hello"), MAX_MESSAGE_AT_AGENT));
    connection.expect_after(LARGE_TAKES, b"hello")?;
    link.expect_quiet()
}

fn old_agent(relay: &Relay) -> Outcome {
    let mut agent = relay.agent_link()?;
    agent.send(&json!({ "kind": "start", "name": AGENT, "secret": AGENT_SECRET }));
    let (mut client, id) = relay.ask_with(&mut agent, &client_start(22))?;
    agent.ok(&id);
    client.expect_kind("start_ok")?;
    let bytes = seeded_bytes(5, MAX_MESSAGE_TO_AGENT_OLD);
    client.data(&bytes);
    let largest = agent.sizes_of_data(&id, &bytes)?.largest_text();
    if largest <= MAX_MESSAGE_TO_AGENT_OLD {
        return Ok(());
    }
    Err(Finding::Fail(format!("a message of {largest} bytes came to the agent")))
}

// ---- structure ----

/// A message with a further field, which no reader knows: a list of so many zeros.
fn with_values(inner: &Value, zeros: usize) -> String {
    let list = vec!["0"; zeros].join(",");
    format!("{{\"inner\":{inner},\"pad\":[{list}]}}")
}

/// The zeros that make a message with these fields in `inner` as large as it may be: beside them there are the two
/// objects and the list.
fn zeros(fields: usize) -> usize {
    MAX_VALUES - 3 - fields
}

/// A message with a further field, which no reader knows: lists in one another, so that it is this deep in all.
fn with_depth(inner: &Value, depth: usize) -> String {
    let lists = depth - 1;
    format!("{{\"inner\":{inner},\"pad\":{}{}}}", "[".repeat(lists), "]".repeat(lists))
}

/// A message that a client may just send is passed on; one with a little more is none.
fn expect_limit(relay: &Relay, make: fn(&Value, usize) -> String, most: usize) -> Outcome {
    let mut agent = relay.agent()?;
    let (mut client, id) = relay.stream(&mut agent)?;
    let data = json!({ "kind": "tcp_data", "data_base64": base64(b"hello") });
    client.send_text(&make(&data, most));
    agent.expect_data(&id, b"hello")?;
    client.send_text(&make(&data, most + 1));
    client.expect_close(CLOSE_INVALID)?;
    Ok(())
}

/// The same for an agent, which ignores what is no message.
fn expect_limit_at_agent(
    agent: &mut Agent,
    make: fn(&Value, usize) -> String,
    most: usize,
) -> Outcome {
    let target = agent.target()?;
    let mut link = agent.start()?;
    link.open("s", target.port())?;
    let mut connection = target.accept()?;
    link.send_text(&make(&data_of("s", b"read"), most));
    connection.expect(b"read")?;
    link.send_text(&make(&data_of("s", b"ignored"), most + 1));
    link.data("s", b"read again");
    connection.expect(b"read again")
}

/// The same for a client, which ends over what is no message.
fn expect_limit_at_client(
    client: &mut Client,
    make: fn(&Value, usize) -> String,
    most: usize,
) -> Outcome {
    let mut link = client.open()?;
    let data = json!({ "kind": "tcp_data", "data_base64": base64(b"hello") });
    link.send_text(&make(&data, most));
    client.expect_output(b"hello")?;
    link.send_text(&make(&data, most + 1));
    match link.receive()? {
        Received::Close(Some(CLOSE_NORMAL | CLOSE_INVALID), _) => client.expect_failure(),
        other => Err(Finding::Fail(format!("the client's end is {other:?}"))),
    }
}

fn values_at_relay(relay: &Relay) -> Outcome {
    expect_limit(relay, with_values, zeros(2))
}

fn values_at_agent(agent: &mut Agent) -> Outcome {
    expect_limit_at_agent(agent, with_values, zeros(3))
}

fn values_at_client(client: &mut Client) -> Outcome {
    expect_limit_at_client(client, with_values, zeros(2))
}

fn depth_at_relay(relay: &Relay) -> Outcome {
    expect_limit(relay, with_depth, MAX_DEPTH)
}

fn depth_at_agent(agent: &mut Agent) -> Outcome {
    expect_limit_at_agent(agent, with_depth, MAX_DEPTH)
}

fn depth_at_client(client: &mut Client) -> Outcome {
    expect_limit_at_client(client, with_depth, MAX_DEPTH)
}

// ---- queues ----

/// So many bytes, and the messages of 64 KiB that carry them: those of an agent or to one (`id`), or those of a client
/// or to one.
pub(super) fn flood_of(id: Option<&str>, length: usize) -> (Vec<u8>, Vec<Arc<str>>) {
    let bytes = seeded_bytes(8, length);
    let messages = bytes.chunks(1 << 16).map(|piece| data_text(id, piece).into()).collect();
    (bytes, messages)
}

/// More than a party and its sockets hold of a stream whose reader takes nothing. The sockets of the kit hold little.
pub(super) const MUCH: usize = 4 << 20;

/// A flood that begins with `MUCH`, which is given, and then repeats its last message for longer than anybody holds:
/// buffers of systems grow as long as they are read.
pub(super) fn endless_flood() -> (Vec<u8>, Vec<Arc<str>>) {
    let (bytes, mut messages) = flood_of(None, MUCH);
    if let Some(last) = messages.last().cloned() {
        messages.resize(ENDLESS >> 16, last);
    }
    (bytes, messages)
}

/// So much is no end: 48 MiB of payload.
const ENDLESS: usize = 48 << 20;

fn held_back(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (client, id) = relay.stream(&mut agent)?;
    let (bytes, messages) = endless_flood();
    let flood = Flood::start(client, messages)?;
    let taken = flood.expect_held_up()?;
    agent.expect_data(&id, &bytes)?;
    flood.expect_going_on(taken)
}

fn early_held_back(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (client, id) = relay.ask(&mut agent)?;
    let (bytes, messages) = endless_flood();
    let flood = Flood::start(client, messages)?;
    let taken = flood.expect_held_up()?;
    agent.expect_quiet()?;
    agent.ok(&id);
    agent.expect_data(&id, &bytes)?;
    flood.expect_going_on(taken)
}

fn stalled_client(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (mut client, id) = relay.stream(&mut agent)?;
    let (bytes, messages) = flood_of(Some(&id), MUCH);
    let flood = Flood::start(agent, messages)?;
    let mut agent = flood.finish_after(STALL_TIMEOUT)?;
    agent.expect_connection_close_after(STALL_TIMEOUT, &id)?;
    // What it had taken is right; then it is told.
    let mut came = 0;
    loop {
        match client.receive()? {
            Received::Text(text) => {
                let piece = crate::kit::Message::read(text)?.data()?;
                if !bytes[came..].starts_with(&piece) {
                    return Err(Finding::Fail(format!("others bytes came after {came}")));
                }
                came += piece.len();
            }
            Received::Close(Some(CLOSE_STALLED), _) => break,
            other => return Err(Finding::Fail(format!("the client's end is {other:?}"))),
        }
    }
    // The agent's other streams are not touched.
    let (mut next, id) = relay.stream(&mut agent)?;
    agent.data(&id, b"another");
    next.expect_data(b"another")
}

fn late_client(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (mut client, id) = relay.stream(&mut agent)?;
    let (bytes, messages) = flood_of(Some(&id), MUCH);
    let flood = Flood::start(agent, messages)?;
    relay.stage().pass(STALL_TIMEOUT / 2);
    client.expect_data(&bytes)?;
    let mut agent = flood.finish()?;
    agent.reset_stream(&id, codec::v1::TARGET_CLOSED_MESSAGE);
    client.expect_close(CLOSE_NORMAL)?;
    agent.expect_connection_close(&id)
}

fn stalled_target(agent: &mut Agent) -> Outcome {
    let target = agent.target()?;
    let mut link = agent.start()?;
    link.open("s", target.port())?;
    let mut stalled = target.accept()?;
    link.open("t", target.port())?;
    let mut other = target.accept()?;
    let (_, messages) = flood_of(Some("s"), MUCH);
    let flood = Flood::start(link, messages)?;
    let mut link = flood.finish_after(STALL_TIMEOUT)?;
    link.expect_reset_after(STALL_TIMEOUT, "s")?;
    stalled.drain()?;
    link.data("t", b"it goes on");
    other.expect(b"it goes on")?;
    other.write(b"both ways");
    link.expect_data("t", b"both ways")
}

fn late_target(agent: &mut Agent) -> Outcome {
    let target = agent.target()?;
    let mut link = agent.start()?;
    link.open("s", target.port())?;
    let mut late = target.accept()?;
    let (bytes, messages) = flood_of(Some("s"), MUCH);
    let flood = Flood::start(link, messages)?;
    agent.stage().pass(STALL_TIMEOUT / 2);
    late.expect_after(LARGE_TAKES, &bytes)?;
    let mut link = flood.finish()?;
    link.close_stream("s");
    late.expect_end()
}

fn agent_takes_nothing(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (client, id) = relay.stream(&mut agent)?;
    let (bytes, messages) = flood_of(None, MUCH);
    let flood = Flood::start(client, messages)?;
    let mut client = flood.finish_after(STALL_TIMEOUT)?;
    client.expect_close_after(STALL_TIMEOUT, CLOSE_STALLED)?;
    let mut came = 0;
    loop {
        let message = agent.message()?;
        match message.kind() {
            "tcp_data" if bytes[came..].starts_with(&message.data()?) => {
                came += message.data()?.len();
            }
            "connection_close" if message.field("connection_id") == id => return Ok(()),
            _ => return Err(Finding::Fail(format!("after {came} bytes came {}", message.text))),
        }
    }
}

fn output_held(client: &mut Client) -> Outcome {
    client.hold_output();
    let link = client.open()?;
    let (bytes, messages) = endless_flood();
    let flood = Flood::start(link, messages)?;
    let taken = flood.expect_held_up()?;
    client.expect_running()?;
    client.release_output()?;
    client.expect_output_after(LARGE_TAKES, &bytes)?;
    flood.expect_going_on(taken)
}

/// How many messages of 15 MiB are under way at once, and are never finished.
const LARGE: usize = 20;

fn too_much_memory(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (mut other, id) = relay.stream(&mut agent)?;
    let streams: Outcome<Vec<_>> = (0..LARGE).map(|_| relay.stream(&mut agent)).collect();
    let mut streams = streams?;
    let piece = vec![b' '; 15 << 20];
    for (client, _) in &mut streams {
        client.send_frame(TEXT, &piece);
    }
    let mut closed = 0;
    for (client, _) in &mut streams {
        // A ping may stand between two fragments.
        client.ping(b"here?");
        loop {
            match client.next(relay.stage().patience_after(LARGE_TAKES))? {
                Some(Received::Ping(_)) => continue,
                Some(Received::Pong(_)) => {}
                Some(Received::Close(Some(CLOSE_TOO_BIG | CLOSE_STALLED), _)) => closed += 1,
                // The kit was too slow to answer its pings.
                Some(Received::Close(Some(CLOSE_PING_TIMEOUT), _)) => {}
                other => return Err(Finding::Fail(format!("on a large message came {other:?}"))),
            }
            break;
        }
    }
    agent.data(&id, b"it goes on");
    other.expect_data(b"it goes on")?;
    if closed > 0 {
        return Ok(());
    }
    Err(Finding::Unimplemented(format!("{LARGE} messages of 15 MiB are all kept")))
}

// ---- times ----

fn no_upgrade_of_agent(agent: &mut Agent) -> Outcome {
    agent.launch()?;
    let (mut link, _) = agent.accept_request()?;
    link.expect_nothing_for(HANDSHAKE_TIMEOUT / 2)?;
    link.expect_end_of_http()?;
    let (mut link, _) = agent.accept_start()?;
    link.expect_quiet()
}

fn no_upgrade_of_client(client: &mut Client) -> Outcome {
    client.launch()?;
    let (mut link, _) = client.accept_request()?;
    link.expect_nothing_for(HANDSHAKE_TIMEOUT / 2)?;
    link.expect_end_of_http()?;
    client.expect_failure()
}

fn dial_timeout(agent: &mut Agent) -> Outcome {
    let target = agent.silent_target()?;
    let mut link = agent.start()?;
    link.ask("s", target.port());
    link.expect_nothing_for(DIAL_TIMEOUT / 2)?;
    link.expect_refusal_after(DIAL_TIMEOUT / 2, "s")?;
    Ok(())
}

fn no_answer(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (mut client, id) = relay.ask(&mut agent)?;
    let text = format!("{ERROR_INITIATE_PREFIX}{ERROR_NO_ANSWER}");
    let end = Instant::now() + RELAY_ANSWER_TIMEOUT - Duration::from_secs(2);
    // Both ends answer pings meanwhile.
    while Instant::now() < end {
        client.expect_nothing_for(Duration::from_millis(500))?;
        agent.expect_nothing_for(Duration::from_millis(500))?;
    }
    let patience = Duration::from_secs(2);
    let error = client.expect_kind_after(patience, "error")?;
    if error.field("message") != text {
        return Err(Finding::Fail(format!("instead of {text:?} came {}", error.text)));
    }
    client.expect_close(CLOSE_NORMAL)?;
    agent.expect_connection_close(&id)?;
    // It is too late.
    agent.ok(&id);
    agent.data(&id, b"too late");
    agent.expect_quiet()
}
