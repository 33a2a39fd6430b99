//! Assets: stable references whose content changes by versions.

mod list;

use std::sync::Arc;

use entity::asset::{Tags, Visibility};
use entity::change::ChangeType;
use entity::name::Holder;
use entity::{AssetId, asset, folder, version};
use sea_orm::{
    ActiveModelTrait as _, ActiveValue::Set, ColumnTrait as _, ConnectionTrait, EntityTrait as _,
    IntoActiveModel as _, QueryFilter as _, QuerySelect as _,
};
use serde_json::Value as Json;

use super::actor::{Actor, Role};
use super::error::{Error, Result};
use super::folder::FolderRef;
use super::path::{MAX_DEPTH, MAX_PATH_BYTES, TreePath, join, parse_name};
use super::{Committed, Edit, check_revision, commit, name, text};
use crate::app::App;
use crate::feed::{Draft, VersionFacts};

pub use list::{AssetOrder, Listing, Within, by_ids, counts, list};

/// An asset with the folder that it lies in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asset {
    /// Its row.
    pub row: asset::Model,
    /// Where it lies.
    pub folder: Arc<folder::Model>,
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
#[derive(Debug, Clone, Default)]
pub struct AssetUpdate {
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
        join(&self.folder.path, &self.row.name)
    }

    fn what(&self) -> String {
        format!("asset {}", self.path())
    }
}

/// The stable URL of an asset: always the published bytes.
#[must_use]
pub fn url(app: &App, asset: &Asset) -> String {
    format!("{}/assets/{}", app.public_url(), super::path::percent_encode(&asset.path()))
}

/// The asset at `path`, if there is one.
///
/// # Errors
/// When the actor may not read.
pub async fn at_path(app: &App, actor: &Actor, path: &TreePath) -> Result<Option<Asset>> {
    actor.require(Role::Viewer)?;
    find(app.read(), path).await
}

/// Creates an asset without a version. Missing folders above it are made.
///
/// # Errors
/// `ALREADY_EXISTS` when its path is taken; `BAD_USER_INPUT`.
pub async fn create(app: &App, actor: &Actor, path: TreePath, new: NewAsset) -> Result<Committed<Asset>> {
    let new = new.checked()?;
    commit(app, actor, |edit| Box::pin(async move { insert(edit, &path, new).await })).await
}

/// Changes what an asset has besides its path and versions.
///
/// # Errors
/// `NOT_FOUND`, `REVISION_CONFLICT`, `BAD_USER_INPUT`.
pub async fn update(
    app: &App,
    actor: &Actor,
    target: AssetRef,
    update: AssetUpdate,
    if_revision: Option<i64>,
) -> Result<Committed<Asset>> {
    let update = update.checked()?;
    commit(app, actor, move |edit| {
        Box::pin(async move {
            let asset = lock(edit.conn(), &target).await?;
            let unchanged = asset.row.clone();
            let mut row = asset.row.clone().into_active_model();
            update.apply(&mut row);
            if !row.is_changed() || !differs(&row, &unchanged) {
                return Ok(asset);
            }
            check_revision(|| asset.what(), if_revision, asset.row.revision)?;
            let asset = touch(edit, asset, |touched| update.apply(touched)).await?;
            record(edit, ChangeType::AssetUpdate, &asset, None, None).await?;
            Ok(asset)
        })
    })
    .await
}

/// Moves an asset to another folder, which is made when missing and named by its path.
///
/// # Errors
/// `NOT_FOUND`, `ALREADY_EXISTS` when the name is taken there, `REVISION_CONFLICT`.
pub async fn relocate(
    app: &App,
    actor: &Actor,
    target: AssetRef,
    to: FolderRef,
    if_revision: Option<i64>,
) -> Result<Committed<Moved>> {
    commit(app, actor, move |edit| {
        Box::pin(async move {
            let asset = lock(edit.conn(), &target).await?;
            let folder = match &to {
                FolderRef::Path(path) => super::folder::ensure(edit, path).await?,
                FolderRef::Id(_) => super::folder::resolve(edit.conn(), &to).await?,
            };
            let name = asset.row.name.clone();
            place(edit, asset, folder, name, if_revision, ChangeType::AssetMove, "input.toFolder").await
        })
    })
    .await
}

/// Renames an asset within its folder.
///
/// # Errors
/// `NOT_FOUND`, `ALREADY_EXISTS`, `REVISION_CONFLICT`, `BAD_USER_INPUT` for what is no name.
pub async fn rename(
    app: &App,
    actor: &Actor,
    target: AssetRef,
    new_name: &str,
    if_revision: Option<i64>,
) -> Result<Committed<Moved>> {
    let new_name = parse_name(new_name, "input.newName")?;
    commit(app, actor, move |edit| {
        Box::pin(async move {
            let asset = lock(edit.conn(), &target).await?;
            let folder = (*asset.folder).clone();
            place(edit, asset, folder, new_name, if_revision, ChangeType::AssetRename, "input.newName").await
        })
    })
    .await
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
    let moved = touch(edit, asset, |row| {
        row.folder_id = Set(folder_id);
        row.name = Set(new_name);
    })
    .await?;
    let asset = Asset { row: moved.row, folder: Arc::new(folder) };
    record(edit, kind, &asset, Some((old_path.clone(), &old_folder)), None).await?;
    Ok(Moved { asset, old_path })
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
    };
    let row = row.insert(edit.conn()).await?;
    let asset = Asset { row, folder: Arc::new(folder) };
    record(edit, ChangeType::AssetCreate, &asset, None, None).await?;
    Ok(asset)
}

/// The asset at `path`, if there is one.
pub(super) async fn find(conn: &impl ConnectionTrait, path: &TreePath) -> Result<Option<Asset>> {
    let row = asset::Entity::find()
        .find_also_related(folder::Entity)
        .filter(folder::Column::Path.eq(path.parent().as_str()))
        .filter(asset::Column::Name.eq(path.name()))
        .one(conn)
        .await?;
    Ok(row.and_then(placed))
}

/// The asset that `target` names, held against other writers until the transaction ends.
///
/// # Errors
/// `NOT_FOUND`.
pub(super) async fn lock(conn: &impl ConnectionTrait, target: &AssetRef) -> Result<Asset> {
    let id = match target {
        AssetRef::Id(id) => Some(*id),
        AssetRef::Path(path) => find(conn, path).await?.map(|asset| asset.row.id),
    };
    let not_found = || {
        Error::NotFound(match target {
            AssetRef::Id(id) => format!("there is no asset {id}"),
            AssetRef::Path(path) => format!("there is no asset at {path}"),
        })
    };
    let id = id.ok_or_else(not_found)?;
    let row = asset::Entity::find_by_id(id).lock_exclusive().one(conn).await?.ok_or_else(not_found)?;
    let folder = super::folder::resolve(conn, &FolderRef::Id(row.folder_id)).await?;
    let asset = Asset { row, folder: Arc::new(folder) };
    match target {
        // It may have moved away before it was locked.
        AssetRef::Path(path) if asset.path() != path.as_str() => Err(not_found()),
        _ => Ok(asset),
    }
}

/// Applies `change` to an asset, with its revision and stamp.
pub(super) async fn touch(
    edit: Edit<'_>,
    asset: Asset,
    change: impl FnOnce(&mut asset::ActiveModel),
) -> Result<Asset> {
    let revision = asset.row.revision + 1;
    let mut row = asset.row.into_active_model();
    row.revision = Set(revision);
    row.updated_at = Set(edit.now());
    row.updated_by = Set(edit.by());
    change(&mut row);
    Ok(Asset { row: row.update(edit.conn()).await?, folder: asset.folder })
}

/// Records an entry about an asset: where it was before, and the version that it is about.
pub(super) async fn record(
    edit: Edit<'_>,
    kind: ChangeType,
    asset: &Asset,
    left: Option<(String, &folder::Model)>,
    version: Option<&version::Model>,
) -> Result<()> {
    let mut above = super::folder::lineage(edit.conn(), &asset.folder.path).await?;
    let mut direct = vec![asset.folder.id];
    if let Some((_, folder)) = &left {
        direct.push(folder.id);
        above.extend(super::folder::lineage(edit.conn(), &folder.path).await?);
    }
    edit.record(Draft {
        kind,
        at: edit.now(),
        actor: edit.by(),
        path: asset.path(),
        old_path: left.map(|(path, _)| path),
        folder_id: Some(asset.folder.id),
        asset_id: Some(asset.row.id),
        version: version.map(|version| VersionFacts {
            id: version.id,
            number: version.number,
            content_type: version.content_type.clone(),
            size_bytes: version.size_bytes,
            sha256: version.sha256.clone(),
        }),
        direct,
        above,
    });
    Ok(())
}

fn placed((row, folder): (asset::Model, Option<folder::Model>)) -> Option<Asset> {
    folder.map(|folder| Asset { row, folder: Arc::new(folder) })
}

fn check_fits(folder: &folder::Model, path: &str, field: &str) -> Result<()> {
    let depth = usize::try_from(folder.depth).unwrap_or(0) + 1;
    if path.len() > MAX_PATH_BYTES || depth > MAX_DEPTH {
        let message =
            format!("{path} would be longer than {MAX_PATH_BYTES} bytes or deeper than {MAX_DEPTH} levels");
        return Err(Error::bad_input(field, message));
    }
    Ok(())
}

fn differs(row: &asset::ActiveModel, before: &asset::Model) -> bool {
    row.visibility.as_ref() != &before.visibility
        || row.title.as_ref() != &before.title
        || row.alt_text.as_ref() != &before.alt_text
        || row.tags.as_ref() != &before.tags
        || row.metadata.as_ref() != &before.metadata
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
            visibility: self.visibility,
            title: each(self.title, |title| text::free_text(&title, "input.title"))?,
            alt_text: each(self.alt_text, |text| text::free_text(&text, "input.altText"))?,
            tags: each(self.tags, |tags| text::tags(tags, "input.tags"))?,
            metadata: each(self.metadata, |metadata| text::metadata(metadata, "input.metadata"))?,
        })
    }

    fn apply(&self, row: &mut asset::ActiveModel) {
        if let Some(visibility) = self.visibility {
            row.visibility = Set(visibility);
        }
        if let Some(title) = &self.title {
            row.title = Set(title.clone());
        }
        if let Some(alt_text) = &self.alt_text {
            row.alt_text = Set(alt_text.clone());
        }
        if let Some(tags) = &self.tags {
            row.tags = Set(Tags(tags.clone().unwrap_or_default()));
        }
        if let Some(metadata) = &self.metadata {
            row.metadata = Set(metadata.clone().unwrap_or_else(|| Json::Object(serde_json::Map::new())));
        }
    }
}
