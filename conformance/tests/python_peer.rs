//! Our programs against a v1 peer in Python, on the libraries of the Python implementation: real pings, close codes
//! and offers of compression.

use std::thread;

use codec::v1::{
    AGENT_PATH, CLIENT_PATH, CLOSE_AGENT_LOST, CLOSE_RESTART, CLOSE_TARGET_RESET, RELAY_HEADER,
};
use conformance::harness::targets::RefusingPort;
use conformance::harness::tunnel::{
    AGENT, CLIENT_SECRET, Client, Mix, Tunnel, client_command, start_agent,
};
use conformance::harness::{Origin, Process, Target, python, seeded_bytes, sha256, skip};
use rustix::process::Signal;
use serde_json::Value;

const PEER_RELAY: Mix = Mix { relay: Origin::Peer, ..Mix::OURS };
const PEER_AGENT: Mix = Mix { agent: Origin::Peer, ..Mix::OURS };
const PEER_CLIENT: Mix = Mix { client: Origin::Peer, ..Mix::OURS };

/// Whether there is a Python environment; if not, the test is skipped by name.
fn has_python(test: &str) -> bool {
    python::environment().map_err(|missing| skip(test, missing)).is_ok()
}

/// Waits for a peer to report an event of this name; gives it.
#[track_caller]
fn event(peer: &Process, name: &str) -> Value {
    nth_event(peer, name, 1)
}

/// The same for the event's `nth` time, from 1.
#[track_caller]
fn nth_event(peer: &Process, name: &str, nth: usize) -> Value {
    nth_matching(peer, &format!("event {name}"), nth, |event| event["event"] == name)
}

/// The same for the events on links of one path.
#[track_caller]
fn nth_event_on(peer: &Process, path: &str, name: &str, nth: usize) {
    nth_matching(peer, &format!("event {name} on {path}"), nth, |event| {
        event["event"] == name && event["path"] == path
    });
}

#[track_caller]
fn nth_matching(peer: &Process, what: &str, nth: usize, matches: impl Fn(&Value) -> bool) -> Value {
    peer.wait_for_lines(&format!("{what}, time {nth}"), |lines| {
        let events = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        events.filter(&matches).nth(nth - 1)
    })
}

/// Data both ways through a tunnel with one Python party, and both ways for a stream to end.
fn check_streams(tunnel: &Tunnel, client_status: i32) {
    let sent = seeded_bytes(1, 1 << 20);
    let target = Target::checksum(sent.len());
    let mut up = tunnel.client(&target);
    let expected = sha256(&sent);
    let pipe = up.send_beside(sent);
    let answer = up.output.wait_for(65);
    assert_eq!(String::from_utf8_lossy(&answer).trim_end(), expected, "{:?}", up.process.stderr());
    drop(pipe);
    up.process.kill();
    assert_eq!(target.next_seen().error, None, "the target learns of the client's end");

    let target = Target::source(2, 1 << 20);
    let mut down = tunnel.client(&target);
    assert_eq!(sha256(&down.output.wait_for_end()), sha256(&seeded_bytes(2, 1 << 20)));
    assert_eq!(down.process.wait(), client_status, "{:?}", down.process.stderr());
}

#[test]
fn a_python_relay_carries_our_streams() {
    if !has_python("a_python_relay_carries_our_streams") {
        return;
    }
    for arguments in [&[][..], &["--announce"]] {
        let tunnel = Tunnel::start_with(PEER_RELAY, arguments, &[]);
        check_streams(&tunnel, 0);
        assert_eq!(event(&tunnel.relay, "upgrade")["offers"], serde_json::json!([]));
        let target = Target::resetting_after(1);
        let mut client = tunnel.client(&target);
        client.send(b"x");
        assert_eq!(client.process.wait(), 20, "{:?}", client.process.stderr());
    }
}

#[test]
fn a_python_agent_serves_our_relay_and_client() -> std::io::Result<()> {
    if !has_python("a_python_agent_serves_our_relay_and_client") {
        return Ok(());
    }
    let tunnel = Tunnel::start(PEER_AGENT);
    let connected = event(&tunnel.agent, "connected");
    assert_eq!(connected["extensions"], Value::Null, "compression is declined");
    let header = connected["header"].as_str().unwrap_or_default();
    assert!(header.starts_with("network-relay/"), "{RELAY_HEADER}: {header}");
    check_streams(&tunnel, 0);

    let target = Target::resetting_after(1);
    let mut client = tunnel.client(&target);
    client.send(b"x");
    assert_eq!(client.process.wait(), 20, "{:?}", client.process.stderr());
    let refusing = RefusingPort::new()?;
    let mut refused = tunnel.client_to("127.0.0.1", &refusing.port().to_string());
    assert_eq!(refused.process.wait(), 14, "{:?}", refused.process.stderr());
    Ok(())
}

#[test]
fn a_python_client_uses_our_relay_and_agent() -> std::io::Result<()> {
    if !has_python("a_python_client_uses_our_relay_and_agent") {
        return Ok(());
    }
    let tunnel = Tunnel::start(PEER_CLIENT);
    check_streams(&tunnel, 0);
    let refusing = RefusingPort::new()?;
    let refused = tunnel.client_to("127.0.0.1", &refusing.port().to_string());
    assert_eq!(event(&refused.process, "connected")["extensions"], Value::Null);
    let error = event(&refused.process, "message");
    let text = error["message"].as_str().unwrap_or_default();
    assert!(text.starts_with("Error initiating connection: "), "{text}");

    let mut command = client_command(Origin::Peer, &tunnel.client_url());
    command.args(["nobody", "127.0.0.1", "1", "tcp"]);
    let unknown = Client::start(command, Origin::Peer);
    assert_eq!(event(&unknown.process, "message")["message"], "Agent not registered");
    let mut command = client_command(Origin::Peer, &tunnel.client_url());
    command.args(["--secret", "wrong", AGENT, "127.0.0.1", "1", "tcp"]);
    let refused = Client::start(command, Origin::Peer);
    assert_eq!(event(&refused.process, "message")["message"], "Invalid access client secret");
    Ok(())
}

#[test]
fn the_codes_of_our_relay_reach_python() {
    if !has_python("the_codes_of_our_relay_reach_python") {
        return;
    }
    let closed = |process: &Process| event(process, "closed")["code"].clone();
    let mut tunnel = Tunnel::start(PEER_CLIENT);
    let target = Target::resetting_after(1);
    let mut client = tunnel.client(&target);
    client.send(b"x");
    assert_eq!(closed(&client.process), CLOSE_TARGET_RESET);

    let target = Target::echo();
    let mut client = tunnel.client(&target);
    client.check_echo("hello");
    tunnel.agent.kill();
    assert_eq!(closed(&client.process), CLOSE_AGENT_LOST);

    let mut command = Origin::Peer.command("edge-agent");
    command.args(["--relay-url", &tunnel.agent_url(), "--name", AGENT, "--secret", CLIENT_SECRET]);
    let refused = Process::start("edge-agent", command, false);
    let event = event(&refused, "closed");
    assert_eq!(
        (&event["code"], &event["reason"]),
        (&1008.into(), &"unknown agent or wrong secret".into())
    );

    let agent = start_agent(Origin::Peer, tunnel.port(), &[]);
    tunnel.wait_for_agent();
    let mut client = tunnel.client(&target);
    client.check_echo("hello");
    tunnel.relay.signal(Signal::TERM);
    assert_eq!(tunnel.relay.wait(), 0);
    assert_eq!(
        (closed(&client.process), closed(&agent)),
        (CLOSE_RESTART.into(), CLOSE_RESTART.into())
    );
    tunnel.restart_relay();
    tunnel.wait_for_agent();
}

#[test]
fn the_codes_of_a_python_relay_reach_us() {
    if !has_python("the_codes_of_a_python_relay_reach_us") {
        return;
    }
    let mut tunnel = Tunnel::start(PEER_RELAY);
    let target = Target::echo();
    let mut client = tunnel.client(&target);
    client.check_echo("hello");
    tunnel.agent.kill();
    assert_eq!(client.process.wait(), 19, "{:?}", client.process.stderr());
    tunnel.restart_agent();
    tunnel.wait_for_agent();
    let mut client = tunnel.client(&target);
    client.check_echo("hello");
    tunnel.relay.signal(Signal::TERM);
    assert_eq!(client.process.wait(), 18, "{:?}", client.process.stderr());
    tunnel.restart_relay();
    tunnel.wait_for_agent();
    tunnel.client(&target).check_echo("again");
}

#[test]
fn pings_and_keep_alives_cross_in_all_directions() {
    if !has_python("pings_and_keep_alives_cross_in_all_directions") {
        return;
    }
    // Python pings fast and gets its pongs; ours ping after 20 s, which is waited for here, all at once.
    let fast: &[&str] = &["--ping-interval", "0.2", "--keep-alive", "0.2"];
    let relay = || {
        let tunnel = Tunnel::start_with(PEER_RELAY, fast, &[]);
        let target = Target::echo();
        let mut client = tunnel.client(&target);
        client.check_echo("before");
        // Both of ours, each on a link of its own path.
        for path in [AGENT_PATH, CLIENT_PATH] {
            nth_event_on(&tunnel.relay, path, "pong", 10);
            nth_event_on(&tunnel.relay, path, "ping", 1);
        }
        tunnel.relay.wait_for_text(r#""kind": "keep_alive""#);
        client.check_echo("after");
    };
    let agent = || {
        let tunnel = Tunnel::start_with(PEER_AGENT, &[], fast);
        let target = Target::echo();
        let mut client = tunnel.client(&target);
        client.check_echo("before");
        nth_event(&tunnel.agent, "pong", 10);
        event(&tunnel.agent, "ping");
        tunnel.agent.wait_for_text(r#""kind": "keep_alive""#);
        client.check_echo("after");
    };
    let client = || {
        let tunnel = Tunnel::start(PEER_CLIENT);
        let target = Target::echo();
        let mut command = tunnel.client_command();
        command.args([
            "--ping-interval",
            "0.2",
            AGENT,
            "127.0.0.1",
            &target.port().to_string(),
            "tcp",
        ]);
        let mut client = Client::start(command, Origin::Peer);
        client.check_echo("before");
        nth_event(&client.process, "pong", 10);
        event(&client.process, "ping");
        client.check_echo("after");
    };
    thread::scope(|scope| {
        scope.spawn(relay);
        scope.spawn(agent);
        scope.spawn(client);
    });
}
