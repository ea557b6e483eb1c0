//! One link of a session, from its handshake to its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use codec::v2;
use mux::v2::LinkKey;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tracing::debug;
use transport::bell::Bell;
use transport::dial::Dialed;
use transport::driver::{Close, Ended, Outgoing, Pace, Party, drive};
use transport::streams::StreamsLink;
use transport::websocket::{Role, Sizes, websocket};

/// What a session knows of a link.
#[derive(Debug)]
pub(super) struct Record {
    /// Which relay it leads to.
    pub(super) relay: usize,
    /// Since when the relay has accepted it.
    pub(super) welcomed: Option<Instant>,
    /// When the relay must have.
    welcome_by: Instant,
    /// The relay wants it to end.
    pub(super) is_draining: bool,
    leave: Leave,
    driver: AbortHandle,
}

/// Asks a link to close once everything is sent.
#[derive(Clone, Debug)]
struct Leave {
    asked: Arc<AtomicBool>,
    bell: Bell,
}

/// Links that have ended, in the order of their ends: at most one message for each.
pub(super) type Ends = mpsc::UnboundedSender<(LinkKey, Ended)>;

impl Record {
    /// Drives a link in a task of `drivers`.
    pub(super) fn start(
        relay: usize,
        dialed: Dialed,
        link: StreamsLink,
        ends: Ends,
        drivers: &mut JoinSet<()>,
    ) -> Self {
        let leave = Leave { asked: Arc::default(), bell: link.bell() };
        let mut party = Departing { link, leave: leave.clone(), ends };
        let bell = leave.bell.clone();
        let driver = drivers.spawn(async move {
            let sizes = Sizes { max_message: MAX_MESSAGE, before_start: None };
            let socket = websocket(dialed.socket, &dialed.read_ahead, Role::Client, sizes).await;
            drive(socket, &mut party, &bell, std::future::pending()).await;
        });
        let welcome_by = transport::now() + v2::HELLO_TIMEOUT;
        Self { relay, welcomed: None, welcome_by, is_draining: false, leave, driver }
    }

    /// When the link is given up, unless the relay accepts it.
    pub(super) fn welcome_by(&self) -> Option<Instant> {
        self.welcomed.is_none().then_some(self.welcome_by)
    }

    /// How long it has been of use.
    pub(super) fn lasted(&self, now: Instant) -> Duration {
        self.welcomed.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// Closes it once everything is sent.
    pub(super) fn leave(&self) {
        self.leave.asked.store(true, Ordering::Release);
        self.leave.bell.ring();
    }

    /// Ends it at once; nothing is told.
    pub(super) fn abandon(&self) {
        self.driver.abort();
    }
}

/// A link of the endpoint that can be asked to close, and tells of its end at once: its driver returns only when the
/// socket is closed, too.
struct Departing {
    link: StreamsLink,
    leave: Leave,
    ends: Ends,
}

impl Party for Departing {
    fn handle_text(&mut self, now: Instant, text: &str) -> Result<(), Close> {
        self.link.handle_text(now, text)
    }

    fn handle_binary(&mut self, now: Instant, message: Bytes) -> Result<(), Close> {
        self.link.handle_binary(now, message)
    }

    fn wants_read(&mut self) -> bool {
        self.link.wants_read()
    }

    fn poll_transmit(&mut self, now: Instant) -> Option<Outgoing> {
        self.link.poll_transmit(now)
    }

    fn poll_close(&mut self, now: Instant) -> Option<Close> {
        if self.leave.asked.load(Ordering::Acquire) {
            return Some(Close::new(v2::CLOSE_NORMAL, ""));
        }
        self.link.poll_close(now)
    }

    fn handle_end(&mut self, ended: &Ended) {
        debug!(?ended, "link ended");
        self.link.handle_end(ended);
        // A session that is gone needs no news.
        let _ = self.ends.send((self.link.key(), ended.clone()));
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        self.link.poll_timeout()
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.link.handle_timeout(now);
    }

    fn pace(&self) -> Pace {
        self.link.pace()
    }
}

/// The largest message that a relay may send (spec v2, FR-2 and FR-8).
const MAX_MESSAGE: usize = v2::MAX_DATA + v2::data::HEADER_BYTES;

const _: () = assert!(MAX_MESSAGE >= v2::MAX_CONTROL, "a control message fits, too");
