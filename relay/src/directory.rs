//! What the sessions of one relay share.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use codec::v1;
use mux::Wake;
use transport::bell::Bell;

use crate::auth::Credentials;
use crate::large::Budget;
use crate::registry::{Claim, Registry, Settled};
use crate::router::{self, LinkId, Router};
use crate::routes::Routes;

/// What the sessions of one relay share: who may connect, who is connected, and the streams of protocol v2.
#[derive(Debug)]
pub(crate) struct Directory {
    pub(crate) credentials: Credentials,
    registry: Mutex<Registry<AgentHandle>>,
    router: Mutex<Router<Ring>>,
    /// For the routes of every agent of protocol v1.
    pub(crate) budget: Budget,
}

/// Wakes whoever drives a link at the router. Clones are the same ring.
#[derive(Clone, Debug)]
pub(crate) struct Ring(Arc<Mutex<Bell>>);

impl Ring {
    pub(crate) fn new(bell: Bell) -> Self {
        Self(Arc::new(Mutex::new(bell)))
    }
}

impl Wake for Ring {
    fn wake(&self) {
        lock(&self.0).ring();
    }
}

/// One agent link, shared by its own session and those of its clients. Equal to itself only.
#[derive(Clone, Debug)]
pub(crate) struct AgentHandle(Arc<AgentLink>);

#[derive(Debug)]
struct AgentLink {
    speaks: Speaks,
    bell: Bell,
    /// Somebody waits to hear whether this link is alive.
    probed: AtomicBool,
    /// Another link has taken the name over.
    replaced: AtomicBool,
}

/// The version of an agent's link, with what that alone has.
#[derive(Debug)]
enum Speaks {
    V1(SharedRoutes),
    V2 {
        /// The agent's process (spec v2, LK-4).
        instance: String,
        /// The link at the router.
        link: LinkId,
    },
}

/// The streams of an agent link of protocol v1.
#[derive(Clone, Debug)]
pub(crate) struct SharedRoutes(Arc<Mutex<Routes<Bell>>>);

impl SharedRoutes {
    pub(crate) fn new(routes: Routes<Bell>) -> Self {
        Self(Arc::new(Mutex::new(routes)))
    }

    /// Held for one call at a time, never across an await.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Routes<Bell>> {
        lock(&self.0)
    }
}

impl PartialEq for AgentHandle {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl AgentHandle {
    /// A link of protocol v1, whose driver waits for `bell`.
    pub(crate) fn v1(routes: SharedRoutes, bell: Bell) -> Self {
        Self::new(Speaks::V1(routes), bell)
    }

    /// A link of protocol v2, of the given process.
    pub(crate) fn v2(instance: String, link: LinkId, bell: Bell) -> Self {
        Self::new(Speaks::V2 { instance, link }, bell)
    }

    fn new(speaks: Speaks, bell: Bell) -> Self {
        let (probed, replaced) = (AtomicBool::new(false), AtomicBool::new(false));
        Self(Arc::new(AgentLink { speaks, bell, probed, replaced }))
    }

    /// The streams of the link, if it speaks protocol v1.
    pub(crate) fn routes(&self) -> Option<&SharedRoutes> {
        match &self.0.speaks {
            Speaks::V1(routes) => Some(routes),
            Speaks::V2 { .. } => None,
        }
    }

    /// The link at the router, if it has one.
    pub(crate) fn link(&self) -> Option<LinkId> {
        match self.0.speaks {
            Speaks::V1(_) => None,
            Speaks::V2 { link, .. } => Some(link),
        }
    }

    /// Whether both are links of one agent process, which says so itself (spec v2, RL-8).
    pub(crate) fn is_same_process(&self, other: &Self) -> bool {
        match (&self.0.speaks, &other.0.speaks) {
            (Speaks::V2 { instance: one, .. }, Speaks::V2 { instance: other, .. }) => one == other,
            _ => false,
        }
    }

    /// Wakes the link's driver.
    pub(crate) fn wake(&self) {
        self.0.bell.ring();
    }

    /// Whether somebody waits for a sign of life.
    pub(crate) fn is_probed(&self) -> bool {
        self.0.probed.load(Ordering::Acquire)
    }

    /// Whether another link has the name now.
    pub(crate) fn is_replaced(&self) -> bool {
        self.0.replaced.load(Ordering::Acquire)
    }

    fn replace(&self) {
        self.0.replaced.store(true, Ordering::Release);
        self.wake();
    }
}

impl Directory {
    pub(crate) fn new(credentials: Credentials) -> Self {
        Self {
            credentials,
            registry: Mutex::new(Registry::new(v1::PROBE_TIMEOUT)),
            router: Mutex::new(Router::new(router::Settings::default())),
            budget: Budget::new(OVERFLOW),
        }
    }

    /// The streams of protocol v2. Held for one call at a time, never across an await, and never together with another
    /// lock.
    pub(crate) fn router(&self) -> MutexGuard<'_, Router<Ring>> {
        lock(&self.router)
    }

    /// The link of a connected agent.
    pub(crate) fn agent(&self, name: &str) -> Option<AgentHandle> {
        lock(&self.registry).get(name).cloned()
    }

    /// Claims a name for a link; a present holder of another process is probed.
    pub(crate) fn claim(&self, now: Instant, name: &str, link: &AgentHandle) -> Claim {
        let mut registry = lock(&self.registry);
        if registry.get(name).is_some_and(|holder| holder.is_same_process(link)) {
            if let Some((before, refused)) = registry.succeed(name, link.clone()) {
                before.replace();
                refused.inspect(AgentHandle::wake);
            }
            return Claim::Granted;
        }
        let claim = registry.claim(now, name, link.clone());
        if claim == Claim::Probe
            && let Some(holder) = registry.get(name)
        {
            holder.0.probed.store(true, Ordering::Release);
            holder.wake();
        }
        claim
    }

    /// The link gave the sign of life that somebody waits for.
    pub(crate) fn alive(&self, name: &str, link: &AgentHandle) {
        link.0.probed.store(false, Ordering::Release);
        let claimant = lock(&self.registry).alive(name, link);
        if let Some(claimant) = claimant {
            claimant.wake();
        }
    }

    /// How the probe for a claimant ended, if it has; a holder that did not answer is cut off.
    pub(crate) fn poll_settled(
        &self,
        now: Instant,
        name: &str,
        link: &AgentHandle,
    ) -> Option<Settled> {
        let mut registry = lock(&self.registry);
        let before = registry.get(name).cloned();
        let settled = registry.poll_settled(now, name, link);
        drop(registry);
        if settled == Some(Settled::Granted)
            && let Some(before) = before.filter(|before| before != link)
        {
            before.replace();
        }
        settled
    }

    /// A link is over.
    pub(crate) fn release(&self, name: &str, link: &AgentHandle) {
        let heir = lock(&self.registry).release(name, link);
        if let Some(heir) = heir {
            heir.wake();
        }
    }
}

/// Bytes of messages that may wait beside the queues of all streams together: sixteen of the
/// largest. Streams of peers with ordinary messages never need it for more than a moment.
const OVERFLOW: usize = 256 * 1024 * 1024;

/// Locks; a panic elsewhere while the lock was held leaves states that are each still valid.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
