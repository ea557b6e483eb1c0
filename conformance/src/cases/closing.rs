//! Closing: who ends what in which order, and what is said of it (spec v1, section X).

use std::sync::Arc;
use std::time::Duration;

use codec::v1::{
    CLOSE_AGENT_LOST, CLOSE_INVALID, CLOSE_NORMAL, CLOSE_RESTART, CLOSE_TARGET_RESET,
    ERROR_INITIATE_PREFIX, MAX_CLOSE_REASON, PING_INTERVAL, PONG_TIMEOUT, REASON_AGENT_LOST,
    STREAM_QUEUE, TARGET_CLOSED_MESSAGE,
};
use rustix::process::Signal;
use serde_json::json;

use crate::harness::seeded_bytes;
use crate::harness::tunnel::{AGENT, AGENT_SECRET, client_start};
use crate::kit::{
    Case, Finding, Flood, FromAgent, FromClient, Link, Outcome, Received, Relay, agent, client,
    data_text, relay,
};

mod codes;
mod diallers;
mod handshake;

use codes::{
    agents_codes, bad_frames_to_agent, bad_frames_to_client, bad_payloads_to_agent,
    bad_payloads_to_client, breaches_by_agent, breaches_by_client, clients_codes, codes_of_relay,
    reasons_of_relay,
};
use diallers::{
    broken_at_once, closed_while_connecting, dropped_after_close, half_close, input_ends,
    interrupted_agent, interrupted_client, lingers, lingers_longer, queue_written_out,
    relay_is_cut, target_closes, target_resets, terminated_agent, terminated_client, written_out,
};
use handshake::{
    agent_answers, agent_unanswered, client_answers, client_unanswered, close_counts_at_once,
    no_code_to_agent, no_code_to_client, no_code_to_relay, reasons_to_client, relay_answers,
    relay_unanswered,
};

/// The cases of this section, in the order of its statements.
pub(super) const CASES: &[Case] = &[
    relay("X-1.a", "the codes of a relay", "each means one thing", codes_of_relay),
    agent("X-1.b", "what a relay did wrong", "the agent says so by 1002, 1007, 1009", agents_codes),
    client(
        "X-1.c",
        "what a relay did wrong",
        "the client says so by 1002, 1007, 1009",
        clients_codes,
    ),
    relay("X-2.a", "a close frame of any code", "it is answered by the same code", relay_answers),
    agent("X-2.b", "a close frame of any code", "it is answered by the same code", agent_answers)
        .takes(5),
    client("X-2.c", "a close frame of any code", "it is answered by the same code", client_answers),
    relay("X-3.a", "a close frame that is not answered", "TCP ends all the same", relay_unanswered)
        .takes(3),
    agent("X-3.b", "a close frame that is not answered", "TCP ends all the same", agent_unanswered)
        .takes(3),
    client(
        "X-3.c",
        "a close frame that is not answered",
        "TCP ends all the same",
        client_unanswered,
    )
    .takes(3),
    relay(
        "X-3.d",
        "a close frame without the end of TCP",
        "the relay acts on it at once",
        close_counts_at_once,
    ),
    relay("X-4.a", "data before `connection_reset`", "all of it is delivered", data_before_reset),
    relay("X-4.b", "much data before `connection_reset`", "all of it is delivered", long_tail)
        .takes(2),
    relay("X-5.a", "a reset for a clean end", "the client is closed with 1000", clean_reset),
    relay("X-5.b", "any other reset", "the client is closed with 4001", other_resets),
    agent("X-5.c", "a target that closes", "data, then `Target closed …`", target_closes)
        .also(&["X-10"]),
    agent("X-5.d", "a target that resets", "a reset with another message", target_resets),
    agent(
        "X-6.a",
        "the end of a target, to a relay without the header",
        "a ping, its pong, a second, then the reset",
        lingers,
    )
    .takes(3),
    agent(
        "X-6.b",
        "the end of a long transfer, to a relay without the header",
        "it waits longer than a second",
        lingers_longer,
    )
    .takes(5),
    agent(
        "X-6.c",
        "a target that resets, to a relay without the header",
        "the stream is reset at once",
        broken_at_once,
    ),
    relay("X-7.a", "a client that leaves", "`connection_close`, once", client_leaves),
    relay("X-7.b", "`connection_reset`", "it is answered once", reset_is_answered).takes(1),
    relay("X-8", "an agent without `last_error`", "it gets no `connection_close`", old_agent),
    agent("X-9.a", "data, then `connection_close`", "the target gets all, then FIN", written_out),
    agent(
        "X-9.b",
        "`connection_close` with a full queue",
        "the target gets all",
        queue_written_out,
    ),
    agent("X-9.c", "a target that talks after it", "what it says is dropped", dropped_after_close),
    agent(
        "X-9.d",
        "`connection_close` while the agent connects",
        "it stops, or closes the connection",
        closed_while_connecting,
    )
    .takes(8),
    agent("X-10.a", "a target that half-closes", "the connection ends both ways", half_close),
    client("X-10.b", "the end of the input amid a stream", "the answer still comes", input_ends),
    relay("X-11.a", "data before the agent is lost", "all of it is delivered", data_before_loss),
    relay("X-11.b", "an agent that leaves", "clients get 4014 and why", agent_leaves),
    relay("X-11.c", "an agent whose TCP ends", "clients get 4014 and why", agent_is_cut)
        .also(&["X-16"]),
    relay(
        "X-12.a",
        "data, then a close frame",
        "the agent gets all, then the end",
        data_then_close,
    ),
    relay("X-12.b", "data, then the end of TCP", "the agent gets all, then the end", data_then_fin)
        .also(&["X-16"]),
    relay("X-12.c", "a client that resets TCP", "the agent is told", client_resets),
    relay(
        "X-12.d",
        "data, then no message",
        "the agent gets all, then the end",
        data_then_nonsense,
    ),
    relay("X-13", "a relay that stops", "it closes all links with 1012", relay_stops).takes(4),
    relay("X-14", "a long and dirty reason", "it is cleaned and cut", reason_is_cut),
    relay("X-15.a", "breaches of RFC 6455 by an agent", "1002, or 1007", breaches_by_agent),
    relay("X-15.b", "breaches of RFC 6455 by a client", "1002, or 1007", breaches_by_client),
    agent(
        "X-15.c",
        "frames that no relay may send",
        "the agent closes with 1002",
        bad_frames_to_agent,
    )
    .takes(10),
    agent("X-15.d", "close frames and texts that are none", "1002, or 1007", bad_payloads_to_agent)
        .takes(10),
    client(
        "X-15.e",
        "frames that no relay may send",
        "the client closes with 1002",
        bad_frames_to_client,
    )
    .takes(10),
    client(
        "X-15.f",
        "close frames and texts that are none",
        "1002, or 1007",
        bad_payloads_to_client,
    )
    .takes(10),
    agent("X-16", "a relay whose TCP ends", "the agent comes back", relay_is_cut).takes(2),
    relay("X-17", "a reset instead of an answer", "it is a refusal", reset_as_answer),
    relay(
        "X-19.a",
        "a client that answers a close frame late",
        "the relay waits longer than for others",
        patience_with_client,
    )
    .takes(40),
    relay("X-19.b", "a client that was refused", "the relay waits no longer", no_patience).takes(3),
    relay("X-20.a", "the reasons of a relay", "texts for people, or none", reasons_of_relay),
    client("X-20.b", "reasons of any kind", "they change nothing", reasons_to_client),
    relay("X-21.a", "a close frame without a code", "it is answered by one", no_code_to_relay),
    agent("X-21.b", "a close frame without a code", "it is answered by one", no_code_to_agent),
    client("X-21.c", "a close frame without a code", "it is answered by one", no_code_to_client),
    agent("X-22.a", "an agent that gets SIGINT", "it closes with 1000", interrupted_agent),
    agent("X-22.b", "an agent that gets SIGTERM", "it closes with 1000", terminated_agent),
    client("X-22.c", "a client that gets SIGINT", "it closes with 1000", interrupted_client),
    client("X-22.d", "a client that gets SIGTERM", "it closes with 1000", terminated_client),
];

/// The next thing that comes to a link that is to be closed.
fn end_of(link: &mut Link) -> Outcome<Received> {
    loop {
        match link.receive()? {
            Received::Text(_) => {}
            ended => return Ok(ended),
        }
    }
}

// ---- the end at the agent ----

/// Sends data and then a reset on an agent's link, while the client reads it.
fn tail(relay: &Relay, mut agent: FromAgent, length: usize) -> Outcome<FromAgent> {
    let (mut client, id) = relay.stream(&mut agent)?;
    let bytes = seeded_bytes(length as u64, length);
    let mut messages: Vec<Arc<str>> =
        bytes.chunks(1 << 14).map(|piece| data_text(Some(&id), piece).into()).collect();
    let reset = json!({
        "kind": "connection_reset", "message": TARGET_CLOSED_MESSAGE, "connection_id": id,
    });
    messages.push(json!({ "inner": reset }).to_string().into());
    let flood = Flood::start(agent, messages)?;
    client.expect_data(&bytes)?;
    match client.receive()? {
        Received::Close(..) => client.finish(),
        other => return Err(Finding::Fail(format!("after all data came {other:?}"))),
    }
    let mut agent = flood.finish()?;
    agent.expect_connection_close(&id)?;
    Ok(agent)
}

fn data_before_reset(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    for length in [2, 1000, 1 << 16, 50_000, 200_000] {
        agent = tail(relay, agent, length)?;
    }
    Ok(())
}

fn long_tail(relay: &Relay) -> Outcome {
    tail(relay, relay.agent()?, 3_000_000)?;
    Ok(())
}

/// Resets a stream with some words; the client's link has to be closed with 4001 and this reason.
fn expect_broken(relay: &Relay, agent: &mut FromAgent, words: &str, reason: &str) -> Outcome {
    let (mut client, id) = relay.stream(agent)?;
    agent.reset_stream(&id, words);
    match client.receive()? {
        Received::Close(Some(CLOSE_TARGET_RESET), said) if said == reason => {}
        other => {
            let wanted = format!("{CLOSE_TARGET_RESET} {reason:?}");
            return Err(Finding::Fail(format!("for {words:?} came {other:?}, not {wanted}")));
        }
    }
    client.finish();
    agent.expect_connection_close(&id)
}

fn clean_reset(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (mut client, id) = relay.stream(&mut agent)?;
    agent.reset_stream(&id, TARGET_CLOSED_MESSAGE);
    client.expect_close(CLOSE_NORMAL)?;
    agent.expect_connection_close(&id)
}

fn other_resets(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (almost, lower) =
        (format!("{TARGET_CLOSED_MESSAGE}."), TARGET_CLOSED_MESSAGE.to_lowercase());
    for words in ["Connection reset while writing data", &almost, &lower, "broken pipe", ""] {
        expect_broken(relay, &mut agent, words, words)?;
    }
    Ok(())
}

fn reason_is_cut(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let long = "é".repeat(MAX_CLOSE_REASON);
    let odd = format!("a{long}");
    for (words, reason) in [
        ("a\u{0}b\nc\u{1b}d\u{7f}e", "abcde".to_owned()),
        (&*long, "é".repeat(MAX_CLOSE_REASON / 2)),
        (&*odd, format!("a{}", "é".repeat(MAX_CLOSE_REASON / 2 - 1))),
        (&*"x".repeat(MAX_CLOSE_REASON + 1), "x".repeat(MAX_CLOSE_REASON)),
    ] {
        expect_broken(relay, &mut agent, words, &reason)?;
    }
    Ok(())
}

fn reset_is_answered(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (mut client, id) = relay.stream(&mut agent)?;
    agent.reset_stream(&id, "broken");
    agent.expect_connection_close(&id)?;
    match client.receive()? {
        Received::Close(..) => client.finish(),
        other => return Err(Finding::Fail(format!("the client's end is {other:?}"))),
    }
    client.expect_end()?;
    agent.expect_nothing_for(Duration::from_secs(1))
}

fn reset_as_answer(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (mut client, id) = relay.ask(&mut agent)?;
    agent.reset_stream(&id, "no such thing");
    client.expect_error(&format!("{ERROR_INITIATE_PREFIX}no such thing"))?;
    client.expect_close(CLOSE_NORMAL)?;
    agent.expect_connection_close(&id)?;
    agent.expect_quiet()
}

/// Sends data, then ends the link of the agent in some way; the client has to get all of it, and why it ends.
fn loss(relay: &Relay, length: usize, end: fn(FromAgent) -> Outcome) -> Outcome {
    let mut agent = relay.agent()?;
    let (mut client, id) = relay.stream(&mut agent)?;
    let bytes = seeded_bytes(11, length);
    for piece in bytes.chunks(1 << 14) {
        agent.data(&id, piece);
    }
    end(agent)?;
    client.expect_data(&bytes)?;
    client.expect_close_saying(CLOSE_AGENT_LOST, REASON_AGENT_LOST)
}

fn data_before_loss(relay: &Relay) -> Outcome {
    loss(relay, STREAM_QUEUE / 2, |mut agent| {
        agent.close(CLOSE_NORMAL);
        agent.finish();
        agent.expect_close(CLOSE_NORMAL)?;
        Ok(())
    })
}

fn agent_leaves(relay: &Relay) -> Outcome {
    loss(relay, 10, |mut agent| agent.leave())
}

fn agent_is_cut(relay: &Relay) -> Outcome {
    loss(relay, 10, |agent| {
        drop(agent);
        Ok(())
    })
}

// ---- the end at the client ----

fn client_leaves(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (mut client, id) = relay.stream(&mut agent)?;
    client.data(b"the last words");
    client.leave()?;
    client.expect_end()?;
    agent.expect_data(&id, b"the last words")?;
    agent.expect_connection_close(&id)?;
    let (_other, _) = relay.stream(&mut agent)?;
    agent.expect_quiet()
}

fn old_agent(relay: &Relay) -> Outcome {
    let mut agent = relay.agent_link()?;
    agent.send(&json!({ "kind": "start", "name": AGENT, "secret": AGENT_SECRET }));
    let mut ask = client_start(22);
    ask["connection_target"] = AGENT.into();
    let mut open = || {
        let (mut client, id) = relay.ask_with(&mut agent, &ask)?;
        agent.ok(&id);
        client.expect_kind("start_ok")?;
        Ok((client, id))
    };
    let (mut left, _) = open()?;
    let (mut reset, id) = open()?;
    left.leave()?;
    left.expect_end()?;
    agent.reset_stream(&id, "broken");
    match reset.receive()? {
        Received::Close(..) => reset.finish(),
        other => return Err(Finding::Fail(format!("the client's end is {other:?}"))),
    }
    let (mut client, id) = relay.ask_with(&mut agent, &ask)?;
    agent.ok(&id);
    client.expect_kind("start_ok")?;
    client.data(b"it goes on");
    agent.expect_data(&id, b"it goes on")
}

/// Sends data, then ends the link of the client in some way; the agent has to get all of it, then the end.
fn departure(relay: &Relay, end: fn(&mut FromClient) -> Outcome) -> Outcome {
    let mut agent = relay.agent()?;
    let (mut client, id) = relay.stream(&mut agent)?;
    let bytes = seeded_bytes(12, STREAM_QUEUE / 2);
    for piece in bytes.chunks(1 << 14) {
        client.data(piece);
    }
    end(&mut client)?;
    agent.expect_data(&id, &bytes)?;
    agent.expect_connection_close(&id)
}

fn data_then_close(relay: &Relay) -> Outcome {
    departure(relay, |client| {
        client.close(CLOSE_NORMAL);
        client.finish();
        Ok(())
    })
}

fn data_then_fin(relay: &Relay) -> Outcome {
    departure(relay, |client| {
        client.finish();
        Ok(())
    })
}

fn data_then_nonsense(relay: &Relay) -> Outcome {
    departure(relay, |client| {
        client.send_text("nonsense");
        client.expect_close(CLOSE_INVALID)?;
        client.finish();
        Ok(())
    })
}

fn client_resets(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (mut client, id) = relay.stream(&mut agent)?;
    client.data(b"the last words");
    // So the relay has read them: what a system still holds is lost with a reset.
    client.expect_quiet()?;
    Link::from(client).reset();
    agent.expect_data(&id, b"the last words")?;
    agent.expect_connection_close(&id)
}

// ---- the relay's own end, and its patience ----

fn relay_stops(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (mut client, _) = relay.stream(&mut agent)?;
    let (mut waiting, _) = relay.ask(&mut agent)?;
    let (mut fresh_agent, mut fresh_client) = (relay.agent_link()?, relay.client_link()?);
    relay.signal(Signal::TERM)?;
    let links: [&mut Link; 5] =
        [&mut agent, &mut client, &mut waiting, &mut fresh_agent, &mut fresh_client];
    for link in links {
        match end_of(link)? {
            Received::Close(Some(CLOSE_RESTART), _) => link.finish(),
            other => {
                let name = link.name().to_owned();
                return Err(Finding::Fail(format!("the link of {name} ends by {other:?}")));
            }
        }
    }
    // v1 does not say that the program ends, too.
    let _ = relay.wait();
    Ok(())
}

fn patience_with_client(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (mut client, id) = relay.stream(&mut agent)?;
    client.leave_closes_unanswered();
    client.leave_pings_unanswered();
    agent.reset_stream(&id, TARGET_CLOSED_MESSAGE);
    client.expect_close(CLOSE_NORMAL)?;
    let sooner = PING_INTERVAL + PONG_TIMEOUT - Duration::from_secs(10);
    client.expect_nothing_for(sooner)?;
    match client.receive_within(relay.stage().patience_after(Duration::from_secs(10)))? {
        Some(Received::End) => Ok(()),
        other => Err(Finding::Fail(format!("instead of the end of TCP came {other:?}"))),
    }
}

fn no_patience(relay: &Relay) -> Outcome {
    let mut client = relay.client_link()?;
    client.leave_closes_unanswered();
    let mut start = client_start(22);
    start["secret"] = "wrong".into();
    client.send(&start);
    client.expect_kind("error")?;
    client.expect_close(CLOSE_NORMAL)?;
    client.expect_end()
}
