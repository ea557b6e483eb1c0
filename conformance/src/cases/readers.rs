//! What a party makes of a text: whether it acts on it as on a message, or refuses it.
//!
//! The readers go through every example of a direction, however it is spelled or sent, and see that it has its effect.
//! Refusals are taken as such in whatever way they come: which way is right, the statements on messages tell (M-10 to
//! M-12), and have cases of their own.

use codec::v1::{
    CLOSE_INVALID, CLOSE_NORMAL, CLOSE_POLICY, ERROR_BAD_SECRET, ERROR_INITIATE_PREFIX,
};
use serde_json::{Value, json};

use crate::harness::Target;
use crate::harness::tunnel::{AGENT, AGENT_SECRET, CLIENT_SECRET, OTHER_AGENT, agent_start};
use crate::kit::{
    Agent, Client, Direction, Finding, Link, Message, Outcome, Received, Relay, Request, ToAgent,
    ToClient, bytes_of,
};

/// Sends the message that holds this under `inner`, in some spelling or by some frames.
pub(super) type Send = fn(&mut Link, &Value) -> Outcome;

fn text_of(inner: &Value, field: &str) -> String {
    inner[field].as_str().unwrap_or_default().to_owned()
}

fn unknown_example<T>(inner: &Value) -> Outcome<T> {
    Err(Finding::Fail(format!("the kit does not know what this example does: {inner}")))
}

// ---- messages that are read ----

/// The relay acts on each message of an agent that is sent in this way.
pub(super) fn relay_reads_agents(relay: &Relay, send: Send) -> Outcome {
    let mut agent = relay.agent_link()?;
    send(&mut agent, &agent_start(AGENT, AGENT_SECRET))?;
    // After a reset some relays say twice that the stream is over, so the second reset is another agent's.
    let mut resetting = vec![relay.agent_named(OTHER_AGENT.0, OTHER_AGENT.1)?];
    let mut clients = Vec::new();
    let examples = Direction::AgentToRelay.examples()?;
    let is_reset = |inner: &Value| inner["kind"] == "connection_reset";
    let (resets, others): (Vec<Value>, Vec<Value>) = examples.into_iter().partition(is_reset);
    for mut inner in others {
        match &*text_of(&inner, "kind") {
            // It is for a program that embeds the relay (E-1); A-5 says what others do.
            "start" if inner.get("name").is_none() => {}
            "start" => {
                // Its secret is wrong, which a relay can only say of a message.
                let mut other = relay.agent_link()?;
                send(&mut other, &inner)?;
                expect_not_admitted(&mut other)?;
            }
            "keep_alive" => {
                send(&mut agent, &inner)?;
                agent.expect_quiet()?;
            }
            "initiate_connection_ok" => {
                let (mut client, id) = relay.ask(&mut agent)?;
                inner["connection_id"] = id.into();
                send(&mut agent, &inner)?;
                client.expect_kind("start_ok")?;
                clients.push(client);
            }
            "initiate_connection_error" => {
                let (mut client, id) = relay.ask(&mut agent)?;
                inner["connection_id"] = id.into();
                send(&mut agent, &inner)?;
                let message = text_of(&inner, "message");
                client.expect_error(&format!("{ERROR_INITIATE_PREFIX}{message}"))?;
            }
            "tcp_data" => {
                let (mut client, id) = relay.stream(&mut agent)?;
                inner["connection_id"] = id.into();
                send(&mut agent, &inner)?;
                client.expect_data(&bytes_of(&text_of(&inner, "data_base64"))?)?;
                clients.push(client);
            }
            _ => return unknown_example(&inner),
        }
    }
    resetting.insert(0, agent);
    for mut inner in resets {
        let Some(mut agent) = resetting.pop() else { return unknown_example(&inner) };
        let (mut client, id) = relay.stream(&mut agent)?;
        inner["connection_id"] = id.into();
        send(&mut agent, &inner)?;
        match client.receive()? {
            Received::Close(..) => {}
            other => return Err(Finding::Fail(format!("the reset leads to {other:?}"))),
        }
    }
    Ok(())
}

/// The relay acts on each message of a client that is sent in this way.
pub(super) fn relay_reads_clients(relay: &Relay, send: Send) -> Outcome {
    let mut agent = relay.agent()?;
    // So the agent is admitted. All clients stay, so that nothing is said of their ends.
    let mut clients = vec![relay.stream(&mut agent)?.0];
    for mut inner in Direction::ClientToRelay.examples()? {
        match &*text_of(&inner, "kind") {
            "start" if inner["secret"] == "" => {
                let mut client = relay.client_link()?;
                send(&mut client, &inner)?;
                client.expect_error(ERROR_BAD_SECRET)?;
            }
            "start" => {
                inner["connection_target"] = AGENT.into();
                inner["secret"] = CLIENT_SECRET.into();
                let mut client = relay.client_link()?;
                send(&mut client, &inner)?;
                let question = agent.expect_question()?;
                for field in ["target_ip", "target_port", "protocol"] {
                    if question.inner[field] != inner[field] {
                        let text = question.text;
                        return Err(Finding::Fail(format!("{inner} is passed on as {text}")));
                    }
                }
                clients.push(client);
            }
            "tcp_data" => {
                let (mut client, id) = relay.stream(&mut agent)?;
                send(&mut client, &inner)?;
                agent.expect_data(&id, &bytes_of(&text_of(&inner, "data_base64"))?)?;
                clients.push(client);
            }
            _ => return unknown_example(&inner),
        }
    }
    Ok(())
}

/// The agent acts on each message that is sent in this way.
pub(super) fn agent_reads(agent: &mut Agent, send: Send) -> Outcome {
    let target = Target::echo();
    let mut link = agent.start()?;
    let examples = Direction::RelayToAgent.examples()?;
    // A stream has to be open before there can be data of it, and an end.
    let order = ["keep_alive", "initiate_connection", "tcp_data", "connection_close"];
    if let Some(inner) = examples.iter().find(|inner| !order.contains(&&*text_of(inner, "kind"))) {
        return unknown_example(inner);
    }
    let mut length = 0;
    for kind in order {
        for inner in examples.iter().filter(|inner| inner["kind"] == kind) {
            let mut inner = inner.clone();
            let id = text_of(&inner, "connection_id");
            if kind == "initiate_connection" {
                inner["target_port"] = target.port().into();
            }
            send(&mut link, &inner)?;
            match kind {
                "keep_alive" => link.expect_quiet()?,
                "initiate_connection" => link.expect_ok(&id)?,
                "connection_close" => {
                    let seen = target.next_seen();
                    if seen.length != length {
                        let text = format!("the target got {} of {length} bytes", seen.length);
                        return Err(Finding::Fail(text));
                    }
                }
                _ => {
                    let bytes = bytes_of(&text_of(&inner, "data_base64"))?;
                    length += bytes.len();
                    link.expect_data(&id, &bytes)?;
                }
            }
        }
    }
    Ok(())
}

/// The client acts on each message that is sent in this way.
pub(super) fn client_reads(client: &mut Client, send: Send) -> Outcome {
    let examples = Direction::RelayToClient.examples()?;
    let order = ["start_ok", "tcp_data", "error"];
    if let Some(inner) = examples.iter().find(|inner| !order.contains(&&*text_of(inner, "kind"))) {
        return unknown_example(inner);
    }
    let of_kind = |kind: &'static str| examples.iter().filter(move |inner| inner["kind"] == kind);
    let mut link = client.start()?;
    for inner in of_kind("start_ok") {
        send(&mut link, inner)?;
    }
    for inner in of_kind("tcp_data") {
        send(&mut link, inner)?;
        client.expect_output(&bytes_of(&text_of(inner, "data_base64"))?)?;
    }
    for inner in of_kind("error") {
        let mut link = client.start()?;
        send(&mut link, inner)?;
        expect_left(&mut link)?;
        client.expect_failure()?;
    }
    Ok(())
}

// ---- texts that are refused ----

/// The beginning of a text, to say which one it was.
pub(super) fn beginning(text: &str) -> String {
    let beginning: String = text.chars().take(100).collect();
    format!("{beginning:?}")
}

/// An agent is told that its name or secret is wrong, so its start was read.
pub(super) fn expect_not_admitted(agent: &mut Link) -> Outcome {
    match agent.receive()? {
        Received::Close(Some(CLOSE_POLICY | CLOSE_NORMAL), _) => Ok(()),
        other => Err(Finding::Fail(format!("a start with a wrong secret led to {other:?}"))),
    }
}

/// The relay refuses each of these texts as the first one of a link: there what is no message is told apart from what is
/// one (A-5, C-8), and leaves nothing behind.
pub(super) fn relay_refuses(relay: &Relay, request: &Request, texts: &[String]) -> Outcome {
    for text in texts {
        let mut link = relay.link_by(request)?;
        link.send_text(text);
        match link.receive() {
            Ok(Received::Close(Some(CLOSE_INVALID), _) | Received::End) => {}
            Ok(other) => {
                return Err(Finding::Fail(format!("{} led to {other:?}", beginning(text))));
            }
            Err(_) => return Err(Finding::Fail(format!("{} is not refused", beginning(text)))),
        }
    }
    Ok(())
}

/// An agent that gets texts it has to refuse, each of which would have it connect to a target.
#[derive(Debug)]
pub(super) struct RefusingAgent<'a> {
    agent: &'a mut Agent,
    link: ToAgent,
    /// Where it does connect to.
    target: Target,
    count: usize,
}

impl<'a> RefusingAgent<'a> {
    pub(super) fn start(agent: &'a mut Agent) -> Outcome<Self> {
        Self::at(agent, Target::echo())
    }

    /// With a target of the case's own.
    pub(super) fn at(agent: &'a mut Agent, target: Target) -> Outcome<Self> {
        let link = agent.start()?;
        Ok(Self { agent, link, target, count: 0 })
    }

    /// A request that could be served, without its envelope.
    pub(super) fn question(&self) -> Value {
        json!({
            "kind": "initiate_connection", "target_ip": "127.0.0.1",
            "target_port": self.target.port(), "protocol": "tcp", "connection_id": "asked",
        })
    }

    /// Has it read a text after all, and sees that it connects.
    pub(super) fn accepts(&mut self, text: &str) -> Outcome {
        self.link.send_text(text);
        match self.link.receive()? {
            Received::Text(came) if Message::read(came.clone())?.kind() == OK => Ok(()),
            other => Err(Finding::Fail(format!("{} led to {other:?}", beginning(text)))),
        }
    }

    /// Has it read a text, and sees that it does not do what the text seems to ask for.
    pub(super) fn refuses(&mut self, text: &str) -> Outcome {
        self.link.send_text(text);
        // If it goes on, it does as it is asked next.
        self.count += 1;
        let next = format!("next-{}", self.count);
        self.link.ask(&next, self.target.port());
        match self.link.receive()? {
            Received::Text(text) if Message::read(text.clone())?.field("connection_id") == next => {
                Ok(())
            }
            // If it does not, it starts afresh, without the delay of A-11.
            Received::Close(..) | Received::End => {
                self.link = self.agent.start()?;
                Ok(())
            }
            other => Err(Finding::Fail(format!("{} led to {other:?}", beginning(text)))),
        }
    }
}

const OK: &str = "initiate_connection_ok";

/// A client whose stream is open refuses each of these texts: it leaves, and reports a failure.
pub(super) fn client_refuses(client: &mut Client, texts: &[String]) -> Outcome {
    for text in texts {
        let said = |finding| match finding {
            Finding::Fail(seen) => Finding::Fail(format!("{}: {seen}", beginning(text))),
            other => other,
        };
        let mut link = client.open()?;
        link.send_text(text);
        link.data(b"never to be seen");
        expect_left(&mut link).map_err(said)?;
        client.expect_failure().map_err(said)?;
    }
    Ok(())
}

/// The client leaves the link by itself; gives the code by which it does.
pub(super) fn expect_left(link: &mut ToClient) -> Outcome<Option<u16>> {
    let code = match link.receive()? {
        Received::Close(code, _) => code,
        Received::End => None,
        other => return Err(Finding::Fail(format!("the client goes on: {other:?}"))),
    };
    // A relay ends the TCP connection after a close handshake.
    link.finish();
    Ok(code)
}
