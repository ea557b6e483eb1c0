//! Streams at the agent (spec v1, section S).

use std::net::{Ipv6Addr, TcpListener};

use codec::v1::{MAX_CHUNK, ORIGINAL_CHUNK};
use serde_json::json;

use super::{SINGLES, SIZES, UNREADABLE, bytes_of_size, every_value};
use crate::harness::targets::RefusingPort;
use crate::harness::{Target as Server, seeded_bytes};
use crate::kit::{Agent, Finding, Outcome};

// ---- the agent: how streams begin ----

/// An id of each kind that somebody may make.
const IDS: [&str; 7] = [
    "0e5f0a8c-4f6b-4f3e-9b1a-2f3c4d5e6f70",
    "0E5F0A8C-4F6B-4F3E-9B1A-2F3C4D5E6F70",
    "1",
    " with spaces ",
    "quotes \" and \\ and / and \u{7f}",
    "\u{0}\n\u{1b}",
    "Größe 🦀",
];

pub(super) fn opaque_ids(agent: &mut Agent) -> Outcome {
    let server = Server::echo();
    let mut link = agent.start()?;
    for id in IDS.map(str::to_owned).into_iter().chain(["x".repeat(5000)]) {
        link.open(&id, server.port())?;
        link.data(&id, b"hello");
        link.expect_data(&id, b"hello")?;
    }
    Ok(())
}

pub(super) fn ids_by_case(agent: &mut Agent) -> Outcome {
    let server = Server::echo();
    let mut link = agent.start()?;
    link.open("stream", server.port())?;
    link.open("STREAM", server.port())?;
    for id in ["stream", "STREAM"] {
        link.data(id, id.as_bytes());
        link.expect_data(id, id.as_bytes())?;
    }
    Ok(())
}

pub(super) fn empty_id(agent: &mut Agent) -> Outcome {
    let target = agent.target()?;
    let mut link = agent.start()?;
    link.open("", target.port())?;
    let mut connection = target.accept()?;
    link.data("", b"question");
    connection.expect(b"question")?;
    connection.write(b"answer");
    link.expect_data("", b"answer")?;
    link.close_stream("");
    connection.expect_end()
}

pub(super) fn other_protocols(agent: &mut Agent) -> Outcome {
    let server = Server::echo();
    let mut link = agent.start()?;
    for protocol in ["udp", "TCP", "", "tcp "] {
        link.ask_for("s", "127.0.0.1", &server.port().into(), protocol);
        link.expect_refusal("s")?;
    }
    if server.accepted() == 0 { Ok(()) } else { Err(Finding::fail("it has connected")) }
}

pub(super) fn no_ports(agent: &mut Agent) -> Outcome {
    let mut link = agent.start()?;
    for port in [0, -1, 65_536, 65_558, 1 << 32, i64::MAX, i64::MIN] {
        link.ask_for("s", "127.0.0.1", &port.into(), "tcp");
        link.expect_refusal("s")?;
    }
    Ok(())
}

/// Names that no resolver knows, and what is no name at all.
const NO_NAMES: [&str; 5] = ["nobody.invalid", "", "[::1]", "a\u{0}b", "with spaces"];

pub(super) fn unknown_names(agent: &mut Agent) -> Outcome {
    let mut link = agent.start()?;
    for name in NO_NAMES.into_iter().chain([&*"a".repeat(64), &"a.".repeat(200)]) {
        link.ask_for("s", name, &22.into(), "tcp");
        // Some resolvers take their time.
        link.expect_refusal_after(codec::v1::DIAL_TIMEOUT, "s")?;
    }
    Ok(())
}

pub(super) fn host_name(agent: &mut Agent) -> Outcome {
    let target = agent.target()?;
    let mut link = agent.start()?;
    link.ask_for("s", "localhost", &target.port().into(), "tcp");
    link.expect_ok("s")?;
    target.accept()?;
    Ok(())
}

pub(super) fn ipv6_address(agent: &mut Agent) -> Outcome {
    let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, 0));
    let Some(address) = listener.as_ref().ok().and_then(|listener| listener.local_addr().ok())
    else {
        return Err(Finding::Skipped("this machine has no IPv6".to_owned()));
    };
    let mut link = agent.start()?;
    link.ask_for("s", "::1", &address.port().into(), "tcp");
    link.expect_ok("s")
}

pub(super) fn target_reached(agent: &mut Agent) -> Outcome {
    let target = agent.target()?;
    let mut link = agent.start()?;
    link.ask("s", target.port());
    let mut connection = target.accept()?;
    link.expect_ok("s")?;
    link.data("s", b"hello");
    connection.expect(b"hello")
}

/// A port that refuses connections.
fn refusing_port() -> Outcome<RefusingPort> {
    RefusingPort::new().map_err(|error| Finding::Fail(format!("the kit has no port: {error}")))
}

pub(super) fn target_refuses(agent: &mut Agent) -> Outcome {
    let port = refusing_port()?;
    let mut link = agent.start()?;
    link.ask("s", port.port());
    let words = link.expect_refusal("s")?;
    let is_sentence = !words.trim().is_empty() && words.len() < 500;
    if is_sentence { Ok(()) } else { Err(Finding::Fail(format!("its sentence is {words:?}"))) }
}

pub(super) fn after_refusal(agent: &mut Agent) -> Outcome {
    let (port, target) = (refusing_port()?, agent.target()?);
    let mut link = agent.start()?;
    link.ask("s", port.port());
    link.expect_refusal("s")?;
    link.data("s", b"to nobody");
    link.close_stream("s");
    link.expect_quiet()?;
    link.open("s", target.port())?;
    link.data("s", b"to somebody");
    target.accept()?.expect(b"to somebody")
}

pub(super) fn others_go_on_while_connecting(agent: &mut Agent) -> Outcome {
    let (silent, server) = (agent.silent_target()?, Server::echo());
    let mut link = agent.start()?;
    link.open("open", server.port())?;
    link.ask("hangs", silent.port());
    link.data("open", b"meanwhile");
    link.expect_data("open", b"meanwhile")?;
    link.open("new", server.port())?;
    link.data("new", b"meanwhile");
    link.expect_data("new", b"meanwhile")
}

pub(super) fn pings_while_connecting(agent: &mut Agent) -> Outcome {
    let silent = agent.silent_target()?;
    let mut link = agent.start()?;
    link.ask("hangs", silent.port());
    link.expect_quiet()
}

// ---- the agent: what it carries ----

pub(super) fn target_sizes(agent: &mut Agent) -> Outcome {
    let target = agent.target()?;
    let mut link = agent.start()?;
    link.open("s", target.port())?;
    let mut connection = target.accept()?;
    for bytes in SIZES.map(bytes_of_size) {
        link.data("s", &bytes);
        connection.expect(&bytes)?;
    }
    Ok(())
}

pub(super) fn sizes_of_target(agent: &mut Agent) -> Outcome {
    let server = Server::echo();
    let mut link = agent.start_with_promise()?;
    link.open("s", server.port())?;
    for bytes in SIZES.map(bytes_of_size) {
        link.data("s", &bytes);
        link.expect_data("s", &bytes)?;
    }
    link.expect_quiet()
}

pub(super) fn single_bytes_of_target(agent: &mut Agent) -> Outcome {
    let target = agent.target()?;
    let mut link = agent.start()?;
    link.open("s", target.port())?;
    let mut connection = target.accept()?;
    let bytes = bytes_of_size(SINGLES);
    for byte in &bytes {
        link.data("s", &[*byte]);
    }
    connection.expect(&bytes)?;
    for byte in &bytes {
        connection.write(&[*byte]);
    }
    link.expect_data("s", &bytes)
}

pub(super) fn all_values_of_target(agent: &mut Agent) -> Outcome {
    let target = agent.target()?;
    let mut link = agent.start()?;
    link.open("s", target.port())?;
    let mut connection = target.accept()?;
    let bytes = every_value();
    link.data("s", &bytes);
    connection.expect(&bytes)?;
    connection.write(&bytes);
    link.expect_data("s", &bytes)
}

pub(super) fn agents_chunks(agent: &mut Agent) -> Outcome {
    let server = Server::open_source(9, 1 << 20);
    let mut link = agent.start_with_promise()?;
    link.open("s", server.port())?;
    let largest = link.sizes_of_data("s", &seeded_bytes(9, 1 << 20))?.largest_payload();
    if largest <= MAX_CHUNK {
        return Ok(());
    }
    Err(Finding::Fail(format!("a message has {largest} bytes of payload")))
}

pub(super) fn small_chunks(agent: &mut Agent) -> Outcome {
    let server = Server::open_source(10, 1 << 18);
    let mut link = agent.start()?;
    link.open("s", server.port())?;
    let largest = link.sizes_of_data("s", &seeded_bytes(10, 1 << 18))?.largest_payload();
    agent.should(largest <= ORIGINAL_CHUNK, format!("a message has {largest} bytes of payload"));
    Ok(())
}

pub(super) fn empty_data_for_target(agent: &mut Agent) -> Outcome {
    let target = agent.target()?;
    let mut link = agent.start()?;
    link.open("s", target.port())?;
    let mut connection = target.accept()?;
    for piece in [&b""[..], b"one", b"", b"", b"two", b""] {
        link.data("s", piece);
    }
    connection.expect(b"onetwo")?;
    connection.write(b"it goes on");
    link.expect_data("s", b"it goes on")
}

// ---- the agent: messages for no stream ----

pub(super) fn unknown_ids_at_agent(agent: &mut Agent) -> Outcome {
    let server = Server::echo();
    let mut link = agent.start()?;
    link.open("s", server.port())?;
    link.data("unknown", b"to nobody");
    link.close_stream("unknown");
    link.data("unknown", b"to nobody");
    link.expect_quiet()?;
    link.data("s", b"it goes on");
    link.expect_data("s", b"it goes on")
}

pub(super) fn over_at_agent(agent: &mut Agent) -> Outcome {
    let target = agent.target()?;
    let mut link = agent.start()?;
    link.open("s", target.port())?;
    let mut connection = target.accept()?;
    link.close_stream("s");
    link.data("s", b"too late");
    link.close_stream("s");
    connection.expect_end()?;
    link.expect_quiet()
}

pub(super) fn id_in_use(agent: &mut Agent) -> Outcome {
    let target = agent.target()?;
    let mut link = agent.start()?;
    link.open("s", target.port())?;
    let mut old = target.accept()?;
    link.data("s", b"to the old one");
    old.expect(b"to the old one")?;
    link.open("s", target.port())?;
    let mut new = target.accept()?;
    link.data("s", b"to the new one");
    new.expect(b"to the new one")?;
    new.write(b"from the new one");
    link.expect_data("s", b"from the new one")?;
    old.expect_end()
}

pub(super) fn base64_at_agent(agent: &mut Agent) -> Outcome {
    let (target, server) = (agent.target()?, Server::echo());
    let mut link = agent.start()?;
    link.open("other", server.port())?;
    for unreadable in UNREADABLE {
        link.open("s", target.port())?;
        let mut connection = target.accept()?;
        link.data("s", b"before");
        connection.expect(b"before")?;
        link.send(&json!({ "kind": "tcp_data", "connection_id": "s", "data_base64": unreadable }));
        link.data("s", b"after");
        link.expect_reset("s")?;
        connection.expect_end()?;
    }
    link.data("other", b"it goes on");
    link.expect_data("other", b"it goes on")
}

pub(super) fn base64_for_unknown_id(agent: &mut Agent) -> Outcome {
    let mut link = agent.start()?;
    link.send(&json!({ "kind": "tcp_data", "connection_id": "unknown", "data_base64": "A" }));
    link.expect_quiet()
}

// ---- the agent: as the Python one ----

/// Whether two texts are the same, which is noted if not.
fn is_pythons(differences: &mut Vec<String>, words: &str, pythons: &str) {
    if words != pythons {
        differences.push(format!("{words:?} instead of {pythons:?}"));
    }
}

pub(super) fn sentences(agent: &mut Agent) -> Outcome {
    let port = refusing_port()?;
    let refused = format!("[Errno 111] Connect call failed ('127.0.0.1', {})", port.port());
    let mut link = agent.start()?;
    let mut differences = Vec::new();
    for (host, port, protocol, pythons) in [
        ("127.0.0.1", i64::from(port.port()), "tcp", &*refused),
        ("127.0.0.1", 70_000, "tcp", "connect(): port must be 0-65535."),
        ("127.0.0.1", 22, "udp", "Unsupported protocol: udp"),
        ("nobody.invalid", 70_000, "udp", "Unsupported protocol: udp"),
        ("a\u{0}b", 22, "tcp", "embedded null character"),
    ] {
        link.ask_for("s", host, &port.into(), protocol);
        is_pythons(&mut differences, &link.expect_refusal("s")?, pythons);
    }
    if differences.is_empty() {
        return Ok(());
    }
    Err(Finding::Unimplemented(format!("it has its own words: {}", differences.join("; "))))
}

pub(super) fn odd_addresses(agent: &mut Agent) -> Outcome {
    let server = Server::echo();
    let mut link = agent.start()?;
    for host in ["127.1", "0.0.0.0"] {
        link.ask_for("s", host, &server.port().into(), "tcp");
        let answer = link.message()?;
        match answer.kind() {
            "initiate_connection_ok" => {}
            "initiate_connection_error" => {
                return Err(Finding::Unimplemented(format!("for {host}: {}", answer.text)));
            }
            _ => return Err(Finding::Fail(format!("for {host} came {}", answer.text))),
        }
        link.data("s", b"hello");
        link.expect_data("s", b"hello")?;
    }
    for host in ["", "[::1]", "255.255.255.255"] {
        link.ask_for("t", host, &server.port().into(), "tcp");
        link.expect_refusal_after(codec::v1::DIAL_TIMEOUT, "t")?;
    }
    Ok(())
}
