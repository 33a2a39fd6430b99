//! Reads the parameters of a GraphQL request, checking their types before anything is made of them
//! (GraphQL over HTTP, "Request Parameters").

use serde_json::{Map, Value};

use crate::graphql::Params;

/// Parameters from a JSON object, as POST bodies and WebSocket messages have it.
///
/// # Errors
/// Which parameter has the wrong type, for people.
pub fn from_json(object: &Map<String, Value>) -> Result<Params, String> {
    let query = optional_text(object, "query")?;
    let document_id = optional_text(object, "documentId")?;
    let operation_name = optional_text(object, "operationName")?;
    let variables = optional_object(object.get("variables"), "variables")?;
    let extensions = optional_object(object.get("extensions"), "extensions")?;
    let persisted_hash = match extensions.as_ref().and_then(|extensions| extensions.get("persistedQuery")) {
        None | Some(Value::Null) => None,
        Some(persisted) => match (persisted.get("version"), persisted.get("sha256Hash")) {
            (Some(version), Some(Value::String(hash))) if *version == 1 => Some(hash.clone()),
            _ => return Err("extensions.persistedQuery has to have version 1 and sha256Hash".to_owned()),
        },
    };
    if query.is_none() && document_id.is_none() && persisted_hash.is_none() {
        return Err("query is missing".to_owned());
    }
    Ok(Params { query, document_id, persisted_hash, operation_name, variables })
}

/// Parameters from a query string.
///
/// # Errors
/// Which parameter is missing or is no JSON, for people.
pub fn from_query(query_string: &str) -> Result<Params, String> {
    let mut object = Map::new();
    for (name, value) in url::form_urlencoded::parse(query_string.as_bytes()) {
        let value = match &*name {
            "operationName" | "variables" | "extensions" if value.is_empty() => Value::Null,
            "query" | "documentId" | "operationName" => Value::String(value.into_owned()),
            "variables" | "extensions" => {
                serde_json::from_str(&value).map_err(|_| format!("{name} has to be JSON"))?
            }
            _ => continue,
        };
        object.insert(name.into_owned(), value);
    }
    from_json(&object)
}

fn optional_text(object: &Map<String, Value>, name: &str) -> Result<Option<String>, String> {
    match object.get(name) {
        Some(Value::String(text)) => Ok(Some(text.clone())),
        None | Some(Value::Null) => Ok(None),
        Some(_) => Err(format!("{name} has to be a string")),
    }
}

fn optional_object(value: Option<&Value>, name: &str) -> Result<Option<Map<String, Value>>, String> {
    match value {
        Some(Value::Object(object)) => Ok(Some(object.clone())),
        None | Some(Value::Null) => Ok(None),
        Some(_) => Err(format!("{name} has to be an object")),
    }
}
