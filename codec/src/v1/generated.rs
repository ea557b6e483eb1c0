// Written by `cargo run -p generator` from spec/v1; edit the specification instead.

use std::fmt;
use std::time::Duration;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use crate::Secret;
use crate::fields::{FieldError, Fields};
use crate::message::Message;

/// A message from an agent to the relay (M-1, A-1).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[serde(tag = "kind")]
pub enum AgentToRelay {
    /// The agent introduces itself; always the first message.
    #[serde(rename = "start")]
    Start(AgentStart),
    /// The target was not reached (S-5).
    #[serde(rename = "initiate_connection_error")]
    InitiateConnectionError(InitiateConnectionError),
    /// The target is connected (S-4).
    #[serde(rename = "initiate_connection_ok")]
    InitiateConnectionOk(InitiateConnectionOk),
    /// Bytes of one stream (S-7).
    #[serde(rename = "tcp_data")]
    TcpData(StreamData),
    /// The stream is over at the agent.
    #[serde(rename = "connection_reset")]
    ConnectionReset(ConnectionReset),
    /// A sign of life; neither asks for nor gets an answer (K-6).
    #[serde(rename = "keep_alive")]
    KeepAlive(KeepAlive),
}

/// A message from a client to the relay (M-1, C-1).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[serde(tag = "kind")]
pub enum ClientToRelay {
    /// The client asks for its stream; always the first message (C-1).
    #[serde(rename = "start")]
    Start(ClientStart),
    /// Bytes of the stream (S-7).
    #[serde(rename = "tcp_data")]
    TcpData(ClientData),
}

/// A message from the relay to an agent (M-1, S-1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[serde(tag = "kind")]
pub enum RelayToAgent {
    /// Connect to a target (S-1).
    #[serde(rename = "initiate_connection")]
    InitiateConnection(InitiateConnection),
    /// Bytes of one stream (S-7).
    #[serde(rename = "tcp_data")]
    TcpData(StreamData),
    /// The stream is over at the client.
    #[serde(rename = "connection_close")]
    ConnectionClose(ConnectionClose),
    /// A sign of life; neither asks for nor gets an answer (K-6).
    #[serde(rename = "keep_alive")]
    KeepAlive(KeepAlive),
}

/// A message from the relay to a client (M-1, C-4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[serde(tag = "kind")]
pub enum RelayToClient {
    /// The stream is open (C-5).
    #[serde(rename = "start_ok")]
    StartOk(StartOk),
    /// The stream is refused, or over (C-6).
    #[serde(rename = "error")]
    Error(ErrorMessage),
    /// Bytes of the stream (S-7).
    #[serde(rename = "tcp_data")]
    TcpData(ClientData),
}

/// The first message of an agent: who it is, and what ended its last link. Fields that are not named here
/// are kept, in their order (E-1).
#[derive(Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub struct AgentStart {
    /// What ended the agent's last link in failure, for the relay's keep-alive rule (K-9); null if nothing did.
    /// Absent from agents of older revisions, which is why absent and null are kept apart.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::fields::optional"
    )]
    #[cfg_attr(feature = "schemars", schemars(with = "Option<String>"))]
    pub last_error: Option<Option<String>>,
    /// The name clients ask for. The relay demands it; a program that embeds the agent may identify itself
    /// by fields of its own instead (E-1).
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::fields::optional"
    )]
    #[cfg_attr(feature = "schemars", schemars(with = "String"))]
    pub name: Option<String>,
    /// The secret that belongs to the name. The relay demands it, as it does the name.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::fields::optional"
    )]
    #[cfg_attr(
        feature = "schemars",
        schemars(with = "Secret", extend("writeOnly" = true))
    )]
    pub secret: Option<Secret>,
    /// The fields that have no name here, in their order. None of them may have a name of the others.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl fmt::Debug for AgentStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentStart")
            .field("last_error", &self.last_error)
            .field("name", &self.name)
            .field("secret", &self.secret)
            .field("extra", &crate::fields::keys_of(&self.extra))
            .finish()
    }
}

/// The agent's answer to `initiate_connection` when it could not reach the target (S-5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub struct InitiateConnectionError {
    /// Why, for a person; the relay passes it on to the client (S-5).
    pub message: String,
    /// The stream: an opaque text chosen by the relay (S-2).
    pub connection_id: String,
}

/// The agent's answer to `initiate_connection` when the target is connected (S-4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub struct InitiateConnectionOk {
    /// The stream: an opaque text chosen by the relay (S-2).
    pub connection_id: String,
}

/// Bytes of one stream, on the link of an agent, in either direction (S-7).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub struct StreamData {
    /// The stream: an opaque text chosen by the relay (S-2).
    pub connection_id: String,
    /// The bytes, in the standard base64 alphabet with padding and no line breaks (M-9); readers are more tolerant
    ///
    #[cfg_attr(feature = "schemars", schemars(extend("contentEncoding" = "base64")))]
    pub data_base64: String,
}

impl fmt::Debug for StreamData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamData")
            .field("connection_id", &self.connection_id)
            .field("data_base64", &crate::fields::length_of(&self.data_base64))
            .finish()
    }
}

/// The stream is over at the agent: nothing follows for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub struct ConnectionReset {
    /// Why. The text of `TARGET_CLOSED_MESSAGE` stands for a clean end of the target's side, every other
    /// text for a broken stream.
    pub message: String,
    /// The stream: an opaque text chosen by the relay (S-2).
    pub connection_id: String,
}

/// A sign of life without content, on the link of an agent, in either direction (K-6).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub struct KeepAlive {}

/// The first message of a client: the target it wants, and the right to have it (C-1).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub struct ClientStart {
    /// Name of the agent that is to connect to the target (C-3).
    pub connection_target: String,
    /// Host name or IP address of the target, as seen by the agent (S-3).
    pub target_ip: String,
    /// Port of the target. The wire knows no range; a client sends 1..=65535 (C-2). Read as Q-7 says; an integer
    /// beyond 64 bits is read as the nearest one within.
    #[serde(deserialize_with = "crate::fields::lax_integer")]
    #[cfg_attr(feature = "schemars", schemars(extend("x-reading" = "lax-integer")))]
    pub target_port: i64,
    /// How to reach the target; `tcp` is the only one there is (S-3).
    pub protocol: String,
    /// One of the relay's secrets for clients (C-3).
    #[cfg_attr(feature = "schemars", schemars(extend("writeOnly" = true)))]
    pub secret: Secret,
}

/// Bytes of the client's one stream, on its own link, in either direction (S-7).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub struct ClientData {
    /// The bytes, in the standard base64 alphabet with padding and no line breaks (M-9); readers are more tolerant
    ///
    #[cfg_attr(feature = "schemars", schemars(extend("contentEncoding" = "base64")))]
    pub data_base64: String,
}

impl fmt::Debug for ClientData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientData")
            .field("data_base64", &crate::fields::length_of(&self.data_base64))
            .finish()
    }
}

/// The relay asks the agent to connect to a target, which begins a stream (S-1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub struct InitiateConnection {
    /// Host name or IP address of the target, as the client gave it (S-3).
    pub target_ip: String,
    /// Port of the target. The wire knows no range: the agent refuses what is not 0..=65535 (S-3). Read as Q-7
    /// says; an integer beyond 64 bits is read as the nearest one within.
    #[serde(deserialize_with = "crate::fields::lax_integer")]
    #[cfg_attr(feature = "schemars", schemars(extend("x-reading" = "lax-integer")))]
    pub target_port: i64,
    /// How to reach the target; `tcp` is the only one there is (S-3).
    pub protocol: String,
    /// Names the stream on this link from now on: an opaque text chosen by the relay (S-2).
    pub connection_id: String,
}

/// The stream is over at the client: nothing follows for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub struct ConnectionClose {
    /// Why, for a person.
    pub message: String,
    /// The stream: an opaque text chosen by the relay (S-2).
    pub connection_id: String,
}

/// The target is connected and the stream is open (C-5).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub struct StartOk {}

/// The client gets no stream, or no longer has one (C-6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub struct ErrorMessage {
    /// Why, for a person (C-7).
    pub message: String,
}

impl Message for AgentToRelay {
    const NAME: &'static str = "AgentToRelay";
    const ENVELOPE: Option<&'static str> = Some("inner");
    const TAG: &'static str = "kind";
    const KINDS: &'static [&'static str] = &[
        "start",
        "initiate_connection_error",
        "initiate_connection_ok",
        "tcp_data",
        "connection_reset",
        "keep_alive",
    ];
    fn kind(&self) -> &'static str {
        match self {
            Self::Start(_) => "start",
            Self::InitiateConnectionError(_) => "initiate_connection_error",
            Self::InitiateConnectionOk(_) => "initiate_connection_ok",
            Self::TcpData(_) => "tcp_data",
            Self::ConnectionReset(_) => "connection_reset",
            Self::KeepAlive(_) => "keep_alive",
        }
    }
    fn from_fields(kind: &str, fields: Fields) -> Option<Result<Self, FieldError>> {
        Some(
            match kind {
                "start" => AgentStart::deserialize(fields).map(Self::Start),
                "initiate_connection_error" => {
                    InitiateConnectionError::deserialize(fields)
                        .map(Self::InitiateConnectionError)
                }
                "initiate_connection_ok" => {
                    InitiateConnectionOk::deserialize(fields)
                        .map(Self::InitiateConnectionOk)
                }
                "tcp_data" => StreamData::deserialize(fields).map(Self::TcpData),
                "connection_reset" => {
                    ConnectionReset::deserialize(fields).map(Self::ConnectionReset)
                }
                "keep_alive" => KeepAlive::deserialize(fields).map(Self::KeepAlive),
                _ => return None,
            },
        )
    }
}

impl Message for ClientToRelay {
    const NAME: &'static str = "ClientToRelay";
    const ENVELOPE: Option<&'static str> = Some("inner");
    const TAG: &'static str = "kind";
    const KINDS: &'static [&'static str] = &["start", "tcp_data"];
    fn kind(&self) -> &'static str {
        match self {
            Self::Start(_) => "start",
            Self::TcpData(_) => "tcp_data",
        }
    }
    fn from_fields(kind: &str, fields: Fields) -> Option<Result<Self, FieldError>> {
        Some(
            match kind {
                "start" => ClientStart::deserialize(fields).map(Self::Start),
                "tcp_data" => ClientData::deserialize(fields).map(Self::TcpData),
                _ => return None,
            },
        )
    }
}

impl Message for RelayToAgent {
    const NAME: &'static str = "RelayToAgent";
    const ENVELOPE: Option<&'static str> = Some("inner");
    const TAG: &'static str = "kind";
    const KINDS: &'static [&'static str] = &[
        "initiate_connection",
        "tcp_data",
        "connection_close",
        "keep_alive",
    ];
    fn kind(&self) -> &'static str {
        match self {
            Self::InitiateConnection(_) => "initiate_connection",
            Self::TcpData(_) => "tcp_data",
            Self::ConnectionClose(_) => "connection_close",
            Self::KeepAlive(_) => "keep_alive",
        }
    }
    fn from_fields(kind: &str, fields: Fields) -> Option<Result<Self, FieldError>> {
        Some(
            match kind {
                "initiate_connection" => {
                    InitiateConnection::deserialize(fields).map(Self::InitiateConnection)
                }
                "tcp_data" => StreamData::deserialize(fields).map(Self::TcpData),
                "connection_close" => {
                    ConnectionClose::deserialize(fields).map(Self::ConnectionClose)
                }
                "keep_alive" => KeepAlive::deserialize(fields).map(Self::KeepAlive),
                _ => return None,
            },
        )
    }
}

impl Message for RelayToClient {
    const NAME: &'static str = "RelayToClient";
    const ENVELOPE: Option<&'static str> = Some("inner");
    const TAG: &'static str = "kind";
    const KINDS: &'static [&'static str] = &["start_ok", "error", "tcp_data"];
    fn kind(&self) -> &'static str {
        match self {
            Self::StartOk(_) => "start_ok",
            Self::Error(_) => "error",
            Self::TcpData(_) => "tcp_data",
        }
    }
    fn from_fields(kind: &str, fields: Fields) -> Option<Result<Self, FieldError>> {
        Some(
            match kind {
                "start_ok" => StartOk::deserialize(fields).map(Self::StartOk),
                "error" => ErrorMessage::deserialize(fields).map(Self::Error),
                "tcp_data" => ClientData::deserialize(fields).map(Self::TcpData),
                _ => return None,
            },
        )
    }
}

/// What comes before the first value in the text of a [`StreamData`].
pub const STREAM_DATA_PREFIX: &str = "{\"inner\":{\"kind\":\"tcp_data\",\"connection_id\":\"";

/// What comes between the two values in the text of a [`StreamData`].
pub const STREAM_DATA_INFIX: &str = "\",\"data_base64\":\"";

/// What comes after the last value in the text of a [`StreamData`].
pub const STREAM_DATA_SUFFIX: &str = "\"}}";

/// What comes before the first value in the text of a [`ClientData`].
pub const CLIENT_DATA_PREFIX: &str = "{\"inner\":{\"kind\":\"tcp_data\",\"data_base64\":\"";

/// What comes after the last value in the text of a [`ClientData`].
pub const CLIENT_DATA_SUFFIX: &str = "\"}}";

/// Path of the relay that agents dial. Clause H-1.
pub const AGENT_PATH: &str = "/ws_for_edge_agents";

/// Path of the relay that clients dial. Clause H-1.
pub const CLIENT_PATH: &str = "/ws_for_access_clients";

/// TCP port of a relay unless somebody says otherwise. Clause H-2.
pub const DEFAULT_PORT: u16 = 8000;

/// Name, in lower case, of the header of the upgrade answer by which a relay promises to deliver all data that
/// came before a `connection_reset`; its value is the relay's software and version. Clause H-12.
pub const RELAY_HEADER: &str = "http-network-relay";

/// How long a relay waits for the first message, counted from the upgrade answer. Clause L-10.
pub const START_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an agent or client waits from its first packet to the upgrade answer. Clause L-11.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the holder of an agent's name has to answer a ping when another link asks for the name. Clause A-7.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a full queue of one stream may hold up the link of an agent before the stream is ended. Clause L-9.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an agent tries to reach a target. Clause L-12.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a relay waits for the agent's answer to `initiate_connection`. Longer than the two minutes an
/// operating system may take to give up a connect. Clause L-13.
pub const RELAY_ANSWER_TIMEOUT: Duration = Duration::from_secs(135);

/// How long a client waits for the answer to its start. Longer than the relay's wait for the agent. Clause L-14.
pub const CLIENT_ANSWER_TIMEOUT: Duration = Duration::from_secs(150);

/// How long the party that sent a close frame waits for the other's before it ends the TCP connection. Clause X-3.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long an agent waits between the last data and `connection_reset` towards a relay without the header. Clause
///
pub const LINGER: Duration = Duration::from_secs(1);

/// Time between two WebSocket pings of one party on one link. Clause K-1.
pub const PING_INTERVAL: Duration = Duration::from_secs(20);

/// How long a link may be silent after a ping before it counts as dead. Clause K-2.
pub const PONG_TIMEOUT: Duration = Duration::from_secs(20);

/// Time between two `keep_alive` messages of a relay to one agent. Clause K-7.
pub const RELAY_KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);

/// Time between two `keep_alive` messages of an agent. Clause K-8.
pub const AGENT_KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// Texts in an agent's `last_error`, any of which says that it does not understand `keep_alive`. Clause K-9.
pub const KEEP_ALIVE_UNKNOWN_MARKS: &[&str] = &[
    "Input tag 'keep_alive' found using 'kind' does not match any of the expected tags",
    "Input tag 'successfully_ssh_connected' found using 'kind' does not match any of the expected tags",
];

/// Largest message a relay accepts as the first one of a link. In bytes. Clause L-1.
pub const MAX_MESSAGE_BEFORE_START: usize = 65536;

/// Largest message a relay accepts from agents and clients. In bytes. Clause L-2.
pub const MAX_MESSAGE_TO_RELAY: usize = 16777216;

/// Largest message a client accepts. In bytes. Clause L-3.
pub const MAX_MESSAGE_TO_CLIENT: usize = 1048576;

/// Largest message an agent of an older revision accepts. In bytes. Clause L-5.
pub const MAX_MESSAGE_TO_AGENT_OLD: usize = 1048576;

/// Largest message an agent is expected to accept. In bytes. Clause L-4.
pub const MAX_MESSAGE_AT_AGENT: usize = 67108864;

/// Most payload a party puts into one `tcp_data` of its own. In bytes. Clause S-9.
pub const MAX_CHUNK: usize = 65536;

/// Most payload the Python implementation puts into one `tcp_data`. In bytes. Clause S-10.
pub const ORIGINAL_CHUNK: usize = 1024;

/// Most payload a relay passes on in one `tcp_data`; it cuts larger ones. In bytes. Clause S-11.
pub const MAX_FORWARDED_CHUNK: usize = 524288;

/// Payload a party queues for one stream and direction before it holds back the sender. In bytes. Clause L-8.
pub const STREAM_QUEUE: usize = 262144;

/// Most JSON values that one message may consist of. Clause L-6.
pub const MAX_VALUES: usize = 65536;

/// Deepest nesting of objects and lists in one message, the outermost object counted. Clause L-7.
pub const MAX_DEPTH: usize = 127;

/// As much of an agent's text as a relay passes on to a client. In bytes. Clause L-3.
pub const MAX_ERROR_TEXT: usize = 4096;

/// Longest reason in a close frame of the relay that is taken from an agent's text. In bytes. Clause X-14.
pub const MAX_CLOSE_REASON: usize = 100;

/// The only value of `protocol` that an agent serves. Clause S-3.
pub const PROTOCOL_TCP: &str = "tcp";

/// Text of `error`: the client's secret is none of the relay's. Clause C-7.
pub const ERROR_BAD_SECRET: &str = "Invalid access client secret";

/// Text of `error`: no agent of that name is connected. Clause C-7.
pub const ERROR_AGENT_NOT_REGISTERED: &str = "Agent not registered";

/// Beginning of the text of `error` when the target was not reached; the agent's message follows. Clause C-7.
pub const ERROR_INITIATE_PREFIX: &str = "Error initiating connection: ";

/// What follows `ERROR_INITIATE_PREFIX` when the agent did not answer in time. Clause C-7.
pub const ERROR_NO_ANSWER: &str = "no answer from the agent within 135 s";

/// Message of every `connection_close`. Clause X-7.
pub const CONNECTION_CLOSE_MESSAGE: &str = "Connection closed by relay";

/// Message of a `connection_reset` that stands for the target's clean end. Clause X-5.
pub const TARGET_CLOSED_MESSAGE: &str = "Target closed the connection";

/// Reason of the close frame for an agent that is not admitted. Clause A-3.
pub const REASON_BAD_CREDENTIALS: &str = "unknown agent or wrong secret";

/// Reason of the close frame when a ping was not answered. Clause K-3.
pub const REASON_PING_TIMEOUT: &str = "keepalive ping timeout";

/// Reason of the close frame for the clients of an agent whose link ended; also what follows
/// `ERROR_INITIATE_PREFIX` for those still waiting. Clause X-11.
pub const REASON_AGENT_LOST: &str = "agent disconnected";

/// The stream ended cleanly, or an `error` has already said everything. A WebSocket close code. Clause X-1.
pub const CLOSE_NORMAL: u16 = 1000;

/// The peer broke the WebSocket protocol. A WebSocket close code. Clause X-1.
pub const CLOSE_PROTOCOL: u16 = 1002;

/// A binary message reached a relay. A WebSocket close code. Clause X-1.
pub const CLOSE_UNSUPPORTED: u16 = 1003;

/// A text that is no message of its direction. A WebSocket close code. Clause X-1.
pub const CLOSE_INVALID: u16 = 1007;

/// No start, a start too late, or an agent that is not admitted. A WebSocket close code. Clause X-1.
pub const CLOSE_POLICY: u16 = 1008;

/// A message over the size limit. A WebSocket close code. Clause X-1.
pub const CLOSE_TOO_BIG: u16 = 1009;

/// A ping was not answered. A WebSocket close code. Clause X-1.
pub const CLOSE_PING_TIMEOUT: u16 = 1011;

/// The relay stops. A WebSocket close code. Clause X-1.
pub const CLOSE_RESTART: u16 = 1012;

/// Towards a client: the agent's link ended. A WebSocket close code. Clause X-1.
pub const CLOSE_AGENT_LOST: u16 = 4014;

/// Towards a client: the stream broke at the agent or its target. A WebSocket close code. Clause X-1.
pub const CLOSE_TARGET_RESET: u16 = 4001;

/// Towards a client: its stream took nothing in time. A WebSocket close code. Clause X-1.
pub const CLOSE_STALLED: u16 = 4002;

/// Towards an agent: another link holds its name. A WebSocket close code. Clause X-1.
pub const CLOSE_NAME_IN_USE: u16 = 4009;
