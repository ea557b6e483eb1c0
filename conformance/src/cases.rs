//! The cases, one file per section of the specification, and the groups that belong to none.
//!
//! A case is a function and a line in the table of its file. `conformance/README.md` shows how to write one.

use crate::kit::Case;

mod agent_sessions;
mod client_sessions;
mod closing;
mod extension_points;
mod hostile;
mod http;
mod keep_alive;
mod limits;
mod messages;
mod older_revisions;
mod overload;
mod readers;
mod streams;
mod tolerance;

/// All cases, in the order of the specification.
pub fn all() -> impl Iterator<Item = &'static Case> {
    GROUPS.iter().flat_map(|(_, cases)| cases.iter())
}

/// The groups and their cases, in the order of the specification.
pub const GROUPS: [(&str, &[Case]); 13] = [
    ("HTTP", http::CASES),
    ("Messages", messages::CASES),
    ("Agent sessions", agent_sessions::CASES),
    ("Client sessions", client_sessions::CASES),
    ("Streams", streams::CASES),
    ("Keep-alive", keep_alive::CASES),
    ("Closing", closing::CASES),
    ("Limits and times", limits::CASES),
    ("Extension points", extension_points::CASES),
    ("Older revisions", older_revisions::CASES),
    ("Deliberate tolerance", tolerance::CASES),
    ("Hostile input", hostile::CASES),
    ("Overload", overload::CASES),
];
