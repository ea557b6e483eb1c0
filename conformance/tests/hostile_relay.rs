//! Our agent and our client against a relay that breaks every rule. The agent outlives all of it and comes back; the
//! client ends with the right status and one line.

use std::io::{self, Write as _};
use std::net::Shutdown;
use std::thread;

use codec::v1::{CLIENT_PATH, MAX_MESSAGE_AT_AGENT};
use conformance::harness::frames::{
    BINARY, CLOSE, CONTINUATION, PING, RawLink, RawRelay, Received, TEXT, frame, switching,
};
use conformance::harness::tunnel::{AGENT, Client, client_command, start_agent};
use conformance::harness::{Origin, Process, Target, wait_until};
use serde_json::{Value, json};

/// What a relay does to a link that stands.
type Deed = fn(&mut RawLink) -> io::Result<()>;

/// What a relay does to a connection whose upgrade was asked for.
type Answer = fn(&mut RawLink) -> io::Result<()>;

// ---- deeds ----

/// The end of the TCP connection without a close frame.
fn cut(link: &mut RawLink) -> io::Result<()> {
    link.stream().shutdown(Shutdown::Both)
}

fn reset(link: &mut RawLink) -> io::Result<()> {
    Ok(rustix::net::connect_unspec(link.stream())?)
}

/// The head of a frame that will never come, of more than anybody accepts.
fn claim_too_much(link: &mut RawLink) -> io::Result<()> {
    let mut head = vec![0x80 | TEXT, 127];
    head.extend((MAX_MESSAGE_AT_AGENT as u64 * 16).to_be_bytes());
    link.write(&head)
}

/// What nobody may do on a link, the code that it is closed with, and what the agent says of it.
const VIOLATIONS: [(&str, Deed, u16, &str); 11] = [
    ("too much", claim_too_much, 1009, "too big"),
    ("text that is not UTF-8", |link| link.send(TEXT, b"\xff\xfe"), 1007, "UTF-8"),
    ("binary that is not UTF-8", |link| link.send(BINARY, b"\xff\xfe"), 1007, "UTF-8"),
    ("a masked frame", |link| link.write(&frame(0x80 | TEXT, b"{}")), 1002, "rule"),
    ("a reserved bit", |link| link.send_frame(0xc0 | TEXT, b"{}"), 1002, "rule"),
    ("a reserved opcode", |link| link.send_frame(0x83, b"{}"), 1002, "rule"),
    ("a stray continuation", |link| link.send(CONTINUATION, b"{}"), 1002, "rule"),
    ("a message in a message", interleave, 1002, "rule"),
    ("a ping that is too long", |link| link.send(PING, &[0; 126]), 1002, "rule"),
    ("a ping in two fragments", |link| link.send_frame(PING, b"x"), 1002, "rule"),
    ("half a close code", |link| link.send(CLOSE, &[3]), 1002, "rule"),
];

/// Does what nobody may do, and expects the link to be closed for it.
fn violate(name: &str, link: &mut RawLink, deed: Deed, code: u16) -> io::Result<()> {
    deed(link)?;
    let received = link.receive_message();
    assert_eq!(received.close_code(), Some(code), "{name}: {received:?}");
    link.send_close(code, "")
}

/// A message that begins while another one is under way.
fn interleave(link: &mut RawLink) -> io::Result<()> {
    link.send_frame(TEXT, b"{\"inner\"")?;
    link.send(TEXT, b"{}")
}

/// Ends of a link that are nobody's fault, and what the agent says of them.
const ENDS: [(&str, Deed, &str); 10] = [
    ("1000", |link| link.send_close(1000, ""), "closed the link"),
    ("1001", |link| link.send_close(1001, "away"), "(1001) away"),
    (
        "1008",
        |link| link.send_close(1008, "who?"),
        "who? (close code 1008) (check the path of the URL",
    ),
    ("1012", |link| link.send_close(1012, ""), "restarting"),
    ("3001 in colours", |link| link.send_close(3001, "\u{1b}[31mred\nnew"), "(3001)"),
    // The WebSocket library answers with 1002 and reports that instead.
    ("a close code that is none", |link| link.send_close(999, ""), "(1002)"),
    ("no code", |link| link.send(CLOSE, b""), "closed the link (no code)"),
    ("cut", cut, "lost"),
    ("reset", reset, "lost"),
    ("cut in a frame", |link| link.send_frame(TEXT, &[b'x'; 500]).and_then(|()| cut(link)), "lost"),
];

/// Answers to the upgrade, and whether they make it a place that speaks no WebSocket, rather than one out of reach.
const ANSWERS: [(&str, Answer, bool); 13] = [
    ("403", |link| http(link, "403 Forbidden", ""), true),
    ("404 in colours", |link| http(link, "404 Not Found", "\u{1b}[31mno\r\nsuch"), true),
    ("500", |link| http(link, "500 Internal Server Error", ""), true),
    ("200", |link| http(link, "200 OK", "hello"), true),
    ("a redirect to itself", |link| redirect(link, &link.path()), true),
    ("a redirect to nowhere", |link| redirect(link, "ftp://example.org/"), true),
    ("no HTTP", |link| link.write(b"hello\r\n\r\n").and_then(|()| cut(link)), true),
    ("no accept", |link| upgrade_with(link, "Sec-WebSocket-Accept", "X-Accept"), true),
    ("a wrong accept", |link| upgrade_with(link, "Accept: ", "Accept: x"), true),
    (
        "a subprotocol",
        |link| upgrade_with(link, "\r\n\r\n", "\r\nSec-WebSocket-Protocol: x\r\n\r\n"),
        true,
    ),
    (
        "an extension",
        |link| {
            upgrade_with(
                link,
                "\r\n\r\n",
                "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
            )
        },
        true,
    ),
    ("an end", cut, false),
    ("silence", |_| Ok(()), false),
];

fn http(link: &mut RawLink, status: &str, body: &str) -> io::Result<()> {
    let length = body.len();
    link.write(format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}").as_bytes())
}

fn redirect(link: &mut RawLink, to: &str) -> io::Result<()> {
    let head =
        format!("HTTP/1.1 307 Temporary Redirect\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n");
    link.write(head.as_bytes())
}

/// A good answer to the upgrade, in which something is replaced.
fn upgrade_with(link: &mut RawLink, from: &str, to: &str) -> io::Result<()> {
    let answer = switching(link);
    assert!(answer.contains(from));
    link.write(answer.replacen(from, to, 1).as_bytes())
}

/// Serves connections with an answer until `stop` holds: a redirect, for example, brings more of them.
fn answer_until(
    relay: &RawRelay,
    answer: Answer,
    mut stop: impl FnMut() -> bool,
) -> io::Result<Vec<RawLink>> {
    let mut links = Vec::new();
    let mut problem = None;
    wait_until("the program has had enough", || {
        match relay.poll_accept() {
            Ok(Some(mut link)) => {
                // Whoever had enough of it may be gone.
                let _ = link.read_head().map(|_| ()).and_then(|()| answer(&mut link));
                links.push(link);
            }
            Ok(None) => {}
            Err(error) => problem = Some(error),
        }
        problem.is_some() || stop()
    });
    problem.map_or(Ok(links), Err)
}

/// No line of a program may hold what a terminal would act on.
#[track_caller]
fn check_harmless(lines: &[String]) {
    let bad = lines.iter().find(|line| line.chars().any(char::is_control));
    assert!(bad.is_none(), "{bad:?}");
}

// ---- the agent ----

/// The agent's warning of the end of an attempt, once it is there: its words and its delay in seconds.
#[track_caller]
fn warning(agent: &Process, nth: usize) -> (String, f32) {
    let line = agent.wait_for_lines("why it dials again", |lines| {
        lines.iter().filter(|line| line.contains("next attempt in ")).nth(nth).cloned()
    });
    let (words, rest) = line.split_once("; next attempt in ").unwrap_or((&line, ""));
    let delay = rest.split(' ').next().and_then(|seconds| seconds.parse().ok());
    (words.to_owned(), delay.unwrap_or_else(|| panic!("no delay: {line}")))
}

/// An agent lives on and comes back with a new start, which tells of failures, but not of ends that the relay chose.
fn check_comes_back(
    name: &str,
    agent: &mut Process,
    relay: &RawRelay,
    words: &str,
    is_failure: bool,
) -> io::Result<()> {
    let (said, delay) = warning(agent, 0);
    assert!(said.contains(words), "{name}: {said}");
    assert!(delay <= 1.0, "{name}: the first delay is at most 1 s, not {delay} s");
    let (mut link, start) = relay.accept_start()?;
    assert_eq!((&start["kind"], &start["name"]), (&"start".into(), &AGENT.into()), "{name}");
    assert_eq!(start["last_error"].is_string(), is_failure, "{name}: {start}");
    assert_eq!(start["last_error"].is_null(), !is_failure, "{name}: {start}");
    check_serves(&mut link)?;
    assert!(agent.ended().is_none(), "{name}: {:?}", agent.stderr());
    check_harmless(&agent.stderr());
    Ok(())
}

/// An agent connects to a target and carries bytes.
fn check_serves(link: &mut RawLink) -> io::Result<()> {
    let target = Target::echo();
    initiate(link, "good", "127.0.0.1", &target.port().into())?;
    assert_eq!(
        link.receive_inner(),
        json!({"kind": "initiate_connection_ok", "connection_id": "good"})
    );
    check_stream(link, "good")?;
    link.send_inner(&json!({"kind": "connection_close", "message": "", "connection_id": "good"}))?;
    assert_eq!(target.next_seen().error, None);
    Ok(())
}

/// Sends a few bytes on a stream to an echo, and expects them back.
#[track_caller]
fn check_stream(link: &mut RawLink, id: &str) -> io::Result<()> {
    let data = json!({"kind": "tcp_data", "connection_id": id, "data_base64": "aGVsbG8="});
    link.send_inner(&data)?;
    assert_eq!(link.receive_inner(), data);
    Ok(())
}

fn initiate(link: &mut RawLink, id: &str, host: &str, port: &Value) -> io::Result<()> {
    link.send_inner(&json!({
        "kind": "initiate_connection", "target_ip": host, "target_port": port, "protocol": "tcp",
        "connection_id": id,
    }))
}

/// Runs each case in a thread of its own, and passes on what goes wrong there.
fn all_at_once<T: Copy + Send + Sync>(
    cases: &[T],
    run: impl Fn(T) -> io::Result<()> + Sync,
) -> io::Result<()> {
    let run = &run;
    thread::scope(|scope| {
        let threads: Vec<_> = cases.iter().map(|&case| scope.spawn(move || run(case))).collect();
        threads.into_iter().try_for_each(|thread| match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })
}

#[test]
fn an_agent_comes_back_after_every_end_of_a_link() -> io::Result<()> {
    all_at_once(&VIOLATIONS, |(name, deed, code, words)| {
        check_agent(name, words, true, |link| violate(name, link, deed, code))
    })?;
    all_at_once(&ENDS, |(name, deed, words)| check_agent(name, words, false, deed))
}

/// An agent comes back after this was done to its link, and says these words.
fn check_agent(
    name: &str,
    words: &str,
    is_failure: bool,
    deed: impl FnOnce(&mut RawLink) -> io::Result<()>,
) -> io::Result<()> {
    let relay = RawRelay::new()?;
    let mut agent = start_agent(Origin::Ours, relay.port(), &[]);
    let (mut link, start) = relay.accept_start()?;
    assert_eq!(start["last_error"], Value::Null, "{name}");
    deed(&mut link)?;
    check_comes_back(name, &mut agent, &relay, words, is_failure)
}

#[test]
fn an_agent_comes_back_after_every_answer_to_its_upgrade() -> io::Result<()> {
    all_at_once(&ANSWERS, |(name, answer, _)| {
        let relay = RawRelay::new()?;
        let mut agent = start_agent(Origin::Ours, relay.port(), &[]);
        let is_told = || agent.stderr().iter().any(|line| line.contains("next attempt in "));
        let links = answer_until(&relay, answer, is_told)?;
        assert!(!links.is_empty());
        check_comes_back(name, &mut agent, &relay, "", true)
    })
}

#[test]
fn an_agent_ignores_what_is_no_message_and_its_streams_go_on() -> io::Result<()> {
    let relay = RawRelay::new()?;
    let agent = start_agent(Origin::Ours, relay.port(), &[]);
    let (mut link, _) = relay.accept_start()?;
    let target = Target::echo();
    initiate(&mut link, "live", "127.0.0.1", &target.port().into())?;
    assert_eq!(link.receive_inner()["kind"], "initiate_connection_ok");

    let no_messages = [
        String::new(),
        "{".to_owned(),
        "{}".to_owned(),
        "null".to_owned(),
        "\u{feff}{\"inner\":{\"kind\":\"keep_alive\"}}".to_owned(),
        r#"{"inner":{"kind":"start_ok"}}"#.to_owned(),
        r#"{"inner":{"kind":"\u001b[31m"}}"#.to_owned(),
        r#"{"inner":{"kind":"tcp_data","connection_id":"live"}}"#.to_owned(),
        r#"{"inner":{"kind":"tcp_data","connection_id":7,"data_base64":""}}"#.to_owned(),
        r#"{"inner":{"kind":"initiate_connection","target_ip":"x","target_port":1e400,"protocol":"tcp","connection_id":"x"}}"#.to_owned(),
        r#"{"inner":{"kind":"initiate_connection","target_ip":"x","target_port":1.5,"protocol":"tcp","connection_id":"x"}}"#.to_owned(),
        "[".repeat(60_000),
        format!("[{}0]", "0,".repeat(70_000)),
    ];
    for (index, text) in no_messages.iter().enumerate() {
        link.send_text(text)?;
        check_stream(&mut link, "live")?;
        let warnings = || agent.stderr().iter().filter(|line| line.contains(" WARN ")).count();
        wait_until(&format!("it says once that it ignored {text:.80}"), || warnings() > index);
        assert_eq!(warnings(), index + 1, "{text:.80}: {:#?}", agent.stderr());
    }

    // The same in binary is a message; one that is none is ignored like text.
    link.send(BINARY, br#"{"inner":{"kind":"keep_alive"}}"#)?;
    link.send(BINARY, b"{")?;
    link.send_inner(
        &json!({"kind": "connection_close", "message": "", "connection_id": "unknown"}),
    )?;
    let unknown = json!({"kind": "tcp_data", "connection_id": "unknown", "data_base64": "!"});
    link.send_inner(&unknown)?;
    check_stream(&mut link, "live")?;
    check_harmless(&agent.stderr());
    Ok(())
}

#[test]
fn an_agent_refuses_targets_that_cannot_be_and_goes_on() -> io::Result<()> {
    let relay = RawRelay::new()?;
    let agent = start_agent(Origin::Ours, relay.port(), &[]);
    let (mut link, _) = relay.accept_start()?;
    let long = "x".repeat(100_000);
    for (host, port) in [
        ("127.0.0.1", json!(70_000)),
        ("127.0.0.1", json!(-1)),
        ("127.0.0.1", json!(1e30)),
        ("127.0.0.1", json!("999999999999999999999999")),
        ("127.0.0.1", json!(0)),
        ("127.0.0.1\0", json!(22)),
        ("\0", json!(22)),
        ("", json!(22)),
        ("[::1", json!(22)),
        ("a..b", json!(22)),
        ("\u{1b}[31m\n", json!(22)),
        (&long, json!(22)),
    ] {
        initiate(&mut link, "bad", host, &port)?;
        let answer = link.receive_inner();
        assert_eq!(answer["kind"], "initiate_connection_error", "{host:.20}:{port}: {answer}");
        assert_eq!(answer["connection_id"], "bad", "{host:.20}:{port}");
        let message = answer["message"].as_str().unwrap_or_default();
        assert!(!message.is_empty() && message.len() < 1000, "{host:.20}:{port}: {message}");
        assert!(!message.chars().any(char::is_control), "{host:.20}:{port}: {message:?}");
    }
    check_serves(&mut link)?;
    check_harmless(&agent.stderr());
    Ok(())
}

#[test]
fn bad_base64_ends_one_stream_of_an_agent() -> io::Result<()> {
    let relay = RawRelay::new()?;
    let agent = start_agent(Origin::Ours, relay.port(), &[]);
    let (mut link, _) = relay.accept_start()?;
    let (target, other) = (Target::echo(), Target::echo());
    for (id, target) in [("bad", &target), ("live", &other)] {
        initiate(&mut link, id, "127.0.0.1", &target.port().into())?;
        assert_eq!(link.receive_inner()["kind"], "initiate_connection_ok");
    }
    let data =
        |base64: &str| json!({"kind": "tcp_data", "connection_id": "bad", "data_base64": base64});
    link.send_inner(&data("aGk="))?;
    assert_eq!(link.receive_inner(), data("aGk="));
    link.send_inner(&data("aGk"))?;
    let answer = link.receive_inner();
    assert_eq!(
        (&answer["kind"], &answer["connection_id"]),
        (&"connection_reset".into(), &"bad".into())
    );
    assert_eq!(target.next_seen().length, 2);
    // The id means nothing any more, and the other stream goes on.
    link.send_inner(&data("aGk="))?;
    check_stream(&mut link, "live")?;
    drop(agent);
    Ok(())
}

#[test]
fn an_id_in_use_connects_anew() -> io::Result<()> {
    let relay = RawRelay::new()?;
    let _agent = start_agent(Origin::Ours, relay.port(), &[]);
    let (mut link, _) = relay.accept_start()?;
    let (first, second) = (Target::echo(), Target::echo());
    for target in [&first, &second] {
        initiate(&mut link, "", "127.0.0.1", &target.port().into())?;
        let answer = link.receive_inner();
        assert_eq!(answer, json!({"kind": "initiate_connection_ok", "connection_id": ""}));
    }
    first.next_seen();
    check_stream(&mut link, "")?;
    assert_eq!(second.accepted(), 1);
    Ok(())
}

// ---- the client ----

/// Starts a client of a scripted relay.
fn start_client(relay: &RawRelay) -> Client {
    let url = format!("ws://127.0.0.1:{}{CLIENT_PATH}", relay.port());
    let mut command = client_command(Origin::Ours, &url);
    command.args([AGENT, "127.0.0.1", "22", "tcp"]);
    Client::start(command, Origin::Ours)
}

/// A client ends with this status and one line, or with none where all is well.
fn check_end(name: &str, client: &mut Client, status: i32) {
    let got = client.process.wait();
    let said = client.process.stderr_at_end();
    assert_eq!(got, status, "{name}: {said:?}");
    assert_eq!(said.len(), usize::from(status != 0), "{name}: {said:?}");
    assert!(said.iter().all(|line| line.starts_with("access-client: ")), "{name}: {said:?}");
    check_harmless(&said);
}

fn say_ok(link: &mut RawLink) -> io::Result<()> {
    link.send_inner(&json!({"kind": "start_ok"}))
}

fn error(link: &mut RawLink, message: &str) -> io::Result<()> {
    link.send_inner(&json!({"kind": "error", "message": message}))
}

const KEEP_ALIVE: Deed = |link| link.send_inner(&json!({"kind": "keep_alive"}));
const BAD_BASE64: Deed = |link| link.send_inner(&json!({"kind": "tcp_data", "data_base64": "aGk"}));

/// What ends a client: the deed, its status before an answer, and its status in the middle of a stream.
const CLIENT_ENDS: [(&str, Deed, i32, i32); 25] = [
    ("a keep_alive", KEEP_ALIVE, 21, 21),
    ("bad base64", BAD_BASE64, 21, 21),
    ("broken JSON", |link| link.send_text("{\"inner\":"), 21, 21),
    ("nothing", |link| link.send_text(""), 21, 21),
    ("an unknown kind", |link| link.send_inner(&json!({"kind": "\u{1b}[31m"})), 21, 21),
    (
        "an agent's message",
        |link| link.send_inner(&json!({"kind": "initiate_connection_ok"})),
        21,
        21,
    ),
    ("deep nesting", |link| link.send_text(&"[".repeat(60_000)), 21, 21),
    ("an error", |link| error(link, "Connection reset: \u{1b}[31mred\nnew"), 17, 17),
    ("an empty error", |link| error(link, ""), 17, 17),
    ("a bad secret", |link| error(link, "Invalid access client secret"), 12, 12),
    ("1000", |link| link.send_close(1000, ""), 18, 0),
    ("1001", |link| link.send_close(1001, "\u{1b}[31mred\nnew"), 18, 18),
    ("1008", |link| link.send_close(1008, "no start"), 17, 18),
    ("1011", |link| link.send_close(1011, "keepalive ping timeout"), 18, 18),
    ("1012", |link| link.send_close(1012, ""), 18, 18),
    ("3001", |link| link.send_close(3001, ""), 18, 18),
    ("4001", |link| link.send_close(4001, "Connection reset by peer"), 18, 20),
    ("4002", |link| link.send_close(4002, ""), 18, 23),
    ("4014", |link| link.send_close(4014, ""), 18, 19),
    // As above.
    ("999", |link| link.send_close(999, ""), 18, 18),
    ("no code", |link| link.send(CLOSE, b""), 18, 18),
    ("cut", cut, 18, 18),
    ("reset", reset, 18, 18),
    ("cut in a frame", |link| link.send_frame(TEXT, &[b'x'; 500]).and_then(|()| cut(link)), 18, 18),
    ("a stop", |link| link.stream().shutdown(Shutdown::Write), 18, 18),
];

#[test]
fn a_client_says_in_one_line_how_its_link_ended() -> io::Result<()> {
    all_at_once(&CLIENT_ENDS, |(name, deed, before, amid)| {
        check_client(name, before, false, deed)?;
        check_client(name, amid, true, deed)
    })?;
    all_at_once(&VIOLATIONS, |(name, deed, code, _)| {
        check_client(name, 21, false, |link| violate(name, link, deed, code))?;
        check_client(name, 21, true, |link| violate(name, link, deed, code))
    })
}

/// A client ends with this status after this was done to its link, before its answer or amid its stream.
fn check_client(
    name: &str,
    status: i32,
    is_amid: bool,
    deed: impl FnOnce(&mut RawLink) -> io::Result<()>,
) -> io::Result<()> {
    let relay = RawRelay::new()?;
    let mut client = start_client(&relay);
    let (mut link, start) = relay.accept_start()?;
    assert_eq!(start["connection_target"], AGENT);
    let mut sent = "";
    if is_amid {
        say_ok(&mut link)?;
        link.send_inner(&json!({"kind": "tcp_data", "data_base64": "aGVsbG8="}))?;
        sent = "hello";
        assert_eq!(client.output.wait_for(5), b"hello", "{name}");
    }
    deed(&mut link)?;
    check_end(&format!("{name}, amid the stream: {is_amid}"), &mut client, status);
    assert_eq!(client.output.wait_for_end(), sent.as_bytes(), "{name}");
    Ok(())
}

#[test]
fn a_client_says_in_one_line_why_there_is_no_link() -> io::Result<()> {
    all_at_once(&ANSWERS, |(name, answer, is_bad_answer)| {
        let relay = RawRelay::new()?;
        let mut client = start_client(&relay);
        let links = answer_until(&relay, answer, || client.process.ended().is_some())?;
        check_end(name, &mut client, if is_bad_answer { 11 } else { 10 });
        assert!((1..20).contains(&links.len()), "{name}: {} attempts", links.len());
        Ok(())
    })
}

#[test]
fn a_client_bears_what_is_odd_but_allowed() -> io::Result<()> {
    let relay = RawRelay::new()?;
    let mut client = start_client(&relay);
    let (mut link, _) = relay.accept_start()?;
    link.send(PING, b"early")?;
    assert_eq!(link.receive(), Received::Pong(b"early".to_vec()));
    // In binary, in fragments with a ping between them, with other spellings, twice.
    link.send(BINARY, br#"{"inner":{"kind":"start_ok","more":[1]}}"#)?;
    link.send_frame(TEXT, br#" { "inner" : {"data_base64":"aGVs"#)?;
    link.send(PING, b"amid")?;
    link.send_frame(CONTINUATION, br#"bG8=", "#)?;
    link.send(CONTINUATION, br#""kind":"\u0074cp_data"}} "#)?;
    say_ok(&mut link)?;
    link.send_inner(&json!({"kind": "tcp_data", "data_base64": ""}))?;
    link.send_inner(&json!({"kind": "tcp_data", "data_base64": "YSBi\r\n"}))?;
    assert_eq!(client.output.wait_for(8), b"helloa b");
    assert_eq!(link.receive(), Received::Pong(b"amid".to_vec()));
    client.send(b"x");
    assert_eq!(link.receive_inner(), json!({"kind": "tcp_data", "data_base64": "eA=="}));
    // What follows the close frame does not count any more.
    link.send_close(1000, "")?;
    link.stream().write_all(b"garbage")?;
    check_end("odd", &mut client, 0);
    Ok(())
}
