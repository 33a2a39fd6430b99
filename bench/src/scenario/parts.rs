//! `parts`: a huge file that comes in parts, to wherever the server keeps new bytes.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use super::Target;
use crate::http::Connection;
use crate::query::Query;
use crate::random::noise;
use crate::report::{Report, duration};
use crate::server::Server;
use crate::wanted;

const START: &str = "mutation Start($path: String!, $size: ByteCount!, $part: ByteCount!) { \
    startUpload(input: { path: $path, size: $size, partSize: $part }) { intent { id } } }";
const PARTS: &str = "query Parts($id: ID!) { uploadIntent(id: $id) { \
    parts { size received target { url headers { name value } } } } }";
const FINISH: &str =
    "mutation Finish($id: ID!) { finishUpload(input: { intentId: $id }) { version { size } } }";

const PART: usize = 64 * 1024 * 1024;
const COUNT: usize = 80;
/// Time between two looks at the server's memory.
const LOOK: Duration = Duration::from_millis(20);
/// How often finishing is asked for: a bucket may take longer than one request may.
const FINISHES: u32 = 60;

/// Sends 5 GiB in parts of 64 MiB, and finishes; looks at the server's memory all the while.
///
/// # Errors
/// When an answer is wrong.
pub async fn measure(target: Target<'_>, report: &mut Report) -> anyhow::Result<()> {
    let server = target.server;
    let before = server.memory_kib()?;
    let mut highest = before;
    let sending = send(server);
    tokio::pin!(sending);
    let (sent, finished) = loop {
        tokio::select! {
            done = &mut sending => break done?,
            () = tokio::time::sleep(LOOK) => highest = highest.max(server.memory_kib()?),
        }
    };
    let figures = format!(
        "sent in {}, finished in {}; memory {} MiB more",
        duration(sent),
        duration(finished),
        highest.saturating_sub(before) / 1024
    );
    report.add("5 GiB in parts", figures, wanted::PARTS);
    Ok(())
}

/// Sends all parts, one after the other, and finishes; answers how long each took.
async fn send(server: &Server) -> anyhow::Result<(Duration, Duration)> {
    let variables = json!({ "path": "bench/parts", "size": PART * COUNT, "part": PART }).to_string();
    let mut started = server.ask(&Query::new(START), &variables).await?;
    let id = json!({ "id": started["startUpload"]["intent"]["id"].take() }).to_string();
    let asked = server.ask(&Query::new(PARTS), &id).await?;
    let parts = asked["uploadIntent"]["parts"].as_array().context("no parts")?;
    ensure!(parts.len() == COUNT, "{} parts are asked for", parts.len());
    let mut bytes = noise(PART);
    let began = Instant::now();
    for (number, part) in parts.iter().enumerate() {
        bytes[..8].copy_from_slice(&(number as u64).to_be_bytes());
        put(&part["target"], &bytes).await.with_context(|| format!("part {}", number + 1))?;
    }
    let sent = began.elapsed();
    let began = Instant::now();
    let finish = Query::new(FINISH);
    let mut finished = server.ask(&finish, &id).await;
    for _ in 1..FINISHES {
        if finished.is_ok() {
            break;
        }
        finished = server.ask(&finish, &id).await;
    }
    let size = finished?["finishUpload"]["version"]["size"].to_string();
    ensure!(size.trim_matches('"') == (PART * COUNT).to_string(), "{size} bytes are kept");
    Ok((sent, began.elapsed()))
}

async fn put(target: &Value, bytes: &[u8]) -> anyhow::Result<()> {
    let url = target["url"].as_str().context("no target")?;
    let rest = url.strip_prefix("http://").context("only http:// is spoken here")?;
    let (host, path) = rest.split_once('/').context("a URL without a path")?;
    let header =
        |header: &Value| Some(format!("{}: {}\r\n", header["name"].as_str()?, header["value"].as_str()?));
    let headers = target["headers"].as_array().context("no headers")?.iter().filter_map(header);
    let headers: String = headers.collect();
    let length = bytes.len();
    let head = format!("PUT /{path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n{headers}\r\n");
    let address: SocketAddr = host.to_socket_addrs()?.next().context("no address")?;
    let mut connection = Connection::open(address).await?;
    connection.write(head.as_bytes()).await?;
    let answer = connection.exchange(bytes).await?;
    ensure!(answer.status == 200, "is answered {}: {}", answer.status, String::from_utf8_lossy(answer.body));
    Ok(())
}
