//! The trash: what was deleted, and what one deletion took comes back as a unit.
//!
//! Deleting a folder marks the folders below it and touches none of their assets; their place is what puts them
//! into the trash. So it costs by the folders, and a move of what is left never meets what is gone.

mod list;
mod purge;
mod restore;

use std::collections::HashSet;

use entity::change::ChangeType;
use entity::{AssetId, DeletionId, FolderId, Timestamp, asset, deletion, folder};
use sea_orm::sea_query::{Expr, ExprTrait as _, Query};
use sea_orm::{
    ActiveModelTrait as _, ActiveValue::Set, ColumnTrait as _, ConnectionTrait, EntityTrait as _,
    QueryFilter as _, QueryOrder as _, QuerySelect as _,
};

use super::actor::Actor;
use super::asset::{self as assets, Asset, AssetRef};
use super::error::{Error, Result};
use super::folder::{self as folders, FolderRef};
use super::former::{self, Mover};
use super::path::{TreePath, join, parse_name};
use super::{Committed, Edit, check_revision, commit, name};
use crate::app::App;

pub use list::{Node, ORDER, by_ids, list, position};
pub use purge::{Purged, purge, purge_due};
pub(super) use restore::restore_in;
pub use restore::{Restoration, Restored, restore};

/// Assets that one call deletes, at most.
const MAX_DELETED: usize = 10_000;
/// Rows in one statement.
const CHUNK: usize = 1000;

/// Names a folder or an asset by its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Item {
    /// A folder, with all below it.
    Folder(FolderId),
    /// An asset.
    Asset(AssetId),
}

/// A folder to delete.
#[derive(Debug, Clone)]
pub struct FolderDeletion {
    /// Which folder.
    pub target: FolderRef,
    /// With all that is in it; without, one that is not empty is refused.
    pub recursive: bool,
    /// Refuse unless this is its revision.
    pub if_revision: Option<i64>,
}

/// An asset to delete.
#[derive(Debug, Clone)]
pub struct AssetDeletion {
    /// Which asset.
    pub target: AssetRef,
    /// Refuse unless this is its revision.
    pub if_revision: Option<i64>,
}

/// Assets of one folder to delete.
#[derive(Debug, Clone)]
pub struct AssetsDeletion {
    /// Which folder.
    pub folder: FolderRef,
    /// Only those with these names.
    pub names: Option<Vec<String>>,
}

/// What deleting took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Taken {
    /// Folders.
    pub folders: i32,
    /// Assets.
    pub assets: i32,
    /// Versions of these assets; counted only where assets are named.
    pub versions: i32,
}

/// Puts a folder into the trash, with all that is in it: one commit, one entry, whatever it holds.
///
/// # Errors
/// `BAD_USER_INPUT` for the root, and for a folder that is not empty unless it is recursive; `NOT_FOUND`;
/// `REVISION_CONFLICT`.
pub async fn delete_folder(app: &App, actor: &Actor, what: FolderDeletion) -> Result<Committed<Taken>> {
    let keep = keep_ms(app);
    commit(app, actor, move |edit| Box::pin(delete_folder_in(edit, what, keep))).await
}

pub(super) async fn delete_folder_in(edit: Edit<'_>, what: FolderDeletion, keep: i64) -> Result<Taken> {
    let conn = edit.conn();
    let folder = match folders::lock(conn, &what.target).await {
        Err(Error::NotFound(message)) => {
            let there = deleted_folder(conn, &what.target).await?.ok_or(Error::NotFound(message))?;
            return Ok(Taken { folders: there.folders, assets: there.assets, versions: 0 });
        }
        found => found?,
    };
    let Some(parent) = folder.parent_id else {
        return Err(Error::bad_input("input.folder", "must not be the root, which cannot be deleted"));
    };
    check_revision(|| folders::what(&folder), what.if_revision, folder.revision)?;
    if !what.recursive && !is_empty(conn, &folder).await? {
        let message = format!("has to be true to delete {}, which is not empty", folder.path);
        return Err(Error::bad_input("input.recursive", message));
    }
    let path = folder.path.clone();
    let (below, inside) = folders::count_below(conn, &path).await?;
    let taken = Taken { folders: below + 1, assets: inside, versions: 0 };
    let id = insert(edit, Item::Folder(folder.id), &path, taken, keep).await?;
    let mark = Query::update()
        .table(folder::Entity)
        .value(folder::Column::DeletionId, id)
        .cond_where(folders::is_below(&path))
        .to_owned();
    conn.execute(&mark).await?;
    name::release(conn, parent, &folder.name).await?;
    let folder = folders::touch(edit, folder, |row| row.deletion_id = Set(Some(id))).await?;
    let above = folders::lineage(conn, super::path::parent_of(&path)).await?;
    former::leave(edit, vec![former::row(id.0, &path, Mover::Folder(folder.id), None, &above)]).await?;
    folders::record(edit, ChangeType::FolderDelete, &folder, None, &[]).await?;
    Ok(taken)
}

async fn is_empty(conn: &impl ConnectionTrait, folder: &folder::Model) -> Result<bool> {
    let inner = folders::live().filter(folder::Column::ParentId.eq(folder.id)).one(conn).await?;
    let inside = asset::Entity::find()
        .filter(asset::Column::FolderId.eq(folder.id))
        .filter(asset::Column::DeletionId.is_null());
    Ok(inner.is_none() && inside.one(conn).await?.is_none())
}

/// An asset as deleting left it.
#[derive(Debug, Clone)]
pub struct Deleted {
    /// The asset, with the path that it had.
    pub asset: Asset,
}

/// Puts an asset into the trash.
///
/// # Errors
/// `NOT_FOUND`, `REVISION_CONFLICT`.
pub async fn delete_asset(app: &App, actor: &Actor, what: AssetDeletion) -> Result<Committed<Deleted>> {
    let keep = keep_ms(app);
    commit(app, actor, move |edit| Box::pin(delete_asset_in(edit, what, keep))).await
}

pub(super) async fn delete_asset_in(edit: Edit<'_>, what: AssetDeletion, keep: i64) -> Result<Deleted> {
    let asset = match assets::lock(edit.conn(), &what.target).await {
        Err(Error::NotFound(message)) => {
            let there = deleted_asset(edit.conn(), &what.target).await?;
            return there.map(|asset| Deleted { asset }).ok_or(Error::NotFound(message));
        }
        found => found?,
    };
    check_revision(|| asset.what(), what.if_revision, asset.row.revision)?;
    let path = asset.path();
    let taken = Taken { folders: 0, assets: 1, versions: 0 };
    let id = insert(edit, Item::Asset(asset.row.id), &path, taken, keep).await?;
    name::release(edit.conn(), asset.row.folder_id, &asset.row.name).await?;
    let mut asset = assets::touch(edit, asset, |row| row.deletion_id = Some(id)).await?;
    asset.deleted_from = Some(path.clone());
    let above = folders::lineage(edit.conn(), &asset.folder.path).await?;
    former::leave(edit, vec![former::row(id.0, &path, Mover::Asset(asset.row.id), None, &above)]).await?;
    assets::record_in(edit, ChangeType::AssetDelete, &asset, None, above);
    Ok(Deleted { asset })
}

/// Puts assets of one folder into the trash: one commit, an entry each, and each comes back by itself.
///
/// # Errors
/// `NOT_FOUND` for the folder and for a name that is not there; `BAD_USER_INPUT` for too many.
pub async fn delete_assets(app: &App, actor: &Actor, what: AssetsDeletion) -> Result<Committed<Taken>> {
    let keep = keep_ms(app);
    commit(app, actor, move |edit| Box::pin(delete_assets_in(edit, what, keep))).await
}

pub(super) async fn delete_assets_in(edit: Edit<'_>, what: AssetsDeletion, keep: i64) -> Result<Taken> {
    let conn = edit.conn();
    let folder = std::sync::Arc::new(folders::resolve(conn, &what.folder).await?);
    let rows = match what.names {
        Some(names) => named(conn, &folder, names).await?,
        None => all_of(conn, &folder).await?,
    };
    let ids: Vec<AssetId> = rows.iter().map(|row| row.id).collect();
    let taken = Taken {
        folders: 0,
        assets: i32::try_from(rows.len()).unwrap_or(i32::MAX),
        versions: rows.iter().map(|row| row.latest_number).sum(),
    };
    let one = Taken { folders: 0, assets: 1, versions: 0 };
    let lineage = folders::lineage(conn, &folder.path).await?;
    let (mut deletions, mut left) = (Vec::with_capacity(rows.len()), Vec::with_capacity(rows.len()));
    for row in &rows {
        let path = join(&folder.path, &row.name);
        let deletion = deletion_row(edit, Item::Asset(row.id), &path, one, keep);
        left.push(former::row(deletion.id.as_ref().0, &path, Mover::Asset(row.id), None, &lineage));
        deletions.push(deletion);
    }
    for rows in deletions.chunks(CHUNK) {
        deletion::Entity::insert_many(rows.to_vec()).exec_without_returning(conn).await?;
    }
    for (ids, rows) in ids.chunks(CHUNK).zip(rows.chunks(CHUNK)) {
        mark_assets(edit, ids).await?;
        let names = rows.iter().map(|row| row.name.as_str());
        entity::name::Entity::delete_many()
            .filter(entity::name::Column::FolderId.eq(folder.id))
            .filter(entity::name::Column::Name.is_in(names))
            .exec(conn)
            .await?;
    }
    former::leave(edit, left).await?;
    for row in rows {
        let asset = Asset {
            row,
            folder: std::sync::Arc::clone(&folder),
            published: None,
            deleted_from: None,
            as_of: None,
        };
        assets::record_in(edit, ChangeType::AssetDelete, &asset, None, lineage.clone());
    }
    Ok(taken)
}

/// Lets each asset's row name the deletion that is about it.
async fn mark_assets(edit: Edit<'_>, ids: &[AssetId]) -> Result<()> {
    let own = Query::select()
        .column(deletion::Column::Id)
        .from(deletion::Entity)
        .and_where(Expr::col(deletion::Column::AssetId).equals((asset::Entity, asset::Column::Id)))
        .take();
    let own = sea_orm::sea_query::SimpleExpr::SubQuery(None, Box::new(own.into()));
    let mark = Query::update()
        .table(asset::Entity)
        .value(asset::Column::DeletionId, own)
        .value(asset::Column::Revision, Expr::col(asset::Column::Revision).add(1))
        .value(asset::Column::UpdatedAt, edit.now())
        .value(asset::Column::UpdatedBy, edit.by())
        .and_where(asset::Column::Id.is_in(ids.iter().copied()))
        .to_owned();
    edit.conn().execute(&mark).await?;
    Ok(())
}

async fn named(
    conn: &impl ConnectionTrait,
    folder: &folder::Model,
    names: Vec<String>,
) -> Result<Vec<asset::Model>> {
    check_count(names.len())?;
    let names = names.iter().map(|name| parse_name(name, "input.names")).collect::<Result<HashSet<_>>>()?;
    let names: Vec<String> = names.into_iter().collect();
    let mut found = Vec::with_capacity(names.len());
    for some in names.chunks(CHUNK) {
        let rows = in_folder(folder).filter(asset::Column::Name.is_in(some.iter().map(String::as_str)));
        found.extend(rows.all(conn).await?);
    }
    let there: HashSet<&str> = found.iter().map(|row| row.name.as_str()).collect();
    for name in names.iter().filter(|name| !there.contains(name.as_str())) {
        let path = join(&folder.path, name);
        let target = AssetRef::Path(TreePath::trusted(path));
        if deleted_asset(conn, &target).await?.is_none() {
            return Err(target.not_found());
        }
    }
    found.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    Ok(found)
}

async fn all_of(conn: &impl ConnectionTrait, folder: &folder::Model) -> Result<Vec<asset::Model>> {
    let rows = in_folder(folder).order_by_asc(asset::Column::Name).limit(MAX_DELETED as u64 + 1);
    let rows = rows.all(conn).await?;
    check_count(rows.len())?;
    Ok(rows)
}

fn check_count(count: usize) -> Result<()> {
    if count > MAX_DELETED {
        let message = format!("are more than {MAX_DELETED}: delete the folder, or name fewer at a time");
        return Err(Error::bad_input("input.names", message));
    }
    Ok(())
}

fn in_folder(folder: &folder::Model) -> sea_orm::Select<asset::Entity> {
    asset::Entity::find()
        .filter(asset::Column::FolderId.eq(folder.id))
        .filter(asset::Column::DeletionId.is_null())
        .lock_exclusive()
}

/// The deletion of the folder that `target` names, when that is what it names now.
async fn deleted_folder(conn: &impl ConnectionTrait, target: &FolderRef) -> Result<Option<deletion::Model>> {
    let wanted = match target {
        FolderRef::Id(id) => deletion::Column::FolderId.eq(*id),
        FolderRef::Path(path) => {
            if assets::find(conn, path).await?.is_some() {
                return Ok(None);
            }
            deletion::Column::Path.eq(path.as_str()).and(deletion::Column::FolderId.is_not_null())
        }
    };
    newest(conn, wanted).await
}

/// The asset in the trash that `target` names, when that is what it names now.
async fn deleted_asset(conn: &impl ConnectionTrait, target: &AssetRef) -> Result<Option<Asset>> {
    let wanted = match target {
        AssetRef::Id(id) => deletion::Column::AssetId.eq(*id),
        AssetRef::Path(path) => {
            if folders::find(conn, path).await?.is_some() {
                return Ok(None);
            }
            deletion::Column::Path.eq(path.as_str()).and(deletion::Column::AssetId.is_not_null())
        }
    };
    let Some(deletion) = newest(conn, wanted).await? else { return Ok(None) };
    let Some(id) = deletion.asset_id else { return Ok(None) };
    let found = asset::Entity::find_by_id(id).find_also_related(folder::Entity).one(conn).await?;
    Ok(found.and_then(|(row, folder)| {
        let folder = std::sync::Arc::new(folder?);
        Some(Asset { row, folder, published: None, deleted_from: Some(deletion.path), as_of: None })
    }))
}

async fn newest(
    conn: &impl ConnectionTrait,
    wanted: sea_orm::sea_query::SimpleExpr,
) -> Result<Option<deletion::Model>> {
    let found = deletion::Entity::find()
        .filter(wanted)
        .filter(deletion::Column::Purging.eq(false))
        .order_by_desc(deletion::Column::Id)
        .one(conn)
        .await?;
    Ok(found)
}

async fn insert(edit: Edit<'_>, item: Item, path: &str, taken: Taken, keep: i64) -> Result<DeletionId> {
    let row = deletion_row(edit, item, path, taken, keep).insert(edit.conn()).await?;
    Ok(row.id)
}

fn deletion_row(edit: Edit<'_>, item: Item, path: &str, taken: Taken, keep: i64) -> deletion::ActiveModel {
    let (folder_id, asset_id) = match item {
        Item::Folder(id) => (Some(id), None),
        Item::Asset(id) => (None, Some(id)),
    };
    deletion::ActiveModel {
        id: Set(DeletionId(edit.new_id())),
        folder_id: Set(folder_id),
        asset_id: Set(asset_id),
        path: Set(path.to_owned()),
        folders: Set(taken.folders),
        assets: Set(taken.assets),
        deleted_at: Set(edit.now()),
        deleted_by: Set(edit.by()),
        purge_at: Set(Timestamp(edit.now().0.saturating_add(keep))),
        purging: Set(false),
    }
}

/// How long the trash keeps things, in milliseconds.
pub(super) fn keep_ms(app: &App) -> i64 {
    i64::try_from(app.config().trash_ttl.as_millis()).unwrap_or(i64::MAX)
}
