//! Writes the codec's Rust from the specification.
//!
//! A version of the wire is a folder with `*.schema.json` files of messages, `*.layout.json` files of other frames and
//! one `constants.json`, in the forms that `spec/profile.schema.json` describes: messages in a small subset of JSON
//! Schema. [`module`] turns such a folder into
//! the text of one Rust module: [`profile`] reads the files and refuses whatever lies outside the subset, [`ir`]
//! holds what they say, [`emit`] writes it down.
//!
//! The generator knows no message by name: everything it writes comes from the files.

pub mod emit;
pub mod ir;
pub mod profile;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// One file of a specification.
#[derive(Clone, Debug)]
pub struct Source {
    /// File name, for error messages and to tell `*.schema.json`, `*.layout.json` and `constants.json` apart.
    pub name: String,
    /// The JSON text.
    pub text: String,
}

/// Why no module could be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// What was to be read.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is not JSON.
    #[error("{file} is not JSON")]
    Json {
        /// The file.
        file: String,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A construct lies outside the profile, or contradicts another one.
    #[error("{file}#{pointer}: {problem}")]
    Profile {
        /// The file.
        file: String,
        /// JSON pointer of the construct.
        pointer: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// The files of the specification in `folder`, in the order of their names.
///
/// # Errors
///
/// [`Error::Read`] if the folder or one of its files cannot be read.
pub fn read(folder: &Path) -> Result<Vec<Source>, Error> {
    let fail = |path: &Path, source| Error::Read { path: path.to_owned(), source };
    let mut sources = Vec::new();
    for entry in fs::read_dir(folder).map_err(|e| fail(folder, e))? {
        let path = entry.map_err(|e| fail(folder, e))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.ends_with(".schema.json") || name.ends_with(LAYOUT) || name == CONSTANTS {
            let text = fs::read_to_string(&path).map_err(|e| fail(&path, e))?;
            sources.push(Source { name, text });
        }
    }
    sources.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(sources)
}

/// What the files say, in the generator's own form.
///
/// # Errors
///
/// [`Error::Json`] or [`Error::Profile`], for the first construct that is not understood.
pub fn lower(sources: &[Source]) -> Result<ir::Module, Error> {
    let mut module = ir::Module::default();
    // schemas may name constants
    let (constants, others): (Vec<_>, Vec<_>) = sources.iter().partition(|s| s.name == CONSTANTS);
    for source in constants.into_iter().chain(others) {
        let json = serde_json::from_str(&source.text)
            .map_err(|e| Error::Json { file: source.name.clone(), source: e })?;
        if source.name == CONSTANTS {
            module.constants.extend(profile::constants(&source.name, &json)?);
        } else if let Some(name) = source.name.strip_suffix(LAYOUT) {
            module.layouts.push(profile::layout(&source.name, name, &json)?);
        } else {
            profile::schema(&source.name, &json, &mut module)?;
        }
    }
    let taken = |constant: &ir::Constant| emit::is_data_constant(&constant.name, &module);
    match module.constants.iter().position(taken) {
        None => Ok(module),
        Some(index) => Err(Error::Profile {
            file: CONSTANTS.into(),
            pointer: format!("/constants/{index}/name"),
            problem: "is the name of a text around the values of a message".into(),
        }),
    }
}

/// The text of the Rust module for the given files; `label` names their folder in its first line.
///
/// # Errors
///
/// As [`lower`].
pub fn module(label: &str, sources: &[Source]) -> Result<String, Error> {
    Ok(emit::module(label, &lower(sources)?))
}

/// Name of the file that holds constants instead of messages.
const CONSTANTS: &str = "constants.json";

/// How the names of files end that hold the form of a frame instead of messages.
const LAYOUT: &str = ".layout.json";
