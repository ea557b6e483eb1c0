//! Whose turn it is among the numbers of one link.

use std::collections::HashMap;

use codec::v2;
use mux::v2::Turns;

use super::LinkId;

/// Numbers that have something to send: the far links take turns first, by bytes, then the numbers that lead to each of
/// them (spec v2, TU-3).
#[derive(Clone, Debug)]
pub(super) struct Line {
    far_links: Turns<LinkId>,
    /// One entry for each far link that stands in line.
    numbers: HashMap<LinkId, Turns<u32>>,
}

impl Line {
    pub(super) fn new() -> Self {
        Self { far_links: Turns::new(v2::MAX_DATA), numbers: HashMap::new() }
    }

    /// `number`, which leads to `far`, has something to send. It must not be in line.
    pub(super) fn join(&mut self, far: LinkId, number: u32) {
        let line = self.numbers.entry(far).or_insert_with(|| {
            self.far_links.join(far);
            Turns::new(v2::MAX_DATA)
        });
        line.join(number);
    }

    /// Who is to send next, and where it leads.
    pub(super) fn next(&mut self) -> Option<(LinkId, u32)> {
        loop {
            let far = self.far_links.next()?;
            if let Some(number) = self.numbers.get_mut(&far).and_then(Turns::next) {
                return Some((far, number));
            }
            if self.far_links.ran_dry() {
                self.numbers.remove(&far);
            }
        }
    }

    /// The one that [`Self::next`] named has sent so many bytes.
    pub(super) fn sent(&mut self, far: LinkId, bytes: usize) {
        self.far_links.sent(bytes);
        if let Some(line) = self.numbers.get_mut(&far) {
            line.sent(bytes);
        }
    }

    /// The one that [`Self::next`] named has nothing to send. Whether it has left the line.
    pub(super) fn ran_dry(&mut self, far: LinkId) -> bool {
        self.numbers.get_mut(&far).is_none_or(Turns::ran_dry)
    }

    /// `number` has nothing to send any more, wherever it stands.
    pub(super) fn leave(&mut self, far: LinkId, number: u32) {
        if let Some(line) = self.numbers.get_mut(&far) {
            line.leave(number);
        }
    }

    /// Whether nobody is in line.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.far_links.is_empty() && self.numbers.is_empty()
    }
}
