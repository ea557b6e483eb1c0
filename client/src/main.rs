//! `access-client`: connects stdin and stdout to a target behind an agent.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use client::cli::{Cli, Task};
use client::config::{Config, Forward, Target};
use client::exit::Exit;
use client::stdio::{Input, Output, input_hung_up, input_is_terminal, output_closed};
use client::{Ends, Notice, Notices, RunError};
use tokio::sync::oneshot;
use tracing::level_filters::LevelFilter;
use transport::printable::printable;
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
    let (config, task) = match cli.into_config() {
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
    let exit = runtime.block_on(act(&config, &task, verbose > 0));
    // A thread may still wait for input that nobody will send.
    runtime.shutdown_background();
    exit.into()
}

async fn act(config: &Config, task: &Task, verbose: bool) -> Exit {
    let mut signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => {
            program::fail(PROGRAM, &StartError::from(error), verbose);
            return Exit::Local;
        }
    };
    match task {
        Task::Carry(target) => carry(config, target, &mut signals, verbose).await,
        Task::Listen(forwards) => listen(config, forwards, &mut signals, verbose).await,
    }
}

/// Carries stdin and stdout.
async fn carry(config: &Config, target: &Target, signals: &mut Signals, verbose: bool) -> Exit {
    let output = match Output::open() {
        Ok(output) => output,
        Err(source) => {
            let error = RunError::Output { target: target.to_string(), source };
            program::fail(PROGRAM, &error, verbose);
            return error.exit();
        }
    };
    let ends = Ends {
        input: Input::open(),
        output,
        output_closed: output_closed(),
        ends_with_target: input_is_terminal(),
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let running = client::run(config, target, ends, notices(), async {
        let _ = stopped.await;
    });
    let error = match until_signal(running, stop, signals).await {
        Ok(Ok(())) => return Exit::Clean,
        Ok(Err(error)) => error,
        Err(signal) => return ended_by(signal),
    };
    if let RunError::Output { .. } | RunError::Input { .. } = error
        && let Ok(Stop::Gracefully(signal) | Stop::Now(signal)) =
            tokio::time::timeout(HANGUP, signals.next()).await
    {
        return ended_by(signal);
    }
    if let RunError::Output { .. } = error
        && signals.ignore_hangup()
        && input_hung_up()
    {
        // Both pipes are closed: the signal would have come, had it not been ignored.
        return Exit::Hangup;
    }
    program::fail(PROGRAM, &error, verbose);
    error.exit()
}

/// Listens on local ports.
async fn listen(
    config: &Config,
    forwards: &[Forward],
    signals: &mut Signals,
    verbose: bool,
) -> Exit {
    program::raise_descriptor_limit();
    let (stop, stopped) = oneshot::channel::<()>();
    let running = client::listen(config, forwards, notices(), async {
        let _ = stopped.await;
    });
    match until_signal(running, stop, signals).await {
        Ok(Ok(())) => Exit::Clean,
        Ok(Err(error)) => {
            program::fail(PROGRAM, &error, verbose);
            error.exit()
        }
        Err(signal) => ended_by(signal),
    }
}

/// Waits for the end of what runs, or has it end at a signal, which is the error.
async fn until_signal<T>(
    running: impl Future<Output = T>,
    stop: oneshot::Sender<()>,
    signals: &mut Signals,
) -> Result<T, StopSignal> {
    tokio::pin!(running);
    tokio::select! {
        ended = &mut running => Ok(ended),
        Stop::Gracefully(signal) | Stop::Now(signal) = signals.next() => {
            drop(stop);
            // Whoever ends a ProxyCommand does not wait for it: the relay is told, if it listens.
            let _ = tokio::time::timeout(FAREWELL, running).await;
            Err(signal)
        }
    }
}

/// Notices go to stderr, a line each.
fn notices() -> Notices {
    Arc::new(|notice: &Notice| {
        let line = format!("{PROGRAM}: {}\n", printable(&notice.to_string(), MAX_NOTICE));
        // A stderr that is gone is no reason to end.
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
    })
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

/// Longest notice, in characters: enough for a long URL and a cause.
const MAX_NOTICE: usize = 800;
