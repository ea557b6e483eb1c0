//! The relay's listeners.

use std::future::Future;
use std::io;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{Instrument, debug, info_span, warn};
use transport::socket::Socket;

use crate::auth::Credentials;
use crate::connection::Relay;

/// Why a relay could not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// There is nothing to listen on.
    #[error("no listener was given")]
    NoListener,
    /// A listener failed in a way that waiting does not mend.
    #[error("cannot accept connections")]
    Accept(#[source] io::Error),
}

/// Serves agents and clients on every listener until `shutdown` completes, then closes every
/// link with 1012 and returns within two seconds. Dropping the future ends everything at
/// once, without close frames.
///
/// # Errors
/// [`ServeError`]; a single connection's failure never ends the relay.
pub async fn serve(
    listeners: Vec<TcpListener>,
    credentials: Credentials,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    if listeners.is_empty() {
        return Err(ServeError::NoListener);
    }
    let relay = Relay::new(credentials);
    let (stop, stopped) = watch::channel(());
    let mut acceptors = JoinSet::new();
    for listener in listeners {
        acceptors.spawn(accept(listener, relay.clone(), stopped.clone()));
    }
    drop(stopped);
    tokio::pin!(shutdown);
    tokio::select! {
        () = &mut shutdown => {}
        Some(ended) = acceptors.join_next() => {
            // An acceptor ends by itself only on an error.
            if let Ok(Err(error)) = ended {
                return Err(error);
            }
        }
    }
    drop(stop);
    let all = async { while acceptors.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_TIMEOUT, all).await.is_err() {
        debug!("some links did not end in time and are cut off");
    }
    Ok(())
}

/// Accepts connections until told to stop, then waits for those it has.
async fn accept(
    listener: TcpListener,
    relay: Relay,
    mut stopped: watch::Receiver<()>,
) -> Result<(), ServeError> {
    let mut connections = JoinSet::new();
    let mut told: Option<Instant> = None;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.changed() => break,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (relay, mut stopped) = (relay.clone(), stopped.clone());
                let connection = async move {
                    if let Err(error) = transport::tcp::prepare(&stream) {
                        debug!("socket options not set: {error}");
                    }
                    let stop = async move { drop(stopped.changed().await) };
                    relay.serve_connection(Socket::Tcp(stream), stop).await;
                };
                connections.spawn(connection.instrument(info_span!("link", %peer)));
            }
            Err(error) if is_exhaustion(&error) => {
                let now = transport::now();
                if told.is_none_or(|told| now >= told + EXHAUSTION_TOLD_EVERY) {
                    warn!("no new connections for now: {error}");
                    told = Some(now);
                }
                tokio::select! {
                    () = tokio::time::sleep(EXHAUSTED_PAUSE) => {}
                    Some(_) = connections.join_next() => {}
                    _ = stopped.changed() => break,
                }
            }
            Err(error) if is_about_one_connection(&error) => debug!("not accepted: {error}"),
            Err(error) => return Err(ServeError::Accept(error)),
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
    Ok(())
}

/// Whether the process or the system has run out of something that others will give back.
#[cfg(unix)]
fn is_exhaustion(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let exhausted = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|errno| exhausted.contains(&errno))
}

/// The same, where it has no Errno.
#[cfg(not(unix))]
fn is_exhaustion(error: &io::Error) -> bool {
    // WSAEMFILE and WSAENOBUFS.
    matches!(error.raw_os_error(), Some(10_024 | 10_055))
}

/// Whether an error belongs to the connection that was to be accepted (accept(2)).
#[cfg(unix)]
fn is_about_one_connection(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let passing = [
        Errno::CONNABORTED,
        Errno::CONNRESET,
        Errno::PERM,
        Errno::PROTO,
        Errno::NETDOWN,
        Errno::NETUNREACH,
        Errno::HOSTDOWN,
        Errno::HOSTUNREACH,
        Errno::OPNOTSUPP,
        Errno::NOPROTOOPT,
        Errno::INTR,
        Errno::AGAIN,
    ];
    Errno::from_io_error(error).is_none_or(|errno| passing.contains(&errno))
}

/// The same, where it has no Errno.
#[cfg(not(unix))]
fn is_about_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind;
    let passing = [
        ErrorKind::ConnectionAborted,
        ErrorKind::ConnectionReset,
        ErrorKind::NetworkDown,
        ErrorKind::NetworkUnreachable,
        ErrorKind::HostUnreachable,
        ErrorKind::Interrupted,
        ErrorKind::WouldBlock,
    ];
    error.raw_os_error().is_none() || passing.contains(&error.kind())
}

/// How long accepting pauses when descriptors or memory ran out, unless a connection ends.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// How often the log says so at most: at the limit, accepting pauses and goes on many times a second.
const EXHAUSTION_TOLD_EVERY: Duration = Duration::from_secs(60);

/// How long links may take to end when the relay stops.
const STOP_TIMEOUT: Duration = Duration::from_millis(1500);
