//! Streams (spec v1, section S).

use crate::kit::Case;

/// The cases of this section, in the order of its statements.
pub(super) const CASES: &[Case] = &[];
