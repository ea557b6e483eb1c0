//! What a router holds, for those who watch its bounds.

use std::fmt::Write as _;
use std::hash::{Hash as _, Hasher};

use super::Router;
use super::lane::Lane;

/// How much a [`Router`] holds at the moment (spec v2, LM-1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Numbers that are not forgotten, on all links.
    pub numbers: usize,
    /// Messages that wait, beside those in the queues of streams.
    pub messages: usize,
    /// Bytes that wait in all queues.
    pub queued: usize,
    /// Bytes that wait in the longest queue.
    pub longest: usize,
}

impl<W> Router<W> {
    /// Feeds `state` with what waits where. Two routers that agree in it do the same, as far as nobody's attempts are too
    /// many: so a search over states finds those again that it has seen.
    pub fn fingerprint(&self, state: &mut impl Hasher) {
        (self.next_id, self.is_draining, self.queued).hash(state);
        let mut text = String::new();
        for (id, link) in &self.links {
            (id, link.last_number, &link.credits, link.next_source, link.run).hash(state);
            text.clear();
            let _ = write!(text, "{:?} {:?} {:?}", link.control, link.lanes, link.lines);
            text.hash(state);
        }
    }

    /// Counts what there is.
    pub fn census(&self) -> Census {
        let links = self.links.values();
        let lanes = links.clone().flat_map(|link| link.lanes.values());
        Census {
            numbers: lanes.clone().count(),
            messages: links.map(|link| link.control.len()).sum(),
            queued: self.queued,
            longest: lanes.map(Lane::bytes).max().unwrap_or(0),
        }
    }
}
