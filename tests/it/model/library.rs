//! The model: what `rules.md` says a library is, in vectors and plain loops. It knows no server.

mod answer;
mod asset;
mod folder;
mod settle;
mod trash;
mod upload;
mod version;

use serde_json::json;

pub use answer::{Entry, Exchange, Fact, Outcome, Refusal, Refusals, Verdict};

use super::operation::{At, If, Operation, Thing, VersionAt};
use answer::{Checks, NOT_FOUND, TAKEN};

/// Stands for an id that nothing has.
pub const NOTHING: usize = usize::MAX;

/// A library: the folder of one case and all that is or was in it. Paths are below that folder.
#[derive(Clone, Debug)]
pub struct Library {
    /// The first is the folder of the case.
    pub folders: Vec<Folder>,
    pub assets: Vec<Asset>,
    pub uploads: Vec<Upload>,
    pub files: Vec<StoredFile>,
    pub deletions: Vec<Deletion>,
    pub steps: usize,
    /// What the last step asked, and what has to come back.
    pub exchanges: Vec<Exchange>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    Live,
    /// Taken by this deletion.
    Trashed(usize),
    Purged,
}

#[derive(Clone, Debug)]
pub struct Folder {
    pub path: String,
    pub title: Option<&'static str>,
    pub revision: i64,
    pub life: Life,
}

#[derive(Clone, Debug)]
pub struct Asset {
    pub path: String,
    /// Newest first. While it is in the trash, the path that it had is the first of them.
    pub former_paths: Vec<String>,
    pub title: Option<&'static str>,
    pub revision: i64,
    pub life: Life,
    /// Version n is at n - 1.
    pub versions: Vec<Version>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Draft,
    Published,
    Archived,
}

#[derive(Clone, Debug)]
pub struct Version {
    pub state: State,
    pub label: Option<String>,
    pub content: usize,
    /// The stored file that it was made of, unless it was uploaded.
    pub file: Option<usize>,
}

#[derive(Clone, Debug)]
pub struct Upload {
    pub path: String,
    pub publish: bool,
    pub declared: Option<usize>,
    pub revision: Option<i64>,
    pub status: Status,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Created,
    Received(usize),
    Finished(VersionAt),
    Rejected,
    Cancelled,
    Expired,
}

#[derive(Clone, Debug)]
pub struct StoredFile {
    pub content: usize,
    pub deleted: bool,
}

#[derive(Clone, Debug)]
pub struct Deletion {
    /// The step that it came with.
    pub step: usize,
    pub top: Thing,
    pub folders: Vec<usize>,
    pub assets: Vec<usize>,
}

impl Library {
    /// An empty folder.
    pub fn new() -> Self {
        let top = Folder { path: String::new(), title: None, revision: 1, life: Life::Live };
        Self {
            folders: vec![top],
            assets: Vec::new(),
            uploads: Vec::new(),
            files: Vec::new(),
            deletions: Vec::new(),
            steps: 0,
            exchanges: Vec::new(),
        }
    }

    /// Asks for something; `exchanges` then tells what has to come back.
    pub fn step(&mut self, operation: &Operation) {
        self.exchanges.clear();
        self.steps += 1;
        for part in self.parts(operation) {
            let operation = self.settle(part);
            let verdict = self.ask(&operation);
            let refused = verdict.is_err();
            self.exchanges.push(Exchange { operation, verdict });
            if refused {
                return;
            }
        }
    }

    /// The requests that an operation consists of.
    pub fn parts(&self, operation: &Operation) -> Vec<Operation> {
        let Operation::Upload { path, content, publish } = operation else { return vec![operation.clone()] };
        let upload = self.uploads.len();
        vec![
            Operation::StartUpload {
                path: path.clone(),
                publish: *publish,
                declared: None,
                revision: If::Any,
            },
            Operation::SendBytes { upload, content: *content },
            Operation::FinishUpload { upload },
        ]
    }

    /// All of an operation, or nothing.
    fn ask(&mut self, operation: &Operation) -> Verdict {
        let before = self.clone();
        let verdict = self.perform(operation);
        if verdict.as_ref().map_or(true, |outcome| outcome.dry) {
            *self = before;
        }
        verdict
    }

    fn perform(&mut self, operation: &Operation) -> Verdict {
        use Operation as Op;
        match operation {
            Op::CreateFolder { path } => self.create_folder(path),
            Op::UpdateFolder { folder, title, revision } => self.update_folder(folder, title, *revision),
            Op::MoveFolder { folder, to, dry_run, revision } => {
                let outcome = self.move_folder(folder, to, *revision)?;
                Ok(Outcome { dry: *dry_run, ..outcome })
            }
            Op::DeleteFolder { folder, recursive, revision } => {
                self.delete_folder(folder, *recursive, *revision)
            }
            Op::CreateAsset { path } => self.create_asset(path),
            Op::UpdateAsset { asset, title, revision } => self.update_asset(asset, *title, *revision),
            Op::MoveAsset { asset, to, revision } => self.move_asset(asset, to, *revision),
            Op::RenameAsset { asset, name, revision } => self.rename_asset(asset, name, *revision),
            Op::DeleteAsset { asset, revision } => self.delete_asset(asset, *revision),
            Op::DeleteAssets { folder, names } => self.delete_assets(folder, names.as_ref()),
            Op::FinishUpload { upload } => self.finish_upload(*upload),
            Op::CreateVersion { path, file, publish, label, revision } => {
                self.create_version(path, *file, *publish, *label, *revision)
            }
            Op::PublishVersion { version, revision } => self.publish_version(*version, *revision),
            Op::ArchiveVersion { version, revision } => self.archive_version(*version, *revision),
            Op::RestoreVersion { version, label, revision } => {
                self.restore_version(*version, *label, *revision)
            }
            Op::UpdateVersion { version, label } => self.update_version(*version, *label),
            Op::RestoreFromTrash { thing, to } => self.restore_from_trash(*thing, to.as_deref()),
            Op::PurgeTrash { thing } => self.purge_trash(*thing),
            Op::StartUpload { path, publish, declared, revision } => {
                self.start_upload(path, *publish, *declared, *revision)
            }
            Op::SendBytes { upload, content } => self.send_bytes(*upload, *content),
            Op::CancelUpload { upload } => self.cancel_upload(*upload),
            Op::StoreFile { content } => Ok(self.store_file(*content)),
            Op::DeleteStoredFile { file } => self.delete_stored_file(*file),
            Op::ApplyChanges { operations, dry_run } => self.apply_changes(operations, *dry_run),
            Op::UploadsExpire => Ok(self.uploads_expire()),
            Op::Upload { .. } => unreachable!("it is taken apart before"),
        }
    }

    fn apply_changes(&mut self, operations: &[Operation], dry_run: bool) -> Verdict {
        if operations.is_empty() {
            return Err(Refusal::field("input.operations").into());
        }
        let before = self.clone();
        let mut entries = Vec::new();
        for (index, operation) in operations.iter().enumerate() {
            let done = self.perform(operation).map_err(|refusals| Refusals {
                others: before.refused_uploads(operations),
                ..refusals.of(index, operation)
            })?;
            entries.extend(done.entries);
        }
        Ok(Outcome { dry: dry_run, ..Outcome::wrote(entries) })
    }

    /// Uploads that cannot be finished, which may be found out before anything is done.
    fn refused_uploads(&self, operations: &[Operation]) -> Vec<Refusals> {
        let uploads = operations.iter().enumerate();
        let uploads = uploads.filter(|(_, operation)| matches!(operation, Operation::FinishUpload { .. }));
        let refused = uploads.filter_map(|(index, operation)| {
            let refusals = self.clone().perform(operation).err()?;
            Some(refusals.of(index, operation))
        });
        refused.collect()
    }

    /// The live folder at a path.
    pub fn folder_at(&self, path: &str) -> Option<usize> {
        self.folders.iter().position(|folder| folder.life == Life::Live && folder.path == path)
    }

    /// The live asset at a path.
    pub fn asset_at(&self, path: &str) -> Option<usize> {
        self.assets.iter().position(|asset| asset.life == Life::Live && asset.path == path)
    }

    fn is_taken(&self, path: &str) -> bool {
        self.folder_at(path).is_some() || self.asset_at(path).is_some()
    }

    fn find_folder(&self, at: &At) -> Result<usize, Refusal> {
        match at {
            At::Path(path) => self.folder_at(path),
            At::Id(number) => {
                let folder = self.folders.get(*number);
                folder.filter(|folder| folder.life == Life::Live).map(|_| *number)
            }
        }
        .ok_or(NOT_FOUND)
    }

    fn find_asset(&self, at: &At) -> Result<usize, Refusal> {
        match at {
            At::Path(path) => self.asset_at(path),
            At::Id(number) => {
                let asset = self.assets.get(*number);
                asset.filter(|asset| asset.life == Life::Live).map(|_| *number)
            }
        }
        .ok_or(NOT_FOUND)
    }

    pub fn life(&self, thing: Thing) -> Option<Life> {
        match thing {
            Thing::Folder(number) => self.folders.get(number).map(|folder| folder.life),
            Thing::Asset(number) => self.assets.get(number).map(|asset| asset.life),
        }
    }

    pub fn path_of(&self, thing: Thing) -> &str {
        match thing {
            Thing::Folder(number) => &self.folders[number].path,
            Thing::Asset(number) => &self.assets[number].path,
        }
    }

    fn versions_of(&self, asset: usize) -> usize {
        self.assets.get(asset).map_or(0, |asset| asset.versions.len())
    }

    /// Whether folders can be made above a path: none of those names is an asset's.
    fn has_room_above(&self, path: &str) -> bool {
        ancestors(path).iter().all(|above| self.asset_at(above).is_none())
    }

    /// Makes the folders that are missing above a path.
    fn make_above(&mut self, path: &str) -> Vec<Entry> {
        let mut entries = Vec::new();
        for above in ancestors(path) {
            if self.folder_at(&above).is_none() {
                let folder = Folder { path: above.clone(), title: None, revision: 1, life: Life::Live };
                self.folders.push(folder);
                entries.push(Entry::new("FOLDER_CREATE", Thing::Folder(self.folders.len() - 1), &above));
            }
        }
        entries
    }

    /// The paths that lead to an asset, newest first.
    pub fn former_paths<'a>(&self, asset: &'a Asset) -> Vec<&'a str> {
        asset.former_paths.iter().map(String::as_str).filter(|path| !self.is_taken(path)).collect()
    }

    /// An asset is at this path now: it leads to no other any more.
    fn take(&mut self, path: &str) {
        for asset in &mut self.assets {
            asset.former_paths.retain(|former| former != path);
        }
    }

    /// Where something is or was.
    pub fn paths(&self) -> Vec<String> {
        let folders = self.folders.iter().skip(1).map(|folder| &folder.path);
        let assets = self.assets.iter().map(|asset| &asset.path);
        folders.chain(assets).cloned().collect()
    }

    /// What deletions took at their top and is in the trash still, oldest first.
    pub fn trash(&self) -> Vec<Thing> {
        self.trashed().map(|deletion| deletion.top).collect()
    }

    /// Deletions that were not taken back, oldest first.
    pub fn trashed(&self) -> impl Iterator<Item = &Deletion> {
        let deletions = self.deletions.iter().enumerate();
        deletions
            .filter(|(number, deletion)| self.life(deletion.top) == Some(Life::Trashed(*number)))
            .map(|(_, deletion)| deletion)
    }

    pub fn versions(&self) -> Vec<VersionAt> {
        let assets = self.assets.iter().enumerate();
        assets
            .flat_map(|(asset, it)| (1..=it.versions.len()).map(move |number| VersionAt { asset, number }))
            .collect()
    }

    pub fn open_uploads(&self) -> Vec<usize> {
        let uploads = self.uploads.iter().enumerate();
        uploads
            .filter(|(_, upload)| matches!(upload.status, Status::Created | Status::Received(_)))
            .map(|(number, _)| number)
            .collect()
    }
}

impl Asset {
    /// Number of the published version.
    pub fn published(&self) -> Option<usize> {
        let published = self.versions.iter().position(|version| version.state == State::Published);
        published.map(|index| index + 1)
    }
}

/// Whether `ifRevision` allows it.
fn allows(revision: If, current: i64) -> bool {
    match revision {
        If::Any => true,
        If::Exactly(revision) => revision == current,
        If::Current | If::Stale | If::Absent => unreachable!("it is settled before"),
    }
}

/// Paths of all folders above a path, from the top down, the folder of the case left out.
fn ancestors(path: &str) -> Vec<String> {
    path.match_indices('/').map(|(end, _)| path[..end].to_owned()).collect()
}

/// Path of the folder that something lies in.
pub fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

pub fn name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

pub fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

/// Whether a path is a folder's own or below it.
pub fn is_within(path: &str, folder: &str) -> bool {
    folder.is_empty() || path == folder || path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

/// Where a path below `from` is once `from` is at `to`.
pub fn rebase(path: &str, from: &str, to: &str) -> String {
    let rest = path.strip_prefix(from).expect("it is within");
    format!("{to}{rest}")
}
