//! A relay and its agent in one, in this process: an endpoint right behind a WebSocket server, which tests can have
//! refuse, cut and drain.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use codec::v1::{self, ClientToRelay, RelayToClient, StartOk};
use codec::v2::{self, Code, Control, Goaway, Hello, Reject, Welcome};
use mux::v2::{Event, Settings, Side, StreamKey};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle, JoinSet};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use transport::bell::Bell;
use transport::driver::{Close, Ended, Outgoing, Pace, Party, drive};
use transport::socket::Socket;
use transport::streams::{Carried, Seat, Streams, StreamsLink};
use transport::websocket::{Role, Sizes, websocket};

/// The secret that the relay takes.
pub(crate) const SECRET: &str = "canary-v2-0d107d09";

/// How long anything here is waited for: long enough for a machine that does ten other things.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// What the relay does with the next link.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// Accepts it.
    Welcome,
    /// Refuses it.
    Reject(Code, Option<Duration>),
    /// Closes it without a word, with this code.
    Close(u16),
    /// Accepts the connection, and says nothing.
    Silence,
    /// Cuts it after the upgrade.
    Cut,
    /// Speaks protocol v1, and sends back what comes.
    Old,
}

/// What has happened at the relay so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// Every `hello`, in order.
    pub(crate) hellos: Vec<Hello>,
    /// The frames of each link so far, one text each: the kind of a message, or the length of data.
    pub(crate) frames: Vec<Vec<String>>,
    /// How many connections to targets were made.
    pub(crate) dials: usize,
    /// Streams that are attached or wait.
    pub(crate) streams: usize,
    /// Connections that were accepted.
    pub(crate) connections: usize,
}

/// The relay. It ends when this is dropped.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    streams: Streams,
    answer: Mutex<Answer>,
    links: Mutex<BTreeMap<usize, LiveLink>>,
    seen: watch::Sender<Seen>,
    /// What the agent does with streams, if not as asked.
    refuse_streams: Mutex<Option<Code>>,
    resume_for: Duration,
}

struct LiveLink {
    socket: std::net::TcpStream,
    driver: Option<AbortHandle>,
    say: Arc<Mutex<Vec<String>>>,
    bell: Bell,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Relay {
    /// A relay on a free port, which keeps streams for this long.
    pub(crate) async fn start(resume_for: Duration) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        // An agent that has run for a while.
        let settings = Settings { resume_for, ..Settings::default() };
        let shared = Arc::new(Shared {
            streams: Streams::new(Side::Acceptor, settings),
            answer: Mutex::new(Answer::Welcome),
            links: Mutex::default(),
            seen: watch::Sender::new(Seen::default()),
            refuse_streams: Mutex::default(),
            resume_for,
        });
        let task = tokio::spawn(serve(listener, Arc::clone(&shared)));
        Self { address, shared, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}/ws_for_access_clients", self.address)
    }

    /// What it does with links from now on.
    pub(crate) fn answer(&self, answer: Answer) {
        *lock(&self.shared.answer) = answer;
    }

    /// What its agent answers every stream with from now on.
    pub(crate) fn refuse_streams(&self, code: Code) {
        *lock(&self.shared.refuse_streams) = Some(code);
    }

    /// Waits until what has happened is as asked, and gives it.
    pub(crate) async fn seen(&self, what: &str, mut holds: impl FnMut(&Seen) -> bool) -> Seen {
        let mut seen = self.shared.seen.subscribe();
        let waiting = async {
            loop {
                let now = seen.borrow_and_update().clone();
                if holds(&now) {
                    return now;
                }
                seen.changed().await.unwrap();
            }
        };
        match tokio::time::timeout(DEADLINE, waiting).await {
            Ok(seen) => seen,
            Err(_) => panic!("not seen: {what}; but: {:#?}", self.shared.seen.borrow()),
        }
    }

    /// Cuts all links with a TCP reset.
    pub(crate) fn cut(&self) {
        for (_, link) in std::mem::take(&mut *lock(&self.shared.links)) {
            socket2::SockRef::from(&link.socket).set_linger(Some(Duration::ZERO)).unwrap();
            if let Some(driver) = link.driver {
                driver.abort();
            }
        }
    }

    /// Says on every link that the relay drains.
    pub(crate) fn drain(&self, reconnect_after: Duration) {
        let reconnect_after_ms = reconnect_after.as_millis() as u32;
        let goaway = Goaway { message: "restarting".into(), reconnect_after_ms };
        for link in lock(&self.shared.links).values() {
            lock(&link.say).push(v2::encode(&Control::Goaway(goaway.clone())));
            link.bell.ring();
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
        self.cut();
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut tasks = JoinSet::new();
    let agent = Arc::clone(&shared);
    tasks.spawn(async move { serve_streams(agent).await });
    for index in 0.. {
        let (stream, _) = loop {
            tokio::select! {
                accepted = listener.accept() => break accepted.unwrap(),
                Some(ended) = tasks.join_next() => if let Err(error) = ended
                    && error.is_panic()
                {
                    std::panic::resume_unwind(error.into_panic());
                },
            }
        };
        shared.seen.send_modify(|seen| seen.connections += 1);
        let socket = std::net::TcpStream::from(stream.as_fd().try_clone_to_owned().unwrap());
        let (say, bell) = (Arc::default(), Bell::default());
        let link = LiveLink { socket, driver: None, say: Arc::clone(&say), bell: bell.clone() };
        lock(&shared.links).insert(index, link);
        let serving = Arc::clone(&shared);
        let driver = tasks.spawn(async move {
            serve_link(stream, say, bell, &serving).await;
            lock(&serving.links).remove(&index);
        });
        if let Some(link) = lock(&shared.links).get_mut(&index) {
            link.driver = Some(driver);
        }
    }
}

async fn serve_link(
    mut stream: TcpStream,
    say: Arc<Mutex<Vec<String>>>,
    bell: Bell,
    shared: &Arc<Shared>,
) {
    let answer = lock(&shared.answer).clone();
    stream.set_nodelay(true).unwrap();
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        request.push(byte);
    }
    let request = String::from_utf8(request).unwrap();
    let header = |name: &str| {
        request.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    };
    assert_eq!(header("sec-websocket-protocol").as_deref(), Some(v2::SUBPROTOCOL));
    let accept = derive_accept_key(header("sec-websocket-key").unwrap().as_bytes());
    let protocol = match answer {
        Answer::Old => String::new(),
        _ => format!("Sec-WebSocket-Protocol: {}\r\n", v2::SUBPROTOCOL),
    };
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n{protocol}\r\n"
    );
    if stream.write_all(head.as_bytes()).await.is_err() || matches!(answer, Answer::Cut) {
        return;
    }
    let place = shared.seen.borrow().frames.len();
    shared.seen.send_modify(|seen| seen.frames.push(Vec::new()));
    let sizes = Sizes { max_message: 1 << 20, before_start: None };
    let socket = websocket(Socket::Tcp(stream), &[], Role::Server, sizes).await;
    let mut party = AtRelay {
        shared: Arc::clone(shared),
        place,
        answer,
        link: None,
        say,
        bell: bell.clone(),
        close: None,
    };
    drive(socket, &mut party, &bell, std::future::pending()).await;
}

/// The relay's end of one link: `hello` is its own, the rest the endpoint's.
struct AtRelay {
    shared: Arc<Shared>,
    place: usize,
    answer: Answer,
    link: Option<StreamsLink>,
    say: Arc<Mutex<Vec<String>>>,
    bell: Bell,
    close: Option<Close>,
}

impl AtRelay {
    fn saw(&self, frame: String) {
        let place = self.place;
        self.shared.seen.send_modify(|seen| seen.frames[place].push(frame));
    }

    fn handle_hello(&mut self, hello: Hello) {
        let known = hello.secret.expose() == SECRET;
        self.shared.seen.send_modify(|seen| seen.hellos.push(hello));
        let answer = match &self.answer {
            Answer::Welcome if !known => Answer::Reject(Code::BadCredentials, None),
            answer => answer.clone(),
        };
        match answer {
            Answer::Welcome => {
                lock(&self.say).push(v2::encode(&Control::Welcome(Welcome {
                    software: "test".into(),
                    max_streams: 1000,
                    max_data: v2::MAX_DATA as u32,
                    max_window: v2::MAX_WINDOW as u32,
                    resume_for_ms: self.shared.resume_for.as_millis() as u32,
                })));
                let link = self.shared.streams.link(None);
                // The endpoint rings a bell of its own for the link.
                let (theirs, ours) = (link.bell(), self.bell.clone());
                tokio::spawn(async move {
                    loop {
                        theirs.rung().await;
                        ours.ring();
                    }
                });
                self.link = Some(link);
            }
            Answer::Reject(code, retry_after) => {
                lock(&self.say).push(v2::encode(&Control::Reject(Reject {
                    code,
                    message: "refused by the test".into(),
                    retry_after_ms: retry_after.map(|time| time.as_millis() as u32),
                })));
                self.close = Some(Close::new(v2::CLOSE_POLICY, ""));
            }
            Answer::Close(code) => self.close = Some(Close::new(code, "closed by the test")),
            Answer::Silence | Answer::Cut | Answer::Old => {}
        }
        self.bell.ring();
    }
}

impl Party for AtRelay {
    fn handle_text(&mut self, now: Instant, text: &str) -> Result<(), Close> {
        if matches!(self.answer, Answer::Old) {
            let answer = match v1::decode::<ClientToRelay>(text).unwrap() {
                ClientToRelay::Start(_) => v1::encode(&RelayToClient::StartOk(StartOk {})),
                ClientToRelay::TcpData(_) => text.to_owned(),
            };
            self.saw("v1".to_owned());
            lock(&self.say).push(answer);
            self.bell.ring();
            return Ok(());
        }
        let message = v2::decode::<Control>(text).unwrap();
        self.saw(v2::Message::kind(&message).to_owned());
        match (message, &mut self.link) {
            (Control::Hello(hello), None) => self.handle_hello(hello),
            (_, Some(link)) => link.handle_text(now, text)?,
            // What goes with a link that is refused.
            (_, None) => {}
        }
        Ok(())
    }

    fn handle_binary(&mut self, now: Instant, message: Bytes) -> Result<(), Close> {
        self.saw(format!("{} bytes", message.len() - v2::data::HEADER_BYTES));
        self.link.as_mut().map_or(Ok(()), |link| link.handle_binary(now, message))
    }

    fn wants_read(&mut self) -> bool {
        true
    }

    fn poll_transmit(&mut self, now: Instant) -> Option<Outgoing> {
        let mut say = lock(&self.say);
        if !say.is_empty() {
            return Some(Outgoing::Text(say.remove(0)));
        }
        drop(say);
        self.link.as_mut()?.poll_transmit(now)
    }

    fn poll_close(&mut self, _now: Instant) -> Option<Close> {
        self.close.take()
    }

    fn handle_end(&mut self, ended: &Ended) {
        if let Ended::Peer { code, .. } = ended {
            self.saw(format!("close {code:?}"));
        }
        if let Some(link) = &mut self.link {
            link.handle_end(ended);
        }
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        None
    }

    fn handle_timeout(&mut self, _now: Instant) {}

    fn pace(&self) -> Pace {
        transport::streams::PACE
    }
}

/// The agent: connects every stream as it asks.
async fn serve_streams(shared: Arc<Shared>) {
    let mut tasks = JoinSet::new();
    loop {
        loop {
            let event = shared.streams.core().poll_event();
            let Some(event) = event else { break };
            let Event::Dial { key, ask, reader, writer, .. } = event else { continue };
            let seat = Seat::new(shared.streams.clone(), key, reader, writer);
            let refused = *lock(&shared.refuse_streams);
            shared.seen.send_modify(|seen| seen.streams += 1);
            let shared = Arc::clone(&shared);
            tasks.spawn(async move {
                match refused {
                    Some(code) => reset(&seat, key, code),
                    None => serve_stream(&shared, &seat, key, (&ask.host, ask.port)).await,
                }
                drop(seat);
                shared.seen.send_modify(|seen| seen.streams -= 1);
            });
        }
        tokio::select! {
            () = shared.streams.changed() => {}
            Some(ended) = tasks.join_next() => ended.unwrap(),
        }
    }
}

fn reset(seat: &Seat, key: StreamKey, code: Code) {
    seat.streams().core().reset(transport::now(), key, code, "said by the test");
}

async fn serve_stream(shared: &Shared, seat: &Seat, key: StreamKey, target: (&str, u16)) {
    shared.seen.send_modify(|seen| seen.dials += 1);
    let Ok(mut stream) = TcpStream::connect(target).await else {
        return reset(seat, key, Code::ConnectRefused);
    };
    stream.set_nodelay(true).unwrap();
    seat.streams().core().dialled(transport::now(), key);
    let is_reset = {
        let (reader, writer) = stream.split();
        tokio::join!(
            async {
                let sent = seat.send_from(reader).await;
                if let Carried::Failed(_) = sent {
                    reset(seat, key, Code::PeerReset);
                }
            },
            async {
                let received = seat.receive_into(writer).await;
                if let Carried::Failed(_) = received {
                    reset(seat, key, Code::PeerReset);
                }
            },
        );
        seat.ended().await != mux::v2::StreamEnd::Done
    };
    if is_reset {
        stream.set_zero_linger().unwrap();
    }
}
