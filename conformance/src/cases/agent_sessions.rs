//! Agent sessions: admission, names, and how an agent comes back (spec v1, section A).

use std::io::Read as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use codec::v1::{
    CLOSE_AGENT_LOST, CLOSE_INVALID, CLOSE_NAME_IN_USE, CLOSE_NORMAL, CLOSE_PING_TIMEOUT,
    CLOSE_POLICY, CLOSE_RESTART, ERROR_AGENT_NOT_REGISTERED, PING_INTERVAL, PONG_TIMEOUT,
    PROBE_TIMEOUT, REASON_AGENT_LOST, REASON_BAD_CREDENTIALS, START_TIMEOUT,
};
use serde_json::{Value, json};

use crate::harness::Target;
use crate::harness::frames::PONG;
use crate::harness::targets::SilentPort;
use crate::harness::tunnel::{
    AGENT, AGENT_SECRET, CLIENT_SECRET, OTHER_AGENT, agent_start, client_start,
};
use crate::kit::{
    Agent, Case, Finding, FromAgent, Message, Outcome, Received, Relay, ToAgent, agent, relay,
    watch,
};

/// The cases of this section, in the order of its statements.
pub(super) const CASES: &[Case] = &[
    agent("A-1", "an agent's first message", "`start`, its `last_error` null", first_message),
    relay("A-2.a", "a name and its secret", "the agent is admitted", admitted),
    relay(
        "A-2.b",
        "names and secrets that are almost right",
        "the agent is not admitted",
        almost_right,
    ),
    relay("A-2.c", "an empty name", "it is a name like any other", empty_name),
    relay("A-3.a", "an unknown name", "the link is closed with 1008 and the reason", unknown_name),
    relay(
        "A-3.b",
        "a wrong secret",
        "the link is closed with 1008 and the same reason",
        wrong_secret,
    ),
    relay("A-4.a", "an agent that is admitted", "it gets no answer", no_answer),
    agent("A-4.b", "a question right after the start", "it is answered", asked_at_once),
    relay(
        "A-5.a",
        "a first message of another kind",
        "the link is closed with 1008",
        another_kind_first,
    ),
    relay(
        "A-5.b",
        "a start without name or secret",
        "the link is closed with 1008",
        start_without_name,
    ),
    relay("A-5.c", "no message as the first one", "the link is closed with 1007", no_message_first),
    relay("A-6", "nothing", "after 10 s the link is closed with 1008", nothing_first)
        .takes(10)
        .also(&["L-10"]),
    relay(
        "A-7.a",
        "a name that is held",
        "its holder gets a ping, and the other link has to wait",
        holder_is_asked,
    ),
    relay(
        "A-7.b",
        "a holder that sends something, but no pong",
        "it counts as an answer",
        holder_sends_something,
    ),
    relay(
        "A-7.c",
        "what a link sends while its claim is settled",
        "it is handled once the link is admitted",
        handled_afterwards,
    )
    .takes(5),
    relay(
        "A-8.a",
        "a holder that answers",
        "the other link is closed with 4009 and a reason",
        holder_answers,
    ),
    relay(
        "A-8.b",
        "a holder that does not answer",
        "its link and streams end, and the other link is admitted",
        holder_is_silent,
    )
    .takes(5),
    relay(
        "A-8.c",
        "a holder that takes nothing",
        "the other link is admitted, whatever the holder has still to get",
        holder_takes_nothing,
    )
    .takes(8),
    relay("A-9.a", "the name after a close frame of the agent", "it is free", agent_has_closed),
    relay("A-9.b", "the name after a close frame of the relay", "it is free", relay_has_closed),
    relay("A-9.c", "the name after the end of TCP", "it is free", tcp_has_ended),
    relay("A-10", "a further start", "it is ignored", further_start),
    agent("A-11.a", "the end of a link", "whatever it was, the agent comes back", comes_back)
        .takes(32),
    agent("A-11.b", "the delays of an agent", "they grow, and have jitter", delays).takes(32),
    agent("A-11.c", "the ceiling of the delays", "30 s", ceiling).takes(64),
    agent("A-11.d", "a link that lasted", "the delay is 1 s again", delay_after_lasting_link)
        .takes(76),
    agent("A-12.a", "an attempt that was refused", "`last_error` is set", error_of_refusal)
        .takes(1),
    agent("A-12.b", "an attempt that was not answered", "`last_error` is set", error_of_no_answer)
        .takes(1),
    agent(
        "A-12.c",
        "close frames of the relay",
        "they do not set `last_error`",
        no_error_of_closes,
    )
    .takes(7),
    agent("A-12.d", "`last_error` after a good link", "it is forgotten", error_is_forgotten)
        .takes(3),
    agent(
        "A-13",
        "the targets of a link that ended",
        "they are closed before the agent comes back",
        targets_are_closed,
    )
    .takes(12),
    agent("A-14", "after a close handshake", "the agent ends the TCP connection", ends_tcp),
    agent(
        "A-15.a",
        "what `last_error` says of a refusal",
        "the words of Python's agent, or others",
        words_of_refusal,
    )
    .takes(1),
    agent(
        "A-15.b",
        "what `last_error` says of errors",
        "the words of Python's agent, or others",
        words_of_errors,
    )
    .takes(8),
    agent(
        "A-15.c",
        "what `last_error` says of times that are over",
        "the words of Python's agent, or others",
        words_of_times,
    )
    .takes(80),
    relay(
        "A-16.a",
        "two links that ask for a name that is held",
        "the second one is closed with 4009 at once",
        one_claim_at_a_time,
    ),
    relay(
        "A-16.b",
        "a holder that the relay does not read",
        "it counts as one that answered",
        holder_is_not_read,
    )
    .takes(10),
];

// ---- the relay ----

/// Fails unless the link ends: by a close frame or without one.
fn expect_not_admitted(agent: &mut FromAgent, start: &Value) -> Outcome {
    match agent.receive()? {
        Received::Close(..) | Received::End => Ok(()),
        other => Err(Finding::Fail(format!("to {start} came {other:?}"))),
    }
}

fn admitted(relay: &Relay) -> Outcome {
    for (name, secret) in [(AGENT, AGENT_SECRET), OTHER_AGENT] {
        let mut agent = relay.agent_named(name, secret)?;
        relay.stream(&mut agent)?;
    }
    Ok(())
}

fn almost_right(relay: &Relay) -> Outcome {
    let (other, other_secret) = OTHER_AGENT;
    let blank = |text: &str| format!("{text} ");
    for (name, secret) in [
        (AGENT.to_uppercase(), AGENT_SECRET.to_owned()),
        (blank(AGENT), AGENT_SECRET.to_owned()),
        (AGENT[1..].to_owned(), AGENT_SECRET.to_owned()),
        (String::new(), AGENT_SECRET.to_owned()),
        (other.to_owned(), AGENT_SECRET.to_owned()),
        (AGENT.to_owned(), AGENT_SECRET.to_uppercase()),
        (AGENT.to_owned(), blank(AGENT_SECRET)),
        (AGENT.to_owned(), AGENT_SECRET[1..].to_owned()),
        (AGENT.to_owned(), String::new()),
        (AGENT.to_owned(), other_secret.to_owned()),
        (AGENT.to_owned(), CLIENT_SECRET.to_owned()),
    ] {
        let mut agent = relay.agent_named(&name, &secret)?;
        expect_not_admitted(&mut agent, &agent_start(&name, &secret))?;
    }
    Ok(())
}

fn empty_name(relay: &Relay) -> Outcome {
    let credentials = json!({
        "edge-agents": { "": AGENT_SECRET },
        "access-client-secrets": [CLIENT_SECRET],
    });
    let relay = relay.with_credentials(&credentials.to_string())?;
    let mut agent = relay.agent_named("", AGENT_SECRET)?;
    relay.stream(&mut agent)?;
    let mut named = relay.agent()?;
    expect_not_admitted(&mut named, &agent_start(AGENT, AGENT_SECRET))
}

fn unknown_name(relay: &Relay) -> Outcome {
    let mut agent = relay.agent_named("nobody", AGENT_SECRET)?;
    agent.expect_close_saying(CLOSE_POLICY, REASON_BAD_CREDENTIALS)
}

fn wrong_secret(relay: &Relay) -> Outcome {
    let mut agent = relay.agent_named(AGENT, "wrong")?;
    agent.expect_close_saying(CLOSE_POLICY, REASON_BAD_CREDENTIALS)
}

fn no_answer(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    agent.watch_keep_alive();
    // The first thing that comes is a question.
    let _client = relay.ask(&mut agent)?;
    agent.expect_quiet()
}

fn another_kind_first(relay: &Relay) -> Outcome {
    for first in [
        json!({ "kind": "keep_alive" }),
        json!({ "kind": "initiate_connection_ok", "connection_id": "1" }),
        json!({ "kind": "tcp_data", "connection_id": "1", "data_base64": "" }),
        json!({ "kind": "connection_reset", "message": "", "connection_id": "1" }),
    ] {
        let mut agent = relay.agent_link()?;
        agent.send(&first);
        agent.expect_close(CLOSE_POLICY)?;
    }
    Ok(())
}

fn start_without_name(relay: &Relay) -> Outcome {
    for first in [
        json!({ "kind": "start", "last_error": null, "secret": AGENT_SECRET }),
        json!({ "kind": "start", "last_error": null, "name": AGENT }),
        json!({ "kind": "start" }),
        // A client's, which has dialled the wrong path.
        client_start(22),
    ] {
        let mut agent = relay.agent_link()?;
        agent.send(&first);
        agent.expect_close(CLOSE_POLICY)?;
    }
    Ok(())
}

fn no_message_first(relay: &Relay) -> Outcome {
    for text in ["", "hello", "{}", r#"{"inner":{}}"#, r#"{"inner":{"kind":"hello"}}"#] {
        let mut agent = relay.agent_link()?;
        agent.send_text(text);
        agent.expect_close(CLOSE_INVALID)?;
    }
    Ok(())
}

fn nothing_first(relay: &Relay) -> Outcome {
    let mut agent = relay.agent_link()?;
    agent.expect_nothing_for(START_TIMEOUT - Duration::from_secs(1))?;
    agent.expect_close_after(Duration::from_secs(1), CLOSE_POLICY)?;
    Ok(())
}

/// A link that has asked for the name of another one, and that one, which has got a ping for it and keeps its answer
/// back.
struct Contest {
    holder: FromAgent,
    ping: Vec<u8>,
    other: FromAgent,
}

fn contest(relay: &Relay) -> Outcome<Contest> {
    let mut holder = relay.agent()?;
    // So it is admitted.
    let (client, id) = relay.stream(&mut holder)?;
    drop(client);
    holder.expect_connection_close(&id)?;
    holder.leave_pings_unanswered();
    let mut other = relay.agent()?;
    let mut ping = None;
    watch(&mut [&mut holder, &mut other], relay.stage().patience(), |_, received| {
        match received {
            Received::Ping(payload) => ping = Some(payload),
            other => return Err(Finding::Fail(format!("instead of a ping came {other:?}"))),
        }
        Ok(ping.is_some())
    })?;
    match ping {
        Some(ping) => Ok(Contest { holder, ping, other }),
        None => Err(Finding::fail("the holder of the name gets no ping")),
    }
}

impl Contest {
    fn answer(&mut self) {
        self.holder.send_frame(0x80 | PONG, &self.ping);
    }
}

fn holder_is_asked(relay: &Relay) -> Outcome {
    let mut contest = contest(relay)?;
    // It would be closed with 1007.
    contest.other.send_text("no message");
    contest.other.expect_nothing_for(Duration::from_secs(1))?;
    contest.answer();
    contest.other.expect_close(CLOSE_NAME_IN_USE)?;
    contest.holder.expect_quiet()
}

fn holder_sends_something(relay: &Relay) -> Outcome {
    let mut contest = contest(relay)?;
    contest.holder.send(&json!({ "kind": "keep_alive" }));
    contest.other.expect_close(CLOSE_NAME_IN_USE)?;
    contest.holder.expect_quiet()
}

fn handled_afterwards(relay: &Relay) -> Outcome {
    let mut contest = contest(relay)?;
    contest.other.send_text("no message");
    contest.holder.expect_close_after(PROBE_TIMEOUT, CLOSE_NAME_IN_USE)?;
    contest.other.expect_close(CLOSE_INVALID)?;
    Ok(())
}

fn holder_answers(relay: &Relay) -> Outcome {
    let mut holder = relay.agent()?;
    let (mut client, id) = relay.stream(&mut holder)?;
    let mut other = relay.agent()?;
    let mut reason = None;
    watch(&mut [&mut holder, &mut other], relay.stage().patience(), |_, received| {
        match received {
            Received::Ping(_) => {}
            Received::Close(Some(CLOSE_NAME_IN_USE), text) => reason = Some(text),
            other => return Err(Finding::Fail(format!("instead of a close came {other:?}"))),
        }
        Ok(reason.is_some())
    })?;
    match reason.as_deref() {
        None => return Err(Finding::fail("the second link is not closed")),
        Some("") => return Err(Finding::fail("the close frame gives no reason")),
        Some(_) => {}
    }
    // The stream of the holder has not noticed.
    holder.data(&id, b"still here");
    client.expect_data(b"still here")?;
    client.data(b"so am I");
    holder.expect_data(&id, b"so am I")
}

fn holder_is_silent(relay: &Relay) -> Outcome {
    let mut holder = relay.agent()?;
    let (mut client, _) = relay.stream(&mut holder)?;
    holder.leave_pings_unanswered();
    let mut other = relay.agent()?;
    holder.expect_close_after(PROBE_TIMEOUT, CLOSE_NAME_IN_USE)?;
    client.expect_close_saying(CLOSE_AGENT_LOST, REASON_AGENT_LOST)?;
    relay.stream(&mut other)?;
    Ok(())
}

/// Waits until this agent is the one whom clients reach, after so long at most.
fn expect_admitted_after(relay: &Relay, time: Duration, agent: &mut FromAgent) -> Outcome {
    let end = Instant::now() + relay.stage().patience_after(time);
    while Instant::now() < end {
        let mut client = relay.client_link()?;
        client.send(&client_start(22));
        let mut is_asked = false;
        // One that reaches another link, or none, gets an error, or nothing.
        watch(&mut [&mut *agent, &mut client], Duration::from_secs(1), |place, received| {
            match (place, received) {
                (0, Received::Text(text)) => is_asked = text.contains("initiate_connection"),
                (0, end @ (Received::Close(..) | Received::End)) => {
                    return Err(Finding::Fail(format!("the agent is not admitted: {end:?}")));
                }
                (1, Received::Text(_) | Received::End) => return Ok(true),
                _ => {}
            }
            Ok(is_asked)
        })?;
        if is_asked {
            return Ok(());
        }
    }
    Err(Finding::fail("the agent is not asked"))
}

/// More than two TCP connections and a relay keep for a stream.
fn flood(mut send: impl FnMut(&[u8])) {
    let piece = crate::harness::seeded_bytes(8, 1 << 16);
    for _ in 0..256 {
        send(&piece);
    }
}

fn holder_takes_nothing(relay: &Relay) -> Outcome {
    let mut holder = relay.agent()?;
    let (mut client, _) = relay.stream(&mut holder)?;
    thread::scope(|scope| {
        let flood = scope.spawn(|| flood(|piece| client.data(piece)));
        let taken_over = relay.agent().and_then(|mut other| {
            expect_admitted_after(relay, PROBE_TIMEOUT, &mut other)?;
            loop {
                match holder.receive()? {
                    Received::Text(_) => {}
                    Received::Close(Some(CLOSE_NAME_IN_USE), _) | Received::End => return Ok(()),
                    other => {
                        return Err(Finding::Fail(format!("the holder's link goes on: {other:?}")));
                    }
                }
            }
        });
        // With its agent the client's link ends, and so the flood.
        drop(holder);
        let _ = flood.join();
        taken_over
    })
}

/// Waits until clients hear that there is no agent.
fn expect_no_agent(relay: &Relay) -> Outcome {
    let end = Instant::now() + relay.stage().patience();
    while Instant::now() < end {
        let mut client = relay.client_link()?;
        client.send(&client_start(22));
        match client.receive_within(Duration::from_secs(1))? {
            Some(Received::Text(text)) if text.contains(ERROR_AGENT_NOT_REGISTERED) => {
                return Ok(());
            }
            // The relay has not noticed yet.
            _ => {}
        }
    }
    Err(Finding::fail("the relay goes on to ask an agent that has gone"))
}

fn agent_has_closed(relay: &Relay) -> Outcome {
    let mut holder = relay.agent()?;
    relay.stream(&mut holder)?;
    holder.close(CLOSE_NORMAL);
    while !matches!(holder.receive()?, Received::Close(..)) {}
    // The TCP connection of the first link is still there.
    let mut other = relay.agent()?;
    relay.stream(&mut other)?;
    Ok(())
}

fn relay_has_closed(relay: &Relay) -> Outcome {
    let mut holder = relay.agent()?;
    relay.stream(&mut holder)?;
    holder.send_text("no message");
    // Answered by the link itself.
    while !matches!(holder.receive()?, Received::Close(..) | Received::End) {}
    let mut other = relay.agent()?;
    relay.stream(&mut other)?;
    Ok(())
}

fn tcp_has_ended(relay: &Relay) -> Outcome {
    let mut holder = relay.agent()?;
    relay.stream(&mut holder)?;
    holder.finish();
    while holder.receive()? != Received::End {}
    let mut second = relay.agent()?;
    relay.stream(&mut second)?;
    second.reset();
    expect_no_agent(relay)?;
    let mut third = relay.agent()?;
    relay.stream(&mut third)?;
    Ok(())
}

fn further_start(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (mut client, id) = relay.stream(&mut agent)?;
    let (other, other_secret) = OTHER_AGENT;
    for start in [
        agent_start(AGENT, AGENT_SECRET),
        agent_start(AGENT, "wrong"),
        agent_start(other, other_secret),
    ] {
        agent.send(&start);
        agent.expect_quiet()?;
    }
    agent.data(&id, b"still here");
    client.expect_data(b"still here")?;
    // Nor has it got the other name.
    let mut start = client_start(22);
    start["connection_target"] = other.into();
    let mut client = relay.client_link()?;
    client.send(&start);
    client.expect_error(ERROR_AGENT_NOT_REGISTERED)
}

fn one_claim_at_a_time(relay: &Relay) -> Outcome {
    let mut contest = contest(relay)?;
    let mut third = relay.agent()?;
    third.expect_close(CLOSE_NAME_IN_USE)?;
    // The first claim is not settled yet.
    contest.other.expect_quiet()?;
    contest.answer();
    contest.other.expect_close(CLOSE_NAME_IN_USE)?;
    contest.holder.expect_quiet()
}

fn holder_is_not_read(relay: &Relay) -> Outcome {
    let mut holder = relay.agent()?;
    let (client, id) = relay.stream(&mut holder)?;
    let sent = AtomicUsize::new(0);
    thread::scope(|scope| {
        let flood = scope.spawn(|| {
            flood(|piece| {
                holder.data(&id, piece);
                sent.fetch_add(piece.len(), Ordering::Relaxed);
            });
        });
        // Until it stands still; a relay that reads on for good is as well.
        let mut before = usize::MAX;
        while std::mem::replace(&mut before, sent.load(Ordering::Relaxed)) != before {
            thread::sleep(Duration::from_millis(300));
        }
        let refused = relay.agent().and_then(|mut other| {
            other.expect_close(CLOSE_NAME_IN_USE)?;
            Ok(())
        });
        // With its client the stream ends, and the relay reads on.
        drop(client);
        let _ = flood.join();
        refused
    })
}

// ---- the agent ----

fn first_message(agent: &mut Agent) -> Outcome {
    agent.launch()?;
    let (_link, start) = agent.accept_start()?;
    if start.inner == agent_start(AGENT, AGENT_SECRET) {
        return Ok(());
    }
    Err(Finding::Fail(format!("the start is {}", start.text)))
}

fn asked_at_once(agent: &mut Agent) -> Outcome {
    let target = Target::greeting("hello");
    let mut link = agent.start()?;
    link.open("first", target.port())?;
    link.expect_data("first", b"hello")
}

/// Refuses the agent's next attempt.
fn refuse(agent: &Agent) -> Outcome {
    let mut link = agent.accept()?;
    link.head()?;
    link.send_http("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    Ok(())
}

fn comes_back(agent: &mut Agent) -> Outcome {
    let mut link = agent.start()?;
    link.leave()?;
    let (mut link, _) = agent.accept_start()?;
    link.leave_with(CLOSE_NAME_IN_USE)?;
    let (link, _) = agent.accept_start()?;
    drop(link);
    let (mut link, _) = agent.accept_start()?;
    link.reset();
    refuse(agent)?;
    let (mut link, _) = agent.accept_start()?;
    link.expect_quiet()
}

/// Refuses an attempt and so many more, and gives the delays between them.
fn delays_of(agent: &mut Agent, count: usize) -> Outcome<Vec<Duration>> {
    agent.launch()?;
    refuse(agent)?;
    let mut delays = Vec::new();
    for _ in 0..count {
        let refused = Instant::now();
        refuse(agent)?;
        delays.push(refused.elapsed());
    }
    agent.stage().note("agent", &format!("came back after {delays:.1?}"));
    Ok(delays)
}

/// What a busy machine adds to a delay, at most.
const SLACK: Duration = Duration::from_secs(3);

fn delays(agent: &mut Agent) -> Outcome {
    let delays = delays_of(agent, 5)?;
    let schedule = [1, 2, 4, 8, 16].map(Duration::from_secs);
    let seen = format!("the delays are {delays:.1?}");
    if delays.iter().zip(schedule).any(|(delay, scheduled)| *delay > scheduled + SLACK) {
        return Err(Finding::Fail(seen + ", longer than 1 s, doubled each time"));
    }
    // With any jitter at all, delays of 31 s together are not over sooner.
    if delays.iter().sum::<Duration>() < Duration::from_millis(1500) {
        return Err(Finding::Fail(seen + ", and do not grow"));
    }
    // The longer ones show it best.
    let has_jitter = delays.iter().zip(schedule).skip(2).any(|(delay, scheduled)| {
        *delay < scheduled.mul_f64(0.99) || *delay > scheduled.mul_f64(1.1)
    });
    if has_jitter { Ok(()) } else { Err(Finding::Fail(seen + ", without jitter")) }
}

fn ceiling(agent: &mut Agent) -> Outcome {
    let delays = delays_of(agent, 6)?;
    let longest = delays.iter().max().copied().unwrap_or_default();
    let is_low = longest < Duration::from_millis(31_500);
    agent.should(is_low, format!("it comes back after {longest:.1?}"));
    Ok(())
}

/// As long as a link of the Python implementation has to last for the delay to start over.
const LASTING: Duration = Duration::from_secs(61);

fn delay_after_lasting_link(agent: &mut Agent) -> Outcome {
    agent.launch()?;
    for _ in 0..4 {
        refuse(agent)?;
    }
    let (mut link, _) = agent.accept_start()?;
    link.expect_nothing_for(LASTING)?;
    link.leave_with(CLOSE_RESTART)?;
    let left = Instant::now();
    agent.accept()?;
    let delay = left.elapsed();
    if delay < Duration::from_secs(1) + SLACK {
        return Ok(());
    }
    Err(Finding::Fail(format!("after a link of a minute it comes back after {delay:.1?}")))
}

/// The `last_error` of a start: `None` for null.
fn last_error(start: &Message) -> Outcome<Option<&str>> {
    match &start.inner["last_error"] {
        Value::Null if start.inner.get("last_error").is_some() => Ok(None),
        Value::String(text) => Ok(Some(text)),
        _ => Err(Finding::Fail(format!("the start is {}", start.text))),
    }
}

/// A `last_error` that says something.
fn some_error(start: &Message) -> Outcome<&str> {
    match last_error(start)? {
        Some(text) if !text.is_empty() => Ok(text),
        _ => Err(Finding::Fail(format!("no last_error in the start {}", start.text))),
    }
}

fn error_of_refusal(agent: &mut Agent) -> Outcome {
    agent.launch()?;
    refuse(agent)?;
    some_error(&agent.accept_start()?.1)?;
    Ok(())
}

fn error_of_no_answer(agent: &mut Agent) -> Outcome {
    agent.launch()?;
    let (link, _) = agent.accept_request()?;
    drop(link);
    some_error(&agent.accept_start()?.1)?;
    Ok(())
}

fn no_error_of_closes(agent: &mut Agent) -> Outcome {
    let mut link = agent.start()?;
    for code in [CLOSE_NORMAL, CLOSE_POLICY, CLOSE_RESTART] {
        link.leave_with(code)?;
        let (next, start) = agent.accept_start()?;
        if let Some(text) = last_error(&start)? {
            return Err(Finding::Fail(format!("after a close with {code} it says {text:?}")));
        }
        link = next;
    }
    Ok(())
}

fn error_is_forgotten(agent: &mut Agent) -> Outcome {
    let target = Target::echo();
    agent.launch()?;
    refuse(agent)?;
    let (mut link, start) = agent.accept_start()?;
    some_error(&start)?;
    // Only admitted agents are asked.
    link.open("first", target.port())?;
    link.leave_with(CLOSE_RESTART)?;
    let (_link, start) = agent.accept_start()?;
    let text = last_error(&start)?;
    agent.should(text.is_none(), format!("it still says {text:?}"));
    Ok(())
}

fn targets_are_closed(agent: &mut Agent) -> Outcome {
    let (sender, ended) = mpsc::channel();
    let target = Target::serving(move |stream| {
        // How it ends makes no difference.
        let _ = stream.read_to_end(&mut Vec::new());
        let _ = sender.send(());
        None
    });
    agent.launch()?;
    // So that the next delay may be 8 s.
    for _ in 0..3 {
        refuse(agent)?;
    }
    let (mut link, _) = agent.accept_start()?;
    link.open("first", target.port())?;
    link.leave_with(CLOSE_RESTART)?;
    match ended.recv_timeout(Duration::from_secs(4)) {
        Ok(()) => Ok(()),
        Err(_) => Err(Finding::fail("4 s later the target's connection is still open")),
    }
}

fn ends_tcp(agent: &mut Agent) -> Outcome {
    let mut link = agent.start()?;
    link.close(CLOSE_NORMAL);
    match link.receive()? {
        Received::Close(Some(CLOSE_NORMAL), _) => {}
        other => return Err(Finding::Fail(format!("the close frame is answered by {other:?}"))),
    }
    let end = link.receive_within(Duration::from_secs(3))?;
    agent.should(end == Some(Received::End), "3 s later the TCP connection is still there");
    Ok(())
}

/// Fails unless there is a `last_error`; if it is not in these words, the agent has its own.
fn python_words(start: &Message, words: &str) -> Outcome {
    let text = some_error(start)?;
    if text.contains(words) {
        return Ok(());
    }
    Err(Finding::Unimplemented(format!("words of its own: {text:?}")))
}

fn words_of_refusal(agent: &mut Agent) -> Outcome {
    agent.launch()?;
    refuse(agent)?;
    python_words(&agent.accept_start()?.1, "server rejected WebSocket connection: HTTP 403")
}

fn words_of_errors(agent: &mut Agent) -> Outcome {
    let target = Target::echo();
    agent.launch()?;
    let (mut link, _) = agent.accept_request()?;
    link.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n");
    drop(link);
    let (mut link, start) = agent.accept_start()?;
    python_words(&start, "did not receive a valid HTTP response")?;
    link.open("first", target.port())?;
    link.send(&json!({ "kind": "tcp_data", "connection_id": "first", "data_base64": "QQ=" }));
    expect_end_of(&mut link)?;
    let (mut link, start) = agent.accept_start()?;
    python_words(&start, "Incorrect padding")?;
    link.send(&json!({ "kind": "hello" }));
    expect_end_of(&mut link)?;
    let (_link, start) = agent.accept_start()?;
    let report = "\n  Input tag 'hello' found using 'kind' does not match any of the expected tags";
    python_words(&start, report)
}

fn words_of_times(agent: &mut Agent) -> Outcome {
    agent.launch()?;
    // Nobody answers it.
    let _silent = agent.accept_request()?;
    let (mut link, start) = agent.accept_start()?;
    python_words(&start, "timed out during opening handshake")?;
    link.leave_pings_unanswered();
    link.leave_closes_unanswered();
    // It connects to it, and fails to say so once its link is over.
    let hanging = SilentPort::new().map_err(|error| Finding::Fail(error.to_string()))?;
    link.ask("first", hanging.port());
    link.expect_close_after(PING_INTERVAL + PONG_TIMEOUT, CLOSE_PING_TIMEOUT)?;
    drop(hanging);
    let (_link, start) = agent.accept_start()?;
    let text = "sent 1011 (internal error) keepalive ping timeout; no close frame received";
    python_words(&start, text)
}

/// Waits until the link has ended, whatever comes before.
fn expect_end_of(link: &mut ToAgent) -> Outcome {
    while !matches!(link.receive()?, Received::Close(..) | Received::End) {}
    Ok(())
}
