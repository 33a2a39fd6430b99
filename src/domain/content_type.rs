//! What bytes are: told from the bytes, and from what was declared only where bytes cannot tell.

use crate::blob::MediaType;

/// What was found of bytes, against what was declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// They are of this media type.
    Is(String),
    /// They are not what was declared; what they look like, if anything.
    Contradicts(Option<&'static str>),
}

/// Families whose members have signatures, so that a wrong declaration can be told.
const FAMILIES: [&str; 3] = ["image/", "audio/", "video/"];

/// Members of those families without a signature at the start that `infer` knows.
const WITHOUT_SIGNATURE: [&str; 2] = ["image/svg+xml", "audio/mpeg"];

/// Containers that hold more specific types: what is declared of them is believed.
const CONTAINERS: [&str; 5] =
    ["application/zip", "application/gzip", "text/xml", "text/html", "application/x-ole-storage"];

/// Two names for one format, or for one container with and without pictures.
const SAME: [(&str, &str); 12] = [
    ("image/jpg", "image/jpeg"),
    ("image/pjpeg", "image/jpeg"),
    ("image/x-icon", "image/vnd.microsoft.icon"),
    ("image/heic", "image/heif"),
    ("image/x-ms-bmp", "image/bmp"),
    ("audio/mp3", "audio/mpeg"),
    ("audio/wav", "audio/x-wav"),
    ("audio/flac", "audio/x-flac"),
    ("audio/mp4", "audio/m4a"),
    ("audio/mp4", "video/mp4"),
    ("audio/webm", "video/webm"),
    ("video/x-matroska", "video/webm"),
];

/// Tells the media type of a file from its first bytes, what was declared of it, and its name.
#[must_use]
pub fn judge(head: &[u8], declared: Option<&str>, filename: &str) -> Verdict {
    let sniffed = infer::get(head).map(|kind| kind.mime_type());
    // An earlier release may have let in what is none.
    let Some(declared) = declared.and_then(MediaType::parse) else {
        return Verdict::Is(undeclared(head, sniffed, filename));
    };
    let essence = declared.essence();
    if is_media(essence) {
        let fits = match sniffed {
            _ if essence == "image/svg+xml" => looks_like_svg(head),
            Some(sniffed) => same(essence, sniffed),
            None => WITHOUT_SIGNATURE.contains(&essence) || !has_signature(essence),
        };
        return if fits { Verdict::Is(declared.to_string()) } else { Verdict::Contradicts(sniffed) };
    }
    match sniffed {
        // What is declared can be a kind of what was found, such as a document that is a ZIP archive.
        Some(sniffed) if is_media(sniffed) => Verdict::Is(sniffed.to_owned()),
        _ => Verdict::Is(declared.to_string()),
    }
}

/// Whether bytes of a type are meant to be read as text.
#[must_use]
pub fn is_textual(media_type: &str) -> bool {
    let known = [
        "application/json",
        "application/xml",
        "application/javascript",
        "application/ecmascript",
        "application/yaml",
        "application/x-yaml",
        "application/toml",
        "application/x-sh",
        "application/sql",
        "application/graphql",
        "application/x-ndjson",
    ];
    let essence = essence(media_type);
    let structured = ["+json", "+xml", "+yaml"].iter().any(|suffix| essence.ends_with(suffix));
    essence.starts_with("text/") || structured || known.contains(&essence.as_str())
}

fn undeclared(head: &[u8], sniffed: Option<&'static str>, filename: &str) -> String {
    let named = mime_guess::from_path(filename).first_raw();
    match (sniffed, named) {
        (Some(sniffed), Some(named)) if CONTAINERS.contains(&sniffed) && !is_media(named) => named.to_owned(),
        (Some(_) | None, Some("image/svg+xml")) if looks_like_svg(head) => "image/svg+xml".to_owned(),
        (Some(sniffed), _) => sniffed.to_owned(),
        // A name alone does not make an image.
        (None, Some(named)) if !is_media(named) => named.to_owned(),
        (None, _) if is_text(head) => "text/plain".to_owned(),
        (None, _) => "application/octet-stream".to_owned(),
    }
}

/// A media type without its parameters, in lower case.
#[must_use]
pub fn essence(media_type: &str) -> String {
    media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn is_media(essence: &str) -> bool {
    FAMILIES.iter().any(|family| essence.starts_with(family))
}

fn same(declared: &str, sniffed: &str) -> bool {
    let equal = |pair: &(&str, &str)| *pair == (declared, sniffed) || *pair == (sniffed, declared);
    let ogg = |text: &str| text.ends_with("/ogg") || text.ends_with("/opus");
    declared == sniffed || SAME.iter().any(equal) || (ogg(declared) && ogg(sniffed))
}

/// Whether `infer` would have known the type if the bytes were of it.
fn has_signature(essence: &str) -> bool {
    let known = [
        "image/jpeg",
        "image/png",
        "image/gif",
        "image/webp",
        "image/avif",
        "image/bmp",
        "image/tiff",
        "image/heif",
        "image/vnd.microsoft.icon",
        "image/jxl",
        "audio/x-wav",
        "audio/x-flac",
        "audio/ogg",
        "audio/m4a",
        "audio/midi",
        "audio/aac",
        "video/mp4",
        "video/webm",
        "video/quicktime",
        "video/ogg",
    ];
    known.iter().any(|known| same(essence, known))
}

fn looks_like_svg(head: &[u8]) -> bool {
    let text = String::from_utf8_lossy(head);
    is_text(head)
        && text.trim_start_matches('\u{feff}').trim_start().starts_with('<')
        && text.contains("<svg")
}

/// Whether the first bytes of a file are UTF-8 text; the cut may be inside a character.
fn is_text(head: &[u8]) -> bool {
    let valid = match std::str::from_utf8(head) {
        Ok(_) => true,
        Err(error) => error.error_len().is_none() && head.len() >= 4,
    };
    valid && !head.contains(&0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";
    const ZIP: &[u8] = b"PK\x03\x04\x14\0\0\0";

    fn is(head: &[u8], declared: Option<&str>, filename: &str) -> String {
        match judge(head, declared, filename) {
            Verdict::Is(media_type) => media_type,
            Verdict::Contradicts(found) => format!("contradicts: {found:?}"),
        }
    }

    #[test]
    fn bytes_tell_where_they_can() {
        assert_eq!(is(PNG, None, "x"), "image/png");
        assert_eq!(is(PNG, Some("image/png"), "x"), "image/png");
        assert_eq!(is(PNG, Some("text/plain"), "x"), "image/png");
        assert_eq!(is(b"body {}", None, "a.css"), "text/css");
        assert_eq!(
            is(b"a", Some("text/plain;,text/html"), "x"),
            "text/plain",
            "no media type is none declared"
        );
        assert_eq!(is(b"a", Some("Text/X; A=\"b\""), "x"), "text/x; a=b");
        assert_eq!(is("grüße".as_bytes(), None, "x"), "text/plain");
        assert_eq!(is(b"\0\x01\x02", None, "x"), "application/octet-stream");
        assert_eq!(is(b"hello", None, "fake.png"), "text/plain");
        assert_eq!(is(ZIP, Some("application/epub+zip"), "x"), "application/epub+zip");
        assert_eq!(is(b"<svg xmlns='x'/>", None, "a.svg"), "image/svg+xml");
    }

    #[test]
    fn a_declared_image_sound_or_film_that_is_none_is_found_out() {
        assert_eq!(is(PNG, Some("image/jpeg"), "x"), "contradicts: Some(\"image/png\")");
        assert_eq!(is(b"hello", Some("image/png"), "x"), "contradicts: None");
        assert_eq!(is(b"hello", Some("image/svg+xml"), "x"), "contradicts: None");
        assert_eq!(is(PNG, Some("video/mp4"), "x"), "contradicts: Some(\"image/png\")");
        assert_eq!(is(b"", Some("image/png"), "x"), "contradicts: None");
        assert_eq!(is(b"\xff\xd8\xff\xe0", Some("image/jpg"), "x"), "image/jpg");
    }
}
