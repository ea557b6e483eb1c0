//! One connected agent or client, from its upgrade to its end.

mod agent;
mod client;
mod v2;

use std::time::Instant;

use codec::v1;
use transport::driver::{Close, Ended};
use transport::printable::printable;

use crate::large::{Budget, Reserved};

pub(crate) use agent::AgentSession;
pub(crate) use client::ClientSession;
pub(crate) use v2::LinkSession;

/// The close of a link whose first message is no `start`, or none came in time.
/// Spec v1, A-5, A-6 and C-8.
fn no_start(reason: &'static str) -> Close {
    Close::new(v1::CLOSE_POLICY, reason)
}

/// The close of a link whose first message is larger than a first message may be.
/// Spec v1, L-1.
fn start_too_big() -> Close {
    Close::new(v1::CLOSE_TOO_BIG, "message too big before the start")
}

/// The close of a link on which something came that is no message.
fn invalid(error: &codec::DecodeError) -> Close {
    Close::new(v1::CLOSE_INVALID, printable(&error.to_string(), v1::MAX_CLOSE_REASON))
}

/// Text of a peer, made fit for a log line.
fn peer_text(text: &str) -> String {
    printable(text, 200)
}

/// What the largest message of a link so far takes of the relay's budget. The link's buffers keep that size, so it is
/// given back only with the link.
#[derive(Debug, Default)]
struct Large(Option<Reserved>);

impl Large {
    /// A message has, so far, this many bytes.
    fn receiving(&mut self, budget: &Budget, bytes: u64) -> Result<(), Close> {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        if bytes <= FREE_MESSAGE {
            return Ok(());
        }
        let has_room = match &mut self.0 {
            Some(reserved) => reserved.grow_to(bytes),
            none => {
                *none = budget.reserve(bytes);
                none.is_some()
            }
        };
        if has_room {
            Ok(())
        } else {
            Err(Close::new(v1::CLOSE_TOO_BIG, "too many large messages"))
        }
    }
}

/// Messages up to this size are not counted: every link may have one.
const FREE_MESSAGE: usize = 256 * 1024;

/// Whether `due` has come.
fn is_due(due: Option<Instant>, now: Instant) -> bool {
    due.is_some_and(|due| now >= due)
}

/// How a link ended, for a log line.
fn describe(ended: &Ended) -> String {
    match ended {
        Ended::Peer { code, reason } => {
            let code = code.map_or("no code".into(), |code| code.to_string());
            format!("closed by the peer ({code}) {}", peer_text(reason)).trim_end().into()
        }
        Ended::Local(close) if close.reason.is_empty() => format!("closed ({})", close.code),
        Ended::Local(close) | Ended::Violation(close) => {
            format!("closed ({}) {}", close.code, close.reason)
        }
        Ended::Lost(cause) => format!("lost: {cause}"),
    }
}
