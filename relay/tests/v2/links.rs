//! Who is accepted, who is not, and what ends a link.

use codec::v1;
use codec::v2::{self, Code, Role};
use tokio_tungstenite::tungstenite::Message;

use crate::peer::{
    AGENT, AGENT_SECRET, CLIENT_SECRET, Got, Peer, Relay, agent_start, done, hello, open, opened,
};

#[tokio::test]
async fn who_is_not_admitted_is_told_why() {
    let relay = Relay::start().await;
    let refused = async |path: Role, message, expected: (Code, u16)| {
        let mut peer = relay.link(path).await;
        peer.say(message).await;
        let (code, close) = peer.rejected().await;
        assert_eq!((code, close), (Some(expected.0), expected.1));
    };
    let credentials = (Code::BadCredentials, v2::CLOSE_POLICY);
    refused(Role::Agent, hello(Role::Agent, AGENT, "wrong", "i"), credentials).await;
    refused(Role::Agent, hello(Role::Agent, "nobody", AGENT_SECRET, "i"), credentials).await;
    refused(Role::Client, hello(Role::Client, "", AGENT_SECRET, "i"), credentials).await;
    refused(Role::Client, hello(Role::Relay, "r", CLIENT_SECRET, "i"), credentials).await;
    let path = (Code::ProtocolError, v2::CLOSE_PROTOCOL);
    refused(Role::Agent, hello(Role::Client, "", CLIENT_SECRET, "i"), path).await;
    refused(Role::Agent, hello(Role::Relay, "r", CLIENT_SECRET, "i"), path).await;
    refused(Role::Client, hello(Role::Agent, AGENT, AGENT_SECRET, "i"), path).await;
}

#[tokio::test]
async fn what_breaks_a_rule_closes_the_link_with_its_code() {
    let relay = Relay::start().await;
    let text = |text: &str| Message::Text(text.into());
    let control = |message| Message::Text(v2::encode(&message).into());
    let long = "x".repeat(v2::MAX_CONTROL);
    let before = [
        (control(open(1, "h")), v2::CLOSE_POLICY),
        (Message::Binary(vec![0, 0, 0, 1, 7].into()), v2::CLOSE_POLICY),
        (text("{}"), v2::CLOSE_INVALID),
        (text(r#"{"kind":"start"}"#), v2::CLOSE_INVALID),
        (text(&format!(r#"{{"kind":"hello","name":"{long}"}}"#)), v2::CLOSE_TOO_BIG),
        (text(&"x".repeat(40_000)), v2::CLOSE_TOO_BIG),
    ];
    for (message, expected) in before {
        let mut peer = relay.link(Role::Client).await;
        peer.send(message.clone()).await;
        assert_eq!(peer.rejected().await, (None, expected), "{message:?}");
    }
    let mut large = vec![0; v2::MAX_DATA + 5];
    large[3] = 1;
    let after = [
        (control(hello(Role::Client, "", CLIENT_SECRET, "c")), v2::CLOSE_PROTOCOL),
        (control(open(2, "h")), v2::CLOSE_PROTOCOL),
        (control(opened(1, 0)), v2::CLOSE_PROTOCOL),
        (control(done(1)), v2::CLOSE_PROTOCOL),
        (Message::Binary(vec![0, 0, 0, 1, 7].into()), v2::CLOSE_PROTOCOL),
        (Message::Binary(vec![0, 0, 0].into()), v2::CLOSE_PROTOCOL),
        (text("not JSON"), v2::CLOSE_INVALID),
        (text(r#"{"kind":"keep_alive"}"#), v2::CLOSE_INVALID),
        (text(&format!(r#"{{"kind":"custom","name":"x","body":"{long}"}}"#)), v2::CLOSE_TOO_BIG),
        (Message::Binary(large.into()), v2::CLOSE_TOO_BIG),
    ];
    for (message, expected) in after {
        let mut peer = relay.client().await;
        peer.send(message.clone()).await;
        assert_eq!(peer.rejected().await, (None, expected), "{message:?}");
    }
}

#[tokio::test]
async fn a_link_that_says_no_hello_is_closed_in_time() {
    let relay = Relay::start().await;
    let mut peer = relay.link(Role::Agent).await;
    assert_eq!(peer.rejected().await, (None, v2::CLOSE_POLICY));
}

/// Reads on, so that pings are answered, until the link ends.
async fn close_of(mut peer: Peer) -> Option<u16> {
    loop {
        match peer.next().await {
            Got::Close(code, _) => return code,
            Got::End => return None,
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_new_link_of_the_same_process_takes_over_at_once() {
    let relay = Relay::start().await;
    let mut old = relay.agent("one").await;
    let mut client = relay.client().await;
    client.say(open(1, "host")).await;
    old.message().await;
    let mut new = relay.agent("one").await;
    assert_eq!(close_of(old).await, Some(v2::CLOSE_REPLACED));
    assert!(matches!(client.message().await, v2::Control::Interrupted(it) if it.code.is_none()));
    client.say(open(2, "host")).await;
    assert!(matches!(new.message().await, v2::Control::Open(it) if it.stream == 1));
}

#[tokio::test]
async fn another_process_does_not_take_a_name_that_is_held() {
    let relay = Relay::start().await;
    let taken = async |mut claimant: Peer| {
        claimant.say(hello(Role::Agent, AGENT, AGENT_SECRET, "two")).await;
        let refused = (Some(Code::NameInUse), v2::CLOSE_NAME_IN_USE);
        assert_eq!(claimant.rejected().await, refused);
    };
    let holder = tokio::spawn(close_of(relay.agent("one").await));
    taken(relay.link(Role::Agent).await).await;
    // One of v1 neither.
    let mut claimant = relay.dial(v1::AGENT_PATH, None).await;
    claimant.say_text(agent_start()).await;
    assert_eq!(close_of(claimant).await, Some(v1::CLOSE_NAME_IN_USE));
    assert!(!holder.is_finished());
    holder.abort();
}

#[tokio::test]
async fn a_holder_of_v1_keeps_its_name_while_it_lives_and_no_longer() {
    let relay = Relay::start().await;
    let v1_holder = relay.agent_v1().await;
    let holder = tokio::spawn(close_of(v1_holder));
    let mut claimant = relay.link(Role::Agent).await;
    claimant.say(hello(Role::Agent, AGENT, AGENT_SECRET, "two")).await;
    let refused = (Some(Code::NameInUse), v2::CLOSE_NAME_IN_USE);
    assert_eq!(claimant.rejected().await, refused);
    // Now it answers nothing any more.
    holder.abort();
    let _ = holder.await;
    let mut claimant = relay.link(Role::Agent).await;
    claimant.say(hello(Role::Agent, AGENT, AGENT_SECRET, "two")).await;
    claimant.welcomed().await;
}

#[tokio::test]
async fn a_holder_that_answers_nothing_loses_its_name() {
    let relay = Relay::start().await;
    // Nobody reads this link, so no ping is answered.
    let silent = relay.agent("one").await;
    let mut claimant = relay.link(Role::Agent).await;
    claimant.say(hello(Role::Agent, AGENT, AGENT_SECRET, "two")).await;
    claimant.welcomed().await;
    drop(silent);
}
