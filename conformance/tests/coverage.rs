//! Every numbered statement of the specification has a case, or a stated reason why no peer can see it.

use std::collections::{BTreeMap, BTreeSet};

use conformance::cases;
use conformance::harness::profile::Profile;
use conformance::kit::expected::Expected;
use conformance::kit::{Case, spec};

/// Statements whose cases are still to be written, a line for each section. The list may only become shorter.
const NOT_YET: &[&[&str]] = &[
    &[
        "A-1", "A-2", "A-3", "A-4", "A-5", "A-6", "A-7", "A-8", "A-9", "A-10", "A-11", "A-12",
        "A-13", "A-14", "A-15", "A-16",
    ],
    &[
        "S-1", "S-2", "S-3", "S-6", "S-7", "S-9", "S-10", "S-11", "S-12", "S-13", "S-14", "S-15",
        "S-16", "S-17", "S-18", "S-19", "S-20", "S-21",
    ],
    &["K-1", "K-2", "K-3", "K-4", "K-5", "K-6", "K-7", "K-8", "K-9", "K-10", "K-11"],
    &[
        "X-1", "X-2", "X-3", "X-5", "X-6", "X-7", "X-8", "X-9", "X-10", "X-12", "X-13", "X-14",
        "X-15", "X-17", "X-19", "X-20", "X-21", "X-22",
    ],
    &[
        "L-1", "L-2", "L-3", "L-4", "L-5", "L-6", "L-7", "L-8", "L-9", "L-11", "L-12", "L-13",
        "L-15", "L-16", "L-17",
    ],
    &[
        "R-1", "R-2", "R-3", "R-4", "R-5", "R-6", "R-7", "R-8", "R-9", "R-10", "R-11", "R-12",
        "R-13", "R-14", "R-15", "R-16", "R-17",
    ],
];

fn numbers() -> BTreeSet<&'static str> {
    spec::statements().map(|statement| &*statement.number).collect()
}

#[test]
fn every_statement_has_a_case_or_a_reason() {
    // The groups that belong to no section lean on statements; what shows them is elsewhere.
    let is_section = |title: &str| spec::sections().iter().any(|section| section.title == title);
    let sections = cases::GROUPS.iter().filter(|(title, _)| is_section(title));
    let shown: BTreeSet<&str> =
        sections.flat_map(|(_, cases)| *cases).flat_map(Case::statements).collect();
    let unseen: BTreeSet<&str> = spec::unseen().keys().map(String::as_str).collect();
    let not_yet: BTreeSet<&str> = NOT_YET.concat().into_iter().collect();
    let mut wrong = Vec::new();
    for number in numbers() {
        let places = [
            (shown.contains(number), "a case"),
            (unseen.contains(number), "a reason in expected/unseen.json"),
            (not_yet.contains(number), "a place in NOT_YET"),
        ];
        let found: Vec<_> = places.iter().filter(|(is_there, _)| *is_there).collect();
        match found[..] {
            [_] => {}
            [] => wrong.push(format!("{number} has neither a case nor a reason")),
            [(_, one), (_, other), ..] => wrong.push(format!("{number} has {one} and {other}")),
        }
    }
    let listed = shown.iter().chain(&unseen).chain(&not_yet);
    let unknown = listed.filter(|number| !numbers().contains(**number));
    wrong.extend(unknown.map(|number| format!("there is no statement {number}")));
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_case_is_named_once_in_its_place_and_says_what_it_is() {
    let mut seen = BTreeMap::new();
    for (group, cases) in cases::GROUPS {
        for case in cases {
            let id = case.id();
            assert_eq!(seen.insert(case.number, group), None, "{id} is there twice");
            let letter = case.number.split_once('.').map(|(_, letter)| letter);
            let is_letter = |letter: &str| matches!(letter.as_bytes(), [b'a'..=b'z']);
            assert!(letter.is_none_or(is_letter), "{id} has no letter after its point");
            for text in [case.title, case.expected] {
                assert!(!text.is_empty() && !text.ends_with('.'), "{id}: {text:?}");
            }
            assert!(!case.also.contains(&case.statement()), "{id} names its statement twice");
        }
    }
    // The sections stand in the order of the specification, each with its own statements.
    let titles: Vec<_> = spec::sections().iter().map(|section| &*section.title).collect();
    let groups: Vec<_> = cases::GROUPS.iter().map(|(title, _)| *title).collect();
    assert!(groups.starts_with(&titles), "{groups:?}");
    for (section, (_, cases)) in spec::sections().iter().zip(cases::GROUPS) {
        let strange = cases.iter().find(|case| case.section() != section.letter);
        assert!(strange.is_none(), "{strange:?} is no case of {}", section.title);
    }
}

/// An entry for a case that is no longer there would never be looked at.
#[test]
fn the_expected_lists_name_cases_that_are_there() {
    let known: BTreeSet<String> = cases::all().map(Case::id).collect();
    for name in ["ours", "original"] {
        let path = format!("{}/profiles/{name}.json", env!("CARGO_MANIFEST_DIR"));
        let mut profile = Profile::read(path.as_ref()).expect("the profile is there");
        profile.folder = None;
        let expected = Expected::of(&profile).expect("the list is good");
        for id in expected.ids() {
            assert!(known.contains(id), "expected/{name}.json names {id}");
        }
    }
}
