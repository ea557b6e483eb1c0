//! Streams of protocol v2: they outlive the links to the relay.

use std::pin::pin;
use std::time::Duration;

use codec::v2::{Code, Control, Hello, Role};
use mux::v2::{Ask, Event, Side, StreamEnd};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::{Instrument, debug, info, info_span, warn};
use transport::awake::Awake;
use transport::printable::printable;
use transport::streams::{Carried, Seat, Streams};
use transport::system::system_text;

use crate::config::Config;
use crate::targets::{NotReached, Target, dial};

/// What a link's keeper wants to know of it.
#[derive(Debug)]
pub(crate) enum LinkEvent {
    /// The relay has accepted the agent.
    Welcomed,
    /// The relay has refused it.
    Rejected { code: Code, message: String, retry_after: Option<Duration> },
    /// The relay wants it to connect again after this time.
    Goaway(Duration),
}

/// The endpoint of an agent, which is kept from link to link.
pub(crate) fn endpoint(config: &Config) -> Streams {
    let resume_for = config.resume_for;
    Streams::new(Side::Acceptor, mux::v2::Settings { resume_for, ..Default::default() })
}

/// The first message on a link (spec v2, LK-1).
pub(crate) fn hello(config: &Config, instance: &str, last_error: Option<&str>) -> Control {
    let cut = |text: &str| text.chars().take(MAX_LAST_ERROR).collect();
    Control::Hello(Hello {
        role: Role::Agent,
        name: config.name.clone(),
        secret: config.secret.clone(),
        instance: instance.to_owned(),
        software: concat!("edge-agent/", env!("CARGO_PKG_VERSION")).to_owned(),
        last_error: last_error.map(cut),
        extra: None,
    })
}

/// Serves the streams of an endpoint, for ever; what concerns the link goes to `links`. Dropping the future closes the
/// targets' connections.
pub(crate) async fn serve(streams: &Streams, links: mpsc::Sender<LinkEvent>) {
    let mut targets = JoinSet::new();
    let mut awake = Awake::new();
    loop {
        while let Some(ended) = targets.try_join_next() {
            if let Err(error) = ended
                && error.is_panic()
            {
                tracing::error!("a stream's task failed: {error}");
            }
        }
        loop {
            let event = streams.core().poll_event();
            let Some(event) = event else { break };
            let told = match event {
                Event::Dial { key, id, ask, reader, writer } => {
                    let seat = Seat::new(streams.clone(), key, reader, writer);
                    let target = printable(&ask.host, 200);
                    let span = info_span!("stream", %id, %target, port = ask.port);
                    targets.spawn(serve_stream(seat, ask).instrument(span));
                    continue;
                }
                Event::Detached(key) => {
                    debug!(?key, "a stream waits for a link");
                    continue;
                }
                Event::Resumed(key) => {
                    debug!(?key, "a stream goes on");
                    continue;
                }
                Event::Welcomed(_) => LinkEvent::Welcomed,
                Event::Rejected { code, message, retry_after, .. } => {
                    LinkEvent::Rejected { code, message, retry_after }
                }
                Event::Goaway { reconnect_after, .. } => LinkEvent::Goaway(reconnect_after),
                Event::Custom { name, .. } => {
                    debug!(name = printable(&name, 100), "a custom message that nobody takes");
                    continue;
                }
                Event::Opened(_) => continue,
            };
            // A keeper that is behind has the same news waiting.
            let _ = links.try_send(told);
        }
        tokio::select! {
            () = streams.changed() => {}
            () = awake.interrupted() => {
                debug!("the machine has slept; asking the relay for a sign of life");
                streams.probe();
            }
            Some(_) = targets.join_next() => {}
        }
    }
}

/// Serves one stream from its dial to its end. Dropping it resets the target's connection.
async fn serve_stream(seat: Seat, ask: Ask) {
    let dialled = tokio::select! {
        dialled = dial(&ask.host, ask.port.into(), &ask.protocol) => dialled,
        _ = seat.ended() => {
            debug!("given up by the client before the target answered");
            return;
        }
    };
    match dialled {
        Ok((stream, address)) => {
            info!(%address, "stream open");
            seat.streams().core().dialled(transport::now(), seat.key());
            carry(&seat, Target { stream, is_clean: false }).await;
        }
        Err(NotReached { code, message }) => {
            info!("target not reached: {message}");
            seat.streams().core().reset(transport::now(), seat.key(), code, &message);
        }
    }
}

/// Carries bytes both ways, each way to its own end (spec v2, EN-1).
async fn carry(seat: &Seat, mut target: Target) {
    let break_off = async |text: String| {
        info!("stream ended: {text}");
        seat.streams().core().break_off(transport::now(), seat.key(), Code::PeerReset, &text);
        // What the target sent before is still on its way.
        seat.ended().await;
    };
    {
        let (from_target, to_target) = target.stream.split();
        let mut sending = pin!(seat.send_from(from_target));
        let mut receiving = pin!(seat.receive_into(to_target));
        let (mut sent, mut received) = (None, None);
        while sent.is_none() || received.is_none() {
            tokio::select! {
                carried = &mut sending, if sent.is_none() => match carried {
                    Carried::Failed(error) => {
                        let error = system_text(&error);
                        return break_off(format!("the target reset the connection: {error}")).await;
                    }
                    // What came before the end is still handed on.
                    carried => sent = Some(carried),
                },
                carried = &mut receiving, if received.is_none() => match carried {
                    Carried::Failed(error) => {
                        let error = system_text(&error);
                        return break_off(format!("writing to the target failed: {error}")).await;
                    }
                    Carried::Over => return info!("stream ended: {}", describe(seat.end())),
                    Carried::Finished => received = Some(carried),
                },
            }
        }
        target.is_clean = true;
    }
    // Both ways are through here. What the client lacks is kept for it, the target is not needed for that.
    drop(target);
    let end = seat.ended().await;
    match end {
        StreamEnd::Done => info!("stream ended"),
        end => warn!("stream ended: {}", describe(Some(end))),
    }
}

fn describe(end: Option<StreamEnd>) -> String {
    match end {
        Some(StreamEnd::Done) | None => "all was handed on".into(),
        Some(StreamEnd::Reset { code, message } | StreamEnd::Refused { code, message }) => {
            format!("reset by the other end: {} {}", code.as_str(), printable(&message, 200))
        }
        Some(StreamEnd::Local { code }) => format!("reset: {}", code.as_str()),
        Some(StreamEnd::LinkLost) => "the link to the relay was lost".into(),
        Some(StreamEnd::Interrupted) => "the client's link was lost".into(),
        Some(StreamEnd::Unconfirmed) => "the client did not come back in time".into(),
    }
}

/// Characters of `last_error` at most (spec v2, FR-6).
const MAX_LAST_ERROR: usize = codec::v2::MAX_MESSAGE_TEXT;
