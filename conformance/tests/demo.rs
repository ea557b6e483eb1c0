//! The demo does what it says, and so does the line that it prints for another shell.

use std::process::{Command, Stdio};

use conformance::harness::programs::{clear_settings, ours};
use conformance::harness::tunnel::Client;
use conformance::harness::{Origin, Process};
use rustix::process::Signal;

/// How the line for another shell begins, behind the secret.
const CARGO: &str = "cargo run --release --bin access-client -- ";

fn demo() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_demo"));
    clear_settings(&mut command);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

#[test]
fn the_demo_is_up_until_ctrl_c_and_its_line_works() {
    let mut demo = Process::start("demo", demo(), true);
    let said = demo.collect_stdout().wait_for_text("Ctrl-C ends the demo.\n");
    assert!(said.contains("sent \"hello\" through the tunnel and got back \"hello\""), "{said}");

    let lines: Vec<&str> = said.lines().filter(|line| line.contains(CARGO)).collect();
    let [line] = lines[..] else { panic!("one line for another shell is expected: {said}") };
    // The client of this build instead of one that cargo would build first.
    let client = format!("'{}' ", ours().join("access-client").display());
    let mut shell = Command::new("sh");
    clear_settings(&mut shell);
    shell.args(["-c", &line.replace(CARGO, &client)]);
    let mut client = Client::start(shell, Origin::Ours);
    let greeting = "This is the target behind the agent. It sends back every line.\n";
    client.output.wait_for_text(greeting);
    client.check_echo("from another shell\n");

    demo.signal(Signal::INT);
    assert_eq!(demo.wait(), 0, "{:?}", demo.stderr());
    assert!(demo.stderr_at_end().is_empty(), "{:?}", demo.stderr());
    // Whichever of its parts goes first, the client ends with them.
    client.process.wait();
}

#[test]
fn a_demo_that_nobody_reads_ends_quietly() {
    let mut demo = Process::start("demo", demo(), true);
    drop(demo.take_stdout());
    assert_eq!(demo.wait(), 0, "{:?}", demo.stderr());
    assert!(demo.stderr_at_end().is_empty(), "{:?}", demo.stderr());
}

#[test]
fn the_demo_knows_its_arguments() -> std::io::Result<()> {
    let help = demo().arg("--help").output()?;
    let text = String::from_utf8_lossy(&help.stdout);
    assert!(help.status.success() && text.contains("Usage: demo"), "{text}");
    for stray in ["now", "--port"] {
        let refused = demo().arg(stray).output()?;
        let said = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{said}");
        assert!(said.starts_with("demo: ") && said.lines().count() == 1, "{said}");
        assert!(refused.stdout.is_empty());
    }
    Ok(())
}
