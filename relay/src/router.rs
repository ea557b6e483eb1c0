//! The streams of protocol v2 between the links of a relay: sans-IO.
//!
//! A relay is no end of these streams: it knows no ids and no offsets, and passes on what comes, with another number on
//! it. So it may forget everything at any time; the ends go on through another link (spec v2, RL-1 and RL-2).

mod attempts;
mod census;
mod lane;
mod line;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use bytes::Bytes;
use codec::v2::{self, Code, Control, Goaway, Interrupted};
use mux::Wake;
use mux::v2::{Transmit, Violation};

pub use census::Census;

use attempts::Attempts;
use lane::{Item, Lane, Route, Sort, Stage};
use line::Line;

/// A link of a [`Router`]; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(u64);

/// Numbers that bound a router.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Bytes that may wait for one stream and direction, with what each frame costs beside its own (spec v2, RL-7).
    pub max_queue: usize,
    /// Bytes that may wait in all.
    pub budget: usize,
    /// Streams at once on one link.
    pub max_streams: usize,
    /// Repeated attempts of one principal within a minute.
    pub max_attempts: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            // A window of small frames counts a little more than its bytes.
            max_queue: (v2::MAX_WINDOW + v2::MAX_WINDOW / 8) as usize,
            budget: 256 << 20,
            max_streams: 16_384,
            // All streams of a link may move at once.
            max_attempts: 20_000,
        }
    }
}

/// Which of the two ends of its streams is at the other end of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A client: it opens and resumes. The name that the relay has for it is told to agents (spec v2, TR-1).
    Opener {
        /// That name.
        principal: Option<String>,
    },
    /// An agent: it answers.
    Acceptor,
}

/// The links of a relay and the routes between them.
///
/// - From the links: [`connect`](Self::connect), [`handle_control`](Self::handle_control),
///   [`handle_data`](Self::handle_data), [`lost`](Self::lost).
/// - To the links: [`poll_transmit`](Self::poll_transmit), [`wants_read`](Self::wants_read).
/// - From the relay's owner: [`drain`](Self::drain), [`send`](Self::send).
///
/// The far link's driver is woken by whatever gives it something to send.
///
/// Memory: what waits for one number is at most [`Settings::max_queue`], in all [`Settings::budget`]; a stream that
/// passes either loses its queues and is interrupted, which its ends mend (spec v2, RL-7). Besides, a link has some
/// thousand messages at most that concern no stream, or begin one.
#[derive(Clone, Debug)]
pub struct Router<W> {
    settings: Settings,
    links: BTreeMap<LinkId, Link<W>>,
    attempts: Attempts,
    /// Bytes in all queues.
    queued: usize,
    next_id: u64,
    is_draining: bool,
}

/// One link, seen from the relay.
#[derive(Clone, Debug)]
struct Link<W> {
    peer: Peer,
    /// The highest number that was ever opened here.
    last_number: u32,
    /// Messages that concern no stream here, and attempts, whose numbers have to count up; in order.
    control: VecDeque<Control>,
    /// Numbers that have a credit to send. One that is over meanwhile is passed over.
    credits: VecDeque<u32>,
    lanes: BTreeMap<u32, Lane>,
    /// Numbers that have a message, or data, at the front of their queues, by [`Sort`].
    lines: [Line; 2],
    /// Which of the three sorts of messages is looked at first, so that none waits for ever.
    next_source: usize,
    /// Messages sent since the last data.
    run: u32,
    driver: W,
}

impl<W: Wake> Router<W> {
    /// A relay without links.
    pub fn new(settings: Settings) -> Self {
        Self {
            attempts: Attempts::new(settings.max_attempts),
            settings,
            links: BTreeMap::new(),
            queued: 0,
            next_id: 0,
            is_draining: false,
        }
    }

    /// How many streams have a route that begins or ends on a link.
    pub fn stream_count(&self, link: LinkId) -> usize {
        let live = |link: &Link<W>| link.lanes.values().filter(|lane| lane.route.is_some()).count();
        self.links.get(&link).map_or(0, live)
    }

    /// Bytes that wait in all.
    pub fn queued_bytes(&self) -> usize {
        self.queued
    }

    /// Whether a link should be read: its peer takes what we answer (spec v2, TU-5). Only openers are answered by the
    /// relay itself; what waits for an agent is no doing of the agent's.
    pub fn wants_read(&self, link: LinkId) -> bool {
        self.links.get(&link).is_none_or(|link| {
            link.peer == Peer::Acceptor || link.control.len() < MAX_CONTROL_QUEUE
        })
    }

    /// A link is up, its handshake behind it. `driver` is woken when [`Self::poll_transmit`] may have something.
    pub fn connect(&mut self, peer: Peer, driver: W) -> LinkId {
        let id = LinkId(self.next_id);
        self.next_id += 1;
        let link = Link {
            peer,
            last_number: 0,
            control: VecDeque::new(),
            credits: VecDeque::new(),
            lanes: BTreeMap::new(),
            lines: [Line::new(), Line::new()],
            next_source: 0,
            run: 0,
            driver,
        };
        self.links.insert(id, link);
        id
    }

    /// A link is over: the far ends of its streams are told behind what they still get (spec v2, RL-4).
    pub fn lost(&mut self, id: LinkId) {
        let Some(link) = self.links.remove(&id) else { return };
        for lane in link.lanes.into_values() {
            self.queued -= lane.bytes();
            if let Some(route) = lane.route {
                self.push(route, Item::Control(interrupted(route.number, None)));
                self.cut_route(route);
            }
        }
    }

    /// Says goodbye on all links, and refuses each attempt from now on (spec v2, RL-10).
    pub fn drain(&mut self, goaway: &Goaway) {
        self.is_draining = true;
        for link in self.links.values_mut() {
            link.say(Control::Goaway(goaway.clone()));
        }
    }

    /// Sends a message that concerns no stream. `false` if the link is gone or takes no more.
    pub fn send(&mut self, id: LinkId, message: Control) -> bool {
        let link = self.links.get_mut(&id).filter(|link| link.control.len() < MAX_CONTROL_QUEUE);
        link.map(|link| link.say(message)).is_some()
    }

    /// Takes a control message from the peer of a link. `agent` gives the link of a connected agent.
    ///
    /// # Errors
    /// The peer broke a rule of the link, which is to be closed.
    pub fn handle_control(
        &mut self,
        now: Instant,
        from: LinkId,
        message: Control,
        agent: impl FnOnce(&str) -> Option<LinkId>,
    ) -> Result<(), Violation> {
        let Some(link) = self.links.get(&from) else { return Ok(()) };
        let is_opener = matches!(link.peer, Peer::Opener { .. });
        match &message {
            Control::Open(open) if is_opener => {
                let to = agent(&open.agent);
                self.route(now, from, open.stream, to, message)
            }
            Control::Resume(resume) if is_opener => {
                let to = agent(&resume.agent);
                self.route(now, from, resume.stream, to, message)
            }
            Control::Opened(_) if !is_opener => self.forward(from, message),
            Control::Interrupted(_) if is_opener => self.forward(from, message),
            Control::Credit(_) | Control::Finish(_) | Control::Reset(_) | Control::Done(_) => {
                self.forward(from, message)
            }
            // Spec v2, FR-10.
            _ => Err(Violation::Unexpected),
        }
    }

    /// Takes the bytes of one data frame.
    ///
    /// # Errors
    /// The peer broke a rule of the link, which is to be closed.
    pub fn handle_data(
        &mut self,
        from: LinkId,
        number: u32,
        payload: Bytes,
    ) -> Result<(), Violation> {
        let Some(route) = self.route_of(from, number)? else { return Ok(()) };
        self.push(route, Item::Data(payload));
        self.shed(route);
        Ok(())
    }

    /// The next thing to send on a link: messages before data (spec v2, TU-2), but never so many that data waits for
    /// ever.
    pub fn poll_transmit(&mut self, id: LinkId) -> Option<Transmit> {
        let link = self.links.get_mut(&id)?;
        if link.run < MAX_RUN
            && let Some(message) = link.next_message(&mut self.queued)
        {
            link.run += 1;
            return Some(Transmit::Control(message));
        }
        link.run = 0;
        if let Some((number, item)) = link.next_item(Sort::Data, &mut self.queued) {
            return Some(match item {
                Item::Data(payload) => Transmit::Data { stream: number, payload },
                Item::Small(payload) => {
                    Transmit::Data { stream: number, payload: payload.freeze() }
                }
                Item::Control(message) => Transmit::Control(message),
            });
        }
        link.next_message(&mut self.queued).map(Transmit::Control)
    }

    // --- private -----------------------------------------------------------------------------

    /// Makes a route for an attempt and passes it on (spec v2, OP-3).
    fn route(
        &mut self,
        now: Instant,
        from: LinkId,
        number: u32,
        to: Option<LinkId>,
        mut message: Control,
    ) -> Result<(), Violation> {
        let max_streams = self.settings.max_streams;
        let Some(near) = self.links.get_mut(&from) else { return Ok(()) };
        if near.last_number.checked_add(1) != Some(number) {
            return Err(Violation::NumberOrder);
        }
        near.last_number = number;
        let near_count = near.lanes.len();
        let Peer::Opener { principal } = &near.peer else { return Err(Violation::Unexpected) };
        let principal = principal.clone();
        let far = to.and_then(|to| Some((to, self.links.get_mut(&to)?)));
        let refusal = match &far {
            _ if self.is_draining => Some((Code::GoingAway, "the relay is about to stop")),
            None => Some((Code::AgentOffline, "the agent is not connected")),
            Some((_, far)) if near_count >= max_streams || far.lanes.len() >= max_streams => {
                Some((Code::TooManyStreams, "too many streams"))
            }
            Some((_, far)) if far.control.len() >= MAX_CONTROL_QUEUE => {
                Some((Code::Overloaded, "the agent takes no requests at the moment"))
            }
            // The agent's link is to be replaced; it will be back.
            Some((_, far)) if far.last_number == u32::MAX => {
                Some((Code::Overloaded, "the agent's link has no more numbers"))
            }
            Some(_) if is_repeated(&message) && !self.attempts.allow(now, &principal) => {
                Some((Code::TooManyStreams, "too many attempts"))
            }
            Some(_) => None,
        };
        let (Some((to, far)), None) = (far, refusal) else {
            if let Some(near) = self.links.get_mut(&from) {
                near.say(interrupted(number, refusal));
            }
            return Ok(());
        };
        far.last_number += 1;
        let far_number = far.last_number;
        let merges = match &mut message {
            Control::Open(open) => {
                (open.stream, open.principal) = (far_number, principal);
                open.protocol == v2::PROTOCOL_TCP
            }
            Control::Resume(resume) => {
                (resume.stream, resume.principal) = (far_number, principal);
                true
            }
            _ => return Err(Violation::Unexpected),
        };
        let back = Route { link: from, number };
        far.lanes.insert(far_number, Lane::new(back, Stage::Unannounced, merges));
        far.say(message);
        if let Some(near) = self.links.get_mut(&from) {
            let there = Route { link: to, number: far_number };
            near.lanes.insert(number, Lane::new(there, Stage::Asked, merges));
        }
        Ok(())
    }

    /// Where a number leads; none if it is over (spec v2, FR-13 and FR-14).
    fn route_of(&self, from: LinkId, number: u32) -> Result<Option<Route>, Violation> {
        let Some(link) = self.links.get(&from) else { return Ok(None) };
        match link.lanes.get(&number) {
            Some(lane) if lane.stage == Stage::Unannounced => Err(Violation::UnknownNumber),
            Some(lane) => Ok(lane.route),
            None if number > link.last_number || number == 0 => Err(Violation::UnknownNumber),
            None => Ok(None),
        }
    }

    /// Passes a message of a stream on, with its number on the far link.
    fn forward(&mut self, from: LinkId, mut message: Control) -> Result<(), Violation> {
        let Some(number) = number_mut(&mut message) else { return Err(Violation::Unexpected) };
        let near = *number;
        let Some(route) = self.route_of(from, near)? else { return Ok(()) };
        *number = route.number;
        if let Control::Credit(credit) = message {
            self.push_credit(route, credit.consumed, credit.limit);
            return Ok(());
        }
        let ends =
            matches!(message, Control::Reset(_) | Control::Done(_) | Control::Interrupted(_));
        self.push(route, Item::Control(message));
        if ends {
            // Spec v2, RL-3.
            self.cut_route(route);
            self.drop_lane(Route { link: from, number: near });
        } else {
            self.shed(route);
        }
        Ok(())
    }

    /// Queues a message or bytes on the far link, behind what waits for the same number there (spec v2, TU-1).
    fn push(&mut self, to: Route, item: Item) {
        let Some(link) = self.links.get_mut(&to.link) else { return };
        let Some(lane) = link.lanes.get_mut(&to.number) else { return };
        self.queued += lane.push(item);
        link.join_line(to.number);
    }

    fn push_credit(&mut self, to: Route, consumed: u64, limit: u64) {
        let Some(link) = self.links.get_mut(&to.link) else { return };
        let Some(lane) = link.lanes.get_mut(&to.number) else { return };
        // Neither goes back (spec v2, FL-4).
        let before = lane.credit.unwrap_or_default();
        let latest = (before.0.max(consumed), before.1.max(limit));
        if lane.credit.replace(latest).is_none() && lane.stage == Stage::Flowing {
            link.credits.push_back(to.number);
            link.driver.wake();
        }
    }

    /// Nothing more comes for a number; what waits is still sent.
    fn cut_route(&mut self, at: Route) {
        let Some(link) = self.links.get_mut(&at.link) else { return };
        if let Some(lane) = link.lanes.get_mut(&at.number) {
            lane.route = None;
            link.forget_if_over(at.number);
        }
    }

    /// A number is over on the side that ended it: what waits there has no reader.
    fn drop_lane(&mut self, at: Route) {
        let Some(link) = self.links.get_mut(&at.link) else { return };
        if let Some(lane) = link.lanes.remove(&at.number) {
            self.queued -= lane.bytes();
            for (line, in_line) in link.lines.iter_mut().zip(lane.in_line) {
                if in_line {
                    line.leave(lane.far, at.number);
                }
            }
        }
    }

    /// Keeps the queues within their bounds: the stream that passes its own is interrupted, or the one with most
    /// (spec v2, RL-7).
    fn shed(&mut self, grown: Route) {
        let own = self.links.get(&grown.link).and_then(|link| link.lanes.get(&grown.number));
        if own.is_some_and(|lane| lane.bytes() > self.settings.max_queue) {
            self.interrupt(grown);
        }
        while self.queued > self.settings.budget {
            let lanes = self.links.iter().flat_map(|(id, link)| {
                link.lanes.iter().map(|(number, lane)| (lane.bytes(), *id, *number))
            });
            match lanes.max() {
                Some((bytes, link, number)) if bytes > lane::MESSAGE => {
                    self.interrupt(Route { link, number });
                }
                _ => return,
            }
        }
    }

    /// Drops the queues of a stream and tells both ends that its numbers are over.
    fn interrupt(&mut self, at: Route) {
        let lane = self.links.get(&at.link).and_then(|link| link.lanes.get(&at.number));
        let far = lane.and_then(|lane| lane.route);
        for side in [Some(at), far].into_iter().flatten() {
            let link = self.links.get_mut(&side.link);
            if let Some(lane) = link.and_then(|link| link.lanes.get_mut(&side.number)) {
                self.queued -= lane.clear();
                self.push(side, Item::Control(interrupted(side.number, None)));
                self.cut_route(side);
            }
        }
    }
}

impl<W: Wake> Link<W> {
    fn say(&mut self, message: Control) {
        self.control.push_back(message);
        self.driver.wake();
    }

    /// The next message, of a sort that was not sent last if there is one.
    fn next_message(&mut self, queued: &mut usize) -> Option<Control> {
        for turn in 0..SOURCES {
            let source = (self.next_source + turn) % SOURCES;
            let message = match source {
                0 => self.next_control(),
                1 => self.next_credit(),
                _ => self.next_item(Sort::Message, queued).and_then(|(number, item)| match item {
                    Item::Control(message) => {
                        self.announced(number, &message);
                        Some(message)
                    }
                    Item::Data(_) | Item::Small(_) => None,
                }),
            };
            if message.is_some() {
                self.next_source = source + 1;
                return message;
            }
        }
        None
    }

    fn next_control(&mut self) -> Option<Control> {
        let message = self.control.pop_front()?;
        if let Control::Open(v2::Open { stream, .. }) | Control::Resume(v2::Resume { stream, .. }) =
            message
        {
            self.flows(stream);
            self.join_line(stream);
        }
        Some(message)
    }

    fn next_credit(&mut self) -> Option<Control> {
        loop {
            let stream = self.credits.pop_front()?;
            let credit = self.lanes.get_mut(&stream).and_then(|lane| lane.credit.take());
            if let Some((consumed, limit)) = credit {
                return Some(Control::Credit(v2::Credit { stream, consumed, limit }));
            }
        }
    }

    /// The next of what waits at the front of a queue.
    fn next_item(&mut self, sort: Sort, queued: &mut usize) -> Option<(u32, Item)> {
        let index = sort as usize;
        loop {
            let (far, number) = self.lines[index].next()?;
            let lane = self.lanes.get_mut(&number).filter(|lane| lane.front() == Some(sort));
            if let Some(item) = lane.and_then(Lane::pop) {
                *queued -= item.bytes();
                self.lines[index].sent(far, item.bytes());
                // What comes next may be of the other sort.
                self.join_line(number);
                return Some((number, item));
            }
            if self.lines[index].ran_dry(far)
                && let Some(lane) = self.lanes.get_mut(&number)
            {
                lane.in_line[index] = false;
                self.forget_if_over(number);
            }
        }
    }

    /// A message was sent on a number: `opened` lets credit go ahead.
    fn announced(&mut self, number: u32, message: &Control) {
        if let Control::Opened(_) = message {
            self.flows(number);
        }
    }

    fn flows(&mut self, number: u32) {
        if let Some(lane) = self.lanes.get_mut(&number)
            && lane.stage != Stage::Flowing
        {
            lane.stage = Stage::Flowing;
            if lane.credit.is_some() {
                self.credits.push_back(number);
            }
        }
    }

    /// Lets a number stand in line for what is at the front of its queue.
    fn join_line(&mut self, number: u32) {
        let Some(lane) = self.lanes.get_mut(&number) else { return };
        let Some(index) = lane.front().map(|sort| sort as usize) else { return };
        if !std::mem::replace(&mut lane.in_line[index], true) {
            self.lines[index].join(lane.far, number);
        }
        self.driver.wake();
    }

    fn forget_if_over(&mut self, number: u32) {
        if self.lanes.get(&number).is_some_and(Lane::is_over) {
            self.lanes.remove(&number);
        }
    }
}

/// Whether an attempt may ask for what was sent before.
fn is_repeated(message: &Control) -> bool {
    match message {
        Control::Open(open) => open.attempt > 1,
        _ => true,
    }
}

/// The number that a message of a stream bears.
fn number_mut(message: &mut Control) -> Option<&mut u32> {
    match message {
        Control::Opened(message) => Some(&mut message.stream),
        Control::Credit(message) => Some(&mut message.stream),
        Control::Finish(message) => Some(&mut message.stream),
        Control::Reset(message) => Some(&mut message.stream),
        Control::Done(message) => Some(&mut message.stream),
        Control::Interrupted(message) => Some(&mut message.stream),
        _ => None,
    }
}

/// A number is over, the stream is not; with a reason if its attempt was passed on to nobody (spec v2, RL-5).
fn interrupted(stream: u32, reason: Option<(Code, &str)>) -> Control {
    let (code, message) = match reason {
        Some((code, message)) => (Some(code), Some(message.to_owned())),
        None => (None, None),
    };
    Control::Interrupted(Interrupted { stream, code, message })
}

/// Messages that may wait on one link before it is no longer read, or nothing new is opened on it.
const MAX_CONTROL_QUEUE: usize = 1024;

/// Messages in a row while data waits.
const MAX_RUN: u32 = 32;

/// Sorts of messages on a link: those of no stream here, credits, and those of streams.
const SOURCES: usize = 3;
