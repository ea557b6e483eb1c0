//! The client's seat on a link, against a model.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use codec::Secret;
use codec::v1::{
    self, ClientData, ClientStart, ClientToRelay, ErrorMessage, RelayToClient, StartOk, base64,
    data,
};
use mux::v1::client::{End, Settings};
use mux::v1::{ClientLink, Read, Room};

use crate::operations::{self, Counter, Spelling, Waiter, bytes, length, time};

/// Reads the first byte as [`check`]'s configuration and the others as its operations.
pub fn run(data: &[u8]) {
    let Some((configuration, operations)) = data.split_first() else { return };
    check(*configuration, &operations::read(operations));
}

/// What happens to a client's link.
#[derive(Clone, Copy, Debug)]
pub enum Operation {
    /// The relay says that the stream is open.
    StartOk,
    /// The relay refuses it, or ends it.
    Error,
    /// The relay sends so many bytes.
    Data(usize, Spelling),
    /// The relay sends what is no message.
    Nonsense(u8),
    /// The relay closes the link: cleanly, or with one of other codes.
    Close(u8),
    /// The link is lost.
    Lost,
    /// The relay breaks a rule of WebSocket's.
    Violation,
    /// The local input has so many bytes.
    Write(usize),
    /// The local input is over.
    Finish,
    /// The user wants it to end.
    End,
    /// The local output is ready for more.
    Read,
    /// The link takes so many messages.
    Transmit(u8),
    /// The link takes a little.
    Progress,
    /// Time passes.
    Pass(Duration),
    /// Time passes until something is due.
    PassUntilDue,
}

impl From<[u8; operations::SIZE]> for Operation {
    fn from([kind, which, size, more]: [u8; operations::SIZE]) -> Self {
        match kind % 32 {
            0..3 => Self::StartOk,
            3 if which < 64 => Self::Error,
            3..9 => Self::Data(length(size), more.into()),
            9 if which < 16 => Self::Nonsense(size),
            9 | 10 if which < 32 => Self::Close(size),
            11 if which < 16 => Self::Lost,
            12 if which < 16 => Self::Violation,
            9..15 => Self::Write(length(size).max(1)),
            15 | 16 => Self::Finish,
            17 if which < 16 => Self::End,
            17..22 => Self::Read,
            22..26 => Self::Transmit(which % 8),
            26 => Self::Progress,
            27..30 => Self::Pass(time(size)),
            _ => Self::PassUntilDue,
        }
    }
}

/// Does all this to a link, and then ends it.
///
/// # Panics
/// Where the link does something else than the model.
pub fn check(configuration: u8, operations: &[Operation]) {
    let eof_timeout = (configuration & 1 == 1).then_some(Duration::from_secs(5));
    let mut client = Client::new(eof_timeout);
    for operation in operations {
        client.apply(*operation);
        client.check();
    }
    client.end();
}

/// A link and what is expected of it.
struct Client {
    link: ClientLink<Counter>,
    settings: Settings,
    now: Instant,
    reader: Waiter,
    writer: Waiter,
    state: State,
    start_sent: bool,
    /// Bytes that came from the relay, and how many of them were read.
    received: usize,
    read: usize,
    /// Bytes of the local input, how many of them were sent, and the sizes of the messages between.
    written: usize,
    sent: usize,
    queue: VecDeque<usize>,
    quiet_since: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Asking(Instant),
    Open,
    Ended(&'static str),
}

impl Client {
    fn new(eof_timeout: Option<Duration>) -> Self {
        let settings = Settings { queue_bytes: QUEUE, eof_timeout, ..Settings::default() };
        let (now, reader, writer) = (Instant::now(), Counter::default(), Counter::default());
        let link = ClientLink::new(now, settings, start(), reader.clone(), writer.clone());
        Self {
            link,
            settings,
            now,
            reader: Waiter::new(reader),
            writer: Waiter::new(writer),
            state: State::Asking(now + settings.answer_timeout),
            start_sent: false,
            received: 0,
            read: 0,
            written: 0,
            sent: 0,
            queue: VecDeque::new(),
            quiet_since: None,
        }
    }

    fn apply(&mut self, operation: Operation) {
        match operation {
            Operation::StartOk
            | Operation::Error
            | Operation::Data(..)
            | Operation::Nonsense(_) => {
                // The link is not read.
                if self.link.wants_read() {
                    self.hear(operation);
                }
            }
            Operation::Close(n) => {
                let code = [Some(v1::CLOSE_NORMAL), None, Some(v1::CLOSE_AGENT_LOST), Some(1)];
                let code = code[usize::from(n) % code.len()];
                self.link.handle_close(code, "reason".into());
                let clean = code == Some(v1::CLOSE_NORMAL) && self.state == State::Open;
                self.end_with(if clean { "finished" } else { "closed" });
            }
            Operation::Lost => {
                self.link.handle_loss("cause".into());
                if self.state == State::Ended("quiet") {
                    // What was sent may not have arrived.
                    self.state = State::Open;
                }
                self.end_with("lost");
            }
            Operation::Violation => {
                self.link.handle_violation("rule".into());
                self.end_with("violation");
            }
            Operation::Write(size) => self.write(size),
            Operation::Finish => {
                self.link.finish(self.now);
                self.quiet_since = Some(self.now);
            }
            Operation::End => {
                self.link.close();
                self.end_with("local");
            }
            Operation::Read => self.read(),
            Operation::Transmit(count) => {
                for _ in 0..=count {
                    self.transmit();
                }
            }
            Operation::Progress => {
                self.link.progress(self.now);
                self.stir();
            }
            Operation::Pass(time) => self.pass(time),
            Operation::PassUntilDue => {
                if let Some(due) = self.link.poll_timeout() {
                    self.pass(due.saturating_duration_since(self.now));
                }
            }
        }
    }

    fn hear(&mut self, operation: Operation) {
        self.stir();
        let message = match operation {
            Operation::StartOk => RelayToClient::StartOk(StartOk {}),
            Operation::Error => RelayToClient::Error(ErrorMessage { message: "no".into() }),
            Operation::Data(size, spelling) => {
                let payload = bytes(0, self.received, self.received + size);
                RelayToClient::TcpData(ClientData { data_base64: spelling.of(&payload) })
            }
            Operation::Nonsense(n) => {
                let text = NONSENSE[usize::from(n) % NONSENSE.len()];
                self.link.handle_text(self.now, text);
                return self.end_with("invalid");
            }
            _ => unreachable!("all others are no messages of the relay's"),
        };
        self.link.handle_text(self.now, &v1::encode(&message));
        match (operation, self.state) {
            (Operation::StartOk, State::Asking(_)) => self.state = State::Open,
            (Operation::Error, _) => self.end_with("refused"),
            // Spec v1, C-11 and S-16.
            (Operation::Data(..), State::Asking(_))
            | (Operation::Data(_, Spelling::Unreadable), State::Open) => self.end_with("violation"),
            (Operation::Data(size, _), State::Open) => self.received += size,
            _ => {}
        }
    }

    fn write(&mut self, size: usize) {
        let room = self.link.room();
        self.writer.told(room == Room::Full);
        assert_eq!(room, self.room());
        let payload = bytes(1, self.written, self.written + size);
        if room == Room::Ready {
            self.link.write(data::encode_client(&payload));
            self.written += size;
            self.queue.push_back(size);
        } else if room == Room::Over {
            self.link.write("never to be sent".into());
        }
    }

    fn room(&self) -> Room {
        let around = v1::CLIENT_DATA_PREFIX.len() + v1::CLIENT_DATA_SUFFIX.len();
        let text = |size: &usize| around + 4 * size.div_ceil(3);
        match self.state {
            State::Open if self.queue.iter().map(text).sum::<usize>() < QUEUE => Room::Ready,
            State::Open | State::Asking(_) => Room::Full,
            State::Ended(_) => Room::Over,
        }
    }

    fn read(&mut self) {
        let was_over = !self.link.wants_read();
        let mut got = Vec::new();
        let read = self.link.read(&mut got);
        self.reader.told(read == Read::Empty);
        if self.read == self.received {
            let ended = matches!(self.state, State::Ended(_));
            assert_eq!(read, if ended { Read::Finished } else { Read::Empty });
            return;
        }
        let end = self.read + got.len();
        assert!(!got.is_empty() && end <= self.received);
        assert_eq!(got, bytes(0, self.read, end));
        self.read = end;
        assert_eq!(read, Read::Data { resumed: was_over && self.link.wants_read() });
    }

    /// Takes what is to be sent. Whether there was anything.
    fn transmit(&mut self) -> bool {
        let Some(text) = self.link.poll_transmit(self.now) else {
            assert!(self.start_sent && self.queue.is_empty(), "something waits to be sent");
            return false;
        };
        if !std::mem::replace(&mut self.start_sent, true) {
            assert_eq!(text, v1::encode(&ClientToRelay::Start(start())));
            return true;
        }
        self.stir();
        let size = self.queue.pop_front().expect("something was written");
        let base64 = data::scan_client(&text).expect("it is a message with data");
        let mut payload = Vec::new();
        base64::decode_append(base64, &mut payload).expect("it is base64");
        assert_eq!(payload, bytes(1, self.sent, self.sent + size));
        self.sent += size;
        true
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.link.handle_timeout(self.now);
        match self.state {
            State::Asking(due) if self.now >= due => self.end_with("timed out"),
            State::Open if self.eof_due().is_some_and(|due| self.now >= due) => {
                self.end_with("quiet");
            }
            _ => {}
        }
        assert!(self.link.poll_timeout().is_none_or(|due| due > self.now), "the clock stands");
    }

    fn eof_due(&self) -> Option<Instant> {
        let due = self.quiet_since? + self.settings.eof_timeout?;
        self.queue.is_empty().then_some(due)
    }

    /// Something came or went.
    fn stir(&mut self) {
        self.quiet_since = self.quiet_since.map(|_| self.now);
    }

    /// The first end counts.
    fn end_with(&mut self, how: &'static str) {
        if !matches!(self.state, State::Ended(_)) {
            self.state = State::Ended(how);
        }
    }

    /// What must hold after each operation.
    fn check(&self) {
        let ended = matches!(self.state, State::Ended(_));
        assert_eq!(self.link.is_ended(), ended);
        assert_eq!(self.link.wants_read(), self.received - self.read <= QUEUE);
        let code = match self.state {
            State::Ended("invalid") => Some(v1::CLOSE_INVALID),
            State::Ended(_) => Some(v1::CLOSE_NORMAL),
            _ => None,
        };
        assert_eq!(self.link.close_code(), code);
        let due = match self.state {
            State::Asking(due) => Some(due),
            State::Open => self.eof_due(),
            State::Ended(_) => None,
        };
        assert_eq!(self.link.poll_timeout(), due);
        self.reader.check(self.received > self.read || ended, "what is to be read");
        self.writer.check(self.room() != Room::Full, "room");
    }

    /// Everything that came is read, what was written is sent, and the end is told once.
    fn end(&mut self) {
        self.apply(Operation::End);
        while self.transmit() {}
        while self.read < self.received {
            self.read();
        }
        self.check();
        let end = match self.link.take_end() {
            Some(End::Finished) => "finished",
            Some(End::Local) => "local",
            Some(End::Quiet) => "quiet",
            Some(End::Refused(_)) => "refused",
            Some(End::TimedOut(_)) => "timed out",
            Some(End::Invalid(_)) => "invalid",
            Some(End::Violation(_)) => "violation",
            Some(End::Closed { .. }) => "closed",
            Some(End::Lost { .. }) => "lost",
            other => panic!("an end that the model does not know: {other:?}"),
        };
        assert_eq!(State::Ended(end), self.state);
        assert!(self.link.take_end().is_none());
    }
}

fn start() -> ClientStart {
    ClientStart {
        connection_target: "agent".into(),
        target_ip: "host".into(),
        target_port: 22,
        protocol: "tcp".into(),
        secret: Secret::from("s".to_owned()),
    }
}

/// Bytes that fit each queue.
const QUEUE: usize = 200;

/// What is no message to a client.
const NONSENSE: [&str; 5] = [
    "",
    "[]",
    r#"{"inner":{"kind":"keep_alive"}}"#,
    r#"{"inner":{"kind":"error"}}"#,
    r#"{"inner":{"kind":"tcp_data","data_base64":7}}"#,
];
