//! When the next link is dialled.

use std::time::{Duration, Instant};

use codec::v2;

/// The pause before the next dial: none after a link that was of use, then longer and longer, never the same.
#[derive(Clone, Debug)]
pub(super) struct Retry {
    /// Attempts and links in a row that were of no use.
    failures: u32,
    /// When the last of them ended.
    since: Instant,
    /// The part of the longest pause that is drawn this time.
    share: f64,
    /// What a relay has asked for.
    not_before: Option<Instant>,
}

impl Retry {
    /// A dial that is due at once.
    pub(super) fn new(now: Instant) -> Self {
        Self { failures: 0, since: now, share: 1.0, not_before: None }
    }

    /// An attempt came to nothing.
    pub(super) fn failed(&mut self, now: Instant) {
        self.failures += 1;
        self.since = now;
        // Half of the pause is jitter, so that clients of one relay do not come back as one.
        self.share = 0.5 + fastrand::f64() / 2.0;
        self.not_before = None;
    }

    /// A link is over that a relay had accepted for so long; for no time, if it never had.
    pub(super) fn lost(&mut self, now: Instant, lasted: Duration) {
        if lasted >= OF_USE {
            return self.at_once(now);
        }
        if !lasted.is_zero() {
            self.failures = self.failures.min(MOST_FAILURES_OF_ACCEPTED - 1);
        }
        self.failed(now);
    }

    /// There is a reason to dial that has nothing to do with failures.
    pub(super) fn at_once(&mut self, now: Instant) {
        *self = Self::new(now);
    }

    /// A relay wants to be left alone until then.
    pub(super) fn hold(&mut self, until: Instant) {
        self.not_before = Some(until);
    }

    /// When the next dial is due. `is_urgent`: something waits for it.
    pub(super) fn due(&self, is_urgent: bool) -> Instant {
        let most = if is_urgent { v2::RESUME_RETRY_MAX } else { IDLE_RETRY_MAX };
        let pause = match self.failures {
            0 => Duration::ZERO,
            failures => {
                let longest = FIRST.saturating_mul(1 << (failures - 1).min(16)).min(most);
                longest.mul_f64(self.share)
            }
        };
        let due = self.since + pause;
        self.not_before.map_or(due, |not_before| due.max(not_before))
    }
}

/// The longest pause after the first failure: a relay that restarts is back within a few of these.
const FIRST: Duration = Duration::from_millis(100);

/// The longest pause while nothing waits for the link.
const IDLE_RETRY_MAX: Duration = Duration::from_secs(30);

/// A link that was accepted and then lost sooner than this counts as a failure, so that a relay that accepts and drops
/// is not dialled in a tight loop.
const OF_USE: Duration = Duration::from_millis(200);

/// But it does not count as more failures in a row than these: the relay is there, and a network that cuts links one
/// after the other is no reason to wait long.
const MOST_FAILURES_OF_ACCEPTED: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_what_the_need_allows() {
        let now = Instant::now();
        let mut retry = Retry::new(now);
        assert_eq!(retry.due(true), now);
        for most in [100, 200, 400, 800, 1600, 3200, 6400, 12_800] {
            retry.failed(now);
            let pause = retry.due(true) - now;
            let most = Duration::from_millis(most).min(v2::RESUME_RETRY_MAX);
            assert!(most / 2 <= pause && pause <= most, "{pause:?} of {most:?}");
        }
        for _ in 0..40 {
            retry.failed(now);
        }
        assert!(retry.due(false) - now >= IDLE_RETRY_MAX / 2);
        assert!(retry.due(true) - now <= v2::RESUME_RETRY_MAX);
    }

    #[test]
    fn a_link_that_was_of_use_is_replaced_at_once() {
        let now = Instant::now();
        let mut retry = Retry::new(now);
        retry.failed(now);
        retry.lost(now, OF_USE - Duration::from_millis(1));
        assert!(retry.due(true) > now + FIRST / 2);
        for _ in 0..9 {
            retry.lost(now, OF_USE - Duration::from_millis(1));
        }
        assert!(retry.due(true) <= now + FIRST * 2);
        retry.lost(now, OF_USE);
        assert_eq!(retry.due(true), now);
        let until = now + Duration::from_secs(1);
        retry.hold(until);
        assert_eq!(retry.due(true), until);
        retry.at_once(now);
        assert_eq!(retry.due(true), now);
    }
}
