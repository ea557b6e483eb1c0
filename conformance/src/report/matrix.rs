//! What the interop matrix came to.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::harness::Origin;
use crate::matrix::{Cell, Row, Seen};

/// The matrix as a Markdown table, with a row for each scenario and a column for each mix.
pub fn table(rows: &[Row]) -> String {
    let Some(first) = rows.first() else { return String::new() };
    let names: Vec<_> = parties(rows).iter().map(|(key, it)| format!("{key} {it}")).collect();
    let mut table = format!("| scenario (relay, agent, client: {}) |", names.join(", "));
    for cell in &first.cells {
        // Writing to a String cannot fail.
        let _ = write!(table, " {} |", cell.mix.letters());
    }
    let _ = write!(table, "\n|---|{}\n", "---|".repeat(first.cells.len()));
    for row in rows {
        let _ = write!(table, "| {} |", row.scenario.name);
        for cell in &row.cells {
            let _ = write!(table, " {} |", cell.text());
        }
        table.push('\n');
    }
    table
}

/// What went wrong, one text for each cell that is neither as specified nor as known.
pub fn failures(rows: &[Row]) -> Vec<String> {
    let of_row = |row: &Row| -> Vec<String> {
        let name = row.scenario.name;
        let failure = |cell: &Cell| {
            let error = cell.outcome.as_ref().err()?;
            Some(format!("{} {name}: {error}", cell.mix.letters()))
        };
        row.cells.iter().filter_map(failure).collect()
    };
    rows.iter().flat_map(of_row).collect()
}

/// The table, what went wrong, and the figures, for a terminal.
pub fn summary(rows: &[Row]) -> String {
    let mut text = table(rows);
    text.push('\n');
    for failure in failures(rows) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "FAILED {failure}");
    }
    let cells = || rows.iter().flat_map(|row| &row.cells);
    let count = |kind: &&str| cells().filter(|cell| verdict(cell) == *kind).count();
    let counts = VERDICTS.iter().map(|kind| (count(kind), kind)).filter(|(count, _)| *count > 0);
    let counts: Vec<_> = counts.map(|(count, kind)| format!("{count} {kind}")).collect();
    let _ = writeln!(text, "matrix: {}", counts.join(", "));
    text
}

const VERDICTS: [&str; 4] = ["ok", "known", "n/a", "failed"];

fn verdict(cell: &Cell) -> &'static str {
    match cell.outcome {
        Ok(Seen::Good) => "ok",
        Ok(Seen::Known(_)) => "known",
        Ok(Seen::NotApplicable(_)) => "n/a",
        Err(_) => "failed",
    }
}

/// The implementations in the seats, by letter.
fn parties(rows: &[Row]) -> BTreeMap<char, &'static str> {
    let mixes = rows.iter().flat_map(|row| &row.cells).map(|cell| cell.mix);
    let origins = mixes.flat_map(|mix| [mix.relay, mix.agent, mix.client]);
    origins.map(|origin: Origin| (origin.letter(), origin.name())).collect()
}

/// The matrix as a part of the report's document.
pub(super) fn json(rows: &[Row]) -> Value {
    let cell = |cell: &Cell| {
        let detail = match &cell.outcome {
            Ok(Seen::Good) => "",
            Ok(Seen::Known(text) | Seen::NotApplicable(text)) => text,
            Err(error) => error,
        };
        json!({
            "mix": cell.mix.letters(),
            "verdict": verdict(cell),
            "detail": detail,
            "seconds": (cell.took.as_secs_f64() * 1000.0).round() / 1000.0,
        })
    };
    let row = |row: &Row| {
        let cells: Vec<_> = row.cells.iter().map(cell).collect();
        json!({ "theme": row.theme(), "scenario": row.scenario.name, "cells": cells })
    };
    let parties: BTreeMap<_, _> =
        parties(rows).into_iter().map(|(letter, name)| (letter.to_string(), name)).collect();
    json!({ "parties": parties, "rows": rows.iter().map(row).collect::<Vec<_>>() })
}
