//! HTTP: endpoints, the upgrade, and what else a relay answers (spec v1, section H).

use crate::kit::{Case, agent, client, relay};

mod diallers;
mod relays;

/// The cases of this section, in the order of its statements.
pub(super) const CASES: &[Case] = &[
    relay(
        "H-1.a",
        "both paths",
        "an upgrade of each path is answered with 101",
        relays::both_paths,
    ),
    relay(
        "H-1.b",
        "percent-encoding and query",
        "the decoded path counts, without its query",
        relays::other_spellings,
    ),
    relay(
        "H-1.c",
        "paths that are almost right",
        "another case or slash is another path",
        relays::other_paths,
    ),
    relay("H-2.a", "HTTP without TLS", "a request in plain text is answered", relays::plain_http),
    agent(
        "H-2.b",
        "an agent's wss URL",
        "it begins with a TLS handshake",
        diallers::agent_dials_tls,
    ),
    client(
        "H-2.c",
        "a client's wss URL",
        "it begins with a TLS handshake",
        diallers::client_dials_tls,
    ),
    relay(
        "H-3.a",
        "case and further tokens of the upgrade",
        "they make no difference",
        relays::upgrade_tokens,
    ),
    relay(
        "H-3.b",
        "an upgrade over HTTP/1.0",
        "it may be accepted, and else is refused",
        relays::upgrade_over_http_1_0,
    ),
    agent(
        "H-3.c",
        "an agent's upgrade",
        "GET, HTTP/1.1, version 13, a key of 16 bytes",
        diallers::agent_upgrade,
    ),
    client(
        "H-3.d",
        "a client's upgrade",
        "GET, HTTP/1.1, version 13, a key of 16 bytes",
        diallers::client_upgrade,
    ),
    agent("H-4.a", "what an agent offers", "no subprotocol, no origin", diallers::agent_offers),
    client("H-4.b", "what a client offers", "no subprotocol, no origin", diallers::client_offers),
    agent(
        "H-4.c",
        "user info in an agent's URL",
        "it is sent as basic authorization",
        diallers::agent_user_info,
    ),
    client(
        "H-4.d",
        "user info in a client's URL",
        "it is sent as basic authorization",
        diallers::client_user_info,
    ),
    relay(
        "H-5.a",
        "headers that a relay ignores",
        "the link opens, and its peer is admitted",
        relays::ignored_headers,
    ),
    relay("H-5.b", "an upgrade without Host", "the link opens", relays::without_host),
    relay(
        "H-6",
        "the answer to an upgrade",
        "101 with its three headers, and no subprotocol",
        relays::switching_protocols,
    ),
    relay(
        "H-7.a",
        "offers of compression",
        "each is declined or followed, and the link opens",
        relays::offers,
    ),
    relay(
        "H-7.b",
        "uncompressed messages",
        "they are read although compression was agreed on",
        relays::uncompressed,
    )
    .also(&["H-21"]),
    agent(
        "H-7.c",
        "an agent and compression",
        "it copes without, and offers no window of 8 bits",
        diallers::agent_compression,
    ),
    client(
        "H-7.d",
        "a client and compression",
        "it copes without, and offers no window of 8 bits",
        diallers::client_compression,
    ),
    relay(
        "H-8",
        "an upgrade on an unknown path",
        "403, no body, the end of the connection",
        relays::unknown_path,
    ),
    relay("H-9.a", "a request without an upgrade", "404 with a body of JSON", relays::no_upgrade),
    relay("H-9.b", "another upgrade", "it counts as none", relays::other_upgrades),
    relay(
        "H-9.c",
        "documentation pages",
        "404 like any other unknown path",
        relays::no_documentation,
    ),
    relay("H-10.a", "a bad key", "400", relays::bad_keys),
    relay("H-10.b", "another version of WebSocket", "400", relays::bad_versions),
    relay("H-10.c", "an upgrade by POST", "400", relays::upgrade_by_post),
    relay("H-10.d", "what is not HTTP", "400", relays::not_http),
    relay("H-11.a", "a header line of 8,000 bytes", "the link opens", relays::long_header),
    relay("H-11.b", "a header line of 1 MiB", "a status of the 400s", relays::huge_header),
    relay(
        "H-12",
        "the promise of a relay's header",
        "all data before a reset is delivered",
        relays::promise,
    )
    .also(&["X-4"]),
    agent("H-13.a", "an agent before the 101", "it sends no frame", diallers::agent_waits),
    client("H-13.b", "a client before the 101", "it sends no frame", diallers::client_waits),
    agent(
        "H-14.a",
        "an agent and redirects",
        "it follows a few of each kind",
        diallers::agent_redirects,
    ),
    client(
        "H-14.b",
        "a client and redirects",
        "it follows one of each kind",
        diallers::client_redirect,
    ),
    client("H-14.c", "endless redirects", "they end in a failure", diallers::endless_redirects),
    agent("H-15.a", "an agent and a proxy", "it may connect through it", diallers::agent_proxy),
    client("H-15.b", "a client and a proxy", "it may connect through it", diallers::client_proxy),
    agent(
        "H-16.a",
        "an agent refused by HTTP",
        "it ends the attempt and tries again",
        diallers::agent_is_refused,
    ),
    client(
        "H-16.b",
        "a client refused by HTTP",
        "it ends and reports a failure",
        diallers::client_is_refused,
    ),
    agent(
        "H-16.c",
        "an answer with a subprotocol, to an agent",
        "it ends the connection",
        diallers::agent_subprotocol,
    ),
    client(
        "H-16.d",
        "an answer with a subprotocol, to a client",
        "it ends the connection",
        diallers::client_subprotocol,
    ),
    agent(
        "H-16.e",
        "an answer with an extension, to an agent",
        "it ends the connection",
        diallers::agent_extension,
    ),
    client(
        "H-16.f",
        "an answer with an extension, to a client",
        "it ends the connection",
        diallers::client_extension,
    ),
    relay("H-17", "GET /healthz", "200 and ok", relays::healthz),
    agent(
        "H-18.a",
        "an answer in another order and case, to an agent",
        "it makes no difference",
        diallers::agent_odd_answer,
    ),
    client(
        "H-18.b",
        "an answer in another order and case, to a client",
        "it makes no difference",
        diallers::client_odd_answer,
    ),
    relay(
        "H-19.a",
        "a request in another order and case",
        "it makes no difference",
        relays::odd_request,
    ),
    agent(
        "H-19.b",
        "an agent's request",
        "it names its software, in the order of old",
        diallers::agent_request,
    ),
    client(
        "H-19.c",
        "a client's request",
        "it names its software, in the order of old",
        diallers::client_request,
    ),
    relay(
        "H-20",
        "the answer 400",
        "a text for people, and the version that is spoken",
        relays::text_of_400,
    ),
    relay(
        "H-21",
        "offers that cannot be followed",
        "they are passed over, and the link opens",
        relays::bad_offers,
    ),
    relay(
        "H-22",
        "what no answer has",
        "nothing that was not offered, or not understood",
        relays::answers_to_offers,
    ),
    agent("H-24", "Retry-After", "an agent comes back by its own delays", diallers::retry_after)
        .takes(10),
];
