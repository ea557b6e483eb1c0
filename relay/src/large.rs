//! Messages too large for a queue: what they may take of the memory, and how they are handed on.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use codec::v1;

/// How much memory large messages may take, over all links of a relay: while they arrive, and while they wait because
/// they do not fit their queues.
///
/// Each such message is bounded, and each link holds at most one; but links are many. A link or stream whose message
/// finds the budget used up is ended (spec v1, L-15).
#[derive(Clone, Debug)]
pub struct Budget(Arc<AtomicUsize>);

/// A part of a [`Budget`], given back when dropped.
#[derive(Debug)]
pub struct Reserved {
    budget: Budget,
    bytes: usize,
}

impl Budget {
    /// A budget of so many bytes.
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(bytes)))
    }

    /// Takes a part, unless less is left.
    pub fn reserve(&self, bytes: usize) -> Option<Reserved> {
        let mut reserved = Reserved { budget: self.clone(), bytes: 0 };
        reserved.grow_to(bytes).then_some(reserved)
    }
}

impl Reserved {
    /// Makes the part at least this large. `false` if not so much is left; it stays as it was then.
    pub fn grow_to(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        let budget = &self.budget.0;
        let taken =
            budget.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(more));
        if taken.is_ok() {
            self.bytes += more;
        }
        taken.is_ok()
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.budget.0.fetch_add(self.bytes, Ordering::AcqRel);
    }
}

/// The base64 text of a large message, handed on in pieces that each are base64 of their own.
#[derive(Debug)]
pub(crate) struct Pieces {
    base64: String,
    at: usize,
    /// What `base64` takes of the budget.
    _reserved: Reserved,
}

impl Pieces {
    /// None if the budget is used up.
    pub(crate) fn new(base64: Cow<'_, str>, budget: &Budget) -> Option<Self> {
        let reserved = budget.reserve(base64.len())?;
        Some(Self { base64: base64.into_owned(), at: 0, _reserved: reserved })
    }

    /// The next piece.
    pub(crate) fn next(&mut self) -> Option<&str> {
        let end = self.base64.len().min(self.at + PIECE);
        let piece = self.base64.get(self.at..end).filter(|piece| !piece.is_empty())?;
        self.at = end;
        Some(piece)
    }

    /// Whether there is none any more.
    pub(crate) fn is_done(&self) -> bool {
        self.at >= self.base64.len()
    }
}

/// Characters of base64 that fit one forwarded message.
/// Spec v1, S-11; it keeps a message within what L-3, L-5 and R-10 allow.
pub(crate) const PIECE: usize = v1::MAX_FORWARDED_CHUNK / 3 * 4;
