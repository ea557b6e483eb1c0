//! The list of mutations holds: each applies to the tree as it is. `conformance mutate` builds and tries them.

use std::collections::BTreeSet;

use conformance::harness::programs::repository;
use conformance::mutations;

#[test]
fn every_mutation_still_applies_and_names_cases_of_its_party() {
    let mutations = mutations::all().expect("the lists are of the right form");
    let problems: Vec<String> = mutations
        .iter()
        .flat_map(|mutation| {
            let applied = mutation.apply(repository()).map(|_| ());
            [applied, mutation.cases().map(|_| ())].into_iter().filter_map(Result::err)
        })
        .map(|error| error.to_string())
        .collect();
    assert!(problems.is_empty(), "{problems:#?}");
}

#[test]
fn every_mutation_is_one_of_its_own_that_some_case_has_to_catch() {
    let mutations = mutations::all().expect("the lists are of the right form");
    let mut names = BTreeSet::new();
    for mutation in &mutations {
        let entry = &mutation.entry;
        let name = &entry.name;
        let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        assert!(names.insert(name), "{name} is there twice");
        assert!(name.bytes().all(is_word), "{name}");
        assert!(!entry.breaks.is_empty() && !entry.cases.is_empty(), "{name}");
        assert_ne!(entry.old, entry.new, "{name} changes nothing");
    }
    assert!(mutations.len() >= 24, "{} mutations", mutations.len());
}
