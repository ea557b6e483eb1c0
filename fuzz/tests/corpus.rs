//! Every target runs on stable Rust, over its seeds, over what was once found, and over texts made from both.

use std::fs;
use std::path::Path;

use fuzz::{TARGETS, Target};

/// Seeds and past finds.
fn corpus(target: &Target) -> Vec<Vec<u8>> {
    let mut inputs = (target.seeds)();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("finds").join(target.name);
    if folder.exists() {
        for entry in fs::read_dir(&folder).expect("the folder can be read") {
            let path = entry.expect("the folder can be read").path();
            inputs.push(fs::read(&path).expect("the file can be read"));
        }
    }
    assert!(!inputs.is_empty(), "{} has nothing to begin with", target.name);
    inputs
}

/// Runs an input; where it fails, the input is shown.
fn run(target: &Target, input: &[u8]) {
    let failed = std::panic::catch_unwind(|| (target.run)(input)).is_err();
    assert!(!failed, "{} fails on {}", target.name, input.escape_ascii());
}

#[test]
fn seeds_and_finds_pass() {
    for target in TARGETS {
        run(target, b"");
        for input in corpus(target) {
            run(target, &input);
        }
    }
}

#[test]
fn what_is_made_from_them_passes() {
    for target in TARGETS {
        let corpus = corpus(target);
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..ROUNDS {
            let mut input = random.choice(&corpus).cloned().unwrap_or_default();
            for _ in 0..random.usize(1..4) {
                mutate(&mut input, &corpus, &mut random);
            }
            run(target, &input);
        }
    }
}

/// Changes a piece: sets, flips, cuts out, doubles, or takes from another input.
fn mutate(input: &mut Vec<u8>, corpus: &[Vec<u8>], random: &mut fastrand::Rng) {
    let start = random.usize(0..=input.len());
    let end = input.len().min(start + random.usize(1..16));
    match random.u8(0..5) {
        0 => input[start..end].iter_mut().for_each(|byte| *byte = random.u8(..)),
        1 => input[start..end].iter_mut().take(1).for_each(|byte| *byte ^= 1 << random.u8(0..8)),
        2 => drop(input.drain(start..end)),
        3 => {
            let piece = input[start..end].to_vec();
            input.splice(start..start, piece);
        }
        _ => {
            let other = random.choice(corpus).cloned().unwrap_or_default();
            let from = random.usize(0..=other.len());
            let to = other.len().min(from + random.usize(1..64));
            input.splice(start..end, other[from..to].iter().copied());
        }
    }
}

/// Every program has its target, and the other way round.
#[test]
fn each_target_is_a_program() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz_targets");
    let mut programs: Vec<String> = fs::read_dir(folder)
        .expect("the folder can be read")
        .map(|entry| entry.expect("the folder can be read").path())
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .collect();
    programs.sort();
    let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(programs, names);
}

/// How many inputs are made for each target: some seconds of a debug build.
const ROUNDS: usize = 2_000;
