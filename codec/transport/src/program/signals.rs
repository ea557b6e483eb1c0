use std::fmt;
use std::io;

#[cfg(unix)]
use unix::Sources;
#[cfg(windows)]
use windows::Sources;

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

/// A signal that asks a program to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopSignal {
    /// SIGHUP: the terminal is gone, or `ssh` is done with its ProxyCommand. On Windows the console window is closed.
    Hangup,
    /// SIGINT: Ctrl-C.
    Interrupt,
    /// SIGTERM: a service manager, `kill`. On Windows Ctrl-Break, or the machine shuts down.
    Terminate,
}

impl StopSignal {
    /// The number of the signal: 1, 2 or 15. A program that reports the signal exits with 128 more.
    pub const fn number(self) -> u8 {
        match self {
            Self::Hangup => 1,
            Self::Interrupt => 2,
            Self::Terminate => 15,
        }
    }
}

impl fmt::Display for StopSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hangup => "SIGHUP",
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        })
    }
}

/// What a program is asked to do by a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// The first signal: end cleanly.
    Gracefully(StopSignal),
    /// A further one: end now, whatever is unfinished.
    Now(StopSignal),
}

impl Stop {
    /// The signal that asked.
    pub const fn signal(self) -> StopSignal {
        match self {
            Self::Gracefully(signal) | Self::Now(signal) => signal,
        }
    }
}

/// The signals that end a program: SIGTERM, SIGINT, and SIGHUP unless it was ignored when the program started, as
/// below `nohup`.
///
/// From [`Signals::new`] on they no longer end the process by themselves; whoever holds this value has to.
/// A signal that arrives while nobody waits in [`Signals::next`] is kept; the same one twice meanwhile counts once.
#[derive(Debug)]
pub struct Signals {
    sources: Sources,
    asked: bool,
}

impl Signals {
    /// Starts to listen. Must be called within a tokio runtime that drives I/O.
    ///
    /// # Errors
    /// The system's, if a handler cannot be installed.
    pub fn new() -> io::Result<Self> {
        Ok(Self { sources: Sources::new()?, asked: false })
    }

    /// Whether SIGHUP was ignored when the program started, and still is.
    pub fn ignore_hangup(&self) -> bool {
        self.sources.ignore_hangup()
    }

    /// Waits for the next signal. Safe to drop and call again, as in a `select!`.
    pub async fn next(&mut self) -> Stop {
        let signal = self.sources.next().await;
        if std::mem::replace(&mut self.asked, true) {
            Stop::Now(signal)
        } else {
            Stop::Gracefully(signal)
        }
    }
}
