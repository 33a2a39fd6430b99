//! A subscriber over WebSocket (RFC 6455, `graphql-transport-ws`), as cheap as can be: what it costs is taken from the
//! server.

use std::net::SocketAddr;

use anyhow::{Context as _, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Room for most messages; it grows.
const ROOM: usize = 2048;
/// Longest head of the answer to a handshake.
const MAX_HEAD: usize = 4096;

/// Says that a frame of a client is masked.
const MASKED: u8 = 0x80;
/// Says that the length follows in two bytes.
const TWO_BYTES: u8 = 0x7E;

/// A subscriber's connection.
pub struct Socket {
    stream: TcpStream,
    buffer: Vec<u8>,
    filled: usize,
    /// How much of the buffer was handed out.
    taken: usize,
}

/// A frame that lies in the buffer.
struct Frame {
    opcode: u8,
    starts: usize,
    ends: usize,
}

impl Socket {
    /// Connects, initialises and subscribes; `payload` is a JSON object with a query and variables.
    ///
    /// # Errors
    /// When the server does not take it.
    pub async fn subscribe(address: SocketAddr, payload: &str) -> anyhow::Result<Self> {
        let stream =
            TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        let mut socket = Self { stream, buffer: vec![0; ROOM], filled: 0, taken: 0 };
        let handshake = "GET /graphql HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
            Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
            Sec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n";
        socket.stream.write_all(handshake.as_bytes()).await?;
        socket.skip_head().await?;
        socket.send(r#"{"type":"connection_init"}"#).await?;
        let answer = socket.next().await?;
        ensure!(answer.contains("connection_ack"), "no connection_ack but {answer}");
        socket.send(&format!(r#"{{"type":"subscribe","id":"1","payload":{payload}}}"#)).await?;
        Ok(socket)
    }

    /// The next message.
    ///
    /// # Errors
    /// When the server closes the connection, or ends the subscription.
    pub async fn next(&mut self) -> anyhow::Result<&str> {
        loop {
            let frame = self.frame().await?;
            match frame.opcode {
                1 => {
                    let text = std::str::from_utf8(&self.buffer[frame.starts..frame.ends])?;
                    ensure!(!text.starts_with(r#"{"type":"error""#), "the subscription failed: {text}");
                    ensure!(!text.starts_with(r#"{"type":"complete""#), "the subscription ended");
                    return Ok(text);
                }
                9 => self.write_frame(0xA, "").await?,
                8 => bail!("the server closed the connection"),
                _ => {}
            }
        }
    }

    async fn send(&mut self, text: &str) -> anyhow::Result<()> {
        self.write_frame(1, text).await
    }

    /// Writes a frame, masked with zeros, which changes nothing.
    async fn write_frame(&mut self, opcode: u8, text: &str) -> anyhow::Result<()> {
        let mut frame = vec![0x80 | opcode];
        match u16::try_from(text.len()).context("a long message")? {
            length @ 0..126 => frame.push(MASKED | u8::try_from(length)?),
            length => {
                frame.push(MASKED | TWO_BYTES);
                frame.extend(length.to_be_bytes());
            }
        }
        frame.extend([0; 4]);
        frame.extend(text.as_bytes());
        Ok(self.stream.write_all(&frame).await?)
    }

    async fn frame(&mut self) -> anyhow::Result<Frame> {
        loop {
            if let Some(frame) = self.parse() {
                self.taken = frame.ends;
                return Ok(frame);
            }
            self.fill().await?;
        }
    }

    fn parse(&self) -> Option<Frame> {
        let bytes = &self.buffer[self.taken..self.filled];
        let (head, length) = match *bytes.get(1)? {
            126 => (4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
            127 => (10, usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?),
            short => (2, usize::from(short)),
        };
        let whole = bytes.len() >= head + length;
        let starts = self.taken + head;
        whole.then_some(Frame { opcode: bytes[0] & 0xF, starts, ends: starts + length })
    }

    async fn fill(&mut self) -> anyhow::Result<()> {
        self.buffer.copy_within(self.taken..self.filled, 0);
        self.filled -= self.taken;
        self.taken = 0;
        if self.filled == self.buffer.len() {
            self.buffer.resize(self.filled * 2, 0);
        }
        match self.stream.read(&mut self.buffer[self.filled..]).await? {
            0 => bail!("the server went away"),
            count => self.filled += count,
        }
        Ok(())
    }

    async fn skip_head(&mut self) -> anyhow::Result<()> {
        loop {
            self.fill().await?;
            let head = &self.buffer[..self.filled];
            if let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") {
                let status = String::from_utf8_lossy(&head[..end]).lines().next().map(ToOwned::to_owned);
                ensure!(head.starts_with(b"HTTP/1.1 101"), "no upgrade but {status:?}");
                self.taken = end + 4;
                return Ok(());
            }
            ensure!(self.filled < MAX_HEAD, "the answer to the handshake does not end");
        }
    }
}
