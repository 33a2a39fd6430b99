//! From domain errors to HTTP answers (RFC 9457): the status, the code, and never the cause.

use std::any::Any;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use uuid::Uuid;

use super::limits::RETRY_AFTER;
use crate::app::RequestId;
use crate::domain::error::{Error, UploadError};

/// A domain error on its way out.
pub struct HttpError(Error);

impl From<Error> for HttpError {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl HttpError {
    /// The status of an error.
    pub const fn status_of(error: &Error) -> StatusCode {
        status(error)
    }
}

impl IntoResponse for HttpError {
    fn into_response(self) -> Response {
        let Self(error) = self;
        let mut problem = json!({ "code": error.code(), "detail": error.to_string() });
        if let Some(cause) = error.cause() {
            let id = Uuid::new_v4().simple().to_string();
            tracing::error!(error_id = %id, request_id = %RequestId::current(), ?cause, code = error.code(), "a request failed");
            problem["errorId"] = id.into();
        }
        let mut response = respond(status(&error), problem);
        if matches!(error, Error::RateLimited(_) | Error::Unavailable { .. }) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER));
        }
        if matches!(error, Error::Unauthenticated(_)) {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// The status of an error.
const fn status(error: &Error) -> StatusCode {
    match error {
        Error::BadInput { .. } => StatusCode::BAD_REQUEST,
        Error::NotFound(_) => StatusCode::NOT_FOUND,
        Error::AlreadyExists(_) | Error::RevisionConflict { .. } | Error::FileInUse(_) => {
            StatusCode::CONFLICT
        }
        Error::InOperation { error, .. } => status(error),
        Error::Upload { reason, .. } => match reason {
            UploadError::Incomplete => StatusCode::BAD_REQUEST,
            UploadError::Expired | UploadError::Cancelled => StatusCode::GONE,
            UploadError::AlreadyReceived => StatusCode::CONFLICT,
            UploadError::Rejected(_) => StatusCode::UNPROCESSABLE_ENTITY,
        },
        Error::CursorExpired(_) => StatusCode::GONE,
        Error::Unauthenticated(_) => StatusCode::UNAUTHORIZED,
        Error::Forbidden(_) => StatusCode::FORBIDDEN,
        Error::RateLimited(_) => StatusCode::TOO_MANY_REQUESTS,
        Error::Unavailable { .. } | Error::BytesMoved => StatusCode::SERVICE_UNAVAILABLE,
        Error::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn respond(status: StatusCode, mut problem: serde_json::Value) -> Response {
    problem["title"] = status.canonical_reason().unwrap_or_default().into();
    problem["status"] = status.as_u16().into();
    let mut response = (status, Json(problem)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// The answer to a request that is refused before it is looked at.
pub fn refused(error: Error) -> Response {
    HttpError(error).into_response()
}

/// A request that cannot be met, with a status that no domain error has.
pub fn refuse(status: StatusCode, detail: &str) -> Response {
    respond(status, json!({ "code": "BAD_USER_INPUT", "detail": detail }))
}

/// There is no room for a request now.
pub fn busy(detail: &str) -> Response {
    let mut response =
        respond(StatusCode::SERVICE_UNAVAILABLE, json!({ "code": "RATE_LIMITED", "detail": detail }));
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER));
    response
}

/// Nothing is at this URL.
pub async fn no_route() -> Response {
    let detail =
        "nothing is here; bytes are at /assets/<path> and /v/<version id>/<filename>, the API at /graphql";
    respond(StatusCode::NOT_FOUND, json!({ "code": "NOT_FOUND", "detail": detail }))
}

/// Something is at this URL, but it takes other methods.
pub async fn no_method() -> Response {
    refuse(StatusCode::METHOD_NOT_ALLOWED, "this URL does not take that method")
}

/// A handler panicked.
pub fn panicked(_: Box<dyn Any + Send>) -> Response {
    HttpError(Error::internal("a handler panicked")).into_response()
}
