//! The conformance kit.

pub mod harness;
