//! What comes from the peers of the links.

use std::time::{Duration, Instant};

use bytes::Bytes;
use codec::v2::{self, Code, Control, Credit, Finish, Interrupted, Open, Opened, Reset, Resume};

use super::{
    Ask, Endpoint, Event, Flow, LinkKey, LinkState, Phase, RecvHalf, SendHalf, Side, StreamEnd,
    StreamId, StreamKey,
};
use crate::Wake;
use crate::v2::stream::Attachment;
use crate::v2::{Fault, Violation};

impl<W: Wake + Clone + Default> Endpoint<W> {
    /// Takes one control message from the peer of a link.
    ///
    /// # Errors
    /// The peer broke a rule of the link, which is to be closed.
    pub fn handle_control(
        &mut self,
        now: Instant,
        link: LinkKey,
        message: Control,
    ) -> Result<(), Violation> {
        let Some(known) = self.links.get_mut(&link) else { return Ok(()) };
        match message {
            Control::Welcome(welcome) => {
                if known.state != LinkState::Greeting {
                    return Err(Violation::Unexpected);
                }
                known.state = LinkState::Ready;
                known.max_data = usize::try_from(welcome.max_data).unwrap_or(usize::MAX);
                known.max_streams = usize::try_from(welcome.max_streams).unwrap_or(usize::MAX);
                // What is granted already stays granted.
                self.settings.max_window = self.settings.max_window.min(welcome.max_window.into());
                let allowed = Duration::from_millis(welcome.resume_for_ms.into());
                if !allowed.is_zero() && allowed < v2::MIN_RESUME_FOR {
                    return Err(Violation::WelcomeBounds);
                }
                known.allowance = None;
                known.driver.wake();
                self.resume_for = self.settings.resume_for.min(allowed);
                self.tell(Event::Welcomed(link));
                // Those that are to end may do so now.
                for link in self.links.values().filter(|link| link.state == LinkState::Draining) {
                    link.driver.wake();
                }
                self.leave_draining_links(now);
            }
            Control::Reject(reject) => {
                if known.state != LinkState::Greeting {
                    return Err(Violation::Unexpected);
                }
                known.state = LinkState::Draining;
                if reject.code == Code::NameInUse {
                    // Another process serves this agent's streams (spec v2, OP-12).
                    self.memory.is_incomplete_until(now);
                }
                let retry_after = reject.retry_after_ms.map(|ms| Duration::from_millis(ms.into()));
                let (code, message) = (reject.code, reject.message);
                self.take_back_first_attempts(now, link);
                self.tell(Event::Rejected { link, code, message, retry_after });
            }
            Control::Goaway(goaway) => {
                known.state = LinkState::Draining;
                let reconnect_after = Duration::from_millis(goaway.reconnect_after_ms.into());
                self.tell(Event::Goaway { link, reconnect_after });
            }
            Control::Custom(custom) => {
                let (name, body) = (custom.name, custom.body);
                self.tell(Event::Custom { link, name, body });
            }
            Control::Open(open) if self.side == Side::Acceptor => {
                known.opened_by_peer(open.stream)?;
                self.handle_open(now, link, open);
            }
            Control::Resume(resume) if self.side == Side::Acceptor => {
                known.opened_by_peer(resume.stream)?;
                self.handle_resume(now, link, resume);
            }
            Control::Opened(opened) if self.side == Side::Opener => {
                if let Some(key) = known.stream(opened.stream)? {
                    let handled = self.handle_opened(now, key, &opened);
                    self.reset_if_faulty(now, key, handled);
                }
            }
            Control::Credit(Credit { stream, consumed, limit }) => {
                if let Some(key) = known.stream(stream)? {
                    let handled = self.handle_credit(now, key, consumed, limit);
                    self.reset_if_faulty(now, key, handled);
                }
            }
            Control::Finish(Finish { stream, offset }) => {
                if let Some(key) = known.stream(stream)? {
                    let handled = self.handle_finish(key, offset);
                    self.reset_if_faulty(now, key, handled);
                }
            }
            Control::Reset(Reset { stream, code, message }) => {
                if let Some(key) = known.stream(stream)? {
                    self.remember(now, key, Some((code, message.clone())));
                    self.end_stream(key, StreamEnd::Reset { code, message });
                }
            }
            Control::Done(done) => {
                if let Some(key) = known.stream(done.stream)? {
                    let handled = self.handle_done(now, key);
                    self.reset_if_faulty(now, key, handled);
                }
            }
            Control::Interrupted(interrupted) => {
                if let Some(key) = known.stream(interrupted.stream)? {
                    self.handle_interrupted(now, key, interrupted);
                }
            }
            Control::Hello(_) | Control::Open(_) | Control::Resume(_) | Control::Opened(_) => {
                return Err(Violation::Unexpected);
            }
        }
        Ok(())
    }

    /// Takes the bytes of one data frame.
    ///
    /// # Errors
    /// The peer broke a rule of the link, which is to be closed.
    pub fn handle_data(
        &mut self,
        now: Instant,
        link: LinkKey,
        number: u32,
        payload: Bytes,
    ) -> Result<(), Violation> {
        let Some(known) = self.links.get(&link) else { return Ok(()) };
        let Some(key) = known.stream(number)? else { return Ok(()) };
        let Some(stream) = self.streams.get_mut(&key) else { return Ok(()) };
        let handled = if payload.is_empty() || payload.len() > known.max_data {
            Err(Fault::FrameSize)
        } else if self.side == Side::Opener
            && stream.attachment.is_none_or(|at| at.flow != Flow::Live)
        {
            Err(Fault::NotOpened)
        } else {
            stream.recv.data(payload)
        };
        if handled.is_ok() {
            stream.reader.wake();
        }
        self.reset_if_faulty(now, key, handled);
        Ok(())
    }

    fn handle_open(&mut self, now: Instant, link: LinkKey, open: Open) {
        let id = StreamId::new(open.id);
        let on = (link, open.stream);
        let principal = open.principal;
        if let Some(key) = self.by_id.get(&id).copied() {
            // It reached no opener before: nothing was received or consumed there (spec v2, AT-5).
            let position = (0, 0, open.limit);
            return self.take_attempt(now, key, on, open.attempt, &principal, position);
        }
        if self.tell_end(now, on, &id, &principal) {
            return;
        }
        if open.attempt > 1 && !self.memory.is_complete(now) {
            let text = "the agent cannot tell whether it has served this stream";
            return self.refuse(on, Code::NotResumable, text);
        }
        if self.is_shut_down {
            return self.refuse(on, Code::GoingAway, "the agent is stopping");
        }
        if self.streams.len() >= self.settings.max_streams {
            return self.refuse(on, Code::TooManyStreams, "the agent has too many streams");
        }
        let ask = Ask {
            agent: open.agent,
            host: open.host,
            port: open.port,
            protocol: open.protocol,
            principal,
        };
        let Some(window) = self.first_window() else {
            let text = "too many streams for the agent's memory";
            return self.refuse(on, Code::Overloaded, text);
        };
        let send = SendHalf::new(open.limit);
        let recv = RecvHalf::new(v2::EARLY_DATA, window);
        let (reader, writer) = (W::default(), W::default());
        let wakers = (reader.clone(), writer.clone());
        let key = self.insert(id.clone(), ask.clone(), send, recv, wakers);
        self.attach(key, on, open.attempt);
        self.tell(Event::Dial { key, id, ask, reader, writer });
    }

    fn handle_resume(&mut self, now: Instant, link: LinkKey, resume: Resume) {
        let id = StreamId::new(resume.id);
        let on = (link, resume.stream);
        if let Some(key) = self.by_id.get(&id).copied() {
            let position = (resume.received, resume.consumed, resume.limit);
            return self.take_attempt(now, key, on, resume.attempt, &resume.principal, position);
        }
        if !self.tell_end(now, on, &id, &resume.principal) {
            self.refuse(on, Code::NotResumable, "the agent does not know this stream");
        }
    }

    /// A known stream is to go on with another number (spec v2, AT-3).
    fn take_attempt(
        &mut self,
        now: Instant,
        key: StreamKey,
        on: (LinkKey, u32),
        attempt: u32,
        principal: &Option<String>,
        (received, consumed, limit): (u64, u64, u64),
    ) {
        let Some(stream) = self.streams.get_mut(&key) else { return };
        if stream.ask.principal != *principal {
            // Spec v2, TR-2.
            return self.refuse(on, Code::NotResumable, "the stream is somebody else's");
        }
        if attempt <= stream.attempt {
            return;
        }
        self.detach(key);
        self.attach(key, on, attempt);
        let Some(stream) = self.streams.get_mut(&key) else { return };
        let gone_on = stream.send.go_on(received, consumed, limit);
        stream.writer.wake();
        let is_open = stream.phase == Phase::Open;
        self.attached(key);
        if gone_on.is_ok() && is_open {
            self.say_opened(now, key);
        }
        self.reset_if_faulty(now, key, gone_on);
    }

    fn attach(&mut self, key: StreamKey, (link, number): (LinkKey, u32), attempt: u32) {
        let Some(stream) = self.streams.get_mut(&key) else { return };
        stream.attempt = attempt;
        stream.attachment = Some(Attachment { link, number, flow: Flow::Asked });
        if let Some(link) = self.links.get_mut(&link) {
            link.numbers.insert(number, key);
        }
    }

    /// Answers for a stream that is over, if it is remembered (spec v2, EN-8).
    fn tell_end(
        &mut self,
        now: Instant,
        on: (LinkKey, u32),
        id: &StreamId,
        principal: &Option<String>,
    ) -> bool {
        let Some(end) = self.memory.get(now, id) else { return false };
        if end.principal != *principal {
            self.refuse(on, Code::NotResumable, "the stream is somebody else's");
            return true;
        }
        match end.reset.clone() {
            Some((code, message)) => self.refuse(on, code, &message),
            None => self.say(on.0, Control::Done(v2::Done { stream: on.1 })),
        }
        true
    }

    /// Ends a number that no stream gets.
    fn refuse(&mut self, (link, number): (LinkKey, u32), code: Code, message: &str) {
        let reset = Reset { stream: number, code, message: super::cut(message) };
        self.say(link, Control::Reset(reset));
    }

    fn handle_opened(
        &mut self,
        now: Instant,
        key: StreamKey,
        opened: &Opened,
    ) -> Result<(), Fault> {
        let Some(stream) = self.streams.get_mut(&key) else { return Ok(()) };
        let Some(at) = &mut stream.attachment else { return Ok(()) };
        match at.flow {
            Flow::Live => return Err(Fault::OpenedTwice),
            // What went ahead of the answer is still under way (spec v2, OP-7).
            Flow::Early => {
                stream.send.credit(opened.consumed, opened.limit)?;
            }
            Flow::Asked => stream.send.go_on(opened.received, opened.consumed, opened.limit)?,
        }
        at.flow = Flow::Live;
        stream.writer.wake();
        if stream.phase == Phase::Opening {
            stream.phase = Phase::Open;
            self.tell(Event::Opened(key));
        }
        self.attached(key);
        self.join_line(key);
        self.tell_credit(key);
        self.check_done(now, key);
        Ok(())
    }

    fn handle_credit(
        &mut self,
        now: Instant,
        key: StreamKey,
        consumed: u64,
        limit: u64,
    ) -> Result<(), Fault> {
        let Some(stream) = self.streams.get_mut(&key) else { return Ok(()) };
        if self.side == Side::Opener && stream.attachment.is_none_or(|at| at.flow != Flow::Live) {
            return Err(Fault::NotOpened);
        }
        if stream.send.credit(consumed, limit)? {
            stream.writer.wake();
        }
        self.check_done(now, key);
        Ok(())
    }

    fn handle_finish(&mut self, key: StreamKey, offset: u64) -> Result<(), Fault> {
        let Some(stream) = self.streams.get_mut(&key) else { return Ok(()) };
        if self.side == Side::Opener && stream.attachment.is_none_or(|at| at.flow != Flow::Live) {
            return Err(Fault::NotOpened);
        }
        stream.recv.finish(offset)?;
        stream.reader.wake();
        Ok(())
    }

    fn handle_done(&mut self, now: Instant, key: StreamKey) -> Result<(), Fault> {
        let Some(stream) = self.streams.get(&key) else { return Ok(()) };
        if !stream.recv.is_complete() || !stream.send.has_sent_end() {
            return Err(Fault::DoneTooEarly);
        }
        self.remember(now, key, None);
        self.end_stream(key, StreamEnd::Done);
        Ok(())
    }

    fn handle_interrupted(&mut self, now: Instant, key: StreamKey, interrupted: Interrupted) {
        let Some(stream) = self.streams.get(&key) else { return };
        if self.side == Side::Opener
            && let Some(code) = interrupted.code
        {
            // Passed on to nobody: nothing has happened, if this was the first attempt (spec v2, EN-10 and TM-6).
            if stream.attempt == 1 {
                if code == Code::GoingAway
                    && !self.resume_for.is_zero()
                    && self.take_back_first_attempt(key)
                {
                    return self.interrupt(now, key, StreamEnd::Interrupted);
                }
                let message = interrupted.message.unwrap_or_default();
                return self.end_stream(key, StreamEnd::Refused { code, message });
            }
            if code == Code::Forbidden {
                return self.end_stream(key, StreamEnd::Unconfirmed);
            }
        }
        self.interrupt(now, key, StreamEnd::Interrupted);
        self.shed_detached(now);
    }

    fn reset_if_faulty(&mut self, now: Instant, key: StreamKey, handled: Result<(), Fault>) {
        if let Err(fault) = handled {
            self.reset(now, key, Code::ProtocolError, &fault.to_string());
        }
    }
}
