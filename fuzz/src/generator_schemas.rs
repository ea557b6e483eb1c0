//! The generator on files that nobody would call a specification.

use std::collections::BTreeSet;

use generator::Source;

/// Reads the bytes as the files of a specification, zero bytes between them, the last one of them with `"constants"` in
/// it as its constants. They become Rust in which no name is given twice, or are refused with the place.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let texts: Vec<&str> = text.split('\0').collect();
    let constants = texts.iter().rposition(|text| text.contains("\"constants\""));
    let sources: Vec<Source> = texts
        .iter()
        .enumerate()
        .map(|(index, text)| Source {
            name: match constants {
                Some(constants) if constants == index => "constants.json".into(),
                _ => format!("{index}.schema.json"),
            },
            text: (*text).to_owned(),
        })
        .collect();
    match generator::module("spec", &sources) {
        Ok(written) => check_names(&written),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// The text is Rust, and no name is given twice where one is to tell things apart.
fn check_names(written: &str) {
    let file = syn::parse_file(written).expect("what is written is Rust");
    let (mut types, mut constants) = (BTreeSet::new(), BTreeSet::new());
    for item in &file.items {
        let (names, name) = match item {
            syn::Item::Enum(item) => {
                let mut variants = BTreeSet::new();
                let unique = item.variants.iter().all(|it| variants.insert(it.ident.to_string()));
                assert!(unique, "{} has two variants of one name", item.ident);
                (&mut types, &item.ident)
            }
            syn::Item::Struct(item) => {
                let mut fields = BTreeSet::new();
                assert!(item.fields.iter().all(|field| fields.insert(&field.ident)));
                (&mut types, &item.ident)
            }
            syn::Item::Const(item) => (&mut constants, &item.ident),
            _ => continue,
        };
        assert!(names.insert(name.to_string()), "{name} is there twice");
    }
}
