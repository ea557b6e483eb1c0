//! Bounds on memory, time and descriptors: streams that stand still end alone, slow ones go on.

use std::fs::{self, File};
use std::io::Read as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use codec::v1::{CLIENT_PATH, STALL_TIMEOUT};
use conformance::harness::frames::RawLink;
use conformance::harness::targets::Seen;
use conformance::harness::tunnel::{AGENT, Tunnel};
use conformance::harness::{Process, Target, seeded_bytes, sha256, wait_until};
use rustix::process::{Pid, Resource, Rlimit, prlimit};

const MIB: usize = 1 << 20;

#[test]
fn a_target_that_does_not_read_ends_alone() {
    let tunnel = Tunnel::ours();
    let silent = Target::silent();
    let mut stalled = tunnel.client(&silent);
    wait_until("the target is connected", || silent.accepted() == 1);
    let pipe = stalled.send_beside(seeded_bytes(8, 32 * MIB));
    let target = Target::echo();
    let mut other = tunnel.client(&target);
    other.check_echo("meanwhile");
    let line = stalled.check_failure(20);
    assert!(line.contains(AGENT) || line.contains("127.0.0.1"), "{line}");
    other.check_echo("and afterwards");
    drop(pipe);
}

#[test]
fn clients_that_do_not_read_end_alone() {
    let tunnel = Tunnel::ours();
    let flood = Target::open_source(9, 32 * MIB);
    // More than one, as a laptop that was closed has: they are given up together, not one after the other.
    let mut stalled: Vec<_> = (0..3)
        .map(|_| {
            let mut command = tunnel.client_command();
            command.args([AGENT, "127.0.0.1", &flood.port().to_string()]);
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut client = Process::start("access-client", command, true);
            let stdout = client.take_stdout();
            (client, stdout)
        })
        .collect();
    wait_until("the target is connected", || flood.accepted() == 3);
    let target = Target::echo();
    let mut other = tunnel.client(&target);
    other.check_echo("meanwhile");
    for _ in &stalled {
        // The relay gives up the stream; the agent closes the target's connection.
        flood.next_seen();
    }
    other.check_echo("and afterwards");
    // With its stdout read again, each client can say why it ends.
    for (client, stdout) in &mut stalled {
        let output = stdout.take().map(conformance::harness::Output::collect);
        assert_eq!(client.wait(), 23, "{:#?}", client.stderr());
        drop(output);
    }
}

#[test]
fn a_reader_that_is_slow_but_moves_keeps_its_stream() -> std::io::Result<()> {
    let tunnel = Tunnel::ours();
    let target = Target::source(12, 16 * MIB);
    let mut command = tunnel.client_command();
    command.args([AGENT, "127.0.0.1", &target.port().to_string()]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut client = Process::start("access-client", command, true);
    let Some(mut stdout) = client.take_stdout() else { panic!("stdout is piped") };
    let mut received = Vec::new();
    let begin = Instant::now();
    // Some 100 KiB a second, for longer than a stream may stand still. What the system holds on the way would last
    // such a reader for most of a minute.
    while begin.elapsed() < STALL_TIMEOUT + Duration::from_secs(5) {
        let mut piece = [0; 10 * 1024];
        let read = stdout.read(&mut piece)?;
        assert!(read > 0, "the stream ended: {:?}", client.stderr());
        received.extend_from_slice(&piece[..read]);
        std::thread::sleep(Duration::from_millis(100));
    }
    stdout.read_to_end(&mut received)?;
    assert_eq!(sha256(&received), sha256(&seeded_bytes(12, 16 * MIB)));
    assert_eq!(client.wait(), 0, "{:?}", client.stderr());
    Ok(())
}

#[test]
fn what_stdin_held_has_arrived_when_the_eof_timeout_ends_the_client() -> std::io::Result<()> {
    let tunnel = Tunnel::ours();
    let sent = seeded_bytes(13, 8 * MIB);
    let file = tunnel.folder().join("input");
    fs::write(&file, &sent)?;
    // It takes its time before it reads, so that everything on the way fills up.
    let target = Target::serving(move |stream| {
        std::thread::sleep(Duration::from_secs(3));
        let mut received = Vec::new();
        let read = stream.read_to_end(&mut received);
        let error = read.err().map(|error| error.kind());
        Some(Seen { length: received.len(), sha256: sha256(&received), error })
    });
    let mut command = tunnel.client_command();
    command.args(["--eof-timeout", "0.2", AGENT, "127.0.0.1", &target.port().to_string()]);
    command.stdin(File::open(&file)?).stdout(Stdio::null());
    let mut client = Process::start("access-client", command, true);
    assert_eq!(client.wait(), 0, "{:?}", client.stderr());
    let seen = target.next_seen();
    assert_eq!((seen.length, seen.error), (sent.len(), None));
    assert_eq!(seen.sha256, sha256(&sent));
    Ok(())
}

#[test]
fn descriptors_come_back() {
    let tunnel = Tunnel::ours();
    let target = Target::echo();
    tunnel.client(&target).check_echo("warm");
    let counts = || (tunnel.relay.descriptors(), tunnel.agent.descriptors());
    target.next_seen();
    let settled = |before: (usize, usize)| {
        wait_until("the descriptors are back", || {
            let now = counts();
            now.0 <= before.0 && now.1 <= before.1
        });
    };
    // Right after a first stream both may still hold one.
    let base = (counts().0.min(64), counts().1.min(64));
    for _ in 0..2 {
        let mut clients: Vec<_> = (0..20).map(|_| tunnel.client(&target)).collect();
        for client in &mut clients {
            client.check_echo("hello");
        }
        assert!(counts().0 >= base.0 + 15 && counts().1 >= base.1 + 15);
        drop(clients);
        settled(base);
    }
}

#[test]
fn a_relay_without_descriptors_accepts_nobody_for_a_while_and_harms_nobody() -> std::io::Result<()>
{
    let tunnel = Tunnel::ours();
    let target = Target::echo();
    let mut client = tunnel.client(&target);
    client.check_echo("before");
    let few = Some(tunnel.relay.descriptors() as u64 + 5);
    let limits = Rlimit { current: few, maximum: few };
    prlimit(Pid::from_raw(tunnel.relay.id().cast_signed()), Resource::Nofile, limits)?;
    // More than it can accept; the rest waits at the system.
    let waiting: Vec<_> =
        (0..20).map(|_| RawLink::dial(tunnel.port())).collect::<Result<_, _>>()?;
    tunnel.relay.wait_for_text("no new connections for now");
    client.check_echo("meanwhile");
    drop(waiting);
    tunnel.client(&target).check_echo("a new one");
    client.check_echo("after");
    let said = tunnel.relay.stderr().join("\n").matches("no new connections").count();
    assert_eq!(said, 1, "once, not in each round: {:#?}", tunnel.relay.stderr());
    Ok(())
}

#[test]
fn what_a_target_sent_before_its_end_waits_for_a_slow_reader() {
    let tunnel = Tunnel::ours();
    let target = Target::source(11, MIB);
    let mut command = tunnel.client_command();
    command.args([AGENT, "127.0.0.1", &target.port().to_string()]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut client = Process::start("access-client", command, true);
    let stdout = client.take_stdout();
    // Agent and target are long done; most of the bytes wait in the relay and in the system.
    assert_eq!(target.next_seen().error, None);
    tunnel.agent.wait_for_text("stream ended");
    let output = stdout.map(conformance::harness::Output::collect).unwrap_or_default();
    assert_eq!(sha256(&output.wait_for_end()), sha256(&seeded_bytes(11, MIB)));
    assert_eq!(client.wait(), 0, "{:?}", client.stderr());
}

#[test]
fn a_link_that_says_nothing_is_closed() -> std::io::Result<()> {
    let tunnel = Tunnel::ours();
    let mut links = Vec::new();
    for path in ["/ws_for_edge_agents", CLIENT_PATH] {
        links.push(RawLink::open(tunnel.port(), path)?);
    }
    for link in &mut links {
        assert_eq!(link.receive_message().close_code(), Some(1008));
    }
    Ok(())
}
