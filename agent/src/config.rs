//! What an agent needs to know before it starts.

use std::fs;
use std::path::PathBuf;

use codec::Secret;
use transport::url::RelayUrl;

/// The configuration of an agent.
#[derive(Debug, Clone)]
pub struct Config {
    /// The relay to register with, its path for agents included.
    pub relay_url: RelayUrl,
    /// The name to register under. The relay knows a secret for it; the empty text is a name too.
    pub name: String,
    /// What proves that the name is ours.
    pub secret: Secret,
    /// PEM file with certificates to trust in addition to the system's.
    pub ca_file: Option<PathBuf>,
}

/// A name for an agent that was given none: `unnamed-fqdn-<full host name>-edge-agent-<8 hexadecimal digits>`, the digits
/// new at each call, so that two agents of one host do not meet.
pub fn default_name() -> String {
    let host = host_name();
    let hosts = fs::read_to_string("/etc/hosts").unwrap_or_default();
    let full = qualified(&host, &hosts).unwrap_or(&host);
    format!("unnamed-fqdn-{full}-edge-agent-{:08x}", fastrand::u32(..))
}

#[cfg(unix)]
fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(not(unix))]
fn host_name() -> String {
    std::env::var("COMPUTERNAME").unwrap_or_default()
}

/// The fully qualified form of `host`, if a line of `hosts`, a hosts file, gives it one. Of a line's names the first
/// with a dot is meant to be that.
fn qualified<'hosts>(host: &str, hosts: &'hosts str) -> Option<&'hosts str> {
    if host.contains('.') {
        return None;
    }
    hosts.lines().find_map(|line| {
        let line = line.split('#').next().unwrap_or_default();
        let mut names = line.split_whitespace().skip(1);
        if names.clone().any(|name| name == host) {
            names.find(|name| name.contains('.'))
        } else {
            None
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_name_has_the_known_shape_and_differs_each_time() {
        let name = default_name();
        let rest = name.strip_prefix("unnamed-fqdn-").expect("the prefix is fixed");
        let (host, digits) = rest.rsplit_once("-edge-agent-").expect("the middle is fixed");
        assert!(!host.is_empty());
        assert!(
            digits.len() == 8
                && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')),
            "{name}"
        );
        assert_ne!(name, default_name());
    }

    #[test]
    fn a_hosts_file_completes_a_short_name() {
        let hosts = "127.0.0.1 localhost\n# 10.0.0.1 edge.wrong.example edge\n10.0.0.2 edge.example.org edge # box\n";
        assert_eq!(qualified("edge", hosts), Some("edge.example.org"));
        assert_eq!(qualified("localhost", hosts), None);
        assert_eq!(qualified("box", hosts), None);
        assert_eq!(qualified("edge.other.example", hosts), None);
    }
}
