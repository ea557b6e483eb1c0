//! The conformance kit as a program; see `conformance/README.md`.

use std::process::ExitCode;

fn main() -> ExitCode {
    conformance::cli::main()
}
