//! Folders: object, inputs, queries, mutations, subscription.

mod input;

use std::sync::Arc;

use async_graphql::{Context, ID, Object, Subscription};
use entity::{FolderId, deletion, folder};
use futures_util::Stream;

use super::as_of::AsOf;
use super::asset::{AssetConnection, AssetFilter, AssetOrder};
use super::change::{Change, ChangeConnection, ChangeType, changes};
use super::connection::{Connection, Entry, connection, page_args};
use super::context::{ContextExt as _, Result};
use super::list::List;
use super::loaders::FolderAt;
use super::scalar::DateTime;
use super::viewer::Actor;
use crate::domain::as_of::{self, FolderThen, Then};
use crate::domain::asset::{Parent, Within};
use crate::domain::change::Watch;
use crate::domain::error::Error;
use crate::domain::folder::{self as folders, Inside};
use crate::domain::page::{Direction, Page};
use crate::domain::path::{TreePath, lineage_paths};
use crate::domain::trash::{self};
use crate::feed::Index;

pub use input::*;

/// A place in the tree.
#[derive(Clone)]
pub struct Folder {
    row: Arc<folder::Model>,
    /// The moment that it is told of as it was then; none is now.
    then: Option<Then>,
}

impl Folder {
    /// A folder as it was at a moment; as it is, without one.
    pub const fn at(row: Arc<folder::Model>, then: Option<Then>) -> Self {
        Self { row, then }
    }

    /// A folder as it is.
    pub const fn now(row: Arc<folder::Model>) -> Self {
        Self { row, then: None }
    }

    /// Its row.
    pub fn row(&self) -> &folder::Model {
        &self.row
    }

    async fn deletion(&self, ctx: &Context<'_>) -> Result<Option<Arc<deletion::Model>>> {
        match self.row.deletion_id {
            Some(id) => Ok(ctx.loaders().one(id).await?),
            None => Ok(None),
        }
    }
}

/// A place in the tree. It is known by its id: a move or a rename changes its path, never its id.
#[Object]
impl Folder {
    /// Opaque id, the same for ever.
    pub async fn id(&self) -> ID {
        self.row.id.into()
    }

    /// Slash-separated, no leading slash; empty for the root.
    async fn path(&self) -> &str {
        &self.row.path
    }

    /// Last segment of the path; empty for the root.
    async fn name(&self) -> &str {
        &self.row.name
    }

    /// What people see; free text, defaults to the name.
    async fn title(&self) -> &str {
        self.row.display_title()
    }

    /// The folder that it lies in; null for the root.
    async fn parent(&self, ctx: &Context<'_>) -> Result<Option<Self>> {
        let Some(parent) = self.row.parent_id else {
            return Ok(None);
        };
        Ok(ctx.loaders().one(parent).await?.map(Self::now))
    }

    /// From the root down to the parent; at most 32.
    async fn ancestors(&self, ctx: &Context<'_>) -> Result<List<Self>> {
        let mut paths = lineage_paths(&self.row.path);
        paths.pop();
        let keys = paths.iter().cloned().map(FolderAt).collect();
        let mut found = ctx.loaders().many(keys).await?;
        Ok(paths.into_iter().filter_map(|path| found.remove(&FolderAt(path))).map(Self::now).collect())
    }

    /// The folders right in it.
    async fn folders(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "How many from the start; 50 by default, at most 200.")] first: Option<i32>,
        #[graphql(desc = "Start behind this cursor.")] after: Option<String>,
        #[graphql(desc = "How many from the end; at most 200.")] last: Option<i32>,
        #[graphql(desc = "End ahead of this cursor.")] before: Option<String>,
        #[graphql(desc = "By name, unless said otherwise.")] order_by: Option<FolderOrder>,
    ) -> Result<FolderConnection> {
        let (order, direction) =
            order_by.map_or((folders::FolderOrder::Name, Direction::Ascending), FolderOrder::split);
        let page = Page::new(&page_args(first, after, last, before), order.word())?;
        let inside = Inside::of(&self.row);
        let listing = folders::Listing { inside, page, order, direction };
        let slice = ctx.loaders().one(listing).await?.unwrap_or_default();
        let page = Connection::new(slice, order, |row| Self::now(Arc::new(row)));
        Ok(FolderConnection::new(page, inside))
    }

    /// The assets in it. Of a folder as it was then: those that were right in it, by name.
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
        #[graphql(desc = "Also the assets of every folder below.", default = false)] recursive: bool,
    ) -> Result<AssetConnection> {
        let args = page_args(first, after, last, before);
        if let Some(then) = self.then {
            if filter.is_some() || order_by.is_some() || recursive {
                let message = "cannot be used with at: assets as of then are listed by name";
                return Err(Error::bad_input("filter, orderBy, recursive", message).into());
            }
            let folder = FolderThen { row: Arc::clone(&self.row), then };
            return super::asset::list_as_of(ctx, &folder, &args).await;
        }
        if recursive && self.row.deletion_id.is_some() {
            let message = "cannot be used in the trash: list folders and assets folder by folder";
            return Err(Error::bad_input("recursive", message).into());
        }
        let within = if recursive {
            Within::Tree(self.row.path.clone())
        } else {
            Within::Folder(Parent(Arc::clone(&self.row)))
        };
        super::asset::list(ctx, within, args, filter, order_by).await
    }

    /// What happened to it and in it, oldest first.
    async fn changes(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "How many; 50 by default, at most 200.")] first: Option<i32>,
        #[graphql(desc = "Start behind this cursor of the changelog.")] after: Option<String>,
        #[graphql(desc = "Only these.")] types: Option<Vec<ChangeType>>,
        #[graphql(desc = "Also what happened in folders below.", default = true)] recursive: bool,
    ) -> Result<ChangeConnection> {
        changes(ctx, Index::Folder { id: self.row.id, recursive }, first, after, types).await
    }

    /// Grows by one with every change of this folder itself; hand it back as ifRevision.
    async fn revision(&self) -> i64 {
        self.row.revision
    }

    /// When it was made.
    async fn created_at(&self) -> DateTime {
        DateTime(self.row.created_at)
    }

    /// Who made it.
    async fn created_by(&self) -> Actor {
        self.row.created_by.clone().into()
    }

    /// When it was changed last.
    async fn updated_at(&self) -> DateTime {
        DateTime(self.row.updated_at)
    }

    /// Who changed it last.
    async fn updated_by(&self) -> Actor {
        self.row.updated_by.clone().into()
    }

    /// Set while the folder is in the trash, by itself or with one above it.
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

impl From<folder::Model> for Folder {
    fn from(row: folder::Model) -> Self {
        Self::now(Arc::new(row))
    }
}

impl From<FolderThen> for Folder {
    fn from(folder: FolderThen) -> Self {
        Self { row: folder.row, then: Some(folder.then) }
    }
}

impl Entry for Folder {
    type Order = folders::FolderOrder;

    fn cursor(&self, order: folders::FolderOrder) -> String {
        order.position(&self.row).cursor(order.word())
    }
}

connection!(FolderConnection, FolderEdge, Folder, Inside, "folders");

/// Queries about folders.
#[derive(Default)]
pub struct FolderQuery;

#[Object]
impl FolderQuery {
    /// The root folder.
    async fn root(&self, ctx: &Context<'_>) -> Result<Folder> {
        let root = folders::at_path(ctx.app(), ctx.actor(), &TreePath::root()).await?;
        root.map(Folder::from).ok_or_else(|| format!("{} is missing", FolderId::ROOT).into())
    }

    /// The folder at a path; null when there is none.
    async fn folder(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Its path; empty for the root.")] path: String,
        #[graphql(desc = "As it was then, found at the path that it had then; what it is called is as now.")]
        at: Option<AsOf>,
    ) -> Result<Option<Folder>> {
        let path = TreePath::parse(&path, "path")?;
        if let Some(at) = at {
            let found = as_of::folder(ctx.app(), ctx.actor(), &path, &at.into()).await?;
            return Ok(found.map(Folder::from));
        }
        Ok(folders::at_path(ctx.app(), ctx.actor(), &path).await?.map(Folder::from))
    }
}

/// Mutations of folders.
#[derive(Default)]
pub struct FolderMutation;

#[Object]
impl FolderMutation {
    /// Creates the folder and any missing above it; an existing one is returned as it is.
    async fn create_folder(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What to create.")] input: CreateFolderInput,
    ) -> Result<CreateFolderPayload> {
        let done = folders::create(ctx.app(), ctx.actor(), input.parse()?).await?;
        let folders::Created { folder, created } = done.value;
        Ok(CreateFolderPayload { folder: folder.into(), created, changes: Change::list(done.changes) })
    }

    /// Sets the title of a folder.
    async fn update_folder(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What to update.")] input: UpdateFolderInput,
    ) -> Result<UpdateFolderPayload> {
        let done = folders::update(ctx.app(), ctx.actor(), input.parse()?).await?;
        Ok(UpdateFolderPayload { folder: done.value.into(), changes: Change::list(done.changes) })
    }

    /// Moves or renames a folder with all below it, in one commit and one change.
    async fn move_folder(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What to move, and where to.")] input: MoveFolderInput,
    ) -> Result<MoveFolderPayload> {
        let (relocation, ending) = input.parse()?;
        let done = folders::relocate(ctx.app(), ctx.actor(), relocation, ending).await?;
        let folders::Moved { folder, old_path, folders, assets } = done.value;
        Ok(MoveFolderPayload {
            folder: folder.into(),
            old_path,
            moved_folders: folders,
            moved_assets: assets,
            changes: Change::list(done.changes),
        })
    }

    /// Puts a folder into the trash with all that is in it, in one commit and one change.
    async fn delete_folder(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What to delete.")] input: DeleteFolderInput,
    ) -> Result<DeleteFolderPayload> {
        let done = trash::delete_folder(ctx.app(), ctx.actor(), input.parse()?).await?;
        let changes = Change::list(done.changes);
        let trash::Taken { folders, assets, .. } = done.value;
        Ok(DeleteFolderPayload { deleted_folders: folders, deleted_assets: assets, changes })
    }
}

/// Subscriptions to folders.
#[derive(Default)]
pub struct FolderSubscription;

#[Subscription]
impl FolderSubscription {
    /// The folder at a path now, and again whenever it or something directly in it changes; null while there
    /// is none.
    async fn folder(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Its path; empty for the root.")] path: String,
    ) -> Result<impl Stream<Item = Result<Option<Folder>>>> {
        let path = TreePath::parse(&path, "path")?;
        let progress = ctx.progress();
        let watch = Watch::folder(ctx.app(), ctx.actor(), path, progress.leg()).await?;
        progress.begin(watch.start());
        Ok(futures_util::stream::unfold((watch, progress), |(mut watch, progress)| async {
            let folder = match watch.next().await {
                Ok(cause) => {
                    progress.reach(cause?.into());
                    watch.folder_now().await
                }
                Err(error) => Err(error),
            };
            Some((folder.map(|folder| folder.map(Folder::from)).map_err(Into::into), (watch, progress)))
        }))
    }
}
