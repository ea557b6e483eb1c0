//! The prose of the specification holds together with what cites it.
//!
//! A clause has the letters of its section and a number: one letter in v1 (`H-1`), two in v2 (`NG-1`), so that a number
//! names its version.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use codec::v2::{Code, Control, Message};
use generator::ir::{Bounds, Constant, Module, Shape, Value};

/// A version's folder, and how many letters the numbers of its clauses have.
const VERSIONS: [(&str, usize); 2] = [("v1", 1), ("v2", 2)];

fn prose(version: &str) -> String {
    read(&format!("spec/{version}/README.md"))
}

/// The sections of a version, in their order: letters and text.
fn sections(version: &str) -> Vec<(String, String)> {
    let prose = prose(version);
    let sections = prose.split("\n## ").skip(1);
    sections
        .map(|section| {
            let (title, body) = section.split_once('\n').unwrap();
            (title.rsplit(['(', ')']).nth(1).unwrap().to_owned(), body.to_owned())
        })
        .collect()
}

/// The numbered statements of a version, in their order: number and text, without boxes.
fn statements(version: &str) -> Vec<(String, String)> {
    let prose = prose(version);
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

/// The numbers of all statements.
fn known() -> BTreeSet<String> {
    VERSIONS.iter().flat_map(|(version, _)| statements(version)).map(|(number, _)| number).collect()
}

#[test]
fn every_paragraph_is_numbered_once_and_in_order() {
    for (version, letters) in VERSIONS {
        for (section, body) in sections(version) {
            assert_eq!(section.len(), letters, "{version}: {section}");
            let numbers: Vec<String> = body
                .split("\n\n")
                .filter_map(|block| {
                    Some(block.trim_start().strip_prefix("**")?.split_once("**")?.0.to_owned())
                })
                .collect();
            let expected: Vec<String> =
                (1..=numbers.len()).map(|n| format!("{section}-{n}")).collect();
            assert_eq!(numbers, expected, "{version}: {section}");
        }
    }
}

/// Nothing of v2 stands in a section without a number, but for tables, diagrams and boxes.
#[test]
fn nothing_in_v2_is_without_a_number() {
    for (section, body) in sections("v2") {
        let mut in_diagram = false;
        for block in body.split("\n\n").map(str::trim).filter(|block| !block.is_empty()) {
            let inside = in_diagram;
            in_diagram ^= block.matches("```").count() % 2 == 1;
            let numbered = block.starts_with(&format!("**{section}-"));
            assert!(
                inside || numbered || block.starts_with(['|', '>', '`']),
                "{section} has a paragraph without a number: {block}"
            );
        }
    }
}

/// Whatever is cited, anywhere, is there.
#[test]
fn citations_lead_somewhere() {
    let known = known();
    let mut cited = 0;
    for path in files_under(&["spec", "codec/tests/golden"]).into_iter().chain(code()) {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        for number in citations(&text) {
            assert!(known.contains(&number), "{} cites {number}", path.display());
            cited += 1;
        }
        let strays = if path.ends_with("tests/prose.rs") { Vec::new() } else { strays(&text) };
        assert!(strays.is_empty(), "{} cites another version's: {strays:?}", path.display());
    }
    assert!(cited > 500, "only {cited} citations were found");
}

/// Each clause is cited where it is fulfilled or tested, or stands below with the reason why it is not.
#[test]
fn every_clause_is_cited_by_code_or_tests() {
    let generated =
        |path: &Path| VERSIONS.iter().any(|(v, _)| path.ends_with(format!("{v}/generated.rs")));
    let cited: BTreeSet<String> = code()
        .into_iter()
        .filter(|path| !generated(path) && !path.ends_with("tests/prose.rs"))
        // The cases of the conformance kit hold a peer to a clause; that is another matter, with a test of its own.
        .filter(|path| !path.ends_with("tests/coverage.rs") && !path.iter().any(|it| it == "cases"))
        .flat_map(|path| citations(&std::fs::read_to_string(path).unwrap()))
        .collect();
    let excused: BTreeSet<&str> = NOT_CITED.iter().map(|(clause, _)| *clause).collect();
    assert_eq!(excused.len(), NOT_CITED.len(), "a clause is listed twice");
    let known = known();
    for clause in &excused {
        assert!(known.contains(*clause), "there is no {clause} to be listed");
    }
    let mut wrong: Vec<String> = Vec::new();
    let mut missing: BTreeMap<&str, usize> = UNFINISHED.iter().map(|s| (*s, 0)).collect();
    for number in &known {
        let section = number.split('-').next().unwrap_or_default();
        match (cited.contains(number), excused.contains(&**number)) {
            (false, false) => match missing.get_mut(section) {
                Some(count) => *count += 1,
                None => wrong.push(format!("{number} is cited nowhere")),
            },
            (true, true) => wrong.push(format!("{number} is cited, though listed as not cited")),
            _ => {}
        }
    }
    wrong.extend(
        missing
            .into_iter()
            .filter(|(_, count)| *count == 0)
            .map(|(section, _)| format!("{section} is finished, though listed as unfinished")),
    );
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Sections with clauses that the code does not fulfil yet.
const UNFINISHED: &[&str] = &[
    "NG", "FR", "LK", "OP", "AT", "FL", "TU", "EN", "TM", "RL", "ST", "CU", "TR", "ER", "BD", "LM",
];

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
    ("UD-1", "no program here speaks UDP"),
    ("SF-1", "an argument"),
    ("SF-2", "an argument"),
    ("SF-3", "an argument"),
    ("SF-4", "an argument"),
    ("SF-5", "an argument"),
    ("SF-7", "an argument"),
    ("SF-8", "an argument"),
    ("SF-9", "an argument"),
    ("SF-11", "which rule is needed for what"),
    ("SF-12", "an argument"),
    ("SF-13", "an argument"),
    ("SF-14", "an argument"),
    ("SF-15", "an argument"),
];

#[test]
fn citations_are_found_in_the_forms_they_have() {
    let found = |text: &str| citations(text);
    assert_eq!(
        found("/// As told (spec v1, X-4 to X-6, and A-1 ff.)."),
        ["X-4", "X-5", "X-6", "A-1"]
    );
    assert_eq!(found("clauses Q-7 and Q-8; H-2"), ["Q-7", "Q-8", "H-2"]);
    assert_eq!(
        found("(spec v2, FL-9 to FL-11, LK-1; v1's X-5)"),
        ["FL-9", "FL-10", "FL-11", "LK-1", "X-5"]
    );
    assert!(found("SHA-1 1E-5 UTF-8 x-H-1 B-1 A- ZZ-1 XFL-1 fL-1").is_empty());
    assert_eq!(strays("spec v1, X-4; spec v2, LK-1; (LK-2)"), Vec::<String>::new());
    assert_eq!(strays("spec v2, X-4; spec v1,\n/// LK-1; spec v2, F-7"), ["X-4", "LK-1", "F-7"]);
}

/// Each constant is named by the clause it says it belongs to, and what the prose names in capitals is a constant.
#[test]
fn constants_and_clauses_name_each_other() {
    for (version, _) in VERSIONS {
        let constants = constants(version);
        let statements = statements(version);
        for constant in &constants {
            let (_, text) = statements
                .iter()
                .find(|(number, _)| *number == constant.clause)
                .unwrap_or_else(|| panic!("{version} has no {}", constant.clause));
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
        let prose = prose(version);
        for name in prose.split('`').skip(1).step_by(2) {
            let capitals =
                name.contains('_') && name.chars().all(|c| c.is_ascii_uppercase() || c == '_');
            assert!(
                !capitals || constants.iter().any(|constant| constant.name == name),
                "{version} has no constant {name}"
            );
        }
    }
}

/// The tables of v2 list every kind and every code, in the order of the schema.
#[test]
fn tables_are_complete() {
    let statements = statements("v2");
    let first_column = |clause: &str| -> Vec<String> {
        let (_, text) = statements.iter().find(|(number, _)| number == clause).unwrap();
        text.lines()
            .filter_map(|row| Some(row.strip_prefix("| `")?.split_once('`')?.0.to_owned()))
            .collect()
    };
    assert_eq!(first_column("FR-10"), Control::KINDS);
    let codes: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(first_column("ER-1"), codes);
    let (_, ends) = statements.iter().find(|(number, _)| number == "ER-2").unwrap();
    for code in codes {
        assert!(ends.contains(&format!("`{code}`")), "ER-2 says nothing of {code}");
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

/// The schema's bounds are the constants.
#[test]
fn bounds_of_v2_are_its_constants() {
    use codec::v2;
    let module = module("v2");
    let bounds = |message: &str, field: &str| -> Bounds {
        let fields = module.structs.iter().find(|item| item.name == message).unwrap();
        match &fields.fields.iter().find(|item| item.name == field).unwrap().shape {
            Shape::Text { length, .. } => *length,
            Shape::Integer { range, .. } => *range,
            other => panic!("{message}.{field} is {other:?}"),
        }
    };
    let integer = |n: u64| i64::try_from(n).ok();
    let count = |n: usize| i64::try_from(n).ok();
    let milliseconds = |time: std::time::Duration| i64::try_from(time.as_millis()).ok();
    for (message, field, min, max) in [
        ("Welcome", "max_data", count(v2::MIN_DATA), count(v2::MAX_DATA)),
        ("Welcome", "max_window", integer(v2::INITIAL_WINDOW), integer(v2::MAX_WINDOW)),
        ("Welcome", "resume_for_ms", Some(0), milliseconds(v2::MAX_RESUME_FOR)),
        ("Reject", "retry_after_ms", Some(0), milliseconds(v2::MAX_TIME)),
        ("Goaway", "reconnect_after_ms", Some(0), milliseconds(v2::MAX_TIME)),
        ("Finish", "offset", Some(0), integer(v2::MAX_INTEGER - 1)),
    ] {
        assert_eq!(bounds(message, field), Bounds { min, max }, "{message}.{field}");
    }
    for item in &module.structs {
        for field in &item.fields {
            let max = match field.name.as_str() {
                "name" | "agent" | "host" | "protocol" | "principal" | "software" => {
                    count(v2::MAX_NAME)
                }
                "message" | "last_error" => count(v2::MAX_MESSAGE_TEXT),
                "received" | "consumed" | "limit" => integer(v2::MAX_INTEGER),
                _ => continue,
            };
            assert_eq!(bounds(&item.name, &field.name).max, max, "{}.{}", item.name, field.name);
        }
    }
}

/// What the prose of v2 relies on (TM-8, TM-4, OP-4, LK-6).
#[test]
fn numbers_of_v2_fit_together() {
    use codec::v2;
    let asked = v2::MAX_RESUME_FOR + 2 * v2::LINK_TIMEOUT + v2::OPENED_TIMEOUT;
    assert!(v2::REMEMBERED_FOR > asked);
    assert!(v2::MIN_RESUME_FOR >= 2 * v2::LINK_TIMEOUT);
    assert!((v2::MIN_RESUME_FOR..=v2::MAX_RESUME_FOR).contains(&v2::RESUME_FOR));
    assert!(v2::LINK_TIMEOUT >= 2 * v2::PING_INTERVAL && v2::DIAL_TIMEOUT < v2::OPENED_TIMEOUT);
    let early = usize::try_from(v2::EARLY_DATA).unwrap();
    assert!(early <= v2::MIN_DATA && v2::EARLY_DATA <= v2::INITIAL_WINDOW);
    let room = v2::MAX_BEFORE_WELCOME - early - v2::data::HEADER_BYTES;
    assert!(room >= v2::MAX_CONTROL / 2 - v2::data::HEADER_BYTES, "hello and open have {room}");
}

fn constants(version: &str) -> Vec<Constant> {
    module(version).constants
}

fn module(version: &str) -> Module {
    let folder = root().join("spec").join(version);
    generator::lower(&generator::read(&folder).unwrap()).unwrap()
}

/// The sections of all versions.
static SECTIONS: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
    let sections = VERSIONS.iter().flat_map(|(version, _)| sections(version));
    sections.map(|(letters, _)| letters).collect()
});

/// A citation: its section, its number, and where it stands in the text.
struct Citation<'a> {
    section: &'a str,
    number: u32,
    start: usize,
    end: usize,
}

/// What a text cites, in order; `is_section` tells what counts as the letters of a section.
fn cited<'a>(text: &'a str, is_section: impl Fn(&str) -> bool) -> Vec<Citation<'a>> {
    let mut found = Vec::new();
    for (hyphen, _) in text.match_indices('-') {
        let letters = text[..hyphen].bytes().rev().take_while(u8::is_ascii_uppercase).count();
        let (before, section) = text[..hyphen].split_at(hyphen - letters);
        let digits = text[hyphen + 1..].bytes().take_while(u8::is_ascii_digit).count();
        let end = hyphen + 1 + digits;
        let Ok(number) = text[hyphen + 1..end].parse() else { continue };
        let goes_on = |before: char| before.is_alphanumeric() || "-_.".contains(before);
        if is_section(section) && !before.ends_with(goes_on) {
            found.push(Citation { section, number, start: before.len(), end });
        }
    }
    found
}

/// The numbers that a text cites, in order; `A-1 to A-3` cites those between as well.
fn citations(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut last: Option<Citation> = None;
    for citation in cited(text, |section| SECTIONS.contains(section)) {
        let Citation { section, number, start, end } = citation;
        if let Some(last) = &last
            && last.section == section
            && text[last.end..start] == *" to "
        {
            found.extend((last.number + 1..number).map(|n| format!("{section}-{n}")));
        }
        found.push(format!("{section}-{number}"));
        last = Some(Citation { section, number, start, end });
    }
    found
}

/// Citations right behind the name of a version that has no such section.
fn strays(text: &str) -> Vec<String> {
    let all = cited(text, |section| matches!(section.len(), 1 | 2));
    let is_stray = |citation: &&Citation| {
        let before = text[..citation.start].trim_end_matches([' ', '\n', '/', '!', '*']);
        VERSIONS.iter().any(|(version, letters)| {
            before.ends_with(&format!("spec {version},"))
                && (citation.section.len() != *letters || !SECTIONS.contains(citation.section))
        })
    };
    all.iter()
        .filter(is_stray)
        .map(|citation| format!("{}-{}", citation.section, citation.number))
        .collect()
}

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
