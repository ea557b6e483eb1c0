//! How far a sender may run ahead of its consumer.

/// The window of one direction of a stream.
///
/// It starts small and doubles when the sender has used it up while the consumer was idle: then it is the window that
/// is too small for the way between them, and not the consumer that is slow. So a stream gets what its round-trip time
/// needs and no more, and a consumer that stops costs one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    size: u64,
    first: u64,
}

/// Bytes that all windows of an endpoint may have beyond their first size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Budget(u64);

impl Window {
    /// A window of so many bytes.
    pub fn new(first: u64) -> Self {
        Self { size: first, first }
    }

    /// Bytes that the sender may be ahead.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Doubles it, up to `most` bytes, as far as the budget lasts.
    pub fn grow(&mut self, budget: &mut Budget, most: u64) {
        let more = self.size.min(most.saturating_sub(self.size)).min(budget.0);
        budget.0 -= more;
        self.size += more;
    }

    /// What it has taken of the budget.
    pub fn grown(&self) -> u64 {
        self.size - self.first
    }
}

impl Budget {
    /// A budget of so many bytes.
    pub fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// Gives back what a window has taken.
    pub fn give_back(&mut self, bytes: u64) {
        self.0 += bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_double_up_to_their_limit_and_within_the_budget() {
        let mut budget = Budget::new(25);
        let mut window = Window::new(8);
        window.grow(&mut budget, 30);
        assert_eq!(window.size(), 16);
        window.grow(&mut budget, 30);
        assert_eq!(window.size(), 30);
        window.grow(&mut budget, 30);
        assert_eq!(window.size(), 30);
        let mut other = Window::new(8);
        other.grow(&mut budget, 30);
        assert_eq!(other.size(), 11, "three bytes were left");
        budget.give_back(window.grown());
        other.grow(&mut budget, 30);
        assert_eq!(other.size(), 22);
    }
}
