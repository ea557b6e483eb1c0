//! The agent's seat on a link, against a model: streams as byte counts, messages as texts that are due.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use codec::v1::{
    self, AgentToRelay, ConnectionClose, ConnectionReset, InitiateConnection,
    InitiateConnectionError, InitiateConnectionOk, KeepAlive, RelayToAgent, StreamData, base64,
    data,
};
use mux::v1::agent::{End, Event, Settings, StreamKey};
use mux::v1::{AgentLink, Read, Room};

use crate::operations::{self, Counter, Spelling, Waiter, bytes, length, time};

/// Reads the first byte as [`check`]'s configuration and the others as its operations.
pub fn run(data: &[u8]) {
    let Some((configuration, operations)) = data.split_first() else { return };
    check(*configuration, &operations::read(operations));
}

/// What happens to an agent's link. A small number picks an id, or one of the streams that began last.
#[derive(Clone, Copy, Debug)]
pub enum Operation {
    /// The relay asks for a stream of this id.
    Initiate(u8),
    /// The relay sends so many bytes for this id.
    Data(u8, usize, Spelling),
    /// The relay ends the stream of this id.
    Close(u8),
    /// The relay shows that it lives.
    KeepAlive,
    /// The relay sends what is no message.
    Nonsense(u8),
    /// The relay answers the oldest ping, or more of them at once.
    Pong(u8),
    /// The target was reached.
    Opened(u8),
    /// The target was not reached.
    Refused(u8),
    /// The target sends so many bytes.
    Write(u8, usize),
    /// The target has closed.
    Finish(u8),
    /// The target's connection broke.
    Break(u8),
    /// The target is ready for more.
    Read(u8),
    /// The target takes a little.
    Progress(u8),
    /// The application lets go of a stream.
    Release(u8),
    /// The link takes so many messages.
    Transmit(u8),
    /// Time passes.
    Pass(Duration),
    /// Time passes until something is due.
    PassUntilDue,
}

impl From<[u8; operations::SIZE]> for Operation {
    fn from([kind, which, size, more]: [u8; operations::SIZE]) -> Self {
        match kind % 32 {
            0..4 => Self::Initiate(which),
            4..9 => Self::Data(which, length(size), more.into()),
            9 => Self::Close(which),
            10 => Self::KeepAlive,
            11 => Self::Nonsense(which),
            12 => Self::Pong(which),
            13 | 14 => Self::Opened(which),
            15 => Self::Refused(which),
            16..19 => Self::Write(which, length(size).max(1)),
            19 => Self::Finish(which),
            20 => Self::Break(which),
            21..24 => Self::Read(which),
            24 => Self::Progress(which),
            25 => Self::Release(which),
            26..29 => Self::Transmit(which % 8),
            29 | 30 => Self::Pass(time(size)),
            _ => Self::PassUntilDue,
        }
    }
}

/// Does all this to a link, and then ends every stream.
///
/// # Panics
/// Where the link does something else than the model.
pub fn check(configuration: u8, operations: &[Operation]) {
    let linger = if configuration & 1 == 0 { Duration::ZERO } else { v1::LINGER };
    let mut agent = Agent::new(linger);
    for operation in operations {
        agent.apply(*operation);
        agent.check();
    }
    agent.end_all(configuration & 2 == 0);
}

/// A link and what is expected of it.
struct Agent {
    link: AgentLink<Counter>,
    settings: Settings,
    now: Instant,
    /// All there ever were.
    streams: Vec<Stream>,
    /// Those that the relay may still name.
    by_id: BTreeMap<String, usize>,
    /// Answers and resets that are still to be sent, by id.
    control: BTreeMap<String, VecDeque<String>>,
    keep_alives: usize,
    next_keep_alive: Option<Instant>,
    /// The number of the last ping; whether it is to be sent; those not answered.
    last_ping: u64,
    ping_due: bool,
    pings: VecDeque<u64>,
    /// Since when the link is not read for a stream.
    paused_since: Option<Instant>,
    /// A stream was given up once, so that others may be given less time.
    gave_up: bool,
    /// How many places in the queue of turns were taken.
    turns: u64,
}

struct Stream {
    key: StreamKey,
    id: String,
    reader: Waiter,
    writer: Waiter,
    /// The target has answered.
    answered: bool,
    /// The application asks for nothing any more.
    released: bool,
    /// The relay has ended it.
    closed: bool,
    /// The agent has ended it; cleanly, if true.
    ended: Option<bool>,
    /// Nothing is known of it any more.
    gone: bool,
    /// Bytes that came from the relay, and how many of them were read.
    received: usize,
    read: usize,
    /// What a message has around its base64.
    around: usize,
    /// Bytes that came from the target, how many of them were sent, and the sizes of the messages between.
    written: usize,
    sent: usize,
    queue: VecDeque<usize>,
    /// Its place in the queue of turns, while something waits.
    turn: u64,
    /// When the target last took something; whether it has taken all.
    took: Instant,
    idle: bool,
    /// The ping behind the last data.
    behind: Option<u64>,
    linger_until: Option<Instant>,
    deliver_by: Option<Instant>,
}

impl Stream {
    fn is_live(&self) -> bool {
        !self.gone && self.ended.is_none()
    }

    /// More has come than fits its queue.
    fn is_over(&self) -> bool {
        self.is_live() && self.received - self.read > QUEUE
    }

    fn queued_text(&self) -> usize {
        self.queue.iter().map(|size| self.around + 4 * size.div_ceil(3)).sum()
    }

    fn room(&self) -> Room {
        if !self.is_live() || self.closed {
            Room::Over
        } else if self.queued_text() < QUEUE {
            Room::Ready
        } else {
            Room::Full
        }
    }
}

impl Agent {
    fn new(linger: Duration) -> Self {
        let settings =
            Settings { linger, queue_bytes: QUEUE, max_streams: STREAMS, ..Settings::default() };
        let now = Instant::now();
        Self {
            link: AgentLink::new(now, settings),
            settings,
            now,
            streams: Vec::new(),
            by_id: BTreeMap::new(),
            control: BTreeMap::new(),
            keep_alives: 0,
            next_keep_alive: None,
            last_ping: 0,
            ping_due: false,
            pings: VecDeque::new(),
            paused_since: None,
            gave_up: false,
            turns: 0,
        }
    }

    fn apply(&mut self, operation: Operation) {
        match operation {
            Operation::Initiate(_)
            | Operation::Data(..)
            | Operation::Close(_)
            | Operation::KeepAlive
            | Operation::Nonsense(_)
            | Operation::Pong(_) => {
                // The link is not read.
                if self.link.wants_read() {
                    self.hear(operation);
                }
            }
            Operation::Opened(n)
            | Operation::Refused(n)
            | Operation::Write(n, _)
            | Operation::Finish(n)
            | Operation::Break(n)
            | Operation::Read(n)
            | Operation::Progress(n)
            | Operation::Release(n) => {
                if let Some(index) = self.pick(n) {
                    self.use_stream(index, operation);
                }
            }
            Operation::Transmit(count) => {
                for _ in 0..=count {
                    self.transmit();
                }
            }
            Operation::Pass(time) => self.pass(time),
            Operation::PassUntilDue => {
                if let Some(due) = self.link.poll_timeout() {
                    self.pass(due.saturating_duration_since(self.now));
                }
            }
        }
    }

    // --- the relay -------------------------------------------------------------------------

    fn hear(&mut self, operation: Operation) {
        match operation {
            Operation::Initiate(n) => self.hear_initiate(id(n)),
            Operation::Data(n, size, spelling) => self.hear_data(id(n), size, spelling),
            Operation::Close(n) => self.hear_close(id(n)),
            Operation::KeepAlive => {
                self.hear_message(&RelayToAgent::KeepAlive(KeepAlive {}));
                let due = self.now + self.settings.keep_alive_interval;
                self.next_keep_alive.get_or_insert(due);
            }
            Operation::Nonsense(n) => {
                let text = NONSENSE[usize::from(n) % NONSENSE.len()];
                assert!(self.link.handle_text(self.now, text).is_err(), "{text}");
            }
            Operation::Pong(n) => {
                let among = self.pings.len().max(1);
                if let Some(last) = self.pings.get(usize::from(n) % among) {
                    self.hear_pong(*last);
                }
            }
            _ => unreachable!("all others are no operations of the relay's"),
        }
    }

    fn hear_message(&mut self, message: &RelayToAgent) {
        self.link.handle_text(self.now, &v1::encode(message)).expect("it is a message");
    }

    fn hear_initiate(&mut self, id: &str) {
        self.hear_message(&RelayToAgent::InitiateConnection(InitiateConnection {
            target_ip: "host".into(),
            target_port: 22,
            protocol: "tcp".into(),
            connection_id: id.into(),
        }));
        // Spec v1, S-14.
        if let Some(old) = self.by_id.remove(id) {
            self.streams[old].gone = true;
        }
        // Spec v1, C-17.
        if self.streams.iter().filter(|stream| !stream.gone).count() == STREAMS {
            return self.expect_error(id, "the agent has too many open streams");
        }
        let Some(Event::Dial { key, id: named, host, port, protocol, reader, writer }) =
            self.link.poll_event()
        else {
            panic!("nothing is dialled");
        };
        assert_eq!((&*named, &*host, port, &*protocol), (id, "host", 22, "tcp"));
        assert!(self.streams.iter().all(|stream| stream.key != key), "keys are not used again");
        self.by_id.insert(id.to_owned(), self.streams.len());
        self.streams.push(Stream {
            key,
            id: id.to_owned(),
            reader: Waiter::new(reader),
            writer: Waiter::new(writer),
            answered: false,
            released: false,
            closed: false,
            ended: None,
            gone: false,
            received: 0,
            read: 0,
            around: data::encode_agent(id, b"").len(),
            written: 0,
            sent: 0,
            queue: VecDeque::new(),
            turn: 0,
            took: self.now,
            idle: true,
            behind: None,
            linger_until: None,
            deliver_by: None,
        });
    }

    fn hear_data(&mut self, id: &str, size: usize, spelling: Spelling) {
        // The bytes of no stream at all, if the id is unknown.
        let index = self.by_id.get(id).copied();
        let start = index.map_or(0, |index| self.streams[index].received);
        let payload = bytes(index.unwrap_or(usize::MAX / 1000), start, start + size);
        self.hear_message(&RelayToAgent::TcpData(StreamData {
            connection_id: id.to_owned(),
            data_base64: spelling.of(&payload),
        }));
        let Some(index) = index.filter(|index| self.streams[*index].is_live()) else { return };
        if spelling == Spelling::Unreadable {
            // Spec v1, S-16.
            return self.expect_reset(index, "the relay sent data that is no base64");
        }
        let now = self.now;
        let stream = &mut self.streams[index];
        stream.received += size;
        if std::mem::take(&mut stream.idle) {
            stream.took = now;
        }
        if stream.is_over() {
            self.paused_since = Some(now);
        }
    }

    fn hear_close(&mut self, id: &str) {
        self.hear_message(&RelayToAgent::ConnectionClose(ConnectionClose {
            message: v1::CONNECTION_CLOSE_MESSAGE.into(),
            connection_id: id.to_owned(),
        }));
        let Some(index) = self.by_id.remove(id) else { return };
        let stream = &mut self.streams[index];
        stream.closed = true;
        stream.queue.clear();
        if stream.ended.is_some() {
            stream.gone = true;
        } else {
            stream.deliver_by = Some(self.now + self.settings.stall_timeout);
        }
    }

    /// The pong to a ping tells of those before it, too.
    fn hear_pong(&mut self, last: u64) {
        self.link.handle_pong(self.now, last);
        self.pings.retain(|ping| *ping > last);
        let until = self.now + self.settings.linger;
        for stream in &mut self.streams {
            if stream.behind.take_if(|behind| *behind <= last).is_some() && !stream.gone {
                stream.linger_until = Some(until);
            }
        }
    }

    // --- the application -------------------------------------------------------------------

    /// One of the streams that began last.
    fn pick(&self, n: u8) -> Option<usize> {
        let among = self.streams.len().min(4);
        if among == 0 {
            return None;
        }
        Some(self.streams.len() - 1 - usize::from(n) % among)
    }

    fn use_stream(&mut self, index: usize, operation: Operation) {
        let stream = &mut self.streams[index];
        if stream.released {
            return;
        }
        let key = stream.key;
        match operation {
            Operation::Opened(_) => {
                if !std::mem::replace(&mut stream.answered, true) {
                    let expected = !stream.gone && !stream.closed;
                    self.link.opened(key);
                    if expected {
                        self.expect_ok(index);
                    }
                }
            }
            Operation::Refused(_) => {
                if !std::mem::replace(&mut stream.answered, true) {
                    stream.released = true;
                    self.link.refused(key, "no".into());
                    let (expected, id) = (!stream.gone && !stream.closed, stream.id.clone());
                    self.forget(index);
                    if expected {
                        self.expect_error(&id, "no");
                    }
                }
            }
            Operation::Write(_, size) => {
                let room = self.link.room(key);
                assert_eq!(room, stream.room());
                stream.writer.told(room == Room::Full);
                if room == Room::Ready {
                    let end = stream.written + size;
                    let payload = bytes(index, stream.written, end);
                    self.link.write(key, data::encode_agent(&stream.id, &payload));
                    stream.written = end;
                    if stream.queue.is_empty() {
                        self.turns += 1;
                        stream.turn = self.turns;
                    }
                    stream.queue.push_back(size);
                } else if room == Room::Over {
                    self.link.write(key, "never to be sent".into());
                }
            }
            Operation::Finish(_) | Operation::Break(_) => {
                let clean = matches!(operation, Operation::Finish(_));
                // Nothing is answered for behind the end.
                stream.answered = true;
                let end = if clean { End::Finished } else { End::Reset("broken".into()) };
                self.link.finish(key, end);
                if stream.gone || stream.ended.is_some() {
                    return;
                }
                if stream.closed {
                    return self.forget(index);
                }
                stream.ended = Some(clean);
                if stream.queue.is_empty() {
                    self.expect_end(index);
                }
            }
            Operation::Read(_) => self.read(index),
            Operation::Progress(_) => {
                self.link.progress(self.now, key);
                stream.took = self.now;
                if stream.deliver_by.is_some() {
                    stream.deliver_by = Some(self.now + self.settings.stall_timeout);
                }
            }
            Operation::Release(_) => {
                stream.released = true;
                stream.answered = true;
                self.link.release(key);
                if stream.is_live() {
                    self.expect_reset(index, "the agent gave the stream up");
                }
            }
            _ => unreachable!("all others are no operations of the application's"),
        }
    }

    fn read(&mut self, index: usize) {
        let was_over = self.streams[index].is_over();
        let stream = &mut self.streams[index];
        let mut got = Vec::new();
        let read = self.link.read(self.now, stream.key, &mut got);
        stream.reader.told(read == Read::Empty);
        if !stream.is_live() {
            assert_eq!(read, Read::Over);
            return;
        }
        stream.took = self.now;
        if stream.read == stream.received {
            stream.idle = true;
            assert_eq!(read, if stream.closed { Read::Finished } else { Read::Empty });
            return;
        }
        let end = stream.read + got.len();
        assert!(!got.is_empty() && end <= stream.received);
        assert_eq!(got, bytes(index, stream.read, end));
        stream.read = end;
        assert_eq!(read, Read::Data { resumed: was_over && !stream.is_over() });
    }

    // --- the link --------------------------------------------------------------------------

    /// Takes what is to be sent. Whether there was anything.
    fn transmit(&mut self) -> bool {
        let Some(text) = self.link.poll_transmit(self.now) else {
            let waits = self.control.iter().find(|(_, texts)| !texts.is_empty());
            assert!(waits.is_none() && self.keep_alives == 0, "never sent: {waits:?}");
            for stream in &self.streams {
                assert!(stream.gone || stream.queue.is_empty(), "bytes of {:?} wait", stream.id);
            }
            let ping = self.link.poll_ping();
            assert_eq!(ping, std::mem::take(&mut self.ping_due).then_some(self.last_ping));
            self.pings.extend(ping);
            return false;
        };
        match v1::decode::<AgentToRelay>(&text).expect("it is a message of an agent") {
            AgentToRelay::KeepAlive(_) => {
                self.keep_alives = self.keep_alives.checked_sub(1).expect("a keep_alive is due");
            }
            AgentToRelay::TcpData(message) => self.sent_data(&message),
            AgentToRelay::InitiateConnectionOk(message) => {
                self.sent_control(&message.connection_id, &text);
            }
            AgentToRelay::InitiateConnectionError(message) => {
                self.sent_control(&message.connection_id, &text);
            }
            AgentToRelay::ConnectionReset(message) => {
                self.sent_control(&message.connection_id, &text);
            }
            AgentToRelay::Start(_) => panic!("a second start"),
        }
        true
    }

    fn sent_control(&mut self, id: &str, text: &str) {
        let due = self.control.get_mut(id).and_then(VecDeque::pop_front);
        assert_eq!(due.as_deref(), Some(text));
    }

    fn sent_data(&mut self, message: &StreamData) {
        let index = *self.by_id.get(&message.connection_id).expect("the stream is not over");
        // Spec v1, S-17: none goes before its turn.
        let waiting = self.streams.iter().filter(|it| !it.gone && !it.queue.is_empty());
        assert_eq!(waiting.map(|it| it.turn).min(), Some(self.streams[index].turn));
        self.turns += 1;
        let stream = &mut self.streams[index];
        stream.turn = self.turns;
        let size = stream.queue.pop_front().expect("something was written");
        let mut payload = Vec::new();
        base64::decode_append(&message.data_base64, &mut payload).expect("it is base64");
        assert_eq!(payload, bytes(index, stream.sent, stream.sent + size));
        stream.sent += size;
        if stream.queue.is_empty() && stream.ended.is_some() {
            self.expect_end(index);
        }
    }

    // --- time ------------------------------------------------------------------------------

    fn pass(&mut self, time: Duration) {
        self.now += time;
        let now = self.now;
        self.link.handle_timeout(now);
        if let Some(index) = self.streams.iter().position(Stream::is_over) {
            let (earliest, latest) = self.stall(index);
            let gone = self.link.is_gone(self.streams[index].key);
            assert!(gone || now < latest, "a stalled stream is not given up");
            assert!(!gone || now >= earliest, "a stream is given up too early");
            assert!(!gone || self.gave_up || now >= latest, "the first has all its time");
            if gone {
                self.gave_up = true;
                let took = self.streams[index].took;
                let seconds = now.saturating_duration_since(took).as_secs();
                self.expect_reset(index, &format!("the target took no data for {seconds} s"));
            }
        }
        for index in 0..self.streams.len() {
            let stream = &self.streams[index];
            if stream.gone {
                continue;
            }
            if stream.deliver_by.is_some_and(|due| now >= due) {
                self.forget(index);
            } else if stream.linger_until.is_some_and(|due| now >= due) {
                self.expect_reset(index, v1::TARGET_CLOSED_MESSAGE);
            }
        }
        if self.next_keep_alive.is_some_and(|due| now >= due) {
            self.keep_alives += 1;
            self.next_keep_alive = Some(now + self.settings.keep_alive_interval);
        }
        assert!(self.link.poll_timeout().is_none_or(|due| due > now), "the clock stands still");
    }

    /// When a stream that holds the link up may be given up, and when it must be.
    /// Spec v1, L-9.
    fn stall(&self, index: usize) -> (Instant, Instant) {
        let took = self.streams[index].took;
        let since = self.paused_since.expect("the link is not read");
        let latest = took + self.settings.stall_timeout;
        (latest.min(since.max(took) + self.settings.stall_timeout / 5), latest)
    }

    // --- what is expected ------------------------------------------------------------------

    fn expect(&mut self, id: &str, message: &AgentToRelay) {
        self.control.entry(id.to_owned()).or_default().push_back(v1::encode(message));
    }

    fn expect_ok(&mut self, index: usize) {
        let id = self.streams[index].id.clone();
        let connection_id = id.clone();
        let message = InitiateConnectionOk { connection_id };
        self.expect(&id, &AgentToRelay::InitiateConnectionOk(message));
    }

    fn expect_error(&mut self, id: &str, message: &str) {
        let (connection_id, message) = (id.to_owned(), message.to_owned());
        let message = InitiateConnectionError { message, connection_id };
        self.expect(id, &AgentToRelay::InitiateConnectionError(message));
    }

    /// All was sent of a stream that the agent has ended.
    fn expect_end(&mut self, index: usize) {
        if self.streams[index].ended == Some(false) {
            self.expect_reset(index, "broken");
        } else if self.settings.linger.is_zero() {
            self.expect_reset(index, v1::TARGET_CLOSED_MESSAGE);
        } else {
            if !std::mem::replace(&mut self.ping_due, true) {
                self.last_ping += 1;
            }
            self.streams[index].behind = Some(self.last_ping);
        }
    }

    /// The stream is over, and the relay is told unless it has ended the stream itself.
    fn expect_reset(&mut self, index: usize, message: &str) {
        let told = !self.streams[index].closed;
        self.forget(index);
        if told {
            let id = self.streams[index].id.clone();
            let (message, connection_id) = (message.to_owned(), id.clone());
            let message = ConnectionReset { message, connection_id };
            self.expect(&id, &AgentToRelay::ConnectionReset(message));
        }
    }

    fn forget(&mut self, index: usize) {
        self.streams[index].gone = true;
        self.by_id.retain(|_, known| *known != index);
    }

    /// What must hold after each operation.
    fn check(&self) {
        assert!(self.link.stream_count() <= STREAMS);
        let live = self.streams.iter().filter(|stream| !stream.gone);
        assert_eq!(self.link.stream_count(), live.clone().count());
        assert!(live.clone().all(|stream| !self.link.is_gone(stream.key)));
        let over = self.streams.iter().position(Stream::is_over);
        let waiting: usize = self.control.values().map(VecDeque::len).sum();
        assert_eq!(self.link.wants_read(), over.is_none() && waiting + self.keep_alives < CONTROL);
        let stalled = over.map(|index| self.stall(index).1);
        let others = live.flat_map(|stream| [stream.linger_until, stream.deliver_by]);
        let due = others.chain([stalled, self.next_keep_alive]).flatten().min();
        assert!(due.is_none_or(|due| self.link.poll_timeout().is_some_and(|it| it <= due)));
        for stream in self.streams.iter().filter(|stream| !stream.released) {
            let unread = stream.is_live() && (stream.received > stream.read || stream.closed);
            stream.reader.check(stream.gone || unread, "what is to be read");
            let room = stream.ended.is_none() && stream.room() != Room::Full;
            stream.writer.check(stream.gone || room, "room");
        }
    }

    /// Ends every stream, from the one side or the other: then nothing is left.
    fn end_all(&mut self, relay_closes: bool) {
        self.drain();
        for index in 0..self.streams.len() {
            while self.streams[index].is_live()
                && self.streams[index].read < self.streams[index].received
            {
                self.read(index);
            }
        }
        self.check();
        if relay_closes {
            (0..4).for_each(|n| self.hear_close(id(n)));
        }
        for index in 0..self.streams.len() {
            self.streams[index].released = false;
            self.use_stream(index, Operation::Finish(0));
            self.check();
        }
        self.drain();
        self.hear_pong(self.last_ping);
        self.pass(self.settings.linger);
        self.drain();
        assert_eq!(self.link.stream_count(), 0);
        assert_eq!(self.link.poll_timeout().is_some(), self.next_keep_alive.is_some());
    }

    fn drain(&mut self) {
        while self.transmit() {}
        self.check();
    }
}

fn id(n: u8) -> &'static str {
    IDS[usize::from(n) % IDS.len()]
}

/// One more than there may be streams; odd ones among them (spec v1, S-2 and S-19).
const IDS: [&str; 4] = ["5c0a3f0e-7a52-4b7e-9d1c-3f6f6a1b2c3d", "b", "", "\u{e9}\"\n"];

/// Streams at once.
const STREAMS: usize = 3;

/// Bytes that fit each queue.
const QUEUE: usize = 200;

/// Answers that may wait before the link is not read.
const CONTROL: usize = 1024;

/// What is no message to an agent.
const NONSENSE: [&str; 6] = [
    "",
    "null",
    r#"{"inner":{"kind":"start_ok"}}"#,
    r#"{"inner":{"kind":"connection_reset","message":"","connection_id":"b"}}"#,
    r#"{"inner":{"kind":"tcp_data","connection_id":"b"}}"#,
    r#"{"inner":{"kind":"connection_close","message":null,"connection_id":"b"}}"#,
];
