//! Bytes of answers that strangers asked for and do not take: how many may wait in memory, of one address and of all.
//!
//! What is for somebody with a token is not counted. Of long files, which are read as they are taken
//! (`blob/local/blocks.rs`), a connection of HTTP/1 has no more than what it costs itself; of HTTP/2 each has many readers.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::{Body, HttpBody as _, to_bytes};
use axum::http::{Version, header};
use axum::response::Response;
use bytes::Bytes;
use futures_util::StreamExt as _;

use super::rate::{Client, network};
use crate::config::Config;
use crate::domain::error::Error;

/// What is told who has more waiting than may.
pub const TOO_MUCH: &str =
    "answers that were asked for without a token are not taken: read them, and try again later";
/// After how many seconds to come again.
const RETRY_AFTER: u64 = 5;
/// Bytes of an answer that is not counted where there is one on each connection, which takes as many itself.
const SHORT: usize = 16 * 1024;
/// What is counted for a file while it is read, where a connection has many.
const STREAMED: usize = 64 * 1024;
/// What an address may have in any case: those who have all that there is for strangers do not keep others from reading.
const FAIR: usize = 1024 * 1024;

/// Counts bytes that wait. Cheap to clone.
#[derive(Clone)]
pub struct Unread(Option<Arc<Counts>>);

struct Counts {
    most: usize,
    most_of_address: usize,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// Bytes that wait; not any more when this is dropped.
#[derive(Default)]
pub struct Held(Option<Strangers>);

struct Strangers {
    counts: Arc<Counts>,
    address: IpAddr,
    bytes: usize,
}

/// Bytes of an answer, with what is held for them.
struct Tied {
    bytes: Bytes,
    _held: Held,
}

impl Unread {
    /// As many as the settings have it. In dev mode everyone is on this machine.
    pub fn new(config: &Config) -> Self {
        Self((!config.dev).then(|| {
            Arc::new(Counts {
                most: config.max_unread_bytes,
                most_of_address: config.max_unread_bytes_per_address,
                waiting: Mutex::default(),
            })
        }))
    }

    /// Whether what is for somebody is counted. Who shows a token that has to be looked at is somebody with a role, or is
    /// told in short that it is none.
    const fn counts(&self, client: Client) -> bool {
        self.0.is_some() && matches!(client, Client::Address(_))
    }

    /// Counts bytes, unless they are few, until what is answered is dropped. The first of an address may be as many as they
    /// like: they are there already.
    ///
    /// # Errors
    /// What to tell when too many wait.
    pub fn hold(&self, client: Client, bytes: usize) -> Result<Held, &'static str> {
        if bytes <= SHORT { Ok(Held(None)) } else { self.hold_all(client, bytes) }
    }

    /// The same, however few.
    fn hold_all(&self, client: Client, bytes: usize) -> Result<Held, &'static str> {
        let (Some(counts), Client::Address(address)) = (&self.0, client) else {
            return Ok(Held(None));
        };
        let address = network(address);
        let mut waiting = counts.waiting();
        let of_address = waiting.by_address.get(&address).copied().unwrap_or_default();
        let fits = |waiting: usize, most| waiting.saturating_add(bytes) <= most;
        let is_its_share = of_address == 0 || fits(of_address, counts.most_of_address);
        let is_there = waiting.all == 0 || fits(waiting.all, counts.most) || fits(of_address, FAIR);
        if !is_its_share || !is_there {
            return Err(TOO_MUCH);
        }
        waiting.by_address.insert(address, of_address + bytes);
        waiting.all += bytes;
        Ok(Held(Some(Strangers { counts: Arc::clone(counts), address, bytes })))
    }

    /// The same bytes, counted until they are taken.
    ///
    /// # Errors
    /// What to tell when too many wait.
    pub fn tie(&self, client: Client, bytes: Bytes) -> Result<Bytes, &'static str> {
        Ok(self.hold(client, bytes.len())?.tie(bytes))
    }
}

impl Held {
    fn tie(self, bytes: Bytes) -> Bytes {
        if self.0.is_some() { Bytes::from_owner(Tied { bytes, _held: self }) } else { bytes }
    }
}

impl Counts {
    fn waiting(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Strangers {
    fn drop(&mut self) {
        let mut waiting = self.counts.waiting();
        waiting.all -= self.bytes;
        if let Some(of_address) = waiting.by_address.get_mut(&self.address) {
            *of_address -= self.bytes;
            if *of_address == 0 {
                waiting.by_address.remove(&self.address);
            }
        }
    }
}

impl AsRef<[u8]> for Tied {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Counts what there is in memory of an answer, until it is taken.
///
/// # Errors
/// What to tell instead when too much waits, and after how many seconds to come again.
pub async fn count(
    unread: &Unread,
    client: Client,
    version: Version,
    response: Response,
) -> Result<Response, (Error, u64)> {
    if !unread.counts(client) {
        return Ok(response);
    }
    let has_many = version == Version::HTTP_2;
    let too_much = |why: &str| (Error::RateLimited(why.to_owned()), RETRY_AFTER);
    // Streams do not know how long they are.
    let Some(bytes) = response.body().size_hint().exact() else {
        // Subscribers have places (`places.rs`).
        if !has_many || !response.headers().contains_key(header::CONTENT_LENGTH) {
            return Ok(response);
        }
        let held = unread.hold_all(client, STREAMED).map_err(too_much)?;
        let (parts, body) = response.into_parts();
        let pieces = body.into_data_stream().inspect(move |_| drop_later(&held));
        return Ok(Response::from_parts(parts, Body::from_stream(pieces)));
    };
    if bytes == 0 || (!has_many && bytes <= SHORT as u64) {
        return Ok(response);
    }
    let (parts, body) = response.into_parts();
    let bytes = to_bytes(body, usize::MAX).await.map_err(|error| (Error::internal(error), RETRY_AFTER))?;
    let held = unread.hold_all(client, bytes.len()).map_err(too_much)?;
    Ok(Response::from_parts(parts, Body::from(held.tie(bytes))))
}

/// What is held goes with the stream that it was moved into.
const fn drop_later(_: &Held) {}

#[cfg(test)]
mod tests {
    use super::*;

    fn unread(most: usize, most_of_address: usize) -> Unread {
        Unread(Some(Arc::new(Counts { most, most_of_address, waiting: Mutex::default() })))
    }

    fn stranger(number: u8) -> Client {
        Client::Address(IpAddr::from([192, 0, 2, number]))
    }

    #[test]
    fn an_address_and_all_together_have_so_many_bytes_waiting_and_the_known_as_many_as_they_like() {
        let unread = unread(10 * FAIR, 3 * FAIR);
        let one = unread.hold(stranger(1), 2 * FAIR);
        assert!(one.is_ok() && unread.hold(stranger(1), 2 * FAIR).is_err());
        assert!(unread.hold(stranger(1), SHORT).is_ok(), "what is short is not counted");
        assert!(unread.hold(Client::Token([1; 32]), 90 * FAIR).is_ok());
        let mut others = Vec::new();
        for number in 2..8 {
            others.push(unread.hold(stranger(number), FAIR).expect("what is fair"));
            others.extend(unread.hold(stranger(number), FAIR));
        }
        assert_eq!(others.len(), 4 * 2 + 2, "until all is taken; then what is fair in any case");
        let late = unread.hold(stranger(9), FAIR);
        assert!(late.is_ok() && unread.hold(stranger(9), FAIR / 2).is_err());
        drop((one, others, late));
        assert!(unread.hold(stranger(1), 90 * FAIR).is_ok(), "the only one is as long as it is");
        assert!(unread.0.as_ref().is_some_and(|counts| counts.waiting().by_address.is_empty()));
    }

    #[test]
    fn bytes_count_until_the_last_part_of_them_is_dropped() {
        let unread = unread(2 * FAIR, 2 * FAIR);
        let bytes = unread.tie(stranger(1), Bytes::from(vec![7; 2 * FAIR])).expect("the first");
        let part = bytes.slice(5..10);
        drop(bytes);
        assert!(unread.hold(stranger(1), 20_000).is_err());
        assert_eq!(&part[..], [7; 5]);
        drop(part);
        assert!(unread.hold(stranger(1), 20_000).is_ok());
    }

    #[tokio::test]
    async fn on_http_2_what_is_short_counts_and_a_file_as_long_as_it_is_read() {
        let unread = unread(2 * FAIR, FAIR);
        let client = stranger(1);
        let waiting = || unread.0.as_ref().map(|counts| counts.waiting().all);
        let short = || Response::new(Body::from("short"));
        let one = count(&unread, client, Version::HTTP_2, short()).await.expect("it fits");
        let other = count(&unread, client, Version::HTTP_11, short()).await.expect("it is not counted");
        assert_eq!(waiting(), Some(5));
        drop((one, other));
        let pieces = futures_util::stream::iter([Ok::<_, std::io::Error>("one"), Ok("two")]);
        let mut file = Response::new(Body::from_stream(pieces));
        file.headers_mut().insert(header::CONTENT_LENGTH, 6.into());
        let file = count(&unread, client, Version::HTTP_2, file).await.expect("it fits");
        assert_eq!(waiting(), Some(STREAMED));
        let mut read = file.into_body().into_data_stream();
        assert_eq!(read.next().await.expect("a piece").expect("read"), "one");
        assert_eq!(read.next().await.expect("a piece").expect("read"), "two");
        assert!(read.next().await.is_none());
        drop(read);
        assert_eq!(waiting(), Some(0));
    }
}
