//! What diallers do about HTTP.

use std::time::Duration;

use codec::v1::{AGENT_PATH, CLIENT_PATH};
use serde_json::json;

use crate::kit::{Agent, Answer, Client, Finding, Link, Outcome, Received};

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

pub(super) fn agent_dials_tls(agent: &mut Agent) -> Outcome {
    dials_tls(agent)
}

pub(super) fn client_dials_tls(client: &mut Client) -> Outcome {
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

pub(super) fn agent_upgrade(agent: &mut Agent) -> Outcome {
    good_upgrade(agent)
}

pub(super) fn client_upgrade(client: &mut Client) -> Outcome {
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

pub(super) fn agent_offers(agent: &mut Agent) -> Outcome {
    offers_nothing(agent)
}

pub(super) fn client_offers(client: &mut Client) -> Outcome {
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

pub(super) fn agent_user_info(agent: &mut Agent) -> Outcome {
    user_info(agent)
}

pub(super) fn client_user_info(client: &mut Client) -> Outcome {
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

pub(super) fn agent_compression(agent: &mut Agent) -> Outcome {
    copes_without_compression(agent)
}

pub(super) fn client_compression(client: &mut Client) -> Outcome {
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

pub(super) fn agent_waits(agent: &mut Agent) -> Outcome {
    waits_for_101(agent)
}

pub(super) fn client_waits(client: &mut Client) -> Outcome {
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

pub(super) fn agent_redirects(agent: &mut Agent) -> Outcome {
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

pub(super) fn client_redirect(client: &mut Client) -> Outcome {
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

pub(super) fn endless_redirects(client: &mut Client) -> Outcome {
    client.launch()?;
    for _ in 0..30 {
        let Some(mut link) = client.accept_unless_ended()? else {
            return client.expect_failure();
        };
        link.head()?;
        redirect(&mut link, 302, "/elsewhere");
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

pub(super) fn agent_proxy(agent: &mut Agent) -> Outcome {
    proxied(agent)
}

pub(super) fn client_proxy(client: &mut Client) -> Outcome {
    proxied(client)
}

/// An answer that is no 101.
fn refusal(status: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}

pub(super) fn agent_is_refused(agent: &mut Agent) -> Outcome {
    agent.launch()?;
    for status in ["403 Forbidden", "200 OK", "503 Service Unavailable"] {
        let (mut link, _) = agent.accept_request()?;
        link.send_http(&refusal(status));
        link.expect_end_of_http()?;
    }
    let (mut link, _) = agent.accept_start()?;
    link.expect_quiet()
}

pub(super) fn client_is_refused(client: &mut Client) -> Outcome {
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

pub(super) fn agent_subprotocol(agent: &mut Agent) -> Outcome {
    is_refused_by(agent, SUBPROTOCOL)
}

pub(super) fn client_subprotocol(client: &mut Client) -> Outcome {
    is_refused_by(client, SUBPROTOCOL)?;
    client.expect_failure()
}

pub(super) fn agent_extension(agent: &mut Agent) -> Outcome {
    is_refused_by(agent, EXTENSION)
}

pub(super) fn client_extension(client: &mut Client) -> Outcome {
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

pub(super) fn agent_odd_answer(agent: &mut Agent) -> Outcome {
    odd_answer(agent)
}

pub(super) fn client_odd_answer(client: &mut Client) -> Outcome {
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

pub(super) fn agent_request(agent: &mut Agent) -> Outcome {
    names_itself(agent)
}

pub(super) fn client_request(client: &mut Client) -> Outcome {
    names_itself(client)
}

pub(super) fn retry_after(agent: &mut Agent) -> Outcome {
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
