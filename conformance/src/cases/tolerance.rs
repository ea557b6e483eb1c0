//! Deliberate tolerance: what a reader accepts beyond what writers write, and what it refuses (spec v1, section Q).

use crate::kit::{Case, agent, client, relay};

mod refusals;
mod spellings;
mod values;

/// The cases of this section, in the order of its statements.
pub(super) const CASES: &[Case] = &[
    relay(
        "Q-1.a",
        "the examples of agents' messages",
        "a relay acts on each",
        spellings::examples_from_agents,
    ),
    relay(
        "Q-1.b",
        "the examples of clients' messages",
        "a relay acts on each",
        spellings::examples_from_clients,
    ),
    agent(
        "Q-1.c",
        "the examples of messages to agents",
        "an agent acts on each",
        spellings::examples_to_agent,
    ),
    client(
        "Q-1.d",
        "the examples of messages to clients",
        "a client acts on each",
        spellings::examples_to_client,
    ),
    relay(
        "Q-1.e",
        "the counterexamples of agents' messages",
        "a relay refuses each",
        refusals::counterexamples_from_agents,
    ),
    relay(
        "Q-1.f",
        "the counterexamples of clients' messages",
        "a relay refuses each",
        refusals::counterexamples_from_clients,
    ),
    agent(
        "Q-1.g",
        "the counterexamples of messages to agents",
        "an agent refuses each",
        refusals::counterexamples_to_agent,
    ),
    client(
        "Q-1.h",
        "the counterexamples of messages to clients",
        "a client refuses each",
        refusals::counterexamples_to_client,
    ),
    relay(
        "Q-2.a",
        "repeated keys, from agents",
        "the last one counts",
        spellings::repeated_from_agents,
    ),
    relay(
        "Q-2.b",
        "repeated keys, from clients",
        "the last one counts",
        spellings::repeated_from_clients,
    ),
    agent(
        "Q-2.c",
        "repeated keys, to an agent",
        "the last one counts",
        spellings::repeated_to_agent,
    ),
    client(
        "Q-2.d",
        "repeated keys, to a client",
        "the last one counts",
        spellings::repeated_to_client,
    ),
    relay(
        "Q-2.e",
        "repeated keys whose last one is wrong",
        "they are refused",
        refusals::last_counts_at_relay,
    ),
    agent(
        "Q-2.f",
        "repeated keys whose last one is wrong, to an agent",
        "they are refused",
        refusals::last_counts_at_agent,
    )
    .starts(4),
    client(
        "Q-2.g",
        "repeated keys whose last one is wrong, to a client",
        "they are refused",
        refusals::last_counts_at_client,
    )
    .starts(4),
    relay(
        "Q-3.a",
        "fields in another order, from agents",
        "it makes no difference",
        spellings::reversed_from_agents,
    ),
    relay(
        "Q-3.b",
        "fields in another order, from clients",
        "it makes no difference",
        spellings::reversed_from_clients,
    ),
    agent(
        "Q-3.c",
        "fields in another order, to an agent",
        "it makes no difference",
        spellings::reversed_to_agent,
    ),
    client(
        "Q-3.d",
        "fields in another order, to a client",
        "it makes no difference",
        spellings::reversed_to_client,
    ),
    relay(
        "Q-3.e",
        "white space, from agents",
        "it makes no difference",
        spellings::spaced_from_agents,
    ),
    relay(
        "Q-3.f",
        "white space, from clients",
        "it makes no difference",
        spellings::spaced_from_clients,
    ),
    agent(
        "Q-3.g",
        "white space, to an agent",
        "it makes no difference",
        spellings::spaced_to_agent,
    ),
    client(
        "Q-3.h",
        "white space, to a client",
        "it makes no difference",
        spellings::spaced_to_client,
    ),
    relay(
        "Q-3.i",
        "escaped characters, from agents",
        "it makes no difference",
        spellings::escaped_from_agents,
    ),
    relay(
        "Q-3.j",
        "escaped characters, from clients",
        "it makes no difference",
        spellings::escaped_from_clients,
    ),
    agent(
        "Q-3.k",
        "escaped characters, to an agent",
        "it makes no difference",
        spellings::escaped_to_agent,
    ),
    client(
        "Q-3.l",
        "escaped characters, to a client",
        "it makes no difference",
        spellings::escaped_to_client,
    ),
    relay("Q-4.a", "what is not JSON, from agents", "it is refused", refusals::no_json_from_agents),
    relay(
        "Q-4.b",
        "what is not JSON, from clients",
        "it is refused",
        refusals::no_json_from_clients,
    ),
    agent("Q-4.c", "what is not JSON, to an agent", "it is refused", refusals::no_json_to_agent)
        .starts(20),
    client("Q-4.d", "what is not JSON, to a client", "it is refused", refusals::no_json_to_client)
        .starts(20),
    relay(
        "Q-4.e",
        "numbers that JSON or doubles lack, from agents",
        "they are refused",
        refusals::no_numbers_from_agents,
    ),
    relay(
        "Q-4.f",
        "numbers that JSON or doubles lack, from clients",
        "they are refused",
        refusals::no_numbers_from_clients,
    ),
    agent(
        "Q-4.g",
        "numbers that JSON or doubles lack, to an agent",
        "they are refused",
        refusals::no_numbers_to_agent,
    ),
    client(
        "Q-4.h",
        "numbers that JSON or doubles lack, to a client",
        "they are refused",
        refusals::no_numbers_to_client,
    ),
    relay(
        "Q-4.i",
        "integers beyond 64 bits in extra fields",
        "they are read",
        spellings::large_integers,
    ),
    relay(
        "Q-5.a",
        "unknown fields, from agents",
        "they are ignored",
        spellings::unknown_from_agents,
    ),
    relay(
        "Q-5.b",
        "unknown fields, from clients",
        "they are ignored",
        spellings::unknown_from_clients,
    ),
    agent("Q-5.c", "unknown fields, to an agent", "they are ignored", spellings::unknown_to_agent),
    client(
        "Q-5.d",
        "unknown fields, to a client",
        "they are ignored",
        spellings::unknown_to_client,
    ),
    relay(
        "Q-6.a",
        "what is no text where a text belongs, from agents",
        "it is refused",
        refusals::types_from_agents,
    ),
    relay(
        "Q-6.b",
        "what is no text where a text belongs, from clients",
        "it is refused",
        refusals::types_from_clients,
    ),
    agent(
        "Q-6.c",
        "what is no text where a text belongs, to an agent",
        "it is refused",
        refusals::types_to_agent,
    )
    .starts(26),
    client(
        "Q-6.d",
        "what is no text where a text belongs, to a client",
        "it is refused",
        refusals::types_to_client,
    )
    .starts(16),
    relay(
        "Q-7.a",
        "spellings of a port, from clients",
        "the integer is passed on",
        values::ports_from_clients,
    ),
    relay(
        "Q-7.b",
        "spellings of no port, from clients",
        "they are refused",
        values::no_ports_from_clients,
    ),
    agent(
        "Q-7.c",
        "spellings of a port, to an agent",
        "it connects to that port",
        values::ports_to_agent,
    ),
    agent(
        "Q-7.d",
        "spellings of no port, to an agent",
        "they are refused",
        values::no_ports_to_agent,
    )
    .starts(20),
    relay(
        "Q-8.a",
        "integers that are no port, from clients",
        "they are passed on, or refused by an error",
        values::any_integer_from_clients,
    ),
    relay(
        "Q-8.b",
        "integers beyond 64 bits, from clients",
        "they are read as the nearest one",
        values::large_from_clients,
    ),
    agent(
        "Q-8.c",
        "integers that are no port, to an agent",
        "each is answered with an error",
        values::any_integer_to_agent,
    ),
    agent(
        "Q-8.d",
        "integers beyond 64 bits, to an agent",
        "each is answered with an error",
        values::large_to_agent,
    ),
    relay("Q-9.a", "lax base64 from agents", "it is read", values::base64_from_agents),
    relay("Q-9.b", "lax base64 from clients", "it is read", values::base64_from_clients),
    agent("Q-9.c", "lax base64 to an agent", "it is read", values::base64_to_agent),
    client("Q-9.d", "lax base64 to a client", "it is read", values::base64_to_client),
    relay(
        "Q-9.e",
        "unreadable base64 from agents",
        "no part of it is passed on",
        values::no_base64_from_agents,
    ),
    relay(
        "Q-9.f",
        "unreadable base64 from clients",
        "the client's link ends",
        values::no_base64_from_clients,
    ),
    agent(
        "Q-9.g",
        "unreadable base64 to an agent",
        "the stream ends, without a part of it",
        values::no_base64_to_agent,
    )
    .starts(20),
    client(
        "Q-9.h",
        "unreadable base64 to a client",
        "the client leaves, without a part of it",
        values::no_base64_to_client,
    )
    .starts(20),
];
