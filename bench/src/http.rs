//! HTTP/1.1 over one connection that is kept, as cheap as can be: what it costs is taken from the server.

use std::net::SocketAddr;

use anyhow::{Context as _, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Room for most answers; it grows.
const ROOM: usize = 64 * 1024;
/// Longest head of an answer.
const MAX_HEAD: usize = 16 * 1024;

/// A connection to the server.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// What came back.
pub struct Answer<'a> {
    /// The status code.
    pub status: u16,
    /// All bytes of the body.
    pub body: &'a [u8],
}

struct Head {
    status: u16,
    body_starts: usize,
    body_length: usize,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// What the network says.
    pub async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream =
            TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; ROOM] })
    }

    /// Sends a part of a request.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        Ok(self.stream.write_all(bytes).await?)
    }

    /// Sends a whole request, or what is left of it, and reads the whole answer.
    ///
    /// # Errors
    /// When the connection breaks, or the answer has no Content-Length.
    pub async fn exchange(&mut self, request: &[u8]) -> anyhow::Result<Answer<'_>> {
        self.stream.write_all(request).await?;
        let mut filled = 0;
        let head = loop {
            filled += self.read_from(filled).await?;
            if let Some(head) = parse_head(&self.buffer[..filled])? {
                break head;
            }
            anyhow::ensure!(filled < MAX_HEAD, "the head of an answer does not end");
        };
        let end = head.body_starts + head.body_length;
        if self.buffer.len() < end {
            self.buffer.resize(end, 0);
        }
        while filled < end {
            filled += self.read_from(filled).await?;
        }
        anyhow::ensure!(filled == end, "an answer is longer than its Content-Length");
        Ok(Answer { status: head.status, body: &self.buffer[head.body_starts..end] })
    }

    async fn read_from(&mut self, filled: usize) -> anyhow::Result<usize> {
        match self.stream.read(&mut self.buffer[filled..]).await? {
            0 => bail!("the server closed the connection"),
            count => Ok(count),
        }
    }
}

/// A request for `path`.
#[must_use]
pub fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes()
}

fn parse_head(bytes: &[u8]) -> anyhow::Result<Option<Head>> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(None);
    };
    let text = std::str::from_utf8(&bytes[..end]).context("the head of an answer is not text")?;
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
    let length = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse().ok());
    let head = Head {
        status: status.context("an answer has no status")?,
        body_starts: end + 4,
        body_length: length.context("an answer has no Content-Length")?,
    };
    Ok(Some(head))
}
