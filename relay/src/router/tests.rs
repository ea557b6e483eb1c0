//! Routes, turns and bounds of the router, without a runtime.

mod bounds;
mod world;

use std::cell::Cell;
use std::rc::Rc;

use codec::v2::{Credit, Done, Finish, Open, Opened, Reset, Resume};

use super::*;

/// Counts its wake-ups.
#[derive(Clone, Debug, Default)]
struct Count(Rc<Cell<u32>>);

impl Wake for Count {
    fn wake(&self) {
        self.0.set(self.0.get() + 1);
    }
}

/// A router, with a clock that stands still.
struct Relay {
    router: Router<Count>,
    now: Instant,
    agents: BTreeMap<String, LinkId>,
}

const ID: &str = "0123abcd-0123-4567-89ab-0123456789ab";

impl Relay {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings::default();
        change(&mut settings);
        Self { router: Router::new(settings), now: Instant::now(), agents: BTreeMap::new() }
    }

    fn client(&mut self) -> LinkId {
        let principal = Some("client".to_owned());
        self.router.connect(Peer::Opener { principal }, Count::default())
    }

    fn agent(&mut self, name: &str) -> LinkId {
        let link = self.router.connect(Peer::Acceptor, Count::default());
        self.agents.insert(name.to_owned(), link);
        link
    }

    fn lose_agent(&mut self, name: &str) {
        let link = self.agents.remove(name).expect("connected");
        self.router.lost(link);
    }

    fn try_hear(&mut self, from: LinkId, message: Control) -> Result<(), Violation> {
        let agents = &self.agents;
        self.router.handle_control(self.now, from, message, |name| agents.get(name).copied())
    }

    fn hear(&mut self, from: LinkId, message: Control) {
        self.try_hear(from, message).expect("no rule was broken");
    }

    fn hear_data(&mut self, from: LinkId, stream: u32, bytes: &[u8]) {
        let payload = Bytes::copy_from_slice(bytes);
        self.router.handle_data(from, stream, payload).expect("no rule was broken");
    }

    /// The next thing that goes out, as a line of text.
    fn next(&mut self, link: LinkId) -> Option<String> {
        self.router.poll_transmit(link).map(|transmit| shown(&transmit))
    }

    /// Everything that goes out.
    fn all(&mut self, link: LinkId) -> Vec<String> {
        std::iter::from_fn(|| self.next(link)).collect()
    }

    /// A stream of `client` at agent `name` that flows; gives its number there.
    fn flowing(&mut self, client: LinkId, stream: u32, name: &str) -> u32 {
        let agent = self.agents[name];
        self.hear(client, open(stream, name));
        let far = self.router.links[&agent].last_number;
        assert_eq!(self.all(agent), [format!("open {far}")]);
        self.hear(agent, opened(far));
        assert_eq!(self.all(client), [format!("opened {stream}")]);
        far
    }

    /// Nothing is left of any stream.
    fn check_empty(&self) {
        assert_eq!(self.router.queued, 0);
        for (id, link) in &self.router.links {
            assert!(link.lanes.is_empty(), "{id:?}: {:?}", link.lanes);
            assert!(link.lines.iter().all(Line::is_empty), "{id:?}: {:?}", link.lines);
            assert!(link.control.is_empty() && link.credits.is_empty(), "{id:?}");
        }
    }
}

fn shown(transmit: &Transmit) -> String {
    match transmit {
        Transmit::Data { stream, payload } if payload.len() > 40 => {
            format!("{} bytes {stream}", payload.len())
        }
        Transmit::Data { stream, payload } => {
            format!("data {stream} {}", String::from_utf8_lossy(payload))
        }
        Transmit::Control(message) => {
            let mut copy = message.clone();
            let number = match &mut copy {
                Control::Open(open) => Some(open.stream),
                Control::Resume(resume) => Some(resume.stream),
                other => number_mut(other).copied(),
            };
            let number = number.map_or(String::new(), |number| format!(" {number}"));
            let more = match message {
                Control::Credit(credit) => format!(" {}/{}", credit.consumed, credit.limit),
                Control::Finish(finish) => format!(" {}", finish.offset),
                Control::Reset(reset) => format!(" {}", reset.code),
                Control::Interrupted(Interrupted { code: Some(code), .. }) => format!(" {code}"),
                _ => String::new(),
            };
            format!("{}{number}{more}", codec::v2::Message::kind(message))
        }
    }
}

fn open(stream: u32, agent: &str) -> Control {
    attempt(stream, agent, 1)
}

fn attempt(stream: u32, agent: &str, attempt: u32) -> Control {
    Control::Open(Open {
        stream,
        id: ID.into(),
        attempt,
        agent: agent.into(),
        host: "host".into(),
        port: 22,
        protocol: v2::PROTOCOL_TCP.into(),
        limit: 1000,
        principal: Some("what the client says of itself".into()),
    })
}

fn resume(stream: u32, agent: &str) -> Control {
    Control::Resume(Resume {
        stream,
        id: ID.into(),
        attempt: 2,
        agent: agent.into(),
        received: 0,
        consumed: 0,
        limit: 1000,
        principal: None,
    })
}

fn opened(stream: u32) -> Control {
    Control::Opened(Opened { stream, received: 0, consumed: 0, limit: 1000 })
}

fn credit(stream: u32, consumed: u64, limit: u64) -> Control {
    Control::Credit(Credit { stream, consumed, limit })
}

fn finish(stream: u32, offset: u64) -> Control {
    Control::Finish(Finish { stream, offset })
}

fn reset(stream: u32) -> Control {
    Control::Reset(Reset { stream, code: Code::PeerReset, message: "enough".into() })
}

fn done(stream: u32) -> Control {
    Control::Done(Done { stream })
}

fn left(stream: u32) -> Control {
    interrupted(stream, None)
}

#[test]
fn a_stream_passes_both_ways_with_the_number_of_the_other_side() {
    let mut relay = Relay::new();
    let (first, second) = (relay.client(), relay.client());
    let agent = relay.agent("a");
    relay.hear(first, open(1, "a"));
    relay.hear(second, open(1, "a"));
    relay.hear_data(second, 1, b"early");
    assert_eq!(relay.all(agent), ["open 1", "open 2", "data 2 early"]);
    relay.hear(agent, opened(2));
    relay.hear_data(agent, 2, b"banner");
    assert_eq!(relay.all(second), ["opened 1", "data 1 banner"]);
    relay.hear(second, credit(1, 6, 1006));
    relay.hear(second, finish(1, 5));
    let mut out = relay.all(agent);
    out.sort();
    assert_eq!(out, ["credit 2 6/1006", "finish 2 5"]);
    relay.hear(agent, finish(2, 6));
    relay.hear(agent, done(2));
    assert_eq!(relay.all(second), ["finish 1 6", "done 1"]);
    // The route is gone: what the client still says has no reader.
    relay.hear(second, done(1));
    relay.hear_data(second, 1, b"late");
    assert_eq!(relay.all(agent), [""; 0]);
    assert_eq!((relay.router.stream_count(first), relay.router.stream_count(second)), (1, 0));
    relay.hear(first, reset(1));
    assert_eq!(relay.all(agent), ["reset 1 peer_reset"]);
    relay.check_empty();
}

#[test]
fn the_relay_says_who_asks_and_believes_nobody() {
    let mut relay = Relay::new();
    let client = relay.client();
    let agent = relay.agent("a");
    relay.hear(client, open(1, "a"));
    relay.hear(client, resume(2, "a"));
    for _ in 0..2 {
        match relay.router.poll_transmit(agent) {
            Some(Transmit::Control(
                Control::Open(Open { principal, .. }) | Control::Resume(Resume { principal, .. }),
            )) => assert_eq!(principal.as_deref(), Some("client")),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn an_attempt_that_reaches_nobody_is_told_so_with_a_code() {
    let mut relay = Relay::with(|settings| settings.max_streams = 2);
    let client = relay.client();
    relay.hear(client, open(1, "a"));
    assert_eq!(relay.all(client), ["interrupted 1 agent_offline"]);
    let agent = relay.agent("a");
    for stream in 2..=4 {
        relay.hear(client, open(stream, "a"));
    }
    assert_eq!(relay.all(client), ["interrupted 4 too_many_streams"]);
    assert_eq!(relay.all(agent), ["open 1", "open 2"], "no number is left out");
    // The agent's link is as full, whoever asks.
    let other = relay.client();
    relay.hear(other, open(1, "a"));
    assert_eq!(relay.all(other), ["interrupted 1 too_many_streams"]);
    relay.hear(client, reset(2));
    relay.all(agent);
    relay.hear(other, open(2, "a"));
    assert_eq!(relay.all(agent), ["open 3"]);
    relay.router.links.get_mut(&agent).expect("connected").last_number = u32::MAX;
    relay.hear(other, reset(2));
    relay.all(agent);
    relay.hear(client, open(5, "a"));
    assert_eq!(relay.all(client), ["interrupted 5 overloaded"]);
}

#[test]
fn repeated_attempts_are_limited_for_each_principal() {
    let mut relay = Relay::with(|settings| settings.max_attempts = 2);
    let client = relay.client();
    let agent = relay.agent("a");
    for stream in 1..=4 {
        relay.hear(client, open(stream, "a"));
    }
    relay.hear(client, resume(5, "a"));
    relay.hear(client, attempt(6, "a", 2));
    relay.hear(client, resume(7, "a"));
    assert_eq!(relay.all(client), ["interrupted 7 too_many_streams"]);
    assert_eq!(relay.all(agent).len(), 6);
    relay.now += std::time::Duration::from_secs(60);
    relay.hear(client, resume(8, "a"));
    assert_eq!(relay.all(client), [""; 0]);
}

#[test]
fn a_relay_that_drains_opens_nothing_and_goes_on_with_the_rest() {
    let mut relay = Relay::new();
    let client = relay.client();
    let agent = relay.agent("a");
    relay.flowing(client, 1, "a");
    relay.router.drain(&Goaway { message: "stops".into(), reconnect_after_ms: 0 });
    assert_eq!(
        (relay.all(client), relay.all(agent)),
        (vec!["goaway".into()], vec!["goaway".into()])
    );
    relay.hear(client, open(2, "a"));
    relay.hear(client, resume(3, "a"));
    assert_eq!(relay.all(client), ["interrupted 2 going_away", "interrupted 3 going_away"]);
    relay.hear_data(client, 1, b"on");
    assert_eq!(relay.all(agent), ["data 1 on"]);
}

#[test]
fn what_breaks_a_rule_of_the_link() {
    let check = |from_agent: bool, message: Control, expected: Violation| {
        let mut relay = Relay::new();
        let client = relay.client();
        let agent = relay.agent("a");
        relay.flowing(client, 1, "a");
        let from = if from_agent { agent } else { client };
        let told = message.clone();
        assert_eq!(relay.try_hear(from, message), Err(expected), "{told:?}");
    };
    check(false, open(1, "a"), Violation::NumberOrder);
    check(false, open(3, "a"), Violation::NumberOrder);
    check(false, opened(1), Violation::Unexpected);
    check(false, finish(2, 0), Violation::UnknownNumber);
    check(true, open(2, "a"), Violation::Unexpected);
    check(true, resume(2, "a"), Violation::Unexpected);
    check(true, left(1), Violation::Unexpected);
    check(true, done(2), Violation::UnknownNumber);
    for from_agent in [true, false] {
        let goaway = Goaway { message: String::new(), reconnect_after_ms: 0 };
        check(from_agent, Control::Goaway(goaway), Violation::Unexpected);
    }
    let mut relay = Relay::new();
    let client = relay.client();
    let data = relay.router.handle_data(client, 1, Bytes::from_static(b"x"));
    assert_eq!(data, Err(Violation::UnknownNumber));
    // Not yet sent to the agent, so it cannot know of it.
    let agent = relay.agent("a");
    relay.hear(client, open(1, "a"));
    assert_eq!(relay.try_hear(agent, opened(1)), Err(Violation::UnknownNumber));
    assert_eq!(relay.all(agent), ["open 1"]);
    relay.hear(agent, opened(1));
}

#[test]
fn messages_go_before_data_of_others_and_never_before_their_own() {
    let mut relay = Relay::new();
    let (bulk, other) = (relay.client(), relay.client());
    let agent = relay.agent("a");
    relay.flowing(bulk, 1, "a");
    relay.flowing(other, 1, "a");
    relay.hear_data(bulk, 1, &[b'x'; 50_000]);
    relay.hear_data(bulk, 1, &[b'x'; 50_000]);
    relay.hear(bulk, finish(1, 100_000));
    relay.hear(other, open(2, "a"));
    relay.hear(other, finish(1, 0));
    let mut messages = [relay.next(agent), relay.next(agent)];
    messages.sort();
    assert_eq!(messages, [Some("finish 2 0".into()), Some("open 3".into())]);
    assert_eq!(relay.all(agent), ["50000 bytes 1", "50000 bytes 1", "finish 1 100000"]);
}

#[test]
fn messages_without_end_do_not_keep_data_back() {
    let mut relay = Relay::new();
    let (loud, quiet) = (relay.client(), relay.client());
    let agent = relay.agent("a");
    relay.flowing(quiet, 1, "a");
    relay.hear_data(quiet, 1, b"x");
    relay.hear(quiet, credit(1, 1, 1));
    let mut streams = 0;
    let mut sent = Vec::new();
    while sent.len() < 200 {
        streams += 1;
        relay.hear(loud, open(streams, "a"));
        relay.hear(loud, reset(streams));
        sent.extend(relay.next(agent));
    }
    let at = |what: &str| sent.iter().position(|it| it == what);
    assert!(at("credit 1 1/1").is_some_and(|at| at < 5), "{sent:?}");
    assert!(at("data 1 x").is_some_and(|at| at < 50), "{sent:?}");
}

#[test]
fn only_the_latest_credit_is_sent_and_it_never_goes_back() {
    let mut relay = Relay::new();
    let client = relay.client();
    let agent = relay.agent("a");
    relay.flowing(client, 1, "a");
    relay.hear_data(client, 1, &[b'x'; 50_000]);
    for consumed in 1..500 {
        relay.hear(client, credit(1, consumed, consumed + 1000));
    }
    relay.hear(client, credit(1, 7, 900));
    assert_eq!(relay.router.links[&agent].credits.len(), 1);
    assert_eq!(relay.all(agent), ["credit 1 499/1499", "50000 bytes 1"]);
    relay.hear(client, credit(1, 500, 1500));
    assert_eq!(relay.all(agent), ["credit 1 500/1500"]);
}

#[test]
fn credit_stays_behind_what_opens_the_stream() {
    let mut relay = Relay::new();
    let client = relay.client();
    let agent = relay.agent("a");
    relay.hear(client, resume(1, "a"));
    relay.hear(client, credit(1, 5, 50));
    assert_eq!(relay.all(agent), ["resume 1", "credit 1 5/50"]);
    relay.hear(agent, credit(1, 6, 60));
    assert_eq!(relay.all(client), [""; 0]);
    relay.hear(agent, opened(1));
    assert_eq!(relay.all(client), ["opened 1", "credit 1 6/60"]);
}

#[test]
fn far_links_take_turns_and_then_their_streams() {
    let mut relay = Relay::new();
    let (many, one) = (relay.client(), relay.client());
    let agent = relay.agent("a");
    for stream in 1..=3 {
        relay.flowing(many, stream, "a");
    }
    let lone = relay.flowing(one, 1, "a");
    let frame = [b'x'; v2::MAX_DATA];
    for _ in 0..6 {
        for stream in 1..=3 {
            relay.hear_data(many, stream, &frame);
        }
        relay.hear_data(one, 1, &frame);
    }
    let sent: Vec<String> = (0..8).filter_map(|_| relay.next(agent)).collect();
    let count =
        |stream: u32| sent.iter().filter(|it| **it == format!("65536 bytes {stream}")).count();
    assert_eq!(count(lone), 4, "half of it belongs to the other client: {sent:?}");
    assert!((1..=3).all(|stream| (1..=2).contains(&count(stream))), "{sent:?}");
}

#[test]
fn a_keystroke_does_not_wait_behind_bulk() {
    let mut relay = Relay::new();
    let client = relay.client();
    let agent = relay.agent("a");
    for stream in 1..=3 {
        relay.flowing(client, stream, "a");
    }
    for _ in 0..10 {
        relay.hear_data(client, 1, &[b'x'; v2::MAX_DATA]);
        relay.hear_data(client, 2, &[b'x'; v2::MAX_DATA]);
    }
    for _ in 0..4 {
        relay.next(agent).expect("bulk");
    }
    relay.hear_data(client, 3, b"k");
    assert_eq!(relay.next(agent).as_deref(), Some("data 3 k"));
}

#[test]
fn small_frames_are_put_together_and_an_empty_one_is_not_lost() {
    let mut relay = Relay::new();
    let client = relay.client();
    let agent = relay.agent("a");
    relay.flowing(client, 1, "a");
    for word in ["to", "ge", "ther"] {
        relay.hear_data(client, 1, word.as_bytes());
    }
    relay.hear_data(client, 1, b"");
    relay.hear_data(client, 1, b"x");
    // The agent is to see what its peer did wrong.
    assert_eq!(relay.all(agent), ["data 1 together", "data 1 ", "data 1 x"]);
}

#[test]
fn a_lost_link_is_told_behind_what_was_accepted() {
    let mut relay = Relay::new();
    let client = relay.client();
    let agent = relay.agent("a");
    relay.agent("b");
    relay.flowing(client, 1, "a");
    relay.flowing(client, 2, "b");
    relay.hear_data(agent, 1, b"last words");
    relay.hear(agent, finish(1, 10));
    relay.hear_data(client, 1, b"for nobody");
    relay.hear(client, open(3, "a"));
    relay.lose_agent("a");
    assert_eq!(
        relay.all(client),
        ["interrupted 3", "data 1 last words", "finish 1 10", "interrupted 1"]
    );
    relay.hear(client, open(4, "a"));
    assert_eq!(relay.all(client), ["interrupted 4 agent_offline"]);
    relay.router.lost(client);
    let other = relay.agents["b"];
    assert_eq!(relay.all(other), ["interrupted 1"]);
    relay.check_empty();
}

#[test]
fn a_client_that_leaves_before_its_open_is_sent_costs_no_number() {
    let mut relay = Relay::new();
    let client = relay.client();
    let agent = relay.agent("a");
    relay.hear(client, open(1, "a"));
    relay.hear_data(client, 1, b"early");
    relay.router.lost(client);
    let other = relay.client();
    relay.hear(other, open(1, "a"));
    relay.hear(other, reset(1));
    let mut sent = relay.all(agent);
    assert_eq!(sent.iter().filter(|it| it.starts_with("open")).count(), 2);
    sent.retain(|it| it.ends_with(" 1") || it.starts_with("data"));
    assert_eq!(sent, ["open 1", "data 1 early", "interrupted 1"]);
    relay.check_empty();
}

#[test]
fn a_driver_is_woken_when_it_has_something_to_send() {
    let mut relay = Relay::new();
    let (mine, theirs) = (Count::default(), Count::default());
    let client = relay.router.connect(Peer::Opener { principal: None }, mine.clone());
    let agent = relay.router.connect(Peer::Acceptor, theirs.clone());
    relay.agents.insert("a".into(), agent);
    let woken = |count: &Count| count.0.replace(0) > 0;
    relay.hear(client, open(1, "a"));
    assert!(woken(&theirs) && !woken(&mine));
    relay.all(agent);
    relay.hear(agent, opened(1));
    assert!(woken(&mine));
    relay.all(client);
    relay.hear_data(client, 1, b"x");
    assert!(woken(&theirs));
    relay.hear(agent, credit(1, 1, 9));
    assert!(woken(&mine));
    relay.lose_agent("a");
    assert!(woken(&mine));
    relay.hear(client, open(2, "a"));
    assert!(woken(&mine), "a refusal is an answer");
}
