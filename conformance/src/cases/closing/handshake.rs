//! The close handshake: answers, silence, codes and reasons (spec v1, X-2, X-3, X-20 and X-21).

use std::time::Duration;

use codec::v1::CLOSE_NORMAL;
use rustix::process::Signal;

use super::codes::fresh;
use super::end_of;
use crate::harness::tunnel::{AGENT, client_start};
use crate::kit::{Agent, Client, Finding, Link, Outcome, Received, Relay};

/// A close frame is answered with its code, and without reason or with the same one.
fn expect_answer(link: &mut Link, code: u16, reason: &str) -> Outcome {
    link.close_with(&[&code.to_be_bytes(), reason.as_bytes()].concat());
    match end_of(link)? {
        Received::Close(Some(came), said)
            if came == code && (said.is_empty() || said == reason) =>
        {
            link.finish();
            Ok(())
        }
        other => Err(Finding::Fail(format!("{code} {reason:?} is answered by {other:?}"))),
    }
}

/// Codes that a peer may send, known and unknown, and a reason for each.
const ENDS: [(u16, &str); 5] =
    [(1000, ""), (1001, "going away"), (1012, ""), (3001, "Größe"), (4999, "y")];

pub(super) fn relay_answers(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    for (code, reason) in ENDS {
        let (mut client, id) = relay.stream(&mut agent)?;
        expect_answer(&mut client, code, reason)?;
        agent.expect_connection_close(&id)?;
        for fresh in [&mut *relay.client_link()?, &mut *relay.agent_link()?] {
            expect_answer(fresh, code, reason)?;
        }
    }
    expect_answer(&mut agent, 3001, "one that was admitted")?;
    agent.expect_end()
}

pub(super) fn agent_answers(agent: &mut Agent) -> Outcome {
    for (code, reason) in ENDS {
        let target = agent.target()?;
        let mut link = fresh(agent)?;
        link.open("s", target.port())?;
        let mut connection = target.accept()?;
        expect_answer(&mut link, code, reason)?;
        connection.expect_end()?;
    }
    Ok(())
}

pub(super) fn client_answers(client: &mut Client) -> Outcome {
    for (code, reason) in ENDS {
        let mut link = client.open()?;
        expect_answer(&mut link, code, reason)?;
        drop(link);
        client.wait()?;
    }
    Ok(())
}

pub(super) fn relay_unanswered(relay: &Relay) -> Outcome {
    let mut client = relay.client_link()?;
    client.leave_closes_unanswered();
    let mut start = client_start(22);
    start["secret"] = "wrong".into();
    client.send(&start);
    let mut agent = relay.agent_named(AGENT, "wrong")?;
    agent.leave_closes_unanswered();
    for link in [&mut *client, &mut *agent] {
        match end_of(link)? {
            Received::Close(..) => link.expect_end()?,
            other => return Err(Finding::Fail(format!("it is ended by {other:?}"))),
        }
    }
    Ok(())
}

pub(super) fn agent_unanswered(agent: &mut Agent) -> Outcome {
    let mut link = agent.start()?;
    link.leave_closes_unanswered();
    agent.signal(Signal::INT);
    link.expect_close(CLOSE_NORMAL)?;
    link.expect_end()
}

pub(super) fn client_unanswered(client: &mut Client) -> Outcome {
    let mut link = client.open()?;
    link.leave_closes_unanswered();
    client.signal(Signal::INT)?;
    link.expect_close(CLOSE_NORMAL)?;
    link.expect_end()
}

/// How long an agent waits at most for news that should come at once; the Python relay sends them after 10 s.
const AT_ONCE: Duration = Duration::from_secs(5);

pub(super) fn close_counts_at_once(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    // A machine that stops for seconds proves nothing, but not three times.
    for _ in 0..3 {
        let (mut client, id) = relay.stream(&mut agent)?;
        client.close(CLOSE_NORMAL);
        client.expect_close(CLOSE_NORMAL)?;
        let told = agent.receive_within(AT_ONCE)?;
        let is_told = matches!(&told, Some(Received::Text(text)) if text.contains(&id));
        if is_told {
            return Ok(());
        }
        client.finish();
        agent.expect_connection_close(&id)?;
    }
    Err(Finding::fail("the agent is told only after the end of the client's TCP connection"))
}

fn answer_without_code(link: &mut Link) -> Outcome {
    link.close_with(&[]);
    match end_of(link)? {
        Received::Close(None, _) => Ok(()),
        other => Err(Finding::Fail(format!("no code is answered by {other:?}"))),
    }
}

pub(super) fn no_code_to_relay(relay: &Relay) -> Outcome {
    let mut agent = relay.agent()?;
    let (mut client, id) = relay.stream(&mut agent)?;
    answer_without_code(&mut client)?;
    client.finish();
    agent.expect_connection_close(&id)?;
    answer_without_code(&mut agent)
}

pub(super) fn no_code_to_agent(agent: &mut Agent) -> Outcome {
    let mut link = agent.start()?;
    answer_without_code(&mut link)
}

pub(super) fn no_code_to_client(client: &mut Client) -> Outcome {
    let mut link = client.open()?;
    answer_without_code(&mut link)?;
    drop(link);
    // It is no 1000 (C-15).
    client.expect_failure()
}

pub(super) fn reasons_to_client(client: &mut Client) -> Outcome {
    for reason in ["", "\u{1b}[31mred\u{0}\n", &"é".repeat(61), &"x".repeat(123)] {
        let mut link = client.open()?;
        link.data(b"all of it");
        expect_answer(&mut link, CLOSE_NORMAL, reason)?;
        drop(link);
        client.expect_output(b"all of it")?;
        client.expect_success()?;
    }
    Ok(())
}
