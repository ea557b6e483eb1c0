//! What the sessions of one relay share.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use codec::v1;
use transport::bell::Bell;

use crate::auth::Credentials;
use crate::large::Budget;
use crate::registry::{Claim, Registry, Settled};
use crate::routes::{Routes, Settings};

/// What the sessions of one relay share: who may connect, and who is connected.
#[derive(Debug)]
pub(crate) struct Directory {
    pub(crate) credentials: Credentials,
    registry: Mutex<Registry<AgentHandle>>,
    /// For the routes of every agent.
    pub(crate) budget: Budget,
}

/// One agent link, shared by its own session and those of its clients. Equal to itself only.
#[derive(Clone, Debug)]
pub(crate) struct AgentHandle(Arc<AgentLink>);

#[derive(Debug)]
struct AgentLink {
    /// Held for one call at a time, never across an await.
    routes: Mutex<Routes<Bell>>,
    bell: Bell,
    /// Somebody waits to hear whether this link is alive.
    probed: AtomicBool,
    /// Another link has taken the name over.
    replaced: AtomicBool,
}

impl PartialEq for AgentHandle {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl AgentHandle {
    /// A link with no streams, whose driver waits for `bell`.
    pub(crate) fn new(now: Instant, settings: Settings, budget: Budget, bell: Bell) -> Self {
        Self(Arc::new(AgentLink {
            routes: Mutex::new(Routes::new(now, settings, budget)),
            bell,
            probed: AtomicBool::new(false),
            replaced: AtomicBool::new(false),
        }))
    }

    /// The streams of the link.
    pub(crate) fn routes(&self) -> MutexGuard<'_, Routes<Bell>> {
        lock(&self.0.routes)
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
}

impl Directory {
    pub(crate) fn new(credentials: Credentials) -> Self {
        Self {
            credentials,
            registry: Mutex::new(Registry::new(v1::PROBE_TIMEOUT)),
            budget: Budget::new(OVERFLOW),
        }
    }

    /// The link of a connected agent.
    pub(crate) fn agent(&self, name: &str) -> Option<AgentHandle> {
        lock(&self.registry).get(name).cloned()
    }

    /// Claims a name for a link; a present holder is probed.
    pub(crate) fn claim(&self, now: Instant, name: &str, link: &AgentHandle) -> Claim {
        let mut registry = lock(&self.registry);
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
            before.0.replaced.store(true, Ordering::Release);
            before.wake();
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
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
