//! What mutations and listings of assets take and answer.

use async_graphql::{Enum, ID, InputObject, MaybeUndefined, OneofObject, SimpleObject};

use super::Asset;
use crate::domain::asset as assets;
use crate::domain::error::{Error, Result as Parsed};
use crate::domain::page::Direction;
use crate::domain::path::TreePath;
use crate::domain::search::Needle;
use crate::domain::trash::AssetDeletion;
use crate::graphql::change::Change;
use crate::graphql::folder::{FolderRef, OrderDirection};
use crate::graphql::list::List;
use crate::graphql::node::parse_id;
use crate::graphql::scalar::{ByteCount, DateTime, Json};

/// Which assets are wanted; all of the given conditions hold for each.
#[derive(InputObject, Clone)]
pub struct AssetFilter {
    /// Part of the name, path, title, alt text or a tag; case is ignored.
    search: Option<String>,
    /// Exact types or families of the published version, e.g. image/png, image/*.
    content_types: Option<Vec<String>>,
    /// Has all of these tags, exactly as they are written.
    tags: Option<Vec<String>>,
    /// Whether something is published.
    published: Option<bool>,
    /// Who may read the published bytes.
    visibility: Option<Visibility>,
    /// Changed after this instant.
    updated_after: Option<DateTime>,
    /// Changed before this instant.
    updated_before: Option<DateTime>,
    /// The published version has at least so many bytes.
    min_size: Option<ByteCount>,
    /// The published version has at most so many bytes.
    max_size: Option<ByteCount>,
}

impl AssetFilter {
    pub(super) fn parse(self) -> Parsed<assets::AssetFilter> {
        let types = |types: Vec<String>| {
            let field = "filter.contentTypes";
            let types = assets::bounded(types, field)?;
            types.iter().map(|text| assets::TypePattern::parse(text, field)).collect::<Parsed<Vec<_>>>()
        };
        let search = self.search.as_deref().map(|text| Needle::parse(text, "filter.search")).transpose()?;
        Ok(assets::AssetFilter {
            search: search.flatten(),
            content_types: self.content_types.map(types).transpose()?,
            tags: assets::bounded(self.tags.unwrap_or_default(), "filter.tags")?,
            published: self.published,
            visibility: self.visibility.map(Into::into),
            updated_after: self.updated_after.map(|at| at.0),
            updated_before: self.updated_before.map(|at| at.0),
            min_size: self.min_size.map(|size| size.0),
            max_size: self.max_size.map(|size| size.0),
        })
    }
}

/// Who may read the published bytes.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "entity::asset::Visibility")]
pub enum Visibility {
    /// Anyone who has the URL may read.
    Public,
    /// Readers need a role or a signed URL.
    Private,
}

/// Names one asset: by id, or by path, e.g. images/hero.
#[derive(OneofObject, Clone)]
pub enum AssetRef {
    /// Its id, the same for ever.
    Id(ID),
    /// The path that it has now.
    Path(String),
}

impl AssetRef {
    /// What the domain takes; `field` is named when it is no reference.
    pub fn parse(&self, field: &str) -> Parsed<assets::AssetRef> {
        Ok(match self {
            Self::Id(id) => assets::AssetRef::Id(parse_id(id, &format!("{field}.id"))?),
            Self::Path(path) => {
                assets::AssetRef::Path(TreePath::parse_named(path, &format!("{field}.path"))?)
            }
        })
    }
}

/// How assets are sorted.
#[derive(InputObject, Clone, Copy)]
pub struct AssetOrder {
    /// What by.
    field: AssetOrderField,
    /// Which way.
    #[graphql(default_with = "OrderDirection::Asc")]
    direction: OrderDirection,
}

/// What assets can be sorted by.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "assets::AssetOrder")]
pub enum AssetOrderField {
    /// By name, byte by byte.
    Name,
    /// By creation.
    CreatedAt,
    /// By last change.
    UpdatedAt,
    /// By size of the published version; what has none counts as empty.
    Size,
}

impl AssetOrder {
    pub(super) fn split(self) -> (assets::AssetOrder, Direction) {
        (self.field.into(), self.direction.into())
    }
}

/// A new asset, without a version yet.
#[derive(InputObject)]
pub struct CreateAssetInput {
    /// Where; missing folders above it are made.
    path: String,
    /// Who may read it; PUBLIC when left out.
    visibility: Option<Visibility>,
    /// What people see.
    title: Option<String>,
    /// What stands for an image that cannot be seen.
    alt_text: Option<String>,
    /// Free words; at most 100.
    tags: Option<Vec<String>>,
    /// Free-form object, at most 64 KiB of JSON.
    metadata: Option<Json>,
}

/// What creating an asset did.
#[derive(SimpleObject)]
pub struct CreateAssetPayload {
    /// The asset.
    pub(super) asset: Asset,
    /// The entries that it wrote.
    pub(super) changes: List<Change>,
}

/// Changes of an asset. What is left out stays; null clears.
#[derive(InputObject)]
pub struct UpdateAssetInput {
    /// Which asset.
    asset: AssetRef,
    /// Who may read it; cannot be cleared.
    visibility: MaybeUndefined<Visibility>,
    /// What people see.
    title: MaybeUndefined<String>,
    /// What stands for an image that cannot be seen.
    alt_text: MaybeUndefined<String>,
    /// Free words; at most 100.
    tags: MaybeUndefined<Vec<String>>,
    /// Free-form object, at most 64 KiB of JSON.
    metadata: MaybeUndefined<Json>,
    /// Refuse unless this is its revision.
    if_revision: Option<i32>,
}

/// What updating an asset did.
#[derive(SimpleObject)]
pub struct UpdateAssetPayload {
    /// The asset.
    pub(super) asset: Asset,
    /// The entries that it wrote; none when nothing changed.
    pub(super) changes: List<Change>,
}

/// Another folder for an asset.
#[derive(InputObject)]
pub struct MoveAssetInput {
    /// Which asset.
    asset: AssetRef,
    /// Where to; a folder named by a path is made when missing.
    to_folder: FolderRef,
    /// Refuse unless this is its revision.
    if_revision: Option<i32>,
}

/// What moving an asset did.
#[derive(SimpleObject)]
pub struct MoveAssetPayload {
    /// The asset where it is now.
    pub(super) asset: Asset,
    /// Where it was.
    pub(super) old_path: String,
    /// The entries that it wrote; none when it was there already.
    pub(super) changes: List<Change>,
}

/// Another name for an asset.
#[derive(InputObject)]
pub struct RenameAssetInput {
    /// Which asset.
    asset: AssetRef,
    /// Its new name, without a slash.
    new_name: String,
    /// Refuse unless this is its revision.
    if_revision: Option<i32>,
}

/// What renaming an asset did.
#[derive(SimpleObject)]
pub struct RenameAssetPayload {
    /// The asset where it is now.
    pub(super) asset: Asset,
    /// Where it was.
    pub(super) old_path: String,
    /// The entries that it wrote; none when it had the name already.
    pub(super) changes: List<Change>,
}

/// An asset to put into the trash.
#[derive(InputObject)]
pub struct DeleteAssetInput {
    /// Which asset.
    asset: AssetRef,
    /// Refuse unless this is its revision.
    if_revision: Option<i32>,
}

/// What deleting an asset did.
#[derive(SimpleObject)]
pub struct DeleteAssetPayload {
    /// The asset, as it is in the trash.
    pub(super) asset: Asset,
    /// How many versions it has.
    pub(super) deleted_versions: i32,
    /// The entry that it wrote; none when it was in the trash already.
    pub(super) changes: List<Change>,
}

/// Assets of one folder to put into the trash.
#[derive(InputObject)]
pub struct DeleteAssetsInput {
    /// Which folder.
    pub(super) folder: FolderRef,
    /// Only these names; all of the folder when left out.
    pub(super) names: Option<Vec<String>>,
}

/// What deleting assets did.
#[derive(SimpleObject)]
pub struct DeleteAssetsPayload {
    /// How many assets went to the trash.
    pub(super) deleted_assets: i32,
    /// How many versions these have.
    pub(super) deleted_versions: i32,
    /// The entries that it wrote, one for each asset.
    pub(super) changes: List<Change>,
}

impl CreateAssetInput {
    /// What the domain takes.
    pub fn parse(self) -> Parsed<(TreePath, assets::NewAsset)> {
        let new = assets::NewAsset {
            visibility: self.visibility.map(Into::into),
            title: self.title,
            alt_text: self.alt_text,
            tags: self.tags,
            metadata: self.metadata.map(|metadata| metadata.0),
        };
        Ok((TreePath::parse_named(&self.path, "input.path")?, new))
    }
}

impl UpdateAssetInput {
    /// What the domain takes.
    pub fn parse(self) -> Parsed<assets::AssetUpdate> {
        if self.visibility.is_null() {
            return Err(Error::bad_input("input.visibility", "cannot be cleared: give PUBLIC or PRIVATE"));
        }
        Ok(assets::AssetUpdate {
            target: self.asset.parse("input.asset")?,
            if_revision: self.if_revision.map(i64::from),
            visibility: self.visibility.take().map(Into::into),
            title: settable(self.title),
            alt_text: settable(self.alt_text),
            tags: settable(self.tags),
            metadata: settable(self.metadata).map(|metadata| metadata.map(|metadata| metadata.0)),
        })
    }
}

impl MoveAssetInput {
    /// What the domain takes.
    pub fn parse(self) -> Parsed<assets::Relocation> {
        let target = self.asset.parse("input.asset")?;
        let to = self.to_folder.parse("input.toFolder")?;
        Ok(assets::Relocation { target, to, if_revision: self.if_revision.map(i64::from) })
    }
}

impl RenameAssetInput {
    /// What the domain takes.
    pub fn parse(self) -> Parsed<assets::Renaming> {
        let target = self.asset.parse("input.asset")?;
        let if_revision = self.if_revision.map(i64::from);
        Ok(assets::Renaming { target, new_name: self.new_name, if_revision })
    }
}

impl DeleteAssetInput {
    /// What the domain takes.
    pub fn parse(self) -> Parsed<AssetDeletion> {
        let target = self.asset.parse("input.asset")?;
        Ok(AssetDeletion { target, if_revision: self.if_revision.map(i64::from) })
    }
}

/// None for what was left out, an inner none for null.
fn settable<T>(value: MaybeUndefined<T>) -> Option<Option<T>> {
    match value {
        MaybeUndefined::Undefined => None,
        MaybeUndefined::Null => Some(None),
        MaybeUndefined::Value(value) => Some(Some(value)),
    }
}
