//! What a run came to, for people and for machines.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};

use crate::kit::Verdict;
use crate::kit::run::{Plan, Report};
use crate::kit::spec;

mod html;
mod junit;
pub mod list;
pub mod terminal;

/// The figures of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// Whose programs were tested.
    pub profile: String,
    /// How many cases came to each verdict.
    pub counts: BTreeMap<Verdict, usize>,
    /// How many came to something else than expected.
    pub unexpected: usize,
    /// How many numbered statements the specification has.
    pub statements: usize,
    /// How many of these no peer can see.
    pub unseen: usize,
}

impl Summary {
    /// The figures of these reports.
    pub fn of(plan: &Plan, reports: &[Report]) -> Self {
        let count = |verdict| reports.iter().filter(|it| it.verdict == verdict).count();
        Self {
            profile: plan.profile.name.clone(),
            counts: Verdict::ALL.into_iter().map(|verdict| (verdict, count(verdict))).collect(),
            unexpected: reports.iter().filter(|report| !report.is_expected()).count(),
            statements: spec::statements().count(),
            unseen: spec::unseen().len(),
        }
    }
}

/// Writes `report.json`, `junit.xml` and `index.html` into a folder, which is made if need be.
///
/// # Errors
///
/// When they cannot be written.
pub fn write(folder: &Path, summary: &Summary, reports: &[Report]) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let all = json(summary, reports);
    std::fs::write(folder.join("report.json"), format!("{all:#}\n"))?;
    std::fs::write(folder.join("junit.xml"), junit::text(summary, reports))?;
    std::fs::write(folder.join("index.html"), html::page(&all))
}

/// The whole report as one document.
fn json(summary: &Summary, reports: &[Report]) -> Value {
    let cases: Vec<Value> = reports.iter().map(case).collect();
    let unseen: Vec<Value> = spec::unseen()
        .iter()
        .map(|(number, reason)| json!({ "statement": number, "reason": reason }))
        .collect();
    json!({ "summary": summary, "cases": cases, "unseen": unseen })
}

fn case(report: &Report) -> Value {
    let case = report.case;
    let clauses: Vec<Value> = case
        .statements()
        .map(|number| {
            let statement = spec::statement(number);
            let text = |part: fn(&spec::Statement) -> &String| statement.map(part);
            json!({
                "number": number,
                "text": text(|statement| &statement.text),
                "deviation": text(|statement| &statement.deviation),
            })
        })
        .collect();
    let logs: Vec<Value> = report
        .logs
        .iter()
        .map(|(name, lines)| json!({ "program": name, "stderr": lines }))
        .collect();
    json!({
        "id": case.id(),
        "group": list::group_of(case),
        "seat": case.seat(),
        "title": case.title,
        "expected": case.expected,
        "clauses": clauses,
        "verdict": report.verdict,
        "seen": report.seen,
        "expected_verdict": report.expectation.verdict,
        "reason": report.expectation.reason,
        "is_expected": report.is_expected(),
        "seconds": (report.took.as_secs_f64() * 1000.0).round() / 1000.0,
        "events": report.events,
        "logs": logs,
    })
}
