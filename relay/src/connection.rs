//! One connection to the relay: the HTTP phase, and the link that comes of it.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use codec::{v1, v2};
use hyper::StatusCode;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::oneshot;
use tracing::info;
use transport::bell::Bell;
use transport::dial::Protocol;
use transport::driver::{Close, drive};
use transport::printable::printable;
use transport::socket::Socket;
use transport::streams::SIZES;
use transport::websocket::{self, Sizes, websocket};

use crate::directory::Directory;
use crate::http::{Answer, Role, answer};
use crate::phase::Watch;
use crate::session::{AgentSession, ClientSession, Left, LinkSession};

/// Serves one connection from its first byte of HTTP to its end, and what it leaves behind to theirs.
pub(crate) async fn serve_connection(socket: Socket, directory: Arc<Directory>, mut watch: Watch) {
    let upgraded = tokio::select! {
        upgraded = http_phase(socket, &directory) => upgraded,
        () = watch.stopped() => return,
    };
    let Some((role, protocol, upgraded)) = upgraded else { return };
    // Spec v1, L-10, and spec v2, LK-6.
    let patience = match protocol {
        Protocol::V1 => v1::START_TIMEOUT,
        Protocol::V2 => v2::HELLO_TIMEOUT,
    };
    let deadline = transport::now() + patience;
    let Ok(parts) = upgraded.downcast::<TokioIo<Socket>>() else {
        debug_assert!(false, "the upgraded connection is the one that was served");
        return;
    };
    let sizes = match protocol {
        Protocol::V1 => Sizes {
            // Spec v1, L-2.
            max_message: v1::MAX_MESSAGE_TO_RELAY,
            before_start: Some(v1::MAX_MESSAGE_BEFORE_START),
        },
        Protocol::V2 => Sizes { before_start: Some(v2::MAX_BEFORE_WELCOME), ..SIZES },
    };
    let socket = parts.io.into_inner();
    let socket = websocket(socket, &parts.read_buf, websocket::Role::Server, sizes).await;
    let bell = Bell::default();
    let mut stops = watch.clone();
    let stop = async move {
        match protocol {
            Protocol::V1 => _ = stops.draining().await,
            Protocol::V2 => stops.stopped().await,
        }
        // Spec v1, X-13, and spec v2, RL-10.
        Close::new(v1::CLOSE_RESTART, "")
    };
    // Whoever speaks v1 may leave a stand-in behind, which outlives the link.
    let (heir, left) = oneshot::channel();
    let driving = async move {
        match (protocol, role) {
            (Protocol::V2, role) => {
                let mut session = LinkSession::new(directory, bell.clone(), role, deadline);
                drive(socket, &mut session, &bell, stop).await;
            }
            (Protocol::V1, Role::Agent) => {
                let mut session = AgentSession::new(directory, bell.clone(), deadline, Some(heir));
                drive(socket, &mut session, &bell, stop).await;
            }
            (Protocol::V1, Role::Client) => {
                let mut session = ClientSession::new(directory, bell.clone(), deadline, Some(heir));
                drive(socket, &mut session, &bell, stop).await;
            }
        }
    };
    let lingering = async {
        tokio::select! {
            () = linger(left) => {}
            () = watch.stopped() => {}
        }
    };
    tokio::join!(driving, lingering);
}

/// Looks after what a session leaves behind, if it does.
async fn linger(left: oneshot::Receiver<Left>) {
    if let Ok(left) = left.await {
        left.run().await;
    }
}

/// Answers the request that a connection is there for. None if it did not ask for a link.
async fn http_phase(socket: Socket, directory: &Directory) -> Option<(Role, Protocol, Upgraded)> {
    let upgrade: Mutex<Option<(Role, Protocol, OnUpgrade)>> = Mutex::new(None);
    let service = service_fn(|mut request| {
        let response = match answer(&request, directory.is_draining()) {
            Answer::Plain(response) => {
                if response.status() != StatusCode::OK {
                    let path = printable(request.uri().path(), 100);
                    info!("answered {} to {} {path}", response.status(), request.method());
                }
                response
            }
            Answer::Upgrade(role, protocol, response) => {
                let asked = (role, protocol, hyper::upgrade::on(&mut request));
                *upgrade.lock().unwrap_or_else(PoisonError::into_inner) = Some(asked);
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
    let asked = upgrade.into_inner().unwrap_or_else(PoisonError::into_inner);
    let (role, protocol, on_upgrade) = asked?;
    Some((role, protocol, on_upgrade.await.ok()?))
}

/// Largest head of a request, in bytes; what proxies add fits well.
/// Longer ones are answered with 431 (spec v1, H-11).
const MAX_HEAD: usize = 64 * 1024;
