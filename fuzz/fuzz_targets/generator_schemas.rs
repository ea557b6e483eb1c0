#![cfg_attr(fuzzing, no_main)]
//! See [`fuzz::generator_schemas`].

fuzz::target!(fuzz::generator_schemas::run);
