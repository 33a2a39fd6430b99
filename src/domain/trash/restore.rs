//! Back from the trash: exactly what one deletion took.

use std::sync::Arc;

use entity::change::ChangeType;
use entity::name::Holder;
use entity::{asset, deletion, folder};
use sea_orm::{
    ActiveValue::Set, ColumnTrait as _, ConnectionTrait, EntityTrait as _, QueryFilter as _, QuerySelect as _,
};

use super::Item;
use crate::app::App;
use crate::domain::actor::Actor;
use crate::domain::asset::{self as assets, Asset};
use crate::domain::error::{Error, Result};
use crate::domain::folder::{self as folders, Extent};
use crate::domain::path::TreePath;
use crate::domain::{Committed, Edit, commit, former, name, scope, search};

/// What is to come back.
#[derive(Debug, Clone)]
pub struct Restoration {
    /// The folder or asset that was deleted.
    pub item: Item,
    /// Another place than the one that it had.
    pub to: Option<TreePath>,
}

/// What came back.
#[derive(Debug, Clone)]
pub enum Restored {
    /// A folder, with all that went with it.
    Folder(Box<folder::Model>),
    /// An asset.
    Asset(Box<Asset>),
}

/// Brings back what one deletion took. Missing folders above its place are made.
///
/// # Errors
/// `NOT_FOUND` for what is not in the trash; `ALREADY_EXISTS` when the place is taken; `BAD_USER_INPUT` for what
/// went with a folder, and for a place that is too deep.
pub async fn restore(app: &App, actor: &Actor, what: Restoration) -> Result<Committed<Restored>> {
    commit(app, actor, move |edit| Box::pin(restore_in(edit, what))).await
}

pub(in crate::domain) async fn restore_in(edit: Edit<'_>, what: Restoration) -> Result<Restored> {
    let conn = edit.conn();
    let deletion = find(conn, what.item).await?;
    let from = TreePath::trusted(deletion.path.clone());
    let to = what.to.unwrap_or_else(|| from.clone());
    let restored = match what.item {
        Item::Folder(_) => Restored::Folder(Box::new(restore_folder(edit, &deletion, &from, &to).await?)),
        Item::Asset(_) => Restored::Asset(Box::new(restore_asset(edit, &deletion, &from, &to).await?)),
    };
    former::come_back(edit, deletion.id.0, to.as_str()).await?;
    deletion::Entity::delete_by_id(deletion.id).exec(conn).await?;
    Ok(restored)
}

async fn restore_folder(
    edit: Edit<'_>,
    deletion: &deletion::Model,
    from: &TreePath,
    to: &TreePath,
) -> Result<folder::Model> {
    let conn = edit.conn();
    let id = deletion.folder_id.ok_or_else(|| Error::internal("a deletion without a folder"))?;
    let row = folder::Entity::find_by_id(id).lock_exclusive().one(conn).await?;
    let row = row.ok_or_else(|| Error::internal(format!("{id} is missing")))?;
    let extent = Extent::Trashed(deletion.id, from);
    folders::check_fits(conn, extent, to).await?;
    let parent = folders::ensure(edit, &to.parent()).await?;
    name::take(conn, &parent, to.name(), Holder::Folder).await?;
    folders::rewrite_below(conn, extent, to).await?;
    let (new_name, new_path, parent_id) = (to.name().to_owned(), to.as_str().to_owned(), parent.id);
    let depth = i32::try_from(to.depth()).unwrap_or(i32::MAX);
    let row = folders::touch(edit, row, |row| {
        row.parent_id = Set(Some(parent_id));
        row.name = Set(new_name);
        row.path = Set(new_path);
        row.depth = Set(depth);
        row.deletion_id = Set(None);
    })
    .await?;
    scope::carry(edit, &row).await?;
    if from != to {
        search::index_folder(conn, &row).await?;
        search::move_folders(conn, from.as_str(), to.as_str()).await?;
    }
    let old_path = (from != to).then(|| from.to_string());
    folders::record(edit, ChangeType::FolderRestore, &row, old_path, &[]).await?;
    Ok(row)
}

async fn restore_asset(
    edit: Edit<'_>,
    deletion: &deletion::Model,
    from: &TreePath,
    to: &TreePath,
) -> Result<Asset> {
    let conn = edit.conn();
    let id = deletion.asset_id.ok_or_else(|| Error::internal("a deletion without an asset"))?;
    let row = asset::Entity::find_by_id(id).lock_exclusive().one(conn).await?;
    let row = row.ok_or_else(|| Error::internal(format!("{id} is missing")))?;
    let parent = folders::ensure(edit, &to.parent()).await?;
    assets::check_fits(&parent, to.as_str(), "input.toPath")?;
    name::take(conn, &parent, to.name(), Holder::Asset).await?;
    let renamed = row.name != to.name();
    let (new_name, folder_id) = (to.name().to_owned(), parent.id);
    let asset = Asset { row, folder: Arc::new(parent), published: None, deleted_from: None, as_of: None };
    let asset = assets::touch(edit, asset, |row| {
        row.folder_id = folder_id;
        row.name = new_name;
        row.deletion_id = None;
    })
    .await?;
    if renamed {
        search::index_asset(conn, &asset.row, search::Known::Maybe).await?;
    }
    let old_path = (from != to).then(|| from.to_string());
    let above = folders::lineage(conn, &asset.folder.path).await?;
    assets::record_in(edit, ChangeType::AssetRestore, &asset, old_path, above);
    Ok(asset)
}

/// The deletion that was about `item`, held against others until the transaction ends.
pub(super) async fn find(conn: &impl ConnectionTrait, item: Item) -> Result<deletion::Model> {
    let (about, id) = match item {
        Item::Folder(id) => (deletion::Column::FolderId.eq(id), id.to_string()),
        Item::Asset(id) => (deletion::Column::AssetId.eq(id), id.to_string()),
    };
    let found = deletion::Entity::find()
        .filter(about)
        .filter(deletion::Column::Purging.eq(false))
        .lock_exclusive()
        .one(conn)
        .await?;
    match found {
        Some(deletion) => Ok(deletion),
        None => Err(not_by_itself(conn, item, &id).await?),
    }
}

/// Why something cannot come back by itself.
async fn not_by_itself(conn: &impl ConnectionTrait, item: Item, id: &str) -> Result<Error> {
    let went_with = match item {
        Item::Folder(id) => folder::Entity::find_by_id(id).one(conn).await?.and_then(|row| row.deletion_id),
        Item::Asset(id) => {
            let found = asset::Entity::find_by_id(id).find_also_related(folder::Entity).one(conn).await?;
            found.and_then(|(_, folder)| folder?.deletion_id)
        }
    };
    let deletion = match went_with {
        Some(id) => deletion::Entity::find_by_id(id).one(conn).await?.filter(|deletion| !deletion.purging),
        None => None,
    };
    let folder = deletion.and_then(|deletion| Some((deletion.folder_id?, deletion.path)));
    Ok(match folder {
        Some((folder, path)) => {
            let message = format!("went to the trash with the folder {path}: take {folder}");
            Error::bad_input("input.id", message)
        }
        None => Error::NotFound(format!("{id} is not in the trash")),
    })
}
