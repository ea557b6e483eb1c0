//! Hostile input: what no polite peer sends, in quantity, while a good stream goes on beside it. Each case is numbered
//! by the statement that it leans on, with a letter from the end of the alphabet.

use crate::kit::{Case, agent, client, relay};

mod dialled;
mod relayed;

/// The cases of this group, in the order of the statements.
pub(super) const CASES: &[Case] = &[
    relay(
        "H-10.z",
        "garbage in place of HTTP, from fifty peers",
        "it harms nobody else",
        relayed::garbage,
    ),
    agent(
        "H-16.y",
        "garbage in place of an answer, to an agent",
        "it ends the attempt and tries again",
        dialled::garbage_to_agent,
    )
    .takes(15),
    client(
        "H-16.z",
        "garbage in place of an answer, to a client",
        "it ends and reports a failure",
        dialled::garbage_to_client,
    )
    .starts(6),
    relay("M-5.z", "fragments without an end", "they harm nobody else", relayed::endless_fragments),
    relay(
        "M-10.z",
        "broken JSON from a hundred peers",
        "each link is ended, and nobody else's",
        relayed::broken_json,
    ),
    agent(
        "M-11.z",
        "a hundred broken texts to an agent",
        "they are ignored; its streams go on",
        dialled::broken_texts,
    ),
    relay(
        "A-3.z",
        "guessed secrets",
        "each is refused, and harms nobody else",
        relayed::guessed_secrets,
    ),
    relay(
        "A-8.z",
        "claims to a name that is held",
        "each is refused; the holder keeps its streams",
        relayed::claims,
    ),
    client(
        "C-11.z",
        "a thousand messages that mean nothing",
        "the stream goes on",
        dialled::meaningless,
    ),
    relay(
        "S-13.x",
        "another agent's stream ids",
        "they are ignored; the stream goes on",
        relayed::foreign_ids,
    ),
    relay(
        "S-13.y",
        "thousands of ids of no stream, to a relay",
        "they are ignored; the link goes on",
        relayed::unknown_ids,
    ),
    agent(
        "S-13.z",
        "thousands of ids of no stream, to an agent",
        "they are ignored; the link goes on",
        dialled::unknown_ids,
    ),
    agent(
        "S-14.z",
        "the same id again and again",
        "each request is answered; other streams go on",
        dialled::same_id,
    ),
    relay(
        "K-1.x",
        "thousands of pings to a relay",
        "the last one is answered, and harms nobody else",
        relayed::pings,
    ),
    agent(
        "K-1.y",
        "thousands of pings to an agent",
        "the last one is answered; its streams go on",
        dialled::pings_to_agent,
    ),
    client(
        "K-1.z",
        "thousands of pings to a client",
        "the last one is answered; its stream goes on",
        dialled::pings_to_client,
    ),
    relay(
        "X-15.x",
        "broken frames from forty peers",
        "each link is ended, and nobody else's",
        relayed::broken_frames,
    ),
    agent(
        "X-15.y",
        "broken frames to an agent",
        "it ends its link and comes back",
        dialled::broken_frames_to_agent,
    )
    .takes(15),
    client(
        "X-15.z",
        "broken frames to a client",
        "it ends and reports a failure",
        dialled::broken_frames_to_client,
    )
    .starts(8),
    relay("X-16.x", "peers that vanish amid a frame", "it harms nobody else", relayed::vanishing),
    agent(
        "X-16.y",
        "a relay that vanishes amid a frame, to an agent",
        "it comes back",
        dialled::vanishing_to_agent,
    )
    .takes(5),
    client(
        "X-16.z",
        "a relay that vanishes amid a frame, to a client",
        "all whole messages are written out; a failure is reported",
        dialled::vanishing_to_client,
    ),
    relay(
        "L-2.z",
        "frames that claim too much",
        "each link is ended, and nobody else's",
        relayed::oversized,
    ),
    agent(
        "L-4.z",
        "frames that claim too much, to an agent",
        "it ends its link and comes back",
        dialled::oversized_to_agent,
    )
    .takes(5),
    client(
        "L-3.z",
        "frames that claim too much, to a client",
        "it ends and reports a failure",
        dialled::oversized_to_client,
    )
    .starts(3),
    relay(
        "L-6.z",
        "millions of values in a message",
        "they harm nobody else",
        relayed::many_values,
    ),
    relay(
        "L-7.z",
        "a hundred thousand levels of nesting",
        "they harm nobody else",
        relayed::deep_nesting,
    ),
    relay(
        "L-10.z",
        "peers that say nothing, and half handshakes",
        "they harm nobody else",
        relayed::silence,
    ),
];
