//! HTTP: endpoints, the upgrade, and what else a relay answers (spec v1, section H).

use std::time::Duration;

use codec::v1::{AGENT_PATH, CLIENT_PATH, RELAY_HEADER};
use serde_json::json;

use crate::harness::tunnel::{AGENT, AGENT_SECRET, agent_start, client_start};
use crate::kit::{
    Agent, Answer, Case, Client, Finding, Link, Outcome, Received, Relay, Request, agent, client,
    relay,
};

/// The cases of this section, in the order of its statements.
pub(super) const CASES: &[Case] = &[
    relay("H-1.a", "both paths", "an upgrade of each path is answered with 101", both_paths),
    relay(
        "H-1.b",
        "percent-encoding and query",
        "the decoded path counts, without its query",
        other_spellings,
    ),
    relay(
        "H-1.c",
        "paths that are almost right",
        "another case or slash is another path",
        other_paths,
    ),
    relay("H-2.a", "HTTP without TLS", "a request in plain text is answered", plain_http),
    agent("H-2.b", "an agent's wss URL", "it begins with a TLS handshake", agent_dials_tls),
    client("H-2.c", "a client's wss URL", "it begins with a TLS handshake", client_dials_tls),
    relay(
        "H-3.a",
        "case and further tokens of the upgrade",
        "they make no difference",
        upgrade_tokens,
    ),
    relay(
        "H-3.b",
        "an upgrade over HTTP/1.0",
        "it may be accepted, and else is refused",
        upgrade_over_http_1_0,
    ),
    agent(
        "H-3.c",
        "an agent's upgrade",
        "GET, HTTP/1.1, version 13, a key of 16 bytes",
        agent_upgrade,
    ),
    client(
        "H-3.d",
        "a client's upgrade",
        "GET, HTTP/1.1, version 13, a key of 16 bytes",
        client_upgrade,
    ),
    agent("H-4.a", "what an agent offers", "no subprotocol, no origin", agent_offers),
    client("H-4.b", "what a client offers", "no subprotocol, no origin", client_offers),
    agent(
        "H-4.c",
        "user info in an agent's URL",
        "it is sent as basic authorization",
        agent_user_info,
    ),
    client(
        "H-4.d",
        "user info in a client's URL",
        "it is sent as basic authorization",
        client_user_info,
    ),
    relay(
        "H-5.a",
        "headers that a relay ignores",
        "the link opens, and its peer is admitted",
        ignored_headers,
    ),
    relay("H-5.b", "an upgrade without Host", "the link opens", without_host),
    relay(
        "H-6",
        "the answer to an upgrade",
        "101 with its three headers, and no subprotocol",
        switching_protocols,
    ),
    relay(
        "H-7.a",
        "offers of compression",
        "each is declined or followed, and the link opens",
        offers,
    ),
    relay(
        "H-7.b",
        "uncompressed messages",
        "they are read although compression was agreed on",
        uncompressed,
    )
    .also(&["H-21"]),
    agent(
        "H-7.c",
        "an agent and compression",
        "it copes without, and offers no window of 8 bits",
        agent_compression,
    ),
    client(
        "H-7.d",
        "a client and compression",
        "it copes without, and offers no window of 8 bits",
        client_compression,
    ),
    relay(
        "H-8",
        "an upgrade on an unknown path",
        "403, no body, the end of the connection",
        unknown_path,
    ),
    relay("H-9.a", "a request without an upgrade", "404 with a body of JSON", no_upgrade),
    relay("H-9.b", "another upgrade", "it counts as none", other_upgrades),
    relay("H-9.c", "documentation pages", "404 like any other unknown path", no_documentation),
    relay("H-10.a", "a bad key", "400", bad_keys),
    relay("H-10.b", "another version of WebSocket", "400", bad_versions),
    relay("H-10.c", "an upgrade by POST", "400", upgrade_by_post),
    relay("H-10.d", "what is not HTTP", "400", not_http),
    relay("H-11.a", "a header line of 8,000 bytes", "the link opens", long_header),
    relay("H-11.b", "a header line of 1 MiB", "a status of the 400s", huge_header),
    relay(
        "H-12",
        "the promise of a relay's header",
        "all data before a reset is delivered",
        promise,
    )
    .also(&["X-4"]),
    agent("H-13.a", "an agent before the 101", "it sends no frame", agent_waits),
    client("H-13.b", "a client before the 101", "it sends no frame", client_waits),
    agent("H-14.a", "an agent and redirects", "it follows a few of each kind", agent_redirects),
    client("H-14.b", "a client and redirects", "it follows one of each kind", client_redirect),
    client("H-14.c", "endless redirects", "they end in a failure", endless_redirects),
    agent("H-15.a", "an agent and a proxy", "it may connect through it", agent_proxy),
    client("H-15.b", "a client and a proxy", "it may connect through it", client_proxy),
    agent(
        "H-16.a",
        "an agent refused by HTTP",
        "it ends the attempt and tries again",
        agent_is_refused,
    ),
    client(
        "H-16.b",
        "a client refused by HTTP",
        "it ends and reports a failure",
        client_is_refused,
    ),
    agent(
        "H-16.c",
        "an answer with a subprotocol, to an agent",
        "it ends the connection",
        agent_subprotocol,
    ),
    client(
        "H-16.d",
        "an answer with a subprotocol, to a client",
        "it ends the connection",
        client_subprotocol,
    ),
    agent(
        "H-16.e",
        "an answer with an extension, to an agent",
        "it ends the connection",
        agent_extension,
    ),
    client(
        "H-16.f",
        "an answer with an extension, to a client",
        "it ends the connection",
        client_extension,
    ),
    relay("H-17", "GET /healthz", "200 and ok", healthz),
    agent(
        "H-18.a",
        "an answer in another order and case, to an agent",
        "it makes no difference",
        agent_odd_answer,
    ),
    client(
        "H-18.b",
        "an answer in another order and case, to a client",
        "it makes no difference",
        client_odd_answer,
    ),
    relay("H-19.a", "a request in another order and case", "it makes no difference", odd_request),
    agent(
        "H-19.b",
        "an agent's request",
        "it names its software, in the order of old",
        agent_request,
    ),
    client(
        "H-19.c",
        "a client's request",
        "it names its software, in the order of old",
        client_request,
    ),
    relay(
        "H-20",
        "the answer 400",
        "a text for people, and the version that is spoken",
        text_of_400,
    ),
    relay(
        "H-21",
        "offers that cannot be followed",
        "they are passed over, and the link opens",
        bad_offers,
    ),
    relay(
        "H-22",
        "what no answer has",
        "nothing that was not offered, or not understood",
        answers_to_offers,
    ),
    agent("H-24", "Retry-After", "an agent comes back by its own delays", retry_after).takes(10),
];

// ---- the relay ----

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

fn both_paths(relay: &Relay) -> Outcome {
    expect_status(relay, 101, &[Request::upgrade(AGENT_PATH), Request::upgrade(CLIENT_PATH)])?;
    // Each is the endpoint of its party.
    let mut agent = relay.agent()?;
    relay.stream(&mut agent)?;
    Ok(())
}

fn other_spellings(relay: &Relay) -> Outcome {
    let encoded = AGENT_PATH.replace('_', "%5F");
    let queried = format!("{CLIENT_PATH}?a=b&c");
    expect_status(relay, 101, &[Request::upgrade(&encoded), Request::upgrade(&queried)])
}

fn other_paths(relay: &Relay) -> Outcome {
    let paths = [
        AGENT_PATH.to_uppercase(),
        format!("{AGENT_PATH}/"),
        format!("/{CLIENT_PATH}"),
        format!("{CLIENT_PATH}/"),
        "/".to_owned(),
    ];
    expect_status(relay, 403, &paths.map(|path| Request::upgrade(&path)))
}

fn plain_http(relay: &Relay) -> Outcome {
    expect_status(relay, 404, &[Request::plain("GET", "/nothing")])
}

fn upgrade_tokens(relay: &Relay) -> Outcome {
    let request = Request::agent();
    let forms = [
        request.clone().with("Upgrade", "WebSocket"),
        request.clone().with("Connection", "upgrade"),
        request.clone().with("Connection", "keep-alive, Upgrade"),
        request.with("Upgrade", "WEBSOCKET").with("Connection", "UPGRADE,x"),
    ];
    expect_status(relay, 101, &forms)
}

fn upgrade_over_http_1_0(relay: &Relay) -> Outcome {
    match status_of(relay, &Request::agent().over("HTTP/1.0"))? {
        101 => Ok(()),
        400..500 => Err(Finding::Unimplemented("upgrades over HTTP/1.0 are refused".to_owned())),
        status => Err(Finding::Fail(format!("the answer is {status}"))),
    }
}

fn ignored_headers(relay: &Relay) -> Outcome {
    let request = Request::agent()
        .with("Origin", "https://elsewhere.example")
        .with("Authorization", "Basic bm9ib2R5Om5vdGhpbmc=")
        .with("Sec-WebSocket-Protocol", "chat, mqtt");
    let mut agent = relay.agent_by(&request)?;
    agent.send(&agent_start(AGENT, AGENT_SECRET));
    relay.stream(&mut agent)?;
    Ok(())
}

fn without_host(relay: &Relay) -> Outcome {
    expect_status(relay, 101, &[Request::agent().without("Host")])
}

fn switching_protocols(relay: &Relay) -> Outcome {
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

fn offers(relay: &Relay) -> Outcome {
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

fn uncompressed(relay: &Relay) -> Outcome {
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

fn unknown_path(relay: &Relay) -> Outcome {
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

fn no_upgrade(relay: &Relay) -> Outcome {
    for path in [AGENT_PATH, CLIENT_PATH, "/", "/elsewhere"] {
        check_404(&relay.http(&Request::plain("GET", path))?)?;
    }
    let post = Request::plain("POST", AGENT_PATH).with("Content-Length", "0");
    check_404(&relay.http(&post)?)
}

fn other_upgrades(relay: &Relay) -> Outcome {
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

fn no_documentation(relay: &Relay) -> Outcome {
    for path in ["/docs", "/redoc", "/openapi.json"] {
        check_404(&relay.http(&Request::plain("GET", path))?)?;
    }
    Ok(())
}

fn bad_keys(relay: &Relay) -> Outcome {
    let request = Request::agent();
    let requests = [
        request.clone().without("Sec-WebSocket-Key"),
        request.clone().with("Sec-WebSocket-Key", "c2hvcnQ="),
        request.with("Sec-WebSocket-Key", "!"),
    ];
    expect_status(relay, 400, &requests)
}

fn bad_versions(relay: &Relay) -> Outcome {
    let request = Request::agent();
    let requests = [
        request.clone().without("Sec-WebSocket-Version"),
        request.clone().with("Sec-WebSocket-Version", "8"),
        request.with("Sec-WebSocket-Version", "14"),
    ];
    expect_status(relay, 400, &requests)
}

fn upgrade_by_post(relay: &Relay) -> Outcome {
    expect_status(relay, 400, &[Request::agent().by("POST").with("Content-Length", "0")])
}

fn not_http(relay: &Relay) -> Outcome {
    let mut link = relay.dial()?;
    link.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n");
    match link.answer()?.status() {
        400 => Ok(()),
        status => Err(Finding::Fail(format!("the status is {status}"))),
    }
}

fn long_header(relay: &Relay) -> Outcome {
    expect_status(relay, 101, &[Request::agent().with("X-Long", &"x".repeat(8000 - 8))])
}

fn huge_header(relay: &Relay) -> Outcome {
    match status_of(relay, &Request::agent().with("X-Long", &"x".repeat(1 << 20)))? {
        400..500 => Ok(()),
        status => Err(Finding::Fail(format!("the status is {status}"))),
    }
}

/// A relay that makes the promise keeps it: a burst of data and the reset right behind it.
fn promise(relay: &Relay) -> Outcome {
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

fn healthz(relay: &Relay) -> Outcome {
    let answer = relay.http(&Request::plain("GET", "/healthz"))?;
    let content = answer.header("Content-Type").unwrap_or_default();
    let is_text = content.split(';').next() == Some("text/plain");
    let is_good = answer.status() == 200 && is_text && answer.text() == "ok\n";
    relay.should(is_good, format!("{:?}, {content}, {:?}", answer.first_line, answer.text()));
    Ok(())
}

fn odd_request(relay: &Relay) -> Outcome {
    let request = Request::agent().with("X-Forwarded-For", "192.0.2.1").with("Cookie", "a=b");
    expect_status(relay, 101, &[request.shuffled()])
}

fn text_of_400(relay: &Relay) -> Outcome {
    let answer = relay.http(&Request::agent().with("Sec-WebSocket-Version", "8"))?;
    let version = answer.header("Sec-WebSocket-Version");
    relay.should(version == Some("13"), format!("Sec-WebSocket-Version is {version:?}"));
    let is_text = !answer.body.is_empty() && answer.body.is_ascii();
    relay.should(is_text, format!("the body is {:?}", answer.text()));
    Ok(())
}

fn bad_offers(relay: &Relay) -> Outcome {
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

fn answers_to_offers(relay: &Relay) -> Outcome {
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

// ---- diallers ----

/// Both diallers are held to the same rules: what a case does with either of them.
trait Dialler {
    /// Starts it with a URL.
    fn launch_at(&mut self, url: &str) -> Outcome;
    /// Where the scripted relay listens.
    fn port(&self) -> u16;
    /// The path that it dials.
    const PATH: &'static str;
    /// Sets a variable for it.
    fn set_variable(&mut self, name: &str, value: &str);
    /// Its next connection, without anything read.
    fn accept(&self) -> Outcome<Link>;
    /// A SHOULD.
    fn should(&self, holds: bool, otherwise: String);

    /// Starts it towards the scripted relay.
    fn launch(&mut self) -> Outcome {
        let url = format!("ws://127.0.0.1:{}{}", self.port(), Self::PATH);
        self.launch_at(&url)
    }

    /// Its next connection and the request on it.
    fn accept_request(&self) -> Outcome<(Link, Answer)> {
        let mut link = self.accept()?;
        let request = link.head()?;
        Ok((link, request))
    }
}

macro_rules! dialler {
    ($party:ty, $path:expr) => {
        impl Dialler for $party {
            const PATH: &'static str = $path;

            fn launch_at(&mut self, url: &str) -> Outcome {
                <$party>::launch_at(self, url)
            }

            fn port(&self) -> u16 {
                <$party>::port(self)
            }

            fn set_variable(&mut self, name: &str, value: &str) {
                <$party>::set_variable(self, name, value);
            }

            fn accept(&self) -> Outcome<Link> {
                <$party>::accept(self).map(Into::into)
            }

            fn should(&self, holds: bool, otherwise: String) {
                <$party>::should(self, holds, otherwise);
            }
        }
    };
}

dialler!(Agent, AGENT_PATH);
dialler!(Client, CLIENT_PATH);

/// Whatever it is, its first message is its start.
fn expect_start(link: &mut Link) -> Outcome {
    link.expect_kind("start").map(|_| ())
}

fn dials_tls<D: Dialler>(dialler: &mut D) -> Outcome {
    let url = format!("wss://127.0.0.1:{}{}", dialler.port(), D::PATH);
    dialler.launch_at(&url)?;
    // A handshake record, by TLS 1.x.
    match dialler.accept()?.first_bytes(2)?[..] {
        [0x16, 0x03] => Ok(()),
        ref other => Err(Finding::Fail(format!("the first bytes are {other:02x?}"))),
    }
}

fn agent_dials_tls(agent: &mut Agent) -> Outcome {
    dials_tls(agent)
}

fn client_dials_tls(client: &mut Client) -> Outcome {
    dials_tls(client)
}

fn good_upgrade<D: Dialler>(dialler: &mut D) -> Outcome {
    dialler.launch()?;
    let (_link, request) = dialler.accept_request()?;
    let key = request.header("Sec-WebSocket-Key").unwrap_or_default();
    let is_good = request.first_line == format!("GET {} HTTP/1.1", D::PATH)
        && request.header("Host") == Some(&format!("127.0.0.1:{}", dialler.port()))
        && request.lists("Upgrade", "websocket")
        && request.lists("Connection", "Upgrade")
        && request.header("Sec-WebSocket-Version") == Some("13")
        && crate::kit::bytes_of(key).is_ok_and(|key| key.len() == 16);
    if is_good {
        return Ok(());
    }
    Err(Finding::Fail(format!("{:?} {:?}", request.first_line, request.headers)))
}

fn agent_upgrade(agent: &mut Agent) -> Outcome {
    good_upgrade(agent)
}

fn client_upgrade(client: &mut Client) -> Outcome {
    good_upgrade(client)
}

fn offers_nothing<D: Dialler>(dialler: &mut D) -> Outcome {
    dialler.launch()?;
    let (_link, request) = dialler.accept_request()?;
    let origin = request.header("Origin");
    dialler.should(origin.is_none(), format!("it sends Origin: {origin:?}"));
    match request.header("Sec-WebSocket-Protocol") {
        None => Ok(()),
        Some(offered) => Err(Finding::Fail(format!("it offers the subprotocol {offered:?}"))),
    }
}

fn agent_offers(agent: &mut Agent) -> Outcome {
    offers_nothing(agent)
}

fn client_offers(client: &mut Client) -> Outcome {
    offers_nothing(client)
}

fn user_info<D: Dialler>(dialler: &mut D) -> Outcome {
    let url = format!("ws://user:pass@127.0.0.1:{}{}", dialler.port(), D::PATH);
    dialler.launch_at(&url)?;
    let (_link, request) = dialler.accept_request()?;
    match request.header("Authorization") {
        Some("Basic dXNlcjpwYXNz") => Ok(()),
        other => Err(Finding::Fail(format!("Authorization is {other:?}"))),
    }
}

fn agent_user_info(agent: &mut Agent) -> Outcome {
    user_info(agent)
}

fn client_user_info(client: &mut Client) -> Outcome {
    user_info(client)
}

fn copes_without_compression<D: Dialler>(dialler: &mut D) -> Outcome {
    dialler.launch()?;
    let (mut link, request) = dialler.accept_request()?;
    let offer = request.header("Sec-WebSocket-Extensions").unwrap_or_default();
    if offer.contains("server_max_window_bits=8") {
        return Err(Finding::Fail(format!("it offers {offer:?}")));
    }
    link.switch();
    expect_start(&mut link)
}

fn agent_compression(agent: &mut Agent) -> Outcome {
    copes_without_compression(agent)
}

fn client_compression(client: &mut Client) -> Outcome {
    copes_without_compression(client)
}

/// How long the 101 is held back.
const HELD_BACK: Duration = Duration::from_millis(1500);

fn waits_for_101<D: Dialler>(dialler: &mut D) -> Outcome {
    dialler.launch()?;
    let (mut link, _) = dialler.accept_request()?;
    link.expect_nothing_for(HELD_BACK)?;
    link.switch();
    expect_start(&mut link)
}

fn agent_waits(agent: &mut Agent) -> Outcome {
    waits_for_101(agent)
}

fn client_waits(client: &mut Client) -> Outcome {
    waits_for_101(client)
}

/// Answers a request with a redirect to where the scripted relay listens.
fn redirect(link: &mut Link, status: u16, location: &str) {
    link.send_http(&format!(
        "HTTP/1.1 {status} Elsewhere\r\nLocation: {location}\r\nContent-Length: 0\r\n\
         Connection: close\r\n\r\n"
    ));
}

/// The next connection of a dialler that was redirected; `None` if it does not follow.
fn follows(dialler: &impl Dialler, status: u16, to: &str) -> Outcome<Option<Link>> {
    let (mut link, _) = dialler.accept_request()?;
    redirect(&mut link, status, to);
    drop(link);
    let Ok((link, request)) = dialler.accept_request() else { return Ok(None) };
    let wanted = to.rsplit_once("/elsewhere").map(|_| "GET /elsewhere HTTP/1.1");
    Ok((Some(&*request.first_line) == wanted).then_some(link))
}

fn agent_redirects(agent: &mut Agent) -> Outcome {
    agent.launch()?;
    let absolute = format!("ws://127.0.0.1:{}/elsewhere", agent.port());
    let http = format!("http://127.0.0.1:{}/elsewhere", agent.port());
    for (status, to) in
        [(301, &*absolute), (302, &http), (303, "/elsewhere"), (307, &absolute), (308, &http)]
    {
        let followed = follows(agent, status, to)?;
        agent.should(followed.is_some(), format!("it does not follow {status} to {to}"));
        // Once it has a link it comes back to the first URL.
        let Some(mut link) = followed else { return Ok(()) };
        link.switch();
        expect_start(&mut link)?;
        link.close(codec::v1::CLOSE_RESTART);
    }
    Ok(())
}

fn client_redirect(client: &mut Client) -> Outcome {
    client.launch()?;
    let to = format!("ws://127.0.0.1:{}/elsewhere", client.port());
    let followed = follows(client, 307, &to)?;
    client.should(followed.is_some(), format!("it does not follow 307 to {to}"));
    if let Some(mut link) = followed {
        link.switch();
        expect_start(&mut link)?;
    }
    Ok(())
}

fn endless_redirects(client: &mut Client) -> Outcome {
    client.launch()?;
    for _ in 0..30 {
        let Ok((mut link, _)) = client.accept_request() else {
            return client.expect_failure();
        };
        redirect(&mut link, 302, "/elsewhere");
        drop(link);
        if client.expect_running().is_err() {
            return client.expect_failure();
        }
    }
    Err(Finding::fail("thirty redirects were followed"))
}

/// A relay name that only the proxy knows.
const BEHIND_PROXY: &str = "relay.behind-the-proxy.invalid";

fn proxied<D: Dialler>(dialler: &mut D) -> Outcome {
    let proxy = format!("http://127.0.0.1:{}", dialler.port());
    for name in ["ws_proxy", "http_proxy", "https_proxy"] {
        dialler.set_variable(name, &proxy);
    }
    dialler.launch_at(&format!("ws://{BEHIND_PROXY}:8000{}", D::PATH))?;
    let Ok((mut link, request)) = dialler.accept_request() else {
        return Err(Finding::Unimplemented("no proxy is used".to_owned()));
    };
    if request.first_line != format!("CONNECT {BEHIND_PROXY}:8000 HTTP/1.1") {
        return Err(Finding::Fail(format!("the proxy is asked for {:?}", request.first_line)));
    }
    link.send_http("HTTP/1.1 200 Connected\r\n\r\n");
    let upgrade = link.head()?;
    if upgrade.first_line != format!("GET {} HTTP/1.1", D::PATH) {
        return Err(Finding::Fail(format!("through the proxy came {:?}", upgrade.first_line)));
    }
    link.switch();
    expect_start(&mut link)
}

fn agent_proxy(agent: &mut Agent) -> Outcome {
    proxied(agent)
}

fn client_proxy(client: &mut Client) -> Outcome {
    proxied(client)
}

/// An answer that is no 101.
fn refusal(status: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}

fn agent_is_refused(agent: &mut Agent) -> Outcome {
    agent.launch()?;
    for status in ["403 Forbidden", "200 OK", "503 Service Unavailable"] {
        let (mut link, _) = agent.accept_request()?;
        link.send_http(&refusal(status));
        link.expect_end_of_http()?;
    }
    let (mut link, _) = agent.accept_start()?;
    link.expect_quiet()
}

fn client_is_refused(client: &mut Client) -> Outcome {
    for status in ["403 Forbidden", "200 OK", "503 Service Unavailable"] {
        client.launch()?;
        let (mut link, _) = client.accept_request()?;
        link.send_http(&refusal(status));
        link.expect_end_of_http()?;
        client.expect_failure()?;
    }
    Ok(())
}

/// The answer has something that was not offered: the connection ends, without a message before.
fn is_refused_by<D: Dialler>(dialler: &mut D, line: &str) -> Outcome {
    dialler.launch()?;
    let (mut link, _) = dialler.accept_request()?;
    link.switch_with(line);
    loop {
        match link.receive()? {
            Received::End => return Ok(()),
            // Some say why before they go.
            Received::Close(..) => {}
            other => return Err(Finding::Fail(format!("it goes on: {other:?}"))),
        }
    }
}

const SUBPROTOCOL: &str = "Sec-WebSocket-Protocol: chat\r\n";
const EXTENSION: &str = "Sec-WebSocket-Extensions: x-not-offered\r\n";

fn agent_subprotocol(agent: &mut Agent) -> Outcome {
    is_refused_by(agent, SUBPROTOCOL)
}

fn client_subprotocol(client: &mut Client) -> Outcome {
    is_refused_by(client, SUBPROTOCOL)?;
    client.expect_failure()
}

fn agent_extension(agent: &mut Agent) -> Outcome {
    is_refused_by(agent, EXTENSION)
}

fn client_extension(client: &mut Client) -> Outcome {
    is_refused_by(client, EXTENSION)?;
    client.expect_failure()
}

fn odd_answer<D: Dialler>(dialler: &mut D) -> Outcome {
    dialler.launch()?;
    let (mut link, _) = dialler.accept_request()?;
    let accept = link.accept_key();
    link.send_http(&format!(
        "HTTP/1.1 101 Why not\r\nserver: something\r\nsec-websocket-accept: {accept}\r\n\
         X-Unknown: yes\r\nCONNECTION: upgrade\r\ndate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\
         UPGRADE: WebSocket\r\n\r\n"
    ));
    expect_start(&mut link)
}

fn agent_odd_answer(agent: &mut Agent) -> Outcome {
    odd_answer(agent)
}

fn client_odd_answer(client: &mut Client) -> Outcome {
    odd_answer(client)
}

/// The order in which diallers write their headers, of those that they write.
const ORDER: [&str; 8] = [
    "Host",
    "Authorization",
    "Upgrade",
    "Connection",
    "Sec-WebSocket-Key",
    "Sec-WebSocket-Version",
    "Sec-WebSocket-Extensions",
    "User-Agent",
];

fn names_itself<D: Dialler>(dialler: &mut D) -> Outcome {
    dialler.launch()?;
    let (_link, request) = dialler.accept_request()?;
    let has_name = request.header("User-Agent").is_some_and(|name| !name.is_empty());
    dialler.should(has_name, "it does not name its software".to_owned());
    let names: Vec<&str> = request.headers.iter().map(|(name, _)| &**name).collect();
    let places: Vec<_> = names
        .iter()
        .filter_map(|name| ORDER.iter().position(|known| known.eq_ignore_ascii_case(name)))
        .collect();
    dialler.should(places.is_sorted(), format!("the order is {names:?}"));
    Ok(())
}

fn agent_request(agent: &mut Agent) -> Outcome {
    names_itself(agent)
}

fn client_request(client: &mut Client) -> Outcome {
    names_itself(client)
}

fn retry_after(agent: &mut Agent) -> Outcome {
    agent.launch()?;
    for _ in 0..2 {
        let (mut link, _) = agent.accept_request()?;
        link.send_http(
            "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 3600\r\nContent-Length: 0\r\n\
             Connection: close\r\n\r\n",
        );
    }
    let (mut link, _) = agent.accept_start()?;
    link.send(&json!({ "kind": "keep_alive" }));
    link.expect_quiet()
}
