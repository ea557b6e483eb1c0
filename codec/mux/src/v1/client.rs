//! The client's seat: one stream on one link to a relay.

use std::time::{Duration, Instant};

use codec::DecodeError;
use codec::v1::{self, ClientStart, ClientToRelay, RelayToClient, data};
use tracing::debug;

use super::{Read, Room};
use crate::{Inbound, Outbound, Wake};

/// How the stream of a client ended, as the client saw it.
#[derive(Debug)]
#[non_exhaustive]
pub enum End {
    /// The relay closed the stream cleanly after it was open (spec v1, X-1).
    Finished,
    /// We asked for the end.
    Local,
    /// The local input was over and nothing came any more; the relay has still to take what was sent.
    Quiet,
    /// The relay answered with an `error`; the text is the relay's own.
    Refused(String),
    /// No answer to our `start` came in time.
    TimedOut(Duration),
    /// The relay sent something that is no message to a client.
    Invalid(DecodeError),
    /// The relay broke a rule of the link itself.
    Violation(String),
    /// The relay closed the link before it answered, or with a code that means no clean end.
    Closed {
        /// The close code; none if the close frame had none.
        code: Option<u16>,
        /// The reason the relay gave.
        reason: String,
        /// Whether the stream was open by then.
        opened: bool,
    },
    /// The link ended without a close frame; the text says how.
    Lost {
        /// What is known of the cause.
        cause: String,
        /// Whether the stream was open by then.
        opened: bool,
    },
}

/// How a client treats the relay.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How long to wait for the answer to `start`.
    /// Longer than a relay waits for its agent (spec v1, L-14).
    pub answer_timeout: Duration,
    /// Bytes that may wait per direction.
    pub queue_bytes: usize,
    /// With `Some`, the stream ends this long after the local input has ended, if nothing was
    /// received or sent meanwhile (v1 cannot tell the target that the input ended).
    pub eof_timeout: Option<Duration>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            answer_timeout: v1::CLIENT_ANSWER_TIMEOUT,
            queue_bytes: v1::STREAM_QUEUE,
            eof_timeout: None,
        }
    }
}

/// One link between a client and a relay, seen from the client.
///
/// ```text
///   new ──▶ asking ── start_ok ──▶ open ── close 1000 ──▶ ended (Finished)
///             │ error, close, time-out      │ error, other close, loss
///             └──────────────▶ ended ◀──────┘
/// ```
///
/// Methods: from the peer [`handle_text`](Self::handle_text), [`handle_close`](Self::handle_close),
/// [`handle_loss`](Self::handle_loss); from the clock [`handle_timeout`](Self::handle_timeout);
/// from the application [`room`](Self::room), [`write`](Self::write), [`finish`](Self::finish),
/// [`read`](Self::read), [`close`](Self::close); to the link [`wants_read`](Self::wants_read),
/// [`poll_transmit`](Self::poll_transmit), [`close_code`](Self::close_code).
/// It carries one stream and ends with it (spec v1, C-13).
#[derive(Debug)]
pub struct ClientLink<W> {
    settings: Settings,
    state: State,
    start: Option<String>,
    inbound: Inbound,
    outbound: Outbound,
    /// When the local input ended or, after that, something last arrived or was sent.
    quiet_since: Option<Instant>,
    reader: W,
    writer: W,
}

#[derive(Debug)]
enum State {
    /// Our `start` is not answered; it is too late at the given time.
    Asking(Instant),
    Open,
    /// Over; what was received may still be read. The end is handed out once.
    Ended(Option<End>),
}

impl<W: Wake> ClientLink<W> {
    /// A link whose first message is `start`. `reader` is woken when [`Self::read`] may have
    /// something, `writer` when [`Self::room`] may have changed.
    pub fn new(now: Instant, settings: Settings, start: ClientStart, reader: W, writer: W) -> Self {
        Self {
            state: State::Asking(now + settings.answer_timeout),
            start: Some(v1::encode(&ClientToRelay::Start(start))),
            inbound: Inbound::new(settings.queue_bytes),
            outbound: Outbound::new(settings.queue_bytes),
            quiet_since: None,
            settings,
            reader,
            writer,
        }
    }

    /// The relay takes bytes, though slowly.
    pub fn progress(&mut self, now: Instant) {
        if let Some(since) = &mut self.quiet_since {
            *since = now;
        }
    }

    /// Takes one message of the relay.
    pub fn handle_text(&mut self, now: Instant, text: &str) {
        self.progress(now);
        if let Some(base64) = data::scan_client(text) {
            self.handle_data(base64);
            return;
        }
        match v1::decode::<RelayToClient>(text) {
            Ok(RelayToClient::TcpData(message)) => self.handle_data(&message.data_base64),
            Ok(RelayToClient::StartOk(_)) => {
                debug!(kind = "start_ok", "received");
                self.open();
            }
            // The first error is final, whatever comes behind it (spec v1, C-6).
            // Relays of old revisions go on after it (spec v1, R-2 and R-3).
            Ok(RelayToClient::Error(message)) => {
                debug!(kind = "error", "received");
                self.end(End::Refused(message.message));
            }
            // Spec v1, M-12.
            Err(error) => self.end(End::Invalid(error)),
        }
    }

    fn open(&mut self) {
        if let State::Asking(_) = self.state {
            self.state = State::Open;
            self.writer.wake();
        }
    }

    fn handle_data(&mut self, base64: &str) {
        match self.state {
            // Instead of an answer (spec v1, C-11).
            State::Asking(_) => return self.end(End::Violation("data before start_ok".into())),
            State::Open => {}
            State::Ended(_) => return,
        }
        match self.inbound.push(base64) {
            Ok(()) => self.reader.wake(),
            Err(_) => self.end(End::Violation("data that is no base64".into())),
        }
    }

    /// The relay sent a close frame.
    pub fn handle_close(&mut self, code: Option<u16>, reason: String) {
        let opened = self.is_open();
        self.end(match code {
            Some(v1::CLOSE_NORMAL) if opened => End::Finished,
            _ => End::Closed { code, reason, opened },
        });
    }

    /// The link ended without a close frame.
    pub fn handle_loss(&mut self, cause: String) {
        let opened = self.is_open() || self.is_quiet();
        if self.is_quiet() {
            // What was sent may not have arrived.
            self.state = State::Open;
        }
        self.end(End::Lost { cause, opened });
    }

    /// The relay broke a rule of the link itself; the text says which.
    pub fn handle_violation(&mut self, problem: String) {
        self.end(End::Violation(problem));
    }

    /// Ends the stream from our side.
    pub fn close(&mut self) {
        self.end(End::Local);
    }

    /// The local input is over. v1 has no message for that, so the stream stays open for what
    /// the target still sends, at most for the time set.
    pub fn finish(&mut self, now: Instant) {
        self.quiet_since = Some(now);
    }

    /// Whether [`Self::write`] may be called.
    pub fn room(&self) -> Room {
        match self.state {
            State::Asking(_) => Room::Full,
            State::Open if self.outbound.has_room() => Room::Ready,
            State::Open => Room::Full,
            State::Ended(_) => Room::Over,
        }
    }

    /// Queues a `tcp_data` message made by [`data::encode_client`]; the driver is to be woken.
    pub fn write(&mut self, message: String) {
        if let State::Open = self.state {
            self.outbound.push(message);
        }
    }

    /// Takes what arrived; `into` must be empty. After [`Read::Finished`], ask
    /// [`Self::take_end`] how the stream ended.
    pub fn read(&mut self, into: &mut Vec<u8>) -> Read {
        if self.inbound.is_empty() {
            self.inbound.rest();
            return if self.is_ended() { Read::Finished } else { Read::Empty };
        }
        let was_over = self.inbound.is_over();
        self.inbound.take(into);
        Read::Data { resumed: was_over && !self.inbound.is_over() }
    }

    /// Whether the link should be read: the local output has room.
    /// Spec v1, L-17.
    pub fn wants_read(&self) -> bool {
        !self.inbound.is_over()
    }

    /// The next message for the relay.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<String> {
        if let Some(start) = self.start.take() {
            debug!(kind = "start", "sending");
            return Some(start);
        }
        let message = self.outbound.pop()?;
        self.progress(now);
        if self.outbound.has_room() {
            self.writer.wake();
        }
        Some(message)
    }

    /// When [`Self::handle_timeout`] wants to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Asking(due) => Some(due),
            State::Open => self.eof_due(),
            State::Ended(_) => None,
        }
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        match self.state {
            State::Asking(due) if now >= due => {
                self.end(End::TimedOut(self.settings.answer_timeout));
            }
            State::Open if self.eof_due().is_some_and(|due| now >= due) => self.end(End::Quiet),
            _ => {}
        }
    }

    /// Whether the stream is over, so that the link may be closed once all is sent.
    pub fn is_ended(&self) -> bool {
        matches!(self.state, State::Ended(_))
    }

    /// The code to close the link with, once all is sent, if the stream is over (spec v1, M-14).
    pub fn close_code(&self) -> Option<u16> {
        match &self.state {
            State::Ended(Some(End::Invalid(_))) => Some(v1::CLOSE_INVALID),
            State::Ended(_) => Some(v1::CLOSE_NORMAL),
            _ => None,
        }
    }

    /// How the stream ended; told once.
    pub fn take_end(&mut self) -> Option<End> {
        match &mut self.state {
            State::Ended(end) => end.take(),
            _ => None,
        }
    }

    /// Whether the stream was ended because the local input is over and nothing came any more.
    pub fn is_quiet(&self) -> bool {
        matches!(self.state, State::Ended(Some(End::Quiet)))
    }

    fn eof_due(&self) -> Option<Instant> {
        if !self.outbound.is_empty() {
            return None;
        }
        Some(self.quiet_since? + self.settings.eof_timeout?)
    }

    fn is_open(&self) -> bool {
        matches!(self.state, State::Open)
    }

    /// The first end counts.
    fn end(&mut self, end: End) {
        if !self.is_ended() {
            self.state = State::Ended(Some(end));
            self.reader.wake();
            self.writer.wake();
        }
    }
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
