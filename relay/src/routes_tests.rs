use std::cell::Cell;
use std::rc::Rc;

use super::*;
use codec::Secret;
use codec::v1::{ConnectionReset, InitiateConnectionError, InitiateConnectionOk, StreamData};

/// Counts its wake-ups.
#[derive(Clone, Debug, Default)]
struct Count(Rc<Cell<u32>>);

impl Wake for Count {
    fn wake(&self) {
        self.0.set(self.0.get() + 1);
    }
}

/// One agent link under test and its clock.
struct Relay {
    routes: Routes<Count>,
    now: Instant,
}

const OPENED: &str = r#"{"inner":{"kind":"start_ok"}}"#;

impl Relay {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let now = Instant::now();
        let mut settings = Settings { queue_bytes: 100, ..Settings::default() };
        change(&mut settings);
        Self { routes: Routes::new(now, settings, Budget::new(10_000_000)), now }
    }

    fn ask(&mut self, id: &str) -> Count {
        let start = ClientStart {
            connection_target: "agent".into(),
            target_ip: "host".into(),
            target_port: 22,
            protocol: "tcp".into(),
            secret: Secret::from("s".to_owned()),
        };
        let client = Count::default();
        self.routes.open(self.now, id.into(), start, client.clone());
        client
    }

    /// A client asks and the agent's target answers.
    fn open(&mut self, id: &str) {
        self.ask(id);
        assert_eq!(self.agent_gets(), [initiate(id)]);
        self.hear_ok(id);
        assert_eq!(self.client_gets(id), [message(OPENED)]);
    }

    fn hear(&mut self, message: AgentToRelay) {
        self.routes.handle_text(self.now, &v1::encode(&message)).unwrap();
    }

    fn hear_ok(&mut self, id: &str) {
        let connection_id = id.to_owned();
        self.hear(AgentToRelay::InitiateConnectionOk(InitiateConnectionOk { connection_id }));
    }

    fn hear_error(&mut self, id: &str, message: &str) {
        let (message, connection_id) = (message.to_owned(), id.to_owned());
        self.hear(AgentToRelay::InitiateConnectionError(InitiateConnectionError {
            message,
            connection_id,
        }));
    }

    fn hear_reset(&mut self, id: &str, message: &str) {
        let (message, connection_id) = (message.to_owned(), id.to_owned());
        self.hear(AgentToRelay::ConnectionReset(ConnectionReset { message, connection_id }));
    }

    fn hear_data(&mut self, id: &str, bytes: &[u8]) {
        self.hear_base64(id, base64::encode(bytes));
    }

    fn hear_base64(&mut self, id: &str, data_base64: String) {
        let connection_id = id.to_owned();
        self.hear(AgentToRelay::TcpData(StreamData { connection_id, data_base64 }));
    }

    fn client_data(&mut self, id: &str, bytes: &[u8]) {
        self.routes.handle_client_data(self.now, id, base64::encode(bytes).into());
    }

    fn agent_gets(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.routes.poll_transmit(self.now)).collect()
    }

    /// What a client gets now; its end, if it comes, is the last.
    fn client_gets(&mut self, id: &str) -> Vec<ForClient> {
        let mut got = Vec::new();
        loop {
            match self.routes.poll_for_client(id).0 {
                ForClient::Nothing => return got,
                ForClient::End(end) => {
                    got.push(ForClient::End(end));
                    return got;
                }
                message => got.push(message),
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.routes.handle_timeout(self.now);
    }
}

fn message(text: &str) -> ForClient {
    ForClient::Message(text.to_owned())
}

fn client_message(bytes: &[u8]) -> ForClient {
    ForClient::Message(data::encode_client(bytes))
}

fn initiate(id: &str) -> String {
    format!(
        r#"{{"inner":{{"kind":"initiate_connection","target_ip":"host","target_port":22,"protocol":"tcp","connection_id":"{id}"}}}}"#
    )
}

fn close(id: &str) -> String {
    format!(
        r#"{{"inner":{{"kind":"connection_close","message":"Connection closed by relay","connection_id":"{id}"}}}}"#
    )
}

fn nothing() -> Vec<String> {
    Vec::new()
}

/// Spec v1, S-7, X-4 and X-5.
#[test]
fn bytes_flow_both_ways_and_a_clean_end_comes_behind_them() {
    let mut relay = Relay::new();
    relay.open("a");
    relay.client_data("a", b"question");
    assert_eq!(relay.agent_gets(), [data::encode_agent("a", b"question")]);
    relay.hear_data("a", b"answer");
    relay.hear_reset("a", v1::TARGET_CLOSED_MESSAGE);
    assert_eq!(
        relay.client_gets("a"),
        [client_message(b"answer"), ForClient::End(ClientEnd::Finished)]
    );
    relay.routes.client_finished(relay.now, "a");
    assert_eq!(relay.agent_gets(), [close("a")], "told once");
    assert_eq!(relay.routes.stream_count(), 0);
}

/// Spec v1, C-9 and S-8.
#[test]
fn data_before_the_answer_is_kept_in_order_both_ways() {
    let mut relay = Relay::new();
    relay.ask("a");
    relay.client_data("a", b"early");
    assert_eq!(relay.agent_gets(), [initiate("a")]);
    relay.hear_data("a", b"banner");
    assert_eq!(relay.client_gets("a"), []);
    relay.hear_ok("a");
    assert_eq!(relay.client_gets("a"), [message(OPENED), client_message(b"banner")]);
    assert_eq!(relay.agent_gets(), [data::encode_agent("a", b"early")]);
}

/// Spec v1, S-5.
#[test]
fn a_refusal_reaches_the_client_and_the_agent_hears_no_more() {
    let mut relay = Relay::new();
    relay.ask("a");
    relay.agent_gets();
    relay.hear_error("a", "no route");
    let text = "Error initiating connection: no route".to_owned();
    assert_eq!(relay.client_gets("a"), [ForClient::End(ClientEnd::Refused(text))]);
    relay.routes.client_finished(relay.now, "a");
    assert_eq!(relay.agent_gets(), nothing());
    relay.hear_ok("a");
    relay.hear_error("a", "again");
    assert_eq!(relay.routes.stream_count(), 0);
}

/// Spec v1, X-17.
#[test]
fn a_reset_instead_of_an_answer_is_a_refusal() {
    let mut relay = Relay::new();
    relay.ask("a");
    relay.hear_data("a", b"never to be seen");
    relay.hear_reset("a", "gone");
    let text = "Error initiating connection: gone".to_owned();
    assert_eq!(relay.client_gets("a"), [ForClient::End(ClientEnd::Refused(text))]);
}

#[test]
fn a_broken_stream_is_no_clean_end() {
    let mut relay = Relay::new();
    relay.open("a");
    relay.hear_reset("a", "Connection reset while writing data");
    let end = ClientEnd::TargetReset("Connection reset while writing data".into());
    assert_eq!(relay.client_gets("a"), [ForClient::End(end)]);
}

/// Spec v1, X-7 and X-12.
#[test]
fn a_client_that_leaves_has_its_bytes_delivered_before_the_close() {
    let mut relay = Relay::new();
    relay.open("a");
    relay.client_data("a", b"1");
    relay.client_data("a", b"2");
    relay.routes.client_finished(relay.now, "a");
    relay.hear_data("a", b"nobody there");
    let (one, two) = (data::encode_agent("a", b"1"), data::encode_agent("a", b"2"));
    assert_eq!(relay.agent_gets(), [one, two, close("a")]);
    assert_eq!(relay.routes.stream_count(), 0);
}

#[test]
fn a_client_that_leaves_before_the_answer_leaves_nothing_behind() {
    for early in [&b""[..], b"early"] {
        let mut relay = Relay::new();
        relay.ask("a");
        if !early.is_empty() {
            relay.client_data("a", early);
        }
        relay.routes.client_finished(relay.now, "a");
        let mut sent = relay.agent_gets();
        relay.hear_ok("a");
        sent.extend(relay.agent_gets());
        let mut expected = vec![initiate("a")];
        if !early.is_empty() {
            expected.push(data::encode_agent("a", early));
        }
        expected.push(close("a"));
        assert_eq!(sent, expected);
        assert_eq!(relay.routes.stream_count(), 0);
    }
}

#[test]
fn a_client_that_left_is_forgotten_when_the_agent_refuses() {
    let mut relay = Relay::new();
    relay.ask("a");
    relay.client_data("a", b"early");
    relay.routes.client_finished(relay.now, "a");
    relay.hear_error("a", "no");
    assert_eq!(relay.agent_gets(), [initiate("a")]);
    assert_eq!(relay.routes.stream_count(), 0);
}

/// Spec v1, X-11 and C-7.
#[test]
fn a_lost_agent_answers_every_client() {
    let mut relay = Relay::new();
    let waiting = relay.ask("a");
    relay.agent_gets();
    relay.open("b");
    relay.hear_data("b", b"tail");
    relay.hear_reset("b", v1::TARGET_CLOSED_MESSAGE);
    relay.open_quietly("c");
    relay.hear_data("c", b"tail");
    relay.routes.agent_lost(false);
    assert!(waiting.0.get() > 0);
    let text = "Error initiating connection: agent disconnected".to_owned();
    assert_eq!(relay.client_gets("a"), [ForClient::End(ClientEnd::Refused(text.clone()))]);
    assert_eq!(
        relay.client_gets("b"),
        [client_message(b"tail"), ForClient::End(ClientEnd::Finished)]
    );
    assert_eq!(
        relay.client_gets("c"),
        [client_message(b"tail"), ForClient::End(ClientEnd::AgentLost)]
    );
    relay.ask("d");
    assert_eq!(relay.client_gets("d"), [ForClient::End(ClientEnd::Refused(text))]);
    for id in ["a", "b", "c", "d"] {
        relay.routes.client_finished(relay.now, id);
    }
    assert_eq!(relay.routes.stream_count(), 0);
    assert_eq!(relay.agent_gets(), nothing());
}

impl Relay {
    /// Opens a stream while others have messages under way.
    fn open_quietly(&mut self, id: &str) {
        self.ask(id);
        self.hear_ok(id);
        self.agent_gets();
        self.client_gets(id);
    }
}

#[test]
fn ids_that_are_unknown_change_nothing() {
    let mut relay = Relay::new();
    relay.open("a");
    relay.hear_ok("x");
    relay.hear_error("x", "no");
    relay.hear_reset("A", "no");
    relay.hear_data("x", b"x");
    relay.client_data("x", b"x");
    relay.routes.client_finished(relay.now, "x");
    assert_eq!((relay.agent_gets(), relay.client_gets("a")), (nothing(), vec![]));
}

/// Spec v1, S-12 and S-16.
#[test]
fn base64_of_other_spellings_is_rewritten_and_nonsense_ends_its_stream() {
    let mut relay = Relay::new();
    relay.open("a");
    assert_eq!(canonical("aG\nVs bG8=").unwrap(), "aGVsbG8=");
    canonical("A").unwrap_err();
    relay.hear_base64("a", "aGVs\nbG8=".into());
    relay.hear_base64("a", "A".into());
    let end = ClientEnd::TargetReset("the agent sent no base64".into());
    assert_eq!(relay.client_gets("a"), [client_message(b"hello"), ForClient::End(end)]);
    assert_eq!(relay.agent_gets(), [close("a")]);
}

/// Spec v1, S-17 and L-9.
#[test]
fn a_client_that_takes_nothing_is_cut_alone() {
    let mut relay = Relay::new();
    relay.open("a");
    relay.open("b");
    relay.hear_data("a", &[1; 90]);
    relay.hear_data("a", &[2; 90]);
    assert!(!relay.routes.wants_read());
    assert_eq!(relay.routes.poll_timeout(), Some(relay.now + v1::STALL_TIMEOUT));
    relay.pass(v1::STALL_TIMEOUT / 2);
    relay.routes.client_progress(relay.now, "a");
    relay.pass(v1::STALL_TIMEOUT / 2);
    assert!(!relay.routes.wants_read(), "a slow client only slows the link");
    relay.pass(v1::STALL_TIMEOUT / 2);
    assert!(relay.routes.wants_read());
    assert_eq!(relay.client_gets("a"), [ForClient::End(ClientEnd::Stalled)]);
    relay.hear_data("a", b"late");
    relay.hear_data("b", b"fine");
    assert_eq!(relay.client_gets("b"), [client_message(b"fine")]);
    assert_eq!(relay.agent_gets(), [close("a")]);
}

#[test]
fn a_slow_client_gets_everything_in_order() {
    let mut relay = Relay::new();
    relay.open("a");
    relay.hear_data("a", &[1; 90]);
    relay.hear_data("a", &[2; 90]);
    assert!(!relay.routes.wants_read());
    assert_eq!(relay.routes.poll_for_client("a"), (client_message(&[1; 90]), true));
    assert!(relay.routes.wants_read());
    assert_eq!(relay.client_gets("a"), [client_message(&[2; 90])]);
}

#[test]
fn a_client_gone_while_the_link_waits_for_it_sets_the_link_free() {
    let mut relay = Relay::new();
    relay.open("a");
    relay.hear_data("a", &[1; 90]);
    relay.hear_data("a", &[2; 90]);
    relay.routes.client_finished(relay.now, "a");
    assert!(relay.routes.wants_read());
    assert_eq!(relay.agent_gets(), [close("a")]);
}

/// Spec v1, S-11, L-3 and L-5.
#[test]
fn large_messages_are_cut_for_peers_with_small_limits() {
    let mut relay = Relay::with(|settings| settings.queue_bytes = v1::STREAM_QUEUE);
    relay.open("a");
    let bytes: Vec<u8> = (0..3_000_001_u32).map(|byte| (byte % 251) as u8).collect();
    relay.hear_data("a", &bytes);
    let mut got = Vec::new();
    for next in relay.client_gets("a") {
        let ForClient::Message(text) = next else { panic!("{next:?}") };
        assert!(text.len() <= v1::MAX_MESSAGE_TO_CLIENT);
        base64::decode_append(data::scan_client(&text).unwrap(), &mut got).unwrap();
    }
    assert_eq!(got, bytes);

    relay.client_data("a", &bytes);
    assert!(!relay.routes.client_wants_read("a"));
    let mut got = Vec::new();
    for text in relay.agent_gets() {
        assert!(text.len() <= v1::MAX_MESSAGE_TO_AGENT_OLD);
        base64::decode_append(data::scan_agent(&text).unwrap().base64, &mut got).unwrap();
    }
    assert_eq!(got, bytes);
    assert!(relay.routes.client_wants_read("a"));
}

/// Spec v1, L-16.
#[test]
fn a_client_whose_agent_takes_nothing_stalls_unless_the_link_moves() {
    let mut relay = Relay::new();
    relay.open("a");
    relay.client_data("a", &[1; 90]);
    assert_eq!(relay.routes.client_stalled_at("a"), None);
    relay.client_data("a", &[2; 90]);
    assert!(!relay.routes.client_wants_read("a"));
    let due = relay.now + v1::STALL_TIMEOUT;
    assert_eq!(relay.routes.client_stalled_at("a"), Some(due));
    relay.now += v1::STALL_TIMEOUT / 2;
    relay.routes.progress(relay.now);
    assert_eq!(relay.routes.client_stalled_at("a"), Some(relay.now + v1::STALL_TIMEOUT));
    relay.routes.cut("a", ClientEnd::Stalled);
    assert_eq!(relay.client_gets("a"), [ForClient::End(ClientEnd::Stalled)]);
    assert_eq!(relay.agent_gets(), [close("a")], "what the agent did not take is dropped");
}

#[test]
fn a_client_does_not_stall_while_its_agent_dials() {
    // Its data waits for the answer at the relay; the agent is not to blame (spec v1, C-9, L-8 and L-13).
    let mut relay = Relay::new();
    let waiting = relay.ask("a");
    assert_eq!(relay.agent_gets(), [initiate("a")]);
    for _ in 0..2 {
        relay.client_data("a", &[7; 90]);
    }
    assert!(!relay.routes.client_wants_read("a"));
    assert_eq!(relay.routes.client_stalled_at("a"), None);

    relay.now += v1::RELAY_ANSWER_TIMEOUT / 2;
    let woken = waiting.0.get();
    relay.hear_ok("a");
    assert!(waiting.0.get() > woken);
    // From here on the agent could take it.
    assert_eq!(relay.routes.client_stalled_at("a"), Some(relay.now + v1::STALL_TIMEOUT));
    assert_eq!(relay.agent_gets().len(), 2);
    assert!(relay.routes.client_wants_read("a"));
    assert_eq!(relay.routes.client_stalled_at("a"), None);
}

#[test]
fn streams_take_turns() {
    let mut relay = Relay::with(|settings| settings.queue_bytes = 1000);
    relay.open("a");
    relay.open("b");
    for bytes in [b"1", b"2"] {
        relay.client_data("a", bytes);
    }
    relay.client_data("b", b"3");
    let expected = [("a", b"1"), ("b", b"3"), ("a", b"2")];
    assert_eq!(relay.agent_gets(), expected.map(|(id, bytes)| data::encode_agent(id, bytes)));
}

/// Spec v1, K-7 and K-9.
#[test]
fn keep_alives_come_every_interval_unless_switched_off() {
    let interval = v1::RELAY_KEEP_ALIVE_INTERVAL;
    let mut relay = Relay::new();
    relay.pass(interval - Duration::from_secs(1));
    assert_eq!(relay.agent_gets(), nothing());
    for _ in 0..3 {
        relay.pass(interval);
        assert_eq!(relay.agent_gets(), [r#"{"inner":{"kind":"keep_alive"}}"#]);
    }
    let mut relay = Relay::with(|settings| settings.keep_alive_interval = None);
    relay.pass(100 * interval);
    assert_eq!((relay.agent_gets(), relay.routes.poll_timeout()), (nothing(), None));
}

/// Spec v1, X-8.
#[test]
fn agents_of_old_revisions_never_see_a_connection_close() {
    let mut relay = Relay::with(|settings| settings.sends_connection_close = false);
    relay.open("a");
    relay.routes.client_finished(relay.now, "a");
    relay.open("b");
    relay.hear_reset("b", "broken");
    relay.routes.client_finished(relay.now, "b");
    assert_eq!((relay.agent_gets(), relay.routes.stream_count()), (nothing(), 0));
}

#[test]
fn an_agent_that_takes_no_requests_is_spared_more_of_them() {
    let mut relay = Relay::new();
    for number in 0..MAX_CONTROL / 2 {
        let id = number.to_string();
        relay.ask(&id);
        relay.routes.client_finished(relay.now, &id);
    }
    relay.ask("late");
    let [ForClient::End(ClientEnd::Refused(text))] = &relay.client_gets("late")[..] else {
        panic!("not refused");
    };
    assert!(text.contains("takes no requests"));
}

#[test]
fn repeated_starts_and_keep_alives_change_nothing_and_nonsense_is_an_error() {
    let mut relay = Relay::new();
    relay.open("a");
    for text in [r#"{"inner":{"kind":"start"}}"#, r#"{"inner":{"kind":"keep_alive"}}"#] {
        relay.routes.handle_text(relay.now, text).unwrap();
    }
    for text in ["", r#"{"inner":{"kind":"start_ok"}}"#, r#"{"inner":{"kind":"tcp_data"}}"#] {
        relay.routes.handle_text(relay.now, text).unwrap_err();
    }
    assert_eq!((relay.agent_gets(), relay.client_gets("a")), (nothing(), vec![]));
}

/// Spec v1, L-15.
#[test]
fn messages_that_do_not_fit_share_one_budget_and_give_it_back() {
    let mut relay = Relay::new();
    relay.routes.budget = Budget::new(1000);
    for id in ["a", "b", "c"] {
        relay.open(id);
    }
    relay.client_data("a", &[0; 90]);
    relay.client_data("a", &[0; 600]);
    assert!(!relay.routes.client_wants_read("a"));
    relay.client_data("b", &[0; 90]);
    relay.client_data("b", &[0; 600]);
    assert!(relay.routes.is_cut("b"), "800 of 1000 bytes are taken");
    relay.agent_gets();
    relay.client_data("c", &[0; 90]);
    relay.client_data("c", &[0; 600]);
    assert!(!relay.routes.is_cut("c"), "the agent has taken what was held");
    relay.routes.client_finished(relay.now, "c");
    relay.agent_gets();
    assert!(relay.routes.budget.reserve(1000).is_some());
}

#[test]
fn clients_that_stand_still_together_are_given_up_together() {
    let mut relay = Relay::new();
    for id in ["a", "b"] {
        relay.open(id);
        relay.hear_data(id, &[1; 60]);
    }
    relay.hear_data("a", &[2; 60]);
    relay.hear_data("a", &[3; 60]);
    assert!(!relay.routes.wants_read());
    relay.pass(v1::STALL_TIMEOUT);
    assert!(relay.routes.wants_read());
    assert_eq!(relay.agent_gets(), [close("a")]);
    relay.hear_data("b", &[2; 60]);
    relay.hear_data("b", &[3; 60]);
    assert!(!relay.routes.wants_read());
    assert_eq!(relay.routes.poll_timeout(), Some(relay.now), "it has had its time");
    relay.pass(Duration::ZERO);
    assert!(relay.routes.wants_read());
    assert_eq!(relay.client_gets("b"), [ForClient::End(ClientEnd::Stalled)]);
}

#[test]
fn an_agents_text_is_cut_to_what_clients_take() {
    let long = "\u{e9}".repeat(v1::MAX_ERROR_TEXT);
    let mut relay = Relay::new();
    relay.ask("a");
    relay.hear_error("a", &long);
    let [ForClient::End(ClientEnd::Refused(text))] = &relay.client_gets("a")[..] else {
        panic!("the client is refused");
    };
    assert!(text.len() <= v1::MAX_ERROR_TEXT + v1::ERROR_INITIATE_PREFIX.len());
    assert!(text.ends_with('\u{e9}'));
}

#[test]
fn what_a_client_left_behind_waits_for_the_agents_answer_but_not_for_ever() {
    let mut relay = Relay::with(|settings| settings.keep_alive_interval = None);
    for id in ["a", "b"] {
        relay.ask(id);
        relay.client_data(id, b"first words");
        relay.routes.client_finished(relay.now, id);
    }
    assert_eq!(relay.agent_gets(), [initiate("a"), initiate("b")]);
    relay.hear_ok("a");
    assert_eq!(relay.agent_gets(), [data::encode_agent("a", b"first words"), close("a")]);
    assert_eq!(relay.routes.poll_timeout(), Some(relay.now + v1::RELAY_ANSWER_TIMEOUT));
    relay.pass(v1::RELAY_ANSWER_TIMEOUT);
    assert_eq!(relay.agent_gets(), [close("b")]);
    assert_eq!(relay.routes.stream_count(), 0);
    assert_eq!(relay.routes.poll_timeout(), None);
}
