use std::fmt;
use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// A signal that asks a program to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopSignal {
    /// SIGHUP: the terminal is gone, or `ssh` is done with its ProxyCommand.
    Hangup,
    /// SIGINT: Ctrl-C.
    Interrupt,
    /// SIGTERM: a service manager, `kill`.
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
    terminate: Signal,
    interrupt: Signal,
    hangup: Option<Signal>,
    asked: bool,
}

impl Signals {
    /// Starts to listen. Must be called within a tokio runtime that drives I/O.
    ///
    /// # Errors
    /// The system's, if a handler cannot be installed.
    pub fn new() -> io::Result<Self> {
        let hangup = match is_ignored(StopSignal::Hangup) {
            true => None,
            false => Some(signal(SignalKind::hangup())?),
        };
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup,
            asked: false,
        })
    }

    /// Whether SIGHUP was ignored when the program started, and still is.
    pub fn ignore_hangup(&self) -> bool {
        self.hangup.is_none()
    }

    /// Waits for the next signal. Safe to drop and call again, as in a `select!`.
    pub async fn next(&mut self) -> Stop {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        let signal = tokio::select! {
            _ = self.terminate.recv() => StopSignal::Terminate,
            _ = self.interrupt.recv() => StopSignal::Interrupt,
            _ = hangup => StopSignal::Hangup,
        };
        if std::mem::replace(&mut self.asked, true) {
            Stop::Now(signal)
        } else {
            Stop::Gracefully(signal)
        }
    }
}

/// Whether this process ignores `signal`, as far as the system tells: without `/proc` the answer is no.
fn is_ignored(signal: StopSignal) -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| ignored_in(&status, signal))
}

/// Reads the `SigIgn` line of a `/proc/PID/status`: a hexadecimal mask, signal 1 being its lowest bit.
fn ignored_in(status: &str, signal: StopSignal) -> bool {
    status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask >> (signal.number() - 1) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use rustix::process::{Signal as Raw, getpid, kill_process};

    use super::*;

    #[test]
    fn the_mask_of_ignored_signals() {
        let ignored =
            |mask: &str, signal| ignored_in(&format!("Name:\tx\nSigIgn:\t{mask}\n"), signal);
        assert!(ignored("0000000000000001", StopSignal::Hangup));
        assert!(!ignored("0000000000000001", StopSignal::Interrupt));
        assert!(ignored("0000000000001006", StopSignal::Interrupt));
        assert!(ignored("0000000000004000", StopSignal::Terminate));
        assert!(!ignored("", StopSignal::Hangup));
        assert!(!ignored_in("nothing of the kind", StopSignal::Hangup));
    }

    #[tokio::test]
    async fn the_first_signal_is_graceful_and_the_second_is_not() -> io::Result<()> {
        let mut signals = Signals::new()?;
        kill_process(getpid(), Raw::HUP)?;
        assert_eq!(signals.next().await, Stop::Gracefully(StopSignal::Hangup));
        kill_process(getpid(), Raw::TERM)?;
        assert_eq!(signals.next().await, Stop::Now(StopSignal::Terminate));
        kill_process(getpid(), Raw::INT)?;
        assert_eq!(signals.next().await.signal(), StopSignal::Interrupt);
        Ok(())
    }
}
