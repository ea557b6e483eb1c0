//! What a client tells its user while it goes on.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Target;

/// Something that the user of a client should know, though nothing has ended. The text is one line.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// The link to the relay has been lost for a while.
    LinkAway {
        /// The relay.
        relay: String,
        /// What is known of the cause.
        cause: String,
        /// How many streams wait.
        streams: usize,
        /// How long they do.
        resume_for: Duration,
    },
    /// The agent has been out of the relay's reach for a while.
    AgentAway {
        /// The agent's name.
        agent: String,
        /// How many streams wait.
        streams: usize,
        /// How long they do.
        resume_for: Duration,
    },
    /// What was away is back.
    Back {
        /// How long it was away.
        after: Duration,
    },
    /// The relay cannot be had for now; it is tried again.
    Refused {
        /// Why, in a sentence.
        reason: String,
    },
    /// Connections are accepted.
    Listening {
        /// Where, with the port that the system has chosen.
        bound: String,
        /// The agent's name.
        agent: String,
        /// Where they lead.
        target: Target,
    },
    /// A connection that was accepted did not come through.
    Failed {
        /// Why, in a sentence.
        reason: String,
    },
    /// No connections can be accepted for now.
    Exhausted {
        /// What the system says.
        reason: String,
    },
}

/// Where notices go; called on the client's thread, and must not block.
pub type Notices = Arc<dyn Fn(&Notice) + Send + Sync>;

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LinkAway { relay, cause, streams, resume_for } => {
                write!(f, "the link to the relay at {relay} was lost: {cause}; ")?;
                if *streams == 0 {
                    return f.write_str("dialling it again");
                }
                write_waiting(f, *streams, *resume_for)
            }
            Self::AgentAway { agent, streams, resume_for } => {
                write!(f, "agent \"{agent}\" is out of the relay's reach; ")?;
                write_waiting(f, *streams, *resume_for)
            }
            Self::Back { after } => {
                write!(f, "back after {:.1} s; everything goes on", after.as_secs_f32())
            }
            Self::Refused { reason } => write!(f, "{reason}; trying again"),
            Self::Listening { bound, agent, target } => {
                write!(f, "listening on {bound}, for {target} behind agent \"{agent}\"")
            }
            Self::Failed { reason } => f.write_str(reason),
            Self::Exhausted { reason } => write!(f, "no new connections for now: {reason}"),
        }
    }
}

fn write_waiting(f: &mut fmt::Formatter<'_>, streams: usize, time: Duration) -> fmt::Result {
    match streams {
        1 => f.write_str("the stream waits")?,
        _ => write!(f, "{streams} streams wait")?,
    }
    write!(f, " for up to {} s", time.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_notice_is_one_line() {
        let relay = || "wss://relay.example.org/ws_for_access_clients".to_owned();
        let resume_for = Duration::from_secs(180);
        let agent = || "workshop".to_owned();
        let notices = [
            Notice::LinkAway {
                relay: relay(),
                cause: "connection reset by peer".into(),
                streams: 1,
                resume_for,
            },
            Notice::LinkAway {
                relay: relay(),
                cause: "the connection was closed".into(),
                streams: 0,
                resume_for,
            },
            Notice::AgentAway { agent: agent(), streams: 3, resume_for },
            Notice::Back { after: Duration::from_millis(12_340) },
            Notice::Refused { reason: format!("{} is stopping", relay()) },
            Notice::Listening {
                bound: "127.0.0.1:40123".into(),
                agent: agent(),
                target: Target { host: "localhost".into(), port: 22 },
            },
            Notice::Exhausted { reason: "too many open files".into() },
        ];
        let lines: Vec<_> = notices.iter().map(Notice::to_string).collect();
        insta::assert_snapshot!(lines.join("\n"));
    }
}
