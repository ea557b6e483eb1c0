//! How long a stream that takes nothing may hold up the link it shares.

use std::time::{Duration, Instant};

/// What one link has left for streams whose queues are full (spec v1, L-9).
///
/// A stream may hold the link up until it has taken nothing for the timeout, counted from the last
/// bytes that it took: streams that stand still together are so given up together, not one after
/// the other. What a stream held the link up before it was given up is taken off the time of those
/// that come next, and comes back as time passes; a stream that takes bytes, however slowly, owes
/// nothing.
#[derive(Clone, Debug)]
pub struct Patience {
    timeout: Duration,
    /// Time that streams have used up at `at`.
    debt: Duration,
    at: Instant,
}

impl Patience {
    /// A link that nothing has held up, with the timeout for one stream.
    pub fn new(now: Instant, timeout: Duration) -> Self {
        Self { timeout, debt: Duration::ZERO, at: now }
    }

    /// The timeout for one stream.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// When a stream is to be given up that has held the link up since `since` and took its last
    /// bytes at `took`.
    pub fn deadline(&self, since: Instant, took: Instant) -> Instant {
        let left = self.timeout.saturating_sub(self.owed(since)).max(self.timeout / LEAST);
        (took + self.timeout).min(since.max(took) + left)
    }

    /// A stream that had held the link up since `since`, or had last taken bytes then, was given up.
    pub fn give_up(&mut self, now: Instant, since: Instant) {
        let held = now.saturating_duration_since(since);
        self.debt = (self.owed(since) + held).min(self.timeout);
        self.at = now;
    }

    fn owed(&self, now: Instant) -> Duration {
        self.debt.saturating_sub(now.saturating_duration_since(self.at))
    }
}

/// A stream gets at least this part of the timeout, however much others have used up.
const LEAST: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_stream_has_the_timeout_from_its_last_bytes_on() {
        let now = Instant::now();
        let patience = Patience::new(now, 10 * SECOND);
        let since = now + 20 * SECOND;
        assert_eq!(patience.deadline(since, since), since + 10 * SECOND);
        assert_eq!(patience.deadline(since, since - 4 * SECOND), since + 6 * SECOND);
        assert!(patience.deadline(since, since - 30 * SECOND) < since, "at once");
        // It took something meanwhile.
        assert_eq!(patience.deadline(since, since + 3 * SECOND), since + 13 * SECOND);
    }

    #[test]
    fn streams_that_come_one_after_the_other_hold_the_link_up_ever_less() {
        let now = Instant::now();
        let mut patience = Patience::new(now, 10 * SECOND);
        patience.give_up(now + 10 * SECOND, now);
        let second = now + 11 * SECOND;
        assert_eq!(patience.deadline(second, second), second + 2 * SECOND, "the least");
        patience.give_up(second + 2 * SECOND, second);
        // Ten seconds of use are paid back in ten seconds without.
        let third = second + 8 * SECOND;
        assert_eq!(patience.deadline(third, third), third + 6 * SECOND);
        let late = third + 60 * SECOND;
        assert_eq!(patience.deadline(late, late), late + 10 * SECOND);
    }
}
