//! How streams and links end at agents and clients (spec v1, X-5 to ).

use std::time::{Duration, Instant};

use codec::v1::{CLOSE_NORMAL, LINGER, STREAM_QUEUE, TARGET_CLOSED_MESSAGE};
use rustix::process::Signal;

use super::end_of;
use crate::harness::frames::PONG;
use crate::harness::seeded_bytes;
use crate::kit::{Agent, Client, Finding, Outcome, Received, ToAgent};

// ---- the agent ----

pub(super) fn target_closes(agent: &mut Agent) -> Outcome {
    let target = agent.target()?;
    let mut link = agent.start_with_promise()?;
    for length in [0, 10, 1 << 16] {
        link.open("s", target.port())?;
        let mut connection = target.accept()?;
        let bytes = seeded_bytes(5, length);
        connection.write(&bytes);
        drop(connection);
        link.expect_data("s", &bytes)?;
        let words = link.expect_reset("s")?;
        if words != TARGET_CLOSED_MESSAGE {
            return Err(Finding::Fail(format!("the reset says {words:?}")));
        }
    }
    link.expect_quiet()
}

pub(super) fn target_resets(agent: &mut Agent) -> Outcome {
    let target = agent.target()?;
    let mut link = agent.start_with_promise()?;
    link.open("s", target.port())?;
    target.accept()?.reset();
    let words = link.expect_reset("s")?;
    if words == TARGET_CLOSED_MESSAGE {
        return Err(Finding::fail("the reset says that the end was clean"));
    }
    link.expect_quiet()
}

/// The ping that stands behind the last data; pings are not answered by themselves.
fn expect_ping(link: &mut ToAgent) -> Outcome<Vec<u8>> {
    let patience = link.stage().patience();
    loop {
        match link.next(patience)? {
            Some(Received::Ping(payload)) => return Ok(payload),
            Some(Received::Text(text)) if text.contains("keep_alive") => {}
            Some(other) => return Err(Finding::Fail(format!("instead of a ping came {other:?}"))),
            None => return Err(Finding::fail("no ping follows the last data")),
        }
    }
}

pub(super) fn lingers(agent: &mut Agent) -> Outcome {
    let target = agent.target()?;
    let mut link = agent.start()?;
    link.leave_pings_unanswered();
    link.open("s", target.port())?;
    let mut connection = target.accept()?;
    connection.write(b"the last words");
    drop(connection);
    link.expect_data("s", b"the last words")?;
    let payload = expect_ping(&mut link)?;
    link.expect_nothing_for(2 * LINGER)?;
    // Counted from before the pong, so that it is never too long.
    let early = Instant::now() + LINGER - Duration::from_millis(50);
    link.send_frame(0x80 | PONG, &payload);
    link.expect_nothing_for(early.saturating_duration_since(Instant::now()))?;
    let words = link.expect_reset("s")?;
    if words == TARGET_CLOSED_MESSAGE {
        return Ok(());
    }
    Err(Finding::Fail(format!("the reset says {words:?}")))
}

pub(super) fn lingers_longer(agent: &mut Agent) -> Outcome {
    const LENGTH: usize = 5 << 20;
    let server = crate::harness::Target::source(6, LENGTH);
    let mut link = agent.start()?;
    link.open("s", server.port())?;
    let began = Instant::now();
    let sizes = link.sizes_of_data("s", &seeded_bytes(6, LENGTH))?;
    let is_fast = began.elapsed() < Duration::from_secs(10);
    link.leave_pings_unanswered();
    let payload = expect_ping(&mut link)?;
    link.send_frame(0x80 | PONG, &payload);
    let small = sizes.largest_payload() <= codec::v1::ORIGINAL_CHUNK;
    agent.should(small, "its messages are larger than those of Python");
    // What took long by itself has no backlog.
    let waits = !is_fast || link.expect_nothing_for(3 * LINGER).is_ok();
    agent.should(waits, "it waits no longer after a long transfer");
    Ok(())
}

pub(super) fn broken_at_once(agent: &mut Agent) -> Outcome {
    let target = agent.target()?;
    let mut link = agent.start()?;
    link.leave_pings_unanswered();
    link.open("s", target.port())?;
    target.accept()?.reset();
    let words = link.expect_reset("s")?;
    if words == TARGET_CLOSED_MESSAGE {
        return Err(Finding::fail("the reset says that the end was clean"));
    }
    Ok(())
}

pub(super) fn written_out(agent: &mut Agent) -> Outcome {
    let target = agent.target()?;
    let mut link = agent.start()?;
    link.open("s", target.port())?;
    let mut connection = target.accept()?;
    link.data("s", b"the last ");
    link.data("s", b"words");
    link.close_stream("s");
    connection.expect(b"the last words")?;
    connection.expect_end()?;
    link.expect_quiet()
}

pub(super) fn queue_written_out(agent: &mut Agent) -> Outcome {
    let target = agent.target()?;
    let mut link = agent.start()?;
    link.open("s", target.port())?;
    let mut connection = target.accept()?;
    let bytes = seeded_bytes(9, STREAM_QUEUE);
    for piece in bytes.chunks(1 << 14) {
        link.data("s", piece);
    }
    link.close_stream("s");
    // All of it is at the agent before the target reads a byte.
    link.expect_quiet()?;
    connection.expect(&bytes)?;
    connection.expect_end()
}

pub(super) fn dropped_after_close(agent: &mut Agent) -> Outcome {
    let target = agent.target()?;
    let mut link = agent.start()?;
    link.open("s", target.port())?;
    let mut connection = target.accept()?;
    link.close_stream("s");
    connection.expect_end()?;
    connection.write(b"to nobody");
    drop(connection);
    link.open("t", target.port())?;
    link.expect_quiet()
}

pub(super) fn closed_while_connecting(agent: &mut Agent) -> Outcome {
    let mut target = agent.silent_target()?;
    let mut link = agent.start()?;
    link.ask("s", target.port());
    link.expect_quiet()?;
    link.close_stream("s");
    // An agent that has not stopped is let in when its system tries again, after one or three seconds.
    if let Some(mut connection) = target.accept_within(Duration::from_secs(4))? {
        connection.expect_end()?;
    }
    link.ask("t", 0);
    loop {
        let message = link.message()?;
        match message.kind() {
            "tcp_data" => {
                return Err(Finding::Fail(format!("after the end came {}", message.text)));
            }
            _ if message.field("connection_id") == "t" => return Ok(()),
            _ => {}
        }
    }
}

pub(super) fn half_close(agent: &mut Agent) -> Outcome {
    let target = agent.target()?;
    let mut link = agent.start_with_promise()?;
    link.open("s", target.port())?;
    let mut connection = target.accept()?;
    connection.write(b"the last words");
    connection.finish();
    link.expect_data("s", b"the last words")?;
    link.expect_reset("s")?;
    link.close_stream("s");
    connection.expect_end()
}

pub(super) fn relay_is_cut(agent: &mut Agent) -> Outcome {
    let target = agent.target()?;
    let mut link = agent.start()?;
    link.open("s", target.port())?;
    let mut connection = target.accept()?;
    drop(link);
    connection.expect_end()?;
    let (mut link, _) = agent.accept_start()?;
    link.open("s", target.port())?;
    link.expect_quiet()
}

pub(super) fn interrupted_agent(agent: &mut Agent) -> Outcome {
    stopped_agent(agent, Signal::INT)
}

pub(super) fn terminated_agent(agent: &mut Agent) -> Outcome {
    stopped_agent(agent, Signal::TERM)
}

fn stopped_agent(agent: &mut Agent, signal: Signal) -> Outcome {
    let target = agent.target()?;
    let mut link = agent.start()?;
    link.open("s", target.port())?;
    let mut connection = target.accept()?;
    agent.signal(signal);
    match end_of(&mut link)? {
        Received::Close(Some(CLOSE_NORMAL), _) => connection.expect_end(),
        other => Err(Finding::Fail(format!("its end is {other:?}"))),
    }
}

// ---- the client ----

pub(super) fn input_ends(client: &mut Client) -> Outcome {
    let mut link = client.open()?;
    link.data(b"before");
    client.expect_output(b"before")?;
    client.input(b"the last words")?;
    client.end_input()?;
    link.expect_data(b"the last words")?;
    link.expect_quiet()?;
    link.data(b"answer");
    link.leave()?;
    client.expect_output(b"answer")?;
    client.expect_success()
}

pub(super) fn interrupted_client(client: &mut Client) -> Outcome {
    stopped_client(client, Signal::INT)
}

pub(super) fn terminated_client(client: &mut Client) -> Outcome {
    stopped_client(client, Signal::TERM)
}

fn stopped_client(client: &mut Client, signal: Signal) -> Outcome {
    let mut link = client.open()?;
    link.data(b"some of it");
    client.expect_output(b"some of it")?;
    client.signal(signal)?;
    match link.receive()? {
        Received::Close(Some(CLOSE_NORMAL), _) => Ok(()),
        other => Err(Finding::Fail(format!("its end is {other:?}"))),
    }
}
