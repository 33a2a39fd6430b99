//! Media types, parsed by the grammar of RFC 9110, section 8.3.1. A text that browsers could parse differently is not one:
//! some take the last type of a list with commas, for example.

use std::fmt::{self, Write as _};

use mediatype::{MediaType as Parsed, ReadParams as _};

/// Longest media type, in bytes.
const MAX_BYTES: usize = 255;

/// Families whose members browsers play or load, and never run. (`image/` is none: SVG is a document with scripts.)
const INERT_FAMILIES: [&str; 3] = ["audio/", "video/", "font/"];

/// Other types that run no script when a browser opens them: it shows them, or offers to save them.
const INERT: [&str; 73] = [
    "application/epub+zip",
    "application/geo+json",
    "application/gzip",
    "application/java-archive",
    "application/javascript",
    "application/json",
    "application/ld+json",
    "application/manifest+json",
    "application/msword",
    "application/octet-stream",
    "application/pdf",
    "application/pgp-signature",
    "application/postscript",
    "application/rtf",
    "application/sql",
    "application/toml",
    "application/vnd.android.package-archive",
    "application/vnd.apple.mpegurl",
    "application/vnd.debian.binary-package",
    "application/vnd.microsoft.portable-executable",
    "application/vnd.ms-excel",
    "application/vnd.ms-fontobject",
    "application/vnd.ms-powerpoint",
    "application/vnd.oasis.opendocument.presentation",
    "application/vnd.oasis.opendocument.spreadsheet",
    "application/vnd.oasis.opendocument.text",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "application/vnd.rar",
    "application/vnd.sqlite3",
    "application/wasm",
    "application/x-7z-compressed",
    "application/x-apple-diskimage",
    "application/x-bzip2",
    "application/x-debian-package",
    "application/x-gzip",
    "application/x-ndjson",
    "application/x-tar",
    "application/x-xz",
    "application/x-yaml",
    "application/x-zip-compressed",
    "application/yaml",
    "application/zip",
    "application/zstd",
    "image/apng",
    "image/avif",
    "image/bmp",
    "image/gif",
    "image/heic",
    "image/heic-sequence",
    "image/heif",
    "image/heif-sequence",
    "image/jp2",
    "image/jpeg",
    "image/jpg",
    "image/jxl",
    "image/ktx2",
    "image/pjpeg",
    "image/png",
    "image/tiff",
    "image/vnd.adobe.photoshop",
    "image/vnd.microsoft.icon",
    "image/webp",
    "image/x-icon",
    "image/x-ms-bmp",
    "model/gltf+json",
    "model/gltf-binary",
    "text/css",
    "text/csv",
    "text/javascript",
    "text/markdown",
    "text/plain",
];

/// A media type with its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaType {
    essence: String,
    /// Whether it stands for a text that is none.
    is_made_up: bool,
    /// Names in lower case, each once; values without quotes.
    parameters: Vec<(String, String)>,
}

impl MediaType {
    /// What bytes are served as when nothing better is known of them.
    pub const UNKNOWN: &str = "application/octet-stream";

    /// Reads a media type of at most 255 bytes; `None` for anything else, such as a range (`image/*`) or a list.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > MAX_BYTES || !text.chars().all(|c| c.is_ascii_graphic() || c == ' ') {
            return None;
        }
        let parsed = Parsed::parse(text.trim_matches(' ')).ok()?;
        let essence = parsed.essence().to_string().to_ascii_lowercase();
        if essence.contains('*') {
            return None;
        }
        let mut parameters: Vec<(String, String)> = Vec::new();
        for (name, value) in parsed.params() {
            let name = name.as_str().to_ascii_lowercase();
            // Browsers take the first of several, and none that is empty.
            if !value.unquoted_str().is_empty() && parameters.iter().all(|(known, _)| *known != name) {
                parameters.push((name, value.unquoted_str().into_owned()));
            }
        }
        Some(Self { essence, is_made_up: false, parameters })
    }

    /// The type of bytes that a row names; [`MediaType::UNKNOWN`] where an earlier release let in what is none.
    #[must_use]
    pub fn of_stored(text: &str) -> Self {
        let unknown = || Self { essence: Self::UNKNOWN.to_owned(), is_made_up: true, parameters: Vec::new() };
        Self::parse(text).unwrap_or_else(unknown)
    }

    /// The type and subtype in lower case, without parameters.
    #[must_use]
    pub fn essence(&self) -> &str {
        &self.essence
    }

    /// Whether a browser that opens such a file is known to run nothing that is in it.
    #[must_use]
    pub fn is_inert(&self) -> bool {
        let is_of_family = INERT_FAMILIES.iter().any(|family| self.essence.starts_with(family));
        // A copy elsewhere may be labelled as it was then. `video/x+xml` is XML, which browsers run scripts in.
        !self.is_made_up
            && ((is_of_family && !self.essence.contains('+')) || INERT.contains(&self.essence.as_str()))
    }

    /// Whether files of other types are in it.
    #[must_use]
    pub fn has_parts(&self) -> bool {
        ["multipart/", "message/"].iter().any(|family| self.essence.starts_with(family))
    }

    /// The value of a `Content-Type` header. Parameters that need quotes are left out, since not all clients parse quotes;
    /// texts are said to be UTF-8 unless they say otherwise.
    #[must_use]
    pub fn header(&self) -> String {
        let mut header = self.essence.clone();
        let plain = self.parameters.iter().filter(|(_, value)| is_token(value));
        for (name, value) in plain {
            let _ = write!(header, "; {name}={value}");
        }
        let has_charset = self.parameters.iter().any(|(name, value)| name == "charset" && is_token(value));
        if self.essence.starts_with("text/") && !has_charset {
            header.push_str("; charset=utf-8");
        }
        header
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.essence)?;
        for (name, value) in &self.parameters {
            if is_token(value) {
                write!(f, "; {name}={value}")?;
            } else {
                let escaped = value.replace('\\', r"\\").replace('"', "\\\"");
                write!(f, "; {name}=\"{escaped}\"")?;
            }
        }
        Ok(())
    }
}

/// Whether a text can stand without quotes (RFC 9110, section 5.6.2).
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_parses_is_kept_in_one_spelling() {
        for (text, kept, header) in [
            ("image/png", "image/png", "image/png"),
            ("Image/PNG ", "image/png", "image/png"),
            ("text/plain", "text/plain", "text/plain; charset=utf-8"),
            ("text/plain;charset=Latin1", "text/plain; charset=Latin1", "text/plain; charset=Latin1"),
            ("text/html ; Charset=\"utf-8\"", "text/html; charset=utf-8", "text/html; charset=utf-8"),
            ("text/a; x=1; X=2; y=", "text/a; x=1", "text/a; x=1; charset=utf-8"),
            ("audio/mp4; codecs=\"a, b\"", "audio/mp4; codecs=\"a, b\"", "audio/mp4"),
            (
                "text/plain; charset=\"a,text/html\"",
                "text/plain; charset=\"a,text/html\"",
                "text/plain; charset=utf-8",
            ),
            ("a/b; x=\"q\\\"\\\\\"", "a/b; x=\"q\\\"\\\\\"", "a/b"),
        ] {
            let parsed = MediaType::parse(text).expect(text);
            assert_eq!((parsed.to_string().as_str(), parsed.header().as_str()), (kept, header), "{text}");
            assert_eq!(MediaType::parse(&parsed.to_string()), Some(parsed), "{text}");
        }
    }

    #[test]
    fn what_browsers_could_read_in_another_way_is_none() {
        for text in [
            "",
            "image",
            "/png",
            "image/",
            "image/*",
            "*/*",
            "a b/c",
            "a/b/c",
            "text/plain\r\nX: y",
            "text/plain; x=é",
            "text/plain;,text/html",
            "text/plain,text/html",
            "text/plain;x=a,text/html",
            "text/plain; x",
            "text/plain;;x=y",
            "text/plain; x = y",
            "text/plain; x=\"",
            "text/plain; x=\"a\"b",
            "text/plain x=y",
            "text/plain\thtml",
            "text/plain\u{b}",
            "text/html(comment)",
            "text/pl\0ain",
            "text/plain; x={}",
        ] {
            assert_eq!(MediaType::parse(text), None, "{text:?}");
        }
        assert_eq!(MediaType::parse(&format!("text/{}", "x".repeat(300))), None);
    }

    #[test]
    fn only_what_is_known_to_run_nothing_is_inert() {
        assert!(INERT.is_sorted());
        let is_inert = |text: &str| MediaType::parse(text).expect(text).is_inert();
        for text in [
            "image/png",
            "IMAGE/JPEG; x=y",
            "audio/x-new",
            "video/mp4",
            "font/woff2",
            "application/pdf",
            "text/plain",
        ] {
            assert!(is_inert(text), "{text}");
        }
        for text in [
            "image/svg+xml",
            "text/html",
            "text/xml",
            "text/xsl",
            "application/xhtml+xml",
            "application/atom+xml",
            "multipart/x-mixed-replace",
            "message/rfc822",
            "application/x-unheard-of",
            "video/x+xml",
            "image/new",
            "unknown/unknown",
        ] {
            assert!(!is_inert(text), "{text}");
        }
    }
}
