//! One stream between local ends and a target.

use std::future::Future;
use std::io;
use std::pin::pin;

use codec::v2;
use mux::v2::StreamEnd;
use tokio::io::{AsyncRead, AsyncWrite};
use tracing::{debug, info};
use transport::dial::Protocol;
use transport::streams::{Carried, Seat};

use crate::config::{Config, Target};
use crate::error::{Place, RunError};
use crate::notice::Notices;
use crate::relays::{Reached, Relays};
use crate::session::Session;
use crate::v1;

/// The local ends of a stream.
#[derive(Debug)]
pub struct Ends<I, O, C> {
    /// What is sent to the target.
    pub input: I,
    /// Where what it sends goes. Shut down when the target has sent everything, if the relay speaks v2.
    pub output: O,
    /// Completes when nobody takes the output any more, which a silent stream would not notice by itself.
    pub output_closed: C,
    /// Nothing is waited for from the input once the target has sent everything: a person types there, say.
    pub ends_with_target: bool,
}

/// Carries bytes between `ends` and a target, until both directions have ended or `shutdown` completes.
///
/// - With a relay of protocol v2, the end of the input becomes the end of what the target receives, and the end of what
///   it sends that of the output, each for itself. The stream goes on when its link is lost, with another one, for as
///   long as [`Config::resume_for`] says.
/// - With one of protocol v1 the stream is over when the target has ended, or [`Config::eof_timeout`] after the input
///   has; it is over with its link, too.
///
/// # Errors
/// [`RunError`] for every end that is not clean.
pub async fn run<I: AsyncRead, O: AsyncWrite, C: Future<Output = ()>>(
    config: &Config,
    target: &Target,
    ends: Ends<I, O, C>,
    notices: Notices,
    shutdown: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let mut shutdown = pin!(shutdown);
    let relays = Relays::new(config)?;
    let reached = tokio::select! {
        reached = relays.clone().dial(0) => reached?,
        () = &mut shutdown => return Ok(()),
    };
    let result = match reached.dialed.protocol {
        Protocol::V1 => {
            let Reached { relay, dialed } = reached;
            let place = Place { relay: relays.name(relay), agent: &config.agent, target };
            debug!(relay = place.relay, peer = %dialed.peer, "link open");
            v1::carry(config, &place, config.eof_timeout, dialed, ends, shutdown).await
        }
        Protocol::V2 => {
            check_names(config, &[target])?;
            let mut session = Session::new(config, relays, notices, false);
            session.adopt(reached);
            let seat = session.opener().open(target);
            // In a task of its own, so that what wakes one does not wake the other.
            let mut running = session.start();
            // What can be read already goes out with the first frames.
            let over = tokio::select! {
                biased;
                over = carry(&seat, ends) => Some(over),
                () = &mut shutdown => None,
                () = running.given_up() => None,
            };
            let (session, given_up) = running.stop().await;
            let result = match (over, given_up) {
                (Some(over), _) => over.result(config, target, &session),
                (None, Some(error)) => Err(error),
                (None, None) => Ok(()),
            };
            // A stream that is not over is reset, which goes out with the rest.
            drop(seat);
            session.leave().await;
            result
        }
    };
    if result.is_ok() {
        info!("stream ended");
    }
    result
}

/// Why a stream is no longer carried.
enum Over {
    /// It is over.
    Ended(StreamEnd),
    /// The input failed.
    Input(io::Error),
    /// The output failed.
    Output(io::Error),
}

impl Over {
    fn result(self, config: &Config, target: &Target, session: &Session) -> Result<(), RunError> {
        match self {
            Self::Input(source) => Err(RunError::Input { target: target.to_string(), source }),
            Self::Output(source) => Err(RunError::Output { target: target.to_string(), source }),
            Self::Ended(end) => {
                let place = Place { relay: session.relay_name(), agent: &config.agent, target };
                RunError::of_v2(end, &place, session.known()).map_or(Ok(()), Err)
            }
        }
    }
}

/// Carries both directions of a stream, until it is over or a local end fails.
async fn carry<I: AsyncRead, O: AsyncWrite, C: Future<Output = ()>>(
    seat: &Seat,
    ends: Ends<I, O, C>,
) -> Over {
    let Ends { input, output, output_closed, ends_with_target } = ends;
    let sending = async {
        match seat.send_from(input).await {
            Carried::Failed(error) => Over::Input(error),
            Carried::Finished | Carried::Over => {
                debug!("end of input");
                std::future::pending().await
            }
        }
    };
    let receiving = async move {
        let carried = tokio::select! {
            carried = seat.receive_into(output) => carried,
            () = output_closed => Carried::Failed(io::ErrorKind::BrokenPipe.into()),
        };
        match carried {
            Carried::Failed(error) => return Over::Output(error),
            Carried::Finished if ends_with_target => {
                debug!("the target has ended");
                seat.streams().core().finish(seat.key());
                let ended = tokio::time::timeout(v2::DONE_TIMEOUT, seat.ended()).await;
                // All that the target sent was handed on, and nobody will learn more by waiting.
                return Over::Ended(ended.unwrap_or(StreamEnd::Done));
            }
            Carried::Finished | Carried::Over => {}
        }
        Over::Ended(seat.ended().await)
    };
    tokio::select! {
        biased;
        over = sending => over,
        over = receiving => over,
    }
}

/// Checks what protocol v2 bounds and v1 does not (spec v2, FR-6).
///
/// # Errors
/// A name is too long.
pub(crate) fn check_names(config: &Config, targets: &[&Target]) -> Result<(), RunError> {
    let hosts = targets.iter().map(|target| ("the host of the target", &target.host));
    let names = [("the name of the agent", &config.agent), ("the protocol", &config.protocol)];
    for (what, name) in names.into_iter().chain(hosts) {
        if name.chars().count() > v2::MAX_NAME {
            return Err(RunError::TooLong { what });
        }
    }
    Ok(())
}
