//! The bytes of a version: who may read them, where, signed or not, and as text.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use entity::asset::Visibility;
use entity::{BlobId, Timestamp, VersionId, folder, stored_file, version};
use sea_orm::sea_query::{Expr, ExprTrait as _};
use sea_orm::{
    ColumnTrait as _, EntityTrait as _, FromQueryResult, JoinType, QueryFilter as _, QuerySelect as _,
    RelationTrait as _, Select,
};

use crate::app::App;
use crate::blob::BlobKey;
pub use crate::blob::label::Disposition;
use crate::domain::actor::{Actor, Role};
use crate::domain::asset;
use crate::domain::delivery::{self, Wanted};
use crate::domain::error::{Error, Result};
use crate::domain::path::{TreePath, percent_encode};
use crate::domain::scope::Scope;
use crate::domain::{content_type, former, quick};

/// The immutable URL of a version: these bytes for ever.
#[must_use]
pub fn url(app: &App, version: &version::Model) -> String {
    url_of(app, version.id, &version.filename)
}

/// The immutable URL of a version of which only this is known.
#[must_use]
pub fn url_of(app: &App, id: VersionId, filename: &str) -> String {
    format!("{}/v/{id}/{}", app.public_url(), percent_encode(filename))
}

/// Bytes that a reader gets, and what it is told of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// What was kept.
    pub kept: Kept,
    /// Who may keep a copy of it.
    pub access: Access,
}

/// What is kept of a version outside the trash, with what decides who may read it.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct Kept {
    /// The bytes.
    pub blob_id: BlobId,
    /// Name of the storage backend that has them.
    pub backend: String,
    /// Count of them.
    pub size_bytes: i64,
    /// Lower-case hex.
    pub sha256: String,
    /// Media type.
    pub content_type: String,
    /// For people and their downloads.
    pub filename: String,
    /// When the version was made.
    pub created_at: Timestamp,
    /// When it was published last.
    pub published_at: Option<Timestamp>,
    /// Of its asset.
    pub visibility: Visibility,
}

impl Kept {
    /// The content that an actor gets; none when it may not know of it.
    fn shown_to(self, actor: &Actor) -> Option<Content> {
        // What was published once stays readable at its own URL; a draft that was set aside never was.
        let open = self.visibility == Visibility::Public && self.published_at.is_some();
        let access = match (open, actor.scope()) {
            (true, _) => Access::Public,
            (false, Scope::All) => Access::Private,
            (false, Scope::Shown) => return None,
        };
        Some(Content { kept: self, access })
    }
}

/// What is kept, by one statement.
fn select_kept() -> Select<version::Entity> {
    version::Entity::find()
        .join(JoinType::InnerJoin, version::Relation::Asset.def())
        .join(JoinType::InnerJoin, entity::asset::Relation::Folder.def())
        .join(JoinType::InnerJoin, version::Relation::StoredFile.def())
        .filter(entity::asset::Column::DeletionId.is_null())
        .filter(folder::Column::DeletionId.is_null())
        .filter(stored_file::Column::BlobId.is_not_null())
        .select_only()
        .columns([stored_file::Column::BlobId, stored_file::Column::Backend])
        .columns([
            version::Column::SizeBytes,
            version::Column::Sha256,
            version::Column::ContentType,
            version::Column::Filename,
            version::Column::CreatedAt,
            version::Column::PublishedAt,
        ])
        .column(entity::asset::Column::Visibility)
}

/// What is kept of a version.
async fn kept(app: &App, id: VersionId) -> Result<Option<Kept>> {
    match quick::kept(app, id) {
        Some(kept) => Ok(kept),
        None => kept_ordinarily(app, id).await,
    }
}

/// The same, of any database.
pub(in crate::domain) async fn kept_ordinarily(app: &App, id: VersionId) -> Result<Option<Kept>> {
    let select = select_kept().filter(version::Column::Id.eq(id));
    Ok(select.into_model().one(app.read()).await?)
}

/// What is kept of the version that is published at a path.
async fn kept_at(app: &App, path: &TreePath) -> Result<Option<Kept>> {
    match quick::kept_at(app, path) {
        Some(kept) => Ok(kept),
        None => kept_at_ordinarily(app, path).await,
    }
}

/// The same, of any database.
pub(in crate::domain) async fn kept_at_ordinarily(app: &App, path: &TreePath) -> Result<Option<Kept>> {
    let published = Expr::col((entity::asset::Entity, entity::asset::Column::PublishedVersionId));
    let select = select_kept()
        .filter(published.equals((version::Entity, version::Column::Id)))
        .filter(folder::Column::Path.eq(path.parent().as_str()))
        .filter(entity::asset::Column::Name.eq(path.name()));
    Ok(select.into_model().one(app.read()).await?)
}

/// Who may keep a copy of the bytes on the way to the reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anyone.
    Public,
    /// Only who asked.
    Private,
}

/// What readers get at the stable URL of a path.
#[derive(Debug, Clone)]
pub enum Found {
    /// These bytes.
    Content(Content),
    /// What was there moved: its stable URL now.
    Moved(String),
}

/// What readers get at the stable URL of `path`: the published version, or where it went.
///
/// # Errors
/// `NOT_FOUND` when nothing is published there, or the actor may not know of it.
pub async fn published_at(app: &App, actor: &Actor, path: &TreePath) -> Result<Found> {
    let not_found = || Error::NotFound(format!("nothing is published at {path}"));
    let shown = kept_at(app, path).await?.and_then(|kept| kept.shown_to(actor));
    if let Some(content) = shown {
        return Ok(Found::Content(content));
    }
    // The same look-ups follow whether nothing is there or something that the actor may not know of: how long they take does
    // not tell the two apart.
    let moved = former::resolve(app.read(), path).await?.ok_or_else(not_found)?;
    let published = moved.row.published_version_id.ok_or_else(not_found)?;
    kept(app, published).await?.and_then(|kept| kept.shown_to(actor)).ok_or_else(not_found)?;
    Ok(Found::Moved(asset::url_of_path(app, &moved.path())))
}

/// How a reader shows that it may read a version.
#[derive(Debug, Clone, Copy)]
pub enum Credential<'a> {
    /// By who it is.
    Actor(&'a Actor),
    /// By a signed URL, which was checked.
    Signature,
}

/// What readers get at the immutable URL of a version.
///
/// # Errors
/// `NOT_FOUND` when there is none, or the actor may not know of it.
pub async fn content(app: &App, credential: Credential<'_>, id: VersionId) -> Result<Content> {
    let not_found = || Error::NotFound(format!("there is no version {id}"));
    // What is in the trash answers at no URL.
    let kept = kept(app, id).await?.ok_or_else(not_found)?;
    match credential {
        Credential::Actor(actor) => kept.shown_to(actor).ok_or_else(not_found),
        Credential::Signature => Ok(Content { kept, access: Access::Private }),
    }
}

/// A URL that works for whoever has it.
#[derive(Debug, Clone)]
pub struct SignedUrl {
    /// Absolute.
    pub url: String,
    /// Until then.
    pub expires_at: Timestamp,
}

/// What signatures of version URLs are for.
const SIGNATURE: &str = "version";
/// Longest life of a signed URL, in seconds.
const MAX_LIFE: i64 = 604_800;

/// A URL of a version, whose bytes are those of `file`, that works without a role until it expires.
///
/// # Errors
/// `BAD_USER_INPUT` for a life that is too long or none; when the actor may not read.
pub async fn signed_url(
    app: &App,
    actor: &Actor,
    version: &version::Model,
    file: Option<&stored_file::Model>,
    seconds: i64,
    disposition: Disposition,
) -> Result<SignedUrl> {
    actor.require(Role::Viewer)?;
    if !(1..=MAX_LIFE).contains(&seconds) {
        let message = format!("must be 1 to {MAX_LIFE}, not {seconds}");
        return Err(Error::bad_input("expiresInSeconds", message));
    }
    // Whole seconds, since the URL has them.
    let until = (app.clock().now().0 + 999).div_euclid(1000) + seconds;
    let expires_at = Timestamp(until * 1000);
    if let Some((file, blob)) = file.and_then(|file| Some((file, file.blob_id?))) {
        let wanted = Wanted {
            backend: &file.backend,
            blob,
            content_type: &version.content_type,
            filename: &version.filename,
            disposition,
            access: Access::Private,
        };
        let life = Duration::from_secs(seconds.unsigned_abs());
        if let Some(url) = delivery::signed_url(app, wanted, life).await? {
            return Ok(SignedUrl { url, expires_at });
        }
    }
    let signature = app.signer().sign(SIGNATURE, &subject(version.id, until, disposition.word()));
    let url = format!(
        "{}?expires={until}&disposition={}&signature={signature}",
        url(app, version),
        disposition.word()
    );
    Ok(SignedUrl { url, expires_at })
}

fn subject(id: VersionId, until: i64, disposition: &str) -> String {
    format!("{id} {until} {disposition}")
}

/// Checks the parts of a signed URL; answers with what a browser is to do with the file.
///
/// # Errors
/// `FORBIDDEN` when anything was changed, or its time is over.
pub fn check_signature(
    app: &App,
    id: VersionId,
    expires: &str,
    disposition: &str,
    signature: &str,
) -> Result<Disposition> {
    let forbidden = |message: &str| Error::Forbidden(message.to_owned());
    let known =
        [Disposition::Inline, Disposition::Attachment].into_iter().find(|known| known.word() == disposition);
    let until = expires.parse::<i64>().ok().filter(|until| until.to_string() == expires);
    let (Some(disposition), Some(until)) = (known, until) else {
        return Err(forbidden("this is no signed URL: use exactly the one that was given"));
    };
    if !app.signer().verify(SIGNATURE, &subject(id, until, disposition.word()), signature) {
        return Err(forbidden("the signature does not fit: use exactly the URL that was given"));
    }
    if until.saturating_mul(1000) <= app.clock().now().0 {
        return Err(forbidden("the signed URL has expired: ask for another one"));
    }
    Ok(disposition)
}

/// Bytes of text that one request may still be answered with.
#[derive(Clone)]
pub struct TextBudget {
    most: u64,
    left: Arc<AtomicU64>,
    memory: Option<Arc<dyn Memory>>,
    /// What is held for the texts of this answer.
    held: Arc<Mutex<Vec<Box<dyn Send + Sync>>>>,
}

/// Bytes of text in one answer, at most.
const MAX_TEXTS: u64 = 16 * 1024 * 1024;
/// The same for strangers.
const MAX_TEXTS_SHOWN: u64 = 1024 * 1024;

/// Counts the memory that texts of an answer take.
pub trait Memory: Send + Sync {
    /// Holds so many bytes until what it returns is dropped.
    ///
    /// # Errors
    /// `RATE_LIMITED` when too much is held.
    fn hold(&self, bytes: u64) -> Result<Box<dyn Send + Sync>>;
}

impl TextBudget {
    /// The same, with its texts counted by `memory`.
    #[must_use]
    pub fn counted(self, memory: Arc<dyn Memory>) -> Self {
        Self { memory: Some(memory), ..self }
    }

    /// What somebody may spend who sees so much.
    #[must_use]
    pub fn of(scope: Scope) -> Self {
        let most = match scope {
            Scope::All => MAX_TEXTS,
            Scope::Shown => MAX_TEXTS_SHOWN,
        };
        Self { most, left: Arc::new(AtomicU64::new(most)), memory: None, held: Arc::default() }
    }

    /// Begins anew, for the next answer of a subscription.
    pub fn renew(&self) {
        self.left.store(self.most, Ordering::Relaxed);
    }

    fn take(&self, bytes: u64) -> Result<()> {
        let left =
            self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes));
        left.map_err(|_| {
            let message = format!("asks for more than {} bytes of text in one request", self.most);
            Error::bad_input("maxBytes", message)
        })?;
        if let Some(memory) = &self.memory {
            let held = memory.hold(bytes)?;
            self.held.lock().unwrap_or_else(PoisonError::into_inner).push(held);
        }
        Ok(())
    }
}

/// The content of a version as text; none when its type is not textual, it is longer than `max_bytes`, or it is
/// not UTF-8.
///
/// # Errors
/// `BAD_USER_INPUT` when a request asks for too much; `STORAGE_UNAVAILABLE`.
pub async fn read_text(
    app: &App,
    version: &version::Model,
    max_bytes: u64,
    budget: &TextBudget,
) -> Result<Option<String>> {
    let size = version.size_bytes.unsigned_abs();
    if size > max_bytes || !content_type::is_textual(&version.content_type) {
        return Ok(None);
    }
    budget.take(size)?;
    let file = stored_file::Entity::find_by_id(version.stored_file_id).one(app.read()).await?;
    let place = file.and_then(|file| Some((file.blob_id?, file.backend)));
    let Some((blob, backend)) = place else { return Ok(None) };
    let key = BlobKey::new(blob);
    let bytes = app.stores().read_whole(&backend, &key, size, &version.sha256).await;
    let bytes = bytes.map_err(Error::storage)?;
    Ok(str::from_utf8(&bytes).ok().map(ToOwned::to_owned))
}
