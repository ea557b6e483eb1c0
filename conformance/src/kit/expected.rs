//! What each case of a profile is expected to come to: `pass`, unless a list says otherwise.

use std::collections::BTreeMap;
use std::fs;

use serde::Deserialize;

use super::Verdict;
use crate::harness::profile::{Profile, ProfileError};

/// The list of this workspace's programs.
const OURS: &str = include_str!("../../expected/ours.json");
/// The list of the Python implementation's.
const ORIGINAL: &str = include_str!("../../expected/original.json");

/// What a case is expected to come to.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expectation {
    /// The verdict.
    pub verdict: Verdict,
    /// What the words of the verdict have to contain, so that it is seen for the reason given.
    #[serde(default)]
    pub seen: String,
    /// Why it is so; empty for `pass`.
    #[serde(default)]
    pub reason: String,
}

impl Expectation {
    const PASS: Self = Self { verdict: Verdict::Pass, seen: String::new(), reason: String::new() };

    /// Whether a case came to what was expected.
    pub fn holds(&self, verdict: Verdict, seen: &str) -> bool {
        self.verdict == verdict && seen.contains(&self.seen)
    }
}

/// The expected results of a profile.
#[derive(Debug, Clone, Default)]
pub struct Expected(BTreeMap<String, Expectation>);

impl Expected {
    /// The list that a profile names.
    ///
    /// # Errors
    ///
    /// When it cannot be read, is no list, or has an entry without a reason.
    pub fn of(profile: &Profile) -> Result<Self, ProfileError> {
        let Some(path) = &profile.expected else { return Ok(Self::default()) };
        let Some(folder) = &profile.folder else {
            let text = if path.as_os_str() == "ours.json" { OURS } else { ORIGINAL };
            return Self::parse(&path.display().to_string(), text);
        };
        let path = folder.join(path);
        let text = fs::read_to_string(&path)
            .map_err(|source| ProfileError::Unreadable { path: path.clone(), source })?;
        Self::parse(&path.display().to_string(), &text)
    }

    fn parse(name: &str, text: &str) -> Result<Self, ProfileError> {
        let wrong = |text: String| ProfileError::Wrong { name: name.to_owned(), text };
        let sections: BTreeMap<String, BTreeMap<String, Expectation>> =
            serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
        let list: BTreeMap<String, Expectation> = sections.into_values().flatten().collect();
        for (id, expectation) in &list {
            let needs_seen = expectation.verdict != Verdict::Pass;
            if needs_seen && (expectation.reason.is_empty() || expectation.seen.is_empty()) {
                return Err(wrong(format!("{id} has no reason, or does not say what is seen")));
            }
        }
        Ok(Self(list))
    }

    /// What a case is expected to come to.
    pub fn get(&self, id: &str) -> Expectation {
        self.0.get(id).cloned().unwrap_or(Expectation::PASS)
    }

    /// The cases in the list.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}
