//! Keeping a link to the relay, for ever.

use std::time::Duration;

use codec::v2::{self, Code};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::{debug, info, warn};
use transport::backoff::Backoff;
use transport::dial::{Dialed, Dialer, Protocol};
use transport::driver::{Ended, drive};
use transport::printable::printable;
use transport::streams::{SIZES, Streams};
use transport::url::RelayUrl;
use transport::websocket::{Role, websocket};

use crate::config::Config;
use crate::link;
use crate::streams::{LinkEvent, hello};

/// How a link or an attempt ended.
#[derive(Debug)]
pub(crate) struct LinkEnd {
    /// Why, for the log, with what to try.
    pub(crate) text: String,
    /// What the next link is to be told of it, if it was a failure (spec v1, A-12).
    pub(crate) last_error: Option<String>,
    /// Whether the relay had admitted us, as far as can be told.
    pub(crate) is_registered: bool,
    /// How long the relay wants us to wait.
    pub(crate) wait: Option<Duration>,
}

/// Keeps a link to one of the relay's URLs.
pub(crate) struct Keeper {
    config: Config,
    dialer: Dialer,
    /// What outlives the links.
    streams: Streams,
    /// Names this run of the agent (spec v2, LK-4).
    instance: String,
    backoff: Backoff,
    /// Attempts that may be made without waiting.
    eager: u32,
    last_error: Option<String>,
    /// Which of the URLs is next.
    url: usize,
    news: mpsc::Receiver<LinkEvent>,
    /// The links of v2: the present one, and those that are to end while streams are attached there (spec v2, RL-11).
    links: JoinSet<Ended>,
}

impl Keeper {
    pub(crate) fn new(
        config: Config,
        dialer: Dialer,
        streams: Streams,
        news: mpsc::Receiver<LinkEvent>,
    ) -> Self {
        Self {
            config,
            dialer,
            streams,
            instance: uuid::Uuid::new_v4().to_string(),
            backoff: Backoff::new(),
            eager: MAX_EAGER,
            last_error: None,
            url: 0,
            news,
            links: JoinSet::new(),
        }
    }

    /// Dials again and again until `stopped` changes; then lets the links end and returns.
    pub(crate) async fn keep(mut self, mut stopped: watch::Receiver<()>) {
        loop {
            let url = self.next_url();
            debug!(relay = %url, "dialling");
            let dialed = tokio::select! {
                dialed = self.dialer.dial(&url) => dialed,
                _ = stopped.changed() => break,
            };
            let end = match dialed {
                Ok(dialed) => {
                    let started = transport::now();
                    let mut told = stopped.clone();
                    let stop = async { told.changed().await.unwrap_or_default() };
                    let end = match dialed.protocol {
                        Protocol::V1 => {
                            let last_error = self.last_error.clone();
                            link::run(dialed, &self.config, last_error, stop).await
                        }
                        Protocol::V2 => tokio::select! {
                            end = self.run_v2(&url, dialed) => end,
                            () = stop => break,
                        },
                    };
                    if stopped.has_changed().unwrap_or(true) {
                        break;
                    }
                    self.link_lasted(started.elapsed());
                    end
                }
                Err(error) => LinkEnd {
                    text: printable(&error.to_string(), 600),
                    last_error: Some(error.summary()),
                    is_registered: false,
                    wait: None,
                },
            };
            if end.is_registered {
                self.last_error = None;
            }
            self.last_error = end.last_error.or(self.last_error.take());
            // Whatever a `Retry-After` of HTTP says (spec v1, H-24).
            let delay = end.wait.unwrap_or_else(|| self.next_delay(end.is_registered));
            warn!(relay = %url, "{}; next attempt in {:.1} s", end.text, delay.as_secs_f32());
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                _ = stopped.changed() => break,
            }
        }
        let ending = async { while self.links.join_next().await.is_some() {} };
        if tokio::time::timeout(FAREWELL, ending).await.is_err() {
            debug!("a link did not end in time and is cut off");
        }
    }

    /// The URLs take turns.
    fn next_url(&mut self) -> RelayUrl {
        let urls = &self.config.relay_urls;
        let url = urls[self.url % urls.len()].clone();
        self.url = self.url.wrapping_add(1);
        url
    }

    fn link_lasted(&mut self, lasted: Duration) {
        self.backoff.link_lasted(lasted);
        let earned = u32::try_from(lasted.as_secs()).unwrap_or(u32::MAX);
        self.eager = self.eager.saturating_add(earned).min(MAX_EAGER);
    }

    /// Streams wait for the next link, so it is dialled at once where one was lost (spec v2, TM-6); but not over and over
    /// where a relay accepts links and drops them.
    fn next_delay(&mut self, was_registered: bool) -> Duration {
        let is_waited_for = was_registered && self.streams.core().stream_count() > 0;
        if is_waited_for && self.eager > 0 {
            self.eager -= 1;
            return Duration::ZERO;
        }
        self.backoff.next_delay()
    }

    /// One link of protocol v2, from its `hello` to its end, or until the relay asks for another.
    async fn run_v2(&mut self, url: &RelayUrl, dialed: Dialed) -> LinkEnd {
        let socket = websocket(dialed.socket, &dialed.read_ahead, Role::Client, SIZES).await;
        info!(peer = %dialed.peer, agent = %self.config.name, "link open");
        let hello = hello(&self.config, &self.instance, self.last_error.as_deref());
        let mut link = self.streams.link(Some(hello));
        while self.news.try_recv().is_ok() {}
        let bell = link.bell();
        let present = self
            .links
            .spawn(async move { drive(socket, &mut link, &bell, std::future::pending()).await })
            .id();
        let mut is_registered = false;
        let mut rejection = None;
        loop {
            tokio::select! {
                Some(ended) = self.links.join_next_with_id() => {
                    let (id, ended) = match ended {
                        Ok(ended) => ended,
                        Err(error) => (error.id(), Ended::Lost("its task failed".into())),
                    };
                    if id == present {
                        return self.over(&ended, is_registered, rejection);
                    }
                    debug!("a link that was left has ended: {ended:?}");
                }
                event = self.news.recv() => match event {
                    Some(LinkEvent::Welcomed) => {
                        is_registered = true;
                        info!("registered");
                    }
                    Some(LinkEvent::Rejected { code, message, retry_after }) => {
                        rejection = Some((code, message, retry_after));
                    }
                    Some(LinkEvent::Goaway(after)) => {
                        info!(relay = %url, "the relay wants to end the link");
                        return LinkEnd {
                            text: "the relay is restarting".into(),
                            last_error: None,
                            is_registered,
                            wait: Some(after),
                        };
                    }
                    None => std::future::pending().await,
                },
            }
        }
    }

    fn over(
        &self,
        ended: &Ended,
        is_registered: bool,
        rejection: Option<(Code, String, Option<Duration>)>,
    ) -> LinkEnd {
        let failed = |text: String, last_error: Option<String>, wait| LinkEnd {
            text,
            last_error,
            is_registered,
            wait,
        };
        if let Some((code, message, wait)) = rejection {
            let message = printable(&message, 200);
            let hint = match code {
                Code::BadCredentials => " (check --name and the secret)",
                Code::NameInUse => " (stop the other agent, or choose another --name)",
                _ => "",
            };
            return failed(format!("the relay refused this agent: {message}{hint}"), None, wait);
        }
        let (text, last_error) = match ended {
            Ended::Peer { code: Some(v2::CLOSE_RESTART), .. } => {
                ("the relay is restarting".to_owned(), None)
            }
            Ended::Peer { code, reason } => {
                let code = code.map_or("no code".into(), |code| code.to_string());
                let reason = printable(reason, 200);
                (format!("the relay closed the link ({code}) {reason}").trim_end().into(), None)
            }
            Ended::Violation(close) if close.code == v2::CLOSE_PING_TIMEOUT => {
                let text = "the relay does not answer pings";
                (text.to_owned(), Some(text.to_owned()))
            }
            Ended::Violation(close) => {
                let text = format!("the relay broke the protocol: {}", close.reason);
                (text.clone(), Some(text))
            }
            Ended::Local(_) => ("the link was given up".to_owned(), None),
            Ended::Lost(cause) => (format!("the link to the relay was lost: {cause}"), None),
        };
        failed(text, last_error, None)
    }
}

/// Links that may be dialled without waiting when others were lost; one more for each second that a link lasts.
const MAX_EAGER: u32 = 10;

/// How long links may take to end when the agent stops.
const FAREWELL: Duration = Duration::from_secs(2);
