//! Free text and metadata: what is stored, and what is refused.

use serde_json::Value;

use super::error::{Error, Result};

/// Longest title, label, alternative text or tag, in bytes of UTF-8.
const MAX_TEXT_BYTES: usize = 4096;
/// Most tags on an asset.
const MAX_TAGS: usize = 100;
/// Longest tag, in bytes of UTF-8.
const MAX_TAG_BYTES: usize = 255;
/// Longest metadata, in bytes of JSON.
const MAX_METADATA_BYTES: usize = 64 * 1024;

/// Checks free text. Outer white space is dropped.
///
/// # Errors
/// `BAD_USER_INPUT` when it is too long or has a NUL, which PostgreSQL cannot store.
pub fn free_text(input: &str, field: &str) -> Result<String> {
    let text = input.trim();
    if text.len() > MAX_TEXT_BYTES {
        return Err(Error::bad_input(field, format!("is longer than {MAX_TEXT_BYTES} bytes")));
    }
    if text.contains('\0') {
        return Err(Error::bad_input(field, "must not have a NUL character"));
    }
    Ok(text.to_owned())
}

/// Checks free text that must not be empty.
///
/// # Errors
/// As [`free_text`], and when nothing is left.
pub fn title(input: &str, field: &str) -> Result<String> {
    match free_text(input, field)? {
        text if text.is_empty() => Err(Error::bad_input(field, "must not be empty")),
        text => Ok(text),
    }
}

/// Checks tags; one given twice is kept once.
///
/// # Errors
/// `BAD_USER_INPUT` for too many, and for one that is empty or too long.
pub fn tags(input: Vec<String>, field: &str) -> Result<Vec<String>> {
    if input.len() > MAX_TAGS {
        return Err(Error::bad_input(
            field,
            format!("has {} tags; at most {MAX_TAGS} are allowed", input.len()),
        ));
    }
    let mut tags = Vec::with_capacity(input.len());
    for tag in input {
        let tag = title(&tag, field)?;
        if tag.len() > MAX_TAG_BYTES {
            return Err(Error::bad_input(field, format!("has a tag longer than {MAX_TAG_BYTES} bytes")));
        }
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    Ok(tags)
}

/// Checks metadata.
///
/// # Errors
/// `BAD_USER_INPUT` when it is not an object, too long, or has a NUL.
pub fn metadata(input: Value, field: &str) -> Result<Value> {
    if !input.is_object() {
        return Err(Error::bad_input(field, "must be a JSON object"));
    }
    let text = input.to_string();
    if text.len() > MAX_METADATA_BYTES {
        return Err(Error::bad_input(field, format!("is longer than {MAX_METADATA_BYTES} bytes of JSON")));
    }
    if has_nul(&input) {
        return Err(Error::bad_input(field, "must not have a NUL character"));
    }
    Ok(input)
}

fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_nul),
        Value::Object(fields) => fields.iter().any(|(name, value)| name.contains('\0') || has_nul(value)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn metadata_is_a_small_object_without_nul() {
        assert!(metadata(json!({"a": [1, "x"]}), "metadata").is_ok());
        for bad in
            [json!([]), json!("x"), json!({"a": ["\0"]}), json!({"a\0": 1}), json!({"a": "x".repeat(70_000)})]
        {
            assert_eq!(metadata(bad, "metadata").expect_err("bad").code(), "BAD_USER_INPUT");
        }
    }

    #[test]
    fn tags_are_kept_once_and_bounded() {
        let given = |tags: &[&str]| tags.iter().map(|tag| (*tag).to_owned()).collect();
        assert_eq!(tags(given(&["a", " b ", "a"]), "tags").expect("tags"), ["a", "b"]);
        assert!(tags(given(&[""]), "tags").is_err());
        assert!(tags(vec!["x".to_owned(); 101], "tags").is_err());
    }
}
