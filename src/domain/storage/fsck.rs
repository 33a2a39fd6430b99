//! Comparing rows with bytes.
//!
//! It may run beside servers: what it finds is looked at again before it is told, and bytes on their way are known by
//! their upload.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::sync::Arc;

use entity::{BlobId, StoredFileId, VersionId, blob, garbage, stored_file, upload_intent, version};
use sea_orm::sea_query::{Expr, ExprTrait as _};
use sea_orm::{
    ColumnTrait as _, Condition, EntityTrait as _, PaginatorTrait as _, QueryFilter as _, QueryOrder as _,
    QuerySelect as _, QueryTrait as _,
};

use super::own::{Owner, another, own, owner};
use super::{Progress, migrate};
use crate::app::App;
use crate::blob::{BlobKey, BlobStore, digest};
use crate::domain::actor::{Actor, Role};
use crate::domain::error::{Error, Result};
use crate::domain::{asset, commit, gc, stored_file as files};

/// Rows that are read at once.
const PAGE: u64 = 500;

/// How closely to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Whether bytes are there, and how many.
    Size,
    /// Their SHA-256 as well, which reads all of them.
    Content,
}

/// What to do about what is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Tell it.
    None,
    /// Bring back what another backend has the same bytes of, and remove what nothing names.
    Repair,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Name of the storage backend.
    pub backend: String,
    /// The bytes.
    pub blob: BlobId,
    /// What is wrong with them.
    pub problem: Problem,
    /// Paths of the assets, and numbers of their versions, that are affected.
    pub versions: Vec<(String, i32)>,
    /// Whether it was put right.
    pub repaired: bool,
}

/// What is wrong with bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// A row names them, and they are gone.
    Missing,
    /// They are others than a row says.
    Damaged(String),
    /// They lie on a backend that is not configured.
    Unreachable,
    /// Files have them, and no row tells what and where they are.
    Unknown,
    /// Nothing names them.
    Orphan(u64),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("is missing"),
            Self::Damaged(how) => write!(f, "is damaged: {how}"),
            Self::Unreachable => f.write_str("lies on a backend that is not configured"),
            Self::Unknown => f.write_str("is known by no row, and files have it"),
            Self::Orphan(size) => write!(f, "is needed by nothing ({size} bytes)"),
        }
    }
}

/// Compares all rows with all bytes; `found` is told each finding, `watch` how far it has come. Answers what was looked
/// at.
///
/// # Errors
/// `STORAGE_UNAVAILABLE` when a backend cannot be read; what the database says.
pub async fn check(
    app: &App,
    actor: &Actor,
    depth: Depth,
    remedy: Remedy,
    mut found: impl FnMut(Finding),
    watch: impl Fn(Progress, Progress),
) -> Result<Progress> {
    actor.require(Role::Admin)?;
    let all = Progress { files: blob::Entity::find().count(app.read()).await?, bytes: 0 };
    let mut done = Progress::default();
    watch(done, all);
    for row in unreachable(app).await? {
        let versions = affected(app, row.id).await?;
        done.files += 1;
        done.bytes += row.size_bytes.unsigned_abs();
        found(Finding {
            backend: row.backend,
            blob: row.id,
            problem: Problem::Unreachable,
            versions,
            repaired: false,
        });
    }
    for (blob, backend) in unknown(app).await? {
        let versions = affected(app, blob).await?;
        found(Finding { backend, blob, problem: Problem::Unknown, versions, repaired: false });
    }
    let mut away = Ok(());
    for (backend, store) in app.stores().iter() {
        let told = |so_far: Progress| {
            let (files, bytes) = (done.files + so_far.files, done.bytes + so_far.bytes);
            watch(Progress { files, bytes }, all);
        };
        match check_backend(app, actor, (backend, store), (depth, remedy), &mut found, told).await {
            Ok(there) => (done.files, done.bytes) = (done.files + there.files, done.bytes + there.bytes),
            // One that is away holds up no other.
            Err(error) => {
                tracing::error!(%error, cause = ?error.cause(), backend, "cannot look at a storage backend");
                away = Err(error);
            }
        }
    }
    away.map(|()| done)
}

async fn check_backend(
    app: &App,
    actor: &Actor,
    (backend, store): (&str, &Arc<dyn BlobStore>),
    (depth, remedy): (Depth, Remedy),
    found: &mut impl FnMut(Finding),
    watch: impl Fn(Progress),
) -> Result<Progress> {
    match remedy {
        Remedy::Repair => _ = own(app, backend).await?,
        Remedy::None => {
            if let Owner::Another(mark) = owner(app, backend).await? {
                return Err(another(app, backend, &mark));
            }
        }
    }
    let (mut done, mut there) = (Progress::default(), HashSet::new());
    for shard in 0..=u8::MAX {
        let kept = store.kept(shard).await.map_err(Error::storage)?;
        for orphan in orphans(app, backend, &kept).await? {
            found(self::orphan(app, actor, backend, orphan, remedy).await?);
        }
        there.extend(kept.into_iter().map(|(key, size)| (key.id(), size)));
    }
    let mut last = BlobId(uuid::Uuid::nil());
    loop {
        let some = blob::Entity::find()
            .filter(blob::Column::Backend.eq(backend))
            .filter(blob::Column::Id.gt(last))
            .order_by_asc(blob::Column::Id)
            .limit(PAGE)
            .all(app.read())
            .await?;
        let Some(end) = some.last() else { return Ok(done) };
        last = end.id;
        for blob in some {
            let listed = there.contains(&(blob.id, blob.size_bytes.unsigned_abs()));
            done.files += 1;
            done.bytes += blob.size_bytes.unsigned_abs();
            if !(listed && depth == Depth::Size)
                && let Some(finding) = look(app, store, &blob, remedy).await?
            {
                found(finding);
            }
            watch(done);
        }
    }
}

/// Rows of bytes on backends that are not configured.
async fn unreachable(app: &App) -> Result<Vec<blob::Model>> {
    let configured = app.stores().iter().map(|(name, _)| name);
    let elsewhere = blob::Entity::find().filter(blob::Column::Backend.is_not_in(configured));
    Ok(elsewhere.order_by_asc(blob::Column::Id).all(app.read()).await?)
}

/// Bytes that files have and no row knows, or knows elsewhere.
async fn unknown(app: &App) -> Result<Vec<(BlobId, String)>> {
    let known = blob::Entity::find()
        .select_only()
        .column(blob::Column::Id)
        .filter(column(blob::Column::Id).equals((stored_file::Entity, stored_file::Column::BlobId)))
        .filter(column(blob::Column::Backend).equals((stored_file::Entity, stored_file::Column::Backend)));
    let unknown = stored_file::Entity::find()
        .select_only()
        .columns([stored_file::Column::BlobId, stored_file::Column::Backend])
        .distinct()
        .filter(stored_file::Column::BlobId.is_not_null())
        .filter(Expr::exists(known.into_query()).not());
    Ok(unknown.into_tuple().all(app.read()).await?)
}

fn column(column: blob::Column) -> Expr {
    Expr::col((blob::Entity, column))
}

/// Those that no row, no garbage and no open upload names.
async fn orphans(app: &App, backend: &str, kept: &[(BlobKey, u64)]) -> Result<Vec<(BlobId, u64)>> {
    let mut orphans = Vec::new();
    for some in kept.chunks(usize::try_from(PAGE).unwrap_or(usize::MAX)) {
        let ids: Vec<BlobId> = some.iter().map(|(key, _)| key.id()).collect();
        // Uploads first: what they become is seen by what is asked for later.
        let theirs = Condition::any()
            .add(upload_intent::Column::BlobId.is_in(ids.iter().copied()))
            .add(upload_intent::Column::StoredFileId.is_in(ids.iter().map(|id| StoredFileId(id.0))));
        let coming = upload_intent::Entity::find()
            .filter(theirs)
            .filter(upload_intent::Column::SweptAt.is_null())
            .all(app.read())
            .await?;
        let left = garbage::Entity::find()
            .filter(garbage::Column::Backend.eq(backend))
            .filter(garbage::Column::Id.is_in(ids.iter().copied()))
            .all(app.read())
            .await?;
        let named = blob::Entity::find()
            .filter(blob::Column::Backend.eq(backend))
            .filter(blob::Column::Id.is_in(ids))
            .all(app.read())
            .await?;
        let known: BTreeSet<uuid::Uuid> = (coming.iter().map(|intent| files::own_blob(intent).0))
            .chain(left.iter().map(|row| row.id.0))
            .chain(named.iter().map(|row| row.id.0))
            .collect();
        let unknown = some.iter().filter(|(key, _)| !known.contains(&key.id().0));
        orphans.extend(unknown.map(|(key, size)| (key.id(), *size)));
    }
    Ok(orphans)
}

async fn orphan(
    app: &App,
    actor: &Actor,
    backend: &str,
    (id, size): (BlobId, u64),
    remedy: Remedy,
) -> Result<Finding> {
    if remedy == Remedy::Repair {
        let name = backend.to_owned();
        commit(app, actor, move |edit| Box::pin(async move { files::discard(edit, &[(id, &name)]).await }))
            .await?;
        gc::collect(app).await?;
    }
    let repaired = remedy == Remedy::Repair;
    let (backend, problem) = (backend.to_owned(), Problem::Orphan(size));
    Ok(Finding { backend, blob: id, problem, versions: Vec::new(), repaired })
}

/// What is wrong with the bytes of a row, if anything, after the remedy.
async fn look(
    app: &App,
    store: &Arc<dyn BlobStore>,
    blob: &blob::Model,
    remedy: Remedy,
) -> Result<Option<Finding>> {
    if problem(store, blob).await?.is_none() {
        return Ok(None);
    }
    // Reading may have broken off by chance.
    let Some(problem) = problem(store, blob).await? else { return Ok(None) };
    // Somebody may have removed or moved it meanwhile.
    let now = blob::Entity::find_by_id(blob.id).one(app.read()).await?;
    if now.is_none_or(|now| now.backend != blob.backend) {
        return Ok(None);
    }
    let repaired = remedy == Remedy::Repair && heal(app, store, blob).await?;
    let versions = affected(app, blob.id).await?;
    Ok(Some(Finding { backend: blob.backend.clone(), blob: blob.id, problem, versions, repaired }))
}

async fn problem(store: &Arc<dyn BlobStore>, blob: &blob::Model) -> Result<Option<Problem>> {
    let size = blob.size_bytes.unsigned_abs();
    let read = async {
        let bytes = store.stream(&BlobKey::new(blob.id), size, 0..size).await?;
        digest(bytes).await
    };
    match read.await {
        Ok(sha256) if sha256 == blob.sha256 => Ok(None),
        Ok(sha256) => Ok(Some(Problem::Damaged(format!("its SHA-256 is {sha256} and not {}", blob.sha256)))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Some(Problem::Missing)),
        // A store that is away says nothing about its bytes.
        Err(_) if store.check().await.is_err() => Err(Error::storage("the store went away")),
        Err(error) => Ok(Some(Problem::Damaged(error.to_string()))),
    }
}

/// Brings back bytes that another backend has; whether one had them.
async fn heal(app: &App, store: &Arc<dyn BlobStore>, blob: &blob::Model) -> Result<bool> {
    let same = blob::Entity::find()
        .filter(blob::Column::Sha256.eq(&blob.sha256))
        .filter(blob::Column::Id.ne(blob.id))
        .all(app.read())
        .await?;
    for other in same {
        // Read to its end first: what is brought over takes the place of what is there.
        let healed = async {
            let source = app.store(&other.backend).map_err(Error::storage)?;
            migrate::verify(source, other.id, &other).await?;
            migrate::copy(source, other.id, store, blob).await
        };
        match healed.await {
            Ok(()) => return Ok(true),
            Err(error) => tracing::warn!(%error, cause = ?error.cause(), "another copy is of no use"),
        }
    }
    Ok(false)
}

/// Paths of the assets, and numbers of their versions, that have a blob.
async fn affected(app: &App, id: BlobId) -> Result<Vec<(String, i32)>> {
    let of_blob = stored_file::Entity::find().filter(stored_file::Column::BlobId.eq(id)).all(app.read());
    let of_blob: Vec<StoredFileId> = of_blob.await?.iter().map(|file| file.id).collect();
    let versions: Vec<(VersionId, entity::AssetId, i32)> = version::Entity::find()
        .select_only()
        .columns([version::Column::Id, version::Column::AssetId, version::Column::Number])
        .filter(version::Column::StoredFileId.is_in(of_blob))
        .into_tuple()
        .all(app.read())
        .await?;
    let mut paths = BTreeMap::new();
    for (_, asset, _) in &versions {
        if !paths.contains_key(asset)
            && let Some(found) = asset::with_trash(app.read(), *asset).await?
        {
            paths.insert(*asset, found.path());
        }
    }
    let affected =
        versions.iter().filter_map(|(_, asset, number)| Some((paths.get(asset)?.clone(), *number)));
    Ok(affected.collect())
}
