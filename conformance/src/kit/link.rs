use std::io;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use codec::v1::CLOSE_NORMAL;
use serde_json::Value;
use socket2::SockRef;

use super::stage::kit_failed;
use super::transcript::close_text;
use super::{Answer, Finding, Message, Outcome, Received, Request, Stage};
use crate::harness::frames::{
    BINARY, CLOSE, CONTINUATION, PING, PONG, RawLink, TEXT, is_over_time,
};

/// One TCP connection between a scripted peer and the party under test, mostly a WebSocket: what it sends is what the
/// case says, byte for byte, and all that crosses it is recorded.
///
/// As a polite peer it answers pings and close frames while it receives, joins fragments, and passes over
/// `keep_alive` where that may come at any time (K-6); each of these can be turned off. Sending never fails: what
/// became of it, the next receive tells.
#[derive(Debug)]
pub struct Link {
    raw: RawLink,
    stage: Arc<Stage>,
    /// Who the scripted peer is, and who the other end.
    name: String,
    party: String,
    /// The fragments of a message that has begun to come, and its opcode.
    begun: Option<(u8, Vec<u8>)>,
    /// How many messages came in more than one frame.
    fragmented: usize,
    /// Whether a close frame was sent, so that none is answered.
    has_closed: bool,
    answers_pings: bool,
    answers_closes: bool,
    /// Whether `keep_alive` is passed over.
    skips_keep_alive: bool,
}

impl Link {
    pub(super) fn new(raw: RawLink, stage: &Arc<Stage>, name: &str, party: &str) -> Self {
        let link = Self {
            raw,
            stage: Arc::clone(stage),
            name: stage.next_name(name),
            party: party.to_owned(),
            begun: None,
            fragmented: 0,
            has_closed: false,
            answers_pings: true,
            answers_closes: true,
            skips_keep_alive: party != "client" && name != "client",
        };
        hold_little(link.raw.stream());
        // A party that takes nothing must not hold up the kit for longer than a case may take.
        let _ = link.raw.stream().set_write_timeout(Some(stage.start_patience().max(MOMENT)));
        link
    }

    /// The case that it belongs to.
    pub fn stage(&self) -> &Stage {
        &self.stage
    }

    pub(super) fn shared_stage(&self) -> &Arc<Stage> {
        &self.stage
    }

    /// Who the scripted peer is, as the record calls it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// From now on pings are not answered.
    pub fn leave_pings_unanswered(&mut self) {
        self.answers_pings = false;
    }

    /// From now on close frames are not answered.
    pub fn leave_closes_unanswered(&mut self) {
        self.answers_closes = false;
    }

    /// From now on `keep_alive` is received like any other message.
    pub fn watch_keep_alive(&mut self) {
        self.skips_keep_alive = false;
    }

    /// How many messages have come in more than one frame.
    pub fn fragmented(&self) -> usize {
        self.fragmented
    }

    // ---- sending ----

    /// Writes bytes as they are.
    pub fn write(&mut self, bytes: &[u8]) {
        self.stage.transcript.add(&self.name, &self.party, "bytes", bytes);
        self.write_unrecorded(bytes);
    }

    fn write_unrecorded(&mut self, bytes: &[u8]) {
        if let Err(error) = self.raw.write(bytes) {
            self.stage.note(&self.name, &format!("could not be written: {error}"));
        }
    }

    /// Sends a request, or the head of an answer.
    pub fn send_http(&mut self, text: &str) {
        self.stage.transcript.add(&self.name, &self.party, "http", text.as_bytes());
        self.write_unrecorded(text.as_bytes());
    }

    /// Sends one frame. `first` is its first byte: flags and opcode.
    pub fn send_frame(&mut self, first: u8, payload: &[u8]) {
        self.stage.transcript.add_sent(&self.name, &self.party, first, payload);
        if let Err(error) = self.raw.send_frame(first, payload) {
            self.stage.note(&self.name, &format!("could not be written: {error}"));
        }
    }

    /// Sends what stands under `inner`, in its envelope.
    pub fn send(&mut self, inner: &Value) {
        self.send_text(&format!("{{\"inner\":{inner}}}"));
    }

    /// Sends a text message as it is.
    pub fn send_text(&mut self, text: &str) {
        self.send_frame(0x80 | TEXT, text.as_bytes());
    }

    /// Sends a binary message.
    pub fn send_binary(&mut self, bytes: &[u8]) {
        self.send_frame(0x80 | BINARY, bytes);
    }

    /// Sends a text message in pieces, one frame each.
    pub fn send_fragments(&mut self, pieces: &[&[u8]]) {
        for (index, piece) in pieces.iter().enumerate() {
            let opcode = if index == 0 { TEXT } else { CONTINUATION };
            let last = if index + 1 == pieces.len() { 0x80 } else { 0 };
            self.send_frame(last | opcode, piece);
        }
    }

    /// Sends the head of a frame whose payload of so many bytes never comes.
    pub fn claim(&mut self, first: u8, length: u64) {
        let mask: &[u8] = if self.name.starts_with("relay") { &[] } else { &[0; 4] };
        let masked = if mask.is_empty() { 127 } else { 0x80 | 127 };
        self.write(&[&[first, masked], &length.to_be_bytes()[..], mask].concat());
    }

    /// Sends a ping.
    pub fn ping(&mut self, payload: &[u8]) {
        self.send_frame(0x80 | PING, payload);
    }

    /// Sends a close frame with a code.
    pub fn close(&mut self, code: u16) {
        self.close_with(&code.to_be_bytes());
    }

    /// Sends a close frame that holds these bytes.
    pub fn close_with(&mut self, payload: &[u8]) {
        self.has_closed = true;
        self.send_frame(0x80 | CLOSE, payload);
    }

    /// Ends this side of the TCP connection, by FIN.
    pub fn finish(&mut self) {
        self.stage.transcript.add(&self.name, &self.party, "end", b"FIN");
        // It may be gone already.
        let _ = self.raw.stream().shutdown(Shutdown::Write);
    }

    /// Ends the TCP connection by RST.
    pub fn reset(&mut self) {
        self.stage.transcript.add(&self.name, &self.party, "end", b"RST");
        // It may be gone already.
        let _ = rustix::net::connect_unspec(self.raw.stream());
    }

    /// Leaves by a close handshake with 1000; see [`Link::leave_with`].
    ///
    /// # Errors
    ///
    /// When the close frame is not answered with its code.
    pub fn leave(&mut self) -> Outcome {
        self.leave_with(CLOSE_NORMAL)
    }

    /// Leaves by a whole close handshake: sends a close frame, waits for the answer, and ends the TCP connection.
    /// Messages that were on their way are passed over.
    ///
    /// # Errors
    ///
    /// When the close frame is not answered with its code.
    pub fn leave_with(&mut self, code: u16) -> Outcome {
        self.close(code);
        loop {
            match self.receive()? {
                Received::Close(Some(came), _) if came == code => {
                    self.finish();
                    return Ok(());
                }
                Received::Text(_) => {}
                other => return self.unexpected("an answer to the close frame", Some(&other)),
            }
        }
    }

    // ---- HTTP ----

    /// Sends a request and reads the answer.
    ///
    /// # Errors
    ///
    /// When there is no answer.
    pub fn request(&mut self, request: &Request) -> Outcome<Answer> {
        self.send_http(&request.text());
        self.answer()
    }

    /// Reads an answer, and its body unless it is that of a 101.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn answer(&mut self) -> Outcome<Answer> {
        let mut answer = self.head()?;
        let read = match answer.length() {
            Some(length) => self.raw.read_bytes_within(self.stage.patience(), length),
            None => self.read_to_end(),
        };
        answer.body = read.map_err(|error| {
            Finding::Fail(format!("the body of the answer {:?}: {error}", answer.first_line))
        })?;
        if !answer.body.is_empty() {
            self.stage.transcript.add(&self.party, &self.name, "http", &answer.body);
        }
        Ok(answer)
    }

    /// Reads the head of an answer or a request.
    ///
    /// # Errors
    ///
    /// When none comes.
    pub fn head(&mut self) -> Outcome<Answer> {
        match self.raw.read_head_within(self.stage.patience()) {
            Ok(head) => {
                self.stage.transcript.add(&self.party, &self.name, "http", head.as_bytes());
                Ok(Answer::parse(head))
            }
            Err(error) if is_over_time(&error) => {
                Err(Finding::fail(format!("no HTTP from the {} in time", self.party)))
            }
            Err(_) => {
                self.stage.transcript.add_received(&self.party, &self.name, &Received::End);
                let ended = format!("the {} ended the TCP connection without HTTP", self.party);
                Err(Finding::Fail(ended))
            }
        }
    }

    /// Whatever comes until the connection ends.
    fn read_to_end(&mut self) -> io::Result<Vec<u8>> {
        let end = Instant::now() + self.stage.patience();
        let mut bytes = Vec::new();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.raw.read_bytes_within(left, 1) {
                Ok(byte) => bytes.extend(byte),
                Err(error) if is_over_time(&error) => return Err(error),
                Err(_) => return Ok(bytes),
            }
        }
    }

    /// Whether the TCP connection ends soon, without anything before.
    ///
    /// # Errors
    ///
    /// When something comes, or it goes on.
    pub fn expect_end_of_http(&mut self) -> Outcome {
        match self.raw.read_bytes_within(self.stage.patience(), 1) {
            Ok(_) => Err(Finding::fail("something follows the answer")),
            Err(error) if is_over_time(&error) => {
                Err(Finding::fail("the TCP connection goes on after the answer"))
            }
            Err(_) => {
                self.stage.transcript.add_received(&self.party, &self.name, &Received::End);
                Ok(())
            }
        }
    }

    /// The first bytes that come, for what is not HTTP.
    ///
    /// # Errors
    ///
    /// When fewer come.
    pub fn first_bytes(&mut self, length: usize) -> Outcome<Vec<u8>> {
        let read = self.raw.read_bytes_within(self.stage.patience(), length);
        let bytes = read.map_err(|error| Finding::Fail(format!("nothing came: {error}")))?;
        self.stage.transcript.add(&self.party, &self.name, "bytes", &bytes);
        Ok(bytes)
    }

    pub(super) fn raw(&self) -> &RawLink {
        &self.raw
    }

    // ---- receiving ----

    /// The next message, close frame or end of the TCP connection.
    ///
    /// # Errors
    ///
    /// When nothing comes in time.
    pub fn receive(&mut self) -> Outcome<Received> {
        let patience = self.stage.patience();
        match self.receive_within(patience)? {
            Some(received) => Ok(received),
            None => self.unexpected("something", None),
        }
    }

    /// The same for another time; `None` if nothing comes.
    ///
    /// # Errors
    ///
    /// When what comes breaks RFC 6455, or the case is over its limit.
    pub fn receive_within(&mut self, limit: Duration) -> Outcome<Option<Received>> {
        let end = Instant::now() + limit;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let Some(received) = self.next(left)? else { return Ok(None) };
            match &received {
                Received::Ping(_) | Received::Pong(_) => {}
                Received::Text(text) if self.skips_keep_alive && is_keep_alive(text) => {}
                _ => return Ok(Some(received)),
            }
        }
    }

    /// The next message or control frame of any kind, with pings and close frames answered.
    ///
    /// # Errors
    ///
    /// When what comes breaks RFC 6455, or the case is over its limit.
    pub fn next(&mut self, limit: Duration) -> Outcome<Option<Received>> {
        let end = Instant::now() + limit;
        let received = loop {
            self.stage.check_time()?;
            let left = end.saturating_duration_since(Instant::now());
            // A little time even at the end: what has come already is to be seen.
            let frame = match self.raw.read_frame_within(self.stage.at_most(left.max(MOMENT))) {
                Ok(frame) => frame,
                Err(error) if is_over_time(&error) => return Ok(None),
                Err(_) => break Received::End,
            };
            let is_relay = self.name.starts_with("relay");
            if frame.is_masked != is_relay {
                let masked = if frame.is_masked { "a masked" } else { "an unmasked" };
                return Err(Finding::Fail(format!("{masked} frame from the {}", self.party)));
            }
            if frame.first & 0x70 != 0 {
                return Err(Finding::Fail(format!("reserved bits in a frame: {:#x}", frame.first)));
            }
            match (frame.opcode(), frame.is_final(), self.begun.take()) {
                (CONTINUATION, is_final, Some((opcode, mut begun))) => {
                    begun.extend(frame.payload);
                    if is_final {
                        self.fragmented += 1;
                        break whole(opcode, begun)?;
                    }
                    self.begun = Some((opcode, begun));
                }
                (TEXT | BINARY, false, None) => {
                    self.begun = Some((frame.opcode(), frame.payload));
                }
                (opcode @ (TEXT | BINARY), true, None) => break whole(opcode, frame.payload)?,
                (CLOSE | PING | PONG, true, begun) => {
                    self.begun = begun;
                    break frame.into_received();
                }
                _ => return Err(Finding::Fail(format!("a stray frame: {:#x}", frame.first))),
            }
        };
        self.stage.transcript.add_received(&self.party, &self.name, &received);
        match &received {
            Received::Ping(payload) if self.answers_pings => {
                self.send_frame(0x80 | PONG, payload);
            }
            Received::Close(code, _) if self.answers_closes && !self.has_closed => {
                let code = code.map(u16::to_be_bytes);
                self.close_with(code.as_ref().map_or(&[], |code| &code[..]));
            }
            _ => {}
        }
        Ok(Some(received))
    }

    /// The next message.
    ///
    /// # Errors
    ///
    /// When something else comes, or nothing.
    pub fn message(&mut self) -> Outcome<Message> {
        let patience = self.stage.patience();
        match self.receive_within(patience)? {
            Some(Received::Text(text)) => Message::read(text),
            other => self.unexpected("a message", other.as_ref()),
        }
    }

    /// The next message, which has to be of this kind.
    ///
    /// # Errors
    ///
    /// When something else comes, or nothing.
    pub fn expect_kind(&mut self, kind: &str) -> Outcome<Message> {
        self.expect_kind_after(Duration::ZERO, kind)
    }

    /// The same, where it may take this long besides.
    ///
    /// # Errors
    ///
    /// When something else comes, or nothing.
    pub fn expect_kind_after(&mut self, time: Duration, kind: &str) -> Outcome<Message> {
        let patience = self.stage.patience_after(time);
        match self.receive_within(patience)? {
            Some(Received::Text(text)) => {
                let message = Message::read(text)?;
                if message.kind() == kind {
                    return Ok(message);
                }
                Err(Finding::Fail(format!("instead of `{kind}` came {}", message.text)))
            }
            other => self.unexpected(&format!("`{kind}`"), other.as_ref()),
        }
    }

    /// The next message, which has to hold exactly this under `inner`, in any spelling.
    ///
    /// # Errors
    ///
    /// When something else comes, or nothing.
    pub fn expect(&mut self, inner: &Value) -> Outcome<Message> {
        self.expect_after(Duration::ZERO, inner)
    }

    /// The same, where it may take this long besides.
    ///
    /// # Errors
    ///
    /// When something else comes, or nothing.
    pub fn expect_after(&mut self, time: Duration, inner: &Value) -> Outcome<Message> {
        let message = self.expect_kind_after(time, inner["kind"].as_str().unwrap_or_default())?;
        if message.inner == *inner {
            return Ok(message);
        }
        Err(Finding::Fail(format!("instead of {inner} came {}", message.text)))
    }

    /// Waits for a close frame of this code; gives its reason.
    ///
    /// # Errors
    ///
    /// When something else comes, or nothing.
    pub fn expect_close(&mut self, code: u16) -> Outcome<String> {
        self.expect_close_after(Duration::ZERO, code)
    }

    /// The same, where it may take this long besides.
    ///
    /// # Errors
    ///
    /// When something else comes, or nothing.
    pub fn expect_close_after(&mut self, time: Duration, code: u16) -> Outcome<String> {
        let patience = self.stage.patience_after(time);
        match self.receive_within(patience)? {
            Some(Received::Close(Some(came), reason)) if came == code => Ok(reason),
            other => self.unexpected(&format!("a close frame of {code}"), other.as_ref()),
        }
    }

    /// Waits for a close frame of this code and this reason.
    ///
    /// # Errors
    ///
    /// When something else comes, or nothing.
    pub fn expect_close_saying(&mut self, code: u16, reason: &str) -> Outcome {
        let came = self.expect_close(code)?;
        if came == reason {
            return Ok(());
        }
        Err(Finding::Fail(format!("the reason is {came:?} instead of {reason:?}")))
    }

    /// Waits for the end of the TCP connection.
    ///
    /// # Errors
    ///
    /// When something else comes, or nothing.
    pub fn expect_end(&mut self) -> Outcome {
        match self.receive()? {
            Received::End => Ok(()),
            other => self.unexpected("the end of the TCP connection", Some(&other)),
        }
    }

    /// Waits for a pong with this payload, with nothing but pings and `keep_alive` before it.
    ///
    /// # Errors
    ///
    /// When something else comes, or nothing.
    pub fn expect_pong(&mut self, payload: &[u8]) -> Outcome {
        let wanted = format!("a pong with {payload:?}");
        let end = Instant::now() + self.stage.patience();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.next(left)? {
                Some(Received::Pong(came)) if came == payload => return Ok(()),
                Some(Received::Ping(_)) => {}
                Some(Received::Text(text)) if self.skips_keep_alive && is_keep_alive(&text) => {}
                other => return self.unexpected(&wanted, other.as_ref()),
            }
        }
    }

    /// Sends a ping and waits for its pong: so the link lives, and what was sent before was read without a word.
    ///
    /// # Errors
    ///
    /// When something comes before the pong.
    pub fn expect_quiet(&mut self) -> Outcome {
        self.ping(b"quiet?");
        self.expect_pong(b"quiet?")
    }

    /// Watches for some time that nothing comes. For what cannot be seen in any other way.
    ///
    /// # Errors
    ///
    /// When something comes.
    pub fn expect_nothing_for(&mut self, time: Duration) -> Outcome {
        match self.receive_within(time)? {
            None => Ok(()),
            received => self.unexpected("nothing", received.as_ref()),
        }
    }

    /// What to say of something that came instead of what was wanted.
    pub(super) fn unexpected<T>(&self, wanted: &str, came: Option<&Received>) -> Outcome<T> {
        let came = match came {
            None => "nothing came in time".to_owned(),
            Some(Received::Text(text)) => format!("this came: {}", cut(text)),
            Some(Received::Binary(bytes)) => format!("a binary message of {} bytes", bytes.len()),
            Some(Received::Close(code, reason)) => {
                format!("a close frame came: {}", close_text(*code, reason))
            }
            Some(Received::Ping(_)) => "a ping came".to_owned(),
            Some(Received::Pong(payload)) => format!("a pong with {payload:?} came"),
            Some(Received::End) => "the TCP connection ended without a close frame".to_owned(),
        };
        Err(Finding::Fail(format!("instead of {wanted} from the {}, {came}", self.party)))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.stage.transcript.add(&self.name, &self.name, "note", b"leaves");
    }
}

/// Time enough to see what has come already.
const MOMENT: Duration = Duration::from_millis(1);

/// Makes the buffers of a scripted peer's socket small and keeps them so: what a case sees of a queue is then that of
/// the party, and not that of the system.
pub(super) fn hold_little(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    // Larger ones make cases see less, not something wrong.
    let _ = socket.set_recv_buffer_size(BUFFER);
    let _ = socket.set_send_buffer_size(BUFFER);
}

/// What a socket of the kit holds, in bytes; systems take about twice as much.
const BUFFER: usize = 256 * 1024;

fn is_keep_alive(text: &str) -> bool {
    text == r#"{"inner":{"kind":"keep_alive"}}"#
}

fn whole(opcode: u8, payload: Vec<u8>) -> Outcome<Received> {
    if opcode == BINARY {
        return Ok(Received::Binary(payload));
    }
    let text = String::from_utf8(payload);
    text.map(Received::Text).map_err(|_| Finding::fail("a text message that is not UTF-8"))
}

fn cut(text: &str) -> String {
    let mut cut: String = text.chars().take(200).collect();
    if cut.len() < text.len() {
        cut.push('…');
    }
    cut
}

/// Dials a party on loopback or elsewhere.
pub(super) fn dial(address: &str, stage: &Arc<Stage>, name: &str, party: &str) -> Outcome<Link> {
    let raw = RawLink::dial_at(address)
        .map_err(|error| kit_failed(&format!("dial {address}"), &error))?;
    Ok(Link::new(raw, stage, name, party))
}
