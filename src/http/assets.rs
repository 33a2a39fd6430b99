//! The URLs of bytes: the stable one of an asset, the immutable one of a version, that of a stored file.

use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use entity::{StoredFileId, VersionId};
use tokio::time::{Instant, sleep_until};

use super::Server;
use super::bytes::{File, Lifetime, send};
use super::edge::Caller;
use super::error::HttpError;
use super::limits::Client;
use super::signed::Signed;
use crate::domain::actor::Actor;
use crate::domain::error::Error;
use crate::domain::path::TreePath;
use crate::domain::stored_file;
use crate::domain::version::{self, Content, Credential, Found};

/// An anonymous client is not told sooner than this that there is nothing for it: some of what it may not know of is found out
/// by more look-ups than other.
const NOT_FOUND_AFTER: Duration = Duration::from_millis(2);

/// Answers that nothing is there, not before its time.
pub async fn evenly(Extension(caller): Extension<Caller>, request: Request, next: Next) -> Response {
    let until = Instant::now() + NOT_FOUND_AFTER;
    let response = next.run(request).await;
    if response.status() == StatusCode::NOT_FOUND && matches!(caller.client, Client::Anonymous(_)) {
        sleep_until(until).await;
    }
    response
}

/// `GET /assets/{path}`: the published bytes, or where they went; `GET /assets/v/{versionId}`: those of a version.
pub async fn stable(
    State(server): State<Server>,
    Extension(caller): Extension<Caller>,
    method: Method,
    path: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, HttpError> {
    let Path(path) = path.map_err(|_| unreadable())?;
    let actor = server.auth().session(&headers).await?.actor;
    if let Some(content) = version_by_path(&server, &actor, &path).await? {
        return send(
            &server,
            caller.client,
            &method,
            &headers,
            File::of_version(content, Lifetime::Immutable),
        )
        .await;
    }
    let nowhere = |_| Error::NotFound(format!("nothing is published at {path}"));
    let path = TreePath::parse_named(&path, "path").map_err(nowhere)?;
    match version::published_at(server.app(), &actor, &path).await? {
        Found::Content(content) => {
            send(&server, caller.client, &method, &headers, File::of_version(content, Lifetime::Stable)).await
        }
        Found::Moved(url) => Ok(moved(&url)),
    }
}

/// It is elsewhere now. Not for ever: something else may take the old path.
fn moved(url: &str) -> Response {
    let headers = [
        (header::LOCATION, HeaderValue::from_str(url).unwrap_or_else(|_| HeaderValue::from_static("/"))),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*")),
    ];
    (StatusCode::PERMANENT_REDIRECT, headers).into_response()
}

/// `GET /v/{versionId}/{filename}`: the bytes of a version. The filename is for people and their downloads.
pub async fn version(
    State(server): State<Server>,
    Extension(caller): Extension<Caller>,
    method: Method,
    path: Result<Path<(String, String)>, PathRejection>,
    signed: Signed,
    headers: HeaderMap,
) -> Result<Response, HttpError> {
    let Path((id, _filename)) = path.map_err(|_| unreadable())?;
    let id: VersionId = id.parse().map_err(|_| Error::NotFound(format!("there is no version {id}")))?;
    let Some(signature) = &signed.signature else {
        let actor = server.auth().session(&headers).await?.actor;
        let content = version::content(server.app(), Credential::Actor(&actor), id).await?;
        return send(
            &server,
            caller.client,
            &method,
            &headers,
            File::of_version(content, Lifetime::Immutable),
        )
        .await;
    };
    let (expires, disposition) = (signed.expires.unwrap_or_default(), signed.disposition.unwrap_or_default());
    let disposition = version::check_signature(server.app(), id, &expires, &disposition, signature)?;
    let content = version::content(server.app(), Credential::Signature, id).await?;
    // Its bytes are for ever, but this way to them is not.
    let file = File::of_version(content, Lifetime::Stable).with_disposition(disposition);
    send(&server, caller.client, &method, &headers, file).await
}

/// `GET /storage/{storageId}`: the bytes of a stored file, for whoever has its URL.
pub async fn stored(
    State(server): State<Server>,
    Extension(caller): Extension<Caller>,
    method: Method,
    Path(id): Path<String>,
    signed: Signed,
    headers: HeaderMap,
) -> Result<Response, HttpError> {
    let actor = server.auth().session(&headers).await?.actor;
    let id: StoredFileId =
        id.parse().map_err(|_| Error::NotFound(format!("there is no stored file {id}")))?;
    let (file, blob) = stored_file::content(server.app(), &actor, id, signed.signature.as_deref()).await?;
    send(&server, caller.client, &method, &headers, File::stored(file, blob)).await
}

/// Another method than GET or HEAD at a URL of bytes. A signature is good for these two alone.
pub async fn no_method(signed: Signed) -> Response {
    if signed.signature.is_some() {
        let message = "a signed URL is good for GET and HEAD alone".to_owned();
        return HttpError::from(Error::Forbidden(message)).into_response();
    }
    super::error::no_method().await
}

/// A path that is no UTF-8 is the path of nothing.
fn unreadable() -> Error {
    Error::NotFound("nothing is published at a path that is not UTF-8".to_owned())
}

/// The version that `v/{versionId}` names; none when that is the path of an asset in a folder called `v`.
async fn version_by_path(server: &Server, actor: &Actor, path: &str) -> Result<Option<Content>, Error> {
    let Some(Ok(id)) = path.strip_prefix("v/").map(str::parse::<VersionId>) else {
        return Ok(None);
    };
    match version::content(server.app(), Credential::Actor(actor), id).await {
        Ok(content) => Ok(Some(content)),
        Err(Error::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Lets any page read why it does not get a file, as it may read files that are public.
pub async fn readable(mut response: Response) -> Response {
    if response.status().is_client_error() || response.status().is_server_error() {
        for (name, value) in [
            (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
            (header::ACCESS_CONTROL_EXPOSE_HEADERS, "Retry-After, X-Request-Id"),
        ] {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
    }
    response
}

/// What a page is told that asks whether it may send conditions, ranges or a token along.
pub async fn preflight() -> impl IntoResponse {
    let headers = [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD"),
        (
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "Authorization, If-Match, If-Modified-Since, If-None-Match, If-Range, If-Unmodified-Since, Range",
        ),
        (header::ACCESS_CONTROL_MAX_AGE, "86400"),
    ];
    (StatusCode::NO_CONTENT, headers)
}
