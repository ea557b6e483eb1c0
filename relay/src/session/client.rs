//! The relay's end of one client link.

mod stream;

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use codec::v1::{self, ClientStart, ClientToRelay, data};
use tracing::{debug, info, warn};
use transport::bell::Bell;
use transport::driver::{Close, Ended, Outgoing, Party, no_binary};
use transport::printable::printable;

use stream::Stream;

use super::{Heir, Large, describe, invalid, is_due, no_start, peer_text, start_too_big};
use crate::directory::Directory;
use crate::routes::{self, ClientEnd, ForClient, canonical};

/// The relay's end of one client link (spec v1, C-1 ff.). Dropping it ends its stream.
#[derive(Debug)]
pub(crate) struct ClientSession {
    directory: Arc<Directory>,
    bell: Bell,
    state: State,
    large: Large,
    heir: Heir,
}

#[derive(Debug)]
enum State {
    /// No `start` yet; it is too late at the given time.
    Waiting(Instant),
    /// The agent has been asked. `answer_by` is set until it has answered.
    Serving { stream: Stream, answer_by: Option<Instant> },
    /// To be closed, after the message if there is one. `is_tail` tells that tunnel bytes go before the close frame,
    /// which the client may have to hand on first.
    Closing { message: Option<String>, close: Close, is_tail: bool },
    /// Over; the link may still be closing.
    Ended,
}

impl ClientSession {
    /// A session whose `start` must come by `deadline` and whose driver waits for `bell`.
    pub(crate) fn new(
        directory: Arc<Directory>,
        bell: Bell,
        deadline: Instant,
        heir: Heir,
    ) -> Self {
        Self { directory, bell, state: State::Waiting(deadline), large: Large::default(), heir }
    }

    fn handle_start(&mut self, now: Instant, start: ClientStart) {
        // The secret first (spec v1, C-3).
        if !self.directory.credentials.check_client(&start.secret) {
            warn!("wrong client secret");
            return self.refuse(v1::ERROR_BAD_SECRET);
        }
        let agent = peer_text(&start.connection_target);
        let target = format!("{agent} {}:{}", peer_text(&start.target_ip), start.target_port);
        let Some(link) = self.directory.agent(&start.connection_target) else {
            info!(%target, "agent not connected");
            return self.refuse(v1::ERROR_AGENT_NOT_REGISTERED);
        };
        info!(%target, "stream asked for");
        match Stream::open(now, &self.directory, link, start, target, &self.bell) {
            Ok(stream) => {
                // Spec v1, L-13.
                let answer_by = Some(now + v1::RELAY_ANSWER_TIMEOUT);
                self.state = State::Serving { stream, answer_by };
            }
            Err(text) => {
                info!("stream refused: {}", peer_text(&text));
                self.refuse(&text);
            }
        }
    }

    fn refuse(&mut self, text: &str) {
        self.state = State::Closing {
            message: Some(routes::error_message(text)),
            close: Close::new(v1::CLOSE_NORMAL, ""),
            is_tail: false,
        };
    }

    /// The stream is over and everything is sent.
    fn end(&mut self, now: Instant, end: ClientEnd) {
        if let State::Serving { stream, .. } = &self.state {
            debug!(target = %stream.target, ?end, "stream over");
        }
        let close = match end {
            ClientEnd::Refused(text) => {
                info!("stream refused: {}", peer_text(&text));
                return self.refuse(&text);
            }
            ClientEnd::Finished => Close::new(v1::CLOSE_NORMAL, ""),
            // Spec v1, X-14.
            ClientEnd::TargetReset(text) => {
                Close::new(v1::CLOSE_TARGET_RESET, printable(&text, v1::MAX_CLOSE_REASON))
            }
            ClientEnd::AgentLost => Close::new(v1::CLOSE_AGENT_LOST, v1::REASON_AGENT_LOST),
            ClientEnd::RelayStops => Close::new(v1::CLOSE_RESTART, ""),
            ClientEnd::Stalled => {
                if let State::Serving { stream, .. } = &self.state {
                    warn!(target = %stream.target, "given up: it took no data for too long");
                }
                Close::new(v1::CLOSE_STALLED, "stream stalled")
            }
        };
        self.leave(now);
        self.state = State::Closing { message: None, close, is_tail: true };
    }

    /// The stream has no client any more.
    fn leave(&mut self, now: Instant) {
        if let State::Serving { stream, .. } = std::mem::replace(&mut self.state, State::Ended)
            && let Some(left) = stream.leave(now)
            && let Some(heir) = self.heir.take()
        {
            // Nobody takes it when the whole relay ends.
            let _ = heir.send(left);
        }
    }
}

impl Drop for ClientSession {
    fn drop(&mut self) {
        self.leave(transport::now());
    }
}

impl Party for ClientSession {
    fn receiving(&mut self, bytes: u64) -> Result<(), Close> {
        self.large.receiving(&self.directory.budget, bytes)
    }

    fn handle_text(&mut self, now: Instant, text: &str) -> Result<(), Close> {
        self.receiving(text.len() as u64)?;
        match &mut self.state {
            State::Waiting(_) if text.len() > v1::MAX_MESSAGE_BEFORE_START => Err(start_too_big()),
            State::Waiting(_) => match v1::decode::<ClientToRelay>(text) {
                Ok(ClientToRelay::Start(start)) => {
                    self.handle_start(now, start);
                    Ok(())
                }
                Ok(_) => Err(no_start("the first message is not a start")),
                Err(error) => Err(invalid(&error)),
            },
            State::Serving { stream, .. } => {
                if let Some(base64) = data::scan_client(text) {
                    stream.handle_data(now, base64.into());
                } else {
                    match v1::decode::<ClientToRelay>(text).map_err(|error| invalid(&error))? {
                        ClientToRelay::TcpData(message) => {
                            let text = canonical(&message.data_base64)
                                .map_err(|_| Close::new(v1::CLOSE_INVALID, "data is no base64"))?;
                            stream.handle_data(now, text);
                        }
                        // A second start changes nothing (spec v1, C-12).
                        ClientToRelay::Start(_) => {}
                    }
                }
                Ok(())
            }
            State::Closing { .. } | State::Ended => Ok(()),
        }
    }

    fn progress(&mut self, now: Instant) {
        if let State::Serving { stream, .. } = &self.state {
            stream.progress(now);
        }
    }

    fn handle_binary(&mut self, _now: Instant, _message: Bytes) -> Result<(), Close> {
        Err(no_binary())
    }

    fn wants_read(&mut self) -> bool {
        match &self.state {
            State::Waiting(_) => true,
            State::Serving { stream, .. } => stream.wants_read(),
            State::Closing { .. } | State::Ended => false,
        }
    }

    fn is_started(&mut self) -> bool {
        !matches!(self.state, State::Waiting(_))
    }

    fn poll_transmit(&mut self, now: Instant) -> Option<Outgoing> {
        if let State::Serving { stream, answer_by } = &mut self.state {
            let next = stream.poll(now);
            if answer_by.is_some() && stream.is_answered() {
                *answer_by = None;
            }
            match next {
                ForClient::Message(message) => return Some(message.into()),
                ForClient::Nothing => return None,
                ForClient::End(end) => self.end(now, end),
            }
        }
        match &mut self.state {
            State::Closing { message, .. } => message.take().map(Outgoing::Text),
            _ => None,
        }
    }

    fn poll_close(&mut self, _now: Instant) -> Option<Close> {
        match &self.state {
            State::Closing { close, .. } => Some(close.clone()),
            _ => None,
        }
    }

    fn poll_abandon(&mut self, now: Instant) -> Option<Close> {
        if let State::Serving { stream, .. } = &self.state
            && stream.is_cut()
        {
            // Takes the end, before which nothing more is to be sent.
            self.poll_transmit(now);
        }
        match &self.state {
            State::Closing { message: None, close, .. } => Some(close.clone()),
            _ => None,
        }
    }

    fn handle_end(&mut self, ended: &Ended) {
        let how = describe(ended);
        match (&self.state, ended) {
            (State::Serving { stream, .. }, Ended::Violation(_)) => {
                warn!(target = %stream.target, "stream ended: {how}");
            }
            (State::Serving { stream, .. }, _) => {
                info!(target = %stream.target, "stream ended: {how}");
            }
            (State::Closing { .. }, _) => info!("stream ended: {how}"),
            (State::Waiting(_) | State::Ended, _) => warn!("client not accepted: {how}"),
        }
        self.leave(transport::now());
        self.state = State::Ended;
    }

    fn is_patient(&self) -> bool {
        matches!(self.state, State::Closing { is_tail: true, .. })
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        match &self.state {
            State::Waiting(deadline) => Some(*deadline),
            State::Serving { stream, answer_by } => {
                let dues = [stream.stalled_at(), *answer_by, stream.poll_timeout()];
                dues.into_iter().flatten().min()
            }
            State::Closing { .. } | State::Ended => None,
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        match &mut self.state {
            State::Waiting(deadline) if is_due(Some(*deadline), now) => {
                let close = no_start("no start in time");
                self.state = State::Closing { message: None, close, is_tail: false };
            }
            State::Serving { stream, answer_by } => {
                if is_due(stream.stalled_at(), now) {
                    stream.cut(now, ClientEnd::Stalled);
                }
                if is_due(*answer_by, now) {
                    *answer_by = None;
                    if !stream.is_answered() {
                        let text = format!("{}{}", v1::ERROR_INITIATE_PREFIX, v1::ERROR_NO_ANSWER);
                        stream.cut(now, ClientEnd::Refused(text));
                    }
                }
                stream.handle_timeout(now);
            }
            State::Waiting(_) | State::Closing { .. } | State::Ended => {}
        }
    }
}
