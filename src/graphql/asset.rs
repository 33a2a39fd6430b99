//! Assets: object, inputs, queries, mutations, subscription.

mod input;

use std::sync::Arc;

use async_graphql::{Context, ID, Object, Subscription};
use entity::deletion;
use entity::version::State;
use futures_util::Stream;

use super::as_of::AsOf;
use super::change::{Change, ChangeConnection, ChangeType, changes};
use super::connection::{Connection, Entry, Total, connection, page_args};
use super::context::{ContextExt as _, Result};
use super::folder::Folder;
use super::loaders::{FormerOf, Numbered, VersionsOf};
use super::plain;
use super::scalar::{DateTime, Json, Url};
use super::version::{Version, VersionConnection, VersionOrder, VersionState};
use super::viewer::Actor;
use crate::domain::as_of::{self, FolderThen};
use crate::domain::asset::{self as assets, Selection, Within};
use crate::domain::change::Watch;
use crate::domain::page::{Direction, Page, PageArgs};
use crate::domain::path::TreePath;
use crate::domain::scope::Scope;
use crate::domain::trash::{self, AssetsDeletion};
use crate::domain::version as versions;
use crate::feed::Index;

pub use input::*;

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

    /// Paths it had before and that nothing else took since, newest first; their URLs lead to it. At most 64.
    async fn former_paths(&self, ctx: &Context<'_>) -> Result<Vec<String>> {
        Ok(ctx.loaders().one(FormerOf(Arc::clone(&self.0))).await?.unwrap_or_default())
    }

    /// Last segment of the path.
    async fn name(&self) -> &str {
        &self.0.row.name
    }

    /// The folder that it lies in.
    async fn folder(&self) -> Folder {
        Folder::at(Arc::clone(&self.0.folder), self.0.as_of)
    }

    /// Who may read the published bytes.
    async fn visibility(&self) -> Visibility {
        self.0.row.visibility.into()
    }

    /// Null until something is published, and after the published version is archived.
    async fn published_version(&self, ctx: &Context<'_>) -> Result<Option<Version>> {
        if let Some(published) = &self.0.published {
            return Ok(Some(Version(Arc::clone(published))));
        }
        match self.0.row.published_version_id {
            Some(id) => Ok(ctx.loaders().one(id).await?.map(Version)),
            None => Ok(None),
        }
    }

    /// The newest version, published or not; null while there is none.
    async fn latest_version(&self, ctx: &Context<'_>) -> Result<Option<Version>> {
        if self.0.row.latest_number == 0 {
            return Ok(None);
        }
        if ctx.actor().scope() == Scope::All {
            let newest = Numbered(self.0.row.id, self.0.row.latest_number);
            return Ok(ctx.loaders().one(newest).await?.map(Version));
        }
        // The newest one may be a draft.
        let page = Page::new(&page_args(Some(1), None, None, None), versions::ORDER)?;
        let direction = Direction::Descending;
        let listing = versions::Listing { asset: self.0.row.id, page, states: None, direction };
        let newest = ctx.loaders().one(listing).await?.unwrap_or_default().rows.pop();
        Ok(newest.map(Version::from))
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

    /// The stable URL: always the published bytes; caches must revalidate it. Null while nothing is published, in
    /// the trash, and of an asset as it was then: publishedVersion.url leads to those bytes.
    async fn url(&self, ctx: &Context<'_>) -> Option<Url> {
        assets::url(ctx.app(), &self.0).map(Url)
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

    /// Set while the asset is in the trash, by itself or with its folder.
    async fn deleted_at(&self, ctx: &Context<'_>) -> Result<Option<DateTime>> {
        Ok(self.deletion(ctx).await?.map(|deletion| DateTime(deletion.deleted_at)))
    }

    /// Who deleted it.
    async fn deleted_by(&self, ctx: &Context<'_>) -> Result<Option<Actor>> {
        Ok(self.deletion(ctx).await?.map(|deletion| deletion.deleted_by.clone().into()))
    }

    /// When the trash lets go of it for good.
    async fn purge_at(&self, ctx: &Context<'_>) -> Result<Option<DateTime>> {
        Ok(self.deletion(ctx).await?.map(|deletion| DateTime(deletion.purge_at)))
    }
}

impl Asset {
    async fn deletion(&self, ctx: &Context<'_>) -> Result<Option<Arc<deletion::Model>>> {
        match self.0.deletion_id() {
            Some(id) => Ok(ctx.loaders().one(id).await?),
            None => Ok(None),
        }
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

connection!(AssetConnection, AssetEdge, Asset, Selection, "assets");

/// A page of the assets in a place.
pub async fn list(
    ctx: &Context<'_>,
    within: Within,
    args: PageArgs,
    filter: Option<AssetFilter>,
    order_by: Option<AssetOrder>,
) -> Result<AssetConnection> {
    let (order, direction) =
        order_by.map_or((assets::AssetOrder::Name, Direction::Ascending), AssetOrder::split);
    let page = Page::new(&args, order.word())?;
    let filter = filter.map(AssetFilter::parse).transpose()?.map(Arc::new);
    let selection = Selection { within, filter };
    let along = plain::along(ctx);
    let listing = assets::Listing { selection: selection.clone(), page, order, direction, along };
    let slice = ctx.loaders().one(listing).await?.unwrap_or_default();
    Ok(AssetConnection::new(Connection::new(slice, order, Asset::from), selection))
}

/// A page of the assets that were in a folder then.
pub async fn list_as_of(ctx: &Context<'_>, folder: &FolderThen, args: &PageArgs) -> Result<AssetConnection> {
    let order = assets::AssetOrder::Name;
    let page = Page::new(args, order.word())?;
    let (slice, total) = as_of::assets_in(ctx.app(), folder, &page).await?;
    Ok(AssetConnection::new(Connection::new(slice, order, Asset::from), Total::Known(total)))
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
        #[graphql(desc = "As it was then, found at the path that it had then: path, name, folder and \
                         publishedVersion; what the log does not keep is as now.")]
        at: Option<AsOf>,
    ) -> Result<Option<Asset>> {
        let path = TreePath::parse(&path, "path")?;
        if let Some(at) = at {
            return Ok(as_of::asset(ctx.app(), ctx.actor(), &path, &at.into()).await?.map(Asset::from));
        }
        Ok(assets::at_path(ctx.app(), ctx.actor(), &path).await?.map(Asset::from))
    }

    /// Every asset, or those that match, across the whole tree.
    #[expect(clippy::too_many_arguments, reason = "a connection has four arguments of its own")]
    async fn assets(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "How many from the start; 50 by default, at most 200.")] first: Option<i32>,
        #[graphql(desc = "Start behind this cursor.")] after: Option<String>,
        #[graphql(desc = "How many from the end; at most 200.")] last: Option<i32>,
        #[graphql(desc = "End ahead of this cursor.")] before: Option<String>,
        #[graphql(desc = "Only those that match.")] filter: Option<AssetFilter>,
        #[graphql(desc = "By name, unless said otherwise.")] order_by: Option<AssetOrder>,
    ) -> Result<AssetConnection> {
        let args = page_args(first, after, last, before);
        list(ctx, Within::Tree(String::new()), args, filter, order_by).await
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
        let (path, new) = input.parse()?;
        let done = assets::create(ctx.app(), ctx.actor(), path, new).await?;
        Ok(CreateAssetPayload { asset: done.value.into(), changes: Change::list(done.changes) })
    }

    /// Changes what an asset has besides its path and versions.
    async fn update_asset(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What to update.")] input: UpdateAssetInput,
    ) -> Result<UpdateAssetPayload> {
        let done = assets::update(ctx.app(), ctx.actor(), input.parse()?).await?;
        Ok(UpdateAssetPayload { asset: done.value.into(), changes: Change::list(done.changes) })
    }

    /// Moves an asset to another folder; its versions and their URLs stay.
    async fn move_asset(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What to move, and where to.")] input: MoveAssetInput,
    ) -> Result<MoveAssetPayload> {
        let done = assets::relocate(ctx.app(), ctx.actor(), input.parse()?).await?;
        let assets::Moved { asset, old_path } = done.value;
        Ok(MoveAssetPayload { asset: asset.into(), old_path, changes: Change::list(done.changes) })
    }

    /// Renames an asset within its folder.
    async fn rename_asset(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What to rename, and how.")] input: RenameAssetInput,
    ) -> Result<RenameAssetPayload> {
        let done = assets::rename(ctx.app(), ctx.actor(), input.parse()?).await?;
        let assets::Moved { asset, old_path } = done.value;
        Ok(RenameAssetPayload { asset: asset.into(), old_path, changes: Change::list(done.changes) })
    }

    /// Puts an asset into the trash: its name is free at once, and all its URLs answer 404.
    async fn delete_asset(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What to delete.")] input: DeleteAssetInput,
    ) -> Result<DeleteAssetPayload> {
        let done = trash::delete_asset(ctx.app(), ctx.actor(), input.parse()?).await?;
        let asset = done.value.asset;
        let deleted_versions = asset.row.latest_number;
        Ok(DeleteAssetPayload { asset: asset.into(), deleted_versions, changes: Change::list(done.changes) })
    }

    /// Deletes many in one commit: all that are right in a folder, or those named; at most 10,000. Each comes
    /// back from the trash by itself.
    async fn delete_assets(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What to delete.")] input: DeleteAssetsInput,
    ) -> Result<DeleteAssetsPayload> {
        let folder = input.folder.parse("input.folder")?;
        let what = AssetsDeletion { folder, names: input.names };
        let done = trash::delete_assets(ctx.app(), ctx.actor(), what).await?;
        let trash::Taken { assets, versions, .. } = done.value;
        let changes = Change::list(done.changes);
        Ok(DeleteAssetsPayload { deleted_assets: assets, deleted_versions: versions, changes })
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
        let progress = ctx.progress();
        let watch = Watch::asset(ctx.app(), ctx.actor(), path, progress.leg()).await?;
        progress.begin(watch.start());
        Ok(futures_util::stream::unfold((watch, progress), |(mut watch, progress)| async {
            let asset = match watch.next().await {
                Ok(cause) => {
                    progress.reach(cause?.into());
                    watch.asset_now().await
                }
                Err(error) => Err(error),
            };
            Some((asset.map(|asset| asset.map(Asset::from)).map_err(Into::into), (watch, progress)))
        }))
    }
}
