//! Reads the body of a request into memory that is counted as it comes.

use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use axum::http::Version;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use tokio::time::timeout;

use super::limits::{Client, Exceeded, Limits, Reservation, Resource, SHORT};

/// How long a body may take to come.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why a body was not read.
#[derive(Debug)]
pub enum Refused {
    /// It is longer than it may be, or broke off.
    Long,
    /// It did not come in time.
    Slow,
    /// Its client, or all clients, hold too much in memory.
    NoRoom(Exceeded),
}

/// A body of at most `most` bytes, with the memory that is held for it.
pub async fn read(
    limits: &Limits,
    client: Client,
    version: Version,
    body: Body,
    most: usize,
) -> Result<(Bytes, Reservation), Refused> {
    if body.size_hint().lower() > most as u64 {
        return Err(Refused::Long);
    }
    let uncounted = uncounted(version);
    timeout(PATIENCE, collect(limits, client, uncounted, body, most)).await.unwrap_or(Err(Refused::Slow))
}

/// Bytes of a request that its connection takes by itself; on HTTP/2 a connection has many requests.
pub const fn uncounted(version: Version) -> usize {
    match version {
        Version::HTTP_2 => 0,
        _ => SHORT,
    }
}

async fn collect(
    limits: &Limits,
    client: Client,
    uncounted: usize,
    body: Body,
    most: usize,
) -> Result<(Bytes, Reservation), Refused> {
    let expected = body.size_hint().exact().and_then(|length| usize::try_from(length).ok());
    // What is not let in is not read.
    let counted = expected.filter(|length| *length > uncounted).unwrap_or_default();
    let mut held = limits.reserve(client, Resource::Memory, counted).map_err(Refused::NoRoom)?;
    let mut pieces = body.into_data_stream();
    let mut all = BytesMut::new();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|_| Refused::Long)?;
        let length = all.len() + piece.len();
        if length > most {
            return Err(Refused::Long);
        }
        if length > uncounted {
            held.grow_to(length).map_err(Refused::NoRoom)?;
        }
        if expected == Some(piece.len()) {
            return Ok((piece, held));
        }
        if all.is_empty() {
            // What is not written to takes no memory yet.
            all.reserve(expected.unwrap_or_default());
        }
        all.extend_from_slice(&piece);
    }
    Ok((all.freeze(), held))
}
