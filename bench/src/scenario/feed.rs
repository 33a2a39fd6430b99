//! The changelog's subscribers: what a delivery costs, how long it takes, whether each gets all.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail, ensure};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, LocalSet};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};

use super::Target;
use crate::plan::Asset;
use crate::query::{self, Query};
use crate::report::{Report, count, duration};
use crate::socket::Socket;
use crate::wanted;

/// The document of all subscribers.
const FOLLOW: &str = "subscription Follow($after: String, $filter: ChangeFilter) { changes(after: $after, filter: $filter) { cursor changes { cursor type path versionNumber } } }";
/// Types of entries that no publish writes; their subsets make filters that differ and all pass a publish.
const OTHERS: [&str; 10] = [
    "FOLDER_CREATE",
    "FOLDER_UPDATE",
    "FOLDER_MOVE",
    "FOLDER_DELETE",
    "FOLDER_RESTORE",
    "ASSET_CREATE",
    "ASSET_UPDATE",
    "ASSET_ARCHIVE",
    "ASSET_MOVE",
    "ASSET_RENAME",
];
/// Subscribers with one document.
const CROWD: u32 = 5_000;
/// Subscribers with a filter of their own.
const FILTERS: u32 = 1_000;
/// Time between two entries.
const PACE: Duration = Duration::from_millis(500);
/// Entries that are published at that pace.
const ENTRIES: u32 = 24;
/// Entries that are published one after the other, to see what those cost whom they do not concern.
const DROPPED: u32 = 4_000;
/// Entries that one subscriber gets, one at a time.
const LONE: u32 = 300;
/// Entries that one catches up with.
const MISSED: usize = 100_000;
/// Connections that write while one reads nothing.
const WRITERS: usize = 16;
/// How long it reads nothing, at least.
const SILENCE: Duration = Duration::from_secs(60);
/// Longest wait for what has to come.
const PATIENCE: Duration = Duration::from_secs(60);

/// Tells when a subscriber got which of the entries that it waited for.
type Arrivals = mpsc::UnboundedReceiver<(u32, Instant)>;

/// Subscribers that run until they are dropped.
struct Subscribers {
    tasks: Vec<JoinHandle<()>>,
    arrivals: Arrivals,
}

impl Drop for Subscribers {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Many subscribers with one document: memory of each, CPU and latency of a delivery.
///
/// # Errors
/// When one of them does not get each entry once.
pub async fn fanout(target: Target<'_>, report: &mut Report) -> anyhow::Result<()> {
    LocalSet::new().run_until(measure_fanout(target, report)).await
}

async fn measure_fanout(target: Target<'_>, report: &mut Report) -> anyhow::Result<()> {
    let before = target.server.memory_kib()?;
    let subscribers = subscribe(target, CROWD, |_| "{}".to_owned()).await?;
    let after = target.server.memory_kib()?;
    let each = f64::from(after.saturating_sub(before)) / f64::from(CROWD);
    report.add("fanout: memory of an idle subscriber", format!("{each:.1} KiB"), wanted::SUBSCRIBER);
    let figures = deliver(target, subscribers, CROWD).await?;
    report.add("fanout: 5,000 subscribers", figures, wanted::FANOUT);
    Ok(())
}

/// Many subscribers, each with a filter of its own: CPU of a delivery, and of what a filter drops.
///
/// # Errors
/// When one of them does not get each entry once.
pub async fn filters(target: Target<'_>, report: &mut Report) -> anyhow::Result<()> {
    LocalSet::new().run_until(measure_filters(target, report)).await
}

async fn measure_filters(target: Target<'_>, report: &mut Report) -> anyhow::Result<()> {
    let passing = |number: u32| {
        let chosen = (0..).zip(OTHERS).filter(|(bit, _)| number >> bit & 1 == 1).map(|(_, kind)| kind);
        let kinds: Vec<_> = chosen.chain(["ASSET_PUBLISH"]).collect();
        json!({ "filter": { "types": kinds } }).to_string()
    };
    let subscribers = subscribe(target, FILTERS, passing).await?;
    let figures = deliver(target, subscribers, FILTERS).await?;
    report.add("filters: 1,000 subscribers", figures, wanted::FILTERS);

    // In turns, since machines change.
    let (mut alone, mut watched) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..3 {
        alone += cost_of_publishing(target).await?;
        let nowhere =
            |number| json!({ "filter": { "asset": { "path": format!("no/{number}") } } }).to_string();
        let subscribers = subscribe(target, FILTERS, nowhere).await?;
        watched += cost_of_publishing(target).await?;
        drop(subscribers);
        sleep(Duration::from_secs(1)).await;
    }
    let dropped = watched.saturating_sub(alone).as_secs_f64() / f64::from(3 * DROPPED) / f64::from(FILTERS);
    let measured = format!("{:.2} µs CPU for an entry and a filter", dropped * 1e6);
    report.add("filters: what they drop", measured, wanted::DROPPED);
    Ok(())
}

/// One subscriber: how long an entry takes from its commit.
///
/// # Errors
/// When it does not get each entry once.
pub async fn lone(target: Target<'_>, report: &mut Report) -> anyhow::Result<()> {
    LocalSet::new().run_until(measure_lone(target, report)).await
}

async fn measure_lone(target: Target<'_>, report: &mut Report) -> anyhow::Result<()> {
    let mut subscribers = subscribe(target, 1, |_| "{}".to_owned()).await?;
    let publisher = Publisher::new(target);
    let (mut from_answer, mut from_request) = (Vec::new(), Vec::new());
    for _ in 0..LONE {
        let sent = Instant::now();
        publisher.publish().await?;
        let answered = Instant::now();
        let (_, got) = subscribers.next().await?;
        from_answer.push(got.saturating_duration_since(answered));
        from_request.push(got - sent);
        sleep(Duration::from_millis(5)).await;
    }
    let measured = format!(
        "p50 {}, p99 {} after the commit was answered; p50 {}, p99 {} after it was asked for",
        duration(percentile(&mut from_answer, 50)),
        duration(percentile(&mut from_answer, 99)),
        duration(percentile(&mut from_request, 50)),
        duration(percentile(&mut from_request, 99)),
    );
    report.add("lone: one subscriber", measured, wanted::LONE);
    Ok(())
}

/// One subscriber that catches up.
///
/// # Errors
/// When it does not get as many entries as it missed.
pub async fn replay(target: Target<'_>, report: &mut Report) -> anyhow::Result<()> {
    let first = Query::new("{ changes(first: 1) { nodes { cursor } } }");
    let answer = target.server.ask(&first, "{}").await?;
    let cursor = answer["changes"]["nodes"][0]["cursor"].as_str().context("no entry")?;
    let mut rates = Vec::new();
    for _ in 0..5 {
        let cpu = target.server.cpu()?;
        let began = Instant::now();
        let mut socket =
            Socket::subscribe(target.server.address, &payload(&json!({ "after": cursor }).to_string()))
                .await?;
        let mut got = 0;
        while got < MISSED {
            let text = tokio::time::timeout(PATIENCE, socket.next()).await.context("nothing came")??;
            got += text.matches("\"versionNumber\":").count();
        }
        let took = began.elapsed();
        let cpu = target.server.cpu()?.saturating_sub(cpu);
        #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let rate = |time: Duration| count((got as f64 / time.as_secs_f64()) as u64);
        rates.push(format!("{} ({} per CPU second)", rate(took), rate(cpu)));
    }
    report.add("replay: entries a second", rates.join(", "), wanted::REPLAY);
    Ok(())
}

/// One subscriber that reads nothing while 100,000 entries pass, beside one that reads.
///
/// # Errors
/// When one of them does not get each entry once.
pub async fn silent(target: Target<'_>, report: &mut Report) -> anyhow::Result<()> {
    LocalSet::new().run_until(measure_silent(target, report)).await
}

async fn measure_silent(target: Target<'_>, report: &mut Report) -> anyhow::Result<()> {
    let alone = Busy::measure(target, MISSED / 4).await?;
    let before = target.server.memory_kib()?;
    let mut silent = Socket::subscribe(target.server.address, &with_time()).await?;
    let silence = Instant::now() + SILENCE;
    let beside = Busy::measure(target, MISSED).await?;
    sleep_until(silence).await;
    let grown = i64::from(target.server.memory_kib()?) - i64::from(before);
    let mut entries = 0;
    let began = Instant::now();
    while entries < beside.entries {
        let text = tokio::time::timeout(PATIENCE, silent.next()).await.context("nothing came")??;
        entries += text.matches("\"versionNumber\":").count();
    }
    ensure!(entries == beside.entries, "{entries} entries came instead of {}", beside.entries);
    let measured = format!(
        "p50 {}, p99 {} of another one without it, p50 {}, p99 {} beside it for {:.0} s and {} entries; memory {grown:+} \
         KiB; then it got all in {}",
        duration(alone.p50),
        duration(alone.p99),
        duration(beside.p50),
        duration(beside.p99),
        beside.took.as_secs_f64(),
        count(beside.entries as u64),
        duration(began.elapsed()),
    );
    report.add("silent: a subscriber that reads nothing", measured, wanted::SILENT);
    Ok(())
}

/// How long entries took to a subscriber while many are written.
struct Busy {
    p50: Duration,
    p99: Duration,
    entries: usize,
    took: Duration,
}

impl Busy {
    /// Writes at 16 connections until a subscriber got `wanted` entries. Times are from when an entry was written, as
    /// it says, until it came.
    async fn measure(target: Target<'_>, wanted: usize) -> anyhow::Result<Self> {
        let mut socket = Socket::subscribe(target.server.address, &with_time()).await?;
        let over = Rc::new(Cell::new(false));
        let began = Instant::now();
        let writers: Vec<_> = (0..WRITERS)
            .map(|_| {
                let (over, publisher) = (Rc::clone(&over), Publisher::new(target));
                async move {
                    let mut written = 0;
                    while !over.get() {
                        publisher.publish().await?;
                        written += 1;
                    }
                    anyhow::Ok(written)
                }
            })
            .collect();
        let writing = futures_util::future::try_join_all(writers);
        let reading = async {
            let (mut waits, mut got) = (Vec::new(), 0);
            while got < wanted {
                let text = tokio::time::timeout(PATIENCE, socket.next()).await.context("nothing came")??;
                let now = now_ms()?;
                for entry in text.split("\"at\":\"").skip(1) {
                    let at = entry.split('"').next().and_then(clock_ms).context("no time in an entry")?;
                    // Both are times of the same day, or the run is at midnight.
                    waits.push(Duration::from_millis(now.saturating_sub(at)));
                    got += 1;
                }
            }
            over.set(true);
            anyhow::Ok((waits, got))
        };
        let (published, read) = tokio::join!(writing, reading);
        let took = began.elapsed();
        let (mut waits, mut got) = read?;
        let published: usize = published?.into_iter().sum();
        while got < published {
            let text = tokio::time::timeout(PATIENCE, socket.next()).await.context("nothing came")??;
            got += text.matches("\"versionNumber\":").count();
        }
        ensure!(got == published, "{got} entries came instead of {published}");
        Ok(Self { p50: percentile(&mut waits, 50), p99: percentile(&mut waits, 99), entries: got, took })
    }
}

/// Milliseconds since midnight, UTC.
#[expect(clippy::disallowed_methods, reason = "the rule is for the product; this is for its measuring")]
fn now_ms() -> anyhow::Result<u64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    Ok(u64::try_from(now % 86_400_000)?)
}

/// The same of a time such as 2026-11-22T08:30:15.123Z.
fn clock_ms(text: &str) -> Option<u64> {
    let part = |from: usize, to: usize| text.get(from..to)?.parse::<u64>().ok();
    Some(((part(11, 13)? * 60 + part(14, 16)?) * 60 + part(17, 19)?) * 1000 + part(20, 23)?)
}

/// Publishes at a pace to subscribers who all get it, and says what that cost.
async fn deliver(target: Target<'_>, mut subscribers: Subscribers, number: u32) -> anyhow::Result<String> {
    let publisher = Publisher::new(target);
    publisher.publish().await?;
    subscribers.all(number).await?;
    let (mut last, mut each) = (Vec::new(), Vec::new());
    let before = target.server.cpu()?;
    let mut ticks = interval(PACE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for _ in 0..ENTRIES {
        ticks.tick().await;
        publisher.publish().await?;
        let answered = Instant::now();
        let arrivals = subscribers.all(number).await?;
        let waits = arrivals.iter().map(|got| got.saturating_duration_since(answered));
        last.push(waits.clone().max().unwrap_or_default());
        each.extend(waits);
    }
    ticks.tick().await;
    let cpu = target.server.cpu()?.saturating_sub(before);
    let deliveries = f64::from(ENTRIES * number);
    let memory = f64::from(target.server.memory_kib()?) / 1024.0;
    Ok(format!(
        "{:.1} µs CPU a delivery; p50 {}, p99 {} of all deliveries, the last subscriber p50 {}, p99 {}; {memory:.0} MiB",
        cpu.as_secs_f64() * 1e6 / deliveries,
        duration(percentile(&mut each, 50)),
        duration(percentile(&mut each, 99)),
        duration(percentile(&mut last, 50)),
        duration(percentile(&mut last, 99)),
    ))
}

/// The server's CPU time while entries are published that no subscriber wants.
async fn cost_of_publishing(target: Target<'_>) -> anyhow::Result<Duration> {
    let publisher = Publisher::new(target);
    let before = target.server.cpu()?;
    for _ in 0..DROPPED {
        publisher.publish().await?;
    }
    Ok(target.server.cpu()?.saturating_sub(before))
}

/// Adds versions to one asset, an entry each.
struct Publisher<'a> {
    target: Target<'a>,
    connection: tokio::sync::Mutex<Option<crate::http::Connection>>,
}

impl<'a> Publisher<'a> {
    fn new(target: Target<'a>) -> Self {
        Self { target, connection: tokio::sync::Mutex::new(None) }
    }

    async fn publish(&self) -> anyhow::Result<()> {
        let plan = &self.target.library.plan;
        let variables =
            json!({ "path": Asset::Numbered(0).path(), "file": plan.file_id(0).to_string() }).to_string();
        let mut request = Vec::new();
        Query::new(query::PUBLISH).write(&variables, &mut request);
        let mut connection = self.connection.lock().await;
        let connection = match &mut *connection {
            Some(connection) => connection,
            none => none.insert(crate::http::Connection::open(self.target.server.address).await?),
        };
        query::check(&connection.exchange(&request).await?)?;
        Ok(())
    }
}

impl Subscribers {
    async fn next(&mut self) -> anyhow::Result<(u32, Instant)> {
        let arrival =
            tokio::time::timeout(PATIENCE, self.arrivals.recv()).await.context("an entry did not come")?;
        arrival.context("the subscribers are gone")
    }

    /// Waits until each of them got one entry.
    async fn all(&mut self, number: u32) -> anyhow::Result<Vec<Instant>> {
        let mut arrivals = Vec::with_capacity(number as usize);
        let mut seen = vec![false; number as usize];
        for _ in 0..number {
            let (subscriber, at) = self.next().await?;
            let twice = std::mem::replace(&mut seen[subscriber as usize], true);
            ensure!(!twice, "subscriber {subscriber} got an entry twice");
            arrivals.push(at);
        }
        Ok(arrivals)
    }
}

/// Subscribes, and waits until all are subscribed.
async fn subscribe(
    target: Target<'_>,
    number: u32,
    variables: impl Fn(u32) -> String,
) -> anyhow::Result<Subscribers> {
    let (sender, arrivals) = mpsc::unbounded_channel();
    let sender = Rc::new(sender);
    let mut tasks = Vec::new();
    for subscriber in 0..number {
        let payload = payload(&variables(subscriber));
        let mut socket = Socket::subscribe(target.server.address, &payload).await?;
        let sender = Rc::clone(&sender);
        tasks.push(tokio::task::spawn_local(async move {
            if let Err(error) = receive(&mut socket, subscriber, &sender).await {
                crate::report::say(&format!("subscriber {subscriber}: {error:#}"));
            }
        }));
    }
    // Each subscription is begun before the next request of the same socket is; there is none to wait for.
    sleep(Duration::from_secs(2)).await;
    Ok(Subscribers { tasks, arrivals })
}

/// Tells of each entry, which have to come one at a time and in order.
async fn receive(
    socket: &mut Socket,
    subscriber: u32,
    sender: &mpsc::UnboundedSender<(u32, Instant)>,
) -> anyhow::Result<()> {
    let mut newest = 0;
    loop {
        let text = socket.next().await?;
        let got = Instant::now();
        for entry in text.split("\"versionNumber\":").skip(1) {
            let digits = entry.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
            let number: u32 = digits.parse().with_context(|| format!("no version number in {text}"))?;
            if newest != 0 && number != newest + 1 {
                bail!("version {number} came after {newest}");
            }
            newest = number;
            sender.send((subscriber, got)).context("nobody counts")?;
        }
    }
}

fn payload(variables: &str) -> String {
    format!(r#"{{"query":"{FOLLOW}","variables":{variables}}}"#)
}

/// A subscription that tells when each entry was written.
fn with_time() -> String {
    payload("{}").replace("path versionNumber", "at versionNumber")
}

fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    let last = times.len().saturating_sub(1);
    times.get(last * percent / 100).copied().unwrap_or_default()
}
