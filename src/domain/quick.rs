//! The reads that most requests are made of, by hand for SQLite: an asset at a path with what is published of it,
//! a folder at a path, a page of assets, a page of versions, by the same rules as their namesakes elsewhere in
//! `domain`. Where it is not SQLite, or a read fails, these are asked instead; a test compares the two.

use std::cell::RefCell;
use std::sync::Arc;

use entity::asset::{Tags, Visibility};
use entity::version::State;
use entity::{
    Actor, AssetId, BlobId, DeletionId, FolderId, StoredFileId, Timestamp, VersionId, asset, folder,
    stored_file, version,
};
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ValueRef};
use rusqlite::{Connection, Row};
use sea_orm::ActiveEnum as _;
use serde_json::Value as Json;
use uuid::Uuid;

use super::asset::{Along, Asset, AssetRef};
use super::page::{Direction, Page, SortKey};
use super::path::{TreePath, lineage_paths};
use super::scope::Scope;
use super::version::Kept;
use crate::app::App;

const FOLDER: &str = "f.id, f.parent_id, f.name, f.path, f.depth, f.title, f.revision, f.created_at, f.created_by, \
    f.updated_at, f.updated_by, f.deletion_id";
const FOLDER_COLUMNS: usize = 12;
const ASSET: &str = "a.id, a.folder_id, a.name, a.visibility, a.title, a.alt_text, a.tags, a.metadata, \
    a.latest_number, a.revision, a.created_at, a.created_by, a.updated_at, a.updated_by, a.deletion_id, \
    a.published_version_id, a.published_content_type, a.published_size_bytes, a.published_media_type, \
    a.published_filename, a.published_sha256";
const ASSET_COLUMNS: usize = 21;
const VERSION: &str = "v.id, v.asset_id, v.number, v.state, v.label, v.filename, v.content_type, v.stored_file_id, \
    v.size_bytes, v.sha256, v.restored_from_id, v.created_at, v.created_by, v.published_at, v.published_by, \
    v.archived_at, v.archived_by";

const KEPT_COLUMNS: &str = "s.blob_id, s.backend, v.size_bytes, v.sha256, v.content_type, v.filename, v.created_at, \
    v.published_at, a.visibility";
const IS_KEPT: &str = "a.deletion_id IS NULL AND f.deletion_id IS NULL AND s.blob_id IS NOT NULL";

/// The folder at a path; none when this is not the way to ask.
pub fn folder_at(app: &App, path: &TreePath) -> Option<Option<folder::Model>> {
    run(app, |connection| {
        let sql = const_format(&FOLDER_AT, || {
            format!("SELECT {FOLDER} FROM folders AS f WHERE f.path = ?1 AND f.deletion_id IS NULL")
        });
        let reader = Reader::default();
        one(connection, sql, &[&path.as_str()], |row| reader.folder(row, 0))
    })
}

/// The asset at a path, with its published version; none when this is not the way to ask.
pub fn asset_at(app: &App, path: &TreePath) -> Option<Option<Asset>> {
    run(app, |connection| {
        let sql = const_format(&ASSET_AT, || {
            format!(
                "SELECT {FOLDER}, {ASSET}, {VERSION} FROM folders AS f \
                 CROSS JOIN assets AS a ON a.folder_id = f.id AND a.name = ?2 AND a.deletion_id IS NULL \
                 LEFT JOIN versions AS v ON v.id = a.published_version_id \
                 WHERE f.path = ?1 AND f.deletion_id IS NULL"
            )
        });
        let reader = Reader::default();
        let parent = path.parent();
        one(connection, sql, &[&parent.as_str(), &path.name()], |row| {
            let folder = Arc::new(reader.folder(row, 0)?);
            reader.asset(row, FOLDER_COLUMNS, folder, Some(FOLDER_COLUMNS + ASSET_COLUMNS))
        })
    })
}

/// What is kept of a version; none when this is not the way to ask.
pub fn kept(app: &App, id: VersionId) -> Option<Option<Kept>> {
    run(app, |connection| {
        let sql = const_format(&KEPT, || {
            format!(
                "SELECT {KEPT_COLUMNS} FROM versions AS v CROSS JOIN assets AS a ON a.id = v.asset_id \
                 CROSS JOIN folders AS f ON f.id = a.folder_id \
                 CROSS JOIN stored_files AS s ON s.id = v.stored_file_id \
                 WHERE v.id = ?1 AND {IS_KEPT}"
            )
        });
        one(connection, sql, &[&Id(id.0)], read_kept)
    })
}

/// What is kept of the version that is published at a path; none when this is not the way to ask.
pub fn kept_at(app: &App, path: &TreePath) -> Option<Option<Kept>> {
    run(app, |connection| {
        let sql = const_format(&KEPT_AT, || {
            format!(
                "SELECT {KEPT_COLUMNS} FROM folders AS f CROSS JOIN assets AS a ON a.folder_id = f.id \
                 CROSS JOIN versions AS v ON v.id = a.published_version_id \
                 CROSS JOIN stored_files AS s ON s.id = v.stored_file_id \
                 WHERE f.path = ?1 AND a.name = ?2 AND {IS_KEPT}"
            )
        });
        one(connection, sql, &[&path.parent().as_str(), &path.name()], read_kept)
    })
}

fn read_kept(row: &Row<'_>) -> rusqlite::Result<Kept> {
    Ok(Kept {
        blob_id: BlobId(id(row, 0)?),
        backend: row.get(1)?,
        size_bytes: row.get(2)?,
        sha256: row.get(3)?,
        content_type: row.get(4)?,
        filename: row.get(5)?,
        created_at: Timestamp(row.get(6)?),
        published_at: row.get::<_, Option<i64>>(7)?.map(Timestamp),
        visibility: word(row, 8, |text| Visibility::try_from_value(&text))?,
    })
}

/// A page of the assets right in a folder, by name, with what is to be read along; none when this is not the way
/// to ask. Rows come in the page's direction of fetching.
pub fn assets_in(
    app: &App,
    scope: Scope,
    folder: &Arc<folder::Model>,
    page: &Page,
    direction: Direction,
    along: Along,
) -> Option<Vec<Asset>> {
    let (after, before) = page.bounds();
    if before.is_some() {
        return None;
    }
    let descending = page.fetch_direction(direction) == Direction::Descending;
    let ascending_after = direction == Direction::Ascending;
    let rows = run(app, |connection| {
        let source = match along {
            Along::Nothing => format!("{ASSET} FROM assets AS a"),
            Along::Published => {
                format!(
                    "{ASSET}, {VERSION} FROM assets AS a LEFT JOIN versions AS v ON v.id = a.published_version_id"
                )
            }
        };
        let open = if scope == Scope::Shown { " AND a.open" } else { "" };
        let select = format!("SELECT {source} WHERE a.folder_id = ?1 AND a.deletion_id IS NULL{open}");
        let version = (along == Along::Published).then_some(ASSET_COLUMNS);
        let order = if descending { "DESC" } else { "ASC" };
        let sign = if ascending_after { ">" } else { "<" };
        let reader = Reader::default();
        let read = |row: &Row<'_>| reader.asset(row, 0, Arc::clone(folder), version);
        let limit = i64::try_from(page.fetch()).unwrap_or(i64::MAX);
        let id = folder.id.0;
        match after {
            None => {
                let sql = format!("{select} ORDER BY a.name {order}, a.id {order} LIMIT ?2");
                many(connection, &sql, &[&Id(id), &limit], read)
            }
            Some(after) => {
                let SortKey::Text(name) = &after.key else { return Ok(Vec::new()) };
                let sql = format!(
                    "{select} AND (a.name, a.id) {sign} (?2, ?3) ORDER BY a.name {order}, a.id {order} LIMIT ?4"
                );
                many(connection, &sql, &[&Id(id), name, &Id(after.id), &limit], read)
            }
        }
    })?;
    Some(rows.into_iter().filter_map(|asset| scope.asset(asset)).collect())
}

/// A page of the versions of an asset, without a cursor; none when this is not the way to ask.
pub fn versions_of(
    app: &App,
    asset: AssetId,
    page: &Page,
    direction: Direction,
) -> Option<Vec<version::Model>> {
    if page.bounds() != (None, None) {
        return None;
    }
    let order = if page.fetch_direction(direction) == Direction::Descending { "DESC" } else { "ASC" };
    run(app, |connection| {
        let sql = format!(
            "SELECT {VERSION} FROM versions AS v WHERE v.asset_id = ?1 ORDER BY v.number {order} LIMIT ?2"
        );
        let reader = Reader::default();
        let limit = i64::try_from(page.fetch()).unwrap_or(i64::MAX);
        many(connection, &sql, &[&Id(asset.0), &limit], |row| reader.version(row, 0))
    })
}

/// The asset that `target` names, outside the trash.
pub(super) fn live_asset(connection: &Connection, target: &AssetRef) -> rusqlite::Result<Option<Asset>> {
    let reader = Reader::default();
    let read = |row: &Row<'_>| {
        let folder = Arc::new(reader.folder(row, 0)?);
        reader.asset(row, FOLDER_COLUMNS, folder, None)
    };
    let live = "a.deletion_id IS NULL AND f.deletion_id IS NULL";
    match target {
        AssetRef::Id(id) => {
            let sql = const_format(&ASSET_BY_ID, || {
                format!(
                    "SELECT {FOLDER}, {ASSET} FROM assets AS a CROSS JOIN folders AS f ON f.id = a.folder_id \
                     WHERE a.id = ?1 AND {live}"
                )
            });
            one(connection, sql, &[&Id(id.0)], read)
        }
        AssetRef::Path(path) => {
            let sql = const_format(&ASSET_BY_PATH, || {
                format!(
                    "SELECT {FOLDER}, {ASSET} FROM folders AS f CROSS JOIN assets AS a ON a.folder_id = f.id \
                     WHERE f.path = ?1 AND a.name = ?2 AND {live}"
                )
            });
            one(connection, sql, &[&path.parent().as_str(), &path.name()], read)
        }
    }
}

/// A version by its id.
pub(super) fn version(connection: &Connection, id: VersionId) -> rusqlite::Result<Option<version::Model>> {
    let sql = const_format(&VERSION_BY_ID, || format!("SELECT {VERSION} FROM versions AS v WHERE v.id = ?1"));
    one(connection, sql, &[&Id(id.0)], |row| Reader::default().version(row, 0))
}

/// A stored file by its id.
pub(super) fn stored_file(
    connection: &Connection,
    wanted: StoredFileId,
) -> rusqlite::Result<Option<stored_file::Model>> {
    let sql = "SELECT id, backend, content_type, size_bytes, sha256, created_at, created_by, blob_id, kept, \
        deleted_at FROM stored_files WHERE id = ?1";
    one(connection, sql, &[&Id(wanted.0)], |row| {
        Ok(stored_file::Model {
            id: StoredFileId(id(row, 0)?),
            backend: row.get(1)?,
            content_type: row.get(2)?,
            size_bytes: row.get(3)?,
            sha256: row.get(4)?,
            created_at: Timestamp(row.get(5)?),
            created_by: Reader::default().actor(row, 6)?,
            blob_id: optional_id(row, 7)?.map(BlobId),
            kept: row.get(8)?,
            deleted_at: row.get::<_, Option<i64>>(9)?.map(Timestamp),
        })
    })
}

/// Ids of the folder at a path and of those above it, without the root, nearest first.
pub(super) fn lineage(connection: &Connection, path: &str) -> rusqlite::Result<Vec<FolderId>> {
    let sql = "SELECT id FROM folders WHERE path = ?1 AND deletion_id IS NULL";
    let mut above = Vec::new();
    for path in lineage_paths(path).iter().skip(1).rev() {
        let found = one(connection, sql, &[path], |row| id(row, 0))?;
        above.extend(found.map(FolderId));
    }
    Ok(above)
}

type Text = std::sync::OnceLock<String>;
static ASSET_BY_ID: Text = Text::new();
static ASSET_BY_PATH: Text = Text::new();
static VERSION_BY_ID: Text = Text::new();
static FOLDER_AT: Text = Text::new();
static ASSET_AT: Text = Text::new();
static KEPT: Text = Text::new();
static KEPT_AT: Text = Text::new();

fn const_format(text: &'static Text, make: impl FnOnce() -> String) -> &'static str {
    text.get_or_init(make)
}

/// Runs a read; one that fails is left to the ordinary way, which tells why.
fn run<T>(app: &App, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Option<T> {
    match app.quick()?.read(work) {
        Ok(found) => Some(found),
        Err(error) => {
            tracing::debug!(%error, "a quick read failed");
            None
        }
    }
}

fn one<T>(
    connection: &Connection,
    sql: &str,
    values: &[&dyn ToSql],
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Option<T>> {
    Ok(many(connection, sql, values, read)?.pop())
}

fn many<T>(
    connection: &Connection,
    sql: &str,
    values: &[&dyn ToSql],
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(values, read)?;
    rows.collect()
}

/// An id as SQLite has it: 16 bytes.
struct Id(Uuid);

impl FromSql for Id {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let bytes = value.as_blob()?;
        Uuid::from_slice(bytes).map(Self).map_err(|error| FromSqlError::Other(Box::new(error)))
    }
}

impl ToSql for Id {
    fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
        Ok(rusqlite::types::ToSqlOutput::Borrowed(ValueRef::Blob(self.0.as_bytes())))
    }
}

/// Reads rows. Most of a page were made by the same actor, which is read once.
#[derive(Default)]
struct Reader {
    actor: RefCell<Option<(String, Actor)>>,
}

impl Reader {
    fn folder(&self, row: &Row<'_>, at: usize) -> rusqlite::Result<folder::Model> {
        Ok(folder::Model {
            id: FolderId(id(row, at)?),
            parent_id: optional_id(row, at + 1)?.map(FolderId),
            name: row.get(at + 2)?,
            path: row.get(at + 3)?,
            depth: row.get(at + 4)?,
            title: row.get(at + 5)?,
            revision: row.get(at + 6)?,
            created_at: Timestamp(row.get(at + 7)?),
            created_by: self.actor(row, at + 8)?,
            updated_at: Timestamp(row.get(at + 9)?),
            updated_by: self.actor(row, at + 10)?,
            deletion_id: optional_id(row, at + 11)?.map(DeletionId),
        })
    }

    /// An asset whose published version, if it has one, stands from the column `version` on, if it was read along.
    fn asset(
        &self,
        row: &Row<'_>,
        at: usize,
        folder: Arc<folder::Model>,
        version: Option<usize>,
    ) -> rusqlite::Result<Asset> {
        let model = asset::Model {
            id: AssetId(id(row, at)?),
            folder_id: FolderId(id(row, at + 1)?),
            name: row.get(at + 2)?,
            visibility: word(row, at + 3, |text| Visibility::try_from_value(&text))?,
            title: row.get(at + 4)?,
            alt_text: row.get(at + 5)?,
            tags: Tags(tags(row, at + 6)?),
            metadata: metadata(row, at + 7)?,
            latest_number: row.get(at + 8)?,
            revision: row.get(at + 9)?,
            created_at: Timestamp(row.get(at + 10)?),
            created_by: self.actor(row, at + 11)?,
            updated_at: Timestamp(row.get(at + 12)?),
            updated_by: self.actor(row, at + 13)?,
            deletion_id: optional_id(row, at + 14)?.map(DeletionId),
            published_version_id: optional_id(row, at + 15)?.map(VersionId),
            published_content_type: row.get(at + 16)?,
            published_size_bytes: row.get(at + 17)?,
            published_media_type: row.get(at + 18)?,
            published_filename: row.get(at + 19)?,
            published_sha256: row.get(at + 20)?,
        };
        let published = match (version, model.published_version_id) {
            (Some(version), Some(_)) => Some(Arc::new(self.version(row, version)?)),
            _ => None,
        };
        Ok(Asset { row: model, folder, published, deleted_from: None, as_of: None })
    }

    fn version(&self, row: &Row<'_>, at: usize) -> rusqlite::Result<version::Model> {
        Ok(version::Model {
            id: VersionId(id(row, at)?),
            asset_id: AssetId(id(row, at + 1)?),
            number: row.get(at + 2)?,
            state: word(row, at + 3, |text| State::try_from_value(&text))?,
            label: row.get(at + 4)?,
            filename: row.get(at + 5)?,
            content_type: row.get(at + 6)?,
            stored_file_id: StoredFileId(id(row, at + 7)?),
            size_bytes: row.get(at + 8)?,
            sha256: row.get(at + 9)?,
            restored_from_id: optional_id(row, at + 10)?.map(VersionId),
            created_at: Timestamp(row.get(at + 11)?),
            created_by: self.actor(row, at + 12)?,
            published_at: row.get::<_, Option<i64>>(at + 13)?.map(Timestamp),
            published_by: self.optional_actor(row, at + 14)?,
            archived_at: row.get::<_, Option<i64>>(at + 15)?.map(Timestamp),
            archived_by: self.optional_actor(row, at + 16)?,
        })
    }

    fn actor(&self, row: &Row<'_>, at: usize) -> rusqlite::Result<Actor> {
        self.optional_actor(row, at)?.ok_or_else(|| FromSqlError::InvalidType.into())
    }

    fn optional_actor(&self, row: &Row<'_>, at: usize) -> rusqlite::Result<Option<Actor>> {
        let Some(text) = row.get_ref(at)?.as_str_or_null()? else { return Ok(None) };
        let mut last = self.actor.borrow_mut();
        if let Some((_, actor)) = last.as_ref().filter(|(known, _)| known == text) {
            return Ok(Some(actor.clone()));
        }
        let actor: Actor = parse(text)?;
        *last = Some((text.to_owned(), actor.clone()));
        Ok(Some(actor))
    }
}

fn id(row: &Row<'_>, at: usize) -> rusqlite::Result<Uuid> {
    row.get::<_, Id>(at).map(|id| id.0)
}

fn optional_id(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<Uuid>> {
    row.get::<_, Option<Id>>(at).map(|id| id.map(|id| id.0))
}

fn word<T>(
    row: &Row<'_>,
    at: usize,
    read: impl FnOnce(String) -> Result<T, sea_orm::DbErr>,
) -> rusqlite::Result<T> {
    read(row.get(at)?).map_err(|error| FromSqlError::Other(Box::new(error)).into())
}

/// Most have none; that needs no parser.
fn tags(row: &Row<'_>, at: usize) -> rusqlite::Result<Vec<String>> {
    match row.get_ref(at)?.as_str()? {
        "[]" => Ok(Vec::new()),
        text => parse(text),
    }
}

fn metadata(row: &Row<'_>, at: usize) -> rusqlite::Result<Json> {
    match row.get_ref(at)?.as_str()? {
        "{}" => Ok(Json::Object(serde_json::Map::new())),
        text => parse(text),
    }
}

fn parse<T: serde::de::DeserializeOwned>(text: &str) -> rusqlite::Result<T> {
    serde_json::from_str(text).map_err(|error| FromSqlError::Other(Box::new(error)).into())
}

#[cfg(test)]
mod tests;
