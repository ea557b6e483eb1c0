use std::cell::Cell;
use std::rc::Rc;

use super::*;
use codec::v1::{ConnectionClose, StreamData, base64};

/// Counts its wake-ups.
#[derive(Clone, Debug, Default)]
struct Count(Rc<Cell<u32>>);

impl Wake for Count {
    fn wake(&self) {
        self.0.set(self.0.get() + 1);
    }
}

const SECOND: Duration = Duration::from_secs(1);

/// An agent's link under test, its clock, and shorthands for what its relay says.
struct Agent {
    link: AgentLink<Count>,
    now: Instant,
}

impl Agent {
    fn new(linger: Duration) -> Self {
        let settings = Settings { linger, queue_bytes: 100, max_streams: 3, ..Settings::default() };
        let now = Instant::now();
        Self { link: AgentLink::new(now, settings), now }
    }

    fn hear(&mut self, message: RelayToAgent) {
        self.link.handle_text(self.now, &v1::encode(&message)).unwrap();
    }

    fn hear_data(&mut self, id: &str, bytes: &[u8]) {
        let (connection_id, data_base64) = (id.to_owned(), base64::encode(bytes));
        self.hear(RelayToAgent::TcpData(StreamData { connection_id, data_base64 }));
    }

    fn hear_close(&mut self, id: &str) {
        let message = v1::CONNECTION_CLOSE_MESSAGE.to_owned();
        let connection_id = id.to_owned();
        self.hear(RelayToAgent::ConnectionClose(ConnectionClose { message, connection_id }));
    }

    /// The relay asks for a stream; gives its key and wakers.
    fn dial(&mut self, id: &str) -> (StreamKey, Count, Count) {
        self.hear(RelayToAgent::InitiateConnection(InitiateConnection {
            target_ip: "host".into(),
            target_port: 22,
            protocol: "tcp".into(),
            connection_id: id.into(),
        }));
        let Some(Event::Dial { key, id: named, host, port, protocol, reader, writer }) =
            self.link.poll_event()
        else {
            panic!("no dial");
        };
        assert_eq!((&*named, &*host, port, &*protocol), (id, "host", 22, "tcp"));
        (key, reader, writer)
    }

    /// The relay asks, the target answers.
    fn open(&mut self, id: &str) -> StreamKey {
        let (key, _, _) = self.dial(id);
        self.link.opened(key);
        assert_eq!(self.sent(), [ok(id)]);
        key
    }

    fn write(&mut self, key: StreamKey, id: &str, bytes: &[u8]) {
        self.link.write(key, data::encode_agent(id, bytes));
    }

    fn sent(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.link.poll_transmit(self.now)).collect()
    }

    /// Everything there is to read, and how the reading ended.
    fn read(&mut self, key: StreamKey) -> (Vec<u8>, Read) {
        let (mut all, mut bytes) = (Vec::new(), Vec::new());
        loop {
            match self.link.read(self.now, key, &mut bytes) {
                Read::Data { .. } => all.append(&mut bytes),
                end => return (all, end),
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.link.handle_timeout(self.now);
    }
}

fn ok(id: &str) -> String {
    format!(r#"{{"inner":{{"kind":"initiate_connection_ok","connection_id":"{id}"}}}}"#)
}

fn reset(message: &str, id: &str) -> String {
    format!(
        r#"{{"inner":{{"kind":"connection_reset","message":"{message}","connection_id":"{id}"}}}}"#
    )
}

fn clean_end(id: &str) -> String {
    reset(v1::TARGET_CLOSED_MESSAGE, id)
}

/// Spec v1, S-7 and X-9.
#[test]
fn bytes_flow_both_ways_and_the_relays_close_lets_the_reader_finish() {
    let mut agent = Agent::new(Duration::ZERO);
    let key = agent.open("a");
    agent.hear_data("a", b"one");
    agent.hear_data("a", b"two");
    agent.write(key, "a", b"three");
    assert_eq!(agent.sent(), [data::encode_agent("a", b"three")]);
    agent.hear_close("a");
    assert_eq!(agent.link.room(key), Room::Over);
    assert_eq!(agent.read(key), (b"onetwo".to_vec(), Read::Finished));
    agent.link.finish(key, End::Finished);
    assert_eq!(agent.sent(), Vec::<String>::new());
    assert_eq!(agent.link.stream_count(), 0);
}

#[test]
fn a_refused_target_is_reported_and_forgotten() {
    let mut agent = Agent::new(Duration::ZERO);
    let (key, _, _) = agent.dial("a");
    agent.link.refused(key, "no".into());
    assert_eq!(
        agent.sent(),
        [r#"{"inner":{"kind":"initiate_connection_error","message":"no","connection_id":"a"}}"#]
    );
    assert!(agent.link.is_gone(key));
}

#[test]
fn a_close_while_dialling_silences_the_answer() {
    let mut agent = Agent::new(Duration::ZERO);
    let (key, _, writer) = agent.dial("a");
    agent.hear_close("a");
    assert!(writer.0.get() > 0);
    assert_eq!(agent.link.room(key), Room::Over);
    agent.link.opened(key);
    agent.link.refused(key, "late".into());
    assert_eq!(agent.sent(), Vec::<String>::new());
    assert_eq!(agent.link.stream_count(), 0);
}

#[test]
fn the_clean_end_comes_behind_the_last_byte() {
    let mut agent = Agent::new(Duration::ZERO);
    let key = agent.open("a");
    agent.write(key, "a", b"1");
    agent.write(key, "a", b"2");
    agent.link.finish(key, End::Finished);
    let expected = [data::encode_agent("a", b"1"), data::encode_agent("a", b"2"), clean_end("a")];
    assert_eq!(agent.sent(), expected);
    assert!(agent.link.is_gone(key));
}

/// Spec v1, X-6.
#[test]
fn towards_an_unknown_relay_the_clean_end_waits_for_a_pong_and_lingers() {
    let mut agent = Agent::new(SECOND);
    let (a, b, c) = (agent.open("a"), agent.open("b"), agent.open("c"));
    agent.write(a, "a", b"1");
    agent.link.finish(a, End::Finished);
    agent.link.finish(b, End::Reset("broken".into()));
    assert_eq!(agent.link.poll_ping(), None, "not before the last data");
    assert_eq!(agent.sent(), [reset("broken", "b"), data::encode_agent("a", b"1")]);
    let ping = agent.link.poll_ping().expect("a ping behind the last data");
    assert_eq!(agent.link.poll_ping(), None);
    agent.link.finish(c, End::Finished);
    let next = agent.link.poll_ping().expect("a ping for the later stream");
    agent.pass(10 * SECOND);
    assert_eq!(agent.sent(), Vec::<String>::new(), "no end without the pong");
    agent.link.handle_pong(agent.now, ping);
    assert_eq!(agent.link.poll_timeout(), Some(agent.now + SECOND));
    agent.pass(SECOND / 2);
    assert_eq!(agent.sent(), Vec::<String>::new());
    agent.pass(SECOND / 2);
    assert_eq!(agent.sent(), [clean_end("a")]);
    assert_eq!(agent.link.poll_timeout(), None);
    agent.link.handle_pong(agent.now, next);
    agent.pass(SECOND);
    assert_eq!(agent.sent(), [clean_end("c")]);
}

#[test]
fn the_end_of_much_data_lingers_longer() {
    let mut agent = Agent::new(SECOND);
    let key = agent.open("a");
    for _ in 0..50 {
        agent.write(key, "a", &[0; 75_000]);
        agent.sent();
    }
    agent.link.finish(key, End::Finished);
    let ping = agent.link.poll_ping().unwrap();
    agent.link.handle_pong(agent.now, ping);
    let due = agent.link.poll_timeout().unwrap();
    assert!(due > agent.now + 2 * SECOND, "{:?}", due - agent.now);
}

#[test]
fn a_close_during_the_linger_ends_the_stream_without_another_word() {
    let mut agent = Agent::new(SECOND);
    let key = agent.open("a");
    agent.link.finish(key, End::Finished);
    let ping = agent.link.poll_ping().unwrap();
    agent.hear_close("a");
    agent.link.handle_pong(agent.now, ping);
    agent.pass(2 * SECOND);
    assert_eq!(agent.sent(), Vec::<String>::new());
    assert_eq!(agent.link.stream_count(), 0);
}

#[test]
fn streams_take_turns() {
    let mut agent = Agent::new(Duration::ZERO);
    let (a, b) = (agent.open("a"), agent.open("b"));
    for bytes in [b"1", b"2"] {
        agent.write(a, "a", bytes);
    }
    agent.write(b, "b", b"3");
    let expected = [("a", b"1"), ("b", b"3"), ("a", b"2")];
    assert_eq!(agent.sent(), expected.map(|(id, bytes)| data::encode_agent(id, bytes)));
}

#[test]
fn a_full_queue_to_the_relay_stops_the_writer_and_wakes_it() {
    let mut agent = Agent::new(Duration::ZERO);
    let (key, _, writer) = agent.dial("a");
    agent.link.opened(key);
    assert_eq!(agent.link.room(key), Room::Ready);
    agent.write(key, "a", &[0; 80]);
    assert_eq!(agent.link.room(key), Room::Full);
    let before = writer.0.get();
    agent.sent();
    assert_eq!(agent.link.room(key), Room::Ready);
    assert!(writer.0.get() > before);
}

#[test]
fn a_full_target_pauses_the_link_until_it_takes_something() {
    let mut agent = Agent::new(Duration::ZERO);
    let key = agent.open("a");
    agent.hear_data("a", &[1; 90]);
    assert!(agent.link.wants_read());
    agent.hear_data("a", &[2; 90]);
    assert!(!agent.link.wants_read());
    let mut bytes = Vec::new();
    let read = agent.link.read(agent.now, key, &mut bytes);
    assert_eq!(read, Read::Data { resumed: true });
    assert!(bytes.len() <= 100 && agent.link.wants_read());
    let (rest, _) = agent.read(key);
    assert_eq!([bytes, rest].concat(), [[1; 90], [2; 90]].concat());
}

/// Spec v1, S-17 and L-9.
#[test]
fn a_target_that_takes_nothing_is_reset_alone() {
    let mut agent = Agent::new(Duration::ZERO);
    let (a, b) = (agent.open("a"), agent.open("b"));
    agent.hear_data("a", &[1; 150]);
    assert_eq!(agent.link.poll_timeout(), Some(agent.now + v1::STALL_TIMEOUT));
    agent.pass(v1::STALL_TIMEOUT - SECOND);
    agent.link.progress(agent.now, a);
    agent.pass(SECOND);
    assert!(!agent.link.wants_read(), "a slow target only slows the link");
    agent.pass(v1::STALL_TIMEOUT);
    assert_eq!(agent.sent(), [reset("the target took no data for 11 s", "a")]);
    assert!(agent.link.wants_read() && agent.link.is_gone(a));
    assert_eq!(agent.read(a), (vec![], Read::Over));
    agent.hear_data("a", b"late");
    agent.hear_data("b", b"fine");
    assert_eq!(agent.read(b).0, b"fine");
    assert_eq!(agent.sent(), Vec::<String>::new());
}

/// Spec v1, S-16.
#[test]
fn targets_that_stand_still_together_are_given_up_together() {
    let mut agent = Agent::new(Duration::ZERO);
    let keys = ["a", "b", "c"].map(|id| agent.open(id));
    for id in ["a", "b", "c"] {
        agent.hear_data(id, &[1; 90]);
    }
    // What they took first never leaves their readers.
    for key in keys {
        assert_eq!(agent.read(key).0.len(), 90);
        agent.hear_data(["a", "b", "c"][keys.iter().position(|it| *it == key).unwrap()], &[2; 90]);
    }
    agent.hear_data("a", &[3; 90]);
    assert!(!agent.link.wants_read());
    agent.pass(v1::STALL_TIMEOUT);
    assert!(agent.link.wants_read() && agent.link.is_gone(keys[0]));
    for (id, key) in [("b", keys[1]), ("c", keys[2])] {
        agent.hear_data(id, &[3; 90]);
        assert_eq!(agent.link.poll_timeout(), Some(agent.now), "{id} has had its time");
        agent.pass(Duration::ZERO);
        assert!(agent.link.wants_read() && agent.link.is_gone(key));
    }
}

#[test]
fn a_stream_that_waited_long_for_data_has_its_whole_time() {
    let mut agent = Agent::new(Duration::ZERO);
    let key = agent.open("a");
    assert_eq!(agent.read(key).1, Read::Empty);
    agent.pass(100 * SECOND);
    agent.hear_data("a", &[1; 150]);
    assert_eq!(agent.link.poll_timeout(), Some(agent.now + v1::STALL_TIMEOUT));
}

#[test]
fn data_that_is_no_base64_ends_its_stream_and_no_other() {
    let mut agent = Agent::new(Duration::ZERO);
    let (a, b) = (agent.open("a"), agent.open("b"));
    agent.hear_data("a", b"fine");
    let (connection_id, data_base64) = ("a".to_owned(), "A".to_owned());
    agent.hear(RelayToAgent::TcpData(StreamData { connection_id, data_base64 }));
    assert_eq!(agent.read(a).1, Read::Over);
    assert_eq!(agent.link.room(b), Room::Ready);
    assert_eq!(agent.sent(), [reset("the relay sent data that is no base64", "a")]);
}

/// Spec v1, M-11.
#[test]
fn what_is_no_message_changes_nothing() {
    let mut agent = Agent::new(Duration::ZERO);
    let key = agent.open("a");
    for text in ["", "{}", r#"{"inner":{"kind":"start_ok"}}"#, "\u{0}"] {
        agent.link.handle_text(agent.now, text).unwrap_err();
    }
    agent.hear_data("a", b"still here");
    assert_eq!(agent.read(key).0, b"still here");
    agent.hear_data("unknown", b"x");
    agent.hear_close("unknown");
    assert_eq!(agent.sent(), Vec::<String>::new());
}

/// Spec v1, S-14.
#[test]
fn a_repeated_id_is_a_new_stream_and_the_end_of_the_old_one() {
    let mut agent = Agent::new(Duration::ZERO);
    let old = agent.open("a");
    let new = agent.open("a");
    assert!(agent.link.is_gone(old));
    agent.link.finish(old, End::Finished);
    agent.hear_data("a", b"new");
    assert_eq!(agent.read(new).0, b"new");
    assert_eq!(agent.sent(), Vec::<String>::new());
}

#[test]
fn too_many_streams_are_refused() {
    let mut agent = Agent::new(Duration::ZERO);
    for id in ["a", "b", "c"] {
        agent.open(id);
    }
    agent.hear(RelayToAgent::InitiateConnection(InitiateConnection {
        target_ip: "host".into(),
        target_port: 22,
        protocol: "tcp".into(),
        connection_id: "d".into(),
    }));
    assert!(agent.link.poll_event().is_none());
    assert!(agent.sent()[0].contains("too many open streams"));
    // One that takes the place of another is not too many (spec v1, S-14).
    agent.open("b");
}

#[test]
fn a_relay_that_answers_no_pings_leaves_nothing_behind() {
    let mut agent = Agent::new(SECOND);
    for _ in 0..10 {
        let key = agent.open("a");
        agent.link.finish(key, End::Finished);
        assert!(agent.link.poll_ping().is_some());
        agent.hear_close("a");
    }
    assert_eq!((agent.link.stream_count(), agent.link.unconfirmed.len()), (0, 0));
}

/// Spec v1, K-8 and R-8.
#[test]
fn keep_alives_begin_with_the_relays_first() {
    let mut agent = Agent::new(Duration::ZERO);
    agent.pass(100 * SECOND);
    assert_eq!(agent.sent(), Vec::<String>::new());
    agent.hear(RelayToAgent::KeepAlive(KeepAlive {}));
    agent.hear(RelayToAgent::KeepAlive(KeepAlive {}));
    agent.pass(9 * SECOND);
    assert_eq!(agent.sent(), Vec::<String>::new());
    for _ in 0..3 {
        agent.pass(SECOND);
        assert_eq!(agent.sent(), [r#"{"inner":{"kind":"keep_alive"}}"#]);
        agent.pass(9 * SECOND);
    }
}

#[test]
fn a_relay_that_takes_no_answers_is_not_read_for_ever() {
    let mut agent = Agent::new(Duration::ZERO);
    for id in ["a", "b", "c"] {
        agent.open(id);
    }
    let mut asked = 0;
    while agent.link.wants_read() {
        agent.hear(RelayToAgent::InitiateConnection(InitiateConnection {
            target_ip: "host".into(),
            target_port: 22,
            protocol: "tcp".into(),
            connection_id: "x".into(),
        }));
        asked += 1;
        assert!(asked <= MAX_CONTROL);
    }
    agent.link.poll_transmit(agent.now);
    assert!(agent.link.wants_read());
}

#[test]
fn a_released_stream_leaves_nothing_behind() {
    let mut agent = Agent::new(Duration::ZERO);
    // The client closed while the target was dialled, and while the stream was open.
    for dialled in [false, true] {
        let (key, _, _) = agent.dial("a");
        if dialled {
            agent.link.opened(key);
        }
        agent.hear_close("a");
        agent.sent();
        agent.link.release(key);
        assert_eq!((agent.sent(), agent.link.stream_count()), (vec![], 0));
    }
    // A finished stream still sends what waits.
    let key = agent.open("b");
    agent.write(key, "b", b"1");
    agent.link.finish(key, End::Finished);
    agent.link.release(key);
    assert_eq!(agent.sent(), [data::encode_agent("b", b"1"), clean_end("b")]);
    // Any other is reset, so that nobody waits for it.
    let key = agent.open("c");
    agent.link.release(key);
    assert_eq!(agent.sent(), [reset("the agent gave the stream up", "c")]);
    assert_eq!(agent.link.stream_count(), 0);
}

#[test]
fn a_target_that_takes_nothing_after_the_client_left_is_given_up() {
    let mut agent = Agent::new(Duration::ZERO);
    let key = agent.open("a");
    agent.hear_data("a", b"much");
    agent.hear_close("a");
    assert_eq!(agent.link.poll_timeout(), Some(agent.now + v1::STALL_TIMEOUT));
    agent.pass(v1::STALL_TIMEOUT - SECOND);
    agent.link.progress(agent.now, key);
    agent.pass(SECOND);
    assert!(!agent.link.is_gone(key), "a slow target may be slow");
    agent.pass(v1::STALL_TIMEOUT);
    assert!(agent.link.is_gone(key));
    assert_eq!((agent.read(key).1, agent.sent()), (Read::Over, vec![]));
    assert_eq!(agent.link.poll_timeout(), None);
}
