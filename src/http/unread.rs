//! Bytes of answers that strangers asked for and do not take: how many may wait in memory, of one address and of all.
//!
//! What is short is not counted, nor what is for somebody with a token. Long files are read as they are taken
//! (`blob/local/blocks.rs`), so they are not either.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::{Body, HttpBody as _, to_bytes};
use axum::response::Response;
use bytes::Bytes;

use super::rate::{Client, network};
use crate::config::Config;
use crate::domain::error::Error;

/// What is told who has more waiting than may.
pub const TOO_MUCH: &str =
    "answers that were asked for without a token are not taken: read them, and try again later";
/// After how many seconds to come again.
const RETRY_AFTER: u64 = 5;
/// Bytes of an answer that is not counted: connections themselves take as many.
const SHORT: usize = 16 * 1024;

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

    /// Counts bytes until what is answered is dropped. The first of an address may be as many as they like: they are there
    /// already.
    ///
    /// # Errors
    /// What to tell when too many wait.
    pub fn hold(&self, client: Client, bytes: usize) -> Result<Held, &'static str> {
        let (Some(counts), Client::Address(address)) = (&self.0, client) else {
            return Ok(Held(None));
        };
        if bytes <= SHORT {
            return Ok(Held(None));
        }
        let address = network(address);
        let mut waiting = counts.waiting();
        let of_address = waiting.by_address.get(&address).copied().unwrap_or_default();
        let fits = |waiting: usize, most| waiting == 0 || waiting.saturating_add(bytes) <= most;
        if !fits(of_address, counts.most_of_address) || !fits(waiting.all, counts.most) {
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
        let held = self.hold(client, bytes.len())?;
        Ok(if held.0.is_some() { Bytes::from_owner(Tied { bytes, _held: held }) } else { bytes })
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

/// Counts an answer that is whole in memory, until it is taken.
///
/// # Errors
/// What to tell instead when too much waits, and after how many seconds to come again.
pub async fn count(unread: &Unread, client: Client, response: Response) -> Result<Response, (Error, u64)> {
    // Streams do not know how long they are.
    let is_long = response.body().size_hint().exact().is_some_and(|bytes| bytes > SHORT as u64);
    if !is_long || !unread.counts(client) {
        return Ok(response);
    }
    let (head, body) = response.into_parts();
    let bytes = to_bytes(body, usize::MAX).await.map_err(|error| (Error::internal(error), RETRY_AFTER))?;
    let tied = unread.tie(client, bytes).map_err(|why| (Error::RateLimited(why.to_owned()), RETRY_AFTER))?;
    Ok(Response::from_parts(head, Body::from(tied)))
}

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
        let unread = unread(1_000_000, 300_000);
        let one = unread.hold(stranger(1), 200_000);
        assert!(one.is_ok() && unread.hold(stranger(1), 200_000).is_err());
        assert!(unread.hold(stranger(1), SHORT).is_ok(), "what is short is not counted");
        assert!(unread.hold(Client::Token([1; 32]), 9_000_000).is_ok());
        let others: Vec<_> = (2..10).map(|number| unread.hold(stranger(number), 200_000)).collect();
        assert_eq!(others.iter().filter(|held| held.is_ok()).count(), 4);
        drop(one);
        assert!(unread.hold(stranger(1), 200_000).is_ok());
        drop(others);
        assert!(unread.hold(stranger(1), 9_000_000).is_ok(), "the only one is as long as it is");
        assert!(unread.0.as_ref().is_some_and(|counts| counts.waiting().by_address.is_empty()));
    }

    #[test]
    fn bytes_count_until_the_last_part_of_them_is_dropped() {
        let unread = unread(100_000, 100_000);
        let bytes = unread.tie(stranger(1), Bytes::from(vec![7; 90_000])).expect("the first");
        let part = bytes.slice(5..10);
        drop(bytes);
        assert!(unread.hold(stranger(1), 20_000).is_err());
        assert_eq!(&part[..], [7; 5]);
        drop(part);
        assert!(unread.hold(stranger(1), 20_000).is_ok());
    }
}
