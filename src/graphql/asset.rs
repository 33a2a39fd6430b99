//! Assets: object, inputs, queries, mutations, subscription.

use std::sync::Arc;

use async_graphql::{
    Context, Enum, ID, InputObject, MaybeUndefined, Object, OneofObject, SimpleObject, Subscription,
};
use entity::version::State;
use futures_util::Stream;

use super::change::{Change, ChangeConnection, ChangeType, changes};
use super::connection::{Connection, Entry, connection, page_args};
use super::context::{ContextExt as _, Result};
use super::folder::{Folder, FolderRef, OrderDirection};
use super::list::List;
use super::loaders::{Numbered, PublishedOf, VersionsOf};
use super::node::parse_id;
use super::scalar::{DateTime, Json, Url};
use super::version::{Version, VersionConnection, VersionOrder, VersionState};
use super::viewer::Actor;
use crate::domain::asset::{self as assets, Within};
use crate::domain::change::Watch;
use crate::domain::error::Error;
use crate::domain::page::{Direction, Page, PageArgs};
use crate::domain::path::TreePath;
use crate::domain::version as versions;
use crate::feed::Index;

/// A stable reference.
#[derive(Clone)]
pub struct Asset(pub Arc<assets::Asset>);

/// A stable reference to a file whose content changes by versions: images/hero is always the published one.
#[Object]
impl Asset {
    /// Opaque id, the same for ever.
    pub async fn id(&self) -> ID {
        self.0.row.id.into()
    }

    /// Where it lies, e.g. images/hero.
    async fn path(&self) -> String {
        self.0.path()
    }

    /// Last segment of the path.
    async fn name(&self) -> &str {
        &self.0.row.name
    }

    /// The folder that it lies in.
    async fn folder(&self) -> Folder {
        Folder(Arc::clone(&self.0.folder))
    }

    /// Who may read the published bytes.
    async fn visibility(&self) -> Visibility {
        self.0.row.visibility.into()
    }

    /// Null until something is published, and after the published version is archived.
    async fn published_version(&self, ctx: &Context<'_>) -> Result<Option<Version>> {
        Ok(ctx.loaders().one(PublishedOf(self.0.row.id)).await?.map(Version))
    }

    /// The newest version, published or not; null while there is none.
    async fn latest_version(&self, ctx: &Context<'_>) -> Result<Option<Version>> {
        if self.0.row.latest_number == 0 {
            return Ok(None);
        }
        Ok(ctx.loaders().one(Numbered(self.0.row.id, self.0.row.latest_number)).await?.map(Version))
    }

    /// The version with this number; null when there is none.
    async fn version(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "1, 2, 3 …")] number: i32,
    ) -> Result<Option<Version>> {
        Ok(ctx.loaders().one(Numbered(self.0.row.id, number)).await?.map(Version))
    }

    /// Its versions, newest first unless said otherwise.
    #[expect(clippy::too_many_arguments, reason = "a connection has four arguments of its own")]
    async fn versions(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "How many from the start; 50 by default, at most 200.")] first: Option<i32>,
        #[graphql(desc = "Start behind this cursor.")] after: Option<String>,
        #[graphql(desc = "How many from the end; at most 200.")] last: Option<i32>,
        #[graphql(desc = "End ahead of this cursor.")] before: Option<String>,
        #[graphql(desc = "Only those in these states.")] states: Option<Vec<VersionState>>,
        #[graphql(desc = "Newest first, unless said otherwise.")] order_by: Option<VersionOrder>,
    ) -> Result<VersionConnection> {
        let direction = order_by.map_or(Direction::Descending, VersionOrder::direction);
        let page = Page::new(&page_args(first, after, last, before), versions::ORDER)?;
        let states: Option<Vec<State>> = states.map(|states| states.into_iter().map(Into::into).collect());
        let listing = versions::Listing { asset: self.0.row.id, page, states: states.clone(), direction };
        let slice = ctx.loaders().one(listing).await?.unwrap_or_default();
        let page = Connection::new(slice, (), |row| Version(Arc::new(row)));
        Ok(VersionConnection::new(page, VersionsOf(self.0.row.id, states)))
    }

    /// The stable URL: always the published bytes; caches must revalidate it. Null while nothing is published.
    async fn url(&self, ctx: &Context<'_>) -> Result<Option<Url>> {
        let published = ctx.loaders().one(PublishedOf(self.0.row.id)).await?;
        Ok(published.map(|_| Url(assets::url(ctx.app(), &self.0))))
    }

    /// What people see.
    async fn title(&self) -> Option<&str> {
        self.0.row.title.as_deref()
    }

    /// What stands for an image that cannot be seen.
    async fn alt_text(&self) -> Option<&str> {
        self.0.row.alt_text.as_deref()
    }

    /// Free words, in the order given.
    async fn tags(&self) -> &[String] {
        &self.0.row.tags.0
    }

    /// Free-form object, at most 64 KiB of JSON.
    async fn metadata(&self) -> Json {
        Json(self.0.row.metadata.clone())
    }

    /// What happened to it, oldest first. A folder above it moves with an entry of its own.
    async fn changes(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "How many; 50 by default, at most 200.")] first: Option<i32>,
        #[graphql(desc = "Start behind this cursor of the changelog.")] after: Option<String>,
        #[graphql(desc = "Only these.")] types: Option<Vec<ChangeType>>,
    ) -> Result<ChangeConnection> {
        changes(ctx, Index::Asset(self.0.row.id), first, after, types).await
    }

    /// Grows by one with every change of the asset or its versions; hand it back as ifRevision.
    async fn revision(&self) -> i64 {
        self.0.row.revision
    }

    /// When it was made.
    async fn created_at(&self) -> DateTime {
        DateTime(self.0.row.created_at)
    }

    /// Who made it.
    async fn created_by(&self) -> Actor {
        self.0.row.created_by.clone().into()
    }

    /// When it was changed last.
    async fn updated_at(&self) -> DateTime {
        DateTime(self.0.row.updated_at)
    }

    /// Who changed it last.
    async fn updated_by(&self) -> Actor {
        self.0.row.updated_by.clone().into()
    }
}

impl From<assets::Asset> for Asset {
    fn from(asset: assets::Asset) -> Self {
        Self(Arc::new(asset))
    }
}

impl Entry for Asset {
    type Order = assets::AssetOrder;

    fn cursor(&self, order: assets::AssetOrder) -> String {
        order.position(&self.0.row).cursor(order.word())
    }
}

connection!(AssetConnection, AssetEdge, Asset, Within, "assets");

/// A page of the assets in a place.
pub async fn list(
    ctx: &Context<'_>,
    within: Within,
    args: PageArgs,
    order_by: Option<AssetOrder>,
) -> Result<AssetConnection> {
    let (order, direction) =
        order_by.map_or((assets::AssetOrder::Name, Direction::Ascending), AssetOrder::split);
    let page = Page::new(&args, order.word())?;
    let listing = assets::Listing { within: within.clone(), page, order, direction };
    let slice = ctx.loaders().one(listing).await?.unwrap_or_default();
    Ok(AssetConnection::new(Connection::new(slice, order, Asset::from), within))
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
    pub fn parse(&self, field: &str) -> Result<assets::AssetRef> {
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
}

impl AssetOrder {
    fn split(self) -> (assets::AssetOrder, Direction) {
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
    asset: Asset,
    /// The entries that it wrote.
    changes: List<Change>,
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
    asset: Asset,
    /// The entries that it wrote; none when nothing changed.
    changes: List<Change>,
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
    asset: Asset,
    /// Where it was.
    old_path: String,
    /// The entries that it wrote; none when it was there already.
    changes: List<Change>,
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
    asset: Asset,
    /// Where it was.
    old_path: String,
    /// The entries that it wrote; none when it had the name already.
    changes: List<Change>,
}

/// Queries about assets.
#[derive(Default)]
pub struct AssetQuery;

#[Object]
impl AssetQuery {
    /// The asset at a path; null when there is none.
    async fn asset(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Its path, e.g. images/hero.")] path: String,
    ) -> Result<Option<Asset>> {
        let path = TreePath::parse(&path, "path")?;
        Ok(assets::at_path(ctx.app(), ctx.actor(), &path).await?.map(Asset::from))
    }

    /// Every asset across the whole tree.
    async fn assets(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "How many from the start; 50 by default, at most 200.")] first: Option<i32>,
        #[graphql(desc = "Start behind this cursor.")] after: Option<String>,
        #[graphql(desc = "How many from the end; at most 200.")] last: Option<i32>,
        #[graphql(desc = "End ahead of this cursor.")] before: Option<String>,
        #[graphql(desc = "By name, unless said otherwise.")] order_by: Option<AssetOrder>,
    ) -> Result<AssetConnection> {
        ctx.actor().require(crate::domain::actor::Role::Viewer)?;
        list(ctx, Within::Tree(String::new()), page_args(first, after, last, before), order_by).await
    }
}

/// Mutations of assets.
#[derive(Default)]
pub struct AssetMutation;

#[Object]
impl AssetMutation {
    /// Creates an asset without a version; missing folders above it are made.
    async fn create_asset(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What to create.")] input: CreateAssetInput,
    ) -> Result<CreateAssetPayload> {
        let path = TreePath::parse_named(&input.path, "input.path")?;
        let new = assets::NewAsset {
            visibility: input.visibility.map(Into::into),
            title: input.title,
            alt_text: input.alt_text,
            tags: input.tags,
            metadata: input.metadata.map(|metadata| metadata.0),
        };
        let done = assets::create(ctx.app(), ctx.actor(), path, new).await?;
        Ok(CreateAssetPayload { asset: done.value.into(), changes: Change::list(done.changes) })
    }

    /// Changes what an asset has besides its path and versions.
    async fn update_asset(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What to update.")] input: UpdateAssetInput,
    ) -> Result<UpdateAssetPayload> {
        let target = input.asset.parse("input.asset")?;
        if input.visibility.is_null() {
            return Err(
                Error::bad_input("input.visibility", "cannot be cleared: give PUBLIC or PRIVATE").into()
            );
        }
        let update = assets::AssetUpdate {
            visibility: input.visibility.take().map(Into::into),
            title: settable(input.title),
            alt_text: settable(input.alt_text),
            tags: settable(input.tags),
            metadata: settable(input.metadata).map(|metadata| metadata.map(|metadata| metadata.0)),
        };
        let if_revision = input.if_revision.map(i64::from);
        let done = assets::update(ctx.app(), ctx.actor(), target, update, if_revision).await?;
        Ok(UpdateAssetPayload { asset: done.value.into(), changes: Change::list(done.changes) })
    }

    /// Moves an asset to another folder; its versions and their URLs stay.
    async fn move_asset(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What to move, and where to.")] input: MoveAssetInput,
    ) -> Result<MoveAssetPayload> {
        let target = input.asset.parse("input.asset")?;
        let to = input.to_folder.parse("input.toFolder")?;
        let if_revision = input.if_revision.map(i64::from);
        let done = assets::relocate(ctx.app(), ctx.actor(), target, to, if_revision).await?;
        let assets::Moved { asset, old_path } = done.value;
        Ok(MoveAssetPayload { asset: asset.into(), old_path, changes: Change::list(done.changes) })
    }

    /// Renames an asset within its folder.
    async fn rename_asset(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What to rename, and how.")] input: RenameAssetInput,
    ) -> Result<RenameAssetPayload> {
        let target = input.asset.parse("input.asset")?;
        let if_revision = input.if_revision.map(i64::from);
        let done = assets::rename(ctx.app(), ctx.actor(), target, &input.new_name, if_revision).await?;
        let assets::Moved { asset, old_path } = done.value;
        Ok(RenameAssetPayload { asset: asset.into(), old_path, changes: Change::list(done.changes) })
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

/// Subscriptions to assets.
#[derive(Default)]
pub struct AssetSubscription;

#[Subscription]
impl AssetSubscription {
    /// The asset at a path now, and again whenever it changes; null while there is none.
    async fn asset(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Its path, e.g. images/hero.")] path: String,
    ) -> Result<impl Stream<Item = Result<Option<Asset>>>> {
        let path = TreePath::parse_named(&path, "path")?;
        let watch = Watch::new(ctx.app(), ctx.actor(), path).await?;
        Ok(futures_util::stream::unfold(watch, |mut watch| async {
            let asset = watch.asset().await.map(|asset| asset.map(Asset::from));
            Some((asset.map_err(Into::into), watch))
        }))
    }
}
