//! Streams between a party that speaks v1 and one that speaks v2: the relay stands in for the former.

use codec::v1::{self, base64};
use codec::v2::{self, Code, Control};
use serde_json::{Value, json};

use crate::peer::{
    AGENT, CLIENT_SECRET, Got, Peer, Relay, client_start, credit, done, finish, open, opened, reset,
};

fn inner(value: &Value) -> String {
    json!({ "inner": value }).to_string()
}

fn data(id: Option<&str>, bytes: &[u8]) -> String {
    let base64 = base64::encode(bytes);
    match id {
        Some(id) => inner(&json!({"kind": "tcp_data", "connection_id": id, "data_base64": base64})),
        None => inner(&json!({"kind": "tcp_data", "data_base64": base64})),
    }
}

/// Asserts that the next message of v1 carries these bytes.
async fn check_data(peer: &mut Peer, expected: &[u8]) {
    let message = peer.inner().await;
    assert_eq!(message["kind"], "tcp_data", "{message}");
    assert_eq!(message["data_base64"], base64::encode(expected));
}

/// The id of the stream that an agent of v1 is asked for.
async fn asked(agent: &mut Peer) -> String {
    loop {
        let message = agent.inner().await;
        if message["kind"] == "initiate_connection" {
            assert_eq!(
                (&message["target_ip"], &message["target_port"]),
                (&json!("host"), &json!(22))
            );
            return message["connection_id"].as_str().unwrap().to_owned();
        }
    }
}

#[tokio::test]
async fn a_client_of_v1_at_an_agent_of_v2() {
    let relay = Relay::start().await;
    let mut agent = relay.agent("one").await;
    let mut client = relay.client_v1("host").await;
    client.say_text(data(None, b"early")).await;
    let Control::Open(open) = agent.message().await else { panic!("no open") };
    assert_eq!((&*open.agent, &*open.host, open.port, &*open.protocol), (AGENT, "host", 22, "tcp"));
    assert!(open.principal.is_some_and(|it| !it.contains(CLIENT_SECRET)));
    assert_eq!(agent.bytes(1, 5).await, b"early");
    agent.say(opened(1, 5)).await;
    agent.say_data(1, b"banner").await;
    assert_eq!(client.inner().await["kind"], "start_ok");
    check_data(&mut client, b"banner").await;
    client.say_text(data(None, b"request")).await;
    assert_eq!(agent.bytes(1, 7).await, b"request");
    agent.say_data(1, b"answer").await;
    agent.say(finish(1, 12)).await;
    check_data(&mut client, b"answer").await;
    // The target's end is a clean one, and the client's own end follows.
    assert!(matches!(client.next().await, Got::Close(Some(v1::CLOSE_NORMAL), _)));
    assert!(matches!(agent.message_but_credit().await, Control::Finish(it) if it.offset == 12));
    agent.say(credit(1, 13)).await;
    assert!(matches!(agent.message_but_credit().await, Control::Done(_)));
}

#[tokio::test]
async fn a_client_of_v1_is_told_what_v2_says_by_codes() {
    let relay = Relay::start().await;
    let refused = async |client: &mut Peer, expected: &str| {
        let message = client.inner().await;
        assert_eq!((&message["kind"], &message["message"]), (&json!("error"), &json!(expected)));
        assert!(matches!(client.next().await, Got::Close(Some(v1::CLOSE_NORMAL), _)));
    };
    refused(&mut relay.client_v1("host").await, v1::ERROR_AGENT_NOT_REGISTERED).await;
    let mut agent = relay.agent("one").await;
    let mut client = relay.client_v1("host").await;
    agent.message().await;
    agent.say(reset(1, Code::ConnectRefused, "nobody there")).await;
    refused(&mut client, "Error initiating connection: nobody there").await;
    // What v2 has no words for.
    let mut client = relay.client_v1("").await;
    refused(&mut client, "Error initiating connection: the target's name is empty, or too long")
        .await;
    let mut client = relay.dial(v1::CLIENT_PATH, None).await;
    client.say_text(client_start("host").replace(":22,", ":70000,")).await;
    refused(&mut client, "Error initiating connection: 70000 is no port (1 to 65535)").await;

    for (stream, code, expected) in [
        (2, Code::PeerReset, v1::CLOSE_TARGET_RESET),
        (3, Code::NotResumable, v1::CLOSE_AGENT_LOST),
        (4, Code::GoingAway, v1::CLOSE_AGENT_LOST),
    ] {
        let mut client = relay.client_v1("host").await;
        agent.message().await;
        agent.say(opened(stream, 0)).await;
        assert_eq!(client.inner().await["kind"], "start_ok");
        agent.say_data(stream, b"last").await;
        agent.say(reset(stream, code, "words")).await;
        check_data(&mut client, b"last").await;
        match client.next().await {
            Got::Close(close, reason) => {
                assert_eq!(close, Some(expected));
                let words = if expected == v1::CLOSE_TARGET_RESET {
                    "words"
                } else {
                    v1::REASON_AGENT_LOST
                };
                assert_eq!(reason, words);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn what_a_client_of_v1_sent_before_it_left_arrives() {
    let relay = Relay::start().await;
    let mut agent = relay.agent("one").await;
    let mut client = relay.client_v1("host").await;
    agent.message().await;
    agent.say(opened(1, 0)).await;
    client.inner().await;
    // More than the agent has granted at once.
    let bytes = vec![b'x'; 2 * v2::INITIAL_WINDOW as usize];
    client.say_text(data(None, &bytes)).await;
    // It is read once there is room for what came before.
    client.say_close().await;
    let half = v2::INITIAL_WINDOW as usize;
    assert_eq!(agent.bytes(1, half).await.len(), half);
    agent.say(credit(1, v2::INITIAL_WINDOW)).await;
    assert_eq!(agent.bytes(1, half).await.len(), half);
    assert!(
        matches!(agent.message().await, Control::Finish(it) if it.offset == 2 * v2::INITIAL_WINDOW)
    );
    agent.say(credit(1, 2 * v2::INITIAL_WINDOW + 1)).await;
    assert!(matches!(agent.message().await, Control::Reset(it) if it.code == Code::PeerReset));
}

#[tokio::test]
async fn a_client_of_v2_at_an_agent_of_v1() {
    let relay = Relay::start().await;
    let mut agent = relay.agent_v1().await;
    let mut client = relay.client().await;
    client.say(open(1, "host")).await;
    client.say_data(1, b"early").await;
    let id = asked(&mut agent).await;
    agent.say_text(inner(&json!({"kind": "initiate_connection_ok", "connection_id": id}))).await;
    assert!(matches!(client.message().await, Control::Opened(_)));
    check_data(&mut agent, b"early").await;
    agent.say_text(data(Some(&id), b"banner")).await;
    assert_eq!(client.bytes(1, 6).await, b"banner");
    client.say_data(1, b"request").await;
    client.say(finish(1, 12)).await;
    check_data(&mut agent, b"request").await;
    loop {
        let Control::Credit(credit) = client.message().await else { panic!("no credit") };
        if credit.consumed == 13 {
            break;
        }
    }
    agent.say_text(data(Some(&id), b"answer")).await;
    let closed = v1::TARGET_CLOSED_MESSAGE;
    let reset = json!({"kind": "connection_reset", "message": closed, "connection_id": id});
    agent.say_text(inner(&reset)).await;
    assert_eq!(client.bytes(1, 6).await, b"answer");
    assert!(matches!(client.message_but_credit().await, Control::Finish(it) if it.offset == 12));
    client.say(credit(1, 13)).await;
    assert!(matches!(client.message_but_credit().await, Control::Done(_)));
    client.say(done(1)).await;
    assert_eq!(agent.inner().await["kind"], "connection_close");
}

#[tokio::test]
async fn an_agent_of_v1_refuses_or_is_lost() {
    let relay = Relay::start().await;
    let mut agent = relay.agent_v1().await;
    let mut client = relay.client().await;
    client.say(open(1, "host")).await;
    let id = asked(&mut agent).await;
    let text = "[Errno 111] Connect call failed ('127.0.0.1', 22)";
    let error = json!({"kind": "initiate_connection_error", "message": text, "connection_id": id});
    agent.say_text(inner(&error)).await;
    let Control::Reset(reset) = client.message().await else { panic!("no reset") };
    assert_eq!((reset.code, &*reset.message), (Code::ConnectRefused, text));

    // Another id: that of the first stream is remembered, as by an agent.
    client.say(open(2, "host")).await;
    assert!(
        matches!(client.message().await, Control::Reset(it) if it.code == Code::ConnectRefused)
    );
    let fresh = |stream| {
        let mut message = open(stream, "host");
        if let Control::Open(open) = &mut message {
            open.id = format!("00000000-0000-4000-8000-{stream:012}");
        }
        message
    };
    client.say(fresh(3)).await;
    let id = asked(&mut agent).await;
    agent.say_text(inner(&json!({"kind": "initiate_connection_ok", "connection_id": id}))).await;
    assert!(matches!(client.message().await, Control::Opened(_)));
    agent.say_text(data(Some(&id), b"last")).await;
    agent.close().await;
    assert_eq!(client.bytes(3, 4).await, b"last");
    assert!(matches!(client.message().await, Control::Reset(it) if it.code == Code::NotResumable));
    client.say(fresh(4)).await;
    let told = client.message().await;
    assert!(matches!(told, Control::Interrupted(it) if it.code == Some(Code::AgentOffline)));
}

#[tokio::test]
async fn a_client_of_v2_that_is_lost_may_resume_at_an_agent_of_v1() {
    let relay = Relay::start().await;
    let mut agent = relay.agent_v1().await;
    let mut client = relay.client().await;
    client.say(open(1, "host")).await;
    let id = asked(&mut agent).await;
    agent.say_text(inner(&json!({"kind": "initiate_connection_ok", "connection_id": id}))).await;
    assert!(matches!(client.message().await, Control::Opened(_)));
    client.cut().await;
    agent.say_text(data(Some(&id), b"meanwhile")).await;
    let mut client = relay.client().await;
    client.say(crate::peer::resume(1, 2, 0)).await;
    assert!(matches!(client.message().await, Control::Opened(_)));
    assert_eq!(client.bytes(1, 9).await, b"meanwhile");
}
