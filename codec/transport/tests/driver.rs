//! The driver against a peer that does what a polite one never would, on a made-up clock.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use codec::v1;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use transport::bell::Bell;
use transport::driver::{Close, Ended, Outgoing, Party, drive, no_binary};
use transport::socket::Socket;
use transport::websocket::{Role, Sizes, websocket};

/// A core that notes what it hears and does what it is told.
#[derive(Default)]
struct Script {
    heard: Vec<String>,
    /// Messages to send.
    sends: VecDeque<String>,
    /// How to close once everything is sent.
    close: Option<Close>,
    /// Reads no more once this many messages came.
    reads: Option<usize>,
    /// Pings to send behind the messages.
    pings: VecDeque<u64>,
    pongs: Vec<u64>,
    /// How to close although the peer takes nothing.
    abandon: Option<Close>,
    patient: bool,
    /// Bytes of an incomplete message that are too many.
    most: Option<u64>,
    ends: Vec<Ended>,
    /// Rung when the end was told.
    told: Bell,
}

impl Party for Script {
    fn handle_text(&mut self, _now: Instant, text: &str) -> Result<(), Close> {
        self.heard.push(text.to_owned());
        if text == "bad" { Err(Close::new(v1::CLOSE_INVALID, "no message")) } else { Ok(()) }
    }

    fn receiving(&mut self, bytes: u64) -> Result<(), Close> {
        let is_too_big = self.most.is_some_and(|most| bytes > most);
        if is_too_big { Err(Close::new(v1::CLOSE_TOO_BIG, "")) } else { Ok(()) }
    }

    fn handle_binary(&mut self, _now: Instant, _message: Bytes) -> Result<(), Close> {
        Err(no_binary())
    }

    fn wants_read(&mut self) -> bool {
        self.reads.is_none_or(|reads| self.heard.len() < reads)
    }

    fn is_started(&mut self) -> bool {
        !self.heard.is_empty()
    }

    fn poll_transmit(&mut self, _now: Instant) -> Option<Outgoing> {
        self.sends.pop_front().map(Outgoing::Text)
    }

    fn poll_ping(&mut self) -> Option<u64> {
        self.pings.pop_front()
    }

    fn handle_pong(&mut self, _now: Instant, payload: u64) {
        self.pongs.push(payload);
    }

    fn poll_close(&mut self, _now: Instant) -> Option<Close> {
        self.close.clone()
    }

    fn poll_abandon(&mut self, _now: Instant) -> Option<Close> {
        self.abandon.clone()
    }

    fn handle_end(&mut self, ended: &Ended) {
        self.ends.push(ended.clone());
        self.told.ring();
    }

    fn is_patient(&self) -> bool {
        self.patient
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        None
    }

    fn handle_timeout(&mut self, _now: Instant) {}
}

type Peer = WebSocketStream<DuplexStream>;

/// Starts a driver in the server's seat; gives the far end of its socket.
fn start(mut script: Script, buffer: usize) -> (DuplexStream, JoinHandle<(Ended, Script)>) {
    let (near, far) = tokio::io::duplex(buffer);
    let driving = tokio::spawn(async move {
        let sizes = Sizes { max_message: 1000, before_start: Some(500) };
        let socket = websocket(Socket::boxed(near), &[], Role::Server, sizes).await;
        let stop = std::future::pending();
        let ended = drive(socket, &mut script, &Bell::default(), stop).await;
        assert_eq!(script.ends.len(), 1, "the end is told once");
        assert!(script.patient || script.ends[0] == ended, "{:?}", script.ends);
        (ended, script)
    });
    (far, driving)
}

async fn peer(far: DuplexStream) -> Peer {
    WebSocketStream::from_raw_socket(far, Role::Client, None).await
}

/// The code of the close frame that comes next.
async fn close_code(peer: &mut Peer) -> Option<u16> {
    loop {
        match peer.next().await {
            Some(Ok(Message::Close(frame))) => return frame.map(|frame| frame.code.into()),
            Some(Ok(_)) => {}
            _ => return None,
        }
    }
}

/// Spec v1, X-2.
#[tokio::test(start_paused = true)]
async fn messages_go_both_ways_and_the_peers_close_is_answered() {
    let script = Script { sends: ["one".into(), "two".into()].into(), ..Script::default() };
    let (far, driving) = start(script, 1 << 16);
    let mut peer = peer(far).await;
    for expected in ["one", "two"] {
        assert_eq!(peer.next().await.unwrap().unwrap(), Message::text(expected));
    }
    peer.send(Message::text("hello")).await.unwrap();
    let frame = Close::new(3001, "done");
    peer.close(Some(tokio_tungstenite::tungstenite::protocol::CloseFrame {
        code: frame.code.into(),
        reason: frame.reason.as_ref().into(),
    }))
    .await
    .unwrap();
    assert_eq!(close_code(&mut peer).await, Some(3001));
    assert!(peer.next().await.is_none(), "the server ends the connection");
    let (ended, script) = driving.await.unwrap();
    assert_eq!(ended, Ended::Peer { code: Some(3001), reason: "done".into() });
    assert_eq!(script.heard, ["hello"]);
}

/// Spec v1, X-3.
#[tokio::test(start_paused = true)]
async fn a_local_close_comes_behind_everything_sent_and_waits_for_no_silent_peer() {
    let close = Close::new(v1::CLOSE_NORMAL, "");
    let script =
        Script { sends: ["last".into()].into(), close: Some(close.clone()), ..Script::default() };
    let (mut far, driving) = start(script, 1 << 16);
    let before = tokio::time::Instant::now();
    let (ended, _) = driving.await.unwrap();
    assert_eq!(ended, Ended::Local(close));
    assert!(before.elapsed() <= 2 * v1::CLOSE_TIMEOUT, "{:?}", before.elapsed());
    let mut sent = Vec::new();
    far.read_to_end(&mut sent).await.unwrap();
    assert_eq!(sent, [&b"\x81\x04last\x88\x02\x03\xe8"[..]].concat());
}

#[tokio::test(start_paused = true)]
async fn stopping_closes_a_link_at_once() {
    let (near, far) = tokio::io::duplex(1 << 16);
    let driving = tokio::spawn(async move {
        let sizes = Sizes { max_message: 1000, before_start: None };
        let socket = websocket(Socket::boxed(near), &[], Role::Server, sizes).await;
        let stop = async { Close::new(v1::CLOSE_RESTART, "") };
        drive(socket, &mut Script::default(), &Bell::default(), stop).await
    });
    let mut peer = peer(far).await;
    assert_eq!(close_code(&mut peer).await, Some(v1::CLOSE_RESTART));
    assert_eq!(driving.await.unwrap(), Ended::Local(Close::new(v1::CLOSE_RESTART, "")));
}

/// What the peer writes, as raw bytes, and the code it is closed with.
async fn check_violation(bytes: &[u8], code: u16) {
    let (mut far, driving) = start(Script::default(), 1 << 16);
    far.write_all(bytes).await.unwrap();
    let (ended, _) = driving.await.unwrap();
    let Ended::Violation(close) = ended else { panic!("{bytes:?}: {ended:?}") };
    assert_eq!(close.code, code, "{bytes:?}");
    let mut answer = Vec::new();
    far.read_to_end(&mut answer).await.unwrap();
    let [high, low] = code.to_be_bytes();
    assert_eq!((answer[0], &answer[2..4]), (0x88, &[high, low][..]), "{bytes:?}");
}

/// A frame as a client sends it, masked with zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    assert!(length < 126);
    [&[first, 0x80 | length, 0, 0, 0, 0], payload].concat()
}

/// Spec v1, M-6, M-10 and X-15.
#[tokio::test(start_paused = true)]
async fn broken_rules_end_the_link_with_their_code() {
    check_violation(&frame(0x81, b"bad"), v1::CLOSE_INVALID).await;
    check_violation(&frame(0x82, b"binary"), v1::CLOSE_UNSUPPORTED).await;
    check_violation(&frame(0x81, b"\xff\xfe"), v1::CLOSE_INVALID).await;
    check_violation(b"\x81\x02hi", v1::CLOSE_PROTOCOL).await; // not masked
    check_violation(&frame(0x83, b""), v1::CLOSE_PROTOCOL).await; // reserved opcode
    check_violation(&frame(0xc1, b"x"), v1::CLOSE_PROTOCOL).await; // reserved bit
    check_violation(&frame(0x80, b"x"), v1::CLOSE_PROTOCOL).await; // stray continuation
    check_violation(&frame(0x09, b""), v1::CLOSE_PROTOCOL).await; // fragmented ping
    // Too big by its header alone: nothing of it has to arrive.
    check_violation(b"\x81\xfe\x03\xe9\x00\x00\x00\x00", v1::CLOSE_TOO_BIG).await;
    check_violation(&[&[0x81, 0xff, 0x7f][..], &[0xff; 11]].concat(), v1::CLOSE_TOO_BIG).await;
}

#[tokio::test(start_paused = true)]
async fn before_the_start_little_is_read_and_after_it_more() {
    let (far, driving) = start(Script::default(), 1 << 16);
    let mut peer = peer(far).await;
    peer.send(Message::text("x".repeat(400))).await.unwrap();
    for _ in 0..3 {
        peer.send(Message::text("y".repeat(900))).await.unwrap();
    }
    peer.close(None).await.unwrap();
    assert_eq!(driving.await.unwrap().1.heard.len(), 4);

    // Nor does it help to send what is no message.
    let (far, driving) = start(Script::default(), 1 << 16);
    let mut peer = WebSocketStream::from_raw_socket(far, Role::Client, None).await;
    for _ in 0..50 {
        peer.feed(Message::Ping(vec![0; 125].into())).await.unwrap();
    }
    peer.flush().await.unwrap();
    assert_eq!(close_code(&mut peer).await, Some(v1::CLOSE_TOO_BIG));
    assert!(driving.await.unwrap().1.heard.is_empty());
}

/// Spec v1, K-1 to K-3.
#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_pinged_and_then_given_up() {
    let (mut far, driving) = start(Script::default(), 1 << 16);
    let before = tokio::time::Instant::now();
    let mut ping = [0; 6];
    far.read_exact(&mut ping).await.unwrap();
    assert_eq!((ping[0], before.elapsed()), (0x89, v1::PING_INTERVAL));
    let (ended, _) = driving.await.unwrap();
    let Ended::Violation(close) = ended else { panic!("{ended:?}") };
    assert_eq!((close.code, &*close.reason), (v1::CLOSE_PING_TIMEOUT, v1::REASON_PING_TIMEOUT));
    assert!(before.elapsed() >= v1::PING_INTERVAL + v1::PONG_TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_answers_pings_stays() {
    let (far, driving) = start(Script::default(), 1 << 16);
    let mut peer = peer(far).await;
    let reading = async { while peer.next().await.is_some() {} };
    tokio::time::timeout(Duration::from_secs(600), reading).await.unwrap_err();
    assert!(!driving.is_finished());
    peer.close(None).await.unwrap();
    assert!(matches!(driving.await.unwrap().0, Ended::Peer { code: None, .. }));
}

#[tokio::test(start_paused = true)]
async fn a_connection_cut_without_a_close_frame_is_lost() {
    let (far, driving) = start(Script::default(), 1 << 16);
    drop(far);
    assert_eq!(driving.await.unwrap().0, Ended::Lost("the connection was closed".into()));
}

#[tokio::test(start_paused = true)]
async fn a_paused_party_is_not_read_for_but_its_peer_is_not_given_up_either() {
    let script = Script { reads: Some(2), ..Script::default() };
    let (far, driving) = start(script, 1 << 16);
    let mut peer = peer(far).await;
    for text in ["1", "2", "3"] {
        peer.send(Message::text(text)).await.unwrap();
    }
    tokio::time::timeout(Duration::from_secs(3600), async { while peer.next().await.is_some() {} })
        .await
        .unwrap_err();
    assert!(!driving.is_finished());
    driving.abort();
}

#[tokio::test(start_paused = true)]
async fn a_ping_behind_the_data_comes_back_as_its_pong() {
    let script = Script { sends: ["data".into()].into(), pings: [7].into(), ..Script::default() };
    let (far, driving) = start(script, 1 << 16);
    let mut peer = peer(far).await;
    assert_eq!(peer.next().await.unwrap().unwrap(), Message::text("data"));
    let Message::Ping(payload) = peer.next().await.unwrap().unwrap() else { panic!("no ping") };
    assert_eq!(payload, 7_u64.to_be_bytes()[..]);
    peer.flush().await.unwrap();
    peer.close(None).await.unwrap();
    while peer.next().await.is_some() {}
    assert_eq!(driving.await.unwrap().1.pongs, [7]);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_nothing_holds_the_end_up_for_a_bounded_time_only() {
    let script = Script {
        sends: (0..10).map(|_| "x".repeat(100)).collect(),
        close: Some(Close::new(v1::CLOSE_NORMAL, "")),
        ..Script::default()
    };
    let (_far, driving) = start(script, 64);
    let before = tokio::time::Instant::now();
    let (ended, _) = driving.await.unwrap();
    assert!(matches!(ended, Ended::Local(_)));
    assert!(before.elapsed() <= 3 * v1::CLOSE_TIMEOUT, "{:?}", before.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_link_to_be_abandoned_does_not_wait_for_a_peer_that_takes_nothing() {
    let close = Close::new(v1::CLOSE_STALLED, "");
    let script = Script {
        sends: (0..10_000).map(|_| "x".repeat(100)).collect(),
        abandon: Some(close.clone()),
        ..Script::default()
    };
    let (_far, driving) = start(script, 64);
    let before = tokio::time::Instant::now();
    let (ended, _) = driving.await.unwrap();
    assert_eq!(ended, Ended::Local(close));
    assert!(before.elapsed() <= 2 * v1::CLOSE_TIMEOUT, "{:?}", before.elapsed());
}

/// Spec v1, X-3.
#[tokio::test(start_paused = true)]
async fn the_end_is_told_although_the_peer_leaves_its_connection_open() {
    let told = Bell::default();
    let (far, driving) = start(Script { told: told.clone(), ..Script::default() }, 1 << 16);
    let mut peer = peer(far).await;
    peer.send(Message::Close(None)).await.unwrap();
    told.rung().await;
    assert!(!driving.is_finished());
    driving.abort();
}

/// Spec v1, X-19.
#[tokio::test(start_paused = true)]
async fn a_slow_peer_has_time_to_read_up_to_the_close_frame() {
    let close = Close::new(v1::CLOSE_NORMAL, "");
    let script = Script { close: Some(close.clone()), patient: true, ..Script::default() };
    let (far, driving) = start(script, 1 << 16);
    let mut peer = peer(far).await;
    // The peer pings as it always does, and reads nothing for minutes.
    for _ in 0..20 {
        tokio::time::sleep(v1::PING_INTERVAL).await;
        peer.send(Message::Ping(vec![1].into())).await.unwrap();
        assert!(!driving.is_finished());
    }
    assert_eq!(close_code(&mut peer).await, Some(v1::CLOSE_NORMAL));
    while peer.next().await.is_some() {}
    assert_eq!(driving.await.unwrap().0, Ended::Local(close));

    let script = Script {
        close: Some(Close::new(v1::CLOSE_NORMAL, "")),
        patient: true,
        ..Script::default()
    };
    let (_far, driving) = start(script, 1 << 16);
    let before = tokio::time::Instant::now();
    let (ended, script) = driving.await.unwrap();
    assert!(before.elapsed() <= v1::PING_INTERVAL + v1::PONG_TIMEOUT + v1::CLOSE_TIMEOUT);
    // Nobody knows whether all of it arrived.
    assert_eq!(ended, Ended::Lost("the close frame was not answered".into()));
    assert_eq!(script.ends, [Ended::Local(Close::new(v1::CLOSE_NORMAL, ""))]);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_never_ends_is_told_of_as_it_grows() {
    let script = Script { most: Some(10_000), ..Script::default() };
    let (near, mut far) = tokio::io::duplex(1 << 16);
    let driving = tokio::spawn(async move {
        let mut script = script;
        let sizes = Sizes { max_message: 1 << 20, before_start: None };
        let socket = websocket(Socket::boxed(near), &[], Role::Server, sizes).await;
        drive(socket, &mut script, &Bell::default(), std::future::pending()).await
    });
    // Pings between the parts do not count, nor do complete messages.
    far.write_all(&frame(0x81, b"whole")).await.unwrap();
    for _ in 0..200 {
        far.write_all(&frame(0x89, &[0; 100])).await.unwrap();
        far.write_all(&frame(0x81, &[b'x'; 100])).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert!(!driving.is_finished());
    far.write_all(&frame(0x01, b"first")).await.unwrap();
    while !driving.is_finished() {
        // It reads no more once it has closed.
        if far.write_all(&frame(0x00, &[b'x'; 100])).await.is_err() {
            break;
        }
        tokio::task::yield_now().await;
    }
    let ended = driving.await.unwrap();
    assert_eq!(ended, Ended::Violation(Close::new(v1::CLOSE_TOO_BIG, "")));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_is_gone_is_still_heard_out() {
    let script = Script { reads: Some(1), sends: ["late".into()].into(), ..Script::default() };
    let (near, far) = tokio::io::duplex(1 << 16);
    let mut peer = peer(far).await;
    for text in ["1", "2", "3"] {
        peer.send(Message::text(text)).await.unwrap();
    }
    peer.send(Message::Ping(vec![1].into())).await.unwrap();
    peer.send(Message::Close(None)).await.unwrap();
    drop(peer);
    let sizes = Sizes { max_message: 1000, before_start: None };
    let socket = websocket(Socket::boxed(near), &[], Role::Server, sizes).await;
    let mut script = Script { reads: None, ..script };
    let ended = drive(socket, &mut script, &Bell::default(), std::future::pending()).await;
    assert_eq!(script.heard, ["1", "2", "3"]);
    assert_eq!(ended, Ended::Peer { code: None, reason: String::new() });
}
