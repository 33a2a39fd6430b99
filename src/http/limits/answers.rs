//! Counts the memory that answers hold until they are read.
//!
//! Long files are read as clients take them (`blob/local/blocks.rs`): on HTTP/1 a connection has one reader at a time and no
//! more than what it costs itself, on HTTP/2 it has many.

use std::sync::Arc;

use axum::body::{Body, HttpBody as _, to_bytes};
use axum::http::{Version, header};
use axum::response::Response;
use bytes::Bytes;
use futures_util::StreamExt as _;

use super::{Client, Exceeded, Limits, RETRY_AFTER, Reservation, Resource, SHORT};
use crate::domain::error::Error;
use crate::domain::version::Memory;
use crate::graphql::OperationKind;
use crate::http::connections::Busy;

/// What is counted for a file while it is read, where a connection has many readers: two blocks, and what HTTP/2 buffers.
const STREAMED: usize = 96 * 1024;

/// Marks the answer to a mutation that is committed: a client has to learn of it, however much it holds.
#[derive(Debug, Clone, Copy)]
pub struct Committed;

/// What the memory for texts in an answer was counted by: until the answer itself is.
#[derive(Clone)]
pub struct Made(#[expect(dead_code, reason = "it is kept for what it holds")] pub Arc<dyn Memory>);

/// Bytes of an answer, with the memory that is held for them.
struct Tied {
    bytes: Bytes,
    _held: Reservation,
    /// Keeps the connection busy until they are taken.
    _busy: Option<Busy>,
}

impl AsRef<[u8]> for Tied {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Holds the memory of an answer to an operation.
///
/// # Errors
/// When the client holds too much already, and need not learn what it asked for.
pub fn hold(
    limits: &Limits,
    client: Client,
    bytes: usize,
    kind: OperationKind,
) -> Result<Reservation, Exceeded> {
    match kind {
        OperationKind::Mutation => Ok(limits.count(client, bytes)),
        OperationKind::Query | OperationKind::Subscription => limits.reserve_answer(client, bytes),
    }
}

/// The same bytes, counted until they were taken.
///
/// # Errors
/// As [`hold`].
pub fn tie(limits: &Limits, client: Client, bytes: Bytes, kind: OperationKind) -> Result<Bytes, Exceeded> {
    if bytes.len() <= SHORT {
        return Ok(bytes);
    }
    let held = hold(limits, client, bytes.len(), kind)?;
    Ok(Bytes::from_owner(Tied { bytes, _held: held, _busy: None }))
}

/// Counts what there is of an answer, until it is taken.
///
/// # Errors
/// What to tell instead when too much is held, and after how many seconds to come again.
pub async fn count(
    limits: &Limits,
    client: Client,
    version: Version,
    response: Response,
    busy: impl FnOnce() -> Option<Busy>,
) -> Result<Response, (Error, u64)> {
    let has_many = version == Version::HTTP_2;
    let too_much = |exceeded: Exceeded| (Error::from(exceeded), RETRY_AFTER);
    // Streams do not know how long they are.
    let Some(bytes) = response.body().size_hint().exact() else {
        // Subscribers are counted by themselves.
        if !response.headers().contains_key(header::CONTENT_LENGTH) {
            return Ok(response);
        }
        if !has_many {
            return Ok(response);
        }
        let held = limits.reserve(client, Resource::Memory, STREAMED).map_err(too_much)?;
        let (parts, body) = response.into_parts();
        let pieces = body.into_data_stream().inspect(move |_| drop_later(&held));
        return Ok(Response::from_parts(parts, Body::from_stream(pieces)));
    };
    if bytes == 0 || (!has_many && bytes <= SHORT as u64) {
        return Ok(response);
    }
    let is_committed = response.extensions().get::<Committed>().is_some();
    let (mut parts, body) = response.into_parts();
    let bytes = to_bytes(body, usize::MAX).await.map_err(|error| (Error::internal(error), RETRY_AFTER))?;
    drop(parts.extensions.remove::<Made>());
    let held = if is_committed {
        limits.count(client, bytes.len())
    } else {
        limits.reserve_answer(client, bytes.len()).map_err(too_much)?
    };
    let tied = Tied { bytes, _held: held, _busy: busy() };
    Ok(Response::from_parts(parts, Body::from(Bytes::from_owner(tied))))
}

/// What is held goes with the stream that it was moved into.
const fn drop_later<T>(_: &T) {}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::config::{Config, Flags};

    const CLIENT: Client = Client::Anonymous(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));

    fn limits() -> Limits {
        Limits::new(&Config::load(None, &Flags::default()).expect("defaults"), 1000)
    }

    fn held(limits: &Limits) -> usize {
        limits.in_use(Resource::Memory)
    }

    #[test]
    fn bytes_count_until_the_last_part_of_them_is_dropped() {
        let limits = limits();
        let bytes =
            tie(&limits, CLIENT, Bytes::from(vec![7; 20_000]), OperationKind::Query).expect("it fits");
        let part = bytes.slice(5..10);
        drop(bytes);
        assert_eq!(held(&limits), 20_000);
        assert_eq!(&part[..], [7; 5]);
        drop(part);
        assert_eq!(held(&limits), 0);
    }

    #[tokio::test]
    async fn on_http_2_what_is_short_counts_and_a_file_as_long_as_it_is_read() {
        let limits = limits();
        let short = || Response::new(Body::from("short"));
        let one = count(&limits, CLIENT, Version::HTTP_2, short(), || None).await.expect("it fits");
        let other =
            count(&limits, CLIENT, Version::HTTP_11, short(), || None).await.expect("it is not counted");
        assert_eq!(held(&limits), 5);
        drop((one, other));
        for (version, memory) in [(Version::HTTP_2, STREAMED), (Version::HTTP_11, 0)] {
            let pieces = futures_util::stream::iter([Ok::<_, std::io::Error>("one"), Ok("two")]);
            let mut file = Response::new(Body::from_stream(pieces));
            file.headers_mut().insert(header::CONTENT_LENGTH, 6.into());
            let file = count(&limits, CLIENT, version, file, || None).await.expect("it fits");
            let mut read = file.into_body().into_data_stream();
            assert_eq!(read.next().await.expect("a piece").expect("read"), "one");
            assert_eq!(held(&limits), memory);
            assert_eq!(read.next().await.expect("a piece").expect("read"), "two");
            assert!(read.next().await.is_none());
            drop(read);
            assert_eq!(held(&limits), 0);
        }
    }

    #[tokio::test]
    async fn a_committed_mutation_is_always_told_of() {
        let limits = limits();
        let _held = limits.count(CLIENT, usize::MAX / 4);
        let long = || Response::new(Body::from(vec![b'a'; 2 * SHORT]));
        assert!(count(&limits, CLIENT, Version::HTTP_11, long(), || None).await.is_err());
        let mut committed = long();
        committed.extensions_mut().insert(Committed);
        assert!(count(&limits, CLIENT, Version::HTTP_11, committed, || None).await.is_ok());
    }
}
