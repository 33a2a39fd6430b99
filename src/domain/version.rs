//! Versions: immutable contents of an asset, and which of them readers get.

use std::collections::{HashMap, HashSet};

use entity::change::ChangeType;
use entity::version::State;
use entity::{AssetId, VersionId, stored_file, version};
use sea_orm::{
    ActiveModelTrait as _, ActiveValue::Set, ColumnTrait as _, ConnectionTrait, EntityTrait as _,
    IntoActiveModel as _, IntoSimpleExpr as _, QueryFilter as _, QuerySelect as _, QueryTrait as _,
};

use super::actor::{Actor, Role};
use super::asset::{self, Asset, AssetRef};
use super::error::{Error, Result};
use super::page::{Direction, Page, Position, Slice, SortKey, Source, fetch};
use super::{Committed, Edit, check_revision, commit, text};
use crate::app::App;

/// A version and its asset, as an operation left them.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The version.
    pub version: version::Model,
    /// Its asset.
    pub asset: Asset,
}

/// What restoring did.
#[derive(Debug, Clone)]
pub struct Restored {
    /// The new version and its asset.
    pub outcome: Outcome,
    /// The version whose bytes it has.
    pub from: version::Model,
}

/// One page of the versions of an asset.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Listing {
    /// Whose.
    pub asset: AssetId,
    /// Which of them.
    pub page: Page,
    /// Only those in these states.
    pub states: Option<Vec<State>>,
    /// By number, this way.
    pub direction: Direction,
}

/// The word that cursors of versions carry.
pub const ORDER: &str = "NUMBER";

/// What a new version has.
pub(super) struct NewVersion {
    pub file: stored_file::Model,
    pub filename: String,
    pub content_type: String,
    pub label: Option<String>,
    pub restored_from: Option<VersionId>,
}

/// What becomes of a new version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Publish,
    Draft,
}

/// A version by its id.
///
/// # Errors
/// When the actor may not read.
pub async fn by_id(app: &App, actor: &Actor, id: VersionId) -> Result<Option<version::Model>> {
    actor.require(Role::Viewer)?;
    Ok(version::Entity::find_by_id(id).one(app.read()).await?)
}

/// Versions by id.
///
/// # Errors
/// What the database says.
pub async fn by_ids(app: &App, ids: &[VersionId]) -> Result<HashMap<VersionId, version::Model>> {
    let rows = version::Entity::find()
        .filter(version::Column::Id.is_in(ids.iter().copied()))
        .all(app.read())
        .await?;
    Ok(rows.into_iter().map(|row| (row.id, row)).collect())
}

/// The published versions of several assets.
///
/// # Errors
/// What the database says.
pub async fn published(app: &App, assets: &[AssetId]) -> Result<HashMap<AssetId, version::Model>> {
    let rows = version::Entity::find()
        .filter(version::Column::AssetId.is_in(assets.iter().copied()))
        .filter(version::Column::State.eq(State::Published))
        .all(app.read())
        .await?;
    Ok(rows.into_iter().map(|row| (row.asset_id, row)).collect())
}

/// Versions by asset and number.
///
/// # Errors
/// What the database says.
pub async fn by_numbers(
    app: &App,
    wanted: &[(AssetId, i32)],
) -> Result<HashMap<(AssetId, i32), version::Model>> {
    // Each part by itself: a condition for each pair would be too long for SQLite. What is too much is not kept.
    let (assets, numbers): (HashSet<AssetId>, HashSet<i32>) = wanted.iter().copied().unzip();
    let rows = version::Entity::find()
        .filter(version::Column::AssetId.is_in(assets))
        .filter(version::Column::Number.is_in(numbers))
        .all(app.read())
        .await?;
    Ok(rows.into_iter().map(|row| ((row.asset_id, row.number), row)).collect())
}

/// Several pages of versions by one statement.
///
/// # Errors
/// What the database says.
pub async fn list(app: &App, listings: &[Listing]) -> Result<HashMap<Listing, Slice<version::Model>>> {
    let source = |listing: &Listing| Source {
        rows: listing.select().into_query(),
        page: listing.page.clone(),
        key: version::Column::Number.into_simple_expr(),
        direction: listing.direction,
    };
    let sources = listings.iter().map(source).collect();
    let found = fetch::<version::Entity>(app.read(), sources, |_, row| position(row)).await?;
    let slices =
        listings.iter().zip(found).map(|(listing, rows)| (listing.clone(), listing.page.slice(rows)));
    Ok(slices.collect())
}

/// How many versions several assets have in the given states.
///
/// # Errors
/// What the database says.
pub async fn counts(
    app: &App,
    assets: &[AssetId],
    states: Option<&[State]>,
) -> Result<HashMap<AssetId, i64>> {
    let mut select = version::Entity::find()
        .select_only()
        .column(version::Column::AssetId)
        .expr(version::Column::Id.count())
        .filter(version::Column::AssetId.is_in(assets.iter().copied()))
        .group_by(version::Column::AssetId);
    if let Some(states) = states {
        select = select.filter(version::Column::State.is_in(states.iter().copied()));
    }
    let rows: Vec<(AssetId, i64)> = select.into_tuple().all(app.read()).await?;
    Ok(rows.into_iter().collect())
}

/// Where a version stands among those of its asset.
#[must_use]
pub fn position(version: &version::Model) -> Position {
    Position { key: SortKey::Int(version.number.into()), id: version.id.0 }
}

/// Makes a version the one that readers get; the one before is archived in the same commit.
///
/// # Errors
/// `NOT_FOUND`, `REVISION_CONFLICT`.
pub async fn publish(
    app: &App,
    actor: &Actor,
    id: VersionId,
    if_revision: Option<i64>,
) -> Result<Committed<Outcome>> {
    commit(app, actor, move |edit| {
        Box::pin(async move {
            let (version, asset) = lock(edit.conn(), id).await?;
            if version.state == State::Published {
                return Ok(Outcome { version, asset });
            }
            check(&asset, if_revision)?;
            let version = put_in_front(edit, version).await?;
            let asset = asset::touch(edit, asset, |_| {}).await?;
            asset::record(edit, ChangeType::AssetPublish, &asset, None, Some(&version)).await?;
            Ok(Outcome { version, asset })
        })
    })
    .await
}

/// Sets a version aside. Of a published one nothing is published afterwards.
///
/// # Errors
/// `NOT_FOUND`, `REVISION_CONFLICT`.
pub async fn archive(
    app: &App,
    actor: &Actor,
    id: VersionId,
    if_revision: Option<i64>,
) -> Result<Committed<Outcome>> {
    commit(app, actor, move |edit| {
        Box::pin(async move {
            let (version, asset) = lock(edit.conn(), id).await?;
            if version.state == State::Archived {
                return Ok(Outcome { version, asset });
            }
            check(&asset, if_revision)?;
            let version = set_aside(edit, version).await?;
            let asset = asset::touch(edit, asset, |_| {}).await?;
            asset::record(edit, ChangeType::AssetArchive, &asset, None, Some(&version)).await?;
            Ok(Outcome { version, asset })
        })
    })
    .await
}

/// Adds a new published version with the bytes of an old one. No bytes are copied.
///
/// # Errors
/// `NOT_FOUND`, `REVISION_CONFLICT`, `BAD_USER_INPUT` for a label that is too long.
pub async fn restore(
    app: &App,
    actor: &Actor,
    id: VersionId,
    label: Option<String>,
    if_revision: Option<i64>,
) -> Result<Committed<Restored>> {
    let label = checked_label(label)?;
    commit(app, actor, move |edit| {
        Box::pin(async move {
            let (from, asset) = lock(edit.conn(), id).await?;
            check(&asset, if_revision)?;
            let file = stored_file::Entity::find_by_id(from.stored_file_id).one(edit.conn()).await?;
            let new = NewVersion {
                file: file.ok_or_else(|| Error::internal(format!("{} has no stored file", from.id)))?,
                filename: from.filename.clone(),
                content_type: from.content_type.clone(),
                label: label.or_else(|| Some(format!("Restored from v{}", from.number))),
                restored_from: Some(from.id),
            };
            let outcome = add(edit, asset, new, Fate::Publish).await?;
            Ok(Restored { outcome, from })
        })
    })
    .await
}

/// What becomes of a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Label {
    /// It stays.
    Keep,
    /// There is none.
    Clear,
    /// It is this.
    Set(String),
}

/// Sets or clears the label of a version.
///
/// # Errors
/// `NOT_FOUND`, `REVISION_CONFLICT`, `BAD_USER_INPUT` for a label that is too long.
pub async fn relabel(
    app: &App,
    actor: &Actor,
    id: VersionId,
    label: Label,
    if_revision: Option<i64>,
) -> Result<Committed<Outcome>> {
    let label = match label {
        Label::Keep => None,
        Label::Clear => Some(None),
        Label::Set(label) => Some(checked_label(Some(label))?),
    };
    commit(app, actor, move |edit| {
        Box::pin(async move {
            let (version, asset) = lock(edit.conn(), id).await?;
            let label = label.unwrap_or_else(|| version.label.clone());
            if version.label == label {
                return Ok(Outcome { version, asset });
            }
            check(&asset, if_revision)?;
            let mut row = version.into_active_model();
            row.label = Set(label);
            let version = row.update(edit.conn()).await?;
            let asset = asset::touch(edit, asset, |_| {}).await?;
            asset::record(edit, ChangeType::AssetUpdate, &asset, None, Some(&version)).await?;
            Ok(Outcome { version, asset })
        })
    })
    .await
}

/// Adds the next version to a locked asset, with its entry.
pub(super) async fn add(edit: Edit<'_>, asset: Asset, new: NewVersion, fate: Fate) -> Result<Outcome> {
    let number = asset.row.latest_number + 1;
    let row = version::ActiveModel {
        id: Set(VersionId(edit.new_id())),
        asset_id: Set(asset.row.id),
        number: Set(number),
        state: Set(State::Draft),
        label: Set(new.label),
        filename: Set(new.filename),
        content_type: Set(new.content_type),
        stored_file_id: Set(new.file.id),
        size_bytes: Set(new.file.size_bytes),
        sha256: Set(new.file.sha256),
        restored_from_id: Set(new.restored_from),
        created_at: Set(edit.now()),
        created_by: Set(edit.by()),
        published_at: Set(None),
        published_by: Set(None),
        archived_at: Set(None),
        archived_by: Set(None),
    };
    let mut version = row.insert(edit.conn()).await?;
    let mut kind = ChangeType::VersionCreate;
    if fate == Fate::Publish {
        version = put_in_front(edit, version).await?;
        kind = ChangeType::AssetPublish;
    }
    let asset = asset::touch(edit, asset, |row| row.latest_number = Set(number)).await?;
    asset::record(edit, kind, &asset, None, Some(&version)).await?;
    Ok(Outcome { version, asset })
}

/// A label as it is stored; an empty one is none.
pub(super) fn checked_label(label: Option<String>) -> Result<Option<String>> {
    let label = label.map(|label| text::free_text(&label, "input.label")).transpose()?;
    Ok(label.filter(|label| !label.is_empty()))
}

/// Archives the published version, if there is one, and publishes `version`.
async fn put_in_front(edit: Edit<'_>, version: version::Model) -> Result<version::Model> {
    let before = version::Entity::find()
        .filter(version::Column::AssetId.eq(version.asset_id))
        .filter(version::Column::State.eq(State::Published))
        .one(edit.conn())
        .await?;
    if let Some(before) = before {
        set_aside(edit, before).await?;
    }
    let mut row = version.into_active_model();
    row.state = Set(State::Published);
    row.published_at = Set(Some(edit.now()));
    row.published_by = Set(Some(edit.by()));
    row.archived_at = Set(None);
    row.archived_by = Set(None);
    Ok(row.update(edit.conn()).await?)
}

async fn set_aside(edit: Edit<'_>, version: version::Model) -> Result<version::Model> {
    let mut row = version.into_active_model();
    row.state = Set(State::Archived);
    row.archived_at = Set(Some(edit.now()));
    row.archived_by = Set(Some(edit.by()));
    Ok(row.update(edit.conn()).await?)
}

/// A version and its asset, held against other writers until the transaction ends.
async fn lock(conn: &impl ConnectionTrait, id: VersionId) -> Result<(version::Model, Asset)> {
    let not_found = || Error::NotFound(format!("there is no version {id}"));
    let version = version::Entity::find_by_id(id).one(conn).await?.ok_or_else(not_found)?;
    // The asset first: who changes a version holds its asset. Then the version as it is under that lock.
    let asset = asset::lock(conn, &AssetRef::Id(version.asset_id)).await?;
    let version = version::Entity::find_by_id(id).lock_exclusive().one(conn).await?.ok_or_else(not_found)?;
    Ok((version, asset))
}

fn check(asset: &Asset, if_revision: Option<i64>) -> Result<()> {
    check_revision(|| format!("asset {}", asset.path()), if_revision, asset.row.revision)
}

impl Listing {
    fn select(&self) -> sea_orm::Select<version::Entity> {
        let select = version::Entity::find().filter(version::Column::AssetId.eq(self.asset));
        match &self.states {
            Some(states) => select.filter(version::Column::State.is_in(states.iter().copied())),
            None => select,
        }
    }
}

/// The immutable URL of a version: these bytes for ever.
#[must_use]
pub fn url(app: &App, version: &version::Model) -> String {
    format!("{}/v/{}/{}", app.public_url(), version.id, super::path::percent_encode(&version.filename))
}

/// The bytes of a version.
#[derive(Debug, Clone)]
pub struct Content {
    /// The version.
    pub version: version::Model,
    /// Who may read it.
    pub access: Access,
}

/// Who may keep a copy of the bytes on the way to the reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anyone.
    Public,
    /// Only who asked.
    Private,
}

/// What readers get at the stable URL of `path`: the published version.
///
/// # Errors
/// `NOT_FOUND` when nothing is published there, or the actor may not know of it.
pub async fn published_at(app: &App, actor: &Actor, path: &super::path::TreePath) -> Result<Content> {
    let not_found = || Error::NotFound(format!("nothing is published at {path}"));
    let asset = asset::find(app.read(), path).await?.ok_or_else(not_found)?;
    let published = published(app, &[asset.row.id]).await?.remove(&asset.row.id).ok_or_else(not_found)?;
    let access = access(actor, &asset.row, &published).ok_or_else(not_found)?;
    Ok(Content { version: published, access })
}

/// What readers get at the immutable URL of a version.
///
/// # Errors
/// `NOT_FOUND` when there is none, or the actor may not know of it.
pub async fn content(app: &App, actor: &Actor, id: VersionId) -> Result<Content> {
    let not_found = || Error::NotFound(format!("there is no version {id}"));
    let row =
        version::Entity::find_by_id(id).find_also_related(entity::asset::Entity).one(app.read()).await?;
    let (version, asset) = row.ok_or_else(not_found)?;
    let asset = asset.ok_or_else(not_found)?;
    let access = access(actor, &asset, &version).ok_or_else(not_found)?;
    Ok(Content { version, access })
}

/// Whether the actor may read a version, and who may keep a copy of it.
fn access(actor: &Actor, asset: &entity::asset::Model, version: &version::Model) -> Option<Access> {
    // What was published once stays readable at its own URL; a draft that was set aside never was.
    let open = asset.visibility == entity::asset::Visibility::Public && version.published_at.is_some();
    match (open, actor.require(Role::Viewer)) {
        (true, _) => Some(Access::Public),
        (false, Ok(())) => Some(Access::Private),
        (false, Err(_)) => None,
    }
}
