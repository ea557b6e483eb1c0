//! One stream at one of its ends.

use std::time::Instant;

use codec::v2::Code;

use super::recv::RecvHalf;
use super::send::SendHalf;
use super::{Ask, LinkKey, StreamEnd, StreamId};

/// A stream, from the first `open` to the moment when its owner has let go of it.
///
/// ```text
///             opened / dialled                 done, reset, refused, window over
///   Opening ───────────────────▶ Open ──────────────────────────────────────────▶ Over
///      └───────────────────────────────────────────────────────────────────────────┘
///
///   attachment, in Opening and Open:
///
///            open, resume                 interrupted, link lost, left
///   none ────────────────────▶ (link, number) ────────────────────────▶ none
///        (the opener's attempts count up; the acceptor takes only a higher one)
/// ```
#[derive(Clone, Debug)]
pub(crate) struct Stream<W> {
    pub(crate) id: StreamId,
    pub(crate) ask: Ask,
    pub(crate) phase: Phase,
    /// The latest attempt.
    pub(crate) attempt: u32,
    pub(crate) attachment: Option<Attachment>,
    pub(crate) send: SendHalf,
    pub(crate) recv: RecvHalf,
    /// It is to be reset with this once everything written is sent.
    pub(crate) breaks_off: Option<(Code, String)>,
    /// It stands in line on its link.
    pub(crate) in_line: bool,
    /// It is among those of its link that have credit to tell.
    pub(crate) in_credits: bool,
    /// Its owner was told of the loss of its link and not yet that it goes on.
    pub(crate) is_interrupted: bool,
    pub(crate) times: Times,
    pub(crate) reader: W,
    pub(crate) writer: W,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Phase {
    /// The target is being dialled, as far as this side knows.
    Opening,
    /// It is connected.
    Open,
    /// Over. What was received may still be read.
    Over(StreamEnd),
}

/// Where a stream is at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Attachment {
    pub(crate) link: LinkKey,
    pub(crate) number: u32,
    pub(crate) flow: Flow,
}

/// What may be sent on an attachment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Flow {
    /// Nothing before `opened`.
    Asked,
    /// Early data, before `opened`.
    Early,
    /// Everything.
    Live,
}

/// When something is due for a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Times {
    /// The window for a resumption ends.
    pub(crate) give_up: Option<Instant>,
    /// The next attempt is made, if there is a link.
    pub(crate) retry: Option<Instant>,
    /// How many attempts have failed in a row.
    pub(crate) failures: u32,
    /// The present attempt counts as failed.
    pub(crate) opened_by: Option<Instant>,
    /// What is registered with the endpoint's timers.
    pub(crate) registered: Option<Instant>,
}

impl Times {
    pub(crate) fn first(&self) -> Option<Instant> {
        [self.give_up, self.retry, self.opened_by].into_iter().flatten().min()
    }
}

impl<W> Stream<W> {
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over(_))
    }

    /// Whether it may send data, its end, or the reset that it breaks off with.
    pub(crate) fn may_send(&self) -> bool {
        self.attachment.is_some_and(|attachment| attachment.flow != Flow::Asked)
            && (self.send.has_unsent() || self.breaks_off.is_some())
    }

    /// Whether it was attached and waits to be again.
    pub(crate) fn has_lost_link(&self) -> bool {
        self.attachment.is_none() && self.attempt > 0 && !self.is_over()
    }

    /// Bytes that it holds.
    pub(crate) fn held_bytes(&self) -> u64 {
        self.send.kept_bytes() + self.recv.waiting()
    }
}
