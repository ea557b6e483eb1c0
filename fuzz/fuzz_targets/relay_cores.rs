#![cfg_attr(fuzzing, no_main)]
//! See [`fuzz::relay_cores`].

fuzz::target!(fuzz::relay_cores::run);
