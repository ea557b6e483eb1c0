//! The list of cases.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::cases::GROUPS;
use crate::kit::{Case, spec};

/// The title of the group that a case is in.
pub(super) fn group_of(case: &Case) -> &'static str {
    let holds = |cases: &[Case]| cases.iter().any(|other| other.number == case.number);
    GROUPS.iter().find(|(_, cases)| holds(cases)).map_or("", |(title, _)| title)
}

/// As Markdown: a table for each group, and the statements that no peer can see.
pub fn markdown() -> String {
    let mut text = String::from("# Cases of protocol v1\n");
    for (title, cases) in GROUPS {
        // Writing to a String cannot fail.
        let _ =
            write!(text, "\n## {title}\n\n| case | seat | tests | expected |\n|---|---|---|---|\n");
        for case in cases {
            let also = case.also.iter().map(|number| format!(" {number}")).collect::<String>();
            let also = if also.is_empty() { also } else { format!(" (also{also})") };
            let (id, seat) = (case.id(), case.seat());
            let _ = writeln!(text, "| {id}{also} | {seat} | {} | {} |", case.title, case.expected);
        }
    }
    text.push_str("\n## Statements that no peer can see\n\n| statement | why |\n|---|---|\n");
    for (number, reason) in spec::unseen() {
        let _ = writeln!(text, "| {number} | {reason} |");
    }
    text
}

/// As JSON: one object per case.
pub fn json() -> String {
    let case = |(title, case): (&str, &Case)| {
        json!({
            "id": case.id(), "group": title, "seat": case.seat(), "title": case.title,
            "expected": case.expected, "clauses": case.statements().collect::<Vec<_>>(),
            "seconds": case.takes.as_secs(),
        })
    };
    let cases = GROUPS.iter().flat_map(|(title, cases)| cases.iter().map(move |it| (*title, it)));
    format!("{:#}\n", Value::Array(cases.map(case).collect()))
}
