//! Bounds of GraphQL requests, and which documents are executed at all.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::{ConfigError, in_range};

/// How much a GraphQL request may be and cost, and what it may ask for.
#[derive(Debug, Clone)]
pub struct Graphql {
    /// Longest body, in bytes.
    pub max_body_bytes: usize,
    /// Longest document, in bytes.
    pub max_document_bytes: usize,
    /// Most tokens in a document.
    pub max_tokens: usize,
    /// Deepest nesting of fields and fragments.
    pub max_depth: usize,
    /// Most operations and fragments in a document.
    pub max_definitions: usize,
    /// Most fields of an operation, each fragment counted at each of its spreads.
    pub max_fields: usize,
    /// Most fields at the root of an operation.
    pub max_root_fields: usize,
    /// Most fields with an alias, counted in the same way.
    pub max_aliases: usize,
    /// Most directives, counted in the same way.
    pub max_directives: usize,
    /// Most values in the variables that an operation declares.
    pub max_values: usize,
    /// Most that an operation may cost: its fields, those of lists as often as their pages are long.
    pub max_cost: u64,
    /// The same for who has no role.
    pub stranger_max_cost: u64,
    /// Longest time that one query, mutation or answer of a subscription may take.
    pub timeout: Duration,
    /// Whether clients may ask for the schema.
    pub introspection: bool,
    /// Whether there is a page to explore the API.
    pub explorer: bool,
    /// Whether documents may be named by their hash once they were sent.
    pub persisted_queries: bool,
    /// A file or folder of documents that are executed, and no others; none, all are.
    pub trusted_documents: Option<PathBuf>,
}

/// The section as files and the environment give it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    max_body_bytes: i64,
    max_document_bytes: i64,
    max_tokens: i64,
    max_depth: i64,
    max_definitions: i64,
    max_fields: i64,
    max_root_fields: i64,
    max_aliases: i64,
    max_directives: i64,
    max_values: i64,
    max_cost: i64,
    stranger_max_cost: i64,
    timeout_seconds: i64,
    introspection: bool,
    explorer: bool,
    persisted_queries: bool,
    trusted_documents: PathBuf,
}

impl Raw {
    pub(super) fn check(self) -> Result<Graphql, ConfigError> {
        let count = |name, value, max, allowed| {
            in_range(name, value, 1..=max, allowed).map(|value| usize::try_from(value).unwrap_or(usize::MAX))
        };
        let many = |name, value| count(name, value, 1_000_000, "1 to 1000000");
        let bytes = |name, value| count(name, value, 67_108_864, "1 to 67108864 (64 MiB)");
        let seconds = in_range("graphql.timeout_seconds", self.timeout_seconds, 1..=3600, "1 to 3600")?;
        let cost =
            |name, value| in_range(name, value, 1..=1_000_000_000, "1 to 1000000000").map(i64::unsigned_abs);
        Ok(Graphql {
            max_body_bytes: bytes("graphql.max_body_bytes", self.max_body_bytes)?,
            max_document_bytes: bytes("graphql.max_document_bytes", self.max_document_bytes)?,
            max_tokens: many("graphql.max_tokens", self.max_tokens)?,
            // What is let in has to fit on the stack.
            max_depth: count("graphql.max_depth", self.max_depth, 100, "1 to 100")?,
            max_definitions: many("graphql.max_definitions", self.max_definitions)?,
            max_fields: many("graphql.max_fields", self.max_fields)?,
            max_root_fields: many("graphql.max_root_fields", self.max_root_fields)?,
            max_aliases: many("graphql.max_aliases", self.max_aliases)?,
            max_directives: many("graphql.max_directives", self.max_directives)?,
            max_values: many("graphql.max_values", self.max_values)?,
            max_cost: cost("graphql.max_cost", self.max_cost)?,
            stranger_max_cost: cost("graphql.stranger_max_cost", self.stranger_max_cost)?,
            timeout: Duration::from_secs(seconds.unsigned_abs()),
            introspection: self.introspection,
            explorer: self.explorer,
            persisted_queries: self.persisted_queries,
            trusted_documents: Some(self.trusted_documents).filter(|path| !path.as_os_str().is_empty()),
        })
    }
}
