//! Versions: immutable contents of an asset, and which of them readers get.

mod content;

use std::collections::{HashMap, HashSet};

use entity::change::ChangeType;
use entity::version::State;
use entity::{AssetId, VersionId, stored_file, version};
use sea_orm::{
    ActiveModelTrait as _, ActiveValue::Set, ColumnTrait as _, ConnectionTrait, EntityTrait as _,
    IntoActiveModel as _, IntoSimpleExpr as _, QueryFilter as _, QuerySelect as _, QueryTrait as _, Select,
};

use super::actor::Actor;
use super::asset::{self, Asset, AssetRef};
use super::error::{Error, Result};
use super::page::{Direction, Page, Position, Slice, SortKey, Source, fetch};
use super::rows::{self, OnRows, Rows};
use super::scope::Scope;
use super::{Committed, Edit, check_revision, commit, content_type, quick, text, writes_alone};
use crate::app::{App, Wants};

pub use content::{
    Access, Content, Credential, Disposition, Found, Kept, Memory, SignedUrl, TextBudget, check_signature,
    content, published_at, read_text, signed_url, url, url_of,
};
#[cfg(test)]
pub(super) use content::{kept_at_ordinarily, kept_ordinarily};

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

/// A version by its id, if the actor sees it.
///
/// # Errors
/// What the database says.
pub async fn by_id(app: &App, actor: &Actor, id: VersionId) -> Result<Option<version::Model>> {
    Ok(by_ids(app, actor.scope(), &[id]).await?.remove(&id))
}

/// Versions by id.
///
/// # Errors
/// What the database says.
pub async fn by_ids(
    app: &App,
    scope: Scope,
    ids: &[VersionId],
) -> Result<HashMap<VersionId, version::Model>> {
    let rows = version::Entity::find()
        .filter(version::Column::Id.is_in(ids.iter().copied()))
        .apply_if(scope.versions_of_any(), Select::filter)
        .all(app.read())
        .await?;
    Ok(rows.into_iter().filter_map(|row| scope.version(row)).map(|row| (row.id, row)).collect())
}

/// Versions by asset and number.
///
/// # Errors
/// What the database says.
pub async fn by_numbers(
    app: &App,
    scope: Scope,
    wanted: &[(AssetId, i32)],
) -> Result<HashMap<(AssetId, i32), version::Model>> {
    // Each part by itself: a condition for each pair would be too long for SQLite. What is too much is not kept.
    let (assets, numbers): (HashSet<AssetId>, HashSet<i32>) = wanted.iter().copied().unzip();
    let rows = version::Entity::find()
        .filter(version::Column::AssetId.is_in(assets))
        .filter(version::Column::Number.is_in(numbers))
        .all(app.read())
        .await?;
    let seen = rows.into_iter().filter_map(|row| scope.version(row));
    Ok(seen.map(|row| ((row.asset_id, row.number), row)).collect())
}

/// Several pages of versions by one statement.
///
/// # Errors
/// What the database says.
pub async fn list(
    app: &App,
    scope: Scope,
    listings: &[Listing],
) -> Result<HashMap<Listing, Slice<version::Model>>> {
    if scope == Scope::All
        && let [listing @ Listing { states: None, .. }] = listings
        && let Some(rows) = quick::versions_of(app, listing.asset, &listing.page, listing.direction)
    {
        return Ok(HashMap::from([(listing.clone(), listing.page.slice(rows))]));
    }
    list_ordinarily(app, scope, listings).await
}

/// As [`list`], whatever the database.
///
/// # Errors
/// What the database says.
pub(super) async fn list_ordinarily(
    app: &App,
    scope: Scope,
    listings: &[Listing],
) -> Result<HashMap<Listing, Slice<version::Model>>> {
    let source = |listing: &Listing| Source {
        rows: listing.select().apply_if(scope.versions(), Select::filter).into_query(),
        page: listing.page.clone(),
        key: version::Column::Number.into_simple_expr(),
        direction: listing.direction,
    };
    let sources = listings.iter().map(source).collect();
    let found = fetch::<version::Entity>(app.read(), sources, |_, row| position(row)).await?;
    let slices = listings.iter().zip(found).map(|(listing, rows)| {
        let rows = rows.into_iter().filter_map(|row| scope.version(row)).collect();
        (listing.clone(), listing.page.slice(rows))
    });
    Ok(slices.collect())
}

/// How many versions several assets have in the given states.
///
/// # Errors
/// What the database says.
pub async fn counts(
    app: &App,
    scope: Scope,
    assets: &[AssetId],
    states: Option<&[State]>,
) -> Result<HashMap<AssetId, i64>> {
    let mut select = version::Entity::find()
        .select_only()
        .column(version::Column::AssetId)
        .expr(version::Column::Id.count())
        .filter(version::Column::AssetId.is_in(assets.iter().copied()))
        .apply_if(scope.versions(), Select::filter)
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

/// Which version an operation is about, and the revision that its asset has to have.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// The version.
    pub id: VersionId,
    /// Refuse unless this is the revision of its asset.
    pub if_revision: Option<i64>,
}

/// Makes a version the one that readers get; the one before is archived in the same commit.
///
/// # Errors
/// `NOT_FOUND`, `REVISION_CONFLICT`.
pub async fn publish(app: &App, actor: &Actor, target: Target) -> Result<Committed<Outcome>> {
    rows::commit(app, actor, Publishing(target)).await
}

#[derive(Clone)]
struct Publishing(Target);

impl OnRows for Publishing {
    type Outcome = Outcome;

    fn wants(&self) -> Wants {
        Wants { version: Some(self.0.id), ..Wants::default() }
    }

    async fn run<R: Rows>(self, rows: R) -> Result<Outcome> {
        publish_in(rows, self.0).await
    }
}

pub(super) async fn publish_in(edit: impl Rows, target: Target) -> Result<Outcome> {
    let (version, asset) = edit.version(target.id).await?;
    if version.state == State::Published {
        return Ok(Outcome { version, asset });
    }
    check(&asset, target.if_revision)?;
    set_aside_published(edit, &asset).await?;
    let version = version::Model {
        state: State::Published,
        published_at: Some(edit.now()),
        published_by: Some(edit.by()),
        archived_at: None,
        archived_by: None,
        ..version
    };
    edit.update_version(&version).await?;
    let asset = asset::touch(edit, asset, |row| show(row, Some(&version))).await?;
    asset::record(edit, ChangeType::AssetPublish, &asset, None, Some(&version)).await?;
    Ok(Outcome { version, asset })
}

/// Sets a version aside. Of a published one nothing is published afterwards.
///
/// # Errors
/// `NOT_FOUND`, `REVISION_CONFLICT`.
pub async fn archive(app: &App, actor: &Actor, target: Target) -> Result<Committed<Outcome>> {
    commit(app, actor, move |edit| Box::pin(archive_in(edit, target))).await
}

pub(super) async fn archive_in(edit: Edit<'_>, target: Target) -> Result<Outcome> {
    let (version, asset) = lock(edit.conn(), target.id).await?;
    if version.state == State::Archived {
        return Ok(Outcome { version, asset });
    }
    check(&asset, target.if_revision)?;
    let was_published = version.state == State::Published;
    let mut row = version.into_active_model();
    row.state = Set(State::Archived);
    row.archived_at = Set(Some(edit.now()));
    row.archived_by = Set(Some(edit.by()));
    let version = row.update(edit.conn()).await?;
    let hide = |row: &mut entity::asset::Model| {
        if was_published {
            show(row, None);
        }
    };
    let asset = asset::touch(edit, asset, hide).await?;
    asset::record(edit, ChangeType::AssetArchive, &asset, None, Some(&version)).await?;
    Ok(Outcome { version, asset })
}

/// An old version whose bytes are to be published again.
#[derive(Debug, Clone)]
pub struct Restoration {
    /// The old version.
    pub target: Target,
    /// Label of the new one; by default it says where from.
    pub label: Option<String>,
}

/// Adds a new published version with the bytes of an old one. No bytes are copied.
///
/// # Errors
/// `NOT_FOUND`, `REVISION_CONFLICT`, `BAD_USER_INPUT` for a label that is too long.
pub async fn restore(app: &App, actor: &Actor, restoration: Restoration) -> Result<Committed<Restored>> {
    rows::commit(app, actor, restoration).await
}

impl OnRows for Restoration {
    type Outcome = Restored;

    fn wants(&self) -> Wants {
        Wants { version: Some(self.target.id), content: true, ..Wants::default() }
    }

    async fn run<R: Rows>(self, rows: R) -> Result<Restored> {
        restore_in(rows, self).await
    }
}

pub(super) async fn restore_in(edit: impl Rows, restoration: Restoration) -> Result<Restored> {
    let label = checked_label(restoration.label)?;
    let (from, asset) = edit.version(restoration.target.id).await?;
    check(&asset, restoration.target.if_revision)?;
    let file = edit.file(from.stored_file_id).await?;
    let new = NewVersion {
        file: file.ok_or_else(|| Error::internal(format!("{} has no stored file", from.id)))?,
        filename: from.filename.clone(),
        content_type: from.content_type.clone(),
        label: label.or_else(|| Some(format!("Restored from v{}", from.number))),
        restored_from: Some(from.id),
    };
    let outcome = add(edit, asset, new, Fate::Publish).await?;
    Ok(Restored { outcome, from })
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

/// A label for a version.
#[derive(Debug, Clone)]
pub struct Relabelling {
    /// Which version.
    pub target: Target,
    /// What becomes of its label.
    pub label: Label,
}

/// Sets or clears the label of a version.
///
/// # Errors
/// `NOT_FOUND`, `REVISION_CONFLICT`, `BAD_USER_INPUT` for a label that is too long.
pub async fn relabel(app: &App, actor: &Actor, relabelling: Relabelling) -> Result<Committed<Outcome>> {
    commit(app, actor, move |edit| Box::pin(relabel_in(edit, relabelling))).await
}

pub(super) async fn relabel_in(edit: Edit<'_>, relabelling: Relabelling) -> Result<Outcome> {
    let label = match relabelling.label {
        Label::Keep => None,
        Label::Clear => Some(None),
        Label::Set(label) => Some(checked_label(Some(label))?),
    };
    let (version, asset) = lock(edit.conn(), relabelling.target.id).await?;
    let label = label.unwrap_or_else(|| version.label.clone());
    if version.label == label {
        return Ok(Outcome { version, asset });
    }
    check(&asset, relabelling.target.if_revision)?;
    let mut row = version.into_active_model();
    row.label = Set(label);
    let version = row.update(edit.conn()).await?;
    let asset = asset::touch(edit, asset, |_| {}).await?;
    asset::record(edit, ChangeType::AssetUpdate, &asset, None, Some(&version)).await?;
    Ok(Outcome { version, asset })
}

/// Adds the next version to a locked asset, with its entry.
pub(super) async fn add(edit: impl Rows, asset: Asset, new: NewVersion, fate: Fate) -> Result<Outcome> {
    let number = asset.row.latest_number + 1;
    let published = fate == Fate::Publish;
    if published {
        set_aside_published(edit, &asset).await?;
    }
    let version = version::Model {
        id: VersionId(edit.new_id()),
        asset_id: asset.row.id,
        number,
        state: if published { State::Published } else { State::Draft },
        label: new.label,
        filename: new.filename,
        content_type: new.content_type,
        stored_file_id: new.file.id,
        size_bytes: new.file.size_bytes,
        sha256: new.file.sha256,
        restored_from_id: new.restored_from,
        created_at: edit.now(),
        created_by: edit.by(),
        published_at: published.then(|| edit.now()),
        published_by: published.then(|| edit.by()),
        archived_at: None,
        archived_by: None,
    };
    edit.insert_version(&version).await?;
    let asset = asset::touch(edit, asset, |row| {
        row.latest_number = number;
        if published {
            show(row, Some(&version));
        }
    })
    .await?;
    let kind = if published { ChangeType::AssetPublish } else { ChangeType::VersionCreate };
    asset::record(edit, kind, &asset, None, Some(&version)).await?;
    Ok(Outcome { version, asset })
}

/// A label as it is stored; an empty one is none.
pub(super) fn checked_label(label: Option<String>) -> Result<Option<String>> {
    let label = label.map(|label| text::free_text(&label, "input.label")).transpose()?;
    Ok(label.filter(|label| !label.is_empty()))
}

/// Archives the published version, if there is one.
async fn set_aside_published(edit: impl Rows, asset: &Asset) -> Result<()> {
    match asset.row.published_version_id {
        Some(id) => edit.archive_version(id).await,
        None => Ok(()),
    }
}

/// Lets the asset's row tell what is published.
fn show(row: &mut entity::asset::Model, version: Option<&version::Model>) {
    row.published_version_id = version.map(|version| version.id);
    row.published_content_type = version.map(|version| content_type::essence(&version.content_type));
    row.published_size_bytes = version.map_or(0, |version| version.size_bytes);
    row.published_media_type = version.map(|version| version.content_type.clone());
    row.published_filename = version.map(|version| version.filename.clone());
    row.published_sha256 = version.map(|version| version.sha256.clone());
}

/// A version and its asset, held against other writers until the transaction ends.
pub(super) async fn lock(conn: &impl ConnectionTrait, id: VersionId) -> Result<(version::Model, Asset)> {
    let not_found = || not_found(id);
    let version = version::Entity::find_by_id(id).one(conn).await?.ok_or_else(not_found)?;
    // The asset first: who changes a version holds its asset. Then the version as it is under that lock.
    let asset = asset::lock(conn, &AssetRef::Id(version.asset_id)).await?;
    if writes_alone(conn) {
        return Ok((version, asset));
    }
    let version = version::Entity::find_by_id(id).lock_exclusive().one(conn).await?.ok_or_else(not_found)?;
    Ok((version, asset))
}

/// There is no such version.
pub(super) fn not_found(id: VersionId) -> Error {
    Error::NotFound(format!("there is no version {id}"))
}

fn check(asset: &Asset, if_revision: Option<i64>) -> Result<()> {
    check_revision(|| format!("asset {}", asset.path()), if_revision, asset.row.revision)
}

impl Listing {
    fn select(&self) -> Select<version::Entity> {
        let select = version::Entity::find().filter(version::Column::AssetId.eq(self.asset));
        match &self.states {
            Some(states) => select.filter(version::Column::State.is_in(states.iter().copied())),
            None => select,
        }
    }
}
