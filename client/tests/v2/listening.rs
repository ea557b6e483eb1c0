//! Local ports whose connections are streams of one link.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use client::config::{Config, Forward};
use client::exit::Exit;
use client::{Notice, RunError};
use codec::v2::Code;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

use crate::relay::{Answer, Relay};
use crate::support::{Echo, RESUME_FOR, Told, config, listener, pattern, within};

/// A client that listens.
struct Listening {
    told: Told,
    /// Where, in the order of the forwards.
    bound: Vec<String>,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<(), RunError>>,
}

fn start(
    config: Config,
    forwards: &[String],
    told: &Told,
) -> (oneshot::Sender<()>, JoinHandle<Result<(), RunError>>) {
    let forwards: Vec<Forward> = forwards.iter().map(|text| text.parse().unwrap()).collect();
    let (stop, stopped) = oneshot::channel::<()>();
    let notices = told.notices();
    let running = tokio::spawn(async move {
        let shutdown = async {
            let _ = stopped.await;
        };
        client::listen(&config, &forwards, notices, shutdown).await
    });
    (stop, running)
}

impl Listening {
    async fn start(config: Config, forwards: &[String]) -> Self {
        let told = Told::default();
        let (stop, running) = start(config, forwards, &told);
        let mut bound = Vec::new();
        for index in 0..forwards.len() {
            let mut seen = 0;
            let listening = told.wait_for(|notice| {
                let Notice::Listening { bound, .. } = notice else { return None };
                seen += 1;
                // Looked at from the beginning each time.
                (seen - 1 == index).then(|| bound.clone())
            });
            bound.push(listening.await);
        }
        Self { told, bound, stop, running }
    }

    async fn at(relay: &Relay, target: SocketAddr) -> Self {
        Self::start(config(&[relay], RESUME_FOR), &[format!("0:{target}")]).await
    }

    async fn connect(&self) -> TcpStream {
        within(TcpStream::connect(&self.bound[0])).await.unwrap()
    }

    async fn stop(self) -> Result<(), RunError> {
        drop(self.stop);
        within(self.running).await.unwrap()
    }
}

async fn fails(config: Config, forwards: &[String]) -> Exit {
    let (_stop, running) = start(config, forwards, &Told::default());
    within(running).await.unwrap().unwrap_err().exit()
}

/// Sends everything, ends, and reads to the end of what comes back.
async fn round_trip(stream: TcpStream, bytes: Vec<u8>) {
    let (mut reader, mut writer) = stream.into_split();
    let sent = bytes.clone();
    let writing = tokio::spawn(async move {
        writer.write_all(&sent).await.unwrap();
        writer.shutdown().await.unwrap();
        writer
    });
    let mut received = Vec::new();
    within(reader.read_to_end(&mut received)).await.unwrap();
    assert!(received == bytes, "{} of {} bytes", received.len(), bytes.len());
    within(writing).await.unwrap();
}

#[tokio::test]
async fn connections_are_streams_of_one_link() {
    let relay = Relay::start(RESUME_FOR).await;
    let echo = Echo::start().await;
    let client = Listening::at(&relay, echo.address).await;
    let mut trips = JoinSet::new();
    for size in 0..50 {
        let stream = client.connect().await;
        trips.spawn(round_trip(stream, pattern(size * 10_000)));
    }
    while let Some(trip) = trips.join_next().await {
        trip.unwrap();
    }
    let seen = relay.seen("all ended", |seen| seen.streams == 0).await;
    assert_eq!((seen.hellos.len(), seen.dials), (1, 50));
    client.stop().await.unwrap();
    relay.seen("an orderly end", |seen| seen.frames[0].contains(&"close Some(1000)".into())).await;
}

#[tokio::test]
async fn several_places_lead_to_several_targets() {
    let relay = Relay::start(RESUME_FOR).await;
    let (echo, (greeter, greeting)) = (Echo::start().await, listener().await);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let forwards =
        [format!("127.0.0.1:0:{}", echo.address), format!("{}:{greeting}", path.display())];
    let client = Listening::start(config(&[&relay], RESUME_FOR), &forwards).await;
    assert_eq!(client.bound[1], format!("unix:{}", path.display()));
    round_trip(client.connect().await, pattern(1000)).await;
    let mut local = UnixStream::connect(&path).await.unwrap();
    let (mut far, _) = within(greeter.accept()).await.unwrap();
    far.write_all(b"hello").await.unwrap();
    drop(far);
    let mut heard = String::new();
    within(local.read_to_string(&mut heard)).await.unwrap();
    assert_eq!(heard, "hello");
    client.stop().await.unwrap();
    assert!(!path.exists());
}

#[tokio::test]
async fn resets_pass_in_both_directions() {
    let relay = Relay::start(RESUME_FOR).await;
    let (server, address) = listener().await;
    let client = Listening::at(&relay, address).await;

    let mut local = client.connect().await;
    let (far, _) = within(server.accept()).await.unwrap();
    far.set_zero_linger().unwrap();
    drop(far);
    let error = within(local.read_u8()).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);

    // Whether the local program has ended its side before or not.
    for ends_first in [false, true] {
        let mut local = client.connect().await;
        let (mut far, _) = within(server.accept()).await.unwrap();
        if ends_first {
            local.shutdown().await.unwrap();
            assert_eq!(within(far.read(&mut [0])).await.unwrap(), 0);
        }
        local.set_zero_linger().unwrap();
        drop(local);
        let broken = async {
            loop {
                if let Err(error) = far.write_all(b"x").await {
                    return error;
                }
                tokio::task::yield_now().await;
            }
        };
        let kind = within(broken).await.kind();
        assert!(
            matches!(kind, io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe),
            "{ends_first}: {kind:?}"
        );
    }
    client.stop().await.unwrap();
}

#[tokio::test]
async fn a_refused_stream_resets_its_connection_and_says_why() {
    let relay = Relay::start(RESUME_FOR).await;
    let (nobody, address) = listener().await;
    drop(nobody);
    let client = Listening::at(&relay, address).await;
    let mut local = client.connect().await;
    let error = within(local.read_u8()).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    let reason = client.told.wait_for(|notice| match notice {
        Notice::Failed { reason } => Some(reason.clone()),
        _ => None,
    });
    let reason = reason.await;
    assert!(
        reason.starts_with(&format!("agent \"workshop\" cannot reach {address}: ")),
        "{reason}"
    );
    client.stop().await.unwrap();
}

#[tokio::test]
async fn connections_outlive_links_and_new_ones_wait_for_the_next() {
    let relay = Relay::start(RESUME_FOR).await;
    let echo = Echo::start().await;
    let client = Listening::at(&relay, echo.address).await;
    let mut old = client.connect().await;
    old.write_all(b"before").await.unwrap();
    let mut bytes = [0; 6];
    within(old.read_exact(&mut bytes)).await.unwrap();
    relay.answer(Answer::Reject(Code::GoingAway, None));
    relay.cut();
    old.write_all(b"during").await.unwrap();
    client.told.wait_for(|notice| matches!(notice, Notice::LinkAway { .. }).then_some(())).await;
    let new = client.connect().await;
    relay.answer(Answer::Welcome);
    within(old.read_exact(&mut bytes)).await.unwrap();
    assert_eq!(&bytes, b"during");
    round_trip(new, pattern(100_000)).await;
    client.told.wait_for(|notice| matches!(notice, Notice::Back { .. }).then_some(())).await;
    client.stop().await.unwrap();
}

#[tokio::test]
async fn a_link_without_streams_is_made_anew_too() {
    let relay = Relay::start(RESUME_FOR).await;
    let echo = Echo::start().await;
    let client = Listening::at(&relay, echo.address).await;
    relay.cut();
    relay.seen("a second link", |seen| seen.hellos.len() == 2).await;
    relay.drain(Duration::ZERO);
    let drained = |seen: &crate::relay::Seen| {
        seen.hellos.len() == 3 && seen.frames[1].contains(&"close Some(1000)".to_owned())
    };
    relay.seen("a third one", drained).await;
    round_trip(client.connect().await, pattern(10)).await;
    client.stop().await.unwrap();
}

/// Sends a little and waits for it to come back, without an end.
async fn ping(stream: &mut TcpStream) {
    stream.write_all(b"ping").await.unwrap();
    let mut bytes = [0; 4];
    within(stream.read_exact(&mut bytes)).await.unwrap();
    assert_eq!(&bytes, b"ping");
}

#[tokio::test]
async fn a_relay_may_turn_old_and_new_again() {
    let relay = Relay::start(RESUME_FOR).await;
    let echo = Echo::start().await;
    relay.answer(Answer::Old);
    let client = Listening::at(&relay, echo.address).await;
    let mut locals = [client.connect().await, client.connect().await];
    for local in &mut locals {
        ping(local).await;
    }
    // One link to find out, and one for each connection.
    let seen = relay.seen("three links", |seen| seen.connections == 3).await;
    assert_eq!((seen.hellos.len(), seen.dials), (0, 0));
    relay.answer(Answer::Welcome);
    let mut new = client.connect().await;
    ping(&mut new).await;
    round_trip(client.connect().await, pattern(1000)).await;
    assert_eq!(relay.seen("anything", |_| true).await.hellos.len(), 1);
    relay.answer(Answer::Old);
    relay.cut();
    // What was new cannot go on, and waits; what is old is over.
    within(locals[0].read_u8()).await.unwrap_err();
    ping(&mut client.connect().await).await;
    relay.answer(Answer::Welcome);
    ping(&mut new).await;
    client.stop().await.unwrap();
}

#[tokio::test]
async fn a_start_that_fails_is_an_error() {
    let relay = Relay::start(RESUME_FOR).await;
    let (holder, taken) = listener().await;
    let forward = ["0:localhost:80".to_owned()];
    let mut refused = config(&[&relay], RESUME_FOR);
    refused.secret = "wrong".to_owned().into();
    assert_eq!(fails(refused, &forward).await, Exit::CredentialsRefused);
    let taken_port = [format!("{taken}:localhost:80")];
    assert_eq!(fails(config(&[&relay], RESUME_FOR), &taken_port).await, Exit::CannotListen);
    drop(holder);
    let mut nobody = config(&[&relay], RESUME_FOR);
    nobody.relay_urls = vec![format!("ws://{taken}/").parse().unwrap()];
    assert_eq!(fails(nobody, &forward).await, Exit::RelayUnreachable);
    relay.answer(Answer::Reject(Code::Overloaded, None));
    assert_eq!(fails(config(&[&relay], RESUME_FOR), &forward).await, Exit::Refused);
    let mut long = config(&[&relay], RESUME_FOR);
    long.agent = "x".repeat(256);
    assert_eq!(fails(long, &forward).await, Exit::Usage);
}
