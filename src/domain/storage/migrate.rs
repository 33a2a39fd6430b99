//! Moving bytes from one backend to another while everything goes on.
//!
//! Each file is remembered as garbage of its new place before it is copied, and taken out of the garbage by the commit
//! that makes the new place the one that counts. So it can be broken off at any point: what was moved stays moved, what
//! was copied by half is removed by gc a day later unless it is copied again, and no reader notices anything.

use std::pin::pin;
use std::sync::Arc;

use entity::{BlobId, Timestamp, blob, garbage, stored_file, upload_intent};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use sea_orm::sea_query::{Expr, ExprTrait, Func, OnConflict};
use sea_orm::{
    ActiveModelTrait as _, ActiveValue::Set, ColumnTrait as _, ConnectionTrait, EntityTrait as _,
    IntoActiveModel as _, PaginatorTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
};

use super::{Progress, own};
use crate::app::App;
use crate::blob::{BlobKey, BlobStore, Incoming, Label, StageError, digest};
use crate::domain::actor::{Actor, Role};
use crate::domain::error::{Error, Result};
use crate::domain::{Edit, commit};

/// Files that are remembered before they are copied, in one commit.
const BATCH: u64 = 64;
/// Files that are copied at the same time.
const COPIES: usize = 4;
/// How long a file that was copied by half is kept for another try, in milliseconds.
const PATIENCE_MS: i64 = 24 * 3_600_000;
/// How long the old place can still be read after a move, in milliseconds: longer than any signed URL to it works.
const GRACE_MS: i64 = 8 * 24 * 3_600_000;

/// What becomes of the old copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Old {
    /// They are removed, eight days later.
    Remove,
    /// They stay, and nothing knows of them any more.
    Keep,
}

/// What a migration did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Migrated {
    /// What was moved.
    pub moved: Progress,
    /// Files that could not be moved; the log says why.
    pub failed: u64,
    /// Uploads under way that are going to bring more bytes to the old place.
    pub coming: u64,
}

/// Moves all bytes that lie on `from` to `to`; answers what it did. Bytes that come in meanwhile move as well.
///
/// # Errors
/// `BAD_USER_INPUT` for backends that are not configured, or the same; what the database says.
pub async fn migrate(
    app: &App,
    actor: &Actor,
    from: &str,
    to: &str,
    old: Old,
    watch: impl Fn(Progress, Progress),
) -> Result<Migrated> {
    actor.require(Role::Admin)?;
    for (field, name) in [("from", from), ("to", to)] {
        if !app.config().storage.contains_key(name) {
            return Err(Error::bad_input(field, format!("no storage backend {name:?} is configured")));
        }
    }
    if from == to {
        return Err(Error::bad_input("to", "is where the bytes are"));
    }
    own(app, to).await?;
    // What is one place under two names would be copied over itself, and then removed.
    own(app, from).await?;
    let all = blob::Entity::find().filter(blob::Column::Backend.eq(from));
    let all = Progress { files: all.count(app.read()).await?, bytes: total(app, from).await? };
    let mut done = Migrated::default();
    watch(done.moved, all);
    loop {
        let before = done.moved.files;
        done.failed = pass(app, actor, (from, to), old, &mut done.moved, |moved| watch(moved, all)).await?;
        // What came in behind the place where it was reading is found by another pass.
        if done.moved.files == before {
            done.coming = coming(app, from).await?;
            return Ok(done);
        }
    }
}

/// Goes through all files once; answers how many could not be moved.
async fn pass(
    app: &App,
    actor: &Actor,
    (from, to): (&str, &str),
    old: Old,
    moved: &mut Progress,
    watch: impl Fn(Progress),
) -> Result<u64> {
    let (mut failed, mut last) = (0, BlobId(uuid::Uuid::nil()));
    loop {
        let some = blob::Entity::find()
            .filter(blob::Column::Backend.eq(from))
            .filter(blob::Column::Id.gt(last))
            .order_by_asc(blob::Column::Id)
            .limit(BATCH)
            .all(app.read())
            .await?;
        let Some(end) = some.last() else { return Ok(failed) };
        last = end.id;
        let reserved = reserve(app, actor, &some, from, to).await?;
        let mut copies = Vec::new();
        for blob in some {
            if reserved.contains(&blob.id) {
                copies.push(move_one(app, actor, blob, to, old));
            } else {
                tracing::warn!(blob = %blob.id, "it moves already, or its new place is just being cleared");
                failed += 1;
            }
        }
        let mut copies = stream::iter(copies).buffer_unordered(COPIES);
        while let Some(outcome) = copies.next().await {
            match outcome {
                Ok(bytes) => {
                    moved.files += 1;
                    moved.bytes += bytes;
                }
                Err(error) => {
                    tracing::error!(%error, cause = ?error.cause(), "cannot move a file");
                    failed += 1;
                }
            }
            watch(*moved);
        }
    }
}

/// How many uploads bring bytes to a backend and are not over.
async fn coming(app: &App, backend: &str) -> Result<u64> {
    let open = [upload_intent::Status::Created, upload_intent::Status::Received];
    let coming = upload_intent::Entity::find()
        .filter(upload_intent::Column::Backend.eq(backend))
        .filter(upload_intent::Column::Status.is_in(open))
        .filter(upload_intent::Column::ExpiresAt.gt(app.clock().now()));
    Ok(coming.count(app.read()).await?)
}

async fn total(app: &App, backend: &str) -> Result<u64> {
    let sum: Option<Option<i64>> = blob::Entity::find()
        .select_only()
        .column_as(Func::sum(Expr::col(blob::Column::SizeBytes)).cast_as("bigint"), "bytes")
        .filter(blob::Column::Backend.eq(backend))
        .into_tuple()
        .one(app.read())
        .await?;
    Ok(sum.flatten().unwrap_or(0).unsigned_abs())
}

/// Remembers where files are going to be copied to; answers with those that may be. Of others somebody else is just
/// moving them, or clearing their place.
async fn reserve(
    app: &App,
    actor: &Actor,
    blobs: &[blob::Model],
    from: &str,
    to: &str,
) -> Result<Vec<BlobId>> {
    let ids: Vec<BlobId> = blobs.iter().map(|blob| blob.id).collect();
    let (from, to) = (from.to_owned(), to.to_owned());
    let reserved = commit(app, actor, move |edit| {
        Box::pin(async move {
            let conn = edit.conn();
            // Held, so that no other migration makes one live at its new place meanwhile.
            let still = blob::Entity::find()
                .filter(blob::Column::Id.is_in(ids))
                .filter(blob::Column::Backend.eq(from))
                .order_by_asc(blob::Column::Id)
                .lock_exclusive()
                .all(conn)
                .await?;
            let ids: Vec<BlobId> = still.iter().map(|blob| blob.id).collect();
            if ids.is_empty() {
                return Ok(ids);
            }
            let until = Timestamp(edit.now().0 + PATIENCE_MS);
            let row = |id: &BlobId| garbage::ActiveModel {
                id: Set(*id),
                backend: Set(to.clone()),
                since: Set(edit.now()),
                attempts: Set(0),
                try_at: Set(until),
            };
            let again = OnConflict::columns([garbage::Column::Id, garbage::Column::Backend])
                .value(garbage::Column::TryAt, Expr::value(until))
                .action_and_where(ExprTrait::eq(Expr::col((garbage::Entity, garbage::Column::Attempts)), 0))
                .to_owned();
            garbage::Entity::insert_many(ids.iter().map(row))
                .on_conflict(again)
                .exec_without_returning(conn)
                .await?;
            let free = garbage::Entity::find()
                .filter(garbage::Column::Backend.eq(to.clone()))
                .filter(garbage::Column::Id.is_in(ids))
                .filter(garbage::Column::Attempts.eq(0))
                .all(conn)
                .await?;
            Ok(free.into_iter().map(|row| row.id).collect())
        })
    });
    Ok(reserved.await?.value)
}

async fn move_one(app: &App, actor: &Actor, blob: blob::Model, to: &str, old: Old) -> Result<u64> {
    let (source, target) = (store(app, &blob.backend)?, store(app, to)?);
    match twin(app.read(), to, &blob.sha256).await? {
        // It is there already. All files are going to rely on it, so it is looked at.
        Some(twin) => verify(target, twin.id, &twin).await?,
        None => copy(source, blob.id, target, &blob).await?,
    }
    crate::app::crash_point("migrate-copied");
    let (id, size, from, to) = (blob.id, blob.size_bytes.unsigned_abs(), blob.backend, to.to_owned());
    let settled =
        commit(app, actor, move |edit| Box::pin(async move { settle(edit, id, &from, &to, old).await }));
    settled.await?;
    Ok(size)
}

/// The blob with the same content on another backend.
async fn twin(conn: &impl ConnectionTrait, backend: &str, sha256: &str) -> Result<Option<blob::Model>> {
    let same = blob::Entity::find().filter(blob::Column::Sha256.eq(sha256));
    Ok(same.filter(blob::Column::Backend.eq(backend)).lock_shared().one(conn).await?)
}

/// Reads bytes and compares them with what they should be.
pub(super) async fn verify(store: &Arc<dyn BlobStore>, id: BlobId, blob: &blob::Model) -> Result<()> {
    let (key, size) = (BlobKey::new(id), blob.size_bytes.unsigned_abs());
    let bytes = store.stream(&key, size, 0..size).await.map_err(Error::storage)?;
    match digest(bytes).await.map_err(Error::storage)? {
        sha256 if sha256 == blob.sha256 => Ok(()),
        other => Err(Error::storage(format!("{key} has other bytes than were stored: {other}"))),
    }
}

fn store<'a>(app: &'a App, name: &str) -> Result<&'a Arc<dyn BlobStore>> {
    app.store(name).map_err(Error::storage)
}

/// Copies the bytes of `other`, which are those of `blob`, to where those of `blob` lie in `target`, and verifies them
/// on the way.
pub(super) async fn copy(
    source: &Arc<dyn BlobStore>,
    other: BlobId,
    target: &Arc<dyn BlobStore>,
    blob: &blob::Model,
) -> Result<()> {
    let (key, size) = (BlobKey::new(blob.id), blob.size_bytes.unsigned_abs());
    let bytes = source.stream(&BlobKey::new(other), size, 0..size).await.map_err(Error::storage)?;
    let body: Incoming<'_> = pin!(bytes.map_err(|error| error.to_string()));
    let label = Label {
        content_type: blob.content_type.clone().unwrap_or_else(|| "application/octet-stream".to_owned()),
        filename: blob.filename.clone().unwrap_or_else(|| "file".to_owned()),
    };
    // What was copied and is not right, nothing names: gc removes it.
    Err(Error::storage(match target.import(&key, body, size, &label).await {
        Ok(staged) if staged.sha256 == blob.sha256 && staged.size == size => return Ok(()),
        Ok(staged) => format!("{key} has other bytes than were stored: {}", staged.sha256),
        Err(StageError::Body(error)) => format!("{key} cannot be read: {error}"),
        Err(StageError::Store(error)) => format!("{key} cannot be written: {error}"),
        Err(StageError::TooLong) => format!("{key} is too long"),
    }))
}

/// Makes the new place the one that counts.
async fn settle(edit: Edit<'_>, id: BlobId, from: &str, to: &str, old: Old) -> Result<()> {
    let conn = edit.conn();
    let row = blob::Entity::find_by_id(id).filter(blob::Column::Backend.eq(from));
    // Nothing needs it any more, or somebody else moved it; gc has what was copied.
    let Some(row) = row.lock_exclusive().one(conn).await? else { return Ok(()) };
    let same = twin(conn, to, &row.sha256).await?;
    let winner = same.as_ref().map_or(id, |same| same.id);
    stored_file::Entity::update_many()
        .col_expr(stored_file::Column::BlobId, Expr::value(winner))
        .col_expr(stored_file::Column::Backend, Expr::value(to))
        .filter(stored_file::Column::BlobId.eq(id))
        .exec(conn)
        .await?;
    if same.is_some() {
        blob::Entity::delete_by_id(id).exec(conn).await?;
    } else {
        let reserved = garbage::Entity::delete_many()
            .filter(garbage::Column::Id.eq(id))
            .filter(garbage::Column::Backend.eq(to))
            .filter(garbage::Column::Attempts.eq(0))
            .exec(conn)
            .await?;
        if reserved.rows_affected != 1 {
            return Err(Error::storage(format!("the copy of {id} was removed meanwhile; run it again")));
        }
        let mut row = row.into_active_model();
        row.backend = Set(to.to_owned());
        row.update(conn).await?;
    }
    if old == Old::Keep {
        return Ok(());
    }
    let left = garbage::ActiveModel {
        id: Set(id),
        backend: Set(from.to_owned()),
        since: Set(edit.now()),
        attempts: Set(0),
        try_at: Set(Timestamp(edit.now().0 + GRACE_MS)),
    };
    let again = OnConflict::columns([garbage::Column::Id, garbage::Column::Backend]).do_nothing().to_owned();
    garbage::Entity::insert(left).on_conflict(again).exec_without_returning(conn).await?;
    Ok(())
}
