//! From domain errors to GraphQL errors: the code, the field, and never the cause.

use async_graphql::{ErrorExtensionValues, Response, ServerError};
use uuid::Uuid;

use crate::app::RequestId;
use crate::domain::error::Error;

/// Gives every error of a response its code. A cause is logged once, here, with an id that the answer has.
pub fn finish(mut response: Response) -> Response {
    for error in &mut response.errors {
        let Some(domain) = error.source::<Error>().cloned() else {
            if error.extensions.is_none() {
                // What async-graphql itself refuses at this point is input that a scalar cannot read.
                error.extensions = Some(code("BAD_USER_INPUT"));
            }
            continue;
        };
        error.message = message(&domain);
        error.extensions = Some(extensions(&domain));
    }
    response
}

/// A response that has nothing but an error.
pub fn response(error: &Error) -> Response {
    let mut server_error = ServerError::new(message(error), None);
    server_error.extensions = Some(extensions(error));
    Response::from_errors(vec![server_error])
}

/// An error as JSON, for answers that have no execution behind them.
#[must_use]
pub fn error_json(message: &str, code: &str) -> serde_json::Value {
    serde_json::json!({ "message": message, "extensions": { "code": code } })
}

fn code(code: &str) -> ErrorExtensionValues {
    let mut extensions = ErrorExtensionValues::default();
    extensions.set("code", code);
    extensions
}

fn message(error: &Error) -> String {
    match error {
        // The field stands in the extensions.
        Error::BadInput { field, message } => format!("{field} {message}"),
        Error::InOperation { index, error } => format!("operation {index}: {}", message(error)),
        other => other.to_string(),
    }
}

fn extensions(error: &Error) -> ErrorExtensionValues {
    if let Error::InOperation { index, error } = error {
        let mut inner = extensions(error);
        inner.set("operation", *index);
        return inner;
    }
    let mut extensions = code(error.code());
    match error {
        Error::BadInput { field, .. } => extensions.set("field", field.as_str()),
        Error::RevisionConflict { expected, current, .. } => {
            extensions.set("expectedRevision", *expected);
            extensions.set("currentRevision", *current);
        }
        _ => {}
    }
    if let Some(cause) = error.cause() {
        let id = Uuid::new_v4().simple().to_string();
        tracing::error!(error_id = %id, request_id = %RequestId::current(), ?cause, code = error.code(), "an operation failed");
        extensions.set("errorId", id);
    }
    extensions
}
