//! Streams: how they begin, each way in which they do not, and what they carry (spec v1, section S).

use std::collections::BTreeSet;

use codec::v1::{
    CLOSE_INVALID, CLOSE_NORMAL, CLOSE_TARGET_RESET, ERROR_INITIATE_PREFIX, MAX_CHUNK,
    MAX_FORWARDED_CHUNK, ORIGINAL_CHUNK, STREAM_QUEUE,
};
use serde_json::{Value, json};

use crate::harness::seeded_bytes;
use crate::harness::tunnel::{OTHER_AGENT, client_start};
use crate::kit::{Case, Finding, FromAgent, Outcome, Received, Relay, agent, client, relay};

mod at_agent;
mod at_client;

use at_agent::{
    after_refusal, agents_chunks, all_values_of_target, base64_at_agent, base64_for_unknown_id,
    empty_data_for_target, empty_id, host_name, id_in_use, ids_by_case, ipv6_address, no_ports,
    odd_addresses, opaque_ids, other_protocols, others_go_on_while_connecting, over_at_agent,
    pings_while_connecting, sentences, single_bytes_of_target, sizes_of_target, small_chunks,
    target_reached, target_refuses, target_sizes, unknown_ids_at_agent, unknown_names,
};
use at_client::{
    all_values_of_user, base64_at_client, clients_chunks, empty_data_for_user, input_sizes,
    output_sizes, sentences_at_client, single_bytes_of_user,
};

/// The cases of this section, in the order of its statements.
pub(super) const CASES: &[Case] = &[
    relay("S-1", "a target of any kind", "the agent is asked for it as it was given", any_target),
    relay("S-2.a", "the ids of streams", "random UUIDs, each used once", fresh_ids).also(&["S-14"]),
    agent("S-2.b", "ids of any kind", "the agent repeats them exactly", opaque_ids),
    agent("S-2.c", "ids that differ in case only", "they are two streams", ids_by_case),
    relay("S-2.d", "an id in another case", "it is unknown", id_in_another_case).also(&["S-13"]),
    relay("S-2.e", "the id of another agent's stream", "it means nothing", id_of_another_agent)
        .also(&["S-13"]),
    agent("S-3.a", "another protocol than `tcp`", "the agent refuses it", other_protocols),
    agent("S-3.b", "a port that is none", "the agent refuses it", no_ports),
    agent("S-3.c", "a name that cannot be resolved", "the agent refuses it", unknown_names),
    relay("S-3.d", "other protocols and strange names", "they are passed on", passed_on),
    agent("S-3.e", "a host name", "the agent connects to it", host_name),
    agent("S-3.f", "an IPv6 address", "it stands without brackets", ipv6_address),
    agent("S-4", "a target that is reached", "`initiate_connection_ok`, with it", target_reached),
    agent("S-5.a", "a target that refuses", "`initiate_connection_error` says so", target_refuses),
    agent("S-5.b", "after a refusal", "the id is free, and the link goes on", after_refusal),
    relay(
        "S-5.c",
        "an agent's refusal",
        "the client gets the sentence, the agent nothing",
        refusal_is_told,
    ),
    agent(
        "S-6.a",
        "a target that does not answer",
        "the other streams go on",
        others_go_on_while_connecting,
    ),
    agent("S-6.b", "a target that does not answer", "pings are answered", pings_while_connecting),
    relay("S-7.a", "data of a client, in all sizes", "it arrives complete", client_sizes),
    relay("S-7.b", "data of an agent, in all sizes", "it arrives complete", agent_sizes),
    relay("S-7.c", "single bytes, both ways", "they arrive in order", single_bytes),
    relay("S-7.d", "both ways at once", "each direction is complete", both_ways),
    relay("S-7.e", "every value of a byte, both ways", "they arrive", all_values),
    agent("S-7.f", "data for a target, in all sizes", "it arrives complete", target_sizes),
    agent("S-7.g", "data of a target, in all sizes", "it arrives complete", sizes_of_target),
    agent("S-7.h", "single bytes, both ways", "they arrive in order", single_bytes_of_target),
    agent("S-7.i", "every value of a byte, both ways", "they arrive", all_values_of_target),
    client("S-7.j", "input in all sizes", "it arrives complete", input_sizes),
    client("S-7.k", "data for the output, in all sizes", "it arrives complete", output_sizes),
    client("S-7.l", "single bytes, both ways", "they arrive in order", single_bytes_of_user),
    client("S-7.m", "every value of a byte, both ways", "they arrive", all_values_of_user),
    agent("S-9.a", "an agent's own messages", "64 KiB at most", agents_chunks),
    client("S-9.b", "a client's own messages", "64 KiB at most", clients_chunks),
    agent("S-10", "towards a relay without the header", "1,024 bytes at most", small_chunks)
        .also(&["X-6"]),
    relay("S-11.a", "a client's large message", "it is cut to 512 KiB", cut_for_agent),
    relay("S-11.b", "an agent's large message", "it is cut to 512 KiB", cut_for_client)
        .also(&["L-3"]),
    relay("S-12.a", "empty data, both ways", "it changes nothing", empty_data),
    agent("S-12.b", "empty data", "it changes nothing", empty_data_for_target),
    client("S-12.c", "empty data", "it changes nothing", empty_data_for_user),
    relay("S-13.a", "an agent's messages for unknown ids", "they are ignored", unknown_ids),
    relay("S-13.b", "an agent's messages for a stream that is over", "they are ignored", over),
    agent("S-13.c", "messages for unknown ids", "they are ignored", unknown_ids_at_agent),
    agent("S-13.d", "data for a stream that is over", "it is ignored", over_at_agent),
    agent("S-14.a", "an id that is in use", "the agent connects anew", id_in_use),
    relay("S-15.a", "a second answer", "it is ignored", second_answer),
    relay(
        "S-15.b",
        "an ok for a client that has left",
        "one `connection_close`",
        ok_after_client_left,
    )
    .also(&["X-7"]),
    relay("S-16.a", "unreadable base64 of an agent", "the stream ends with 4001", agents_base64),
    relay("S-16.b", "unreadable base64 of a client", "the link ends with 1007", clients_base64),
    agent("S-16.c", "unreadable base64 for a stream", "it is reset, alone", base64_at_agent),
    agent("S-16.d", "unreadable base64 for an unknown id", "it is ignored", base64_for_unknown_id),
    client("S-16.e", "unreadable base64", "the client reports a failure", base64_at_client),
    agent("S-18.a", "the sentences of refusals", "those of the Python agent", sentences),
    client("S-18.b", "the sentences of refusals", "a failure is reported", sentences_at_client),
    agent("S-19", "the empty text as an id", "it is one like any other", empty_id),
    relay("S-20", "how a client's messages are cut", "one for one, as in Python", one_for_one),
    agent("S-21", "odd addresses", "those that a system takes", odd_addresses),
];

/// Lengths around every limit that a payload meets.
const SIZES: [usize; 14] = [
    1,
    2,
    3,
    ORIGINAL_CHUNK - 1,
    ORIGINAL_CHUNK,
    ORIGINAL_CHUNK + 1,
    4096,
    MAX_CHUNK - 1,
    MAX_CHUNK,
    MAX_CHUNK + 1,
    STREAM_QUEUE,
    STREAM_QUEUE + 1,
    MAX_FORWARDED_CHUNK,
    MAX_FORWARDED_CHUNK + 1,
];

fn bytes_of_size(size: usize) -> Vec<u8> {
    seeded_bytes(size as u64, size)
}

/// Each value once on its own place, and then beside each of some others.
fn every_value() -> Vec<u8> {
    (0..=255).chain((0..=255).rev()).chain((0..=255).map(|byte: u8| byte.wrapping_mul(7))).collect()
}

// ---- the relay: how streams begin ----

/// A start for a target as nobody would name it.
fn start_for(host: &str, protocol: &str) -> Value {
    let mut start = client_start(2222);
    start["target_ip"] = host.into();
    start["protocol"] = protocol.into();
    start
}

/// The agent is asked for exactly the target of the start.
fn expect_passed_on(relay: &Relay, agent: &mut FromAgent, start: &Value) -> Outcome {
    let mut client = relay.client_link()?;
    client.send(start);
    let question = agent.expect_question()?;
    for field in ["target_ip", "target_port", "protocol"] {
        if question.inner[field] != start[field] {
            return Err(Finding::Fail(format!("for {start} the agent got {}", question.text)));
        }
    }
    agent.refuse(question.field("connection_id"), "no");
    client.expect_kind("error")?;
    Ok(())
}

fn any_target(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    // So the agent is admitted.
    let _stream = relay.stream(&mut agent)?;
    for host in ["192.0.2.1", "2001:db8::1", "files.example.org", "Größe.example"] {
        expect_passed_on(relay, &mut agent, &start_for(host, "tcp"))?;
    }
    Ok(())
}

fn passed_on(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    // So the agent is admitted.
    let _stream = relay.stream(&mut agent)?;
    for protocol in ["udp", "TCP", ""] {
        expect_passed_on(relay, &mut agent, &start_for("127.0.0.1", protocol))?;
    }
    for host in ["", "[::1]", "no such name", "a\u{0}b"] {
        expect_passed_on(relay, &mut agent, &start_for(host, "tcp"))?;
    }
    Ok(())
}

fn fresh_ids(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (mut ids, mut open) = (BTreeSet::new(), Vec::new());
    for round in 0..40 {
        let (mut client, id) = relay.stream(&mut agent)?;
        let parsed = uuid::Uuid::try_parse(&id).ok();
        let is_good = parsed
            .is_some_and(|uuid| uuid.get_version_num() == 4 && uuid.hyphenated().to_string() == id);
        if !is_good {
            return Err(Finding::Fail(format!("the id is {id:?}")));
        }
        if !ids.insert(id.clone()) {
            return Err(Finding::Fail(format!("the id {id:?} came again")));
        }
        if round % 2 == 0 {
            client.leave()?;
            agent.expect_connection_close(&id)?;
        } else {
            open.push(client);
        }
    }
    Ok(())
}

fn id_in_another_case(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (mut client, id) = relay.stream(&mut agent)?;
    let other = id.to_uppercase();
    agent.data(&other, b"to nobody");
    agent.reset_stream(&other, "nobody");
    agent.expect_quiet()?;
    agent.data(&id, b"to somebody");
    client.expect_data(b"to somebody")
}

fn id_of_another_agent(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (mut client, id) = relay.stream(&mut agent)?;
    let (name, secret) = OTHER_AGENT;
    let mut other = relay.agent_named(name, secret)?;
    let (mut others, _) = relay.stream(&mut other)?;
    other.data(&id, b"from a stranger");
    other.reset_stream(&id, "a stranger");
    other.expect_quiet()?;
    agent.data(&id, b"from its agent");
    client.expect_data(b"from its agent")?;
    client.expect_quiet()?;
    others.expect_quiet()
}

fn refusal_is_told(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (mut client, id) = relay.ask(&mut agent)?;
    agent.refuse(&id, "no route to host");
    client.expect_error(&format!("{ERROR_INITIATE_PREFIX}no route to host"))?;
    match client.receive()? {
        Received::Close(Some(CLOSE_NORMAL), _) | Received::End => {}
        other => return Err(Finding::Fail(format!("after the error came {other:?}"))),
    }
    // Nothing of it comes to the agent before the next stream.
    relay.stream(&mut agent)?;
    agent.expect_quiet()
}

fn second_answer(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (mut client, id) = relay.stream(&mut agent)?;
    agent.ok(&id);
    agent.refuse(&id, "after all");
    agent.data(&id, b"it goes on");
    client.expect_data(b"it goes on")?;
    client.data(b"both ways");
    agent.expect_data(&id, b"both ways")
}

fn ok_after_client_left(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (mut client, id) = relay.ask(&mut agent)?;
    client.leave()?;
    client.expect_end()?;
    agent.ok(&id);
    agent.expect_connection_close(&id)?;
    // Once is enough.
    let (_other, _) = relay.stream(&mut agent)?;
    agent.expect_quiet()
}

// ---- the relay: what it carries ----

fn client_sizes(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (mut client, id) = relay.stream(&mut agent)?;
    for bytes in SIZES.map(bytes_of_size) {
        client.data(&bytes);
        agent.expect_data(&id, &bytes)?;
    }
    agent.expect_quiet()
}

fn agent_sizes(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (mut client, id) = relay.stream(&mut agent)?;
    for bytes in SIZES.map(bytes_of_size) {
        agent.data(&id, &bytes);
        client.expect_data(&bytes)?;
    }
    client.expect_quiet()
}

/// How many messages of one byte each are sent.
const SINGLES: usize = 1500;

fn single_bytes(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (mut client, id) = relay.stream(&mut agent)?;
    let bytes = bytes_of_size(SINGLES);
    for byte in &bytes {
        client.data(&[*byte]);
    }
    agent.expect_data(&id, &bytes)?;
    for byte in &bytes {
        agent.data(&id, &[*byte]);
    }
    client.expect_data(&bytes)
}

fn both_ways(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (mut client, id) = relay.stream(&mut agent)?;
    let (up, down) = (seeded_bytes(1, 1 << 18), seeded_bytes(2, 1 << 18));
    for (up, down) in up.chunks(1 << 14).zip(down.chunks(1 << 14)) {
        client.data(up);
        agent.data(&id, down);
    }
    agent.expect_data(&id, &up)?;
    client.expect_data(&down)
}

fn all_values(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (mut client, id) = relay.stream(&mut agent)?;
    let bytes = every_value();
    client.data(&bytes);
    agent.expect_data(&id, &bytes)?;
    agent.data(&id, &bytes);
    client.expect_data(&bytes)
}

fn cut_for_agent(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (mut client, id) = relay.stream(&mut agent)?;
    let bytes = seeded_bytes(11, 2 * MAX_FORWARDED_CHUNK + 1);
    client.data(&bytes);
    let largest = agent.sizes_of_data(&id, &bytes)?.largest_payload();
    if largest <= MAX_FORWARDED_CHUNK {
        return Ok(());
    }
    Err(Finding::Fail(format!("a message with {largest} bytes of payload came to the agent")))
}

fn cut_for_client(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (mut client, id) = relay.stream(&mut agent)?;
    let bytes = seeded_bytes(12, 2 * MAX_FORWARDED_CHUNK + 1);
    agent.data(&id, &bytes);
    let largest = client.sizes_of_data(&bytes)?.largest_payload();
    if largest <= MAX_FORWARDED_CHUNK {
        return Ok(());
    }
    Err(Finding::Fail(format!("a message with {largest} bytes of payload came to the client")))
}

fn empty_data(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (mut client, id) = relay.stream(&mut agent)?;
    for piece in [&b""[..], b"one", b"", b"", b"two", b""] {
        client.data(piece);
        agent.data(&id, piece);
    }
    agent.expect_data(&id, b"onetwo")?;
    client.expect_data(b"onetwo")?;
    // The last one may yet come.
    client.data(b"end");
    agent.expect_data(&id, b"end")?;
    agent.data(&id, b"end");
    client.expect_data(b"end")
}

fn one_for_one(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (mut client, id) = relay.stream(&mut agent)?;
    for piece in [&b"a"[..], b"", b"bc", b"def"] {
        client.data(piece);
    }
    let sizes = agent.sizes_of_data(&id, b"abcdef")?;
    if sizes.payloads == [1, 0, 2, 3] {
        return Ok(());
    }
    Err(Finding::Unimplemented(format!("1, 0, 2, 3 bytes were cut anew: {:?}", sizes.payloads)))
}

// ---- the relay: messages for no stream ----

fn unknown_ids(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (mut client, id) = relay.stream(&mut agent)?;
    for unknown in ["", "unknown", "00000000-0000-4000-8000-000000000000"] {
        agent.ok(unknown);
        agent.refuse(unknown, "nobody");
        agent.data(unknown, b"nobody");
        agent.reset_stream(unknown, "nobody");
    }
    agent.expect_quiet()?;
    agent.data(&id, b"it goes on");
    client.expect_data(b"it goes on")
}

fn over(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (mut client, id) = relay.stream(&mut agent)?;
    client.leave()?;
    agent.expect_connection_close(&id)?;
    agent.data(&id, b"too late");
    agent.reset_stream(&id, "too late");
    agent.ok(&id);
    agent.refuse(&id, "too late");
    agent.expect_quiet()?;
    let (mut next, id) = relay.stream(&mut agent)?;
    agent.data(&id, b"another");
    next.expect_data(b"another")
}

// ---- the relay: base64 ----

/// What cannot be read.
const UNREADABLE: [&str; 4] = ["A", "AAA", "AAAAA", "é"];

fn agents_base64(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (mut other, others) = relay.stream(&mut agent)?;
    for unreadable in UNREADABLE {
        let (mut client, id) = relay.stream(&mut agent)?;
        agent.data(&id, b"before");
        agent.send(&json!({ "kind": "tcp_data", "connection_id": id, "data_base64": unreadable }));
        agent.data(&id, b"after");
        client.expect_data(b"before")?;
        client.expect_close(CLOSE_TARGET_RESET)?;
        agent.expect_connection_close(&id)?;
    }
    agent.data(&others, b"it goes on");
    other.expect_data(b"it goes on")
}

fn clients_base64(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    for unreadable in UNREADABLE {
        let (mut client, id) = relay.stream(&mut agent)?;
        client.data(b"before");
        client.send(&json!({ "kind": "tcp_data", "data_base64": unreadable }));
        client.data(b"after");
        client.expect_close(CLOSE_INVALID)?;
        agent.expect_data(&id, b"before")?;
        agent.expect_connection_close(&id)?;
    }
    Ok(())
}
