//! Stand-ins whose party is gone while their streams are not.

use std::time::{Duration, Instant};

use transport::bell::Bell;

use super::seat::Seat;
use crate::directory::SharedRoutes;
use crate::standin::{AgentStandIn, ClientStandIn};

/// A stand-in and its seat at the router.
#[derive(Debug)]
pub(crate) struct Seated<S> {
    pub(super) stand_in: S,
    pub(super) seat: Seat,
}

impl Seated<ClientStandIn> {
    /// Carries everything between stand-in and router.
    pub(super) fn step(&mut self, now: Instant) {
        while let Some(transmit) = self.seat.poll() {
            self.stand_in.handle(now, transmit);
        }
        while let Some(transmit) = self.stand_in.poll_transmit(now) {
            self.seat.send(now, transmit);
        }
    }
}

impl Seated<AgentStandIn> {
    /// Carries everything between stand-in, router and the agent's routes.
    pub(super) fn step(&mut self, now: Instant, routes: &SharedRoutes) {
        loop {
            while let Some(transmit) = self.seat.poll() {
                self.stand_in.handle(now, transmit, &mut routes.lock());
            }
            let had_news = self.stand_in.step(now, &mut routes.lock());
            while let Some(transmit) = self.stand_in.poll_transmit(now) {
                self.seat.send(now, transmit);
            }
            if !had_news {
                return;
            }
        }
    }
}

/// What a session leaves behind: a stand-in with streams that are not over.
#[derive(Debug)]
pub(crate) enum Left {
    /// The client has left; what it sent is still to reach its target (spec v2, ST-9).
    Client(Seated<ClientStandIn>),
    /// The agent is lost; what it sent is still to reach the clients (spec v1, X-11).
    Agent(Seated<AgentStandIn>, SharedRoutes),
}

impl Left {
    /// Looks after it until its streams are over.
    pub(crate) async fn run(mut self) {
        let bell = Bell::default();
        let (Self::Client(Seated { seat, .. }) | Self::Agent(Seated { seat, .. }, _)) = &self;
        seat.redirect(bell.clone());
        let limit = transport::now() + LONGEST;
        loop {
            let now = transport::now();
            let (is_over, due) = self.step(now);
            if is_over || now >= limit {
                return self.shut_down(now);
            }
            let due = due.map_or(limit, |due| due.min(limit));
            tokio::select! {
                () = bell.rung() => {}
                () = tokio::time::sleep_until(due.into()) => {}
            }
        }
    }

    /// Does what can be done now. Whether everything is over, and when something is due otherwise.
    fn step(&mut self, now: Instant) -> (bool, Option<Instant>) {
        match self {
            Self::Client(seated) => {
                if seated.stand_in.poll_timeout().is_some_and(|due| now >= due) {
                    seated.stand_in.handle_timeout(now);
                }
                seated.step(now);
                (seated.stand_in.is_over(), seated.stand_in.poll_timeout())
            }
            Self::Agent(seated, routes) => {
                if seated.stand_in.poll_timeout().is_some_and(|due| now >= due) {
                    seated.stand_in.handle_timeout(now, &mut routes.lock());
                }
                seated.step(now, routes);
                (seated.stand_in.is_over(), seated.stand_in.poll_timeout())
            }
        }
    }

    /// Says of what is not over that it is.
    fn shut_down(&mut self, now: Instant) {
        match self {
            Self::Client(seated) => {
                seated.stand_in.give_up(now);
                seated.step(now);
            }
            Self::Agent(seated, routes) => {
                seated.stand_in.shut_down(now, &mut routes.lock());
                seated.step(now, routes);
            }
        }
    }
}

/// How long clients may take for what a lost agent has sent.
const LONGEST: Duration = Duration::from_secs(15 * 60);
