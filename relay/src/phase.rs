//! How far a relay has come between its start and its end, and who waits for that.

use tokio::sync::watch;

/// How far a relay has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Serving,
    /// The flag is that of [`Shutdown::Drain`].
    Draining {
        is_succeeded: bool,
    },
    Stopped,
}

/// Tells a task how far the relay has come.
#[derive(Clone, Debug)]
pub(crate) struct Watch(pub(crate) watch::Receiver<Phase>);

impl Watch {
    /// Waits until the relay drains, or stops.
    pub(crate) async fn draining(&mut self) -> Phase {
        let come = self.0.wait_for(|phase| *phase != Phase::Serving).await;
        come.map_or(Phase::Stopped, |phase| *phase)
    }

    /// Waits until the relay stops.
    pub(crate) async fn stopped(&mut self) {
        // An error means that nobody is there to say so.
        let _ = self.0.wait_for(|phase| *phase == Phase::Stopped).await;
    }
}
