//! How long to wait before dialling a relay again.

use std::time::Duration;

/// Delays between attempts to reach a relay: exponential, with full jitter.
///
/// Each delay is drawn uniformly from zero to a ceiling, both included. The ceiling starts at
/// [`Backoff::FIRST_CEILING`] and doubles with every delay up to [`Backoff::LAST_CEILING`]. Drawing
/// from the whole range spreads a thousand agents evenly over it when their relay comes back, where
/// a fixed delay with a little jitter would bring them back together; the price is that a single
/// delay may be close to zero.
///
/// Spec v1, A-11; the shape of the jitter, and when a link counts as lasting, are our choice.
///
/// A link that lasted for [`Backoff::LASTING`] takes the ceiling back to the first one. A shorter
/// one does not, so that a relay which accepts and drops links at once is not dialled in a tight
/// loop.
#[derive(Debug, Clone)]
pub struct Backoff {
    ceiling: Duration,
    rng: fastrand::Rng,
}

impl Backoff {
    /// The ceiling of the first delay.
    pub const FIRST_CEILING: Duration = Duration::from_secs(1);
    /// The ceiling that doubling stops at: a relay that is back is dialled within half a minute.
    pub const LAST_CEILING: Duration = Duration::from_secs(30);
    /// How long a link must have lasted to count as a success.
    pub const LASTING: Duration = Duration::from_secs(10);

    /// Delays that differ from one process to the next.
    pub fn new() -> Self {
        Self::with_rng(fastrand::Rng::new())
    }

    /// Delays drawn from `rng`, for tests that need them to repeat.
    pub fn with_rng(rng: fastrand::Rng) -> Self {
        Self { ceiling: Self::FIRST_CEILING, rng }
    }

    /// The time to wait before the next attempt.
    pub fn next_delay(&mut self) -> Duration {
        let ceiling = u64::try_from(self.ceiling.as_nanos()).unwrap_or(u64::MAX);
        self.ceiling = (self.ceiling * 2).min(Self::LAST_CEILING);
        Duration::from_nanos(self.rng.u64(0..=ceiling))
    }

    /// Says how long the link lasted that the last attempt brought about.
    pub fn link_lasted(&mut self, duration: Duration) {
        if duration >= Self::LASTING {
            self.ceiling = Self::FIRST_CEILING;
        }
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seeded(seed: u64) -> Backoff {
        Backoff::with_rng(fastrand::Rng::with_seed(seed))
    }

    /// The longest of many delays at every step: close below the ceiling of that step.
    fn ceilings(prepare: impl Fn(&mut Backoff)) -> Vec<u64> {
        let longest = |step: usize| {
            let delays = (0..2000).map(|seed| {
                let mut backoff = seeded(seed);
                prepare(&mut backoff);
                (0..=step).map(|_| backoff.next_delay()).last().unwrap_or_default()
            });
            let longest = delays.max().unwrap_or_default();
            longest.as_secs_f64().ceil() as u64
        };
        (0..8).map(longest).collect()
    }

    #[test]
    fn ceilings_double_up_to_the_last() {
        assert_eq!(ceilings(|_| {}), [1, 2, 4, 8, 16, 30, 30, 30]);
    }

    #[test]
    fn a_lasting_link_starts_over() {
        let after = |lasted: Duration| {
            ceilings(move |backoff| {
                for _ in 0..3 {
                    backoff.next_delay();
                }
                backoff.link_lasted(lasted);
            })
        };
        assert_eq!(after(Duration::from_secs(10))[..3], [1, 2, 4]);
        assert_eq!(after(Duration::from_millis(9_999))[..3], [8, 16, 30]);
    }

    #[test]
    fn delays_fill_the_whole_range() {
        let mut first: Vec<_> = (0..1000).map(|seed| seeded(seed).next_delay()).collect();
        first.sort();
        let quartiles =
            [first[250], first[500], first[750]].map(|delay| delay.as_millis() / 50 * 50);
        assert!(first[0] < Duration::from_millis(20), "{:?}", first[0]);
        assert!(
            quartiles
                .iter()
                .zip([250, 500, 750])
                .all(|(found, ideal)| found.abs_diff(ideal) <= 100),
            "{quartiles:?}"
        );
    }

    #[test]
    fn one_seed_gives_one_sequence() {
        let sequence = |seed| {
            let mut backoff = seeded(seed);
            std::iter::repeat_with(|| backoff.next_delay()).take(5).collect::<Vec<_>>()
        };
        assert_eq!(sequence(7), sequence(7));
        assert_ne!(sequence(7), sequence(8));
    }
}
