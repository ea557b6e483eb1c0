//! Custom messages, between agents and a program that embeds the relay.

use codec::v1;
use codec::v2::{self, Control, Custom, Role};
use relay::{Hooks, SendError};
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use crate::peer::{AGENT, AGENT_SECRET, Got, Peer, Relay, agent_start, hello};

/// Passes on what it hears; knows texts that name it.
struct Heard(mpsc::UnboundedSender<String>);

impl Hooks for Heard {
    fn connected(&self, agent: &str, extra: Option<&Map<String, Value>>) {
        let extra =
            extra.map_or("nothing".into(), |extra| Value::Object(extra.clone()).to_string());
        let _ = self.0.send(format!("{agent} connected: {extra}"));
    }

    fn custom(&self, agent: &str, name: &str, body: &Value) {
        let _ = self.0.send(format!("{agent} {name} {body}"));
    }

    fn custom_text(&self, agent: &str, text: &str) -> bool {
        let _ = self.0.send(format!("{agent} says {text}"));
        text.contains("known")
    }
}

async fn start() -> (Relay, mpsc::UnboundedReceiver<String>) {
    let (sender, heard) = mpsc::unbounded_channel();
    (Relay::start_with(Heard(sender)).await, heard)
}

#[tokio::test]
async fn with_an_agent_of_v2() {
    let (relay, mut heard) = start().await;
    assert_eq!(relay.handle.send_custom(AGENT, "x", json!(1)), Err(SendError::NotConnected));
    let mut agent = relay.link(Role::Agent).await;
    let mut greeting = hello(Role::Agent, AGENT, AGENT_SECRET, "one");
    if let Control::Hello(hello) = &mut greeting {
        hello.extra = json!({"site": "north"}).as_object().cloned();
    }
    agent.say(greeting).await;
    agent.welcomed().await;
    assert_eq!(heard.recv().await.unwrap(), r#"workshop connected: {"site":"north"}"#);
    let custom = Custom { name: "load".into(), body: json!([1, null]) };
    agent.say(Control::Custom(custom)).await;
    assert_eq!(heard.recv().await.unwrap(), "workshop load [1,null]");

    assert!(relay.handle.is_connected(AGENT));
    assert_eq!(relay.handle.send_custom(AGENT, "reload", json!({"now": true})), Ok(()));
    let Control::Custom(got) = agent.message().await else { panic!("no custom message") };
    assert_eq!((&*got.name, got.body), ("reload", json!({"now": true})));
    let long = json!("x".repeat(v2::MAX_CONTROL));
    assert_eq!(relay.handle.send_custom(AGENT, "x", long), Err(SendError::TooLong));
    assert_eq!(relay.handle.send_custom_text(AGENT, "{}"), Err(SendError::OtherVersion));
}

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
async fn with_an_agent_of_v1() {
    let (relay, mut heard) = start().await;
    let mut agent = relay.agent_v1().await;
    assert_eq!(heard.recv().await.unwrap(), "workshop connected: nothing");
    for text in [r#"{"inner":{"kind":"known"}}"#, r#"["known"]"#] {
        agent.say_text(text.into()).await;
        assert_eq!(heard.recv().await.unwrap(), format!("workshop says {text}"));
    }
    assert_eq!(relay.handle.send_custom_text(AGENT, r#"{"reload":1}"#), Ok(()));
    assert!(matches!(agent.next().await, Got::Text(text) if text == r#"{"reload":1}"#));
    let other = Err(SendError::OtherVersion);
    assert_eq!(relay.handle.send_custom(AGENT, "x", json!(1)), other);
    // What the program does not know ends the link, and what is no JSON is not even offered.
    agent.say_text(r#"{"inner":{"kind":"unheard"}}"#.into()).await;
    assert_eq!(heard.recv().await.unwrap(), r#"workshop says {"inner":{"kind":"unheard"}}"#);
    assert_eq!(close_of(agent).await, Some(v1::CLOSE_INVALID));
    let mut agent = relay.agent_v1().await;
    heard.recv().await.unwrap();
    agent.say_text("known, but no JSON".into()).await;
    assert_eq!(close_of(agent).await, Some(v1::CLOSE_INVALID));
    assert!(heard.try_recv().is_err());
}

#[tokio::test]
async fn an_agent_of_v1_may_say_more_when_it_starts() {
    let (relay, mut heard) = start().await;
    let mut agent = relay.dial(v1::AGENT_PATH, None).await;
    agent.say_text(agent_start().replace("}}", r#","site":"south"}}"#)).await;
    assert_eq!(heard.recv().await.unwrap(), r#"workshop connected: {"site":"south"}"#);
}
