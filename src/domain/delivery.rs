//! How bytes get to readers: through the server, or straight from the store that has them.

use std::time::Duration;

use entity::{BlobId, blob};
use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _};

use super::error::{Error, Result};
use super::version::{Access, Disposition};
use crate::app::App;
use crate::blob::label::content_disposition;
use crate::blob::{BlobKey, Direct, MediaType, ReadHeaders};
use crate::config::{Backend, Reads};

/// How long a reader has to follow a redirect to a URL that expires.
const REDIRECT_LIFE: Duration = Duration::from_secs(300);

/// Bytes that somebody is to read.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Name of the storage backend that has them.
    pub backend: &'a str,
    /// The bytes.
    pub blob: BlobId,
    /// Media type.
    pub content_type: &'a str,
    /// For people and their downloads.
    pub filename: &'a str,
    /// What a browser does with them.
    pub disposition: Disposition,
    /// Who may keep a copy on the way.
    pub access: Access,
}

/// Where a reader gets bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// From the server.
    Stream,
    /// From this URL, which anyone may know and which stays.
    Public(String),
    /// From this URL, which is for who asked and expires soon.
    Signed(String),
}

/// Where a reader gets bytes.
///
/// # Errors
/// `STORAGE_UNAVAILABLE` when the store cannot sign a URL; what the database says.
pub async fn of(app: &App, wanted: Wanted<'_>) -> Result<Delivery> {
    let Some((direct, reads)) = direct(app, &wanted)? else { return Ok(Delivery::Stream) };
    let key = BlobKey::new(wanted.blob);
    if wanted.access == Access::Public
        && wanted.disposition == Disposition::Inline
        && let Some(url) = direct.public_url(&key)
        && is_labelled(app, &wanted).await?
    {
        return Ok(Delivery::Public(url));
    }
    match reads {
        Reads::Presigned => signed(direct, &wanted, REDIRECT_LIFE).await.map(Delivery::Signed),
        Reads::Stream => Ok(Delivery::Stream),
    }
}

/// A URL of the store itself that works for so long, where readers are sent there.
///
/// # Errors
/// `STORAGE_UNAVAILABLE` when the store cannot sign a URL.
pub(super) async fn signed_url(app: &App, wanted: Wanted<'_>, life: Duration) -> Result<Option<String>> {
    match direct(app, &wanted)? {
        Some((direct, Reads::Presigned)) => signed(direct, &wanted, life).await.map(Some),
        _ => Ok(None),
    }
}

/// The store, if it answers readers of such bytes by itself. The server always sends what is not known to be inert, with
/// headers that no store sends.
fn direct<'a>(app: &'a App, wanted: &Wanted<'_>) -> Result<Option<(&'a dyn Direct, Reads)>> {
    let store = app.store(wanted.backend).map_err(Error::storage)?;
    match (store.direct(), app.config().storage.get(wanted.backend)) {
        (Some(direct), Some(Backend::S3(bucket))) if MediaType::of_stored(wanted.content_type).is_inert() => {
            Ok(Some((direct, bucket.reads)))
        }
        _ => Ok(None),
    }
}

async fn signed(direct: &dyn Direct, wanted: &Wanted<'_>, life: Duration) -> Result<String> {
    let headers = ReadHeaders {
        content_type: MediaType::of_stored(wanted.content_type).header(),
        content_disposition: content_disposition(wanted.disposition, wanted.filename),
        cache_control: "private, no-cache".to_owned(),
    };
    direct.signed_url(&BlobKey::new(wanted.blob), &headers, life).await.map_err(Error::storage)
}

/// Whether the object itself tells its readers what they are to be told: identical bytes are kept once, with what the
/// first of those who sent them said.
async fn is_labelled(app: &App, wanted: &Wanted<'_>) -> Result<bool> {
    let row = blob::Entity::find_by_id(wanted.blob).filter(blob::Column::Backend.eq(wanted.backend));
    let row = row.one(app.read()).await?;
    Ok(row.is_some_and(|row| {
        row.content_type.as_deref() == Some(wanted.content_type)
            && row.filename.as_deref() == Some(wanted.filename)
    }))
}
