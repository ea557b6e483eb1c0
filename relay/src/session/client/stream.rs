//! The stream of a v1 client: through the routes of an agent that speaks v1, too, or by a stand-in.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use codec::v1::{self, ClientStart, base64};
use codec::v2;
use mux::v2::{Ask, StreamId};
use transport::bell::Bell;

use crate::directory::{AgentHandle, Directory, SharedRoutes};
use crate::large::Reserved;
use crate::router::Peer;
use crate::routes::{ClientEnd, ForClient};
use crate::session::left::{Left, Seated};
use crate::session::seat::Seat;
use crate::standin::{ClientStandIn, Waiter};

/// The stream of a v1 client; ended when dropped.
#[derive(Debug)]
pub(super) struct Stream {
    /// Agent and target, for log lines.
    pub(super) target: String,
    way: Way,
}

#[derive(Debug)]
enum Way {
    Routed(Routed),
    StandIn(Box<StandIn>),
}

/// At an agent that speaks v1.
#[derive(Debug)]
struct Routed {
    link: AgentHandle,
    routes: SharedRoutes,
    id: Arc<str>,
}

impl Drop for Routed {
    fn drop(&mut self) {
        self.routes.lock().client_finished(transport::now(), &self.id);
        self.link.wake();
    }
}

/// At an agent that speaks v2.
#[derive(Debug)]
struct StandIn {
    seated: Seated<ClientStandIn>,
    /// What a large message takes of the budget while it waits.
    reserved: Option<Reserved>,
    directory: Arc<Directory>,
}

impl Stream {
    /// Asks the agent for the target that `start` names.
    ///
    /// # Errors
    /// The text that tells the client why not.
    pub(super) fn open(
        now: Instant,
        directory: &Arc<Directory>,
        agent: AgentHandle,
        start: ClientStart,
        target: String,
        bell: &Bell,
    ) -> Result<Self, String> {
        let id = uuid::Uuid::new_v4();
        if let Some(routes) = agent.routes().cloned() {
            // A fresh one for each stream (spec v1, S-2).
            let id: Arc<str> = id.to_string().into();
            routes.lock().open(now, id.clone(), start, Waiter::Client(bell.clone()));
            agent.wake();
            return Ok(Self { target, way: Way::Routed(Routed { link: agent, routes, id }) });
        }
        let principal = directory.credentials.principal(&start.secret).map(str::to_owned);
        let ask = ask(start).map_err(|text| format!("{}{text}", v1::ERROR_INITIATE_PREFIX))?;
        let seat = Seat::new(Arc::clone(directory), Peer::Opener { principal }, bell.clone());
        let stand_in = ClientStandIn::new(
            now,
            StreamId::new(id.to_string()),
            ask,
            uuid::Uuid::new_v4().as_u64_pair().0,
        );
        let mut seated = Seated { stand_in, seat };
        seated.step(now);
        let stand_in = StandIn { seated, reserved: None, directory: Arc::clone(directory) };
        Ok(Self { target, way: Way::StandIn(Box::new(stand_in)) })
    }

    /// Takes the payload of a data message, in the one spelling.
    pub(super) fn handle_data(&mut self, now: Instant, text: Cow<'_, str>) {
        match &mut self.way {
            Way::Routed(routed) => {
                routed.routes.lock().handle_client_data(now, &routed.id, text);
                routed.link.wake();
            }
            Way::StandIn(stand_in) => {
                let mut bytes = Vec::new();
                // The session has checked the text.
                let decoded = base64::decode_append(&text, &mut bytes);
                debug_assert!(decoded.is_ok());
                if bytes.len() > v1::MAX_FORWARDED_CHUNK {
                    stand_in.reserved = stand_in.directory.budget.reserve(bytes.len());
                    if stand_in.reserved.is_none() {
                        return self.cut(now, ClientEnd::Stalled);
                    }
                }
                let seated = &mut stand_in.seated;
                seated.stand_in.handle_client_data(now, &Bytes::from(bytes));
                seated.step(now);
            }
        }
    }

    /// Whether the client's link should be read.
    pub(super) fn wants_read(&self) -> bool {
        match &self.way {
            Way::Routed(routed) => routed.routes.lock().client_wants_read(&routed.id),
            Way::StandIn(stand_in) => stand_in.seated.stand_in.wants_read(),
        }
    }

    /// Whether the agent has answered or will not answer any more.
    pub(super) fn is_answered(&self) -> bool {
        match &self.way {
            Way::Routed(routed) => routed.routes.lock().is_answered(&routed.id),
            Way::StandIn(stand_in) => stand_in.seated.stand_in.is_answered(),
        }
    }

    /// The next thing to send to the client.
    pub(super) fn poll(&mut self, now: Instant) -> ForClient {
        match &mut self.way {
            Way::Routed(routed) => {
                let (next, resumed) = routed.routes.lock().poll_for_client(&routed.id);
                if resumed {
                    routed.link.wake();
                }
                next
            }
            Way::StandIn(stand_in) => {
                stand_in.seated.step(now);
                let next = stand_in.seated.stand_in.poll_for_client(now);
                // Credit, or the end.
                stand_in.seated.step(now);
                if stand_in.seated.stand_in.wants_read() {
                    stand_in.reserved = None;
                }
                next
            }
        }
    }

    /// The client's link took bytes.
    pub(super) fn progress(&self, now: Instant) {
        if let Way::Routed(routed) = &self.way {
            routed.routes.lock().client_progress(now, &routed.id);
        }
    }

    /// Whether the stream was ended without regard to what the client had still to get.
    pub(super) fn is_cut(&self) -> bool {
        match &self.way {
            Way::Routed(routed) => routed.routes.lock().is_cut(&routed.id),
            Way::StandIn(stand_in) => stand_in.seated.stand_in.is_cut(),
        }
    }

    /// When the stream counts as stalled, unless its agent takes something before.
    pub(super) fn stalled_at(&self) -> Option<Instant> {
        match &self.way {
            Way::Routed(routed) => routed.routes.lock().client_stalled_at(&routed.id),
            Way::StandIn(stand_in) => stand_in.seated.stand_in.stalled_at(),
        }
    }

    /// Ends the stream from the relay's own will; the client finds `end`.
    pub(super) fn cut(&mut self, now: Instant, end: ClientEnd) {
        match &mut self.way {
            Way::Routed(routed) => {
                routed.routes.lock().cut(&routed.id, end);
                routed.link.wake();
            }
            Way::StandIn(stand_in) => {
                stand_in.seated.stand_in.cut(now, end);
                stand_in.seated.step(now);
            }
        }
    }

    /// When [`Self::handle_timeout`] wants to be called next.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match &self.way {
            Way::Routed(_) => None,
            Way::StandIn(stand_in) => stand_in.seated.stand_in.poll_timeout(),
        }
    }

    /// Does what is due at `now`.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if let Way::StandIn(stand_in) = &mut self.way {
            stand_in.seated.stand_in.handle_timeout(now);
            stand_in.seated.step(now);
        }
    }

    /// The client's link is over. What is left of the stream.
    pub(super) fn leave(self, now: Instant) -> Option<Left> {
        match self.way {
            Way::Routed(_) => None,
            Way::StandIn(stand_in) => {
                let mut seated = stand_in.seated;
                seated.stand_in.client_left(now);
                seated.step(now);
                (!seated.stand_in.is_over()).then_some(Left::Client(seated))
            }
        }
    }
}

/// What a v1 client asks for, as far as v2 has words for it.
fn ask(start: ClientStart) -> Result<Ask, String> {
    let is_short = |text: &str| !text.is_empty() && text.chars().count() <= v2::MAX_NAME;
    if !is_short(&start.target_ip) {
        return Err("the target's name is empty, or too long".into());
    }
    if !is_short(&start.protocol) {
        return Err("the protocol's name is empty, or too long".into());
    }
    let port = u16::try_from(start.target_port).ok().filter(|port| *port != 0);
    let port = port.ok_or_else(|| format!("{} is no port (1 to 65535)", start.target_port))?;
    Ok(Ask {
        agent: start.connection_target,
        host: start.target_ip,
        port,
        protocol: start.protocol,
        // The router writes it.
        principal: None,
    })
}
