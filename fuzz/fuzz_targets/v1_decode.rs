#![cfg_attr(fuzzing, no_main)]
//! See [`fuzz::v1_decode`].

fuzz::target!(fuzz::v1_decode::run);
