//! Noticing that the machine has slept, or that this process was stopped.

#[cfg(not(target_os = "linux"))]
use std::time::SystemTime;
use std::time::{Duration, Instant};

/// Compares two clocks, of which one goes on while the machine sleeps, and looks for gaps in its own being called.
///
/// What the peers have said meanwhile is lost, and whether they are still there can only be found out by asking (spec v2,
/// TM-7).
#[derive(Debug)]
pub struct Awake {
    last: Reading,
}

/// What the clocks say.
#[derive(Clone, Copy, Debug)]
struct Reading {
    /// Stands still while the machine sleeps, on most systems.
    awake: Instant,
    /// Does not.
    always: Duration,
}

impl Awake {
    /// Begins to watch. Must be called within a tokio runtime.
    pub fn new() -> Self {
        Self { last: Reading::now() }
    }

    /// Completes when the machine has slept, or the process was stopped, for more than a few seconds. May be dropped.
    pub async fn interrupted(&mut self) {
        loop {
            tokio::time::sleep(TICK).await;
            let now = Reading::now();
            let last = std::mem::replace(&mut self.last, now);
            if was_interrupted(last, now) {
                return;
            }
        }
    }
}

impl Default for Awake {
    fn default() -> Self {
        Self::new()
    }
}

fn was_interrupted(last: Reading, now: Reading) -> bool {
    let awake = now.awake.saturating_duration_since(last.awake);
    let always = now.always.saturating_sub(last.always);
    always.saturating_sub(awake) > LEAST_SLEEP || awake > TICK + LEAST_GAP
}

#[cfg(target_os = "linux")]
impl Reading {
    fn now() -> Self {
        let boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let always = Duration::try_from(boot).unwrap_or_default();
        Self { awake: Instant::now(), always }
    }
}

#[cfg(not(target_os = "linux"))]
impl Reading {
    fn now() -> Self {
        let always = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { awake: Instant::now(), always }
    }
}

/// How often the clocks are looked at, while the machine is awake.
const TICK: Duration = Duration::from_secs(3);

/// What one clock must be ahead of the other.
const LEAST_SLEEP: Duration = Duration::from_secs(2);

/// How late a tick must be.
const LEAST_GAP: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn after(start: Reading, awake: u64, always: u64) -> bool {
        let later = Reading {
            awake: start.awake + Duration::from_secs(awake),
            always: start.always + Duration::from_secs(always),
        };
        was_interrupted(start, later)
    }

    #[test]
    fn a_sleep_and_a_stop_are_told_from_a_busy_machine() {
        let start = Reading::now();
        assert!(!after(start, 5, 5));
        assert!(!after(start, 7, 7), "a late tick");
        assert!(after(start, 1, 100), "a sleep");
        assert!(after(start, 60, 60), "a stopped process");
    }

    #[tokio::test]
    async fn nothing_is_noticed_while_nothing_happens() {
        let mut awake = Awake::new();
        let watched = tokio::time::timeout(Duration::from_millis(20), awake.interrupted()).await;
        assert!(watched.is_err());
    }
}
