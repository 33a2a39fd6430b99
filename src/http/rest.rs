//! What is left of a request's body when it is answered early, on HTTP/1. It is taken in as far as that is bearable; else the
//! client is told that nothing else can come after it on this connection, which would otherwise be reset under its next request.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Frame, Incoming, SizeHint};
use tokio::time::timeout;

/// Bytes of a body that are taken in though nobody wants them, and for how long: many clients hear of a refusal only once they
/// have sent everything.
const MOST: usize = 64 * 1024 * 1024;
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest pause in it.
const PAUSE: Duration = Duration::from_millis(500);

/// A body that its handler reads, and whoever sends the answer after it.
pub struct Rest {
    body: Shared,
    /// The client waits to be told to go on before it sends anything.
    asks_first: bool,
}

#[derive(Clone)]
struct Shared(Arc<Mutex<Incoming>>);

impl Rest {
    /// The body for a handler, and what is left of it then; `None` where there is none.
    pub fn of(body: Incoming, headers: &HeaderMap) -> (Body, Option<Self>) {
        if body.is_end_stream() {
            return (Body::new(body), None);
        }
        let body = Shared(Arc::new(Mutex::new(body)));
        let rest = Self { body: body.clone(), asks_first: headers.contains_key(header::EXPECT) };
        (Body::new(body), Some(rest))
    }

    /// Takes in what was not read, and lets the response tell the client if not all of it came.
    pub async fn take(mut self, mut response: Response) -> Response {
        if self.body.is_end_stream() {
            return response;
        }
        let taking = async {
            let mut left = MOST;
            loop {
                let Ok(next) = timeout(PAUSE, self.body.frame()).await else { return false };
                let Some(frame) = next else { return true };
                let Ok(frame) = frame else { return false };
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                let Some(rest) = left.checked_sub(bytes) else { return false };
                left = rest;
            }
        };
        let is_whole = !self.asks_first && timeout(PATIENCE, taking).await.unwrap_or(false);
        if !is_whole {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

impl Shared {
    fn with<T>(&self, work: impl FnOnce(Pin<&mut Incoming>) -> T) -> T {
        work(Pin::new(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl HttpBody for Shared {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.with(|body| body.poll_frame(context))
    }

    fn is_end_stream(&self) -> bool {
        self.with(|body| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.with(|body| body.size_hint())
    }
}
