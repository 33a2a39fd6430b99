//! Reading many folders: by id, by path, page by page.

use std::collections::HashMap;

use entity::{FolderId, folder};
use sea_orm::{
    ColumnTrait as _, EntityTrait as _, IntoSimpleExpr as _, QueryFilter as _, QuerySelect as _,
    QueryTrait as _,
};

use crate::app::App;
use crate::domain::error::Result;
use crate::domain::page::{BY_NAME, Direction, Page, Position, Slice, SortKey, Source, fetch};
use crate::domain::path::name_of;

/// What folders are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FolderOrder {
    /// By name.
    Name,
    /// By creation.
    CreatedAt,
    /// By last change.
    UpdatedAt,
}

/// One page of the folders in a folder.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Listing {
    /// The folder that they lie in.
    pub parent: FolderId,
    /// Which of them.
    pub page: Page,
    /// What they are sorted by.
    pub order: FolderOrder,
    /// Which way.
    pub direction: Direction,
}

/// Folders by id.
///
/// # Errors
/// What the database says.
pub async fn by_ids(app: &App, ids: &[FolderId]) -> Result<HashMap<FolderId, folder::Model>> {
    let rows =
        folder::Entity::find().filter(folder::Column::Id.is_in(ids.iter().copied())).all(app.read()).await?;
    Ok(rows.into_iter().map(|row| (row.id, row)).collect())
}

/// The folders at several paths, by path.
///
/// # Errors
/// What the database says.
pub async fn by_paths(app: &App, paths: &[String]) -> Result<HashMap<String, folder::Model>> {
    let rows = folder::Entity::find().filter(folder::Column::Path.is_in(paths)).all(app.read()).await?;
    Ok(rows.into_iter().map(|row| (row.path.clone(), row)).collect())
}

/// Several pages of subfolders by one statement.
///
/// # Errors
/// What the database says.
pub async fn list(app: &App, listings: &[Listing]) -> Result<HashMap<Listing, Slice<folder::Model>>> {
    let source = |listing: &Listing| Source {
        rows: folder::Entity::find().filter(folder::Column::ParentId.eq(listing.parent)).into_query(),
        page: listing.page.clone(),
        key: listing.order.column().into_simple_expr(),
        direction: listing.direction,
    };
    let sources = listings.iter().map(source).collect();
    let found =
        fetch::<folder::Entity>(app.read(), sources, |index, row| listings[index].order.position(row))
            .await?;
    let slices =
        listings.iter().zip(found).map(|(listing, rows)| (listing.clone(), listing.page.slice(rows)));
    Ok(slices.collect())
}

/// How many folders lie right in each of several.
///
/// # Errors
/// What the database says.
pub async fn counts(app: &App, parents: &[FolderId]) -> Result<HashMap<FolderId, i64>> {
    let rows: Vec<(FolderId, i64)> = folder::Entity::find()
        .select_only()
        .column(folder::Column::ParentId)
        .expr(folder::Column::Id.count())
        .filter(folder::Column::ParentId.is_in(parents.iter().copied()))
        .group_by(folder::Column::ParentId)
        .into_tuple()
        .all(app.read())
        .await?;
    Ok(rows.into_iter().collect())
}

impl FolderOrder {
    /// The word that cursors of this order carry.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Name => BY_NAME,
            Self::CreatedAt => "CREATED_AT",
            Self::UpdatedAt => "UPDATED_AT",
        }
    }

    const fn column(self) -> folder::Column {
        match self {
            Self::Name => folder::Column::Name,
            Self::CreatedAt => folder::Column::CreatedAt,
            Self::UpdatedAt => folder::Column::UpdatedAt,
        }
    }

    /// Where `folder` stands in this order.
    #[must_use]
    pub fn position(self, folder: &folder::Model) -> Position {
        let key = match self {
            Self::Name => SortKey::Text(name_of(&folder.path).to_owned()),
            Self::CreatedAt => SortKey::Int(folder.created_at.0),
            Self::UpdatedAt => SortKey::Int(folder.updated_at.0),
        };
        Position { key, id: folder.id.0 }
    }
}
