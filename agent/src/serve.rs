//! An agent from its start to its end.

use std::future::Future;
use std::pin::pin;

use codec::v2::Code;
use tokio::sync::{mpsc, watch};
use transport::dial::{Dialer, DialerConfig};
use transport::proxy::ProxyEnv;
use transport::tls::TlsError;

use crate::config::Config;
use crate::keep::Keeper;
use crate::streams;

/// Registers with the relay and serves it until `shutdown` completes; then ends its streams, closes the link with 1000
/// and returns. A link that is refused or lost is dialled again, for ever (spec v1, A-11). Each speaks v2 if the relay
/// does (spec v2, NG-1), and streams of v2 outlive it.
///
/// # Errors
/// [`TlsError`] if the certificates to trust cannot be loaded; nothing else ends an agent.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> Result<(), TlsError> {
    let dialer = Dialer::new(DialerConfig {
        ca_file: config.ca_file.clone(),
        proxies: ProxyEnv::from_env(),
    })?;
    let streams = streams::endpoint(&config);
    let (tell, news) = mpsc::channel(LINK_NEWS);
    let (stop, stopped) = watch::channel(());
    let mut kept = pin!(Keeper::new(config, dialer, streams.clone(), news).keep(stopped));
    let mut served = pin!(streams::serve(&streams, tell));
    tokio::select! {
        () = &mut kept => return Ok(()),
        () = &mut served => return Ok(()),
        () = shutdown => {}
    }
    // The others are told before the links end (spec v2, EN-12).
    streams.core().shut_down(transport::now(), Code::GoingAway, "the agent is stopping");
    drop(stop);
    tokio::select! {
        () = kept => {}
        () = served => {}
    }
    Ok(())
}

/// What the keeper of the links may be behind with; it needs no more than the latest.
const LINK_NEWS: usize = 16;
