//! Local ports and sockets whose connections are carried to targets, as `ssh -L` does.

mod bind;
mod connection;

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tracing::{debug, info};
use transport::accept::{AcceptFailure, EXHAUSTED_PAUSE, EXHAUSTED_TOLD_EVERY};
use transport::system::system_text;

use crate::config::{Config, Forward, Target};
use crate::error::RunError;
use crate::notice::{Notice, Notices};
use crate::relays::Relays;
use crate::run::check_names;
use crate::session::Session;
use bind::Listener;
use connection::Carrier;

/// Listens as `forwards` say and carries every connection there to its target, until `shutdown` completes. All streams
/// share one link if the relay speaks protocol v2; with v1 each has its own.
///
/// The relay is dialled at the start; after that it is dialled again for as long as it takes whenever it is lost, and
/// connections that are accepted meanwhile wait for a while. What is listened on is told as [`Notice::Listening`].
///
/// # Errors
/// [`RunError`] if it does not come to listening, because of a place to listen at or the relay, or if accepting fails
/// for good.
pub async fn listen(
    config: &Config,
    forwards: &[Forward],
    notices: Notices,
    shutdown: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let targets: Vec<&Target> = forwards.iter().map(|forward| &forward.target).collect();
    check_names(config, &targets)?;
    let mut shutdown = pin!(shutdown);
    let relays = Relays::new(config)?;
    let mut listeners = Vec::new();
    for forward in forwards {
        listeners.push((bind::listen(&forward.bind)?, forward.target.clone()));
    }
    let mut session = Session::new(config, relays.clone(), Arc::clone(&notices), true);
    let reached = tokio::select! {
        reached = relays.clone().dial(0) => reached?,
        () = &mut shutdown => return Ok(()),
    };
    session.adopt(reached);
    while !session.is_established() {
        tokio::select! {
            stepped = session.step() => stepped?,
            () = &mut shutdown => {
                session.leave().await;
                return Ok(());
            }
        }
    }
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut acceptors = JoinSet::new();
    for (listener, target) in listeners {
        let bound = listener.to_string();
        let agent = config.agent.clone();
        (notices)(&Notice::Listening { bound, agent, target: target.clone() });
        let carrier = Carrier::new(config, target, &relays, session.opener(), &notices);
        acceptors.spawn(accept(listener, carrier, Arc::clone(&room), Arc::clone(&notices)));
    }
    let mut running = session.start();
    let failure = tokio::select! {
        () = &mut shutdown => None,
        () = running.given_up() => None,
        Some(ended) = acceptors.join_next() => match ended {
            Ok(error) => Some(error),
            Err(failed) => match failed.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => None,
            },
        },
    };
    info!("listening no more");
    // Streams are reset, which goes out with the rest; sockets are closed, and their files removed.
    acceptors.shutdown().await;
    let (session, given_up) = running.stop().await;
    session.leave().await;
    failure.or(given_up).map_or(Ok(()), Err)
}

/// Accepts connections and carries them, until accepting fails for good.
async fn accept(
    listener: Listener,
    carrier: Carrier,
    room: Arc<Semaphore>,
    notices: Notices,
) -> RunError {
    let mut connections = JoinSet::new();
    let mut told: Option<Instant> = None;
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
            return listener.failed(io::ErrorKind::Interrupted.into());
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok(local) => {
                let carrier = carrier.clone();
                connections.spawn(async move {
                    carrier.carry(local).await;
                    drop(permit);
                });
            }
            Err(error) => match AcceptFailure::of(&error) {
                AcceptFailure::Connection => debug!("not accepted: {error}"),
                AcceptFailure::Exhausted => {
                    let now = transport::now();
                    if told.is_none_or(|told| now >= told + EXHAUSTED_TOLD_EVERY) {
                        (notices)(&Notice::Exhausted { reason: system_text(&error) });
                        told = Some(now);
                    }
                    tokio::select! {
                        () = tokio::time::sleep(EXHAUSTED_PAUSE) => {}
                        Some(_) = connections.join_next() => {}
                    }
                }
                AcceptFailure::Listener => return listener.failed(error),
            },
        }
    }
}

/// Connections at once, over all places that are listened at: each costs up to two windows.
const MAX_CONNECTIONS: usize = 4096;
