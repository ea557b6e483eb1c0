//! One stream of protocol v1, which has a link to itself.

use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use codec::v1::{self, ClientStart, data};
use mux::v1::client::{End, Settings};
use mux::v1::{ClientLink, Read, Room};
use tokio::io::{AsyncRead, AsyncWrite};
use tracing::debug;
use transport::bell::Bell;
use transport::dial::Dialed;
use transport::driver::{Close, Ended, Outgoing, Party, drive, text_of_binary};
use transport::pump::{self, Pumped};
use transport::websocket::{Role, Sizes, websocket};

use crate::config::Config;
use crate::error::{Place, RunError};
use crate::run::Ends;

/// Carries bytes between `ends` and the target, until the target is done and everything it sent is written, or until
/// `shutdown` completes.
///
/// The end of the input does not end the stream, since v1 cannot tell the target of it (spec v1, C-14); `eof_timeout`
/// can. An input that fails does end it, since bytes are missing.
///
/// # Errors
/// [`RunError`] for every end that is not clean.
pub(crate) async fn carry<I: AsyncRead, O: AsyncWrite, C: Future<Output = ()>>(
    config: &Config,
    place: &Place<'_>,
    eof_timeout: Option<Duration>,
    dialed: Dialed,
    ends: Ends<I, O, C>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let Ends { input, output, output_closed, .. } = ends;
    let sizes = Sizes { max_message: v1::MAX_MESSAGE_TO_CLIENT, before_start: None };
    let socket = websocket(dialed.socket, &dialed.read_ahead, Role::Client, sizes).await;
    let link = Link::new(config, place, eof_timeout);
    let driving = async {
        // Through the core rather than the driver's own way: what was read from `input` goes out before the close
        // frame, unless the relay takes nothing (spec v1, X-22 and X-12).
        let stop = async {
            shutdown.await;
            link.close();
            std::future::pending::<Close>().await
        };
        let ended = drive(socket, &mut link.clone(), &link.bell, stop).await;
        link.driven(ended);
    };
    let mut input_failure = None;
    let sending = async {
        match pump::outbound(&link, input).await {
            Pumped::Finished => {
                debug!("end of input");
                link.finish();
            }
            Pumped::Failed(error) => {
                input_failure = Some(error);
                link.close();
            }
            Pumped::Over => {}
        }
        std::future::pending::<()>().await;
    };
    let receiving = async {
        let pumped = tokio::select! {
            pumped = pump::inbound(&link, output) => pumped,
            () = output_closed => Pumped::Failed(io::ErrorKind::BrokenPipe.into()),
        };
        if let Pumped::Failed(_) = pumped {
            link.close();
        }
        pumped
    };
    // The link is over when its driver is done; the stream, when its last byte is written too.
    let received = tokio::select! {
        ((), received) = async { tokio::join!(driving, receiving) } => received,
        () = sending => Pumped::Over,
    };
    let target = || place.target.to_string();
    if let Some(source) = input_failure {
        return Err(RunError::Input { target: target(), source });
    }
    if let Pumped::Failed(source) = received {
        return Err(RunError::Output { target: target(), source });
    }
    match link.take_end().and_then(|end| RunError::of_v1(end, place)) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// The core of the link, shared by its driver and the two pumps.
#[derive(Clone, Debug)]
struct Link {
    core: Arc<Mutex<ClientLink<Bell>>>,
    /// Rung when the core has changed and the driver should look.
    bell: Bell,
    reader: Bell,
    writer: Bell,
}

impl Link {
    /// A link that will ask for a target.
    fn new(config: &Config, place: &Place<'_>, eof_timeout: Option<Duration>) -> Self {
        let (reader, writer) = (Bell::default(), Bell::default());
        let settings = Settings { eof_timeout, ..Settings::default() };
        let start = ClientStart {
            connection_target: config.agent.clone(),
            target_ip: place.target.host.clone(),
            target_port: place.target.port.into(),
            protocol: config.protocol.clone(),
            secret: config.secret.clone(),
        };
        let core =
            ClientLink::new(transport::now(), settings, start, reader.clone(), writer.clone());
        Self { core: Arc::new(Mutex::new(core)), bell: Bell::default(), reader, writer }
    }

    /// The core; held for one call at a time, never across an await.
    fn core(&self) -> MutexGuard<'_, ClientLink<Bell>> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The local input has ended.
    fn finish(&self) {
        self.core().finish(transport::now());
        self.bell.ring();
    }

    /// Ends the stream from our side.
    fn close(&self) {
        self.core().close();
        self.bell.ring();
    }

    /// The link's driver is done.
    fn driven(&self, ended: Ended) {
        if let Ended::Lost(cause) = ended {
            self.core().handle_loss(cause);
        }
    }

    /// How the stream ended.
    fn take_end(&self) -> Option<End> {
        self.core().take_end()
    }
}

impl Party for Link {
    fn handle_text(&mut self, now: Instant, text: &str) -> Result<(), Close> {
        self.core().handle_text(now, text);
        Ok(())
    }

    fn handle_binary(&mut self, now: Instant, message: Bytes) -> Result<(), Close> {
        self.handle_text(now, text_of_binary(&message)?)
    }

    fn wants_read(&mut self) -> bool {
        self.core().wants_read()
    }

    fn poll_transmit(&mut self, now: Instant) -> Option<Outgoing> {
        self.core().poll_transmit(now).map(Outgoing::Text)
    }

    /// The same after what was no message (spec v1, M-14).
    fn poll_close(&mut self, _now: Instant) -> Option<Close> {
        self.core().close_code().map(|code| Close::new(code, ""))
    }

    fn poll_abandon(&mut self, now: Instant) -> Option<Close> {
        if self.core().is_quiet() { None } else { self.poll_close(now) }
    }

    fn is_patient(&self) -> bool {
        // The answer to our close frame tells that everything before it has arrived.
        self.core().is_quiet()
    }

    fn progress(&mut self, now: Instant) {
        self.core().progress(now);
    }

    fn handle_end(&mut self, ended: &Ended) {
        debug!(?ended, "link ended");
        let mut core = self.core();
        match ended {
            Ended::Peer { code, reason } => core.handle_close(*code, reason.clone()),
            Ended::Local(_) => core.close(),
            Ended::Violation(close) if close.code == v1::CLOSE_PING_TIMEOUT => {
                core.handle_loss("it does not answer pings".into());
            }
            Ended::Violation(close) => core.handle_violation(close.reason.to_string()),
            Ended::Lost(cause) => core.handle_loss(cause.clone()),
        }
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        self.core().poll_timeout()
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.core().handle_timeout(now);
    }
}

impl pump::Seat for Link {
    fn read(&self, into: &mut Vec<u8>) -> Read {
        let read = self.core().read(into);
        if read == (Read::Data { resumed: true }) {
            self.bell.ring();
        }
        read
    }

    fn progress(&self) {}

    fn room(&self) -> Room {
        self.core().room()
    }

    fn write(&self, payload: &[u8]) {
        let message = data::encode_client(payload);
        self.core().write(message);
        self.bell.ring();
    }

    fn chunk(&self) -> usize {
        // Spec v1, S-9.
        v1::MAX_CHUNK
    }

    fn is_cut(&self) -> bool {
        false
    }

    fn readable(&self) -> &Bell {
        &self.reader
    }

    fn writable(&self) -> &Bell {
        &self.writer
    }
}
