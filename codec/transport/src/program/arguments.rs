use std::env;
use std::error::Error as _;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::{OsStr, Resettable};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, Parser};
use codec::v2;

use super::failure::fail;
use super::secrets::SECRET;
use crate::printable::printable;
use crate::system::system_text;

/// Exit status of a program that failed at start or while running.
pub const EXIT_FAILURE: u8 = 1;

/// Exit status of a program whose command line or environment cannot be used.
pub const EXIT_USAGE: u8 = 2;

/// Longest usage line, in characters.
const LINE: usize = 600;

/// Why a program ends before it does anything: it was asked for its help or version, or its command line is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EarlyExit {
    /// Text that was asked for, with its line feeds.
    Answer(String),
    /// What is wrong, as one line without a line feed.
    Usage(String),
}

impl EarlyExit {
    /// Prints the answer on stdout, or the line on stderr, and gives the status to exit with: 0 or [`EXIT_USAGE`]; or
    /// [`EXIT_FAILURE`], after a line on stderr, if the answer cannot be printed.
    pub fn report(&self) -> ExitCode {
        match self {
            Self::Answer(text) => {
                let mut stdout = io::stdout().lock();
                match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
                    Ok(()) => ExitCode::SUCCESS,
                    // Whoever reads, say `head`, has what it wanted.
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
                    Err(source) => {
                        fail(&called(), &AnswerError { source }, false);
                        ExitCode::from(EXIT_FAILURE)
                    }
                }
            }
            // Nobody is left to tell when writing fails.
            Self::Usage(line) => {
                let _ = io::stderr().lock().write_all(format!("{line}\n").as_bytes());
                ExitCode::from(EXIT_USAGE)
            }
        }
    }
}

/// What was asked for cannot be printed.
#[derive(Debug, thiserror::Error)]
#[error("writing to stdout failed: {} (is a disk full?)", system_text(source))]
struct AnswerError {
    source: io::Error,
}

/// The name that this program was called by, without its folder.
fn called() -> String {
    let path = env::args_os().next().unwrap_or_default();
    Path::new(&path).file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Which variables stand in for options that are not given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variables {
    /// Those of this process.
    OfProcess,
    /// None: for tests, which must not depend on where they run.
    Unread,
}

/// Reads the command line and the environment of this process.
///
/// Long options may be abbreviated, the last of a repeated option counts, options win over variables, and an empty
/// variable is as good as none.
///
/// # Errors
/// [`EarlyExit`], for `main` to report.
pub fn parse<P: Parser>() -> Result<P, EarlyExit> {
    parse_from(env::args_os(), Variables::OfProcess)
}

/// [`parse`] with arguments of the caller's, the program's name first.
///
/// # Errors
/// [`EarlyExit`], for `main` to report.
pub fn parse_from<P: Parser>(
    arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    variables: Variables,
) -> Result<P, EarlyExit> {
    let command = P::command().infer_long_args(true).args_override_self(true);
    let mut command = forget_variables(command, variables);
    command
        .try_get_matches_from_mut(arguments)
        .and_then(|mut matches| P::from_arg_matches_mut(&mut matches))
        .map_err(|error| early_exit(&command, &error))
}

/// The version line that `--version` prints after the program's name, from the version of the calling crate.
#[macro_export]
#[doc(hidden)]
macro_rules! __long_version {
    () => {
        concat!(env!("CARGO_PKG_VERSION"), " (wire v1)")
    };
}

/// What `--version` prints after the program's name: the version of the calling crate and the wire versions spoken.
pub use crate::__long_version as long_version;

/// Takes away the variables that are not to be read: all of them, or those that are empty. Only that of the secret may
/// be empty on purpose.
fn forget_variables(command: Command, variables: Variables) -> Command {
    command.mut_args(|argument| {
        let empty =
            || argument.get_env().and_then(env::var_os).is_some_and(|value| value.is_empty());
        let forget = match variables {
            Variables::OfProcess => argument.get_id() != SECRET && empty(),
            Variables::Unread => true,
        };
        if forget { argument.env(Resettable::<OsStr>::Reset) } else { argument }
    })
}

fn early_exit(command: &Command, error: &clap::Error) -> EarlyExit {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => EarlyExit::Answer(error.to_string()),
        _ => {
            let name = command.get_name();
            let mut line = format!("{name}: {}", problem(command, error));
            if !line.ends_with(')') {
                line.push_str(&format!(" (see {name} --help)"));
            }
            EarlyExit::Usage(printable(&line, LINE))
        }
    }
}

/// What is wrong, in one clause. Values appear only if the option's own parser quotes them: a URL may hold a password.
fn problem(command: &Command, error: &clap::Error) -> String {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    if let (ErrorKind::ValueValidation, Some(argument), Some(cause)) =
        (error.kind(), context(ContextKind::InvalidArg), error.source())
    {
        let value = context(ContextKind::InvalidValue);
        let variable = command
            .get_arguments()
            .find(|known| known.to_string() == argument)
            .and_then(clap::Arg::get_env)
            .filter(|name| env::var(name).ok().as_deref() == value);
        return match variable {
            Some(variable) => format!("{}: {cause}", variable.display()),
            None => format!("{argument}: {cause}"),
        };
    }
    // Every message of clap's starts with the problem, then leaves a line blank before tips and usage.
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let lines = text.lines().map(str::trim).take_while(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join(" ")
}

/// Reads how long streams wait for a link, in whole seconds: 0, or within the bounds of spec v2, TM-4.
///
/// # Errors
/// A line that says what is wrong.
pub fn resume_for(text: &str) -> Result<Duration, String> {
    let (least, most) = (v2::MIN_RESUME_FOR, v2::MAX_RESUME_FOR);
    let wrong = || format!("must be 0, or from {} to {} seconds", least.as_secs(), most.as_secs());
    let time = Duration::from_secs(text.trim().parse().map_err(|_| wrong())?);
    if time.is_zero() || (least..=most).contains(&time) { Ok(time) } else { Err(wrong()) }
}

/// Reads an integer as the original programs read a port: blanks around it, a sign, leading zeros and single
/// underscores between digits are fine. Numbers that do not fit are the nearest that does.
///
/// Returns `None` for anything else, `22.0` and digits that are not ASCII included.
pub fn parse_integer(text: &str) -> Option<i64> {
    let text = text.trim();
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let mut value: i64 = 0;
    let mut after_digit = false;
    for byte in digits.bytes() {
        match byte {
            b'0'..=b'9' => value = value.saturating_mul(10).saturating_add(i64::from(byte - b'0')),
            b'_' if after_digit => {}
            _ => return None,
        }
        after_digit = byte != b'_';
    }
    after_digit.then_some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_read_as_python_reads_them() {
        let check = |text: &str, expected: Option<i64>| {
            assert_eq!(parse_integer(text), expected, "{text:?}")
        };
        check("22", Some(22));
        check(" +2_2 ", Some(22));
        check("\t0022\n", Some(22));
        check("-5", Some(-5));
        check("-0", Some(0));
        check("99999999999999999999999", Some(i64::MAX));
        for text in [
            "", " ", "+", "_1", "1_", "1__2", "+_1", "+ 1", "--1", "22.0", "0x16", "abc", "1 2",
            "２２",
        ] {
            check(text, None);
        }
    }

    /// A command line of every kind of argument.
    #[derive(Debug, Parser)]
    #[command(name = "access-client", version = "1.2.3")]
    struct Sample {
        #[arg(long, value_name = "URL", value_parser = refuse)]
        relay_url: Option<String>,
        #[arg(long, value_name = "TEXT", aliases = ["s", "se"])]
        secret: Option<String>,
        #[arg(long)]
        secret_file: Option<String>,
        #[arg(value_name = "PORT", allow_negative_numbers = true)]
        port: String,
    }

    fn refuse(_: &str) -> Result<String, String> {
        Err("must start with ws:// or wss://".to_owned())
    }

    fn sample(arguments: &[&str]) -> Result<Sample, EarlyExit> {
        parse_from(std::iter::once(&"access-client").chain(arguments), Variables::Unread)
    }

    #[test]
    fn usage_errors_are_one_line_without_values() {
        let check = |arguments: &[&str], expected: &str| match sample(arguments) {
            Err(EarlyExit::Usage(line)) => {
                assert_eq!(line, format!("access-client: {expected} (see access-client --help)"));
            }
            other => panic!("{arguments:?} gave {other:?}"),
        };
        check(&[], "the following required arguments were not provided: <PORT>");
        check(
            &["22", "--relay-url", "http://u:geheim@h"],
            "--relay-url <URL>: must start with ws:// or wss://",
        );
        check(&["22", "--secrt=geheim"], "unexpected argument '--secrt' found");
        check(&["22", "--sec", "x"], "unexpected argument '--sec' found");
        check(
            &["22", "--secret"],
            "a value is required for '--secret <TEXT>' but none was supplied",
        );
        check(&["22", "-5"], "unexpected argument '-5' found");
        check(&["22", "tcp\nx\u{1b}"], "unexpected argument 'tcp x' found");
    }

    #[test]
    fn the_original_programs_liberties_are_kept() {
        assert_eq!(sample(&["-5"]).map(|sample| sample.port), Ok("-5".to_owned()));
        assert_eq!(
            sample(&["1", "--s", "x"]).map(|sample| sample.secret),
            Ok(Some("x".to_owned()))
        );
        let twice = sample(&["1", "--secret", "x", "--secret", "y", "--secret-f", "f"]);
        assert_eq!(
            twice.map(|sample| (sample.secret, sample.secret_file)),
            Ok((Some("y".to_owned()), Some("f".to_owned())))
        );
    }

    #[test]
    fn help_and_version_are_answers() {
        assert_eq!(
            sample(&["--version"]).map(|_| ()),
            Err(EarlyExit::Answer("access-client 1.2.3\n".to_owned()))
        );
        assert!(
            matches!(sample(&["--hel"]), Err(EarlyExit::Answer(text)) if text.contains("Usage:"))
        );
    }
}
