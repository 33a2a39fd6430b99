//! Uploads: object, inputs, query, mutations, subscription.

use std::sync::Arc;

use async_graphql::{Context, Enum, ID, InputObject, Object, SimpleObject, Subscription};
use entity::{UploadIntentId, upload_intent};
use futures_util::Stream;

use super::asset::{Asset, Visibility};
use super::change::Change;
use super::context::{ContextExt as _, Result};
use super::list::List;
use super::loaders::PartsOf;
use super::node::parse_id;
use super::scalar::{ByteCount, DateTime, Url};
use super::version::Version;
use super::viewer::Actor;
use crate::domain::actor::Role;
use crate::domain::error::Result as Parsed;
use crate::domain::path::TreePath;
use crate::domain::upload::{self as uploads, Finishing};
use crate::domain::version as versions;

/// A permission to send the bytes of one coming version.
#[derive(Clone)]
pub struct UploadIntent(pub Arc<upload_intent::Model>);

/// A permission to send the bytes of one coming version. It dies when it expires.
#[Object]
impl UploadIntent {
    /// Opaque id, the same for ever.
    pub async fn id(&self) -> ID {
        self.0.id.into()
    }

    /// Where the version will appear.
    async fn path(&self) -> &str {
        self.0.path.as_deref().unwrap_or_default()
    }

    /// Where it stands.
    async fn status(&self) -> UploadStatus {
        self.0.status.into()
    }

    /// Where to send the whole file; null for an upload in parts, once the bytes came, when it is over, and for who may
    /// not write.
    async fn target(&self, ctx: &Context<'_>) -> Result<Option<UploadTarget>> {
        // Who has it may send the bytes.
        if ctx.actor().require(Role::Editor).is_err() {
            return Ok(None);
        }
        Ok(uploads::target(ctx.app(), &self.0).await?.map(Into::into))
    }

    /// The parts of an upload in parts, in order; empty for a single request.
    async fn parts(&self, ctx: &Context<'_>) -> Result<List<UploadPart>> {
        let parts = self.known_parts(ctx).await?.into_iter();
        Ok(parts.map(|part| UploadPart { intent: Arc::clone(&self.0), part }).collect())
    }

    /// How many bytes arrived. Of a single request: 0 until all did.
    async fn received_bytes(&self, ctx: &Context<'_>) -> Result<ByteCount> {
        if self.0.status != upload_intent::Status::Created {
            return Ok(ByteCount(self.0.received_bytes));
        }
        let parts = self.known_parts(ctx).await?;
        Ok(ByteCount(parts.iter().filter(|part| part.received).map(|part| part.size).sum()))
    }

    /// Why it was rejected, for people.
    async fn rejection(&self) -> Option<&str> {
        self.0.rejection.as_deref()
    }

    /// The version it became.
    async fn version(&self, ctx: &Context<'_>) -> Result<Option<Version>> {
        let Some(id) = self.0.version_id else {
            return Ok(None);
        };
        Ok(ctx.loaders().one(id).await?.map(Version))
    }

    /// When it was started.
    async fn created_at(&self) -> DateTime {
        DateTime(self.0.created_at)
    }

    /// Who started it.
    async fn created_by(&self) -> Actor {
        self.0.created_by.clone().into()
    }

    /// When it dies, unless it is finished.
    async fn expires_at(&self) -> DateTime {
        DateTime(self.0.expires_at)
    }
}

impl UploadIntent {
    async fn known_parts(&self, ctx: &Context<'_>) -> Result<Vec<uploads::Part>> {
        if self.0.part_size_bytes.is_none() {
            return Ok(Vec::new());
        }
        Ok(ctx.loaders().one(PartsOf(Arc::clone(&self.0))).await?.unwrap_or_default())
    }
}

impl From<upload_intent::Model> for UploadIntent {
    fn from(row: upload_intent::Model) -> Self {
        Self(Arc::new(row))
    }
}

/// Where an upload stands.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "upload_intent::Status")]
pub enum UploadStatus {
    /// Waiting for bytes.
    Created,
    /// Bytes arrived and were checked; finish it.
    Received,
    /// It became a version.
    Finished,
    /// Bytes did not match what was declared.
    Rejected,
    /// Taken back by a client.
    Cancelled,
    /// Its time ran out.
    Expired,
}

/// Send exactly this request: method, url and every header, with the bytes as its body.
#[derive(SimpleObject)]
pub struct UploadTarget {
    /// HTTP method.
    method: String,
    /// Absolute; who has it may send the bytes.
    url: Url,
    /// Headers that have to be sent as they stand here.
    headers: Vec<HttpHeader>,
}

/// A header of an HTTP request.
#[derive(SimpleObject)]
pub struct HttpHeader {
    /// Its name.
    name: String,
    /// Its value.
    value: String,
}

impl From<uploads::Target> for UploadTarget {
    fn from(target: uploads::Target) -> Self {
        let header = |(name, value)| HttpHeader { name, value };
        Self {
            method: target.method.to_owned(),
            url: Url(target.url),
            headers: target.headers.into_iter().map(header).collect(),
        }
    }
}

/// One part of an upload in parts.
pub struct UploadPart {
    intent: Arc<upload_intent::Model>,
    part: uploads::Part,
}

/// One part of an upload in parts.
#[Object]
impl UploadPart {
    /// 1, 2, 3 …
    async fn number(&self) -> i32 {
        self.part.number
    }

    /// Where it begins in the file.
    async fn offset(&self) -> ByteCount {
        ByteCount(self.part.offset)
    }

    /// How many bytes it has.
    async fn size(&self) -> ByteCount {
        ByteCount(self.part.size)
    }

    /// Whether it came. One that came can be sent again until the upload is finished.
    async fn received(&self) -> bool {
        self.part.received
    }

    /// Send the part with this request; null once the upload is over, and for who may not write.
    async fn target(&self, ctx: &Context<'_>) -> Result<Option<UploadTarget>> {
        if ctx.actor().require(Role::Editor).is_err() {
            return Ok(None);
        }
        Ok(uploads::part_target(ctx.app(), &self.intent, &self.part).await?.map(Into::into))
    }
}

/// What is going to be uploaded.
#[derive(InputObject)]
pub struct StartUploadInput {
    /// Stable reference the version belongs to, e.g. images/hero; missing folders are created at finish.
    path: String,
    /// Original filename, for URLs and downloads; defaults to the last segment of the path.
    filename: Option<String>,
    /// Media type. An image, audio or video type is enforced: other bytes are rejected.
    content_type: Option<String>,
    /// Count of bytes. Enforced: other bytes are rejected.
    size: Option<ByteCount>,
    /// SHA-256 in hex. Enforced: other bytes are rejected.
    sha256: Option<String>,
    /// What people call the version.
    label: Option<String>,
    /// False adds a draft.
    #[graphql(default = true)]
    publish: bool,
    /// Who may read the asset; left out, a new one is PUBLIC and another stays as it is.
    visibility: Option<Visibility>,
    /// Ask for an upload in parts of this size (at least 5 MiB); needs size. Files beyond 5 GiB come in parts anyway.
    part_size: Option<ByteCount>,
    /// Refuse unless this is the asset's revision when the upload finishes; 0 means that there must be none.
    if_revision: Option<i32>,
}

/// What starting an upload did.
#[derive(SimpleObject)]
pub struct StartUploadPayload {
    /// The permission, with the request to send.
    intent: UploadIntent,
}

/// The upload to finish.
#[derive(InputObject)]
pub struct FinishUploadInput {
    /// Which upload.
    intent_id: ID,
    /// Of an upload in parts: what each request was answered with; may be left out.
    parts: Option<Vec<FinishedPartInput>>,
}

/// A part that was sent.
#[derive(InputObject)]
pub struct FinishedPartInput {
    /// Its number.
    number: i32,
    /// The `ETag` header of the answer to its request.
    etag: String,
}

impl FinishUploadInput {
    /// What the domain takes.
    pub fn parse(self) -> Parsed<Finishing> {
        let part = |part: FinishedPartInput| (part.number, part.etag);
        let parts = self.parts.map(|parts| parts.into_iter().map(part).collect());
        Ok(Finishing { id: parse_id(&self.intent_id, "input.intentId")?, parts })
    }
}

/// What finishing an upload did.
#[derive(SimpleObject)]
pub struct FinishUploadPayload {
    /// The version it became.
    version: Version,
    /// Its asset.
    asset: Asset,
    /// The entries that it wrote; none when it was finished already.
    changes: List<Change>,
}

/// The upload to take back.
#[derive(InputObject)]
pub struct CancelUploadInput {
    /// Which upload.
    intent_id: ID,
}

/// What cancelling an upload did.
#[derive(SimpleObject)]
pub struct CancelUploadPayload {
    /// The upload as it stands now.
    intent: UploadIntent,
}

/// Queries about uploads.
#[derive(Default)]
pub struct UploadQuery;

#[Object]
impl UploadQuery {
    /// An upload by its id; null when there is none.
    async fn upload_intent(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Its id.")] id: ID,
    ) -> Result<Option<UploadIntent>> {
        let id = parse_id(&id, "id")?;
        Ok(uploads::by_id(ctx.app(), ctx.actor(), id).await?.map(UploadIntent::from))
    }
}

/// Mutations of uploads.
#[derive(Default)]
pub struct UploadMutation;

#[Object]
impl UploadMutation {
    /// Opens a permission to send bytes; answers with the exact request to send.
    async fn start_upload(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What is going to be sent.")] input: StartUploadInput,
    ) -> Result<StartUploadPayload> {
        let upload = uploads::NewUpload {
            path: TreePath::parse_named(&input.path, "input.path")?,
            filename: input.filename,
            content_type: input.content_type,
            size_bytes: input.size.map(|size| size.0),
            sha256: input.sha256,
            label: input.label,
            publish: input.publish,
            visibility: input.visibility.map(Into::into),
            if_revision: input.if_revision.map(i64::from),
            part_size_bytes: input.part_size.map(|size| size.0),
        };
        let intent = uploads::start(ctx.app(), ctx.actor(), upload).await?;
        Ok(StartUploadPayload { intent: intent.into() })
    }

    /// Makes a version of the bytes that were sent. Idempotent: finishing a finished intent answers with the
    /// same version.
    async fn finish_upload(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What to finish.")] input: FinishUploadInput,
    ) -> Result<FinishUploadPayload> {
        let done = uploads::finish(ctx.app(), ctx.actor(), input.parse()?).await?;
        let versions::Outcome { version, asset } = done.value;
        let changes = Change::list(done.changes);
        Ok(FinishUploadPayload { version: version.into(), asset: asset.into(), changes })
    }

    /// Takes an upload back; what was sent of it is removed.
    async fn cancel_upload(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What to take back.")] input: CancelUploadInput,
    ) -> Result<CancelUploadPayload> {
        let id: UploadIntentId = parse_id(&input.intent_id, "input.intentId")?;
        let intent = uploads::cancel(ctx.app(), ctx.actor(), id).await?;
        Ok(CancelUploadPayload { intent: intent.into() })
    }
}

/// Subscriptions to uploads.
#[derive(Default)]
pub struct UploadSubscription;

#[Subscription]
impl UploadSubscription {
    /// An upload's state now, and at each step until it is over; then the subscription completes.
    async fn upload_intent(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Its id.")] id: ID,
    ) -> Result<impl Stream<Item = Result<UploadIntent>>> {
        let id: UploadIntentId = parse_id(&id, "id")?;
        ctx.actor().require(Role::Viewer)?;
        let steps = uploads::Steps::new(ctx.app(), ctx.actor(), id);
        Ok(futures_util::stream::unfold((steps, ctx.progress()), |(mut steps, progress)| async {
            let step = steps.next().await.transpose()?;
            progress.begin_answer();
            Some((step.map(UploadIntent::from).map_err(Into::into), (steps, progress)))
        }))
    }
}
