//! stdin and stdout where a pipe cannot be opened anew: each is read and written on a thread of its own.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, Stdin, Stdout};

/// The process's standard input.
#[derive(Debug)]
pub struct Input(Stdin);

/// The process's standard output.
#[derive(Debug)]
pub struct Output(Stdout);

impl Input {
    /// Opens stdin. Must be called within a tokio runtime.
    pub fn open() -> Self {
        Self(tokio::io::stdin())
    }
}

impl Output {
    /// Opens stdout. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// None here: a write tells whether there is one.
    pub fn open() -> io::Result<Self> {
        Ok(Self(tokio::io::stdout()))
    }
}

/// Never completes: without a write nothing tells that nobody reads stdout any more.
pub async fn output_closed() {
    std::future::pending().await
}

/// Never: nothing tells whether somebody holds the other end of stdin.
pub fn input_hung_up() -> bool {
    false
}

impl AsyncRead for Input {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Output {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(cx)
    }
}
