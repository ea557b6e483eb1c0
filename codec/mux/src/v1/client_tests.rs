use std::cell::Cell;
use std::rc::Rc;

use super::*;
use codec::Secret;
use codec::v1::{ClientData, ErrorMessage, StartOk, base64};

/// Counts its wake-ups.
#[derive(Clone, Debug, Default)]
struct Count(Rc<Cell<u32>>);

impl Wake for Count {
    fn wake(&self) {
        self.0.set(self.0.get() + 1);
    }
}

const SECOND: Duration = Duration::from_secs(1);
const START: &str = r#"{"inner":{"kind":"start","connection_target":"agent","target_ip":"host","target_port":22,"protocol":"tcp","secret":"s"}}"#;

/// A client's link under test and its clock.
struct Client {
    link: ClientLink<Count>,
    now: Instant,
    reader: Count,
    writer: Count,
}

impl Client {
    fn new(eof_timeout: Option<Duration>) -> Self {
        let (now, reader, writer) = (Instant::now(), Count::default(), Count::default());
        let settings = Settings { queue_bytes: 100, eof_timeout, ..Settings::default() };
        let start = ClientStart {
            connection_target: "agent".into(),
            target_ip: "host".into(),
            target_port: 22,
            protocol: "tcp".into(),
            secret: Secret::from("s".to_owned()),
        };
        let link = ClientLink::new(now, settings, start, reader.clone(), writer.clone());
        Self { link, now, reader, writer }
    }

    /// A client whose `start` was sent and accepted.
    fn open() -> Self {
        let mut client = Self::new(None);
        assert_eq!(client.link.poll_transmit(client.now).as_deref(), Some(START));
        client.hear(RelayToClient::StartOk(StartOk {}));
        client
    }

    fn hear(&mut self, message: RelayToClient) {
        self.link.handle_text(self.now, &v1::encode(&message));
    }

    fn hear_data(&mut self, bytes: &[u8]) {
        self.hear(RelayToClient::TcpData(ClientData { data_base64: base64::encode(bytes) }));
    }

    fn read(&mut self) -> (Vec<u8>, Read) {
        let (mut all, mut bytes) = (Vec::new(), Vec::new());
        loop {
            match self.link.read(&mut bytes) {
                Read::Data { .. } => all.append(&mut bytes),
                end => return (all, end),
            }
        }
    }

    fn end(&mut self) -> String {
        assert!(self.link.is_ended());
        let end = self.link.take_end().expect("the end is told");
        assert!(self.link.take_end().is_none(), "the end is told once");
        format!("{end:?}")
    }
}

#[test]
fn nothing_is_sent_but_the_start_until_the_relay_accepts() {
    let mut client = Client::new(None);
    assert_eq!(client.link.room(), Room::Full);
    assert_eq!(client.link.poll_transmit(client.now).as_deref(), Some(START));
    assert_eq!(client.link.poll_transmit(client.now), None);
    client.hear(RelayToClient::StartOk(StartOk {}));
    assert!(client.writer.0.get() > 0);
    assert_eq!(client.link.room(), Room::Ready);
    client.link.write("message".into());
    assert_eq!(client.link.poll_transmit(client.now).as_deref(), Some("message"));
}

#[test]
fn a_normal_close_of_an_open_stream_is_a_clean_end_after_the_last_byte() {
    let mut client = Client::open();
    client.hear_data(b"last ");
    client.hear_data(b"words");
    client.link.handle_close(Some(v1::CLOSE_NORMAL), String::new());
    assert!(client.reader.0.get() > 0);
    assert_eq!(client.read(), (b"last words".to_vec(), Read::Finished));
    assert_eq!(client.end(), "Finished");
    assert_eq!(client.link.room(), Room::Over);
}

#[test]
fn every_other_end_is_told_as_it_was() {
    let check = |open: bool, act: fn(&mut Client), expected: &str| {
        let mut client = if open { Client::open() } else { Client::new(None) };
        act(&mut client);
        let end = client.end();
        assert!(end.starts_with(expected), "{end} is not {expected}");
    };
    let refuse: fn(&mut Client) =
        |client| client.hear(RelayToClient::Error(ErrorMessage { message: "no".into() }));
    check(false, refuse, r#"Refused("no")"#);
    check(true, refuse, r#"Refused("no")"#);
    check(false, |it| it.link.handle_close(Some(1000), "".into()), "Closed { code: Some(1000)");
    check(true, |it| it.link.handle_close(Some(1012), "".into()), "Closed { code: Some(1012)");
    check(true, |it| it.link.handle_close(None, "".into()), "Closed { code: None");
    check(false, |it| it.link.handle_loss("cut".into()), "Lost { cause: \"cut\", opened: false");
    check(true, |it| it.link.handle_loss("cut".into()), "Lost { cause: \"cut\", opened: true");
    check(true, |it| it.link.handle_text(it.now, "{}"), "Invalid(");
    check(
        true,
        |it| it.hear(RelayToClient::TcpData(ClientData { data_base64: "A".into() })),
        "Violation(",
    );
    check(true, |it| it.link.close(), "Local");
}

#[test]
fn the_first_end_counts_and_an_error_is_final() {
    let mut client = Client::new(None);
    client.hear(RelayToClient::Error(ErrorMessage { message: "no".into() }));
    client.hear(RelayToClient::StartOk(StartOk {}));
    client.hear_data(b"let in all the same");
    client.link.handle_close(Some(1000), String::new());
    assert_eq!(client.read(), (vec![], Read::Finished));
    assert_eq!(client.end(), r#"Refused("no")"#);
}

/// Spec v1, C-11.
#[test]
fn data_instead_of_an_answer_breaks_the_protocol() {
    let mut client = Client::new(None);
    client.hear_data(b"hello");
    assert_eq!(client.end(), r#"Violation("data before start_ok")"#);
}

#[test]
fn a_second_answer_changes_nothing() {
    let mut client = Client::open();
    client.hear(RelayToClient::StartOk(StartOk {}));
    client.hear_data(b"hello");
    assert_eq!(client.read(), (b"hello".to_vec(), Read::Empty));
}

/// Spec v1, C-10.
#[test]
fn a_relay_that_does_not_answer_is_given_up() {
    let mut client = Client::new(None);
    let due = client.now + v1::CLIENT_ANSWER_TIMEOUT;
    assert_eq!(client.link.poll_timeout(), Some(due));
    client.link.handle_timeout(due - SECOND);
    assert!(!client.link.is_ended());
    client.link.handle_timeout(due);
    assert_eq!(client.end(), "TimedOut(150s)");
    assert_eq!(client.link.poll_timeout(), None);
}

/// Spec v1, C-14.
#[test]
fn the_end_of_the_input_ends_nothing_unless_asked_to() {
    let mut client = Client::open();
    client.link.finish(client.now);
    assert_eq!(client.link.poll_timeout(), None);
    client.hear_data(b"reply");
    assert_eq!(client.read(), (b"reply".to_vec(), Read::Empty));

    let mut client = Client::new(Some(3 * SECOND));
    client.hear(RelayToClient::StartOk(StartOk {}));
    assert_eq!(client.link.poll_timeout(), None);
    client.link.finish(client.now);
    client.now += 2 * SECOND;
    client.hear_data(b"reply");
    let due = client.now + 3 * SECOND;
    assert_eq!(client.link.poll_timeout(), Some(due));
    client.link.handle_timeout(due);
    assert_eq!(client.read(), (b"reply".to_vec(), Read::Finished));
    assert_eq!(client.end(), "Quiet");
}

#[test]
fn an_output_that_takes_nothing_pauses_the_link() {
    let mut client = Client::open();
    client.hear_data(&[1; 150]);
    assert!(!client.link.wants_read());
    let mut bytes = Vec::new();
    assert_eq!(client.link.read(&mut bytes), Read::Data { resumed: true });
    assert!(client.link.wants_read());
    assert_eq!([bytes, client.read().0].concat(), [1; 150]);
}

#[test]
fn a_full_queue_to_the_relay_stops_the_writer_and_wakes_it() {
    let mut client = Client::open();
    client.link.write("x".repeat(100));
    assert_eq!(client.link.room(), Room::Full);
    let before = client.writer.0.get();
    client.link.poll_transmit(client.now);
    assert_eq!(client.link.room(), Room::Ready);
    assert!(client.writer.0.get() > before);
}

#[test]
fn what_the_relay_has_not_taken_is_no_silence() {
    let mut client = Client::new(Some(SECOND));
    client.link.poll_transmit(client.now);
    client.hear(RelayToClient::StartOk(StartOk {}));
    client.link.write("unsent".into());
    client.link.finish(client.now);
    assert_eq!(client.link.poll_timeout(), None, "there is something to send");
    client.now += 100 * SECOND;
    client.link.handle_timeout(client.now);
    assert_eq!(client.link.poll_transmit(client.now).as_deref(), Some("unsent"));
    client.now += SECOND / 2;
    client.link.progress(client.now);
    client.now += SECOND / 2;
    client.link.handle_timeout(client.now);
    assert!(!client.link.is_ended());
    client.now += SECOND / 2;
    client.link.handle_timeout(client.now);
    assert!(client.link.is_quiet());
    // What it sent may not have arrived.
    client.link.handle_loss("cut".into());
    assert!(matches!(client.link.take_end(), Some(End::Lost { opened: true, .. })));
}
