//! The receiving half of a stream: what arrived and waits for its consumer, and how far the sender may go.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use codec::v2;

use super::Fault;
use super::window::Window;

/// One direction of a stream, at its receiver.
///
/// ```text
///   0 ────────── consumed ────────── received ────────── granted
///      handed on           waits            may still come
/// ```
///
/// The end counts as one (spec v2, FL-1). At most `granted - consumed` bytes wait, one window, set by this side.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RecvHalf {
    /// What was not read yet, but for what is in `small`; none is empty.
    pieces: VecDeque<Bytes>,
    /// Small pieces, put together: each would hold on to the block that it was received in.
    small: BytesMut,
    received: u64,
    consumed: u64,
    /// The furthest limit ever told, or allowed untold.
    granted: u64,
    /// `consumed` as it was last told.
    told: u64,
    /// The final size.
    end: Option<u64>,
    window: Window,
    /// The sender was told a limit of this side's choice.
    is_told: bool,
    /// Since the last credit, the sender has used up its limit although nothing waited here: the window is too small.
    starved: bool,
}

/// What a receiver says of itself: in `opened`, `resume` and `credit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) received: u64,
    pub(crate) consumed: u64,
    pub(crate) limit: u64,
}

impl RecvHalf {
    /// A half whose sender may send up to `granted` before it is told anything.
    pub(crate) fn new(granted: u64, window: Window) -> Self {
        Self {
            pieces: VecDeque::new(),
            small: BytesMut::new(),
            received: 0,
            consumed: 0,
            granted,
            told: 0,
            end: None,
            window,
            is_told: false,
            starved: false,
        }
    }

    /// Takes a frame's bytes.
    ///
    /// # Errors
    /// They pass the limit, or come behind the end.
    pub(crate) fn data(&mut self, payload: Bytes) -> Result<(), Fault> {
        if self.end.is_some() {
            return Err(Fault::BeyondEnd);
        }
        let received = self.received + payload.len() as u64;
        if received > self.granted {
            return Err(Fault::LimitPassed);
        }
        if received == self.granted
            && self.is_told
            && self.received - self.consumed <= self.window.size() / 4
        {
            self.starved = true;
        }
        self.received = received;
        if payload.len() < SMALL {
            self.small.extend_from_slice(&payload);
        } else {
            self.gather();
            self.pieces.push_back(payload);
        }
        Ok(())
    }

    /// The sender has sent everything: so many bytes.
    ///
    /// # Errors
    /// It has sent another number of them, or said so before.
    pub(crate) fn finish(&mut self, offset: u64) -> Result<(), Fault> {
        if self.end.is_some() || offset != self.received {
            return Err(Fault::WrongEnd);
        }
        self.end = Some(offset);
        self.received += 1;
        Ok(())
    }

    /// The next bytes for the consumer. They count as consumed once it says so.
    pub(crate) fn read(&mut self) -> Option<Bytes> {
        if self.pieces.is_empty() {
            self.gather();
        }
        self.pieces.pop_front()
    }

    /// Whether nothing waits to be read.
    pub(crate) fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.small.is_empty()
    }

    /// Whether the sender has sent everything and all of it was read.
    pub(crate) fn is_finished(&self) -> bool {
        self.end.is_some() && self.is_empty()
    }

    /// The consumer has handed on so many bytes.
    pub(crate) fn consume(&mut self, bytes: u64) {
        self.consumed += bytes;
        debug_assert!(self.consumed <= self.end.unwrap_or(self.received), "more than was read");
    }

    /// The consumer has handed on the end, too.
    pub(crate) fn consume_end(&mut self) {
        debug_assert_eq!(self.end, Some(self.consumed), "the end comes last, and once");
        self.consumed += 1;
    }

    /// Whether everything and the end was handed on.
    pub(crate) fn is_complete(&self) -> bool {
        self.end.is_some_and(|end| self.consumed > end)
    }

    /// Whether the sender is to be told: half the window was consumed since it last was, or all of it.
    ///
    /// Telling it more often would cost a message for each frame; less often would let it run dry.
    pub(crate) fn wants_credit(&self) -> bool {
        if self.consumed == self.told {
            return false;
        }
        self.is_complete()
            || (self.end.is_none() && self.consumed - self.told >= self.window.size() / 2)
    }

    /// Whether a larger window would let the sender go faster. Asked before [`Self::position`].
    pub(crate) fn is_starved(&self) -> bool {
        self.starved
    }

    /// The window.
    pub(crate) fn window(&self) -> Window {
        self.window
    }

    /// The window, to be grown.
    pub(crate) fn window_mut(&mut self) -> &mut Window {
        &mut self.window
    }

    /// Where this half stands, with the limit as far as the window goes. The sender is told so.
    pub(crate) fn position(&mut self) -> Position {
        let limit = (self.consumed + self.window.size()).min(v2::MAX_INTEGER - 1);
        self.granted = self.granted.max(limit);
        self.told = self.consumed;
        self.is_told = true;
        self.starved = false;
        Position { received: self.received, consumed: self.consumed, limit: self.granted }
    }

    /// Bytes that were received and not handed on.
    pub(crate) fn waiting(&self) -> u64 {
        let bytes = self.end.unwrap_or(self.received);
        bytes - self.consumed.min(bytes)
    }

    fn gather(&mut self) {
        if !self.small.is_empty() {
            self.pieces.push_back(std::mem::take(&mut self.small).freeze());
        }
    }
}

/// Frames with fewer bytes are copied together; a copy of that size costs less than to hold on to a block of 64 KiB.
const SMALL: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v2::Budget;

    fn half(granted: u64) -> RecvHalf {
        RecvHalf::new(granted, Window::new(8, &mut Budget::new(8)).expect("eight are left"))
    }

    fn bytes(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    #[test]
    fn what_arrives_is_read_in_order_and_small_pieces_together() {
        let mut half = half(100_000);
        half.data(bytes("ab")).unwrap();
        half.data(bytes("cd")).unwrap();
        half.data(vec![b'x'; SMALL].into()).unwrap();
        half.data(bytes("e")).unwrap();
        assert_eq!(half.read().as_deref(), Some(&b"abcd"[..]));
        assert_eq!(half.read().map(|piece| piece.len()), Some(SMALL));
        assert_eq!(half.read().as_deref(), Some(&b"e"[..]));
        assert_eq!(half.read(), None);
    }

    #[test]
    fn the_limit_and_the_end_hold() {
        let mut half = half(3);
        half.data(bytes("ab")).unwrap();
        assert_eq!(half.data(bytes("cd")), Err(Fault::LimitPassed));
        assert_eq!(half.finish(3), Err(Fault::WrongEnd));
        half.finish(2).unwrap();
        assert_eq!(half.finish(2), Err(Fault::WrongEnd));
        assert_eq!(half.data(bytes("c")), Err(Fault::BeyondEnd));
        assert!(!half.is_finished());
        half.read().unwrap();
        assert!(half.is_finished() && !half.is_complete());
        half.consume(2);
        half.consume_end();
        assert!(half.is_complete() && half.wants_credit());
        assert_eq!(half.position(), Position { received: 3, consumed: 3, limit: 11 });
        assert!(!half.wants_credit());
    }

    #[test]
    fn credit_is_due_after_half_a_window() {
        let mut half = half(8);
        half.data(bytes("abcdefg")).unwrap();
        half.read().unwrap();
        half.consume(3);
        assert!(!half.wants_credit());
        half.consume(1);
        assert!(half.wants_credit());
        assert_eq!(half.position(), Position { received: 7, consumed: 4, limit: 12 });
        assert!(!half.is_starved());
    }

    #[test]
    fn a_sender_that_runs_dry_before_an_idle_consumer_is_starved() {
        let mut half = half(8);
        half.position();
        half.data(bytes("abcd")).unwrap();
        half.read().unwrap();
        half.consume(4);
        half.data(bytes("efgh")).unwrap();
        assert!(half.is_starved());
        half.position();
        assert!(!half.is_starved());
        half.data(bytes("ijkl")).unwrap();
        assert!(!half.is_starved(), "eight bytes wait: the consumer is what is slow");
    }
}
