//! An operation as the API takes it: a mutation, its input, and what to select of its answer.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::operation::{At, If, Operation, Thing, VersionAt};

pub const CHANGES: &str = "changes { id cursor type path oldPath versionNumber size sha256
    folder { id } asset { id } version { id number } }";

const VERSION: &str = "version { id number state label sha256 } asset { id revision }";

/// Ids as the server gave them.
#[derive(Debug, Default, Clone)]
pub struct Ids {
    /// Path of the folder that all of it is below.
    pub top: String,
    pub things: HashMap<Thing, String>,
    pub versions: HashMap<VersionAt, String>,
    pub uploads: Vec<UploadHandle>,
    pub files: Vec<String>,
}

/// What a client keeps of an upload that it started.
#[derive(Debug, Clone)]
pub struct UploadHandle {
    pub id: String,
    /// Path and query of the URL to send the bytes to.
    pub target: String,
}

impl Ids {
    pub fn path(&self, below: &str) -> String {
        super::library::join(&self.top, below).trim_end_matches('/').to_owned()
    }

    pub fn thing(&self, thing: Thing) -> &str {
        let unknown = match thing {
            Thing::Folder(_) => "folder_01jd3sya5hfrvvr4b2xgn3fcke",
            Thing::Asset(_) => "asset_01jd3sya5hfrvvr4b2xgn3fcke",
        };
        self.things.get(&thing).map_or(unknown, String::as_str)
    }

    fn version(&self, version: VersionAt) -> &str {
        self.versions.get(&version).map_or("version_01jd3sya5hfrvvr4b2xgn3fcke", String::as_str)
    }

    fn upload(&self, upload: usize) -> &str {
        self.uploads.get(upload).map_or("upload_01jd3sya5hfrvvr4b2xgn3fcke", |upload| &upload.id)
    }

    fn file(&self, file: usize) -> &str {
        self.files.get(file).map_or("file_01jd3sya5hfrvvr4b2xgn3fcke", String::as_str)
    }

    fn at(&self, at: &At, kind: fn(usize) -> Thing) -> Value {
        match at {
            At::Path(path) => json!({ "path": self.path(path) }),
            At::Id(number) => json!({ "id": self.thing(kind(*number)) }),
        }
    }
}

/// Name of the mutation, and of its field in `Operation`.
pub fn name(operation: &Operation) -> &'static str {
    match operation {
        Operation::CreateFolder { .. } => "createFolder",
        Operation::UpdateFolder { .. } => "updateFolder",
        Operation::MoveFolder { .. } => "moveFolder",
        Operation::DeleteFolder { .. } => "deleteFolder",
        Operation::CreateAsset { .. } => "createAsset",
        Operation::UpdateAsset { .. } => "updateAsset",
        Operation::MoveAsset { .. } => "moveAsset",
        Operation::RenameAsset { .. } => "renameAsset",
        Operation::DeleteAsset { .. } => "deleteAsset",
        Operation::FinishUpload { .. } => "finishUpload",
        Operation::CreateVersion { .. } => "createVersion",
        Operation::PublishVersion { .. } => "publishVersion",
        Operation::ArchiveVersion { .. } => "archiveVersion",
        Operation::RestoreVersion { .. } => "restoreVersion",
        Operation::UpdateVersion { .. } => "updateVersion",
        Operation::RestoreFromTrash { .. } => "restoreFromTrash",
        Operation::StartUpload { .. } => "startUpload",
        Operation::CancelUpload { .. } => "cancelUpload",
        Operation::DeleteStoredFile { .. } => "deleteStoredFile",
        Operation::DeleteAssets { .. } => "deleteAssets",
        Operation::PurgeTrash { .. } => "purgeTrash",
        Operation::ApplyChanges { .. } => "applyChanges",
        Operation::SendBytes { .. }
        | Operation::Upload { .. }
        | Operation::StoreFile { .. }
        | Operation::UploadsExpire => unreachable!("it is no mutation"),
    }
}

/// The document of a mutation.
pub fn document(operation: &Operation) -> String {
    let name = name(operation);
    let (first, rest) = name.split_at(1);
    let kind = format!("{}{rest}Input", first.to_uppercase());
    format!("mutation($input: {kind}!) {{ {name}(input: $input) {{ {} }} }}", selection(operation))
}

fn selection(operation: &Operation) -> String {
    let of = match operation {
        Operation::CreateFolder { .. } => "created folder { id }",
        Operation::UpdateFolder { .. } => "folder { id title revision }",
        Operation::MoveFolder { .. } => "folder { id } movedFolders movedAssets",
        Operation::DeleteFolder { .. } => "deletedFolders deletedAssets",
        Operation::CreateAsset { .. } | Operation::MoveAsset { .. } | Operation::RenameAsset { .. } => {
            "asset { id }"
        }
        Operation::UpdateAsset { .. } => "asset { id title }",
        Operation::DeleteAsset { .. } => "deletedVersions",
        Operation::DeleteAssets { .. } => "deletedAssets deletedVersions",
        Operation::FinishUpload { .. }
        | Operation::CreateVersion { .. }
        | Operation::PublishVersion { .. }
        | Operation::ArchiveVersion { .. } => VERSION,
        Operation::RestoreVersion { .. } => "version { id number label } restoredFrom { number }",
        Operation::UpdateVersion { .. } => "version { id number label }",
        Operation::RestoreFromTrash { .. } => "node { ... on Folder { id } ... on Asset { id } }",
        Operation::StartUpload { .. } => {
            return "intent { id status target { method url headers { name value } } }".to_owned();
        }
        Operation::CancelUpload { .. } => return "intent { status }".to_owned(),
        Operation::DeleteStoredFile { .. } => return "deletedId".to_owned(),
        Operation::PurgeTrash { .. } => return "purgedFolders purgedAssets freedBytes".to_owned(),
        _ => "",
    };
    format!("{of} {CHANGES}")
}

/// The input of a mutation.
pub fn input(operation: &Operation, ids: &Ids, digest: impl Fn(usize) -> String + Copy) -> Value {
    use Operation as Op;
    let folder = |at: &At| ids.at(at, Thing::Folder);
    let asset = |at: &At| ids.at(at, Thing::Asset);
    match operation {
        Op::CreateFolder { path } | Op::CreateAsset { path } => json!({ "path": ids.path(path) }),
        Op::UpdateFolder { folder: at, title, revision } => {
            conditional(json!({ "folder": folder(at), "title": title }), *revision)
        }
        Op::MoveFolder { folder: at, to, dry_run, revision } => {
            let mut input = json!({ "folder": folder(at), "toPath": ids.path(to) });
            if *dry_run {
                input["dryRun"] = json!(true);
            }
            conditional(input, *revision)
        }
        Op::DeleteFolder { folder: at, recursive, revision } => {
            conditional(json!({ "folder": folder(at), "recursive": recursive }), *revision)
        }
        Op::UpdateAsset { asset: at, title, revision } => {
            conditional(json!({ "asset": asset(at), "title": title }), *revision)
        }
        Op::MoveAsset { asset: at, to, revision } => {
            conditional(json!({ "asset": asset(at), "toFolder": folder(to) }), *revision)
        }
        Op::RenameAsset { asset: at, name, revision } => {
            conditional(json!({ "asset": asset(at), "newName": name }), *revision)
        }
        Op::DeleteAsset { asset: at, revision } => conditional(json!({ "asset": asset(at) }), *revision),
        Op::DeleteAssets { folder: at, names: None } => json!({ "folder": folder(at) }),
        Op::DeleteAssets { folder: at, names } => json!({ "folder": folder(at), "names": names }),
        Op::FinishUpload { upload } | Op::CancelUpload { upload } => {
            json!({ "intentId": ids.upload(*upload) })
        }
        Op::CreateVersion { path, file, publish, label, revision } => {
            let input = json!({ "path": ids.path(path), "storedFileId": ids.file(*file),
                "publish": publish, "label": label });
            conditional(input, *revision)
        }
        Op::PublishVersion { version, revision } | Op::ArchiveVersion { version, revision } => {
            conditional(json!({ "versionId": ids.version(*version) }), *revision)
        }
        Op::RestoreVersion { version, label, revision } => {
            conditional(json!({ "versionId": ids.version(*version), "label": label }), *revision)
        }
        Op::UpdateVersion { version, label } => {
            json!({ "versionId": ids.version(*version), "label": label })
        }
        Op::RestoreFromTrash { thing, to } => {
            json!({ "id": ids.thing(*thing), "toPath": to.as_ref().map(|path| ids.path(path)) })
        }
        Op::StartUpload { path, publish, declared, revision } => {
            let sha256 = declared.map(digest);
            conditional(json!({ "path": ids.path(path), "publish": publish, "sha256": sha256 }), *revision)
        }
        Op::DeleteStoredFile { file } => json!({ "id": ids.file(*file) }),
        Op::PurgeTrash { thing } => json!({ "id": ids.thing(*thing) }),
        Op::ApplyChanges { operations, dry_run } => {
            let operations: Vec<_> = operations
                .iter()
                .map(|operation| {
                    Map::from_iter([(name(operation).to_owned(), input(operation, ids, digest))])
                })
                .collect();
            json!({ "operations": operations, "dryRun": dry_run })
        }
        Op::SendBytes { .. } | Op::Upload { .. } | Op::StoreFile { .. } | Op::UploadsExpire => {
            unreachable!("it is no mutation")
        }
    }
}

fn conditional(mut input: Value, revision: If) -> Value {
    if let If::Exactly(revision) = revision {
        input["ifRevision"] = json!(revision);
    }
    input
}
