//! Two hundred hostile connections beside a running transfer: it is unharmed, and every descriptor comes back.

use std::io::{self, Read as _};
use std::net::Shutdown;
use std::thread;

use codec::v1::{AGENT_PATH, CLIENT_PATH};
use conformance::harness::frames::{
    BINARY, CONTINUATION, PING, PONG, RawLink, Received, TEXT, frame, upgrade,
};
use conformance::harness::tunnel::{
    AGENT, AGENT_SECRET, CLIENT_SECRET, OTHER_AGENT, Tunnel, agent_start, client_start,
};
use conformance::harness::{Target, say, seeded_bytes, sha256, wait_until};
use rustix::process::Signal;
use serde_json::json;

/// How a hostile connection ends, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ends {
    /// The relay closes with this code.
    Code(u16),
    /// The relay answers by HTTP and ends the connection.
    Http(&'static str),
    /// The relay ends the connection, or we do: it makes no difference.
    Anyhow,
}

type Attack = (&'static str, fn(u16) -> io::Result<RawLink>, Ends);

/// Each takes the relay's port and gives the connection once the harm is done.
const ATTACKS: [Attack; 25] = [
    ("garbage", |port| raw(port, &seeded_bytes(1, 3000)), Ends::Anyhow),
    ("nothing, and away", |port| raw(port, b""), Ends::Anyhow),
    ("half a request line", |port| raw(port, b"GET /ws_for_edge"), Ends::Anyhow),
    ("half a handshake", |port| raw(port, &upgrade(AGENT_PATH).as_bytes()[..90]), Ends::Anyhow),
    (
        "a TLS hello",
        |port| raw(port, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
        Ends::Anyhow,
    ),
    (
        "an endless header",
        |port| raw(port, &[b"GET / HTTP/1.1\r\nX: ", &[b'x'; 1 << 20][..]].concat()),
        Ends::Anyhow,
    ),
    (
        "a bad key",
        |port| raw(port, upgrade(AGENT_PATH).replace("dGhl", "!").as_bytes()),
        Ends::Http("400"),
    ),
    ("an unknown path", |port| raw(port, upgrade("/x").as_bytes()), Ends::Http("403")),
    ("silence after the upgrade", |port| RawLink::open(port, AGENT_PATH), Ends::Code(1008)),
    ("broken JSON", |port| first(port, AGENT_PATH, "{\"inner\":{\"kind\":"), Ends::Code(1007)),
    ("an empty message", |port| first(port, CLIENT_PATH, ""), Ends::Code(1007)),
    ("deep nesting", |port| first(port, AGENT_PATH, &"[".repeat(60_000)), Ends::Code(1007)),
    (
        "data first",
        |port| first(port, CLIENT_PATH, r#"{"inner":{"kind":"tcp_data","data_base64":""}}"#),
        Ends::Code(1008),
    ),
    (
        "a port that is none",
        |port| first(port, CLIENT_PATH, &start_with_port("\"x\"")),
        Ends::Code(1007),
    ),
    (
        "an oversized first message",
        |port| first(port, AGENT_PATH, &"x".repeat(1 << 20)),
        Ends::Code(1009),
    ),
    (
        "a frame that claims too much",
        |port| {
            let mut link = RawLink::open(port, AGENT_PATH)?;
            link.write(&[0x81, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0])?;
            Ok(link)
        },
        Ends::Code(1009),
    ),
    (
        "a binary frame",
        |port| {
            let mut link = RawLink::open(port, CLIENT_PATH)?;
            link.send(BINARY, client_start(1).to_string().as_bytes())?;
            Ok(link)
        },
        Ends::Code(1003),
    ),
    (
        "an unmasked frame",
        |port| {
            let mut link = RawLink::open(port, CLIENT_PATH)?;
            link.write(b"\x81\x02{}")?;
            Ok(link)
        },
        Ends::Code(1002),
    ),
    (
        "a stray continuation",
        |port| {
            let mut link = RawLink::open(port, CLIENT_PATH)?;
            link.send(CONTINUATION, b"{}")?;
            Ok(link)
        },
        Ends::Code(1002),
    ),
    (
        "a reserved bit",
        |port| {
            let mut link = RawLink::open(port, AGENT_PATH)?;
            link.write(&frame(0xc0 | TEXT, b"{}"))?;
            Ok(link)
        },
        Ends::Code(1002),
    ),
    (
        "a reserved opcode",
        |port| {
            let mut link = RawLink::open(port, AGENT_PATH)?;
            link.write(&frame(0x83, b"{}"))?;
            Ok(link)
        },
        Ends::Code(1002),
    ),
    (
        "a ping that is too long",
        |port| {
            let mut link = RawLink::open(port, AGENT_PATH)?;
            link.send(PING, &[0; 126])?;
            Ok(link)
        },
        Ends::Code(1002),
    ),
    (
        "text that is not UTF-8",
        |port| {
            let mut link = RawLink::open(port, AGENT_PATH)?;
            link.send(TEXT, b"\xff\xfe")?;
            Ok(link)
        },
        Ends::Code(1007),
    ),
    (
        "a close code that is none",
        |port| {
            let mut link = RawLink::open(port, AGENT_PATH)?;
            link.send_close(999, "")?;
            Ok(link)
        },
        Ends::Code(1002),
    ),
    (
        "half a frame, and away",
        |port| {
            let mut link = RawLink::open(port, AGENT_PATH)?;
            link.write(&frame(0x81, &[b'x'; 500])[..200])?;
            link.stream().shutdown(Shutdown::Both)?;
            Ok(link)
        },
        Ends::Anyhow,
    ),
];

fn raw(port: u16, bytes: &[u8]) -> io::Result<RawLink> {
    let mut link = RawLink::dial(port)?;
    // The relay may have had enough before all is written.
    let _ = link.write(bytes);
    Ok(link)
}

fn first(port: u16, path: &str, text: &str) -> io::Result<RawLink> {
    let mut link = RawLink::open(port, path)?;
    // As above.
    let _ = link.send_text(text);
    Ok(link)
}

fn start_with_port(port: &str) -> String {
    format!("{{\"inner\":{}}}", client_start(1))
        .replace("\"target_port\":1", &format!("\"target_port\":{port}"))
}

fn check_attack(port: u16, (name, attack, ends): Attack) -> io::Result<()> {
    let mut link = attack(port)?;
    match ends {
        Ends::Code(code) => {
            let received = link.receive_message();
            assert_eq!(received.close_code(), Some(code), "{name}: {received:?}");
        }
        Ends::Http(status) => {
            let head = link.read_head()?;
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{name}: {head}");
        }
        Ends::Anyhow => {
            // Whatever the relay says before it has had enough.
            let _ = link.stream().shutdown(Shutdown::Write);
        }
    }
    Ok(())
}

/// The link of the other agent, by hand, once the relay has admitted it: a client may come on another link at once.
fn other_agent(port: u16) -> io::Result<RawLink> {
    let mut agent = RawLink::open(port, AGENT_PATH)?;
    agent.send_inner(&agent_start(OTHER_AGENT.0, OTHER_AGENT.1))?;
    // The answer to a start is silence, but this one comes after the start was handled.
    agent.send(PING, b"admitted")?;
    assert_eq!(agent.receive(), Received::Pong(b"admitted".to_vec()));
    Ok(agent)
}

/// An agent of its own tries what it can on streams that are not its own.
fn attack_streams(tunnel: &Tunnel) -> io::Result<()> {
    let mut agent = other_agent(tunnel.port())?;
    for id in ["", "00000000-0000-4000-8000-000000000000", "no id at all"] {
        agent
            .send_inner(&json!({"kind": "tcp_data", "connection_id": id, "data_base64": "aGk="}))?;
        agent.send_inner(&json!({"kind": "initiate_connection_ok", "connection_id": id}))?;
        agent.send_inner(
            &json!({"kind": "initiate_connection_error", "message": "x", "connection_id": id}),
        )?;
        agent.send_inner(
            &json!({"kind": "connection_reset", "message": "x", "connection_id": id}),
        )?;
    }
    // All of that is ignored: the link still answers.
    agent.send(PING, b"alive")?;
    assert_eq!(agent.receive(), Received::Pong(b"alive".to_vec()));
    agent.send_close(1000, "")
}

#[test]
fn two_hundred_hostile_connections_harm_nobody() -> io::Result<()> {
    let tunnel = Tunnel::ours();
    let echo = Target::echo();
    tunnel.client(&echo).check_echo("warm");
    echo.next_seen();
    let counts = || (tunnel.relay.descriptors(), tunnel.agent.descriptors());
    let before = counts();

    // One transfer in each direction, for as long as the attacks last.
    let sent = seeded_bytes(10, 8 << 20);
    let target = Target::checksum(sent.len());
    let mut up = tunnel.client(&target);
    let expected = sha256(&sent);
    let mut beside = tunnel.client(&echo);

    let port = tunnel.port();
    let attackers: Vec<_> = (0..8)
        .map(|attacker| {
            thread::spawn(move || {
                // 8 x 25 = 200, each attacker beginning at another place.
                for index in 0..ATTACKS.len() {
                    check_attack(port, ATTACKS[(index + attacker * 3) % ATTACKS.len()])?;
                }
                io::Result::Ok(())
            })
        })
        .collect();
    for (index, piece) in sent.chunks(sent.len() / 64 + 1).enumerate() {
        up.send(piece);
        beside.check_echo(&format!("still alive {index}"));
        if index == 10 {
            attack_streams(&tunnel)?;
        }
    }
    let mut attacks = 0;
    for attacker in attackers {
        match attacker.join() {
            Ok(result) => result?,
            Err(panic) => std::panic::resume_unwind(panic),
        }
        attacks += ATTACKS.len();
    }
    assert_eq!(attacks, 200);
    assert_eq!(String::from_utf8_lossy(&up.output.wait_for(65)).trim_end(), expected);
    beside.check_echo("and afterwards");
    assert!(beside.process.stderr().is_empty() && up.process.stderr().is_empty());

    drop((up, beside));
    wait_until("every descriptor is back", || {
        let now = counts();
        now.0 <= before.0 && now.1 <= before.1
    });
    let log = tunnel.relay.stderr().join("\n");
    assert!(
        !log.contains(AGENT_SECRET) && !log.contains(CLIENT_SECRET) && !log.contains(OTHER_AGENT.1)
    );
    Ok(())
}

#[test]
fn the_relay_says_once_what_was_wrong_with_a_link() -> io::Result<()> {
    let mut tunnel = Tunnel::ours();
    let links: Vec<_> = ATTACKS
        .into_iter()
        .map(|attack| Ok((attack.0, attack.2, attack.1(tunnel.port())?)))
        .collect::<io::Result<_>>()?;
    let mut peers = Vec::new();
    for (name, ends, mut link) in links {
        peers.push((name, ends, format!("peer={}}}", link.stream().local_addr()?)));
        if let Ends::Code(code) = ends {
            let received = link.receive_message();
            assert_eq!(received.close_code(), Some(code), "{name}: {received:?}");
            // It may be gone already.
            let _ = link.send_close(code, "");
        }
        let _ = link.stream().shutdown(Shutdown::Write);
        // To the end, by FIN or RST.
        let _ = link.stream().read_to_end(&mut Vec::new());
    }
    tunnel.relay.signal(Signal::TERM);
    assert_eq!(tunnel.relay.wait(), 0);
    let log = tunnel.relay.stderr_at_end();
    for (name, ends, peer) in peers {
        let lines: Vec<_> = log.iter().filter(|line| line.contains(&peer)).collect();
        match ends {
            Ends::Code(code) => {
                let [line] = lines[..] else { panic!("{name}: one line is expected: {lines:?}") };
                assert!(
                    line.contains(" WARN ") && line.contains(&format!("({code}) ")),
                    "{name}: {line}"
                );
            }
            // What never becomes a link is told as information, if it said anything.
            Ends::Http(_) | Ends::Anyhow => assert!(lines.len() <= 1, "{name}: {lines:?}"),
        }
        if lines.is_empty() {
            say(&format!("no line at info or above: {name}"));
        }
    }
    Ok(())
}

#[test]
fn a_bad_message_of_an_agent_ends_its_link_and_frees_its_name() -> io::Result<()> {
    let tunnel = Tunnel::ours();
    for (bad, code) in [
        ("", 1007),
        ("{}", 1007),
        (r#"{"inner":{"kind":"start_ok"}}"#, 1007),
        (r#"{"inner":{"kind":"tcp_data","connection_id":"x"}}"#, 1007),
    ] {
        let mut agent = other_agent(tunnel.port())?;
        let peer = agent.stream().local_addr()?;
        agent.send_text(bad)?;
        assert_eq!(agent.receive_message().close_code(), Some(code), "{bad}");
        // It broke a rule, which is more than a link that ends.
        let warned = |line: &str| line.contains(" WARN ") && line.contains(&format!("({code}) "));
        tunnel.relay.wait_for_line("what was wrong", |line| {
            (line.contains(&format!("peer={peer}}}")) && warned(line)).then_some(())
        });
    }
    let mut agent = other_agent(tunnel.port())?;
    let mut start = client_start(7);
    start["connection_target"] = OTHER_AGENT.0.into();
    let mut client = RawLink::open(tunnel.port(), CLIENT_PATH)?;
    client.send_inner(&start)?;
    assert_eq!(agent.receive_inner()["kind"], "initiate_connection");
    Ok(())
}

/// A link whose claim to a name is being settled has its pings answered like any other (spec v1, K-1 and A-7).
#[test]
fn a_link_that_claims_a_name_is_read_meanwhile() -> io::Result<()> {
    let tunnel = Tunnel::ours();
    let mut holder = other_agent(tunnel.port())?;
    let mut claimant = other_agent(tunnel.port())?;
    let Received::Ping(probe) = holder.receive() else { panic!("the holder is not probed") };
    claimant.send(PING, b"meanwhile")?;
    assert_eq!(claimant.receive(), Received::Pong(b"meanwhile".to_vec()));
    // The probe is not over yet.
    holder.send(PONG, &probe)?;
    assert_eq!(claimant.receive_message().close_code(), Some(4009));
    Ok(())
}

#[test]
fn one_agent_cannot_touch_the_streams_of_another() -> io::Result<()> {
    let mut tunnel = Tunnel::ours();
    let mut agent = other_agent(tunnel.port())?;
    let mut start = client_start(7);
    start["connection_target"] = OTHER_AGENT.0.into();
    let mut client = RawLink::open(tunnel.port(), CLIENT_PATH)?;
    client.send_inner(&start)?;
    let id = agent.receive_inner()["connection_id"].take();
    agent.send_inner(&json!({"kind": "initiate_connection_ok", "connection_id": id}))?;
    assert_eq!(client.receive_inner()["kind"], "start_ok");

    // The other agent's place is taken, and the id tried from there.
    tunnel.agent.kill();
    let mut foreign = RawLink::open(tunnel.port(), AGENT_PATH)?;
    foreign.send_inner(&agent_start(AGENT, AGENT_SECRET))?;
    foreign.send_inner(&json!({"kind": "tcp_data", "connection_id": id, "data_base64": "aGk="}))?;
    foreign
        .send_inner(&json!({"kind": "connection_reset", "message": "x", "connection_id": id}))?;
    foreign.send(PING, b"done")?;
    assert_eq!(foreign.receive(), Received::Pong(b"done".to_vec()));

    // Only what its own agent sends reaches the client.
    agent.send_inner(&json!({"kind": "tcp_data", "connection_id": id, "data_base64": "b2s="}))?;
    assert_eq!(client.receive_inner(), json!({"kind": "tcp_data", "data_base64": "b2s="}));
    Ok(())
}
