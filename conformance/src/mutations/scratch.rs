//! A copy of the repository that may be broken, with a target folder of its own.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::MutationError;
use crate::kit::Seat;

/// The copy and its target folder, which stay: the next time is faster then.
#[derive(Debug)]
pub(super) struct Scratch {
    folder: PathBuf,
    cases: PathBuf,
}

impl Scratch {
    /// Makes `folder/tree` the same as `root`, target folders and hidden ones aside. Cases keep their files in `cases`.
    pub(super) fn new(root: &Path, folder: &Path, cases: &Path) -> Result<Self, MutationError> {
        fs::create_dir_all(folder)
            .map_err(|source| MutationError::File { path: folder.to_owned(), source })?;
        // Cargo takes relative paths from where it runs.
        let folder = fs::canonicalize(folder)
            .map_err(|source| MutationError::File { path: folder.to_owned(), source })?;
        copy(root, &folder.join("tree"))?;
        Ok(Self { folder, cases: cases.to_owned() })
    }

    /// The copy of the repository.
    pub(super) fn tree(&self) -> PathBuf {
        self.folder.join("tree")
    }

    /// Where the programs are.
    pub(super) fn programs(&self) -> PathBuf {
        self.folder.join("build/debug")
    }

    /// Where cases keep their files.
    pub(super) fn cases(&self) -> &Path {
        &self.cases
    }

    /// Builds the programs of `parties` from the tree as it is; `what` tells what that is.
    pub(super) fn build(&self, parties: &[Seat], what: &str) -> Result<(), MutationError> {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        // Of the whole workspace, so that all builds have the same features.
        cargo.current_dir(self.tree()).args(["build", "--quiet", "--locked", "--workspace"]);
        cargo.arg("--target-dir").arg(self.folder.join("build"));
        for party in parties {
            cargo.args(["--bin", program(*party)]);
        }
        let built = cargo.output().map_err(|source| MutationError::File {
            path: PathBuf::from(cargo.get_program()),
            source,
        })?;
        if built.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&built.stderr).into_owned();
        Err(MutationError::Build { what: what.to_owned(), said })
    }
}

fn program(party: Seat) -> &'static str {
    match party {
        Seat::Relay => "network-relay",
        Seat::Agent => "edge-agent",
        Seat::Client => "access-client",
    }
}

/// Makes a folder the same as another one. What is the same already keeps its time, by which cargo knows what to build.
fn copy(from: &Path, to: &Path) -> Result<(), MutationError> {
    let file = |path: &Path| {
        let path = path.to_owned();
        move |source| MutationError::File { path, source }
    };
    fs::create_dir_all(to).map_err(file(to))?;
    let mut names: BTreeSet<OsString> = BTreeSet::new();
    for entry in fs::read_dir(from).map_err(file(from))? {
        let entry = entry.map_err(file(from))?;
        let name = entry.file_name();
        if name == "target" || name.to_string_lossy().starts_with('.') {
            continue;
        }
        let (source, copied) = (entry.path(), to.join(&name));
        if source.is_dir() {
            copy(&source, &copied)?;
        } else {
            let bytes = fs::read(&source).map_err(file(&source))?;
            if fs::read(&copied).ok().as_ref() != Some(&bytes) {
                fs::write(&copied, bytes).map_err(file(&copied))?;
            }
        }
        names.insert(name);
    }
    for entry in fs::read_dir(to).map_err(file(to))? {
        let entry = entry.map_err(file(to))?;
        if names.contains(&entry.file_name()) {
            continue;
        }
        let path = entry.path();
        let removed =
            if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map_err(file(&path))?;
    }
    Ok(())
}
