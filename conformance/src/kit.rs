//! What cases are made of: the party under test, the scripted peers around it, what was said, and the verdict.
//!
//! A case tests one party, its *seat*, and gets it as its only argument: a [`Relay`], an [`Agent`] or a [`Client`].
//! All other parties are played by the kit, by hand, on raw frames ([`Link`]); whatever crosses a link is recorded in
//! the case's [`transcript`]. Every wait has a limit, and none goes on past the limit of the case, so that a case ends
//! whatever its party does.

mod agent;
mod case;
mod client;
mod examples;
pub mod expected;
mod flood;
mod http;
mod link;
mod message;
mod relay;
pub mod run;
pub mod spec;
mod stage;
mod target;
pub mod transcript;
mod watch;

pub use agent::{Agent, ToAgent};
pub use case::{Case, Finding, Outcome, Play, Seat, Verdict, agent, client, relay};
pub use client::{Client, Input, ToClient};
pub use examples::{Counterexample, Direction};
pub use flood::Flood;
pub use http::{Answer, Request};
pub use link::Link;
pub use message::{Message, base64, bytes_of, data_of, data_text};
pub use relay::{FromAgent, FromClient, Relay, Sizes};
pub use stage::Stage;
pub use target::{Connection, SilentTarget, Target};
pub use watch::watch;

pub use crate::harness::frames::Received;
