//! What relays do about HTTP.

use codec::v1::{AGENT_PATH, CLIENT_PATH, RELAY_HEADER};

use crate::harness::tunnel::{AGENT, AGENT_SECRET, agent_start, client_start};
use crate::kit::{Answer, Finding, Outcome, Relay, Request};

fn status_of(relay: &Relay, request: &Request) -> Outcome<u16> {
    relay.http(request).map(|answer| answer.status())
}

/// Fails unless each of these is answered with this status.
fn expect_status(relay: &Relay, status: u16, requests: &[Request]) -> Outcome {
    for request in requests {
        let answer = relay.http(request)?;
        if answer.status() != status {
            let (line, asked) = (answer.first_line, request.text());
            return Err(Finding::Fail(format!("{line:?} instead of {status}, to {asked:?}")));
        }
    }
    Ok(())
}

pub(super) fn both_paths(relay: &Relay) -> Outcome {
    expect_status(relay, 101, &[Request::upgrade(AGENT_PATH), Request::upgrade(CLIENT_PATH)])?;
    // Each is the endpoint of its party.
    let mut agent = relay.agent()?;
    relay.stream(&mut agent)?;
    Ok(())
}

pub(super) fn other_spellings(relay: &Relay) -> Outcome {
    let encoded = AGENT_PATH.replace('_', "%5F");
    let queried = format!("{CLIENT_PATH}?a=b&c");
    expect_status(relay, 101, &[Request::upgrade(&encoded), Request::upgrade(&queried)])
}

pub(super) fn other_paths(relay: &Relay) -> Outcome {
    let paths = [
        AGENT_PATH.to_uppercase(),
        format!("{AGENT_PATH}/"),
        format!("/{CLIENT_PATH}"),
        format!("{CLIENT_PATH}/"),
        "/".to_owned(),
    ];
    expect_status(relay, 403, &paths.map(|path| Request::upgrade(&path)))
}

pub(super) fn plain_http(relay: &Relay) -> Outcome {
    expect_status(relay, 404, &[Request::plain("GET", "/nothing")])
}

pub(super) fn upgrade_tokens(relay: &Relay) -> Outcome {
    let request = Request::agent();
    let forms = [
        request.clone().with("Upgrade", "WebSocket"),
        request.clone().with("Connection", "upgrade"),
        request.clone().with("Connection", "keep-alive, Upgrade"),
        request.with("Upgrade", "WEBSOCKET").with("Connection", "UPGRADE,x"),
    ];
    expect_status(relay, 101, &forms)
}

pub(super) fn upgrade_over_http_1_0(relay: &Relay) -> Outcome {
    match status_of(relay, &Request::agent().over("HTTP/1.0"))? {
        101 => Ok(()),
        400..500 => Err(Finding::Unimplemented("upgrades over HTTP/1.0 are refused".to_owned())),
        status => Err(Finding::Fail(format!("the answer is {status}"))),
    }
}

pub(super) fn ignored_headers(relay: &Relay) -> Outcome {
    let request = Request::agent()
        .with("Origin", "https://elsewhere.example")
        .with("Authorization", "Basic bm9ib2R5Om5vdGhpbmc=")
        .with("Sec-WebSocket-Protocol", "chat, mqtt");
    let mut agent = relay.agent_by(&request)?;
    agent.send(&agent_start(AGENT, AGENT_SECRET));
    relay.stream(&mut agent)?;
    Ok(())
}

pub(super) fn without_host(relay: &Relay) -> Outcome {
    expect_status(relay, 101, &[Request::agent().without("Host")])
}

pub(super) fn switching_protocols(relay: &Relay) -> Outcome {
    let request = Request::agent().with("Sec-WebSocket-Protocol", "chat");
    let answer = relay.http(&request)?;
    let accept = answer.header("Sec-WebSocket-Accept");
    // The example of RFC 6455, section 1.3.
    let is_good = answer.status() == 101
        && answer.lists("Upgrade", "websocket")
        && answer.lists("Connection", "Upgrade")
        && accept == Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    if !is_good {
        return Err(Finding::Fail(format!("{:?} {:?}", answer.first_line, answer.headers)));
    }
    match answer.header("Sec-WebSocket-Protocol") {
        None => Ok(()),
        Some(named) => Err(Finding::Fail(format!("the answer names the subprotocol {named:?}"))),
    }
}

pub(super) fn offers(relay: &Relay) -> Outcome {
    let offers = [
        "permessage-deflate",
        "permessage-deflate; client_max_window_bits",
        "permessage-deflate; client_max_window_bits=10",
        "permessage-deflate; server_max_window_bits=9",
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
        "permessage-deflate; server_max_window_bits=8",
    ];
    let upgrade = |offer: &&str| Request::agent().with("Sec-WebSocket-Extensions", offer);
    expect_status(relay, 101, &offers.iter().map(upgrade).collect::<Vec<_>>())
}

pub(super) fn uncompressed(relay: &Relay) -> Outcome {
    let request = Request::client().with("Sec-WebSocket-Extensions", "permessage-deflate");
    let answer = relay.http(&request)?;
    if answer.header("Sec-WebSocket-Extensions").is_none() {
        return Err(Finding::Unimplemented("every offer of compression is declined".to_owned()));
    }
    let mut client = relay.client_by(&request)?;
    client.send(&client_start(22));
    // Its answer is compressed, and begins with the bits of a text message whose first reserved bit is set, or not.
    match client.first_bytes(1)?[..] {
        [0xc1 | 0x81] => Ok(()),
        ref other => Err(Finding::Fail(format!("the first byte of the answer is {other:?}"))),
    }
}

pub(super) fn unknown_path(relay: &Relay) -> Outcome {
    let mut link = relay.dial()?;
    let answer = link.request(&Request::upgrade("/elsewhere"))?;
    if answer.status() != 403 || !answer.body.is_empty() {
        return Err(Finding::Fail(format!("{:?} {:?}", answer.first_line, answer.text())));
    }
    link.expect_end_of_http()
}

/// Fails unless this is the answer to a request without an upgrade.
fn check_404(answer: &Answer) -> Outcome {
    let content = answer.header("Content-Type").unwrap_or_default();
    let is_json = content.split(';').next() == Some("application/json");
    if answer.status() == 404 && is_json && answer.text() == r#"{"detail":"Not Found"}"# {
        return Ok(());
    }
    Err(Finding::Fail(format!("{:?}, {content}, {:?}", answer.first_line, answer.text())))
}

pub(super) fn no_upgrade(relay: &Relay) -> Outcome {
    for path in [AGENT_PATH, CLIENT_PATH, "/", "/elsewhere"] {
        check_404(&relay.http(&Request::plain("GET", path))?)?;
    }
    let post = Request::plain("POST", AGENT_PATH).with("Content-Length", "0");
    check_404(&relay.http(&post)?)
}

pub(super) fn other_upgrades(relay: &Relay) -> Outcome {
    let request = Request::agent();
    for request in [
        request.clone().with("Upgrade", "h2c"),
        request.clone().with("Connection", "keep-alive"),
        request.clone().without("Connection"),
        request.without("Upgrade"),
    ] {
        check_404(&relay.http(&request)?)?;
    }
    Ok(())
}

pub(super) fn no_documentation(relay: &Relay) -> Outcome {
    for path in ["/docs", "/redoc", "/openapi.json"] {
        check_404(&relay.http(&Request::plain("GET", path))?)?;
    }
    Ok(())
}

pub(super) fn bad_keys(relay: &Relay) -> Outcome {
    let request = Request::agent();
    let requests = [
        request.clone().without("Sec-WebSocket-Key"),
        request.clone().with("Sec-WebSocket-Key", "c2hvcnQ="),
        request.with("Sec-WebSocket-Key", "!"),
    ];
    expect_status(relay, 400, &requests)
}

pub(super) fn bad_versions(relay: &Relay) -> Outcome {
    let request = Request::agent();
    let requests = [
        request.clone().without("Sec-WebSocket-Version"),
        request.clone().with("Sec-WebSocket-Version", "8"),
        request.with("Sec-WebSocket-Version", "14"),
    ];
    expect_status(relay, 400, &requests)
}

pub(super) fn upgrade_by_post(relay: &Relay) -> Outcome {
    expect_status(relay, 400, &[Request::agent().by("POST").with("Content-Length", "0")])
}

pub(super) fn not_http(relay: &Relay) -> Outcome {
    let mut link = relay.dial()?;
    link.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n");
    match link.answer()?.status() {
        400 => Ok(()),
        status => Err(Finding::Fail(format!("the status is {status}"))),
    }
}

pub(super) fn long_header(relay: &Relay) -> Outcome {
    expect_status(relay, 101, &[Request::agent().with("X-Long", &"x".repeat(8000 - 8))])
}

pub(super) fn huge_header(relay: &Relay) -> Outcome {
    match status_of(relay, &Request::agent().with("X-Long", &"x".repeat(1 << 20)))? {
        400..500 => Ok(()),
        status => Err(Finding::Fail(format!("the status is {status}"))),
    }
}

/// A relay that makes the promise keeps it: a burst of data and the reset right behind it.
pub(super) fn promise(relay: &Relay) -> Outcome {
    let answer = relay.http(&Request::agent())?;
    let Some(value) = answer.header(RELAY_HEADER) else {
        return Err(Finding::Unimplemented("the relay makes no promise".to_owned()));
    };
    if value.is_empty() {
        return Err(Finding::fail("the header is empty"));
    }
    let sent = crate::harness::seeded_bytes(12, 200_000);
    let mut agent = relay.agent()?;
    for _ in 0..5 {
        let (mut client, id) = relay.stream(&mut agent)?;
        for piece in sent.chunks(10_000) {
            agent.data(&id, piece);
        }
        agent.reset_stream(&id, "broken");
        client.expect_data(&sent)?;
        agent.expect_connection_close(&id)?;
    }
    Ok(())
}

pub(super) fn healthz(relay: &Relay) -> Outcome {
    let answer = relay.http(&Request::plain("GET", "/healthz"))?;
    let content = answer.header("Content-Type").unwrap_or_default();
    let is_text = content.split(';').next() == Some("text/plain");
    let is_good = answer.status() == 200 && is_text && answer.text() == "ok\n";
    relay.should(is_good, format!("{:?}, {content}, {:?}", answer.first_line, answer.text()));
    Ok(())
}

pub(super) fn odd_request(relay: &Relay) -> Outcome {
    let request = Request::agent().with("X-Forwarded-For", "192.0.2.1").with("Cookie", "a=b");
    expect_status(relay, 101, &[request.shuffled()])
}

pub(super) fn text_of_400(relay: &Relay) -> Outcome {
    let answer = relay.http(&Request::agent().with("Sec-WebSocket-Version", "8"))?;
    let version = answer.header("Sec-WebSocket-Version");
    relay.should(version == Some("13"), format!("Sec-WebSocket-Version is {version:?}"));
    let is_text = !answer.body.is_empty() && answer.body.is_ascii();
    relay.should(is_text, format!("the body is {:?}", answer.text()));
    Ok(())
}

pub(super) fn bad_offers(relay: &Relay) -> Outcome {
    for offer in [
        "permessage-deflate; unknown_parameter",
        "permessage-deflate; client_max_window_bits=77",
        "permessage-deflate; server_max_window_bits=77",
        "x-unknown, permessage-deflate; unknown_parameter=1",
    ] {
        let answer = relay.http(&Request::agent().with("Sec-WebSocket-Extensions", offer))?;
        let agreed = answer.header("Sec-WebSocket-Extensions");
        if answer.status() != 101 || agreed.is_some() {
            let line = &answer.first_line;
            return Err(Finding::Fail(format!("to {offer:?} came {line:?} with {agreed:?}")));
        }
    }
    // The next offer is looked at.
    let offer = "permessage-deflate; unknown_parameter, permessage-deflate";
    let answer = relay.http(&Request::agent().with("Sec-WebSocket-Extensions", offer))?;
    match answer.header("Sec-WebSocket-Extensions") {
        Some("permessage-deflate") => Ok(()),
        None => Err(Finding::Unimplemented("every offer of compression is declined".to_owned())),
        Some(other) => Err(Finding::Fail(format!("to {offer:?} came {other:?}"))),
    }
}

pub(super) fn answers_to_offers(relay: &Relay) -> Outcome {
    let offers = [None, Some("permessage-deflate; client_max_window_bits"), Some("x-unknown; a=1")];
    for offer in offers {
        let mut request = Request::agent().with("Sec-WebSocket-Protocol", "chat");
        if let Some(offer) = offer {
            request = request.with("Sec-WebSocket-Extensions", offer);
        }
        let answer = relay.http(&request)?;
        let is_it =
            |name: &&(String, String)| name.0.eq_ignore_ascii_case("Sec-WebSocket-Extensions");
        let agreed: Vec<_> = answer.headers.iter().filter(is_it).map(|(_, value)| value).collect();
        let is_good = match (&agreed[..], offer) {
            ([], _) => true,
            ([agreed], Some(offer)) if offer.starts_with("permessage-deflate") => {
                let mut parts = agreed.split(';').map(str::trim);
                parts.next() == Some("permessage-deflate")
                    && parts.all(|part| part != "client_max_window_bits" && !part.contains(','))
            }
            _ => false,
        };
        if !is_good || answer.header("Sec-WebSocket-Protocol").is_some() {
            return Err(Finding::Fail(format!("to {offer:?} came {agreed:?}")));
        }
    }
    Ok(())
}
