//! Client sessions: the start, its answer, and the one stream of the link (spec v1, section C).

use std::time::Duration;

use codec::v1::{
    CLIENT_ANSWER_TIMEOUT, CLOSE_AGENT_LOST, CLOSE_INVALID, CLOSE_NORMAL, CLOSE_POLICY,
    CLOSE_RESTART, CLOSE_TARGET_RESET, ERROR_AGENT_NOT_REGISTERED, ERROR_BAD_SECRET,
    ERROR_INITIATE_PREFIX, REASON_AGENT_LOST, START_TIMEOUT,
};
use serde_json::{Value, json};

use crate::harness::tunnel::{AGENT, CLIENT_SECRET, OTHER_CLIENT_SECRET, client_start};
use crate::kit::{
    Case, Client, Finding, Input, Message, Outcome, Received, Relay, ToClient, client, relay,
};

/// The cases of this section, in the order of its statements.
pub(super) const CASES: &[Case] = &[
    client("C-1.a", "a client's start", "the first message, with all its fields", first_message),
    client("C-1.b", "a client's later messages", "`tcp_data`, and nothing else", later_messages),
    client("C-2.a", "a client's port", "the integer that the user gave", clients_port),
    relay("C-2.b", "a port in other spellings", "the integer is passed on", lax_ports)
        .also(&["Q-7"]),
    relay(
        "C-2.c",
        "an integer that is no port",
        "it is passed on, or refused by an error",
        no_ports,
    )
    .also(&["Q-8"]),
    relay(
        "C-3.a",
        "a wrong secret and an unknown agent",
        "the secret is checked first",
        secret_first,
    ),
    relay("C-3.b", "each of the secrets", "it opens a stream", every_secret),
    relay("C-3.c", "names that are almost right", "the agent is not found", exact_names),
    relay(
        "C-4",
        "data of the agent before its ok",
        "nothing comes before the answer",
        nothing_before_answer,
    )
    .also(&["S-8"]),
    relay("C-5", "`start_ok`", "it follows the agent's ok, and names no stream", start_ok)
        .also(&["S-4"]),
    relay(
        "C-6.a",
        "after an error that the relay makes",
        "the link is closed with 1000",
        close_after_error,
    ),
    relay(
        "C-6.b",
        "after an error that the agent makes",
        "the link is closed with 1000",
        close_after_refusal,
    )
    .also(&["S-5"]),
    client("C-6.c", "an error as the answer", "the client ends and reports a failure", error_first),
    client(
        "C-6.d",
        "an error amid the stream",
        "the client ends, and ignores what follows",
        error_later,
    ),
    relay("C-7.a", "text of an error: secret", "`ERROR_BAD_SECRET`", text_bad_secret),
    relay("C-7.b", "text of an error: agent", "`ERROR_AGENT_NOT_REGISTERED`", text_not_registered),
    relay(
        "C-7.c",
        "text of an error: target",
        "the prefix and the agent's message",
        text_not_reached,
    ),
    relay(
        "C-7.d",
        "text of an error: agent lost",
        "the prefix and `REASON_AGENT_LOST`",
        text_agent_lost,
    )
    .also(&["X-11"]),
    relay("C-8.a", "data before the start", "the link is closed with 1008", data_first),
    relay("C-8.b", "no message at first", "the link is closed with 1007", no_message_first),
    relay("C-8.c", "no first message", "the link is closed with 1008", nothing_first)
        .takes(12)
        .also(&["L-10"]),
    relay(
        "C-9.a",
        "data before the answer",
        "it is passed on once the target is connected",
        early_data,
    ),
    relay("C-9.b", "data before a refusal", "it is dropped", early_data_refused),
    client("C-10", "no answer", "the client gives up after 150 s", no_answer)
        .takes(155)
        .also(&["L-14"]),
    client("C-11.a", "a second `start_ok`", "it is ignored", second_start_ok),
    client(
        "C-11.b",
        "data instead of an answer",
        "the client ends and reports a failure",
        data_as_answer,
    ),
    relay("C-12", "a second start", "it is ignored", second_start),
    relay("C-13", "the end of the stream", "the link ends with it", link_ends_with_stream),
    client("C-14.a", "the end of the input", "nothing is sent, and the link stays", input_ends),
    client("C-14.b", "an input that is a file", "all of it is sent", input_from_file),
    client("C-14.c", "an input that is empty from the start", "the link stays", empty_input),
    client("C-15.a", "1000 after `start_ok`", "no failure is reported", clean_end).also(&["X-18"]),
    client("C-15.b", "1000 before the answer", "a failure is reported", closed_before_answer),
    client("C-15.c", "other codes after `start_ok`", "a failure is reported", other_codes),
    client("C-15.d", "1001 after `start_ok`", "a failure is reported", going_away),
    client("C-15.e", "the end of the TCP connection", "a failure is reported", lost)
        .also(&["X-16"]),
    client(
        "C-17",
        "a refusal for a limit of the relay's",
        "the client ends and reports a failure",
        refused_for_limit,
    ),
];

// ---- the relay ----

fn start_with(field: &str, value: impl Into<Value>) -> Value {
    let mut start = client_start(22);
    start[field] = value.into();
    start
}

fn lax_ports(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    // So the agent is admitted.
    let _stream = relay.stream(&mut agent)?;
    // The start needs text by hand: the spellings are no values of their own.
    for spelling in ["22", "22.0", "2.2e1", "\"22\"", "\" +0_22.0 \""] {
        let mut client = relay.client_link()?;
        let start = json!({ "inner": client_start(22) }).to_string();
        client.send_text(
            &start.replace("\"target_port\":22", &format!("\"target_port\":{spelling}")),
        );
        let question = agent.expect_question()?;
        if question.inner["target_port"] != 22 {
            return Err(Finding::Fail(format!("{spelling} is passed on as {}", question.text)));
        }
        let id = question.field("connection_id");
        agent.ok(id);
        client.expect_kind("start_ok")?;
        client.leave()?;
        agent.expect_connection_close(id)?;
    }
    Ok(())
}

fn no_ports(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    // So the agent is admitted.
    let _stream = relay.stream(&mut agent)?;
    for port in [0, -1, 70_000] {
        let mut client = relay.client_link()?;
        client.send(&start_with("target_port", port));
        let end = std::time::Instant::now() + relay.stage().patience();
        loop {
            if let Some(Received::Text(text)) = client.receive_within(Duration::from_millis(5))? {
                if !text.contains(r#""kind":"error""#) {
                    return Err(Finding::Fail(format!("to port {port} came {text}")));
                }
                break;
            }
            if let Some(Received::Text(text)) = agent.receive_within(Duration::from_millis(5))? {
                let question = Message::read(text)?;
                if question.inner["target_port"] != port {
                    return Err(Finding::Fail(format!("port {port} became {}", question.text)));
                }
                agent.refuse(question.field("connection_id"), "no such port");
                client.expect_kind("error")?;
                break;
            }
            if std::time::Instant::now() > end {
                return Err(Finding::Fail(format!("nothing came of port {port}")));
            }
        }
    }
    Ok(())
}

fn secret_first(relay: &Relay) -> Outcome {
    let mut client = relay.client_link()?;
    let mut start = start_with("secret", "wrong");
    start["connection_target"] = "nobody".into();
    client.send(&start);
    client.expect_error(ERROR_BAD_SECRET)
}

fn every_secret(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    for secret in [CLIENT_SECRET, OTHER_CLIENT_SECRET] {
        let (mut client, id) = relay.ask_with(&mut agent, &start_with("secret", secret))?;
        agent.ok(&id);
        client.expect_kind("start_ok")?;
        client.leave()?;
        agent.expect_connection_close(&id)?;
    }
    Ok(())
}

fn exact_names(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    // So the agent is admitted.
    let _stream = relay.stream(&mut agent)?;
    for name in [AGENT.to_uppercase(), format!("{AGENT} "), AGENT[1..].to_owned(), String::new()] {
        let mut client = relay.client_link()?;
        client.send(&start_with("connection_target", name));
        client.expect_error(ERROR_AGENT_NOT_REGISTERED)?;
    }
    agent.expect_quiet()
}

fn nothing_before_answer(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (mut client, id) = relay.ask(&mut agent)?;
    agent.data(&id, b"early");
    agent.expect_quiet()?;
    client.expect_quiet()?;
    agent.ok(&id);
    client.expect(&json!({ "kind": "start_ok" }))?;
    client.expect_data(b"early")
}

fn start_ok(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (mut client, id) = relay.ask(&mut agent)?;
    client.expect_quiet()?;
    agent.ok(&id);
    agent.data(&id, b"SSH-2.0-");
    let answer = client.message()?;
    if answer.text != r#"{"inner":{"kind":"start_ok"}}"# {
        return Err(Finding::Fail(format!("the answer is {}", answer.text)));
    }
    client.expect_data(b"SSH-2.0-")
}

fn close_after_error(relay: &Relay) -> Outcome {
    for (start, error) in [
        (start_with("secret", "wrong"), ERROR_BAD_SECRET),
        (start_with("connection_target", "nobody"), ERROR_AGENT_NOT_REGISTERED),
    ] {
        let mut client = relay.client_link()?;
        client.send(&start);
        client.expect_error(error)?;
        client.expect_close(CLOSE_NORMAL)?;
        client.expect_end()?;
    }
    Ok(())
}

fn close_after_refusal(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (mut client, id) = relay.ask(&mut agent)?;
    agent.refuse(&id, "no such host");
    client.expect_kind("error")?;
    client.expect_close(CLOSE_NORMAL)?;
    client.expect_end()?;
    // The stream is over without another word.
    agent.expect_quiet()
}

fn text_bad_secret(relay: &Relay) -> Outcome {
    for secret in ["wrong", "", &CLIENT_SECRET[1..], &CLIENT_SECRET.to_uppercase()] {
        let mut client = relay.client_link()?;
        client.send(&start_with("secret", secret));
        client.expect_error(ERROR_BAD_SECRET)?;
    }
    Ok(())
}

fn text_not_registered(relay: &Relay) -> Outcome {
    let mut client = relay.client_link()?;
    client.send(&client_start(22));
    client.expect_error(ERROR_AGENT_NOT_REGISTERED)
}

fn text_not_reached(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    for words in ["[Errno 111] Connect call failed ('127.0.0.1', 22)", "", "Größe \"7\" \\ 🦀"]
    {
        let (mut client, id) = relay.ask(&mut agent)?;
        agent.refuse(&id, words);
        client.expect_error(&format!("{ERROR_INITIATE_PREFIX}{words}"))?;
    }
    Ok(())
}

fn text_agent_lost(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (mut client, _) = relay.ask(&mut agent)?;
    agent.leave()?;
    client.expect_error(&format!("{ERROR_INITIATE_PREFIX}{REASON_AGENT_LOST}"))?;
    client.expect_close(CLOSE_NORMAL)?;
    Ok(())
}

fn data_first(relay: &Relay) -> Outcome {
    let mut client = relay.client_link()?;
    client.data(b"hello");
    client.expect_close(CLOSE_POLICY)?;
    Ok(())
}

fn no_message_first(relay: &Relay) -> Outcome {
    for text in
        ["", "hello", "{}", r#"{"inner":{"kind":"hello"}}"#, r#"{"inner":{"kind":"start"}}"#]
    {
        let mut client = relay.client_link()?;
        client.send_text(text);
        client.expect_close(CLOSE_INVALID)?;
    }
    Ok(())
}

fn nothing_first(relay: &Relay) -> Outcome {
    let mut client = relay.client_link()?;
    client.expect_nothing_for(START_TIMEOUT - Duration::from_secs(1))?;
    client.expect_close_after(Duration::from_secs(1), CLOSE_POLICY)?;
    Ok(())
}

fn early_data(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (mut client, id) = relay.ask(&mut agent)?;
    client.data(b"SSH-2.0-");
    client.data(b"early\r\n");
    client.expect_quiet()?;
    agent.expect_quiet()?;
    agent.ok(&id);
    client.expect_kind("start_ok")?;
    agent.expect_data(&id, b"SSH-2.0-early\r\n")
}

fn early_data_refused(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (mut client, id) = relay.ask(&mut agent)?;
    client.data(b"early");
    client.expect_quiet()?;
    agent.refuse(&id, "no route");
    client.expect_kind("error")?;
    agent.expect_quiet()
}

fn second_start(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (mut client, id) = relay.stream(&mut agent)?;
    client.send(&client_start(23));
    client.data(b"after it");
    // The agent is not asked again, and the stream goes on.
    agent.expect_data(&id, b"after it")?;
    client.expect_quiet()
}

fn link_ends_with_stream(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (mut client, id) = relay.stream(&mut agent)?;
    agent.reset_stream(&id, "broken");
    match client.receive()? {
        Received::Close(..) | Received::End => Ok(()),
        other => Err(Finding::Fail(format!("after the end of the stream came {other:?}"))),
    }
}

// ---- the client ----

fn first_message(client: &mut Client) -> Outcome {
    client.launch()?;
    let (_link, start) = client.accept_start()?;
    if start.inner == client_start(22) {
        return Ok(());
    }
    Err(Finding::Fail(format!("the start is {}", start.text)))
}

fn later_messages(client: &mut Client) -> Outcome {
    let mut link = client.open()?;
    client.input(b"question\n")?;
    link.expect_data(b"question\n")?;
    link.data(b"answer\n");
    client.expect_output(b"answer\n")?;
    link.expect_quiet()
}

fn clients_port(client: &mut Client) -> Outcome {
    for port in [1, 65_535] {
        let url = client.url();
        client.launch_for(&url, "127.0.0.1", &port.to_string(), Input::Pipe)?;
        let (_link, start) = client.accept_start()?;
        if start.inner["target_port"] != port {
            return Err(Finding::Fail(format!("for port {port} the start is {}", start.text)));
        }
    }
    Ok(())
}

/// The client leaves the link by itself, and reports a failure.
fn expect_given_up(client: &mut Client, link: &mut ToClient) -> Outcome {
    loop {
        match link.receive()? {
            Received::Text(_) => {}
            Received::Close(Some(CLOSE_NORMAL), _) => break,
            other => return Err(Finding::Fail(format!("the client's end is {other:?}"))),
        }
    }
    client.expect_failure()
}

fn error_first(client: &mut Client) -> Outcome {
    for text in [ERROR_BAD_SECRET, ERROR_AGENT_NOT_REGISTERED, "something else"] {
        let mut link = client.start()?;
        link.error(text);
        link.data(b"never to be seen");
        expect_given_up(client, &mut link)?;
    }
    Ok(())
}

fn error_later(client: &mut Client) -> Outcome {
    let mut link = client.open()?;
    link.data(b"before");
    client.expect_output(b"before")?;
    link.error("the target broke");
    link.data(b"never to be seen");
    expect_given_up(client, &mut link)
}

fn no_answer(client: &mut Client) -> Outcome {
    let mut link = client.start()?;
    let sooner = CLIENT_ANSWER_TIMEOUT - Duration::from_secs(2);
    link.expect_nothing_for(sooner)?;
    client.expect_running()?;
    match link.receive_within(client.stage().patience_after(Duration::from_secs(2)))? {
        Some(Received::Close(..)) => client.expect_failure(),
        None => Err(Finding::fail("the client waits on")),
        other => Err(Finding::Fail(format!("instead of a close frame came {other:?}"))),
    }
}

fn second_start_ok(client: &mut Client) -> Outcome {
    let mut link = client.open()?;
    link.start_ok();
    link.data(b"after it");
    client.expect_output(b"after it")?;
    client.input(b"and back")?;
    link.expect_data(b"and back")
}

fn data_as_answer(client: &mut Client) -> Outcome {
    let mut link = client.start()?;
    link.data(b"never to be seen");
    match link.receive()? {
        Received::Close(Some(CLOSE_NORMAL | CLOSE_INVALID), _) => client.expect_failure(),
        other => Err(Finding::Fail(format!("the client's end is {other:?}"))),
    }
}

fn input_ends(client: &mut Client) -> Outcome {
    let mut link = client.open()?;
    client.input(b"question")?;
    link.expect_data(b"question")?;
    client.end_input()?;
    link.expect_nothing_for(Duration::from_secs(1))?;
    link.data(b"answer");
    client.expect_output(b"answer")?;
    link.expect_quiet()
}

fn input_from_file(client: &mut Client) -> Outcome {
    let url = client.url();
    let content = crate::harness::seeded_bytes(14, 5000);
    client.launch_for(&url, "127.0.0.1", "22", Input::File(content.clone()))?;
    let (mut link, _) = client.accept_start()?;
    link.start_ok();
    link.expect_data(&content)?;
    link.data(b"answer");
    client.expect_output(b"answer")
}

fn empty_input(client: &mut Client) -> Outcome {
    let url = client.url();
    client.launch_for(&url, "127.0.0.1", "22", Input::Null)?;
    let (mut link, _) = client.accept_start()?;
    link.start_ok();
    link.expect_nothing_for(Duration::from_secs(1))?;
    link.data(b"greeting");
    client.expect_output(b"greeting")
}

fn clean_end(client: &mut Client) -> Outcome {
    let mut link = client.open()?;
    link.data(b"all of it");
    link.leave()?;
    client.expect_output(b"all of it")?;
    client.expect_success()
}

fn closed_before_answer(client: &mut Client) -> Outcome {
    let mut link = client.start()?;
    link.leave()?;
    client.expect_failure()
}

fn other_codes(client: &mut Client) -> Outcome {
    for code in [CLOSE_TARGET_RESET, CLOSE_AGENT_LOST, CLOSE_RESTART, 4999] {
        let mut link = client.open()?;
        link.data(b"some of it");
        link.leave_with(code)?;
        client.expect_output(b"some of it")?;
        client.expect_failure()?;
    }
    Ok(())
}

fn going_away(client: &mut Client) -> Outcome {
    let mut link = client.open()?;
    link.leave_with(1001)?;
    client.expect_failure()
}

fn lost(client: &mut Client) -> Outcome {
    let link = client.open()?;
    drop(link);
    client.expect_failure()
}

fn refused_for_limit(client: &mut Client) -> Outcome {
    let mut link = client.start()?;
    link.error(&format!("{ERROR_INITIATE_PREFIX}too many streams"));
    expect_given_up(client, &mut link)
}
