//! How long the end of a stream is held back from a relay that may drop the stream's tail.
//!
//! Such a relay acts on `connection_reset` at once and drops what it still holds for the client.
//! Nothing tells an agent what the client has got. The nearest thing is a ping sent behind the
//! last data: its pong comes when the relay has taken all but its last few messages, and a
//! second later those are with any client that keeps up. One that does not leaves the rest in
//! the relay, unseen; so the more a stream has sent lately, beyond what sockets on the way hold,
//! the longer its end waits.

use std::time::{Duration, Instant};

/// What a stream has sent lately, as a bucket that leaks at the pace of a slow client.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backlog {
    bytes: u64,
    at: Option<Instant>,
}

impl Backlog {
    /// A stream that has sent nothing.
    pub(super) const EMPTY: Self = Self { bytes: 0, at: None };

    /// A message of `bytes` went out.
    pub(super) fn sent(&mut self, now: Instant, bytes: usize) {
        self.bytes = self.left(now) + bytes as u64;
        self.at = Some(now);
    }

    /// How long to wait between the pong and the end: `least`, and as long as a slow client
    /// would need for what sockets cannot hold.
    pub(super) fn linger(&self, now: Instant, least: Duration) -> Duration {
        let unseen = self.left(now).saturating_sub(HELD_BY_SOCKETS);
        least + Duration::from_millis(unseen * 1000 / SLOW_CLIENT).min(LONGEST)
    }

    fn left(&self, now: Instant) -> u64 {
        let Some(at) = self.at else { return 0 };
        let millis = u64::try_from(now.saturating_duration_since(at).as_millis());
        let leaked = millis.unwrap_or(u64::MAX).saturating_mul(SLOW_CLIENT) / 1000;
        self.bytes.saturating_sub(leaked)
    }
}

/// Bytes per second that even a slow client takes.
const SLOW_CLIENT: u64 = 256 * 1024;

/// Bytes of messages that the sockets between relay and client hold at the least; nothing of
/// them was ever seen lost.
const HELD_BY_SOCKETS: u64 = 4 * 1024 * 1024;

/// A relay cuts off a client that takes longer than this for what it holds, since the client's
/// pongs stand behind it.
const LONGEST: Duration = Duration::from_secs(40);

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_little_waits_the_least_and_much_waits_longer_within_the_longest() {
        let now = Instant::now();
        let mut backlog = Backlog::EMPTY;
        assert_eq!(backlog.linger(now, SECOND), SECOND);
        backlog.sent(now, 4 * 1024 * 1024);
        assert_eq!(backlog.linger(now, SECOND), SECOND);
        backlog.sent(now, 1024 * 1024);
        assert_eq!(backlog.linger(now, SECOND), 5 * SECOND);
        assert_eq!(backlog.linger(now + 2 * SECOND, SECOND), 3 * SECOND);
        backlog.sent(now, 1024 * 1024 * 1024);
        assert_eq!(backlog.linger(now, SECOND), 41 * SECOND);
    }

    #[test]
    fn a_steady_trickle_leaves_no_backlog() {
        let mut now = Instant::now();
        let mut backlog = Backlog::EMPTY;
        for _ in 0..1000 {
            backlog.sent(now, 200 * 1024);
            now += SECOND;
        }
        assert_eq!(backlog.linger(now, SECOND), SECOND);
    }
}
