//! Rows for jobs that share a transaction on PostgreSQL: read before the jobs run, by one statement for all of them,
//! and written when they are done, by one statement a kind. A statement there costs a way to the database and back,
//! which took most of the time of a publish.
//!
//! Rows are locked in the order of their ids, assets before files, so that two servers that do this do not wait for each
//! other in a circle. What a job changes, those after it read; what a refused job changed is forgotten.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use entity::version::State;
use entity::{
    Actor, AssetId, FolderId, StoredFileId, Timestamp, VersionId, asset, folder, stored_file, version,
};
use sea_orm::{
    ActiveEnum as _, ConnectionTrait as _, DatabaseTransaction, DbBackend, DbErr, EntityTrait as _,
    FromQueryResult as _, IntoActiveModel as _, QueryResult, Statement,
};
use serde_json::{Value as Json, json};
use uuid::Uuid;

/// What a job will ask for.
#[derive(Debug, Default, Clone)]
pub struct Wants {
    /// An asset, by the path of its folder and its name.
    pub path: Option<(String, String)>,
    /// A version, with its asset.
    pub version: Option<VersionId>,
    /// With the version: also its stored file.
    pub content: bool,
    /// A stored file.
    pub file: Option<StoredFileId>,
}

/// Rows that were read, and what became of them.
#[derive(Default)]
pub struct Ahead {
    read: Mutex<Rows>,
    /// What jobs did that are kept.
    kept: Mutex<Writes>,
    /// What the job did that runs.
    part: Mutex<Writes>,
}

#[derive(Default)]
struct Rows {
    assets: HashMap<AssetId, (asset::Model, Arc<folder::Model>)>,
    paths: HashMap<(String, String), AssetId>,
    versions: HashMap<VersionId, version::Model>,
    files: HashMap<StoredFileId, stored_file::Model>,
    folders: HashMap<String, FolderId>,
}

#[derive(Default)]
struct Writes {
    assets: HashMap<AssetId, asset::Model>,
    new_versions: HashMap<VersionId, version::Model>,
    versions: HashMap<VersionId, version::Model>,
    /// Of versions that were not read.
    archived: HashMap<VersionId, (Timestamp, Actor)>,
}

const RESOLVE: &str = "SELECT a.id FROM jsonb_to_recordset($1) AS w(folder text, name text) \
    JOIN folders AS f ON f.path = w.folder AND f.deletion_id IS NULL \
    JOIN assets AS a ON a.folder_id = f.id AND a.name = w.name AND a.deletion_id IS NULL";
const ASSETS: &str = "SELECT * FROM assets \
    WHERE id IN (SELECT x::uuid FROM jsonb_array_elements_text($1) AS x) AND deletion_id IS NULL \
    ORDER BY id FOR UPDATE";
const FOLDERS_OF: &str = "SELECT * FROM folders \
    WHERE id IN (SELECT x::uuid FROM jsonb_array_elements_text($1) AS x) AND deletion_id IS NULL";
const VERSIONS: &str =
    "SELECT * FROM versions WHERE id IN (SELECT x::uuid FROM jsonb_array_elements_text($1) AS x)";
const FILES: &str = "SELECT * FROM stored_files \
    WHERE id IN (SELECT x::uuid FROM jsonb_array_elements_text($1) AS x) ORDER BY id FOR SHARE";
const FOLDERS: &str = "SELECT id, path FROM folders \
    WHERE path IN (SELECT x FROM jsonb_array_elements_text($1) AS x) AND deletion_id IS NULL";
const ARCHIVE: &str = "UPDATE versions AS v SET state = 'ARCHIVED', archived_at = x.at, archived_by = x.by \
    FROM jsonb_to_recordset($1) AS x(id uuid, at bigint, by jsonb) WHERE v.id = x.id";
const SAVE_VERSIONS: &str = "UPDATE versions AS v SET state = x.state, published_at = x.published_at, \
    published_by = x.published_by, archived_at = x.archived_at, archived_by = x.archived_by \
    FROM jsonb_to_recordset($1) AS x(id uuid, state text, published_at bigint, published_by jsonb, \
    archived_at bigint, archived_by jsonb) WHERE v.id = x.id";
const SAVE_ASSETS: &str = "UPDATE assets AS a SET latest_number = x.latest_number, revision = x.revision, \
    updated_at = x.updated_at, updated_by = x.updated_by, published_version_id = x.published_version_id, \
    published_content_type = x.published_content_type, published_size_bytes = x.published_size_bytes, \
    published_media_type = x.published_media_type, published_filename = x.published_filename, \
    published_sha256 = x.published_sha256 \
    FROM jsonb_to_recordset($1) AS x(id uuid, latest_number integer, revision bigint, updated_at bigint, \
    updated_by jsonb, published_version_id uuid, published_content_type text, published_size_bytes bigint, \
    published_media_type text, published_filename text, published_sha256 text) WHERE a.id = x.id";

impl Ahead {
    /// Reads, and locks until the transaction ends, what jobs will ask for.
    ///
    /// # Errors
    /// What the database says.
    pub(super) async fn read(tx: &DatabaseTransaction, wants: &[Wants]) -> Result<Self, DbErr> {
        let mut rows = Rows::default();
        let versions = distinct(wants.iter().filter_map(|wants| wants.version));
        let mut assets = Vec::new();
        if !versions.is_empty() {
            // Which assets they are of never changes.
            let found = query(tx, VERSIONS, ids(versions.iter().map(|id| id.0))).await?;
            for row in &found {
                assets.push(version::Model::from_query_result(row, "")?.asset_id);
            }
        }
        let paths = distinct(wants.iter().filter_map(|wants| wants.path.clone()));
        if !paths.is_empty() {
            let paths =
                paths.iter().map(|(folder, name)| json!({ "folder": folder, "name": name })).collect();
            for row in query(tx, RESOLVE, paths).await? {
                assets.push(row.try_get("", "id")?);
            }
        }
        rows.add_assets(tx, distinct(assets.into_iter())).await?;
        if !versions.is_empty() {
            // As they are now that their assets are locked.
            for row in query(tx, VERSIONS, ids(versions.iter().map(|id| id.0))).await? {
                let version = version::Model::from_query_result(&row, "")?;
                rows.versions.insert(version.id, version);
            }
        }
        let contents = wants.iter().filter(|wants| wants.content).filter_map(|wants| wants.version);
        let contents = contents.filter_map(|id| rows.versions.get(&id)).map(|version| version.stored_file_id);
        let files = distinct(wants.iter().filter_map(|wants| wants.file).chain(contents));
        for row in query(tx, FILES, ids(files.into_iter().map(|id| id.0))).await? {
            let file = stored_file::Model::from_query_result(&row, "")?;
            rows.files.insert(file.id, file);
        }
        let lineages = rows.assets.values().flat_map(|(_, folder)| lineage(&folder.path));
        for row in query(tx, FOLDERS, distinct(lineages).into_iter().map(Json::from).collect()).await? {
            rows.folders.insert(row.try_get("", "path")?, row.try_get("", "id")?);
        }
        Ok(Self { read: Mutex::new(rows), ..Self::default() })
    }

    /// Writes what jobs did that are kept.
    ///
    /// # Errors
    /// What the database says.
    pub(super) async fn write(&self, tx: &DatabaseTransaction) -> Result<(), DbErr> {
        let Writes { assets, new_versions, versions, archived } = std::mem::take(&mut *lock(&self.kept));
        let archived: Vec<_> =
            archived.iter().map(|(id, (at, by))| json!({ "id": id.0, "at": at.0, "by": by })).collect();
        run(tx, ARCHIVE, archived).await?;
        // At most one of an asset is published at any moment.
        let (published, others): (Vec<_>, Vec<_>) =
            versions.into_values().partition(|version| version.state == State::Published);
        run(tx, SAVE_VERSIONS, others.iter().map(changed_version).collect()).await?;
        run(tx, SAVE_VERSIONS, published.iter().map(changed_version).collect()).await?;
        if !new_versions.is_empty() {
            let rows = new_versions.into_values().map(version::Model::into_active_model);
            version::Entity::insert_many(rows).exec_without_returning(tx).await?;
        }
        run(tx, SAVE_ASSETS, assets.values().map(changed_asset).collect()).await
    }

    /// Lets what the job did that ran be kept.
    pub(super) fn keep_part(&self) {
        let part = std::mem::take(&mut *lock(&self.part));
        let mut kept = lock(&self.kept);
        kept.assets.extend(part.assets);
        kept.archived.extend(part.archived);
        kept.new_versions.extend(part.new_versions);
        for (id, version) in part.versions {
            // One that is not there yet is inserted as it is at the end.
            let new = kept.new_versions.contains_key(&id);
            if new { &mut kept.new_versions } else { &mut kept.versions }.insert(id, version);
        }
    }

    /// Forgets what the job did that ran.
    pub(super) fn forget_part(&self) {
        *lock(&self.part) = Writes::default();
    }

    /// The asset in the folder at a path.
    #[must_use]
    pub fn asset_at(&self, folder: &str, name: &str) -> Option<(asset::Model, Arc<folder::Model>)> {
        let id = *lock(&self.read).paths.get(&(folder.to_owned(), name.to_owned()))?;
        self.asset(id)
    }

    /// An asset that is wanted, or whose version is.
    #[must_use]
    pub fn asset(&self, id: AssetId) -> Option<(asset::Model, Arc<folder::Model>)> {
        let (row, folder) = lock(&self.read).assets.get(&id).cloned()?;
        let changed = lock(&self.part).assets.get(&id).cloned();
        let changed = changed.or_else(|| lock(&self.kept).assets.get(&id).cloned());
        Some((changed.unwrap_or(row), folder))
    }

    /// A version.
    #[must_use]
    pub fn version(&self, id: VersionId) -> Option<version::Model> {
        let in_part = lock(&self.part).version(id);
        in_part
            .or_else(|| lock(&self.kept).version(id))
            .or_else(|| lock(&self.read).versions.get(&id).cloned())
    }

    /// A stored file.
    #[must_use]
    pub fn file(&self, id: StoredFileId) -> Option<stored_file::Model> {
        lock(&self.read).files.get(&id).cloned()
    }

    /// Ids of the folder at a path, which an asset that was read is in, and of those above it, without the root,
    /// nearest first.
    #[must_use]
    pub fn lineage(&self, path: &str) -> Vec<FolderId> {
        let rows = lock(&self.read);
        lineage(path).filter_map(|path| rows.folders.get(&path).copied()).collect()
    }

    /// A version is added.
    pub fn insert_version(&self, version: version::Model) {
        lock(&self.part).new_versions.insert(version.id, version);
    }

    /// Who reads a version gets another state of it, and other times.
    pub fn update_version(&self, version: version::Model) {
        lock(&self.part).versions.insert(version.id, version);
    }

    /// A version is set aside, whether it was read or not.
    pub fn archive_version(&self, id: VersionId, at: Timestamp, by: Actor) {
        match self.version(id) {
            Some(version) => self.update_version(version::Model {
                state: State::Archived,
                archived_at: Some(at),
                archived_by: Some(by),
                ..version
            }),
            None => {
                lock(&self.part).archived.insert(id, (at, by));
            }
        }
    }

    /// An asset has another revision, and shows another version.
    pub fn update_asset(&self, asset: asset::Model) {
        lock(&self.part).assets.insert(asset.id, asset);
    }
}

impl Rows {
    /// Locks assets, and then reads the folders that they are in.
    async fn add_assets(&mut self, tx: &DatabaseTransaction, assets: Vec<AssetId>) -> Result<(), DbErr> {
        let assets = query(tx, ASSETS, ids(assets.iter().map(|id| id.0))).await?;
        let assets = assets.iter().map(|row| asset::Model::from_query_result(row, ""));
        let assets = assets.collect::<Result<Vec<_>, _>>()?;
        let folders = distinct(assets.iter().map(|asset| asset.folder_id));
        let mut known = HashMap::new();
        for row in query(tx, FOLDERS_OF, ids(folders.iter().map(|id| id.0))).await? {
            let folder = folder::Model::from_query_result(&row, "")?;
            known.insert(folder.id, Arc::new(folder));
        }
        for asset in assets {
            // Without its folder it is in the trash.
            if let Some(folder) = known.get(&asset.folder_id) {
                self.paths.insert((folder.path.clone(), asset.name.clone()), asset.id);
                self.assets.insert(asset.id, (asset, Arc::clone(folder)));
            }
        }
        Ok(())
    }
}

impl Writes {
    fn version(&self, id: VersionId) -> Option<version::Model> {
        self.versions.get(&id).or_else(|| self.new_versions.get(&id)).cloned()
    }
}

fn changed_version(version: &version::Model) -> Json {
    json!({
        "id": version.id.0,
        "state": version.state.to_value(),
        "published_at": version.published_at.map(|at| at.0),
        "published_by": version.published_by,
        "archived_at": version.archived_at.map(|at| at.0),
        "archived_by": version.archived_by,
    })
}

fn changed_asset(asset: &asset::Model) -> Json {
    json!({
        "id": asset.id.0,
        "latest_number": asset.latest_number,
        "revision": asset.revision,
        "updated_at": asset.updated_at.0,
        "updated_by": asset.updated_by,
        "published_version_id": asset.published_version_id.map(|id| id.0),
        "published_content_type": asset.published_content_type,
        "published_size_bytes": asset.published_size_bytes,
        "published_media_type": asset.published_media_type,
        "published_filename": asset.published_filename,
        "published_sha256": asset.published_sha256,
    })
}

/// The path of a folder and those above it, without the root, nearest first.
fn lineage(path: &str) -> impl Iterator<Item = String> {
    let mut next = (!path.is_empty()).then(|| path.to_owned());
    std::iter::from_fn(move || {
        let path = next.take()?;
        next = path.rsplit_once('/').map(|(above, _)| above.to_owned());
        Some(path)
    })
}

fn distinct<T: Eq + std::hash::Hash>(items: impl Iterator<Item = T>) -> Vec<T> {
    items.collect::<HashSet<_>>().into_iter().collect()
}

fn ids(ids: impl Iterator<Item = Uuid>) -> Vec<Json> {
    ids.map(|id| Json::from(id.to_string())).collect()
}

/// Runs a statement about `items`, all of them in one parameter, so that its text is always the same.
async fn query(tx: &DatabaseTransaction, sql: &str, items: Vec<Json>) -> Result<Vec<QueryResult>, DbErr> {
    if items.is_empty() {
        return Ok(Vec::new());
    }
    tx.query_all_raw(statement(sql, items)).await
}

async fn run(tx: &DatabaseTransaction, sql: &str, items: Vec<Json>) -> Result<(), DbErr> {
    if items.is_empty() {
        return Ok(());
    }
    tx.execute_raw(statement(sql, items)).await.map(drop)
}

fn statement(sql: &str, items: Vec<Json>) -> Statement {
    Statement::from_sql_and_values(DbBackend::Postgres, sql, [Json::Array(items).into()])
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
