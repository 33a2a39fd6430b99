//! The command line: what can be run, and where its settings come from.

mod migrate;
mod restored;
mod schema;
mod serve;
mod storage;
mod token;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::config::{Config, Flags, LogFormat};

/// A versioned asset server: stable references, every version kept, one changelog, over GraphQL.
///
/// Each setting may stand in a file (--config), in the environment (`VELLUM_LISTEN`, `VELLUM_DATA_DIR` …) or in a
/// flag; the later wins.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the server.
    Serve(Settings),
    /// Brings the database up to date and ends. `serve` does so by itself.
    Migrate(Settings),
    /// After a backup was restored, while no server runs: refuses the cursors of what happened since it was made.
    Restored(Settings),
    /// Looks after storage backends.
    #[command(subcommand)]
    Storage(storage::Command),
    /// Makes, lists and revokes API tokens.
    #[command(subcommand)]
    Token(token::Command),
    /// Compares rows with bytes: what is missing, damaged or needed by nothing.
    Fsck(storage::Fsck),
    /// Prints the GraphQL schema.
    Schema,
}

#[derive(clap::Args)]
struct Settings {
    /// A settings file; see config.default.toml.
    #[arg(long, env = "VELLUM_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    flags: Flags,
}

/// Runs what the arguments ask for.
#[must_use]
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    match start(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stderr, reason = "there may be no log yet")]
fn complain(error: &anyhow::Error) {
    eprintln!("vellum: {error:#}");
}

fn start(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Schema => {
            schema::run();
            Ok(())
        }
        Command::Serve(settings) => block_on(serve::run(settings.load()?)),
        Command::Migrate(settings) => block_on(migrate::run(settings.load()?)),
        Command::Restored(settings) => block_on(restored::run(settings.load()?)),
        Command::Storage(command) => block_on(command.run()),
        Command::Token(command) => block_on(command.run()),
        Command::Fsck(fsck) => block_on(fsck.run()),
    }
}

impl Settings {
    fn load(&self) -> anyhow::Result<Config> {
        let config = Config::load(self.config.as_deref(), &self.flags)?;
        start_logging(&config);
        Ok(config)
    }
}

/// Room for the deepest document that is let in; only what is used of it takes memory.
const STACK_BYTES: usize = 16 * 1024 * 1024;

fn block_on(command: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.enable_all().thread_stack_size(STACK_BYTES).build()?.block_on(command)
}

/// Who would log whole messages, in which tokens may be.
const QUIET: &str = "tungstenite=info,tokio_tungstenite=info,h2=info";

/// Logs go to standard error: readable text, or an object a line.
fn start_logging(config: &Config) {
    let logs = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(format!("sea_orm_migration=warn,{},{QUIET}", config.log)))
        .with_writer(std::io::stderr)
        .with_target(false);
    match config.log_format {
        LogFormat::Text => logs.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
        LogFormat::Json => logs.json().init(),
    }
}
