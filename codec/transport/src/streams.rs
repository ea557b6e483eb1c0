//! An endpoint of protocol v2 that tasks share: its links' drivers, its streams' pumps, and its owner.

use std::cell::RefCell;
use std::future::Future as _;
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, ready};
use std::time::{Duration, Instant};

use bytes::{BufMut as _, Bytes, BytesMut};
use codec::v2::{self, Control, data};
use mux::v2::{Endpoint, LinkKey, Read, Room, StreamEnd, StreamKey, Transmit, Violation};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};

use crate::bell::Bell;
use crate::driver::{Close, Ended, Outgoing, Pace, Party};
use crate::printable::printable;
use crate::websocket::Sizes;

/// An endpoint, shared. Clones are the same endpoint.
#[derive(Clone, Debug)]
pub struct Streams {
    core: Arc<Mutex<Endpoint<Bell>>>,
    owner: Bell,
    /// How often the links were to be probed.
    probes: Arc<AtomicUsize>,
}

impl Streams {
    /// Makes an endpoint to be shared. Its events and times are for whoever calls [`Self::changed`].
    pub fn new(side: mux::v2::Side, settings: mux::v2::Settings) -> Self {
        let owner = Bell::default();
        let core = Endpoint::new(crate::now(), side, settings, fastrand::u64(..), owner.clone());
        Self { core: Arc::new(Mutex::new(core)), owner, probes: Arc::default() }
    }

    /// The core; held for one call at a time, never across an await.
    pub fn core(&self) -> MutexGuard<'_, Endpoint<Bell>> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there may be events, and does what is due meanwhile. For one task at a time; may be dropped.
    pub async fn changed(&self) {
        loop {
            let due = self.core().poll_timeout();
            let alarm = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.owner.rung() => return,
                () = alarm => self.core().handle_timeout(crate::now()),
            }
        }
    }

    /// Asks all links for a sign of life: the machine has slept, or the like (spec v2, TM-7).
    pub fn probe(&self) {
        self.probes.fetch_add(1, Ordering::AcqRel);
        self.core().wake_links();
    }

    /// Begins a link, for a dialler with its `hello`; drive what is returned.
    pub fn link(&self, hello: Option<Control>) -> StreamsLink {
        let bell = Bell::default();
        let key = self.core().connect(crate::now(), hello, bell.clone());
        let probes = self.probes.load(Ordering::Acquire);
        StreamsLink { streams: self.clone(), key, bell, probes, is_over: false }
    }
}

/// One link of an endpoint, for its driver. Dropping it detaches its streams.
#[derive(Debug)]
pub struct StreamsLink {
    streams: Streams,
    key: LinkKey,
    bell: Bell,
    /// Those of [`Streams::probe`] that were seen to.
    probes: usize,
    is_over: bool,
}

impl StreamsLink {
    /// Its key in the endpoint.
    pub fn key(&self) -> LinkKey {
        self.key
    }

    /// Rung when there is something to send.
    pub fn bell(&self) -> Bell {
        self.bell.clone()
    }

    fn lost(&mut self) {
        if !std::mem::replace(&mut self.is_over, true) {
            self.streams.core().link_lost(crate::now(), self.key);
        }
    }
}

impl Drop for StreamsLink {
    fn drop(&mut self) {
        self.lost();
    }
}

impl Party for StreamsLink {
    fn handle_text(&mut self, now: Instant, text: &str) -> Result<(), Close> {
        let message = v2::decode::<Control>(text).map_err(|error| invalid(&error))?;
        let handled = self.streams.core().handle_control(now, self.key, message);
        handled.map_err(|violation| violated(&violation))
    }

    fn handle_binary(&mut self, now: Instant, message: Bytes) -> Result<(), Close> {
        let (number, payload) = split(message)?;
        let handled = self.streams.core().handle_data(now, self.key, number, payload);
        handled.map_err(|violation| violated(&violation))
    }

    fn wants_read(&mut self) -> bool {
        self.streams.core().wants_read(self.key)
    }

    fn poll_transmit(&mut self, now: Instant) -> Option<Outgoing> {
        self.streams.core().poll_transmit(now, self.key).map(outgoing)
    }

    fn poll_close(&mut self, _now: Instant) -> Option<Close> {
        let is_drained = self.streams.core().is_drained(self.key);
        is_drained.then(|| Close::new(v2::CLOSE_NORMAL, ""))
    }

    fn handle_end(&mut self, _ended: &Ended) {
        self.lost();
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        None
    }

    fn handle_timeout(&mut self, _now: Instant) {}

    fn wants_probe(&mut self) -> bool {
        let probes = self.streams.probes.load(Ordering::Acquire);
        std::mem::replace(&mut self.probes, probes) != probes
    }

    fn probe_timeout(&self) -> Option<Duration> {
        Some(v2::PROBE_TIMEOUT)
    }

    fn aborts(&self) -> bool {
        true
    }

    fn pace(&self) -> Pace {
        PACE
    }
}

/// The sizes of a link of protocol v2 (spec v2, LM-1). A peer that sends more closes itself out.
pub const SIZES: Sizes =
    Sizes { max_message: data::HEADER_BYTES + v2::MAX_DATA, before_start: None };

/// The pings of a link of protocol v2 (spec v2, TM-1).
pub const PACE: Pace = Pace {
    interval: v2::PING_INTERVAL,
    timeout: v2::LINK_TIMEOUT.saturating_sub(v2::PING_INTERVAL),
};

/// What goes on the wire.
pub fn outgoing(transmit: Transmit) -> Outgoing {
    match transmit {
        Transmit::Control(message) => Outgoing::Text(v2::encode(&message)),
        Transmit::Data { stream, payload } => {
            Outgoing::Binary { header: data::header(stream), payload }
        }
    }
}

/// A data frame, taken apart without a copy.
///
/// # Errors
/// It is too short: the link is to be closed.
pub fn split(message: Bytes) -> Result<(u32, Bytes), Close> {
    match data::split(&message) {
        Some((number, _)) => Ok((number, message.slice(data::HEADER_BYTES..))),
        None => Err(violated(&Violation::NoHeader)),
    }
}

/// How a link is closed on which something came that is no message (spec v2, BD-1).
pub fn invalid(error: &codec::DecodeError) -> Close {
    let code = match error {
        codec::DecodeError::TooLong { .. } => v2::CLOSE_TOO_BIG,
        _ => v2::CLOSE_INVALID,
    };
    Close::new(code, printable(&error.to_string(), MAX_REASON))
}

/// How a link is closed whose peer broke a rule (spec v2, BD-2).
pub fn violated(violation: &Violation) -> Close {
    Close::new(v2::CLOSE_PROTOCOL, violation.to_string())
}

/// Characters of a reason in a close frame that quotes a peer.
const MAX_REASON: usize = 100;

/// One stream of a shared endpoint, for whoever carries its bytes. Given up when dropped.
#[derive(Debug)]
pub struct Seat {
    streams: Streams,
    key: StreamKey,
    reader: Bell,
    writer: Bell,
}

/// How one direction ended.
#[derive(Debug)]
pub enum Carried {
    /// The source ended, and everything that it gave is handed on.
    Finished,
    /// The stream is over.
    Over,
    /// The local socket failed.
    Failed(io::Error),
}

impl Seat {
    /// The seat of a stream whose wakers these are.
    pub fn new(streams: Streams, key: StreamKey, reader: Bell, writer: Bell) -> Self {
        Self { streams, key, reader, writer }
    }

    /// The stream.
    pub fn key(&self) -> StreamKey {
        self.key
    }

    /// The endpoint that it belongs to.
    pub fn streams(&self) -> &Streams {
        &self.streams
    }

    /// How the stream ended, if it has.
    pub fn end(&self) -> Option<StreamEnd> {
        self.streams.core().end(self.key).cloned()
    }

    /// Waits until the stream is over.
    pub async fn ended(&self) -> StreamEnd {
        loop {
            if let Some(end) = self.end() {
                return end;
            }
            self.reader.rung().await;
        }
    }

    /// Carries bytes from a local source into the stream until either ends; the end of the source finishes the stream.
    /// May be dropped at any time: nothing that was read is lost to the stream.
    pub async fn send_from(&self, source: impl AsyncRead) -> Carried {
        let mut source = pin!(source);
        std::future::poll_fn(|cx| {
            for _ in 0..BATCH {
                let room = loop {
                    let room = self.streams.core().room(self.key);
                    match room {
                        Room::Ready(bytes) => break bytes,
                        Room::Over => return Poll::Ready(Carried::Over),
                        Room::Full => ready!(self.writer.poll_rung(cx)),
                    }
                };
                let read = BUFFER.with_borrow_mut(|buffer| {
                    if buffer.capacity() < LEAST_READ {
                        *buffer = BytesMut::with_capacity(MOST_READ);
                    }
                    let most = room.min(buffer.capacity());
                    let mut limited = (&mut *buffer).limit(most);
                    let read = ready!(pin!(source.read_buf(&mut limited)).poll(cx))?;
                    Poll::Ready(io::Result::Ok(taken(buffer, read)))
                });
                match read {
                    Poll::Ready(Ok(bytes)) if bytes.is_empty() => {
                        self.streams.core().finish(self.key);
                        return Poll::Ready(Carried::Finished);
                    }
                    Poll::Ready(Ok(bytes)) => self.streams.core().write(self.key, bytes),
                    Poll::Ready(Err(error)) => return Poll::Ready(Carried::Failed(error)),
                    Poll::Pending => {
                        // The stream may end while its source is silent.
                        if self.writer.poll_rung(cx).is_pending() {
                            return Poll::Pending;
                        }
                    }
                }
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await
    }

    /// Carries bytes from the stream to a local sink until either ends; the end of the stream shuts the sink down.
    pub async fn receive_into(&self, sink: impl AsyncWrite) -> Carried {
        let mut sink = pin!(sink);
        let mut bytes = Bytes::new();
        let mut unflushed = false;
        let mut is_last = false;
        let mut last = None;
        std::future::poll_fn(|cx| {
            for _ in 0..BATCH {
                while !bytes.is_empty() {
                    let written = match sink.as_mut().poll_write(cx, &bytes) {
                        Poll::Ready(Ok(0)) => Err(io::ErrorKind::WriteZero.into()),
                        Poll::Ready(written) => written,
                        Poll::Pending => {
                            // The stream may be reset while its sink takes nothing. What came before is still good,
                            // but not worth waiting for ever.
                            while self.reader.poll_rung(cx).is_ready() {}
                            if !self.is_cut() {
                                return Poll::Pending;
                            }
                            let last = last
                                .get_or_insert_with(|| Box::pin(tokio::time::sleep(LAST_WRITES)));
                            ready!(last.as_mut().poll(cx));
                            return Poll::Ready(Carried::Over);
                        }
                    };
                    match written {
                        Ok(count) => {
                            bytes = bytes.split_off(count);
                            last = None;
                            unflushed = true;
                            self.streams.core().consumed(crate::now(), self.key, count);
                        }
                        Err(error) => return Poll::Ready(Carried::Failed(error)),
                    }
                }
                let read =
                    if is_last { Read::Finished } else { self.streams.core().read(self.key) };
                match read {
                    Read::Data(more) => bytes = more,
                    Read::Over(_) => return Poll::Ready(Carried::Over),
                    Read::Empty => {
                        if unflushed {
                            match ready!(sink.as_mut().poll_flush(cx)) {
                                Ok(()) => unflushed = false,
                                Err(error) => return Poll::Ready(Carried::Failed(error)),
                            }
                        }
                        ready!(self.reader.poll_rung(cx));
                    }
                    Read::Finished => {
                        is_last = true;
                        // Flushes, too.
                        if let Err(error) = ready!(sink.as_mut().poll_shutdown(cx)) {
                            return Poll::Ready(Carried::Failed(error));
                        }
                        self.streams.core().consumed_end(crate::now(), self.key);
                        return Poll::Ready(Carried::Finished);
                    }
                }
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await
    }

    /// Whether the stream was reset, so that what is left to write locally has lost its meaning.
    fn is_cut(&self) -> bool {
        matches!(self.end(), Some(StreamEnd::Reset { .. } | StreamEnd::Local { .. }))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.streams.core().release(crate::now(), self.key);
    }
}

/// What was just read: a part of the buffer, or a copy if it is so small that the rest would be held for nothing.
fn taken(buffer: &mut BytesMut, read: usize) -> Bytes {
    if read < SMALL {
        let bytes = Bytes::copy_from_slice(&buffer[..read]);
        buffer.clear();
        return bytes;
    }
    buffer.split_to(read).freeze()
}

/// Bytes read from a local socket at once; no stream has a buffer of its own while it is idle.
const MOST_READ: usize = 64 * 1024;

/// A buffer with less room than this is replaced.
const LEAST_READ: usize = 32 * 1024;

/// What is copied rather than kept with its block.
const SMALL: usize = 4096;

/// Turns of a loop before other tasks on the thread get theirs.
const BATCH: usize = 16;

/// How long a sink may take nothing of what a stream brought before it was reset.
const LAST_WRITES: Duration = Duration::from_secs(10);

/// How long an ended stream's last message may take to leave (spec v2, EN-7).
pub const DONE_TIMEOUT: Duration = v2::DONE_TIMEOUT;

thread_local! {
    static BUFFER: RefCell<BytesMut> = RefCell::new(BytesMut::new());
}
