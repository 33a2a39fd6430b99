//! Taking the bytes of an upload, and comparing them with what was declared.

use std::time::Duration;

use bytes::Bytes;
use entity::UploadIntentId;
use entity::stored_file as file_row;
use entity::upload_intent::{self, RejectionCode, Status};
use futures_util::Stream;
use sea_orm::{ActiveModelTrait as _, ActiveValue::Set, EntityTrait as _, IntoActiveModel as _};
use std::pin::pin;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::timeout;

use super::{SIGNATURE, as_of_now, check_waits_for_bytes, discard_staged, load, lock, rejection};
use crate::app::App;
use crate::blob::{Incoming, MediaType, StageError, Staged, StagingKey};
use crate::domain::actor::Actor;
use crate::domain::commit;
use crate::domain::content_type::{self, Verdict};
use crate::domain::error::{Error, Result, UploadError};
use crate::domain::stored_file;

/// How often it is looked whether an upload whose bytes come in still waits for them: another server may have ended it.
const LOOK: Duration = Duration::from_secs(10);

/// What a body is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// All bytes of an upload.
    Whole,
    /// The part with this number.
    Part(i32),
    /// The bytes of a file once more: its upload has ended.
    Again,
}

/// What the sender says of the bytes along with them.
#[derive(Debug, Clone, Default)]
pub struct Declared {
    /// Media type; counts for files without an asset, since an intent has its own.
    pub content_type: Option<String>,
    /// SHA-256 in lower-case hex.
    pub sha256: Option<String>,
}

/// What a request says that its bytes are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// An upload, which is finished by itself.
    Upload,
    /// A file without an asset.
    File,
}

/// What bytes became that were received.
#[derive(Debug, Clone)]
pub enum Received {
    /// An upload that can be finished.
    Upload(Box<upload_intent::Model>),
    /// A stored file.
    File(Box<file_row::Model>),
}

/// Takes the bytes of an intent. Whoever holds the signed URL may send them, for whoever started the upload.
///
/// # Errors
/// `FORBIDDEN` for a wrong signature; `SIZE_MISMATCH`, `CHECKSUM_MISMATCH` or `CONTENT_TYPE_MISMATCH` when
/// they are not what was declared, and the intent is rejected; `UPLOAD_INCOMPLETE` when the body breaks off,
/// and the intent waits on; `UPLOAD_ALREADY_RECEIVED`, `UPLOAD_CANCELLED`, `UPLOAD_EXPIRED`.
pub async fn receive(
    app: &App,
    id: UploadIntentId,
    way: Way,
    signature: &str,
    declared: Declared,
    body: impl Stream<Item = std::result::Result<Bytes, String>> + Send + Unpin,
) -> Result<Received> {
    let mut intent = match open(app, id, SIGNATURE, &id.to_string(), signature).await {
        Err(error @ Error::Upload { reason: UploadError::AlreadyReceived, .. }) if way == Way::File => {
            let again = sent_again(app, id, declared, body).await?;
            return again.map(|file| Received::File(Box::new(file))).ok_or(error);
        }
        opened => opened?,
    };
    if (way == Way::File) != intent.path.is_none() {
        let message = "this URL takes another method: send exactly the request that was given";
        return Err(Error::Forbidden(message.to_owned()));
    }
    if intent.path.is_none() {
        let declared = declared.content_type.as_deref().and_then(MediaType::parse);
        intent.declared_content_type = declared.map(|media_type| media_type.to_string());
    }
    if intent.part_size_bytes.is_some() {
        return Err(Error::bad_input("body", "comes in parts: send each to its own URL"));
    }
    let limit = intent.declared_size_bytes.unwrap_or(max_single(app)).unsigned_abs();
    let key = StagingKey { intent: id, attempt: app.clock().new_id() };
    let verdict = match stage(app, &intent, &key, Place::Whole, body, limit).await? {
        Some(staged) => {
            check_digest(app, &intent, &key, declared.sha256.as_deref(), &staged).await?;
            compare(&intent, staged)
        }
        None => Err(Rejection {
            code: RejectionCode::SizeMismatch,
            message: format!("more than {limit} bytes came"),
        }),
    };
    let outcome = settle(app, &intent, key, verdict).await;
    if !matches!(&outcome, Ok(intent) if intent.status == Status::Received) {
        discard_staged(app, &intent, &key).await;
    }
    let intent = outcome?;
    app.announce(intent.id);
    match rejection(&intent) {
        Some(error) => Err(error),
        None if intent.path.is_none() => {
            Ok(Received::File(Box::new(stored_file::finish(app, &intent).await?)))
        }
        None => Ok(Received::Upload(Box::new(intent))),
    }
}

/// The file that the same bytes became when they were sent before, while the URL is good: whoever lost the answer may
/// ask again.
async fn sent_again(
    app: &App,
    id: UploadIntentId,
    declared: Declared,
    body: impl Stream<Item = std::result::Result<Bytes, String>> + Send + Unpin,
) -> Result<Option<file_row::Model>> {
    let intent = load(app.read(), id).await?;
    if intent.path.is_some() || app.clock().now() >= intent.expires_at {
        return Ok(None);
    }
    let key = StagingKey { intent: id, attempt: app.clock().new_id() };
    let Some(staged) =
        stage(app, &intent, &key, Place::Again, body, intent.received_bytes.unsigned_abs()).await?
    else {
        return Ok(None);
    };
    check_digest(app, &intent, &key, declared.sha256.as_deref(), &staged).await?;
    discard_staged(app, &intent, &key).await;
    if intent.sha256 != Some(staged.sha256) {
        return Ok(None);
    }
    if intent.status == Status::Received {
        // The first request got no further, or is about to.
        return stored_file::finish(app, &intent).await.map(Some);
    }
    let file = file_row::Entity::find_by_id(intent.stored_file_id).one(app.read()).await?;
    Ok(file.filter(|file| file.blob_id.is_some()))
}

/// Longest body of a single request, in bytes.
const MAX_SINGLE: i64 = 5 * 1024 * 1024 * 1024;

pub(super) fn max_single(app: &App) -> i64 {
    app.config().max_upload_bytes.min(MAX_SINGLE)
}

/// The intent that a signed URL is for, if it waits for bytes.
pub(super) async fn open(
    app: &App,
    id: UploadIntentId,
    purpose: &str,
    subject: &str,
    signature: &str,
) -> Result<upload_intent::Model> {
    if !app.signer().verify(purpose, subject, signature) {
        return Err(Error::Forbidden(
            "the signature does not fit: send exactly the URL that was given".to_owned(),
        ));
    }
    let intent = as_of_now(load(app.read(), id).await?, app.clock().now());
    check_waits_for_bytes(&intent)?;
    Ok(intent)
}

/// Writes a body to the staging area; none when it is longer than `limit`. It ends when the upload does, and when the same is
/// sent again.
pub(super) async fn stage(
    app: &App,
    intent: &upload_intent::Model,
    key: &StagingKey,
    place: Place,
    body: impl Stream<Item = std::result::Result<Bytes, String>> + Send + Unpin,
    limit: u64,
) -> Result<Option<Staged>> {
    app.reserve().release();
    if app.reserve().is_released() && super::store(app, intent)?.direct().is_none() {
        let message = "the disk of the server is full: delete and purge what is not needed, or ask an administrator for room";
        return Err(Error::unavailable(message, "the disk is full"));
    }
    let part = if let Place::Part(number) = place { Some(number) } else { None };
    let incoming = app.bodies().begin((intent.id, part));
    let body: Incoming<'_> = pin!(body);
    let staging = super::store(app, intent)?.stage(key, body, limit);
    let staged = tokio::select! {
        staged = staging => staged,
        () = incoming.replaced() => {
            let message = "another request began to send the same bytes: they are taken from that one";
            return Err(Error::upload(UploadError::Incomplete, message));
        }
        error = over(app, intent), if place != Place::Again => return Err(error),
    };
    match staged {
        Ok(staged) => Ok(Some(staged)),
        Err(StageError::TooLong) => Ok(None),
        Err(StageError::Body(error)) => {
            let message = format!("the body broke off ({error}); send it again");
            Err(Error::upload(UploadError::Incomplete, message))
        }
        Err(StageError::Store(error)) => Err(Error::storage(error)),
    }
}

/// Returns why an upload takes no bytes any more, once that is so.
async fn over(app: &App, intent: &upload_intent::Model) -> Error {
    let mut news = app.announcements();
    loop {
        let told = async {
            loop {
                match news.recv().await {
                    Ok(id) if id != intent.id => {}
                    Ok(_) | Err(RecvError::Lagged(_)) => return,
                    Err(RecvError::Closed) => std::future::pending().await,
                }
            }
        };
        // While the database is away, the bytes may come all the same.
        let _ = timeout(LOOK, told).await;
        if let Ok(row) = load(app.read(), intent.id).await
            && let Err(error) = check_waits_for_bytes(&as_of_now(row, app.clock().now()))
        {
            return error;
        }
    }
}

/// Compares bytes with the digest that came along. One that differs tells of a broken transfer: nothing is kept
/// of it, and the upload waits on.
pub(super) async fn check_digest(
    app: &App,
    intent: &upload_intent::Model,
    key: &StagingKey,
    declared: Option<&str>,
    staged: &Staged,
) -> Result<()> {
    let Some(declared) = declared.filter(|declared| *declared != staged.sha256) else {
        return Ok(());
    };
    discard_staged(app, intent, key).await;
    let message =
        format!("the digest sent along is {declared}, the bytes have {}; send them again", staged.sha256);
    Err(Error::upload(UploadError::Rejected(RejectionCode::ChecksumMismatch), message))
}

/// Bytes that are not what was declared.
pub(super) struct Rejection {
    code: RejectionCode,
    message: String,
}

impl Rejection {
    pub fn too_long(limit: u64, size: u64) -> Self {
        let message = format!("at most {limit} bytes were declared or are taken, {size} came");
        Self { code: RejectionCode::SizeMismatch, message }
    }
}

/// What was found of bytes that fit.
pub(super) struct Accepted {
    staged: Staged,
    content_type: String,
}

pub(super) fn compare(
    intent: &upload_intent::Model,
    staged: Staged,
) -> std::result::Result<Accepted, Rejection> {
    let refuse = |code, message| Err(Rejection { code, message });
    if let Some(declared) = intent.declared_size_bytes
        && declared.unsigned_abs() != staged.size
    {
        let message = format!("{declared} bytes were declared, {} came", staged.size);
        return refuse(RejectionCode::SizeMismatch, message);
    }
    if let Some(declared) = &intent.declared_sha256
        && *declared != staged.sha256
    {
        let message = format!("the SHA-256 {declared} was declared, the bytes have {}", staged.sha256);
        return refuse(RejectionCode::ChecksumMismatch, message);
    }
    let declared = intent.declared_content_type.as_deref();
    match content_type::judge(&staged.head, declared, &intent.filename) {
        Verdict::Is(content_type) => Ok(Accepted { staged, content_type }),
        Verdict::Contradicts(found) => {
            let found = found.map_or_else(|| "no such format".to_owned(), ToOwned::to_owned);
            let message =
                format!("{} was declared, the bytes look like {found}", declared.unwrap_or_default());
            refuse(RejectionCode::ContentTypeMismatch, message)
        }
    }
}

/// Lets the intent know what came, unless it is over or has other bytes meanwhile.
pub(super) async fn settle(
    app: &App,
    intent: &upload_intent::Model,
    key: StagingKey,
    verdict: std::result::Result<Accepted, Rejection>,
) -> Result<upload_intent::Model> {
    let (id, sender) = (intent.id, Actor::on_behalf_of(intent.created_by.clone()));
    let committed = commit(app, &sender, move |edit| {
        Box::pin(async move {
            let intent = as_of_now(lock(edit.conn(), id).await?, edit.now());
            check_waits_for_bytes(&intent)?;
            let mut row = intent.into_active_model();
            match verdict {
                Ok(Accepted { staged, content_type }) => {
                    row.status = Set(Status::Received);
                    row.staging_key = Set(Some(key.to_string()));
                    row.content_type = Set(Some(content_type));
                    row.received_bytes = Set(i64::try_from(staged.size).map_err(Error::internal)?);
                    row.sha256 = Set(Some(staged.sha256));
                }
                Err(Rejection { code, message }) => {
                    row.status = Set(Status::Rejected);
                    row.rejection_code = Set(Some(code));
                    row.rejection = Set(Some(message));
                }
            }
            Ok(row.update(edit.conn()).await?)
        })
    })
    .await?;
    if committed.value.status == Status::Rejected {
        app.metrics().uploads("rejected", 1);
    }
    Ok(committed.value)
}
