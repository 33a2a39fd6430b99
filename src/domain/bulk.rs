//! Several operations as one: all or nothing, one commit, their entries in one batch. Each is the same code as
//! when it is done by itself.

use super::actor::{Actor, Role};
use super::asset::{self, AssetUpdate, NewAsset};
use super::error::{Error, Result};
use super::folder::{self, NewFolder};
use super::path::TreePath;
use super::stored_file::{self, Arrival, FileVersion};
use super::trash::{self, AssetDeletion, FolderDeletion};
use super::upload::{self, Finishing, Ready};
use super::version::{self, Relabelling};
use super::{Committed, Edit, Ending, perform};
use crate::app::App;

/// Operations that one call takes, at most.
const MAX_OPERATIONS: usize = 1000;

/// One of several operations.
#[derive(Debug, Clone)]
pub enum Operation {
    /// Makes a folder.
    CreateFolder(NewFolder),
    /// Sets the title of a folder.
    UpdateFolder(folder::Update),
    /// Moves or renames a folder.
    MoveFolder(folder::Relocation),
    /// Puts a folder into the trash.
    DeleteFolder(FolderDeletion),
    /// Makes an asset without a version.
    CreateAsset(TreePath, NewAsset),
    /// Changes what an asset has besides its path and versions.
    UpdateAsset(AssetUpdate),
    /// Moves an asset to another folder.
    MoveAsset(asset::Relocation),
    /// Renames an asset within its folder.
    RenameAsset(asset::Renaming),
    /// Puts an asset into the trash.
    DeleteAsset(AssetDeletion),
    /// Makes a version of bytes that were sent.
    FinishUpload(Finishing),
    /// Makes a version of a stored file.
    CreateVersion(FileVersion),
    /// Makes a version the one that readers get.
    PublishVersion(version::Target),
    /// Sets a version aside.
    ArchiveVersion(version::Target),
    /// Adds a version with the bytes of an old one.
    RestoreVersion(version::Restoration),
    /// Sets the label of a version.
    UpdateVersion(Relabelling),
    /// Brings something back from the trash.
    RestoreFromTrash(trash::Restoration),
}

impl Operation {
    /// What the API calls it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::CreateFolder(_) => "createFolder",
            Self::UpdateFolder(_) => "updateFolder",
            Self::MoveFolder(_) => "moveFolder",
            Self::DeleteFolder(_) => "deleteFolder",
            Self::CreateAsset(..) => "createAsset",
            Self::UpdateAsset(_) => "updateAsset",
            Self::MoveAsset(_) => "moveAsset",
            Self::RenameAsset(_) => "renameAsset",
            Self::DeleteAsset(_) => "deleteAsset",
            Self::FinishUpload(_) => "finishUpload",
            Self::CreateVersion(_) => "createVersion",
            Self::PublishVersion(_) => "publishVersion",
            Self::ArchiveVersion(_) => "archiveVersion",
            Self::RestoreVersion(_) => "restoreVersion",
            Self::UpdateVersion(_) => "updateVersion",
            Self::RestoreFromTrash(_) => "restoreFromTrash",
        }
    }

    async fn run(self, edit: Edit<'_>, keep: i64, arrival: Arrival) -> Result<()> {
        match self {
            Self::CreateFolder(new) => folder::create_in(edit, new).await.map(drop),
            Self::UpdateFolder(update) => folder::update_in(edit, update).await.map(drop),
            Self::MoveFolder(relocation) => folder::relocate_in(edit, relocation).await.map(drop),
            Self::DeleteFolder(what) => trash::delete_folder_in(edit, what, keep).await.map(drop),
            Self::CreateAsset(path, new) => asset::create_in(edit, path, new).await.map(drop),
            Self::UpdateAsset(update) => asset::update_in(edit, update).await.map(drop),
            Self::MoveAsset(relocation) => asset::relocate_in(edit, relocation).await.map(drop),
            Self::RenameAsset(renaming) => asset::rename_in(edit, renaming).await.map(drop),
            Self::DeleteAsset(what) => trash::delete_asset_in(edit, what, keep).await.map(drop),
            Self::FinishUpload(finishing) => upload::finish_in(edit, finishing.id, arrival).await.map(drop),
            Self::CreateVersion(new) => stored_file::create_version_in(edit, new).await.map(drop),
            Self::PublishVersion(target) => version::publish_in(edit, target).await.map(drop),
            Self::ArchiveVersion(target) => version::archive_in(edit, target).await.map(drop),
            Self::RestoreVersion(restoration) => version::restore_in(edit, restoration).await.map(drop),
            Self::UpdateVersion(relabelling) => version::relabel_in(edit, relabelling).await.map(drop),
            Self::RestoreFromTrash(what) => trash::restore_in(edit, what).await.map(drop),
        }
    }
}

/// Does all of `operations` in one commit, or none; with [`Ending::TakeBack`] it tells what would happen.
///
/// # Errors
/// `BAD_USER_INPUT` for none or too many; else what the first operation that is refused answers, with its index.
pub async fn apply(
    app: &App,
    actor: &Actor,
    operations: Vec<Operation>,
    ending: Ending,
) -> Result<Committed<()>> {
    actor.require(Role::Editor)?;
    if operations.is_empty() || operations.len() > MAX_OPERATIONS {
        let message = format!("must be 1 to {MAX_OPERATIONS} operations, not {}", operations.len());
        return Err(Error::bad_input("input.operations", message));
    }
    let keep = trash::keep_ms(app);
    loop {
        let ready = match ending {
            Ending::Keep => ready(app, &operations).await?,
            // A rehearsal moves no bytes.
            Ending::TakeBack => operations.iter().map(|_| None).collect(),
        };
        let arrivals = ready.iter().map(|ready| ready.as_ref().map_or(Arrival::Own, Ready::arrival));
        let steps: Vec<(Operation, Arrival)> = operations.iter().cloned().zip(arrivals).collect();
        let done = perform(app, actor, ending, move |edit| Box::pin(run_all(edit, steps, keep))).await;
        match done {
            Err(Error::BytesMoved) => {
                for ready in ready.iter().flatten() {
                    ready.abandon(app).await?;
                }
            }
            Err(error) => return Err(error),
            Ok(done) => {
                for ready in ready.into_iter().flatten() {
                    ready.settle(app).await;
                }
                return Ok(done);
            }
        }
    }
}

async fn run_all(edit: Edit<'_>, steps: Vec<(Operation, Arrival)>, keep: i64) -> Result<()> {
    for (index, (operation, arrival)) in steps.into_iter().enumerate() {
        let name = operation.name();
        operation.run(edit, keep, arrival).await.map_err(|error| error.in_operation(index, name))?;
    }
    Ok(())
}

/// Puts the bytes of all uploads among the operations in place, before the commit that names them.
async fn ready(app: &App, operations: &[Operation]) -> Result<Vec<Option<Ready>>> {
    let mut all = Vec::with_capacity(operations.len());
    for (index, operation) in operations.iter().enumerate() {
        all.push(match operation {
            Operation::FinishUpload(finishing) => {
                let ready = upload::ready(app, finishing).await;
                Some(ready.map_err(|error| error.in_operation(index, operation.name()))?)
            }
            _ => None,
        });
    }
    Ok(all)
}
