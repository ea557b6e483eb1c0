//! Servers that do what a test tells them.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use transport::dial::{DialError, Dialed, Dialer, DialerConfig};
use transport::proxy::ProxyEnv;

/// A server that runs a script for every connection, and ends with this value.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// What scripts have noted, in order.
    pub(crate) notes: Notes,
    _task: JoinSet<()>,
}

/// A list that scripts write and tests read.
#[derive(Clone, Default)]
pub(crate) struct Notes(Arc<Mutex<Vec<String>>>);

impl Notes {
    pub(crate) fn add(&self, note: impl Into<String>) {
        self.0.lock().expect("no panic while locked").push(note.into());
    }

    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().expect("no panic while locked"))
    }
}

/// What a script does with one connection. Its errors are those of a peer that went away, and do
/// not matter.
pub(crate) type Script = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

impl Server {
    pub(crate) async fn start(
        script: impl Fn(TcpStream, Notes) -> Script + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound listener");
        let notes = Notes::default();
        let given = notes.clone();
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(script(stream, given.clone()));
            }
        });
        Self { address, notes, _task: task }
    }

    /// Notes the head of each request and answers it with a fixed text.
    pub(crate) async fn answering(answer: impl Into<Vec<u8>>) -> Self {
        let answer = answer.into();
        Self::start(move |mut stream, notes| {
            let answer = answer.clone();
            Box::pin(async move {
                notes.add(read_head(&mut stream).await?);
                stream.write_all(&answer).await
            })
        })
        .await
    }

    /// Notes the head of each request, opens a WebSocket, and sends back what comes.
    pub(crate) async fn relay() -> Self {
        Self::start(|stream, notes| Box::pin(serve_relay(stream, notes))).await
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("ws://{}{path}", self.address)
    }
}

/// What [`Server::relay`] does, on any stream.
pub(crate) async fn serve_relay<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    notes: Notes,
) -> io::Result<()> {
    let head = read_head(&mut stream).await?;
    let answer = switching(&head, "Http-Network-Relay: test/1\r\n");
    notes.add(head);
    stream.write_all(answer.as_bytes()).await?;
    let (mut reader, mut writer) = tokio::io::split(stream);
    tokio::io::copy(&mut reader, &mut writer).await?;
    writer.shutdown().await
}

/// A port on which nobody listens, and what keeps others from doing so.
pub(crate) fn closed_port() -> (TcpSocket, u16) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
    let port = socket.local_addr().expect("a bound socket").port();
    (socket, port)
}

/// The head of a request, byte by byte so that nothing behind it is read.
pub(crate) async fn read_head<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// The value of a header in a head.
pub(crate) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (found, value) = line.split_once(": ")?;
        found.eq_ignore_ascii_case(name).then_some(value)
    })
}

/// The 101 for the request with this head.
pub(crate) fn switching(head: &str, further: &str) -> String {
    let accept =
        derive_accept_key(header(head, "Sec-WebSocket-Key").unwrap_or_default().as_bytes());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n{further}\r\n"
    )
}

/// A dialer without CA file and proxies.
pub(crate) fn dialer() -> Dialer {
    Dialer::new(DialerConfig::default()).expect("there is no file to read")
}

/// A dialer with these proxy variables.
pub(crate) fn dialer_with(vars: &[(&str, String)]) -> Dialer {
    let proxies = ProxyEnv::from_vars(vars.iter().map(|(name, value)| (*name, value.as_str())));
    Dialer::new(DialerConfig { proxies, ..DialerConfig::default() })
        .expect("there is no file to read")
}

pub(crate) async fn dial(dialer: &Dialer, url: &str) -> Result<Dialed, DialError> {
    dialer.dial(&url.parse().expect("a valid URL")).await
}

/// The text of the error that dialling ends in, with `HOST` for the host and port of the URL, and
/// whether it means that the relay is unreachable.
pub(crate) async fn failure(dialer: &Dialer, url: &str) -> (String, bool) {
    let error = dial(dialer, url).await.expect_err("the server does not open a WebSocket");
    assert_ne!(error.is_relay_unreachable(), error.is_bad_answer());
    let authority = url.split('/').nth(2).unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    (error.to_string().replace(host, "HOST"), error.is_relay_unreachable())
}

/// Sends a text through the socket and expects it back.
pub(crate) async fn echo(dialed: &mut Dialed) {
    dialed.socket.write_all(b"are you there?").await.expect("written");
    dialed.socket.flush().await.expect("flushed");
    let mut back = [0; 14];
    dialed.socket.read_exact(&mut back).await.expect("read");
    assert_eq!(&back, b"are you there?");
}
