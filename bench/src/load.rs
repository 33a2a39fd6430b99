//! Many connections that ask as fast as the server answers, each waiting for one answer at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tokio::task::JoinSet;

use crate::http::{Answer, Connection};
use crate::query::{Query, check};
use crate::random::Random;
use crate::report::{count, duration};
use crate::server::Server;

/// How hard to ask, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Connections that ask at the same time.
    pub connections: u32,
    /// Time that is not measured, at first.
    pub warm_up: Duration,
    /// Time that is.
    pub measured: Duration,
}

/// What was measured.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    requests: u64,
    time: Duration,
    cpu: Duration,
    /// Shortest first.
    latencies: Vec<Duration>,
}

/// What the connections and their observer share.
#[derive(Default)]
struct Shared {
    measuring: AtomicBool,
    over: AtomicBool,
    answered: AtomicU64,
}

/// One moment of a run.
struct Moment {
    at: Instant,
    cpu: Duration,
    answered: u64,
}

/// Asks `query` over and over, with `variables` that are made for each request.
///
/// # Errors
/// When an answer is wrong.
pub async fn run<V>(server: &Server, load: Load, query: &Query, variables: V) -> anyhow::Result<Figures>
where
    V: Fn(&mut Random) -> String + Clone + Send + 'static,
{
    let query = query.clone();
    let write = move |random: &mut Random, request: &mut Vec<u8>| query.write(&variables(random), request);
    run_requests(server, load, write, |answer| check(answer).map(drop)).await
}

/// Sends requests over and over, as `write` makes them, and looks at each answer.
///
/// # Errors
/// When an answer is wrong.
pub async fn run_requests<W, C>(server: &Server, load: Load, write: W, check: C) -> anyhow::Result<Figures>
where
    W: Fn(&mut Random, &mut Vec<u8>) + Clone + Send + 'static,
    C: Fn(&Answer<'_>) -> anyhow::Result<()> + Clone + Send + 'static,
{
    let shared = Arc::new(Shared::default());
    let mut clients = JoinSet::new();
    for number in 0..load.connections {
        let connection = Connection::open(server.address).await?;
        let random = Random::new(u64::from(number) << 32);
        clients.spawn(client(connection, write.clone(), check.clone(), random, Arc::clone(&shared)));
    }
    let (before, after) = tokio::select! {
        moments = observe(server, load, &shared) => moments?,
        Some(ended) = clients.join_next() => {
            ended??;
            bail!("a client ended too soon");
        }
    };
    let mut latencies = Vec::new();
    while let Some(ended) = clients.join_next().await {
        latencies.extend(ended??);
    }
    latencies.sort_unstable();
    let requests = after.answered - before.answered;
    Ok(Figures { requests, time: after.at - before.at, cpu: after.cpu.saturating_sub(before.cpu), latencies })
}

async fn observe(server: &Server, load: Load, shared: &Shared) -> anyhow::Result<(Moment, Moment)> {
    let moment = || -> anyhow::Result<Moment> {
        Ok(Moment {
            at: Instant::now(),
            cpu: server.cpu()?,
            answered: shared.answered.load(Ordering::Relaxed),
        })
    };
    tokio::time::sleep(load.warm_up).await;
    shared.measuring.store(true, Ordering::Relaxed);
    let before = moment()?;
    tokio::time::sleep(load.measured).await;
    shared.measuring.store(false, Ordering::Relaxed);
    let after = moment()?;
    shared.over.store(true, Ordering::Relaxed);
    Ok((before, after))
}

/// One connection, until the run is over; answers with how long its measured requests took.
async fn client(
    mut connection: Connection,
    write: impl Fn(&mut Random, &mut Vec<u8>),
    check: impl Fn(&Answer<'_>) -> anyhow::Result<()>,
    mut random: Random,
    shared: Arc<Shared>,
) -> anyhow::Result<Vec<Duration>> {
    let mut latencies = Vec::new();
    let mut request = Vec::new();
    while !shared.over.load(Ordering::Relaxed) {
        write(&mut random, &mut request);
        let began = Instant::now();
        let answer = connection.exchange(&request).await?;
        let took = began.elapsed();
        check(&answer)?;
        shared.answered.fetch_add(1, Ordering::Relaxed);
        if shared.measuring.load(Ordering::Relaxed) {
            latencies.push(took);
        }
    }
    Ok(latencies)
}

impl Figures {
    /// The server's CPU time for one request.
    ///
    /// # Errors
    /// When there was none.
    pub fn cpu_per_request(&self) -> anyhow::Result<Duration> {
        let requests = u32::try_from(self.requests).ok().filter(|requests| *requests > 0);
        Ok(self.cpu / requests.context("nothing was answered in time")?)
    }

    /// Requests a second.
    #[must_use]
    pub fn rate(&self) -> u64 {
        let micros = self.time.as_micros().max(1);
        u64::try_from(u128::from(self.requests) * 1_000_000 / micros).unwrap_or(u64::MAX)
    }

    /// The latency that this many of a hundred requests did not exceed.
    #[must_use]
    pub fn percentile(&self, percent: usize) -> Duration {
        let last = self.latencies.len().saturating_sub(1);
        self.latencies.get(last * percent / 100).copied().unwrap_or_default()
    }

    /// Adds what another run of the same measured.
    pub fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.time += other.time;
        self.cpu += other.cpu;
        self.latencies.extend(other.latencies);
        self.latencies.sort_unstable();
    }

    /// All of it, for people.
    ///
    /// # Errors
    /// When nothing was measured.
    pub fn summary(&self) -> anyhow::Result<String> {
        Ok(format!(
            "{} CPU a request, {} requests/s, p50 {}, p99 {}",
            duration(self.cpu_per_request()?),
            count(self.rate()),
            duration(self.percentile(50)),
            duration(self.percentile(99)),
        ))
    }
}
