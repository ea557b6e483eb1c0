use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::StopSignal;

/// The signals of Unix.
#[derive(Debug)]
pub(super) struct Sources {
    terminate: Signal,
    interrupt: Signal,
    hangup: Option<Signal>,
}

impl Sources {
    pub(super) fn new() -> io::Result<Self> {
        let hangup = match is_ignored(StopSignal::Hangup) {
            true => None,
            false => Some(signal(SignalKind::hangup())?),
        };
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup,
        })
    }

    pub(super) fn ignore_hangup(&self) -> bool {
        self.hangup.is_none()
    }

    pub(super) async fn next(&mut self) -> StopSignal {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => StopSignal::Terminate,
            _ = self.interrupt.recv() => StopSignal::Interrupt,
            _ = hangup => StopSignal::Hangup,
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

    use super::super::{Signals, Stop};
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
