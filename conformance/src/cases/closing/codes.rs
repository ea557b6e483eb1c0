//! The close codes, and what they are for: each kind of breach, at each end (spec v1, X-1 and X-15).

use codec::v1::{
    CLOSE_AGENT_LOST, CLOSE_INVALID, CLOSE_NORMAL, CLOSE_POLICY, CLOSE_PROTOCOL,
    CLOSE_TARGET_RESET, CLOSE_TOO_BIG, CLOSE_UNSUPPORTED, TARGET_CLOSED_MESSAGE,
};
use rustix::process::Signal;
use serde_json::json;

use super::end_of;
use crate::harness::frames::{CONTINUATION, PING, TEXT, frame, unmasked_frame};
use crate::kit::{Agent, Client, Finding, Link, Outcome, Received, Relay, ToAgent};

/// The codes of X-1 for what a client does on a fresh link.
const CODES: [Breach; 5] = [
    breach("a breach of RFC 6455", CLOSE_PROTOCOL, |link| link.send_frame(0x83, b"{}")),
    breach("a binary message", CLOSE_UNSUPPORTED, |link| link.send_binary(b"{}")),
    breach("no message", CLOSE_INVALID, |link| link.send_text("{}")),
    breach("no start", CLOSE_POLICY, |link| {
        link.send(&json!({ "kind": "tcp_data", "data_base64": "" }));
    }),
    breach("too large a message", CLOSE_TOO_BIG, |link| link.claim(0x80 | TEXT, TOO_MUCH)),
];

/// A length that nobody accepts; the Python agent takes 4 GiB.
const TOO_MUCH: u64 = 1 << 40;

/// The codes that are shown here by cases; K-3, L-9, A-8 and X-13 show the others.
pub(super) fn codes_of_relay(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (mut ended, clean) = relay.stream(&mut agent)?;
    let (mut cut, broken) = relay.stream(&mut agent)?;
    let (mut alone, _) = relay.stream(&mut agent)?;
    let mut wrong = Vec::new();
    agent.reset_stream(&clean, TARGET_CLOSED_MESSAGE);
    wrong.extend(ended_otherwise(&mut ended, "a clean end", CLOSE_NORMAL));
    agent.reset_stream(&broken, "broken");
    wrong.extend(ended_otherwise(&mut cut, "a broken stream", CLOSE_TARGET_RESET));
    agent.leave()?;
    wrong.extend(ended_otherwise(&mut alone, "a lost agent", CLOSE_AGENT_LOST));
    for breach in &CODES {
        let mut client = relay.client_link()?;
        wrong.extend(closed_otherwise(&mut client, breach));
    }
    none_is(wrong)
}

pub(super) fn reasons_of_relay(relay: &Relay) -> Outcome {
    for breach in &CODES {
        let mut client = relay.client_link()?;
        (breach.deed)(&mut client);
        let Received::Close(_, reason) = end_of(&mut client).unwrap_or(Received::End) else {
            continue;
        };
        if reason.chars().any(char::is_control) {
            return Err(Finding::Fail(format!("for {} it says {reason:?}", breach.what)));
        }
    }
    Ok(())
}

/// What nobody may do on a link, and the code that it is closed with.
struct Breach {
    what: &'static str,
    code: u16,
    deed: fn(&mut Link),
}

const fn breach(what: &'static str, code: u16, deed: fn(&mut Link)) -> Breach {
    Breach { what, code, deed }
}

/// Frames that neither end may send.
const BAD_FRAMES: [Breach; 8] = [
    breach("a reserved bit", CLOSE_PROTOCOL, |link| link.send_frame(0xc0 | TEXT, b"{}")),
    breach("a reserved opcode", CLOSE_PROTOCOL, |link| link.send_frame(0x83, b"{}")),
    breach("a reserved control opcode", CLOSE_PROTOCOL, |link| link.send_frame(0x8b, b"")),
    breach("a ping in fragments", CLOSE_PROTOCOL, |link| link.send_frame(PING, b"x")),
    breach("a ping that is too long", CLOSE_PROTOCOL, |link| {
        link.send_frame(0x80 | PING, &[0; 126]);
    }),
    breach("a close frame that is too long", CLOSE_PROTOCOL, |link| {
        link.close_with(&[&[3, 232][..], &[b'x'; 124]].concat());
    }),
    breach("a stray continuation", CLOSE_PROTOCOL, |link| {
        link.send_frame(0x80 | CONTINUATION, b"{}");
    }),
    breach("a message within a message", CLOSE_PROTOCOL, |link| {
        link.send_frame(TEXT, b"{");
        link.send_frame(0x80 | TEXT, b"{}");
    }),
];

/// What no frame may hold, whoever sends it.
const BAD_PAYLOADS: [Breach; 7] = [
    breach("a close frame of one byte", CLOSE_PROTOCOL, |link| link.close_with(&[3])),
    breach("close code 999", CLOSE_PROTOCOL, |link| link.close(999)),
    breach("close code 1004", CLOSE_PROTOCOL, |link| link.close(1004)),
    breach("close code 1005", CLOSE_PROTOCOL, |link| link.close(1005)),
    breach("close code 1006", CLOSE_PROTOCOL, |link| link.close(1006)),
    breach("text that is not UTF-8", CLOSE_INVALID, |link| {
        link.send_frame(0x80 | TEXT, b"\"\xc3\x28\"");
    }),
    breach("text that is not UTF-8, in fragments", CLOSE_INVALID, |link| {
        link.send_fragments(&[b"\"\xc3", b"\x28\""]);
    }),
];

/// A frame in the clear, which no dialler may send.
const UNMASKED: Breach = breach("an unmasked frame", CLOSE_PROTOCOL, |link| {
    link.write(&unmasked_frame(0x80 | TEXT, b"{}"));
});

/// A masked frame, which no relay may send.
const MASKED: Breach = breach("a masked frame", CLOSE_PROTOCOL, |link| {
    link.write(&frame(0x80 | TEXT, b"{}"));
});

/// What is wrong with how a link is closed for something, if anything is.
fn ended_otherwise(link: &mut Link, what: &str, code: u16) -> Option<String> {
    match end_of(link) {
        Ok(Received::Close(Some(came), _)) if came == code => None,
        Ok(Received::Close(Some(came), _)) => Some(format!("{came} for {what}")),
        Ok(Received::End) => Some(format!("no close frame for {what}")),
        Ok(other) => Some(format!("for {what} came {other:?}")),
        Err(Finding::Fail(seen)) => Some(format!("for {what}: {seen}")),
        Err(other) => Some(format!("for {what}: {other:?}")),
    }
}

/// The same after a breach.
fn closed_otherwise(link: &mut Link, breach: &Breach) -> Option<String> {
    (breach.deed)(link);
    ended_otherwise(link, breach.what, breach.code)
}

fn none_is(wrong: Vec<String>) -> Outcome {
    if wrong.is_empty() { Ok(()) } else { Err(Finding::Fail(wrong.join("; "))) }
}

/// All that a dialler may not do.
fn breaches_of_dialler() -> impl Iterator<Item = &'static Breach> {
    BAD_FRAMES.iter().chain(&BAD_PAYLOADS).chain([&UNMASKED])
}

pub(super) fn breaches_by_agent(relay: &Relay) -> Outcome {
    let mut wrong = Vec::new();
    for breach in breaches_of_dialler() {
        let mut agent = relay.agent_link()?;
        wrong.extend(closed_otherwise(&mut agent, breach));
    }
    // An agent that was admitted is treated like any other.
    let mut agent = relay.agent()?;
    let _stream = relay.stream(&mut agent)?;
    wrong.extend(closed_otherwise(&mut agent, &UNMASKED));
    none_is(wrong)
}

pub(super) fn breaches_by_client(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let mut wrong = Vec::new();
    for breach in breaches_of_dialler() {
        let mut fresh = relay.client_link()?;
        wrong.extend(closed_otherwise(&mut fresh, breach));
        let (mut client, id) = relay.stream(&mut agent)?;
        wrong.extend(closed_otherwise(&mut client, breach));
        client.finish();
        agent.expect_connection_close(&id)?;
    }
    none_is(wrong)
}

/// The next link of an agent that is started anew, so that no delay of A-11 comes in between.
pub(super) fn fresh(agent: &mut Agent) -> Outcome<ToAgent> {
    agent.signal(Signal::KILL);
    agent.launch()?;
    let mut last = Finding::fail("the agent does not dial");
    // What the old one had begun may come first.
    for _ in 0..3 {
        match agent.accept_start() {
            Ok((link, _)) => return Ok(link),
            Err(finding) => last = finding,
        }
    }
    Err(last)
}

fn agent_after(agent: &mut Agent, breaches: &[Breach]) -> Outcome {
    let mut wrong = Vec::new();
    for breach in breaches {
        let mut link = fresh(agent)?;
        wrong.extend(closed_otherwise(&mut link, breach));
    }
    none_is(wrong)
}

fn client_after(client: &mut Client, breaches: &[Breach]) -> Outcome {
    let mut wrong = Vec::new();
    for breach in breaches {
        let mut link = client.open()?;
        wrong.extend(closed_otherwise(&mut link, breach));
        link.finish();
        client.expect_failure()?;
    }
    none_is(wrong)
}

pub(super) fn bad_frames_to_agent(agent: &mut Agent) -> Outcome {
    agent_after(agent, &BAD_FRAMES)
}

pub(super) fn bad_payloads_to_agent(agent: &mut Agent) -> Outcome {
    agent_after(agent, &BAD_PAYLOADS)
}

pub(super) fn bad_frames_to_client(client: &mut Client) -> Outcome {
    client_after(client, &BAD_FRAMES)
}

pub(super) fn bad_payloads_to_client(client: &mut Client) -> Outcome {
    client_after(client, &BAD_PAYLOADS)
}

/// One breach for each of the codes that a dialler uses for what a relay did wrong.
const FAULTS: [Breach; 3] = [
    MASKED,
    breach("text that is not UTF-8", CLOSE_INVALID, |link| link.send_frame(0x81, b"\xff")),
    breach("too large a message", CLOSE_TOO_BIG, |link| link.claim(0x80 | TEXT, TOO_MUCH)),
];

pub(super) fn agents_codes(agent: &mut Agent) -> Outcome {
    agent_after(agent, &FAULTS)
}

pub(super) fn clients_codes(client: &mut Client) -> Outcome {
    client_after(client, &FAULTS)
}
