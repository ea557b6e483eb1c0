use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use codec::v1::{AGENT_PATH, CLIENT_PATH, ERROR_AGENT_NOT_REGISTERED};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::link::dial;
use super::message::base64;
use super::{Answer, Finding, Link, Outcome, Received, Request, Stage, data_of};
use crate::harness::Process;
use crate::harness::profile::{Values, address_of};
use crate::harness::tunnel::{AGENT, AGENT_SECRET, agent_start, client_start, credentials};

/// The relay under test, which runs and listens. Agents and clients are scripted.
#[derive(Debug)]
pub struct Relay {
    stage: Arc<Stage>,
    address: String,
    /// `None` if it was there before.
    process: RefCell<Option<Process>>,
}

impl Relay {
    /// Starts the relay, or takes the one that the profile names.
    pub(super) fn start(stage: Arc<Stage>) -> Outcome<Self> {
        Self::start_with(stage, &credentials().to_string())
    }

    fn start_with(stage: Arc<Stage>, credentials: &str) -> Outcome<Self> {
        let profile = Arc::clone(&stage.profile);
        let Some(program) = &profile.relay else {
            return Err(Finding::Skipped("the profile has no relay".to_owned()));
        };
        if let Some(url) = &program.url {
            let address = address_of(url).map_err(Finding::Fail)?;
            return Ok(Self { stage, address, process: RefCell::new(None) });
        }
        let port = if program.port_after.is_some() { 0 } else { next_port()? };
        let file = stage.file("credentials.json", credentials)?;
        let values = Values::from([
            ("host", "127.0.0.1".to_owned()),
            ("port", port.to_string()),
            ("credentials", file.display().to_string()),
        ]);
        let mut command = profile.command(&program.command, &program.environment, &values);
        let mut process = stage.spawn("relay", &mut command)?;
        let port = match &program.port_after {
            Some(text) => reported_port(&stage, &mut process, text)?,
            None => listening_port(&stage, &mut process, port)?,
        };
        let address = format!("127.0.0.1:{port}");
        Ok(Self { stage, address, process: RefCell::new(Some(process)) })
    }

    /// Another relay of the same profile with credentials of its own, for the time of the result.
    ///
    /// # Errors
    ///
    /// When it does not start; skipped where the profile has only a relay that runs already.
    pub fn with_credentials(&self, credentials: &str) -> Outcome<Self> {
        if self.process.borrow().is_none() {
            let text = "a relay that runs already cannot get other credentials";
            return Err(Finding::Skipped(text.to_owned()));
        }
        Self::start_with(Arc::clone(&self.stage), credentials)
    }

    /// The case.
    pub fn stage(&self) -> &Stage {
        &self.stage
    }

    /// A SHOULD; see [`Stage::should`].
    pub fn should(&self, holds: bool, otherwise: impl Into<String>) {
        self.stage.should(holds, otherwise);
    }

    /// Sends the relay a signal.
    ///
    /// # Errors
    ///
    /// Skipped where it was there before.
    pub fn signal(&self, signal: Signal) -> Outcome {
        match &*self.process.borrow() {
            Some(process) => {
                self.stage.note("relay", &format!("gets signal {}", signal.as_raw()));
                process.signal(signal);
                Ok(())
            }
            None => Err(Finding::Skipped("a relay that runs already is not stopped".to_owned())),
        }
    }

    /// Waits until the relay has ended; gives its exit status, or minus the number of the signal that ended it.
    ///
    /// # Errors
    ///
    /// When it goes on.
    pub fn wait(&self) -> Outcome<i32> {
        let mut process = self.process.borrow_mut();
        let Some(running) = &mut *process else {
            return Err(Finding::Skipped("a relay that runs already is not stopped".to_owned()));
        };
        let Some(status) = running.wait_within(self.stage.patience()) else {
            return Err(Finding::fail("the relay goes on running"));
        };
        self.stage.keep_log("relay", running);
        *process = None;
        Ok(status)
    }

    // ---- scripted peers ----

    /// A TCP connection over which nothing was said.
    ///
    /// # Errors
    ///
    /// When the relay does not take it.
    pub fn dial(&self) -> Outcome<Link> {
        dial(&self.address, &self.stage, "dialler", "relay")
    }

    /// The answer to a request, on a connection of its own.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn http(&self, request: &Request) -> Outcome<Answer> {
        self.dial()?.request(request)
    }

    /// A link of this path; no message was sent.
    ///
    /// # Errors
    ///
    /// When the upgrade does not succeed.
    fn upgrade(&self, name: &str, request: &Request) -> Outcome<Link> {
        let mut link = dial(&self.address, &self.stage, name, "relay")?;
        let answer = link.request(request)?;
        if answer.status() != 101 {
            let line = answer.first_line;
            return Err(Finding::Fail(format!("the upgrade was answered with {line:?}")));
        }
        Ok(link)
    }

    /// An agent whose link is open; no message was sent.
    ///
    /// # Errors
    ///
    /// When the upgrade does not succeed.
    pub fn agent_link(&self) -> Outcome<FromAgent> {
        self.agent_by(&Request::upgrade(AGENT_PATH))
    }

    /// The same by a request of another form.
    ///
    /// # Errors
    ///
    /// When the upgrade does not succeed.
    pub fn agent_by(&self, request: &Request) -> Outcome<FromAgent> {
        Ok(FromAgent { link: self.upgrade("agent", request)?, agent: AGENT.to_owned() })
    }

    /// A client whose link is open; no message was sent.
    ///
    /// # Errors
    ///
    /// When the upgrade does not succeed.
    pub fn client_link(&self) -> Outcome<FromClient> {
        self.client_by(&Request::upgrade(CLIENT_PATH))
    }

    /// The same by a request of another form.
    ///
    /// # Errors
    ///
    /// When the upgrade does not succeed.
    pub fn client_by(&self, request: &Request) -> Outcome<FromClient> {
        Ok(FromClient { link: self.upgrade("client", request)? })
    }

    /// A link by any request, for what agents and clients have in common; no message was sent.
    ///
    /// # Errors
    ///
    /// When the upgrade does not succeed.
    pub fn link_by(&self, request: &Request) -> Outcome<Link> {
        self.upgrade(if request.path() == AGENT_PATH { "agent" } else { "client" }, request)
    }

    /// The agent that has sent its start. Whether it is admitted yet, nothing tells: [`Relay::ask`] waits for it.
    ///
    /// # Errors
    ///
    /// When the upgrade does not succeed.
    pub fn agent(&self) -> Outcome<FromAgent> {
        self.agent_named(AGENT, AGENT_SECRET)
    }

    /// The same for any name and secret.
    ///
    /// # Errors
    ///
    /// When the upgrade does not succeed.
    pub fn agent_named(&self, name: &str, secret: &str) -> Outcome<FromAgent> {
        let mut agent = self.agent_link()?;
        agent.send(&agent_start(name, secret));
        agent.agent = name.to_owned();
        Ok(agent)
    }

    /// A client that has asked an agent for a stream to 127.0.0.1:22, and the id by which the agent was asked for it.
    /// Waits until the agent is admitted.
    ///
    /// # Errors
    ///
    /// When the agent is not asked.
    pub fn ask(&self, agent: &mut FromAgent) -> Outcome<(FromClient, String)> {
        let mut start = client_start(22);
        start["connection_target"] = agent.agent.clone().into();
        self.ask_with(agent, &start)
    }

    /// The same with another start.
    ///
    /// # Errors
    ///
    /// When the agent is not asked.
    pub fn ask_with(&self, agent: &mut FromAgent, start: &Value) -> Outcome<(FromClient, String)> {
        let end = Instant::now() + self.stage.patience();
        let mut client = self.client_link()?;
        client.send(start);
        loop {
            if let Some(received) = agent.receive_within(TURN)? {
                let Received::Text(text) = &received else {
                    return agent.unexpected("`initiate_connection`", Some(&received));
                };
                let message = super::Message::read(text.clone())?;
                if message.kind() != "initiate_connection" {
                    return agent.unexpected("`initiate_connection`", Some(&received));
                }
                return Ok((client, message.field("connection_id").to_owned()));
            }
            match client.receive_within(TURN)? {
                None if Instant::now() < end => {}
                // The agent's start came on another link, and may be handled later.
                Some(Received::Text(text))
                    if text.contains(ERROR_AGENT_NOT_REGISTERED) && Instant::now() < end =>
                {
                    client = self.client_link()?;
                    client.send(start);
                }
                other => return client.unexpected("a question to the agent", other.as_ref()),
            }
        }
    }

    /// A client whose stream is open, and its id at the agent.
    ///
    /// # Errors
    ///
    /// When it does not open.
    pub fn stream(&self, agent: &mut FromAgent) -> Outcome<(FromClient, String)> {
        let (mut client, id) = self.ask(agent)?;
        agent.ok(&id);
        client.expect(&json!({ "kind": "start_ok" }))?;
        Ok((client, id))
    }

    /// Ends the case: the relay must still be there, whatever was done to it.
    pub(super) fn end(&self) -> Outcome {
        let mut process = self.process.borrow_mut();
        let Some(running) = &mut *process else { return Ok(()) };
        let ended = running.ended();
        if ended.is_none() {
            running.kill();
        }
        self.stage.keep_log("relay", running);
        match ended {
            None => Ok(()),
            Some(status) => Err(Finding::Fail(format!("the relay has ended with {status}"))),
        }
    }
}

/// How long [`Relay::ask`] looks at each of its two links in turn.
const TURN: Duration = Duration::from_millis(5);

/// The port in the relay's line.
fn reported_port(stage: &Stage, process: &mut Process, text: &str) -> Outcome<u16> {
    let found = process.line_within(stage.start_patience(), |line| {
        let (_, rest) = line.split_once(text)?;
        rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    });
    found.ok_or_else(|| does_not_start(stage, process))
}

/// The port itself, once somebody listens there.
fn listening_port(stage: &Stage, process: &mut Process, port: u16) -> Outcome<u16> {
    let mut has_ended = false;
    let listens = crate::harness::holds_within(stage.start_patience(), || {
        has_ended = process.ended().is_some();
        has_ended || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    if listens && !has_ended { Ok(port) } else { Err(does_not_start(stage, process)) }
}

fn does_not_start(stage: &Stage, process: &Process) -> Finding {
    stage.keep_log("relay", process);
    let last = process.stderr().last().cloned().unwrap_or_default();
    Finding::Fail(format!("the relay does not start; its last line: {last}"))
}

/// The next port below those that systems give to connections, so that nobody else takes it by chance.
fn next_port() -> Outcome<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 10_000;
    for _ in 0..COUNT {
        // Runs at the same time begin at different places.
        let start = (std::process::id() % u32::from(COUNT)) as u16;
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + (start.wrapping_add(next)) % COUNT;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    Err(Finding::fail("the kit finds no free port for a relay"))
}

/// A scripted agent's link.
#[derive(Debug)]
pub struct FromAgent {
    link: Link,
    agent: String,
}

impl FromAgent {
    /// Waits until it is asked to connect; gives the question.
    ///
    /// # Errors
    ///
    /// When something else comes, or nothing.
    pub fn expect_question(&mut self) -> Outcome<super::Message> {
        self.expect_kind("initiate_connection")
    }

    /// Says that the target is connected.
    pub fn ok(&mut self, id: &str) {
        self.send(&json!({ "kind": "initiate_connection_ok", "connection_id": id }));
    }

    /// Says that the target was not reached.
    pub fn refuse(&mut self, id: &str, message: &str) {
        let kind = "initiate_connection_error";
        self.send(&json!({ "kind": kind, "message": message, "connection_id": id }));
    }

    /// Sends bytes of a stream, as one message.
    pub fn data(&mut self, id: &str, bytes: &[u8]) {
        self.send(&data_of(id, bytes));
    }

    /// Says that a stream is over.
    pub fn reset_stream(&mut self, id: &str, message: &str) {
        self.send(&json!({ "kind": "connection_reset", "message": message, "connection_id": id }));
    }

    /// Waits for these bytes of a stream, in as many messages as they may come.
    ///
    /// # Errors
    ///
    /// When something else comes, or nothing.
    pub fn expect_data(&mut self, id: &str, bytes: &[u8]) -> Outcome {
        self.sizes_of_data(id, bytes).map(|_| ())
    }

    /// The same; gives how they were cut.
    ///
    /// # Errors
    ///
    /// When something else comes, or nothing.
    pub fn sizes_of_data(&mut self, id: &str, bytes: &[u8]) -> Outcome<Sizes> {
        expect_bytes(&mut self.link, Some(id), bytes)
    }

    /// Waits until it is told that a stream is over at the client.
    ///
    /// # Errors
    ///
    /// When something else comes, or nothing.
    pub fn expect_connection_close(&mut self, id: &str) -> Outcome {
        self.expect_connection_close_after(Duration::ZERO, id)
    }

    /// The same, where it may take this long besides.
    ///
    /// # Errors
    ///
    /// When something else comes, or nothing.
    pub fn expect_connection_close_after(&mut self, time: Duration, id: &str) -> Outcome {
        let message = codec::v1::CONNECTION_CLOSE_MESSAGE;
        let kind = "connection_close";
        self.expect_after(time, &json!({ "kind": kind, "message": message, "connection_id": id }))?;
        Ok(())
    }
}

impl Deref for FromAgent {
    type Target = Link;

    fn deref(&self) -> &Link {
        &self.link
    }
}

impl DerefMut for FromAgent {
    fn deref_mut(&mut self) -> &mut Link {
        &mut self.link
    }
}

/// A scripted client's link.
#[derive(Debug)]
pub struct FromClient {
    link: Link,
}

impl FromClient {
    /// Sends bytes of its stream, as one message.
    pub fn data(&mut self, bytes: &[u8]) {
        self.send(&json!({ "kind": "tcp_data", "data_base64": base64(bytes) }));
    }

    /// Waits for these bytes of its stream, in as many messages as they may come.
    ///
    /// # Errors
    ///
    /// When something else comes, or nothing.
    pub fn expect_data(&mut self, bytes: &[u8]) -> Outcome {
        self.sizes_of_data(bytes).map(|_| ())
    }

    /// The same; gives how they were cut.
    ///
    /// # Errors
    ///
    /// When something else comes, or nothing.
    pub fn sizes_of_data(&mut self, bytes: &[u8]) -> Outcome<Sizes> {
        expect_bytes(&mut self.link, None, bytes)
    }

    /// Waits for an `error` with exactly this text.
    ///
    /// # Errors
    ///
    /// When something else comes, or nothing.
    pub fn expect_error(&mut self, text: &str) -> Outcome {
        self.expect(&json!({ "kind": "error", "message": text }))?;
        Ok(())
    }
}

impl From<FromClient> for Link {
    fn from(client: FromClient) -> Self {
        client.link
    }
}

impl Deref for FromClient {
    type Target = Link;

    fn deref(&self) -> &Link {
        &self.link
    }
}

impl DerefMut for FromClient {
    fn deref_mut(&mut self) -> &mut Link {
        &mut self.link
    }
}

/// How the bytes of a stream were cut into messages.
#[derive(Debug, Clone, Default)]
pub struct Sizes {
    /// The payload of each message, in bytes.
    pub payloads: Vec<usize>,
    /// The text of each message, in bytes.
    pub texts: Vec<usize>,
}

impl Sizes {
    /// The payload of the largest message.
    pub fn largest_payload(&self) -> usize {
        self.payloads.iter().copied().max().unwrap_or_default()
    }

    /// The text of the largest message.
    pub fn largest_text(&self) -> usize {
        self.texts.iter().copied().max().unwrap_or_default()
    }
}

/// Waits for bytes of one stream, in as many messages as they may come.
pub(super) fn expect_bytes(link: &mut Link, id: Option<&str>, bytes: &[u8]) -> Outcome<Sizes> {
    let mut sizes = Sizes::default();
    let mut came = 0;
    while came < bytes.len() {
        let message = link.expect_kind("tcp_data")?;
        if id.is_some_and(|id| message.field("connection_id") != id) {
            return Err(Finding::Fail(format!("another stream's data: {}", message.text)));
        }
        let piece = message.data()?;
        let rest = &bytes[came..];
        if !rest.starts_with(&piece) {
            let at = came + piece.iter().zip(rest).take_while(|(came, sent)| came == sent).count();
            let lengths = format!("{} of {} bytes came", came + piece.len(), bytes.len());
            return Err(Finding::Fail(format!("{lengths}, and from byte {at} on others")));
        }
        came += piece.len();
        sizes.payloads.push(piece.len());
        sizes.texts.push(message.text.len());
    }
    Ok(sizes)
}
