//! Vellum's benchmark: seeds a library of its own, runs the real server on it, and prints what it measured beside
//! what is wanted. It fails when an answer is wrong, never because something is slow.
//!
//! One thread makes the load, so that what it takes of the machine is small and the same in every scenario.

mod blobs;
mod bombs;
mod http;
mod library;
mod load;
mod plan;
mod query;
mod random;
mod report;
mod scenario;
mod seed;
mod server;
mod socket;
mod wanted;
mod words;
mod yardstick;

use std::path::PathBuf;

use anyhow::{bail, ensure};
use clap::{Parser, ValueEnum as _};

use report::Report;
use scenario::{Scenario, Setup};

/// Measures a Vellum server. Data goes to the folder for temporary files (TMPDIR), which should be on a real disk:
/// publishing waits for it.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The server's program, built for release.
    #[arg(long, value_name = "FILE")]
    program: PathBuf,
    /// Assets in the library, of three versions each.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(100..=10_000_000))]
    assets: u32,
    /// What to measure, separated by commas; all but parts and scale, when left out.
    #[arg(long, value_delimiter = ',', value_name = "SCENARIO")]
    only: Vec<Scenario>,
    /// Connections that read at the same time.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1000))]
    connections: u32,
    /// <postgres://user@server/database>: makes a database of its own on that server, instead of SQLite.
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
    /// Settings for the server, e.g. with a bucket for new bytes.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    tokio::select! {
        outcome = run(&arguments) => outcome,
        // What was started and made goes with the future above; a database of PostgreSQL stays.
        _ = tokio::signal::ctrl_c() => bail!("stopped"),
    }
}

async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let postgres = arguments.database_url.as_deref();
    let known = postgres.is_none_or(|url| url.starts_with("postgres://") || url.starts_with("postgresql://"));
    ensure!(known, "--database-url has to begin with postgres://");
    let setup = Setup {
        program: &arguments.program,
        postgres,
        config: arguments.config.as_deref(),
        assets: arguments.assets,
        connections: arguments.connections,
    };
    let mut report = Report::default();
    scenario::measure(setup, &arguments.chosen(), &mut report).await?;
    report.print_table();
    ensure!(report.failures() == 0, "{} scenarios failed", report.failures());
    Ok(())
}

impl Arguments {
    fn chosen(&self) -> Vec<Scenario> {
        if self.only.is_empty() {
            let all = Scenario::value_variants().iter().copied();
            return all.filter(|scenario| !scenario.is_special()).collect();
        }
        self.only.clone()
    }
}
