use std::time::{Duration, Instant};

use super::{Link, Outcome, Received};

/// How long each link is looked at in turn.
const TURN: Duration = Duration::from_millis(10);

/// Receives from several links in turn, so that all of them answer pings meanwhile, until `seen` says that it has seen
/// enough, but for no longer than `time`. Gives whether it has. `seen` gets the place of the link and everything that
/// comes, pings, pongs and `keep_alive` included.
///
/// # Errors
///
/// Those of `seen`, and when what comes breaks RFC 6455.
pub fn watch(
    links: &mut [&mut Link],
    time: Duration,
    mut seen: impl FnMut(usize, Received) -> Outcome<bool>,
) -> Outcome<bool> {
    let end = Instant::now() + time;
    while Instant::now() < end {
        for (place, link) in links.iter_mut().enumerate() {
            if let Some(received) = link.next(TURN)?
                && seen(place, received)?
            {
                return Ok(true);
            }
        }
    }
    Ok(false)
}
