//! stdin and stdout without blocking and without changing them for others.
//!
//! The descriptors are shared with whoever started us, so they must not be made non-blocking:
//! a shell would find its terminal changed. A pipe is opened anew instead, which gives it a
//! mode of its own; anything else is read and written on a thread of its own.

use std::fs::OpenOptions;
use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::pin::Pin;
use std::task::{Context, Poll};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, OFlags};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, Stdin, Stdout};
use tokio::net::unix::pipe;

const STDIN: &str = "/proc/self/fd/0";
const STDOUT: &str = "/proc/self/fd/1";

/// The process's standard input.
#[derive(Debug)]
pub enum Input {
    /// A pipe with a mode of our own.
    Pipe(pipe::Receiver),
    /// A file, terminal or socket, read on a thread.
    Other(Stdin),
}

/// The process's standard output.
#[derive(Debug)]
pub enum Output {
    /// A pipe with a mode of our own.
    Pipe(pipe::Sender),
    /// A file, terminal or socket, written on a thread.
    Other(Stdout),
    /// Shut down.
    Closed,
}

impl Input {
    /// Opens stdin. Must be called within a tokio runtime.
    pub fn open() -> Self {
        // Whatever stands in the way of the shorter way, the longer one works.
        match reopen(io::stdin(), STDIN, OpenOptions::new().read(true))
            .and_then(pipe::Receiver::from_file)
        {
            Ok(pipe) => Self::Pipe(pipe),
            Err(_) => Self::Other(tokio::io::stdin()),
        }
    }
}

impl Output {
    /// Opens stdout. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// It is open for reading alone. The standard library would take what is written there for written.
    ///
    /// A stdout that was closed when the program started is not told from `/dev/null`: the standard library has opened
    /// that in its place, in the very way in which others do on purpose.
    pub fn open() -> io::Result<Self> {
        let flags = rustix::fs::fcntl_getfl(io::stdout())?;
        if !flags.intersects(OFlags::WRONLY | OFlags::RDWR) {
            return Err(rustix::io::Errno::BADF.into());
        }
        Ok(
            match reopen(io::stdout(), STDOUT, OpenOptions::new().write(true))
                .and_then(pipe::Sender::from_file)
            {
                Ok(pipe) => Self::Pipe(pipe),
                Err(_) => Self::Other(tokio::io::stdout()),
            },
        )
    }
}

/// Completes when nobody reads stdout any more, as far as the system tells without a write: for
/// a pipe. Never for anything else.
pub async fn output_closed() {
    let watch = || reopen(io::stdout(), STDOUT, OpenOptions::new().write(true));
    if let Ok(pipe) = watch().and_then(pipe::Sender::from_file)
        && pipe.ready(Interest::ERROR).await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

/// Whether nobody holds the other end of stdin any more: of a pipe or a terminal. Never for anything else.
pub fn input_hung_up() -> bool {
    let stdin = io::stdin();
    let mut polled = [PollFd::new(&stdin, PollFlags::empty())];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut polled, Some(&at_once)).is_ok() && polled[0].revents().contains(PollFlags::HUP)
}

/// Whether stdin is a terminal.
pub fn input_is_terminal() -> bool {
    io::stdin().is_terminal()
}

/// Has whoever reads stdout see its end: the descriptor becomes one of `/dev/null`. Where stdin and stdout are one
/// socket, as with `sshd`, the other end sees nothing of a descriptor that is closed, so the socket's writing side is
/// shut down.
fn close_stdout() -> io::Result<()> {
    let (input, output) = (rustix::fs::fstat(io::stdin()), rustix::fs::fstat(io::stdout())?);
    let is_socket = FileType::from_raw_mode(output.st_mode) == FileType::Socket;
    if is_socket && input.is_ok_and(|input| input.st_ino == output.st_ino) {
        rustix::net::shutdown(io::stdout(), rustix::net::Shutdown::Write)?;
    }
    let nowhere = OpenOptions::new().write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(nowhere)?;
    Ok(())
}

fn reopen(fd: impl AsFd, path: &str, options: &mut OpenOptions) -> io::Result<std::fs::File> {
    let kind = FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode);
    if kind != FileType::Fifo {
        return Err(io::ErrorKind::Unsupported.into());
    }
    options.custom_flags(OFlags::NONBLOCK.bits() as i32).open(path)
}

impl AsyncRead for Input {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Pipe(pipe) => Pin::new(pipe).poll_read(cx, buf),
            Self::Other(stdin) => Pin::new(stdin).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Output {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Pipe(pipe) => Pin::new(pipe).poll_write(cx, buf),
            Self::Other(stdout) => Pin::new(stdout).poll_write(cx, buf),
            Self::Closed => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Pipe(pipe) => Pin::new(pipe).poll_flush(cx),
            Self::Other(stdout) => Pin::new(stdout).poll_flush(cx),
            Self::Closed => Poll::Ready(Ok(())),
        }
    }

    /// Closes the process's stdout for good, for its other users in this process, too.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let output = self.get_mut();
        match output {
            // What is written to a pipe is with its reader.
            Self::Pipe(_) => {}
            Self::Other(stdout) => std::task::ready!(Pin::new(stdout).poll_flush(cx))?,
            Self::Closed => return Poll::Ready(Ok(())),
        }
        *output = Self::Closed;
        Poll::Ready(close_stdout())
    }
}
