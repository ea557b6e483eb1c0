//! The relays: a router each, with the handshake and a table of names around it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use codec::v2::{self, Code, Control, Goaway, Hello, Reject, Role, Welcome};
use relay::router::{LinkId, Peer, Router, Settings};

use super::plan::Plan;
use super::wire::Frame;
use super::{Failure, Flag, World, fail};

/// One relay process.
#[derive(Debug)]
pub(super) struct Relay {
    pub(super) party: usize,
    pub(super) router: Router<Flag>,
    names: BTreeMap<String, Holder>,
    pub(super) sessions: BTreeMap<usize, Session>,
    pub(super) is_up: bool,
    pub(super) is_draining: bool,
}

/// Who serves a name.
#[derive(Debug)]
struct Holder {
    link: usize,
    id: LinkId,
    instance: String,
    /// Another process asks for the name: its link, and when it gets it unless the holder is heard before.
    claimant: Option<(usize, Instant)>,
}

/// What a relay knows of a link.
#[derive(Debug)]
pub(super) enum Session {
    /// No `hello` yet; it is too late then.
    Waiting(Instant),
    /// The name is another process's, which is being asked.
    Claiming { name: String, instance: String },
    /// Accepted.
    Serving(LinkId),
}

impl Relay {
    pub(super) fn new(party: usize, plan: &Plan) -> Self {
        Self {
            party,
            router: Router::new(Self::settings(plan)),
            names: BTreeMap::new(),
            sessions: BTreeMap::new(),
            is_up: true,
            is_draining: false,
        }
    }

    fn settings(plan: &Plan) -> Settings {
        Settings {
            max_queue: plan.bounds.relay_queue,
            budget: plan.bounds.relay_budget,
            max_streams: plan.bounds.relay_streams,
            ..Settings::default()
        }
    }

    /// Whether a link may be read.
    pub(super) fn wants_read(&self, link: usize) -> bool {
        match self.sessions.get(&link) {
            Some(Session::Serving(id)) => self.router.wants_read(*id),
            Some(Session::Claiming { .. }) => false,
            _ => true,
        }
    }

    /// When something is due here.
    pub(super) fn next(&self) -> Option<Instant> {
        let waiting = self.sessions.values().filter_map(|session| match session {
            Session::Waiting(deadline) => Some(*deadline),
            _ => None,
        });
        let claims = self.names.values().filter_map(|it| it.claimant.map(|(_, due)| due));
        waiting.chain(claims).min()
    }
}

impl World<'_> {
    /// A control message comes from a link.
    pub(super) fn relay_hears(
        &mut self,
        relay: usize,
        link: usize,
        message: Control,
    ) -> Result<(), Failure> {
        let now = self.now;
        match self.relays[relay].sessions.get(&link) {
            Some(Session::Waiting(_)) => match message {
                Control::Hello(hello) => self.relay_greets(relay, link, hello),
                other => fail(format!("a link begins with {other:?}")),
            },
            Some(Session::Serving(id)) => {
                let id = *id;
                let at = &mut self.relays[relay];
                let asked = match &message {
                    Control::Open(open) => Some((&open.agent, &open.id)),
                    Control::Resume(resume) => Some((&resume.agent, &resume.id)),
                    _ => None,
                };
                if let Some(record) =
                    asked.and_then(|(_, id)| super::stream_of(id)).map(|at| &mut self.records[at])
                {
                    record.was_offline |= asked.is_some_and(|it| !at.names.contains_key(it.0));
                    record.relay_drained |= at.is_draining;
                }
                let names = &at.names;
                let find = |name: &str| names.get(name).map(|holder| holder.id);
                let shown = format!("{message:?}");
                match at.router.handle_control(now, id, message, find) {
                    Ok(()) => Ok(()),
                    Err(violation) => fail(format!("{violation} at a relay: {shown}")),
                }
            }
            _ => Ok(()),
        }
    }

    /// Bytes come from a link.
    pub(super) fn relay_hears_data(
        &mut self,
        relay: usize,
        link: usize,
        number: u32,
        payload: bytes::Bytes,
    ) -> Result<(), Failure> {
        let at = &mut self.relays[relay];
        let Some(Session::Serving(id)) = at.sessions.get(&link) else { return Ok(()) };
        match at.router.handle_data(*id, number, payload) {
            Ok(()) => Ok(()),
            Err(violation) => fail(format!("{violation} at a relay: data on {number}")),
        }
    }

    fn relay_greets(&mut self, relay: usize, link: usize, hello: Hello) -> Result<(), Failure> {
        if self.relays[relay].is_draining {
            return self.reject(relay, link, Code::GoingAway);
        }
        let secret = hello.secret.expose().to_owned();
        match hello.role {
            Role::Agent => self.relay_claims(relay, link, hello.name, hello.instance),
            // The name that a relay has for a client depends on its secret alone.
            _ => {
                let principal = Some(format!("of {secret}"));
                self.serve(relay, link, Peer::Opener { principal });
                Ok(())
            }
        }
    }

    fn relay_claims(
        &mut self,
        relay: usize,
        link: usize,
        name: String,
        instance: String,
    ) -> Result<(), Failure> {
        let now = self.now;
        let at = &mut self.relays[relay];
        match at.names.get_mut(&name) {
            None => self.serve_agent(relay, link, name, instance),
            Some(holder) if holder.instance == instance => {
                // Spec v2, RL-8.
                let old = holder.link;
                let claimant = holder.claimant.take();
                if let Some((other, _)) = claimant {
                    self.reject(relay, other, Code::NameInUse)?;
                }
                self.serve_agent(relay, link, name, instance);
                self.close(old, 1)?;
            }
            Some(holder) if holder.claimant.is_some() => {
                self.reject(relay, link, Code::NameInUse)?;
            }
            Some(holder) => {
                // Spec v2, RL-9.
                holder.claimant = Some((link, now + v2::PROBE_TIMEOUT));
                let old = holder.link;
                at.sessions.insert(link, Session::Claiming { name, instance });
                self.ping(old, 1);
            }
        }
        Ok(())
    }

    fn serve_agent(&mut self, relay: usize, link: usize, name: String, instance: String) {
        let id = self.serve(relay, link, Peer::Acceptor);
        let holder = Holder { link, id, instance, claimant: None };
        self.relays[relay].names.insert(name, holder);
    }

    fn serve(&mut self, relay: usize, link: usize, peer: Peer) -> LinkId {
        let [_, _, allowed] = self.plan.bounds.resume_for_s;
        let driver = self.driver(link, 1).unwrap_or_default();
        let at = &mut self.relays[relay];
        let id = at.router.connect(peer, driver.clone());
        at.sessions.insert(link, Session::Serving(id));
        let streams = u32::try_from(self.plan.bounds.relay_streams).unwrap_or(u32::MAX);
        self.put(
            link,
            1,
            &Control::Welcome(Welcome {
                software: "world/1".into(),
                max_streams: streams,
                max_data: if self.plan.seed.is_multiple_of(2) { 65_536 } else { 8_192 },
                max_window: v2::MAX_WINDOW as u32,
                resume_for_ms: u32::try_from(allowed * 1_000).unwrap_or(0),
            }),
        );
        driver.set();
        id
    }

    fn reject(&mut self, relay: usize, link: usize, code: Code) -> Result<(), Failure> {
        if !self.relays[relay].sessions.contains_key(&link) {
            return Ok(());
        }
        let retry_after_ms = (code == Code::GoingAway).then_some(100);
        let reject = Reject { code, message: "refused".into(), retry_after_ms };
        self.put(link, 1, &Control::Reject(reject));
        self.close(link, 1)
    }

    /// A sign of life from a link.
    pub(super) fn relay_is_heard(&mut self, relay: usize, link: usize) -> Result<(), Failure> {
        let holder = self.relays[relay].names.values_mut().find(|it| it.link == link);
        match holder.and_then(|holder| holder.claimant.take()) {
            Some((claimant, _)) => self.reject(relay, claimant, Code::NameInUse),
            None => Ok(()),
        }
    }

    /// Does what is due at a relay. Whether anything was.
    pub(super) fn poll_relay(&mut self, relay: usize) -> Result<bool, Failure> {
        let now = self.now;
        let at = &self.relays[relay];
        let late = at.sessions.iter().find_map(|(link, session)| match session {
            Session::Waiting(deadline) if *deadline <= now => Some(*link),
            _ => None,
        });
        if let Some(link) = late {
            self.close(link, 1)?;
            return Ok(true);
        }
        let silent = at.names.values().find_map(|holder| {
            holder
                .claimant
                .filter(|(_, due)| *due <= now)
                .map(|(claimant, _)| (holder.link, claimant))
        });
        let Some((old, claimant)) = silent else { return Ok(false) };
        // Its holder is given up, which hands the name on.
        self.hang_up(old, 1)?;
        debug_assert!(
            !matches!(self.relays[relay].sessions.get(&claimant), Some(Session::Claiming { .. })),
            "the claimant has the name"
        );
        Ok(true)
    }

    /// A relay has no use for a link any more.
    pub(super) fn relay_lost(&mut self, relay: usize, link: usize) {
        let at = &mut self.relays[relay];
        let session = at.sessions.remove(&link);
        let name = at.names.iter().find(|(_, it)| it.link == link).map(|(name, _)| name.clone());
        if let Some(Session::Serving(id)) = session {
            at.router.lost(id);
        }
        for holder in at.names.values_mut() {
            holder.claimant = holder.claimant.filter(|(claimant, _)| *claimant != link);
        }
        if let Some(holder) = name.as_ref().and_then(|name| at.names.remove(name))
            && let Some((claimant, _)) = holder.claimant
            && let Some(Session::Claiming { name, instance }) = at.sessions.remove(&claimant)
        {
            self.serve_agent(relay, claimant, name, instance);
        }
    }

    /// The links of a relay are to end.
    pub(super) fn drain(&mut self, relay: usize) {
        let at = &mut self.relays[relay];
        self.transcript.note(self.now - self.begun, at.party, || "drains".into());
        at.is_draining = true;
        at.router.drain(&Goaway { message: "restart".into(), reconnect_after_ms: 10 });
    }

    /// The process of a relay ends.
    pub(super) fn relay_down(&mut self, relay: usize, is_told: bool) -> Result<(), Failure> {
        let party = self.relays[relay].party;
        let note = if is_told { "ends" } else { "is killed" };
        self.transcript.note(self.now - self.begun, party, || note.into());
        self.relays[relay].is_up = false;
        let links: Vec<usize> =
            self.links.iter().filter(|(_, it)| it.relay == relay).map(|(at, _)| *at).collect();
        for link in links {
            if is_told {
                self.send(link, 1, Frame::Close);
            }
            self.forget(link, 1, !is_told)?;
        }
        self.relays[relay] = Relay { is_up: false, ..Relay::new(party, self.plan) };
        Ok(())
    }

    /// Another process in its place.
    pub(super) fn relay_up(&mut self, relay: usize) {
        let at = &mut self.relays[relay];
        at.is_up = true;
        self.transcript.note(self.now - self.begun, at.party, || "starts".into());
    }
}

/// How long a link may last without `hello`.
pub(super) const HELLO: Duration = v2::HELLO_TIMEOUT;
