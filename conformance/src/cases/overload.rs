//! Overload: many streams, slow readers, parties that stop reading.

use crate::kit::Case;

/// The cases of this group.
pub(super) const CASES: &[Case] = &[];
