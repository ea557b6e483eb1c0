//! How `access-client` ends: the one table of its exit statuses.
//!
//! Scripts rely on the numbers, so none of them ever changes its meaning; new ones are added. The table is what
//! `--help` and the README show.

use std::fmt::Write as _;
use std::process::ExitCode;

use codec::v1::{
    ERROR_AGENT_NOT_REGISTERED, ERROR_BAD_SECRET, ERROR_INITIATE_PREFIX, ERROR_NO_ANSWER,
    REASON_AGENT_LOST,
};
use codec::v2::Code;

/// How a run of `access-client` ended. The discriminants are the exit statuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum Exit {
    /// The stream ended cleanly.
    Clean = 0,
    /// Something failed on this machine that nothing below names.
    Local = 1,
    /// The command line or the environment cannot be used.
    Usage = 2,
    /// No link to the relay came about.
    RelayUnreachable = 10,
    /// The relay's place is taken by something that speaks no WebSocket.
    NotWebSocket = 11,
    /// The relay refused the secret.
    CredentialsRefused = 12,
    /// The relay has no link to that agent.
    AgentNotConnected = 13,
    /// The target refused the connection.
    TargetRefused = 14,
    /// The agent could not connect to the target for another reason.
    TargetUnreachable = 15,
    /// The target or the agent did not answer in time.
    TimedOut = 16,
    /// The relay refused for a reason of its own.
    Refused = 17,
    /// The link to the relay broke.
    RelayLost = 18,
    /// The agent's link to the relay broke.
    AgentLost = 19,
    /// The target reset the connection.
    TargetReset = 20,
    /// The relay broke the protocol.
    Protocol = 21,
    /// Nobody reads our output any more.
    OutputClosed = 22,
    /// The stream took nothing for too long, and was given up.
    Stalled = 23,
    /// The agent does not have the stream any more.
    StreamLost = 24,
    /// There was no way to the agent again in time.
    Unconfirmed = 25,
    /// There is no listening where it was asked for.
    CannotListen = 26,
    /// Ended by SIGHUP, as `ssh` ends its ProxyCommand.
    Hangup = 129,
    /// Ended by SIGINT.
    Interrupted = 130,
    /// Ended by SIGTERM.
    Terminated = 143,
}

impl Exit {
    /// Every way to end, in the order of the numbers.
    pub const ALL: [Self; 23] = [
        Self::Clean,
        Self::Local,
        Self::Usage,
        Self::RelayUnreachable,
        Self::NotWebSocket,
        Self::CredentialsRefused,
        Self::AgentNotConnected,
        Self::TargetRefused,
        Self::TargetUnreachable,
        Self::TimedOut,
        Self::Refused,
        Self::RelayLost,
        Self::AgentLost,
        Self::TargetReset,
        Self::Protocol,
        Self::OutputClosed,
        Self::Stalled,
        Self::StreamLost,
        Self::Unconfirmed,
        Self::CannotListen,
        Self::Hangup,
        Self::Interrupted,
        Self::Terminated,
    ];

    /// The exit status.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// A short name, for logs and people: lower case words joined by `-`.
    pub const fn name(self) -> &'static str {
        self.row().0
    }

    /// What it means, as a clause of at most some seventy characters.
    pub const fn meaning(self) -> &'static str {
        self.row().1
    }

    const fn row(self) -> (&'static str, &'static str) {
        match self {
            Self::Clean => {
                ("clean", "the stream ended cleanly; with protocol v1, as far as that tells")
            }
            Self::Local => ("local", "unexpected error on this machine"),
            Self::Usage => ("usage", "wrong usage: a bad option, port or URL, or no secret"),
            Self::RelayUnreachable => {
                ("relay-unreachable", "no link to the relay: name, TCP, proxy, TLS or time-out")
            }
            Self::NotWebSocket => {
                ("not-websocket", "the relay's URL answers, but not as a WebSocket")
            }
            Self::CredentialsRefused => ("credentials-refused", "the relay refused the secret"),
            Self::AgentNotConnected => {
                ("agent-not-connected", "the agent is unknown to the relay, or not connected")
            }
            Self::TargetRefused => ("target-refused", "the target refused the connection"),
            Self::TargetUnreachable => (
                "target-unreachable",
                "the agent could not reach the target: name, network, protocol",
            ),
            Self::TimedOut => ("timed-out", "the target or the agent did not answer in time"),
            Self::Refused => ("refused", "the relay or the agent refused for another reason"),
            Self::RelayLost => {
                ("relay-lost", "the link to the relay was lost, or the relay stopped")
            }
            Self::AgentLost => {
                ("agent-lost", "the agent was lost while the stream was open or being opened")
            }
            Self::TargetReset => ("target-reset", "the target reset the connection"),
            Self::Protocol => {
                ("protocol", "the relay or the agent broke the protocol, or says that we did")
            }
            Self::OutputClosed => ("output-closed", "stdout was closed before the stream ended"),
            Self::Stalled => ("stalled", "the stream took no data for too long and was given up"),
            Self::StreamLost => {
                ("stream-lost", "the agent no longer has the stream: it was restarted, say")
            }
            Self::Unconfirmed => (
                "unconfirmed",
                "no way to the agent again in time; what was sent last may not have arrived",
            ),
            Self::CannotListen => {
                ("cannot-listen", "a port or socket to listen on cannot be had on this machine")
            }
            Self::Hangup => ("hangup", "ended by SIGHUP"),
            Self::Interrupted => ("interrupted", "ended by SIGINT"),
            Self::Terminated => ("terminated", "ended by SIGTERM"),
        }
    }

    /// What the text of a relay's `error` message means. The texts are those of the original programs
    /// and ours, of which only the first words are fixed; the rest is an agent's report, recognised by
    /// words of systems that no host name can hold.
    /// Spec v1, C-7 and S-18.
    pub fn of_refusal(message: &str) -> Self {
        const REFUSED: [&str; 5] = [
            "connection refused",
            "[errno 111]",
            "[errno 61]",
            "[winerror 1225]",
            "[winerror 10061]",
        ];
        const TIMED_OUT: [&str; 4] = ["timed out", "[errno 110]", "[errno 60]", "[winerror 121]"];
        if message == ERROR_BAD_SECRET {
            return Self::CredentialsRefused;
        }
        if message == ERROR_AGENT_NOT_REGISTERED {
            return Self::AgentNotConnected;
        }
        let Some(report) = message.strip_prefix(ERROR_INITIATE_PREFIX) else {
            return Self::Refused;
        };
        if report == REASON_AGENT_LOST {
            return Self::AgentLost;
        }
        if report == ERROR_NO_ANSWER {
            return Self::TimedOut;
        }
        let report = report.to_lowercase();
        let says = |words: &[&str]| words.iter().any(|word| report.contains(word));
        if says(&REFUSED) {
            Self::TargetRefused
        } else if says(&TIMED_OUT) {
            Self::TimedOut
        } else {
            Self::TargetUnreachable
        }
    }

    /// What a code of protocol v2 means that a relay or an agent refuses or ends a stream with, which had been opened
    /// or not (spec v2, ER-2).
    pub const fn of_code(code: Code, was_open: bool) -> Self {
        match code {
            Code::BadCredentials => Self::CredentialsRefused,
            Code::AgentOffline => Self::AgentNotConnected,
            Code::ConnectRefused => Self::TargetRefused,
            Code::ConnectTimedOut => Self::TimedOut,
            // A relay in the place of an agent of protocol v1 gives the stream up (ST-5 and ST-6).
            Code::ProtocolUnsupported | Code::Overloaded if was_open => Self::Stalled,
            Code::Unreachable | Code::NameNotResolved | Code::ProtocolUnsupported => {
                Self::TargetUnreachable
            }
            Code::Forbidden
            | Code::TooManyStreams
            | Code::NameInUse
            | Code::Overloaded
            | Code::Internal => Self::Refused,
            Code::NotResumable => Self::StreamLost,
            Code::PeerReset => Self::TargetReset,
            Code::ProtocolError => Self::Protocol,
            Code::GoingAway => Self::AgentLost,
        }
    }

    /// The table for `--help`: a line each, without a line feed at the end.
    pub fn help_table() -> String {
        let line = |exit: &Self| format!("  {:>3}  {}", exit.code(), exit.meaning());
        Self::ALL.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    /// The table for the README, in Markdown, each line with its line feed.
    pub fn markdown_table() -> String {
        let mut table = String::from("| status | name | meaning |\n|---:|---|---|\n");
        for exit in Self::ALL {
            // Writing to a String cannot fail.
            let _ = writeln!(table, "| {} | `{}` | {} |", exit.code(), exit.name(), exit.meaning());
        }
        table
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_kept_for_good() {
        insta::assert_snapshot!(Exit::markdown_table());
    }

    #[test]
    fn every_way_to_end_has_its_own_number_and_name() {
        assert!(Exit::ALL.is_sorted_by(|one, next| one.code() < next.code()));
        for exit in Exit::ALL {
            assert_eq!(
                Exit::ALL.iter().filter(|other| other.name() == exit.name()).count(),
                1,
                "{exit:?}"
            );
        }
    }

    #[test]
    fn refusals_are_told_apart_by_their_text() {
        let check =
            |message: &str, expected| assert_eq!(Exit::of_refusal(message), expected, "{message}");
        check("Invalid access client secret", Exit::CredentialsRefused);
        check("Agent not registered", Exit::AgentNotConnected);
        check("too many streams", Exit::Refused);
        check("", Exit::Refused);
        for (report, expected) in [
            ("[Errno 111] Connect call failed ('127.0.0.1', 54073)", Exit::TargetRefused),
            (
                "Multiple exceptions: [Errno 111] Connect call failed ('::1', 1, 0, 0), [Errno 111] …",
                Exit::TargetRefused,
            ),
            ("127.0.0.1:1: Connection refused", Exit::TargetRefused),
            ("[Errno 110] Connect call failed ('10.0.0.1', 22)", Exit::TimedOut),
            ("no answer from the agent within 135 s", Exit::TimedOut),
            ("10.0.0.1:22: timed out after 10 s", Exit::TimedOut),
            ("agent disconnected", Exit::AgentLost),
            ("[Errno -2] Name or service not known", Exit::TargetUnreachable),
            ("[Errno 101] Network is unreachable", Exit::TargetUnreachable),
            ("Unsupported protocol: udp", Exit::TargetUnreachable),
            ("connect(): port must be 0-65535.", Exit::TargetUnreachable),
            ("no address for refused.example or timeout.example", Exit::TargetUnreachable),
            ("", Exit::TargetUnreachable),
        ] {
            check(&format!("Error initiating connection: {report}"), expected);
        }
    }
}
