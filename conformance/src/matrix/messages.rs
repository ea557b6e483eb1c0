//! Bad messages of an agent, beside a good one.

use std::io;

use codec::v1::{
    AGENT_PATH, CLIENT_PATH, CLOSE_AGENT_LOST, CLOSE_INVALID, CLOSE_TARGET_RESET, CLOSE_UNSUPPORTED,
};
use serde_json::{Value, json};

use super::{Outcome, Scenario, Seen, check_echo, idle, is_original};
use crate::harness::frames::{BINARY, RawLink, Received};
use crate::harness::tunnel::{Mix, OTHER_AGENT, agent_start, client_start};
use crate::harness::{Target, Tunnel, wait_until};

pub(super) const SCENARIOS: &[Scenario] = &[idle("an agent's bad messages", bad_agent)];

/// Another agent, by hand, that has a stream; the client's link, by hand too; and the stream's id.
fn raw_stream(tunnel: &Tunnel) -> io::Result<(RawLink, RawLink, Value)> {
    let mut agent = RawLink::open(tunnel.port(), AGENT_PATH)?;
    agent.send_inner(&agent_start(OTHER_AGENT.0, OTHER_AGENT.1))?;
    let mut start = client_start(7);
    start["connection_target"] = OTHER_AGENT.0.into();
    loop {
        let mut client = RawLink::open(tunnel.port(), CLIENT_PATH)?;
        client.send_inner(&start)?;
        // The agent's start may be handled later, since it came on another link; the client is then refused.
        wait_until("the relay answers", || has_input(&client) || has_input(&agent));
        if has_input(&client) {
            continue;
        }
        let id = agent.receive_inner()["connection_id"].take();
        agent.send_inner(&json!({"kind": "initiate_connection_ok", "connection_id": id}))?;
        assert_eq!(client.receive_inner()["kind"], "start_ok");
        return Ok((agent, client, id));
    }
}

/// Whether something has come on a link, or its end.
fn has_input(link: &RawLink) -> bool {
    let stream = link.stream();
    let peeked = stream.set_nonblocking(true).and_then(|()| stream.peek(&mut [0]));
    let restored = stream.set_nonblocking(false);
    restored.is_ok() && !peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

fn bad_agent(tunnel: &mut Tunnel, mix: Mix) -> Outcome {
    let target = Target::echo();
    let mut beside = tunnel.client(&target);
    check_echo(&mut beside, "before")?;
    let deviates = is_original(mix.relay);
    check_bad_agent(tunnel, deviates).map_err(|error| error.to_string())?;
    check_echo(&mut beside, "after")?;
    Ok(if deviates { Seen::Known("M-6, M-10, S-16, A-8") } else { Seen::Good })
}

fn check_bad_agent(tunnel: &Tunnel, deviates: bool) -> io::Result<()> {
    let is_closed = |link: &mut RawLink, code| {
        let received = link.receive_message();
        let expected = if deviates { None } else { Some(code) };
        assert_eq!(received.close_code(), expected, "{received:?}");
        assert!(!deviates || received == Received::End, "{received:?}");
    };
    let mut stranger = RawLink::open(tunnel.port(), AGENT_PATH)?;
    stranger.send_inner(&json!({"kind": "hello"}))?;
    is_closed(&mut stranger, CLOSE_INVALID);

    // Base64 that cannot be read: never is a part of a stream left out, but by the original.
    let (mut agent, mut client, id) = raw_stream(tunnel)?;
    let data =
        |base64: &str| json!({"kind": "tcp_data", "connection_id": id, "data_base64": base64});
    agent.send_inner(&data("b2"))?;
    agent.send_inner(&data("b2s="))?;
    if deviates {
        assert_eq!(client.receive_inner()["data_base64"], "b2s=");
    } else {
        assert_eq!(client.receive_message().close_code(), Some(CLOSE_TARGET_RESET));
        assert_eq!(agent.receive_inner()["kind"], "connection_close");
    }

    // A binary message ends the link; its name is free again, but at the original.
    agent.send(BINARY, br#"{"inner":{"kind":"keep_alive"}}"#)?;
    is_closed(&mut agent, CLOSE_UNSUPPORTED);
    drop(agent);
    if deviates {
        let mut again = RawLink::open(tunnel.port(), AGENT_PATH)?;
        again.send_inner(&agent_start(OTHER_AGENT.0, OTHER_AGENT.1))?;
        assert_eq!(again.receive_message(), Received::End);
    } else {
        let (mut agent, mut client, _) = raw_stream(tunnel)?;
        agent.send_inner(&json!({"kind": "hello"}))?;
        is_closed(&mut agent, CLOSE_INVALID);
        assert_eq!(client.receive_message().close_code(), Some(CLOSE_AGENT_LOST));
    }
    Ok(())
}
