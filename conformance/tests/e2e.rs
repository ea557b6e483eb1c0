//! The three real programs together: transfers, every way to fail, every order of ending.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::process::Stdio;

use codec::v1::{CLIENT_PATH, CLOSE_NAME_IN_USE};
use conformance::harness::frames::{RawLink, upgrade};
use conformance::harness::targets::{RefusingPort, SilentPort};
use conformance::harness::tunnel::{
    AGENT, AGENT_SECRET, Client, OTHER_AGENT, Tunnel, agent_command, agent_start, client_command,
    start_agent,
};
use conformance::harness::{
    Origin, Process, Target, holds_within, seeded_bytes, sha256, wait_until,
};
use rustix::fs::{Mode, OFlags};
use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

const MIB: usize = 1 << 20;

// ---- data ----

#[test]
fn bytes_arrive_unchanged_in_both_directions() {
    let tunnel = Tunnel::ours();
    let sent = seeded_bytes(1, 16 * MIB);
    let target = Target::checksum(sent.len());
    let mut up = tunnel.client(&target);
    let expected = sha256(&sent);
    let pipe = up.send_beside(sent);
    assert_eq!(String::from_utf8_lossy(&up.output.wait_for(65)).trim_end(), expected);
    drop(pipe);

    let target = Target::source(2, 16 * MIB);
    let mut down = tunnel.client(&target);
    let received = down.output.wait_for_end();
    assert_eq!(received.len(), 16 * MIB);
    assert_eq!(sha256(&received), sha256(&seeded_bytes(2, 16 * MIB)));
    down.check_end(0);
}

#[test]
fn fifty_streams_at_a_time_keep_apart() {
    let tunnel = Tunnel::ours();
    let target = Target::echo();
    let mut clients: Vec<_> = (0..50).map(|_| tunnel.client(&target)).collect();
    let sent = |index: usize| seeded_bytes(100 + index as u64, 100_000);
    let pipes: Vec<_> = clients
        .iter_mut()
        .enumerate()
        .map(|(index, client)| client.send_beside(sent(index)))
        .collect();
    for (index, client) in clients.iter().enumerate() {
        let received = client.output.wait_for(100_000);
        assert_eq!(sha256(&received), sha256(&sent(index)), "stream {index}");
    }
    drop(pipes);
}

#[test]
fn the_target_may_speak_first() {
    let tunnel = Tunnel::ours();
    let target = Target::greeting("SSH-2.0-test\r\n");
    let mut client = tunnel.client(&target);
    assert_eq!(client.output.wait_for(14), b"SSH-2.0-test\r\n");
    client.check_echo("and goes on");
}

// ---- refusals ----

#[test]
fn a_wrong_secret_is_refused() {
    let tunnel = Tunnel::ours();
    let canary = "canary-wrong-9e107d9d";
    let mut command = tunnel.client_command();
    command.env("HTTP_NETWORK_RELAY_SECRET", canary).args([AGENT, "127.0.0.1", "1", "tcp"]);
    let line = Client::start(command, Origin::Ours).check_failure(12);
    let expected = format!(
        "access-client: {} refused the secret (check it against access-client-secrets there)",
        tunnel.client_url()
    );
    assert_eq!(line, expected);
    tunnel.relay.wait_for_text("wrong client secret");
    let log = tunnel.relay.stderr();
    assert!(!log.iter().any(|line| line.contains(canary)), "{log:#?}");
}

#[test]
fn an_unknown_agent_and_an_absent_one_are_refused_alike() {
    let tunnel = Tunnel::ours();
    for agent in ["nobody", OTHER_AGENT.0] {
        let mut command = tunnel.client_command();
        command.args([agent, "127.0.0.1", "1", "tcp"]);
        let line = Client::start(command, Origin::Ours).check_failure(13);
        assert!(line.contains(&format!("agent \"{agent}\" is not connected")), "{line}");
    }
}

#[test]
fn targets_that_cannot_be_reached_are_told_apart() -> std::io::Result<()> {
    let tunnel = Tunnel::ours();
    let refusing = RefusingPort::new()?;
    let silent = SilentPort::new()?;
    for (host, port, status, word) in [
        ("127.0.0.1", refusing.port(), 14, "refused"),
        ("localhost", refusing.port(), 14, "refused"),
        ("no-such-host.invalid", 22, 15, "no-such-host.invalid"),
        ("255.255.255.255", 22, 15, "255.255.255.255"),
        ("127.0.0.1", silent.port(), 16, "timed out"),
    ] {
        let mut client = tunnel.client_to(host, &port.to_string());
        let line = client.check_failure(status);
        assert!(line.contains(word), "{host}:{port}: {line}");
        assert!(client.output.is_empty());
    }
    let mut command = tunnel.client_command();
    command.args([AGENT, "127.0.0.1", "22", "udp"]);
    let line = Client::start(command, Origin::Ours).check_failure(15);
    assert!(line.contains("udp"), "{line}");
    Ok(())
}

#[test]
fn a_relay_that_is_not_there_or_is_something_else_is_told() -> std::io::Result<()> {
    let refusing = RefusingPort::new()?;
    let web_server = Target::serving(|stream| {
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
        None
    });
    let tunnel = Tunnel::ours();
    for (url, status) in [
        (format!("ws://127.0.0.1:{}{CLIENT_PATH}", refusing.port()), 10),
        (format!("ws://no-such-host.invalid{CLIENT_PATH}"), 10),
        (format!("wss://127.0.0.1:{}{CLIENT_PATH}", tunnel.port()), 10),
        (format!("ws://{}/", web_server.address()), 11),
        (format!("ws://127.0.0.1:{}/elsewhere", tunnel.port()), 11),
    ] {
        let mut command = client_command(Origin::Ours, &url);
        command.args([AGENT, "127.0.0.1", "1", "tcp"]);
        let line = Client::start(command, Origin::Ours).check_failure(status);
        assert!(line.contains("127.0.0.1") || line.contains("no-such-host"), "{line}");
    }
    Ok(())
}

#[test]
fn an_agent_that_is_lost_while_it_dials_answers_its_client() -> std::io::Result<()> {
    let mut tunnel = Tunnel::ours();
    let silent = SilentPort::new()?;
    let mut client = tunnel.client_to("127.0.0.1", &silent.port().to_string());
    tunnel.relay.wait_for_text(&format!("127.0.0.1:{}", silent.port()));
    tunnel.agent.kill();
    let line = client.check_failure(19);
    assert!(line.contains(AGENT), "{line}");
    Ok(())
}

#[test]
fn a_dial_that_hangs_holds_up_no_other() -> std::io::Result<()> {
    let tunnel = Tunnel::ours();
    let silent = SilentPort::new()?;
    let mut hanging = tunnel.client_to("127.0.0.1", &silent.port().to_string());
    tunnel.relay.wait_for_text(&format!("127.0.0.1:{}", silent.port()));
    let target = Target::echo();
    let mut other = tunnel.client(&target);
    other.check_echo("meanwhile");
    let ended = hanging.process.ended();
    assert!(ended.is_none(), "it was to hang still: {ended:?} {:?}", hanging.process.stderr());
    Ok(())
}

// ---- endings ----

#[test]
fn the_targets_end_is_the_clients_end() {
    let tunnel = Tunnel::ours();
    let target = Target::source(3, 100_000);
    let mut client = tunnel.client(&target);
    assert_eq!(client.output.wait_for_end().len(), 100_000);
    assert!(client.check_end(0).is_empty());
    // The target, which had ended only its side, learns of the end.
    assert_eq!(target.next_seen().error, None);
}

#[test]
fn a_target_that_ends_at_once_is_a_clean_end() {
    let tunnel = Tunnel::ours();
    let target = Target::source(3, 0);
    let mut client = tunnel.client(&target);
    assert_eq!(client.output.wait_for_end(), b"");
    client.check_end(0);
}

#[test]
fn a_reset_of_the_target_is_reported() {
    let tunnel = Tunnel::ours();
    let target = Target::resetting_after(4);
    let mut client = tunnel.client(&target);
    client.send(b"1234");
    client.check_failure(20);
}

#[test]
fn what_the_client_sent_before_its_end_arrives() {
    let tunnel = Tunnel::ours();
    for signal in [Signal::HUP, Signal::INT, Signal::TERM] {
        let target = Target::sink();
        let mut client = tunnel.client(&target);
        let sent = seeded_bytes(4, 200_000);
        client.send(&sent);
        // It has read all of it, which is when the pipe is empty.
        wait_until("the client has read its stdin", || unread(&client) == Some(0));
        client.process.signal(signal);
        assert_eq!(client.process.wait(), 128 + signal.as_raw());
        assert!(client.process.stderr_at_end().is_empty(), "signals end it quietly");
        let seen = target.next_seen();
        assert_eq!((seen.length, seen.error), (sent.len(), None), "{signal:?}");
    }
}

/// How many bytes lie in the pipe to a client's stdin.
fn unread(client: &Client) -> Option<u64> {
    let pipe = File::open(format!("/proc/{}/fd/0", client.process.id())).ok()?;
    rustix::io::ioctl_fionread(&pipe).ok()
}

#[test]
fn the_end_of_stdin_ends_nothing() {
    let tunnel = Tunnel::ours();
    let target = Target::serving(|stream| {
        // Answers after it has everything; it is the target that ends the stream.
        let mut question = [0; 8];
        stream.read_exact(&mut question).ok()?;
        stream.write_all(b"answer to ").and_then(|()| stream.write_all(&question)).ok()?;
        stream.shutdown(std::net::Shutdown::Write).ok()?;
        None
    });
    let mut client = tunnel.client(&target);
    client.send(b"question");
    client.close_stdin();
    assert_eq!(client.output.wait_for_end(), b"answer to question");
    client.check_end(0);
}

#[test]
fn after_the_end_of_stdin_and_a_time_of_silence_the_client_may_end() {
    let tunnel = Tunnel::ours();
    let target = Target::echo();
    let mut command = tunnel.client_command();
    command.args(["--eof-timeout", "0.2", AGENT, "127.0.0.1", &target.port().to_string()]);
    let mut client = Client::start(command, Origin::Ours);
    client.check_echo("before");
    client.close_stdin();
    client.check_end(0);
    assert_eq!(target.next_seen().length, 6);
}

#[test]
fn stdin_may_be_a_file_or_nothing_or_closed() -> std::io::Result<()> {
    let tunnel = Tunnel::ours();
    let sent = seeded_bytes(5, 300_000);
    let file = tunnel.folder().join("input");
    fs::write(&file, &sent)?;
    let target = Target::checksum(sent.len());
    let start = |stdin: Stdio, target: &Target| {
        let mut command = tunnel.client_command();
        command.args([AGENT, "127.0.0.1", &target.port().to_string()]);
        command.stdin(stdin).stdout(Stdio::piped());
        let mut process = Process::start("access-client", command, true);
        (process.collect_stdout(), process)
    };
    let (output, process) = start(File::open(&file)?.into(), &target);
    assert_eq!(String::from_utf8_lossy(&output.wait_for(65)).trim_end(), sha256(&sent));
    drop(process);

    let source = Target::source(6, 1000);
    let (output, mut process) = start(Stdio::null(), &source);
    assert_eq!(output.wait_for_end(), seeded_bytes(6, 1000));
    assert_eq!(process.wait(), 0);

    // A shell can start it with no stdin at all.
    let client = tunnel.client_command();
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", r#"exec "$@" <&-"#, "sh"]).arg(client.get_program()).args(client.get_args());
    shell.args([AGENT, "127.0.0.1", &source.port().to_string()]);
    shell.envs(client.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.stdout(Stdio::piped());
    let mut process = Process::start("access-client", shell, true);
    assert_eq!(process.collect_stdout().wait_for_end(), seeded_bytes(6, 1000));
    assert_eq!(process.wait(), 0, "{:?}", process.stderr());
    Ok(())
}

#[test]
fn stdin_may_be_a_terminal() -> std::io::Result<()> {
    let tunnel = Tunnel::ours();
    // Takes two lines, then ends: the client ends too, though nobody has left its terminal.
    let target = Target::serving(|stream| {
        let mut lines = [0; 12];
        stream.read_exact(&mut lines).ok()?;
        stream.write_all(&lines).ok()?;
        stream.shutdown(std::net::Shutdown::Write).ok()?;
        None
    });
    let mut keyboard = File::from(openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?);
    grantpt(&keyboard)?;
    unlockpt(&keyboard)?;
    let name = ptsname(&keyboard, Vec::new())?;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let terminal = File::from(rustix::fs::open(&name, flags, Mode::empty())?);
    let mut command = tunnel.client_command();
    command.args([AGENT, "127.0.0.1", &target.port().to_string()]);
    command.stdin(terminal.try_clone()?).stdout(Stdio::piped());
    let mut process = Process::start("access-client", command, true);
    let output = process.collect_stdout();
    keyboard.write_all(b"hello\n")?;
    wait_until("the target is connected", || target.accepted() == 1);
    // The mode of a terminal is its other users', too.
    assert!(!rustix::fs::fcntl_getfl(&terminal)?.contains(OFlags::NONBLOCK));
    keyboard.write_all(b"again\n")?;
    assert_eq!(output.wait_for_end(), b"hello\nagain\n");
    assert_eq!(process.wait(), 0, "{:?}", process.stderr());
    Ok(())
}

#[test]
fn a_closed_stdout_ends_the_client() -> std::io::Result<()> {
    let tunnel = Tunnel::ours();
    let target = Target::open_source(7, 4 * MIB);
    let mut command = tunnel.client_command();
    command.args([AGENT, "127.0.0.1", &target.port().to_string()]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = Process::start("access-client", command, true);
    let Some(mut stdout) = process.take_stdout() else { panic!("stdout is piped") };
    stdout.read_exact(&mut [0; 1000])?;
    drop(stdout);
    assert_eq!(process.wait(), 22, "{:?}", process.stderr());
    assert_eq!(process.stderr_at_end().len(), 1);
    target.next_seen();
    Ok(())
}

#[test]
fn a_stdout_that_closes_without_data_ends_the_client() {
    let tunnel = Tunnel::ours();
    let target = Target::echo();
    let mut command = tunnel.client_command();
    command.args([AGENT, "127.0.0.1", &target.port().to_string()]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = Process::start("access-client", command, true);
    wait_until("the target is connected", || target.accepted() == 1);
    drop(process.take_stdout());
    assert_eq!(process.wait(), 22, "{:?}", process.stderr());
}

// ---- losses ----

#[test]
fn a_killed_agent_is_an_agent_lost() {
    let mut tunnel = Tunnel::ours();
    let target = Target::echo();
    let mut client = tunnel.client(&target);
    client.check_echo("hello");
    tunnel.agent.kill();
    let line = client.check_failure(19);
    assert!(line.contains(AGENT), "{line}");
    tunnel.restart_agent();
    tunnel.wait_for_agent();
    tunnel.client(&target).check_echo("again");
}

#[test]
fn a_killed_relay_is_a_relay_lost_and_the_agent_comes_back() {
    let mut tunnel = Tunnel::ours();
    let target = Target::echo();
    let mut client = tunnel.client(&target);
    client.check_echo("hello");
    tunnel.relay.kill();
    client.check_failure(18);
    // Without waiting for the relay, the agent lets go of the target.
    target.next_seen();
    tunnel.restart_relay();
    tunnel.wait_for_agent();
    tunnel.client(&target).check_echo("again");
}

#[test]
fn a_killed_client_frees_the_target() {
    let tunnel = Tunnel::ours();
    let target = Target::echo();
    let mut client = tunnel.client(&target);
    client.check_echo("hello");
    client.process.kill();
    let seen = target.next_seen();
    assert_eq!((seen.length, seen.error), (5, None));
}

#[test]
fn signals_end_the_relay_cleanly() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut tunnel = Tunnel::ours();
        let target = Target::echo();
        let mut client = tunnel.client(&target);
        client.check_echo("hello");
        tunnel.relay.signal(signal);
        assert_eq!(tunnel.relay.wait(), 0);
        let line = client.check_failure(18);
        assert!(line.contains("relay"), "{line}");
        assert!(tunnel.agent.ended().is_none(), "the agent stays");
    }
}

#[test]
fn signals_end_the_agent_cleanly() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut tunnel = Tunnel::ours();
        let target = Target::echo();
        let mut client = tunnel.client(&target);
        client.check_echo("hello");
        tunnel.agent.signal(signal);
        assert_eq!(tunnel.agent.wait(), 0);
        client.check_failure(19);
        target.next_seen();
    }
}

#[test]
fn an_agent_without_a_relay_ends_at_a_signal() -> std::io::Result<()> {
    let nowhere = RefusingPort::new()?;
    let mut agent = start_agent(Origin::Ours, nowhere.port(), &[]);
    agent.wait_for_text("refused");
    agent.signal(Signal::TERM);
    assert_eq!(agent.wait(), 0);
    Ok(())
}

// ---- names ----

#[test]
fn a_name_in_use_stays_with_the_agent_that_answers() -> std::io::Result<()> {
    let tunnel = Tunnel::ours();
    let target = Target::echo();
    let mut client = tunnel.client(&target);
    client.check_echo("hello");
    // More than once: a first claim must not weaken the holder.
    for _ in 0..3 {
        let mut second = RawLink::open(tunnel.port(), "/ws_for_edge_agents")?;
        second.send_inner(&agent_start(AGENT, AGENT_SECRET))?;
        assert_eq!(second.receive_message().close_code(), Some(CLOSE_NAME_IN_USE));
    }
    client.check_echo("still there");
    let second = Process::start("second", agent_command(Origin::Ours, tunnel.port()), true);
    second.wait_for_text("in use");
    client.check_echo("and still");
    Ok(())
}

#[test]
fn a_name_passes_on_from_an_agent_that_is_silent() {
    let tunnel = Tunnel::ours();
    let target = Target::echo();
    tunnel.agent.signal(Signal::STOP);
    let second = start_agent(Origin::Ours, tunnel.port(), &[]);
    // Only the second can answer.
    let mut client = tunnel.client(&target);
    let connected = holds_within(conformance::harness::DEADLINE, || {
        if client.process.ended().is_some() {
            client = tunnel.client(&target);
        }
        target.accepted() == 1
    });
    assert!(connected, "{:#?}", tunnel.relay.stderr());
    client.check_echo("hello");
    tunnel.agent.signal(Signal::CONT);
    // The first one comes back, and is told.
    tunnel.agent.wait_for_text("in use");
    client.check_echo("and still");
    drop(second);
}

// ---- HTTP ----

#[test]
fn the_relay_answers_plain_http() -> std::io::Result<()> {
    let tunnel = Tunnel::ours();
    let plain =
        |request: &str| format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    for (request, status, body) in [
        (plain("GET /healthz"), "200", "ok\n"),
        (plain("GET /"), "404", r#"{"detail":"Not Found"}"#),
        (plain("GET /ws_for_edge_agents"), "404", r#"{"detail":"Not Found"}"#),
        (upgrade("/elsewhere"), "403", ""),
        (upgrade("/ws_for_edge_agents/"), "403", ""),
        (upgrade(CLIENT_PATH).replace("Version: 13", "Version: 12"), "400", ""),
        (upgrade(CLIENT_PATH).replace("GET", "POST"), "400", ""),
        ("this is not HTTP\r\n\r\n".to_owned(), "400", ""),
    ] {
        let mut link = RawLink::dial(tunnel.port())?;
        link.write(request.as_bytes())?;
        let mut answer = String::new();
        link.stream().read_to_string(&mut answer)?;
        let line = answer.lines().next().unwrap_or_default();
        assert_eq!(line.split(' ').nth(1), Some(status), "{request}{answer}");
        if !body.is_empty() {
            assert!(answer.ends_with(&format!("\r\n\r\n{body}")), "{request}{answer}");
        }
    }
    Ok(())
}
