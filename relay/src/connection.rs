//! One connection to the relay: the HTTP phase, and the link that comes of it.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};

use codec::v1;
use hyper::StatusCode;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::{TokioIo, TokioTimer};
use tracing::info;
use transport::bell::Bell;
use transport::driver::{Close, drive};
use transport::printable::printable;
use transport::socket::Socket;
use transport::websocket::{self, Sizes, websocket};

use crate::auth::Credentials;
use crate::directory::Directory;
use crate::http::{Answer, Role, answer};
use crate::session::{AgentSession, ClientSession};

/// A relay without listeners, for whoever accepts connections in a way of his own. Clones are the same relay.
///
/// [`crate::serve`] is one with listeners for TCP.
#[derive(Clone, Debug)]
pub struct Relay(Arc<Directory>);

impl Relay {
    /// A relay that nobody is connected to.
    pub fn new(credentials: Credentials) -> Self {
        Self(Arc::new(Directory::new(credentials)))
    }

    /// Serves one connection from its first byte of HTTP to its end. When `stop` completes, a link is closed with 1012,
    /// and a connection that is none yet is dropped. May be dropped at any time.
    ///
    /// Spawns no task. Must be called within a tokio runtime that has its timers enabled.
    pub async fn serve_connection(&self, socket: Socket, stop: impl Future<Output = ()>) {
        let mut stop = pin!(stop);
        let upgraded = tokio::select! {
            upgraded = http_phase(socket) => upgraded,
            () = &mut stop => return,
        };
        let Some((role, upgraded)) = upgraded else { return };
        // Spec v1, L-10.
        let deadline = transport::now() + v1::START_TIMEOUT;
        let Ok(parts) = upgraded.downcast::<TokioIo<Socket>>() else {
            debug_assert!(false, "the upgraded connection is the one that was served");
            return;
        };
        let sizes = Sizes {
            // Spec v1, L-2.
            max_message: v1::MAX_MESSAGE_TO_RELAY,
            before_start: Some(v1::MAX_MESSAGE_BEFORE_START),
        };
        let socket = parts.io.into_inner();
        let socket = websocket(socket, &parts.read_buf, websocket::Role::Server, sizes).await;
        let (directory, bell) = (Arc::clone(&self.0), Bell::default());
        let stop = async move {
            stop.await;
            // Spec v1, X-13.
            Close::new(v1::CLOSE_RESTART, "")
        };
        match role {
            Role::Agent => {
                let mut session = AgentSession::new(directory, bell.clone(), deadline);
                drive(socket, &mut session, &bell, stop).await;
            }
            Role::Client => {
                let mut session = ClientSession::new(directory, bell.clone(), deadline);
                drive(socket, &mut session, &bell, stop).await;
            }
        }
    }
}

/// Answers the request that a connection is there for. None if it did not ask for a link.
async fn http_phase(socket: Socket) -> Option<(Role, Upgraded)> {
    let upgrade: Mutex<Option<(Role, OnUpgrade)>> = Mutex::new(None);
    let service = service_fn(|mut request| {
        let response = match answer(&request) {
            Answer::Plain(response) => {
                if response.status() != StatusCode::OK {
                    let path = printable(request.uri().path(), 100);
                    info!("answered {} to {} {path}", response.status(), request.method());
                }
                response
            }
            Answer::Upgrade(role, response) => {
                let on_upgrade = hyper::upgrade::on(&mut request);
                *upgrade.lock().unwrap_or_else(PoisonError::into_inner) = Some((role, on_upgrade));
                response
            }
        };
        async { Ok::<_, Infallible>(response) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(v1::START_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        info!("no HTTP request: {error}");
    }
    let (role, on_upgrade) = upgrade.into_inner().unwrap_or_else(PoisonError::into_inner)?;
    Some((role, on_upgrade.await.ok()?))
}

/// Largest head of a request, in bytes; what proxies add fits well.
/// Longer ones are answered with 431 (spec v1, H-11).
const MAX_HEAD: usize = 64 * 1024;
