//! `vellum restored`.

use super::terminal;
use crate::app::{App, Clock};
use crate::config::Config;
use crate::domain::change;

/// Lets cursors of before a backup was restored be refused.
///
/// # Errors
/// When the database cannot be used.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let public_url = config.public_url.clone().unwrap_or_else(|| format!("http://{}", config.listen));
    let app = App::open(config, public_url, Clock::system()).await?;
    change::begin_epoch(&app).await?;
    let text = "Cursors that were handed out before are refused from now on (CURSOR_EXPIRED).";
    Ok(terminal::say(text)?)
}
