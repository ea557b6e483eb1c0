//! The relay as a process that is told to stop, and that takes over the socket of another.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use codec::v1::{AGENT_PATH, CLIENT_PATH};
use codec::v2::{self, Control, Hello, Role};
use conformance::harness::frames::{RawLink, Received, upgrade};
use conformance::harness::tunnel::{AGENT, AGENT_SECRET, start_relay, write_credentials};
use conformance::harness::{Origin, Process};
use rustix::process::Signal;

fn relay(arguments: &[&str]) -> io::Result<(tempfile::TempDir, Process, u16)> {
    let folder = tempfile::tempdir()?;
    write_credentials(folder.path());
    let (relay, port) = start_relay(Origin::Ours, folder.path(), 0, arguments);
    Ok((folder, relay, port))
}

/// An agent of protocol v2 that the relay has welcomed.
fn agent(port: u16) -> io::Result<RawLink> {
    let mut link = RawLink::dial(port)?;
    let offer = format!("\r\nSec-WebSocket-Protocol: {}\r\n\r\n", v2::SUBPROTOCOL);
    link.write(upgrade(AGENT_PATH).replace("\r\n\r\n", &offer).as_bytes())?;
    assert!(link.read_head()?.starts_with("HTTP/1.1 101 "));
    assert_eq!(link.header("Sec-WebSocket-Protocol"), Some(v2::SUBPROTOCOL));
    let hello = Control::Hello(Hello {
        role: Role::Agent,
        name: AGENT.into(),
        secret: AGENT_SECRET.to_owned().into(),
        instance: "one".into(),
        software: "a test".into(),
        last_error: None,
        extra: None,
    });
    link.send_text(&v2::encode(&hello))?;
    assert!(matches!(message(&mut link), Control::Welcome(_)));
    Ok(link)
}

fn message(link: &mut RawLink) -> Control {
    match link.receive_message() {
        Received::Text(text) => v2::decode(&text).unwrap_or_else(|error| panic!("{error}: {text}")),
        other => panic!("no message: {other:?}"),
    }
}

#[test]
fn a_relay_that_is_terminated_waits_for_its_links_to_move() -> io::Result<()> {
    // It does not end because its time is over.
    let (_folder, mut relay, port) = relay(&["--drain-timeout", "600"])?;
    let mut link = agent(port)?;
    relay.signal(Signal::TERM);
    assert!(matches!(message(&mut link), Control::Goaway(_)));
    let refused = RawLink::open(port, CLIENT_PATH).map(|_| ()).map_err(|error| error.to_string());
    let head = refused.expect_err("it takes nobody any more").to_lowercase();
    assert!(head.starts_with("http/1.1 503 ") && head.contains("retry-after: "), "{head}");
    link.send_close(1000, "")?;
    assert_eq!(relay.wait(), 0);
    Ok(())
}

#[test]
fn an_interrupt_and_a_time_of_zero_end_it_at_once() -> io::Result<()> {
    for (arguments, signal) in
        [(&["--drain-timeout", "600"], Signal::INT), (&["--drain-timeout", "0"], Signal::TERM)]
    {
        let (_folder, mut relay, port) = relay(arguments)?;
        let mut link = agent(port)?;
        relay.signal(signal);
        assert_eq!(link.receive_message().close_code(), Some(v2::CLOSE_RESTART));
        link.send_close(v2::CLOSE_RESTART, "")?;
        assert_eq!(relay.wait(), 0);
    }
    Ok(())
}

#[test]
fn a_second_signal_ends_it_without_a_word() -> io::Result<()> {
    let (_folder, mut relay, port) = relay(&["--drain-timeout", "600"])?;
    let mut link = agent(port)?;
    relay.signal(Signal::TERM);
    assert!(matches!(message(&mut link), Control::Goaway(_)));
    relay.signal(Signal::TERM);
    assert_eq!(relay.wait(), 0);
    assert_eq!(link.receive_message(), Received::End);
    Ok(())
}

/// A relay on a socket that is passed on to it, as systemd does: the first descriptor behind the usual three.
fn relay_on(listener: &TcpListener, folder: &std::path::Path) -> io::Result<Process> {
    let relay = Origin::Ours.command("network-relay");
    let mut command = Command::new("sh");
    command.args(["-c", r#"exec 3<&0 0</dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec "$@""#, "sh"]);
    command.arg(relay.get_program()).arg("--credentials-file").arg(folder.join("credentials.json"));
    command.args(["--drain-timeout", "600"]);
    command.stdin(Stdio::from(OwnedFd::from(listener.try_clone()?))).stdout(Stdio::null());
    let relay = Process::start("network-relay", command, true);
    relay.wait_for_text("listening on http://127.0.0.1:");
    Ok(relay)
}

#[test]
fn a_socket_that_is_passed_on_outlives_the_relay() -> io::Result<()> {
    let folder = tempfile::tempdir()?;
    write_credentials(folder.path());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    let mut old = relay_on(&listener, folder.path())?;
    let mut link = agent(port)?;
    old.signal(Signal::TERM);
    let Control::Goaway(goaway) = message(&mut link) else { panic!("no goaway") };
    assert_eq!(goaway.reconnect_after_ms, 0, "nobody is refused meanwhile");
    // It waits for the next process, whoever accepted before.
    let mut waiting = RawLink::dial(port)?;
    waiting.write(upgrade(AGENT_PATH).as_bytes())?;
    let new = relay_on(&listener, folder.path())?;
    assert!(waiting.read_head()?.starts_with("HTTP/1.1 101 "));
    agent(port)?;
    link.send_close(1000, "")?;
    assert_eq!(old.wait(), 0);
    drop(new);
    Ok(())
}
