//! Protocol v2: the ends of streams that outlive their links.
//!
//! An [`Endpoint`] owns the streams of one party, each by its id for life; a stream is *attached* to a number on a link
//! and moves to another when that link is lost. The endpoint's links are part of it, since they share its streams; a
//! relay's links, which have no streams of their own, are in the relay's `routes`.

mod endpoint;
mod link;
mod memory;
mod recv;
mod send;
mod stream;
mod turns;
mod window;

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use codec::v2::{self, Code, Control};

pub use endpoint::{Census, Endpoint};
pub use turns::Turns;
pub use window::{Budget, Window};

/// Which end of its streams an endpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// It asks for streams: a client.
    Opener,
    /// It is asked: an agent.
    Acceptor,
}

/// Numbers that bound an endpoint.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The window of a new stream, in bytes, per direction (spec v2, FL-6).
    pub first_window: u64,
    /// How far a window may grow, in bytes.
    pub max_window: u64,
    /// Bytes that all windows may have together.
    pub window_budget: u64,
    /// Bytes that streams without a link may keep in all; beyond it the one that has waited longest is dropped.
    pub detached_budget: u64,
    /// Streams at once.
    pub max_streams: usize,
    /// How long a stream waits for a link; zero ends it with the one it has.
    pub resume_for: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            first_window: v2::INITIAL_WINDOW,
            max_window: v2::MAX_WINDOW,
            window_budget: 1 << 30,
            detached_budget: 64 << 20,
            max_streams: 16_384,
            resume_for: Duration::ZERO,
        }
    }
}

/// The id of a stream for life: a random UUID, which whoever knows it might try to take over.
///
/// So it is shown shortened (spec v2, TR-4).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(String);

impl StreamId {
    /// The id as it is on the wire.
    pub fn new(id: impl Into<String>) -> Self {
        Self(id.into())
    }

    /// The whole of it, for the wire alone.
    pub fn whole(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.get(..8).unwrap_or("?"))
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A stream of an [`Endpoint`]; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamKey(u64);

/// A link of an [`Endpoint`]; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkKey(u64);

/// What an opener asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ask {
    /// The agent's name.
    pub agent: String,
    /// What it is to dial.
    pub host: String,
    /// The port there.
    pub port: u16,
    /// How, `tcp` for instance.
    pub protocol: String,
    /// Who asks, if whoever opens is a relay (spec v2, TR-1).
    pub principal: Option<String>,
}

/// What is to be sent on a link.
#[derive(Clone, Debug)]
pub enum Transmit {
    /// A text frame.
    Control(Control),
    /// A binary frame.
    Data {
        /// Number of the stream on this link.
        stream: u32,
        /// Its bytes, at least one.
        payload: Bytes,
    },
}

/// What a producer learns when it asks whether it may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// So many bytes may be written, at least one.
    Ready(usize),
    /// Not now; the stream's writer is woken when it may be.
    Full,
    /// The stream is over, or finished; nothing more is taken.
    Over,
}

/// What a consumer gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// Bytes, in order. Say [`Endpoint::consumed`] once they are handed on.
    Data(Bytes),
    /// Nothing now; the stream's reader is woken when there is.
    Empty,
    /// The peer has sent everything, and all of it was read. Say [`Endpoint::consumed_end`] once that is handed on.
    Finished,
    /// The stream is over, and everything that came before was read.
    Over(StreamEnd),
}

/// How a stream ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum StreamEnd {
    /// Everything was handed on, both ways, and both ends know.
    Done,
    /// The other end reset it, or told how it had ended.
    Reset {
        /// Why.
        code: Code,
        /// The same for a person; text of the peer.
        message: String,
    },
    /// The first attempt reached no agent: nothing has happened there.
    Refused {
        /// Why.
        code: Code,
        /// The same for a person; text of the peer.
        message: String,
    },
    /// This side reset it.
    Local {
        /// Why.
        code: Code,
    },
    /// Its link was lost, and streams do not outlive links here.
    LinkLost,
    /// The link on the far side of the relay was lost, and streams do not outlive links here.
    Interrupted,
    /// No link that led to the other end was found within the window.
    Unconfirmed,
}

/// What the owner of an endpoint must do or may want to know.
#[derive(Clone, Debug)]
pub enum Event<W> {
    /// Connect a target for a new stream (acceptors); say [`Endpoint::dialled`] or [`Endpoint::reset`].
    Dial {
        /// The stream.
        key: StreamKey,
        /// Its id, for logs.
        id: StreamId,
        /// What to dial.
        ask: Ask,
        /// Woken when [`Endpoint::read`] may answer otherwise than before.
        reader: W,
        /// Woken when [`Endpoint::room`] may.
        writer: W,
    },
    /// The target is connected (openers).
    Opened(StreamKey),
    /// The stream has lost its link and waits for another.
    Detached(StreamKey),
    /// The stream goes on.
    Resumed(StreamKey),
    /// The relay has accepted this party.
    Welcomed(LinkKey),
    /// The relay has refused this party; the link ends.
    Rejected {
        /// The link.
        link: LinkKey,
        /// Why.
        code: Code,
        /// The same for a person; text of the peer.
        message: String,
        /// How long to wait before another attempt.
        retry_after: Option<Duration>,
    },
    /// The relay wants the link to end: connect again, after this time.
    Goaway {
        /// The link.
        link: LinkKey,
        /// How long to wait before.
        reconnect_after: Duration,
    },
    /// A message for the program that embeds this one.
    Custom {
        /// The link.
        link: LinkKey,
        /// What it is.
        name: String,
        /// What it holds.
        body: serde_json::Value,
    },
}

/// What the other end of a stream did wrong: the stream is reset with `protocol_error` (spec v2, FL-10).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// More was sent than was granted.
    #[error("sent beyond the limit")]
    LimitPassed,
    /// Bytes came behind the end.
    #[error("sent beyond the end")]
    BeyondEnd,
    /// The end is not where the bytes end, or came twice.
    #[error("finished at another offset than its bytes end")]
    WrongEnd,
    /// It has received or consumed what was never sent.
    #[error("received more than was sent")]
    ConsumedUnsent,
    /// It asks for bytes that it has consumed.
    #[error("asked again for what it had consumed")]
    Rewound,
    /// It sent before it said `opened`.
    #[error("sent before it said opened")]
    NotOpened,
    /// It says that both are through although they are not.
    #[error("said done too early")]
    DoneTooEarly,
    /// It said `opened` twice for one attempt.
    #[error("said opened twice")]
    OpenedTwice,
    /// A frame without bytes, or with more than are allowed.
    #[error("sent a frame of a size that is not allowed")]
    FrameSize,
}

/// What the peer of a link did wrong: the link is closed (spec v2, BD-2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// A message that this party does not take.
    #[error("a message that is not for this party")]
    Unexpected,
    /// A number that was never opened.
    #[error("a stream number that was never opened")]
    UnknownNumber,
    /// A number that is not the next one.
    #[error("a stream number out of order")]
    NumberOrder,
    /// A limit of the relay's that is out of its bounds.
    #[error("a time in its welcome that is out of bounds")]
    WelcomeBounds,
    /// A frame that is shorter than its header.
    #[error("a data frame without a header")]
    NoHeader,
    /// Something else before the handshake was over.
    #[error("a message before the handshake")]
    Handshake,
}
