//! One link to a relay, with its streams.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use codec::v1;
use mux::v1::AgentLink;
use mux::v1::agent::{Event, Settings};
use tokio::task::JoinSet;
use tracing::{Instrument, debug, info, info_span, warn};
use transport::backoff::Backoff;
use transport::bell::Bell;
use transport::driver::{Close, Ended, Outgoing, Party, text_of_binary};
use transport::printable::printable;

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
