//! The end of a stream, from either side.

use std::fs::{self, File};
use std::process::Stdio;

use rustix::process::Signal;

use super::transfers::wait_long;
use super::{
    IDLE, MIB, Outcome, Scenario, Seen, check_echo, check_end, hangs, idle, is_given, is_original,
};
use crate::harness::tunnel::{Ask, Mix};
use crate::harness::{
    Origin, Output, Process, Target, Tunnel, holds_within, seeded_bytes, sha256, wait_until,
};

pub(super) const SCENARIOS: &[Scenario] = &[
    idle("target ends after 1 MiB", |tunnel, mix| target_ends(tunnel, mix, MIB)),
    idle("target ends after 16 MiB", |tunnel, mix| target_ends(tunnel, mix, 16 * MIB)),
    idle("target resets", target_resets),
    idle("stdin ends", stdin_ends),
    idle("stdin is a file", stdin_file),
    idle("stdin is /dev/null", stdin_null),
    idle("SIGINT to the client: target gets all", |tunnel, mix| {
        end_client(tunnel, mix, Signal::INT)
    }),
    idle("SIGTERM to the client", |tunnel, mix| end_client(tunnel, mix, Signal::TERM)),
];

fn target_ends(tunnel: &mut Tunnel, mix: Mix, length: usize) -> Outcome {
    let target = Target::source(3, length);
    let mut client = tunnel.client(&target);
    let got = wait_long(&client, length);
    check!(got == seeded_bytes(3, length), "{} bytes: {:?}", got.len(), client.process.stderr());
    if is_original(mix.agent) {
        check!(hangs(&mut client), "the original's agent reports the target's end after all");
        return Ok(Seen::Known("X-10"));
    }
    check_end(mix, &mut client, 0, "received 1000 (OK)")?;
    check!(client.output.wait_for_end().len() == length, "more came than was sent");
    Ok(Seen::Good)
}

fn target_resets(tunnel: &mut Tunnel, mix: Mix) -> Outcome {
    let target = Target::resetting_after(4);
    let mut client = tunnel.client(&target);
    client.send(b"1234");
    if is_original(mix.agent) {
        check!(hangs(&mut client), "the original's agent reports the reset after all");
        return Ok(Seen::Known("X-10"));
    }
    if is_original(mix.relay) {
        check_end(mix, &mut client, 0, "received 1000 (OK)")?;
        return Ok(Seen::Known("X-1"));
    }
    check_end(mix, &mut client, 20, "received 4001")?;
    Ok(Seen::Good)
}

/// A client with this stdin.
fn client_with_stdin(
    tunnel: &Tunnel,
    mix: Mix,
    target: &Target,
    stdin: Stdio,
) -> (Process, Output) {
    let port = target.port().to_string();
    let mut command = tunnel.client_command_for(&Ask { port: &port, ..Ask::default() });
    command.stdin(stdin).stdout(Stdio::piped());
    let mut process = Process::start("access-client", command, mix.client == Origin::Ours);
    let output = process.collect_stdout();
    (process, output)
}

fn stdin_ends(tunnel: &mut Tunnel, _: Mix) -> Outcome {
    let target = Target::checksum(8);
    let mut client = tunnel.client(&target);
    client.send(b"question");
    client.close_stdin();
    let expected = format!("{}\n", sha256(b"question"));
    let got = client.output.wait_for(expected.len());
    check!(got == expected.as_bytes(), "{got:?} {:?}", client.process.stderr());
    check!(hangs(&mut client), "the end of stdin ends the stream: {:?}", client.process.stderr());
    Ok(Seen::Good)
}

fn stdin_file(tunnel: &mut Tunnel, mix: Mix) -> Outcome {
    let sent = seeded_bytes(5, 100_000);
    let path = tunnel.folder().join("input");
    let file = fs::write(&path, &sent).and_then(|()| File::open(&path));
    let file = file.map_err(|error| error.to_string())?;
    let target = Target::checksum(sent.len());
    let (process, output) = client_with_stdin(tunnel, mix, &target, file.into());
    if is_original(mix.client) {
        wait_until("the target is connected", || target.accepted() == 1);
        let came = holds_within(IDLE, || !output.is_empty());
        check!(!came, "the original's client sends a file after all");
        return Ok(Seen::Known("not the wire"));
    }
    let got = output.wait_for(65);
    check!(String::from_utf8_lossy(&got).trim_end() == sha256(&sent), "{:?}", process.stderr());
    Ok(Seen::Good)
}

fn stdin_null(tunnel: &mut Tunnel, mix: Mix) -> Outcome {
    let target = Target::open_source(6, 100_000);
    let (mut process, output) = client_with_stdin(tunnel, mix, &target, Stdio::null());
    let got = output.wait_for(100_000);
    check!(got == seeded_bytes(6, 100_000), "{} bytes: {:?}", got.len(), process.stderr());
    check!(process.ended().is_none(), "{:?}", process.stderr());
    Ok(Seen::Good)
}

fn end_client(tunnel: &mut Tunnel, mix: Mix, signal: Signal) -> Outcome {
    let target = Target::sink();
    let mut client = tunnel.client(&target);
    // Small enough to be under way at once; an original client has no way to finish what it has not sent.
    let sent = seeded_bytes(4, 20_000);
    client.send(&sent);
    wait_until("the client is connected", || target.accepted() == 1);
    wait_until("the client has sent its stdin", || target.received() == sent.len());
    client.process.signal(signal);
    let seen = target.next_seen();
    check!(seen.length == sent.len() && seen.error.is_none(), "{seen:?}");
    let expected = if is_original(mix.client) { -signal.as_raw() } else { 128 + signal.as_raw() };
    let status = client.process.wait();
    // Which status a signal comes to is for each program to say.
    check!(is_given(mix.client) || status == expected, "status {status} instead of {expected}");
    check_echo(&mut tunnel.client(&Target::echo()), "another")?;
    Ok(Seen::Good)
}
