//! A run as a sequence diagram.

use std::fmt::Write as _;
use std::time::Duration;

/// What happened, in order.
#[derive(Debug, Default)]
pub struct Transcript {
    /// The parties, from left to right.
    parties: Vec<String>,
    entries: Vec<Entry>,
    is_kept: bool,
}

#[derive(Debug)]
struct Entry {
    at: Duration,
    what: What,
}

#[derive(Debug)]
enum What {
    Frame { from: usize, to: usize, text: String, is_lost: bool },
    Note { party: usize, text: String },
}

impl Transcript {
    /// An empty one. Unless it is kept, nothing is written down.
    pub(super) fn new(is_kept: bool) -> Self {
        Self { is_kept, ..Self::default() }
    }

    /// A party, to the right of those before.
    pub(super) fn party(&mut self, name: String) -> usize {
        self.parties.push(name);
        self.parties.len() - 1
    }

    /// A frame was sent. Gives its line.
    pub(super) fn frame(
        &mut self,
        at: Duration,
        from: usize,
        to: usize,
        text: impl FnOnce() -> String,
    ) -> usize {
        if self.is_kept {
            let what = What::Frame { from, to, text: text(), is_lost: false };
            self.entries.push(Entry { at, what });
        }
        self.entries.len().saturating_sub(1)
    }

    /// The frame of a line did not arrive.
    pub(super) fn lost(&mut self, entry: usize) {
        if let Some(Entry { what: What::Frame { is_lost, .. }, .. }) = self.entries.get_mut(entry) {
            *is_lost = true;
        }
    }

    /// Something happened at a party.
    pub(super) fn note(&mut self, at: Duration, party: usize, text: impl FnOnce() -> String) {
        if self.is_kept {
            self.entries.push(Entry { at, what: What::Note { party, text: text() } });
        }
    }

    /// As text: a column for each party, a line for each frame, drawn when it was sent.
    pub fn render(&self) -> String {
        let mut out = String::from("  seconds ");
        for party in &self.parties {
            let _ = write!(out, "{party:<WIDTH$}");
        }
        out.truncate(out.trim_end().len());
        out.push('\n');
        for entry in &self.entries {
            let _ = write!(out, "{:>9.3} ", entry.at.as_secs_f64());
            let line = self.line(&entry.what);
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }

    fn line(&self, what: &What) -> String {
        let mut cells: Vec<char> = vec![' '; self.parties.len() * WIDTH];
        for column in 0..self.parties.len() {
            cells[column * WIDTH] = '|';
        }
        match what {
            What::Note { party, text } => {
                let text: Vec<char> = text.chars().collect();
                let begin = party * WIDTH + 2;
                cells.resize(cells.len().max(begin + text.len()), ' ');
                cells[begin..begin + text.len()].copy_from_slice(&text);
            }
            What::Frame { from, to, text, is_lost } => {
                let (left, right) = (from.min(to) * WIDTH, from.max(to) * WIDTH);
                let span = &mut cells[left + 1..right];
                let rightwards = from < to;
                for cell in span.iter_mut() {
                    *cell = '-';
                }
                let room = span.len().saturating_sub(4);
                let text: Vec<char> = format!(" {text} ").chars().take(room).collect();
                let begin = if rightwards { 0 } else { span.len() - text.len() };
                span[begin..begin + text.len()].copy_from_slice(&text);
                let head = match (is_lost, rightwards) {
                    (true, _) => 'X',
                    (false, true) => '>',
                    (false, false) => '<',
                };
                let tip = if rightwards { span.len() - 1 } else { 0 };
                span[tip] = head;
            }
        }
        cells.into_iter().collect()
    }
}

/// Characters from one party to the next.
const WIDTH: usize = 36;
