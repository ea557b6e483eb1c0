//! The three systems under test, as processes, and one stream through them.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use codec::v1::{AGENT_PATH, CLIENT_PATH};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::agents::{AGENT, AGENT_SECRET, CLIENT_SECRET};
use super::process::{Nursery, Process};

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum System {
    /// This workspace's programs.
    Ours,
    /// Plain copies in as many processes.
    Limit,
    /// The original's programs.
    Original,
}

impl System {
    /// Its name in the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Limit => "limit-stdio",
            Self::Original => "original",
        }
    }
}

/// Where the programs are, and what they share.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    /// This program.
    pub(crate) speed: PathBuf,
    /// The folder of our programs.
    pub(crate) ours: PathBuf,
    /// The folder of the original's.
    pub(crate) original: Option<PathBuf>,
    /// The relays' file.
    pub(crate) credentials: PathBuf,
    /// Owns every process.
    pub(crate) nursery: Arc<Nursery>,
}

impl Programs {
    /// Whether there is such a system.
    pub(crate) fn have(&self, system: System) -> bool {
        system != System::Original || self.original.is_some()
    }

    fn command(&self, system: System, program: &str) -> Command {
        let mut command = match (system, &self.original) {
            (System::Limit, _) => Command::new(&self.speed),
            (System::Original, Some(folder)) => Command::new(folder.join(program)),
            (System::Ours | System::Original, _) => Command::new(self.ours.join(program)),
        };
        // Nothing that is set here is meant for the programs: no relay, no proxy, no log level.
        command.env_clear();
        command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// Starts a relay, and gives its port.
    pub(crate) fn relay(&self, system: System) -> anyhow::Result<(Process, u16)> {
        let mut command = self.command(system, "network-relay");
        command.args(["--port", "0", "--credentials-file"]).arg(&self.credentials);
        command.stderr(Stdio::piped());
        let mut relay = self.nursery.start(command)?;
        let stderr = relay.child.stderr.take().context("stderr is piped")?;
        let port = port_in(stderr, |line| {
            let (_, rest) = line.split_once("http://127.0.0.1:")?;
            rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
        });
        Ok((relay, port.context("the relay does not say where it listens")?))
    }

    /// Starts one hop of the plain chain, and gives its port.
    fn hop(&self, next: u16) -> anyhow::Result<(Process, u16)> {
        let mut command = self.command(System::Limit, "");
        command.args(["copy-tcp", &next.to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut hop = self.nursery.start(command)?;
        let stdout = hop.child.stdout.take().context("stdout is piped")?;
        let port = port_in(stdout, |line| line.parse().ok());
        Ok((hop, port.context("a copying process does not say where it listens")?))
    }
}

/// The port that a line of `source` tells. The rest is read and dropped by a thread that ends with it.
fn port_in(
    source: impl Read + Send + 'static,
    parse: impl Fn(&str) -> Option<u16> + Send + 'static,
) -> Option<u16> {
    let (found, port) = mpsc::channel();
    thread::spawn(move || {
        let mut found = Some(found);
        for line in BufReader::new(source).split(b'\n').map_while(Result::ok) {
            if let Some(port) = parse(&String::from_utf8_lossy(&line))
                && let Some(found) = found.take()
            {
                // Then nobody waits any more.
                let _ = found.send(port);
            }
        }
    });
    port.recv_timeout(START_TIMEOUT).ok()
}

/// Everything between a user and a target, but for the client, which comes with each stream.
#[derive(Debug)]
pub(crate) struct Tunnel<'a> {
    programs: &'a Programs,
    system: System,
    /// What stands in the middle.
    pub(crate) relay: Process,
    /// What connects to the target.
    pub(crate) agent: Process,
    target: Target,
    /// Of the relay.
    port: u16,
}

impl<'a> Tunnel<'a> {
    /// Starts a system, and waits until it carries streams.
    pub(crate) fn start(programs: &'a Programs, system: System) -> anyhow::Result<Self> {
        let target = Target::listen()?;
        let (relay, agent, port) = if system == System::Limit {
            let (agent, port) = programs.hop(target.port)?;
            let (relay, port) = programs.hop(port)?;
            (relay, agent, port)
        } else {
            let (relay, port) = programs.relay(system)?;
            let mut command = programs.command(system, "edge-agent");
            let url = format!("ws://127.0.0.1:{port}{AGENT_PATH}");
            command.args(["--relay-url", &url, "--name", AGENT]);
            command.env("HTTP_NETWORK_RELAY_SECRET", AGENT_SECRET);
            (relay, programs.nursery.start(command)?, port)
        };
        let tunnel = Self { programs, system, relay, agent, target, port };
        let end = Instant::now() + START_TIMEOUT;
        while let Err(error) = tunnel.open() {
            if Instant::now() > end {
                return Err(error.context("the tunnel does not come up"));
            }
            // The agent is not registered yet.
            thread::sleep(Duration::from_millis(20));
        }
        Ok(tunnel)
    }

    /// Opens a stream, and returns when the first byte of its target has arrived.
    pub(crate) fn open(&self) -> anyhow::Result<Stream> {
        let mut command = match self.system {
            System::Limit => {
                let mut command = self.programs.command(self.system, "");
                command.args(["copy-stdio", &self.port.to_string()]);
                command
            }
            System::Ours | System::Original => {
                let mut command = self.programs.command(self.system, "access-client");
                let url = format!("ws://127.0.0.1:{}{CLIENT_PATH}", self.port);
                command.args(["--relay-url", &url, AGENT, "127.0.0.1"]);
                command.args([&self.target.port.to_string(), "tcp"]);
                command.env("HTTP_NETWORK_RELAY_SECRET", CLIENT_SECRET);
                command
            }
        };
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut client = self.programs.nursery.start(command)?;
        let input = client.child.stdin.take().context("stdin is piped")?;
        let mut output = client.child.stdout.take().context("stdout is piped")?;
        let mut far = self.target.accept(&output)?;
        far.write_all(GREETING)?;
        let mut first = [0; GREETING.len()];
        output.read_exact(&mut first).context("the client ended before the first byte")?;
        Ok(Stream { client, input, output, far })
    }
}

/// A stream that is open from end to end.
#[derive(Debug)]
pub(crate) struct Stream {
    /// The user's process.
    pub(crate) client: Process,
    /// The pipe to it.
    pub(crate) input: ChildStdin,
    /// The pipe from it.
    pub(crate) output: ChildStdout,
    /// The target's end.
    pub(crate) far: TcpStream,
}

#[derive(Debug)]
struct Target {
    listener: TcpListener,
    port: u16,
}

impl Target {
    fn listen() -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port")?;
        let port = listener.local_addr()?.port();
        Ok(Self { listener, port })
    }

    /// Waits for a connection, unless the client whose output this is ends before.
    fn accept(&self, output: &ChildStdout) -> anyhow::Result<TcpStream> {
        let mut both =
            [PollFd::new(&self.listener, PollFlags::IN), PollFd::new(output, PollFlags::empty())];
        let limit = Timespec { tv_sec: START_TIMEOUT.as_secs() as i64, tv_nsec: 0 };
        poll(&mut both, Some(&limit)).context("cannot wait for the connection")?;
        if !both[0].revents().contains(PollFlags::IN) {
            bail!("the client did not get to the target");
        }
        let (stream, _) = self.listener.accept()?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// What a target says first.
const GREETING: &[u8] = b"!";

/// How long programs may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(60);
