//! Files in storage without an asset: object, query, mutations (the Convex-style storage API).

use std::sync::Arc;

use async_graphql::{Context, ID, InputObject, Object, SimpleObject};
use entity::{StoredFileId, stored_file};

use super::asset::Asset;
use super::change::Change;
use super::context::{ContextExt as _, Result};
use super::list::List;
use super::node::parse_id;
use super::scalar::{ByteCount, DateTime, Url};
use super::upload::UploadTarget;
use super::version::Version;
use crate::domain::error::Result as Parsed;
use crate::domain::path::TreePath;
use crate::domain::stored_file::{self as stored_files, FileVersion};
use crate::domain::version as versions;

/// Bytes in storage.
#[derive(Clone)]
pub struct StoredFile(pub Arc<stored_file::Model>);

/// Bytes in storage, with or without an asset that points at them (the Convex-style storage API).
#[Object]
impl StoredFile {
    /// Opaque id, the same for ever.
    pub async fn id(&self) -> ID {
        self.0.id.into()
    }

    /// Where whoever has this URL can read the bytes. Null once the file is gone.
    async fn url(&self, ctx: &Context<'_>) -> Option<Url> {
        stored_files::url(ctx.app(), &self.0).map(Url)
    }

    /// Media type, told from the bytes where they can tell.
    async fn content_type(&self) -> Option<&str> {
        Some(&self.0.content_type)
    }

    /// Count of bytes.
    async fn size(&self) -> ByteCount {
        ByteCount(self.0.size_bytes)
    }

    /// Lower-case hex. Always known: the server read the bytes.
    async fn sha256(&self) -> &str {
        &self.0.sha256
    }

    /// When it was sent.
    async fn created_at(&self) -> DateTime {
        DateTime(self.0.created_at)
    }
}

/// A stored file that is to become a version.
#[derive(InputObject)]
pub struct CreateVersionInput {
    /// Stable reference the version belongs to, e.g. images/hero; a missing asset and folders are created.
    path: String,
    /// Which file.
    stored_file_id: ID,
    /// What people call the version.
    label: Option<String>,
    /// Original filename, for URLs and downloads; defaults to the last segment of the path.
    filename: Option<String>,
    /// False adds a draft.
    #[graphql(default = true)]
    publish: bool,
    /// Refuse unless this is the asset's revision; 0 means that there must be none.
    if_revision: Option<i32>,
}

impl CreateVersionInput {
    /// What the domain takes.
    pub fn parse(self) -> Parsed<FileVersion> {
        Ok(FileVersion {
            path: TreePath::parse_named(&self.path, "input.path")?,
            file: parse_id(&self.stored_file_id, "input.storedFileId")?,
            label: self.label,
            filename: self.filename,
            publish: self.publish,
            if_revision: self.if_revision.map(i64::from),
        })
    }
}

/// What making a version did.
#[derive(SimpleObject)]
pub struct CreateVersionPayload {
    /// The version.
    version: Version,
    /// Its asset.
    asset: Asset,
    /// The entries that it wrote.
    changes: List<Change>,
}

/// A stored file to delete.
#[derive(InputObject)]
pub struct DeleteStoredFileInput {
    /// Which file.
    id: ID,
}

/// What deleting a stored file did.
#[derive(SimpleObject)]
pub struct DeleteStoredFilePayload {
    /// The id that it had.
    deleted_id: ID,
}

/// Queries about stored files.
#[derive(Default)]
pub struct StoredFileQuery;

#[Object]
impl StoredFileQuery {
    /// A stored file by its id; null when there never was one.
    async fn stored_file(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Its id: the storageId that its upload was answered with.")] id: ID,
    ) -> Result<Option<StoredFile>> {
        let id: StoredFileId = parse_id(&id, "id")?;
        let file = stored_files::by_id(ctx.app(), ctx.actor(), id).await?;
        Ok(file.filter(|file| file.kept).map(|file| StoredFile(Arc::new(file))))
    }
}

/// Mutations of stored files.
#[derive(Default)]
pub struct StoredFileMutation;

#[Object]
impl StoredFileMutation {
    /// A URL that takes one file within an hour; POST the bytes to it with their Content-Type and get
    /// {"storageId": …}. A Digest header (sha-256=…) is verified.
    async fn generate_upload_url(&self, ctx: &Context<'_>) -> Result<UploadTarget> {
        Ok(stored_files::start(ctx.app(), ctx.actor()).await?.into())
    }

    /// Makes a version of a stored file; no bytes are copied.
    async fn create_version(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What to make it of.")] input: CreateVersionInput,
    ) -> Result<CreateVersionPayload> {
        let done = stored_files::create_version(ctx.app(), ctx.actor(), input.parse()?).await?;
        let versions::Outcome { version, asset } = done.value;
        let changes = Change::list(done.changes);
        Ok(CreateVersionPayload { version: version.into(), asset: asset.into(), changes })
    }

    /// Deletes a stored file for good. One that a version uses, also in the trash, is refused with `FILE_IN_USE`.
    async fn delete_stored_file(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What to delete.")] input: DeleteStoredFileInput,
    ) -> Result<DeleteStoredFilePayload> {
        let id: StoredFileId = parse_id(&input.id, "input.id")?;
        let id = stored_files::delete(ctx.app(), ctx.actor(), id).await?;
        Ok(DeleteStoredFilePayload { deleted_id: id.into() })
    }
}
