//! Messages (spec v1, section M).

use crate::kit::{Case, agent, client, relay};

mod links;
mod texts;

/// The cases of this section, in the order of its statements.
pub(super) const CASES: &[Case] = &[
    relay(
        "M-1.a",
        "what a relay sends",
        "texts of JSON in UTF-8, with `kind` in `inner`",
        texts::relay_sends_json,
    )
    .also(&["M-2"]),
    agent(
        "M-1.b",
        "what an agent sends",
        "texts of JSON in UTF-8, with `kind` in `inner`",
        texts::agent_sends_json,
    )
    .also(&["M-2"]),
    client(
        "M-1.c",
        "what a client sends",
        "texts of JSON in UTF-8, with `kind` in `inner`",
        texts::client_sends_json,
    )
    .also(&["M-2"]),
    relay(
        "M-2.a",
        "texts without `inner` or `kind`, from agents",
        "they are refused",
        texts::shapes_from_agents,
    ),
    relay(
        "M-2.b",
        "texts without `inner` or `kind`, from clients",
        "they are refused",
        texts::shapes_from_clients,
    ),
    agent(
        "M-2.c",
        "texts without `inner` or `kind`, to an agent",
        "they are refused",
        texts::shapes_to_agent,
    )
    .starts(24),
    client(
        "M-2.d",
        "texts without `inner` or `kind`, to a client",
        "they are refused",
        texts::shapes_to_client,
    )
    .starts(24),
    relay(
        "M-3.a",
        "a relay's messages to an agent",
        "each is canonical",
        texts::canonical_to_agent,
    ),
    relay(
        "M-3.b",
        "a relay's messages to a client",
        "each is canonical",
        texts::canonical_to_client,
    ),
    agent("M-3.c", "an agent's messages", "each is canonical", texts::canonical_from_agent),
    client("M-3.d", "a client's messages", "each is canonical", texts::canonical_from_client),
    relay(
        "M-4.a",
        "special characters through a relay",
        "only what has to be is escaped",
        texts::escapes_of_relay,
    ),
    agent(
        "M-4.b",
        "special characters in an agent's messages",
        "only what has to be is escaped",
        texts::escapes_of_agent,
    ),
    client(
        "M-4.c",
        "special characters in a client's start",
        "only what has to be is escaped",
        texts::escapes_of_client,
    ),
    relay(
        "M-5.a",
        "fragmented messages of agents",
        "they are read, with pings amid them",
        links::pieces_from_agents,
    ),
    relay(
        "M-5.b",
        "fragmented messages of clients",
        "they are read, with pings amid them",
        links::pieces_from_clients,
    ),
    agent(
        "M-5.c",
        "fragmented messages to an agent",
        "they are read, with pings amid them",
        links::pieces_to_agent,
    ),
    client(
        "M-5.d",
        "fragmented messages to a client",
        "they are read, with pings amid them",
        links::pieces_to_client,
    ),
    relay(
        "M-6.a",
        "a binary message of an agent",
        "the link is closed with 1003",
        links::binary_from_agent,
    ),
    relay(
        "M-6.b",
        "a binary message of a client",
        "the link is closed with 1003, and the agent is told",
        links::binary_from_client,
    ),
    relay(
        "M-6.c",
        "a binary message as the first one",
        "the link is closed with 1003",
        links::binary_first,
    ),
    agent(
        "M-6.d",
        "binary messages to an agent",
        "it reads them like texts",
        links::binary_to_agent,
    ),
    client(
        "M-6.e",
        "binary messages to a client",
        "it reads them like texts",
        links::binary_to_client,
    ),
    relay(
        "M-7.a",
        "an agent's messages in a row",
        "they take effect in their order",
        links::order_from_agent,
    ),
    relay(
        "M-7.b",
        "a client's messages in a row",
        "they take effect in their order",
        links::order_from_client,
    ),
    agent(
        "M-7.c",
        "messages in a row to an agent",
        "they take effect in their order",
        links::order_to_agent,
    ),
    client(
        "M-7.d",
        "messages in a row to a client",
        "they take effect in their order",
        links::order_to_client,
    ),
    relay(
        "M-8.a",
        "kinds of other directions, from agents",
        "they are refused",
        texts::kinds_from_agents,
    ),
    relay(
        "M-8.b",
        "kinds of other directions, from clients",
        "they are refused",
        texts::kinds_from_clients,
    ),
    agent(
        "M-8.c",
        "kinds of other directions, to an agent",
        "they are refused",
        texts::kinds_to_agent,
    )
    .starts(10),
    client(
        "M-8.d",
        "kinds of other directions, to a client",
        "they are refused",
        texts::kinds_to_client,
    )
    .starts(10),
    relay(
        "M-9.a",
        "a relay's base64",
        "standard, padded, without line breaks",
        texts::base64_of_relay,
    ),
    agent(
        "M-9.b",
        "an agent's base64",
        "standard, padded, without line breaks",
        texts::base64_of_agent,
    ),
    client(
        "M-9.c",
        "a client's base64",
        "standard, padded, without line breaks",
        texts::base64_of_client,
    ),
    relay(
        "M-10.a",
        "what is no message, from an agent",
        "the link is closed with 1007, its streams end",
        links::no_message_of_agent,
    ),
    relay(
        "M-10.b",
        "what is no message, from a client",
        "the link is closed with 1007, its stream ends",
        links::no_message_of_client,
    ),
    agent(
        "M-11",
        "what is no message, to an agent",
        "it is ignored; link and streams go on",
        links::no_message_to_agent,
    ),
    client(
        "M-12",
        "what is no message, to a client",
        "it closes its link and reports a failure",
        links::no_message_to_client,
    ),
    relay("M-13.a", "frames of a relay's messages", "one for each", links::frames_of_relay),
    agent("M-13.b", "frames of an agent's messages", "one for each", links::frames_of_agent),
    client("M-13.c", "frames of a client's messages", "one for each", links::frames_of_client),
    client("M-14", "the code of M-12", "1000 or 1007", links::code_of_client),
];
