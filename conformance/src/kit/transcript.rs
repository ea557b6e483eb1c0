//! What was said in a case, in order: frames, HTTP, and what programs read and wrote.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::Received;
use crate::harness::frames::{BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT};

/// How much of a text is kept, in characters.
const KEPT: usize = 600;
/// How many events are kept; those in the middle of a long transfer tell nothing.
const EVENTS: usize = 400;

/// One thing that happened.
#[derive(Debug, Clone, Serialize)]
pub struct Event {
    /// When, in milliseconds since the case began.
    pub at_ms: u64,
    /// Who did it.
    pub from: String,
    /// Who got it; the same as `from` for what concerns one party alone.
    pub to: String,
    /// What it was: `text`, `binary`, `close`, `ping`, `pong`, `frame`, `http`, `bytes`, `dial`, `end`, `input`,
    /// `output` or `note`.
    pub kind: &'static str,
    /// What it said, as far as it can be shown.
    pub text: String,
    /// Its length in bytes.
    pub size: usize,
}

/// The record of one case. Clones share it.
#[derive(Debug, Clone)]
pub struct Transcript {
    began: Instant,
    events: Arc<Mutex<Vec<Event>>>,
}

impl Transcript {
    pub(super) fn new() -> Self {
        Self { began: Instant::now(), events: Arc::default() }
    }

    /// How long the case has been running.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// All that has happened so far.
    pub fn events(&self) -> Vec<Event> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn add(&self, from: &str, to: &str, kind: &'static str, bytes: &[u8]) {
        let event = Event {
            at_ms: u64::try_from(self.elapsed().as_millis()).unwrap_or(u64::MAX),
            from: from.to_owned(),
            to: to.to_owned(),
            kind,
            text: shown(bytes),
            size: bytes.len(),
        };
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        if events.len() == EVENTS {
            // The beginning and the end are what explains a failure.
            events.remove(EVENTS / 2);
        }
        events.push(event);
    }

    pub(super) fn add_received(&self, from: &str, to: &str, received: &Received) {
        match received {
            Received::Text(text) => self.add(from, to, "text", text.as_bytes()),
            Received::Binary(bytes) => self.add(from, to, "binary", bytes),
            Received::Close(code, reason) => {
                self.add(from, to, "close", close_text(*code, reason).as_bytes());
            }
            Received::Ping(payload) => self.add(from, to, "ping", payload),
            Received::Pong(payload) => self.add(from, to, "pong", payload),
            Received::End => self.add(from, to, "end", b"end of the TCP connection"),
        }
    }

    /// A frame that the kit sends: `first` is its first byte.
    pub(super) fn add_sent(&self, from: &str, to: &str, first: u8, payload: &[u8]) {
        let kind = match first {
            0x81 => "text",
            0x82 => "binary",
            0x88 => "close",
            0x89 => "ping",
            0x8a => "pong",
            _ => "frame",
        };
        if kind == "close" && payload.len() >= 2 {
            let code = u16::from_be_bytes([payload[0], payload[1]]);
            let reason = String::from_utf8_lossy(&payload[2..]);
            return self.add(from, to, kind, close_text(Some(code), &reason).as_bytes());
        }
        if kind == "frame" {
            let head = format!("{}: ", frame_text(first));
            return self.add(from, to, kind, &[head.as_bytes(), payload].concat());
        }
        self.add(from, to, kind, payload);
    }
}

/// Code and reason of a close frame, in words.
pub(super) fn close_text(code: Option<u16>, reason: &str) -> String {
    match (code, reason) {
        (None, _) => "no code".to_owned(),
        (Some(code), "") => code.to_string(),
        (Some(code), reason) => format!("{code} {reason:?}"),
    }
}

fn frame_text(first: u8) -> String {
    let opcode = match first & 0x0f {
        CONTINUATION => "continuation".to_owned(),
        TEXT => "text".to_owned(),
        BINARY => "binary".to_owned(),
        CLOSE => "close".to_owned(),
        PING => "ping".to_owned(),
        PONG => "pong".to_owned(),
        other => format!("opcode {other}"),
    };
    let more = if first & 0x80 == 0 { ", not final" } else { "" };
    let reserved = if first & 0x70 == 0 { "" } else { ", reserved bits" };
    format!("{opcode}{more}{reserved}")
}

/// Bytes as a text that a report can show.
fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes.get(..KEPT * 4).unwrap_or(bytes));
    let mut shown: String = text.chars().take(KEPT).collect();
    if shown.len() < bytes.len() && text.chars().count() > KEPT {
        shown.push('…');
    }
    let is_hidden = |c: char| c.is_control() && !matches!(c, '\r' | '\n' | '\t');
    if shown.contains(is_hidden) {
        shown = shown.replace(is_hidden, "\u{fffd}");
    }
    shown
}
