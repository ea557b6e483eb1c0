//! Inputs to begin with, from what is in the tree anyway: recorded texts, examples, counterexamples, schemas.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Texts that are messages, and some that are none.
pub fn messages() -> Vec<Vec<u8>> {
    let mut texts: Vec<String> = read("codec/tests/golden/messages.jsonl")
        .lines()
        .filter_map(|line| text_of(line, "input"))
        // What makes these large makes them slow, not interesting.
        .filter(|text| text.len() <= LARGEST)
        .collect();
    texts.extend(files("spec/v1/examples").iter().map(|text| text.trim_end().to_owned()));
    texts.extend(files("spec/v1/counterexamples").iter().filter_map(|text| text_of(text, "text")));
    texts.into_iter().map(String::into_bytes).collect()
}

/// The files of the specifications, alone and as they belong together.
pub fn schemas() -> Vec<Vec<u8>> {
    let mut sources = Vec::new();
    for folder in ["spec/v1", "codec/tests/made_up"] {
        let files = generator::read(&root().join(folder)).expect("the specification can be read");
        let texts: Vec<String> = files.into_iter().map(|source| compact(&source.text)).collect();
        sources.push(texts.join("\0"));
        sources.extend(texts);
    }
    sources.into_iter().map(String::into_bytes).collect()
}

/// Sequences of [`crate::operations`]: some that repeat a few operations, some that go through all.
pub fn operations() -> Vec<Vec<u8>> {
    let mut state = 1_u32;
    let mut next = move || {
        // A generator of Knuth's: any will do, as long as it always gives the same.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..64_usize).map(|n| (0..4 * (n + 1)).map(|_| next()).collect()).collect()
}

/// Without the white space that is there for people.
fn compact(json: &str) -> String {
    serde_json::from_str::<Value>(json).expect("the file is JSON").to_string()
}

/// A text in a JSON object.
fn text_of(json: &str, key: &str) -> Option<String> {
    let value: Value = serde_json::from_str(json).expect("the file is JSON");
    Some(value.get(key)?.as_str()?.to_owned())
}

fn files(folder: &str) -> Vec<String> {
    let folder = root().join(folder);
    let entries = fs::read_dir(&folder).expect("the folder can be read");
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| entry.expect("the folder can be read").path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read_to_string(path).expect("the file can be read")).collect()
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).expect("the file can be read")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The longest recorded text that is a seed, in bytes.
const LARGEST: usize = 4096;
