//! The relay's end of one client link.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use codec::v1::{self, ClientStart, ClientToRelay, data};
use tracing::{debug, info, warn};
use transport::bell::Bell;
use transport::driver::{Close, Ended, Outgoing, Party, no_binary};
use transport::printable::printable;

use super::{Large, describe, invalid, is_due, no_start, peer_text, start_too_big};
use crate::directory::{AgentHandle, Directory, SharedRoutes};
use crate::routes::{self, ClientEnd, ForClient, canonical};

/// The relay's end of one client link (spec v1, C-1 ff.). Dropping it ends its stream.
#[derive(Debug)]
pub(crate) struct ClientSession {
    directory: Arc<Directory>,
    bell: Bell,
    state: State,
    large: Large,
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

/// A stream of this client's at an agent; ended when dropped.
#[derive(Debug)]
struct Stream {
    link: AgentHandle,
    routes: SharedRoutes,
    id: Arc<str>,
    /// Agent and target, for log lines.
    target: String,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.routes.lock().client_finished(transport::now(), &self.id);
        self.link.wake();
    }
}

impl ClientSession {
    /// A session whose `start` must come by `deadline` and whose driver waits for `bell`.
    pub(crate) fn new(directory: Arc<Directory>, bell: Bell, deadline: Instant) -> Self {
        Self { directory, bell, state: State::Waiting(deadline), large: Large::default() }
    }

    fn handle_start(&mut self, now: Instant, start: ClientStart) {
        // The secret first (spec v1, C-3).
        if !self.directory.credentials.check_client(&start.secret) {
            warn!("wrong client secret");
            return self.refuse(v1::ERROR_BAD_SECRET);
        }
        let agent = peer_text(&start.connection_target);
        let target = format!("{agent} {}:{}", peer_text(&start.target_ip), start.target_port);
        let link = self.directory.agent(&start.connection_target);
        let Some((link, routes)) =
            link.and_then(|link| Some((link.clone(), link.routes()?.clone())))
        else {
            info!(%target, "agent not connected");
            return self.refuse(v1::ERROR_AGENT_NOT_REGISTERED);
        };
        info!(%target, "stream asked for");
        // A fresh one for each stream (spec v1, S-2).
        let id: Arc<str> = uuid::Uuid::new_v4().to_string().into();
        routes.lock().open(now, id.clone(), start, self.bell.clone());
        link.wake();
        self.state = State::Serving {
            stream: Stream { link, routes, id, target },
            // Spec v1, L-13.
            answer_by: Some(now + v1::RELAY_ANSWER_TIMEOUT),
        };
    }

    fn refuse(&mut self, text: &str) {
        self.state = State::Closing {
            message: Some(routes::error_message(text)),
            close: Close::new(v1::CLOSE_NORMAL, ""),
            is_tail: false,
        };
    }

    /// The stream is over and everything is sent.
    fn end(&mut self, end: ClientEnd) {
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
        self.state = State::Closing { message: None, close, is_tail: true };
    }
}

impl Party for ClientSession {
    fn receiving(&mut self, bytes: u64) -> Result<(), Close> {
        self.large.receiving(&self.directory.budget, bytes)
    }

    fn handle_text(&mut self, now: Instant, text: &str) -> Result<(), Close> {
        self.receiving(text.len() as u64)?;
        match &self.state {
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
                    stream.routes.lock().handle_client_data(now, &stream.id, base64.into());
                } else {
                    match v1::decode::<ClientToRelay>(text).map_err(|error| invalid(&error))? {
                        ClientToRelay::TcpData(message) => {
                            let text = canonical(&message.data_base64)
                                .map_err(|_| Close::new(v1::CLOSE_INVALID, "data is no base64"))?;
                            stream.routes.lock().handle_client_data(now, &stream.id, text);
                        }
                        // A second start changes nothing (spec v1, C-12).
                        ClientToRelay::Start(_) => {}
                    }
                }
                stream.link.wake();
                Ok(())
            }
            State::Closing { .. } | State::Ended => Ok(()),
        }
    }

    fn progress(&mut self, now: Instant) {
        if let State::Serving { stream, .. } = &self.state {
            stream.routes.lock().client_progress(now, &stream.id);
        }
    }

    fn handle_binary(&mut self, _now: Instant, _message: Bytes) -> Result<(), Close> {
        Err(no_binary())
    }

    fn wants_read(&mut self) -> bool {
        match &self.state {
            State::Waiting(_) => true,
            State::Serving { stream, .. } => stream.routes.lock().client_wants_read(&stream.id),
            State::Closing { .. } | State::Ended => false,
        }
    }

    fn is_started(&mut self) -> bool {
        !matches!(self.state, State::Waiting(_))
    }

    fn poll_transmit(&mut self, _now: Instant) -> Option<Outgoing> {
        if let State::Serving { stream, answer_by } = &mut self.state {
            let mut routes = stream.routes.lock();
            if answer_by.is_some() && routes.is_answered(&stream.id) {
                *answer_by = None;
            }
            let (next, resumed) = routes.poll_for_client(&stream.id);
            drop(routes);
            if resumed {
                stream.link.wake();
            }
            match next {
                ForClient::Message(message) => return Some(message.into()),
                ForClient::Nothing => return None,
                ForClient::End(end) => self.end(end),
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
            && stream.routes.lock().is_cut(&stream.id)
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
        self.state = State::Ended;
    }

    fn is_patient(&self) -> bool {
        matches!(self.state, State::Closing { is_tail: true, .. })
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        match &self.state {
            State::Waiting(deadline) => Some(*deadline),
            State::Serving { stream, answer_by } => {
                let stalled = stream.routes.lock().client_stalled_at(&stream.id);
                [stalled, *answer_by].into_iter().flatten().min()
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
                let mut routes = stream.routes.lock();
                if is_due(routes.client_stalled_at(&stream.id), now) {
                    routes.cut(&stream.id, ClientEnd::Stalled);
                }
                if is_due(*answer_by, now) {
                    *answer_by = None;
                    if !routes.is_answered(&stream.id) {
                        let text = format!("{}{}", v1::ERROR_INITIATE_PREFIX, v1::ERROR_NO_ANSWER);
                        routes.cut(&stream.id, ClientEnd::Refused(text));
                    }
                }
                drop(routes);
                stream.link.wake();
            }
            State::Waiting(_) | State::Closing { .. } | State::Ended => {}
        }
    }
}
