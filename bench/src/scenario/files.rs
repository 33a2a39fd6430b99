//! `files`: bytes in and out of the local folder.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::Target;
use crate::http::{Connection, get};
use crate::load::{Load, run_requests};
use crate::query::Query;
use crate::random::{Random, noise};
use crate::report::{Report, duration};
use crate::server::Server;
use crate::wanted;

const START: &str =
    "mutation Start($path: String!) { startUpload(input: { path: $path }) { intent { id target { url } } } }";
const FINISH: &str =
    "mutation Finish($id: ID!) { finishUpload(input: { intentId: $id }) { version { sha256 url } } }";

const SMALL: usize = 20 * 1024;
const LARGE: usize = 64 * 1024 * 1024;
const HUGE: usize = 1024 * 1024 * 1024;
/// Bytes that are hashed and written at once where one thread does both.
const BLOCK: usize = 1024 * 1024;
/// Uploads, each beside what one thread does with the same bytes.
const ROUNDS: u32 = 7;

/// Small and large files that are read, and a huge one that is sent.
///
/// # Errors
/// When an answer is wrong.
pub async fn measure(target: Target<'_>, report: &mut Report) -> anyhow::Result<()> {
    let server = target.server;
    let small = read(server, target.reading, SMALL).await?;
    report.add("files of 20 KB, at their own URL", small.summary()?, wanted::SMALL_FILE);
    let stable = read_at(server, target.reading, SMALL, "/assets/bench/20480".to_owned()).await?;
    report.add("the same, at the stable URL", stable.summary()?, wanted::SMALL_FILE);
    let few = Load { connections: 4, ..target.reading };
    let large = read(server, few, LARGE).await?;
    report.add("files of 64 MiB", large.summary()?, wanted::LARGE_FILE);
    upload(target, report).await
}

async fn read(server: &Server, load: Load, size: usize) -> anyhow::Result<crate::load::Figures> {
    let bytes = noise(size);
    let (_, url) = send(server, &format!("bench/{size}"), &bytes).await?;
    let path = url.strip_prefix(&server.url).context("a URL of another server")?.to_owned();
    let mut connection = Connection::open(server.address).await?;
    let answer = connection.exchange(&get(&path)).await?;
    ensure!(answer.status == 200 && answer.body == bytes, "{path} has other bytes than were sent");
    read_at(server, load, size, path).await
}

async fn read_at(
    server: &Server,
    load: Load,
    size: usize,
    path: String,
) -> anyhow::Result<crate::load::Figures> {
    let request = get(&path);
    let write = move |_: &mut Random, into: &mut Vec<u8>| {
        into.clear();
        into.extend_from_slice(&request);
    };
    run_requests(server, load, write, move |answer| {
        ensure!(answer.status == 200 && answer.body.len() == size, "{path} is answered {}", answer.status);
        Ok(())
    })
    .await
}

/// Sends a whole file; answers with how long its request took, and the version's URL.
async fn send(server: &Server, path: &str, bytes: &[u8]) -> anyhow::Result<(Duration, String)> {
    let mut started = server.ask(&Query::new(START), &json!({ "path": path }).to_string()).await?;
    let intent = started["startUpload"]["intent"].take();
    let url = intent["target"]["url"].as_str().context("no target")?;
    let url = url.strip_prefix(&server.url).context("a URL of another server")?;
    let head = format!("PUT {url} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", bytes.len());
    let mut connection = Connection::open(server.address).await?;
    let began = Instant::now();
    connection.write(head.as_bytes()).await?;
    let status = connection.exchange(bytes).await?.status;
    let took = began.elapsed();
    ensure!(status == 200, "an upload is answered {status}");
    let variables = json!({ "id": intent["id"] }).to_string();
    let mut finished = server.ask(&Query::new(FINISH), &variables).await?;
    let version = finished["finishUpload"]["version"].take();
    ensure!(version["sha256"].as_str() == Some(&hex(&Sha256::digest(bytes))), "another SHA-256: {version}");
    Ok((took, version["url"].as_str().context("no URL")?.to_owned()))
}

/// Sends a huge file over and over, each time beside what one thread takes that hashes the same bytes and then writes
/// and syncs them.
async fn upload(target: Target<'_>, report: &mut Report) -> anyhow::Result<()> {
    let server = target.server;
    let (mut bytes, mut ratios) = (noise(HUGE), Vec::new());
    let (mut best, mut best_alone) = (Duration::MAX, Duration::MAX);
    let (folder, before) = (target.library.data_dir(), server.memory_kib()?);
    let mut highest = before;
    for round in 0..ROUNDS {
        // Identical bytes would be kept once.
        bytes[..4].copy_from_slice(&round.to_be_bytes());
        make_room(&folder)?;
        let alone = alone(&folder.join("alone"), &bytes)?;
        make_room(&folder)?;
        let (took, _) = send(server, &format!("bench/huge-{round}"), &bytes).await?;
        highest = highest.max(server.memory_kib()?);
        ratios.push(alone.as_secs_f64() / took.as_secs_f64());
        (best, best_alone) = (best.min(took), best_alone.min(alone));
    }
    ratios.sort_by(f64::total_cmp);
    let median = 100.0 * ratios[ratios.len() / 2];
    let of_best = 100.0 * best_alone.as_secs_f64() / best.as_secs_f64();
    let figures = format!(
        "{} at best, {of_best:.0} % of the rate of one thread at its best ({median:.0} % in the median of {ROUNDS}); \
         memory {} MiB more",
        duration(best),
        highest.saturating_sub(before) / 1024
    );
    report.add("upload of 1 GiB", figures, wanted::UPLOAD);
    Ok(())
}

/// Lets the system have memory for a huge file: a virtual machine may first have to get it from its host, which takes
/// longer than to write the file.
fn make_room(folder: &Path) -> anyhow::Result<()> {
    let path = folder.join("room");
    let mut file = File::create(&path)?;
    let block = vec![1; BLOCK];
    for _ in 0..HUGE / BLOCK {
        file.write_all(&block)?;
    }
    file.sync_all()?;
    std::fs::remove_file(path)?;
    Ok(File::open(folder)?.sync_all()?)
}

fn alone(path: &Path, bytes: &[u8]) -> anyhow::Result<Duration> {
    let began = Instant::now();
    let (mut hasher, mut file) = (Sha256::new(), File::create(path)?);
    for block in bytes.chunks(BLOCK) {
        hasher.update(block);
        file.write_all(block)?;
    }
    file.sync_all()?;
    let took = began.elapsed();
    ensure!(hasher.finalize() == Sha256::digest(bytes), "one thread hashes otherwise");
    std::fs::remove_file(path)?;
    Ok(took)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
