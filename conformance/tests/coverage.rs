//! Every numbered statement of the specification has a case, or a stated reason why no peer can see it.

use std::collections::{BTreeMap, BTreeSet};

use conformance::cases;
use conformance::harness::profile::Profile;
use conformance::kit::expected::Expected;
use conformance::kit::{Case, spec};

fn numbers() -> BTreeSet<&'static str> {
    spec::statements().map(|statement| &*statement.number).collect()
}

#[test]
fn every_statement_has_a_case_or_a_reason() {
    let shown: BTreeSet<&str> = cases::all().flat_map(Case::statements).collect();
    let unseen: BTreeSet<&str> = spec::unseen().keys().map(String::as_str).collect();
    let mut wrong = Vec::new();
    for number in numbers() {
        let places = [
            (shown.contains(number), "a case"),
            (unseen.contains(number), "a reason in expected/unseen.json"),
        ];
        let found: Vec<_> = places.iter().filter(|(is_there, _)| *is_there).collect();
        match found[..] {
            [_] => {}
            [] => wrong.push(format!("{number} has neither a case nor a reason")),
            [(_, one), (_, other), ..] => wrong.push(format!("{number} has {one} and {other}")),
        }
    }
    let listed = shown.iter().chain(&unseen);
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
