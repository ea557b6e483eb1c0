//! Runs worlds: many schedules, one again, or every order of events of a small one.
#![allow(clippy::print_stdout, reason = "this is a command, and its output is for people")]

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{self, ExitCode};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use std::{fs, io};

use clap::{Parser, Subcommand};
use conformance::world::breaks;
use conformance::world::search::{LARGE, SMALL, explore};
use conformance::world::{Plan, failure_of, run, shrink};

/// Clients, relays and agents on one virtual clock, and a nemesis with a seed.
#[derive(Debug, Parser)]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs random schedules, and shrinks those that fail.
    Run {
        /// The first seed.
        #[arg(long, default_value_t = 0)]
        from: u64,
        /// How many.
        #[arg(long, default_value_t = 1_000_000)]
        count: u64,
        /// At once.
        #[arg(long, default_value_t = 2)]
        threads: u64,
        /// Stops after so many that fail.
        #[arg(long, default_value_t = 1)]
        failures: u64,
    },
    /// Explores every order of events of one small stream; minutes, and some GiB.
    Explore {
        /// Only those whose name has this in it.
        #[arg(default_value = "")]
        name: String,
        /// Gives up after so many states.
        #[arg(long, default_value_t = 20_000_000)]
        states: usize,
    },
    /// Breaks one rule after the other in a copy of the tree, and sees that it is noticed.
    Breaks {
        /// Only those whose name has this in it.
        #[arg(default_value = "")]
        name: String,
        /// Where the copy is made.
        #[arg(long, default_value = "target/breaks")]
        copy: PathBuf,
        /// Where it is built.
        #[arg(long, default_value = "target/breaks-target")]
        target: PathBuf,
        /// Schedules until one must have noticed.
        #[arg(long, default_value_t = 20_000)]
        schedules: u64,
    },
    /// Runs the schedule of a seed again and shows what was sent.
    Replay {
        /// The seed.
        seed: u64,
        /// Leaves out what is not needed for it to fail.
        #[arg(long)]
        shrink: bool,
    },
}

fn main() -> ExitCode {
    // What panics is caught and told.
    std::panic::set_hook(Box::new(|_| {}));
    match Options::parse().command {
        Command::Run { from, count, threads, failures } => {
            many(from..from + count, threads, failures)
        }
        Command::Replay { seed, shrink } => replay(seed, shrink),
        Command::Breaks { name, copy, target, schedules } => {
            match break_all(&name, &copy, &target, schedules) {
                Ok(code) => code,
                Err(error) => {
                    println!("{error}");
                    ExitCode::FAILURE
                }
            }
        }
        Command::Explore { name, states } => search(&name, states),
    }
}

fn many(seeds: Range<u64>, threads: u64, most: u64) -> ExitCode {
    let begun = Instant::now();
    let (next, failed) = (AtomicU64::new(seeds.start), AtomicU64::new(0));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end || failed.load(Ordering::Relaxed) >= most {
                return;
            }
            let done = seed - seeds.start;
            if done.is_multiple_of(50_000) && done > 0 {
                println!("{done} schedules, {:.0} s", begun.elapsed().as_secs_f64());
            }
            if let Some(failure) = failure_of(&Plan::random(seed)) {
                failed.fetch_add(1, Ordering::Relaxed);
                println!("seed {seed}: {}", failure.0.chars().take(600).collect::<String>());
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let failed = failed.into_inner();
    let ran = next.into_inner().min(seeds.end) - seeds.start;
    let time = begun.elapsed().as_secs_f64();
    println!("{ran} schedules from seed {}, {failed} failed, {time:.1} s", seeds.start);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn search(name: &str, most: usize) -> ExitCode {
    let mut all = ExitCode::SUCCESS;
    for scope in SMALL.iter().chain(LARGE).filter(|scope| scope.name.contains(name)) {
        let begun = Instant::now();
        let report = explore(scope, most);
        println!(
            "{:<40} {:>10} states {:>11} steps {:>6} settled, depth {:>3}, {:>6.1} s",
            scope.name,
            report.states,
            report.steps,
            report.settled,
            report.depth,
            begun.elapsed().as_secs_f64()
        );
        if let Some(failure) = report.failure {
            println!("{}", failure.0);
            all = ExitCode::FAILURE;
        }
    }
    all
}

fn break_all(name: &str, copy: &Path, target: &Path, schedules: u64) -> io::Result<ExitCode> {
    let root = breaks::root().canonicalize()?;
    let mut all = ExitCode::SUCCESS;
    fs::create_dir_all(copy)?;
    fs::create_dir_all(target)?;
    let (copy, target) = (copy.canonicalize()?, target.canonicalize()?);
    copy_tree(&root, &copy)?;
    let cargo = |arguments: &[&str]| {
        let mut command = process::Command::new("cargo");
        command.current_dir(&copy).env("CARGO_TARGET_DIR", &target).args(arguments);
        command.args(["-q", "-p", "conformance", "--bin", "world"]);
        command
    };
    for it in breaks::all()?.into_iter().filter(|it| it.name.contains(name)) {
        for (file, text) in it.applied(&root)? {
            fs::write(copy.join(file), text)?;
        }
        let begun = Instant::now();
        let verdict = if cargo(&["build"]).status()?.success() {
            let mut command = cargo(&["run"]);
            command.arg("--");
            match it.caught_by.strip_prefix("search: ") {
                Some(scope) => command.args(["explore", scope]),
                None => command.args(["run", "--count", &schedules.to_string()]),
            };
            let output = command.output()?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let last = text.lines().find(|line| !line.contains(" schedules")).unwrap_or_default();
            let told: String = last.chars().take(120).collect();
            if output.status.success() { Err("missed".to_owned()) } else { Ok(told) }
        } else {
            Err("does not build".to_owned())
        };
        let time = begun.elapsed().as_secs_f64();
        match verdict {
            Ok(told) => println!("caught  {:<26} {time:>5.0} s  {told}", it.name),
            Err(why) => {
                println!("{why}  {:<26} {time:>5.0} s  ({})", it.name, it.what);
                all = ExitCode::FAILURE;
            }
        }
        for edit in &it.edits {
            fs::copy(root.join(&edit.file), copy.join(&edit.file))?;
        }
    }
    Ok(all)
}

/// Copies what is built of, and nothing that was.
fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == "target" || name == ".git" {
            continue;
        }
        let there = to.join(&name);
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &there)?;
        } else if fs::read(&there).ok() != fs::read(entry.path()).ok() {
            fs::copy(entry.path(), there)?;
        }
    }
    Ok(())
}

fn replay(seed: u64, shrinks: bool) -> ExitCode {
    let mut plan = Plan::random(seed);
    if shrinks && failure_of(&plan).is_some() {
        plan = shrink(&plan);
    }
    println!("{plan:#?}");
    match failure_of(&plan) {
        Some(failure) if failure.0.starts_with("panic") => {
            println!("{}", failure.0);
            ExitCode::FAILURE
        }
        failure => {
            let outcome = run(&plan, true);
            println!("{}", outcome.transcript.render());
            println!("{:?}", outcome.ends);
            match failure {
                Some(failure) => {
                    println!("{}", failure.0);
                    ExitCode::FAILURE
                }
                None => ExitCode::SUCCESS,
            }
        }
    }
}
