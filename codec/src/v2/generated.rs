// Written by `cargo run -p generator` from spec/v2; edit the specification instead.

use std::fmt;
use std::time::Duration;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use crate::Secret;
use crate::fields::{FieldError, Fields};
use crate::message::Message;

/// A control message, in either direction of any link (FR-1, FR-10).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[serde(tag = "kind")]
pub enum Control {
    /// The dialler introduces itself; always the first message (LK-1).
    #[serde(rename = "hello")]
    Hello(Hello),
    /// The link is accepted (LK-2).
    #[serde(rename = "welcome")]
    Welcome(Welcome),
    /// The link is refused (LK-3).
    #[serde(rename = "reject")]
    Reject(Reject),
    /// Connect to a target, unless the `id` is known (OP-5).
    #[serde(rename = "open")]
    Open(Open),
    /// Go on with a stream (AT-4).
    #[serde(rename = "resume")]
    Resume(Resume),
    /// The target is connected, and the stream attached here (OP-6).
    #[serde(rename = "opened")]
    Opened(Opened),
    /// The sender may free what was consumed, and go on to the limit (FL-4).
    #[serde(rename = "credit")]
    Credit(Credit),
    /// No more bytes in this direction (EN-1).
    #[serde(rename = "finish")]
    Finish(Finish),
    /// The stream is over (EN-6).
    #[serde(rename = "reset")]
    Reset(Reset),
    /// The stream has ended well (EN-4).
    #[serde(rename = "done")]
    Done(Done),
    /// The stream is no longer attached here (AT-7).
    #[serde(rename = "interrupted")]
    Interrupted(Interrupted),
    /// Connect elsewhere, and resume there (RL-11).
    #[serde(rename = "goaway")]
    Goaway(Goaway),
    /// A message whose meaning this specification does not know (CU-1).
    #[serde(rename = "custom")]
    Custom(Custom),
}

/// The first message of a dialler: who it is (LK-1).
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub struct Hello {
    /// What the dialler is (LK-3).
    pub role: Role,
    /// What clients ask for, of an agent; a client's may be empty (LK-1).
    #[serde(deserialize_with = "crate::fields::within::<_, _, 0, 255>")]
    #[cfg_attr(feature = "schemars", schemars(length(max = 255)))]
    pub name: String,
    /// What proves that the dialler may be here (LK-2).
    #[cfg_attr(feature = "schemars", schemars(extend("writeOnly" = true)))]
    pub secret: Secret,
    /// Names this run of the dialler's program: drawn at random when it starts, the same on all its links (LK-4).
    #[serde(deserialize_with = "crate::fields::within::<_, _, 1, 64>")]
    #[cfg_attr(feature = "schemars", schemars(length(min = 1, max = 64)))]
    pub instance: String,
    /// The dialler's software and its version, for people.
    #[serde(deserialize_with = "crate::fields::within::<_, _, 0, 255>")]
    #[cfg_attr(feature = "schemars", schemars(length(max = 255)))]
    pub software: String,
    /// What ended the dialler's last link in failure, for people; absent if nothing did.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::fields::optional_within::<_, _, 0, 1024>"
    )]
    #[cfg_attr(feature = "schemars", schemars(with = "String", length(max = 1024)))]
    pub last_error: Option<String>,
    /// For programs that embed relay or agent: what is to be said before the link is accepted (CU-2).
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::fields::optional"
    )]
    #[cfg_attr(feature = "schemars", schemars(with = "Map<String,Value>"))]
    pub extra: Option<Map<String, Value>>,
}

impl fmt::Debug for Hello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hello")
            .field("role", &self.role)
            .field("name", &self.name)
            .field("secret", &self.secret)
            .field("instance", &self.instance)
            .field("software", &self.software)
            .field("last_error", &self.last_error)
            .field("extra", &self.extra.as_ref().map(crate::fields::keys_of))
            .finish()
    }
}

/// The link is accepted, within the limits given (LK-5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub struct Welcome {
    /// The relay's software and its version, for people.
    #[serde(deserialize_with = "crate::fields::within::<_, _, 0, 255>")]
    #[cfg_attr(feature = "schemars", schemars(length(max = 255)))]
    pub software: String,
    /// How many numbers that are not over this link may have at once (LM-2).
    #[serde(deserialize_with = "crate::fields::within::<_, _, 1, 4294967295>")]
    #[cfg_attr(feature = "schemars", schemars(range(min = 1, max = 4294967295i64)))]
    pub max_streams: u32,
    /// Most payload of one binary frame on this link, in bytes (FR-8).
    #[serde(deserialize_with = "crate::fields::within::<_, _, 8192, 65536>")]
    #[cfg_attr(feature = "schemars", schemars(range(min = 8192, max = 65536)))]
    pub max_data: u32,
    /// How far a receiver's `limit` may lie beyond what it has consumed, in bytes (FL-6).
    #[serde(deserialize_with = "crate::fields::within::<_, _, 262144, 16777216>")]
    #[cfg_attr(feature = "schemars", schemars(range(min = 262144, max = 16777216)))]
    pub max_window: u32,
    /// How long a stream may wait for a link, in milliseconds; 0: not at all. No value between 0 and 90,000
    /// (TM-4).
    #[serde(deserialize_with = "crate::fields::within::<_, _, 0, 300000>")]
    #[cfg_attr(feature = "schemars", schemars(range(min = 0, max = 300000)))]
    pub resume_for_ms: u32,
}

/// The link is refused; the relay closes it behind this message (LK-2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub struct Reject {
    /// Why (ER-1).
    pub code: Code,
    /// Why, for a person (ER-1).
    #[serde(deserialize_with = "crate::fields::within::<_, _, 0, 1024>")]
    #[cfg_attr(feature = "schemars", schemars(length(max = 1024)))]
    pub message: String,
    /// When to try again, in milliseconds from now; absent: as the dialler likes (TM-6).
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::fields::optional_within::<_, _, 0, 600000>"
    )]
    #[cfg_attr(
        feature = "schemars",
        schemars(with = "u32", range(min = 0, max = 600000))
    )]
    pub retry_after_ms: Option<u32>,
}

/// Asks for a stream to a target, or again for the one that has this `id` (OP-2, OP-10).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub struct Open {
    /// Number of the stream on this link from now on (FR-12).
    #[serde(deserialize_with = "crate::fields::within::<_, _, 1, 4294967295>")]
    #[cfg_attr(feature = "schemars", schemars(range(min = 1, max = 4294967295i64)))]
    pub stream: u32,
    /// Names the stream for its life: a random UUID of the opener's, in lower case (OP-1).
    #[serde(deserialize_with = "crate::fields::uuid")]
    #[cfg_attr(
        feature = "schemars",
        schemars(
            extend(
                "pattern" = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
            )
        )
    )]
    pub id: String,
    /// Counts the `open`s and `resume`s of the stream, from 1 (OP-1).
    #[serde(deserialize_with = "crate::fields::within::<_, _, 1, 4294967295>")]
    #[cfg_attr(feature = "schemars", schemars(range(min = 1, max = 4294967295i64)))]
    pub attempt: u32,
    /// Name of the agent that is to connect (OP-3).
    #[serde(deserialize_with = "crate::fields::within::<_, _, 0, 255>")]
    #[cfg_attr(feature = "schemars", schemars(length(max = 255)))]
    pub agent: String,
    /// Host name or IP address of the target, as seen by the agent; IPv6 without brackets (OP-2).
    #[serde(deserialize_with = "crate::fields::within::<_, _, 1, 255>")]
    #[cfg_attr(feature = "schemars", schemars(length(min = 1, max = 255)))]
    pub host: String,
    /// Port of the target.
    #[serde(deserialize_with = "crate::fields::within::<_, _, 1, 65535>")]
    #[cfg_attr(feature = "schemars", schemars(range(min = 1, max = 65535)))]
    pub port: u16,
    /// How to reach the target (OP-9).
    #[serde(deserialize_with = "crate::fields::within::<_, _, 1, 255>")]
    #[cfg_attr(feature = "schemars", schemars(length(min = 1, max = 255)))]
    pub protocol: String,
    /// Offset up to which the acceptor may send (FL-2).
    #[serde(deserialize_with = "crate::fields::within::<_, _, 0, 9007199254740991>")]
    #[cfg_attr(
        feature = "schemars",
        schemars(range(min = 0, max = 9007199254740991i64))
    )]
    pub limit: u64,
    /// The relay's name for the client that asks. Only a relay writes it (TR-1).
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::fields::optional_within::<_, _, 1, 255>"
    )]
    #[cfg_attr(
        feature = "schemars",
        schemars(with = "String", length(min = 1, max = 255))
    )]
    pub principal: Option<String>,
}

impl fmt::Debug for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Open")
            .field("stream", &self.stream)
            .field("id", &crate::fields::beginning_of(&self.id))
            .field("attempt", &self.attempt)
            .field("agent", &self.agent)
            .field("host", &self.host)
            .field("port", &self.port)
            .field("protocol", &self.protocol)
            .field("limit", &self.limit)
            .field("principal", &self.principal)
            .finish()
    }
}

/// Asks for a stream to go on that was opened before; never connects (AT-4, OP-13).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub struct Resume {
    /// A new number for the stream, on this link from now on (FR-12).
    #[serde(deserialize_with = "crate::fields::within::<_, _, 1, 4294967295>")]
    #[cfg_attr(feature = "schemars", schemars(range(min = 1, max = 4294967295i64)))]
    pub stream: u32,
    /// The stream (OP-1).
    #[serde(deserialize_with = "crate::fields::uuid")]
    #[cfg_attr(
        feature = "schemars",
        schemars(
            extend(
                "pattern" = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
            )
        )
    )]
    pub id: String,
    /// Counts the `open`s and `resume`s of the stream, from 1 (OP-1).
    #[serde(deserialize_with = "crate::fields::within::<_, _, 1, 4294967295>")]
    #[cfg_attr(feature = "schemars", schemars(range(min = 1, max = 4294967295i64)))]
    pub attempt: u32,
    /// Name of the agent that holds the stream (OP-3).
    #[serde(deserialize_with = "crate::fields::within::<_, _, 0, 255>")]
    #[cfg_attr(feature = "schemars", schemars(length(max = 255)))]
    pub agent: String,
    /// Offset up to which the opener has the acceptor's bytes (FL-3).
    #[serde(deserialize_with = "crate::fields::within::<_, _, 0, 9007199254740991>")]
    #[cfg_attr(
        feature = "schemars",
        schemars(range(min = 0, max = 9007199254740991i64))
    )]
    pub received: u64,
    /// Offset up to which the opener has handed them on (FL-3).
    #[serde(deserialize_with = "crate::fields::within::<_, _, 0, 9007199254740991>")]
    #[cfg_attr(
        feature = "schemars",
        schemars(range(min = 0, max = 9007199254740991i64))
    )]
    pub consumed: u64,
    /// Offset up to which the acceptor may send (FL-2).
    #[serde(deserialize_with = "crate::fields::within::<_, _, 0, 9007199254740991>")]
    #[cfg_attr(
        feature = "schemars",
        schemars(range(min = 0, max = 9007199254740991i64))
    )]
    pub limit: u64,
    /// The relay's name for the client that asks. Only a relay writes it (TR-1).
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::fields::optional_within::<_, _, 1, 255>"
    )]
    #[cfg_attr(
        feature = "schemars",
        schemars(with = "String", length(min = 1, max = 255))
    )]
    pub principal: Option<String>,
}

impl fmt::Debug for Resume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resume")
            .field("stream", &self.stream)
            .field("id", &crate::fields::beginning_of(&self.id))
            .field("attempt", &self.attempt)
            .field("agent", &self.agent)
            .field("received", &self.received)
            .field("consumed", &self.consumed)
            .field("limit", &self.limit)
            .field("principal", &self.principal)
            .finish()
    }
}

/// The answer to `open` and `resume`: the stream flows (OP-6, AT-5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub struct Opened {
    /// Number of the stream on this link (FR-12).
    #[serde(deserialize_with = "crate::fields::within::<_, _, 1, 4294967295>")]
    #[cfg_attr(feature = "schemars", schemars(range(min = 1, max = 4294967295i64)))]
    pub stream: u32,
    /// Offset up to which the acceptor has the opener's bytes (OP-7).
    #[serde(deserialize_with = "crate::fields::within::<_, _, 0, 9007199254740991>")]
    #[cfg_attr(
        feature = "schemars",
        schemars(range(min = 0, max = 9007199254740991i64))
    )]
    pub received: u64,
    /// Offset up to which the acceptor has handed them on (FL-3).
    #[serde(deserialize_with = "crate::fields::within::<_, _, 0, 9007199254740991>")]
    #[cfg_attr(
        feature = "schemars",
        schemars(range(min = 0, max = 9007199254740991i64))
    )]
    pub consumed: u64,
    /// Offset up to which the opener may send (FL-2).
    #[serde(deserialize_with = "crate::fields::within::<_, _, 0, 9007199254740991>")]
    #[cfg_attr(
        feature = "schemars",
        schemars(range(min = 0, max = 9007199254740991i64))
    )]
    pub limit: u64,
}

/// What the receiver of one direction has handed on, and how far the sender may go (FL-4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub struct Credit {
    /// Number of the stream on this link (FR-12).
    #[serde(deserialize_with = "crate::fields::within::<_, _, 1, 4294967295>")]
    #[cfg_attr(feature = "schemars", schemars(range(min = 1, max = 4294967295i64)))]
    pub stream: u32,
    /// Offset up to which the receiver has handed the bytes on (FL-3).
    #[serde(deserialize_with = "crate::fields::within::<_, _, 0, 9007199254740991>")]
    #[cfg_attr(
        feature = "schemars",
        schemars(range(min = 0, max = 9007199254740991i64))
    )]
    pub consumed: u64,
    /// Offset up to which the sender may send (FL-2).
    #[serde(deserialize_with = "crate::fields::within::<_, _, 0, 9007199254740991>")]
    #[cfg_attr(
        feature = "schemars",
        schemars(range(min = 0, max = 9007199254740991i64))
    )]
    pub limit: u64,
}

/// The end of one direction (EN-1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub struct Finish {
    /// Number of the stream on this link (FR-12).
    #[serde(deserialize_with = "crate::fields::within::<_, _, 1, 4294967295>")]
    #[cfg_attr(feature = "schemars", schemars(range(min = 1, max = 4294967295i64)))]
    pub stream: u32,
    /// How many bytes there were in all (FL-1).
    #[serde(deserialize_with = "crate::fields::within::<_, _, 0, 9007199254740990>")]
    #[cfg_attr(
        feature = "schemars",
        schemars(range(min = 0, max = 9007199254740990i64))
    )]
    pub offset: u64,
}

/// The stream is over, in both directions (EN-6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub struct Reset {
    /// Number of the stream on this link (FR-12).
    #[serde(deserialize_with = "crate::fields::within::<_, _, 1, 4294967295>")]
    #[cfg_attr(feature = "schemars", schemars(range(min = 1, max = 4294967295i64)))]
    pub stream: u32,
    /// Why (ER-1).
    pub code: Code,
    /// Why, for a person (ER-1).
    #[serde(deserialize_with = "crate::fields::within::<_, _, 0, 1024>")]
    #[cfg_attr(feature = "schemars", schemars(length(max = 1024)))]
    pub message: String,
}

/// Everything was handed on and acknowledged, in both directions (EN-4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub struct Done {
    /// Number of the stream on this link (FR-12).
    #[serde(deserialize_with = "crate::fields::within::<_, _, 1, 4294967295>")]
    #[cfg_attr(feature = "schemars", schemars(range(min = 1, max = 4294967295i64)))]
    pub stream: u32,
}

/// This number is over; the stream is not (AT-6, RL-4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub struct Interrupted {
    /// Number of the stream on this link (FR-12).
    #[serde(deserialize_with = "crate::fields::within::<_, _, 1, 4294967295>")]
    #[cfg_attr(feature = "schemars", schemars(range(min = 1, max = 4294967295i64)))]
    pub stream: u32,
    /// Why the attempt was passed on to nobody; absent if it was (RL-5).
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::fields::optional"
    )]
    #[cfg_attr(feature = "schemars", schemars(with = "Code"))]
    pub code: Option<Code>,
    /// Why, for a person (ER-1).
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::fields::optional_within::<_, _, 0, 1024>"
    )]
    #[cfg_attr(feature = "schemars", schemars(with = "String", length(max = 1024)))]
    pub message: Option<String>,
}

/// The relay drains: nothing new is opened here (RL-10).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub struct Goaway {
    /// Why, for a person (ER-1).
    #[serde(deserialize_with = "crate::fields::within::<_, _, 0, 1024>")]
    #[cfg_attr(feature = "schemars", schemars(length(max = 1024)))]
    pub message: String,
    /// When to dial the same URL again, in milliseconds from now (RL-11).
    #[serde(deserialize_with = "crate::fields::within::<_, _, 0, 600000>")]
    #[cfg_attr(feature = "schemars", schemars(range(min = 0, max = 600000)))]
    pub reconnect_after_ms: u32,
}

/// For programs that embed relay or agent (CU-1).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub struct Custom {
    /// What message it is (CU-1).
    #[serde(deserialize_with = "crate::fields::within::<_, _, 0, 255>")]
    #[cfg_attr(feature = "schemars", schemars(length(max = 255)))]
    pub name: String,
    /// What it says: any JSON (CU-1).
    pub body: Value,
}

impl fmt::Debug for Custom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Custom")
            .field("name", &self.name)
            .field("body", &crate::fields::sort_of_value(&self.body))
            .finish()
    }
}

/// What a dialler is (LK-1).
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize
)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub enum Role {
    /// It connects to targets.
    #[serde(rename = "agent")]
    Agent,
    /// It opens streams.
    #[serde(rename = "client")]
    Client,
    /// It opens streams for its own clients, at the agents of the relay that it dials.
    #[serde(rename = "relay")]
    Relay,
}

impl Role {
    /// All there are, in the order of the specification.
    pub const ALL: &'static [Self] = &[Self::Agent, Self::Client, Self::Relay];

    /// The text on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Client => "client",
            Self::Relay => "relay",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why a link, an attempt or a stream is refused or over. The list is closed (ER-1).
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize
)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub enum Code {
    /// Name and secret do not belong together, or are unknown.
    #[serde(rename = "bad_credentials")]
    BadCredentials,
    /// Another process holds the agent's name on a link that is alive (RL-9).
    #[serde(rename = "name_in_use")]
    NameInUse,
    /// The agent is not connected to the relay.
    #[serde(rename = "agent_offline")]
    AgentOffline,
    /// The relay or the agent does not allow it.
    #[serde(rename = "forbidden")]
    Forbidden,
    /// The target refused the connection.
    #[serde(rename = "connect_refused")]
    ConnectRefused,
    /// The target did not answer in time, or nobody did (OP-8, OP-11).
    #[serde(rename = "connect_timed_out")]
    ConnectTimedOut,
    /// There is no way to the target.
    #[serde(rename = "unreachable")]
    Unreachable,
    /// The agent found no address for the target's name.
    #[serde(rename = "name_not_resolved")]
    NameNotResolved,
    /// The agent does not speak what is asked for: another protocol, or half-close (OP-9, ST-5).
    #[serde(rename = "protocol_unsupported")]
    ProtocolUnsupported,
    /// A limit on the number of streams or attempts is reached.
    #[serde(rename = "too_many_streams")]
    TooManyStreams,
    /// The agent does not know the stream, or no longer, or it is not the asker's (EN-8, TR-2).
    #[serde(rename = "not_resumable")]
    NotResumable,
    /// What the endpoint stands for broke the stream off: the target, or the client's user.
    #[serde(rename = "peer_reset")]
    PeerReset,
    /// The other side broke a rule of this specification (FL-10).
    #[serde(rename = "protocol_error")]
    ProtocolError,
    /// There is no memory left for this, now.
    #[serde(rename = "overloaded")]
    Overloaded,
    /// The process that says so is about to stop.
    #[serde(rename = "going_away")]
    GoingAway,
    /// Something failed that should not, on the side that says so.
    #[serde(rename = "internal")]
    Internal,
}

impl Code {
    /// All there are, in the order of the specification.
    pub const ALL: &'static [Self] = &[
        Self::BadCredentials,
        Self::NameInUse,
        Self::AgentOffline,
        Self::Forbidden,
        Self::ConnectRefused,
        Self::ConnectTimedOut,
        Self::Unreachable,
        Self::NameNotResolved,
        Self::ProtocolUnsupported,
        Self::TooManyStreams,
        Self::NotResumable,
        Self::PeerReset,
        Self::ProtocolError,
        Self::Overloaded,
        Self::GoingAway,
        Self::Internal,
    ];

    /// The text on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadCredentials => "bad_credentials",
            Self::NameInUse => "name_in_use",
            Self::AgentOffline => "agent_offline",
            Self::Forbidden => "forbidden",
            Self::ConnectRefused => "connect_refused",
            Self::ConnectTimedOut => "connect_timed_out",
            Self::Unreachable => "unreachable",
            Self::NameNotResolved => "name_not_resolved",
            Self::ProtocolUnsupported => "protocol_unsupported",
            Self::TooManyStreams => "too_many_streams",
            Self::NotResumable => "not_resumable",
            Self::PeerReset => "peer_reset",
            Self::ProtocolError => "protocol_error",
            Self::Overloaded => "overloaded",
            Self::GoingAway => "going_away",
            Self::Internal => "internal",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Message for Control {
    const NAME: &'static str = "Control";
    const ENVELOPE: Option<&'static str> = None;
    const MAX_BYTES: Option<usize> = Some(MAX_CONTROL);
    const TAG: &'static str = "kind";
    const KINDS: &'static [&'static str] = &[
        "hello",
        "welcome",
        "reject",
        "open",
        "resume",
        "opened",
        "credit",
        "finish",
        "reset",
        "done",
        "interrupted",
        "goaway",
        "custom",
    ];
    fn kind(&self) -> &'static str {
        match self {
            Self::Hello(_) => "hello",
            Self::Welcome(_) => "welcome",
            Self::Reject(_) => "reject",
            Self::Open(_) => "open",
            Self::Resume(_) => "resume",
            Self::Opened(_) => "opened",
            Self::Credit(_) => "credit",
            Self::Finish(_) => "finish",
            Self::Reset(_) => "reset",
            Self::Done(_) => "done",
            Self::Interrupted(_) => "interrupted",
            Self::Goaway(_) => "goaway",
            Self::Custom(_) => "custom",
        }
    }
    fn from_fields(kind: &str, fields: Fields) -> Option<Result<Self, FieldError>> {
        Some(
            match kind {
                "hello" => Hello::deserialize(fields).map(Self::Hello),
                "welcome" => Welcome::deserialize(fields).map(Self::Welcome),
                "reject" => Reject::deserialize(fields).map(Self::Reject),
                "open" => Open::deserialize(fields).map(Self::Open),
                "resume" => Resume::deserialize(fields).map(Self::Resume),
                "opened" => Opened::deserialize(fields).map(Self::Opened),
                "credit" => Credit::deserialize(fields).map(Self::Credit),
                "finish" => Finish::deserialize(fields).map(Self::Finish),
                "reset" => Reset::deserialize(fields).map(Self::Reset),
                "done" => Done::deserialize(fields).map(Self::Done),
                "interrupted" => Interrupted::deserialize(fields).map(Self::Interrupted),
                "goaway" => Goaway::deserialize(fields).map(Self::Goaway),
                "custom" => Custom::deserialize(fields).map(Self::Custom),
                _ => return None,
            },
        )
    }
}

/// A binary frame: bytes of one stream, on the link that the frame is sent on (FR-7).
pub mod data {
    /// How many bytes come before the rest of the frame.
    pub const HEADER_BYTES: usize = 4;

    /// What comes before the rest of the frame.
    ///
    /// - `stream`: Number of the stream on this link; never 0 (FR-12).
    #[must_use]
    pub fn header(stream: u32) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        header[0..4].copy_from_slice(&stream.to_be_bytes());
        header
    }

    /// Takes a frame apart; `None`: it has no whole header.
    ///
    /// - `stream`: Number of the stream on this link; never 0 (FR-12).
    /// - `payload`: The bytes (FR-8).
    #[must_use]
    pub fn split(frame: &[u8]) -> Option<(u32, &[u8])> {
        let (header, rest) = frame.split_first_chunk::<HEADER_BYTES>()?;
        Some((u32::from_be_bytes([header[0], header[1], header[2], header[3]]), rest))
    }

    /// Writes another `stream` into a frame. One without a whole header is left as it is.
    pub fn set_stream(frame: &mut [u8], stream: u32) {
        if let Some(header) = frame.first_chunk_mut::<HEADER_BYTES>() {
            header[0..4].copy_from_slice(&stream.to_be_bytes());
        }
    }
}

/// The WebSocket subprotocol by which two parties agree on v2. Clause NG-1.
pub const SUBPROTOCOL: &str = "http-network-relay.v2";

/// The only value of `protocol` that is specified so far. Clause OP-9.
pub const PROTOCOL_TCP: &str = "tcp";

/// Longest control message. In bytes. Clause FR-2.
pub const MAX_CONTROL: usize = 16384;

/// Most payload of one binary frame, on any link; the largest `max_data`. In bytes. Clause FR-8.
pub const MAX_DATA: usize = 65536;

/// The smallest `max_data`, so that early data fits one frame. In bytes. Clause FR-8.
pub const MIN_DATA: usize = 8192;

/// Deepest nesting of objects and lists in one message, the outermost object counted. Clause FR-4.
pub const MAX_DEPTH: usize = 127;

/// Largest offset, limit or size. In bytes. Clause FR-5.
pub const MAX_INTEGER: u64 = 9007199254740991;

/// Longest name, host or description of software, in characters. Clause FR-6.
pub const MAX_NAME: usize = 255;

/// Longest text for a person (`message`, `last_error`), in characters. Clause FR-6.
pub const MAX_MESSAGE_TEXT: usize = 1024;

/// Longest time that a message can name. Clause FR-5.
pub const MAX_TIME: Duration = Duration::from_millis(600000);

/// Payload of all frames that a dialler sends before it has read `welcome`. In bytes. Clause LK-6.
pub const MAX_BEFORE_WELCOME: usize = 16384;

/// How long a link may last before `hello`, and before `welcome`, counted from the upgrade answer. Clause LK-6.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the party that sent a close frame waits for the other's before it aborts the connection. Clause LK-10.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// What the opener may send before the answer to its first `open`. In bytes. Clause OP-4.
pub const EARLY_DATA: u64 = 8192;

/// How long an agent tries to reach a target, its name resolved in that time as well. Clause OP-8.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a client waits for the answer to an attempt before it leaves the number. Clause OP-11.
pub const OPENED_TIMEOUT: Duration = Duration::from_secs(20);

/// The window that a receiver starts with; the smallest `max_window`. In bytes. Clause FL-6.
pub const INITIAL_WINDOW: u64 = 262144;

/// The largest `max_window`. In bytes. Clause FL-6.
pub const MAX_WINDOW: u64 = 16777216;

/// How long a client that ends tries to get `done` or `reset` out. Clause EN-7.
pub const DONE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long an agent remembers how a stream ended. Clause EN-8.
pub const REMEMBERED_FOR: Duration = Duration::from_secs(600);

/// How many ended streams an agent remembers. Clause EN-9.
pub const MAX_REMEMBERED: usize = 65536;

/// How long a party sends nothing on a link before it sends a WebSocket ping. Clause TM-1.
pub const PING_INTERVAL: Duration = Duration::from_secs(15);

/// How long a link is silent before it is dead. Clause TM-2.
pub const LINK_TIMEOUT: Duration = Duration::from_secs(45);

/// How long a stream waits for a link, unless somebody says otherwise. Clause TM-4.
pub const RESUME_FOR: Duration = Duration::from_secs(180);

/// The shortest such time, but for none at all. Clause TM-4.
pub const MIN_RESUME_FOR: Duration = Duration::from_secs(90);

/// The longest such time. Clause TM-4.
pub const MAX_RESUME_FOR: Duration = Duration::from_secs(300);

/// Longest pause of an opener between two attempts to go on with a stream. Clause TM-6.
pub const RESUME_RETRY_MAX: Duration = Duration::from_secs(2);

/// How long a link has to answer a ping that asks whether it is alive. Clause RL-9.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a relay stops reading a v1 agent for the sake of one stream that takes nothing. Clause ST-6.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the stream of a v1 agent is silent, once the v2 opener has finished, before the relay ends it. Clause
/// ST-5.
pub const FINISH_LINGER: Duration = Duration::from_secs(30);

/// The dialler needs the link no longer. A WebSocket close code. Clause BD-1.
pub const CLOSE_NORMAL: u16 = 1000;

/// The peer broke the WebSocket protocol or a rule of this one. A WebSocket close code. Clause BD-1.
pub const CLOSE_PROTOCOL: u16 = 1002;

/// A text frame that is no message. A WebSocket close code. Clause BD-1.
pub const CLOSE_INVALID: u16 = 1007;

/// The link is refused, or there was no `hello` in time. A WebSocket close code. Clause BD-1.
pub const CLOSE_POLICY: u16 = 1008;

/// A frame over its limit, or too much before `welcome`. A WebSocket close code. Clause BD-1.
pub const CLOSE_TOO_BIG: u16 = 1009;

/// The link was silent for too long. A WebSocket close code. Clause BD-1.
pub const CLOSE_PING_TIMEOUT: u16 = 1011;

/// The relay stops. A WebSocket close code. Clause BD-1.
pub const CLOSE_RESTART: u16 = 1012;

/// The relay has no room for the link, now. A WebSocket close code. Clause BD-1.
pub const CLOSE_TRY_LATER: u16 = 1013;

/// Another process holds the agent's name on a link that is alive. A WebSocket close code. Clause BD-1.
pub const CLOSE_NAME_IN_USE: u16 = 4009;

/// A newer link of the same agent process took this one's place. A WebSocket close code. Clause BD-1.
pub const CLOSE_REPLACED: u16 = 4010;
