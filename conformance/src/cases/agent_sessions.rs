//! Agent sessions (spec v1, section A).

use crate::kit::Case;

/// The cases of this section, in the order of its statements.
pub(super) const CASES: &[Case] = &[];
