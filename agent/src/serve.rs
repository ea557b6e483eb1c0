//! Keeping a link to the relay, for ever.

use std::future::Future;

use codec::v1::{self, AgentStart, AgentToRelay};
use tracing::{debug, info, warn};
use transport::backoff::Backoff;
use transport::dial::{Dialed, Dialer, DialerConfig};
use transport::driver::{Close, Ended, drive};
use transport::printable::printable;
use transport::proxy::ProxyEnv;
use transport::tls::TlsError;
use transport::websocket::{Role, Sizes, websocket};

use crate::config::Config;
use crate::link::{Link, RelayKind};

/// Registers with the relay and serves it until `shutdown` completes; then closes the link with
/// 1000 and returns. A link that is refused or lost is dialled again, for ever (spec v1, A-11).
///
/// # Errors
/// [`TlsError`] if the certificates to trust cannot be loaded; nothing else ends an agent.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> Result<(), TlsError> {
    let dialer = Dialer::new(DialerConfig {
        ca_file: config.ca_file.clone(),
        proxies: ProxyEnv::from_env(),
    })?;
    let mut backoff = Backoff::new();
    let mut last_error = None;
    tokio::pin!(shutdown);
    loop {
        debug!(relay = %config.relay_url, "dialling");
        let dialed = tokio::select! {
            dialed = dialer.dial(&config.relay_url) => dialed,
            () = &mut shutdown => return Ok(()),
        };
        let problem = match dialed {
            Ok(dialed) => {
                let started = transport::now();
                let start = start(&config, last_error.clone());
                let over = link(dialed, start, &config, &mut shutdown).await;
                let Some(over) = over else { return Ok(()) };
                backoff.link_lasted(started.elapsed());
                if over.registered {
                    last_error = None;
                }
                last_error = failure(&over.ended).or(last_error);
                describe(&over)
            }
            Err(error) => {
                last_error = Some(error.summary());
                printable(&error.to_string(), 600)
            }
        };
        // Whatever a `Retry-After` says (spec v1, H-24).
        let delay = backoff.next_delay();
        warn!(relay = %config.relay_url, "{problem}; next attempt in {:.1} s", delay.as_secs_f32());
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = &mut shutdown => return Ok(()),
        }
    }
}

fn start(config: &Config, last_error: Option<String>) -> String {
    v1::encode(&AgentToRelay::Start(AgentStart {
        // Null rather than absent (spec v1, A-1 and R-5).
        last_error: Some(last_error),
        name: Some(config.name.clone()),
        secret: Some(config.secret.clone()),
        extra: Default::default(),
    }))
}

/// A link that is over.
struct Over {
    ended: Ended,
    /// Whether the relay had admitted us, as far as can be told.
    registered: bool,
}

/// One link, from its `start` to its end. None if it ended because of the shutdown.
async fn link(
    dialed: Dialed,
    start: String,
    config: &Config,
    shutdown: impl Future<Output = ()>,
) -> Option<Over> {
    let relay = match dialed.headers.get(v1::RELAY_HEADER) {
        Some(software) => {
            debug!(relay_software = ?software, "the relay delivers tails");
            RelayKind::DeliversTails
        }
        None => RelayKind::Unknown,
    };
    // Spec v1, L-4.
    let sizes = Sizes { max_message: v1::MAX_MESSAGE_AT_AGENT, before_start: None };
    let socket = websocket(dialed.socket, &dialed.read_ahead, Role::Client, sizes).await;
    info!(relay = %config.relay_url, peer = %dialed.peer, agent = %config.name, "link open");
    let mut link = Link::new(start, relay);
    let bell = link.bell();
    let mut stopped = false;
    // Spec v1, X-22.
    let stop = async {
        shutdown.await;
        stopped = true;
        Close::new(v1::CLOSE_NORMAL, "")
    };
    let ended = drive(socket, &mut link, &bell, stop).await;
    (!stopped).then(|| Over { ended, registered: link.is_registered() })
}

/// The `last_error` that the end of a link stands for, if it does: a close frame and the bare end of the TCP connection
/// do not (spec v1, A-12). In our own words alone: what a relay says must not come back to it as a mark of K-9.
fn failure(ended: &Ended) -> Option<String> {
    match ended {
        Ended::Violation(close) if close.code == v1::CLOSE_PING_TIMEOUT => {
            Some("the relay did not answer pings".into())
        }
        Ended::Violation(close) => Some(format!("the relay broke the protocol ({})", close.code)),
        Ended::Peer { .. } | Ended::Local(_) | Ended::Lost(_) => None,
    }
}

/// Why a link ended, for the log, with what to try.
fn describe(Over { ended, registered }: &Over) -> String {
    match ended {
        Ended::Peer { code: Some(v1::CLOSE_POLICY), reason }
            if reason == v1::REASON_BAD_CREDENTIALS =>
        {
            format!("the relay refused this agent: {reason} (check --name and the secret)")
        }
        // To a start: most likely this is the path for clients (spec v1, C-8).
        Ended::Peer { code: Some(code @ (v1::CLOSE_INVALID | v1::CLOSE_POLICY)), reason }
            if !registered =>
        {
            format!(
                "the relay takes no start of an agent there: {} (close code {code}) (check the path of the URL: \
                 clients use {}, agents {})",
                printable(reason, 200),
                v1::CLIENT_PATH,
                v1::AGENT_PATH
            )
        }
        Ended::Peer { code: Some(v1::CLOSE_NAME_IN_USE), reason } => format!(
            "the relay refused this agent: {} (stop the other agent, or choose another --name)",
            printable(reason, 200)
        ),
        Ended::Peer { code: Some(v1::CLOSE_RESTART), .. } => "the relay is restarting".into(),
        Ended::Peer { code: Some(v1::CLOSE_NORMAL), reason } if reason.is_empty() => {
            let hint = if *registered { "" } else { " (check --name and the secret)" };
            format!("the relay closed the link without a reason{hint}")
        }
        Ended::Peer { code, reason } => {
            let code = code.map_or("no code".into(), |code| code.to_string());
            let reason = printable(reason, 200);
            format!("the relay closed the link ({code}) {reason}").trim_end().into()
        }
        Ended::Local(close) => format!("closed ({})", close.code),
        Ended::Violation(close) if close.code == v1::CLOSE_PING_TIMEOUT => {
            "the relay does not answer pings".into()
        }
        Ended::Violation(close) => format!("the relay broke the protocol: {}", close.reason),
        Ended::Lost(cause) if *registered => format!("the link to the relay was lost: {cause}"),
        Ended::Lost(cause) => format!(
            "the link to the relay was lost before this agent was registered: {cause} (check the path of the URL, \
             {} for agents; or the relay holds another link under this name)",
            v1::AGENT_PATH
        ),
    }
}
