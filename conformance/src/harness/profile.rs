//! How to start somebody's relay, agent and client: a command each, with placeholders.
//!
//! `conformance/README.md` describes the file for people who write one.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use super::programs::clear_settings;

/// The profile of this workspace's programs, without their folder.
const OURS: &str = include_str!("../../profiles/ours.json");
/// That of the Python implementation's.
const ORIGINAL: &str = include_str!("../../profiles/original.json");

/// Somebody's programs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// What reports call them.
    pub name: String,
    /// The relay, if there is one.
    pub relay: Option<RelayProgram>,
    /// The agent, if there is one.
    pub agent: Option<Program>,
    /// The client, if there is one.
    pub client: Option<Program>,
    /// The list of expected results: a file beside the profile, or one of the built-in ones for a built-in profile.
    /// Without it every case is to pass.
    pub expected: Option<PathBuf>,
    /// The folder that `{bin}` stands for.
    #[serde(default)]
    pub bin: PathBuf,
    /// Where the profile was read from; `None` if it is built in.
    #[serde(skip)]
    pub folder: Option<PathBuf>,
}

/// How an agent or a client is started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// The program and its arguments, with placeholders.
    pub command: Vec<String>,
    /// Variables for it, with placeholders.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Of a client: texts on its stderr that say that the stream failed, for one whose exit status does not. If there
    /// are any, its status does not count.
    #[serde(default)]
    pub failure_words: Vec<String>,
}

/// How a relay is started, or where one runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelayProgram {
    /// The program and its arguments, with placeholders; empty for a relay that runs already.
    #[serde(default)]
    pub command: Vec<String>,
    /// Variables for it, with placeholders.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// The text before the number of its port, in a line on its stderr. With it `{port}` is 0 and the relay takes a
    /// free one; without it the kit chooses the port and waits until it listens.
    pub port_after: Option<String>,
    /// `http://HOST:PORT` of a relay that runs already.
    pub url: Option<String>,
}

/// A profile cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// The file cannot be read.
    #[error("profile {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no profile.
    #[error("profile {name}: {text} (conformance/README.md describes the file)")]
    Wrong {
        /// The name or path of the profile.
        name: String,
        /// What is wrong with it.
        text: String,
    },
    /// Programs of a built-in profile are not there.
    #[error("{} is not there ({hint})", path.display())]
    Missing {
        /// The program that is missing.
        path: PathBuf,
        /// What to do about it.
        hint: &'static str,
    },
}

/// What the placeholders of a command stand for.
pub type Values = BTreeMap<&'static str, String>;

/// Placeholders of a relay's command.
const RELAY_PLACEHOLDERS: &[&str] = &["bin", "host", "port", "credentials"];
/// Placeholders of an agent's command.
const AGENT_PLACEHOLDERS: &[&str] = &["bin", "url", "name", "secret", "secret_file"];
/// Placeholders of a client's command.
const CLIENT_PLACEHOLDERS: &[&str] =
    &["bin", "url", "secret", "secret_file", "agent", "target_host", "target_port", "protocol"];

impl Profile {
    /// A profile without programs.
    pub fn empty(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            relay: None,
            agent: None,
            client: None,
            expected: None,
            bin: PathBuf::new(),
            folder: None,
        }
    }

    /// This workspace's programs in `folder`.
    ///
    /// # Errors
    ///
    /// When one of them is not there.
    pub fn ours(folder: &Path) -> Result<Self, ProfileError> {
        let hint = "build the three programs: cargo build --workspace --bins";
        Self::built_in("ours", OURS, folder, hint)
    }

    /// The Python implementation's programs in `folder`.
    ///
    /// # Errors
    ///
    /// When one of them is not there.
    pub fn original(folder: &Path) -> Result<Self, ProfileError> {
        let hint = "HNR_ORIGINAL_BIN or --original-bin names the folder with its three programs";
        Self::built_in("original", ORIGINAL, folder, hint)
    }

    fn built_in(
        name: &str,
        text: &str,
        folder: &Path,
        hint: &'static str,
    ) -> Result<Self, ProfileError> {
        let mut profile = Self::parse(name, text)?;
        folder.clone_into(&mut profile.bin);
        for program in ["network-relay", "edge-agent", "access-client"] {
            let path = folder.join(program);
            if !path.is_file() {
                return Err(ProfileError::Missing { path, hint });
            }
        }
        Ok(profile)
    }

    /// Reads a profile from a file.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or is none.
    pub fn read(path: &Path) -> Result<Self, ProfileError> {
        let text = fs::read_to_string(path)
            .map_err(|source| ProfileError::Unreadable { path: path.to_owned(), source })?;
        let mut profile = Self::parse(&path.display().to_string(), &text)?;
        profile.folder = Some(path.parent().unwrap_or(Path::new("")).to_owned());
        Ok(profile)
    }

    fn parse(name: &str, text: &str) -> Result<Self, ProfileError> {
        let wrong = |text: String| ProfileError::Wrong { name: name.to_owned(), text };
        let profile: Self = serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
        profile.check().map_err(wrong)?;
        Ok(profile)
    }

    /// Checks what the types do not say.
    ///
    /// # Errors
    ///
    /// With what is wrong.
    pub fn check(&self) -> Result<(), String> {
        if let Some(relay) = &self.relay {
            if relay.command.is_empty() == relay.url.is_none() {
                return Err("a relay has either a command or a url".to_owned());
            }
            if let Some(url) = &relay.url {
                address_of(url)?;
            }
            check_texts(&relay.command, &relay.environment, RELAY_PLACEHOLDERS)?;
        }
        let parties = [(&self.agent, AGENT_PLACEHOLDERS), (&self.client, CLIENT_PLACEHOLDERS)];
        for (program, placeholders) in parties {
            if let Some(program) = program {
                if program.command.is_empty() {
                    return Err("a command is empty".to_owned());
                }
                check_texts(&program.command, &program.environment, placeholders)?;
            }
        }
        Ok(())
    }

    /// The command of a program, with what its placeholders stand for. Its stdin and stdout are nothing.
    pub fn command(
        &self,
        command: &[String],
        environment: &BTreeMap<String, String>,
        values: &Values,
    ) -> Command {
        let mut values = values.clone();
        values.insert("bin", self.bin.display().to_string());
        let mut words = command.iter().map(|word| fill(word, &values));
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words);
        clear_settings(&mut command);
        command.envs(environment.iter().map(|(name, value)| (name, fill(value, &values))));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }
}

/// Host and port of `http://HOST:PORT`; `ws` is as good as `http`.
///
/// # Errors
///
/// When it is something else.
pub fn address_of(url: &str) -> Result<String, String> {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("ws://"));
    let address = rest.map(|rest| rest.trim_end_matches('/'));
    let is_address = |address: &&str| {
        let port = address.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
        matches!(port, Some(Ok(_))) && !address.contains('/')
    };
    let found = address.filter(is_address).map(str::to_owned);
    found.ok_or_else(|| format!("{url:?} is not of the form http://HOST:PORT"))
}

/// Splits a command line into words, as a shell would: at blanks, but for those in quotes or after a backslash.
///
/// # Errors
///
/// When a quote has no end, or there is no word.
pub fn split_words(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (Some(open), close) if open == close => quote = None,
            (None, '\'' | '"') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (Some('"') | None, '\\') => word.get_or_insert_default().extend(characters.next()),
            (None, blank) if blank.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    match (quote, words.is_empty()) {
        (Some(quote), _) => Err(format!("{line:?} has a {quote} without an end")),
        (None, true) => Err("the command is empty".to_owned()),
        (None, false) => Ok(words),
    }
}

fn check_texts(
    command: &[String],
    environment: &BTreeMap<String, String>,
    known: &[&str],
) -> Result<(), String> {
    for text in command.iter().chain(environment.values()) {
        if let Some(name) = placeholders(text).find(|name| !known.contains(name)) {
            let known = known.join("}, {");
            return Err(format!("{{{name}}} in {text:?} is none of {{{known}}}"));
        }
    }
    Ok(())
}

/// The names in braces. What is in braces and no name, such as a piece of JSON, is left alone.
fn placeholders(text: &str) -> impl Iterator<Item = &str> {
    text.split('{').skip(1).filter_map(|rest| {
        let (name, _) = rest.split_once('}')?;
        let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        is_name.then_some(name)
    })
}

fn fill(text: &str, values: &Values) -> String {
    let mut filled = text.to_owned();
    for (name, value) in values {
        filled = filled.replace(&format!("{{{name}}}"), value);
    }
    filled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_by_a_shell() {
        fn check<const N: usize>(line: &str, words: [&str; N]) {
            assert_eq!(split_words(line), Ok(words.map(str::to_owned).to_vec()), "{line}");
        }
        check("relay --port {port}", ["relay", "--port", "{port}"]);
        check(r#"a 'b c' "d \"e" '' f\ g"#, ["a", "b c", "d \"e", "", "f g"]);
        assert!(split_words("a 'b").is_err());
        assert!(split_words("  ").is_err());
    }

    #[test]
    fn what_is_wrong_with_a_profile_is_said() {
        let check = |text: &str, expected: &str| {
            let error =
                Profile::parse("p.json", text).map(|_| ()).map_err(|error| error.to_string());
            let hint = "(conformance/README.md describes the file)";
            assert_eq!(error, Err(format!("profile p.json: {expected} {hint}")));
        };
        check(
            r#"{"name": "x", "agent": {"command": ["a", "{nmae}"]}}"#,
            r#"{nmae} in "{nmae}" is none of {bin}, {url}, {name}, {secret}, {secret_file}"#,
        );
        check(r#"{"name": "x", "relay": {}}"#, "a relay has either a command or a url");
        check(
            r#"{"name": "x", "relay": {"url": "https://a"}}"#,
            r#""https://a" is not of the form http://HOST:PORT"#,
        );
        check(r#"{"name": "x", "client": {"command": []}}"#, "a command is empty");
    }
}
