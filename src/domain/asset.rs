//! Assets: stable references whose content changes by versions.

mod filter;
mod list;
mod relocate;

use std::sync::Arc;

use entity::asset::{Tags, Visibility};
use entity::change::ChangeType;
use entity::name::Holder;
use entity::{AssetId, DeletionId, FolderId, asset, folder, version};
use sea_orm::{
    ActiveModelTrait as _, ActiveValue::Set, ColumnTrait as _, ConnectionTrait, EntityTrait as _,
    QueryFilter as _, QuerySelect as _,
};
use serde_json::Value as Json;

use super::actor::Actor;
use super::as_of::Then;
use super::error::{Error, Result};
use super::folder::FolderRef;
use super::path::{MAX_DEPTH, MAX_PATH_BYTES, TreePath, join};
use super::rows::Rows;
use super::scope::Turn;
use super::{Committed, Edit, check_revision, commit, name, quick, search, text, writes_alone};
use crate::app::App;
use crate::feed::{Draft, VersionFacts};

pub use filter::{AssetFilter, TypePattern, bounded};
#[cfg(test)]
pub(super) use list::list_ordinarily;
pub use list::{Along, AssetOrder, Listing, Parent, Selection, Within, by_ids, counts, former_paths, list};
pub(super) use list::{live_by_ids, with_trash};
pub use relocate::{Relocation, Renaming, relocate, rename};
pub(super) use relocate::{relocate_in, rename_in};

/// An asset with the folder that it lies in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asset {
    /// Its row.
    pub row: asset::Model,
    /// Where it lies.
    pub folder: Arc<folder::Model>,
    /// The published version, where it was read along; none tells nothing.
    pub published: Option<Arc<version::Model>>,
    /// Where it was when it went to the trash by itself; its folder may have moved since.
    pub deleted_from: Option<String>,
    /// The moment that it is told of as it was then; none is now.
    pub as_of: Option<Then>,
}

/// Names one asset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AssetRef {
    /// By id.
    Id(AssetId),
    /// By path.
    Path(TreePath),
}

/// What a new asset has, besides its path.
#[derive(Debug, Clone, Default)]
pub struct NewAsset {
    /// Who may read it; everyone, when left out.
    pub visibility: Option<Visibility>,
    /// What people see.
    pub title: Option<String>,
    /// What stands for an image that cannot be seen.
    pub alt_text: Option<String>,
    /// Free words.
    pub tags: Option<Vec<String>>,
    /// A free-form object.
    pub metadata: Option<Json>,
}

/// What is to change. The outer none leaves a field as it is, the inner clears it.
#[derive(Debug, Clone)]
pub struct AssetUpdate {
    /// Which asset.
    pub target: AssetRef,
    /// Refuse unless this is its revision.
    pub if_revision: Option<i64>,
    /// Who may read it; cannot be cleared.
    pub visibility: Option<Visibility>,
    /// What people see.
    pub title: Option<Option<String>>,
    /// What stands for an image that cannot be seen.
    pub alt_text: Option<Option<String>>,
    /// Free words.
    pub tags: Option<Option<Vec<String>>>,
    /// A free-form object.
    pub metadata: Option<Option<Json>>,
}

/// What a move or rename did.
#[derive(Debug, Clone)]
pub struct Moved {
    /// The asset where it is now.
    pub asset: Asset,
    /// Where it was.
    pub old_path: String,
}

impl Asset {
    /// Where it lies, e.g. `images/hero`.
    #[must_use]
    pub fn path(&self) -> String {
        self.deleted_from.clone().unwrap_or_else(|| join(&self.folder.path, &self.row.name))
    }

    /// The deletion that took it, by itself or with its folder.
    #[must_use]
    pub fn deletion_id(&self) -> Option<DeletionId> {
        self.row.deletion_id.or(self.folder.deletion_id)
    }

    pub(super) fn what(&self) -> String {
        format!("asset {}", self.path())
    }
}

/// The stable URL of an asset, always the published bytes; none while nothing is published, and in the trash.
/// One that is told of as it was then has none; its version has.
#[must_use]
pub fn url(app: &App, asset: &Asset) -> Option<String> {
    if asset.as_of.is_some() {
        return None;
    }
    let answers = asset.row.published_version_id.is_some() && asset.deletion_id().is_none();
    answers.then(|| url_of_path(app, &asset.path()))
}

/// The stable URL of whatever is at a path.
#[must_use]
pub fn url_of_path(app: &App, path: &str) -> String {
    format!("{}/assets/{}", app.public_url(), super::path::percent_encode(path))
}

/// The asset at `path`, if there is one that the actor sees.
///
/// # Errors
/// What the database says.
pub async fn at_path(app: &App, actor: &Actor, path: &TreePath) -> Result<Option<Asset>> {
    let found = match quick::asset_at(app, path) {
        Some(found) => found,
        None => find(app.read(), path).await?,
    };
    Ok(found.and_then(|asset| actor.scope().asset(asset)))
}

/// Creates an asset without a version. Missing folders above it are made.
///
/// # Errors
/// `ALREADY_EXISTS` when its path is taken; `BAD_USER_INPUT`.
pub async fn create(app: &App, actor: &Actor, path: TreePath, new: NewAsset) -> Result<Committed<Asset>> {
    commit(app, actor, |edit| Box::pin(create_in(edit, path, new))).await
}

pub(super) async fn create_in(edit: Edit<'_>, path: TreePath, new: NewAsset) -> Result<Asset> {
    insert(edit, &path, new.checked()?).await
}

/// Changes what an asset has besides its path and versions.
///
/// # Errors
/// `NOT_FOUND`, `REVISION_CONFLICT`, `BAD_USER_INPUT`.
pub async fn update(app: &App, actor: &Actor, update: AssetUpdate) -> Result<Committed<Asset>> {
    commit(app, actor, move |edit| Box::pin(update_in(edit, update))).await
}

pub(super) async fn update_in(edit: Edit<'_>, update: AssetUpdate) -> Result<Asset> {
    let update = update.checked()?;
    let asset = lock(edit.conn(), &update.target).await?;
    let mut row = asset.row.clone();
    update.apply(&mut row);
    if row == asset.row {
        return Ok(asset);
    }
    check_revision(|| asset.what(), update.if_revision, asset.row.revision)?;
    let asset = touch(edit, asset, |touched| update.apply(touched)).await?;
    search::index_asset(edit.conn(), &asset.row, search::Known::Maybe).await?;
    record(edit, ChangeType::AssetUpdate, &asset, None, None).await?;
    Ok(asset)
}

/// Creates the row of an asset at `path`, with its entry.
pub(super) async fn insert(edit: Edit<'_>, path: &TreePath, new: NewAsset) -> Result<Asset> {
    let folder = super::folder::ensure(edit, &path.parent()).await?;
    name::take(edit.conn(), &folder, path.name(), Holder::Asset).await?;
    let row = asset::ActiveModel {
        id: Set(AssetId(edit.new_id())),
        folder_id: Set(folder.id),
        name: Set(path.name().to_owned()),
        visibility: Set(new.visibility.unwrap_or(Visibility::Public)),
        title: Set(new.title),
        alt_text: Set(new.alt_text),
        tags: Set(Tags(new.tags.unwrap_or_default())),
        metadata: Set(new.metadata.unwrap_or_else(|| Json::Object(serde_json::Map::new()))),
        latest_number: Set(0),
        revision: Set(1),
        created_at: Set(edit.now()),
        created_by: Set(edit.by()),
        updated_at: Set(edit.now()),
        updated_by: Set(edit.by()),
        deletion_id: Set(None),
        published_version_id: Set(None),
        published_content_type: Set(None),
        published_size_bytes: Set(0),
        published_media_type: Set(None),
        published_filename: Set(None),
        published_sha256: Set(None),
    };
    let row = row.insert(edit.conn()).await?;
    search::index_asset(edit.conn(), &row, search::Known::No).await?;
    let asset = Asset { row, folder: Arc::new(folder), published: None, deleted_from: None, as_of: None };
    record(edit, ChangeType::AssetCreate, &asset, None, None).await?;
    Ok(asset)
}

/// The asset at `path`, if there is one.
pub(super) async fn find(conn: &impl ConnectionTrait, path: &TreePath) -> Result<Option<Asset>> {
    let row = asset::Entity::find()
        .find_also_related(folder::Entity)
        .filter(folder::Column::Path.eq(path.parent().as_str()))
        .filter(folder::Column::DeletionId.is_null())
        .filter(asset::Column::Name.eq(path.name()))
        .filter(asset::Column::DeletionId.is_null())
        .one(conn)
        .await?;
    Ok(row.and_then(placed))
}

/// The asset that `target` names, held against other writers until the transaction ends.
///
/// # Errors
/// `NOT_FOUND`.
pub(super) async fn lock(conn: &impl ConnectionTrait, target: &AssetRef) -> Result<Asset> {
    if writes_alone(conn) {
        let found = match target {
            AssetRef::Id(id) => live_by_ids(conn, &[*id]).await?.pop(),
            AssetRef::Path(path) => find(conn, path).await?,
        };
        return found.ok_or_else(|| target.not_found());
    }
    let id = match target {
        AssetRef::Id(id) => Some(*id),
        AssetRef::Path(path) => find(conn, path).await?.map(|asset| asset.row.id),
    };
    let id = id.ok_or_else(|| target.not_found())?;
    let row = asset::Entity::find_by_id(id).lock_exclusive().one(conn).await?;
    let row = row.filter(|row| row.deletion_id.is_none()).ok_or_else(|| target.not_found())?;
    let folder = super::folder::resolve(conn, &FolderRef::Id(row.folder_id)).await;
    let asset = Asset {
        row,
        folder: Arc::new(folder.map_err(|error| target.not_found_for(error))?),
        published: None,
        deleted_from: None,
        as_of: None,
    };
    match target {
        // It may have moved away before it was locked.
        AssetRef::Path(path) if asset.path() != path.as_str() => Err(target.not_found()),
        _ => Ok(asset),
    }
}

impl AssetRef {
    pub(super) fn not_found(&self) -> Error {
        Error::NotFound(match self {
            Self::Id(id) => format!("there is no asset {id} outside the trash"),
            Self::Path(path) => format!("there is no asset at {path}"),
        })
    }

    /// A missing folder means a missing asset: they went to the trash together.
    fn not_found_for(&self, error: Error) -> Error {
        if matches!(error, Error::NotFound(_)) { self.not_found() } else { error }
    }
}

/// Applies `change` to an asset, with its revision and stamp.
pub(super) async fn touch(
    edit: impl Rows,
    asset: Asset,
    change: impl FnOnce(&mut asset::Model),
) -> Result<Asset> {
    let mut row = asset.row.clone();
    row.revision += 1;
    row.updated_at = edit.now();
    row.updated_by = edit.by();
    change(&mut row);
    edit.update_asset(&asset.row, &row).await?;
    if let Some(turn) = Turn::of(&asset.row, &row) {
        edit.turn(&turn).await?;
    }
    Ok(Asset { row, published: None, ..asset })
}

/// Records an entry about an asset: where it was before, and the version that it is about.
pub(super) async fn record(
    edit: impl Rows,
    kind: ChangeType,
    asset: &Asset,
    left: Option<(String, &folder::Model)>,
    version: Option<&version::Model>,
) -> Result<()> {
    let mut above = edit.lineage(&asset.folder.path).await?;
    let mut direct = vec![asset.folder.id];
    if let Some((_, folder)) = &left {
        direct.push(folder.id);
        above.extend(edit.lineage(&folder.path).await?);
    }
    let old_path = left.map(|(path, _)| path);
    edit.record(Draft { old_path, direct, above, version: version.map(facts), ..draft(edit, kind, asset) });
    Ok(())
}

/// Records an entry about an asset whose folders are known: ids of those above its own, without the root.
pub(super) fn record_in(
    edit: impl Rows,
    kind: ChangeType,
    asset: &Asset,
    old_path: Option<String>,
    above: Vec<FolderId>,
) {
    edit.record(Draft { old_path, above, ..draft(edit, kind, asset) });
}

fn draft(edit: impl Rows, kind: ChangeType, asset: &Asset) -> Draft {
    Draft {
        kind,
        at: edit.now(),
        actor: edit.by(),
        path: asset.path(),
        old_path: None,
        folder_id: Some(asset.folder.id),
        asset_id: Some(asset.row.id),
        version: None,
        direct: vec![asset.folder.id],
        above: Vec::new(),
    }
}

fn facts(version: &version::Model) -> VersionFacts {
    VersionFacts {
        id: version.id,
        number: version.number,
        content_type: version.content_type.clone(),
        size_bytes: version.size_bytes,
        sha256: version.sha256.clone(),
    }
}

fn placed((row, folder): (asset::Model, Option<folder::Model>)) -> Option<Asset> {
    folder.map(|folder| Asset {
        row,
        folder: Arc::new(folder),
        published: None,
        deleted_from: None,
        as_of: None,
    })
}

pub(super) fn check_fits(folder: &folder::Model, path: &str, field: &str) -> Result<()> {
    let depth = usize::try_from(folder.depth).unwrap_or(0) + 1;
    if path.len() > MAX_PATH_BYTES || depth > MAX_DEPTH {
        let message =
            format!("{path} would be longer than {MAX_PATH_BYTES} bytes or deeper than {MAX_DEPTH} levels");
        return Err(Error::bad_input(field, message));
    }
    Ok(())
}

impl NewAsset {
    fn checked(self) -> Result<Self> {
        Ok(Self {
            visibility: self.visibility,
            title: self.title.map(|title| text::free_text(&title, "input.title")).transpose()?,
            alt_text: self.alt_text.map(|text| text::free_text(&text, "input.altText")).transpose()?,
            tags: self.tags.map(|tags| text::tags(tags, "input.tags")).transpose()?,
            metadata: self.metadata.map(|metadata| text::metadata(metadata, "input.metadata")).transpose()?,
        })
    }
}

impl AssetUpdate {
    fn checked(self) -> Result<Self> {
        fn each<T>(
            value: Option<Option<T>>,
            check: impl FnOnce(T) -> Result<T>,
        ) -> Result<Option<Option<T>>> {
            value.map(|value| value.map(check).transpose()).transpose()
        }
        Ok(Self {
            target: self.target,
            if_revision: self.if_revision,
            visibility: self.visibility,
            title: each(self.title, |title| text::free_text(&title, "input.title"))?,
            alt_text: each(self.alt_text, |text| text::free_text(&text, "input.altText"))?,
            tags: each(self.tags, |tags| text::tags(tags, "input.tags"))?,
            metadata: each(self.metadata, |metadata| text::metadata(metadata, "input.metadata"))?,
        })
    }

    fn apply(&self, row: &mut asset::Model) {
        if let Some(visibility) = self.visibility {
            row.visibility = visibility;
        }
        if let Some(title) = &self.title {
            row.title.clone_from(title);
        }
        if let Some(alt_text) = &self.alt_text {
            row.alt_text.clone_from(alt_text);
        }
        if let Some(tags) = &self.tags {
            row.tags = Tags(tags.clone().unwrap_or_default());
        }
        if let Some(metadata) = &self.metadata {
            row.metadata = metadata.clone().unwrap_or_else(|| Json::Object(serde_json::Map::new()));
        }
    }
}
