//! The relays that a client may use, and how it dials them.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tracing::{debug, info};
use transport::dial::{DialError, Dialed, Dialer, DialerConfig};
use transport::printable::printable;
use transport::proxy::ProxyEnv;
use transport::tls::TlsError;
use transport::url::RelayUrl;

use crate::config::Config;

/// The relays of a configuration, with what dialling them has in common.
#[derive(Debug, Clone)]
pub(crate) struct Relays {
    dialer: Arc<Dialer>,
    urls: Arc<[RelayUrl]>,
}

/// A relay that was dialled.
#[derive(Debug)]
pub(crate) struct Reached {
    /// Its place among the URLs.
    pub(crate) relay: usize,
    /// The socket, and what is spoken there.
    pub(crate) dialed: Dialed,
}

impl Relays {
    /// Reads what is needed to dial.
    ///
    /// # Errors
    /// The certificates to trust cannot be used.
    pub(crate) fn new(config: &Config) -> Result<Self, TlsError> {
        let proxies = ProxyEnv::from_env();
        let dialer = Dialer::new(DialerConfig { ca_file: config.ca_file.clone(), proxies })?;
        debug_assert!(!config.relay_urls.is_empty(), "there is a default");
        Ok(Self { dialer: Arc::new(dialer), urls: config.relay_urls.clone().into() })
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.urls.len()
    }

    /// The one after another, round and round.
    pub(crate) fn after(&self, relay: usize) -> usize {
        (relay + 1) % self.urls.len().max(1)
    }

    /// What a relay is called in messages.
    pub(crate) fn name(&self, relay: usize) -> String {
        self.urls.get(relay).map_or_else(String::new, RelayUrl::to_string)
    }

    /// Dials all relays, beginning with `first`: the next one when the last has failed or has not answered for
    /// [`HEAD_START`], while attempts that are under way go on. The first answer wins.
    ///
    /// # Errors
    /// What became of the last attempt.
    pub(crate) async fn dial(self, first: usize) -> Result<Reached, DialError> {
        let mut left = (0..self.len()).map(|step| (first + step) % self.len());
        let mut attempts = JoinSet::new();
        let mut last_error = None;
        loop {
            if let Some(relay) = left.next() {
                let (dialer, urls) = (Arc::clone(&self.dialer), Arc::clone(&self.urls));
                debug!(relay = %urls[relay], "dialling");
                attempts.spawn(async move {
                    let dialed = dialer.dial(&urls[relay]).await?;
                    Ok(Reached { relay, dialed })
                });
            }
            let has_more = left.len() > 0;
            tokio::select! {
                attempt = attempts.join_next() => match attempt {
                    Some(Ok(Ok(reached))) => return Ok(reached),
                    Some(Ok(Err(error))) => {
                        if has_more || !attempts.is_empty() {
                            info!("{}", printable(&DialError::to_string(&error), 600));
                        }
                        last_error = Some(error);
                    }
                    Some(Err(failed)) => {
                        if let Ok(panic) = failed.try_into_panic() {
                            std::panic::resume_unwind(panic);
                        }
                    }
                    None => {}
                },
                () = tokio::time::sleep(HEAD_START), if has_more => {}
            }
            if attempts.is_empty()
                && left.len() == 0
                && let Some(error) = last_error.take()
            {
                return Err(error);
            }
        }
    }
}

/// How long a relay has before the next one is dialled beside it: longer than a healthy one needs over a slow network,
/// short enough to wait for.
const HEAD_START: Duration = Duration::from_secs(1);
