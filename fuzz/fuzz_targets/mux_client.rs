#![cfg_attr(fuzzing, no_main)]
//! See [`fuzz::mux_client`].

fuzz::target!(fuzz::mux_client::run);
