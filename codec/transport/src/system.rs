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

    #[test]
    fn errors_of_the_system_are_in_its_own_words() {
        let check = |error: io::Error, expected: &str| assert_eq!(system_text(&error), expected);
        check(io::Error::from_raw_os_error(2), "no such file or directory");
        check(io::Error::from_raw_os_error(5), "input/output error");
        check(io::Error::from_raw_os_error(111), "connection refused");
        check(io::ErrorKind::BrokenPipe.into(), "broken pipe");
        check(io::Error::other("Words of a library"), "Words of a library");
    }
}
