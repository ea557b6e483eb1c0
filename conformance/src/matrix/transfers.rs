//! Data, both ways.

use std::net::{Ipv6Addr, TcpListener};
use std::thread;
use std::time::Duration;

use super::{MIB, Outcome, Scenario, Seen, busy, check_echo, idle};
use crate::harness::tunnel::Mix;
use crate::harness::{Client, Target, Tunnel, seeded_bytes, sha256};

pub(super) const SCENARIOS: &[Scenario] = &[
    busy("echo of a line", echo),
    busy("1 MiB to the target, sha256", |tunnel, _| upload(tunnel, MIB)),
    busy("1 MiB from the target, sha256", |tunnel, _| download(tunnel, MIB)),
    busy("64 MiB to the target, sha256", |tunnel, _| upload(tunnel, 64 * MIB)),
    busy("64 MiB from the target, sha256", |tunnel, _| download(tunnel, 64 * MIB)),
    busy("50 concurrent streams", fifty_streams),
    idle("target speaks first", greeting),
    idle("target by IPv6", ipv6_target),
    idle("target by name", named_target),
    idle("idle for 35 s", idle_link),
];

fn echo(tunnel: &mut Tunnel, _: Mix) -> Outcome {
    let target = Target::echo();
    check_echo(&mut tunnel.client(&target), "hello\n")?;
    Ok(Seen::Good)
}

fn upload(tunnel: &mut Tunnel, length: usize) -> Outcome {
    let sent = seeded_bytes(1, length);
    let expected = sha256(&sent);
    let target = Target::checksum(length);
    let mut client = tunnel.client(&target);
    let pipe = client.send_beside(sent);
    let got = wait_long(&client, 65);
    check!(
        String::from_utf8_lossy(&got).trim_end() == expected,
        "{got:?} {:?}",
        client.process.stderr()
    );
    drop(pipe);
    Ok(Seen::Good)
}

/// Waits for this many bytes of output. A long transfer may take longer than one deadline, but not much.
pub(super) fn wait_long(client: &Client, length: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..5 {
        bytes = client.output.wait_for(length);
        if bytes.len() >= length {
            break;
        }
    }
    bytes
}

fn download(tunnel: &mut Tunnel, length: usize) -> Outcome {
    // The target stays open: its end is another scenario.
    let target = Target::open_source(2, length);
    let client = tunnel.client(&target);
    let got = wait_long(&client, length);
    check!(got.len() == length, "{} of {length} bytes: {:?}", got.len(), client.process.stderr());
    check!(sha256(&got) == sha256(&seeded_bytes(2, length)), "other bytes");
    Ok(Seen::Good)
}

fn fifty_streams(tunnel: &mut Tunnel, _: Mix) -> Outcome {
    let target = Target::echo();
    let mut clients: Vec<_> = (0..50).map(|_| tunnel.client(&target)).collect();
    let sent = |index: usize| seeded_bytes(100 + index as u64, 40_000);
    let mut pipes = Vec::new();
    for (index, client) in clients.iter_mut().enumerate() {
        pipes.push(client.send_beside(sent(index)));
    }
    for (index, client) in clients.iter().enumerate() {
        let got = client.output.wait_for(40_000);
        check!(
            got == sent(index),
            "stream {index}: {} bytes, {:?}",
            got.len(),
            client.process.stderr()
        );
    }
    Ok(Seen::Good)
}

fn greeting(tunnel: &mut Tunnel, _: Mix) -> Outcome {
    let target = Target::greeting("SSH-2.0-test\r\n");
    let mut client = tunnel.client(&target);
    let got = client.output.wait_for(14);
    check!(got == b"SSH-2.0-test\r\n", "{got:?} {:?}", client.process.stderr());
    check_echo(&mut client, "more")?;
    Ok(Seen::Good)
}

fn ipv6_target(tunnel: &mut Tunnel, _: Mix) -> Outcome {
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        return Ok(Seen::NotApplicable("there is no ::1"));
    }
    let target = Target::echo_at(Ipv6Addr::LOCALHOST.into());
    check_echo(&mut tunnel.client_to("::1", &target.port().to_string()), "hello\n")?;
    Ok(Seen::Good)
}

fn named_target(tunnel: &mut Tunnel, _: Mix) -> Outcome {
    // A name with two addresses, of which only one answers.
    let target = Target::echo();
    check_echo(&mut tunnel.client_to("localhost", &target.port().to_string()), "hello\n")?;
    Ok(Seen::Good)
}

/// Longer than any party's interval of pings or keep-alives, and no longer than it takes to miss a first pong.
fn idle_link(tunnel: &mut Tunnel, _: Mix) -> Outcome {
    let target = Target::echo();
    let mut client = tunnel.client(&target);
    check_echo(&mut client, "before")?;
    thread::sleep(Duration::from_secs(35));
    check_echo(&mut client, "after")?;
    check_echo(&mut tunnel.client(&target), "a new one")?;
    Ok(Seen::Good)
}
