//! Bytes that arrived for a stream and wait for their consumer.

use std::collections::VecDeque;

use codec::v1::base64;

/// The bounded queue between a link's reader and one stream's consumer.
///
/// At most `limit` bytes wait in the queue. A message that does not fit is decoded as a whole
/// and its rest is held apart, as the *overflow*, until the consumer has made room; meanwhile
/// [`Self::is_over`] tells the link's owner to stop reading. So a link holds at most one
/// overflow, of at most one message, whatever its peer sends.
///
/// [`Self::take`] swaps buffers with the consumer: many small messages become one write, and
/// in steady flow nothing is allocated. It gives one piece at a time, so that a slow consumer makes
/// room in small steps, too.
#[derive(Debug, Default)]
pub struct Inbound {
    /// None is empty.
    pieces: VecDeque<Vec<u8>>,
    /// In all pieces.
    bytes: usize,
    overflow: Vec<u8>,
    /// How much of `overflow` has gone over to `pieces`.
    moved: usize,
    limit: usize,
    /// An empty buffer for the next piece.
    spare: Vec<u8>,
}

impl Inbound {
    /// An empty queue of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }

    /// Whether a message did not fit; if so, push nothing more until [`Self::take`] made room.
    pub fn is_over(&self) -> bool {
        !self.overflow.is_empty()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.overflow.is_empty()
    }

    /// Decodes and appends the payload of one data message.
    ///
    /// # Errors
    /// The text is no base64; nothing was appended.
    pub fn push(&mut self, text: &str) -> Result<(), base64::Base64Error> {
        debug_assert!(!self.is_over(), "the link is read on although a message did not fit");
        let at_most = text.len() / 4 * 3 + 3;
        if self.bytes + at_most > self.limit {
            base64::decode_append(text, &mut self.overflow)?;
            self.refill();
            return Ok(());
        }
        let mut piece = self.open_piece(at_most);
        let before = piece.len();
        let decoded = base64::decode_append(text, &mut piece);
        self.bytes += piece.len() - before;
        self.close_piece(piece);
        decoded
    }

    /// Swaps the oldest piece into `into`, which must be empty, and refills from the overflow.
    pub fn take(&mut self, into: &mut Vec<u8>) {
        debug_assert!(into.is_empty(), "bytes of an earlier take would be lost");
        let Some(piece) = self.pieces.pop_front() else { return };
        self.bytes -= piece.len();
        self.spare = std::mem::replace(into, piece);
        self.refill();
    }

    /// Lets go of memory that only a steady flow needs.
    pub fn rest(&mut self) {
        self.spare = Vec::new();
        if self.pieces.is_empty() {
            self.pieces = VecDeque::new();
        }
    }

    /// The last piece if so much more fits, or else a new one.
    fn open_piece(&mut self, more: usize) -> Vec<u8> {
        match self.pieces.pop_back() {
            Some(last) if last.len() + more <= PIECE => return last,
            Some(last) => self.pieces.push_back(last),
            None => {}
        }
        std::mem::take(&mut self.spare)
    }

    fn close_piece(&mut self, piece: Vec<u8>) {
        if !piece.is_empty() {
            self.pieces.push_back(piece);
        }
    }

    fn refill(&mut self) {
        while self.moved < self.overflow.len() && self.bytes < self.limit {
            let most = (self.limit - self.bytes).min(PIECE);
            let end = self.overflow.len().min(self.moved + most);
            let mut piece = self.open_piece(end - self.moved);
            piece.extend_from_slice(&self.overflow[self.moved..end]);
            self.close_piece(piece);
            self.bytes += end - self.moved;
            self.moved = end;
        }
        if self.moved == self.overflow.len() {
            self.overflow = Vec::new();
            self.moved = 0;
        }
    }
}

/// How large a piece may grow; that of one message may be a little larger.
const PIECE: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bytes_come_out_as_they_went_in_and_within_the_limit(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20),
            limit in 1_usize..120,
        ) {
            let mut inbound = Inbound::new(limit);
            let (mut sent, mut got, mut taken) = (Vec::new(), Vec::new(), Vec::new());
            for message in messages {
                while inbound.is_over() {
                    inbound.take(&mut taken);
                    prop_assert!(taken.len() <= limit);
                    got.append(&mut taken);
                }
                inbound.push(&base64::encode(&message)).unwrap();
                sent.extend(message);
            }
            while !inbound.is_empty() {
                inbound.take(&mut taken);
                prop_assert!(taken.len() <= limit);
                got.append(&mut taken);
            }
            prop_assert_eq!(sent, got);
        }
    }

    #[test]
    fn undecodable_text_leaves_the_queue_as_it_was() {
        let mut inbound = Inbound::new(100);
        inbound.push("YWJj").unwrap();
        inbound.push("A").unwrap_err();
        let mut taken = Vec::new();
        inbound.take(&mut taken);
        assert_eq!(taken, b"abc");
    }
}
