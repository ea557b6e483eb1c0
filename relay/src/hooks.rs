//! For programs that embed the relay: custom messages from agents, and to them.

use std::fmt;
use std::sync::Arc;

use codec::v2::{self, Control, Custom};
use serde_json::{Map, Value};

use crate::directory::Directory;

/// What an embedding program hears of the relay's agents.
///
/// Every method is called by the task that drives the agent's link, and does nothing unless it is implemented: it must
/// not block, and whatever takes time belongs into a channel. Names and texts come from peers.
pub trait Hooks: Send + Sync + 'static {
    /// An agent has connected; `extra` is what its start says beyond the protocol, if anything (spec v2, CU-2, and
    /// spec v1, E-1).
    fn connected(&self, agent: &str, extra: Option<&Map<String, Value>>) {
        let _ = (agent, extra);
    }

    /// An agent of protocol v2 has sent a custom message (spec v2, CU-1). One whose name means nothing is ignored
    /// (CU-3).
    fn custom(&self, agent: &str, name: &str, body: &Value) {
        let _ = (agent, name, body);
    }

    /// An agent of protocol v1 has sent a text that is no message of the protocol (spec v1, E-2). Whether this program
    /// knows it; if not, the link is closed as for bad input (M-10).
    fn custom_text(&self, agent: &str, text: &str) -> bool {
        let _ = (agent, text);
        false
    }
}

/// Hears nothing.
impl Hooks for () {}

/// The hooks of a relay.
#[derive(Clone)]
pub(crate) struct SharedHooks(Arc<dyn Hooks>);

impl SharedHooks {
    pub(crate) fn new(hooks: impl Hooks) -> Self {
        Self(Arc::new(hooks))
    }
}

impl std::ops::Deref for SharedHooks {
    type Target = dyn Hooks;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl fmt::Debug for SharedHooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hooks")
    }
}

/// Sends custom messages to the agents of a relay. Clones serve the same relay.
#[derive(Clone, Debug)]
pub struct Handle(pub(crate) Arc<Directory>);

/// Why a custom message was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// No agent of this name is connected.
    #[error("the agent is not connected")]
    NotConnected,
    /// It speaks the other version of the protocol.
    #[error("the agent speaks another version of the protocol")]
    OtherVersion,
    /// It takes nothing at the moment, and enough waits for it.
    #[error("the agent takes no messages at the moment")]
    Full,
    /// The message is longer than one may be (spec v2, FR-2 and FR-6; 1 MiB in v1).
    #[error("the message is too long")]
    TooLong,
}

impl Handle {
    /// Whether an agent of this name is connected.
    pub fn is_connected(&self, agent: &str) -> bool {
        self.0.agent(agent).is_some()
    }

    /// Sends a custom message to an agent that speaks protocol v2 (spec v2, CU-1).
    ///
    /// # Errors
    /// [`SendError`]; nothing was sent.
    pub fn send_custom(&self, agent: &str, name: &str, body: Value) -> Result<(), SendError> {
        let agent = self.0.agent(agent).ok_or(SendError::NotConnected)?;
        if agent.routes().is_some() {
            return Err(SendError::OtherVersion);
        }
        let message = Control::Custom(Custom { name: name.to_owned(), body });
        if name.chars().count() > v2::MAX_NAME || v2::encode(&message).len() > v2::MAX_CONTROL {
            return Err(SendError::TooLong);
        }
        if self.0.router().send(agent.link(), message) { Ok(()) } else { Err(SendError::Full) }
    }

    /// Sends a text to an agent that speaks protocol v1, and is known to understand it (spec v1, E-3).
    ///
    /// # Errors
    /// [`SendError`]; nothing was sent.
    pub fn send_custom_text(&self, agent: &str, text: &str) -> Result<(), SendError> {
        let agent = self.0.agent(agent).ok_or(SendError::NotConnected)?;
        let routes = agent.routes().ok_or(SendError::OtherVersion)?;
        if text.len() > codec::v1::MAX_MESSAGE_TO_AGENT_OLD {
            return Err(SendError::TooLong);
        }
        let is_sent = routes.lock().send_custom(text);
        agent.wake();
        if is_sent { Ok(()) } else { Err(SendError::Full) }
    }
}
