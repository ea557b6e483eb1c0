//! Agents of older revisions at our relay: what it may send them shows in the `last_error` of their start.

use std::fs;
use std::io::{self, Write as _};
use std::net::Shutdown;
use std::thread;

use codec::v1::{AGENT_PATH, CLIENT_PATH, KEEP_ALIVE_UNKNOWN_MARKS};
use conformance::harness::Origin;
use conformance::harness::frames::{PING, PONG, RawLink, Received, frame};
use conformance::harness::tunnel::{CLIENT_SECRET, agent_start, client_start, start_relay};
use serde_json::{Value, json};

/// An agent by its `last_error` (none if it has no such field), and what our relay may send it.
struct Agent {
    name: &'static str,
    last_error: Option<Value>,
    keep_alive: bool,
    connection_close: bool,
}

fn agents() -> Vec<Agent> {
    let marked = |mark: &str| Some(json!(format!("1 validation error\n  {mark}: 'start'\n  more")));
    let agent = |name, last_error, keep_alive, connection_close| Agent {
        name,
        last_error,
        keep_alive,
        connection_close,
    };
    let [mark, other_mark] = KEEP_ALIVE_UNKNOWN_MARKS else { panic!("two marks are expected") };
    vec![
        agent("marked", marked(mark), false, true),
        agent("marked otherwise", marked(other_mark), false, true),
        agent("half a mark", Some(json!(mark[..mark.len() - 1])), true, true),
        agent("unrelated", Some(json!("Connection refused")), true, true),
        agent("null", Some(Value::Null), true, true),
        agent("absent", None, true, false),
    ]
}

impl Agent {
    fn connect(&self, port: u16) -> io::Result<RawLink> {
        let mut start = agent_start(self.name, "s");
        if let Some(object) = start.as_object_mut() {
            object.remove("last_error");
            object.extend(self.last_error.clone().map(|text| ("last_error".to_owned(), text)));
        }
        let mut link = RawLink::open(port, AGENT_PATH)?;
        link.send_inner(&start)?;
        Ok(link)
    }
}

/// Opens a stream; gives the client's link and the stream's id.
fn open_stream(port: u16, agent: &mut RawLink, name: &str) -> io::Result<(RawLink, Value)> {
    let mut client = RawLink::open(port, CLIENT_PATH)?;
    let mut start = client_start(7);
    start["connection_target"] = name.into();
    client.send_inner(&start)?;
    let asked = agent.receive_inner();
    assert_eq!(asked["kind"], "initiate_connection", "{name}: {asked}");
    let id = asked["connection_id"].clone();
    agent.send_inner(&json!({"kind": "initiate_connection_ok", "connection_id": id}))?;
    assert_eq!(client.receive_inner()["kind"], "start_ok", "{name}");
    Ok((client, id))
}

#[test]
fn keep_alive_and_connection_close_go_to_those_that_know_them() -> io::Result<()> {
    let folder = tempfile::tempdir()?;
    let agents = agents();
    let secrets: serde_json::Map<_, _> =
        agents.iter().map(|agent| (agent.name.to_owned(), "s".into())).collect();
    let credentials = json!({"edge-agents": secrets, "access-client-secrets": [CLIENT_SECRET]});
    fs::write(folder.path().join("credentials.json"), credentials.to_string())?;
    let (relay, port) = start_relay(Origin::Ours, folder.path(), 0, &[]);

    // Those that get no keep_alive come first, so theirs would be due before any other's.
    assert!(agents.is_sorted_by_key(|agent| agent.keep_alive));
    let mut links = Vec::new();
    for agent in &agents {
        let mut link = agent.connect(port)?;
        relay.wait_for_text(&format!("agent connected agent={}", agent.name));

        // What comes next, with the second stream or after it, shows that nothing came instead of the close.
        for _ in 0..2 {
            let (mut client, id) = open_stream(port, &mut link, agent.name)?;
            client.send_close(1000, "")?;
            assert_eq!(client.receive_message().close_code(), Some(1000));
            if agent.connection_close {
                let closed = link.receive_inner();
                let expected = (&"connection_close".into(), &id);
                assert_eq!((&closed["kind"], &closed["connection_id"]), expected, "{}", agent.name);
            }
        }
        links.push((agent, link));
    }

    let mut writers = Vec::new();
    for (_, link) in &links {
        writers.push(link.stream().try_clone()?);
    }
    thread::scope(|scope| {
        let (with, without): (Vec<_>, Vec<_>) =
            links.into_iter().partition(|(agent, _)| agent.keep_alive);
        let watching: Vec<_> = without
            .into_iter()
            .map(|(agent, mut link)| {
                scope.spawn(move || {
                    // Up to the pong to the ping below; the relay's own pings are answered.
                    loop {
                        match link.receive() {
                            Received::Ping(payload) => link.send(PONG, &payload)?,
                            Received::Pong(payload) if payload == b"last" => break,
                            other => panic!("{}: {other:?}", agent.name),
                        }
                    }
                    io::Result::Ok(())
                })
            })
            .collect();
        let waiting: Vec<_> = with
            .into_iter()
            .map(|(agent, mut link)| {
                scope.spawn(move || {
                    assert_eq!(link.receive_inner()["kind"], "keep_alive", "{}", agent.name)
                })
            })
            .collect();
        for thread in waiting {
            if let Err(panic) = thread.join() {
                // The others are not waited for.
                writers.iter().for_each(|writer| drop(writer.shutdown(Shutdown::Both)));
                std::panic::resume_unwind(panic);
            }
        }
        for mut writer in writers.drain(..watching.len()) {
            writer.write_all(&frame(0x80 | PING, b"last"))?;
        }
        watching.into_iter().try_for_each(|thread| match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })
}
