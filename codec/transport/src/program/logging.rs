use std::env;
use std::fmt::Write as _;
use std::io::{self, IsTerminal};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::format::{FormatFields, Writer, debug_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

use crate::printable::Escaped;

/// Longest value of one field in a log line, in bytes: peers choose some of them.
const FIELD: usize = 2048;

/// Sends the events of this process to stderr, a line each: time, level, spans, sentence, fields.
///
/// What is shown is decided by the first of these that is given: `verbosity`, the count of `-v`, each a level more than
/// `default_level`; the variable `RUST_LOG`, in the syntax of `tracing_subscriber::EnvFilter`; `DEBUG=1`, which is the
/// debug level; `default_level`. A `RUST_LOG` that cannot be read is named in one warning and ignored.
///
/// Colours are used only if stderr is a terminal and `NO_COLOR` is not set. A second call in one process does nothing.
pub fn init_logging(program: &str, verbosity: u8, default_level: LevelFilter) {
    let rust_log = env::var("RUST_LOG").ok();
    let debug = env::var_os("DEBUG").is_some_and(|value| value == "1");
    let (filter, refused) = filter(verbosity, rust_log.as_deref(), debug, default_level);
    let colours =
        io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    // The internal errors are those of writing to stderr. Reporting them there would panic once it is closed.
    let lines = fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(colours)
        .with_target(false)
        .fmt_fields(fields())
        .log_internal_errors(false);
    let first = tracing_subscriber::registry().with(lines.with_filter(filter)).try_init().is_ok();
    if let Some(refused) = refused.filter(|_| first) {
        tracing::warn!("{program} ignores RUST_LOG, which cannot be read: {refused}");
    }
}

/// The filter, and why `rust_log` was refused if it was.
fn filter(
    verbosity: u8,
    rust_log: Option<&str>,
    debug: bool,
    default_level: LevelFilter,
) -> (EnvFilter, Option<String>) {
    let rust_log = rust_log.filter(|text| !text.trim().is_empty());
    let fallback = if debug { LevelFilter::DEBUG.max(default_level) } else { default_level };
    let constant = |level: LevelFilter| EnvFilter::default().add_directive(level.into());
    match rust_log {
        _ if verbosity > 0 => (constant(raised(default_level, verbosity)), None),
        None => (constant(fallback), None),
        Some(text) => match EnvFilter::try_new(text) {
            Ok(filter) => (filter, None),
            Err(error) => (constant(fallback), Some(error.to_string())),
        },
    }
}

/// `level`, and as many levels more as `steps` says, up to the last.
fn raised(level: LevelFilter, steps: u8) -> LevelFilter {
    const LEVELS: [LevelFilter; 6] = [
        LevelFilter::OFF,
        LevelFilter::ERROR,
        LevelFilter::WARN,
        LevelFilter::INFO,
        LevelFilter::DEBUG,
        LevelFilter::TRACE,
    ];
    let start = LEVELS.iter().position(|&known| known == level).unwrap_or_default();
    LEVELS[(start + usize::from(steps)).min(LEVELS.len() - 1)]
}

/// Fields as `name=value`, the sentence of the event without its name. Values may be a peer's words, so none of them
/// can end the line, reach the terminal or be endless.
fn fields() -> impl for<'writer> FormatFields<'writer> + 'static {
    debug_fn(|writer: &mut Writer<'_>, field, value| {
        if field.name() != "message" {
            write!(writer, "{}=", field.name())?;
        }
        write!(Escaped::new(writer, FIELD), "{value:?}")
    })
    .delimited(" ")
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex, PoisonError};

    use super::*;

    #[test]
    fn who_decides_the_level() {
        let check = |verbosity, rust_log, debug, expected: &str| {
            let (filter, refused) = filter(verbosity, rust_log, debug, LevelFilter::WARN);
            assert_eq!(filter.to_string(), expected);
            refused.is_some()
        };
        assert!(!check(0, None, false, "warn"));
        assert!(!check(0, Some(" "), false, "warn"));
        assert!(!check(1, None, false, "info"));
        assert!(!check(2, Some("error"), true, "debug"));
        assert!(!check(200, None, false, "trace"));
        assert!(!check(0, None, true, "debug"));
        assert!(!check(0, Some("relay=trace"), true, "relay=trace"));
        assert!(check(0, Some("a=b=c"), false, "warn"));
    }

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_event_is_one_line_whatever_a_peer_says() {
        let memory = Memory::default();
        let writer = memory.clone();
        let layer = fmt::layer()
            .with_writer(move || writer.clone())
            .with_ansi(false)
            .with_target(false)
            .without_time()
            .fmt_fields(fields());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let span =
                tracing::info_span!("link", peer = %"10.0.0.1:1\nWARN forged", version = "v1");
            let _entered = span.enter();
            tracing::info!(name = "a\u{1b}[2Jb", reason = %"x\ry", bytes = 7, "agent registered");
        });
        let bytes = memory.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        assert_eq!(
            String::from_utf8_lossy(&bytes),
            " INFO link{peer=10.0.0.1:1\\nWARN forged version=\"v1\"}: agent registered name=\"a\\u{1b}[2Jb\" \
             reason=x\\ry bytes=7\n"
        );
    }
}
