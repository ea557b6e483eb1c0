//! `edge-agent`: registers with a relay and opens connections to targets on its behalf.

use std::process::ExitCode;

use agent::cli::Cli;
use tracing::level_filters::LevelFilter;
use transport::program::{self, Signals, StartError};
use transport::tls::TlsError;

const PROGRAM: &str = "edge-agent";

fn main() -> ExitCode {
    program::keep_freed_memory();
    let cli: Cli = match program::parse() {
        Ok(cli) => cli,
        Err(early) => return early.report(),
    };
    let verbose = cli.verbose;
    program::init_logging(PROGRAM, verbose, LevelFilter::INFO);
    let config = match cli.into_config() {
        Ok(config) => config,
        Err(error) => {
            program::fail(PROGRAM, &error, verbose > 0);
            return ExitCode::from(program::EXIT_USAGE);
        }
    };
    tracing::debug!("open descriptors: {}", program::raise_descriptor_limit());
    match serve(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Start(error)) => {
            program::fail(PROGRAM, &error, verbose > 0);
            ExitCode::from(program::EXIT_FAILURE)
        }
        // The file that --ca-file names cannot be used.
        Err(Failure::Authorities(error)) => {
            program::fail(PROGRAM, &error, verbose > 0);
            ExitCode::from(program::EXIT_USAGE)
        }
    }
}

/// Why an agent did not start.
enum Failure {
    Start(StartError),
    Authorities(TlsError),
}

fn serve(config: agent::config::Config) -> Result<(), Failure> {
    let start = |error| Failure::Start(StartError::from(error));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(start)?;
    let served = runtime.block_on(async {
        let mut signals = Signals::new().map_err(start)?;
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let shutdown = async {
            let _ = stopped.await;
        };
        let mut running = std::pin::pin!(agent::run(config, shutdown));
        tokio::select! {
            ended = &mut running => return ended.map_err(Failure::Authorities),
            _ = signals.next() => drop(stop),
        }
        tokio::select! {
            ended = &mut running => ended.map_err(Failure::Authorities),
            // Asked twice: whatever is unfinished is dropped.
            _ = signals.next() => Ok(()),
        }
    });
    runtime.shutdown_background();
    served
}
