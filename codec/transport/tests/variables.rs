//! How the variables of a process stand in for options. A process cannot change its own variables safely, so each case
//! runs this very test program again, as a child that prints what it parsed.

#![cfg(feature = "cli")]

use std::process::{Command, Stdio};

use clap::Parser;
use transport::program::{EarlyExit, SecretArgs, parse_from};

/// Holds the child's arguments, each ended by a line feed.
const ARGUMENTS: &str = "TRANSPORT_TEST_ARGUMENTS";

#[derive(Debug, Parser)]
#[command(name = "program")]
struct Sample {
    #[arg(
        long,
        value_name = "NUMBER",
        env = "HTTP_NETWORK_RELAY_SERVER_PORT",
        default_value = "8000"
    )]
    port: u16,

    #[command(flatten)]
    secret: SecretArgs,
}

/// Not a test by itself: what the children run.
#[test]
fn child() {
    let Ok(arguments) = std::env::var(ARGUMENTS) else { return };
    let arguments = std::iter::once("program").chain(arguments.split_terminator('\n'));
    match parse_from::<Sample>(arguments, transport::program::Variables::OfProcess) {
        Ok(sample) => {
            let secret = sample.secret.resolve().map(|secret| secret.expose().to_owned());
            eprintln!("=> {} {:?}", sample.port, secret.map_err(|error| error.to_string()));
        }
        Err(EarlyExit::Answer(text)) => eprintln!("=> {text}"),
        Err(EarlyExit::Usage(line)) => eprintln!("=> {line}"),
    }
}

/// What the child said with these arguments and variables, and no others.
fn outcome(arguments: &[&str], variables: &[(&str, &str)]) -> std::io::Result<String> {
    let output = Command::new(std::env::current_exe()?)
        .args(["--exact", "child", "--nocapture"])
        .env_clear()
        .env(
            ARGUMENTS,
            arguments.iter().map(|argument| format!("{argument}\n")).collect::<String>(),
        )
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    Ok(text.lines().find_map(|line| line.strip_prefix("=> ")).unwrap_or(&text).to_owned())
}

#[test]
fn options_win_over_variables_and_empty_variables_count_as_none() -> std::io::Result<()> {
    let port = "HTTP_NETWORK_RELAY_SERVER_PORT";
    let check = |arguments: &[&str], value: &str, expected: &str| -> std::io::Result<()> {
        let arguments = [arguments, &["--secret", "s"]].concat();
        assert_eq!(outcome(&arguments, &[(port, value)])?, expected);
        Ok(())
    };
    check(&[], "81", "81 Ok(\"s\")")?;
    check(&["--port", "82"], "81", "82 Ok(\"s\")")?;
    check(&[], "", "8000 Ok(\"s\")")?;
    check(&["--port", "82"], "wrong", "82 Ok(\"s\")")?;
    check(
        &[],
        "wrong",
        "program: HTTP_NETWORK_RELAY_SERVER_PORT: invalid digit found in string (see program --help)",
    )
}

#[test]
fn one_source_of_the_secret_wins() -> std::io::Result<()> {
    let folder = tempfile::tempdir()?;
    let file = |name: &str, content: &str| -> std::io::Result<String> {
        let path = folder.path().join(name);
        std::fs::write(&path, content)?;
        Ok(path.to_string_lossy().into_owned())
    };
    let (one, two) = (file("one", "in file one\n")?, file("two", "in file two\n")?);
    let check = |arguments: &[&str],
                 secret: Option<&str>,
                 path: Option<&str>,
                 expected: &str|
     -> std::io::Result<()> {
        let secret = secret.map(|secret| ("HTTP_NETWORK_RELAY_SECRET", secret));
        let path = path.map(|path| ("HTTP_NETWORK_RELAY_SECRET_FILE", path));
        let variables: Vec<_> = secret.into_iter().chain(path).collect();
        assert_eq!(outcome(arguments, &variables)?, format!("8000 Ok({expected:?})"));
        Ok(())
    };
    check(&[], Some("in variable"), None, "in variable")?;
    check(&[], Some(""), None, "")?;
    check(&[], None, Some(&one), "in file one")?;
    check(&[], Some("in variable"), Some(&one), "in variable")?;
    check(&[], Some(""), Some(&one), "in file one")?;
    check(&["--secret", "in option"], Some("in variable"), Some(&one), "in option")?;
    check(&["--secret", ""], Some("in variable"), Some(&one), "")?;
    check(&["--secret-file", &two], Some("in variable"), Some(&one), "in file two")
}

#[test]
fn help_names_the_variables_but_never_shows_a_secret() -> std::io::Result<()> {
    let help = Command::new(std::env::current_exe()?)
        .args(["--exact", "child", "--nocapture"])
        .env_clear()
        .env(ARGUMENTS, "--help\n")
        .env("HTTP_NETWORK_RELAY_SECRET", "geheim")
        .output()?
        .stderr;
    let help = String::from_utf8_lossy(&help);
    assert!(help.contains("[env: HTTP_NETWORK_RELAY_SECRET]"), "{help}");
    assert!(!help.contains("geheim"), "{help}");
    Ok(())
}
