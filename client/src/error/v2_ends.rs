//! The ends of links and streams of protocol v2, as errors.

use super::{
    Code, Exit, Place, Refusal, RunError, StreamEnd, UNANSWERED, printable, unreached, v2,
};

/// What is known of a stream when it is over.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    /// The agent had connected the target.
    pub(crate) was_open: bool,
    /// Why the last link, or the last attempt to make one, failed.
    pub(crate) cause: Option<String>,
}

impl RunError {
    /// The error that an end of a stream stands for; none for a clean one (spec v2, EN-10 and ER-2).
    pub(crate) fn of_v2(end: StreamEnd, place: &Place<'_>, known: Known) -> Option<Self> {
        let Known { was_open, cause } = known;
        let relay = || place.relay.clone();
        let agent = || place.agent();
        let target = || place.target.to_string();
        Some(match end {
            StreamEnd::Done => return None,
            StreamEnd::Reset { code: Code::NotResumable, message } => Self::StreamLost {
                agent: agent(),
                target: target(),
                reason: said(Code::NotResumable, &message),
            },
            StreamEnd::Reset { code: Code::PeerReset, message } => Self::TargetReset {
                agent: agent(),
                target: target(),
                reason: said(Code::PeerReset, &message),
            },
            StreamEnd::Reset { code, message } => {
                Self::Refused(stream_refusal(code, was_open, &message, place))
            }
            StreamEnd::Refused { code: Code::GoingAway, message } => {
                Self::of_rejection(&place.relay, Code::GoingAway, &message)
            }
            StreamEnd::Refused { code, message } => {
                Self::Refused(stream_refusal(code, false, &message, place))
            }
            // This side has broken it off: the other one broke a rule, or never answered.
            StreamEnd::Local { code: Code::ConnectTimedOut } => Self::Refused(Refusal {
                exit: Exit::TimedOut,
                text: format!(
                    "agent \"{}\" did not answer for {} within {} s (is it overloaded, or its network slow?)",
                    agent(),
                    place.target,
                    v2::OPENED_TIMEOUT.as_secs()
                ),
            }),
            StreamEnd::Local { code } => Self::broken_v2(&relay(), &said(code, "")),
            StreamEnd::LinkLost => Self::RelayLost {
                relay: relay(),
                cause: cause.unwrap_or_else(|| "the connection was closed".into()),
            },
            StreamEnd::Interrupted => Self::AgentLost { agent: agent(), target: target() },
            StreamEnd::Unconfirmed => Self::Unconfirmed { agent: agent(), target: target(), cause },
        })
    }

    /// A relay that refuses the whole link (spec v2, LK-2).
    pub(crate) fn of_rejection(relay: &str, code: Code, message: &str) -> Self {
        let said = said(code, message);
        let (exit, text) = match code {
            Code::BadCredentials => (
                Exit::CredentialsRefused,
                format!(
                    "{relay} refused the secret (check it against access-client-secrets there)"
                ),
            ),
            Code::GoingAway => (
                Exit::RelayLost,
                format!("the relay at {relay} is stopping: {said} (try again in a moment)"),
            ),
            Code::Overloaded | Code::TooManyStreams => (
                Exit::Refused,
                format!("the relay at {relay} has no room: {said} (try again later)"),
            ),
            _ => (
                Exit::of_code(code, false),
                format!("{relay} refused the link: {said} (the relay's log may say why)"),
            ),
        };
        Self::Refused(Refusal { exit, text })
    }

    /// A relay, or the agent behind it, that does what protocol v2 forbids.
    pub(crate) fn broken_v2(relay: &str, problem: &str) -> Self {
        let problem = printable(problem, 200);
        let text = format!(
            "the relay at {relay}, or the agent behind it, broke the protocol: {problem} (their logs may say more)"
        );
        Self::Refused(Refusal { exit: Exit::Protocol, text })
    }

    /// A relay that closes the link before it has accepted it.
    pub(crate) fn closed_unanswered(relay: String, reason: String) -> Self {
        Self::ClosedUnanswered { relay, reason, hint: UNANSWERED }
    }
}

fn stream_refusal(code: Code, was_open: bool, message: &str, place: &Place<'_>) -> Refusal {
    let exit = Exit::of_code(code, was_open);
    let Place { relay, target, .. } = place;
    let agent = place.agent();
    let said = said(code, message);
    let text = match code {
        Code::ProtocolUnsupported | Code::Overloaded if was_open => format!(
            "the stream to {target} behind agent \"{agent}\" was given up: {said} (what was sent last may not have arrived)"
        ),
        Code::ConnectRefused
        | Code::ConnectTimedOut
        | Code::Unreachable
        | Code::NameNotResolved
        | Code::ProtocolUnsupported => unreached(exit, &said, place),
        Code::AgentOffline => {
            format!("agent \"{agent}\" is not connected to {relay} (check its name, or start it)")
        }
        Code::BadCredentials => {
            format!("{relay} refused the secret (check it against access-client-secrets there)")
        }
        Code::Forbidden => format!(
            "the stream to {target} behind agent \"{agent}\" is not allowed: {said} (ask whoever runs the relay or the agent)"
        ),
        Code::TooManyStreams | Code::Overloaded => format!(
            "there is no room for the stream to {target} behind agent \"{agent}\": {said} (try again later)"
        ),
        Code::GoingAway => format!(
            "agent \"{agent}\" is stopping, with the stream to {target}: {said}; what was sent last may not have arrived (connect again; the agent's log may say why)"
        ),
        Code::ProtocolError => format!(
            "the stream to {target} behind agent \"{agent}\" was broken off for a breach of the protocol: {said} (are all programs of one version? their logs may say more)"
        ),
        Code::Internal => format!(
            "the stream to {target} behind agent \"{agent}\" failed on the way: {said} (the logs of relay and agent may say why)"
        ),
        // These are errors of their own, or no answer to a client.
        Code::NotResumable | Code::PeerReset | Code::NameInUse => format!(
            "the stream to {target} behind agent \"{agent}\" was refused: {said} (the relay's log may say why)"
        ),
    };
    Refusal { exit, text }
}

/// What a peer says, or at least its code.
fn said(code: Code, message: &str) -> String {
    let message = printable(message, 300);
    if message.is_empty() { code.as_str().replace('_', " ") } else { message }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;
    use crate::config::Target;

    fn line(text: &mut String, end: &str, error: Option<RunError>) {
        let (exit, error) = match error {
            Some(error) => (error.exit().code(), error.to_string()),
            None => (0, String::new()),
        };
        assert!(!error.contains('\n'));
        let _ = writeln!(text, "{end} => {exit}\n  {error}");
    }

    #[test]
    fn every_end_is_one_line() {
        let target = Target { host: "localhost".into(), port: 22 };
        let place = Place { relay: "wss://r/c".into(), agent: "workshop", target: &target };
        let mut text = String::new();
        for code in Code::ALL.iter().copied() {
            for message in ["its own words\n", ""] {
                let end = StreamEnd::Reset { code, message: message.into() };
                let error = RunError::of_v2(end, &place, Known::default());
                line(&mut text, &format!("reset {code}"), error);
            }
            let end = StreamEnd::Reset { code, message: "its words".into() };
            let known = Known { was_open: true, cause: None };
            line(&mut text, &format!("reset {code}, open"), RunError::of_v2(end, &place, known));
            let end = StreamEnd::Refused { code, message: "its words".into() };
            let error = RunError::of_v2(end, &place, Known::default());
            line(&mut text, &format!("refused {code}"), error);
            let rejected = RunError::of_rejection("wss://r/c", code, "its words");
            line(&mut text, &format!("link rejected {code}"), Some(rejected));
        }
        let known = Known { was_open: true, cause: Some("connection reset by peer".to_owned()) };
        for end in [
            StreamEnd::Done,
            StreamEnd::Local { code: Code::ProtocolError },
            StreamEnd::Local { code: Code::ConnectTimedOut },
            StreamEnd::LinkLost,
            StreamEnd::Interrupted,
            StreamEnd::Unconfirmed,
        ] {
            line(&mut text, &format!("{end:?}"), RunError::of_v2(end, &place, known.clone()));
        }
        line(
            &mut text,
            "no cause",
            RunError::of_v2(StreamEnd::Unconfirmed, &place, Known::default()),
        );
        insta::assert_snapshot!(text);
    }
}
