//! Every order of events of one small stream, with the real cores.
//!
//! Breadth first over all states, told apart by fingerprints. There is no clock: an alarm may go off at any moment, in
//! the order in which it would, and each party has a time of its own. What is sent is on its link at once, where it may
//! wait for as long as it likes; a link that is cut still delivers any beginning of what is on it. Each step is checked as
//! it is taken, and of every state it is asked afterwards whether it can still settle without further faults.

mod party;
mod state;

use std::collections::hash_map::DefaultHasher;
use std::collections::{HashMap, VecDeque};
use std::fmt::Write as _;
use std::hash::Hasher as _;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::Failure;
use state::State;

/// What a search explores.
#[derive(Clone, Copy, Debug)]
pub struct Scope {
    /// In words.
    pub name: &'static str,
    /// Bytes from client to target, and from target to client.
    pub bytes: [u64; 2],
    /// Of each direction, and what a sender keeps.
    pub window: u64,
    /// One or two.
    pub relays: usize,
    /// Attempts in all; one that would be made beyond that is not, and such a state need not settle.
    pub attempts: u32,
    /// How often what may happen.
    pub faults: Faults,
}

/// How often what may go wrong in one search.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Faults {
    /// A link is cut, or one side takes it for dead.
    pub cuts: u8,
    /// A relay is killed and forgets everything.
    pub relay: u8,
    /// An agent is killed and forgets everything.
    pub agent: u8,
    /// The agent's resume time ends while the client still wants the stream.
    pub expiry: u8,
    /// The client's resume time ends.
    pub give_up: u8,
    /// The user interrupts.
    pub interrupts: u8,
    /// The target resets, or refuses.
    pub target: u8,
    /// Nobody answers an attempt in time.
    pub silence: u8,
}

/// What a search found.
#[derive(Debug)]
pub struct Report {
    /// States that differ.
    pub states: usize,
    /// Steps between them.
    pub steps: usize,
    /// States in which everything is over.
    pub settled: usize,
    /// Steps to the farthest.
    pub depth: u32,
    /// What was wrong, and the way to it.
    pub failure: Option<Failure>,
}

/// What may happen in a state. Links are counted from the oldest that is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    ClientConnects(usize),
    AgentConnects(usize),
    /// A frame arrives: of a client's or an agent's link, towards the relay or away from it.
    Arrives {
        agent: bool,
        link: usize,
        up: bool,
    },
    /// One side of a link that is no longer whole sees that.
    Notices {
        agent: bool,
        link: usize,
        relay: bool,
    },
    ClientConsumes,
    TargetConsumes,
    TargetConnects,
    ClientAlarm,
    AgentAlarm,
    Cut {
        agent: bool,
        link: usize,
    },
    RelayRestarts(usize),
    AgentRestarts,
    UserInterrupts,
    TargetFails,
    /// Alarms that are faults: a time ends although it need not.
    ClientGivesUp,
    NobodyAnswers,
    AgentGivesUp,
}

impl Action {
    fn is_fault(self) -> bool {
        matches!(
            self,
            Self::Cut { .. }
                | Self::RelayRestarts(_)
                | Self::AgentRestarts
                | Self::UserInterrupts
                | Self::TargetFails
                | Self::ClientGivesUp
                | Self::NobodyAnswers
                | Self::AgentGivesUp
        )
    }
}

/// Explores everything within a scope, or as many states as are allowed.
pub fn explore(scope: &Scope, most_states: usize) -> Report {
    let mut report = Report { states: 0, steps: 0, settled: 0, depth: 0, failure: None };
    let first = State::new(scope);
    let mut known: HashMap<u64, u32> = HashMap::from([(fingerprint(&first), 0)]);
    // The way to each state: where from, by which of the actions there.
    let mut ways: Vec<(u32, u16)> = vec![(0, 0)];
    let mut waiting = VecDeque::from([(0_u32, 0_u32, first)]);
    let mut calm: Vec<(u32, u32)> = Vec::new();
    let mut good: Vec<u32> = Vec::new();
    let mut actions = Vec::new();
    'search: while let Some((index, depth, state)) = waiting.pop_front() {
        report.depth = depth;
        if state.is_settled() {
            report.settled += 1;
            good.push(index);
        }
        if state.is_at_its_bound(scope) {
            good.push(index);
        }
        actions.clear();
        state.actions(scope, &mut actions);
        for (at, &action) in actions.iter().enumerate() {
            report.steps += 1;
            let mut next = state.clone();
            let done = catch_unwind(AssertUnwindSafe(|| next.act(scope, action)));
            if let Some(what) = failure_of(done) {
                let mut text = format!("{what}\n");
                way_to(scope, &ways, index, &mut text);
                let _ = writeln!(text, "{action:?}");
                report.failure = Some(Failure(text));
                break 'search;
            }
            let fresh = u32::try_from(ways.len()).unwrap_or(u32::MAX);
            let number = *known.entry(fingerprint(&next)).or_insert(fresh);
            if !action.is_fault() {
                calm.push((number, index));
            }
            if number == fresh {
                ways.push((index, u16::try_from(at).unwrap_or(u16::MAX)));
                if ways.len() > most_states {
                    report.failure = Some(Failure(format!("more than {most_states} states")));
                    break 'search;
                }
                waiting.push_back((number, depth + 1, next));
            }
        }
    }
    report.states = ways.len();
    if report.failure.is_none()
        && let Some(stuck) = first_stuck(ways.len(), &calm, good)
    {
        let mut text = "stuck: it cannot settle any more, even without further faults\n".to_owned();
        way_to(scope, &ways, stuck, &mut text);
        report.failure = Some(Failure(text));
    }
    report
}

fn failure_of(done: std::thread::Result<Result<(), Failure>>) -> Option<String> {
    match done {
        Ok(done) => done.err().map(|failure| failure.0),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|it| (*it).to_owned()));
            Some(format!("panic: {}", text.unwrap_or_default()))
        }
    }
}

/// Writes down how a state is reached.
fn way_to(scope: &Scope, ways: &[(u32, u16)], index: u32, text: &mut String) {
    let mut way = Vec::new();
    let mut at = index;
    while at != 0 {
        let (from, action) = ways[at as usize];
        way.push(usize::from(action));
        at = from;
    }
    let mut state = State::new(scope);
    for index in way.into_iter().rev() {
        let mut actions = Vec::new();
        state.actions(scope, &mut actions);
        let _ = writeln!(text, "{}", state.described(actions[index]));
        let done = state.act(scope, actions[index]);
        debug_assert!(done.is_ok(), "it went well before");
    }
    let _ = writeln!(text, "then: {}", state.summary());
}

/// The earliest state from which no good one can be reached without faults.
fn first_stuck(states: usize, calm: &[(u32, u32)], good: Vec<u32>) -> Option<u32> {
    let mut from: Vec<Vec<u32>> = vec![Vec::new(); states];
    for (to, at) in calm {
        from[*to as usize].push(*at);
    }
    let mut is_good = vec![false; states];
    let mut todo = good;
    for at in &todo {
        is_good[*at as usize] = true;
    }
    while let Some(at) = todo.pop() {
        for before in &from[at as usize] {
            if !std::mem::replace(&mut is_good[*before as usize], true) {
                todo.push(*before);
            }
        }
    }
    is_good.iter().position(|good| !good).and_then(|at| u32::try_from(at).ok())
}

fn fingerprint(state: &State) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.fingerprint(&mut hasher);
    hasher.finish()
}

/// What a run of the tests explores.
pub const SMALL: &[Scope] = &[
    Scope { faults: Faults { cuts: 1, ..NONE }, ..FEW.named("1 cut") },
    Scope { faults: Faults { relay: 1, ..NONE }, ..FEW.named("1 relay restart") },
    Scope {
        faults: Faults { agent: 1, target: 1, ..NONE },
        ..FEW.named("agent restarts, target fails")
    },
    Scope {
        faults: Faults { silence: 1, interrupts: 1, ..NONE },
        ..FEW.named("silence, interrupt")
    },
];

/// What takes minutes.
pub const LARGE: &[Scope] = &[
    Scope { faults: Faults { cuts: 2, ..NONE }, attempts: 4, ..BASE.named("2 cuts") },
    Scope {
        faults: Faults { cuts: 1, silence: 1, ..NONE },
        attempts: 4,
        ..BASE.named("1 cut, silence")
    },
    Scope { faults: Faults { cuts: 1, agent: 1, ..NONE }, ..BASE.named("1 cut, agent restarts") },
    Scope { faults: Faults { cuts: 1, relay: 1, ..NONE }, ..BASE.named("1 cut, relay restarts") },
    Scope { faults: Faults { cuts: 1, target: 1, ..NONE }, ..BASE.named("1 cut, target fails") },
    Scope {
        faults: Faults { cuts: 1, interrupts: 1, ..NONE },
        ..BASE.named("1 cut, user interrupts")
    },
    Scope {
        faults: Faults { cuts: 1, expiry: 1, give_up: 1, ..NONE },
        ..BASE.named("1 cut, times end")
    },
    Scope { faults: Faults { cuts: 1, ..NONE }, relays: 2, ..BASE.named("2 relays, 1 cut") },
    Scope {
        faults: Faults { silence: 1, cuts: 1, ..NONE },
        bytes: [1, 1],
        relays: 2,
        ..BASE.named("2 relays, 1 cut, silence")
    },
    Scope {
        faults: Faults { cuts: 1, ..NONE },
        bytes: [3, 3],
        window: 2,
        ..BASE.named("3 bytes each way, window 2, 1 cut")
    },
];

const NONE: Faults = Faults {
    cuts: 0,
    relay: 0,
    agent: 0,
    expiry: 0,
    give_up: 0,
    interrupts: 0,
    target: 0,
    silence: 0,
};

const BASE: Scope =
    Scope { name: "", bytes: [2, 1], window: 1, relays: 1, attempts: 3, faults: NONE };

/// Two attempts: the first, and what comes of it.
const FEW: Scope = Scope { attempts: 2, ..BASE };

impl Scope {
    const fn named(self, name: &'static str) -> Self {
        Self { name, ..self }
    }
}
