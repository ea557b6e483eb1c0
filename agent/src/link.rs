//! One link to a relay, with its streams.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use codec::v1::{self, AgentStart, AgentToRelay};
use mux::v1::AgentLink;
use mux::v1::agent::{Event, Settings};
use tokio::task::JoinSet;
use tracing::{Instrument, debug, info, info_span, warn};
use transport::backoff::Backoff;
use transport::bell::Bell;
use transport::dial::Dialed;
use transport::driver::{Close, Ended, Outgoing, Party, drive, text_of_binary};
use transport::printable::printable;
use transport::websocket::{Role, Sizes, websocket};

use crate::config::Config;
use crate::keep::LinkEnd;
use crate::targets::{Seat, serve_target};

/// What is known of the relay at the other end (spec v1, H-12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RelayKind {
    /// It delivers what it holds before it acts on a `connection_reset`.
    DeliversTails,
    /// It may not.
    Unknown,
}

/// The core of a link, shared by its driver and its streams' tasks.
#[derive(Debug)]
pub(crate) struct Shared {
    core: Mutex<AgentLink<Bell>>,
    bell: Bell,
}

impl Shared {
    /// The core; held for one call at a time, never across an await.
    pub(crate) fn core(&self) -> MutexGuard<'_, AgentLink<Bell>> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the link's driver.
    pub(crate) fn wake(&self) {
        self.bell.ring();
    }
}

/// Whether the relay has admitted us, which it does not say (spec v1, A-4).
#[derive(Debug)]
enum Registration {
    /// Our `start` is not sent.
    Unasked,
    /// It is; by then a relay would have refused us, the time for a probe of another link included.
    Asked(Instant),
    /// The relay has sent a message, as it does to admitted agents alone, or kept silent for long enough.
    Concluded,
}

/// One link to a relay. Dropping it ends its streams at once.
#[derive(Debug)]
pub(crate) struct Link {
    shared: Arc<Shared>,
    start: Option<String>,
    registration: Registration,
    /// A task for each stream.
    streams: JoinSet<()>,
    /// Bytes of payload per message.
    chunk: usize,
}

impl Link {
    /// A link whose first message is `start`.
    pub(crate) fn new(start: String, relay: RelayKind) -> Self {
        let (linger, chunk) = match relay {
            RelayKind::DeliversTails => (Duration::ZERO, v1::MAX_CHUNK),
            // Spec v1, X-6 and S-10.
            RelayKind::Unknown => (v1::LINGER, v1::ORIGINAL_CHUNK),
        };
        let settings = Settings { linger, ..Settings::default() };
        let shared = Shared {
            core: Mutex::new(AgentLink::new(transport::now(), settings)),
            bell: Bell::default(),
        };
        Self {
            shared: Arc::new(shared),
            start: Some(start),
            registration: Registration::Unasked,
            streams: JoinSet::new(),
            chunk,
        }
    }

    /// Whether the relay has admitted this agent, as far as can be told.
    pub(crate) fn is_registered(&self) -> bool {
        matches!(self.registration, Registration::Concluded)
    }

    fn conclude_registration(&mut self) {
        if !self.is_registered() {
            self.registration = Registration::Concluded;
            info!("registered");
        }
    }

    /// Rung when the core has changed.
    pub(crate) fn bell(&self) -> Bell {
        self.shared.bell.clone()
    }

    /// Starts what the core asks for, and lets go of what has ended.
    fn handle_events(&mut self) {
        while let Some(ended) = self.streams.try_join_next() {
            if let Err(error) = ended
                && error.is_panic()
            {
                tracing::error!("a stream's task failed: {error}");
            }
        }
        loop {
            let event = self.shared.core().poll_event();
            let Some(event) = event else { break };
            match event {
                Event::Dial { key, id, host, port, protocol, reader, writer } => {
                    let shared = Arc::clone(&self.shared);
                    let seat = Seat::new(shared, key, id, self.chunk, reader, writer);
                    let span = info_span!("stream", target = %printable(&host, 200), port);
                    let task = serve_target(seat, host, port, protocol);
                    // Beside everything else on the link (spec v1, S-6).
                    self.streams.spawn(task.instrument(span));
                }
            }
        }
    }
}

impl Party for Link {
    fn handle_text(&mut self, now: Instant, text: &str) -> Result<(), Close> {
        let handled = self.shared.core().handle_text(now, text);
        match handled {
            Ok(()) => {
                self.conclude_registration();
                self.handle_events();
            }
            Err(error) => {
                warn!("ignored a message of the relay: {}", printable(&error.to_string(), 200));
            }
        }
        Ok(())
    }

    fn handle_binary(&mut self, now: Instant, message: Bytes) -> Result<(), Close> {
        self.handle_text(now, text_of_binary(&message)?)
    }

    fn wants_read(&mut self) -> bool {
        self.shared.core().wants_read()
    }

    fn poll_transmit(&mut self, now: Instant) -> Option<Outgoing> {
        if let Some(start) = self.start.take() {
            debug!(kind = "start", "sending");
            self.registration = Registration::Asked(now + Backoff::LASTING);
            return Some(start.into());
        }
        self.shared.core().poll_transmit(now).map(Outgoing::Text)
    }

    fn poll_ping(&mut self) -> Option<u64> {
        self.shared.core().poll_ping()
    }

    fn handle_pong(&mut self, now: Instant, payload: u64) {
        self.shared.core().handle_pong(now, payload);
    }

    fn poll_close(&mut self, _now: Instant) -> Option<Close> {
        None
    }

    fn handle_end(&mut self, _ended: &Ended) {
        // Targets need not wait until the closing handshake is over.
        // Spec v1, A-13.
        self.streams.abort_all();
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        let due = self.shared.core().poll_timeout();
        match self.registration {
            Registration::Asked(concluded) => Some(due.map_or(concluded, |due| due.min(concluded))),
            Registration::Unasked | Registration::Concluded => due,
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        if let Registration::Asked(concluded) = self.registration
            && now >= concluded
        {
            self.conclude_registration();
        }
        self.shared.core().handle_timeout(now);
    }
}

/// One link of protocol v1, from its `start` to its end.
pub(crate) async fn run(
    dialed: Dialed,
    config: &Config,
    last_error: Option<String>,
    stop: impl Future<Output = ()>,
) -> LinkEnd {
    let relay = match dialed.headers.get(v1::RELAY_HEADER) {
        Some(software) => {
            debug!(relay_software = ?software, "the relay delivers tails");
            RelayKind::DeliversTails
        }
        None => RelayKind::Unknown,
    };
    // Spec v1, L-4.
    let sizes = Sizes { max_message: v1::MAX_MESSAGE_AT_AGENT, before_start: None };
    let socket = websocket(dialed.socket, &dialed.read_ahead, Role::Client, sizes).await;
    info!(peer = %dialed.peer, agent = %config.name, "link open");
    let mut link = Link::new(start(config, last_error), relay);
    let bell = link.bell();
    // Spec v1, X-22.
    let stop = async {
        stop.await;
        Close::new(v1::CLOSE_NORMAL, "")
    };
    let ended = drive(socket, &mut link, &bell, stop).await;
    let is_registered = link.is_registered();
    LinkEnd {
        text: describe(&ended, is_registered),
        last_error: failure(&ended),
        is_registered,
        wait: None,
    }
}

fn start(config: &Config, last_error: Option<String>) -> String {
    v1::encode(&AgentToRelay::Start(AgentStart {
        // Null rather than absent (spec v1, A-1 and R-5).
        last_error: Some(last_error),
        name: Some(config.name.clone()),
        secret: Some(config.secret.clone()),
        extra: Default::default(),
    }))
}

/// The `last_error` that the end of a link stands for, if it does: a close frame and the bare end of the TCP connection
/// do not (spec v1, A-12). In our own words alone: what a relay says must not come back to it as a mark of K-9.
fn failure(ended: &Ended) -> Option<String> {
    match ended {
        Ended::Violation(close) if close.code == v1::CLOSE_PING_TIMEOUT => {
            Some("the relay did not answer pings".into())
        }
        Ended::Violation(close) => Some(format!("the relay broke the protocol ({})", close.code)),
        Ended::Peer { .. } | Ended::Local(_) | Ended::Lost(_) => None,
    }
}

/// Why a link ended, for the log, with what to try.
fn describe(ended: &Ended, registered: bool) -> String {
    match ended {
        Ended::Peer { code: Some(v1::CLOSE_POLICY), reason }
            if reason == v1::REASON_BAD_CREDENTIALS =>
        {
            format!("the relay refused this agent: {reason} (check --name and the secret)")
        }
        // To a start: most likely this is the path for clients (spec v1, C-8).
        Ended::Peer { code: Some(code @ (v1::CLOSE_INVALID | v1::CLOSE_POLICY)), reason }
            if !registered =>
        {
            format!(
                "the relay takes no start of an agent there: {} (close code {code}) (check the path of the URL: \
                 clients use {}, agents {})",
                printable(reason, 200),
                v1::CLIENT_PATH,
                v1::AGENT_PATH
            )
        }
        Ended::Peer { code: Some(v1::CLOSE_NAME_IN_USE), reason } => format!(
            "the relay refused this agent: {} (stop the other agent, or choose another --name)",
            printable(reason, 200)
        ),
        Ended::Peer { code: Some(v1::CLOSE_RESTART), .. } => "the relay is restarting".into(),
        Ended::Peer { code: Some(v1::CLOSE_NORMAL), reason } if reason.is_empty() => {
            let hint = if registered { "" } else { " (check --name and the secret)" };
            format!("the relay closed the link without a reason{hint}")
        }
        Ended::Peer { code, reason } => {
            let code = code.map_or("no code".into(), |code| code.to_string());
            let reason = printable(reason, 200);
            format!("the relay closed the link ({code}) {reason}").trim_end().into()
        }
        Ended::Local(close) => format!("closed ({})", close.code),
        Ended::Violation(close) if close.code == v1::CLOSE_PING_TIMEOUT => {
            "the relay does not answer pings".into()
        }
        Ended::Violation(close) => format!("the relay broke the protocol: {}", close.reason),
        Ended::Lost(cause) if registered => format!("the link to the relay was lost: {cause}"),
        Ended::Lost(cause) => format!(
            "the link to the relay was lost before this agent was registered: {cause} (check the path of the URL, \
             {} for agents; or the relay holds another link under this name)",
            v1::AGENT_PATH
        ),
    }
}
