//! The WebSocket of a link: tungstenite over a metered socket.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
pub use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use crate::driver::Outgoing;
use crate::frames::Frames;
use crate::socket::Socket;

/// The WebSocket of a link.
pub type WebSocket = WebSocketStream<Metered<Socket>>;

/// Sizes of one WebSocket's buffers and messages.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Largest message that is accepted, in bytes of payload.
    pub max_message: usize,
    /// Largest first message; hardly more is read before [`Metered::lift_limit`] is called.
    pub before_start: Option<usize>,
}

/// How much is read from the socket at once, and how much is gathered before it is written.
///
/// A trade-off: each link that has ever read holds a buffer of this size; 64 KiB holds most of
/// one data message at the usual chunk size.
const BUFFER: usize = 64 * 1024;

/// How far the write buffer may grow beyond what is gathered. Only a peer that sends pings and
/// does not take the pongs can pass it; its link is then lost.
const WRITE_SLACK: usize = 4 * 1024 * 1024;

/// Bytes that may come with a first message of the largest size: its frame's header, and a few
/// pings.
const BESIDE_START: usize = 4096;

/// Wraps an upgraded socket, with what was read behind the upgrade.
pub async fn websocket(socket: Socket, read_ahead: &[u8], role: Role, sizes: Sizes) -> WebSocket {
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER)
        .write_buffer_size(BUFFER)
        .max_write_buffer_size(BUFFER + WRITE_SLACK)
        .max_message_size(Some(sizes.max_message))
        .max_frame_size(Some(sizes.max_message));
    let limit = sizes.before_start.map(|most| most + BESIDE_START);
    let metered = Metered::new(socket, role, limit);
    WebSocketStream::from_partially_read(metered, read_ahead.to_vec(), role, Some(config)).await
}

/// A socket that counts what it reads and writes, may limit what it reads, and writes our own messages.
///
/// Our messages bypass the WebSocket library, which would copy each of them into a buffer of its own: they are queued
/// here as whole frames, and written from where they are. The library reads, and writes pings, pongs and close frames;
/// what it writes goes behind what is queued, and nothing of ours begins while a part of its own frames is missing.
///
/// Once it can be written no more, it swallows what is written instead of failing: what the peer
/// sent before it went away can still be read, and only its end is the link's.
#[derive(Debug)]
pub struct Metered<S> {
    socket: S,
    read: u64,
    written: u64,
    /// Writing has failed.
    broken: bool,
    /// Bytes that may still be read; no limit if none.
    allowance: Option<usize>,
    frames: Frames,
    /// Frames were written that the socket, TLS for one, may still hold.
    is_held: bool,
    /// The library has written a part of a frame and not the rest.
    is_torn: bool,
}

impl<S> Metered<S> {
    /// A socket that reads at most `limit` bytes until [`Self::lift_limit`]. `role` tells whether frames are masked.
    pub fn new(socket: S, role: Role, limit: Option<usize>) -> Self {
        let frames = Frames::new(role);
        Self {
            socket,
            read: 0,
            written: 0,
            broken: false,
            allowance: limit,
            frames,
            is_held: false,
            is_torn: false,
        }
    }

    /// Bytes that have been read so far.
    pub fn bytes_read(&self) -> u64 {
        self.read
    }

    /// Bytes that the system has taken so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Whether the limit was reached.
    pub fn is_exhausted(&self) -> bool {
        self.allowance == Some(0)
    }

    /// Reads without limit from now on.
    pub fn lift_limit(&mut self) {
        self.allowance = None;
    }

    /// Whether another message should be queued before what is there is written.
    pub fn has_room(&self) -> bool {
        self.frames.bytes() < BUFFER
    }

    /// Queues a message as one frame.
    pub fn queue(&mut self, message: Outgoing) {
        if !self.broken {
            self.frames.push(message);
        }
    }

    /// The socket itself.
    pub fn into_inner(self) -> S {
        self.socket
    }
}

impl<S: AsyncWrite + Unpin> Metered<S> {
    /// Writes what is queued. Ready once all of it is with the system, or the socket takes nothing any more.
    pub fn poll_frames(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while !self.frames.is_empty() {
            if self.is_torn {
                // The library's own write is what is waited for.
                return Poll::Pending;
            }
            let mut slices = [IoSlice::new(&[]); SLICES];
            let slices = self.frames.slices(&mut slices);
            match ready!(Pin::new(&mut self.socket).poll_write_vectored(cx, slices)) {
                Ok(0) => self.fail(&io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.written += written as u64;
                    self.is_held = true;
                    self.frames.advance(written);
                }
                Err(error) => self.fail(&error),
            }
        }
        if self.is_held && !self.broken {
            if let Err(error) = ready!(Pin::new(&mut self.socket).poll_flush(cx)) {
                self.fail(&error);
            }
            self.is_held = false;
        }
        Poll::Ready(())
    }

    fn fail(&mut self, error: &io::Error) {
        tracing::debug!("the link takes no more: {error}");
        self.broken = true;
        self.frames.clear();
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(allowance) = self.allowance else {
            let before = buf.filled().len();
            ready!(Pin::new(&mut self.socket).poll_read(cx, buf))?;
            self.read += (buf.filled().len() - before) as u64;
            return Poll::Ready(Ok(()));
        };
        if allowance == 0 {
            return Poll::Ready(Err(io::ErrorKind::QuotaExceeded.into()));
        }
        let most = allowance.min(buf.remaining());
        let mut limited = ReadBuf::new(buf.initialize_unfilled_to(most));
        ready!(Pin::new(&mut self.socket).poll_read(cx, &mut limited))?;
        let read = limited.filled().len();
        buf.advance(read);
        self.read += read as u64;
        self.allowance = Some(allowance - read);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if !self.is_torn {
            ready!(self.poll_frames(cx));
        }
        if self.broken {
            return Poll::Ready(Ok(buf.len()));
        }
        match ready!(Pin::new(&mut self.socket).poll_write(cx, buf)) {
            Ok(written) => {
                self.written += written as u64;
                // The library hands over all that it has at once.
                self.is_torn = written < buf.len();
                Poll::Ready(Ok(written))
            }
            Err(error) => {
                self.fail(&error);
                self.is_torn = false;
                Poll::Ready(Ok(buf.len()))
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.broken {
            return Poll::Ready(Ok(()));
        }
        let flushed = ready!(Pin::new(&mut self.socket).poll_flush(cx));
        self.broken = flushed.is_err();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

/// Pieces of frames that are handed to the system at once.
const SLICES: usize = 32;

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn the_limit_stops_the_reading_until_it_is_lifted() {
        let (mut far, near) = tokio::io::duplex(100);
        let mut near = Metered::new(near, Role::Server, Some(4));
        far.write_all(b"abcdefgh").await.unwrap();
        let mut buffer = [0; 8];
        assert_eq!(near.read(&mut buffer).await.unwrap(), 4);
        assert_eq!(&buffer[..4], b"abcd");
        assert!(near.is_exhausted());
        near.read(&mut buffer).await.unwrap_err();
        near.lift_limit();
        assert_eq!(near.read(&mut buffer).await.unwrap(), 4);
        assert_eq!(&buffer[..4], b"efgh");
    }

    #[tokio::test]
    async fn what_came_before_the_peer_went_away_can_be_read_although_writing_fails() {
        let (mut far, near) = tokio::io::duplex(100);
        let mut near = Metered::new(near, Role::Server, None);
        far.write_all(b"last words").await.unwrap();
        drop(far);
        near.write_all(b"never to arrive").await.unwrap();
        near.flush().await.unwrap();
        assert_eq!(near.written(), 0);
        let mut heard = Vec::new();
        near.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"last words");
    }

    #[tokio::test]
    async fn written_bytes_are_counted() {
        let (_far, near) = tokio::io::duplex(5);
        let mut near = Metered::new(near, Role::Server, None);
        assert_eq!(near.write(b"abcdefgh").await.unwrap(), 5);
        assert_eq!(near.written(), 5);
    }
}
