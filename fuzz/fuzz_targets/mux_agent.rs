#![cfg_attr(fuzzing, no_main)]
//! See [`fuzz::mux_agent`].

fuzz::target!(fuzz::mux_agent::run);
