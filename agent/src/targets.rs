//! One stream: dialling its target and carrying its bytes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use codec::v1::{self, data};
use codec::v2::Code;
use mux::v1::agent::{End, StreamKey};
use mux::v1::{Read, Room};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tracing::{debug, info};
use transport::bell::Bell;
use transport::printable::printable;
use transport::pump::{self, Pumped};
use transport::system::system_text;
use transport::tcp::{ConnectErrorKind, connect_tcp};

use crate::link::Shared;

/// A stream's place in the core of its link; given up when dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    shared: Arc<Shared>,
    key: StreamKey,
    id: Arc<str>,
    chunk: usize,
    reader: Bell,
    writer: Bell,
}

impl Seat {
    pub(crate) fn new(
        shared: Arc<Shared>,
        key: StreamKey,
        id: Arc<str>,
        chunk: usize,
        reader: Bell,
        writer: Bell,
    ) -> Self {
        Self { shared, key, id, chunk, reader, writer }
    }

    fn opened(&self) {
        self.shared.core().opened(self.key);
        self.shared.wake();
    }

    fn refused(&self, message: String) {
        self.shared.core().refused(self.key, message);
        self.shared.wake();
    }

    fn finish(&self, end: End) {
        self.shared.core().finish(self.key, end);
        self.shared.wake();
    }

    /// Completes when the relay has ended the stream.
    async fn over(&self) {
        while pump::Seat::room(self) != Room::Over {
            self.writer.rung().await;
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.shared.core().release(self.key);
        self.shared.wake();
    }
}

impl pump::Seat for Seat {
    fn read(&self, into: &mut Vec<u8>) -> Read {
        let read = self.shared.core().read(transport::now(), self.key, into);
        if read == (Read::Data { resumed: true }) {
            self.shared.wake();
        }
        read
    }

    fn progress(&self) {
        self.shared.core().progress(transport::now(), self.key);
    }

    fn room(&self) -> Room {
        self.shared.core().room(self.key)
    }

    fn write(&self, payload: &[u8]) {
        let message = data::encode_agent(&self.id, payload);
        self.shared.core().write(self.key, message);
        self.shared.wake();
    }

    fn chunk(&self) -> usize {
        self.chunk
    }

    fn is_cut(&self) -> bool {
        self.shared.core().is_gone(self.key)
    }

    fn readable(&self) -> &Bell {
        &self.reader
    }

    fn writable(&self) -> &Bell {
        &self.writer
    }
}

/// Serves one stream from its dial to its end. Dropping it closes the target's connection.
pub(crate) async fn serve_target(seat: Seat, host: String, port: i64, protocol: String) {
    let dialed = tokio::select! {
        dialed = dial(&host, port, &protocol) => dialed,
        () = seat.over() => {
            debug!("given up by the client before the target answered");
            return;
        }
    };
    match dialed {
        Ok((target, address)) => {
            info!(%address, "stream open");
            seat.opened();
            carry(&seat, target).await;
        }
        Err(NotReached { message, .. }) => {
            info!("target not reached: {message}");
            seat.refused(message);
        }
    }
}

/// Why a target was not reached.
#[derive(Debug)]
pub(crate) struct NotReached {
    /// In the words of protocol v2 (spec v2, ER-1).
    pub(crate) code: Code,
    /// For the user of the client.
    pub(crate) message: String,
}

/// Connects to a target (spec v1, S-3 and S-5).
pub(crate) async fn dial(
    host: &str,
    port: i64,
    protocol: &str,
) -> Result<(TcpStream, SocketAddr), NotReached> {
    let failed = |code, message| NotReached { code, message };
    if protocol != v1::PROTOCOL_TCP {
        let protocol = printable(protocol, 40);
        let message = format!("unsupported protocol \"{protocol}\" (this agent knows tcp)");
        return Err(failed(Code::ProtocolUnsupported, message));
    }
    let number = u16::try_from(port)
        .ok()
        .filter(|number| *number != 0)
        .ok_or_else(|| failed(Code::Unreachable, format!("{port} is no port (1 to 65535)")))?;
    // The lookup of the name is within the time (spec v1, L-12).
    let connected = connect_tcp(host, number, v1::DIAL_TIMEOUT).await;
    let target = connected
        .map_err(|error| failed(code_of(error.kind()), printable(&error.to_string(), 600)))?;
    let address =
        target.peer_addr().map_err(|error| failed(Code::Unreachable, system_text(&error)))?;
    Ok((target, address))
}

fn code_of(kind: ConnectErrorKind) -> Code {
    match kind {
        ConnectErrorKind::NotResolved => Code::NameNotResolved,
        ConnectErrorKind::Refused => Code::ConnectRefused,
        ConnectErrorKind::TimedOut => Code::ConnectTimedOut,
        _ => Code::Unreachable,
    }
}

/// Carries bytes both ways until the stream ends.
async fn carry(seat: &Seat, stream: TcpStream) {
    let mut target = Target { stream, is_clean: false };
    let delivered = {
        let (from_target, to_target) = target.stream.split();
        let mut out = std::pin::pin!(pump::outbound(seat, from_target));
        let mut into = std::pin::pin!(pump::inbound(seat, to_target));
        tokio::select! {
            pumped = &mut out => match pumped {
                Pumped::Finished => {
                    info!("stream ended: the target closed");
                    target.is_clean = true;
                    return seat.finish(End::Finished);
                }
                Pumped::Failed(error) => {
                    let text =
                        format!("the target reset the connection: {}", system_text(&error));
                    info!("stream ended: {text}");
                    return seat.finish(End::Reset(text));
                }
                // The relay ended the stream: what it sent is still to be delivered.
                Pumped::Over => into.await,
            },
            pumped = &mut into => pumped,
        }
    };
    match delivered {
        Pumped::Finished => {
            info!("stream ended: the client closed");
            // Spec v1, X-9.
            target.is_clean = true;
            end_target(&mut target.stream).await;
        }
        Pumped::Failed(error) => {
            let text = format!("writing to the target failed: {}", system_text(&error));
            info!("stream ended: {text}");
            seat.finish(End::Reset(text));
        }
        Pumped::Over => info!("stream cut off"),
    }
}

/// The connection to a target. Dropping it resets the connection unless its end is clean: bytes may be missing, and the
/// target must not take what came for all there was. So it is, too, when the link to the relay is lost.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) stream: TcpStream,
    pub(crate) is_clean: bool,
}

impl Drop for Target {
    fn drop(&mut self) {
        if !self.is_clean
            && let Err(error) = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO))
        {
            debug!("SO_LINGER not set: {error}");
        }
    }
}

/// Ends the target's connection so that everything written arrives: unread bytes of the target
/// would turn our FIN into a reset, so they are read and dropped for a bounded time.
async fn end_target(target: &mut TcpStream) {
    if target.shutdown().await.is_err() {
        return;
    }
    let drain = async {
        let mut waste = [0; 4096];
        while matches!(target.read(&mut waste).await, Ok(1..)) {}
    };
    let _ = tokio::time::timeout(DRAIN_TIMEOUT, drain).await;
}

/// How long a target may take to end its side once the client has ended: long enough for a
/// server to read what it was sent, short enough not to keep sockets of one that never ends.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
