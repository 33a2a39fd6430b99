//! `idle`: what a server that nobody asks takes, and how soon it answers after a start on existing data.

use std::path::Path;
use std::time::Duration;

use crate::library::Library;
use crate::report::{Report, duration};
use crate::server::Server;
use crate::wanted;

const STARTS: usize = 3;
/// What a start leaves to do is done by then.
const SETTLING: Duration = Duration::from_secs(2);

/// Starts the server three times.
///
/// # Errors
/// When it does not start or stop.
pub async fn measure(program: &Path, library: &Library, report: &mut Report) -> anyhow::Result<()> {
    let (mut times, mut memories) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let (server, took) = Server::start(program, library).await?;
        tokio::time::sleep(SETTLING).await;
        times.push(took);
        memories.push(server.memory_kib()?);
        server.stop().await?;
    }
    let memories: Vec<String> =
        memories.into_iter().map(|kib| format!("{:.1}", f64::from(kib) / 1024.0)).collect();
    let times: Vec<String> = times.into_iter().map(duration).collect();
    report.add("idle: memory after a start", format!("{} MiB", memories.join(", ")), wanted::MEMORY);
    report.add("idle: first answer after a start", times.join(", "), wanted::START);
    Ok(())
}
