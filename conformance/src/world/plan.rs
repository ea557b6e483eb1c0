//! What happens in one run: who there is, what they send each other, and what goes wrong when.

use fastrand::Rng;

/// A schedule. The same plan gives the same run, frame by frame.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Decides what the plan leaves open: where exactly a link is cut, jitter, ids.
    pub seed: u64,
    /// One or two.
    pub relays: usize,
    /// How many clients there are, each with links and streams of its own.
    pub clients: usize,
    /// How many agents there are, each connected to every relay.
    pub agents: usize,
    /// The agents have been up for so long that they can tell what they have never served (spec v2, OP-12).
    pub agents_are_old: bool,
    /// Sizes and times of all endpoints.
    pub bounds: Bounds,
    /// From one end of a link to the other.
    pub latency_ms: u32,
    /// Bytes that may be under way on a link in one direction.
    pub link_bytes: usize,
    /// What is asked for.
    pub streams: Vec<StreamPlan>,
    /// What goes wrong, and when, in milliseconds from the start.
    pub faults: Vec<(u32, Fault)>,
}

/// What bounds endpoints and relays in a run.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// The window of a new stream.
    pub first_window: u64,
    /// What it may grow to, and what a sender keeps.
    pub max_window: u64,
    /// What all windows of a party have together.
    pub window_budget: u64,
    /// What streams without a link may hold in one party.
    pub detached_budget: u64,
    /// Streams at once, for an agent.
    pub max_streams: usize,
    /// Numbers at once on a link, for a relay.
    pub relay_streams: usize,
    /// What a relay holds for a stream and direction.
    pub relay_queue: usize,
    /// What a relay holds in all.
    pub relay_budget: usize,
    /// How long streams wait for a link, in seconds: at clients, at agents, and what relays allow.
    pub resume_for_s: [u64; 3],
}

/// One stream: what its client and its target do.
#[derive(Clone, Debug)]
pub struct StreamPlan {
    /// Whose.
    pub client: usize,
    /// Where to.
    pub agent: usize,
    /// When it is asked for.
    pub open_ms: u32,
    /// What the client sends, and how it takes what comes.
    pub near: Program,
    /// The same of the target.
    pub far: Program,
    /// How the target takes the connection.
    pub dial: Dial,
    /// So long after the dial.
    pub dial_ms: u32,
    /// The target breaks the connection off once it has read so much.
    pub far_resets_at: Option<u64>,
    /// The user interrupts, so long after the start of the run.
    pub interrupt_ms: Option<u32>,
}

/// What happens to a dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dial {
    /// The target accepts.
    Connects,
    /// It refuses.
    Refuses,
    /// Nothing is heard of it.
    Hangs,
}

/// What one side of a stream does.
#[derive(Clone, Debug)]
pub struct Program {
    /// How many bytes it sends.
    pub bytes: u64,
    /// At most so many at once.
    pub chunk: usize,
    /// With so much time between.
    pub pause_ms: u32,
    /// It ends its direction only once the other has ended.
    pub ends_second: bool,
    /// How long it takes to hand a piece on.
    pub delay_ms: u32,
    /// It stops reading once it has read so much, for so long.
    pub stall: Option<(u64, u32)>,
}

/// What goes wrong. Indices are taken modulo what there is at that moment.
#[derive(Clone, Debug)]
pub enum Fault {
    /// A link is cut. Of what is under way, this part arrives, of 65,535, in each direction; each side notices after
    /// its time, or never, but for the silence.
    Cut {
        /// Which.
        link: usize,
        /// Towards the relay, and away from it.
        keep: [u16; 2],
        /// In milliseconds: the dialler, the relay.
        notice: [Option<u32>; 2],
    },
    /// Nothing arrives in one direction for a while.
    Stall {
        /// Which.
        link: usize,
        /// 0: towards the relay.
        way: usize,
        /// For how long, in milliseconds.
        ms: u32,
    },
    /// A link is slow from now on.
    Slow {
        /// Which.
        link: usize,
        /// From one end to the other.
        ms: u32,
    },
    /// A client or agent finds no relay for a while.
    Offline {
        /// Who.
        process: usize,
        /// For how long, in milliseconds.
        ms: u32,
    },
    /// A relay is killed and forgets everything.
    RelayRestart {
        /// Which.
        relay: usize,
        /// How long it is away, in milliseconds.
        ms: u32,
    },
    /// A relay drains, closes what is left after a while, and is started again.
    RelayDrain {
        /// Which.
        relay: usize,
        /// How long it drains at most, in milliseconds.
        ms: u32,
    },
    /// An agent is killed and forgets everything.
    AgentRestart {
        /// Which.
        agent: usize,
        /// How long it is away, in milliseconds.
        ms: u32,
    },
    /// An agent is told to stop, says so, and is started again.
    AgentStop {
        /// Which.
        agent: usize,
        /// How long it is away, in milliseconds.
        ms: u32,
    },
    /// Another process asks for an agent's name, for a while.
    Rival {
        /// Whose.
        agent: usize,
        /// For how long, in milliseconds.
        ms: u32,
    },
    /// Somebody resumes all streams that there are, as another principal.
    Steal {
        /// Through which.
        relay: usize,
    },
    /// Somebody repeats all attempts that agents have heard, but for first ones.
    Replay {
        /// Through which.
        relay: usize,
    },
}

impl Plan {
    /// The plan of a seed.
    pub fn random(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let r = &mut rng;
        let relays = 1 + usize::from(one_in(r, 3));
        let clients = r.usize(1..=3);
        let agents = 1 + usize::from(one_in(r, 4));
        let bounds = Bounds::random(r);
        let horizon = *pick(r, &[500, 5_000, 5_000, 60_000]);
        let streams = (0..r.usize(1..=5))
            .map(|_| StreamPlan::random(r, clients, agents, horizon, &bounds))
            .collect();
        let count = *pick(r, &[0, 1, 2, 3, 4, 6, 10]);
        let mut faults: Vec<(u32, Fault)> =
            (0..count).map(|_| (r.u32(0..horizon), Fault::random(r))).collect();
        faults.sort_by_key(|(at, _)| *at);
        let has_rival = faults.iter().any(|(_, fault)| matches!(fault, Fault::Rival { .. }));
        Self {
            seed,
            relays,
            clients,
            agents,
            // What a new process cannot know, an old one that was replaced for a while cannot either (spec v2, SF-10).
            agents_are_old: !has_rival && !one_in(r, 4),
            bounds,
            latency_ms: *pick(r, &[0, 1, 20, 150]),
            link_bytes: *pick(r, &[2_000, 20_000, 1_000_000]),
            streams,
            faults,
        }
    }

    /// Whether two processes may serve one agent's name.
    pub fn has_rival(&self) -> bool {
        self.faults.iter().any(|(_, fault)| matches!(fault, Fault::Rival { .. }))
    }

    /// Whether streams outlive their links at clients, or at agents.
    pub fn resumes(&self) -> bool {
        self.bounds.resume_for_s.iter().all(|time| *time > 0)
    }
}

impl Bounds {
    fn random(r: &mut Rng) -> Self {
        let first_window = *pick(r, &[1, 2, 16, 100, 5_000, 262_144]);
        let max_window = first_window * *pick(r, &[1, 4, 64]);
        let allowed = *pick(r, &[180, 180, 180, 90, 300]);
        let resume_for_s = match r.u32(0..12) {
            0 => [0, 0, 0],
            1 => [0, 180, allowed],
            2 => [180, 0, allowed],
            3 => [90, 180, allowed],
            4 => [180, 90, allowed],
            _ => [180, 180, allowed],
        };
        let tight = one_in(r, 12);
        // A relay has room for a window, and what its frames cost beside their bytes (spec v2, RL-7).
        let window = usize::try_from(max_window.max(8_192)).unwrap_or(usize::MAX);
        let relay_queue = window * 2 + 40_000;
        Self {
            first_window,
            max_window,
            window_budget: if tight { first_window * 3 } else { 1 << 30 },
            detached_budget: if one_in(r, 12) { r.u64(0..20_000) } else { 64 << 20 },
            max_streams: if one_in(r, 16) { 2 } else { 1_000 },
            relay_streams: if one_in(r, 16) { 2 } else { 1_000 },
            relay_queue: if one_in(r, 4) { relay_queue } else { 32 << 20 },
            relay_budget: if one_in(r, 6) { relay_queue } else { 256 << 20 },
            resume_for_s,
        }
    }

    /// Whether they are so small that somebody may be refused for them.
    pub fn are_tight(&self) -> bool {
        self.window_budget < self.first_window * 10
            || self.max_streams < 10
            || self.relay_streams < 10
    }
}

impl StreamPlan {
    fn random(r: &mut Rng, clients: usize, agents: usize, horizon: u32, bounds: &Bounds) -> Self {
        let (near, mut far) = (Program::random(r, bounds), Program::random(r, bounds));
        // Else both wait for the other.
        far.ends_second &= !near.ends_second;
        Self {
            client: r.usize(0..clients),
            agent: r.usize(0..agents),
            open_ms: if one_in(r, 2) { r.u32(0..100) } else { r.u32(0..horizon) },
            near,
            far,
            dial: *pick(
                r,
                &[
                    Dial::Connects,
                    Dial::Connects,
                    Dial::Connects,
                    Dial::Connects,
                    Dial::Connects,
                    Dial::Connects,
                    Dial::Connects,
                    Dial::Connects,
                    Dial::Refuses,
                    Dial::Hangs,
                ],
            ),
            dial_ms: *pick(r, &[0, 0, 5, 300, 5_000, 25_000]),
            far_resets_at: one_in(r, 10).then(|| r.u64(0..3_000)),
            interrupt_ms: one_in(r, 10).then(|| r.u32(0..horizon)),
        }
    }
}

impl Program {
    fn random(r: &mut Rng, bounds: &Bounds) -> Self {
        // A window of a byte carries few of them in bearable time.
        let most = (bounds.first_window * 60).min(60_000);
        let bytes = match r.u32(0..4) {
            0 => r.u64(0..4),
            1 => most,
            _ => r.u64(0..=most),
        };
        Self {
            bytes,
            chunk: *pick(r, &[1_000_000, 1_000_000, 3_000, 100]),
            pause_ms: *pick(r, &[0, 0, 0, 10, 500]),
            ends_second: one_in(r, 4),
            delay_ms: *pick(r, &[0, 0, 0, 1, 200]),
            stall: one_in(r, 5).then(|| (r.u64(0..=most), r.u32(1..60_000))),
        }
    }
}

impl Fault {
    fn random(r: &mut Rng) -> Self {
        let link = r.usize(0..1_000);
        let ms = *pick(r, &[0, 1, 50, 1_000, 10_000]);
        match r.u32(0..24) {
            0..8 => {
                let notice = |r: &mut Rng| match r.u32(0..4) {
                    0 => None,
                    1 => Some(r.u32(0..5_000)),
                    _ => Some(0),
                };
                Self::Cut { link, keep: [part(r), part(r)], notice: [notice(r), notice(r)] }
            }
            8 | 9 => {
                let ms = *pick(r, &[100, 10_000, 20_000, 120_000]);
                Self::Stall { link, way: r.usize(0..2), ms }
            }
            10 => Self::Slow { link, ms: *pick(r, &[1, 300, 3_000]) },
            11 | 12 => {
                let ms = *pick(r, &[100, 3_000, 30_000, 100_000, 200_000, 400_000]);
                Self::Offline { process: link, ms }
            }
            13..16 => Self::RelayRestart { relay: link, ms },
            16 | 17 => Self::RelayDrain { relay: link, ms: *pick(r, &[0, 100, 5_000]) },
            18 => Self::AgentRestart { agent: link, ms },
            19 => Self::AgentStop { agent: link, ms },
            20 => Self::Rival { agent: link, ms: *pick(r, &[100, 20_000, 100_000]) },
            21 | 22 => Self::Steal { relay: link },
            _ => Self::Replay { relay: link },
        }
    }
}

/// A part of 65,535: all, nothing, or anything between.
fn part(r: &mut Rng) -> u16 {
    match r.u32(0..3) {
        0 => 0,
        1 => u16::MAX,
        _ => r.u16(..),
    }
}

fn one_in(r: &mut Rng, n: u32) -> bool {
    r.u32(0..n) == 0
}

fn pick<'a, T>(r: &mut Rng, of: &'a [T]) -> &'a T {
    &of[r.usize(0..of.len())]
}
