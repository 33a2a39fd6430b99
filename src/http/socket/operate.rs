//! What an operation of a connection hands to it.

use std::future::ready;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use serde_json::Value;

use crate::domain::actor::Actor;
use crate::graphql::{Graphql, OperationKind, Params, Payload};

/// What an operation hands to its connection.
pub enum Event {
    /// An answer.
    Next(Arc<str>),
    /// Why it could not begin.
    Errors(Arc<str>),
    /// Its end.
    Complete,
}

/// The events of an operation.
pub fn operate(executor: &Graphql, actor: Actor, params: &Params) -> BoxStream<'static, Event> {
    let operation = match executor.prepare(params, &actor) {
        Ok(operation) => operation,
        Err(refusal) => {
            let errors = Value::Array(refusal.0).to_string();
            return stream::once(ready(Event::Errors(errors.into()))).boxed();
        }
    };
    let completed = stream::once(ready(Event::Complete));
    if operation.kind != OperationKind::Subscription {
        let executor = executor.clone();
        let answer =
            async move { Event::Next(Payload::new(&executor.execute(&actor, operation).await).json) };
        return stream::once(answer).chain(completed).boxed();
    }
    let mut begun = false;
    let events = executor.subscribe(&actor, operation).map(move |payload| {
        let first = !std::mem::replace(&mut begun, true);
        match payload.failure {
            // An error before the first event: the subscription could not begin.
            Some(errors) if first => Event::Errors(errors),
            _ => Event::Next(payload.json),
        }
    });
    events.chain(completed).boxed()
}
