//! Reading many assets: by id, page by page, in a folder or the tree below it.

use std::collections::HashMap;
use std::sync::Arc;

use entity::{AssetId, FolderId, asset, folder};
use sea_orm::sea_query::{Alias, Query, SelectStatement, SimpleExpr, SubQueryStatement};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait as _, EntityTrait as _, IntoSimpleExpr as _, QueryFilter as _,
    QuerySelect as _, QueryTrait as _,
};

use super::{Asset, placed};
use crate::app::App;
use crate::domain::error::{Error, Result};
use crate::domain::folder::{self as folders, is_at_or_below};
use crate::domain::page::{BY_NAME, Direction, Page, Position, Slice, SortKey, Source, fetch};

/// What assets are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AssetOrder {
    /// By name.
    Name,
    /// By creation.
    CreatedAt,
    /// By last change.
    UpdatedAt,
}

/// Which assets are listed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Within {
    /// Those right in a folder.
    Folder(FolderId),
    /// Those in the folder at this path and below it.
    Tree(String),
}

/// One page of assets.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Listing {
    /// Where.
    pub within: Within,
    /// Which of them.
    pub page: Page,
    /// What they are sorted by.
    pub order: AssetOrder,
    /// Which way.
    pub direction: Direction,
}

/// Assets by id.
///
/// # Errors
/// What the database says.
pub async fn by_ids(app: &App, ids: &[AssetId]) -> Result<HashMap<AssetId, Asset>> {
    let rows = asset::Entity::find()
        .find_also_related(folder::Entity)
        .filter(asset::Column::Id.is_in(ids.iter().copied()))
        .all(app.read())
        .await?;
    Ok(rows.into_iter().filter_map(placed).map(|asset| (asset.row.id, asset)).collect())
}

/// Several pages of assets by one statement, and one more for the folders that they lie in.
///
/// # Errors
/// What the database says.
pub async fn list(app: &App, listings: &[Listing]) -> Result<HashMap<Listing, Slice<Asset>>> {
    let source = |listing: &Listing| Source {
        rows: listing.within.select().into_query(),
        page: listing.page.clone(),
        key: listing.order.column().into_simple_expr(),
        direction: listing.direction,
    };
    let sources = listings.iter().map(source).collect();
    let found =
        fetch::<asset::Entity>(app.read(), sources, |index, row| listings[index].order.position(row)).await?;
    let mut ids: Vec<FolderId> = found.iter().flatten().map(|row| row.folder_id).collect();
    ids.sort_unstable();
    ids.dedup();
    let folders = folders::by_ids(app, &ids).await?;
    let folders: HashMap<_, _> = folders.into_iter().map(|(id, folder)| (id, Arc::new(folder))).collect();
    let place = |row: asset::Model| {
        folders.get(&row.folder_id).map(|folder| Asset { folder: Arc::clone(folder), row })
    };
    let slices = listings.iter().zip(found).map(|(listing, rows)| {
        let rows = rows.into_iter().filter_map(place).collect();
        (listing.clone(), listing.page.slice(rows))
    });
    Ok(slices.collect())
}

/// How many assets there are in each of several places, by one statement for those in single folders and
/// one for each tree.
///
/// # Errors
/// What the database says.
pub async fn counts(app: &App, places: &[Within]) -> Result<HashMap<Within, i64>> {
    let folders = places.iter().filter_map(|place| match place {
        Within::Folder(id) => Some(*id),
        Within::Tree(_) => None,
    });
    let rows: Vec<(FolderId, i64)> = asset::Entity::find()
        .select_only()
        .column(asset::Column::FolderId)
        .expr(asset::Column::Id.count())
        .filter(asset::Column::FolderId.is_in(folders))
        .group_by(asset::Column::FolderId)
        .into_tuple()
        .all(app.read())
        .await?;
    let mut counts: HashMap<Within, i64> =
        rows.into_iter().map(|(id, count)| (Within::Folder(id), count)).collect();
    let trees: Vec<&Within> = places.iter().filter(|place| matches!(place, Within::Tree(_))).collect();
    for (tree, count) in trees.iter().zip(count_trees(app, &trees).await?) {
        counts.insert((*tree).clone(), count);
    }
    Ok(counts)
}

/// Counts the assets of several trees by one statement.
async fn count_trees(app: &App, trees: &[&Within]) -> Result<Vec<i64>> {
    if trees.is_empty() {
        return Ok(Vec::new());
    }
    let mut all: SelectStatement = Query::select();
    for (index, tree) in trees.iter().enumerate() {
        let count = tree.select().select_only().expr(asset::Column::Id.count()).into_query();
        let count = SimpleExpr::SubQuery(None, Box::new(SubQueryStatement::SelectStatement(count)));
        all.expr_as(count, Alias::new(format!("count_{index}")));
    }
    let row = app.read().query_one(&all).await?.ok_or_else(|| Error::internal("no counts"))?;
    let read = |index| row.try_get("", &format!("count_{index}")).map_err(Error::from);
    (0..trees.len()).map(read).collect()
}

impl Within {
    fn select(&self) -> sea_orm::Select<asset::Entity> {
        match self {
            Self::Folder(id) => asset::Entity::find().filter(asset::Column::FolderId.eq(*id)),
            Self::Tree(path) if path.is_empty() => asset::Entity::find(),
            Self::Tree(path) => {
                let folders = folder::Entity::find()
                    .select_only()
                    .column(folder::Column::Id)
                    .filter(is_at_or_below(path));
                asset::Entity::find().filter(asset::Column::FolderId.in_subquery(folders.into_query()))
            }
        }
    }
}

impl AssetOrder {
    /// The word that cursors of this order carry.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Name => BY_NAME,
            Self::CreatedAt => "CREATED_AT",
            Self::UpdatedAt => "UPDATED_AT",
        }
    }

    const fn column(self) -> asset::Column {
        match self {
            Self::Name => asset::Column::Name,
            Self::CreatedAt => asset::Column::CreatedAt,
            Self::UpdatedAt => asset::Column::UpdatedAt,
        }
    }

    /// Where `asset` stands in this order.
    #[must_use]
    pub fn position(self, asset: &asset::Model) -> Position {
        let key = match self {
            Self::Name => SortKey::Text(asset.name.clone()),
            Self::CreatedAt => SortKey::Int(asset.created_at.0),
            Self::UpdatedAt => SortKey::Int(asset.updated_at.0),
        };
        Position { key, id: asset.id.0 }
    }
}
