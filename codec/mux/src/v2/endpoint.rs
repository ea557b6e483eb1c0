//! The streams of one party.

mod attach;
mod census;
mod fingerprint;
mod peer;
#[cfg(test)]
mod reject_tests;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use codec::v2::{Code, Control, Credit, Custom, Finish, Opened, Reset};

use super::link::{Link, LinkState};
use super::memory::{Memory, Remembered};
use super::recv::{Position, RecvHalf};
use super::send::SendHalf;
use super::stream::{Flow, Phase, Stream, Times};
use super::{
    Ask, Budget, Event, LinkKey, Read, Room, Settings, Side, StreamEnd, StreamId, StreamKey,
    Transmit, Window,
};
use crate::Wake;

pub use census::Census;

/// The streams of one party and the links that it has for them: sans-IO.
///
/// - Getters: [`stream_count`](Self::stream_count), [`interrupted_count`](Self::interrupted_count),
///   [`wants_read`](Self::wants_read), [`room`](Self::room), [`end`](Self::end), [`is_idle`](Self::is_idle), [`has_usable_link`](Self::has_usable_link),
///   [`census`](Self::census).
/// - From the peer and the clock: [`connect`](Self::connect), [`handle_control`](Self::handle_control),
///   [`handle_data`](Self::handle_data), [`link_lost`](Self::link_lost), [`handle_timeout`](Self::handle_timeout),
///   [`give_up_waiting`](Self::give_up_waiting).
/// - From the owners of streams: [`open`](Self::open), [`dialled`](Self::dialled), [`write`](Self::write),
///   [`finish`](Self::finish), [`read`](Self::read), [`consumed`](Self::consumed),
///   [`consumed_end`](Self::consumed_end), [`reset`](Self::reset), [`release`](Self::release).
/// - Out: [`poll_transmit`](Self::poll_transmit) until it has nothing, [`poll_event`](Self::poll_event) likewise,
///   [`poll_timeout`](Self::poll_timeout).
///
/// Whoever has to do something because of a call is woken: the driver of a link, the owner of the endpoint, the reader or
/// the writer of a stream.
///
/// Memory: a stream holds at most its two windows, of which the peer sets one and [`Settings`] the other.
#[derive(Clone, Debug)]
pub struct Endpoint<W> {
    side: Side,
    settings: Settings,
    streams: BTreeMap<StreamKey, Stream<W>>,
    /// Streams that are not over, by id (acceptors).
    by_id: HashMap<StreamId, StreamKey>,
    links: BTreeMap<LinkKey, Link<W>>,
    /// When something is due, and for which stream.
    timers: BTreeSet<(Instant, StreamKey)>,
    events: VecDeque<Event<W>>,
    memory: Memory,
    budget: Budget,
    next_key: u64,
    random: fastrand::Rng,
    /// How long a stream waits for a link: no longer than its relay allows.
    resume_for: Duration,
    is_shut_down: bool,
    /// Woken when there are events, or another time is due first.
    owner: W,
}

impl<W: Wake + Clone + Default> Endpoint<W> {
    /// A party without streams or links. `seed` decides the jitter of its attempts and nothing else. `owner` is woken
    /// when [`Self::poll_event`] or [`Self::poll_timeout`] may answer otherwise than before.
    pub fn new(now: Instant, side: Side, settings: Settings, seed: u64, owner: W) -> Self {
        Self {
            side,
            streams: BTreeMap::new(),
            by_id: HashMap::new(),
            links: BTreeMap::new(),
            timers: BTreeSet::new(),
            events: VecDeque::new(),
            memory: Memory::new(now),
            budget: Budget::new(settings.window_budget),
            next_key: 0,
            random: fastrand::Rng::with_seed(seed),
            resume_for: settings.resume_for,
            is_shut_down: false,
            settings,
            owner,
        }
    }

    // --- getters -----------------------------------------------------------------------------

    /// How many streams there are, those that are over but not released included.
    pub fn stream_count(&self) -> usize {
        self.streams.len()
    }

    /// Whether a link should be read: its peer takes what we answer.
    pub fn wants_read(&self, link: LinkKey) -> bool {
        self.links.get(&link).is_none_or(Link::wants_read)
    }

    /// Whether no stream is attached to a link.
    pub fn is_idle(&self, link: LinkKey) -> bool {
        self.links.get(&link).is_none_or(|link| link.numbers.is_empty())
    }

    /// Whether there is a link on which a stream may be opened.
    pub fn has_usable_link(&self) -> bool {
        self.links.values().any(Link::is_usable)
    }

    /// How many streams were interrupted and do not go on yet.
    pub fn interrupted_count(&self) -> usize {
        let waits = |stream: &&Stream<W>| stream.is_interrupted && !stream.is_over();
        self.streams.values().filter(waits).count()
    }

    /// How a stream ended, if it has; none for one that was released.
    pub fn end(&self, key: StreamKey) -> Option<&StreamEnd> {
        match &self.streams.get(&key)?.phase {
            Phase::Over(end) => Some(end),
            Phase::Opening | Phase::Open => None,
        }
    }

    /// Whether [`Self::write`] may be called, and with how much.
    pub fn room(&self, key: StreamKey) -> Room {
        let Some(stream) = self.streams.get(&key) else { return Room::Over };
        if stream.is_over() || stream.send.is_finished() || stream.breaks_off.is_some() {
            return Room::Over;
        }
        if stream.has_lost_link() {
            // What it keeps is counted (spec v2, FL-12), and is to stay what it was.
            return Room::Full;
        }
        let room = stream.send.room(self.settings.max_window);
        match usize::try_from(room).unwrap_or(usize::MAX) {
            0 => Room::Full,
            bytes => Room::Ready(bytes),
        }
    }

    // --- from the owners of streams ----------------------------------------------------------

    /// Asks for a stream (openers). It is attached to the best link there is, or to the next one that comes up.
    ///
    /// `id` must be new and random. The two wakers are the stream's reader and writer.
    pub fn open(&mut self, now: Instant, id: StreamId, ask: Ask, wakers: (W, W)) -> StreamKey {
        debug_assert_eq!(self.side, Side::Opener, "only the side nearer the client opens");
        let send = SendHalf::new(codec::v2::EARLY_DATA);
        let window = self.first_window();
        let recv = RecvHalf::new(0, window.unwrap_or_default());
        let key = self.insert(id, ask, send, recv, wakers);
        if window.is_some() {
            self.attempt(now, key);
        } else {
            let message = "too many streams for this machine's memory".to_owned();
            self.end_stream(key, StreamEnd::Refused { code: Code::Overloaded, message });
        }
        key
    }

    /// The target of a stream is connected (acceptors).
    pub fn dialled(&mut self, now: Instant, key: StreamKey) {
        let Some(stream) = self.streams.get_mut(&key) else { return };
        if stream.phase != Phase::Opening {
            return;
        }
        stream.phase = Phase::Open;
        self.say_opened(now, key);
    }

    /// Appends bytes to a stream: at most what [`Self::room`] said. For a stream that is over they are dropped.
    pub fn write(&mut self, key: StreamKey, bytes: Bytes) {
        let Some(stream) = self.streams.get_mut(&key) else { return };
        if !stream.is_over() && !stream.send.is_finished() {
            stream.send.write(bytes);
            self.join_line(key);
        }
    }

    /// No more bytes will be written to a stream.
    pub fn finish(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get_mut(&key) else { return };
        if !stream.is_over() {
            stream.send.finish();
            self.join_line(key);
        }
    }

    /// Takes what arrived for a stream.
    pub fn read(&mut self, key: StreamKey) -> Read {
        let Some(stream) = self.streams.get_mut(&key) else {
            return Read::Over(StreamEnd::Local { code: Code::Internal });
        };
        if let Some(bytes) = stream.recv.read() {
            return Read::Data(bytes);
        }
        match &stream.phase {
            // What came before is whole, whatever ended the stream afterwards.
            _ if stream.recv.is_finished() && !stream.recv.is_complete() => Read::Finished,
            Phase::Over(end) => Read::Over(end.clone()),
            Phase::Opening | Phase::Open => Read::Empty,
        }
    }

    /// So many bytes of what was read are handed on for good.
    pub fn consumed(&mut self, now: Instant, key: StreamKey, bytes: usize) {
        let Some(stream) = self.streams.get_mut(&key) else { return };
        stream.recv.consume(bytes as u64);
        self.after_consuming(now, key);
    }

    /// The end, too: the target's or the output's write side is shut down.
    pub fn consumed_end(&mut self, now: Instant, key: StreamKey) {
        let Some(stream) = self.streams.get_mut(&key) else { return };
        if stream.recv.is_finished() && !stream.recv.is_complete() {
            stream.recv.consume_end();
            self.after_consuming(now, key);
        }
    }

    /// Ends a stream both ways. What was received stays readable; what was written and not sent is dropped.
    pub fn reset(&mut self, now: Instant, key: StreamKey, code: Code, message: &str) {
        let Some(stream) = self.streams.get(&key) else { return };
        if stream.is_over() {
            return;
        }
        self.say_reset(key, code, message);
        let remembered = (self.side == Side::Acceptor).then(|| (code, message.to_owned()));
        self.remember(now, key, remembered);
        self.end_stream(key, StreamEnd::Local { code });
    }

    /// As [`Self::reset`], but behind everything that was written: what a target sent before it broke the connection
    /// off still arrives (spec v2, EN-6).
    pub fn break_off(&mut self, now: Instant, key: StreamKey, code: Code, message: &str) {
        let Some(stream) = self.streams.get_mut(&key) else { return };
        if stream.is_over() || !stream.send.has_unsent() {
            return self.reset(now, key, code, message);
        }
        stream.breaks_off = Some((code, message.to_owned()));
        stream.reader.wake();
        stream.writer.wake();
        self.join_line(key);
    }

    /// The owner is done with a stream, in whatever way. One that is not over is reset.
    pub fn release(&mut self, now: Instant, key: StreamKey) {
        self.reset(now, key, Code::PeerReset, "given up");
        if let Some(stream) = self.streams.remove(&key) {
            self.budget.take_back(stream.recv.window());
        }
    }

    /// Ends all streams with a code, and takes no more. Once everything is sent, [`Self::is_drained`] says so.
    pub fn shut_down(&mut self, now: Instant, code: Code, message: &str) {
        self.is_shut_down = true;
        let keys: Vec<StreamKey> = self.streams.keys().copied().collect();
        for key in keys {
            self.reset(now, key, code, message);
        }
        self.wake_links();
    }

    /// Has the drivers of all links look again.
    pub fn wake_links(&self) {
        for link in self.links.values() {
            link.driver.wake();
        }
    }

    /// Whether a link can be closed: everything is sent, and the endpoint is shut down, or the relay wants the link to
    /// end, no stream is attached there, and there is another.
    pub fn is_drained(&self, link: LinkKey) -> bool {
        let Some(link) = self.links.get(&link) else { return true };
        let is_left = link.state == LinkState::Draining
            && link.numbers.is_empty()
            && self.links.values().any(|link| link.state == LinkState::Ready);
        link.control.is_empty() && (self.is_shut_down || is_left)
    }

    /// Sends a message for the program that embeds the peer. `false` if the link is gone or takes no more.
    pub fn send_custom(&mut self, link: LinkKey, name: String, body: serde_json::Value) -> bool {
        let Some(link) = self.links.get_mut(&link).filter(|link| link.wants_read()) else {
            return false;
        };
        link.say(Control::Custom(Custom { name, body }));
        true
    }

    // --- out ---------------------------------------------------------------------------------

    /// The next thing to send on a link.
    pub fn poll_transmit(&mut self, now: Instant, link_key: LinkKey) -> Option<Transmit> {
        let link = self.links.get_mut(&link_key)?;
        if let Some(message) = link.poll_control() {
            return Some(Transmit::Control(message));
        }
        if !link.control.is_empty() {
            // It waits for `welcome`, and what belongs to it must not go ahead.
            return None;
        }
        while let Some(key) = link.credits.pop_front() {
            let Some(stream) = self.streams.get_mut(&key) else { continue };
            stream.in_credits = false;
            let Some(at) = stream.attachment.filter(|at| at.link == link_key) else { continue };
            let Position { consumed, limit, .. } = stream.recv.position();
            let credit = Credit { stream: at.number, consumed, limit };
            return Some(Transmit::Control(Control::Credit(credit)));
        }
        while let Some(key) = link.turns.next() {
            let sending = self.streams.get_mut(&key).and_then(|stream| {
                let at = stream.attachment.filter(|at| at.link == link_key)?;
                stream.may_send().then_some((stream, at.number))
            });
            let Some((stream, number)) = sending else {
                if link.turns.ran_dry()
                    && let Some(stream) = self.streams.get_mut(&key)
                {
                    stream.in_line = false;
                }
                continue;
            };
            let room = link.frame_room();
            if room == 0 {
                // Waits for `welcome`.
                return None;
            }
            if let Some(payload) = stream.send.take(room) {
                link.sent(payload.len());
                return Some(Transmit::Data { stream: number, payload });
            }
            if let Some((code, message)) = stream.breaks_off.take() {
                self.reset(now, key, code, &message);
                return self.poll_transmit(now, link_key);
            }
            if let Some(offset) = stream.send.next_finish() {
                let finish = Control::Finish(Finish { stream: number, offset });
                if !link.may_say(&finish) {
                    // Waits for `welcome`.
                    return None;
                }
                stream.send.finish_sent();
                link.turns.sent(0);
                return Some(Transmit::Control(finish));
            }
        }
        None
    }

    /// What happened.
    pub fn poll_event(&mut self) -> Option<Event<W>> {
        self.events.pop_front()
    }

    /// When [`Self::handle_timeout`] wants to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(due, _)| *due)
    }

    // --- private -----------------------------------------------------------------------------

    fn first_window(&mut self) -> Option<Window> {
        let first = self.settings.first_window.min(self.settings.max_window);
        Window::new(first, &mut self.budget)
    }

    fn insert(
        &mut self,
        id: StreamId,
        ask: Ask,
        send: SendHalf,
        recv: RecvHalf,
        (reader, writer): (W, W),
    ) -> StreamKey {
        let key = StreamKey(self.next_key);
        self.next_key += 1;
        if self.side == Side::Acceptor {
            self.by_id.insert(id.clone(), key);
        }
        let stream = Stream {
            id,
            ask,
            phase: Phase::Opening,
            attempt: 0,
            attachment: None,
            send,
            recv,
            breaks_off: None,
            in_line: false,
            in_credits: false,
            is_interrupted: false,
            times: Times::default(),
            reader,
            writer,
        };
        self.streams.insert(key, stream);
        key
    }

    /// Tells the opener that the stream is connected, and where it stands.
    fn say_opened(&mut self, now: Instant, key: StreamKey) {
        let Some(stream) = self.streams.get_mut(&key) else { return };
        let Some(at) = &mut stream.attachment else { return };
        at.flow = Flow::Live;
        let (link, number) = (at.link, at.number);
        let Position { received, consumed, limit } = stream.recv.position();
        let opened = Opened { stream: number, received, consumed, limit };
        self.say(link, Control::Opened(opened));
        self.join_line(key);
        self.check_done(now, key);
    }

    fn say_reset(&mut self, key: StreamKey, code: Code, message: &str) {
        let Some(at) = self.streams.get(&key).and_then(|stream| stream.attachment) else { return };
        let reset = Reset { stream: at.number, code, message: cut(message) };
        self.say(at.link, Control::Reset(reset));
    }

    fn say(&mut self, link: LinkKey, message: Control) {
        if let Some(link) = self.links.get_mut(&link) {
            link.say(message);
        }
    }

    fn tell(&mut self, event: Event<W>) {
        self.events.push_back(event);
        self.owner.wake();
    }

    /// Puts a stream in line if it has something to send.
    fn join_line(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get_mut(&key) else { return };
        if stream.in_line || !stream.may_send() {
            return;
        }
        if let Some(link) = stream.attachment.and_then(|at| self.links.get_mut(&at.link)) {
            stream.in_line = true;
            link.turns.join(key);
            link.driver.wake();
        }
    }

    fn after_consuming(&mut self, now: Instant, key: StreamKey) {
        let Some(stream) = self.streams.get_mut(&key) else { return };
        if stream.is_over() {
            return;
        }
        if stream.recv.wants_credit() {
            if stream.recv.is_starved() {
                stream.recv.window_mut().grow(&mut self.budget, self.settings.max_window);
            }
            self.tell_credit(key);
        }
        self.check_done(now, key);
    }

    /// Has the sender told how far a stream was consumed, where that is due. Nothing is said before `opened`: what was
    /// consumed meanwhile is told then.
    fn tell_credit(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get_mut(&key) else { return };
        if stream.recv.wants_credit()
            && !stream.in_credits
            && let Some(at) = stream.attachment.filter(|at| at.flow == Flow::Live)
            && let Some(link) = self.links.get_mut(&at.link)
        {
            stream.in_credits = true;
            link.credits.push_back(key);
            link.driver.wake();
        }
    }

    /// Ends a stream of which everything is handed on and acknowledged, both ways (spec v2, EN-4).
    fn check_done(&mut self, now: Instant, key: StreamKey) {
        let Some(stream) = self.streams.get(&key) else { return };
        if stream.phase != Phase::Open
            || !stream.send.is_acknowledged()
            || !stream.recv.is_complete()
        {
            return;
        }
        if let Some(at) = stream.attachment {
            let done = codec::v2::Done { stream: at.number };
            self.say(at.link, Control::Done(done));
        }
        self.remember(now, key, None);
        self.end_stream(key, StreamEnd::Done);
    }

    /// Keeps in mind how a stream ended, for an opener that asks again (acceptors).
    fn remember(&mut self, now: Instant, key: StreamKey, reset: Option<(Code, String)>) {
        if self.side == Side::Acceptor
            && let Some(stream) = self.streams.get(&key)
        {
            let end = Remembered { principal: stream.ask.principal.clone(), reset };
            self.memory.insert(now, stream.id.clone(), end);
        }
    }

    /// A stream is over: its number is, too, and its owner is woken.
    fn end_stream(&mut self, key: StreamKey, end: StreamEnd) {
        self.detach(key);
        let Some(stream) = self.streams.get_mut(&key) else { return };
        stream.phase = Phase::Over(end);
        stream.send.clear();
        stream.times = Times { registered: stream.times.registered, ..Times::default() };
        stream.reader.wake();
        stream.writer.wake();
        let id = stream.id.clone();
        if self.by_id.get(&id) == Some(&key) {
            self.by_id.remove(&id);
        }
        self.register_times(key);
    }

    /// Takes a stream off its number, if it has one.
    fn detach(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get_mut(&key) else { return };
        let Some(at) = stream.attachment.take() else { return };
        let in_line = std::mem::take(&mut stream.in_line);
        let in_credits = std::mem::take(&mut stream.in_credits);
        stream.times.opened_by = None;
        if let Some(link) = self.links.get_mut(&at.link) {
            link.numbers.remove(&at.number);
            if link.state == LinkState::Draining {
                link.driver.wake();
            }
            if in_line {
                link.turns.leave(key);
            }
            if in_credits {
                link.credits.retain(|other| *other != key);
            }
        }
    }

    /// Sets the alarm of a stream to what is due first for it.
    fn register_times(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get_mut(&key) else { return };
        let due = stream.times.first();
        if due == stream.times.registered {
            return;
        }
        if let Some(before) = stream.times.registered {
            self.timers.remove(&(before, key));
        }
        if let Some(due) = due {
            self.timers.insert((due, key));
        }
        stream.times.registered = due;
        self.owner.wake();
    }
}

/// A text within what the wire allows, cut between two characters.
fn cut(message: &str) -> String {
    let mut end = message.len().min(codec::v2::MAX_MESSAGE_TEXT);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    message[..end].to_owned()
}
