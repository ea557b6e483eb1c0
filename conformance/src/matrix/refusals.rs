//! What is refused: by the relay, by the agent, by the target, or because there is no relay.

use codec::v1::CLIENT_PATH;

use super::{Outcome, Scenario, Seen, check_echo, check_end, idle, is_given, is_original};
use crate::harness::frames::RawLink;
use crate::harness::targets::RefusingPort;
use crate::harness::tunnel::{AGENT, Ask, Mix, OTHER_AGENT, client_start};
use crate::harness::{Origin, Process, Target, Tunnel};

pub(super) const SCENARIOS: &[Scenario] = &[
    idle("wrong client secret", wrong_secret),
    idle("unknown agent", unknown_agent),
    idle("target refuses", target_refuses),
    idle("target's name unknown", target_unknown),
    idle("protocol udp", protocol_udp),
    idle("port 0", |tunnel, mix| no_target(tunnel, mix, "127.0.0.1", 0)),
    idle("port 70000", |tunnel, mix| no_target(tunnel, mix, "127.0.0.1", 70_000)),
    idle("empty host", |tunnel, mix| no_target(tunnel, mix, "", 22)),
    idle("relay not there", relay_not_there),
    idle("agent's wrong secret", |tunnel, mix| refused_agent(tunnel, mix, AGENT)),
    idle("agent's unknown name", |tunnel, mix| refused_agent(tunnel, mix, "nobody")),
    idle("agent's name in use", name_in_use),
];

fn wrong_secret(tunnel: &mut Tunnel, mix: Mix) -> Outcome {
    let mut client = tunnel.client_for(&Ask { secret: "wrong", ..Ask::default() });
    check_end(mix, &mut client, 12, "Invalid access client secret")?;
    Ok(Seen::Good)
}

fn unknown_agent(tunnel: &mut Tunnel, mix: Mix) -> Outcome {
    for agent in ["nobody", OTHER_AGENT.0] {
        let mut client = tunnel.client_for(&Ask { agent, ..Ask::default() });
        check_end(mix, &mut client, 13, "Agent not registered")?;
    }
    Ok(Seen::Good)
}

fn target_refuses(tunnel: &mut Tunnel, mix: Mix) -> Outcome {
    let refusing = RefusingPort::new().map_err(|error| error.to_string())?;
    for host in ["127.0.0.1", "localhost"] {
        let mut client = tunnel.client_to(host, &refusing.port().to_string());
        check_end(mix, &mut client, 14, "Error initiating connection: ")?;
    }
    Ok(Seen::Good)
}

fn target_unknown(tunnel: &mut Tunnel, mix: Mix) -> Outcome {
    let mut client = tunnel.client_to("no-such-host.invalid", "22");
    check_end(mix, &mut client, 15, "Error initiating connection: ")?;
    Ok(Seen::Good)
}

fn protocol_udp(tunnel: &mut Tunnel, mix: Mix) -> Outcome {
    let mut client = tunnel.client_for(&Ask { port: "22", protocol: "udp", ..Ask::default() });
    check_end(mix, &mut client, 15, "Error initiating connection: ")?;
    Ok(Seen::Good)
}

/// What cannot be a target: asked for by hand, since our client refuses some of it itself, then by the mix's client.
fn no_target(tunnel: &mut Tunnel, mix: Mix, host: &str, port: u32) -> Outcome {
    let mut start = client_start(1);
    start["target_ip"] = host.into();
    start["target_port"] = port.into();
    let mut link = RawLink::open(tunnel.port(), CLIENT_PATH).map_err(|error| error.to_string())?;
    link.send_inner(&start).map_err(|error| error.to_string())?;
    let answer = link.receive_inner();
    let text = answer["message"].as_str().unwrap_or_default();
    check!(text.starts_with("Error initiating connection: "), "{answer}");
    let mut client = tunnel.client_to(host, &port.to_string());
    check_end(mix, &mut client, 2, "Error initiating connection: ")?;
    check_echo(&mut tunnel.client(&Target::echo()), "another")?;
    Ok(Seen::Good)
}

fn relay_not_there(tunnel: &mut Tunnel, mix: Mix) -> Outcome {
    tunnel.relay.kill();
    let target = Target::echo();
    let mut client = tunnel.client(&target);
    check_end(mix, &mut client, 10, "ConnectionRefusedError")?;
    Ok(Seen::Good)
}

/// Why the refusal of a given agent is no scenario.
const UNSEEN_REFUSAL: &str = "what a given agent says of a refusal is its own";

/// Waits until an agent has been refused so many times.
pub(super) fn wait_for_attempts(agent: &Process, origin: Origin, times: usize) {
    let words = if is_original(origin) { "reconnecting in" } else { "next attempt in" };
    agent.wait_for_lines(&format!("{words}, {times} times"), |lines| {
        (lines.iter().filter(|line| line.contains(words)).count() >= times).then_some(())
    });
}

/// An agent that is not admitted retries, and the relay goes on.
fn refused_agent(tunnel: &mut Tunnel, mix: Mix, name: &str) -> Outcome {
    if is_given(mix.agent) {
        return Ok(Seen::NotApplicable(UNSEEN_REFUSAL));
    }
    let command = tunnel.agent_as(name, "canary-0cc175b9");
    let agent = Process::start("refused agent", command, mix.agent == Origin::Ours);
    wait_for_attempts(&agent, mix.agent, 2);
    let deviates = is_original(mix.relay);
    let words = match (mix.agent, deviates) {
        (Origin::Original, true) => "received 1000 (OK)",
        (Origin::Original, false) => "received 1008",
        (_, true) => "closed the link without a reason",
        (_, false) => "unknown agent or wrong secret",
    };
    check!(agent.stderr().iter().any(|line| line.contains(words)), "{:?}", agent.stderr());
    check_echo(&mut tunnel.client(&Target::echo()), "hello")?;
    Ok(if deviates { Seen::Known("A-3") } else { Seen::Good })
}

fn name_in_use(tunnel: &mut Tunnel, mix: Mix) -> Outcome {
    if is_given(mix.agent) {
        return Ok(Seen::NotApplicable(UNSEEN_REFUSAL));
    }
    let target = Target::echo();
    let mut client = tunnel.client(&target);
    check_echo(&mut client, "before")?;
    let second = tunnel.another_agent();
    let deviates = is_original(mix.relay);
    if is_original(mix.agent) {
        let words = if deviates { "no close frame received or sent" } else { "4009" };
        second.wait_for_text(words);
    } else if !deviates {
        second.wait_for_text("in use");
    } else {
        // Without a close frame there is nothing to tell it by.
        second.wait_for_line("that its link ended", |line| line.contains(" WARN ").then_some(()));
    }
    check_echo(&mut client, "after")?;
    Ok(if deviates { Seen::Known("A-8") } else { Seen::Good })
}
