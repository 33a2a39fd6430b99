//! Values of variables: only those that an operation declares are made of what a request sends, and only so many.
//!
//! A value takes up to a hundred times as much memory as its text, so what nobody asked for stays text.

use std::cell::Cell;
use std::fmt;

use apollo_compiler::executable::Operation;
use apollo_compiler::response::JsonMap;
use apollo_compiler::response::serde_json_bytes::{ByteString, Map, Value as JsonValue};
use async_graphql::{Name, Value, Variables};
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Deepest nesting of lists and objects in each other.
const MAX_DEPTH: usize = 64;

/// The values of the variables that `operation` declares, of a JSON object, and how many values there are in them.
///
/// # Errors
/// What is wrong with them, for people: more than `most` values, too deep ones, a key that an object has twice.
pub fn declared(given: &RawValue, operation: &Operation, most: usize) -> Result<(JsonMap, usize), String> {
    let left = Cell::new(most);
    let bounds = Bounds { left: &left, most, depth: 0 };
    let mut json = serde_json::Deserializer::from_str(given.get());
    let values = Declared { operation, bounds }.deserialize(&mut json).map_err(|error| plain(&error))?;
    Ok((values, most - left.get()))
}

/// The same values as the executor takes them.
pub fn coerced(values: JsonMap) -> Variables {
    Variables::from_value(object(values))
}

/// What `serde_json` says, without where in the text: clients see variables and no text.
fn plain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or_default().to_owned()
}

fn object(values: JsonMap) -> Value {
    Value::Object(
        values.into_iter().map(|(name, value)| (Name::new(name.as_str()), convert(value))).collect(),
    )
}

fn convert(value: JsonValue) -> Value {
    match value {
        JsonValue::Null => Value::Null,
        JsonValue::Bool(is_so) => Value::Boolean(is_so),
        JsonValue::Number(number) => Value::Number(number),
        JsonValue::String(text) => Value::String(text.as_str().to_owned()),
        JsonValue::Array(values) => Value::List(values.into_iter().map(convert).collect()),
        JsonValue::Object(values) => object(values),
    }
}

/// Reads the variables, and skips those that are not declared.
struct Declared<'a> {
    operation: &'a Operation,
    bounds: Bounds<'a>,
}

impl<'de> DeserializeSeed<'de> for Declared<'_> {
    type Value = JsonMap;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<JsonMap, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Declared<'_> {
    type Value = JsonMap;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("variables as a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<JsonMap, A::Error> {
        let mut values = Map::new();
        while let Some(name) = entries.next_key::<String>()? {
            if self.operation.variables.iter().any(|variable| variable.name.as_str() == name) {
                insert(&mut values, name, &mut entries, self.bounds)?;
            } else {
                entries.next_value::<IgnoredAny>()?;
            }
        }
        Ok(values)
    }
}

/// Reads one value.
#[derive(Clone, Copy)]
struct Bounds<'a> {
    left: &'a Cell<usize>,
    most: usize,
    depth: usize,
}

impl Bounds<'_> {
    fn take<E: serde::de::Error>(&self) -> Result<(), E> {
        let left = self.left.get().checked_sub(1);
        let left = left.ok_or_else(|| E::custom(format!("they have more than {} values", self.most)))?;
        self.left.set(left);
        Ok(())
    }

    fn below<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth == MAX_DEPTH {
            return Err(E::custom(format!("they are nested deeper than {MAX_DEPTH} levels")));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }
}

fn insert<'de, A: MapAccess<'de>>(
    values: &mut JsonMap,
    name: String,
    entries: &mut A,
    bounds: Bounds<'_>,
) -> Result<(), A::Error> {
    let value = entries.next_value_seed(bounds)?;
    if values.contains_key(name.as_str()) {
        return Err(A::Error::custom(format!("the key {name:?} is given twice")));
    }
    values.insert(ByteString::from(name), value);
    Ok(())
}

impl<'de> DeserializeSeed<'de> for Bounds<'_> {
    type Value = JsonValue;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<JsonValue, D::Error> {
        self.take()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Bounds<'_> {
    type Value = JsonValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, is_so: bool) -> Result<JsonValue, E> {
        Ok(JsonValue::Bool(is_so))
    }

    fn visit_i64<E>(self, number: i64) -> Result<JsonValue, E> {
        Ok(JsonValue::Number(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<JsonValue, E> {
        Ok(JsonValue::Number(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<JsonValue, E> {
        Ok(serde_json::Number::from_f64(number).map_or(JsonValue::Null, JsonValue::Number))
    }

    fn visit_str<E>(self, text: &str) -> Result<JsonValue, E> {
        Ok(JsonValue::String(ByteString::from(text)))
    }

    fn visit_string<E>(self, text: String) -> Result<JsonValue, E> {
        Ok(JsonValue::String(ByteString::from(text)))
    }

    fn visit_unit<E>(self) -> Result<JsonValue, E> {
        Ok(JsonValue::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<JsonValue, A::Error> {
        let below = self.below()?;
        let mut values = Vec::new();
        while let Some(value) = items.next_element_seed(below)? {
            values.push(value);
        }
        Ok(JsonValue::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<JsonValue, A::Error> {
        let below = self.below()?;
        let mut values = Map::new();
        while let Some(name) = entries.next_key::<String>()? {
            insert(&mut values, name, &mut entries, below)?;
        }
        Ok(JsonValue::Object(values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use apollo_compiler::{ExecutableDocument, Schema};

    /// What is made of `given` for an operation that declares `$x`.
    fn read(given: &str, most: usize) -> Result<(serde_json::Value, usize), String> {
        let schema = Schema::parse_and_validate("scalar JSON type Query { a(x: JSON): Int }", "schema")
            .expect("valid");
        let query = "query($x: JSON) { a(x: $x) }";
        let document = ExecutableDocument::parse_and_validate(&schema, query, "query").expect("valid");
        let operation = document.operations.get(None).expect("one");
        let given = RawValue::from_string(given.to_owned()).expect("JSON");
        let (values, count) = declared(&given, operation, most)?;
        Ok((coerced(values).into_value().into_json().expect("JSON"), count))
    }

    #[test]
    fn only_what_is_declared_is_made_into_values() {
        let x = serde_json::json!({ "x": { "a": [1, -2, 0.5, true, null, "é\n"], "b": {} } });
        let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
        let given = format!("{{ \"y\": {deep}, \"x\": {}, \"z\": {{ \"a\": 1, \"a\": 2 }} }}", x["x"]);
        assert_eq!(read(&given, 9), Ok((x, 9)));
        assert_eq!(read("{}", 0), Ok((serde_json::json!({}), 0)));
    }

    #[test]
    fn number_depth_and_keys_of_values_are_bounded() {
        let deep = |levels: usize| format!("{{ \"x\": {}{} }}", "[".repeat(levels), "]".repeat(levels));
        assert!(read(&deep(MAX_DEPTH), 1000).is_ok());
        for (given, told) in [
            ("{ \"x\": [1, 2, 3] }", "they have more than 3 values"),
            ("{ \"x\": { \"a\": 1, \"a\": 2 } }", "the key \"a\" is given twice"),
            ("{ \"x\": 1, \"x\": 2 }", "the key \"x\" is given twice"),
        ] {
            assert_eq!(read(given, 3).expect_err(given), told);
        }
        let told = read(&deep(MAX_DEPTH + 1), 1000).expect_err("it is too deep");
        assert_eq!(told, "they are nested deeper than 64 levels");
    }
}
