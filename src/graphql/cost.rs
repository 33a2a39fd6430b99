//! What an operation may cost: how many fields it may come to, those of a page as often as the page is long, and what is
//! looked at for it beyond what it answers with.
//!
//! Each fragment is measured once, so it is linear in the document. What a page multiplies is known only where the field
//! of the connection is; so a measure has parts: what is there once, what is there for each node of a page, and what the
//! database is asked for all nodes together.

use std::collections::HashMap;

use apollo_compiler::ast::Value;
use apollo_compiler::executable::{ExecutableDocument, Field, Operation, Selection, SelectionSet};
use apollo_compiler::{Name, Node};
use async_graphql::Variables;

use super::Refusal;
use crate::domain::page::{DEFAULT_PAGE, MAX_PAGE};

/// The refusal of what costs more than `max`.
pub fn refusal(max: u64) -> Refusal {
    let message = format!(
        "the operation may cost more than {max}: ask for shorter pages, for less of each, or for fewer counts and filters"
    );
    Refusal::new(message, "GRAPHQL_VALIDATION_FAILED")
}

/// How long a list is taken for that is no page: ancestors, tags, entries of a mutation.
const LIST: u64 = 10;

/// What a field costs that looks at all that there may be and not at a page of it: `totalCount`, what is found by a filter,
/// and what lies anywhere below a folder. Only plain counts are asked for many folders together.
const LOOK_AT_ALL: u64 = 1000;

/// A cost, saturating: nobody needs to know by how much it is too much.
#[derive(Debug, Default, Clone, Copy)]
struct Cost {
    once: u64,
    a_node: u64,
    /// What is asked of the database once, for however many nodes.
    asked: u64,
}

/// What an operation costs at most with these variables; without them, whatever they are.
pub fn of(document: &ExecutableDocument, operation: &Operation, variables: Option<&Variables>) -> u64 {
    let mut measurer = Measurer { document, variables, fragments: HashMap::new() };
    let cost = measurer.set(&operation.selection_set);
    cost.once.saturating_add(cost.asked)
}

struct Measurer<'a> {
    document: &'a ExecutableDocument,
    variables: Option<&'a Variables>,
    fragments: HashMap<&'a Name, Cost>,
}

impl<'a> Measurer<'a> {
    fn set(&mut self, set: &'a SelectionSet) -> Cost {
        let mut sum = Cost::default();
        let is_page = set.ty.ends_with("Connection");
        for selection in &set.selections {
            let part = match selection {
                Selection::Field(field) => self.field(field, is_page),
                Selection::InlineFragment(fragment) => self.set(&fragment.selection_set),
                Selection::FragmentSpread(spread) => self.fragment(&spread.fragment_name),
            };
            sum.once = sum.once.saturating_add(part.once);
            sum.a_node = sum.a_node.saturating_add(part.a_node);
            sum.asked = sum.asked.saturating_add(part.asked);
        }
        sum
    }

    fn fragment(&mut self, name: &'a Name) -> Cost {
        if let Some(cost) = self.fragments.get(name) {
            return *cost;
        }
        let document = self.document;
        let cost = document.fragments.get(name).map(|fragment| self.set(&fragment.selection_set));
        let cost = cost.unwrap_or_default();
        self.fragments.insert(name, cost);
        cost
    }

    fn field(&mut self, field: &'a Node<Field>, of_page: bool) -> Cost {
        let below = self.set(&field.selection_set);
        if of_page && matches!(field.name.as_str(), "nodes" | "edges") {
            return Cost { once: 1, a_node: below.once, asked: below.asked };
        }
        let is_count = of_page && field.name == "totalCount";
        let looks_at_all = self.is_given(field, "filter")
            || (field.ty().inner_named_type() == "AssetConnection" && self.is_given(field, "recursive"));
        let alone = if looks_at_all { below.asked.saturating_add(LOOK_AT_ALL) } else { 0 };
        let asked = match (is_count, looks_at_all) {
            (true, _) => LOOK_AT_ALL,
            (_, true) => 0,
            _ => below.asked,
        };
        let nodes = self.page(field);
        let inner = below.once.saturating_add(below.a_node.saturating_mul(nodes)).saturating_add(alone);
        let times = if field.ty().is_list() { self.length(field) } else { 1 };
        Cost { once: inner.saturating_mul(times).saturating_add(1), a_node: 0, asked }
    }

    /// Whether an argument says something, and not null or false.
    fn is_given(&self, field: &Field, name: &str) -> bool {
        match argument(field, name) {
            None | Some(Value::Null | Value::Boolean(false)) => false,
            Some(Value::Variable(name)) => self.variables.is_none_or(|variables| {
                let value = variables.get(name.as_str());
                !matches!(
                    value,
                    None | Some(async_graphql::Value::Null | async_graphql::Value::Boolean(false))
                )
            }),
            Some(_) => true,
        }
    }

    /// How long the page of a connection is.
    fn page(&self, field: &Field) -> u64 {
        let asked = ["first", "last"].into_iter().filter_map(|name| argument(field, name));
        // Null is as if it were left out.
        let longest = asked.filter_map(|value| self.number(value)).max();
        longest.unwrap_or(DEFAULT_PAGE as u64).min(MAX_PAGE as u64)
    }

    /// How long a list is: as the ids that are asked for, if it is made of those.
    fn length(&self, field: &Field) -> u64 {
        match argument(field, "ids") {
            Some(Value::List(ids)) => ids.len() as u64,
            Some(Value::Variable(name)) => match self.variables.map(|variables| variables.get(name.as_str()))
            {
                Some(Some(async_graphql::Value::List(ids))) => ids.len() as u64,
                _ => MAX_PAGE as u64,
            },
            _ => LIST,
        }
    }

    /// A number, none where it is null; what is negative is refused by the field. Of a variable that is not known, the most.
    fn number(&self, value: &Value) -> Option<u64> {
        match value {
            Value::Int(number) => {
                Some(number.try_to_i32().ok().and_then(|number| u64::try_from(number).ok()).unwrap_or(0))
            }
            Value::Variable(name) => match self.variables {
                Some(variables) => match variables.get(name.as_str()) {
                    Some(async_graphql::Value::Number(number)) => Some(number.as_u64().unwrap_or(0)),
                    _ => None,
                },
                None => Some(MAX_PAGE as u64),
            },
            _ => None,
        }
    }
}

fn argument<'a>(field: &'a Field, name: &str) -> Option<&'a Value> {
    field.arguments.iter().find(|argument| argument.name == name).map(|argument| &*argument.value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use apollo_compiler::Schema;
    use serde_json::json;

    fn cost(query: &str, variables: serde_json::Value) -> u64 {
        let schema = Schema::parse_and_validate(super::super::sdl(), "schema").expect("valid");
        let document = ExecutableDocument::parse_and_validate(&schema, query, "query").expect(query);
        let operation = document.operations.get(None).expect("one");
        of(&document, operation, Some(&Variables::from_json(variables)))
    }

    #[test]
    fn pages_multiply_what_is_in_them_and_fragments_count_where_they_are_spread() {
        for (query, expected) in [
            ("{ viewer { role } }", 2),
            ("{ assets(first: 3) { nodes { id path } } }", 2 + 3 * 2),
            ("{ assets { totalCount edges { node { id } } } }", 1000 + 1 + 1 + 1 + 50 * 2),
            ("{ assets(filter: { search: \"x\" }) { nodes { id } } }", 1000 + 2 + 50),
            ("{ root { folders(first: 7) { nodes { assets { totalCount } } } } }", 1000 + 1 + 2 + 7 * 2),
            ("{ root { folders(first: 7) { nodes { assets(recursive: false) { totalCount } } } } }", 1017),
            (
                "{ root { folders(first: 7) { nodes { assets(recursive: true) { totalCount } } } } }",
                1 + 2 + 7 * (2 + 1000 + 1000),
            ),
            (
                "{ assets(last: 4) { ...F } } fragment F on AssetConnection { nodes { id } nodes { path } }",
                1 + 2 + 4 * 2,
            ),
            ("{ assets(first: 10) { nodes { versions(first: 20) { nodes { id } } } } }", 2 + 10 * (2 + 20)),
            ("{ root { ancestors { id } } }", 1 + 1 + 10),
            ("{ nodes(ids: [\"a\", \"b\", \"c\"]) { id } }", 1 + 3),
        ] {
            assert_eq!(cost(query, json!({})), expected, "{query}");
        }
        let query = "query($f: AssetFilter) { root { folders(first: 3) { nodes { assets(filter: $f) { nodes { id } } } } } }";
        assert_eq!(cost(query, json!({ "f": { "search": "x" } })), 1 + 2 + 3 * (2 + 1000 + 50));
        assert_eq!(cost(query, json!({})), 1 + 2 + 3 * (2 + 50), "nothing is filtered");
        let query = "query($n: Int) { assets(first: $n) { nodes { id } } }";
        assert_eq!(cost(query, json!({ "n": 7 })), 2 + 7);
        assert_eq!(cost(query, json!({ "n": 1_000_000 })), 2 + 200, "more is refused");
        assert_eq!(cost(query, json!({ "n": -1 })), 2);
        assert_eq!(cost(query, json!({})), 2 + 50);
        let query = "query($n: Int) { assets(first: $n, last: 200) { nodes { id } } }";
        assert_eq!(cost(query, json!({})), 2 + 200, "first is as if it were left out");
        assert_eq!(cost("{ assets(first: null, last: 200) { nodes { id } } }", json!({})), 2 + 200);
    }

    #[test]
    fn costs_beyond_all_numbers_are_no_fault() {
        let deep = "folders(first: 200) { nodes { ".repeat(12);
        let query = format!("{{ root {{ {deep} id {} }} }}", "} } ".repeat(12));
        assert_eq!(cost(&query, json!({})), u64::MAX);
    }
}
