#![cfg_attr(fuzzing, no_main)]
//! See [`fuzz::relay_link`].

fuzz::target!(fuzz::relay_link::run);
