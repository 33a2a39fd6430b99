//! Reads the parameters of a GraphQL request, checking their types before anything is made of them
//! (GraphQL over HTTP, "Request Parameters").

use serde_json::{Map, Value};

use crate::graphql::Params;

/// Parameters from a JSON object, as POST bodies and WebSocket messages have it.
///
/// # Errors
/// Which parameter has the wrong type, for people.
pub fn from_json(object: &Map<String, Value>) -> Result<Params, String> {
    let query = match object.get("query") {
        Some(Value::String(query)) => query.clone(),
        None | Some(Value::Null) => return Err("query is missing".to_owned()),
        Some(_) => return Err("query has to be a string".to_owned()),
    };
    let operation_name = match object.get("operationName") {
        Some(Value::String(name)) => Some(name.clone()),
        None | Some(Value::Null) => None,
        Some(_) => return Err("operationName has to be a string".to_owned()),
    };
    let variables = optional_object(object.get("variables"), "variables")?;
    optional_object(object.get("extensions"), "extensions")?;
    Ok(Params { query, operation_name, variables })
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
            "query" | "operationName" => Value::String(value.into_owned()),
            "variables" | "extensions" => {
                serde_json::from_str(&value).map_err(|_| format!("{name} has to be JSON"))?
            }
            _ => continue,
        };
        object.insert(name.into_owned(), value);
    }
    from_json(&object)
}

fn optional_object(value: Option<&Value>, name: &str) -> Result<Option<Map<String, Value>>, String> {
    match value {
        Some(Value::Object(object)) => Ok(Some(object.clone())),
        None | Some(Value::Null) => Ok(None),
        Some(_) => Err(format!("{name} has to be an object")),
    }
}
