//! The generated files are what the generator makes of the specifications.

use std::path::Path;

#[test]
fn v1() {
    check("spec/v1", "codec/src/v1/generated.rs");
}

#[test]
fn v2() {
    check("spec/v2", "codec/src/v2/generated.rs");
}

#[test]
fn made_up() {
    check("codec/tests/made_up", "codec/tests/made_up/generated.rs");
}

fn check(folder: &str, file: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let sources = generator::read(&root.join(folder)).expect("the specification can be read");
    let text =
        generator::module(folder, &sources).expect("the specification is within the profile");
    let written = std::fs::read_to_string(root.join(file)).unwrap_or_default();
    assert!(text == written, "{file} is not what {folder} says: run `cargo run -p generator`");
}
