//! The relay's end of one link of protocol v2.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use codec::v2::{self, Code, Control, Hello, Reject, Role, Welcome};
use serde_json::{Map, Value};
use tracing::{debug, info, warn};
use transport::bell::Bell;
use transport::driver::{Close, Ended, Outgoing, Pace, Party};
use transport::streams::{PACE, invalid, outgoing, split, violated};

use super::{describe, is_due, peer_text};
use crate::directory::{AgentHandle, Directory, Ring};
use crate::http;
use crate::registry::{Claim, Settled};
use crate::router::{LinkId, Peer};

/// The relay's end of one link of protocol v2, of an agent or of a client (spec v2, LK-7). Dropping it ends the link's
/// routes and frees an agent's name.
#[derive(Debug)]
pub(crate) struct LinkSession {
    directory: Arc<Directory>,
    bell: Bell,
    /// Whose path was asked for.
    role: http::Role,
    state: State,
    /// The agent was pinged because its name was claimed, and has not given a sign of life yet.
    probe: bool,
}

#[derive(Debug)]
enum State {
    /// No `hello` yet; it is too late at the given time.
    Waiting(Instant),
    /// The name has another holder, who is being probed; it is settled by the given time.
    Claiming(Member, Instant),
    /// Accepted. What is to be said first, and who it is.
    Serving(Option<Control>, Member),
    /// To be closed, behind the message if there is one.
    Closing(Option<Control>, Close),
    /// Over; the link may still be closing.
    Ended,
}

/// Who is at the other end.
#[derive(Debug)]
enum Member {
    Agent {
        name: String,
        handle: AgentHandle,
        link: LinkId,
        /// What its hello says beyond the protocol.
        extra: Option<Map<String, Value>>,
    },
    Client {
        principal: String,
        link: LinkId,
    },
}

impl Member {
    fn link(&self) -> LinkId {
        match self {
            Self::Agent { link, .. } | Self::Client { link, .. } => *link,
        }
    }

    fn agent(&self) -> Option<(&str, &AgentHandle)> {
        match self {
            Self::Agent { name, handle, .. } => Some((name, handle)),
            Self::Client { .. } => None,
        }
    }

    /// What it is and its name, for log lines.
    fn text(&self) -> (&'static str, String) {
        match self {
            Self::Agent { name, .. } => ("agent", peer_text(name)),
            Self::Client { principal, .. } => ("client", principal.clone()),
        }
    }
}

impl LinkSession {
    /// A session whose `hello` must come by `deadline` and whose driver waits for `bell`.
    pub(crate) fn new(
        directory: Arc<Directory>,
        bell: Bell,
        role: http::Role,
        deadline: Instant,
    ) -> Self {
        Self { directory, bell, role, state: State::Waiting(deadline), probe: false }
    }

    fn handle_hello(&mut self, now: Instant, hello: Hello) {
        if let Some(text) = &hello.last_error {
            info!(name = %peer_text(&hello.name), "the peer's last error: {}", peer_text(text));
        }
        if self.directory.is_draining() {
            return self.refuse_for_good();
        }
        match (self.role, hello.role) {
            (http::Role::Agent, Role::Agent) => self.handle_agent(now, hello),
            (http::Role::Client, Role::Client) => self.handle_client(&hello),
            // This relay has no secrets for relays (spec v2, LK-2).
            (http::Role::Client, Role::Relay) => self.refuse_credentials(&hello),
            // Spec v2, LK-3.
            _ => {
                let message = format!("a role {} has another path", hello.role);
                self.reject(Code::ProtocolError, message);
            }
        }
    }

    fn handle_client(&mut self, hello: &Hello) {
        let Some(principal) = self.directory.credentials.principal(&hello.secret) else {
            return self.refuse_credentials(hello);
        };
        let principal = principal.to_owned();
        let peer = Peer::Opener { principal: Some(principal.clone()) };
        let link = self.directory.router().connect(peer, Ring::new(self.bell.clone()));
        self.serve(Member::Client { principal, link });
    }

    fn handle_agent(&mut self, now: Instant, hello: Hello) {
        if !self.directory.credentials.check_agent(&hello.name, &hello.secret) {
            return self.refuse_credentials(&hello);
        }
        let link = self.directory.router().connect(Peer::Acceptor, Ring::new(self.bell.clone()));
        let handle = AgentHandle::v2(hello.instance, link, self.bell.clone());
        let claim = self.directory.claim(now, &hello.name, &handle);
        let member = Member::Agent { name: hello.name, handle, link, extra: hello.extra };
        match claim {
            Claim::Granted => self.serve(member),
            Claim::Probe => {
                debug!(agent = %member.text().1, "name in use, asking its present holder");
                self.state = State::Claiming(member, now + v2::PROBE_TIMEOUT);
            }
            Claim::Refused => {
                self.directory.router().lost(link);
                self.refuse_name(&member);
            }
        }
    }

    fn serve(&mut self, member: Member) {
        if self.directory.is_draining() {
            self.leave(&member);
            return self.refuse_for_good();
        }
        match &member {
            Member::Agent { name, extra, .. } => {
                info!(agent = %peer_text(name), "agent connected");
                self.directory.hooks.connected(name, extra.as_ref());
            }
            Member::Client { principal, .. } => info!(client = %principal, "client connected"),
        }
        let welcome = Welcome {
            software: http::SOFTWARE.into(),
            max_streams: MAX_STREAMS,
            max_data: v2::MAX_DATA as u32,
            max_window: v2::MAX_WINDOW as u32,
            resume_for_ms: RESUME_FOR_MS,
        };
        self.state = State::Serving(Some(Control::Welcome(welcome)), member);
        self.bell.ring();
    }

    fn refuse_credentials(&mut self, hello: &Hello) {
        match hello.role {
            Role::Client => warn!("wrong client secret"),
            Role::Agent | Role::Relay => {
                let role = hello.role;
                warn!(%role, name = %peer_text(&hello.name), "unknown {role} or wrong secret");
            }
        }
        self.reject(Code::BadCredentials, "unknown name or wrong secret".into());
    }

    fn refuse_name(&mut self, member: &Member) {
        warn!(agent = %member.text().1, "name in use");
        self.reject(Code::NameInUse, "the name is in use by another process".into());
    }

    /// This relay is about to stop (spec v2, RL-10).
    fn refuse_for_good(&mut self) {
        self.reject_until(
            Code::GoingAway,
            "the relay is about to stop".into(),
            Some(RETRY_AFTER_MS),
        );
    }

    fn reject(&mut self, code: Code, message: String) {
        self.reject_until(code, message, None);
    }

    fn reject_until(&mut self, code: Code, message: String, retry_after_ms: Option<u32>) {
        let close = Close::new(close_code(code), message.clone());
        let reject = Reject { code, message, retry_after_ms };
        self.state = State::Closing(Some(Control::Reject(reject)), close);
        self.bell.ring();
    }

    /// Looks whether a claim is settled.
    fn poll_claim(&mut self, now: Instant) {
        let State::Claiming(member, _) = &self.state else { return };
        let Some((name, handle)) = member.agent() else { return };
        let Some(settled) = self.directory.poll_settled(now, name, handle) else { return };
        let State::Claiming(member, _) = std::mem::replace(&mut self.state, State::Ended) else {
            return;
        };
        match settled {
            Settled::Granted => self.serve(member),
            Settled::Refused => {
                self.directory.router().lost(member.link());
                self.refuse_name(&member);
            }
        }
    }

    fn member(&self) -> Option<&Member> {
        match &self.state {
            State::Serving(_, member) => Some(member),
            _ => None,
        }
    }

    /// The name and handle of an agent that was accepted.
    fn agent(&self) -> Option<(&str, &AgentHandle)> {
        self.member().and_then(Member::agent)
    }

    /// How to close a link whose name another one has taken over.
    fn replaced(&self) -> Option<Close> {
        let (name, _) = self.agent().filter(|(_, handle)| handle.is_replaced())?;
        debug!(agent = %peer_text(name), "another link took over");
        Some(Close::new(v2::CLOSE_REPLACED, "another link of this agent took over"))
    }

    /// Frees the name and ends the routes, whatever becomes of the connection meanwhile (spec v2, RL-4).
    fn release(&mut self) {
        if let State::Serving(_, member) | State::Claiming(member, _) =
            std::mem::replace(&mut self.state, State::Ended)
        {
            self.leave(&member);
        }
    }

    fn leave(&self, member: &Member) {
        if let Some((name, handle)) = member.agent() {
            self.directory.release(name, handle);
        }
        self.directory.router().lost(member.link());
    }

    /// Takes a message of a peer that was accepted.
    fn handle_message(&mut self, now: Instant, message: Control) -> Result<(), Close> {
        let Some(member) = self.member() else { return Ok(()) };
        let asked = match &message {
            Control::Open(open) => {
                let target = format!("{} {}:{}", open.agent, open.host, open.port);
                let client = member.text().1;
                info!(target = %peer_text(&target), %client, "stream asked for");
                Some(&open.agent)
            }
            Control::Resume(resume) => Some(&resume.agent),
            Control::Custom(custom) => {
                match member.agent() {
                    Some((name, _)) => {
                        self.directory.hooks.custom(name, &custom.name, &custom.body);
                    }
                    // Spec v2, CU-3.
                    None => debug!(name = %peer_text(&custom.name), "custom message of a client"),
                }
                return Ok(());
            }
            _ => None,
        };
        let agent = asked.and_then(|name| self.directory.agent(name)).map(|agent| agent.link());
        let handled =
            self.directory.router().handle_control(now, member.link(), message, |_| agent);
        handled.map_err(|violation| violated(&violation))
    }
}

impl Party for LinkSession {
    fn handle_text(&mut self, now: Instant, text: &str) -> Result<(), Close> {
        let message = v2::decode::<Control>(text).map_err(|error| invalid(&error))?;
        match &self.state {
            State::Waiting(_) => match message {
                Control::Hello(hello) => {
                    self.handle_hello(now, hello);
                    Ok(())
                }
                _ => Err(no_hello("the first message is no hello")),
            },
            State::Serving(..) => self.handle_message(now, message),
            State::Claiming(..) | State::Closing(..) | State::Ended => Ok(()),
        }
    }

    fn handle_binary(&mut self, _now: Instant, message: Bytes) -> Result<(), Close> {
        match &self.state {
            State::Waiting(_) => Err(no_hello("the first message is no hello")),
            State::Serving(_, member) => {
                let (number, payload) = split(message)?;
                let handled = self.directory.router().handle_data(member.link(), number, payload);
                handled.map_err(|violation| violated(&violation))
            }
            State::Claiming(..) | State::Closing(..) | State::Ended => Ok(()),
        }
    }

    fn heard(&mut self, _now: Instant) {
        if let Some((name, handle)) = self.agent()
            && handle.is_probed()
        {
            self.directory.alive(name, handle);
            self.probe = false;
        }
    }

    fn wants_read(&mut self) -> bool {
        match &self.state {
            State::Waiting(_) => true,
            State::Serving(_, member) => self.directory.router().wants_read(member.link()),
            State::Claiming(..) | State::Closing(..) | State::Ended => false,
        }
    }

    fn is_started(&mut self) -> bool {
        matches!(self.state, State::Serving(..))
    }

    fn wants_probe(&mut self) -> bool {
        let is_probed = self.agent().is_some_and(|(_, handle)| handle.is_probed());
        is_probed && !std::mem::replace(&mut self.probe, true)
    }

    fn probe_timeout(&self) -> Option<Duration> {
        Some(v2::PROBE_TIMEOUT)
    }

    fn aborts(&self) -> bool {
        true
    }

    fn poll_transmit(&mut self, now: Instant) -> Option<Outgoing> {
        self.poll_claim(now);
        if self.replaced().is_some() {
            return None;
        }
        match &mut self.state {
            State::Serving(first, member) => match first.take() {
                Some(message) => Some(Outgoing::Text(v2::encode(&message))),
                None => self.directory.router().poll_transmit(member.link()).map(outgoing),
            },
            State::Closing(message, _) => {
                message.take().map(|message| Outgoing::Text(v2::encode(&message)))
            }
            _ => None,
        }
    }

    fn poll_close(&mut self, _now: Instant) -> Option<Close> {
        match &self.state {
            State::Closing(None, close) => Some(close.clone()),
            _ => self.replaced(),
        }
    }

    fn poll_abandon(&mut self, _now: Instant) -> Option<Close> {
        self.replaced()
    }

    fn handle_end(&mut self, ended: &Ended) {
        let how = describe(ended);
        let stops = matches!(ended, Ended::Local(close) if close.code == v2::CLOSE_RESTART);
        match &self.state {
            State::Serving(_, member) => {
                let streams = self.directory.router().stream_count(member.link());
                let (kind, name) = member.text();
                if let Ended::Violation(_) = ended {
                    warn!(%name, streams, "{kind} disconnected: {how}");
                } else {
                    info!(%name, streams, "{kind} disconnected: {how}");
                }
            }
            _ if stops => debug!("link not accepted: {how}"),
            _ => warn!("link not accepted: {how}"),
        }
        self.release();
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        match &self.state {
            State::Waiting(deadline) | State::Claiming(_, deadline) => Some(*deadline),
            State::Serving(..) | State::Closing(..) | State::Ended => None,
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        match &self.state {
            State::Waiting(deadline) if is_due(Some(*deadline), now) => {
                self.state = State::Closing(None, no_hello("no hello in time"));
            }
            State::Claiming(..) => self.poll_claim(now),
            _ => {}
        }
        // The registry knows of no such claim any more: it was never settled.
        if let State::Claiming(member, deadline) = &self.state
            && now >= *deadline
        {
            self.directory.router().lost(member.link());
            self.reject(Code::NameInUse, "the name is in use by another process".into());
        }
    }

    fn pace(&self) -> Pace {
        PACE
    }
}

impl Drop for LinkSession {
    fn drop(&mut self) {
        self.release();
    }
}

/// The close of a link whose first message is no `hello`, or none came in time (spec v2, LK-6).
fn no_hello(reason: &'static str) -> Close {
    Close::new(v2::CLOSE_POLICY, reason)
}

/// The close code behind a `reject` (spec v2, BD-1).
fn close_code(code: Code) -> u16 {
    match code {
        Code::ProtocolError => v2::CLOSE_PROTOCOL,
        Code::NameInUse => v2::CLOSE_NAME_IN_USE,
        Code::GoingAway => v2::CLOSE_RESTART,
        Code::Overloaded => v2::CLOSE_TRY_LATER,
        _ => v2::CLOSE_POLICY,
    }
}

/// Streams at once on one link; what the router allows.
const MAX_STREAMS: u32 = 16_384;

/// When a dialler that comes while the relay stops should try again.
const RETRY_AFTER_MS: u32 = 1000;

/// How long a stream may wait for a link (spec v2, TM-4).
const RESUME_FOR_MS: u32 = v2::RESUME_FOR.as_millis() as u32;
