//! Names and paths: what input becomes, and what is refused.

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use unicode_normalization::UnicodeNormalization;

use super::error::{Error, Result};

/// Longest name, in bytes of UTF-8.
pub const MAX_NAME_BYTES: usize = 255;
/// Longest path, in bytes of UTF-8.
pub const MAX_PATH_BYTES: usize = 1024;
/// Most segments in a path.
pub const MAX_DEPTH: usize = 32;

/// Where something lies in the tree: names joined by `/`, in NFC; empty for the root.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TreePath(String);

impl TreePath {
    /// Reads a path as people write it: outer white space and superfluous slashes are dropped, and Unicode
    /// becomes NFC. `field` is named when it is refused.
    ///
    /// # Errors
    /// `BAD_USER_INPUT` for a segment that is no name, and for a path that is too long or too deep.
    pub fn parse(input: &str, field: &str) -> Result<Self> {
        // Refused before it is normalised, so that the work is bounded by the limit and not by the input.
        if input.len() > 4 * MAX_PATH_BYTES {
            return Err(too_long(field));
        }
        let mut path = String::with_capacity(input.len());
        let mut depth = 0;
        for segment in input.trim().split('/').filter(|segment| !segment.is_empty()) {
            if depth > 0 {
                path.push('/');
            }
            path.push_str(&normal_name(segment, field)?);
            depth += 1;
        }
        if depth > MAX_DEPTH {
            return Err(Error::bad_input(
                field,
                format!("has {depth} levels; at most {MAX_DEPTH} are allowed"),
            ));
        }
        if path.len() > MAX_PATH_BYTES {
            return Err(too_long(field));
        }
        Ok(Self(path))
    }

    /// Reads the path of something that has a name, which the root has not.
    ///
    /// # Errors
    /// As [`TreePath::parse`], and `BAD_USER_INPUT` for an empty path.
    pub fn parse_named(input: &str, field: &str) -> Result<Self> {
        let path = Self::parse(input, field)?;
        if path.is_root() {
            return Err(Error::bad_input(field, "must not be empty"));
        }
        Ok(path)
    }

    /// The path of a row, which was checked when it was written.
    #[must_use]
    pub const fn trusted(path: String) -> Self {
        Self(path)
    }

    /// The root.
    #[must_use]
    pub const fn root() -> Self {
        Self(String::new())
    }

    /// Whether it is the root.
    #[must_use]
    pub const fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Count of segments; 0 for the root.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.segments().count()
    }

    /// The names from the root down.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('/').filter(|segment| !segment.is_empty())
    }

    /// Last segment; empty for the root.
    #[must_use]
    pub fn name(&self) -> &str {
        name_of(&self.0)
    }

    /// The folder that it lies in; the root lies in itself.
    #[must_use]
    pub fn parent(&self) -> Self {
        Self(parent_of(&self.0).to_owned())
    }

    /// This path with one more segment.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        Self(join(&self.0, name))
    }

    /// Whether `other` is this path or lies below it.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        is_within(&other.0, &self.0)
    }
}

impl fmt::Display for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Reads one name. `field` is named when it is refused.
///
/// # Errors
/// `BAD_USER_INPUT` for what is no name.
pub fn parse_name(input: &str, field: &str) -> Result<String> {
    if input.len() > 4 * MAX_NAME_BYTES {
        return Err(name_too_long(field));
    }
    let trimmed = input.trim();
    if trimmed.contains('/') {
        return Err(Error::bad_input(field, "must not contain a slash"));
    }
    normal_name(trimmed, field)
}

/// What stays as it is in the path of a URL (RFC 3986, unreserved characters), and the slash.
const URL_PATH: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// A path as it stands in a URL.
#[must_use]
pub fn percent_encode(path: &str) -> String {
    utf8_percent_encode(path, URL_PATH).to_string()
}

/// Last segment of a path; empty for the root.
#[must_use]
pub fn name_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// Path of the folder that `path` lies in; empty for what lies in the root.
#[must_use]
pub fn parent_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// `name` in the folder at `folder`.
#[must_use]
pub fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

/// The paths of the folders above `path`, from the root down, and `path` itself.
#[must_use]
pub fn lineage_paths(path: &str) -> Vec<String> {
    let mut paths = vec![String::new()];
    paths.extend(path.match_indices('/').map(|(end, _)| path[..end].to_owned()));
    if !path.is_empty() {
        paths.push(path.to_owned());
    }
    paths
}

/// Whether `path` is `folder` or lies below it.
#[must_use]
pub fn is_within(path: &str, folder: &str) -> bool {
    folder.is_empty()
        || path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The half-open range of texts that begin with `folder` and a slash. `0` is the character after `/`.
#[must_use]
pub fn below(folder: &str) -> (String, String) {
    (format!("{folder}/"), format!("{folder}0"))
}

fn normal_name(segment: &str, field: &str) -> Result<String> {
    let name: String = segment.nfc().collect();
    let problem = match name.as_str() {
        "" => "must not be empty",
        "." | ".." => "must not have a segment . or ..",
        name if name.chars().any(char::is_control) => "must not have control characters",
        name if name.contains('\\') => "must not have a backslash",
        name if name.starts_with(char::is_whitespace) || name.ends_with(char::is_whitespace) => {
            "must not have a segment that begins or ends with a space"
        }
        name if name.len() > MAX_NAME_BYTES => return Err(name_too_long(field)),
        _ => return Ok(name),
    };
    Err(Error::bad_input(field, problem))
}

fn name_too_long(field: &str) -> Error {
    Error::bad_input(field, format!("has a segment longer than {MAX_NAME_BYTES} bytes"))
}

fn too_long(field: &str) -> Error {
    Error::bad_input(field, format!("is longer than {MAX_PATH_BYTES} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(input: &str) -> std::result::Result<String, String> {
        TreePath::parse(input, "path").map(|path| path.0).map_err(|error| error.to_string())
    }

    #[test]
    fn forgiving_input_becomes_one_spelling() {
        for (input, path) in [
            ("", ""),
            (" / ", ""),
            ("/images//hero/", "images/hero"),
            ("  images/hero\n", "images/hero"),
            ("cafe\u{301}", "caf\u{e9}"),
            ("a b/100%#?+/v/🦊", "a b/100%#?+/v/🦊"),
        ] {
            assert_eq!(parse(input).as_deref(), Ok(path), "{input:?}");
        }
    }

    #[test]
    fn what_is_no_path_is_refused_naming_the_field() {
        let long = "x".repeat(256);
        let longest = format!("{0}/{0}/{0}/{0}/{0}", "x".repeat(250));
        let deep = "a/".repeat(33);
        let huge = "a/".repeat(1_000_000);
        for input in
            ["a/../b", ".", "a/./b", "a\\b", "a\u{7}b", "a /b", "a/ b", &long, &longest, &deep, &huge]
        {
            let error = parse(input).expect_err(input);
            assert!(error.starts_with("path: "), "{error}");
        }
        assert_eq!(parse(&"a/".repeat(32)).map(|path| path.len()), Ok(63));
    }

    #[test]
    fn a_lineage_runs_from_the_root_to_the_path() {
        assert_eq!(lineage_paths(""), [""]);
        assert_eq!(lineage_paths("a/b/c"), ["", "a", "a/b", "a/b/c"]);
    }

    #[test]
    fn full_width_dots_and_slashes_stay_themselves() {
        assert_eq!(parse("．．／etc").as_deref(), Ok("．．／etc"));
    }

    #[test]
    fn a_range_covers_what_is_below_a_folder_and_nothing_else() {
        let (from, to) = below("a");
        for (path, inside) in
            [("a/b", true), ("a/é", true), ("a", false), ("a!", false), ("ab", false), ("b", false)]
        {
            assert_eq!(from.as_str() <= path && path < to.as_str(), inside, "{path}");
        }
    }
}
