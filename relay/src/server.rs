//! The relay: its listeners, and how it ends.

use std::future::{Future, pending};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use codec::v2::Goaway;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{Instrument, debug, info, info_span, warn};
use transport::socket::Socket;

use crate::auth::Credentials;
use crate::connection::serve_connection;
use crate::directory::Directory;
use crate::hooks::{Handle, Hooks, SharedHooks};
use crate::phase::{Phase, Watch};

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

/// How a relay is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// Every link is closed at once, with 1012.
    Now,
    /// Links of protocol v1 are closed at once, with 1012; those of v2 are told to move, and closed when they have not
    /// gone by themselves in time (spec v2, RL-10).
    Drain {
        /// The time that they have.
        within: Duration,
        /// Somebody else accepts connections on the listeners from now on, or will: they are left alone. If not,
        /// whoever still comes is told to come back.
        is_succeeded: bool,
    },
}

/// A relay. [`Self::serve`] has listeners for TCP; [`Self::serve_connection`] does without.
#[derive(Debug)]
pub struct Relay {
    directory: Arc<Directory>,
}

impl Relay {
    /// A relay that admits whom the credentials name. `hooks` hear of its agents; `()` if nobody wants to.
    pub fn new(credentials: Credentials, hooks: impl Hooks) -> Self {
        Self { directory: Arc::new(Directory::new(credentials, SharedHooks::new(hooks))) }
    }

    /// For messages to its agents; good as long as it serves.
    pub fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.directory))
    }

    /// Serves one connection, for whoever accepts them in a way of his own: from its first byte of HTTP to its end, and
    /// that of a stand-in that it leaves behind. When `stop` completes, a link is closed with 1012, and a connection
    /// that is none yet is dropped. May be dropped at any time.
    ///
    /// Spawns no task. Must be called within a tokio runtime that has its timers enabled.
    pub async fn serve_connection(&self, socket: Socket, stop: impl Future<Output = ()>) {
        let (phase, watched) = watch::channel(Phase::Serving);
        let stopping = async {
            stop.await;
            phase.send_replace(Phase::Stopped);
            pending().await
        };
        tokio::select! {
            () = serve_connection(socket, Arc::clone(&self.directory), Watch(watched)) => {}
            () = stopping => {}
        }
    }

    /// Serves agents and clients on every listener until `shutdown` completes, then ends as that says, and two seconds
    /// after that at the latest. Dropping the future ends everything at once, without close frames.
    ///
    /// # Errors
    /// [`ServeError`]; a single connection's failure never ends the relay.
    pub async fn serve(
        self,
        listeners: Vec<TcpListener>,
        shutdown: impl Future<Output = Shutdown>,
    ) -> Result<(), ServeError> {
        if listeners.is_empty() {
            return Err(ServeError::NoListener);
        }
        let (phase, watched) = watch::channel(Phase::Serving);
        let mut acceptors = JoinSet::new();
        for listener in listeners {
            let directory = Arc::clone(&self.directory);
            acceptors.spawn(accept(listener, directory, Watch(watched.clone())));
        }
        drop(watched);
        let shutdown = pin!(shutdown);
        let asked = tokio::select! {
            asked = shutdown => asked,
            Some(ended) = acceptors.join_next() => {
                // An acceptor ends by itself only on an error.
                return ended.unwrap_or(Ok(()));
            }
        };
        let mut all = pin!(async { while acceptors.join_next().await.is_some() {} });
        if let Shutdown::Drain { within, is_succeeded } = asked {
            phase.send_replace(Phase::Draining { is_succeeded });
            self.directory.drain(&Goaway {
                message: "the relay is about to stop".into(),
                reconnect_after_ms: if is_succeeded { 0 } else { RECONNECT_AFTER_MS },
            });
            if tokio::time::timeout(within, &mut all).await.is_ok() {
                return Ok(());
            }
            info!("some links are still there, and are closed");
        }
        phase.send_replace(Phase::Stopped);
        if tokio::time::timeout(STOP_TIMEOUT, all).await.is_err() {
            debug!("some links did not end in time and are cut off");
        }
        Ok(())
    }
}

/// Serves as [`Relay::serve`] does, for whoever hears nothing, until `shutdown` completes; then closes every link at
/// once.
///
/// # Errors
/// [`ServeError`]
pub async fn serve(
    listeners: Vec<TcpListener>,
    credentials: Credentials,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let shutdown = async {
        shutdown.await;
        Shutdown::Now
    };
    Relay::new(credentials, ()).serve(listeners, shutdown).await
}

/// Accepts connections until told to stop, then waits for those it has.
async fn accept(
    listener: TcpListener,
    directory: Arc<Directory>,
    watch: Watch,
) -> Result<(), ServeError> {
    let mut connections = JoinSet::new();
    let mut told: Option<Instant> = None;
    let (mut draining, mut stopping) = (watch.clone(), watch.clone());
    let mut drains = false;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopping.stopped() => break,
            phase = draining.draining(), if !drains => match phase {
                Phase::Draining { is_succeeded: false } => {
                    drains = true;
                    continue;
                }
                _ => break,
            },
            ended = connections.join_next(), if drains || !connections.is_empty() => match ended {
                Some(_) => continue,
                // The last one that it was still there for.
                None => break,
            },
        };
        match accepted {
            Ok((stream, peer)) => {
                if let Err(error) = transport::tcp::prepare(&stream) {
                    debug!("socket options not set: {error}");
                }
                let socket = Socket::Tcp(stream);
                let connection = serve_connection(socket, Arc::clone(&directory), watch.clone());
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
                    () = stopping.stopped() => break,
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

/// How long accepting pauses when descriptors or memory ran out, unless a connection ends.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// How often the log says so at most: at the limit, accepting pauses and goes on many times a second.
const EXHAUSTION_TOLD_EVERY: Duration = Duration::from_secs(60);

/// When those who were told to move may come back to the same address, at the earliest.
const RECONNECT_AFTER_MS: u32 = 1000;

/// How long links may take to end when the relay stops.
const STOP_TIMEOUT: Duration = Duration::from_millis(1500);
