//! The command line of `access-client`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Parser};
use codec::v2;
use transport::program::{SecretArgs, SecretError, long_version, parse_integer};
use transport::url::RelayUrl;

use crate::config::{Bind, Config, Forward, Target};
use crate::exit::Exit;

const ABOUT: &str = "\
Connects stdin and stdout, or local ports, to TCP ports behind an agent, by way of a relay; made to be an ssh ProxyCommand.";

/// The two ways to call it; [`Task`] is what becomes of them.
const USAGE: &str = "\
access-client [OPTIONS] <AGENT> <HOST> <PORT> [PROTOCOL]
       access-client [OPTIONS] <AGENT> --forward [BIND:]PORT:HOST:HOSTPORT...";

/// Longest time that an option takes: whoever asks for more means for ever.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The arguments of `access-client`, as given or by default.
#[derive(Debug, Clone, Parser)]
#[command(name = "access-client", version = long_version!(), about = ABOUT, after_help = after_help())]
#[command(override_usage = USAGE)]
pub struct Cli {
    /// Name of the agent that opens the connection
    #[arg(value_name = "AGENT", allow_negative_numbers = true)]
    pub agent: String,

    /// Name or address of the target, as the agent sees it
    #[arg(value_name = "HOST", value_parser = host, allow_negative_numbers = true)]
    #[arg(required_unless_present = "forward")]
    pub host: Option<String>,

    /// TCP port of the target, 1 to 65535
    #[arg(value_name = "PORT", value_parser = port, allow_negative_numbers = true)]
    #[arg(required_unless_present = "forward")]
    pub port: Option<u16>,

    /// Protocol towards the target; agents know tcp
    #[arg(value_name = "PROTOCOL", default_value = "tcp", value_parser = protocol, allow_negative_numbers = true)]
    pub protocol: String,

    /// The relay to connect to: ws:// or wss://, with the path for clients. May be given several times; the first that
    /// answers is taken, and the next when it is lost
    // Every prefix, as the original program takes it: `--resume-for` must not make them ambiguous.
    #[arg(long, aliases = ["r", "re"], value_name = "URL")]
    #[arg(default_value = "ws://127.0.0.1:8000/ws_for_access_clients")]
    #[arg(env = "HTTP_NETWORK_RELAY_URL", hide_env_values = true, action = ArgAction::Append)]
    pub relay_url: Vec<RelayUrl>,

    /// Where the secret comes from.
    #[command(flatten)]
    pub secret: SecretArgs,

    /// Trust the certificates in this PEM file too, for wss://
    #[arg(long, value_name = "FILE", env = "HTTP_NETWORK_RELAY_CA_FILE", hide_env_values = true)]
    pub ca_file: Option<PathBuf>,

    /// Listen here, and carry each connection to the target: PORT (on loopback), ADDRESS:PORT, or the path of a Unix
    /// socket. Port 0 is any free one, which stderr tells
    #[arg(
        long,
        value_name = "[ADDRESS:]PORT",
        env = "HTTP_NETWORK_RELAY_LISTEN",
        hide_env_values = true
    )]
    #[arg(requires = "host", requires = "port")]
    pub listen: Option<Bind>,

    /// Listen on PORT, as with --listen, for a target of its own, as ssh -L does. May be given several times; only
    /// AGENT is needed then
    #[arg(long, value_name = "[BIND:]PORT:HOST:HOSTPORT", action = ArgAction::Append)]
    #[arg(env = "HTTP_NETWORK_RELAY_FORWARD", hide_env_values = true, value_delimiter = ',')]
    pub forward: Vec<Forward>,

    /// When the link to the relay is lost, look this long for another one to go on with: 90 to 300, or 0 to end with
    /// the link. Needs protocol v2 at relay and agent
    #[arg(long, value_name = "SECONDS", value_parser = resume_for, default_value = "180")]
    #[arg(
        env = "HTTP_NETWORK_RELAY_RESUME_FOR",
        hide_env_values = true,
        allow_negative_numbers = true
    )]
    pub resume_for: Duration,

    /// With a relay of protocol v1: once stdin has ended, end too when nothing came back for this long [default: wait
    /// for the relay]
    #[arg(long, value_name = "SECONDS", value_parser = seconds, allow_negative_numbers = true)]
    #[arg(env = "HTTP_NETWORK_RELAY_EOF_TIMEOUT", hide_env_values = true)]
    pub eof_timeout: Option<Duration>,

    /// Log more; up to three times. Errors also name their causes
    #[arg(short, long, action = ArgAction::Count)]
    pub verbose: u8,
}

impl Cli {
    /// Reads the secret, and makes the configuration. Warns in the log about a secret that others can see, so logging
    /// has to be set up before.
    ///
    /// # Errors
    /// [`UsageError`], a mistake of usage.
    pub fn into_config(self) -> Result<(Config, Task), UsageError> {
        let target = match (self.host, self.port) {
            (Some(host), Some(port)) => Some(Target { host, port }),
            _ => None,
        };
        let mut forwards = self.forward;
        let task = match (target, self.listen) {
            (Some(target), Some(bind)) => {
                forwards.insert(0, Forward { bind, target });
                Task::Listen(forwards)
            }
            (None, _) => Task::Listen(forwards),
            (Some(target), None) if forwards.is_empty() => Task::Carry(target),
            (Some(_), None) => return Err(UsageError::TargetUnused),
        };
        let config = Config {
            secret: self.secret.resolve()?,
            relay_urls: self.relay_url,
            ca_file: self.ca_file,
            eof_timeout: self.eof_timeout,
            resume_for: self.resume_for,
            agent: self.agent,
            protocol: self.protocol,
        };
        Ok((config, task))
    }
}

/// What a client is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// Carry stdin and stdout to a target.
    Carry(Target),
    /// Listen, and carry connections.
    Listen(Vec<Forward>),
}

/// What the arguments cannot mean, though each by itself is right.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UsageError {
    /// There is no secret.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A target is given for stdin and stdout, which are not used with `--forward`.
    #[error(
        "HOST and PORT mean nothing beside --forward (leave them out, or say with --listen where to listen for them)"
    )]
    TargetUnused,
}

fn after_help() -> String {
    format!(
        "stdout carries the target's bytes and nothing else; messages go to stderr.\n\
         The usual proxy variables (http_proxy, all_proxy, no_proxy, …) are honoured, also for ws:// URLs.\n\
         \n\
         In ~/.ssh/config:\n  \
           ProxyCommand access-client --relay-url URL --secret-file FILE %h localhost %p tcp\n\
         \n\
         Logging: RUST_LOG takes a filter such as \"debug\" or \"client=trace\"; DEBUG=1 is the debug level.\n\
         \n\
         Exit status:\n{}",
        Exit::help_table()
    )
}

fn host(text: &str) -> Result<String, &'static str> {
    let host = text.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(text);
    if host.is_empty() { Err("must not be empty") } else { Ok(host.to_owned()) }
}

/// Spec v1, C-2.
fn port(text: &str) -> Result<u16, &'static str> {
    let port = parse_integer(text).and_then(|port| u16::try_from(port).ok());
    port.filter(|&port| port != 0).ok_or("must be a number from 1 to 65535")
}

fn protocol(text: &str) -> Result<String, &'static str> {
    if text.is_empty() {
        Err("must not be empty (tcp is what agents know)")
    } else {
        Ok(text.to_owned())
    }
}

fn resume_for(text: &str) -> Result<Duration, &'static str> {
    let time = seconds(text)
        .ok()
        .filter(|time| time.is_zero() || (v2::MIN_RESUME_FOR..=v2::MAX_RESUME_FOR).contains(time));
    time.ok_or("must be 0, or a number of seconds from 90 to 300")
}

fn seconds(text: &str) -> Result<Duration, &'static str> {
    let seconds = text.trim().parse::<f64>().ok().filter(|seconds| *seconds >= 0.0);
    let seconds = seconds.ok_or("must be a number of seconds, such as 30 or 0.5")?;
    Ok(Duration::try_from_secs_f64(seconds).map_or(LONGEST, |time| time.min(LONGEST)))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use transport::program::{EarlyExit, Variables, parse_from};

    use super::*;

    fn parse(arguments: &[&str]) -> Result<Cli, EarlyExit> {
        parse_from(std::iter::once(&"access-client").chain(arguments), Variables::Unread)
    }

    #[test]
    fn the_help_text() {
        insta::assert_snapshot!(Cli::command().term_width(100).render_help());
    }

    #[test]
    fn the_version_names_the_wire() {
        let version = format!("access-client {} (wire v1)\n", env!("CARGO_PKG_VERSION"));
        assert_eq!(parse(&["--version"]).map(|_| ()), Err(EarlyExit::Answer(version)));
    }

    #[test]
    fn defaults_and_options() -> Result<(), Box<dyn std::error::Error>> {
        let config = |arguments: &[&str]| {
            parse(arguments).map(Cli::into_config).expect("these arguments are right")
        };
        let (defaults, task) = config(&["box", "::1", "22", "--secret", ""])?;
        assert_eq!(defaults.relay_urls, ["ws://127.0.0.1:8000/ws_for_access_clients".parse()?]);
        assert_eq!((defaults.agent.as_str(), defaults.protocol.as_str()), ("box", "tcp"));
        assert_eq!(task, Task::Carry(Target { host: "::1".to_owned(), port: 22 }));
        assert_eq!((defaults.ca_file, defaults.eof_timeout), (None, None));
        assert_eq!(defaults.resume_for, v2::RESUME_FOR);

        let (given, task) = config(&[
            "--rel",
            "wss://r/p",
            "-v",
            "",
            "[::1]",
            " +2_2 ",
            "UDP",
            "--sec",
            "x",
            "--ca",
            "ca.pem",
            "--eof",
            "0.5",
            "--res",
            "0",
            "--relay-url",
            "ws://other/p",
        ])?;
        assert_eq!(
            (given.agent.as_str(), given.protocol.as_str(), given.secret.expose()),
            ("", "UDP", "x")
        );
        assert_eq!(task, Task::Carry(Target { host: "::1".to_owned(), port: 22 }));
        assert_eq!(given.relay_urls, ["wss://r/p".parse()?, "ws://other/p".parse()?]);
        assert_eq!(given.resume_for, Duration::ZERO);
        assert_eq!(given.ca_file, Some(PathBuf::from("ca.pem")));
        assert_eq!(given.eof_timeout, Some(Duration::from_millis(500)));
        Ok(())
    }

    #[test]
    fn a_secret_is_needed() {
        let missing =
            parse(&["a", "h", "22", "tcp"]).map(Cli::into_config).expect("the arguments are right");
        assert!(matches!(missing, Err(UsageError::Secret(SecretError::Missing))));
    }

    #[test]
    fn what_is_listened_on() {
        let task = |arguments: &[&str]| {
            let secret = ["--secret", "s"];
            let arguments: Vec<_> = arguments.iter().chain(&secret).copied().collect();
            let cli = parse(&arguments).map_err(|error| format!("{error:?}"))?;
            cli.into_config().map(|(_, task)| task).map_err(|error| error.to_string())
        };
        let listen = |forwards: &[&str]| {
            let read = forwards.iter().map(|forward| forward.parse().expect("a forward"));
            Ok(Task::Listen(read.collect()))
        };
        assert_eq!(task(&["--listen", "8080", "a", "h", "80"]), listen(&["127.0.0.1:8080:h:80"]));
        assert_eq!(
            task(&["a", "--forward", "1:h:2", "--forward", "/s:[::1]:4"]),
            listen(&["1:h:2", "/s:[::1]:4"])
        );
        assert_eq!(
            task(&["a", "h", "80", "--listen", "[::1]:9", "--forward", "1:h:2"]),
            listen(&["[::1]:9:h:80", "1:h:2"])
        );
        let unused = task(&["a", "h", "80", "--forward", "1:h:2"]);
        assert!(unused.is_err_and(|error| error.contains("mean nothing beside --forward")));
        for arguments in [
            &["--listen", "8080", "a"][..],
            &["a"],
            &["--listen", "8080", "a", "--forward", "1:h:2"],
        ] {
            assert!(
                task(arguments).is_err_and(|error| error.contains("not provided")),
                "{arguments:?}"
            );
        }
    }

    #[test]
    fn times_are_seconds() {
        assert_eq!(seconds(" 30 "), Ok(Duration::from_secs(30)));
        assert_eq!(seconds("0"), Ok(Duration::ZERO));
        assert_eq!(seconds("1e300"), Ok(LONGEST));
        assert_eq!(seconds("inf"), Ok(LONGEST));
        for text in ["-1", "NaN", "", "soon", "10s"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }

    #[test]
    fn wrong_usage_is_one_line() {
        let check = |arguments: &[&str], problem: &str| {
            let hint = if problem.ends_with(')') { "" } else { " (see access-client --help)" };
            let line = format!("access-client: {problem}{hint}");
            assert_eq!(parse(arguments).map(|_| ()), Err(EarlyExit::Usage(line)));
        };
        for port in ["-5", "0", "65536", "22.0", "abc", ""] {
            check(&["a", "127.0.0.1", port, "tcp"], "[PORT]: must be a number from 1 to 65535");
        }
        check(&[], "the following required arguments were not provided: <AGENT> <HOST> <PORT>");
        check(&["a", "", "22", "tcp"], "[HOST]: must not be empty");
        check(
            &["a", "h", "22", "--resume-for", "89"],
            "--resume-for <SECONDS>: must be 0, or a number of seconds from 90 to 300",
        );
        check(
            &["a", "h", "22", "--listen", "h:80"],
            "--listen <[ADDRESS:]PORT>: must have an IP address before the port, with brackets around IPv6 (or localhost, or *)",
        );
        check(&["a", "h", "22", ""], "[PROTOCOL]: must not be empty (tcp is what agents know)");
        check(&["a", "h", "22", "tcp", "more"], "unexpected argument 'more' found");
    }
}
