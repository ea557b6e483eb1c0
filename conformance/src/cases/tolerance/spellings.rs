//! Spellings that are no canonical ones, of every example of a direction: the message has its effect.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::cases::readers::{
    agent_reads, client_reads, expect_not_admitted, relay_reads_agents, relay_reads_clients,
};
use crate::harness::tunnel::AGENT;
use crate::kit::{Agent, Client, Link, Outcome, Relay};

/// A case for each reader, of one way to send a message.
macro_rules! readers {
    ($send:ident: $from_agents:ident, $from_clients:ident, $to_agent:ident, $to_client:ident) => {
        pub(super) fn $from_agents(relay: &Relay) -> Outcome {
            relay_reads_agents(relay, $send)
        }

        pub(super) fn $from_clients(relay: &Relay) -> Outcome {
            relay_reads_clients(relay, $send)
        }

        pub(super) fn $to_agent(agent: &mut Agent) -> Outcome {
            agent_reads(agent, $send)
        }

        pub(super) fn $to_client(client: &mut Client) -> Outcome {
            client_reads(client, $send)
        }
    };
}

readers!(plain: examples_from_agents, examples_from_clients, examples_to_agent, examples_to_client);
readers!(repeated: repeated_from_agents, repeated_from_clients, repeated_to_agent, repeated_to_client);
readers!(reversed: reversed_from_agents, reversed_from_clients, reversed_to_agent, reversed_to_client);
readers!(spaced: spaced_from_agents, spaced_from_clients, spaced_to_agent, spaced_to_client);
readers!(escaped: escaped_from_agents, escaped_from_clients, escaped_to_agent, escaped_to_client);
readers!(unknown: unknown_from_agents, unknown_from_clients, unknown_to_agent, unknown_to_client);

/// The fields of a message, each with its value as it is written.
fn fields(inner: &Value) -> Vec<(String, String)> {
    let fields = inner.as_object().into_iter().flatten();
    fields.map(|(name, value)| (json!(name).to_string(), value.to_string())).collect()
}

fn joined(fields: impl IntoIterator<Item = (String, String)>) -> String {
    let fields: Vec<_> =
        fields.into_iter().map(|(name, value)| format!("{name}:{value}")).collect();
    format!("{{{}}}", fields.join(","))
}

fn plain(link: &mut Link, inner: &Value) -> Outcome {
    link.send(inner);
    Ok(())
}

/// Each key twice, at first with what is wrong there.
fn repeated(link: &mut Link, inner: &Value) -> Outcome {
    let twice = fields(inner).into_iter().flat_map(|(name, value)| {
        let wrong = if name == "\"kind\"" { "\"nonsense\"" } else { "[7]" };
        [(name.clone(), wrong.to_owned()), (name, value)]
    });
    let nonsense = r#"{"kind":"nonsense"}"#;
    link.send_text(&format!("{{\"inner\":{nonsense},\"inner\":7,\"inner\":{}}}", joined(twice)));
    Ok(())
}

fn reversed(link: &mut Link, inner: &Value) -> Outcome {
    let fields = joined(fields(inner).into_iter().rev());
    link.send_text(&format!("{{\"inner\":{fields}}}"));
    Ok(())
}

/// White space wherever JSON has it.
fn spaced(link: &mut Link, inner: &Value) -> Outcome {
    const SPACE: &str = " \t\r\n";
    let fields = fields(inner).into_iter();
    let spaced = fields
        .map(|(name, value)| (format!("{SPACE}{name}{SPACE}"), format!("{SPACE}{value}{SPACE}")));
    let inner = joined(spaced);
    link.send_text(&format!("{SPACE}{{{SPACE}\"inner\"{SPACE}:{SPACE}{inner}{SPACE}}}{SPACE}"));
    Ok(())
}

/// Each character of each key and text as an escape, with digits of both cases; characters beyond the first plane as
/// two; and `/` by a backslash.
fn escaped(link: &mut Link, inner: &Value) -> Outcome {
    fn escape(text: &str) -> String {
        let mut escaped = String::from("\"");
        for (index, unit) in text.encode_utf16().enumerate() {
            // Writing to a String cannot fail.
            let _ = match index % 2 {
                _ if unit == u16::from(b'/') => write!(escaped, "\\/"),
                0 => write!(escaped, "\\u{unit:04x}"),
                _ => write!(escaped, "\\u{unit:04X}"),
            };
        }
        escaped + "\""
    }
    let fields = inner.as_object().into_iter().flatten().map(|(name, value)| {
        let value = value.as_str().map_or_else(|| value.to_string(), escape);
        (escape(name), value)
    });
    link.send_text(&format!("{{{}:{}}}", escape("inner"), joined(fields)));
    Ok(())
}

/// Fields that no message has, of each type, beside `inner` and in it.
fn unknown(link: &mut Link, inner: &Value) -> Outcome {
    let unknown = json!({
        "": null, "Kind": "start", "inner": { "kind": "start" }, "x": [1, [2.5, { "y": [] }]],
        "__class__": true, "kind ": -1e-7, "é\u{0}": "\u{1f980}",
    });
    let unknown = fields(&unknown);
    let (before, after) = unknown.split_at(3);
    let all = before.iter().cloned().chain(fields(inner)).chain(after.iter().cloned());
    let inner = joined(all);
    link.send_text(&format!("{{\"kind\":\"nonsense\",\"inner\":{inner},\"Inner\":7,\"\":[{{}}]}}"));
    Ok(())
}

/// They become doubles for a program that embeds the relay, which no peer can see.
pub(super) fn large_integers(relay: &Relay) -> Outcome {
    for integer in ["18446744073709551615", "-9223372036854775809", &format!("1{:0>300}", 0)] {
        let mut agent = relay.agent_link()?;
        agent.send_text(&format!(
            "{{\"inner\":{{\"kind\":\"start\",\"last_error\":null,\"name\":\"{AGENT}\",\
             \"secret\":\"wrong\",\"serial\":{integer}}}}}"
        ));
        expect_not_admitted(&mut agent)?;
    }
    Ok(())
}
