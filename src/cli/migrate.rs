//! `vellum migrate`.

use crate::app::Database;
use crate::config::Config;

/// Brings the database up to date.
///
/// # Errors
/// When it cannot be reached, or a migration fails.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let database = Database::open(&config.database_url).await?;
    database.migrate().await?;
    tracing::info!("the database is up to date");
    Ok(())
}
