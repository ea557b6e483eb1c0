use std::fmt;

/// What to ask for where the hard limit is "unlimited": more than any kernel's default ceiling serves nobody. macOS
/// refuses more than its OPEN_MAX.
#[cfg(unix)]
const ENOUGH: u64 = if cfg!(target_os = "macos") { 10_240 } else { 1 << 20 };

/// How many descriptors this process may have open, before and after [`raise_descriptor_limit`].
///
/// Its `Display` is a phrase for the log. Neither number is a promise: the system as a whole can run out first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DescriptorLimit {
    /// The soft limit the process was started with; `None` is unlimited.
    pub before: Option<u64>,
    /// The soft limit now in force; `None` is unlimited.
    pub now: Option<u64>,
}

/// Raises the soft limit on open descriptors to the hard one. It never fails: where the system says no, the limit stays.
#[cfg(unix)]
pub fn raise_descriptor_limit() -> DescriptorLimit {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let before = limit.current;
    let Some(current) = before else {
        return DescriptorLimit { before, now: None };
    };
    let wanted = limit.maximum.unwrap_or(ENOUGH).max(current);
    let raised = Rlimit { current: Some(wanted), maximum: limit.maximum };
    let now = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => wanted,
        Err(_) => current,
    };
    DescriptorLimit { before, now: Some(now) }
}

/// Where processes have no such limit there is nothing to raise.
#[cfg(not(unix))]
pub fn raise_descriptor_limit() -> DescriptorLimit {
    DescriptorLimit { before: None, now: None }
}

impl fmt::Display for DescriptorLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |f: &mut fmt::Formatter<'_>, limit: Option<u64>| match limit {
            Some(limit) => write!(f, "{limit}"),
            None => f.write_str("unlimited"),
        };
        number(f, self.now)?;
        if self.now != self.before {
            f.write_str(", raised from ")?;
            number(f, self.before)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raising_twice_changes_nothing_more() {
        let first = raise_descriptor_limit();
        let second = raise_descriptor_limit();
        assert_eq!(second, DescriptorLimit { before: first.now, now: first.now });
        assert!(first.now.is_none() || first.now >= first.before);
    }

    #[test]
    fn the_phrase_names_what_changed() {
        let phrase = |before, now| DescriptorLimit { before, now }.to_string();
        assert_eq!(phrase(Some(1024), Some(524_288)), "524288, raised from 1024");
        assert_eq!(phrase(Some(4096), Some(4096)), "4096");
        assert_eq!(phrase(None, None), "unlimited");
    }
}
