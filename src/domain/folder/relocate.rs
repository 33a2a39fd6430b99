//! Moving a folder with everything below it: one commit, one entry, whatever it holds.

use entity::change::ChangeType;
use entity::name::Holder;
use entity::{DeletionId, asset, folder};
use sea_orm::sea_query::{BinOper, Expr, ExprTrait as _, Func, Query, SimpleExpr};
use sea_orm::{
    ActiveValue::Set, ColumnTrait as _, Condition, ConnectionTrait, EntityTrait as _, IntoSimpleExpr as _,
    PaginatorTrait as _, QueryFilter as _, QuerySelect as _, QueryTrait as _,
};

use super::{
    FolderRef, ensure, find, is_at_or_below, is_below, lineage, lock, record, too_deep, touch, what,
};
use crate::app::App;
use crate::domain::actor::Actor;
use crate::domain::error::{Error, Result};
use crate::domain::path::{MAX_DEPTH, MAX_NAME_BYTES, MAX_PATH_BYTES, TreePath};
use crate::domain::{Committed, Edit, Ending, check_revision, former, name, perform, scope, search};

/// What a move did.
#[derive(Debug, Clone)]
pub struct Moved {
    /// The folder where it is now.
    pub folder: folder::Model,
    /// Where it was.
    pub old_path: String,
    /// Folders that moved, itself included.
    pub folders: i32,
    /// Assets that moved with them.
    pub assets: i32,
}

/// A new place for a folder.
#[derive(Debug, Clone)]
pub struct Relocation {
    /// Which folder.
    pub target: FolderRef,
    /// Its whole new path.
    pub to: TreePath,
    /// Refuse unless this is its revision.
    pub if_revision: Option<i64>,
}

/// Moves or renames a folder with all below it: one commit, one entry, whatever it holds. Missing folders
/// above the new place are made.
///
/// # Errors
/// `BAD_USER_INPUT` for the root, for a place inside the folder, and when a path below would become too long
/// or too deep; `ALREADY_EXISTS` when the place is taken; `NOT_FOUND`; `REVISION_CONFLICT`.
pub async fn relocate(
    app: &App,
    actor: &Actor,
    relocation: Relocation,
    ending: Ending,
) -> Result<Committed<Moved>> {
    perform(app, actor, ending, move |edit| Box::pin(relocate_in(edit, relocation))).await
}

pub(in crate::domain) async fn relocate_in(edit: Edit<'_>, relocation: Relocation) -> Result<Moved> {
    let conn = edit.conn();
    let Relocation { target, to, if_revision } = relocation;
    let folder = match lock(conn, &target).await {
        Err(Error::NotFound(message)) => {
            return moved_already(conn, &target, &to).await?.ok_or(Error::NotFound(message));
        }
        found => found?,
    };
    let Some(old_parent) = folder.parent_id else {
        return Err(Error::bad_input("input.folder", "must not be the root, which cannot be moved"));
    };
    let from = TreePath::trusted(folder.path.clone());
    if from == to {
        let (folders, assets) = (0, 0);
        return Ok(Moved { old_path: folder.path.clone(), folder, folders, assets });
    }
    check_revision(|| what(&folder), if_revision, folder.revision)?;
    if from.contains(&to) {
        return Err(Error::bad_input("input.toPath", format!("{to} lies inside {from}, which would move")));
    }
    check_fits(conn, Extent::Live(&from), &to).await?;
    let parent = ensure(edit, &to.parent()).await?;
    name::take(conn, &parent, to.name(), Holder::Folder).await?;
    name::release(conn, old_parent, &folder.name).await?;
    let (folders, assets) = count_below(conn, from.as_str()).await?;
    rewrite_below(conn, Extent::Live(&from), &to).await?;
    let (new_name, new_path, parent_id) = (to.name().to_owned(), to.as_str().to_owned(), parent.id);
    let depth = i32::try_from(to.depth()).unwrap_or(i32::MAX);
    let folder = touch(edit, folder, |row| {
        row.parent_id = Set(Some(parent_id));
        row.name = Set(new_name);
        row.path = Set(new_path);
        row.depth = Set(depth);
    })
    .await?;
    scope::carry(edit, &folder).await?;
    search::index_folder(conn, &folder).await?;
    search::move_folders(conn, from.as_str(), to.as_str()).await?;
    let old_lineage = lineage(conn, from.parent().as_str()).await?;
    let mover = former::Mover::Folder(folder.id);
    former::leave(
        edit,
        vec![former::row(edit.new_id(), from.as_str(), mover, Some(to.as_str()), &old_lineage)],
    )
    .await?;
    record(edit, ChangeType::FolderMove, &folder, Some(from.as_str().to_owned()), &old_lineage).await?;
    Ok(Moved { folder, old_path: from.to_string(), folders: folders + 1, assets })
}

/// What a move by path that was done before answers again: the folder is where it was to go, and came from there.
async fn moved_already(
    conn: &impl ConnectionTrait,
    target: &FolderRef,
    to: &TreePath,
) -> Result<Option<Moved>> {
    let (FolderRef::Path(from), Some(folder)) = (target, find(conn, to).await?) else {
        return Ok(None);
    };
    let came = former::left_by(conn, from.as_str(), folder.id).await?;
    let (folders, assets) = (0, 0);
    Ok(came.then(|| Moved { folder, old_path: from.to_string(), folders, assets }))
}

/// Which folders a move or a way back from the trash is about: the one at a path and those below it.
#[derive(Clone, Copy)]
pub(in crate::domain) enum Extent<'a> {
    /// Those that are not in the trash.
    Live(&'a TreePath),
    /// Those that this deletion took.
    Trashed(DeletionId, &'a TreePath),
}

impl Extent<'_> {
    const fn path(&self) -> &TreePath {
        match self {
            Self::Live(path) | Self::Trashed(_, path) => path,
        }
    }

    /// The condition for all of them.
    fn all(&self) -> Condition {
        match self {
            Self::Live(path) => is_at_or_below(path.as_str()),
            Self::Trashed(deletion, _) => Condition::all().add(folder::Column::DeletionId.eq(*deletion)),
        }
    }

    /// The condition for those below the topmost.
    fn below(&self) -> Condition {
        match self {
            Self::Live(path) => is_below(path.as_str()),
            Self::Trashed(_, path) => self.all().add(folder::Column::Path.ne(path.as_str())),
        }
    }
}

/// How many folders lie below `path`, and how many assets in it and below.
pub(in crate::domain) async fn count_below(conn: &impl ConnectionTrait, path: &str) -> Result<(i32, i32)> {
    let folders = folder::Entity::find().filter(is_below(path)).count(conn).await?;
    let inside = folder::Entity::find().select_only().column(folder::Column::Id).filter(is_at_or_below(path));
    let assets = asset::Entity::find()
        .filter(asset::Column::DeletionId.is_null())
        .filter(asset::Column::FolderId.in_subquery(inside.into_query()))
        .count(conn)
        .await?;
    Ok((i32::try_from(folders).unwrap_or(i32::MAX), i32::try_from(assets).unwrap_or(i32::MAX)))
}

/// Gives all folders below the topmost their paths below `to`; those in the trash come out of it.
pub(in crate::domain) async fn rewrite_below(
    conn: &impl ConnectionTrait,
    extent: Extent<'_>,
    to: &TreePath,
) -> Result<()> {
    let from = extent.path();
    let levels = i32::try_from(to.depth()).unwrap_or(0) - i32::try_from(from.depth()).unwrap_or(0);
    let tail_start = i32::try_from(from.as_str().chars().count() + 1).unwrap_or(i32::MAX);
    let tail = Func::cust("substr").arg(folder::Column::Path.into_simple_expr()).arg(Expr::value(tail_start));
    let new_path = Expr::value(to.as_str()).binary(BinOper::Custom("||"), Expr::expr(tail));
    let rewrite = Query::update()
        .table(folder::Entity)
        .value(folder::Column::Path, new_path)
        .value(folder::Column::Depth, Expr::col(folder::Column::Depth).add(levels))
        .value(folder::Column::DeletionId, Option::<DeletionId>::None)
        .cond_where(extent.below())
        .to_owned();
    conn.execute(&rewrite).await?;
    Ok(())
}

/// Refuses a move that would make a path below too long or too deep.
pub(in crate::domain) async fn check_fits(
    conn: &impl ConnectionTrait,
    extent: Extent<'_>,
    to: &TreePath,
) -> Result<()> {
    let from = extent.path();
    let bytes = || Func::cust("octet_length").arg(folder::Column::Path.into_simple_expr());
    let (depth, longest): (Option<i32>, Option<i32>) = folder::Entity::find()
        .select_only()
        .expr(folder::Column::Depth.max())
        .expr(Expr::expr(bytes()).max())
        .filter(extent.all())
        .into_tuple()
        .one(conn)
        .await?
        .unwrap_or_default();
    let grown =
        |was: Option<i32>, old: usize, new: usize| usize::try_from(was.unwrap_or(0)).unwrap_or(0) + new - old;
    let depth = grown(depth, from.depth(), to.depth());
    let longest_folder = grown(longest, from.as_str().len(), to.as_str().len());
    if depth > MAX_DEPTH || longest_folder > MAX_PATH_BYTES {
        return Err(too_deep("input.toPath", "a folder below"));
    }
    // Only when it could matter: reading every asset below costs by their number.
    let assets_may_not_fit = depth == MAX_DEPTH || longest_folder + 1 + MAX_NAME_BYTES > MAX_PATH_BYTES;
    if assets_may_not_fit && !assets_fit(conn, extent, to).await? {
        return Err(too_deep("input.toPath", "an asset below"));
    }
    Ok(())
}

async fn assets_fit(conn: &impl ConnectionTrait, extent: Extent<'_>, to: &TreePath) -> Result<bool> {
    let from = extent.path();
    let bytes = |column: SimpleExpr| Expr::expr(Func::cust("octet_length").arg(column));
    let path =
        bytes(folder::Column::Path.into_simple_expr()).add(bytes(asset::Column::Name.into_simple_expr()));
    let longest = i32::try_from(MAX_PATH_BYTES + from.as_str().len() - to.as_str().len()).unwrap_or(0) - 1;
    let deepest = i32::try_from(MAX_DEPTH + from.depth() - to.depth()).unwrap_or(0) - 1;
    let too_far = Condition::any().add(path.gt(longest)).add(folder::Column::Depth.gt(deepest));
    let misfit = asset::Entity::find()
        .inner_join(folder::Entity)
        .filter(asset::Column::DeletionId.is_null())
        .filter(extent.all())
        .filter(too_far)
        .count(conn)
        .await?;
    Ok(misfit == 0)
}
