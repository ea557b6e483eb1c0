//! The interop matrix: every mix of some implementations × end-to-end scenarios, each with real programs in all seats.
//!
//! Where a program of the original is known to do something else than the specification says (the boxes in
//! `spec/v1/README.md`), the cell says so by the clause in its box, and a run checks that it is still so.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::tunnel::Mix;
use crate::harness::{Client, DEADLINE, Origin, Tunnel, holds_within};

/// Fails the scenario unless this holds.
macro_rules! check {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err(format!($($message)+));
        }
    };
}

mod dials;
mod endings;
mod losses;
mod messages;
mod refusals;
mod transfers;

/// The scenarios by theme, in the order of the table.
pub const THEMES: [(&str, &[Scenario]); 6] = [
    ("Data", transfers::SCENARIOS),
    ("Refusals", refusals::SCENARIOS),
    ("Dials", dials::SCENARIOS),
    ("Endings", endings::SCENARIOS),
    ("Losses", losses::SCENARIOS),
    ("Bad messages", messages::SCENARIOS),
];

/// All scenarios, in the order of the table.
pub fn all() -> impl Iterator<Item = &'static Scenario> {
    THEMES.iter().flat_map(|(_, scenarios)| scenarios.iter())
}

/// How long a party is watched to see that it does nothing, where it should or should not end.
const IDLE: Duration = Duration::from_millis(1500);

/// What was seen, where nothing was wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// As specified.
    Good,
    /// Otherwise, as the boxes at these clauses say.
    Known(&'static str),
    /// The scenario was not played, for this reason.
    NotApplicable(&'static str),
}

/// What a scenario came to, or what went wrong.
pub type Outcome = Result<Seen, String>;

type Play = fn(&mut Tunnel, Mix) -> Outcome;

/// Something that people do with the three programs.
#[derive(Debug)]
pub struct Scenario {
    /// What reports call it.
    pub name: &'static str,
    play: Play,
    /// Whether several mixes run at the same time: it waits more than it works.
    is_idle: bool,
}

const fn busy(name: &'static str, play: Play) -> Scenario {
    Scenario { name, play, is_idle: false }
}

const fn idle(name: &'static str, play: Play) -> Scenario {
    Scenario { name, play, is_idle: true }
}

/// What one scenario came to with one mix.
#[derive(Debug, Clone)]
pub struct Cell {
    /// The mix.
    pub mix: Mix,
    /// What was seen.
    pub outcome: Outcome,
    /// How long it took.
    pub took: Duration,
}

impl Cell {
    /// `ok`, `as known` with the clauses, `n/a` or `FAILED`.
    pub fn text(&self) -> String {
        match &self.outcome {
            Ok(Seen::Good) => "ok".to_owned(),
            Ok(Seen::Known(clauses)) => format!("as known ({clauses})"),
            Ok(Seen::NotApplicable(_)) => "n/a".to_owned(),
            Err(_) => "FAILED".to_owned(),
        }
    }
}

/// A row of the matrix.
#[derive(Debug, Clone)]
pub struct Row {
    /// The scenario.
    pub scenario: &'static Scenario,
    /// What it came to with each mix, in the order of [`mixes`].
    pub cells: Vec<Cell>,
}

impl Row {
    /// The group that the scenario belongs to.
    pub fn theme(&self) -> &'static str {
        let has = |scenarios: &[Scenario]| scenarios.iter().any(|it| it.name == self.scenario.name);
        THEMES.iter().find(|(_, scenarios)| has(scenarios)).map_or("", |(theme, _)| theme)
    }
}

/// All mixes of these programs. A profile that has not all three programs is in the seats of those that it has.
pub fn mixes(origins: &[Origin]) -> Vec<Mix> {
    let seat = |has: fn(&crate::harness::profile::Profile) -> bool| {
        origins.iter().copied().filter(move |origin| match origin {
            Origin::Given(given) => has(&given.profile),
            _ => true,
        })
    };
    let mut mixes = Vec::new();
    for relay in seat(|profile| profile.relay.is_some()) {
        for agent in seat(|profile| profile.agent.is_some()) {
            for client in seat(|profile| profile.client.is_some()) {
                mixes.push(Mix { relay, agent, client });
            }
        }
    }
    mixes
}

/// Plays every scenario with every mix. `tell` hears of each cell as it is done.
pub fn run(
    scenarios: &[&'static Scenario],
    mixes: &[Mix],
    tell: impl Fn(&Scenario, &Cell) + Sync,
) -> Vec<Row> {
    let row = |&scenario: &&'static Scenario| {
        let jobs = if scenario.is_idle { IDLE_JOBS } else { 1 };
        Row { scenario, cells: run_row(scenario, mixes, jobs, &tell) }
    };
    scenarios.iter().map(row).collect()
}

/// How many mixes of a scenario that waits more than it works run at the same time: all of two implementations.
const IDLE_JOBS: usize = 8;

fn run_row(
    scenario: &'static Scenario,
    mixes: &[Mix],
    jobs: usize,
    tell: &(impl Fn(&Scenario, &Cell) + Sync),
) -> Vec<Cell> {
    let queue = Mutex::new(mixes.iter().copied().enumerate().collect::<VecDeque<_>>());
    let cells = Mutex::new(Vec::with_capacity(mixes.len()));
    thread::scope(|scope| {
        for _ in 0..jobs.min(mixes.len()) {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    let Some((index, mix)) = next else { return };
                    let cell = run_one(scenario, mix);
                    tell(scenario, &cell);
                    cells.lock().unwrap_or_else(PoisonError::into_inner).push((index, cell));
                }
            });
        }
    });
    let mut cells = cells.into_inner().unwrap_or_else(PoisonError::into_inner);
    cells.sort_by_key(|(index, _)| *index);
    cells.into_iter().map(|(_, cell)| cell).collect()
}

/// Plays a scenario with one mix, in a fresh tunnel: some break it, and some leave the original in a bad state.
fn run_one(scenario: &Scenario, mix: Mix) -> Cell {
    let start = Instant::now();
    let play = || (scenario.play)(&mut Tunnel::start(mix), mix);
    let outcome = catch_unwind(AssertUnwindSafe(play)).unwrap_or_else(panicked);
    Cell { mix, outcome, took: start.elapsed() }
}

/// What a wait in vain comes to: the others go on.
fn panicked(panic: Box<dyn Any + Send>) -> Outcome {
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    Err(text.unwrap_or_else(|| "a panic".to_owned()))
}

// ---- what the scenarios share ----

fn is_original(origin: Origin) -> bool {
    origin == Origin::Original
}

fn is_given(origin: Origin) -> bool {
    matches!(origin, Origin::Given(_))
}

/// Checks how a client ended: ours by its exit status, the original's by what it says, since it always exits with 0
/// when the relay has told it something, and a given one by whether it reports a failure, as its profile says.
fn check_end(mix: Mix, client: &mut Client, status: i32, words: &str) -> Result<(), String> {
    let ended = holds_within(DEADLINE, || client.process.ended().is_some());
    check!(ended, "the client still runs; it said {:?}", client.process.stderr());
    let got = client.process.wait();
    let said = client.process.stderr_at_end();
    match mix.client {
        Origin::Original => {
            check!(said.iter().any(|line| line.contains(words)), "not {words:?}: {said:?}");
        }
        Origin::Given(given) => {
            let marks = given.profile.client.as_ref().map_or(&[][..], |it| &it.failure_words);
            let is_marked = |line: &String| marks.iter().any(|mark| line.contains(mark));
            let failed = if marks.is_empty() { got != 0 } else { said.iter().any(is_marked) };
            let wanted = if status == 0 { "a clean end" } else { "a failure" };
            check!(failed == (status != 0), "not {wanted}: status {got}, {said:?}");
        }
        Origin::Ours | Origin::Peer => {
            check!(got == status, "status {got} instead of {status}: {said:?}");
            check!(said.len() == usize::from(status != 0), "lines: {said:?}");
        }
    }
    Ok(())
}

/// Whether a client goes on running, though nothing will ever come.
fn hangs(client: &mut Client) -> bool {
    !holds_within(IDLE, || client.process.ended().is_some())
}

fn check_echo(client: &mut Client, text: &str) -> Result<(), String> {
    let before = client.output.len();
    client.send(text.as_bytes());
    let came = client.output.wait_for(before + text.len());
    let came = String::from_utf8_lossy(&came[before..]).into_owned();
    check!(came == text, "{came:?} came instead of {text:?}: {:?}", client.process.stderr());
    Ok(())
}

const MIB: usize = 1 << 20;
