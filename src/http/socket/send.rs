//! Sending: frames as long as they are few, long texts in fragments, and how long a client is waited for.

use std::pin::pin;

use futures_util::{FutureExt as _, SinkExt, StreamExt as _};
use serde_json::Value;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::protocol::frame::Frame as RawFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::{self, Bytes, Message};
use tokio_util::sync::CancellationToken;

use super::{
    AT_ONCE, Close, Connection, Ending, Event, Frame, PATIENCE, Protocol, SESSION_OVER, SHORT, Session, Step,
    going_away, over,
};

impl Connection {
    /// Hands over a frame, and those that are there already, as far as they are few.
    pub(super) async fn deliver(&mut self, frame: Frame) -> Step {
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
        if bytes <= SHORT {
            self.feed(Message::Text(text.into())).await?;
            return Ok(bytes);
        }
        self.feed_long(text.into()).await?;
        Ok(bytes)
    }

    /// Sends a long text in fragments, each once the one before was taken: the library's buffer stays short, and the memory
    /// that the text takes is held no longer than it is sent.
    async fn feed_long(&mut self, mut text: Bytes) -> Step {
        let held = self.server.limits().reserve_answer(self.caller.client, text.len());
        let held = held.map_err(|exceeded| {
            self.server.app().metrics().rate_limited();
            Close::new(1013, exceeded.message())
        })?;
        let mut kind = Data::Text;
        while !text.is_empty() {
            let fragment = text.split_to(text.len().min(SHORT));
            let frame = RawFrame::message(fragment, OpCode::Data(kind), text.is_empty());
            self.feed(Message::Frame(frame)).await?;
            self.flush().await?;
            kind = Data::Continue;
        }
        drop(held);
        Ok(())
    }

    pub(super) async fn feed_json(&mut self, message: &Value) -> Step {
        self.feed(Message::Text(message.to_string().into())).await
    }

    pub(super) async fn feed(&mut self, message: Message) -> Step {
        let sending = self.socket.feed(message);
        let waited = patiently(self.server.app().stopping(), self.session.as_ref(), sending).await?;
        self.note_reading(waited);
        Ok(())
    }

    pub(super) async fn flush(&mut self) -> Step {
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
    sending: impl Future<Output = Result<(), tungstenite::Error>>,
) -> Result<bool, Close> {
    let mut sending = pin!(sending);
    let broken = |error: tungstenite::Error| Close::new(1011, error.to_string());
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
