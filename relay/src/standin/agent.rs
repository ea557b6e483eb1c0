//! The relay as the acceptor of streams, in the place of an agent that speaks v1.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use codec::v1::{self, ClientStart, base64, data};
use codec::v2::{self, Code, Control};
use mux::Wake;
use mux::v2::{Ask, Endpoint, Event, LinkKey, Read, Room, Side, StreamId, StreamKey, Transmit};
use tracing::{debug, info};
use transport::bell::Bell;

use super::words::code_of;
use super::{Quiet, settings};
use crate::routes::{ClientEnd, ForClient, Routes};

/// The acceptor of a v1 agent's streams (spec v2, ST-3 to ST-6).
///
/// To the agent's [`Routes`] it is so many clients. All its calls are made by whoever drives the agent's link:
/// [`handle`](Self::handle) with what the router has, [`step`](Self::step) until nothing changes, and
/// [`poll_transmit`](Self::poll_transmit) for what the router gets; [`handle_timeout`](Self::handle_timeout) when
/// [`poll_timeout`](Self::poll_timeout) has come.
///
/// Memory: per stream two windows, the queues of [`Routes`], and one message.
#[derive(Debug)]
pub(crate) struct AgentStandIn {
    endpoint: Endpoint<Quiet>,
    link: LinkKey,
    streams: BTreeMap<StreamKey, Stream>,
    by_id: HashMap<StreamId, StreamKey>,
    by_number: HashMap<u32, StreamKey>,
    timers: BTreeSet<(Instant, StreamKey)>,
    ready: Ready,
    bell: Bell,
}

/// One stream, between the endpoint and the routes.
#[derive(Debug)]
struct Stream {
    /// On the agent's link.
    v1_id: Arc<str>,
    id: StreamId,
    number: u32,
    attempt: u32,
    mark: Mark,
    /// Read from the stream, and not yet taken by the routes.
    to_agent: Bytes,
    /// Sizes of what the routes have taken and not yet written to the agent's link.
    handed: VecDeque<usize>,
    /// How many of them have been.
    taken: u64,
    /// From the agent, and more than the opener has granted.
    to_opener: Bytes,
    /// Bytes that were written to the stream.
    written: u64,
    /// What the opener has consumed of them, its end included.
    consumed: u64,
    /// When the agent last sent something.
    heard: Instant,
    /// When the answer, or the end of the silence after the opener's `finish`, is due.
    due: Option<Instant>,
    /// The opener's end is acknowledged.
    is_finished: bool,
    /// The agent has no part in the stream any more.
    end: Option<ClientEnd>,
    /// The opener was told so.
    is_told: bool,
    /// Bytes of the opener's never got to the agent's link.
    is_short: bool,
}

/// Who waits for a stream of a v1 agent: a client's driver, or the stand-in for clients that speak v2.
#[derive(Clone, Debug)]
pub(crate) enum Waiter {
    Client(Bell),
    StandIn(Mark),
}

impl Wake for Waiter {
    fn wake(&self) {
        match self {
            Self::Client(bell) => bell.ring(),
            Self::StandIn(mark) => mark.wake(),
        }
    }
}

/// Streams that were woken since they were last looked at; each at most once.
type Ready = Arc<Mutex<Vec<StreamKey>>>;

/// Marks one stream as ready.
#[derive(Clone, Debug)]
pub(crate) struct Mark {
    key: StreamKey,
    is_set: Arc<AtomicBool>,
    ready: Ready,
    bell: Bell,
}

impl Mark {
    fn wake(&self) {
        if !self.is_set.swap(true, Ordering::AcqRel) {
            self.ready.lock().unwrap_or_else(PoisonError::into_inner).push(self.key);
            self.bell.ring();
        }
    }
}

impl AgentStandIn {
    /// A stand-in without streams. `bell` wakes whoever drives the agent's link.
    pub(crate) fn new(now: Instant, bell: Bell) -> Self {
        // An acceptor draws nothing at random.
        let mut endpoint = Endpoint::new(now, Side::Acceptor, settings(), 0, Quiet);
        let link = endpoint.connect(now, None, Quiet);
        Self {
            endpoint,
            link,
            streams: BTreeMap::new(),
            by_id: HashMap::new(),
            by_number: HashMap::new(),
            timers: BTreeSet::new(),
            ready: Ready::default(),
            bell,
        }
    }

    /// Whether no stream is left.
    pub(crate) fn is_over(&self) -> bool {
        self.streams.is_empty()
    }

    /// Whether nothing is kept of any stream.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.streams.is_empty()
            && self.by_id.is_empty()
            && self.by_number.is_empty()
            && self.timers.is_empty()
            && self.endpoint.stream_count() == 0
    }

    /// Takes what the router has for the stand-in.
    pub(crate) fn handle(&mut self, now: Instant, transmit: Transmit, routes: &mut Routes<Waiter>) {
        let attempt = match &transmit {
            Transmit::Control(Control::Open(it)) => Some((&it.id, it.stream, it.attempt)),
            Transmit::Control(Control::Resume(it)) => Some((&it.id, it.stream, it.attempt)),
            _ => None,
        };
        let attempt = attempt.map(|(id, number, attempt)| (StreamId::new(id), number, attempt));
        let number = match (&attempt, &transmit) {
            (Some((_, number, _)), _) => Some(*number),
            (None, Transmit::Data { stream, .. }) => Some(*stream),
            (None, Transmit::Control(message)) => number(message),
        };
        if let Transmit::Control(Control::Credit(credit)) = &transmit {
            self.consumed(credit.stream, credit.consumed);
        }
        let told = match &transmit {
            Transmit::Control(Control::Resume(resume)) => Some(resume.consumed),
            _ => None,
        };
        let handled = match transmit {
            Transmit::Control(message) => self.endpoint.handle_control(now, self.link, message),
            Transmit::Data { stream, payload } => {
                self.endpoint.handle_data(now, self.link, stream, payload)
            }
        };
        if let Err(violation) = handled {
            debug!("the router passed on {violation}");
        }
        while let Some(event) = self.endpoint.poll_event() {
            if let Event::Dial { key, id, ask, .. } = event {
                self.dial(now, key, id, ask, routes);
            }
        }
        if let Some((id, number, attempt)) = attempt {
            self.attached(&id, number, attempt);
            self.consumed(number, told.unwrap_or(0));
        }
        if let Some(key) = number.and_then(|number| self.by_number.get(&number).copied()) {
            self.settle(now, key, routes);
        }
    }

    /// Looks after the streams of which the routes have news. Whether there were any.
    pub(crate) fn step(&mut self, now: Instant, routes: &mut Routes<Waiter>) -> bool {
        let ready = mem::take(&mut *self.ready.lock().unwrap_or_else(PoisonError::into_inner));
        for key in &ready {
            if let Some(stream) = self.streams.get(key) {
                stream.mark.is_set.store(false, Ordering::Release);
            }
            self.settle(now, *key, routes);
        }
        !ready.is_empty()
    }

    /// The next thing for the router.
    pub(crate) fn poll_transmit(&mut self, now: Instant) -> Option<Transmit> {
        self.endpoint.poll_transmit(now, self.link)
    }

    /// When [`Self::handle_timeout`] wants to be called next.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let due = self.timers.first().map(|(due, _)| *due);
        [self.endpoint.poll_timeout(), due].into_iter().flatten().min()
    }

    /// Does what is due at `now`.
    pub(crate) fn handle_timeout(&mut self, now: Instant, routes: &mut Routes<Waiter>) {
        self.endpoint.handle_timeout(now);
        while let Some(&(due, key)) = self.timers.first()
            && now >= due
        {
            self.set_due(key, None);
            let Some(stream) = self.streams.get(&key) else { continue };
            if !routes.is_answered(&stream.v1_id) {
                let text = format!("{}{}", v1::ERROR_INITIATE_PREFIX, v1::ERROR_NO_ANSWER);
                routes.cut(&stream.v1_id, ClientEnd::Refused(text));
            } else if stream.is_finished && stream.end.is_none() {
                self.end_of_silence(now, key, routes);
            }
            self.settle(now, key, routes);
        }
        // Those whose time without a link is over.
        let over = self.streams.keys().filter(|key| self.endpoint.end(**key).is_some());
        for key in over.copied().collect::<Vec<_>>() {
            self.settle(now, key, routes);
        }
    }

    /// Ends all streams; nobody is served any more.
    pub(crate) fn shut_down(&mut self, now: Instant, routes: &mut Routes<Waiter>) {
        self.endpoint.shut_down(now, Code::NotResumable, "the agent's link was lost");
        for key in self.streams.keys().copied().collect::<Vec<_>>() {
            if let Some(stream) = self.streams.get_mut(&key) {
                stream.to_agent = Bytes::new();
                routes.client_finished(now, &stream.v1_id);
            }
            self.forget(now, key);
        }
    }

    // --- private -----------------------------------------------------------------------------

    /// Asks the agent for a new stream's target (spec v2, ST-3).
    fn dial(
        &mut self,
        now: Instant,
        key: StreamKey,
        id: StreamId,
        ask: Ask,
        routes: &mut Routes<Waiter>,
    ) {
        let v1_id: Arc<str> = uuid::Uuid::new_v4().to_string().into();
        let mark = Mark {
            key,
            is_set: Arc::default(),
            ready: Arc::clone(&self.ready),
            bell: self.bell.clone(),
        };
        let start = ClientStart {
            connection_target: ask.agent,
            target_ip: ask.host,
            target_port: ask.port.into(),
            protocol: ask.protocol,
            secret: String::new().into(),
        };
        routes.open(now, v1_id.clone(), start, Waiter::StandIn(mark.clone()));
        routes.watch(&v1_id);
        self.by_id.insert(id.clone(), key);
        let stream = Stream {
            v1_id,
            id,
            number: 0,
            attempt: 0,
            mark,
            to_agent: Bytes::new(),
            handed: VecDeque::new(),
            taken: 0,
            to_opener: Bytes::new(),
            written: 0,
            consumed: 0,
            heard: now,
            due: None,
            is_finished: false,
            end: None,
            is_told: false,
            is_short: false,
        };
        self.streams.insert(key, stream);
        // Spec v1, L-13.
        self.set_due(key, Some(now + v1::RELAY_ANSWER_TIMEOUT));
    }

    /// A stream goes on with another number, unless the attempt is an old one.
    fn attached(&mut self, id: &StreamId, number: u32, attempt: u32) {
        let Some(key) = self.by_id.get(id).copied() else { return };
        let Some(stream) = self.streams.get_mut(&key) else { return };
        if attempt <= stream.attempt {
            return;
        }
        stream.attempt = attempt;
        self.by_number.remove(&mem::replace(&mut stream.number, number));
        self.by_number.insert(number, key);
    }

    fn consumed(&mut self, number: u32, consumed: u64) {
        let key = self.by_number.get(&number);
        if let Some(stream) = key.and_then(|key| self.streams.get_mut(key)) {
            stream.consumed = stream.consumed.max(consumed);
        }
    }

    /// Does for one stream what has become possible.
    fn settle(&mut self, now: Instant, key: StreamKey, routes: &mut Routes<Waiter>) {
        self.carry_to_opener(now, key, routes);
        let has_read_all = self.carry_to_agent(now, key, routes);
        self.tell_end(now, key, routes);
        if has_read_all && self.endpoint.end(key).is_some() {
            let Some(stream) = self.streams.get(&key) else { return };
            info!(end = ?self.endpoint.end(key), "stream {} ended", stream.id);
            // What it sent before goes to the agent all the same.
            routes.client_finished(now, &stream.v1_id);
            self.forget(now, key);
        }
    }

    /// Carries what the agent sent into the stream, as far as there is room.
    fn carry_to_opener(&mut self, now: Instant, key: StreamKey, routes: &mut Routes<Waiter>) {
        let Some(stream) = self.streams.get_mut(&key) else { return };
        let mut is_answered = false;
        loop {
            while !stream.to_opener.is_empty() {
                match self.endpoint.room(key) {
                    Room::Ready(most) => {
                        let most = most.min(stream.to_opener.len());
                        let part = stream.to_opener.split_to(most);
                        stream.written += part.len() as u64;
                        self.endpoint.write(key, part);
                        routes.client_progress(now, &stream.v1_id);
                    }
                    // The agent waits, for so long (spec v2, ST-6).
                    Room::Full if !routes.is_cut(&stream.v1_id) => return,
                    Room::Full | Room::Over => stream.to_opener = Bytes::new(),
                }
            }
            if stream.end.is_some() {
                break;
            }
            match routes.poll_for_client(&stream.v1_id).0 {
                ForClient::Message(text) => {
                    stream.heard = now;
                    let mut bytes = Vec::new();
                    if data::read_client(&text, &mut bytes).is_some() {
                        stream.to_opener = bytes.into();
                    } else {
                        // The only other message there is.
                        self.endpoint.dialled(now, key);
                        is_answered = true;
                    }
                }
                ForClient::End(end) => stream.end = Some(end),
                ForClient::Nothing => break,
            }
        }
        if is_answered {
            self.set_due(key, None);
        }
    }

    /// Carries what the opener sent to the agent. Whether there is nothing left of it.
    fn carry_to_agent(
        &mut self,
        now: Instant,
        key: StreamKey,
        routes: &mut Routes<Waiter>,
    ) -> bool {
        let Some(stream) = self.streams.get_mut(&key) else { return true };
        // Written to the agent's link (spec v2, ST-2).
        while stream.taken < routes.taken_by_agent(&stream.v1_id)
            && let Some(bytes) = stream.handed.pop_front()
        {
            stream.taken += 1;
            self.endpoint.consumed(now, key, bytes);
        }
        if stream.end.is_some() && !(stream.handed.is_empty() && stream.to_agent.is_empty()) {
            // Nothing can reach the target any more (spec v2, ST-4).
            stream.is_short = true;
            stream.handed.clear();
            stream.to_agent = Bytes::new();
        }
        loop {
            while !stream.to_agent.is_empty() {
                if !routes.client_wants_read(&stream.v1_id) {
                    return false;
                }
                let most = stream.to_agent.len().min(v1::MAX_FORWARDED_CHUNK);
                let chunk = stream.to_agent.split_to(most);
                stream.handed.push_back(chunk.len());
                routes.handle_client_data(now, &stream.v1_id, base64::encode(&chunk).into());
                self.bell.ring();
            }
            match self.endpoint.read(key) {
                Read::Data(_) if stream.end.is_some() => stream.is_short = true,
                Read::Data(bytes) => stream.to_agent = bytes,
                Read::Finished => {
                    let is_written = stream.handed.is_empty() && !stream.is_short;
                    if is_written && !mem::replace(&mut stream.is_finished, true) {
                        self.endpoint.consumed_end(now, key);
                        let due = stream.end.is_none().then(|| now + v2::FINISH_LINGER);
                        self.set_due(key, due);
                    }
                    return true;
                }
                Read::Empty | Read::Over(_) => return true,
            }
        }
    }

    /// The agent has no part in the stream any more: tells the opener, behind all that the agent sent.
    fn tell_end(&mut self, now: Instant, key: StreamKey, routes: &mut Routes<Waiter>) {
        let Some(stream) = self.streams.get_mut(&key) else { return };
        let Some(end) = stream.end.as_ref().filter(|_| stream.to_opener.is_empty()) else { return };
        if !mem::replace(&mut stream.is_told, true) {
            let lost = (Code::NotResumable, v1::REASON_AGENT_LOST.to_owned());
            let (code, message) = match end {
                ClientEnd::Finished => {
                    self.endpoint.finish(key);
                    routes.client_finished(now, &stream.v1_id);
                    return self.answer_short(now, key);
                }
                ClientEnd::Refused(text) => {
                    let text = text.strip_prefix(v1::ERROR_INITIATE_PREFIX).unwrap_or(text);
                    match text {
                        v1::REASON_AGENT_LOST => lost,
                        _ => (code_of(text), text.to_owned()),
                    }
                }
                ClientEnd::TargetReset(text) => (Code::PeerReset, text.clone()),
                ClientEnd::AgentLost | ClientEnd::RelayStops => lost,
                ClientEnd::Stalled => {
                    (Code::Overloaded, "the stream took nothing for too long".to_owned())
                }
            };
            self.endpoint.break_off(now, key, code, &message);
            routes.client_finished(now, &stream.v1_id);
        }
        self.answer_short(now, key);
    }

    /// Bytes that did not reach the agent are answered once the opener has everything of the target's (spec v2, ST-4).
    fn answer_short(&mut self, now: Instant, key: StreamKey) {
        if let Some(stream) = self.streams.get(&key)
            && stream.is_short
            && stream.consumed > stream.written
        {
            let text = "the target closed the connection";
            self.endpoint.reset(now, key, Code::PeerReset, text);
        }
    }

    /// The opener has finished: has the agent's stream been silent long enough (spec v2, ST-5)?
    fn end_of_silence(&mut self, now: Instant, key: StreamKey, routes: &mut Routes<Waiter>) {
        let Some(stream) = self.streams.get(&key) else { return };
        let silent_at = stream.heard + v2::FINISH_LINGER;
        if !stream.to_opener.is_empty() || now < silent_at {
            let due = silent_at.max(now + v2::FINISH_LINGER / 10);
            return self.set_due(key, Some(due));
        }
        routes.client_finished(now, &stream.v1_id);
        let text = "the agent has no half-close, and said nothing more";
        self.endpoint.reset(now, key, Code::ProtocolUnsupported, text);
    }

    fn set_due(&mut self, key: StreamKey, due: Option<Instant>) {
        let Some(stream) = self.streams.get_mut(&key) else { return };
        if let Some(before) = mem::replace(&mut stream.due, due) {
            self.timers.remove(&(before, key));
        }
        if let Some(due) = due {
            self.timers.insert((due, key));
        }
    }

    fn forget(&mut self, now: Instant, key: StreamKey) {
        self.set_due(key, None);
        self.endpoint.release(now, key);
        if let Some(stream) = self.streams.remove(&key) {
            self.by_id.remove(&stream.id);
            self.by_number.remove(&stream.number);
        }
    }
}

/// The number that a message bears, if it is of a stream.
fn number(message: &Control) -> Option<u32> {
    match message {
        Control::Credit(message) => Some(message.stream),
        Control::Finish(message) => Some(message.stream),
        Control::Reset(message) => Some(message.stream),
        Control::Done(message) => Some(message.stream),
        Control::Interrupted(message) => Some(message.stream),
        _ => None,
    }
}
