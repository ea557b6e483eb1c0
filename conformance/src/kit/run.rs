//! Runs cases, several at a time, and says what each came to.

use std::any::Any;
use std::cmp::Reverse;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use super::expected::{Expectation, Expected};
use super::transcript::Event;
use super::{Agent, Case, Client, Finding, Outcome, Play, Relay, Stage, Verdict};
use crate::harness::profile::Profile;

/// How a run is made.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Whose programs are tested.
    pub profile: Arc<Profile>,
    /// What is expected of them.
    pub expected: Expected,
    /// How many cases run at the same time.
    pub jobs: usize,
    /// How long to wait for what should happen at once.
    pub patience: Duration,
}

/// What a case came to.
#[derive(Debug, Clone)]
pub struct Report {
    /// The case.
    pub case: &'static Case,
    /// The verdict.
    pub verdict: Verdict,
    /// What was seen; empty for `pass`.
    pub seen: String,
    /// What was expected of it with this profile.
    pub expectation: Expectation,
    /// How long it took.
    pub took: Duration,
    /// What was said, in order.
    pub events: Vec<Event>,
    /// The stderr of the programs, by name.
    pub logs: Vec<(String, Vec<String>)>,
}

impl Report {
    /// Whether it came to what was expected.
    pub fn is_expected(&self) -> bool {
        // A party that the profile does not have is no difference.
        self.verdict == Verdict::Skipped || self.expectation.holds(self.verdict, &self.seen)
    }
}

/// Runs cases and gives a report for each, in the order of the cases. `tell` hears of each as it ends. The cases' files
/// are kept in `folder` while they run.
pub fn run(
    cases: &[&'static Case],
    plan: &Plan,
    folder: &Path,
    tell: impl Fn(&Report) + Sync,
) -> Vec<Report> {
    let mut order: Vec<&'static Case> = cases.to_vec();
    order.sort_by_key(|case| Reverse(case.takes));
    let queue = Mutex::new(VecDeque::from(order));
    let reports = Mutex::new(Vec::with_capacity(cases.len()));
    thread::scope(|scope| {
        for _ in 0..plan.jobs.clamp(1, cases.len().max(1)) {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    let Some(case) = next else { return };
                    let report = run_one(case, plan, folder);
                    tell(&report);
                    reports.lock().unwrap_or_else(PoisonError::into_inner).push(report);
                }
            });
        }
    });
    let mut reports = reports.into_inner().unwrap_or_else(PoisonError::into_inner);
    let place = |case: &'static Case| cases.iter().position(|other| std::ptr::eq(*other, case));
    reports.sort_by_key(|report| place(report.case));
    reports
}

/// Runs one case.
pub fn run_one(case: &'static Case, plan: &Plan, folder: &Path) -> Report {
    let own = tempfile::Builder::new().prefix("case").tempdir_in(folder);
    let path = own.as_ref().map_or(folder, TempDir::path).to_owned();
    let stage = Arc::new(Stage::new(Arc::clone(&plan.profile), path, plan.patience, case.limit));
    let outcome = match &own {
        Ok(_) => play(case, &stage),
        Err(error) => Err(Finding::Fail(format!("the kit has no folder: {error}"))),
    };
    let remarks = stage.take_remarks();
    let (verdict, seen) = match outcome {
        Ok(()) if remarks.is_empty() => (Verdict::Pass, String::new()),
        Ok(()) => (Verdict::NonStrict, remarks.join("; ")),
        Err(Finding::Fail(seen)) => (Verdict::Fail, seen),
        Err(Finding::Unimplemented(seen)) => (Verdict::Unimplemented, seen),
        Err(Finding::Skipped(seen)) => (Verdict::Skipped, seen),
    };
    let logs = std::mem::take(&mut *stage.logs.lock().unwrap_or_else(PoisonError::into_inner));
    Report {
        case,
        verdict,
        seen,
        expectation: plan.expected.get(&case.id()),
        took: stage.transcript.elapsed(),
        events: stage.transcript.events(),
        logs,
    }
}

fn play(case: &Case, stage: &Arc<Stage>) -> Outcome {
    // A panic is a mistake of the case; the others go on.
    let guarded = |play: &mut dyn FnMut() -> Outcome| {
        catch_unwind(AssertUnwindSafe(play)).unwrap_or_else(|panic| Err(panicked(&*panic)))
    };
    match case.play {
        Play::Relay(play) => {
            let relay = Relay::start(Arc::clone(stage))?;
            let played = guarded(&mut || play(&relay));
            let ended = relay.end();
            played.and(ended)
        }
        Play::Agent(play) => {
            let mut agent = Agent::new(Arc::clone(stage))?;
            let played = guarded(&mut || play(&mut agent));
            agent.end();
            played
        }
        Play::Client(play) => {
            let mut client = Client::new(Arc::clone(stage))?;
            let played = guarded(&mut || play(&mut client));
            client.end();
            played
        }
    }
}

fn panicked(panic: &(dyn Any + Send)) -> Finding {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no text");
    Finding::Fail(format!("the case panicked: {text}"))
}
