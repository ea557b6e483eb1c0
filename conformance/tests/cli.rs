//! The command lines of the three real programs: what they say, with which exit status, and what they never say.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::{Ipv6Addr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};

use codec::v1::{AGENT_PATH, CLIENT_PATH};
use conformance::harness::targets::RefusingPort;
use conformance::harness::tunnel::{
    AGENT, AGENT_SECRET, CLIENT_SECRET, Client, OTHER_AGENT, Tunnel, agent_command, start_relay,
    write_credentials,
};
use conformance::harness::{Origin, Process, Target};

/// What a program did, as a snapshot shows it. `replaced` says what differs from run to run, and its stand-in.
fn transcript(command: &mut Command, replaced: &[(&str, &str)]) -> io::Result<String> {
    let output = command.env("COLUMNS", "100").stdin(Stdio::null()).output()?;
    let mut text = String::from("$");
    for (name, value) in command.get_envs().filter(|(name, _)| *name != "COLUMNS") {
        if let Some(value) = value {
            let _ = write!(text, " {}={:?}", name.to_string_lossy(), value.to_string_lossy());
        }
    }
    let program = Path::new(command.get_program()).file_name().unwrap_or_default();
    let _ = write!(text, " {}", program.to_string_lossy());
    for argument in command.get_args() {
        let argument = argument.to_string_lossy();
        let plain = !argument.is_empty() && !argument.contains([' ', '"']);
        let _ = if plain { write!(text, " {argument}") } else { write!(text, " {argument:?}") };
    }
    let status = output.status.code().map_or("signal".to_owned(), |code| code.to_string());
    let _ = writeln!(text, "\n=> {status}");
    text.push_str(&String::from_utf8_lossy(&output.stdout));
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    // Which of the two it is depends on the machine's name server.
    let names = ("temporary failure in name resolution", "name or service not known");
    for (from, to) in replaced.iter().chain([&names]) {
        text = text.replace(from, to);
    }
    Ok(text)
}

fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Origin::Ours.command(program);
    command.args(arguments);
    command
}

#[test]
fn help_and_version() -> io::Result<()> {
    for program in ["network-relay", "edge-agent", "access-client"] {
        let mut shown = transcript(&mut command(program, &["--version"]), &[])?;
        shown.push_str(&transcript(&mut command(program, &["--help"]), &[])?);
        insta::assert_snapshot!(format!("{program}_help"), shown);
        // The short spellings say the same.
        for (short, long) in [("-h", "--help"), ("-V", "--version"), ("--vers", "--version")] {
            let short = command(program, &[short]).output()?;
            let long = command(program, &[long]).output()?;
            assert_eq!(short.status, long.status);
            assert_eq!(short.stdout, long.stdout);
            assert!(short.stderr.is_empty());
        }
    }
    Ok(())
}

#[test]
fn an_answer_that_cannot_be_printed_is_a_failure() -> io::Result<()> {
    for program in ["network-relay", "edge-agent", "access-client"] {
        for option in ["--help", "--version"] {
            let full = fs::OpenOptions::new().write(true).open("/dev/full")?;
            let output =
                command(program, &[option]).stdout(full).stderr(Stdio::piped()).output()?;
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let line = "writing to stdout failed: no space left on device (is a disk full?)";
            assert_eq!(said, format!("{program}: {line}\n"));
            assert_eq!(output.status.code(), Some(1), "{program} {option}");
        }
    }
    Ok(())
}

#[test]
fn wrong_usage_is_one_line_and_2() -> io::Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().to_string_lossy().into_owned();
    let missing = format!("{path}/missing");
    let written = |name: &str, content: &[u8]| -> io::Result<String> {
        let file = folder.path().join(name);
        fs::write(&file, content)?;
        fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        Ok(file.to_string_lossy().into_owned())
    };
    let empty = written("empty", b"\n")?;
    let large = written("large", &[b'x'; 33 * 1024])?;
    let no_text = written("no_text", b"\xff")?;
    let marked = written("marked", "\u{feff}secret".as_bytes())?;
    let no_pem = written("no_pem", b"-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n")?;
    let mut shown = String::new();
    let relay: [&[&str]; 8] = [
        &["--port", "70000"],
        &["--port", "-1"],
        &["--port", "abc"],
        &["--port", ""],
        &["--host", ""],
        &["--credentials-file", ""],
        &["--nonsense"],
        &["stray"],
    ];
    let agent: [&[&str]; 21] = [
        &[],
        &["--secret", "s", "--relay-url", "http://127.0.0.1/"],
        &["--secret", "s", "--relay-url", "127.0.0.1:8000"],
        &["--secret", "s", "--relay-url", "ws://127.0.0.1:99999/"],
        &["--secret", "s", "--relay-url", "ws://127.0.0.1/#part"],
        &["--secret", "s", "--relay-url", ""],
        &["--secret", "s", "--secret-file", "f"],
        &["--secret-file", &missing],
        &["--secret-file", &path],
        &["--secret-file", &empty],
        &["--secret-file", &large],
        &["--secret-file", &no_text],
        &["--secret-file", &marked],
        &["--secret-file", ""],
        &["--secret"],
        &["--secret", "s", "stray"],
        &["--secret", "s", "--relay-url", "ws://u:p/x@127.0.0.1/"],
        &["--ca-file", &missing],
        &["--ca-file", &path],
        &["--ca-file", &no_pem],
        &["--ca-file", "/dev/null"],
    ];
    let client: [&[&str]; 16] = [
        &[],
        &["a", "h", "22", "tcp"],
        &["--secret", "s", "a", "h"],
        &["--secret", "s", "a", "h", "0"],
        &["--secret", "s", "a", "h", "-5"],
        &["--secret", "s", "a", "h", "65536"],
        &["--secret", "s", "a", "h", "22.0"],
        &["--secret", "s", "a", "h", "ssh"],
        &["--secret", "s", "a", "", "22"],
        &["--secret", "s", "a", "h", "22", "tcp", "stray"],
        &["--secret", "s", "--eof-timeout", "-1", "a", "h", "22"],
        &["--secret", "s", "--relay-url", "ftp://x/", "a", "h", "22"],
        &["--secret-file", &missing, "a", "h", "22"],
        &["--ca-file", &missing, "a", "h", "22"],
        &["--ca-file", &path, "a", "h", "22"],
        &["--ca-file", "/dev/null", "a", "h", "22"],
    ];
    let programs: [(&str, &[&[&str]]); 3] =
        [("network-relay", &relay), ("edge-agent", &agent), ("access-client", &client)];
    for (program, lines) in programs {
        for arguments in lines {
            let mut command = command(program, arguments);
            if arguments[..].contains(&"--ca-file") {
                command.env("HTTP_NETWORK_RELAY_SECRET", "s");
            }
            let output = command.output()?;
            assert_eq!(output.status.code(), Some(2), "{program} {arguments:?}");
            assert!(output.stdout.is_empty(), "{program} {arguments:?}");
            shown.push_str(&transcript(&mut command, &[(&path, "FOLDER")])?);
        }
    }
    for (program, name, value) in [
        ("network-relay", "HTTP_NETWORK_RELAY_SERVER_PORT", "abc"),
        ("edge-agent", "HTTP_NETWORK_RELAY_URL", "x"),
        ("access-client", "HTTP_NETWORK_RELAY_EOF_TIMEOUT", "soon"),
    ] {
        let mut command = command(program, &[]);
        if program == "access-client" {
            command.args(["a", "h", "22"]);
        }
        command.env(name, value);
        assert_eq!(command.output()?.status.code(), Some(2), "{name}");
        shown.push_str(&transcript(&mut command, &[])?);
    }
    insta::assert_snapshot!(shown);
    Ok(())
}

#[test]
fn a_relay_that_cannot_start_says_why_in_one_line() -> io::Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().to_string_lossy().into_owned();
    let mut shown = String::new();
    let mut add = |command: &mut Command, replaced: &[(&str, &str)]| -> io::Result<()> {
        let output = command.output()?;
        assert_eq!(output.status.code(), Some(1), "{command:?}");
        let lines = String::from_utf8_lossy(&output.stderr).lines().count();
        assert_eq!(lines, 1, "{command:?}");
        shown.push_str(&transcript(command, replaced)?);
        Ok(())
    };
    add(command("network-relay", &["--port", "0"]).current_dir(&folder), &[])?;
    let (large, no_text) = (folder.path().join("large"), folder.path().join("no_text"));
    fs::File::create(&large)?.set_len((64 << 20) + 1)?;
    fs::write(&no_text, b"\xff")?;
    for file in [large, no_text] {
        fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        let file = file.to_string_lossy();
        let arguments = ["--port", "0", "--credentials-file", &file];
        add(&mut command("network-relay", &arguments), &[(path.as_str(), "FOLDER")])?;
    }
    for (name, content) in [
        ("empty", ""),
        ("no_json", "{\"edge-agents\": {},"),
        ("comment", "// none\n{}"),
        ("byte_order_mark", "\u{feff}{\"edge-agents\": {}, \"access-client-secrets\": []}"),
        ("list", "[]"),
        ("null", "null"),
        ("no_keys", "{}"),
        ("no_clients", r#"{"edge-agents": {}}"#),
        ("text_of_secrets", r#"{"edge-agents": {}, "access-client-secrets": "canary"}"#),
        ("number_as_secret", r#"{"edge-agents": {"a": 1}, "access-client-secrets": []}"#),
        ("null_as_secret", r#"{"edge-agents": {"a": null}, "access-client-secrets": []}"#),
        ("empty_secret", r#"{"edge-agents": {"a": ""}, "access-client-secrets": []}"#),
        ("empty_client_secret", r#"{"edge-agents": {}, "access-client-secrets": ["canary", ""]}"#),
    ] {
        let file = folder.path().join(name);
        fs::write(&file, content)?;
        fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        let file = file.to_string_lossy();
        let replaced = [(path.as_str(), "FOLDER")];
        add(
            &mut command("network-relay", &["--port", "0", "--credentials-file", &file]),
            &replaced,
        )?;
    }
    add(
        &mut command("network-relay", &["--port", "0", "--credentials-file", &path]),
        &[(&path, "FOLDER")],
    )?;

    write_credentials(folder.path());
    let file = folder.path().join("credentials.json");
    let file = file.to_string_lossy();
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let port = taken.local_addr()?.port().to_string();
    let replaced = [(path.as_str(), "FOLDER"), (port.as_str(), "PORT")];
    add(&mut command("network-relay", &["--port", &port, "--credentials-file", &file]), &replaced)?;
    // The second is an address for documents, which no machine has.
    for host in ["no-such-host.invalid", "203.0.113.1"] {
        let arguments = ["--host", host, "--port", "0", "--credentials-file", &file];
        add(&mut command("network-relay", &arguments), &replaced)?;
    }
    assert!(
        !shown.replace("\"canary\"", "").contains("canary"),
        "secrets of the file are not shown"
    );
    insta::assert_snapshot!(shown);
    Ok(())
}

#[test]
fn the_clients_failures_are_one_line_each() -> io::Result<()> {
    let tunnel = Tunnel::ours();
    let port = tunnel.port().to_string();
    let refusing = RefusingPort::new()?;
    let refused = refusing.port().to_string();
    let url = tunnel.client_url();
    let nowhere = format!("ws://127.0.0.1:{refused}{CLIENT_PATH}");
    let elsewhere = format!("ws://127.0.0.1:{port}/elsewhere");
    let user = format!("ws://user:canary@127.0.0.1:{refused}{CLIENT_PATH}");
    let mut shown = String::new();
    for (url, secret, arguments) in [
        (&url, "wrong", [AGENT, "127.0.0.1", "1"]),
        (&url, CLIENT_SECRET, ["nobody", "127.0.0.1", "1"]),
        (&url, CLIENT_SECRET, [AGENT, "127.0.0.1", refused.as_str()]),
        (&url, CLIENT_SECRET, [AGENT, "no-such-host.invalid", "1"]),
        (&nowhere, CLIENT_SECRET, [AGENT, "127.0.0.1", "1"]),
        (&elsewhere, CLIENT_SECRET, [AGENT, "127.0.0.1", "1"]),
        (&user, CLIENT_SECRET, [AGENT, "127.0.0.1", "1"]),
        (&"ws://no-such-host.invalid/".to_owned(), CLIENT_SECRET, [AGENT, "127.0.0.1", "1"]),
    ] {
        let mut command = command("access-client", &["--relay-url", url]);
        command.args(arguments).env("HTTP_NETWORK_RELAY_SECRET", secret);
        let replaced = [(port.as_str(), "PORT"), (refused.as_str(), "REFUSED")];
        let text = transcript(&mut command, &replaced)?;
        let answer = text.split_once("=> ").map_or("", |(_, answer)| answer);
        assert_eq!(answer.lines().count(), 2, "{text}");
        assert!(!answer.contains("canary"), "{text}");
        shown.push_str(&text);
    }
    insta::assert_snapshot!(shown);
    Ok(())
}

#[test]
fn options_win_over_variables_and_may_be_abbreviated() {
    let tunnel = Tunnel::ours();
    let target = Target::echo();
    let mut client = Origin::Ours.command("access-client");
    client.env("HTTP_NETWORK_RELAY_URL", "ws://127.0.0.1:1/");
    client.env("HTTP_NETWORK_RELAY_SECRET", "wrong");
    client.args(["--rel", &tunnel.client_url(), "--secret", CLIENT_SECRET]);
    // Python's int() reads this as the port, too.
    client.args([AGENT, "127.0.0.1", &format!(" +{} ", target.port()), "tcp"]);
    let mut client = Client::start(client, Origin::Ours);
    client.check_echo("hello");
    // A secret that every user can see costs a warning, and no more than a line.
    let said = client.process.stderr();
    assert!(said.len() == 1 && said[0].contains("--secret-file"), "{said:?}");
}

#[test]
fn the_variables_of_the_original_work() -> io::Result<()> {
    let folder = tempfile::tempdir()?;
    write_credentials(folder.path());
    let mut relay = Origin::Ours.command("network-relay");
    // Some machines have no IPv6.
    let has_ipv6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    let (host, begin) = if has_ipv6 { ("::1", "[::1]:") } else { ("127.0.0.1", "127.0.0.1:") };
    relay.env("HTTP_NETWORK_RELAY_SERVER_HOST", host).env("HTTP_NETWORK_RELAY_SERVER_PORT", "0");
    relay.env("HTTP_NETWORK_RELAY_CREDENTIALS_FILE", folder.path().join("credentials.json"));
    let relay = Process::start("network-relay", relay, true);
    let address = relay.wait_for_line("its address", |line| {
        Some(line.split_once("network-relay: listening on http://")?.1.to_owned())
    });
    assert!(address.starts_with(begin), "{address}");

    let secret = folder.path().join("secret");
    fs::write(&secret, format!("{AGENT_SECRET}\n"))?;
    let mut agent = Origin::Ours.command("edge-agent");
    agent.env("HTTP_NETWORK_RELAY_URL", format!("ws://{address}{AGENT_PATH}"));
    agent.env("HTTP_NETWORK_RELAY_NAME", AGENT).env("HTTP_NETWORK_RELAY_SECRET_FILE", &secret);
    let agent = Process::start("edge-agent", agent, true);
    relay.wait_for_text("agent connected");

    let target = Target::echo();
    let mut client = Origin::Ours.command("access-client");
    client.env("HTTP_NETWORK_RELAY_URL", format!("ws://{address}{CLIENT_PATH}"));
    client.env("HTTP_NETWORK_RELAY_SECRET", CLIENT_SECRET);
    client.args([AGENT, "127.0.0.1", &target.port().to_string()]);
    Client::start(client, Origin::Ours).check_echo("hello");
    drop(agent);
    Ok(())
}

#[test]
fn two_variables_with_a_secret_cost_a_warning() -> io::Result<()> {
    let tunnel = Tunnel::ours();
    let target = Target::echo();
    let file = tunnel.folder().join("secret");
    fs::write(&file, "wrong")?;
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    let client = |name: &str, value: &str, option: Option<&str>| {
        let mut command = tunnel.client_command();
        command.env("HTTP_NETWORK_RELAY_SECRET_FILE", &file).env(name, value);
        command.args(option).args([AGENT, "127.0.0.1", &target.port().to_string()]);
        Client::start(command, Origin::Ours)
    };
    let mut both = client("DEBUG", "0", None);
    both.check_echo("hello");
    let said = both.process.stderr();
    let words = "HTTP_NETWORK_RELAY_SECRET and HTTP_NETWORK_RELAY_SECRET_FILE are both set";
    assert!(said.len() == 1 && said[0].contains(words), "{said:?}");
    // An empty variable is as good as none where there is a file, and an option wins over both without a word.
    let mut empty = client("HTTP_NETWORK_RELAY_SECRET", "", None);
    let mut option = client("DEBUG", "0", Some(&format!("--secret-file={}", file.display())));
    for client in [&mut empty, &mut option] {
        assert_eq!(client.process.wait(), 12);
        assert_eq!(client.process.stderr_at_end().len(), 1, "the refusal");
    }
    Ok(())
}

#[test]
fn secrets_are_never_shown() -> io::Result<()> {
    let folder = tempfile::tempdir()?;
    write_credentials(folder.path());
    let loud = |command: &mut Command| {
        command.args(["-v", "-v", "-v"]).env("DEBUG", "1").env("RUST_LOG", "trace");
    };
    let (relay, port) = start_relay(Origin::Ours, folder.path(), 0, &["-vvv"]);
    let mut agent = agent_command(Origin::Ours, port);
    loud(&mut agent);
    let agent = Process::start("edge-agent", agent, true);
    relay.wait_for_text("agent connected");

    // Wrong ones are secrets of something else, perhaps.
    let mut wrong_agent = agent_command(Origin::Ours, port);
    wrong_agent.args(["--name", OTHER_AGENT.0, "--secret", "canary-wrong-agent"]);
    loud(&mut wrong_agent);
    let wrong_agent = Process::start("edge-agent", wrong_agent, true);
    wrong_agent.wait_for_text("refused");

    let target = Target::echo();
    let client = |secret: &str| {
        let mut command = Origin::Ours.command("access-client");
        loud(&mut command);
        command.env("HTTP_NETWORK_RELAY_SECRET", secret);
        let url = format!("ws://canary-user:canary-password@127.0.0.1:{port}{CLIENT_PATH}");
        command.args(["--relay-url", &url, AGENT, "127.0.0.1", &target.port().to_string()]);
        Client::start(command, Origin::Ours)
    };
    let mut good = client(CLIENT_SECRET);
    good.check_echo("canary-payload");
    good.process.signal(rustix::process::Signal::TERM);
    good.process.wait();
    assert_eq!(good.output.wait_for_end(), b"canary-payload", "stdout is for the target's bytes");
    let mut bad = client("canary-wrong-client");
    assert_eq!(bad.process.wait(), 12);

    let mut log = Vec::new();
    for process in [&relay, &agent, &wrong_agent, &good.process, &bad.process] {
        log.extend(process.stderr());
    }
    assert!(log.iter().any(|line| line.contains("DEBUG") || line.contains("TRACE")), "{log:#?}");
    // Also not as base64 of the payload or of the user and password, nor in pieces.
    for secret in ["canary", "Y2FuYXJ5", "5d41402a", "b6d767d2"] {
        let shown = log.iter().find(|line| line.contains(secret));
        assert_eq!(shown, None, "{secret}");
    }
    Ok(())
}

#[test]
fn levels_are_as_documented() -> io::Result<()> {
    let tunnel = Tunnel::ours();
    let target = Target::source(1, 10);
    let run = |name: &str, value: &str| {
        let mut command = tunnel.client_command();
        command.env(name, value).args([AGENT, "127.0.0.1", &target.port().to_string()]);
        let mut client = Client::start(command, Origin::Ours);
        assert_eq!(client.process.wait(), 0);
        client.process.stderr_at_end().join("\n")
    };
    assert_eq!(run("DEBUG", "0"), "", "the client is quiet");
    assert!(run("DEBUG", "1").contains(" DEBUG "));
    assert!(run("RUST_LOG", "debug").contains(" DEBUG "));
    Ok(())
}
