//! The command line of `edge-agent`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Parser};
use transport::program::{self, SecretArgs, SecretError, long_version};
use transport::url::RelayUrl;

use crate::config::{Config, default_name};

const ABOUT: &str = "\
Registers with a relay and opens TCP connections to targets on its behalf; it reconnects for ever.";

const AFTER_HELP: &str = r#"The usual proxy variables (http_proxy, all_proxy, no_proxy, …) are honoured, also for ws:// URLs.

Logging: RUST_LOG takes a filter such as "debug" or "agent=trace"; DEBUG=1 is the debug level.
SIGTERM or Ctrl-C closes the link cleanly; a second one ends at once.

Exit status: 0 ended by a signal, 1 could not start or failed, 2 wrong usage."#;

/// The options of `edge-agent`, as given or by default.
#[derive(Debug, Clone, Parser)]
#[command(name = "edge-agent", version = long_version!(), about = ABOUT, after_help = AFTER_HELP)]
pub struct Cli {
    /// The relay to register with: ws:// or wss://, with the path for agents. If given several times, they take turns
    #[arg(long, value_name = "URL", default_value = "ws://127.0.0.1:8000/ws_for_edge_agents")]
    #[arg(env = "HTTP_NETWORK_RELAY_URL", hide_env_values = true, value_delimiter = ' ')]
    pub relay_url: Vec<RelayUrl>,

    /// The name to register under [default: made from the host's name and random digits]
    #[arg(long, env = "HTTP_NETWORK_RELAY_NAME", hide_env_values = true)]
    pub name: Option<String>,

    /// Where the secret comes from.
    #[command(flatten)]
    pub secret: SecretArgs,

    /// Trust the certificates in this PEM file too, for wss://
    #[arg(long, value_name = "FILE", env = "HTTP_NETWORK_RELAY_CA_FILE", hide_env_values = true)]
    pub ca_file: Option<PathBuf>,

    /// How long a stream waits for its client when a link is lost: 90 to 300, or 0 for not at all
    #[arg(long, value_name = "SECONDS", default_value = "180")]
    #[arg(env = "HTTP_NETWORK_RELAY_RESUME_FOR", value_parser = program::resume_for)]
    pub resume_for: Duration,

    /// Log more; twice for still more. Errors also name their causes
    #[arg(short, long, action = ArgAction::Count)]
    pub verbose: u8,
}

impl Cli {
    /// Reads the secret, and makes the configuration. Warns in the log about a secret that others can see, so logging
    /// has to be set up before.
    ///
    /// # Errors
    /// [`SecretError`], a mistake of usage.
    pub fn into_config(self) -> Result<Config, SecretError> {
        Ok(Config {
            secret: self.secret.resolve()?,
            relay_urls: self.relay_url,
            name: self.name.unwrap_or_else(default_name),
            ca_file: self.ca_file,
            resume_for: self.resume_for,
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use transport::program::{EarlyExit, Variables, parse_from};

    use super::*;

    fn parse(arguments: &[&str]) -> Result<Cli, EarlyExit> {
        parse_from(std::iter::once(&"edge-agent").chain(arguments), Variables::Unread)
    }

    #[test]
    fn the_help_text() {
        insta::assert_snapshot!(Cli::command().term_width(100).render_help());
    }

    #[test]
    fn the_version_names_the_wire() {
        let version = format!("edge-agent {} (wire v1)\n", env!("CARGO_PKG_VERSION"));
        assert_eq!(parse(&["--version"]).map(|_| ()), Err(EarlyExit::Answer(version)));
    }

    #[test]
    fn defaults_and_options() -> Result<(), Box<dyn std::error::Error>> {
        let config = |arguments: &[&str]| {
            parse(arguments).map(Cli::into_config).expect("these options are right")
        };
        let defaults = config(&["--secret", ""])?;
        assert_eq!(defaults.relay_urls, ["ws://127.0.0.1:8000/ws_for_edge_agents".parse()?]);
        assert!(defaults.name.starts_with("unnamed-fqdn-") && defaults.secret.expose().is_empty());
        assert_eq!(defaults.ca_file, None);

        let given = config(&["--n", "", "--s", "x", "--rel", "wss://r/p", "--ca", "ca.pem"])?;
        assert_eq!((given.name.as_str(), given.secret.expose()), ("", "x"));
        assert_eq!(given.relay_urls, ["wss://r/p".parse()?]);
        assert_eq!(given.ca_file, Some(PathBuf::from("ca.pem")));
        assert!(
            !format!("{given:?}").contains('x'.to_string().as_str())
                || !format!("{:?}", given.secret).contains('x')
        );
        Ok(())
    }

    #[test]
    fn a_secret_is_needed() {
        let missing = parse(&[]).map(Cli::into_config).expect("no option is needed");
        assert!(matches!(missing, Err(SecretError::Missing)));
    }

    #[test]
    fn wrong_usage_is_one_line_without_the_password_of_a_url() {
        let usage = |arguments: &[&str]| match parse(arguments) {
            Err(EarlyExit::Usage(line)) => line,
            other => panic!("{arguments:?} gave {other:?}"),
        };
        let line = usage(&["--relay-url", "http://u:geheim@relay/"]);
        assert!(line.starts_with("edge-agent: --relay-url <URL>: "), "{line}");
        assert!(!line.contains("geheim"));
        assert_eq!(
            usage(&["extra"]),
            "edge-agent: unexpected argument 'extra' found (see edge-agent --help)"
        );
    }
}
