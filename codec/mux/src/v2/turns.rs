//! Whose turn it is to send on a link.

use std::collections::VecDeque;

/// Lets those who have something to send take turns, by bytes.
///
/// Deficit round robin, with those that have just begun to send before those that go on: a keystroke does not wait
/// behind bulk, and no one gets more than its share by pausing, since whoever runs dry in its first turn stands in line
/// once more before it counts as new again (RFC 8290, section 4.2).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Turns<K> {
    new: VecDeque<Turn<K>>,
    old: VecDeque<Turn<K>>,
    /// Bytes of one turn.
    quantum: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Turn<K> {
    key: K,
    /// Bytes left of the turn; what a frame takes beyond it is owed.
    left: isize,
}

impl<K: Copy + PartialEq> Turns<K> {
    /// Nobody is in line; a turn is so many bytes.
    pub fn new(quantum: usize) -> Self {
        Self { new: VecDeque::new(), old: VecDeque::new(), quantum }
    }

    /// `key` has something to send. It must not be in line; the caller knows from what [`Self::next`] and
    /// [`Self::sent`] say.
    pub fn join(&mut self, key: K) {
        debug_assert!(!self.contains(key), "one place in line for each");
        self.new.push_back(Turn { key, left: self.quantum as isize });
    }

    /// Who is to send next.
    #[allow(clippy::should_implement_trait, reason = "it names the same one until that has sent")]
    pub fn next(&mut self) -> Option<K> {
        loop {
            let from_new = !self.new.is_empty();
            let line = if from_new { &mut self.new } else { &mut self.old };
            let turn = line.front_mut()?;
            if turn.left > 0 {
                return Some(turn.key);
            }
            turn.left += self.quantum as isize;
            if let Some(turn) = line.pop_front() {
                self.old.push_back(turn);
            }
        }
    }

    /// The one that [`Self::next`] named has sent so many bytes.
    pub fn sent(&mut self, bytes: usize) {
        let line = if self.new.is_empty() { &mut self.old } else { &mut self.new };
        if let Some(turn) = line.front_mut() {
            turn.left -= bytes.max(1) as isize;
        }
    }

    /// The one that [`Self::next`] named has nothing to send. Whether it has left the line; if not, it will be named
    /// once more.
    pub fn ran_dry(&mut self) -> bool {
        if let Some(mut turn) = self.new.pop_front() {
            turn.left = self.quantum as isize;
            self.old.push_back(turn);
            return false;
        }
        self.old.pop_front();
        true
    }

    /// `key` has nothing to send any more, wherever it stands.
    pub fn leave(&mut self, key: K) {
        self.new.retain(|turn| turn.key != key);
        self.old.retain(|turn| turn.key != key);
    }

    /// How many are in line.
    pub fn len(&self) -> usize {
        self.new.len() + self.old.len()
    }

    /// Whether nobody is in line.
    pub fn is_empty(&self) -> bool {
        self.new.is_empty() && self.old.is_empty()
    }

    fn contains(&self, key: K) -> bool {
        self.new.iter().chain(&self.old).any(|turn| turn.key == key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends `frames` frames of so many bytes each for each key while it lasts, and tells the order.
    fn order(turns: &mut Turns<char>, sizes: &mut [(char, usize, usize)], most: usize) -> String {
        let mut order = String::new();
        for _ in 0..most {
            let Some(key) = turns.next() else { break };
            let (_, size, left) = sizes.iter_mut().find(|(it, ..)| *it == key).expect("known");
            if *left == 0 {
                turns.ran_dry();
                continue;
            }
            *left -= 1;
            turns.sent(*size);
            order.push(key);
        }
        order
    }

    #[test]
    fn turns_are_even_by_bytes() {
        let mut turns = Turns::new(100);
        turns.join('a');
        turns.join('b');
        let mut sizes = [('a', 100, 100), ('b', 25, 100)];
        assert_eq!(order(&mut turns, &mut sizes, 20), "abbbbabbbbabbbbabbbb");
    }

    #[test]
    fn whoever_begins_goes_first_and_once() {
        let mut turns = Turns::new(100);
        turns.join('a');
        let mut sizes = [('a', 100, 100), ('k', 10, 1)];
        assert_eq!(order(&mut turns, &mut sizes, 3), "aaa");
        turns.join('k');
        // It runs dry after its frame, and stands in line once more without being new.
        assert_eq!(order(&mut turns, &mut sizes, 2), "k");
        sizes[1].2 = 1;
        assert_eq!(order(&mut turns, &mut sizes, 3), "ka", "it still stood in line");
        assert_eq!(order(&mut turns, &mut sizes, 4), "aaaa", "it has left the line");
    }

    #[test]
    fn a_large_frame_is_owed() {
        let mut turns = Turns::new(100);
        turns.join('a');
        turns.join('b');
        let mut sizes = [('a', 300, 100), ('b', 100, 100)];
        assert_eq!(order(&mut turns, &mut sizes, 8), "abbbabbb");
    }

    #[test]
    fn whoever_runs_dry_or_leaves_is_gone() {
        let mut turns = Turns::new(100);
        turns.join('a');
        assert!(!turns.ran_dry());
        assert_eq!(turns.next(), Some('a'));
        assert!(turns.ran_dry());
        assert_eq!(turns.next(), None);
        turns.join('b');
        turns.leave('b');
        assert!(turns.is_empty());
    }
}
