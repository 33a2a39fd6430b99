//! Uploads: from a permission to send bytes to a version made of them.
//!
//! 1. `start` writes an intent. It decides at once under which key the bytes will lie for good.
//! 2. `receive` streams a body into a staging file of its own, hashing it, and compares it with what was
//!    declared; then one commit lets the intent know. Of two bodies that race, one commit wins, and the other
//!    body is removed. What clients send straight to a bucket is looked at by `collect` when the upload is finished,
//!    in a place that they cannot write to; then the same commit follows.
//! 3. `finish` moves the staging file to its final key and then, in one commit, adds the version. A crash
//!    between leaves bytes without a row, never a row without bytes; finishing again takes up from there.
//! 4. `sweep` ends what nobody finished. It first makes the intent `EXPIRED`, after which no commit accepts
//!    it, and then removes staging files before final ones, so that no move can slip by.

mod collect;
mod parts;
mod receive;
mod start;
mod steps;
mod sweep;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use entity::upload_intent::{self, Status};
use entity::{BlobId, Timestamp, UploadIntentId, version};
use sea_orm::{
    ActiveModelTrait as _, ActiveValue::Set, ColumnTrait as _, ConnectionTrait, EntityTrait as _,
    IntoActiveModel as _, QueryFilter as _, QuerySelect as _,
};

use super::actor::{Actor, Role};
use super::asset::{self, Asset, AssetRef, NewAsset};
use super::error::{Error, Result, UploadError};
use super::path::TreePath;
use super::stored_file::{self, Arrival, Bytes, Keep};
use super::version::{Fate, NewVersion, Outcome};
use super::{Committed, Edit, check_revision, commit};
use crate::app::App;
pub use crate::blob::Target;
use crate::blob::{BlobStore, Expected, StagingKey};

pub use parts::{Part, part_target, parts, receive_part};
pub use receive::{Declared, Received, Way, receive};
pub use start::{NewUpload, start};
pub use steps::Steps;
pub use sweep::{sweep, tidy};

/// What signatures of upload URLs are for.
const SIGNATURE: &str = "upload";

/// An intent as it stands, if there is one.
///
/// # Errors
/// When the actor may not read.
pub async fn by_id(app: &App, actor: &Actor, id: UploadIntentId) -> Result<Option<upload_intent::Model>> {
    actor.require(Role::Viewer)?;
    Ok(by_ids(app, &[id]).await?.remove(&id))
}

/// Intents by id, as they stand.
///
/// # Errors
/// What the database says.
pub async fn by_ids(
    app: &App,
    ids: &[UploadIntentId],
) -> Result<HashMap<UploadIntentId, upload_intent::Model>> {
    let wanted = upload_intent::Column::Id.is_in(ids.iter().copied());
    let with_path = upload_intent::Column::Path.is_not_null();
    let rows = upload_intent::Entity::find().filter(wanted).filter(with_path).all(app.read()).await?;
    let now = app.clock().now();
    Ok(rows.into_iter().map(|row| (row.id, as_of_now(row, now))).collect())
}

/// The request that brings the bytes of an intent, while it waits for them.
///
/// # Errors
/// `STORAGE_UNAVAILABLE` when the backend cannot sign one.
pub async fn target(app: &App, intent: &upload_intent::Model) -> Result<Option<Target>> {
    if intent.status != Status::Created || intent.part_size_bytes.is_some() {
        return Ok(None);
    }
    if let Some(direct) = store(app, intent)?.direct() {
        let (key, expected) = (whole_key(app, intent.id), expected(intent));
        let target = direct.target(&key, &expected, life(app, intent)).await;
        return target.map(Some).map_err(Error::storage);
    }
    let content_type = intent.declared_content_type.iter();
    let headers = content_type.map(|value| ("Content-Type".to_owned(), value.clone())).collect();
    Ok(Some(Target { method: "PUT", url: signed_url(app, intent), headers }))
}

/// The request that brings the bytes of a file without an asset. It goes to the server on every backend, since the
/// answer has the id that the file got.
pub(super) fn target_of_file(app: &App, intent: &upload_intent::Model) -> Target {
    Target { method: "POST", url: signed_url(app, intent), headers: Vec::new() }
}

/// What a client said of the bytes of an intent.
fn expected(intent: &upload_intent::Model) -> Expected {
    Expected {
        content_type: intent.declared_content_type.clone(),
        size: intent.declared_size_bytes.map(i64::unsigned_abs),
        sha256: intent.declared_sha256.clone(),
    }
}

/// Where a client puts the bytes of an intent in one request to a bucket. Only who was given its URL knows: somebody may
/// have let the whole bucket be read.
fn whole_key(app: &App, intent: UploadIntentId) -> StagingKey {
    StagingKey { intent, attempt: app.signer().secret_id("whole", &intent.to_string()) }
}

/// Where a client puts the parts of an intent in a bucket, and the bucket the whole.
fn parts_key(app: &App, intent: UploadIntentId) -> StagingKey {
    StagingKey { intent, attempt: app.signer().secret_id("parts", &intent.to_string()) }
}

/// How long an intent lives from now on.
fn life(app: &App, intent: &upload_intent::Model) -> Duration {
    let left = intent.expires_at.0 - app.clock().now().0;
    Duration::from_millis(u64::try_from(left).unwrap_or(0))
}

fn signed_url(app: &App, intent: &upload_intent::Model) -> String {
    let id = intent.id.to_string();
    format!("{}/uploads/{id}?signature={}", app.public_url(), app.signer().sign(SIGNATURE, &id))
}

/// What finishing is about.
#[derive(Debug, Clone)]
pub struct Finishing {
    /// Which upload.
    pub id: UploadIntentId,
    /// The parts as the store answered them: number and entity tag; may be left out.
    pub parts: Option<Vec<(i32, String)>>,
}

/// Makes a version of the bytes that were received. Finishing again answers the same version.
///
/// # Errors
/// `UPLOAD_INCOMPLETE` before the bytes came, `UPLOAD_EXPIRED`, `UPLOAD_CANCELLED`, the code of the rejection;
/// `REVISION_CONFLICT`; `ALREADY_EXISTS` when a folder took the path; `NOT_FOUND`.
pub async fn finish(app: &App, actor: &Actor, finishing: Finishing) -> Result<Committed<Outcome>> {
    actor.require(Role::Editor)?;
    loop {
        let ready = ready(app, &finishing).await?;
        let (id, arrival) = (finishing.id, ready.arrival());
        match commit(app, actor, move |edit| Box::pin(finish_in(edit, id, arrival))).await {
            Err(Error::BytesMoved) => ready.abandon(app).await?,
            Err(error) => return Err(error),
            Ok(committed) => {
                ready.settle(app).await;
                if !committed.changes.is_empty() {
                    app.metrics().uploads("finished", 1);
                }
                return Ok(committed);
            }
        }
    }
}

/// An upload whose bytes are where a version can use them.
pub(super) struct Ready {
    id: UploadIntentId,
    /// None when it is finished already.
    bytes: Option<(Bytes, Arrival)>,
}

impl Ready {
    /// How its bytes came to lie in the store.
    pub fn arrival(&self) -> Arrival {
        let finished = Arrival::Known(BlobId(uuid::Uuid::nil()));
        self.bytes.as_ref().map_or(finished, |(_, arrival)| *arrival)
    }

    /// Gives up where its bytes were put, for another try.
    pub async fn abandon(&self, app: &App) -> Result<()> {
        match &self.bytes {
            Some((bytes, arrival)) => bytes.abandon(app, *arrival).await,
            None => Ok(()),
        }
    }

    /// Tells those who watch, and removes what is not needed.
    pub async fn settle(&self, app: &App) {
        app.announce(self.id);
        if let Some((bytes, arrival)) = &self.bytes {
            bytes.discard_staged(app, *arrival).await;
        }
    }
}

/// Gets an upload ready to be finished: puts its parts together, and its bytes in place.
pub(super) async fn ready(app: &App, finishing: &Finishing) -> Result<Ready> {
    let id = finishing.id;
    let mut intent = as_of_now(load(app.read(), id).await?, app.clock().now());
    if intent.path.is_none() {
        return Err(not_found(id));
    }
    if intent.status == Status::Finished {
        return Ok(Ready { id, bytes: None });
    }
    if intent.status == Status::Created {
        intent = if intent.part_size_bytes.is_some() {
            parts::assemble(app, intent, finishing.parts.as_deref()).await?
        } else {
            collect::collect(app, intent).await?
        };
        if intent.status == Status::Finished {
            return Ok(Ready { id, bytes: None });
        }
    }
    check_received(&intent)?;
    let bytes = Bytes::of(&intent)?;
    let told = Arc::new(OnceLock::new());
    if store(app, &intent)?.direct().is_some() {
        // A copy of gigabytes takes a bucket longer than a client may wait; it goes on without it.
        let (library, bytes, tell) = (app.clone(), Bytes::of(&intent)?, Arc::clone(&told));
        let secure = async move {
            let secured = bytes.secure(&library).await;
            let _ = tell.set(secured.clone());
            secured.map(drop)
        };
        let waited = collect::once(app, id, secure).await;
        if told.get().is_none() {
            waited?;
        }
    }
    let secured = match told.get() {
        Some(secured) => secured.clone(),
        None => bytes.secure(app).await,
    };
    match secured {
        Ok(arrival) => Ok(Ready { id, bytes: Some((bytes, arrival)) }),
        Err(error) => {
            // A cancel, the sweep or another finish may have been faster; then that is what to tell.
            let now = as_of_now(load(app.read(), id).await?, app.clock().now());
            check_not_over(&now)?;
            if now.status == Status::Finished { Ok(Ready { id, bytes: None }) } else { Err(error) }
        }
    }
}

pub(super) async fn finish_in(edit: Edit<'_>, id: UploadIntentId, arrival: Arrival) -> Result<Outcome> {
    let intent = as_of_now(lock(edit.conn(), id).await?, edit.now());
    if let Some(version_id) = intent.version_id {
        return finished(edit.conn(), version_id).await;
    }
    check_received(&intent)?;
    let path = TreePath::trusted(intent.path.clone().ok_or_else(|| not_found(id))?);
    let asset = target_asset(edit, &path, &intent).await?;
    let file = stored_file::insert(edit, &intent, arrival, Keep::WhileUsed).await?;
    let new = NewVersion {
        content_type: file.content_type.clone(),
        file,
        filename: intent.filename.clone(),
        label: intent.label.clone(),
        restored_from: None,
    };
    let fate = if intent.publish { Fate::Publish } else { Fate::Draft };
    let outcome = super::version::add(edit, asset, new, fate).await?;
    if intent.part_size_bytes.is_some() {
        parts::forget(edit, vec![id]).await?;
    }
    let mut row = intent.into_active_model();
    row.status = Set(Status::Finished);
    row.version_id = Set(Some(outcome.version.id));
    row.swept_at = Set(Some(edit.now()));
    row.update(edit.conn()).await?;
    Ok(outcome)
}

/// The asset that an upload adds to: made if there is none, with the revision and visibility asked for.
async fn target_asset(edit: Edit<'_>, path: &TreePath, intent: &upload_intent::Model) -> Result<Asset> {
    let what = || format!("asset {path}");
    let there = if let Some(there) = asset::find(edit.conn(), path).await? {
        there
    } else {
        check_revision(what, intent.if_revision, 0)?;
        let new = NewAsset { visibility: intent.visibility, ..NewAsset::default() };
        match asset::insert(edit, path, new).await {
            // By another server, meanwhile; or a folder has the name.
            Err(Error::AlreadyExists(taken)) => {
                asset::find(edit.conn(), path).await?.ok_or(Error::AlreadyExists(taken))?
            }
            made => return made,
        }
    };
    let asset = asset::lock(edit.conn(), &AssetRef::Id(there.row.id)).await?;
    check_revision(what, intent.if_revision, asset.row.revision)?;
    match intent.visibility {
        Some(visibility) if visibility != asset.row.visibility => {
            let asset = asset::touch(edit, asset, |row| row.visibility = visibility).await?;
            asset::record(edit, entity::change::ChangeType::AssetUpdate, &asset, None, None).await?;
            Ok(asset)
        }
        _ => Ok(asset),
    }
}

async fn finished(conn: &impl ConnectionTrait, id: entity::VersionId) -> Result<Outcome> {
    let version = version::Entity::find_by_id(id).one(conn).await?;
    let version = version.ok_or_else(|| Error::NotFound("the version was purged since".to_owned()))?;
    let asset = asset::with_trash(conn, version.asset_id).await?;
    let asset = asset.ok_or_else(|| Error::internal(format!("{} has no asset", version.id)))?;
    Ok(Outcome { version, asset })
}

/// Takes an intent back. One that is over already is answered as it is.
///
/// # Errors
/// `BAD_USER_INPUT` when it is finished; `NOT_FOUND`.
pub async fn cancel(app: &App, actor: &Actor, id: UploadIntentId) -> Result<upload_intent::Model> {
    let committed = commit(app, actor, move |edit| {
        Box::pin(async move {
            let intent = as_of_now(lock(edit.conn(), id).await?, edit.now());
            if intent.path.is_none() {
                return Err(not_found(id));
            }
            match intent.status {
                Status::Finished => Err(Error::bad_input(
                    "input.intentId",
                    "is finished; to take the version back, archive it",
                )),
                Status::Created | Status::Received => {
                    let mut row = intent.into_active_model();
                    row.status = Set(Status::Cancelled);
                    Ok(row.update(edit.conn()).await?)
                }
                Status::Rejected | Status::Cancelled | Status::Expired => Ok(intent),
            }
        })
    })
    .await?;
    let intent = committed.value;
    if intent.status == Status::Cancelled {
        app.metrics().uploads("cancelled", 1);
    }
    app.announce(intent.id);
    if let Some(key) = intent.staging_key.as_deref().and_then(|key| key.parse().ok()) {
        discard_staged(app, &intent, &key).await;
    }
    if !matches!(intent.status, Status::Finished)
        && let Err(error) = discard_sent(app, &intent).await
    {
        tracing::warn!(%error, id = %intent.id, "cannot remove what was sent; the sweeper will");
    }
    Ok(intent)
}

/// Removes what clients sent straight to a bucket for an intent that is over. Nothing left is no error.
async fn discard_sent(app: &App, intent: &upload_intent::Model) -> std::io::Result<()> {
    let store = app.store(&intent.backend)?;
    let Some(direct) = store.direct() else { return Ok(()) };
    let parts = parts_key(app, intent.id);
    if let Some(upload) = &intent.upload_ref {
        direct.abort(&parts, upload).await?;
        store.remove_staged(&parts).await?;
    }
    store.remove_staged(&whole_key(app, intent.id)).await
}

/// The storage backend that takes the bytes of an intent.
pub(super) fn store<'a>(app: &'a App, intent: &upload_intent::Model) -> Result<&'a Arc<dyn BlobStore>> {
    app.store(&intent.backend).map_err(Error::storage)
}

async fn discard_staged(app: &App, intent: &upload_intent::Model, key: &StagingKey) {
    match app.store(&intent.backend) {
        Ok(store) => discard_staged_in(store, key).await,
        Err(error) => tracing::warn!(%error, %key, "cannot remove a staged file"),
    }
}

pub(super) async fn discard_staged_in(store: &Arc<dyn BlobStore>, key: &StagingKey) {
    if let Err(error) = store.remove_staged(key).await {
        tracing::warn!(%error, %key, "cannot remove a staged file; the sweeper will");
    }
}

async fn load(conn: &impl ConnectionTrait, id: UploadIntentId) -> Result<upload_intent::Model> {
    let intent = upload_intent::Entity::find_by_id(id).one(conn).await?;
    intent.ok_or_else(|| not_found(id))
}

fn not_found(id: UploadIntentId) -> Error {
    Error::NotFound(format!("there is no upload {id}"))
}

pub(super) async fn lock(conn: &impl ConnectionTrait, id: UploadIntentId) -> Result<upload_intent::Model> {
    let intent = upload_intent::Entity::find_by_id(id).lock_exclusive().one(conn).await?;
    intent.ok_or_else(|| not_found(id))
}

/// An intent whose time ran out is expired, whether the sweeper came by or not.
pub(super) fn as_of_now(mut intent: upload_intent::Model, now: Timestamp) -> upload_intent::Model {
    if is_open(intent.status) && intent.expires_at <= now {
        intent.status = Status::Expired;
    }
    intent
}

/// Whether an intent can still become a version.
#[must_use]
pub const fn is_open(status: Status) -> bool {
    matches!(status, Status::Created | Status::Received)
}

pub(super) fn check_received(intent: &upload_intent::Model) -> Result<()> {
    if intent.status == Status::Created {
        let message = if intent.part_size_bytes.is_some() {
            "the storage knows of no parts any more: start another upload"
        } else {
            "the bytes did not come yet: send them to target.url first"
        };
        return Err(Error::upload(UploadError::Incomplete, message));
    }
    check_not_over(intent)?;
    match (&intent.content_type, &intent.sha256) {
        (Some(_), Some(_)) => Ok(()),
        _ => Err(Error::internal(format!("{} is {:?} without bytes", intent.id, intent.status))),
    }
}

fn check_waits_for_bytes(intent: &upload_intent::Model) -> Result<()> {
    check_not_over(intent)?;
    if intent.status == Status::Created {
        return Ok(());
    }
    let message = "the bytes of this upload came already; start another one for other bytes";
    Err(Error::upload(UploadError::AlreadyReceived, message))
}

fn check_not_over(intent: &upload_intent::Model) -> Result<()> {
    let over = |reason, message: &str| Err(Error::upload(reason, message));
    match intent.status {
        Status::Created | Status::Received | Status::Finished => Ok(()),
        Status::Expired => over(UploadError::Expired, "the upload has expired: start another one"),
        Status::Cancelled => over(UploadError::Cancelled, "the upload was cancelled: start another one"),
        Status::Rejected => {
            Err(rejection(intent).unwrap_or_else(|| Error::internal("rejected without a reason")))
        }
    }
}

/// The error that tells why an intent was rejected, if it was.
fn rejection(intent: &upload_intent::Model) -> Option<Error> {
    let code = intent.rejection_code?;
    let message = intent.rejection.clone().unwrap_or_default();
    Some(Error::upload(UploadError::Rejected(code), format!("the upload was rejected: {message}")))
}
