//! Folders: places in the tree, known by their ids.
//!
//! A folder's row has its whole path, so a look-up is one probe; assets have only their folder's id, so a move
//! rewrites the folders below and touches no asset.

use std::collections::HashMap;

use entity::change::ChangeType;
use entity::name::Holder;
use entity::{FolderId, asset, folder};
use sea_orm::sea_query::{Expr, ExprTrait as _, Func, Query};
use sea_orm::{
    ActiveModelTrait as _, ActiveValue::Set, ColumnTrait as _, Condition, ConnectionTrait, EntityTrait as _,
    IntoActiveModel as _, IntoSimpleExpr as _, PaginatorTrait as _, QueryFilter as _, QuerySelect as _,
    QueryTrait as _,
};

use super::actor::{Actor, Role};
use super::error::{Error, Result};
use super::page::{BY_NAME, Direction, Page, Position, Slice, SortKey, Source, fetch};
use super::path::{MAX_DEPTH, MAX_NAME_BYTES, MAX_PATH_BYTES, TreePath, below, lineage_paths, name_of};
use super::{Committed, Edit, Ending, check_revision, commit, name, perform, text};
use crate::app::App;
use crate::feed::Draft;

/// Names one folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FolderRef {
    /// By id.
    Id(FolderId),
    /// By path.
    Path(TreePath),
}

/// What is to be created.
#[derive(Debug, Clone)]
pub enum NewFolder {
    /// A folder at this path, and those above it.
    At(TreePath),
    /// A folder with this title in a parent; its name is made from the title.
    Titled {
        /// Where.
        parent: FolderRef,
        /// What people see.
        title: String,
    },
}

/// What creating did.
#[derive(Debug, Clone)]
pub struct Created {
    /// The folder.
    pub folder: folder::Model,
    /// False when it was there already.
    pub created: bool,
}

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

/// What folders are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FolderOrder {
    /// By name.
    Name,
    /// By creation.
    CreatedAt,
    /// By last change.
    UpdatedAt,
}

/// One page of the folders in a folder.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Listing {
    /// The folder that they lie in.
    pub parent: FolderId,
    /// Which of them.
    pub page: Page,
    /// What they are sorted by.
    pub order: FolderOrder,
    /// Which way.
    pub direction: Direction,
}

/// The folder at `path`, if there is one.
///
/// # Errors
/// When the actor may not read.
pub async fn at_path(app: &App, actor: &Actor, path: &TreePath) -> Result<Option<folder::Model>> {
    actor.require(Role::Viewer)?;
    find(app.read(), path).await
}

/// Folders by id.
///
/// # Errors
/// What the database says.
pub async fn by_ids(app: &App, ids: &[FolderId]) -> Result<HashMap<FolderId, folder::Model>> {
    let rows =
        folder::Entity::find().filter(folder::Column::Id.is_in(ids.iter().copied())).all(app.read()).await?;
    Ok(rows.into_iter().map(|row| (row.id, row)).collect())
}

/// The folders at several paths, by path.
///
/// # Errors
/// What the database says.
pub async fn by_paths(app: &App, paths: &[String]) -> Result<HashMap<String, folder::Model>> {
    let rows = folder::Entity::find().filter(folder::Column::Path.is_in(paths)).all(app.read()).await?;
    Ok(rows.into_iter().map(|row| (row.path.clone(), row)).collect())
}

/// Several pages of subfolders by one statement.
///
/// # Errors
/// What the database says.
pub async fn list(app: &App, listings: &[Listing]) -> Result<HashMap<Listing, Slice<folder::Model>>> {
    let source = |listing: &Listing| Source {
        rows: folder::Entity::find().filter(folder::Column::ParentId.eq(listing.parent)).into_query(),
        page: listing.page.clone(),
        key: listing.order.column().into_simple_expr(),
        direction: listing.direction,
    };
    let sources = listings.iter().map(source).collect();
    let found =
        fetch::<folder::Entity>(app.read(), sources, |index, row| listings[index].order.position(row))
            .await?;
    let slices =
        listings.iter().zip(found).map(|(listing, rows)| (listing.clone(), listing.page.slice(rows)));
    Ok(slices.collect())
}

/// How many folders lie right in each of several.
///
/// # Errors
/// What the database says.
pub async fn counts(app: &App, parents: &[FolderId]) -> Result<HashMap<FolderId, i64>> {
    let rows: Vec<(FolderId, i64)> = folder::Entity::find()
        .select_only()
        .column(folder::Column::ParentId)
        .expr(folder::Column::Id.count())
        .filter(folder::Column::ParentId.is_in(parents.iter().copied()))
        .group_by(folder::Column::ParentId)
        .into_tuple()
        .all(app.read())
        .await?;
    Ok(rows.into_iter().collect())
}

/// Creates a folder. One that is at the path already is answered as it is.
///
/// # Errors
/// `ALREADY_EXISTS` when an asset has the name, or a folder has the title; `NOT_FOUND` without the parent.
pub async fn create(app: &App, actor: &Actor, new: NewFolder) -> Result<Committed<Created>> {
    commit(app, actor, |edit| {
        Box::pin(async move {
            match new {
                NewFolder::At(path) => {
                    let there = find(edit.conn(), &path).await?;
                    let created = there.is_none();
                    let folder = match there {
                        Some(folder) => folder,
                        None => ensure(edit, &path).await?,
                    };
                    Ok(Created { folder, created })
                }
                NewFolder::Titled { parent, title } => {
                    let title = text::title(&title, "input.titled.title")?;
                    let parent = resolve(edit.conn(), &parent).await?;
                    Ok(Created { folder: create_titled(edit, &parent, title).await?, created: true })
                }
            }
        })
    })
    .await
}

/// Sets the title of a folder.
///
/// # Errors
/// `NOT_FOUND`, `REVISION_CONFLICT`, `BAD_USER_INPUT` for an empty title.
pub async fn update(
    app: &App,
    actor: &Actor,
    target: FolderRef,
    title: String,
    if_revision: Option<i64>,
) -> Result<Committed<folder::Model>> {
    let title = text::title(&title, "input.title")?;
    commit(app, actor, move |edit| {
        Box::pin(async move {
            let folder = lock(edit.conn(), &target).await?;
            if folder.title.as_deref() == Some(title.as_str()) {
                return Ok(folder);
            }
            check_revision(|| what(&folder), if_revision, folder.revision)?;
            let folder = touch(edit, folder, |row| row.title = Set(Some(title))).await?;
            record(edit, ChangeType::FolderUpdate, &folder, None, &[]).await?;
            Ok(folder)
        })
    })
    .await
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
    target: FolderRef,
    to: TreePath,
    if_revision: Option<i64>,
    ending: Ending,
) -> Result<Committed<Moved>> {
    perform(app, actor, ending, move |edit| {
        Box::pin(async move { relocate_in(edit, &target, &to, if_revision).await })
    })
    .await
}

async fn relocate_in(
    edit: Edit<'_>,
    target: &FolderRef,
    to: &TreePath,
    if_revision: Option<i64>,
) -> Result<Moved> {
    let conn = edit.conn();
    let folder = lock(conn, target).await?;
    let Some(old_parent) = folder.parent_id else {
        return Err(Error::bad_input("input.folder", "the root cannot be moved"));
    };
    let from = TreePath::trusted(folder.path.clone());
    if from == *to {
        let (folders, assets) = (0, 0);
        return Ok(Moved { old_path: folder.path.clone(), folder, folders, assets });
    }
    check_revision(|| what(&folder), if_revision, folder.revision)?;
    if from.contains(to) {
        return Err(Error::bad_input("input.toPath", format!("{to} lies inside {from}, which would move")));
    }
    check_fits(conn, &from, to).await?;
    let parent = ensure(edit, &to.parent()).await?;
    name::take(conn, &parent, to.name(), Holder::Folder).await?;
    name::release(conn, old_parent, &folder.name).await?;
    let (folders, assets) = count_below(conn, from.as_str()).await?;
    rewrite_below(conn, &from, to).await?;
    let (new_name, new_path, parent_id) = (to.name().to_owned(), to.as_str().to_owned(), parent.id);
    let depth = i32::try_from(to.depth()).unwrap_or(i32::MAX);
    let folder = touch(edit, folder, |row| {
        row.parent_id = Set(Some(parent_id));
        row.name = Set(new_name);
        row.path = Set(new_path);
        row.depth = Set(depth);
    })
    .await?;
    let old_lineage = lineage(conn, from.parent().as_str()).await?;
    record(edit, ChangeType::FolderMove, &folder, Some(from.as_str().to_owned()), &old_lineage).await?;
    Ok(Moved { folder, old_path: from.to_string(), folders: folders + 1, assets })
}

/// The folder at `path`, made with those above it where missing: one entry each.
pub(super) async fn ensure(edit: Edit<'_>, path: &TreePath) -> Result<folder::Model> {
    let conn = edit.conn();
    let mut there = ancestors_and_self(conn, path.as_str()).await?;
    let mut folder = there.pop().ok_or_else(|| Error::internal("the root folder is missing"))?;
    let known = usize::try_from(folder.depth).unwrap_or(0);
    for segment in path.segments().skip(known) {
        folder = insert(edit, &folder, segment, None).await?;
    }
    Ok(folder)
}

/// The folder at `path`, if there is one.
pub(super) async fn find(conn: &impl ConnectionTrait, path: &TreePath) -> Result<Option<folder::Model>> {
    Ok(folder::Entity::find().filter(folder::Column::Path.eq(path.as_str())).one(conn).await?)
}

/// The folder that `target` names.
///
/// # Errors
/// `NOT_FOUND`.
pub async fn resolve(conn: &impl ConnectionTrait, target: &FolderRef) -> Result<folder::Model> {
    let found = match target {
        FolderRef::Id(id) => folder::Entity::find_by_id(*id).one(conn).await?,
        FolderRef::Path(path) => find(conn, path).await?,
    };
    found.ok_or_else(|| not_found(target))
}

async fn lock(conn: &impl ConnectionTrait, target: &FolderRef) -> Result<folder::Model> {
    let by = match target {
        FolderRef::Id(id) => folder::Column::Id.eq(*id),
        FolderRef::Path(path) => folder::Column::Path.eq(path.as_str()),
    };
    let found = folder::Entity::find().filter(by).lock_exclusive().one(conn).await?;
    found.ok_or_else(|| not_found(target))
}

fn not_found(target: &FolderRef) -> Error {
    Error::NotFound(match target {
        FolderRef::Id(id) => format!("there is no folder {id}"),
        FolderRef::Path(path) => format!("there is no folder at {path}"),
    })
}

fn what(folder: &folder::Model) -> String {
    format!("folder {}", folder.path)
}

/// Ids of the folder at `path` and of those above it, without the root, nearest first.
pub(super) async fn lineage(conn: &impl ConnectionTrait, path: &str) -> Result<Vec<FolderId>> {
    let rows = ancestors_and_self(conn, path).await?;
    Ok(rows.into_iter().rev().map(|row| row.id).filter(|id| *id != FolderId::ROOT).collect())
}

/// Those that exist of the folder at `path` and the folders above it, from the root down.
async fn ancestors_and_self(conn: &impl ConnectionTrait, path: &str) -> Result<Vec<folder::Model>> {
    let mut rows =
        folder::Entity::find().filter(folder::Column::Path.is_in(lineage_paths(path))).all(conn).await?;
    rows.sort_unstable_by_key(|row| row.depth);
    Ok(rows)
}

async fn create_titled(edit: Edit<'_>, parent: &folder::Model, title: String) -> Result<folder::Model> {
    let conn = edit.conn();
    let same_title = Condition::any().add(folder::Column::Title.eq(title.as_str())).add(
        Condition::all().add(folder::Column::Title.is_null()).add(folder::Column::Name.eq(title.as_str())),
    );
    let twin = folder::Entity::find().filter(folder::Column::ParentId.eq(parent.id)).filter(same_title);
    if let Some(twin) = twin.one(conn).await? {
        return Err(Error::AlreadyExists(format!("{} has the title {title} already", twin.path)));
    }
    let slug = slug(&title);
    let name = free_name(conn, parent.id, &slug).await?;
    insert(edit, parent, &name, Some(title)).await
}

/// `slug`, or the first of `slug-2`, `slug-3` … that nothing has.
async fn free_name(conn: &impl ConnectionTrait, parent: FolderId, slug: &str) -> Result<String> {
    let taken: Vec<String> = entity::name::Entity::find()
        .select_only()
        .column(entity::name::Column::Name)
        .filter(entity::name::Column::FolderId.eq(parent))
        .filter(
            Condition::any().add(entity::name::Column::Name.eq(slug)).add(
                Condition::all()
                    .add(entity::name::Column::Name.gte(format!("{slug}-")))
                    .add(entity::name::Column::Name.lt(format!("{slug}."))),
            ),
        )
        .into_tuple()
        .all(conn)
        .await?;
    let taken: std::collections::HashSet<String> = taken.into_iter().collect();
    if !taken.contains(slug) {
        return Ok(slug.to_owned());
    }
    // One candidate more than there are names in the way.
    let mut candidates = (2..taken.len() + 3).map(|number| format!("{slug}-{number}"));
    let free = candidates.find(|name| !taken.contains(name));
    free.ok_or_else(|| Error::internal("ran out of numbers"))
}

/// A URL-safe name from a title in any script.
fn slug(title: &str) -> String {
    let ascii = deunicode::deunicode(title).to_ascii_lowercase();
    let words: Vec<&str> =
        ascii.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let mut slug = words.join("-");
    // Leaves room for the number that may follow.
    slug.truncate(MAX_NAME_BYTES - 20);
    match slug.trim_end_matches('-') {
        "" => "folder".to_owned(),
        slug => slug.to_owned(),
    }
}

async fn insert(
    edit: Edit<'_>,
    parent: &folder::Model,
    name: &str,
    title: Option<String>,
) -> Result<folder::Model> {
    let conn = edit.conn();
    let path = TreePath::trusted(parent.path.clone()).child(name);
    if path.as_str().len() > MAX_PATH_BYTES || path.depth() > MAX_DEPTH {
        return Err(too_deep("input", path.as_str()));
    }
    name::take(conn, parent, name, Holder::Folder).await?;
    let row = folder::ActiveModel {
        id: Set(FolderId(edit.new_id())),
        parent_id: Set(Some(parent.id)),
        name: Set(name.to_owned()),
        depth: Set(parent.depth + 1),
        path: Set(path.as_str().to_owned()),
        title: Set(title),
        revision: Set(1),
        created_at: Set(edit.now()),
        created_by: Set(edit.by()),
        updated_at: Set(edit.now()),
        updated_by: Set(edit.by()),
    };
    let folder = row.insert(conn).await?;
    record(edit, ChangeType::FolderCreate, &folder, None, &[]).await?;
    Ok(folder)
}

fn too_deep(field: &str, path: &str) -> Error {
    Error::bad_input(
        field,
        format!("{path} would be longer than {MAX_PATH_BYTES} bytes or deeper than {MAX_DEPTH} levels"),
    )
}

/// Applies `change` to a folder, with its revision and stamp.
async fn touch(
    edit: Edit<'_>,
    folder: folder::Model,
    change: impl FnOnce(&mut folder::ActiveModel),
) -> Result<folder::Model> {
    let revision = folder.revision + 1;
    let mut row = folder.into_active_model();
    row.revision = Set(revision);
    row.updated_at = Set(edit.now());
    row.updated_by = Set(edit.by());
    change(&mut row);
    Ok(row.update(edit.conn()).await?)
}

/// Records an entry about a folder. `left` are the folders that it was in before, nearest first.
async fn record(
    edit: Edit<'_>,
    kind: ChangeType,
    folder: &folder::Model,
    old_path: Option<String>,
    left: &[FolderId],
) -> Result<()> {
    let parents = match folder.parent_id {
        Some(_) => lineage(edit.conn(), super::path::parent_of(&folder.path)).await?,
        None => Vec::new(),
    };
    let parent = folder.parent_id.into_iter();
    let old_parent = old_path.as_deref().map(|_| left.first().copied().unwrap_or(FolderId::ROOT));
    edit.record(Draft {
        kind,
        at: edit.now(),
        actor: edit.by(),
        path: folder.path.clone(),
        old_path,
        folder_id: Some(folder.id),
        asset_id: None,
        version: None,
        direct: std::iter::once(folder.id).chain(parent).chain(old_parent).collect(),
        above: parents.into_iter().chain(left.iter().copied()).collect(),
    });
    Ok(())
}

/// The condition for folders below `path`, without it.
pub(super) fn is_below(path: &str) -> Condition {
    if path.is_empty() {
        return Condition::all().add(folder::Column::Path.ne(""));
    }
    let (from, to) = below(path);
    Condition::all().add(folder::Column::Path.gte(from)).add(folder::Column::Path.lt(to))
}

/// The condition for the folder at `path` and those below it.
pub(super) fn is_at_or_below(path: &str) -> Condition {
    Condition::any().add(folder::Column::Path.eq(path)).add(is_below(path))
}

/// How many folders lie below `path`, and how many assets in it and below.
async fn count_below(conn: &impl ConnectionTrait, path: &str) -> Result<(i32, i32)> {
    let folders = folder::Entity::find().filter(is_below(path)).count(conn).await?;
    let inside = folder::Entity::find().select_only().column(folder::Column::Id).filter(is_at_or_below(path));
    let assets = asset::Entity::find()
        .filter(asset::Column::FolderId.in_subquery(inside.into_query()))
        .count(conn)
        .await?;
    Ok((i32::try_from(folders).unwrap_or(i32::MAX), i32::try_from(assets).unwrap_or(i32::MAX)))
}

/// Gives all folders below `from` their paths below `to`.
async fn rewrite_below(conn: &impl ConnectionTrait, from: &TreePath, to: &TreePath) -> Result<()> {
    let levels = i32::try_from(to.depth()).unwrap_or(0) - i32::try_from(from.depth()).unwrap_or(0);
    let tail_start = i32::try_from(from.as_str().chars().count() + 1).unwrap_or(i32::MAX);
    let tail = Func::cust("substr").arg(folder::Column::Path.into_simple_expr()).arg(Expr::value(tail_start));
    let new_path =
        Expr::value(to.as_str()).binary(sea_orm::sea_query::BinOper::Custom("||"), Expr::expr(tail));
    let rewrite = Query::update()
        .table(folder::Entity)
        .value(folder::Column::Path, new_path)
        .value(folder::Column::Depth, Expr::col(folder::Column::Depth).add(levels))
        .cond_where(is_below(from.as_str()))
        .to_owned();
    conn.execute(&rewrite).await?;
    Ok(())
}

/// Refuses a move that would make a path below too long or too deep.
async fn check_fits(conn: &impl ConnectionTrait, from: &TreePath, to: &TreePath) -> Result<()> {
    let bytes = || Func::cust("octet_length").arg(folder::Column::Path.into_simple_expr());
    let (depth, longest): (Option<i32>, Option<i32>) = folder::Entity::find()
        .select_only()
        .expr(folder::Column::Depth.max())
        .expr(Expr::expr(bytes()).max())
        .filter(is_at_or_below(from.as_str()))
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
    if assets_may_not_fit && !assets_fit(conn, from, to).await? {
        return Err(too_deep("input.toPath", "an asset below"));
    }
    Ok(())
}

async fn assets_fit(conn: &impl ConnectionTrait, from: &TreePath, to: &TreePath) -> Result<bool> {
    let bytes = |column: sea_orm::sea_query::SimpleExpr| Expr::expr(Func::cust("octet_length").arg(column));
    let path =
        bytes(folder::Column::Path.into_simple_expr()).add(bytes(asset::Column::Name.into_simple_expr()));
    let longest = i32::try_from(MAX_PATH_BYTES + from.as_str().len() - to.as_str().len()).unwrap_or(0) - 1;
    let deepest = i32::try_from(MAX_DEPTH + from.depth() - to.depth()).unwrap_or(0) - 1;
    let too_far = Condition::any().add(path.gt(longest)).add(folder::Column::Depth.gt(deepest));
    let misfit = asset::Entity::find()
        .inner_join(folder::Entity)
        .filter(is_at_or_below(from.as_str()))
        .filter(too_far)
        .count(conn)
        .await?;
    Ok(misfit == 0)
}

impl FolderOrder {
    /// The word that cursors of this order carry.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Name => BY_NAME,
            Self::CreatedAt => "CREATED_AT",
            Self::UpdatedAt => "UPDATED_AT",
        }
    }

    const fn column(self) -> folder::Column {
        match self {
            Self::Name => folder::Column::Name,
            Self::CreatedAt => folder::Column::CreatedAt,
            Self::UpdatedAt => folder::Column::UpdatedAt,
        }
    }

    /// Where `folder` stands in this order.
    #[must_use]
    pub fn position(self, folder: &folder::Model) -> Position {
        let key = match self {
            Self::Name => SortKey::Text(name_of(&folder.path).to_owned()),
            Self::CreatedAt => SortKey::Int(folder.created_at.0),
            Self::UpdatedAt => SortKey::Int(folder.updated_at.0),
        };
        Position { key, id: folder.id.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_of_any_script_become_url_safe_names() {
        for (title, name) in [
            ("Summer Photos", "summer-photos"),
            ("Über uns!", "uber-uns"),
            ("Привет мир", "privet-mir"),
            ("北京", "bei-jing"),
            ("!!!", "folder"),
        ] {
            assert_eq!(slug(title), name);
        }
        assert!(slug(&"x".repeat(5000)).len() < MAX_NAME_BYTES);
    }
}
