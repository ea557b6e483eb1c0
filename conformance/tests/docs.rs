//! The documents say what is so: the README shows the example files and the table of exit statuses as they are, its
//! links lead somewhere, and the examples are understood by the programs they are for.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use conformance::harness::installed;
use transport::program::{EarlyExit, Variables, parse_from};

/// The root of the repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Runs a program that may be missing here. Where it is, the test is skipped by name.
fn run(test: &str, program: &str, arguments: &[&str]) -> Option<Output> {
    let run = || Command::new(program).args(arguments).output();
    installed(test, program)
        .then(|| run().unwrap_or_else(|error| panic!("{program} cannot be run: {error}")))
}

/// The code blocks of a Markdown text, as their language and content, without the indentation of the fence.
fn code_blocks(text: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some((indent, language)) = line.split_once("```") else { continue };
        if !indent.trim().is_empty() {
            continue;
        }
        let inside = lines.by_ref().take_while(|line| line.trim() != "```");
        let strip = |line: &str| format!("{}\n", line.strip_prefix(indent).unwrap_or(line));
        blocks.push((language.to_owned(), inside.map(strip).collect()));
    }
    blocks
}

#[test]
fn the_readme_shows_every_example_as_it_is() {
    let readme = read("README.md");
    let blocks = code_blocks(&readme);
    for (file, language) in [
        ("examples/ssh_config", "sshconfig"),
        ("examples/systemd/network-relay.service", "ini"),
        ("examples/systemd/edge-agent.service", "ini"),
        ("examples/nginx.conf", "nginx"),
        ("examples/Caddyfile", "caddyfile"),
    ] {
        let block = (language.to_owned(), read(file));
        assert!(blocks.contains(&block), "README.md does not show {file} as it is");
        assert!(readme.contains(&format!("({file})")), "README.md does not link to {file}");
    }
}

#[test]
fn the_readme_has_the_table_of_exit_statuses() {
    let table = client::exit::Exit::markdown_table();
    assert!(read("README.md").contains(&table), "README.md should have this table:\n{table}");
}

#[test]
fn the_readme_opens_with_the_two_commands_and_ci_runs_the_second() {
    let readme = read("README.md");
    let commands: Vec<_> = code_blocks(&readme)
        .into_iter()
        .filter_map(|(language, content)| (language == "sh").then(|| content.trim().to_owned()))
        .take(2)
        .collect();
    assert_eq!(commands, ["cargo run --release --bin demo", "cargo test --workspace"]);
    assert!(read(".ci/run").lines().any(|line| line.trim() == commands[1]));
}

#[test]
fn the_readme_names_the_rust_version_of_the_workspace() {
    let manifest = read("Cargo.toml");
    let version = manifest
        .lines()
        .find_map(|line| line.strip_prefix("rust-version = "))
        .expect("the workspace states a rust-version")
        .trim_matches('"');
    assert!(read("README.md").contains(&format!("Rust {version} or newer")));
}

#[test]
fn the_credentials_of_the_readme_can_be_used() {
    let readme = read("README.md");
    let blocks = code_blocks(&readme);
    let (_, json) =
        blocks.iter().find(|(language, _)| language == "json").expect("the README shows a file");
    let credentials = relay::auth::Credentials::from_json(json);
    assert!(credentials.is_ok_and(|credentials| credentials.agent_count() == 1));
}

#[test]
fn the_map_stays_short() {
    assert!(read("ARCHITECTURE.md").lines().count() < 100);
}

#[test]
fn links_lead_somewhere() {
    for document in ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"] {
        let text = read(document);
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            if file.contains("://") {
                continue;
            }
            assert!(root().join(file).exists(), "{document} links to {file}, which does not exist");
            if file.is_empty() {
                assert!(anchors(&text).contains(anchor), "{document} has no section #{anchor}");
            }
        }
    }
}

/// The names by which the headings of a Markdown text can be linked to.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let name = |heading: &str| {
        let kept = |c: char| match c {
            ' ' => Some('-'),
            c if c.is_alphanumeric() || c == '-' => c.to_lowercase().next(),
            _ => None,
        };
        heading.trim_start_matches('#').trim().chars().filter_map(kept).collect()
    };
    headings.map(name).collect()
}

/// The values of a key in a systemd unit or an ssh configuration, in order.
fn values<'text>(text: &'text str, key: &str) -> Vec<&'text str> {
    let value = |line: &'text str| line.trim().strip_prefix(key)?.strip_prefix(['=', ' ']);
    text.lines().filter_map(value).collect()
}

#[test]
fn the_units_start_the_programs_with_options_they_know() -> Result<(), EarlyExit> {
    let words = |unit: &str| -> Vec<String> {
        let unit = read(&format!("examples/systemd/{unit}.service"));
        let [line] = values(&unit, "ExecStart")[..] else { panic!("one ExecStart is expected") };
        line.split_whitespace().map(str::to_owned).collect()
    };
    let relay: relay::cli::Cli = parse_from(words("network-relay"), Variables::Unread)?;
    assert!(relay.credentials_file.ends_with("credentials.json"));
    let agent: agent::cli::Cli = parse_from(words("edge-agent"), Variables::Unread)?;
    assert!(format!("{:?}", agent.secret).contains("/secret"));
    Ok(())
}

#[test]
fn systemd_understands_the_units_and_finds_them_tight() {
    let test = "systemd_understands_the_units_and_finds_them_tight";
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    for unit in ["network-relay", "edge-agent"] {
        // The program is not installed where the unit expects it, which is all that may be wrong.
        let text = read(&format!("examples/systemd/{unit}.service"));
        let text = text.replace(&format!("/usr/local/bin/{unit}"), "/bin/true");
        let path = folder.path().join(format!("{unit}.service"));
        fs::write(&path, text).expect("the temporary folder can be written to");
        let path = path.to_string_lossy();
        let Some(verified) = run(test, "systemd-analyze", &["verify", &path]) else { return };
        let said = String::from_utf8_lossy(&verified.stderr);
        assert!(verified.status.success() && said.is_empty(), "{unit}: {said}");

        let tight = ["security", "--offline=true", "--no-pager", "--threshold=20", &path];
        let Some(judged) = run(test, "systemd-analyze", &tight) else { return };
        assert!(judged.status.success(), "{unit}: {}", String::from_utf8_lossy(&judged.stdout));
    }
}

#[test]
fn the_ssh_configuration_calls_the_client_rightly() -> Result<(), EarlyExit> {
    let text = read("examples/ssh_config");
    let [command] = values(&text, "ProxyCommand")[..] else {
        panic!("one ProxyCommand is expected")
    };
    let command = command.replace("%h", "workshop").replace("%p", "22");
    let client: client::cli::Cli = parse_from(command.split_whitespace(), Variables::Unread)?;
    assert_eq!(
        (client.agent.as_str(), client.host.as_deref(), client.port),
        ("workshop", Some("localhost"), Some(22))
    );
    assert!(client.relay_url.iter().all(|url| url.is_tls()));
    Ok(())
}

#[test]
fn ssh_understands_its_configuration() {
    let file = root().join("examples/ssh_config");
    let arguments = ["-G", "-F", &file.to_string_lossy(), "workshop"];
    let Some(output) = run("ssh_understands_its_configuration", "ssh", &arguments) else { return };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let settings = String::from_utf8_lossy(&output.stdout);
    assert!(settings.contains("proxycommand access-client --relay-url wss://"), "{settings}");
    assert!(settings.contains("serveraliveinterval 20"), "{settings}");
}
