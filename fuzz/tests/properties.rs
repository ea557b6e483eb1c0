//! Operations that proptest draws and shrinks, done to each core and to its model.

use fuzz::operations::SIZE;
use fuzz::{mux_agent, mux_client, relay_registry, relay_routes};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{FileFailurePersistence, TestRunner};

/// Draws a configuration and operations for a model. A failing case is kept by its seed, in a file that is to be
/// committed; its shrunk form is shown.
fn check<T: From<[u8; SIZE]> + std::fmt::Debug>(name: &'static str, model: fn(u8, &[T])) {
    let path = format!("{}/tests/properties/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    let config = ProptestConfig {
        cases: CASES,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(path.leak()))),
        source_file: Some(file!()),
        ..ProptestConfig::default()
    };
    let operations = vec(any::<[u8; SIZE]>().prop_map(T::from), 0..150);
    TestRunner::new(config)
        .run(&(any::<u8>(), operations), |(configuration, operations)| {
            model(configuration, &operations);
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{name}: {error}"));
}

#[test]
fn an_agents_link() {
    check("mux_agent", mux_agent::check);
}

#[test]
fn a_clients_link() {
    check("mux_client", mux_client::check);
}

#[test]
fn the_routes_of_an_agent() {
    check("relay_routes", relay_routes::check);
}

#[test]
fn the_names_of_agents() {
    check("relay_registry", |_, operations| relay_registry::check(operations));
}

/// How many sequences are drawn for each.
const CASES: u32 = 512;
