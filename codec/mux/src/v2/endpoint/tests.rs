//! Two endpoints on one made-up clock, with nothing between them but a wire that can be cut.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use codec::v2::{self, Code, Control, Hello, Interrupted, Open, Role, Welcome};
use proptest::prelude::*;

use super::*;
use crate::v2::Violation;
use codec::v2::Message as _;

#[derive(Clone, Debug, Default)]
struct Waker(Rc<Cell<usize>>);

impl Wake for Waker {
    fn wake(&self) {
        self.0.set(self.0.get() + 1);
    }
}

impl Waker {
    /// Whether it was woken since this was last asked.
    fn woken(&self) -> bool {
        self.0.take() > 0
    }
}

type Party = Endpoint<Waker>;

/// A client and an agent, and what is under way between them.
struct Pair {
    now: Instant,
    opener: Party,
    acceptor: Party,
    /// The link at both ends; none while it is cut.
    links: Option<(LinkKey, LinkKey)>,
    to_acceptor: VecDeque<Transmit>,
    to_opener: VecDeque<Transmit>,
}

const WINDOW: u64 = 16;

fn settings(resume_for: Duration) -> Settings {
    Settings {
        first_window: WINDOW,
        max_window: 4 * WINDOW,
        window_budget: 1000,
        resume_for,
        ..Settings::default()
    }
}

fn ask() -> Ask {
    Ask {
        agent: "workshop".into(),
        host: "localhost".into(),
        port: 22,
        protocol: "tcp".into(),
        principal: None,
    }
}

impl Pair {
    fn new(resume_for: Duration) -> Self {
        let begun = Instant::now();
        let party = |side| Endpoint::new(begun, side, settings(resume_for), 7, Waker::default());
        // The agent can look back far enough.
        let now = begun + v2::REMEMBERED_FOR;
        let mut pair = Self {
            now,
            opener: party(Side::Opener),
            acceptor: party(Side::Acceptor),
            links: None,
            to_acceptor: VecDeque::new(),
            to_opener: VecDeque::new(),
        };
        pair.connect();
        pair
    }

    fn connect(&mut self) {
        let acceptor = self.acceptor.connect(self.now, None, Waker::default());
        let opener = self.opener.connect(self.now, None, Waker::default());
        self.links = Some((opener, acceptor));
    }

    fn open(&mut self) -> StreamKey {
        let id = StreamId::new(format!("00000000-0000-4000-8000-{:012}", self.opener.next_key));
        self.opener.open(self.now, id, ask(), Default::default())
    }

    /// The link is lost; of what is under way, so much arrives.
    fn cut(&mut self, arrives: usize) {
        let Some((opener, acceptor)) = self.links else { return };
        self.collect();
        for _ in 0..arrives {
            self.deliver_one();
        }
        self.to_acceptor.clear();
        self.to_opener.clear();
        self.links = None;
        self.opener.link_lost(self.now, opener);
        self.acceptor.link_lost(self.now, acceptor);
    }

    /// Takes what both have to send.
    fn collect(&mut self) {
        let Some((opener, acceptor)) = self.links else { return };
        self.to_acceptor.extend(std::iter::from_fn(|| self.opener.poll_transmit(self.now, opener)));
        self.to_opener
            .extend(std::iter::from_fn(|| self.acceptor.poll_transmit(self.now, acceptor)));
    }

    fn deliver_one(&mut self) -> bool {
        let Some((opener, acceptor)) = self.links else { return false };
        let toward_acceptor = self.to_acceptor.pop_front();
        let toward_opener = self.to_opener.pop_front();
        let delivered = toward_acceptor.is_some() || toward_opener.is_some();
        if let Some(transmit) = toward_acceptor {
            handle(&mut self.acceptor, self.now, acceptor, transmit).unwrap();
        }
        if let Some(transmit) = toward_opener {
            handle(&mut self.opener, self.now, opener, transmit).unwrap();
        }
        delivered
    }

    /// Exchanges everything until nobody has anything to send.
    fn settle(&mut self) {
        loop {
            self.collect();
            if !self.deliver_one() {
                return;
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.opener.handle_timeout(self.now);
        self.acceptor.handle_timeout(self.now);
        self.settle();
    }

    /// The stream that the acceptor was asked to dial.
    fn dialled(&mut self) -> Option<StreamKey> {
        std::iter::from_fn(|| self.acceptor.poll_event()).find_map(|event| match event {
            Event::Dial { key, .. } => Some(key),
            _ => None,
        })
    }

    /// An open stream at both ends.
    fn opened(&mut self) -> (StreamKey, StreamKey) {
        let near = self.open();
        self.settle();
        let far = self.dialled().expect("the acceptor was asked");
        self.acceptor.dialled(self.now, far);
        self.settle();
        assert!(matches!(self.opener.poll_event(), Some(Event::Opened(key)) if key == near));
        (near, far)
    }
}

fn handle(
    party: &mut Party,
    now: Instant,
    link: LinkKey,
    transmit: Transmit,
) -> Result<(), Violation> {
    match transmit {
        // As on the wire.
        Transmit::Control(message) => {
            let message = v2::decode(&v2::encode(&message)).expect("what is written can be read");
            party.handle_control(now, link, message)
        }
        Transmit::Data { stream, payload } => party.handle_data(now, link, stream, payload),
    }
}

/// Writes as much as there is room for; gives how much.
fn write(party: &mut Party, key: StreamKey, bytes: &[u8]) -> usize {
    match party.room(key) {
        Room::Ready(room) => {
            let count = room.min(bytes.len());
            party.write(key, Bytes::copy_from_slice(&bytes[..count]));
            count
        }
        Room::Full | Room::Over => 0,
    }
}

/// Reads and hands on everything that is there.
fn read(party: &mut Party, now: Instant, key: StreamKey) -> (Vec<u8>, Read) {
    let mut all = Vec::new();
    loop {
        match party.read(key) {
            Read::Data(bytes) => {
                party.consumed(now, key, bytes.len());
                all.extend_from_slice(&bytes);
            }
            end => return (all, end),
        }
    }
}

fn is_clear(party: &Party) -> bool {
    party.streams.is_empty()
        && party.by_id.is_empty()
        && party.timers.is_empty()
        && party.budget == Budget::new(1000)
        && party.links.values().all(|link| {
            link.numbers.is_empty() && link.credits.is_empty() && link.control.is_empty()
        })
}

#[test]
fn a_stream_carries_bytes_both_ways_and_is_done() {
    let mut pair = Pair::new(Duration::ZERO);
    let (near, far) = pair.opened();
    assert_eq!(write(&mut pair.opener, near, b"ping"), 4);
    assert_eq!(write(&mut pair.acceptor, far, b"pong!"), 5);
    pair.settle();
    assert_eq!(read(&mut pair.acceptor, pair.now, far), (b"ping".to_vec(), Read::Empty));
    assert_eq!(read(&mut pair.opener, pair.now, near), (b"pong!".to_vec(), Read::Empty));
    // One way ends, the other goes on.
    pair.opener.finish(near);
    pair.settle();
    assert_eq!(pair.acceptor.read(far), Read::Finished);
    pair.acceptor.consumed_end(pair.now, far);
    write(&mut pair.acceptor, far, b"more");
    pair.acceptor.finish(far);
    pair.settle();
    assert_eq!(read(&mut pair.opener, pair.now, near), (b"more".to_vec(), Read::Finished));
    assert_eq!(pair.opener.end(near), None);
    pair.opener.consumed_end(pair.now, near);
    assert_eq!(pair.opener.end(near), Some(&StreamEnd::Done));
    pair.settle();
    assert_eq!(pair.acceptor.end(far), Some(&StreamEnd::Done));
    pair.opener.release(pair.now, near);
    pair.acceptor.release(pair.now, far);
    pair.settle();
    assert!(is_clear(&pair.opener) && is_clear(&pair.acceptor));
}

/// Spec v2, OP-4.
#[test]
fn the_first_bytes_go_out_with_the_open_and_no_more_than_allowed() {
    let mut pair = Pair::new(Duration::ZERO);
    pair.opener.settings.max_window = 1 << 20;
    let near = pair.open();
    let bytes = vec![7; 10_000];
    assert_eq!(write(&mut pair.opener, near, &bytes), v2::EARLY_DATA as usize);
    assert_eq!(pair.opener.room(near), Room::Full);
    pair.settle();
    let far = pair.dialled().expect("asked");
    assert_eq!(
        read(&mut pair.acceptor, pair.now, far).0.len(),
        8192,
        "before the target is dialled"
    );
    pair.acceptor.dialled(pair.now, far);
    pair.settle();
    assert_eq!(pair.opener.room(near), Room::Ready(WINDOW as usize));
}

#[test]
fn a_refused_target_is_told_with_its_code() {
    let mut pair = Pair::new(Duration::ZERO);
    let near = pair.open();
    pair.settle();
    let far = pair.dialled().expect("asked");
    pair.acceptor.reset(pair.now, far, Code::ConnectRefused, "connection refused");
    pair.settle();
    let end = StreamEnd::Reset { code: Code::ConnectRefused, message: "connection refused".into() };
    assert_eq!(pair.opener.end(near), Some(&end));
    assert_eq!(pair.opener.read(near), Read::Over(end));
    assert_eq!(pair.opener.room(near), Room::Over);
}

#[test]
fn a_reset_does_not_take_back_what_was_delivered() {
    let mut pair = Pair::new(Duration::ZERO);
    let (near, far) = pair.opened();
    write(&mut pair.acceptor, far, b"last words");
    pair.settle();
    pair.acceptor.reset(pair.now, far, Code::PeerReset, "");
    pair.settle();
    let (bytes, end) = read(&mut pair.opener, pair.now, near);
    assert_eq!(bytes, b"last words");
    assert!(matches!(end, Read::Over(StreamEnd::Reset { code: Code::PeerReset, .. })));
}

#[test]
fn a_reader_that_stops_holds_back_one_window_and_goes_on_without_loss() {
    let mut pair = Pair::new(Duration::ZERO);
    let (near, far) = pair.opened();
    let bytes: Vec<u8> = (0..100).collect();
    let mut sent = write(&mut pair.acceptor, far, &bytes);
    assert_eq!(sent, WINDOW as usize);
    pair.settle();
    assert_eq!(write(&mut pair.acceptor, far, &bytes[sent..]), 0);
    assert_eq!(pair.opener.streams[&near].held_bytes(), WINDOW);
    let writer = pair.acceptor.streams[&far].writer.clone();
    writer.woken();
    let mut got = Vec::new();
    while got.len() < bytes.len() {
        let (more, _) = read(&mut pair.opener, pair.now, near);
        assert!(!more.is_empty(), "stuck after {} bytes", got.len());
        got.extend(more);
        pair.settle();
        if sent < bytes.len() {
            assert!(writer.woken(), "nobody told the writer that there is room");
            sent += write(&mut pair.acceptor, far, &bytes[sent..]);
            pair.settle();
        }
    }
    assert_eq!(got, bytes);
}

#[test]
fn a_window_grows_for_a_consumer_that_waits_and_is_given_back() {
    let mut pair = Pair::new(Duration::ZERO);
    let (near, far) = pair.opened();
    for _ in 0..40 {
        // Whatever is sent at once is consumed before more comes.
        let count = write(&mut pair.acceptor, far, &[1; 100]);
        pair.settle();
        assert_eq!(read(&mut pair.opener, pair.now, near).0.len(), count);
        pair.settle();
    }
    let stream = pair.opener.streams.get_mut(&near).unwrap();
    assert_eq!(stream.recv.window_mut().size(), 4 * WINDOW, "the largest allowed");
    pair.opener.release(pair.now, near);
    pair.settle();
    pair.acceptor.release(pair.now, far);
    assert!(is_clear(&pair.opener) && is_clear(&pair.acceptor));
}

#[test]
fn whoever_sends_too_much_or_the_wrong_end_is_reset() {
    let check = |wrong: &dyn Fn(&mut Party, Instant, LinkKey), message: &str| {
        let mut pair = Pair::new(Duration::ZERO);
        let (near, far) = pair.opened();
        let (_, link) = pair.links.unwrap();
        wrong(&mut pair.acceptor, pair.now, link);
        let end = StreamEnd::Local { code: Code::ProtocolError };
        assert_eq!(pair.acceptor.end(far), Some(&end), "{message}");
        pair.settle();
        let told = StreamEnd::Reset { code: Code::ProtocolError, message: message.into() };
        assert_eq!(pair.opener.end(near), Some(&told));
    };
    let data = |party: &mut Party, now, link, bytes: usize| {
        party.handle_data(now, link, 1, vec![0; bytes].into()).unwrap();
    };
    let say = |party: &mut Party, now, link, message| {
        party.handle_control(now, link, message).unwrap();
    };
    // What is allowed at first is the window or the early data, whichever is more.
    check(&|party, now, link| data(party, now, link, 8193), "sent beyond the limit");
    check(
        &|party, now, link| data(party, now, link, 0),
        "sent a frame of a size that is not allowed",
    );
    check(
        &|party, now, link| {
            say(party, now, link, Control::Finish(Finish { stream: 1, offset: 3 }));
        },
        "finished at another offset than its bytes end",
    );
    check(
        &|party, now, link| {
            say(party, now, link, Control::Finish(Finish { stream: 1, offset: 0 }));
            data(party, now, link, 1);
        },
        "sent beyond the end",
    );
    check(
        &|party, now, link| {
            say(party, now, link, Control::Credit(Credit { stream: 1, consumed: 1, limit: 9 }));
        },
        "received more than was sent",
    );
}

#[test]
fn a_number_that_was_never_opened_breaks_the_link_and_one_that_is_over_is_ignored() {
    let mut pair = Pair::new(Duration::ZERO);
    let (near, far) = pair.opened();
    let (opener, acceptor) = pair.links.unwrap();
    let credit = |stream| Control::Credit(Credit { stream, consumed: 0, limit: 0 });
    assert_eq!(
        pair.acceptor.handle_control(pair.now, acceptor, credit(2)),
        Err(Violation::UnknownNumber)
    );
    assert_eq!(
        pair.opener.handle_data(pair.now, opener, 2, Bytes::from_static(b"x")),
        Err(Violation::UnknownNumber)
    );
    let open = |stream| {
        Control::Open(Open {
            stream,
            id: "00000000-0000-4000-8000-000000000000".into(),
            attempt: 1,
            agent: "workshop".into(),
            host: "h".into(),
            port: 1,
            protocol: "tcp".into(),
            limit: 0,
            principal: None,
        })
    };
    assert_eq!(
        pair.acceptor.handle_control(pair.now, acceptor, open(3)),
        Err(Violation::NumberOrder)
    );
    assert_eq!(
        pair.opener.handle_control(pair.now, opener, open(2)),
        Err(Violation::Unexpected),
        "only the side nearer the client opens"
    );
    pair.opener.release(pair.now, near);
    pair.settle();
    pair.acceptor.release(pair.now, far);
    pair.acceptor.handle_control(pair.now, acceptor, credit(1)).unwrap();
    pair.acceptor.handle_data(pair.now, acceptor, 1, Bytes::from_static(b"x")).unwrap();
}

#[test]
fn a_link_begins_with_hello_and_streams_do_not_wait_for_the_welcome() {
    let now = Instant::now();
    let mut client: Party =
        Endpoint::new(now, Side::Opener, settings(Duration::ZERO), 7, Waker::default());
    let hello = Control::Hello(Hello {
        role: Role::Client,
        name: String::new(),
        secret: codec::Secret::from("s".to_owned()),
        instance: "i".into(),
        software: "x/1".into(),
        last_error: None,
        extra: None,
    });
    let driver = Waker::default();
    let link = client.connect(now, Some(hello), driver.clone());
    let key = client.open(now, StreamId::new("0"), ask(), Default::default());
    write(&mut client, key, b"early");
    assert!(driver.woken());
    let sent: Vec<String> = std::iter::from_fn(|| client.poll_transmit(now, link))
        .map(|transmit| match transmit {
            Transmit::Control(message) => message.kind().to_owned(),
            Transmit::Data { payload, .. } => format!("{} bytes", payload.len()),
        })
        .collect();
    assert_eq!(sent, ["hello", "open", "5 bytes"]);
    let welcome = || {
        Control::Welcome(Welcome {
            software: "r/1".into(),
            max_streams: 1,
            max_data: 8192,
            max_window: 8192,
            resume_for_ms: 0,
        })
    };
    client.handle_control(now, link, welcome()).unwrap();
    assert!(matches!(client.poll_event(), Some(Event::Welcomed(welcomed)) if welcomed == link));
    assert_eq!(client.handle_control(now, link, welcome()), Err(Violation::Unexpected));
    // The relay allows one stream.
    let second = client.open(now, StreamId::new("1"), ask(), Default::default());
    assert!(matches!(
        client.end(second),
        Some(StreamEnd::Refused { code: Code::TooManyStreams, .. })
    ));
}

#[test]
fn without_a_window_a_lost_link_ends_its_streams() {
    let mut pair = Pair::new(Duration::ZERO);
    let (near, far) = pair.opened();
    write(&mut pair.acceptor, far, b"whole");
    pair.settle();
    pair.cut(0);
    let (bytes, end) = read(&mut pair.opener, pair.now, near);
    assert_eq!((&bytes[..], end), (&b"whole"[..], Read::Over(StreamEnd::LinkLost)));
    assert_eq!(pair.acceptor.end(far), Some(&StreamEnd::LinkLost));
}

#[test]
fn a_first_attempt_that_reached_nobody_ends_with_the_reason() {
    let mut pair = Pair::new(RESUME_FOR);
    let near = pair.open();
    pair.collect();
    pair.to_acceptor.clear();
    let (link, _) = pair.links.unwrap();
    let refused = Control::Interrupted(Interrupted {
        stream: 1,
        code: Some(Code::AgentOffline),
        message: Some("not connected".into()),
    });
    pair.opener.handle_control(pair.now, link, refused).unwrap();
    let end = StreamEnd::Refused { code: Code::AgentOffline, message: "not connected".into() };
    assert_eq!(pair.opener.end(near), Some(&end));
}

const RESUME_FOR: Duration = Duration::from_secs(180);

#[test]
fn a_stream_goes_on_with_the_next_link() {
    let mut pair = Pair::new(RESUME_FOR);
    let (near, far) = pair.opened();
    write(&mut pair.opener, near, b"lost on the way");
    pair.cut(0);
    assert!(matches!(pair.opener.poll_event(), Some(Event::Detached(_))));
    pair.acceptor.poll_event();
    pair.connect();
    pair.settle();
    assert!(matches!(pair.opener.poll_event(), Some(Event::Resumed(_))));
    assert_eq!(read(&mut pair.acceptor, pair.now, far).0, b"lost on the way");
    assert_eq!(pair.opener.streams[&near].attempt, 2);
}

/// Spec v2, OP-5.
#[test]
fn a_target_is_dialled_once_however_often_it_is_asked_for() {
    let mut pair = Pair::new(RESUME_FOR);
    let near = pair.open();
    pair.settle();
    let far = pair.dialled().expect("asked");
    for _ in 0..3 {
        pair.cut(0);
        pair.connect();
        pair.settle();
        assert_eq!(pair.dialled(), None);
    }
    pair.acceptor.dialled(pair.now, far);
    pair.settle();
    assert_eq!(pair.opener.streams[&near].phase, Phase::Open);
}

#[test]
fn an_agent_that_has_just_started_does_not_dial_on_a_repeated_open() {
    let mut pair = Pair::new(RESUME_FOR);
    let near = pair.open();
    pair.settle();
    pair.cut(0);
    pair.acceptor =
        Endpoint::new(pair.now, Side::Acceptor, settings(RESUME_FOR), 7, Waker::default());
    pair.connect();
    pair.settle();
    assert_eq!(pair.dialled(), None);
    assert!(matches!(
        pair.opener.end(near),
        Some(StreamEnd::Reset { code: Code::NotResumable, .. })
    ));
}

#[test]
fn both_ends_give_up_when_the_window_is_over() {
    let mut pair = Pair::new(RESUME_FOR);
    let (near, far) = pair.opened();
    pair.cut(0);
    pair.pass(RESUME_FOR - Duration::from_millis(1));
    assert_eq!((pair.opener.end(near), pair.acceptor.end(far)), (None, None));
    pair.pass(Duration::from_millis(1));
    assert_eq!(pair.opener.end(near), Some(&StreamEnd::Unconfirmed));
    assert_eq!(pair.acceptor.end(far), Some(&StreamEnd::Unconfirmed));
}

/// Spec v2, EN-8.
#[test]
fn how_a_stream_ended_is_told_to_whoever_asks_again() {
    let mut pair = Pair::new(RESUME_FOR);
    let (near, far) = pair.opened();
    pair.cut(0);
    pair.acceptor.reset(pair.now, far, Code::PeerReset, "the target reset the connection");
    pair.acceptor.release(pair.now, far);
    pair.connect();
    pair.settle();
    assert!(matches!(pair.opener.end(near), Some(StreamEnd::Reset { code: Code::PeerReset, .. })));
}

#[test]
fn somebody_elses_stream_is_not_resumed() {
    let mut pair = Pair::new(RESUME_FOR);
    let (near, _far) = pair.opened();
    pair.cut(0);
    pair.opener.streams.get_mut(&near).unwrap().ask.principal = Some("mallory".into());
    pair.connect();
    pair.settle();
    assert!(matches!(
        pair.opener.end(near),
        Some(StreamEnd::Reset { code: Code::NotResumable, .. })
    ));
    assert_eq!(pair.acceptor.stream_count(), 1, "the owner's stream lives on");
}

#[test]
fn a_number_without_an_answer_is_left_and_tried_again() {
    let mut pair = Pair::new(RESUME_FOR);
    let near = pair.open();
    pair.settle();
    let far = pair.dialled().expect("asked");
    pair.pass(v2::OPENED_TIMEOUT - Duration::from_millis(1));
    assert_eq!(pair.opener.streams[&near].attempt, 1);
    pair.pass(Duration::from_millis(1));
    assert_eq!(pair.opener.streams[&near].attempt, 2);
    let at = pair.acceptor.streams[&far].attachment.expect("the second number");
    assert_eq!(at.number, 2);
}

#[test]
fn what_waits_without_a_link_stays_within_the_budget() {
    let mut pair = Pair::new(RESUME_FOR);
    pair.acceptor.settings.detached_budget = 20;
    let streams = [pair.opened(), pair.opened()];
    for (_, far) in streams {
        write(&mut pair.acceptor, far, &[0; WINDOW as usize]);
    }
    pair.cut(0);
    let ends: Vec<bool> =
        streams.iter().map(|(_, far)| pair.acceptor.end(*far).is_some()).collect();
    assert_eq!(ends, [true, false]);
}

#[test]
fn a_writer_is_woken_when_what_it_keeps_is_consumed_whatever_the_limit() {
    let mut pair = Pair::new(Duration::ZERO);
    pair.opener.settings.max_window = 4;
    let (near, far) = pair.opened();
    // The acceptor allows more than the opener keeps.
    assert_eq!(write(&mut pair.opener, near, b"abcdefgh"), 4);
    assert_eq!(pair.opener.room(near), Room::Full);
    pair.settle();
    let writer = pair.opener.streams[&near].writer.clone();
    writer.woken();
    read(&mut pair.acceptor, pair.now, far);
    let credit = Control::Credit(Credit { stream: 1, consumed: 4, limit: 0 });
    let (link, _) = pair.links.unwrap();
    pair.opener.handle_control(pair.now, link, credit).unwrap();
    assert_eq!(pair.opener.room(near), Room::Ready(4));
    assert!(writer.woken());
}

/// Spec v2, FL-9.
#[test]
fn what_is_consumed_while_a_stream_resumes_is_told_behind_opened() {
    let mut pair = Pair::new(RESUME_FOR);
    let (near, far) = pair.opened();
    write(&mut pair.acceptor, far, &[0; WINDOW as usize]);
    pair.settle();
    pair.cut(0);
    pair.connect();
    pair.collect();
    read(&mut pair.opener, pair.now, near);
    pair.settle();
    assert_eq!(pair.acceptor.room(far), Room::Ready(WINDOW as usize));
}

/// Spec v2, FL-10.
#[test]
fn credit_before_opened_is_a_fault() {
    let mut pair = Pair::new(RESUME_FOR);
    let near = pair.open();
    let (link, _) = pair.links.unwrap();
    let credit = Control::Credit(Credit { stream: 1, consumed: 0, limit: 9 });
    pair.opener.handle_control(pair.now, link, credit).unwrap();
    let end = StreamEnd::Local { code: Code::ProtocolError };
    assert_eq!(pair.opener.end(near), Some(&end));
}

/// Spec v2, LK-6: what waits for `welcome` waits in order, and all of it counts.
#[test]
fn nothing_of_a_stream_goes_ahead_of_an_open_that_waits_for_the_welcome() {
    let now = Instant::now();
    let settings = Settings { max_window: 1 << 20, ..settings(Duration::ZERO) };
    let mut client: Party = Endpoint::new(now, Side::Opener, settings, 7, Waker::default());
    let hello = Control::Custom(codec::v2::Custom { name: "hello".into(), body: 1.into() });
    let link = client.connect(now, Some(hello), Waker::default());
    for n in 0..100 {
        let key = client.open(now, StreamId::new(n.to_string()), ask(), Default::default());
        write(&mut client, key, &[7; 100]);
        client.finish(key);
    }
    let (mut opened, mut bytes) = (0, 0);
    while let Some(transmit) = client.poll_transmit(now, link) {
        match transmit {
            Transmit::Control(message) => {
                bytes += v2::encode(&message).len();
                opened = match message {
                    Control::Open(open) => open.stream,
                    _ => opened,
                };
            }
            Transmit::Data { stream, payload } => {
                bytes += v2::data::HEADER_BYTES + payload.len();
                assert!(stream <= opened, "data on {stream}, but only {opened} were opened");
            }
        }
    }
    assert!((1..100).contains(&opened) && bytes <= v2::MAX_BEFORE_WELCOME, "{opened} {bytes}");
}

/// Spec v2, EN-6.
#[test]
fn what_a_target_sent_before_it_ended_and_broke_off_still_arrives() {
    let mut pair = Pair::new(Duration::ZERO);
    let (near, far) = pair.opened();
    write(&mut pair.acceptor, far, b"last words");
    pair.acceptor.finish(far);
    pair.acceptor.break_off(pair.now, far, Code::PeerReset, "");
    pair.settle();
    let (bytes, end) = read(&mut pair.opener, pair.now, near);
    assert_eq!(bytes, b"last words");
    assert!(matches!(end, Read::Over(StreamEnd::Reset { code: Code::PeerReset, .. })));
}

/// Spec v2, FL-12.
#[test]
fn a_stream_takes_nothing_more_while_it_waits_for_a_link() {
    let mut pair = Pair::new(RESUME_FOR);
    let (near, far) = pair.opened();
    pair.cut(0);
    let writer = pair.acceptor.streams[&far].writer.clone();
    writer.woken();
    assert_eq!((pair.opener.room(near), pair.acceptor.room(far)), (Room::Full, Room::Full));
    pair.connect();
    pair.settle();
    assert!(writer.woken());
    assert_eq!(pair.acceptor.room(far), Room::Ready(WINDOW as usize));
}

/// Spec v2, FL-12: also where it is the stream itself that leaves its number.
#[test]
fn the_budget_holds_for_streams_that_nobody_answers() {
    let mut pair = Pair::new(RESUME_FOR);
    pair.opener.settings.detached_budget = 3;
    let near = pair.open();
    assert_eq!(write(&mut pair.opener, near, b"four"), 4);
    pair.settle();
    pair.pass(v2::OPENED_TIMEOUT);
    assert_eq!(pair.opener.end(near), Some(&StreamEnd::Unconfirmed));
}

/// Spec v2, TM-5.
#[test]
fn the_time_of_a_stream_runs_from_when_it_left_a_draining_link() {
    let mut pair = Pair::new(RESUME_FOR);
    let (near, _) = pair.opened();
    let (old, _) = pair.links.unwrap();
    let goaway = codec::v2::Goaway { message: String::new(), reconnect_after_ms: 0 };
    pair.opener.handle_control(pair.now, old, Control::Goaway(goaway)).unwrap();
    let hello = Control::Custom(codec::v2::Custom { name: "hello".into(), body: 1.into() });
    let new = pair.opener.connect(pair.now, Some(hello), Waker::default());
    let welcome = Control::Welcome(Welcome {
        software: "r/1".into(),
        max_streams: 1,
        max_data: 8192,
        max_window: 1 << 20,
        resume_for_ms: RESUME_FOR.as_millis() as u32,
    });
    pair.opener.handle_control(pair.now, new, welcome).unwrap();
    assert_eq!(pair.opener.streams[&near].attachment.map(|at| at.link), Some(new));
    let told: Vec<_> = std::iter::from_fn(|| pair.opener.poll_event()).collect();
    assert!(told.iter().any(|it| matches!(it, Event::Detached(key) if *key == near)), "{told:?}");
    // Nobody answers there, nor anywhere else.
    let last = pair.now + RESUME_FOR;
    while pair.now < last {
        assert_eq!(pair.opener.end(near), None);
        pair.now = pair.opener.poll_timeout().expect("it waits").min(last);
        pair.opener.handle_timeout(pair.now);
    }
    assert_eq!(pair.opener.end(near), Some(&StreamEnd::Unconfirmed));
}

/// What may happen in a random schedule.
#[derive(Clone, Debug)]
enum Step {
    Write { near: bool, bytes: usize },
    Read { near: bool, most: usize },
    Finish { near: bool },
    Deliver(usize),
    Cut { arrives: usize },
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (any::<bool>(), 1_usize..40).prop_map(|(near, bytes)| Step::Write { near, bytes }),
        4 => (any::<bool>(), 1_usize..4).prop_map(|(near, most)| Step::Read { near, most }),
        1 => any::<bool>().prop_map(|near| Step::Finish { near }),
        4 => (0_usize..6).prop_map(Step::Deliver),
        1 => (0_usize..6).prop_map(|arrives| Step::Cut { arrives }),
        1 => (0_u64..3000).prop_map(Step::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever is written, read and cut: the bytes out are a prefix of the bytes in, and all of them in the end.
    #[test]
    fn no_byte_is_lost_repeated_or_reordered(steps in prop::collection::vec(step(), 0..120)) {
        let mut pair = Pair::new(RESUME_FOR);
        let near = pair.open();
        let mut far = None;
        // Of what goes to the acceptor, and to the opener.
        let mut written = [0_usize; 2];
        let mut got: [Vec<u8>; 2] = Default::default();
        let mut finished = [false; 2];
        let dial = |pair: &mut Pair, far: &mut Option<StreamKey>| {
            if let Some(key) = pair.dialled() {
                prop_assert!(far.is_none(), "dialled twice");
                *far = Some(key);
                pair.acceptor.dialled(pair.now, key);
            }
            Ok(())
        };
        for step in steps {
            match step {
                Step::Write { near: is_near, bytes } => {
                    let way = usize::from(!is_near);
                    let (party, key) = match (is_near, far) {
                        (true, _) => (&mut pair.opener, near),
                        (false, Some(far)) => (&mut pair.acceptor, far),
                        (false, None) => continue,
                    };
                    let bytes: Vec<u8> = (0..bytes).map(|i| (written[way] + i) as u8).collect();
                    written[way] += write(party, key, &bytes);
                }
                Step::Read { near: is_near, most } => {
                    let way = usize::from(is_near);
                    let (party, key) = match (is_near, far) {
                        (true, _) => (&mut pair.opener, near),
                        (false, Some(far)) => (&mut pair.acceptor, far),
                        (false, None) => continue,
                    };
                    for _ in 0..most {
                        match party.read(key) {
                            Read::Data(bytes) => {
                                party.consumed(pair.now, key, bytes.len());
                                got[way].extend_from_slice(&bytes);
                            }
                            Read::Finished => party.consumed_end(pair.now, key),
                            Read::Empty | Read::Over(_) => break,
                        }
                    }
                }
                Step::Finish { near: is_near } => {
                    finished[usize::from(!is_near)] = true;
                    match (is_near, far) {
                        (true, _) => pair.opener.finish(near),
                        (false, Some(far)) => pair.acceptor.finish(far),
                        (false, None) => finished[1] = false,
                    }
                }
                Step::Deliver(count) => {
                    pair.collect();
                    for _ in 0..count {
                        pair.deliver_one();
                    }
                }
                Step::Cut { arrives } => {
                    pair.cut(arrives);
                    dial(&mut pair, &mut far)?;
                    pair.connect();
                }
                Step::Pass(ms) => {
                    pair.now += Duration::from_millis(ms);
                    pair.opener.handle_timeout(pair.now);
                    pair.acceptor.handle_timeout(pair.now);
                }
            }
            dial(&mut pair, &mut far)?;
            for way in 0..2 {
                let expected: Vec<u8> = (0..got[way].len()).map(|i| i as u8).collect();
                prop_assert_eq!(&got[way], &expected);
                prop_assert!(got[way].len() <= written[way]);
            }
            for party in [&pair.opener, &pair.acceptor] {
                for stream in party.streams.values() {
                    prop_assert!(stream.recv.waiting() <= (4 * WINDOW).max(v2::EARLY_DATA));
                    prop_assert!(stream.send.kept_bytes() <= (4 * WINDOW).max(v2::EARLY_DATA));
                }
            }
            prop_assert_eq!(pair.opener.end(near).filter(|end| **end != StreamEnd::Done), None);
        }
        // Without further faults it ends, with every byte on the other side.
        pair.settle();
        dial(&mut pair, &mut far)?;
        let far = far.expect("dialled in the end");
        pair.opener.finish(near);
        pair.acceptor.finish(far);
        for _ in 0..1000 {
            pair.settle();
            for (way, key) in [(1, near), (0, far)] {
                let party = if way == 1 { &mut pair.opener } else { &mut pair.acceptor };
                let (bytes, end) = read(party, pair.now, key);
                got[way].extend(bytes);
                if end == Read::Finished {
                    party.consumed_end(pair.now, key);
                }
            }
        }
        prop_assert_eq!([got[0].len(), got[1].len()], written);
        prop_assert_eq!(pair.opener.end(near), Some(&StreamEnd::Done));
        // The last `done` may have been lost: then the acceptor waits its window out.
        if pair.acceptor.end(far).is_none() {
            pair.pass(RESUME_FOR);
            prop_assert_eq!(pair.acceptor.end(far), Some(&StreamEnd::Unconfirmed));
        } else {
            prop_assert_eq!(pair.acceptor.end(far), Some(&StreamEnd::Done));
        }
        pair.opener.release(pair.now, near);
        pair.acceptor.release(pair.now, far);
        prop_assert!(is_clear(&pair.opener) && is_clear(&pair.acceptor));
    }
}
