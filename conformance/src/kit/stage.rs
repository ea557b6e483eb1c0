use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::transcript::Transcript;
use super::{Finding, Outcome};
use crate::harness::Process;
use crate::harness::profile::Profile;

/// How long a program may take to start on a busy machine, in addition to the patience of a run.
const START: Duration = Duration::from_secs(60);

/// What belongs to one running case, whatever its seat: its time, its record, its files, its processes.
#[derive(Debug)]
pub struct Stage {
    pub(super) profile: Arc<Profile>,
    pub(super) transcript: Transcript,
    folder: PathBuf,
    patience: Duration,
    end: Instant,
    remarks: Mutex<Vec<String>>,
    /// What the programs of the case have said, by name.
    pub(super) logs: Mutex<Vec<(String, Vec<String>)>>,
    /// How many links there were of each name.
    names: Mutex<BTreeMap<String, usize>>,
    files: AtomicUsize,
}

impl Stage {
    /// A stage whose files go into `folder`, which is there, and belongs to it alone.
    pub(super) fn new(
        profile: Arc<Profile>,
        folder: PathBuf,
        patience: Duration,
        limit: Duration,
    ) -> Self {
        Self {
            profile,
            transcript: Transcript::new(),
            folder,
            patience,
            end: Instant::now() + limit,
            remarks: Mutex::default(),
            logs: Mutex::default(),
            names: Mutex::default(),
            files: AtomicUsize::new(0),
        }
    }

    /// How long to wait for what should happen at once: the patience of the run, within the limit of the case.
    pub fn patience(&self) -> Duration {
        self.at_most(self.patience)
    }

    /// How long to wait for what should happen after so long: that time and the patience.
    pub fn patience_after(&self, time: Duration) -> Duration {
        self.at_most(time + self.patience)
    }

    /// How long a program may take to start and dial.
    pub fn start_patience(&self) -> Duration {
        self.at_most(START + self.patience)
    }

    /// `time`, or less if the case has to end sooner.
    pub fn at_most(&self, time: Duration) -> Duration {
        time.min(self.end.saturating_duration_since(Instant::now()))
    }

    /// Lets time pass in which a scripted peer does nothing, because it is slow. It is no way to wait for anything.
    pub fn pass(&self, time: Duration) {
        std::thread::sleep(self.at_most(time));
    }

    /// Fails once the case is over its limit; loops of waits call it.
    pub(super) fn check_time(&self) -> Outcome {
        if Instant::now() < self.end {
            return Ok(());
        }
        Err(Finding::fail("the case took too long"))
    }

    /// A SHOULD: if it does not hold, the verdict is at best non-strict, and `otherwise` says what was seen.
    pub fn should(&self, holds: bool, otherwise: impl Into<String>) {
        if !holds {
            let mut remarks = self.remarks.lock().unwrap_or_else(PoisonError::into_inner);
            remarks.push(otherwise.into());
        }
    }

    pub(super) fn take_remarks(&self) -> Vec<String> {
        std::mem::take(&mut self.remarks.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Adds a note to the record.
    pub fn note(&self, who: &str, text: &str) {
        self.transcript.add(who, who, "note", text.as_bytes());
    }

    /// A name for the next link of this kind: `client`, then `client 2` and so on.
    pub(super) fn next_name(&self, name: &str) -> String {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let count = names.entry(name.to_owned()).or_default();
        *count += 1;
        if *count == 1 { name.to_owned() } else { format!("{name} {count}") }
    }

    /// The folder of the case.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes a file that only its owner may read, and gives its path.
    pub(super) fn file(&self, name: &str, content: &str) -> Outcome<PathBuf> {
        let number = self.files.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.join(format!("{number}-{name}"));
        let written = fs::write(&path, content)
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o600)));
        written.map_err(|error| kit_failed(&format!("write {}", path.display()), &error))?;
        Ok(path)
    }

    /// Starts a program of the party under test.
    pub(super) fn spawn(&self, name: &str, command: &mut Command) -> Outcome<Process> {
        let program = command.get_program().to_owned();
        let process = Process::spawn(name, command, false)
            .map_err(|error| kit_failed(&format!("start {}", program.display()), &error))?;
        self.note(name, "started");
        Ok(process)
    }

    /// Keeps what a program has said, for the report.
    pub(super) fn keep_log(&self, name: &str, process: &Process) {
        let lines = process.stderr();
        let mut logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        logs.push((name.to_owned(), lines));
    }
}

/// Something that the kit needs failed on this machine. That is a failure of the case: it was not played.
pub(super) fn kit_failed(what: &str, error: &io::Error) -> Finding {
    Finding::Fail(format!("the kit cannot {what}: {error}"))
}
