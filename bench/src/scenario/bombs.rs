//! `bombs`: documents that would cost much, and what they cost.

use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::json;

use super::Target;
use crate::bombs::bombs;
use crate::http::Connection;
use crate::report::{Report, duration};
use crate::wanted;

/// Times that each is sent.
const ROUNDS: usize = 5;

/// Sends each document; tells the one that takes longest, and how much memory all of them took.
///
/// # Errors
/// When one is not answered.
pub async fn measure(target: Target<'_>, report: &mut Report) -> anyhow::Result<()> {
    let mut slowest = (Duration::ZERO, "");
    let before = target.server.peak_kib()?;
    for (what, text) in bombs() {
        let body = json!({ "query": text }).to_string();
        let mut times = Vec::with_capacity(ROUNDS);
        for _ in 0..ROUNDS {
            let head = format!(
                "POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            let mut connection = Connection::open(target.server.address).await?;
            let began = Instant::now();
            connection.write(head.as_bytes()).await?;
            let answer = connection.exchange(body.as_bytes()).await?;
            times.push(began.elapsed());
            ensure!(answer.status == 200, "{what} is answered {}", answer.status);
        }
        times.sort_unstable();
        slowest = slowest.max((times[ROUNDS / 2], what));
    }
    let more = target.server.peak_kib()?.saturating_sub(before) / 1024;
    let (time, what) = slowest;
    let measured = format!("at most {} ({what}); the peak of memory is {more} MiB higher", duration(time));
    report.add("documents of 64 KB that would cost much", measured, wanted::BOMBS);
    Ok(())
}
