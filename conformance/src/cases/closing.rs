//! Closing: who ends what in which order, and what is said of it (spec v1, section X).

use std::time::{Duration, Instant};

use codec::v1::{
    CLOSE_AGENT_LOST, CLOSE_INVALID, CLOSE_NORMAL, CLOSE_POLICY, CLOSE_PROTOCOL, CLOSE_RESTART,
    CLOSE_TARGET_RESET, CLOSE_TOO_BIG, CLOSE_UNSUPPORTED, ERROR_INITIATE_PREFIX, LINGER,
    MAX_CLOSE_REASON, PING_INTERVAL, PONG_TIMEOUT, REASON_AGENT_LOST, STREAM_QUEUE,
    TARGET_CLOSED_MESSAGE,
};
use rustix::process::Signal;
use serde_json::json;

use crate::harness::frames::{CONTINUATION, PING, PONG, TEXT, frame, unmasked_frame};
use crate::harness::seeded_bytes;
use crate::harness::tunnel::{AGENT, AGENT_SECRET, client_start};
use crate::kit::{
    Agent, Case, Client, Finding, Flood, FromAgent, FromClient, Link, Outcome, Received, Relay,
    ToAgent, agent, client, data_text, relay,
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

// ---- codes ----

/// The next thing that comes to a link that is to be closed.
fn end_of(link: &mut Link) -> Outcome<Received> {
    loop {
        match link.receive()? {
            Received::Text(_) => {}
            ended => return Ok(ended),
        }
    }
}

/// The codes of X-1 for what a client does on a fresh link.
const CODES: [Breach; 5] = [
    breach("a breach of RFC 6455", CLOSE_PROTOCOL, |link| link.send_frame(0x83, b"{}")),
    breach("a binary message", CLOSE_UNSUPPORTED, |link| link.send_binary(b"{}")),
    breach("no message", CLOSE_INVALID, |link| link.send_text("{}")),
    breach("no start", CLOSE_POLICY, |link| {
        link.send(&json!({ "kind": "tcp_data", "data_base64": "" }));
    }),
    breach("too large a message", CLOSE_TOO_BIG, |link| link.claim(0x80 | TEXT, TOO_MUCH)),
];

/// A length that nobody accepts; the Python agent takes 4 GiB.
const TOO_MUCH: u64 = 1 << 40;

/// The codes that are shown here by cases; K-3, L-9, A-8 and X-13 show the others.
fn codes_of_relay(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (mut ended, clean) = relay.stream(&mut agent)?;
    let (mut cut, broken) = relay.stream(&mut agent)?;
    let (mut alone, _) = relay.stream(&mut agent)?;
    let mut wrong = Vec::new();
    agent.reset_stream(&clean, TARGET_CLOSED_MESSAGE);
    wrong.extend(ended_otherwise(&mut ended, "a clean end", CLOSE_NORMAL));
    agent.reset_stream(&broken, "broken");
    wrong.extend(ended_otherwise(&mut cut, "a broken stream", CLOSE_TARGET_RESET));
    agent.leave()?;
    wrong.extend(ended_otherwise(&mut alone, "a lost agent", CLOSE_AGENT_LOST));
    for breach in &CODES {
        let mut client = relay.client_link()?;
        wrong.extend(closed_otherwise(&mut client, breach));
    }
    none_is(wrong)
}

/// What nobody may do on a link, and the code that it is closed with.
struct Breach {
    what: &'static str,
    code: u16,
    deed: fn(&mut Link),
}

const fn breach(what: &'static str, code: u16, deed: fn(&mut Link)) -> Breach {
    Breach { what, code, deed }
}

/// Frames that neither end may send.
const BAD_FRAMES: [Breach; 8] = [
    breach("a reserved bit", CLOSE_PROTOCOL, |link| link.send_frame(0xc0 | TEXT, b"{}")),
    breach("a reserved opcode", CLOSE_PROTOCOL, |link| link.send_frame(0x83, b"{}")),
    breach("a reserved control opcode", CLOSE_PROTOCOL, |link| link.send_frame(0x8b, b"")),
    breach("a ping in fragments", CLOSE_PROTOCOL, |link| link.send_frame(PING, b"x")),
    breach("a ping that is too long", CLOSE_PROTOCOL, |link| {
        link.send_frame(0x80 | PING, &[0; 126]);
    }),
    breach("a close frame that is too long", CLOSE_PROTOCOL, |link| {
        link.close_with(&[&[3, 232][..], &[b'x'; 124]].concat());
    }),
    breach("a stray continuation", CLOSE_PROTOCOL, |link| {
        link.send_frame(0x80 | CONTINUATION, b"{}");
    }),
    breach("a message within a message", CLOSE_PROTOCOL, |link| {
        link.send_frame(TEXT, b"{");
        link.send_frame(0x80 | TEXT, b"{}");
    }),
];

/// What no frame may hold, whoever sends it.
const BAD_PAYLOADS: [Breach; 7] = [
    breach("a close frame of one byte", CLOSE_PROTOCOL, |link| link.close_with(&[3])),
    breach("close code 999", CLOSE_PROTOCOL, |link| link.close(999)),
    breach("close code 1004", CLOSE_PROTOCOL, |link| link.close(1004)),
    breach("close code 1005", CLOSE_PROTOCOL, |link| link.close(1005)),
    breach("close code 1006", CLOSE_PROTOCOL, |link| link.close(1006)),
    breach("text that is not UTF-8", CLOSE_INVALID, |link| {
        link.send_frame(0x80 | TEXT, b"\"\xc3\x28\"");
    }),
    breach("text that is not UTF-8, in fragments", CLOSE_INVALID, |link| {
        link.send_fragments(&[b"\"\xc3", b"\x28\""]);
    }),
];

/// A frame in the clear, which no dialler may send.
const UNMASKED: Breach = breach("an unmasked frame", CLOSE_PROTOCOL, |link| {
    link.write(&unmasked_frame(0x80 | TEXT, b"{}"));
});

/// A masked frame, which no relay may send.
const MASKED: Breach = breach("a masked frame", CLOSE_PROTOCOL, |link| {
    link.write(&frame(0x80 | TEXT, b"{}"));
});

/// What is wrong with how a link is closed for something, if anything is.
fn ended_otherwise(link: &mut Link, what: &str, code: u16) -> Option<String> {
    match end_of(link) {
        Ok(Received::Close(Some(came), _)) if came == code => None,
        Ok(Received::Close(Some(came), _)) => Some(format!("{came} for {what}")),
        Ok(Received::End) => Some(format!("no close frame for {what}")),
        Ok(other) => Some(format!("for {what} came {other:?}")),
        Err(Finding::Fail(seen)) => Some(format!("for {what}: {seen}")),
        Err(other) => Some(format!("for {what}: {other:?}")),
    }
}

/// The same after a breach.
fn closed_otherwise(link: &mut Link, breach: &Breach) -> Option<String> {
    (breach.deed)(link);
    ended_otherwise(link, breach.what, breach.code)
}

fn none_is(wrong: Vec<String>) -> Outcome {
    if wrong.is_empty() { Ok(()) } else { Err(Finding::Fail(wrong.join("; "))) }
}

/// All that a dialler may not do.
fn breaches_of_dialler() -> impl Iterator<Item = &'static Breach> {
    BAD_FRAMES.iter().chain(&BAD_PAYLOADS).chain([&UNMASKED])
}

fn breaches_by_agent(relay: &Relay) -> Outcome {
    let mut wrong = Vec::new();
    for breach in breaches_of_dialler() {
        let mut agent = relay.agent_link()?;
        wrong.extend(closed_otherwise(&mut agent, breach));
    }
    // An agent that was admitted is treated like any other.
    let mut agent = relay.agent()?;
    let _stream = relay.stream(&mut agent)?;
    wrong.extend(closed_otherwise(&mut agent, &UNMASKED));
    none_is(wrong)
}

fn breaches_by_client(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let mut wrong = Vec::new();
    for breach in breaches_of_dialler() {
        let mut fresh = relay.client_link()?;
        wrong.extend(closed_otherwise(&mut fresh, breach));
        let (mut client, id) = relay.stream(&mut agent)?;
        wrong.extend(closed_otherwise(&mut client, breach));
        client.finish();
        agent.expect_connection_close(&id)?;
    }
    none_is(wrong)
}

/// The next link of an agent that is started anew, so that no delay of A-11 comes in between.
fn fresh(agent: &mut Agent) -> Outcome<ToAgent> {
    agent.signal(Signal::KILL);
    agent.launch()?;
    let mut last = Finding::fail("the agent does not dial");
    // What the old one had begun may come first.
    for _ in 0..3 {
        match agent.accept_start() {
            Ok((link, _)) => return Ok(link),
            Err(finding) => last = finding,
        }
    }
    Err(last)
}

fn agent_after(agent: &mut Agent, breaches: &[Breach]) -> Outcome {
    let mut wrong = Vec::new();
    for breach in breaches {
        let mut link = fresh(agent)?;
        wrong.extend(closed_otherwise(&mut link, breach));
    }
    none_is(wrong)
}

fn client_after(client: &mut Client, breaches: &[Breach]) -> Outcome {
    let mut wrong = Vec::new();
    for breach in breaches {
        let mut link = client.open()?;
        wrong.extend(closed_otherwise(&mut link, breach));
        link.finish();
        client.expect_failure()?;
    }
    none_is(wrong)
}

fn bad_frames_to_agent(agent: &mut Agent) -> Outcome {
    agent_after(agent, &BAD_FRAMES)
}

fn bad_payloads_to_agent(agent: &mut Agent) -> Outcome {
    agent_after(agent, &BAD_PAYLOADS)
}

fn bad_frames_to_client(client: &mut Client) -> Outcome {
    client_after(client, &BAD_FRAMES)
}

fn bad_payloads_to_client(client: &mut Client) -> Outcome {
    client_after(client, &BAD_PAYLOADS)
}

/// One breach for each of the codes that a dialler uses for what a relay did wrong.
const FAULTS: [Breach; 3] = [
    MASKED,
    breach("text that is not UTF-8", CLOSE_INVALID, |link| link.send_frame(0x81, b"\xff")),
    breach("too large a message", CLOSE_TOO_BIG, |link| link.claim(0x80 | TEXT, TOO_MUCH)),
];

fn agents_codes(agent: &mut Agent) -> Outcome {
    agent_after(agent, &FAULTS)
}

fn clients_codes(client: &mut Client) -> Outcome {
    client_after(client, &FAULTS)
}

// ---- the close handshake ----

/// A close frame is answered with its code, and without reason or with the same one.
fn expect_answer(link: &mut Link, code: u16, reason: &str) -> Outcome {
    link.close_with(&[&code.to_be_bytes(), reason.as_bytes()].concat());
    match end_of(link)? {
        Received::Close(Some(came), said)
            if came == code && (said.is_empty() || said == reason) =>
        {
            link.finish();
            Ok(())
        }
        other => Err(Finding::Fail(format!("{code} {reason:?} is answered by {other:?}"))),
    }
}

/// Codes that a peer may send, known and unknown, and a reason for each.
const ENDS: [(u16, &str); 5] =
    [(1000, ""), (1001, "going away"), (1012, ""), (3001, "Größe"), (4999, "y")];

fn relay_answers(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    for (code, reason) in ENDS {
        let (mut client, id) = relay.stream(&mut agent)?;
        expect_answer(&mut client, code, reason)?;
        agent.expect_connection_close(&id)?;
        for fresh in [&mut *relay.client_link()?, &mut *relay.agent_link()?] {
            expect_answer(fresh, code, reason)?;
        }
    }
    expect_answer(&mut agent, 3001, "one that was admitted")?;
    agent.expect_end()
}

fn agent_answers(agent: &mut Agent) -> Outcome {
    for (code, reason) in ENDS {
        let target = agent.target()?;
        let mut link = fresh(agent)?;
        link.open("s", target.port())?;
        let mut connection = target.accept()?;
        expect_answer(&mut link, code, reason)?;
        connection.expect_end()?;
    }
    Ok(())
}

fn client_answers(client: &mut Client) -> Outcome {
    for (code, reason) in ENDS {
        let mut link = client.open()?;
        expect_answer(&mut link, code, reason)?;
        drop(link);
        client.wait()?;
    }
    Ok(())
}

fn relay_unanswered(relay: &Relay) -> Outcome {
    let mut client = relay.client_link()?;
    client.leave_closes_unanswered();
    let mut start = client_start(22);
    start["secret"] = "wrong".into();
    client.send(&start);
    let mut agent = relay.agent_named(AGENT, "wrong")?;
    agent.leave_closes_unanswered();
    for link in [&mut *client, &mut *agent] {
        match end_of(link)? {
            Received::Close(..) => link.expect_end()?,
            other => return Err(Finding::Fail(format!("it is ended by {other:?}"))),
        }
    }
    Ok(())
}

fn agent_unanswered(agent: &mut Agent) -> Outcome {
    let mut link = agent.start()?;
    link.leave_closes_unanswered();
    agent.signal(Signal::INT);
    link.expect_close(CLOSE_NORMAL)?;
    link.expect_end()
}

fn client_unanswered(client: &mut Client) -> Outcome {
    let mut link = client.open()?;
    link.leave_closes_unanswered();
    client.signal(Signal::INT)?;
    link.expect_close(CLOSE_NORMAL)?;
    link.expect_end()
}

/// How long an agent waits at most for news that should come at once; the Python relay sends them after 10 s.
const AT_ONCE: Duration = Duration::from_secs(5);

fn close_counts_at_once(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    // A machine that stops for seconds proves nothing, but not three times.
    for _ in 0..3 {
        let (mut client, id) = relay.stream(&mut agent)?;
        client.close(CLOSE_NORMAL);
        client.expect_close(CLOSE_NORMAL)?;
        let told = agent.receive_within(AT_ONCE)?;
        let is_told = matches!(&told, Some(Received::Text(text)) if text.contains(&id));
        if is_told {
            return Ok(());
        }
        client.finish();
        agent.expect_connection_close(&id)?;
    }
    Err(Finding::fail("the agent is told only after the end of the client's TCP connection"))
}

fn answer_without_code(link: &mut Link) -> Outcome {
    link.close_with(&[]);
    match end_of(link)? {
        Received::Close(None, _) => Ok(()),
        other => Err(Finding::Fail(format!("no code is answered by {other:?}"))),
    }
}

fn no_code_to_relay(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (mut client, id) = relay.stream(&mut agent)?;
    answer_without_code(&mut client)?;
    client.finish();
    agent.expect_connection_close(&id)?;
    answer_without_code(&mut agent)
}

fn no_code_to_agent(agent: &mut Agent) -> Outcome {
    let mut link = agent.start()?;
    answer_without_code(&mut link)
}

fn no_code_to_client(client: &mut Client) -> Outcome {
    let mut link = client.open()?;
    answer_without_code(&mut link)?;
    drop(link);
    // It is no 1000 (C-15).
    client.expect_failure()
}

fn reasons_of_relay(relay: &Relay) -> Outcome {
    for breach in &CODES {
        let mut client = relay.client_link()?;
        (breach.deed)(&mut client);
        let Received::Close(_, reason) = end_of(&mut client).unwrap_or(Received::End) else {
            continue;
        };
        if reason.chars().any(char::is_control) {
            return Err(Finding::Fail(format!("for {} it says {reason:?}", breach.what)));
        }
    }
    Ok(())
}

fn reasons_to_client(client: &mut Client) -> Outcome {
    for reason in ["", "\u{1b}[31mred\u{0}\n", &"é".repeat(61), &"x".repeat(123)] {
        let mut link = client.open()?;
        link.data(b"all of it");
        expect_answer(&mut link, CLOSE_NORMAL, reason)?;
        drop(link);
        client.expect_output(b"all of it")?;
        client.expect_success()?;
    }
    Ok(())
}

// ---- the end at the agent ----

/// Sends data and then a reset on an agent's link, while the client reads it.
fn tail(relay: &Relay, mut agent: FromAgent, length: usize) -> Outcome<FromAgent> {
    let (mut client, id) = relay.stream(&mut agent)?;
    let bytes = seeded_bytes(length as u64, length);
    let mut messages: Vec<String> =
        bytes.chunks(1 << 14).map(|piece| data_text(Some(&id), piece)).collect();
    let reset = json!({
        "kind": "connection_reset", "message": TARGET_CLOSED_MESSAGE, "connection_id": id,
    });
    messages.push(json!({ "inner": reset }).to_string());
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

// ---- the agent ----

fn target_closes(agent: &mut Agent) -> Outcome {
    let target = agent.target()?;
    let mut link = agent.start_with_promise()?;
    for length in [0, 10, 1 << 16] {
        link.open("s", target.port())?;
        let mut connection = target.accept()?;
        let bytes = seeded_bytes(5, length);
        connection.write(&bytes);
        drop(connection);
        link.expect_data("s", &bytes)?;
        let words = link.expect_reset("s")?;
        if words != TARGET_CLOSED_MESSAGE {
            return Err(Finding::Fail(format!("the reset says {words:?}")));
        }
    }
    link.expect_quiet()
}

fn target_resets(agent: &mut Agent) -> Outcome {
    let target = agent.target()?;
    let mut link = agent.start_with_promise()?;
    link.open("s", target.port())?;
    target.accept()?.reset();
    let words = link.expect_reset("s")?;
    if words == TARGET_CLOSED_MESSAGE {
        return Err(Finding::fail("the reset says that the end was clean"));
    }
    link.expect_quiet()
}

/// The ping that stands behind the last data; pings are not answered by themselves.
fn expect_ping(link: &mut ToAgent) -> Outcome<Vec<u8>> {
    let patience = link.stage().patience();
    loop {
        match link.next(patience)? {
            Some(Received::Ping(payload)) => return Ok(payload),
            Some(Received::Text(text)) if text.contains("keep_alive") => {}
            Some(other) => return Err(Finding::Fail(format!("instead of a ping came {other:?}"))),
            None => return Err(Finding::fail("no ping follows the last data")),
        }
    }
}

fn lingers(agent: &mut Agent) -> Outcome {
    let target = agent.target()?;
    let mut link = agent.start()?;
    link.leave_pings_unanswered();
    link.open("s", target.port())?;
    let mut connection = target.accept()?;
    connection.write(b"the last words");
    drop(connection);
    link.expect_data("s", b"the last words")?;
    let payload = expect_ping(&mut link)?;
    link.expect_nothing_for(2 * LINGER)?;
    // Counted from before the pong, so that it is never too long.
    let early = Instant::now() + LINGER - Duration::from_millis(50);
    link.send_frame(0x80 | PONG, &payload);
    link.expect_nothing_for(early.saturating_duration_since(Instant::now()))?;
    let words = link.expect_reset("s")?;
    if words == TARGET_CLOSED_MESSAGE {
        return Ok(());
    }
    Err(Finding::Fail(format!("the reset says {words:?}")))
}

fn lingers_longer(agent: &mut Agent) -> Outcome {
    const LENGTH: usize = 5 << 20;
    let server = crate::harness::Target::source(6, LENGTH);
    let mut link = agent.start()?;
    link.leave_pings_unanswered();
    link.open("s", server.port())?;
    let began = Instant::now();
    let sizes = link.sizes_of_data("s", &seeded_bytes(6, LENGTH))?;
    let is_fast = began.elapsed() < Duration::from_secs(10);
    let payload = expect_ping(&mut link)?;
    link.send_frame(0x80 | PONG, &payload);
    let small = sizes.largest_payload() <= codec::v1::ORIGINAL_CHUNK;
    agent.should(small, "its messages are larger than those of Python");
    // What took long by itself has no backlog.
    let waits = !is_fast || link.expect_nothing_for(3 * LINGER).is_ok();
    agent.should(waits, "it waits no longer after a long transfer");
    Ok(())
}

fn broken_at_once(agent: &mut Agent) -> Outcome {
    let target = agent.target()?;
    let mut link = agent.start()?;
    link.leave_pings_unanswered();
    link.open("s", target.port())?;
    target.accept()?.reset();
    let words = link.expect_reset("s")?;
    if words == TARGET_CLOSED_MESSAGE {
        return Err(Finding::fail("the reset says that the end was clean"));
    }
    Ok(())
}

fn written_out(agent: &mut Agent) -> Outcome {
    let target = agent.target()?;
    let mut link = agent.start()?;
    link.open("s", target.port())?;
    let mut connection = target.accept()?;
    link.data("s", b"the last ");
    link.data("s", b"words");
    link.close_stream("s");
    connection.expect(b"the last words")?;
    connection.expect_end()?;
    link.expect_quiet()
}

fn queue_written_out(agent: &mut Agent) -> Outcome {
    let target = agent.target()?;
    let mut link = agent.start()?;
    link.open("s", target.port())?;
    let mut connection = target.accept()?;
    let bytes = seeded_bytes(9, STREAM_QUEUE);
    for piece in bytes.chunks(1 << 14) {
        link.data("s", piece);
    }
    link.close_stream("s");
    // All of it is at the agent before the target reads a byte.
    link.expect_quiet()?;
    connection.expect(&bytes)?;
    connection.expect_end()
}

fn dropped_after_close(agent: &mut Agent) -> Outcome {
    let target = agent.target()?;
    let mut link = agent.start()?;
    link.open("s", target.port())?;
    let mut connection = target.accept()?;
    link.close_stream("s");
    connection.expect_end()?;
    connection.write(b"to nobody");
    drop(connection);
    link.open("t", target.port())?;
    link.expect_quiet()
}

fn closed_while_connecting(agent: &mut Agent) -> Outcome {
    let mut target = agent.silent_target()?;
    let mut link = agent.start()?;
    link.ask("s", target.port());
    link.expect_quiet()?;
    link.close_stream("s");
    // An agent that has not stopped is let in when its system tries again, after one or three seconds.
    if let Some(mut connection) = target.accept_within(Duration::from_secs(4))? {
        connection.expect_end()?;
    }
    link.ask("t", 0);
    loop {
        let message = link.message()?;
        match message.kind() {
            "tcp_data" => {
                return Err(Finding::Fail(format!("after the end came {}", message.text)));
            }
            _ if message.field("connection_id") == "t" => return Ok(()),
            _ => {}
        }
    }
}

fn half_close(agent: &mut Agent) -> Outcome {
    let target = agent.target()?;
    let mut link = agent.start_with_promise()?;
    link.open("s", target.port())?;
    let mut connection = target.accept()?;
    connection.write(b"the last words");
    connection.finish();
    link.expect_data("s", b"the last words")?;
    link.expect_reset("s")?;
    link.close_stream("s");
    connection.expect_end()
}

fn relay_is_cut(agent: &mut Agent) -> Outcome {
    let target = agent.target()?;
    let mut link = agent.start()?;
    link.open("s", target.port())?;
    let mut connection = target.accept()?;
    drop(link);
    connection.expect_end()?;
    let (mut link, _) = agent.accept_start()?;
    link.open("s", target.port())?;
    link.expect_quiet()
}

fn interrupted_agent(agent: &mut Agent) -> Outcome {
    stopped_agent(agent, Signal::INT)
}

fn terminated_agent(agent: &mut Agent) -> Outcome {
    stopped_agent(agent, Signal::TERM)
}

fn stopped_agent(agent: &mut Agent, signal: Signal) -> Outcome {
    let target = agent.target()?;
    let mut link = agent.start()?;
    link.open("s", target.port())?;
    let mut connection = target.accept()?;
    agent.signal(signal);
    match end_of(&mut link)? {
        Received::Close(Some(CLOSE_NORMAL), _) => connection.expect_end(),
        other => Err(Finding::Fail(format!("its end is {other:?}"))),
    }
}

// ---- the client ----

fn input_ends(client: &mut Client) -> Outcome {
    let mut link = client.open()?;
    link.data(b"before");
    client.expect_output(b"before")?;
    client.input(b"the last words")?;
    client.end_input()?;
    link.expect_data(b"the last words")?;
    link.expect_quiet()?;
    link.data(b"answer");
    link.leave()?;
    client.expect_output(b"answer")?;
    client.expect_success()
}

fn interrupted_client(client: &mut Client) -> Outcome {
    stopped_client(client, Signal::INT)
}

fn terminated_client(client: &mut Client) -> Outcome {
    stopped_client(client, Signal::TERM)
}

fn stopped_client(client: &mut Client, signal: Signal) -> Outcome {
    let mut link = client.open()?;
    link.data(b"some of it");
    client.expect_output(b"some of it")?;
    client.signal(signal)?;
    match link.receive()? {
        Received::Close(Some(CLOSE_NORMAL), _) => Ok(()),
        other => Err(Finding::Fail(format!("its end is {other:?}"))),
    }
}
