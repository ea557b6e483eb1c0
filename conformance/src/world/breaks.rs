//! Rules broken on purpose, one at a time, to see that the world notices.
//!
//! A break is a file in `conformance/breaks`: what it does, who catches it, and old and new text for places in the
//! sources. It is made in a copy of the tree, never here.

use std::path::{Path, PathBuf};
use std::{fs, io};

/// One rule that is broken, as its file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Break {
    /// The file's name.
    pub name: String,
    /// In words.
    pub what: String,
    /// `schedules`, or `search: ` and the name of a scope.
    pub caught_by: String,
    /// What is changed.
    pub edits: Vec<Edit>,
}

/// One place that is changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// From the root of the tree.
    pub file: PathBuf,
    /// Stands there once.
    pub old: String,
    /// What stands there instead.
    pub new: String,
}

/// All that there are, by name.
///
/// # Errors
/// A file cannot be read, or is not of the form.
pub fn all() -> io::Result<Vec<Break>> {
    let mut breaks = Vec::new();
    for entry in fs::read_dir(root().join("conformance/breaks"))? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path)?;
        let parsed = parse(name, &text);
        breaks.push(
            parsed.ok_or_else(|| io::Error::other(format!("{}: wrong form", path.display())))?,
        );
    }
    breaks.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(breaks)
}

/// The root of this tree.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

impl Break {
    /// The files with what is changed in them, as they would be.
    ///
    /// # Errors
    /// An old text does not stand in its file exactly once.
    pub fn applied(&self, root: &Path) -> io::Result<Vec<(PathBuf, String)>> {
        let mut files: Vec<(PathBuf, String)> = Vec::new();
        for edit in &self.edits {
            let at = match files.iter().position(|(file, _)| *file == edit.file) {
                Some(at) => at,
                None => {
                    files.push((edit.file.clone(), fs::read_to_string(root.join(&edit.file))?));
                    files.len() - 1
                }
            };
            let text = &mut files[at].1;
            if text.matches(&edit.old).count() != 1 {
                let file = edit.file.display();
                let what = format!("{}: not once in {file}: {}", self.name, edit.old);
                return Err(io::Error::other(what));
            }
            *text = text.replace(&edit.old, &edit.new);
        }
        Ok(files)
    }
}

fn parse(name: String, text: &str) -> Option<Break> {
    let mut lines = text.lines();
    let what = lines.next()?.strip_prefix("what: ")?.to_owned();
    let caught_by = lines.next()?.strip_prefix("caught by: ")?.to_owned();
    let mut edits = Vec::new();
    while let Some(line) = lines.next() {
        let file = PathBuf::from(line.strip_prefix("file: ")?);
        if lines.next()? != "<<<<<<<" {
            return None;
        }
        let mut until = |mark| {
            let part: Vec<&str> = lines.by_ref().take_while(|line| *line != mark).collect();
            part.join("\n")
        };
        let (old, new) = (until("======="), until(">>>>>>>"));
        edits.push(Edit { file, old, new });
    }
    (!edits.is_empty()).then_some(Break { name, what, caught_by, edits })
}
