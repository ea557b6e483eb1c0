//! A party that ends amid a stream, and its return.

use rustix::process::Signal;

use super::refusals::wait_for_attempts;
use super::{Outcome, Scenario, Seen, check_echo, check_end, idle, is_given, is_original};
use crate::harness::tunnel::Mix;
use crate::harness::{Target, Tunnel};

pub(super) const SCENARIOS: &[Scenario] = &[
    idle("kill -9 of the client", kill_client),
    idle("kill -9 of the agent, and back", |tunnel, mix| end_agent(tunnel, mix, Signal::KILL)),
    idle("SIGTERM to the agent, and back", |tunnel, mix| end_agent(tunnel, mix, Signal::TERM)),
    idle("SIGINT to the agent, and back", |tunnel, mix| end_agent(tunnel, mix, Signal::INT)),
    idle("another agent takes over", take_over),
    idle("kill -9 of the relay, and back", kill_relay),
    idle("SIGTERM to the relay, and back", |tunnel, mix| end_relay(tunnel, mix, Signal::TERM)),
    idle("SIGINT to the relay, and back", |tunnel, mix| end_relay(tunnel, mix, Signal::INT)),
];

fn kill_client(tunnel: &mut Tunnel, _: Mix) -> Outcome {
    let target = Target::echo();
    let mut client = tunnel.client(&target);
    check_echo(&mut client, "hello")?;
    client.process.kill();
    let seen = target.next_seen();
    check!(seen.error.is_none(), "{seen:?}");
    Ok(Seen::Good)
}

fn end_agent(tunnel: &mut Tunnel, mix: Mix, signal: Signal) -> Outcome {
    let target = Target::echo();
    let mut client = tunnel.client(&target);
    check_echo(&mut client, "hello")?;
    tunnel.agent.signal(signal);
    let deviates = is_original(mix.relay);
    let (status, words) = if deviates { (0, "received 1000 (OK)") } else { (19, "received 4014") };
    check_end(mix, &mut client, status, words)?;
    target.next_seen();
    let is_killed = signal == Signal::KILL || is_original(mix.agent);
    let (status, expected) = (tunnel.agent.wait(), if is_killed { -signal.as_raw() } else { 0 });
    let is_any = is_given(mix.agent) && signal != Signal::KILL;
    check!(is_any || status == expected, "status {status} of the agent instead of {expected}");
    tunnel.restart_agent();
    tunnel.wait_for_agent();
    check_echo(&mut tunnel.client(&target), "again")?;
    Ok(if deviates { Seen::Known("X-11") } else { Seen::Good })
}

/// An agent that was refused because of its name takes the place of the holder that dies.
fn take_over(tunnel: &mut Tunnel, mix: Mix) -> Outcome {
    let second = tunnel.another_agent();
    if !is_given(mix.agent) {
        wait_for_attempts(&second, mix.agent, 1);
    }
    tunnel.agent.kill();
    tunnel.wait_for_agent();
    check_echo(&mut tunnel.client(&Target::echo()), "from the second")?;
    Ok(Seen::Good)
}

fn kill_relay(tunnel: &mut Tunnel, mix: Mix) -> Outcome {
    let target = Target::echo();
    let mut client = tunnel.client(&target);
    check_echo(&mut client, "hello")?;
    tunnel.relay.kill();
    check_end(mix, &mut client, 18, "no close frame received or sent")?;
    target.next_seen();
    tunnel.restart_relay();
    tunnel.wait_for_agent();
    check_echo(&mut tunnel.client(&target), "again")?;
    Ok(Seen::Good)
}

fn end_relay(tunnel: &mut Tunnel, mix: Mix, signal: Signal) -> Outcome {
    let target = Target::echo();
    let mut client = tunnel.client(&target);
    check_echo(&mut client, "hello")?;
    tunnel.relay.signal(signal);
    check_end(mix, &mut client, 18, "received 1012")?;
    if !is_original(mix.relay) {
        let status = tunnel.relay.wait();
        check!(is_given(mix.relay) || status == 0, "status {status} of the relay");
    }
    // The original's hangs after it has served a stream; restarting kills it.
    tunnel.restart_relay();
    tunnel.wait_for_agent();
    check_echo(&mut tunnel.client(&target), "again")?;
    Ok(Seen::Good)
}
