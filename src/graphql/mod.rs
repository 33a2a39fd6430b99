//! The GraphQL edge: the schema over [`crate::domain`], and the way from a request to its answer. The only
//! place that knows async-graphql.

mod as_of;
mod asset;
mod batch;
mod bulk;
mod change;
mod connection;
mod context;
mod cost;
mod document;
mod error;
mod fanout;
mod folder;
mod guard;
mod list;
mod literal;
mod loaders;
mod node;
mod plain;
mod root;
mod scalar;
mod storage;
mod stored;
mod stored_file;
mod token;
mod trash;
mod upload;
mod variables;
mod version;
mod viewer;

use std::future::ready;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_graphql::{MergedObject, MergedSubscription, Response, SDLExportOptions, ValidationMode};
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use serde_json::value::RawValue;
use tracing::Instrument as _;

use crate::app::{App, OperationName};
use crate::domain::actor::Actor;
use crate::domain::change::Leg;
use crate::domain::error::Error;
use crate::domain::scope::Scope;
use crate::domain::version::{Memory, TextBudget};
use batch::{Batches, Driven};
use document::Documents;
use fanout::{Events, Execute, Groups, Member, Progress};
use loaders::{Loader, Loaders};
use stored::Trusted;

pub use document::{Operation, OperationKind, Refusal};
pub use error::error_json;
pub use fanout::Payload;

/// Everything that can be read.
#[derive(MergedObject, Default)]
pub struct Query(
    node::NodeQuery,
    folder::FolderQuery,
    asset::AssetQuery,
    version::VersionQuery,
    change::ChangeQuery,
    upload::UploadQuery,
    storage::StorageQuery,
    stored_file::StoredFileQuery,
    trash::TrashQuery,
    token::TokenQuery,
    viewer::ViewerQuery,
);

/// Everything that can be done. Each mutation is one commit: all of it happens, or nothing.
#[derive(MergedObject, Default)]
pub struct Mutation(
    upload::UploadMutation,
    version::VersionMutation,
    folder::FolderMutation,
    asset::AssetMutation,
    storage::StorageMutation,
    stored_file::StoredFileMutation,
    trash::TrashMutation,
    token::TokenMutation,
    bulk::BulkMutation,
);

/// Everything that can be watched.
#[derive(MergedSubscription, Default)]
pub struct Subscription(
    change::ChangeSubscription,
    asset::AssetSubscription,
    folder::FolderSubscription,
    upload::UploadSubscription,
);

type Schema = async_graphql::Schema<Query, Mutation, Subscription>;

/// A GraphQL request as every transport sends it.
#[derive(Debug, Default, Clone)]
pub struct Params {
    /// The document; left out where it is named.
    pub query: Option<String>,
    /// The name of a document.
    pub document_id: Option<String>,
    /// The SHA-256 of a document in hex: `extensions.persistedQuery.sha256Hash`.
    pub persisted_hash: Option<String>,
    /// Which of its operations.
    pub operation_name: Option<String>,
    /// Values of its variables: a JSON object.
    pub variables: Option<Box<RawValue>>,
}

/// Executes GraphQL requests. Cheap to clone.
#[derive(Clone)]
pub struct Graphql {
    app: App,
    schema: Schema,
    documents: Documents,
    groups: Groups,
    /// Longest time that one query or mutation may take.
    timeout: Duration,
    stranger_max_cost: u64,
}

impl Graphql {
    /// Builds the executor over a library.
    ///
    /// # Errors
    /// When the trusted documents cannot be read.
    pub fn new(app: &App) -> anyhow::Result<Self> {
        let limits = app.config().graphql.clone();
        let trusted = limits.trusted_documents.as_deref().map(Trusted::read).transpose()?;
        let builder = builder().data(app.clone()).limit_recursive_depth(2 * limits.max_depth);
        Ok(Self {
            schema: builder.finish(),
            timeout: limits.timeout,
            stranger_max_cost: limits.stranger_max_cost,
            documents: Documents::new(&sdl(), limits, trusted),
            groups: Groups::default(),
            app: app.clone(),
        })
    }

    /// Parses and validates a request; `memory` counts its document. What passes begins to execute; what does not never does.
    ///
    /// # Errors
    /// The errors of a document or of variables that cannot be used.
    pub fn prepare(&self, params: &Params, actor: &Actor, memory: &dyn Memory) -> Result<Operation, Refusal> {
        let prepared = self.documents.prepare(params, memory).and_then(|operation| {
            let max = self.stranger_max_cost;
            if actor.scope() == Scope::Shown && operation.cost > max {
                return Err(cost::refusal(max));
            }
            Ok(operation)
        });
        if prepared.is_err() {
            self.app.metrics().operation(OperationName::default(), "none", "refused", None);
        }
        prepared
    }

    /// Executes a query or a mutation; `memory` counts the texts in its answer.
    pub async fn execute(&self, actor: &Actor, operation: Operation, memory: Arc<dyn Memory>) -> Response {
        let is_mutation = operation.kind == OperationKind::Mutation;
        let began = Instant::now();
        let (request, batches) =
            self.request(actor, &operation, TextBudget::of(actor.scope()).counted(memory));
        let execution = std::pin::pin!(stream::once(self.schema.execute(request)));
        let mut driven = AssertUnwindSafe(Driven::new(execution, batches)).catch_unwind();
        let kind = if is_mutation { "mutation" } else { "query" };
        let name = operation.name.as_deref().unwrap_or_default();
        let span = tracing::debug_span!(
            "operation",
            otel.name = format_args!("{kind} {name}"),
            graphql.operation.type = kind,
            graphql.operation.name = name,
        );
        let driving = tokio::time::timeout(self.timeout, driven.next().instrument(span));
        let response = match driving.await {
            Ok(Some(Ok(response))) => response,
            Ok(_) => error::response(&Error::internal("a resolver panicked")),
            // What a mutation waits for is the database or the store.
            Err(_) if is_mutation => error::response(&Error::slow()),
            Err(_) => error::response(&too_long()),
        };
        let outcome = if response.errors.is_empty() { "ok" } else { "error" };
        self.app.metrics().operation(operation.name_for(actor), kind, outcome, Some(began.elapsed()));
        error::finish(response)
    }

    /// Executes a subscription: an answer for each event. Those who subscribe to the same share its execution.
    #[must_use]
    pub fn subscribe(&self, actor: &Actor, operation: Operation) -> BoxStream<'static, Payload> {
        let payloads = self.payloads(actor, operation);
        if actor.scope() == Scope::All {
            return payloads;
        }
        // Strangers are told nothing when something changed that they do not see.
        let mut told: Option<Arc<str>> = None;
        let news = move |payload: &Payload| {
            let is_new = told.as_ref() != Some(&payload.json);
            told = Some(Arc::clone(&payload.json));
            ready(is_new)
        };
        payloads.filter(news).boxed()
    }

    fn payloads(&self, actor: &Actor, operation: Operation) -> BoxStream<'static, Payload> {
        self.app.metrics().operation(operation.name_for(actor), "subscription", "ok", None);
        if let Some(shared) = operation.shared.clone() {
            let member = Member::new(self.clone(), actor, operation, shared);
            return stream::unfold(member, |mut member| async { Some((member.next().await?, member)) })
                .boxed();
        }
        let events = self.events(actor, &operation, Leg::default());
        stream::unfold(events, |mut events| async { Some((events.payload().await?, events)) }).boxed()
    }

    /// The request with what its resolvers need, and the batches that they will ask for.
    fn request(
        &self,
        actor: &Actor,
        operation: &Operation,
        texts: TextBudget,
    ) -> (async_graphql::Request, Batches) {
        let batches = Batches::default();
        let loaders = Loaders::new(Loader::new(&self.app, actor), batches.clone());
        let request = operation.request().data(actor.clone()).data(loaders).data(texts);
        (request, batches)
    }
}

impl Execute for Graphql {
    fn events(&self, actor: &Actor, operation: &Operation, leg: Leg) -> Events {
        let (progress, texts) = (Progress::new(leg), TextBudget::of(actor.scope()));
        let (request, batches) = self.request(actor, operation, texts.clone());
        let events = self.schema.execute_stream(request.data(progress.clone()));
        let responses = AssertUnwindSafe(Driven::new(events, batches)).catch_unwind().map(|event| {
            event.unwrap_or_else(|_| error::response(&Error::internal("a subscription panicked")))
        });
        let (limit, begun) = (self.timeout, progress.clone());
        // After an error there is nothing more to come.
        let until_error = stream::unfold((responses, false), move |(mut responses, over)| {
            let progress = begun.clone();
            async move {
                if over {
                    return None;
                }
                let response = tokio::select! {
                    response = responses.next() => error::finish(response?),
                    () = progress.overdue(limit) => error::response(&too_long()),
                };
                progress.answered();
                let over = !response.errors.is_empty();
                Some((response, (responses, over)))
            }
        });
        Events::new(until_error.boxed(), progress, texts)
    }

    fn head(&self) -> i64 {
        self.app.feed().head()
    }

    fn groups(&self) -> &Groups {
        &self.groups
    }
}

fn too_long() -> Error {
    Error::RateLimited("the operation took too long: ask for less".to_owned())
}

/// Whether something in a response was refused that may be asked for later.
#[must_use]
pub fn is_rate_limited(response: &Response) -> bool {
    let limited = async_graphql::Value::from("RATE_LIMITED");
    let codes = response.errors.iter().filter_map(|error| error.extensions.as_ref()?.get("code"));
    codes.into_iter().any(|code| *code == limited)
}

/// Whether a response has errors and nothing else.
fn is_failure(response: &Response) -> bool {
    !response.errors.is_empty() && response.data == async_graphql::Value::Null
}

/// What introspection says of the schema; async-graphql leaves it out of the SDL.
const SCHEMA_DESCRIPTION: &str = "A GraphQL Schema defines the capabilities of a GraphQL server. It exposes all \
    available types and directives on the server, as well as the entry points for query, mutation, and \
    subscription operations.";

/// The SDL of the schema.
#[must_use]
pub fn sdl() -> String {
    let schema = builder().finish();
    let sdl = schema
        .sdl_with_options(SDLExportOptions::new().include_specified_by().use_space_ident().indent_width(2));
    let sdl = sdl.replace("\nschema {\n", &format!("\n\"\"\"\n{SCHEMA_DESCRIPTION}\n\"\"\"\nschema {{\n"));
    format!("{}\n", sdl.trim_end())
}

fn builder() -> async_graphql::SchemaBuilder<Query, Mutation, Subscription> {
    // Documents are validated by `document.rs` before they come here.
    async_graphql::Schema::build(Query::default(), Mutation::default(), Subscription::default())
        .validation_mode(ValidationMode::Fast)
}
