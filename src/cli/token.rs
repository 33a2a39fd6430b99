//! `vellum token …`: API tokens, from the machine that the server runs on. It works beside running servers.

use std::fmt::Write as _;

use anyhow::Context as _;
use clap::{Subcommand, ValueEnum};
use entity::{Timestamp, TokenId, token};
use jiff::{Span, SpanRelativeTo};

use super::Settings;
use super::terminal::{name, note, say};
use crate::app::{App, Clock};
use crate::domain::actor::{Actor, Role as Granted};
use crate::domain::page::{MAX_PAGE, Page, PageArgs};
use crate::domain::token::{self as tokens, NewToken};

/// Makes, lists and revokes API tokens.
#[derive(Subcommand)]
pub enum Command {
    /// Makes a token and prints its secret, which cannot be read again.
    Create {
        /// What people call it, e.g. what uses it.
        name: String,
        /// What its holders may do.
        #[arg(long)]
        role: Role,
        /// It is refused after that, e.g. 90d or 12h; left out, never.
        #[arg(long, value_name = "TIME")]
        expires_in: Option<Span>,
        #[command(flatten)]
        settings: Settings,
    },
    /// Lists all tokens, newest first.
    List {
        #[command(flatten)]
        settings: Settings,
    },
    /// Ends a token: it is refused within a second, and its subscriptions end within 5.
    Revoke {
        /// Its id, as `list` shows it.
        id: TokenId,
        #[command(flatten)]
        settings: Settings,
    },
}

/// What the holder of a token may do.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Role {
    /// Read everything but tokens.
    Viewer,
    /// Also write.
    Editor,
    /// All.
    Admin,
}

impl Command {
    /// Runs it.
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Create { name, role, expires_in, settings } => {
                create(&open(&settings).await?, name, role, expires_in).await
            }
            Self::List { settings } => list(&open(&settings).await?).await,
            Self::Revoke { id, settings } => {
                let token = tokens::revoke(&open(&settings).await?, &Actor::system(), id).await?;
                Ok(say(&describe(&token))?)
            }
        }
    }
}

async fn open(settings: &Settings) -> anyhow::Result<App> {
    let config = settings.load()?;
    let public_url = config.public_url.clone().unwrap_or_else(|| format!("http://{}", config.listen));
    App::open(config, public_url, Clock::system()).await
}

async fn create(app: &App, name: String, role: Role, expires_in: Option<Span>) -> anyhow::Result<()> {
    let role = match role {
        Role::Viewer => Granted::Viewer,
        Role::Editor => Granted::Editor,
        Role::Admin => Granted::Admin,
    };
    let expires_at = expires_in.map(|span| -> anyhow::Result<Timestamp> {
        let life = span.to_duration(SpanRelativeTo::days_are_24_hours());
        let life = life.context("--expires-in takes weeks, days, hours, minutes and seconds")?;
        let life = i64::try_from(life.as_millis()).context("--expires-in is too long")?;
        Ok(Timestamp(app.clock().now().0.saturating_add(life)))
    });
    let new = NewToken { name, role, expires_at: expires_at.transpose()? };
    let made = tokens::create(app, &Actor::system(), new).await?;
    // The secret alone goes where a script takes it from.
    note(&describe(&made.token));
    Ok(say(&made.secret)?)
}

async fn list(app: &App) -> anyhow::Result<()> {
    let mut after = None;
    loop {
        let first = i32::try_from(MAX_PAGE).ok();
        let page = Page::new(&PageArgs { first, after, ..PageArgs::default() }, tokens::ORDER)?;
        let slice = tokens::list(app, &Actor::system(), page).await?;
        for token in &slice.rows {
            say(&describe(token))?;
        }
        after = slice.rows.last().map(|token| tokens::position(token).cursor(tokens::ORDER));
        if !slice.has_next_page {
            return Ok(());
        }
    }
}

fn describe(token: &token::Model) -> String {
    let role = match token.role {
        token::Role::Viewer => "viewer",
        token::Role::Editor => "editor",
        token::Role::Admin => "admin",
    };
    let at = |at: Timestamp| {
        jiff::Timestamp::from_millisecond(at.0).map_or_else(|_| "?".to_owned(), |at| at.to_string())
    };
    let mut text = format!("{}  {role:6}  {}  made {}", token.id, name(&token.name), at(token.created_at));
    for (what, when) in
        [("expires", token.expires_at), ("used", token.last_used_at), ("revoked", token.revoked_at)]
    {
        if let Some(when) = when {
            let _ = write!(text, "  {what} {}", at(when));
        }
    }
    text
}
