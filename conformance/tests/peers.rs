//! Our agent and our client against relays that a test scripts, frame by frame: what they say to each, what they make
//! of its answers, and what they tell their user.

use std::future::pending;
use std::io;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use client::config::{Config, Target};
use client::{Ends, Notice};
use codec::v1::{
    AGENT_PATH, CLIENT_PATH, KEEP_ALIVE_UNKNOWN_MARKS, MAX_MESSAGE_TO_CLIENT,
    REASON_BAD_CREDENTIALS,
};
use conformance::harness::frames::{RawLink, RawRelay, Received};
use conformance::harness::tunnel::{
    AGENT, AGENT_SECRET, CLIENT_SECRET, Client, agent_command, client_command,
};
use conformance::harness::{Origin, Process};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::oneshot;

/// A client that asks this relay for 127.0.0.1:22.
fn client(port: u16) -> Client {
    let mut command = client_command(Origin::Ours, &format!("ws://127.0.0.1:{port}{CLIENT_PATH}"));
    command.args([AGENT, "127.0.0.1", "22"]);
    Client::start(command, Origin::Ours)
}

/// The client's link up to its start.
fn accept_client(relay: &RawRelay) -> io::Result<RawLink> {
    let (link, start) = relay.accept_start()?;
    assert_eq!(start["secret"], CLIENT_SECRET);
    Ok(link)
}

/// A client whose relay does something: its exit status and its one line, with the port replaced.
fn failure(script: impl FnOnce(&mut RawLink) -> io::Result<()>) -> io::Result<(i32, String)> {
    let relay = RawRelay::new()?;
    let port = relay.port();
    let mut client = client(port);
    let mut link = accept_client(&relay)?;
    script(&mut link)?;
    drop(link);
    let status = client.process.wait();
    let said = client.process.stderr_at_end().join("\n");
    Ok((status, said.replace(&port.to_string(), "PORT")))
}

#[test]
fn a_client_takes_messages_of_one_mebibyte_and_no_more() -> io::Result<()> {
    let relay = RawRelay::new()?;
    let port = relay.port();
    let mut client = client(port);
    let mut link = accept_client(&relay)?;
    link.send_inner(&json!({ "kind": "start_ok" }))?;
    // Blanks may stand anywhere, and count.
    let message = |size: usize| {
        let text = r#"{"inner":{"kind":"tcp_data","data_base64":"aGVsbG8="}}"#;
        text.to_owned() + &" ".repeat(size - text.len())
    };
    link.send_text(&message(MAX_MESSAGE_TO_CLIENT))?;
    assert_eq!(client.output.wait_for(5), b"hello");
    link.send_text(&message(MAX_MESSAGE_TO_CLIENT + 1))?;
    // What a client that takes this, too, would answer; the other may be gone by now.
    let _ = link.send_close(1000, "");
    assert_eq!(link.receive_message().close_code(), Some(1009));
    drop(link);
    assert_eq!(client.process.wait(), 21);
    assert_eq!(client.output.wait_for_end(), b"hello");
    Ok(())
}

#[test]
fn what_a_relay_does_to_a_client_is_one_line_that_names_it_and_helps() -> io::Result<()> {
    let open = |link: &mut RawLink| link.send_inner(&json!({ "kind": "start_ok" }));
    let url = format!("ws://127.0.0.1:PORT{CLIENT_PATH}");
    let paths =
        format!("(check the path of the URL: clients use {CLIENT_PATH}, agents {AGENT_PATH})");
    let closed = |code: u16, reason: &'static str, opened: bool| {
        failure(|link| {
            if opened {
                open(link)?;
            }
            link.send_close(code, reason)
        })
    };
    let check = |found: (i32, String), status: i32, line: &str| {
        assert_eq!(found, (status, format!("access-client: {line}")));
    };
    // What a relay says to a client on the path for agents, and to whom it takes for no client.
    check(
        closed(1008, "the start has no name or no secret", false)?,
        17,
        &format!(
            "the relay at {url} takes no start of a client there: the start has no name or no secret (close code 1008) {paths}"
        ),
    );
    check(
        closed(1007, "", false)?,
        17,
        &format!("the relay at {url} takes no start of a client there: close code 1007 {paths}"),
    );
    check(
        closed(1012, "", false)?,
        18,
        &format!(
            "the relay at {url} closed the link without an answer: the relay is restarting (try again in a moment)"
        ),
    );
    check(
        failure(|_| Ok(()))?,
        18,
        &format!(
            "the relay at {url} closed the link without an answer: the connection was closed (try again; if it stays, check the path of the URL, and the relay's log)"
        ),
    );
    check(
        closed(1012, "", true)?,
        18,
        &format!(
            "the link to the relay at {url} was lost: the relay is restarting; what was sent last may not have arrived (check the network, and connect again)"
        ),
    );
    check(
        closed(4001, "the target reset the connection", true)?,
        20,
        "the connection of agent \"workshop\" to 127.0.0.1:22 broke: the target reset the connection (the log of the service there may say why)",
    );
    check(
        closed(4002, "", true)?,
        23,
        "the relay gave up the stream to 127.0.0.1:22 behind agent \"workshop\": its data was not taken for too long (does something hold up what reads stdout, or is the network too slow?)",
    );
    check(
        closed(4014, "agent disconnected", true)?,
        19,
        "agent \"workshop\" was lost while the stream to 127.0.0.1:22 was open; what was sent last may not have arrived (connect again; the agent's log may say why)",
    );
    check(
        failure(|link| {
            link.send_text("no message")?;
            assert_eq!(link.receive_message(), Received::Close(Some(1007), String::new()));
            Ok(())
        })?,
        21,
        &format!(
            "the relay at {url} broke the protocol: text is not JSON that can be read (is it a relay of protocol v1? its log may say more)"
        ),
    );
    check(
        failure(|link| link.send_inner(&json!({ "kind": "error", "message": "no\u{1b}thing" })))?,
        17,
        &format!("{url} refused the stream: nothing (the relay's log may say why)"),
    );
    Ok(())
}

#[test]
fn an_input_that_cannot_be_read_is_a_failure() -> io::Result<()> {
    let relay = RawRelay::new()?;
    let port = relay.port();
    let folder = tempfile::tempdir()?;
    let mut command = client_command(Origin::Ours, &format!("ws://127.0.0.1:{port}{CLIENT_PATH}"));
    command.args(["--eof-timeout", "0.1", AGENT, "127.0.0.1", "22"]);
    command.stdin(std::fs::File::open(folder.path())?).stdout(Stdio::null());
    let mut client = Process::start("access-client", command, true);
    let mut link = accept_client(&relay)?;
    link.send_inner(&json!({ "kind": "start_ok" }))?;
    // The stream ends at once: the target is not to wait for what will never come.
    assert_eq!(link.receive_message().close_code(), Some(1000));
    drop(link);
    assert_eq!(client.wait(), 1);
    assert_eq!(
        client.stderr_at_end(),
        [
            "access-client: reading stdin failed: is a directory; the stream to 127.0.0.1:22 was cut short (check what stdin is connected to)"
        ]
    );
    Ok(())
}

#[test]
fn an_output_that_cannot_be_written_is_noticed() -> io::Result<()> {
    let relay = RawRelay::new()?;
    let port = relay.port();
    let run = |stdout: std::fs::File| {
        let mut command =
            client_command(Origin::Ours, &format!("ws://127.0.0.1:{port}{CLIENT_PATH}"));
        command.args([AGENT, "127.0.0.1", "22"]).stdin(Stdio::null()).stdout(stdout);
        Process::start("access-client", command, true)
    };
    let line = |reason: &str| {
        format!(
            "access-client: writing to stdout failed before the stream to 127.0.0.1:22 ended: {reason} (does what reads it still run, or is a disk full?)"
        )
    };
    // Open for reading alone: known before anything is dialled.
    let mut client = run(std::fs::File::open("/dev/null")?);
    assert_eq!(client.wait(), 22);
    assert_eq!(client.stderr_at_end(), [line("bad file descriptor")]);

    let mut client = run(std::fs::OpenOptions::new().write(true).open("/dev/full")?);
    let mut link = accept_client(&relay)?;
    link.send_inner(&json!({ "kind": "start_ok" }))?;
    link.send_inner(&json!({ "kind": "tcp_data", "data_base64": "aGVsbG8=" }))?;
    assert_eq!(link.receive_message().close_code(), Some(1000));
    drop(link);
    assert_eq!(client.wait(), 22);
    assert_eq!(client.stderr_at_end(), [line("no space left on device")]);
    Ok(())
}

/// An input with a few last words; once they are read the client is told to stop.
struct LastWords(Option<oneshot::Sender<()>>);

impl AsyncRead for LastWords {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.0.take().is_none() {
            return Poll::Pending;
        }
        buffer.put_slice(b"hello");
        Poll::Ready(Ok(()))
    }
}

#[test]
fn what_a_client_has_read_goes_out_before_it_leaves() -> io::Result<()> {
    let relay = RawRelay::new()?;
    let url = format!("ws://127.0.0.1:{}{CLIENT_PATH}", relay.port());
    let config = Config {
        relay_urls: vec![url.parse().map_err(io::Error::other)?],
        secret: CLIENT_SECRET.to_owned().into(),
        ca_file: None,
        eof_timeout: None,
        resume_for: Duration::ZERO,
        agent: AGENT.to_owned(),
        protocol: "tcp".to_owned(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let client = thread::spawn(move || {
        let (tell, told) = oneshot::channel();
        let stop = async { drop(told.await) };
        let input = LastWords(Some(tell));
        let target = Target { host: "127.0.0.1".to_owned(), port: 22 };
        let output = tokio::io::sink();
        let ends = Ends { input, output, output_closed: pending(), ends_with_target: false };
        runtime.block_on(client::run(&config, &target, ends, Arc::new(|_: &Notice| {}), stop))
    });
    let mut link = accept_client(&relay)?;
    link.send_inner(&json!({ "kind": "start_ok" }))?;
    assert_eq!(link.receive_inner(), json!({ "kind": "tcp_data", "data_base64": "aGVsbG8=" }));
    assert_eq!(link.receive_message().close_code(), Some(1000));
    close(link, 1000, "")?;
    assert!(matches!(client.join(), Ok(Ok(()))));
    Ok(())
}

/// How a client ends that gets SIGHUP right behind the end of its stdout: its exit status and what it says.
fn hangup_behind_the_end_of_stdout() -> io::Result<(i32, Vec<String>)> {
    let relay = RawRelay::new()?;
    let port = relay.port();
    let mut command = client_command(Origin::Ours, &format!("ws://127.0.0.1:{port}{CLIENT_PATH}"));
    command.args([AGENT, "127.0.0.1", "22"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut client = Process::start("access-client", command, true);
    let mut link = accept_client(&relay)?;
    link.send_inner(&json!({ "kind": "start_ok" }))?;
    // As ssh ends its ProxyCommand, on a machine that lets the client see the first half of it for itself.
    drop(client.take_stdout());
    assert_eq!(link.receive_message().close_code(), Some(1000));
    close(link, 1000, "")?;
    client.signal(rustix::process::Signal::HUP);
    Ok((client.wait(), client.stderr_at_end()))
}

#[test]
fn a_hangup_right_behind_the_end_of_stdout_is_a_quiet_end() -> io::Result<()> {
    // The client waits for the signal for a third of a second only. A machine that stops us for that long between the
    // two proves nothing, but not three times.
    let mut seen = Vec::new();
    for _ in 0..3 {
        let (status, said) = hangup_behind_the_end_of_stdout()?;
        if (status, said.len()) == (129, 0) {
            return Ok(());
        }
        seen.push((status, said));
    }
    panic!("it takes the hangup for a failure: {seen:#?}");
}

/// The next link of an agent, up to its start: the link, and the `last_error` in it.
fn accept_agent(relay: &RawRelay) -> io::Result<(RawLink, Value)> {
    let (link, mut start) = relay.accept_start()?;
    assert_eq!((&start["kind"], &start["secret"]), (&json!("start"), &json!(AGENT_SECRET)));
    Ok((link, start["last_error"].take()))
}

/// Ends a link as a relay does, and waits until the agent has, too.
fn close(mut link: RawLink, code: u16, reason: &str) -> io::Result<()> {
    link.send_close(code, reason)?;
    while link.receive_message() != Received::End {}
    Ok(())
}

#[test]
fn last_error_tells_of_failures_and_not_of_what_a_relay_says() -> io::Result<()> {
    let relay = RawRelay::new()?;
    let port = relay.port();
    let _agent = Process::start("edge-agent", agent_command(Origin::Ours, port), true);
    let (link, last_error) = accept_agent(&relay)?;
    assert_eq!(last_error, Value::Null, "there was nothing before");
    // A close frame is no failure, whatever it says; nor is the bare end of the connection.
    close(link, 1012, "")?;
    let (link, last_error) = accept_agent(&relay)?;
    assert_eq!(last_error, Value::Null, "after a close frame");
    drop(link);

    // An answer that is none is a failure, told in the agent's own words: a relay must not see a mark that makes it
    // stop its keep-alives because something in between has said it.
    let mut refused = relay.accept_request()?;
    let mark = KEEP_ALIVE_UNKNOWN_MARKS[0];
    let head = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\n";
    refused.write(format!("{head}Content-Length: {}\r\n\r\n{mark}", mark.len()).as_bytes())?;
    drop(refused);
    let expected = format!("127.0.0.1:{port} answered 503 instead of opening a WebSocket");
    let (link, last_error) = accept_agent(&relay)?;
    assert_eq!(last_error, expected);

    // It is kept while the agent is refused, and forgotten once it was admitted.
    close(link, 1008, REASON_BAD_CREDENTIALS)?;
    let (mut link, last_error) = accept_agent(&relay)?;
    assert_eq!(last_error, expected, "after a refusal");
    link.send_inner(&json!({ "kind": "keep_alive" }))?;
    close(link, 1012, "")?;
    assert_eq!(accept_agent(&relay)?.1, Value::Null, "after an admission");
    Ok(())
}

#[test]
fn an_agent_says_that_it_is_registered_once_it_is() -> io::Result<()> {
    let relay = RawRelay::new()?;
    let port = relay.port();
    let mut command = agent_command(Origin::Ours, port);
    command.env("DEBUG", "1");
    let agent = Process::start("edge-agent", command, true);
    let (mut link, _) = accept_agent(&relay)?;
    agent.wait_for_text("link open");
    let says = |words: &str| agent.stderr().iter().any(|line| line.contains(words));
    assert!(!says("registered"), "{:#?}", agent.stderr());
    link.send_inner(&json!({ "kind": "keep_alive" }))?;
    agent.wait_for_text(" INFO registered");
    // Control messages are seen at the debug level, those that only keep the link alive among them.
    agent.wait_for_text("sending kind=\"start\"");
    agent.wait_for_text("received kind=\"keep_alive\"");
    assert_eq!(link.receive_inner(), json!({ "kind": "keep_alive" }));
    agent.wait_for_text("sending kind=\"keep_alive\"");
    assert!(!says(AGENT_SECRET), "{:#?}", agent.stderr());
    Ok(())
}

#[test]
fn silence_concludes_a_registration() -> io::Result<()> {
    let relay = RawRelay::new()?;
    let port = relay.port();
    let agent = Process::start("edge-agent", agent_command(Origin::Ours, port), true);
    let (_link, _) = accept_agent(&relay)?;
    agent.wait_for_text(" INFO registered");
    Ok(())
}

#[test]
fn an_agent_says_what_to_try_after_an_early_end() -> io::Result<()> {
    let check = |end: &dyn Fn(RawLink) -> io::Result<()>, words: &str| -> io::Result<()> {
        let relay = RawRelay::new()?;
        let port = relay.port();
        let agent = Process::start("edge-agent", agent_command(Origin::Ours, port), true);
        end(accept_agent(&relay)?.0)?;
        agent.wait_for_text(&format!("{words}; next attempt in "));
        Ok(())
    };
    let paths =
        format!("(check the path of the URL: clients use {CLIENT_PATH}, agents {AGENT_PATH})");
    check(
        &|link| close(link, 1007, "bad message of kind 'start'"),
        &format!(
            "the relay takes no start of an agent there: bad message of kind 'start' (close code 1007) {paths}"
        ),
    )?;
    check(
        &|link| close(link, 1008, REASON_BAD_CREDENTIALS),
        &format!(
            "the relay refused this agent: {REASON_BAD_CREDENTIALS} (check --name and the secret)"
        ),
    )?;
    check(
        &|link| close(link, 1000, ""),
        "the relay closed the link without a reason (check --name and the secret)",
    )?;
    check(
        &|link| {
            drop(link);
            Ok(())
        },
        &format!(
            "(check the path of the URL, {AGENT_PATH} for agents; or the relay holds another link under this name)"
        ),
    )?;
    // Later on the path is right.
    check(
        &|mut link| {
            link.send_inner(&json!({ "kind": "keep_alive" }))?;
            close(link, 1007, "no message")
        },
        "the relay closed the link (1007) no message",
    )
}
