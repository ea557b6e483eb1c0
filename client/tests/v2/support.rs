//! What the tests have in common: a client, targets, and what the client tells.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use client::config::{Config, Target};
use client::{Ends, Notice, Notices, RunError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::relay::{DEADLINE, Relay, SECRET};

/// The shortest window that there is.
pub(crate) const RESUME_FOR: Duration = Duration::from_secs(90);

/// A client's configuration for these relays, in this order.
pub(crate) fn config(relays: &[&Relay], resume_for: Duration) -> Config {
    Config {
        relay_urls: relays.iter().map(|relay| relay.url().parse().unwrap()).collect(),
        secret: SECRET.to_owned().into(),
        ca_file: None,
        eof_timeout: None,
        resume_for,
        agent: "workshop".into(),
        protocol: "tcp".into(),
    }
}

/// The target at an address.
pub(crate) fn target(address: SocketAddr) -> Target {
    Target { host: address.ip().to_string(), port: address.port() }
}

/// What a client has told, for a test to wait for.
#[derive(Clone, Default)]
pub(crate) struct Told {
    notices: Arc<Mutex<Vec<Notice>>>,
    changed: Arc<tokio::sync::Notify>,
}

impl Told {
    pub(crate) fn notices(&self) -> Notices {
        let told = self.clone();
        Arc::new(move |notice| {
            told.notices.lock().unwrap_or_else(PoisonError::into_inner).push(notice.clone());
            told.changed.notify_one();
        })
    }

    pub(crate) fn so_far(&self) -> Vec<Notice> {
        self.notices.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for a notice; for one task at a time.
    pub(crate) async fn wait_for<T>(&self, mut found: impl FnMut(&Notice) -> Option<T>) -> T {
        let waiting = async {
            loop {
                if let Some(result) = self.so_far().iter().find_map(&mut found) {
                    return result;
                }
                self.changed.notified().await;
            }
        };
        match tokio::time::timeout(DEADLINE, waiting).await {
            Ok(result) => result,
            Err(_) => panic!("not told; but: {:?}", self.so_far()),
        }
    }
}

/// A client that carries one stream between pipes of this process.
pub(crate) struct Carried {
    /// What it sends; dropped for its end.
    pub(crate) input: Option<DuplexStream>,
    /// What came.
    pub(crate) output: DuplexStream,
    pub(crate) told: Told,
    pub(crate) stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<Result<(), RunError>>,
}

impl Carried {
    pub(crate) fn start(config: Config, target: Target) -> Self {
        Self::start_with(config, target, false)
    }

    pub(crate) fn start_with(config: Config, target: Target, ends_with_target: bool) -> Self {
        let (input, near_input) = tokio::io::duplex(1 << 16);
        let (output, near_output) = tokio::io::duplex(1 << 16);
        let (stop, stopped) = oneshot::channel::<()>();
        let told = Told::default();
        let notices = told.notices();
        let running = tokio::spawn(async move {
            let ends = Ends {
                input: near_input,
                output: near_output,
                output_closed: std::future::pending(),
                ends_with_target,
            };
            client::run(&config, &target, ends, notices, async {
                let _ = stopped.await;
            })
            .await
        });
        Self { input: Some(input), output, told, stop: Some(stop), running }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        let input = self.input.as_mut().unwrap();
        within(input.write_all(bytes)).await.unwrap();
    }

    pub(crate) async fn receive(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        within(self.output.read_exact(&mut bytes)).await.unwrap();
        bytes
    }

    /// Everything to the end of the output.
    pub(crate) async fn receive_rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        within(self.output.read_to_end(&mut bytes)).await.unwrap();
        bytes
    }

    /// How it ended.
    pub(crate) async fn ended(self) -> Result<(), RunError> {
        within(self.running).await.unwrap()
    }
}

/// Waits, but not for ever.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("it does not come")
}

/// A listener on a free port, and its address.
pub(crate) async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A target that sends back what it gets, connection after connection, until this is dropped.
pub(crate) struct Echo {
    pub(crate) address: SocketAddr,
    task: JoinHandle<()>,
}

impl Echo {
    pub(crate) async fn start() -> Self {
        let (listener, address) = listener().await;
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(echo(stream));
            }
        });
        Self { address, task }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn echo(mut stream: TcpStream) {
    let (mut reader, mut writer) = stream.split();
    if tokio::io::copy(&mut reader, &mut writer).await.is_ok() {
        let _ = writer.shutdown().await;
    }
}

/// Bytes that differ from place to place.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect()
}
