//! Which link an agent's name stands for: sans-IO.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// What [`Registry::claim`] decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The name is the claimant's.
    Granted,
    /// Another link has the name: ping it, and wait for [`Registry::poll_settled`].
    Probe,
    /// Another link has the name and is being probed for an earlier claimant.
    Refused,
}

/// How a probe ended for the claimant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// The old link did not answer or is gone: the name is the claimant's, the old link is to
    /// be cut off.
    Granted,
    /// The old link answered: the name stays with it.
    Refused,
}

/// The names of connected agents, each with the link `L` that holds it.
///
/// A name that is claimed twice is settled by probing the old link (spec v1, A-7 and A-8): if it gives
/// a sign of life within the probe time, the claimant is refused, else it takes over.
#[derive(Debug)]
pub struct Registry<L> {
    probe_timeout: Duration,
    names: HashMap<String, Entry<L>>,
}

#[derive(Debug)]
struct Entry<L> {
    holder: L,
    claimant: Option<Claimant<L>>,
}

#[derive(Debug)]
struct Claimant<L> {
    link: L,
    deadline: Instant,
    settled: Option<Settled>,
}

impl<L: Clone + PartialEq> Registry<L> {
    /// An empty registry.
    pub fn new(probe_timeout: Duration) -> Self {
        Self { probe_timeout, names: HashMap::new() }
    }

    /// How many names are held.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether no name is held.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The link that holds a name.
    pub fn get(&self, name: &str) -> Option<&L> {
        self.names.get(name).map(|entry| &entry.holder)
    }

    /// `link` asks for `name`.
    pub fn claim(&mut self, now: Instant, name: &str, link: L) -> Claim {
        let Some(entry) = self.names.get_mut(name) else {
            self.names.insert(name.to_owned(), Entry { holder: link, claimant: None });
            return Claim::Granted;
        };
        // Spec v1, A-16.
        if entry.claimant.is_some() {
            return Claim::Refused;
        }
        let deadline = now + self.probe_timeout;
        entry.claimant = Some(Claimant { link, deadline, settled: None });
        Claim::Probe
    }

    /// `link` takes the place of the holder, of which it comes: it is the same process. Gives that holder, and the
    /// claimant that is refused since that process lives, to be woken.
    pub fn succeed(&mut self, name: &str, link: L) -> Option<(L, Option<L>)> {
        let entry = self.names.get_mut(name)?;
        let before = std::mem::replace(&mut entry.holder, link);
        let claimant = entry.claimant.as_mut().filter(|it| it.settled.is_none());
        let refused = claimant.map(|claimant| {
            claimant.settled = Some(Settled::Refused);
            claimant.link.clone()
        });
        Some((before, refused))
    }

    /// The holder `link` of `name` gave a sign of life. Gives the claimant that was refused by
    /// it, to be woken.
    pub fn alive(&mut self, name: &str, link: &L) -> Option<L> {
        let entry = self.names.get_mut(name).filter(|entry| entry.holder == *link)?;
        let claimant = entry.claimant.as_mut().filter(|it| it.settled.is_none())?;
        claimant.settled = Some(Settled::Refused);
        Some(claimant.link.clone())
    }

    /// When [`Self::poll_settled`] gives the claimant of `name` an answer at the latest.
    pub fn poll_timeout(&self, name: &str) -> Option<Instant> {
        Some(self.names.get(name)?.claimant.as_ref()?.deadline)
    }

    /// How the probe for the claimant `link` ended, if it has. A granted claimant is the holder
    /// from then on; an answered claim is forgotten. `None` for a claim that was withdrawn.
    pub fn poll_settled(&mut self, now: Instant, name: &str, link: &L) -> Option<Settled> {
        let entry = self.names.get_mut(name)?;
        if entry.holder == *link {
            return Some(Settled::Granted);
        }
        let claimant = entry.claimant.as_ref().filter(|claimant| claimant.link == *link)?;
        let settled = match claimant.settled {
            Some(settled) => settled,
            None if now >= claimant.deadline => Settled::Granted,
            None => return None,
        };
        if settled == Settled::Granted {
            entry.holder = link.clone();
        }
        entry.claimant = None;
        Some(settled)
    }

    /// `link` is over. Its name is free, or a waiting claimant's, who is given back to be woken;
    /// a claim of its own is withdrawn.
    pub fn release(&mut self, name: &str, link: &L) -> Option<L> {
        let entry = self.names.get_mut(name)?;
        if entry.holder == *link {
            match entry.claimant.take() {
                // Even one that was refused a moment ago, if it has not heard of it.
                Some(claimant) => {
                    entry.holder = claimant.link.clone();
                    return Some(claimant.link);
                }
                None => {
                    self.names.remove(name);
                }
            }
        } else if entry.claimant.as_ref().is_some_and(|claimant| claimant.link == *link) {
            entry.claimant = None;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROBE: Duration = Duration::from_secs(5);

    fn registry() -> (Instant, Registry<u32>) {
        let now = Instant::now();
        let mut registry = Registry::new(PROBE);
        assert_eq!(registry.claim(now, "a", 1), Claim::Granted);
        (now, registry)
    }

    #[test]
    fn a_live_holder_keeps_its_name() {
        let (now, mut registry) = registry();
        assert_eq!(registry.claim(now, "a", 2), Claim::Probe);
        assert_eq!(registry.poll_settled(now, "a", &2), None);
        assert_eq!(registry.alive("a", &1), Some(2));
        assert_eq!(registry.alive("a", &1), None, "the claimant is woken once");
        assert_eq!(registry.poll_settled(now, "a", &2), Some(Settled::Refused));
        assert_eq!(registry.get("a"), Some(&1));
        assert_eq!(registry.claim(now, "a", 3), Claim::Probe, "the next one may try");
    }

    #[test]
    fn a_silent_holder_loses_its_name_and_its_late_end_does_no_harm() {
        let (now, mut registry) = registry();
        registry.claim(now, "a", 2);
        assert_eq!(registry.poll_settled(now + PROBE / 2, "a", &2), None);
        assert_eq!(registry.poll_settled(now + PROBE, "a", &2), Some(Settled::Granted));
        assert_eq!(registry.get("a"), Some(&2));
        assert_eq!(registry.alive("a", &1), None);
        assert_eq!(registry.release("a", &1), None);
        assert_eq!(registry.get("a"), Some(&2));
    }

    #[test]
    fn a_holder_that_ends_hands_its_name_to_the_claimant() {
        let (now, mut registry) = registry();
        registry.claim(now, "a", 2);
        assert_eq!(registry.release("a", &1), Some(2));
        assert_eq!(registry.poll_settled(now, "a", &2), Some(Settled::Granted));
        assert_eq!(registry.release("a", &2), None);
        assert!(registry.is_empty());
    }

    #[test]
    fn a_link_of_the_same_process_takes_over_at_once() {
        let (now, mut registry) = registry();
        assert_eq!(registry.succeed("a", 2), Some((1, None)));
        assert_eq!(registry.get("a"), Some(&2));
        assert_eq!(registry.release("a", &1), None, "the old link's end does no harm");
        assert_eq!(registry.claim(now, "a", 3), Claim::Probe);
        assert_eq!(registry.succeed("a", 4), Some((2, Some(3))), "the process lives");
        assert_eq!(registry.poll_settled(now, "a", &3), Some(Settled::Refused));
        assert_eq!(registry.succeed("b", 4), None);
    }

    #[test]
    fn only_one_claimant_waits_and_one_that_leaves_makes_room() {
        let (now, mut registry) = registry();
        registry.claim(now, "a", 2);
        assert_eq!(registry.claim(now, "a", 3), Claim::Refused);
        assert_eq!(registry.release("a", &2), None);
        assert_eq!(registry.poll_settled(now, "a", &2), None);
        assert_eq!(registry.claim(now, "a", 3), Claim::Probe);
        assert_eq!(registry.claim(now, "b", 3), Claim::Granted, "names are apart");
        assert_eq!(registry.len(), 2);
    }
}
