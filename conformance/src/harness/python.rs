//! The Python environment of the peers: made on first use, kept in the target folder.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::programs::{build_folder, repository};
use super::sha256;

/// The interpreter of a virtual environment that has what `conformance/peers/requirements.txt` lists. It is built
/// under a temporary name and renamed, so that a broken one is never found, and one process at a time builds it.
///
/// # Errors
///
/// One line that says why there is none. Without a package index it is the same as for a wrong version.
pub fn environment() -> Result<&'static Path, &'static str> {
    static INTERPRETER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let made = INTERPRETER.get_or_init(|| {
        make().map_err(|error| format!("no Python environment for the peers: {error}"))
    });
    made.as_deref().map_err(String::as_str)
}

fn make() -> io::Result<PathBuf> {
    let list = repository().join("conformance/peers/requirements.txt");
    let version = run(Command::new("python3").arg("--version"))?;
    let key = sha256(&[fs::read(&list)?, version.into_bytes()].concat());

    let build = build_folder();
    let target = build.parent().unwrap_or(&build);
    let folder = target.join(format!("python-peers-{}", &key[..16]));
    let interpreter = folder.join("bin/python");

    let lock = File::create(target.join("python-peers.lock"))?;
    lock.lock()?;
    if interpreter.exists() {
        return Ok(interpreter);
    }
    let unfinished = target.join("python-peers-unfinished");
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished)?;
    }
    run(Command::new("python3").args(["-m", "venv"]).arg(&unfinished))?;
    let mut pip = Command::new(unfinished.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    run(pip.args(["--retries", "1", "--timeout", "20", "--requirement"]).arg(&list))?;
    // The interpreter finds its libraries by its own place, so the folder may be moved; the scripts in it may not.
    fs::rename(&unfinished, &folder)?;
    Ok(interpreter)
}

/// The stdout of a command that must succeed.
fn run(command: &mut Command) -> io::Result<String> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("no message");
    Err(io::Error::other(format!("{:?}: {last}", command.get_program())))
}
