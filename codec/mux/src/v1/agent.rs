//! The agent's seat: many streams on one link to a relay.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use codec::DecodeError;
use codec::message::Message as _;
use codec::v1::{
    self, AgentToRelay, ConnectionReset, InitiateConnection, InitiateConnectionError,
    InitiateConnectionOk, KeepAlive, RelayToAgent, data,
};
use tracing::debug;

use super::linger::Backlog;
use super::{Read, Room};
use crate::{Inbound, Outbound, Patience, Wake};

/// Names a stream at the agent for the life of a link. Never used twice on one link, unlike the
/// connection id, which a relay may reuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamKey(u64);

/// What the application must do next.
#[derive(Debug)]
pub enum Event<W> {
    /// Connect to a target, then call [`AgentLink::opened`] or [`AgentLink::refused`].
    Dial {
        /// The stream's name in later calls.
        key: StreamKey,
        /// The connection id, for [`data::encode_agent`].
        id: Arc<str>,
        /// The target's host as the client named it: a name or an address, unchecked.
        host: String,
        /// The target's port, unchecked.
        port: i64,
        /// The protocol, unchecked; only `tcp` is known.
        protocol: String,
        /// Woken when [`AgentLink::read`] may have something.
        reader: W,
        /// Woken when [`AgentLink::room`] may have changed.
        writer: W,
    },
}

/// How the agent's side ends a stream (spec v1, X-4 to X-6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The target sent everything and closed: its tail must not be lost.
    Finished,
    /// The stream broke; the text says why.
    Reset(String),
}

/// How an agent treats the relay at the other end.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How long to wait between the pong to a ping behind a stream's last data and the stream's
    /// `connection_reset`, at the least. Zero, without a ping, for a relay that delivers what it
    /// holds before it acts on the reset.
    pub linger: Duration,
    /// Bytes that may wait per stream and direction.
    pub queue_bytes: usize,
    /// How long a target may take nothing at all while the link waits for it.
    pub stall_timeout: Duration,
    /// How often to send `keep_alive`, once the relay has sent its first.
    pub keep_alive_interval: Duration,
    /// Streams that may be open or being opened at once.
    pub max_streams: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            linger: v1::LINGER,
            queue_bytes: v1::STREAM_QUEUE,
            stall_timeout: v1::STALL_TIMEOUT,
            keep_alive_interval: v1::AGENT_KEEP_ALIVE_INTERVAL,
            max_streams: 16_384,
        }
    }
}

/// One link between an agent and a relay, seen from the agent, after its `start`.
///
/// Methods, by group; each is one step, none blocks:
/// - from the peer: [`handle_text`](Self::handle_text), [`handle_pong`](Self::handle_pong);
/// - from the clock: [`handle_timeout`](Self::handle_timeout), due at
///   [`poll_timeout`](Self::poll_timeout);
/// - from the application: [`opened`](Self::opened), [`refused`](Self::refused),
///   [`room`](Self::room), [`write`](Self::write), [`finish`](Self::finish),
///   [`read`](Self::read), [`progress`](Self::progress), [`release`](Self::release);
/// - to the link: [`wants_read`](Self::wants_read), [`poll_transmit`](Self::poll_transmit),
///   [`poll_ping`](Self::poll_ping);
/// - to the application: [`poll_event`](Self::poll_event).
///
/// After any of the first three groups, drain the last two.
///
/// ```text
///            initiate_connection                 opened
///   (none) ─────────────────────▶ dialling ──────────────────▶ open
///                                  │    │                       │ │
///        refused: error to relay ◀─┘    └─ connection_close ─▶  │ │ finish: queue drains,
///                                          (none)               │ │ linger, connection_reset
///          connection_close: reader drains, then Finished ◀─────┘ └▶ (none)
/// ```
#[derive(Debug)]
pub struct AgentLink<W> {
    settings: Settings,
    streams: HashMap<StreamKey, Stream<W>>,
    /// Connection ids of the streams that the relay may still name.
    by_id: HashMap<Arc<str>, StreamKey>,
    next_key: u64,
    /// Messages that go before data.
    control: VecDeque<String>,
    /// Streams with messages to send, in turn; each at most once.
    turns: VecDeque<StreamKey>,
    /// Finished streams whose last data may not have reached the relay's program, by the number
    /// of the ping behind it.
    unconfirmed: BTreeSet<(u64, StreamKey)>,
    /// The number of the last ping asked for.
    last_ping: u64,
    /// A ping is to be sent.
    ping_due: bool,
    /// Finished streams that wait for their time, by time.
    lingering: BTreeSet<(Instant, StreamKey)>,
    /// Streams that the relay has ended, whose targets have still to take something, by when.
    delivering: BTreeSet<(Instant, StreamKey)>,
    events: VecDeque<Event<W>>,
    /// The stream whose queue is full, and since when the link is not read for it.
    paused: Option<(StreamKey, Instant)>,
    patience: Patience,
    /// When the next `keep_alive` is due; none before the relay's first.
    next_keep_alive: Option<Instant>,
}

#[derive(Debug)]
struct Stream<W> {
    id: Arc<str>,
    inbound: Inbound,
    outbound: Outbound,
    backlog: Backlog,
    /// When the target last took bytes, or had taken all and new ones came.
    took: Instant,
    /// The reader has taken all that came, and handed it on.
    idle: bool,
    /// The relay ended the stream; it hears no more of it.
    relay_finished: bool,
    /// The entry of this stream in `delivering`.
    deliver_by: Option<Instant>,
    /// Our side ended; what waits goes out first.
    end: Option<End>,
    /// The ping behind its last data: its entry in `unconfirmed`.
    behind: Option<u64>,
    reader: W,
    writer: W,
}

impl<W: Wake + Clone + Default> AgentLink<W> {
    /// A link with no streams.
    pub fn new(now: Instant, settings: Settings) -> Self {
        Self {
            patience: Patience::new(now, settings.stall_timeout),
            settings,
            streams: HashMap::new(),
            by_id: HashMap::new(),
            next_key: 0,
            control: VecDeque::new(),
            turns: VecDeque::new(),
            unconfirmed: BTreeSet::new(),
            last_ping: 0,
            ping_due: false,
            lingering: BTreeSet::new(),
            delivering: BTreeSet::new(),
            events: VecDeque::new(),
            paused: None,
            next_keep_alive: None,
        }
    }

    /// How many streams are open or being opened.
    pub fn stream_count(&self) -> usize {
        self.streams.len()
    }

    /// Takes one message of the relay.
    ///
    /// # Errors
    /// The text is no message of a relay. Nothing changed and the link goes on (spec v1, M-11):
    /// the caller logs it.
    pub fn handle_text(&mut self, now: Instant, text: &str) -> Result<(), DecodeError> {
        if let Some(frame) = data::scan_agent(text) {
            self.handle_data(now, frame.connection_id, frame.base64);
            return Ok(());
        }
        match v1::decode::<RelayToAgent>(text)? {
            RelayToAgent::TcpData(message) => {
                self.handle_data(now, &message.connection_id, &message.data_base64);
            }
            RelayToAgent::InitiateConnection(message) => {
                debug!(kind = "initiate_connection", id = message.connection_id, "received");
                self.handle_initiate(now, message);
            }
            RelayToAgent::ConnectionClose(message) => {
                debug!(kind = "connection_close", id = message.connection_id, "received");
                self.handle_connection_close(now, &message.connection_id);
            }
            RelayToAgent::KeepAlive(_) => {
                debug!(kind = "keep_alive", "received");
                if self.next_keep_alive.is_none() {
                    self.next_keep_alive = Some(now + self.settings.keep_alive_interval);
                }
            }
        }
        Ok(())
    }

    fn handle_initiate(&mut self, now: Instant, message: InitiateConnection) {
        // Any text, the empty one too (spec v1, S-2 and S-19).
        let id: Arc<str> = message.connection_id.into();
        // An id that comes again means a new connection; the old one is over (spec v1, S-14).
        if let Some(old) = self.by_id.remove(&id) {
            self.remove(old);
        }
        // Spec v1, C-17.
        if self.streams.len() >= self.settings.max_streams {
            self.send(&AgentToRelay::InitiateConnectionError(InitiateConnectionError {
                message: "the agent has too many open streams".into(),
                connection_id: id.to_string(),
            }));
            return;
        }
        let key = StreamKey(self.next_key);
        self.next_key += 1;
        let stream = Stream {
            id: id.clone(),
            inbound: Inbound::new(self.settings.queue_bytes),
            outbound: Outbound::new(self.settings.queue_bytes),
            backlog: Backlog::EMPTY,
            took: now,
            idle: true,
            relay_finished: false,
            deliver_by: None,
            end: None,
            behind: None,
            reader: W::default(),
            writer: W::default(),
        };
        self.events.push_back(Event::Dial {
            key,
            id: id.clone(),
            host: message.target_ip,
            port: message.target_port,
            protocol: message.protocol,
            reader: stream.reader.clone(),
            writer: stream.writer.clone(),
        });
        self.by_id.insert(id, key);
        self.streams.insert(key, stream);
    }

    fn handle_data(&mut self, now: Instant, id: &str, base64: &str) {
        // Spec v1, S-13.
        // Data for an unknown id crossed our end of that stream: no fault, no answer.
        let Some(&key) = self.by_id.get(id) else { return };
        let Some(stream) = self.streams.get_mut(&key) else { return };
        if stream.end.is_some() {
            return;
        }
        match stream.inbound.push(base64) {
            Ok(()) => {
                if std::mem::take(&mut stream.idle) {
                    stream.took = now;
                }
                stream.reader.wake();
                if stream.inbound.is_over() {
                    self.paused = Some((key, now));
                }
            }
            // Bytes are missing from here on, so the stream must not go on (spec v1, S-16).
            Err(_) => self.cut(key, "the relay sent data that is no base64"),
        }
    }

    fn handle_connection_close(&mut self, now: Instant, id: &str) {
        let Some(key) = self.by_id.remove(id) else { return };
        let Some(stream) = self.streams.get_mut(&key) else { return };
        stream.relay_finished = true;
        stream.outbound.clear();
        stream.reader.wake();
        stream.writer.wake();
        if stream.end.is_some() {
            self.remove(key);
        } else {
            self.deliver_later(now, key);
        }
    }

    /// Gives the target of a stream that the relay has ended a fresh stall timeout.
    fn deliver_later(&mut self, now: Instant, key: StreamKey) {
        let Some(stream) = self.streams.get_mut(&key).filter(|stream| stream.relay_finished) else {
            return;
        };
        let due = now + self.settings.stall_timeout;
        if let Some(before) = stream.deliver_by.replace(due) {
            self.delivering.remove(&(before, key));
        }
        self.delivering.insert((due, key));
    }

    /// The target of `key` is connected.
    pub fn opened(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get(&key) else { return };
        if stream.relay_finished {
            return;
        }
        let connection_id = stream.id.to_string();
        self.send(&AgentToRelay::InitiateConnectionOk(InitiateConnectionOk { connection_id }));
    }

    /// The target of `key` could not be reached; `message` is for the user of the client.
    pub fn refused(&mut self, key: StreamKey, message: String) {
        let Some(stream) = self.remove(key) else { return };
        if !stream.relay_finished {
            let connection_id = stream.id.to_string();
            self.send(&AgentToRelay::InitiateConnectionError(InitiateConnectionError {
                message,
                connection_id,
            }));
        }
    }

    /// Whether [`Self::write`] may be called.
    pub fn room(&self, key: StreamKey) -> Room {
        match self.streams.get(&key) {
            Some(stream) if stream.relay_finished || stream.end.is_some() => Room::Over,
            Some(stream) if stream.outbound.has_room() => Room::Ready,
            Some(_) => Room::Full,
            None => Room::Over,
        }
    }

    /// Whether a stream was cut off, or ended and all its ends are told.
    pub fn is_gone(&self, key: StreamKey) -> bool {
        !self.streams.contains_key(&key)
    }

    /// Queues a `tcp_data` message of this stream, made by [`data::encode_agent`].
    ///
    /// For a stream that is over it is dropped. The link's driver is to be woken.
    pub fn write(&mut self, key: StreamKey, message: String) {
        let Some(stream) = self.streams.get_mut(&key) else { return };
        if stream.relay_finished || stream.end.is_some() {
            return;
        }
        if stream.outbound.is_empty() {
            self.turns.push_back(key);
        }
        stream.outbound.push(message);
    }

    /// Ends a stream from our side. What was written before goes out first, then the relay is
    /// told; a finished stream lingers in between. The link's driver is to be woken.
    pub fn finish(&mut self, key: StreamKey, end: End) {
        let Some(stream) = self.streams.get_mut(&key) else { return };
        if stream.relay_finished {
            self.remove(key);
            return;
        }
        if stream.end.is_some() {
            return;
        }
        stream.end = Some(end);
        if self.paused.is_some_and(|(paused, _)| paused == key) {
            self.paused = None;
        }
        let Some(stream) = self.streams.get(&key) else { return };
        if stream.outbound.is_empty() {
            self.all_sent(key);
        }
    }

    /// The application is done with a stream, in whatever way; nothing of it is asked for after
    /// this. A stream that neither side has ended is reset; one that was finished still sends what
    /// waits. The link's driver is to be woken.
    pub fn release(&mut self, key: StreamKey) {
        if self.streams.get(&key).is_some_and(|stream| stream.end.is_none()) {
            self.reset(key, "the agent gave the stream up".to_owned());
        }
    }

    /// The target takes bytes, though slowly: its stream is not stalled.
    pub fn progress(&mut self, now: Instant, key: StreamKey) {
        self.deliver_later(now, key);
        if let Some(stream) = self.streams.get_mut(&key) {
            stream.took = now;
        }
    }

    /// Takes what arrived for a stream; `into` must be empty.
    pub fn read(&mut self, now: Instant, key: StreamKey, into: &mut Vec<u8>) -> Read {
        let Some(stream) = self.streams.get_mut(&key) else { return Read::Over };
        if stream.end.is_some() {
            return Read::Over;
        }
        // Whoever asks for more has handed on what it got before.
        stream.took = now;
        if stream.inbound.is_empty() {
            stream.idle = true;
            stream.inbound.rest();
            return if stream.relay_finished { Read::Finished } else { Read::Empty };
        }
        stream.inbound.take(into);
        let over = stream.inbound.is_over();
        let resumed = !over && self.paused.take_if(|(paused, _)| *paused == key).is_some();
        Read::Data { resumed }
    }

    /// Whether the link should be read: no stream's queue is full, and the relay takes our
    /// answers.
    /// Spec v1, K-4, L-8 and L-9.
    pub fn wants_read(&self) -> bool {
        self.paused.is_none() && self.control.len() < MAX_CONTROL
    }

    /// The next message for the relay.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<String> {
        if let Some(message) = self.control.pop_front() {
            return Some(message);
        }
        while let Some(key) = self.turns.pop_front() {
            let Some(stream) = self.streams.get_mut(&key) else { continue };
            let Some(message) = stream.outbound.pop() else { continue };
            stream.backlog.sent(now, message.len());
            if stream.outbound.has_room() {
                stream.writer.wake();
            }
            if !stream.outbound.is_empty() {
                self.turns.push_back(key);
            } else if stream.end.is_some() {
                self.all_sent(key);
            }
            return Some(message);
        }
        None
    }

    /// The payload of a ping to send behind what [`Self::poll_transmit`] gave, if one is due.
    pub fn poll_ping(&mut self) -> Option<u64> {
        std::mem::take(&mut self.ping_due).then_some(self.last_ping)
    }

    /// The pong to the ping with this payload arrived.
    pub fn handle_pong(&mut self, now: Instant, number: u64) {
        while let Some(&(behind, key)) = self.unconfirmed.first()
            && behind <= number
        {
            self.unconfirmed.pop_first();
            if let Some(stream) = self.streams.get_mut(&key) {
                stream.behind = None;
                let linger = stream.backlog.linger(now, self.settings.linger);
                self.lingering.insert((now + linger, key));
            }
        }
    }

    /// What the application must do next.
    pub fn poll_event(&mut self) -> Option<Event<W>> {
        self.events.pop_front()
    }

    /// When [`Self::handle_timeout`] wants to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let stalled = self.stall().map(|(_, due)| due);
        let first = |set: &BTreeSet<(Instant, StreamKey)>| set.first().map(|(due, _)| *due);
        let (lingering, delivering) = (first(&self.lingering), first(&self.delivering));
        [stalled, lingering, delivering, self.next_keep_alive].into_iter().flatten().min()
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let Some((key, due)) = self.stall()
            && now >= due
        {
            let took = self.streams.get(&key).map_or(now, |stream| stream.took);
            if let Some((_, since)) = self.paused {
                self.patience.give_up(now, since.max(took));
            }
            let seconds = now.saturating_duration_since(took).as_secs();
            self.cut(key, &format!("the target took no data for {seconds} s"));
        }
        while let Some(&(due, key)) = self.delivering.first()
            && now >= due
        {
            self.remove(key);
        }
        while let Some(&(due, key)) = self.lingering.first()
            && now >= due
        {
            self.lingering.pop_first();
            self.reset(key, v1::TARGET_CLOSED_MESSAGE.to_owned());
        }
        if let Some(due) = self.next_keep_alive
            && now >= due
        {
            self.next_keep_alive = Some(now + self.settings.keep_alive_interval);
            self.send(&AgentToRelay::KeepAlive(KeepAlive {}));
        }
    }

    /// The stream that the link is not read for, and when that has lasted too long.
    fn stall(&self) -> Option<(StreamKey, Instant)> {
        let (key, since) = self.paused?;
        let stream = self.streams.get(&key)?;
        Some((key, self.patience.deadline(since, stream.took)))
    }

    /// Ends a stream at once, from inside the core: queues are dropped, the application finds
    /// the stream over, the relay is told.
    fn cut(&mut self, key: StreamKey, message: &str) {
        self.reset(key, message.to_owned());
    }

    /// Every message of an ended stream has been handed to the link.
    fn all_sent(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get_mut(&key) else { return };
        match &stream.end {
            Some(End::Finished) if self.settings.linger.is_zero() => {
                self.reset(key, v1::TARGET_CLOSED_MESSAGE.to_owned());
            }
            Some(End::Finished) => {
                // One ping serves all streams that finish before it is sent.
                if !self.ping_due {
                    self.ping_due = true;
                    self.last_ping += 1;
                }
                stream.behind = Some(self.last_ping);
                self.unconfirmed.insert((self.last_ping, key));
            }
            Some(End::Reset(message)) => {
                let message = message.clone();
                self.reset(key, message);
            }
            None => {}
        }
    }

    fn reset(&mut self, key: StreamKey, message: String) {
        let Some(stream) = self.remove(key) else { return };
        if !stream.relay_finished {
            let connection_id = stream.id.to_string();
            self.send(&AgentToRelay::ConnectionReset(ConnectionReset { message, connection_id }));
        }
    }

    /// Forgets a stream and wakes its owners, who find it over.
    fn remove(&mut self, key: StreamKey) -> Option<Stream<W>> {
        let stream = self.streams.remove(&key)?;
        if let Some(due) = stream.deliver_by {
            self.delivering.remove(&(due, key));
        }
        if let Some(behind) = stream.behind {
            self.unconfirmed.remove(&(behind, key));
        }
        if self.by_id.get(&stream.id) == Some(&key) {
            self.by_id.remove(&stream.id);
        }
        if self.paused.is_some_and(|(paused, _)| paused == key) {
            self.paused = None;
        }
        stream.reader.wake();
        stream.writer.wake();
        Some(stream)
    }

    fn send(&mut self, message: &AgentToRelay) {
        let id = match message {
            AgentToRelay::InitiateConnectionOk(message) => Some(&message.connection_id),
            AgentToRelay::InitiateConnectionError(message) => Some(&message.connection_id),
            AgentToRelay::ConnectionReset(message) => Some(&message.connection_id),
            AgentToRelay::Start(_) | AgentToRelay::TcpData(_) | AgentToRelay::KeepAlive(_) => None,
        };
        debug!(kind = message.kind(), id, "sending");
        self.control.push_back(v1::encode(message));
    }
}

/// Answers that may wait before the link is no longer read: a relay that asks without taking
/// answers must not fill our memory.
const MAX_CONTROL: usize = 1024;

#[cfg(test)]
#[path = "agent_tests.rs"]
mod tests;
