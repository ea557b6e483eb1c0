//! How far a sender may run ahead of its consumer.

/// The window of one direction of a stream.
///
/// It starts small and doubles when the sender has used it up while the consumer was idle: then it is the window that
/// is too small for the way between them, and not the consumer that is slow. So a stream gets what its round-trip time
/// needs and no more, and a consumer that stops costs one window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Window(u64);

/// Bytes that all windows of an endpoint may have together (spec v2, FL-6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Budget(u64);

impl Window {
    /// A window of so many bytes, if the budget has as many left.
    pub fn new(first: u64, budget: &mut Budget) -> Option<Self> {
        budget.0 = budget.0.checked_sub(first)?;
        Some(Self(first))
    }

    /// Bytes that the sender may be ahead.
    pub fn size(&self) -> u64 {
        self.0
    }

    /// Doubles it, up to `most` bytes, as far as the budget lasts.
    pub fn grow(&mut self, budget: &mut Budget, most: u64) {
        let more = self.0.min(most.saturating_sub(self.0)).min(budget.0);
        budget.0 -= more;
        self.0 += more;
    }
}

impl Budget {
    /// A budget of so many bytes.
    pub fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// Bytes that no window has.
    pub fn left(&self) -> u64 {
        self.0
    }

    /// Takes back what a window has.
    pub fn take_back(&mut self, window: Window) {
        self.0 += window.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_double_up_to_their_limit_and_within_the_budget() {
        let mut budget = Budget::new(41);
        let mut window = Window::new(8, &mut budget).expect("41 are left");
        window.grow(&mut budget, 30);
        assert_eq!(window.size(), 16);
        window.grow(&mut budget, 30);
        assert_eq!(window.size(), 30);
        window.grow(&mut budget, 30);
        assert_eq!(window.size(), 30);
        let mut other = Window::new(8, &mut budget).expect("11 are left");
        other.grow(&mut budget, 30);
        assert_eq!(other.size(), 11, "three bytes were left");
        assert_eq!(Window::new(8, &mut budget), None);
        budget.take_back(window);
        other.grow(&mut budget, 30);
        assert_eq!(other.size(), 22);
    }
}
