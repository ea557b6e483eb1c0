//! One stream number on one link of the relay.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use codec::v2::Control;

use super::LinkId;

/// A number on a link: where it leads, and what waits to be sent on it.
#[derive(Clone, Debug)]
pub(super) struct Lane {
    /// Where what comes on it goes. None once the stream is over there; what waits is still sent.
    pub(super) route: Option<Route>,
    /// The far link, among whose numbers this one takes its turns.
    pub(super) far: LinkId,
    pub(super) stage: Stage,
    /// In order.
    queue: VecDeque<Item>,
    /// Of what is in the queue.
    bytes: usize,
    /// The latest credit: consumed, and the limit. An earlier one has no meaning any more.
    pub(super) credit: Option<(u64, u64)>,
    /// Whether frames may be put together (spec v2, FR-8).
    merges: bool,
    /// It stands in line with those that have a message, or data, at the front of their queues.
    pub(super) in_line: [bool; 2],
}

/// What was sent on a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nothing: its `open` or `resume` waits, and everything else waits for that.
    Unannounced,
    /// It was opened by the peer, which waits for `opened`.
    Asked,
    /// `opened`, or the attempt: `credit` may go ahead of data.
    Flowing,
}

/// A number on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) link: LinkId,
    pub(super) number: u32,
}

/// What waits.
#[derive(Clone, Debug)]
pub(super) enum Item {
    Control(Control),
    Data(Bytes),
    /// Small frames, put together: each would cost more than its bytes.
    Small(BytesMut),
}

/// The two sorts of what waits, each with a line of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    Message = 0,
    Data = 1,
}

impl Lane {
    pub(super) fn new(route: Route, stage: Stage, merges: bool) -> Self {
        Self {
            route: Some(route),
            far: route.link,
            stage,
            queue: VecDeque::new(),
            bytes: 0,
            credit: None,
            merges,
            in_line: [false; 2],
        }
    }

    /// What its queue counts, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What is at the front of its queue, if that may be sent.
    pub(super) fn front(&self) -> Option<Sort> {
        if self.stage == Stage::Unannounced {
            return None;
        }
        self.queue.front().map(Item::sort)
    }

    /// Appends; gives what that counts.
    pub(super) fn push(&mut self, item: Item) -> usize {
        let before = self.bytes;
        match (item, self.queue.back_mut()) {
            (Item::Data(payload), Some(Item::Small(small)))
                if self.merges
                    && !payload.is_empty()
                    && !small.is_empty()
                    && small.len() + payload.len() <= SMALL =>
            {
                small.extend_from_slice(&payload);
                self.bytes += payload.len();
            }
            // A few bytes would hold on to the block that they were received in.
            (Item::Data(payload), _) if payload.len() < SMALL => {
                self.append(Item::Small(BytesMut::from(&payload[..])));
            }
            (item, _) => self.append(item),
        }
        self.bytes - before
    }

    fn append(&mut self, item: Item) {
        self.bytes += item.bytes();
        self.queue.push_back(item);
    }

    /// The next thing to send.
    pub(super) fn pop(&mut self) -> Option<Item> {
        let item = self.queue.pop_front()?;
        self.bytes -= item.bytes();
        if self.queue.is_empty() && self.queue.capacity() > KEPT_SLOTS {
            self.queue = VecDeque::new();
        }
        Some(item)
    }

    /// Drops everything that waits; gives what that counted.
    pub(super) fn clear(&mut self) -> usize {
        self.queue = VecDeque::new();
        self.credit = None;
        std::mem::take(&mut self.bytes)
    }

    /// Whether nothing is left of it.
    pub(super) fn is_over(&self) -> bool {
        self.route.is_none()
            && self.queue.is_empty()
            && self.stage != Stage::Unannounced
            && self.in_line == [false; 2]
    }
}

impl Item {
    /// What it counts, in bytes. A message counts, too: else a peer could queue any number of them.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Control(Control::Reset(reset)) => MESSAGE + reset.message.len(),
            Self::Control(_) => MESSAGE,
            Self::Data(payload) => OVERHEAD + payload.len(),
            Self::Small(payload) => OVERHEAD + payload.len(),
        }
    }

    pub(super) fn sort(&self) -> Sort {
        match self {
            Self::Control(_) => Sort::Message,
            Self::Data(_) | Self::Small(_) => Sort::Data,
        }
    }
}

/// What a frame costs beside its bytes.
const OVERHEAD: usize = 64;

/// What a message costs, about, without a long text.
pub(super) const MESSAGE: usize = 256;

/// Frames with fewer bytes are put together, rather than kept with the block of 64 KiB that they came in.
const SMALL: usize = 4096;

/// How many slots an empty queue keeps, so that a ping-pong allocates none and an idle stream holds little.
const KEPT_SLOTS: usize = 16;
