//! The relay's end of one agent link.

use std::sync::Arc;
use std::time::Instant;

use codec::v1::{self, AgentStart, AgentToRelay};
use tracing::{debug, info, warn};
use transport::bell::Bell;
use transport::driver::{Close, Ended, Party};

use super::{Large, describe, invalid, is_due, no_start, peer_text, start_too_big};
use crate::directory::{AgentHandle, Directory};
use crate::registry::{Claim, Settled};
use crate::routes::Settings;

/// The relay's end of one agent link (spec v1, A-1 ff.). Dropping it ends the agent's streams
/// and frees its name.
#[derive(Debug)]
pub(crate) struct AgentSession {
    directory: Arc<Directory>,
    bell: Bell,
    state: State,
    large: Large,
    /// The agent was pinged because its name was claimed, and has not given a sign of life yet.
    probe: bool,
    early: Early,
}

/// What a link has sent while its claim is being settled, to be handled once it is admitted (spec v1, A-7).
#[derive(Debug, Default)]
struct Early {
    texts: Vec<String>,
    bytes: usize,
}

impl Early {
    fn push(&mut self, text: &str) {
        self.bytes += text.len() + size_of::<String>();
        self.texts.push(text.to_owned());
    }

    /// Otherwise the link is not read until the claim is settled.
    fn has_room(&self) -> bool {
        self.bytes < v1::STREAM_QUEUE
    }
}

#[derive(Debug)]
enum State {
    /// No `start` yet; it is too late at the given time.
    Waiting(Instant),
    /// The name has another holder, who is being probed; it is settled by the given time.
    Claiming(Member, Instant),
    /// Connected.
    Serving(Member),
    /// To be closed.
    Closing(Close),
    /// Over; the link may still be closing.
    Ended,
}

#[derive(Debug)]
struct Member {
    name: String,
    link: AgentHandle,
}

impl AgentSession {
    /// A session whose `start` must come by `deadline` and whose driver waits for `bell`.
    pub(crate) fn new(directory: Arc<Directory>, bell: Bell, deadline: Instant) -> Self {
        Self {
            directory,
            bell,
            state: State::Waiting(deadline),
            large: Large::default(),
            probe: false,
            early: Early::default(),
        }
    }

    fn handle_start(&mut self, now: Instant, start: AgentStart) -> Result<(), Close> {
        let credentials = Close::new(v1::CLOSE_POLICY, v1::REASON_BAD_CREDENTIALS);
        let (Some(name), Some(secret)) = (start.name, start.secret) else {
            return Err(no_start("the start has no name or no secret"));
        };
        // Spec v1, A-2 and A-3.
        if !self.directory.credentials.check_agent(&name, &secret) {
            warn!(agent = %peer_text(&name), "unknown agent or wrong secret");
            return Err(credentials);
        }
        let last_error = start.last_error.as_ref().and_then(Option::as_deref);
        // Spec v1, K-9 and R-7.
        let knows_keep_alive = !last_error
            .is_some_and(|text| v1::KEEP_ALIVE_UNKNOWN_MARKS.iter().any(|it| text.contains(it)));
        let defaults = Settings::default();
        let settings = Settings {
            keep_alive_interval: defaults.keep_alive_interval.filter(|_| knows_keep_alive),
            // Absent, unlike null, marks an agent that may not know it (spec v1, X-8 and R-5).
            sends_connection_close: start.last_error.is_some(),
            ..defaults
        };
        if let Some(text) = last_error {
            info!(agent = %peer_text(&name), "the agent's last error: {}", peer_text(text));
        }
        let link =
            AgentHandle::new(now, settings, self.directory.budget.clone(), self.bell.clone());
        match self.directory.claim(now, &name, &link) {
            Claim::Granted => self.serve(Member { name, link }),
            Claim::Probe => {
                debug!(agent = %peer_text(&name), "name in use, asking its present holder");
                self.state = State::Claiming(Member { name, link }, now + v1::PROBE_TIMEOUT);
            }
            Claim::Refused => return Err(name_in_use(&name)),
        }
        Ok(())
    }

    fn serve(&mut self, member: Member) {
        info!(agent = %peer_text(&member.name), "agent connected");
        // It gets no answer (spec v1, A-4).
        self.state = State::Serving(member);
    }

    /// Looks whether a claim is settled.
    fn poll_claim(&mut self, now: Instant) {
        let State::Claiming(member, _) = &self.state else { return };
        let Some(settled) = self.directory.poll_settled(now, &member.name, &member.link) else {
            return;
        };
        let closing = State::Closing(name_in_use(&member.name));
        let State::Claiming(member, _) = std::mem::replace(&mut self.state, closing) else {
            return;
        };
        match settled {
            Settled::Granted => {
                self.serve(member);
                self.handle_early(now);
            }
            Settled::Refused => warn!(agent = %peer_text(&member.name), "name in use"),
        }
    }

    fn handle_early(&mut self, now: Instant) {
        for text in std::mem::take(&mut self.early).texts {
            if let Err(close) = self.handle_text(now, &text) {
                self.release(false);
                self.state = State::Closing(close);
                return;
            }
        }
    }

    /// How to close a link whose name another one has taken over.
    fn replaced(&self) -> Option<Close> {
        let member = self.serving().filter(|member| member.link.is_replaced())?;
        debug!(agent = %peer_text(&member.name), "another link took over");
        Some(Close::new(v1::CLOSE_NAME_IN_USE, "another link of this agent took over"))
    }

    /// Frees the name and ends the streams, whatever becomes of the connection meanwhile (spec v1, A-9). `stops` tells
    /// that the whole relay ends.
    fn release(&mut self, stops: bool) {
        if let State::Serving(member) | State::Claiming(member, _) =
            std::mem::replace(&mut self.state, State::Ended)
        {
            self.directory.release(&member.name, &member.link);
            member.link.routes().agent_lost(stops);
        }
    }

    fn serving(&self) -> Option<&Member> {
        match &self.state {
            State::Serving(member) => Some(member),
            _ => None,
        }
    }
}

impl Party for AgentSession {
    const TAKES_BINARY: bool = false;

    fn receiving(&mut self, bytes: u64) -> Result<(), Close> {
        self.large.receiving(&self.directory.budget, bytes)
    }

    fn handle_text(&mut self, now: Instant, text: &str) -> Result<(), Close> {
        self.receiving(text.len() as u64)?;
        match &self.state {
            State::Serving(member) => {
                member.link.routes().handle_text(now, text).map_err(|error| invalid(&error))
            }
            State::Waiting(_) if text.len() > v1::MAX_MESSAGE_BEFORE_START => Err(start_too_big()),
            State::Waiting(_) => match v1::decode::<AgentToRelay>(text) {
                Ok(AgentToRelay::Start(start)) => self.handle_start(now, start),
                Ok(_) => Err(no_start("the first message is not a start")),
                Err(error) => Err(invalid(&error)),
            },
            State::Claiming(..) => {
                self.early.push(text);
                Ok(())
            }
            State::Closing(_) | State::Ended => Ok(()),
        }
    }

    fn heard(&mut self, _now: Instant) {
        if let State::Serving(member) = &self.state
            && member.link.is_probed()
        {
            self.probe = false;
            self.directory.alive(&member.name, &member.link);
        }
    }

    fn progress(&mut self, now: Instant) {
        if let Some(member) = self.serving() {
            member.link.routes().progress(now);
        }
    }

    fn wants_read(&mut self) -> bool {
        match &self.state {
            State::Waiting(_) => true,
            State::Serving(member) => member.link.routes().wants_read(),
            // So that its pings are answered, and its end is seen (spec v1, K-1 and K-4).
            State::Claiming(..) => self.early.has_room(),
            State::Closing(_) | State::Ended => false,
        }
    }

    fn is_started(&mut self) -> bool {
        !matches!(self.state, State::Waiting(_))
    }

    fn wants_probe(&mut self) -> bool {
        let State::Serving(member) = &self.state else { return false };
        if !member.link.is_probed() {
            return false;
        }
        if !member.link.routes().wants_read() {
            // What the agent sends is not read at the moment, so it cannot show that it lives.
            self.probe = false;
            self.directory.alive(&member.name, &member.link);
            return false;
        }
        !std::mem::replace(&mut self.probe, true)
    }

    fn poll_transmit(&mut self, now: Instant) -> Option<String> {
        self.poll_claim(now);
        self.serving()?.link.routes().poll_transmit(now)
    }

    fn poll_close(&mut self, _now: Instant) -> Option<Close> {
        match &self.state {
            State::Closing(close) => Some(close.clone()),
            _ => self.replaced(),
        }
    }

    fn poll_abandon(&mut self, _now: Instant) -> Option<Close> {
        self.replaced()
    }

    fn handle_end(&mut self, ended: &Ended) {
        let how = describe(ended);
        let stops = matches!(ended, Ended::Local(close) if close.code == v1::CLOSE_RESTART);
        match &self.state {
            State::Serving(member) => {
                let streams = member.link.routes().stream_count();
                let agent = peer_text(&member.name);
                if let Ended::Violation(_) = ended {
                    warn!(%agent, streams, "agent disconnected: {how}");
                } else {
                    info!(%agent, streams, "agent disconnected: {how}");
                }
            }
            _ if stops => debug!("agent not accepted: {how}"),
            _ => warn!("agent not accepted: {how}"),
        }
        self.release(stops);
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        match &self.state {
            State::Waiting(deadline) | State::Claiming(_, deadline) => Some(*deadline),
            State::Serving(member) => member.link.routes().poll_timeout(),
            State::Closing(_) | State::Ended => None,
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        match &self.state {
            State::Waiting(deadline) if is_due(Some(*deadline), now) => {
                self.state = State::Closing(no_start("no start in time"));
            }
            State::Serving(member) => member.link.routes().handle_timeout(now),
            State::Claiming(..) => {
                self.poll_claim(now);
                // The registry knows of no such claim any more: it was never settled.
                if let State::Claiming(member, deadline) = &self.state
                    && now >= *deadline
                {
                    self.state = State::Closing(name_in_use(&member.name));
                }
            }
            State::Waiting(_) | State::Closing(_) | State::Ended => {}
        }
    }
}

impl Drop for AgentSession {
    fn drop(&mut self) {
        self.release(false);
    }
}

fn name_in_use(name: &str) -> Close {
    let name = transport::printable::printable(name, 60);
    Close::new(v1::CLOSE_NAME_IN_USE, format!("agent name \"{name}\" is in use"))
}
