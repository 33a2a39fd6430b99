//! What readers are told of bytes in headers, by the server or by a store that answers them itself.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What an HTTP header may have in `filename*` (RFC 8187, `attr-char`).
const ATTR_CHAR: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

/// What a browser does with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// Shows it.
    Inline,
    /// Offers to save it.
    Attachment,
}

impl Disposition {
    /// The word in URLs and headers (RFC 6266).
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Inline => "inline",
            Self::Attachment => "attachment",
        }
    }
}

/// Names the file for downloads, and says what a browser is to do with it (RFC 6266).
#[must_use]
pub fn content_disposition(disposition: Disposition, filename: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_graphic() && !matches!(c, '"' | '\\' | '%') || c == ' ' { c } else { '_' }
    };
    let fallback: String = filename.chars().map(plain).collect();
    let encoded = utf8_percent_encode(filename, ATTR_CHAR);
    format!("{}; filename=\"{fallback}\"; filename*=UTF-8''{encoded}", disposition.word())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filenames_of_any_script_survive_in_a_header() {
        assert_eq!(
            content_disposition(Disposition::Inline, "hé\"llo 🦊.png"),
            "inline; filename=\"h__llo _.png\"; filename*=UTF-8''h%C3%A9%22llo%20%F0%9F%A6%8A.png"
        );
    }
}
