//! Takes the bytes of uploads on the local backend.

use std::time::Duration;

use axum::Json;
use axum::body::{Body, HttpBody as _};
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use entity::UploadIntentId;
use futures_util::{Stream, stream};
use serde_json::json;
use tokio::time::{Instant, timeout};
use tokio_stream::StreamExt as _;

use super::Server;
use super::edge::Caller;
use super::error::{self, HttpError};
use super::limits::{Reservation, Resource};
use super::signed::Signed;
use crate::domain::error::Error;
use crate::domain::upload::{self, Declared, Received};

/// How long bytes are waited for until it is looked how many came.
const PACE: Duration = Duration::from_secs(20);

/// `PUT` or `POST /uploads/{id}?signature=…`: the body is the whole file. An upload is sent by PUT, and can then
/// be finished; a file without an asset by POST, and is answered with its `storageId`.
pub async fn receive(
    State(server): State<Server>,
    Extension(caller): Extension<Caller>,
    method: Method,
    Path(id): Path<String>,
    signed: Signed,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, HttpError> {
    let _held = place(&server, caller)?;
    check_whole(&headers)?;
    let most = server.app().config().max_upload_bytes.unsigned_abs();
    if body.size_hint().lower() > most {
        let detail = format!("the body is longer than {most} bytes, the most that this server takes");
        return Ok(error::refuse(StatusCode::PAYLOAD_TOO_LARGE, &detail));
    }
    let id = parse_id(&id)?;
    let declared = declared(&headers)?;
    let way = if method == Method::POST { upload::Way::File } else { upload::Way::Upload };
    let signature = signed.signature.unwrap_or_default();
    let body = pieces(body, server.app().config().min_upload_bytes_per_second);
    match upload::receive(server.app(), id, way, &signature, declared, body).await? {
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
    Extension(caller): Extension<Caller>,
    Path((id, number)): Path<(String, String)>,
    signed: Signed,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, HttpError> {
    let _held = place(&server, caller)?;
    check_whole(&headers)?;
    let (id, declared) = (parse_id(&id)?, declared(&headers)?);
    let number = number.parse().map_err(|_| Error::NotFound(format!("{id} has no part {number}")))?;
    let signature = signed.signature.unwrap_or_default();
    let body = pieces(body, server.app().config().min_upload_bytes_per_second);
    let sha256 = upload::receive_part(server.app(), id, number, &signature, declared, body).await?;
    Ok(answer(&json!({ "number": number, "sha256": sha256 }), Some(&sha256)))
}

/// A place among the uploads that come in.
fn place(server: &Server, caller: Caller) -> Result<Reservation, Error> {
    Ok(server.limits().reserve(caller.client, Resource::Uploads, 1)?)
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

/// A body piece by piece, as long as it comes at the pace that it has to.
fn pieces(body: Body, bytes_per_second: u64) -> impl Stream<Item = Result<Bytes, String>> + Send + Unpin {
    let pace = Pace::new(bytes_per_second);
    let pieces = stream::unfold((Some(body.into_data_stream()), pace), |(body, mut pace)| async move {
        let mut body = body?;
        let began = Instant::now();
        let next = match timeout(pace.left(), body.next()).await {
            Ok(None) => return None,
            Ok(Some(Ok(piece))) => pace.came(piece.len(), began.elapsed()).map(|()| piece),
            Ok(Some(Err(error))) => Err(error.to_string()),
            Err(_) => pace.came(0, began.elapsed()).map(|()| Bytes::new()),
        };
        let body = next.is_ok().then_some(body);
        Some((next, (body, pace)))
    });
    Box::pin(pieces)
}

/// How fast a body comes. Only the time counts in which the server waits for it.
struct Pace {
    bytes_per_second: u64,
    waited: Duration,
    bytes: u64,
}

impl Pace {
    const fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second, waited: Duration::ZERO, bytes: 0 }
    }

    /// How long to wait for more until it is looked how many bytes came.
    const fn left(&self) -> Duration {
        PACE.saturating_sub(self.waited)
    }

    /// So many bytes came after so long.
    fn came(&mut self, bytes: usize, waited: Duration) -> Result<(), String> {
        self.bytes += bytes as u64;
        self.waited += waited;
        if self.waited < PACE {
            return Ok(());
        }
        let least = self.bytes_per_second * PACE.as_secs();
        if self.bytes < least {
            return Err(format!("it came slower than {} bytes a second", self.bytes_per_second));
        }
        *self = Self::new(self.bytes_per_second);
        Ok(())
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of a body of which `piece` comes after each `pause`, `count` times.
    async fn sent(piece: usize, pause: Duration, count: usize) -> Result<usize, String> {
        let sender = stream::iter(0..count).then(move |_| async move {
            tokio::time::sleep(pause).await;
            Ok::<_, std::io::Error>(Bytes::from(vec![7; piece]))
        });
        let mut body = pieces(Body::from_stream(sender), 1000);
        let mut bytes = 0;
        while let Some(piece) = body.next().await {
            bytes += piece?.len();
        }
        Ok(bytes)
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_too_slowly_is_ended_and_nothing_else() {
        let seconds = Duration::from_secs;
        assert_eq!(sent(1, Duration::ZERO, 5).await, Ok(5), "what is short is never slow");
        assert_eq!(sent(1, seconds(3), 6).await, Ok(6));
        assert_eq!(sent(20_000, seconds(19), 100).await, Ok(2_000_000));
        assert_eq!(sent(1000, seconds(1), 500).await, Ok(500_000));
        for (piece, pause) in [(1, seconds(1)), (500, seconds(1)), (1_000_000, seconds(50)), (1, seconds(25))]
        {
            let told = sent(piece, pause, 100).await.expect_err("it is slow");
            assert_eq!(told, "it came slower than 1000 bytes a second", "{piece} after {pause:?}");
        }
        assert!(sent(1, seconds(1000), 1).await.is_err());
    }
}
