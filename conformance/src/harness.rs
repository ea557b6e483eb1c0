//! What the tests of the programs stand on: the programs as processes, targets behind the agent, and a raw WebSocket
//! for hostile input.
//!
//! Nothing here waits for a fixed time: it waits for a condition, up to [`DEADLINE`], and fails with what was seen.
//! Everything that is started here is ended by its owner's `Drop`, by its own process id.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

pub mod frames;
pub mod process;
pub mod profile;
pub mod programs;
pub mod python;
pub mod targets;
pub mod tunnel;

pub use process::{Output, Process};
pub use programs::Origin;
pub use targets::Target;
pub use tunnel::{Client, Tunnel};

/// How long a test waits for something that should happen at once. Generous, since test machines are busy.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Waits until `condition` holds.
///
/// # Panics
///
/// With `what` after [`DEADLINE`].
pub fn wait_until(what: &str, condition: impl FnMut() -> bool) {
    assert!(holds_within(DEADLINE, condition), "waited {DEADLINE:?} in vain until {what}");
}

/// Whether `condition` comes to hold within `limit`.
pub fn holds_within(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Says by name that a test is skipped, and what it would need. In CI ([`in_ci`]) that is a failure, unless it is only
/// the original that is missing ([`programs::ORIGINAL_VARIABLE`]).
///
/// # Panics
///
/// In CI.
pub fn skip(test: &str, missing: &str) {
    let is_original = missing.contains(programs::ORIGINAL_VARIABLE);
    assert!(!in_ci() || is_original, "{test}: {missing}, which CI must have");
    say(&format!("SKIPPED {test}: {missing}"));
}

/// Whether `CI` is set. Empty, `0` and `false` are as good as unset; `.ci/run` reads it in the same way.
pub fn in_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| means_yes(&value.to_string_lossy()))
}

fn means_yes(value: &str) -> bool {
    !["", "0", "false"].contains(&value.to_lowercase().as_str())
}

/// Writes a line past the capture of the test runner, so that it is seen when all goes well, too.
pub fn say(line: &str) {
    // A stderr that is gone is no reason to fail.
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Whether a program is installed; if not, the test is skipped by [`skip`].
pub fn installed(test: &str, program: &str) -> bool {
    let found = find_program(program).is_some();
    if !found {
        skip(test, &format!("{program} is not installed"));
    }
    found
}

/// The path of an installed program. Folders for administrators are searched as well.
pub fn find_program(name: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Bytes without a pattern that compresses; the same for the same seed.
pub fn seeded_bytes(seed: u64, length: usize) -> Vec<u8> {
    // xorshift64*: the state must not be zero.
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// The SHA-256 of some bytes, in hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in Sha256::digest(bytes) {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::means_yes;

    #[test]
    fn who_counts_as_ci() {
        for (value, expected) in [
            ("true", true),
            ("1", true),
            ("yes", true),
            ("", false),
            ("0", false),
            ("False", false),
        ] {
            assert_eq!(means_yes(value), expected, "{value:?}");
        }
    }
}
