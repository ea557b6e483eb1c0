//! Messages of a stream that wait for their turn on a link.

use std::collections::VecDeque;

/// The bounded queue between one stream's producer and a link's writer: whole messages,
/// ready to be sent.
///
/// The bound is counted in bytes of message text. Ask [`Self::has_room`] before producing more;
/// one message may pass the limit, so the queue holds less than `limit` plus one message.
#[derive(Debug, Default)]
pub struct Outbound {
    messages: VecDeque<String>,
    bytes: usize,
    limit: usize,
}

impl Outbound {
    /// An empty queue that has room while fewer than `limit` bytes wait.
    pub fn new(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }

    /// Whether another message may be pushed.
    pub fn has_room(&self) -> bool {
        self.bytes < self.limit
    }

    /// Whether no message waits.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Appends a message.
    pub fn push(&mut self, message: String) {
        self.bytes += message.len();
        self.messages.push_back(message);
    }

    /// Removes the oldest message.
    pub fn pop(&mut self) -> Option<String> {
        let message = self.messages.pop_front()?;
        self.bytes -= message.len();
        if self.messages.is_empty() && self.messages.capacity() > KEPT_SLOTS {
            self.messages = VecDeque::new();
        }
        Some(message)
    }

    /// Drops everything that waits.
    pub fn clear(&mut self) {
        *self = Self::new(self.limit);
    }
}

/// How many slots an empty queue keeps, so that a ping-pong allocates none and an idle stream
/// holds little.
const KEPT_SLOTS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_is_full_at_its_limit_and_has_room_again_below_it() {
        let mut outbound = Outbound::new(5);
        assert!(outbound.has_room() && outbound.is_empty());
        outbound.push("1234".into());
        assert!(outbound.has_room());
        outbound.push("5678".into());
        assert!(!outbound.has_room());
        assert_eq!(outbound.pop().as_deref(), Some("1234"));
        assert!(outbound.has_room());
        outbound.clear();
        assert!(outbound.is_empty() && outbound.pop().is_none());
    }
}
