//! The examples and counterexamples of the specification.

use serde_json::Value;

use super::{Finding, Outcome};

/// A direction of messages: the beginning of the names of its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From agents to the relay.
    AgentToRelay,
    /// From clients to the relay.
    ClientToRelay,
    /// From the relay to agents.
    RelayToAgent,
    /// From the relay to clients.
    RelayToClient,
}

impl Direction {
    fn prefix(self) -> &'static str {
        match self {
            Self::AgentToRelay => "agent-to-relay.",
            Self::ClientToRelay => "client-to-relay.",
            Self::RelayToAgent => "relay-to-agent.",
            Self::RelayToClient => "relay-to-client.",
        }
    }

    /// What stands under `inner` in each of its examples.
    ///
    /// # Errors
    ///
    /// When an example is none; a test reads them.
    pub fn examples(self) -> Outcome<Vec<Value>> {
        let own = EXAMPLES.iter().filter(|(name, _)| name.starts_with(self.prefix()));
        own.map(|(name, text)| Ok(parse(name, text)?["inner"].take())).collect()
    }

    /// The texts of its counterexamples, each with the clause that it breaks.
    ///
    /// # Errors
    ///
    /// When a counterexample is none; a test reads them.
    pub fn counterexamples(self) -> Outcome<Vec<Counterexample>> {
        let own = COUNTEREXAMPLES.iter().filter(|(name, _)| name.starts_with(self.prefix()));
        let read = |(name, text): &(&str, &str)| {
            let file = parse(name, text)?;
            let field = |field: &str| file[field].as_str().unwrap_or_default().to_owned();
            Ok(Counterexample { clause: field("clause"), text: field("text") })
        };
        own.map(read).collect()
    }
}

/// A text that is no message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counterexample {
    /// The statement that it breaks.
    pub clause: String,
    /// The text itself.
    pub text: String,
}

fn parse(name: &str, text: &str) -> Outcome<Value> {
    serde_json::from_str(text).map_err(|error| Finding::Fail(format!("{name}.json: {error}")))
}

macro_rules! files {
    ($folder:literal: $($name:literal),+ $(,)?) => {
        &[$(($name, include_str!(concat!("../../../spec/v1/", $folder, "/", $name, ".json")))),+]
    };
}

const EXAMPLES: &[(&str, &str)] = files![
    "examples":
    "agent-to-relay.connection_reset",
    "agent-to-relay.connection_reset.clean_end",
    "agent-to-relay.initiate_connection_error",
    "agent-to-relay.initiate_connection_ok",
    "agent-to-relay.keep_alive",
    "agent-to-relay.start",
    "agent-to-relay.start.after_a_failure",
    "agent-to-relay.start.extra_fields",
    "agent-to-relay.start.older_revision",
    "agent-to-relay.tcp_data",
    "client-to-relay.start",
    "client-to-relay.start.name_of_a_host",
    "client-to-relay.tcp_data",
    "relay-to-agent.connection_close",
    "relay-to-agent.initiate_connection",
    "relay-to-agent.keep_alive",
    "relay-to-agent.tcp_data",
    "relay-to-agent.tcp_data.empty",
    "relay-to-client.error",
    "relay-to-client.error.target_not_reached",
    "relay-to-client.start_ok",
    "relay-to-client.tcp_data",
];

const COUNTEREXAMPLES: &[(&str, &str)] = files![
    "counterexamples":
    "agent-to-relay.base64_not_ascii",
    "agent-to-relay.base64_without_padding",
    "agent-to-relay.byte_order_mark",
    "agent-to-relay.control_character",
    "agent-to-relay.empty",
    "agent-to-relay.id_is_a_number",
    "agent-to-relay.in_a_list",
    "agent-to-relay.kind_in_capitals",
    "agent-to-relay.kind_is_a_number",
    "agent-to-relay.last_envelope_counts",
    "agent-to-relay.last_error_is_an_object",
    "agent-to-relay.last_kind_counts",
    "agent-to-relay.lone_surrogate",
    "agent-to-relay.message_of_the_relay",
    "agent-to-relay.name_is_null",
    "agent-to-relay.not_a_number",
    "agent-to-relay.not_wrapped",
    "agent-to-relay.secret_is_a_number",
    "agent-to-relay.too_deep",
    "agent-to-relay.trailing_comma",
    "agent-to-relay.two_documents",
    "agent-to-relay.wrapped_twice",
    "client-to-relay.base64_url_safe",
    "client-to-relay.keep_alive",
    "client-to-relay.no_secret",
    "client-to-relay.port_in_hexadecimal",
    "client-to-relay.port_in_other_digits",
    "relay-to-agent.no_id",
    "relay-to-agent.port_with_a_fraction",
    "relay-to-client.keep_alive",
    "relay-to-client.message_is_null",
];

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn check_folder(folder: &str, listed: &[(&str, &str)]) {
        let path = format!("{}/../spec/v1/{folder}", env!("CARGO_MANIFEST_DIR"));
        let files = fs::read_dir(path).expect("the folder is there");
        let mut names: Vec<_> = files
            .map(|file| file.expect("the folder can be read").file_name())
            .map(|name| name.to_string_lossy().trim_end_matches(".json").to_owned())
            .collect();
        names.sort_unstable();
        let listed: Vec<_> = listed.iter().map(|(name, _)| *name).collect();
        assert_eq!(listed, names);
    }

    #[test]
    fn every_file_is_listed_and_can_be_read() {
        check_folder("examples", EXAMPLES);
        check_folder("counterexamples", COUNTEREXAMPLES);
        let directions = [
            Direction::AgentToRelay,
            Direction::ClientToRelay,
            Direction::RelayToAgent,
            Direction::RelayToClient,
        ];
        let (mut examples, mut counterexamples) = (0, 0);
        for direction in directions {
            for example in direction.examples().expect("the examples are good") {
                assert!(example["kind"].is_string(), "{example}");
                examples += 1;
            }
            for example in direction.counterexamples().expect("the counterexamples are good") {
                assert!(example.clause.contains('-'), "{example:?}");
                counterexamples += 1;
            }
        }
        assert_eq!((examples, counterexamples), (EXAMPLES.len(), COUNTEREXAMPLES.len()));
    }
}
