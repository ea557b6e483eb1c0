//! Hostile relays: what an agent and a client make of them.

use std::time::Duration;

use codec::v1::MAX_MESSAGE_TO_CLIENT;
use serde_json::json;

use super::relayed::{expect_last_pong, unreadable};
use crate::cases::readers::expect_left;
use crate::harness::Target;
use crate::harness::frames::{CLOSE, CONTINUATION, PING, TEXT, frame, unmasked_frame};
use crate::harness::seeded_bytes;
use crate::kit::{Agent, Client, Finding, Link, Outcome, Received, ToAgent};

/// How long an agent may stay away after its first few failures.
const AWAY: Duration = Duration::from_secs(10);

// ---- an agent ----

/// A stream of the agent to a target that sends everything back.
struct Good {
    link: ToAgent,
    _target: Target,
    count: usize,
}

impl Good {
    fn start(agent: &mut Agent) -> Outcome<Self> {
        let target = Target::echo();
        let mut link = agent.start()?;
        link.open("good", target.port())?;
        Ok(Self { link, _target: target, count: 0 })
    }

    /// A line to the target comes back, and nothing else comes.
    fn check(&mut self) -> Outcome {
        self.count += 1;
        let line = format!("line {}\n", self.count);
        self.link.data("good", line.as_bytes());
        self.link.expect_data("good", line.as_bytes())
    }
}

/// The agent dials anew and starts.
fn expect_back(agent: &Agent) -> Outcome<ToAgent> {
    let mut link = agent.accept_after(AWAY)?;
    link.head()?;
    link.switch();
    link.expect_kind("start")?;
    Ok(link)
}

/// An agent that is served by such bytes ends its link, and comes back.
fn expect_to_recover(agent: &mut Agent, pieces: &[Vec<u8>]) -> Outcome {
    let mut link = agent.start()?;
    for bytes in pieces {
        link.write(bytes);
        loop {
            match link.receive()? {
                Received::Close(..) | Received::End => break,
                Received::Text(text) => {
                    return Err(Finding::Fail(format!("the agent goes on: {text}")));
                }
                _ => {}
            }
        }
        drop(link);
        link = expect_back(agent)?;
    }
    let target = Target::echo();
    link.open("afterwards", target.port())
}

/// What no upgrade is answered with.
fn garbage() -> Vec<Vec<u8>> {
    vec![
        seeded_bytes(16, 3000),
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec(),
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n".to_vec(),
        [&b"HTTP/1.1 200 OK\r\nX: "[..], &[b'x'; 200_000]].concat(),
        Vec::new(),
    ]
}

pub(super) fn garbage_to_agent(agent: &mut Agent) -> Outcome {
    agent.launch()?;
    // Each failure doubles the time that it stays away: three will do.
    for bytes in garbage().into_iter().take(3) {
        let mut link = agent.accept_after(AWAY)?;
        link.head()?;
        link.write(&bytes);
        link.finish();
        link.expect_end_of_http()?;
    }
    expect_back(agent)?.expect_quiet()
}

pub(super) fn broken_texts(agent: &mut Agent) -> Outcome {
    let mut good = Good::start(agent)?;
    for _ in 0..10 {
        for text in unreadable() {
            good.link.send_text(&text);
        }
        good.check()?;
    }
    Ok(())
}

pub(super) fn unknown_ids(agent: &mut Agent) -> Outcome {
    let mut good = Good::start(agent)?;
    let long = "x".repeat(1000);
    for _ in 0..20 {
        for id in ["", "GOOD", "good ", &long, "00000000-0000-4000-8000-000000000000"].repeat(20) {
            good.link.data(id, b"to nobody");
            good.link.close_stream(id);
            let unreadable = json!({
                "kind": "tcp_data", "connection_id": id, "data_base64": "cannot be read",
            });
            good.link.send(&unreadable);
        }
        good.check()?;
    }
    Ok(())
}

pub(super) fn same_id(agent: &mut Agent) -> Outcome {
    let mut good = Good::start(agent)?;
    let target = Target::echo();
    for _ in 0..50 {
        good.link.open("again", target.port())?;
        good.link.data("again", b"hello");
        good.link.expect_data("again", b"hello")?;
    }
    good.check()
}

pub(super) fn pings_to_agent(agent: &mut Agent) -> Outcome {
    let mut good = Good::start(agent)?;
    for _ in 0..20 {
        good.link.write(&unmasked_frame(0x80 | PING, &[7; 125]).repeat(200));
        good.link.ping(b"last");
        expect_last_pong(&mut good.link)?;
        good.check()?;
    }
    Ok(())
}

pub(super) fn broken_frames_to_agent(agent: &mut Agent) -> Outcome {
    // Each doubles the time that it stays away: three will do.
    let pieces = [
        frame(0x80 | TEXT, b"{\"inner\":{\"kind\":\"keep_alive\"}}"),
        unmasked_frame(0x80 | 3, b"reserved opcode"),
        unmasked_frame(0x80 | CONTINUATION, b"stray"),
    ];
    expect_to_recover(agent, &pieces)
}

pub(super) fn vanishing_to_agent(agent: &mut Agent) -> Outcome {
    let mut link = agent.start()?;
    let whole = unmasked_frame(0x80 | TEXT, b"{\"inner\":{\"kind\":\"keep_alive\"}}");
    link.write(&whole[..20]);
    Link::from(link).reset();
    let mut link = expect_back(agent)?;
    link.write(&whole[..1]);
    link.finish();
    drop(link);
    let target = Target::echo();
    expect_back(agent)?.open("afterwards", target.port())
}

/// The head of a frame of text that claims so much, as a relay sends it.
fn claim(length: u64) -> Vec<u8> {
    let mut claim = vec![0x80 | TEXT, 127];
    claim.extend(length.to_be_bytes());
    claim
}

pub(super) fn oversized_to_agent(agent: &mut Agent) -> Outcome {
    expect_to_recover(agent, &[claim(1 << 40), claim(u64::MAX)])
}

// ---- a client ----

pub(super) fn garbage_to_client(client: &mut Client) -> Outcome {
    for bytes in garbage() {
        client.launch()?;
        let (mut link, _) = client.accept_request()?;
        link.write(&bytes);
        link.finish();
        client.expect_failure()?;
    }
    Ok(())
}

pub(super) fn meaningless(client: &mut Client) -> Outcome {
    let mut link = client.open()?;
    for round in 0..10 {
        for _ in 0..100 {
            link.start_ok();
            link.data(b"");
        }
        let line = format!("line {round}\n");
        link.data(line.as_bytes());
        client.expect_output(line.as_bytes())?;
        client.input(line.as_bytes())?;
        link.expect_data(line.as_bytes())?;
    }
    Ok(())
}

pub(super) fn pings_to_client(client: &mut Client) -> Outcome {
    let mut link = client.open()?;
    for round in 0..20 {
        link.write(&unmasked_frame(0x80 | PING, &[7; 125]).repeat(200));
        link.ping(b"last");
        expect_last_pong(&mut link)?;
        let line = format!("line {round}\n");
        link.data(line.as_bytes());
        client.expect_output(line.as_bytes())?;
    }
    Ok(())
}

/// A client whose stream is open leaves when it is served by such bytes, and reports a failure.
fn expect_to_fail(client: &mut Client, pieces: &[Vec<u8>]) -> Outcome {
    for bytes in pieces {
        let mut link = client.open()?;
        link.data(b"before");
        client.expect_output(b"before")?;
        link.write(bytes);
        expect_left(&mut link)?;
        client.expect_failure()?;
    }
    Ok(())
}

pub(super) fn broken_frames_to_client(client: &mut Client) -> Outcome {
    let pieces = [
        frame(0x80 | TEXT, b"{\"inner\":{\"kind\":\"start_ok\"}}"),
        unmasked_frame(0x80 | 3, b"reserved opcode"),
        unmasked_frame(0xc0 | TEXT, b"reserved bit"),
        unmasked_frame(0x80 | CONTINUATION, b"stray"),
        unmasked_frame(0x80 | PING, &[0; 126]),
        unmasked_frame(0x80 | CLOSE, &999_u16.to_be_bytes()),
        unmasked_frame(0x80 | TEXT, b"\xff\xfe"),
    ];
    expect_to_fail(client, &pieces)
}

pub(super) fn vanishing_to_client(client: &mut Client) -> Outcome {
    let mut link = client.open()?;
    link.data(b"whole");
    let message = b"{\"inner\":{\"kind\":\"tcp_data\",\"data_base64\":\"aGFsZg==\"}}";
    link.write(&unmasked_frame(0x80 | TEXT, message)[..30]);
    link.finish();
    client.expect_output(b"whole")?;
    client.expect_failure()
}

pub(super) fn oversized_to_client(client: &mut Client) -> Outcome {
    expect_to_fail(client, &[claim(MAX_MESSAGE_TO_CLIENT as u64 + 1), claim(u64::MAX)])
}
