//! How streams come to a number on a link, and lose it.

use std::time::{Duration, Instant};

use codec::v2::{self, Code, Control, Interrupted, Open, Resume};

use super::{Endpoint, Event, Flow, Link, LinkKey, LinkState, Phase, Side, StreamEnd, StreamKey};
use crate::Wake;
use crate::v2::recv::Position;
use crate::v2::stream::Attachment;

impl<W: Wake + Clone + Default> Endpoint<W> {
    /// A link is up. A dialler's begins with `hello`, which goes out first; streams that wait follow at once (spec v2,
    /// LK-6).
    ///
    /// `driver` is woken when [`Self::poll_transmit`] may have something for this link.
    pub fn connect(&mut self, now: Instant, hello: Option<Control>, driver: W) -> LinkKey {
        let key = LinkKey(self.next_key);
        self.next_key += 1;
        self.links.insert(key, Link::new(hello, driver));
        if self.side == Side::Opener {
            for key in self.waiting() {
                self.attempt(now, key);
            }
        }
        key
    }

    /// A link is over, however it ended. Its streams wait for another, or end with it.
    pub fn link_lost(&mut self, now: Instant, link: LinkKey) {
        let Some(gone) = self.links.remove(&link) else { return };
        for key in gone.numbers.into_values() {
            self.interrupt(now, key, StreamEnd::LinkLost);
        }
        self.shed_detached(now);
    }

    /// A relay that refuses a link has passed nothing on: what was attempted there for the first time was not
    /// attempted. So the next `open` is the first again, which even an agent may serve that has just started.
    pub(super) fn take_back_first_attempts(&mut self, now: Instant, link: LinkKey) {
        let Some(refused) = self.links.get(&link) else { return };
        let keys: Vec<StreamKey> = refused.numbers.values().copied().collect();
        for key in keys {
            if self.take_back_first_attempt(key)
                && let Some(stream) = self.streams.get_mut(&key)
            {
                let patience = self.resume_for.max(v2::OPENED_TIMEOUT);
                stream.times.give_up.get_or_insert(now + patience);
                self.register_times(key);
            }
        }
    }

    /// Has a stream start over whose only attempt so far reached nobody, and tells whether it has (spec v2, OP-14).
    pub(super) fn take_back_first_attempt(&mut self, key: StreamKey) -> bool {
        let Some(stream) = self.streams.get_mut(&key) else { return false };
        if stream.phase != Phase::Opening || stream.attempt != 1 {
            return false;
        }
        stream.attempt = 0;
        stream.send.start_over();
        self.detach(key);
        true
    }

    /// Ends the streams that have no attachment: no relay takes this party, and says with which code (spec v2, TM-6).
    pub fn give_up_waiting(&mut self, now: Instant, code: Code, message: &str) {
        for key in self.waiting() {
            let was_attempted = self.streams.get(&key).is_some_and(|stream| stream.attempt > 0);
            if was_attempted {
                self.give_up(now, key);
            } else {
                self.end_stream(key, StreamEnd::Refused { code, message: super::cut(message) });
            }
        }
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(&(due, key)) = self.timers.first()
            && now >= due
        {
            self.timers.pop_first();
            let Some(stream) = self.streams.get_mut(&key) else { continue };
            stream.times.registered = None;
            let is_due = |time: Option<Instant>| time.is_some_and(|time| now >= time);
            if is_due(stream.times.give_up) {
                self.give_up(now, key);
            } else if is_due(stream.times.opened_by) {
                self.leave(now, key);
            } else if is_due(stream.times.retry) {
                stream.times.retry = None;
                self.attempt(now, key);
            }
            self.register_times(key);
        }
    }

    /// Makes an attempt for a stream without an attachment, if there is a link for it (spec v2, AT-2).
    pub(super) fn attempt(&mut self, now: Instant, key: StreamKey) {
        // The newest link is the one that a relay has taken last.
        let usable = self.links.iter_mut().rev().find(|(_, link)| link.is_usable());
        let (Some(stream), Some((&link_key, link))) = (self.streams.get_mut(&key), usable) else {
            return;
        };
        if stream.is_over() || stream.attachment.is_some() {
            return;
        }
        if link.is_full() {
            // Spec v2, LM-2.
            if stream.attempt > 0 {
                stream.times.retry = Some(now + LAST_RETRY);
                return self.register_times(key);
            }
            let message = "the relay allows no more streams on one link".to_owned();
            let end = StreamEnd::Refused { code: Code::TooManyStreams, message };
            return self.end_stream(key, end);
        }
        let number = link.open(key);
        stream.attempt += 1;
        let attempt = stream.attempt;
        let Position { received, consumed, limit } = stream.recv.position();
        let ask = &stream.ask;
        let id = stream.id.whole().to_owned();
        let (agent, principal) = (ask.agent.clone(), ask.principal.clone());
        let (flow, message) = if stream.phase == Phase::Open {
            let resume =
                Resume { stream: number, id, attempt, agent, received, consumed, limit, principal };
            (Flow::Asked, Control::Resume(resume))
        } else {
            let open = Open {
                stream: number,
                id,
                attempt,
                agent,
                host: ask.host.clone(),
                port: ask.port,
                protocol: ask.protocol.clone(),
                limit,
                principal,
            };
            // Only the first may be followed by data (spec v2, OP-4).
            (if attempt == 1 { Flow::Early } else { Flow::Asked }, Control::Open(open))
        };
        stream.attachment = Some(Attachment { link: link_key, number, flow });
        stream.times.opened_by = Some(now + v2::OPENED_TIMEOUT);
        link.say(message);
        self.join_line(key);
        self.register_times(key);
    }

    /// A stream has lost its number, through no word of the other end. `otherwise` is how it ends where streams do not
    /// outlive links.
    pub(super) fn interrupt(&mut self, now: Instant, key: StreamKey, otherwise: StreamEnd) {
        self.detach(key);
        let Some(stream) = self.streams.get_mut(&key) else { return };
        if stream.is_over() {
            return;
        }
        if self.resume_for.is_zero() {
            if self.side == Side::Acceptor {
                self.remember(now, key, Some((Code::NotResumable, "its link was lost".into())));
            }
            self.end_stream(key, otherwise);
            return;
        }
        let times = &mut stream.times;
        times.give_up.get_or_insert(now + self.resume_for);
        if self.side == Side::Opener {
            times.retry = Some(now + retry_delay(times.failures, &mut self.random));
            times.failures += 1;
        }
        if !std::mem::replace(&mut stream.is_interrupted, true) {
            self.tell(Event::Detached(key));
        }
        self.register_times(key);
    }

    /// An attempt has led to the other end.
    pub(super) fn attached(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get_mut(&key) else { return };
        stream.times.give_up = None;
        stream.times.retry = None;
        stream.times.opened_by = None;
        stream.times.failures = 0;
        if std::mem::take(&mut stream.is_interrupted) {
            self.tell(Event::Resumed(key));
        }
        self.register_times(key);
    }

    /// Nobody answered on this number: it is given up, and the stream is tried on another (spec v2, OP-11).
    fn leave(&mut self, now: Instant, key: StreamKey) {
        if self.resume_for.is_zero() {
            self.reset(now, key, Code::ConnectTimedOut, "no answer in time");
            return;
        }
        self.say_interrupted(key);
        self.interrupt(now, key, StreamEnd::Interrupted);
        self.shed_detached(now);
    }

    fn say_interrupted(&mut self, key: StreamKey) {
        if let Some(at) = self.streams.get(&key).and_then(|stream| stream.attachment) {
            let left = Interrupted { stream: at.number, code: None, message: None };
            self.say(at.link, Control::Interrupted(left));
        }
    }

    /// Moves the streams from links that are to end, now that another one is welcome (spec v2, RL-11).
    pub(super) fn leave_draining_links(&mut self, now: Instant) {
        if self.side != Side::Opener || self.resume_for.is_zero() {
            return;
        }
        let draining = self.links.values().filter(|link| link.state == LinkState::Draining);
        let keys: Vec<StreamKey> =
            draining.flat_map(|link| link.numbers.values().copied()).collect();
        for key in keys {
            self.say_interrupted(key);
            self.detach(key);
            if let Some(stream) = self.streams.get_mut(&key) {
                // Until it goes on (spec v2, TM-5).
                stream.times.give_up.get_or_insert(now + self.resume_for);
                if !std::mem::replace(&mut stream.is_interrupted, true) {
                    self.tell(Event::Detached(key));
                }
            }
            self.register_times(key);
            self.attempt(now, key);
        }
        self.shed_detached(now);
    }

    /// Streams without an attachment, in their order.
    fn waiting(&self) -> Vec<StreamKey> {
        let waits = |(key, stream): (&StreamKey, &super::Stream<W>)| {
            (stream.attachment.is_none() && !stream.is_over()).then_some(*key)
        };
        self.streams.iter().filter_map(waits).collect()
    }

    /// The window of a stream is over.
    fn give_up(&mut self, now: Instant, key: StreamKey) {
        if self.side == Side::Acceptor {
            self.remember(now, key, Some((Code::NotResumable, "no link within its window".into())));
        }
        self.say_interrupted(key);
        self.end_stream(key, StreamEnd::Unconfirmed);
    }

    /// Keeps what streams without a link hold within the budget: the one that has waited longest goes first.
    pub(super) fn shed_detached(&mut self, now: Instant) {
        // One that never had a link has nothing but its first bytes, and no time that is running.
        let mut waiting: Vec<(Instant, StreamKey, u64)> = self
            .streams
            .iter()
            .filter(|(_, stream)| stream.has_lost_link())
            .filter_map(|(key, stream)| Some((stream.times.give_up?, *key, stream.held_bytes())))
            .collect();
        let mut held: u64 = waiting.iter().map(|(.., bytes)| bytes).sum();
        if held <= self.settings.detached_budget {
            return;
        }
        waiting.sort();
        for (_, key, bytes) in waiting {
            if held <= self.settings.detached_budget {
                return;
            }
            held -= bytes;
            self.give_up(now, key);
        }
    }
}

/// How long to wait before another attempt after so many failed ones: at once, then longer and longer, never the same.
fn retry_delay(failures: u32, random: &mut fastrand::Rng) -> Duration {
    if failures == 0 {
        return Duration::ZERO;
    }
    let ceiling = FIRST_RETRY.saturating_mul(1 << failures.min(8)).min(LAST_RETRY);
    ceiling.mul_f64(0.5 + random.f64() / 2.0)
}

/// Half the time to the second attempt at most.
const FIRST_RETRY: Duration = Duration::from_millis(50);

/// The time between two attempts at most: an agent that is back is found within this.
const LAST_RETRY: Duration = Duration::from_secs(2);
