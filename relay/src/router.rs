//! The streams of protocol v2 between the links of a relay: sans-IO.
//!
//! A relay is no end of these streams: it knows no ids and no offsets, and passes on what comes, with another number on
//! it. So it may forget everything at any time; the ends go on through another link.

mod lane;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, VecDeque};

use bytes::Bytes;
use codec::v2::{self, Code, Control, Interrupted};
use mux::Wake;
use mux::v2::{Transmit, Turns, Violation};

use lane::{Item, Lane, Route};

/// A link of a [`Router`]; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(u64);

/// Numbers that bound a router.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Bytes that may wait for one stream and direction (spec v2, RL-7).
    pub max_queue: usize,
    /// Bytes that may wait in all.
    pub budget: usize,
    /// Streams at once on one link.
    pub max_streams: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { max_queue: v2::MAX_WINDOW as usize, budget: 256 << 20, max_streams: 16_384 }
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
///
/// The far link's driver is woken by whatever gives it something to send.
///
/// Memory: what waits for one number is at most [`Settings::max_queue`], in all [`Settings::budget`]; a stream that
/// passes either loses its queues and is interrupted, which its ends mend (spec v2, RL-7).
#[derive(Clone, Debug)]
pub struct Router<W> {
    settings: Settings,
    links: BTreeMap<LinkId, Link<W>>,
    /// Bytes in all queues.
    queued: usize,
    next_id: u64,
}

/// One link, seen from the relay.
#[derive(Clone, Debug)]
struct Link<W> {
    peer: Peer,
    /// The highest number that was ever opened here.
    last_number: u32,
    /// Messages that go before all data, in order.
    control: VecDeque<Control>,
    /// Numbers that have a credit to send; each at most once.
    credits: VecDeque<u32>,
    lanes: BTreeMap<u32, Lane>,
    /// The far links take turns first, by bytes, then the numbers that lead to each of them (spec v2, TU-3).
    turns: Turns<LinkId>,
    lines: HashMap<LinkId, Turns<u32>>,
    driver: W,
}

impl<W: Wake> Router<W> {
    /// A relay without links.
    pub fn new(settings: Settings) -> Self {
        Self { settings, links: BTreeMap::new(), queued: 0, next_id: 0 }
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

    /// Whether a link should be read: its peer takes what we answer.
    pub fn wants_read(&self, link: LinkId) -> bool {
        self.links.get(&link).is_none_or(|link| link.control.len() < MAX_CONTROL_QUEUE)
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
            turns: Turns::new(v2::MAX_DATA),
            lines: HashMap::new(),
            driver,
        };
        self.links.insert(id, link);
        id
    }

    /// A link is over: the far ends of its streams are told behind what they still get (spec v2, RL-4).
    pub fn lost(&mut self, id: LinkId) {
        let Some(link) = self.links.remove(&id) else { return };
        for lane in link.lanes.into_values() {
            self.queued -= lane.bytes;
            if let Some(route) = lane.route {
                self.push(route, Item::Control(interrupted(route.number, None)));
                self.cut_route(route);
            }
        }
    }

    /// Sends a message that concerns no stream.
    pub fn send(&mut self, id: LinkId, message: Control) {
        if let Some(link) = self.links.get_mut(&id) {
            link.say(message);
        }
    }

    /// Takes a control message from the peer of a link. `agent` gives the link of a connected agent.
    ///
    /// # Errors
    /// The peer broke a rule of the link, which is to be closed.
    pub fn handle_control(
        &mut self,
        from: LinkId,
        message: Control,
        agent: impl FnOnce(&str) -> Option<LinkId>,
    ) -> Result<(), Violation> {
        let Some(link) = self.links.get(&from) else { return Ok(()) };
        let is_opener = matches!(link.peer, Peer::Opener { .. });
        match &message {
            Control::Open(open) if is_opener => {
                let to = agent(&open.agent);
                self.route(from, open.stream, to, message)
            }
            Control::Resume(resume) if is_opener => {
                let to = agent(&resume.agent);
                self.route(from, resume.stream, to, message)
            }
            Control::Opened(_) if !is_opener => self.forward(from, message),
            Control::Interrupted(_) if is_opener => self.forward(from, message),
            Control::Credit(_) | Control::Finish(_) | Control::Reset(_) | Control::Done(_) => {
                self.forward(from, message)
            }
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
        // A few bytes would hold on to the block that they were received in.
        let payload =
            if payload.len() < SMALL { Bytes::copy_from_slice(&payload) } else { payload };
        self.push(route, Item::Data(payload));
        self.shed(route);
        Ok(())
    }

    /// The next thing to send on a link.
    pub fn poll_transmit(&mut self, id: LinkId) -> Option<Transmit> {
        let link = self.links.get_mut(&id)?;
        if let Some(message) = link.control.pop_front() {
            return Some(Transmit::Control(message));
        }
        while let Some(number) = link.credits.pop_front() {
            let credit = link.lanes.get_mut(&number).and_then(|lane| lane.credit.take());
            if let Some((consumed, limit)) = credit {
                let credit = v2::Credit { stream: number, consumed, limit };
                return Some(Transmit::Control(Control::Credit(credit)));
            }
        }
        while let Some(far) = link.turns.next() {
            let Some(line) = link.lines.get_mut(&far) else {
                link.turns.ran_dry();
                continue;
            };
            let Some(number) = line.next() else {
                if link.turns.ran_dry() {
                    link.lines.remove(&far);
                }
                continue;
            };
            let item = link.lanes.get_mut(&number).and_then(Lane::pop);
            let Some(item) = item else {
                if line.ran_dry() {
                    link.left_line(number);
                }
                continue;
            };
            line.sent(item.bytes());
            link.turns.sent(item.bytes());
            self.queued -= item.bytes();
            return Some(match item {
                Item::Data(payload) => Transmit::Data { stream: number, payload },
                Item::Control(message) => Transmit::Control(message),
            });
        }
        None
    }

    // --- private -----------------------------------------------------------------------------

    /// Makes a route for an attempt and passes it on (spec v2, RL-1).
    fn route(
        &mut self,
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
            Some(_) => None,
        };
        let (Some((to, far)), None) = (far, refusal) else {
            let message = interrupted(number, refusal);
            self.send(from, message);
            return Ok(());
        };
        far.last_number += 1;
        let far_number = far.last_number;
        far.lanes.insert(far_number, Lane::new(Route { link: from, number }));
        match &mut message {
            Control::Open(open) => (open.stream, open.principal) = (far_number, principal),
            Control::Resume(resume) => (resume.stream, resume.principal) = (far_number, principal),
            _ => debug_assert!(false, "only attempts make routes"),
        }
        far.say(message);
        if let Some(near) = self.links.get_mut(&from) {
            near.lanes.insert(number, Lane::new(Route { link: to, number: far_number }));
        }
        Ok(())
    }

    /// Where a number leads; none if it is over.
    fn route_of(&self, from: LinkId, number: u32) -> Result<Option<Route>, Violation> {
        let Some(link) = self.links.get(&from) else { return Ok(None) };
        match link.lanes.get(&number) {
            Some(lane) => Ok(lane.route),
            None if number > link.last_number => Err(Violation::UnknownNumber),
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
            self.cut_route(route);
            self.drop_lane(Route { link: from, number: near });
        }
        Ok(())
    }

    /// Queues a message or bytes on the far link, behind what waits for the same number there.
    fn push(&mut self, to: Route, item: Item) {
        let Some(link) = self.links.get_mut(&to.link) else { return };
        let Some(lane) = link.lanes.get_mut(&to.number) else { return };
        match item {
            Item::Control(message)
                if lane.queue.is_empty() && link.control.len() < MAX_CONTROL_QUEUE =>
            {
                link.control.push_back(message);
            }
            item => {
                self.queued += item.bytes();
                lane.bytes += item.bytes();
                lane.queue.push_back(item);
                if !std::mem::replace(&mut lane.in_line, true) {
                    link.join_line(lane_group(link.lanes.get(&to.number)), to.number);
                }
            }
        }
        link.driver.wake();
    }

    fn push_credit(&mut self, to: Route, consumed: u64, limit: u64) {
        let Some(link) = self.links.get_mut(&to.link) else { return };
        let Some(lane) = link.lanes.get_mut(&to.number) else { return };
        if lane.credit.replace((consumed, limit)).is_none() {
            link.credits.push_back(to.number);
        }
        link.driver.wake();
    }

    /// Nothing more comes for a number; what waits is still sent.
    fn cut_route(&mut self, at: Route) {
        let Some(link) = self.links.get_mut(&at.link) else { return };
        if let Some(lane) = link.lanes.get_mut(&at.number) {
            lane.route = None;
            if lane.queue.is_empty() && !lane.in_line {
                link.lanes.remove(&at.number);
            }
        }
    }

    /// A number is over on the side that ended it: what waits there has no reader.
    fn drop_lane(&mut self, at: Route) {
        let Some(link) = self.links.get_mut(&at.link) else { return };
        if let Some(lane) = link.lanes.remove(&at.number) {
            self.queued -= lane.bytes;
            if lane.in_line
                && let Some(line) = link.lines.get_mut(&lane.group)
            {
                line.leave(at.number);
            }
        }
    }

    /// Keeps the queues within their bounds: the stream that passes its own is interrupted, or the one with most
    /// (spec v2, RL-7).
    fn shed(&mut self, grown: Route) {
        let own = self.links.get(&grown.link).and_then(|link| link.lanes.get(&grown.number));
        if own.is_some_and(|lane| lane.bytes > self.settings.max_queue) {
            self.interrupt(grown);
        }
        while self.queued > self.settings.budget {
            let lanes = self.links.iter().flat_map(|(id, link)| {
                link.lanes.iter().map(|(number, lane)| (lane.bytes, *id, *number))
            });
            let Some((_, link, number)) = lanes.max() else { return };
            self.interrupt(Route { link, number });
        }
    }

    /// Drops the queues of a stream and tells both ends that its numbers are over.
    fn interrupt(&mut self, at: Route) {
        let far = self.route_of(at.link, at.number).ok().flatten();
        for side in [Some(at), far].into_iter().flatten() {
            self.drop_lane(side);
            self.send(side.link, interrupted(side.number, None));
        }
    }
}

impl<W: Wake> Link<W> {
    fn say(&mut self, message: Control) {
        self.control.push_back(message);
        self.driver.wake();
    }

    fn join_line(&mut self, far: Option<LinkId>, number: u32) {
        let Some(far) = far else { return };
        match self.lines.get_mut(&far) {
            Some(line) => line.join(number),
            None => {
                let mut line = Turns::new(v2::MAX_DATA);
                line.join(number);
                self.lines.insert(far, line);
                self.turns.join(far);
            }
        }
    }

    /// A number has left its line, with nothing to send.
    fn left_line(&mut self, number: u32) {
        if let Some(lane) = self.lanes.get_mut(&number) {
            lane.in_line = false;
            if lane.route.is_none() {
                self.lanes.remove(&number);
            }
        }
    }
}

fn lane_group(lane: Option<&Lane>) -> Option<LinkId> {
    lane.map(|lane| lane.group)
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

/// A number is over, the stream is not; with a reason if its attempt was passed on to nobody.
fn interrupted(stream: u32, reason: Option<(Code, &str)>) -> Control {
    let (code, message) = match reason {
        Some((code, message)) => (Some(code), Some(message.to_owned())),
        None => (None, None),
    };
    Control::Interrupted(Interrupted { stream, code, message })
}

/// Messages that may wait on one link before it is no longer read, or nothing new is opened on it.
const MAX_CONTROL_QUEUE: usize = 1024;

/// Frames with fewer bytes are copied rather than kept with the block of 64 KiB that they came in.
const SMALL: usize = 4096;
