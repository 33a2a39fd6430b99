//! Whose a place for bytes is. What a library does not know of in its place, it takes for left behind and removes, so two
//! must never share one, and one must not have it under two names.

use std::sync::Arc;
use std::time::Duration;

use entity::blob;
use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _};

use crate::app::App;
use crate::blob::{BlobStore, MARK};
use crate::domain::error::{Error, Result};

/// Longest wait for a place to tell whose it is; less than a GraphQL request may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Whose a place is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// This library's, by this name.
    Us,
    /// Nobody's: nothing is there, or only what this library knows of from before there were marks.
    Nobody,
    /// Another's, or this one's by another name: what its mark says.
    Another(String),
}

/// Whose the place of a backend is; nothing is written there.
///
/// # Errors
/// `STORAGE_UNAVAILABLE`; what the database says.
pub async fn owner(app: &App, name: &str) -> Result<Owner> {
    if app.stores().is_ours(name) {
        return Ok(Owner::Us);
    }
    let store = app.store(name).map_err(Error::storage)?;
    let of = |mark: String| if mark == own_mark(app, name) { Owner::Us } else { Owner::Another(mark) };
    if let Some(mark) = in_time(store.mark()).await? {
        return Ok(of(mark));
    }
    let known = blob::Entity::find().filter(blob::Column::Backend.eq(name)).one(app.read()).await?;
    if known.is_some() || in_time(store.is_empty()).await? {
        return Ok(Owner::Nobody);
    }
    // Somebody may have marked it meanwhile, and put the files there.
    let mark = in_time(store.mark()).await?;
    Ok(mark
        .map_or_else(|| Owner::Another("files that this library does not know, and no mark".to_owned()), of))
}

/// The backend, once it is sure that its place is ours; it is marked when it was nobody's.
///
/// # Errors
/// `STORAGE_UNAVAILABLE` when it is another's, too; what the database says.
pub async fn own<'a>(app: &'a App, name: &str) -> Result<&'a Arc<dyn BlobStore>> {
    let store = app.store(name).map_err(Error::storage)?;
    if app.stores().is_ours(name) {
        return Ok(store);
    }
    let _turn = app.stores().claiming(name).await.map_err(Error::storage)?;
    let mut owner = owner(app, name).await?;
    if owner == Owner::Nobody {
        in_time(store.leave_mark(&own_mark(app, name))).await?;
        // Somebody else may have done the same at this moment.
        owner = self::owner(app, name).await?;
    }
    match owner {
        Owner::Us => {
            app.stores().remember_ours(name);
            Ok(store)
        }
        Owner::Nobody => Err(Error::storage(format!("{MARK} was written to {name} and is not there"))),
        Owner::Another(mark) => Err(another(app, name, &mark)),
    }
}

/// Refuses a place that is another library's.
pub fn another(app: &App, name: &str, mark: &str) -> Error {
    Error::unavailable(
        format!(
            "the storage backend {name} is not this library's: an administrator has to look at {MARK} in it"
        ),
        format!(
            "{name} has {mark}, and this library's mark is {}: give each library its own folder, or its own prefix in the \
             bucket, and each place one name; if the other library is no more, and nothing there is needed, remove all \
             that is there",
            own_mark(app, name)
        ),
    )
}

fn own_mark(app: &App, name: &str) -> String {
    format!("{}/{name}", app.signer().secret_id("library", "").simple())
}

async fn in_time<T>(asked: impl Future<Output = std::io::Result<T>>) -> Result<T> {
    let answer = tokio::time::timeout(PATIENCE, asked).await;
    answer.map_err(|_| Error::storage("it does not answer in time"))?.map_err(Error::storage)
}
