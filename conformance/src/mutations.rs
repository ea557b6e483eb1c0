//! Mutations: our programs, broken in one way at a time, each of which a case has to catch.
//!
//! `conformance/mutations/` holds the list, a file for each party. A mutation replaces a text that occurs once in a
//! file, so that it survives edits elsewhere; `tests/mutations.rs` tells when one does not apply any more.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use crate::cases;
use crate::harness::profile::{Profile, ProfileError};
use crate::kit::run::{self, Plan};
use crate::kit::{Case, Seat};

mod scratch;

use scratch::Scratch;

/// The lists, by the party that is built with their mutations.
const LISTS: [(Seat, &str); 3] = [
    (Seat::Relay, include_str!("../mutations/relay.json")),
    (Seat::Agent, include_str!("../mutations/agent.json")),
    (Seat::Client, include_str!("../mutations/client.json")),
];

/// One way to break a program.
#[derive(Debug, Clone)]
pub struct Mutation {
    /// Whose program it breaks.
    pub seat: Seat,
    /// What to break, and how.
    pub entry: Entry,
}

/// An entry of a list.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// A few words in lower case, joined by `-`.
    pub name: String,
    /// What the program does wrong with it.
    pub breaks: String,
    /// The file, from the root of the repository.
    pub file: String,
    /// A text that the file holds once.
    pub old: String,
    /// What stands there instead.
    pub new: String,
    /// The numbers of the cases that catch it, each of them.
    pub cases: Vec<String>,
}

/// Why mutations cannot be tried.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MutationError {
    /// A list is not of the right form.
    #[error("mutations/{seat}.json: {source}")]
    List {
        /// Which one.
        seat: Seat,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// A mutation has lost its place.
    #[error(
        "mutation {name}: {file} has its text {found} times (copy it anew from the file, so that it stands there once)"
    )]
    Place {
        /// The mutation.
        name: String,
        /// The file.
        file: String,
        /// How often the text is there.
        found: usize,
    },
    /// A mutation names a case that is not there, or is not its party's.
    #[error("mutation {name}: there is no case {case} of this party")]
    Case {
        /// The mutation.
        name: String,
        /// The number.
        case: String,
    },
    /// No mutation has the name that was asked for.
    #[error("no mutation is called {0:?} (conformance/mutations lists them)")]
    Unknown(String),
    /// A program cannot be built.
    #[error("{what} cannot be built: {said}")]
    Build {
        /// What it was built with.
        what: String,
        /// What cargo said.
        said: String,
    },
    /// A case fails without any mutation.
    #[error("{} without any mutation (mend that first)", .0.join("; "))]
    Baseline(Vec<String>),
    /// The built programs are no profile.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// A file of the repository or its copy.
    #[error("{}: {source}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// How to try mutations.
#[derive(Debug, Clone)]
pub struct Trial {
    /// The names of those to try; all if it is empty.
    pub only: Vec<String>,
    /// Run every case of the party, not just those that have to catch the mutation.
    pub every_case: bool,
    /// How many cases run at the same time.
    pub jobs: usize,
    /// How long to wait for what should happen at once.
    pub patience: Duration,
}

/// What a mutation came to.
#[derive(Debug, Clone)]
pub struct Tried {
    /// The mutation.
    pub mutation: Mutation,
    /// The cases that saw it, and what they saw.
    pub caught: Vec<(String, String)>,
    /// The cases that were to see it and did not.
    pub missed: Vec<String>,
}

impl Tried {
    /// One line about it.
    pub fn line(&self) -> String {
        let ids: Vec<_> = self.caught.iter().map(|(id, _)| id.as_str()).collect();
        let name = &self.mutation.entry.name;
        if self.is_caught() {
            return format!("{name}: caught by {}", ids.join(", "));
        }
        let (missed, ids) = (self.missed.join(", "), ids.join(", "));
        format!("{name}: SURVIVED {missed} (caught by: {ids})")
    }

    /// Whether each case that was to see it did.
    pub fn is_caught(&self) -> bool {
        self.missed.is_empty() && !self.caught.is_empty()
    }
}

/// Every mutation, in the order of the lists.
///
/// # Errors
///
/// When a list is not of the right form.
pub fn all() -> Result<Vec<Mutation>, MutationError> {
    let mut mutations = Vec::new();
    for (seat, text) in LISTS {
        let entries: Vec<Entry> =
            serde_json::from_str(text).map_err(|source| MutationError::List { seat, source })?;
        mutations.extend(entries.into_iter().map(|entry| Mutation { seat, entry }));
    }
    Ok(mutations)
}

impl Mutation {
    /// The text of its file with the mutation in it; `root` is the folder of the repository or a copy.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or does not hold the old text exactly once.
    pub fn apply(&self, root: &Path) -> Result<String, MutationError> {
        let path = root.join(&self.entry.file);
        let text =
            fs::read_to_string(&path).map_err(|source| MutationError::File { path, source })?;
        match text.matches(&self.entry.old).count() {
            1 => Ok(text.replacen(&self.entry.old, &self.entry.new, 1)),
            found => Err(MutationError::Place {
                name: self.entry.name.clone(),
                file: self.entry.file.clone(),
                found,
            }),
        }
    }

    /// The cases that have to catch it.
    ///
    /// # Errors
    ///
    /// When one of them is not there, or tests another party.
    pub fn cases(&self) -> Result<Vec<&'static Case>, MutationError> {
        let find = |number: &String| {
            let is_it = |case: &&Case| case.number == number && case.seat() == self.seat;
            cases::all().find(is_it).ok_or_else(|| MutationError::Case {
                name: self.entry.name.clone(),
                case: number.clone(),
            })
        };
        self.entry.cases.iter().map(find).collect()
    }
}

/// Tries mutations, one at a time, on a copy of the repository in `folder`, which is kept for the next time. The cases'
/// files are in `own` meanwhile. `tell` hears of each mutation as it ends.
///
/// # Errors
///
/// When one cannot be applied or built, or a case fails without any.
pub fn try_all(
    trial: &Trial,
    root: &Path,
    folder: &Path,
    own: &Path,
    tell: impl Fn(&Tried),
) -> Result<Vec<Tried>, MutationError> {
    let mutations = chosen(&trial.only)?;
    for mutation in &mutations {
        mutation.apply(root)?;
        mutation.cases()?;
    }
    let scratch = Scratch::new(root, folder, own)?;
    scratch.build(&[Seat::Relay, Seat::Agent, Seat::Client], "the tree")?;
    let profile = Arc::new(Profile::ours(&scratch.programs())?);
    check_baseline(trial, &mutations, &profile, &scratch)?;
    let mut all = Vec::new();
    for mutation in mutations {
        let tried = try_one(trial, mutation, &profile, &scratch)?;
        tell(&tried);
        all.push(tried);
    }
    Ok(all)
}

fn chosen(names: &[String]) -> Result<Vec<Mutation>, MutationError> {
    let all = all()?;
    let is_known = |name: &&String| all.iter().any(|mutation| mutation.entry.name == **name);
    if let Some(name) = names.iter().find(|name| !is_known(name)) {
        return Err(MutationError::Unknown(name.clone()));
    }
    let is_chosen = |mutation: &Mutation| names.is_empty() || names.contains(&mutation.entry.name);
    Ok(all.into_iter().filter(is_chosen).collect())
}

/// A case that fails anyway would catch everything.
fn check_baseline(
    trial: &Trial,
    mutations: &[Mutation],
    profile: &Arc<Profile>,
    scratch: &Scratch,
) -> Result<(), MutationError> {
    let mut cases: Vec<&'static Case> = Vec::new();
    for mutation in mutations {
        for case in cases_of(trial, mutation)? {
            if !cases.iter().any(|other| std::ptr::eq(*other, case)) {
                cases.push(case);
            }
        }
    }
    let failed = failures(trial, &cases, profile, scratch);
    if failed.is_empty() {
        return Ok(());
    }
    let say = |(id, seen): (String, String)| format!("{id}: {seen}");
    Err(MutationError::Baseline(failed.into_iter().map(say).collect()))
}

fn try_one(
    trial: &Trial,
    mutation: Mutation,
    profile: &Arc<Profile>,
    scratch: &Scratch,
) -> Result<Tried, MutationError> {
    let path = scratch.tree().join(&mutation.entry.file);
    let file = |source| MutationError::File { path: path.clone(), source };
    let original = fs::read(&path).map_err(file)?;
    fs::write(&path, mutation.apply(&scratch.tree())?).map_err(file)?;
    let built = scratch.build(&[mutation.seat], &mutation.entry.name);
    // The next build takes the file as it was; until then the program stays broken.
    fs::write(&path, original).map_err(file)?;
    built?;
    let caught = failures(trial, &cases_of(trial, &mutation)?, profile, scratch);
    let has_seen = |case: &&&Case| caught.iter().any(|(id, _)| *id == case.id());
    let missed = mutation.cases()?;
    let missed = missed.iter().filter(|case| !has_seen(case)).map(|case| case.id()).collect();
    Ok(Tried { mutation, caught, missed })
}

fn cases_of(trial: &Trial, mutation: &Mutation) -> Result<Vec<&'static Case>, MutationError> {
    if trial.every_case {
        Ok(cases::all().filter(|case| case.seat() == mutation.seat).collect())
    } else {
        mutation.cases()
    }
}

/// The cases that do not pass, and what they saw.
fn failures(
    trial: &Trial,
    cases: &[&'static Case],
    profile: &Arc<Profile>,
    scratch: &Scratch,
) -> Vec<(String, String)> {
    let plan = Plan {
        profile: Arc::clone(profile),
        expected: crate::kit::expected::Expected::default(),
        jobs: trial.jobs,
        patience: trial.patience,
    };
    let reports = run::run(cases, &plan, scratch.cases(), |_| {});
    let failed = reports.into_iter().filter(|report| !report.is_expected());
    failed.map(|report| (report.case.id(), report.seen)).collect()
}

/// What became of the mutations, as a table in Markdown.
pub fn table(all: &[Tried]) -> String {
    let mut text = String::from("| mutation | breaks | caught by | seen |\n|---|---|---|---|\n");
    for tried in all {
        let ids: Vec<_> = tried.caught.iter().map(|(id, _)| id.as_str()).collect();
        let mut by = ids.join(", ");
        if !tried.is_caught() {
            let _ = write!(by, " **SURVIVED** {}", tried.missed.join(", "));
        }
        let seen = tried.caught.first().map_or("", |(_, seen)| seen);
        let seen: String = seen.lines().next().unwrap_or("").chars().take(100).collect();
        let entry = &tried.mutation.entry;
        let (name, breaks) = (&entry.name, &entry.breaks);
        let seen = seen.replace('|', "\\|");
        let _ = writeln!(text, "| {name} | {breaks} | {by} | {seen} |");
    }
    let caught = all.iter().filter(|tried| tried.is_caught()).count();
    let _ = writeln!(text, "\n{caught} of {} mutations caught", all.len());
    text
}
