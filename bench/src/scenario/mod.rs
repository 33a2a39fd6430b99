//! What is measured: a file a kind of it.

mod bombs;
mod feed;
mod files;
mod idle;
mod parts;
mod publish;
mod reads;
mod relocate;
mod scale;
mod search;

use std::path::Path;
use std::time::Duration;

use anyhow::ensure;
use clap::ValueEnum;

use crate::http::{Connection, get};
use crate::library::Library;
use crate::load::Load;
use crate::plan::Asset;
use crate::report::{Report, say};
use crate::server::Server;

/// Something that can be measured, in the order in which it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// Memory after a start, and the time until the first answer.
    Idle,
    /// One asset by path with its published version.
    Asset,
    /// A folder page of 50 assets with the same.
    Page,
    /// The 19 versions of an asset.
    Versions,
    /// A search that finds 20 assets.
    Search,
    /// New published versions of stored bytes, at 64 connections.
    Publish,
    /// 5,000 subscribers with one document, two entries a second.
    Fanout,
    /// 1,000 subscribers, each with a filter of its own.
    Filters,
    /// One subscriber: the time from a commit to it.
    Lone,
    /// One subscriber that catches up with 100,000 entries.
    Replay,
    /// One subscriber that reads nothing while 100,000 entries pass.
    Silent,
    /// Files that are read, small and large, and a huge one that is sent.
    Files,
    /// 5 GiB in parts, to the backend that takes new bytes; only when it is named.
    Parts,
    /// Documents that would cost a naive server minutes.
    Bombs,
    /// Moving the folder that has all assets.
    Move,
    /// `asset` and `page` at 1,000,000 assets against 1,000; only when it is named.
    Scale,
}

/// What to run, and how.
#[derive(Debug, Clone, Copy)]
pub struct Setup<'a> {
    /// The server's program.
    pub program: &'a Path,
    /// A PostgreSQL server to use instead of SQLite.
    pub postgres: Option<&'a str>,
    /// Settings that the server is given.
    pub config: Option<&'a Path>,
    /// Assets in the library.
    pub assets: u32,
    /// Connections that read at the same time.
    pub connections: u32,
}

/// A running server and what it serves.
#[derive(Clone, Copy)]
struct Target<'a> {
    program: &'a Path,
    server: &'a Server,
    library: &'a Library,
    reading: Load,
}

/// Measures all of `chosen`, in order. A wrong answer fails its scenario and does not keep the others from theirs.
///
/// # Errors
/// When a library cannot be made, or the server does not start or stop.
pub async fn measure(setup: Setup<'_>, chosen: &[Scenario], report: &mut Report) -> anyhow::Result<()> {
    if chosen.iter().any(|scenario| *scenario != Scenario::Scale) {
        let library = Library::make(setup.assets, setup.postgres, setup.config).await?;
        let measured = measure_library(setup, &library, chosen, report).await;
        let removed = library.remove().await;
        measured.and(removed)?;
    }
    if chosen.contains(&Scenario::Scale)
        && let Err(error) = scale::measure(setup, report).await
    {
        report.add_failure("scale", &error);
    }
    Ok(())
}

async fn measure_library(
    setup: Setup<'_>,
    library: &Library,
    chosen: &[Scenario],
    report: &mut Report,
) -> anyhow::Result<()> {
    start_first(setup.program, library).await?;
    if chosen.contains(&Scenario::Idle)
        && let Err(error) = idle::measure(setup.program, library, report).await
    {
        report.add_failure("idle", &error);
    }
    let (server, _) = Server::start(setup.program, library).await?;
    let target = Target { program: setup.program, server: &server, library, reading: setup.reading() };
    for scenario in Scenario::value_variants().iter().filter(|scenario| chosen.contains(scenario)) {
        if let Err(error) = scenario.measure_on(target, report).await {
            report.add_failure(&scenario.name(), &error);
        }
    }
    server.stop().await
}

impl Setup<'_> {
    const fn reading(&self) -> Load {
        Load {
            connections: self.connections,
            warm_up: Duration::from_secs(1),
            measured: Duration::from_secs(4),
        }
    }
}

impl Scenario {
    /// Measures those that need a running server and its library.
    async fn measure_on(self, target: Target<'_>, report: &mut Report) -> anyhow::Result<()> {
        match self {
            Self::Asset => reads::asset(target, report).await,
            Self::Page => reads::page(target, report).await,
            Self::Versions => reads::versions(target, report).await,
            Self::Search => search::measure(target, report).await,
            Self::Publish => publish::measure(target, report).await,
            Self::Fanout => feed::fanout(target, report).await,
            Self::Filters => feed::filters(target, report).await,
            Self::Lone => feed::lone(target, report).await,
            Self::Silent => feed::silent(target, report).await,
            Self::Replay => feed::replay(target, report).await,
            Self::Files => files::measure(target, report).await,
            Self::Parts => parts::measure(target, report).await,
            Self::Bombs => bombs::measure(target, report).await,
            Self::Move => relocate::measure(target, report).await,
            Self::Idle | Self::Scale => Ok(()),
        }
    }

    /// Whether it takes so much that it has to be asked for.
    #[must_use]
    pub fn is_special(self) -> bool {
        matches!(self, Self::Parts | Self::Scale)
    }

    /// As it is given on the command line.
    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// Starts the server once, which makes the search index, and looks whether the bytes are where it looks for them.
async fn start_first(program: &Path, library: &Library) -> anyhow::Result<()> {
    let (server, took) = Server::start(program, library).await?;
    say(&format!("the first start, which makes the search index: {:.1} s", took.as_secs_f64()));
    let asset = Asset::Numbered(0);
    let mut connection = Connection::open(server.address).await?;
    let answer = connection.exchange(&get(&format!("/assets/{}", asset.path()))).await?;
    let expected = &library.plan.blob(asset, asset.versions()).bytes;
    ensure!(answer.status == 200, "{} answers {}", asset.path(), answer.status);
    ensure!(answer.body == expected, "{} has other bytes than were seeded", asset.path());
    drop(connection);
    server.stop().await
}
