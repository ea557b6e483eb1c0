//! Who may connect: the credentials file, and the checks of names and secrets against it.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use codec::Secret;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};
use transport::printable::printable;
use transport::system::system_text;

const AGENTS: &str = "edge-agents";
const CLIENTS: &str = "access-client-secrets";

/// Largest credentials file, in bytes. Room for some hundred thousand agents; a bound against `/dev/zero`.
const MAX_FILE: u64 = 64 * 1024 * 1024;

/// Longest agent name shown in an error, in characters.
const NAME: usize = 60;

type Hash = [u8; 32];

/// The agents and clients that a relay admits.
///
/// Of the secrets only SHA-256 hashes are kept. A check hashes what was offered and compares hashes in constant time,
/// so that neither its answer nor its duration tells how much of a secret was right, or whether a name is known.
#[derive(Clone, Default)]
pub struct Credentials {
    agents: HashMap<String, Hash>,
    clients: Vec<Hash>,
}

/// Why a credentials file cannot be used. The text names the file and the place in it, never a secret.
#[derive(Debug, thiserror::Error)]
#[error("credentials file {}: {problem}", path.display())]
pub struct CredentialsError {
    /// The file, as it was named.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: CredentialsProblem,
    /// What the system or the JSON parser said.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// What is wrong with credentials.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialsProblem {
    /// There is no such file.
    #[error("no such file (create it, or name another with --credentials-file)")]
    Missing,
    /// It is there, but cannot be read.
    #[error("cannot be read: {0} (choose another file, or let this user read it)")]
    Unreadable(String),
    /// It is larger than 64 MiB.
    #[error("is larger than 64 MiB")]
    TooLarge,
    /// It starts with a byte order mark, which JSON does not allow.
    #[error("starts with a byte order mark (save it as UTF-8 without one)")]
    ByteOrderMark,
    /// It is not UTF-8.
    #[error("is not UTF-8 text")]
    NotUtf8,
    /// It holds nothing.
    #[error("is empty")]
    Empty,
    /// It is not JSON.
    #[error("is not valid JSON at line {line}, column {column}")]
    NotJson {
        /// Counted from 1.
        line: usize,
        /// Counted from 1, in bytes.
        column: usize,
    },
    /// Some value is of the wrong type.
    #[error("{place} must be {expected}, not {found}")]
    WrongType {
        /// The place, as words.
        place: String,
        /// What has to stand there.
        expected: &'static str,
        /// What stands there.
        found: &'static str,
    },
    /// One of the two keys is missing.
    #[error("key \"{0}\" is missing")]
    MissingKey(&'static str),
    /// A secret is the empty text, which would let anybody in.
    #[error("{place} is empty")]
    EmptySecret {
        /// The place, as words.
        place: String,
    },
}

impl Credentials {
    /// Reads the file at `path`, once.
    ///
    /// It holds `{"edge-agents": {NAME: SECRET, …}, "access-client-secrets": [SECRET, …]}`. Both keys must be there,
    /// further ones are ignored; of a key that occurs twice the last counts.
    ///
    /// # Errors
    /// [`CredentialsError`], whose text is fit for the user.
    pub fn load(path: &Path) -> Result<Self, CredentialsError> {
        let fail = |problem, source| CredentialsError { path: path.to_owned(), problem, source };
        let unreadable = |error: io::Error| {
            let problem = match error.kind() {
                io::ErrorKind::NotFound => CredentialsProblem::Missing,
                _ => CredentialsProblem::Unreadable(system_text(&error)),
            };
            fail(problem, Some(error.into()))
        };
        let mut bytes = Vec::new();
        let read =
            File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes));
        if read.map_err(unreadable)? as u64 > MAX_FILE {
            return Err(fail(CredentialsProblem::TooLarge, None));
        }
        let text = String::from_utf8(bytes).map_err(|_| fail(CredentialsProblem::NotUtf8, None))?;
        Self::from_json(&text).map_err(|problem| fail(problem, None))
    }

    /// Reads the text of a credentials file; see [`Credentials::load`].
    ///
    /// # Errors
    /// The problem, without a file to name.
    pub fn from_json(text: &str) -> Result<Self, CredentialsProblem> {
        if text.starts_with('\u{feff}') {
            return Err(CredentialsProblem::ByteOrderMark);
        }
        if text.trim().is_empty() {
            return Err(CredentialsProblem::Empty);
        }
        let value = serde_json::from_str(text).map_err(|error| CredentialsProblem::NotJson {
            line: error.line(),
            column: error.column(),
        })?;
        let Value::Object(mut document) = value else {
            return Err(wrong_type("the whole", "an object with two keys", &value));
        };
        Ok(Self { agents: agents(&mut document)?, clients: clients(&mut document)? })
    }

    /// Whether an agent may register as `name` with `secret`. An unknown name costs and answers what a wrong secret does.
    pub fn check_agent(&self, name: &str, secret: &Secret) -> bool {
        let known = self.agents.get(name);
        let expected = known.copied().unwrap_or_default();
        let same = hash(secret.expose()).ct_eq(&expected);
        (same & Choice::from(u8::from(known.is_some()))).into()
    }

    /// Whether a client may ask for streams with `secret`. Every secret of the file is compared, whichever fits.
    pub fn check_client(&self, secret: &Secret) -> bool {
        let offered = hash(secret.expose());
        let none = Choice::from(0);
        self.clients.iter().fold(none, |found, known| found | offered.ct_eq(known)).into()
    }

    /// How many agents have a secret.
    pub fn agent_count(&self) -> usize {
        self.agents.len()
    }

    /// How many secrets clients may use.
    pub fn client_secret_count(&self) -> usize {
        self.clients.len()
    }
}

/// Without the hashes: those of weak secrets can be guessed.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Credentials({} agents, {} client secrets)",
            self.agents.len(),
            self.clients.len()
        )
    }
}

fn agents(document: &mut Map<String, Value>) -> Result<HashMap<String, Hash>, CredentialsProblem> {
    let agents = match document.remove(AGENTS) {
        None => return Err(CredentialsProblem::MissingKey(AGENTS)),
        Some(Value::Object(agents)) => agents,
        Some(other) => {
            return Err(wrong_type(
                &format!("\"{AGENTS}\""),
                "an object of names and secrets",
                &other,
            ));
        }
    };
    let entry = |(name, secret): (String, Value)| {
        let place =
            || format!("the secret of agent \"{}\" in \"{AGENTS}\"", printable(&name, NAME));
        let hash = secret_hash(&secret, place)?;
        Ok((name, hash))
    };
    agents.into_iter().map(entry).collect()
}

fn clients(document: &mut Map<String, Value>) -> Result<Vec<Hash>, CredentialsProblem> {
    let secrets = match document.remove(CLIENTS) {
        None => return Err(CredentialsProblem::MissingKey(CLIENTS)),
        Some(Value::Array(secrets)) => secrets,
        Some(other) => {
            return Err(wrong_type(&format!("\"{CLIENTS}\""), "a list of secrets", &other));
        }
    };
    let entry =
        |(index, secret)| secret_hash(secret, || format!("entry {} of \"{CLIENTS}\"", index + 1));
    secrets.iter().enumerate().map(entry).collect()
}

fn secret_hash(secret: &Value, place: impl Fn() -> String) -> Result<Hash, CredentialsProblem> {
    match secret {
        Value::String(secret) if secret.is_empty() => {
            Err(CredentialsProblem::EmptySecret { place: place() })
        }
        Value::String(secret) => Ok(hash(secret)),
        other => Err(wrong_type(&place(), "a text", other)),
    }
}

fn wrong_type(place: &str, expected: &'static str, found: &Value) -> CredentialsProblem {
    let found = match found {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    CredentialsProblem::WrongType { place: place.to_owned(), expected, found }
}

fn hash(secret: &str) -> Hash {
    Sha256::digest(secret.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::from(text.to_owned())
    }

    fn credentials(text: &str) -> Credentials {
        Credentials::from_json(text).expect("the test's credentials are well-formed")
    }

    #[test]
    fn names_and_secrets_must_match_exactly() {
        let credentials = credentials(
            r#"{"edge-agents": {"one": "erstes", "zwei ä": "zweites"}, "access-client-secrets": ["a", "bb"]}"#,
        );
        assert!(credentials.check_agent("one", &secret("erstes")));
        assert!(credentials.check_agent("zwei ä", &secret("zweites")));
        for (name, offered) in
            [("one", "zweites"), ("one", "Erstes"), ("one", ""), ("two", "erstes"), ("", "")]
        {
            assert!(!credentials.check_agent(name, &secret(offered)), "{name:?} {offered:?}");
        }
        assert!(credentials.check_client(&secret("a")) && credentials.check_client(&secret("bb")));
        for offered in ["", "b", "ab", "abb", "erstes"] {
            assert!(!credentials.check_client(&secret(offered)), "{offered:?}");
        }
        assert_eq!((credentials.agent_count(), credentials.client_secret_count()), (2, 2));
    }

    #[test]
    fn nobody_is_admitted_by_empty_credentials() {
        for credentials in [
            Credentials::default(),
            credentials(r#"{"edge-agents": {}, "access-client-secrets": []}"#),
        ] {
            assert!(!credentials.check_agent("", &secret("")));
            assert!(!credentials.check_client(&secret("")));
        }
    }

    #[test]
    fn further_keys_are_ignored_and_the_last_of_two_counts() {
        let credentials = credentials(
            r#"{"edge-agents": {"x": "no"}, "note": [1], "access-client-secrets": ["no"],
                "edge-agents": {"a": "old", "a": "new"}, "access-client-secrets": ["c"]}"#,
        );
        assert!(!credentials.check_agent("x", &secret("no")));
        assert!(!credentials.check_agent("a", &secret("old")));
        assert!(credentials.check_agent("a", &secret("new")));
        assert!(!credentials.check_client(&secret("no")));
        assert!(credentials.check_client(&secret("c")));
    }

    #[test]
    fn what_is_wrong_is_said_plainly() {
        let check = |text: &str, expected: &str| match Credentials::from_json(text) {
            Ok(_) => panic!("{text} was accepted"),
            Err(problem) => assert_eq!(problem.to_string(), expected),
        };
        check("", "is empty");
        check(" \n", "is empty");
        check("\u{feff}{}", "starts with a byte order mark (save it as UTF-8 without one)");
        check("{\n  // no\n}", "is not valid JSON at line 2, column 3");
        check("null", "the whole must be an object with two keys, not null");
        check("[]", "the whole must be an object with two keys, not a list");
        check("{}", "key \"edge-agents\" is missing");
        check(r#"{"edge-agents": {}}"#, "key \"access-client-secrets\" is missing");
        check(
            r#"{"edge-agents": ["a"], "access-client-secrets": []}"#,
            "\"edge-agents\" must be an object of names and secrets, not a list",
        );
        check(
            r#"{"edge-agents": {}, "access-client-secrets": "geheim"}"#,
            "\"access-client-secrets\" must be a list of secrets, not a text",
        );
        check(
            r#"{"edge-agents": {"a\nb": null}, "access-client-secrets": []}"#,
            "the secret of agent \"a b\" in \"edge-agents\" must be a text, not null",
        );
        check(
            r#"{"edge-agents": {"a": ""}, "access-client-secrets": []}"#,
            "the secret of agent \"a\" in \"edge-agents\" is empty",
        );
        check(
            r#"{"edge-agents": {}, "access-client-secrets": ["geheim", 7]}"#,
            "entry 2 of \"access-client-secrets\" must be a text, not a number",
        );
        check(
            r#"{"edge-agents": {}, "access-client-secrets": [""]}"#,
            "entry 1 of \"access-client-secrets\" is empty",
        );
    }

    #[test]
    fn the_file_is_named() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("credentials.json");
        let check = |path: &Path, expected: &str| {
            let error = Credentials::load(path).expect_err("none of these can be used");
            assert_eq!(
                error.to_string(),
                format!("credentials file {}: {expected}", path.display())
            );
        };
        check(&path, "no such file (create it, or name another with --credentials-file)");
        // In the words of the system.
        #[cfg(unix)]
        check(
            folder.path(),
            "cannot be read: is a directory \
             (choose another file, or let this user read it)",
        );
        fs::write(&path, b"\xff")?;
        check(&path, "is not UTF-8 text");
        fs::write(&path, "{}")?;
        check(&path, "key \"edge-agents\" is missing");
        fs::write(&path, r#"{"edge-agents": {"a": "s"}, "access-client-secrets": ["c"]}"#)?;
        assert!(
            Credentials::load(&path)
                .is_ok_and(|credentials| credentials.check_agent("a", &secret("s")))
        );
        Ok(())
    }

    #[test]
    fn neither_secrets_nor_hashes_can_be_printed() {
        let text = r#"{"edge-agents": {"a": "geheim"}, "access-client-secrets": ["geheim"]}"#;
        assert_eq!(format!("{:?}", credentials(text)), "Credentials(1 agents, 1 client secrets)");
    }
}
