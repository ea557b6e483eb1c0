//! What to make of a failure to accept a connection.

use std::io;
use std::time::Duration;

use rustix::io::Errno;

/// What a failure of `accept` is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcceptFailure {
    /// The connection that was to be accepted: the next one is another matter (accept(2)).
    Connection,
    /// The process or the system has run out of something that others will give back: worth a pause of
    /// [`EXHAUSTED_PAUSE`].
    Exhausted,
    /// The listener itself.
    Listener,
}

/// How long to wait when the system has no room for another connection, unless one ends before.
pub const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// How often people are told so at most: at the limit, accepting pauses and goes on many times a second.
pub const EXHAUSTED_TOLD_EVERY: Duration = Duration::from_secs(60);

impl AcceptFailure {
    /// Sorts an error of `accept`.
    pub fn of(error: &io::Error) -> Self {
        match Errno::from_io_error(error) {
            Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => Self::Exhausted,
            Some(
                Errno::CONNABORTED
                | Errno::CONNRESET
                | Errno::PERM
                | Errno::PROTO
                | Errno::NETDOWN
                | Errno::NETUNREACH
                | Errno::HOSTDOWN
                | Errno::HOSTUNREACH
                | Errno::OPNOTSUPP
                | Errno::NOPROTOOPT
                | Errno::INTR
                | Errno::AGAIN,
            )
            | None => Self::Connection,
            Some(_) => Self::Listener,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_sorted_by_whom_they_concern() {
        let check = |errno: Errno, expected| {
            assert_eq!(AcceptFailure::of(&io::Error::from(errno)), expected, "{errno}");
        };
        check(Errno::MFILE, AcceptFailure::Exhausted);
        check(Errno::NOMEM, AcceptFailure::Exhausted);
        check(Errno::CONNABORTED, AcceptFailure::Connection);
        check(Errno::HOSTUNREACH, AcceptFailure::Connection);
        check(Errno::INVAL, AcceptFailure::Listener);
        check(Errno::BADF, AcceptFailure::Listener);
        assert_eq!(AcceptFailure::of(&io::Error::other("x")), AcceptFailure::Connection);
    }
}
