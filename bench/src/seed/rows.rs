//! Rows of the seeded library, as its operations would have left them.

use entity::asset::{Tags, Visibility};
use entity::change::ChangeType;
use entity::name::Holder;
use entity::version::State;
use entity::{
    Actor, ActorKind, FolderId, asset, blob, change, change_folder, folder, name, stored_file, version,
};
use sea_orm::{ConnectionTrait, DbErr};

use super::insert;
use crate::plan::{Asset, CONTENT_TYPE, Folder, Plan};
use crate::words;

/// The backend that has the bytes.
const BACKEND: &str = "local";

/// Rows that wait to be inserted.
#[derive(Default)]
pub struct Batch {
    folders: Vec<folder::Model>,
    names: Vec<name::Model>,
    assets: Vec<asset::Model>,
    versions: Vec<version::Model>,
    changes: Vec<change::Model>,
    change_folders: Vec<change_folder::Model>,
}

impl Batch {
    /// Adds what `createFolder` writes.
    pub fn add_folder(&mut self, plan: &Plan, folder: Folder) {
        let seq = folder.seq();
        let (id, parent_id) = (plan.folder_id(folder), parent_id(plan, folder));
        self.names.push(name::Model { folder_id: parent_id, name: folder.name(), holder: Holder::Folder });
        self.folders.push(folder::Model {
            id,
            parent_id: Some(parent_id),
            name: folder.name(),
            path: folder.path(),
            depth: if folder.parent().is_some() { 2 } else { 1 },
            title: None,
            revision: 1,
            created_at: plan.at(seq),
            created_by: dev(),
            updated_at: plan.at(seq),
            updated_by: dev(),
            deletion_id: None,
        });
        let entry = entry(plan, seq, ChangeType::FolderCreate, folder.path());
        self.record(change::Model { folder_id: Some(id), ..entry }, &[id, parent_id], &[]);
    }

    /// Adds what `createAsset` and then `createVersion` for each of its versions write.
    pub fn add_asset(&mut self, plan: &Plan, asset: Asset) {
        let seq = plan.asset_seq(asset);
        let folder_id = plan.folder_id(asset.folder());
        self.names.push(name::Model { folder_id, name: asset.name(), holder: Holder::Asset });
        self.assets.push(asset_row(plan, asset));
        let entry = entry(plan, seq, ChangeType::AssetCreate, asset.path());
        self.record_asset(plan, asset, entry);
        for number in 1..=asset.versions() {
            self.add_version(plan, asset, number);
        }
    }

    /// Inserts all rows, those that others refer to first.
    ///
    /// # Errors
    /// What the database says.
    pub async fn write(self, conn: &impl ConnectionTrait) -> Result<(), DbErr> {
        insert::<folder::Entity>(conn, self.folders).await?;
        insert::<name::Entity>(conn, self.names).await?;
        insert::<asset::Entity>(conn, self.assets).await?;
        insert::<version::Entity>(conn, self.versions).await?;
        insert::<change::Entity>(conn, self.changes).await?;
        insert::<change_folder::Entity>(conn, self.change_folders).await
    }

    fn add_version(&mut self, plan: &Plan, asset: Asset, number: i32) {
        let row = version_row(plan, asset, number);
        let seq = plan.asset_seq(asset) + i64::from(number);
        let entry = change::Model {
            version_id: Some(row.id),
            version_number: Some(number),
            content_type: Some(row.content_type.clone()),
            size_bytes: Some(row.size_bytes),
            sha256: Some(row.sha256.clone()),
            ..entry(plan, seq, ChangeType::AssetPublish, asset.path())
        };
        self.versions.push(row);
        self.record_asset(plan, asset, entry);
    }

    fn record_asset(&mut self, plan: &Plan, asset: Asset, entry: change::Model) {
        let folder_id = plan.folder_id(asset.folder());
        let entry =
            change::Model { folder_id: Some(folder_id), asset_id: Some(plan.asset_id(asset)), ..entry };
        let above: Vec<FolderId> =
            asset.folder().parent().map(|folder| plan.folder_id(folder)).into_iter().collect();
        self.record(entry, &[folder_id], &above);
    }

    /// Adds an entry that happened directly in some folders and below others.
    fn record(&mut self, entry: change::Model, direct: &[FolderId], above: &[FolderId]) {
        let places = direct.iter().map(|id| (*id, true)).chain(above.iter().map(|id| (*id, false)));
        for (folder_id, direct) in places {
            self.change_folders.push(change_folder::Model { folder_id, seq: entry.seq, direct });
        }
        self.changes.push(change::Model {
            folder_ids: direct.iter().chain(above).flat_map(|id| id.0.into_bytes()).collect(),
            direct_folders: i32::try_from(direct.len()).unwrap_or(i32::MAX),
            ..entry
        });
    }
}

/// Rows of the bytes that all versions share.
#[must_use]
pub fn blobs(plan: &Plan) -> Vec<blob::Model> {
    let row = |(index, bytes): (usize, &crate::blobs::Blob)| blob::Model {
        id: plan.blob_id(index),
        backend: BACKEND.to_owned(),
        sha256: bytes.sha256.clone(),
        size_bytes: bytes.size(),
        created_at: plan.at(0),
        content_type: None,
        filename: None,
    };
    plan.blobs.iter().enumerate().map(row).collect()
}

/// Stored files, one for each of these bytes, as if sent to a URL from `generateUploadUrl`.
#[must_use]
pub fn stored_files(plan: &Plan) -> Vec<stored_file::Model> {
    let row = |(index, bytes): (usize, &crate::blobs::Blob)| stored_file::Model {
        id: plan.file_id(index),
        backend: BACKEND.to_owned(),
        content_type: CONTENT_TYPE.to_owned(),
        size_bytes: bytes.size(),
        sha256: bytes.sha256.clone(),
        created_at: plan.at(0),
        created_by: dev(),
        blob_id: Some(plan.blob_id(index)),
        kept: true,
        deleted_at: None,
    };
    plan.blobs.iter().enumerate().map(row).collect()
}

fn asset_row(plan: &Plan, asset: Asset) -> asset::Model {
    let created = plan.asset_seq(asset);
    let latest = asset.versions();
    let (title, tags) = match asset {
        Asset::Numbered(number) => (words::title(number, plan.assets), words::tags(number, plan.assets)),
        Asset::Many => ("Many versions".to_owned(), Vec::new()),
    };
    asset::Model {
        id: plan.asset_id(asset),
        folder_id: plan.folder_id(asset.folder()),
        name: asset.name(),
        visibility: Visibility::Public,
        title: Some(title),
        alt_text: None,
        tags: Tags(tags),
        metadata: serde_json::json!({}),
        latest_number: latest,
        revision: 1 + i64::from(latest),
        created_at: plan.at(created),
        created_by: dev(),
        updated_at: plan.at(created + i64::from(latest)),
        updated_by: dev(),
        deletion_id: None,
        published_version_id: Some(plan.version_id(asset, latest)),
        published_content_type: Some(CONTENT_TYPE.to_owned()),
        published_size_bytes: plan.blob(asset, latest).size(),
        published_media_type: Some(CONTENT_TYPE.to_owned()),
        published_filename: Some(asset.filename()),
        published_sha256: Some(plan.blob(asset, latest).sha256.clone()),
    }
}

fn version_row(plan: &Plan, asset: Asset, number: i32) -> version::Model {
    let at = plan.at(plan.asset_seq(asset) + i64::from(number));
    let is_latest = number == asset.versions();
    // Publishing the next one archived it.
    let archived_at = (!is_latest).then(|| plan.at(plan.asset_seq(asset) + i64::from(number) + 1));
    let bytes = plan.blob(asset, number);
    version::Model {
        id: plan.version_id(asset, number),
        asset_id: plan.asset_id(asset),
        number,
        state: if is_latest { State::Published } else { State::Archived },
        label: None,
        filename: asset.filename(),
        content_type: CONTENT_TYPE.to_owned(),
        stored_file_id: plan.file_id(plan.blob_index(asset, number)),
        size_bytes: bytes.size(),
        sha256: bytes.sha256.clone(),
        restored_from_id: None,
        created_at: at,
        created_by: dev(),
        published_at: Some(at),
        published_by: Some(dev()),
        archived_at,
        archived_by: archived_at.map(|_| dev()),
    }
}

/// An entry by itself, a mutation of its own, about nothing yet.
fn entry(plan: &Plan, seq: i64, kind: ChangeType, path: String) -> change::Model {
    change::Model {
        seq,
        batch_end_seq: seq,
        kind,
        at: plan.at(seq),
        actor: dev(),
        path,
        old_path: None,
        folder_id: None,
        asset_id: None,
        version_id: None,
        version_number: None,
        content_type: None,
        size_bytes: None,
        sha256: None,
        folder_ids: Vec::new(),
        direct_folders: 0,
    }
}

fn parent_id(plan: &Plan, folder: Folder) -> FolderId {
    folder.parent().map_or(FolderId::ROOT, |parent| plan.folder_id(parent))
}

/// Whoever uses a server in `dev` mode.
fn dev() -> Actor {
    Actor { kind: ActorKind::User, id: "dev".to_owned(), name: None }
}
