//! The command line: what can be run, and where its settings come from.

mod logs;
mod migrate;
mod restored;
mod schema;
mod serve;
mod storage;
mod terminal;
mod token;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{Config, Flags};

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
    // What is written is nobody else's to read.
    #[cfg(target_os = "linux")]
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    match start(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn complain(error: &anyhow::Error) {
    terminal::note(&format!("vellum: {error:#}"));
}

fn start(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Schema => {
            schema::run();
            Ok(())
        }
        Command::Serve(settings) => {
            let (config, _sending) = settings.load_to_serve()?;
            block_on(serve::run(config))
        }
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
        logs::start(&config);
        Ok(config)
    }

    /// The same for a server, which may send traces as long as what comes with the settings is kept.
    fn load_to_serve(&self) -> anyhow::Result<(Config, Option<logs::Sending>)> {
        let config = Config::load(self.config.as_deref(), &self.flags)?;
        let sending = logs::start_with_traces(&config)?;
        Ok((config, sending))
    }
}

/// Room for the deepest document that is let in; only what is used of it takes memory.
const STACK_BYTES: usize = 16 * 1024 * 1024;

fn block_on(command: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.enable_all().thread_stack_size(STACK_BYTES).build()?.block_on(command)
}
