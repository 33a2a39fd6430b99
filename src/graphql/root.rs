//! The root of an operation, flattened: what it selects twice runs once.

use std::collections::HashMap;

use async_graphql::parser::types::{Field, FragmentDefinition, Selection, SelectionSet};
use async_graphql::{Name, Positioned, Value, Variables};

/// The fields of a selection set, fragments spread and equal response keys merged
/// (GraphQL specification, `CollectFields`).
pub struct Flattened<'a> {
    pub fragments: &'a HashMap<Name, Positioned<FragmentDefinition>>,
    pub variables: &'a Variables,
    pub fields: Vec<Positioned<Field>>,
}

impl Flattened<'_> {
    pub fn collect(&mut self, selections: &SelectionSet) {
        for selection in &selections.items {
            if self.is_skipped(&selection.node) {
                continue;
            }
            match &selection.node {
                Selection::Field(field) => self.add(field),
                Selection::InlineFragment(fragment) => self.collect(&fragment.node.selection_set.node),
                Selection::FragmentSpread(spread) => {
                    if let Some(fragment) = self.fragments.get(&spread.node.fragment_name.node) {
                        self.collect(&fragment.node.selection_set.node);
                    }
                }
            }
        }
    }

    fn add(&mut self, field: &Positioned<Field>) {
        let key = field.node.response_key();
        let same = self.fields.iter_mut().find(|other| other.node.response_key().node == key.node);
        if let Some(same) = same {
            same.node.selection_set.node.items.extend(field.node.selection_set.node.items.iter().cloned());
        } else {
            let mut field = field.clone();
            field.node.directives.clear();
            self.fields.push(field);
        }
    }

    fn is_skipped(&self, selection: &Selection) -> bool {
        selection.directives().iter().any(|directive| {
            let Some(skipped_if) = (match directive.node.name.node.as_str() {
                "skip" => Some(true),
                "include" => Some(false),
                _ => None,
            }) else {
                return false;
            };
            let condition = directive.node.get_argument("if").and_then(|value| {
                let known = |name: Name| self.variables.get(&name).cloned().ok_or(());
                value.node.clone().into_const_with(known).ok()
            });
            let condition = condition.map(|value| value == Value::Boolean(true));
            condition == Some(skipped_if)
        })
    }
}
