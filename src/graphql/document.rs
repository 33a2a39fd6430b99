//! From the text of a request to an operation that is ready to execute.
//!
//! async-graphql does not run all validation rules of the specification and reports missing variables only
//! during execution. So apollo-compiler validates documents and coerces variables, and async-graphql executes
//! what passed. Valid documents are kept, so a repeated one costs a look-up.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use apollo_compiler::executable::{Operation as ValidOperation, OperationType, Selection as Selected};
use apollo_compiler::parser::Parser;
use apollo_compiler::schema::ExtendedType;
use apollo_compiler::validation::{DiagnosticList, Valid};
use apollo_compiler::{ExecutableDocument as ValidDocument, Schema as ValidatorSchema, name, request, ty};
use async_graphql::parser::types::{
    DocumentOperations, ExecutableDocument, OperationDefinition, Selection, SelectionSet,
};
use async_graphql::{Name, Positioned, Variables};
use moka::sync::Cache;
use serde_json::json;

use super::root::Flattened;
use super::stored::{Stored, Trusted};
use super::{Params, cost, guard, literal, variables};
use crate::app::OperationName;
use crate::config::Graphql as Limits;
use crate::domain::actor::{Actor, Role};
use crate::domain::version::Memory;

/// Memory for kept documents, in bytes.
const CACHE_BYTES: u64 = 32 * 1024 * 1024;
/// Bytes that a parsed document takes for each byte of its text, at most: two trees, with short names in them.
const BYTES_A_BYTE: usize = 64;
/// Bytes of memory that one unit of weight stands for.
const UNIT: usize = 512;
/// Bytes that a value of a variable takes, with its copies.
const BYTES_A_VALUE: usize = 1024;

/// What an operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperationKind {
    /// Reads.
    Query,
    /// Writes.
    Mutation,
    /// Watches.
    Subscription,
}

/// An operation that passed validation.
pub struct Operation {
    /// What it does.
    pub kind: OperationKind,
    /// What those have in common who are to be told the same; none when nobody else can be.
    pub(super) shared: Option<Arc<str>>,
    /// What it is called.
    pub(super) name: Option<String>,
    /// What it costs at most; where that is little, what it costs whatever its variables are.
    pub(super) cost: u64,
    /// What it may take in memory while it is executed, in units of 512 bytes.
    pub weight: usize,
    document: Arc<Document>,
    variables: Variables,
}

impl Operation {
    /// What it is counted as when `actor` asks for it.
    pub(super) fn name_for(&self, actor: &Actor) -> OperationName<'_> {
        OperationName {
            name: self.name.as_deref().unwrap_or_default(),
            is_strangers: actor.role < Role::Viewer,
        }
    }

    /// A request that executes it.
    pub(super) fn request(&self) -> async_graphql::Request {
        let mut request = async_graphql::Request::new(String::new()).variables(self.variables.clone());
        let document = self.document.executable_for(self.name.as_deref(), self.kind, &self.variables);
        request.set_parsed_query(document);
        request
    }
}

/// Errors of a request that does not begin to execute, as JSON.
#[derive(Debug)]
pub struct Refusal(pub Vec<serde_json::Value>);

impl Refusal {
    /// One error.
    pub fn new(message: impl Into<String>, code: &str) -> Self {
        Self(vec![super::error_json(&message.into(), code)])
    }

    /// Whether the same may be executed later.
    #[must_use]
    pub fn is_for_now(&self) -> bool {
        self.0.iter().any(|error| error["extensions"]["code"] == "RATE_LIMITED")
    }

    fn from_diagnostics(diagnostics: &DiagnosticList, code: &str) -> Self {
        let errors = diagnostics.iter().take(20).map(|diagnostic| {
            let error = diagnostic.to_json();
            let locations: Vec<_> =
                error.locations.iter().map(|at| json!({"line": at.line, "column": at.column})).collect();
            json!({ "message": error.message, "locations": locations, "extensions": { "code": code } })
        });
        Self(errors.collect())
    }
}

/// Parses, bounds and validates documents.
#[derive(Clone)]
pub struct Documents {
    limits: Arc<Limits>,
    stored: Stored,
    schema: Arc<Valid<ValidatorSchema>>,
    kept: Cache<String, Arc<Document>>,
}

/// Counts a document as long as it is in memory: for the client that sent it first.
struct Live {
    bytes: usize,
    _held: Box<dyn Send + Sync>,
}

struct Document {
    valid: Valid<ValidDocument>,
    executable: ExecutableDocument,
    /// Of the operation that was asked for first, which mostly is the only one.
    common: OnceLock<(Option<apollo_compiler::Name>, Option<Common>)>,
    /// The most that one of its operations costs, whatever its variables are.
    most: OnceLock<u64>,
    live: Live,
}

/// What is the same for all who subscribe to an operation, wherever they begin.
#[derive(Clone)]
struct Common {
    /// The document, without where the operation begins.
    text: Arc<str>,
    /// The variable that says where it begins and nothing else.
    start: Option<apollo_compiler::Name>,
}

/// Subscriptions that tell the same to all who have the same rights.
const SHARED: [&str; 3] = ["changes", "asset", "folder"];

impl Documents {
    /// For documents against this SDL, within `limits`.
    pub fn new(sdl: &str, limits: Limits, trusted: Option<Trusted>) -> Self {
        let mut schema = ValidatorSchema::parse(sdl, "schema.graphql").expect("our own SDL parses");
        introspect_one_of(&mut schema);
        let schema = schema.validate().expect("our own SDL is valid");
        let weigh = |text: &String, _: &Arc<Document>| {
            u32::try_from(text.len().saturating_mul(BYTES_A_BYTE)).unwrap_or(u32::MAX)
        };
        let kept = Cache::builder().weigher(weigh).max_capacity(CACHE_BYTES).build();
        let stored = Stored::new(trusted, limits.persisted_queries);
        Self { limits: Arc::new(limits), stored, schema: Arc::new(schema), kept }
    }

    /// Readies the operation that a request names.
    ///
    /// # Errors
    /// Those of the document or of its variables.
    pub fn prepare(&self, params: &Params, memory: &dyn Memory) -> Result<Operation, Refusal> {
        let named = self.stored.find(params)?;
        let document = self.document(&named.text, memory)?;
        if let Some(hash) = named.keep_as {
            self.stored.keep(hash, &named.text);
        }
        let operation = document.valid.operations.get(params.operation_name.as_deref());
        let operation = operation
            .map_err(|error| Refusal::new(error.message().to_string(), "OPERATION_RESOLUTION_FAILURE"))?;
        let kind = match operation.operation_type {
            OperationType::Query => OperationKind::Query,
            OperationType::Mutation => OperationKind::Mutation,
            OperationType::Subscription => OperationKind::Subscription,
        };
        let (variables, values) = self.coerce(operation, params)?;
        let cost = self.check_cost(&document, operation, &variables)?;
        let sent = params.variables.as_ref().map_or(0, |variables| variables.get().len());
        let bytes = document.live.bytes + values * BYTES_A_VALUE + 4 * sent;
        let weight = bytes / UNIT + usize::try_from(cost).unwrap_or(usize::MAX);
        let shared =
            if kind == OperationKind::Subscription { document.shared(operation, &variables) } else { None };
        let name = operation.name.as_ref().map(|name| name.as_str().to_owned());
        Ok(Operation { kind, shared, name, cost, weight, document, variables })
    }

    /// Looks closely only where it may be too much at all.
    fn check_cost(
        &self,
        document: &Document,
        operation: &ValidOperation,
        variables: &Variables,
    ) -> Result<u64, Refusal> {
        let most = document.most.get_or_init(|| {
            document
                .valid
                .operations
                .iter()
                .map(|one| cost::of(&document.valid, one, None))
                .max()
                .unwrap_or(0)
        });
        let limits = &self.limits;
        // Mostly so little that it need not be known exactly.
        if *most <= Ord::min(limits.max_cost, limits.stranger_max_cost) {
            return Ok(*most);
        }
        let cost = cost::of(&document.valid, operation, Some(variables));
        if cost > limits.max_cost { Err(cost::refusal(limits.max_cost)) } else { Ok(cost) }
    }

    fn document(&self, text: &str, memory: &dyn Memory) -> Result<Arc<Document>, Refusal> {
        if let Some(document) = self.kept.get(text) {
            return Ok(document);
        }
        let document = Arc::new(self.parse(text, self.room(text, memory)?)?);
        self.kept.insert(text.to_owned(), Arc::clone(&document));
        Ok(document)
    }

    /// Counts a document that is about to be parsed.
    fn room(&self, text: &str, memory: &dyn Memory) -> Result<Live, Refusal> {
        let bytes = text.len().saturating_mul(BYTES_A_BYTE);
        let counted = memory.hold(bytes as u64).or_else(|_| {
            // The cache lets go of documents a while after it took others.
            self.kept.run_pending_tasks();
            memory.hold(bytes as u64)
        });
        let counted = counted.map_err(|error| Refusal::new(error.to_string(), error.code()))?;
        Ok(Live { bytes, _held: counted })
    }

    fn parse(&self, text: &str, live: Live) -> Result<Document, Refusal> {
        let limits = &*self.limits;
        // What is deeper than this cannot be within the bound; `guard.rs` looks closely.
        let nesting = 2 * limits.max_depth;
        if text.len() > limits.max_document_bytes {
            let message = format!("the document is longer than {} bytes", limits.max_document_bytes);
            return Err(Refusal::new(message, "GRAPHQL_VALIDATION_FAILED"));
        }
        let mut parser = Parser::new().recursion_limit(nesting).token_limit(limits.max_tokens);
        let ast = parser.parse_ast(text.trim_start_matches('\u{feff}'), "request");
        if parser.tokens_reached() >= limits.max_tokens || parser.recursion_reached() >= nesting {
            let message = format!(
                "the document has more than {} tokens, or is nested deeper than {nesting} levels",
                limits.max_tokens
            );
            return Err(Refusal::new(message, "GRAPHQL_VALIDATION_FAILED"));
        }
        let ast = ast.map_err(|bad| Refusal::from_diagnostics(&bad.errors, "GRAPHQL_PARSE_FAILED"))?;
        guard::check(&ast, limits).map_err(|message| Refusal::new(message, "GRAPHQL_VALIDATION_FAILED"))?;
        literal::check(&ast).map_err(|message| Refusal::new(message, "GRAPHQL_VALIDATION_FAILED"))?;
        let valid = ast.to_executable_validate(&self.schema);
        let valid =
            valid.map_err(|bad| Refusal::from_diagnostics(&bad.errors, "GRAPHQL_VALIDATION_FAILED"))?;
        // The text as the validator prints it: async-graphql's own parser does not know every escape. Where it
        // can read the text itself, errors keep the positions that the client sees.
        let executable = async_graphql::parser::parse_query(text)
            .or_else(|_| async_graphql::parser::parse_query(valid.to_string()))
            .map_err(|error| Refusal::new(error.to_string(), "GRAPHQL_PARSE_FAILED"))?;
        Ok(Document { valid, executable, common: OnceLock::new(), most: OnceLock::new(), live })
    }

    fn coerce(
        &self,
        operation: &apollo_compiler::executable::Operation,
        params: &Params,
    ) -> Result<(Variables, usize), Refusal> {
        let given = params.variables.as_deref();
        let given =
            given.map(|given| variables::declared(given, operation, self.limits.max_values)).transpose();
        let (given, count) =
            given.map_err(|problem| refuse_variable(&format!("variables: {problem}")))?.unwrap_or_default();
        let coerced = request::coerce_variable_values(&self.schema, operation, &given);
        let coerced = coerced.map_err(|error| refuse_variable(&error.message().to_string()))?;
        Ok((variables::coerced(coerced.into_inner()), count))
    }
}

/// Lets clients ask `__Type.isOneOf`, which the validator does not know of yet.
fn introspect_one_of(schema: &mut ValidatorSchema) {
    let Some(ExtendedType::Object(object)) = schema.types.get_mut("__Type") else {
        return;
    };
    let fields = &mut object.make_mut().fields;
    let Some(mut field) = fields.get("specifiedByURL").cloned() else {
        return;
    };
    let definition = field.make_mut();
    definition.name = name!("isOneOf");
    definition.ty = ty!(Boolean);
    fields.insert(name!("isOneOf"), field);
}

/// Longest text that a refusal quotes, in characters.
const MAX_QUOTED: usize = 500;

fn refuse_variable(message: &str) -> Refusal {
    Refusal::new(message.chars().take(MAX_QUOTED).collect::<String>(), "BAD_USER_INPUT")
}

impl Document {
    /// Tells subscribers apart: equal for those who are told the same, but for where they begin.
    fn shared(&self, operation: &ValidOperation, variables: &Variables) -> Option<Arc<str>> {
        let (name, common) = self.common.get_or_init(|| (operation.name.clone(), self.common(operation)));
        let common = if *name == operation.name { common.clone() } else { self.common(operation) }?;
        let same = |name: &Name| common.start.as_ref().is_none_or(|start| start.as_str() != name.as_str());
        let variables: BTreeMap<_, _> = variables.iter().filter(|(name, _)| same(name)).collect();
        let variables = serde_json::to_string(&variables).ok()?;
        let name = operation.name.as_ref().map_or("", |name| name.as_str());
        Some(format!("{name}\n{variables}\n{}", common.text).into())
    }

    fn common(&self, operation: &ValidOperation) -> Option<Common> {
        let roots = || operation.root_fields(&self.valid);
        if roots().next().is_none() || roots().any(|field| !SHARED.contains(&field.name.as_str())) {
            return None;
        }
        let mut document = ValidDocument::clone(&self.valid);
        let mut common = document.operations.get(operation.name.as_deref()).ok()?.clone();
        let mut start = None;
        for selection in &mut common.make_mut().selection_set.selections {
            let Selected::Field(field) = selection else { continue };
            field.make_mut().arguments.retain(|argument| {
                if argument.name != "after" {
                    return true;
                }
                start = argument.value.as_variable().cloned();
                false
            });
        }
        document.operations.insert(common.clone());
        let mut text = document.serialize().no_indent().to_string();
        // What is left of it is its definition.
        let start = start.filter(|name| mentions(&text, name) == 1);
        if let Some(start) = &start {
            common.make_mut().variables.retain(|variable| variable.name != *start);
            document.operations.insert(common);
            text = document.serialize().no_indent().to_string();
        }
        Some(Common { text: text.into(), start })
    }

    /// The one operation to execute, with the fragments. The root of a mutation or subscription is flattened:
    /// a field that is selected twice has to run once, and a subscription's field may stand in a fragment.
    fn executable_for(
        &self,
        name: Option<&str>,
        kind: OperationKind,
        variables: &Variables,
    ) -> ExecutableDocument {
        let found = match (&self.executable.operations, name) {
            (DocumentOperations::Single(operation), _) => Some(operation),
            (DocumentOperations::Multiple(operations), Some(name)) => operations.get(name),
            (DocumentOperations::Multiple(operations), None) => operations.values().next(),
        };
        let mut operation: Positioned<OperationDefinition> = found.expect("the validator found it").clone();
        let fragments = self.executable.fragments.clone();
        if kind != OperationKind::Query {
            let mut root = Flattened { fragments: &fragments, variables, fields: Vec::new() };
            root.collect(&operation.node.selection_set.node);
            let pos = operation.node.selection_set.pos;
            let items =
                root.fields.into_iter().map(|field| Positioned::new(Selection::Field(field), pos)).collect();
            operation.node.selection_set = Positioned::new(SelectionSet { items }, pos);
        }
        ExecutableDocument { operations: DocumentOperations::Single(operation), fragments }
    }
}

/// How often a variable stands in a text.
fn mentions(text: &str, variable: &str) -> usize {
    let is_name = |c: char| c == '_' || c.is_ascii_alphanumeric();
    let after_dollar = text.split('$').skip(1);
    after_dollar.filter(|rest| rest.split(|c| !is_name(c)).next() == Some(variable)).count()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::config::{Config, Flags};
    use crate::domain::error::Error;

    fn documents() -> Documents {
        let limits = Config::load(None, &Flags::default()).expect("defaults").graphql;
        Documents::new(&super::super::sdl(), limits, None)
    }

    fn prepare(query: &str, variables: &serde_json::Value) -> Result<Operation, Vec<serde_json::Value>> {
        let documents = documents();
        let variables = serde_json::value::to_raw_value(variables).ok();
        let params = Params { query: Some(query.to_owned()), variables, ..Params::default() };
        documents.prepare(&params, &unbounded()).map_err(|refusal| refusal.0)
    }

    #[test]
    fn bad_documents_and_variables_are_refused_with_their_code() {
        for (query, variables, code) in [
            ("{", json!({}), "GRAPHQL_PARSE_FAILED"),
            ("{ nope }", json!({}), "GRAPHQL_VALIDATION_FAILED"),
            ("query A { __typename } query B { __typename }", json!({}), "OPERATION_RESOLUTION_FAILURE"),
            ("query($p: String!) { asset(path: $p) { id } }", json!({}), "BAD_USER_INPUT"),
            ("query($p: String!) { asset(path: $p) { id } }", json!({"p": 1}), "BAD_USER_INPUT"),
        ] {
            let errors = prepare(query, &variables).err().expect(query);
            assert_eq!(errors[0]["extensions"]["code"], code, "{query}");
        }
    }

    /// Memory for so many bytes.
    struct Bounded(u64, Arc<AtomicU64>);

    struct Held(u64, Arc<AtomicU64>);

    impl Drop for Held {
        fn drop(&mut self) {
            self.1.fetch_sub(self.0, Ordering::Relaxed);
        }
    }

    impl Memory for Bounded {
        fn hold(&self, bytes: u64) -> Result<Box<dyn Send + Sync>, Error> {
            let held = Held(bytes, Arc::clone(&self.1));
            let all = self.1.fetch_add(bytes, Ordering::Relaxed) + bytes;
            if all > self.0 { Err(Error::RateLimited("too much".to_owned())) } else { Ok(Box::new(held)) }
        }
    }

    fn unbounded() -> Bounded {
        Bounded(u64::MAX, Arc::default())
    }

    #[test]
    fn documents_count_as_long_as_they_are_kept_or_in_use() {
        let documents = documents();
        let memory = Bounded(8 * 1024 * 1024, Arc::default());
        let fields = "path ".repeat(2000);
        let prepare = |number: usize| {
            let query = Some(format!("query Q{number} {{ root {{ {fields} }} }}"));
            documents.prepare(&Params { query, ..Params::default() }, &memory)
        };
        let running: Vec<_> = (0..100).map_while(|number| prepare(number).ok()).collect();
        assert!((5..100).contains(&running.len()), "{}", running.len());
        let refused = prepare(1000).err().expect("there is no room");
        assert!(refused.is_for_now(), "{refused:?}");
        drop((running, documents));
        assert_eq!(memory.1.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn the_root_of_a_mutation_is_merged() {
        let query = "mutation($no: Boolean!) { ...F ... @include(if: $no) { b: __typename } a: __typename }
                     fragment F on Mutation { a: __typename c: __typename @skip(if: true) }";
        let documents = documents();
        let document = documents.document(query, &unbounded()).expect("valid");
        let variables = Variables::from_json(json!({"no": false}));
        let executable = document.executable_for(None, OperationKind::Mutation, &variables);
        let (_, operation) = executable.operations.iter().next().expect("one");
        assert_eq!(operation.node.selection_set.node.items.len(), 1);
    }
}
