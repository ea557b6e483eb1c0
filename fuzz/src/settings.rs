//! What users write: the URL of a relay, variables that name proxies, a credentials file.

use codec::Secret;
use relay::auth::Credentials;
use serde_json::{Map, Value};
use transport::proxy::ProxyEnv;
use transport::url::RelayUrl;

/// Reads a text as each of the three. The text before the first line break is also the value of a proxy's variable, and
/// what is behind it the list of hosts to reach directly.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    check_url(text);
    check_proxy(text);
    check_credentials(text);
}

/// A URL that is understood has all its parts and is shown in a form that is understood, too; a password is never shown.
fn check_url(text: &str) {
    match text.parse::<RelayUrl>() {
        Ok(url) => {
            assert!(!url.host().is_empty() && url.port() > 0);
            assert!(url.path_and_query().starts_with('/'));
            let shown = url.to_string();
            assert!(!shown.contains(char::is_control), "{shown:?}");
            let again: RelayUrl = shown.parse().expect("what is shown is a URL");
            assert_eq!(again.host_and_port(), url.host_and_port());
            assert_eq!(again.to_string(), shown);
        }
        Err(error) => assert!(!error.to_string().contains('\n')),
    }
    let with_password = format!("wss://user:{CANARY}@{text}");
    let shown = match with_password.parse::<RelayUrl>() {
        Ok(url) => format!("{url} {url:?}"),
        Err(error) => format!("{error} {error:?}"),
    };
    // A path that holds the word is shown as a path.
    assert!(!shown.contains(CANARY) || text.contains(CANARY), "{shown}");
}

/// A proxy is named without its password.
fn check_proxy(text: &str) {
    let (value, direct) = text.split_once('\n').unwrap_or((text, ""));
    let url: RelayUrl = "ws://relay.example.org:8000/".parse().expect("it is a URL");
    let with_password = format!("user:{CANARY}@{value}");
    for variable in ["http_proxy", "SOCKS_PROXY"] {
        for value in [value, &with_password] {
            let variables = ProxyEnv::from_vars([(variable, value), ("no_proxy", direct)]);
            let shown = match variables.proxy_for(&url) {
                Ok(Some(proxy)) => format!("{proxy} {proxy:?} {variables:?}"),
                Ok(None) => format!("{variables:?}"),
                Err(error) => format!("{error} {error:?}"),
            };
            assert!(!shown.contains(CANARY) || text.contains(CANARY), "{shown}");
        }
    }
}

/// Credentials that are understood admit whom they name, with the very secrets, and nobody else.
fn check_credentials(text: &str) {
    let credentials = match Credentials::from_json(text) {
        Ok(credentials) => credentials,
        Err(problem) => {
            let shown = problem.to_string();
            assert!(!shown.contains(char::is_control) && shown.len() < 1000, "{shown:?}");
            return;
        }
    };
    let document: Map<String, Value> = serde_json::from_str(text).expect("it is an object");
    let agents = document["edge-agents"].as_object().expect("it is an object");
    let clients = document["access-client-secrets"].as_array().expect("it is a list");
    assert_eq!(credentials.agent_count(), agents.len());
    assert_eq!(credentials.client_secret_count(), clients.len());
    let secret = |value: &Value| value.as_str().expect("a secret is a text").to_owned();
    for (name, value) in agents {
        assert!(credentials.check_agent(name, &Secret::from(secret(value))));
        assert!(!credentials.check_agent(name, &Secret::from(secret(value) + "x")));
        assert!(!credentials.check_agent(name, &Secret::from(String::new())));
    }
    for value in clients {
        assert!(credentials.check_client(&Secret::from(secret(value))));
    }
    assert!(!credentials.check_client(&Secret::from(String::new())));
}

/// Values that users have written.
pub fn seeds() -> Vec<Vec<u8>> {
    [
        "ws://127.0.0.1:8000/ws_for_edge_agents",
        "wss://user:pass%20word@Relay.Example.org/tunnel/../ws?token=1",
        "ws://[fd00::1]:81/\u{fc}",
        "wss://b\u{fc}cher.example?x",
        "relay.example.org:443/#part",
        "http://user:password@proxy.lan:3128/",
        "socks5h://[::1]\nrelay.example.org:8000, *.lan 10.0.0.0/8",
        "proxy.lan\n*",
        r#"{"edge-agents":{"workshop":"secret","":"x"},"access-client-secrets":["one","two"]}"#,
        r#"{"edge-agents":{},"access-client-secrets":"one","edge-agents":{"a":"b","a":"c"}}"#,
        r#"{"edge-agents":{"a":null},"access-client-secrets":[]}"#,
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

/// A password that nobody must see.
const CANARY: &str = "hunter2";
