//! Fuzz targets: one function for each decoder and core, which takes any bytes and panics where a promise is broken.
//!
//! Three things run them: libFuzzer, through the programs in `fuzz_targets/` (`README.md` beside this crate tells how);
//! on stable Rust a test, over the seeds, over past finds, and over texts made from both; and those programs
//! themselves, which without libFuzzer replay the files they are given.
//!
//! The targets of the sans-io cores read their bytes as [`operations`] and hold the core against a small model of it, on
//! a clock that only the operations move. Property tests do the same with operations that proptest draws and shrinks.

pub mod dial_answer;
pub mod generator_schemas;
pub mod mux_agent;
pub mod mux_client;
pub mod operations;
pub mod relay_cores;
pub mod relay_link;
pub mod relay_registry;
pub mod relay_routes;
pub mod seeds;
pub mod settings;
mod shell;
pub mod v1_data;
pub mod v1_decode;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

/// A fuzz target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name: of the program, of the module, of the folders with its files.
    pub name: &'static str,
    /// Takes any bytes. Panics where something does not hold.
    pub run: fn(&[u8]),
    /// Inputs to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "dial_answer", run: dial_answer::run, seeds: dial_answer::seeds },
    Target { name: "generator_schemas", run: generator_schemas::run, seeds: seeds::schemas },
    Target { name: "mux_agent", run: mux_agent::run, seeds: seeds::operations },
    Target { name: "mux_client", run: mux_client::run, seeds: seeds::operations },
    Target { name: "relay_cores", run: relay_cores::run, seeds: seeds::operations },
    Target { name: "relay_link", run: relay_link::run, seeds: relay_link::seeds },
    Target { name: "settings", run: settings::run, seeds: settings::seeds },
    Target { name: "v1_data", run: v1_data::run, seeds: seeds::messages },
    Target { name: "v1_decode", run: v1_decode::run, seeds: seeds::messages },
];

/// The program of a target: under libFuzzer an endless loop, otherwise [`replay`].
#[macro_export]
macro_rules! target {
    ($run:path) => {
        #[cfg(fuzzing)]
        ::libfuzzer_sys::fuzz_target!(|data: &[u8]| $run(data));

        #[cfg(not(fuzzing))]
        fn main() -> ::std::process::ExitCode {
            $crate::replay($run)
        }
    };
}

/// Runs a target over the files that the command line names, to see a find without libFuzzer.
pub fn replay(run: fn(&[u8])) -> ExitCode {
    let paths: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    if paths.is_empty() {
        eprintln!("give files to replay; for fuzzing see fuzz/README.md");
        return ExitCode::from(2);
    }
    for path in paths {
        eprintln!("{}", path.display());
        match fs::read(&path) {
            Ok(data) => run(&data),
            Err(error) => {
                eprintln!("{}: {error}", path.display());
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
