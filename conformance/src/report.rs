//! What a run came to, for people and for machines.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::kit::Verdict;
use crate::kit::run::{Plan, Report};
use crate::kit::spec;
use crate::matrix::Row;

mod html;
mod junit;
pub mod list;
pub mod matrix;
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

/// A part of the report's document; each subcommand makes its own.
#[derive(Debug)]
pub struct Part(Value);

/// The part of a run of the cases.
pub fn of_cases(summary: &Summary, reports: &[Report]) -> Part {
    let cases: Vec<Value> = reports.iter().map(case).collect();
    let unseen: Vec<Value> = spec::unseen()
        .iter()
        .map(|(number, reason)| json!({ "statement": number, "reason": reason }))
        .collect();
    Part(json!({ "summary": summary, "cases": cases, "unseen": unseen }))
}

/// The part of the interop matrix.
pub fn of_matrix(rows: &[Row]) -> Part {
    Part(json!({ "matrix": matrix::json(rows) }))
}

/// Writes `report.json`, `junit.xml` and `index.html` into a folder, which is made if need be. Parts that a report there
/// has already stay, but for the one that is written again.
///
/// # Errors
///
/// When they cannot be written, or the folder has a `report.json` of another kind.
pub fn write(folder: &Path, part: Part) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let file = folder.join("report.json");
    let mut all: Map<String, Value> = match std::fs::read_to_string(&file) {
        Ok(text) => serde_json::from_str(&text)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Map::new(),
        Err(error) => return Err(error),
    };
    if let Value::Object(part) = part.0 {
        all.extend(part);
    }
    let all = Value::Object(all);
    std::fs::write(file, format!("{all:#}\n"))?;
    std::fs::write(folder.join("junit.xml"), junit::text(&all))?;
    std::fs::write(folder.join("index.html"), html::page(&all))
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
