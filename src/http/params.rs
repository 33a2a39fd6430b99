//! Reads the parameters of a GraphQL request, checking their types before anything is made of them
//! (GraphQL over HTTP, "Request Parameters"). Values stay text: `graphql/variables.rs` reads those that are needed.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::graphql::Params;

/// A request as JSON, of which nothing is read yet but what its parts are called.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Parts<'a> {
    #[serde(borrow)]
    query: Option<&'a RawValue>,
    #[serde(borrow)]
    document_id: Option<&'a RawValue>,
    #[serde(borrow)]
    operation_name: Option<&'a RawValue>,
    #[serde(borrow)]
    variables: Option<&'a RawValue>,
    #[serde(borrow)]
    extensions: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Extensions {
    persisted_query: Option<Persisted>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Persisted {
    version: f64,
    sha256_hash: String,
}

/// Parameters from a JSON object, as POST bodies and WebSocket messages have it.
///
/// # Errors
/// What is wrong with it, for people.
pub fn from_json(text: &[u8]) -> Result<Params, String> {
    match text.trim_ascii_start().first() {
        Some(b'{') => {}
        Some(b'[') => return Err("send one operation a request: batches are not taken".to_owned()),
        _ => return Err("the body has to be a JSON object".to_owned()),
    }
    let parts: Parts<'_> = serde_json::from_slice(text).map_err(|error| {
        let error = error.to_string();
        let is_twice = error.starts_with("duplicate field");
        if is_twice { error } else { "the body has to be a JSON object".to_owned() }
    })?;
    parts.read()
}

/// Parameters from a query string.
///
/// # Errors
/// Which parameter is missing or is no JSON, for people.
pub fn from_query(query_string: &str) -> Result<Params, String> {
    let given: Vec<(String, Box<RawValue>)> = url::form_urlencoded::parse(query_string.as_bytes())
        .filter_map(|(name, value)| {
            let value = match &*name {
                "operationName" | "variables" | "extensions" if value.is_empty() => return None,
                "query" | "documentId" | "operationName" => serde_json::value::to_raw_value(&value),
                "variables" | "extensions" => RawValue::from_string(value.into_owned()),
                _ => return None,
            };
            let value = value.map_err(|_| format!("{name} has to be JSON"));
            Some(value.map(|value| (name.into_owned(), value)))
        })
        .collect::<Result<_, _>>()?;
    let mut parts = Parts::default();
    for (name, value) in &given {
        let place = match name.as_str() {
            "query" => &mut parts.query,
            "documentId" => &mut parts.document_id,
            "operationName" => &mut parts.operation_name,
            "variables" => &mut parts.variables,
            _ => &mut parts.extensions,
        };
        if place.replace(value).is_some() {
            return Err(format!("{name} is given more than once"));
        }
    }
    parts.read()
}

impl Parts<'_> {
    fn read(self) -> Result<Params, String> {
        let query = text(self.query, "query")?;
        let document_id = text(self.document_id, "documentId")?;
        let operation_name = text(self.operation_name, "operationName")?;
        let variables = object(self.variables, "variables")?.map(ToOwned::to_owned);
        let extensions = object(self.extensions, "extensions")?;
        let persisted_hash = extensions.map(persisted_hash).transpose()?.flatten();
        if query.is_none() && document_id.is_none() && persisted_hash.is_none() {
            return Err("query is missing".to_owned());
        }
        Ok(Params { query, document_id, persisted_hash, operation_name, variables })
    }
}

fn persisted_hash(extensions: &RawValue) -> Result<Option<String>, String> {
    let wrong = || "extensions.persistedQuery has to have version 1 and sha256Hash".to_owned();
    let extensions: Extensions = serde_json::from_str(extensions.get()).map_err(|_| wrong())?;
    match extensions.persisted_query {
        None => Ok(None),
        Some(Persisted { version: 1.0, sha256_hash }) => Ok(Some(sha256_hash)),
        Some(_) => Err(wrong()),
    }
}

fn text(value: Option<&RawValue>, name: &str) -> Result<Option<String>, String> {
    let text = value.map(|value| serde_json::from_str::<Option<String>>(value.get()));
    text.transpose().map(Option::flatten).map_err(|_| format!("{name} has to be a string"))
}

fn object<'a>(value: Option<&'a RawValue>, name: &str) -> Result<Option<&'a RawValue>, String> {
    match value {
        Some(value) if value.get().starts_with('{') => Ok(Some(value)),
        None => Ok(None),
        Some(_) => Err(format!("{name} has to be an object")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_parameter_has_its_type_and_stands_once() {
        let told = |text: &str| from_json(text.as_bytes()).expect_err(text);
        for (text, expected) in [
            ("", "the body has to be a JSON object"),
            ("1", "the body has to be a JSON object"),
            ("{\"query\":", "the body has to be a JSON object"),
            ("{} x", "the body has to be a JSON object"),
            (" [{}]", "send one operation a request: batches are not taken"),
            ("{}", "query is missing"),
            ("{\"query\":1}", "query has to be a string"),
            ("{\"query\":\"{a}\",\"operationName\":[]}", "operationName has to be a string"),
            ("{\"query\":\"{a}\",\"variables\":[]}", "variables has to be an object"),
            ("{\"query\":\"{a}\",\"extensions\":\"\"}", "extensions has to be an object"),
        ] {
            assert_eq!(told(text), expected, "{text}");
        }
        assert!(told("{\"query\":\"{a}\",\"query\":\"{b}\"}").starts_with("duplicate field"));
        assert_eq!(from_query("query=a&query=b").expect_err("twice"), "query is given more than once");
        let wrong = "extensions.persistedQuery has to have version 1 and sha256Hash";
        for persisted in ["1", "{\"version\":2,\"sha256Hash\":\"a\"}", "{\"version\":1}"] {
            assert_eq!(told(&format!("{{\"extensions\":{{\"persistedQuery\":{persisted}}}}}")), wrong);
        }
    }

    #[test]
    fn variables_stay_text() {
        let text = br#" {"query": "{a}", "variables": {"x": [1, {"y": null}]}, "extensions": {"persistedQuery": null}, "z": {}}"#;
        let params = from_json(text).expect("it can be read");
        assert_eq!(params.query.as_deref(), Some("{a}"));
        assert_eq!(params.variables.expect("variables").get(), r#"{"x": [1, {"y": null}]}"#);
        let params = from_json(br#"{"query": "\u007ba}", "variables": null, "operationName": null}"#)
            .expect("it can be read");
        assert_eq!((params.query.as_deref(), params.variables.is_none()), (Some("{a}"), true));
        let params = from_query("query=%7Ba%7D&variables=%7B%7D&operationName=&x=y").expect("it can be read");
        assert_eq!((params.operation_name, params.variables.expect("variables").get()), (None, "{}"));
    }
}
