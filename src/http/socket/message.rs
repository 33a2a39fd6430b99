//! What messages of clients say.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::Close;

/// Longest `type` that a client is told to be unknown, in bytes; the payload of `connection_init`, too.
const MAX_INIT: usize = 64 * 1024;

/// A message, of which nothing is read yet but what its parts are called.
#[derive(Deserialize)]
pub struct ClientMessage<'a> {
    /// What it is.
    #[serde(borrow, rename = "type")]
    pub kind: Cow<'a, str>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
}

impl<'a> ClientMessage<'a> {
    /// Reads a message.
    ///
    /// # Errors
    /// When it is none.
    pub fn read(text: &'a str) -> Result<Self, Close> {
        let object = text.trim_start().starts_with('{');
        let problem = match serde_json::from_str(text) {
            Ok(message) if object => return Ok(message),
            Err(error) if object && error.is_data() => "type is missing, is no text, or a key stands twice",
            _ => "it has to be a JSON object",
        };
        Err(Close::new(4400, format!("Invalid message: {problem}")))
    }

    /// The id of an operation.
    ///
    /// # Errors
    /// When there is none.
    pub fn id(&self) -> Result<String, Close> {
        let id = self.id.and_then(|id| serde_json::from_str::<String>(id.get()).ok());
        id.filter(|id| !id.is_empty())
            .ok_or_else(|| Close::new(4400, "Invalid message: id has to be a text that is not empty"))
    }

    /// The payload, if there is one.
    ///
    /// # Errors
    /// When it is no object.
    pub fn payload(&self) -> Result<Option<&'a RawValue>, Close> {
        match self.payload {
            Some(payload) if payload.get().starts_with('{') => Ok(Some(payload)),
            None => Ok(None),
            Some(_) => Err(Close::new(4400, "Invalid message: payload has to be an object")),
        }
    }
}

/// What the payload of `connection_init` says of who connects: `Authorization`, in any case, there or among `headers`.
pub fn authorization_in(payload: &RawValue) -> Option<String> {
    // What is longer is made for something else.
    let payload = Some(payload.get()).filter(|text| text.len() <= MAX_INIT)?;
    let payload: Map<String, Value> = serde_json::from_str(payload).ok()?;
    let nested = payload.get("headers").and_then(Value::as_object);
    let mut entries = payload.iter().chain(nested.into_iter().flatten());
    let (_, value) = entries.find(|(name, _)| name.eq_ignore_ascii_case("authorization"))?;
    match value {
        Value::Null => None,
        // What is no text is no token: it is refused, and not taken for nobody.
        value => Some(value.as_str().unwrap_or_default().to_owned()),
    }
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

    #[test]
    fn a_close_reason_is_cut_between_characters() {
        assert_eq!(truncate("aéé", 4), "aé");
        assert_eq!(truncate("abc", 10), "abc");
        assert_eq!(truncate("é", 1), "");
    }

    #[test]
    fn authorization_is_found_in_any_case() {
        let found = |text: &str| authorization_in(&RawValue::from_string(text.to_owned()).expect("JSON"));
        assert_eq!(found(r#"{"authorization": "Bearer x"}"#).as_deref(), Some("Bearer x"));
        assert_eq!(found(r#"{"headers": {"Authorization": "Bearer y"}}"#).as_deref(), Some("Bearer y"));
        assert_eq!(found(r#"{"token": "z"}"#), None);
        assert_eq!(found(r#"{"Authorization": null}"#), None);
        assert_eq!(found(r#"{"Authorization": ["Bearer x"]}"#).as_deref(), Some(""));
    }

    #[test]
    fn what_is_no_message_is_told_so() {
        let message =
            ClientMessage::read(r#" {"type": "a\u0062", "id": "1", "payload": {"x": [1]}, "y": 0}"#);
        let message = message.expect("a message");
        assert_eq!((&*message.kind, message.id().ok().as_deref()), ("ab", Some("1")));
        assert_eq!(message.payload().ok().flatten().map(RawValue::get), Some(r#"{"x": [1]}"#));
        for text in
            ["", "[]", "{}", "1", "{\"type\":1}", "{\"type\":\"a\",\"type\":\"b\"}", "{\"type\":\"a\"} x"]
        {
            assert!(matches!(ClientMessage::read(text), Err(Close { code: 4400, .. })), "{text}");
        }
    }
}
