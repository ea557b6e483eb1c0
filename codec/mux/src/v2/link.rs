//! One link of an endpoint: its handshake, its numbers, and whose turn it is.

use std::collections::{BTreeMap, VecDeque};

use codec::v2::{self, Control};

use super::{StreamKey, Turns, Violation};
use crate::Wake;

/// What an endpoint knows of one of its links.
///
/// ```text
///   Greeting ── welcome ──▶ Ready ── goaway ──▶ Draining
///      │ reject                │                    │
///      └───────────────────────┴── lost ────────────┴──▶ forgotten
/// ```
#[derive(Clone, Debug)]
pub(crate) struct Link<W> {
    pub(crate) state: LinkState,
    /// Messages that go before everything else, in order.
    pub(crate) control: VecDeque<Control>,
    /// Streams that have credit to tell; each at most once.
    pub(crate) credits: VecDeque<StreamKey>,
    /// Streams that have bytes or their end to send.
    pub(crate) turns: Turns<StreamKey>,
    /// The streams that are attached here, by their numbers.
    pub(crate) numbers: BTreeMap<u32, StreamKey>,
    /// The highest number that was ever opened here.
    last_number: u32,
    /// Bytes of one frame at most.
    pub(crate) max_data: usize,
    /// Streams that may be attached at once.
    pub(crate) max_streams: usize,
    /// Bytes that may still be sent before `welcome` (spec v2, LK-6); no bound after it.
    pub(crate) allowance: Option<usize>,
    /// Woken when there is something to send.
    pub(crate) driver: W,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum LinkState {
    /// `hello` was sent; streams may be opened all the same (spec v2, LK-6).
    Greeting,
    Ready,
    /// Nothing new is opened here.
    Draining,
}

impl<W> Link<W> {
    /// The highest number that was ever opened here.
    pub(crate) fn last_number(&self) -> u32 {
        self.last_number
    }
}

impl<W: Wake> Link<W> {
    /// A link that begins with `hello`, or one that needs no handshake.
    pub(crate) fn new(hello: Option<Control>, driver: W) -> Self {
        let greets = hello.is_some();
        Self {
            state: if greets { LinkState::Greeting } else { LinkState::Ready },
            allowance: greets.then_some(v2::MAX_BEFORE_WELCOME),
            control: hello.into_iter().collect(),
            credits: VecDeque::new(),
            turns: Turns::new(v2::MAX_DATA),
            numbers: BTreeMap::new(),
            last_number: 0,
            max_data: if greets { v2::MIN_DATA } else { v2::MAX_DATA },
            max_streams: usize::MAX,
            driver,
        }
    }

    /// Sends a message before everything else.
    pub(crate) fn say(&mut self, message: Control) {
        self.control.push_back(message);
        self.driver.wake();
    }

    /// The next message that goes before everything else, unless it has to wait for `welcome`.
    pub(crate) fn poll_control(&mut self) -> Option<Control> {
        let message = self.control.pop_front()?;
        if !self.may_say(&message) {
            self.control.push_front(message);
            return None;
        }
        Some(message)
    }

    /// Whether a message may be sent now, or has to wait for `welcome`; if it may, it counts as sent.
    pub(crate) fn may_say(&mut self, message: &Control) -> bool {
        let Some(allowance) = &mut self.allowance else { return true };
        let left = allowance.checked_sub(v2::encode(message).len());
        *allowance = left.unwrap_or(*allowance);
        left.is_some()
    }

    /// How many bytes of a stream the next frame may have.
    pub(crate) fn frame_room(&self) -> usize {
        let most = self
            .allowance
            .map_or(usize::MAX, |allowance| allowance.saturating_sub(v2::data::HEADER_BYTES));
        self.max_data.min(most)
    }

    /// A frame with so many bytes of a stream was sent.
    pub(crate) fn sent(&mut self, bytes: usize) {
        if let Some(allowance) = &mut self.allowance {
            *allowance = allowance.saturating_sub(bytes + v2::data::HEADER_BYTES);
        }
        self.turns.sent(bytes);
    }

    /// Whether a stream may be opened or resumed here.
    pub(crate) fn is_usable(&self) -> bool {
        self.state != LinkState::Draining && self.last_number < u32::MAX
    }

    /// Whether as many streams are attached here as the relay allows.
    pub(crate) fn is_full(&self) -> bool {
        self.numbers.len() >= self.max_streams
    }

    /// A fresh number for a stream that this side opens.
    pub(crate) fn open(&mut self, key: StreamKey) -> u32 {
        self.last_number += 1;
        self.numbers.insert(self.last_number, key);
        self.last_number
    }

    /// The peer opens a number.
    pub(crate) fn opened_by_peer(&mut self, number: u32) -> Result<(), Violation> {
        if self.last_number.checked_add(1) != Some(number) {
            return Err(Violation::NumberOrder);
        }
        self.last_number = number;
        Ok(())
    }

    /// The stream that a number stands for; none if it is over.
    pub(crate) fn stream(&self, number: u32) -> Result<Option<StreamKey>, Violation> {
        match self.numbers.get(&number) {
            Some(key) => Ok(Some(*key)),
            None if number > self.last_number => Err(Violation::UnknownNumber),
            None => Ok(None),
        }
    }

    /// Whether the peer takes our answers, so that it may be read.
    pub(crate) fn wants_read(&self) -> bool {
        self.control.len() < MAX_CONTROL_QUEUE
    }
}

/// Messages that may wait before the link is no longer read: a peer that asks without taking answers must not fill our
/// memory.
const MAX_CONTROL_QUEUE: usize = 1024;
