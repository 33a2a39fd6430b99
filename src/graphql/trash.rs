//! The trash: union, connection, query, mutations.

use async_graphql::{Context, ID, InputObject, Object, SimpleObject, Union};
use entity::{AssetId, FolderId, deletion};

use super::asset::Asset;
use super::change::Change;
use super::connection::PageInfo;
use super::context::{ContextExt as _, Result};
use super::folder::Folder;
use super::list::List;
use super::node::parse_id;
use super::scalar::ByteCount;
use crate::domain::error::{Error, Result as Parsed};
use crate::domain::page::{Page, PageArgs, Slice};
use crate::domain::path::TreePath;
use crate::domain::trash::{self, Item, Restored};

/// Something that was deleted, or came back.
#[derive(Union, Clone)]
pub enum Trashed {
    /// A folder, with all that went with it.
    Folder(Folder),
    /// An asset.
    Asset(Asset),
}

impl From<trash::Node> for Trashed {
    fn from(node: trash::Node) -> Self {
        match node {
            trash::Node::Folder(row) => Self::Folder(Folder::now(row)),
            trash::Node::Asset(asset) => Self::Asset(Asset(asset)),
        }
    }
}

/// A page of the trash.
pub struct TrashConnection {
    page: Slice<(trash::Node, deletion::Model)>,
}

/// A page of what was deleted.
#[Object]
impl TrashConnection {
    /// The things on this page with their cursors.
    async fn edges(&self) -> List<TrashEdge> {
        let edge = |(node, row): &(trash::Node, deletion::Model)| TrashEdge {
            cursor: trash::position(row).cursor(trash::ORDER),
            node: node.clone().into(),
        };
        self.page.rows.iter().map(edge).collect()
    }

    /// The things on this page.
    async fn nodes(&self) -> List<Trashed> {
        self.page.rows.iter().map(|(node, _)| node.clone().into()).collect()
    }

    /// Where this page stands.
    async fn page_info(&self) -> PageInfo {
        let cursor = |edge: Option<&(trash::Node, deletion::Model)>| {
            edge.map(|(_, row)| trash::position(row).cursor(trash::ORDER))
        };
        PageInfo {
            has_next_page: self.page.has_next_page,
            has_previous_page: self.page.has_previous_page,
            start_cursor: cursor(self.page.rows.first()),
            end_cursor: cursor(self.page.rows.last()),
        }
    }
}

/// Something in the trash, with its place in the connection.
#[derive(SimpleObject)]
pub struct TrashEdge {
    /// Continue behind this one with it.
    cursor: String,
    /// The thing itself.
    node: Trashed,
}

/// What is to come back from the trash.
#[derive(InputObject)]
pub struct RestoreFromTrashInput {
    /// The folder or asset that was deleted.
    id: ID,
    /// Another place, when the old one is taken; missing folders above it are made.
    to_path: Option<String>,
}

impl RestoreFromTrashInput {
    /// What the domain takes.
    pub fn parse(self) -> Parsed<trash::Restoration> {
        let to = self.to_path.map(|path| TreePath::parse_named(&path, "input.toPath")).transpose()?;
        Ok(trash::Restoration { item: parse_item(&self.id)?, to })
    }
}

fn parse_item(id: &ID) -> Parsed<Item> {
    let prefix = id.rsplit_once('_').map_or("", |(prefix, _)| prefix);
    match prefix {
        FolderId::PREFIX => Ok(Item::Folder(parse_id(id, "input.id")?)),
        AssetId::PREFIX => Ok(Item::Asset(parse_id(id, "input.id")?)),
        _ => Err(Error::bad_input("input.id", "is not the id of a folder or an asset")),
    }
}

/// What came back.
#[derive(SimpleObject)]
pub struct RestoreFromTrashPayload {
    /// The folder or asset where it is now.
    node: Trashed,
    /// The entries that it wrote.
    changes: List<Change>,
}

/// What the trash is to let go of.
#[derive(InputObject)]
pub struct PurgeTrashInput {
    /// One folder or asset that was deleted; left out, all whose time is over.
    id: Option<ID>,
}

/// What the trash let go of, for good.
#[derive(SimpleObject)]
pub struct PurgeTrashPayload {
    /// How many folders.
    purged_folders: i32,
    /// How many assets.
    purged_assets: i32,
    /// Bytes that nothing else needs.
    freed_bytes: ByteCount,
}

/// Queries about the trash.
#[derive(Default)]
pub struct TrashQuery;

#[Object]
impl TrashQuery {
    /// Deleted folders and assets, newest first. What went with a folder is in it, not beside it.
    async fn trash(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "How many; 50 by default, at most 200.")] first: Option<i32>,
        #[graphql(desc = "Start behind this cursor.")] after: Option<String>,
    ) -> Result<TrashConnection> {
        let page = Page::new(&PageArgs { first, after, ..PageArgs::default() }, trash::ORDER)?;
        Ok(TrashConnection { page: trash::list(ctx.app(), ctx.actor(), page).await? })
    }
}

/// Mutations of the trash.
#[derive(Default)]
pub struct TrashMutation;

#[Object]
impl TrashMutation {
    /// Brings back what one deletion took, with versions, labels, published version and path.
    async fn restore_from_trash(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What to bring back.")] input: RestoreFromTrashInput,
    ) -> Result<RestoreFromTrashPayload> {
        let done = trash::restore(ctx.app(), ctx.actor(), input.parse()?).await?;
        let node = match done.value {
            Restored::Folder(row) => Trashed::Folder((*row).into()),
            Restored::Asset(asset) => Trashed::Asset((*asset).into()),
        };
        Ok(RestoreFromTrashPayload { node, changes: Change::list(done.changes) })
    }

    /// Lets go of trashed things at once: of one, or of all that are past their time. There is no way back.
    async fn purge_trash(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What to let go of.")] input: PurgeTrashInput,
    ) -> Result<PurgeTrashPayload> {
        let item = input.id.as_ref().map(parse_item).transpose()?;
        let purged = trash::purge(ctx.app(), ctx.actor(), item).await?;
        Ok(PurgeTrashPayload {
            purged_folders: purged.folders.try_into()?,
            purged_assets: purged.assets.try_into()?,
            freed_bytes: ByteCount(purged.bytes),
        })
    }
}
