//! A client's endpoint of protocol v2, and the link that it keeps for it.

mod link;
mod retry;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use codec::v2::{self, Code, Control, Hello, Role};
use mux::v2::{Ask, Event, LinkKey, Settings, Side, StreamId};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tracing::{debug, info};
use transport::bell::Bell;
use transport::dial::{DialError, Protocol};
use transport::driver::Ended;
use transport::printable::printable;
use transport::streams::{Seat, Streams};

use crate::config::{Config, Target};
use crate::error::{Known, RunError, close_text};
use crate::notice::{Notice, Notices};
use crate::relays::{Reached, Relays};
use link::Record;
use retry::Retry;

/// Streams of protocol v2 and their link, which is made anew when it is lost.
///
/// [`Self::step`] does the work, for as long as it is called. There is one link, and a second one while streams move
/// from a relay that drains. A task drives each; all end when the session is dropped.
pub(crate) struct Session {
    streams: Streams,
    relays: Relays,
    config: Config,
    instance: String,
    notices: Notices,
    /// Whether a link is kept up though no stream needs it.
    keeps_link: bool,
    drivers: JoinSet<()>,
    links: BTreeMap<LinkKey, Record>,
    ends: (link::Ends, mpsc::UnboundedReceiver<(LinkKey, Ended)>),
    dialling: Option<Dialling>,
    retry: Retry,
    /// The relay to begin with when the next link is dialled.
    next_relay: usize,
    /// Relays in a row that have refused.
    refusals: usize,
    /// When it all began, until a relay has accepted us.
    begun: Option<Instant>,
    /// Why the last link or attempt came to its end.
    cause: Option<String>,
    /// Some stream was opened.
    has_opened: bool,
    away: Away,
    waiting: Arc<Waiting>,
    found: (mpsc::Sender<Reached>, mpsc::Receiver<Reached>),
    wanted_until: Option<Instant>,
    state: watch::Sender<LinkState>,
}

type Dialling = Pin<Box<dyn Future<Output = Result<Reached, DialError>> + Send>>;

/// Who waits for a link without having a stream yet.
#[derive(Debug, Default)]
struct Waiting {
    wanted: Notify,
}

/// What there is for new streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkState {
    /// Nothing yet, or not any more.
    Away,
    /// A link of protocol v2.
    Up,
    /// A relay of protocol v1, where each stream has a link of its own.
    Old,
}

/// Since when something is out of reach.
#[derive(Debug, Default)]
struct Away {
    since: Option<Instant>,
    is_told: bool,
    /// Some stream may be interrupted.
    is_suspected: bool,
}

/// A session in a task of its own, which ends when this is dropped.
pub(crate) struct Running {
    task: JoinSet<(Session, Option<RunError>)>,
    stop: oneshot::Sender<()>,
    given_up: watch::Receiver<bool>,
}

/// Opens streams in a session; for any task.
#[derive(Clone)]
pub(crate) struct Opener {
    streams: Streams,
    agent: String,
    protocol: String,
    waiting: Arc<Waiting>,
    found: mpsc::Sender<Reached>,
    state: watch::Receiver<LinkState>,
    relays: Relays,
}

impl Session {
    /// A session without a link. One that keeps its link does so until it is dropped, and after its start no relay's
    /// answer ends it.
    pub(crate) fn new(config: &Config, relays: Relays, notices: Notices, keeps_link: bool) -> Self {
        let now = transport::now();
        let settings = Settings { resume_for: config.resume_for, ..Settings::default() };
        Self {
            streams: Streams::new(Side::Opener, settings),
            relays,
            config: config.clone(),
            instance: uuid::Uuid::new_v4().simple().to_string(),
            notices,
            keeps_link,
            drivers: JoinSet::new(),
            links: BTreeMap::new(),
            ends: mpsc::unbounded_channel(),
            dialling: None,
            retry: Retry::new(now),
            next_relay: 0,
            refusals: 0,
            begun: Some(now),
            cause: None,
            has_opened: false,
            away: Away::default(),
            waiting: Arc::default(),
            found: mpsc::channel(1),
            wanted_until: None,
            state: watch::Sender::new(LinkState::Away),
        }
    }

    /// What opens streams.
    pub(crate) fn opener(&self) -> Opener {
        Opener {
            streams: self.streams.clone(),
            agent: self.config.agent.clone(),
            protocol: self.config.protocol.clone(),
            waiting: Arc::clone(&self.waiting),
            found: self.found.0.clone(),
            state: self.state.subscribe(),
            relays: self.relays.clone(),
        }
    }

    /// Whether a relay has accepted us, now or before.
    pub(crate) fn is_established(&self) -> bool {
        self.begun.is_none()
    }

    /// The relay that is used, or was last.
    pub(crate) fn relay_name(&self) -> String {
        let relay = self.links.values().next_back().map_or(self.next_relay, |link| link.relay);
        self.relays.name(relay)
    }

    /// What is known of the one stream of a session that is over.
    pub(crate) fn known(&self) -> Known {
        Known { was_open: self.has_opened, cause: self.cause.clone() }
    }

    /// Takes up what was dialled: a link of protocol v2 begins with `hello`, behind which the streams follow at once
    /// (spec v2, LK-6).
    pub(crate) fn adopt(&mut self, reached: Reached) {
        let Reached { relay, dialed } = reached;
        debug!(relay = %self.relays.name(relay), peer = %dialed.peer, "link open");
        self.next_relay = relay;
        if dialed.protocol == Protocol::V1 {
            self.found_old();
            return;
        }
        let link = self.streams.link(Some(self.hello()));
        let key = link.key();
        let ends = self.ends.0.clone();
        self.links.insert(key, Record::start(relay, dialed, link, ends, &mut self.drivers));
    }

    /// Closes the links once everything is sent, in the time that spec v2 gives for that (EN-6).
    pub(crate) async fn leave(mut self) {
        for link in self.links.values() {
            link.leave();
        }
        let all = async { while self.drivers.join_next().await.is_some() {} };
        if tokio::time::timeout(v2::DONE_TIMEOUT, all).await.is_err() {
            debug!("the relay did not take everything in time");
        }
    }

    /// Goes on in a task of its own.
    pub(crate) fn start(mut self) -> Running {
        let (stop, mut stopped) = oneshot::channel();
        let (given_up, watched) = watch::channel(false);
        let mut task = JoinSet::new();
        task.spawn(async move {
            loop {
                tokio::select! {
                    _ = &mut stopped => return (self, None),
                    stepped = self.step() => if let Err(error) = stepped {
                        given_up.send_replace(true);
                        let _ = stopped.await;
                        return (self, Some(error));
                    },
                }
            }
        });
        Running { task, stop, given_up: watched }
    }

    /// Waits for the next thing to do, and does it. May be dropped at any time and called again.
    ///
    /// # Errors
    /// There is no use in going on: for a session that keeps its link, only before it is established.
    pub(crate) async fn step(&mut self) -> Result<(), RunError> {
        let was_established = self.is_established();
        self.take_events()?;
        self.settle(transport::now())?;
        if self.is_established() != was_established {
            return Ok(());
        }
        let alarm = self.next_time();
        let alarm = async {
            match alarm {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        let dialling = async {
            match &mut self.dialling {
                Some(dialling) => dialling.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.streams.changed() => {}
            Some((key, ended)) = self.ends.1.recv() => self.link_ended(key, &ended)?,
            reached = dialling => {
                self.dialling = None;
                self.dialled(reached)?;
            }
            Some(reached) = self.found.1.recv() => self.adopt(reached),
            () = self.waiting.wanted.notified() => {
                self.wanted_until = Some(transport::now() + LINK_PATIENCE);
            }
            Some(_) = self.drivers.join_next() => {}
            () = alarm => {}
        }
        Ok(())
    }

    fn hello(&self) -> Control {
        let cut = |text: &String| text.chars().take(MAX_LAST_ERROR).collect();
        Control::Hello(Hello {
            role: Role::Client,
            name: String::new(),
            secret: self.config.secret.clone(),
            instance: self.instance.clone(),
            software: concat!("access-client/", env!("CARGO_PKG_VERSION")).to_owned(),
            last_error: self.cause.as_ref().map(cut),
            extra: None,
        })
    }

    fn take_events(&mut self) -> Result<(), RunError> {
        loop {
            let event = self.streams.core().poll_event();
            match event {
                None => return Ok(()),
                Some(Event::Welcomed(link)) => self.welcomed(link),
                Some(Event::Rejected { link, code, message, retry_after }) => {
                    self.rejected(link, code, &message, retry_after)?;
                }
                Some(Event::Goaway { link, reconnect_after }) => {
                    self.told_to_go(link, reconnect_after);
                }
                Some(Event::Detached(key)) => {
                    debug!(?key, "a stream is interrupted");
                    self.away.is_suspected = true;
                }
                Some(Event::Resumed(key)) => debug!(?key, "a stream goes on"),
                Some(Event::Opened(key)) => {
                    debug!(?key, "stream open");
                    self.has_opened = true;
                }
                Some(Event::Custom { name, .. }) => {
                    debug!(name = printable(&name, 100), "a custom message that nobody takes");
                }
                Some(Event::Dial { .. }) => debug_assert!(false, "relays open no streams here"),
            }
        }
    }

    fn welcomed(&mut self, link: LinkKey) {
        let now = transport::now();
        self.begun = None;
        self.refusals = 0;
        self.cause = None;
        if let Some(record) = self.links.get_mut(&link) {
            record.welcomed = Some(now);
            info!(relay = %self.relays.name(record.relay), "link accepted");
        }
    }

    /// A relay refuses the link. The others are asked first, then this one again, if it is worth it.
    fn rejected(
        &mut self,
        link: LinkKey,
        code: Code,
        message: &str,
        retry_after: Option<Duration>,
    ) -> Result<(), RunError> {
        let now = transport::now();
        let Some(record) = self.links.remove(&link) else { return Ok(()) };
        record.leave();
        let error = RunError::of_rejection(&self.relays.name(record.relay), code, message);
        self.cause = Some(error.to_string());
        self.next_relay = self.relays.after(record.relay);
        self.refusals += 1;
        if self.refusals < self.relays.len() {
            self.retry.at_once(now);
            return Ok(());
        }
        self.refusals = 0;
        let is_passing = matches!(
            code,
            Code::GoingAway | Code::Overloaded | Code::TooManyStreams | Code::Internal
        );
        let goes_on = match (self.begun, retry_after) {
            // Whoever starts is told soon, unless the relay asks for a little patience.
            (Some(begun), Some(after)) => is_passing && now + after <= begun + START_PATIENCE,
            (Some(_), None) => false,
            (None, _) => true,
        };
        if !goes_on {
            return Err(error);
        }
        if !is_passing {
            // Streams end at once (spec v2, TM-6).
            self.streams.core().give_up_waiting(now, code, message);
            (self.notices)(&Notice::Refused { reason: error.to_string() });
        }
        self.retry.failed(now);
        if let Some(after) = retry_after {
            self.retry.hold(now + after);
        }
        Ok(())
    }

    /// A relay drains: there has to be another link, to the next relay at once or to this one when it says so.
    fn told_to_go(&mut self, link: LinkKey, reconnect_after: Duration) {
        let now = transport::now();
        let Some(record) = self.links.get_mut(&link) else { return };
        record.is_draining = true;
        self.next_relay = self.relays.after(record.relay);
        self.retry.at_once(now);
        if self.next_relay == record.relay {
            self.retry.hold(now + reconnect_after);
        }
    }

    fn link_ended(&mut self, key: LinkKey, ended: &Ended) -> Result<(), RunError> {
        // What the relay said last goes before its end.
        self.take_events()?;
        let Some(record) = self.links.remove(&key) else { return Ok(()) };
        let now = transport::now();
        let cause = describe(ended);
        info!(relay = %self.relays.name(record.relay), "link lost: {cause}");
        if record.is_draining {
            return Ok(());
        }
        if self.begun.is_some() && record.welcomed.is_none() {
            let relay = || self.relays.name(record.relay);
            match ended {
                Ended::Peer { .. } => return Err(RunError::closed_unanswered(relay(), cause)),
                Ended::Violation(close) => {
                    return Err(RunError::broken_v2(&relay(), &close.reason));
                }
                Ended::Local(_) | Ended::Lost(_) => {}
            }
        }
        self.cause = Some(cause);
        self.next_relay = match record.welcomed {
            Some(_) => record.relay,
            None => self.relays.after(record.relay),
        };
        self.retry.lost(now, record.lasted(now));
        Ok(())
    }

    fn dialled(&mut self, reached: Result<Reached, DialError>) -> Result<(), RunError> {
        match reached {
            Ok(reached) => self.adopt(reached),
            Err(error) if self.keeps_link && self.begun.is_some() => return Err(error.into()),
            Err(error) => {
                let cause = printable(&error.to_string(), 600);
                info!("{cause}");
                self.cause = Some(cause);
                self.retry.failed(transport::now());
            }
        }
        Ok(())
    }

    /// Where a relay of protocol v2 was, or was looked for, there is one of v1: good for new streams alone.
    fn found_old(&mut self) {
        self.begun = None;
        self.retry.failed(transport::now());
        self.cause = Some("the relay speaks protocol v1, which resumes nothing".into());
        self.state.send_if_modified(|state| {
            let is_new = *state == LinkState::Away;
            *state = LinkState::Old;
            is_new
        });
    }

    /// Does what the present state asks for.
    fn settle(&mut self, now: Instant) -> Result<(), RunError> {
        self.abandon_silent(now)?;
        let (is_usable, streams) = {
            let core = self.streams.core();
            for (key, link) in &self.links {
                if link.is_draining && core.is_idle(*key) {
                    link.leave();
                }
            }
            (core.has_usable_link(), core.stream_count())
        };
        let state = *self.state.borrow();
        match (is_usable, state) {
            (true, LinkState::Away | LinkState::Old) => self.publish(LinkState::Up),
            (false, LinkState::Up) => self.publish(LinkState::Away),
            _ => {}
        }
        if self.dial_due(now, is_usable, streams).is_some_and(|due| now >= due) {
            self.dialling = Some(Box::pin(self.relays.clone().dial(self.next_relay)));
        }
        self.tell(now, is_usable);
        Ok(())
    }

    fn publish(&mut self, state: LinkState) {
        self.state.send_replace(state);
    }

    /// Gives up links that the relay does not accept in time (spec v2, LK-6).
    fn abandon_silent(&mut self, now: Instant) -> Result<(), RunError> {
        let is_late = |link: &Record| link.welcome_by().is_some_and(|by| now >= by);
        let late = self.links.iter().find(|(_, link)| is_late(link)).map(|(key, _)| *key);
        let Some(record) = late.and_then(|key| self.links.remove(&key)) else { return Ok(()) };
        record.abandon();
        let name = self.relays.name(record.relay);
        if self.begun.is_some() {
            return Err(RunError::NoAnswer { relay: name, limit: v2::HELLO_TIMEOUT });
        }
        self.cause = Some(format!("{name} did not accept the link in time"));
        self.next_relay = self.relays.after(record.relay);
        self.retry.failed(now);
        Ok(())
    }

    /// When the next dial is due, if there is to be one.
    fn dial_due(&self, now: Instant, is_usable: bool, streams: usize) -> Option<Instant> {
        let keeps_link = self.keeps_link && *self.state.borrow() != LinkState::Old;
        if is_usable || self.dialling.is_some() || (streams == 0 && !keeps_link) {
            return None;
        }
        let is_wanted = self.wanted_until.is_some_and(|until| now < until);
        Some(self.retry.due(streams > 0 || self.begun.is_some() || is_wanted))
    }

    /// Lets the user know what has been away for a while, and that it is back.
    fn tell(&mut self, now: Instant, is_usable: bool) {
        let streams = match self.away.is_suspected {
            true => self.streams.core().interrupted_count(),
            false => 0,
        };
        self.away.is_suspected = streams > 0;
        let link_is_away = self.keeps_link
            && !is_usable
            && self.begun.is_none()
            && *self.state.borrow() != LinkState::Old;
        if streams == 0 && !link_is_away {
            if let Some(since) = self.away.since.take()
                && std::mem::take(&mut self.away.is_told)
            {
                (self.notices)(&Notice::Back { after: now.saturating_duration_since(since) });
            }
            return;
        }
        let since = *self.away.since.get_or_insert(now);
        if self.away.is_told || now < since + TELL_AFTER {
            return;
        }
        self.away.is_told = true;
        let resume_for = self.config.resume_for;
        let has_link = self.links.values().any(|link| link.welcomed.is_some() && !link.is_draining);
        let notice = if has_link {
            Notice::AgentAway { agent: printable(&self.config.agent, 60), streams, resume_for }
        } else {
            let cause = self.cause.clone().unwrap_or_else(|| "the relay is stopping".into());
            Notice::LinkAway { relay: self.relay_name(), cause, streams, resume_for }
        };
        (self.notices)(&notice);
    }

    /// When [`Self::settle`] has something to do by itself.
    fn next_time(&self) -> Option<Instant> {
        let now = transport::now();
        let (is_usable, streams) = {
            let core = self.streams.core();
            (core.has_usable_link(), core.stream_count())
        };
        let dial = self.dial_due(now, is_usable, streams);
        let tell = self.away.since.filter(|_| !self.away.is_told).map(|since| since + TELL_AFTER);
        let welcome = self.links.values().filter_map(Record::welcome_by).min();
        [dial, tell, welcome].into_iter().flatten().min()
    }
}

impl Running {
    /// Completes when the session sees no use in going on.
    pub(crate) async fn given_up(&mut self) {
        // A task that is gone has failed, which `stop` tells.
        let _ = self.given_up.wait_for(|given_up| *given_up).await;
    }

    /// Takes the session back, with the reason if it has given up.
    pub(crate) async fn stop(self) -> (Session, Option<RunError>) {
        let Self { mut task, stop, .. } = self;
        let _ = stop.send(());
        match task.join_next().await {
            Some(Ok(session)) => session,
            Some(Err(failed)) => match failed.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => unreachable!("nobody cancels the task while this is here"),
            },
            None => unreachable!("the task is waited for once"),
        }
    }
}

impl Opener {
    /// Asks for a stream; it goes out with the link's next frames, or with those of the next link.
    pub(crate) fn open(&self, target: &Target) -> Seat {
        let (reader, writer) = (Bell::default(), Bell::default());
        let id = StreamId::new(uuid::Uuid::new_v4().to_string());
        let ask = Ask {
            agent: self.agent.clone(),
            host: target.host.clone(),
            port: target.port,
            protocol: self.protocol.clone(),
            // That is for the relay to say (spec v2, RL-4).
            principal: None,
        };
        let wakers = (reader.clone(), writer.clone());
        let key = self.streams.core().open(transport::now(), id, ask, wakers);
        Seat::new(self.streams.clone(), key, reader, writer)
    }

    /// What the relay is called in messages: the first one stands for all.
    pub(crate) fn relay_name(&self) -> String {
        self.relays.name(0)
    }

    /// Waits until there is something for new streams, for at most [`LINK_PATIENCE`].
    pub(crate) async fn ready(&mut self) -> LinkState {
        let ready = async {
            loop {
                let state = *self.state.borrow_and_update();
                if state != LinkState::Away {
                    return state;
                }
                self.waiting.wanted.notify_one();
                if self.state.changed().await.is_err() {
                    return LinkState::Away;
                }
            }
        };
        tokio::time::timeout(LINK_PATIENCE, ready).await.unwrap_or(LinkState::Away)
    }

    /// Hands the session a link of protocol v2 that was dialled where one of v1 was expected.
    pub(crate) async fn hand_over(&mut self, reached: Reached) {
        self.state.mark_unchanged();
        if self.found.send(reached).await.is_ok() {
            // The session takes it up before anything else happens there.
            let _ =
                tokio::time::timeout(LINK_PATIENCE, self.state.wait_for(|it| *it == LinkState::Up))
                    .await;
        }
    }
}

fn describe(ended: &Ended) -> String {
    match ended {
        Ended::Peer { code, reason } => close_text(*code, reason),
        Ended::Local(_) => "it was closed".into(),
        Ended::Violation(close) if close.code == v2::CLOSE_PING_TIMEOUT => {
            "the relay does not answer pings".into()
        }
        Ended::Violation(close) => printable(&close.reason, 200),
        Ended::Lost(cause) => cause.clone(),
    }
}

/// How long a stream or link may be away before the user is told.
const TELL_AFTER: Duration = Duration::from_secs(1);

/// How long a relay that is stopping may ask somebody to wait who starts.
const START_PATIENCE: Duration = Duration::from_secs(10);

/// How long a new connection waits for a link.
pub(crate) const LINK_PATIENCE: Duration = Duration::from_secs(20);

/// Characters of what `hello` tells about the last link.
const MAX_LAST_ERROR: usize = 200;
