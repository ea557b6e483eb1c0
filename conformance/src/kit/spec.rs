//! The numbered statements of the specification, and those that no peer can see.

use std::collections::BTreeMap;
use std::sync::LazyLock;

/// The prose of v1.
const PROSE: &str = include_str!("../../../spec/v1/README.md");

/// Statements that no case can show, by section, with the reason why.
const UNSEEN: &str = include_str!("../../expected/unseen.json");

/// A section of the prose.
#[derive(Debug, Clone)]
pub struct Section {
    /// Its letter: `X`.
    pub letter: String,
    /// Its title: `Closing`.
    pub title: String,
    /// Its statements, in their order.
    pub statements: Vec<Statement>,
}

/// One numbered statement.
#[derive(Debug, Clone)]
pub struct Statement {
    /// Its number: `X-7`.
    pub number: String,
    /// Its text in Markdown, tables included.
    pub text: String,
    /// The known deviation that stands below it; empty if there is none.
    pub deviation: String,
}

/// The sections of v1, in their order.
pub fn sections() -> &'static [Section] {
    static SECTIONS: LazyLock<Vec<Section>> = LazyLock::new(|| parse(PROSE));
    &SECTIONS
}

/// The statements of v1, in their order.
pub fn statements() -> impl Iterator<Item = &'static Statement> {
    sections().iter().flat_map(|section| &section.statements)
}

/// The statement of this number.
pub fn statement(number: &str) -> Option<&'static Statement> {
    statements().find(|statement| statement.number == number)
}

/// The statements that no peer can see, each with the reason why.
///
/// # Panics
///
/// When `expected/unseen.json` is not what it should be; a test reads it.
pub fn unseen() -> &'static BTreeMap<String, String> {
    static LIST: LazyLock<BTreeMap<String, String>> = LazyLock::new(|| {
        let sections: BTreeMap<String, BTreeMap<String, String>> = serde_json::from_str(UNSEEN)
            .unwrap_or_else(|error| panic!("expected/unseen.json: {error}"));
        sections.into_values().flatten().collect()
    });
    &LIST
}

fn parse(prose: &str) -> Vec<Section> {
    prose.split("\n## ").skip(1).filter_map(section).collect()
}

fn section(text: &str) -> Option<Section> {
    let (title, body) = text.split_once('\n')?;
    let (title, letter) = title.strip_suffix(')')?.split_once(" (")?;
    let mut statements: Vec<Statement> = Vec::new();
    for block in body.trim().split("\n\n") {
        let block = block.trim();
        let numbered = block.strip_prefix("**").and_then(|block| block.split_once("** "));
        if let Some((number, text)) = numbered {
            statements.push(Statement {
                number: number.to_owned(),
                text: text.to_owned(),
                deviation: String::new(),
            });
            continue;
        }
        // What stands above the first statement belongs to none.
        let Some(last) = statements.last_mut() else { continue };
        if block.starts_with('>') {
            let lines = block.lines().map(|line| line.trim_start_matches('>').trim());
            last.deviation = lines.collect::<Vec<_>>().join(" ");
        } else {
            last.text.push_str("\n\n");
            last.text.push_str(block);
        }
    }
    Some(Section { letter: letter.to_owned(), title: title.to_owned(), statements })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prose_is_read_whole() {
        let letters: Vec<_> = sections().iter().map(|section| &*section.letter).collect();
        assert_eq!(letters, ["H", "M", "A", "C", "S", "K", "X", "L", "E", "R", "Q"]);
        assert_eq!(statements().count(), PROSE.matches("\n\n**").count());
        let boxes = statements().filter(|statement| !statement.deviation.is_empty()).count();
        assert_eq!(boxes, PROSE.matches("> Known deviation").count());
        let table =
            statement("C-7").map(|statement| statement.text.contains("| `ERROR_BAD_SECRET` |"));
        assert_eq!(table, Some(true));
        assert!(unseen().keys().all(|number| statement(number).is_some()));
    }
}
