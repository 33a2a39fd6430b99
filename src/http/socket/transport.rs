//! The WebSocket itself: the handshake, and a connection that counts what comes in while it is no whole message yet.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use axum::extract::FromRequestParts as _;
use axum::extract::ws::WebSocketUpgrade;
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, Version, header};
use axum::response::{IntoResponse as _, Response};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error, ProtocolError};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use crate::http::limits::{Exceeded, Reservation, SHORT};

/// Bytes of a control frame besides its payload.
const CONTROL: usize = 6;
/// Bytes that are read and written at once.
const BUFFER: usize = 4096;

/// A connection after its handshake.
pub type WebSocket = WebSocketStream<Metered<TokioIo<Upgraded>>>;

/// A handshake that offers one of our protocols.
pub struct Handshake {
    /// The protocol that was chosen.
    pub protocol: &'static str,
    upgrade: OnUpgrade,
    accept: Response,
}

impl Handshake {
    /// Reads a handshake (RFC 6455, section 4.2.1; RFC 8441 on HTTP/2), and chooses the first of `protocols` that it offers.
    ///
    /// # Errors
    /// The answer to what is none.
    pub async fn read(parts: &mut Parts, protocols: [&'static str; 2]) -> Result<Self, Response> {
        let upgrade = parts.extensions.get::<OnUpgrade>().cloned();
        let checked = WebSocketUpgrade::from_request_parts(parts, &()).await;
        let checked = checked.map_err(axum::response::IntoResponse::into_response)?.protocols(protocols);
        let offered = checked.selected_protocol().and_then(|name| name.to_str().ok());
        let protocol = protocols.into_iter().find(|known| Some(*known) == offered);
        let (Some(protocol), Some(upgrade)) = (protocol, upgrade) else {
            let [first, second] = protocols;
            return Err((StatusCode::BAD_REQUEST, format!("offer {first} or {second}\n")).into_response());
        };
        Ok(Self { protocol, upgrade, accept: accept(parts, protocol) })
    }

    /// The answer, and the connection once that was sent. Messages have at most `max_message` bytes; `held` is what the memory
    /// for them is counted by.
    pub fn accept(
        self,
        max_message: usize,
        held: Reservation,
    ) -> (Response, impl Future<Output = Option<WebSocket>> + Send) {
        let config = WebSocketConfig::default()
            .max_message_size(Some(max_message))
            .max_frame_size(Some(max_message))
            .read_buffer_size(BUFFER)
            .write_buffer_size(BUFFER);
        let upgrade = self.upgrade;
        let connection = async move {
            let io = TokioIo::new(upgrade.await.ok()?);
            let io = Metered { io, received: 0, held, exceeded: None };
            Some(WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await)
        };
        (self.accept, connection)
    }
}

fn accept(parts: &Parts, protocol: &'static str) -> Response {
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    if parts.version < Version::HTTP_2 {
        let key = parts.headers.get(header::SEC_WEBSOCKET_KEY).map_or(&b""[..], HeaderValue::as_bytes);
        let key = HeaderValue::from_str(&derive_accept_key(key)).expect("base64 is a value");
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, key);
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    }
    response
}

/// A connection whose incoming bytes are counted until they are a message. The library keeps a buffer as long as the longest
/// message, so what is held does not become less.
pub struct Metered<T> {
    io: T,
    received: usize,
    held: Reservation,
    exceeded: Option<Exceeded>,
}

impl<T> Metered<T> {
    /// A message was taken. What comes after one with data begins another one; control frames may stand between its parts.
    pub fn settle(&mut self, message: &Message) {
        self.received = match message {
            Message::Ping(bytes) | Message::Pong(bytes) => {
                self.received.saturating_sub(CONTROL + bytes.len())
            }
            _ => 0,
        };
    }

    /// What the memory for messages is counted by.
    pub const fn held(&mut self) -> &mut Reservation {
        &mut self.held
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Metered<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(context, buffer))?;
        self.received += buffer.filled().len() - before;
        let received = self.received;
        if received > SHORT
            && let Err(exceeded) = self.held.grow_to(received)
        {
            self.exceeded = Some(exceeded);
            return Poll::Ready(Err(io::Error::other(exceeded.message())));
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Metered<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

/// Close code and reason for what went wrong while a message was received (RFC 6455, section 7.4.1).
pub fn close_of(socket: &WebSocket, error: &Error) -> (u16, String) {
    let code = match error {
        _ if socket.get_ref().exceeded.is_some() => 1013,
        Error::Utf8(_) => 1007,
        Error::Capacity(CapacityError::MessageTooLong { .. }) => 1009,
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) | Error::ConnectionClosed => 1000,
        Error::Protocol(_) => 1002,
        _ => 1011,
    };
    (code, error.to_string())
}
