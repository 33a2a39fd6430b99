//! Versions: object, inputs, query, mutations.

use std::sync::Arc;

use async_graphql::{Context, Enum, ID, InputObject, MaybeUndefined, Object, SimpleObject};
use entity::version;

use super::asset::Asset;
use super::change::Change;
use super::connection::{Entry, connection};
use super::context::{ContextExt as _, Result};
use super::folder::OrderDirection;
use super::list::List;
use super::loaders::VersionsOf;
use super::node::parse_id;
use super::scalar::{ByteCount, DateTime, Url};
use super::viewer::Actor;
use crate::domain::error::{Error, Result as Parsed};
use crate::domain::page::Direction;
use crate::domain::version as versions;

/// One immutable content of an asset.
#[derive(Clone)]
pub struct Version(pub Arc<version::Model>);

/// One immutable content of an asset.
#[Object]
impl Version {
    /// Opaque id, the same for ever.
    pub async fn id(&self) -> ID {
        self.0.id.into()
    }

    /// The asset that it is a content of.
    async fn asset(&self, ctx: &Context<'_>) -> Result<Asset> {
        let asset = ctx.loaders().one(self.0.asset_id).await?;
        // It may have gone, or been hidden from who asks, since the version was read.
        let gone = || Error::NotFound(format!("the asset of {} is not there any more", self.0.id)).into();
        asset.map(Asset).ok_or_else(gone)
    }

    /// 1, 2, 3 … without holes, in the order in which they were added.
    async fn number(&self) -> i32 {
        self.0.number
    }

    /// What readers see of it.
    async fn state(&self) -> VersionState {
        self.0.state.into()
    }

    /// What people call it.
    async fn label(&self) -> Option<&str> {
        self.0.label.as_deref()
    }

    /// Original filename, for URLs and downloads.
    async fn filename(&self) -> &str {
        &self.0.filename
    }

    /// Media type, told from the bytes where they can tell.
    async fn content_type(&self) -> &str {
        &self.0.content_type
    }

    /// Count of bytes.
    async fn size(&self) -> ByteCount {
        ByteCount(self.0.size_bytes)
    }

    /// Lower-case hex. Always known: the server read the bytes.
    async fn sha256(&self) -> &str {
        &self.0.sha256
    }

    /// Immutable URL: these bytes for ever.
    async fn url(&self, ctx: &Context<'_>) -> Url {
        Url(versions::url(ctx.app(), &self.0))
    }

    /// A URL that works without a role until it expires; for private assets, drafts and previews. Only for reading;
    /// once it is over, or changed in any way, it answers 403.
    async fn signed_url(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "How long it works: 1 to 604800 seconds (a week).", default = 300)]
        expires_in_seconds: i32,
        #[graphql(
            desc = "Shown in the browser, or offered to be saved.",
            default_with = "ContentDisposition::Inline"
        )]
        disposition: ContentDisposition,
    ) -> Result<SignedUrl> {
        let file = ctx.loaders().one(self.0.stored_file_id).await?;
        let (seconds, disposition) = (expires_in_seconds.into(), disposition.into());
        let signed =
            versions::signed_url(ctx.app(), ctx.actor(), &self.0, file.as_deref(), seconds, disposition);
        let signed = signed.await?;
        Ok(SignedUrl { url: Url(signed.url), expires_at: DateTime(signed.expires_at) })
    }

    /// The content as text: null when the type is not textual, it is not valid UTF-8, or it exceeds maxBytes. All
    /// texts of one request together have at most 16 MiB; 1 MiB for who has no role.
    async fn text(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "0 to 16777216.", default = 1_048_576)] max_bytes: i32,
    ) -> Result<Option<String>> {
        let max =
            u64::try_from(max_bytes).map_err(|_| Error::bad_input("maxBytes", "must not be negative"))?;
        Ok(versions::read_text(ctx.app(), &self.0, max, ctx.texts()).await?)
    }

    /// The version that it has its bytes from, when it was restored.
    async fn restored_from(&self, ctx: &Context<'_>) -> Result<Option<Self>> {
        let Some(id) = self.0.restored_from_id else {
            return Ok(None);
        };
        Ok(ctx.loaders().one(id).await?.map(Self))
    }

    /// When it was added.
    async fn created_at(&self) -> DateTime {
        DateTime(self.0.created_at)
    }

    /// Who added it.
    async fn created_by(&self) -> Actor {
        self.0.created_by.clone().into()
    }

    /// When it was published last.
    async fn published_at(&self) -> Option<DateTime> {
        self.0.published_at.map(DateTime)
    }

    /// Who published it last.
    async fn published_by(&self) -> Option<Actor> {
        self.0.published_by.clone().map(Into::into)
    }

    /// When it was archived; null unless it is.
    async fn archived_at(&self) -> Option<DateTime> {
        self.0.archived_at.map(DateTime)
    }

    /// Who archived it; null unless it is.
    async fn archived_by(&self) -> Option<Actor> {
        self.0.archived_by.clone().map(Into::into)
    }
}

impl From<version::Model> for Version {
    fn from(row: version::Model) -> Self {
        Self(Arc::new(row))
    }
}

impl Entry for Version {
    type Order = ();

    fn cursor(&self, (): ()) -> String {
        versions::position(&self.0).cursor(versions::ORDER)
    }
}

connection!(VersionConnection, VersionEdge, Version, VersionsOf, "versions");

/// What readers see of a version.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "version::State")]
pub enum VersionState {
    /// Not yet shown to readers.
    Draft,
    /// What readers get; at most one for an asset.
    Published,
    /// Was published, or set aside.
    Archived,
}

/// What a browser does with a file.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "versions::Disposition")]
pub enum ContentDisposition {
    /// Shows it.
    Inline,
    /// Offers to save it.
    Attachment,
}

/// A URL that works for whoever has it, until it expires.
#[derive(SimpleObject)]
pub struct SignedUrl {
    /// Absolute.
    url: Url,
    /// It answers 403 from then on.
    expires_at: DateTime,
}

/// How versions are sorted.
#[derive(InputObject, Clone, Copy)]
pub struct VersionOrder {
    /// What by.
    #[graphql(default_with = "VersionOrderField::Number")]
    field: VersionOrderField,
    /// Which way.
    #[graphql(default_with = "OrderDirection::Desc")]
    direction: OrderDirection,
}

/// What versions can be sorted by.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
pub enum VersionOrderField {
    /// By number, which is the order in which they were added.
    Number,
}

impl VersionOrder {
    /// Which way.
    pub fn direction(self) -> Direction {
        match self.field {
            VersionOrderField::Number => self.direction.into(),
        }
    }
}

/// The version that readers are to get.
#[derive(InputObject)]
pub struct PublishVersionInput {
    /// Which version.
    version_id: ID,
    /// Refuse unless this is the revision of its asset.
    if_revision: Option<i32>,
}

/// What publishing did.
#[derive(SimpleObject)]
pub struct PublishVersionPayload {
    /// The version.
    version: Version,
    /// Its asset.
    asset: Asset,
    /// The entries that it wrote; none when it was published already.
    changes: List<Change>,
}

/// The version to set aside.
#[derive(InputObject)]
pub struct ArchiveVersionInput {
    /// Which version.
    version_id: ID,
    /// Refuse unless this is the revision of its asset.
    if_revision: Option<i32>,
}

/// What archiving did.
#[derive(SimpleObject)]
pub struct ArchiveVersionPayload {
    /// The version.
    version: Version,
    /// Its asset.
    asset: Asset,
    /// The entries that it wrote; none when it was archived already.
    changes: List<Change>,
}

/// The version whose bytes are to be published again.
#[derive(InputObject)]
pub struct RestoreVersionInput {
    /// Which version.
    version_id: ID,
    /// Label of the new version; by default "Restored from v3", with the number of the old one.
    label: Option<String>,
    /// Refuse unless this is the revision of its asset.
    if_revision: Option<i32>,
}

/// What restoring did.
#[derive(SimpleObject)]
pub struct RestoreVersionPayload {
    /// The new version.
    version: Version,
    /// Its asset.
    asset: Asset,
    /// The version that it has its bytes from.
    restored_from: Version,
    /// The entries that it wrote.
    changes: List<Change>,
}

/// Changes of a version. What is left out stays; null clears.
#[derive(InputObject)]
pub struct UpdateVersionInput {
    /// Which version.
    version_id: ID,
    /// What people call it.
    label: MaybeUndefined<String>,
    /// Refuse unless this is the revision of its asset.
    if_revision: Option<i32>,
}

/// What updating a version did.
#[derive(SimpleObject)]
pub struct UpdateVersionPayload {
    /// The version.
    version: Version,
    /// The entries that it wrote; none when nothing changed.
    changes: List<Change>,
}

fn target(id: &ID, if_revision: Option<i32>) -> Parsed<versions::Target> {
    Ok(versions::Target { id: parse_id(id, "input.versionId")?, if_revision: if_revision.map(i64::from) })
}

impl PublishVersionInput {
    /// What the domain takes.
    pub fn parse(self) -> Parsed<versions::Target> {
        target(&self.version_id, self.if_revision)
    }
}

impl ArchiveVersionInput {
    /// What the domain takes.
    pub fn parse(self) -> Parsed<versions::Target> {
        target(&self.version_id, self.if_revision)
    }
}

impl RestoreVersionInput {
    /// What the domain takes.
    pub fn parse(self) -> Parsed<versions::Restoration> {
        Ok(versions::Restoration { target: target(&self.version_id, self.if_revision)?, label: self.label })
    }
}

impl UpdateVersionInput {
    /// What the domain takes.
    pub fn parse(self) -> Parsed<versions::Relabelling> {
        let label = match self.label {
            MaybeUndefined::Undefined => versions::Label::Keep,
            MaybeUndefined::Null => versions::Label::Clear,
            MaybeUndefined::Value(label) => versions::Label::Set(label),
        };
        Ok(versions::Relabelling { target: target(&self.version_id, self.if_revision)?, label })
    }
}

/// Queries about versions.
#[derive(Default)]
pub struct VersionQuery;

#[Object]
impl VersionQuery {
    /// A version by its id; null when there is none.
    async fn version(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Its id.")] id: ID,
    ) -> Result<Option<Version>> {
        let id = parse_id(&id, "id")?;
        Ok(versions::by_id(ctx.app(), ctx.actor(), id).await?.map(Version::from))
    }
}

/// Mutations of versions.
#[derive(Default)]
pub struct VersionMutation;

#[Object]
impl VersionMutation {
    /// Makes a version the one that readers get; the one before is archived in the same commit.
    async fn publish_version(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What to publish.")] input: PublishVersionInput,
    ) -> Result<PublishVersionPayload> {
        let done = versions::publish(ctx.app(), ctx.actor(), input.parse()?).await?;
        let versions::Outcome { version, asset } = done.value;
        let changes = Change::list(done.changes);
        Ok(PublishVersionPayload { version: version.into(), asset: asset.into(), changes })
    }

    /// Takes the published version back; the asset stays, with nothing published.
    async fn archive_version(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What to set aside.")] input: ArchiveVersionInput,
    ) -> Result<ArchiveVersionPayload> {
        let done = versions::archive(ctx.app(), ctx.actor(), input.parse()?).await?;
        let versions::Outcome { version, asset } = done.value;
        let changes = Change::list(done.changes);
        Ok(ArchiveVersionPayload { version: version.into(), asset: asset.into(), changes })
    }

    /// Adds a new published version with the bytes of an old one; no bytes are copied.
    async fn restore_version(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What to restore.")] input: RestoreVersionInput,
    ) -> Result<RestoreVersionPayload> {
        let done = versions::restore(ctx.app(), ctx.actor(), input.parse()?).await?;
        let versions::Restored { outcome: versions::Outcome { version, asset }, from } = done.value;
        Ok(RestoreVersionPayload {
            version: version.into(),
            asset: asset.into(),
            restored_from: from.into(),
            changes: Change::list(done.changes),
        })
    }

    /// Changes the label of a version; its bytes never change.
    async fn update_version(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What to update.")] input: UpdateVersionInput,
    ) -> Result<UpdateVersionPayload> {
        let done = versions::relabel(ctx.app(), ctx.actor(), input.parse()?).await?;
        Ok(UpdateVersionPayload { version: done.value.version.into(), changes: Change::list(done.changes) })
    }
}
