//! The whole tunnel on one machine, with nothing to configure: a relay, an agent, a target, and
//! one stream through them. Stays up until Ctrl-C, for a try from another shell.

use std::future::pending;
use std::io::{self, ErrorKind, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use agent::config::Config as AgentConfig;
use anyhow::{Context, ensure};
use clap::Parser;
use client::config::{Config as ClientConfig, Target};
use client::stdio::output_closed;
use client::{Ends, Notice};
use codec::Secret;
use codec::v1::{AGENT_PATH, CLIENT_PATH};
use relay::auth::Credentials;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tracing::level_filters::LevelFilter;
use transport::program::{self, Signals};

const AGENT: &str = "demo";

/// What the target says first, and what it says back.
const GREETING: &str = "This is the target behind the agent. It sends back every line.\n";

/// Shows the whole tunnel on this machine, with nothing to configure.
///
/// Starts a relay, an agent and a target on loopback, sends a line through them, and prints the command that does the
/// same from another shell. Stays up until Ctrl-C.
#[derive(Debug, Parser)]
#[command(name = "demo", version = program::long_version!())]
struct Cli {}

fn main() -> ExitCode {
    let Cli {} = match program::parse() {
        Ok(cli) => cli,
        Err(early) => return early.report(),
    };
    program::init_logging("demo", 0, LevelFilter::WARN);
    let shown = tokio::runtime::Runtime::new()
        .context("cannot start a tokio runtime")
        .and_then(|runtime| runtime.block_on(show()));
    match shown {
        Ok(()) => ExitCode::SUCCESS,
        // As with `demo | head`: whoever asked has seen enough.
        Err(error) if is_unread(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn show() -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let (agent_secret, client_secret) = (random_secret(), random_secret());

    let target = TcpListener::bind("127.0.0.1:0").await.context("no port for the target")?;
    let target_address = target.local_addr()?;
    let relay = TcpListener::bind("127.0.0.1:0").await.context("no port for the relay")?;
    let relay_address = relay.local_addr()?;

    // Everything runs in tasks that end with these sets.
    let (mut tasks, mut agents) = (JoinSet::new(), JoinSet::new());
    tasks.spawn(serve_target(target));
    let credentials = Credentials::from_json(&format!(
        r#"{{"edge-agents": {{"{AGENT}": "{agent_secret}"}}, "access-client-secrets": ["{client_secret}"]}}"#
    ))?;
    tasks.spawn(async move {
        let ended = relay::serve(vec![relay], credentials, pending()).await;
        ended.context("the relay ended")
    });
    let agent = AgentConfig {
        relay_urls: vec![format!("ws://{relay_address}{AGENT_PATH}").parse()?],
        resume_for: codec::v2::RESUME_FOR,
        name: AGENT.to_owned(),
        secret: Secret::from(agent_secret),
        ca_file: None,
    };
    agents.spawn(async move {
        let ended = agent::run(agent, pending()).await;
        ended.context("the agent ended")
    });
    let client = ClientConfig {
        relay_urls: vec![format!("ws://{relay_address}{CLIENT_PATH}").parse()?],
        secret: Secret::from(client_secret.clone()),
        ca_file: None,
        eof_timeout: None,
        resume_for: codec::v2::RESUME_FOR,
        agent: AGENT.to_owned(),
        protocol: "tcp".to_owned(),
    };
    let target = Target { host: target_address.ip().to_string(), port: target_address.port() };
    let ended = tokio::select! {
        ended = report(&client, &target, &client_secret) => ended,
        Some(ended) = tasks.join_next() => ended.unwrap_or_else(|error| Err(error.into())),
        Some(ended) = agents.join_next() => ended.unwrap_or_else(|error| Err(error.into())),
        _ = signals.next() => Ok(()),
    };
    // The agent first: it would warn of the end of its relay.
    agents.shutdown().await;
    ended
}

/// Tries the tunnel, says how it went, and waits until nobody reads that any more.
async fn report(client: &ClientConfig, target: &Target, client_secret: &str) -> anyhow::Result<()> {
    let answer = try_tunnel(client, target).await?;
    let Target { host, port } = target;
    let relay_url = client.relay_urls.first().context("no relay")?;
    say(&format!("relay   listens at {relay_url}"))?;
    say(&format!("agent   \"{AGENT}\" has dialled it"))?;
    say(&format!("target  listens on {host}:{port}; only the agent connects to it"))?;
    say(&format!("client  sent \"hello\" through the tunnel and got back \"{answer}\""))?;
    say("")?;
    say("It works. Try it from another shell in this folder (Ctrl-D, then Ctrl-C, ends it):")?;
    say("")?;
    say(&format!(
        "  HTTP_NETWORK_RELAY_SECRET={client_secret} cargo run --release --bin access-client -- \
         --relay-url {relay_url} {AGENT} {host} {port} tcp"
    ))?;
    say("")?;
    say("Ctrl-C ends the demo.")?;
    output_closed().await;
    Err(io::Error::from(ErrorKind::BrokenPipe).into())
}

/// Whether it failed because nobody reads the report any more.
fn is_unread(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}

/// One stream: reads the greeting, sends a line, gives what comes back.
async fn try_tunnel(config: &ClientConfig, target: &Target) -> anyhow::Result<String> {
    // The agent may need a moment to register; until then the relay does not know it.
    let mut attempts = 0;
    loop {
        attempts += 1;
        let (near, far) = tokio::io::duplex(4096);
        let (input, output) = tokio::io::split(far);
        let ends = Ends { input, output, output_closed: pending(), ends_with_target: false };
        let talk = async {
            let mut near = BufReader::new(near);
            let mut line = String::new();
            if near.read_line(&mut line).await? == 0 {
                // The client has ended, and tells why.
                return pending().await;
            }
            ensure!(line == GREETING, "the target's greeting did not arrive whole");
            near.write_all(b"hello\n").await?;
            line.clear();
            near.read_line(&mut line).await?;
            Ok(line.trim_end().to_owned())
        };
        tokio::select! {
            ended = client::run(config, target, ends, Arc::new(|_: &Notice| {}), pending()) => match ended {
                Err(error) if attempts < 100 && is_not_registered(&error) => {
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
                ended => {
                    ended.context("no stream")?;
                    anyhow::bail!("the stream ended before the answer came");
                }
            },
            answer = talk => return answer,
        }
    }
}

fn is_not_registered(error: &client::RunError) -> bool {
    error.exit() == client::exit::Exit::AgentNotConnected
}

/// The target: greets, then sends back what it gets.
async fn serve_target(listener: TcpListener) -> anyhow::Result<()> {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, peer): (TcpStream, SocketAddr) = accepted.context("the target failed")?;
                tracing::debug!(%peer, "target connected");
                connections.spawn(echo(stream));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    stream.write_all(GREETING.as_bytes()).await?;
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            read => stream.write_all(&buffer[..read]).await?,
        }
    }
}

/// A secret for this run only.
fn random_secret() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

/// Prints a line of the report.
fn say(line: &str) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{line}")
}
