use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, FromArgMatches, value_parser};
use codec::Secret;

use crate::system::system_text;

/// Largest secret file, in bytes: a start message has to fit into what a relay reads before it knows the sender.
const MAX_SECRET_FILE: u64 = 32 * 1024;

/// The id of `--secret` among the arguments of a command.
pub(super) const SECRET: &str = "secret";
const SECRET_FILE: &str = "secret_file";

const SECRET_VARIABLE: &str = "HTTP_NETWORK_RELAY_SECRET";
const SECRET_FILE_VARIABLE: &str = "HTTP_NETWORK_RELAY_SECRET_FILE";

/// The options `--secret` and `--secret-file` and their variables, to be flattened into a program's command line.
///
/// Options win over variables, and of the two variables the one that holds the secret itself wins. An empty secret
/// counts as given, as the original programs have it (an empty variable only if there is no file either), but an
/// empty file is a mistake.
#[derive(Debug, Clone)]
pub struct SecretArgs {
    source: Source,
}

#[derive(Debug, Clone)]
enum Source {
    Nothing,
    CommandLine(Secret),
    Variable {
        secret: Secret,
        /// The variable that names a file is set too.
        ignores_file: bool,
    },
    File(PathBuf),
}

/// Why there is no secret to start with. A mistake of usage.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// No option and no variable gives one.
    #[error("no secret given (use --secret-file or the variable HTTP_NETWORK_RELAY_SECRET)")]
    Missing,
    /// The file cannot be read.
    #[error(
        "cannot read the secret file {}: {} (check the path, and who may read it)",
        path.display(), system_text(source)
    )]
    Unreadable {
        /// The file that was named.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file holds nothing that could be a secret.
    #[error("the secret file {} {what} (it has to hold the secret and nothing else)", path.display())]
    Unusable {
        /// The file that was named.
        path: PathBuf,
        /// What is wrong with it, as the rest of a sentence.
        what: &'static str,
    },
}

impl SecretArgs {
    /// Reads the secret from where the command line or the environment says. Warns in the log if other local users
    /// can read it too, so logging has to be set up before.
    ///
    /// # Errors
    /// [`SecretError`]
    pub fn resolve(&self) -> Result<Secret, SecretError> {
        match &self.source {
            Source::Nothing => Err(SecretError::Missing),
            Source::CommandLine(secret) => {
                tracing::warn!(
                    "a secret on the command line is visible to every local user \
                     (better: --secret-file or the variable {SECRET_VARIABLE})"
                );
                Ok(secret.clone())
            }
            Source::Variable { secret, ignores_file } => {
                if *ignores_file {
                    tracing::warn!(
                        "{SECRET_VARIABLE} and {SECRET_FILE_VARIABLE} are both set: the secret in the first counts, \
                         the file is not read (unset one of them)"
                    );
                }
                if secret.expose().is_empty() {
                    tracing::warn!("the secret in the variable {SECRET_VARIABLE} is empty");
                }
                Ok(secret.clone())
            }
            Source::File(path) => read_secret(path),
        }
    }
}

fn read_secret(path: &Path) -> Result<Secret, SecretError> {
    let unreadable = |source| SecretError::Unreadable { path: path.to_owned(), source };
    let unusable = |what| SecretError::Unusable { path: path.to_owned(), what };
    let file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    warn_if_world_readable(path, &metadata);
    // Room for all of it at once, so that growing leaves no copies behind.
    let mut bytes = Vec::with_capacity(metadata.len().min(MAX_SECRET_FILE) as usize + 1);
    file.take(MAX_SECRET_FILE + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_SECRET_FILE {
        return Err(unusable("is larger than 32 KiB"));
    }
    let mut text = String::from_utf8(bytes).map_err(|_| unusable("is not UTF-8 text"))?;
    if text.starts_with('\u{feff}') {
        return Err(unusable("starts with a byte order mark"));
    }
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    if text.is_empty() {
        return Err(unusable("is empty"));
    }
    Ok(Secret::from(text))
}

/// Warns in the log if `metadata`, that of the file of secrets at `path`, lets every local user read it. Pipes and
/// other special files are not looked at.
pub fn warn_if_world_readable(path: &Path, metadata: &Metadata) {
    if metadata.is_file() && is_world_readable(metadata) {
        let path = path.display();
        tracing::warn!("{path} can be read by every local user (try: chmod 600 {path})");
    }
}

#[cfg(unix)]
fn is_world_readable(metadata: &Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    metadata.permissions().mode() & 0o004 != 0
}

/// Elsewhere a list says who may read a file, which is not looked at.
#[cfg(not(unix))]
fn is_world_readable(_: &Metadata) -> bool {
    false
}

impl clap::Args for SecretArgs {
    fn augment_args(command: Command) -> Command {
        command
            .arg(
                Arg::new(SECRET)
                    .long("secret")
                    // Every prefix, as the original programs take it: `--secret-file` must not make them ambiguous.
                    .aliases(["s", "se", "sec", "secr", "secre"])
                    .value_name("SECRET")
                    .value_parser(value_parser!(String))
                    .env(SECRET_VARIABLE)
                    .hide_env_values(true)
                    .help("The secret itself; other local users can see it, so prefer the file or the variable"),
            )
            .arg(
                Arg::new(SECRET_FILE)
                    .long("secret-file")
                    .value_name("FILE")
                    .value_parser(value_parser!(PathBuf))
                    .env(SECRET_FILE_VARIABLE)
                    .hide_env_values(true)
                    .help("Read the secret from this file; one line feed at its end does not count. The variable that names a file \
                         counts only if the one that holds the secret is not set"),
            )
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for SecretArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = |id| matches.value_source(id) == Some(ValueSource::CommandLine);
        let secret = || matches.get_one::<String>(SECRET).cloned().map(Secret::from);
        let file = || matches.get_one::<PathBuf>(SECRET_FILE).cloned();
        let source = match (given(SECRET), given(SECRET_FILE)) {
            (true, true) => {
                return Err(clap::Error::raw(
                    ErrorKind::ArgumentConflict,
                    "--secret and --secret-file exclude each other",
                ));
            }
            (true, false) => secret().map(Source::CommandLine),
            (false, true) => file().map(Source::File),
            (false, false) => match (secret(), file()) {
                (Some(secret), Some(path)) if secret.expose().is_empty() => {
                    Some(Source::File(path))
                }
                (Some(secret), file) => {
                    Some(Source::Variable { secret, ignores_file: file.is_some() })
                }
                (None, file) => file.map(Source::File),
            },
        };
        Ok(Self { source: source.unwrap_or(Source::Nothing) })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use clap::Parser;

    use super::super::{EarlyExit, Variables, parse_from};
    use super::*;

    #[derive(Debug, Parser)]
    #[command(name = "edge-agent")]
    struct Sample {
        #[command(flatten)]
        secret: SecretArgs,
    }

    fn parse(arguments: &[&str]) -> Result<Sample, EarlyExit> {
        parse_from(std::iter::once(&"edge-agent").chain(arguments), Variables::Unread)
    }

    fn resolve(arguments: &[&str]) -> Result<String, String> {
        let sample = parse(arguments).map_err(|exit| format!("{exit:?}"))?;
        sample
            .secret
            .resolve()
            .map(|secret| secret.expose().to_owned())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn one_source_wins() {
        assert_eq!(resolve(&["--secret", "a b"]), Ok("a b".to_owned()));
        assert_eq!(resolve(&["--secret", ""]), Ok(String::new()));
        assert_eq!(
            resolve(&[]),
            Err("no secret given (use --secret-file or the variable HTTP_NETWORK_RELAY_SECRET)"
                .to_owned())
        );
        let both = resolve(&["--secret", "a", "--secret-file", "b"]);
        assert!(both.is_err_and(|error| error.contains("--secret and --secret-file exclude each other")));
    }

    #[test]
    fn a_file_loses_one_line_feed_and_has_to_make_sense() -> io::Result<()> {
        let check = |content: &[u8], expected: Result<&str, &str>| -> io::Result<()> {
            let mut file = tempfile::NamedTempFile::new()?;
            file.write_all(content)?;
            let path = file.path().to_string_lossy().into_owned();
            let expected = match expected {
                Ok(secret) => Ok(secret.to_owned()),
                Err(what) => Err(format!(
                    "the secret file {path} {what} (it has to hold the secret and nothing else)"
                )),
            };
            assert_eq!(resolve(&["--secret-file", &path]), expected);
            Ok(())
        };
        check(b"geheim", Ok("geheim"))?;
        check(b"geheim\n", Ok("geheim"))?;
        check(b"geheim\r\n", Ok("geheim"))?;
        check(b" geheim \n\n", Ok(" geheim \n"))?;
        check(b"", Err("is empty"))?;
        check(b"\n", Err("is empty"))?;
        check(b"\xff", Err("is not UTF-8 text"))?;
        check("\u{feff}x".as_bytes(), Err("starts with a byte order mark"))?;
        check(&[b'x'; 32 * 1024], Ok(&"x".repeat(32 * 1024)))?;
        check(&[b'x'; 32 * 1024 + 1], Err("is larger than 32 KiB"))
    }

    // In the words of the system.
    #[cfg(unix)]
    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        assert_eq!(
            resolve(&["--secret-file", "/nonexistent/secret"]),
            Err("cannot read the secret file /nonexistent/secret: no such file or directory (check the path, and who may read it)"
                .to_owned())
        );
    }

    #[test]
    fn nothing_prints_a_secret() {
        assert!(!format!("{:?}", parse(&["--secret", "geheim"])).contains("geheim"));
    }
}
