//! What was there then: found in the changelog, backwards from a moment.
//!
//! The last entry before the moment that tells of a path decides: a thing that changed there was there; one that
//! moved away or was deleted was not; a folder above that moved there leads to the path and the moment before its
//! move. Where the log no longer reaches back, the first entry after the moment decides instead, or the present.

use std::collections::HashMap;
use std::sync::Arc;

use entity::change::{self, ChangeType};
use entity::{AssetId, FolderId, Timestamp, VersionId, asset, change_folder, folder, version};
use sea_orm::sea_query::{Alias, Expr, ExprTrait as _, Query, SelectStatement};
use sea_orm::{
    ColumnTrait as _, Condition, ConnectionTrait, EntityTrait as _, Order, QueryFilter as _, QueryOrder as _,
    QuerySelect as _, QueryTrait as _,
};

use super::actor::{Actor, Role};
use super::asset::{self as assets, Asset};
use super::change as log;
use super::content_type;
use super::error::{Error, Result};
use super::folder as folders;
use super::page::{Page, Slice};
use super::path::{TreePath, is_within, join, lineage_paths, name_of, parent_of};
use super::scope::Scope;
use crate::app::App;

/// Moves and restores that a path is followed through.
const MAX_STEPS: usize = 100;
/// Entries of one folder that are looked through to list it.
const MAX_ENTRIES: u64 = 200_000;

/// A moment of the library.
#[derive(Debug, Clone)]
pub enum Moment {
    /// An instant.
    Time(Timestamp),
    /// Right after the entry of a cursor.
    Cursor(String),
}

/// A moment as the changelog numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Then {
    seq: i64,
    /// Whether the log still has everything that came before.
    complete: bool,
}

/// A folder as it was then.
#[derive(Debug, Clone)]
pub struct FolderThen {
    /// Its row, with the path that it had.
    pub row: Arc<folder::Model>,
    /// When.
    pub then: Then,
}

/// The asset that was at `path` then, with the version that was published.
///
/// # Errors
/// `BAD_USER_INPUT` for a cursor that is none, `CURSOR_EXPIRED` for a moment that the log does not reach.
pub async fn asset(app: &App, actor: &Actor, path: &TreePath, moment: &Moment) -> Result<Option<Asset>> {
    actor.require(Role::Viewer)?;
    let then = number(app, moment).await?;
    let Some(Thing::Asset(id, folder)) = occupant(app.read(), path.as_str(), then).await? else {
        return Ok(None);
    };
    let member = Member { id, folder, path: path.as_str().to_owned() };
    Ok(as_they_were(app, vec![member], then).await?.pop())
}

/// The folder that was at `path` then.
///
/// # Errors
/// As [`asset()`].
pub async fn folder(
    app: &App,
    actor: &Actor,
    path: &TreePath,
    moment: &Moment,
) -> Result<Option<FolderThen>> {
    actor.require(Role::Viewer)?;
    let then = number(app, moment).await?;
    let Some(Thing::Folder(id)) = occupant(app.read(), path.as_str(), then).await? else {
        return Ok(None);
    };
    let row = folders::by_ids(app, Scope::All, &[id]).await?.remove(&id);
    Ok(row.map(|row| FolderThen { row: Arc::new(at_path(row, path.as_str())), then }))
}

/// A page of the assets that were right in a folder then, by name, and how many there were.
///
/// # Errors
/// `BAD_USER_INPUT` when too much happened in the folder to look through.
pub async fn assets_in(app: &App, folder: &FolderThen, page: &Page) -> Result<(Slice<Asset>, i64)> {
    let mut members = members(app.read(), folder).await?;
    let total = i64::try_from(members.len()).map_err(Error::internal)?;
    let position = |member: &Member| assets::AssetOrder::position_by_name(name_of(&member.path), member.id);
    members
        .sort_unstable_by(|one, other| (name_of(&one.path), one.id).cmp(&(name_of(&other.path), other.id)));
    let slice = page.of_sorted(members, position);
    let Slice { rows, has_next_page, has_previous_page } = slice;
    let rows = as_they_were(app, rows, folder.then).await?;
    Ok((Slice { rows, has_next_page, has_previous_page }, total))
}

/// An asset that was somewhere then.
struct Member {
    id: AssetId,
    folder: FolderId,
    path: String,
}

/// What was at a path.
enum Thing {
    Folder(FolderId),
    /// With the folder that it was in.
    Asset(AssetId, FolderId),
}

/// The number of the last entry at a moment.
async fn number(app: &App, moment: &Moment) -> Result<Then> {
    let (floor, head) = log::bounds(app).await?;
    let seq = match moment {
        Moment::Cursor(cursor) => {
            log::start(app, Some(cursor), floor, head).map_err(|error| match error {
                Error::BadInput { message, .. } => Error::bad_input("at.cursor", message),
                other => other,
            })?
        }
        Moment::Time(at) => last_before(app.read(), *at, floor, head).await?,
    };
    Ok(Then { seq, complete: floor == 0 })
}

/// The last entry at or before an instant.
async fn last_before(conn: &impl ConnectionTrait, at: Timestamp, floor: i64, head: i64) -> Result<i64> {
    let low = log::last_before(conn, at, floor, head).await?;
    if low == floor && floor > 0 {
        let message = "the changelog no longer reaches back to this instant";
        return Err(Error::CursorExpired(message.to_owned()));
    }
    Ok(low)
}

async fn occupant(conn: &impl ConnectionTrait, path: &str, then: Then) -> Result<Option<Thing>> {
    let (mut path, mut seq) = (path.to_owned(), then.seq);
    for _ in 0..MAX_STEPS {
        if path.is_empty() {
            return Ok(Some(Thing::Folder(FolderId::ROOT)));
        }
        let Some(entry) = telling(conn, &path, seq, Side::Before).await? else {
            return if then.complete { Ok(None) } else { later(conn, &path, seq).await };
        };
        if entry.path == path {
            return Ok(match (entry.kind, entry.asset_id, entry.folder_id) {
                (ChangeType::AssetDelete | ChangeType::FolderDelete, ..) => None,
                (_, Some(asset), Some(folder)) => Some(Thing::Asset(asset, folder)),
                (_, None, Some(folder)) => Some(Thing::Folder(folder)),
                _ => None,
            });
        }
        // Something above: it came along with that, or was gone with it.
        let came = is_within(&path, &entry.path);
        (path, seq) = match entry.kind {
            ChangeType::FolderMove if came => {
                let before = entry.old_path.unwrap_or_default();
                (format!("{before}{}", &path[entry.path.len()..]), entry.seq - 1)
            }
            ChangeType::FolderRestore if came => match deletion_of(conn, &entry).await? {
                Some(deletion) => {
                    (format!("{}{}", deletion.path, &path[entry.path.len()..]), deletion.seq - 1)
                }
                None => return Ok(None),
            },
            _ => return Ok(None),
        };
    }
    Ok(None)
}

/// What was at a path, told by the first entry after the moment, or by the present.
async fn later(conn: &impl ConnectionTrait, path: &str, seq: i64) -> Result<Option<Thing>> {
    let (mut path, mut seq) = (path.to_owned(), seq);
    for _ in 0..MAX_STEPS {
        let Some(entry) = telling(conn, &path, seq + 1, Side::After).await? else {
            let here = TreePath::trusted(path);
            if let Some(asset) = assets::find(conn, &here).await? {
                return Ok(Some(Thing::Asset(asset.row.id, asset.folder.id)));
            }
            return Ok(folders::find(conn, &here).await?.map(|row| Thing::Folder(row.id)));
        };
        let left = entry.old_path.as_deref() == Some(path.as_str());
        if left || entry.path == path {
            let arrived = matches!(
                entry.kind,
                ChangeType::FolderCreate
                    | ChangeType::FolderRestore
                    | ChangeType::FolderMove
                    | ChangeType::AssetCreate
                    | ChangeType::AssetRestore
                    | ChangeType::AssetMove
                    | ChangeType::AssetRename
            );
            return Ok(match (entry.asset_id, entry.folder_id) {
                _ if arrived && !left => None,
                (Some(asset), Some(folder)) => Some(Thing::Asset(asset, folder)),
                (None, Some(folder)) => Some(Thing::Folder(folder)),
                _ => None,
            });
        }
        let Some(before) =
            entry.old_path.filter(|old| entry.kind == ChangeType::FolderMove && is_within(&path, old))
        else {
            return Ok(None);
        };
        (path, seq) = (format!("{}{}", entry.path, &path[before.len()..]), entry.seq);
    }
    Ok(None)
}

/// Which side of a moment an entry is looked for on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Before,
    After,
}

/// The entry nearest to a moment that tells of what is at a path.
async fn telling(
    conn: &impl ConnectionTrait,
    path: &str,
    seq: i64,
    side: Side,
) -> Result<Option<change::Model>> {
    let mut above = lineage_paths(path);
    above.retain(|above| !above.is_empty() && above != path);
    let leaving = [ChangeType::AssetMove, ChangeType::AssetRename, ChangeType::FolderMove];
    let taking = [ChangeType::FolderMove, ChangeType::FolderDelete, ChangeType::FolderRestore];
    let mut conditions = vec![
        // A purge tells of a thing in the trash, whose path may be another's by now.
        Condition::all()
            .add(change::Column::Path.eq(path))
            .add(change::Column::Kind.ne(ChangeType::AssetPurge)),
        Condition::all().add(change::Column::OldPath.eq(path)).add(change::Column::Kind.is_in(leaving)),
    ];
    for above in &above {
        conditions.push(
            Condition::all()
                .add(change::Column::Path.eq(above.as_str()))
                .add(change::Column::Kind.is_in(taking)),
        );
        conditions.push(
            Condition::all()
                .add(change::Column::OldPath.eq(above.as_str()))
                .add(change::Column::Kind.eq(ChangeType::FolderMove)),
        );
    }
    let nearest = |condition: Condition| {
        let select = change::Entity::find().select_only().column(change::Column::Seq).filter(condition);
        let select = match side {
            Side::Before => {
                select.filter(change::Column::Seq.lte(seq)).order_by(change::Column::Seq, Order::Desc)
            }
            Side::After => {
                select.filter(change::Column::Seq.gte(seq)).order_by(change::Column::Seq, Order::Asc)
            }
        };
        select.limit(1).into_query()
    };
    let mut found = Vec::with_capacity(conditions.len());
    for row in conn.query_all(&union(conditions.into_iter().map(nearest))).await? {
        found.push(row.try_get::<i64>("", "seq")?);
    }
    let nearest = if side == Side::Before { found.into_iter().max() } else { found.into_iter().min() };
    match nearest {
        Some(seq) => Ok(change::Entity::find_by_id(seq).one(conn).await?),
        None => Ok(None),
    }
}

fn union(selects: impl Iterator<Item = SelectStatement>) -> SelectStatement {
    // A compound SELECT takes LIMIT only inside a subquery.
    let mut parts = selects.enumerate().map(|(index, select)| {
        let alias = Alias::new(format!("part_{index}"));
        Query::select().column(change::Column::Seq).from_subquery(select, alias).take()
    });
    let mut all = parts.next().unwrap_or_default();
    for part in parts {
        all.union(sea_orm::sea_query::UnionType::All, part);
    }
    all
}

/// The deletion that a restore took back.
async fn deletion_of(conn: &impl ConnectionTrait, restore: &change::Model) -> Result<Option<change::Model>> {
    let Some(folder) = restore.folder_id else { return Ok(None) };
    let mut places = Query::select();
    places
        .column(change_folder::Column::Seq)
        .from(change_folder::Entity)
        .and_where(change_folder::Column::FolderId.eq(folder))
        .and_where(change_folder::Column::Seq.lt(restore.seq));
    let found = change::Entity::find()
        .filter(change::Column::Seq.in_subquery(places.take()))
        .filter(change::Column::FolderId.eq(folder))
        .filter(change::Column::Kind.eq(ChangeType::FolderDelete))
        .order_by_desc(change::Column::Seq)
        .one(conn)
        .await?;
    Ok(found)
}

/// The assets that were right in a folder then.
async fn members(conn: &impl ConnectionTrait, folder: &FolderThen) -> Result<Vec<Member>> {
    let (id, then) = (folder.row.id, folder.then);
    let mut inside = Query::select();
    inside
        .column(change_folder::Column::Seq)
        .from(change_folder::Entity)
        .and_where(change_folder::Column::FolderId.eq(id))
        .and_where(change_folder::Column::Direct.eq(true))
        .and_where(change_folder::Column::Seq.lte(then.seq));
    let bounded = Query::select()
        .expr_as(Expr::col(change_folder::Column::Seq).count(), Alias::new("entries"))
        .from_subquery(inside.clone().limit(MAX_ENTRIES + 1).take(), Alias::new("bounded"))
        .take();
    let row = conn.query_one(&bounded).await?.ok_or_else(|| Error::internal("no count"))?;
    if row.try_get::<i64>("", "entries")? > i64::try_from(MAX_ENTRIES).unwrap_or(i64::MAX) {
        let message = format!(
            "cannot list a folder in which more than {MAX_ENTRIES} things happened until then; ask for its assets by path"
        );
        return Err(Error::bad_input("at", message));
    }
    let last = Query::select()
        .expr(Expr::col(change::Column::Seq).max())
        .from(change::Entity)
        .and_where(change::Column::Seq.in_subquery(inside.take()))
        .and_where(change::Column::AssetId.is_not_null())
        .and_where(change::Column::Kind.ne(ChangeType::AssetPurge))
        .group_by_col(change::Column::AssetId)
        .take();
    // Of what was purged since there is nothing left to tell.
    let kept = asset::Entity::find().select_only().column(asset::Column::Id).into_query();
    let rows: Vec<(AssetId, String)> = change::Entity::find()
        .select_only()
        .column(change::Column::AssetId)
        .column(change::Column::Path)
        .filter(change::Column::Seq.in_subquery(last))
        .filter(change::Column::FolderId.eq(id))
        .filter(change::Column::Kind.ne(ChangeType::AssetDelete))
        .filter(change::Column::AssetId.in_subquery(kept))
        .into_tuple()
        .all(conn)
        .await?;
    let place = |(asset, path): (AssetId, String)| {
        // The folder may have moved since that entry.
        Member { id: asset, folder: id, path: join(&folder.row.path, name_of(&path)) }
    };
    let mut members: Vec<Member> = rows.into_iter().map(place).collect();
    if !then.complete {
        members.extend(silent(conn, folder, &members).await?);
    }
    Ok(members)
}

/// Assets of a folder that the log, which no longer has its beginning, says nothing of up to then: what is there
/// now and neither came nor changed since.
async fn silent(conn: &impl ConnectionTrait, folder: &FolderThen, told: &[Member]) -> Result<Vec<Member>> {
    let rows: Vec<(AssetId, String)> = asset::Entity::find()
        .select_only()
        .column(asset::Column::Id)
        .column(asset::Column::Name)
        .filter(asset::Column::FolderId.eq(folder.row.id))
        .filter(asset::Column::DeletionId.is_null())
        .into_tuple()
        .all(conn)
        .await?;
    let mut found = Vec::new();
    for (id, name) in rows.into_iter().filter(|(id, _)| !told.iter().any(|member| member.id == *id)) {
        let path = join(&folder.row.path, &name);
        if matches!(later(conn, &path, folder.then.seq).await?, Some(Thing::Asset(was, _)) if was == id) {
            found.push(Member { id, folder: folder.row.id, path });
        }
    }
    Ok(found)
}

/// The rows of assets, with the paths and published versions that they had then.
async fn as_they_were(app: &App, members: Vec<Member>, then: Then) -> Result<Vec<Asset>> {
    let ids: Vec<AssetId> = members.iter().map(|member| member.id).collect();
    let mut rows = assets::by_ids(app, Scope::All, &ids).await?;
    let folder_ids: Vec<FolderId> = members.iter().map(|member| member.folder).collect();
    let folders = folders::by_ids(app, Scope::All, &folder_ids).await?;
    let published = published(app.read(), &ids, then).await?;
    let was = members.into_iter().filter_map(|member| {
        let mut asset = rows.remove(&member.id)?;
        let version = published.get(&member.id);
        name_of(&member.path).clone_into(&mut asset.row.name);
        asset.row.published_version_id = version.map(|version| version.id);
        asset.row.published_content_type =
            version.map(|version| content_type::essence(&version.content_type));
        asset.row.published_size_bytes = version.map_or(0, |version| version.size_bytes);
        asset.row.published_media_type = version.map(|version| version.content_type.clone());
        asset.row.published_filename = version.map(|version| version.filename.clone());
        asset.row.published_sha256 = version.map(|version| version.sha256.clone());
        if let Some(folder) = folders.get(&member.folder) {
            asset.folder = Arc::new(at_path(folder.clone(), parent_of(&member.path)));
        }
        asset.deleted_from = Some(member.path);
        asset.published = None;
        asset.as_of = Some(then);
        Some(asset)
    });
    Ok(was.collect())
}

/// The versions of assets that were published then.
async fn published(
    conn: &impl ConnectionTrait,
    ids: &[AssetId],
    then: Then,
) -> Result<HashMap<AssetId, version::Model>> {
    let last = |kind| {
        let mut last = Query::select();
        last.expr(Expr::col(change::Column::Seq).max())
            .from(change::Entity)
            .and_where(change::Column::AssetId.is_in(ids.iter().copied()))
            .and_where(change::Column::Kind.eq(kind))
            .and_where(change::Column::Seq.lte(then.seq))
            .group_by_col(change::Column::AssetId);
        if kind == ChangeType::AssetArchive {
            last.group_by_col(change::Column::VersionId);
        }
        change::Entity::find().filter(change::Column::Seq.in_subquery(last))
    };
    let publishes = last(ChangeType::AssetPublish).all(conn).await?;
    let archives = last(ChangeType::AssetArchive).all(conn).await?;
    let set_aside = |publish: &change::Model| {
        archives.iter().any(|archive| archive.version_id == publish.version_id && archive.seq > publish.seq)
    };
    let shown =
        publishes.iter().filter(|publish| !set_aside(publish)).filter_map(|publish| publish.version_id);
    let shown: Vec<VersionId> = shown.collect();
    let mut found: HashMap<AssetId, version::Model> = version::Entity::find()
        .filter(version::Column::Id.is_in(shown))
        .all(conn)
        .await?
        .into_iter()
        .map(|row| (row.asset_id, row))
        .collect();
    if !then.complete {
        let told: Vec<AssetId> = publishes.iter().filter_map(|publish| publish.asset_id).collect();
        let silent: Vec<AssetId> = ids.iter().filter(|id| !told.contains(id)).copied().collect();
        found.extend(published_before_the_log(conn, silent, then).await?);
    }
    Ok(found)
}

/// What the versions themselves tell, where the log begins too late to.
async fn published_before_the_log(
    conn: &impl ConnectionTrait,
    ids: Vec<AssetId>,
    then: Then,
) -> Result<HashMap<AssetId, version::Model>> {
    let Some(entry) = change::Entity::find_by_id(then.seq).one(conn).await? else {
        return Ok(HashMap::new());
    };
    let still = Condition::any()
        .add(version::Column::ArchivedAt.is_null())
        .add(version::Column::ArchivedAt.gt(entry.at));
    let rows = version::Entity::find()
        .filter(version::Column::AssetId.is_in(ids))
        .filter(version::Column::PublishedAt.lte(entry.at))
        .filter(still)
        .order_by_asc(version::Column::PublishedAt)
        .all(conn)
        .await?;
    Ok(rows.into_iter().map(|row| (row.asset_id, row)).collect())
}

fn at_path(mut row: folder::Model, path: &str) -> folder::Model {
    name_of(path).clone_into(&mut row.name);
    path.clone_into(&mut row.path);
    row
}
