//! WebSockets by hand, for what a proper library would never send, and for peers that a test scripts.

use std::fmt::Write as _;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::{DEADLINE, wait_until};

/// Opcode of a continuation frame.
pub const CONTINUATION: u8 = 0;
/// Opcode of a text frame.
pub const TEXT: u8 = 1;
/// Opcode of a binary frame.
pub const BINARY: u8 = 2;
/// Opcode of a close frame.
pub const CLOSE: u8 = 8;
/// Opcode of a ping.
pub const PING: u8 = 9;
/// Opcode of a pong.
pub const PONG: u8 = 10;

/// What comes from the other side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// A text message.
    Text(String),
    /// A binary message.
    Binary(Vec<u8>),
    /// A close frame: its code, if it has one, and its reason.
    Close(Option<u16>, String),
    /// A ping.
    Ping(Vec<u8>),
    /// A pong.
    Pong(Vec<u8>),
    /// The end of the TCP connection, by FIN or RST.
    End,
}

impl Received {
    /// The code of a close frame.
    pub fn close_code(&self) -> Option<u16> {
        if let Self::Close(code, _) = self { *code } else { None }
    }
}

/// One frame as it came, unmasked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Its first byte: flags and opcode.
    pub first: u8,
    /// Whether it was masked.
    pub is_masked: bool,
    /// What it holds.
    pub payload: Vec<u8>,
}

impl Frame {
    /// The frame at the beginning of `bytes`, and its length there; `None` while it is not complete.
    fn parse(bytes: &[u8]) -> Option<(Self, usize)> {
        let second = *bytes.get(1)?;
        let (length, mut end) = match second & 0x7f {
            126 => (u64::from(u16::from_be_bytes(array(bytes.get(2..4)?))), 4),
            127 => (u64::from_be_bytes(array(bytes.get(2..10)?)), 10),
            short => (u64::from(short), 2),
        };
        let is_masked = second & 0x80 != 0;
        let mut mask = [0; 4];
        if is_masked {
            mask = array(bytes.get(end..end + 4)?);
            end += 4;
        }
        let start = end;
        // A length beyond the memory of this machine is never complete.
        end = start.checked_add(usize::try_from(length).ok()?)?;
        let mut payload = bytes.get(start..end)?.to_vec();
        for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
            *byte ^= mask;
        }
        Some((Self { first: bytes[0], is_masked, payload }, end))
    }

    /// Its opcode.
    pub fn opcode(&self) -> u8 {
        self.first & 0x0f
    }

    /// Whether it is the last one of its message.
    pub fn is_final(&self) -> bool {
        self.first & 0x80 != 0
    }

    /// What it says, taken for a whole message. An opcode that is none counts as text.
    pub fn into_received(self) -> Received {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let payload = self.payload;
        match self.first & 0x0f {
            CLOSE if payload.len() >= 2 => {
                let code = u16::from_be_bytes(array(&payload[..2]));
                Received::Close(Some(code), text(&payload[2..]))
            }
            CLOSE => Received::Close(None, String::new()),
            PING => Received::Ping(payload),
            PONG => Received::Pong(payload),
            BINARY => Received::Binary(payload),
            _ => Received::Text(text(&payload)),
        }
    }
}

/// One WebSocket: its client's end from [`RawLink::dial`], or its server's from [`RawRelay`].
#[derive(Debug)]
pub struct RawLink {
    stream: TcpStream,
    is_server: bool,
    /// The head of the other side's half of the upgrade.
    head: String,
    read_ahead: Vec<u8>,
}

impl RawLink {
    /// Dials a relay on loopback and upgrades `path`.
    ///
    /// # Errors
    ///
    /// When the answer is not 101; the error holds its head.
    pub fn open(port: u16, path: &str) -> io::Result<Self> {
        let mut link = Self::dial(port)?;
        link.write(upgrade(path).as_bytes())?;
        link.read_head()?;
        if link.head.starts_with("HTTP/1.1 101 ") {
            return Ok(link);
        }
        Err(io::Error::other(link.head))
    }

    /// Dials and says nothing.
    ///
    /// # Errors
    ///
    /// When nothing listens.
    pub fn dial(port: u16) -> io::Result<Self> {
        Self::dial_at((Ipv4Addr::LOCALHOST, port))
    }

    /// Dials any address and says nothing.
    ///
    /// # Errors
    ///
    /// When nothing listens there.
    pub fn dial_at(address: impl ToSocketAddrs) -> io::Result<Self> {
        Self::new(TcpStream::connect(address)?, false)
    }

    fn new(stream: TcpStream, is_server: bool) -> io::Result<Self> {
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, is_server, head: String::new(), read_ahead: Vec::new() })
    }

    /// Reads the head of an HTTP answer or request.
    ///
    /// # Errors
    ///
    /// When the connection ends first, or nothing comes for [`DEADLINE`].
    pub fn read_head(&mut self) -> io::Result<&str> {
        self.read_head_within(DEADLINE)
    }

    /// The same for another time. What has come by then is kept for the next attempt.
    ///
    /// # Errors
    ///
    /// When the connection ends first, or the time is over (`TimedOut`).
    pub fn read_head_within(&mut self, limit: Duration) -> io::Result<&str> {
        let head = self.read_within(limit, |bytes| {
            let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
            Some((String::from_utf8_lossy(&bytes[..end]).into_owned(), end))
        })?;
        self.head = head;
        Ok(&self.head)
    }

    /// Reads exactly so many bytes. What has come when it fails is kept for the next attempt.
    ///
    /// # Errors
    ///
    /// When the connection ends first, or the time is over (`TimedOut`).
    pub fn read_bytes_within(&mut self, limit: Duration, length: usize) -> io::Result<Vec<u8>> {
        self.read_within(limit, |bytes| Some((bytes.get(..length)?.to_vec(), length)))
    }

    /// The next frame. What has come of it when it fails is kept for the next attempt.
    ///
    /// # Errors
    ///
    /// When the connection ends first, or the time is over (`TimedOut`).
    pub fn read_frame_within(&mut self, limit: Duration) -> io::Result<Frame> {
        self.read_within(limit, Frame::parse)
    }

    /// The value of a header of the other side's half of the upgrade.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// The path that the other side has asked for.
    pub fn path(&self) -> String {
        self.head.split(' ').nth(1).unwrap_or_default().to_owned()
    }

    /// The TCP connection.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Writes bytes as they are.
    ///
    /// # Errors
    ///
    /// Those of the connection.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends a whole message.
    ///
    /// # Errors
    ///
    /// Those of the connection.
    pub fn send(&mut self, opcode: u8, payload: &[u8]) -> io::Result<()> {
        self.send_frame(0x80 | opcode, payload)
    }

    /// Sends a frame, masked as this end has to. `first` is its first byte: flags and opcode.
    ///
    /// # Errors
    ///
    /// Those of the connection.
    pub fn send_frame(&mut self, first: u8, payload: &[u8]) -> io::Result<()> {
        let frame =
            if self.is_server { unmasked_frame(first, payload) } else { frame(first, payload) };
        self.write(&frame)
    }

    /// Sends a text message.
    ///
    /// # Errors
    ///
    /// Those of the connection.
    pub fn send_text(&mut self, text: &str) -> io::Result<()> {
        self.send(TEXT, text.as_bytes())
    }

    /// Sends a message of v1: `inner` is what stands in its envelope.
    ///
    /// # Errors
    ///
    /// Those of the connection.
    pub fn send_inner(&mut self, inner: &Value) -> io::Result<()> {
        self.send_text(&format!("{{\"inner\":{inner}}}"))
    }

    /// Sends a close frame.
    ///
    /// # Errors
    ///
    /// Those of the connection.
    pub fn send_close(&mut self, code: u16, reason: &str) -> io::Result<()> {
        self.send(CLOSE, &[&code.to_be_bytes(), reason.as_bytes()].concat())
    }

    /// The next frame, which is taken for a whole message.
    ///
    /// # Panics
    ///
    /// When nothing comes for [`DEADLINE`].
    pub fn receive(&mut self) -> Received {
        match self.read_frame_within(DEADLINE) {
            Ok(frame) => frame.into_received(),
            Err(error) if is_over_time(&error) => panic!("nothing came for {DEADLINE:?}"),
            Err(_) => Received::End,
        }
    }

    /// The next frame that is neither ping nor pong; pings are answered.
    pub fn receive_message(&mut self) -> Received {
        loop {
            match self.receive() {
                Received::Ping(payload) => {
                    // If the connection is gone, the next frame says so.
                    let _ = self.send(PONG, &payload);
                }
                Received::Pong(_) => {}
                other => return other,
            }
        }
    }

    /// What stands in the envelope of the next message of v1.
    ///
    /// # Panics
    ///
    /// When something else comes.
    pub fn receive_inner(&mut self) -> Value {
        let received = self.receive_message();
        let Received::Text(text) = &received else { panic!("not a message: {received:?}") };
        let parsed: Result<Value, _> = serde_json::from_str(text);
        parsed.map_or_else(|error| panic!("{error}: {text}"), |mut value| value["inner"].take())
    }

    /// Reads until `parse` finds something at the beginning of what has come; it gives that, and its length.
    fn read_within<T>(
        &mut self,
        limit: Duration,
        parse: impl Fn(&[u8]) -> Option<(T, usize)>,
    ) -> io::Result<T> {
        let end = Instant::now() + limit;
        let mut buffer = [0; 1 << 16];
        loop {
            if let Some((found, length)) = parse(&self.read_ahead) {
                self.read_ahead.drain(..length);
                return Ok(found);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            self.stream.set_read_timeout(Some(left))?;
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(read) => self.read_ahead.extend_from_slice(&buffer[..read]),
                Err(error) if is_over_time(&error) || error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Whether a read failed because its time was over.
pub fn is_over_time(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(bytes);
    array
}

/// A good request to upgrade `path`.
pub fn upgrade(path: &str) -> String {
    let mut request = String::new();
    // Writing to a String cannot fail.
    let _ = write!(
        request,
        "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    );
    request
}

/// A masked frame. `first` is its first byte: flags and opcode. The mask is of zeros, which is legal.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    with_header(first, 0x80, &[0; 4], payload)
}

/// The same without a mask, as servers send it.
pub fn unmasked_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    with_header(first, 0, &[], payload)
}

fn with_header(first: u8, masked: u8, mask: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(short @ 0..=125), _) => frame.push(masked | short),
        (_, Ok(medium)) => {
            frame.push(masked | 126);
            frame.extend(medium.to_be_bytes());
        }
        _ => {
            frame.push(masked | 127);
            frame.extend((payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(mask);
    frame.extend_from_slice(payload);
    frame
}

/// A relay that a test scripts, on a port of loopback.
#[derive(Debug)]
pub struct RawRelay {
    listener: TcpListener,
    port: u16,
}

impl RawRelay {
    /// Listens on a free port.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn new() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        Ok(Self { listener, port })
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A connection that waits to be accepted, if there is one.
    ///
    /// # Errors
    ///
    /// Those of the listener.
    pub fn poll_accept(&self) -> io::Result<Option<RawLink>> {
        let stream = match self.listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        };
        stream.set_nonblocking(false)?;
        RawLink::new(stream, true).map(Some)
    }

    /// The next connection, of which nothing was read yet.
    ///
    /// # Errors
    ///
    /// Those of the listener.
    ///
    /// # Panics
    ///
    /// When none comes for [`DEADLINE`].
    pub fn accept(&self) -> io::Result<RawLink> {
        let mut accepted = None;
        wait_until("somebody dials", || {
            accepted = self.poll_accept().transpose();
            accepted.is_some()
        });
        accepted.unwrap_or_else(|| Err(ErrorKind::TimedOut.into()))
    }

    /// The next connection, once its request was read.
    ///
    /// # Errors
    ///
    /// Those of the connection.
    pub fn accept_request(&self) -> io::Result<RawLink> {
        let mut link = self.accept()?;
        link.read_head()?;
        Ok(link)
    }

    /// The next connection, upgraded, with what stands in the envelope of its first message.
    ///
    /// # Errors
    ///
    /// Those of the connection.
    ///
    /// # Panics
    ///
    /// When no message comes.
    pub fn accept_start(&self) -> io::Result<(RawLink, Value)> {
        let mut link = self.accept_request()?;
        let answer = switching(&link);
        link.write(answer.as_bytes())?;
        let start = link.receive_inner();
        Ok((link, start))
    }
}

/// The value of `Sec-WebSocket-Accept` that a link's other side has asked for.
pub fn accept_key(link: &RawLink) -> String {
    derive_accept_key(link.header("Sec-WebSocket-Key").unwrap_or_default().as_bytes())
}

/// The answer to the upgrade that a link's other side has asked for.
pub fn switching(link: &RawLink) -> String {
    let accept = accept_key(link);
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    )
}
