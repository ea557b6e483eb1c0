//! The relay's sockets: accepting, the HTTP phase, and the links that come of it.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use codec::{v1, v2};
use hyper::StatusCode;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{Instrument, debug, info, info_span, warn};
use transport::bell::Bell;
use transport::dial::Protocol;
use transport::driver::{Close, drive};
use transport::printable::printable;
use transport::socket::Socket;
use transport::streams::SIZES;
use transport::websocket::{self, Sizes, websocket};

use crate::auth::Credentials;
use crate::directory::Directory;
use crate::http::{Answer, Role, answer};
use crate::session::{AgentSession, ClientSession, LinkSession};

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
    let directory = Arc::new(Directory::new(credentials));
    let (stop, stopped) = watch::channel(());
    let mut acceptors = JoinSet::new();
    for listener in listeners {
        let directory = Arc::clone(&directory);
        acceptors.spawn(accept(listener, directory, stopped.clone()));
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
    directory: Arc<Directory>,
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
                let connection = connection(stream, Arc::clone(&directory), stopped.clone());
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
fn is_exhaustion(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let exhausted = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|errno| exhausted.contains(&errno))
}

/// Whether an error belongs to the connection that was to be accepted (accept(2)).
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

/// One connection from its acceptance to its end.
async fn connection(
    stream: TcpStream,
    directory: Arc<Directory>,
    mut stopped: watch::Receiver<()>,
) {
    if let Err(error) = transport::tcp::prepare(&stream) {
        debug!("socket options not set: {error}");
    }
    let upgraded = tokio::select! {
        upgraded = http_phase(stream) => upgraded,
        _ = stopped.changed() => return,
    };
    let Some((role, protocol, upgraded)) = upgraded else { return };
    // Spec v1, L-10, and spec v2, LK-6.
    let patience = match protocol {
        Protocol::V1 => v1::START_TIMEOUT,
        Protocol::V2 => v2::HELLO_TIMEOUT,
    };
    let deadline = transport::now() + patience;
    let Ok(parts) = upgraded.downcast::<TokioIo<TcpStream>>() else {
        debug_assert!(false, "the upgraded connection is the one that was served");
        return;
    };
    let sizes = match protocol {
        Protocol::V1 => Sizes {
            // Spec v1, L-2.
            max_message: v1::MAX_MESSAGE_TO_RELAY,
            before_start: Some(v1::MAX_MESSAGE_BEFORE_START),
        },
        Protocol::V2 => Sizes { before_start: Some(v2::MAX_BEFORE_WELCOME), ..SIZES },
    };
    let socket = Socket::Tcp(parts.io.into_inner());
    let socket = websocket(socket, &parts.read_buf, websocket::Role::Server, sizes).await;
    let bell = Bell::default();
    let stop = async move {
        let _ = stopped.changed().await;
        // Spec v1, X-13, and spec v2, RL-10.
        Close::new(v1::CLOSE_RESTART, "")
    };
    match (protocol, role) {
        (Protocol::V2, role) => {
            let mut session = LinkSession::new(directory, bell.clone(), role, deadline);
            drive(socket, &mut session, &bell, stop).await;
        }
        (Protocol::V1, Role::Agent) => {
            let mut session = AgentSession::new(directory, bell.clone(), deadline);
            drive(socket, &mut session, &bell, stop).await;
        }
        (Protocol::V1, Role::Client) => {
            let mut session = ClientSession::new(directory, bell.clone(), deadline);
            drive(socket, &mut session, &bell, stop).await;
        }
    }
}

/// Answers the request that a connection is there for. None if it did not ask for a link.
async fn http_phase(stream: TcpStream) -> Option<(Role, Protocol, Upgraded)> {
    let upgrade: Mutex<Option<(Role, Protocol, OnUpgrade)>> = Mutex::new(None);
    let service = service_fn(|mut request| {
        let response = match answer(&request, false) {
            Answer::Plain(response) => {
                if response.status() != StatusCode::OK {
                    let path = printable(request.uri().path(), 100);
                    info!("answered {} to {} {path}", response.status(), request.method());
                }
                response
            }
            Answer::Upgrade(role, protocol, response) => {
                let asked = (role, protocol, hyper::upgrade::on(&mut request));
                *upgrade.lock().unwrap_or_else(PoisonError::into_inner) = Some(asked);
                response
            }
        };
        async { Ok::<_, Infallible>(response) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(v1::START_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        info!("no HTTP request: {error}");
    }
    let asked = upgrade.into_inner().unwrap_or_else(PoisonError::into_inner);
    let (role, protocol, on_upgrade) = asked?;
    Some((role, protocol, on_upgrade.await.ok()?))
}

/// How long accepting pauses when descriptors or memory ran out, unless a connection ends.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// How often the log says so at most: at the limit, accepting pauses and goes on many times a second.
const EXHAUSTION_TOLD_EVERY: Duration = Duration::from_secs(60);

/// Largest head of a request, in bytes; what proxies add fits well.
/// Longer ones are answered with 431 (spec v1, H-11).
const MAX_HEAD: usize = 64 * 1024;

/// How long links may take to end when the relay stops.
const STOP_TIMEOUT: Duration = Duration::from_millis(1500);
