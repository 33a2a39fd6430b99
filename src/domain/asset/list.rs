//! Reading many assets: by id, page by page, in a folder or the tree below it.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use entity::{AssetId, DeletionId, FolderId, asset, deletion, folder};
use sea_orm::sea_query::{Alias, Query, SelectStatement, SimpleExpr, SubQueryStatement};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DbBackend, EntityTrait as _, IntoSimpleExpr as _, QueryFilter as _,
    QuerySelect as _, QueryTrait as _, Select,
};

use super::filter::AssetFilter;
use super::{Asset, placed};
use crate::app::App;
use crate::domain::error::{Error, Result};
use crate::domain::folder::{self as folders, is_at_or_below};
use crate::domain::former;
use crate::domain::page::{BY_NAME, Direction, Page, Position, Slice, SortKey, Source, fetch};
use crate::domain::quick;
use crate::domain::scope::Scope;

/// What assets are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AssetOrder {
    /// By name.
    Name,
    /// By creation.
    CreatedAt,
    /// By last change.
    UpdatedAt,
    /// By size of the published version; what has none counts as empty.
    Size,
}

/// Where assets are listed from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Within {
    /// Those right in a folder.
    Folder(Parent),
    /// Those in the folder at this path and below it.
    Tree(String),
}

/// The folder that assets lie in. Two are the same when their ids are.
#[derive(Debug, Clone)]
pub struct Parent(pub Arc<folder::Model>);

impl PartialEq for Parent {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for Parent {}

impl Hash for Parent {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.id.hash(state);
    }
}

/// Which assets are listed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Selection {
    /// Where.
    pub within: Within,
    /// Only those that match.
    pub filter: Option<Arc<AssetFilter>>,
}

/// One page of assets.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Listing {
    /// Which of them all.
    pub selection: Selection,
    /// Which of those.
    pub page: Page,
    /// What they are sorted by.
    pub order: AssetOrder,
    /// Which way.
    pub direction: Direction,
    /// What is read with them, where that saves asking for it.
    pub along: Along,
}

/// What is read with assets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Along {
    /// Nothing: their rows tell what is wanted, or it is asked for later.
    Nothing,
    /// The published version.
    Published,
}

/// Assets by id, those in the trash too.
///
/// # Errors
/// What the database says.
pub async fn by_ids(app: &App, scope: Scope, ids: &[AssetId]) -> Result<HashMap<AssetId, Asset>> {
    let rows = asset::Entity::find()
        .find_also_related(folder::Entity)
        .filter(asset::Column::Id.is_in(ids.iter().copied()))
        .all(app.read())
        .await?;
    let mut assets: Vec<Asset> = rows.into_iter().filter_map(placed).collect();
    tell_where_deleted(app.read(), &mut assets).await?;
    let seen = assets.into_iter().filter_map(|asset| scope.asset(asset));
    Ok(seen.map(|asset| (asset.row.id, asset)).collect())
}

/// An asset by id, in the trash or not.
pub(in crate::domain) async fn with_trash(conn: &impl ConnectionTrait, id: AssetId) -> Result<Option<Asset>> {
    let row = asset::Entity::find_by_id(id).find_also_related(folder::Entity).one(conn).await?;
    let mut found: Vec<Asset> = row.and_then(placed).into_iter().collect();
    tell_where_deleted(conn, &mut found).await?;
    Ok(found.pop())
}

/// Assets by id that are not in the trash.
pub(in crate::domain) async fn live_by_ids(
    conn: &impl ConnectionTrait,
    ids: &[AssetId],
) -> Result<Vec<Asset>> {
    let rows = asset::Entity::find()
        .find_also_related(folder::Entity)
        .filter(asset::Column::Id.is_in(ids.iter().copied()))
        .filter(asset::Column::DeletionId.is_null())
        .filter(folder::Column::DeletionId.is_null())
        .all(conn)
        .await?;
    Ok(rows.into_iter().filter_map(placed).collect())
}

/// Gives those that went to the trash by themselves the path that they had; costs nothing when there are none.
async fn tell_where_deleted(conn: &impl ConnectionTrait, assets: &mut [Asset]) -> Result<()> {
    let ids: Vec<DeletionId> = assets.iter().filter_map(|asset| asset.row.deletion_id).collect();
    if ids.is_empty() {
        return Ok(());
    }
    let rows = deletion::Entity::find().filter(deletion::Column::Id.is_in(ids)).all(conn).await?;
    let paths: HashMap<DeletionId, String> = rows.into_iter().map(|row| (row.id, row.path)).collect();
    for asset in assets {
        asset.deleted_from = asset.row.deletion_id.and_then(|id| paths.get(&id).cloned());
    }
    Ok(())
}

/// The paths that assets had before and that nothing else took since, newest first.
///
/// # Errors
/// What the database says.
pub async fn former_paths(
    app: &App,
    scope: Scope,
    assets: &[&Asset],
) -> Result<HashMap<AssetId, Vec<String>>> {
    // They may tell of folders that strangers do not see. Whoever knows one is led on from it.
    if scope == Scope::Shown {
        return Ok(HashMap::new());
    }
    // Nothing leads to one in the trash, and of one that is told of as it was then there is no telling.
    let here = |asset: &&&Asset| asset.as_of.is_none() && asset.deletion_id().is_none();
    let now: Vec<&Asset> = assets.iter().filter(here).copied().collect();
    former::paths(app.read(), &now).await
}

/// A page of what most lists are made of, with the published versions; none when it is another kind.
fn quick_page(app: &App, scope: Scope, listing: &Listing) -> Option<Slice<Asset>> {
    match (&listing.selection, listing.order) {
        (Selection { within: Within::Folder(folder), filter: None }, AssetOrder::Name) => {
            let rows =
                quick::assets_in(app, scope, &folder.0, &listing.page, listing.direction, listing.along)?;
            Some(listing.page.slice(rows))
        }
        _ => None,
    }
}

/// Several pages of assets by one statement, and one more for the folders that they lie in.
///
/// # Errors
/// What the database says.
pub async fn list(app: &App, scope: Scope, listings: &[Listing]) -> Result<HashMap<Listing, Slice<Asset>>> {
    if let [listing] = listings
        && let Some(slice) = quick_page(app, scope, listing)
    {
        return Ok(HashMap::from([(listing.clone(), slice)]));
    }
    list_ordinarily(app, scope, listings).await
}

/// As [`list`], whatever the database.
///
/// # Errors
/// What the database says.
pub(in crate::domain) async fn list_ordinarily(
    app: &App,
    scope: Scope,
    listings: &[Listing],
) -> Result<HashMap<Listing, Slice<Asset>>> {
    let backend = app.read().get_database_backend();
    let source = |listing: &Listing| Source {
        rows: listing.selection.select(scope, backend).into_query(),
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
    let folders =
        if ids.is_empty() { HashMap::new() } else { folders::by_ids(app, Scope::All, &ids).await? };
    let folders: HashMap<_, _> = folders.into_iter().map(|(id, folder)| (id, Arc::new(folder))).collect();
    let place = |row: asset::Model| {
        let folder = Arc::clone(folders.get(&row.folder_id)?);
        scope.asset(Asset { folder, row, published: None, deleted_from: None, as_of: None })
    };
    let slices = listings.iter().zip(found).map(|(listing, rows)| {
        let rows = rows.into_iter().filter_map(place).collect();
        (listing.clone(), listing.page.slice(rows))
    });
    Ok(slices.collect())
}

/// How many assets there are in each of several selections, by one statement for those in single folders
/// without a filter and one for all others.
///
/// # Errors
/// What the database says.
pub async fn counts(app: &App, scope: Scope, selections: &[Selection]) -> Result<HashMap<Selection, i64>> {
    let plain = |selection: &Selection| match &selection.within {
        Within::Folder(folder) if selection.filter.is_none() => Some(folder.0.id),
        _ => None,
    };
    let folders: Vec<FolderId> = selections.iter().filter_map(plain).collect();
    let mut counts = HashMap::new();
    if !folders.is_empty() {
        let rows: Vec<(FolderId, i64)> = asset::Entity::find()
            .select_only()
            .column(asset::Column::FolderId)
            .expr(asset::Column::Id.count())
            .filter(asset::Column::DeletionId.is_null())
            .filter(asset::Column::FolderId.is_in(folders))
            .apply_if(scope.assets(), Select::filter)
            .group_by(asset::Column::FolderId)
            .into_tuple()
            .all(app.read())
            .await?;
        let rows: HashMap<FolderId, i64> = rows.into_iter().collect();
        let counted = selections
            .iter()
            .filter_map(|selection| Some((selection.clone(), *rows.get(&plain(selection)?)?)));
        counts.extend(counted);
    }
    let others: Vec<&Selection> = selections.iter().filter(|selection| plain(selection).is_none()).collect();
    for (selection, count) in others.iter().zip(count_each(app, scope, &others).await?) {
        counts.insert((*selection).clone(), count);
    }
    Ok(counts)
}

/// Counts several selections by one statement.
async fn count_each(app: &App, scope: Scope, selections: &[&Selection]) -> Result<Vec<i64>> {
    if selections.is_empty() {
        return Ok(Vec::new());
    }
    let backend = app.read().get_database_backend();
    let mut all: SelectStatement = Query::select();
    for (index, selection) in selections.iter().enumerate() {
        let count =
            selection.select(scope, backend).select_only().expr(asset::Column::Id.count()).into_query();
        let count = SimpleExpr::SubQuery(None, Box::new(SubQueryStatement::SelectStatement(count)));
        all.expr_as(count, Alias::new(format!("count_{index}")));
    }
    let row = app.read().query_one(&all).await?.ok_or_else(|| Error::internal("no counts"))?;
    let read = |index| row.try_get("", &format!("count_{index}")).map_err(Error::from);
    (0..selections.len()).map(read).collect()
}

impl Selection {
    fn select(&self, scope: Scope, backend: DbBackend) -> Select<asset::Entity> {
        let seen = self.within.select().apply_if(scope.assets(), Select::filter);
        match &self.filter {
            Some(filter) => seen.filter(filter.condition(backend)),
            None => seen,
        }
    }
}

impl Within {
    /// What is there, without what is in the trash.
    fn select(&self) -> Select<asset::Entity> {
        let kept = asset::Entity::find().filter(asset::Column::DeletionId.is_null());
        let folders = folder::Entity::find().select_only().column(folder::Column::Id);
        match self {
            Self::Folder(folder) => kept.filter(asset::Column::FolderId.eq(folder.0.id)),
            Self::Tree(path) if path.is_empty() => {
                let trashed = folders.filter(folder::Column::DeletionId.is_not_null());
                kept.filter(asset::Column::FolderId.not_in_subquery(trashed.into_query()))
            }
            Self::Tree(path) => {
                let below = folders.filter(is_at_or_below(path));
                kept.filter(asset::Column::FolderId.in_subquery(below.into_query()))
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
            Self::Size => "SIZE",
        }
    }

    const fn column(self) -> asset::Column {
        match self {
            Self::Name => asset::Column::Name,
            Self::CreatedAt => asset::Column::CreatedAt,
            Self::UpdatedAt => asset::Column::UpdatedAt,
            Self::Size => asset::Column::PublishedSizeBytes,
        }
    }

    /// Where an asset with this name stands in the order of names.
    #[must_use]
    pub fn position_by_name(name: &str, id: AssetId) -> Position {
        Position { key: SortKey::Text(name.to_owned()), id: id.0 }
    }

    /// Where `asset` stands in this order.
    #[must_use]
    pub fn position(self, asset: &asset::Model) -> Position {
        let key = match self {
            Self::Name => SortKey::Text(asset.name.clone()),
            Self::CreatedAt => SortKey::Int(asset.created_at.0),
            Self::UpdatedAt => SortKey::Int(asset.updated_at.0),
            Self::Size => SortKey::Int(asset.published_size_bytes),
        };
        Position { key, id: asset.id.0 }
    }
}
