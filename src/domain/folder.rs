//! Folders: places in the tree, known by their ids.
//!
//! A folder's row has its whole path, so a look-up is one probe; assets have only their folder's id, so a move
//! rewrites the folders below and touches no asset.

mod list;
mod relocate;

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use entity::change::ChangeType;
use entity::name::Holder;
use entity::{FolderId, folder};
use sea_orm::sea_query::{LockType, SimpleExpr};
use sea_orm::{
    ActiveModelTrait as _, ActiveValue::Set, ColumnTrait as _, Condition, ConnectionTrait, EntityTrait as _,
    IntoActiveModel as _, QueryFilter as _, QueryOrder as _, QuerySelect as _, QueryTrait as _, Select,
};

use super::actor::Actor;
use super::error::{Error, Result};
use super::path::{MAX_DEPTH, MAX_NAME_BYTES, MAX_PATH_BYTES, TreePath, below, lineage_paths};
use super::scope::Scope;
use super::{Committed, Edit, check_revision, commit, name, quick, search, text, writes_alone};
use crate::app::App;
use crate::feed::Draft;

pub use list::{FolderOrder, Inside, Listing, by_ids, by_paths, counts, list};
pub(super) use relocate::{Extent, check_fits, count_below, relocate_in, rewrite_below};
pub use relocate::{Moved, Relocation, relocate};

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

/// The folder at `path`, if there is one that the actor sees.
///
/// # Errors
/// What the database says.
pub async fn at_path(app: &App, actor: &Actor, path: &TreePath) -> Result<Option<folder::Model>> {
    if actor.scope() == Scope::All
        && let Some(found) = quick::folder_at(app, path)
    {
        return Ok(found);
    }
    let scope = actor.scope();
    let seen =
        live().filter(folder::Column::Path.eq(path.as_str())).apply_if(scope.folders(), Select::filter);
    Ok(seen.one(app.read()).await?.map(|folder| scope.folder(folder)))
}

/// Creates a folder. One that is at the path already is answered as it is.
///
/// # Errors
/// `ALREADY_EXISTS` when an asset has the name, or a folder has the title; `NOT_FOUND` without the parent.
pub async fn create(app: &App, actor: &Actor, new: NewFolder) -> Result<Committed<Created>> {
    commit(app, actor, |edit| Box::pin(create_in(edit, new))).await
}

pub(super) async fn create_in(edit: Edit<'_>, new: NewFolder) -> Result<Created> {
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
            let parent = resolve_to_fill(edit.conn(), &parent).await?;
            Ok(Created { folder: create_titled(edit, &parent, title).await?, created: true })
        }
    }
}

/// Another title for a folder.
#[derive(Debug, Clone)]
pub struct Update {
    /// Which folder.
    pub target: FolderRef,
    /// What people are to see.
    pub title: String,
    /// Refuse unless this is its revision.
    pub if_revision: Option<i64>,
}

/// Sets the title of a folder.
///
/// # Errors
/// `NOT_FOUND`, `REVISION_CONFLICT`, `BAD_USER_INPUT` for an empty title.
pub async fn update(app: &App, actor: &Actor, update: Update) -> Result<Committed<folder::Model>> {
    commit(app, actor, move |edit| Box::pin(update_in(edit, update))).await
}

pub(super) async fn update_in(edit: Edit<'_>, update: Update) -> Result<folder::Model> {
    let title = text::title(&update.title, "input.title")?;
    let folder = lock(edit.conn(), &update.target).await?;
    if folder.title.as_deref() == Some(title.as_str()) {
        return Ok(folder);
    }
    check_revision(|| what(&folder), update.if_revision, folder.revision)?;
    let folder = touch(edit, folder, |row| row.title = Set(Some(title))).await?;
    record(edit, ChangeType::FolderUpdate, &folder, None, &[]).await?;
    Ok(folder)
}

/// The folder at `path`, made with those above it where missing: one entry each.
pub(super) async fn ensure(edit: Edit<'_>, path: &TreePath) -> Result<folder::Model> {
    let mut there = hold_lineage(edit.conn(), path).await?;
    let mut folder = there.pop().ok_or_else(|| Error::internal("the root folder is missing"))?;
    let known = usize::try_from(folder.depth).unwrap_or(0);
    for segment in path.segments().skip(known) {
        let made = insert(edit, &folder, segment, None).await;
        if matches!(made, Err(Error::AlreadyExists(_))) && !writes_alone(edit.conn()) {
            // Another server may have made it just now.
            let child = TreePath::trusted(folder.path.clone()).child(segment);
            if let Some(there) = hold_lineage(edit.conn(), &child).await?.pop()
                && there.path == child.as_str()
            {
                folder = there;
                continue;
            }
        }
        folder = made?;
    }
    Ok(folder)
}

/// Refuses a folder that could not be made, because an asset lies on its path.
pub(super) async fn check_can_be_made(conn: &impl ConnectionTrait, path: &TreePath) -> Result<()> {
    let there = ancestors_and_self(conn, path.as_str()).await?;
    let Some(last) = there.last().filter(|last| last.path != path.as_str()) else { return Ok(()) };
    let next = path.segments().nth(usize::try_from(last.depth).unwrap_or(0)).unwrap_or_default();
    match name::holder_of(conn, last.id, next).await? {
        Some(holder @ Holder::Asset) => Err(name::taken_error(&super::path::join(&last.path, next), holder)),
        _ => Ok(()),
    }
}

/// The folder at `path`, if there is one.
pub(super) async fn find(conn: &impl ConnectionTrait, path: &TreePath) -> Result<Option<folder::Model>> {
    Ok(live().filter(folder::Column::Path.eq(path.as_str())).one(conn).await?)
}

/// Folders that are not in the trash.
pub(super) fn live() -> Select<folder::Entity> {
    folder::Entity::find().filter(folder::Column::DeletionId.is_null())
}

/// The folder that `target` names.
///
/// # Errors
/// `NOT_FOUND`, also when it is in the trash.
pub async fn resolve(conn: &impl ConnectionTrait, target: &FolderRef) -> Result<folder::Model> {
    let found = live().filter(target.condition()).one(conn).await?;
    found.ok_or_else(|| target.not_found())
}

/// The same, held against other writers until the transaction ends.
pub(super) async fn lock(conn: &impl ConnectionTrait, target: &FolderRef) -> Result<folder::Model> {
    let found = live().filter(target.condition()).lock_exclusive().one(conn).await?;
    found.ok_or_else(|| target.not_found())
}

impl FolderRef {
    fn condition(&self) -> SimpleExpr {
        match self {
            Self::Id(id) => folder::Column::Id.eq(*id),
            Self::Path(path) => folder::Column::Path.eq(path.as_str()),
        }
    }

    pub(super) fn not_found(&self) -> Error {
        Error::NotFound(match self {
            Self::Id(id) => format!("there is no folder {id} outside the trash"),
            Self::Path(path) => format!("there is no folder at {path}"),
        })
    }
}

pub(super) fn what(folder: &folder::Model) -> String {
    format!("folder {}", folder.path)
}

/// Ids of the folder at `path` and of those above it, without the root, nearest first.
pub(super) async fn lineage(conn: &impl ConnectionTrait, path: &str) -> Result<Vec<FolderId>> {
    let rows = ancestors_and_self(conn, path).await?;
    Ok(rows.into_iter().rev().map(|row| row.id).filter(|id| *id != FolderId::ROOT).collect())
}

/// Ids of a folder and of those above it, without the root, nearest first; whether they are in the trash or not.
/// `known` keeps parents from one call to the next.
pub(super) async fn chain(
    conn: &impl ConnectionTrait,
    folder: FolderId,
    known: &mut HashMap<FolderId, Option<FolderId>>,
) -> Result<Vec<FolderId>> {
    let mut chain = Vec::new();
    let mut next = Some(folder);
    while let Some(id) = next.filter(|id| *id != FolderId::ROOT && chain.len() <= MAX_DEPTH) {
        chain.push(id);
        next = match known.entry(id) {
            Entry::Occupied(parent) => *parent.get(),
            Entry::Vacant(slot) => {
                let row = folder::Entity::find_by_id(id).one(conn).await?;
                *slot.insert(row.and_then(|row| row.parent_id))
            }
        };
    }
    Ok(chain)
}

/// Those that exist of the folder at `path` and the folders above it, from the root down, held where they are until
/// the transaction ends: what is put into one of them cannot miss its move or deletion.
async fn hold_lineage(conn: &impl ConnectionTrait, path: &TreePath) -> Result<Vec<folder::Model>> {
    if writes_alone(conn) {
        return ancestors_and_self(conn, path.as_str()).await;
    }
    let rows = live().filter(folder::Column::Path.is_in(lineage_paths(path.as_str())));
    // Who moves or deletes a folder locks its row for update. A lock that also keeps out other changes of the row would have
    // two servers wait for each other that show their first assets in it (`domain/scope.rs`).
    Ok(rows.order_by_asc(folder::Column::Depth).lock(LockType::KeyShare).all(conn).await?)
}

/// The folder that `target` names, to put something into it.
///
/// # Errors
/// `NOT_FOUND`, also when it is in the trash.
pub(super) async fn resolve_to_fill(
    conn: &impl ConnectionTrait,
    target: &FolderRef,
) -> Result<folder::Model> {
    let folder = resolve(conn, target).await?;
    let held = hold_lineage(conn, &TreePath::trusted(folder.path.clone())).await?.pop();
    held.filter(|held| held.id == folder.id).ok_or_else(|| target.not_found())
}

/// Those that exist of the folder at `path` and the folders above it, from the root down.
async fn ancestors_and_self(conn: &impl ConnectionTrait, path: &str) -> Result<Vec<folder::Model>> {
    let mut rows = live().filter(folder::Column::Path.is_in(lineage_paths(path))).all(conn).await?;
    rows.sort_unstable_by_key(|row| row.depth);
    Ok(rows)
}

async fn create_titled(edit: Edit<'_>, parent: &folder::Model, title: String) -> Result<folder::Model> {
    let conn = edit.conn();
    let same_title = Condition::any().add(folder::Column::Title.eq(title.as_str())).add(
        Condition::all().add(folder::Column::Title.is_null()).add(folder::Column::Name.eq(title.as_str())),
    );
    let twin = live().filter(folder::Column::ParentId.eq(parent.id)).filter(same_title);
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
        deletion_id: Set(None),
    };
    let folder = row.insert(conn).await?;
    search::index_folder(conn, &folder).await?;
    record(edit, ChangeType::FolderCreate, &folder, None, &[]).await?;
    Ok(folder)
}

pub(super) fn too_deep(field: &str, path: &str) -> Error {
    Error::bad_input(
        field,
        format!("{path} would be longer than {MAX_PATH_BYTES} bytes or deeper than {MAX_DEPTH} levels"),
    )
}

/// Applies `change` to a folder, with its revision and stamp.
pub(super) async fn touch(
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
pub(super) async fn record(
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
    let moved = kind == ChangeType::FolderMove;
    let old_parent = moved.then(|| left.first().copied().unwrap_or(FolderId::ROOT));
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

/// The condition for folders below `path`, without it and without those in the trash.
pub(super) fn is_below(path: &str) -> Condition {
    let live = Condition::all().add(folder::Column::DeletionId.is_null());
    if path.is_empty() {
        return live.add(folder::Column::Path.ne(""));
    }
    let (from, to) = below(path);
    live.add(folder::Column::Path.gte(from)).add(folder::Column::Path.lt(to))
}

/// The condition for the folder at `path` and those below it, without those in the trash.
pub(super) fn is_at_or_below(path: &str) -> Condition {
    let itself =
        Condition::all().add(folder::Column::DeletionId.is_null()).add(folder::Column::Path.eq(path));
    Condition::any().add(itself).add(is_below(path))
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
