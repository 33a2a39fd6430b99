//! GraphQL over WebSocket: `graphql-transport-ws`
//! (<https://github.com/enisdenjo/graphql-ws/blob/master/PROTOCOL.md>) and the older `graphql-ws`
//! (<https://github.com/apollographql/subscriptions-transport-ws/blob/master/PROTOCOL.md>), which Playground speaks.
//!
//! One task has the socket and all that runs on it. While a client does not take what was sent, nothing more is asked of
//! its operations: nothing waits for it in memory but what it is being sent, and it holds up only itself.

mod allowance;
mod message;
mod operate;

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{AbortHandle, Abortable, BoxStream, SelectAll};
use futures_util::{FutureExt as _, SinkExt, StreamExt as _};
use serde_json::{Map, Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::auth::{self, Ending, SESSION_OVER, Session};
use super::edge::{self, Caller};
use super::error::HttpError;
use super::places::{Place, RETRY_AFTER};
use super::unread::Held;
use super::{Server, params};
use crate::domain::error::Error;
use crate::graphql::error_json;
use allowance::{Allowance, MESSAGES_IN};
use message::{authorization_in, operation_id, truncate};
use operate::{Event, operate};

const MODERN: &str = "graphql-transport-ws";
const LEGACY: &str = "graphql-ws";

/// How long a client may take to say `connection_init`.
const INIT_WAIT: Duration = Duration::from_secs(5);
/// How often an idle client is asked whether it is still there.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// How long a client may stay silent, or not take what is sent. One that sleeps for a minute is not gone.
const PATIENCE: Duration = Duration::from_secs(150);
/// How long it may take to say goodbye.
const FAREWELL: Duration = Duration::from_secs(1);
/// Operations that run on a connection at the same time.
const MAX_OPERATIONS: usize = 1000;
/// Bytes of the messages that began what runs on a connection; the server keeps them.
const MAX_REQUESTS: usize = 8 * 1024 * 1024;
/// Requests that are as short as this are not counted.
const SHORT_REQUEST: usize = MAX_REQUESTS / MAX_OPERATIONS;
/// Bytes of frames that are sent together, about.
const AT_ONCE: usize = 16 * 1024;
/// Longest reason in a close frame (RFC 6455, section 5.5).
const MAX_REASON: usize = 123;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Modern,
    Legacy,
}

/// Takes a handshake, if it offers a protocol that we speak and comes from a page that may.
pub fn accept(server: Server, upgrade: WebSocketUpgrade, caller: Caller, headers: &HeaderMap) -> Response {
    if !server.pages().trusts_page(headers) {
        return (StatusCode::FORBIDDEN, "this page's origin is not among allowed_origins\n").into_response();
    }
    let max_message = server.app().config().graphql.max_body_bytes;
    let upgrade = upgrade
        .protocols([MODERN, LEGACY])
        .max_message_size(max_message)
        .max_frame_size(max_message)
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
    let authorization = match auth::authorization(headers) {
        Ok(authorization) => authorization.map(ToOwned::to_owned),
        Err(error) => return HttpError::from(error).into_response(),
    };
    let place = match server.places().connection(caller.client) {
        Ok(place) => place,
        Err(why) => {
            let again = [(header::RETRY_AFTER, RETRY_AFTER)];
            return (StatusCode::SERVICE_UNAVAILABLE, again, format!("{why}\n")).into_response();
        }
    };
    let app = server.app().clone();
    let serving = move |socket| Connection::new(server, socket, protocol, authorization, caller, place).run();
    // The library waits for it, so that clients are told when the server stops.
    upgrade.on_upgrade(move |socket| app.track(serving(socket)))
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

/// An event of the `run`th operation of a connection. An id may be used again; then what is left of its
/// earlier use is told apart by that.
struct Frame {
    id: Arc<str>,
    run: u64,
    event: Event,
}

/// An operation that runs.
struct Running {
    run: u64,
    /// Length of the message that began it.
    bytes: usize,
    abort: AbortHandle,
    /// One of the operations that the process may run.
    _place: Place,
}

struct Connection {
    server: Server,
    socket: WebSocket,
    protocol: Protocol,
    authorization: Option<String>,
    session: Option<(Session, Ending)>,
    operations: HashMap<Arc<str>, Running>,
    runs: u64,
    frames: SelectAll<Abortable<BoxStream<'static, Frame>>>,
    allowance: Allowance,
    heard: Instant,
    /// Who is counted for what is asked for here.
    caller: Caller,
    place: Place,
    /// The longest message yet: the connection keeps memory for as much.
    longest: (usize, Held),
}

impl Connection {
    fn new(
        server: Server,
        socket: WebSocket,
        protocol: Protocol,
        authorization: Option<String>,
        caller: Caller,
        place: Place,
    ) -> Self {
        Self {
            server,
            socket,
            protocol,
            authorization,
            session: None,
            operations: HashMap::new(),
            runs: 0,
            frames: SelectAll::new(),
            allowance: Allowance::early(),
            heard: Instant::now(),
            caller,
            place,
            longest: (0, Held::default()),
        }
    }

    async fn run(mut self) {
        let Close { code, reason } = self.serve().await.err().unwrap_or_else(|| Close::new(1000, ""));
        // What runs ends here; a mutation that is being committed is not undone by that.
        self.frames.clear();
        let frame = CloseFrame { code, reason: Utf8Bytes::from(truncate(&reason, MAX_REASON).to_owned()) };
        // Answers the client's close frame, if it sent one; else lets it answer ours before the connection goes.
        let _ = timeout(FAREWELL, async {
            // Where the client said it first, this fails, and receiving sends the answer to it.
            let _ = self.socket.send(Message::Close(Some(frame))).await;
            while let Some(Ok(_)) = self.socket.recv().await {}
        })
        .await;
    }

    /// Serves until the client leaves (`Ok`) or has to be sent away.
    async fn serve(&mut self) -> Step {
        let stopping = self.server.app().stopping().clone();
        let mut stopped = pin!(stopping.cancelled());
        let mut init_deadline = pin!(sleep(INIT_WAIT));
        let mut pings = interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = &mut stopped => return Err(going_away()),
                () = over(self.session.as_ref()) => return Err(Close::new(4403, SESSION_OVER)),
                () = &mut init_deadline, if self.session.is_none() => {
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
                Some(frame) = self.frames.next() => self.deliver(frame).await?,
                _ = pings.tick() => {
                    if self.heard.elapsed() > PATIENCE {
                        return Err(Close::new(1001, "nothing was heard for too long"));
                    }
                    self.feed(Message::Ping(bytes::Bytes::new())).await?;
                    if self.protocol == Protocol::Legacy && self.session.is_some() {
                        self.feed_json(&json!({ "type": "ka" })).await?;
                    }
                }
            }
            self.flush().await?;
        }
    }

    /// Takes a message; false when it was the last.
    async fn receive(&mut self, message: Message) -> Result<bool, Close> {
        if let Err(most) = self.allowance.take() {
            return Err(Close::new(4429, format!("more than {most} messages in {MESSAGES_IN:?}")));
        }
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
            (Protocol::Modern, "ping") => self.feed_json(&json!({ "type": "pong" })).await?,
            (Protocol::Modern, "pong") => {}
            (Protocol::Modern, "subscribe") | (Protocol::Legacy, "start") => {
                self.subscribe(&message, text.len()).await?;
            }
            (Protocol::Modern, "complete") | (Protocol::Legacy, "stop") => self.complete(&message).await?,
            (Protocol::Legacy, "connection_terminate") => return Ok(false),
            _ => {
                return Err(Close::new(4400, format!("Invalid message: unknown type {kind:?}")));
            }
        }
        Ok(true)
    }

    async fn init(&mut self, message: &Map<String, Value>) -> Step {
        if self.session.is_some() {
            return Err(Close::new(4429, "Too many initialisation requests"));
        }
        let payload = match message.get("payload") {
            None | Some(Value::Null) => None,
            Some(Value::Object(payload)) => Some(payload),
            Some(_) => return Err(Close::new(4400, "Invalid message: payload has to be an object")),
        };
        let said = payload.and_then(|payload| authorization_in(payload)).map(ToOwned::to_owned);
        let authorization = said.or_else(|| self.authorization.take());
        let client = edge::client(&self.server, self.caller.address, authorization.as_deref());
        // A look at a token costs as much here as with a request of its own. Without one the handshake was enough.
        if authorization.is_some() && self.server.edge().count(client).is_err() {
            self.server.app().metrics().rate_limited();
            return Err(Close::new(1013, "too many requests: come again later"));
        }
        match self.server.auth().session_of(authorization.as_deref()).await {
            Ok(session) => {
                self.caller = self.caller.known_by(&session);
                if authorization.is_some() {
                    self.place.is_known();
                }
                self.place.is_strangers().map_err(|why| Close::new(1013, why))?;
                let ending = self.server.auth().watch(&session);
                self.session = Some((session, ending));
                self.allowance = Allowance::whole();
            }
            Err(error @ Error::Unavailable { .. }) => return Err(Close::new(1013, error.to_string())),
            Err(error) => {
                if self.protocol == Protocol::Legacy {
                    let payload = error_json(&error.to_string(), error.code());
                    self.feed_json(&json!({ "type": "connection_error", "payload": payload })).await?;
                }
                return Err(Close::new(4403, format!("Forbidden: {error}")));
            }
        }
        self.feed_json(&json!({ "type": "connection_ack" })).await?;
        if self.protocol == Protocol::Legacy {
            self.feed_json(&json!({ "type": "ka" })).await?;
        }
        Ok(())
    }

    async fn subscribe(&mut self, message: &Map<String, Value>, bytes: usize) -> Step {
        let Some((Session { actor, .. }, _)) = self.session.as_ref() else {
            return Err(Close::new(4401, "Unauthorized"));
        };
        let actor = actor.clone();
        let id: Arc<str> = operation_id(message)?.into();
        let Some(Value::Object(payload)) = message.get("payload") else {
            return Err(Close::new(4400, "Invalid message: payload has to be an object"));
        };
        let params = params::from_json(payload)
            .map_err(|problem| Close::new(4400, format!("Invalid message: {problem}")))?;
        if let Some(earlier) = self.operations.get(&id) {
            if self.protocol == Protocol::Modern {
                return Err(Close::new(4409, format!("Subscriber for {id} already exists")));
            }
            // The older protocol replaces what runs under the id.
            earlier.abort.abort();
            self.operations.remove(&id);
        }
        if self.operations.len() >= MAX_OPERATIONS {
            let message = format!("a connection runs at most {MAX_OPERATIONS} operations at a time");
            return self.refuse(&id, &message).await;
        }
        let requests: usize = self.operations.values().map(|running| running.bytes).sum();
        if bytes > SHORT_REQUEST && requests + bytes > MAX_REQUESTS {
            let message = format!("what runs on a connection was asked for in at most {MAX_REQUESTS} bytes");
            return self.refuse(&id, &message).await;
        }
        if let Err(wait) = self.server.edge().count(self.caller.client) {
            self.server.app().metrics().rate_limited();
            return self.refuse(&id, &edge::too_often(wait).to_string()).await;
        }
        let place = match self.server.places().operation(self.caller.client) {
            Ok(place) => place,
            Err(why) => return self.refuse(&id, why).await,
        };
        self.runs += 1;
        let run = self.runs;
        let (abort, registration) = AbortHandle::new_pair();
        let events = operate(self.server.graphql(), actor, &params);
        let events = self.server.turns().clone().first(self.caller.client, events);
        let of = Arc::clone(&id);
        let frames = events.map(move |event| Frame { id: Arc::clone(&of), run, event });
        self.frames.push(Abortable::new(frames.boxed(), registration));
        self.operations.insert(id, Running { run, bytes, abort, _place: place });
        Ok(())
    }

    async fn refuse(&mut self, id: &str, message: &str) -> Step {
        let errors = json!([error_json(message, "RATE_LIMITED")]);
        self.feed_json(&json!({ "type": "error", "id": id, "payload": errors })).await
    }

    async fn complete(&mut self, message: &Map<String, Value>) -> Step {
        let id = operation_id(message)?;
        if let Some(operation) = self.operations.remove(id.as_str()) {
            operation.abort.abort();
            if self.protocol == Protocol::Legacy {
                self.feed_json(&json!({ "type": "complete", "id": id })).await?;
            }
        }
        Ok(())
    }

    /// Hands over a frame, and those that are there already, as far as they are few.
    async fn deliver(&mut self, frame: Frame) -> Step {
        if self.session.as_ref().is_some_and(|(_, ending)| ending.is_over()) {
            return Err(Close::new(4403, SESSION_OVER));
        }
        let mut fed = self.feed_frame(frame).await?;
        while fed < AT_ONCE {
            let Some(Some(frame)) = self.frames.next().now_or_never() else { break };
            fed += self.feed_frame(frame).await?;
        }
        Ok(())
    }

    /// Answers with how many bytes it was.
    async fn feed_frame(&mut self, frame: Frame) -> Result<usize, Close> {
        let Frame { id, run, event } = frame;
        if self.operations.get(&id).is_none_or(|current| current.run != run) {
            return Ok(0);
        }
        if !matches!(event, Event::Next(_)) {
            self.operations.remove(&id);
        }
        let (kind, payload) = match (self.protocol, &event) {
            (Protocol::Modern, Event::Next(payload)) => ("next", Some(payload)),
            (Protocol::Legacy, Event::Next(payload)) => ("data", Some(payload)),
            (_, Event::Errors(payload)) => ("error", Some(payload)),
            (_, Event::Complete) => ("complete", None),
        };
        let id = serde_json::to_string(&*id).expect("a text is JSON");
        let text = match payload {
            Some(payload) => {
                [r#"{"type":""#, kind, r#"","id":"#, &id, r#","payload":"#, payload, "}"].concat()
            }
            None => [r#"{"type":""#, kind, r#"","id":"#, &id, "}"].concat(),
        };
        let bytes = text.len();
        if bytes > self.longest.0 {
            let held = self.server.unread().hold(self.caller.client, bytes);
            let held = held.map_err(|why| {
                self.server.app().metrics().rate_limited();
                Close::new(1013, why)
            });
            self.longest = (bytes, held?);
        }
        self.feed(Message::Text(text.into())).await?;
        Ok(bytes)
    }

    async fn feed_json(&mut self, message: &Value) -> Step {
        self.feed(Message::Text(message.to_string().into())).await
    }

    async fn feed(&mut self, message: Message) -> Step {
        let sending = self.socket.feed(message);
        let waited = patiently(self.server.app().stopping(), self.session.as_ref(), sending).await?;
        self.note_reading(waited);
        Ok(())
    }

    async fn flush(&mut self) -> Step {
        let sending = SinkExt::<Message>::flush(&mut self.socket);
        let waited = patiently(self.server.app().stopping(), self.session.as_ref(), sending).await?;
        self.note_reading(waited);
        Ok(())
    }

    /// Who takes what it was sent is there, though nothing could be heard meanwhile.
    fn note_reading(&mut self, waited: bool) {
        if waited {
            self.heard = Instant::now();
        }
    }
}

/// Waits until a client took what it was sent, as long as the server waits for it; answers whether it had to be waited
/// for.
async fn patiently(
    stopping: &CancellationToken,
    session: Option<&(Session, Ending)>,
    sending: impl Future<Output = Result<(), axum::Error>>,
) -> Result<bool, Close> {
    let mut sending = pin!(sending);
    let broken = |error: axum::Error| Close::new(1011, error.to_string());
    if let Some(sent) = (&mut sending).now_or_never() {
        return sent.map(|()| false).map_err(broken);
    }
    tokio::select! {
        () = stopping.cancelled() => Err(going_away()),
        () = over(session) => Err(Close::new(4403, SESSION_OVER)),
        sent = timeout(PATIENCE, sending) => match sent {
            Ok(sent) => sent.map(|()| true).map_err(broken),
            Err(_) => Err(Close::new(1013, "nothing was read for too long; resume by cursor")),
        },
    }
}

/// Returns when the session of who connected is over.
async fn over(session: Option<&(Session, Ending)>) {
    match session {
        Some((_, ending)) => ending.over().await,
        None => std::future::pending().await,
    }
}

fn going_away() -> Close {
    Close::new(1001, "the server is going away; resume by cursor")
}
