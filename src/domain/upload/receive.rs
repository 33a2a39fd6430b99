//! Taking the bytes of an upload, and comparing them with what was declared.

use std::time::Duration;

use bytes::Bytes;
use entity::UploadIntentId;
use entity::upload_intent::{self, RejectionCode, Status};
use futures_util::Stream;
use sea_orm::{ActiveModelTrait as _, ActiveValue::Set, IntoActiveModel as _};

use super::{SIGNATURE, as_of_now, check_waits_for_bytes, discard_staged, load, lock, rejection};
use crate::app::App;
use crate::blob::{StageError, Staged, StagingKey};
use crate::domain::actor::Actor;
use crate::domain::commit;
use crate::domain::content_type::{self, Verdict};
use crate::domain::error::{Error, Result, UploadError};

/// Longest wait for a place among those that are received.
const PERMIT_WAIT: Duration = Duration::from_secs(30);

/// Takes the bytes of an intent. Whoever holds the signed URL may send them, for whoever started the upload.
///
/// # Errors
/// `FORBIDDEN` for a wrong signature; `SIZE_MISMATCH`, `CHECKSUM_MISMATCH` or `CONTENT_TYPE_MISMATCH` when
/// they are not what was declared, and the intent is rejected; `UPLOAD_INCOMPLETE` when the body breaks off,
/// and the intent waits on; `UPLOAD_ALREADY_RECEIVED`, `UPLOAD_CANCELLED`, `UPLOAD_EXPIRED`.
pub async fn receive<E: std::fmt::Display>(
    app: &App,
    id: UploadIntentId,
    signature: &str,
    body: impl Stream<Item = std::result::Result<Bytes, E>> + Unpin,
) -> Result<upload_intent::Model> {
    if !app.signer().verify(SIGNATURE, &id.to_string(), signature) {
        return Err(Error::Forbidden(
            "the signature does not fit: send exactly the URL that was given".to_owned(),
        ));
    }
    let intent = load(app.read(), id).await?;
    let intent = as_of_now(intent, app.clock().now());
    check_waits_for_bytes(&intent)?;
    let permit = tokio::time::timeout(PERMIT_WAIT, app.uploads().acquire()).await;
    let busy = |_| Error::RateLimited("too many uploads at the same time; try again".to_owned());
    let permit = permit.map_err(busy)?.map_err(Error::internal)?;
    let key = StagingKey { intent: id, attempt: app.clock().new_id() };
    let limit = intent.declared_size_bytes.unwrap_or(app.config().max_upload_bytes).unsigned_abs();
    let left = intent.expires_at.0 - app.clock().now().0;
    let staging = app.store().stage(&key, body, limit);
    // A sender that takes longer than the intent lives keeps a place that others need.
    let staged = tokio::time::timeout(Duration::from_millis(left.unsigned_abs()), staging).await;
    let Ok(staged) = staged else {
        return Err(Error::upload(UploadError::Expired, "the upload expired before all bytes came"));
    };
    let verdict = match staged {
        Ok(staged) => compare(&intent, staged),
        Err(StageError::TooLong) => Err(Rejection {
            code: RejectionCode::SizeMismatch,
            message: format!("more than {limit} bytes came"),
        }),
        Err(StageError::Body(error)) => {
            let message = format!("the body broke off ({error}); send it again");
            return Err(Error::upload(UploadError::Incomplete, message));
        }
        Err(StageError::Store(error)) => return Err(Error::storage(error)),
    };
    drop(permit);
    let outcome = settle(app, &intent, key, verdict).await;
    if !matches!(&outcome, Ok(intent) if intent.status == Status::Received) {
        discard_staged(app, &key).await;
    }
    let intent = outcome?;
    app.announce(intent.id);
    match rejection(&intent) {
        Some(error) => Err(error),
        None => Ok(intent),
    }
}

/// Bytes that are not what was declared.
struct Rejection {
    code: RejectionCode,
    message: String,
}

/// What was found of bytes that fit.
struct Accepted {
    staged: Staged,
    content_type: String,
}

fn compare(intent: &upload_intent::Model, staged: Staged) -> std::result::Result<Accepted, Rejection> {
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
async fn settle(
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
    Ok(committed.value)
}
