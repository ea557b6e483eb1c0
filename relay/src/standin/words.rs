//! What v1 says in words and v2 by a code, and the other way round.

use codec::v1;
use codec::v2::Code;
use mux::v2::StreamEnd;

use crate::routes::ClientEnd;

/// The code for an agent's refusal (spec v2, ST-3): the sentence has no fixed form, but agents of this project and of the
/// Python implementation say what their systems say (spec v1, S-18).
pub(super) fn code_of(text: &str) -> Code {
    let text = text.to_lowercase();
    let has = |marks: &[&str]| marks.iter().any(|mark| text.contains(mark));
    if has(&["unsupported protocol"]) {
        Code::ProtocolUnsupported
    } else if has(&["connection refused", "connection reset", "[errno 111]", "[errno 104]"]) {
        Code::ConnectRefused
    } else if has(&["timed out", "[errno 110]", "no answer from the agent", "resolved within"]) {
        Code::ConnectTimedOut
    } else if has(&[
        "could not be resolved",
        "is not the name of a host",
        "name or service not known",
        "temporary failure in name resolution",
        "[errno -",
        "'idna' codec",
        "embedded null",
    ]) {
        Code::NameNotResolved
    } else {
        Code::Unreachable
    }
}

/// What a v1 client is told of a stream that never was open (spec v2, ST-7, and spec v1, C-7).
pub(super) fn refusal(end: &StreamEnd) -> String {
    let words = match end {
        StreamEnd::Refused { code: Code::AgentOffline, .. } => {
            return v1::ERROR_AGENT_NOT_REGISTERED.to_owned();
        }
        StreamEnd::Refused { code, message } | StreamEnd::Reset { code, message } => {
            if message.is_empty() { code.as_str() } else { message.as_str() }
        }
        StreamEnd::Local { code } => code.as_str(),
        StreamEnd::Done | StreamEnd::LinkLost | StreamEnd::Interrupted | StreamEnd::Unconfirmed => {
            v1::REASON_AGENT_LOST
        }
    };
    format!("{}{words}", v1::ERROR_INITIATE_PREFIX)
}

/// How a v1 client's stream ends that was open (spec v2, ST-7).
pub(super) fn client_end(end: StreamEnd) -> ClientEnd {
    match end {
        StreamEnd::Done => ClientEnd::Finished,
        StreamEnd::Reset { code: Code::NotResumable | Code::GoingAway, .. }
        | StreamEnd::Refused { .. }
        | StreamEnd::LinkLost
        | StreamEnd::Interrupted
        | StreamEnd::Unconfirmed => ClientEnd::AgentLost,
        StreamEnd::Reset { code, message } if message.is_empty() => {
            ClientEnd::TargetReset(code.as_str().to_owned())
        }
        StreamEnd::Reset { message, .. } => ClientEnd::TargetReset(message),
        StreamEnd::Local { code } => ClientEnd::TargetReset(code.as_str().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_of_agents_of_every_origin() {
        for (text, expected) in [
            ("[Errno 111] Connect call failed ('127.0.0.1', 22)", Code::ConnectRefused),
            ("[Errno 111] Connect call failed ('::1', 33247, 0, 0)", Code::ConnectRefused),
            ("could not connect to 127.0.0.1:22: connection refused", Code::ConnectRefused),
            ("[Errno 101] Network is unreachable", Code::Unreachable),
            ("could not connect to [::1]:22: network is unreachable", Code::Unreachable),
            ("could not connect to \"x\": port 0 is not a port", Code::Unreachable),
            ("connect(): port must be 0-65535.", Code::Unreachable),
            ("[Errno -2] Name or service not known", Code::NameNotResolved),
            ("[Errno -3] Temporary failure in name resolution", Code::NameNotResolved),
            ("name \"x\" could not be resolved: no such name", Code::NameNotResolved),
            ("\"a b\" is not the name of a host: it has a space", Code::NameNotResolved),
            ("embedded null character", Code::NameNotResolved),
            ("encoding with 'idna' codec failed", Code::NameNotResolved),
            ("name \"x\" could not be resolved within 10 s", Code::ConnectTimedOut),
            ("could not connect to x:22: 192.0.2.1:22: timed out", Code::ConnectTimedOut),
            ("[Errno 110] Connect call failed ('192.0.2.1', 22)", Code::ConnectTimedOut),
            (v1::ERROR_NO_ANSWER, Code::ConnectTimedOut),
            ("Unsupported protocol: udp", Code::ProtocolUnsupported),
            ("unsupported protocol \"udp\" (this agent knows tcp)", Code::ProtocolUnsupported),
            ("", Code::Unreachable),
            ("Connection reset while writing data", Code::ConnectRefused),
        ] {
            assert_eq!(code_of(text), expected, "{text}");
        }
    }

    #[test]
    fn what_a_client_of_v1_is_told() {
        let reset = |code, message: &str| StreamEnd::Reset { code, message: message.into() };
        let refused = |code, message: &str| StreamEnd::Refused { code, message: message.into() };
        for (end, expected) in [
            (refused(Code::AgentOffline, "x"), "Agent not registered"),
            (refused(Code::Overloaded, "full"), "Error initiating connection: full"),
            (reset(Code::ConnectRefused, "no one"), "Error initiating connection: no one"),
            (reset(Code::Forbidden, ""), "Error initiating connection: forbidden"),
            (StreamEnd::Unconfirmed, "Error initiating connection: agent disconnected"),
        ] {
            assert_eq!(refusal(&end), expected);
        }
        for (end, expected) in [
            (StreamEnd::Done, ClientEnd::Finished),
            (reset(Code::PeerReset, "broken"), ClientEnd::TargetReset("broken".into())),
            (reset(Code::Overloaded, ""), ClientEnd::TargetReset("overloaded".into())),
            (reset(Code::NotResumable, "x"), ClientEnd::AgentLost),
            (reset(Code::GoingAway, "x"), ClientEnd::AgentLost),
            (StreamEnd::Unconfirmed, ClientEnd::AgentLost),
        ] {
            assert_eq!(client_end(end), expected);
        }
    }
}
