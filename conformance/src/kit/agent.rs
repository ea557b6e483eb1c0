use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use codec::v1::{AGENT_PATH, CONNECTION_CLOSE_MESSAGE};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::link::Link;
use super::relay::expect_bytes;
use super::stage::kit_failed;
use super::{Answer, Finding, Message, Outcome, Stage, data_of};
use crate::harness::frames::{RawRelay, accept_key, switching};
use crate::harness::profile::Values;
use crate::harness::tunnel::{AGENT, AGENT_SECRET};
use crate::harness::{Process, holds_within};

/// The agent under test, and the port at which it finds the scripted relay. It is started by the case.
#[derive(Debug)]
pub struct Agent {
    stage: Arc<Stage>,
    relay: RawRelay,
    process: Option<Process>,
    variables: Vec<(String, String)>,
}

impl Agent {
    pub(super) fn new(stage: Arc<Stage>) -> Outcome<Self> {
        if stage.profile.agent.is_none() {
            return Err(Finding::Skipped("the profile has no agent".to_owned()));
        }
        let relay = RawRelay::new().map_err(|error| kit_failed("listen", &error))?;
        Ok(Self { stage, relay, process: None, variables: Vec::new() })
    }

    /// The case.
    pub fn stage(&self) -> &Stage {
        &self.stage
    }

    /// A SHOULD; see [`Stage::should`].
    pub fn should(&self, holds: bool, otherwise: impl Into<String>) {
        self.stage.should(holds, otherwise);
    }

    /// The port of the scripted relay.
    pub fn port(&self) -> u16 {
        self.relay.port()
    }

    /// Sets a variable for the agent when it is launched, such as that of a proxy.
    pub fn set_variable(&mut self, name: &str, value: &str) {
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// Starts the agent towards the scripted relay.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn launch(&mut self) -> Outcome {
        self.launch_at(&format!("ws://127.0.0.1:{}{AGENT_PATH}", self.port()))
    }

    /// Starts the agent with any URL.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn launch_at(&mut self, url: &str) -> Outcome {
        let profile = Arc::clone(&self.stage.profile);
        let Some(program) = &profile.agent else { return Ok(()) };
        let file = self.stage.file("secret", AGENT_SECRET)?;
        let values = Values::from([
            ("url", url.to_owned()),
            ("name", AGENT.to_owned()),
            ("secret", AGENT_SECRET.to_owned()),
            ("secret_file", file.display().to_string()),
        ]);
        let mut command = profile.command(&program.command, &program.environment, &values);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        self.process = Some(self.stage.spawn("agent", &mut command)?);
        Ok(())
    }

    /// The next connection of the agent, of which nothing was read.
    ///
    /// # Errors
    ///
    /// When it does not dial.
    pub fn accept(&self) -> Outcome<ToAgent> {
        self.accept_after(Duration::ZERO)
    }

    /// The same, where it may take this long besides.
    ///
    /// # Errors
    ///
    /// When it does not dial.
    pub fn accept_after(&self, time: Duration) -> Outcome<ToAgent> {
        accept(&self.relay, &self.stage, time, "agent").map(|link| ToAgent { link })
    }

    /// The next connection of the agent, with its request.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn accept_request(&self) -> Outcome<(ToAgent, Answer)> {
        let mut link = self.accept()?;
        let request = link.head()?;
        Ok((link, request))
    }

    /// The next link of the agent, upgraded, with its start. The relay makes no promise (H-12).
    ///
    /// # Errors
    ///
    /// When it does not come so far.
    pub fn accept_start(&self) -> Outcome<(ToAgent, Message)> {
        self.accept_start_with("")
    }

    /// The same with further lines in the answer, each with its line feed.
    ///
    /// # Errors
    ///
    /// When it does not come so far.
    pub fn accept_start_with(&self, lines: &str) -> Outcome<(ToAgent, Message)> {
        let mut link = self.accept()?;
        link.head()?;
        link.switch_with(lines);
        let start = link.expect_kind("start")?;
        Ok((link, start))
    }

    /// Launches the agent, and gives its link after its start.
    ///
    /// # Errors
    ///
    /// When it does not come so far.
    pub fn start(&mut self) -> Outcome<ToAgent> {
        self.launch()?;
        Ok(self.accept_start()?.0)
    }

    /// Sends the agent a signal.
    pub fn signal(&self, signal: Signal) {
        self.stage.note("agent", &format!("gets signal {}", signal.as_raw()));
        if let Some(process) = &self.process {
            process.signal(signal);
        }
    }

    /// Ends the case.
    pub(super) fn end(&mut self) {
        if let Some(process) = &mut self.process {
            process.kill();
            self.stage.keep_log("agent", process);
        }
    }
}

/// The scripted relay's end of an agent's link.
#[derive(Debug)]
pub struct ToAgent {
    link: Link,
}

impl ToAgent {
    /// Asks the agent to connect to a port of loopback.
    pub fn ask(&mut self, id: &str, port: u16) {
        self.ask_for(id, "127.0.0.1", &port.into(), "tcp");
    }

    /// Asks the agent to connect to anything.
    pub fn ask_for(&mut self, id: &str, host: &str, port: &Value, protocol: &str) {
        self.send(&json!({
            "kind": "initiate_connection", "target_ip": host, "target_port": port,
            "protocol": protocol, "connection_id": id,
        }));
    }

    /// Waits until the agent says that the target is connected.
    ///
    /// # Errors
    ///
    /// When something else comes, or nothing.
    pub fn expect_ok(&mut self, id: &str) -> Outcome {
        self.expect(&json!({ "kind": "initiate_connection_ok", "connection_id": id }))?;
        Ok(())
    }

    /// Waits until the agent says that the target was not reached; gives its words.
    ///
    /// # Errors
    ///
    /// When something else comes, or nothing.
    pub fn expect_refusal(&mut self, id: &str) -> Outcome<String> {
        let message = self.expect_kind("initiate_connection_error")?;
        if message.field("connection_id") != id {
            return Err(Finding::Fail(format!("the answer is for another: {}", message.text)));
        }
        Ok(message.field("message").to_owned())
    }

    /// Opens a stream to a port of loopback.
    ///
    /// # Errors
    ///
    /// When it does not open.
    pub fn open(&mut self, id: &str, port: u16) -> Outcome {
        self.ask(id, port);
        self.expect_ok(id)
    }

    /// Sends bytes of a stream, as one message.
    pub fn data(&mut self, id: &str, bytes: &[u8]) {
        self.send(&data_of(id, bytes));
    }

    /// Says that a stream is over at the client.
    pub fn close_stream(&mut self, id: &str) {
        let kind = "connection_close";
        let message = CONNECTION_CLOSE_MESSAGE;
        self.send(&json!({ "kind": kind, "message": message, "connection_id": id }));
    }

    /// Waits for these bytes of a stream, in as many messages as they may come.
    ///
    /// # Errors
    ///
    /// When something else comes, or nothing.
    pub fn expect_data(&mut self, id: &str, bytes: &[u8]) -> Outcome {
        expect_bytes(&mut self.link, Some(id), bytes)
    }

    /// Waits until the agent says that a stream is over; gives its words.
    ///
    /// # Errors
    ///
    /// When something else comes, or nothing.
    pub fn expect_reset(&mut self, id: &str) -> Outcome<String> {
        let message = self.expect_kind("connection_reset")?;
        if message.field("connection_id") != id {
            return Err(Finding::Fail(format!("the reset is for another: {}", message.text)));
        }
        Ok(message.field("message").to_owned())
    }
}

impl Deref for ToAgent {
    type Target = Link;

    fn deref(&self) -> &Link {
        &self.link
    }
}

impl DerefMut for ToAgent {
    fn deref_mut(&mut self) -> &mut Link {
        &mut self.link
    }
}

impl From<ToAgent> for Link {
    fn from(link: ToAgent) -> Self {
        link.link
    }
}

impl Link {
    /// As a relay: answers the upgrade whose request was read.
    pub fn switch(&mut self) {
        self.switch_with("");
    }

    /// As a relay: the value of `Sec-WebSocket-Accept` that the request asks for.
    pub fn accept_key(&self) -> String {
        accept_key(self.raw())
    }

    /// As a relay: answers the upgrade whose request was read, with further header lines, each with its line feed.
    pub fn switch_with(&mut self, lines: &str) {
        let answer = switching(self.raw());
        let head = answer.trim_end();
        self.send_http(&format!("{head}\r\n{lines}\r\n"));
    }
}

/// The next connection to a scripted relay.
pub(super) fn accept(
    relay: &RawRelay,
    stage: &Arc<Stage>,
    time: Duration,
    party: &str,
) -> Outcome<Link> {
    let mut accepted = None;
    holds_within(stage.at_most(stage.start_patience() + time), || {
        accepted = relay.poll_accept().transpose();
        accepted.is_some()
    });
    match accepted {
        Some(Ok(raw)) => Ok(Link::new(raw, stage, "relay", party)),
        Some(Err(error)) => Err(kit_failed("accept a connection", &error)),
        None => Err(Finding::Fail(format!("the {party} does not dial"))),
    }
}
