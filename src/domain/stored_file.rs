//! Files in storage without an asset (the Convex-style storage API), and what all files share: identical bytes
//! are kept once, however many files have them.

mod release;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use entity::upload_intent::{self, Status};
use entity::{BlobId, StoredFileId, Timestamp, UploadIntentId, blob, stored_file, version};
use sea_orm::sea_query::OnConflict;
use sea_orm::{
    ActiveModelTrait as _, ActiveValue::Set, ColumnTrait as _, ConnectionTrait, EntityTrait as _,
    IntoActiveModel as _, QueryFilter as _, QuerySelect as _,
};

use super::actor::{Actor, Role};
use super::asset::{self, AssetRef};
use super::error::{Error, Result, UploadError};
use super::path::{TreePath, parse_name};
use super::rows::{self, OnRows, Rows};
use super::upload::{self, Target};
use super::version::{Fate, NewVersion, Outcome, checked_label};
use super::{Committed, Edit, check_revision, commit, gc, storage};
use crate::app::{App, Wants};
use crate::blob::{BlobKey, BlobStore, Label, StagingKey};

use release::release_blobs;
pub(super) use release::{discard, discard_at, release};

/// What signatures of the URLs of stored files are for.
const SIGNATURE: &str = "file";
/// How long an upload URL without an asset can be used.
const TICKET_TTL: Duration = Duration::from_secs(3600);

/// A stored file by its id, deleted or not.
///
/// # Errors
/// When the actor may not read.
pub async fn by_id(app: &App, actor: &Actor, id: StoredFileId) -> Result<Option<stored_file::Model>> {
    actor.require(Role::Viewer)?;
    Ok(by_ids(app, &[id]).await?.remove(&id))
}

/// Stored files by id, deleted or not.
///
/// # Errors
/// What the database says.
pub async fn by_ids(app: &App, ids: &[StoredFileId]) -> Result<HashMap<StoredFileId, stored_file::Model>> {
    let wanted = stored_file::Column::Id.is_in(ids.iter().copied());
    let rows = stored_file::Entity::find().filter(wanted).all(app.read()).await?;
    Ok(rows.into_iter().map(|row| (row.id, row)).collect())
}

/// Where the bytes of a stored file can be read by whoever has the URL; none once it is deleted.
#[must_use]
pub fn url(app: &App, file: &stored_file::Model) -> Option<String> {
    file.blob_id?;
    let id = file.id.to_string();
    Some(format!("{}/storage/{id}?signature={}", app.public_url(), app.signer().sign(SIGNATURE, &id)))
}

/// The bytes behind the URL of a stored file.
///
/// # Errors
/// `FORBIDDEN` for a wrong signature, `NOT_FOUND` when there is no such file or it is deleted.
pub async fn content(
    app: &App,
    actor: &Actor,
    id: StoredFileId,
    signature: Option<&str>,
) -> Result<(stored_file::Model, BlobId)> {
    let not_found = || Error::NotFound(format!("there is no stored file {id}"));
    match signature {
        Some(signature) if !app.signer().verify(SIGNATURE, &id.to_string(), signature) => {
            return Err(Error::Forbidden(
                "the signature does not fit: use exactly the URL that was given".to_owned(),
            ));
        }
        None if actor.require(Role::Viewer).is_err() => return Err(not_found()),
        _ => {}
    }
    let file = by_ids(app, &[id]).await?.remove(&id).ok_or_else(not_found)?;
    let blob = file.blob_id.ok_or_else(not_found)?;
    Ok((file, blob))
}

/// Opens a permission to send the bytes of a file without an asset.
///
/// # Errors
/// When the actor may not write.
pub async fn start(app: &App, actor: &Actor) -> Result<Target> {
    actor.require(Role::Editor)?;
    let backend = storage::default_name(app, app.read()).await?;
    storage::own(app, &backend).await?;
    let blob = BlobId(app.clock().secret_id());
    let committed = commit(app, actor, move |edit| {
        Box::pin(async move {
            let ttl = i64::try_from(TICKET_TTL.as_millis()).unwrap_or(i64::MAX);
            let row = upload_intent::ActiveModel {
                id: Set(UploadIntentId(edit.new_id())),
                path: Set(None),
                filename: Set("file".to_owned()),
                publish: Set(false),
                status: Set(Status::Created),
                stored_file_id: Set(StoredFileId(edit.new_id())),
                blob_id: Set(Some(blob)),
                backend: Set(backend),
                received_bytes: Set(0),
                created_at: Set(edit.now()),
                created_by: Set(edit.by()),
                expires_at: Set(Timestamp(edit.now().0 + ttl)),
                ..Default::default()
            };
            Ok(row.insert(edit.conn()).await?)
        })
    })
    .await?;
    Ok(upload::target_of_file(app, &committed.value))
}

/// Makes a stored file of bytes that were received for a permission without an asset.
pub(super) async fn finish(app: &App, intent: &upload_intent::Model) -> Result<stored_file::Model> {
    let sender = Actor::on_behalf_of(intent.created_by.clone());
    let id = intent.id;
    loop {
        let bytes = Bytes::of(intent)?;
        let arrival = bytes.secure(app).await?;
        match commit(app, &sender, move |edit| Box::pin(finish_in(edit, id, arrival))).await {
            Err(Error::BytesMoved) => bytes.abandon(app, arrival).await?,
            Err(error) => return Err(error),
            Ok(done) => {
                bytes.discard_staged(app, arrival).await;
                return Ok(done.value);
            }
        }
    }
}

async fn finish_in(edit: Edit<'_>, id: UploadIntentId, arrival: Arrival) -> Result<stored_file::Model> {
    let intent = upload::lock(edit.conn(), id).await?;
    if intent.status == Status::Finished {
        let file = stored_file::Entity::find_by_id(intent.stored_file_id).one(edit.conn()).await?;
        return file.ok_or_else(|| Error::NotFound("the file was deleted since".to_owned()));
    }
    let intent = upload::as_of_now(intent, edit.now());
    upload::check_received(&intent)?;
    let file = insert(edit, &intent, arrival, Keep::UntilDeleted).await?;
    let mut row = intent.into_active_model();
    row.status = Set(Status::Finished);
    row.swept_at = Set(Some(edit.now()));
    row.update(edit.conn()).await?;
    Ok(file)
}

/// A file in storage that is to become a version.
#[derive(Debug, Clone)]
pub struct FileVersion {
    /// Where.
    pub path: TreePath,
    /// Which file.
    pub file: StoredFileId,
    /// Label of the version.
    pub label: Option<String>,
    /// For URLs and downloads; defaults to the last segment of the path.
    pub filename: Option<String>,
    /// Whether it is published at once.
    pub publish: bool,
    /// The revision that the asset has to have; 0 when it must not exist.
    pub if_revision: Option<i64>,
}

/// Makes a version of a stored file. No bytes are copied. A missing asset and missing folders are made.
///
/// # Errors
/// `NOT_FOUND` for a file that there is not, or that is deleted; `REVISION_CONFLICT`; `ALREADY_EXISTS` when a
/// folder is at the path; `BAD_USER_INPUT`.
pub async fn create_version(app: &App, actor: &Actor, new: FileVersion) -> Result<Committed<Outcome>> {
    rows::commit(app, actor, new).await
}

impl OnRows for FileVersion {
    type Outcome = Outcome;

    fn wants(&self) -> Wants {
        let path = (self.path.parent().to_string(), self.path.name().to_owned());
        Wants { path: Some(path), file: Some(self.file), ..Wants::default() }
    }

    async fn run<R: Rows>(self, rows: R) -> Result<Outcome> {
        create_version_in(rows, self).await
    }
}

pub(super) async fn create_version_in(edit: impl Rows, new: FileVersion) -> Result<Outcome> {
    let filename = new.filename.map(|name| parse_name(&name, "input.filename")).transpose()?;
    let label = checked_label(new.label)?;
    if new.if_revision.is_some_and(|revision| revision < 0) {
        return Err(Error::bad_input("input.ifRevision", "must not be negative"));
    }
    let file = edit.file(new.file).await?.filter(|file| file.blob_id.is_some());
    let file = file.ok_or_else(|| Error::NotFound(format!("there is no stored file {}", new.file)))?;
    let asset = target_asset(edit, &new.path, new.if_revision).await?;
    let version = NewVersion {
        filename: filename.unwrap_or_else(|| new.path.name().to_owned()),
        content_type: file.content_type.clone(),
        file,
        label,
        restored_from: None,
    };
    let fate = if new.publish { Fate::Publish } else { Fate::Draft };
    super::version::add(edit, asset, version, fate).await
}

/// The asset at a path, made when there is none.
async fn target_asset(edit: impl Rows, path: &TreePath, if_revision: Option<i64>) -> Result<asset::Asset> {
    let what = || format!("asset {path}");
    let target = AssetRef::Path(path.clone());
    let asset = match edit.asset(&target).await {
        Err(Error::NotFound(_)) => {
            check_revision(what, if_revision, 0)?;
            match edit.new_asset(path).await {
                // By another server, meanwhile; or a folder has the name.
                Err(Error::AlreadyExists(taken)) => match edit.asset(&target).await {
                    Err(Error::NotFound(_)) => return Err(Error::AlreadyExists(taken)),
                    there => there?,
                },
                made => return made,
            }
        }
        there => there?,
    };
    check_revision(what, if_revision, asset.row.revision)?;
    Ok(asset)
}

/// Deletes a stored file that no version uses. Its id is remembered, so that it stays gone.
///
/// # Errors
/// `FILE_IN_USE` while a version uses it, also one in the trash; `NOT_FOUND`.
pub async fn delete(app: &App, actor: &Actor, id: StoredFileId) -> Result<StoredFileId> {
    let deleted = commit(app, actor, move |edit| {
        Box::pin(async move {
            let conn = edit.conn();
            let file = stored_file::Entity::find_by_id(id).lock_exclusive().one(conn).await?;
            let file = file.filter(|file| file.kept);
            let file = file.ok_or_else(|| Error::NotFound(format!("there is no stored file {id}")))?;
            let Some(blob) = file.blob_id else { return Ok(()) };
            let user = version::Entity::find().filter(version::Column::StoredFileId.eq(id)).one(conn).await?;
            if let Some(user) = user {
                let message = format!("{id} is the content of {}: purge its asset first", user.id);
                return Err(Error::FileInUse(message));
            }
            let mut row = file.into_active_model();
            row.blob_id = Set(None);
            row.deleted_at = Set(Some(edit.now()));
            row.update(conn).await?;
            release_blobs(edit, vec![blob]).await.map(drop)
        })
    })
    .await;
    deleted?;
    gc::collect_soon(app);
    Ok(id)
}

/// How long a file stays.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// As long as a version uses it.
    WhileUsed,
    /// Until a client deletes it.
    UntilDeleted,
}

/// Bytes that were received and are to become a file.
pub(super) struct Bytes {
    backend: String,
    staging: StagingKey,
    own: BlobKey,
    sha256: String,
    label: Label,
}

/// How bytes came to lie in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrival {
    /// Under a key of their own.
    Own,
    /// They were there already: the same bytes, in this blob.
    Known(BlobId),
}

impl Bytes {
    /// What an intent received.
    pub fn of(intent: &upload_intent::Model) -> Result<Self> {
        let staging = intent.staging_key.as_deref().unwrap_or_default();
        Ok(Self {
            backend: intent.backend.clone(),
            label: Label {
                content_type: intent.content_type.clone().unwrap_or_default(),
                filename: intent.filename.clone(),
            },
            staging: staging.parse().map_err(|error| Error::internal(format!("{}: {error}", intent.id)))?,
            own: BlobKey::new(own_blob(intent)),
            sha256: intent.sha256.clone().unwrap_or_default(),
        })
    }

    /// Sees to it that the bytes lie in the store for good, before a row names them. Where the store has lost
    /// the same bytes, these take their place.
    pub async fn secure(&self, app: &App) -> Result<Arrival> {
        let store = self.store(app)?;
        let Some(known) = by_content(app.read(), &self.backend, &self.sha256).await? else {
            store.secure(&self.staging, &self.own, &self.label).await.map_err(gone)?;
            crate::app::crash_point("bytes-in-place");
            return Ok(Arrival::Own);
        };
        let key = BlobKey::new(known.id);
        let label = Label {
            content_type: known.content_type.unwrap_or_else(|| self.label.content_type.clone()),
            filename: known.filename.unwrap_or_else(|| self.label.filename.clone()),
        };
        // Not when an earlier attempt moved them to a place of their own; then they are what it was about.
        let second = StagingKey { intent: self.staging.intent, attempt: app.clock().new_id() };
        if key != self.own
            && let Err(error) = store.renew(&self.staging, &second, &key, &label).await
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(Error::storage(error));
        }
        Ok(Arrival::Known(known.id))
    }

    /// Removes what was staged of bytes that were there already.
    pub async fn discard_staged(&self, app: &App, arrival: Arrival) {
        if matches!(arrival, Arrival::Known(_)) {
            match self.store(app) {
                Ok(store) => upload::discard_staged_in(store, &self.staging).await,
                Err(error) => tracing::warn!(%error, "cannot remove a staged file"),
            }
        }
    }

    /// Gives up bytes that were put in the place of a blob which was gone by then: nothing names that place any
    /// more.
    pub async fn abandon(&self, app: &App, arrival: Arrival) -> Result<()> {
        let Arrival::Known(blob) = arrival else { return Ok(()) };
        let backend = self.backend.clone();
        commit(app, &Actor::system(), move |edit| {
            Box::pin(async move { abandon_in(edit, blob, &backend).await })
        })
        .await
        .map(drop)
    }

    fn store<'a>(&self, app: &'a App) -> Result<&'a Arc<dyn BlobStore>> {
        app.store(&self.backend).map_err(Error::storage)
    }
}

/// Why bytes that were received cannot be put in place.
fn gone(error: std::io::Error) -> Error {
    if error.kind() == std::io::ErrorKind::NotFound {
        let message = "somebody removed its bytes from the storage: start another upload";
        return Error::upload(UploadError::Incomplete, message);
    }
    Error::storage(error)
}

async fn abandon_in(edit: Edit<'_>, blob: BlobId, backend: &str) -> Result<()> {
    let there = blob::Entity::find_by_id(blob).filter(blob::Column::Backend.eq(backend));
    if there.one(edit.conn()).await?.is_none() {
        discard(edit, &[(blob, backend)]).await?;
    }
    Ok(())
}

/// Writes the row of a file whose bytes are in place.
///
/// # Errors
/// `BytesMoved` when the same bytes that were there before are gone meanwhile: secure them and try again.
pub(super) async fn insert(
    edit: Edit<'_>,
    intent: &upload_intent::Model,
    arrival: Arrival,
    keep: Keep,
) -> Result<stored_file::Model> {
    let sha256 = intent.sha256.clone().unwrap_or_default();
    let blob = adopt(edit, own_blob(intent), &sha256, intent, arrival).await?;
    let row = stored_file::ActiveModel {
        id: Set(intent.stored_file_id),
        backend: Set(intent.backend.clone()),
        content_type: Set(intent.content_type.clone().unwrap_or_default()),
        size_bytes: Set(intent.received_bytes),
        sha256: Set(sha256),
        created_at: Set(edit.now()),
        created_by: Set(edit.by()),
        blob_id: Set(Some(blob)),
        kept: Set(keep == Keep::UntilDeleted),
        deleted_at: Set(None),
    };
    Ok(row.insert(edit.conn()).await?)
}

/// The blob with these bytes: the one that was there, or a new one.
async fn adopt(
    edit: Edit<'_>,
    own: BlobId,
    sha256: &str,
    intent: &upload_intent::Model,
    arrival: Arrival,
) -> Result<BlobId> {
    let conn = edit.conn();
    let there = |row: Option<blob::Model>| row.map(|row| row.id);
    if let Some(known) = there(by_content(conn, &intent.backend, sha256).await?) {
        // An attempt that failed after its bytes were in place may have left them.
        if known != own {
            discard(edit, &[(own, &intent.backend)]).await?;
        }
        return Ok(known);
    }
    if matches!(arrival, Arrival::Known(_)) {
        return Err(Error::BytesMoved);
    }
    let row = blob::ActiveModel {
        id: Set(own),
        backend: Set(intent.backend.clone()),
        sha256: Set(sha256.to_owned()),
        size_bytes: Set(intent.received_bytes),
        created_at: Set(edit.now()),
        content_type: Set(intent.content_type.clone()),
        filename: Set(Some(intent.filename.clone())),
    };
    // Another server may be doing the same: then its row is the one.
    let once = OnConflict::columns([blob::Column::Sha256, blob::Column::Backend]).do_nothing().to_owned();
    blob::Entity::insert(row).on_conflict(once).exec_without_returning(conn).await?;
    let winner = there(by_content(conn, &intent.backend, sha256).await?).ok_or(Error::BytesMoved)?;
    if winner != own {
        discard(edit, &[(own, &intent.backend)]).await?;
    }
    Ok(winner)
}

/// The blob with this content, held against removal until a transaction ends.
async fn by_content(conn: &impl ConnectionTrait, backend: &str, sha256: &str) -> Result<Option<blob::Model>> {
    let wanted = blob::Entity::find()
        .filter(blob::Column::Sha256.eq(sha256))
        .filter(blob::Column::Backend.eq(backend));
    Ok(wanted.lock_shared().one(conn).await?)
}

/// Where the bytes of an intent lie for good, unless the same are there already.
pub(super) fn own_blob(intent: &upload_intent::Model) -> BlobId {
    intent.blob_id.unwrap_or(BlobId(intent.stored_file_id.0))
}
