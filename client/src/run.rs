//! One stream from its dial to its end.

use std::future::Future;
use std::io;

use codec::v1;
use tokio::io::{AsyncRead, AsyncWrite};
use tracing::{debug, info};
use transport::dial::{Dialer, DialerConfig};
use transport::driver::{Close, drive};
use transport::proxy::ProxyEnv;
use transport::pump::{self, Pumped};
use transport::websocket::{Role, Sizes, websocket};

use crate::config::Config;
use crate::error::RunError;
use crate::link::Link;

/// Carries bytes between `input`, `output` and the configured target, until the target is done
/// and everything it sent is written, or until `shutdown` completes. `output_closed` completes
/// when nobody takes the output any more, which a silent stream would not notice by itself.
///
/// The end of `input` does not end the stream, since v1 cannot tell the target of it (spec v1,
/// C-14); [`Config::eof_timeout`] can. An `input` that fails does end it, since bytes are missing.
///
/// # Errors
/// [`RunError`] for every end that is not clean.
pub async fn run(
    config: &Config,
    input: impl AsyncRead,
    output: impl AsyncWrite,
    output_closed: impl Future<Output = ()>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), RunError> {
    tokio::pin!(shutdown);
    let dialer = Dialer::new(DialerConfig {
        ca_file: config.ca_file.clone(),
        proxies: ProxyEnv::from_env(),
    })?;
    let dialed = tokio::select! {
        dialed = dialer.dial(&config.relay_url) => dialed?,
        () = &mut shutdown => return Ok(()),
    };
    debug!(relay = %config.relay_url, peer = %dialed.peer, "link open");
    let sizes = Sizes { max_message: v1::MAX_MESSAGE_TO_CLIENT, before_start: None };
    let socket = websocket(dialed.socket, &dialed.read_ahead, Role::Client, sizes).await;

    let link = Link::new(config);
    let driving = async {
        // Through the core rather than the driver's own way: what was read from `input` goes out before the close
        // frame, unless the relay takes nothing (spec v1, X-22 and X-12).
        let stop = async {
            shutdown.await;
            link.close();
            std::future::pending::<Close>().await
        };
        let ended = drive(socket, &mut link.clone(), &link.bell, stop).await;
        link.driven(ended);
    };
    let mut input_failure = None;
    let sending = async {
        match pump::outbound(&link, input).await {
            Pumped::Finished => {
                debug!("end of input");
                link.finish();
            }
            Pumped::Failed(error) => {
                input_failure = Some(error);
                link.close();
            }
            Pumped::Over => {}
        }
        std::future::pending::<()>().await;
    };
    let receiving = async {
        let pumped = tokio::select! {
            pumped = pump::inbound(&link, output) => pumped,
            () = output_closed => Pumped::Failed(io::ErrorKind::BrokenPipe.into()),
        };
        if let Pumped::Failed(_) = pumped {
            link.close();
        }
        pumped
    };
    // The link is over when its driver is done; the stream, when its last byte is written too.
    let received = tokio::select! {
        ((), received) = async { tokio::join!(driving, receiving) } => received,
        () = sending => Pumped::Over,
    };
    let target = || config.target.to_string();
    if let Some(source) = input_failure {
        return Err(RunError::Input { target: target(), source });
    }
    if let Pumped::Failed(source) = received {
        return Err(RunError::Output { target: target(), source });
    }
    match link.take_end().and_then(|end| RunError::of(end, config)) {
        Some(error) => Err(error),
        None => {
            info!("stream ended");
            Ok(())
        }
    }
}
