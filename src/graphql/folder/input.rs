//! What mutations and listings of folders take and answer.

use async_graphql::{Enum, ID, InputObject, OneofObject, SimpleObject};

use super::Folder;
use crate::domain::Ending;
use crate::domain::error::Result as Parsed;
use crate::domain::folder as folders;
use crate::domain::page::Direction;
use crate::domain::path::TreePath;
use crate::domain::trash::FolderDeletion;
use crate::graphql::change::Change;
use crate::graphql::list::List;
use crate::graphql::node::parse_id;

/// Names one folder: by id, or by path. The root's path is the empty string.
#[derive(OneofObject, Clone)]
pub enum FolderRef {
    /// Its id, the same for ever.
    Id(ID),
    /// The path that it has now.
    Path(String),
}

impl FolderRef {
    /// What the domain takes; `field` is named when it is no reference.
    pub fn parse(&self, field: &str) -> Parsed<folders::FolderRef> {
        Ok(match self {
            Self::Id(id) => folders::FolderRef::Id(parse_id(id, &format!("{field}.id"))?),
            Self::Path(path) => folders::FolderRef::Path(TreePath::parse(path, &format!("{field}.path"))?),
        })
    }
}

/// How folders are sorted.
#[derive(InputObject, Clone, Copy)]
pub struct FolderOrder {
    /// What by.
    field: FolderOrderField,
    /// Which way.
    #[graphql(default_with = "OrderDirection::Asc")]
    direction: OrderDirection,
}

/// What folders can be sorted by.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "folders::FolderOrder")]
pub enum FolderOrderField {
    /// By name, byte by byte.
    Name,
    /// By creation.
    CreatedAt,
    /// By last change.
    UpdatedAt,
}

/// Which way something is sorted.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
pub enum OrderDirection {
    /// Smallest, oldest or first in the alphabet at the start.
    Asc,
    /// Largest, newest or last in the alphabet at the start.
    Desc,
}

impl From<OrderDirection> for Direction {
    fn from(direction: OrderDirection) -> Self {
        match direction {
            OrderDirection::Asc => Self::Ascending,
            OrderDirection::Desc => Self::Descending,
        }
    }
}

impl FolderOrder {
    pub(super) fn split(self) -> (folders::FolderOrder, Direction) {
        (self.field.into(), self.direction.into())
    }
}

/// Either a whole path, or a parent and a title: then the name is made from the title, with -2, -3 … when taken.
#[derive(OneofObject)]
pub enum CreateFolderInput {
    /// Creates the folder at this path and any missing above it.
    Path(String),
    /// Creates a folder whose name is made from its title.
    Titled(TitledFolderInput),
}

/// A folder to be named by its title.
#[derive(InputObject)]
pub struct TitledFolderInput {
    /// Where.
    parent: FolderRef,
    /// What people see; any script.
    title: String,
}

/// What creating a folder did.
#[derive(SimpleObject)]
pub struct CreateFolderPayload {
    /// The folder.
    pub(super) folder: Folder,
    /// False when it was there already.
    pub(super) created: bool,
    /// The entries that it wrote.
    pub(super) changes: List<Change>,
}

/// A new title for a folder.
#[derive(InputObject)]
pub struct UpdateFolderInput {
    /// Which folder.
    folder: FolderRef,
    /// What people are to see.
    title: String,
    /// Refuse unless this is its revision.
    if_revision: Option<i32>,
}

/// What updating a folder did.
#[derive(SimpleObject)]
pub struct UpdateFolderPayload {
    /// The folder.
    pub(super) folder: Folder,
    /// The entries that it wrote; none when nothing changed.
    pub(super) changes: List<Change>,
}

/// A new place for a folder and all below it.
#[derive(InputObject)]
pub struct MoveFolderInput {
    /// Which folder.
    folder: FolderRef,
    /// Its whole new path; missing folders above it are made.
    to_path: String,
    /// Refuse unless this is its revision.
    if_revision: Option<i32>,
    /// Only tell what would happen.
    #[graphql(default = false)]
    dry_run: bool,
}

/// What moving a folder did.
#[derive(SimpleObject)]
pub struct MoveFolderPayload {
    /// The folder where it is now.
    pub(super) folder: Folder,
    /// Where it was.
    pub(super) old_path: String,
    /// How many folders moved, itself included; 0 when it was there already.
    pub(super) moved_folders: i32,
    /// How many assets moved with them.
    pub(super) moved_assets: i32,
    /// The entries that it wrote; of a dry run, those that it would write, with cursors that do not hold.
    pub(super) changes: List<Change>,
}

/// A folder to put into the trash.
#[derive(InputObject)]
pub struct DeleteFolderInput {
    /// Which folder.
    folder: FolderRef,
    /// With all that is in it. Without it a folder that is not empty is refused.
    #[graphql(default = false)]
    recursive: bool,
    /// Refuse unless this is its revision.
    if_revision: Option<i32>,
}

/// What deleting a folder did.
#[derive(SimpleObject)]
pub struct DeleteFolderPayload {
    /// How many folders went to the trash, itself included.
    pub(super) deleted_folders: i32,
    /// How many assets went with them.
    pub(super) deleted_assets: i32,
    /// The one entry that it wrote; none when it was in the trash already.
    pub(super) changes: List<Change>,
}

impl CreateFolderInput {
    /// What the domain takes.
    pub fn parse(self) -> Parsed<folders::NewFolder> {
        Ok(match self {
            Self::Path(path) => folders::NewFolder::At(TreePath::parse(&path, "input.path")?),
            Self::Titled(TitledFolderInput { parent, title }) => {
                folders::NewFolder::Titled { parent: parent.parse("input.titled.parent")?, title }
            }
        })
    }
}

impl UpdateFolderInput {
    /// What the domain takes.
    pub fn parse(self) -> Parsed<folders::Update> {
        let target = self.folder.parse("input.folder")?;
        Ok(folders::Update { target, title: self.title, if_revision: self.if_revision.map(i64::from) })
    }
}

impl MoveFolderInput {
    /// What the domain takes, and how it ends.
    pub fn parse(self) -> Parsed<(folders::Relocation, Ending)> {
        let target = self.folder.parse("input.folder")?;
        let to = TreePath::parse_named(&self.to_path, "input.toPath")?;
        let ending = if self.dry_run { Ending::TakeBack } else { Ending::Keep };
        Ok((folders::Relocation { target, to, if_revision: self.if_revision.map(i64::from) }, ending))
    }
}

impl DeleteFolderInput {
    /// What the domain takes.
    pub fn parse(self) -> Parsed<FolderDeletion> {
        let target = self.folder.parse("input.folder")?;
        let if_revision = self.if_revision.map(i64::from);
        Ok(FolderDeletion { target, recursive: self.recursive, if_revision })
    }
}
