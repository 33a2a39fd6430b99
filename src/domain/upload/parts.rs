//! Uploads in parts: each is sent by itself, in any order, again if need be; finishing puts them together.

use bytes::Bytes;
use entity::upload_intent;
use entity::upload_intent::{RejectionCode, Status};
use entity::{UploadIntentId, upload_part};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, Stream, StreamExt as _, TryStreamExt as _, stream};
use sea_orm::sea_query::OnConflict;
use sea_orm::{ActiveValue::Set, ColumnTrait as _, EntityTrait as _, QueryFilter as _, QueryOrder as _};
use std::collections::HashMap;
use std::sync::Arc;

use super::receive::{Place, check_digest, compare, open, stage};
use super::{Declared, Target, check_waits_for_bytes, discard_staged, lock, parts_key};
use crate::app::App;
use crate::blob::{Direct, SentPart, StagingKey};
use crate::domain::actor::Actor;
use crate::domain::error::{Error, Result, UploadError};
use crate::domain::{Edit, commit};

/// What signatures of the URLs of parts are for.
const SIGNATURE: &str = "part";
/// Smallest part but the last, in bytes.
const MIN_PART: i64 = 5 * 1024 * 1024;
/// Longest part, in bytes; also the longest file that one request brings.
const MAX_PART: i64 = 5 * 1024 * 1024 * 1024;
/// Most parts of an upload.
const MAX_PARTS: i64 = 10_000;

/// Uploads whose parts are listed at the same time.
const LISTINGS: usize = 8;

/// A part of an upload.
#[derive(Debug, Clone)]
pub struct Part {
    /// 1, 2, 3 …
    pub number: i32,
    /// Where it begins in the file.
    pub offset: i64,
    /// How many bytes it has.
    pub size: i64,
    /// Whether it came.
    pub received: bool,
}

/// The size of the parts of an upload; none when one request brings all of it.
pub(super) fn size(size: Option<i64>, part: Option<i64>) -> Result<Option<i64>> {
    let field = "input.partSize";
    let Some(size) = size.filter(|size| *size > 0) else {
        return match part {
            Some(_) => Err(Error::bad_input(field, "needs size, greater than 0")),
            None => Ok(None),
        };
    };
    let part = match part {
        Some(part) => part,
        None if size > MAX_PART => (size / MAX_PARTS + 1).max(64 * 1024 * 1024),
        None => return Ok(None),
    };
    if !(MIN_PART..=MAX_PART).contains(&part) {
        return Err(Error::bad_input(field, format!("must be {MIN_PART} to {MAX_PART}, not {part}")));
    }
    if parts_in(size, part) > MAX_PARTS {
        return Err(Error::bad_input(field, format!("would make more than {MAX_PARTS} parts")));
    }
    Ok(Some(part))
}

/// The parts of several uploads, in order; of those that come in one request there are none.
///
/// # Errors
/// What the database or the store says.
pub async fn parts(
    app: &App,
    intents: &[Arc<upload_intent::Model>],
) -> Result<HashMap<UploadIntentId, Vec<Part>>> {
    let split: Vec<&upload_intent::Model> =
        intents.iter().map(AsRef::as_ref).filter(|intent| intent.part_size_bytes.is_some()).collect();
    let arrived = arrived(app, &split).await?;
    let none = Vec::new();
    let parts = intents.iter().map(|intent| {
        let arrived = arrived.get(&intent.id).unwrap_or(&none);
        let all_came = matches!(intent.status, Status::Received | Status::Finished);
        let parts = plan(intent).map(|(number, offset, size)| {
            let came = arrived.iter().any(|part| part.number == number && part.size == size.unsigned_abs());
            Part { number, offset, size, received: all_came || came }
        });
        (intent.id, parts.collect())
    });
    Ok(parts.collect())
}

/// The parts that came of each upload in parts, in order.
async fn arrived(
    app: &App,
    intents: &[&upload_intent::Model],
) -> Result<HashMap<UploadIntentId, Vec<SentPart>>> {
    let mut arrived: HashMap<UploadIntentId, Vec<SentPart>> = HashMap::new();
    let here = intents.iter().filter(|intent| intent.upload_ref.is_none());
    let here: Vec<UploadIntentId> = here.map(|intent| intent.id).collect();
    if !here.is_empty() {
        let wanted = upload_part::Column::IntentId.is_in(here);
        let rows = upload_part::Entity::find().filter(wanted).order_by_asc(upload_part::Column::Number);
        for row in rows.all(app.read()).await? {
            let part = SentPart { number: row.number, size: row.size_bytes.unsigned_abs(), etag: row.sha256 };
            arrived.entry(row.intent_id).or_default().push(part);
        }
    }
    let mut listings = Vec::new();
    for intent in intents {
        if intent.upload_ref.is_some() && intent.status == Status::Created {
            listings.push(listing(app, intent));
        }
    }
    let mut listed = stream::iter(listings).buffer_unordered(LISTINGS);
    while let Some((id, parts)) = listed.try_next().await? {
        arrived.insert(id, parts);
    }
    Ok(arrived)
}

fn listing<'a>(
    app: &'a App,
    intent: &'a upload_intent::Model,
) -> BoxFuture<'a, Result<(UploadIntentId, Vec<SentPart>)>> {
    async move { Ok((intent.id, sent(app, intent).await?.unwrap_or_default())) }.boxed()
}

/// The parts that a client sent straight to a bucket; none when the bucket knows of no such upload any more.
async fn sent(app: &App, intent: &upload_intent::Model) -> Result<Option<Vec<SentPart>>> {
    let (direct, upload) = direct(app, intent)?;
    match direct.parts(&parts_key(app, intent.id), upload).await {
        Ok(parts) => Ok(Some(parts)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::storage(error)),
    }
}

/// The bucket that takes the parts of an upload, and what it knows the upload by.
fn direct<'a>(app: &'a App, intent: &'a upload_intent::Model) -> Result<(&'a dyn Direct, &'a str)> {
    let direct = super::store(app, intent)?.direct();
    let both = direct.zip(intent.upload_ref.as_deref());
    both.ok_or_else(|| Error::storage(format!("{} is no bucket any more", intent.backend)))
}

/// The request that brings a part; none once the upload has all its bytes, or is over.
///
/// # Errors
/// `STORAGE_UNAVAILABLE` when the backend cannot sign one.
pub async fn part_target(app: &App, intent: &upload_intent::Model, part: &Part) -> Result<Option<Target>> {
    if intent.status != Status::Created {
        return Ok(None);
    }
    let number = part.number;
    if intent.upload_ref.is_some() {
        let (direct, upload) = direct(app, intent)?;
        let (key, size) = (parts_key(app, intent.id), part.size.unsigned_abs());
        let target = direct.part_target(&key, upload, number, size, super::life(app, intent)).await;
        return target.map(Some).map_err(Error::storage);
    }
    let signature = app.signer().sign(SIGNATURE, &subject(intent.id, number));
    let url = format!("{}/uploads/{}/parts/{number}?signature={signature}", app.public_url(), intent.id);
    Ok(Some(Target { method: "PUT", url, headers: Vec::new() }))
}

/// Number, offset and size of each part.
fn plan(intent: &upload_intent::Model) -> impl Iterator<Item = (i32, i64, i64)> + use<> {
    let size = intent.declared_size_bytes.unwrap_or(0);
    let part = intent.part_size_bytes.unwrap_or(i64::MAX);
    let count = if intent.part_size_bytes.is_some() { parts_in(size, part) } else { 0 };
    (0..count).map(move |index| {
        let offset = index * part;
        (i32::try_from(index + 1).unwrap_or(i32::MAX), offset, part.min(size - offset))
    })
}

fn parts_in(size: i64, part: i64) -> i64 {
    size / part + i64::from(size % part != 0)
}

fn subject(id: UploadIntentId, number: i32) -> String {
    format!("{id}/{number}")
}

/// Takes the bytes of one part; what came for it before is replaced. Answers with its SHA-256.
///
/// # Errors
/// `FORBIDDEN` for a wrong signature; `SIZE_MISMATCH` or `CHECKSUM_MISMATCH`, and the part can be sent again;
/// `UPLOAD_INCOMPLETE` when the body breaks off; `UPLOAD_ALREADY_RECEIVED`, `UPLOAD_CANCELLED`, `UPLOAD_EXPIRED`.
pub async fn receive_part(
    app: &App,
    id: UploadIntentId,
    number: i32,
    signature: &str,
    declared: Declared,
    body: impl Stream<Item = std::result::Result<Bytes, String>> + Send + Unpin,
) -> Result<String> {
    let intent = open(app, id, SIGNATURE, &subject(id, number), signature).await?;
    let planned = plan(&intent).find(|(planned, ..)| *planned == number);
    let (_, _, size) = planned.ok_or_else(|| Error::NotFound(format!("{id} has no part {number}")))?;
    let key = StagingKey { intent: id, attempt: app.clock().new_id() };
    let mismatch = |came: &str| {
        let message = format!("part {number} has {size} bytes, {came} came; send it again");
        Error::upload(UploadError::Rejected(RejectionCode::SizeMismatch), message)
    };
    let staged = stage(app, &intent, &key, Place::Part(number), body, size.unsigned_abs()).await?;
    let staged = staged.ok_or_else(|| mismatch("more"))?;
    if staged.size != size.unsigned_abs() {
        discard_staged(app, &intent, &key).await;
        return Err(mismatch(&staged.size.to_string()));
    }
    check_digest(app, &intent, &key, declared.sha256.as_deref(), &staged).await?;
    let row = upload_part::ActiveModel {
        intent_id: Set(id),
        number: Set(number),
        size_bytes: Set(size),
        sha256: Set(staged.sha256.clone()),
        staging_key: Set(key.to_string()),
    };
    match keep(app, &intent, row).await {
        Ok(Some(before)) => discard_staged(app, &intent, &before).await,
        Ok(None) => {}
        Err(error) => {
            discard_staged(app, &intent, &key).await;
            return Err(error);
        }
    }
    Ok(staged.sha256)
}

/// Lets the upload know of a part; answers with what came for it before.
async fn keep(
    app: &App,
    intent: &upload_intent::Model,
    row: upload_part::ActiveModel,
) -> Result<Option<StagingKey>> {
    let (id, sender) = (intent.id, Actor::on_behalf_of(intent.created_by.clone()));
    let committed = commit(app, &sender, move |edit| {
        Box::pin(async move {
            let conn = edit.conn();
            let intent = super::as_of_now(lock(conn, id).await?, edit.now());
            check_waits_for_bytes(&intent)?;
            let number = *row.number.as_ref();
            let before = upload_part::Entity::find_by_id((id, number)).one(conn).await?;
            let again = OnConflict::columns([upload_part::Column::IntentId, upload_part::Column::Number])
                .update_columns([
                    upload_part::Column::SizeBytes,
                    upload_part::Column::Sha256,
                    upload_part::Column::StagingKey,
                ])
                .to_owned();
            upload_part::Entity::insert(row).on_conflict(again).exec_without_returning(conn).await?;
            Ok(before.and_then(|before| before.staging_key.parse().ok()))
        })
    })
    .await?;
    Ok(committed.value)
}

/// Forgets the parts of uploads that are over.
pub(super) async fn forget(edit: Edit<'_>, ids: Vec<UploadIntentId>) -> Result<()> {
    upload_part::Entity::delete_many()
        .filter(upload_part::Column::IntentId.is_in(ids))
        .exec(edit.conn())
        .await?;
    Ok(())
}

/// Puts the parts of an upload together, and compares the whole with what was declared. That may take longer than
/// the caller waits: it goes on without it, and whoever finishes meanwhile waits for the same.
pub(super) async fn assemble(
    app: &App,
    intent: upload_intent::Model,
    tags: Option<&[(i32, String)]>,
) -> Result<upload_intent::Model> {
    super::check_not_over(&intent)?;
    let came = if intent.upload_ref.is_some() {
        sent(app, &intent).await?
    } else {
        Some(arrived(app, &[&intent]).await?.remove(&intent.id).unwrap_or_default())
    };
    // Without a listing the bucket has put them together already.
    if let Some(came) = &came {
        check_complete(&intent, came, tags)?;
    }
    let library = app.clone();
    super::collect::once(app, intent.id, async move { join(&library, intent, came).await }).await
}

async fn join(app: &App, intent: upload_intent::Model, came: Option<Vec<SentPart>>) -> Result<()> {
    let permit = app.stores().verifying(&intent.backend).await.map_err(Error::storage)?;
    let (whole, staged, parts) = if intent.upload_ref.is_some() {
        let (direct, upload) = direct(app, &intent)?;
        let key = parts_key(app, intent.id);
        let staged = match came {
            Some(came) => direct.complete(&key, upload, &came).await.map(Some),
            None => direct.whole(&key, intent.declared_size_bytes.unwrap_or(0).unsigned_abs()).await,
        };
        // Without parts and a whole there is nothing to finish, and the intent stays as it is.
        let Some(staged) = staged.map_err(Error::storage)? else { return Ok(()) };
        (key, staged, Vec::new())
    } else {
        let parts = staged_parts(app, &intent).await?;
        let whole = StagingKey { intent: intent.id, attempt: app.clock().new_id() };
        (whole, super::store(app, &intent)?.join(&parts, &whole).await.map_err(Error::storage)?, parts)
    };
    drop(permit);
    super::collect::conclude(app, &intent, whole, compare(&intent, staged)).await?;
    for key in &parts {
        discard_staged(app, &intent, key).await;
    }
    Ok(())
}

/// Where the parts of an upload are staged, in order.
async fn staged_parts(app: &App, intent: &upload_intent::Model) -> Result<Vec<StagingKey>> {
    let rows = upload_part::Entity::find()
        .filter(upload_part::Column::IntentId.eq(intent.id))
        .order_by_asc(upload_part::Column::Number)
        .all(app.read())
        .await?;
    let keys = rows.iter().map(|row| row.staging_key.parse::<StagingKey>());
    keys.collect::<std::result::Result<_, _>>().map_err(Error::internal)
}

fn check_complete(
    intent: &upload_intent::Model,
    came: &[SentPart],
    tags: Option<&[(i32, String)]>,
) -> Result<()> {
    let missing: Vec<String> = plan(intent)
        .filter(|(number, _, size)| {
            !came.iter().any(|part| part.number == *number && part.size == size.unsigned_abs())
        })
        .map(|(number, ..)| number.to_string())
        .take(10)
        .collect();
    if !missing.is_empty() {
        let message = format!("parts did not come yet: {}; send each to its target", missing.join(", "));
        return Err(Error::upload(UploadError::Incomplete, message));
    }
    for (number, tag) in tags.unwrap_or_default() {
        let part = came.iter().find(|part| part.number == *number);
        let fits = |part: &SentPart| part.etag.trim_matches('"') == tag.trim_matches('"');
        if !part.is_some_and(fits) {
            let message = format!(
                "has another part {number} than came: its etag is the one that its request was answered with"
            );
            return Err(Error::bad_input("input.parts", message));
        }
    }
    Ok(())
}
