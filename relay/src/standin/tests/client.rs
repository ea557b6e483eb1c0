//! A client that speaks v1 at an agent that speaks v2.

use codec::v1;
use codec::v2::{Code, Control, Interrupted};
use mux::v2::{Ask, Event, Side, StreamEnd, StreamId};

use super::*;
use crate::routes::{ClientEnd, ForClient};

struct Tunnel {
    now: Instant,
    client: ClientStandIn,
    agent: Far,
    key: Option<StreamKey>,
}

const START_OK: &str = r#"{"inner":{"kind":"start_ok"}}"#;

impl Tunnel {
    fn new() -> Self {
        let now = Instant::now();
        let ask = Ask {
            agent: "a".into(),
            host: "host".into(),
            port: 22,
            protocol: "tcp".into(),
            principal: None,
        };
        let id = StreamId::new("0123abcd-0123-4567-89ab-0123456789ab");
        let client = ClientStandIn::new(now, id, ask, 1);
        let mut tunnel = Self { now, client, agent: Far::new(now, Side::Acceptor), key: None };
        tunnel.run();
        tunnel
    }

    /// The target answers.
    fn open() -> Self {
        let mut tunnel = Self::new();
        tunnel.agent.endpoint.dialled(tunnel.now, tunnel.key());
        tunnel.run();
        assert_eq!(tunnel.next(), ForClient::Message(START_OK.into()));
        tunnel
    }

    fn key(&self) -> StreamKey {
        self.key.expect("the agent was asked")
    }

    fn run(&mut self) {
        loop {
            if let Some(transmit) = self.client.poll_transmit(self.now) {
                self.agent.handle(self.now, transmit);
            } else if let Some(transmit) = self.agent.poll(self.now) {
                self.client.handle(self.now, transmit);
            } else {
                break;
            }
            while let Some(event) = self.agent.endpoint.poll_event() {
                if let Event::Dial { key, .. } = event {
                    self.key = Some(key);
                }
            }
        }
    }

    fn next(&mut self) -> ForClient {
        let next = self.client.poll_for_client(self.now);
        self.run();
        next
    }

    fn say(&mut self, bytes: &[u8]) {
        self.client.handle_client_data(self.now, &Bytes::copy_from_slice(bytes));
        self.run();
    }

    fn agent_reads(&mut self) -> (Vec<u8>, Option<Read>) {
        let key = self.key();
        let mut all = Vec::new();
        loop {
            let (bytes, end) = self.agent.read(self.now, key);
            self.run();
            if bytes.is_empty() {
                return (all, end);
            }
            all.extend(bytes);
            if end.is_some() {
                return (all, end);
            }
        }
    }

    /// Lets time pass, with what is due meanwhile.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.client.poll_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.client.handle_timeout(self.now);
            self.run();
        }
        self.now = end;
    }

    fn agent_end(&self) -> Option<&StreamEnd> {
        self.agent.endpoint.end(self.key())
    }
}

fn tcp_data(bytes: &[u8]) -> ForClient {
    ForClient::Message(v1::data::encode_client(bytes))
}

#[test]
fn a_stream_passes_both_ways_and_the_target_s_end_is_a_clean_one() {
    let mut tunnel = Tunnel::new();
    tunnel.say(b"early");
    assert_eq!(tunnel.next(), ForClient::Nothing);
    assert!(!tunnel.client.is_answered());
    let key = tunnel.key();
    tunnel.agent.endpoint.dialled(tunnel.now, key);
    tunnel.agent.write(key, b"banner");
    tunnel.run();
    assert_eq!(tunnel.next(), ForClient::Message(START_OK.into()));
    assert_eq!(tunnel.next(), tcp_data(b"banner"));
    assert_eq!(tunnel.next(), ForClient::Nothing);
    assert_eq!(tunnel.agent_reads().0, b"early");
    tunnel.say(b"more");
    tunnel.agent.write(key, b"bye");
    tunnel.agent.endpoint.finish(key);
    tunnel.run();
    assert_eq!(tunnel.next(), tcp_data(b"bye"));
    assert_eq!(tunnel.next(), ForClient::End(ClientEnd::Finished));
    // The client's link closes; the target gets what was under way, and its end.
    tunnel.client.client_left(tunnel.now);
    tunnel.run();
    assert!(!tunnel.client.is_over());
    assert_eq!(tunnel.agent_reads(), (b"more".to_vec(), Some(Read::Finished)));
    assert!(tunnel.client.is_over());
    assert_eq!(tunnel.agent_end(), Some(&StreamEnd::Done));
}

#[test]
fn a_refusal_says_why() {
    let check = |tell: &dyn Fn(&mut Tunnel), expected: &str| {
        let mut tunnel = Tunnel::new();
        tell(&mut tunnel);
        tunnel.run();
        assert_eq!(tunnel.next(), ForClient::End(ClientEnd::Refused(expected.into())));
        assert!(tunnel.client.is_over() && tunnel.client.is_answered());
    };
    let reset = |tunnel: &mut Tunnel| {
        let key = tunnel.key();
        tunnel.agent.endpoint.reset(tunnel.now, key, Code::ConnectRefused, "nobody there");
    };
    check(&reset, "Error initiating connection: nobody there");
    let offline = |tunnel: &mut Tunnel| {
        let (code, message) = (Some(Code::AgentOffline), Some("gone".into()));
        let told = Control::Interrupted(Interrupted { stream: 1, code, message });
        tunnel.client.handle(tunnel.now, Transmit::Control(told));
    };
    check(&offline, "Agent not registered");
}

#[test]
fn a_reset_comes_behind_what_was_sent_before() {
    let check = |code, expected: ClientEnd| {
        let mut tunnel = Tunnel::open();
        let key = tunnel.key();
        tunnel.agent.write(key, b"last");
        tunnel.agent.endpoint.break_off(tunnel.now, key, code, "words");
        tunnel.run();
        assert_eq!(tunnel.next(), tcp_data(b"last"));
        assert_eq!(tunnel.next(), ForClient::End(expected));
    };
    check(Code::PeerReset, ClientEnd::TargetReset("words".into()));
    check(Code::NotResumable, ClientEnd::AgentLost);
    check(Code::GoingAway, ClientEnd::AgentLost);
}

#[test]
fn a_client_that_leaves_is_heard_to_the_end() {
    let mut tunnel = Tunnel::open();
    let long = vec![b'x'; 3 << 20];
    tunnel.say(&long);
    assert!(!tunnel.client.wants_read(), "more than the agent has granted");
    tunnel.agent.write(tunnel.key(), b"unread");
    tunnel.client.client_left(tunnel.now);
    tunnel.run();
    let (bytes, end) = tunnel.agent_reads();
    assert_eq!((bytes.len(), end), (long.len(), Some(Read::Finished)));
    // Then its target's connection is closed in both directions.
    let reset = StreamEnd::Reset { code: Code::PeerReset, message: "the client has left".into() };
    assert_eq!(tunnel.agent_end(), Some(&reset));
    assert!(tunnel.client.is_over());
}

#[test]
fn a_client_that_leaves_is_not_waited_for_by_a_target_that_takes_nothing() {
    let mut tunnel = Tunnel::open();
    tunnel.say(&vec![b'x'; 1 << 20]);
    tunnel.client.client_left(tunnel.now);
    tunnel.run();
    tunnel.pass(v1::STALL_TIMEOUT - SECOND);
    assert!(!tunnel.client.is_over());
    // It takes something, and has its time again.
    let key = tunnel.key();
    for _ in 0..4 {
        let Read::Data(bytes) = tunnel.agent.endpoint.read(key) else { panic!("much waits") };
        tunnel.agent.endpoint.consumed(tunnel.now, key, bytes.len());
    }
    tunnel.run();
    tunnel.pass(v1::STALL_TIMEOUT - SECOND);
    assert!(!tunnel.client.is_over());
    tunnel.pass(2 * SECOND);
    assert!(tunnel.client.is_over());
    assert!(matches!(tunnel.agent_end(), Some(StreamEnd::Reset { code: Code::PeerReset, .. })));
}

#[test]
fn a_client_that_leaves_while_the_agent_dials_costs_nothing() {
    let mut tunnel = Tunnel::new();
    tunnel.client.client_left(tunnel.now);
    tunnel.run();
    assert!(tunnel.client.is_over());
    assert!(matches!(tunnel.agent_end(), Some(StreamEnd::Reset { code: Code::PeerReset, .. })));
}

#[test]
fn the_agent_takes_nothing_and_the_stream_stalls() {
    let mut tunnel = Tunnel::open();
    assert_eq!(tunnel.client.stalled_at(), None);
    tunnel.say(&vec![b'x'; 1 << 20]);
    assert_eq!(tunnel.client.stalled_at(), Some(tunnel.now + v1::STALL_TIMEOUT));
    tunnel.now += SECOND;
    let key = tunnel.key();
    for _ in 0..3 {
        let Read::Data(bytes) = tunnel.agent.endpoint.read(key) else { panic!("much waits") };
        tunnel.agent.endpoint.consumed(tunnel.now, key, bytes.len());
    }
    tunnel.run();
    assert_eq!(tunnel.client.stalled_at(), Some(tunnel.now + v1::STALL_TIMEOUT));
    tunnel.client.cut(tunnel.now, ClientEnd::Stalled);
    tunnel.run();
    assert!(tunnel.client.is_cut());
    assert_eq!(tunnel.next(), ForClient::End(ClientEnd::Stalled));
    assert!(matches!(tunnel.agent_end(), Some(StreamEnd::Reset { code: Code::PeerReset, .. })));
}

#[test]
fn a_client_that_does_not_read_holds_back_its_own_stream_alone() {
    let mut tunnel = Tunnel::open();
    let key = tunnel.key();
    let mut sent = 0;
    while let Room::Ready(most) = tunnel.agent.endpoint.room(key) {
        tunnel.agent.write(key, &vec![b'x'; most]);
        sent += most;
        tunnel.run();
        assert!(sent <= MAX_WINDOW as usize, "it has granted no more");
    }
    let mut got = 0;
    while let ForClient::Message(text) = tunnel.next() {
        assert!(text.len() <= v1::MAX_MESSAGE_TO_CLIENT);
        let mut bytes = Vec::new();
        v1::data::read_client(&text, &mut bytes).expect("data");
        got += bytes.len();
    }
    assert_eq!(got, sent);
    assert!(matches!(tunnel.agent.endpoint.room(key), Room::Ready(_)));
}

#[test]
fn the_stream_outlives_a_lost_link_of_the_agent() {
    let mut tunnel = Tunnel::open();
    let key = tunnel.key();
    // The router tells both of it, and what was under way is gone.
    tunnel.client.handle_client_data(tunnel.now, &Bytes::from_static(b"under way"));
    while tunnel.client.poll_transmit(tunnel.now).is_some() {}
    tunnel.agent.endpoint.link_lost(tunnel.now, tunnel.agent.link);
    tunnel.agent.link = tunnel.agent.endpoint.connect(tunnel.now, None, Quiet);
    let told = Interrupted { stream: 1, code: None, message: None };
    tunnel.client.handle(tunnel.now, Transmit::Control(Control::Interrupted(told)));
    // The new link counts from 1 again.
    tunnel.client.handle_timeout(tunnel.now);
    let Some(Transmit::Control(Control::Resume(mut resume))) =
        tunnel.client.poll_transmit(tunnel.now)
    else {
        panic!("no resume")
    };
    assert_eq!((resume.stream, resume.attempt), (2, 2));
    resume.stream = 1;
    tunnel.agent.handle(tunnel.now, Transmit::Control(Control::Resume(resume)));
    while let Some(Transmit::Control(mut message)) = tunnel.agent.poll(tunnel.now) {
        if let Control::Opened(opened) = &mut message {
            opened.stream = 2;
        }
        tunnel.client.handle(tunnel.now, Transmit::Control(message));
    }
    let Some(Transmit::Data { stream: 2, payload }) = tunnel.client.poll_transmit(tunnel.now)
    else {
        panic!("nothing is repeated")
    };
    tunnel.agent.handle(tunnel.now, Transmit::Data { stream: 1, payload });
    assert_eq!(tunnel.agent.read(tunnel.now, key).0, b"under way");
}
