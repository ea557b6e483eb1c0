//! The parts of `speed`.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use tempfile::TempDir;
use tokio::sync::mpsc;

use figures::{FIGURES, Figure};
use process::Nursery;
use table::Table;
use tunnel::{Programs, System};

mod agents;
pub(crate) mod copy;
mod figures;
mod pattern;
mod process;
mod table;
mod tunnel;

/// How much is measured.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// How often each figure is taken.
    rounds: u32,
    /// Part of the names of the figures to take.
    only: String,
    /// Bytes of a bulk transfer; the original, some hundred times slower, gets [`Self::bulk_original`].
    bulk: u64,
    bulk_original: u64,
    /// First bytes waited for, over all rounds.
    first_bytes: u32,
    /// Round trips in one round.
    round_trips: u32,
    /// Idle agents at once.
    agents: u32,
    /// Idle streams at once; the original, with its large processes, gets [`Self::streams_original`].
    streams: u32,
    streams_original: u32,
    /// Bytes offered to a reader that has stopped.
    stalled: u64,
}

impl Plan {
    /// The whole plan, or one for a quick look.
    pub(crate) fn new(rounds: u32, quick: bool, only: String) -> Self {
        let whole = Self {
            rounds,
            only,
            bulk: GIB,
            bulk_original: 16 * MIB,
            first_bytes: 50,
            round_trips: 2000,
            agents: 200,
            streams: 200,
            streams_original: 20,
            stalled: 256 * MIB,
        };
        if !quick {
            return whole;
        }
        Self {
            rounds: 1,
            bulk: 128 * MIB,
            bulk_original: 2 * MIB,
            first_bytes: 10,
            round_trips: 300,
            agents: 50,
            streams: 20,
            streams_original: 5,
            stalled: 64 * MIB,
            ..whole
        }
    }
}

/// Everything is in place to measure. What was started ends when this is dropped.
pub(crate) struct Bench {
    plan: Plan,
    programs: Programs,
    nursery: Arc<Nursery>,
    /// Removed when this is dropped.
    _folder: TempDir,
}

impl Bench {
    /// Builds the programs if Cargo runs us, and looks what there is to compare with.
    pub(crate) fn prepare(plan: Plan) -> anyhow::Result<Self> {
        if cfg!(debug_assertions) {
            bail!("a debug build says nothing about speed (cargo run --release --bin speed)");
        }
        let figures = FIGURES.iter().map(|figure| figure.name);
        ensure!(
            figures.clone().any(|name| name.contains(&plan.only)),
            "no figure has \"{}\" in its name (there are: {})",
            plan.only,
            figures.collect::<Vec<_>>().join(", ")
        );
        let speed = std::env::current_exe().context("no path of this program")?;
        let ours = speed.parent().context("this program is in no folder")?.to_owned();
        if let Some(cargo) = std::env::var_os("CARGO") {
            say("building the three programs");
            let mut build = Command::new(cargo);
            build.args(["build", "--quiet", "--release", "--workspace", "--bins"]);
            build.arg("--manifest-path").arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"));
            build.arg("--target-dir").arg(ours.parent().unwrap_or(&ours));
            let built = build.status().context("cannot run cargo")?;
            ensure!(built.success(), "the three programs cannot be built");
        }
        let original = std::env::var_os(ORIGINAL_VARIABLE)
            .filter(|folder| !folder.is_empty())
            .map(PathBuf::from);
        if original.is_none() {
            say(&format!("without the original: {ORIGINAL_VARIABLE} names no folder"));
        }
        let folder = TempDir::new().context("no temporary folder")?;
        let nursery = Arc::new(Nursery::default());
        let credentials = folder.path().join("credentials.json");
        agents::write_credentials(&credentials, plan.agents)?;
        let programs =
            Programs { speed, ours, original, credentials, nursery: Arc::clone(&nursery) };
        Ok(Self { plan, programs, nursery, _folder: folder })
    }

    /// Takes all figures and gives the table. To be dropped only when the process ends.
    pub(crate) async fn run(&self) -> anyhow::Result<String> {
        let (progress, mut reports) = mpsc::unbounded_channel();
        let (plan, programs) = (self.plan.clone(), self.programs.clone());
        // Measuring blocks, and sleeps only where it must; it has a thread of its own. The thread ends with the
        // processes it talks to, which are killed when this is dropped.
        let measuring = std::thread::spawn(move || measure(&plan, &programs, &progress));
        let mut current = String::new();
        loop {
            match tokio::time::timeout(PATIENCE, reports.recv()).await {
                Ok(Some(report)) => {
                    say(&report);
                    current = report;
                }
                Ok(None) => break,
                Err(_) => bail!("no progress for {PATIENCE:?}: {current}"),
            }
        }
        match measuring.join() {
            Ok(table) => Ok(table?.to_string()),
            Err(_) => bail!("the measuring thread panicked"),
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.nursery.close();
    }
}

fn measure(
    plan: &Plan,
    programs: &Programs,
    progress: &mpsc::UnboundedSender<String>,
) -> anyhow::Result<Table> {
    let mut table = Table::default();
    let begin = Instant::now();
    for figure in FIGURES.iter().filter(|figure| figure.name.contains(&plan.only)) {
        let Figure { name, systems, take } = figure;
        let systems: Vec<System> =
            systems.iter().copied().filter(|system| programs.have(*system)).collect();
        for round in 0..plan.rounds {
            for nth in 0..systems.len() {
                // Nobody is always the first after a pause.
                let system = systems[(nth + round as usize) % systems.len()];
                let seconds = begin.elapsed().as_secs();
                // Nobody hears it any more: then the process is about to end.
                let _ = progress.send(format!(
                    "{seconds:4} s  {name}, round {} of {}: {}",
                    round + 1,
                    plan.rounds,
                    system.name()
                ));
                let values = take(plan, programs, system)
                    .with_context(|| format!("{name}, {}", system.name()))?;
                for value in values {
                    table.add(system, value);
                }
            }
        }
    }
    Ok(table)
}

/// Writes a line for whoever waits.
fn say(line: &str) {
    eprintln!("{line}");
}

/// The variable that names the folder with the original's three programs.
const ORIGINAL_VARIABLE: &str = "HNR_ORIGINAL_BIN";

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// How long one figure may take once.
const PATIENCE: Duration = Duration::from_secs(300);
