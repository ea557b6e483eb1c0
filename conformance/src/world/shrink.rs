//! From a plan that fails to a small one that still does.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{Failure, Plan, run};

/// What goes wrong in a run of this plan, a panic included.
pub fn failure_of(plan: &Plan) -> Option<Failure> {
    match catch_unwind(AssertUnwindSafe(|| run(plan, false).result)) {
        Ok(result) => result.err(),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|it| (*it).to_owned()));
            Some(Failure(format!("panic: {}", text.unwrap_or_default())))
        }
    }
}

/// Leaves out what is not needed for the plan to fail in the same way, until nothing more can be left out.
pub fn shrink(plan: &Plan) -> Plan {
    let mut best = plan.clone();
    let Some(kind) = failure_of(plan).map(|failure| failure.kind()) else { return best };
    let fails = |plan: &Plan| failure_of(plan).is_some_and(|failure| failure.kind() == kind);
    loop {
        let smaller = candidates(&best).into_iter().find(fails);
        match smaller {
            Some(smaller) => best = smaller,
            None => return best,
        }
    }
}

impl Failure {
    /// What it has in common with others of its kind: its words up to the first colon, without numbers.
    fn kind(&self) -> String {
        let words = self.0.split(':').next().unwrap_or_default();
        words.chars().filter(|it| !it.is_ascii_digit()).collect()
    }
}

/// The plans that are a step smaller.
fn candidates(plan: &Plan) -> Vec<Plan> {
    let mut all = Vec::new();
    let mut add = |change: &dyn Fn(&mut Plan)| {
        let mut smaller = plan.clone();
        change(&mut smaller);
        all.push(smaller);
    };
    let (faults, streams) = (plan.faults.len(), plan.streams.len());
    if faults > 3 {
        add(&|plan| plan.faults.truncate(faults / 2));
        add(&|plan| {
            plan.faults.drain(..faults / 2);
        });
    }
    for at in 0..faults {
        add(&|plan| {
            plan.faults.remove(at);
        });
    }
    for at in 0..streams {
        // Numbers of streams are used as indices; the last one goes, or changes places.
        if streams > 1 {
            add(&|plan| {
                plan.streams.swap_remove(at);
            });
        }
    }
    if plan.relays > 1 {
        add(&|plan| plan.relays = 1);
    }
    if plan.clients > 1 {
        add(&|plan| {
            plan.clients = 1;
            for stream in &mut plan.streams {
                stream.client = 0;
            }
        });
    }
    if plan.agents > 1 {
        add(&|plan| {
            plan.agents = 1;
            for stream in &mut plan.streams {
                stream.agent = 0;
            }
        });
    }
    for at in 0..streams {
        let stream = &plan.streams[at];
        if stream.interrupt_ms.is_some() {
            add(&|plan| plan.streams[at].interrupt_ms = None);
        }
        if stream.far_resets_at.is_some() {
            add(&|plan| plan.streams[at].far_resets_at = None);
        }
        if stream.dial_ms > 0 {
            add(&|plan| plan.streams[at].dial_ms = 0);
        }
        if stream.open_ms > 0 {
            add(&|plan| plan.streams[at].open_ms = 0);
        }
        for far in [false, true] {
            let program = if far { &stream.far } else { &stream.near };
            let mut shorten = |change: &dyn Fn(&mut super::Program)| {
                add(&|plan| {
                    let stream = &mut plan.streams[at];
                    change(if far { &mut stream.far } else { &mut stream.near });
                });
            };
            if program.bytes > 0 {
                shorten(&|program| program.bytes = 0);
                shorten(&|program| program.bytes /= 2);
            }
            if program.pause_ms > 0 {
                shorten(&|program| program.pause_ms = 0);
            }
            if program.delay_ms > 0 {
                shorten(&|program| program.delay_ms = 0);
            }
            if program.stall.is_some() {
                shorten(&|program| program.stall = None);
            }
            if program.ends_second {
                shorten(&|program| program.ends_second = false);
            }
            if program.chunk < 1_000_000 {
                shorten(&|program| program.chunk = 1_000_000);
            }
        }
    }
    all
}
