//! A relay in this process, and peers that a test scripts: what they say is what the test says.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use codec::v1;
use codec::v2::{
    self, Control, Credit, Done, Finish, Hello, Open, Opened, Reset, Resume, Role, data,
};
use futures_util::{SinkExt as _, StreamExt as _};
use relay::auth::Credentials;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use transport::socket::Socket;
use transport::websocket::{Role as WebSocketRole, Sizes, WebSocket, websocket};

pub(crate) const AGENT: &str = "workshop";
pub(crate) const AGENT_SECRET: &str = "agent's secret";
pub(crate) const CLIENT_SECRET: &str = "client's secret";
pub(crate) const ID: &str = "0123abcd-0123-4567-89ab-0123456789ab";

/// How long a test waits for something that should happen at once. Generous, since test machines are busy.
const DEADLINE: Duration = Duration::from_secs(60);

/// A relay on a free port, which ends with the test.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    serving: JoinHandle<()>,
}

impl Relay {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound listener");
        let serving = tokio::spawn(async move {
            let served = relay::serve(vec![listener], credentials(), std::future::pending());
            served.await.expect("serves");
        });
        Self { address, serving }
    }

    pub(crate) async fn dial(&self, path: &str, offer: Option<&str>) -> Peer {
        let (head, peer) = self.try_dial(path, offer).await;
        peer.unwrap_or_else(|| panic!("{head}"))
    }

    /// Asks for an upgrade; gives the head of the answer.
    pub(crate) async fn try_dial(&self, path: &str, offer: Option<&str>) -> (String, Option<Peer>) {
        let mut stream = TcpStream::connect(self.address).await.expect("the relay listens");
        let offer = offer.map_or(String::new(), |it| format!("Sec-WebSocket-Protocol: {it}\r\n"));
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{offer}\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.expect("asked");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(within(stream.read_u8()).await.expect("an answer"));
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        if !head.starts_with("HTTP/1.1 101 ") {
            return (head, None);
        }
        let sizes = Sizes { max_message: 1 << 26, before_start: None };
        let socket = websocket(Socket::Tcp(stream), &[], WebSocketRole::Client, sizes).await;
        (head, Some(Peer { socket }))
    }

    /// A link of protocol v2, before its hello.
    pub(crate) async fn link(&self, role: Role) -> Peer {
        let path = if role == Role::Agent { v1::AGENT_PATH } else { v1::CLIENT_PATH };
        self.dial(path, Some(v2::SUBPROTOCOL)).await
    }

    /// An agent that was welcomed.
    pub(crate) async fn agent(&self, instance: &str) -> Peer {
        let mut agent = self.link(Role::Agent).await;
        agent.say(hello(Role::Agent, AGENT, AGENT_SECRET, instance)).await;
        agent.welcomed().await;
        agent
    }

    /// A client that was welcomed.
    pub(crate) async fn client(&self) -> Peer {
        let mut client = self.link(Role::Client).await;
        client.say(hello(Role::Client, "", CLIENT_SECRET, "c")).await;
        client.welcomed().await;
        client
    }

    /// An agent of protocol v1, which the relay has heard.
    pub(crate) async fn agent_v1(&self) -> Peer {
        let mut agent = self.dial(v1::AGENT_PATH, None).await;
        agent.say_text(agent_start()).await;
        // Messages take effect in their order, so the answer comes behind the start.
        agent.send(Message::Ping(Bytes::from_static(b"heard"))).await;
        while let Some(Ok(message)) = within(agent.socket.next()).await {
            if let Message::Pong(_) = message {
                return agent;
            }
        }
        panic!("the agent was not accepted")
    }

    /// A client of protocol v1, which has asked for `host:22`.
    pub(crate) async fn client_v1(&self, host: &str) -> Peer {
        let mut client = self.dial(v1::CLIENT_PATH, None).await;
        client.say_text(client_start(host)).await;
        client
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

pub(crate) fn agent_start() -> String {
    format!(
        r#"{{"inner":{{"kind":"start","last_error":null,"name":"{AGENT}","secret":"{AGENT_SECRET}"}}}}"#
    )
}

pub(crate) fn client_start(host: &str) -> String {
    format!(
        r#"{{"inner":{{"kind":"start","connection_target":"{AGENT}","target_ip":"{host}","target_port":22,"protocol":"tcp","secret":"{CLIENT_SECRET}"}}}}"#
    )
}

pub(crate) fn credentials() -> Credentials {
    let text = format!(
        r#"{{"edge-agents":{{"{AGENT}":"{AGENT_SECRET}"}},"access-client-secrets":["{CLIENT_SECRET}"]}}"#
    );
    Credentials::from_json(&text).expect("sound credentials")
}

async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, what).await.expect("nothing came in time")
}

/// What comes from the relay.
#[derive(Debug)]
pub(crate) enum Got {
    Control(Control),
    Data(u32, Bytes),
    /// A text that is no message of v2.
    Text(String),
    Close(Option<u16>, String),
    End,
}

/// The other end of a link.
#[derive(Debug)]
pub(crate) struct Peer {
    socket: WebSocket,
}

impl Peer {
    pub(crate) async fn say(&mut self, message: Control) {
        self.say_text(v2::encode(&message)).await;
    }

    pub(crate) async fn say_text(&mut self, text: String) {
        self.send(Message::Text(text.into())).await;
    }

    pub(crate) async fn say_data(&mut self, stream: u32, bytes: &[u8]) {
        let frame = [&data::header(stream)[..], bytes].concat();
        self.send(Message::Binary(frame.into())).await;
    }

    /// Sends anything. The relay may have ended the link already.
    pub(crate) async fn send(&mut self, message: Message) {
        let _ = within(self.socket.send(message)).await;
    }

    /// Closes the link; gives the answer.
    pub(crate) async fn close(&mut self) -> Got {
        let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        self.send(Message::Close(Some(frame))).await;
        self.next().await
    }

    /// Ends the connection without a word.
    pub(crate) async fn cut(self) {
        self.socket.into_inner().into_inner().abort();
    }

    pub(crate) async fn next(&mut self) -> Got {
        loop {
            return match within(self.socket.next()).await {
                Some(Ok(Message::Text(text))) => match v2::decode(&text) {
                    Ok(message) => Got::Control(message),
                    Err(_) => Got::Text(text.to_string()),
                },
                Some(Ok(Message::Binary(bytes))) => {
                    let (stream, _) = data::split(&bytes).expect("a header");
                    Got::Data(stream, bytes.slice(data::HEADER_BYTES..))
                }
                Some(Ok(Message::Close(frame))) => {
                    // The answer is sent, so that the relay need not wait for it.
                    let _ = within(self.socket.flush()).await;
                    let reason = frame.as_ref().map_or("", |frame| frame.reason.as_str());
                    Got::Close(frame.as_ref().map(|frame| frame.code.into()), reason.into())
                }
                Some(Ok(_)) => continue,
                Some(Err(_)) | None => Got::End,
            };
        }
    }

    /// The next message.
    pub(crate) async fn message(&mut self) -> Control {
        match self.next().await {
            Got::Control(message) => message,
            other => panic!("{other:?}"),
        }
    }

    /// The next message but for credit.
    pub(crate) async fn message_but_credit(&mut self) -> Control {
        loop {
            match self.message().await {
                Control::Credit(_) => {}
                other => return other,
            }
        }
    }

    /// Bytes of a stream until there are so many; credit is passed over.
    pub(crate) async fn bytes(&mut self, stream: u32, count: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < count {
            match self.next().await {
                Got::Data(from, more) if from == stream => bytes.extend_from_slice(&more),
                Got::Control(Control::Credit(_)) => {}
                other => panic!("{other:?} after {} bytes", bytes.len()),
            }
        }
        bytes
    }

    /// The next message of v1, without its envelope.
    pub(crate) async fn inner(&mut self) -> serde_json::Value {
        let Got::Text(text) = self.next().await else { panic!("no text") };
        let mut value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        value["inner"].take()
    }

    pub(crate) async fn welcomed(&mut self) -> v2::Welcome {
        match self.message().await {
            Control::Welcome(welcome) => welcome,
            other => panic!("{other:?}"),
        }
    }

    /// What is said, if anything, before the link is closed, and the close code.
    pub(crate) async fn rejected(&mut self) -> (Option<v2::Code>, u16) {
        let mut code = None;
        loop {
            match self.next().await {
                Got::Control(Control::Reject(reject)) => code = Some(reject.code),
                Got::Close(Some(close), _) => return (code, close),
                other => panic!("{other:?}"),
            }
        }
    }
}

pub(crate) fn hello(role: Role, name: &str, secret: &str, instance: &str) -> Control {
    Control::Hello(Hello {
        role,
        name: name.into(),
        secret: secret.to_owned().into(),
        instance: instance.into(),
        software: "a test".into(),
        last_error: None,
        extra: None,
    })
}

pub(crate) fn open(stream: u32, host: &str) -> Control {
    Control::Open(Open {
        stream,
        id: ID.into(),
        attempt: 1,
        agent: AGENT.into(),
        host: host.into(),
        port: 22,
        protocol: v2::PROTOCOL_TCP.into(),
        limit: v2::INITIAL_WINDOW,
        principal: None,
    })
}

pub(crate) fn resume(stream: u32, attempt: u32, received: u64) -> Control {
    Control::Resume(Resume {
        stream,
        id: ID.into(),
        attempt,
        agent: AGENT.into(),
        received,
        consumed: received,
        limit: received + v2::INITIAL_WINDOW,
        principal: None,
    })
}

pub(crate) fn opened(stream: u32, received: u64) -> Control {
    let limit = received + v2::INITIAL_WINDOW;
    Control::Opened(Opened { stream, received, consumed: received, limit })
}

pub(crate) fn credit(stream: u32, consumed: u64) -> Control {
    Control::Credit(Credit { stream, consumed, limit: consumed + v2::INITIAL_WINDOW })
}

pub(crate) fn finish(stream: u32, offset: u64) -> Control {
    Control::Finish(Finish { stream, offset })
}

pub(crate) fn done(stream: u32) -> Control {
    Control::Done(Done { stream })
}

pub(crate) fn reset(stream: u32, code: v2::Code, message: &str) -> Control {
    Control::Reset(Reset { stream, code, message: message.into() })
}
