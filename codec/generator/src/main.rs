//! `cargo run -p generator`: writes `codec/src/<version>/generated.rs` for every version in `spec/`.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("generator: {error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                eprintln!("  because: {error}");
                cause = error.source();
            }
            ExitCode::FAILURE
        }
    }
}

/// Writes every module whose text differs from the file.
fn run() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for (label, target) in MODULES {
        let text = generator::module(label, &generator::read(&root.join(label))?)?;
        let path = root.join(target);
        if fs::read_to_string(&path).ok().as_ref() != Some(&text) {
            fs::write(&path, text)?;
            eprintln!("generator: wrote {target}");
        }
    }
    Ok(())
}

/// Every folder of a specification, and the module made from it.
const MODULES: &[(&str, &str)] = &[
    ("spec/v1", "codec/src/v1/generated.rs"),
    ("spec/v2", "codec/src/v2/generated.rs"),
    ("codec/tests/made_up", "codec/tests/made_up/generated.rs"),
];
