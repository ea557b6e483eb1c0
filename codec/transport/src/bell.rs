//! The wake-up between the owners of a shared core.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;

/// A flag that one task waits for and any thread may set.
///
/// Rings are not counted: many before the waiter looks are one. Clones are the same bell. At
/// most one task waits at a time; a second one would take the first one's place.
#[derive(Clone, Debug, Default)]
pub struct Bell(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    rung: AtomicBool,
    waiter: AtomicWaker,
}

impl Bell {
    /// Sets the flag and wakes the waiter.
    pub fn ring(&self) {
        if !self.0.rung.swap(true, Ordering::AcqRel) {
            self.0.waiter.wake();
        }
    }

    /// Ready, and the flag cleared, once it was set.
    pub fn poll_rung(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.0.rung.swap(false, Ordering::AcqRel) {
            return Poll::Ready(());
        }
        self.0.waiter.register(cx.waker());
        // A ring between the look above and the registration must not be missed.
        if self.0.rung.swap(false, Ordering::AcqRel) { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Waits for the flag and clears it. May be dropped and called again.
    pub async fn rung(&self) {
        std::future::poll_fn(|cx| self.poll_rung(cx)).await;
    }
}

impl mux::Wake for Bell {
    fn wake(&self) {
        self.ring();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_ring_before_and_a_ring_after_the_wait_both_arrive() {
        let bell = Bell::default();
        bell.ring();
        bell.rung().await;
        let waiter = tokio::spawn({
            let bell = bell.clone();
            async move { bell.rung().await }
        });
        tokio::task::yield_now().await;
        bell.ring();
        waiter.await.unwrap();
    }

    #[tokio::test]
    async fn rings_are_not_counted() {
        let bell = Bell::default();
        bell.ring();
        bell.ring();
        bell.rung().await;
        let again = std::future::poll_fn(|cx| Poll::Ready(bell.poll_rung(cx).is_ready())).await;
        assert!(!again);
    }
}
