//! Foreign text made fit for one line of a terminal or a log.
//!
//! A peer chooses agent names, error messages and close reasons. Printed as they come, they could add lines to a
//! log, colour a terminal or reorder what stands around them.

use std::fmt;

/// `text` on one line, of at most `limit` characters: control characters are gone, line breaks and tabs are single
/// spaces, and what was cut is marked by `…` (which counts as one of the `limit`).
pub fn printable(text: &str, limit: usize) -> String {
    let mut line = String::with_capacity(text.len().min(limit.saturating_mul(4)));
    let mut length = 0;
    let mut last_space = true;
    for character in text.trim().chars() {
        let character = if character.is_whitespace() {
            if last_space {
                continue;
            }
            ' '
        } else if is_unprintable(character) {
            continue;
        } else {
            character
        };
        if length == limit {
            line.pop();
            line.push('…');
            return line;
        }
        last_space = character == ' ';
        line.push(character);
        length += 1;
    }
    line
}

/// Whether `character` moves the cursor, changes the terminal, reorders the text around it or is invisible.
pub fn is_unprintable(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{feff}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}')
}

/// Passes text on with every unprintable character written as an escape (`\n`, `\u{1b}`), and stops after `limit`
/// bytes with a `…`. Nothing is lost but what lies past the limit: this is for logs.
#[derive(Debug)]
pub struct Escaped<W> {
    inner: W,
    left: usize,
}

impl<W: fmt::Write> Escaped<W> {
    /// Writes to `inner`, at most about `limit` bytes.
    pub fn new(inner: W, limit: usize) -> Self {
        Self { inner, left: limit }
    }

    fn put(&mut self, piece: &str) -> fmt::Result {
        if self.left == 0 {
            return Ok(());
        }
        if piece.len() <= self.left {
            self.left -= piece.len();
            return self.inner.write_str(piece);
        }
        let end = (0..=self.left).rev().find(|&end| piece.is_char_boundary(end)).unwrap_or(0);
        self.left = 0;
        self.inner.write_str(&piece[..end])?;
        self.inner.write_char('…')
    }
}

impl<W: fmt::Write> fmt::Write for Escaped<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.find(is_unprintable) {
            self.put(&rest[..at])?;
            let character = rest[at..].chars().next().unwrap_or_default();
            for piece in character.escape_default() {
                self.put(piece.encode_utf8(&mut [0; 4]))?;
            }
            rest = &rest[at + character.len_utf8()..];
        }
        self.put(rest)
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    #[test]
    fn printable_text_is_one_short_line() {
        let check = |text: &str, limit, expected: &str| {
            assert_eq!(printable(text, limit), expected, "{text:?}")
        };
        check("plain", 80, "plain");
        check("  two\r\n\tlines \n", 80, "two lines");
        check("\u{1b}[31mred\u{1b}[0m\u{7}", 80, "[31mred[0m");
        check("abc\u{202e}def\u{200b}", 80, "abcdef");
        check("Grüße 🦀", 80, "Grüße 🦀");
        check("abcdef", 6, "abcdef");
        check("abcdefg", 6, "abcde…");
        check("", 0, "");
        check("x", 0, "…");
    }

    #[test]
    fn escaped_text_loses_nothing_but_its_tail() {
        let check = |text: &str, limit, expected: &str| {
            let mut out = String::new();
            Escaped::new(&mut out, limit).write_str(text).unwrap_or_default();
            assert_eq!(out, expected, "{text:?}");
        };
        check("a\nb\u{1b}[m", 80, "a\\nb\\u{1b}[m");
        check("Grüße", 80, "Grüße");
        check("aaaaüü", 5, "aaaa…");
        check("", 0, "");
    }
}
