use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Agent, Client, Relay};

/// How long a case may take unless it says otherwise.
const LIMIT: Duration = Duration::from_secs(120);

/// Which party a case tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Seat {
    /// The relay; agents and clients are scripted.
    Relay,
    /// The agent; its relay is scripted, and targets are played.
    Agent,
    /// The client; its relay is scripted.
    Client,
}

impl fmt::Display for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Relay => "relay",
            Self::Agent => "agent",
            Self::Client => "client",
        })
    }
}

/// What a case came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// As the specification says.
    Pass,
    /// Otherwise.
    Fail,
    /// Allowed, but not as it should be: a SHOULD was not heeded.
    NonStrict,
    /// Something that may be left out was left out.
    Unimplemented,
    /// Not run, for what the profile lacks.
    Skipped,
}

impl Verdict {
    /// All verdicts, in the order in which reports count them.
    pub const ALL: [Self; 5] =
        [Self::Pass, Self::Fail, Self::NonStrict, Self::Unimplemented, Self::Skipped];
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::NonStrict => "non-strict",
            Self::Unimplemented => "unimplemented",
            Self::Skipped => "skipped",
        })
    }
}

/// Why a case ends before its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The party breaks the specification: what was seen.
    Fail(String),
    /// The party leaves out what it may leave out.
    Unimplemented(String),
    /// The case cannot be run with this profile.
    Skipped(String),
}

impl Finding {
    /// The party breaks the specification.
    pub fn fail(seen: impl Into<String>) -> Self {
        Self::Fail(seen.into())
    }
}

/// What a step of a case gives, and a case itself. A failed system call of the kit's own counts as a failure, too: no
/// case may pass that was not played.
pub type Outcome<T = ()> = Result<T, Finding>;

/// What a case does, by the seat it tests.
#[derive(Debug, Clone, Copy)]
pub enum Play {
    /// With a relay that has been started.
    Relay(fn(&Relay) -> Outcome),
    /// With an agent that has not been started yet.
    Agent(fn(&mut Agent) -> Outcome),
    /// With a client that has not been started yet.
    Client(fn(&mut Client) -> Outcome),
}

/// One case: a statement of the specification, or a part of it, seen from one seat.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// The number of its statement, and a letter where it has several cases: `X-7.b`.
    pub number: &'static str,
    /// Further statements that it shows.
    pub also: &'static [&'static str],
    /// What is tested, in a few words.
    pub title: &'static str,
    /// What the party has to do, as a sentence.
    pub expected: &'static str,
    /// What the case does.
    pub play: Play,
    /// About how long it takes beyond a moment. Long cases are started first.
    pub takes: Duration,
    /// How long it may take at most.
    pub limit: Duration,
}

/// A case for a relay.
pub const fn relay(
    number: &'static str,
    title: &'static str,
    expected: &'static str,
    play: fn(&Relay) -> Outcome,
) -> Case {
    case(number, title, expected, Play::Relay(play))
}

/// A case for an agent.
pub const fn agent(
    number: &'static str,
    title: &'static str,
    expected: &'static str,
    play: fn(&mut Agent) -> Outcome,
) -> Case {
    case(number, title, expected, Play::Agent(play))
}

/// A case for a client.
pub const fn client(
    number: &'static str,
    title: &'static str,
    expected: &'static str,
    play: fn(&mut Client) -> Outcome,
) -> Case {
    case(number, title, expected, Play::Client(play))
}

const fn case(
    number: &'static str,
    title: &'static str,
    expected: &'static str,
    play: Play,
) -> Case {
    Case { number, also: &[], title, expected, play, takes: Duration::ZERO, limit: LIMIT }
}

impl Case {
    /// The same case, which shows further statements, too.
    pub const fn also(mut self, statements: &'static [&'static str]) -> Self {
        self.also = statements;
        self
    }

    /// The same case, which takes about so many seconds because it waits for the party's own times. It may take two
    /// minutes more.
    pub const fn takes(mut self, seconds: u64) -> Self {
        self.takes = Duration::from_secs(seconds);
        self.limit = Duration::from_secs(seconds + LIMIT.as_secs());
        self
    }

    /// The same case, which may start its party again and again, about so many times. It may take ten seconds more for
    /// each: interpreters are slow to start on a busy machine.
    pub const fn starts(mut self, times: u64) -> Self {
        self.limit = Duration::from_secs(self.limit.as_secs() + 10 * times);
        self
    }

    /// What names the case everywhere: `v1/X-7.b`.
    pub fn id(&self) -> String {
        format!("v1/{}", self.number)
    }

    /// The statement that it is about.
    pub fn statement(&self) -> &'static str {
        self.number.split_once('.').map_or(self.number, |(statement, _)| statement)
    }

    /// Every statement that it shows.
    pub fn statements(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.statement()).chain(self.also.iter().copied())
    }

    /// The letter of its section.
    pub fn section(&self) -> &'static str {
        self.number.split_once('-').map_or(self.number, |(section, _)| section)
    }

    /// Whom it tests.
    pub fn seat(&self) -> Seat {
        match self.play {
            Play::Relay(_) => Seat::Relay,
            Play::Agent(_) => Seat::Agent,
            Play::Client(_) => Seat::Client,
        }
    }
}
