//! The conformance kit: anyone's relay, agent or client against the specification, case by case.

pub mod cases;
pub mod cli;
pub mod harness;
pub mod kit;
pub mod matrix;
pub mod mutations;
pub mod report;
pub mod world;
