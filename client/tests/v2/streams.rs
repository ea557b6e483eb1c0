//! One stream, from its open to its end, whatever happens to its links.

use std::time::Duration;

use client::Notice;
use client::exit::Exit;
use codec::v2::Code;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::relay::{Answer, Relay};
use crate::support::{Carried, Echo, RESUME_FOR, config, listener, pattern, target, within};

/// Does not return before the client has ended, whose exit status is this.
async fn exits(carried: Carried) -> u8 {
    match carried.ended().await {
        Ok(()) => 0,
        Err(error) => error.exit().code(),
    }
}

#[tokio::test]
async fn each_direction_ends_by_itself() {
    let relay = Relay::start(RESUME_FOR).await;
    let (server, address) = listener().await;
    let mut client = Carried::start(config(&[&relay], RESUME_FOR), target(address));
    client.send(b"request").await;
    client.input = None;
    let (mut stream, _) = within(server.accept()).await.unwrap();
    let mut request = String::new();
    within(stream.read_to_string(&mut request)).await.unwrap();
    assert_eq!(request, "request");
    stream.write_all(b"answer").await.unwrap();
    drop(stream);
    assert_eq!(client.receive_rest().await, b"answer");
    assert_eq!(exits(client).await, 0);
    let seen = relay.seen("the link's end", |seen| {
        seen.frames[0].last().is_some_and(|frame| frame.starts_with("close"))
    });
    let frames = seen.await.frames.concat();
    assert_eq!(frames[..2], ["hello", "open"]);
    assert_eq!(frames[frames.len() - 2..], ["done", "close Some(1000)"]);
}

#[tokio::test]
async fn the_target_may_end_first() {
    let relay = Relay::start(RESUME_FOR).await;
    let (server, address) = listener().await;
    let mut client = Carried::start(config(&[&relay], RESUME_FOR), target(address));
    let (mut stream, _) = within(server.accept()).await.unwrap();
    stream.write_all(b"greeting").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(client.receive_rest().await, b"greeting");
    client.send(b"and still it listens").await;
    client.input = None;
    let mut heard = String::new();
    within(stream.read_to_string(&mut heard)).await.unwrap();
    assert_eq!(heard, "and still it listens");
    assert_eq!(exits(client).await, 0);
}

#[tokio::test]
async fn where_a_person_types_the_targets_end_is_all() {
    let relay = Relay::start(RESUME_FOR).await;
    let (server, address) = listener().await;
    let mut client = Carried::start_with(config(&[&relay], RESUME_FOR), target(address), true);
    let (mut stream, _) = within(server.accept()).await.unwrap();
    stream.write_all(b"bye").await.unwrap();
    drop(stream);
    assert_eq!(client.receive_rest().await, b"bye");
    assert!(client.input.is_some());
    assert_eq!(exits(client).await, 0);
}

#[tokio::test]
async fn hello_open_and_early_data_wait_for_no_answer() {
    let relay = Relay::start(RESUME_FOR).await;
    relay.answer(Answer::Silence);
    let (_server, address) = listener().await;
    let mut client = Carried::start(config(&[&relay], RESUME_FOR), target(address));
    client.send(&pattern(20_000)).await;
    let sent = |frames: &[Vec<String>]| {
        let bytes = |frame: &String| Some(frame.strip_suffix(" bytes")?.parse::<usize>().unwrap());
        frames.concat().iter().filter_map(bytes).sum::<usize>()
    };
    let seen = relay.seen("early data", |seen| sent(&seen.frames) >= 8192).await;
    assert_eq!(sent(&seen.frames), 8192);
    assert_eq!(seen.frames[0][..2], ["hello", "open"]);
    let hello = &seen.hellos[0];
    assert_eq!((hello.name.as_str(), hello.role), ("", codec::v2::Role::Client));
    assert!(hello.software.starts_with("access-client/"));
}

#[tokio::test]
async fn a_reset_of_the_target_is_one_here() {
    let relay = Relay::start(RESUME_FOR).await;
    let (server, address) = listener().await;
    let mut client = Carried::start(config(&[&relay], RESUME_FOR), target(address));
    let (mut stream, _) = within(server.accept()).await.unwrap();
    stream.write_all(b"before").await.unwrap();
    assert_eq!(client.receive(6).await, b"before");
    stream.set_zero_linger().unwrap();
    drop(stream);
    assert_eq!(exits(client).await, Exit::TargetReset.code());
}

#[tokio::test]
async fn the_user_resets_the_stream() {
    let relay = Relay::start(RESUME_FOR).await;
    let (server, address) = listener().await;
    let mut client = Carried::start(config(&[&relay], RESUME_FOR), target(address));
    let (mut stream, _) = within(server.accept()).await.unwrap();
    client.send(b"x").await;
    within(stream.read_u8()).await.unwrap();
    client.stop = None;
    within(stream.read_u8()).await.unwrap_err();
    assert_eq!(exits(client).await, 0);
    relay.seen("a reset", |seen| seen.frames[0].contains(&"reset".to_owned())).await;
}

#[tokio::test]
async fn what_agent_and_relay_refuse_has_a_status_of_its_own() {
    let (server, address) = listener().await;
    drop(server);
    for code in Code::ALL.iter().copied() {
        let relay = Relay::start(RESUME_FOR).await;
        relay.refuse_streams(code);
        let client = Carried::start(config(&[&relay], RESUME_FOR), target(address));
        assert_eq!(exits(client).await, Exit::of_code(code, false).code(), "{code}");
    }
    let relay = Relay::start(RESUME_FOR).await;
    let client = Carried::start(config(&[&relay], RESUME_FOR), target(address));
    assert_eq!(exits(client).await, Exit::TargetRefused.code());
    let mut config = config(&[&relay], RESUME_FOR);
    config.secret = "wrong".to_owned().into();
    let client = Carried::start(config, target(address));
    assert_eq!(exits(client).await, Exit::CredentialsRefused.code());
}

#[tokio::test]
async fn a_stream_goes_on_after_cuts_and_loses_nothing() {
    let relay = Relay::start(RESUME_FOR).await;
    let echo = Echo::start().await;
    let mut client = Carried::start(config(&[&relay], RESUME_FOR), target(echo.address));
    let sent = pattern(8 << 20);
    let input = client.input.take().unwrap();
    let writing = {
        let (sent, mut input) = (sent.clone(), input);
        tokio::spawn(async move {
            within(input.write_all(&sent)).await.unwrap();
        })
    };
    let mut received = Vec::new();
    for _ in 0..8 {
        received.extend(client.receive(1 << 19).await);
        relay.cut();
    }
    received.extend(client.receive_rest().await);
    assert!(received == sent, "{} bytes of {}", received.len(), sent.len());
    writing.await.unwrap();
    assert_eq!(exits(client).await, 0);
    let seen = relay.seen("anything", |_| true).await;
    assert_eq!(seen.dials, 1, "the target is connected once");
    assert!(seen.hellos.len() > 8);
    assert!(seen.hellos[1].last_error.is_some());
    assert_eq!(seen.hellos[1].instance, seen.hellos[0].instance);
}

#[tokio::test]
async fn what_the_target_does_meanwhile_arrives_later() {
    let relay = Relay::start(RESUME_FOR).await;
    let (server, address) = listener().await;
    let mut client = Carried::start(config(&[&relay], RESUME_FOR), target(address));
    let (mut stream, _) = within(server.accept()).await.unwrap();
    client.send(b"x").await;
    within(stream.read_u8()).await.unwrap();
    relay.answer(Answer::Reject(Code::GoingAway, None));
    relay.cut();
    stream.write_all(b"said while away").await.unwrap();
    drop(stream);
    let away = client.told.wait_for(|notice| match notice {
        Notice::LinkAway { streams, .. } => Some(*streams),
        _ => None,
    });
    assert_eq!(away.await, 1);
    relay.answer(Answer::Welcome);
    assert_eq!(client.receive_rest().await, b"said while away");
    client.input = None;
    client.told.wait_for(|notice| matches!(notice, Notice::Back { .. }).then_some(())).await;
    // It closed with our end unread, or not: both are ends.
    exits(client).await;
}

#[tokio::test]
async fn without_resumption_a_stream_ends_with_its_link() {
    let relay = Relay::start(Duration::ZERO).await;
    let (server, address) = listener().await;
    let mut client = Carried::start(config(&[&relay], Duration::ZERO), target(address));
    let (mut stream, _) = within(server.accept()).await.unwrap();
    client.send(b"x").await;
    within(stream.read_u8()).await.unwrap();
    relay.cut();
    assert_eq!(exits(client).await, Exit::RelayLost.code());
}

#[tokio::test]
async fn a_draining_relay_is_left_for_itself_or_for_the_next() {
    for count in [1, 2] {
        let relays = [Relay::start(RESUME_FOR).await, Relay::start(RESUME_FOR).await];
        let used: Vec<&Relay> = relays.iter().take(count).collect();
        let echo = Echo::start().await;
        let mut client = Carried::start(config(&used, RESUME_FOR), target(echo.address));
        client.send(b"before").await;
        assert_eq!(client.receive(6).await, b"before");
        relays[0].drain(Duration::from_millis(100));
        if count == 1 {
            client.send(b"after").await;
            assert_eq!(client.receive(5).await, b"after");
            let moved = |seen: &crate::relay::Seen| {
                seen.frames.len() == 2
                    && seen.frames[0].contains(&"close Some(1000)".to_owned())
                    && seen.frames[1].contains(&"resume".to_owned())
            };
            relays[0].seen("the move", moved).await;
            client.input = None;
            assert_eq!(client.receive_rest().await, b"");
            assert_eq!(exits(client).await, 0);
        } else {
            // The other relay has another agent, which cannot know the stream.
            assert_eq!(exits(client).await, Exit::StreamLost.code());
            relays[1].seen("the move", |seen| seen.hellos.len() == 1).await;
        }
    }
}

#[tokio::test]
async fn a_refused_link_costs_no_attempt() {
    let (stopping, relay) = (Relay::start(RESUME_FOR).await, Relay::start(RESUME_FOR).await);
    stopping.answer(Answer::Reject(Code::GoingAway, None));
    let echo = Echo::start().await;
    // Its agent has just started, so it refuses an attempt that is not the first.
    let mut client = Carried::start(config(&[&stopping, &relay], RESUME_FOR), target(echo.address));
    client.send(b"early").await;
    assert_eq!(client.receive(5).await, b"early");
    client.input = None;
    assert_eq!(exits(client).await, 0);
    assert_eq!(stopping.seen("anything", |_| true).await.hellos.len(), 1);

    // Alone it is asked again, if it says when.
    let mut client = Carried::start(config(&[&stopping], RESUME_FOR), target(echo.address));
    client.send(b"x").await;
    assert_eq!(exits(client).await, Exit::RelayLost.code());
    stopping.answer(Answer::Reject(Code::GoingAway, Some(Duration::from_millis(10))));
    let mut client = Carried::start(config(&[&stopping], RESUME_FOR), target(echo.address));
    client.send(b"patient").await;
    stopping.seen("two refusals more", |seen| seen.hellos.len() >= 4).await;
    stopping.answer(Answer::Welcome);
    assert_eq!(client.receive(7).await, b"patient");
    client.input = None;
    assert_eq!(exits(client).await, 0);
}

#[tokio::test]
async fn the_first_relay_that_answers_is_taken() {
    let relay = Relay::start(RESUME_FOR).await;
    let echo = Echo::start().await;
    let (nobody, address) = listener().await;
    drop(nobody);
    let mut config = config(&[&relay], RESUME_FOR);
    config.relay_urls.insert(0, format!("ws://{address}/").parse().unwrap());
    let mut client = Carried::start(config.clone(), target(echo.address));
    client.send(b"x").await;
    assert_eq!(client.receive(1).await, b"x");
    client.input = None;
    assert_eq!(exits(client).await, 0);
    // One that accepts the connection and does not answer holds nobody up for long.
    let (_mute, address) = listener().await;
    config.relay_urls[0] = format!("ws://{address}/").parse().unwrap();
    let mut client = Carried::start(config, target(echo.address));
    client.send(b"x").await;
    assert_eq!(client.receive(1).await, b"x");
    client.input = None;
    assert_eq!(exits(client).await, 0);
}

#[tokio::test]
async fn a_relay_that_ends_the_link_unasked_is_named() {
    let relay = Relay::start(RESUME_FOR).await;
    relay.answer(Answer::Close(1013));
    let (_server, address) = listener().await;
    let client = Carried::start(config(&[&relay], RESUME_FOR), target(address));
    let error = client.ended().await.unwrap_err();
    assert_eq!(error.exit(), Exit::RelayLost);
    assert!(error.to_string().contains("closed by the test (close code 1013)"), "{error}");
}

#[tokio::test]
async fn a_link_that_is_cut_before_it_is_accepted_is_made_again() {
    let relay = Relay::start(RESUME_FOR).await;
    relay.answer(Answer::Cut);
    let (_server, address) = listener().await;
    let mut client = Carried::start(config(&[&relay], RESUME_FOR), target(address));
    client.send(b"x").await;
    relay.seen("a second link", |seen| seen.connections >= 3).await;
    relay.answer(Answer::Welcome);
    // The attempt may have reached an agent, so one that cannot look back refuses.
    assert_eq!(exits(client).await, Exit::StreamLost.code());
}
