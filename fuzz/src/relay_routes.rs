//! The streams of one agent's link at the relay, against a model: what each side sent, and how much of it the other got.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use codec::Secret;
use codec::v1::{
    self, AgentStart, AgentToRelay, ClientStart, ConnectionClose, ConnectionReset,
    InitiateConnection, InitiateConnectionError, InitiateConnectionOk, KeepAlive, RelayToAgent,
    RelayToClient, StartOk, StreamData, base64, data,
};
use relay::large::Budget;
use relay::routes::{ClientEnd, ForClient, Routes, Settings};

use crate::operations::{self, Counter, Spelling, Waiter, bytes, length, time};

/// What happens to the routes. A small number picks one of the streams that began last.
#[derive(Clone, Copy, Debug)]
pub enum Operation {
    /// A client asks for a stream.
    Open,
    /// A client sends so many bytes.
    ClientData(u8, usize),
    /// A client's link takes a message.
    Poll(u8),
    /// A client's link takes a little.
    ClientProgress(u8),
    /// A client's session gives its stream up.
    Cut(u8),
    /// A client leaves.
    ClientFinished(u8),
    /// The agent has reached a target.
    Ok(u8),
    /// The agent has not reached a target.
    Error(u8),
    /// The agent sends so many bytes.
    AgentData(u8, usize, Spelling),
    /// The agent ends a stream: cleanly, if even.
    Reset(u8, u8),
    /// The agent sends what has no effect: signs of life, and messages for streams that it does not have.
    NoEffect(u8),
    /// The agent sends what is no message.
    Nonsense(u8),
    /// The agent's link takes so many messages.
    Transmit(u8),
    /// The agent's link takes a little.
    Progress,
    /// The agent's link ends: because the relay stops, if even.
    Lost(u8),
    /// Time passes.
    Pass(Duration),
    /// Time passes until something is due.
    PassUntilDue,
}

impl From<[u8; operations::SIZE]> for Operation {
    fn from([kind, which, size, more]: [u8; operations::SIZE]) -> Self {
        match kind % 32 {
            0..3 => Self::Open,
            3..7 => Self::ClientData(which, length(size).max(1)),
            7..11 => Self::Poll(which),
            11 => Self::ClientProgress(which),
            12 if size < 64 => Self::Cut(which),
            12 | 13 => Self::ClientFinished(which),
            14..17 => Self::Ok(which),
            17 => Self::Error(which),
            18..23 => Self::AgentData(which, length(size), more.into()),
            23 => Self::Reset(which, size),
            24 if size < 128 => Self::NoEffect(which),
            24 => Self::Nonsense(which),
            25..28 => Self::Transmit(which % 8),
            28 if size < 8 => Self::Lost(size),
            28 => Self::Progress,
            29 | 30 => Self::Pass(time(size)),
            _ => Self::PassUntilDue,
        }
    }
}

/// Does all this to the routes of a link, and then ends every stream.
///
/// # Panics
/// Where the routes do something else than the model.
pub fn check(configuration: u8, operations: &[Operation]) {
    let settings = Settings {
        queue_bytes: QUEUE,
        keep_alive_interval: (configuration & 1 == 0).then_some(v1::RELAY_KEEP_ALIVE_INTERVAL),
        sends_connection_close: configuration & 2 == 0,
        max_streams: STREAMS,
        ..Settings::default()
    };
    let mut relay = Relay::new(settings);
    for operation in operations {
        relay.apply(*operation);
        relay.check();
    }
    relay.end_all(configuration & 4 == 0);
}

/// The routes and what is expected of them.
struct Relay {
    routes: Routes<Counter>,
    budget: Budget,
    settings: Settings,
    now: Instant,
    /// All there ever were.
    streams: Vec<Stream>,
    keep_alives: usize,
    next_keep_alive: Option<Instant>,
    paused: Option<Paused>,
    /// A stream was given up once, so that others may be given less time.
    gave_up: bool,
    lost: bool,
    /// How many places in the queue of turns were taken.
    turns: u64,
}

/// The agent's link is not read for a stream.
struct Paused {
    index: usize,
    since: Instant,
    /// What is held of the budget.
    text: usize,
}

struct Stream {
    id: Arc<str>,
    /// Whom the routes wake for more to send, and for room.
    more: Waiter,
    room: Waiter,
    phase: Phase,
    /// The agent is still to be asked, or to be told that the client has left.
    ask: bool,
    close: bool,
    start_ok: bool,
    /// The client has left.
    finished: bool,
    /// The routes know nothing of it any more.
    removed: bool,
    /// Bytes from the client, and how many of them the agent got.
    accepted: usize,
    sent: usize,
    /// Its place in the queue of turns, while something waits for the agent.
    turn: u64,
    /// What the client's last message holds of the budget while it does not fit.
    held: usize,
    /// Bytes from the agent, and how many of them the client got.
    arrived: usize,
    delivered: usize,
    /// When the client last took something, or had taken all and more came.
    took: Instant,
    /// When a stream whose client has left is given up for want of an answer.
    given_up_at: Option<Instant>,
}

#[derive(Clone, Debug, PartialEq)]
enum Phase {
    Dialling,
    Open,
    Done(ClientEnd),
}

impl Stream {
    /// Whether there is something for the client.
    fn has_more(&self) -> bool {
        let waits = self.start_ok || self.delivered < self.arrived;
        !self.removed && self.phase != Phase::Dialling && (waits || self.phase != Phase::Open)
    }

    fn is_done(&self) -> bool {
        matches!(self.phase, Phase::Done(_))
    }
}

impl Relay {
    fn new(settings: Settings) -> Self {
        let now = Instant::now();
        let budget = Budget::new(BUDGET);
        Self {
            routes: Routes::new(now, settings, budget.clone()),
            budget,
            settings,
            now,
            streams: Vec::new(),
            keep_alives: 0,
            next_keep_alive: settings.keep_alive_interval.map(|interval| now + interval),
            paused: None,
            gave_up: false,
            lost: false,
            turns: 0,
        }
    }

    fn apply(&mut self, operation: Operation) {
        match operation {
            Operation::Open => self.open(),
            Operation::ClientData(n, size) => {
                if let Some(index) = self.pick_client(n) {
                    self.client_data(index, size);
                }
            }
            Operation::Poll(n) => {
                if let Some(index) = self.pick_client(n) {
                    self.poll(index);
                }
            }
            Operation::ClientProgress(n) => {
                if let Some(index) = self.pick_client(n) {
                    self.routes.client_progress(self.now, &self.streams[index].id);
                    self.streams[index].took = self.now;
                }
            }
            Operation::Cut(n) => {
                if let Some(index) = self.pick_client(n) {
                    let end = ClientEnd::Refused("gave up".into());
                    self.routes.cut(&self.streams[index].id, end.clone());
                    self.cut(index, end);
                }
            }
            Operation::ClientFinished(n) => {
                if let Some(index) = self.pick_client(n) {
                    self.client_finished(index);
                }
            }
            Operation::Lost(n) => {
                if !self.lost {
                    self.lose(n % 2 == 0);
                }
            }
            Operation::Pass(time) => self.pass(time),
            Operation::PassUntilDue => {
                if let Some(due) = self.routes.poll_timeout() {
                    self.pass(due.saturating_duration_since(self.now));
                }
            }
            Operation::Transmit(_) | Operation::Progress if self.lost => {}
            Operation::Transmit(count) => {
                for _ in 0..=count {
                    self.transmit();
                }
            }
            Operation::Progress => self.routes.progress(self.now),
            _ if self.lost || !self.routes.wants_read() => {}
            _ => self.hear(operation),
        }
    }

    /// One of the streams that began last.
    fn pick(&self, n: u8) -> Option<usize> {
        let among = self.streams.len().min(4);
        if among == 0 {
            return None;
        }
        Some(self.streams.len() - 1 - usize::from(n) % among)
    }

    /// One of those whose client is still there.
    fn pick_client(&self, n: u8) -> Option<usize> {
        self.pick(n).filter(|index| !self.streams[*index].finished)
    }

    // --- the clients -----------------------------------------------------------------------

    fn open(&mut self) {
        let index = self.streams.len();
        let id: Arc<str> = format!("stream-{index}").into();
        let client = Counter::default();
        self.routes.open(self.now, id.clone(), start(), client.clone());
        let refusal = if self.lost {
            Some("agent disconnected")
        } else if self.live().count() >= STREAMS {
            Some("the agent has too many open streams")
        } else {
            None
        };
        self.streams.push(Stream {
            id,
            more: Waiter::new(client.clone()),
            room: Waiter::new(client),
            phase: refusal.map_or(Phase::Dialling, |text| Phase::Done(refused(text))),
            ask: refusal.is_none(),
            close: false,
            start_ok: false,
            finished: false,
            removed: false,
            accepted: 0,
            sent: 0,
            turn: 0,
            held: 0,
            arrived: 0,
            delivered: 0,
            took: self.now,
            given_up_at: None,
        });
    }

    fn client_data(&mut self, index: usize, size: usize) {
        let held = self.held();
        let stream = &mut self.streams[index];
        let wants = self.routes.client_wants_read(&stream.id);
        stream.room.told(!wants);
        if !wants {
            return;
        }
        let start = stream.accepted;
        let text = base64::encode(&bytes(2 * index, start, start + size));
        self.routes.handle_client_data(self.now, &stream.id, Cow::Borrowed(&text));
        if stream.is_done() {
            return;
        }
        if self.routes.is_cut(&stream.id) {
            // Spec v1, L-15.
            assert!(held + text.len() > BUDGET && stream.sent < stream.accepted, "no cause to cut");
            return self.cut(index, ClientEnd::Stalled);
        }
        if stream.sent == stream.accepted && stream.phase == Phase::Open {
            self.turns += 1;
            stream.turn = self.turns;
        }
        stream.accepted += size;
        if !self.routes.client_wants_read(&stream.id) {
            assert!(held + text.len() <= BUDGET);
            stream.held = text.len();
        }
    }

    fn poll(&mut self, index: usize) {
        let was_read = self.routes.wants_read();
        let (next, resumed) = self.routes.poll_for_client(&self.streams[index].id);
        assert_eq!(resumed, !was_read && self.routes.wants_read());
        if resumed {
            let paused = self.paused.take();
            assert_eq!(paused.map(|it| it.index), Some(index));
        }
        let stream = &mut self.streams[index];
        stream.more.told(next == ForClient::Nothing);
        match next {
            ForClient::Message(text) if std::mem::take(&mut stream.start_ok) => {
                assert_eq!(text, v1::encode(&RelayToClient::StartOk(StartOk {})));
            }
            ForClient::Message(text) => {
                assert_ne!(stream.phase, Phase::Dialling);
                let base64 = data::scan_client(&text).expect("it is a message with data");
                let mut payload = Vec::new();
                base64::decode_append(base64, &mut payload).expect("it is base64");
                let end = stream.delivered + payload.len();
                assert!(!payload.is_empty() && end <= stream.arrived);
                assert_eq!(payload, bytes(2 * index + 1, stream.delivered, end));
                stream.delivered = end;
            }
            ForClient::End(end) => {
                assert!(!stream.start_ok && stream.delivered == stream.arrived);
                assert_eq!(stream.phase, Phase::Done(end));
            }
            ForClient::Nothing => assert!(!stream.has_more()),
        }
    }

    fn client_finished(&mut self, index: usize) {
        self.routes.client_finished(self.now, &self.streams[index].id);
        self.unpause(index);
        let tells = self.tells();
        let stream = &mut self.streams[index];
        stream.finished = true;
        stream.delivered = stream.arrived;
        if stream.is_done() {
            stream.removed = true;
        } else if stream.sent == stream.accepted {
            // Spec v1, X-7.
            stream.removed = true;
            stream.close = tells;
        } else if stream.phase == Phase::Dialling {
            stream.given_up_at = Some(self.now + v1::RELAY_ANSWER_TIMEOUT);
        }
    }

    // --- the agent -------------------------------------------------------------------------

    fn hear(&mut self, operation: Operation) {
        match operation {
            Operation::NoEffect(n) => {
                let (message, connection_id) = (String::new(), String::from("stream"));
                let message = match n % 6 {
                    0 => AgentToRelay::KeepAlive(KeepAlive {}),
                    1 => AgentToRelay::Start(AgentStart::default()),
                    2 => AgentToRelay::ConnectionReset(ConnectionReset { message, connection_id }),
                    3 => AgentToRelay::InitiateConnectionOk(InitiateConnectionOk { connection_id }),
                    4 => AgentToRelay::InitiateConnectionError(InitiateConnectionError {
                        message,
                        connection_id,
                    }),
                    _ => AgentToRelay::TcpData(StreamData {
                        connection_id,
                        data_base64: Spelling::from(n).of(b"x"),
                    }),
                };
                self.hear_message(&message);
            }
            Operation::Nonsense(n) => {
                let text = NONSENSE[usize::from(n) % NONSENSE.len()];
                assert!(self.routes.handle_text(self.now, text).is_err(), "{text}");
            }
            Operation::Ok(n)
            | Operation::Error(n)
            | Operation::AgentData(n, ..)
            | Operation::Reset(n, _) => {
                // An agent that has not been asked yet does not know the id.
                if let Some(index) = self.pick(n).filter(|index| !self.streams[*index].ask) {
                    self.hear_of(index, operation);
                }
            }
            _ => unreachable!("all others are no operations of the agent's"),
        }
    }

    fn hear_message(&mut self, message: &AgentToRelay) {
        self.routes.handle_text(self.now, &v1::encode(message)).expect("it is a message");
    }

    fn hear_of(&mut self, index: usize, operation: Operation) {
        let connection_id = self.streams[index].id.to_string();
        let dialling = self.streams[index].phase == Phase::Dialling;
        let removed = self.streams[index].removed;
        match operation {
            Operation::Ok(_) => {
                let message = InitiateConnectionOk { connection_id };
                self.hear_message(&AgentToRelay::InitiateConnectionOk(message));
                if dialling && !removed {
                    self.turns += 1;
                    let stream = &mut self.streams[index];
                    (stream.phase, stream.start_ok, stream.turn) = (Phase::Open, true, self.turns);
                }
            }
            Operation::Error(_) => {
                let message = InitiateConnectionError { message: "no".into(), connection_id };
                self.hear_message(&AgentToRelay::InitiateConnectionError(message));
                if dialling {
                    self.agent_done(index, refused("no"), false);
                }
            }
            Operation::Reset(_, how) => {
                let clean = how % 2 == 0;
                let message = if clean { v1::TARGET_CLOSED_MESSAGE } else { "broken" };
                let reset = ConnectionReset { message: message.into(), connection_id };
                self.hear_message(&AgentToRelay::ConnectionReset(reset));
                // Spec v1, X-5 and X-17.
                let end = match (dialling, clean) {
                    (true, _) => refused(message),
                    (false, true) => ClientEnd::Finished,
                    (false, false) => ClientEnd::TargetReset(message.into()),
                };
                self.agent_done(index, end, true);
            }
            Operation::AgentData(_, size, spelling) => self.hear_data(index, size, spelling),
            _ => unreachable!("all others are not about a stream"),
        }
    }

    fn hear_data(&mut self, index: usize, size: usize, spelling: Spelling) {
        let held = self.held();
        let start = self.streams[index].arrived;
        let payload = bytes(2 * index + 1, start, start + size);
        self.hear_message(&AgentToRelay::TcpData(StreamData {
            connection_id: self.streams[index].id.to_string(),
            data_base64: spelling.of(&payload),
        }));
        if spelling == Spelling::Unreadable {
            // Spec v1, S-16.
            let end = ClientEnd::TargetReset("the agent sent no base64".into());
            return self.agent_done(index, end, true);
        }
        let stream = &mut self.streams[index];
        // Spec v1, S-12 and S-13.
        if stream.removed || stream.finished || stream.is_done() || size == 0 {
            return;
        }
        if stream.delivered == stream.arrived {
            stream.took = self.now;
        }
        let text = base64::encode(&payload).len();
        if self.routes.is_cut(&stream.id) {
            // Spec v1, L-15.
            assert!(held + text > BUDGET && stream.delivered < stream.arrived, "no cause to cut");
            return self.cut(index, ClientEnd::Stalled);
        }
        stream.arrived += size;
        if !self.routes.wants_read() {
            assert!(held + text <= BUDGET);
            self.paused = Some(Paused { index, since: self.now, text });
        }
    }

    /// Takes what is to be sent to the agent. Whether there was anything.
    fn transmit(&mut self) -> bool {
        let Some(text) = self.routes.poll_transmit(self.now) else {
            assert_eq!(self.keep_alives, 0);
            for stream in &self.streams {
                assert!(!stream.ask && !stream.close, "nothing is said of {}", stream.id);
                let open = stream.phase == Phase::Open;
                assert!(!open || stream.sent == stream.accepted, "bytes of {} wait", stream.id);
            }
            return false;
        };
        match v1::decode::<RelayToAgent>(&text).expect("it is a message to an agent") {
            RelayToAgent::KeepAlive(_) => {
                self.keep_alives = self.keep_alives.checked_sub(1).expect("a keep_alive is due");
            }
            RelayToAgent::InitiateConnection(message) => {
                let index = self.find(&message.connection_id);
                let stream = &mut self.streams[index];
                assert!(std::mem::take(&mut stream.ask), "asked twice for {}", stream.id);
                let expected = InitiateConnection {
                    target_ip: start().target_ip,
                    target_port: start().target_port,
                    protocol: start().protocol,
                    connection_id: stream.id.to_string(),
                };
                assert_eq!(message, expected);
            }
            RelayToAgent::ConnectionClose(message) => {
                let index = self.find(&message.connection_id);
                let stream = &mut self.streams[index];
                assert!(std::mem::take(&mut stream.close), "{} is not to be closed", stream.id);
                assert!(!stream.ask && stream.sent == stream.accepted, "closed too early");
                let expected = ConnectionClose {
                    message: v1::CONNECTION_CLOSE_MESSAGE.into(),
                    connection_id: stream.id.to_string(),
                };
                assert_eq!(message, expected);
            }
            RelayToAgent::TcpData(message) => self.sent_data(&message),
        }
        true
    }

    fn sent_data(&mut self, message: &StreamData) {
        let tells = self.tells();
        let index = self.find(&message.connection_id);
        // Spec v1, S-17: none goes before its turn.
        let waiting = self.live().filter(|it| it.phase == Phase::Open && it.sent < it.accepted);
        assert_eq!(waiting.map(|it| it.turn).min(), Some(self.streams[index].turn));
        self.turns += 1;
        let stream = &mut self.streams[index];
        stream.turn = self.turns;
        assert!(stream.phase == Phase::Open && !stream.ask && !stream.removed);
        let mut payload = Vec::new();
        base64::decode_append(&message.data_base64, &mut payload).expect("it is base64");
        let end = stream.sent + payload.len();
        assert!(!payload.is_empty() && end <= stream.accepted);
        assert_eq!(payload, bytes(2 * index, stream.sent, end));
        stream.sent = end;
        if stream.finished && end == stream.accepted {
            // Spec v1, X-12.
            stream.removed = true;
            stream.close = tells;
        }
    }

    fn find(&self, id: &str) -> usize {
        let index = self.streams.iter().position(|stream| *stream.id == *id);
        index.unwrap_or_else(|| panic!("there never was a stream {id:?}"))
    }

    /// Spec v1, X-11.
    fn lose(&mut self, stops: bool) {
        self.routes.agent_lost(stops);
        for index in 0..self.streams.len() {
            let end = match (stops, &self.streams[index].phase) {
                (true, _) => ClientEnd::RelayStops,
                (false, Phase::Dialling) => refused("agent disconnected"),
                (false, _) => ClientEnd::AgentLost,
            };
            self.agent_done(index, end, false);
            (self.streams[index].ask, self.streams[index].close) = (false, false);
        }
        self.lost = true;
        self.keep_alives = 0;
    }

    // --- time ------------------------------------------------------------------------------

    fn pass(&mut self, time: Duration) {
        self.now += time;
        if self.lost {
            return;
        }
        let now = self.now;
        self.routes.handle_timeout(now);
        if let Some(Paused { index, since, .. }) = self.paused {
            let took = self.streams[index].took;
            // Spec v1, L-9.
            let latest = took + self.settings.stall_timeout;
            let earliest = latest.min(since.max(took) + self.settings.stall_timeout / 5);
            let cut = self.routes.is_cut(&self.streams[index].id);
            assert!(cut || now < latest, "a stalled stream is not given up");
            assert!(!cut || now >= earliest, "a stream is given up too early");
            assert!(!cut || self.gave_up || now >= latest, "the first has all its time");
            if cut {
                self.gave_up = true;
                self.cut(index, ClientEnd::Stalled);
            }
        }
        for index in 0..self.streams.len() {
            let stream = &self.streams[index];
            let dialling = stream.phase == Phase::Dialling && !stream.removed;
            if dialling && stream.given_up_at.is_some_and(|due| now >= due) {
                self.agent_done(index, refused(v1::ERROR_NO_ANSWER), true);
            }
        }
        if let (Some(due), Some(interval)) =
            (self.next_keep_alive, self.settings.keep_alive_interval)
            && now >= due
        {
            self.keep_alives += 1;
            self.next_keep_alive = Some(now + interval);
        }
        assert!(self.routes.poll_timeout().is_none_or(|due| due > now), "the clock stands still");
    }

    // --- what is expected ------------------------------------------------------------------

    /// The stream is ended by the relay's own will.
    fn cut(&mut self, index: usize, end: ClientEnd) {
        let stream = &mut self.streams[index];
        if stream.is_done() {
            return;
        }
        stream.start_ok = false;
        stream.delivered = stream.arrived;
        self.agent_done(index, end, true);
        self.unpause(index);
    }

    /// The agent has no part in the stream any more; with `tell` it is told so.
    fn agent_done(&mut self, index: usize, end: ClientEnd, tell: bool) {
        let tells = self.tells();
        let stream = &mut self.streams[index];
        if stream.removed || stream.is_done() {
            return;
        }
        if matches!(end, ClientEnd::Refused(_)) {
            stream.delivered = stream.arrived;
        }
        stream.phase = Phase::Done(end);
        stream.sent = stream.accepted;
        stream.held = 0;
        stream.removed = stream.finished;
        stream.close = tell && tells;
    }

    fn unpause(&mut self, index: usize) {
        self.paused.take_if(|paused| paused.index == index);
    }

    /// Whether the agent is told of the end of streams (spec v1, X-8).
    fn tells(&self) -> bool {
        self.settings.sends_connection_close && !self.lost
    }

    fn live(&self) -> impl Iterator<Item = &Stream> {
        self.streams.iter().filter(|stream| !stream.removed)
    }

    /// What is taken of the budget.
    fn held(&self) -> usize {
        let held = |stream: &Stream| {
            if self.routes.client_wants_read(&stream.id) { 0 } else { stream.held }
        };
        let by_agent = self.paused.as_ref().map_or(0, |paused| paused.text);
        self.live().map(held).sum::<usize>() + by_agent
    }

    /// What must hold after each operation.
    fn check(&self) {
        assert_eq!(self.routes.stream_count(), self.live().count());
        if !self.lost {
            assert_eq!(self.routes.wants_read(), self.paused.is_none());
            let due = self.live().filter(|stream| stream.phase == Phase::Dialling);
            let due = due.filter_map(|stream| stream.given_up_at).chain(self.next_keep_alive).min();
            assert!(due.is_none_or(|due| self.routes.poll_timeout().is_some_and(|it| it <= due)));
        }
        if let Some(paused) = &self.paused {
            let stream = &self.streams[paused.index];
            let dropped = self.lost && stream.is_done();
            assert!(dropped || stream.delivered < stream.arrived, "the link waits for nothing");
        }
        for stream in self.live() {
            let wants = self.routes.client_wants_read(&stream.id);
            let waiting = stream.accepted - stream.sent;
            assert!(wants || waiting > 0, "the client waits for nothing");
            assert!(waiting <= QUEUE + 2 * LARGEST, "more waits than may");
            assert!(
                stream.arrived - stream.delivered <= QUEUE + 2 * LARGEST,
                "more waits than may"
            );
            // What waits for the agent's answer is nobody's fault (spec v1, C-9 and L-16).
            let stalls = !wants && stream.phase != Phase::Dialling;
            assert_eq!(self.routes.client_stalled_at(&stream.id).is_some(), stalls);
            assert_eq!(self.routes.is_answered(&stream.id), stream.phase != Phase::Dialling);
            if !stream.finished {
                stream.more.check(stream.has_more(), "what is to be sent");
                stream.room.check(wants, "room");
            }
        }
    }

    /// Ends every stream, by the agent's word or by its loss: each client gets its end, and nothing is left.
    fn end_all(mut self, lose: bool) {
        if lose && !self.lost {
            self.lose(false);
        }
        for index in 0..self.streams.len() {
            if !self.lost {
                while self.transmit() {}
                self.poll_until_end(self.paused.as_ref().map(|paused| paused.index));
                self.hear_of(index, Operation::Reset(0, 0));
            }
            self.check();
        }
        for index in 0..self.streams.len() {
            if !self.streams[index].finished {
                self.poll_until_end(Some(index));
                assert!(self.streams[index].is_done(), "a client was not told of the end");
                self.client_finished(index);
            }
            self.check();
        }
        while !self.lost && self.transmit() {}
        assert_eq!(self.routes.stream_count(), 0);
        drop(self.routes);
        assert!(self.budget.reserve(BUDGET).is_some(), "a part of the budget was not given back");
    }

    /// The client takes all there is for it.
    fn poll_until_end(&mut self, index: Option<usize>) {
        let Some(index) = index else { return };
        while self.streams[index].start_ok
            || self.streams[index].phase != Phase::Dialling
                && self.streams[index].delivered < self.streams[index].arrived
        {
            self.poll(index);
        }
        if self.paused.as_ref().is_some_and(|paused| paused.index == index) {
            // One that waits for its answer takes nothing.
            self.routes.cut(&self.streams[index].id, ClientEnd::Stalled);
            self.cut(index, ClientEnd::Stalled);
        }
        self.poll(index);
    }
}

fn start() -> ClientStart {
    ClientStart {
        connection_target: "agent".into(),
        target_ip: "host".into(),
        target_port: -22,
        protocol: "tcp".into(),
        secret: Secret::from("s".to_owned()),
    }
}

fn refused(text: &str) -> ClientEnd {
    ClientEnd::Refused(format!("{}{text}", v1::ERROR_INITIATE_PREFIX))
}

/// Streams at once.
const STREAMS: usize = 4;

/// Bytes that fit each queue.
const QUEUE: usize = 200;

/// Bytes for messages that do not fit their queues: two of the largest, or some more small ones.
const BUDGET: usize = 800;

/// The largest payload of one message.
const LARGEST: usize = 280;

/// What is no message of an agent.
const NONSENSE: [&str; 6] = [
    "",
    "[]",
    r#"{"inner":{"kind":"start_ok"}}"#,
    r#"{"inner":{"kind":"connection_close","message":"","connection_id":"stream-0"}}"#,
    r#"{"inner":{"kind":"connection_reset","message":"","connection_id":0}}"#,
    r#"{"inner":{"kind":"tcp_data","connection_id":"stream-0"}}"#,
];
