//! The program under test: started, asked, looked at by the operating system, stopped.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStdout, Command};

use crate::http::{Answer, Connection, get};
use crate::library::Library;
use crate::query::{Query, check};

/// How long a start may take; the first one on a large library makes its search index.
const START_PATIENCE: Duration = Duration::from_secs(60 * 60);
/// How long a stop may take.
const STOP_PATIENCE: Duration = Duration::from_secs(60);
/// The unit of CPU time that Linux counts for programs, whatever its kernel's is.
const TICK: Duration = Duration::from_millis(10);

/// A running server.
pub struct Server {
    /// How clients reach it.
    pub url: String,
    /// The same, to connect to.
    pub address: SocketAddr,
    child: Child,
    pid: u32,
    /// Whether its database is a process of its own.
    postgres: bool,
    // Kept open: the server may still write to it.
    _output: BufReader<ChildStdout>,
}

impl Server {
    /// Starts `program` on a library; answers with how long it took until it was ready to answer.
    ///
    /// # Errors
    /// When it does not get that far.
    pub async fn start(program: &Path, library: &Library) -> anyhow::Result<(Self, Duration)> {
        let log = library.log_path();
        let starting = tokio::time::timeout(START_PATIENCE, launch(program, library)).await;
        let started = starting.context("it took too long").and_then(|started| started);
        started.with_context(|| {
            format!("the server did not start; its log:\n{}", fs::read_to_string(log).unwrap_or_default())
        })
    }

    /// Stops it as an administrator would, so that it closes its database.
    ///
    /// # Errors
    /// When it does not stop.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        let pid = self.pid.to_string();
        let told = Command::new("kill").args(["-TERM", &pid]).status().await.context("cannot run kill")?;
        ensure!(told.success(), "cannot stop the server");
        let stopped = tokio::time::timeout(STOP_PATIENCE, self.child.wait()).await;
        let status = stopped.context("the server did not stop")??;
        ensure!(status.success(), "the server ended with {status}");
        Ok(())
    }

    /// Sends one query; answers with its data.
    ///
    /// # Errors
    /// When the answer tells of an error.
    pub async fn ask(&self, query: &Query, variables: &str) -> anyhow::Result<Value> {
        let mut request = Vec::new();
        query.write(variables, &mut request);
        let mut connection = Connection::open(self.address).await?;
        let mut answer: Value = serde_json::from_str(check(&connection.exchange(&request).await?)?)?;
        Ok(answer["data"].take())
    }

    /// CPU time that the process took until now, in user mode and in the kernel; with that of PostgreSQL, where the rows
    /// are there.
    ///
    /// # Errors
    /// When the operating system does not tell.
    pub fn cpu(&self) -> anyhow::Result<Duration> {
        let own = cpu_of(&format!("/proc/{}/stat", self.pid), None)?.context("no CPU time")?;
        if !self.postgres {
            return Ok(own);
        }
        let mut database = Duration::ZERO;
        for process in fs::read_dir("/proc")? {
            let stat = process?.path().join("stat");
            // Processes come and go.
            database +=
                cpu_of(&stat.to_string_lossy(), Some("(postgres)")).ok().flatten().unwrap_or_default();
        }
        Ok(own + database)
    }

    /// Memory that the process has, in KiB.
    ///
    /// # Errors
    /// When the operating system does not tell.
    pub fn memory_kib(&self) -> anyhow::Result<u32> {
        self.status("VmRSS:")
    }

    /// The most memory that the process had, in KiB.
    ///
    /// # Errors
    /// When the operating system does not tell.
    pub fn peak_kib(&self) -> anyhow::Result<u32> {
        self.status("VmHWM:")
    }

    fn status(&self, name: &str) -> anyhow::Result<u32> {
        let path = format!("/proc/{}/status", self.pid);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let kib =
            line.and_then(|line| line.trim().strip_suffix(" kB")).with_context(|| format!("no {name}"))?;
        Ok(kib.parse()?)
    }
}

/// CPU time of a process and of its children that ended; none when it has another name.
fn cpu_of(path: &str, name: Option<&str>) -> anyhow::Result<Option<Duration>> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    if name.is_some_and(|name| !text.contains(name)) {
        return Ok(None);
    }
    // The name of the program, in parentheses, may have spaces; what follows has not.
    let fields = text.rsplit_once(") ").map(|(_, rest)| rest.split(' ').skip(11).take(4));
    let ticks = fields.context("no CPU time")?.map(str::parse::<u32>).sum::<Result<u32, _>>();
    Ok(Some(TICK * ticks.context("no CPU time")?))
}

async fn launch(program: &Path, library: &Library) -> anyhow::Result<(Server, Duration)> {
    let mut command = Command::new(program);
    command.args(["serve", "--dev", "--listen", "127.0.0.1:0", "--data-dir"]).arg(library.data_dir());
    if let Some(url) = library.postgres_url() {
        command.args(["--database-url", url]);
    }
    if let Some(config) = library.config() {
        command.arg("--config").arg(config);
    }
    // Settings of whoever runs this must not change what is measured.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("VELLUM_") {
            command.env_remove(name);
        }
    }
    let log = File::create(library.log_path()).context("cannot make the log")?;
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).kill_on_drop(true);
    let began = Instant::now();
    let mut child = command.spawn().with_context(|| format!("cannot run {}", program.display()))?;
    let pid = child.id().context("the server has no process id")?;
    let mut output = BufReader::new(child.stdout.take().context("the server has no output")?);
    let url = read_url(&mut output).await?;
    let address =
        url.trim_start_matches("http://").parse().with_context(|| format!("{url} is no address"))?;
    wait_until_ready(address).await?;
    let postgres = library.postgres_url().is_some();
    Ok((Server { url, address, child, pid, postgres, _output: output }, began.elapsed()))
}

/// The URL that the server tells people.
async fn read_url(output: &mut BufReader<ChildStdout>) -> anyhow::Result<String> {
    let mut lines = output.lines();
    while let Some(line) = lines.next_line().await? {
        let url = line.split(' ').find_map(|word| word.strip_suffix("/graphql"));
        if let Some(url) = url {
            return Ok(url.to_owned());
        }
    }
    bail!("it ended without telling its URL")
}

async fn wait_until_ready(address: SocketAddr) -> anyhow::Result<()> {
    let mut connection = Connection::open(address).await?;
    let request = get("/readyz");
    loop {
        let Answer { status, .. } = connection.exchange(&request).await?;
        if status == 200 {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
