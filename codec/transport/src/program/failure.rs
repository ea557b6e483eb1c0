use std::error::Error;
use std::io::{self, Write};

use crate::printable::printable;
use crate::system::system_text;

/// Longest part of a failure line, in characters: enough for a long URL and a list of addresses that were tried.
const PART: usize = 600;

/// The system does not give a program what it needs to run at all.
#[derive(Debug, thiserror::Error)]
#[error("cannot start: {} (is a limit of this user or machine reached?)", system_text(.0))]
pub struct StartError(#[from] io::Error);

/// Prints on stderr, as one line, why `program` gives up. A stderr that is gone is no further failure.
pub fn fail(program: &str, error: &(dyn Error + 'static), verbose: bool) {
    let mut line = failure_line(program, error, verbose);
    line.push('\n');
    // One write, so that lines of several programs on one terminal do not mix.
    let _ = io::stderr().lock().write_all(line.as_bytes());
}

/// The line that [`fail`] prints, without its line feed: `<program>: <error>`, and with `verbose` its causes, each after
/// a colon. A cause whose text already stands in the error before it is left out. Control characters are removed,
/// since parts of it may be a peer's words.
pub fn failure_line(program: &str, error: &(dyn Error + 'static), verbose: bool) -> String {
    let mut last = printable(&error.to_string(), PART);
    let mut line = format!("{program}: {last}");
    let mut cause = if verbose { error.source() } else { None };
    while let Some(error) = cause {
        let text = printable(&error.to_string(), PART);
        if !last.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
            last = text;
        }
        cause = error.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        source: Option<Box<Layer>>,
    }

    fn layers(texts: &[&'static str]) -> Layer {
        let (text, rest) = texts.split_first().expect("a test gives at least one layer");
        Layer { text, source: (!rest.is_empty()).then(|| Box::new(layers(rest))) }
    }

    #[test]
    fn one_line_and_the_causes_only_when_asked() {
        let check = |texts: &[&'static str], verbose, expected: &str| {
            assert_eq!(failure_line("edge-agent", &layers(texts), verbose), expected);
        };
        check(&["no route", "network down"], false, "edge-agent: no route");
        check(
            &["no route", "network down", "cable"],
            true,
            "edge-agent: no route: network down: cable",
        );
        check(
            &["no route (os error 101)", "os error 101", "x"],
            true,
            "edge-agent: no route (os error 101): x",
        );
        check(&["a\nb\u{1b}[1m", "c\r\nd"], true, "edge-agent: a b[1m: c d");
    }

    #[test]
    fn a_long_text_is_cut() {
        let text: &'static str = "x".repeat(5000).leak();
        let line = failure_line("p", &layers(&[text]), false);
        assert_eq!(line.chars().count(), "p: ".len() + PART);
        assert!(line.ends_with('…'));
    }
}
