//! What the three programs share around their libraries: the command line, secrets, signals, logging, and the one
//! line that says why a program failed.
//!
//! A `main` uses it in this order: [`parse`], [`init_logging`], the options' own conversion into a configuration
//! (which may log warnings), [`Signals::new`], the library's `run`, and at last [`fail`] if that failed.

mod arguments;
mod descriptors;
mod failure;
mod logging;
mod memory;
mod secrets;
mod signals;

pub use arguments::{
    EXIT_FAILURE, EXIT_USAGE, EarlyExit, Variables, long_version, parse, parse_from, parse_integer,
    resume_for,
};
pub use descriptors::{DescriptorLimit, raise_descriptor_limit};
pub use failure::{StartError, fail, failure_line};
pub use logging::init_logging;
pub use memory::keep_freed_memory;
pub use secrets::{SecretArgs, SecretError, warn_if_world_readable};
pub use signals::{Signals, Stop, StopSignal};
