//! Storage backends: which there are, which takes new bytes, and what they are looked after by.

mod away;
pub mod fsck;
pub mod migrate;
mod own;

use std::time::Duration;

use entity::setting;
use sea_orm::{ActiveValue::Set, ConnectionTrait, EntityTrait as _, sea_query::OnConflict};

use super::actor::{Actor, Role};
use super::commit;
use super::error::{Error, Result};
use crate::app::App;
use crate::config::Backend as Configured;

pub(super) use away::Away;
pub(super) use own::own;
pub use own::{Owner, owner};

/// The setting that says which backend takes new bytes.
const SETTING: &str = "default_storage";

/// How long whoever asks whether the server is ready waits for the storage.
const CHECK_PATIENCE: Duration = Duration::from_secs(5);

/// What keeps bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A folder of the server's machine.
    Local,
    /// A bucket of an S3-compatible store.
    S3,
}

/// A storage backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// Its name in the settings.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Where anyone can read what is public in it, if the store answers readers by itself.
    pub public_url: Option<String>,
}

/// The storage backends of a library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// Takes new bytes.
    pub default: Backend,
    /// All, by name.
    pub backends: Vec<Backend>,
}

/// The storage backends that are configured.
///
/// # Errors
/// When the actor is no admin.
pub async fn info(app: &App, actor: &Actor) -> Result<Info> {
    actor.require(Role::Admin)?;
    let default = default_name(app, app.read()).await?;
    Ok(of(app, &default))
}

fn of(app: &App, default: &str) -> Info {
    let backends = app.config().storage.iter().map(|(name, backend)| {
        let (kind, public_url) = match backend {
            Configured::Local(_) => (Kind::Local, None),
            Configured::S3(bucket) => (Kind::S3, bucket.public_url.clone()),
        };
        Backend { name: name.clone(), kind, public_url }
    });
    let backends: Vec<Backend> = backends.collect();
    let default = backends.iter().find(|backend| backend.name == default);
    Info { default: default.expect("the default is one of them").clone(), backends }
}

/// Chooses the backend for new bytes, for all servers of the library. What lies elsewhere stays there.
///
/// # Errors
/// `BAD_USER_INPUT` for one that is not configured; `STORAGE_UNAVAILABLE` for one that does not answer or is another
/// library's; when the actor is no admin.
pub async fn set_default(app: &App, actor: &Actor, name: String) -> Result<Info> {
    actor.require(Role::Admin)?;
    if !app.config().storage.contains_key(&name) {
        let known: Vec<&str> = app.config().storage.keys().map(String::as_str).collect();
        let message = format!("{name:?} is none of the backends that are configured: {}", known.join(", "));
        return Err(Error::bad_input("input.backend", message));
    }
    own(app, &name).await?;
    let chosen = name.clone();
    let written = commit(app, actor, move |edit| {
        Box::pin(async move {
            let row = setting::ActiveModel { name: Set(SETTING.to_owned()), value: Set(name) };
            let again =
                OnConflict::column(setting::Column::Name).update_column(setting::Column::Value).to_owned();
            setting::Entity::insert(row).on_conflict(again).exec_without_returning(edit.conn()).await?;
            Ok(())
        })
    });
    written.await?;
    Ok(of(app, &chosen))
}

/// Name of the backend that takes new bytes: the one that an admin chose, while it is configured, else the one of the
/// settings.
pub(super) async fn default_name(app: &App, conn: &impl ConnectionTrait) -> Result<String> {
    let chosen = setting::Entity::find_by_id(SETTING).one(conn).await?.map(|row| row.value);
    let chosen = chosen.filter(|name| app.config().storage.contains_key(name));
    Ok(chosen.unwrap_or_else(|| app.config().default_storage.clone()))
}

/// Looks whether the backend that takes new bytes works.
///
/// # Errors
/// `STORAGE_UNAVAILABLE`.
pub async fn check(app: &App) -> Result<()> {
    let name = default_name(app, app.read()).await?;
    let check = async {
        app.store(&name).map_err(Error::storage)?.check().await.map_err(Error::storage)?;
        own(app, &name).await.map(drop)
    };
    let checked = tokio::time::timeout(CHECK_PATIENCE, check).await;
    checked.unwrap_or_else(|_| Err(Error::storage("it does not answer in time")))
}

/// How far long work has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}
