//! How streams ended, for as long as somebody may still ask.

use std::collections::{HashMap, VecDeque};
use std::hash::{Hash as _, Hasher};
use std::time::{Duration, Instant};

use codec::v2::{self, Code};

use super::StreamId;

/// What an acceptor remembers of streams that are over (spec v2, EN-8).
///
/// Bounded in time and number. Whether it reaches back far enough to tell that an unknown stream was never served is
/// what [`Self::is_complete`] says.
#[derive(Clone, Debug)]
pub(crate) struct Memory {
    ends: HashMap<StreamId, Remembered>,
    order: VecDeque<(Instant, StreamId)>,
    /// Since when nothing was forgotten before its time.
    complete_since: Instant,
    most: usize,
}

/// The end of one stream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Remembered {
    /// Whose it was.
    pub(crate) principal: Option<String>,
    /// `done`, or `reset` with this.
    pub(crate) reset: Option<(Code, String)>,
}

impl Memory {
    /// A process that has just started.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            ends: HashMap::new(),
            order: VecDeque::new(),
            complete_since: now,
            most: v2::MAX_REMEMBERED,
        }
    }

    /// Whether a stream that is unknown here has certainly not been served in the time that counts.
    pub(crate) fn is_complete(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.complete_since) >= REMEMBERED_FOR
    }

    /// Somebody else may have served this party's streams until now.
    pub(crate) fn is_incomplete_until(&mut self, now: Instant) {
        self.complete_since = now;
    }

    /// Feeds `state` with what is remembered, but for the times.
    pub(crate) fn fingerprint(&self, state: &mut impl Hasher) {
        for (_, id) in &self.order {
            (id, self.ends.get(id)).hash(state);
        }
    }

    /// How many ends are remembered.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// How a stream ended.
    pub(crate) fn get(&mut self, now: Instant, id: &StreamId) -> Option<&Remembered> {
        self.expire(now);
        self.ends.get(id)
    }

    /// A stream is over.
    pub(crate) fn insert(&mut self, now: Instant, id: StreamId, end: Remembered) {
        self.expire(now);
        if self.ends.len() >= self.most
            && let Some((_, oldest)) = self.order.pop_front()
        {
            self.ends.remove(&oldest);
            self.complete_since = now;
        }
        self.order.push_back((now, id.clone()));
        self.ends.insert(id, end);
    }

    fn expire(&mut self, now: Instant) {
        while let Some((at, _)) = self.order.front()
            && now.saturating_duration_since(*at) >= REMEMBERED_FOR
            && let Some((_, id)) = self.order.pop_front()
        {
            self.ends.remove(&id);
        }
    }
}

const REMEMBERED_FOR: Duration = v2::REMEMBERED_FOR;

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: usize) -> StreamId {
        StreamId::new(format!("{n:08}-0000"))
    }

    fn done() -> Remembered {
        Remembered { principal: None, reset: None }
    }

    #[test]
    fn an_end_is_remembered_for_its_time() {
        let start = Instant::now();
        let mut memory = Memory::new(start);
        memory.insert(start, id(1), done());
        let last = start + REMEMBERED_FOR - Duration::from_millis(1);
        assert_eq!(memory.get(last, &id(1)), Some(&done()));
        assert!(!memory.is_complete(last));
        assert_eq!(memory.get(start + REMEMBERED_FOR, &id(1)), None);
        assert!(memory.is_complete(start + REMEMBERED_FOR));
    }

    #[test]
    fn what_is_forgotten_early_makes_the_memory_incomplete() {
        let start = Instant::now();
        let mut memory = Memory { most: 2, ..Memory::new(start) };
        let later = start + REMEMBERED_FOR;
        for n in 0..2 {
            memory.insert(later, id(n), done());
        }
        assert!(memory.is_complete(later));
        memory.insert(later, id(2), done());
        assert_eq!(memory.get(later, &id(0)), None);
        assert_eq!(memory.get(later, &id(1)), Some(&done()));
        assert!(!memory.is_complete(later));
    }
}
