//! Clients, relays and agents on one virtual clock, and a nemesis with a seed.
//!
//! The cores are the real ones: [`mux::v2::Endpoint`] and [`relay::router::Router`]. What crosses a link crosses it as
//! the bytes that it is on the wire, and may be late, held up, or cut off at any byte. A [`Plan`] says who does what and
//! what goes wrong when; everything that it leaves open depends on its seed. A reference that sees all parties holds
//! what comes out against what went in, at every step, and asks in the end whether anything is left.
//!
//! A party is looked at only when its waker was woken or a time that it named has come, so that a wake-up that is missing
//! shows as a stream that never ends.

pub mod breaks;
mod diagram;
mod plan;
mod process;
mod reference;
mod relays;
pub mod search;
mod seat;
mod shrink;
mod stray;
mod wire;

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

use codec::v2::{self, Control, Message as _, Role};
use fastrand::Rng;
use mux::v2::{StreamEnd, StreamKey, Transmit};
use mux::{Keepalive, Verdict, Wake};

pub use diagram::Transcript;
pub use plan::{Bounds, Dial, Fault, Plan, Program, StreamPlan};
pub use shrink::{failure_of, shrink};

use process::{Process, Uplink};
use reference::Record;
use relays::{Relay, Session};
use stray::Stray;
use wire::{Dialler, End, Frame, Link, Way};

/// A rule that did not hold, in words.
#[derive(Clone, Debug)]
pub struct Failure(pub String);

fn fail<T>(what: String) -> Result<T, Failure> {
    Err(Failure(what))
}

/// How a run went.
#[derive(Debug)]
pub struct Outcome {
    /// What was wrong, if anything was.
    pub result: Result<(), Failure>,
    /// What was sent, if it was to be kept.
    pub transcript: Transcript,
    /// How the streams ended at their clients.
    pub ends: Vec<Option<StreamEnd>>,
}

/// Runs a plan to its end. A transcript costs time.
pub fn run(plan: &Plan, keeps_transcript: bool) -> Outcome {
    let mut world = World::new(plan, keeps_transcript);
    let result = world.run();
    let ends = world.records.iter().map(|record| record.ends[0].clone()).collect();
    Outcome { result, transcript: world.transcript, ends }
}

/// A waker that remembers whether it was woken.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flag(Rc<Cell<bool>>);

impl Wake for Flag {
    fn wake(&self) {
        self.set();
    }
}

impl Flag {
    fn raised() -> Self {
        Self(Rc::new(Cell::new(true)))
    }

    fn set(&self) {
        self.0.set(true);
    }

    fn take(&self) -> bool {
        self.0.take()
    }
}

/// What is to happen at a time.
#[derive(Debug)]
enum Todo {
    Open(usize),
    Interrupt(usize),
    Fault(usize),
    TargetAnswers { process: usize, incarnation: u32, key: StreamKey },
    DialAnswered { process: usize, incarnation: u32, uplink: usize, relay: usize },
    Start { process: usize },
    Stop { process: usize },
    DrainOver { relay: usize },
    RelayUp { relay: usize },
    EndOfStray { link: usize },
}

struct World<'p> {
    plan: &'p Plan,
    begun: Instant,
    now: Instant,
    rng: Rng,
    agenda: BTreeMap<(Instant, u64), Todo>,
    next_todo: u64,
    processes: Vec<Process>,
    relays: Vec<Relay>,
    strays: Vec<Stray>,
    links: BTreeMap<usize, Link>,
    next_link: usize,
    records: Vec<Record>,
    transcript: Transcript,
    /// Attempts that were heard by relays, to be stolen or repeated.
    overheard: VecDeque<(usize, Control)>,
    /// The party that strays speak for.
    stray_party: usize,
}

impl<'p> World<'p> {
    fn new(plan: &'p Plan, keeps_transcript: bool) -> Self {
        // Early enough that processes may have begun before.
        let begun = Instant::now() + v2::REMEMBERED_FOR * 2;
        let mut transcript = Transcript::new(keeps_transcript);
        let mut rng = Rng::with_seed(plan.seed ^ 0x5eed);
        let mut processes = Vec::new();
        let mut process = |transcript: &mut Transcript, role, name: String, is_rival: bool| {
            let party = transcript.party(name.clone());
            let owner = Flag::default();
            let is_agent = role == Role::Agent;
            let age =
                if plan.agents_are_old && is_agent { v2::REMEMBERED_FOR } else { Duration::ZERO };
            let side = if is_agent { mux::v2::Side::Acceptor } else { mux::v2::Side::Opener };
            let endpoint = Process::endpoint(plan, side, begun - age, rng.u64(..), &owner);
            let relays: Vec<usize> = (0..plan.relays).collect();
            let uplinks = match role {
                Role::Agent => relays.into_iter().map(|it| Uplink::to(vec![it])).collect(),
                _ => vec![Uplink::to(relays)],
            };
            processes.push(Process {
                party,
                secret: name.clone(),
                name,
                role,
                incarnation: 0,
                is_up: !is_rival,
                offline_until: None,
                endpoint,
                owner,
                alarm: None,
                seats: BTreeMap::new(),
                uplinks,
            });
        };
        for client in 0..plan.clients {
            process(&mut transcript, Role::Client, format!("client {client}"), false);
        }
        let strays = plan
            .faults
            .iter()
            .any(|(_, it)| matches!(it, Fault::Steal { .. } | Fault::Replay { .. }));
        let stray_party = if strays { transcript.party("stranger".into()) } else { 0 };
        let relays = (0..plan.relays)
            .map(|relay| Relay::new(transcript.party(format!("relay {relay}")), plan))
            .collect();
        for agent in 0..plan.agents {
            process(&mut transcript, Role::Agent, format!("agent {agent}"), false);
        }
        if plan.has_rival() {
            for agent in 0..plan.agents {
                process(&mut transcript, Role::Agent, format!("agent {agent}"), true);
            }
        }
        let mut world = Self {
            plan,
            begun,
            now: begun,
            rng,
            agenda: BTreeMap::new(),
            next_todo: 0,
            processes,
            relays,
            strays: Vec::new(),
            links: BTreeMap::new(),
            next_link: 0,
            records: plan.streams.iter().map(|_| Record::default()).collect(),
            transcript,
            overheard: VecDeque::new(),
            stray_party,
        };
        let ms = |ms: u32| begun + Duration::from_millis(ms.into());
        for (stream, what) in plan.streams.iter().enumerate() {
            world.later(ms(what.open_ms), Todo::Open(stream));
            if let Some(at) = what.interrupt_ms {
                world.later(ms(at.max(what.open_ms)), Todo::Interrupt(stream));
            }
        }
        for (index, (at, _)) in plan.faults.iter().enumerate() {
            world.later(ms(*at), Todo::Fault(index));
        }
        world
    }

    fn later(&mut self, at: Instant, todo: Todo) {
        self.agenda.insert((at, self.next_todo), todo);
        self.next_todo += 1;
    }

    fn latency(&self) -> Duration {
        Duration::from_millis(self.plan.latency_ms.into())
    }

    fn run(&mut self) -> Result<(), Failure> {
        self.settle()?;
        let mut steps = 0_u32;
        while !self.is_over() {
            let Some(next) = self.next() else {
                return fail(format!("everybody waits for ever: {:?}", self.records));
            };
            if next - self.begun > LONGEST_RUN || steps > MOST_STEPS {
                let at = next - self.begun;
                return fail(format!("no end after {steps} steps and {at:?}: {:?}", self.records));
            }
            steps += 1;
            self.now = self.now.max(next);
            self.pass()?;
            self.settle()?;
            self.check_bounds()?;
        }
        self.check_nothing_is_left()
    }

    /// All streams have ended, everywhere, and nothing else is to come.
    fn is_over(&self) -> bool {
        let asked = self.agenda.values().any(|todo| !matches!(todo, Todo::EndOfStray { .. }));
        !asked && self.processes.iter().all(|process| process.seats.is_empty()) && self.is_quiet()
    }

    /// No last message of a stream is under way.
    fn is_quiet(&self) -> bool {
        self.relays.iter().all(|relay| relay.router.census().numbers == 0)
            && self.processes.iter().all(|it| !it.is_up || it.endpoint.census().messages == 0)
    }

    /// When something happens next.
    fn next(&self) -> Option<Instant> {
        let agenda = self.agenda.keys().next().map(|(at, _)| *at);
        let processes = self.processes.iter().filter_map(Process::next);
        let relays = self.relays.iter().filter_map(Relay::next);
        let mut next = processes.chain(relays).chain(agenda).min();
        for (index, link) in &self.links {
            for side in 0..2 {
                let Some(end) = &link.ends[side] else { continue };
                let arrives = link.ways[1 - side].next().filter(|_| self.wants_read(*index, side));
                let due = end.closing.unwrap_or_else(|| end.keepalive.poll_timeout());
                next = [next, arrives, Some(due)].into_iter().flatten().min();
            }
        }
        next
    }

    /// What is due happens.
    fn pass(&mut self) -> Result<(), Failure> {
        while let Some((&(at, _), _)) = self.agenda.first_key_value()
            && at <= self.now
            && let Some((_, todo)) = self.agenda.pop_first()
        {
            self.happen(todo)?;
        }
        let links: Vec<usize> = self.links.keys().copied().collect();
        for index in links {
            for side in 0..2 {
                self.pass_link(index, side)?;
            }
        }
        Ok(())
    }

    /// One side of a link: takes a frame that has arrived, and looks at its clocks.
    fn pass_link(&mut self, index: usize, side: usize) -> Result<(), Failure> {
        let now = self.now;
        let wants_read = self.wants_read(index, side);
        let Some(link) = self.links.get_mut(&index) else { return Ok(()) };
        let Some(end) = &mut link.ends[side] else { return Ok(()) };
        let way = &mut link.ways[1 - side];
        if wants_read && way.next().is_some_and(|at| at <= now) {
            let Some(parcel) = way.take() else { return self.forget(index, side, false) };
            end.keepalive.heard();
            // Whoever has sent them may send more.
            if let Some(sender) = &mut link.ends[1 - side]
                && std::mem::take(&mut sender.is_blocked)
            {
                sender.driver.set();
            }
            return self.arrive(index, side, parcel.frame);
        }
        if let Some(due) = end.closing {
            return if due <= now { self.forget(index, side, true) } else { Ok(()) };
        }
        if end.keepalive.poll_timeout() > now {
            return Ok(());
        }
        if !wants_read {
            end.keepalive.excuse(now);
        }
        match end.keepalive.handle_timeout(now) {
            Verdict::Wait => Ok(()),
            Verdict::Ping => {
                self.send(index, side, Frame::Ping);
                Ok(())
            }
            Verdict::Dead => self.hang_up(index, side),
        }
    }

    /// A frame has arrived at one side of a link.
    fn arrive(&mut self, index: usize, side: usize, frame: Frame) -> Result<(), Failure> {
        let now = self.now;
        let Some(link) = self.links.get(&index) else { return Ok(()) };
        let (dialler, relay) = (link.dialler, link.relay);
        let is_closing = link.ends[side].as_ref().is_some_and(|end| end.closing.is_some());
        if side == 1 {
            self.relay_is_heard(relay, index)?;
        }
        match frame {
            Frame::Ping => self.send(index, side, Frame::Pong),
            Frame::Pong => {}
            Frame::Close => {
                self.send(index, side, Frame::Close);
                return self.forget(index, side, false);
            }
            _ if is_closing => {}
            Frame::Text(text) => {
                let message = match v2::decode::<Control>(&text) {
                    Ok(message) => message,
                    Err(error) => return fail(format!("{error}: {text}")),
                };
                match (side, dialler) {
                    (1, _) => {
                        self.overhear(index, &message);
                        self.relay_hears(relay, index, message)?;
                    }
                    (_, Dialler::Stray(stray)) => self.stray_hears(stray, index, message)?,
                    (_, Dialler::Process(process, key)) => {
                        self.note_attempt(process, &message);
                        let process = &mut self.processes[process];
                        let shown = format!("{message:?}");
                        if let Err(violation) = process.endpoint.handle_control(now, key, message) {
                            return fail(format!("{violation} at {}: {shown}", process.name));
                        }
                    }
                }
            }
            Frame::Binary(bytes) => {
                let Some((number, _)) = v2::data::split(&bytes) else {
                    return fail("a frame without a header".into());
                };
                let payload = bytes.slice(v2::data::HEADER_BYTES..);
                match (side, dialler) {
                    (1, _) => self.relay_hears_data(relay, index, number, payload)?,
                    (_, Dialler::Stray(_)) => return fail("a stranger gets bytes".into()),
                    (_, Dialler::Process(process, key)) => {
                        let process = &mut self.processes[process];
                        let handled = process.endpoint.handle_data(now, key, number, payload);
                        if let Err(violation) = handled {
                            return fail(format!("{violation} at {}", process.name));
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// An agent hears of an attempt.
    fn note_attempt(&mut self, process: usize, message: &Control) {
        let (id, attempt, is_open) = match message {
            Control::Open(open) => (&open.id, open.attempt, true),
            Control::Resume(resume) => (&resume.id, resume.attempt, false),
            _ => return,
        };
        if self.processes[process].role == Role::Agent
            && attempt != stray::STOLEN
            && let Some(stream) = stream_of(id)
        {
            let record = &mut self.records[stream];
            record.attempts[1] = record.attempts[1].max(attempt);
            if is_open {
                record.heard_first = attempt == 1;
            }
        }
    }

    /// Lets everybody who was woken act, until nobody is.
    fn settle(&mut self) -> Result<(), Failure> {
        for _ in 0..MOST_ROUNDS {
            let mut busy = false;
            for process in 0..self.processes.len() {
                busy |= self.poll_process(process)?;
            }
            for relay in 0..self.relays.len() {
                busy |= self.poll_relay(relay)?;
            }
            let links: Vec<usize> = self.links.keys().copied().collect();
            for link in links {
                for side in 0..2 {
                    busy |= self.poll_driver(link, side)?;
                }
            }
            if !busy {
                return Ok(());
            }
        }
        fail("busy without end at one moment".into())
    }

    /// One side of a link sends what it has, if it was woken. Whether it was.
    fn poll_driver(&mut self, index: usize, side: usize) -> Result<bool, Failure> {
        let Some(end) = self.links.get(&index).and_then(|it| it.ends[side].as_ref()) else {
            return Ok(false);
        };
        if end.closing.is_some() || !end.driver.take() {
            return Ok(false);
        }
        loop {
            let Some(link) = self.links.get_mut(&index) else { return Ok(true) };
            if !link.ways[side].has_room() {
                if let Some(end) = &mut link.ends[side] {
                    end.is_blocked = true;
                }
                return Ok(true);
            }
            let transmit = match (side, link.dialler) {
                (1, _) => {
                    let relay = &mut self.relays[link.relay];
                    match relay.sessions.get(&index) {
                        Some(Session::Serving(id)) => relay.router.poll_transmit(*id),
                        _ => None,
                    }
                }
                (_, Dialler::Process(process, key)) => {
                    self.processes[process].endpoint.poll_transmit(self.now, key)
                }
                (_, Dialler::Stray(stray)) => {
                    self.strays[stray].says.pop_front().map(Transmit::Control)
                }
            };
            match transmit {
                Some(Transmit::Control(message)) => self.put(index, side, &message),
                Some(Transmit::Data { stream, payload }) => {
                    let mut frame = v2::data::header(stream).to_vec();
                    frame.extend_from_slice(&payload);
                    self.send(index, side, Frame::Binary(frame.into()));
                }
                None => break,
            }
        }
        // A link that is to end does so once everything is sent.
        if let Some(Link { dialler: Dialler::Process(process, key), .. }) = self.links.get(&index)
            && side == 0
            && self.processes[*process].endpoint.is_drained(*key)
        {
            self.close(index, 0)?;
        }
        Ok(true)
    }

    /// Sends a message on a link.
    fn put(&mut self, index: usize, side: usize, message: &Control) {
        if let (0, Some(id), Some(attempt)) = (side, id_in(message), attempt_in(message))
            && let Some(stream) = stream_of(id)
            && let Some(Link { dialler: Dialler::Process(..), .. }) = self.links.get(&index)
        {
            let record = &mut self.records[stream];
            record.attempts[0] = record.attempts[0].max(attempt);
        }
        self.send(index, side, Frame::Text(v2::encode(message)));
    }

    /// Puts a frame on a link.
    fn send(&mut self, index: usize, side: usize, frame: Frame) {
        let at = self.now - self.begun;
        let Some(link) = self.links.get_mut(&index) else { return };
        let near = match link.dialler {
            Dialler::Process(process, _) => self.processes[process].party,
            Dialler::Stray(_) => self.stray_party,
        };
        let far = self.relays[link.relay].party;
        let (from, to) = if side == 0 { (near, far) } else { (far, near) };
        let entry = self.transcript.frame(at, from, to, || described(&frame));
        if !link.ways[side].send(self.now, frame, entry) {
            self.transcript.lost(entry);
        }
    }

    /// A link has come up.
    fn link_up(&mut self, dialler: Dialler, relay: usize, driver: Flag) -> usize {
        let now = self.now;
        let index = self.next_link;
        self.next_link += 1;
        driver.set();
        let end = |driver| {
            let keepalive =
                Keepalive::new(now, v2::PING_INTERVAL, v2::LINK_TIMEOUT - v2::PING_INTERVAL);
            Some(End { driver, keepalive, is_blocked: false, closing: None })
        };
        let way = || Way::new(self.latency(), self.plan.link_bytes);
        let link = Link {
            dialler,
            relay,
            ways: [way(), way()],
            ends: [end(driver), end(Flag::default())],
        };
        self.links.insert(index, link);
        self.relays[relay].sessions.insert(index, Session::Waiting(now + relays::HELLO));
        index
    }

    fn driver(&self, index: usize, side: usize) -> Option<Flag> {
        Some(self.links.get(&index)?.ends[side].as_ref()?.driver.clone())
    }

    fn ping(&mut self, index: usize, side: usize) {
        self.send(index, side, Frame::Ping);
    }

    fn wants_read(&self, index: usize, side: usize) -> bool {
        let Some(link) = self.links.get(&index) else { return false };
        match (side, link.dialler) {
            (1, _) => self.relays[link.relay].wants_read(index),
            (_, Dialler::Process(process, key)) => self.processes[process].endpoint.wants_read(key),
            (_, Dialler::Stray(_)) => true,
        }
    }

    fn links_of(&self, process: usize) -> Vec<usize> {
        let own = |link: &Link| matches!(link.dialler, Dialler::Process(it, _) if it == process);
        self.links.iter().filter(|(_, link)| own(link)).map(|(index, _)| *index).collect()
    }

    fn link_of(&self, process: usize, key: mux::v2::LinkKey) -> Option<usize> {
        let dialler = Dialler::Process(process, key);
        self.links.iter().find(|(_, link)| link.dialler == dialler).map(|(index, _)| *index)
    }

    /// One side closes a link: everything before still arrives.
    fn close(&mut self, index: usize, side: usize) -> Result<(), Failure> {
        self.send(index, side, Frame::Close);
        let now = self.now;
        let Some(link) = self.links.get_mut(&index) else { return Ok(()) };
        if let Some(end) = &mut link.ends[side] {
            end.closing = Some(now + v2::CLOSE_TIMEOUT);
        }
        self.party_lost(index, side)
    }

    /// One side gives a link up, and aborts it.
    fn hang_up(&mut self, index: usize, side: usize) -> Result<(), Failure> {
        self.forget(index, side, true)
    }

    /// One side has no link any more. If it aborts, any part of what it has sent may be lost.
    fn forget(&mut self, index: usize, side: usize, aborts: bool) -> Result<(), Failure> {
        let now = self.now;
        let keep = self.rng.u16(..);
        let Some(link) = self.links.get_mut(&index) else { return Ok(()) };
        if link.ends[side].is_none() {
            return Ok(());
        }
        let was_lost = link.ways[side].is_lost;
        let out = &mut link.ways[side];
        let mut lost = if aborts { out.cut(keep) } else { Vec::new() };
        out.is_lost = true;
        if !was_lost {
            out.end = Some(now + out.latency);
        }
        lost.extend(link.ways[1 - side].cut(0));
        link.ways[1 - side].end = None;
        for entry in lost {
            self.transcript.lost(entry);
        }
        self.party_lost(index, side)?;
        let Some(link) = self.links.get_mut(&index) else { return Ok(()) };
        link.ends[side] = None;
        if link.ends[1 - side].is_none() {
            self.links.remove(&index);
        }
        Ok(())
    }

    /// The party at one side of a link is told that it is over.
    fn party_lost(&mut self, index: usize, side: usize) -> Result<(), Failure> {
        let Some(link) = self.links.get(&index) else { return Ok(()) };
        let relay = link.relay;
        match (side, link.dialler) {
            (1, _) => self.relay_lost(relay, index),
            (_, Dialler::Process(process, key)) => {
                let now = self.now;
                if self.processes[process].is_up {
                    self.processes[process].endpoint.link_lost(now, key);
                    self.uplink_lost(process, index);
                }
            }
            (_, Dialler::Stray(_)) => {}
        }
        Ok(())
    }

    fn happen(&mut self, todo: Todo) -> Result<(), Failure> {
        match todo {
            Todo::Open(stream) => self.open_stream(stream),
            Todo::Interrupt(stream) => self.interrupt(stream),
            Todo::Fault(index) => return self.go_wrong(index),
            Todo::TargetAnswers { process, incarnation, key } => {
                if self.is_same(process, incarnation) {
                    self.target_answers(process, key);
                }
            }
            Todo::DialAnswered { process, incarnation, uplink, relay } => {
                if self.is_same(process, incarnation) {
                    self.dial_answered(process, uplink, relay);
                }
            }
            Todo::Start { process } => self.start(process),
            Todo::Stop { process } => return self.kill(process, false),
            Todo::DrainOver { relay } => {
                self.relay_down(relay, true)?;
                self.later(self.now + Duration::from_millis(1), Todo::RelayUp { relay });
            }
            Todo::RelayUp { relay } => self.relay_up(relay),
            Todo::EndOfStray { link } => return self.close(link, 0),
        }
        Ok(())
    }

    fn is_same(&self, process: usize, incarnation: u32) -> bool {
        let process = &self.processes[process];
        process.is_up && process.incarnation == incarnation
    }

    fn go_wrong(&mut self, index: usize) -> Result<(), Failure> {
        let now = self.now;
        let after = |ms: u32| now + Duration::from_millis(ms.into());
        let of = |n: usize, among: usize| n % among.max(1);
        let link_at = |world: &Self, n: usize| {
            let links = &world.links;
            links.keys().nth(of(n, links.len())).copied()
        };
        match &self.plan.faults[index].1 {
            Fault::Cut { link, keep, notice } => {
                let Some(link) = link_at(self, *link).and_then(|it| self.links.get_mut(&it)) else {
                    return Ok(());
                };
                let mut lost = Vec::new();
                for side in 0..2 {
                    lost.extend(link.ways[side].cut(keep[side]));
                    // The end of a link is seen at the end of what arrives on it.
                    link.ways[1 - side].end = notice[side].map(after);
                }
                let (relay, dialler) = (link.relay, link.dialler);
                for entry in lost {
                    self.transcript.lost(entry);
                }
                let party = match dialler {
                    Dialler::Process(process, _) => self.processes[process].party,
                    Dialler::Stray(_) => self.stray_party,
                };
                self.transcript
                    .note(now - self.begun, party, || format!("(cut from relay {relay})"));
            }
            Fault::Stall { link, way, ms } => {
                if let Some(link) = link_at(self, *link).and_then(|it| self.links.get_mut(&it)) {
                    link.ways[*way].stalled_until = Some(after(*ms));
                }
            }
            Fault::Slow { link, ms } => {
                if let Some(link) = link_at(self, *link).and_then(|it| self.links.get_mut(&it)) {
                    for way in &mut link.ways {
                        way.latency = Duration::from_millis((*ms).into());
                    }
                }
            }
            Fault::Offline { process, ms } => {
                let count = self.processes.len();
                let index = of(*process, count);
                self.processes[index].offline_until = Some(after(*ms));
                for link in self.links_of(index) {
                    self.hang_up(link, 0)?;
                }
            }
            Fault::RelayRestart { relay, ms } => {
                let relay = of(*relay, self.relays.len());
                if self.relays[relay].is_up && !self.relays[relay].is_draining {
                    self.relay_down(relay, false)?;
                    self.later(after(*ms), Todo::RelayUp { relay });
                }
            }
            Fault::RelayDrain { relay, ms } => {
                let relay = of(*relay, self.relays.len());
                if self.relays[relay].is_up && !self.relays[relay].is_draining {
                    self.drain(relay);
                    self.later(after(*ms), Todo::DrainOver { relay });
                }
            }
            Fault::AgentRestart { agent, ms } => {
                let process = self.plan.clients + of(*agent, self.plan.agents);
                if self.processes[process].is_up {
                    self.kill(process, false)?;
                    self.later(after(*ms), Todo::Start { process });
                }
            }
            Fault::AgentStop { agent, ms } => {
                let process = self.plan.clients + of(*agent, self.plan.agents);
                if self.processes[process].is_up {
                    self.kill(process, true)?;
                    self.later(after(*ms), Todo::Start { process });
                }
            }
            Fault::Rival { agent, ms } => {
                let process = self.plan.clients + self.plan.agents + of(*agent, self.plan.agents);
                if !self.processes[process].is_up {
                    self.start(process);
                    self.later(after(*ms), Todo::Stop { process });
                }
            }
            Fault::Steal { relay } => self.steal(of(*relay, self.relays.len())),
            Fault::Replay { relay } => self.replay(of(*relay, self.relays.len())),
        }
        Ok(())
    }

    fn check_bounds(&self) -> Result<(), Failure> {
        for process in self.processes.iter().filter(|process| process.is_up) {
            reference::check_bounds(&process.name, &process.endpoint.census(), self.plan)?;
        }
        for relay in &self.relays {
            let census = relay.router.census();
            let bounds = &self.plan.bounds;
            if census.longest > bounds.relay_queue + 1_000
                || census.queued > bounds.relay_budget + 10_000
            {
                return fail(format!("a relay holds too much: {census:?}"));
            }
        }
        Ok(())
    }

    /// Nothing is left of any stream.
    fn check_nothing_is_left(&self) -> Result<(), Failure> {
        for (stream, record) in self.records.iter().enumerate() {
            if record.ends[0].is_none() {
                return fail(format!("stream {stream} has no end at its client: {record:?}"));
            }
        }
        for process in self.processes.iter().filter(|process| process.is_up) {
            let census = process.endpoint.census();
            let is_left = census.streams + census.ids + census.numbers + census.timers > 0
                || census.messages + census.places + census.events > 0
                || census.windows > 0;
            if is_left {
                return fail(format!("something is left at {}: {census:?}", process.name));
            }
        }
        for relay in &self.relays {
            let census = relay.router.census();
            if census.numbers + census.messages + census.queued > 0 {
                return fail(format!("something is left at a relay: {census:?}"));
            }
        }
        Ok(())
    }
}

/// The id of a stream, and which stream an id belongs to.
fn id_of(stream: usize) -> String {
    format!("{stream:08x}-0000-4000-8000-000000000000")
}

fn stream_of(id: &str) -> Option<usize> {
    usize::from_str_radix(id.get(..8)?, 16).ok()
}

fn id_in(message: &Control) -> Option<&str> {
    match message {
        Control::Open(open) => Some(&open.id),
        Control::Resume(resume) => Some(&resume.id),
        _ => None,
    }
}

fn attempt_in(message: &Control) -> Option<u32> {
    match message {
        Control::Open(open) => Some(open.attempt),
        Control::Resume(resume) => Some(resume.attempt),
        _ => None,
    }
}

/// An end in a few words.
fn shown(end: &StreamEnd) -> String {
    match end {
        StreamEnd::Done => "done".into(),
        StreamEnd::Reset { code, .. } => format!("reset, {code}"),
        StreamEnd::Refused { code, .. } => format!("refused, {code}"),
        StreamEnd::Local { code } => format!("its own reset, {code}"),
        StreamEnd::LinkLost => "link lost".into(),
        StreamEnd::Interrupted => "interrupted".into(),
        StreamEnd::Unconfirmed => "unconfirmed".into(),
    }
}

/// A frame in a few words.
fn described(frame: &Frame) -> String {
    match frame {
        Frame::Ping => "ping".into(),
        Frame::Pong => "pong".into(),
        Frame::Close => "close".into(),
        Frame::Binary(bytes) => {
            let number = v2::data::split(bytes).map_or(0, |(number, _)| number);
            format!("data {number}: {} bytes", bytes.len() - v2::data::HEADER_BYTES)
        }
        Frame::Text(text) => match v2::decode::<Control>(text) {
            Ok(message) => described_message(&message),
            Err(error) => error.to_string(),
        },
    }
}

fn described_message(message: &Control) -> String {
    match message {
        Control::Open(open) => format!("open {}, attempt {}", open.stream, open.attempt),
        Control::Resume(resume) => {
            let (stream, attempt) = (resume.stream, resume.attempt);
            format!("resume {stream}, attempt {attempt}: {}", resume.received)
        }
        Control::Opened(opened) => format!("opened {}: {}", opened.stream, opened.received),
        Control::Credit(credit) => {
            format!("credit {}: {} to {}", credit.stream, credit.consumed, credit.limit)
        }
        Control::Finish(finish) => format!("finish {} at {}", finish.stream, finish.offset),
        Control::Reset(reset) => format!("reset {}: {}", reset.stream, reset.code),
        Control::Done(done) => format!("done {}", done.stream),
        Control::Interrupted(over) => {
            let code = over.code.map_or(String::new(), |code| format!(": {code}"));
            format!("interrupted {}{code}", over.stream)
        }
        Control::Reject(reject) => format!("reject: {}", reject.code),
        other => other.kind().into(),
    }
}

/// Longer than any resume time, any stall and any program together.
const LONGEST_RUN: Duration = Duration::from_secs(6_000);

/// Moments in one run.
const MOST_STEPS: u32 = 300_000;

/// Rounds in one moment.
const MOST_ROUNDS: u32 = 10_000;
