//! Objects in a document have each key once (GraphQL specification, section 5.6.3). The validator checks that for input
//! objects, but not for literals of scalars such as `JSON`, whose last value would count.

use std::collections::HashSet;

use apollo_compiler::Node;
use apollo_compiler::ast::{Argument, Definition, DirectiveList, Document, Selection, Value};

/// Checks the literals of a document.
///
/// # Errors
/// Which key stands twice, for people.
pub fn check(document: &Document) -> Result<(), String> {
    for definition in &document.definitions {
        match definition {
            Definition::OperationDefinition(operation) => {
                directives(&operation.directives)?;
                for variable in &operation.variables {
                    variable.default_value.as_deref().map_or(Ok(()), value)?;
                    directives(&variable.directives)?;
                }
                selections(&operation.selection_set)?;
            }
            Definition::FragmentDefinition(fragment) => {
                directives(&fragment.directives)?;
                selections(&fragment.selection_set)?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn selections(all: &[Selection]) -> Result<(), String> {
    for selection in all {
        match selection {
            Selection::Field(field) => {
                arguments(&field.arguments)?;
                directives(&field.directives)?;
                selections(&field.selection_set)?;
            }
            Selection::InlineFragment(fragment) => {
                directives(&fragment.directives)?;
                selections(&fragment.selection_set)?;
            }
            Selection::FragmentSpread(spread) => directives(&spread.directives)?,
        }
    }
    Ok(())
}

fn directives(all: &DirectiveList) -> Result<(), String> {
    all.iter().try_for_each(|directive| arguments(&directive.arguments))
}

fn arguments(all: &[Node<Argument>]) -> Result<(), String> {
    all.iter().try_for_each(|argument| value(&argument.value))
}

fn value(literal: &Value) -> Result<(), String> {
    match literal {
        Value::List(items) => items.iter().try_for_each(|item| value(item)),
        Value::Object(fields) => {
            let mut keys = HashSet::new();
            fields.iter().try_for_each(|(key, field)| {
                if !keys.insert(key) {
                    return Err(format!("the key {key} stands twice in an object"));
                }
                value(field)
            })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use apollo_compiler::parser::Parser;

    #[test]
    fn a_key_stands_once_wherever_the_object_does() {
        let verdict = |text: &str| check(&Parser::new().parse_ast(text, "request").expect("syntax"));
        for twice in [
            "{ a(x: {b: 1, b: 2}) }",
            "{ a { ... { b(x: [[{c: {d: 1, e: 2, d: 3}}]]) } } }",
            "query($x: JSON = {a: 1, a: 1}) { a(x: $x) }",
            "{ a @skip(if: {a: 1, a: 1}) }",
            "{ ...F } fragment F on Query { a(x: {b: 1, b: 2}) }",
        ] {
            assert!(verdict(twice).is_err(), "{twice}");
        }
        assert_eq!(verdict("{ a(x: {b: {b: 1}, c: [{b: 2}, {b: 3}]}, b: 1) }"), Ok(()));
    }
}
