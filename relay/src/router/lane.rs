//! One stream number on one link of the relay.

use std::collections::VecDeque;

use bytes::Bytes;
use codec::v2::Control;

use super::LinkId;

/// A number on a link: where it leads, and what waits to be sent on it.
#[derive(Clone, Debug)]
pub(super) struct Lane {
    /// Where what comes on it goes. None once the stream is over there; what waits is still sent.
    pub(super) route: Option<Route>,
    /// The far link, among whose numbers this one takes its turns.
    pub(super) group: LinkId,
    /// In order.
    pub(super) queue: VecDeque<Item>,
    /// Of what is in the queue.
    pub(super) bytes: usize,
    /// The latest credit: consumed, and the limit. An earlier one has no meaning any more.
    pub(super) credit: Option<(u64, u64)>,
    /// It stands in line.
    pub(super) in_line: bool,
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
    Data(Bytes),
    Control(Control),
}

impl Lane {
    pub(super) fn new(route: Route) -> Self {
        Self {
            route: Some(route),
            group: route.link,
            queue: VecDeque::new(),
            bytes: 0,
            credit: None,
            in_line: false,
        }
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
}

impl Item {
    /// What it counts, in bytes. A message counts, too: else a peer could queue any number of them.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Data(payload) => payload.len() + OVERHEAD,
            Self::Control(_) => MESSAGE,
        }
    }
}

/// What a frame costs beside its bytes: else one byte a frame would cost forty times what it counts.
const OVERHEAD: usize = 64;

/// What a message costs, about, without a long text.
const MESSAGE: usize = 256;

/// How many slots an empty queue keeps, so that a ping-pong allocates none and an idle stream holds little.
const KEPT_SLOTS: usize = 16;
