//! `access-client`: connects stdin and stdout to a target behind an agent.

use std::process::ExitCode;

use client::cli::Cli;
use client::exit::Exit;
use client::stdio::{Input, Output, input_hung_up, output_closed};
use tracing::level_filters::LevelFilter;
use transport::program::{self, Signals, StartError, Stop, StopSignal};

const PROGRAM: &str = "access-client";

fn main() -> ExitCode {
    program::keep_freed_memory();
    let cli: Cli = match program::parse() {
        Ok(cli) => cli,
        Err(early) => return early.report(),
    };
    let verbose = cli.verbose;
    program::init_logging(PROGRAM, verbose, LevelFilter::WARN);
    let config = match cli.into_config() {
        Ok(config) => config,
        Err(error) => {
            program::fail(PROGRAM, &error, verbose > 0);
            return Exit::Usage.into();
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            program::fail(PROGRAM, &StartError::from(error), verbose > 0);
            return Exit::Local.into();
        }
    };
    let exit = runtime.block_on(carry(&config, verbose > 0));
    // A thread may still wait for input that nobody will send.
    runtime.shutdown_background();
    exit.into()
}

async fn carry(config: &client::config::Config, verbose: bool) -> Exit {
    let mut signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => {
            program::fail(PROGRAM, &StartError::from(error), verbose);
            return Exit::Local;
        }
    };
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let shutdown = async {
        let _ = stopped.await;
    };
    let output = match Output::open() {
        Ok(output) => output,
        Err(source) => {
            let error = client::RunError::Output { target: config.target.to_string(), source };
            program::fail(PROGRAM, &error, verbose);
            return error.exit();
        }
    };
    let running = client::run(config, Input::open(), output, output_closed(), shutdown);
    tokio::pin!(running);
    tokio::select! {
        ended = &mut running => match ended {
            Ok(()) => Exit::Clean,
            Err(error) => {
                if let client::RunError::Output { .. } | client::RunError::Input { .. } = error
                    && let Ok(Stop::Gracefully(signal) | Stop::Now(signal)) =
                        tokio::time::timeout(HANGUP, signals.next()).await
                {
                    return ended_by(signal);
                }
                if let client::RunError::Output { .. } = error
                    && signals.ignore_hangup()
                    && input_hung_up()
                {
                    // Both pipes are closed: the signal would have come, had it not been ignored.
                    return Exit::Hangup;
                }
                program::fail(PROGRAM, &error, verbose);
                error.exit()
            }
        },
        Stop::Gracefully(signal) | Stop::Now(signal) = signals.next() => {
            drop(stop);
            // Whoever ends a ProxyCommand does not wait for it: the relay is told, if it listens.
            let _ = tokio::time::timeout(FAREWELL, running).await;
            ended_by(signal)
        }
    }
}

fn ended_by(signal: StopSignal) -> Exit {
    match signal {
        StopSignal::Hangup => Exit::Hangup,
        StopSignal::Interrupt => Exit::Interrupted,
        StopSignal::Terminate => Exit::Terminated,
    }
}

/// How long a signal may take that makes closed pipes no failure: `ssh` closes the pipes to its ProxyCommand first,
/// and sends SIGHUP then.
const HANGUP: std::time::Duration = std::time::Duration::from_millis(300);

/// How long a close frame may take to be answered after a signal.
const FAREWELL: std::time::Duration = std::time::Duration::from_millis(300);
