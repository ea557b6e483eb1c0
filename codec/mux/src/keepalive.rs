//! Pings: is the peer of a link still there?

use std::time::{Duration, Instant};

/// What [`Keepalive::handle_timeout`] asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is due.
    Wait,
    /// Send a ping now.
    Ping,
    /// Nothing was heard for a whole timeout after a ping: the peer is gone.
    Dead,
}

/// The ping clock of one link (spec v1, K-1 and K-2).
///
/// A ping is due every `interval`. When nothing at all arrives for `timeout` after one was sent,
/// the link is dead. Whatever arrives counts as a sign of life, not just the pong: on a slow
/// link the pong stands in line behind data.
/// The silence of the program behind the peer's socket proves nothing (spec v1, K-5).
#[derive(Clone, Debug)]
pub struct Keepalive {
    interval: Duration,
    timeout: Duration,
    next_ping: Instant,
    /// How long the answer to the next ping may take, if that is another time than usual.
    probe: Option<Duration>,
    /// When the link is dead unless something arrives; set by a ping, cleared by [`Self::heard`].
    deadline: Option<Instant>,
}

impl Keepalive {
    /// A clock that pings first one `interval` from `now`.
    pub fn new(now: Instant, interval: Duration, timeout: Duration) -> Self {
        Self { interval, timeout, next_ping: now + interval, probe: None, deadline: None }
    }

    /// Something arrived from the peer.
    pub fn heard(&mut self) {
        self.deadline = None;
    }

    /// Reading is paused, so silence proves nothing: the peer gets a fresh timeout.
    pub fn excuse(&mut self, now: Instant) {
        if let Some(deadline) = &mut self.deadline {
            *deadline = now + self.timeout;
        }
    }

    /// Makes a ping due now, whatever the interval says.
    pub fn probe(&mut self, now: Instant) {
        self.next_ping = now;
    }

    /// Makes a ping due now, and the link dead if nothing arrives within `timeout` of it.
    pub fn probe_within(&mut self, now: Instant, timeout: Duration) {
        self.probe(now);
        self.probe = Some(timeout);
    }

    /// When [`Self::handle_timeout`] wants to be called next.
    pub fn poll_timeout(&self) -> Instant {
        self.deadline.map_or(self.next_ping, |deadline| deadline.min(self.next_ping))
    }

    /// Tells what is due at `now`. After [`Verdict::Ping`] the ping counts as sent.
    pub fn handle_timeout(&mut self, now: Instant) -> Verdict {
        if self.deadline.is_some_and(|deadline| now >= deadline) {
            return Verdict::Dead;
        }
        if now < self.next_ping {
            return Verdict::Wait;
        }
        self.next_ping = now + self.interval;
        let due = now + self.probe.take().unwrap_or(self.timeout);
        self.deadline = Some(self.deadline.map_or(due, |deadline| deadline.min(due)));
        Verdict::Ping
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn keepalive() -> (Instant, Keepalive) {
        let start = Instant::now();
        (start, Keepalive::new(start, 20 * SECOND, 20 * SECOND))
    }

    #[test]
    fn a_silent_peer_is_dead_forty_seconds_after_the_start() {
        let (start, mut keepalive) = keepalive();
        assert_eq!(keepalive.poll_timeout(), start + 20 * SECOND);
        assert_eq!(keepalive.handle_timeout(start + 19 * SECOND), Verdict::Wait);
        assert_eq!(keepalive.handle_timeout(start + 20 * SECOND), Verdict::Ping);
        assert_eq!(keepalive.handle_timeout(start + 39 * SECOND), Verdict::Wait);
        assert_eq!(keepalive.handle_timeout(start + 40 * SECOND), Verdict::Dead);
    }

    #[test]
    fn anything_heard_keeps_the_link_alive_and_the_pings_go_on() {
        let (start, mut keepalive) = keepalive();
        for round in 1..100 {
            let now = start + round * 20 * SECOND;
            assert_eq!(keepalive.poll_timeout(), now);
            assert_eq!(keepalive.handle_timeout(now), Verdict::Ping, "round {round}");
            keepalive.heard();
        }
    }

    #[test]
    fn a_probe_pings_at_once_and_does_not_put_off_an_earlier_deadline() {
        let (start, mut keepalive) = keepalive();
        assert_eq!(keepalive.handle_timeout(start + 20 * SECOND), Verdict::Ping);
        keepalive.probe(start + 25 * SECOND);
        assert_eq!(keepalive.handle_timeout(start + 25 * SECOND), Verdict::Ping);
        assert_eq!(keepalive.handle_timeout(start + 40 * SECOND), Verdict::Dead);
    }

    #[test]
    fn a_probe_may_have_a_time_of_its_own() {
        let (start, mut keepalive) = keepalive();
        keepalive.probe_within(start, 5 * SECOND);
        assert_eq!(keepalive.handle_timeout(start), Verdict::Ping);
        assert_eq!(keepalive.handle_timeout(start + 5 * SECOND), Verdict::Dead);
        keepalive.heard();
        assert_eq!(keepalive.handle_timeout(start + 20 * SECOND), Verdict::Ping);
        assert_eq!(keepalive.handle_timeout(start + 39 * SECOND), Verdict::Wait, "as usual");
    }

    #[test]
    fn a_paused_reader_does_not_blame_the_peer() {
        let (start, mut keepalive) = keepalive();
        assert_eq!(keepalive.handle_timeout(start + 20 * SECOND), Verdict::Ping);
        keepalive.excuse(start + 39 * SECOND);
        assert_eq!(keepalive.handle_timeout(start + 45 * SECOND), Verdict::Ping);
        assert_eq!(keepalive.handle_timeout(start + 59 * SECOND), Verdict::Dead);
    }
}
