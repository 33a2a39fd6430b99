//! GraphQL over WebSocket: `graphql-transport-ws`
//! (<https://github.com/enisdenjo/graphql-ws/blob/master/PROTOCOL.md>) and the older `graphql-ws`
//! (<https://github.com/apollographql/subscriptions-transport-ws/blob/master/PROTOCOL.md>), which Playground speaks.
//!
//! One task has the socket and all that runs on it. While a client does not take what was sent, nothing more is asked of
//! its operations: nothing waits for it in memory but what it is being sent, and it holds up only itself.

mod allowance;
mod message;
mod send;
mod transport;

use std::collections::HashMap;
use std::future::ready;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, AbortHandle, Abortable, BoxStream, SelectAll};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Bytes, Message, Utf8Bytes};

use super::auth::{self, Ending, SESSION_OVER, Session};
use super::edge::{self, Caller};
use super::error::HttpError;
use super::limits::{Client, RETRY_AFTER, Reservation, Resource, SHORT};
use super::{Server, connections, operation, params};
use crate::domain::error::Error;
use crate::graphql::{Payload, Refusal, error_json};
use allowance::{Allowance, MESSAGES_IN};
use message::{ClientMessage, authorization_in, truncate};
use transport::{Handshake, WebSocket, close_of};

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
/// Bytes that an operation takes besides its request, about.
const OPERATION: usize = 1024;
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
pub async fn accept(server: Server, mut parts: Parts) -> Response {
    let caller = Caller::of(&parts);
    if !server.pages().trusts_page(&parts.headers) {
        return (StatusCode::FORBIDDEN, "this page's origin is not among allowed_origins\n").into_response();
    }
    let handshake = match Handshake::read(&mut parts, [MODERN, LEGACY]).await {
        Ok(handshake) => handshake,
        Err(response) => return response,
    };
    let protocol = if handshake.protocol == MODERN { Protocol::Modern } else { Protocol::Legacy };
    // A browser cannot set headers here, others can: what connection_init says goes before them.
    let authorization = match auth::authorization(&parts.headers) {
        Ok(authorization) => authorization.map(ToOwned::to_owned),
        Err(error) => return HttpError::from(error).into_response(),
    };
    // Nobody has said yet who it is: until then it is one of its address.
    let client = match caller.client {
        Client::Anonymous(address) => Client::Unproven(address),
        known => known,
    };
    let limits = server.limits();
    let held = |resource, amount| limits.reserve(client, resource, amount);
    let (place, incoming) = match (held(Resource::Subscribers, 1), held(Resource::Memory, 0)) {
        (Ok(place), Ok(incoming)) => (place, incoming),
        (Err(exceeded), _) | (_, Err(exceeded)) => {
            let again = [(header::RETRY_AFTER, RETRY_AFTER.to_string())];
            return (StatusCode::SERVICE_UNAVAILABLE, again, format!("{}\n", exceeded.message()))
                .into_response();
        }
    };
    let connection = parts.extensions.remove::<connections::Connection>();
    let max_message = server.app().config().graphql.max_body_bytes;
    let (response, upgraded) = handshake.accept(max_message, incoming);
    let app = server.app().clone();
    let serving = async move {
        let _busy = connection.as_ref().map(connections::Connection::busy);
        let Some(socket) = upgraded.await else { return };
        let serving = Connection::new(server, socket, protocol, authorization, caller, place);
        serving.on(connection.clone()).run().await;
    };
    // The library waits for it, so that clients are told when the server stops.
    tokio::spawn(app.track(serving));
    response
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
    /// An answer.
    Next(Arc<str>),
    /// Why it could not begin.
    Errors(Arc<str>),
    /// Its end.
    Complete,
}

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
    abort: AbortHandle,
    /// One of the operations that the process may run, and the memory for what began it.
    _held: (Reservation, Reservation),
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
    place: Reservation,
    /// The connection of HTTP that it runs on.
    under: Option<connections::Connection>,
}

impl Connection {
    fn new(
        server: Server,
        socket: WebSocket,
        protocol: Protocol,
        authorization: Option<String>,
        caller: Caller,
        place: Reservation,
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
            under: None,
        }
    }

    fn on(self, under: Option<connections::Connection>) -> Self {
        Self { under, ..self }
    }

    async fn run(mut self) {
        let Close { code, reason } = self.serve().await.err().unwrap_or_else(|| Close::new(1000, ""));
        // What runs ends here; a mutation that is being committed is not undone by that.
        self.frames.clear();
        let reason = Utf8Bytes::from(truncate(&reason, MAX_REASON).to_owned());
        let frame = CloseFrame { code: code.into(), reason };
        // Answers the client's close frame, if it sent one; else lets it answer ours before the connection goes.
        let _ = timeout(FAREWELL, async {
            // Where the client said it first, this fails, and receiving sends the answer to it.
            let _ = self.socket.send(Message::Close(Some(frame))).await;
            while let Some(Ok(_)) = self.socket.next().await {}
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
                message = self.socket.next() => match message {
                    Some(Ok(message)) => {
                        self.heard = Instant::now();
                        self.socket.get_mut().settle(&message);
                        if !self.receive(message).await? {
                            return Ok(());
                        }
                    }
                    Some(Err(error)) => {
                        let (code, reason) = close_of(&self.socket, &error);
                        return Err(Close::new(code, reason));
                    }
                    None => return Ok(()),
                },
                Some(frame) = self.frames.next() => self.deliver(frame).await?,
                _ = pings.tick() => {
                    if self.heard.elapsed() > PATIENCE {
                        return Err(Close::new(1001, "nothing was heard for too long"));
                    }
                    self.feed(Message::Ping(Bytes::new())).await?;
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
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => return Ok(true),
            Message::Close(_) => return Ok(false),
        };
        let parsing = self.server.concurrency().parsing(self.caller.client, text.len()).await;
        let message = ClientMessage::read(&text);
        drop(parsing);
        let message = message?;
        match (self.protocol, &*message.kind) {
            (_, "connection_init") => self.init(&message).await?,
            (Protocol::Modern, "ping") => self.feed_json(&json!({ "type": "pong" })).await?,
            (Protocol::Modern, "pong") => {}
            (Protocol::Modern, "subscribe") | (Protocol::Legacy, "start") => {
                self.subscribe(&message, text.len()).await?;
            }
            (Protocol::Modern, "complete") | (Protocol::Legacy, "stop") => self.complete(&message).await?,
            (Protocol::Legacy, "connection_terminate") => return Ok(false),
            (_, kind) => {
                return Err(Close::new(4400, format!("Invalid message: unknown type {kind:?}")));
            }
        }
        Ok(true)
    }

    async fn init(&mut self, message: &ClientMessage<'_>) -> Step {
        if self.session.is_some() {
            return Err(Close::new(4429, "Too many initialisation requests"));
        }
        let said = message.payload()?.and_then(authorization_in);
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
                for held in [&mut self.place, self.socket.get_mut().held()] {
                    let handed = held.hand_over(self.caller.client);
                    handed.map_err(|exceeded| Close::new(1013, exceeded.message()))?;
                }
                if let Some(under) = &self.under {
                    under
                        .used_by(self.caller.client)
                        .map_err(|exceeded| Close::new(1013, exceeded.message()))?;
                }
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

    async fn subscribe(&mut self, message: &ClientMessage<'_>, bytes: usize) -> Step {
        let Some((Session { actor, .. }, _)) = self.session.as_ref() else {
            return Err(Close::new(4401, "Unauthorized"));
        };
        let actor = actor.clone();
        let id: Arc<str> = message.id()?.into();
        let Some(payload) = message.payload()? else {
            return Err(Close::new(4400, "Invalid message: payload has to be an object"));
        };
        let parsing = self.server.concurrency().parsing(self.caller.client, bytes).await;
        let params = params::from_json(payload.get().as_bytes());
        drop(parsing);
        let params = params.map_err(|problem| Close::new(4400, format!("Invalid message: {problem}")))?;
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
        let client = self.caller.client;
        if let Err(wait) = self.server.edge().count(client) {
            self.server.app().metrics().rate_limited();
            return self.refuse(&id, &edge::too_often(wait).to_string()).await;
        }
        let limits = self.server.limits();
        let place = limits.reserve(client, Resource::Operations, 1);
        let held = match (place, limits.reserve(client, Resource::Memory, OPERATION + bytes)) {
            (Ok(place), Ok(memory)) => (place, memory),
            (Err(exceeded), _) | (_, Err(exceeded)) => {
                self.server.app().metrics().rate_limited();
                return self.refuse(&id, exceeded.message()).await;
            }
        };
        self.runs += 1;
        let run = self.runs;
        let (abort, registration) = AbortHandle::new_pair();
        let server = self.server.clone();
        let admitted = {
            let actor = actor.clone();
            async move { operation::admit(&server, client, &actor, &params).await }
        };
        let events = events(operation::begin(&self.server, client, actor, admitted));
        let of = Arc::clone(&id);
        let frames = events.map(move |event| Frame { id: Arc::clone(&of), run, event });
        self.frames.push(Abortable::new(frames.boxed(), registration));
        self.operations.insert(id, Running { run, abort, _held: held });
        Ok(())
    }

    async fn refuse(&mut self, id: &str, message: &str) -> Step {
        let errors = json!([error_json(message, "RATE_LIMITED")]);
        self.feed_json(&json!({ "type": "error", "id": id, "payload": errors })).await
    }

    async fn complete(&mut self, message: &ClientMessage<'_>) -> Step {
        let id = message.id()?;
        if let Some(operation) = self.operations.remove(id.as_str()) {
            operation.abort.abort();
            if self.protocol == Protocol::Legacy {
                self.feed_json(&json!({ "type": "complete", "id": id })).await?;
            }
        }
        Ok(())
    }
}

/// What an operation hands to its connection, of its answers.
fn events(answers: BoxStream<'static, Result<Payload, Refusal>>) -> BoxStream<'static, Event> {
    let mut begun = false;
    let events = answers.map(move |answer| {
        let is_first = !std::mem::replace(&mut begun, true);
        match answer {
            Err(Refusal(errors)) => Event::Errors(Value::Array(errors).to_string().into()),
            // An error before the first event: it could not begin.
            Ok(Payload { failure: Some(errors), .. }) if is_first => Event::Errors(errors),
            Ok(payload) => Event::Next(payload.json),
        }
    });
    events.chain(stream::once(ready(Event::Complete))).boxed()
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
