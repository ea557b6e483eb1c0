//! Links of a search, and the ends of its stream.

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};

use codec::v2::{self, Control};
use mux::Wake;
use mux::v2::{LinkKey, Transmit};
use relay::router::LinkId;

/// Nobody waits to be woken: everybody may act at any moment.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Quiet;

impl Wake for Quiet {
    fn wake(&self) {}
}

/// A link between a relay and a client or agent.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) relay: usize,
    pub(super) key: LinkKey,
    pub(super) id: LinkId,
    /// Towards the relay, and away from it.
    pub(super) ways: [VecDeque<Transmit>; 2],
    pub(super) is_cut: bool,
    /// Whether each side still takes it for alive: the dialler, the relay.
    pub(super) is_open: [bool; 2],
}

impl Link {
    pub(super) fn new(relay: usize, key: LinkKey, id: LinkId) -> Self {
        let ways = Default::default();
        Self { relay, key, id, ways, is_cut: false, is_open: [true, true] }
    }

    /// One side sends.
    pub(super) fn send(&mut self, side: usize, transmit: Transmit) {
        if !self.is_cut && self.is_open[1 - side] {
            self.ways[side].push_back(transmit);
        }
    }

    /// Whether both sides are there and what is sent arrives.
    pub(super) fn is_whole(&self) -> bool {
        !self.is_cut && self.is_open == [true, true]
    }

    /// One side has let go: nobody takes what is on the way to it.
    pub(super) fn leave(&mut self, side: usize) {
        self.is_open[side] = false;
        self.ways[1 - side].clear();
    }
}

impl Hash for Link {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.relay, self.key, self.id, self.is_cut, self.is_open).hash(state);
        for way in &self.ways {
            way.len().hash(state);
            for transmit in way {
                match transmit {
                    Transmit::Control(message) => v2::encode(message).hash(state),
                    Transmit::Data { stream, payload } => (stream, payload).hash(state),
                }
            }
        }
    }
}

/// One end of the stream, as its owner sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Seat {
    pub(super) written: u64,
    pub(super) has_finished: bool,
    /// Read, and not handed on yet.
    pub(super) held: u64,
    pub(super) consumed: u64,
    pub(super) has_consumed_end: bool,
}

/// What is on a link, in a word.
pub(super) fn described(transmit: &Transmit) -> String {
    match transmit {
        Transmit::Control(message) => super::super::described_message(message),
        Transmit::Data { stream, payload } => format!("data {stream}: {payload:?}"),
    }
}

/// Whether it is the first attempt of all.
pub(super) fn is_first_open(transmit: &Transmit) -> bool {
    matches!(transmit, Transmit::Control(Control::Open(open)) if open.attempt == 1)
}
