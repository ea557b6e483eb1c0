//! All eight mixes of the Python implementation's programs and ours, scenario by scenario, as a table.
//!
//! `HNR_ORIGINAL_BIN` names the folder with the three Python programs; without it this is skipped by name.
//!
//! Where a program of the original is known to do something else than the specification says (the boxes in
//! `spec/v1/README.md`), the cell says so by the clause in its box, and the run checks that it is still so.

use std::any::Any;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::net::{Ipv6Addr, TcpListener};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use codec::v1::{
    AGENT_PATH, CLIENT_PATH, CLOSE_AGENT_LOST, CLOSE_INVALID, CLOSE_TARGET_RESET, CLOSE_UNSUPPORTED,
};
use conformance::harness::frames::{BINARY, RawLink, Received};
use conformance::harness::targets::{RefusingPort, SilentPort};
use conformance::harness::tunnel::{
    AGENT, Client, Mix, OTHER_AGENT, Tunnel, agent_command, agent_start, client_start, start_agent,
};
use conformance::harness::{
    DEADLINE, Origin, Output, Process, Target, holds_within, say, seeded_bytes, sha256, skip,
    wait_until,
};
use rustix::process::Signal;
use serde_json::{Value, json};

const MIB: usize = 1 << 20;

/// How long the original is watched to see that it does nothing where it should end.
const IDLE: Duration = Duration::from_millis(1500);

/// What a scenario came to: a word for the table, or what went wrong.
type Outcome = Result<String, String>;

/// What is expected of a mix: what the specification says, or a deviation known from its clause's box.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// As specified.
    Good,
    /// Otherwise, as the box at this clause says.
    Deviation(&'static str),
}

type Run = fn(&mut Tunnel, Mix) -> Outcome;

struct Scenario {
    name: &'static str,
    run: Run,
    /// Whether all mixes run at the same time: it waits more than it works.
    is_idle: bool,
}

const fn busy(name: &'static str, run: Run) -> Scenario {
    Scenario { name, run, is_idle: false }
}

const fn idle(name: &'static str, run: Run) -> Scenario {
    Scenario { name, run, is_idle: true }
}

const SCENARIOS: [Scenario; 42] = [
    busy("echo of a line", echo),
    busy("1 MiB to the target, sha256", |tunnel, _| upload(tunnel, MIB)),
    busy("1 MiB from the target, sha256", |tunnel, _| download(tunnel, MIB)),
    busy("64 MiB to the target, sha256", |tunnel, _| upload(tunnel, 64 * MIB)),
    busy("64 MiB from the target, sha256", |tunnel, _| download(tunnel, 64 * MIB)),
    busy("50 concurrent streams", fifty_streams),
    idle("target speaks first", greeting),
    idle("target by IPv6", ipv6_target),
    idle("target by name", named_target),
    idle("idle for 35 s", idle_link),
    // Refusals.
    idle("wrong client secret", wrong_secret),
    idle("unknown agent", unknown_agent),
    idle("target refuses", target_refuses),
    idle("target's name unknown", target_unknown),
    idle("protocol udp", protocol_udp),
    idle("port 0", |tunnel, mix| no_target(tunnel, mix, "127.0.0.1", 0)),
    idle("port 70000", |tunnel, mix| no_target(tunnel, mix, "127.0.0.1", 70_000)),
    idle("empty host", |tunnel, mix| no_target(tunnel, mix, "", 22)),
    idle("relay not there", relay_not_there),
    idle("agent's wrong secret", |tunnel, mix| refused_agent(tunnel, mix, AGENT)),
    idle("agent's unknown name", |tunnel, mix| refused_agent(tunnel, mix, "nobody")),
    idle("agent's name in use", name_in_use),
    // Dials.
    idle("a dial hangs beside a stream", dial_beside),
    idle("client leaves amid a dial", client_leaves_dial),
    idle("kill -9 of the agent amid a dial", kill_agent_dialling),
    // Endings.
    idle("target ends after 1 MiB", |tunnel, mix| target_ends(tunnel, mix, MIB)),
    idle("target ends after 16 MiB", |tunnel, mix| target_ends(tunnel, mix, 16 * MIB)),
    idle("target resets", target_resets),
    idle("stdin ends", stdin_ends),
    idle("stdin is a file", stdin_file),
    idle("stdin is /dev/null", stdin_null),
    idle("SIGINT to the client: target gets all", |tunnel, mix| {
        end_client(tunnel, mix, Signal::INT)
    }),
    idle("SIGTERM to the client", |tunnel, mix| end_client(tunnel, mix, Signal::TERM)),
    // Losses.
    idle("kill -9 of the client", kill_client),
    idle("kill -9 of the agent, and back", |tunnel, mix| end_agent(tunnel, mix, Signal::KILL)),
    idle("SIGTERM to the agent, and back", |tunnel, mix| end_agent(tunnel, mix, Signal::TERM)),
    idle("SIGINT to the agent, and back", |tunnel, mix| end_agent(tunnel, mix, Signal::INT)),
    idle("another agent takes over", take_over),
    idle("kill -9 of the relay, and back", kill_relay),
    idle("SIGTERM to the relay, and back", |tunnel, mix| end_relay(tunnel, mix, Signal::TERM)),
    idle("SIGINT to the relay, and back", |tunnel, mix| end_relay(tunnel, mix, Signal::INT)),
    // Bad messages of an agent.
    idle("an agent's bad messages", bad_agent),
];

/// Fails the scenario unless this holds.
macro_rules! check {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err(format!($($message)+));
        }
    };
}

#[test]
fn every_mix_works_as_specified_or_as_known() {
    if !Origin::Original.is_available() {
        skip("every_mix_works_as_specified_or_as_known", "HNR_ORIGINAL_BIN is not set");
        return;
    }
    let sides = [Origin::Ours, Origin::Original];
    let mixes: Vec<Mix> = sides
        .iter()
        .flat_map(|&relay| sides.map(|agent| (relay, agent)))
        .flat_map(|(relay, agent)| sides.map(|client| Mix { relay, agent, client }))
        .collect();
    let only = std::env::var("HNR_SCENARIO").unwrap_or_default();

    let mut table = String::from("\n| scenario (relay, agent, client: R ours, P Python's) |");
    for mix in &mixes {
        let _ = write!(table, " {} |", mix.letters());
    }
    let _ = write!(table, "\n|---|{}\n", "---|".repeat(mixes.len()));
    let mut failures = Vec::new();
    for scenario in SCENARIOS.iter().filter(|scenario| scenario.name.contains(&only)) {
        let _ = write!(table, "| {} |", scenario.name);
        let outcomes: Vec<Outcome> = if scenario.is_idle {
            thread::scope(|scope| {
                let run = |&mix| scope.spawn(move || run_one(scenario, mix));
                let threads: Vec<_> = mixes.iter().map(run).collect();
                threads.into_iter().map(|it| it.join().unwrap_or_else(panicked)).collect()
            })
        } else {
            mixes.iter().map(|&mix| run_one(scenario, mix)).collect()
        };
        for (mix, outcome) in mixes.iter().zip(outcomes) {
            match outcome {
                Ok(cell) => {
                    let _ = write!(table, " {cell} |");
                }
                Err(error) => {
                    let _ = write!(table, " FAILED |");
                    failures.push(format!("{} {}: {error}", mix.letters(), scenario.name));
                }
            }
        }
        table.push('\n');
    }
    say(&table);
    assert!(failures.is_empty(), "{failures:#?}");
}

/// Runs a scenario with one mix, in a fresh tunnel: some break it, and some leave the original in a bad state.
fn run_one(scenario: &Scenario, mix: Mix) -> Outcome {
    let start = Instant::now();
    let run = || (scenario.run)(&mut Tunnel::start(mix), mix);
    let outcome = catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(panicked);
    let seconds = start.elapsed().as_secs_f32();
    say(&format!("{} {}: {outcome:?} ({seconds:.1} s)", mix.letters(), scenario.name));
    outcome
}

/// What a wait in vain comes to: the others go on.
fn panicked(panic: Box<dyn Any + Send>) -> Outcome {
    Err(panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "a panic".to_owned()))
}

fn is_original(origin: Origin) -> bool {
    origin == Origin::Original
}

/// `ok`, or the clause of the deviation that was seen.
fn cell(expected: Expected) -> Outcome {
    Ok(match expected {
        Expected::Good => "ok".to_owned(),
        Expected::Deviation(clause) => format!("as known ({clause})"),
    })
}

/// Checks how a client ended: ours by its exit status, the original's by what it says, since it always exits with 0
/// when the relay has told it something.
fn check_end(mix: Mix, client: &mut Client, status: i32, words: &str) -> Result<(), String> {
    let ended = holds_within(DEADLINE, || client.process.ended().is_some());
    check!(ended, "the client still runs; it said {:?}", client.process.stderr());
    let got = client.process.wait();
    let said = client.process.stderr_at_end();
    if is_original(mix.client) {
        check!(said.iter().any(|line| line.contains(words)), "not {words:?}: {said:?}");
    } else {
        check!(got == status, "status {got} instead of {status}: {said:?}");
        check!(said.len() == usize::from(status != 0), "lines: {said:?}");
    }
    Ok(())
}

/// Whether a client goes on running, though nothing will ever come.
fn hangs(client: &mut Client) -> bool {
    !holds_within(IDLE, || client.process.ended().is_some())
}

fn check_echo(client: &mut Client, text: &str) -> Result<(), String> {
    let before = client.output.len();
    client.send(text.as_bytes());
    let came = client.output.wait_for(before + text.len());
    let came = String::from_utf8_lossy(&came[before..]).into_owned();
    check!(came == text, "{came:?} came instead of {text:?}: {:?}", client.process.stderr());
    Ok(())
}

// ---- data ----

fn echo(tunnel: &mut Tunnel, _: Mix) -> Outcome {
    let target = Target::echo();
    check_echo(&mut tunnel.client(&target), "hello\n")?;
    cell(Expected::Good)
}

fn upload(tunnel: &mut Tunnel, length: usize) -> Outcome {
    let sent = seeded_bytes(1, length);
    let expected = sha256(&sent);
    let target = Target::checksum(length);
    let mut client = tunnel.client(&target);
    let pipe = client.send_beside(sent);
    let got = wait_long(&client, 65);
    check!(
        String::from_utf8_lossy(&got).trim_end() == expected,
        "{got:?} {:?}",
        client.process.stderr()
    );
    drop(pipe);
    cell(Expected::Good)
}

/// Waits for this many bytes of output. A long transfer may take longer than one deadline, but not much.
fn wait_long(client: &Client, length: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..5 {
        bytes = client.output.wait_for(length);
        if bytes.len() >= length {
            break;
        }
    }
    bytes
}

fn download(tunnel: &mut Tunnel, length: usize) -> Outcome {
    // The target stays open: its end is another scenario.
    let target = Target::open_source(2, length);
    let client = tunnel.client(&target);
    let got = wait_long(&client, length);
    check!(got.len() == length, "{} of {length} bytes: {:?}", got.len(), client.process.stderr());
    check!(sha256(&got) == sha256(&seeded_bytes(2, length)), "other bytes");
    cell(Expected::Good)
}

fn fifty_streams(tunnel: &mut Tunnel, _: Mix) -> Outcome {
    let target = Target::echo();
    let mut clients: Vec<_> = (0..50).map(|_| tunnel.client(&target)).collect();
    let sent = |index: usize| seeded_bytes(100 + index as u64, 40_000);
    let mut pipes = Vec::new();
    for (index, client) in clients.iter_mut().enumerate() {
        pipes.push(client.send_beside(sent(index)));
    }
    for (index, client) in clients.iter().enumerate() {
        let got = client.output.wait_for(40_000);
        check!(
            got == sent(index),
            "stream {index}: {} bytes, {:?}",
            got.len(),
            client.process.stderr()
        );
    }
    cell(Expected::Good)
}

fn greeting(tunnel: &mut Tunnel, _: Mix) -> Outcome {
    let target = Target::greeting("SSH-2.0-test\r\n");
    let mut client = tunnel.client(&target);
    let got = client.output.wait_for(14);
    check!(got == b"SSH-2.0-test\r\n", "{got:?} {:?}", client.process.stderr());
    check_echo(&mut client, "more")?;
    cell(Expected::Good)
}

fn ipv6_target(tunnel: &mut Tunnel, _: Mix) -> Outcome {
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        skip("target by IPv6", "there is no ::1");
        return Ok("skipped".to_owned());
    }
    let target = Target::echo_at(Ipv6Addr::LOCALHOST.into());
    check_echo(&mut tunnel.client_to("::1", &target.port().to_string()), "hello\n")?;
    cell(Expected::Good)
}

fn named_target(tunnel: &mut Tunnel, _: Mix) -> Outcome {
    // A name with two addresses, of which only one answers.
    let target = Target::echo();
    check_echo(&mut tunnel.client_to("localhost", &target.port().to_string()), "hello\n")?;
    cell(Expected::Good)
}

/// Longer than any party's interval of pings or keep-alives, and no longer than it takes to miss a first pong.
fn idle_link(tunnel: &mut Tunnel, _: Mix) -> Outcome {
    let target = Target::echo();
    let mut client = tunnel.client(&target);
    check_echo(&mut client, "before")?;
    thread::sleep(Duration::from_secs(35));
    check_echo(&mut client, "after")?;
    check_echo(&mut tunnel.client(&target), "a new one")?;
    cell(Expected::Good)
}

// ---- refusals ----

fn wrong_secret(tunnel: &mut Tunnel, mix: Mix) -> Outcome {
    let mut command = tunnel.client_command();
    command.env("HTTP_NETWORK_RELAY_SECRET", "wrong").args([AGENT, "127.0.0.1", "1", "tcp"]);
    check_end(mix, &mut Client::start(command, mix.client), 12, "Invalid access client secret")?;
    cell(Expected::Good)
}

fn unknown_agent(tunnel: &mut Tunnel, mix: Mix) -> Outcome {
    for agent in ["nobody", OTHER_AGENT.0] {
        let mut command = tunnel.client_command();
        command.args([agent, "127.0.0.1", "1", "tcp"]);
        check_end(mix, &mut Client::start(command, mix.client), 13, "Agent not registered")?;
    }
    cell(Expected::Good)
}

fn target_refuses(tunnel: &mut Tunnel, mix: Mix) -> Outcome {
    let refusing = RefusingPort::new().map_err(|error| error.to_string())?;
    for host in ["127.0.0.1", "localhost"] {
        let mut client = tunnel.client_to(host, &refusing.port().to_string());
        check_end(mix, &mut client, 14, "Error initiating connection: ")?;
    }
    cell(Expected::Good)
}

fn target_unknown(tunnel: &mut Tunnel, mix: Mix) -> Outcome {
    let mut client = tunnel.client_to("no-such-host.invalid", "22");
    check_end(mix, &mut client, 15, "Error initiating connection: ")?;
    cell(Expected::Good)
}

fn protocol_udp(tunnel: &mut Tunnel, mix: Mix) -> Outcome {
    let mut command = tunnel.client_command();
    command.args([AGENT, "127.0.0.1", "22", "udp"]);
    let mut client = Client::start(command, mix.client);
    check_end(mix, &mut client, 15, "Error initiating connection: ")?;
    cell(Expected::Good)
}

/// What cannot be a target: asked for by hand, since our client refuses some of it itself, then by the mix's client.
fn no_target(tunnel: &mut Tunnel, mix: Mix, host: &str, port: u32) -> Outcome {
    let mut start = client_start(1);
    start["target_ip"] = host.into();
    start["target_port"] = port.into();
    let mut link = RawLink::open(tunnel.port(), CLIENT_PATH).map_err(|error| error.to_string())?;
    link.send_inner(&start).map_err(|error| error.to_string())?;
    let answer = link.receive_inner();
    let text = answer["message"].as_str().unwrap_or_default();
    check!(text.starts_with("Error initiating connection: "), "{answer}");
    let mut client = tunnel.client_to(host, &port.to_string());
    check_end(mix, &mut client, 2, "Error initiating connection: ")?;
    check_echo(&mut tunnel.client(&Target::echo()), "another")?;
    cell(Expected::Good)
}

/// Waits until an agent has been refused so many times.
fn wait_for_attempts(agent: &Process, origin: Origin, times: usize) {
    let words = if is_original(origin) { "reconnecting in" } else { "next attempt in" };
    agent.wait_for_lines(&format!("{words}, {times} times"), |lines| {
        (lines.iter().filter(|line| line.contains(words)).count() >= times).then_some(())
    });
}

/// An agent that is not admitted retries, and the relay goes on.
fn refused_agent(tunnel: &mut Tunnel, mix: Mix, name: &str) -> Outcome {
    let mut command = agent_command(mix.agent, tunnel.port());
    command.args(["--name", name]).env("HTTP_NETWORK_RELAY_SECRET", "canary-0cc175b9");
    let agent = Process::start("refused agent", command, !is_original(mix.agent));
    wait_for_attempts(&agent, mix.agent, 2);
    let deviates = is_original(mix.relay);
    let words = match (mix.agent, deviates) {
        (Origin::Original, true) => "received 1000 (OK)",
        (Origin::Original, false) => "received 1008",
        (_, true) => "closed the link without a reason",
        (_, false) => "unknown agent or wrong secret",
    };
    check!(agent.stderr().iter().any(|line| line.contains(words)), "{:?}", agent.stderr());
    check_echo(&mut tunnel.client(&Target::echo()), "hello")?;
    cell(if deviates { Expected::Deviation("A-3") } else { Expected::Good })
}

// ---- dials ----

/// How many connections to a port of loopback have had no answer to their first packet yet.
fn dials(port: u16) -> usize {
    let table = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let is_dial = |line: &&str| {
        let mut fields = line.split_whitespace().skip(2);
        fields.next().is_some_and(|remote| remote.ends_with(&format!(":{port:04X}")))
            && fields.next() == Some("02")
    };
    table.lines().filter(is_dial).count()
}

/// A client whose agent dials in vain, the port it dials, and how many dials were there before.
fn dial_in_vain(tunnel: &Tunnel) -> Result<(Client, SilentPort, usize), String> {
    let silent = SilentPort::new().map_err(|error| error.to_string())?;
    let before = dials(silent.port());
    let client = tunnel.client_to("127.0.0.1", &silent.port().to_string());
    wait_until("the agent dials", || dials(silent.port()) > before);
    Ok((client, silent, before))
}

fn dial_beside(tunnel: &mut Tunnel, mix: Mix) -> Outcome {
    let target = Target::echo();
    let mut beside = tunnel.client(&target);
    check_echo(&mut beside, "before")?;
    let (mut hanging, silent, _) = dial_in_vain(tunnel)?;
    if is_original(mix.agent) {
        beside.send(b"meanwhile");
        let came = holds_within(IDLE, || beside.output.len() > 6);
        check!(!came, "the original's agent goes on while it dials after all");
    } else {
        check_echo(&mut beside, "meanwhile")?;
        check_echo(&mut tunnel.client(&target), "a new one")?;
    }
    check!(hanging.process.ended().is_none(), "{:?}", hanging.process.stderr());
    // Now it is refused, with the next packet that the system sends.
    drop(silent);
    check_end(mix, &mut hanging, 14, "Error initiating connection: ")?;
    check_echo(&mut tunnel.client(&target), "after")?;
    cell(if is_original(mix.agent) { Expected::Deviation("S-6") } else { Expected::Good })
}

fn client_leaves_dial(tunnel: &mut Tunnel, mix: Mix) -> Outcome {
    let (mut client, silent, before) = dial_in_vain(tunnel)?;
    client.process.kill();
    let goes_on = || !holds_within(IDLE, || dials(silent.port()) <= before);
    let expected = match (mix.relay, mix.agent) {
        (Origin::Original, _) => Expected::Deviation("S-15"),
        (_, Origin::Original) => Expected::Deviation("S-6"),
        _ => Expected::Good,
    };
    if expected == Expected::Good {
        wait_until("the agent dials no more", || dials(silent.port()) <= before);
    } else {
        check!(goes_on(), "the original lets go of the dial after all");
    }
    drop(silent);
    check_echo(&mut tunnel.client(&Target::echo()), "after")?;
    cell(expected)
}

fn kill_agent_dialling(tunnel: &mut Tunnel, mix: Mix) -> Outcome {
    let (mut client, silent, _) = dial_in_vain(tunnel)?;
    tunnel.agent.kill();
    let deviates = is_original(mix.relay);
    if deviates {
        check!(hangs(&mut client), "the original's relay answers for a lost agent after all");
    } else {
        check_end(mix, &mut client, 19, "Error initiating connection: agent disconnected")?;
    }
    drop(silent);
    tunnel.restart_agent();
    tunnel.wait_for_agent();
    check_echo(&mut tunnel.client(&Target::echo()), "again")?;
    cell(if deviates { Expected::Deviation("X-11") } else { Expected::Good })
}

// ---- stdin ----

/// A client with this stdin.
fn client_with_stdin(
    tunnel: &Tunnel,
    mix: Mix,
    target: &Target,
    stdin: Stdio,
) -> (Process, Output) {
    let mut command: Command = tunnel.client_command();
    command.args([AGENT, "127.0.0.1", &target.port().to_string(), "tcp"]);
    command.stdin(stdin).stdout(Stdio::piped());
    let mut process = Process::start("access-client", command, !is_original(mix.client));
    let output = process.collect_stdout();
    (process, output)
}

fn stdin_ends(tunnel: &mut Tunnel, _: Mix) -> Outcome {
    let target = Target::checksum(8);
    let mut client = tunnel.client(&target);
    client.send(b"question");
    client.close_stdin();
    let expected = format!("{}\n", sha256(b"question"));
    let got = client.output.wait_for(expected.len());
    check!(got == expected.as_bytes(), "{got:?} {:?}", client.process.stderr());
    check!(hangs(&mut client), "the end of stdin ends the stream: {:?}", client.process.stderr());
    cell(Expected::Good)
}

fn stdin_file(tunnel: &mut Tunnel, mix: Mix) -> Outcome {
    let sent = seeded_bytes(5, 100_000);
    let path = tunnel.folder().join("input");
    let file = fs::write(&path, &sent).and_then(|()| File::open(&path));
    let file = file.map_err(|error| error.to_string())?;
    let target = Target::checksum(sent.len());
    let (process, output) = client_with_stdin(tunnel, mix, &target, file.into());
    if is_original(mix.client) {
        wait_until("the target is connected", || target.accepted() == 1);
        let came = holds_within(IDLE, || !output.is_empty());
        check!(!came, "the original's client sends a file after all");
        return Ok("as known (not the wire)".to_owned());
    }
    let got = output.wait_for(65);
    check!(String::from_utf8_lossy(&got).trim_end() == sha256(&sent), "{:?}", process.stderr());
    cell(Expected::Good)
}

fn stdin_null(tunnel: &mut Tunnel, mix: Mix) -> Outcome {
    let target = Target::open_source(6, 100_000);
    let (mut process, output) = client_with_stdin(tunnel, mix, &target, Stdio::null());
    let got = output.wait_for(100_000);
    check!(got == seeded_bytes(6, 100_000), "{} bytes: {:?}", got.len(), process.stderr());
    check!(process.ended().is_none(), "{:?}", process.stderr());
    cell(Expected::Good)
}

// ---- bad messages ----

/// Another agent, by hand, that has a stream; the client's link, by hand too; and the stream's id.
fn raw_stream(tunnel: &Tunnel) -> io::Result<(RawLink, RawLink, Value)> {
    let mut agent = RawLink::open(tunnel.port(), AGENT_PATH)?;
    agent.send_inner(&agent_start(OTHER_AGENT.0, OTHER_AGENT.1))?;
    let mut start = client_start(7);
    start["connection_target"] = OTHER_AGENT.0.into();
    loop {
        let mut client = RawLink::open(tunnel.port(), CLIENT_PATH)?;
        client.send_inner(&start)?;
        // The agent's start may be handled later, since it came on another link; the client is then refused.
        wait_until("the relay answers", || has_input(&client) || has_input(&agent));
        if has_input(&client) {
            continue;
        }
        let id = agent.receive_inner()["connection_id"].take();
        agent.send_inner(&json!({"kind": "initiate_connection_ok", "connection_id": id}))?;
        assert_eq!(client.receive_inner()["kind"], "start_ok");
        return Ok((agent, client, id));
    }
}

/// Whether something has come on a link, or its end.
fn has_input(link: &RawLink) -> bool {
    let stream = link.stream();
    let peeked = stream.set_nonblocking(true).and_then(|()| stream.peek(&mut [0]));
    let restored = stream.set_nonblocking(false);
    restored.is_ok() && !peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

fn bad_agent(tunnel: &mut Tunnel, mix: Mix) -> Outcome {
    let target = Target::echo();
    let mut beside = tunnel.client(&target);
    check_echo(&mut beside, "before")?;
    let deviates = is_original(mix.relay);
    check_bad_agent(tunnel, deviates).map_err(|error| error.to_string())?;
    check_echo(&mut beside, "after")?;
    Ok(if deviates { "as known (M-6, M-10, S-16, A-8)" } else { "ok" }.to_owned())
}

fn check_bad_agent(tunnel: &Tunnel, deviates: bool) -> io::Result<()> {
    let is_closed = |link: &mut RawLink, code| {
        let received = link.receive_message();
        let expected = if deviates { None } else { Some(code) };
        assert_eq!(received.close_code(), expected, "{received:?}");
        assert!(!deviates || received == Received::End, "{received:?}");
    };
    let mut stranger = RawLink::open(tunnel.port(), AGENT_PATH)?;
    stranger.send_inner(&json!({"kind": "hello"}))?;
    is_closed(&mut stranger, CLOSE_INVALID);

    // Base64 that cannot be read: never is a part of a stream left out, but by the original.
    let (mut agent, mut client, id) = raw_stream(tunnel)?;
    let data =
        |base64: &str| json!({"kind": "tcp_data", "connection_id": id, "data_base64": base64});
    agent.send_inner(&data("b2"))?;
    agent.send_inner(&data("b2s="))?;
    if deviates {
        assert_eq!(client.receive_inner()["data_base64"], "b2s=");
    } else {
        assert_eq!(client.receive_message().close_code(), Some(CLOSE_TARGET_RESET));
        assert_eq!(agent.receive_inner()["kind"], "connection_close");
    }

    // A binary message ends the link; its name is free again, but at the original.
    agent.send(BINARY, br#"{"inner":{"kind":"keep_alive"}}"#)?;
    is_closed(&mut agent, CLOSE_UNSUPPORTED);
    drop(agent);
    if deviates {
        let mut again = RawLink::open(tunnel.port(), AGENT_PATH)?;
        again.send_inner(&agent_start(OTHER_AGENT.0, OTHER_AGENT.1))?;
        assert_eq!(again.receive_message(), Received::End);
    } else {
        let (mut agent, mut client, _) = raw_stream(tunnel)?;
        agent.send_inner(&json!({"kind": "hello"}))?;
        is_closed(&mut agent, CLOSE_INVALID);
        assert_eq!(client.receive_message().close_code(), Some(CLOSE_AGENT_LOST));
    }
    Ok(())
}

fn relay_not_there(tunnel: &mut Tunnel, mix: Mix) -> Outcome {
    tunnel.relay.kill();
    let target = Target::echo();
    let mut client = tunnel.client(&target);
    check_end(mix, &mut client, 10, "ConnectionRefusedError")?;
    cell(Expected::Good)
}

// ---- endings ----

fn target_ends(tunnel: &mut Tunnel, mix: Mix, length: usize) -> Outcome {
    let target = Target::source(3, length);
    let mut client = tunnel.client(&target);
    let got = wait_long(&client, length);
    check!(got == seeded_bytes(3, length), "{} bytes: {:?}", got.len(), client.process.stderr());
    if is_original(mix.agent) {
        check!(hangs(&mut client), "the original's agent reports the target's end after all");
        return cell(Expected::Deviation("X-10"));
    }
    check_end(mix, &mut client, 0, "received 1000 (OK)")?;
    check!(client.output.wait_for_end().len() == length, "more came than was sent");
    cell(Expected::Good)
}

fn target_resets(tunnel: &mut Tunnel, mix: Mix) -> Outcome {
    let target = Target::resetting_after(4);
    let mut client = tunnel.client(&target);
    client.send(b"1234");
    if is_original(mix.agent) {
        check!(hangs(&mut client), "the original's agent reports the reset after all");
        return cell(Expected::Deviation("X-10"));
    }
    if is_original(mix.relay) {
        check_end(mix, &mut client, 0, "received 1000 (OK)")?;
        return cell(Expected::Deviation("X-1"));
    }
    check_end(mix, &mut client, 20, "received 4001")?;
    cell(Expected::Good)
}

fn end_client(tunnel: &mut Tunnel, mix: Mix, signal: Signal) -> Outcome {
    let target = Target::sink();
    let mut client = tunnel.client(&target);
    // Small enough to be under way at once; an original client has no way to finish what it has not sent.
    let sent = seeded_bytes(4, 20_000);
    client.send(&sent);
    wait_until("the client is connected", || target.accepted() == 1);
    wait_until("the client has sent its stdin", || target.received() == sent.len());
    client.process.signal(signal);
    let seen = target.next_seen();
    check!(seen.length == sent.len() && seen.error.is_none(), "{seen:?}");
    let expected = if is_original(mix.client) { -signal.as_raw() } else { 128 + signal.as_raw() };
    let status = client.process.wait();
    check!(status == expected, "status {status} instead of {expected}");
    check_echo(&mut tunnel.client(&Target::echo()), "another")?;
    cell(Expected::Good)
}

fn name_in_use(tunnel: &mut Tunnel, mix: Mix) -> Outcome {
    let target = Target::echo();
    let mut client = tunnel.client(&target);
    check_echo(&mut client, "before")?;
    let second = start_agent(mix.agent, tunnel.port(), &[]);
    let deviates = is_original(mix.relay);
    if is_original(mix.agent) {
        let words = if deviates { "no close frame received or sent" } else { "4009" };
        second.wait_for_text(words);
    } else if !deviates {
        second.wait_for_text("in use");
    } else {
        // Without a close frame there is nothing to tell it by.
        second.wait_for_line("that its link ended", |line| line.contains(" WARN ").then_some(()));
    }
    check_echo(&mut client, "after")?;
    cell(if deviates { Expected::Deviation("A-8") } else { Expected::Good })
}

// ---- losses ----

fn kill_client(tunnel: &mut Tunnel, _: Mix) -> Outcome {
    let target = Target::echo();
    let mut client = tunnel.client(&target);
    check_echo(&mut client, "hello")?;
    client.process.kill();
    let seen = target.next_seen();
    check!(seen.error.is_none(), "{seen:?}");
    cell(Expected::Good)
}

fn end_agent(tunnel: &mut Tunnel, mix: Mix, signal: Signal) -> Outcome {
    let target = Target::echo();
    let mut client = tunnel.client(&target);
    check_echo(&mut client, "hello")?;
    tunnel.agent.signal(signal);
    let deviates = is_original(mix.relay);
    let (status, words) = if deviates { (0, "received 1000 (OK)") } else { (19, "received 4014") };
    check_end(mix, &mut client, status, words)?;
    target.next_seen();
    let is_killed = signal == Signal::KILL || is_original(mix.agent);
    let (status, expected) = (tunnel.agent.wait(), if is_killed { -signal.as_raw() } else { 0 });
    check!(status == expected, "status {status} of the agent instead of {expected}");
    tunnel.restart_agent();
    tunnel.wait_for_agent();
    check_echo(&mut tunnel.client(&target), "again")?;
    cell(if deviates { Expected::Deviation("X-11") } else { Expected::Good })
}

/// An agent that was refused because of its name takes the place of the holder that dies.
fn take_over(tunnel: &mut Tunnel, mix: Mix) -> Outcome {
    let second = start_agent(mix.agent, tunnel.port(), &[]);
    wait_for_attempts(&second, mix.agent, 1);
    tunnel.agent.kill();
    tunnel.wait_for_agent();
    check_echo(&mut tunnel.client(&Target::echo()), "from the second")?;
    cell(Expected::Good)
}

fn kill_relay(tunnel: &mut Tunnel, mix: Mix) -> Outcome {
    let target = Target::echo();
    let mut client = tunnel.client(&target);
    check_echo(&mut client, "hello")?;
    tunnel.relay.kill();
    check_end(mix, &mut client, 18, "no close frame received or sent")?;
    target.next_seen();
    tunnel.restart_relay();
    tunnel.wait_for_agent();
    check_echo(&mut tunnel.client(&target), "again")?;
    cell(Expected::Good)
}

fn end_relay(tunnel: &mut Tunnel, mix: Mix, signal: Signal) -> Outcome {
    let target = Target::echo();
    let mut client = tunnel.client(&target);
    check_echo(&mut client, "hello")?;
    tunnel.relay.signal(signal);
    check_end(mix, &mut client, 18, "received 1012")?;
    if !is_original(mix.relay) {
        check!(tunnel.relay.wait() == 0, "status of the relay");
    }
    // The original's hangs after it has served a stream; restarting kills it.
    tunnel.restart_relay();
    tunnel.wait_for_agent();
    check_echo(&mut tunnel.client(&target), "again")?;
    cell(Expected::Good)
}
