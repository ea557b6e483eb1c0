//! A relay that is told to stop.

use std::time::Duration;

use codec::v1;
use codec::v2::{self, Code, Control, Interrupted, Role};
use relay::Shutdown;

use crate::peer::{CLIENT_SECRET, Got, Relay, hello, open, opened};

/// Longer than any test lasts.
const LONG: Duration = Duration::from_secs(600);

#[tokio::test]
async fn links_of_v1_end_at_once_and_those_of_v2_when_they_have_moved() {
    let mut relay = Relay::start().await;
    let mut agent = relay.agent("one").await;
    let mut client = relay.client().await;
    let mut old = relay.client_v1("host").await;
    agent.message().await;
    client.say(open(1, "host")).await;
    agent.message().await;
    agent.say(opened(2, 0)).await;
    client.message().await;
    let mut late = relay.link(Role::Client).await;
    relay.shut_down(Shutdown::Drain { within: LONG, is_succeeded: false });
    assert!(matches!(old.next().await, Got::Close(Some(v1::CLOSE_RESTART), _)));
    // The end of the stream of v1 may come before.
    while !matches!(agent.message().await, Control::Goaway(_)) {}
    let Control::Goaway(goaway) = client.message().await else { panic!("no goaway") };
    assert_eq!(goaway.reconnect_after_ms, 1000);
    // Nothing new.
    late.say(hello(Role::Client, "", CLIENT_SECRET, "c")).await;
    let Control::Reject(reject) = late.message().await else { panic!("not refused") };
    assert_eq!((reject.code, reject.retry_after_ms), (Code::GoingAway, Some(1000)));
    assert_eq!(late.rejected().await, (None, v2::CLOSE_RESTART));
    let (head, refused) = relay.try_dial(v1::AGENT_PATH, None).await;
    assert!(refused.is_none() && head.starts_with("HTTP/1.1 503 "), "{head}");
    assert!(head.to_lowercase().contains("\r\nretry-after: 1\r\n"), "{head}");
    client.say(open(2, "host")).await;
    let told = client.message().await;
    let going = Some(Code::GoingAway);
    assert!(
        matches!(told, Control::Interrupted(Interrupted { stream: 2, code, .. }) if code == going)
    );
    // What is there goes on.
    client.say_data(1, b"still").await;
    loop {
        match agent.next().await {
            Got::Data(2, bytes) => {
                assert_eq!(&bytes[..], b"still");
                break;
            }
            // The client of v1 is gone.
            Got::Control(Control::Reset(_) | Control::Finish(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    client.close().await;
    assert!(matches!(agent.message().await, Control::Interrupted(it) if it.stream == 2));
    agent.close().await;
    relay.ended().await;
}

#[tokio::test]
async fn links_that_stay_are_closed_when_the_time_is_over() {
    let mut relay = Relay::start().await;
    let mut agent = relay.agent("one").await;
    relay.shut_down(Shutdown::Drain { within: Duration::from_millis(1), is_succeeded: true });
    let Control::Goaway(goaway) = agent.message().await else { panic!("no goaway") };
    assert_eq!(goaway.reconnect_after_ms, 0, "somebody else is there already");
    assert!(matches!(agent.next().await, Got::Close(Some(v2::CLOSE_RESTART), _)));
    relay.ended().await;
}

#[tokio::test]
async fn a_relay_without_links_ends_at_once() {
    for is_succeeded in [true, false] {
        let mut relay = Relay::start().await;
        relay.shut_down(Shutdown::Drain { within: LONG, is_succeeded });
        relay.ended().await;
    }
}

#[tokio::test]
async fn now_means_now() {
    let mut relay = Relay::start().await;
    let (mut agent, mut client) = (relay.agent("one").await, relay.client_v1("host").await);
    agent.message().await;
    relay.shut_down(Shutdown::Now);
    assert!(matches!(client.next().await, Got::Close(Some(v1::CLOSE_RESTART), _)));
    loop {
        match agent.next().await {
            Got::Close(code, _) => {
                assert_eq!(code, Some(v2::CLOSE_RESTART));
                break;
            }
            Got::Control(_) => {}
            other => panic!("{other:?}"),
        }
    }
    relay.ended().await;
}
