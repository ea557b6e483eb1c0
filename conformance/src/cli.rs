//! The command line of the kit.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use transport::program::fail;

use crate::cases;
use crate::harness::holds_within;
use crate::harness::process::kill_all;
use crate::harness::profile::{Profile, ProfileError, Program, RelayProgram, split_words};
use crate::harness::programs::{self, Given, ORIGINAL_VARIABLE, Origin, repository};
use crate::harness::tunnel::credentials;
use crate::kit::expected::Expected;
use crate::kit::run::{self, Plan};
use crate::kit::{Case, Seat};
use crate::matrix::{self, Scenario};
use crate::mutations::{self, MutationError};
use crate::report;

/// Some verdict is not the expected one.
const EXIT_DIFFERENT: u8 = 1;
/// The kit was used wrongly, or cannot do what it was asked to.
const EXIT_USAGE: u8 = 2;

const AFTER_HELP: &str = "\
Exit statuses: 0 every verdict or cell is as expected; 1 some is not; 2 wrong usage, or something is missing; 130, 143
ended by SIGINT, SIGTERM.

conformance/README.md tells how to test programs of your own.";

/// Tests a relay, an agent or a client against the specification of the network relay, protocol v1.
#[derive(Debug, Parser)]
#[command(name = "conformance", version, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the cases and says what each came to.
    Run(Box<RunArgs>),
    /// Plays end-to-end scenarios with every mix of some implementations.
    Matrix(MatrixArgs),
    /// Lists the cases.
    List(ListArgs),
    /// Prints the credentials that a relay needs that runs already.
    Credentials,
    /// Breaks this workspace's programs, in one way at a time, and says which case catches it.
    Mutate(MutateArgs),
}

#[derive(Debug, Args)]
struct RunArgs {
    /// Whose programs to test: `ours`, `original`, or the file of a profile. `ours` unless a program is given.
    #[arg(long, value_name = "NAME|FILE")]
    profile: Option<String>,
    /// The relay's command, with {host} {port} {credentials}; or http://HOST:PORT of one that runs.
    #[arg(long, value_name = "COMMAND|URL")]
    relay: Option<String>,
    /// The agent's command, with {url} {name} {secret} or {secret_file}.
    #[arg(long, value_name = "COMMAND")]
    agent: Option<String>,
    /// The client's command, with {url} {agent} {target_host} {target_port} {protocol} {secret} or {secret_file}.
    #[arg(long, value_name = "COMMAND")]
    client: Option<String>,
    /// The folder with the programs of `--profile original`.
    #[arg(long, value_name = "FOLDER", env = ORIGINAL_VARIABLE)]
    original_bin: Option<PathBuf>,
    /// Only the cases whose id begins with this, or whose title contains it; several are alternatives.
    #[arg(long, value_name = "PATTERN")]
    case: Vec<String>,
    /// Only the cases of this party.
    #[arg(long, value_enum)]
    seat: Vec<SeatArg>,
    /// Writes report.json, junit.xml and index.html into this folder.
    #[arg(long, value_name = "FOLDER")]
    report: Option<PathBuf>,
    /// How many cases run at the same time; one with a relay that runs already.
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// How many seconds to wait for what should happen at once.
    #[arg(long, value_name = "SECONDS", default_value_t = 15)]
    patience: u64,
}

#[derive(Debug, Args)]
struct MatrixArgs {
    /// Whose programs to mix: `ours`, `original`, or the file of a profile; several. `ours` unless one is given, and
    /// `original` if its folder is.
    #[arg(long, value_name = "NAME|FILE")]
    with: Vec<String>,
    /// The folder with the programs of `original`.
    #[arg(long, value_name = "FOLDER", env = ORIGINAL_VARIABLE)]
    original_bin: Option<PathBuf>,
    /// Only the scenarios whose name contains this; several are alternatives.
    #[arg(long, value_name = "PATTERN")]
    scenario: Vec<String>,
    /// Writes report.json, junit.xml and index.html into this folder, beside what `run` has written there.
    #[arg(long, value_name = "FOLDER")]
    report: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct ListArgs {
    /// How.
    #[arg(long, value_enum, default_value_t = Format::Markdown)]
    format: Format,
}

#[derive(Debug, Args)]
struct MutateArgs {
    /// Only this mutation; may be given several times.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Runs every case of the party, not just those that have to catch the mutation.
    #[arg(long)]
    every_case: bool,
    /// Where the copy of the workspace and its target folder are kept; `target/mutations` unless given.
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// How many cases run at the same time.
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// How many seconds to wait for what should happen at once.
    #[arg(long, value_name = "SECONDS", default_value_t = 15)]
    patience: u64,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Markdown,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SeatArg {
    Relay,
    Agent,
    Client,
}

/// Why the kit cannot do what it was asked to.
#[derive(Debug, thiserror::Error)]
enum CliError {
    #[error(transparent)]
    Profile(#[from] ProfileError),
    #[error(transparent)]
    Mutation(#[from] MutationError),
    #[error("--{party}: {text}")]
    Command { party: &'static str, text: String },
    #[error(
        "the original needs the folder with its programs ({ORIGINAL_VARIABLE} or --original-bin)"
    )]
    NoOriginal,
    #[error("no case is called {0:?} (the list subcommand shows them all)")]
    NoCase(String),
    #[error("no scenario is called {name:?}; there are: {}", all.join("; "))]
    NoScenario { name: String, all: Vec<&'static str> },
    #[error(
        "profile {0}: its relay runs already, but scenarios of the matrix end and restart theirs: \
         give it a command"
    )]
    SharedRelay(String),
    #[error("no mix of these has a relay, an agent and a client: add another --with, such as ours")]
    NoMix,
    #[error("--with {0} is given twice")]
    Twice(String),
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("cannot make a temporary folder: {0}")]
    Folder(std::io::Error),
}

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        Command::Run(arguments) => run(&arguments),
        Command::Matrix(arguments) => run_matrix(&arguments),
        Command::List(arguments) => {
            print(&match arguments.format {
                Format::Markdown => report::list::markdown(),
                Format::Json => report::list::json(),
            });
            Ok(ExitCode::SUCCESS)
        }
        Command::Credentials => {
            print(&format!("{:#}\n", credentials()));
            Ok(ExitCode::SUCCESS)
        }
        Command::Mutate(arguments) => mutate(arguments),
    };
    done.unwrap_or_else(|error| {
        fail("conformance", &error, false);
        ExitCode::from(EXIT_USAGE)
    })
}

#[expect(clippy::print_stdout, reason = "it is the program's output")]
fn print(text: &str) {
    print!("{text}");
}

fn run(arguments: &RunArgs) -> Result<ExitCode, CliError> {
    let profile = profile(arguments)?;
    let cases = chosen(arguments)?;
    let is_shared = profile.relay.as_ref().is_some_and(|relay| relay.url.is_some());
    let default = if is_shared { 1 } else { default_jobs() };
    let plan = Plan {
        expected: Expected::of(&profile)?,
        profile: Arc::new(profile),
        jobs: arguments.jobs.unwrap_or(default),
        patience: Duration::from_secs(arguments.patience),
    };
    let folder = tempfile::Builder::new().prefix("conformance").tempdir();
    let folder = folder.map_err(CliError::Folder)?;
    end_cleanly_by_signal(folder.path().to_owned());

    let progress = report::terminal::Progress::new(cases.len());
    let reports = run::run(&cases, &plan, folder.path(), |report| progress.tell(report));
    let summary = report::Summary::of(&plan, &reports);
    if let Some(folder) = &arguments.report {
        let file = |source| CliError::File { path: folder.clone(), source };
        report::write(folder, report::of_cases(&summary, &reports)).map_err(file)?;
    }
    print(&report::terminal::summary(&summary, &reports));
    let is_expected = reports.iter().all(run::Report::is_expected);
    Ok(if is_expected { ExitCode::SUCCESS } else { ExitCode::from(EXIT_DIFFERENT) })
}

fn run_matrix(arguments: &MatrixArgs) -> Result<ExitCode, CliError> {
    let mixes = matrix::mixes(&origins(arguments)?);
    if mixes.is_empty() {
        return Err(CliError::NoMix);
    }
    let scenarios = scenarios(&arguments.scenario)?;
    let folder = tempfile::Builder::new().prefix("conformance").tempdir();
    let folder = folder.map_err(CliError::Folder)?;
    // Each tunnel has a folder of its own. When a signal ends the kit, all of them go at once.
    let is_first = tempfile::env::override_temp_dir(folder.path()).is_ok();
    debug_assert!(is_first, "nothing else sets the folder");
    end_cleanly_by_signal(folder.path().to_owned());

    let progress = report::terminal::Progress::new(scenarios.len() * mixes.len());
    let rows = matrix::run(&scenarios, &mixes, |scenario, cell| {
        let what = format!("{} {}: {}", cell.mix.letters(), scenario.name, cell.text());
        progress.tell_of(&what, cell.took, cell.outcome.is_ok());
    });
    if let Some(folder) = &arguments.report {
        let file = |source| CliError::File { path: folder.clone(), source };
        report::write(folder, report::of_matrix(&rows)).map_err(file)?;
    }
    let failures = report::matrix::failures(&rows);
    print(&report::matrix::summary(&rows));
    Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_DIFFERENT) })
}

/// Whose programs the matrix mixes.
fn origins(arguments: &MatrixArgs) -> Result<Vec<Origin>, CliError> {
    let original_bin = arguments.original_bin.as_ref().filter(|path| !path.as_os_str().is_empty());
    let mut with: Vec<&str> = arguments.with.iter().map(String::as_str).collect();
    if with.is_empty() {
        with.push("ours");
        with.extend(original_bin.map(|_| "original"));
    }
    let mut letters = ('A'..='Z').filter(|letter| !['R', 'P'].contains(letter));
    let mut origins = Vec::new();
    for (index, name) in with.iter().enumerate() {
        if with[..index].contains(name) {
            return Err(CliError::Twice((*name).to_owned()));
        }
        origins.push(match *name {
            "ours" => {
                let own = std::env::current_exe().map_err(CliError::Folder)?;
                let profile = Profile::ours(own.parent().unwrap_or(&own))?;
                programs::use_ours(&profile.bin);
                Origin::Ours
            }
            "original" => {
                let profile = Profile::original(original_bin.ok_or(CliError::NoOriginal)?)?;
                programs::use_original(&profile.bin);
                Origin::Original
            }
            file => {
                let profile = Profile::read(file.as_ref())?;
                if profile.relay.as_ref().is_some_and(|relay| relay.url.is_some()) {
                    return Err(CliError::SharedRelay(profile.name));
                }
                let letter = letters.next().unwrap_or('?');
                // It is used by every thread until the kit ends.
                Origin::Given(Box::leak(Box::new(Given { letter, profile })))
            }
        });
    }
    Ok(origins)
}

fn scenarios(patterns: &[String]) -> Result<Vec<&'static Scenario>, CliError> {
    for pattern in patterns {
        if !matrix::all().any(|it| it.name.contains(pattern)) {
            let all = matrix::all().map(|it| it.name).collect();
            return Err(CliError::NoScenario { name: pattern.clone(), all });
        }
    }
    let is_chosen = |it: &&Scenario| {
        patterns.is_empty() || patterns.iter().any(|pattern| it.name.contains(pattern))
    };
    Ok(matrix::all().filter(is_chosen).collect())
}

fn mutate(arguments: MutateArgs) -> Result<ExitCode, CliError> {
    let cases = tempfile::Builder::new().prefix("conformance").tempdir();
    let cases = cases.map_err(CliError::Folder)?;
    end_cleanly_by_signal(cases.path().to_owned());
    let root = repository();
    let folder = arguments.folder.unwrap_or_else(|| root.join("target/mutations"));
    let trial = mutations::Trial {
        only: arguments.only,
        every_case: arguments.every_case,
        jobs: arguments.jobs.unwrap_or(default_jobs()),
        patience: Duration::from_secs(arguments.patience),
    };
    let tried = mutations::try_all(&trial, root, &folder, cases.path(), |tried| {
        report::terminal::note(&tried.line());
    })?;
    print(&mutations::table(&tried));
    let all_caught = tried.iter().all(mutations::Tried::is_caught);
    Ok(if all_caught { ExitCode::SUCCESS } else { ExitCode::from(EXIT_DIFFERENT) })
}

/// Cases wait more than they work.
fn default_jobs() -> usize {
    std::thread::available_parallelism().map_or(8, |cores| cores.get() * 8)
}

/// The profile that the arguments name, with the programs that they give.
fn profile(arguments: &RunArgs) -> Result<Profile, CliError> {
    let gives_programs =
        arguments.relay.is_some() || arguments.agent.is_some() || arguments.client.is_some();
    let mut profile = match arguments.profile.as_deref() {
        None if gives_programs => Profile::empty("given"),
        None | Some("ours") => {
            let own = std::env::current_exe().map_err(CliError::Folder)?;
            Profile::ours(own.parent().unwrap_or(&own))?
        }
        Some("original") => {
            Profile::original(arguments.original_bin.as_ref().ok_or(CliError::NoOriginal)?)?
        }
        Some(file) => Profile::read(file.as_ref())?,
    };
    let words =
        |party, line: &str| split_words(line).map_err(|text| CliError::Command { party, text });
    if let Some(relay) = &arguments.relay {
        let is_url =
            ["http://", "https://", "ws://", "wss://"].iter().any(|s| relay.starts_with(s));
        profile.relay = Some(if is_url {
            RelayProgram { url: Some(relay.clone()), ..RelayProgram::default() }
        } else {
            RelayProgram { command: words("relay", relay)?, ..RelayProgram::default() }
        });
    }
    if let Some(agent) = &arguments.agent {
        let command = words("agent", agent)?;
        profile.agent = Some(Program { command, ..Program::default() });
    }
    if let Some(client) = &arguments.client {
        let command = words("client", client)?;
        profile.client = Some(Program { command, ..Program::default() });
    }
    profile.check().map_err(|text| CliError::Command { party: "profile", text })?;
    Ok(profile)
}

fn chosen(arguments: &RunArgs) -> Result<Vec<&'static Case>, CliError> {
    let is_match = |case: &Case, pattern: &str| {
        let (id, number) = (case.id(), pattern.strip_prefix("v1/").unwrap_or(pattern));
        let exact = |rest: &str| rest.is_empty() || rest.starts_with(['.', '-']);
        let begins = id["v1/".len()..].strip_prefix(number).is_some_and(exact);
        begins || id.ends_with(&format!("/{number}")) || case.title.contains(pattern)
    };
    for pattern in &arguments.case {
        if !cases::all().any(|case| is_match(case, pattern)) {
            return Err(CliError::NoCase(pattern.clone()));
        }
    }
    let seats = &arguments.seat;
    let seat = |case: &Case| match case.seat() {
        Seat::Relay => SeatArg::Relay,
        Seat::Agent => SeatArg::Agent,
        Seat::Client => SeatArg::Client,
    };
    let is_chosen = |case: &&Case| {
        let patterns = &arguments.case;
        (patterns.is_empty() || patterns.iter().any(|pattern| is_match(case, pattern)))
            && (seats.is_empty() || seats.contains(&seat(case)))
    };
    Ok(cases::all().filter(is_chosen).collect())
}

/// A signal ends the kit, with the programs that it has started and its files.
fn end_cleanly_by_signal(folder: PathBuf) {
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let Ok(runtime) = runtime else { return };
        let signal = runtime.block_on(async {
            let mut signals = transport::program::Signals::new().ok()?;
            Some(signals.next().await.signal())
        });
        if let Some(signal) = signal {
            kill_all();
            // Threads that have no program to start yet may write another file meanwhile. What cannot be removed at all is
            // not worth another word.
            holds_within(Duration::from_secs(1), || {
                std::fs::remove_dir_all(&folder).is_ok() || !folder.exists()
            });
            std::process::exit(128 + i32::from(signal.number()));
        }
    });
}
