//! How often a principal may attempt.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The repeated attempts of each principal (spec v2, RL-7): each may cost a window of repetition.
///
/// First attempts repeat nothing, and are bounded by the number of streams. One entry for each principal that has
/// repeated lately; there are as many as the relay has secrets for clients.
#[derive(Clone, Debug)]
pub(super) struct Attempts {
    most: u32,
    used: BTreeMap<Option<String>, Used>,
}

#[derive(Clone, Copy, Debug)]
struct Used {
    /// Attempts that are not given back yet.
    count: f64,
    at: Instant,
}

impl Attempts {
    /// So many at once, which come back evenly within [`PERIOD`].
    pub(super) fn new(most: u32) -> Self {
        Self { most, used: BTreeMap::new() }
    }

    /// Whether `principal` may repeat now; then it counts.
    pub(super) fn allow(&mut self, now: Instant, principal: &Option<String>) -> bool {
        let most = f64::from(self.most);
        let Some(used) = self.used.get_mut(principal) else {
            self.used.insert(principal.clone(), Used { count: 1.0, at: now });
            return self.most > 0;
        };
        let passed = now.saturating_duration_since(used.at).as_secs_f64();
        used.count = (used.count - passed * most / PERIOD.as_secs_f64()).max(0.0);
        used.at = now;
        if used.count + 1.0 > most {
            return false;
        }
        used.count += 1.0;
        true
    }
}

/// The time in which all attempts come back.
const PERIOD: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_come_back_evenly_and_each_principal_has_its_own() {
        let now = Instant::now();
        let mut attempts = Attempts::new(6);
        let (one, other) = (Some("one".to_owned()), None);
        for _ in 0..6 {
            assert!(attempts.allow(now, &one));
        }
        assert!(!attempts.allow(now, &one));
        assert!(attempts.allow(now, &other));
        assert!(!attempts.allow(now + Duration::from_secs(9), &one));
        assert!(attempts.allow(now + Duration::from_secs(11), &one));
        assert!(!attempts.allow(now + Duration::from_secs(11), &one));
        let later = now + Duration::from_secs(600);
        assert_eq!((0..9).filter(|_| attempts.allow(later, &one)).count(), 6);
    }
}
