//! Somebody who is no party: takes what it has overheard for a way in.

use std::collections::VecDeque;
use std::time::Duration;

use codec::v2::{Control, Hello, Resume, Role};

use super::wire::Dialler;
use super::{Failure, Flag, Todo, World, attempt_in, fail, id_in, stream_of};

/// A link of its own, and what is said on it.
#[derive(Debug)]
pub(super) struct Stray {
    pub(super) says: VecDeque<Control>,
}

impl World<'_> {
    /// Keeps in mind what a stranger might have seen.
    pub(super) fn overhear(&mut self, index: usize, message: &Control) {
        let Some(Dialler::Process(process, _)) = self.links.get(&index).map(|it| it.dialler) else {
            return;
        };
        if attempt_in(message).is_some() {
            if self.overheard.len() == MOST_OVERHEARD {
                self.overheard.pop_front();
            }
            self.overheard.push_back((process, message.clone()));
        }
    }

    /// Resumes everything as another principal (spec v2, TR-2).
    pub(super) fn steal(&mut self, relay: usize) {
        let attempts: Vec<Control> = self
            .overheard
            .iter()
            .filter_map(|(_, message)| {
                // Whoever knew an id before it was used could make it its own; what is asked is whether it can be taken.
                let (id, agent) = match message {
                    Control::Open(open) => (&open.id, &open.agent),
                    Control::Resume(resume) => (&resume.id, &resume.agent),
                    _ => return None,
                };
                Some(Control::Resume(Resume {
                    stream: 0,
                    id: id.clone(),
                    attempt: STOLEN,
                    agent: agent.clone(),
                    received: 0,
                    consumed: 0,
                    limit: 1_000_000,
                    principal: None,
                }))
            })
            .collect();
        self.stray(relay, "stranger".into(), attempts);
    }

    /// Says again, with the secret of whoever said it, what an agent has heard already.
    pub(super) fn replay(&mut self, relay: usize) {
        if self.plan.has_rival() {
            // One of the two processes may not have heard of it.
            return;
        }
        for client in 0..self.plan.clients {
            let attempts: Vec<Control> = self
                .overheard
                .iter()
                .filter(|(process, message)| {
                    let heard = id_in(message)
                        .and_then(stream_of)
                        .map_or(0, |stream| self.records[stream].attempts[1]);
                    // A first `open` is said by one message in the world, and no other (spec v2, SF-6).
                    let is_old = attempt_in(message).is_some_and(|it| it > 1 && it <= heard);
                    *process == client && is_old
                })
                .map(|(_, message)| message.clone())
                .collect();
            let secret = self.processes[client].secret.clone();
            self.stray(relay, secret, attempts);
        }
    }

    fn stray(&mut self, relay: usize, secret: String, attempts: Vec<Control>) {
        if attempts.is_empty() || !self.relays[relay].is_up {
            return;
        }
        let hello = Hello {
            role: Role::Client,
            name: String::new(),
            secret: secret.into(),
            instance: "00000000-0000-4000-8000-ffffffffffff".into(),
            software: "stray/1".into(),
            last_error: None,
            extra: None,
        };
        let mut says = VecDeque::from([Control::Hello(hello)]);
        for (at, mut message) in attempts.into_iter().enumerate() {
            let number = u32::try_from(at + 1).unwrap_or(u32::MAX);
            match &mut message {
                Control::Open(open) => open.stream = number,
                Control::Resume(resume) => resume.stream = number,
                _ => {}
            }
            says.push_back(message);
        }
        self.strays.push(Stray { says });
        let dialler = Dialler::Stray(self.strays.len() - 1);
        let link = self.link_up(dialler, relay, Flag::default());
        self.later(self.now + PATIENCE, Todo::EndOfStray { link });
    }

    /// What it is told: that nobody knows what it asks for, or how a stream of its own secret has ended.
    pub(super) fn stray_hears(
        &mut self,
        _stray: usize,
        _link: usize,
        message: Control,
    ) -> Result<(), Failure> {
        match message {
            Control::Welcome(_) | Control::Reject(_) | Control::Goaway(_) => Ok(()),
            Control::Interrupted(_) | Control::Done(_) | Control::Reset(_) => Ok(()),
            other => fail(format!("a stranger is told {other:?}")),
        }
    }
}

/// The attempt that a thief makes: later than any other.
pub(super) const STOLEN: u32 = u32::MAX;

/// How long it waits for answers.
const PATIENCE: Duration = Duration::from_secs(30);

/// Attempts that it has in mind.
const MOST_OVERHEARD: usize = 40;
