//! A stand-in's place at the router.

use std::sync::Arc;
use std::time::Instant;

use codec::v2::Control;
use mux::v2::Transmit;
use tracing::debug;
use transport::bell::Bell;

use crate::directory::{Directory, Ring};
use crate::router::{LinkId, Peer};

/// A link of the router's with no connection behind it; over when dropped.
#[derive(Debug)]
pub(super) struct Seat {
    directory: Arc<Directory>,
    link: LinkId,
    ring: Ring,
}

impl Seat {
    /// A link whose messages are for whoever `bell` wakes.
    pub(super) fn new(directory: Arc<Directory>, peer: Peer, bell: Bell) -> Self {
        let ring = Ring::new(bell);
        let link = directory.router().connect(peer, ring.clone());
        Self { directory, link, ring }
    }

    pub(super) fn link(&self) -> LinkId {
        self.link
    }

    /// Somebody else looks after it from now on.
    pub(super) fn redirect(&self, bell: Bell) {
        self.ring.redirect(bell);
    }

    /// The next thing that the router has for it.
    pub(super) fn poll(&self) -> Option<Transmit> {
        self.directory.router().poll_transmit(self.link)
    }

    /// Hands something to the router.
    pub(super) fn send(&self, now: Instant, transmit: Transmit) {
        let handled = match transmit {
            Transmit::Control(message) => {
                let agent = match &message {
                    Control::Open(open) => self.directory.agent(&open.agent),
                    Control::Resume(resume) => self.directory.agent(&resume.agent),
                    _ => None,
                };
                let agent = agent.map(|agent| agent.link());
                self.directory.router().handle_control(now, self.link, message, |_| agent)
            }
            Transmit::Data { stream, payload } => {
                self.directory.router().handle_data(self.link, stream, payload)
            }
        };
        if let Err(violation) = handled {
            debug_assert!(false, "a stand-in keeps the rules: {violation}");
            debug!("a stand-in broke a rule: {violation}");
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.directory.router().lost(self.link);
    }
}
