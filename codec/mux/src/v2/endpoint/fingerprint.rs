//! What two endpoints have in common that will do the same.

use std::hash::{Hash as _, Hasher};

use codec::v2;

use super::{Endpoint, Stream};
use crate::Wake;
use crate::v2::link::Link;

impl<W: Wake + Clone + Default> Endpoint<W> {
    /// Feeds `state` with everything that decides what this endpoint does, but for the time: of its alarms, only which
    /// there are and which comes first. So a search over its states finds those again that it has seen.
    pub fn fingerprint(&self, state: &mut impl Hasher) {
        (self.side, self.is_shut_down, self.next_key, self.budget).hash(state);
        self.streams.len().hash(state);
        for (key, stream) in &self.streams {
            key.hash(state);
            stream.fingerprint(state);
        }
        self.links.len().hash(state);
        for (key, link) in &self.links {
            key.hash(state);
            link.fingerprint(state);
        }
        self.timers.iter().for_each(|(_, key)| key.hash(state));
        self.memory.fingerprint(state);
        self.events.len().hash(state);
    }
}

impl<W> Stream<W> {
    fn fingerprint(&self, state: &mut impl Hasher) {
        (&self.id, &self.ask, &self.phase, self.attempt, self.attachment).hash(state);
        (&self.send, &self.recv, &self.breaks_off).hash(state);
        (self.in_line, self.in_credits, self.is_interrupted).hash(state);
        let alarms = [self.times.give_up, self.times.retry, self.times.opened_by];
        alarms
            .map(|alarm| (alarm.is_some(), alarm.is_some() && alarm == self.times.first()))
            .hash(state);
    }
}

impl<W> Link<W> {
    fn fingerprint(&self, state: &mut impl Hasher) {
        (self.state, &self.credits, &self.turns, &self.numbers).hash(state);
        (self.last_number(), self.max_data, self.max_streams, self.allowance).hash(state);
        self.control.len().hash(state);
        self.control.iter().for_each(|message| v2::encode(message).hash(state));
    }
}
