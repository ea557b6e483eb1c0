//! What the tunnel costs: the release programs beside plain copies, and beside the original where there is one, in one
//! run and one table.
//!
//! `cargo run --release --bin speed`; `--help` tells the options. The variable `HNR_ORIGINAL_BIN` may name a folder
//! with the three programs of the original. Figures are for comparing within one run: what another machine, or this
//! one at another time, would say is another matter. Nothing is judged here.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use tracing::level_filters::LevelFilter;
use transport::program::{self, Signals};

#[path = "../speed/mod.rs"]
mod speed;

/// Measures the tunnel beside plain copies and, where HNR_ORIGINAL_BIN names its folder, beside the original.
#[derive(Debug, Parser)]
struct Cli {
    /// How often each figure is taken; the table shows medians.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Takes a minute instead of ten: less of everything, one round.
    #[arg(long)]
    quick: bool,
    /// Takes only the figures whose name contains this.
    #[arg(long, value_name = "PATTERN")]
    only: Option<String>,
    #[command(subcommand)]
    command: Option<Copy>,
}

/// The hops of the plain chain, as processes of their own.
#[derive(Debug, Subcommand)]
enum Copy {
    /// Copies between stdin, stdout and a port of loopback.
    #[command(hide = true)]
    CopyStdio {
        /// The port to connect to.
        port: u16,
    },
    /// Copies between each accepted connection and a port of loopback, until stdin ends.
    #[command(hide = true)]
    CopyTcp {
        /// The port to connect to.
        port: u16,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    program::init_logging("speed", 0, LevelFilter::WARN);
    match run(&cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("speed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start a tokio runtime")?;
    let plan = match cli.command {
        Some(Copy::CopyStdio { port }) => {
            let copied = runtime.block_on(speed::copy::stdio(port));
            // A thread may still wait for input that nobody will send.
            runtime.shutdown_background();
            copied?;
            return Ok(ExitCode::SUCCESS);
        }
        Some(Copy::CopyTcp { port }) => {
            runtime.block_on(speed::copy::tcp(port))?;
            return Ok(ExitCode::SUCCESS);
        }
        None => speed::Plan::new(cli.rounds, cli.quick, cli.only.clone().unwrap_or_default()),
    };
    let bench = speed::Bench::prepare(plan)?;
    runtime.block_on(async {
        let mut signals = Signals::new()?;
        tokio::select! {
            report = bench.run() => {
                print(&report?);
                Ok(ExitCode::SUCCESS)
            }
            _ = signals.next() => Ok(ExitCode::from(INTERRUPTED)),
        }
    })
}

/// What a shell reports of a program that SIGINT ended.
const INTERRUPTED: u8 = 130;

#[expect(clippy::print_stdout, reason = "the table is the program's output")]
fn print(report: &str) {
    print!("{report}");
}
