//! The changelog: object, filter, queries, subscription.

use std::sync::Arc;

use async_graphql::{Context, Enum, ID, InputObject, Object, SimpleObject, Subscription};
use entity::change;
use futures_util::Stream;

use super::asset::{Asset, AssetRef};
use super::connection::PageInfo;
use super::context::{ContextExt as _, Result};
use super::fanout::Place;
use super::folder::{Folder, FolderRef};
use super::list::List;
use super::plain::Nodes;
use super::scalar::{ByteCount, DateTime};
use super::version::Version;
use super::viewer::Actor;
use crate::domain::actor::Role;
use crate::domain::asset as assets;
use crate::domain::change as log;
use crate::domain::folder as folders;
use crate::domain::page;
use crate::domain::path::{name_of, parent_of};
use crate::feed::{AssetScope, Filter, FolderScope, Index, IndexPage};

/// One entry of the changelog.
#[derive(Clone)]
pub struct Change(pub Arc<change::Model>);

/// One entry of the changelog. It says what was true when it was written, whatever happened since;
/// folder, asset and version lead to the things as they are now, and are null once purged.
#[Object]
impl Change {
    /// Opaque id, the same for ever.
    pub async fn id(&self) -> ID {
        self.own_id().into()
    }

    /// Resume after this entry with it.
    async fn cursor(&self, ctx: &Context<'_>) -> String {
        ctx.app().feed().encode(self.0.seq)
    }

    /// What happened.
    #[graphql(name = "type")]
    async fn kind(&self) -> ChangeType {
        self.0.kind.into()
    }

    /// When.
    async fn at(&self) -> DateTime {
        DateTime(self.0.at)
    }

    /// Who did it.
    async fn actor(&self) -> Actor {
        self.0.actor.clone().into()
    }

    /// Path of the folder or asset after the change.
    async fn path(&self) -> &str {
        &self.0.path
    }

    /// Path before a move or rename.
    async fn old_path(&self) -> Option<&str> {
        self.0.old_path.as_deref()
    }

    /// Path of the folder that it lies in.
    async fn folder_path(&self) -> &str {
        parent_of(&self.0.path)
    }

    /// Last segment of the path.
    async fn name(&self) -> &str {
        name_of(&self.0.path)
    }

    /// Number of the version that it is about.
    async fn version_number(&self) -> Option<i32> {
        self.0.version_number
    }

    /// Media type of that version.
    async fn content_type(&self) -> Option<&str> {
        self.0.content_type.as_deref()
    }

    /// Size of that version.
    async fn size(&self) -> Option<ByteCount> {
        self.0.size_bytes.map(ByteCount)
    }

    /// SHA-256 of that version, in lower-case hex.
    async fn sha256(&self) -> Option<&str> {
        self.0.sha256.as_deref()
    }

    /// The folder that changed, or that the asset was in, as it is now.
    async fn folder(&self, ctx: &Context<'_>) -> Result<Option<Folder>> {
        let Some(id) = self.0.folder_id else {
            return Ok(None);
        };
        Ok(ctx.loaders().one(id).await?.map(Folder::now))
    }

    /// The asset as it is now.
    async fn asset(&self, ctx: &Context<'_>) -> Result<Option<Asset>> {
        let Some(id) = self.0.asset_id else {
            return Ok(None);
        };
        Ok(ctx.loaders().one(id).await?.map(Asset))
    }

    /// The version as it is now.
    async fn version(&self, ctx: &Context<'_>) -> Result<Option<Version>> {
        let Some(id) = self.0.version_id else {
            return Ok(None);
        };
        Ok(ctx.loaders().one(id).await?.map(Version))
    }
}

impl Change {
    /// What the ids of entries begin with.
    pub const ID_PREFIX: &str = "change";

    /// Its opaque id.
    pub fn own_id(&self) -> String {
        format!("{}_{}", Self::ID_PREFIX, self.0.seq)
    }

    /// Entries of a page.
    fn nodes(rows: Vec<change::Model>) -> Nodes<Self> {
        Nodes(rows.into_iter().map(|row| Self(Arc::new(row))).collect())
    }

    /// The entries that an operation wrote.
    pub fn list(rows: Vec<change::Model>) -> List<Self> {
        rows.into_iter().map(|row| Self(Arc::new(row))).collect()
    }
}

/// What happened.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "change::ChangeType")]
pub enum ChangeType {
    /// A folder was made.
    FolderCreate,
    /// A folder got another title.
    FolderUpdate,
    /// A folder was moved or renamed, with all below it.
    FolderMove,
    /// A folder went to the trash, with all below it.
    FolderDelete,
    /// A folder came back from the trash.
    FolderRestore,
    /// An asset was made.
    AssetCreate,
    /// An asset's title, text, tags, metadata or visibility changed, or the label of a version.
    AssetUpdate,
    /// Readers get another version.
    AssetPublish,
    /// A version was set aside.
    AssetArchive,
    /// An asset moved to another folder.
    AssetMove,
    /// An asset was renamed within its folder.
    AssetRename,
    /// An asset went to the trash.
    AssetDelete,
    /// An asset came back from the trash.
    AssetRestore,
    /// An asset is gone for good.
    AssetPurge,
    /// A draft was added.
    VersionCreate,
}

/// A page of the changelog, oldest first.
pub struct ChangeConnection {
    entries: Nodes<Change>,
    next_cursor: String,
    has_next_page: bool,
    has_previous_page: bool,
}

/// A page of the changelog, oldest first.
#[Object]
impl ChangeConnection {
    /// The entries with their cursors.
    async fn edges(&self, ctx: &Context<'_>) -> List<ChangeEdge> {
        let edge =
            |node: &Change| ChangeEdge { cursor: ctx.app().feed().encode(node.0.seq), node: node.clone() };
        self.entries.0.iter().map(edge).collect()
    }

    /// The entries.
    async fn nodes(&self) -> &Nodes<Change> {
        &self.entries
    }

    /// Where this page stands.
    async fn page_info(&self, ctx: &Context<'_>) -> PageInfo {
        let cursor = |change: Option<&Change>| change.map(|change| ctx.app().feed().encode(change.0.seq));
        PageInfo {
            has_next_page: self.has_next_page,
            has_previous_page: self.has_previous_page,
            start_cursor: cursor(self.entries.0.first()),
            end_cursor: cursor(self.entries.0.last()),
        }
    }

    /// Ask again with it for what comes next; never null, also when the page is empty.
    async fn next_cursor(&self) -> &str {
        &self.next_cursor
    }
}

/// An entry with its place in the changelog.
#[derive(SimpleObject)]
pub struct ChangeEdge {
    /// Resume after this entry with it.
    cursor: String,
    /// The entry.
    node: Change,
}

/// Which entries are wanted; all of the given conditions hold for each.
#[derive(InputObject, Default)]
pub struct ChangeFilter {
    /// Only what happened in this folder. By id: that folder, wherever it lay; by path: whatever lay there then,
    /// moves of the folders above it among them.
    folder: Option<FolderRef>,
    /// With folder: also everything below it.
    #[graphql(default = true)]
    recursive: bool,
    /// Only what happened to this asset. By id: that asset, wherever it lay; by path: whatever lay there then.
    asset: Option<AssetRef>,
    /// Only these.
    types: Option<Vec<ChangeType>>,
}

impl ChangeFilter {
    fn parse(self) -> Result<Filter> {
        let recursive = self.recursive;
        let folder = self.folder.map(|folder| folder.parse("filter.folder")).transpose()?;
        let folder = folder.map(|folder| match folder {
            folders::FolderRef::Id(id) => FolderScope::Id { id, recursive },
            folders::FolderRef::Path(path) => FolderScope::Path { path: path.to_string(), recursive },
        });
        let asset = self.asset.map(|asset| asset.parse("filter.asset")).transpose()?;
        let asset = asset.map(|asset| match asset {
            assets::AssetRef::Id(id) => AssetScope::Id(id),
            assets::AssetRef::Path(path) => AssetScope::Path(path.to_string()),
        });
        let kinds = self.types.map(|types| types.into_iter().map(Into::into).collect());
        Ok(Filter { folder, asset, kinds })
    }
}

/// What a subscriber gets: entries in commit order, each exactly once, never splitting what one mutation
/// committed. An empty list is a checkpoint: nothing that matches happened up to cursor.
#[derive(SimpleObject)]
pub struct ChangeBatch {
    /// The entries.
    changes: Nodes<Change>,
    /// Resume after this batch with it.
    cursor: String,
}

/// A page of the entries of one thing.
pub async fn changes(
    ctx: &Context<'_>,
    index: Index,
    first: Option<i32>,
    after: Option<String>,
    types: Option<Vec<ChangeType>>,
) -> Result<ChangeConnection> {
    ctx.actor().require(Role::Viewer)?;
    let limit = first.map_or(Ok(page::DEFAULT_PAGE), |first| page::limit(first, "first"))?;
    let app = ctx.app();
    let (floor, head) = ctx.loaders().bounds().await?;
    let after = log::start(app, after.as_deref(), floor, head)?;
    let kinds = types.map(|types| types.into_iter().map(Into::into).collect());
    let key = IndexPage { index, after, kinds, limit: limit + 1 };
    let mut rows = ctx.loaders().one(key).await?.unwrap_or_default();
    let has_next_page = rows.len() > limit;
    rows.truncate(limit);
    let next = match rows.last() {
        Some(last) if has_next_page => last.seq,
        _ if has_next_page => after,
        // Rows committed since are above the head that was read before them.
        last => last.map_or(head, |last| last.seq.max(head)),
    };
    Ok(ChangeConnection {
        entries: Change::nodes(rows),
        next_cursor: app.feed().encode(next.max(after)),
        has_next_page,
        has_previous_page: after > floor,
    })
}

/// Queries about the changelog.
#[derive(Default)]
pub struct ChangeQuery;

#[Object]
impl ChangeQuery {
    /// The changelog after a cursor, oldest first; without after, from its oldest entry. A page may be empty
    /// although there is more, when a filter drops much: go on with nextCursor while hasNextPage.
    async fn changes(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "How many; 50 by default, at most 200.")] first: Option<i32>,
        #[graphql(desc = "Start behind this cursor.")] after: Option<String>,
        #[graphql(desc = "Only what matches.")] filter: Option<ChangeFilter>,
    ) -> Result<ChangeConnection> {
        let limit = first.map_or(Ok(page::DEFAULT_PAGE), |first| page::limit(first, "first"))?;
        let filter = filter.unwrap_or_default().parse()?;
        let page = log::page(ctx.app(), ctx.actor(), after.as_deref(), &filter, limit).await?;
        Ok(ChangeConnection {
            entries: Change::nodes(page.entries),
            next_cursor: page.next_cursor,
            has_next_page: page.has_next_page,
            has_previous_page: page.has_previous_page,
        })
    }

    /// The cursor of the newest entry: read it before a snapshot, then follow from it.
    async fn head_cursor(&self, ctx: &Context<'_>) -> Result<String> {
        Ok(log::head_cursor(ctx.app(), ctx.actor()).await?)
    }
}

/// Subscriptions to the changelog.
#[derive(Default)]
pub struct ChangeSubscription;

#[Subscription]
impl ChangeSubscription {
    /// The changelog as it happens. With after: first all that was missed since, then live, with no gap and no
    /// repeat at the seam. Without: from now on. A cursor older than the log keeps ends the subscription with
    /// code `CURSOR_EXPIRED`; read a snapshot and start from headCursor.
    async fn changes(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Start behind this cursor.")] after: Option<String>,
        #[graphql(desc = "Only what matches.")] filter: Option<ChangeFilter>,
    ) -> Result<impl Stream<Item = Result<ChangeBatch>>> {
        let filter = filter.unwrap_or_default().parse()?;
        let wants = Box::new(move |entry: &change::Model| filter.matches(entry));
        let progress = ctx.progress();
        let following = log::follow(ctx.app(), ctx.actor(), after.as_deref(), wants, progress.leg()).await?;
        progress.begin(following.start());
        Ok(futures_util::stream::unfold((following, progress), |(mut following, progress)| async {
            let batch = following.next().await.transpose()?.map(|batch| {
                let first = batch.entries.first().map(|entry| entry.seq);
                progress.reach(Place { after: batch.after, first, seq: batch.seq, as_of: None });
                ChangeBatch {
                    cursor: following.cursor(&batch),
                    changes: Nodes(batch.entries.into_iter().map(Change).collect()),
                }
            });
            Some((batch.map_err(Into::into), (following, progress)))
        }))
    }
}
