//! What commands print: names of other people's are among it, and a terminal obeys control characters.

use std::io::Write as _;

/// Prints a line, or several.
///
/// # Errors
/// When nobody listens.
pub fn say(text: &str) -> std::io::Result<()> {
    writeln!(std::io::stdout(), "{}", escaped(text, false))
}

/// Prints a line beside the output.
pub fn note(text: &str) {
    // Nobody may be listening.
    let _ = writeln!(std::io::stderr(), "{}", escaped(text, false));
}

/// A name or a path on one line.
#[must_use]
pub fn name(text: &str) -> String {
    escaped(text, true)
}

/// The same text with its control characters, and those that turn the direction of writing, as escapes.
fn escaped(text: &str, with_lines: bool) -> String {
    let turns =
        |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let is_harmful = |c: char| (c.is_control() && (with_lines || c != '\n')) || turns(c);
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_harmful(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_told_nothing() {
        assert_eq!(name("Grüße 🦊"), "Grüße 🦊");
        assert_eq!(name("a\u{1b}[2J\r\n\u{9b}1m\u{202e}"), "a\\u{1b}[2J\\r\\n\\u{9b}1m\\u{202e}");
        assert_eq!(escaped("a\n\tb\u{7}", false), "a\n\\tb\\u{7}");
    }
}
