//! What stands behind an end of a stream: it produces bytes, and takes some, in its own time.

use std::time::{Duration, Instant};

use mux::v2::StreamKey;

use super::Flag;
use super::plan::Program;

/// The owner of one end of a stream.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) stream: usize,
    pub(super) key: StreamKey,
    pub(super) reader: Flag,
    pub(super) writer: Flag,
    pub(super) program: Program,
    /// An agent's has to wait for its target.
    pub(super) is_connected: bool,
    /// It sends nothing more.
    pub(super) has_finished: bool,
    /// The next bytes are sent.
    pub(super) next_write: Option<Instant>,
    pub(super) written: u64,
    pub(super) read: u64,
    /// A piece is being handed on; the end of the stream, if it has no bytes.
    pub(super) held: Option<(usize, Instant)>,
    /// The end was handed on.
    pub(super) has_read_end: bool,
    /// It takes nothing until then.
    pub(super) stalled_until: Option<Instant>,
    /// The target has broken off.
    pub(super) is_broken: bool,
}

impl Seat {
    pub(super) fn new(
        stream: usize,
        key: StreamKey,
        (reader, writer): (Flag, Flag),
        program: Program,
        is_connected: bool,
    ) -> Self {
        Self {
            stream,
            key,
            reader,
            writer,
            program,
            is_connected,
            has_finished: false,
            next_write: None,
            written: 0,
            read: 0,
            held: None,
            has_read_end: false,
            stalled_until: None,
            is_broken: false,
        }
    }

    /// When it wants to be looked at although nobody has woken it.
    pub(super) fn next(&self) -> Option<Instant> {
        let held = self.held.map(|(_, due)| due);
        [self.next_write, held, self.stalled_until].into_iter().flatten().min()
    }

    /// How long the next piece takes, from `now`; longer if this is where it stops for a while.
    pub(super) fn hand_on_by(&mut self, now: Instant) -> Instant {
        let due = now + Duration::from_millis(self.program.delay_ms.into());
        match self.program.stall {
            Some((at, ms)) if self.read >= at => {
                self.program.stall = None;
                due + Duration::from_millis(ms.into())
            }
            _ => due,
        }
    }
}
