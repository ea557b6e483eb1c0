//! The figures, each taken once on one system.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::agents::IdleAgent;
use super::process::Process;
use super::table::{Value, percentile};
use super::tunnel::{Programs, Stream, System, Tunnel};
use super::{GIB, MIB, Plan, pattern};

/// One thing to measure.
pub(crate) struct Figure {
    /// Its name for `--only`, and for whoever waits.
    pub(crate) name: &'static str,
    /// What it is measured on.
    pub(crate) systems: &'static [System],
    /// Takes it once.
    pub(crate) take: fn(&Plan, &Programs, System) -> anyhow::Result<Vec<Value>>,
}

const ALL: &[System] = &[System::Ours, System::Limit, System::Original];
const RELAYS: &[System] = &[System::Ours, System::Original];

/// All figures, in the order of the table.
pub(crate) const FIGURES: &[Figure] = &[
    Figure { name: "bulk down", systems: ALL, take: bulk_down },
    Figure { name: "bulk up", systems: ALL, take: bulk_up },
    Figure { name: "first byte", systems: ALL, take: first_byte },
    Figure { name: "round trip", systems: ALL, take: round_trip },
    Figure { name: "idle agents", systems: RELAYS, take: idle_agents },
    Figure { name: "idle streams", systems: ALL, take: idle_streams },
    Figure { name: "stall down", systems: ALL, take: stall_down },
    Figure { name: "stall up", systems: ALL, take: stall_up },
];

/// From the target to the client's stdout.
fn bulk_down(plan: &Plan, programs: &Programs, system: System) -> anyhow::Result<Vec<Value>> {
    bulk("bulk down", programs, system, bulk_bytes(plan, system), |stream, bytes| {
        let Stream { client, output, far, .. } = stream;
        carry(
            client,
            far,
            |far| pattern::send(far, bytes, |_| ()),
            || pattern::check(output, bytes),
        )
    })
}

/// From the client's stdin to the target.
fn bulk_up(plan: &Plan, programs: &Programs, system: System) -> anyhow::Result<Vec<Value>> {
    bulk("bulk up", programs, system, bulk_bytes(plan, system), |stream, bytes| {
        let Stream { client, input, far, .. } = stream;
        let (input, far) = (&*input, &*far);
        carry(client, far, |_| pattern::send(input, bytes, |_| ()), || pattern::check(far, bytes))
    })
}

fn bulk_bytes(plan: &Plan, system: System) -> u64 {
    if system == System::Original { plan.bulk_original } else { plan.bulk }
}

fn bulk(
    name: &str,
    programs: &Programs,
    system: System,
    bytes: u64,
    carry: impl FnOnce(&mut Stream, u64) -> anyhow::Result<()>,
) -> anyhow::Result<Vec<Value>> {
    let tunnel = Tunnel::start(programs, system)?;
    let mut stream = tunnel.open()?;
    let before = cpu(&tunnel, &stream)?;
    let begin = Instant::now();
    carry(&mut stream, bytes)?;
    let seconds = begin.elapsed().as_secs_f64();
    let after = cpu(&tunnel, &stream)?;
    let gib = bytes as f64 / GIB as f64;
    let [client, relay, agent] = [0, 1, 2].map(|i| (after[i] - before[i]).as_secs_f64() / gib);
    Ok(vec![
        Value::new(format!("{name}, MiB/s"), bytes as f64 / MIB as f64 / seconds),
        Value::new(format!("{name}, CPU s/GiB"), client + relay + agent),
        Value::new(format!("{name}, CPU s/GiB, client"), client),
        Value::new(format!("{name}, CPU s/GiB, relay"), relay),
        Value::new(format!("{name}, CPU s/GiB, agent"), agent),
    ])
}

/// Sends on one side and checks on the other. When the check fails the stream is cut, so that the sending ends too.
fn carry(
    client: &Process,
    far: &TcpStream,
    send: impl FnOnce(&TcpStream) -> std::io::Result<()> + Send,
    check: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    thread::scope(|scope| {
        let sending = scope.spawn(|| send(far));
        let checked = check();
        if checked.is_err() {
            client.kill();
            // It may have ended already.
            let _ = far.shutdown(Shutdown::Both);
        }
        checked?;
        match sending.join() {
            Ok(sent) => sent.context("sending failed"),
            Err(_) => bail!("the sending thread panicked"),
        }
    })
}

fn cpu(tunnel: &Tunnel<'_>, stream: &Stream) -> anyhow::Result<[Duration; 3]> {
    Ok([stream.client.cpu()?, tunnel.relay.cpu()?, tunnel.agent.cpu()?])
}

/// From the start of the client's process to the first byte of a target that speaks first.
fn first_byte(plan: &Plan, programs: &Programs, system: System) -> anyhow::Result<Vec<Value>> {
    let tunnel = Tunnel::start(programs, system)?;
    let mut values = Vec::new();
    for _ in 0..plan.first_bytes.div_ceil(plan.rounds) {
        let begin = Instant::now();
        let stream = tunnel.open()?;
        let milliseconds = begin.elapsed().as_secs_f64() * 1e3;
        drop(stream);
        let value = |it| Value::percentile(format!("first byte p{it}, ms"), it, milliseconds);
        values.extend([value(50), value(99)]);
    }
    Ok(values)
}

/// 64 bytes to an echoing target and back, one at a time.
fn round_trip(plan: &Plan, programs: &Programs, system: System) -> anyhow::Result<Vec<Value>> {
    let tunnel = Tunnel::start(programs, system)?;
    let Stream { client, mut input, mut output, mut far } = tunnel.open()?;
    let micros = thread::scope(|scope| {
        scope.spawn(move || {
            let mut buffer = [0; 4096];
            // Ends with the client.
            while let Ok(read @ 1..) = far.read(&mut buffer) {
                if far.write_all(&buffer[..read]).is_err() {
                    break;
                }
            }
        });
        let mut trip = || -> anyhow::Result<f64> {
            let begin = Instant::now();
            input.write_all(&[b'?'; 64])?;
            output.read_exact(&mut [0; 64])?;
            Ok(begin.elapsed().as_secs_f64() * 1e6)
        };
        let warm: anyhow::Result<Vec<f64>> = (0..50).map(|_| trip()).collect();
        let micros: anyhow::Result<Vec<f64>> = (0..plan.round_trips).map(|_| trip()).collect();
        // The echo ends when its connection does.
        drop(client);
        drop(tunnel);
        warm.and(micros)
    })?;
    let value = |it| {
        let at = percentile(&micros, it).unwrap_or_default();
        Value::new(format!("round trip p{it}, us"), at)
    };
    Ok(vec![value(50), value(99)])
}

/// A relay's memory, alone and with agents that do nothing.
fn idle_agents(plan: &Plan, programs: &Programs, system: System) -> anyhow::Result<Vec<Value>> {
    let (relay, port) = programs.relay(system)?;
    // The first agent brings in what every relay has that was ever used.
    let first = IdleAgent::register(port, 0)?;
    let alone = settled(&[&relay])?;
    let agents: Vec<_> =
        (1..plan.agents).map(|it| IdleAgent::register(port, it)).collect::<Result<_, _>>()?;
    let (_, (rss, pss)) = (settled(&[&relay])?, relay.memory().map(|it| (it.rss, it.pss))?);
    let count = agents.len() as f64;
    drop((first, agents));
    Ok(vec![
        Value::new("relay alone, RSS KiB", alone.rss),
        Value::new("relay alone, PSS KiB", alone.pss),
        Value::new("idle agent at the relay, RSS KiB", (rss - alone.rss) / count),
        Value::new("idle agent at the relay, PSS KiB", (pss - alone.pss) / count),
    ])
}

/// What a stream costs that carries nothing.
fn idle_streams(plan: &Plan, programs: &Programs, system: System) -> anyhow::Result<Vec<Value>> {
    let tunnel = Tunnel::start(programs, system)?;
    // As above.
    let first = tunnel.open()?;
    let both = [&tunnel.relay, &tunnel.agent];
    let before = settled(&both)?;
    let agent = tunnel.agent.memory()?;
    let count = if system == System::Original { plan.streams_original } else { plan.streams };
    let streams: Vec<_> = (0..count).map(|_| tunnel.open()).collect::<Result<_, _>>()?;
    let after = settled(&both)?;
    let clients: Vec<&Process> = streams.iter().map(|stream| &stream.client).collect();
    let clients = settled(&clients)?;
    let count = f64::from(count);
    drop((first, streams));
    Ok(vec![
        Value::new("agent with a stream, RSS KiB", agent.rss),
        Value::new("idle stream, relay and agent, RSS KiB", (after.rss - before.rss) / count),
        Value::new("idle stream, client process, RSS KiB", clients.rss / count),
        Value::new("idle stream, client process, PSS KiB", clients.pss / count),
    ])
}

/// The user does not read stdout of the client.
fn stall_down(plan: &Plan, programs: &Programs, system: System) -> anyhow::Result<Vec<Value>> {
    stall("stall down", plan, programs, system, |stream, taken| {
        let count = |bytes| _ = taken.fetch_add(bytes as u64, Ordering::Relaxed);
        pattern::send(&stream.far, plan.stalled, count)
    })
}

/// The target does not read.
fn stall_up(plan: &Plan, programs: &Programs, system: System) -> anyhow::Result<Vec<Value>> {
    stall("stall up", plan, programs, system, |stream, taken| {
        let count = |bytes| _ = taken.fetch_add(bytes as u64, Ordering::Relaxed);
        pattern::send(&stream.input, plan.stalled, count)
    })
}

fn stall(
    name: &str,
    plan: &Plan,
    programs: &Programs,
    system: System,
    offer: impl Fn(&Stream, &AtomicU64) -> std::io::Result<()> + Sync,
) -> anyhow::Result<Vec<Value>> {
    let tunnel = Tunnel::start(programs, system)?;
    let stream = tunnel.open()?;
    let processes =
        [("client", &stream.client), ("relay", &tunnel.relay), ("agent", &tunnel.agent)];
    for (_, process) in &processes {
        settled(&[process])?;
    }
    let resident = |(_, process): (_, &Process)| process.memory().map(|it| it.rss);
    let before = processes.into_iter().map(resident).collect::<anyhow::Result<Vec<f64>>>()?;
    let taken = AtomicU64::new(0);
    let most = thread::scope(|scope| {
        // Whether it ends early makes no difference: `taken` tells how far it came.
        scope.spawn(|| offer(&stream, &taken));
        let watched = watch(&processes, &before, &taken, plan.stalled);
        // Whoever still offers is let go.
        processes.iter().for_each(|(_, process)| process.kill());
        // It may have ended already.
        let _ = stream.far.shutdown(Shutdown::Both);
        watched
    })?;
    let growth = |((name_of, _), most): (&(&str, _), f64)| {
        Value::new(format!("{name}, RSS growth MiB, {name_of}"), most / 1024.0)
    };
    let mut values = vec![Value::new(
        format!("{name}, bytes taken MiB"),
        taken.into_inner() as f64 / MIB as f64,
    )];
    values.extend(processes.iter().zip(most).map(growth));
    Ok(values)
}

/// The most that each process grows by, until nothing more is taken or a relay might act on the stall.
fn watch(
    processes: &[(&str, &Process)],
    before: &[f64],
    taken: &AtomicU64,
    all: u64,
) -> anyhow::Result<Vec<f64>> {
    let mut most = vec![0.0_f64; processes.len()];
    let begin = Instant::now();
    let (mut last, mut since) = (0, begin);
    while begin.elapsed() < STALL && since.elapsed() < QUIET {
        for (((_, process), before), most) in processes.iter().zip(before).zip(&mut most) {
            *most = most.max(process.memory()?.rss - before);
        }
        let now = taken.load(Ordering::Relaxed);
        if now != last && now < all {
            (last, since) = (now, Instant::now());
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(most)
}

/// The memory of some processes together, once it has stopped to change.
fn settled(processes: &[&Process]) -> anyhow::Result<Total> {
    let end = Instant::now() + SETTLE;
    let mut last = Total::of(processes)?;
    loop {
        thread::sleep(Duration::from_millis(200));
        let now = Total::of(processes)?;
        if now.rss == last.rss || Instant::now() > end {
            return Ok(now);
        }
        last = now;
    }
}

/// Sums, in KiB.
#[derive(Debug, Clone, Copy)]
struct Total {
    rss: f64,
    pss: f64,
}

impl Total {
    fn of(processes: &[&Process]) -> anyhow::Result<Self> {
        let mut total = Self { rss: 0.0, pss: 0.0 };
        for process in processes {
            let memory = process.memory()?;
            total.rss += memory.rss;
            total.pss += memory.pss;
        }
        Ok(total)
    }
}

/// How long a stall is watched at most: relays may end a stream that takes nothing for ten seconds.
const STALL: Duration = Duration::from_secs(8);

/// How long nothing more is taken before a stall counts as complete.
const QUIET: Duration = Duration::from_millis(1500);

/// How long memory may go on changing while everything is idle.
const SETTLE: Duration = Duration::from_secs(3);
