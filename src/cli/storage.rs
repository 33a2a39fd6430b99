//! `vellum storage …` and `vellum fsck`: looking after bytes. They work beside running servers.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::bail;
use clap::Subcommand;

use super::{Settings, terminal};
use crate::app::{App, Clock};
use crate::blob::Verdict;
use crate::config::Config;
use crate::domain::actor::Actor;
use crate::domain::storage::fsck::{self, Depth, Remedy};
use crate::domain::storage::migrate::{self, Old};
use crate::domain::storage::{self, Owner, Progress};

/// Time between two reports of how far it is.
const REPORT: Duration = Duration::from_secs(2);

/// Looks after storage backends.
#[derive(Subcommand)]
pub enum Command {
    /// Tries all that Vellum, its clients and their browsers ask of a backend, and says what to change.
    Check {
        /// Which backend; left out: the one that takes new bytes.
        backend: Option<String>,
        /// The origin of the pages that upload, e.g. <https://app.example.com>; left out: the server's own.
        #[arg(long)]
        origin: Option<String>,
        #[command(flatten)]
        settings: Settings,
    },
    /// Moves all bytes from one backend to another, while servers run. It can be broken off and run again at any time.
    Migrate {
        /// Where the bytes are.
        #[arg(long)]
        from: String,
        /// Where they are to go.
        #[arg(long)]
        to: String,
        /// Leave the old copies where they are, e.g. for links to a public URL that others keep.
        #[arg(long)]
        keep: bool,
        #[command(flatten)]
        settings: Settings,
    },
}

/// What `vellum fsck` looks at, and what it does.
#[derive(clap::Args)]
pub struct Fsck {
    /// Read all bytes and compare their SHA-256, instead of looking whether they are there and how many they are.
    #[arg(long)]
    deep: bool,
    /// Bring back what another backend has, and remove what nothing needs.
    #[arg(long)]
    repair: bool,
    #[command(flatten)]
    settings: Settings,
}

impl Command {
    /// Runs it.
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Check { backend, origin, settings } => check(settings.load()?, backend, origin).await,
            Self::Migrate { from, to, keep, settings } => {
                let old = if keep { Old::Keep } else { Old::Remove };
                migrate(settings.load()?, &from, &to, old).await
            }
        }
    }
}

async fn open(config: Config) -> anyhow::Result<App> {
    let public_url = config.public_url.clone().unwrap_or_else(|| format!("http://{}", config.listen));
    App::open(config, public_url, Clock::system()).await
}

fn say(line: &str) {
    // Nobody may be listening.
    let _ = terminal::say(line);
}

async fn check(config: Config, backend: Option<String>, origin: Option<String>) -> anyhow::Result<()> {
    let app = open(config).await?;
    let name = match backend {
        Some(name) => name,
        None => storage::info(&app, &Actor::system()).await?.default.name,
    };
    let origin = origin.unwrap_or_else(|| app.public_url().to_owned());
    say(&format!("Checking {name} for pages of {origin}"));
    let mut wrong = 0;
    if let Ok(Owner::Another(mark)) = storage::owner(&app, &name).await {
        app.close(Duration::from_secs(5)).await;
        bail!(
            "{name} is another library's, or this one's by another name: it has {mark}. Nothing was tried there"
        );
    }
    for probed in app.store(&name)?.probe(&origin, app.clock().new_id()).await {
        match probed.verdict {
            Verdict::Good => say(&format!("  ok    {}", probed.what)),
            Verdict::Note(note) => say(&format!("  note  {}: {note}", probed.what)),
            Verdict::Bad { problem, remedy } => {
                wrong += 1;
                say(&format!("  WRONG {}: {problem}\n        {remedy}", probed.what));
            }
        }
    }
    app.close(Duration::from_secs(5)).await;
    if wrong > 0 {
        bail!("{wrong} of what Vellum needs does not work");
    }
    Ok(())
}

async fn migrate(config: Config, from: &str, to: &str, old: Old) -> anyhow::Result<()> {
    let app = open(config).await?;
    let actor = Actor::system();
    let backends = storage::info(&app, &actor).await?.backends;
    let public =
        backends.into_iter().find(|backend| backend.name == from).and_then(|backend| backend.public_url);
    if let Some(url) = public.filter(|_| old == Old::Remove) {
        say(&format!(
            "Clients may have kept redirects to {url} for as long as a year; the files there are removed in eight days, \
             unless this is run with --keep"
        ));
    }
    let report = Report::new("moved");
    let done = migrate::migrate(&app, &actor, from, to, old, |done, all| report.tell(done, all)).await?;
    say(&format!("Moved {} from {from} to {to}", written(done.moved)));
    if storage::info(&app, &actor).await?.default.name == from {
        say(&format!("New bytes still go to {from}: choose {to} by setDefaultStorage, and run this again"));
    }
    if done.coming > 0 {
        let what = "uploads that began before still bring bytes there";
        say(&format!(
            "{} {what}: run this again when they are over, before {from} leaves the settings",
            done.coming
        ));
    }
    app.close(Duration::from_secs(5)).await;
    if done.failed > 0 {
        bail!("{} files could not be moved; run it again when what the log says is mended", done.failed);
    }
    Ok(())
}

impl Fsck {
    /// Runs it.
    pub async fn run(self) -> anyhow::Result<()> {
        let app = open(self.settings.load()?).await?;
        let depth = if self.deep { Depth::Content } else { Depth::Size };
        let remedy = if self.repair { Remedy::Repair } else { Remedy::None };
        let report = Report::new("looked at");
        let (mut found, mut left) = (0, 0);
        let tell = |finding: fsck::Finding| {
            found += 1;
            left += usize::from(!finding.repaired);
            let done = if finding.repaired { " (repaired)" } else { "" };
            say(&format!("{} {} {}{done}", finding.backend, finding.blob, finding.problem));
            for (path, number) in finding.versions {
                say(&format!("  version {number} of {}", terminal::name(&path)));
            }
        };
        let watch = |done, all| report.tell(done, all);
        let done = fsck::check(&app, &Actor::system(), depth, remedy, tell, watch).await?;
        say(&format!("Looked at {}: {found} findings, {left} of them not repaired", written(done)));
        app.close(Duration::from_secs(5)).await;
        if left > 0 {
            bail!("rows and bytes do not fit together");
        }
        Ok(())
    }
}

/// Tells now and then how far long work has come.
struct Report {
    what: &'static str,
    last: Mutex<Instant>,
}

impl Report {
    fn new(what: &'static str) -> Self {
        Self { what, last: Mutex::new(Instant::now()) }
    }

    fn tell(&self, done: Progress, all: Progress) {
        let mut last = self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if last.elapsed() < REPORT {
            return;
        }
        *last = Instant::now();
        let bytes = if all.bytes == 0 { String::new() } else { format!(", of {}", size(all.bytes)) };
        tracing::info!("{} {} of {} files{bytes}", self.what, written(done), all.files);
    }
}

fn written(progress: Progress) -> String {
    let files = if progress.files == 1 { "file" } else { "files" };
    format!("{} {files} ({})", progress.files, size(progress.bytes))
}

/// Bytes for people.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut size, mut unit) = (bytes, 0);
    while size >= 10 * 1024 && unit + 1 < UNITS.len() {
        size /= 1024;
        unit += 1;
    }
    format!("{size} {}", UNITS[unit])
}
