//! The command line of `network-relay`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Parser};
use transport::program::{long_version, parse_integer, warn_if_world_readable};

use crate::auth::{Credentials, CredentialsError};
use crate::config::{Config, ListenAddress, ListenHost};

const ABOUT: &str = "\
Accepts edge agents and access clients on one HTTP port, and joins their streams.";

const AFTER_HELP: &str = r#"The credentials file is read once, at start:
  {"edge-agents": {"NAME": "SECRET", ...}, "access-client-secrets": ["SECRET", ...]}

Logging: RUST_LOG takes a filter such as "debug" or "relay=trace"; DEBUG=1 is the debug level.
SIGTERM tells agents and clients to move to another relay, or to this one's successor, and ends when
they have; Ctrl-C closes every link cleanly at once. A second signal ends without a word.
A listening socket that is passed on (systemd's LISTEN_FDS) is used in place of --host and --port.

Exit status: 0 ended by a signal, 1 could not start or failed, 2 wrong usage."#;

/// The options of `network-relay`, as given or by default.
#[derive(Debug, Clone, Parser)]
#[command(name = "network-relay", version = long_version!(), about = ABOUT, after_help = AFTER_HELP)]
pub struct Cli {
    /// Address or name to listen on; 0.0.0.0 or :: for every interface
    #[arg(
        long,
        default_value = "127.0.0.1",
        env = "HTTP_NETWORK_RELAY_SERVER_HOST",
        hide_env_values = true
    )]
    pub host: ListenHost,

    /// Port to listen on; 0 picks a free one, which is then printed
    #[arg(long, default_value = "8000", value_parser = port, allow_negative_numbers = true)]
    #[arg(env = "HTTP_NETWORK_RELAY_SERVER_PORT", hide_env_values = true)]
    pub port: u16,

    /// JSON file with the secrets of agents and clients
    #[arg(long, value_name = "FILE", default_value = "credentials.json")]
    #[arg(env = "HTTP_NETWORK_RELAY_CREDENTIALS_FILE", hide_env_values = true)]
    pub credentials_file: PathBuf,

    /// How long links may take to move after SIGTERM; 0 closes them at once
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    #[arg(env = "HTTP_NETWORK_RELAY_DRAIN_TIMEOUT", hide_env_values = true)]
    #[arg(allow_negative_numbers = true)]
    pub drain_timeout: Duration,

    /// Log more; twice for still more. Errors also name their causes
    #[arg(short, long, action = ArgAction::Count)]
    pub verbose: u8,
}

impl Cli {
    /// Reads the credentials file, and makes the configuration. Warns in the log about what works but is hardly meant,
    /// so logging has to be set up before.
    ///
    /// # Errors
    /// [`CredentialsError`], a failure to start.
    pub fn into_config(self) -> Result<Config, CredentialsError> {
        let path = &self.credentials_file;
        let credentials = Credentials::load(path)?;
        if let Ok(metadata) = path.metadata() {
            warn_if_world_readable(path, &metadata);
        }
        if credentials.agent_count() == 0 {
            tracing::warn!("{} admits no agent", path.display());
        }
        if credentials.client_secret_count() == 0 {
            tracing::warn!("{} admits no client", path.display());
        }
        let listen = ListenAddress { host: self.host, port: self.port };
        Ok(Config { listen, credentials, drain_timeout: self.drain_timeout })
    }
}

fn port(text: &str) -> Result<u16, &'static str> {
    let port = parse_integer(text).and_then(|port| u16::try_from(port).ok());
    port.ok_or("must be a number from 0 to 65535 (0 picks a free port)")
}

fn seconds(text: &str) -> Result<Duration, &'static str> {
    let seconds = text.trim().parse::<f64>().ok().filter(|seconds| *seconds >= 0.0);
    let seconds = seconds.ok_or("must be a number of seconds, such as 30 or 0.5")?;
    Ok(Duration::try_from_secs_f64(seconds).map_or(LONGEST, |time| time.min(LONGEST)))
}

/// Longest time that the option takes: whoever asks for more means for ever.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::CommandFactory;
    use transport::program::{EarlyExit, Variables, parse_from};

    use super::*;

    fn parse(arguments: &[&str]) -> Result<Cli, EarlyExit> {
        parse_from(std::iter::once(&"network-relay").chain(arguments), Variables::Unread)
    }

    #[test]
    fn the_help_text() {
        insta::assert_snapshot!(Cli::command().term_width(100).render_help());
    }

    #[test]
    fn the_version_names_the_wire() {
        let version = format!("network-relay {} (wire v1)\n", env!("CARGO_PKG_VERSION"));
        assert_eq!(parse(&["--version"]).map(|_| ()), Err(EarlyExit::Answer(version)));
    }

    #[test]
    fn defaults_and_options() -> Result<(), EarlyExit> {
        let check = |arguments: &[&str], host: &str, port, file: &str| -> Result<(), EarlyExit> {
            let cli = parse(arguments)?;
            assert_eq!(cli.drain_timeout, Duration::from_secs(5));
            assert_eq!(Ok(cli.host), host.parse());
            assert_eq!((cli.port, cli.credentials_file), (port, PathBuf::from(file)));
            Ok(())
        };
        check(&[], "127.0.0.1", 8000, "credentials.json")?;
        check(&["--cred", "c", "--po", " +8_1 ", "--ho", "[::]"], "::", 81, "c")?;
        check(&["--port", "1", "--port=0"], "127.0.0.1", 0, "credentials.json")
    }

    #[test]
    fn wrong_usage_is_one_line() {
        let check = |arguments: &[&str], problem: &str| {
            let hint = if problem.ends_with(')') { "" } else { " (see network-relay --help)" };
            let line = format!("network-relay: {problem}{hint}");
            assert_eq!(parse(arguments).map(|_| ()), Err(EarlyExit::Usage(line)));
        };
        for port in ["70000", "-1", "abc", "", "80.0"] {
            check(
                &["--port", port],
                "--port <PORT>: must be a number from 0 to 65535 (0 picks a free port)",
            );
        }
        check(
            &["--host", ""],
            "--host <HOST>: must name an address (0.0.0.0 or :: for every interface)",
        );
        for time in ["-1", "soon", "", "NaN"] {
            check(
                &["--drain-timeout", time],
                "--drain-timeout <SECONDS>: must be a number of seconds, such as 30 or 0.5",
            );
        }
        check(&["credentials.json"], "unexpected argument 'credentials.json' found");
        check(&["--h", "::"], "unexpected argument '--h' found");
    }

    #[test]
    fn the_configuration_needs_good_credentials() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("credentials.json");
        let configure = || {
            let cli = parse(&["--port", "0", "--credentials-file", &file.to_string_lossy()]);
            cli.map(Cli::into_config).expect("these options are right")
        };
        assert!(configure().is_err_and(|error| error.path == file));
        fs::write(&file, r#"{"edge-agents": {}, "access-client-secrets": ["c"]}"#)?;
        let config = configure()?;
        assert_eq!(config.listen.to_string(), "127.0.0.1:0");
        assert_eq!(config.credentials.client_secret_count(), 1);
        Ok(())
    }
}
