//! GraphQL over HTTP (<https://graphql.github.io/graphql-over-http/draft/>): POST, and GET for queries.
//! A browser that asks for a page gets the explorer; a WebSocket handshake goes to `socket.rs`, a subscription that is
//! to be answered in one go to `stream.rs`.

use std::future::ready;
use std::sync::Arc;

use async_graphql_axum::GraphQLResponse;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::body::Refused;
use super::edge::Caller;
use super::error::HttpError;
use super::limits::answers::{Committed, Made};
use super::limits::{RETRY_AFTER, Reservation, Resource};
use super::operation::Denied;
use super::stream::{self, Framing};
use super::{Server, body, operation, params, socket, ui};
use crate::domain::error::Error;
use crate::graphql::{OperationKind, Params, error_json, is_rate_limited};

/// Media types of an answer. They differ in what a request that cannot be executed is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MediaType {
    /// `application/graphql-response+json`: the status tells.
    GraphqlResponse,
    /// `application/json`: 200 whenever the request was well-formed.
    Json,
}

/// `/graphql`, whatever the method.
pub async fn endpoint(State(server): State<Server>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    if is_websocket(&parts.headers) {
        return socket::accept(server, parts).await;
    }
    let query_string = parts.uri.query().unwrap_or_default();
    let for_people = parts.method == Method::GET && accepts(&parts.headers, "text/html");
    if for_people && !has_query(query_string) && server.app().config().graphql.explorer {
        return ui::explorer_page();
    }
    let media_type = match (negotiate(&parts.headers), Framing::accepted(&parts.headers)) {
        (Some(media_type), _) => media_type,
        // Of what cannot be executed there is nothing to stream.
        (None, Some(_)) => MediaType::GraphqlResponse,
        (None, None) => {
            let message = "answers are application/graphql-response+json or application/json; of subscriptions \
                text/event-stream or multipart/mixed";
            return refuse(StatusCode::NOT_ACCEPTABLE, MediaType::Json, message);
        }
    };
    match parts.method {
        Method::GET => get(&server, &parts, media_type).await,
        Method::POST => post(&server, &parts, body, media_type).await,
        _ => {
            let mut response =
                refuse(StatusCode::METHOD_NOT_ALLOWED, media_type, "use POST, or GET for queries");
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, POST"));
            response
        }
    }
}

async fn get(server: &Server, parts: &Parts, media_type: MediaType) -> Response {
    // Another site's page can send a GET without asking first; it has no business here.
    let cross_site = parts.headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site");
    let trusted = parts.headers.contains_key(header::ORIGIN) && server.pages().trusts_page(&parts.headers);
    if cross_site && !trusted {
        return refuse(StatusCode::FORBIDDEN, media_type, "this page's origin is not among allowed_origins");
    }
    match params::from_query(parts.uri.query().unwrap_or_default()) {
        Ok(params) => {
            let length = parts.uri.query().map_or(0, str::len);
            let counted = if length > body::uncounted(parts.version) { length } else { 0 };
            match server.limits().reserve(Caller::of(parts).client, Resource::Memory, counted) {
                Ok(held) => run(server, parts, (params, held), media_type).await,
                Err(exceeded) => busy(server, &exceeded.into()),
            }
        }
        Err(message) => refuse(StatusCode::BAD_REQUEST, media_type, &message),
    }
}

async fn post(server: &Server, parts: &Parts, body: Body, media_type: MediaType) -> Response {
    // Also what keeps other sites' pages out: a browser does not send JSON to them without asking first.
    if !is_json(&parts.headers) {
        let message = "the body has to be application/json in UTF-8";
        return refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, media_type, message);
    }
    let (most, client) = (server.app().config().graphql.max_body_bytes, Caller::of(parts).client);
    let (bytes, held) = match body::read(server.limits(), client, parts.version, body, most).await {
        Ok(read) => read,
        Err(Refused::Long) => {
            let message = format!("the body is longer than {most} bytes, or broke off");
            return refuse(StatusCode::PAYLOAD_TOO_LARGE, media_type, &message);
        }
        Err(Refused::Slow) => {
            return refuse(StatusCode::REQUEST_TIMEOUT, media_type, "the body did not come in time");
        }
        Err(Refused::NoRoom(exceeded)) => return busy(server, &exceeded.into()),
    };
    let parsing = server.concurrency().parsing(client, bytes.len()).await;
    let params = params::from_json(&bytes);
    drop((bytes, parsing));
    match params {
        Ok(params) => run(server, parts, (params, held), media_type).await,
        Err(message) => refuse(StatusCode::BAD_REQUEST, media_type, &message),
    }
}

/// Runs an operation, whose text takes what is held for it.
async fn run(
    server: &Server,
    parts: &Parts,
    (params, held): (Params, Reservation),
    media_type: MediaType,
) -> Response {
    let Parts { method, headers, .. } = parts;
    let session = match server.auth().session(headers).await {
        Ok(session) => session,
        Err(error) => return unknown(&error, media_type),
    };
    let client = Caller::of(parts).known_by(&session).client;
    let (operation, slot) = match operation::admit(server, client, &session.actor, &params).await {
        Ok(admitted) => admitted,
        Err(Denied::Busy(error)) => return busy(server, &error),
        Err(Denied::Refused(refusal)) if refusal.is_for_now() => {
            let mut response =
                answer(StatusCode::TOO_MANY_REQUESTS, media_type, &json!({ "errors": refusal.0 }));
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER));
            return response;
        }
        Err(Denied::Refused(refusal)) => {
            return answer(media_type.status_of_refusal(), media_type, &json!({ "errors": refusal.0 }));
        }
    };
    drop((params, held));
    let framing = Framing::accepted(headers).filter(|framing| framing.suits(operation.kind, headers));
    let refusal = match operation.kind {
        OperationKind::Mutation if *method == Method::GET => {
            Some("a GET can only query: send mutations by POST")
        }
        OperationKind::Subscription if framing.is_none() => Some(
            "subscriptions need a WebSocket (graphql-transport-ws or graphql-ws), or a client that accepts \
             text/event-stream or multipart/mixed",
        ),
        _ => None,
    };
    if let Some(message) = refusal {
        let mut response = refuse(StatusCode::METHOD_NOT_ALLOWED, media_type, message);
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
        return response;
    }
    let Some(framing) = framing else {
        let is_mutation = operation.kind == OperationKind::Mutation;
        let memory = operation::memory(server, client);
        let response = server.graphql().execute(&session.actor, operation, Arc::clone(&memory)).await;
        let is_for_now = is_rate_limited(&response);
        let mut response = with_headers(GraphQLResponse::from(response).into_response(), media_type);
        drop(slot);
        if is_for_now {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER));
        }
        response.extensions_mut().insert(Made(memory));
        if is_mutation {
            response.extensions_mut().insert(Committed);
        }
        return response;
    };
    let place = match server.limits().reserve(client, Resource::Subscribers, 1) {
        Ok(place) => place,
        Err(exceeded) => {
            let errors = json!({ "errors": [error_json(exceeded.message(), "RATE_LIMITED")] });
            let mut response = answer(StatusCode::SERVICE_UNAVAILABLE, media_type, &errors);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER));
            return response;
        }
    };
    let ends = stream::Ends {
        app: server.app().clone(),
        kind: operation.kind,
        session: server.auth().watch(&session),
        limits: server.limits().clone(),
        client,
        _place: place,
    };
    let admitted = ready(Ok((operation, slot)));
    let answers = operation::begin(server, client, session.actor, admitted);
    stream::respond(framing, answers, ends)
}

/// Too much goes on already.
fn busy(server: &Server, error: &Error) -> Response {
    server.app().metrics().rate_limited();
    let mut response = refused(error);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER));
    response
}

/// The answer to a request that is refused before it is looked at.
pub fn refused(error: &Error) -> Response {
    let errors = json!({ "errors": [error_json(&error.to_string(), error.code())] });
    answer(HttpError::status_of(error), MediaType::Json, &errors)
}

/// It is not known who asks.
fn unknown(error: &Error, media_type: MediaType) -> Response {
    let status = HttpError::status_of(error);
    if let Some(cause) = error.cause() {
        tracing::warn!(?cause, "it cannot be told who asks");
    }
    let errors = json!({ "errors": [error_json(&error.to_string(), error.code())] });
    let mut response = answer(status, media_type, &errors);
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER));
    }
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

impl MediaType {
    const fn name(self) -> &'static str {
        match self {
            Self::GraphqlResponse => "application/graphql-response+json",
            Self::Json => "application/json",
        }
    }

    /// What a document that cannot be executed is answered with.
    const fn status_of_refusal(self) -> StatusCode {
        match self {
            Self::GraphqlResponse => StatusCode::BAD_REQUEST,
            Self::Json => StatusCode::OK,
        }
    }
}

fn refuse(status: StatusCode, media_type: MediaType, message: &str) -> Response {
    answer(status, media_type, &json!({ "errors": [error_json(message, "BAD_USER_INPUT")] }))
}

fn answer(status: StatusCode, media_type: MediaType, body: &impl serde::Serialize) -> Response {
    let body = serde_json::to_vec(body).expect("a response is JSON");
    with_headers((status, body).into_response(), media_type)
}

fn with_headers(mut response: Response, media_type: MediaType) -> Response {
    let content_type = match media_type {
        MediaType::GraphqlResponse => "application/graphql-response+json; charset=utf-8",
        MediaType::Json => "application/json; charset=utf-8",
    };
    for (name, value) in [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, "no-store"),
        (header::VARY, "Accept"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// The media type to answer with; none when the client takes neither. `application/json` for clients that do
/// not ask for the other by name, since that is what older ones understand.
fn negotiate(headers: &HeaderMap) -> Option<MediaType> {
    if !headers.contains_key(header::ACCEPT) {
        return Some(MediaType::Json);
    }
    let quality = |media_type: MediaType| named_quality(headers, media_type.name());
    let wildcard = named_quality(headers, "*/*").or_else(|| named_quality(headers, "application/*"));
    let graphql = quality(MediaType::GraphqlResponse).unwrap_or(0.0);
    let json = quality(MediaType::Json).or(wildcard).unwrap_or(0.0);
    match (graphql > 0.0, json > 0.0) {
        (true, _) if graphql >= json => Some(MediaType::GraphqlResponse),
        (_, true) => Some(MediaType::Json),
        (true, false) => Some(MediaType::GraphqlResponse),
        (false, false) => None,
    }
}

/// Whether a media type is named in `Accept`.
fn accepts(headers: &HeaderMap, media_type: &str) -> bool {
    named_quality(headers, media_type).is_some_and(|quality| quality > 0.0)
}

/// The quality that `Accept` gives a media type by this very name (RFC 9110, section 12.5.1).
fn named_quality(headers: &HeaderMap, media_type: &str) -> Option<f32> {
    let values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut ranges = values.flat_map(|value| value.split(','));
    ranges.find_map(|range| {
        let mut parts = range.split(';').map(str::trim);
        parts.next().filter(|name| name.eq_ignore_ascii_case(media_type))?;
        let quality = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        Some(quality.and_then(|quality| quality.parse().ok()).unwrap_or(1.0))
    })
}

/// Whether the body is JSON in UTF-8.
fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut parts = value.split(';').map(|part| part.trim().to_ascii_lowercase());
    let json = parts.next().is_some_and(|name| name == "application/json");
    json && parts
        .all(|part| part.strip_prefix("charset=").is_none_or(|charset| charset.trim_matches('"') == "utf-8"))
}

fn is_websocket(headers: &HeaderMap) -> bool {
    headers.get(header::UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

fn has_query(query_string: &str) -> bool {
    url::form_urlencoded::parse(query_string.as_bytes())
        .any(|(name, _)| matches!(&*name, "query" | "documentId" | "extensions"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(value: &str) -> Option<MediaType> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_str(value).expect("a value"));
        negotiate(&headers)
    }

    #[test]
    fn the_answer_is_of_a_type_that_the_client_takes() {
        assert_eq!(negotiate(&HeaderMap::new()), Some(MediaType::Json));
        for (value, expected) in [
            ("*/*", Some(MediaType::Json)),
            ("application/json", Some(MediaType::Json)),
            ("application/graphql-response+json", Some(MediaType::GraphqlResponse)),
            ("application/graphql-response+json, application/json;q=0.9", Some(MediaType::GraphqlResponse)),
            ("application/graphql-response+json;q=0.1, application/json", Some(MediaType::Json)),
            ("application/json;q=0, application/graphql-response+json", Some(MediaType::GraphqlResponse)),
            ("text/plain", None),
            ("image/*", None),
        ] {
            assert_eq!(accept(value), expected, "{value}");
        }
    }

    #[test]
    fn only_json_in_utf8_is_read() {
        for (value, expected) in [
            ("application/json", true),
            ("application/json; charset=utf-8", true),
            ("application/json;charset=\"UTF-8\"", true),
            ("application/json; charset=latin1", false),
            ("text/plain", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(value));
            assert_eq!(is_json(&headers), expected, "{value}");
        }
    }
}
