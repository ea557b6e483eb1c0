//! What should come of it: plain strings of bytes, and what may be said of them in the end.

use std::time::{Duration, Instant};

use codec::v2::{self, Code};
use mux::v2::{Side, StreamEnd};

use super::plan::{Dial, Plan, StreamPlan};
use super::process::is_given_up;
use super::{Failure, fail};

/// What is known of one stream by somebody who sees everything.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// Towards the target, and towards the client.
    pub(super) ways: [WayRecord; 2],
    /// How often a target was dialled for it.
    pub(super) dials: u32,
    /// A relay has said that its agent is not there.
    pub(super) was_offline: bool,
    /// A relay has said that it drains.
    pub(super) relay_drained: bool,
    /// The client was told that nothing has happened.
    pub(super) is_refused: bool,
    /// The user has interrupted.
    pub(super) is_interrupted: bool,
    /// The target has reset, or refused.
    pub(super) target_failed: bool,
    /// A process that had its agent's name is gone.
    pub(super) agent_gone: bool,
    /// That process has said that it stops.
    pub(super) agent_stopped: bool,
    /// An agent has given it up, and its target may not know yet.
    pub(super) is_given_up: bool,
    /// The highest attempt that was said, and the latest that an agent has heard.
    pub(super) attempts: [u32; 2],
    /// The last `open` that an agent has heard for it was the first.
    pub(super) heard_first: bool,
    /// Its first `open` was held up until another agent process was there, which served it again: beyond every rule (spec
    /// v2, SF-10), so that nothing is asked of it any more.
    pub(super) was_late: bool,
    /// Since when it has no link, at its opener and its acceptor.
    pub(super) detached: [Option<Instant>; 2],
    /// How it ended, at both.
    pub(super) ends: [Option<StreamEnd>; 2],
}

/// One direction of a stream.
#[derive(Debug, Default)]
pub(super) struct WayRecord {
    pub(super) written: u64,
    pub(super) is_finished: bool,
    /// Given to the consumer.
    pub(super) read: u64,
    /// Handed on by it.
    pub(super) consumed: u64,
    pub(super) end_consumed: bool,
}

impl WayRecord {
    fn is_complete(&self) -> bool {
        self.is_finished && self.end_consumed && self.consumed == self.written
    }
}

/// The byte at an offset of one direction of a stream.
pub(super) fn byte(stream: usize, way: usize, offset: u64) -> u8 {
    let mixed = (offset + 1)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add((stream * 2 + way) as u64)
        .wrapping_mul(0xd6e8_feb8_6659_fd93);
    (mixed >> 56) as u8
}

impl Record {
    /// A consumer gets bytes.
    pub(super) fn read(&mut self, stream: usize, way: usize, bytes: &[u8]) -> Result<(), Failure> {
        let record = &mut self.ways[way];
        for (i, got) in bytes.iter().enumerate() {
            let offset = record.read + i as u64;
            let is_asked = !self.was_late;
            if is_asked && (offset >= record.written || *got != byte(stream, way, offset)) {
                return fail(format!(
                    "stream {stream}, way {way}: byte {offset} of {} is not what was sent",
                    record.written
                ));
            }
        }
        record.read += bytes.len() as u64;
        Ok(())
    }

    /// A target is dialled.
    pub(super) fn dialled(&mut self, stream: usize) -> Result<(), Failure> {
        self.dials += 1;
        if self.is_refused {
            return fail(format!("stream {stream} is dialled although its client was refused"));
        }
        if self.dials > 1 {
            self.was_late = self.heard_first && self.attempts[0] > 1 && self.agent_gone;
            if !self.was_late {
                return fail(format!("stream {stream} is dialled {} times", self.dials));
            }
        }
        Ok(())
    }

    /// A stream has ended, at one of its ends.
    pub(super) fn ended(
        &mut self,
        now: Instant,
        stream: usize,
        side: Side,
        end: &StreamEnd,
        plan: &Plan,
    ) -> Result<(), Failure> {
        let index = usize::from(side == Side::Acceptor);
        let what = &plan.streams[stream];
        let fair = match (side, end) {
            (_, StreamEnd::Done) => self.ways.iter().all(WayRecord::is_complete),
            (_, StreamEnd::LinkLost | StreamEnd::Interrupted) => !plan.resumes(),
            (Side::Opener, StreamEnd::Reset { code, .. }) => self.may_be_reset(*code, what, plan),
            (Side::Opener, StreamEnd::Refused { code, .. }) => {
                self.is_refused = true;
                self.dials == 0 && self.may_be_refused(*code, plan)
            }
            (Side::Opener, StreamEnd::Local { code: Code::PeerReset }) => self.is_interrupted,
            (Side::Opener, StreamEnd::Local { code: Code::ConnectTimedOut }) => !plan.resumes(),
            (Side::Acceptor, StreamEnd::Reset { code: Code::PeerReset, .. }) => self.is_interrupted,
            (Side::Acceptor, StreamEnd::Reset { code: Code::ConnectTimedOut, .. }) => {
                !plan.resumes()
            }
            (Side::Acceptor, StreamEnd::Local { code: Code::PeerReset }) => self.target_failed,
            (Side::Acceptor, StreamEnd::Local { code: Code::ConnectRefused }) => {
                what.dial == Dial::Refuses
            }
            (Side::Acceptor, StreamEnd::Local { code: Code::ConnectTimedOut }) => {
                what.dial == Dial::Hangs || what.dial_ms > 10_000
            }
            (Side::Acceptor, StreamEnd::Local { code: Code::GoingAway }) => self.agent_stopped,
            (_, StreamEnd::Unconfirmed) => self.has_waited(now, index, plan),
            _ => false,
        };
        self.ends[index] = Some(end.clone());
        if !fair && !self.was_late {
            return fail(format!("stream {stream} ends at its {side:?} with {end:?}: {self:?}"));
        }
        Ok(())
    }

    fn may_be_reset(&self, code: Code, what: &StreamPlan, plan: &Plan) -> bool {
        let served = self.ways[0].consumed > 0 || self.ways[1].written > 0;
        match code {
            Code::ConnectRefused => what.dial == Dial::Refuses && !served,
            Code::ConnectTimedOut => (what.dial == Dial::Hangs || what.dial_ms > 10_000) && !served,
            Code::PeerReset => self.target_failed,
            Code::GoingAway => self.agent_stopped,
            Code::NotResumable => {
                let given_up = self.is_given_up || self.ends[1].as_ref().is_some_and(is_given_up);
                // A process that has just started cannot tell whether it has served a stream.
                let cannot_tell = !plan.agents_are_old && self.attempts[0] > 1 && self.dials == 0;
                self.agent_gone || given_up || cannot_tell || plan.has_rival()
            }
            Code::TooManyStreams | Code::Overloaded => plan.bounds.are_tight() && self.dials == 0,
            _ => false,
        }
    }

    fn may_be_refused(&self, code: Code, plan: &Plan) -> bool {
        match code {
            Code::AgentOffline => self.was_offline,
            Code::GoingAway => self.relay_drained,
            Code::TooManyStreams | Code::Overloaded => plan.bounds.are_tight(),
            _ => false,
        }
    }

    /// Whether it has been without a link for as long as it has to wait.
    fn has_waited(&self, now: Instant, index: usize, plan: &Plan) -> bool {
        if plan.bounds.detached_budget < u64::from(u32::MAX) / 100 {
            return true;
        }
        let [clients, agents, relays] = plan.bounds.resume_for_s;
        let own = if index == 0 { clients } else { agents };
        let wait = Duration::from_secs(own.min(relays));
        self.detached[index].is_some_and(|since| now - since >= wait)
    }
}

/// The bounds of one endpoint, at every moment (spec v2, LM-1).
pub(super) fn check_bounds(
    name: &str,
    census: &mux::v2::Census,
    plan: &Plan,
) -> Result<(), Failure> {
    let bounds = &plan.bounds;
    let most = bounds.max_window.max(v2::EARLY_DATA);
    if census.most_waiting > most {
        return fail(format!("{name} holds {} bytes for a consumer", census.most_waiting));
    }
    if census.most_kept > bounds.max_window {
        return fail(format!("{name} keeps {} bytes for repetition", census.most_kept));
    }
    if census.windows > bounds.window_budget {
        return fail(format!("{name} has granted {} bytes", census.windows));
    }
    if census.detached > bounds.detached_budget {
        return fail(format!("{name} holds {} bytes for streams without a link", census.detached));
    }
    Ok(())
}
