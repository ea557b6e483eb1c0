//! The streams of one agent link, each between that link and a client's: sans-IO.
//!
//! Ids belong to the link whose relay made them: an agent can name only streams that were
//! opened towards it. The payload is never decoded: base64 text is checked and copied across.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use codec::DecodeError;
use codec::v1::{
    self, AgentToRelay, ClientStart, ConnectionClose, ErrorMessage, InitiateConnection, KeepAlive,
    RelayToAgent, RelayToClient, StartOk, base64, data,
};
use mux::{Outbound, Patience, Wake};

use crate::large::{Budget, PIECE, Pieces};

/// Why a client's stream ended, in the terms of spec v1, X-18.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientEnd {
    /// The stream was never open; the text is for the client's `error`.
    Refused(String),
    /// The agent ended the stream cleanly.
    Finished,
    /// The agent reports that the stream broke; its words.
    TargetReset(String),
    /// The agent's link ended.
    AgentLost,
    /// The agent's link ended because this relay stops.
    RelayStops,
    /// One side took nothing for too long.
    Stalled,
}

/// What [`Routes::poll_for_client`] gives.
#[derive(Debug, PartialEq, Eq)]
pub enum ForClient {
    /// Send this message.
    Message(String),
    /// Everything is sent; close the link in this way.
    End(ClientEnd),
    /// Nothing now; the client's side is woken when there is.
    Nothing,
}

/// Numbers that bound one agent link.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Bytes that may wait per stream and direction (one message more may).
    pub queue_bytes: usize,
    /// How long a client may take nothing while the agent's link waits for it, and the other
    /// way round.
    pub stall_timeout: Duration,
    /// How often the agent gets a `keep_alive`; never if none.
    pub keep_alive_interval: Option<Duration>,
    /// Whether this agent knows `connection_close`.
    pub sends_connection_close: bool,
    /// Streams at once.
    pub max_streams: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            queue_bytes: v1::STREAM_QUEUE,
            stall_timeout: v1::STALL_TIMEOUT,
            keep_alive_interval: Some(v1::RELAY_KEEP_ALIVE_INTERVAL),
            sends_connection_close: true,
            max_streams: 16_384,
        }
    }
}

/// The streams of one agent link.
///
/// Driven from two sides, each call one step:
/// - the agent's link: [`handle_text`](Self::handle_text), [`wants_read`](Self::wants_read),
///   [`poll_transmit`](Self::poll_transmit), [`progress`](Self::progress),
///   [`poll_timeout`](Self::poll_timeout), [`handle_timeout`](Self::handle_timeout),
///   [`agent_lost`](Self::agent_lost);
/// - the clients' links: [`open`](Self::open), [`handle_client_data`](Self::handle_client_data),
///   [`client_wants_read`](Self::client_wants_read), [`poll_for_client`](Self::poll_for_client),
///   [`client_progress`](Self::client_progress), [`cut`](Self::cut),
///   [`client_finished`](Self::client_finished). After any of these but the getters, wake the
///   agent's driver.
///
/// ```text
///  open ─▶ dialling ── ok ──▶ open ── connection_reset, agent lost ──▶ agent done ─▶ client
///             │ error, reset, agent lost                                   ▲          gets its end
///             └────────────────────────────────────────────────────────────┘
///  client_finished: what it sent goes out, then connection_close (once)
/// ```
#[derive(Debug)]
pub struct Routes<W> {
    settings: Settings,
    budget: Budget,
    routes: HashMap<Arc<str>, Route<W>>,
    /// Messages for the agent that go before data.
    control: VecDeque<String>,
    /// Routes with messages for the agent, in turn; each at most once.
    turns: VecDeque<Arc<str>>,
    /// The agent's message that did not fit its client's queue.
    paused: Option<Paused>,
    patience: Patience,
    /// Streams whose clients left data behind and no answer yet, by when they are given up.
    left_behind: VecDeque<(Instant, Arc<str>)>,
    /// When the agent's link last took bytes.
    agent_progress: Instant,
    next_keep_alive: Option<Instant>,
    lost: bool,
}

#[derive(Debug)]
struct Route<W> {
    phase: Phase,
    /// Messages for the agent; they wait for its answer.
    to_agent: Outbound,
    /// The rest of the client's message that did not fit `to_agent`, and since when.
    client_paused: Option<(Pieces, Instant)>,
    to_client: Outbound,
    /// When the client last took bytes, or had taken all and new ones came.
    client_took: Instant,
    /// `start_ok` is to go before anything in `to_client`.
    start_ok_due: bool,
    /// The client is gone.
    client_finished: bool,
    client: W,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    Dialling,
    Open,
    /// The agent has no part in the stream any more.
    AgentDone(ClientEnd),
}

#[derive(Debug)]
struct Paused {
    id: Arc<str>,
    rest: Pieces,
    /// Since when the agent's link is not read for it.
    since: Instant,
}

/// Requests that may wait for an agent that takes none before further clients are refused.
const MAX_CONTROL: usize = 4096;

/// The payload of a data message in the one spelling that may be copied across.
///
/// # Errors
/// The text cannot be decoded at all.
pub fn canonical(text: &str) -> Result<Cow<'_, str>, base64::Base64Error> {
    if base64::is_canonical(text) {
        return Ok(text.into());
    }
    let mut bytes = Vec::new();
    base64::decode_append(text, &mut bytes)?;
    Ok(base64::encode(&bytes).into())
}

impl<W: Wake> Routes<W> {
    /// A link with no streams. All links of a relay share one budget.
    pub fn new(now: Instant, settings: Settings, budget: Budget) -> Self {
        Self {
            budget,
            routes: HashMap::new(),
            control: VecDeque::new(),
            turns: VecDeque::new(),
            paused: None,
            patience: Patience::new(now, settings.stall_timeout),
            left_behind: VecDeque::new(),
            agent_progress: now,
            next_keep_alive: settings.keep_alive_interval.map(|interval| now + interval),
            lost: false,
            settings,
        }
    }

    /// How many streams there are, open or not.
    pub fn stream_count(&self) -> usize {
        self.routes.len()
    }

    // --- the clients' side -----------------------------------------------------------------

    /// Asks the agent for the target that `start` names. `id` must be new on this link; `client`
    /// is woken when [`Self::poll_for_client`] may have something.
    pub fn open(&mut self, now: Instant, id: Arc<str>, start: ClientStart, client: W) {
        // Limits of our own among them (spec v1, C-17).
        let refusal = if self.lost {
            Some("agent disconnected")
        } else if self.routes.len() >= self.settings.max_streams {
            Some("the agent has too many open streams")
        } else if self.control.len() >= MAX_CONTROL {
            Some("the agent takes no requests at the moment")
        } else {
            None
        };
        let phase = match refusal {
            Some(text) => Phase::AgentDone(refused(text)),
            None => Phase::Dialling,
        };
        // Spec v1, S-1.
        if refusal.is_none() {
            self.send(&RelayToAgent::InitiateConnection(InitiateConnection {
                target_ip: start.target_ip,
                target_port: start.target_port,
                protocol: start.protocol,
                connection_id: id.to_string(),
            }));
        }
        let route = Route {
            phase,
            to_agent: Outbound::new(self.settings.queue_bytes),
            client_paused: None,
            to_client: Outbound::new(self.settings.queue_bytes),
            client_took: now,
            start_ok_due: false,
            client_finished: false,
            client,
        };
        self.routes.insert(id, route);
    }

    /// Takes the payload of a client's data message: [`canonical`] base64.
    pub fn handle_client_data(&mut self, now: Instant, id: &str, text: Cow<'_, str>) {
        debug_assert!(base64::is_canonical(&text), "the client's session has checked the text");
        let Some((id, _)) = self.routes.get_key_value(id) else { return };
        let id = id.clone();
        let Some(route) = self.routes.get_mut(&id) else { return };
        if let Phase::AgentDone(_) = route.phase {
            return;
        }
        if route.to_agent.is_empty() && route.phase == Phase::Open {
            self.turns.push_back(id.clone());
        }
        if text.len() <= PIECE && route.to_agent.has_room() {
            route.to_agent.push(data::wrap_agent(&id, &text));
        } else {
            let Some(pieces) = Pieces::new(text, &self.budget) else {
                return self.cut(&id, ClientEnd::Stalled);
            };
            route.client_paused = Some((pieces, now));
            route.refill_to_agent(&id, now);
        }
    }

    /// Whether the client's link should be read.
    /// Spec v1, L-8.
    pub fn client_wants_read(&self, id: &str) -> bool {
        self.routes.get(id).is_none_or(|route| route.client_paused.is_none())
    }

    /// When the client's stream counts as stalled, unless its agent takes something before. Not while the agent dials:
    /// the data then waits for the answer, which has a time-out of its own.
    /// Spec v1, L-16, C-9 and L-13.
    pub fn client_stalled_at(&self, id: &str) -> Option<Instant> {
        let route = self.routes.get(id).filter(|route| route.phase != Phase::Dialling)?;
        let (_, since) = route.client_paused.as_ref()?;
        Some((*since).max(self.agent_progress) + self.settings.stall_timeout)
    }

    /// Whether the agent has answered or will not answer any more.
    pub fn is_answered(&self, id: &str) -> bool {
        self.routes.get(id).is_none_or(|route| route.phase != Phase::Dialling)
    }

    /// Whether the stream was ended without regard to what the client had still to get.
    pub fn is_cut(&self, id: &str) -> bool {
        self.routes.get(id).is_some_and(|route| {
            matches!(route.phase, Phase::AgentDone(ClientEnd::Stalled))
                && route.to_client.is_empty()
        })
    }

    /// The next thing to send to a client. The flag tells that the agent's link may read on.
    pub fn poll_for_client(&mut self, id: &str) -> (ForClient, bool) {
        let Some(route) = self.routes.get_mut(id) else { return (ForClient::Nothing, false) };
        if let Phase::Dialling = route.phase {
            return (ForClient::Nothing, false);
        }
        // The answer, before all data and without a name for the stream (spec v1, C-4 and C-5).
        if std::mem::take(&mut route.start_ok_due) {
            let message = v1::encode(&RelayToClient::StartOk(StartOk {}));
            return (ForClient::Message(message), false);
        }
        if let Some(message) = route.to_client.pop() {
            let resumed = self.refill_to_client(id);
            return (ForClient::Message(message), resumed);
        }
        match &route.phase {
            Phase::AgentDone(end) => (ForClient::End(end.clone()), false),
            _ => (ForClient::Nothing, false),
        }
    }

    /// The client's link took bytes, though slowly: its stream is not stalled.
    pub fn client_progress(&mut self, now: Instant, id: &str) {
        if let Some(route) = self.routes.get_mut(id) {
            route.client_took = now;
        }
    }

    /// Ends a stream from the relay's own will: queued data is dropped, the agent is told, the
    /// client finds `end`.
    pub fn cut(&mut self, id: &str, end: ClientEnd) {
        let Some(route) = self.routes.get_mut(id) else { return };
        if let Phase::AgentDone(_) = route.phase {
            return;
        }
        route.start_ok_due = false;
        route.to_client.clear();
        self.agent_done(id, end, true);
        self.unpause(id);
    }

    /// The client's link is over. What it sent still goes to the agent, then `connection_close`.
    /// Spec v1, X-12.
    pub fn client_finished(&mut self, now: Instant, id: &str) {
        self.unpause(id);
        let Some((key, _)) = self.routes.get_key_value(id) else { return };
        let key = key.clone();
        let Some(route) = self.routes.get_mut(id) else { return };
        route.client_finished = true;
        route.to_client.clear();
        let idle = route.to_agent.is_empty() && route.client_paused.is_none();
        match route.phase {
            Phase::AgentDone(_) => {
                self.routes.remove(id);
            }
            Phase::Dialling | Phase::Open if idle => {
                self.routes.remove(id);
                self.send_connection_close(id);
            }
            // Sent by `poll_transmit` behind the last data, which may wait for the agent's answer.
            Phase::Dialling => self.left_behind.push_back((now + v1::RELAY_ANSWER_TIMEOUT, key)),
            Phase::Open => {}
        }
    }

    // --- the agent's side ------------------------------------------------------------------

    /// Takes one message of the agent.
    ///
    /// # Errors
    /// The text is no message of an agent: the link is to be closed (spec v1, M-10).
    pub fn handle_text(&mut self, now: Instant, text: &str) -> Result<(), DecodeError> {
        if let Some(frame) = data::scan_agent(text) {
            self.handle_agent_data(now, frame.connection_id, frame.base64.into());
            return Ok(());
        }
        match v1::decode::<AgentToRelay>(text)? {
            AgentToRelay::TcpData(message) => {
                match canonical(&message.data_base64) {
                    Ok(text) => self.handle_agent_data(now, &message.connection_id, text),
                    // Bytes are missing from here on, so the stream must not go on (spec v1,
                    // S-16).
                    Err(_) => {
                        let end = ClientEnd::TargetReset("the agent sent no base64".into());
                        self.agent_done(&message.connection_id, end, true);
                    }
                }
            }
            AgentToRelay::InitiateConnectionOk(message) => {
                self.handle_opened(now, &message.connection_id);
            }
            AgentToRelay::InitiateConnectionError(message) => {
                if !self.is_answered(&message.connection_id) {
                    let text = cut_text(&message.message);
                    self.agent_done(&message.connection_id, refused(text), false);
                }
            }
            AgentToRelay::ConnectionReset(message) => {
                let end = if !self.is_answered(&message.connection_id) {
                    refused(cut_text(&message.message))
                } else if message.message == v1::TARGET_CLOSED_MESSAGE {
                    ClientEnd::Finished
                } else {
                    ClientEnd::TargetReset(cut_text(&message.message).to_owned())
                };
                self.agent_done(&message.connection_id, end, true);
            }
            // Repeated starts were the keep-alives of one revision (spec v1, R-9).
            // Nor does a keep-alive ask for anything (spec v1, A-10 and K-6).
            AgentToRelay::Start(_) | AgentToRelay::KeepAlive(_) => {}
        }
        Ok(())
    }

    /// The target is connected (spec v1, S-4).
    fn handle_opened(&mut self, now: Instant, id: &str) {
        let Some((key, _)) = self.routes.get_key_value(id) else { return };
        let key = key.clone();
        let Some(route) = self.routes.get_mut(id) else { return };
        // A second answer, or one too late (spec v1, S-15).
        if route.phase != Phase::Dialling {
            return;
        }
        route.phase = Phase::Open;
        route.start_ok_due = true;
        if let Some((_, since)) = &mut route.client_paused {
            *since = now;
        }
        route.client.wake();
        if !route.to_agent.is_empty() {
            self.turns.push_back(key);
        }
    }

    fn handle_agent_data(&mut self, now: Instant, id: &str, text: Cow<'_, str>) {
        // Spec v1, S-13.
        // Unknown ids crossed the end of their stream, or were never ours: no fault, no answer.
        let Some((key, route)) = self.routes.get_key_value(id) else { return };
        if route.client_finished || matches!(route.phase, Phase::AgentDone(_)) {
            return;
        }
        let key = key.clone();
        let Some(route) = self.routes.get_mut(id) else { return };
        if text.is_empty() {
            return;
        }
        if route.to_client.is_empty() {
            route.client_took = now;
        }
        if text.len() <= PIECE && route.to_client.has_room() {
            route.to_client.push(data::wrap_client(&text));
            route.client.wake();
        } else {
            let Some(rest) = Pieces::new(text, &self.budget) else {
                return self.cut(&key, ClientEnd::Stalled);
            };
            self.paused = Some(Paused { id: key, rest, since: now });
            self.refill_to_client(id);
        }
    }

    /// Whether the agent's link should be read: no client's queue is full.
    /// Never for longer than one stream may stall (spec v1, S-17, L-9 and K-4).
    pub fn wants_read(&self) -> bool {
        self.paused.is_none()
    }

    /// The agent's link took bytes.
    pub fn progress(&mut self, now: Instant) {
        self.agent_progress = now;
    }

    /// The next message for the agent.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<String> {
        if let Some(message) = self.control.pop_front() {
            return Some(message);
        }
        while let Some(id) = self.turns.pop_front() {
            let Some(route) = self.routes.get_mut(&id) else { continue };
            let Some(message) = route.to_agent.pop() else { continue };
            if route.client_paused.is_some() {
                route.refill_to_agent(&id, now);
                if route.client_paused.is_none() {
                    route.client.wake();
                }
            }
            if !route.to_agent.is_empty() {
                self.turns.push_back(id);
            } else if route.client_finished {
                self.routes.remove(&id);
                self.send_connection_close(&id);
            }
            return Some(message);
        }
        None
    }

    /// When [`Self::handle_timeout`] wants to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let stalled = self.stall().map(|(_, _, due)| due);
        let left_behind = self.left_behind.front().map(|(due, _)| *due);
        [stalled, left_behind, self.next_keep_alive].into_iter().flatten().min()
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let Some((id, since, due)) = self.stall()
            && now >= due
        {
            self.patience.give_up(now, since);
            self.cut(&id, ClientEnd::Stalled);
        }
        while let Some((due, id)) = self.left_behind.front().cloned()
            && now >= due
        {
            self.left_behind.pop_front();
            if !self.is_answered(&id) {
                self.agent_done(&id, refused(v1::ERROR_NO_ANSWER), true);
            }
        }
        if let (Some(due), Some(interval)) =
            (self.next_keep_alive, self.settings.keep_alive_interval)
            && now >= due
        {
            self.next_keep_alive = Some(now + interval);
            self.send(&RelayToAgent::KeepAlive(KeepAlive {}));
        }
    }

    /// The agent's link is over: its clients get what it sent, then the end. `stops` tells that all links of the relay
    /// come to their end.
    pub fn agent_lost(&mut self, stops: bool) {
        self.lost = true;
        let ids: Vec<_> = self.routes.keys().cloned().collect();
        for id in ids {
            let end = if stops {
                ClientEnd::RelayStops
            } else if self.is_answered(&id) {
                ClientEnd::AgentLost
            } else {
                refused("agent disconnected")
            };
            self.agent_done(&id, end, false);
        }
        self.control.clear();
        self.turns.clear();
    }

    // --- private ---------------------------------------------------------------------------

    /// Ends the agent's part in a stream. With `tell`, the agent gets its `connection_close`.
    fn agent_done(&mut self, id: &str, end: ClientEnd, tell: bool) {
        let Some(route) = self.routes.get_mut(id) else { return };
        if let Phase::AgentDone(_) = route.phase {
            return;
        }
        if let ClientEnd::Refused(_) = end {
            route.to_client.clear();
        }
        route.phase = Phase::AgentDone(end);
        route.to_agent.clear();
        route.client_paused = None;
        route.client.wake();
        if route.client_finished {
            self.routes.remove(id);
        }
        if tell {
            self.send_connection_close(id);
        }
    }

    /// The stream that the agent's link is not read for, since when it has taken nothing, and when that has lasted too
    /// long.
    fn stall(&self) -> Option<(Arc<str>, Instant, Instant)> {
        let paused = self.paused.as_ref()?;
        let took = self.routes.get(&paused.id)?.client_took;
        let due = self.patience.deadline(paused.since, took);
        Some((paused.id.clone(), paused.since.max(took), due))
    }

    /// Moves what did not fit into a client's queue. Tells whether the agent's link may read on.
    fn refill_to_client(&mut self, id: &str) -> bool {
        let Some(paused) = &mut self.paused else { return false };
        let Some(route) = self.routes.get_mut(id).filter(|_| &*paused.id == id) else {
            return false;
        };
        while route.to_client.has_room()
            && let Some(piece) = paused.rest.next()
        {
            route.to_client.push(data::wrap_client(piece));
            route.client.wake();
        }
        let done = paused.rest.is_done();
        if done {
            self.paused = None;
        }
        done
    }

    fn unpause(&mut self, id: &str) {
        if self.paused.as_ref().is_some_and(|paused| &*paused.id == id) {
            self.paused = None;
        }
    }

    /// Once for each stream; never to agents that may not know it (spec v1, X-7 and X-8).
    fn send_connection_close(&mut self, id: &str) {
        if self.settings.sends_connection_close && !self.lost {
            self.send(&RelayToAgent::ConnectionClose(ConnectionClose {
                message: v1::CONNECTION_CLOSE_MESSAGE.into(),
                connection_id: id.to_owned(),
            }));
        }
    }

    fn send(&mut self, message: &RelayToAgent) {
        self.control.push_back(v1::encode(message));
    }
}

impl<W: Wake> Route<W> {
    /// Moves what did not fit into the agent's queue.
    fn refill_to_agent(&mut self, id: &str, now: Instant) {
        let Some((pieces, since)) = &mut self.client_paused else { return };
        *since = now;
        while self.to_agent.has_room()
            && let Some(piece) = pieces.next()
        {
            self.to_agent.push(data::wrap_agent(id, piece));
        }
        if pieces.is_done() {
            self.client_paused = None;
        }
    }
}

fn refused(text: &str) -> ClientEnd {
    ClientEnd::Refused(format!("{}{text}", v1::ERROR_INITIATE_PREFIX))
}

/// As much of an agent's text as is passed on (spec v1, L-3): a client takes no message of any length.
fn cut_text(text: &str) -> &str {
    let mut end = text.len().min(v1::MAX_ERROR_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// The `error` that goes before the close of a refused client.
pub fn error_message(text: &str) -> String {
    v1::encode(&RelayToClient::Error(ErrorMessage { message: text.to_owned() }))
}

#[cfg(test)]
#[path = "routes_tests.rs"]
mod tests;
