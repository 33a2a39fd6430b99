//! What is in the trash, newest first.

use std::collections::HashMap;
use std::sync::Arc;

use entity::{AssetId, DeletionId, FolderId, deletion, folder};
use sea_orm::{ColumnTrait as _, EntityTrait as _, IntoSimpleExpr as _, QueryFilter as _, QueryTrait as _};

use crate::app::App;
use crate::domain::actor::{Actor, Role};
use crate::domain::asset::{self as assets, Asset};
use crate::domain::error::Result;
use crate::domain::folder as folders;
use crate::domain::page::{Direction, Page, Position, Slice, SortKey, Source, fetch};
use crate::domain::scope::Scope;

/// The word that cursors of the trash carry.
pub const ORDER: &str = "DELETED_AT";

/// Something in the trash.
#[derive(Debug, Clone)]
pub enum Node {
    /// A folder, with all that went with it.
    Folder(Arc<folder::Model>),
    /// An asset.
    Asset(Arc<Asset>),
}

/// A page of what was deleted, with the deletions.
///
/// # Errors
/// When the actor may not read.
pub async fn list(app: &App, actor: &Actor, page: Page) -> Result<Slice<(Node, deletion::Model)>> {
    actor.require(Role::Viewer)?;
    let source = Source {
        rows: deletion::Entity::find().filter(deletion::Column::Purging.eq(false)).into_query(),
        page: page.clone(),
        key: deletion::Column::DeletedAt.into_simple_expr(),
        direction: Direction::Descending,
    };
    let found = fetch::<deletion::Entity>(app.read(), vec![source], |_, row| position(row)).await?;
    let slice = page.slice(found.into_iter().next().unwrap_or_default());
    let folder_ids: Vec<FolderId> = slice.rows.iter().filter_map(|row| row.folder_id).collect();
    let asset_ids: Vec<AssetId> = slice.rows.iter().filter_map(|row| row.asset_id).collect();
    let mut folders = folders::by_ids(app, Scope::All, &folder_ids).await?;
    let mut assets = assets::by_ids(app, Scope::All, &asset_ids).await?;
    let nodes = slice.rows.into_iter().filter_map(|row| {
        let folder = row.folder_id.and_then(|id| folders.remove(&id));
        let folder = folder.map(|folder| Node::Folder(Arc::new(folder)));
        let asset =
            || row.asset_id.and_then(|id| assets.remove(&id)).map(|asset| Node::Asset(Arc::new(asset)));
        Some((folder.or_else(asset)?, row))
    });
    Ok(Slice {
        rows: nodes.collect(),
        has_next_page: slice.has_next_page,
        has_previous_page: slice.has_previous_page,
    })
}

/// Where a deletion stands in the trash.
#[must_use]
pub fn position(row: &deletion::Model) -> Position {
    Position { key: SortKey::Int(row.deleted_at.0), id: row.id.0 }
}

/// Deletions by id.
///
/// # Errors
/// What the database says.
pub async fn by_ids(app: &App, ids: &[DeletionId]) -> Result<HashMap<DeletionId, deletion::Model>> {
    let wanted = deletion::Column::Id.is_in(ids.iter().copied());
    let rows = deletion::Entity::find().filter(wanted).all(app.read()).await?;
    Ok(rows.into_iter().map(|row| (row.id, row)).collect())
}
