//! A whole tunnel: one relay, one agent, and clients as a test asks for them, each of any origin.

use std::fs;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::thread::{self, JoinHandle};

use codec::v1::{AGENT_PATH, CLIENT_PATH};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::frames::{RawLink, Received};
use super::process::{Output, Process};
use super::profile::Values;
use super::programs::Given;
use super::{DEADLINE, Origin, Target, holds_within, sha256, wait_until};

/// The agent's name in every tunnel.
pub const AGENT: &str = "workshop";
/// The agent's secret in every tunnel.
pub const AGENT_SECRET: &str = "canary-agent-5d41402a";
/// A second agent that may register: its name and its secret.
pub const OTHER_AGENT: (&str, &str) = ("kitchen", "canary-other-7d793037");
/// The clients' secret in every tunnel.
pub const CLIENT_SECRET: &str = "canary-client-b6d767d2";
/// Another secret that clients may use.
pub const OTHER_CLIENT_SECRET: &str = "canary-client-2c26b46b";

/// A relay with an agent. Both end when this is dropped.
#[derive(Debug)]
pub struct Tunnel {
    /// The agent's process.
    pub agent: Process,
    /// The relay's process.
    pub relay: Process,
    port: u16,
    mix: Mix,
    folder: TempDir,
}

/// Whose the three parties are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mix {
    /// The relay's origin.
    pub relay: Origin,
    /// The agent's origin.
    pub agent: Origin,
    /// The clients' origin.
    pub client: Origin,
}

impl Mix {
    /// All three are this workspace's.
    pub const OURS: Self = Self { relay: Origin::Ours, agent: Origin::Ours, client: Origin::Ours };

    /// Three letters, relay, agent, client: R for ours, as in Rust, P for Python's, those of a profile its own.
    pub fn letters(self) -> String {
        [self.relay, self.agent, self.client].map(Origin::letter).iter().collect()
    }
}

/// What a client is asked to do.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// Its secret.
    pub secret: &'a str,
    /// The agent to ask for.
    pub agent: &'a str,
    /// The target's host.
    pub host: &'a str,
    /// The target's port, which may be none.
    pub port: &'a str,
    /// The protocol, which may be none.
    pub protocol: &'a str,
}

impl Default for Ask<'_> {
    fn default() -> Self {
        Self { secret: CLIENT_SECRET, agent: AGENT, host: "127.0.0.1", port: "1", protocol: "tcp" }
    }
}

impl Tunnel {
    /// Starts our relay and our agent, and waits until the agent is connected.
    pub fn ours() -> Self {
        Self::start(Mix::OURS)
    }

    /// Starts relay and agent, and waits until the agent is connected.
    ///
    /// # Panics
    ///
    /// When they do not start.
    pub fn start(mix: Mix) -> Self {
        Self::start_with(mix, &[], &[])
    }

    /// The same with further arguments for the relay and for the agent.
    ///
    /// # Panics
    ///
    /// When they do not start.
    pub fn start_with(mix: Mix, relay_arguments: &[&str], agent_arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("no folder: {error}"));
        write_credentials(folder.path());
        let (relay, port) = start_relay(mix.relay, folder.path(), 0, relay_arguments);
        let mut command = agent_command_in(mix.agent, folder.path(), port, AGENT, AGENT_SECRET);
        command.args(agent_arguments);
        let agent = Process::start("edge-agent", command, mix.agent == Origin::Ours);
        let tunnel = Self { agent, relay, port, mix, folder };
        tunnel.wait_for_agent();
        tunnel
    }

    /// The port that the relay listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL for clients.
    pub fn client_url(&self) -> String {
        format!("ws://127.0.0.1:{}{CLIENT_PATH}", self.port)
    }

    /// The URL for agents.
    pub fn agent_url(&self) -> String {
        format!("ws://127.0.0.1:{}{AGENT_PATH}", self.port)
    }

    /// A folder for files of this test.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Waits until the relay has a link to the agent.
    pub fn wait_for_agent(&self) {
        wait_until("the agent is connected", || is_connected(self.port, self.mix.agent));
    }

    /// Starts the relay again, on the same port, after it has ended.
    ///
    /// # Panics
    ///
    /// When the port cannot be had back.
    pub fn restart_relay(&mut self) {
        self.relay.kill();
        // A free port of loopback may meanwhile be the near end of somebody's connection, even of a peer that dials
        // it in vain: another attempt succeeds once that is over.
        wait_until("the relay has its port back", || {
            let mut relay = spawn_relay(self.mix.relay, self.folder.path(), self.port, &[]);
            let Some(port) = listening_port(self.mix.relay, &mut relay, self.port) else {
                return false;
            };
            assert_eq!(port, self.port);
            self.relay = relay;
            true
        });
    }

    /// Starts the agent again, after it has ended.
    pub fn restart_agent(&mut self) {
        self.agent.kill();
        self.agent = self.another_agent();
    }

    /// Starts another agent of the same origin, with the same name and secret.
    pub fn another_agent(&self) -> Process {
        let command = self.agent_as(AGENT, AGENT_SECRET);
        Process::start("edge-agent", command, self.mix.agent == Origin::Ours)
    }

    /// The command of an agent with any name and secret.
    pub fn agent_as(&self, name: &str, secret: &str) -> Command {
        agent_command_in(self.mix.agent, self.folder.path(), self.port, name, secret)
    }

    /// Starts a client towards a target.
    pub fn client(&self, target: &Target) -> Client {
        self.client_to("127.0.0.1", &target.port().to_string())
    }

    /// Starts a client towards any host and port.
    pub fn client_to(&self, host: &str, port: &str) -> Client {
        self.client_for(&Ask { host, port, ..Ask::default() })
    }

    /// Starts a client.
    pub fn client_for(&self, ask: &Ask<'_>) -> Client {
        Client::start(self.client_command_for(ask), self.mix.client)
    }

    /// The command of a client.
    pub fn client_command_for(&self, ask: &Ask<'_>) -> Command {
        let Origin::Given(given) = self.mix.client else {
            let mut command = self.client_command();
            command.env("HTTP_NETWORK_RELAY_SECRET", ask.secret);
            command.args([ask.agent, ask.host, ask.port, ask.protocol]);
            return command;
        };
        let program = seated(given, "client", given.profile.client.as_ref());
        let values = Values::from([
            ("url", self.client_url()),
            ("secret", ask.secret.to_owned()),
            ("secret_file", secret_file(self.folder.path(), ask.secret)),
            ("agent", ask.agent.to_owned()),
            ("target_host", ask.host.to_owned()),
            ("target_port", ask.port.to_owned()),
            ("protocol", ask.protocol.to_owned()),
        ]);
        given.profile.command(&program.command, &program.environment, &values)
    }

    /// The command of a client, with the URL and the secret, but without positional arguments.
    pub fn client_command(&self) -> Command {
        client_command(self.mix.client, &self.client_url())
    }
}

/// A client process whose stdin and stdout are piped.
#[derive(Debug)]
pub struct Client {
    /// The process.
    pub process: Process,
    /// What has come out of it.
    pub output: Output,
    stdin: Option<ChildStdin>,
}

impl Client {
    /// Starts `command` with piped stdin and stdout.
    pub fn start(mut command: Command, origin: Origin) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Process::start("access-client", command, origin == Origin::Ours);
        let stdin = process.take_stdin();
        let output = process.collect_stdout();
        Self { process, output, stdin }
    }

    /// Writes to its stdin. That it reads no more is no failure here.
    pub fn send(&mut self, bytes: &[u8]) {
        if let Some(stdin) = &mut self.stdin {
            // The test sees from the rest what became of it.
            let _ = stdin.write_all(bytes).and_then(|()| stdin.flush());
        }
    }

    /// Writes to its stdin from a thread, which gives the pipe back.
    ///
    /// # Panics
    ///
    /// When its stdin was closed.
    pub fn send_beside(&mut self, bytes: Vec<u8>) -> JoinHandle<ChildStdin> {
        let Some(mut stdin) = self.stdin.take() else { panic!("stdin was closed") };
        thread::spawn(move || {
            // As above.
            let _ = stdin.write_all(&bytes).and_then(|()| stdin.flush());
            stdin
        })
    }

    /// Closes its stdin.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Waits for its end and checks the exit status; gives its stderr.
    ///
    /// # Panics
    ///
    /// When the status is another.
    #[track_caller]
    pub fn check_end(&mut self, expected: i32) -> Vec<String> {
        let status = self.process.wait();
        let said = self.process.stderr_at_end();
        assert_eq!(status, expected, "the client said: {said:#?}");
        said
    }

    /// Checks that it fails with this status and exactly one line on stderr; gives the line.
    ///
    /// # Panics
    ///
    /// When it does not.
    #[track_caller]
    pub fn check_failure(&mut self, expected: i32) -> String {
        let said = self.check_end(expected);
        let [line] = &said[..] else { panic!("one line is expected: {said:#?}") };
        assert!(line.starts_with("access-client: "), "{line}");
        line.clone()
    }

    /// Waits for `text` to come back after it was sent, through an echoing target.
    ///
    /// # Panics
    ///
    /// When something else comes.
    pub fn check_echo(&mut self, text: &str) {
        let before = self.output.len();
        self.send(text.as_bytes());
        let all = self.output.wait_for(before + text.len());
        let came = String::from_utf8_lossy(&all[before..]);
        assert_eq!(came, text, "the client said: {:#?}", self.process.stderr());
    }
}

/// The credentials of all tunnels, and of every relay that the kit tests.
pub fn credentials() -> Value {
    let (other, other_secret) = OTHER_AGENT;
    json!({
        "edge-agents": { AGENT: AGENT_SECRET, other: other_secret },
        "access-client-secrets": [CLIENT_SECRET, OTHER_CLIENT_SECRET],
    })
}

/// Writes the credentials of all tunnels into a folder.
///
/// # Panics
///
/// When that fails.
pub fn write_credentials(folder: &Path) {
    let credentials = credentials();
    let file = folder.join("credentials.json");
    let written = fs::write(&file, credentials.to_string())
        .and_then(|()| fs::set_permissions(&file, fs::Permissions::from_mode(0o600)));
    written.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
}

/// Starts a relay with the credentials in `folder`, and gives the port that it reports.
///
/// # Panics
///
/// When it reports none.
pub fn start_relay(origin: Origin, folder: &Path, port: u16, arguments: &[&str]) -> (Process, u16) {
    let port = if port == 0 { port_for(origin) } else { port };
    let mut relay = spawn_relay(origin, folder, port, arguments);
    let port = listening_port(origin, &mut relay, port);
    let port = port.unwrap_or_else(|| panic!("the relay does not start: {:#?}", relay.stderr()));
    (relay, port)
}

fn spawn_relay(origin: Origin, folder: &Path, port: u16, arguments: &[&str]) -> Process {
    let credentials = folder.join("credentials.json");
    let mut command = if let Origin::Given(given) = origin {
        let program = seated(given, "relay", given.profile.relay.as_ref());
        let values = Values::from([
            ("host", "127.0.0.1".to_owned()),
            ("port", port.to_string()),
            ("credentials", credentials.display().to_string()),
        ]);
        given.profile.command(&program.command, &program.environment, &values)
    } else {
        let mut command = origin.command("network-relay");
        command.args(["--port", &port.to_string(), "--credentials-file"]).arg(credentials);
        command
    };
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
    Process::start("network-relay", command, origin == Origin::Ours)
}

/// The port that a relay listens on; `None` if it could not have it.
///
/// # Panics
///
/// When it neither listens nor says so.
fn listening_port(origin: Origin, relay: &mut Process, port: u16) -> Option<u16> {
    if let Origin::Given(given) = origin {
        let program = seated(given, "relay", given.profile.relay.as_ref());
        let Some(before) = &program.port_after else {
            let listens = || TcpStream::connect(("127.0.0.1", port)).is_ok();
            let settled = holds_within(DEADLINE, || relay.ended().is_some() || listens());
            assert!(settled, "the relay does not listen: {:#?}", relay.stderr());
            return relay.ended().is_none().then_some(port);
        };
        let number = |line: &str| {
            let (_, rest) = line.split_once(before.as_str())?;
            rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
        };
        return relay.line_within(DEADLINE, number);
    }
    relay.wait_for_line("its address", |line| {
        // Ours, and the two kinds of Python's.
        let in_use = ["another program uses the port", "address already in use"];
        if in_use.iter().any(|text| line.contains(text)) {
            return Some(None);
        }
        let (_, rest) = line.split_once("http://127.0.0.1:")?;
        rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok().map(Some)
    })
}

/// A port for a relay to be told, where it cannot choose one itself.
fn port_for(origin: Origin) -> u16 {
    match origin {
        Origin::Given(given)
            if given.profile.relay.as_ref().is_some_and(|it| it.port_after.is_none()) =>
        {
            let listener = TcpListener::bind(("127.0.0.1", 0)).and_then(|it| it.local_addr());
            listener.unwrap_or_else(|error| panic!("no free port: {error}")).port()
        }
        _ => 0,
    }
}

/// A program that a profile in a seat has to have.
fn seated<'a, T>(given: &Given, party: &str, program: Option<&'a T>) -> &'a T {
    program.unwrap_or_else(|| panic!("{} has no {party}", given.profile.name))
}

/// A file with a secret. It is written once: a program may be reading it.
fn secret_file(folder: &Path, secret: &str) -> String {
    let file = folder.join(format!("secret-{}", &sha256(secret.as_bytes())[..8]));
    if !file.exists() {
        let written = fs::write(&file, secret);
        written.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }
    file.display().to_string()
}

/// The command of an agent with any name and secret. Files that it needs are written into `folder`.
fn agent_command_in(origin: Origin, folder: &Path, port: u16, name: &str, secret: &str) -> Command {
    let Origin::Given(given) = origin else {
        let mut command = agent_command(origin, port);
        command.args(["--name", name]).env("HTTP_NETWORK_RELAY_SECRET", secret);
        return command;
    };
    let program = seated(given, "agent", given.profile.agent.as_ref());
    let values = Values::from([
        ("url", format!("ws://127.0.0.1:{port}{AGENT_PATH}")),
        ("name", name.to_owned()),
        ("secret", secret.to_owned()),
        ("secret_file", secret_file(folder, secret)),
    ]);
    given.profile.command(&program.command, &program.environment, &values)
}

/// Starts an agent with the name and secret of all tunnels.
pub fn start_agent(origin: Origin, port: u16, arguments: &[&str]) -> Process {
    let mut command = agent_command(origin, port);
    command.args(arguments);
    Process::start("edge-agent", command, origin == Origin::Ours)
}

/// The command of an agent with the name and secret of all tunnels.
pub fn agent_command(origin: Origin, port: u16) -> Command {
    let mut command = origin.command("edge-agent");
    command.args(["--relay-url", &format!("ws://127.0.0.1:{port}{AGENT_PATH}"), "--name", AGENT]);
    command.env("HTTP_NETWORK_RELAY_SECRET", AGENT_SECRET);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// The command of a client with a URL and the secret of all tunnels, but without positional arguments.
pub fn client_command(origin: Origin, url: &str) -> Command {
    let mut command = origin.command("access-client");
    command.args(["--relay-url", url]).env("HTTP_NETWORK_RELAY_SECRET", CLIENT_SECRET);
    command
}

/// Whether the relay on this port has a link to an agent that answers: a client of our own asks for a stream to a target
/// that does not exist, and the agent has to say so. The relay alone may not know yet that an agent has gone.
fn is_connected(port: u16, agent: Origin) -> bool {
    let ask = || -> Option<Value> {
        let mut link = RawLink::open(port, CLIENT_PATH).ok()?;
        link.send_inner(&client_start(1)).ok()?;
        match link.receive_message() {
            Received::Text(text) => serde_json::from_str::<Value>(&text).ok(),
            _ => None,
        }
    };
    let words = ask().and_then(|answer| Some(answer["inner"]["message"].as_str()?.to_owned()));
    words.is_some_and(|words| match agent {
        // Its words are its own, but none of them are the relay's.
        Origin::Given(_) => {
            words.starts_with("Error initiating connection: ")
                && !words.ends_with("agent disconnected")
        }
        _ => words.contains("connection refused") || words.contains("Errno 111"),
    })
}

/// A client's start, towards a port of loopback; without its envelope.
pub fn client_start(port: u16) -> Value {
    json!({
        "kind": "start", "connection_target": AGENT, "target_ip": "127.0.0.1", "target_port": port,
        "protocol": "tcp", "secret": CLIENT_SECRET,
    })
}

/// An agent's start; without its envelope.
pub fn agent_start(name: &str, secret: &str) -> Value {
    json!({ "kind": "start", "last_error": null, "name": name, "secret": secret })
}
