//! The interop matrix, as far as it needs no other implementation: ours, and profiles in the seats.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use conformance::harness::{Process, programs, wait_until};
use rustix::process::Signal;
use serde_json::{Value, json};

/// A profile of our programs, by full paths, as somebody else would write one.
fn profile(folder: &Path, name: &str, change: impl FnOnce(&mut Value)) -> String {
    let secret = json!({ "HTTP_NETWORK_RELAY_SECRET": "{secret}" });
    let mut profile = json!({
        "name": name,
        "bin": programs::ours(),
        "relay": {
            "command": ["{bin}/network-relay", "--host", "{host}", "--port", "{port}", "--credentials-file", "{credentials}"],
        },
        "agent": {
            "command": ["{bin}/edge-agent", "--relay-url", "{url}", "--name", "{name}", "--secret-file", "{secret_file}"],
        },
        "client": {
            "command": ["{bin}/access-client", "--relay-url", "{url}", "{agent}", "{target_host}", "{target_port}", "{protocol}"],
            "environment": secret,
        },
    });
    change(&mut profile);
    let file = folder.join(format!("{name}.json"));
    fs::write(&file, profile.to_string()).unwrap_or_else(|error| panic!("{error}"));
    file.display().to_string()
}

fn matrix(arguments: &[&str]) -> Output {
    programs::ours();
    let mut command = Command::new(env!("CARGO_BIN_EXE_conformance"));
    programs::clear_settings(&mut command);
    command.env_remove(programs::ORIGINAL_VARIABLE).arg("matrix").args(arguments);
    command.output().unwrap_or_else(|error| panic!("{error}"))
}

fn report(folder: &Path) -> Value {
    let text = fs::read_to_string(folder.join("report.json"));
    serde_json::from_str(&text.unwrap_or_else(|error| panic!("{error}")))
        .unwrap_or_else(|error| panic!("{error}"))
}

fn verdicts(report: &Value) -> Vec<String> {
    let rows = report["matrix"]["rows"].as_array().into_iter().flatten();
    let cells = rows.flat_map(|row| row["cells"].as_array().into_iter().flatten());
    cells.map(|cell| format!("{} {}", cell["mix"], cell["verdict"]).replace('"', "")).collect()
}

#[test]
fn ours_and_a_profile_mix_in_every_seat() {
    let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
    let mine = profile(folder.path(), "mine", |_| ());
    let to = folder.path().join("report");
    let to = to.display().to_string();
    let chosen = ["echo of a line", "wrong client secret", "kill -9 of the relay", "name in use"];
    let mut arguments = vec!["--with", "ours", "--with", &mine, "--report", &to];
    arguments.extend(chosen.iter().flat_map(|name| ["--scenario", name]));
    let output = matrix(&arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines: Vec<&str> = table.lines().collect();
    let mixes = "RRR | RRA | RAR | RAA | ARR | ARA | AAR | AAA";
    assert_eq!(lines[0], format!("| scenario (relay, agent, client: A mine, R ours) | {mixes} |"));
    assert_eq!(lines[2], format!("| echo of a line |{}", " ok |".repeat(8)));
    // Of an agent of somebody's nothing shows that it was refused.
    let cells = " ok | ok | n/a | n/a | ok | ok | n/a | n/a |";
    assert!(table.contains(&format!("| agent's name in use |{cells}")), "{table}");
    assert_eq!(lines.last(), Some(&"matrix: 28 ok, 4 n/a"));
    let report = report(Path::new(&to));
    assert_eq!(verdicts(&report).len(), 32);
    assert_eq!(report["matrix"]["parties"], json!({ "A": "mine", "R": "ours" }));
}

#[test]
fn a_cell_that_is_not_as_specified_fails_and_the_report_keeps_its_other_part() {
    let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
    // A client that says nothing is wrong, whatever happens.
    let mute = profile(folder.path(), "mute", |profile| {
        profile["client"]["command"] = json!(["true"]);
        profile.as_object_mut().into_iter().for_each(|it| {
            it.remove("relay");
            it.remove("agent");
        });
    });
    let to = folder.path().join("report");
    fs::create_dir(&to).unwrap_or_else(|error| panic!("{error}"));
    let before = json!({
        "summary": { "profile": "x", "counts": {}, "unexpected": 0, "statements": 1, "unseen": 0 },
        "cases": [], "unseen": [],
    });
    fs::write(to.join("report.json"), before.to_string()).unwrap_or_else(|error| panic!("{error}"));
    let path = to.display().to_string();
    let scenario = ["--scenario", "unknown agent", "--report", &path];
    let output = matrix(&[&["--with", "ours", "--with", &mute][..], &scenario].concat());
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("FAILED RRA unknown agent: not a failure: status 0"), "{said}");

    let report = report(&to);
    assert_eq!(verdicts(&report), ["RRR ok", "RRA failed"]);
    assert_eq!(report["summary"], before["summary"]);
    let junit = fs::read_to_string(to.join("junit.xml")).unwrap_or_else(|error| panic!("{error}"));
    for part in ["name=\"conformance of x\" tests=\"0\"", "tests=\"2\" failures=\"1\""] {
        assert!(junit.contains(part), "{junit}");
    }
}

#[test]
fn wrong_usage_is_said_in_a_line() {
    let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
    let shared = profile(folder.path(), "shared", |profile| {
        profile["relay"] = json!({ "url": "http://127.0.0.1:1" });
    });
    for (arguments, words) in [
        (&["--scenario", "no such"][..], "no scenario is called \"no such\""),
        (&["--with", "original"], "the original needs the folder"),
        (&["--with", &shared], "its relay runs already"),
        (&["--with", "ours", "--with", "ours"], "ours is given twice"),
    ] {
        let output = matrix(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(words) && said.lines().count() == 1, "{said}");
    }
}

#[test]
fn a_signal_ends_it_with_all_that_it_has_started() {
    let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
    let (log, temporary) = (folder.path().join("log"), folder.path().join("tmp"));
    fs::create_dir(&temporary).unwrap_or_else(|error| panic!("{error}"));
    // Each relay leaves its process id before it becomes one.
    let script = format!("echo $$ >> '{}'; exec \"$@\"", log.display());
    let mine = profile(folder.path(), "mine", |profile| {
        if let Some(command) = profile["relay"]["command"].as_array_mut() {
            let shell = ["/bin/sh", "-c", script.as_str(), "sh"];
            command.splice(0..0, shell.map(Value::from));
        }
    });
    let mut command = Command::new(env!("CARGO_BIN_EXE_conformance"));
    programs::clear_settings(&mut command);
    command.args(["matrix", "--with", "ours", "--with", &mine, "--scenario", "a dial hangs"]);
    command.env("TMPDIR", &temporary);
    let mut kit = Process::start("conformance", command, false);
    let started = || fs::read_to_string(&log).unwrap_or_default().lines().count();
    wait_until("all its relays run", || started() == 4);
    kit.signal(Signal::TERM);
    assert_eq!(kit.wait(), 143, "{:#?}", kit.stderr());

    let ids = fs::read_to_string(&log).unwrap_or_default();
    let runs = |id: &str| Path::new("/proc").join(id).exists();
    wait_until("all of them have ended", || !ids.lines().any(runs));
    let left = fs::read_dir(&temporary).map_or(0, Iterator::count);
    assert_eq!(left, 0, "files are left");
}
