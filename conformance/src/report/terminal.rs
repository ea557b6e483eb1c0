//! Progress and summary for a terminal.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use super::Summary;
use crate::kit::Verdict;
use crate::kit::run::Report;

/// Says on stderr how far a run has come: one line that moves on a terminal, one line per case elsewhere.
#[derive(Debug)]
pub struct Progress {
    total: usize,
    is_terminal: bool,
    done: Mutex<usize>,
}

/// Says something on stderr, on a line of its own.
pub fn note(line: &str) {
    // A stderr that is gone is no reason to stop.
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

impl Progress {
    /// Nothing is done yet of so many cases.
    pub fn new(total: usize) -> Self {
        Self { total, is_terminal: std::io::stderr().is_terminal(), done: Mutex::new(0) }
    }

    /// A case has ended.
    pub fn tell(&self, report: &Report) {
        let what = format!("{} {}", report.case.id(), report.verdict);
        self.tell_of(&what, report.took, report.is_expected());
    }

    /// Something has ended.
    pub fn tell_of(&self, what: &str, took: Duration, is_expected: bool) {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        *done += 1;
        let seconds = took.as_secs_f32();
        let line = format!("{:>4}/{} {what} ({seconds:.1} s)", *done, self.total);
        let mut stderr = std::io::stderr().lock();
        // A stderr that is gone is no reason to stop.
        let _ = match (self.is_terminal, is_expected) {
            (true, true) => write!(stderr, "\r\x1b[K{line}"),
            (true, false) => writeln!(stderr, "\r\x1b[K{line} UNEXPECTED"),
            (false, true) => writeln!(stderr, "{line}"),
            (false, false) => writeln!(stderr, "{line} UNEXPECTED"),
        };
        if self.is_terminal && *done == self.total {
            let _ = write!(stderr, "\r\x1b[K");
        }
    }
}

/// What the whole run came to: the cases that are not as expected, and the figures.
pub fn summary(summary: &Summary, reports: &[Report]) -> String {
    let mut text = String::new();
    for report in reports.iter().filter(|report| !report.is_expected()) {
        let (case, wanted) = (report.case, &report.expectation);
        let (id, seat, verdict) = (case.id(), case.seat(), report.verdict);
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{id} ({seat}): {verdict}, but {} was expected", wanted.verdict);
        let _ = writeln!(text, "  tests:    {}", case.title);
        let _ = writeln!(text, "  expected: {}", case.expected);
        let _ = writeln!(text, "  seen:     {}", or(&report.seen, "as specified"));
        if wanted.verdict != Verdict::Pass {
            let _ = writeln!(text, "  known:    {:?}, {}", wanted.seen, wanted.reason);
        }
        text.push_str(&transcript(report));
        text.push('\n');
    }
    let counts = summary.counts.iter().filter(|(_, count)| **count > 0);
    let counts: Vec<_> = counts.map(|(verdict, count)| format!("{count} {verdict}")).collect();
    let _ = writeln!(text, "{}: {}", summary.profile, counts.join(", "));
    let _ = writeln!(
        text,
        "{} of {} statements cannot be seen by a peer",
        summary.unseen, summary.statements
    );
    let _ = match summary.unexpected {
        0 => writeln!(text, "everything is as expected"),
        count => writeln!(text, "{count} not as expected"),
    };
    text
}

fn or<'a>(text: &'a str, otherwise: &'a str) -> &'a str {
    if text.is_empty() { otherwise } else { text }
}

/// What was said in a case, one line for each event.
fn transcript(report: &Report) -> String {
    let mut text = String::new();
    for event in &report.events {
        let seconds = event.at_ms as f64 / 1000.0;
        let who = if event.from == event.to {
            event.from.clone()
        } else {
            format!("{} -> {}", event.from, event.to)
        };
        let said = event.text.escape_debug();
        let _ = writeln!(text, "  {seconds:>8.3} {who}: {} {said}", event.kind);
    }
    for (name, lines) in &report.logs {
        for line in lines.iter().rev().take(LOG_LINES).rev() {
            let _ = writeln!(text, "  [{name}] {line}");
        }
    }
    text
}

/// How much of a program's log is shown.
const LOG_LINES: usize = 30;
