//! Reading many folders: by id, by path, page by page.

use std::collections::HashMap;

use entity::{DeletionId, FolderId, folder};
use sea_orm::{
    ColumnTrait as _, EntityTrait as _, IntoSimpleExpr as _, QueryFilter as _, QuerySelect as _,
    QueryTrait as _, Select,
};

use crate::app::App;
use crate::domain::error::Result;
use crate::domain::page::{BY_NAME, Direction, Page, Position, Slice, SortKey, Source, fetch};
use crate::domain::path::name_of;
use crate::domain::scope::Scope;

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

/// The folders in a folder. Those in one that is in the trash are those that went with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Inside {
    /// The folder that they lie in.
    pub parent: FolderId,
    /// The deletion that took it.
    pub deletion: Option<DeletionId>,
}

/// One page of the folders in a folder.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Listing {
    /// The folder that they lie in.
    pub inside: Inside,
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
pub async fn by_ids(app: &App, scope: Scope, ids: &[FolderId]) -> Result<HashMap<FolderId, folder::Model>> {
    let rows = folder::Entity::find()
        .filter(folder::Column::Id.is_in(ids.iter().copied()))
        .apply_if(scope.folders(), Select::filter)
        .all(app.read())
        .await?;
    Ok(rows.into_iter().map(|row| (row.id, scope.folder(row))).collect())
}

/// The folders at several paths, by path.
///
/// # Errors
/// What the database says.
pub async fn by_paths(app: &App, scope: Scope, paths: &[String]) -> Result<HashMap<String, folder::Model>> {
    let rows = super::live()
        .filter(folder::Column::Path.is_in(paths))
        .apply_if(scope.folders(), Select::filter)
        .all(app.read())
        .await?;
    Ok(rows.into_iter().map(|row| (row.path.clone(), scope.folder(row))).collect())
}

/// Several pages of subfolders by one statement.
///
/// # Errors
/// What the database says.
pub async fn list(
    app: &App,
    scope: Scope,
    listings: &[Listing],
) -> Result<HashMap<Listing, Slice<folder::Model>>> {
    let source = |listing: &Listing| Source {
        rows: listing.inside.select().apply_if(scope.subfolders(), Select::filter).into_query(),
        page: listing.page.clone(),
        key: listing.order.column().into_simple_expr(),
        direction: listing.direction,
    };
    let sources = listings.iter().map(source).collect();
    let found =
        fetch::<folder::Entity>(app.read(), sources, |index, row| listings[index].order.position(row))
            .await?;
    let slices = listings.iter().zip(found).map(|(listing, rows)| {
        let rows = rows.into_iter().map(|row| scope.folder(row)).collect();
        (listing.clone(), listing.page.slice(rows))
    });
    Ok(slices.collect())
}

/// How many folders lie right in each of several.
///
/// # Errors
/// What the database says.
pub async fn counts(app: &App, scope: Scope, places: &[Inside]) -> Result<HashMap<Inside, i64>> {
    let rows: Vec<(FolderId, Option<DeletionId>, i64)> = folder::Entity::find()
        .select_only()
        .column(folder::Column::ParentId)
        .column(folder::Column::DeletionId)
        .expr(folder::Column::Id.count())
        .filter(folder::Column::ParentId.is_in(places.iter().map(|place| place.parent)))
        .apply_if(scope.subfolders(), Select::filter)
        .group_by(folder::Column::ParentId)
        .group_by(folder::Column::DeletionId)
        .into_tuple()
        .all(app.read())
        .await?;
    let counted = rows.into_iter().map(|(parent, deletion, count)| (Inside { parent, deletion }, count));
    // What went to the trash by another deletion is counted for nobody.
    Ok(counted.filter(|(place, _)| places.contains(place)).collect())
}

impl Inside {
    /// What lies in `folder`.
    #[must_use]
    pub const fn of(folder: &folder::Model) -> Self {
        Self { parent: folder.id, deletion: folder.deletion_id }
    }

    fn select(&self) -> Select<folder::Entity> {
        let inside = folder::Entity::find().filter(folder::Column::ParentId.eq(self.parent));
        match self.deletion {
            Some(deletion) => inside.filter(folder::Column::DeletionId.eq(deletion)),
            None => inside.filter(folder::Column::DeletionId.is_null()),
        }
    }
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
