//! Several operations as one: input, mutation.

use async_graphql::{Context, InputObject, Object, OneofObject, SimpleObject};

use super::asset::{CreateAssetInput, DeleteAssetInput, MoveAssetInput, RenameAssetInput, UpdateAssetInput};
use super::change::Change;
use super::context::{ContextExt as _, Result};
use super::folder::{CreateFolderInput, DeleteFolderInput, MoveFolderInput, UpdateFolderInput};
use super::list::List;
use super::stored_file::CreateVersionInput;
use super::trash::RestoreFromTrashInput;
use super::upload::FinishUploadInput;
use super::version::{ArchiveVersionInput, PublishVersionInput, RestoreVersionInput, UpdateVersionInput};
use crate::domain::Ending;
use crate::domain::bulk;
use crate::domain::error::{Error, Result as Parsed};

/// One operation; each has its own ifRevision.
#[derive(OneofObject)]
pub enum Operation {
    /// Creates a folder.
    CreateFolder(CreateFolderInput),
    /// Sets the title of a folder.
    UpdateFolder(UpdateFolderInput),
    /// Moves or renames a folder; its dryRun must be false.
    MoveFolder(MoveFolderInput),
    /// Puts a folder into the trash.
    DeleteFolder(DeleteFolderInput),
    /// Creates an asset without a version.
    CreateAsset(CreateAssetInput),
    /// Changes what an asset has besides its path and versions.
    UpdateAsset(UpdateAssetInput),
    /// Moves an asset to another folder.
    MoveAsset(MoveAssetInput),
    /// Renames an asset within its folder.
    RenameAsset(RenameAssetInput),
    /// Puts an asset into the trash.
    DeleteAsset(DeleteAssetInput),
    /// Makes a version of bytes that were sent.
    FinishUpload(FinishUploadInput),
    /// Makes a version of a stored file.
    CreateVersion(CreateVersionInput),
    /// Makes a version the one that readers get.
    PublishVersion(PublishVersionInput),
    /// Sets a version aside.
    ArchiveVersion(ArchiveVersionInput),
    /// Adds a version with the bytes of an old one.
    RestoreVersion(RestoreVersionInput),
    /// Changes the label of a version.
    UpdateVersion(UpdateVersionInput),
    /// Brings something back from the trash.
    RestoreFromTrash(RestoreFromTrashInput),
}

impl Operation {
    /// What the domain takes; the name is that of the field.
    fn parse(self, index: usize) -> Parsed<bulk::Operation> {
        use bulk::Operation as Op;
        let (name, parsed) = match self {
            Self::CreateFolder(input) => ("createFolder", input.parse().map(Op::CreateFolder)),
            Self::UpdateFolder(input) => ("updateFolder", input.parse().map(Op::UpdateFolder)),
            Self::MoveFolder(input) => ("moveFolder", move_folder(input)),
            Self::DeleteFolder(input) => ("deleteFolder", input.parse().map(Op::DeleteFolder)),
            Self::CreateAsset(input) => {
                ("createAsset", input.parse().map(|(path, new)| Op::CreateAsset(path, new)))
            }
            Self::UpdateAsset(input) => ("updateAsset", input.parse().map(Op::UpdateAsset)),
            Self::MoveAsset(input) => ("moveAsset", input.parse().map(Op::MoveAsset)),
            Self::RenameAsset(input) => ("renameAsset", input.parse().map(Op::RenameAsset)),
            Self::DeleteAsset(input) => ("deleteAsset", input.parse().map(Op::DeleteAsset)),
            Self::FinishUpload(input) => ("finishUpload", input.parse().map(Op::FinishUpload)),
            Self::CreateVersion(input) => ("createVersion", input.parse().map(Op::CreateVersion)),
            Self::PublishVersion(input) => ("publishVersion", input.parse().map(Op::PublishVersion)),
            Self::ArchiveVersion(input) => ("archiveVersion", input.parse().map(Op::ArchiveVersion)),
            Self::RestoreVersion(input) => ("restoreVersion", input.parse().map(Op::RestoreVersion)),
            Self::UpdateVersion(input) => ("updateVersion", input.parse().map(Op::UpdateVersion)),
            Self::RestoreFromTrash(input) => ("restoreFromTrash", input.parse().map(Op::RestoreFromTrash)),
        };
        parsed.map_err(|error| error.in_operation(index, name))
    }
}

fn move_folder(input: MoveFolderInput) -> Parsed<bulk::Operation> {
    match input.parse()? {
        (relocation, Ending::Keep) => Ok(bulk::Operation::MoveFolder(relocation)),
        (_, Ending::TakeBack) => {
            Err(Error::bad_input("input.dryRun", "cannot be for one operation: use that of applyChanges"))
        }
    }
}

/// Operations that are to happen together.
#[derive(InputObject)]
pub struct ApplyChangesInput {
    /// At most 1,000; each sees what those before it did.
    operations: Vec<Operation>,
    /// Only tell what would happen.
    #[graphql(default = false)]
    dry_run: bool,
}

/// What several operations did together.
#[derive(SimpleObject)]
pub struct ApplyChangesPayload {
    /// In order; what dryRun would have written has no cursor that holds.
    changes: List<Change>,
}

/// Mutations of many things at once.
#[derive(Default)]
pub struct BulkMutation;

#[Object]
impl BulkMutation {
    /// Many operations as one: all or nothing, one commit, one batch of entries; dryRun only tells what would
    /// happen. What refuses them says which operation it was in `extensions.operation`, from 0.
    async fn apply_changes(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What to do.")] input: ApplyChangesInput,
    ) -> Result<ApplyChangesPayload> {
        let operations = input.operations.into_iter().enumerate();
        let operations =
            operations.map(|(index, operation)| operation.parse(index)).collect::<Parsed<Vec<_>>>()?;
        let ending = if input.dry_run { Ending::TakeBack } else { Ending::Keep };
        let done = bulk::apply(ctx.app(), ctx.actor(), operations, ending).await?;
        Ok(ApplyChangesPayload { changes: Change::list(done.changes) })
    }
}
