//! The prose of the specification holds together with what cites it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use generator::ir::{Constant, Value};

/// The numbered statements of v1, in their order: number and text, without boxes.
fn statements() -> Vec<(String, String)> {
    let prose = read("spec/v1/README.md");
    let mut statements: Vec<(String, String)> = Vec::new();
    for block in prose.split("\n\n") {
        if let Some((number, text)) =
            block.strip_prefix("**").and_then(|block| block.split_once("** "))
        {
            statements.push((number.to_owned(), text.to_owned()));
        } else if block.starts_with('|')
            && let Some((_, text)) = statements.last_mut()
        {
            text.push_str(block);
        }
    }
    statements
}

#[test]
fn every_paragraph_is_numbered_once_and_in_order() {
    let prose = read("spec/v1/README.md");
    let sections = prose.split("\n## ").skip(1);
    for section in sections {
        let (title, body) = section.split_once('\n').unwrap();
        let letter = title.rsplit(['(', ')']).nth(1).unwrap();
        let numbers: Vec<String> = body
            .split("\n\n")
            .filter_map(|block| {
                Some(block.trim_start().strip_prefix("**")?.split_once("**")?.0.to_owned())
            })
            .collect();
        let expected: Vec<String> = (1..=numbers.len()).map(|n| format!("{letter}-{n}")).collect();
        assert_eq!(numbers, expected, "{title}");
    }
}

/// Whatever is cited, anywhere, is there.
#[test]
fn citations_lead_somewhere() {
    let known: BTreeSet<String> = statements().into_iter().map(|(number, _)| number).collect();
    let mut cited = 0;
    for path in files_under(&["spec", "codec/tests/golden"]).into_iter().chain(code()) {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        for number in citations(&text) {
            assert!(known.contains(&number), "{} cites {number}", path.display());
            cited += 1;
        }
    }
    assert!(cited > 500, "only {cited} citations were found");
}

/// Each clause is cited where it is fulfilled or tested, or stands below with the reason why it is not.
#[test]
fn every_clause_is_cited_by_code_or_tests() {
    let cited: BTreeSet<String> = code()
        .into_iter()
        .filter(|path| !path.ends_with("v1/generated.rs") && !path.ends_with("tests/prose.rs"))
        // The cases of the conformance kit hold a peer to a clause; that is another matter, with a test of its own.
        .filter(|path| !path.ends_with("tests/coverage.rs") && !path.iter().any(|it| it == "cases"))
        .flat_map(|path| citations(&std::fs::read_to_string(path).unwrap()))
        .collect();
    let excused: BTreeSet<&str> = NOT_CITED.iter().map(|(clause, _)| *clause).collect();
    assert_eq!(excused.len(), NOT_CITED.len(), "a clause is listed twice");
    let known: Vec<String> = statements().into_iter().map(|(number, _)| number).collect();
    for clause in &excused {
        assert!(known.iter().any(|number| number == clause), "there is no {clause} to be listed");
    }
    let wrong: Vec<String> = known
        .into_iter()
        .filter_map(|number| match (cited.contains(&number), excused.contains(&*number)) {
            (false, false) => Some(format!("{number} is cited nowhere")),
            (true, true) => Some(format!("{number} is cited, though listed as not cited")),
            _ => None,
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Clauses that no code and no test cites, and why.
const NOT_CITED: &[(&str, &str)] = &[
    ("H-21", "these programs decline compression"),
    ("H-22", "what the Python implementation offers and takes; compression is declined"),
    ("H-23", "which variables the Python implementation reads"),
    ("M-13", "how the Python implementation sends; M-5 is what counts"),
    ("A-15", "texts that the Python implementation writes, for people to know"),
    ("C-16", "what the Python implementation does where C-9 leaves it free"),
    ("S-20", "what the Python implementation does where S-12 leaves it free"),
    ("S-21", "what systems make of unusual names"),
    ("E-2", "these programs have no custom messages"),
    ("E-3", "these programs have no custom messages"),
    ("R-4", "what relays of an old revision fail to do; nothing helps"),
    ("R-6", "what agents of an old revision fail to do; nothing helps"),
    ("R-11", "what relays of an old revision do; A-11 is the answer"),
    ("R-12", "what relays of an old revision fail to do; no option closes silent targets"),
    ("R-13", "what relays of an old revision fail to do; K-2 and C-10 are the answer"),
    ("R-14", "what relays of an old revision fail to do; nothing helps"),
    ("R-15", "what programs of an old revision do; K-6 and K-8 are the answer"),
    ("R-16", "what relays of an old revision do; A-11 is the answer"),
    ("R-17", "a date"),
];

#[test]
fn citations_are_found_in_the_forms_they_have() {
    let found = |text: &str| citations(text);
    assert_eq!(
        found("/// As told (spec v1, X-4 to X-6, and A-1 ff.)."),
        ["X-4", "X-5", "X-6", "A-1"]
    );
    assert_eq!(found("clauses Q-7 and Q-8; H-2"), ["Q-7", "Q-8", "H-2"]);
    assert!(found("SHA-1 1E-5 UTF-8 x-H-1 B-1 A-").is_empty());
}

/// Each constant is named by the clause it says it belongs to, and what the prose names in capitals is a constant.
#[test]
fn constants_and_clauses_name_each_other() {
    let constants = constants();
    let statements = statements();
    for constant in &constants {
        let (_, text) = statements.iter().find(|(number, _)| *number == constant.clause).unwrap();
        assert!(
            text.contains(&format!("`{}`", constant.name)),
            "{} does not name {}",
            constant.clause,
            constant.name
        );
        if let Value::CloseCode(code) = constant.value {
            assert!(
                text.contains(&format!("| {code} | `{}` |", constant.name)),
                "{} has another code",
                constant.name
            );
        }
    }
    let prose = read("spec/v1/README.md");
    for name in prose.split('`').skip(1).step_by(2) {
        let capitals =
            name.contains('_') && name.chars().all(|c| c.is_ascii_uppercase() || c == '_');
        assert!(
            !capitals || constants.iter().any(|constant| constant.name == name),
            "there is no constant {name}"
        );
    }
}

/// Numbers that are spelled out in texts agree with the constants they come from.
#[test]
fn numbers_in_texts_agree() {
    use codec::v1;
    assert_eq!(
        v1::ERROR_NO_ANSWER,
        format!("no answer from the agent within {} s", v1::RELAY_ANSWER_TIMEOUT.as_secs())
    );
    assert!(v1::CLIENT_ANSWER_TIMEOUT > v1::RELAY_ANSWER_TIMEOUT + v1::DIAL_TIMEOUT / 2);
    let largest = v1::data::encode_client(&vec![0; v1::MAX_FORWARDED_CHUNK]).len();
    assert!(largest <= v1::MAX_MESSAGE_TO_CLIENT);
    let largest = v1::data::encode_agent(
        "5c0a3f0e-7a52-4b7e-9d1c-3f6f6a1b2c3d",
        &vec![0; v1::MAX_FORWARDED_CHUNK],
    )
    .len();
    assert!(largest <= v1::MAX_MESSAGE_TO_AGENT_OLD);
    const { assert!(v1::MAX_CHUNK <= v1::MAX_FORWARDED_CHUNK && v1::MAX_CHUNK <= v1::STREAM_QUEUE) };
}

fn constants() -> Vec<Constant> {
    generator::lower(&generator::read(&root().join("spec/v1")).unwrap()).unwrap().constants
}

/// The numbers that a text cites, in order; `A-1 to A-3` cites those between as well.
fn citations(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut end_of_last = 0;
    for (start, _) in text.match_indices('-') {
        let mut before = text[..start].chars().rev();
        let Some(letter) = before.next().filter(|letter| LETTERS.contains(*letter)) else {
            continue;
        };
        let digits = text[start + 1..].bytes().take_while(u8::is_ascii_digit).count();
        let Ok(number) = text[start + 1..start + 1 + digits].parse::<u32>() else { continue };
        if before.next().is_some_and(|before| before.is_alphanumeric() || "-_.".contains(before)) {
            continue;
        }
        let goes_on = text[end_of_last..].starts_with(&format!(" to {letter}-"));
        if let Some(last) = found.last().filter(|_| goes_on)
            && let Ok(first) = last[2..].parse::<u32>()
        {
            found.extend((first + 1..number).map(|between| format!("{letter}-{between}")));
        }
        found.push(format!("{letter}-{number}"));
        end_of_last = start + 1 + digits;
    }
    found
}

/// The letters of v1's sections.
const LETTERS: &str = "HMACSKXLERQ";

/// All Rust of the tree.
fn code() -> Vec<PathBuf> {
    let mut files = files_under(&["relay", "agent", "client", "codec", "conformance"]);
    files.retain(|path| path.extension().is_some_and(|extension| extension == "rs"));
    files
}

fn files_under(places: &[&str]) -> Vec<PathBuf> {
    let mut left: Vec<PathBuf> = places.iter().map(|place| root().join(place)).collect();
    let mut files = Vec::new();
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if !path.to_string_lossy().ends_with("messages.jsonl") {
            files.push(path);
        }
    }
    files
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}
