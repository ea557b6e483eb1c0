//! What an endpoint holds, for those who watch its bounds.

use super::Endpoint;
use crate::Wake;

/// How much an [`Endpoint`] holds at the moment (spec v2, LM-1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Streams, those that are over and not released included.
    pub streams: usize,
    /// Streams that can be found by their id (acceptors).
    pub ids: usize,
    /// Numbers that are not over, on all links.
    pub numbers: usize,
    /// Messages that wait on all links.
    pub messages: usize,
    /// Places in all lines: of those that have credit to tell, and of those that have something to send.
    pub places: usize,
    /// Alarms that are set.
    pub timers: usize,
    /// Events that nobody has taken.
    pub events: usize,
    /// How streams ended, as far as that is remembered (acceptors).
    pub remembered: usize,
    /// Bytes that all windows have together, of [`window_budget`](crate::v2::Settings::window_budget).
    pub windows: u64,
    /// Received and not handed on: the most that one stream has, in bytes.
    pub most_waiting: u64,
    /// Kept for repetition: the most that one stream has, in bytes.
    pub most_kept: u64,
    /// What the streams that have lost their link hold, in bytes.
    pub detached: u64,
}

impl<W: Wake + Clone + Default> Endpoint<W> {
    /// Counts what there is.
    pub fn census(&self) -> Census {
        let streams = self.streams.values();
        let links = self.links.values();
        let detached = |stream: &&super::Stream<W>| stream.has_lost_link();
        Census {
            streams: self.streams.len(),
            ids: self.by_id.len(),
            numbers: links.clone().map(|link| link.numbers.len()).sum(),
            messages: links.clone().map(|link| link.control.len()).sum(),
            places: links.map(|link| link.credits.len() + link.turns.len()).sum(),
            timers: self.timers.len(),
            events: self.events.len(),
            remembered: self.memory.len(),
            windows: self.settings.window_budget.saturating_sub(self.budget.left()),
            most_waiting: streams.clone().map(|it| it.recv.waiting()).max().unwrap_or(0),
            most_kept: streams.clone().map(|it| it.send.kept_bytes()).max().unwrap_or(0),
            detached: streams.filter(detached).map(super::Stream::held_bytes).sum(),
        }
    }
}
