//! The relay as the opener of one stream, in the place of a client that speaks v1.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;
use codec::v1::{self, RelayToClient, StartOk, data};
use codec::v2::{self, Code, Control};
use mux::v2::{Ask, Endpoint, Event, LinkKey, Read, Room, Side, StreamId, StreamKey, Transmit};
use tracing::debug;

use super::words::{client_end, refusal};
use super::{Quiet, settings};
use crate::routes::{ClientEnd, ForClient};

/// The opener of one stream for a v1 client (spec v2, ST-7 to ST-9).
///
/// - From the router: [`handle`](Self::handle); to it: [`poll_transmit`](Self::poll_transmit).
/// - From the client: [`handle_client_data`](Self::handle_client_data), [`client_left`](Self::client_left); to it:
///   [`poll_for_client`](Self::poll_for_client).
/// - From the relay's own will: [`cut`](Self::cut). Time: [`poll_timeout`](Self::poll_timeout),
///   [`handle_timeout`](Self::handle_timeout).
///
/// Memory: one message of the client, and two windows.
#[derive(Debug)]
pub(crate) struct ClientStandIn {
    endpoint: Endpoint<Quiet>,
    link: LinkKey,
    key: StreamKey,
    /// From the client, and more than the agent has granted.
    to_agent: VecDeque<Bytes>,
    /// Read from the stream, and not yet sent to the client.
    to_client: Bytes,
    /// Bytes that were written to the stream.
    written: u64,
    /// What the agent has consumed of them, its end included.
    consumed: u64,
    /// When the agent last consumed something, or there was nothing for it to consume.
    moved: Instant,
    is_open: bool,
    /// The client was told that it is.
    is_told: bool,
    /// The stream's own end is due behind what waits for room.
    is_finishing: bool,
    /// The client is gone.
    is_left: bool,
    cut: Option<ClientEnd>,
}

impl ClientStandIn {
    /// Asks for a stream. `seed` decides the jitter of further attempts.
    pub(crate) fn new(now: Instant, id: StreamId, ask: Ask, seed: u64) -> Self {
        let mut endpoint = Endpoint::new(now, Side::Opener, settings(), seed, Quiet);
        let link = endpoint.connect(now, None, Quiet);
        let key = endpoint.open(now, id, ask, (Quiet, Quiet));
        Self {
            endpoint,
            link,
            key,
            to_agent: VecDeque::new(),
            to_client: Bytes::new(),
            written: 0,
            consumed: 0,
            moved: now,
            is_open: false,
            is_told: false,
            is_finishing: false,
            is_left: false,
            cut: None,
        }
    }

    /// Takes what the router has for the stand-in.
    pub(crate) fn handle(&mut self, now: Instant, transmit: Transmit) {
        if let Transmit::Control(
            Control::Opened(v2::Opened { consumed, .. })
            | Control::Credit(v2::Credit { consumed, .. }),
        ) = &transmit
            && *consumed > self.consumed
        {
            self.consumed = *consumed;
            self.moved = now;
        }
        let handled = match transmit {
            Transmit::Control(message) => self.endpoint.handle_control(now, self.link, message),
            Transmit::Data { stream, payload } => {
                self.endpoint.handle_data(now, self.link, stream, payload)
            }
        };
        if let Err(violation) = handled {
            debug!("the router passed on {violation}");
        }
        self.settle(now);
    }

    /// The next thing for the router.
    pub(crate) fn poll_transmit(&mut self, now: Instant) -> Option<Transmit> {
        self.endpoint.poll_transmit(now, self.link)
    }

    /// Bytes of the client; only while [`Self::wants_read`].
    pub(crate) fn handle_client_data(&mut self, now: Instant, bytes: &Bytes) {
        if self.consumed >= self.written && self.to_agent.is_empty() {
            self.moved = now;
        }
        if bytes.len() <= PIECE {
            self.to_agent.extend(Some(bytes.clone()).filter(|bytes| !bytes.is_empty()));
        } else {
            // A part that is kept must not keep the rest.
            self.to_agent.extend(bytes.chunks(PIECE).map(Bytes::copy_from_slice));
        }
        self.settle(now);
    }

    /// Whether the client's link should be read (spec v1, L-8).
    pub(crate) fn wants_read(&self) -> bool {
        self.to_agent.is_empty()
    }

    /// Whether the agent has answered or will not answer any more.
    pub(crate) fn is_answered(&self) -> bool {
        self.is_open || self.endpoint.end(self.key).is_some()
    }

    /// When the stream counts as stalled, unless its agent takes something before (spec v1, L-16).
    pub(crate) fn stalled_at(&self) -> Option<Instant> {
        let waits = self.is_open && !self.to_agent.is_empty();
        waits.then(|| self.moved + v1::STALL_TIMEOUT)
    }

    /// The next thing to send to the client.
    pub(crate) fn poll_for_client(&mut self, now: Instant) -> ForClient {
        if let Some(end) = &self.cut {
            return ForClient::End(end.clone());
        }
        if !self.is_told {
            return match self.endpoint.end(self.key) {
                _ if self.is_open => {
                    self.is_told = true;
                    ForClient::Message(v1::encode(&RelayToClient::StartOk(StartOk {})))
                }
                Some(end) => ForClient::End(ClientEnd::Refused(refusal(end))),
                None => ForClient::Nothing,
            };
        }
        if self.to_client.is_empty() {
            match self.endpoint.read(self.key) {
                Read::Data(bytes) => self.to_client = bytes,
                Read::Empty => return ForClient::Nothing,
                Read::Finished => {
                    self.end_of_target(now);
                    return ForClient::End(ClientEnd::Finished);
                }
                Read::Over(end) => return ForClient::End(client_end(end)),
            }
        }
        let most = self.to_client.len().min(v1::MAX_FORWARDED_CHUNK);
        let chunk = self.to_client.split_to(most);
        // Written to the client's link (spec v2, ST-2).
        self.endpoint.consumed(now, self.key, chunk.len());
        ForClient::Message(data::encode_client(&chunk))
    }

    /// Ends the stream from the relay's own will; the client finds `end`.
    pub(crate) fn cut(&mut self, now: Instant, end: ClientEnd) {
        let (code, words) = match &end {
            ClientEnd::Refused(_) => (Code::ConnectTimedOut, v1::ERROR_NO_ANSWER),
            _ => (Code::PeerReset, "the stream stalled"),
        };
        self.endpoint.reset(now, self.key, code, words);
        self.to_agent.clear();
        self.to_client = Bytes::new();
        self.cut = Some(end);
    }

    /// Whether the relay has ended the stream, whatever the client had still to get.
    pub(crate) fn is_cut(&self) -> bool {
        self.cut.is_some()
    }

    /// The client's link is over: what it sent still goes to the agent (spec v2, ST-9).
    pub(crate) fn client_left(&mut self, now: Instant) {
        self.is_left = true;
        self.to_client = Bytes::new();
        self.moved = now;
        if !self.is_open && self.written == 0 && self.to_agent.is_empty() {
            return self.give_up(now);
        }
        self.is_finishing = true;
        self.settle(now);
    }

    /// Whether the stream is over.
    pub(crate) fn is_over(&self) -> bool {
        self.endpoint.end(self.key).is_some()
    }

    /// When [`Self::handle_timeout`] wants to be called next.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let left = (self.is_left && !self.is_over()).then(|| self.moved + v1::STALL_TIMEOUT);
        [self.endpoint.poll_timeout(), left].into_iter().flatten().min()
    }

    /// Does what is due at `now`.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.endpoint.handle_timeout(now);
        if self.is_left && now >= self.moved + v1::STALL_TIMEOUT {
            self.give_up(now);
        }
        self.settle(now);
    }

    // --- private -----------------------------------------------------------------------------

    /// Does what has become possible.
    fn settle(&mut self, now: Instant) {
        while let Some(event) = self.endpoint.poll_event() {
            self.is_open |= matches!(event, Event::Opened(_));
        }
        self.pass_on();
        if self.is_left {
            self.read_away(now);
            // Everything is with the target, its end included.
            if self.consumed > self.written {
                self.give_up(now);
            }
        }
    }

    /// Moves what the client sent into the stream, as far as there is room.
    fn pass_on(&mut self) {
        while let Some(bytes) = self.to_agent.front_mut() {
            match self.endpoint.room(self.key) {
                Room::Ready(most) => {
                    let part = bytes.split_to(bytes.len().min(most));
                    if bytes.is_empty() {
                        self.to_agent.pop_front();
                    }
                    self.written += part.len() as u64;
                    self.endpoint.write(self.key, part);
                }
                Room::Full => return,
                Room::Over => {
                    self.to_agent.clear();
                    return;
                }
            }
        }
        if self.is_finishing {
            self.endpoint.finish(self.key);
        }
    }

    /// The target has sent everything, and the client has got it (spec v2, ST-8).
    fn end_of_target(&mut self, now: Instant) {
        self.endpoint.consumed_end(now, self.key);
        self.is_finishing = true;
        self.settle(now);
    }

    /// What comes for a client that is gone has no reader.
    fn read_away(&mut self, now: Instant) {
        loop {
            match self.endpoint.read(self.key) {
                Read::Data(bytes) => self.endpoint.consumed(now, self.key, bytes.len()),
                Read::Finished => self.endpoint.consumed_end(now, self.key),
                Read::Empty | Read::Over(_) => return,
            }
        }
    }

    /// Ends the stream as over for the client.
    pub(crate) fn give_up(&mut self, now: Instant) {
        self.endpoint.reset(now, self.key, Code::PeerReset, "the client has left");
    }
}

/// Bytes of a message that are kept together.
const PIECE: usize = 128 * 1024;
