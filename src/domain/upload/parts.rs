//! Uploads in parts: each is sent by itself, in any order, again if need be; finishing puts them together.

use bytes::Bytes;
use entity::upload_intent;
use entity::upload_intent::{RejectionCode, Status};
use entity::{UploadIntentId, upload_part};
use futures_util::Stream;
use sea_orm::sea_query::OnConflict;
use sea_orm::{
    ActiveValue::Set, ColumnTrait as _, EntityTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
};
use std::collections::HashMap;

use super::receive::{check_digest, compare, open, settle, stage};
use super::{Declared, Target, check_waits_for_bytes, discard_staged, lock};
use crate::app::App;
use crate::blob::StagingKey;
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
    /// The request that brings it; none once the upload is over.
    pub target: Option<Target>,
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
/// What the database says.
pub async fn parts(
    app: &App,
    intents: &[std::sync::Arc<upload_intent::Model>],
) -> Result<HashMap<UploadIntentId, Vec<Part>>> {
    let split = intents.iter().filter(|intent| intent.part_size_bytes.is_some());
    let ids: Vec<UploadIntentId> = split.map(|intent| intent.id).collect();
    let mut received: HashMap<UploadIntentId, Vec<i32>> = HashMap::new();
    if !ids.is_empty() {
        let wanted = upload_part::Column::IntentId.is_in(ids);
        for row in upload_part::Entity::find().filter(wanted).all(app.read()).await? {
            received.entry(row.intent_id).or_default().push(row.number);
        }
    }
    let none = Vec::new();
    let parts = intents.iter().map(|intent| {
        let received = received.get(&intent.id).unwrap_or(&none);
        (
            intent.id,
            plan(intent)
                .map(|(number, offset, size)| part(app, intent, number, offset, size, received))
                .collect(),
        )
    });
    Ok(parts.collect())
}

fn part(
    app: &App,
    intent: &upload_intent::Model,
    number: i32,
    offset: i64,
    size: i64,
    received: &[i32],
) -> Part {
    let over = !matches!(intent.status, Status::Created);
    let target = (intent.status == Status::Created).then(|| {
        let signature = app.signer().sign(SIGNATURE, &subject(intent.id, number));
        let url = format!("{}/uploads/{}/parts/{number}?signature={signature}", app.public_url(), intent.id);
        Target { method: "PUT", url, headers: Vec::new() }
    });
    let came =
        received.contains(&number) || (over && matches!(intent.status, Status::Received | Status::Finished));
    Part { number, offset, size, received: came, target }
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
pub async fn receive_part<E: std::fmt::Display>(
    app: &App,
    id: UploadIntentId,
    number: i32,
    signature: &str,
    declared: Declared,
    body: impl Stream<Item = std::result::Result<Bytes, E>> + Unpin,
) -> Result<String> {
    let intent = open(app, id, SIGNATURE, &subject(id, number), signature).await?;
    let planned = plan(&intent).find(|(planned, ..)| *planned == number);
    let (_, _, size) = planned.ok_or_else(|| Error::NotFound(format!("{id} has no part {number}")))?;
    let key = StagingKey { intent: id, attempt: app.clock().new_id() };
    let mismatch = |came: &str| {
        let message = format!("part {number} has {size} bytes, {came} came; send it again");
        Error::upload(UploadError::Rejected(RejectionCode::SizeMismatch), message)
    };
    let staged = stage(app, &intent, &key, body, size.unsigned_abs()).await?;
    let staged = staged.ok_or_else(|| mismatch("more"))?;
    if staged.size != size.unsigned_abs() {
        discard_staged(app, &key).await;
        return Err(mismatch(&staged.size.to_string()));
    }
    check_digest(app, &key, declared.sha256.as_deref(), &staged).await?;
    let row = upload_part::ActiveModel {
        intent_id: Set(id),
        number: Set(number),
        size_bytes: Set(size),
        sha256: Set(staged.sha256.clone()),
        staging_key: Set(key.to_string()),
    };
    match keep(app, &intent, row).await {
        Ok(Some(before)) => discard_staged(app, &before).await,
        Ok(None) => {}
        Err(error) => {
            discard_staged(app, &key).await;
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

/// Bytes that came of several uploads in parts.
///
/// # Errors
/// What the database says.
pub async fn received_bytes(app: &App, ids: &[UploadIntentId]) -> Result<HashMap<UploadIntentId, i64>> {
    let rows: Vec<(UploadIntentId, i64)> = upload_part::Entity::find()
        .select_only()
        .column(upload_part::Column::IntentId)
        .column(upload_part::Column::SizeBytes)
        .filter(upload_part::Column::IntentId.is_in(ids.iter().copied()))
        .into_tuple()
        .all(app.read())
        .await?;
    let mut sums = HashMap::new();
    for (id, size) in rows {
        *sums.entry(id).or_insert(0) += size;
    }
    Ok(sums)
}

/// Puts the parts of an upload together, and compares the whole with what was declared. That may take longer than
/// the caller waits: it goes on without it, and whoever finishes meanwhile waits for the same.
pub(super) async fn assemble(
    app: &App,
    intent: upload_intent::Model,
    tags: Option<&[(i32, String)]>,
) -> Result<upload_intent::Model> {
    super::check_not_over(&intent)?;
    let rows = upload_part::Entity::find()
        .filter(upload_part::Column::IntentId.eq(intent.id))
        .order_by_asc(upload_part::Column::Number)
        .all(app.read())
        .await?;
    check_complete(&intent, &rows, tags)?;
    let (id, library) = (intent.id, app.clone());
    let work = async move {
        let joined = join(&library, intent, rows).await;
        joined.map_err(|error| {
            error.cause().map_or_else(|| error.to_string(), |cause| format!("{cause:?}")).into()
        })
    };
    let outcome = app.joins().run(id, work).await;
    // The row tells what came of it, whoever did it.
    let now = super::as_of_now(super::load(app.read(), id).await?, app.clock().now());
    super::check_not_over(&now)?;
    match (now.status, outcome) {
        (Status::Created, Err(problem)) => Err(Error::storage(problem)),
        _ => Ok(now),
    }
}

async fn join(app: &App, intent: upload_intent::Model, rows: Vec<upload_part::Model>) -> Result<()> {
    let keys = rows.iter().map(|row| row.staging_key.parse::<StagingKey>());
    let keys: Vec<StagingKey> = keys.collect::<std::result::Result<_, _>>().map_err(Error::internal)?;
    let whole = StagingKey { intent: intent.id, attempt: app.clock().new_id() };
    let permit = app.uploads().acquire().await.map_err(Error::internal)?;
    let staged = app.store().join(&keys, &whole).await.map_err(Error::storage)?;
    drop(permit);
    let outcome = settle(app, &intent, whole, compare(&intent, staged)).await;
    if !matches!(&outcome, Ok(intent) if intent.status == Status::Received) {
        discard_staged(app, &whole).await;
    }
    match outcome {
        // Another server may have put them together just now.
        Ok(_) | Err(Error::Upload { reason: UploadError::AlreadyReceived, .. }) => {}
        Err(error) => return Err(error),
    }
    for key in &keys {
        discard_staged(app, key).await;
    }
    app.announce(intent.id);
    Ok(())
}

fn check_complete(
    intent: &upload_intent::Model,
    rows: &[upload_part::Model],
    tags: Option<&[(i32, String)]>,
) -> Result<()> {
    let missing: Vec<String> = plan(intent)
        .filter(|(number, ..)| !rows.iter().any(|row| row.number == *number))
        .map(|(number, ..)| number.to_string())
        .take(10)
        .collect();
    if !missing.is_empty() {
        let message = format!("parts did not come yet: {}; send each to its target", missing.join(", "));
        return Err(Error::upload(UploadError::Incomplete, message));
    }
    for (number, tag) in tags.unwrap_or_default() {
        let row = rows.iter().find(|row| row.number == *number);
        if row.is_none_or(|row| row.sha256 != tag.trim_matches('"')) {
            let message = format!(
                "has another part {number} than came: its etag is the one that its request was answered with"
            );
            return Err(Error::bad_input("input.parts", message));
        }
    }
    Ok(())
}
