//! Fills in what a client knows when it asks: the revisions of things, and which ids there are.

use super::super::operation::{At, If, Operation, Thing};
use super::{Library, NOTHING};

impl Library {
    /// The operation as it is asked now.
    pub(super) fn settle(&self, operation: Operation) -> Operation {
        let Operation::ApplyChanges { operations, dry_run } = operation else {
            let mut operation = operation;
            self.settle_ids(&mut operation);
            self.settle_revision(&mut operation);
            return operation;
        };
        let mut operations: Vec<_> = operations.into_iter().map(|operation| self.settle(operation)).collect();
        self.drop_what_is_open(&mut operations);
        Operation::ApplyChanges { operations, dry_run }
    }

    /// What the rules leave open would leave open all that comes after it.
    fn drop_what_is_open(&self, operations: &mut Vec<Operation>) {
        let mut library = self.clone();
        operations.retain_mut(|operation| {
            if let Operation::MoveFolder { dry_run, .. } = operation {
                *dry_run = false;
            }
            library.ask(operation).map_or_else(|refusals| !refusals.or_unchanged, |_| true)
        });
    }

    fn settle_ids(&self, operation: &mut Operation) {
        use Operation as Op;
        let (folders, assets) = (self.folders.len(), self.assets.len());
        match operation {
            Op::UpdateFolder { folder, .. }
            | Op::MoveFolder { folder, .. }
            | Op::DeleteFolder { folder, .. }
            | Op::DeleteAssets { folder, .. } => settle_at(folder, folders),
            Op::UpdateAsset { asset, .. } | Op::RenameAsset { asset, .. } | Op::DeleteAsset { asset, .. } => {
                settle_at(asset, assets);
            }
            Op::MoveAsset { asset, to, .. } => {
                settle_at(asset, assets);
                settle_at(to, folders);
            }
            Op::PublishVersion { version, .. }
            | Op::ArchiveVersion { version, .. }
            | Op::RestoreVersion { version, .. }
            | Op::UpdateVersion { version, .. }
                if self.versions_of(version.asset) < version.number =>
            {
                version.asset = NOTHING;
            }
            Op::RestoreFromTrash { thing, .. } | Op::PurgeTrash { thing } => match thing {
                Thing::Folder(number) => settle_number(number, folders),
                Thing::Asset(number) => settle_number(number, assets),
            },
            Op::FinishUpload { upload } | Op::SendBytes { upload, .. } | Op::CancelUpload { upload } => {
                settle_number(upload, self.uploads.len());
            }
            Op::CreateVersion { file, .. } | Op::DeleteStoredFile { file } => {
                settle_number(file, self.files.len());
            }
            _ => {}
        }
    }

    fn settle_revision(&self, operation: &mut Operation) {
        use Operation as Op;
        let (revision, current) = match operation {
            Op::UpdateFolder { folder, revision, .. }
            | Op::MoveFolder { folder, revision, .. }
            | Op::DeleteFolder { folder, revision, .. } => {
                let current = self.find_folder(folder).ok().map(|folder| self.folders[folder].revision);
                (revision, current)
            }
            Op::UpdateAsset { asset, revision, .. }
            | Op::MoveAsset { asset, revision, .. }
            | Op::RenameAsset { asset, revision, .. }
            | Op::DeleteAsset { asset, revision, .. } => {
                let current = self.find_asset(asset).ok().map(|asset| self.assets[asset].revision);
                (revision, current)
            }
            Op::PublishVersion { version, revision }
            | Op::ArchiveVersion { version, revision }
            | Op::RestoreVersion { version, revision, .. } => {
                (revision, self.assets.get(version.asset).map(|asset| asset.revision))
            }
            Op::StartUpload { path, revision, .. } | Op::CreateVersion { path, revision, .. } => {
                let current = self.asset_at(path).map_or(0, |asset| self.assets[asset].revision);
                (revision, Some(current))
            }
            _ => return,
        };
        let current = current.unwrap_or(1);
        *revision = match *revision {
            If::Current => If::Exactly(current),
            If::Stale => If::Exactly(current + 1),
            If::Absent => If::Exactly(0),
            settled => settled,
        };
    }
}

fn settle_at(at: &mut At, count: usize) {
    if let At::Id(number) = at {
        settle_number(number, count);
    }
}

/// A number that nothing has yet is the number of nothing, also when something gets it later in the same request.
const fn settle_number(number: &mut usize, count: usize) {
    if *number >= count {
        *number = NOTHING;
    }
}
