//! Bounds a document before anything expands it.
//!
//! Validators visit a fragment at each of its spreads, so a kilobyte of fragments that spread each other costs
//! minutes. Here each fragment is measured once and the measures are added up: linear in the document.

use std::collections::HashMap;

use apollo_compiler::ast::{Definition, Document, FragmentDefinition, Selection};
use apollo_compiler::{Name, Node};

use crate::config::Graphql as Limits;

/// Fields of introspection that lead from a type to many others; nested in each other they multiply.
const INTROSPECTION_LISTS: [&str; 4] = ["fields", "inputFields", "interfaces", "possibleTypes"];
/// Deepest nesting of those, as graphql-js has it.
const MAX_INTROSPECTION: usize = 3;

/// How much a selection set comes to once its fragments are spread.
#[derive(Debug, Default, Clone, Copy)]
struct Measure {
    fields: usize,
    root_fields: usize,
    depth: usize,
    aliases: usize,
    directives: usize,
    introspection: usize,
    /// Whether the schema is asked for at the root.
    asks_for_schema: bool,
}

/// Checks the bounds.
///
/// # Errors
/// Which bound the document exceeds, for people.
pub fn check(document: &Document, limits: &Limits) -> Result<(), String> {
    if document.definitions.len() > limits.max_definitions {
        return Err(format!("the document has more than {} definitions", limits.max_definitions));
    }
    let fragments = document.definitions.iter().filter_map(|definition| match definition {
        Definition::FragmentDefinition(fragment) => Some((&fragment.name, fragment)),
        _ => None,
    });
    let mut measurer = Measurer { fragments: fragments.collect(), measured: HashMap::new() };
    let mut all = 0_usize;
    for definition in &document.definitions {
        if let Definition::OperationDefinition(operation) = definition {
            let mut measure = measurer.measure(&operation.selection_set)?;
            measure.directives = measure.directives.saturating_add(operation.directives.len());
            // A validator looks at a fragment once for each operation.
            all = all.saturating_add(measure.fields);
            measure.fields = all;
            check_measure(measure, limits)?;
        }
    }
    Ok(())
}

fn directives_of(selection: &Selection) -> usize {
    match selection {
        Selection::Field(field) => field.directives.len(),
        Selection::InlineFragment(fragment) => fragment.directives.len(),
        Selection::FragmentSpread(spread) => spread.directives.len(),
    }
}

fn check_measure(measure: Measure, limits: &Limits) -> Result<(), String> {
    if measure.asks_for_schema && !limits.introspection {
        return Err("this server does not tell its schema".to_owned());
    }
    let bounds = [
        (measure.depth, limits.max_depth, "levels"),
        (measure.root_fields, limits.max_root_fields, "fields at its root"),
        (measure.fields, limits.max_fields, "fields"),
        (measure.aliases, limits.max_aliases, "aliases"),
        (measure.directives, limits.max_directives, "directives"),
        (measure.introspection, MAX_INTROSPECTION, "lists of types in each other"),
    ];
    match bounds.into_iter().find(|(is, max, _)| is > max) {
        Some((_, max, what)) => {
            Err(format!("the operation has more than {max} {what}, with its fragments spread"))
        }
        None => Ok(()),
    }
}

struct Measurer<'a> {
    fragments: HashMap<&'a Name, &'a Node<FragmentDefinition>>,
    /// None while a fragment is being measured: meeting it again is a cycle.
    measured: HashMap<&'a Name, Option<Measure>>,
}

impl<'a> Measurer<'a> {
    fn measure(&mut self, selections: &'a [Selection]) -> Result<Measure, String> {
        let mut sum = Measure::default();
        for selection in selections {
            let part = match selection {
                Selection::Field(field) => {
                    let below = self.measure(&field.selection_set)?;
                    Measure {
                        fields: below.fields.saturating_add(1),
                        root_fields: 1,
                        depth: below.depth + 1,
                        aliases: below.aliases.saturating_add(usize::from(field.alias.is_some())),
                        directives: below.directives,
                        introspection: below.introspection
                            + usize::from(INTROSPECTION_LISTS.contains(&field.name.as_str())),
                        asks_for_schema: matches!(field.name.as_str(), "__schema" | "__type"),
                    }
                }
                Selection::InlineFragment(fragment) => self.measure(&fragment.selection_set)?,
                Selection::FragmentSpread(spread) => self.measure_fragment(&spread.fragment_name)?,
            };
            sum.fields = sum.fields.saturating_add(part.fields);
            sum.root_fields = sum.root_fields.saturating_add(part.root_fields);
            sum.depth = sum.depth.max(part.depth);
            let directives = part.directives.saturating_add(directives_of(selection));
            sum.aliases = sum.aliases.saturating_add(part.aliases);
            sum.directives = sum.directives.saturating_add(directives);
            sum.introspection = sum.introspection.max(part.introspection);
            sum.asks_for_schema |= part.asks_for_schema;
        }
        Ok(sum)
    }

    fn measure_fragment(&mut self, name: &'a Name) -> Result<Measure, String> {
        match self.measured.get(name) {
            Some(Some(measure)) => return Ok(*measure),
            Some(None) => return Err(format!("the fragment {name} spreads itself")),
            None => {}
        }
        // An unknown fragment is the validator's to refuse.
        let Some(fragment) = self.fragments.get(name).copied() else {
            return Ok(Measure::default());
        };
        self.measured.insert(name, None);
        let mut measure = self.measure(&fragment.selection_set)?;
        measure.depth += 1;
        self.measured.insert(name, Some(measure));
        Ok(measure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Flags};
    use apollo_compiler::parser::Parser;
    use std::fmt::Write as _;

    fn verdict(text: &str) -> Result<(), String> {
        let limits = Config::load(None, &Flags::default()).expect("defaults").graphql;
        check(&Parser::new().parse_ast(text, "request").expect("syntax"), &limits)
    }

    #[test]
    fn fragments_that_spread_each_other_are_refused_at_once() {
        let mut bomb = String::from("query { ...f0 }");
        for level in 0..20 {
            let spreads = format!("...f{} ", level + 1).repeat(10);
            let _ = write!(bomb, " fragment f{level} on Query {{ {spreads} }}");
        }
        bomb.push_str(" fragment f20 on Query { __typename }");
        assert!(verdict(&bomb).is_err());
    }

    #[test]
    fn cycles_depth_and_width_are_bounded() {
        assert!(verdict("{ ...a } fragment a on Query { ...b } fragment b on Query { ...a }").is_err());
        assert!(verdict(&format!("{}x{}", "{a".repeat(25), "}".repeat(25))).is_err());
        let wide: String = (0..101).map(|n| format!(" a{n}: x")).collect();
        assert!(verdict(&format!("{{{wide}}}")).is_err());
        assert!(verdict("{ root { path } ...f } fragment f on Query { viewer { role } }").is_ok());
        let to_and_fro = "possibleTypes { interfaces { ".repeat(3);
        assert!(
            verdict(&format!("{{ __type(name: \"Node\") {{ {to_and_fro} name {} }} }}", "}".repeat(6)))
                .is_err()
        );
    }
}
