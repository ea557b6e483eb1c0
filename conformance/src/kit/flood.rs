use std::net::{Shutdown, TcpStream};
use std::ops::DerefMut;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::stage::kit_failed;
use super::{Finding, Link, Outcome, Stage};
use crate::harness::holds_within;

/// How long nothing is taken until a flood counts as held up. A party that is merely slow is taken for one that holds
/// back, which makes a case see less, never something wrong.
const HELD_UP: Duration = Duration::from_millis(700);

/// How long the other side may take until it holds back, or has taken everything, on a busy machine.
const SLOW: Duration = Duration::from_secs(60);

/// Messages that go out on a link in a thread of their own, for as long as the other side takes them. Meanwhile the
/// link is not read.
///
/// When it is dropped, the link ends.
#[derive(Debug)]
pub struct Flood<L> {
    stage: Arc<Stage>,
    /// Whose link it is.
    name: String,
    socket: TcpStream,
    sent: Arc<AtomicUsize>,
    total: usize,
    sender: Option<JoinHandle<L>>,
}

impl<L: DerefMut<Target = Link> + Send + 'static> Flood<L> {
    /// Begins to send these texts.
    ///
    /// # Errors
    ///
    /// When the kit fails.
    pub fn start(mut link: L, messages: Vec<Arc<str>>) -> Outcome<Self> {
        let (stage, name) = (Arc::clone(link.shared_stage()), link.name().to_owned());
        let socket = link.raw().stream().try_clone();
        let socket = socket.map_err(|error| kit_failed("share a socket", &error))?;
        let sent = Arc::<AtomicUsize>::default();
        let (total, count) = (messages.len(), Arc::clone(&sent));
        let sender = thread::spawn(move || {
            for message in messages {
                link.send_text(&message);
                count.fetch_add(1, Ordering::SeqCst);
            }
            link
        });
        Ok(Self { stage, name, socket, sent, total, sender: Some(sender) })
    }

    /// How many messages the other side has taken, in its system at least.
    pub fn sent(&self) -> usize {
        self.sent.load(Ordering::SeqCst)
    }

    /// Waits until the other side takes no more; gives how many messages it has taken by then.
    ///
    /// # Errors
    ///
    /// When it takes all.
    pub fn expect_held_up(&self) -> Outcome<usize> {
        let (mut sent, mut since) = (self.sent(), Instant::now());
        let is_over = holds_within(self.stage.patience_after(SLOW), || {
            if self.sent() != sent {
                (sent, since) = (self.sent(), Instant::now());
            }
            sent == self.total || since.elapsed() > HELD_UP
        });
        let (total, name) = (self.total, &self.name);
        self.stage.note(name, &format!("{sent} of {total} messages are taken"));
        match is_over {
            true if sent < self.total => Ok(sent),
            true => Err(Finding::Fail(format!("all {sent} messages are taken at once"))),
            false => Err(Finding::fail("it never takes a break")),
        }
    }

    /// Waits until the other side has taken more than so many messages.
    ///
    /// # Errors
    ///
    /// When it does not.
    pub fn expect_going_on(&self, before: usize) -> Outcome {
        if holds_within(self.stage.patience(), || self.sent() > before) {
            return Ok(());
        }
        Err(Finding::Fail(format!("after {before} messages no more are taken")))
    }

    /// Waits until everything has gone out, or the link has ended; gives the link back.
    ///
    /// # Errors
    ///
    /// When the other side takes no more.
    pub fn finish(self) -> Outcome<L> {
        self.finish_after(Duration::ZERO)
    }

    /// The same, where it may take this long besides.
    ///
    /// # Errors
    ///
    /// When the other side takes no more.
    pub fn finish_after(mut self, time: Duration) -> Outcome<L> {
        let is_done = |sender: &JoinHandle<L>| sender.is_finished();
        holds_within(self.stage.patience_after(time), || self.sender.as_ref().is_none_or(is_done));
        let sender = self.sender.take_if(|sender| is_done(sender));
        match sender.map(JoinHandle::join) {
            Some(Ok(link)) => Ok(link),
            Some(Err(_)) => Err(Finding::fail("the kit panicked while it sent")),
            None => {
                let (sent, total) = (self.sent(), self.total);
                Err(Finding::Fail(format!("only {sent} of {total} messages are taken")))
            }
        }
    }
}

impl<L> Drop for Flood<L> {
    fn drop(&mut self) {
        if let Some(sender) = self.sender.take() {
            // What is still to be sent fails at once; a link that is gone already is no error.
            let _ = self.socket.shutdown(Shutdown::Both);
            let _ = sender.join();
        }
    }
}
