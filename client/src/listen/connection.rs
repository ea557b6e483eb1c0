//! One accepted connection and its stream.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use mux::v2::StreamEnd;
use tokio::io::{AsyncRead, AsyncWrite, Interest};
use tokio::net::{TcpStream, UnixStream, tcp, unix};
use tokio::time::Instant;
use tracing::{debug, info};
use transport::backoff::Backoff;
use transport::dial::{DialError, Protocol};
use transport::streams::{Carried, Seat};

use crate::config::{Config, Target};
use crate::error::{Known, Place, RunError};
use crate::notice::{Notice, Notices};
use crate::relays::{Reached, Relays};
use crate::run::Ends;
use crate::session::{LINK_PATIENCE, LinkState, Opener};
use crate::v1;

/// A connection that was accepted.
#[derive(Debug)]
pub(super) enum Local {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a Unix socket.
    Unix(UnixStream),
}

/// Carries connections to one target.
#[derive(Clone)]
pub(super) struct Carrier {
    config: Arc<Config>,
    target: Target,
    relays: Relays,
    opener: Opener,
    notices: Notices,
}

/// Why a connection did not end well.
enum Failure {
    /// The stream did not come about or was broken off; to be told.
    Stream(RunError),
    /// The local program has broken it off.
    Local(io::Error),
    /// There is no link to the relay, which is told elsewhere.
    NoLink,
}

impl Carrier {
    pub(super) fn new(
        config: &Config,
        target: Target,
        relays: &Relays,
        opener: Opener,
        notices: &Notices,
    ) -> Self {
        let (config, notices) = (Arc::new(config.clone()), Arc::clone(notices));
        Self { config, target, relays: relays.clone(), opener, notices }
    }

    /// Carries a connection to its end. If its stream does not end well, it is reset.
    pub(super) async fn carry(self, local: Local) {
        match local {
            Local::Tcp(mut stream) => {
                if let Err(error) = transport::tcp::prepare(&stream) {
                    debug!("socket options not set: {error}");
                }
                let (reader, writer) = stream.split();
                let carried = self.carry_halves(reader, writer).await;
                if carried.is_err()
                    && let Err(error) = stream.set_zero_linger()
                {
                    debug!("not reset: {error}");
                }
            }
            Local::Unix(mut stream) => {
                let (reader, writer) = stream.split();
                // There is no reset but to close.
                let _ = self.carry_halves(reader, writer).await;
            }
        }
    }

    async fn carry_halves(
        mut self,
        reader: impl Half,
        writer: impl AsyncWrite,
    ) -> Result<(), Failure> {
        let carried = match self.opener.ready().await {
            LinkState::Up => self.carry_v2(reader, writer).await,
            LinkState::Old => self.dial_old(reader, writer).await,
            LinkState::Away => Err(Failure::NoLink),
        };
        match &carried {
            Ok(()) => debug!("stream ended"),
            Err(Failure::Stream(error)) => {
                (self.notices)(&Notice::Failed { reason: error.to_string() });
            }
            Err(Failure::Local(error)) => info!("broken off by the local program: {error}"),
            Err(Failure::NoLink) => info!("a connection waited for a link in vain"),
        }
        carried
    }

    async fn carry_v2(
        &self,
        mut reader: impl Half,
        writer: impl AsyncWrite,
    ) -> Result<(), Failure> {
        let seat = self.opener.open(&self.target);
        let sending = async {
            match seat.send_from(&mut reader).await {
                Carried::Failed(error) => error,
                Carried::Finished => {
                    // It may still break off what comes the other way.
                    reader.broken().await;
                    io::ErrorKind::ConnectionReset.into()
                }
                Carried::Over => std::future::pending().await,
            }
        };
        let receiving = async {
            match seat.receive_into(writer).await {
                Carried::Failed(error) => Err(Failure::Local(error)),
                Carried::Finished | Carried::Over => Ok(seat.ended().await),
            }
        };
        let end = tokio::select! {
            biased;
            ended = receiving => ended?,
            error = sending => return Err(Failure::Local(error)),
        };
        self.judge(&seat, end)
    }

    fn judge(&self, seat: &Seat, end: StreamEnd) -> Result<(), Failure> {
        debug!(key = ?seat.key(), ?end, "stream over");
        let place = self.place(self.opener.relay_name());
        RunError::of_v2(end, &place, Known::default())
            .map_or(Ok(()), |error| Err(Failure::Stream(error)))
    }

    /// Where the relay speaks v1, a link for this stream alone.
    async fn dial_old(
        &mut self,
        reader: impl Half,
        writer: impl AsyncWrite,
    ) -> Result<(), Failure> {
        let Reached { relay, dialed } =
            self.dial_for_a_while().await.map_err(|error| Failure::Stream(error.into()))?;
        if dialed.protocol == Protocol::V2 {
            self.opener.hand_over(Reached { relay, dialed }).await;
            return self.carry_v2(reader, writer).await;
        }
        let ends = Ends {
            input: reader,
            output: writer,
            output_closed: std::future::pending(),
            ends_with_target: false,
        };
        let eof_timeout = self.config.eof_timeout.unwrap_or(OLD_EOF_TIMEOUT);
        let place = self.place(self.relays.name(relay));
        let never = std::future::pending();
        v1::carry(&self.config, &place, Some(eof_timeout), dialed, ends, never)
            .await
            .map_err(Failure::Stream)
    }

    async fn dial_for_a_while(&self) -> Result<Reached, DialError> {
        let deadline = Instant::now() + LINK_PATIENCE;
        let mut backoff = Backoff::new();
        loop {
            let error = match self.relays.clone().dial(0).await {
                Ok(reached) => return Ok(reached),
                Err(error) => error,
            };
            let delay = backoff.next_delay();
            if Instant::now() + delay >= deadline {
                return Err(error);
            }
            tokio::time::sleep(delay).await;
        }
    }

    fn place(&self, relay: String) -> Place<'_> {
        Place { relay, agent: &self.config.agent, target: &self.target }
    }
}

/// The reading half of a connection.
trait Half: AsyncRead + Unpin {
    /// Waits until the other program breaks the connection off.
    fn broken(&self) -> impl Future<Output = ()> + Send;
}

impl Half for tcp::ReadHalf<'_> {
    async fn broken(&self) {
        // A failure to watch is one to go on, too.
        let _ = self.ready(Interest::ERROR).await;
    }
}

impl Half for unix::ReadHalf<'_> {
    async fn broken(&self) {
        let _ = self.ready(Interest::ERROR).await;
    }
}

/// How long a stream of protocol v1 goes on whose local program has ended its side, while nothing comes back: v1 can
/// tell the target of the end only by ending the stream, and most programs that end their side are gone.
const OLD_EOF_TIMEOUT: Duration = Duration::from_secs(60);
