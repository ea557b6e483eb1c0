#![cfg_attr(fuzzing, no_main)]
//! See [`fuzz::dial_answer`].

fuzz::target!(fuzz::dial_answer::run);
