//! What messages of clients say.

use serde_json::{Map, Value};

use super::Close;

/// The id of an operation.
///
/// # Errors
/// When there is none.
pub fn operation_id(message: &Map<String, Value>) -> Result<String, Close> {
    match message.get("id") {
        Some(Value::String(id)) if !id.is_empty() => Ok(id.clone()),
        _ => Err(Close::new(4400, "Invalid message: id has to be a text that is not empty")),
    }
}

/// What `connection_init` says of who connects: `Authorization`, in any case, there or among `headers`.
pub fn authorization_in(payload: &Map<String, Value>) -> Option<&str> {
    let nested = payload.get("headers").and_then(Value::as_object);
    let mut entries = payload.iter().chain(nested.into_iter().flatten());
    let (_, value) = entries.find(|(name, _)| name.eq_ignore_ascii_case("authorization"))?;
    value.as_str()
}

/// The longest beginning of `text` that has at most `bytes` bytes.
pub fn truncate(text: &str, bytes: usize) -> &str {
    text.char_indices()
        .map(|(start, c)| start + c.len_utf8())
        .take_while(|end| *end <= bytes)
        .last()
        .map_or("", |end| &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_close_reason_is_cut_between_characters() {
        assert_eq!(truncate("aéé", 4), "aé");
        assert_eq!(truncate("abc", 10), "abc");
        assert_eq!(truncate("é", 1), "");
    }

    #[test]
    fn authorization_is_found_in_any_case() {
        let object = |value: Value| value.as_object().cloned().expect("an object");
        assert_eq!(authorization_in(&object(json!({"authorization": "Bearer x"}))), Some("Bearer x"));
        assert_eq!(
            authorization_in(&object(json!({"headers": {"Authorization": "Bearer y"}}))),
            Some("Bearer y")
        );
        assert_eq!(authorization_in(&object(json!({"token": "z"}))), None);
    }
}
