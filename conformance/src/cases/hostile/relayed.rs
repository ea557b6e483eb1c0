//! Hostile peers of a relay.

use std::time::{Duration, Instant};

use codec::v1::{
    AGENT_PATH, CLIENT_PATH, CLOSE_INVALID, CLOSE_NORMAL, ERROR_BAD_SECRET, MAX_MESSAGE_TO_RELAY,
};
use serde_json::{Value, json};

use crate::harness::frames::{BINARY, CLOSE, CONTINUATION, PING, TEXT, frame, upgrade};
use crate::harness::seeded_bytes;
use crate::harness::tunnel::{AGENT, AGENT_SECRET, OTHER_AGENT, client_start};
use crate::kit::{
    Finding, FromAgent, FromClient, Link, Outcome, Received, Relay, Request, data_of,
};

/// A stream between two good peers, which has to go on as if it were alone.
struct Good {
    agent: FromAgent,
    client: FromClient,
    id: String,
    count: usize,
}

impl Good {
    fn start(relay: &Relay) -> Outcome<Self> {
        let mut agent = relay.agent()?;
        let (client, id) = relay.stream(&mut agent)?;
        Ok(Self { agent, client, id, count: 0 })
    }

    /// A line in each direction arrives, and nothing else.
    fn check(&mut self) -> Outcome {
        self.count += 1;
        let line = format!("line {}\n", self.count);
        self.client.data(line.as_bytes());
        self.agent.expect_data(&self.id, line.as_bytes())?;
        self.agent.data(&self.id, line.as_bytes());
        self.client.expect_data(line.as_bytes())
    }

    /// The same, and further streams can be opened.
    fn check_all(mut self, relay: &Relay) -> Outcome {
        self.check()?;
        let (mut other, id) = relay.stream(&mut self.agent)?;
        other.data(b"another");
        self.agent.expect_data(&id, b"another")?;
        self.check()
    }
}

/// What came was no message, or not well framed, and the link is over for it.
fn expect_ended(link: &mut Link) -> Outcome {
    loop {
        match link.receive()? {
            Received::Close(..) | Received::End => return Ok(()),
            // A start may have been answered before.
            Received::Text(_) => {}
            other => return Err(Finding::Fail(format!("the link goes on: {other:?}"))),
        }
    }
}

fn both() -> [Request; 2] {
    [Request::agent(), Request::client()]
}

// ---- before the link ----

pub(super) fn garbage(relay: &Relay) -> Outcome {
    let mut good = Good::start(relay)?;
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    let endless = [b"GET / HTTP/1.1\r\nX: ", &[b'x'; 1 << 20][..]].concat();
    let lines = "GET / HTTP/1.1\r\n".to_owned() + &"X: y\r\n".repeat(20_000);
    let body = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n";
    let chunks =
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n";
    for round in 0..5 {
        let random = seeded_bytes(round, 3000);
        let pieces: [&[u8]; 10] = [
            &random,
            hello,
            b"GET",
            b"\r\n\r\n\r\n",
            b"\0\0\0\0\r\n\r\n",
            b"GET /ws_for_edge_agents HTTP/9.9\r\n\r\n",
            &endless,
            lines.as_bytes(),
            body.as_bytes(),
            chunks.as_bytes(),
        ];
        for piece in pieces {
            let mut link = relay.dial()?;
            link.write(piece);
            link.finish();
            good.check()?;
        }
    }
    good.check_all(relay)
}

pub(super) fn silence(relay: &Relay) -> Outcome {
    let mut good = Good::start(relay)?;
    let mut links = Vec::new();
    for index in 0..50 {
        links.push(relay.dial()?);
        let mut half = relay.dial()?;
        let request = upgrade(AGENT_PATH);
        half.write(&request.as_bytes()[..20 + index]);
        links.push(half);
        for request in both() {
            let mut whole = relay.dial()?;
            whole.request(&request)?;
            links.push(whole);
        }
        good.check()?;
    }
    good.check_all(relay)
}

// ---- frames ----

pub(super) fn endless_fragments(relay: &Relay) -> Outcome {
    let mut good = Good::start(relay)?;
    for request in both() {
        let mut link = relay.link_by(&request)?;
        link.send_frame(TEXT, b"{");
        for _ in 0..100 {
            // Two hundred frames in one write, empty and of one byte.
            let some = [frame(CONTINUATION, b""), frame(CONTINUATION, b" ")].concat().repeat(100);
            link.write(&some);
            good.check()?;
        }
    }
    good.check_all(relay)
}

pub(super) fn broken_frames(relay: &Relay) -> Outcome {
    let mut good = Good::start(relay)?;
    let broken = [
        frame(0x80 | 3, b"reserved opcode"),
        frame(0x80 | 11, b"reserved opcode"),
        frame(0xc0 | TEXT, b"reserved bit"),
        frame(0xa0 | TEXT, b"reserved bit"),
        frame(0x80 | CONTINUATION, b"stray"),
        frame(0x80 | PING, &[0; 126]),
        frame(PING, b"fragmented"),
        frame(0x80 | CLOSE, b"\x03"),
        frame(0x80 | CLOSE, &999_u16.to_be_bytes()),
        frame(0x80 | CLOSE, &1005_u16.to_be_bytes()),
        frame(0x80 | CLOSE, b"\x03\xe8\xff\xfe"),
        frame(0x80 | TEXT, b"\xff\xfe"),
        frame(0x80 | BINARY, b"{}"),
        [frame(TEXT, b"{"), frame(0x80 | TEXT, b"}")].concat(),
        b"\x81\x02{}".to_vec(),
        vec![0xff; 64],
    ];
    for bytes in broken {
        for request in both() {
            let mut link = relay.link_by(&request)?;
            link.write(&bytes);
            expect_ended(&mut link)?;
            good.check()?;
        }
    }
    good.check_all(relay)
}

pub(super) fn oversized(relay: &Relay) -> Outcome {
    let mut good = Good::start(relay)?;
    for length in [MAX_MESSAGE_TO_RELAY as u64 + 1, 1 << 40, i64::MAX as u64, u64::MAX] {
        for opcode in [TEXT, BINARY] {
            for request in both() {
                let mut link = relay.link_by(&request)?;
                let mut claim = vec![0x80 | opcode, 0xff];
                claim.extend(length.to_be_bytes());
                claim.extend([0; 4]);
                link.write(&claim);
                expect_ended(&mut link)?;
                good.check()?;
            }
        }
    }
    good.check_all(relay)
}

pub(super) fn vanishing(relay: &Relay) -> Outcome {
    let mut good = Good::start(relay)?;
    let start = json!({ "inner": client_start(22) }).to_string();
    let whole = frame(0x80 | TEXT, start.as_bytes());
    for index in 0..20 {
        let mut cut = relay.dial()?;
        cut.request(&both()[index % 2])?;
        cut.write(&whole[..1 + index * 5]);
        if index % 4 < 2 {
            cut.reset();
        }
        let mut half = relay.dial()?;
        half.write(&upgrade(CLIENT_PATH).as_bytes()[..10 + index]);
        half.reset();
        good.check()?;
    }
    good.check_all(relay)
}

pub(super) fn pings(relay: &Relay) -> Outcome {
    let mut good = Good::start(relay)?;
    let mut other = relay.agent_named(OTHER_AGENT.0, OTHER_AGENT.1)?;
    for _ in 0..20 {
        other.write(&frame(0x80 | PING, &[7; 125]).repeat(200));
        good.check()?;
    }
    other.ping(b"last");
    expect_last_pong(&mut other)?;
    good.check_all(relay)
}

/// The pong to the last of many pings; of those before it some may be left out, as RFC 6455 has it.
pub(super) fn expect_last_pong(link: &mut Link) -> Outcome {
    let patience = link.stage().patience();
    loop {
        match link.next(patience)? {
            Some(Received::Pong(payload)) if payload == b"last" => return Ok(()),
            Some(Received::Pong(_) | Received::Ping(_)) => {}
            Some(Received::Text(text)) if text.contains("keep_alive") => {}
            other => return Err(Finding::Fail(format!("instead of a pong came {other:?}"))),
        }
    }
}

// ---- texts ----

/// Texts that nobody can read.
pub(super) fn unreadable() -> Vec<String> {
    let brackets = "[".repeat(5000);
    let texts = [
        "",
        "{\"inner\":{\"kind\":",
        "{\"inner\":{\"kind\":\"tcp_data\",\"data_base64\":\"AAAA",
        "\u{feff}{}",
        "\0\0\0\0",
        "null",
        "{}}",
        "[]",
        "{\"inner\":NaN}",
        "\u{1f980}",
        &brackets,
    ];
    texts.map(str::to_owned).to_vec()
}

pub(super) fn broken_json(relay: &Relay) -> Outcome {
    let mut good = Good::start(relay)?;
    for _ in 0..5 {
        for text in unreadable() {
            for request in both() {
                let mut link = relay.link_by(&request)?;
                link.send_text(&text);
                match link.receive()? {
                    Received::Close(Some(CLOSE_INVALID), _) | Received::End => {}
                    other => {
                        return Err(Finding::Fail(format!("the link goes on: {other:?}")));
                    }
                }
            }
            good.check()?;
        }
    }
    good.check_all(relay)
}

/// A message of a client whose stream is open, with something in a field that means nothing.
fn padded(value: &str) -> String {
    format!("{{\"inner\":{{\"kind\":\"tcp_data\",\"data_base64\":\"\",\"x\":{value}}}}}")
}

pub(super) fn many_values(relay: &Relay) -> Outcome {
    let mut good = Good::start(relay)?;
    let mut other = relay.agent_named(OTHER_AGENT.0, OTHER_AGENT.1)?;
    let mut start = client_start(22);
    start["connection_target"] = OTHER_AGENT.0.into();
    let values = [
        format!("[{}0]", "0,".repeat(2_000_000)),
        format!("[{}0]", "[],".repeat(1_000_000)),
        format!("{{{}\"a\":0}}", "\"a\":0,".repeat(500_000)),
    ];
    // All streams first: what becomes of one is told amid the questions for the next.
    let clients = values.iter().map(|_| {
        let (mut client, id) = relay.ask_with(&mut other, &start)?;
        other.ok(&id);
        client.expect_kind("start_ok")?;
        Ok(client)
    });
    let clients = clients.collect::<Outcome<Vec<_>>>()?;
    for (mut client, value) in clients.into_iter().zip(values) {
        client.send_text(&padded(&value));
        good.check()?;
        // It may be read or refused, but the link goes on to its end.
        client.close(CLOSE_NORMAL);
        expect_ended(&mut client)?;
    }
    good.check_all(relay)
}

pub(super) fn deep_nesting(relay: &Relay) -> Outcome {
    let mut good = Good::start(relay)?;
    let deep = 100_000;
    let texts = [
        "[".repeat(60_000),
        "{\"inner\":".repeat(6_000),
        padded(&"[".repeat(30_000)),
        padded(&format!("{}{}", "[".repeat(30_000), "]".repeat(30_000))),
        padded(&format!("{}0{}", "{\"a\":".repeat(8_000), "}".repeat(8_000))),
    ];
    for text in texts {
        for request in both() {
            let mut link = relay.link_by(&request)?;
            link.send_text(&text);
            expect_ended(&mut link)?;
            good.check()?;
        }
    }
    // On an open stream messages may be larger.
    let (mut client, id) = relay.stream(&mut good.agent)?;
    client.send_text(&padded(&format!("{}{}", "[".repeat(deep), "]".repeat(deep))));
    match client.receive()? {
        Received::Close(..) => good.agent.expect_connection_close(&id)?,
        Received::End => {}
        other => return Err(Finding::Fail(format!("the link goes on: {other:?}"))),
    }
    good.check_all(relay)
}

// ---- who somebody is ----

pub(super) fn guessed_secrets(relay: &Relay) -> Outcome {
    let mut good = Good::start(relay)?;
    for guess in 0..50 {
        let secret = format!("guess {guess}");
        let mut agent = relay.agent_named(AGENT, &secret)?;
        match agent.receive()? {
            Received::Close(..) => {}
            other => return Err(Finding::Fail(format!("the guess leads to {other:?}"))),
        }
        let mut client = relay.client_link()?;
        let mut start = client_start(22);
        start["secret"] = secret.into();
        client.send(&start);
        client.expect_error(ERROR_BAD_SECRET)?;
        good.check()?;
    }
    good.check_all(relay)
}

pub(super) fn claims(relay: &Relay) -> Outcome {
    let mut good = Good::start(relay)?;
    let mut claimants = Vec::new();
    for _ in 0..20 {
        claimants.push(relay.agent_named(AGENT, AGENT_SECRET)?);
    }
    let end = Instant::now() + relay.stage().patience();
    while let Some(claimant) = claimants.last_mut() {
        // So the holder answers the ping of A-7.
        good.check()?;
        match claimant.receive_within(Duration::from_millis(20))? {
            None if Instant::now() < end => {}
            Some(Received::Close(..) | Received::End) => drop(claimants.pop()),
            other => return Err(Finding::Fail(format!("the claim leads to {other:?}"))),
        }
    }
    good.check_all(relay)
}

// ---- streams of others ----

/// A message of each kind that names a stream.
fn naming(id: &str) -> [Value; 5] {
    [
        data_of(id, b"foreign"),
        json!({ "kind": "initiate_connection_ok", "connection_id": id }),
        json!({ "kind": "initiate_connection_error", "message": "no", "connection_id": id }),
        json!({ "kind": "connection_reset", "message": "over", "connection_id": id }),
        json!({ "kind": "tcp_data", "connection_id": id, "data_base64": "cannot be read" }),
    ]
}

pub(super) fn foreign_ids(relay: &Relay) -> Outcome {
    let mut good = Good::start(relay)?;
    let (mut waiting, waiting_id) = relay.ask(&mut good.agent)?;
    let mut other = relay.agent_named(OTHER_AGENT.0, OTHER_AGENT.1)?;
    for id in [good.id.clone(), waiting_id.clone()] {
        for message in naming(&id) {
            other.send(&message);
        }
    }
    other.expect_quiet()?;
    good.check()?;
    waiting.expect_quiet()?;
    good.agent.ok(&waiting_id);
    waiting.expect_kind("start_ok")?;
    good.check_all(relay)
}

pub(super) fn unknown_ids(relay: &Relay) -> Outcome {
    let mut good = Good::start(relay)?;
    let mut other = relay.agent_named(OTHER_AGENT.0, OTHER_AGENT.1)?;
    let upper = good.id.to_uppercase();
    let long = "x".repeat(1000);
    let ids = ["", "0", &upper, &long, "00000000-0000-4000-8000-000000000000"];
    for _ in 0..40 {
        for id in ids {
            for message in naming(id) {
                other.send(&message);
                good.agent.send(&message);
            }
        }
        other.expect_quiet()?;
        good.check()?;
    }
    good.check_all(relay)
}
