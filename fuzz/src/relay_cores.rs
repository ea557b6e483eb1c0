//! The relay's two cores: the routes of an agent's link, and the registry of names.

use crate::{operations, relay_registry, relay_routes};

/// Reads the first byte as a choice between the two and as the configuration, and the others as operations.
pub fn run(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    if first % 8 == 7 {
        relay_registry::check(&operations::read(rest));
    } else {
        relay_routes::check(*first, &operations::read(rest));
    }
}
