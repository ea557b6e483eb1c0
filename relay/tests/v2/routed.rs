//! Streams between two parties that speak v2.

use codec::v1;
use codec::v2::{self, Code, Control, Interrupted, Role};

use crate::peer::{
    AGENT, CLIENT_SECRET, Got, Relay, credit, done, finish, hello, open, opened, resume,
};

#[tokio::test]
async fn the_subprotocol_decides_and_is_named() {
    let relay = Relay::start().await;
    let named = |head: &str| {
        let line =
            head.lines().find(|line| line.to_lowercase().starts_with("sec-websocket-protocol"));
        line.map(|line| line.split_once(": ").unwrap().1.to_owned())
    };
    let (head, _) = relay.try_dial(v1::AGENT_PATH, Some("chat, http-network-relay.v2")).await;
    assert_eq!(named(&head).as_deref(), Some(v2::SUBPROTOCOL));
    let (head, _) = relay.try_dial(v1::AGENT_PATH, Some("chat")).await;
    assert_eq!(named(&head), None);
}

#[tokio::test]
async fn hello_open_and_data_go_together_and_a_stream_ends_well() {
    let relay = Relay::start().await;
    let mut agent = relay.agent("one").await;
    let mut client = relay.link(Role::Client).await;
    // Nothing was answered yet (spec v2, NG-6 and OP-4).
    client.say(hello(Role::Client, "", CLIENT_SECRET, "c")).await;
    client.say(open(1, "host")).await;
    client.say_data(1, b"early").await;
    let Control::Open(asked) = agent.message().await else { panic!("no open") };
    assert_eq!((asked.stream, &*asked.agent, &*asked.host, asked.port), (1, AGENT, "host", 22));
    let principal = asked.principal.expect("the relay says who asks");
    assert!(principal.starts_with("client-") && !principal.contains(CLIENT_SECRET));
    assert_eq!(agent.bytes(1, 5).await, b"early");
    let welcome = client.welcomed().await;
    assert_eq!(welcome.max_data as usize, v2::MAX_DATA);
    assert_eq!(welcome.resume_for_ms, 180_000);

    agent.say(opened(1, 5)).await;
    agent.say_data(1, b"banner").await;
    assert!(matches!(client.message().await, Control::Opened(it) if it.consumed == 5));
    assert_eq!(client.bytes(1, 6).await, b"banner");
    client.say(credit(1, 6)).await;
    client.say(finish(1, 5)).await;
    assert!(matches!(agent.message().await, Control::Credit(it) if it.consumed == 6));
    assert!(matches!(agent.message().await, Control::Finish(it) if it.offset == 5));
    agent.say(credit(1, 6)).await;
    agent.say(finish(1, 6)).await;
    assert!(matches!(client.message().await, Control::Credit(it) if it.consumed == 6));
    assert!(matches!(client.message().await, Control::Finish(it) if it.offset == 6));
    client.say(done(1)).await;
    assert!(matches!(agent.message().await, Control::Done(it) if it.stream == 1));
}

#[tokio::test]
async fn a_stream_goes_on_through_new_links() {
    let relay = Relay::start().await;
    let mut agent = relay.agent("one").await;
    let mut client = relay.client().await;
    client.say(open(1, "host")).await;
    let Control::Open(asked) = agent.message().await else { panic!("no open") };
    agent.say(opened(1, 0)).await;
    client.message().await;
    agent.say_data(1, b"some").await;
    assert_eq!(client.bytes(1, 4).await, b"some");
    client.cut().await;
    let told = agent.message().await;
    assert!(matches!(told, Control::Interrupted(Interrupted { stream: 1, code: None, .. })));

    let mut client = relay.client().await;
    client.say(resume(1, 2, 4)).await;
    let Control::Resume(resumed) = agent.message().await else { panic!("no resume") };
    assert_eq!((resumed.stream, resumed.received), (2, 4), "a number is used once");
    assert_eq!(resumed.principal, asked.principal, "the same client");
    agent.say(opened(2, 0)).await;
    client.message().await;
    agent.say_data(2, b"more").await;
    assert_eq!(client.bytes(1, 4).await, b"more");

    // The agent's link is lost; it comes back on another.
    agent.cut().await;
    let told = client.message().await;
    assert!(matches!(told, Control::Interrupted(Interrupted { stream: 1, code: None, .. })));
    client.say(resume(2, 3, 8)).await;
    let told = client.message().await;
    let offline = Some(Code::AgentOffline);
    assert!(matches!(told, Control::Interrupted(it) if it.stream == 2 && it.code == offline));
    let mut agent = relay.agent("one").await;
    client.say(resume(3, 4, 8)).await;
    assert!(matches!(agent.message().await, Control::Resume(it) if it.stream == 1));
}

#[tokio::test]
async fn bulk_of_one_stream_does_not_hold_up_another() {
    let relay = Relay::start().await;
    let mut agent = relay.agent("one").await;
    let (mut idle, mut client) = (relay.client().await, relay.client().await);
    for (number, link) in [(1, &mut idle), (2, &mut client)] {
        link.say(open(1, "host")).await;
        agent.message().await;
        agent.say(opened(number, 0)).await;
        link.message().await;
    }
    // The first client reads nothing of what it is sent, within its credit.
    let frame = vec![b'x'; v2::MAX_DATA];
    for _ in 0..4 {
        agent.say_data(1, &frame).await;
    }
    agent.say_data(2, b"ping").await;
    assert_eq!(client.bytes(1, 4).await, b"ping");
    assert_eq!(idle.bytes(1, 4 * v2::MAX_DATA).await.len(), 4 * v2::MAX_DATA);
    assert!(matches!(idle.close().await, Got::Close(Some(1000), _)));
}
