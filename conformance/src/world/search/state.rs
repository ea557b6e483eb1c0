//! One state of a search, and what may happen in it.

use std::hash::{Hash as _, Hasher};
use std::time::{Duration, Instant};

use bytes::Bytes;
use codec::v2::{self, Code};
use mux::v2::{
    Ask, Endpoint, Event, Read, Room, Settings, Side, StreamEnd, StreamId, StreamKey, Transmit,
};
use relay::router::{Peer, Router};

use super::super::{Failure, fail};
use super::party::{Link, Quiet, Seat, described, is_first_open};
use super::{Action, Faults, Scope};

/// Client, relays and agent, and the links between them.
#[derive(Clone, Debug)]
pub(super) struct State {
    begun: Instant,
    client: Endpoint<Quiet>,
    agent: Endpoint<Quiet>,
    /// Of the client and the agent; they differ, as clocks do, and by no more than what is due.
    clocks: [Instant; 2],
    relays: Vec<Router<Quiet>>,
    /// The client's, and the agent's.
    links: [Vec<Link>; 2],
    near: StreamKey,
    far: Option<StreamKey>,
    is_dialling: bool,
    seats: [Seat; 2],
    left: Faults,
    dials: u32,
    attempts: u32,
    target_failed: bool,
    /// How it ended for the client.
    end: Option<StreamEnd>,
}

impl State {
    pub(super) fn new(scope: &Scope) -> Self {
        let begun = start();
        let mut client = endpoint(scope, Side::Opener, begun);
        // It can look back far enough.
        let agent = endpoint(scope, Side::Acceptor, begun - v2::REMEMBERED_FOR);
        let ask = Ask {
            agent: "a".into(),
            host: "h".into(),
            port: 1,
            protocol: v2::PROTOCOL_TCP.into(),
            principal: None,
        };
        let id = StreamId::new("00000000-0000-4000-8000-000000000000");
        let near = client.open(begun, id, ask, (Quiet, Quiet));
        let router = || Router::new(relay::router::Settings::default());
        let mut state = Self {
            begun,
            client,
            agent,
            clocks: [begun; 2],
            relays: (0..scope.relays).map(|_| router()).collect(),
            links: Default::default(),
            near,
            far: None,
            is_dialling: false,
            seats: Default::default(),
            left: scope.faults,
            dials: 0,
            attempts: 0,
            target_failed: false,
            end: None,
        };
        for relay in 0..scope.relays {
            state.connect_agent(relay);
        }
        state
    }

    pub(super) fn fingerprint(&self, state: &mut impl Hasher) {
        self.client.fingerprint(state);
        self.agent.fingerprint(state);
        (&self.links, self.far, self.is_dialling, &self.seats, self.left).hash(state);
        (self.dials, self.attempts, self.target_failed, &self.end).hash(state);
        for relay in &self.relays {
            relay.fingerprint(state);
        }
    }

    pub(super) fn actions(&self, scope: &Scope, out: &mut Vec<Action>) {
        let is_over = self.end.is_some();
        if !is_over && !self.links[0].iter().any(|link| link.is_open[0]) {
            out.extend((0..scope.relays).map(Action::ClientConnects));
        }
        for relay in 0..scope.relays {
            if !self.links[1].iter().any(|link| link.relay == relay && link.is_open[0]) {
                out.push(Action::AgentConnects(relay));
            }
        }
        for agent in [false, true] {
            for (index, link) in self.links[usize::from(agent)].iter().enumerate() {
                for up in [true, false] {
                    if !link.ways[usize::from(!up)].is_empty() {
                        out.push(Action::Arrives { agent, link: index, up });
                    }
                }
                if !link.is_whole() {
                    for relay in [false, true] {
                        if link.is_open[usize::from(relay)] {
                            out.push(Action::Notices { agent, link: index, relay });
                        }
                    }
                }
                if self.left.cuts > 0 && link.is_whole() {
                    out.push(Action::Cut { agent, link: index });
                }
            }
        }
        if self.seats[0].held > 0 {
            out.push(Action::ClientConsumes);
        }
        if self.seats[1].held > 0 {
            out.push(Action::TargetConsumes);
        }
        if self.is_dialling {
            out.push(Action::TargetConnects);
        }
        self.alarms(scope, out);
        self.faults(scope, out);
    }

    /// Alarms: which of them goes off is told by what it does.
    fn alarms(&self, scope: &Scope, out: &mut Vec<Action>) {
        if let Some(due) = self.client.poll_timeout() {
            let since = due.saturating_duration_since(self.clocks[0]);
            if since < v2::OPENED_TIMEOUT {
                if self.attempts < scope.attempts {
                    out.push(Action::ClientAlarm);
                }
            } else if since == v2::OPENED_TIMEOUT {
                if self.left.silence > 0 && self.attempts < scope.attempts {
                    out.push(Action::NobodyAnswers);
                }
            } else if self.left.give_up > 0 {
                out.push(Action::ClientGivesUp);
            }
        }
        if self.agent.poll_timeout().is_some() {
            if self.end.is_some() {
                out.push(Action::AgentAlarm);
            } else if self.left.expiry > 0 {
                out.push(Action::AgentGivesUp);
            }
        }
    }

    fn faults(&self, scope: &Scope, out: &mut Vec<Action>) {
        if self.left.relay > 0 {
            out.extend((0..scope.relays).map(Action::RelayRestarts));
        }
        if self.left.agent > 0 && !self.has_late_first_open() {
            out.push(Action::AgentRestarts);
        }
        if self.left.interrupts > 0 && self.end.is_none() {
            out.push(Action::UserInterrupts);
        }
        if self.left.target > 0 && self.far.is_some_and(|far| self.agent.end(far).is_none()) {
            out.push(Action::TargetFails);
        }
    }

    /// A first `open` that its client has given up, which must not meet another agent process (spec v2, SF-10).
    fn has_late_first_open(&self) -> bool {
        let links = self.links.iter().flatten();
        self.attempts > 1 && links.flat_map(|link| link.ways.iter().flatten()).any(is_first_open)
    }

    /// Whether an attempt is due that is not made any more.
    pub(super) fn is_at_its_bound(&self, scope: &Scope) -> bool {
        self.attempts >= scope.attempts && self.end.is_none()
    }

    /// Both ends are through, nothing is under way, and no relay has a route.
    pub(super) fn is_settled(&self) -> bool {
        let is_empty = |link: &Link| link.ways.iter().all(|way| way.is_empty());
        self.end.is_some()
            && self.far.is_none()
            && self.links.iter().flatten().all(is_empty)
            && self.relays.iter().all(|relay| relay.census().numbers == 0)
    }

    pub(super) fn act(&mut self, scope: &Scope, action: Action) -> Result<(), Failure> {
        match action {
            Action::ClientConnects(relay) => {
                let key = self.client.connect(self.clocks[0], None, Quiet);
                let peer = Peer::Opener { principal: None };
                let id = self.relays[relay].connect(peer, Quiet);
                self.links[0].push(Link::new(relay, key, id));
            }
            Action::AgentConnects(relay) => self.connect_agent(relay),
            Action::Arrives { agent, link, up } => self.arrives(agent, link, up)?,
            Action::Notices { agent, link, relay } => self.notices(agent, link, relay),
            Action::ClientConsumes => self.consumes(scope, 0),
            Action::TargetConsumes => self.consumes(scope, 1),
            Action::TargetConnects => {
                self.is_dialling = false;
                if let Some(far) = self.far {
                    self.agent.dialled(self.clocks[1], far);
                }
            }
            Action::ClientAlarm => self.client_alarm(),
            Action::AgentAlarm => self.agent_alarm(),
            Action::Cut { agent, link } => {
                self.left.cuts -= 1;
                self.links[usize::from(agent)][link].is_cut = true;
            }
            Action::RelayRestarts(relay) => {
                self.left.relay -= 1;
                for link in self.links.iter_mut().flatten().filter(|link| link.relay == relay) {
                    link.leave(1);
                }
                self.relays[relay] = Router::new(relay::router::Settings::default());
            }
            Action::AgentRestarts => {
                self.left.agent -= 1;
                for link in &mut self.links[1] {
                    link.leave(0);
                }
                self.agent = endpoint(scope, Side::Acceptor, self.clocks[1]);
                self.far = None;
                self.is_dialling = false;
                self.seats[1].held = 0;
            }
            Action::UserInterrupts => {
                self.left.interrupts -= 1;
                self.client.reset(self.clocks[0], self.near, Code::PeerReset, "");
            }
            Action::TargetFails => {
                self.left.target -= 1;
                self.target_failed = true;
                if let Some(far) = self.far {
                    let code =
                        if self.is_dialling { Code::ConnectRefused } else { Code::PeerReset };
                    self.is_dialling = false;
                    self.agent.break_off(self.clocks[1], far, code, "");
                }
            }
            Action::ClientGivesUp => {
                self.left.give_up -= 1;
                self.client_alarm();
            }
            Action::NobodyAnswers => {
                self.left.silence -= 1;
                self.client_alarm();
            }
            Action::AgentGivesUp => {
                self.left.expiry -= 1;
                self.agent_alarm();
            }
        }
        self.goes_on(scope)
    }

    fn connect_agent(&mut self, relay: usize) {
        // The same process: the relay lets go of the link that it had (spec v2, RL-8).
        for index in 0..self.links[1].len() {
            if self.links[1][index].relay == relay && self.links[1][index].is_open[1] {
                self.notices(true, index, true);
            }
        }
        let key = self.agent.connect(self.clocks[1], None, Quiet);
        let id = self.relays[relay].connect(Peer::Acceptor, Quiet);
        self.links[1].push(Link::new(relay, key, id));
    }

    fn arrives(&mut self, agent: bool, index: usize, up: bool) -> Result<(), Failure> {
        let holder = |state: &Self, relay: usize| {
            let mut links = state.links[1].iter().rev();
            links.find(|link| link.relay == relay && link.is_open[1]).map(|link| link.id)
        };
        let link = &mut self.links[usize::from(agent)][index];
        let Some(transmit) = link.ways[usize::from(!up)].pop_front() else { return Ok(()) };
        let (relay, key, id) = (link.relay, link.key, link.id);
        let shown = described(&transmit);
        let handled = if up {
            let agent = holder(self, relay);
            let router = &mut self.relays[relay];
            match transmit {
                Transmit::Control(message) => {
                    router.handle_control(self.begun, id, message, |_| agent)
                }
                Transmit::Data { stream, payload } => router.handle_data(id, stream, payload),
            }
        } else {
            let now = self.clocks[usize::from(agent)];
            let endpoint = if agent { &mut self.agent } else { &mut self.client };
            match transmit {
                Transmit::Control(message) => {
                    // As on the wire.
                    let message = match v2::decode(&v2::encode(&message)) {
                        Ok(message) => message,
                        Err(error) => return fail(format!("{error}: {shown}")),
                    };
                    endpoint.handle_control(now, key, message)
                }
                Transmit::Data { stream, payload } => {
                    endpoint.handle_data(now, key, stream, payload)
                }
            }
        };
        handled.or_else(|violation| fail(format!("{violation}: {shown}")))
    }

    fn notices(&mut self, agent: bool, index: usize, relay: bool) {
        let link = &mut self.links[usize::from(agent)][index];
        link.leave(usize::from(relay));
        let (at, key, id) = (link.relay, link.key, link.id);
        match (relay, agent) {
            (true, _) => self.relays[at].lost(id),
            (false, true) => self.agent.link_lost(self.clocks[1], key),
            (false, false) => self.client.link_lost(self.clocks[0], key),
        }
    }

    fn consumes(&mut self, scope: &Scope, side: usize) {
        let seat = &mut self.seats[side];
        let total = scope.bytes[1 - side];
        let is_end = seat.consumed == total;
        let now = self.clocks[side];
        seat.held -= 1;
        let (endpoint, key) = match (side, self.far) {
            (0, _) => (&mut self.client, self.near),
            (_, Some(far)) => (&mut self.agent, far),
            _ => return,
        };
        if is_end {
            seat.has_consumed_end = true;
            endpoint.consumed_end(now, key);
        } else {
            seat.consumed += 1;
            endpoint.consumed(now, key, 1);
        }
    }

    fn client_alarm(&mut self) {
        if let Some(due) = self.client.poll_timeout() {
            self.clocks[0] = self.clocks[0].max(due);
            self.client.handle_timeout(self.clocks[0]);
        }
    }

    fn agent_alarm(&mut self) {
        if let Some(due) = self.agent.poll_timeout() {
            self.clocks[1] = self.clocks[1].max(due);
            self.agent.handle_timeout(self.clocks[1]);
        }
    }

    /// What happens by itself: events are taken, bytes are written and read, frames go out.
    fn goes_on(&mut self, scope: &Scope) -> Result<(), Failure> {
        loop {
            while self.client.poll_event().is_some() {}
            while let Some(event) = self.agent.poll_event() {
                if let Event::Dial { key, .. } = event {
                    self.dials += 1;
                    if self.dials > 1 || matches!(self.end, Some(StreamEnd::Refused { .. })) {
                        return fail(format!("dialled {} times, {:?}", self.dials, self.end));
                    }
                    self.far = Some(key);
                    self.is_dialling = true;
                }
            }
            let mut moved = self.runs(scope, 0)?;
            moved |= self.runs(scope, 1)?;
            moved |= self.transmits();
            if !moved {
                break;
            }
        }
        self.forgets();
        Ok(())
    }

    /// An owner writes and reads what it can.
    fn runs(&mut self, scope: &Scope, side: usize) -> Result<bool, Failure> {
        let (endpoint, key) = match (side, self.far) {
            (0, _) if self.end.is_none() => (&mut self.client, self.near),
            (1, Some(far)) => (&mut self.agent, far),
            _ => return Ok(false),
        };
        let seat = &mut self.seats[side];
        let now = self.clocks[side];
        let mut moved = false;
        let is_connected = side == 0 || !self.is_dialling;
        while is_connected && seat.written < scope.bytes[side] {
            let Room::Ready(_) = endpoint.room(key) else { break };
            // Each byte tells its offset.
            let byte = u8::try_from(seat.written).unwrap_or(u8::MAX);
            endpoint.write(key, Bytes::copy_from_slice(&[byte]));
            seat.written += 1;
            moved = true;
        }
        if is_connected && seat.written == scope.bytes[side] && !seat.has_finished {
            seat.has_finished = true;
            endpoint.finish(key);
            moved = true;
        }
        loop {
            let is_over = endpoint.end(key).is_some();
            if !is_over && (!is_connected || seat.held > 0) {
                return Ok(moved);
            }
            // What came before the end of a stream is taken at once.
            if is_over && seat.held > 0 {
                let is_end = seat.consumed == scope.bytes[1 - side];
                seat.consumed += if is_end { 0 } else { seat.held };
                seat.has_consumed_end |= is_end;
                if is_end {
                    endpoint.consumed_end(now, key);
                } else {
                    endpoint.consumed(now, key, usize::try_from(seat.held).unwrap_or(0));
                }
                seat.held = 0;
            }
            match endpoint.read(key) {
                Read::Data(bytes) => {
                    for byte in &bytes {
                        let expected = seat.consumed + seat.held;
                        if u64::from(*byte) != expected {
                            return fail(format!("byte {byte} taken for byte {expected}"));
                        }
                        seat.held += 1;
                    }
                    moved = true;
                }
                Read::Finished => {
                    if seat.consumed != scope.bytes[1 - side] {
                        return fail(format!("the end comes after {} bytes", seat.consumed));
                    }
                    seat.held = 1;
                    moved = true;
                }
                Read::Empty => return Ok(moved),
                Read::Over(end) => {
                    endpoint.release(now, key);
                    self.ends(scope, side, end)?;
                    return Ok(true);
                }
            }
        }
    }

    /// The stream is over for one of its owners.
    fn ends(&mut self, scope: &Scope, side: usize, end: StreamEnd) -> Result<(), Failure> {
        let is_whole = (0..2).all(|side| {
            self.seats[side].consumed == scope.bytes[1 - side] && self.seats[side].has_consumed_end
        });
        let given = scope.faults;
        let agent_lost = self.left.agent < given.agent || self.left.expiry < given.expiry;
        let is_fair = match (side, &end) {
            (_, StreamEnd::Done) => is_whole,
            (0, StreamEnd::Unconfirmed) => self.left.give_up < given.give_up,
            (0, StreamEnd::Local { code: Code::PeerReset }) => {
                self.left.interrupts < given.interrupts
            }
            (0, StreamEnd::Refused { code: Code::AgentOffline, .. }) => self.dials == 0,
            (0, StreamEnd::Reset { code: Code::NotResumable, .. }) => agent_lost,
            (0, StreamEnd::Reset { code: Code::PeerReset | Code::ConnectRefused, .. }) => {
                self.target_failed
            }
            (1, StreamEnd::Unconfirmed) => self.end.is_some() || self.left.expiry < given.expiry,
            (1, StreamEnd::Reset { code: Code::PeerReset, .. }) => {
                self.left.interrupts < given.interrupts
            }
            (1, StreamEnd::Local { code: Code::PeerReset | Code::ConnectRefused }) => {
                self.target_failed
            }
            _ => false,
        };
        if !is_fair {
            let who = if side == 0 { "client" } else { "agent" };
            return fail(format!("the {who} says {end:?}, with {:?}", self.seats));
        }
        if side == 0 {
            self.end = Some(end);
            self.seats[0].held = 0;
        } else {
            self.far = None;
            self.is_dialling = false;
            self.seats[1].held = 0;
        }
        Ok(())
    }

    /// Everything that can be sent is put on its link.
    fn transmits(&mut self) -> bool {
        let mut moved = false;
        for (agent, links) in self.links.iter_mut().enumerate() {
            let endpoint = if agent == 1 { &mut self.agent } else { &mut self.client };
            for link in links {
                while link.is_open[0]
                    && let Some(transmit) = endpoint.poll_transmit(self.clocks[agent], link.key)
                {
                    moved = true;
                    if let Some(attempt) = attempt_of(&transmit) {
                        self.attempts = self.attempts.max(attempt);
                    }
                    link.send(0, transmit);
                }
                while link.is_open[1]
                    && let Some(transmit) = self.relays[link.relay].poll_transmit(link.id)
                {
                    moved = true;
                    link.send(1, transmit);
                }
            }
        }
        moved
    }

    /// Links that nobody has any more are gone; a link is closed by a client that is through.
    fn forgets(&mut self) {
        for links in &mut self.links {
            links.retain(|link| link.is_open != [false, false]);
        }
    }

    /// An action, with what it takes off a link.
    pub(super) fn described(&self, action: Action) -> String {
        match action {
            Action::Arrives { agent, link, up } => {
                let way = &self.links[usize::from(agent)][link].ways[usize::from(!up)];
                let who = if agent { "agent" } else { "client" };
                let (from, to) = if up { (who, "relay") } else { ("relay", who) };
                let what = way.front().map(described).unwrap_or_default();
                format!("{from} -> {to} (link {link}): {what}")
            }
            other => format!("{other:?}"),
        }
    }

    pub(super) fn summary(&self) -> String {
        let routers: Vec<_> = self.relays.iter().map(Router::census).collect();
        format!(
            "client {:?}, agent {:?}, relays {routers:?}, {:?}, attempt {}, end {:?}, links {:?}",
            self.client.census(),
            self.agent.census(),
            self.seats,
            self.attempts,
            self.end,
            self.links
        )
    }
}

fn attempt_of(transmit: &Transmit) -> Option<u32> {
    match transmit {
        Transmit::Control(message) => super::super::attempt_in(message),
        Transmit::Data { .. } => None,
    }
}

fn endpoint(scope: &Scope, side: Side, begun: Instant) -> Endpoint<Quiet> {
    let settings = Settings {
        first_window: scope.window,
        max_window: scope.window,
        resume_for: RESUME_FOR,
        ..Settings::default()
    };
    Endpoint::new(begun, side, settings, 1, Quiet)
}

/// One for all states: times are compared within a state only.
fn start() -> Instant {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    *START.get_or_init(|| Instant::now() + v2::REMEMBERED_FOR * 2)
}

const RESUME_FOR: Duration = v2::RESUME_FOR;
