//! What becomes of streams whose link is refused, or away.

use std::time::{Duration, Instant};

use bytes::Bytes;
use codec::v2::{Code, Control, Hello, Interrupted, Opened, Reject, Role};

use super::*;

#[derive(Clone, Debug, Default)]
struct Unheard;

impl Wake for Unheard {
    fn wake(&self) {}
}

fn opener(now: Instant, resume_for: Duration) -> (Endpoint<Unheard>, StreamKey) {
    let settings = Settings { resume_for, ..Settings::default() };
    let mut endpoint = Endpoint::new(now, Side::Opener, settings, 7, Unheard);
    let ask = Ask {
        agent: "workshop".into(),
        host: "localhost".into(),
        port: 22,
        protocol: "tcp".into(),
        principal: None,
    };
    let id = StreamId::new("00000000-0000-4000-8000-000000000001");
    let key = endpoint.open(now, id, ask, (Unheard, Unheard));
    (endpoint, key)
}

fn hello() -> Control {
    Control::Hello(Hello {
        role: Role::Client,
        name: String::new(),
        secret: "s".to_owned().into(),
        instance: "i".into(),
        software: String::new(),
        last_error: None,
        extra: None,
    })
}

/// The attempt of the `open` that goes out on a link, and the bytes behind it.
fn opened_with(now: Instant, endpoint: &mut Endpoint<Unheard>) -> (LinkKey, u32, Vec<u8>) {
    let link = endpoint.connect(now, Some(hello()), Unheard);
    let (mut attempt, mut bytes) = (0, Vec::new());
    while let Some(transmit) = endpoint.poll_transmit(now, link) {
        match transmit {
            Transmit::Control(Control::Open(open)) => attempt = open.attempt,
            Transmit::Control(_) => {}
            Transmit::Data { payload, .. } => bytes.extend_from_slice(&payload),
        }
    }
    (link, attempt, bytes)
}

#[test]
fn an_attempt_on_a_link_that_is_refused_does_not_count() {
    for resume_for in [Duration::ZERO, Duration::from_secs(90)] {
        let now = Instant::now();
        let (mut endpoint, key) = opener(now, resume_for);
        endpoint.write(key, Bytes::from_static(b"early"));
        let (link, attempt, bytes) = opened_with(now, &mut endpoint);
        assert_eq!((attempt, &bytes[..]), (1, &b"early"[..]));
        let reject =
            Reject { code: Code::GoingAway, message: String::new(), retry_after_ms: Some(1000) };
        endpoint.handle_control(now, link, Control::Reject(reject)).unwrap();
        endpoint.link_lost(now, link);
        assert_eq!(endpoint.end(key), None, "{resume_for:?}");
        let (_, attempt, bytes) = opened_with(now, &mut endpoint);
        assert_eq!((attempt, &bytes[..]), (1, &b"early"[..]), "{resume_for:?}");
    }
}

#[test]
fn a_link_that_is_lost_may_have_passed_the_attempt_on() {
    let now = Instant::now();
    let (mut endpoint, key) = opener(now, Duration::from_secs(90));
    endpoint.write(key, Bytes::from_static(b"early"));
    let (link, ..) = opened_with(now, &mut endpoint);
    assert_eq!(endpoint.interrupted_count(), 0);
    endpoint.link_lost(now, link);
    assert_eq!(endpoint.interrupted_count(), 1);
    let (link, attempt, bytes) = opened_with(now, &mut endpoint);
    assert_eq!((attempt, bytes.len()), (2, 0));
    let opened = Opened { stream: 1, received: 0, consumed: 0, limit: 100 };
    endpoint.handle_control(now, link, Control::Opened(opened)).unwrap();
    assert_eq!(endpoint.interrupted_count(), 0);
    let interrupted = Interrupted { stream: 1, code: None, message: None };
    endpoint.handle_control(now, link, Control::Interrupted(interrupted)).unwrap();
    assert_eq!(endpoint.interrupted_count(), 1);
    endpoint.release(now, key);
    assert_eq!(endpoint.interrupted_count(), 0);
}

#[test]
fn a_relay_that_drains_and_passes_nothing_on_costs_no_attempt() {
    let now = Instant::now();
    let (mut endpoint, key) = opener(now, Duration::from_secs(90));
    endpoint.write(key, Bytes::from_static(b"early"));
    let (link, ..) = opened_with(now, &mut endpoint);
    let goaway = codec::v2::Goaway { message: String::new(), reconnect_after_ms: 0 };
    endpoint.handle_control(now, link, Control::Goaway(goaway)).unwrap();
    let refused = |code| Interrupted { stream: 1, code: Some(code), message: None };
    endpoint.handle_control(now, link, Control::Interrupted(refused(Code::GoingAway))).unwrap();
    assert_eq!((endpoint.end(key), endpoint.interrupted_count()), (None, 1));
    let (link, attempt, bytes) = opened_with(now, &mut endpoint);
    assert_eq!((attempt, &bytes[..]), (1, &b"early"[..]));
    endpoint.handle_control(now, link, Control::Interrupted(refused(Code::AgentOffline))).unwrap();
    assert!(matches!(endpoint.end(key), Some(StreamEnd::Refused { .. })));
}

#[test]
fn nobody_waits_for_relays_that_refuse() {
    let now = Instant::now();
    let (mut endpoint, key) = opener(now, Duration::from_secs(90));
    endpoint.give_up_waiting(now, Code::Forbidden, "no");
    let end = StreamEnd::Refused { code: Code::Forbidden, message: "no".into() };
    assert_eq!(endpoint.end(key), Some(&end));
    let (mut endpoint, key) = opener(now, Duration::from_secs(90));
    let (link, ..) = opened_with(now, &mut endpoint);
    endpoint.give_up_waiting(now, Code::Forbidden, "no");
    assert_eq!(endpoint.end(key), None, "it is attached");
    endpoint.link_lost(now, link);
    endpoint.give_up_waiting(now, Code::Forbidden, "no");
    assert_eq!(endpoint.end(key), Some(&StreamEnd::Unconfirmed));
}
