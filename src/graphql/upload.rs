//! Uploads: object, inputs, query, mutations, subscription.

use std::sync::Arc;

use async_graphql::{Context, Enum, ID, InputObject, Object, SimpleObject, Subscription};
use entity::{UploadIntentId, upload_intent};
use futures_util::Stream;

use super::asset::{Asset, Visibility};
use super::change::Change;
use super::context::{ContextExt as _, Result};
use super::list::List;
use super::node::parse_id;
use super::scalar::{ByteCount, DateTime, Url};
use super::version::Version;
use super::viewer::Actor;
use crate::domain::path::TreePath;
use crate::domain::upload as uploads;
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
        &self.0.path
    }

    /// Where it stands.
    async fn status(&self) -> UploadStatus {
        self.0.status.into()
    }

    /// Where to send the whole file; null once the bytes came or the intent is over.
    async fn target(&self, ctx: &Context<'_>) -> Option<UploadTarget> {
        uploads::target(ctx.app(), &self.0).map(Into::into)
    }

    /// How many bytes arrived; 0 until all did.
    async fn received_bytes(&self) -> ByteCount {
        ByteCount(self.0.received_bytes)
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
        let header = |(name, value): (&str, String)| HttpHeader { name: name.to_owned(), value };
        Self {
            method: target.method.to_owned(),
            url: Url(target.url),
            headers: target.headers.into_iter().map(header).collect(),
        }
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
        let id: UploadIntentId = parse_id(&input.intent_id, "input.intentId")?;
        let done = uploads::finish(ctx.app(), ctx.actor(), id).await?;
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
        ctx.actor().require(crate::domain::actor::Role::Viewer)?;
        let steps = uploads::Steps::new(ctx.app(), ctx.actor(), id);
        Ok(futures_util::stream::unfold(steps, |mut steps| async {
            let step = steps.next().await.transpose()?;
            Some((step.map(UploadIntent::from).map_err(Into::into), steps))
        }))
    }
}
