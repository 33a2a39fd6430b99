//! Which entries a reader wants. The same filter decides in memory (live) and in SQL (pages).

use entity::change::{self, ChangeType};
use entity::{AssetId, FolderId, change_folder};
use sea_orm::sea_query::{Condition, Expr, ExprTrait as _, Func, Query};
use sea_orm::{ColumnTrait as _, IntoSimpleExpr as _};

use super::folders_of;
use crate::domain::path::{below, is_within, lineage_paths, parent_of};

/// Which entries are wanted; all, by default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Filter {
    /// Only what happened in this folder.
    pub folder: Option<FolderScope>,
    /// Only what happened to this asset.
    pub asset: Option<AssetScope>,
    /// Only these.
    pub kinds: Option<Vec<ChangeType>>,
}

/// A folder to watch. By id it is that folder wherever it lies; by path it is whatever was at that path then.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum FolderScope {
    /// What happened in it or, if `recursive`, below it.
    Id {
        /// Which folder.
        id: FolderId,
        /// Also below it.
        recursive: bool,
    },
    /// What happened at that path or, if `recursive`, below it.
    Path {
        /// Which path.
        path: String,
        /// Also below it.
        recursive: bool,
    },
}

/// An asset to watch, in the same two ways.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum AssetScope {
    /// That asset, wherever it lies.
    Id(AssetId),
    /// Whatever asset was at that path then.
    Path(String),
}

impl Filter {
    /// Whether everything is wanted.
    #[must_use]
    pub const fn is_all(&self) -> bool {
        self.folder.is_none() && self.asset.is_none() && self.kinds.is_none()
    }

    /// Whether an index leads to what is wanted, so that no page has to look at much else.
    #[must_use]
    pub const fn is_indexed(&self) -> bool {
        let by_id = matches!(self.folder, Some(FolderScope::Id { .. }))
            || matches!(self.asset, Some(AssetScope::Id(_)));
        self.is_all() || (by_id && self.kinds.is_none())
    }

    /// Whether `entry` is wanted.
    #[must_use]
    pub fn matches(&self, entry: &change::Model) -> bool {
        self.kinds.as_ref().is_none_or(|kinds| kinds.contains(&entry.kind))
            && self.asset.as_ref().is_none_or(|asset| asset.matches(entry))
            && self.folder.as_ref().is_none_or(|folder| folder.matches(entry))
    }

    /// The same in SQL, over `changes`.
    #[must_use]
    pub fn condition(&self) -> Condition {
        let mut all = Condition::all();
        if let Some(kinds) = &self.kinds {
            all = all.add(change::Column::Kind.is_in(kinds.iter().copied()));
        }
        if let Some(asset) = &self.asset {
            all = all.add(asset.condition());
        }
        if let Some(folder) = &self.folder {
            all = all.add(folder.condition());
        }
        all
    }
}

impl AssetScope {
    fn matches(&self, entry: &change::Model) -> bool {
        match self {
            Self::Id(id) => entry.asset_id == Some(*id),
            Self::Path(path) => {
                entry.asset_id.is_some()
                    && (entry.path == *path || entry.old_path.as_ref().is_some_and(|old| old == path))
            }
        }
    }

    fn condition(&self) -> Condition {
        match self {
            Self::Id(id) => Condition::all().add(change::Column::AssetId.eq(*id)),
            Self::Path(path) => Condition::all().add(change::Column::AssetId.is_not_null()).add(
                Condition::any()
                    .add(change::Column::Path.eq(path.as_str()))
                    .add(change::Column::OldPath.eq(path.as_str())),
            ),
        }
    }
}

impl FolderScope {
    fn matches(&self, entry: &change::Model) -> bool {
        match self {
            Self::Id { id, recursive: true } if *id == FolderId::ROOT => true,
            Self::Id { id, recursive } => {
                folders_of(entry).any(|(folder, direct)| folder == *id && (direct || *recursive))
            }
            Self::Path { path, recursive } => {
                let touches = |changed: &str| touches(entry, changed, path, *recursive);
                touches(&entry.path) || entry.old_path.as_deref().is_some_and(touches)
            }
        }
    }

    fn condition(&self) -> Condition {
        match self {
            Self::Id { id, recursive: true } if *id == FolderId::ROOT => Condition::all(),
            Self::Id { id, recursive } => {
                let mut places = Query::select();
                places
                    .column(change_folder::Column::Seq)
                    .from(change_folder::Entity)
                    .and_where(change_folder::Column::FolderId.eq(*id));
                if !recursive {
                    places.and_where(change_folder::Column::Direct.eq(true));
                }
                Condition::all().add(change::Column::Seq.in_subquery(places.take()))
            }
            Self::Path { path, recursive: true } if path.is_empty() => Condition::all(),
            Self::Path { path, recursive } => Condition::any()
                .add(touches_condition(change::Column::Path, path, *recursive))
                .add(touches_condition(change::Column::OldPath, path, *recursive)),
        }
    }
}

/// Whether a change of this kind takes everything below a folder along.
#[must_use]
pub const fn takes_along(kind: ChangeType) -> bool {
    matches!(kind, ChangeType::FolderMove | ChangeType::FolderDelete | ChangeType::FolderRestore)
}

/// Whether something that happened at `changed` counts as in the folder at `watched`: to the folder itself, to
/// what lies in it, or to a folder above it that took it along.
fn touches(entry: &change::Model, changed: &str, watched: &str, recursive: bool) -> bool {
    let is_folder = entry.asset_id.is_none();
    let itself = is_folder && changed == watched;
    let above = is_folder && takes_along(entry.kind) && !changed.is_empty() && is_within(watched, changed);
    let inside = if recursive {
        is_within(changed, watched)
    } else {
        !changed.is_empty() && parent_of(changed) == watched
    };
    itself || above || inside
}

fn touches_condition(column: change::Column, watched: &str, recursive: bool) -> Condition {
    let above: Vec<String> = lineage_paths(watched).into_iter().filter(|path| !path.is_empty()).collect();
    let taking = [ChangeType::FolderMove, ChangeType::FolderDelete, ChangeType::FolderRestore];
    let is_folder = || Condition::all().add(change::Column::AssetId.is_null());
    let itself = is_folder().add(column.eq(watched));
    let above = is_folder().add(change::Column::Kind.is_in(taking)).add(column.is_in(above));
    let (from, to) = below(watched);
    let inside = if watched.is_empty() {
        Condition::all().add(column.ne(""))
    } else {
        Condition::all().add(column.gte(from.as_str())).add(column.lt(to))
    };
    let inside = if recursive {
        inside
    } else {
        // Right inside: no further slash behind that of the folder.
        let skip = if watched.is_empty() { 0 } else { from.chars().count() };
        let tail = Func::cust("substr")
            .arg(column.into_simple_expr())
            .arg(Expr::value(i32::try_from(skip + 1).unwrap_or(i32::MAX)));
        inside.add(Expr::expr(tail).not_like("%/%"))
    };
    Condition::any().add(itself).add(above).add(inside)
}
