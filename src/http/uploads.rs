//! Takes the bytes of uploads on the local backend.

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use entity::UploadIntentId;
use futures_util::Stream;
use serde_json::json;
use tokio_stream::StreamExt as _;

use super::Server;
use super::error::HttpError;
use super::signed::Signed;
use crate::domain::error::Error;
use crate::domain::upload::{self, Declared, Received};

/// Longest pause between two pieces of a body.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// Bytes of a refused body that are still taken, and for how long.
const MAX_DRAINED: usize = 64 * 1024 * 1024;
const MAX_DRAINING: Duration = Duration::from_secs(10);

/// `PUT` or `POST /uploads/{id}?signature=…`: the body is the whole file. An upload is sent by PUT, and can then
/// be finished; a file without an asset by POST, and is answered with its `storageId`.
pub async fn receive(
    State(server): State<Server>,
    method: Method,
    Path(id): Path<String>,
    signed: Signed,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, HttpError> {
    check_whole(&headers)?;
    let id = parse_id(&id)?;
    let declared = declared(&headers)?;
    let way = if method == Method::POST { upload::Way::File } else { upload::Way::Upload };
    let signature = signed.signature.unwrap_or_default();
    let mut body = pieces(body);
    let received = upload::receive(server.app(), id, way, &signature, declared, &mut body).await;
    if received.is_err() {
        drain(body).await;
    }
    match received? {
        Received::Upload(intent) => {
            let body = json!({
                "status": "RECEIVED",
                "size": intent.received_bytes,
                "sha256": intent.sha256,
                "contentType": intent.content_type,
            });
            Ok(answer(&body, intent.sha256.as_deref()))
        }
        Received::File(file) => Ok(answer(&json!({ "storageId": file.id.to_string() }), Some(&file.sha256))),
    }
}

/// `PUT /uploads/{id}/parts/{number}?signature=…`: the body is one part. Its `ETag` may be handed to finishUpload.
pub async fn receive_part(
    State(server): State<Server>,
    Path((id, number)): Path<(String, String)>,
    signed: Signed,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, HttpError> {
    check_whole(&headers)?;
    let (id, declared) = (parse_id(&id)?, declared(&headers)?);
    let number = number.parse().map_err(|_| Error::NotFound(format!("{id} has no part {number}")))?;
    let signature = signed.signature.unwrap_or_default();
    let mut body = pieces(body);
    let received = upload::receive_part(server.app(), id, number, &signature, declared, &mut body).await;
    if received.is_err() {
        drain(body).await;
    }
    let sha256 = received?;
    Ok(answer(&json!({ "number": number, "sha256": sha256 }), Some(&sha256)))
}

/// Takes in the rest of a body that was refused, as far as that is bearable: many clients hear of a refusal only once
/// they have sent everything.
async fn drain(mut body: impl Stream<Item = Result<Bytes, String>> + Unpin) {
    let draining = async {
        let mut left = MAX_DRAINED;
        while let Some(Ok(piece)) = body.next().await {
            let Some(rest) = left.checked_sub(piece.len()) else { return };
            left = rest;
        }
    };
    let _ = tokio::time::timeout(MAX_DRAINING, draining).await;
}

/// A body that was refused may not be read to its end: the client is told that nothing else can come after it on the connection.
pub async fn close_refused(mut response: Response) -> Response {
    if !response.status().is_success() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn check_whole(headers: &HeaderMap) -> Result<(), Error> {
    for header in [header::CONTENT_RANGE, header::CONTENT_ENCODING] {
        if headers.contains_key(&header) {
            let message = "is not taken: the body has to be all of it, as it is";
            return Err(Error::bad_input(header.as_str(), message));
        }
    }
    Ok(())
}

fn parse_id(id: &str) -> Result<UploadIntentId, Error> {
    id.parse().map_err(|_| Error::NotFound(format!("there is no upload {id}")))
}

fn pieces(body: Body) -> impl Stream<Item = Result<Bytes, String>> + Unpin {
    let pieces = body.into_data_stream().timeout(MAX_PAUSE).map(|piece| match piece {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("it paused for too long".to_owned()),
    });
    Box::pin(pieces.fuse())
}

/// What the headers say of the body: its type, and its digest (RFC 9530, or the older RFC 3230).
fn declared(headers: &HeaderMap) -> Result<Declared, Error> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let mut sha256 = None;
    for name in ["digest", "content-digest", "repr-digest"] {
        for part in text(name).unwrap_or_default().split(',') {
            let Some((algorithm, digest)) = part.trim().split_once('=') else { continue };
            if !algorithm.eq_ignore_ascii_case("sha-256") {
                continue;
            }
            let bytes = STANDARD.decode(digest.trim_matches(':')).ok().filter(|bytes| bytes.len() == 32);
            let bytes =
                bytes.ok_or_else(|| Error::bad_input(name, "has to be sha-256= and 32 bytes in base64"))?;
            sha256 = Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect());
        }
    }
    Ok(Declared { content_type: text("content-type").map(ToOwned::to_owned), sha256 })
}

fn answer(body: &serde_json::Value, sha256: Option<&str>) -> Response {
    let mut response = (StatusCode::OK, Json(body)).into_response();
    if let Some(Ok(etag)) = sha256.map(|sha256| HeaderValue::from_str(&format!("\"{sha256}\""))) {
        response.headers_mut().insert(header::ETAG, etag);
    }
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
