//! Ports and base64 that are spelled as no writer would.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cases::readers::{RefusingAgent, beginning, expect_left, relay_refuses};
use crate::harness::Target;
use crate::harness::tunnel::client_start;
use crate::kit::{
    Agent, Client, Finding, FromAgent, FromClient, Message, Outcome, Received, Relay, Request,
};

// ---- ports (Q-7, Q-8) ----

/// A message whose port is written so.
fn with_port(inner: &Value, spelling: &str) -> String {
    let mut inner = inner.clone();
    inner["target_port"] = "here".into();
    let text = json!({ "inner": inner }).to_string();
    text.replacen("\"here\"", spelling, 1)
}

/// What the agent is asked for; `None` if the relay refuses such a port by an `error`.
fn passed_on(
    relay: &Relay,
    agent: &mut FromAgent,
    spelling: &str,
) -> Outcome<(FromClient, Option<Message>)> {
    const TURN: Duration = Duration::from_millis(5);
    let mut client = relay.client_link()?;
    client.send_text(&with_port(&client_start(22), spelling));
    let end = Instant::now() + relay.stage().patience();
    while Instant::now() < end {
        match agent.receive_within(TURN)? {
            Some(Received::Text(text)) => return Ok((client, Some(Message::read(text)?))),
            Some(other) => return Err(Finding::Fail(format!("the agent gets {other:?}"))),
            None => {}
        }
        match client.receive_within(TURN)? {
            Some(Received::Text(text)) if Message::read(text.clone())?.kind() == "error" => {
                return Ok((client, None));
            }
            Some(other) => {
                return Err(Finding::Fail(format!("{} leads to {other:?}", beginning(spelling))));
            }
            None => {}
        }
    }
    Err(Finding::Fail(format!("nothing comes of {}", beginning(spelling))))
}

/// The relay passes each of these spellings on as this integer. `or_error`: or refuses it.
fn check_ports(relay: &Relay, or_error: bool, ports: &[(&str, i64)]) -> Outcome {
    let mut agent = relay.agent()?;
    // So the agent is admitted. All clients stay, so that nothing is said of their ends.
    let mut clients = vec![relay.stream(&mut agent)?.0];
    for (spelling, port) in ports {
        let (client, question) = passed_on(relay, &mut agent, spelling)?;
        match question {
            Some(question) if question.inner["target_port"] == *port => clients.push(client),
            None if or_error => {}
            Some(question) => {
                let came = question.inner["target_port"].to_string();
                let text = format!("{} becomes {}", beginning(spelling), beginning(&came));
                return Err(Finding::Fail(text));
            }
            None => return Err(Finding::Fail(format!("{} is refused", beginning(spelling)))),
        }
    }
    Ok(())
}

pub(super) fn ports_from_clients(relay: &Relay) -> Outcome {
    let ports = [
        ("22", 22),
        ("65535", 65_535),
        ("22.0", 22),
        ("22.000000", 22),
        ("1e2", 100),
        ("1E2", 100),
        ("1e+2", 100),
        ("2.2e1", 22),
        ("220e-1", 22),
        ("true", 1),
        (r#""22""#, 22),
        (r#"" 22 ""#, 22),
        (r#""\t22\n""#, 22),
        (r#""+22""#, 22),
        (r#""022""#, 22),
        (r#""0022""#, 22),
        (r#""22.0""#, 22),
        (r#""22.00""#, 22),
        (r#""1_000""#, 1000),
        (r#""6_5_5_3_5""#, 65_535),
        (r#""\u0032\u0032""#, 22),
        (r#"" +0_22.0 ""#, 22),
    ];
    check_ports(relay, false, &ports)
}

/// Spellings that are none of an integer.
fn no_ports() -> Vec<String> {
    let spellings = [
        "01",
        "-01",
        "+1",
        "0x16",
        "1.",
        ".5",
        "22.5",
        "22e-1",
        "1e400",
        "NaN",
        "Infinity",
        "null",
        "[]",
        "[22]",
        "{}",
        r#""22.5""#,
        r#""22.""#,
        r#"".5""#,
        r#""1e2""#,
        r#""0x16""#,
        r#""0b1""#,
        r#""0o7""#,
        r#""1__0""#,
        r#""_1""#,
        r#""1_""#,
        r#""22,0""#,
        r#""1 000""#,
        r#""٢٢""#,
        r#""２２""#,
        r#""²""#,
        r#""""#,
        r#"" ""#,
        r#""ssh""#,
        r#""22a""#,
        r#""true""#,
        r#""NaN""#,
        r#""--1""#,
        r#""+-1""#,
        r#""+ 1""#,
        r#""-""#,
    ];
    spellings.iter().map(|spelling| (*spelling).to_owned()).collect()
}

pub(super) fn no_ports_from_clients(relay: &Relay) -> Outcome {
    let mut spellings = no_ports();
    spellings.push(format!("\"{}\"", "9".repeat(4301)));
    let texts: Vec<_> =
        spellings.iter().map(|spelling| with_port(&client_start(22), spelling)).collect();
    relay_refuses(relay, &Request::client(), &texts)
}

pub(super) fn ports_to_agent(agent: &mut Agent) -> Outcome {
    let target = Target::echo();
    let port = target.port();
    let (first, rest) = (port / 1000, format!("{:03}", port % 1000));
    let spellings = [
        format!("{port}.0"),
        format!("{port}0e-1"),
        format!("{}e1", f64::from(port) / 10.0),
        format!("\"{port}\""),
        format!("\" +0{port}.00\\n\""),
        format!("\"{first}_{rest}\""),
    ];
    let mut agent = RefusingAgent::at(agent, target)?;
    for spelling in spellings {
        agent.accepts(&with_port(&agent.question(), &spelling))?;
    }
    Ok(())
}

pub(super) fn no_ports_to_agent(agent: &mut Agent) -> Outcome {
    let mut agent = RefusingAgent::start(agent)?;
    let port = agent.question()["target_port"].clone();
    // Almost the port at which it would be served, and some that a relay refuses, too: some agents start afresh after each.
    let own =
        ["[PORT]", "PORT.5", "\"PORT.\"", "\"PORT.5\"", "\"PORT_\"", "\"PORTe0\"", "\"- PORT\""];
    let own = own.map(|spelling| spelling.replace("PORT", &port.to_string()));
    for spelling in own.into_iter().chain(no_ports().into_iter().step_by(4)) {
        agent.refuses(&with_port(&agent.question(), &spelling))?;
    }
    Ok(())
}

pub(super) fn any_integer_from_clients(relay: &Relay) -> Outcome {
    let ports = [
        ("0", 0),
        ("-0", 0),
        ("-0.0", 0),
        ("false", 0),
        (r#""000""#, 0),
        ("-1", -1),
        (r#""-22""#, -22),
        ("65536", 65_536),
        ("70000", 70_000),
        ("4294967296", 4_294_967_296),
        ("1e15", 1_000_000_000_000_000),
        ("9007199254740993.0", 9_007_199_254_740_992),
        ("9223372036854775807", i64::MAX),
        ("-9223372036854775808", i64::MIN),
    ];
    check_ports(relay, true, &ports)
}

/// Spellings of integers beyond 64 bits, and the nearest one within.
fn large() -> Vec<(String, i64)> {
    let mut ports: Vec<(String, i64)> = [
        ("9223372036854775808", i64::MAX),
        ("18446744073709551616", i64::MAX),
        ("1000000000000000000000000000000", i64::MAX),
        ("1e19", i64::MAX),
        ("1e300", i64::MAX),
        ("-9223372036854775809", i64::MIN),
        ("-1e19", i64::MIN),
        (r#""9223372036854775808""#, i64::MAX),
        (r#""-999999999999999999999999999999.0""#, i64::MIN),
    ]
    .map(|(spelling, port)| (spelling.to_owned(), port))
    .to_vec();
    ports.push((format!("\"{}\"", "9".repeat(4300)), i64::MAX));
    ports
}

pub(super) fn large_from_clients(relay: &Relay) -> Outcome {
    let ports = large();
    let ports: Vec<_> = ports.iter().map(|(spelling, port)| (&**spelling, *port)).collect();
    check_ports(relay, true, &ports)
}

/// The agent reads each of these ports, and says that it is none.
fn check_no_ports(agent: &mut Agent, spellings: &[String]) -> Outcome {
    let mut link = agent.start()?;
    let question = json!({
        "kind": "initiate_connection", "target_ip": "127.0.0.1", "target_port": 0,
        "protocol": "tcp", "connection_id": "nowhere",
    });
    for spelling in spellings {
        link.send_text(&with_port(&question, spelling));
        link.expect_refusal("nowhere").map_err(|finding| match finding {
            Finding::Fail(seen) => Finding::Fail(format!("{}: {seen}", beginning(spelling))),
            other => other,
        })?;
    }
    link.expect_quiet()
}

pub(super) fn any_integer_to_agent(agent: &mut Agent) -> Outcome {
    // The ports behind which it would be served if only their lower bits counted.
    let target = Target::echo();
    let port = i64::from(target.port());
    let mut ports: Vec<_> =
        [0, -1, 70_000, port + (1 << 16), port + (1 << 32), port - (1 << 16), i64::MAX, i64::MIN]
            .map(|port| port.to_string())
            .to_vec();
    ports.extend(["false", "-0.0", r#""-22""#, r#""70_000""#].map(str::to_owned));
    check_no_ports(agent, &ports)
}

pub(super) fn large_to_agent(agent: &mut Agent) -> Outcome {
    check_no_ports(agent, &large().into_iter().map(|(spelling, _)| spelling).collect::<Vec<_>>())
}

// ---- base64 (Q-9) ----

/// Texts and the bytes that they stand for.
const LAX: [(&str, &[u8]); 38] = [
    ("", b""),
    ("=", b""),
    ("==", b""),
    ("====", b""),
    ("AA==", b"\0"),
    ("AAA=", b"\0\0"),
    ("AAAA", b"\0\0\0"),
    // Too much padding, or some where none belongs.
    ("AAAA=", b"\0\0\0"),
    ("AAAA==", b"\0\0\0"),
    ("AAAA====", b"\0\0\0"),
    ("AAA==", b"\0\0"),
    ("AA===", b"\0"),
    ("aGVsbG8==", b"hello"),
    ("=aGVsbG8=", b"hello"),
    ("QQ=\nQ=", b"A\x04"),
    // What follows the end.
    ("AA==AA==", b"\0"),
    ("QQ==QQ==", b"A"),
    ("aGVsbG8=garbage", b"hello"),
    ("aGVsbG8=aGVsbG8=", b"hello"),
    // Characters outside the alphabet.
    ("aGVs\nbG8=", b"hello"),
    ("aGVs bG8=", b"hello"),
    (" aGVsbG8= ", b"hello"),
    ("aGVs\r\nbG8=\r\n", b"hello"),
    ("aGVsbG8=\0", b"hello"),
    ("aGVs!bG8=", b"hello"),
    ("****", b""),
    ("*", b""),
    ("-_-_", b""),
    ("-_aGVsbG8=", b"hello"),
    (
        "data:text/plain;base64,aGVsbG8=",
        b"\x75\xab\x5a\xb5\xec\x6d\xfe\x99\x5a\x8a\x76\xda\xb1\xee\xb8hello",
    ),
    // The last two characters of the alphabet.
    ("+/+/", b"\xfb\xff\xbf"),
    ("//8=", b"\xff\xff"),
    ("+w==", b"\xfb"),
    // Unused bits.
    ("AB==", b"\0"),
    ("AP==", b"\0"),
    ("AAB=", b"\0\0"),
    ("/x==", b"\xff"),
    ("//9=", b"\xff\xff"),
];

/// Texts that cannot be read.
const UNREADABLE: [&str; 17] = [
    "A",
    "AA",
    "AA=",
    "AAA",
    "AAAAA",
    "AAAA=AAA",
    "aGVsbG8",
    "aGVsbG8*",
    "=AAA",
    "A=AA",
    "AA=A",
    "A===",
    "__8=",
    "a-b_",
    "é",
    "aGVsé",
    "aGVsbG8=é",
];

fn data_of(id: &str, base64: &str) -> Value {
    json!({ "kind": "tcp_data", "connection_id": id, "data_base64": base64 })
}

fn clients_data(base64: &str) -> Value {
    json!({ "kind": "tcp_data", "data_base64": base64 })
}

/// What was wrong, and with which text.
fn about(text: &str) -> impl Fn(Finding) -> Finding {
    move |finding| match finding {
        Finding::Fail(seen) => Finding::Fail(format!("{}: {seen}", beginning(text))),
        other => other,
    }
}

/// Follows each text, so that no bytes are seen as such, too.
const END: &[u8] = b"|";

pub(super) fn base64_from_agents(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (mut client, id) = relay.stream(&mut agent)?;
    for (text, bytes) in LAX {
        agent.send(&data_of(&id, text));
        agent.data(&id, END);
        client.expect_data(&[bytes, END].concat()).map_err(about(text))?;
    }
    Ok(())
}

pub(super) fn base64_from_clients(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (mut client, id) = relay.stream(&mut agent)?;
    for (text, bytes) in LAX {
        client.send(&clients_data(text));
        client.data(END);
        agent.expect_data(&id, &[bytes, END].concat()).map_err(about(text))?;
    }
    Ok(())
}

pub(super) fn base64_to_agent(agent: &mut Agent) -> Outcome {
    let target = Target::echo();
    let mut link = agent.start()?;
    link.open("echo", target.port())?;
    for (text, bytes) in LAX {
        link.send(&data_of("echo", text));
        link.data("echo", END);
        link.expect_data("echo", &[bytes, END].concat()).map_err(about(text))?;
    }
    Ok(())
}

pub(super) fn base64_to_client(client: &mut Client) -> Outcome {
    let mut link = client.open()?;
    for (text, bytes) in LAX {
        link.send(&clients_data(text));
        link.data(END);
        client.expect_output(&[bytes, END].concat()).map_err(about(text))?;
    }
    Ok(())
}

/// What becomes of the stream, S-16 says, and has cases of its own.
pub(super) fn no_base64_from_agents(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let mut clients = Vec::new();
    for text in UNREADABLE {
        let (mut client, id) = relay.stream(&mut agent)?;
        agent.send(&data_of(&id, text));
        agent.data(&id, END);
        match client.receive()? {
            Received::Close(..) => agent.expect_connection_close(&id)?,
            Received::Text(came) if Message::read(came.clone())?.data()? == END => {
                clients.push(client);
            }
            other => return Err(about(text)(Finding::Fail(format!("the client gets {other:?}")))),
        }
    }
    Ok(())
}

pub(super) fn no_base64_from_clients(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    for text in UNREADABLE {
        let (mut client, id) = relay.stream(&mut agent)?;
        client.send(&clients_data(text));
        match client.receive().map_err(about(text))? {
            Received::Close(..) => agent.expect_connection_close(&id)?,
            Received::End => agent.expect_quiet()?,
            other => return Err(about(text)(Finding::Fail(format!("the client gets {other:?}")))),
        }
    }
    Ok(())
}

pub(super) fn no_base64_to_agent(agent: &mut Agent) -> Outcome {
    let target = Target::echo();
    let mut link = agent.start()?;
    for text in UNREADABLE {
        link.open("echo", target.port())?;
        link.send(&data_of("echo", text));
        match link.receive().map_err(about(text))? {
            Received::Text(came) if Message::read(came.clone())?.kind() == "connection_reset" => {}
            // It starts afresh, without the delay of A-11.
            Received::Close(..) | Received::End => link = agent.start()?,
            other => return Err(about(text)(Finding::Fail(format!("this came: {other:?}")))),
        }
        if target.next_seen().length > 0 {
            return Err(about(text)(Finding::fail("the target got a part of it")));
        }
    }
    Ok(())
}

pub(super) fn no_base64_to_client(client: &mut Client) -> Outcome {
    for text in UNREADABLE {
        let mut link = client.open()?;
        link.send(&clients_data(text));
        link.data(b"never to be seen");
        expect_left(&mut link).map_err(about(text))?;
        client.expect_failure().map_err(about(text))?;
    }
    Ok(())
}
