//! Assets that go to another folder or get another name.

use std::sync::Arc;

use entity::change::ChangeType;
use entity::folder;
use entity::name::Holder;
use sea_orm::ConnectionTrait;

use super::{Asset, AssetRef, Moved, check_fits, find, lock, record, touch};
use crate::app::App;
use crate::domain::actor::Actor;
use crate::domain::error::{Error, Result};
use crate::domain::folder::{self as folders, FolderRef};
use crate::domain::path::{TreePath, join, parse_name};
use crate::domain::{Committed, Edit, check_revision, commit, former, name, search};

/// Another folder for an asset.
#[derive(Debug, Clone)]
pub struct Relocation {
    /// Which asset.
    pub target: AssetRef,
    /// Where to; one that is named by a path is made when missing.
    pub to: FolderRef,
    /// Refuse unless this is its revision.
    pub if_revision: Option<i64>,
}

/// Another name for an asset.
#[derive(Debug, Clone)]
pub struct Renaming {
    /// Which asset.
    pub target: AssetRef,
    /// Its name, without a slash.
    pub new_name: String,
    /// Refuse unless this is its revision.
    pub if_revision: Option<i64>,
}

/// Moves an asset to another folder, which is made when missing and named by its path.
///
/// # Errors
/// `NOT_FOUND`, `ALREADY_EXISTS` when the name is taken there, `REVISION_CONFLICT`.
pub async fn relocate(app: &App, actor: &Actor, relocation: Relocation) -> Result<Committed<Moved>> {
    commit(app, actor, move |edit| Box::pin(relocate_in(edit, relocation))).await
}

pub(in crate::domain) async fn relocate_in(edit: Edit<'_>, relocation: Relocation) -> Result<Moved> {
    let Relocation { target, to, if_revision } = relocation;
    let asset = match lock(edit.conn(), &target).await {
        Err(Error::NotFound(message)) => {
            let folder = folders::resolve(edit.conn(), &to).await.ok();
            let moved = match (&target, folder) {
                (AssetRef::Path(from), Some(folder)) => {
                    moved_already(edit.conn(), from, &join(&folder.path, from.name())).await?
                }
                _ => None,
            };
            return moved.ok_or(Error::NotFound(message));
        }
        found => found?,
    };
    let folder = match &to {
        FolderRef::Path(path) => folders::ensure(edit, path).await?,
        FolderRef::Id(_) => folders::resolve_to_fill(edit.conn(), &to).await?,
    };
    let name = asset.row.name.clone();
    place(edit, asset, folder, name, if_revision, ChangeType::AssetMove, "input.toFolder").await
}

/// Renames an asset within its folder.
///
/// # Errors
/// `NOT_FOUND`, `ALREADY_EXISTS`, `REVISION_CONFLICT`, `BAD_USER_INPUT` for what is no name.
pub async fn rename(app: &App, actor: &Actor, renaming: Renaming) -> Result<Committed<Moved>> {
    commit(app, actor, move |edit| Box::pin(rename_in(edit, renaming))).await
}

pub(in crate::domain) async fn rename_in(edit: Edit<'_>, renaming: Renaming) -> Result<Moved> {
    let new_name = parse_name(&renaming.new_name, "input.newName")?;
    let asset = match lock(edit.conn(), &renaming.target).await {
        Err(Error::NotFound(message)) => {
            let moved = match &renaming.target {
                AssetRef::Path(from) => {
                    moved_already(edit.conn(), from, &join(from.parent().as_str(), &new_name)).await?
                }
                AssetRef::Id(_) => None,
            };
            return moved.ok_or(Error::NotFound(message));
        }
        found => found?,
    };
    let folder = (*asset.folder).clone();
    let kind = ChangeType::AssetRename;
    place(edit, asset, folder, new_name, renaming.if_revision, kind, "input.newName").await
}

/// What a move by path that was done before answers again: the asset is where it was to go, and came from there.
async fn moved_already(conn: &impl ConnectionTrait, from: &TreePath, to: &str) -> Result<Option<Moved>> {
    let Some(asset) = find(conn, &TreePath::trusted(to.to_owned())).await? else { return Ok(None) };
    let former = former::paths(conn, &[&asset]).await?.remove(&asset.row.id).unwrap_or_default();
    let came = former.iter().any(|path| path == from.as_str());
    Ok(came.then(|| Moved { asset, old_path: from.to_string() }))
}

async fn place(
    edit: Edit<'_>,
    asset: Asset,
    folder: folder::Model,
    new_name: String,
    if_revision: Option<i64>,
    kind: ChangeType,
    field: &str,
) -> Result<Moved> {
    let old_path = asset.path();
    let new_path = join(&folder.path, &new_name);
    if new_path == old_path {
        return Ok(Moved { asset, old_path });
    }
    check_revision(|| asset.what(), if_revision, asset.row.revision)?;
    check_fits(&folder, &new_path, field)?;
    name::take(edit.conn(), &folder, &new_name, Holder::Asset).await?;
    name::release(edit.conn(), asset.row.folder_id, &asset.row.name).await?;
    let old_folder = Arc::clone(&asset.folder);
    let folder_id = folder.id;
    let renamed = new_name != asset.row.name;
    let moved = touch(edit, asset, |row| {
        row.folder_id = folder_id;
        row.name = new_name;
    })
    .await?;
    let asset =
        Asset { row: moved.row, folder: Arc::new(folder), published: None, deleted_from: None, as_of: None };
    if renamed {
        search::index_asset(edit.conn(), &asset.row, search::Known::Maybe).await?;
    }
    let left = folders::lineage(edit.conn(), &old_folder.path).await?;
    let who = former::Mover::Asset(asset.row.id);
    former::leave(edit, vec![former::row(edit.new_id(), &old_path, who, Some(&new_path), &left)]).await?;
    record(edit, kind, &asset, Some((old_path.clone(), &old_folder)), None).await?;
    Ok(Moved { asset, old_path })
}
