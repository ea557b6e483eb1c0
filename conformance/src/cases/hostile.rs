//! Hostile input: what a polite program never sends. Each case names the statements that it leans on.

use crate::kit::Case;

/// The cases of this group.
pub(super) const CASES: &[Case] = &[];
