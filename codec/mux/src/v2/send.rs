//! The sending half of a stream: bytes are kept until the peer has consumed them.

use std::collections::VecDeque;

use bytes::{Buf as _, Bytes};
use codec::v2;

use super::Fault;

/// One direction of a stream, at its sender.
///
/// Offsets count from 0 over the whole life of the stream, on however many numbers it travels. The end counts as one
/// (spec v2, FL-1): once it is sent, `sent` is one more than `written`.
///
/// ```text
///   0 ────────── freed ────────── sent ────────── written ────────── limit
///      consumed        kept, sent      kept, unsent        may still be written
///      by the peer
/// ```
///
/// What is kept never exceeds what the peer has granted and not consumed: one window, set by the peer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SendHalf {
    /// The bytes from `freed` to `written`; no piece is empty.
    kept: VecDeque<Bytes>,
    freed: u64,
    /// The next offset to put on the present number.
    sent: u64,
    /// The furthest that was ever sent, on any number.
    furthest: u64,
    written: u64,
    limit: u64,
    finished: bool,
    /// Where in `kept` the byte at `sent` is: the piece, and how much of it goes before.
    cursor: (usize, usize),
}

impl SendHalf {
    /// A half that may send up to `limit`.
    pub(crate) fn new(limit: u64) -> Self {
        Self {
            kept: VecDeque::new(),
            freed: 0,
            sent: 0,
            furthest: 0,
            written: 0,
            limit,
            finished: false,
            cursor: (0, 0),
        }
    }

    /// How many bytes may be written now: up to the limit, but no more than `most` are kept (spec v2, FL-8).
    pub(crate) fn room(&self, most: u64) -> u64 {
        if self.finished {
            return 0;
        }
        let limit = self.limit.min(self.freed + most).min(v2::MAX_INTEGER - 1);
        limit.saturating_sub(self.written)
    }

    /// Whether nothing more may be written, ever.
    pub(crate) fn is_finished(&self) -> bool {
        self.finished
    }

    /// Appends bytes, at most [`Self::room`].
    pub(crate) fn write(&mut self, bytes: Bytes) {
        debug_assert!(
            bytes.len() as u64 <= self.room(u64::MAX / 2),
            "the writer has asked for room"
        );
        if bytes.is_empty() {
            return;
        }
        self.written += bytes.len() as u64;
        self.kept.push_back(bytes);
    }

    /// No more bytes will be written.
    pub(crate) fn finish(&mut self) {
        self.finished = true;
    }

    /// Whether the end was sent, on any number.
    pub(crate) fn has_sent_end(&self) -> bool {
        self.furthest > self.written
    }

    /// Whether [`Self::take`] or [`Self::next_finish`] has something.
    pub(crate) fn has_unsent(&self) -> bool {
        self.sent < self.written || (self.finished && self.sent == self.written)
    }

    /// The bytes of the next frame, at most `most`, which count as sent.
    pub(crate) fn take(&mut self, most: usize) -> Option<Bytes> {
        let (piece, skip) = self.cursor;
        let bytes = self.kept.get(piece)?;
        let end = bytes.len().min(skip.saturating_add(most));
        let taken = bytes.slice(skip..end);
        self.cursor = if end == bytes.len() { (piece + 1, 0) } else { (piece, end) };
        self.sent += taken.len() as u64;
        self.furthest = self.furthest.max(self.sent);
        Some(taken)
    }

    /// The final size, if the end is to be sent now.
    pub(crate) fn next_finish(&self) -> Option<u64> {
        (self.finished && self.sent == self.written).then_some(self.written)
    }

    /// The end was sent.
    pub(crate) fn finish_sent(&mut self) {
        debug_assert!(self.next_finish().is_some(), "behind everything else, and once");
        self.sent += 1;
        self.furthest = self.furthest.max(self.sent);
    }

    /// The peer has consumed so much, and grants so much. Neither goes back (spec v2, FL-4). Whether more may be written
    /// than before: either may be what held the writer back.
    ///
    /// # Errors
    /// It has consumed what was never sent.
    pub(crate) fn credit(&mut self, consumed: u64, limit: u64) -> Result<bool, Fault> {
        if consumed > self.furthest {
            return Err(Fault::ConsumedUnsent);
        }
        let more = limit > self.limit || consumed > self.freed;
        if consumed > self.freed {
            self.free(consumed);
        }
        self.limit = self.limit.max(limit);
        Ok(more)
    }

    /// Goes on, on a new number, from what the peer has received.
    ///
    /// # Errors
    /// The peer says that it lacks what it has consumed, or has what was never sent.
    pub(crate) fn go_on(&mut self, received: u64, consumed: u64, limit: u64) -> Result<(), Fault> {
        if received < self.freed || received < consumed {
            return Err(Fault::Rewound);
        }
        if received > self.furthest {
            return Err(Fault::ConsumedUnsent);
        }
        self.sent = received;
        self.credit(consumed, limit)?;
        self.find_cursor();
        Ok(())
    }

    /// Sends everything again, none of which has reached anybody.
    pub(crate) fn start_over(&mut self) {
        debug_assert_eq!(self.freed, 0, "what reached nobody was not consumed");
        self.sent = 0;
        self.furthest = 0;
        self.cursor = (0, 0);
    }

    /// Whether the peer has consumed everything and the end.
    pub(crate) fn is_acknowledged(&self) -> bool {
        self.finished && self.freed > self.written
    }

    /// Bytes that are kept.
    pub(crate) fn kept_bytes(&self) -> u64 {
        self.written - self.freed.min(self.written)
    }

    /// Lets go of everything: the stream is over.
    pub(crate) fn clear(&mut self) {
        self.kept = VecDeque::new();
        self.cursor = (0, 0);
        self.finished = true;
        self.freed = self.written;
        self.sent = self.written + 1;
    }

    fn free(&mut self, consumed: u64) {
        let mut bytes = consumed.min(self.written) - self.freed.min(self.written);
        self.freed = consumed;
        while bytes > 0
            && let Some(first) = self.kept.front_mut()
        {
            let (piece, skip) = self.cursor;
            if first.len() as u64 <= bytes {
                bytes -= first.len() as u64;
                self.kept.pop_front();
                // A replay may be behind what the peer has consumed on another number.
                self.cursor = if piece == 0 { (0, 0) } else { (piece - 1, skip) };
            } else {
                let part = bytes as usize;
                first.advance(part);
                if piece == 0 {
                    self.cursor = (0, skip.saturating_sub(part));
                }
                bytes = 0;
            }
        }
        if self.sent < self.freed {
            self.sent = self.freed;
        }
        if self.kept.is_empty() && self.kept.capacity() > KEPT_SLOTS {
            self.kept = VecDeque::new();
        }
    }

    fn find_cursor(&mut self) {
        let mut before = self.sent.min(self.written) - self.freed.min(self.written);
        self.cursor = (self.kept.len(), 0);
        for (index, piece) in self.kept.iter().enumerate() {
            if before < piece.len() as u64 {
                self.cursor = (index, before as usize);
                return;
            }
            before -= piece.len() as u64;
        }
    }
}

/// How many slots an empty half keeps, so that a ping-pong allocates none and an idle stream holds little.
const KEPT_SLOTS: usize = 16;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_end_is_sent_behind_the_last_byte_and_needs_no_room() {
        let mut half = SendHalf::new(3);
        assert_eq!(half.room(100), 3);
        assert_eq!(half.room(2), 2);
        half.write(Bytes::from_static(b"abc"));
        half.finish();
        assert_eq!((half.room(100), half.next_finish()), (0, None));
        assert_eq!(half.take(2).as_deref(), Some(&b"ab"[..]));
        assert_eq!(half.next_finish(), None);
        assert_eq!(half.take(2).as_deref(), Some(&b"c"[..]));
        assert_eq!(half.next_finish(), Some(3));
        half.finish_sent();
        assert_eq!(half.next_finish(), None);
        assert!(!half.credit(3, 9).is_ok_and(|_| half.is_acknowledged()));
        half.credit(4, 9).unwrap();
        assert!(half.is_acknowledged());
    }

    #[test]
    fn what_is_no_longer_kept_makes_room_whatever_the_limit() {
        let mut half = SendHalf::new(100);
        half.write(Bytes::from_static(b"abcd"));
        half.take(4).unwrap();
        assert_eq!(half.room(4), 0);
        assert_eq!(half.credit(3, 100), Ok(true), "nobody else tells the writer");
        assert_eq!(half.room(4), 3);
        assert_eq!(half.credit(3, 100), Ok(false));
    }

    #[test]
    fn what_was_never_sent_cannot_be_consumed_and_what_was_consumed_not_asked_for() {
        let mut half = SendHalf::new(10);
        half.write(Bytes::from_static(b"abcdef"));
        half.take(4).unwrap();
        assert_eq!(half.credit(5, 10), Err(Fault::ConsumedUnsent));
        half.credit(3, 10).unwrap();
        assert_eq!(half.go_on(2, 2, 10), Err(Fault::Rewound));
        assert_eq!(half.go_on(5, 3, 10), Err(Fault::ConsumedUnsent));
        half.go_on(3, 3, 10).unwrap();
        assert_eq!(half.take(9).as_deref(), Some(&b"def"[..]));
    }

    proptest! {
        /// Against a plain string: whatever is written, sent, consumed and replayed.
        #[test]
        fn every_frame_is_what_stands_at_its_offset(
            steps in prop::collection::vec((0_u8..5, 0_u64..40), 0..80),
        ) {
            let mut half = SendHalf::new(16);
            let (mut text, mut freed, mut sent, mut furthest, mut limit) =
                (Vec::<u8>::new(), 0_u64, 0_u64, 0_u64, 16_u64);
            for (step, n) in steps {
                match step {
                    0 => {
                        let n = n.min(half.room(1000));
                        let bytes: Vec<u8> = (0..n).map(|i| (text.len() as u64 + i) as u8).collect();
                        text.extend(&bytes);
                        half.write(bytes.into());
                    }
                    1 => if let Some(taken) = half.take(n as usize + 1) {
                        let at = sent as usize;
                        prop_assert_eq!(&taken[..], &text[at..at + taken.len()]);
                        sent += taken.len() as u64;
                        furthest = furthest.max(sent);
                    } else {
                        prop_assert_eq!(sent, text.len() as u64);
                    },
                    2 => {
                        let consumed = freed + n.min(furthest - freed);
                        limit = limit.max(consumed + 16);
                        half.credit(consumed, limit).unwrap();
                        freed = consumed;
                        sent = sent.max(freed);
                    }
                    3 => {
                        let from = freed + n.min(furthest - freed);
                        half.go_on(from, freed, limit).unwrap();
                        sent = from;
                    }
                    _ => {
                        prop_assert_eq!(half.room(1000), limit - text.len() as u64);
                        prop_assert_eq!(half.kept_bytes(), text.len() as u64 - freed);
                        prop_assert_eq!(half.has_unsent(), sent < text.len() as u64);
                    }
                }
            }
        }
    }
}
