//! Whole worlds of clients, relays and agents on one virtual clock.
//!
//! More schedules, the larger searches and the replay of a seed are in the program `world`:
//! `cargo run --release -p conformance --bin world -- --help`.

use std::time::{Duration, Instant};

use bytes::Bytes;
use codec::v2::{self, Code, Control, Credit, Interrupted, Open, Opened, Reset};
use conformance::world::breaks;
use conformance::world::search::{SMALL, explore};
use conformance::world::{Bounds, Dial, Fault, Plan, Program, StreamPlan, failure_of, run, shrink};
use mux::Wake;
use mux::v2::{Ask, Endpoint, Event, Read, Room, Settings, Side, StreamEnd, StreamId};

/// The schedules of a run of the tests.
#[test]
fn a_thousand_schedules() {
    std::thread::scope(|scope| {
        for half in 0..2 {
            scope.spawn(move || (0..500).for_each(|seed| check(seed * 2 + half)));
        }
    });
}

fn check(seed: u64) {
    let plan = Plan::random(seed);
    if let Some(failure) = failure_of(&plan) {
        let small = shrink(&plan);
        let text = match failure_of(&small) {
            Some(failure) if failure.0.starts_with("panic") => failure.0,
            _ => run(&small, true).transcript.render(),
        };
        panic!("seed {seed}: {}\nshrunk: {small:#?}\n{text}", failure.0);
    }
}

#[test]
fn every_order_of_events_of_a_small_stream() {
    for scope in SMALL {
        let report = explore(scope, 1_000_000);
        assert!(report.settled > 0, "{}: {report:?}", scope.name);
        if let Some(failure) = report.failure {
            panic!("{}: {}", scope.name, failure.0);
        }
    }
}

/// The program `world` makes them and sees that they are noticed; here, that they can still be made.
#[test]
fn every_break_still_has_its_place() {
    let breaks = breaks::all().expect("readable");
    assert_eq!(breaks.len(), 22);
    for it in breaks {
        it.applied(&breaks::root()).expect("its old text stands where it says");
    }
}

/// One client, one relay, one agent, one stream of "request" and "answer" lengths.
fn plan(faults: Vec<(u32, Fault)>) -> Plan {
    let program = |bytes, ends_second| Program {
        bytes,
        chunk: 1_000_000,
        pause_ms: 0,
        ends_second,
        delay_ms: 0,
        stall: None,
    };
    Plan {
        seed: 7,
        relays: 1,
        clients: 1,
        agents: 1,
        agents_are_old: true,
        bounds: Bounds {
            first_window: 400,
            max_window: 400,
            window_budget: 1 << 30,
            detached_budget: 64 << 20,
            max_streams: 1_000,
            relay_streams: 1_000,
            relay_queue: 32 << 20,
            relay_budget: 256 << 20,
            resume_for_s: [180, 180, 180],
        },
        latency_ms: 10,
        link_bytes: 1_000_000,
        streams: vec![StreamPlan {
            client: 0,
            agent: 0,
            open_ms: 100,
            near: program(1_000, false),
            far: program(600, true),
            dial: Dial::Connects,
            dial_ms: 5,
            far_resets_at: None,
            interrupt_ms: None,
        }],
        faults,
    }
}

fn diagram(plan: &Plan) -> String {
    let outcome = run(plan, true);
    assert!(outcome.result.is_ok(), "{:?}", outcome.result);
    outcome.transcript.render()
}

#[test]
fn how_a_stream_looks() {
    insta::assert_snapshot!("stream", diagram(&plan(vec![])));
}

#[test]
fn how_a_stream_looks_whose_client_loses_its_link() {
    let cut = Fault::Cut { link: 1, keep: [65_535, 0], notice: [Some(0), Some(5)] };
    insta::assert_snapshot!("cut", diagram(&plan(vec![(205, cut)])));
}

#[test]
fn how_a_stream_looks_whose_relay_drains() {
    let mut plan = plan(vec![(170, Fault::RelayDrain { relay: 0, ms: 2_000 })]);
    plan.relays = 2;
    insta::assert_snapshot!("drain", diagram(&plan));
}

#[test]
fn how_a_refusal_looks() {
    let mut plan = plan(vec![]);
    plan.streams[0].dial = Dial::Refuses;
    insta::assert_snapshot!("refused", diagram(&plan));
}

// --- what other multiplexers got wrong ---------------------------------------------------------------------------

#[derive(Clone, Debug, Default)]
struct Quiet;

impl Wake for Quiet {
    fn wake(&self) {}
}

type Party = Endpoint<Quiet>;

/// A client and an agent with a link between them that needs no handshake.
struct Pair {
    now: Instant,
    client: Party,
    agent: Party,
    links: (mux::v2::LinkKey, mux::v2::LinkKey),
}

impl Pair {
    fn new(settings: Settings) -> Self {
        let now = Instant::now();
        let mut client = Endpoint::new(now, Side::Opener, settings, 1, Quiet);
        let mut agent = Endpoint::new(now, Side::Acceptor, settings, 1, Quiet);
        let links = (client.connect(now, None, Quiet), agent.connect(now, None, Quiet));
        Self { now, client, agent, links }
    }

    fn open(&mut self, n: u32) -> mux::v2::StreamKey {
        let ask = Ask {
            agent: "a".into(),
            host: "h".into(),
            port: 1,
            protocol: "tcp".into(),
            principal: None,
        };
        let id = StreamId::new(format!("{n:08x}-0000-4000-8000-000000000000"));
        self.client.open(self.now, id, ask, (Quiet, Quiet))
    }

    /// Exchanges everything; gives the streams that the agent was asked for.
    fn settle(&mut self) -> Vec<mux::v2::StreamKey> {
        let mut asked = Vec::new();
        loop {
            let mut moved = false;
            while let Some(transmit) = self.client.poll_transmit(self.now, self.links.0) {
                moved = true;
                hear(&mut self.agent, self.now, self.links.1, transmit);
            }
            while let Some(transmit) = self.agent.poll_transmit(self.now, self.links.1) {
                moved = true;
                hear(&mut self.client, self.now, self.links.0, transmit);
            }
            while let Some(event) = self.agent.poll_event() {
                if let Event::Dial { key, .. } = event {
                    asked.push(key);
                }
            }
            while self.client.poll_event().is_some() {}
            if !moved {
                return asked;
            }
        }
    }
}

fn hear(party: &mut Party, now: Instant, link: mux::v2::LinkKey, transmit: mux::v2::Transmit) {
    let handled = match transmit {
        mux::v2::Transmit::Control(message) => party.handle_control(now, link, message),
        mux::v2::Transmit::Data { stream, payload } => {
            party.handle_data(now, link, stream, payload)
        }
    };
    handled.expect("both follow the rules");
}

/// yamux and h2 have each lost the window of streams that were reset with bytes unread.
#[test]
fn credit_is_not_leaked_by_resets_and_cancellations() {
    let settings = Settings { window_budget: 3 * v2::INITIAL_WINDOW, ..Settings::default() };
    let mut pair = Pair::new(settings);
    for n in 0..100 {
        let near = pair.open(n);
        let asked = pair.settle();
        let [far] = asked[..] else {
            panic!("stream {n} was not asked for: {:?}", pair.client.end(near))
        };
        pair.agent.dialled(pair.now, far);
        pair.settle();
        let Room::Ready(room) = pair.agent.room(far) else { panic!("no room in stream {n}") };
        pair.agent.write(far, vec![0; room].into());
        pair.settle();
        // Unread: reset by one side or the other, or given up.
        match n % 3 {
            0 => pair.client.reset(pair.now, near, Code::PeerReset, ""),
            1 => pair.agent.reset(pair.now, far, Code::PeerReset, ""),
            _ => {}
        }
        pair.settle();
        pair.client.release(pair.now, near);
        pair.settle();
        pair.agent.release(pair.now, far);
        pair.settle();
    }
    assert_eq!((pair.client.census().windows, pair.agent.census().windows), (0, 0));
}

/// What is lost here shows as a stream that never ends: a party is only looked at when it was woken.
#[test]
fn no_wake_up_is_lost() {
    // Windows of a byte or two make everybody wait for everybody.
    for seed in 0..40 {
        let mut plan = Plan::random(seed);
        plan.bounds.first_window = 1 + seed % 2;
        plan.bounds.max_window = 2;
        for program in plan.streams.iter_mut().flat_map(|it| [&mut it.near, &mut it.far]) {
            program.bytes = program.bytes.min(50);
        }
        if let Some(failure) = failure_of(&plan) {
            panic!("seed {seed}: {}", failure.0);
        }
    }
}

#[test]
fn a_reset_does_not_discard_what_was_delivered() {
    let mut pair = Pair::new(Settings::default());
    let near = pair.open(0);
    let far = pair.settle()[0];
    pair.agent.dialled(pair.now, far);
    pair.settle();
    pair.agent.write(far, Bytes::from_static(b"last "));
    pair.agent.write(far, Bytes::from_static(b"words"));
    pair.agent.finish(far);
    // Nothing of it has left yet.
    pair.agent.break_off(pair.now, far, Code::PeerReset, "");
    pair.settle();
    assert_eq!(pair.client.read(near), Read::Data(Bytes::from_static(b"last words")));
    assert!(matches!(pair.client.read(near), Read::Over(StreamEnd::Reset { .. })));
}

#[test]
fn opens_that_nobody_serves_are_bounded() {
    let settings = Settings { max_streams: 10, ..Settings::default() };
    let mut agent: Party = Endpoint::new(Instant::now(), Side::Acceptor, settings, 1, Quiet);
    let now = Instant::now();
    let link = agent.connect(now, None, Quiet);
    let mut heard = 0;
    for stream in 1..=100_000 {
        // Whoever takes no answers is not read.
        if !agent.wants_read(link) {
            break;
        }
        heard = stream;
        let open = Control::Open(Open {
            stream,
            id: format!("{stream:08x}-0000-4000-8000-000000000000"),
            attempt: 1,
            agent: "a".into(),
            host: "h".into(),
            port: 1,
            protocol: "tcp".into(),
            limit: 0,
            principal: None,
        });
        agent.handle_control(now, link, open).expect("in order");
    }
    let census = agent.census();
    assert_eq!(census.streams, 10);
    assert!(heard < 2_000 && census.messages < 2_000, "{heard} heard, {census:?}");
}

#[test]
fn a_first_frame_that_is_too_large_panics_nobody() {
    let mut pair = Pair::new(Settings::default());
    let near = pair.open(0);
    let far = pair.settle()[0];
    // Before `opened`, beyond the early data, and beyond a frame.
    for size in [v2::EARLY_DATA as usize + 1, v2::MAX_DATA + 1, 1 << 24] {
        let payload = Bytes::from(vec![0; size]);
        let handled = pair.agent.handle_data(pair.now, pair.links.1, 1, payload);
        assert!(handled.is_ok(), "it concerns one stream");
        assert_eq!(pair.agent.end(far), Some(&StreamEnd::Local { code: Code::ProtocolError }));
    }
    pair.settle();
    assert!(matches!(
        pair.client.end(near),
        Some(StreamEnd::Reset { code: Code::ProtocolError, .. })
    ));
    // The same towards a client.
    let near = pair.open(1);
    pair.settle();
    let payload = Bytes::from(vec![0; v2::MAX_DATA + 1]);
    pair.client.handle_data(pair.now, pair.links.0, 2, payload).expect("it concerns one stream");
    assert_eq!(pair.client.end(near), Some(&StreamEnd::Local { code: Code::ProtocolError }));
}

// --- what the world has found ------------------------------------------------------------------------------------

/// What is consumed between a `resume` and its answer is told once that is there: else the sender waits for ever.
#[test]
fn what_is_consumed_while_a_stream_resumes_is_told() {
    let settings = Settings {
        first_window: 8,
        max_window: 8,
        resume_for: Duration::from_secs(180),
        ..Settings::default()
    };
    let mut pair = Pair::new(settings);
    let near = pair.open(0);
    let far = pair.settle()[0];
    pair.agent.dialled(pair.now, far);
    pair.settle();
    pair.agent.write(far, vec![1; 8].into());
    pair.settle();
    pair.client.link_lost(pair.now, pair.links.0);
    pair.agent.link_lost(pair.now, pair.links.1);
    pair.links.0 = pair.client.connect(pair.now, None, Quiet);
    pair.links.1 = pair.agent.connect(pair.now, None, Quiet);
    let resume = pair.client.poll_transmit(pair.now, pair.links.0).expect("it resumes at once");
    assert!(matches!(pair.client.read(near), Read::Data(bytes) if bytes.len() == 8));
    pair.client.consumed(pair.now, near, 8);
    hear(&mut pair.agent, pair.now, pair.links.1, resume);
    pair.settle();
    assert_eq!(pair.agent.room(far), Room::Ready(8));
}

#[test]
fn a_client_takes_no_credit_before_opened() {
    let mut pair = Pair::new(Settings::default());
    let near = pair.open(0);
    let credit = Control::Credit(Credit { stream: 1, consumed: 0, limit: 10 });
    pair.client.handle_control(pair.now, pair.links.0, credit).expect("it concerns one stream");
    assert_eq!(pair.client.end(near), Some(&StreamEnd::Local { code: Code::ProtocolError }));
}

#[test]
fn interrupted_and_reset_may_come_before_opened() {
    let mut pair = Pair::new(Settings::default());
    let over = Control::Interrupted(Interrupted { stream: 1, code: None, message: None });
    let reset = Control::Reset(Reset { stream: 2, code: Code::Forbidden, message: "no".into() });
    let opened = Control::Opened(Opened { stream: 1, received: 0, consumed: 0, limit: 1 });
    let (first, second) = (pair.open(0), pair.open(1));
    for message in [over, reset, opened] {
        pair.client.handle_control(pair.now, pair.links.0, message).expect("no breach");
    }
    assert_eq!(pair.client.end(first), Some(&StreamEnd::Interrupted));
    assert!(matches!(pair.client.end(second), Some(StreamEnd::Reset { .. })));
}
