//! All eight mixes of the Python implementation's programs and ours, scenario by scenario, as a table.
//!
//! `HNR_ORIGINAL_BIN` names the folder with the three Python programs; without it this is skipped by name.
//! `HNR_SCENARIO` picks the scenarios whose name contains it.

use conformance::harness::{Origin, say, skip};
use conformance::matrix::{self, Cell, Scenario, Seen};
use conformance::report;

#[test]
fn every_mix_works_as_specified_or_as_known() {
    if !Origin::Original.is_available() {
        skip("every_mix_works_as_specified_or_as_known", "HNR_ORIGINAL_BIN is not set");
        return;
    }
    let only = std::env::var("HNR_SCENARIO").unwrap_or_default();
    let scenarios: Vec<_> = matrix::all().filter(|it| it.name.contains(&only)).collect();
    let mixes = matrix::mixes(&[Origin::Ours, Origin::Original]);
    let rows = matrix::run(&scenarios, &mixes, |scenario: &Scenario, cell: &Cell| {
        let (mix, seconds) = (cell.mix.letters(), cell.took.as_secs_f32());
        say(&format!("{mix} {}: {:?} ({seconds:.1} s)", scenario.name, cell.outcome));
        if let Ok(Seen::NotApplicable(missing)) = cell.outcome {
            skip(scenario.name, missing);
        }
    });
    say(&format!("\n{}", report::matrix::table(&rows)));
    let failures = report::matrix::failures(&rows);
    assert!(failures.is_empty(), "{failures:#?}");
}
