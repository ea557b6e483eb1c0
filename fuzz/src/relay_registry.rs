//! Who holds which name, against a model.

use std::time::{Duration, Instant};

use codec::v1::PROBE_TIMEOUT;
use relay::registry::{Claim, Registry, Settled};

use crate::operations::{self, time};

/// What happens to a registry. Links are new, claim one name each, and leave.
#[derive(Clone, Copy, Debug)]
pub enum Operation {
    /// A new link claims one of a few names.
    Claim(u8),
    /// One of the links that hold a name shows that it lives.
    Alive(u8),
    /// One of the links asks what became of its claim.
    Poll(u8),
    /// One of the links is over.
    Release(u8),
    /// Time passes.
    Pass(Duration),
    /// Time passes until a claim for one of a few names is settled.
    PassUntilDue(u8),
}

impl From<[u8; operations::SIZE]> for Operation {
    fn from([kind, which, size, _]: [u8; operations::SIZE]) -> Self {
        match kind % 16 {
            0..5 => Self::Claim(which),
            5 | 6 => Self::Alive(which),
            7..11 => Self::Poll(which),
            11..14 => Self::Release(which),
            14 => Self::Pass(time(size)),
            _ => Self::PassUntilDue(which),
        }
    }
}

/// Does all this to a registry; then all links leave, and nothing is left.
///
/// # Panics
/// Where the registry does something else than the model.
pub fn check(operations: &[Operation]) {
    let now = Instant::now();
    let mut model = Model { registry: Registry::new(PROBE_TIMEOUT), now, links: Vec::new() };
    for operation in operations {
        model.apply(*operation);
        model.check();
    }
    for link in 0..model.links.len() {
        model.release(link);
        model.check();
    }
    assert!(model.registry.is_empty());
}

struct Model {
    registry: Registry<usize>,
    now: Instant,
    /// All there ever were, by their numbers: the name each asked for, and how it stands.
    links: Vec<(&'static str, Link)>,
}

/// How a link stands to its name.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Link {
    /// It has it.
    Holds,
    /// Its claim is settled by the given time at the latest.
    Claims(Instant),
    /// It was refused in favour of the holder, or has got the name, and does not know yet.
    Settled(Settled),
    /// It never got the name, has lost it, or has left.
    Out,
}

impl Model {
    fn apply(&mut self, operation: Operation) {
        match operation {
            Operation::Claim(n) => self.claim(name(n)),
            Operation::Pass(time) => self.now += time,
            Operation::PassUntilDue(n) => {
                let due = self.registry.poll_timeout(name(n)).unwrap_or(self.now);
                self.now = self.now.max(due);
            }
            Operation::Alive(n) | Operation::Poll(n) | Operation::Release(n) => {
                let among = self.links.len().min(6);
                if among == 0 {
                    return;
                }
                let link = self.links.len() - 1 - usize::from(n) % among;
                match operation {
                    Operation::Alive(_) => self.alive(link),
                    Operation::Poll(_) => self.poll(link),
                    _ => self.release(link),
                }
            }
        }
    }

    /// The link that the name stands for, or the one that waits for it.
    fn find(&self, name: &str, holder: bool) -> Option<usize> {
        self.links.iter().position(|(asked, link)| {
            let holds = matches!(link, Link::Holds | Link::Settled(Settled::Granted));
            *asked == name && *link != Link::Out && holds == holder
        })
    }

    /// Spec v1, A-7 and A-16.
    fn claim(&mut self, name: &'static str) {
        let claim = self.registry.claim(self.now, name, self.links.len());
        let link = match (self.find(name, true), self.find(name, false)) {
            (None, _) => Link::Holds,
            (Some(_), None) => Link::Claims(self.now + PROBE_TIMEOUT),
            (Some(_), Some(_)) => Link::Out,
        };
        let expected = match link {
            Link::Holds => Claim::Granted,
            Link::Claims(_) => Claim::Probe,
            _ => Claim::Refused,
        };
        assert_eq!(claim, expected);
        self.links.push((name, link));
    }

    fn alive(&mut self, link: usize) {
        let name = self.links[link].0;
        let woken = self.registry.alive(name, &link);
        let holds = self.find(name, true) == Some(link);
        let claimant = self.find(name, false).filter(|it| {
            let (_, claimant) = self.links[*it];
            holds && matches!(claimant, Link::Claims(_))
        });
        assert_eq!(woken, claimant);
        if let Some(claimant) = claimant {
            self.links[claimant].1 = Link::Settled(Settled::Refused);
        }
    }

    /// Spec v1, A-8.
    fn poll(&mut self, link: usize) {
        let (name, state) = self.links[link];
        if matches!(state, Link::Out | Link::Holds) {
            // Nothing that it could ask.
            return;
        }
        let settled = self.registry.poll_settled(self.now, name, &link);
        let expected = match state {
            Link::Claims(deadline) => (self.now >= deadline).then_some(Settled::Granted),
            Link::Settled(settled) => Some(settled),
            Link::Out | Link::Holds => None,
        };
        assert_eq!(settled, expected);
        match expected {
            Some(Settled::Granted) => {
                if let Some(before) = self.find(name, true).filter(|before| *before != link) {
                    self.links[before].1 = Link::Out;
                }
                self.links[link].1 = Link::Holds;
            }
            Some(Settled::Refused) => self.links[link].1 = Link::Out,
            None => {}
        }
    }

    /// Spec v1, A-9.
    fn release(&mut self, link: usize) {
        let (name, state) = self.links[link];
        let heir = self.registry.release(name, &link);
        let holds = matches!(state, Link::Holds | Link::Settled(Settled::Granted));
        let expected = self.find(name, false).filter(|_| holds);
        assert_eq!(heir, expected);
        self.links[link].1 = Link::Out;
        if let Some(heir) = expected {
            self.links[heir].1 = Link::Settled(Settled::Granted);
        }
    }

    fn check(&self) {
        let mut held = 0;
        for name in NAMES {
            let holder = self.find(name, true);
            assert_eq!(self.registry.get(name), holder.as_ref());
            held += usize::from(holder.is_some());
            // Whoever waits is told in time.
            let due = self.registry.poll_timeout(name);
            let waits = self.find(name, false);
            assert_eq!(due.is_some(), waits.is_some());
            if let Some((_, Link::Claims(deadline))) = waits.map(|link| self.links[link]) {
                assert_eq!(due, Some(deadline));
            }
        }
        assert_eq!(self.registry.len(), held);
    }
}

fn name(n: u8) -> &'static str {
    NAMES[usize::from(n) % NAMES.len()]
}

/// The names that links ask for; the empty one is a name, too (spec v1, A-2).
const NAMES: [&str; 2] = ["workshop", ""];
