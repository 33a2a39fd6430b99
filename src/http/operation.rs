//! From the parameters of a request to an operation that may begin, and to its answers, on every transport.

use std::future::ready;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;

use super::Server;
use super::limits::{Client, Limits, Resource, SHORT, Slot, answers};
use crate::domain::actor::Actor;
use crate::domain::error::{Error, Result};
use crate::domain::version::Memory;
use crate::graphql::{Operation, OperationKind, Params, Payload, Refusal};

/// How many times its length a text is counted while an answer is made of it: it is there twice before it is JSON, where a
/// character may take six.
const TEXTS: usize = 3;
/// How long a subscription keeps its slot when it has nothing to say.
const FIRST_ANSWER: Duration = Duration::from_millis(100);

/// Why an operation does not begin.
pub enum Denied {
    /// Its document or its variables cannot be executed.
    Refused(Refusal),
    /// Too much is executed already.
    Busy(Error),
}

/// Readies an operation, and waits until it may be executed. While it waits, it is text: what is made of that takes many times
/// as much memory.
///
/// # Errors
/// When it cannot be executed, or has to wait for too long.
pub async fn admit(
    server: &Server,
    client: Client,
    actor: &Actor,
    params: &Params,
) -> std::result::Result<(Operation, Slot), Denied> {
    let slots = server.concurrency();
    let mut slot = slots.take(client, 0).await.map_err(Denied::Busy)?;
    let operation = prepare(server, client, actor, params).await?;
    if slots.try_grow(&mut slot, client, operation.weight) {
        return Ok((operation, slot));
    }
    let weight = operation.weight;
    drop((operation, slot));
    let slot = slots.take(client, weight).await.map_err(Denied::Busy)?;
    Ok((prepare(server, client, actor, params).await?, slot))
}

async fn prepare(
    server: &Server,
    client: Client,
    actor: &Actor,
    params: &Params,
) -> std::result::Result<Operation, Denied> {
    let variables = params.variables.as_ref().map_or(0, |variables| variables.get().len());
    let bytes = params.query.as_ref().map_or(0, String::len) + variables;
    let _parsing = server.concurrency().parsing(client, bytes).await;
    let documents = OfClient { limits: server.limits().clone(), client, resource: Resource::Documents };
    server.graphql().prepare(params, actor, &documents).map_err(Denied::Refused)
}

/// The answers to an operation once it is admitted. The first is made at once, in its slot, whether or not the client takes it:
/// a client that does not read keeps no slot. Until it is taken, its memory is held.
pub fn begin(
    server: &Server,
    client: Client,
    actor: Actor,
    admitted: impl Future<Output = std::result::Result<(Operation, Slot), Denied>> + Send + 'static,
) -> BoxStream<'static, std::result::Result<Payload, Refusal>> {
    let (graphql, limits, memory) =
        (server.graphql().clone(), server.limits().clone(), memory(server, client));
    let first = async move {
        let (operation, slot) = match admitted.await {
            Ok(admitted) => admitted,
            Err(denied) => return stream::once(ready(Err(denied.into_refusal()))).boxed(),
        };
        let kind = operation.kind;
        let mut answers = match kind {
            OperationKind::Subscription => graphql.subscribe(&actor, operation),
            OperationKind::Query | OperationKind::Mutation => {
                let answer = async move { Payload::new(&graphql.execute(&actor, operation, memory).await) };
                stream::once(answer).boxed()
            }
        };
        // A subscription may have nothing to say for long: then nothing is executed for it.
        let patience = match kind {
            OperationKind::Subscription => FIRST_ANSWER,
            OperationKind::Query | OperationKind::Mutation => Duration::MAX,
        };
        let Ok(first) = timeout(patience, answers.next()).await else {
            drop(slot);
            return answers.map(Ok).boxed();
        };
        drop(slot);
        let Some(first) = first else { return stream::empty().boxed() };
        let is_long = first.json.len() > SHORT;
        let held = is_long.then(|| answers::hold(&limits, client, first.json.len(), kind)).transpose();
        let held = match held {
            Ok(held) => held,
            Err(exceeded) => {
                let refusal = Refusal::new(exceeded.message(), "RATE_LIMITED");
                return stream::once(ready(Err(refusal))).boxed();
            }
        };
        let first = stream::once(async move {
            drop(held);
            Ok(first)
        });
        first.chain(answers.map(Ok)).boxed()
    };
    let task = AbortOnDropHandle::new(tokio::spawn(first.in_current_span()));
    // It panics only where the server has no way to answer.
    let answers = async move { task.await.unwrap_or_else(|_| stream::empty().boxed()) };
    stream::once(answers).flatten().boxed()
}

/// Counts the texts in answers to a client.
pub fn memory(server: &Server, client: Client) -> Arc<dyn Memory> {
    let of = OfClient { limits: server.limits().clone(), client, resource: Resource::Memory };
    Arc::new(Texts { of, held: Mutex::default() })
}

/// Counts memory for a client.
struct OfClient {
    limits: Limits,
    client: Client,
    resource: Resource,
}

/// Counts the texts in an answer until it is dropped itself: that is when the answer is counted.
struct Texts {
    of: OfClient,
    held: Mutex<Vec<Box<dyn Send + Sync>>>,
}

impl Memory for Texts {
    fn hold(&self, bytes: u64) -> Result<Box<dyn Send + Sync>> {
        let bytes = usize::try_from(bytes).map_err(Error::internal)?.saturating_mul(TEXTS);
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.push(Box::new(self.of.limits.reserve_answer(self.of.client, bytes)?));
        Ok(Box::new(()))
    }
}

impl Memory for OfClient {
    fn hold(&self, bytes: u64) -> Result<Box<dyn Send + Sync>> {
        let bytes = usize::try_from(bytes).map_err(Error::internal)?;
        Ok(Box::new(self.limits.reserve(self.client, self.resource, bytes)?))
    }
}

impl Denied {
    /// What the client is told.
    pub fn into_refusal(self) -> Refusal {
        match self {
            Self::Refused(refusal) => refusal,
            Self::Busy(error) => Refusal::new(error.to_string(), error.code()),
        }
    }
}
