//! Drives one link: its WebSocket, its clock, and the core that decides.

use std::borrow::Cow;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use codec::{v1, v2};
use futures_util::{Sink, Stream};
use mux::{Keepalive, Verdict};
use tokio::io::AsyncReadExt;
use tokio::time::Sleep;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::bell::Bell;
use crate::system::system_text;
use crate::websocket::WebSocket;

/// What a link's driver asks of the core behind it. Each call is one step and never blocks.
pub trait Party {
    /// A text message arrived.
    ///
    /// # Errors
    /// The peer broke a rule that ends the link: it is closed as told.
    fn handle_text(&mut self, now: Instant, text: &str) -> Result<(), Close>;

    /// A binary message arrived.
    ///
    /// # Errors
    /// As for [`Self::handle_text`].
    fn handle_binary(&mut self, now: Instant, message: Bytes) -> Result<(), Close>;

    /// So many bytes of a message have arrived that is not complete yet; 0 when it is. Comes while more is waited for.
    ///
    /// # Errors
    /// It is to be read no further: the link is closed as told.
    fn receiving(&mut self, _bytes: u64) -> Result<(), Close> {
        Ok(())
    }

    /// Anything arrived, a ping or pong included.
    fn heard(&mut self, _now: Instant) {}

    /// The system took bytes of the link's.
    fn progress(&mut self, _now: Instant) {}

    /// Whether the next message should be read.
    fn wants_read(&mut self) -> bool;

    /// Whether more may be read than is allowed before the start.
    fn is_started(&mut self) -> bool {
        true
    }

    /// Whether the peer should be pinged at once. True once for each wish.
    fn wants_probe(&mut self) -> bool {
        false
    }

    /// How long nothing may come after the ping of [`Self::wants_probe`], if that is another time than [`Self::pace`] has.
    fn probe_timeout(&self) -> Option<Duration> {
        None
    }

    /// Whether a link that is given up is aborted, so that nothing that it still holds arrives later.
    fn aborts(&self) -> bool {
        false
    }

    /// The next message to send.
    fn poll_transmit(&mut self, now: Instant) -> Option<Outgoing>;

    /// The payload of a ping to send behind what [`Self::poll_transmit`] gave, if one is wanted.
    fn poll_ping(&mut self) -> Option<u64> {
        None
    }

    /// The pong to a ping of [`Self::poll_ping`] arrived.
    fn handle_pong(&mut self, _now: Instant, _payload: u64) {}

    /// How to close the link, once everything is sent that [`Self::poll_transmit`] gives.
    fn poll_close(&mut self, now: Instant) -> Option<Close>;

    /// How to close the link although not everything is sent, and the peer takes nothing.
    fn poll_abandon(&mut self, _now: Instant) -> Option<Close> {
        None
    }

    /// The link is as good as over, though frames may still be exchanged: nothing more is asked
    /// or told. Comes once.
    fn handle_end(&mut self, _ended: &Ended) {}

    /// Whether the peer may need long until it reads our close frame, behind data that it has to
    /// hand on first. Asked when the frame of [`Self::poll_close`] is queued. Should the peer never answer such a frame,
    /// [`drive`] gives [`Ended::Lost`], though [`Self::handle_end`] was told of the local end.
    fn is_patient(&self) -> bool {
        false
    }

    /// When [`Self::handle_timeout`] wants to be called next.
    fn poll_timeout(&mut self) -> Option<Instant>;

    /// Does what is due at `now`.
    fn handle_timeout(&mut self, now: Instant);

    /// How often the peer is pinged, and how long it may be silent after that.
    fn pace(&self) -> Pace {
        Pace { interval: v1::PING_INTERVAL, timeout: v1::PONG_TIMEOUT }
    }
}

/// The pings of one link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Time between two pings.
    pub interval: Duration,
    /// How long nothing at all may come after a ping.
    pub timeout: Duration,
}

/// A message to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outgoing {
    /// A text message.
    Text(String),
    /// A binary message in two parts, which are sent as one.
    Binary {
        /// What goes before.
        header: [u8; v2::data::HEADER_BYTES],
        /// The rest.
        payload: Bytes,
    },
}

impl From<String> for Outgoing {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

/// What a binary message of protocol v1 means to a party that reads it as text (spec v1, M-6).
///
/// # Errors
/// It is no text: the link is to be closed.
pub fn text_of_binary(message: &[u8]) -> Result<&str, Close> {
    std::str::from_utf8(message).map_err(|_| Close::new(v1::CLOSE_INVALID, "not UTF-8"))
}

/// How a party of protocol v1 closes a link on which a binary message came (spec v1, M-6).
pub fn no_binary() -> Close {
    Close::new(v1::CLOSE_UNSUPPORTED, "binary messages are not part of v1")
}

/// A close frame to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    /// The close code (spec v1, X-1).
    pub code: u16,
    /// The reason for people; cut to what a close frame holds (123 bytes).
    /// Spec v1, X-20.
    pub reason: Cow<'static, str>,
}

impl Close {
    /// A close frame with a code and a reason, which may be empty.
    pub fn new(code: u16, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { code, reason: reason.into() }
    }

    fn frame(&self) -> CloseFrame {
        let mut end = self.reason.len().min(MAX_REASON);
        while !self.reason.is_char_boundary(end) {
            end -= 1;
        }
        CloseFrame { code: CloseCode::from(self.code), reason: self.reason[..end].into() }
    }
}

/// How a link ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The peer sent a close frame.
    Peer {
        /// Its code, if it had one.
        code: Option<u16>,
        /// Its reason; text of the peer.
        reason: String,
    },
    /// We sent a close frame because our side was done.
    Local(Close),
    /// The peer broke a rule, or did not take part; we closed, or tried to.
    Violation(Close),
    /// The link was cut without a close frame; the text says what is known.
    Lost(String),
}

/// Runs a link until it ends, then ends its socket.
///
/// `bell` tells that the core behind `party` has changed from elsewhere. When `stop` completes,
/// the link is closed as it says. May be dropped at any time; the socket is then closed without
/// a close frame.
pub async fn drive<P: Party>(
    mut socket: WebSocket,
    party: &mut P,
    bell: &Bell,
    stop: impl Future<Output = Close>,
) -> Ended {
    let (ended, is_stuck, is_given_up) = {
        let now = crate::now();
        let pace = party.pace();
        let mut driver = Driver {
            socket: &mut socket,
            party,
            bell,
            stop: pin!(stop),
            keepalive: Keepalive::new(now, pace.interval, pace.timeout),
            pace,
            sleep: Box::pin(tokio::time::sleep_until(now.into())),
            sleeps_until: None,
            unflushed: false,
            written: 0,
            blocked_since: None,
            complete: 0,
            closing: None,
            is_given_up: false,
        };
        let ended = std::future::poll_fn(|cx| driver.poll(cx)).await;
        if driver.closing.is_none() {
            driver.party.handle_end(&ended);
        }
        (ended, driver.unflushed, driver.is_given_up)
    };
    let is_gone = is_given_up || matches!(ended, Ended::Lost(_));
    if is_stuck || (is_gone && party.aborts()) {
        // A peer that takes nothing is not to hold the system's buffers either.
        socket.into_inner().into_inner().abort();
    } else if !matches!(ended, Ended::Lost(_)) {
        end_socket(socket).await;
    }
    ended
}

struct Driver<'a, P, S> {
    socket: &'a mut WebSocket,
    party: &'a mut P,
    bell: &'a Bell,
    /// Not polled again once we close.
    stop: Pin<&'a mut S>,
    keepalive: Keepalive,
    pace: Pace,
    sleep: Pin<Box<Sleep>>,
    /// What `sleep` is set to, if anything.
    sleeps_until: Option<Instant>,
    unflushed: bool,
    /// Bytes the socket had taken when last looked at.
    written: u64,
    /// Since when the socket has taken nothing of what there is to write.
    blocked_since: Option<Instant>,
    /// Bytes read from the socket that belong to complete messages.
    complete: u64,
    closing: Option<Closing>,
    /// The peer is gone, as far as can be told.
    is_given_up: bool,
}

/// Where reading a batch of messages stopped.
enum Reading {
    /// There may be more at once.
    More,
    /// There was nothing to read; the socket wakes us.
    Waiting,
    /// The party wants nothing read; the bell wakes us.
    Paused,
}

/// A close frame was queued by us, or the peer's was answered.
struct Closing {
    ended: Ended,
    /// Whether the peer's answer is waited for.
    expects_answer: bool,
    /// Whether an end without the answer is a loss.
    patient: bool,
    /// How long the peer may neither take nor send anything.
    patience: Duration,
    /// When we stop waiting, for the socket to take the frame or for the peer to answer.
    deadline: Instant,
    /// What `deadline` is never moved beyond.
    limit: Instant,
}

impl Closing {
    fn new(now: Instant, ended: Ended, expects_answer: bool, patient: bool) -> Self {
        let (patience, limit) = if patient {
            (v1::PING_INTERVAL + v1::PONG_TIMEOUT, LONGEST_PATIENT_CLOSE)
        } else {
            (v1::CLOSE_TIMEOUT, LONGEST_CLOSE)
        };
        let (deadline, limit) = (now + patience, now + limit);
        Self { ended, expects_answer, patient, patience, deadline, limit }
    }

    /// The peer took or sent something.
    fn extend(&mut self, now: Instant) {
        self.deadline = (now + self.patience).min(self.limit);
    }
}

impl<P: Party, S: Future<Output = Close>> Driver<'_, P, S> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        loop {
            let now = crate::now();
            // A ring only means that the core is to be asked again, which happens below.
            while self.bell.poll_rung(cx).is_ready() {}
            if self.closing.is_none()
                && let Poll::Ready(close) = self.stop.as_mut().poll(cx)
            {
                self.start_close(now, Ended::Local(close.clone()), &close, true);
            }
            if let Some(ended) = self.poll_clock(now) {
                return Poll::Ready(ended);
            }
            let reading = match self.poll_read(cx, now) {
                Ok(reading) => reading,
                Err(ended) => return Poll::Ready(ended),
            };
            if let Err(ended) = self.poll_write(cx, now) {
                return Poll::Ready(ended);
            }
            match reading {
                // Others on this thread get their turn before the next batch is read.
                Reading::More => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                // What was sent since may have made room.
                Reading::Paused if self.may_read() => continue,
                Reading::Paused | Reading::Waiting => {}
            }
            if self.arm(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Does what is due. An answer means that the link is over.
    fn poll_clock(&mut self, now: Instant) -> Option<Ended> {
        if let Some(closing) = &self.closing {
            let is_due = now >= closing.deadline;
            self.is_given_up |= is_due;
            return is_due.then(|| self.lost("the close frame was not answered".into()));
        }
        if self.party.poll_timeout().is_some_and(|due| now >= due) {
            self.party.handle_timeout(now);
        }
        if self.party.wants_probe() {
            match self.party.probe_timeout() {
                Some(timeout) => self.keepalive.probe_within(now, timeout),
                None => self.keepalive.probe(now),
            }
        }
        // A peer that we do not read for cannot show that it lives, but it can take what we send.
        let silent = self
            .blocked_since
            .is_some_and(|since| now >= since + self.pace.interval + self.pace.timeout);
        if !self.may_read() && !silent {
            self.keepalive.excuse(now);
        }
        match self.keepalive.handle_timeout(now) {
            Verdict::Wait => {}
            Verdict::Ping => {
                // Four bytes, as everybody sends (spec v1, K-11).
                self.ping(&fastrand::u32(..).to_be_bytes());
            }
            Verdict::Dead => {
                self.is_given_up = true;
                // Spec v1, K-3.
                let close = Close::new(v1::CLOSE_PING_TIMEOUT, v1::REASON_PING_TIMEOUT);
                self.start_close(now, Ended::Violation(close.clone()), &close, false);
            }
        }
        None
    }

    /// Whether the socket is to be read at all.
    fn may_read(&mut self) -> bool {
        match &self.closing {
            Some(closing) => closing.expects_answer,
            None => self.party.wants_read(),
        }
    }

    /// Reads a batch of messages.
    /// In the order of their sending (spec v1, M-7).
    fn poll_read(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<Reading, Ended> {
        for _ in 0..BATCH {
            if !self.may_read() {
                return Ok(Reading::Paused);
            }
            let message = match Pin::new(&mut *self.socket).poll_next(cx) {
                Poll::Pending => {
                    self.check_partial(now);
                    return Ok(Reading::Waiting);
                }
                Poll::Ready(Some(Ok(message))) => message,
                Poll::Ready(Some(Err(error))) => return self.handle_error(now, error),
                Poll::Ready(None) => return Err(self.lost("the connection was closed".into())),
            };
            if let Some(closing) = &mut self.closing {
                if let Message::Close(_) = message {
                    // The handshake is complete.
                    return Err(closing.ended.clone());
                }
                // What still arrives behind our close frame has no reader.
                closing.extend(now);
                continue;
            }
            self.keepalive.heard();
            self.party.heard(now);
            match &message {
                Message::Text(_) | Message::Binary(_) => {
                    self.complete = self.socket.get_ref().bytes_read();
                }
                // May stand between the parts of a message.
                Message::Ping(payload) | Message::Pong(payload) => {
                    self.complete += (payload.len() + FRAME_HEADER) as u64;
                }
                Message::Close(_) | Message::Frame(_) => {}
            }
            self.handle_message(now, message)?;
        }
        Ok(Reading::More)
    }

    /// Lets the party know what a message takes that has not arrived as a whole.
    fn check_partial(&mut self, now: Instant) {
        let bytes = self.socket.get_ref().bytes_read().saturating_sub(self.complete);
        if self.closing.is_none()
            && let Err(close) = self.party.receiving(bytes)
        {
            self.start_close(now, Ended::Violation(close.clone()), &close, false);
        }
    }

    fn handle_message(&mut self, now: Instant, message: Message) -> Result<(), Ended> {
        let handled = match message {
            Message::Text(text) => self.party.handle_text(now, &text),
            Message::Binary(bytes) => self.party.handle_binary(now, bytes),
            Message::Close(frame) => {
                let ended = Ended::Peer {
                    code: frame.as_ref().map(|frame| frame.code.into()),
                    reason: frame.as_ref().map_or(String::new(), |frame| frame.reason.to_string()),
                };
                // Spec v1, X-2 and X-21.
                // Tungstenite has queued the answer; flushing sends it.
                self.unflushed = true;
                self.party.handle_end(&ended);
                self.closing = Some(Closing::new(now, ended, false, false));
                Ok(())
            }
            Message::Pong(payload) => {
                // Those of the keep-alive are shorter.
                if let Ok(payload) = payload[..].try_into() {
                    self.party.handle_pong(now, u64::from_be_bytes(payload));
                }
                Ok(())
            }
            Message::Ping(_) | Message::Frame(_) => {
                // A pong may be waiting.
                self.unflushed = true;
                Ok(())
            }
        };
        if self.party.is_started() {
            self.socket.get_mut().lift_limit();
        }
        if let Err(close) = handled {
            self.start_close(now, Ended::Violation(close.clone()), &close, true);
        }
        Ok(())
    }

    /// Reading failed: closes where a frame can still be sent.
    /// Spec v1, X-15.
    fn handle_error(&mut self, now: Instant, error: Error) -> Result<Reading, Ended> {
        if self.closing.is_some() {
            return Err(self.lost(describe(&error)));
        }
        let close = match &error {
            Error::Capacity(_) => Close::new(v1::CLOSE_TOO_BIG, "message too big"),
            Error::Io(_) if self.socket.get_ref().is_exhausted() => {
                Close::new(v1::CLOSE_TOO_BIG, "too much before the start")
            }
            Error::Utf8(_) => Close::new(v1::CLOSE_INVALID, "not UTF-8"),
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) | Error::Io(_) => {
                return Err(self.lost(describe(&error)));
            }
            Error::Protocol(_) => Close::new(v1::CLOSE_PROTOCOL, "WebSocket rule broken"),
            _ => return Err(self.lost(describe(&error))),
        };
        self.start_close(now, Ended::Violation(close.clone()), &close, false);
        Ok(Reading::Paused)
    }

    /// The connection ended, without a close frame of the peer (spec v1, X-16).
    fn lost(&mut self, cause: String) -> Ended {
        match &self.closing {
            // The frames were exchanged, or we had given up on the peer anyway.
            Some(closing) if !closing.patient => closing.ended.clone(),
            _ => Ended::Lost(cause),
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<(), Ended> {
        while self.closing.is_none() {
            if !self.socket.get_ref().has_room() && self.poll_frames(cx, now).is_pending() {
                if let Some(close) = self.party.poll_abandon(now) {
                    self.start_close(now, Ended::Local(close.clone()), &close, true);
                }
                break;
            }
            if let Some(message) = self.party.poll_transmit(now) {
                // One frame (spec v1, M-5).
                self.socket.get_mut().queue(message);
            } else if let Some(payload) = self.party.poll_ping() {
                self.ping(&payload.to_be_bytes());
            } else if let Some(close) = self.party.poll_close(now) {
                self.start_close(now, Ended::Local(close.clone()), &close, true);
            } else {
                break;
            }
        }
        // The library's frames go behind ours, but what it has begun goes first.
        let _ = self.poll_frames(cx, now);
        if self.unflushed {
            match Pin::new(&mut *self.socket).poll_flush(cx) {
                Poll::Ready(Ok(())) => {
                    self.unflushed = false;
                    self.blocked_since = None;
                    if let Some(closing) = &self.closing
                        && !closing.expects_answer
                    {
                        return Err(closing.ended.clone());
                    }
                }
                Poll::Ready(Err(error)) => return Err(self.lost(describe(&error))),
                Poll::Pending => {
                    self.blocked_since.get_or_insert(now);
                }
            }
        }
        let written = self.socket.get_ref().written();
        if written != self.written {
            self.written = written;
            self.blocked_since = self.blocked_since.map(|_| now);
            match &mut self.closing {
                // A slow peer may take what stands before the close frame.
                Some(closing) => closing.extend(now),
                None => self.party.progress(now),
            }
        }
        Ok(())
    }

    /// Writes our own messages.
    fn poll_frames(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<()> {
        let polled = self.socket.get_mut().poll_frames(cx);
        match polled {
            Poll::Ready(()) if !self.unflushed => self.blocked_since = None,
            Poll::Ready(()) => {}
            Poll::Pending => _ = self.blocked_since.get_or_insert(now),
        }
        polled
    }

    fn ping(&mut self, payload: &[u8]) {
        let ping = Message::Ping(payload.to_vec().into());
        // A buffer too full even for this belongs to a peer that takes nothing: it will count as
        // dead for want of a pong.
        if Pin::new(&mut *self.socket).start_send(ping).is_ok() {
            self.unflushed = true;
        }
    }

    fn start_close(&mut self, now: Instant, ended: Ended, close: &Close, expects_answer: bool) {
        let frame = Message::Close(Some(close.frame()));
        // If the frame cannot be queued the link ends without it.
        let queued = Pin::new(&mut *self.socket).start_send(frame).is_ok();
        self.unflushed = true;
        let patient = matches!(ended, Ended::Local(_)) && self.party.is_patient();
        self.party.handle_end(&ended);
        let mut closing = Closing::new(now, ended, expects_answer, patient);
        if !queued {
            closing.deadline = now;
        }
        self.closing = Some(closing);
    }

    /// Sets the alarm for what is due next. Ready means that it is due already.
    fn arm(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let due = match &self.closing {
            Some(closing) => closing.deadline,
            None => {
                let keepalive = self.keepalive.poll_timeout();
                self.party.poll_timeout().map_or(keepalive, |due| due.min(keepalive))
            }
        };
        // An alarm that goes off too early costs one more look; setting it for each message
        // would cost more.
        if self.sleeps_until.is_none_or(|set| set > due || set <= crate::now()) {
            self.sleep.as_mut().reset(due.into());
            self.sleeps_until = Some(due);
        }
        let polled = self.sleep.as_mut().poll(cx);
        if polled.is_ready() {
            self.sleeps_until = None;
        }
        polled
    }
}

/// Ends the TCP connection so that the close frame before it arrives: what the peer still sends
/// is read and dropped for a bounded time, since unread bytes would turn our FIN into a reset.
/// Spec v1, A-14.
async fn end_socket(mut socket: WebSocket) {
    use tokio::io::AsyncWriteExt;
    let socket = socket.get_mut();
    socket.lift_limit();
    let ending = async {
        socket.shutdown().await?;
        let mut waste = [0; 4096];
        let mut budget = MAX_WASTE;
        while budget > 0 {
            match socket.read(&mut waste).await? {
                0 => break,
                read => budget = budget.saturating_sub(read),
            }
        }
        io::Result::Ok(())
    };
    // Whether it worked makes no difference any more.
    let _ = tokio::time::timeout(v1::CLOSE_TIMEOUT, ending).await;
}

fn describe(error: &Error) -> String {
    match error {
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)
        | Error::ConnectionClosed
        | Error::AlreadyClosed => "the connection was closed".into(),
        Error::WriteBufferFull(_) => "the peer takes no answers to its pings".into(),
        Error::Io(error) => system_text(error),
        other => other.to_string(),
    }
}

/// How long a close may take in all of a peer that goes on taking or sending.
const LONGEST_CLOSE: Duration = Duration::from_secs(10);

/// The same of a peer that may have to hand on much before it reads our close frame. It costs
/// little more than a descriptor.
const LONGEST_PATIENT_CLOSE: Duration = Duration::from_secs(15 * 60);

/// Header of a control frame as a client sends it (RFC 6455, section 5.2).
const FRAME_HEADER: usize = 6;

/// Messages read in one go before other tasks get their turn.
const BATCH: usize = 32;

/// Bytes of reason that fit a close frame (RFC 6455, section 5.5).
const MAX_REASON: usize = 123;

/// What is read and dropped of a peer that goes on sending after the end.
const MAX_WASTE: usize = 4 * 1024 * 1024;
