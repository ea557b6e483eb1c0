//! Ends that hang on the other side: a second signal, silence, and peers that do not leave.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use codec::v1::{AGENT_PATH, CLIENT_PATH, CLOSE_TIMEOUT};
use conformance::harness::frames::{PING, RawLink, RawRelay, Received, frame, upgrade};
use conformance::harness::tunnel::{
    AGENT, Mix, OTHER_AGENT, Tunnel, agent_start, client_start, start_agent,
};
use conformance::harness::{Origin, wait_until};
use rustix::process::Signal;

/// How long the TCP connection of a client may stay after it was told everything. Generous: five seconds would do.
const GONE_WITHIN: Duration = Duration::from_secs(20);

// ---- a second signal ----

/// Whether the second of two SIGTERMs ends a relay that waits for an agent's answer to its close frame.
fn second_signal_ends_the_relay() -> bool {
    let mut tunnel = Tunnel::start_with(Mix::OURS, &["-v"], &[]);
    tunnel.agent.signal(Signal::STOP);
    tunnel.relay.signal(Signal::TERM);
    wait_until("the relay listens no more", || RawLink::dial(tunnel.port()).is_err());
    tunnel.relay.signal(Signal::TERM);
    assert_eq!(tunnel.relay.wait(), 0);
    // It says this when it has waited as long as it does after one signal.
    !tunnel.relay.stderr_at_end().iter().any(|line| line.contains("did not end in time"))
}

#[test]
fn a_second_sigterm_ends_the_relay_now() {
    // A machine that stops for seconds between the two signals proves nothing, but not three times.
    assert!((0..3).any(|_| second_signal_ends_the_relay()));
}

#[test]
fn one_sigterm_lets_the_relay_wait_for_its_links() {
    let mut tunnel = Tunnel::start_with(Mix::OURS, &["-v"], &[]);
    tunnel.agent.signal(Signal::STOP);
    tunnel.relay.signal(Signal::TERM);
    assert_eq!(tunnel.relay.wait(), 0);
    tunnel.relay.wait_for_text("did not end in time");
}

/// Whether the second of two SIGTERMs ends an agent before it would end by itself.
fn second_signal_ends_the_agent() -> io::Result<bool> {
    let relay = RawRelay::new()?;
    let mut agent = start_agent(Origin::Ours, relay.port(), &[]);
    let (mut link, _) = relay.accept_start()?;
    agent.signal(Signal::TERM);
    // It waits for the answer, which never comes.
    assert_eq!(link.receive_message(), Received::Close(Some(1000), String::new()));
    let start = Instant::now();
    agent.signal(Signal::TERM);
    assert_eq!(agent.wait(), 0);
    Ok(start.elapsed() < CLOSE_TIMEOUT / 2)
}

#[test]
fn a_second_sigterm_ends_the_agent_now() -> io::Result<()> {
    // As above.
    for _ in 0..3 {
        if second_signal_ends_the_agent()? {
            return Ok(());
        }
    }
    panic!("it ends only when it would by itself")
}

// ---- silence ----

#[test]
fn silence_before_the_upgrade_ends_the_connection() -> io::Result<()> {
    let tunnel = Tunnel::ours();
    let plain = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    let request = upgrade(AGENT_PATH);
    let mut links = Vec::new();
    for said in ["", "G", &request[..90], plain] {
        let mut link = RawLink::dial(tunnel.port())?;
        link.write(said.as_bytes())?;
        links.push(link);
    }
    for link in links {
        // To the end of file, after whatever it answers.
        link.stream().read_to_end(&mut Vec::new())?;
    }
    Ok(())
}

#[test]
fn a_peer_that_asks_and_asks_and_reads_no_answer_is_let_go() -> io::Result<()> {
    let tunnel = Tunnel::ours();
    let mut link = RawLink::dial(tunnel.port())?;
    let many = "GET / HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1000);
    let error = loop {
        if let Err(error) = link.write(many.as_bytes()) {
            break error;
        }
    };
    // Not the time-out of a write that nobody takes.
    assert!(
        matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset),
        "{error:?}"
    );
    Ok(())
}

// ---- peers that do not leave ----

/// Reads whatever comes to the end of the TCP connection, answering nothing; meanwhile pings each second if asked to.
fn check_gone(what: &str, link: &RawLink, pings: bool) -> io::Result<()> {
    let start = Instant::now();
    let mut reader = link.stream().try_clone()?;
    let mut writer = link.stream().try_clone()?;
    let is_read = thread::spawn(move || to_the_end(&mut reader));
    let ping = frame(0x80 | PING, b"here");
    while pings && !is_read.is_finished() {
        // That it takes no more is fine: the end is what is waited for.
        let _ = writer.write_all(&ping);
        thread::sleep(Duration::from_secs(1));
    }
    let ended = is_read.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    let took = start.elapsed();
    assert!(ended, "{what}, pings: {pings}: the connection is still there");
    assert!(took < GONE_WITHIN, "{what}, pings: {pings}: gone only after {took:?}");
    Ok(())
}

/// Whether the end of a connection, by FIN or RST, comes before its time-out.
fn to_the_end(stream: &mut TcpStream) -> bool {
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
        }
    }
}

/// What a peer does before the relay closes its link.
type Deed = fn(&mut RawLink) -> io::Result<()>;

#[test]
fn the_connection_of_a_refused_peer_ends() -> io::Result<()> {
    let tunnel = Tunnel::ours();
    let port = tunnel.port();
    let refusals: [(&str, &str, Deed); 6] = [
        ("a wrong secret", CLIENT_PATH, |link| {
            let mut start = client_start(7);
            start["secret"] = "wrong".into();
            link.send_inner(&start)
        }),
        ("an agent that is not there", CLIENT_PATH, |link| {
            let mut start = client_start(7);
            start["connection_target"] = OTHER_AGENT.0.into();
            link.send_inner(&start)
        }),
        ("a target that refuses", CLIENT_PATH, |link| {
            // Nothing listens on the port of a socket that dials.
            let mut start = client_start(0);
            start["target_port"] = link.stream().local_addr()?.port().into();
            link.send_inner(&start)
        }),
        ("no start", CLIENT_PATH, |link| link.send_text("{}")),
        ("an agent's wrong secret", AGENT_PATH, |link| {
            link.send_inner(&agent_start(AGENT, "wrong"))
        }),
        ("no start of an agent", AGENT_PATH, |link| link.send_text("{}")),
    ];
    thread::scope(|scope| {
        let mut threads = Vec::new();
        for (what, path, deed) in refusals {
            for pings in [false, true] {
                threads.push(scope.spawn(move || {
                    let mut link = RawLink::open(port, path)?;
                    deed(&mut link)?;
                    check_gone(what, &link, pings)
                }));
            }
        }
        threads.into_iter().try_for_each(|thread| match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })
}
