//! Why a stream failed, in words for its user.

use std::io;
use std::time::Duration;

use codec::DecodeError;
use codec::v1;
use mux::v1::client::End;
use transport::dial::DialError;
use transport::printable::printable;
use transport::system::system_text;
use transport::tls::TlsError;

use crate::config::Config;
use crate::exit::Exit;

/// Why a stream did not come about or did not end cleanly. The text is one line that says what
/// failed, on what, and what to try; [`RunError::exit`] is the program's exit status.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The certificates to trust cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The relay was not reached, or what was reached is no relay.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The relay refused the stream.
    #[error("{0}")]
    Refused(Refusal),
    /// The relay did not answer in time.
    #[error("the relay at {relay} did not answer within {} s (is it overloaded?)", limit.as_secs())]
    NoAnswer {
        /// The relay.
        relay: String,
        /// How long it had.
        limit: Duration,
    },
    /// The relay took our start for what has no place there (spec v1, C-8): most likely it is the path for agents.
    #[error(
        "the relay at {relay} takes no start of a client there: {reason} (check the path of the URL: clients use {}, agents {})",
        v1::CLIENT_PATH,
        v1::AGENT_PATH
    )]
    Misdirected {
        /// The relay.
        relay: String,
        /// The code and the reason.
        reason: String,
    },
    /// The relay closed the link before it answered.
    #[error("the relay at {relay} closed the link without an answer: {reason} ({hint})")]
    ClosedUnanswered {
        /// The relay.
        relay: String,
        /// The code, if there was one, and the reason.
        reason: String,
        /// What to try.
        hint: &'static str,
    },
    /// The link to the relay broke while the stream was open.
    #[error(
        "the link to the relay at {relay} was lost: {cause}; what was sent last may not have arrived (check the network, and connect again)"
    )]
    RelayLost {
        /// The relay.
        relay: String,
        /// What is known of the cause.
        cause: String,
    },
    /// The relay lost its agent.
    #[error(
        "agent \"{agent}\" was lost while the stream to {target} was open; what was sent last may not have arrived (connect again; the agent's log may say why)"
    )]
    AgentLost {
        /// The agent's name.
        agent: String,
        /// Host and port.
        target: String,
    },
    /// The agent reports that the stream broke.
    #[error(
        "the connection of agent \"{agent}\" to {target} broke: {reason} (the log of the service there may say why)"
    )]
    TargetReset {
        /// The agent's name.
        agent: String,
        /// Host and port.
        target: String,
        /// The agent's report.
        reason: String,
    },
    /// The stream took nothing for too long.
    #[error(
        "the relay gave up the stream to {target} behind agent \"{agent}\": its data was not taken for too long (does something hold up what reads stdout, or is the network too slow?)"
    )]
    Stalled {
        /// The agent's name.
        agent: String,
        /// Host and port.
        target: String,
    },
    /// The relay sent what is no message to a client.
    #[error(
        "the relay at {relay} broke the protocol: {problem} (is it a relay of protocol v1? its log may say more)"
    )]
    Protocol {
        /// The relay.
        relay: String,
        /// What it sent.
        problem: String,
    },
    /// The local source failed, so that a part of what was to be sent is missing.
    #[error(
        "reading stdin failed: {}; the stream to {target} was cut short (check what stdin is connected to)",
        system_text(source)
    )]
    Input {
        /// Host and port.
        target: String,
        /// What the system said.
        source: io::Error,
    },
    /// The local sink takes nothing more.
    #[error(
        "writing to stdout failed before the stream to {target} ended: {} (does what reads it still run, or is a disk full?)",
        system_text(source)
    )]
    Output {
        /// Host and port.
        target: String,
        /// What the system said.
        source: io::Error,
    },
}

/// What a relay refused, and why.
#[derive(Debug)]
pub struct Refusal {
    exit: Exit,
    text: String,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl RunError {
    /// The exit status that stands for this error.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Tls(_) => Exit::Usage,
            Self::Dial(error) if error.is_bad_answer() => Exit::NotWebSocket,
            Self::Dial(_) => Exit::RelayUnreachable,
            Self::Refused(refusal) => refusal.exit,
            Self::NoAnswer { .. } => Exit::TimedOut,
            Self::Misdirected { .. } => Exit::Refused,
            Self::ClosedUnanswered { .. } | Self::RelayLost { .. } => Exit::RelayLost,
            Self::AgentLost { .. } => Exit::AgentLost,
            Self::TargetReset { .. } => Exit::TargetReset,
            Self::Stalled { .. } => Exit::Stalled,
            Self::Protocol { .. } => Exit::Protocol,
            Self::Input { .. } => Exit::Local,
            Self::Output { .. } => Exit::OutputClosed,
        }
    }

    /// The error that an end of the stream stands for; none for a clean one.
    /// Spec v1, C-15 and X-18.
    pub(crate) fn of(end: End, config: &Config) -> Option<Self> {
        let relay = || config.relay_url.to_string();
        let agent = || printable(&config.agent, 60);
        let target = || config.target.to_string();
        Some(match end {
            End::Finished | End::Local | End::Quiet => return None,
            End::Refused(message) => Self::Refused(refusal(&message, config)),
            End::TimedOut(limit) => Self::NoAnswer { relay: relay(), limit },
            End::Invalid(error) => Self::Protocol { relay: relay(), problem: problem(&error) },
            End::Violation(problem) => Self::Protocol { relay: relay(), problem },
            End::Closed {
                code: code @ Some(v1::CLOSE_INVALID | v1::CLOSE_POLICY),
                reason,
                opened: false,
            } => Self::Misdirected { relay: relay(), reason: close_text(code, &reason) },
            End::Closed { code, reason, opened: false } => Self::ClosedUnanswered {
                relay: relay(),
                reason: close_text(code, &reason),
                hint: match code {
                    Some(v1::CLOSE_RESTART) => "try again in a moment",
                    _ => UNANSWERED,
                },
            },
            End::Closed { code: Some(v1::CLOSE_AGENT_LOST), .. } => {
                Self::AgentLost { agent: agent(), target: target() }
            }
            End::Closed { code: Some(v1::CLOSE_TARGET_RESET), reason, .. } => Self::TargetReset {
                agent: agent(),
                target: target(),
                reason: printable(&reason, 200),
            },
            End::Closed { code: Some(v1::CLOSE_STALLED), .. } => {
                Self::Stalled { agent: agent(), target: target() }
            }
            End::Closed { code, reason, opened: true } => {
                Self::RelayLost { relay: relay(), cause: close_text(code, &reason) }
            }
            End::Lost { cause, opened: true } => Self::RelayLost { relay: relay(), cause },
            End::Lost { cause, opened: false } => {
                Self::ClosedUnanswered { relay: relay(), reason: cause, hint: UNANSWERED }
            }
            _ => Self::RelayLost { relay: relay(), cause: "unknown".into() },
        })
    }
}

fn refusal(message: &str, config: &Config) -> Refusal {
    let exit = Exit::of_refusal(message);
    let relay = &config.relay_url;
    let agent = printable(&config.agent, 60);
    let said = printable(message, 400);
    let report = said.strip_prefix(v1::ERROR_INITIATE_PREFIX.trim_end()).unwrap_or(&said).trim();
    let text = match exit {
        Exit::CredentialsRefused => {
            format!("{relay} refused the secret (check it against access-client-secrets there)")
        }
        Exit::AgentNotConnected => {
            format!("agent \"{agent}\" is not connected to {relay} (check its name, or start it)")
        }
        Exit::TargetRefused | Exit::TargetUnreachable | Exit::TimedOut => {
            let target = config.target.to_string();
            // Our agents name the target, too.
            let same = format!("could not connect to {target}: ");
            let report = report.strip_prefix(&same).unwrap_or(report);
            let hint = match exit {
                Exit::TargetRefused => {
                    "does the service run there? host and port are as the agent sees them"
                }
                Exit::TimedOut => "is there a firewall between agent and target?",
                _ => "check host, port and protocol, as the agent sees them",
            };
            format!("agent \"{agent}\" cannot reach {target}: {report} ({hint})")
        }
        Exit::AgentLost => {
            format!(
                "agent \"{agent}\" was lost before it answered for {} (connect again; the agent's log may say why)",
                config.target
            )
        }
        _ => format!("{relay} refused the stream: {said} (the relay's log may say why)"),
    };
    Refusal { exit, text }
}

/// What to try when a link ended without an answer, whatever it ended with.
const UNANSWERED: &str = "try again; if it stays, check the path of the URL, and the relay's log";

fn problem(error: &DecodeError) -> String {
    printable(&error.to_string(), 200)
}

fn close_text(code: Option<u16>, reason: &str) -> String {
    let reason = printable(reason, 200);
    match (code, reason.is_empty()) {
        (Some(v1::CLOSE_RESTART), true) => "the relay is restarting".into(),
        (Some(code), true) => format!("close code {code}"),
        (Some(code), false) => format!("{reason} (close code {code})"),
        (None, _) => "no close code".into(),
    }
}

#[cfg(test)]
mod tests {
    use codec::Secret;
    use transport::program::failure_line;
    use transport::url::RedirectError;

    use super::*;
    use crate::config::Target;

    fn config() -> Config {
        Config {
            relay_url: "wss://user:canary@relay.example.org/ws?token=canary".parse().unwrap(),
            secret: Secret::from("canary".to_owned()),
            ca_file: None,
            eof_timeout: None,
            agent: "workshop".into(),
            target: Target { host: "fd00::5".into(), port: 22 },
            protocol: "tcp".into(),
        }
    }

    /// The status and the line of each way to fail. The lines of dialling have a snapshot of their own beside it.
    #[test]
    fn every_line() {
        let refused = |text: &str| End::Refused(text.to_owned());
        let initiating = |report: &str| refused(&format!("{}{report}", v1::ERROR_INITIATE_PREFIX));
        let closed =
            |code, reason: &str, opened| End::Closed { code, reason: reason.into(), opened };
        let invalid = v1::decode::<v1::RelayToClient>(r#"{"inner":{"kind":"canary"}}"#);
        let ends = [
            refused(v1::ERROR_BAD_SECRET),
            refused(v1::ERROR_AGENT_NOT_REGISTERED),
            refused("too many\u{1b}[1m streams"),
            initiating("could not connect to [fd00::5]:22: connection refused"),
            initiating("[Errno 113] Connect call failed ('fd00::5', 22, 0, 0)"),
            initiating("[Errno 110] Connect call failed ('fd00::5', 22, 0, 0)"),
            initiating("Unsupported protocol: udp"),
            initiating(v1::REASON_AGENT_LOST),
            initiating(v1::ERROR_NO_ANSWER),
            End::TimedOut(v1::CLIENT_ANSWER_TIMEOUT),
            End::Invalid(invalid.unwrap_err()),
            End::Violation("data before start_ok".into()),
            closed(Some(v1::CLOSE_POLICY), "no start", false),
            closed(Some(v1::CLOSE_INVALID), "", false),
            closed(Some(v1::CLOSE_RESTART), "", false),
            closed(Some(v1::CLOSE_NORMAL), "", false),
            closed(None, "", false),
            closed(Some(v1::CLOSE_AGENT_LOST), v1::REASON_AGENT_LOST, true),
            closed(Some(v1::CLOSE_TARGET_RESET), "connection reset by peer", true),
            closed(Some(v1::CLOSE_STALLED), "stream stalled", true),
            closed(Some(v1::CLOSE_RESTART), "", true),
            closed(Some(4000), "something\nnew", true),
            closed(None, "", true),
            End::Lost { cause: "the connection was closed".into(), opened: true },
            End::Lost { cause: "it does not answer pings".into(), opened: false },
        ];
        let config = config();
        let mut errors: Vec<RunError> =
            ends.into_iter().map(|end| RunError::of(end, &config).unwrap()).collect();
        let target = config.target.to_string();
        let source = || io::Error::from_raw_os_error(5);
        errors.push(RunError::Input { target: target.clone(), source: source() });
        errors.push(RunError::Output { target, source: source() });
        errors.push(RunError::Tls(TlsError::NoAuthorities));
        let host = "relay.example.org:443".to_owned();
        let error = RedirectError::Downgrade;
        errors.push(RunError::Dial(DialError::Redirect { host: host.clone(), error }));
        let phase = "TLS handshake".to_owned();
        errors.push(RunError::Dial(DialError::TimedOut { phase, limit: v1::HANDSHAKE_TIMEOUT }));

        let mut seen = [false; 13];
        let mut lines = String::new();
        for error in &errors {
            seen[place(error)] = true;
            let line = failure_line("access-client", error, false);
            lines += &format!("{:>3} {line}\n", error.exit().code());
        }
        assert_eq!(seen, [true; 13], "a way to fail is not shown");
        assert!(!lines.replace("\"canary\"", "").contains("canary"), "{lines}");
        insta::assert_snapshot!(lines);
        for clean in [End::Finished, End::Local, End::Quiet] {
            assert!(RunError::of(clean, &config).is_none());
        }
    }

    /// So that a new way to fail cannot be left out above.
    fn place(error: &RunError) -> usize {
        match error {
            RunError::Tls(_) => 0,
            RunError::Dial(_) => 1,
            RunError::Refused(_) => 2,
            RunError::NoAnswer { .. } => 3,
            RunError::Misdirected { .. } => 4,
            RunError::ClosedUnanswered { .. } => 5,
            RunError::RelayLost { .. } => 6,
            RunError::AgentLost { .. } => 7,
            RunError::TargetReset { .. } => 8,
            RunError::Stalled { .. } => 9,
            RunError::Protocol { .. } => 10,
            RunError::Input { .. } => 11,
            RunError::Output { .. } => 12,
        }
    }
}
