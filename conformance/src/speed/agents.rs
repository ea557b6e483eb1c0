//! Scripted agents: a relay cannot tell them from programs, and they cost the bench nothing.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use codec::v1::AGENT_PATH;
use conformance::harness::frames::{PING, PONG, TEXT, frame};
use serde_json::{Map, Value, json};

/// The name of the agent that carries streams.
pub(crate) const AGENT: &str = "bench";
/// The secret of all agents.
pub(crate) const AGENT_SECRET: &str = "agent-secret-of-the-bench";
/// The secret of the clients.
pub(crate) const CLIENT_SECRET: &str = "client-secret-of-the-bench";

/// Writes the file that admits everybody in the bench: [`AGENT`], and `count` scripted agents.
pub(crate) fn write_credentials(file: &Path, count: u32) -> anyhow::Result<()> {
    let names = std::iter::once(AGENT.to_owned()).chain((0..count).map(name));
    let agents: Map<String, Value> = names.map(|name| (name, AGENT_SECRET.into())).collect();
    let credentials = json!({ "edge-agents": agents, "access-client-secrets": [CLIENT_SECRET] });
    fs::write(file, credentials.to_string()).with_context(|| file.display().to_string())
}

fn name(index: u32) -> String {
    format!("idle-{index}")
}

/// A link of a scripted agent. It answers nothing, so it lives as long as a relay waits for a pong.
#[derive(Debug)]
pub(crate) struct IdleAgent(TcpStream);

impl IdleAgent {
    /// Registers with the relay on `port`, and returns when that has read the start.
    pub(crate) fn register(port: u16, index: u32) -> anyhow::Result<Self> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        // Compression is offered, as the original's agents do: a relay that accepts it pays for it.
        let request = format!(
            "GET {AGENT_PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"
        );
        stream.write_all(request.as_bytes())?;
        let mut agent = Self(stream);
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(agent.read::<1>()?[0]);
        }
        let head = String::from_utf8_lossy(&head);
        ensure!(head.starts_with("HTTP/1.1 101"), "not upgraded: {head}");
        let start = json!({ "inner": {
            "kind": "start", "last_error": null, "name": name(index), "secret": AGENT_SECRET,
        }});
        agent.0.write_all(&frame(0x80 | TEXT, start.to_string().as_bytes()))?;
        agent.0.write_all(&frame(0x80 | PING, b""))?;
        let [first, length] = agent.read::<2>()?;
        if (first, length) != (0x80 | PONG, 0) {
            bail!("not the pong but a frame {first:#04x}");
        }
        Ok(agent)
    }

    fn read<const N: usize>(&mut self) -> anyhow::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.0.read_exact(&mut bytes).context("the relay closed the link")?;
        Ok(bytes)
    }
}
