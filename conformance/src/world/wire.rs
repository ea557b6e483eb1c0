//! Links: two queues of frames, which take time, may stand still, and may lose their tails.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mux::Keepalive;

use super::Flag;

/// What a WebSocket carries.
#[derive(Clone, Debug)]
pub(super) enum Frame {
    Text(String),
    Binary(Bytes),
    Ping,
    Pong,
    Close,
}

impl Frame {
    /// Bytes on the wire, about.
    pub(super) fn bytes(&self) -> usize {
        HEADER
            + match self {
                Self::Text(text) => text.len(),
                Self::Binary(bytes) => bytes.len(),
                Self::Ping | Self::Pong | Self::Close => 0,
            }
    }
}

/// One direction of a link.
#[derive(Debug)]
pub(super) struct Way {
    parcels: VecDeque<Parcel>,
    pub(super) latency: Duration,
    pub(super) stalled_until: Option<Instant>,
    /// What is sent from now on does not arrive.
    pub(super) is_lost: bool,
    /// When its receiver sees that the link is over, behind what arrives.
    pub(super) end: Option<Instant>,
    /// Bytes that are under way, or were swallowed.
    bytes: usize,
    capacity: usize,
}

#[derive(Debug)]
pub(super) struct Parcel {
    arrives: Instant,
    pub(super) frame: Frame,
    /// Its line in the transcript.
    pub(super) entry: usize,
}

impl Way {
    pub(super) fn new(latency: Duration, capacity: usize) -> Self {
        Self {
            parcels: VecDeque::new(),
            latency,
            stalled_until: None,
            is_lost: false,
            end: None,
            bytes: 0,
            capacity,
        }
    }

    /// Whether a sender may put another frame on it.
    pub(super) fn has_room(&self) -> bool {
        self.bytes < self.capacity
    }

    /// Puts a frame on it. Whether it will arrive, as far as that is known.
    pub(super) fn send(&mut self, now: Instant, frame: Frame, entry: usize) -> bool {
        self.bytes += frame.bytes();
        if self.is_lost {
            return false;
        }
        let last = self.parcels.back().map_or(now, |parcel| parcel.arrives);
        let arrives = last.max(now + self.latency);
        self.parcels.push_back(Parcel { arrives, frame, entry });
        true
    }

    /// When the next frame arrives, or else the end of the link is seen.
    pub(super) fn next(&self) -> Option<Instant> {
        let next = self.parcels.front().map(|parcel| parcel.arrives).or(self.end)?;
        Some(self.stalled_until.map_or(next, |until| next.max(until)))
    }

    /// The frame that has arrived.
    pub(super) fn take(&mut self) -> Option<Parcel> {
        let parcel = self.parcels.pop_front()?;
        self.bytes -= parcel.frame.bytes();
        Some(parcel)
    }

    /// Only this part of what is under way, of 65,535, still arrives; a frame that is not whole does not. Gives the lines
    /// of the transcript that are lost.
    pub(super) fn cut(&mut self, keep: u16) -> Vec<usize> {
        let total: usize = self.parcels.iter().map(|parcel| parcel.frame.bytes()).sum();
        let mut left = total * usize::from(keep) / usize::from(u16::MAX);
        let whole = self.parcels.iter().take_while(|parcel| {
            let fits = parcel.frame.bytes() <= left;
            left = left.saturating_sub(parcel.frame.bytes());
            fits
        });
        let whole = whole.count();
        self.is_lost = true;
        self.parcels.drain(whole..).map(|parcel| parcel.entry).collect()
    }
}

/// A link, from its upgrade to the moment when both sides have let go of it. Side 0 has dialled, side 1 is the relay.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) dialler: Dialler,
    pub(super) relay: usize,
    /// Towards the relay, and away from it.
    pub(super) ways: [Way; 2],
    pub(super) ends: [Option<End>; 2],
}

/// Who has dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialler {
    /// A client or an agent, with the key of the link in its endpoint.
    Process(usize, mux::v2::LinkKey),
    /// Somebody without an endpoint.
    Stray(usize),
}

/// What one side of a link knows of it.
#[derive(Debug)]
pub(super) struct End {
    /// Set when there may be something to send.
    pub(super) driver: Flag,
    pub(super) keepalive: Keepalive,
    /// It has something to send and found no room.
    pub(super) is_blocked: bool,
    /// A close frame was sent; if nothing comes until then the link is given up.
    pub(super) closing: Option<Instant>,
}

/// What a frame costs beside its payload.
const HEADER: usize = 6;
