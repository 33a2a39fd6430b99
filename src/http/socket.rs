//! GraphQL over WebSocket: `graphql-transport-ws`
//! (<https://github.com/enisdenjo/graphql-ws/blob/master/PROTOCOL.md>) and the older `graphql-ws`
//! (<https://github.com/apollographql/subscriptions-transport-ws/blob/master/PROTOCOL.md>), which Playground speaks.
//!
//! One task has the socket; each operation runs in a task of its own and hands its frames over a short queue,
//! so that a slow operation holds up no other, and a client that does not read holds up only itself.

use std::collections::HashMap;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt as _;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout};

use super::{Server, params};
use crate::domain::actor::Actor;
use crate::graphql::{self, Graphql, OperationKind, Params, error_json};

const MODERN: &str = "graphql-transport-ws";
const LEGACY: &str = "graphql-ws";

/// How long a client may take to say `connection_init`.
const INIT_WAIT: Duration = Duration::from_secs(5);
/// How often an idle client is asked whether it is still there.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// How long a client may stay silent, or not take what is sent.
const PATIENCE: Duration = Duration::from_secs(60);
/// Operations that run on a connection at the same time.
const MAX_OPERATIONS: usize = 1000;
/// Frames of all operations of a connection that wait to be sent.
const QUEUE: usize = 64;
/// Longest message of a client, in bytes.
const MAX_MESSAGE: usize = 1024 * 1024;
/// Longest reason in a close frame (RFC 6455, section 5.5).
const MAX_REASON: usize = 123;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Modern,
    Legacy,
}

/// Takes a handshake, if it offers a protocol that we speak and comes from a page that may.
pub fn accept(server: Server, upgrade: WebSocketUpgrade, headers: &HeaderMap) -> Response {
    if !server.auth().trusts_page(headers) {
        return (StatusCode::FORBIDDEN, "this page's origin is not among allowed_origins\n").into_response();
    }
    let upgrade = upgrade
        .protocols([MODERN, LEGACY])
        .max_message_size(MAX_MESSAGE)
        .max_frame_size(MAX_MESSAGE)
        .read_buffer_size(4096)
        .write_buffer_size(4096);
    let protocol = match upgrade.selected_protocol().and_then(|name| name.to_str().ok()) {
        Some(MODERN) => Protocol::Modern,
        Some(LEGACY) => Protocol::Legacy,
        _ => {
            return (StatusCode::BAD_REQUEST, "offer graphql-transport-ws or graphql-ws\n").into_response();
        }
    };
    // A browser cannot set headers here, others can: what connection_init says goes before them.
    let authorization =
        headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).map(ToOwned::to_owned);
    upgrade.on_upgrade(move |socket| Connection::new(server, socket, protocol, authorization).run())
}

/// Why the server closes a connection.
#[derive(Debug)]
struct Close {
    code: u16,
    reason: String,
}

impl Close {
    fn new(code: u16, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into() }
    }
}

/// How a step of a connection ends.
type Step = Result<(), Close>;

/// What an operation hands to its connection.
enum Event {
    Next(String),
    Errors(String),
    Complete,
}

/// An event of the `run`th operation of a connection. An id may be used again; then what is left of its
/// earlier use is told apart by that.
struct Frame {
    id: String,
    run: u64,
    event: Event,
}

struct Connection {
    server: Server,
    socket: WebSocket,
    protocol: Protocol,
    authorization: Option<String>,
    actor: Option<Actor>,
    operations: HashMap<String, (u64, AbortHandle)>,
    runs: u64,
    tasks: JoinSet<()>,
    frames: mpsc::Sender<Frame>,
    outbox: mpsc::Receiver<Frame>,
    heard: Instant,
}

impl Connection {
    fn new(server: Server, socket: WebSocket, protocol: Protocol, authorization: Option<String>) -> Self {
        let (frames, outbox) = mpsc::channel(QUEUE);
        Self {
            server,
            socket,
            protocol,
            authorization,
            actor: None,
            operations: HashMap::new(),
            runs: 0,
            tasks: JoinSet::new(),
            frames,
            outbox,
            heard: Instant::now(),
        }
    }

    async fn run(mut self) {
        let Close { code, reason } = self.serve().await.err().unwrap_or_else(|| Close::new(1000, ""));
        let frame = CloseFrame { code, reason: Utf8Bytes::from(truncate(&reason, MAX_REASON).to_owned()) };
        // Answers the client's close frame, if it sent one; else lets it answer ours before the connection goes.
        let _ = timeout(PATIENCE, self.socket.send(Message::Close(Some(frame)))).await;
        let _ =
            timeout(Duration::from_secs(1), async { while let Some(Ok(_)) = self.socket.recv().await {} })
                .await;
        self.tasks.shutdown().await;
    }

    /// Serves until the client leaves (`Ok`) or has to be sent away.
    async fn serve(&mut self) -> Step {
        let stopping = self.server.app().stopping().clone();
        let init_deadline = Instant::now() + INIT_WAIT;
        let mut pings = interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stopping.cancelled() => return Err(Close::new(1001, "the server is going away; resume by cursor")),
                () = sleep_until(init_deadline), if self.actor.is_none() => {
                    return Err(Close::new(4408, "Connection initialisation timeout"));
                }
                message = self.socket.recv() => match message {
                    Some(Ok(message)) => {
                        self.heard = Instant::now();
                        if !self.receive(message).await? {
                            return Ok(());
                        }
                    }
                    Some(Err(error)) => {
                        // Too long a message, or no WebSocket any more.
                        return Err(Close::new(1009, error.to_string()));
                    }
                    None => return Ok(()),
                },
                Some(frame) = self.outbox.recv() => self.deliver(frame).await?,
                _ = pings.tick() => {
                    if self.heard.elapsed() > PATIENCE {
                        return Err(Close::new(1001, "nothing was heard for too long"));
                    }
                    self.send(Message::Ping(bytes::Bytes::new())).await?;
                    if self.protocol == Protocol::Legacy && self.actor.is_some() {
                        self.send_json(&json!({ "type": "ka" })).await?;
                    }
                }
                Some(_) = self.tasks.join_next() => {}
            }
        }
    }

    /// Takes a message; false when it was the last.
    async fn receive(&mut self, message: Message) -> Result<bool, Close> {
        let text = match message {
            Message::Text(text) => text,
            Message::Binary(_) => return Err(Close::new(4400, "messages have to be text")),
            Message::Ping(_) | Message::Pong(_) => return Ok(true),
            Message::Close(_) => return Ok(false),
        };
        let Ok(Value::Object(message)) = serde_json::from_str(&text) else {
            return Err(Close::new(4400, "Invalid message: it has to be a JSON object"));
        };
        let Some(kind) = message.get("type").and_then(Value::as_str) else {
            return Err(Close::new(4400, "Invalid message: type is missing"));
        };
        match (self.protocol, kind) {
            (_, "connection_init") => self.init(&message).await?,
            (Protocol::Modern, "ping") => self.send_json(&json!({ "type": "pong" })).await?,
            (Protocol::Modern, "pong") => {}
            (Protocol::Modern, "subscribe") | (Protocol::Legacy, "start") => self.subscribe(&message)?,
            (Protocol::Modern, "complete") | (Protocol::Legacy, "stop") => self.complete(&message).await?,
            (Protocol::Legacy, "connection_terminate") => return Ok(false),
            _ => {
                return Err(Close::new(4400, format!("Invalid message: unknown type {kind:?}")));
            }
        }
        Ok(true)
    }

    async fn init(&mut self, message: &Map<String, Value>) -> Step {
        if self.actor.is_some() {
            return Err(Close::new(4429, "Too many initialisation requests"));
        }
        let payload = match message.get("payload") {
            None | Some(Value::Null) => None,
            Some(Value::Object(payload)) => Some(payload),
            Some(_) => return Err(Close::new(4400, "Invalid message: payload has to be an object")),
        };
        let said = payload.and_then(|payload| authorization_in(payload)).map(ToOwned::to_owned);
        let authorization = said.or_else(|| self.authorization.take());
        match self.server.auth().actor_of(authorization.as_deref()) {
            Ok(actor) => self.actor = Some(actor),
            Err(error) => {
                if self.protocol == Protocol::Legacy {
                    let payload = error_json(&error.to_string(), error.code());
                    self.send_json(&json!({ "type": "connection_error", "payload": payload })).await?;
                }
                return Err(Close::new(4403, format!("Forbidden: {error}")));
            }
        }
        self.send_json(&json!({ "type": "connection_ack" })).await?;
        if self.protocol == Protocol::Legacy {
            self.send_json(&json!({ "type": "ka" })).await?;
        }
        Ok(())
    }

    fn subscribe(&mut self, message: &Map<String, Value>) -> Step {
        let Some(actor) = self.actor.clone() else {
            return Err(Close::new(4401, "Unauthorized"));
        };
        let id = operation_id(message)?;
        let Some(Value::Object(payload)) = message.get("payload") else {
            return Err(Close::new(4400, "Invalid message: payload has to be an object"));
        };
        let params = params::from_json(payload)
            .map_err(|problem| Close::new(4400, format!("Invalid message: {problem}")))?;
        if let Some((_, earlier)) = self.operations.get(&id) {
            if self.protocol == Protocol::Modern {
                return Err(Close::new(4409, format!("Subscriber for {id} already exists")));
            }
            // The older protocol replaces what runs under the id.
            earlier.abort();
        }
        self.runs += 1;
        let frames = Frames { sender: self.frames.clone(), id: id.clone(), run: self.runs };
        let task = if self.operations.len() >= MAX_OPERATIONS {
            self.tasks.spawn(frames.refuse())
        } else {
            self.tasks.spawn(operate(self.server.graphql().clone(), actor, params, frames))
        };
        self.operations.insert(id, (self.runs, task));
        Ok(())
    }

    async fn complete(&mut self, message: &Map<String, Value>) -> Step {
        let id = operation_id(message)?;
        if let Some((_, task)) = self.operations.remove(&id) {
            task.abort();
            if self.protocol == Protocol::Legacy {
                self.send_json(&json!({ "type": "complete", "id": id })).await?;
            }
        }
        Ok(())
    }

    async fn deliver(&mut self, frame: Frame) -> Step {
        let Frame { id, run, event } = frame;
        if self.operations.get(&id).is_none_or(|(current, _)| *current != run) {
            return Ok(());
        }
        if !matches!(event, Event::Next(_)) {
            self.operations.remove(&id);
        }
        let id = Value::String(id);
        let text = match (self.protocol, event) {
            (Protocol::Modern, Event::Next(payload)) => {
                format!(r#"{{"type":"next","id":{id},"payload":{payload}}}"#)
            }
            (Protocol::Legacy, Event::Next(payload)) => {
                format!(r#"{{"type":"data","id":{id},"payload":{payload}}}"#)
            }
            (_, Event::Errors(payload)) => format!(r#"{{"type":"error","id":{id},"payload":{payload}}}"#),
            (_, Event::Complete) => format!(r#"{{"type":"complete","id":{id}}}"#),
        };
        self.send(Message::Text(text.into())).await
    }

    async fn send_json(&mut self, message: &Value) -> Step {
        self.send(Message::Text(message.to_string().into())).await
    }

    async fn send(&mut self, message: Message) -> Step {
        match timeout(PATIENCE, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Close::new(1011, error.to_string())),
            Err(_) => Err(Close::new(1008, "nothing was read for too long")),
        }
    }
}

/// The way of an operation's events to its connection.
struct Frames {
    sender: mpsc::Sender<Frame>,
    id: String,
    run: u64,
}

impl Frames {
    /// Waits while the queue is full; false when the connection is gone.
    async fn send(&self, event: Event) -> bool {
        self.sender.send(Frame { id: self.id.clone(), run: self.run, event }).await.is_ok()
    }

    async fn refuse(self) {
        let message = format!("a connection runs at most {MAX_OPERATIONS} operations at a time");
        self.send(Event::Errors(json!([error_json(&message, "RATE_LIMITED")]).to_string())).await;
    }
}

async fn operate(executor: Graphql, actor: Actor, params: Params, frames: Frames) {
    let operation = match executor.prepare(&params) {
        Ok(operation) => operation,
        Err(refusal) => {
            frames.send(Event::Errors(Value::Array(refusal.0).to_string())).await;
            return;
        }
    };
    // A mutation in flight is not undone when its client leaves; this task only waits for it.
    if operation.kind != OperationKind::Subscription {
        let response = executor.execute(&actor, operation).await;
        if frames.send(Event::Next(serialise(&response))).await {
            frames.send(Event::Complete).await;
        }
        return;
    }
    let mut responses = executor.subscribe(&actor, operation);
    let mut begun = false;
    while let Some(response) = responses.next().await {
        // An error before the first event: the subscription could not begin.
        if !begun && graphql::is_failure(&response) {
            let errors = serde_json::to_string(&response.errors).expect("errors are JSON");
            frames.send(Event::Errors(errors)).await;
            return;
        }
        begun = true;
        if !frames.send(Event::Next(serialise(&response))).await {
            return;
        }
    }
    frames.send(Event::Complete).await;
}

/// The JSON of a response.
pub fn serialise(response: &impl serde::Serialize) -> String {
    serde_json::to_string(response).expect("a response is JSON")
}

fn operation_id(message: &Map<String, Value>) -> Result<String, Close> {
    match message.get("id") {
        Some(Value::String(id)) if !id.is_empty() => Ok(id.clone()),
        _ => Err(Close::new(4400, "Invalid message: id has to be a text that is not empty")),
    }
}

/// What `connection_init` says of who connects: `Authorization`, in any case, there or among `headers`.
fn authorization_in(payload: &Map<String, Value>) -> Option<&str> {
    let nested = payload.get("headers").and_then(Value::as_object);
    let mut entries = payload.iter().chain(nested.into_iter().flatten());
    let (_, value) = entries.find(|(name, _)| name.eq_ignore_ascii_case("authorization"))?;
    value.as_str()
}

/// The longest beginning of `text` that has at most `bytes` bytes.
fn truncate(text: &str, bytes: usize) -> &str {
    text.char_indices()
        .map(|(start, c)| start + c.len_utf8())
        .take_while(|end| *end <= bytes)
        .last()
        .map_or("", |end| &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_reason_is_cut_between_characters() {
        assert_eq!(truncate("aéé", 4), "aé");
        assert_eq!(truncate("abc", 10), "abc");
        assert_eq!(truncate("é", 1), "");
    }

    #[test]
    fn authorization_is_found_in_any_case() {
        let object = |value: Value| value.as_object().cloned().expect("an object");
        assert_eq!(authorization_in(&object(json!({"authorization": "Bearer x"}))), Some("Bearer x"));
        assert_eq!(
            authorization_in(&object(json!({"headers": {"Authorization": "Bearer y"}}))),
            Some("Bearer y")
        );
        assert_eq!(authorization_in(&object(json!({"token": "z"}))), None);
    }
}
