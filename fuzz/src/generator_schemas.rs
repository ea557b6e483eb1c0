//! The generator on files that nobody would call a specification.

use std::collections::BTreeSet;

use generator::Source;
use generator::ir::Module;

/// Reads the bytes as the files of a specification, zero bytes between them; one with `"constants"` in it is a file of
/// constants. They become Rust without two things of one name, or are refused with the place.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let sources: Vec<Source> = text
        .split('\0')
        .enumerate()
        .map(|(index, text)| {
            let constants = text.contains("\"constants\"");
            let name =
                if constants { "constants.json".into() } else { format!("{index}.schema.json") };
            Source { name, text: text.to_owned() }
        })
        .collect();
    match generator::lower(&sources) {
        Ok(module) => {
            check_names(&module);
            // Whatever it writes has been parsed as Rust.
            let written = generator::emit::module("spec", &module);
            assert!(written.starts_with("// Written by"));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// No name is given twice where one is enough to tell things apart.
fn check_names(module: &Module) {
    let mut types = BTreeSet::new();
    for name in module.unions.iter().map(|u| &u.name).chain(module.structs.iter().map(|s| &s.name))
    {
        assert!(types.insert(name), "two types are called {name}");
    }
    for item in &module.structs {
        let mut fields = BTreeSet::new();
        for field in &item.fields {
            assert!(fields.insert(&field.name), "two fields of {} are {}", item.name, field.name);
        }
    }
    let mut constants = BTreeSet::new();
    for constant in &module.constants {
        assert!(constants.insert(&constant.name), "two constants are called {}", constant.name);
    }
}
