//! Takes the bytes of an upload on the local backend.

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use entity::UploadIntentId;
use serde::Deserialize;
use serde_json::json;
use tokio_stream::StreamExt as _;

use super::Server;
use super::error::HttpError;
use crate::domain::error::Error;
use crate::domain::upload;

/// Longest pause between two pieces of a body.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// What a signed URL carries.
#[derive(Deserialize)]
pub struct Signed {
    #[serde(default)]
    signature: String,
}

/// `PUT /uploads/{id}?signature=…`: the body is the whole file.
pub async fn receive(
    State(server): State<Server>,
    Path(id): Path<String>,
    Query(Signed { signature }): Query<Signed>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, HttpError> {
    for header in [header::CONTENT_RANGE, header::CONTENT_ENCODING] {
        if headers.contains_key(&header) {
            let message = "is not taken: the body has to be the whole file, as it is";
            return Err(Error::bad_input(header.as_str(), message).into());
        }
    }
    let not_found = |_| Error::NotFound(format!("there is no upload {id}"));
    let id: UploadIntentId = id.parse().map_err(not_found)?;
    let pieces = body.into_data_stream().timeout(MAX_PAUSE).map(|piece| match piece {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("it paused for too long".to_owned()),
    });
    let intent = upload::receive(server.app(), id, &signature, Box::pin(pieces.fuse())).await?;
    let body = Json(json!({
        "status": "RECEIVED",
        "size": intent.received_bytes,
        "sha256": intent.sha256,
        "contentType": intent.content_type,
    }));
    let mut response = (StatusCode::OK, body).into_response();
    let etag = intent.sha256.map(|sha256| HeaderValue::from_str(&format!("\"{sha256}\"")));
    if let Some(Ok(etag)) = etag {
        response.headers_mut().insert(header::ETAG, etag);
    }
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}
