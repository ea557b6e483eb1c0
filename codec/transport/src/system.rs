//! What the system says about a failure, in the words that people search for.

use std::io;

/// What went wrong, in few words: `connection refused` instead of `Connection refused (os error 111)`, and
/// `no such file or directory` instead of the standard library's `entity not found`.
pub fn system_text(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(_) => {
            let text = error.to_string();
            let text = text.split(" (os error").next().unwrap_or_default();
            text.to_lowercase()
        }
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(error: io::Error, expected: &str) {
        assert_eq!(system_text(&error), expected);
    }

    // Other systems have other numbers and words.
    #[cfg(target_os = "linux")]
    #[test]
    fn errors_of_the_system_are_in_its_own_words() {
        check(io::Error::from_raw_os_error(2), "no such file or directory");
        check(io::Error::from_raw_os_error(5), "input/output error");
        check(io::Error::from_raw_os_error(111), "connection refused");
    }

    #[test]
    fn other_errors_are_in_the_words_of_their_library() {
        check(io::ErrorKind::BrokenPipe.into(), "broken pipe");
        check(io::Error::other("Words of a library"), "Words of a library");
    }
}
