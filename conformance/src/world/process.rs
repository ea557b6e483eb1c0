//! The processes of clients and agents: an endpoint, its links, and what stands behind its streams.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use codec::v2::{self, Code, Control, Hello, Role};
use mux::v2::{Ask, Endpoint, Event, Read, Room, Settings, Side, StreamEnd, StreamId, StreamKey};

use super::plan::{Dial, Plan};
use super::reference::byte;
use super::seat::Seat;
use super::wire::Dialler;
use super::{Failure, Flag, Todo, World, fail};

/// One process.
#[derive(Debug)]
pub(super) struct Process {
    /// Its column.
    pub(super) party: usize,
    pub(super) name: String,
    pub(super) role: Role,
    pub(super) secret: String,
    /// How many processes there were in its place.
    pub(super) incarnation: u32,
    pub(super) is_up: bool,
    pub(super) offline_until: Option<Instant>,
    pub(super) endpoint: Endpoint<Flag>,
    pub(super) owner: Flag,
    /// What the endpoint has asked for, when it was last looked at.
    pub(super) alarm: Option<Instant>,
    pub(super) seats: BTreeMap<StreamKey, Seat>,
    pub(super) uplinks: Vec<Uplink>,
}

/// A link that a process wants to have: an agent one to each relay, a client one to any.
#[derive(Debug, Default)]
pub(super) struct Uplink {
    relays: Vec<usize>,
    next: usize,
    failures: u32,
    pub(super) link: Option<usize>,
    is_dialling: bool,
    retry_at: Option<Instant>,
}

impl Uplink {
    pub(super) fn to(relays: Vec<usize>) -> Self {
        Self { relays, ..Self::default() }
    }
}

impl Process {
    pub(super) fn side(&self) -> Side {
        if self.role == Role::Agent { Side::Acceptor } else { Side::Opener }
    }

    /// A fresh endpoint, of a process that has begun at `begun`.
    pub(super) fn endpoint(
        plan: &Plan,
        side: Side,
        begun: Instant,
        seed: u64,
        owner: &Flag,
    ) -> Endpoint<Flag> {
        let bounds = &plan.bounds;
        let [clients, agents, _] = bounds.resume_for_s;
        let settings = Settings {
            first_window: bounds.first_window,
            max_window: bounds.max_window,
            window_budget: bounds.window_budget,
            detached_budget: bounds.detached_budget,
            max_streams: bounds.max_streams,
            resume_for: Duration::from_secs(if side == Side::Opener { clients } else { agents }),
        };
        Endpoint::new(begun, side, settings, seed, owner.clone())
    }

    pub(super) fn hello(&self) -> Control {
        Control::Hello(Hello {
            role: self.role,
            name: if self.role == Role::Agent { self.name.clone() } else { String::new() },
            secret: self.secret.clone().into(),
            instance: format!("{:08x}-0000-4000-8000-{:012x}", self.party, self.incarnation),
            software: "world/1".into(),
            last_error: None,
            extra: None,
        })
    }

    /// When something is due that nobody is woken for.
    pub(super) fn next(&self) -> Option<Instant> {
        if !self.is_up {
            return None;
        }
        let seats = self.seats.values().filter_map(Seat::next);
        let uplinks = self.uplinks.iter().filter_map(|uplink| uplink.retry_at);
        seats.chain(uplinks).chain(self.alarm).min()
    }
}

impl World<'_> {
    /// Lets a process do what it was woken for. Whether it did anything.
    pub(super) fn poll_process(&mut self, index: usize) -> Result<bool, Failure> {
        let now = self.now;
        let process = &mut self.processes[index];
        if !process.is_up {
            return Ok(false);
        }
        let mut busy = false;
        if process.alarm.is_some_and(|alarm| alarm <= now) {
            process.endpoint.handle_timeout(now);
            process.alarm = process.endpoint.poll_timeout();
            if process.alarm.is_some_and(|alarm| alarm <= now) {
                return fail(format!("{} is late for its own alarm", process.name));
            }
            busy = true;
        }
        if process.owner.take() {
            busy = true;
            while let Some(event) = self.processes[index].endpoint.poll_event() {
                self.handle_event(index, event)?;
            }
            let process = &mut self.processes[index];
            process.alarm = process.endpoint.poll_timeout();
        }
        let keys: Vec<StreamKey> = self.processes[index].seats.keys().copied().collect();
        for key in keys {
            busy |= self.poll_reader(index, key)?;
            busy |= self.poll_writer(index, key)?;
        }
        busy |= self.poll_uplinks(index);
        Ok(busy)
    }

    fn handle_event(&mut self, index: usize, event: Event<Flag>) -> Result<(), Failure> {
        let now = self.now;
        let process = &mut self.processes[index];
        let side = usize::from(process.side() == Side::Acceptor);
        match event {
            Event::Dial { key, id: _, ask, reader, writer } => {
                let stream = usize::from(ask.port) - 1;
                let what = &self.plan.streams[stream];
                self.records[stream].dialled(stream)?;
                let seat = Seat::new(stream, key, (reader, writer), what.far.clone(), false);
                process.seats.insert(key, seat);
                self.transcript.note(now - self.begun, process.party, || format!("dials {stream}"));
                let time = match what.dial {
                    Dial::Hangs => v2::DIAL_TIMEOUT,
                    _ => Duration::from_millis(what.dial_ms.into()).min(v2::DIAL_TIMEOUT),
                };
                let due = now + time;
                let incarnation = process.incarnation;
                self.later(due, Todo::TargetAnswers { process: index, incarnation, key });
            }
            Event::Detached(key) => {
                if let Some(seat) = process.seats.get(&key) {
                    self.records[seat.stream].detached[side].get_or_insert(now);
                    let stream = seat.stream;
                    let note = || format!("stream {stream} waits");
                    self.transcript.note(now - self.begun, process.party, note);
                }
            }
            Event::Resumed(key) => {
                if let Some(seat) = process.seats.get(&key) {
                    self.records[seat.stream].detached[side] = None;
                }
            }
            Event::Opened(_) | Event::Custom { .. } => {}
            Event::Welcomed(link) => {
                let link = self.link_of(index, link);
                let process = &mut self.processes[index];
                for uplink in process.uplinks.iter_mut().filter(|it| it.link == link) {
                    uplink.failures = 0;
                }
            }
            Event::Rejected { link, retry_after, .. } => {
                if let Some(link) = self.link_of(index, link) {
                    let process = &mut self.processes[index];
                    for uplink in process.uplinks.iter_mut().filter(|it| it.link == Some(link)) {
                        uplink.retry_at = retry_after.map(|time| now + time);
                    }
                    self.hang_up(link, 0)?;
                }
            }
            Event::Goaway { link, reconnect_after } => {
                let link = self.link_of(index, link);
                let process = &mut self.processes[index];
                for uplink in process.uplinks.iter_mut().filter(|it| it.link == link) {
                    uplink.link = None;
                    uplink.next += 1;
                    uplink.retry_at = Some(now + reconnect_after);
                }
            }
        }
        Ok(())
    }

    fn poll_reader(&mut self, index: usize, key: StreamKey) -> Result<bool, Failure> {
        let now = self.now;
        let process = &mut self.processes[index];
        let side = process.side();
        let way = usize::from(side == Side::Opener);
        let Some(seat) = process.seats.get_mut(&key) else { return Ok(false) };
        let mut busy = seat.reader.take();
        if let Some((bytes, due)) = seat.held {
            if due > now {
                // A stream that is over does not wait for its consumer (spec v2, EN-6, as far as it can be).
                return Ok(busy);
            }
            seat.held = None;
            busy = true;
            if !seat.is_broken && seat.is_connected {
                let record = &mut self.records[seat.stream].ways[way];
                if bytes == 0 {
                    seat.has_read_end = true;
                    record.end_consumed = true;
                    process.endpoint.consumed_end(now, key);
                    seat.writer.set();
                } else {
                    record.consumed += bytes as u64;
                    process.endpoint.consumed(now, key, bytes);
                }
            }
        }
        if !busy {
            return Ok(false);
        }
        let is_over = process.endpoint.end(key).is_some();
        let has_consumer = seat.is_connected && !seat.is_broken;
        if !has_consumer && !is_over {
            return Ok(true);
        }
        let end = process.endpoint.end(key).cloned().filter(|_| !has_consumer);
        match end.map_or_else(|| process.endpoint.read(key), Read::Over) {
            Read::Data(bytes) => {
                self.records[seat.stream].read(seat.stream, way, &bytes)?;
                seat.read += bytes.len() as u64;
                let due = seat.hand_on_by(now);
                seat.held = Some((bytes.len(), due));
                seat.reader.set();
                if side == Side::Acceptor && seat.is_connected {
                    self.reset_target(index, key);
                }
            }
            Read::Finished => {
                let due = seat.hand_on_by(now);
                seat.held = Some((0, due));
                seat.reader.set();
            }
            Read::Empty => {}
            Read::Over(end) => {
                let stream = seat.stream;
                let party = process.party;
                process.endpoint.release(now, key);
                process.seats.remove(&key);
                let note = || format!("stream {stream} is over: {}", super::shown(&end));
                self.transcript.note(now - self.begun, party, note);
                self.note_given_up(stream);
                self.records[stream].ended(now, stream, side, &end, self.plan)?;
            }
        }
        Ok(true)
    }

    /// Looks whether an agent has given a stream up, which its target may not have heard yet.
    fn note_given_up(&mut self, stream: usize) {
        for process in self.processes.iter().filter(|it| it.side() == Side::Acceptor) {
            let seats = process.seats.values().filter(|seat| seat.stream == stream);
            let ends = seats.filter_map(|seat| process.endpoint.end(seat.key));
            self.records[stream].is_given_up |= ends.into_iter().any(is_given_up);
        }
    }

    /// The target breaks the connection off, if this is where it does.
    fn reset_target(&mut self, index: usize, key: StreamKey) {
        let process = &mut self.processes[index];
        let Some(seat) = process.seats.get_mut(&key) else { return };
        let is_due = self.plan.streams[seat.stream].far_resets_at.is_some_and(|at| seat.read >= at);
        if is_due && !seat.is_broken {
            seat.is_broken = true;
            self.records[seat.stream].target_failed = true;
            let text = "the target reset the connection";
            process.endpoint.break_off(self.now, key, Code::PeerReset, text);
        }
    }

    fn poll_writer(&mut self, index: usize, key: StreamKey) -> Result<bool, Failure> {
        let now = self.now;
        let process = &mut self.processes[index];
        let way = usize::from(process.side() == Side::Acceptor);
        let Some(seat) = process.seats.get_mut(&key) else { return Ok(false) };
        let is_due = seat.next_write.is_some_and(|due| due <= now);
        let is_woken = seat.writer.take();
        if !is_woken && !is_due {
            return Ok(false);
        }
        if is_due {
            seat.next_write = None;
        }
        if !seat.is_connected || seat.is_broken || seat.has_finished || seat.next_write.is_some() {
            return Ok(true);
        }
        let record = &mut self.records[seat.stream].ways[way];
        while seat.written < seat.program.bytes {
            let Room::Ready(room) = process.endpoint.room(key) else { return Ok(true) };
            let left = usize::try_from(seat.program.bytes - seat.written).unwrap_or(usize::MAX);
            let count = room.min(left).min(seat.program.chunk);
            let text: Vec<u8> =
                (0..count as u64).map(|i| byte(seat.stream, way, seat.written + i)).collect();
            seat.written += count as u64;
            record.written = seat.written;
            process.endpoint.write(key, Bytes::from(text));
            if seat.program.pause_ms > 0 {
                let pause = Duration::from_millis(seat.program.pause_ms.into());
                seat.next_write = Some(now + pause);
                return Ok(true);
            }
        }
        if seat.program.ends_second && !seat.has_read_end {
            return Ok(true);
        }
        if process.endpoint.room(key) != Room::Over {
            record.is_finished = true;
            process.endpoint.finish(key);
        }
        seat.has_finished = true;
        Ok(true)
    }

    /// Dials where a link is missing.
    fn poll_uplinks(&mut self, index: usize) -> bool {
        let now = self.now;
        let mut busy = false;
        for at in 0..self.processes[index].uplinks.len() {
            let process = &mut self.processes[index];
            let is_needed = process.role == Role::Agent
                || !process.seats.is_empty() && !process.endpoint.has_usable_link();
            let incarnation = process.incarnation;
            let uplink = &mut process.uplinks[at];
            let waits = uplink.retry_at.is_some_and(|time| time > now);
            if !waits {
                uplink.retry_at = None;
            }
            if is_needed && !waits && uplink.link.is_none() && !uplink.is_dialling {
                uplink.is_dialling = true;
                busy = true;
                let relay = uplink.relays[uplink.next % uplink.relays.len()];
                let due = now + self.latency() * 2;
                let todo = Todo::DialAnswered { process: index, incarnation, uplink: at, relay };
                self.later(due, todo);
            }
        }
        busy
    }

    /// A dial has been answered, or has not.
    pub(super) fn dial_answered(&mut self, index: usize, at: usize, relay: usize) {
        let now = self.now;
        let is_reachable = self.relays[relay].is_up;
        let process = &mut self.processes[index];
        let is_offline = process.offline_until.is_some_and(|until| until > now);
        let uplink = &mut process.uplinks[at];
        uplink.is_dialling = false;
        if is_offline || !is_reachable {
            uplink.failures += 1;
            uplink.next += 1;
            let pause = Duration::from_millis(20 << uplink.failures.min(7)).min(LONGEST_PAUSE);
            uplink.retry_at = Some(now + pause);
            return;
        }
        let hello = process.hello();
        let driver = Flag::default();
        let key = process.endpoint.connect(now, Some(hello), driver.clone());
        let link = self.link_up(Dialler::Process(index, key), relay, driver);
        self.processes[index].uplinks[at].link = Some(link);
    }

    /// A process has lost a link that it had for one of its uplinks.
    pub(super) fn uplink_lost(&mut self, index: usize, link: usize) {
        let now = self.now;
        for uplink in &mut self.processes[index].uplinks {
            if uplink.link == Some(link) {
                uplink.link = None;
                uplink.next += 1;
                uplink.failures += 1;
                if uplink.failures > 1 && uplink.retry_at.is_none() {
                    let pause = Duration::from_millis(20 << uplink.failures.min(7));
                    uplink.retry_at = Some(now + pause.min(LONGEST_PAUSE));
                }
            }
        }
    }

    /// A client asks for a stream.
    pub(super) fn open_stream(&mut self, stream: usize) {
        let what = &self.plan.streams[stream];
        let ask = Ask {
            agent: format!("agent {}", what.agent),
            host: "target".into(),
            port: u16::try_from(stream + 1).unwrap_or(u16::MAX),
            protocol: v2::PROTOCOL_TCP.into(),
            principal: None,
        };
        let id = StreamId::new(super::id_of(stream));
        let (reader, writer) = (Flag::raised(), Flag::raised());
        let process = &mut self.processes[what.client];
        let key = process.endpoint.open(self.now, id, ask, (reader.clone(), writer.clone()));
        let seat = Seat::new(stream, key, (reader, writer), what.near.clone(), true);
        process.seats.insert(key, seat);
    }

    /// The user of a stream interrupts.
    pub(super) fn interrupt(&mut self, stream: usize) {
        let process = &mut self.processes[self.plan.streams[stream].client];
        let key = process.seats.values().find(|seat| seat.stream == stream).map(|seat| seat.key);
        if let Some(key) = key.filter(|key| process.endpoint.end(*key).is_none()) {
            self.records[stream].is_interrupted = true;
            process.endpoint.reset(self.now, key, Code::PeerReset, "interrupted");
        }
    }

    /// A target has answered a dial, or has not in time.
    pub(super) fn target_answers(&mut self, index: usize, key: StreamKey) {
        let now = self.now;
        let process = &mut self.processes[index];
        let Some(seat) = process.seats.get_mut(&key) else { return };
        let what = &self.plan.streams[seat.stream];
        let in_time = Duration::from_millis(what.dial_ms.into()) < v2::DIAL_TIMEOUT;
        let endpoint = &mut process.endpoint;
        match what.dial {
            Dial::Connects if in_time => {
                if endpoint.end(key).is_none() {
                    seat.is_connected = true;
                }
                endpoint.dialled(now, key);
                seat.reader.set();
                seat.writer.set();
                self.reset_target(index, key);
            }
            Dial::Refuses if in_time => {
                endpoint.reset(now, key, Code::ConnectRefused, "refused");
            }
            _ => endpoint.reset(now, key, Code::ConnectTimedOut, "no answer"),
        }
    }

    /// A process ends, with a word if it was told to stop.
    pub(super) fn kill(&mut self, index: usize, is_told: bool) -> Result<(), Failure> {
        let now = self.now;
        let process = &mut self.processes[index];
        if !process.is_up {
            return Ok(());
        }
        let note = if is_told { "stops" } else { "is killed" };
        self.transcript.note(now - self.begun, process.party, || note.into());
        for (record, what) in self.records.iter_mut().zip(&self.plan.streams) {
            if process.name == format!("agent {}", what.agent) {
                record.agent_gone = true;
                record.agent_stopped |= is_told;
            }
        }
        if is_told {
            process.endpoint.shut_down(now, Code::GoingAway, "the agent stops");
            self.settle()?;
        }
        let process = &mut self.processes[index];
        process.is_up = false;
        process.seats.clear();
        process.uplinks.clear();
        for link in self.links_of(index) {
            self.hang_up(link, 0)?;
        }
        Ok(())
    }

    /// Another process in its place.
    pub(super) fn start(&mut self, index: usize) {
        let seed = self.rng.u64(..);
        let process = &mut self.processes[index];
        process.incarnation += 1;
        process.is_up = true;
        process.owner = Flag::default();
        process.alarm = None;
        process.endpoint =
            Process::endpoint(self.plan, process.side(), self.now, seed, &process.owner);
        process.uplinks = (0..self.relays.len()).map(|relay| Uplink::to(vec![relay])).collect();
        self.transcript.note(self.now - self.begun, process.party, || "starts".into());
    }
}

/// Whether a stream ended for want of a link.
pub(super) fn is_given_up(end: &StreamEnd) -> bool {
    matches!(end, StreamEnd::Unconfirmed | StreamEnd::LinkLost | StreamEnd::Interrupted)
}

/// Between two dials.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
