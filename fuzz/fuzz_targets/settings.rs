#![cfg_attr(fuzzing, no_main)]
//! See [`fuzz::settings`].

fuzz::target!(fuzz::settings::run);
