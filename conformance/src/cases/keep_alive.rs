//! Keep-alive: pings, their answers, and the message of that name (spec v1, section K).

use std::time::{Duration, Instant};

use codec::v1::{
    AGENT_KEEP_ALIVE_INTERVAL, CLOSE_INVALID, CLOSE_NORMAL, CLOSE_PING_TIMEOUT,
    KEEP_ALIVE_UNKNOWN_MARKS, PING_INTERVAL, PONG_TIMEOUT, REASON_PING_TIMEOUT,
    RELAY_KEEP_ALIVE_INTERVAL, STALL_TIMEOUT, STREAM_QUEUE,
};
use serde_json::json;

use crate::harness::Target;
use crate::harness::tunnel::{AGENT, AGENT_SECRET, OTHER_AGENT, agent_start};
use crate::kit::{
    Agent, Case, Client, Finding, FromAgent, Link, Message, Outcome, Received, Relay, agent,
    client, relay, watch,
};

/// The cases of this section, in the order of its statements.
pub(super) const CASES: &[Case] = &[
    relay("K-1.a", "a relay's pings", "one every 20 s, on each link", relays_pings).takes(41),
    agent("K-1.b", "an agent's pings", "one every 20 s", agents_pings).takes(41),
    client("K-1.c", "a client's pings", "one every 20 s", clients_pings).takes(41),
    relay(
        "K-1.d",
        "pings to a relay",
        "each is answered at once, before the start, too",
        pings_to_relay,
    ),
    agent("K-1.e", "pings to an agent", "each is answered at once", pings_to_agent),
    client(
        "K-1.f",
        "pings to a client",
        "each is answered at once, before `start_ok`, too",
        pings_to_client,
    ),
    relay(
        "K-2.a",
        "an agent that answers no ping, and sends something",
        "its link stays",
        agent_sends_something,
    )
    .takes(46),
    relay(
        "K-2.b",
        "a client that answers no ping, and sends something",
        "its link stays",
        client_sends_something,
    )
    .takes(46),
    agent(
        "K-2.c",
        "a relay that answers no ping of an agent, and sends something",
        "the link stays",
        relay_sends_agent_something,
    )
    .takes(46),
    client(
        "K-2.d",
        "a relay that answers no ping of a client, and sends something",
        "the link stays",
        relay_sends_client_something,
    )
    .takes(46),
    relay(
        "K-3.a",
        "an agent that is silent",
        "after 40 s its link is closed with 1011, and TCP is ended",
        silent_agent,
    )
    .takes(45),
    relay(
        "K-3.b",
        "a client that is silent",
        "after 40 s its link is closed with 1011, and TCP is ended",
        silent_client,
    )
    .takes(45),
    agent(
        "K-3.c",
        "a relay that is silent, to an agent",
        "after 40 s the link is closed with 1011, and TCP is ended",
        relay_silent_to_agent,
    )
    .takes(45),
    client(
        "K-3.d",
        "a relay that is silent, to a client",
        "after 40 s the link is closed with 1011, and TCP is ended",
        relay_silent_to_client,
    )
    .takes(45),
    relay(
        "K-4.a",
        "a client that takes nothing",
        "the agent's pings are answered, and its other streams go on",
        client_takes_nothing,
    ),
    agent(
        "K-4.b",
        "a target that takes nothing",
        "the relay's pings are answered, and the other streams go on",
        target_takes_nothing,
    ),
    agent(
        "K-4.c",
        "a target that takes nothing, and more than its queue",
        "after 10 s the stream is ended, and the link is read on",
        target_takes_nothing_of_more,
    )
    .takes(10),
    relay(
        "K-5.a",
        "an agent that says nothing and answers pings",
        "its link stays, and that of its client",
        silent_program,
    )
    .takes(46)
    .also(&["K-6"]),
    agent(
        "K-5.b",
        "a relay that says nothing to an agent and answers pings",
        "the link stays",
        silent_relay_of_agent,
    )
    .takes(46),
    client(
        "K-5.c",
        "a relay that says nothing to a client and answers pings",
        "the link stays",
        silent_relay_of_client,
    )
    .takes(46),
    relay("K-6.a", "an agent's `keep_alive`", "it is not answered", agents_keep_alive),
    agent("K-6.b", "a relay's `keep_alive`", "it is not answered", relays_keep_alive),
    relay("K-7", "a relay's `keep_alive`", "one every 30 s", relay_sends_keep_alive).takes(61),
    agent(
        "K-8",
        "an agent's `keep_alive`",
        "one every 10 s, once the relay has sent one",
        agent_sends_keep_alive,
    )
    .takes(36),
    relay(
        "K-9.a",
        "an agent that does not know `keep_alive`",
        "it gets pings, and no `keep_alive`",
        marked_agents,
    )
    .takes(34),
    relay(
        "K-9.b",
        "other texts in `last_error`",
        "they have no meaning: `keep_alive` comes",
        other_errors,
    )
    .takes(30),
    relay(
        "K-9.c",
        "the next link of an agent that did not know `keep_alive`",
        "`keep_alive` comes",
        next_link,
    )
    .takes(30),
    relay("K-10.a", "a client", "it gets no `keep_alive`", no_keep_alive_to_client).takes(34),
    client("K-10.b", "a client", "it sends no `keep_alive`", no_keep_alive_from_client).takes(34),
    relay(
        "K-10.c",
        "a client's `keep_alive`",
        "it is no message: the link is closed with 1007",
        clients_keep_alive,
    ),
    client(
        "K-10.d",
        "`keep_alive` to a client",
        "it is no message: the client ends and reports a failure",
        keep_alive_to_client,
    ),
    relay("K-11.a", "what pings to a relay hold", "it comes back", payloads_to_relay),
    agent("K-11.b", "what pings to an agent hold", "it comes back", payloads_to_agent),
    client("K-11.c", "what pings to a client hold", "it comes back", payloads_to_client),
    relay("K-11.d", "what a relay's pings hold", "four bytes, or anything", relays_payloads)
        .takes(20),
    agent("K-11.e", "what an agent's pings hold", "four bytes, or anything", agents_payloads)
        .takes(20),
    client("K-11.f", "what a client's pings hold", "four bytes, or anything", clients_payloads)
        .takes(20),
];

// ---- all parties ----

/// How far from its time a ping or `keep_alive` may be seen on a busy machine.
const SLACK: Duration = Duration::from_secs(5);

/// When something comes that is due at regular times.
#[derive(Debug, Clone)]
struct Times {
    what: &'static str,
    interval: Duration,
    last: Instant,
    count: u32,
}

impl Times {
    /// `what` is due every `interval` from now on.
    fn new(what: &'static str, interval: Duration) -> Self {
        Self { what, interval, last: Instant::now(), count: 0 }
    }

    /// It has come.
    fn came(&mut self) -> Outcome {
        self.count += 1;
        let after = std::mem::replace(&mut self.last, Instant::now()).elapsed();
        if after.abs_diff(self.interval) < SLACK {
            return Ok(());
        }
        let Self { what, count, .. } = self;
        Err(Finding::Fail(format!("{what} {count} came after {after:.1?}")))
    }

    /// How long to wait for so many.
    fn time_for(&self, count: u32) -> Duration {
        self.interval * count + SLACK * 2
    }
}

/// Watches the regular pings of some links until two have come on each.
fn expect_pings(links: &mut [&mut Link]) -> Outcome {
    let mut times = vec![Times::new("ping", PING_INTERVAL); links.len()];
    let limit = times[0].time_for(2);
    let all = watch(links, limit, |place, received| {
        match received {
            Received::Ping(_) => times[place].came()?,
            Received::Text(text) if text.contains("keep_alive") => {}
            other => return Err(Finding::Fail(format!("instead of a ping came {other:?}"))),
        }
        Ok(times.iter().all(|times| times.count >= 2))
    })?;
    if all { Ok(()) } else { Err(Finding::Fail(format!("two pings do not come: {times:?}"))) }
}

/// Sends a ping, and two at once; each is answered.
fn expect_pongs(link: &mut Link) -> Outcome {
    link.ping(b"alone");
    link.expect_pong(b"alone")?;
    link.ping(b"one");
    link.ping(b"another");
    link.expect_pong(b"one")?;
    link.expect_pong(b"another")
}

/// Sends pings with payloads of all lengths and bytes; each comes back as it was.
fn expect_payloads_back(link: &mut Link) -> Outcome {
    let bytes: Vec<u8> = (0..=u8::MAX).collect();
    for payload in [&[], &bytes[..1], &bytes[10..14], &bytes[..125], &bytes[131..]] {
        link.ping(payload);
        link.expect_pong(payload)?;
    }
    Ok(())
}

/// Watches for a ping on each link, which may hold anything: the programs of the Python implementation send four bytes.
fn expect_four_bytes(links: &mut [&mut Link]) -> Outcome {
    let mut payloads = vec![None; links.len()];
    let stage_time = PING_INTERVAL + SLACK * 2;
    watch(links, stage_time, |place, received| {
        if let Received::Ping(payload) = received {
            payloads[place] = Some(payload);
        }
        Ok(payloads.iter().all(Option::is_some))
    })?;
    let Some(payloads) = payloads.into_iter().collect::<Option<Vec<_>>>() else {
        return Err(Finding::fail("no ping comes"));
    };
    if payloads.iter().all(|payload| payload.len() == 4) {
        return Ok(());
    }
    Err(Finding::Unimplemented(format!("its pings hold {payloads:?}")))
}

/// How long a link without pongs lasts, if nothing else is a sign of life.
const LIFE: Duration = PING_INTERVAL.saturating_add(PONG_TIMEOUT);

/// How often a link without pongs shows some other sign of life.
const SIGN: Duration = Duration::from_secs(5);

/// Sends something every few seconds for longer than a link lasts without a sign of life; pings are not answered.
fn live_without_pongs(link: &mut Link, mut send: impl FnMut(&mut Link) -> Outcome) -> Outcome {
    link.leave_pings_unanswered();
    let end = Instant::now() + LIFE + SIGN;
    while Instant::now() < end {
        send(link)?;
        link.expect_nothing_for(SIGN)?;
    }
    link.expect_quiet()
}

/// Waits until the other end gives up a link on which it hears nothing. What it has sent by then is passed over. Links
/// beside it go on answering pings.
fn expect_given_up(link: &mut Link, beside: Option<&mut Link>) -> Outcome {
    link.leave_pings_unanswered();
    link.leave_closes_unanswered();
    let began = Instant::now();
    let mut given_up = None;
    let mut links = vec![&mut *link];
    links.extend(beside);
    watch(&mut links, LIFE + SLACK * 2, |place, received| match (place, received) {
        (0, Received::Close(Some(CLOSE_PING_TIMEOUT), reason)) => {
            given_up = Some((began.elapsed(), reason));
            Ok(true)
        }
        (0, other @ (Received::Close(..) | Received::End)) => {
            Err(Finding::Fail(format!("instead of a close with 1011 came {other:?}")))
        }
        _ => Ok(false),
    })?;
    match given_up {
        None => Err(Finding::fail("40 s of silence do not end the link")),
        Some((after, _)) if after < LIFE - SLACK => {
            Err(Finding::Fail(format!("it gives up after {after:.1?}")))
        }
        Some((_, reason)) if reason != REASON_PING_TIMEOUT => {
            Err(Finding::Fail(format!("the reason is {reason:?}")))
        }
        Some(_) => link.expect_end(),
    }
}

// ---- the relay ----

fn relays_pings(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (mut client, _) = relay.stream(&mut agent)?;
    expect_pings(&mut [&mut agent, &mut client])
}

fn pings_to_relay(relay: &Relay) -> Outcome {
    let mut agent = relay.agent_link()?;
    expect_pongs(&mut agent)?;
    agent.send(&agent_start(AGENT, AGENT_SECRET));
    let mut early = relay.client_link()?;
    expect_pongs(&mut early)?;
    let (mut client, _) = relay.ask(&mut agent)?;
    expect_pongs(&mut client)?;
    expect_pongs(&mut agent)
}

fn agent_sends_something(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    live_without_pongs(&mut agent, |agent| {
        agent.send(&json!({ "kind": "keep_alive" }));
        Ok(())
    })
}

fn client_sends_something(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (mut client, id) = relay.stream(&mut agent)?;
    live_without_pongs(&mut client, |client| {
        client.send(&json!({ "kind": "tcp_data", "data_base64": "YQ==" }));
        agent.expect_data(&id, b"a")
    })
}

fn silent_agent(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    expect_given_up(&mut agent, None)
}

fn silent_client(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (mut client, _) = relay.stream(&mut agent)?;
    expect_given_up(&mut client, Some(&mut agent))
}

fn client_takes_nothing(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (mut client, id) = relay.stream(&mut agent)?;
    let (mut other_client, other_id) = relay.stream(&mut agent)?;
    let sent = crate::harness::seeded_bytes(4, STREAM_QUEUE);
    for piece in sent.chunks(1 << 14) {
        agent.data(&id, piece);
    }
    agent.expect_quiet()?;
    agent.data(&other_id, b"beside it");
    other_client.expect_data(b"beside it")?;
    client.expect_data(&sent)
}

fn silent_program(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (mut client, id) = relay.ask(&mut agent)?;
    watch(&mut [&mut agent, &mut client], LIFE + SLACK, |_, received| match received {
        Received::Ping(_) => Ok(false),
        Received::Text(text) if text.contains("keep_alive") => Ok(false),
        other => Err(Finding::Fail(format!("instead of nothing came {other:?}"))),
    })?;
    agent.ok(&id);
    client.expect_kind("start_ok")?;
    client.data(b"at last");
    agent.expect_data(&id, b"at last")
}

fn agents_keep_alive(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let _stream = relay.stream(&mut agent)?;
    agent.watch_keep_alive();
    for _ in 0..3 {
        agent.send(&json!({ "kind": "keep_alive" }));
    }
    agent.expect_quiet()
}

/// Waits for a relay's next `keep_alive`, and counts the pings before it.
fn expect_keep_alive(agent: &mut FromAgent, times: &mut Times) -> Outcome {
    let came = watch(&mut [&mut *agent], times.time_for(1), |_, received| match received {
        Received::Ping(_) => Ok(false),
        Received::Text(text) if text == r#"{"inner":{"kind":"keep_alive"}}"# => Ok(true),
        other => Err(Finding::Fail(format!("instead of keep_alive came {other:?}"))),
    })?;
    if came { times.came() } else { Err(Finding::fail("no keep_alive comes")) }
}

/// When the first `keep_alive` of a relay is due: counted from the admission, which is about now.
fn keep_alive_times() -> Times {
    Times::new("keep_alive", RELAY_KEEP_ALIVE_INTERVAL)
}

fn relay_sends_keep_alive(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let mut times = keep_alive_times();
    expect_keep_alive(&mut agent, &mut times)?;
    expect_keep_alive(&mut agent, &mut times)
}

/// An agent whose start has this `last_error`.
fn agent_with(relay: &Relay, (name, secret): (&str, &str), last_error: &str) -> Outcome<FromAgent> {
    let mut agent = relay.agent_link()?;
    let mut start = agent_start(name, secret);
    start["last_error"] = last_error.into();
    agent.send(&start);
    Ok(agent)
}

/// The report of an agent of an older revision, with a mark.
fn report(mark: &str) -> String {
    format!(
        "1 validation error for RelayToEdgeAgentMessage\ninner\n  {mark}: 'initiate_connection'"
    )
}

fn marked_agents(relay: &Relay) -> Outcome {
    let agents = [(AGENT, AGENT_SECRET), OTHER_AGENT];
    let marked = agents.iter().zip(KEEP_ALIVE_UNKNOWN_MARKS);
    let links = marked.map(|(agent, mark)| agent_with(relay, *agent, &report(mark)));
    let mut links = links.collect::<Outcome<Vec<_>>>()?;
    let mut pings = vec![0; links.len()];
    let mut all: Vec<&mut Link> = links.iter_mut().map(|agent| &mut **agent).collect();
    watch(&mut all, RELAY_KEEP_ALIVE_INTERVAL + SLACK, |place, received| match received {
        Received::Ping(_) => {
            pings[place] += 1;
            Ok(false)
        }
        other => Err(Finding::Fail(format!("an agent that does not know it gets {other:?}"))),
    })?;
    if pings.contains(&0) {
        return Err(Finding::Fail(format!("pings do not go on: {pings:?}")));
    }
    Ok(())
}

fn other_errors(relay: &Relay) -> Outcome {
    let half = KEEP_ALIVE_UNKNOWN_MARKS.first().map_or("", |mark| &mark[..mark.len() - 1]);
    let mut agent = agent_with(relay, (AGENT, AGENT_SECRET), half)?;
    let mut other = agent_with(relay, OTHER_AGENT, "Connection refused")?;
    let mut times = [keep_alive_times(), keep_alive_times()];
    let limit = times[0].time_for(1);
    let all = watch(&mut [&mut agent, &mut other], limit, |place, received| {
        match received {
            Received::Ping(_) => {}
            Received::Text(text) if text.contains("keep_alive") => times[place].came()?,
            other => return Err(Finding::Fail(format!("instead of keep_alive came {other:?}"))),
        }
        Ok(times.iter().all(|times| times.count > 0))
    })?;
    if all { Ok(()) } else { Err(Finding::Fail(format!("no keep_alive comes: {times:?}"))) }
}

fn next_link(relay: &Relay) -> Outcome {
    for mark in KEEP_ALIVE_UNKNOWN_MARKS {
        let mut agent = agent_with(relay, (AGENT, AGENT_SECRET), &report(mark))?;
        agent.leave()?;
        agent.expect_end()?;
    }
    // Its newer program starts afresh.
    let mut agent = relay.agent()?;
    expect_keep_alive(&mut agent, &mut keep_alive_times())
}

fn no_keep_alive_to_client(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (mut client, _) = relay.stream(&mut agent)?;
    let limit = RELAY_KEEP_ALIVE_INTERVAL + SLACK;
    watch(&mut [&mut agent, &mut client], limit, |place, received| match (place, received) {
        (_, Received::Ping(_)) => Ok(false),
        (0, Received::Text(text)) if text.contains("keep_alive") => Ok(false),
        (_, other) => Err(Finding::Fail(format!("instead of nothing came {other:?}"))),
    })?;
    client.expect_quiet()
}

fn clients_keep_alive(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (mut client, id) = relay.stream(&mut agent)?;
    client.send(&json!({ "kind": "keep_alive" }));
    client.expect_close(CLOSE_INVALID)?;
    agent.expect_connection_close(&id)
}

fn payloads_to_relay(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (mut client, _) = relay.stream(&mut agent)?;
    expect_payloads_back(&mut agent)?;
    expect_payloads_back(&mut client)
}

fn relays_payloads(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (mut client, _) = relay.stream(&mut agent)?;
    expect_four_bytes(&mut [&mut agent, &mut client])
}

// ---- the agent ----

fn agents_pings(agent: &mut Agent) -> Outcome {
    let mut link = agent.start()?;
    expect_pings(&mut [&mut link])
}

fn pings_to_agent(agent: &mut Agent) -> Outcome {
    let mut link = agent.start()?;
    expect_pongs(&mut link)
}

fn relay_sends_agent_something(agent: &mut Agent) -> Outcome {
    let mut link = agent.start()?;
    live_without_pongs(&mut link, |link| {
        link.send(&json!({ "kind": "keep_alive" }));
        Ok(())
    })
}

fn relay_silent_to_agent(agent: &mut Agent) -> Outcome {
    let mut link = agent.start()?;
    expect_given_up(&mut link, None)?;
    let (mut link, _) = agent.accept_start()?;
    link.expect_quiet()
}

fn target_takes_nothing(agent: &mut Agent) -> Outcome {
    let (silent, echo) = (Target::silent(), Target::echo());
    let mut link = agent.start()?;
    link.open("silent", silent.port())?;
    link.open("echo", echo.port())?;
    for piece in crate::harness::seeded_bytes(4, STREAM_QUEUE).chunks(1 << 14) {
        link.data("silent", piece);
    }
    link.expect_quiet()?;
    link.data("echo", b"beside it");
    link.expect_data("echo", b"beside it")
}

fn target_takes_nothing_of_more(agent: &mut Agent) -> Outcome {
    let (silent, echo) = (Target::silent(), Target::echo());
    let mut link = agent.start()?;
    link.open("silent", silent.port())?;
    link.open("echo", echo.port())?;
    let piece = crate::harness::seeded_bytes(4, 1 << 16);
    // More than TCP and the agent keep.
    for _ in 0..256 {
        link.data("silent", &piece);
    }
    link.data("echo", b"behind it");
    link.ping(b"behind it");
    let limit = link.stage().patience_after(STALL_TIMEOUT);
    let (mut is_reset, mut is_answered, mut echoed) = (false, false, false);
    watch(&mut [&mut link], limit, |_, received| {
        match received {
            Received::Ping(_) => {}
            Received::Pong(payload) => is_answered |= payload == b"behind it",
            Received::Text(text) => {
                let message = Message::read(text)?;
                is_reset |= message.kind() == "connection_reset"
                    && message.field("connection_id") == "silent";
                echoed |= message.kind() == "tcp_data";
            }
            // Nothing more comes.
            _ => return Ok(true),
        }
        Ok(is_reset && is_answered && echoed)
    })?;
    if is_reset && is_answered && echoed {
        return Ok(());
    }
    Err(Finding::Fail(format!(
        "reset of the stream: {is_reset}, answer to the ping: {is_answered}, echo of another stream: {echoed}"
    )))
}

fn silent_relay_of_agent(agent: &mut Agent) -> Outcome {
    let target = Target::echo();
    let mut link = agent.start()?;
    link.expect_nothing_for(LIFE + SLACK)?;
    link.open("at last", target.port())
}

fn relays_keep_alive(agent: &mut Agent) -> Outcome {
    let mut link = agent.start()?;
    link.watch_keep_alive();
    for _ in 0..3 {
        link.send(&json!({ "kind": "keep_alive" }));
        link.expect_quiet()?;
    }
    Ok(())
}

fn agent_sends_keep_alive(agent: &mut Agent) -> Outcome {
    let mut link = agent.start()?;
    link.watch_keep_alive();
    link.expect_nothing_for(AGENT_KEEP_ALIVE_INTERVAL + SLACK)?;
    link.send(&json!({ "kind": "keep_alive" }));
    let mut times = Times::new("keep_alive", AGENT_KEEP_ALIVE_INTERVAL);
    // The first one may come at once.
    link.expect_kind("keep_alive")?;
    times.last = Instant::now();
    for _ in 0..2 {
        link.expect_kind("keep_alive")?;
        times.came()?;
    }
    Ok(())
}

fn payloads_to_agent(agent: &mut Agent) -> Outcome {
    let mut link = agent.start()?;
    expect_payloads_back(&mut link)
}

fn agents_payloads(agent: &mut Agent) -> Outcome {
    let mut link = agent.start()?;
    expect_four_bytes(&mut [&mut link])
}

// ---- the client ----

fn clients_pings(client: &mut Client) -> Outcome {
    let mut link = client.open()?;
    expect_pings(&mut [&mut link])
}

fn pings_to_client(client: &mut Client) -> Outcome {
    let mut link = client.start()?;
    expect_pongs(&mut link)?;
    link.start_ok();
    expect_pongs(&mut link)
}

fn relay_sends_client_something(client: &mut Client) -> Outcome {
    let mut link = client.open()?;
    live_without_pongs(&mut link, |link| {
        link.send(&json!({ "kind": "tcp_data", "data_base64": "YQ==" }));
        client.expect_output(b"a")
    })
}

fn relay_silent_to_client(client: &mut Client) -> Outcome {
    let mut link = client.open()?;
    expect_given_up(&mut link, None)?;
    client.expect_failure()
}

fn silent_relay_of_client(client: &mut Client) -> Outcome {
    let mut link = client.start()?;
    link.expect_nothing_for(LIFE + SLACK)?;
    link.start_ok();
    link.data(b"at last");
    client.expect_output(b"at last")
}

fn no_keep_alive_from_client(client: &mut Client) -> Outcome {
    let mut link = client.open()?;
    link.expect_nothing_for(RELAY_KEEP_ALIVE_INTERVAL + SLACK)?;
    link.expect_quiet()
}

fn keep_alive_to_client(client: &mut Client) -> Outcome {
    let mut link = client.open()?;
    link.send(&json!({ "kind": "keep_alive" }));
    match link.receive()? {
        Received::Close(Some(CLOSE_NORMAL | CLOSE_INVALID), _) => {}
        other => return Err(Finding::Fail(format!("the client's end is {other:?}"))),
    }
    drop(link);
    client.expect_failure()
}

fn payloads_to_client(client: &mut Client) -> Outcome {
    let mut link = client.open()?;
    expect_payloads_back(&mut link)
}

fn clients_payloads(client: &mut Client) -> Outcome {
    let mut link = client.open()?;
    expect_four_bytes(&mut [&mut link])
}
