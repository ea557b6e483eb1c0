//! Overload: many streams, slow readers, parties that stop reading. Each case has the number of the statement that it
//! leans on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use codec::v1::{CLOSE_STALLED, ORIGINAL_CHUNK, STALL_TIMEOUT};

use super::limits::{MUCH, endless_flood, flood_of};
use crate::harness::{Target as Server, seeded_bytes};
use crate::kit::{
    Agent, Case, Client, Finding, Flood, Link, Message, Outcome, Received, Relay, agent, client,
    data_text, relay,
};

/// The cases of this group.
pub(super) const CASES: &[Case] = &[
    relay("S-7.n", "fifty streams at once", "each gets its own bytes, in order", many_streams),
    agent("S-7.o", "fifty streams at once", "each gets its own bytes, in order", many_targets),
    relay(
        "S-7.p",
        "a hundred streams, one after the other",
        "each is like the first",
        many_in_turn,
    ),
    agent("S-7.q", "a hundred streams, one after the other", "each is like the first", many_dials),
    client("S-7.r", "much input for a relay that reads late", "all of it arrives", late_relay)
        .takes(4),
    relay(
        "S-17.a",
        "a client that reads nothing, beside another stream",
        "the other goes on within 10 s",
        beside_stalled_client,
    )
    .takes(14),
    agent(
        "S-17.b",
        "a target that reads nothing, beside another stream",
        "the other goes on within 10 s",
        beside_stalled_target,
    )
    .takes(14),
    relay(
        "S-17.c",
        "a client that sends much, beside another",
        "the other does not wait for all of it",
        beside_busy_client,
    ),
    agent(
        "S-17.d",
        "a target that sends much, beside another",
        "the other does not wait for all of it",
        beside_busy_target,
    ),
    relay(
        "L-8.c",
        "a client that is held back, beside another agent",
        "nobody else is held up",
        beside_held_back,
    ),
    relay("L-9.e", "clients that read nothing, together", "each ends with 4002", stalled_clients)
        .takes(20),
    agent("L-9.f", "targets that read nothing, together", "each is reset", stalled_targets)
        .takes(20),
    relay("L-9.g", "a client that reads slowly", "it keeps its stream", slow_client).takes(16),
    agent("L-9.h", "a target that reads slowly", "it keeps its stream", slow_target).takes(16),
];

// ---- many streams ----

/// How many streams there are at once.
const MANY: usize = 50;

/// What the stream of this number carries.
fn bytes_of(number: usize) -> Vec<u8> {
    seeded_bytes(number as u64, 3 * ORIGINAL_CHUNK + number)
}

fn many_streams(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let streams: Outcome<Vec<_>> = (0..MANY).map(|_| relay.stream(&mut agent)).collect();
    let mut streams = streams?;
    // A piece of each in turn, both ways.
    for round in 0..4 {
        for (number, (client, id)) in streams.iter_mut().enumerate() {
            let bytes = bytes_of(number);
            let Some(piece) = bytes.chunks(ORIGINAL_CHUNK).nth(round) else { continue };
            client.data(piece);
            agent.data(id, piece);
        }
    }
    let ids: Vec<String> = streams.iter().map(|(_, id)| id.clone()).collect();
    expect_each(&mut agent, &ids)?;
    for (number, (client, _)) in streams.iter_mut().enumerate() {
        client.expect_data(&bytes_of(number))?;
    }
    Ok(())
}

/// Waits on an agent's link for the bytes of all streams, in any order among them.
fn expect_each(link: &mut Link, ids: &[String]) -> Outcome {
    let wanted: Vec<Vec<u8>> = (0..ids.len()).map(bytes_of).collect();
    let mut came = vec![Vec::new(); ids.len()];
    while came != wanted {
        let message = link.expect_kind("tcp_data")?;
        let Some(number) = ids.iter().position(|id| id == message.field("connection_id")) else {
            return Err(Finding::Fail(format!("data of an unknown stream: {}", message.text)));
        };
        came[number].extend(message.data()?);
        if !wanted[number].starts_with(&came[number]) {
            return Err(Finding::Fail(format!("others than its bytes came for stream {number}")));
        }
    }
    Ok(())
}

fn many_targets(agent: &mut Agent) -> Outcome {
    let server = Server::echo();
    let mut link = agent.start()?;
    let ids: Vec<String> = (0..MANY).map(|number| format!("stream-{number}")).collect();
    for id in &ids {
        link.open(id, server.port())?;
    }
    for round in 0..4 {
        for (number, id) in ids.iter().enumerate() {
            let bytes = bytes_of(number);
            let Some(piece) = bytes.chunks(ORIGINAL_CHUNK).nth(round) else { continue };
            link.data(id, piece);
        }
    }
    expect_each(&mut link, &ids)
}

/// How many streams there are one after the other.
const IN_TURN: usize = 100;

fn many_in_turn(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    for number in 0..IN_TURN {
        let (mut client, id) = relay.stream(&mut agent)?;
        let bytes = number.to_string().into_bytes();
        client.data(&bytes);
        agent.expect_data(&id, &bytes)?;
        agent.data(&id, &bytes);
        client.expect_data(&bytes)?;
        client.leave()?;
        agent.expect_connection_close(&id)?;
    }
    Ok(())
}

fn many_dials(agent: &mut Agent) -> Outcome {
    let target = agent.target()?;
    let mut link = agent.start()?;
    for number in 0..IN_TURN {
        let bytes = number.to_string().into_bytes();
        // Two ids in turn, so that each is used again.
        let id = ["even", "odd"][number % 2];
        link.open(id, target.port())?;
        let mut connection = target.accept()?;
        link.data(id, &bytes);
        connection.expect(&bytes)?;
        connection.write(&bytes);
        link.expect_data(id, &bytes)?;
        link.close_stream(id);
        connection.expect_end()?;
    }
    link.expect_quiet()
}

// ---- readers that are late or slow ----

fn late_relay(client: &mut Client) -> Outcome {
    let mut link = client.open()?;
    let bytes = seeded_bytes(7, 4 << 20);
    client.input_beside(bytes.clone())?;
    client.stage().pass(Duration::from_secs(2));
    client.expect_running()?;
    link.expect_data(&bytes)?;
    link.data(b"all here");
    client.expect_output(b"all here")
}

/// How long a slow reader is watched: longer than one that takes nothing is borne with.
const WATCHED: Duration = STALL_TIMEOUT.saturating_add(Duration::from_secs(4));

/// How much a slow reader takes in a second.
const SLOWLY: usize = 192 * 1024;

/// What is sent to it: more than it takes in that time, and what may lie between.
const SLOW: usize = 6 << 20;

fn slow_client(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (mut client, id) = relay.stream(&mut agent)?;
    let (bytes, messages) = flood_of(Some(&id), SLOW);
    let flood = Flood::start(agent, messages)?;
    let (began, mut taken) = (Instant::now(), 0);
    while began.elapsed() < WATCHED {
        relay.stage().pass(Duration::from_secs(1));
        let before = taken;
        while taken < before + SLOWLY {
            let piece = client.expect_kind("tcp_data")?.data()?;
            if !bytes[taken..].starts_with(&piece) {
                return Err(Finding::Fail(format!("other bytes came after {taken}")));
            }
            taken += piece.len();
        }
    }
    client.expect_data(&bytes[taken..])?;
    let _agent = flood.finish()?;
    client.expect_quiet()
}

fn slow_target(agent: &mut Agent) -> Outcome {
    let target = agent.target()?;
    let mut link = agent.start()?;
    link.open("s", target.port())?;
    let mut slow = target.accept()?;
    let (bytes, messages) = flood_of(Some("s"), SLOW);
    let flood = Flood::start(link, messages)?;
    let (began, mut taken) = (Instant::now(), 0);
    while began.elapsed() < WATCHED {
        agent.stage().pass(Duration::from_secs(1));
        slow.expect(&bytes[taken..taken + SLOWLY])?;
        taken += SLOWLY;
    }
    slow.expect_after(4 * WATCHED, &bytes[taken..])?;
    let mut link = flood.finish()?;
    link.close_stream("s");
    slow.expect_end()
}

// ---- readers that take nothing ----

/// What one stream gets while another takes nothing.
const BESIDE: &[u8] = b"beside it";

/// The messages of a flood for one stream, and near their end one for another.
fn with_one_beside(mut messages: Vec<Arc<str>>, other: &str) -> Vec<Arc<str>> {
    let place = messages.len() * 3 / 4;
    messages.insert(place, data_text(Some(other), BESIDE).into());
    messages
}

/// Waits until the link of a client that took nothing is closed for it.
fn expect_stalled(client: &mut Link) -> Outcome {
    loop {
        match client.receive()? {
            Received::Text(_) => {}
            Received::Close(Some(CLOSE_STALLED), _) => return Ok(()),
            other => return Err(Finding::Fail(format!("the client's end is {other:?}"))),
        }
    }
}

fn beside_stalled_client(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (mut stalled, id) = relay.stream(&mut agent)?;
    let (mut other, others) = relay.stream(&mut agent)?;
    let messages = with_one_beside(flood_of(Some(&id), MUCH).1, &others);
    let flood = Flood::start(agent, messages)?;
    let data = other.expect_kind_after(STALL_TIMEOUT, "tcp_data")?.data()?;
    if data != BESIDE {
        return Err(Finding::Fail(format!("on the other stream came {data:?}")));
    }
    let mut agent = flood.finish_after(STALL_TIMEOUT)?;
    agent.expect_connection_close_after(STALL_TIMEOUT, &id)?;
    expect_stalled(&mut stalled)
}

fn beside_stalled_target(agent: &mut Agent) -> Outcome {
    let target = agent.target()?;
    let mut link = agent.start()?;
    link.open("s", target.port())?;
    let mut stalled = target.accept()?;
    link.open("t", target.port())?;
    let mut other = target.accept()?;
    let messages = with_one_beside(flood_of(Some("s"), MUCH).1, "t");
    let flood = Flood::start(link, messages)?;
    other.expect_after(STALL_TIMEOUT, BESIDE)?;
    let mut link = flood.finish_after(STALL_TIMEOUT)?;
    link.expect_reset_after(STALL_TIMEOUT, "s")?;
    stalled.drain()?;
    Ok(())
}

/// How many streams stand still together.
const TOGETHER: usize = 3;

/// The messages of floods for several streams, one of each in turn.
fn in_turn(ids: &[String]) -> Vec<Arc<str>> {
    let floods: Vec<Vec<Arc<str>>> = ids.iter().map(|id| flood_of(Some(id), MUCH / 2).1).collect();
    let length = floods.first().map_or(0, Vec::len);
    (0..length).flat_map(|place| floods.iter().map(move |flood| flood[place].clone())).collect()
}

fn stalled_clients(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let streams: Outcome<Vec<_>> = (0..TOGETHER).map(|_| relay.stream(&mut agent)).collect();
    let mut streams = streams?;
    let ids: Vec<String> = streams.iter().map(|(_, id)| id.clone()).collect();
    let flood = Flood::start(agent, in_turn(&ids))?;
    // They are given up together; that they come one after the other would take three times as long.
    let mut agent = flood.finish_after(2 * STALL_TIMEOUT)?;
    let mut left = ids;
    while !left.is_empty() {
        let message = agent.expect_kind_after(STALL_TIMEOUT, "connection_close")?;
        left.retain(|id| id != message.field("connection_id"));
    }
    streams.iter_mut().try_for_each(|(client, _)| expect_stalled(client))
}

fn stalled_targets(agent: &mut Agent) -> Outcome {
    let target = agent.target()?;
    let mut link = agent.start()?;
    let ids: Vec<String> = (0..TOGETHER).map(|number| format!("stream-{number}")).collect();
    let mut connections = Vec::new();
    for id in &ids {
        link.open(id, target.port())?;
        connections.push(target.accept()?);
    }
    let flood = Flood::start(link, in_turn(&ids))?;
    let mut link = flood.finish_after(2 * STALL_TIMEOUT)?;
    let mut left = ids;
    while !left.is_empty() {
        let message = link.expect_kind_after(STALL_TIMEOUT, "connection_reset")?;
        left.retain(|id| id != message.field("connection_id"));
    }
    connections.iter_mut().try_for_each(|connection| connection.drain().map(|_| ()))
}

fn beside_held_back(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (client, id) = relay.stream(&mut agent)?;
    let (name, secret) = crate::harness::tunnel::OTHER_AGENT;
    let mut other_agent = relay.agent_named(name, secret)?;
    let (mut other, others) = relay.stream(&mut other_agent)?;
    let (bytes, messages) = endless_flood();
    let flood = Flood::start(client, messages)?;
    let taken = flood.expect_held_up()?;
    other.data(b"meanwhile");
    other_agent.expect_data(&others, b"meanwhile")?;
    other_agent.data(&others, b"both ways");
    other.expect_data(b"both ways")?;
    agent.expect_data(&id, &bytes)?;
    flood.expect_going_on(taken)
}

// ---- fairness ----

/// Reads the bytes of a busy stream until a message of the other one comes; gives how many came before it. All of them
/// may not.
fn before_other(link: &mut Link, busy: &str, all: usize) -> Outcome<usize> {
    let mut before = 0;
    while before < all {
        let message: Message = link.expect_kind("tcp_data")?;
        let data = message.data()?;
        if message.field("connection_id") == busy {
            before += data.len();
        } else if data == BESIDE {
            return Ok(before);
        } else {
            return Err(Finding::Fail(format!("on the other stream came {data:?}")));
        }
    }
    Err(Finding::Fail(format!("all {all} bytes of the busy stream come first")))
}

fn beside_busy_client(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (busy, id) = relay.stream(&mut agent)?;
    let (mut other, _) = relay.stream(&mut agent)?;
    let (_, messages) = endless_flood();
    let flood = Flood::start(busy, messages)?;
    let taken = flood.expect_held_up()?;
    other.data(BESIDE);
    other.expect_quiet()?;
    before_other(&mut agent, &id, taken << 16)?;
    Ok(())
}

fn beside_busy_target(agent: &mut Agent) -> Outcome {
    const LENGTH: usize = 8 << 20;
    let server = Server::open_source(17, LENGTH);
    let target = agent.target()?;
    let mut link = agent.start_with_promise()?;
    link.open("other", target.port())?;
    let mut connection = target.accept()?;
    link.open("busy", server.port())?;
    // The link is not read until the other target has said something.
    connection.write(BESIDE);
    let before = before_other(&mut link, "busy", LENGTH)?;
    link.expect_data("busy", &seeded_bytes(17, LENGTH)[before..])
}
