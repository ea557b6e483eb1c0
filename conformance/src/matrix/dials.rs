//! What happens while an agent dials a target that does not answer.

use std::fs;

use super::{IDLE, Outcome, Scenario, Seen, check_echo, check_end, hangs, idle, is_original};
use crate::harness::targets::SilentPort;
use crate::harness::tunnel::Mix;
use crate::harness::{Client, Origin, Target, Tunnel, holds_within, wait_until};

pub(super) const SCENARIOS: &[Scenario] = &[
    idle("a dial hangs beside a stream", dial_beside),
    idle("client leaves amid a dial", client_leaves_dial),
    idle("kill -9 of the agent amid a dial", kill_agent_dialling),
];

/// How many connections to a port of loopback have had no answer to their first packet yet.
fn dials(port: u16) -> usize {
    let table = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let is_dial = |line: &&str| {
        let mut fields = line.split_whitespace().skip(2);
        fields.next().is_some_and(|remote| remote.ends_with(&format!(":{port:04X}")))
            && fields.next() == Some("02")
    };
    table.lines().filter(is_dial).count()
}

/// A client whose agent dials in vain, the port it dials, and how many dials were there before.
fn dial_in_vain(tunnel: &Tunnel) -> Result<(Client, SilentPort, usize), String> {
    let silent = SilentPort::new().map_err(|error| error.to_string())?;
    let before = dials(silent.port());
    let client = tunnel.client_to("127.0.0.1", &silent.port().to_string());
    wait_until("the agent dials", || dials(silent.port()) > before);
    Ok((client, silent, before))
}

fn dial_beside(tunnel: &mut Tunnel, mix: Mix) -> Outcome {
    let target = Target::echo();
    let mut beside = tunnel.client(&target);
    check_echo(&mut beside, "before")?;
    let (mut hanging, silent, _) = dial_in_vain(tunnel)?;
    if is_original(mix.agent) {
        beside.send(b"meanwhile");
        let came = holds_within(IDLE, || beside.output.len() > 6);
        check!(!came, "the original's agent goes on while it dials after all");
    } else {
        check_echo(&mut beside, "meanwhile")?;
        check_echo(&mut tunnel.client(&target), "a new one")?;
    }
    check!(hanging.process.ended().is_none(), "{:?}", hanging.process.stderr());
    // Now it is refused, with the next packet that the system sends.
    drop(silent);
    check_end(mix, &mut hanging, 14, "Error initiating connection: ")?;
    check_echo(&mut tunnel.client(&target), "after")?;
    Ok(if is_original(mix.agent) { Seen::Known("S-6") } else { Seen::Good })
}

fn client_leaves_dial(tunnel: &mut Tunnel, mix: Mix) -> Outcome {
    let (mut client, silent, before) = dial_in_vain(tunnel)?;
    client.process.kill();
    let goes_on = || !holds_within(IDLE, || dials(silent.port()) <= before);
    let expected = match (mix.relay, mix.agent) {
        (Origin::Original, _) => Seen::Known("S-15"),
        (_, Origin::Original) => Seen::Known("S-6"),
        _ => Seen::Good,
    };
    if expected == Seen::Good {
        wait_until("the agent dials no more", || dials(silent.port()) <= before);
    } else {
        check!(goes_on(), "the original lets go of the dial after all");
    }
    drop(silent);
    check_echo(&mut tunnel.client(&Target::echo()), "after")?;
    Ok(expected)
}

fn kill_agent_dialling(tunnel: &mut Tunnel, mix: Mix) -> Outcome {
    let (mut client, silent, _) = dial_in_vain(tunnel)?;
    tunnel.agent.kill();
    let deviates = is_original(mix.relay);
    if deviates {
        check!(hangs(&mut client), "the original's relay answers for a lost agent after all");
    } else {
        check_end(mix, &mut client, 19, "Error initiating connection: agent disconnected")?;
    }
    drop(silent);
    tunnel.restart_agent();
    tunnel.wait_for_agent();
    check_echo(&mut tunnel.client(&Target::echo()), "again")?;
    Ok(if deviates { Seen::Known("X-11") } else { Seen::Good })
}
