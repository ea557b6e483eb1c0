//! The three programs, as binaries: ours, those of the original, and the Python peers.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::profile::Profile;
use super::python;

/// The variable that names the folder with the original's three programs.
pub const ORIGINAL_VARIABLE: &str = "HNR_ORIGINAL_BIN";

/// Whose program it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// This workspace's.
    Ours,
    /// The Python implementation's, from the folder that [`ORIGINAL_VARIABLE`] names.
    Original,
    /// The Python peer's in `conformance/peers`.
    Peer,
    /// Those of a profile. Their commands are made by [`super::tunnel`], from its templates.
    Given(&'static Given),
}

/// Somebody's programs in the seats of a tunnel.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Given {
    /// What they are called where there is room for one letter.
    pub letter: char,
    /// How they are started.
    pub profile: Profile,
}

impl Origin {
    /// The command that starts `program` (`network-relay`, `edge-agent` or `access-client`), with an environment
    /// that has no settings for it.
    ///
    /// # Panics
    ///
    /// When there is no such program; see [`Origin::is_available`]. Those of a profile have no fixed arguments, and are
    /// not started in this way.
    pub fn command(self, program: &str) -> Command {
        let mut command = match self {
            Self::Ours => Command::new(ours().join(program)),
            Self::Original => Command::new(
                original()
                    .unwrap_or_else(|| panic!("{ORIGINAL_VARIABLE} is not set"))
                    .join(program),
            ),
            Self::Peer => {
                let python = python::environment().unwrap_or_else(|error| panic!("{error}"));
                let mut command = Command::new(python);
                command.arg(repository().join("conformance/peers/v1.py")).arg(program);
                command
            }
            Self::Given(given) => {
                panic!("{program} of {} is started by its profile", given.profile.name)
            }
        };
        clear_settings(&mut command);
        command
    }

    /// What it is called where there is room for one letter: R for ours, as in Rust, P for Python's.
    pub fn letter(self) -> char {
        match self {
            Self::Ours => 'R',
            Self::Original | Self::Peer => 'P',
            Self::Given(given) => given.letter,
        }
    }

    /// What reports call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Original => "original",
            Self::Peer => "peer",
            Self::Given(given) => &given.profile.name,
        }
    }

    /// Whether the programs are there.
    pub fn is_available(self) -> bool {
        match self {
            Self::Ours | Self::Given(_) => true,
            Self::Original => original().is_some(),
            Self::Peer => python::environment().is_ok(),
        }
    }
}

static OURS: OnceLock<PathBuf> = OnceLock::new();
static ORIGINAL: OnceLock<PathBuf> = OnceLock::new();

/// Takes our programs from this folder and builds none, unless they were used before.
pub fn use_ours(folder: &Path) {
    OURS.get_or_init(|| folder.to_owned());
}

/// Takes the original's programs from this folder, whatever [`ORIGINAL_VARIABLE`] says.
pub fn use_original(folder: &Path) {
    ORIGINAL.get_or_init(|| folder.to_owned());
}

/// The folder with the original's programs, if it is named.
pub fn original() -> Option<PathBuf> {
    if let Some(folder) = ORIGINAL.get() {
        return Some(folder.clone());
    }
    std::env::var_os(ORIGINAL_VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// The root of the repository.
pub fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Takes from a command's environment all that would change what our programs and Python's do.
pub fn clear_settings(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if is_setting(&name) {
            command.env_remove(name);
        }
    }
}

fn is_setting(name: &OsStr) -> bool {
    let name = name.to_string_lossy().to_lowercase();
    name.starts_with("http_network_relay_")
        || name.ends_with("_proxy")
        || ["debug", "rust_log", "rust_backtrace", "notify_socket"].contains(&name.as_str())
}

/// The folder with our three programs, built for the profile that the tests are built for.
///
/// Cargo builds the programs of other packages only when asked to, so this asks, once for each test binary. Whatever
/// `cargo test` has built already is not built again.
///
/// # Panics
///
/// When they cannot be built.
pub fn ours() -> &'static Path {
    OURS.get_or_init(|| {
        let folder = build_folder();
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(repository()).args(["build", "--quiet", "--workspace"]);
        cargo.args(["--bin", "network-relay", "--bin", "edge-agent", "--bin", "access-client"]);
        cargo.arg("--target-dir").arg(folder.parent().unwrap_or(&folder));
        if folder.ends_with("release") {
            cargo.arg("--release");
        }
        let built = cargo.output().unwrap_or_else(|error| panic!("cannot run cargo: {error}"));
        let said = String::from_utf8_lossy(&built.stderr);
        assert!(built.status.success(), "the programs cannot be built: {said}");
        folder
    })
}

/// The folder of the build profile, in the target folder: where this test's binary comes from.
pub(super) fn build_folder() -> PathBuf {
    let test =
        std::env::current_exe().unwrap_or_else(|error| panic!("no path of this test: {error}"));
    // target/<profile>/deps/<test>
    let folder = test.parent().and_then(Path::parent);
    folder.unwrap_or_else(|| panic!("{} is not where cargo puts tests", test.display())).to_owned()
}
