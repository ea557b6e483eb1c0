//! The byte stream beneath a link.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

/// What [`Socket::Boxed`] may hold: any byte stream, an in-memory one in tests for instance.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// The byte stream beneath a link: TCP, TLS over another socket, or anything else.
///
/// The usual two are variants of their own, so that a read or write costs a branch and no virtual
/// call. Vectored writes reach the system on plain TCP.
#[non_exhaustive]
pub enum Socket {
    /// Plain TCP.
    Tcp(TcpStream),
    /// TLS over another socket: over plain TCP, or over the TLS that a proxy speaks.
    Tls(Box<TlsStream<Socket>>),
    /// Anything else.
    Boxed(Box<dyn Io>),
}

impl Socket {
    /// A socket over any byte stream.
    pub fn boxed(io: impl Io + 'static) -> Self {
        Self::Boxed(Box::new(io))
    }

    /// The TCP connection at the bottom, if there is one.
    pub fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Tcp(tcp) => Some(tcp),
            Self::Tls(tls) => tls.get_ref().0.tcp(),
            Self::Boxed(_) => None,
        }
    }

    /// Ends the connection at once: the peer sees a reset instead of an orderly end, and what is
    /// still to be sent is thrown away. A [`Socket::Boxed`] is only dropped.
    pub fn abort(self) {
        if let Some(tcp) = self.tcp()
            && let Err(error) = tcp.set_zero_linger()
        {
            // The connection then ends in the orderly way, which its owner no longer waits for.
            tracing::debug!(%error, "socket could not be set to reset");
        }
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(tcp) => f.debug_tuple("Tcp").field(tcp).finish(),
            Self::Tls(tls) => f.debug_tuple("Tls").field(tls.get_ref().0).finish(),
            Self::Boxed(_) => f.write_str("Boxed"),
        }
    }
}

impl From<TcpStream> for Socket {
    fn from(tcp: TcpStream) -> Self {
        Self::Tcp(tcp)
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Self::Tls(tls) => Pin::new(tls.as_mut()).poll_read(cx, buf),
            Self::Boxed(io) => Pin::new(io.as_mut()).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Self::Tls(tls) => Pin::new(tls.as_mut()).poll_write(cx, buf),
            Self::Boxed(io) => Pin::new(io.as_mut()).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Tls(tls) => Pin::new(tls.as_mut()).poll_flush(cx),
            Self::Boxed(io) => Pin::new(io.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(tls.as_mut()).poll_shutdown(cx),
            Self::Boxed(io) => Pin::new(io.as_mut()).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Self::Tls(tls) => Pin::new(tls.as_mut()).poll_write_vectored(cx, bufs),
            Self::Boxed(io) => Pin::new(io.as_mut()).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(tcp) => tcp.is_write_vectored(),
            Self::Tls(tls) => tls.is_write_vectored(),
            Self::Boxed(io) => io.is_write_vectored(),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (Socket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound listener");
        let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
        (near.expect("connected").into(), far.expect("accepted").0)
    }

    #[tokio::test]
    async fn a_dropped_socket_ends_in_order() {
        let (mut near, mut far) = pair().await;
        near.write_all(b"bye").await.expect("written");
        drop(near);
        let mut text = String::new();
        far.read_to_string(&mut text).await.expect("an orderly end");
        assert_eq!(text, "bye");
    }

    #[tokio::test]
    async fn an_aborted_socket_resets() {
        let (near, mut far) = pair().await;
        near.abort();
        let error = far.read(&mut [0]).await.expect_err("a reset");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn vectored_writes_pass_through() {
        let (mut near, mut far) = pair().await;
        assert!(near.is_write_vectored());
        let written = near
            .write_vectored(&[IoSlice::new(b"one "), IoSlice::new(b"call")])
            .await
            .expect("written");
        assert_eq!(written, 8);
        let mut read = [0; 8];
        far.read_exact(&mut read).await.expect("read");
        assert_eq!(&read, b"one call");
    }
}
