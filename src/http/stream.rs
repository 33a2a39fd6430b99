//! Subscriptions in one HTTP answer: as Server-Sent Events
//! (<https://github.com/enisdenjo/graphql-sse/blob/master/PROTOCOL.md>, distinct connections), or as parts of a
//! multipart answer, as Apollo's clients ask for
//! (<https://www.apollographql.com/docs/graphos/routing/operations/subscriptions/multipart-protocol>).

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use serde_json::json;
use tokio::time::timeout;

use super::auth::{Ending, SESSION_OVER};
use super::limits::{Client, Limits, Reservation, answers};
use crate::app::App;
use crate::graphql::{OperationKind, Payload, Refusal, error_json};

/// Longest silence; proxies close what is silent for long.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// How events are told apart in the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// `text/event-stream`.
    Events,
    /// `multipart/mixed`.
    Multipart,
}

impl Framing {
    /// What a client can read that sent these headers; none when it expects one answer only.
    pub fn accepted(headers: &HeaderMap) -> Option<Self> {
        let values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let ranges: Vec<String> = values
            .flat_map(|value| value.split(','))
            .map(|range| range.trim().to_ascii_lowercase())
            .collect();
        let has = |name: &str| ranges.iter().any(|range| range.split(';').next() == Some(name));
        let apollo =
            |range: &String| range.starts_with("multipart/mixed") && range.contains("subscriptionspec");
        if ranges.iter().any(apollo) {
            Some(Self::Multipart)
        } else if has("text/event-stream") {
            Some(Self::Events)
        } else if has("multipart/mixed") {
            Some(Self::Multipart)
        } else {
            None
        }
    }

    /// Whether an operation is answered in this way: of queries and mutations only those of a client that asks for
    /// nothing else.
    pub fn suits(self, kind: OperationKind, headers: &HeaderMap) -> bool {
        let only = || {
            headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).is_some_and(|value| {
                value
                    .split(';')
                    .next()
                    .is_some_and(|name| name.trim().eq_ignore_ascii_case("text/event-stream"))
                    && !value.contains(',')
            })
        };
        kind == OperationKind::Subscription || (self == Self::Events && only())
    }

    fn next(self, payload: &str) -> Bytes {
        match self {
            Self::Events => format!("event: next\ndata: {payload}\n\n"),
            // The boundary follows each part, so that the client need not wait for the next one.
            Self::Multipart => part(&format!(r#"{{"payload":{payload}}}"#)),
        }
        .into()
    }

    fn heartbeat(self) -> Bytes {
        match self {
            Self::Events => Bytes::from_static(b":\n\n"),
            Self::Multipart => part("{}").into(),
        }
    }

    fn begin(self) -> Bytes {
        match self {
            Self::Events => Bytes::from_static(b":\n\n"),
            Self::Multipart => Bytes::from_static(b"--graphql"),
        }
    }

    fn complete(self) -> Bytes {
        match self {
            Self::Events => Bytes::from_static(b"event: complete\ndata:\n\n"),
            Self::Multipart => Bytes::from_static(b"--\r\n"),
        }
    }
}

fn part(body: &str) -> String {
    format!("\r\nContent-Type: application/json\r\n\r\n{body}\r\n--graphql")
}

/// An answer on its way.
struct Answer<P> {
    state: State,
    payloads: P,
    ends: Ends,
}

/// What an answer ends with, besides its payloads.
pub struct Ends {
    /// The server.
    pub app: App,
    /// What was asked for.
    pub kind: OperationKind,
    /// The session of who asked.
    pub session: Ending,
    /// What counts payloads that are not taken.
    pub limits: Limits,
    /// For whom.
    pub client: Client,
    /// One of the connections that the process may have.
    pub _place: Reservation,
}

/// Where it stands.
enum State {
    Begin,
    Open,
    /// It is to be completed.
    Ended,
    Over,
}

/// Answers with each of `payloads` as it comes. When the server stops, the answer ends without being completed, so
/// that the client comes again.
pub fn respond(
    framing: Framing,
    payloads: impl Stream<Item = Result<Payload, Refusal>> + Send + Unpin + 'static,
    ends: Ends,
) -> Response {
    let answer = Answer { state: State::Begin, payloads, ends };
    let pieces = stream::unfold(answer, move |mut answer| async move {
        let piece = answer.next(framing).await?;
        Some((piece, answer))
    });
    let mut response = Body::from_stream(pieces.map(Ok::<_, Infallible>)).into_response();
    let content_type = match framing {
        Framing::Events => "text/event-stream; charset=utf-8",
        Framing::Multipart => r#"multipart/mixed;boundary="graphql";subscriptionSpec=1.0"#,
    };
    for (name, value) in [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, "no-store"),
        (header::VARY, "Accept"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // nginx would hold events back.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

impl<P> Answer<P> {
    /// The client holds too much to be told more.
    fn refuse(&mut self, framing: Framing, refusal: &Refusal) -> Option<Bytes> {
        self.ends.app.metrics().rate_limited();
        if self.ends.kind == OperationKind::Subscription {
            // It is not complete: the client comes again, from its cursor.
            return None;
        }
        self.state = State::Ended;
        Some(framing.next(&json!({ "errors": refusal.0 }).to_string()))
    }
}

impl<P: Stream<Item = Result<Payload, Refusal>> + Unpin> Answer<P> {
    async fn next(&mut self, framing: Framing) -> Option<Bytes> {
        match self.state {
            State::Begin => {
                self.state = State::Open;
                return Some(framing.begin());
            }
            State::Ended => {
                self.state = State::Over;
                return Some(framing.complete());
            }
            State::Over => return None,
            State::Open => {}
        }
        let next = tokio::select! {
            // What is there to be told is not told to who may not hear it any more.
            biased;
            () = self.ends.app.stopping().cancelled() => return None,
            () = self.ends.session.over() => {
                self.state = State::Ended;
                let errors = json!({ "errors": [error_json(SESSION_OVER, "UNAUTHENTICATED")] });
                return Some(framing.next(&errors.to_string()));
            }
            next = timeout(HEARTBEAT, self.payloads.next()) => next,
        };
        Some(match next {
            Err(_) => framing.heartbeat(),
            Ok(Some(Ok(payload))) => {
                let piece = framing.next(&payload.json);
                match answers::tie(&self.ends.limits, self.ends.client, piece, self.ends.kind) {
                    Ok(piece) => piece,
                    Err(exceeded) => {
                        let message = error_json(exceeded.message(), "RATE_LIMITED");
                        return self.refuse(framing, &Refusal(vec![message]));
                    }
                }
            }
            Ok(Some(Err(refusal))) => return self.refuse(framing, &refusal),
            Ok(None) => {
                self.state = State::Over;
                framing.complete()
            }
        })
    }
}
