//! The two loops between a stream and a local socket or pipe.

use std::cell::RefCell;
use std::io;
use std::pin::pin;
use std::task::{Poll, ready};

use mux::v1::{Read, Room};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::bell::Bell;

/// One stream of a shared core, as its pump sees it. Calls are short and never block.
pub trait Seat {
    /// Takes what arrived into an empty buffer.
    fn read(&self, into: &mut Vec<u8>) -> Read;
    /// The local side took bytes of what was read.
    fn progress(&self);
    /// Whether [`Self::write`] may be called.
    fn room(&self) -> Room;
    /// Sends one message's worth of bytes, at most [`Self::chunk`].
    fn write(&self, payload: &[u8]);
    /// Bytes that one message carries at most.
    fn chunk(&self) -> usize;
    /// Whether the stream is gone, so that what is left to write locally has lost its meaning.
    fn is_cut(&self) -> bool;
    /// Rung when [`Self::read`] may answer otherwise than before.
    fn readable(&self) -> &Bell;
    /// Rung when [`Self::room`] may answer otherwise than before.
    fn writable(&self) -> &Bell;
}

/// How one direction ended.
#[derive(Debug)]
pub enum Pumped {
    /// The source ended, and everything it gave has been handed on.
    Finished,
    /// The stream was cut off, or ended from the other side.
    Over,
    /// The local socket failed.
    Failed(io::Error),
}

/// Bytes read from a local socket at once; no stream needs a buffer of its own while it is idle.
const SCRATCH: usize = 64 * 1024;

/// Turns of a loop before other tasks on the thread get theirs.
const BATCH: usize = 32;

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH].into_boxed_slice());
}

/// Carries bytes from a local source into the stream until either ends. May be dropped at any
/// time; nothing that was read is lost to the stream.
pub async fn outbound<S: Seat>(seat: &S, source: impl AsyncRead) -> Pumped {
    let mut source = pin!(source);
    std::future::poll_fn(|cx| {
        for _ in 0..BATCH {
            loop {
                match seat.room() {
                    Room::Ready => break,
                    Room::Over => return Poll::Ready(Pumped::Over),
                    Room::Full => ready!(seat.writable().poll_rung(cx)),
                }
            }
            let read = BUFFER.with_borrow_mut(|buffer| {
                let most = seat.chunk().min(buffer.len());
                let mut buffer = ReadBuf::new(&mut buffer[..most]);
                let polled = source.as_mut().poll_read(cx, &mut buffer);
                if let Poll::Ready(Ok(())) = polled
                    && !buffer.filled().is_empty()
                {
                    seat.write(buffer.filled());
                }
                polled.map_ok(|()| buffer.filled().len())
            });
            match read {
                Poll::Ready(Ok(0)) => return Poll::Ready(Pumped::Finished),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Pumped::Failed(error)),
                Poll::Pending => {
                    // The stream may end while its source is silent.
                    if seat.writable().poll_rung(cx).is_pending() {
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

/// Carries bytes from the stream to a local sink until either ends. The sink is flushed when
/// nothing more waits, and not shut down. Not to be dropped before it ends if the bytes matter.
pub async fn inbound<S: Seat>(seat: &S, sink: impl AsyncWrite) -> Pumped {
    let mut sink = pin!(sink);
    let mut bytes = Vec::new();
    let mut written = 0;
    let mut unflushed = false;
    std::future::poll_fn(|cx| {
        for _ in 0..BATCH {
            while written < bytes.len() {
                match sink.as_mut().poll_write(cx, &bytes[written..]) {
                    Poll::Ready(Ok(0)) => {
                        return Poll::Ready(Pumped::Failed(io::ErrorKind::WriteZero.into()));
                    }
                    Poll::Ready(Ok(count)) => {
                        written += count;
                        unflushed = true;
                        seat.progress();
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Pumped::Failed(error)),
                    Poll::Pending => {
                        // The stream may be cut off while its sink takes nothing.
                        if seat.readable().poll_rung(cx).is_pending() {
                            return Poll::Pending;
                        }
                        if seat.is_cut() {
                            return Poll::Ready(Pumped::Over);
                        }
                    }
                }
            }
            bytes.clear();
            written = 0;
            match seat.read(&mut bytes) {
                Read::Data { .. } => {}
                Read::Over => return Poll::Ready(Pumped::Over),
                end @ (Read::Empty | Read::Finished) => {
                    if unflushed {
                        match ready!(sink.as_mut().poll_flush(cx)) {
                            Ok(()) => unflushed = false,
                            Err(error) => return Poll::Ready(Pumped::Failed(error)),
                        }
                    }
                    if end == Read::Finished {
                        return Poll::Ready(Pumped::Finished);
                    }
                    // An idle stream holds no buffer.
                    bytes = Vec::new();
                    ready!(seat.readable().poll_rung(cx));
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}
