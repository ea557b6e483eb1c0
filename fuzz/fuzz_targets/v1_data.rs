#![cfg_attr(fuzzing, no_main)]
//! See [`fuzz::v1_data`].

fuzz::target!(fuzz::v1_data::run);
