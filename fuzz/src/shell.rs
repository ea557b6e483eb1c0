//! Running the shells without a network: sockets in memory, and futures polled until they stand still.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::runtime::{Builder, EnterGuard, Runtime};
use transport::socket::Socket;

/// Lets timers be made, none of which ever goes off: time stands still.
pub(crate) fn without_time() -> EnterGuard<'static> {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let build = || Builder::new_current_thread().enable_time().build().expect("a runtime");
    RUNTIME.get_or_init(build).enter()
}

/// A connection in memory: what the code under test holds, and what its peer holds.
pub(crate) fn connection() -> (Socket, Peer) {
    let (near, far) = tokio::io::duplex(BUFFER);
    (Socket::boxed(near), Peer { socket: Some(far), to_send: Vec::new(), received: Vec::new() })
}

/// The far end of a connection.
#[derive(Debug)]
pub(crate) struct Peer {
    /// None once this end was closed.
    socket: Option<DuplexStream>,
    to_send: Vec<u8>,
    /// All that came.
    pub(crate) received: Vec<u8>,
}

impl Peer {
    /// Sends behind what was sent before, as soon as there is room.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.to_send.extend_from_slice(bytes);
    }

    /// Drops this end.
    pub(crate) fn close(&mut self) {
        self.socket = None;
    }

    /// Ends the sending side, once all is sent.
    pub(crate) fn finish(&mut self, cx: &mut Context<'_>) {
        if let Some(socket) = &mut self.socket {
            let _ = Pin::new(socket).poll_shutdown(cx);
        }
    }

    /// Sends and receives what it can. Whether all is sent.
    fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(socket) = &mut self.socket else { return true };
        while !self.to_send.is_empty()
            && let Poll::Ready(Ok(sent)) = Pin::new(&mut *socket).poll_write(cx, &self.to_send)
        {
            self.to_send.drain(..sent);
        }
        let mut space = [0; 4096];
        let mut buffer = ReadBuf::new(&mut space);
        while let Poll::Ready(Ok(())) = Pin::new(&mut *socket).poll_read(cx, &mut buffer)
            && !buffer.filled().is_empty()
        {
            self.received.extend_from_slice(buffer.filled());
            buffer.clear();
        }
        self.to_send.is_empty()
    }
}

/// A future that is polled by hand, with the far end of its connection.
pub(crate) struct Running<F: Future> {
    future: Pin<Box<F>>,
    output: Option<F::Output>,
    pub(crate) peer: Peer,
    woken: Arc<Woken>,
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl<F: Future> Running<F> {
    pub(crate) fn new(future: F, peer: Peer) -> Self {
        let woken = Arc::new(Woken(AtomicBool::new(true)));
        Self { future: Box::pin(future), output: None, peer, woken }
    }

    /// Goes on until nothing happens any more. Whether anything did.
    ///
    /// # Panics
    /// If that takes long: then it goes round in circles.
    pub(crate) fn settle(&mut self) -> bool {
        let waker = Waker::from(Arc::clone(&self.woken));
        let mut cx = Context::from_waker(&waker);
        for round in 0..MOST_ROUNDS {
            self.peer.poll(&mut cx);
            if !self.woken.0.swap(false, Ordering::Relaxed) {
                return round > 0;
            }
            if self.output.is_none()
                && let Poll::Ready(output) = self.future.as_mut().poll(&mut cx)
            {
                self.output = Some(output);
            }
        }
        panic!("it never stands still");
    }

    /// Ends the peer's side, and settles.
    pub(crate) fn finish(&mut self) {
        let waker = Waker::from(Arc::clone(&self.woken));
        self.peer.finish(&mut Context::from_waker(&waker));
        self.settle();
    }

    /// What came of it, if it is over.
    pub(crate) fn output(self) -> Option<F::Output> {
        self.output
    }

    pub(crate) fn is_over(&self) -> bool {
        self.output.is_some()
    }
}

/// Bytes on their way in each direction.
const BUFFER: usize = 16 * 1024;

/// More polls than anything should need.
const MOST_ROUNDS: usize = 100_000;
