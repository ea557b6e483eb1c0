//! Clients that speak v2 at an agent that speaks v1.

use codec::v1::{
    self, AgentToRelay, ConnectionReset, InitiateConnectionError, InitiateConnectionOk, StreamData,
};
use codec::v2::{self, Code};
use mux::v2::{Ask, Side, StreamEnd, StreamId};
use serde_json::Value;
use transport::bell::Bell;

use super::*;
use crate::large::Budget;
use crate::routes::{Routes, Settings};

struct Tunnel {
    now: Instant,
    client: Far,
    agent: AgentStandIn,
    routes: Routes<Waiter>,
    asked: u64,
}

impl Tunnel {
    fn new() -> Self {
        let now = Instant::now();
        let settings = Settings { keep_alive_interval: None, ..Settings::default() };
        Self {
            now,
            client: Far::new(now, Side::Opener),
            agent: AgentStandIn::new(now, Bell::default()),
            routes: Routes::new(now, settings, Budget::new(1 << 24)),
            asked: 0,
        }
    }

    /// The client asks; gives the stream and its id on the agent's link.
    fn ask(&mut self) -> (StreamKey, String) {
        self.asked += 1;
        let id = StreamId::new(format!("00000000-0000-4000-8000-{:012}", self.asked));
        let ask = Ask {
            agent: "a".into(),
            host: "host".into(),
            port: 22,
            protocol: "tcp".into(),
            principal: Some("client".into()),
        };
        let key = self.client.endpoint.open(self.now, id, ask, (Quiet, Quiet));
        self.run();
        let message = self.agent_gets().expect("it is asked");
        assert_eq!(message["kind"], "initiate_connection");
        assert_eq!((&message["target_ip"], &message["target_port"]), (&"host".into(), &22.into()));
        (key, message["connection_id"].as_str().expect("an id").to_owned())
    }

    /// The client asks, and the target answers.
    fn open(&mut self) -> (StreamKey, String) {
        let (key, id) = self.ask();
        self.hear_ok(&id);
        assert!(matches!(self.client.endpoint.room(key), Room::Ready(_)));
        (key, id)
    }

    fn run(&mut self) {
        loop {
            let mut is_idle = !self.agent.step(self.now, &mut self.routes);
            while let Some(transmit) = self.client.poll(self.now) {
                self.agent.handle(self.now, transmit, &mut self.routes);
                is_idle = false;
            }
            while let Some(transmit) = self.agent.poll_transmit(self.now) {
                self.client.handle(self.now, transmit);
                is_idle = false;
            }
            if is_idle {
                while self.client.endpoint.poll_event().is_some() {}
                return;
            }
        }
    }

    fn hear(&mut self, message: AgentToRelay) {
        self.routes.handle_text(self.now, &v1::encode(&message)).expect("a message");
        self.run();
    }

    fn hear_ok(&mut self, id: &str) {
        let connection_id = id.to_owned();
        self.hear(AgentToRelay::InitiateConnectionOk(InitiateConnectionOk { connection_id }));
    }

    fn hear_data(&mut self, id: &str, bytes: &[u8]) {
        let (connection_id, data_base64) = (id.to_owned(), v1::base64::encode(bytes));
        self.hear(AgentToRelay::TcpData(StreamData { connection_id, data_base64 }));
    }

    fn hear_reset(&mut self, id: &str, message: &str) {
        let (connection_id, message) = (id.to_owned(), message.to_owned());
        self.hear(AgentToRelay::ConnectionReset(ConnectionReset { message, connection_id }));
    }

    /// The next message for the agent, without its envelope.
    fn agent_gets(&mut self) -> Option<Value> {
        let text = self.routes.poll_transmit(self.now)?;
        self.run();
        let mut value: Value = serde_json::from_str(&text).expect("JSON");
        Some(value["inner"].take())
    }

    /// The bytes of the next message.
    fn agent_gets_data(&mut self) -> Vec<u8> {
        let message = self.agent_gets().expect("data");
        assert_eq!(message["kind"], "tcp_data", "{message}");
        let mut bytes = Vec::new();
        let text = message["data_base64"].as_str().expect("base64");
        v1::base64::decode_append(text, &mut bytes).expect("base64");
        bytes
    }

    fn check_closed(&mut self) {
        let message = self.agent_gets().expect("the end");
        assert_eq!(message["kind"], "connection_close", "{message}");
        assert_eq!(self.agent_gets(), None, "once");
    }

    fn client_reads(&mut self, key: StreamKey) -> (Vec<u8>, Option<Read>) {
        let read = self.client.read(self.now, key);
        self.run();
        read
    }

    fn client_end(&self, key: StreamKey) -> Option<&StreamEnd> {
        self.client.endpoint.end(key)
    }

    fn check_reset(&self, key: StreamKey, expected: Code) {
        match self.client_end(key) {
            Some(StreamEnd::Reset { code, .. }) => assert_eq!(*code, expected),
            other => panic!("{other:?}"),
        }
    }

    /// Lets time pass, with what is due meanwhile.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let dues = [self.agent.poll_timeout(), self.routes.poll_timeout()];
            let Some(due) = dues.into_iter().flatten().min().filter(|due| *due <= end) else {
                break;
            };
            self.now = self.now.max(due);
            self.routes.handle_timeout(self.now);
            self.agent.handle_timeout(self.now, &mut self.routes);
            self.run();
        }
        self.now = end;
    }

    /// Nothing is left of any stream.
    fn check_over(&self) {
        assert!(self.agent.is_empty(), "{:?}", self.agent);
        assert_eq!(self.routes.stream_count(), 0);
    }
}

#[test]
fn a_stream_passes_both_ways_and_ends_well() {
    let mut tunnel = Tunnel::new();
    let (key, id) = tunnel.ask();
    tunnel.client.write(key, b"early");
    tunnel.run();
    assert_eq!(tunnel.agent_gets(), None, "it waits for the answer");
    tunnel.hear_ok(&id);
    assert_eq!(tunnel.agent_gets_data(), b"early");
    tunnel.hear_data(&id, b"banner");
    assert_eq!(tunnel.client_reads(key).0, b"banner");
    tunnel.hear_data(&id, b"bye");
    tunnel.hear_reset(&id, v1::TARGET_CLOSED_MESSAGE);
    assert_eq!(tunnel.client_reads(key), (b"bye".to_vec(), Some(Read::Finished)));
    tunnel.check_closed();
    tunnel.client.endpoint.finish(key);
    tunnel.run();
    assert_eq!(tunnel.client_end(key), Some(&StreamEnd::Done));
    tunnel.check_over();
}

#[test]
fn what_counts_as_consumed_was_written_to_the_agent_s_link() {
    let mut tunnel = Tunnel::new();
    let (key, id) = tunnel.open();
    tunnel.client.write(key, b"request");
    tunnel.client.endpoint.finish(key);
    tunnel.run();
    tunnel.hear_reset(&id, v1::TARGET_CLOSED_MESSAGE);
    // The agent is gone from the stream, and its link has not taken the request.
    assert_eq!(tunnel.client_end(key), None, "first it gets the target's end");
    assert_eq!(tunnel.client_reads(key), (vec![], Some(Read::Finished)));
    tunnel.check_reset(key, Code::PeerReset);
    tunnel.check_closed();
    tunnel.check_over();

    let (key, id) = tunnel.open();
    tunnel.client.write(key, b"request");
    tunnel.client.endpoint.finish(key);
    tunnel.run();
    assert_eq!(tunnel.agent_gets_data(), b"request");
    tunnel.hear_reset(&id, v1::TARGET_CLOSED_MESSAGE);
    assert_eq!(tunnel.client_reads(key), (vec![], Some(Read::Finished)));
    assert_eq!(tunnel.client_end(key), Some(&StreamEnd::Done));
    tunnel.check_closed();
    tunnel.check_over();
}

#[test]
fn bytes_that_come_behind_the_target_s_end_reach_nobody() {
    let mut tunnel = Tunnel::new();
    let (key, id) = tunnel.open();
    tunnel.hear_data(&id, b"bye");
    tunnel.hear_reset(&id, v1::TARGET_CLOSED_MESSAGE);
    tunnel.client.write(key, b"too late");
    tunnel.run();
    assert_eq!(tunnel.client_end(key), None);
    assert_eq!(tunnel.client_reads(key), (b"bye".to_vec(), Some(Read::Finished)));
    tunnel.check_reset(key, Code::PeerReset);
    tunnel.check_over_but_for_close();
}

#[test]
fn a_refusal_becomes_a_code() {
    let mut tunnel = Tunnel::new();
    for (text, expected) in [
        ("[Errno 111] Connect call failed ('127.0.0.1', 22)", Code::ConnectRefused),
        ("no such thing", Code::Unreachable),
    ] {
        let (key, id) = tunnel.ask();
        let error = InitiateConnectionError { message: text.into(), connection_id: id };
        tunnel.hear(AgentToRelay::InitiateConnectionError(error));
        let message = text.to_owned();
        assert_eq!(tunnel.client_end(key), Some(&StreamEnd::Reset { code: expected, message }));
        tunnel.check_over();
    }
}

#[test]
fn an_agent_that_does_not_answer_in_time_is_told_to_stop() {
    let mut tunnel = Tunnel::new();
    let (key, _) = tunnel.ask();
    tunnel.pass(v1::RELAY_ANSWER_TIMEOUT - SECOND);
    assert_eq!(tunnel.client_end(key), None);
    tunnel.pass(2 * SECOND);
    tunnel.check_reset(key, Code::ConnectTimedOut);
    tunnel.check_closed();
    tunnel.check_over();
}

#[test]
fn a_broken_stream_is_told_behind_its_data() {
    let mut tunnel = Tunnel::new();
    let (key, id) = tunnel.open();
    tunnel.hear_data(&id, b"half");
    tunnel.hear_reset(&id, "broken");
    let (bytes, end) = tunnel.client_reads(key);
    let reset = StreamEnd::Reset { code: Code::PeerReset, message: "broken".into() };
    assert_eq!((bytes, end), (b"half".to_vec(), Some(Read::Over(reset))));
    tunnel.check_closed();
    tunnel.check_over();
}

#[test]
fn a_lost_agent_s_data_still_reaches_its_clients() {
    let mut tunnel = Tunnel::new();
    let (open, id) = tunnel.open();
    let (dialling, _) = tunnel.ask();
    tunnel.hear_data(&id, b"last");
    tunnel.routes.agent_lost(false);
    tunnel.run();
    assert_eq!(tunnel.client_reads(open).0, b"last");
    tunnel.check_reset(open, Code::NotResumable);
    tunnel.check_reset(dialling, Code::NotResumable);
    tunnel.check_over();
}

#[test]
fn a_client_that_finishes_waits_for_the_answer_and_not_for_ever() {
    let mut tunnel = Tunnel::new();
    let (key, id) = tunnel.open();
    tunnel.client.write(key, b"request");
    tunnel.client.endpoint.finish(key);
    tunnel.run();
    assert_eq!(tunnel.agent_gets_data(), b"request");
    assert_eq!(tunnel.agent_gets(), None, "v1 has no half-close");
    tunnel.pass(v2::FINISH_LINGER - SECOND);
    tunnel.hear_data(&id, b"part of an answer");
    tunnel.pass(v2::FINISH_LINGER - SECOND);
    assert_eq!(tunnel.client_end(key), None, "it was not silent");
    assert_eq!(tunnel.client_reads(key).0, b"part of an answer");
    tunnel.pass(v2::FINISH_LINGER);
    // Whether there was more to come is not known.
    tunnel.check_reset(key, Code::ProtocolUnsupported);
    tunnel.check_closed();
    tunnel.check_over();
}

#[test]
fn a_client_that_resets_is_heard_and_then_ends_the_agent_s_stream() {
    let mut tunnel = Tunnel::new();
    let (key, _) = tunnel.open();
    tunnel.client.write(key, b"last");
    tunnel.run();
    tunnel.client.endpoint.reset(tunnel.now, key, Code::PeerReset, "enough");
    tunnel.run();
    assert_eq!(tunnel.agent_gets_data(), b"last");
    tunnel.check_closed();
    tunnel.check_over();
}

#[test]
fn a_client_without_credit_holds_the_agent_up_for_so_long_and_loses_its_stream() {
    let mut tunnel = Tunnel::new();
    let (stalled, stalled_id) = tunnel.open();
    let (other, other_id) = tunnel.open();
    let mut sent = 0;
    while tunnel.routes.wants_read() {
        tunnel.hear_data(&stalled_id, &[b'x'; 65_536]);
        sent += 65_536;
        assert!(sent < 4 << 20, "the agent's link is not read any more");
    }
    // While there is room elsewhere, the link is read again as soon as the client takes something.
    tunnel.pass(v1::STALL_TIMEOUT - SECOND);
    let some = tunnel.client.endpoint.read(stalled);
    assert!(matches!(some, Read::Data(_)));
    assert_eq!(tunnel.client_end(stalled), None);
    tunnel.pass(2 * SECOND);
    tunnel.check_reset(stalled, Code::Overloaded);
    assert!(tunnel.routes.wants_read());
    tunnel.hear_data(&other_id, b"fine");
    assert_eq!(tunnel.client_reads(other).0, b"fine");
    tunnel.check_closed();
}

#[test]
fn an_agent_that_takes_nothing_holds_the_clients_back() {
    let mut tunnel = Tunnel::new();
    let (key, _) = tunnel.open();
    let mut sent = 0;
    while let Room::Ready(most) = tunnel.client.endpoint.room(key) {
        tunnel.client.write(key, &vec![b'x'; most]);
        sent += most;
        tunnel.run();
        assert!(sent < 4 << 20, "it is granted no more");
    }
    let mut got = 0;
    while got < sent {
        got += tunnel.agent_gets_data().len();
    }
    assert!(matches!(tunnel.client.endpoint.room(key), Room::Ready(_)));
}

#[test]
fn a_client_that_lost_its_link_finds_its_stream_again() {
    let mut tunnel = Tunnel::new();
    let (key, id) = tunnel.open();
    tunnel.hear_data(&id, b"seen");
    assert_eq!(tunnel.client_reads(key).0, b"seen");
    tunnel.client.endpoint.link_lost(tunnel.now, tunnel.client.link);
    let lost = v2::Control::Interrupted(v2::Interrupted { stream: 1, code: None, message: None });
    tunnel.agent.handle(tunnel.now, Transmit::Control(lost), &mut tunnel.routes);
    tunnel.hear_data(&id, b"meanwhile");
    tunnel.client.link = tunnel.client.endpoint.connect(tunnel.now, None, Quiet);
    // The numbers of the agent's side go on, those of the new link begin anew.
    let Some(Transmit::Control(v2::Control::Resume(mut resume))) = tunnel.client.poll(tunnel.now)
    else {
        panic!("no resume")
    };
    resume.stream = 2;
    let resume = Transmit::Control(v2::Control::Resume(resume));
    tunnel.agent.handle(tunnel.now, resume, &mut tunnel.routes);
    let mut answers = std::iter::from_fn(|| tunnel.agent.poll_transmit(tunnel.now));
    assert!(
        matches!(answers.next(), Some(Transmit::Control(v2::Control::Opened(it))) if it.stream == 2)
    );
    let Some(Transmit::Data { stream: 2, payload }) = answers.next() else { panic!("no data") };
    assert_eq!(&payload[..], b"meanwhile");
    // What it sends on the new number gets through.
    let data = Transmit::Data { stream: 2, payload: Bytes::from_static(b"on") };
    tunnel.agent.handle(tunnel.now, data, &mut tunnel.routes);
    assert_eq!(tunnel.agent_gets_data(), b"on");
}

#[test]
fn a_client_that_does_not_come_back_is_given_up() {
    let mut tunnel = Tunnel::new();
    let (_, _) = tunnel.open();
    let lost = v2::Control::Interrupted(v2::Interrupted { stream: 1, code: None, message: None });
    tunnel.agent.handle(tunnel.now, Transmit::Control(lost), &mut tunnel.routes);
    tunnel.pass(v2::RESUME_FOR - SECOND);
    assert_eq!(tunnel.agent_gets(), None);
    tunnel.pass(2 * SECOND);
    tunnel.check_closed();
    tunnel.check_over();
}

#[test]
fn shutting_down_ends_everything() {
    let mut tunnel = Tunnel::new();
    let (key, _) = tunnel.open();
    tunnel.agent.shut_down(tunnel.now, &mut tunnel.routes);
    tunnel.run();
    tunnel.check_reset(key, Code::NotResumable);
    tunnel.check_over_but_for_close();
}

impl Tunnel {
    fn check_over_but_for_close(&mut self) {
        self.check_closed();
        self.check_over();
    }
}
