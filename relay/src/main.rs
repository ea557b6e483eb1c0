//! `network-relay`: the public end of the tunnel.

use std::error::Error;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::process::ExitCode;

use listenfd::ListenFd;
use relay::cli::Cli;
use relay::config::{Config, ListenAddress};
use relay::{Relay, Shutdown};
use tokio::net::{TcpListener, TcpSocket};
use tracing::level_filters::LevelFilter;
use transport::program::{self, Signals, StartError, StopSignal};
use transport::system::system_text;

const PROGRAM: &str = "network-relay";

fn main() -> ExitCode {
    program::keep_freed_memory();
    let cli: Cli = match program::parse() {
        Ok(cli) => cli,
        Err(early) => return early.report(),
    };
    let verbose = cli.verbose > 0;
    program::init_logging(PROGRAM, cli.verbose, LevelFilter::INFO);
    tracing::debug!("open descriptors: {}", program::raise_descriptor_limit());
    match cli.into_config().map_err(Box::from).and_then(serve) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            program::fail(PROGRAM, &*error, verbose);
            ExitCode::from(program::EXIT_FAILURE)
        }
    }
}

fn serve(config: Config) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(StartError::from)?;
    let served = runtime.block_on(async {
        let mut signals = Signals::new()?;
        let passed_on = passed_on()?;
        // The next process takes it over.
        let is_succeeded = !passed_on.is_empty();
        let listeners = if is_succeeded { passed_on } else { listen(&config.listen).await? };
        for listener in &listeners {
            eprintln!("{PROGRAM}: listening on http://{}", listener.local_addr()?);
        }
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let shutdown = async { stopped.await.unwrap_or(Shutdown::Now) };
        let relay = Relay::new(config.credentials, ());
        let mut serving = pin!(relay.serve(listeners, shutdown));
        let signal = tokio::select! {
            ended = &mut serving => return Ok(ended?),
            stop = signals.next() => stop.signal(),
        };
        let how = match signal {
            StopSignal::Terminate if !config.drain_timeout.is_zero() => {
                Shutdown::Drain { within: config.drain_timeout, is_succeeded }
            }
            _ => Shutdown::Now,
        };
        // It has not ended, so it listens.
        let _ = stop.send(how);
        tokio::select! {
            ended = &mut serving => Ok(ended?),
            // Asked twice: whatever is unfinished is dropped.
            _ = signals.next() => Ok(()),
        }
    });
    runtime.shutdown_background();
    served
}

/// The listening sockets that whoever started this process has passed on (systemd's LISTEN_FDS).
fn passed_on() -> Result<Vec<TcpListener>, Box<dyn Error>> {
    let mut passed = ListenFd::from_env();
    let mut listeners = Vec::new();
    for index in 0..passed.len() {
        let failure = |error| {
            let error = system_text(&error);
            format!("socket {index} of LISTEN_FDS cannot be used: {error} (is it a TCP listener?)")
        };
        if let Some(listener) = passed.take_tcp_listener(index).map_err(failure)? {
            listener.set_nonblocking(true)?;
            listeners.push(TcpListener::from_std(listener)?);
        }
    }
    Ok(listeners)
}

/// Binds every address of the host; the first with port 0 picks the port for all. An address
/// that this machine does not have, as `::1` without IPv6, is left out if another is bound.
async fn listen(address: &ListenAddress) -> Result<Vec<TcpListener>, Box<dyn Error>> {
    let mut listeners: Vec<TcpListener> = Vec::new();
    let mut left_out = None;
    for mut found in address.resolve().await? {
        if let Some(first) = listeners.first() {
            found.set_port(first.local_addr()?.port());
        }
        match bind(found) {
            Ok(bound) => listeners.push(bound),
            Err(error) => {
                let failure = bind_failure(found, &error);
                if !matches!(error.kind(), ErrorKind::AddrNotAvailable | ErrorKind::Unsupported) {
                    return Err(failure.into());
                }
                left_out.get_or_insert(failure);
            }
        }
    }
    match left_out {
        Some(failure) if listeners.is_empty() => return Err(failure.into()),
        Some(failure) => tracing::warn!("{failure}"),
        None => {}
    }
    Ok(listeners)
}

fn bind_failure(address: SocketAddr, error: &std::io::Error) -> String {
    let hint = match error.kind() {
        ErrorKind::AddrInUse => "another program uses the port; choose another --port",
        ErrorKind::AddrNotAvailable => "no interface has this address; choose another --host",
        ErrorKind::PermissionDenied => "ports below 1024 need a privilege",
        _ => "choose another --host or --port",
    };
    format!("cannot listen on {address}: {} ({hint})", system_text(error))
}

fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match address.ip() {
        IpAddr::V4(_) => TcpSocket::new_v4()?,
        IpAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Connections that may wait to be accepted; a fleet reconnects at once after a restart.
const BACKLOG: u32 = 4096;
