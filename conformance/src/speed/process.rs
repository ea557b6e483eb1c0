//! Processes of the bench, and what the system tells of them.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process};

/// All processes that run for the bench, so that none outlives it.
#[derive(Debug, Default)]
pub(crate) struct Nursery(Mutex<Children>);

#[derive(Debug, Default)]
struct Children {
    running: BTreeSet<u32>,
    closed: bool,
}

impl Nursery {
    /// Starts a process.
    pub(crate) fn start(self: &Arc<Self>, mut command: Command) -> anyhow::Result<Process> {
        let mut children = self.lock();
        ensure!(!children.closed, "the bench is ending");
        let child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        children.running.insert(child.id());
        Ok(Process { child, nursery: Arc::clone(self) })
    }

    /// Kills what still runs; nothing more is started.
    pub(crate) fn close(&self) {
        let mut children = self.lock();
        children.closed = true;
        for id in std::mem::take(&mut children.running) {
            // Ids leave the set before the process is waited for, so none is another's by now.
            kill(id);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Children> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running process; killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    /// Its pipes are the owner's to take.
    pub(crate) child: Child,
    nursery: Arc<Nursery>,
}

/// Kills a process that has not been waited for.
fn kill(id: u32) {
    if let Some(pid) = i32::try_from(id).ok().and_then(Pid::from_raw) {
        // It may have ended by itself.
        let _ = kill_process(pid, Signal::KILL);
    }
}

impl Process {
    /// Ends it.
    pub(crate) fn kill(&self) {
        kill(self.child.id());
    }

    /// What it takes at the moment.
    pub(crate) fn memory(&self) -> anyhow::Result<Memory> {
        let text = self.read("smaps_rollup")?;
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            let kib = line.trim_start_matches(':').trim().trim_end_matches(" kB");
            kib.parse::<f64>().with_context(|| format!("no {name} in smaps_rollup"))
        };
        Ok(Memory { rss: field("Rss")?, pss: field("Pss")? })
    }

    /// Its CPU time so far, in user space and for it in the kernel.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        let text = self.read("stat")?;
        // The second field, in parentheses, may hold anything.
        let (_, rest) = text.rsplit_once(") ").context("unknown form of /proc/…/stat")?;
        let ticks = |nth| rest.split(' ').nth(nth).and_then(|field| field.parse::<u64>().ok());
        let (user, system) = ticks(11).zip(ticks(12)).context("unknown form of /proc/…/stat")?;
        Ok(Duration::from_secs(1) * u32::try_from(user + system)? / TICKS_PER_SECOND)
    }

    fn read(&self, file: &str) -> anyhow::Result<String> {
        let path = format!("/proc/{}/{file}", self.child.id());
        fs::read_to_string(&path).with_context(|| path)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.nursery.lock().running.remove(&self.child.id()) {
            kill(self.child.id());
        }
        let _ = self.child.wait();
    }
}

/// The unit of times in /proc (USER_HZ): a constant of the interface between Linux and programs.
const TICKS_PER_SECOND: u32 = 100;

/// Memory of a process, in KiB.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    /// Pages in memory, shared ones included.
    pub(crate) rss: f64,
    /// The same with each shared page divided by the number of its users.
    pub(crate) pss: f64,
}
