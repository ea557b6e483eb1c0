//! The plain chain: what a process at each hop costs that does nothing but copy.

use std::net::Ipv4Addr;

use anyhow::Context as _;
use client::stdio::{Input, Output};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional_with_sizes};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// The buffer of each direction.
const BUFFER: usize = 64 * 1024;

/// Copies between stdin, stdout and a connection to `port`, until both directions have ended.
pub(crate) async fn stdio(port: u16) -> anyhow::Result<()> {
    let mut stdio = tokio::io::join(Input::open(), Output::open()?);
    let mut far = connect(port).await?;
    copy_bidirectional_with_sizes(&mut stdio, &mut far, BUFFER, BUFFER).await?;
    Ok(())
}

/// Copies between every connection to a port of its own, which it writes to stdout, and a connection to `port`, until
/// stdin ends.
pub(crate) async fn tcp(port: u16) -> anyhow::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("no port")?;
    let line = format!("{}\n", listener.local_addr()?.port());
    tokio::io::stdout().write_all(line.as_bytes()).await?;
    tokio::io::stdout().flush().await?;
    let mut connections = JoinSet::new();
    let mut input = Input::open();
    let mut waste = [0; 64];
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (near, _) = accepted.context("accepting failed")?;
                connections.spawn(copy(near, port));
            }
            Some(_) = connections.join_next() => {}
            read = input.read(&mut waste) => if read? == 0 {
                return Ok(());
            },
        }
    }
}

async fn copy(mut near: TcpStream, port: u16) -> anyhow::Result<()> {
    near.set_nodelay(true)?;
    let mut far = connect(port).await?;
    copy_bidirectional_with_sizes(&mut near, &mut far, BUFFER, BUFFER).await?;
    Ok(())
}

async fn connect(port: u16) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.context("next hop")?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
