//! What the targets of the cores have in common: operations from bytes, bytes of streams, counted wake-ups.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use codec::v1::base64;
use mux::Wake;

/// How many bytes make one operation. Operations of one size can be cut out, doubled and exchanged without a change
/// to the others.
pub const SIZE: usize = 4;

/// The operations that bytes stand for. Bytes that are left over stand for nothing.
pub fn read<T: From<[u8; SIZE]>>(data: &[u8]) -> Vec<T> {
    data.as_chunks::<SIZE>().0.iter().take(MOST).map(|bytes| T::from(*bytes)).collect()
}

/// The bytes from `start` to `end` of a stream: each tells its stream and place, so that one lost, doubled or
/// delivered elsewhere is seen.
pub fn bytes(stream: usize, start: usize, end: usize) -> Vec<u8> {
    #[allow(clippy::cast_possible_truncation, reason = "the low bits are what is wanted")]
    (start..end).map(|at| (stream * 89 + at * 7 + (at >> 8) * 13) as u8).collect()
}

/// A length made of one byte: mostly short, sometimes longer than a queue of the models.
pub fn length(byte: u8) -> usize {
    match byte {
        0..200 => usize::from(byte % 40),
        _ => usize::from(byte - 199) * 5,
    }
}

/// A time made of one byte: from a millisecond to some minutes, each a twentieth longer than the one before.
pub fn time(byte: u8) -> Duration {
    Duration::from_millis(1).mul_f64(1.05_f64.powi(byte.into()))
}

/// How a peer spells its base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spelling {
    /// In the one way of writers.
    Canonical,
    /// In a way that readers must read, too.
    Odd,
    /// So that nobody can read it.
    Unreadable,
}

impl From<u8> for Spelling {
    fn from(byte: u8) -> Self {
        match byte {
            0..192 => Self::Canonical,
            192..240 => Self::Odd,
            240.. => Self::Unreadable,
        }
    }
}

impl Spelling {
    /// The base64 of `bytes` in this spelling.
    pub fn of(self, bytes: &[u8]) -> String {
        let canonical = base64::encode(bytes);
        match self {
            Self::Canonical => canonical,
            Self::Odd => canonical.chars().flat_map(|c| ['\n', c]).collect(),
            Self::Unreadable => format!("é{canonical}"),
        }
    }
}

/// Counts how often it is woken. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Counter(Rc<Cell<u64>>);

impl Counter {
    /// How often it was woken.
    pub fn count(&self) -> u64 {
        self.0.get()
    }
}

impl Wake for Counter {
    fn wake(&self) {
        self.0.set(self.0.get() + 1);
    }
}

/// One who was told that there is nothing now, and trusts to be woken.
#[derive(Clone, Debug, Default)]
pub struct Waiter {
    counter: Counter,
    /// How often it had been woken when it was told so.
    asleep: Option<u64>,
}

impl Waiter {
    /// One whom `counter` wakes.
    pub fn new(counter: Counter) -> Self {
        Self { counter, asleep: None }
    }

    /// Was told that there is nothing now, or that there is.
    pub fn told(&mut self, nothing: bool) {
        self.asleep = nothing.then(|| self.counter.count());
    }

    /// Panics if there is something and nobody said so.
    pub fn check(&self, something: bool, what: &str) {
        let missed = something && self.asleep == Some(self.counter.count());
        assert!(!missed, "nobody was woken for {what}");
    }
}

/// The longest sequence of operations that is tried.
const MOST: usize = 512;
